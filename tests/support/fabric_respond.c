/* tests/support/fabric_respond.c: see fabric.h.  The responder: what a request does where it
 * arrives (IBA 9.9.3, table 60), and datagrams. */
#include "support/fabric_own.h"

#include <arpa/inet.h>
#include <string.h>

/* ---- segments ---- */

static uint8_t *at_of(const struct ibv_sge *sge)
{
	return (uint8_t *)(uintptr_t)sge->addr;
}

uint64_t fabric_sge_bytes(const struct ibv_sge *sge, uint32_t num_sge)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < num_sge; i++)
		bytes += sge[i].length;
	return bytes;
}

void fabric_gather(uint8_t *to, const struct ibv_sge *sge, uint32_t num_sge)
{
	for (uint32_t i = 0; i < num_sge; i++) {
		if (sge[i].length > 0)
			memcpy(to, at_of(&sge[i]), sge[i].length);
		to += sge[i].length;
	}
}

void fabric_scatter(const struct ibv_sge *sge, uint32_t num_sge, uint64_t skip, const uint8_t *from,
		    uint64_t length)
{
	for (uint32_t i = 0; i < num_sge && length > 0; i++) {
		if (skip >= sge[i].length) {
			skip -= sge[i].length;
			continue;
		}
		uint64_t n = sge[i].length - skip;
		if (n > length)
			n = length;
		memcpy(at_of(&sge[i]) + skip, from, n);
		from += n;
		length -= n;
		skip = 0;
	}
}

static void copy(const struct ibv_sge *to, uint32_t num_to, const struct fabric_work *work)
{
	uint64_t done = 0;

	for (int i = 0; i < work->wr.num_sge; i++) {
		const struct ibv_sge *from = &work->wr.sg_list[i];
		fabric_scatter(to, num_to, done, at_of(from), from->length);
		done += from->length;
	}
}

/* ---- who ---- */

static bool listens(const struct fabric_qp *qp)
{
	return !qp->gone && (qp->pub.state == IBV_QPS_RTR || qp->pub.state == IBV_QPS_RTS ||
			     qp->pub.state == IBV_QPS_SQD || qp->pub.state == IBV_QPS_SQE);
}

struct fabric_qp *fabric_peer_of(const struct fabric_qp *qp)
{
	const struct fabric_device *device = qp->object.device;
	const struct fabric_device *other = fabric_peer_device(qp);
	struct fabric_qp *peer;

	if (!other || !fabric_path(device, other))
		return NULL;
	peer = fabric_find_qp(other, qp->attr.dest_qp_num);
	if (!peer || !listens(peer) || peer->pub.qp_type != IBV_QPT_RC ||
	    peer->attr.dest_qp_num != qp->pub.qp_num || fabric_peer_device(peer) != device)
		return NULL;
	return peer;
}

struct fabric_device *fabric_peer_device(const struct fabric_qp *qp)
{
	struct in6_addr address;

	memcpy(&address, &qp->attr.ah_attr.grh.dgid, sizeof(address));
	return fabric_find(qp->object.device->fabric, &address);
}

/* ---- receiving ---- */

static const struct fabric_pd *receive_pd(const struct fabric_qp *qp)
{
	return qp->srq ? (const struct fabric_pd *)(const void *)qp->srq->pub.pd : qp->pd;
}

static void complete(struct fabric_qp *qp, const struct ibv_wc *wc, bool solicited)
{
	const struct fabric_cqe cqe = {.wc = *wc};

	fabric_complete(qp->recv_cq, &cqe, solicited);
}

/* A receive ends with an error, and its queue pair with it. */
static enum fabric_outcome fail_receive(struct fabric_qp *to, const struct fabric_receive *receive,
					enum ibv_wc_status status)
{
	const struct ibv_wc wc = {
		.wr_id = receive->wr_id, .status = status, .qp_num = to->pub.qp_num};

	complete(to, &wc, false);
	fabric_error_qp(to);
	return FABRIC_DONE;
}

static void set_immediate(struct ibv_wc *wc, const struct ibv_send_wr *wr)
{
	if (wr->opcode == IBV_WR_SEND_WITH_IMM || wr->opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
		wc->wc_flags |= IBV_WC_WITH_IMM;
		wc->imm_data = wr->imm_data;
	} else if (wr->opcode == IBV_WR_SEND_WITH_INV) {
		wc->wc_flags |= IBV_WC_WITH_INV;
		wc->invalidated_rkey = wr->invalidate_rkey;
	}
}

