/* SPDX-License-Identifier: MIT
 * net/tcp/receive.c - data that was received, pops, the window, when an ACK is owed.  RFC
 * 9293 3.8.6, 3.10.7.4 seventh and eighth; RFC 5681 4.2; RFC 2018, RFC 2883.
 *
 * Payload of at least TCP_COPY_BYTES that fills half of its frame is handed over in the frame; else
 * it is copied to an object of its size, and so is all payload while frames are short.  A pop that
 * waits gets its piece at once; else the piece is queued.
 */
#include "net/tcp/tcp.h"

#include <errno.h>

#define QUICK_ACK_FULL 2  /* place among the choices of demitasse.tcp.quick_ack */
#define PIECE_HELD_MIN 64 /* what the smallest piece costs, its place in the queue included */

/* ---- pieces ---- */

static bool copy_out(struct tcp_conn *conn, const struct tcp_segment *seg, struct tcp_piece *piece)
{
	uint8_t *object = heap_alloc(conn->net->heap, seg->length);

	if (unlikely(!object)) {
		net_count_drop(conn->net, DROP_TCP_MEMORY);
		return false;
	}
	memcpy(object, seg->data, seg->length);
	*piece = (struct tcp_piece){
		.data = object,
		.object = object,
		.length = seg->length,
		.held = seg->length > PIECE_HELD_MIN ? seg->length : PIECE_HELD_MIN,
	};
	return true;
}

/* What of a segment is kept, in an object of its own or in its frame, which is taken then. */
static inline bool make_piece(struct tcp_conn *conn, struct tcp_segment *seg,
			      struct tcp_piece *piece)
{
	const struct net *net = conn->net;

	if (seg->length < TCP_COPY_BYTES || unlikely(net->frames_short) ||
	    seg->length * 2 < net->heap->frame_bytes)
		return copy_out(conn, seg, piece);
	*piece = (struct tcp_piece){
		.data = (uint8_t *)(uintptr_t)seg->data,
		.object = seg->frame,
		.length = seg->length,
		.held = (uint32_t)net->heap->frame_bytes,
	};
	seg->frame = NULL;
	return true;
}

static inline void give(struct op *op, const struct tcp_piece *piece)
{
	op->sga_buf = piece->object;
	op_set_segment(op, piece->data, piece->length);
}

/* ---- the window ---- */

uint8_t tcp_receive_scale(const struct tcp_conn *conn)
{
	uint64_t max = conn->rcv_buffer;
	uint8_t scale = 0;

	if (!conn->receive_buffer_fixed &&
	    max < (uint64_t)conn->net->sched->config.tcp_receive_buffer_max_bytes)
		max = (uint64_t)conn->net->sched->config.tcp_receive_buffer_max_bytes;
	while (scale < TCP_WINDOW_SCALE_MAX && max >> scale > 65535)
		scale++;
	return scale;
}

static uint32_t buffer_free(const struct tcp_conn *conn)
{
	uint32_t held = conn->rcv_held + (conn->ooo ? tcp_ooo_held(conn->ooo) : 0);

	return held < conn->rcv_buffer ? conn->rcv_buffer - held : 0;
}

uint16_t tcp_window_to_advertise(struct tcp_conn *conn)
{
	uint32_t window = conn->rcv_adv - conn->rcv_nxt;
	uint32_t free = buffer_free(conn);
	uint32_t step = conn->rcv_buffer / 2 < conn->mss ? conn->rcv_buffer / 2 : conn->mss;
	uint32_t unit = (1U << conn->rcv_wscale) - 1;

	/* RFC 9293 3.8.6.2.2 MUST-39: the edge moves by a segment or half the buffer, or not at
	 * all; 3.8.6 SHLD-14: never back. */
	if (free >= window + step)
		window = free & ~unit;
	else
		window = (window + unit) & ~unit;
	uint32_t field = window >> conn->rcv_wscale;
	if (unlikely(field > 65535))
		field = 65535;
	conn->rcv_adv = conn->rcv_nxt + (field << conn->rcv_wscale);
	return (uint16_t)field;
}

