/* tests/support/fabric_post.c: see fabric.h.  Posting of requests, and queues of receives. */
#include "support/fabric_own.h"

#include <errno.h>
#include <string.h>

/* ---- queues of receives ---- */

void fabric_receives_open(struct fabric_receives *receives, uint32_t size, uint32_t max_sge)
{
	receives->size = size;
	receives->max_sge = max_sge;
	receives->ring = fabric_alloc(size * sizeof(*receives->ring));
	receives->sges = fabric_alloc((size_t)size * max_sge * sizeof(*receives->sges));
}

void fabric_receives_close(struct fabric_receives *receives)
{
	fabric_free(receives->ring);
	fabric_free(receives->sges);
	*receives = (struct fabric_receives){0};
}

const struct fabric_receive *fabric_receives_take(struct fabric_receives *receives)
{
	if (receives->count == 0)
		return NULL;
	const struct fabric_receive *first = &receives->ring[receives->head];
	receives->head = (receives->head + 1) % receives->size;
	receives->count--;
	return first;
}

static int put_receive(struct fabric_receives *receives, const struct ibv_recv_wr *wr)
{
	uint32_t i = receives->size ? (receives->head + receives->count) % receives->size : 0;

	if (wr->num_sge < 0 || (uint32_t)wr->num_sge > receives->max_sge)
		return EINVAL;
	if (receives->count == receives->size)
		return ENOMEM;
	struct fabric_receive *receive = &receives->ring[i];
	receive->wr_id = wr->wr_id;
	receive->num_sge = (uint32_t)wr->num_sge;
	receive->sge = &receives->sges[(size_t)i * receives->max_sge];
	if (wr->num_sge > 0)
		memcpy(receive->sge, wr->sg_list, (size_t)wr->num_sge * sizeof(*receive->sge));
	receives->count++;
	return 0;
}

/* Does the test, or chance, have this post fail? */
static int post_fails(struct fabric_device *device)
{
	if (device->removed)
		return EIO;
	if (fabric_counts_down(&device->fail_post))
		return device->fail_post.what;
	return fabric_happens(device->fabric, device->fabric->chance.fail_post) ? ENOMEM : 0;
}

static int post_receives(struct fabric_device *device, struct fabric_receives *receives,
			 struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	device->counts.receive_doorbells++;
	for (; wr; wr = wr->next) {
		int err = post_fails(device);
		if (!err)
			err = put_receive(receives, wr);
		if (err) {
			*bad_wr = wr;
			return err;
		}
		device->counts.receive_posts++;
	}
	return 0;
}

int fabric_post_srq_recv(struct ibv_srq *pub, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	struct fabric_srq *srq = fabric_srq_of(pub);

	*bad_wr = wr;
	if (!srq)
		return EINVAL;
	return post_receives(srq->object.device, &srq->receives, wr, bad_wr);
}

/* IBA 10.8.2.3: in every state but the first; in error they are flushed. */
int fabric_post_recv(struct ibv_qp *pub, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	struct fabric_qp *qp = fabric_qp_of(pub);

	*bad_wr = wr;
	if (!qp || qp->srq || qp->pub.state == IBV_QPS_RESET)
		return EINVAL;
	int err = post_receives(qp->object.device, &qp->receives, wr, bad_wr);
	if (qp->pub.state == IBV_QPS_ERR)
		fabric_flush(qp);
	fabric_kick(qp->object.device->fabric);
	return err;
}

/* ---- shared ones ---- */

struct ibv_srq *fabric_create_srq(struct ibv_pd *pub, struct ibv_srq_init_attr *attr)
{
	struct fabric_pd *pd = fabric_pd_of(pub);

	if (!pd || attr->attr.max_wr < 1 || attr->attr.max_sge < 1 ||
	    attr->attr.max_wr > (uint32_t)pd->object.device->limits.attr.max_srq_wr ||
	    attr->attr.max_sge > (uint32_t)pd->object.device->limits.attr.max_srq_sge) {
		errno = EINVAL;
		return NULL;
	}
	if (fabric_call_fails(pd->object.device))
		return NULL;
	struct fabric_srq *srq = fabric_alloc(sizeof(*srq));
	srq->pub.context = pub->context;
	srq->pub.srq_context = attr->srq_context;
	srq->pub.pd = pub;
	fabric_receives_open(&srq->receives, attr->attr.max_wr, attr->attr.max_sge);
	pd->object.users++;
	fabric_born(pd->object.device, &srq->object, FABRIC_SRQ, srq);
	return &srq->pub;
}

int fabric_destroy_srq(struct ibv_srq *pub)
{
	struct fabric_srq *srq = fabric_srq_of(pub);

	if (!srq)
		return EINVAL;
	if (srq->object.users > 0) {
		fabric_misuse(srq->object.device, "a shared receive queue in use is destroyed");
		return EBUSY;
	}
	if (srq->object.unacked > 0)
		fabric_misuse(srq->object.device, "a shared receive queue whose events were not "
						  "acknowledged is destroyed");
	fabric_unmake_srq(srq);
	return 0;
}

