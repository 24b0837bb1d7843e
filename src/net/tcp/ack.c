/* SPDX-License-Identifier: MIT
 * net/tcp/ack.c - what an acknowledgement does: round-trip time, the peer's window, the congestion
 * window, loss recovery.  RFC 9293 3.10.7.4 fifth, RFC 6298, RFC 7323 4, RFC 5681 3.2, RFC 6582,
 * RFC 3042.
 *
 * Recovery is NewReno's: three duplicate ACKs retransmit the first segment; a partial ACK the next;
 * the ACK of all that was sent before (recover) ends it.
 */
#include "net/tcp/tcp.h"

/* ---- round-trip time ---- */

static void take_rtt(struct tcp_conn *conn, const struct tcp_header *h)
{
	uint64_t now = conn->net->sched->now_ns;
	uint32_t flight = tcp_flight(conn);
	uint32_t samples = likely(flight < 2 * conn->mss) ? 1 : flight / (2 * conn->mss) + 1;

	if (conn->timing && seq_after(h->ack, conn->timed_seq)) {
		conn->timing = false;
		tcp_rtt_sample(&conn->rtt, now - conn->timed_ns, samples, 0);
		return;
	}
	/* RFC 7323 4.1: the echoed timestamp is of the segment that caused the ACK, so it is good
	 * for retransmissions too; but it counts milliseconds. */
	if (!conn->timestamps || !(h->options.has & TCP_HAS_TIMESTAMP) || h->options.ts_echo == 0)
		return;
	uint32_t ms = (uint32_t)(now / 1000000) + conn->ts_offset - h->options.ts_echo;
	if (ms > 0 && ms < 1U << 24)
		tcp_rtt_sample(&conn->rtt, (uint64_t)ms * 1000000, samples, 1000000);
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
		tcp_clear_deadline(conn, TCP_RETRANSMIT);
	}
}

/* ---- recovery ---- */

static void enter_recovery(struct tcp_conn *conn)
{
	struct sched *sched = conn->net->sched;

	sched_count(sched, COUNTER_TCP_FAST_RETRANSMITS, 1);
	/* RFC 6582 3.2 step 2 */
	conn->cc.ops->reduce(&conn->cc, tcp_flight(conn), false, sched->now_ns);
	conn->recover = conn->snd_max;
	conn->recovering = true;
	conn->partial_seen = false;
	conn->cc.cwnd = conn->cc.ssthresh + 3 * conn->mss;
	tcp_retransmit_first(conn);
	tcp_restart_retransmit(conn);
}

/* RFC 5681 2: what counts as a duplicate. */
static bool is_duplicate(const struct tcp_conn *conn, const struct tcp_segment *seg,
			 bool window_changed)
{
	return tcp_flight(conn) > 0 && seg->length == 0 && !window_changed &&
	       !(seg->h.flags & (TCP_SYN | TCP_FIN)) && seg->h.ack == conn->snd_una;
}

void tcp_ack_duplicate(struct tcp_conn *conn, const struct tcp_segment *seg, bool window_changed)
{
	if (!is_duplicate(conn, seg, window_changed))
		return;
	if (conn->recovering) {
		conn->cc.cwnd += conn->mss; /* RFC 5681 3.2 step 4 */
		tcp_want_output(conn);
		return;
	}
	if (conn->dupacks < 3)
		conn->dupacks++;
	/* RFC 6582 3.2 step 1: not for losses of the window that recovery or a timeout dealt with.
	 */
	if (conn->dupacks == 3 && seq_after(conn->snd_una, conn->recover)) {
		enter_recovery(conn);
		tcp_want_output(conn);
	} else if (conn->dupacks < 3) {
		tcp_want_output(conn); /* RFC 3042 */
	}
}

/* RFC 6582 3.2 step 3, for an ACK of acked bytes; snd_una has moved already. */
static void recovery_advance(struct tcp_conn *conn, uint32_t acked)
{
	struct tcp_cc *cc = &conn->cc;

	if (!seq_before(conn->snd_una, conn->recover)) {
		uint32_t flight = tcp_flight(conn);
		uint32_t window = (flight > conn->mss ? flight : conn->mss) + conn->mss;
		conn->recovering = false;
		conn->dupacks = 0;
		cc->cwnd = cc->ssthresh < window ? cc->ssthresh : window;
		if (cc->cwnd < cc->mss)
			cc->cwnd = cc->mss;
		return;
	}
	cc->cwnd = cc->cwnd > acked + cc->mss ? cc->cwnd - acked : cc->mss;
	if (acked >= cc->mss)
		cc->cwnd += cc->mss;
	tcp_retransmit_first(conn);
}

/* ---- progress ---- */

/* The timer, after snd_una moved: RFC 6298 5.2 and 5.3; in recovery the first partial ACK only. */
static void restart_timer(struct tcp_conn *conn)
{
	if (conn->recovering && conn->partial_seen)
		return;
	conn->partial_seen = conn->recovering;
	tcp_restart_retransmit(conn);
}

void tcp_ack_advance(struct tcp_conn *conn, const struct tcp_header *h)
{
	struct sched *sched = conn->net->sched;
	uint32_t acked = h->ack - conn->snd_una;
	uint32_t flight = tcp_flight(conn);
	uint32_t bytes = h->ack - conn->snd_base;

	if (bytes > conn->queued) /* the FIN, or the SYN alone, is beyond the data */
		bytes = seq_before(h->ack, conn->snd_base) ? 0 : (uint32_t)conn->queued;
	take_rtt(conn, h);
	conn->snd_una = h->ack;
	conn->retries = 0;
	conn->probed = false;
	conn->soft_error = 0;
	conn->progress_ns = sched->now_ns;
	conn->bytes_acked += bytes;
	tcp_rtt_reset_backoff(&conn->rtt);
	tcp_send_acked(conn, bytes);
	if (seq_before(conn->snd_nxt, conn->snd_una)) {
		conn->snd_nxt = conn->snd_una;
		conn->cursor = (struct tcp_cursor){0};
	}
	if (unlikely(conn->recovering)) {
		recovery_advance(conn, acked);
	} else {
		conn->dupacks = 0;
		/* The window grows only while it is what limits. */
		struct tcp_cc_ack ack = {
			.bytes = acked,
			.flight = flight,
			.una = conn->snd_una,
			.nxt = conn->snd_max,
			.now_ns = sched->now_ns,
			.srtt_ns = conn->rtt.srtt_ns,
		};
		conn->cc.ops->acked(&conn->cc, &ack);
	}
	restart_timer(conn);
	ip_path_confirm(conn->net, &conn->path);
}
