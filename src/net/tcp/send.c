/* SPDX-License-Identifier: MIT
 * net/tcp/send.c - pushes and the send queue.
 *
 * A push is admitted whole if the queue is below its limit (so one larger than the limit is taken
 * up when it is alone), else it waits its turn; its heap segments are referenced meanwhile, other
 * memory is read when it is admitted: until then the push is pending and the memory the
 * application's to keep. Admitted, heap segments are queued by reference and other memory by a
 * copy; the push is complete then, or with DEMI_PUSH_ACKED when the peer has acknowledged it.
 */
#include "net/tcp/mtu.h"
#include "net/tcp/recovery.h"

#include "sched/hold.h"

#include <errno.h>

/* ---- queues of pieces ---- */

bool tcp_queue_reserve(struct tcp_queue *q, struct heap *heap, uint32_t more)
{
	uint32_t capacity = q->capacity;

	if (likely(q->count + more <= capacity))
		return true;
	while (capacity < q->count + more)
		capacity *= 2;
	struct tcp_piece *pieces = heap_alloc(heap, capacity * sizeof(*pieces));
	if (!pieces)
		return false;
	for (uint32_t i = 0; i < q->count; i++)
		pieces[i] = *tcp_queue_at(q, i);
	if (q->pieces != q->own)
		(void)heap_free(heap, q->pieces);
	q->pieces = pieces;
	q->head = 0;
	q->capacity = capacity;
	return true;
}

void tcp_queue_shrink(struct tcp_queue *q, struct heap *heap)
{
	if (q->pieces != q->own)
		(void)heap_free(heap, q->pieces);
	tcp_queue_init(q);
}

/* ---- checked builds ---- */

#ifdef DEMI_CHECKED
#define CHECKED_BYTES_MAX 262144 /* a longer piece would be read too often */

/* Of a piece as it was pushed: object is where it began. */
static uint32_t sum_of(const struct tcp_piece *piece)
{
	const uint8_t *from = piece->object;
	uint64_t length = (uint64_t)(piece->data - from) + piece->length;
	uint32_t sum = 2166136261U; /* FNV-1a */

	for (uint64_t i = 0; i < length && length <= CHECKED_BYTES_MAX; i++)
		sum = (sum ^ from[i]) * 16777619U;
	return sum;
}

void tcp_verify_pushed(struct tcp_conn *conn, struct tcp_cursor at, uint32_t length)
{
	struct sched *sched = conn->net->sched;
	uint64_t have = 0;

	for (; have < length && at.index < conn->send_queue.count; at.index++, at.offset = 0) {
		struct tcp_piece *piece = tcp_queue_at(&conn->send_queue, at.index);
		have += piece->length - at.offset;
		uint32_t sum = sum_of(piece);
		if (sum == piece->sum)
			continue;
		piece->sum = sum;
		sched->counters.drops[DROP_TCP_MODIFIED]++;
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "memory at %p, pushed to the connection with port %u, was changed before "
			  "the peer acknowledged it: what is sent again differs",
			  piece->object, conn->remote_port);
	}
}
#endif

/* ---- admission ---- */

uint32_t tcp_send_limit(const struct tcp_conn *conn)
{
	const struct config *config = &conn->net->sched->config;
	uint64_t limit = conn->send_buffer;

	/* Twice the window: one in flight, one ready. */
	if (!conn->send_buffer_fixed && (uint64_t)conn->cc.cwnd * 2 > limit)
		limit = (uint64_t)conn->cc.cwnd * 2;
	if (!conn->send_buffer_fixed && limit > (uint64_t)config->tcp_send_buffer_max_bytes)
		limit = (uint64_t)config->tcp_send_buffer_max_bytes;
	return (uint32_t)limit;
}

/* May a push be admitted?  One is even beyond TCP_NOTSENT_LOWAT by whatever it holds. */
static bool has_room(const struct tcp_conn *conn)
{
	if (likely(conn->queued == 0))
		return true;
	return conn->queued < tcp_send_limit(conn) &&
	       (likely(conn->notsent_lowat == 0) || tcp_unsent(conn) < conn->notsent_lowat);
}

/* An object of ours with a copy of the application's memory: one library reference.  NULL: no
 * memory. */
