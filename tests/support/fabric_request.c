/* tests/support/fabric_request.c: see fabric.h.  The requester: what becomes of posted work.
 *
 * Requests arrive in their order; one that finds nobody, or no receive, is tried again, and those
 * behind it wait: a reliable queue pair goes back to it.  Their answers come in order, too. */
#include "support/fabric_own.h"

#include <string.h>

static void arrive(void *arg);
static void answer(void *arg);

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool is_local(const struct fabric_qp *qp, const struct fabric_work *work)
{
	return qp->pub.qp_type == IBV_QPT_UD || work->wr.opcode == IBV_WR_BIND_MW ||
	       work->wr.opcode == IBV_WR_LOCAL_INV;
}

/* IBA 10.8.3.3, 11.4.1.1: reads wait for resources of the responder, fenced requests for reads. */
static bool may_start(const struct fabric_qp *qp, struct fabric_work *work)
{
	if (work->wr.send_flags & IBV_SEND_FENCE && qp->reads > 0)
		return false;
	if (work->wr.opcode != IBV_WR_RDMA_READ)
		return true;
	if (qp->attr.max_rd_atomic == 0)
		work->forced = IBV_WC_LOC_QP_OP_ERR;
	return work->forced || qp->reads < qp->attr.max_rd_atomic;
}

static void await_arrival(struct fabric_qp *qp, const struct fabric_work *work)
{
	fabric_put_event(qp->object.device->fabric, work->arrive_ns, arrive, qp, &qp->object);
}

static void await_answer(struct fabric_qp *qp, const struct fabric_work *work)
{
	fabric_put_event(qp->object.device->fabric, work->answer_ns, answer, qp, &qp->object);
}

void fabric_start_requests(struct fabric_qp *qp)
{
	struct fabric *fabric = qp->object.device->fabric;

	while (qp->started < qp->posted && !qp->halted && qp->pub.state == IBV_QPS_RTS) {
		struct fabric_work *work = fabric_work_at(qp, qp->started);
		if (!may_start(qp, work))
			return;
		work->counted_read = work->wr.opcode == IBV_WR_RDMA_READ;
		qp->reads += work->counted_read;
		if (qp->pub.qp_type == IBV_QPT_UD && !work->forced)
			fabric_send_datagram(qp, work);
		uint64_t delay = is_local(qp, work) ? 0 : fabric_delay(fabric);
		work->arrive_ns = later(fabric_now(fabric) + delay, qp->last_arrive_ns);
		qp->last_arrive_ns = work->arrive_ns;
		qp->started++;
		await_arrival(qp, work);
	}
}

void fabric_tell_drained(struct fabric_qp *qp)
{
	if (qp->pub.state != IBV_QPS_SQD || !qp->attr.en_sqd_async_notify ||
	    qp->answered < qp->started)
		return;
	qp->attr.en_sqd_async_notify = 0;
	fabric_tell(qp->object.device, IBV_EVENT_SQ_DRAINED, &qp->object, &qp->pub);
}

/* IBA 9.7.5.2.8, table 45: what a responder says how long to wait, in units of 10 us. */
static uint64_t rnr_wait(uint8_t code)
{
	static const uint16_t units[32] = {
		65536 - 1, 1,    2,    3,    4,    6,     8,     12,    16,    24,   32,
		48,        64,   96,   128,  192,  256,   384,   512,   768,   1024, 1536,
		2048,      3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152};

	return units[code % 32] * 10 * FABRIC_US;
}

static void conclude(struct fabric_qp *qp, struct fabric_work *work, uint64_t after_ns)
{
	uint64_t now = fabric_now(qp->object.device->fabric);

	work->answer_ns = later(now + after_ns, qp->last_answer_ns);
	qp->last_answer_ns = work->answer_ns;
	qp->arrived++;
	qp->tries = 0;
	qp->rnr_tries = 0;
	qp->halted = work->status != IBV_WC_SUCCESS;
	await_answer(qp, work);
}

static void fail_later(struct fabric_qp *qp, struct fabric_work *work, enum ibv_wc_status status,
		       uint64_t after_ns)
{
	work->status = status;
	conclude(qp, work, after_ns);
}

static void try_again(struct fabric_qp *qp, struct fabric_work *work, uint64_t after_ns)
{
	work->arrive_ns = fabric_now(qp->object.device->fabric) + after_ns;
	await_arrival(qp, work);
}

