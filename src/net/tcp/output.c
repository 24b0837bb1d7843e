/* SPDX-License-Identifier: MIT
 * net/tcp/output.c - which segments leave, and what they look like.  RFC 9293 3.7.4 (Nagle), 3.8.6
 * (windows, silly window avoidance), 3.10.7.1 (resets); RFC 5681 3.1; RFC 3042; RFC 5961 3 to 5.
 *
 * What is pushed in one poll turn leaves together: tcp_flush calls tcp_output once for each
 * connection that asked.  An ACK that is owed rides on data if there is some.
 */
#include "net/tcp/tcp.h"

#include "net/wire/checksum.h"

#include <errno.h>

/* ---- one segment ---- */

static void fill_sack(struct tcp_conn *conn, struct tcp_options *o, uint32_t payload)
{
	uint32_t max = conn->timestamps ? 3 : 4;
	uint32_t n = 0;

	/* RFC 2883 4: the first block tells of what came twice. */
	if (conn->dsack.start != conn->dsack.end)
		o->sack[n++] = conn->dsack;
	n += tcp_ooo_blocks(conn->ooo, o->sack + n, max - n);
	if (n == 0 || payload + 4 + 8 * n > conn->mss)
		return;
	o->num_sack = (uint8_t)n;
	o->has |= TCP_HAS_SACK;
	conn->dsack = (struct tcp_block){0};
}

static inline void fill_header(struct tcp_conn *conn, struct tcp_header *h, uint32_t seq,
			       uint8_t flags, uint32_t payload)
{
	h->source = conn->local_port;
	h->destination = conn->remote_port;
	h->seq = seq;
	h->flags = flags;
	h->ack = flags & TCP_ACK ? conn->rcv_nxt : 0;
	h->window = tcp_window_to_advertise(conn);
	h->options.has = 0;
	if (likely(conn->timestamps)) {
		h->options.has = TCP_HAS_TIMESTAMP;
		h->options.ts_value = tcp_timestamp(conn, conn->net->sched->now_ns);
		h->options.ts_echo = conn->ts_recent;
	}
	if (unlikely(conn->ecn_echo) && flags & TCP_ACK)
		h->flags |= TCP_ECE;
	if (unlikely(conn->ooo || conn->dsack.start != conn->dsack.end) && conn->sack)
		fill_sack(conn, &h->options, payload);
}

/* Copies payload behind the header; returns its sum if it is asked for. */
static uint64_t copy_payload(struct tcp_conn *conn, struct frame *frame, uint32_t length,
			     struct tcp_cursor at, bool sum)
{
	uint8_t *to = frame->data + frame->length;
	uint64_t total = 0;
	uint32_t done = 0;

	while (done < length) {
		const struct tcp_piece *piece = tcp_queue_at(&conn->send_queue, at.index++);
		uint32_t n = piece->length - at.offset;
		if (n > length - done)
			n = length - done;
		if (sum) {
			uint64_t part = checksum_copy(to + done, piece->data + at.offset, n);
			total += done & 1 ? checksum_odd(part) : part;
		} else {
			memcpy(to + done, piece->data + at.offset, n);
		}
		done += n;
		at.offset = 0;
	}
	frame->length += length;
	return total;
}

/* The same by reference. */
static uint64_t refer_payload(struct tcp_conn *conn, struct frame *frame, uint32_t length,
			      struct tcp_cursor at, bool sum)
{
	uint64_t total = 0;
	uint32_t done = 0;

	while (done < length) {
		const struct tcp_piece *piece = tcp_queue_at(&conn->send_queue, at.index++);
		uint32_t n = piece->length - at.offset;
		if (n > length - done)
			n = length - done;
		frame_append(frame, piece->data + at.offset, n);
		if (sum) {
			uint64_t part = checksum_partial(piece->data + at.offset, n);
			total += done & 1 ? checksum_odd(part) : part;
		}
		done += n;
		at.offset = 0;
	}
	return total;
}

