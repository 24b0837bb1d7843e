/* SPDX-License-Identifier: MIT
 * transport/rdma/offer.c - rendezvous, the side that sends: a message that is longer than the
 * peer's buffers is announced, and read by the peer where it is.
 *
 * Each segment gets a memory window of its own, bound to this queue pair for reading, exactly as
 * long as the segment, and closed before the memory is let go.  Where a device has no windows, a
 * region of its own does the same at the cost of system calls.
 */
#include "transport/rdma/rdma.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct rdma_offer *offer_at(const struct rdma_conn *conn, uint32_t number)
{
	return &conn->offers[number % RDMA_OFFERS];
}

/* ---- the memory ---- */

static void drop_memory(struct rdma_conn *conn, struct rdma_offer *offer)
{
	struct heap *heap = rdma_sched(conn->engine)->heap;

	for (uint32_t i = 0; i < offer->num_segments; i++) {
		if (offer->regions[i])
			(void)conn->engine->verbs->dereg_mr(offer->regions[i]);
		offer->regions[i] = NULL;
		if (offer->copied >> i & 1)
			(void)heap_free(heap, offer->refs[i]);
		else
			heap_unref_library(heap, offer->refs[i]);
	}
	offer->num_segments = 0;
	offer->copied = 0;
}

/* Memory that is not ours to lend is copied. */
static int take_segment(struct rdma_conn *conn, struct rdma_offer *offer, const struct op *op,
			uint32_t i)
{
	struct iovec part = op_segment(op, i);
	uint32_t n = offer->num_segments;

	if ((op_ours(op) >> i & 1) && rdma_own(part.iov_base)) {
		heap_ref_library(part.iov_base);
		offer->refs[n] = part.iov_base;
	} else {
		char *copy = heap_alloc(rdma_sched(conn->engine)->heap, part.iov_len);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, part.iov_base, part.iov_len);
		offer->refs[n] = copy;
		offer->copied |= 1U << n;
	}
	offer->num_segments++;
	return 0;
}

/* The key of a segment: a region of its own, or 0: its window will have one. */
static int prepare_key(struct rdma_conn *conn, struct rdma_offer *offer, uint32_t n,
		       uint32_t length, uint32_t *rkey)
{
	struct rdma_engine *re = conn->engine;
	const struct rdma_region *region;

	*rkey = 0;
	if (re->device.windows) {
		if (!offer->windows[n])
			offer->windows[n] = ibv_alloc_mw(re->device.pd, IBV_MW_TYPE_2);
		if (offer->windows[n])
			return rdma_region_of(re, offer->refs[n], &region);
	}
	offer->regions[n] =
		re->verbs->reg_mr(re->device.pd, offer->refs[n], length, IBV_ACCESS_REMOTE_READ);
	if (!offer->regions[n])
		return rdma_errno();
	*rkey = offer->regions[n]->rkey;
	return 0;
}

static int prepare(struct rdma_conn *conn, struct rdma_offer *offer, const struct op *op,
		   struct rdma_piece *pieces)
{
	for (uint32_t i = 0; i < op->numsegs; i++) {
		uint32_t length = (uint32_t)op_segment(op, i).iov_len;
		uint32_t n = offer->num_segments;
		if (length == 0)
			continue;
		int err = take_segment(conn, offer, op, i);
		if (!err)
			err = prepare_key(conn, offer, n, length, &pieces[n].rkey);
		if (err)
			return err;
		pieces[n].address = (uintptr_t)offer->refs[n];
		pieces[n].length = length;
	}
	return 0;
}

/* ---- windows ---- */

static int bind_window(struct rdma_conn *conn, struct rdma_offer *offer, uint32_t n,
		       struct rdma_piece *piece)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_BIND_MW};
	struct ibv_mw *window = offer->windows[n];
	const struct rdma_region *region;
	int err = rdma_region_of(conn->engine, offer->refs[n], &region);

	if (err)
		return err;
	(void)rdma_slot_next(conn, &wr);
	piece->rkey = ibv_inc_rkey(window->rkey);
	wr.bind_mw.mw = window;
	wr.bind_mw.rkey = piece->rkey;
	wr.bind_mw.bind_info = (struct ibv_mw_bind_info){
		.mr = region->mr,
		.addr = piece->address,
		.length = piece->length,
		.mw_access_flags = IBV_ACCESS_REMOTE_READ,
	};
	err = rdma_post(conn, &wr);
	if (!err)
		window->rkey = piece->rkey;
	return err;
}

