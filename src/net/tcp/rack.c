/* SPDX-License-Identifier: MIT
 * net/tcp/rack.c - RACK-TLP (RFC 8985): loss told by time, and the probe of a tail.
 *
 * A segment is lost when one that was sent after it was delivered, and a round trip and a window
 * for reordering have passed since it was sent.  If nothing comes back at all for two round trips a
 * probe asks: the last segment again, or new data.
 */
#include "net/tcp/recovery.h"

#define REORDER_MULT_MAX 20
#define PROBE_FIRST      2  /* place among the choices of demitasse.tcp.loss_probe */
#define REORDER_PERSIST  16 /* recoveries that a wider window lasts (RFC 8985 6.2 step 4) */

/* ---- what was delivered ---- */

/* RFC 8985 6.2 step 2: may the ACK be of the original of what was sent again? */
static bool ambiguous(const struct tcp_conn *conn, const struct tcp_delivered *d,
		      const struct tcp_header *h)
{
	const struct tcp_options *o = &h->options;

	if (!d->last_again)
		return false;
	if (conn->timestamps && o->has & TCP_HAS_TIMESTAMP &&
	    seq_before(o->ts_echo, tcp_timestamp(conn, d->last_ns)))
		return true;
	return conn->net->sched->now_ns - d->last_ns < conn->rtt.min_ns;
}

/* Steps 1 to 3. */
void tcp_rack_update(struct tcp_conn *conn, const struct tcp_delivered *d,
		     const struct tcp_header *h)
{
	struct tcp_trouble *t = conn->trouble;

	uint32_t before = conn->snd_una - d->bytes;

	if (t->rack_fack - before > conn->snd_nxt - before)
		t->rack_fack = before; /* nothing was looked at for long */
	if (d->once_low_set && seq_before(d->once_low, t->rack_fack)) {
		uint32_t degree = (t->rack_fack - d->once_low) / conn->mss + 1;
		t->reordering = true;
		if (degree > t->reorder_degree)
			t->reorder_degree = degree < UINT16_MAX ? (uint16_t)degree : UINT16_MAX;
	}
	t->rack_fack = seq_max(t->rack_fack, d->high_end);
	if (ambiguous(conn, d, h))
		return;
	/* With a retransmission an original that was late: what it took is no guess. */
	t->rack_rtt_ns = conn->net->sched->now_ns -
			 (d->last_again && d->first_ns ? d->first_ns : d->last_ns);
	if (d->last_ns > t->rack_sent_ns ||
	    (d->last_ns == t->rack_sent_ns && seq_after(d->last_end, t->rack_end))) {
		t->rack_sent_ns = d->last_ns;
		t->rack_end = d->last_end;
	}
}

void tcp_rack_dsack(struct tcp_conn *conn)
{
	struct tcp_trouble *t = conn->trouble;

	/* Once a round trip (RFC 8985 6.2 step 4). */
	if (t->reorder_persist > 0 && tcp_is_in_flight(conn, t->dsack_round))
		return;
	t->dsack_round = conn->snd_nxt;
	t->reorder_persist = REORDER_PERSIST;
	if (t->reorder_mult < REORDER_MULT_MAX)
		t->reorder_mult++;
}

void tcp_rack_recovered(struct tcp_conn *conn)
{
	struct tcp_trouble *t = conn->trouble;

	if (t && t->reorder_persist > 0 && --t->reorder_persist == 0)
		t->reorder_mult = 1;
}

/* ---- what is lost ---- */

/* Step 4.  Without reordering three segments that overtook are enough, as ever. */
static uint64_t reordering_window(const struct tcp_conn *conn)
{
	const struct tcp_trouble *t = conn->trouble;

	if (!t->reordering &&
	    (conn->recovery != TCP_OPEN || conn->sb.sacked > 2 * conn->mss || conn->dupacks >= 3))
		return 0;
	if (conn->rtt.min_ns == UINT64_MAX)
		return 0;
	uint64_t window = conn->rtt.min_ns / 4 * t->reorder_mult;
	return window < conn->rtt.srtt_ns ? window : conn->rtt.srtt_ns;
}

/* Step 5. */
uint32_t tcp_rack_detect(struct tcp_conn *conn)
{
	struct tcp_scoreboard *sb = &conn->sb;
	const struct tcp_trouble *t = conn->trouble;

	if (!t || t->rack_sent_ns == 0)
		return 0;
	uint64_t now = conn->net->sched->now_ns;
	uint64_t wait = t->rack_rtt_ns + reordering_window(conn);
	uint64_t later = 0;
	uint32_t lost = 0;
	uint32_t start = conn->snd_una;

	for (uint32_t i = 0; i < sb->count; i++) {
		struct tcp_run *run = tcp_scoreboard_at(sb, i);
		uint32_t bytes = run->end - start;
		/* Beyond what was delivered all is in the order of its time. */
		if (!seq_before(start, t->rack_fack) && run->sent_ns > t->rack_sent_ns)
			break;
		start = run->end;
		if (run->flags & (RUN_SACKED | RUN_LOST) || run->sent_ns > t->rack_sent_ns ||
		    (run->sent_ns == t->rack_sent_ns && !seq_before(run->end, t->rack_end)))
			continue;
		if (run->sent_ns + wait <= now) {
			run->flags |= RUN_LOST;
			sb->lost += bytes;
			lost += bytes;
		} else if (run->sent_ns + wait > later) {
			later = run->sent_ns + wait;
		}
	}
	if (later)
		tcp_look_later(conn, later);
	return lost;
}

