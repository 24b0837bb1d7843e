/* tests/support/fabric_qp.c: see fabric.h.  Queue pairs: life and states (IBA 10.3.1, 11.2.5.2;
 * ibv_modify_qp(3)). */
#include "support/fabric_own.h"

#include <errno.h>
#include <string.h>

/* ---- life ---- */

static bool is_cap(const struct fabric_device *device, const struct ibv_qp_init_attr *attr)
{
	const struct ibv_device_attr *most = &device->limits.attr;
	const struct ibv_qp_cap *cap = &attr->cap;

	return cap->max_send_wr <= (uint32_t)most->max_qp_wr &&
	       cap->max_recv_wr <= (uint32_t)most->max_qp_wr &&
	       cap->max_send_sge <= (uint32_t)most->max_sge &&
	       cap->max_recv_sge <= (uint32_t)most->max_sge &&
	       cap->max_inline_data <= device->limits.max_inline;
}

static void number_qp(struct fabric_device *device, struct fabric_qp *qp)
{
	uint32_t number = device->num_qps++;

	if ((number & (number - 1)) == 0)
		device->qps = fabric_realloc(device->qps, (number ? 2 * (size_t)number : 1) *
								  sizeof(struct fabric_qp *));
	device->qps[number] = qp;
	qp->pub.qp_num = FABRIC_FIRST_QP + number;
}

struct fabric_qp *fabric_find_qp(const struct fabric_device *device, uint32_t number)
{
	uint32_t i = number - FABRIC_FIRST_QP;

	return i < device->num_qps ? device->qps[i] : NULL;
}

static void make_rings(struct fabric_qp *qp, const struct ibv_qp_cap *cap)
{
	qp->room = cap->max_send_wr;
	if (qp->room > 0) {
		qp->ring = fabric_alloc(qp->room * sizeof(*qp->ring));
		qp->sges = fabric_alloc((size_t)qp->room * cap->max_send_sge * sizeof(*qp->sges));
		qp->inlines = fabric_alloc((size_t)qp->room * cap->max_inline_data);
	}
	if (!qp->srq)
		fabric_receives_open(&qp->receives, cap->max_recv_wr, cap->max_recv_sge);
}

static void hold(struct fabric_qp *qp, int32_t change)
{
	qp->pd->object.users += (uint32_t)change;
	qp->send_cq->object.users += (uint32_t)change;
	qp->recv_cq->object.users += (uint32_t)change;
	if (qp->srq)
		qp->srq->object.users += (uint32_t)change;
}

struct fabric_qp *fabric_make_qp(struct fabric_device *device, struct fabric_pd *pd,
				 struct ibv_qp_init_attr *attr)
{
	struct fabric_cq *send_cq = fabric_cq_of(attr->send_cq);
	struct fabric_cq *recv_cq = fabric_cq_of(attr->recv_cq);
	struct fabric_srq *srq = attr->srq ? fabric_srq_of(attr->srq) : NULL;

	if (!send_cq || !recv_cq || (attr->srq && !srq) || !is_cap(device, attr) ||
	    send_cq->object.device != device || recv_cq->object.device != device) {
		errno = EINVAL;
		return NULL;
	}
	if (fabric_call_fails(device))
		return NULL;
	struct fabric_qp *qp = fabric_alloc(sizeof(*qp));
	qp->pd = pd;
	qp->send_cq = send_cq;
	qp->recv_cq = recv_cq;
	qp->srq = srq;
	qp->init = *attr;
	qp->attr.cap = attr->cap;
	qp->pub.context = &device->context;
	qp->pub.qp_context = attr->qp_context;
	qp->pub.pd = &pd->pub;
	qp->pub.send_cq = attr->send_cq;
	qp->pub.recv_cq = attr->recv_cq;
	qp->pub.srq = attr->srq;
	qp->pub.qp_type = attr->qp_type;
	make_rings(qp, &attr->cap);
	number_qp(device, qp);
	fabric_state_qp(qp, IBV_QPS_RESET);
	hold(qp, 1);
	fabric_born(device, &qp->object, FABRIC_QP, qp);
	return qp;
}

static void free_rings(struct fabric_qp *qp)
{
	for (uint32_t i = 0; i < qp->room; i++)
		fabric_free(qp->ring[i].data);
	fabric_free(qp->ring);
	fabric_free(qp->sges);
	fabric_free(qp->inlines);
	if (!qp->srq)
		fabric_receives_close(&qp->receives);
	qp->ring = NULL;
	qp->sges = NULL;
	qp->inlines = NULL;
	qp->room = 0;
}

void fabric_unmake_qp(struct fabric_qp *qp)
{
	struct fabric_device *device = qp->object.device;

	device->qps[qp->pub.qp_num - FABRIC_FIRST_QP] = NULL;
	fabric_untell(&qp->object);
	fabric_unbind_all(qp);
	fabric_forget_completions(qp->send_cq, qp);
	if (qp->recv_cq != qp->send_cq)
		fabric_forget_completions(qp->recv_cq, qp);
	hold(qp, -1);
	free_rings(qp);
	fabric_die(&qp->object);
}

