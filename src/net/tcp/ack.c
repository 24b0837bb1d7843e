/* SPDX-License-Identifier: MIT
 * net/tcp/ack.c - what an acknowledgement says: the round-trip time, the peer's window, what was
 * delivered.  RFC 9293 3.10.7.4 fifth, RFC 6298, RFC 7323 4, RFC 2018, RFC 2883, RFC 3168 6.1.2.
 *
 * What follows from it for lost segments and the congestion window is recovery.c's; an ACK of new
 * data on a path without trouble (tcp_is_calm) takes the short way and asks nothing of it.
 */
#include "net/tcp/recovery.h"

/* ---- round-trip time ---- */

static inline uint32_t samples_per_rtt(const struct tcp_conn *conn, uint32_t flight)
{
	uint32_t each = 2 * conn->mss;

	if (likely(flight < each))
		return 1;
	ASSERT(each > 0);
	return flight / each + 1;
}

/* Of an ACK that moved SND.UNA over what was sent again too: RFC 7323 4.1, the echoed timestamp
 * tells which sending caused it. */
static void take_echo(struct tcp_conn *conn, const struct tcp_delivered *d,
		      const struct tcp_ack_facts *facts)
{
	const struct tcp_options *o = &facts->h->options;
	uint32_t samples = samples_per_rtt(conn, facts->flight_before);
	uint64_t now = conn->net->sched->now_ns;

	if (!conn->timestamps || !(o->has & TCP_HAS_TIMESTAMP) || o->ts_echo == 0)
		return;
	if (d->last_ns != 0 && !seq_before(o->ts_echo, tcp_timestamp(conn, d->last_ns))) {
		tcp_rtt_sample(&conn->rtt, now - d->last_ns, samples, 0);
		return;
	}
	/* An earlier one.  If its ACK was lost, and this one tells that it came twice, the echo
	 * says how long we waited, not how long the way is. */
	uint32_t ms = tcp_timestamp(conn, now) - o->ts_echo;
	if (facts->dsack.start == facts->dsack.end && ms > 0 && ms < 1U << 24)
		tcp_rtt_sample(&conn->rtt, (uint64_t)ms * 1000000, samples, 1000000);
}

/* RFC 6298 3, Karn: not across a retransmission. */
static void take_rtt(struct tcp_conn *conn, const struct tcp_delivered *d,
		     const struct tcp_ack_facts *facts)
{
	uint64_t now = conn->net->sched->now_ns;
	uint32_t samples = samples_per_rtt(conn, facts->flight_before);

	if (facts->acked == 0) {
		/* Blocks tell of what came long ago as well, if the ACKs of that time were lost:
		 * what was sent last has caused this one. */
		if (d->last_ns != 0 && !d->last_again)
			tcp_rtt_sample(&conn->rtt, now - d->last_ns, samples, 0);
	} else if (d->first_ns != 0 && !d->retransmitted) {
		tcp_rtt_sample(&conn->rtt, now - d->first_ns, samples, 0);
	} else {
		take_echo(conn, d, facts);
	}
}

/* ---- the peer's window ---- */

void tcp_window_changed(struct tcp_conn *conn, uint32_t window)
{
	bool opened = window > conn->snd_wnd;

	conn->snd_wnd = window;
	if (window > conn->snd_wnd_max)
		conn->snd_wnd_max = window;
	if (opened && conn->persist) {
		conn->persist = false;
		tcp_rtt_reset_backoff(&conn->rtt);
		tcp_clear_deadline(conn, TCP_RETRANSMIT);
	}
}

/* ---- progress ---- */

/* snd_una moves, after the scoreboard. */
static inline void advance(struct tcp_conn *conn, uint32_t ack)
{
	uint32_t bytes = ack - conn->snd_base;

	if (bytes > conn->queued) /* the FIN, or the SYN alone, is beyond the data */
		bytes = seq_before(ack, conn->snd_base) ? 0 : (uint32_t)conn->queued;
	conn->snd_una = ack;
	conn->retries = 0;
	conn->probed = false;
	conn->soft_error = 0;
	conn->progress_ns = conn->net->sched->now_ns;
	conn->bytes_acked += bytes;
	tcp_rtt_reset_backoff(&conn->rtt);
	tcp_send_acked(conn, bytes);
}

/* sent_ns: when what caused the ACK left, once; 0: not known. */
static inline void grow_window(struct tcp_conn *conn, uint64_t sent_ns, uint32_t acked,
			       uint32_t flight)
{
	uint64_t now = conn->net->sched->now_ns;
	const struct tcp_cc_ack ack = {
		.bytes = acked,
		.flight = flight,
		.una = conn->snd_una,
		.nxt = conn->snd_nxt,
		.now_ns = now,
		.rtt_ns = sent_ns ? now - sent_ns : 0,
		.srtt_ns = conn->rtt.srtt_ns,
	};

	conn->cc.ops->acked(&conn->cc, &ack);
}

