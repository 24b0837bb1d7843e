/* SPDX-License-Identifier: MIT
 * net/tcp/output.c - which segments leave: what is lost, then what is new, as far as the windows
 * and the pace let it.  RFC 9293 3.7.4 (Nagle), 3.8.6 (windows, silly window avoidance); RFC
 * 5681 3.1; RFC 6675 5; RFC 3042.
 *
 * What is pushed in one poll turn leaves together: tcp_flush calls tcp_output once for each
 * connection that asked.  An ACK that is owed rides on data if there is some.
 */
#include "net/tcp/mtu.h"
#include "net/tcp/recovery.h"
#include "net/tcp/segment.h"

/* RFC 3168 6.1.2 and 6.1.5: new data says that it understands marks; and once after the window was
 * reduced, that it was. */
static inline uint8_t mark_new_data(struct tcp_conn *conn, struct tcp_header *h, uint32_t length)
{
	if (likely(!conn->ecn) || length == 0)
		return IP_NOT_ECT;
	if (conn->ecn_cwr)
		h->flags |= TCP_CWR;
	conn->ecn_cwr = false;
	return IP_ECT_0;
}

static void advance_cursor(struct tcp_conn *conn, uint32_t bytes)
{
	struct tcp_cursor *at = &conn->cursor;

	at->offset += bytes;
	while (at->index < conn->send_queue.count) {
		uint32_t length = tcp_queue_at(&conn->send_queue, at->index)->length;
		if (at->offset < length)
			break;
		at->offset -= length;
		at->index++;
	}
}

/* ---- what goes out next ---- */

/* RFC 6675 5 (C), RFC 3042: what is SACKed, or stood for by a duplicate, has left the network; so
 * the first duplicates let out new segments by themselves. */
static inline uint32_t congestion_window_left(const struct tcp_conn *conn)
{
	uint32_t pipe = tcp_pipe(conn);

	return conn->cc.cwnd > pipe ? conn->cc.cwnd - pipe : 0;
}

struct next_segment {
	uint32_t length;
	bool fin;
	bool push;    /* it ends a burst */
	bool blocked; /* by the peer's window, with something to send */
};

/* RFC 9293 3.8.6.2.1 MUST-38 (silly window avoidance) and 3.7.4 SHLD-7 (Nagle).  length: what could
 * be sent, less than a full segment.  all: it is all there is. */
static bool worth_sending(const struct tcp_conn *conn, uint32_t length, bool all)
{
	if (all && !conn->cork && (conn->nodelay || conn->snd_nxt == conn->snd_una))
		return true;
	if (unlikely(conn->wait_small) && all && !conn->cork &&
	    !tcp_is_in_flight(conn, conn->snd_small))
		return true;
	return length >= conn->snd_wnd_max / 2 && length > 0 && !conn->cork;
}

static void choose_next(const struct tcp_conn *conn, struct next_segment *next)
{
	uint32_t sent = conn->snd_nxt - conn->snd_base;
	uint32_t in_flight = conn->snd_nxt - conn->snd_una;
	uint32_t usable = conn->snd_wnd > in_flight ? conn->snd_wnd - in_flight : 0;
	uint32_t window = congestion_window_left(conn);
	bool fin_waits = conn->fin_queued && conn->state >= TCPS_FIN_WAIT_1 && sent <= conn->queued;
	uint64_t available = sent < conn->queued ? conn->queued - sent : 0;

	if (window < usable)
		usable = window;
	*next = (struct next_segment){0};
	if (available == 0 && !fin_waits)
		return;
	uint32_t length = available < usable ? (uint32_t)available : usable;
	if (length > conn->mss)
		length = conn->mss;
	bool all = length == available;
	next->fin = fin_waits && all && usable > length;
	if (next->fin || length == conn->mss || (length > 0 && worth_sending(conn, length, all)))
		next->length = length;
	else
		next->blocked = conn->snd_wnd <= in_flight + length;
}

/* Where the device cuts segments: a full one becomes as many as there is data, window and device
 * for, if all of it can be read where it is. */
static __attribute__((noinline)) void choose_several(struct tcp_conn *conn,
						     struct next_segment *next)
{
	uint32_t in_flight = conn->snd_nxt - conn->snd_una;
	uint32_t usable = conn->snd_wnd - in_flight; /* a segment at least */
	uint32_t window = congestion_window_left(conn);
	uint64_t length = tcp_unsent(conn);

	if (conn->paced || conn->searching || conn->push_burst || conn->ecn_cwr || conn->ooo ||
	    conn->dsack.start != conn->dsack.end)
		return;
	length = length < usable ? length : usable;
	length = length < window ? length : window;
	length = length < conn->net->dev->cut_bytes ? length : conn->net->dev->cut_bytes;
	length -= length % conn->mss;
	if (length > conn->mss && tcp_can_cut(conn, (uint32_t)length, conn->cursor))
		next->length = (uint32_t)length;
}

