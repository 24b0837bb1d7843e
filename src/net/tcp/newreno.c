/* SPDX-License-Identifier: MIT
 * net/tcp/newreno.c - slow start and congestion avoidance of RFC 5681 3.1, counting bytes (RFC
 * 3465, L = 2).
 */
#include "net/tcp/cc.h"

#include "base/bits.h"

#include <stddef.h>

static void newreno_init(struct tcp_cc *cc)
{
	(void)cc;
}

/* Apart, so that the common case saves no registers. */
static __attribute__((noinline)) void grow(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	uint32_t bytes = tcp_cc_credited(cc, ack);

	if (cc->cwnd < cc->ssthresh) {
		tcp_cc_slow_start(cc, bytes);
		return;
	}
	cc->after_timeout = false;
	cc->acked_bytes += bytes;
	if (cc->acked_bytes >= cc->cwnd) {
		cc->acked_bytes -= cc->cwnd;
		tcp_cc_grow(cc, cc->mss);
	}
}

void tcp_newreno_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	if (unlikely(!tcp_cc_rests(cc, ack)))
		grow(cc, ack);
}

void tcp_newreno_reduce(struct tcp_cc *cc, uint32_t flight, int ecn, uint64_t now_ns)
{
	(void)now_ns;
	tcp_cc_reduce(cc, tcp_cc_used(cc, flight) / 2, ecn); /* RFC 5681 equation 4 */
}

void tcp_newreno_timeout(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns)
{
	if (!again)
		tcp_newreno_reduce(cc, flight, false, now_ns);
	tcp_cc_collapse(cc);
}

const struct tcp_cc_ops tcp_cc_newreno = {
	.name = "reno", /* as Linux calls it */
	.init = newreno_init,
	.acked = tcp_newreno_acked,
	.reduce = tcp_newreno_reduce,
	.timeout = tcp_newreno_timeout,
};
