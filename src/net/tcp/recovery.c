/* SPDX-License-Identifier: MIT
 * net/tcp/recovery.c - what follows from loss: fast recovery, timeouts, and taking back what was
 * for nothing.  RFC 5681 3.2, RFC 6582, RFC 6675 5, RFC 6937 (PRR), RFC 5682 (F-RTO), RFC 3522 and
 * 2883 (undo), RFC 3168 6.1.2.
 *
 * Detection is RACK's (rack.c) where the peer sends SACKs, else three duplicate ACKs are RFC
 *6582's; never both.  Lost bytes are marked in the scoreboard, and output.c sends what is marked as
 *far as the congestion window allows what is thought to be in the network.
 *
 *	TCP_OPEN -> TCP_RECOVERY	something is lost: the window shrinks by PRR
 *	         -> TCP_LOSS		the timer expired: slow start from one segment
 *	and back when all is acknowledged that was out then (conn->recover), or was for nothing.
 */
#include "net/tcp/recovery.h"
#include "net/tcp/mtu.h"

#include <stdlib.h>

/* ---- what only trouble needs ---- */

struct tcp_trouble *tcp_trouble_get(struct tcp_conn *conn)
{
	if (!conn->trouble) {
		conn->trouble = malloc(sizeof(*conn->trouble));
		if (conn->trouble)
			*conn->trouble = (struct tcp_trouble){
				.reorder_mult = 1,
				.rack_fack = conn->snd_una,
				.ecn_recover = conn->snd_una - 1,
			};
	}
	return conn->trouble;
}

void tcp_trouble_free(struct tcp_conn *conn)
{
	free(conn->trouble);
	conn->trouble = NULL;
}

/* ---- undoing ---- */

/* What is to come back if all that is sent again now was for nothing. */
static void remember(struct tcp_conn *conn, struct tcp_trouble *t)
{
	t->undoable = true;
	t->undo_resent = false;
	/* The D-SACK of a probe that is out looks like one of what is sent again now. */
	t->undo_left = conn->watch & TCP_WATCH_PROBE && t->probe_again ? conn->mss : 0;
	t->undo_una = conn->snd_una;
	t->undo_cwnd = conn->cc.cwnd;
	t->undo_ssthresh = conn->cc.ssthresh;
}

void tcp_note_resent(struct tcp_conn *conn, uint32_t bytes)
{
	struct tcp_trouble *t = conn->trouble;

	if (!t || conn->recovery == TCP_OPEN)
		return;
	if (conn->recovery == TCP_RECOVERY)
		t->prr_out += bytes;
	if (!t->undo_resent)
		t->undo_ts = tcp_timestamp(conn, conn->net->sched->now_ns);
	t->undo_resent = true;
	t->undo_left += bytes;
}

/* RFC 3522 3.2, Eifel: the ACK echoes a timestamp from before anything was sent again. */
static bool echoes_original(const struct tcp_conn *conn, const struct tcp_ack_facts *facts)
{
	const struct tcp_options *o = &facts->h->options;

	return facts->acked > 0 && conn->timestamps && o->has & TCP_HAS_TIMESTAMP &&
	       o->ts_echo != 0 && seq_before(o->ts_echo, conn->trouble->undo_ts);
}

/* The original arrived of everything that was sent again. */
static bool was_for_nothing(const struct tcp_conn *conn, const struct tcp_ack_facts *facts)
{
	const struct tcp_trouble *t = conn->trouble;

	return t && t->undoable && t->undo_resent &&
	       (t->undo_left == 0 || echoes_original(conn, facts));
}

static void undo(struct tcp_conn *conn)
{
	struct tcp_trouble *t = conn->trouble;
	struct tcp_cc *cc = &conn->cc;

	sched_count(conn->net->sched, COUNTER_TCP_UNDONE, 1);
	if (cc->cwnd < t->undo_cwnd)
		cc->cwnd = t->undo_cwnd;
	if (cc->ssthresh < t->undo_ssthresh)
		cc->ssthresh = t->undo_ssthresh;
	if (cc->ops->undo)
		cc->ops->undo(cc);
	tcp_scoreboard_unlose(&conn->sb);
	t->undoable = false;
	t->forward_rto = false;
	t->forward_new = false;
	conn->recovery = TCP_OPEN;
}