/* RFC 9293 3.8.6.1: a window that is closed is probed, or an ACK that opened it and was lost would
 * stop the connection for ever. */
static void start_persist(struct tcp_conn *conn)
{
	if (conn->snd_nxt != conn->snd_una || conn->deadline_ns[TCP_RETRANSMIT])
		return;
	conn->persist = true;
	conn->retries = 0;
	tcp_set_deadline(conn, TCP_RETRANSMIT,
			 conn->net->sched->now_ns + tcp_rtt_timeout(&conn->rtt));
}

/* ---- pacing ---- */

/* Is it too early for the next segment?  Then output is looked at again in time. */
static bool pace_blocks(struct tcp_conn *conn)
{
	if (conn->net->sched->now_ns >= conn->paced_ns)
		return false;
	tcp_look_later(conn, conn->paced_ns);
	return true;
}

/* Bytes went out: the next may go when they have at the rate.  What was not sent in time may be
 * made up for within a millisecond: a timer is no finer than its turn. */
static void pace(struct tcp_conn *conn, uint32_t bytes)
{
	const uint64_t burst_ns = 1000000;
	uint64_t now = conn->net->sched->now_ns;
	uint64_t rate = tcp_cc_pacing_rate(&conn->cc, conn->rtt.srtt_ns);
	uint64_t limit = (uint64_t)conn->max_pacing_kbps * 1024;

	if (limit != 0 && (rate == 0 || rate > limit))
		rate = limit;
	if (rate == 0)
		return;
	if (conn->paced_ns + burst_ns < now)
		conn->paced_ns = now - burst_ns;
	conn->paced_ns += (uint64_t)bytes * 1000000000 / rate;
}

/* ---- new data ---- */

/* What only some connections, or those in trouble, have to remember of what they sent. */
static __attribute__((noinline)) void note_sent(struct tcp_conn *conn,
						const struct next_segment *next)
{
	if (conn->wait_small && next->length > 0 && next->length < conn->mss)
		conn->snd_small = conn->snd_nxt - next->fin;
	if (conn->recovery == TCP_RECOVERY)
		conn->trouble->prr_out += next->length + next->fin;
	if (conn->paced)
		pace(conn, next->length);
}

static bool send_next(struct tcp_conn *conn, const struct next_segment *next)
{
	struct sched *sched = conn->net->sched;
	struct tcp_header h;
	bool last = conn->snd_nxt - conn->snd_base + next->length == conn->queued;
	bool push = (last && !conn->more) || next->push;
	uint8_t flags = (uint8_t)(TCP_ACK | (next->fin ? TCP_FIN : 0) |
				  (next->length > 0 && push ? TCP_PSH : 0));

	tcp_fill_header(conn, &h, conn->snd_nxt, flags, next->length);
	if (unlikely(!tcp_scoreboard_reserve(&conn->sb, sched->now_ns)) ||
	    !tcp_emit_marked(conn, &h, next->length, conn->cursor,
			     mark_new_data(conn, &h, next->length))) {
		tcp_arm_retransmit(conn);
		return false;
	}
	tcp_ack_sent(conn);
	if (conn->snd_nxt == conn->snd_una)
		conn->progress_ns = sched->now_ns;
	conn->sent_ns = sched->now_ns;
	conn->snd_nxt += next->length + next->fin;
	tcp_scoreboard_sent(&conn->sb, conn->snd_nxt, sched->now_ns);
	advance_cursor(conn, next->length);
	tcp_arm_retransmit(conn);
	if (unlikely(conn->unrest != 0 || conn->wait_small || conn->paced))
		note_sent(conn, next);
	return true;
}

void tcp_take_probed(struct tcp_conn *conn)
{
	uint64_t now = conn->net->sched->now_ns;

	conn->probed = false;
	if (!tcp_scoreboard_reserve(&conn->sb, now))
		return; /* it is sent again */
	conn->snd_nxt++;
	tcp_scoreboard_sent(&conn->sb, conn->snd_nxt, now);
	/* When it was sent, and how often, nobody knows: it measures nothing. */
	tcp_scoreboard_at(&conn->sb, conn->sb.count - 1U)->flags = RUN_RETRANSMITTED;
	if (conn->queued > 0)
		advance_cursor(conn, 1);
}

/* ---- what goes out again ---- */