void tcp_rack_timeout(struct tcp_conn *conn)
{
	struct tcp_scoreboard *sb = &conn->sb;
	const struct tcp_trouble *t = conn->trouble;
	uint64_t now = conn->net->sched->now_ns;
	uint64_t wait =
		conn->sack && t && t->rack_sent_ns ? t->rack_rtt_ns + conn->rtt.min_ns / 4 : 0;
	uint32_t start = conn->snd_una;

	for (uint32_t i = 0; i < sb->count; i++) {
		struct tcp_run *run = tcp_scoreboard_at(sb, i);
		if (!(run->flags & (RUN_SACKED | RUN_LOST)) &&
		    (i == 0 || run->sent_ns + wait <= now)) {
			run->flags |= RUN_LOST;
			sb->lost += run->end - start;
		}
		start = run->end;
	}
}

/* ---- the tail loss probe ---- */

/* RFC 8985 7.2: only one, and only where nothing else is under way: these bits of unrest are 0. */
static inline bool may_probe(const struct tcp_conn *conn)
{
	static const union {
		struct {
			uint8_t recovery;
			uint8_t watch;
		};

		uint32_t unrest;
	} under_way = {{UINT8_MAX, TCP_WATCH_PROBE | TCP_WATCH_SACKED}};

	return conn->probes && (conn->unrest & under_way.unrest) == 0 && conn->rtt.srtt_ns != 0;
}

uint64_t tcp_retransmit_deadline(struct tcp_conn *conn)
{
	const struct sched *sched = conn->net->sched;
	uint64_t timeout = tcp_rtt_timeout(&conn->rtt);
	uint32_t kind = 0;

	if (likely(may_probe(conn))) {
		/* RFC 8985 7.2: the ACK of a single segment may be delayed; the next one that is
		 * sent sets the deadline anew. */
		bool single = tcp_flight(conn) <= conn->mss;
		uint64_t ms = (uint64_t)(single ? sched->config.tcp_peer_delayed_ack_ms
						: sched->config.tcp_loss_probe_min_ms);
		uint64_t probe = 2 * conn->rtt.srtt_ns + ms * 1000000;
		kind = single ? TCP_PROBE_SINGLE : 0;
		if (probe < timeout) {
			kind |= TCP_PROBE_NEXT;
			timeout = probe;
		} else if (unlikely(sched->config.tcp_loss_probe == PROBE_FIRST)) {
			kind |= TCP_PROBE_NEXT;
		}
	}
	conn->probe = (uint8_t)kind;
	return sched->now_ns + timeout;
}

/* It is armed: only a probe's time moves, never the timeout (RFC 6298 5.1). */
void tcp_move_probe(struct tcp_conn *conn)
{
	uint64_t deadline = tcp_retransmit_deadline(conn);
	uint64_t end = conn->progress_ns + tcp_rtt_timeout(&conn->rtt);

	tcp_set_deadline(conn, TCP_RETRANSMIT, deadline < end ? deadline : end);
}

void tcp_probe_due(struct tcp_conn *conn)
{
	struct sched *sched = conn->net->sched;
	struct tcp_trouble *t = tcp_trouble_get(conn);
	bool again = false;

	if (t && may_probe(conn) && tcp_send_loss_probe(conn, &again)) {
		sched_count(sched, COUNTER_TCP_LOSS_PROBES, 1);
		t->probe_end = conn->snd_nxt;
		t->probe_again = again;
		conn->watch |= TCP_WATCH_PROBE;
	}
	conn->probe = 0; /* what was sent set it */
	tcp_set_deadline(conn, TCP_RETRANSMIT, sched->now_ns + tcp_rtt_timeout(&conn->rtt));
}

/* RFC 8985 7.4: did the probe repair a loss?  Then the loss was one of congestion. */
void tcp_probe_acked(struct tcp_conn *conn, const struct tcp_ack_facts *facts)
{
	const struct tcp_trouble *t = conn->trouble;
	uint32_t ack = facts->h->ack;

	if (!(conn->watch & TCP_WATCH_PROBE) || !t || seq_before(ack, t->probe_end))
		return;
	bool reported = facts->dsack.start != facts->dsack.end && facts->dsack.end == t->probe_end;
	bool repaired = t->probe_again && !reported && seq_after(ack, t->probe_end);
	bool twice = facts->duplicate && !(facts->h->options.has & TCP_HAS_SACK);
	if (t->probe_again && !reported && !repaired && !twice)
		return; /* the next ACK will tell */
	conn->watch &= (uint8_t)~TCP_WATCH_PROBE;
	if (repaired)
		tcp_congestion_marked(conn, facts->flight_before);
}