static uint8_t *copy_foreign(struct heap *heap, const struct iovec *from)
{
	uint8_t *copy = heap_alloc(heap, from->iov_len);

	if (copy) {
		memcpy(copy, from->iov_base, from->iov_len);
		heap_take_over(copy);
	}
	return copy;
}

static bool append_piece(struct tcp_conn *conn, uint32_t seq, struct iovec segment, bool ours)
{
	struct heap *heap = conn->net->heap;
	uint8_t *data = segment.iov_base;

	if (unlikely(!ours)) {
		data = copy_foreign(heap, &segment);
		if (!data)
			return false;
	} else {
		heap_ref_library(data);
	}
	struct tcp_piece *piece = tcp_queue_append(&conn->send_queue);
	*piece = (struct tcp_piece){
		.data = data,
		.object = data,
		.length = (uint32_t)segment.iov_len,
		.seq = seq,
	};
#ifdef DEMI_CHECKED
	piece->sum = sum_of(piece);
#endif
	return true;
}

/* Takes back the last count pieces: a push that could not be admitted whole. */
static void take_back(struct tcp_conn *conn, uint32_t count)
{
	struct tcp_queue *q = &conn->send_queue;

	while (count-- > 0) {
		const struct tcp_piece *piece = tcp_queue_at(q, --q->count);
		heap_unref_library(conn->net->heap, piece->object);
	}
}

/* 0 or -ENOMEM, then nothing was queued. */
static int admit(struct tcp_conn *conn, struct op *op)
{
	uint32_t first = conn->snd_base + (uint32_t)conn->queued;
	uint32_t ours = op_ours(op);
	uint32_t pieces = 0;
	uint64_t bytes = 0;

	if (!tcp_queue_reserve(&conn->send_queue, conn->net->heap, op->numsegs))
		return -ENOMEM;
	for (uint32_t i = 0; i < op->numsegs; i++) {
		struct iovec segment = op_segment(op, i);
		if (segment.iov_len == 0)
			continue;
		if (!append_piece(conn, first + (uint32_t)bytes, segment, ours >> i & 1)) {
			take_back(conn, pieces);
			return -ENOMEM;
		}
		pieces++;
		bytes += segment.iov_len;
	}
	if (conn->queued == 0 && conn->snd_nxt == conn->snd_una)
		conn->progress_ns = conn->net->sched->now_ns;
	conn->queued += bytes;
	sched_count(conn->net->sched, COUNTER_BYTES_OUT, bytes);
	return 0;
}

/* What follows admission: the push is complete, or waits for its last byte's ACK. */
static void admitted(struct tcp_conn *conn, struct op *op)
{
	struct sched *sched = conn->net->sched;

	tcp_want_output(conn);
	if (likely(!conn->push_acked)) {
		op_complete(sched, op, 0);
		return;
	}
	op->flags |= OP_STARTED;
	/* Where it ends, counted in bytes that were ever acknowledged or are queued. */
	op->transport = (void *)(uintptr_t)(conn->bytes_acked + conn->queued);
	op_list_append(&sched->ops, &conn->unacked, op);
}

static int check_push(const struct tcp_conn *conn, const struct op *op)
{
	if (conn->state < TCPS_ESTABLISHED && !conn->connected_once)
		return -ENOTCONN;
	if (conn->fin_queued || conn->shut_later)
		return -EPIPE;
	return op_bytes(op) == 0 ? -EINVAL : 0;
}

int tcp_push(struct tcp_conn *conn, struct op *op)
{
	struct sched *sched = conn->net->sched;
	int err = check_push(conn, op);

	if (unlikely(err))
		return err;
	if (unlikely(conn->state != TCPS_ESTABLISHED && conn->state != TCPS_CLOSE_WAIT)) {
		op_complete(sched, op, conn->error ? conn->error : EPIPE);
		return 0;
	}
	if (likely(op_list_empty(&conn->pushes)) && has_room(conn)) {
		err = admit(conn, op);
		if (!err)
			admitted(conn, op);
		return err;
	}
	hold_segments(op);
	op_list_append(&sched->ops, &conn->pushes, op);
	return 0;
}

