/* SPDX-License-Identifier: MIT
 * net/tcp/input.c - a segment that was received.
 *
 * An established connection's common segments, data in order and pure ACKs, take the short way
 * (established_input); everything else goes through RFC 9293 3.10.7.4 in the RFC's order, with RFC
 * 7323 5.3 (PAWS) in front and RFC 5961 in its checks.
 */
#include "net/tcp/lookup.h"
#include "net/tcp/mtu.h"

#include "net/wire/icmp.h"

#include <errno.h>

/* ---- the short way ---- */

/* RFC 7323 5.5: after 24 days the peer's clock may have gone round. */
static inline bool ts_recent_expired(const struct tcp_conn *conn)
{
	return conn->net->sched->now_ns - conn->ts_recent_ns >= 24ULL * 86400 * 1000000000;
}

/* RFC 7323 4.3: the timestamp to echo is that of the segment which the next ACK answers. */
static inline void take_timestamp(struct tcp_conn *conn, const struct tcp_header *h)
{
	if (seq_reached(h->seq, conn->rcv_acked) &&
	    (!seq_before(h->options.ts_value, conn->ts_recent) || ts_recent_expired(conn))) {
		conn->ts_recent = h->options.ts_value;
		conn->ts_recent_ns = conn->net->sched->now_ns;
	}
}

/* RFC 3168 6.1.3: data that met congestion is told of until the peer says that it slowed down; RFC
 * 8257 3.2: by each ACK as it was, so a change is told at once. */
static void take_mark(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	bool marked = (seg->packet->tos & IP_CE) == IP_CE;

	if (!conn->ecn || seg->length == 0)
		return;
	if (marked)
		sched_count(conn->net->sched, COUNTER_TCP_MARKS, 1);
	if (tcp_echoes_each(conn)) {
		if (marked != conn->ecn_echo && conn->unacked_segments > 0)
			tcp_send_ack(conn);
		conn->ecn_echo = marked;
		return;
	}
	if (seg->h.flags & TCP_CWR)
		conn->ecn_echo = false;
	if (marked)
		conn->ecn_echo = true;
}

/* In order, nothing special, inside the window, acknowledging what was sent or nothing new? */
static inline bool is_plain(const struct tcp_conn *conn, const struct tcp_segment *seg)
{
	const struct tcp_header *h = &seg->h;

	if (conn->state != TCPS_ESTABLISHED || (h->flags & ~TCP_PSH) != TCP_ACK ||
	    h->seq != conn->rcv_nxt || (seg->packet->tos & IP_CE) == IP_CE)
		return false;
	if (conn->timestamps && (!(h->options.has & TCP_HAS_TIMESTAMP) ||
				 seq_before(h->options.ts_value, conn->ts_recent)))
		return false;
	return seg->length <= conn->rcv_adv - conn->rcv_nxt &&
	       h->ack - conn->snd_una <= conn->snd_nxt - conn->snd_una;
}

/* Data in order, short, for a pop that waits: the common case.  False: it is not that. */
static inline bool receive_short(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	struct sched *sched = conn->net->sched;
	struct op *op =
		op_list_first(&sched->ops, &conn->pops); /* the queue is empty if there is one */
	uint32_t length = seg->length;

	if (!op || length >= TCP_COPY_BYTES || unlikely(conn->read_shut))
		return false;
	void *object = heap_alloc(sched->heap, length);
	if (unlikely(!object))
		return false;
	memcpy(object, seg->data, length);
	op_list_remove(&sched->ops, &conn->pops, op);
	op->sga_buf = object;
	op_set_segment(op, object, length);
	op_complete(sched, op, 0);
	conn->rcv_nxt += length;
	conn->bytes_received += length;
	sched_count(sched, COUNTER_BYTES_IN, length);
	if (length > conn->rcv_mss)
		conn->rcv_mss = (uint16_t)length;
	tcp_note_taken(conn, length);
	tcp_schedule_ack(conn, false);
	return true;
}