/* ---- states ---- */

void fabric_state_qp(struct fabric_qp *qp, enum ibv_qp_state state)
{
	qp->pub.state = state;
	qp->attr.qp_state = state;
	qp->attr.cur_qp_state = state;
}

/* All that it had is forgotten, without completions. */
static void reset(struct fabric_qp *qp)
{
	struct ibv_qp_cap cap = qp->attr.cap;

	for (uint64_t i = qp->answered; i < qp->posted; i++) {
		fabric_free(fabric_work_at(qp, i)->data);
		fabric_work_at(qp, i)->data = NULL;
	}
	fabric_forget_completions(qp->send_cq, qp);
	fabric_forget_completions(qp->recv_cq, qp);
	qp->started = qp->posted;
	qp->arrived = qp->posted;
	qp->answered = qp->posted;
	qp->retired = qp->posted;
	qp->receives.count = 0;
	qp->reads = 0;
	qp->tries = 0;
	qp->rnr_tries = 0;
	qp->halted = false;
	memset(&qp->attr, 0, sizeof(qp->attr));
	qp->attr.cap = cap;
	fabric_state_qp(qp, IBV_QPS_RESET);
}

void fabric_error_qp(struct fabric_qp *qp)
{
	if (qp->pub.state == IBV_QPS_ERR || qp->pub.state == IBV_QPS_RESET)
		return;
	fabric_deliver_some(qp);
	fabric_state_qp(qp, IBV_QPS_ERR);
	fabric_flush(qp);
	/* IBA 11.6.3.1: it takes no more from the shared queue. */
	if (qp->srq && !qp->gone)
		fabric_tell(qp->object.device, IBV_EVENT_QP_LAST_WQE_REACHED, &qp->object,
			    &qp->pub);
}

static void break_now(void *arg)
{
	struct fabric_qp *qp = arg;

	if (qp->object.dead || qp->pub.state == IBV_QPS_ERR)
		return;
	fabric_tell(qp->object.device, IBV_EVENT_QP_FATAL, &qp->object, &qp->pub);
	fabric_error_qp(qp);
}

void fabric_break_qp(struct ibv_qp *pub)
{
	struct fabric_qp *qp = fabric_qp_of(pub);

	break_now(qp);
	fabric_kick(qp->object.device->fabric);
}

void fabric_break_later(struct fabric_qp *qp)
{
	struct fabric *fabric = qp->object.device->fabric;

	fabric_put_event(fabric, fabric_now(fabric), break_now, qp, &qp->object);
}

/* A transition: what must be said with it, and what may. */
struct transition {
	enum ibv_qp_state from;
	enum ibv_qp_state to;
	int rc_must;
	int rc_may;
	int ud_must;
	int ud_may;
};

#define RC_INIT (IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS)
#define UD_INIT (IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY)
#define RC_RTR                                                           \
	(IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | \
	 IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER)
#define RC_RTS                                                                  \
	(IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | \
	 IBV_QP_MAX_QP_RD_ATOMIC)
#define RC_MORE (IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER | IBV_QP_ALT_PATH)
#define RC_SQD  (IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_AV | RC_RTS | RC_MORE)
#define UD_MORE (IBV_QP_CUR_STATE | IBV_QP_QKEY)

