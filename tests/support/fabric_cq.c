/* tests/support/fabric_cq.c: see fabric.h.  Completion queues and their channels. */
#include "support/fabric_own.h"

#include <errno.h>
#include <string.h>

/* ---- channels ---- */

struct ibv_comp_channel *fabric_create_comp_channel(struct ibv_context *context)
{
	struct fabric_device *device = fabric_device_of(context);

	if (fabric_call_fails(device))
		return NULL;
	struct fabric_comp_channel *channel = fabric_alloc(sizeof(*channel));
	fabric_inbox_open(&channel->inbox);
	channel->pub.context = context;
	channel->pub.fd = channel->inbox.fd;
	fabric_born(device, &channel->object, FABRIC_COMP_CHANNEL, channel);
	return &channel->pub;
}

int fabric_destroy_comp_channel(struct ibv_comp_channel *pub)
{
	struct fabric_comp_channel *channel = fabric_comp_channel_of(pub);

	if (!channel)
		return EINVAL;
	if (channel->object.users > 0) {
		fabric_misuse(channel->object.device, "a completion channel in use is destroyed");
		return EBUSY;
	}
	fabric_unmake_comp_channel(channel);
	return 0;
}

void fabric_unmake_comp_channel(struct fabric_comp_channel *channel)
{
	struct list *item;

	while ((item = fabric_inbox_take(&channel->inbox)))
		fabric_free(container_of(item, struct fabric_notice, link));
	fabric_inbox_close(&channel->inbox);
	fabric_die(&channel->object);
}

int fabric_get_cq_event(struct ibv_comp_channel *pub, struct ibv_cq **cq, void **context)
{
	struct fabric_comp_channel *channel = fabric_comp_channel_of(pub);

	if (!channel) {
		errno = EINVAL;
		return -1;
	}
	fabric_settle(channel->object.device->fabric);
	struct list *item = fabric_inbox_take(&channel->inbox);
	if (!item) {
		errno = EAGAIN;
		return -1;
	}
	struct fabric_notice *notice = container_of(item, struct fabric_notice, link);
	notice->cq->object.unacked++;
	*cq = &notice->cq->pub;
	*context = notice->cq->pub.cq_context;
	fabric_free(notice);
	return 0;
}

void fabric_ack_cq_events(struct ibv_cq *pub, unsigned int count)
{
	struct fabric_cq *cq = fabric_cq_of(pub);

	if (!cq)
		return;
	if (count > cq->object.unacked)
		fabric_misuse(cq->object.device, "more completion events acknowledged than taken");
	else
		cq->object.unacked -= count;
}

/* ---- queues ---- */

struct ibv_cq *fabric_create_cq(struct ibv_context *context, int cqe, void *cq_context,
				struct ibv_comp_channel *pub, int comp_vector)
{
	struct fabric_device *device = fabric_device_of(context);
	struct fabric_comp_channel *channel = pub ? fabric_comp_channel_of(pub) : NULL;

	if (cqe < 1 || cqe > device->limits.attr.max_cqe || comp_vector < 0 ||
	    comp_vector >= context->num_comp_vectors || (pub && !channel)) {
		errno = EINVAL;
		return NULL;
	}
	if (fabric_call_fails(device))
		return NULL;
	struct fabric_cq *cq = fabric_alloc(sizeof(*cq));
	cq->pub.context = context;
	cq->pub.channel = pub;
	cq->pub.cq_context = cq_context;
	cq->pub.cqe = cqe;
	cq->size = (uint32_t)cqe;
	cq->ring = fabric_alloc(cq->size * sizeof(*cq->ring));
	if (channel)
		channel->object.users++;
	fabric_born(device, &cq->object, FABRIC_CQ, cq);
	return &cq->pub;
}

static void drop_notices(struct fabric_cq *cq)
{
	struct fabric_comp_channel *channel = (struct fabric_comp_channel *)(void *)cq->pub.channel;

	if (!channel)
		return;
	for (struct list *item = channel->inbox.items.next; item != &channel->inbox.items;) {
		struct fabric_notice *notice = container_of(item, struct fabric_notice, link);
		item = item->next;
		if (notice->cq == cq) {
			fabric_inbox_drop(&channel->inbox, &notice->link);
			fabric_free(notice);
		}
	}
	channel->object.users--;
}

int fabric_destroy_cq(struct ibv_cq *pub)
{
	struct fabric_cq *cq = fabric_cq_of(pub);

	if (!cq)
		return EINVAL;
	if (cq->object.users > 0) {
		fabric_misuse(cq->object.device, "a completion queue in use is destroyed");
		return EBUSY;
	}
	if (cq->object.unacked > 0)
		fabric_misuse(cq->object.device, "a completion queue whose events were not "
						 "acknowledged is destroyed");
	fabric_unmake_cq(cq);
	return 0;
}