static int announce(struct rdma_conn *conn, const struct rdma_piece *pieces, uint32_t count)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_SEND, .num_sge = 1};
	uint32_t length = count * (uint32_t)sizeof(*pieces);
	struct rdma_piece *to;
	char *bytes = rdma_slot_bytes(conn);

	(void)rdma_slot_next(conn, &wr);
	rdma_header(conn, (struct rdma_header *)bytes, RDMA_ANNOUNCE, length);
	to = (struct rdma_piece *)(bytes + sizeof(struct rdma_header));
	for (uint32_t i = 0; i < count; i++) {
		to[i].address = htole64(pieces[i].address);
		to[i].rkey = htole32(pieces[i].rkey);
		to[i].length = htole32(pieces[i].length);
	}
	struct ibv_sge sge = {.addr = (uintptr_t)bytes,
			      .length = (uint32_t)sizeof(struct rdma_header) + length,
			      .lkey = conn->slot_key};
	wr.sg_list = &sge;
	wr.send_flags = sge.length <= conn->inline_max ? IBV_SEND_INLINE : 0;
	return rdma_post_message(conn, &wr);
}

static int open_windows(struct rdma_conn *conn, struct rdma_offer *offer, struct rdma_piece *pieces)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < offer->num_segments; i++) {
		if (!offer->regions[i])
			err = bind_window(conn, offer, i, &pieces[i]);
	}
	return err;
}

int rdma_offer(struct rdma_conn *conn, struct op *op)
{
	struct rdma_piece pieces[OP_SEGMENTS_MAX] = {{.length = 0}};

	if (!conn->offers)
		conn->offers = calloc(RDMA_OFFERS, sizeof(*conn->offers));
	if (!conn->offers)
		return -ENOMEM;
	if (conn->announced - conn->released == RDMA_OFFERS || rdma_room(conn) < op->numsegs + 1U) {
		rdma_wait_for_word(conn);
		return -EAGAIN;
	}
	struct rdma_offer *offer = offer_at(conn, conn->announced);
	uint32_t posted = conn->posted;
	int err = prepare(conn, offer, op, pieces);
	if (!err)
		err = open_windows(conn, offer, pieces);
	if (!err)
		err = announce(conn, pieces, offer->num_segments);
	if (err && conn->posted == posted) {
		drop_memory(conn, offer);
		return err;
	}
	conn->announced++; /* what is open is closed with the queue pair at the latest */
	rdma_wait_for_word(conn);
	if (err)
		rdma_conn_fail(conn, err);
	return err ? conn->error : 0;
}

/* ---- when the peer has read ---- */

static uint32_t count_windows(const struct rdma_offer *offer)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < offer->num_segments; i++)
		n += offer->regions[i] == NULL;
	return n;
}

static int close_windows(struct rdma_conn *conn, const struct rdma_offer *offer, uint32_t left)
{
	for (uint32_t i = 0; i < offer->num_segments; i++) {
		struct ibv_send_wr wr = {.opcode = IBV_WR_LOCAL_INV};
		if (offer->regions[i])
			continue;
		struct rdma_slot *slot = rdma_slot_next(conn, &wr);
		wr.invalidate_rkey = offer->windows[i]->rkey;
		if (--left == 0) {
			slot->kind = RDMA_SLOT_INVALIDATE;
			wr.send_flags = IBV_SEND_SIGNALED;
		}
		int err = rdma_post(conn, &wr);
		if (err)
			return err;
	}
	return 0;
}

/* Those that had no window, or whose windows are closed. */
static void release_closed(struct rdma_conn *conn)
{
	while (conn->released != conn->invalidated) {
		struct rdma_offer *offer = offer_at(conn, conn->released);
		if (count_windows(offer) > 0)
			break;
		drop_memory(conn, offer);
		conn->released++;
	}
}

void rdma_offer_release(struct rdma_conn *conn)
{
	drop_memory(conn, offer_at(conn, conn->released));
	conn->released++;
	release_closed(conn);
}

void rdma_offers_step(struct rdma_conn *conn)
{
	while (conn->state == RDMA_OPEN && conn->invalidated != conn->done) {
		const struct rdma_offer *offer = offer_at(conn, conn->invalidated);
		uint32_t windows = count_windows(offer);
		if (rdma_room(conn) < windows)
			return;
		int err = close_windows(conn, offer, windows);
		if (err) {
			rdma_conn_fail(conn, err);
			return;
		}
		conn->invalidated++;
		release_closed(conn);
	}
}

void rdma_offers_shut(struct rdma_conn *conn)
{
	for (uint32_t i = 0; conn->offers && i < RDMA_OFFERS; i++) {
		struct rdma_offer *offer = &conn->offers[i];
		for (uint32_t n = 0; n < OP_SEGMENTS_MAX; n++) {
			if (offer->windows[n])
				(void)ibv_dealloc_mw(offer->windows[n]);
			offer->windows[n] = NULL;
		}
	}
}

void rdma_offers_drop(struct rdma_conn *conn)
{
	rdma_offers_shut(conn);
	for (uint32_t i = 0; conn->offers && i < RDMA_OFFERS; i++)
		drop_memory(conn, &conn->offers[i]);
	free(conn->offers);
	conn->offers = NULL;
	conn->invalidated = conn->done = conn->released = conn->announced;
}
