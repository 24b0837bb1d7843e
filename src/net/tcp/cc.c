/* SPDX-License-Identifier: MIT
 * net/tcp/cc.c - see cc.h: what all algorithms share.
 */
#include "net/tcp/cc.h"

#include "base/assert.h"
#include "base/bits.h"

#include <string.h>

static const struct tcp_cc_ops *const algorithms[] = {
	&tcp_cc_newreno,
};

const struct tcp_cc_ops *tcp_cc_find(const char *name, uint32_t length)
{
	uint32_t bytes = (uint32_t)strnlen(name, length);

	for (uint32_t i = 0; i < ARRAY_LENGTH(algorithms); i++) {
		if (strlen(algorithms[i]->name) == bytes &&
		    memcmp(algorithms[i]->name, name, bytes) == 0)
			return algorithms[i];
	}
	return NULL;
}

/* RFC 6928 2 for up to ten segments, RFC 5681 3.1 for up to four; more is the administrator's word.
 */
static uint32_t initial_window(uint32_t mss, uint32_t segments)
{
	uint32_t bound = UINT32_MAX;

	if (segments <= 4)
		bound = mss > 2190 ? 2 * mss : mss > 1095 ? 3 * mss : 4 * mss;
	else if (segments <= 10)
		bound = 14600 > 2 * mss ? 14600 : 2 * mss;
	uint32_t window = segments * mss;
	return window < bound ? window : bound;
}

void tcp_cc_init(struct tcp_cc *cc, const struct tcp_cc_ops *ops, uint32_t mss,
		 uint32_t initial_segments)
{
	ASSERT(mss > 0 && initial_segments > 0);
	*cc = (struct tcp_cc){
		.ops = ops,
		.mss = mss,
		.cwnd = initial_window(mss, initial_segments),
		.ssthresh = UINT32_MAX, /* RFC 5681 3.1: arbitrarily high */
	};
	cc->initial_window = cc->cwnd;
	ops->init(cc);
}

void tcp_cc_change(struct tcp_cc *cc, const struct tcp_cc_ops *ops)
{
	cc->ops = ops;
	cc->acked_bytes = 0;
	memset(cc->state, 0, sizeof(cc->state));
	ops->init(cc);
}

/* Twice the window in slow start, so that it can double in a round trip; then 1.2 times: the window
 * stays what limits. */
uint64_t tcp_cc_pacing_rate(const struct tcp_cc *cc, uint64_t srtt_ns)
{
	uint64_t gain = cc->cwnd < cc->ssthresh / 2 ? 200 : 120;

	if (srtt_ns == 0)
		return 0;
	uint64_t rate = (uint64_t)cc->cwnd * gain * 10000000 / srtt_ns;
	return rate > 0 ? rate : 1;
}

void tcp_cc_restart(struct tcp_cc *cc)
{
	if (cc->cwnd > cc->initial_window)
		cc->cwnd = cc->initial_window;
}

void tcp_cc_set_mss(struct tcp_cc *cc, uint32_t mss)
{
	ASSERT(mss > 0);
	/* RFC 5681 3.1 SHOULD: by the ratio of the sizes, lest many small segments go out at once.
	 */
	if (mss < cc->mss) {
		cc->cwnd = (uint32_t)((uint64_t)cc->cwnd * mss / cc->mss);
		cc->initial_window = (uint32_t)((uint64_t)cc->initial_window * mss / cc->mss);
	}
	cc->mss = mss;
	if (cc->cwnd < mss)
		cc->cwnd = mss;
}

void tcp_cc_check(const struct tcp_cc *cc)
{
	ASSERT(cc->ops && cc->mss > 0);
	ASSERT(cc->cwnd >= cc->mss);
	ASSERT(cc->ssthresh > 0 && cc->initial_window > 0);
}
