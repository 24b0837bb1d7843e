/* SPDX-License-Identifier: MIT
 * net/tcp/hystart.c - the first slow start, which a rise of the round-trip time ends before packets
 * are lost: HyStart++, RFC 9406.
 *
 * A round is the time in which what was sent at its begin is acknowledged.  If its smallest
 * round-trip time is well above the last round's, the window grows at a quarter of the speed
 * (conservative slow start); if that was a false alarm the smallest time falls again, and slow
 * start goes on; if it was none for CSS_ROUNDS rounds, congestion avoidance begins.
 *
 * Later slow starts are those of RFC 5681: ssthresh is known then (RFC 9406 4.3 SHOULD).
 */
#include "net/tcp/cc.h"

#include "base/bits.h"

/* RFC 9406 4.3 RECOMMENDED; times in microseconds */
#define MIN_RTT_THRESH     4000
#define MAX_RTT_THRESH     16000
#define MIN_RTT_DIVISOR    8
#define N_RTT_SAMPLE       8
#define CSS_GROWTH_DIVISOR 4
#define CSS_ROUNDS         5
#define L_SEGMENTS         8 /* of one ACK: as without pacing, which keeps bursts small */

#define NO_TIME UINT32_MAX

static void begin_round(struct tcp_hystart *hs, uint32_t nxt)
{
	hs->round_end = nxt;
	hs->last_min = hs->min;
	hs->min = NO_TIME;
	hs->samples = 0;
}

static void take_sample(struct tcp_hystart *hs, uint64_t rtt_ns)
{
	uint64_t us = rtt_ns / 1000;

	if (rtt_ns == 0)
		return;
	if (us < hs->min)
		hs->min = (uint32_t)us;
	if (hs->samples < N_RTT_SAMPLE)
		hs->samples++;
}

/* RFC 9406 4.2: RttThresh */
static uint32_t threshold(uint32_t last_min)
{
	uint32_t us = last_min / MIN_RTT_DIVISOR;

	if (us < MIN_RTT_THRESH)
		return MIN_RTT_THRESH;
	return us > MAX_RTT_THRESH ? MAX_RTT_THRESH : us;
}

/* What the round-trip times of this round tell so far. */
static void judge(struct tcp_hystart *hs)
{
	if (hs->samples < N_RTT_SAMPLE)
		return;
	if (hs->conservative == 0) {
		if (hs->last_min == NO_TIME ||
		    (uint64_t)hs->min < (uint64_t)hs->last_min + threshold(hs->last_min))
			return;
		hs->baseline = hs->min;
		hs->conservative = 1; /* the rest of this round counts */
	} else if (hs->min < hs->baseline) {
		hs->baseline = NO_TIME;
		hs->conservative = 0;
	}
}

/* HyStart without ++, for peers and tests that are measured against it: slow start ends when nine
 * round-trip times of one round are well above the smallest of all, which is in baseline here. */
static void exit_by_delay(struct tcp_cc *cc, const struct tcp_cc_ack *ack, uint32_t bytes)
{
	struct tcp_hystart *hs = &cc->hystart;
	bool enough = hs->samples == N_RTT_SAMPLE;

	if (!hs->started || ack->una - hs->round_end - 1 < TCP_CC_WINDOW_MAX) {
		if (!hs->started)
			hs->baseline = NO_TIME;
		hs->started = true;
		enough = false;
		begin_round(hs, ack->nxt);
	}
	take_sample(hs, ack->rtt_ns);
	if (hs->min < hs->baseline)
		hs->baseline = hs->min;
	if (enough && (uint64_t)hs->min > (uint64_t)hs->baseline + threshold(hs->baseline))
		cc->ssthresh = cc->cwnd;
	else
		tcp_cc_grow(cc, bytes);
}

void tcp_hystart_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack, uint32_t bytes)
{
	struct tcp_hystart *hs = &cc->hystart;
	uint32_t bound = L_SEGMENTS * cc->mss;

	if (unlikely(cc->exit_by_delay)) {
		exit_by_delay(cc, ack, bytes);
		return;
	}

	if (!hs->started) {
		hs->started = true;
		hs->min = NO_TIME;
		begin_round(hs, ack->nxt);
	}
	if (bytes > bound)
		bytes = bound;
	tcp_cc_grow(cc, hs->conservative ? bytes / CSS_GROWTH_DIVISOR : bytes);
	take_sample(hs, ack->rtt_ns);
	judge(hs);
	/* Still before it, by a window at most; ACKs that let nothing grow were not seen here. */
	if (hs->round_end - ack->una - 1 < TCP_CC_WINDOW_MAX)
		return;
	if (hs->conservative > 0 && hs->conservative++ == CSS_ROUNDS)
		cc->ssthresh = cc->cwnd;
	else
		begin_round(hs, ack->nxt);
}