void fabric_unmake_srq(struct fabric_srq *srq)
{
	fabric_untell(&srq->object);
	fabric_receives_close(&srq->receives);
	((struct fabric_pd *)(void *)srq->pub.pd)->object.users--;
	fabric_die(&srq->object);
}

static void look_at_limit(struct fabric_srq *srq)
{
	if (srq->receives.count >= srq->limit)
		return;
	srq->limit = 0;
	fabric_tell(srq->object.device, IBV_EVENT_SRQ_LIMIT_REACHED, &srq->object, &srq->pub);
}

int fabric_limit_srq(struct ibv_srq *pub, uint32_t limit)
{
	struct fabric_srq *srq = fabric_srq_of(pub);

	if (limit > srq->receives.size)
		return EINVAL;
	srq->limit = limit;
	look_at_limit(srq);
	return 0;
}

uint32_t fabric_srq_posted(const struct ibv_srq *pub)
{
	return fabric_srq_of(pub)->receives.count;
}

const struct fabric_receive *fabric_take_receive(struct fabric_qp *qp)
{
	if (!qp->srq)
		return fabric_receives_take(&qp->receives);
	const struct fabric_receive *receive = fabric_receives_take(&qp->srq->receives);
	look_at_limit(qp->srq);
	return receive;
}

const struct fabric_receive *fabric_next_receive(const struct fabric_qp *qp)
{
	const struct fabric_receives *receives = qp->srq ? &qp->srq->receives : &qp->receives;

	return receives->count > 0 ? &receives->ring[receives->head] : NULL;
}

/* ---- sends ---- */

static bool is_opcode(const struct fabric_qp *qp, enum ibv_wr_opcode opcode)
{
	switch (opcode) {
	case IBV_WR_SEND:
	case IBV_WR_SEND_WITH_IMM:
		return true;
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
	case IBV_WR_RDMA_READ:
	case IBV_WR_LOCAL_INV:
	case IBV_WR_BIND_MW:
	case IBV_WR_SEND_WITH_INV:
		return qp->pub.qp_type == IBV_QPT_RC;
	default:
		return false;
	}
}