static void receive_message(const struct fabric_qp *from, const struct fabric_work *work,
			    struct fabric_qp *to, const struct fabric_receive *receive)
{
	bool write = work->wr.opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	struct ibv_wc wc = {
		.wr_id = receive->wr_id,
		.status = IBV_WC_SUCCESS,
		.opcode = write ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV,
		.byte_len = (uint32_t)work->length,
		.qp_num = to->pub.qp_num,
		.src_qp = from->pub.qp_num,
	};

	set_immediate(&wc, &work->wr);
	complete(to, &wc, work->wr.send_flags & IBV_SEND_SOLICITED);
}

static enum fabric_outcome respond_send(const struct fabric_qp *from, struct fabric_work *work,
					struct fabric_qp *to)
{
	const struct fabric_receive *receive = fabric_take_receive(to);

	if (!receive) {
		to->object.device->counts.rnr++;
		return FABRIC_NOT_READY;
	}
	if (fabric_sge_bytes(receive->sge, receive->num_sge) < work->length) {
		work->status = IBV_WC_REM_INV_REQ_ERR;
		return fail_receive(to, receive, IBV_WC_LOC_LEN_ERR);
	}
	if (!fabric_local_allows(receive_pd(to), receive->sge, receive->num_sge,
				 IBV_ACCESS_LOCAL_WRITE)) {
		work->status = IBV_WC_REM_OP_ERR;
		return fail_receive(to, receive, IBV_WC_LOC_PROT_ERR);
	}
	/* Class J: no answer comes, the requester tries until it gives up. */
	if (work->wr.opcode == IBV_WR_SEND_WITH_INV &&
	    !fabric_invalidate(to, work->wr.invalidate_rkey)) {
		to->object.device->counts.refused++;
		(void)fail_receive(to, receive, IBV_WC_REM_INV_REQ_ERR);
		return FABRIC_LOST;
	}
	copy(receive->sge, receive->num_sge, work);
	to->object.device->counts.messages++;
	receive_message(from, work, to, receive);
	return FABRIC_DONE;
}

/* ---- one-sided ---- */

/* A request that is not allowed at all, or not with this key: both ends fail. */
static enum fabric_outcome refuse(struct fabric_work *work, struct fabric_qp *to,
				  enum ibv_wc_status status)
{
	bool key = status == IBV_WC_REM_ACCESS_ERR;

	work->status = status;
	to->object.device->counts.refused++;
	fabric_tell(to->object.device, key ? IBV_EVENT_QP_ACCESS_ERR : IBV_EVENT_QP_REQ_ERR,
		    &to->object, &to->pub);
	fabric_error_qp(to);
	return FABRIC_DONE;
}

static bool key_allows(const struct fabric_work *work, const struct fabric_qp *to,
		       unsigned int access)
{
	const struct ibv_send_wr *wr = &work->wr;

	return work->length == 0 ||
	       fabric_remote_allows(to->object.device, to, wr->wr.rdma.rkey,
				    wr->wr.rdma.remote_addr, work->length, access);
}

static enum fabric_outcome respond_write(const struct fabric_qp *from, struct fabric_work *work,
					 struct fabric_qp *to)
{
	const struct fabric_receive *receive = NULL;
	struct ibv_sge target = {.addr = work->wr.wr.rdma.remote_addr,
				 .length = (uint32_t)work->length};

	if (!(to->attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE))
		return refuse(work, to, IBV_WC_REM_INV_REQ_ERR);
	if (!key_allows(work, to, IBV_ACCESS_REMOTE_WRITE))
		return refuse(work, to, IBV_WC_REM_ACCESS_ERR);
	if (work->wr.opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
		receive = fabric_take_receive(to);
		to->object.device->counts.rnr += !receive;
		if (!receive)
			return FABRIC_NOT_READY;
	}
	copy(&target, 1, work);
	to->object.device->counts.writes++;
	if (receive)
		receive_message(from, work, to, receive);
	else
		fabric_wake_host(to->object.device, false); /* whoever looks at that memory */
	return FABRIC_DONE;
}