/* Sends [start, end) again: up to a segment, and the FIN.  False: no memory. */
static bool resend(struct tcp_conn *conn, struct tcp_block block)
{
	uint32_t data_end = conn->snd_base + (uint32_t)conn->queued;
	bool fin = seq_after(block.end, data_end);
	uint32_t length = block.end - block.start - fin;
	bool last = block.start + length == data_end;
	struct tcp_cursor at = tcp_send_at(conn, block.start);
	struct tcp_header h;

	if (unlikely(conn->searching))
		tcp_mtu_resent(conn, block);
	tcp_verify_pushed(conn, at, length);
	tcp_fill_header(
		conn, &h, block.start,
		(uint8_t)(TCP_ACK | (fin ? TCP_FIN : 0) | (length > 0 && last ? TCP_PSH : 0)),
		length);
	if (!tcp_scoreboard_resent(&conn->sb, conn->snd_una, block, conn->net->sched->now_ns) ||
	    !tcp_emit(conn, &h, length, at))
		return false;
	tcp_ack_sent(conn);
	conn->retransmitted++;
	tcp_note_resent(conn, block.end - block.start);
	sched_count(conn->net->sched, COUNTER_TCP_RETRANSMITTED, 1);
	tcp_arm_retransmit(conn);
	if (unlikely(conn->paced))
		pace(conn, length);
	return true;
}

/* The next lost segment, if the windows let it out: RFC 6675 5 (C). */
static bool resend_lost(struct tcp_conn *conn)
{
	uint32_t edge = conn->snd_una + conn->snd_wnd;
	uint32_t data_end = conn->snd_base + (uint32_t)conn->queued;
	struct tcp_block block;

	if (!tcp_scoreboard_first_lost(&conn->sb, conn->snd_una, &block))
		return false;
	bool fin = seq_after(block.end, data_end);
	uint32_t length = block.end - block.start - fin;
	if (length > conn->mss) {
		length = conn->mss;
		fin = false;
	}
	if (length > congestion_window_left(conn))
		return false;
	length += fin;
	/* The peer may have closed its window meanwhile: the first segment asks about it. */
	if (block.start != conn->snd_una && seq_after(block.start + length, edge)) {
		if (!seq_before(block.start, edge))
			return false;
		length = edge - block.start;
	}
	block.end = block.start + length;
	return resend(conn, block);
}

/* New data goes before what is lost: RFC 5682 2.1 step 2. */
static inline bool lost_waits(const struct tcp_conn *conn)
{
	return conn->trouble && conn->trouble->forward_new;
}

bool tcp_send_loss_probe(struct tcp_conn *conn, bool *again)
{
	uint32_t in_flight = tcp_flight(conn);
	uint64_t unsent = tcp_unsent(conn);
	uint32_t usable = conn->snd_wnd > in_flight ? conn->snd_wnd - in_flight : 0;
	struct next_segment next = {.length = unsent < conn->mss ? (uint32_t)unsent : conn->mss};

	*again = false;
	if (next.length > 0 && next.length <= usable)
		return send_next(conn, &next);
	uint32_t fin = tcp_fin_sent(conn);
	uint32_t length = in_flight - fin < conn->mss ? in_flight - fin : conn->mss;
	uint32_t last = tcp_scoreboard_start(&conn->sb, conn->snd_una, conn->sb.count - 1U);
	struct tcp_block block = {conn->snd_nxt - fin - length, conn->snd_nxt};
	*again = true;
	return resend(conn, (struct tcp_block){seq_max(block.start, last), block.end});
}

void tcp_want_output(struct tcp_conn *conn)
{
	if (!list_empty(&conn->output) || conn->dead)
		return;
	list_append(&conn->net->tcp->output, &conn->output);
	conn->net->sched->output_pending++;
}

/* RFC 5681 4.1: after a pause the old window says nothing about the path. */
static void restart_after_idle(struct tcp_conn *conn)
{
	if (conn->snd_nxt == conn->snd_una && conn->sent_ns != 0 &&
	    conn->net->sched->now_ns - conn->sent_ns > conn->rtt.rto_ns &&
	    conn->net->sched->config.tcp_idle_restart)
		tcp_cc_restart(&conn->cc);
}

/* Does the segment end a burst of several?  A burst is what leaves within a millisecond at the pace
 * of the path, at least two segments, at most half of the congestion window.  in_burst: segments of
 * it that went out already. */
static bool ends_burst(const struct tcp_conn *conn, const struct next_segment *next,
		       uint32_t *in_burst)
{
	uint64_t left = conn->queued - (conn->snd_nxt - conn->snd_base) - next->length;
	uint32_t in_flight = conn->snd_nxt - conn->snd_una + next->length;
	uint32_t usable = conn->snd_wnd > in_flight ? conn->snd_wnd - in_flight : 0;
	uint32_t window = congestion_window_left(conn);
	uint64_t most = tcp_cc_pacing_rate(&conn->cc, conn->rtt.srtt_ns) / 1024 / conn->mss;
	uint32_t half = conn->cc.cwnd / conn->mss / 2;

	window = window > next->length ? window - next->length : 0;
	usable = window < usable ? window : usable;
	most = most < 2 ? 2 : most;
	most = most > half ? half : most;
	bool whole = left >= conn->mss && usable >= conn->mss;
	bool rest = left > 0 && left < conn->mss && usable >= left && conn->nodelay && !conn->cork;
	if (++*in_burst < most && (whole || rest))
		return false;
	bool several = *in_burst > 1;
	*in_burst = 0;
	return several;
}

