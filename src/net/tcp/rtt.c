/* SPDX-License-Identifier: MIT
 * net/tcp/rtt.c - see rtt.h.
 */
#include "net/tcp/rtt.h"

#include "base/assert.h"
#include "base/bits.h"

#define BACKOFF_MAX 16 /* doublings: beyond it every timeout is rto_max_ns */

static uint64_t clamp(const struct tcp_rtt *rtt, uint64_t ns)
{
	if (ns < rtt->rto_min_ns)
		return rtt->rto_min_ns;
	return ns > rtt->rto_max_ns ? rtt->rto_max_ns : ns;
}

void tcp_rtt_init(struct tcp_rtt *rtt, uint64_t initial_ns, uint64_t min_ns, uint64_t max_ns)
{
	ASSERT(min_ns > 0 && max_ns > 0);
	if (min_ns > max_ns)
		min_ns = max_ns;
	*rtt = (struct tcp_rtt){.rto_min_ns = min_ns, .rto_max_ns = max_ns, .min_ns = UINT64_MAX};
	rtt->rto_ns = clamp(rtt, initial_ns);
}

void tcp_rtt_sample(struct tcp_rtt *rtt, uint64_t sample_ns, uint32_t samples_per_rtt,
		    uint64_t granularity_ns)
{
	ASSERT(samples_per_rtt > 0);
	if (sample_ns == 0)
		sample_ns = 1; /* 0 stands for no sample */
	if (sample_ns < rtt->min_ns)
		rtt->min_ns = sample_ns;
	if (rtt->srtt_ns == 0) { /* RFC 6298 2.2 */
		rtt->srtt_ns = sample_ns;
		rtt->rttvar_ns = sample_ns / 2;
	} else { /* RFC 6298 2.3; RFC 7323 appendix G divides the gains by the samples of a round
		    trip */
		uint32_t n = bits_highest(samples_per_rtt); /* to a power of two */
		uint64_t distance = sample_ns > rtt->srtt_ns ? sample_ns - rtt->srtt_ns
							     : rtt->srtt_ns - sample_ns;
		rtt->rttvar_ns += (distance >> (2 + n)) - (rtt->rttvar_ns >> (2 + n));
		rtt->srtt_ns += (sample_ns >> (3 + n)) - (rtt->srtt_ns >> (3 + n));
		if (rtt->srtt_ns == 0)
			rtt->srtt_ns = 1;
	}
	uint64_t variation = 4 * rtt->rttvar_ns;
	if (variation < granularity_ns)
		variation = granularity_ns;
	if (rtt->floor_variation && variation < rtt->rto_min_ns)
		variation = rtt->rto_min_ns;
	rtt->rto_ns = clamp(rtt, rtt->srtt_ns + variation); /* RFC 6298 2.3 to 2.5 */
}

uint64_t tcp_rtt_timeout(const struct tcp_rtt *rtt)
{
	uint32_t backoff = rtt->backoff < BACKOFF_MAX ? rtt->backoff : BACKOFF_MAX;

	if (rtt->rto_ns > rtt->rto_max_ns >> backoff)
		return rtt->rto_max_ns;
	return rtt->rto_ns << backoff;
}

void tcp_rtt_back_off(struct tcp_rtt *rtt)
{
	if (rtt->backoff < BACKOFF_MAX)
		rtt->backoff++;
}

void tcp_rtt_reset_backoff(struct tcp_rtt *rtt)
{
	rtt->backoff = 0;
}

void tcp_rtt_check(const struct tcp_rtt *rtt)
{
	ASSERT(rtt->rto_min_ns <= rtt->rto_ns && rtt->rto_ns <= rtt->rto_max_ns);
	ASSERT(rtt->backoff <= BACKOFF_MAX);
	ASSERT((rtt->srtt_ns == 0) == (rtt->min_ns == UINT64_MAX));
}