/* RFC 2883 5, RFC 3708 3: a D-SACK tells of one retransmission that was for nothing. */
static void take_dsack(struct tcp_conn *conn, const struct tcp_ack_facts *facts)
{
	uint32_t bytes = facts->dsack.end - facts->dsack.start;
	struct tcp_trouble *t = conn->trouble;

	if (bytes == 0 || !t)
		return;
	sched_count(conn->net->sched, COUNTER_TCP_DSACKS, 1);
	tcp_rack_dsack(conn);
	/* RFC 3708 3: only of what was sent again; the network makes duplicates, too. */
	if (t->undoable && facts->dsack.end - t->undo_una - 1 < conn->recover - t->undo_una)
		t->undo_left -= bytes < t->undo_left ? bytes : t->undo_left;
}

/* ---- fast recovery ---- */

static void enter_recovery(struct tcp_conn *conn)
{
	struct sched *sched = conn->net->sched;
	struct tcp_trouble *t = tcp_trouble_get(conn);

	if (!t) {
		tcp_scoreboard_unlose(&conn->sb); /* the timer will know */
		return;
	}
	sched_count(sched, COUNTER_TCP_FAST_RETRANSMITS, 1);
	remember(conn, t);
	t->prr_delivered = 0;
	t->prr_out = 0;
	t->recover_flight = tcp_flight(conn);
	conn->cc.ops->reduce(&conn->cc, tcp_flight(conn), false, sched->now_ns);
	conn->recover = conn->snd_nxt;
	conn->recovery = TCP_RECOVERY;
	conn->ecn_cwr = conn->ecn;
	conn->partial_seen = false;
	conn->watch &= (uint8_t)~TCP_WATCH_PROBE;
	tcp_restart_retransmit(conn);
}

static void leave_recovery(struct tcp_conn *conn)
{
	struct tcp_cc *cc = &conn->cc;

	/* RFC 6937 3: the window is what was decided when it began. */
	if (conn->recovery == TCP_RECOVERY)
		cc->cwnd = cc->ssthresh > cc->mss ? cc->ssthresh : cc->mss;
	tcp_rack_recovered(conn);
	conn->recovery = TCP_OPEN;
}

static uint32_t to_segments(uint64_t bytes, uint32_t mss)
{
	return (uint32_t)((bytes + mss - 1) / mss) * mss;
}

/* RFC 6937 3: delivered bytes let out others, in the ratio that brings what is in the network down
 * to ssthresh by the end of the recovery; below it (slow start reduction bound) no more than is
 * delivered and, if the ACK made progress without further loss, a segment. */
static void reduce_proportionally(struct tcp_conn *conn, uint32_t delivered, bool progress)
{
	struct tcp_trouble *t = conn->trouble;
	struct tcp_cc *cc = &conn->cc;
	uint32_t pipe = tcp_pipe(conn);
	uint32_t send = 0;

	t->prr_delivered += delivered;
	if (pipe > cc->ssthresh) {
		uint64_t share = (uint64_t)t->prr_delivered * cc->ssthresh / t->recover_flight;
		uint32_t allowed = to_segments(share, cc->mss);
		send = allowed > t->prr_out ? allowed - t->prr_out : 0;
	} else {
		uint32_t limit = t->prr_delivered > t->prr_out ? t->prr_delivered - t->prr_out : 0;
		if (limit < delivered)
			limit = delivered;
		if (progress)
			limit += cc->mss;
		uint32_t room = cc->ssthresh - pipe;
		send = room < limit ? room : limit;
	}
	/* RFC 5681 3.2 step 3, RFC 6582 3.2 step 3: the first retransmission goes in any case, and
	 * without SACK that which a partial ACK asks for: what else arrived nobody told. */
	if ((t->prr_out == 0 || (!conn->sack && conn->sb.lost > 0)) && send < cc->mss)
		send = cc->mss;
	cc->cwnd = pipe + send > cc->mss ? pipe + send : cc->mss;
}

/* ---- detection without SACK: RFC 6582 ---- */

/* The segment at snd_una is lost. */
static void lose_first(struct tcp_conn *conn)
{
	uint32_t flight = tcp_flight(conn);
	struct tcp_block block = {conn->snd_una,
				  conn->snd_una + (flight < conn->mss ? flight : conn->mss)};

	(void)tcp_scoreboard_lose(&conn->sb, conn->snd_una, block);
}

/* Duplicates stand for segments that arrived, which ones nobody says: all but one may have. */
static void bound_duplicates(struct tcp_conn *conn)
{
	uint32_t rest = tcp_flight(conn) - conn->sb.lost;
	uint32_t hole = conn->sb.lost > 0 ? 0 : conn->mss;

	rest = rest > hole ? rest - hole : 0;
	if (conn->sb.sacked > rest)
		conn->sb.sacked = rest;
}

/* RFC 6937 3: what an ACK without SACK delivered.  A duplicate is a segment; those counted before
 * are no news when they are acknowledged. */