/* A pure ACK, or data in order.  False: it must take the long way after all. */
static inline bool established_input(struct tcp_conn *conn, struct tcp_segment *seg)
{
	const struct tcp_header *h = &seg->h;
	bool moved = h->ack != conn->snd_una;

	if (seg->length == 0 && !moved)
		return false; /* a duplicate, a window update, a probe */
	if (unlikely(!tcp_is_calm(conn) || h->options.has & TCP_HAS_SACK))
		return false;
	if (conn->timestamps)
		take_timestamp(conn, h);
	if (moved)
		tcp_ack_plain(conn, h);
	/* In order, and acknowledging no less than before: nothing newer told of the window. */
	uint32_t window = (uint32_t)h->window << conn->snd_wscale;
	bool changed = window != conn->snd_wnd;
	conn->snd_wl1 = h->seq;
	conn->snd_wl2 = h->ack;
	if (unlikely(changed))
		tcp_window_changed(conn, window);
	if (seg->length > 0 && !receive_short(conn, seg))
		(void)tcp_receive(conn, seg);
	if ((moved || changed) && tcp_unsent(conn) > 0)
		tcp_want_output(conn);
	return true;
}

/* ---- RFC 9293 3.10.7.4 ---- */

/* RFC 7323 5.3 R1 and R3.  True: it is too old. */
static bool paws_rejects(const struct tcp_conn *conn, const struct tcp_segment *seg)
{
	const struct tcp_options *o = &seg->h.options;

	if (!conn->timestamps || !(o->has & TCP_HAS_TIMESTAMP) || seg->h.flags & TCP_RST)
		return false;
	return seq_before(o->ts_value, conn->ts_recent) && !ts_recent_expired(conn);
}

static uint32_t segment_length(const struct tcp_segment *seg)
{
	return seg->length + !!(seg->h.flags & TCP_SYN) + !!(seg->h.flags & TCP_FIN);
}

/* First, check sequence number: the four cases of the table. */
static bool acceptable(const struct tcp_conn *conn, const struct tcp_segment *seg)
{
	uint32_t window = conn->rcv_adv - conn->rcv_nxt;
	uint32_t length = segment_length(seg);
	uint32_t first = seg->h.seq - conn->rcv_nxt;

	if (length == 0)
		return window == 0 ? first == 0 : first < window;
	if (window == 0)
		return false;
	return first < window || first + length - 1 < window;
}

/* RFC 2883 4: an ACK for data that was here already says so.  Nobody sends again what lies further
 * back than the largest window: such data is a blind guess, and not to make the peer undo what it
 * did about a loss. */
static void note_duplicate(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	uint32_t end = seg->h.seq + seg->length;

	if (!conn->sack || seg->length == 0 || conn->rcv_nxt - seg->h.seq - 1 >= conn->rcv_buffer)
		return;
	conn->dsack.start = seg->h.seq;
	conn->dsack.end = seq_before(end, conn->rcv_nxt) ? end : conn->rcv_nxt;
}