static void find_no_receive(struct fabric_qp *qp, struct fabric_work *work)
{
	const struct fabric_qp *peer = fabric_peer_of(qp);

	if (qp->attr.rnr_retry != FABRIC_NO_RETRY && qp->rnr_tries++ >= qp->attr.rnr_retry)
		fail_later(qp, work, IBV_WC_RNR_RETRY_EXC_ERR,
			   fabric_delay(qp->object.device->fabric));
	else
		try_again(qp, work, rnr_wait(peer->attr.min_rnr_timer));
}

/* ibv_modify_qp(3): without a timeout it waits for ever. */
static bool gives_up(struct fabric_qp *qp)
{
	qp->object.device->counts.retries++;
	return qp->attr.timeout > 0 && qp->tries++ >= qp->attr.retry_cnt;
}

static void find_nobody(struct fabric_qp *qp, struct fabric_work *work)
{
	uint64_t wait = qp->object.device->limits.ack_timeout_ns;

	if (gives_up(qp))
		fail_later(qp, work, IBV_WC_RETRY_EXC_ERR, wait);
	else
		try_again(qp, work, wait);
}

/* What needs no peer: true. */
static bool carry_out_here(struct fabric_qp *qp, struct fabric_work *work)
{
	if (work->forced) {
		work->status = work->forced;
		return true;
	}
	if (work->wr.opcode == IBV_WR_BIND_MW)
		work->status = fabric_bind(qp, &work->wr) ? IBV_WC_SUCCESS : IBV_WC_MW_BIND_ERR;
	else if (work->wr.opcode == IBV_WR_LOCAL_INV)
		work->status = fabric_invalidate(qp, work->wr.invalidate_rkey)
				       ? IBV_WC_SUCCESS
				       : IBV_WC_LOC_QP_OP_ERR;
	return is_local(qp, work);
}

static void attempt(struct fabric_qp *qp, struct fabric_work *work)
{
	struct fabric_qp *peer;

	if (carry_out_here(qp, work)) {
		conclude(qp, work, 0);
		return;
	}
	peer = fabric_peer_of(qp);
	switch (peer ? fabric_respond(qp, work, peer) : FABRIC_LOST) {
	case FABRIC_DONE:
		conclude(qp, work, fabric_delay(qp->object.device->fabric));
		break;
	case FABRIC_NOT_READY:
		find_no_receive(qp, work);
		break;
	case FABRIC_LOST:
		find_nobody(qp, work);
	}
}

static bool is_under_way(const struct fabric_qp *qp)
{
	return !qp->gone && (qp->pub.state == IBV_QPS_RTS || qp->pub.state == IBV_QPS_SQD);
}

static void arrive(void *arg)
{
	struct fabric_qp *qp = arg;
	uint64_t now = fabric_now(qp->object.device->fabric);

	while (!qp->object.dead && is_under_way(qp) && qp->arrived < qp->started && !qp->halted) {
		struct fabric_work *work = fabric_work_at(qp, qp->arrived);
		if (work->arrive_ns > now)
			return;
		attempt(qp, work);
	}
}

void fabric_deliver_some(struct fabric_qp *qp)
{
	struct fabric *fabric = qp->object.device->fabric;

	while (is_under_way(qp) && qp->pub.qp_type == IBV_QPT_RC && !qp->halted &&
	       qp->arrived < qp->started && fabric_happens(fabric, fabric->chance.delivered)) {
		struct fabric_work *work = fabric_work_at(qp, qp->arrived);
		struct fabric_qp *peer = fabric_peer_of(qp);
		if (is_local(qp, work) || work->forced || !peer ||
		    fabric_respond(qp, work, peer) != FABRIC_DONE)
			return;
		qp->arrived++;
	}
}

/* ---- completions ---- */

static enum ibv_wc_opcode opcode_of(enum ibv_wr_opcode opcode)
{
	switch (opcode) {
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		return IBV_WC_RDMA_WRITE;
	case IBV_WR_RDMA_READ:
		return IBV_WC_RDMA_READ;
	case IBV_WR_BIND_MW:
		return IBV_WC_BIND_MW;
	case IBV_WR_LOCAL_INV:
		return IBV_WC_LOCAL_INV;
	default:
		return IBV_WC_SEND;
	}
}