/* The user took something: has the window grown enough to tell?  Twice what the peer knows of and a
 * segment more, so that a stream that flows is not acknowledged more often for it; within what the
 * header's field can say. */
static void consider_update(struct tcp_conn *conn)
{
	uint64_t known = conn->rcv_adv - conn->rcv_nxt;
	uint64_t most = (uint64_t)65535 << conn->rcv_wscale;
	uint64_t free = buffer_free(conn);

	if (free > most)
		free = most;
	if (!tcp_can_receive(conn) || free < 2 * known + conn->mss)
		return;
	conn->ack_now = true;
	tcp_want_output(conn);
}

/* The user takes data as fast as the path brings it: let the path bring more.  What was taken in
 * one round trip twice over is a buffer that does not limit the peer. */
void tcp_tune_buffer(struct tcp_conn *conn)
{
	uint64_t max = (uint64_t)conn->net->sched->config.tcp_receive_buffer_max_bytes;
	uint64_t wanted = 2 * conn->rcv_space;

	if (!conn->receive_buffer_fixed && wanted > conn->rcv_buffer)
		conn->rcv_buffer = (uint32_t)(wanted < max             ? wanted
					      : max > conn->rcv_buffer ? max
								       : conn->rcv_buffer);
	conn->rcv_space = 0;
	conn->rcv_space_ns = conn->net->sched->now_ns;
}

/* ---- acknowledging ---- */

/* Has the peer sent a segment of full size? */
static bool full_sized(const struct tcp_conn *conn)
{
	return conn->rcv_mss >= conn->mss;
}

void tcp_schedule_ack(struct tcp_conn *conn, bool now)
{
	conn->unacked_segments++;
	if (conn->quick_left > 0 &&
	    (conn->net->sched->config.tcp_quick_ack != QUICK_ACK_FULL || full_sized(conn))) {
		conn->quick_left--;
		now = true;
	}
	/* RFC 9293 3.8.6.3 SHLD-19: at least every second segment is acknowledged, a full one or
	 * not: a peer that sends small ones waits for its window to grow as well. */
	if (now || conn->unacked_segments >= 2) {
		conn->ack_now = true;
		tcp_want_output(conn);
	} else if (conn->deadline_ns[TCP_DELAYED_ACK] == 0) {
		tcp_set_deadline(conn, TCP_DELAYED_ACK,
				 conn->net->sched->now_ns +
					 (uint64_t)conn->net->sched->config.tcp_delayed_ack_ms *
						 1000000);
	}
}

/* ---- data ---- */

/* To the pop that waits, or into the queue.  False: no memory; the piece stays the caller's. */
static inline bool deliver(struct tcp_conn *conn, const struct tcp_piece *piece)
{
	struct sched *sched = conn->net->sched;

	if (likely(conn->receive_queue.count == 0)) {
		struct op *op = op_list_take(&sched->ops, &conn->pops);
		if (likely(op != NULL)) {
			give(op, piece);
			op_complete(sched, op, 0);
			tcp_note_taken(conn, piece->length);
			return true;
		}
	}
	if (!tcp_queue_reserve(&conn->receive_queue, conn->net->heap, 1)) {
		net_count_drop(conn->net, DROP_TCP_MEMORY);
		return false;
	}
	*tcp_queue_append(&conn->receive_queue) = *piece;
	conn->rcv_held += piece->held;
	return true;
}

/* Will nobody read what comes? */
static inline bool discards(const struct tcp_conn *conn)
{
	return unlikely(conn->read_shut) && !conn->net->sched->config.tcp_read_shut;
}