/* Takes pushes up while there is room. */
static void admit_waiting(struct tcp_conn *conn)
{
	struct sched *sched = conn->net->sched;
	struct op *op;

	while ((op = op_list_first(&sched->ops, &conn->pushes)) && has_room(conn)) {
		int err = admit(conn, op);
		op_list_remove(&sched->ops, &conn->pushes, op);
		release_segments(conn->net->heap, op);
		if (err)
			op_complete(sched, op, -err);
		else
			admitted(conn, op);
	}
	tcp_shutdown_pushed(conn);
}

/* ---- acknowledged, given up ---- */

static void complete_acked(struct tcp_conn *conn)
{
	struct sched *sched = conn->net->sched;
	struct op *op;

	while ((op = op_list_first(&sched->ops, &conn->unacked)) &&
	       (uintptr_t)op->transport <= conn->bytes_acked) {
		op_list_remove(&sched->ops, &conn->unacked, op);
		op->transport = NULL;
		op_complete(sched, op, 0);
	}
}

struct tcp_cursor tcp_send_at(struct tcp_conn *conn, uint32_t seq)
{
	struct tcp_queue *q = &conn->send_queue;
	uint32_t low = 0;
	uint32_t high = q->count; /* the piece that holds it is before it */

	while (low + 1 < high) {
		uint32_t middle = (low + high) / 2;
		if (seq_after(tcp_queue_at(q, middle)->seq, seq))
			high = middle;
		else
			low = middle;
	}
	return (struct tcp_cursor){
		.index = low,
		.offset = q->count > 0 ? seq - tcp_queue_at(q, low)->seq : 0,
	};
}

/* Moves a cursor that stands pieces further from the head and bytes into the first one. */
static void cursor_dropped(struct tcp_conn *conn, uint32_t pieces)
{
	if (conn->cursor.index >= pieces)
		conn->cursor.index -= pieces;
	else
		conn->cursor = (struct tcp_cursor){0};
}

void tcp_send_acked(struct tcp_conn *conn, uint32_t bytes)
{
	struct heap *heap = conn->net->heap;
	uint32_t pieces = 0;
	uint32_t left = bytes;

	while (left > 0) {
		struct tcp_piece *piece = tcp_queue_at(&conn->send_queue, 0);
		if (piece->length > left) {
			piece->data += left;
			piece->length -= left;
			piece->seq += left;
			if (conn->cursor.index == pieces)
				conn->cursor.offset =
					conn->cursor.offset > left ? conn->cursor.offset - left : 0;
			break;
		}
		left -= piece->length;
		heap_unref_library(heap, piece->object);
		tcp_queue_drop_first(&conn->send_queue, heap);
		pieces++;
	}
	cursor_dropped(conn, pieces);
	conn->snd_base += bytes;
	conn->queued -= bytes;
	if (unlikely(!op_list_empty(&conn->unacked)))
		complete_acked(conn);
	if (unlikely(!op_list_empty(&conn->pushes)))
		admit_waiting(conn);
}

void tcp_send_free(struct tcp_conn *conn)
{
	struct heap *heap = conn->net->heap;

	for (uint32_t i = 0; i < conn->send_queue.count; i++)
		heap_unref_library(heap, tcp_queue_at(&conn->send_queue, i)->object);
	tcp_queue_shrink(&conn->send_queue, heap);
	tcp_scoreboard_free(&conn->sb);
	tcp_trouble_free(conn);
	tcp_mtu_free(conn);
	conn->recovery = TCP_OPEN;
	conn->queued = 0;
	conn->cursor = (struct tcp_cursor){0};
}

void tcp_cancel_push(struct tcp_conn *conn, struct op *op)
{
	struct sched *sched = conn->net->sched;

	op_list_remove(&sched->ops, &conn->pushes, op);
	release_segments(conn->net->heap, op);
	op_complete(sched, op, ECANCELED);
	tcp_shutdown_pushed(conn);
}

void tcp_fail_pushes(struct tcp_conn *conn, int err)
{
	struct sched *sched = conn->net->sched;
	struct op *op;

	conn->shut_later = false;
	while ((op = op_list_take(&sched->ops, &conn->pushes))) {
		release_segments(conn->net->heap, op);
		op_complete(sched, op, err);
	}
	while ((op = op_list_take(&sched->ops, &conn->unacked))) {
		op->transport = NULL;
		op_complete(sched, op, err);
	}
}
