/* SPDX-License-Identifier: MIT
 * transport/rdma/datagram.c - datagrams that go out and come in.  See datagram.h.
 */
#include "transport/rdma/datagram.h"

#include "sched/datagram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *receive_at(const struct rdma_datagram *dg, uint32_t slot)
{
	return dg->memory + (uint64_t)slot * dg->piece_bytes;
}

static char *send_at(const struct rdma_datagram *dg, uint32_t slot)
{
	return receive_at(dg, DATAGRAM_RECEIVES + slot);
}

/* ---- the queue pair ---- */

static int post_receive(struct rdma_datagram *dg, uint32_t slot)
{
	struct ibv_sge sge = {.addr = (uintptr_t)receive_at(dg, slot),
			      .length = dg->piece_bytes,
			      .lkey = dg->key};
	struct ibv_recv_wr wr = {
		.wr_id = RDMA_DATAGRAM_WR | (uint64_t)dg->index << 32 | slot,
		.sg_list = &sge,
		.num_sge = 1,
	};
	struct ibv_recv_wr *bad;

	return ibv_post_recv(dg->qp_id->qp, &wr, &bad) ? -EIO : 0;
}

static int open_memory(struct rdma_datagram *dg)
{
	const struct rdma_region *region;
	uint64_t pieces = DATAGRAM_RECEIVES + DATAGRAM_SENDS;

	dg->piece_bytes = (DATAGRAM_GRH + dg->mtu + 63) & ~63U;
	dg->memory = heap_alloc(rdma_sched(dg->engine)->heap, pieces * dg->piece_bytes);
	if (!dg->memory)
		return -ENOMEM;
	int err = rdma_region_of(dg->engine, dg->memory, &region);
	if (!err)
		dg->key = region->mr->lkey;
	return err;
}

static int make_qp(struct rdma_datagram *dg, struct rdma_cm_id *id)
{
	const struct rdma_device *device = &dg->engine->device;
	struct ibv_qp_init_attr attr = {
		.send_cq = device->cq,
		.recv_cq = device->cq,
		.cap = {.max_send_wr = DATAGRAM_SENDS,
			.max_recv_wr = DATAGRAM_RECEIVES,
			.max_send_sge = 1,
			.max_recv_sge = 1},
		.qp_type = IBV_QPT_UD,
	};
	struct ibv_port_attr port;

	if (dg->engine->verbs->query_port(id->verbs, id->port_num ? id->port_num : 1, &port))
		return rdma_errno();
	dg->mtu = 128U << port.active_mtu;
	int err = open_memory(dg);
	if (err)
		return err;
	return dg->engine->verbs->create_qp(id, device->pd, &attr) ? rdma_errno() : 0;
}

/* id's device is the instance's. */
int rdma_datagram_open_qp(struct rdma_datagram *dg, struct rdma_cm_id *id)
{
	int err = make_qp(dg, id);

	dg->qp_id = id;
	for (uint32_t slot = 0; !err && slot < DATAGRAM_RECEIVES; slot++)
		err = post_receive(dg, slot);
	if (err)
		rdma_datagram_close_qp(dg);
	return err;
}

void rdma_datagram_close_qp(struct rdma_datagram *dg)
{
	const struct rdma_verbs *verbs = dg->engine->verbs;

	if (dg->qp_id && dg->qp_id->qp)
		verbs->destroy_qp(dg->qp_id);
	if (dg->qp_id && dg->qp_id != dg->id)
		(void)verbs->destroy_id(dg->qp_id);
	dg->qp_id = NULL;
	if (dg->memory)
		(void)heap_free(rdma_sched(dg->engine)->heap, dg->memory);
	dg->memory = NULL;
	dg->completed = dg->posted;
}

/* ---- out ---- */

static void fill_header(const struct rdma_datagram *dg, struct datagram_header *header,
			uint32_t bytes)
{
	*header = (struct datagram_header){.magic = htole16(DATAGRAM_MAGIC),
					   .length = htole32(bytes)};
	if (dg->domain == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&dg->local;
		header->family = htole32(4);
		header->port = in->sin_port;
		memcpy(header->address, &in->sin_addr, 4);
	} else {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&dg->local;
		header->family = htole32(6);
		header->port = in6->sin6_port;
		memcpy(header->address, &in6->sin6_addr, 16);
	}
}