static enum fabric_outcome respond_read(const struct fabric_qp *from, struct fabric_work *work,
					struct fabric_qp *to)
{
	if (!(to->attr.qp_access_flags & IBV_ACCESS_REMOTE_READ) ||
	    from->reads > to->attr.max_dest_rd_atomic)
		return refuse(work, to, IBV_WC_REM_INV_REQ_ERR);
	if (!key_allows(work, to, IBV_ACCESS_REMOTE_READ))
		return refuse(work, to, IBV_WC_REM_ACCESS_ERR);
	work->data = fabric_alloc(work->length);
	if (work->length > 0)
		memcpy(work->data, (const void *)(uintptr_t)work->wr.wr.rdma.remote_addr,
		       work->length);
	to->object.device->counts.reads++;
	return FABRIC_DONE;
}

/* IBA 11.6.2.6: the first message before the queue pair was told that it is connected. */
static void come_to_life(struct fabric_qp *to)
{
	if (to->pub.state != IBV_QPS_RTR || to->told_alive)
		return;
	to->told_alive = true;
	fabric_tell(to->object.device, IBV_EVENT_COMM_EST, &to->object, &to->pub);
}

enum fabric_outcome fabric_respond(struct fabric_qp *from, struct fabric_work *work,
				   struct fabric_qp *to)
{
	bool read = work->wr.opcode == IBV_WR_RDMA_READ;

	work->status = IBV_WC_SUCCESS;
	if (work->length > FABRIC_MESSAGE_MAX)
		work->status = IBV_WC_LOC_LEN_ERR;
	else if (!work->inlined &&
		 !fabric_local_allows(from->pd, work->wr.sg_list, (uint32_t)work->wr.num_sge,
				      read ? IBV_ACCESS_LOCAL_WRITE : 0))
		work->status = IBV_WC_LOC_PROT_ERR;
	if (work->status != IBV_WC_SUCCESS)
		return FABRIC_DONE;
	come_to_life(to);
	fabric_note(from->object.device->fabric, (uint64_t)work->wr.opcode << 32 | work->length);
	switch (work->wr.opcode) {
	case IBV_WR_RDMA_READ:
		return respond_read(from, work, to);
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		return respond_write(from, work, to);
	default:
		return respond_send(from, work, to);
	}
}

/* ---- datagrams ---- */

/* RoCE (IBA annex A17): of a packet over IPv4 the last 20 of the 40 bytes are its header, the
 * others are not defined; over IPv6 they are the header. */
static void write_grh(uint8_t grh[FABRIC_GRH], const struct fabric_datagram *datagram)
{
	const uint8_t *source = datagram->source.s6_addr;
	const uint8_t *target = datagram->target.s6_addr;
	uint16_t payload = htons((uint16_t)(datagram->length + 28)); /* UDP, BTH, DETH, ICRC */

	memset(grh, FABRIC_UNDEFINED, FABRIC_GRH);
	if (IN6_IS_ADDR_V4MAPPED(&datagram->source)) {
		memset(grh + 20, 0, 20);
		grh[20] = 0x45;
		memcpy(grh + 22, &payload, sizeof(payload));
		grh[28] = 64;
		grh[29] = IPPROTO_UDP;
		memcpy(grh + 32, source + 12, 4);
		memcpy(grh + 36, target + 12, 4);
		return;
	}
	memset(grh, 0, 8);
	grh[0] = 0x60;
	memcpy(grh + 4, &payload, sizeof(payload));
	grh[6] = IPPROTO_UDP;
	grh[7] = 64;
	memcpy(grh + 8, source, 16);
	memcpy(grh + 24, target, 16);
}

static void receive_datagram(struct fabric_qp *to, const struct fabric_datagram *datagram,
			     const struct fabric_receive *receive)
{
	uint8_t grh[FABRIC_GRH];
	const struct ibv_wc wc = {
		.wr_id = receive->wr_id,
		.status = IBV_WC_SUCCESS,
		.opcode = IBV_WC_RECV,
		.byte_len = datagram->length + FABRIC_GRH,
		.imm_data = datagram->imm,
		.wc_flags = IBV_WC_GRH | (datagram->has_imm ? IBV_WC_WITH_IMM : 0U),
		.qp_num = to->pub.qp_num,
		.src_qp = datagram->src_qp,
	};

	if (!fabric_local_allows(receive_pd(to), receive->sge, receive->num_sge,
				 IBV_ACCESS_LOCAL_WRITE)) {
		(void)fail_receive(to, receive, IBV_WC_LOC_PROT_ERR);
		return;
	}
	write_grh(grh, datagram);
	fabric_scatter(receive->sge, receive->num_sge, 0, grh, FABRIC_GRH);
	fabric_scatter(receive->sge, receive->num_sge, FABRIC_GRH, datagram->data,
		       datagram->length);
	to->object.device->counts.datagrams++;
	complete(to, &wc, datagram->solicited);
}

