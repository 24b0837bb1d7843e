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
#include <stddef.h>
#include <string.h>

#define FRAMES_LOOK 64  /* frames that are given away between two looks at how many are left */
#define SMALL_BYTES 128 /* an object for so many is found in the fewest steps */

/* ---- frames ---- */

void rdma_frame_put(struct rdma_engine *re, char *frame)
{
	if (re->num_bare > 0 && re->num_free - re->num_bare < RDMA_SPARES)
		re->receives[re->free_receives[--re->num_bare]] = frame;
	else
		(void)heap_free(rdma_sched(re)->heap, frame);
}

/* A place of receives is free again, with the frame that was received into. */
static inline void free_place(struct rdma_engine *re, uint32_t place)
{
	re->free_receives[re->num_free++] = place;
}

/* Somebody has the frame. */
static inline void free_bare_place(struct rdma_engine *re, uint32_t place)
{
	re->receives[place] = NULL;
	re->free_receives[re->num_free++] = re->free_receives[re->num_bare];
	re->free_receives[re->num_bare++] = place;
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

/* The last of the free places without a frame gets one; NULL: memory is short. */
static char *fill_place(struct rdma_engine *re, uint32_t place)
{
	struct heap *heap = rdma_sched(re)->heap;
	const struct rdma_region *region;
	char *frame = heap_alloc_frame(heap);

	if (!frame)
		return NULL;
	if (unlikely(rdma_region_of(re, frame, &region))) {
		(void)heap_free(heap, frame);
		return NULL;
	}
	re->num_bare--;
	return re->receives[place] = frame;
}

static uint32_t prepare_receives(struct rdma_engine *re, struct ibv_recv_wr *wr,
				 struct ibv_sge *sge)
{
	uint32_t bytes = (uint32_t)rdma_sched(re)->heap->frame_bytes;
	uint32_t n = 0;

	while (n < RDMA_BATCH && (int32_t)n < re->post_wanted && n < re->num_free) {
		uint32_t place = re->free_receives[re->num_free - 1 - n];
		const struct rdma_region *region;
		char *frame = re->receives[place];
		if (!frame)
			frame = fill_place(re, place);
		if (!frame || rdma_region_of(re, frame, &region))
			break;
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
		if (unlikely(ibv_post_srq_recv(re->device.srq, wr, &bad)))
			posted = (uint32_t)(bad - wr);
		re->num_free -= posted;
		re->ungranted += (int32_t)posted;
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
	if (unlikely(rdma_due(conn) >= conn->due_enough))
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

/* An element of no bytes has an address, the end of a stream has none. */
static __attribute__((noinline)) char *other_object(struct rdma_engine *re, uint32_t bytes)
{
	return heap_alloc(rdma_sched(re)->heap, bytes + (bytes == 0));
}

/* An object for the payload of a frame, which is to be copied; NULL: the frame is given away. */
static inline char *object_for(struct rdma_engine *re, uint32_t bytes)
{
	uint32_t last = bytes - 1;

	if (likely(last < SMALL_BYTES))
		return heap_alloc(rdma_sched(re)->heap, (uint64_t)last + 1);
	return bytes < RDMA_COPY_BYTES || unlikely(re->frames_short) ? other_object(re, bytes)
								     : NULL;
}

static inline void copy_out(char *object, const char *frame, uint32_t bytes)
{
	memcpy(object, frame + sizeof(struct rdma_header), bytes);
}

static inline void set_element(struct op *op, char *frame, char *object, uint32_t bytes)
{
	op->sga_buf = object ? object : frame;
	op_set_segment(op, object ? object : frame + sizeof(struct rdma_header), bytes);
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
	struct sched *sched = rdma_sched(conn->engine);
	struct op *op;

	if (unlikely(conn->deaf)) {
		discard(conn);
		return;
	}
	while (rdma_queued(conn) > 0 && (op = op_list_first(&sched->ops, &conn->pops))) {
		struct rdma_entry *entry = &conn->entries[conn->head & conn->entries_mask];
		if (!entry->ready)
			break;
		set_element(op, entry->frame, entry->object, (uint32_t)entry->bytes);
		if (entry->kind == RDMA_ANNOUNCE)
			conn->read_bytes -= entry->bytes;
		uint64_t bytes = entry->bytes;
		rdma_entry_done(conn);
		sched_count(sched, COUNTER_BYTES_IN, bytes);
		op_list_remove_first(&sched->ops, &conn->pops, op);
		op_complete(sched, op, 0);
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

/* These return whether the frame is the receive's again. */

static bool queue_entry(struct rdma_conn *conn, char *frame, uint8_t kind, uint64_t bytes)
{
	struct rdma_entry *entry = &conn->entries[conn->tail & conn->entries_mask];
	bool whole = kind == RDMA_DATA;
	char *object = whole ? object_for(conn->engine, (uint32_t)bytes) : NULL;

	*entry = (struct rdma_entry){
		.frame = frame, .object = object, .bytes = bytes, .kind = kind, .ready = whole};
	if (object) {
		copy_out(object, frame, (uint32_t)bytes);
		entry->frame = NULL;
	} else {
		frame_out(conn->engine);
	}
	if (conn->asked == conn->tail && whole)
		conn->asked++;
	conn->tail++;
	return object;
}

static bool drop_message(struct rdma_conn *conn)
{
	consumed(conn);
	return true;
}

static bool liar(struct rdma_conn *conn)
{
	(void)drop_message(conn);
	rdma_conn_fail(conn, -ECONNRESET);
	return true;
}

static bool receive_announced(struct rdma_conn *conn, char *frame)
{
	uint64_t announced = rdma_announced_bytes(conn, frame);

	if (announced == 0)
		return liar(conn);
	bool kept = queue_entry(conn, frame, RDMA_ANNOUNCE, announced);
	rdma_deliver(conn);
	return kept;
}

static bool receive_data(struct rdma_conn *conn, char *frame, uint32_t bytes)
{
	if (conn->deaf)
		return drop_message(conn);
	bool kept = queue_entry(conn, frame, RDMA_DATA, bytes);
	if (!op_list_empty(&conn->pops))
		rdma_deliver(conn);
	return kept;
}

/* Everything but an element that somebody waits for. */
static __attribute__((noinline)) bool receive_other(struct rdma_conn *conn, char *frame,
						    uint32_t bytes)
{
	const struct rdma_header *header = (const struct rdma_header *)frame;

	if (le32toh(header->length) != bytes || conn->in_ended)
		return liar(conn);
	if (header->kind == RDMA_DATA)
		return receive_data(conn, frame, bytes);
	if (header->kind == RDMA_ANNOUNCE && bytes % sizeof(struct rdma_piece) == 0)
		return receive_announced(conn, frame);
	if (header->kind != RDMA_END || bytes > 0)
		return liar(conn);
	conn->in_ended = true;
	(void)drop_message(conn);
	rdma_deliver(conn);
	return true;
}

/* To the first pop that waits. */
static inline void deliver_now(struct rdma_engine *re, struct rdma_conn *conn, uint32_t place,
			       char *frame, uint32_t bytes)
{
	struct sched *sched = rdma_sched(re);
	struct op *op = op_list_first(&sched->ops, &conn->pops);
	char *object = object_for(re, bytes);

	sched_count(sched, COUNTER_BYTES_IN, bytes);
	set_element(op, frame, object, bytes);
	if (likely(object)) {
		copy_out(object, frame, bytes);
		free_place(re, place);
	} else {
		frame_out(re);
		free_bare_place(re, place);
	}
	re->post_wanted++;
	if (unlikely(conn->open <= conn->open_enough)) /* consumed(): nothing is queued */
		rdma_owe(conn);
	op_list_remove_first(&rdma_sched(re)->ops, &conn->pops, op);
	op_complete(rdma_sched(re), op, 0);
}

/* Does the header say an element of so many bytes, and nothing that is not known yet? */
static inline bool is_element(const char *frame, uint32_t bytes)
{
	uint64_t start;

	static_assert(offsetof(struct rdma_header, length) == 0 &&
			      offsetof(struct rdma_header, kind) == 4 &&
			      offsetof(struct rdma_header, granted) == 8,
		      "length, kind and zeros");
	memcpy(&start, frame, sizeof(start));
	return le64toh(start) == (bytes | (uint64_t)RDMA_DATA << 32);
}

static inline void received(struct rdma_engine *re, struct rdma_conn *conn, uint32_t place,
			    uint32_t bytes)
{
	char *frame = re->receives[place];
	const struct rdma_header *header = (const struct rdma_header *)frame;
	uint32_t granted = le32toh(header->granted);
	uint32_t done = le32toh(header->done);

	if (likely(done == conn->done && granted - conn->granted <= RDMA_CREDITS_MAX &&
		   granted - conn->sent <= RDMA_CREDITS_MAX)) {
		conn->granted = granted;
	} else if (!rdma_take_counters(conn, granted, done)) {
		free_place(re, place);
		(void)drop_message(conn);
		return;
	}
	/* Where a pop waits and nothing is queued the stream has not ended. */
	if (likely(!op_list_empty(&conn->pops) && rdma_queued(conn) == 0 &&
		   is_element(frame, bytes)))
		deliver_now(re, conn, place, frame, bytes);
	else if (receive_other(conn, frame, bytes))
		free_place(re, place);
	else
		free_bare_place(re, place);
	if (unlikely(!list_empty(&conn->waits)))
		rdma_conn_more(conn);
}

/* A receive that brought no message that may be. */
static __attribute__((noinline)) void receive_failed(struct rdma_engine *re, struct rdma_conn *conn,
						     uint32_t place)
{
	free_place(re, place);
	re->ungranted--;
	re->post_wanted++;
	if (conn)
		rdma_conn_fail(conn, -ECONNRESET);
}

static inline void receive_completed(struct rdma_engine *re, const struct ibv_wc *wc)
{
	struct rdma_conn *conn = rdma_conn_by_qp(re, wc->qp_num);
	uint32_t place = (uint32_t)wc->wr_id;

	if (unlikely(!conn || wc->status != IBV_WC_SUCCESS)) {
		receive_failed(re, conn, place);
		return;
	}
	if (unlikely(--conn->open < 0)) {
		conn->open = 0;
		receive_failed(re, conn, place);
		return;
	}
	if (unlikely(conn->state == RDMA_ACCEPTING))
		rdma_established(conn);
	if (unlikely(wc->byte_len < sizeof(struct rdma_header))) {
		free_place(re, place);
		(void)liar(conn);
		return;
	}
	received(re, conn, place, wc->byte_len - (uint32_t)sizeof(struct rdma_header));
}

static inline void completed(struct rdma_engine *re, const struct ibv_wc *wc)
{
	if (likely(!(wc->wr_id & (RDMA_SEND_WR | RDMA_DATAGRAM_WR))))
		receive_completed(re, wc);
	else if (wc->wr_id & RDMA_DATAGRAM_WR)
		rdma_datagram_completed(re, wc);
	else
		rdma_send_completed(re, wc);
}

uint32_t rdma_take_batch(struct rdma_engine *re)
{
	struct ibv_wc wc[RDMA_BATCH];
	int n = ibv_poll_cq(re->device.cq, RDMA_BATCH, wc);

	if (n <= 0)
		return 0;
	const struct ibv_wc *at = wc;
	const struct ibv_wc *end = wc + n;
	do
		completed(re, at);
	while (++at != end);
	return (uint32_t)n;
}
