/* SPDX-License-Identifier: MIT
 * net/tcp/newreno.c - slow start and congestion avoidance of RFC 5681 3.1, counting bytes (RFC
 * 3465, L = 2).
 */
#include "net/tcp/cc.h"

#include "base/bits.h"

#include <stdbool.h>
#include <stddef.h>

#define WINDOW_MAX ((uint32_t)1 << 30) /* RFC 7323 2.3: no window is larger */

/* Of tcp_cc.state, zero at first. */
enum {
	CREDIT, /* bytes that were in flight when the window was the limit, not acknowledged yet */
	AFTER_TIMEOUT, /* this slow start began with a timeout */
};

static void newreno_init(struct tcp_cc *cc)
{
	(void)cc;
}

/* RFC 7661 4.1, RFC 9438 5.8: a window that was not used proves nothing, so it does not grow.  In
 * slow start half of it is use enough, as a window doubles in a round trip.  What was in flight
 * then counts until it is acknowledged: many ACKs may come before anything is sent again, each of
 * which leaves less in flight.  Returns the bytes that count. */
static uint32_t credited(struct tcp_cc *cc, uint32_t bytes, uint32_t flight)
{
	uint32_t used = cc->cwnd < cc->ssthresh ? 2 * flight : flight + cc->mss;

	if (used >= cc->cwnd)
		cc->state[CREDIT] = flight;
	else if (likely(cc->state[CREDIT] == 0))
		return 0;
	if (bytes > cc->state[CREDIT])
		bytes = (uint32_t)cc->state[CREDIT];
	cc->state[CREDIT] -= bytes;
	return bytes;
}

static void slow_start(struct tcp_cc *cc, uint32_t bytes)
{
	/* RFC 3465 2.3 MUST: one segment after a timeout, when an ACK may tell of much that was
	 * sent long before; else two. */
	uint32_t bound = cc->state[AFTER_TIMEOUT] ? cc->mss : 2 * cc->mss;

	cc->cwnd += bytes < bound ? bytes : bound;
}

static void newreno_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	uint32_t bytes = credited(cc, ack->bytes, ack->flight);

	if (bytes == 0 || cc->cwnd >= WINDOW_MAX)
		return;
	if (cc->cwnd < cc->ssthresh) {
		slow_start(cc, bytes);
		return;
	}
	cc->state[AFTER_TIMEOUT] = false;
	cc->acked_bytes += bytes;
	if (cc->acked_bytes >= cc->cwnd) {
		cc->acked_bytes -= cc->cwnd;
		cc->cwnd += cc->mss;
	}
}

/* RFC 5681 equation 4 */
static uint32_t half(const struct tcp_cc *cc, uint32_t flight)
{
	return flight / 2 > 2 * cc->mss ? flight / 2 : 2 * cc->mss;
}

static void newreno_reduce(struct tcp_cc *cc, uint32_t flight, int ecn, uint64_t now_ns)
{
	(void)ecn;
	(void)now_ns;
	cc->ssthresh = half(cc, flight);
	cc->acked_bytes = 0;
	cc->state[CREDIT] = 0;
	cc->state[AFTER_TIMEOUT] = false;
}

static void newreno_timeout(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns)
{
	(void)now_ns;
	if (!again)
		cc->ssthresh = half(cc, flight);
	cc->cwnd = cc->mss;
	cc->acked_bytes = 0;
	cc->state[CREDIT] = 0;
	cc->state[AFTER_TIMEOUT] = true;
}

const struct tcp_cc_ops tcp_cc_newreno = {
	.name = "reno", /* as Linux calls it */
	.init = newreno_init,
	.acked = newreno_acked,
	.reduce = newreno_reduce,
	.timeout = newreno_timeout,
};