/* IBA 9.8.3: what does not fit the receiver is dropped without a word. */
static uint64_t *why_not(struct fabric_qp *to, const struct fabric_datagram *datagram)
{
	struct fabric_counts *counts = &datagram->to->counts;
	const struct fabric_receive *next;

	if (!fabric_path(datagram->from, datagram->to) || !to || !listens(to) ||
	    to->pub.qp_type != IBV_QPT_UD)
		return &counts->lost;
	if (to->attr.qkey != datagram->qkey)
		return &counts->bad_qkey;
	next = fabric_next_receive(to);
	if (!next)
		return &counts->no_receive;
	if (fabric_sge_bytes(next->sge, next->num_sge) < datagram->length + FABRIC_GRH)
		return &counts->too_long;
	return NULL;
}

static void land(void *arg)
{
	struct fabric_datagram *datagram = arg;
	struct fabric_qp *to = fabric_find_qp(datagram->to, datagram->qp_num);
	uint64_t *reason = why_not(to, datagram);

	if (reason)
		(*reason)++;
	else
		receive_datagram(to, datagram, fabric_take_receive(to));
	list_remove(&datagram->link);
	fabric_free(datagram);
}

static enum ibv_wc_status check_datagram(const struct fabric_qp *from,
					 const struct fabric_work *work)
{
	const struct fabric_ah *ah = (const struct fabric_ah *)(const void *)work->wr.wr.ud.ah;

	if (ah->pub.pd != from->pub.pd)
		return IBV_WC_LOC_QP_OP_ERR;
	if (work->length > 128U << from->object.device->limits.mtu)
		return IBV_WC_LOC_LEN_ERR;
	if (!work->inlined &&
	    !fabric_local_allows(from->pd, work->wr.sg_list, (uint32_t)work->wr.num_sge, 0))
		return IBV_WC_LOC_PROT_ERR;
	return IBV_WC_SUCCESS;
}

static struct fabric_datagram *make_datagram(struct fabric_qp *from, const struct fabric_work *work)
{
	const struct fabric_ah *ah = (const struct fabric_ah *)(const void *)work->wr.wr.ud.ah;
	struct fabric_device *device = from->object.device;
	struct fabric_datagram *datagram = fabric_alloc(sizeof(*datagram) + work->length);
	uint32_t qkey = work->wr.wr.ud.remote_qkey;

	memcpy(&datagram->target, &ah->attr.grh.dgid, sizeof(datagram->target));
	datagram->from = device;
	datagram->to = fabric_find(device->fabric, &datagram->target);
	datagram->source = ah->attr.grh.sgid_index == FABRIC_GID_V4 ? device->v4 : device->v6;
	datagram->qp_num = work->wr.wr.ud.remote_qpn;
	datagram->src_qp = from->pub.qp_num;
	/* IBA 10.2.5: with the highest bit, the queue pair's own */
	datagram->qkey = qkey & 0x80000000U ? from->attr.qkey : qkey;
	datagram->has_imm = work->wr.opcode == IBV_WR_SEND_WITH_IMM;
	datagram->imm = work->wr.imm_data;
	datagram->solicited = work->wr.send_flags & IBV_SEND_SOLICITED;
	datagram->length = (uint32_t)work->length;
	fabric_gather(datagram->data, work->wr.sg_list, (uint32_t)work->wr.num_sge);
	return datagram;
}

void fabric_send_datagram(struct fabric_qp *from, struct fabric_work *work)
{
	struct fabric *fabric = from->object.device->fabric;

	work->status = check_datagram(from, work);
	if (work->status != IBV_WC_SUCCESS)
		return;
	struct fabric_datagram *datagram = make_datagram(from, work);
	uint64_t at_ns = fabric_now(fabric) + fabric_delay(fabric);
	if (fabric_happens(fabric, fabric->chance.overtake))
		at_ns += fabric_delay(fabric) * 3;
	else if (at_ns < from->last_datagram_ns)
		at_ns = from->last_datagram_ns;
	if (at_ns > from->last_datagram_ns)
		from->last_datagram_ns = at_ns;
	if (!datagram->to || fabric_happens(fabric, fabric->chance.lose)) {
		from->object.device->counts.lost++;
		fabric_free(datagram);
		return;
	}
	list_append(&fabric->datagrams, &datagram->link);
	fabric_put_event(fabric, at_ns, land, datagram, NULL);
}