static uint32_t count_duplicates(struct tcp_conn *conn, const struct tcp_ack_facts *facts)
{
	struct tcp_scoreboard *sb = &conn->sb;
	uint32_t before = sb->sacked;

	if (conn->recovery == TCP_LOSS) {
		sb->sacked = 0;
		return facts->acked;
	}
	if (facts->duplicate) {
		if (conn->dupacks < UINT8_MAX)
			conn->dupacks++;
		sb->sacked += conn->mss;
		bound_duplicates(conn);
		return sb->sacked > before ? sb->sacked - before : 0;
	}
	if (facts->acked == 0)
		return 0;
	uint32_t others = facts->acked > conn->mss ? facts->acked - conn->mss : 0;
	sb->sacked = before > others ? before - others : 0;
	if (conn->recovery == TCP_OPEN) {
		conn->dupacks = 0;
		sb->sacked = 0;
	}
	bound_duplicates(conn);
	return facts->acked > before - sb->sacked ? facts->acked - (before - sb->sacked) : 0;
}

/* RFC 6582 3.2 step 1: the third duplicate, unless it is of what recovery or a timeout dealt with;
 * step 3: a partial ACK tells of the next loss. */
static bool newreno_detect(struct tcp_conn *conn, const struct tcp_ack_facts *facts)
{
	if (conn->recovery == TCP_OPEN && facts->duplicate && conn->dupacks == 3 &&
	    conn->recover - conn->snd_una > tcp_flight(conn)) {
		lose_first(conn);
		bound_duplicates(conn);
		return true;
	}
	if (conn->recovery == TCP_RECOVERY && facts->acked > 0 && tcp_flight(conn) > 0) {
		lose_first(conn);
		bound_duplicates(conn);
		return true;
	}
	return false;
}

/* ---- after a timeout: RFC 5682 ---- */

/* Original segments arrive that were out at the timeout and not sent again: the timer was wrong. */
static bool timeout_was_spurious(const struct tcp_conn *conn, const struct tcp_delivered *d)
{
	const struct tcp_trouble *t = conn->trouble;

	return t && t->forward_rto && d->once_low_set && seq_reached(d->once_low, conn->recover) &&
	       (conn->sack || !d->retransmitted);
}

/* RFC 5682 2.1 step 2: the first ACK behind a timeout lets out new data, to see what the second
 * says; step 3 a: if that does not advance, the timeout was right. */
static void forward_rto(struct tcp_conn *conn, const struct tcp_ack_facts *facts)
{
	struct tcp_trouble *t = conn->trouble;

	if (!t || !t->forward_rto)
		return;
	if (t->forward_new || facts->acked == 0 || tcp_unsent(conn) == 0) {
		/* Step 3 a: what is new is in flight still, and the lost go beside it. */
		if (t->forward_new && !conn->sack && conn->cc.cwnd < 3 * conn->mss)
			conn->cc.cwnd = 3 * conn->mss;
		t->forward_rto = false;
		t->forward_new = false;
		return;
	}
	t->forward_new = true;
}

static void in_loss(struct tcp_conn *conn, const struct tcp_delivered *d,
		    const struct tcp_ack_facts *facts)
{
	if (was_for_nothing(conn, facts) ||
	    (timeout_was_spurious(conn, d) && conn->trouble->undoable)) {
		undo(conn);
		return;
	}
	if (!seq_before(conn->snd_una, conn->recover)) {
		leave_recovery(conn);
		return;
	}
	forward_rto(conn, facts);
	if (conn->sack)
		(void)tcp_rack_detect(conn);
}

void tcp_enter_loss(struct tcp_conn *conn)
{
	struct tcp_trouble *t = tcp_trouble_get(conn);
	struct tcp_scoreboard *sb = &conn->sb;
	bool again = conn->retries > 0;

	if (t && conn->recovery == TCP_OPEN)
		remember(conn, t);
	if (t) {
		/* RFC 5682 2.1 step 1: not if an earlier timeout is being repaired */
		t->forward_rto = conn->recovery != TCP_LOSS;
		t->forward_new = false;
	}
	/* RFC 2018 8: the peer may have thrown away what it told of, if it then does not
	 * acknowledge it or was asked twice. */
	if (conn->sack &&
	    (again || (sb->count > 0 && tcp_scoreboard_at(sb, 0)->flags & RUN_SACKED)))
		tcp_scoreboard_forget_sacks(sb);
	if (!conn->sack)
		sb->sacked = 0;
	conn->dupacks = 0;
	conn->cc.ops->timeout(&conn->cc, tcp_flight(conn), again, conn->net->sched->now_ns);
	conn->recover = conn->snd_nxt; /* RFC 6582 3.2 step 4 */
	conn->recovery = TCP_LOSS;
	conn->ecn_cwr = conn->ecn;
	conn->watch &= (uint8_t)~TCP_WATCH_PROBE;
	tcp_rack_timeout(conn);
	conn->cc.cwnd = tcp_pipe(conn) + conn->mss;
}

