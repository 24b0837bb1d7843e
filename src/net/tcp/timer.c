/* SPDX-License-Identifier: MIT
 * net/tcp/timer.c - what time does to a connection: retransmission (RFC 6298 5), window probes (RFC
 * 9293 3.8.6.1), delayed ACKs, keep-alive (3.8.4), user timeout (RFC 5482), TIME-WAIT.
 *
 * A connection has one timer and a deadline for each cause.  The timer stands at or before the
 * earliest deadline: clearing or moving a deadline leaves it, and a timer that fires early looks
 * again.
 */
#include "net/tcp/mtu.h"
#include "net/tcp/recovery.h"

#include <errno.h>

static void arm(struct tcp_conn *conn, uint64_t deadline_ns)
{
	timer_arm(&conn->net->sched->timers, &conn->timer, deadline_ns);
	conn->timer_ns = deadline_ns;
}

void tcp_set_deadline(struct tcp_conn *conn, enum tcp_deadline which, uint64_t deadline_ns)
{
	conn->deadline_ns[which] = deadline_ns;
	if (which == TCP_RETRANSMIT)
		conn->armed_reads = conn->net->sched->clock_reads;
	if (!timer_armed(&conn->timer) || conn->timer_ns > deadline_ns)
		arm(conn, deadline_ns);
}

void tcp_look_later(struct tcp_conn *conn, uint64_t at_ns)
{
	if (conn->deadline_ns[TCP_LATER] == 0 || at_ns < conn->deadline_ns[TCP_LATER])
		tcp_set_deadline(conn, TCP_LATER, at_ns);
}

void tcp_restart_retransmit(struct tcp_conn *conn)
{
	conn->persist = false;
	if (conn->snd_una == conn->snd_nxt)
		tcp_clear_deadline(conn, TCP_RETRANSMIT);
	else
		tcp_set_deadline(conn, TCP_RETRANSMIT, tcp_retransmit_deadline(conn));
}

/* ---- giving up ---- */

static int failure(const struct tcp_conn *conn)
{
	return conn->soft_error ? conn->soft_error : ETIMEDOUT;
}

/* RFC 5482: nothing was acknowledged for as long as the user is willing to wait. */
static bool user_timed_out(const struct tcp_conn *conn)
{
	return conn->user_timeout_ms != 0 && conn->net->sched->now_ns - conn->progress_ns >=
						     (uint64_t)conn->user_timeout_ms * 1000000;
}

/* The next deadline of the retransmission timer, which the user timeout may bring forward. */
static void set_retransmit(struct tcp_conn *conn)
{
	uint64_t deadline = conn->net->sched->now_ns + tcp_rtt_timeout(&conn->rtt);

	conn->probe = 0;
	if (conn->user_timeout_ms != 0) {
		uint64_t end = conn->progress_ns + (uint64_t)conn->user_timeout_ms * 1000000;
		if (end < deadline)
			deadline = end;
	}
	tcp_set_deadline(conn, TCP_RETRANSMIT, deadline);
}

/* ---- what fires ---- */

static void syn_timeout(struct tcp_conn *conn)
{
	const struct config *config = &conn->net->sched->config;

	/* RFC 9293 3.8.3 MUST-23: a SYN is tried for at least three minutes by default. */
	if (conn->retries >= (uint32_t)config->tcp_syn_retries || user_timed_out(conn)) {
		tcp_finish(conn, failure(conn));
		return;
	}
	conn->retries++;
	tcp_rtt_back_off(&conn->rtt);
	tcp_clear_deadline(conn, TCP_RETRANSMIT);
	sched_count(conn->net->sched, COUNTER_TCP_TIMEOUTS, 1);
	sched_count(conn->net->sched, COUNTER_TCP_RETRANSMITTED, 1);
	tcp_send_syn(conn);
}

/* RFC 6429 3: whoever has closed a connection does not keep its memory for a peer that answers, but
 * takes nothing. */
static bool left_alone(const struct tcp_conn *conn)
{
	return conn->closed && conn->net->sched->now_ns - conn->progress_ns >= TCP_CLOSED_WINDOW_NS;
}

static void probe_timeout(struct tcp_conn *conn)
{
	if (left_alone(conn)) {
		tcp_abort(conn, ETIMEDOUT);
		return;
	}
	/* RFC 9293 3.8.6.1 MUST-37: as long as the peer answers, the connection stays open. */
	if (conn->retries >= (uint32_t)conn->net->sched->config.tcp_retries ||
	    user_timed_out(conn)) {
		tcp_finish(conn, failure(conn));
		return;
	}
	conn->retries++;
	tcp_rtt_back_off(&conn->rtt); /* SHLD-30: with growing intervals */
	set_retransmit(conn);
	tcp_output_or_probe(conn);
}

static void retransmit_timeout(struct tcp_conn *conn)
{
	struct sched *sched = conn->net->sched;

	/* RFC 9293 3.8.3 MUST-20, R2 */
	if (conn->retries >= (uint32_t)sched->config.tcp_retries || user_timed_out(conn)) {
		if (sched->config.tcp_timeout_reset)
			tcp_abort(conn, failure(conn));
		else
			tcp_finish(conn, failure(conn));
		return;
	}
	sched_count(sched, COUNTER_TCP_TIMEOUTS, 1);
	tcp_mtu_timeout(conn);
	tcp_enter_loss(conn);
	conn->retries++;
	tcp_rtt_back_off(&conn->rtt);
	set_retransmit(conn); /* first, so that output leaves it as it is */
	tcp_output(conn);
}

