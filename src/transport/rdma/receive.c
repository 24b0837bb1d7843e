/* SPDX-License-Identifier: MIT
 * transport/rdma/receive.c - messages that come, pops, and the receives that are posted for them.
 *
 * A message is in the frame that it was received into until it is popped, and the popped element is
 * that frame; short ones are copied out, so that an application which keeps or never asks for them
 * holds little.  When frames are short all are.
 */
#include "transport/rdma/rdma.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>

#define FRAMES_LOOK                                                                   \
	64 /* frames that the application gets between two looks at how many are left \
	    */

/* ---- frames ---- */

void rdma_frame_put(struct rdma_engine *re, char *frame)
{
	if (likely(re->num_spares < RDMA_SPARES))
		re->spares[re->num_spares++] = frame;
	else
		(void)heap_free(rdma_sched(re)->heap, frame);
}

static inline char *frame_get(struct rdma_engine *re)
{
	if (likely(re->num_spares > 0))
		return re->spares[--re->num_spares];
	return heap_alloc_frame(rdma_sched(re)->heap);
}

static __attribute__((noinline)) void look_at_frames(struct rdma_engine *re)
{
	const struct heap *heap = rdma_sched(re)->heap;

	re->frames_out = 0;
	re->frames_short = heap_frames_left(heap) < heap_frames_max(heap) / 4;
}

/* The application, or a queue, keeps a frame. */
static inline void frame_out(struct rdma_engine *re)
{
	if (unlikely(++re->frames_out >= FRAMES_LOOK))
		look_at_frames(re);
}

static uint32_t prepare_receives(struct rdma_engine *re, struct ibv_recv_wr *wr,
				 struct ibv_sge *sge)
{
	uint32_t bytes = (uint32_t)rdma_sched(re)->heap->frame_bytes;
	uint32_t n = 0;

	while (n < RDMA_BATCH && (int32_t)n < re->post_wanted && n < re->num_free) {
		const struct rdma_region *region;
		char *frame = frame_get(re);
		if (!frame)
			break;
		if (unlikely(rdma_region_of(re, frame, &region))) {
			(void)heap_free(rdma_sched(re)->heap, frame);
			break;
		}
		uint32_t place = re->free_receives[re->num_free - 1 - n];
		re->receives[place] = frame;
		sge[n] = (struct ibv_sge){
			.addr = (uintptr_t)frame, .length = bytes, .lkey = region->mr->lkey};
		wr[n] = (struct ibv_recv_wr){
			.wr_id = place, .next = &wr[n + 1], .sg_list = &sge[n], .num_sge = 1};
		n++;
	}
	if (n > 0)
		wr[n - 1].next = NULL;
	return n;
}

uint32_t rdma_post_receives(struct rdma_engine *re, int32_t enough)
{
	struct ibv_recv_wr wr[RDMA_BATCH + 1];
	struct ibv_sge sge[RDMA_BATCH];
	struct ibv_recv_wr *bad;
	uint32_t total = 0;

	while (re->post_wanted >= enough) {
		uint32_t n = prepare_receives(re, wr, sge);
		uint32_t posted = n;
		if (n == 0)
			break;
		if (unlikely(ibv_post_srq_recv(re->device.srq, wr, &bad))) {
			posted = (uint32_t)(bad - wr);
			for (uint32_t i = posted; i < n; i++) {
				rdma_frame_put(re, re->receives[wr[i].wr_id]);
				re->receives[wr[i].wr_id] = NULL;
			}
		}
		re->num_free -= posted;
		re->posted += posted;
		re->post_wanted -= (int32_t)posted;
		total += posted;
		if (posted < n)
			break;
	}
	return total;
}

/* ---- elements ---- */

/* A message was taken: its credit is due, and a receive. */
static inline void consumed(struct rdma_conn *conn)
{
	conn->engine->post_wanted++;
	if (unlikely(++conn->due >= conn->due_enough))
		rdma_owe(conn);
}

void rdma_entry_done(struct rdma_conn *conn)
{
	if (conn->asked == conn->head)
		conn->asked++;
	conn->head++;
	if (conn->window > 0)
		consumed(conn);
}

/* An object with the payload of a frame, which goes; NULL: the frame is kept. */
static inline char *copy_out(struct rdma_engine *re, char *frame, uint32_t bytes)
{
	if (bytes >= RDMA_COPY_BYTES && likely(!re->frames_short))
		return NULL;
	/* An element of no bytes has an address, the end of a stream has none. */
	char *object = heap_alloc(rdma_sched(re)->heap, bytes + (bytes == 0));
	if (unlikely(!object))
		return NULL;
	memcpy(object, frame + sizeof(struct rdma_header), bytes);
	rdma_frame_put(re, frame);
	return object;
}