void fabric_unmake_cq(struct fabric_cq *cq)
{
	drop_notices(cq);
	fabric_untell(&cq->object);
	fabric_free(cq->ring);
	fabric_die(&cq->object);
}

int fabric_req_notify_cq(struct ibv_cq *pub, int solicited_only)
{
	struct fabric_cq *cq = fabric_cq_of(pub);

	if (!cq || !cq->pub.channel)
		return EINVAL;
	/* IBA 11.4.2.2: asking for all overrides asking for solicited ones, not the reverse. */
	cq->armed = cq->armed || !solicited_only;
	cq->armed_solicited = cq->armed_solicited || solicited_only;
	return 0;
}

static void notify(struct fabric_cq *cq)
{
	struct fabric_comp_channel *channel = (struct fabric_comp_channel *)(void *)cq->pub.channel;
	struct fabric_notice *notice = fabric_alloc(sizeof(*notice));

	cq->armed = false;
	cq->armed_solicited = false;
	notice->cq = cq;
	fabric_inbox_put(&channel->inbox, &notice->link);
}

/* IBA 11.6.3.1, ibv_poll_cq(3): an overrun queue can't be used any more, nor the queue pair whose
 * completion was lost. */
static void overrun(struct fabric_cq *cq, uint32_t qp_num)
{
	struct fabric_qp *qp = fabric_find_qp(cq->object.device, qp_num);

	if (!cq->overrun)
		fabric_tell(cq->object.device, IBV_EVENT_CQ_ERR, &cq->object, &cq->pub);
	cq->overrun = true;
	if (qp && qp->pub.state != IBV_QPS_ERR)
		fabric_break_later(qp);
}

void fabric_complete(struct fabric_cq *cq, const struct fabric_cqe *cqe, bool solicited)
{
	struct fabric_counts *counts = &cq->object.device->counts;
	struct fabric_cqe *into = &cq->ring[(cq->head + cq->count) % cq->size];
	bool failed = cqe->wc.status != IBV_WC_SUCCESS;

	counts->completions++;
	counts->signalled += cqe->qp != NULL;
	counts->errors += failed;
	fabric_note(cq->object.device->fabric, (uint64_t)cqe->wc.status << 32 | cqe->wc.qp_num);
	fabric_note(cq->object.device->fabric, (uint64_t)cqe->wc.opcode << 32 | cqe->wc.byte_len);
	if (cq->overrun || cq->count == cq->size) {
		overrun(cq, cqe->wc.qp_num);
		return;
	}
	*into = *cqe;
	if (failed) { /* ibv_poll_cq(3): nothing else is valid */
		memset(&into->wc, FABRIC_UNDEFINED, sizeof(into->wc));
		into->wc.wr_id = cqe->wc.wr_id;
		into->wc.status = cqe->wc.status;
		into->wc.vendor_err = cqe->wc.vendor_err;
		into->wc.qp_num = cqe->wc.qp_num;
	}
	cq->count++;
	bool wakes = cq->armed || (cq->armed_solicited && (solicited || failed));
	if (wakes)
		notify(cq);
	fabric_wake_host(cq->object.device, wakes);
}

int fabric_poll_cq(struct ibv_cq *pub, int num_entries, struct ibv_wc *wc)
{
	struct fabric_cq *cq = fabric_cq_of(pub);
	int polled = 0;

	if (!cq)
		return -EINVAL;
	fabric_settle(cq->object.device->fabric);
	cq->object.device->counts.polls++;
	for (; polled < num_entries && cq->count > 0; polled++) {
		const struct fabric_cqe *cqe = &cq->ring[cq->head];
		wc[polled] = cqe->wc;
		if (cqe->qp)
			cqe->qp->retired = cqe->retire;
		cq->head = (cq->head + 1) % cq->size;
		cq->count--;
	}
	return polled == 0 && cq->overrun ? -EIO : polled;
}

void fabric_forget_completions(struct fabric_cq *cq, const struct fabric_qp *qp)
{
	bool keep = cq->object.device->limits.keeps_completions;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cq->count; i++) {
		struct fabric_cqe *cqe = &cq->ring[(cq->head + i) % cq->size];
		if (cqe->qp == qp)
			cqe->qp = NULL;
		if (keep || cqe->wc.qp_num != qp->pub.qp_num)
			cq->ring[(cq->head + kept++) % cq->size] = *cqe;
	}
	cq->count = kept;
}
