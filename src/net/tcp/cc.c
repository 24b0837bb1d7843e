/* SPDX-License-Identifier: MIT
 * net/tcp/cc.c - see cc.h: what all algorithms share.
 */
#include "net/tcp/cc.h"

#include "base/assert.h"
#include "base/bits.h"

#include <string.h>

/* In the order of the choices of demitasse.tcp.congestion. */
static const struct tcp_cc_ops *const algorithms[] = {
	&tcp_cc_cubic,
	&tcp_cc_newreno,
	&tcp_cc_dctcp,
	&tcp_cc_tolerant,
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

const struct tcp_cc_ops *tcp_cc_at(uint32_t index)
{
	ASSERT(index < ARRAY_LENGTH(algorithms));
	return algorithms[index];
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
		.initial_segments = (uint8_t)initial_segments,
		.ssthresh = UINT32_MAX, /* RFC 5681 3.1: arbitrarily high */
	};
	cc->initial_window = cc->cwnd;
	ops->init(cc);
}

void tcp_cc_change(struct tcp_cc *cc, const struct tcp_cc_ops *ops)
{
	cc->ops = ops;
	cc->acked_bytes = 0;
	cc->in_epoch = false;
	cc->resumed = false;
	cc->unsettled = false;
	cc->round = false;
	cc->reduced = false;
	cc->answered = false;
	memset(cc->words, 0, sizeof(cc->words));
	ops->init(cc);
}

/* ---- growing and shrinking ---- */

uint32_t tcp_cc_credited(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	/* What was in flight counts until it is acknowledged: many ACKs may come before anything is
	 * sent again, each of which leaves less in flight. */
	uint32_t credit = tcp_cc_full(cc, ack) ? ack->flight : cc->credit;
	uint32_t bytes = ack->bytes < credit ? ack->bytes : credit;

	cc->credit = credit - bytes;
	return bytes;
}

void tcp_cc_grow(struct tcp_cc *cc, uint64_t bytes)
{
	uint64_t window = cc->cwnd + bytes;

	if (window > TCP_CC_WINDOW_MAX)
		window = cc->cwnd > TCP_CC_WINDOW_MAX ? cc->cwnd : TCP_CC_WINDOW_MAX;
	cc->cwnd = (uint32_t)window;
}

void tcp_cc_slow_start(struct tcp_cc *cc, uint32_t bytes)
{
	/* RFC 3465 2.3 MUST: one segment after a timeout, when an ACK may tell of much that was
	 * sent long before; else two. */
	uint32_t bound = cc->after_timeout ? cc->mss : 2 * cc->mss;

	tcp_cc_grow(cc, bytes < bound ? bytes : bound);
}

void tcp_cc_reduce(struct tcp_cc *cc, uint32_t window, bool ecn)
{
	cc->ssthresh = window > 2 * cc->mss ? window : 2 * cc->mss;
	/* RFC 9438 4.6 MUST: marks reduce the window until it is one segment. */
	if (ecn && window < 2 * cc->mss && window < cc->cwnd)
		cc->cwnd = window > cc->mss ? window : cc->mss;
	cc->acked_bytes = 0;
	cc->credit = 0;
	cc->after_timeout = false;
}

void tcp_cc_collapse(struct tcp_cc *cc)
{
	cc->cwnd = cc->mss;
	cc->acked_bytes = 0;
	cc->credit = 0;
	cc->after_timeout = true;
}

/* ---- pacing, restarting, segment size ---- */

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
	if (mss < cc->mss)
		cc->cwnd = (uint32_t)((uint64_t)cc->cwnd * mss / cc->mss);
	cc->mss = mss;
	cc->initial_window = initial_window(mss, cc->initial_segments);
	if (cc->cwnd < mss)
		cc->cwnd = mss;
	if (cc->initial_window < mss)
		cc->initial_window = mss;
}

void tcp_cc_check(const struct tcp_cc *cc)
{
	ASSERT(cc->ops && cc->mss > 0);
	ASSERT(cc->cwnd >= cc->mss);
	ASSERT(cc->ssthresh > 0 && cc->initial_window > 0);
}