static inline void set_element(struct op *op, char *frame, char *object, uint32_t bytes)
{
	op->sga_buf = object ? object : frame;
	op_set_segment(op, object ? object : frame + sizeof(struct rdma_header), bytes);
}

static inline void pop_done(struct rdma_conn *conn, struct op *op, uint64_t bytes)
{
	struct sched *sched = rdma_sched(conn->engine);

	sched_count(sched, COUNTER_BYTES_IN, bytes);
	op_list_remove(&sched->ops, &conn->pops, op);
	op_complete(sched, op, 0);
}

static void end_pop(struct rdma_conn *conn, struct op *op)
{
	op->sga_buf = NULL;
	op_set_segment(op, NULL, 0);
	op_complete(rdma_sched(conn->engine), op, 0);
}

static void fail_pop(struct rdma_conn *conn, struct op *op)
{
	if (conn->in_ended || conn->deaf)
		end_pop(conn, op);
	else
		op_complete(rdma_sched(conn->engine), op, conn->error ? -conn->error : ECONNRESET);
}

void rdma_end_pops(struct rdma_conn *conn)
{
	struct op *op;

	while ((op = op_list_take(&rdma_sched(conn->engine)->ops, &conn->pops)))
		fail_pop(conn, op);
}

static void free_entry(struct rdma_conn *conn, struct rdma_entry *entry)
{
	if (entry->frame)
		rdma_frame_put(conn->engine, entry->frame);
	if (entry->object)
		(void)heap_free(rdma_sched(conn->engine)->heap, entry->object);
	if (entry->kind == RDMA_ANNOUNCE && entry->object)
		conn->read_bytes -= entry->bytes;
}

/* Nobody wants what is there.  What is being read has to come first. */
static void discard(struct rdma_conn *conn)
{
	while (rdma_queued(conn) > 0) {
		struct rdma_entry *entry = &conn->entries[conn->head & conn->entries_mask];
		if (entry->object && !entry->ready)
			return;
		if (entry->kind == RDMA_ANNOUNCE && !entry->ready) {
			conn->in_done++;
			rdma_owe(conn);
		}
		free_entry(conn, entry);
		rdma_entry_done(conn);
	}
}

void rdma_deliver(struct rdma_conn *conn)
{
	const struct op_slab *ops = &rdma_sched(conn->engine)->ops;
	struct op *op;

	if (unlikely(conn->deaf)) {
		discard(conn);
		return;
	}
	while (rdma_queued(conn) > 0 && (op = op_list_first(ops, &conn->pops))) {
		struct rdma_entry *entry = &conn->entries[conn->head & conn->entries_mask];
		if (!entry->ready)
			break;
		set_element(op, entry->frame, entry->object, (uint32_t)entry->bytes);
		if (entry->kind == RDMA_ANNOUNCE)
			conn->read_bytes -= entry->bytes;
		uint64_t bytes = entry->bytes;
		rdma_entry_done(conn);
		pop_done(conn, op, bytes);
	}
	if (conn->asked != conn->tail)
		rdma_read_step(conn);
	if (rdma_queued(conn) == 0 && conn->in_ended)
		rdma_end_pops(conn);
}

int rdma_pop(struct rdma_conn *conn, struct op *op)
{
	if (unlikely(conn->deaf ||
		     (rdma_queued(conn) == 0 && (conn->in_ended || conn->state == RDMA_OVER)))) {
		fail_pop(conn, op);
		return 0;
	}
	op_list_append(&rdma_sched(conn->engine)->ops, &conn->pops, op);
	if (rdma_queued(conn) > 0)
		rdma_deliver(conn);
	return 0;
}

void rdma_go_deaf(struct rdma_conn *conn)
{
	struct op *op;

	conn->deaf = true;
	while ((op = op_list_take(&rdma_sched(conn->engine)->ops, &conn->pops)))
		end_pop(conn, op);
	discard(conn);
}

void rdma_entries_drop(struct rdma_conn *conn)
{
	while (rdma_queued(conn) > 0) {
		free_entry(conn, &conn->entries[conn->head & conn->entries_mask]);
		rdma_entry_done(conn);
	}
}

void rdma_entries_cut(struct rdma_conn *conn)
{
	uint32_t end = conn->head;

	while (end != conn->tail && conn->entries[end & conn->entries_mask].ready)
		end++;
	bool lost = end != conn->tail;
	while (conn->tail != end) {
		free_entry(conn, &conn->entries[--conn->tail & conn->entries_mask]);
		if (conn->window > 0)
			consumed(conn);
	}
	conn->asked = conn->tail;
	if (lost) /* before the end comes something that is not there */
		conn->in_ended = false;
}