/* ---- all ACKs ---- */

/* The recovery's end, or going on with it; lost: bytes that this ACK showed to be lost. */
static void in_recovery(struct tcp_conn *conn, const struct tcp_ack_facts *facts,
			uint32_t delivered, bool lost)
{
	if (was_for_nothing(conn, facts)) {
		undo(conn);
		return;
	}
	if (!seq_before(conn->snd_una, conn->recover)) {
		if (!conn->sack) {
			conn->sb.sacked = 0;
			conn->dupacks = 0;
		}
		leave_recovery(conn);
		return;
	}
	if (delivered > 0)
		reduce_proportionally(conn, delivered, facts->acked > 0 && !lost);
}

uint32_t tcp_recover(struct tcp_conn *conn, const struct tcp_delivered *d,
		     const struct tcp_ack_facts *facts)
{
	uint32_t delivered = d->bytes;
	bool lost = false;

	if (conn->sack) {
		if (conn->trouble && d->bytes > 0)
			tcp_rack_update(conn, d, facts->h);
		take_dsack(conn, facts);
		tcp_probe_acked(conn, facts);
		if (facts->acked > 0)
			conn->dupacks = 0;
		else if (d->sacked > 0 && conn->dupacks < UINT8_MAX)
			conn->dupacks++;
	} else {
		delivered = count_duplicates(conn, facts);
	}
	if (conn->recovery == TCP_LOSS) {
		in_loss(conn, d, facts);
		return delivered;
	}
	if (conn->recovery == TCP_RECOVERY && !seq_before(conn->snd_una, conn->recover))
		in_recovery(conn, facts, delivered, false);
	if (conn->sack)
		lost = conn->sb.sacked + conn->recovery > 0 && tcp_rack_detect(conn) > 0;
	else
		lost = newreno_detect(conn, facts);
	if (conn->recovery == TCP_OPEN && lost && !tcp_mtu_probe_lost(conn))
		enter_recovery(conn);
	if (conn->recovery == TCP_RECOVERY)
		in_recovery(conn, facts, delivered, lost);
	else if (facts->dsack.start != facts->dsack.end && was_for_nothing(conn, facts))
		undo(conn);
	return delivered;
}

void tcp_recovery_restart_timer(struct tcp_conn *conn)
{
	/* RFC 6582 4, the impatient way: in recovery the first partial ACK only. */
	if (conn->recovery == TCP_RECOVERY && !conn->sack) {
		if (conn->partial_seen)
			return;
		conn->partial_seen = true;
	}
	tcp_restart_retransmit(conn);
}

void tcp_reorder_due(struct tcp_conn *conn)
{
	if (!conn->sack || !conn->trouble || conn->state < TCPS_ESTABLISHED)
		return;
	if (tcp_rack_detect(conn) > 0 && conn->recovery == TCP_OPEN && !tcp_mtu_probe_lost(conn))
		enter_recovery(conn);
	if (conn->recovery == TCP_RECOVERY && conn->trouble->prr_out == 0)
		reduce_proportionally(conn, 0, false);
}

void tcp_update_watch(struct tcp_conn *conn)
{
	conn->watch &= (uint8_t)~TCP_WATCH_ECN;
	if (conn->ecn && conn->cc.ops->ecn)
		conn->watch |= TCP_WATCH_ECN;
}

void tcp_congestion_marked(struct tcp_conn *conn, uint32_t flight)
{
	struct tcp_trouble *t = tcp_trouble_get(conn);
	struct tcp_cc *cc = &conn->cc;

	/* RFC 3168 6.1.2: once a window of data; not on top of a loss's reduction.  The ACK of the
	 * window's last segment is of the same window. */
	if (!t || conn->recovery != TCP_OPEN || t->ecn_recover - conn->snd_una <= tcp_flight(conn))
		return;
	t->ecn_recover = conn->snd_nxt;
	t->undoable = false;
	cc->ops->reduce(cc, flight, true, conn->net->sched->now_ns);
	if (cc->cwnd > cc->ssthresh)
		cc->cwnd = cc->ssthresh > cc->mss ? cc->ssthresh : cc->mss;
	conn->ecn_cwr = conn->ecn;
}