/* Is payload long enough, and in few enough pieces, to be sent in place? */
static bool by_reference(struct tcp_conn *conn, uint32_t length, struct tcp_cursor at)
{
	const struct netdev *dev = conn->net->dev;
	uint32_t pieces = 0;

	if (likely(length < (uint64_t)conn->net->sched->config.zero_copy_bytes || length == 0))
		return false;
	for (uint64_t have = 0; have < length; at.offset = 0) {
		have += tcp_queue_at(&conn->send_queue, at.index++)->length - at.offset;
		if (++pieces > dev->max_segments)
			return false;
	}
	return true;
}

/* Completes the checksum, or leaves it to the device. sum: of the payload. */
static void finish_checksum(struct tcp_conn *conn, struct frame *frame, uint32_t header_bytes,
			    uint32_t payload, uint64_t sum)
{
	uint16_t checksum;

	sum += checksum_pseudo(&conn->local, &conn->remote, IP_TCP, header_bytes + payload);
	if (unlikely(conn->net->tcp_checksum_offload)) {
		frame->flags |= FRAME_CHECKSUM;
		frame->transport_offset = 0;
		frame->checksum_offset = TCP_CHECKSUM_OFFSET;
		checksum = checksum_fold(sum);
	} else {
		checksum = checksum_finish(sum + checksum_partial(frame->data, header_bytes));
	}
	memcpy(frame->data + TCP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
}

/* Sends a header and length bytes of the send queue from at on; ecn: bits of the IP header.  False:
 * no memory. */
static bool emit_marked(struct tcp_conn *conn, const struct tcp_header *h, uint32_t length,
			struct tcp_cursor at, uint8_t ecn)
{
	struct net *net = conn->net;
	uint32_t header_bytes = tcp_header_bytes(&h->options);
	bool refer = by_reference(conn, length, at);
	struct frame *frame = frame_alloc_tx(net->heap, header_bytes + (refer ? 0 : length));
	uint64_t sum = 0;

	if (unlikely(!frame)) {
		net_count_drop(net, DROP_TX_MEMORY);
		return false;
	}
	frame->length = tcp_write(frame->data, h);
	if (refer)
		sum = refer_payload(conn, frame, length, at, !net->tcp_checksum_offload);
	else if (length > 0)
		sum = copy_payload(conn, frame, length, at, !net->tcp_checksum_offload);
	finish_checksum(conn, frame, header_bytes, length, sum);
	conn->segments_out++;
	(void)ip_output(net, frame, &conn->local, &conn->remote, IP_TCP, conn->ttl, conn->tos | ecn,
			&conn->path);
	return true;
}

static bool emit(struct tcp_conn *conn, const struct tcp_header *h, uint32_t length,
		 struct tcp_cursor at)
{
	return emit_marked(conn, h, length, at, IP_NOT_ECT);
}

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

/* A segment with an ACK went out: nothing is owed any more. */
static inline void ack_sent(struct tcp_conn *conn)
{
	conn->ack_now = false;
	conn->unacked_segments = 0;
	conn->rcv_acked = conn->rcv_nxt;
	tcp_clear_deadline(conn, TCP_DELAYED_ACK);
}

static void arm_retransmit(struct tcp_conn *conn)
{
	bool armed = conn->deadline_ns[TCP_RETRANSMIT] && !conn->persist;

	if (armed && likely(!conn->probe_single))
		return;
	conn->persist = false;
	uint64_t deadline = tcp_retransmit_deadline(conn);
	if (armed) { /* only a probe's time moves, never the timeout (RFC 6298 5.1) */
		uint64_t end = conn->progress_ns + tcp_rtt_timeout(&conn->rtt);
		deadline = deadline < end ? deadline : end;
	}
	tcp_set_deadline(conn, TCP_RETRANSMIT, deadline);
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

static bool send_next(struct tcp_conn *conn, const struct next_segment *next)
{
	struct sched *sched = conn->net->sched;
	struct tcp_header h;
	bool last = conn->snd_nxt - conn->snd_base + next->length == conn->queued;
	bool push = (last && !conn->more) || next->push;
	uint8_t flags = (uint8_t)(TCP_ACK | (next->fin ? TCP_FIN : 0) |
				  (next->length > 0 && push ? TCP_PSH : 0));

	fill_header(conn, &h, conn->snd_nxt, flags, next->length);
	if (unlikely(!tcp_scoreboard_reserve(&conn->sb, sched->now_ns)) ||
	    !emit_marked(conn, &h, next->length, conn->cursor,
			 mark_new_data(conn, &h, next->length))) {
		arm_retransmit(conn);
		return false;
	}
	ack_sent(conn);
	if (conn->snd_nxt == conn->snd_una)
		conn->progress_ns = sched->now_ns;
	conn->sent_ns = sched->now_ns;
	if (unlikely(conn->wait_small) && next->length > 0 && next->length < conn->mss)
		conn->snd_small = conn->snd_nxt + next->length;
	conn->snd_nxt += next->length + next->fin;
	tcp_scoreboard_sent(&conn->sb, conn->snd_nxt, sched->now_ns);
	advance_cursor(conn, next->length);
	arm_retransmit(conn);
	if (unlikely(conn->recovery == TCP_RECOVERY))
		conn->trouble->prr_out += next->length + next->fin;
	if (unlikely(conn->paced))
		pace(conn, next->length);
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
	fill_header(conn, &h, block.start,
		    (uint8_t)(TCP_ACK | (fin ? TCP_FIN : 0) | (length > 0 && last ? TCP_PSH : 0)),
		    length);
	if (!tcp_scoreboard_resent(&conn->sb, conn->snd_una, block, conn->net->sched->now_ns) ||
	    !emit(conn, &h, length, at))
		return false;
	ack_sent(conn);
	conn->retransmitted++;
	tcp_note_resent(conn, block.end - block.start);
	sched_count(conn->net->sched, COUNTER_TCP_RETRANSMITTED, 1);
	arm_retransmit(conn);
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

/* ---- single segments ---- */

static bool send_bare(struct tcp_conn *conn, uint32_t seq, uint8_t flags)
{
	struct tcp_header h;

	fill_header(conn, &h, seq, flags, 0);
	return emit(conn, &h, 0, (struct tcp_cursor){0});
}

void tcp_send_ack(struct tcp_conn *conn)
{
	if (send_bare(conn, conn->snd_nxt, TCP_ACK))
		ack_sent(conn);
}

/* RFC 3168 6.1.1: a SYN asks for ECN by both flags, and not again if it seems to be lost for it
 * (6.1.1.1); the answer by one. */
static uint8_t syn_ecn(struct tcp_conn *conn, bool ack)
{
	if (ack)
		return conn->ecn ? TCP_ECE : 0;
	conn->ecn = tcp_wants_ecn(conn) && conn->retries == 0;
	return conn->ecn ? TCP_ECE | TCP_CWR : 0;
}

/* The SYN, or in SYN-RECEIVED the SYN with its ACK, first or again. */
void tcp_send_syn(struct tcp_conn *conn)
{
	const struct config *config = &conn->net->sched->config;
	bool ack = conn->state == TCPS_SYN_RECEIVED;
	uint32_t own = ip_link_payload_max(conn->net, &conn->remote) - TCP_HEADER_BYTES;
	struct tcp_header h = {
		.source = conn->local_port,
		.destination = conn->remote_port,
		.seq = conn->iss,
		.ack = ack ? conn->rcv_nxt : 0,
		.flags = (uint8_t)(TCP_SYN | (ack ? TCP_ACK : 0) | syn_ecn(conn, ack)),
		.window = (uint16_t)(conn->rcv_buffer < 65535 ? conn->rcv_buffer : 65535),
	};
	struct tcp_options *o = &h.options;

	o->has = TCP_HAS_MSS; /* RFC 9293 3.7.1 MUST-14, SHLD-5 */
	o->mss = (uint16_t)(config->tcp_mss && config->tcp_mss < own ? (uint32_t)config->tcp_mss
								     : own);
	if (conn->mss_limit && conn->mss_limit < o->mss)
		o->mss = conn->mss_limit;
	if (ack ? conn->window_scale : config->tcp_window_scaling) {
		o->has |= TCP_HAS_WSCALE;
		o->wscale = tcp_receive_scale(conn);
	}
	if (ack ? conn->sack : config->tcp_sack)
		o->has |= TCP_HAS_SACK_PERMITTED;
	if (ack ? conn->timestamps : config->tcp_timestamps) {
		o->has |= TCP_HAS_TIMESTAMP;
		o->ts_value = tcp_timestamp(conn, conn->net->sched->now_ns);
		o->ts_echo = ack ? conn->ts_recent : 0;
	}
	if (emit(conn, &h, 0, (struct tcp_cursor){0}) && ack) {
		conn->rcv_adv = conn->rcv_nxt + h.window;
		conn->rcv_acked = conn->rcv_nxt;
	}
	if (conn->snd_nxt == conn->iss)
		tcp_scoreboard_sent(&conn->sb, conn->iss + 1, conn->net->sched->now_ns);
	else
		(void)tcp_scoreboard_resent(&conn->sb, conn->snd_una,
					    (struct tcp_block){conn->iss, conn->iss + 1},
					    conn->net->sched->now_ns);
	conn->snd_nxt = conn->iss + 1;
	conn->cursor = (struct tcp_cursor){0};
	arm_retransmit(conn);
}

/* RFC 9293 3.8.6.1 MUST-36: at least one octet of new data, or the FIN; snd_nxt stays. */
void tcp_send_probe(struct tcp_conn *conn)
{
	struct tcp_header h;
	uint32_t length = conn->queued > 0;

	if (conn->snd_una != conn->snd_base || (length == 0 && !conn->fin_queued))
		return;
	if (conn->net->sched->config.tcp_window_probe) {
		tcp_send_keepalive(conn);
		return;
	}
	tcp_verify_pushed(conn, (struct tcp_cursor){0}, length);
	fill_header(conn, &h, conn->snd_una, length ? TCP_ACK | TCP_PSH : TCP_ACK | TCP_FIN,
		    length);
	if (emit(conn, &h, length, (struct tcp_cursor){0}))
		ack_sent(conn);
	conn->probed = true; /* an ACK of that octet is one of ours */
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

/* RFC 9293 3.8.4: an old sequence number and no data: a live peer answers with an ACK. */
void tcp_send_keepalive(struct tcp_conn *conn)
{
	(void)send_bare(conn, conn->snd_una - 1, TCP_ACK);
}

void tcp_send_reset(struct tcp_conn *conn)
{
	sched_count(conn->net->sched, COUNTER_TCP_RESETS_OUT, 1);
	/* RFC 5961 3.2: the peer takes it only if it is exactly what it expects next */
	(void)send_bare(conn, conn->snd_nxt, TCP_RST | TCP_ACK);
}

/* RFC 9293 3.10.7.1: <SEQ=SEG.ACK><CTL=RST>, or <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>. */
void tcp_reset_unknown(struct net *net, const struct tcp_segment *seg)
{
	const struct ip_packet *packet = seg->packet;
	struct tcp_header h = {.source = seg->h.destination, .destination = seg->h.source};

	/* MUST-57: never to what was not sent to one host alone; never a reset for a reset. */
	if (seg->h.flags & TCP_RST || packet->broadcast || ip_is_multicast(&packet->from))
		return;
	if (seg->h.flags & TCP_ACK) {
		h.seq = seg->h.ack;
		h.flags = TCP_RST;
	} else {
		h.ack = seg->h.seq + seg->length + !!(seg->h.flags & TCP_SYN) +
			!!(seg->h.flags & TCP_FIN);
		h.flags = TCP_RST | TCP_ACK;
	}
	sched_count(net->sched, COUNTER_TCP_RESETS_OUT, 1);
	tcp_reply(net, packet, &h);
}

/* A segment that no connection sends, back to where packet came from. */
void tcp_reply(struct net *net, const struct ip_packet *packet, const struct tcp_header *h)
{
	struct frame *frame = frame_alloc_tx(net->heap, tcp_header_bytes(&h->options));

	if (!frame) {
		net_count_drop(net, DROP_TX_MEMORY);
		return;
	}
	frame->length = tcp_write(frame->data, h);
	uint64_t sum = checksum_pseudo(&packet->to, &packet->from, IP_TCP, frame->length) +
		       checksum_partial(frame->data, frame->length);
	uint16_t checksum = checksum_finish(sum);
	memcpy(frame->data + TCP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
	(void)ip_output(net, frame, &packet->to, &packet->from, IP_TCP, IP_DEFAULT_TTL, 0, NULL);
}