static uint32_t fill_piece(const struct rdma_datagram *dg, char *piece, const struct op *op)
{
	char *to = piece + sizeof(struct datagram_header);
	uint32_t bytes = (uint32_t)op_bytes(op);

	fill_header(dg, (struct datagram_header *)piece, bytes);
	for (uint32_t i = 0; i < op->numsegs; i++) {
		struct iovec part = op_segment(op, i);
		memcpy(to, part.iov_base, part.iov_len);
		to += part.iov_len;
	}
	return (uint32_t)sizeof(struct datagram_header) + bytes;
}

/* 0, -EAGAIN: there is no room, or -errno. */
int rdma_datagram_send(struct rdma_datagram *dg, struct rdma_peer *peer, struct op *op)
{
	struct ibv_send_wr wr = {.num_sge = 1, .opcode = IBV_WR_SEND};
	struct ibv_send_wr *bad;

	if (op_bytes(op) > dg->mtu - sizeof(struct datagram_header))
		return -EMSGSIZE;
	if (dg->posted - dg->completed == DATAGRAM_SENDS)
		return -EAGAIN;
	char *piece = send_at(dg, dg->posted % DATAGRAM_SENDS);
	struct ibv_sge sge = {.addr = (uintptr_t)piece, .lkey = dg->key};
	sge.length = fill_piece(dg, piece, op);
	wr.wr_id = RDMA_SEND_WR | RDMA_DATAGRAM_WR | (uint64_t)dg->index << 32;
	wr.sg_list = &sge;
	wr.send_flags = IBV_SEND_SIGNALED;
	wr.wr.ud.ah = peer->ah;
	wr.wr.ud.remote_qpn = peer->qp_num;
	wr.wr.ud.remote_qkey = peer->qkey;
	int err = ibv_post_send(dg->qp_id->qp, &wr, &bad);
	if (err)
		return err > 0 ? -err : -EIO;
	dg->posted++;
	sched_count(rdma_sched(dg->engine), COUNTER_BYTES_OUT, op_bytes(op));
	return 0;
}

static int datagram_push(struct queue *queue, struct op *op, const struct sockaddr *to,
			 socklen_t length)
{
	struct rdma_datagram *dg = rdma_datagram_of(queue);
	struct rdma_peer *peer = dg->peer;

	if (dg->error || dg->write_shut)
		return dg->error ? dg->error : -EPIPE;
	if (!to && !peer)
		return -EDESTADDRREQ;
	int err = to ? rdma_peer_find(dg, to, length, &peer) : 0;
	if (err)
		return err;
	if (peer->ah && op_list_empty(&peer->pushes)) {
		err = rdma_datagram_send(dg, peer, op);
		if (!err)
			op_complete(queue->sched, op, 0);
		if (err != -EAGAIN)
			return err;
	}
	hold_segments(op);
	op->transport = peer;
	op_list_append(&queue->sched->ops, &peer->pushes, op);
	return 0;
}

/* What waits for a destination that is known now, or for room. */
void rdma_peer_flush(struct rdma_peer *peer)
{
	struct rdma_datagram *dg = peer->socket;
	struct sched *sched = rdma_sched(dg->engine);
	struct op *op;

	while (peer->ah && (op = op_list_first(&sched->ops, &peer->pushes))) {
		int err = rdma_datagram_send(dg, peer, op);
		if (err == -EAGAIN)
			return;
		op_list_remove(&sched->ops, &peer->pushes, op);
		release_segments(sched->heap, op);
		op_complete(sched, op, -err);
	}
}

/* ---- in ---- */

static void give(struct rdma_datagram *dg, struct op *op, const struct rdma_received *one)
{
	struct sched *sched = rdma_sched(dg->engine);

	datagram_set(op, one->object, one->bytes);
	sched_count(sched, COUNTER_BYTES_IN, one->bytes);
	op_complete(sched, op, 0);
}