/* ---- messages ---- */

static void queue_entry(struct rdma_conn *conn, char *frame, uint8_t kind, uint64_t bytes)
{
	struct rdma_entry *entry = &conn->entries[conn->tail & conn->entries_mask];
	bool whole = kind == RDMA_DATA;

	*entry = (struct rdma_entry){.frame = frame, .bytes = bytes, .kind = kind, .ready = whole};
	if (whole)
		entry->object = copy_out(conn->engine, frame, (uint32_t)bytes);
	if (entry->object)
		entry->frame = NULL;
	else
		frame_out(conn->engine);
	if (conn->asked == conn->tail && whole)
		conn->asked++;
	conn->tail++;
}

static void drop_message(struct rdma_conn *conn, char *frame)
{
	rdma_frame_put(conn->engine, frame);
	consumed(conn);
}

static void liar(struct rdma_conn *conn, char *frame)
{
	drop_message(conn, frame);
	rdma_conn_fail(conn, -ECONNRESET);
}

/* Everything but an element that somebody waits for. */
static void receive_other(struct rdma_conn *conn, char *frame, const struct rdma_header *header,
			  uint32_t bytes)
{
	if (le32toh(header->length) != bytes || conn->in_ended) {
		liar(conn, frame);
		return;
	}
	if (header->kind == RDMA_DATA && conn->deaf) {
		drop_message(conn, frame);
	} else if (header->kind == RDMA_DATA) {
		queue_entry(conn, frame, RDMA_DATA, bytes);
	} else if (header->kind == RDMA_END && bytes == 0) {
		conn->in_ended = true;
		drop_message(conn, frame);
		rdma_deliver(conn);
	} else if (header->kind == RDMA_ANNOUNCE && bytes % sizeof(struct rdma_piece) == 0) {
		uint64_t announced = rdma_announced_bytes(conn, frame);
		if (announced == 0) {
			liar(conn, frame);
			return;
		}
		queue_entry(conn, frame, RDMA_ANNOUNCE, announced);
		rdma_deliver(conn);
	} else {
		liar(conn, frame);
	}
}

static inline void deliver_now(struct rdma_conn *conn, struct op *op, char *frame, uint32_t bytes)
{
	struct rdma_engine *re = conn->engine;
	char *object = copy_out(re, frame, bytes);

	set_element(op, frame, object, bytes);
	if (!object)
		frame_out(re);
	consumed(conn);
	pop_done(conn, op, bytes);
}

static void received(struct rdma_conn *conn, char *frame, uint32_t length)
{
	struct rdma_header header;
	uint32_t bytes = length - (uint32_t)sizeof(header);

	memcpy(&header, frame, sizeof(header));
	uint32_t granted = le32toh(header.granted);
	uint32_t done = le32toh(header.done);
	if (likely(done == conn->done && granted - conn->granted <= RDMA_CREDITS_MAX &&
		   granted - conn->sent <= RDMA_CREDITS_MAX)) {
		conn->granted = granted;
	} else if (!rdma_take_counters(conn, granted, done)) {
		drop_message(conn, frame);
		return;
	}
	struct op *op = op_list_first(&rdma_sched(conn->engine)->ops, &conn->pops);
	if (likely(op && header.kind == RDMA_DATA && rdma_queued(conn) == 0 &&
		   le32toh(header.length) == bytes && !conn->in_ended))
		deliver_now(conn, op, frame, bytes);
	else
		receive_other(conn, frame, &header, bytes);
	if (unlikely(!list_empty(&conn->waits)))
		rdma_conn_more(conn);
}

/* A receive that brought no message that may be. */
static void receive_failed(struct rdma_engine *re, struct rdma_conn *conn, char *frame)
{
	rdma_frame_put(re, frame);
	re->post_wanted++;
	if (conn)
		rdma_conn_fail(conn, -ECONNRESET);
}

void rdma_received(struct rdma_engine *re, const struct ibv_wc *wc)
{
	uint32_t place = (uint32_t)wc->wr_id;
	char *frame = re->receives[place];
	struct rdma_conn *conn = rdma_conn_by_qp(re, wc->qp_num);

	re->receives[place] = NULL;
	re->free_receives[re->num_free++] = place;
	re->posted--;
	if (unlikely(!conn || wc->status != IBV_WC_SUCCESS ||
		     wc->byte_len < sizeof(struct rdma_header) ||
		     conn->in_received == conn->in_granted)) {
		receive_failed(re, conn, frame);
		return;
	}
	conn->in_received++;
	re->granted--;
	if (unlikely(conn->state == RDMA_ACCEPTING))
		rdma_established(conn);
	received(conn, frame, wc->byte_len);
}
