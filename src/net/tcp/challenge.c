/* SPDX-License-Identifier: MIT
 * net/tcp/challenge.c - how often a connection answers what it does not accept.  RFC 5961 7, RFC
 * 9293 3.10.7.4.
 *
 * Each connection has its own two limits, of 4 bytes each.  A limit that all shared could be
 * measured by a peer: it would use it up on a connection of its own, and see from its answers
 * whether a guess at somebody else's had one (CVE-2016-5696).
 */
#include "net/tcp/tcp.h"

/* Milliseconds; 0 means "never" where a time is kept. */
static uint32_t clock_ms(const struct tcp_conn *conn)
{
	uint32_t ms = (uint32_t)(conn->net->sched->now_ns / 1000000);

	return ms ? ms : 1;
}

/* RFC 5961 7: challenges are throttled.  The time from which on the limit is unused again moves on
 * by a share of a second with each; a second ahead of the clock it is used up. */
void tcp_challenge_ack(struct tcp_conn *conn)
{
	const uint32_t second = 1000;
	uint32_t share = second / (uint32_t)conn->net->sched->config.tcp_challenge_acks;
	uint32_t now = clock_ms(conn);
	uint32_t ahead = conn->challenge_ms - now;

	if (ahead > second) { /* behind the clock, or never set: all of it is there */
		ahead = 0;
		conn->challenge_ms = now;
	}
	if (ahead + share > second) {
		sched_count(conn->net->sched, COUNTER_TCP_CHALLENGES_SPARED, 1);
		return;
	}
	conn->challenge_ms += share;
	sched_count(conn->net->sched, COUNTER_TCP_CHALLENGE_ACKS, 1);
	tcp_send_ack(conn);
}

/* Two ends that are out of step answer each other's ACKs for ever, as fast as the path carries
 * them, unless one of them waits. */
bool tcp_may_answer(struct tcp_conn *conn)
{
	uint32_t interval = (uint32_t)conn->net->sched->config.tcp_invalid_ack_interval_ms;
	uint32_t now = clock_ms(conn);

	if (conn->answered_ms != 0 && now - conn->answered_ms < interval) {
		sched_count(conn->net->sched, COUNTER_TCP_ANSWERS_SPARED, 1);
		return false;
	}
	conn->answered_ms = now;
	return true;
}