/* What an application pushes after it was away for long goes out at the time that was read before:
 * the deadline then lies in the past at the next reading.  Between setting a deadline and its time
 * the clock is read twice at least in a thread that keeps its word to enter the library each
 * millisecond, or sleeps in it. */
static bool set_before_a_pause(const struct tcp_conn *conn)
{
	return conn->net->sched->clock_reads - conn->armed_reads < 2;
}

/* Data that was sent since moved the probe's time: not beyond the timeout, which it does not move
 * (RFC 8985 7.2, RFC 6298 5.1). */
static void probe_due(struct tcp_conn *conn)
{
	uint64_t due = conn->sent_ns + 2 * conn->rtt.srtt_ns;
	uint64_t end = conn->progress_ns + tcp_rtt_timeout(&conn->rtt);

	if (due > end)
		due = end;
	if (conn->net->sched->now_ns < due)
		tcp_set_deadline(conn, TCP_RETRANSMIT, due);
	else
		tcp_probe_due(conn);
}

static void retransmission_due(struct tcp_conn *conn)
{
	if (set_before_a_pause(conn)) {
		conn->progress_ns = conn->net->sched->now_ns;
		set_retransmit(conn);
		return;
	}
	tcp_clear_deadline(conn, TCP_RETRANSMIT);
	if (conn->state == TCPS_SYN_SENT || conn->state == TCPS_SYN_RECEIVED)
		syn_timeout(conn);
	else if (conn->persist)
		probe_timeout(conn);
	else if (conn->snd_una != conn->snd_nxt && conn->probe & TCP_PROBE_NEXT)
		probe_due(conn);
	else if (conn->snd_una != conn->snd_nxt)
		retransmit_timeout(conn);
	else
		tcp_want_output(conn); /* memory was short when it was to be sent */
}

static void keepalive_due(struct tcp_conn *conn)
{
	const uint64_t second = 1000000000;
	uint64_t now = conn->net->sched->now_ns;
	uint64_t idle_end = conn->received_ns + conn->keepalive_idle_s * second;

	tcp_clear_deadline(conn, TCP_KEEPALIVE);
	if (!conn->keepalive || conn->state < TCPS_ESTABLISHED || conn->state == TCPS_TIME_WAIT)
		return;
	if (tcp_flight(conn) > 0 ||
	    now < idle_end) { /* unacknowledged data has a timer of its own */
		tcp_set_deadline(conn, TCP_KEEPALIVE,
				 now < idle_end ? idle_end : now + conn->keepalive_idle_s * second);
		return;
	}
	/* RFC 9293 3.8.4 MUST-29: one lost probe proves nothing. */
	if (conn->keepalive_sent >= conn->keepalive_probes) {
		tcp_abort(conn, failure(conn));
		return;
	}
	conn->keepalive_sent++;
	tcp_send_keepalive(conn);
	tcp_set_deadline(conn, TCP_KEEPALIVE, now + conn->keepalive_interval_s * second);
}

void tcp_start_keepalive(struct tcp_conn *conn)
{
	if (conn->keepalive && conn->state >= TCPS_ESTABLISHED)
		tcp_set_deadline(conn, TCP_KEEPALIVE,
				 conn->net->sched->now_ns +
					 (uint64_t)conn->keepalive_idle_s * 1000000000);
	else
		tcp_clear_deadline(conn, TCP_KEEPALIVE);
}

static bool due(const struct tcp_conn *conn, enum tcp_deadline which)
{
	/* Within the tick in which the timer fires. */
	return conn->deadline_ns[which] != 0 &&
	       conn->deadline_ns[which] <= conn->net->sched->now_ns;
}

static void fire(struct tcp_conn *conn)
{
	if (due(conn, TCP_DELAYED_ACK)) {
		tcp_clear_deadline(conn, TCP_DELAYED_ACK);
		conn->ack_now = true;
		tcp_want_output(conn);
	}
	if (due(conn, TCP_KEEPALIVE))
		keepalive_due(conn);
	if (due(conn, TCP_LATER)) {
		tcp_clear_deadline(conn, TCP_LATER);
		tcp_reorder_due(conn);
		tcp_want_output(conn);
	}
	if (due(conn, TCP_RETRANSMIT))
		retransmission_due(conn);
	if (due(conn, TCP_STATE))
		tcp_finish(conn, 0);
}

void tcp_timer_fired(struct timer *timer)
{
	struct tcp_conn *conn = container_of(timer, struct tcp_conn, timer);
	uint64_t next = UINT64_MAX;

	fire(conn);
	if (conn->dead)
		return;
	for (int i = 0; i < TCP_DEADLINES; i++) {
		if (conn->deadline_ns[i] != 0 && conn->deadline_ns[i] < next)
			next = conn->deadline_ns[i];
	}
	if (next != UINT64_MAX)
		arm(conn, next);
}