/* The peer's SYN came again: our answer was lost. */
static bool is_repeated_syn(const struct tcp_conn *conn, const struct tcp_segment *seg)
{
	return conn->state == TCPS_SYN_RECEIVED &&
	       (seg->h.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN && seg->h.seq == conn->irs;
}

/* RFC 9293 3.5 MUST-10, figure 8 line 7: both opened at once, and this is the peer's answer to our
 * SYN. Its SYN was taken before, what counts is the ACK. */
static void take_crossed_syn(struct tcp_conn *conn, struct tcp_segment *seg)
{
	struct tcp_header *h = &seg->h;

	if (conn->state != TCPS_SYN_RECEIVED || h->seq != conn->irs || h->ack != conn->snd_nxt ||
	    (h->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != (TCP_SYN | TCP_ACK))
		return;
	h->flags &= (uint8_t)~TCP_SYN;
	h->seq++;
	conn->ack_now = true;
	tcp_want_output(conn);
}

static void unacceptable(struct tcp_conn *conn, struct tcp_segment *seg, enum drop reason)
{
	net_count_drop(conn->net, reason);
	if (seg->h.flags & TCP_RST)
		return;
	if (is_repeated_syn(conn, seg)) {
		if (tcp_may_answer(conn))
			tcp_send_syn(conn);
		return;
	}
	/* RFC 5961 4.2: a SYN is challenged, whatever its sequence number. */
	if (seg->h.flags & TCP_SYN) {
		tcp_challenge_ack(conn);
		return;
	}
	/* RFC 9293 3.10.7.4, first step, without an end if both sides do it: ACKs that carry
	 * nothing wait (attack row 22). */
	if (segment_length(seg) == 0 && !tcp_may_answer(conn))
		return;
	/* A FIN that comes again restarts TIME-WAIT (RFC 9293 3.10.7.4 eighth). */
	if (conn->state == TCPS_TIME_WAIT && seg->h.flags & TCP_FIN)
		tcp_enter_time_wait(conn);
	note_duplicate(conn, seg);
	tcp_send_ack(conn);
}

/* Cuts what was received before, and what is beyond the window. */
static void trim(struct tcp_conn *conn, struct tcp_segment *seg)
{
	uint32_t window = conn->rcv_adv - conn->rcv_nxt;

	if (seq_before(seg->h.seq, conn->rcv_nxt)) {
		uint32_t old = conn->rcv_nxt - seg->h.seq;
		note_duplicate(conn, seg);
		if (seg->h.flags & TCP_SYN) {
			seg->h.flags &= (uint8_t)~TCP_SYN;
			seg->h.seq++;
			old--;
		}
		if (old > seg->length)
			old = seg->length;
		seg->data += old;
		seg->length -= old;
		seg->h.seq = conn->rcv_nxt;
	}
	uint32_t ahead = seg->h.seq - conn->rcv_nxt;
	if (seg->length > window - ahead) {
		seg->length = window - ahead;
		seg->h.flags &= (uint8_t)~TCP_FIN;
	}
}

/* Second, check the RST bit: RFC 5961 3.2. */
static void reset_input(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	/* RFC 1337 3: a reset does not end TIME-WAIT, or old duplicates would reach the next
	 * connection. */
	if (conn->state == TCPS_TIME_WAIT) {
		net_count_drop(conn->net, DROP_TCP_RESET);
		return;
	}
	if (seg->h.seq != conn->rcv_nxt) {
		net_count_drop(conn->net, DROP_TCP_RESET);
		tcp_challenge_ack(conn);
		return;
	}
	switch (conn->state) {
	case TCPS_SYN_RECEIVED:
		tcp_finish(conn, conn->passive ? 0 : ECONNREFUSED);
		break;
	case TCPS_CLOSING:
	case TCPS_LAST_ACK:
		tcp_finish(conn, conn->user ? ECONNRESET : 0);
		break;
	default:
		tcp_finish(conn, ECONNRESET);
	}
}

/* Fourth, check the SYN bit: RFC 5961 4.2: never a reset, always a challenge. */
static void syn_input(struct tcp_conn *conn, struct tcp_segment *seg)
{
	if (is_repeated_syn(conn, seg)) {
		if (tcp_may_answer(conn))
			tcp_send_syn(conn);
		return;
	}
	net_count_drop(conn->net, DROP_TCP_SYN);
	tcp_challenge_ack(conn);
}

/* Fifth, in SYN-RECEIVED.  True: the connection is established now. */
static bool syn_received_ack(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	const struct tcp_header *h = &seg->h;

	if (!seq_after(h->ack, conn->snd_una) || seq_after(h->ack, conn->snd_nxt)) {
		net_count_drop(conn->net, DROP_TCP_ACK);
		tcp_reset_unknown(conn->net, seg);
		return false;
	}
	if (conn->parent &&
	    conn->parent->listener->num_accepted >= conn->parent->listener->backlog) {
		/* Nobody takes it yet: as if the ACK were lost; our SYN is sent again. */
		net_count_drop(conn->net, DROP_TCP_BACKLOG);
		return false;
	}
	conn->snd_wnd = (uint32_t)h->window << conn->snd_wscale;
	conn->snd_wnd_max = conn->snd_wnd;
	conn->snd_wl1 = h->seq;
	conn->snd_wl2 = h->ack;
	tcp_established(conn);
	if (conn->parent)
		tcp_child_established(conn);
	return !conn->dead;
}

/* Is all of it acknowledged, the FIN too? */
static bool fin_acked(const struct tcp_conn *conn)
{
	return conn->fin_queued && conn->queued == 0 && seq_after(conn->snd_una, conn->snd_base);
}

/* What an ACK of our FIN does.  False: the connection is gone. */
static bool closing_ack(struct tcp_conn *conn)
{
	if (!fin_acked(conn))
		return true;
	switch (conn->state) {
	case TCPS_FIN_WAIT_1:
		tcp_set_state(conn, TCPS_FIN_WAIT_2);
		return true;
	case TCPS_CLOSING:
		tcp_enter_time_wait(conn);
		return true;
	case TCPS_LAST_ACK:
		tcp_finish(conn, 0);
		return false;
	default:
		return true;
	}
}

/* RFC 9293 3.10.7.4: takes the peer's window if SND.WL1 < SEG.SEQ, or they are equal and SND.WL2 =<
 * SEG.ACK; returns whether it changed. */
static bool update_window(struct tcp_conn *conn, const struct tcp_header *h)
{
	uint32_t window = (uint32_t)h->window << conn->snd_wscale;

	if (seq_before(h->seq, conn->snd_wl1) ||
	    (h->seq == conn->snd_wl1 && seq_before(h->ack, conn->snd_wl2)))
		return false;
	conn->snd_wl1 = h->seq;
	conn->snd_wl2 = h->ack;
	if (window == conn->snd_wnd)
		return false;
	tcp_window_changed(conn, window);
	return true;
}

/* A probe's octet was taken: it counts as sent. */
static void accept_probe(struct tcp_conn *conn, const struct tcp_header *h)
{
	if (conn->probed && conn->snd_nxt == conn->snd_una && h->ack == conn->snd_una + 1)
		tcp_take_probed(conn);
}

/* Fifth, check the ACK field.  False: no more is to be done with the segment. */
static bool ack_input(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	const struct tcp_header *h = &seg->h;

	if (conn->state == TCPS_SYN_RECEIVED && !syn_received_ack(conn, seg))
		return false;
	accept_probe(conn, h);
	/* RFC 5961 5.2: neither beyond what was sent nor older than the largest window. */
	if (seq_after(h->ack, conn->snd_nxt) ||
	    seq_before(h->ack, conn->snd_una - conn->snd_wnd_max)) {
		net_count_drop(conn->net, DROP_TCP_ACK);
		tcp_challenge_ack(conn);
		return false;
	}
	bool window = seq_before(h->ack, conn->snd_una) ? false : update_window(conn, h);
	tcp_ack(conn, seg, window);
	if (!closing_ack(conn))
		return false;
	if (window)
		tcp_want_output(conn);
	return true;
}

/* RFC 9293 3.10.7.4 eighth, TIME-WAIT: a FIN that comes again restarts it.  Whatever else comes
 * shows a peer that is not where we are, and is told; but the ACK that it should have sent is not
 * answered. */
static void time_wait_input(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	bool fin = seg->h.flags & TCP_FIN;

	if (fin)
		tcp_enter_time_wait(conn);
	if (fin || seg->length > 0 || seg->h.seq != conn->rcv_nxt)
		tcp_challenge_ack(conn);
}

/* Has the user shut both sides, without closing?  Where that counts like a close. */
static bool is_shut(const struct tcp_conn *conn)
{
	return unlikely(conn->read_shut) && conn->fin_queued &&
	       conn->net->sched->config.tcp_read_shut;
}

/* Seventh, process the segment text; then eighth, the FIN. */
static void text_input(struct tcp_conn *conn, struct tcp_segment *seg)
{
	bool fin = seg->h.flags & TCP_FIN;
	uint32_t end = seg->h.seq + seg->length;

	if (conn->state == TCPS_TIME_WAIT) {
		time_wait_input(conn, seg);
		return;
	}
	if (!tcp_can_receive(conn) || conn->fin_received || (seg->length == 0 && !fin))
		return;
	if (seg->length > 0 && (conn->closed || is_shut(conn))) {
		/* RFC 9293 3.10.4, RFC 2525 2.17: nobody is there to read it. */
		net_count_drop(conn->net, DROP_TCP_CLOSED);
		tcp_reset_unknown(conn->net, seg);
		tcp_finish(conn, conn->closed ? 0 : ECONNRESET);
		return;
	}
	if (fin && end != conn->rcv_nxt) {
		conn->fin_ahead = true;
		conn->fin_seq = end;
	}
	if (seg->length > 0 && seg->h.seq == conn->rcv_nxt) {
		if (!tcp_receive(conn, seg))
			return;
	} else if (seg->length > 0) {
		tcp_receive_out_of_order(conn, seg);
	} else if (end != conn->rcv_nxt) { /* a FIN alone, ahead of what is missing */
		tcp_send_ack(conn);
	}
	if (fin || conn->fin_ahead) {
		uint32_t at = conn->fin_ahead ? conn->fin_seq : end;
		if (at == conn->rcv_nxt)
			tcp_receive_fin(conn);
	}
}

/* A segment that crosses the edge of the window, where such are not cut: taken whole if it is next
 * and nothing is queued.  So is a FIN behind a window that is closed, or the peer and we would go
 * on about it for ever.  False: it is dropped. */
static bool cross_edge(struct tcp_conn *conn, const struct tcp_segment *seg)
{
	uint32_t end = seg->h.seq + segment_length(seg);
	bool next = seg->h.seq == conn->rcv_nxt;

	if (!seq_after(end, conn->rcv_adv) || seg->h.flags & (TCP_SYN | TCP_RST))
		return true;
	if (!next || ((conn->receive_queue.count > 0 || conn->ooo) && seg->length > 0))
		return false;
	conn->rcv_adv = end;
	conn->ack_now |= seg->length == 0;
	return true;
}

static void synchronized_input(struct tcp_conn *conn, struct tcp_segment *seg)
{
	struct tcp_header *h = &seg->h;

	if (conn->state == TCPS_TIME_WAIT && tcp_reopen(conn, seg))
		return;
	if (paws_rejects(conn, seg)) {
		unacceptable(conn, seg, DROP_TCP_PAWS);
		return;
	}
	take_crossed_syn(conn, seg);
	if (conn->net->sched->config.tcp_window_edge && segment_length(seg) > 0 &&
	    !cross_edge(conn, seg)) {
		unacceptable(conn, seg, DROP_TCP_SEQUENCE);
		return;
	}
	if (!acceptable(conn, seg)) {
		/* MUST-66: with a window of zero ACKs and resets still count. */
		bool counts = conn->rcv_adv == conn->rcv_nxt && h->seq == conn->rcv_nxt &&
			      (h->flags & TCP_ACK) && !(h->flags & (TCP_SYN | TCP_RST));
		unacceptable(conn, seg, DROP_TCP_SEQUENCE);
		if (counts)
			(void)ack_input(conn, seg);
		return;
	}
	if (h->flags & TCP_RST) {
		reset_input(conn, seg);
		return;
	}
	if (h->flags & TCP_SYN) {
		syn_input(conn, seg);
		return;
	}
	if (!(h->flags & TCP_ACK)) {
		net_count_drop(conn->net, DROP_TCP_ACK);
		return;
	}
	trim(conn, seg);
	take_mark(conn, seg);
	if (conn->timestamps && h->options.has & TCP_HAS_TIMESTAMP)
		take_timestamp(conn, h);
	if (ack_input(conn, seg))
		text_input(conn, seg);
	conn->watch &= (uint8_t)~TCP_WATCH_AHEAD;
	if (conn->ooo || conn->fin_ahead)
		conn->watch |= TCP_WATCH_AHEAD;
	if (conn->dsack.start != conn->dsack.end && conn->state >= TCPS_ESTABLISHED) {
		conn->ack_now = true; /* what came twice is told at once */
		tcp_want_output(conn);
	}
}

/* ---- all segments ---- */

static void note_received(struct tcp_conn *conn)
{
	conn->received_ns = conn->net->sched->now_ns;
	conn->segments_in++;
	conn->keepalive_sent = 0;
	if (unlikely(conn->persist || conn->snd_wnd == 0))
		conn->retries = 0; /* the peer is alive and wants no data */
}

static void conn_input(struct tcp_conn *conn, struct tcp_segment *seg)
{
	if (conn->state == TCPS_SYN_SENT)
		tcp_syn_sent_input(conn, seg);
	else
		synchronized_input(conn, seg);
}

static void no_connection(struct net *net, struct tcp_segment *seg)
{
	struct tcp_conn *listener =
		tcp_find_listener(net->tcp, &seg->packet->to, seg->h.destination);

	struct tcp_conn *conn;

	if (listener && tcp_take_cookie(listener, seg, &conn)) {
		if (conn)
			conn_input(conn, seg);
		return;
	}
	if (listener) {
		tcp_listen_input(listener, seg);
		return;
	}
	net_count_drop(net, DROP_TCP_PORT);
	tcp_reset_unknown(net, seg);
}

void tcp_input(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	struct cursor c = cursor_over(packet->payload, packet->length);
	struct tcp_segment seg;
	enum drop drop = tcp_parse(&c, packet, &seg.h);

	if (unlikely(drop != DROP_NONE)) {
		net_drop(net, frame, drop);
		return;
	}
	seg.data = c.at;
	seg.length = cursor_left(&c);
	seg.frame = frame;
	seg.packet = packet;
	struct tcp_conn *conn =
		tcp_lookup(net->tcp, &packet->to, seg.h.destination, &packet->from, seg.h.source);
	if (likely(conn != NULL)) {
		note_received(conn);
		if (!is_plain(conn, &seg) || !established_input(conn, &seg))
			conn_input(conn, &seg);
	} else {
		no_connection(net, &seg);
	}
	if (seg.frame)
		frame_free_received(net->heap, seg.frame);
}

/* ---- what ICMP tells ---- */

void tcp_icmp_error(struct net *net, const struct icmp_quote *quote, const struct icmp_error *error)
{
	struct tcp_conn *conn = tcp_find_tuple(net->tcp, &quote->from, quote->source_port,
					       &quote->to, quote->destination_port);

	/* RFC 5927 4.1: only an error about what is in flight. */
	if (!conn || seq_before(quote->seq, conn->snd_una) ||
	    !seq_before(quote->seq, conn->snd_nxt)) {
		net_count_drop(net, DROP_ICMP_UNMATCHED);
		return;
	}
	if (error->err == EMSGSIZE && !error->local) {
		tcp_mtu_told(conn, quote->seq, error->mtu);
		return;
	}
	/* RFC 9293 3.9.2.2 MUST-56: soft errors end nothing; hard ones (SHLD-26) end an attempt,
	 * and, as RFC 5927 5.2 has it, no connection that is synchronized.  So does a neighbour
	 * that was asked for in vain. */
	conn->soft_error = error->err;
	if (conn->state == TCPS_SYN_SENT && (error->hard || error->local))
		tcp_finish(conn, error->err);
}