/* What was received ahead and is in order now. */
static void drain_ahead(struct tcp_conn *conn)
{
	struct heap *heap = conn->net->heap;
	uint32_t held = tcp_ooo_held(conn->ooo);
	struct tcp_piece piece;

	while (tcp_ooo_take(&conn->ooo, heap, conn->rcv_nxt, &piece)) {
		if (unlikely(discards(conn))) {
			(void)heap_free(heap, piece.object); /* nobody will read it */
		} else if (!deliver(conn, &piece)) {
			(void)heap_free(heap, piece.object); /* the peer sends it again */
			break;
		}
		conn->rcv_nxt += piece.length;
		conn->bytes_received += piece.length;
	}
	conn->net->tcp->ooo_held -= held - tcp_ooo_held(conn->ooo);
}

void tcp_drop_ahead(struct tcp_conn *conn)
{
	conn->net->tcp->ooo_held -= tcp_ooo_held(conn->ooo);
	tcp_ooo_free(&conn->ooo, conn->net->heap);
}

/* What data ahead may cost: what is free of the connection's buffer, and of what all connections
 * have together (attack row 17). */
static uint32_t ahead_max(const struct tcp_conn *conn)
{
	const struct net *net = conn->net;
	uint64_t others = net->tcp->ooo_held - tcp_ooo_held(conn->ooo);
	uint64_t max = (uint64_t)net->sched->config.tcp_out_of_order_max_bytes;
	uint32_t own = conn->rcv_buffer > conn->rcv_held ? conn->rcv_buffer - conn->rcv_held : 0;

	max = max > others ? max - others : 0;
	return own < max ? own : (uint32_t)max;
}

static bool receive_piece(struct tcp_conn *conn, struct tcp_segment *seg)
{
	struct tcp_piece piece;

	if (unlikely(!make_piece(conn, seg, &piece)))
		return false;
	if (likely(deliver(conn, &piece)))
		return true;
	(void)heap_free(conn->net->heap, piece.object);
	return false;
}

bool tcp_receive(struct tcp_conn *conn, struct tcp_segment *seg)
{
	uint32_t length = seg->length;
	bool filled = false;

	if (unlikely(discards(conn))) { /* nobody will read it; the peer may go on sending */
		conn->rcv_nxt += length;
		drain_ahead(conn); /* that came before it was shut */
		tcp_schedule_ack(conn, false);
		return true;
	}
	if (unlikely(!receive_piece(conn, seg)))
		return false;
	conn->rcv_nxt += length;
	conn->bytes_received += length;
	sched_count(conn->net->sched, COUNTER_BYTES_IN, length);
	if (length > conn->rcv_mss)
		conn->rcv_mss = (uint16_t)length;
	if (unlikely(conn->ooo != NULL)) {
		/* RFC 2883 4: the first part of it that was here already */
		if (conn->sack && conn->dsack.start == conn->dsack.end)
			(void)tcp_ooo_overlap(conn->ooo, conn->rcv_nxt, &conn->dsack);
		filled = true;
		drain_ahead(conn);
	}
	/* RFC 5681 4.2: at once if it fills a gap. */
	tcp_schedule_ack(conn, filled);
	return true;
}

void tcp_receive_out_of_order(struct tcp_conn *conn, struct tcp_segment *seg)
{
	struct net *net = conn->net;
	uint32_t held = tcp_ooo_held(conn->ooo);
	struct tcp_block duplicate = {0};
	struct tcp_piece piece;
	uint32_t seq = seg->h.seq;

	if (!discards(conn) && make_piece(conn, seg, &piece) &&
	    tcp_ooo_add(&conn->ooo, net->heap, conn->rcv_nxt, seq, &piece, ahead_max(conn),
			&duplicate))
		net_count_drop(net, DROP_TCP_MEMORY);
	net->tcp->ooo_held += (uint64_t)tcp_ooo_held(conn->ooo) - held;
	if (conn->sack && duplicate.start != duplicate.end)
		conn->dsack = duplicate;
	/* RFC 5681 4.2: one immediate ACK for each, which the peer counts. */
	tcp_send_ack(conn);
}