/* One completes, the next of those that were not answered. */
static void complete(struct fabric_qp *qp, enum ibv_wc_status status)
{
	struct fabric_work *work = fabric_work_at(qp, qp->answered);
	const struct fabric_cqe cqe = {
		.wc = {.wr_id = work->wr.wr_id,
		       .status = status,
		       .opcode = opcode_of(work->wr.opcode),
		       .byte_len = (uint32_t)work->length,
		       .qp_num = qp->pub.qp_num},
		.qp = qp,
		.retire = qp->answered + 1,
	};

	fabric_free(work->data);
	work->data = NULL;
	qp->reads -= work->counted_read;
	work->counted_read = false;
	qp->answered++;
	if (status != IBV_WC_SUCCESS || work->wr.send_flags & IBV_SEND_SIGNALED ||
	    qp->init.sq_sig_all)
		fabric_complete(qp->send_cq, &cqe, false);
}

/* What a read brought goes where it was to. */
static enum ibv_wc_status finish_read(struct fabric_qp *qp, struct fabric_work *work)
{
	if (work->wr.opcode != IBV_WR_RDMA_READ || work->status != IBV_WC_SUCCESS)
		return work->status;
	if (!fabric_local_allows(qp->pd, work->wr.sg_list, (uint32_t)work->wr.num_sge,
				 IBV_ACCESS_LOCAL_WRITE))
		return IBV_WC_LOC_PROT_ERR;
	fabric_scatter(work->wr.sg_list, (uint32_t)work->wr.num_sge, 0, work->data, work->length);
	return IBV_WC_SUCCESS;
}

/* The answer does not come through: sent again, the request is answered again. */
static bool answer_is_lost(struct fabric_qp *qp, struct fabric_work *work)
{
	const struct fabric_device *device = qp->object.device;
	const struct fabric_device *peer;

	if (is_local(qp, work) || work->status != IBV_WC_SUCCESS)
		return false;
	peer = fabric_peer_device(qp);
	if (peer && fabric_path(peer, device))
		return false;
	if (gives_up(qp)) {
		work->status = IBV_WC_RETRY_EXC_ERR;
		qp->halted = true;
	}
	work->answer_ns = fabric_now(device->fabric) + device->limits.ack_timeout_ns;
	await_answer(qp, work);
	return true;
}

/* IBA 10.3.1: a datagram queue pair can send again, when it is told to. */
static void fail(struct fabric_qp *qp)
{
	if (qp->pub.qp_type == IBV_QPT_UD) {
		fabric_state_qp(qp, IBV_QPS_SQE);
		fabric_flush(qp);
	} else {
		fabric_error_qp(qp);
	}
}

static void answer(void *arg)
{
	struct fabric_qp *qp = arg;
	uint64_t now = fabric_now(qp->object.device->fabric);

	while (!qp->object.dead && is_under_way(qp) && qp->answered < qp->arrived) {
		struct fabric_work *work = fabric_work_at(qp, qp->answered);
		if (work->answer_ns > now || answer_is_lost(qp, work))
			return;
		enum ibv_wc_status status = finish_read(qp, work);
		complete(qp, status);
		if (status != IBV_WC_SUCCESS) {
			qp->halted = true; /* what is on its way does not arrive any more */
			fail(qp);
			return;
		}
		fabric_start_requests(qp);
	}
	if (!qp->object.dead)
		fabric_tell_drained(qp);
}

/* ---- flushing ---- */

static void flush_receives(struct fabric_qp *qp)
{
	const struct fabric_receive *receive;

	while ((receive = fabric_receives_take(&qp->receives))) {
		const struct fabric_cqe cqe = {
			.wc = {.wr_id = receive->wr_id,
			       .status = IBV_WC_WR_FLUSH_ERR,
			       .qp_num = qp->pub.qp_num},
		};
		fabric_complete(qp->recv_cq, &cqe, false);
	}
}

static void flush_now(void *arg)
{
	struct fabric_qp *qp = arg;

	if (qp->object.dead || qp->gone ||
	    (qp->pub.state != IBV_QPS_ERR && qp->pub.state != IBV_QPS_SQE))
		return;
	while (qp->answered < qp->posted)
		complete(qp, IBV_WC_WR_FLUSH_ERR);
	qp->started = qp->posted;
	qp->arrived = qp->posted;
	qp->halted = false;
	if (qp->pub.state == IBV_QPS_ERR)
		flush_receives(qp);
}

void fabric_flush(struct fabric_qp *qp)
{
	struct fabric *fabric = qp->object.device->fabric;

	fabric_put_event(fabric, fabric_now(fabric) + fabric_delay(fabric), flush_now, qp,
			 &qp->object);
}