static const struct transition transitions[] = {
	{IBV_QPS_RESET, IBV_QPS_INIT, RC_INIT, 0, UD_INIT, 0},
	{IBV_QPS_INIT, IBV_QPS_INIT, 0, RC_INIT, 0, UD_INIT},
	{IBV_QPS_INIT, IBV_QPS_RTR, RC_RTR, IBV_QP_PKEY_INDEX | IBV_QP_ACCESS_FLAGS, 0,
	 IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
	{IBV_QPS_RTR, IBV_QPS_RTS, RC_RTS, RC_MORE, IBV_QP_SQ_PSN, UD_MORE},
	{IBV_QPS_RTS, IBV_QPS_RTS, 0, RC_MORE, 0, UD_MORE},
	{IBV_QPS_RTS, IBV_QPS_SQD, 0, IBV_QP_EN_SQD_ASYNC_NOTIFY, 0, IBV_QP_EN_SQD_ASYNC_NOTIFY},
	{IBV_QPS_SQD, IBV_QPS_RTS, 0, RC_MORE, 0, UD_MORE},
	{IBV_QPS_SQD, IBV_QPS_SQD, 0, RC_SQD, 0, UD_INIT},
	{IBV_QPS_SQE, IBV_QPS_RTS, 0, IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS, 0, UD_MORE},
};

static bool is_allowed(const struct fabric_qp *qp, enum ibv_qp_state to, int mask)
{
	bool ud = qp->pub.qp_type == IBV_QPT_UD;

	mask &= ~IBV_QP_STATE;
	if (to == IBV_QPS_RESET || to == IBV_QPS_ERR)
		return mask == 0;
	for (uint32_t i = 0; i < ARRAY_LENGTH(transitions); i++) {
		const struct transition *t = &transitions[i];
		int must = ud ? t->ud_must : t->rc_must;
		int may = must | (ud ? t->ud_may : t->rc_may);
		if (t->from == qp->pub.state && t->to == to)
			return (mask & must) == must && (mask & ~may) == 0;
	}
	return false;
}

static bool are_values(const struct fabric_device *device, const struct ibv_qp_attr *attr, int mask)
{
	const struct ibv_device_attr *most = &device->limits.attr;

	if (mask & IBV_QP_PORT && attr->port_num != FABRIC_PORT)
		return false;
	if (mask & IBV_QP_PKEY_INDEX && attr->pkey_index != 0)
		return false;
	if (mask & IBV_QP_AV && !attr->ah_attr.is_global)
		return false;
	if (mask & IBV_QP_MAX_QP_RD_ATOMIC && attr->max_rd_atomic > most->max_qp_init_rd_atom)
		return false;
	if (mask & IBV_QP_MAX_DEST_RD_ATOMIC && attr->max_dest_rd_atomic > most->max_qp_rd_atom)
		return false;
	return !(mask & IBV_QP_RNR_RETRY && attr->rnr_retry > 7) &&
	       !(mask & IBV_QP_RETRY_CNT && attr->retry_cnt > 7) &&
	       !(mask & IBV_QP_TIMEOUT && attr->timeout > 31);
}

static void take_values(struct ibv_qp_attr *own, const struct ibv_qp_attr *attr, int mask)
{
	if (mask & IBV_QP_ACCESS_FLAGS)
		own->qp_access_flags = attr->qp_access_flags;
	if (mask & IBV_QP_PORT)
		own->port_num = attr->port_num;
	if (mask & IBV_QP_QKEY)
		own->qkey = attr->qkey;
	if (mask & IBV_QP_AV)
		own->ah_attr = attr->ah_attr;
	if (mask & IBV_QP_EN_SQD_ASYNC_NOTIFY)
		own->en_sqd_async_notify = attr->en_sqd_async_notify;
	if (mask & IBV_QP_PATH_MTU)
		own->path_mtu = attr->path_mtu;
	if (mask & IBV_QP_TIMEOUT)
		own->timeout = attr->timeout;
	if (mask & IBV_QP_RETRY_CNT)
		own->retry_cnt = attr->retry_cnt;
	if (mask & IBV_QP_RNR_RETRY)
		own->rnr_retry = attr->rnr_retry;
	if (mask & IBV_QP_RQ_PSN)
		own->rq_psn = attr->rq_psn;
	if (mask & IBV_QP_MAX_QP_RD_ATOMIC)
		own->max_rd_atomic = attr->max_rd_atomic;
	if (mask & IBV_QP_MIN_RNR_TIMER)
		own->min_rnr_timer = attr->min_rnr_timer;
	if (mask & IBV_QP_SQ_PSN)
		own->sq_psn = attr->sq_psn;
	if (mask & IBV_QP_MAX_DEST_RD_ATOMIC)
		own->max_dest_rd_atomic = attr->max_dest_rd_atomic;
	if (mask & IBV_QP_DEST_QPN)
		own->dest_qp_num = attr->dest_qp_num;
}

int fabric_modify_qp(struct ibv_qp *pub, struct ibv_qp_attr *attr, int mask)
{
	struct fabric_qp *qp = fabric_qp_of(pub);

	if (!qp)
		return EINVAL;
	struct fabric_device *device = qp->object.device;
	enum ibv_qp_state to = mask & IBV_QP_STATE ? attr->qp_state : qp->pub.state;
	if ((mask & IBV_QP_CUR_STATE && attr->cur_qp_state != qp->pub.state) ||
	    !is_allowed(qp, to, mask) || !are_values(device, attr, mask))
		return EINVAL;
	/* Those that only end something do not fail. */
	if (to != IBV_QPS_ERR && to != IBV_QPS_RESET && fabric_call_fails(device))
		return errno;
	take_values(&qp->attr, attr, mask);
	if (to == IBV_QPS_RESET)
		reset(qp);
	else if (to == IBV_QPS_ERR)
		fabric_error_qp(qp);
	else
		fabric_state_qp(qp, to);
	if (to == IBV_QPS_RTS)
		fabric_start_requests(qp);
	else
		fabric_tell_drained(qp);
	fabric_kick(device->fabric);
	return 0;
}

int fabric_query_qp(struct ibv_qp *pub, struct ibv_qp_attr *attr, int mask,
		    struct ibv_qp_init_attr *init)
{
	struct fabric_qp *qp = fabric_qp_of(pub);

	(void)mask;
	if (!qp)
		return EINVAL;
	*attr = qp->attr;
	attr->sq_draining = qp->pub.state == IBV_QPS_SQD && qp->answered < qp->started;
	*init = qp->init;
	return 0;
}

uint32_t fabric_sends_outstanding(const struct ibv_qp *pub)
{
	const struct fabric_qp *qp = fabric_qp_of(pub);

	return (uint32_t)(qp->posted - qp->answered);
}

uint32_t fabric_sends_free(const struct ibv_qp *pub)
{
	const struct fabric_qp *qp = fabric_qp_of(pub);

	return qp->room - (uint32_t)(qp->posted - qp->retired);
}