/* May the ACK of a FIN wait like that of data, as configured? */
static bool fin_waits(const struct tcp_conn *conn)
{
	return conn->net->sched->config.tcp_fin_ack && conn->state == TCPS_ESTABLISHED &&
	       conn->bytes_received > 0 && full_sized(conn) && !conn->ack_now;
}

/* RFC 9293 3.10.7.4 eighth.  rcv_nxt stands at the FIN. */
void tcp_receive_fin(struct tcp_conn *conn)
{
	conn->rcv_nxt++;
	/* RFC 9293 3.10.7.4 seventh: nothing comes behind a FIN; what claimed to is given up */
	tcp_drop_ahead(conn);
	conn->fin_received = true;
	conn->fin_ahead = false;
	if (unlikely(fin_waits(conn))) {
		conn->quick_left = 0;
		conn->dsack = (struct tcp_block){0};
		tcp_schedule_ack(conn, false);
	} else {
		conn->ack_now = true;
		tcp_want_output(conn);
	}
	switch (conn->state) {
	case TCPS_ESTABLISHED:
		tcp_set_state(conn, TCPS_CLOSE_WAIT);
		break;
	case TCPS_FIN_WAIT_1:
		tcp_set_state(conn, TCPS_CLOSING);
		break;
	case TCPS_FIN_WAIT_2:
		tcp_enter_time_wait(conn);
		break;
	default:
		break;
	}
	tcp_serve_pops(conn);
}

/* ---- pops ---- */

void tcp_fail_ops(struct tcp_conn *conn, struct op_list *list, int err)
{
	struct sched *sched = conn->net->sched;
	struct op *op;

	while ((op = op_list_take(&sched->ops, list)))
		op_complete(sched, op, err);
}

/* Nothing more will come? */
static bool ended(const struct tcp_conn *conn)
{
	return conn->fin_received || conn->read_shut || conn->state == TCPS_CLOSED;
}

static void complete_end(struct tcp_conn *conn, struct op *op)
{
	int err = conn->fin_received || conn->read_shut ? 0 : conn->error;

	if (!err)
		op_set_segment(op, NULL, 0);
	op_complete(conn->net->sched, op, err);
}

static void complete_first(struct tcp_conn *conn, struct op *op)
{
	const struct tcp_piece *piece = tcp_queue_at(&conn->receive_queue, 0);
	uint32_t length = piece->length;

	give(op, piece);
	conn->rcv_held -= piece->held;
	tcp_queue_drop_first(&conn->receive_queue, conn->net->heap);
	op_complete(conn->net->sched, op, 0);
	tcp_note_taken(conn, length);
	consider_update(conn);
}

void tcp_serve_pops(struct tcp_conn *conn)
{
	struct sched *sched = conn->net->sched;
	struct op *op;

	if (conn->state == TCPS_LISTEN)
		return;
	while (ended(conn) && (op = op_list_take(&sched->ops, &conn->pops))) {
		if (conn->receive_queue.count > 0)
			complete_first(conn, op);
		else
			complete_end(conn, op);
	}
}

int tcp_pop(struct tcp_conn *conn, struct op *op)
{
	if (unlikely(conn->state < TCPS_ESTABLISHED && !conn->connected_once))
		return -ENOTCONN;
	if (conn->receive_queue.count > 0)
		complete_first(conn, op);
	else if (unlikely(ended(conn)))
		complete_end(conn, op);
	else
		op_list_append(&conn->net->sched->ops, &conn->pops, op);
	return 0;
}

void tcp_receive_free(struct tcp_conn *conn)
{
	struct heap *heap = conn->net->heap;

	for (uint32_t i = 0; i < conn->receive_queue.count; i++)
		(void)heap_free(heap, tcp_queue_at(&conn->receive_queue, i)->object);
	tcp_queue_shrink(&conn->receive_queue, heap);
	conn->rcv_held = 0;
	tcp_drop_ahead(conn);
}