enum mtu_probe { MTU_PROBE_NONE, MTU_PROBE_SENT, MTU_PROBE_WAITS };

/* RFC 4821 7.4: one segment of more than the others have, if enough follows that its loss is seen.
 * What the windows let out one by one waits until it is enough for the larger one. */
static enum mtu_probe send_mtu_probe(struct tcp_conn *conn)
{
	uint32_t in_flight = tcp_flight(conn);
	struct next_segment next = {.length = tcp_mtu_step(conn)};
	uint32_t all = next.length + (next.length ? tcp_mtu_behind(conn) : 0);

	if (next.length == 0 || tcp_unsent(conn) < all || conn->cc.cwnd < all ||
	    conn->snd_wnd < all)
		return MTU_PROBE_NONE;
	if (congestion_window_left(conn) < next.length || conn->snd_wnd < in_flight + next.length)
		return MTU_PROBE_WAITS;
	if (!send_next(conn, &next))
		return MTU_PROBE_NONE;
	tcp_mtu_probed(conn, next.length);
	return MTU_PROBE_SENT;
}

/* RFC 5682 2.1 step 2 a: where nothing new may go out, what is lost goes. */
static bool resend_instead(struct tcp_conn *conn)
{
	if (!lost_waits(conn) || conn->snd_nxt != conn->recover)
		return false;
	conn->trouble->forward_rto = false;
	conn->trouble->forward_new = false;
	return resend_lost(conn);
}

/* Sends one segment, lost or new.  False: there is none, the windows hold it, or memory is short.
 */
static inline bool output_one(struct tcp_conn *conn, struct next_segment *next, uint32_t *in_burst)
{
	if (unlikely(conn->sb.lost > 0) && !lost_waits(conn))
		return resend_lost(conn);
	choose_next(conn, next);
	if (next->length == 0 && !next->fin)
		return resend_instead(conn);
	if (unlikely(conn->net->dev->cut_bytes > 0) && next->length == conn->mss && !next->fin)
		choose_several(conn, next);
	if (unlikely(conn->push_burst)) {
		uint32_t end = conn->snd_nxt + next->length;
		uint32_t half = conn->snd_wnd_max / 2;
		bool most = end - conn->pushed >= (half < conn->mss ? half : half + conn->mss);
		next->push = ends_burst(conn, next, in_burst) || most;
		if (most || end - conn->snd_base == conn->queued)
			conn->pushed = end;
	}
	return send_next(conn, next);
}

/* Paced, or searching for a larger MTU: nothing else may leave now. */
static bool holds_back(struct tcp_conn *conn)
{
	if (conn->paced && pace_blocks(conn))
		return true;
	return conn->searching && send_mtu_probe(conn) == MTU_PROBE_WAITS;
}

void tcp_output(struct tcp_conn *conn)
{
	struct next_segment next = {0};
	uint32_t in_burst = 0;

	if (conn->state < TCPS_ESTABLISHED)
		return;
	restart_after_idle(conn);
	for (;;) {
		if (unlikely(conn->net->tx_count >= NET_TX_MAX / 2)) { /* the device is full */
			tcp_want_output(conn);
			return;
		}
		if (unlikely(conn->paced || conn->searching) && holds_back(conn))
			break;
		if (!output_one(conn, &next, &in_burst))
			break;
		/* The common case: that was all. */
		if (conn->snd_nxt - conn->snd_base == conn->queued && !conn->fin_queued &&
		    conn->sb.lost == 0)
			return;
	}
	if (next.blocked)
		start_persist(conn);
	if (!conn->ack_now)
		return;
	if (unlikely(conn->net->tx_count >= NET_TX_MAX / 2))
		tcp_want_output(conn);
	else
		tcp_send_ack(conn);
}

void tcp_output_or_probe(struct tcp_conn *conn)
{
	uint32_t in_flight = conn->snd_nxt - conn->snd_una;
	struct next_segment next = {0};

	/* RFC 9293 3.8.6.2.1: after that time a small segment is sent all the same. */
	if (conn->snd_wnd > in_flight && tcp_unsent(conn) > 0) {
		uint32_t usable = conn->snd_wnd - in_flight;
		next.length = tcp_unsent(conn) < usable ? (uint32_t)tcp_unsent(conn) : usable;
		if (next.length > conn->mss)
			next.length = conn->mss;
		(void)send_next(conn, &next);
	} else {
		tcp_send_probe(conn);
	}
}
