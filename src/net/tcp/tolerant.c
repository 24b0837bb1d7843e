/* SPDX-License-Identifier: MIT
 * net/tcp/tolerant.c - congestion control for paths that lose without being full, after S. Liu, T.
 * Basar and R. Srikant, TCP-Illinois (Performance Evaluation 65, 2008).  Loss still says when the
 * window shrinks; the delay that queues cause says how far, and how fast it grows: where nothing
 * waits by ten segments in a round trip and by an eighth, else as Reno does it.
 *
 * Simpler than theirs, which has values between these: with them flows that began in another's
 * queue, and so take it for a part of the path, got up to twice the others' share.
 *
 * Nothing waits if the mean delay of a round trip is below a fifth of what full queues add, which
 * is taken to be at least half of the path's own time: where queues never fill, the largest delay
 * is noise.
 *
 * Times in microseconds, shares of ONE.
 */
#include "net/tcp/cc.h"

#include "base/bits.h"

#include <stddef.h>

#define ONE              1024U
#define ALPHA_CALM       (10 * ONE)
#define BETA_CALM        (ONE / 8)
#define BETA_RENO        (ONE / 2)
#define CALM_ROUNDS      2  /* without delay, before the window grows fast */
#define SMALL_WINDOW     10 /* segments: below, all is as Reno does it */
#define SLOW_START_DELAY 4000
#define SAMPLE_MAX       1000000U

static void tolerant_init(struct tcp_cc *cc)
{
	cc->tolerant = (struct tcp_tolerant){.alpha = ALPHA_CALM, .beta = BETA_CALM};
}

/* A round trip is over: its mean delay decides. */
static void end_round(struct tcp_cc *cc)
{
	struct tcp_tolerant *il = &cc->tolerant;
	uint32_t delay = il->sum / il->samples - il->min;
	uint32_t full = il->max - il->min;

	if (full < il->min / 2)
		full = il->min / 2;
	if (delay <= full / 5) {
		il->calm += il->calm < CALM_ROUNDS;
		il->beta = BETA_CALM;
		if (il->calm == CALM_ROUNDS)
			il->alpha = ALPHA_CALM;
	} else {
		il->calm = 0;
		il->beta = BETA_RENO;
		il->alpha = ONE;
	}
	il->sum = 0;
	il->samples = 0;
	/* As RFC 9406 does it: slow start ends before the queue is full. */
	if (cc->cwnd < cc->ssthresh && delay > il->min / 8 && delay > SLOW_START_DELAY)
		cc->ssthresh = cc->cwnd;
}

static void take_sample(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	struct tcp_tolerant *il = &cc->tolerant;
	uint64_t us = ack->rtt_ns / 1000;

	if (!cc->round || (int32_t)(ack->una - il->round_end) > 0) {
		if (il->samples > 0)
			end_round(cc);
		cc->round = true;
		il->round_end = ack->nxt;
	}
	if (us == 0)
		return;
	uint32_t sample = us < SAMPLE_MAX ? (uint32_t)us : SAMPLE_MAX;
	if (il->min == 0 || sample < il->min)
		il->min = sample;
	if (sample > il->max)
		il->max = sample;
	if (il->sum <= UINT32_MAX - SAMPLE_MAX) {
		il->sum += sample;
		il->samples++;
	}
}

static void tolerant_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	take_sample(cc, ack);
	if (tcp_cc_rests(cc, ack))
		return;
	uint32_t bytes = tcp_cc_credited(cc, ack);
	if (cc->cwnd < cc->ssthresh) {
		tcp_cc_slow_start(cc, bytes);
		return;
	}
	cc->after_timeout = false;
	uint32_t alpha = cc->cwnd < SMALL_WINDOW * cc->mss ? ONE : cc->tolerant.alpha;
	/* alpha segments for each window that was acknowledged */
	uint64_t grown = cc->acked_bytes + (uint64_t)bytes * alpha / ONE;
	while (grown >= cc->cwnd) {
		grown -= cc->cwnd;
		tcp_cc_grow(cc, cc->mss);
	}
	cc->acked_bytes = (uint32_t)grown;
}

static void tolerant_reduce(struct tcp_cc *cc, uint32_t flight, int ecn, uint64_t now_ns)
{
	uint32_t used = tcp_cc_used(cc, flight);
	/* A mark is a queue's own word. */
	uint32_t beta = ecn || used < SMALL_WINDOW * cc->mss ? BETA_RENO : cc->tolerant.beta;

	(void)now_ns;
	tcp_cc_reduce(cc, used - (uint32_t)((uint64_t)used * beta / ONE), ecn);
}

static void tolerant_timeout(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns)
{
	struct tcp_tolerant *il = &cc->tolerant;

	if (!again)
		tcp_newreno_reduce(cc, flight, false, now_ns);
	tcp_cc_collapse(cc);
	/* nothing is known of the queues any more */
	il->alpha = ONE;
	il->beta = BETA_RENO;
	il->calm = 0;
	il->sum = 0;
	il->samples = 0;
}

const struct tcp_cc_ops tcp_cc_tolerant = {
	.name = "tolerant",
	.init = tolerant_init,
	.acked = tolerant_acked,
	.reduce = tolerant_reduce,
	.timeout = tolerant_timeout,
};