static bool may_be_inline(enum ibv_wr_opcode opcode)
{
	return opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM ||
	       opcode == IBV_WR_SEND_WITH_INV || opcode == IBV_WR_RDMA_WRITE ||
	       opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

static bool is_request(const struct fabric_qp *qp, const struct ibv_send_wr *wr)
{
	const struct ibv_qp_cap *cap = &qp->attr.cap;

	if (!is_opcode(qp, wr->opcode) || wr->num_sge < 0 ||
	    (uint32_t)wr->num_sge > cap->max_send_sge)
		return false;
	if (wr->send_flags & IBV_SEND_INLINE &&
	    (!may_be_inline(wr->opcode) ||
	     fabric_sge_bytes(wr->sg_list, (uint32_t)wr->num_sge) > cap->max_inline_data))
		return false;
	return wr->opcode != IBV_WR_BIND_MW || fabric_mw_of(wr->bind_mw.mw);
}

/* Errors that a post tells at once. */
static int refuse(const struct fabric_qp *qp, const struct ibv_send_wr *wr)
{
	int err = post_fails(qp->object.device);

	if (err)
		return err;
	if (!is_request(qp, wr))
		return EINVAL;
	if (qp->pub.qp_type == IBV_QPT_UD && !fabric_ah_of(wr->wr.ud.ah))
		return EINVAL;
	return qp->posted - qp->retired >= qp->room ? ENOMEM : 0;
}

static void put_request(struct fabric_qp *qp, const struct ibv_send_wr *wr)
{
	struct fabric_work *work = fabric_work_at(qp, qp->posted);
	size_t slot = qp->posted % qp->room;
	struct fabric_device *device = qp->object.device;

	*work = (struct fabric_work){.wr = *wr};
	work->wr.next = NULL;
	work->wr.sg_list = &qp->sges[slot * qp->attr.cap.max_send_sge];
	if (wr->num_sge > 0)
		memcpy(work->wr.sg_list, wr->sg_list, (size_t)wr->num_sge * sizeof(*wr->sg_list));
	work->length = fabric_sge_bytes(wr->sg_list, (uint32_t)wr->num_sge);
	if (wr->send_flags & IBV_SEND_INLINE) {
		uint8_t *copy = &qp->inlines[slot * qp->attr.cap.max_inline_data];
		fabric_gather(copy, wr->sg_list, (uint32_t)wr->num_sge);
		work->wr.num_sge = work->length > 0 ? 1 : 0;
		if (work->length > 0)
			work->wr.sg_list[0] = (struct ibv_sge){.addr = (uint64_t)(uintptr_t)copy,
							       .length = (uint32_t)work->length};
		work->inlined = true;
		device->counts.inlined++;
	}
	if (fabric_counts_down(&device->fail_work))
		work->forced = (enum ibv_wc_status)device->fail_work.what;
	else if (fabric_happens(device->fabric, device->fabric->chance.fail_work))
		work->forced = IBV_WC_GENERAL_ERR;
	qp->posted++;
	device->counts.posts++;
}

/* IBA 10.8.2.2: from RTS on; in error they are flushed. */
int fabric_post_send(struct ibv_qp *pub, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr)
{
	struct fabric_qp *qp = fabric_qp_of(pub);
	int err = 0;

	*bad_wr = wr;
	if (!qp || qp->pub.state == IBV_QPS_RESET || qp->pub.state == IBV_QPS_INIT ||
	    qp->pub.state == IBV_QPS_RTR)
		return EINVAL;
	qp->object.device->counts.doorbells++;
	for (; wr && !err; wr = wr->next) {
		err = refuse(qp, wr);
		if (err)
			*bad_wr = wr;
		else
			put_request(qp, wr);
	}
	if (qp->pub.state == IBV_QPS_ERR || qp->pub.state == IBV_QPS_SQE)
		fabric_flush(qp);
	else
		fabric_start_requests(qp);
	fabric_kick(qp->object.device->fabric);
	return err;
}

/* ibv_bind_mw(3): of type 1; the key is new with the call, and good with its completion. */
int fabric_bind_mw(struct ibv_qp *qp, struct ibv_mw *mw, struct ibv_mw_bind *bind)
{
	struct ibv_send_wr *bad;
	struct ibv_send_wr wr = {
		.wr_id = bind->wr_id,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = bind->send_flags,
		.bind_mw = {.mw = mw, .rkey = ibv_inc_rkey(mw->rkey), .bind_info = bind->bind_info},
	};
	int err = fabric_post_send(qp, &wr, &bad);

	if (!err)
		mw->rkey = wr.bind_mw.rkey;
	return err;
}

/* ---- what work needs ---- */

static bool means(const struct ibv_sge *sge, uint32_t num_sge, uint32_t lkey)
{
	for (uint32_t i = 0; i < num_sge; i++)
		if (sge[i].lkey == lkey && sge[i].length > 0)
			return true;
	return false;
}

static bool receives_mean(const struct fabric_receives *receives, uint32_t lkey)
{
	for (uint32_t i = 0; i < receives->count; i++) {
		const struct fabric_receive *receive =
			&receives->ring[(receives->head + i) % receives->size];
		if (means(receive->sge, receive->num_sge, lkey))
			return true;
	}
	return false;
}

static bool sends_mean(const struct fabric_qp *qp, uint32_t lkey)
{
	for (uint64_t i = qp->answered; i < qp->posted; i++) {
		const struct fabric_work *work = fabric_work_at(qp, i);
		if (!work->inlined && means(work->wr.sg_list, (uint32_t)work->wr.num_sge, lkey))
			return true;
	}
	return false;
}

/* A shared queue without a queue pair receives nothing. */
bool fabric_uses_mr(const struct fabric_device *device, const struct fabric_mr *mr)
{
	for (uint32_t i = 0; i < device->num_qps; i++) {
		const struct fabric_qp *qp = device->qps[i];
		if (!qp || qp->gone)
			continue;
		if (sends_mean(qp, mr->pub.lkey) ||
		    receives_mean(qp->srq ? &qp->srq->receives : &qp->receives, mr->pub.lkey))
			return true;
	}
	return false;
}

bool fabric_uses_mw(const struct fabric_device *device, const struct fabric_mw *mw)
{
	for (uint32_t i = 0; i < device->num_qps; i++) {
		const struct fabric_qp *qp = device->qps[i];
		for (uint64_t j = qp ? qp->answered : 0; qp && !qp->gone && j < qp->posted; j++) {
			const struct ibv_send_wr *wr = &fabric_work_at(qp, j)->wr;
			if (wr->opcode == IBV_WR_BIND_MW && wr->bind_mw.mw == &mw->pub)
				return true;
		}
	}
	return false;
}

bool fabric_uses_ah(const struct fabric_device *device, const struct fabric_ah *ah)
{
	for (uint32_t i = 0; i < device->num_qps; i++) {
		const struct fabric_qp *qp = device->qps[i];
		for (uint64_t j = qp ? qp->answered : 0; qp && !qp->gone && j < qp->posted; j++) {
			const struct ibv_send_wr *wr = &fabric_work_at(qp, j)->wr;
			if (qp->pub.qp_type == IBV_QPT_UD && wr->wr.ud.ah == &ah->pub)
				return true;
		}
	}
	return false;
}
