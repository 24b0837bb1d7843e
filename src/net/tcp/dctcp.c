/* SPDX-License-Identifier: MIT
 * net/tcp/dctcp.c - DCTCP, RFC 8257: the window shrinks by the share of what was marked.  It grows,
 * and answers losses, as Reno's.  For data centers whose switches mark early.
 *
 * alpha, the share of TCP_DCTCP_ONE, follows that of each window by 1/16 (g).
 */
#include "net/tcp/cc.h"

#include "base/bits.h"

#include <stddef.h>

#define G_SHIFT 4 /* RFC 8257 3.3: g = 1 / 16 */

static void dctcp_init(struct tcp_cc *cc)
{
	cc->dctcp.alpha = TCP_DCTCP_ONE; /* the first mark counts in full */
}

static bool passed(uint32_t una, uint32_t end)
{
	return (int32_t)(una - end) > 0;
}

/* RFC 8257 3.3 steps 5 to 8 */
static void end_round(struct tcp_cc *cc, uint32_t nxt)
{
	struct tcp_dctcp *dc = &cc->dctcp;

	if (dc->acked > 0) {
		uint64_t share = (uint64_t)dc->marked * TCP_DCTCP_ONE / dc->acked;
		/* Rounded down both times, it would never come to 0 or to all. */
		uint64_t next = ((uint64_t)dc->alpha * 15 + share + (share > dc->alpha ? 15 : 0)) >>
				G_SHIFT;
		dc->alpha = (uint32_t)next;
	}
	dc->round_end = nxt;
	dc->acked = 0;
	dc->marked = 0;
	cc->round = true;
}

/* RFC 8257 3.3 step 9 SHOULD: cwnd * (1 - alpha / 2) */
static uint32_t less_alpha(const struct tcp_cc *cc)
{
	return cc->cwnd - (uint32_t)(((uint64_t)cc->cwnd * cc->dctcp.alpha / TCP_DCTCP_ONE) >> 1);
}

static void mark_answered(struct tcp_cc *cc, uint32_t nxt)
{
	cc->answered = false;
	cc->reduced = true;
	cc->dctcp.reduced_end = nxt;
}

static void dctcp_ecn(struct tcp_cc *cc, const struct tcp_cc_ack *ack, int marked)
{
	struct tcp_dctcp *dc = &cc->dctcp;

	if (!cc->round)
		end_round(cc, ack->nxt);
	dc->acked += ack->bytes;
	if (marked)
		dc->marked += ack->bytes;
	if (passed(ack->una, dc->round_end))
		end_round(cc, ack->nxt);
	if (unlikely(cc->answered))
		mark_answered(cc, ack->nxt);
	if (cc->reduced && passed(ack->una, dc->reduced_end))
		cc->reduced = false;
	/* RFC 8257 3.3: once for each window of data. */
	if (likely(!marked) || cc->reduced)
		return;
	tcp_cc_reduce(cc, less_alpha(cc), true);
	if (cc->cwnd > cc->ssthresh)
		cc->cwnd = cc->ssthresh;
	mark_answered(cc, ack->nxt);
}

/* RFC 8257 3.5 MUST: a loss counts as ever; what was marked of the same window adds nothing. */
static void dctcp_reduce(struct tcp_cc *cc, uint32_t flight, int ecn, uint64_t now_ns)
{
	if (ecn)
		tcp_cc_reduce(cc, less_alpha(cc), true);
	else
		tcp_newreno_reduce(cc, flight, false, now_ns);
	cc->answered = true;
}

static void dctcp_timeout(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns)
{
	tcp_newreno_timeout(cc, flight, again, now_ns);
	cc->answered = true;
}

const struct tcp_cc_ops tcp_cc_dctcp = {
	.name = "dctcp",
	.init = dctcp_init,
	.acked = tcp_newreno_acked,
	.reduce = dctcp_reduce,
	.timeout = dctcp_timeout,
	.ecn = dctcp_ecn,
};
