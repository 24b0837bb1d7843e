/* SPDX-License-Identifier: MIT
 * net/tcp/newreno.c - slow start and congestion avoidance of RFC 5681 3.1, counting bytes (RFC
 * 3465, L = 2).
 */
#include "net/tcp/cc.h"

#include <stddef.h>

#define WINDOW_MAX ((uint32_t)1 << 30) /* RFC 7323 2.3: no window is larger */

static void newreno_init(struct tcp_cc *cc)
{
	(void)cc;
}

static void newreno_acked(struct tcp_cc *cc, uint32_t bytes, uint32_t flight, uint64_t now_ns,
			  uint64_t srtt_ns)
{
	(void)now_ns;
	(void)srtt_ns;
	/* RFC 7661 4.1: a window that was not used proves nothing, so it does not grow.  In slow
	 * start half of it is use enough, as a window doubles in a round trip. */
	uint32_t used = cc->cwnd < cc->ssthresh ? 2 * flight : flight + cc->mss;
	if (used < cc->cwnd || cc->cwnd >= WINDOW_MAX)
		return;
	if (cc->cwnd < cc->ssthresh) {
		cc->cwnd += bytes < 2 * cc->mss ? bytes : 2 * cc->mss;
		return;
	}
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

static void newreno_lost(struct tcp_cc *cc, uint32_t flight, uint64_t now_ns)
{
	(void)now_ns;
	cc->ssthresh = half(cc, flight);
	cc->acked_bytes = 0;
}

static void newreno_timeout(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns)
{
	(void)now_ns;
	if (!again)
		cc->ssthresh = half(cc, flight);
	cc->cwnd = cc->mss;
	cc->acked_bytes = 0;
}

const struct tcp_cc_ops tcp_cc_newreno = {
	.name = "reno", /* as Linux calls it */
	.init = newreno_init,
	.acked = newreno_acked,
	.lost = newreno_lost,
	.timeout = newreno_timeout,
};