void tcp_ack_plain(struct tcp_conn *conn, const struct tcp_header *h)
{
	uint32_t flight = tcp_flight(conn);
	uint32_t acked = h->ack - conn->snd_una;
	uint64_t first_ns = tcp_scoreboard_acked_all(&conn->sb, h->ack);
	uint64_t last_ns = first_ns;

	if (unlikely(first_ns == 0)) {
		struct tcp_delivered d = {0};
		tcp_scoreboard_acked(&conn->sb, conn->snd_una, h->ack, &d);
		first_ns = d.retransmitted ? 0 : d.first_ns;
		last_ns = d.last_again ? 0 : d.last_ns;
	}
	advance(conn, h->ack);
	if (likely(first_ns != 0))
		tcp_rtt_sample(&conn->rtt, conn->net->sched->now_ns - first_ns,
			       samples_per_rtt(conn, flight), 0);
	grow_window(conn, last_ns, acked, flight);
	tcp_restart_retransmit(conn);
	ip_path_confirm(conn->net, &conn->path);
}

/* ---- the long way ---- */

/* RFC 2883 4: the first block tells of a duplicate if the ACK itself covers it, or it is part of
 * the second.  An ACK that was overtaken tells of what had come then, once. */
static bool is_dsack(const struct tcp_conn *conn, const struct tcp_header *h)
{
	const struct tcp_options *o = &h->options;
	const struct tcp_block *first = &o->sack[0];

	if (!seq_before(first->start, first->end) || seq_after(first->end, conn->snd_nxt))
		return false;
	if (seq_reached(first->end, h->ack))
		return conn->snd_una - first->start <= conn->bytes_acked;
	return o->num_sack > 1 && seq_reached(o->sack[1].start, first->start) &&
	       seq_reached(first->end, o->sack[1].end);
}

/* RFC 2018 5; blocks that are not of what is in flight say nothing (row 16 of the attack table). */
static void take_sacks(struct tcp_conn *conn, const struct tcp_options *o, struct tcp_delivered *d,
		       struct tcp_ack_facts *facts)
{
	uint32_t i = 0;

	if (is_dsack(conn, facts->h)) {
		facts->dsack = o->sack[0];
		i = 1;
	}
	if (!tcp_trouble_get(conn))
		return;
	for (; i < o->num_sack; i++) {
		struct tcp_block block = o->sack[i];
		/* Counted from SND.UNA: three comparisons modulo 2^32 can hold all round the
		 * circle. */
		uint32_t start = block.start - conn->snd_una;
		uint32_t end = block.end - conn->snd_una;
		if (start < end && end <= conn->snd_nxt - conn->snd_una)
			tcp_scoreboard_sack(&conn->sb, conn->snd_una, block, d);
	}
}

/* RFC 5681 2: what counts as a duplicate. */
static bool is_duplicate(const struct tcp_conn *conn, const struct tcp_segment *seg,
			 bool window_changed)
{
	return tcp_flight(conn) > 0 && seg->length == 0 && !window_changed &&
	       !(seg->h.flags & (TCP_SYN | TCP_FIN)) && seg->h.ack == conn->snd_una;
}

/* RFC 3168 6.1.2: ECE says that a packet was marked; RFC 8257 3.3 counts how many were. */
static void take_marks(struct tcp_conn *conn, const struct tcp_ack_facts *facts)
{
	bool marked = facts->h->flags & TCP_ECE;

	if (conn->cc.ops->ecn) {
		struct tcp_cc_ack ack = {
			.bytes = facts->acked,
			.flight = facts->pipe_before,
			.una = conn->snd_una,
			.nxt = conn->snd_nxt,
			.now_ns = conn->net->sched->now_ns,
			.srtt_ns = conn->rtt.srtt_ns,
		};
		uint32_t before = conn->cc.cwnd;
		conn->cc.ops->ecn(&conn->cc, &ack, marked);
		if (conn->cc.cwnd < before)
			conn->ecn_cwr = true;
	} else if (marked) {
		tcp_congestion_marked(conn, facts->flight_before);
	}
}

void tcp_ack(struct tcp_conn *conn, const struct tcp_segment *seg, bool window_changed)
{
	const struct tcp_header *h = &seg->h;
	struct tcp_delivered d = {0};
	struct tcp_ack_facts facts = {
		.h = h,
		.flight_before = tcp_flight(conn),
		.pipe_before = tcp_pipe(conn),
		.duplicate = is_duplicate(conn, seg, window_changed),
	};
	bool grows = conn->recovery != TCP_RECOVERY;

	if (seq_after(h->ack, conn->snd_una)) {
		facts.acked = h->ack - conn->snd_una;
		tcp_scoreboard_acked(&conn->sb, conn->snd_una, h->ack, &d);
		advance(conn, h->ack);
	}
	if (conn->sack && h->options.has & TCP_HAS_SACK)
		take_sacks(conn, &h->options, &d, &facts);
	if (d.bytes > 0)
		take_rtt(conn, &d, &facts);
	uint32_t delivered = tcp_recover(conn, &d, &facts);
	conn->watch &= (uint8_t)~TCP_WATCH_SACKED;
	if (conn->sb.sacked > 0)
		conn->watch |= TCP_WATCH_SACKED;
	if (conn->ecn)
		take_marks(conn, &facts);
	if (facts.acked > 0) {
		/* RFC 3168 6.1.2: an ACK with ECE lets nothing grow. */
		bool told = conn->ecn && h->flags & TCP_ECE && !conn->cc.ops->ecn;
		if (grows && !told && conn->recovery != TCP_RECOVERY)
			grow_window(conn, d.last_again ? 0 : d.last_ns,
				    delivered < facts.acked ? delivered : facts.acked,
				    facts.pipe_before);
		tcp_recovery_restart_timer(conn);
		ip_path_confirm(conn->net, &conn->path);
	}
	if (d.bytes > 0 || facts.duplicate)
		tcp_want_output(conn);
}