static int datagram_pop(struct queue *queue, struct op *op)
{
	struct rdma_datagram *dg = rdma_datagram_of(queue);

	if (dg->tail != dg->head) {
		give(dg, op, &dg->received[dg->head++ % DATAGRAM_QUEUED]);
		return 0;
	}
	if (dg->error)
		return dg->error;
	op_list_append(&queue->sched->ops, &dg->pops, op);
	return 0;
}

static bool read_source(const struct rdma_datagram *dg, const struct datagram_header *header,
			struct datagram *to)
{
	memset(to, 0, sizeof(*to));
	if (dg->domain == AF_INET && header->family == htole32(4)) {
		to->source.in.sin_family = AF_INET;
		to->source.in.sin_port = header->port;
		memcpy(&to->source.in.sin_addr, header->address, 4);
		to->source_length = sizeof(to->source.in);
		return true;
	}
	to->source.in6.sin6_family = AF_INET6;
	to->source.in6.sin6_port = header->port;
	memcpy(&to->source.in6.sin6_addr, header->address, 16);
	to->source_length = sizeof(to->source.in6);
	return dg->domain == AF_INET6 && header->family == htole32(6);
}

/* The element of what was received; false: it is none. */
static bool take_in(struct rdma_datagram *dg, const char *piece, uint32_t length,
		    struct rdma_received *one)
{
	struct datagram_header header;

	if (length < DATAGRAM_GRH + sizeof(header))
		return false;
	memcpy(&header, piece + DATAGRAM_GRH, sizeof(header));
	one->bytes = length - DATAGRAM_GRH - (uint32_t)sizeof(header);
	if (header.magic != htole16(DATAGRAM_MAGIC) || le32toh(header.length) != one->bytes)
		return false;
	struct datagram *to =
		heap_alloc(rdma_sched(dg->engine)->heap, sizeof(*to) + one->bytes + !one->bytes);
	if (!to)
		return false;
	one->object = to;
	if (!read_source(dg, &header, to)) {
		(void)heap_free(rdma_sched(dg->engine)->heap, to);
		return false;
	}
	memcpy(to->data, piece + DATAGRAM_GRH + sizeof(header), one->bytes);
	return true;
}

static void received(struct rdma_datagram *dg, uint32_t slot, uint32_t length)
{
	struct sched *sched = rdma_sched(dg->engine);
	struct rdma_received one;
	bool full = dg->tail - dg->head == DATAGRAM_QUEUED;

	if (dg->closing)
		return;
	if (full || !take_in(dg, receive_at(dg, slot), length, &one)) {
		sched->counters.drops[full ? DROP_UDP_FULL : DROP_UDP_BAD]++;
		return;
	}
	struct op *op = op_list_take(&sched->ops, &dg->pops);
	if (op)
		give(dg, op, &one);
	else
		dg->received[dg->tail++ % DATAGRAM_QUEUED] = one;
}

static void sent(struct rdma_datagram *dg)
{
	dg->completed++;
	if (dg->closing && dg->completed == dg->posted) {
		rdma_datagram_free(dg);
		return;
	}
	list_for_each_safe (node, after, &dg->peers)
		rdma_peer_flush(container_of(node, struct rdma_peer, in_socket));
}

void rdma_datagram_completed(struct rdma_engine *re, const struct ibv_wc *wc)
{
	uint32_t index = (uint32_t)(wc->wr_id >> 32) & 0xffff;
	struct rdma_datagram *dg = re->datagrams[index];
	uint32_t slot = (uint32_t)wc->wr_id;

	if (!dg || !dg->qp_id || dg->qp_id->qp->qp_num != wc->qp_num)
		return; /* of one that is gone */
	if (wc->wr_id & RDMA_SEND_WR) {
		sent(dg);
		return;
	}
	if (wc->status != IBV_WC_SUCCESS)
		return; /* the queue pair is in error: the device says why */
	received(dg, slot, wc->byte_len);
	(void)post_receive(dg, slot);
}

/* ---- the end ---- */

static void fail_pops(struct rdma_datagram *dg, int err)
{
	struct sched *sched = rdma_sched(dg->engine);
	struct op *op;

	while ((op = op_list_take(&sched->ops, &dg->pops)))
		op_complete(sched, op, -err);
}

static void drop_peers(struct rdma_datagram *dg, int err)
{
	dg->peer = NULL;
	while (!list_empty(&dg->peers))
		rdma_peer_drop(container_of(dg->peers.next, struct rdma_peer, in_socket), err);
}

void rdma_datagram_fail(struct rdma_datagram *dg, int err)
{
	dg->error = err;
	fail_pops(dg, err);
	rdma_datagram_close_qp(dg);
	drop_peers(dg, err);
	if (dg->id)
		(void)dg->engine->verbs->destroy_id(dg->id);
	dg->id = NULL;
}

void rdma_datagram_free(struct rdma_datagram *dg)
{
	struct rdma_engine *re = dg->engine;

	rdma_datagram_fail(dg, -ECANCELED);
	while (dg->head != dg->tail)
		(void)heap_free(rdma_sched(re)->heap,
				dg->received[dg->head++ % DATAGRAM_QUEUED].object);
	re->num_lingering -= dg->closing;
	re->datagrams[dg->index] = NULL;
	free(dg);
}

/* The device is gone, or the instance ends: closed ones are freed. */
void rdma_datagrams_end(struct rdma_engine *re, int err)
{
	for (uint32_t i = 0; i < RDMA_DATAGRAMS; i++) {
		struct rdma_datagram *dg = re->datagrams[i];
		if (dg && dg->closing)
			rdma_datagram_free(dg);
		else if (dg)
			rdma_datagram_fail(dg, err);
	}
}

static void cancel_pushes(struct rdma_datagram *dg)
{
	struct sched *sched = rdma_sched(dg->engine);
	struct op *op;

	list_for_each (node, &dg->peers) {
		struct rdma_peer *peer = container_of(node, struct rdma_peer, in_socket);
		while ((op = op_list_take(&sched->ops, &peer->pushes))) {
			release_segments(sched->heap, op);
			op_complete(sched, op, ECANCELED);
		}
	}
}

static void datagram_close(struct queue *queue)
{
	struct rdma_datagram *dg = rdma_datagram_of(queue);

	fail_pops(dg, -ECANCELED);
	cancel_pushes(dg);
	if (dg->posted == dg->completed) {
		rdma_datagram_free(dg);
		return;
	}
	dg->closing = true;
	dg->engine->num_lingering++;
}

static void datagram_cancel(struct queue *queue, struct op *op)
{
	struct rdma_datagram *dg = rdma_datagram_of(queue);
	struct op_slab *ops = &queue->sched->ops;

	if (op->opcode == OP_PUSH) {
		struct rdma_peer *peer = op->transport;
		op_list_remove(ops, &peer->pushes, op);
		release_segments(queue->sched->heap, op);
	} else if (op->opcode == OP_CONNECT) {
		dg->peer->connect = NULL;
		dg->peer = NULL;
	} else {
		op_list_remove(ops, &dg->pops, op);
	}
	op_complete(queue->sched, op, ECANCELED);
}

static void datagram_describe(struct queue *queue, struct queue_info *info)
{
	const struct rdma_datagram *dg = rdma_datagram_of(queue);

	*info = (struct queue_info){
		.kind = "rdma datagram",
		.state = dg->peer ? "connected" : "unconnected",
		.local = dg->local,
		.pops_pending = op_list_length(&queue->sched->ops, &dg->pops),
		.elements = dg->tail - dg->head,
	};
	if (dg->peer)
		info->peer = dg->peer->address;
}

const struct queue_ops rdma_datagram_ops = {
	.push = datagram_push,
	.pop = datagram_pop,
	.take = queue_take_none,
	.cancel = datagram_cancel,
	.close = datagram_close,
	.describe = datagram_describe,
	.socket = &rdma_datagram_socket_ops,
};
