/* SPDX-License-Identifier: MIT
 * net/tcp/cubic.c - CUBIC, RFC 9438; its first slow start is hystart.c's.
 *
 * In congestion avoidance the window follows a curve of time, W_cubic(t) = C * (t - K)^3 + W_max
 * (RFC 9438 4.2), from where it began (the epoch) up to the window of the last loss, slowly past
 * it, then ever faster; but it is at least W_est, what Reno's would be.  Whole numbers: bytes and
 * milliseconds.  Within a millisecond, which may be many round trips, the curve stands still and
 * W_est is what grows.
 *
 * Times are kept modulo 2^32 ms, their differences are right for any pause.
 *
 * Invariant: in_epoch only if ssthresh <= cwnd was seen, and w_est <= cwnd after each ACK.
 */
#include "net/tcp/cc.h"

#include "base/bits.h"

#include <string.h>

/* C * mss * ms^3 = mss * 2 / 5 * 10^-9 bytes.  Beyond SPAN_MS the curve is above any window: 0.4 *
 * 36 * 500^3 > 2^30.  SPAN_MS^3 / 1000 * 2 * 65535 < 2^64. */
#define SPAN_MS  500000
#define PAUSE_MS 2 /* shorter ones are the clock's grain */

static uint32_t in_ms(uint64_t ns)
{
	return (uint32_t)(ns / 1000000);
}

static bool first_slow_start(const struct tcp_cc *cc)
{
	return cc->ssthresh == UINT32_MAX;
}

/* ---- the curve ---- */

/* The largest whole number whose cube is at most x. */
static uint32_t cube_root(uint64_t x)
{
	uint64_t root = 0;

	for (int bit = 20; bit >= 0; bit--) { /* (2^21)^3 = 2^63 > any x here */
		uint64_t next = root | (uint64_t)1 << bit;
		if (next * next * next <= x)
			root = next;
	}
	return (uint32_t)root;
}

/* K of a distance in bytes: the cube root of distance / (C * mss) (RFC 9438 equation 2). */
static int32_t rise_ms(const struct tcp_cc *cc, uint32_t distance)
{
	return (int32_t)cube_root((uint64_t)distance * 2500000000U / cc->mss);
}

/* C * d^3 */
static int64_t curve(const struct tcp_cc *cc, int64_t d_ms)
{
	uint64_t d = (uint64_t)(d_ms < 0 ? -d_ms : d_ms);

	if (d > SPAN_MS)
		d = SPAN_MS;
	int64_t bytes = (int64_t)(d * d * d / 1000 * 2 * cc->mss / 5000000);
	return d_ms < 0 ? -bytes : bytes;
}

/* RFC 9438 4.2: target, at least cwnd, at most half as much again. */
static uint32_t target_after(const struct tcp_cc *cc, uint32_t t_ms)
{
	int64_t window = cc->cubic.w_max + curve(cc, (int64_t)t_ms - cc->cubic.k_ms);

	if (window <= cc->cwnd)
		return cc->cwnd;
	if (window > cc->cwnd + cc->cwnd / 2)
		return cc->cwnd + cc->cwnd / 2;
	return (uint32_t)window;
}

/* ---- congestion avoidance ---- */

static void begin_epoch(struct tcp_cc *cc, uint32_t now_ms)
{
	struct tcp_cubic *cu = &cc->cubic;

	cu->epoch_ms = now_ms;
	cu->grown_ms = now_ms;
	cu->w_est = cc->cwnd;
	cu->w_est_acked = 0;
	cc->acked_bytes = 0;
	cc->in_epoch = true;
	if (cu->prior == 0)
		cu->prior = cc->cwnd;
	/* RFC 9438 4.9.2: what was undone goes on.  The same curve leads through the window that
	 * was set back, also behind its flat part. */
	if (cc->resumed && cu->undo_w_est != 0 && cu->w_max != 0) {
		cu->w_est = cu->undo_w_est < cc->cwnd ? cu->undo_w_est : cc->cwnd;
		cu->k_ms = cu->w_max > cc->cwnd ? rise_ms(cc, cu->w_max - cc->cwnd)
						: -rise_ms(cc, cc->cwnd - cu->w_max);
		cc->resumed = false;
		return;
	}
	cc->resumed = false;
	if (cu->w_max > cc->cwnd) {
		cu->k_ms = rise_ms(cc, cu->w_max - cc->cwnd);
		return;
	}
	/* RFC 9438 4.8, 4.10: after a timeout, or a slow start that no loss ended. */
	cu->k_ms = 0;
	cu->w_max = cc->cwnd;
}

/* RFC 9438 4.2 MUST NOT, 5.8: the time in which the window was not what limited does not count.
 * ACKs of a window that is full come at least once in a round trip. */
static void skip_pause(struct tcp_cubic *cu, uint32_t now_ms, uint32_t srtt_ms)
{
	uint32_t since = now_ms - cu->grown_ms;

	if (since > PAUSE_MS && since / 2 > srtt_ms)
		cu->epoch_ms += since - srtt_ms;
	cu->grown_ms = now_ms;
	/* The curve ends somewhere; and time must not come round. */
	if (now_ms - cu->epoch_ms > 2 * SPAN_MS)
		cu->epoch_ms = now_ms - 2 * SPAN_MS;
}

/* RFC 9438 4.3: W_est grows by alpha segments for each window acknowledged, alpha = 3 * (1 - beta)
 * / (1 + beta) = 9 / 17, and by one from where the window was before the last event. */
static void estimate_reno(struct tcp_cc *cc, uint32_t bytes)
{
	struct tcp_cubic *cu = &cc->cubic;
	uint64_t needed = cc->cwnd;

	if (cu->w_est < cu->prior)
		needed = needed * 17 / 9;
	uint64_t have = (uint64_t)cu->w_est_acked + bytes;
	if (have >= needed) {
		uint64_t grown = cu->w_est + have / needed * cc->mss;
		cu->w_est = grown < TCP_CC_WINDOW_MAX ? (uint32_t)grown : TCP_CC_WINDOW_MAX;
		have %= needed;
	}
	cu->w_est_acked = have < UINT32_MAX ? (uint32_t)have : UINT32_MAX;
}

/* RFC 9438 4.4, 4.5: (target - cwnd) / cwnd for each segment acknowledged, in whole segments. */
static void approach(struct tcp_cc *cc, uint32_t target, uint32_t bytes)
{
	uint64_t slope = target - cc->cwnd;
	uint64_t segment = (uint64_t)cc->cwnd * cc->mss;

	if (slope == 0)
		return;
	/* What gathered where the curve was flat is not paid back in one burst. */
	if (cc->acked_bytes * slope >= segment) {
		cc->acked_bytes = 0;
		tcp_cc_grow(cc, cc->mss);
		return;
	}
	if (bytes > cc->cwnd)
		bytes = cc->cwnd;
	uint64_t have = (cc->acked_bytes + (uint64_t)bytes) * slope;
	if (have < segment) {
		cc->acked_bytes += bytes;
		if (cc->acked_bytes > TCP_CC_WINDOW_MAX)
			cc->acked_bytes = TCP_CC_WINDOW_MAX;
		return;
	}
	cc->acked_bytes = (uint32_t)(have % segment / slope);
	tcp_cc_grow(cc, have / segment * cc->mss);
}

#define LOOK_MS 32

/* by_interval: is it too early to look again, if the epoch has begun?  Else *bytes is what was
 * acknowledged since. */
static bool looked_already(struct tcp_cc *cc, uint32_t now_ms, uint32_t *bytes)
{
	uint32_t segments = cc->unlooked + *bytes / cc->mss;

	cc->unlooked = segments < UINT16_MAX ? (uint16_t)segments : UINT16_MAX;
	if (cc->in_epoch && (uint16_t)(now_ms - cc->looked_ms) < LOOK_MS)
		return true;
	*bytes = cc->unlooked * cc->mss;
	cc->unlooked = 0;
	cc->looked_ms = (uint16_t)now_ms;
	return false;
}

static void avoid_congestion(struct tcp_cc *cc, const struct tcp_cc_ack *ack, uint32_t bytes)
{
	struct tcp_cubic *cu = &cc->cubic;
	uint32_t now_ms = in_ms(ack->now_ns);
	uint32_t srtt_ms = in_ms(ack->srtt_ns);

	cc->after_timeout = false;
	if (unlikely(cc->by_interval) && looked_already(cc, now_ms, &bytes))
		return;
	/* A window that something else made smaller is where a new curve begins. */
	if (!cc->in_epoch || cu->w_est > cc->cwnd)
		begin_epoch(cc, now_ms);
	skip_pause(cu, now_ms, srtt_ms);
	approach(cc, target_after(cc, now_ms - cu->epoch_ms + srtt_ms), bytes);
	estimate_reno(cc, bytes);
	if (cu->w_est > cc->cwnd)
		tcp_cc_grow(cc, cu->w_est - cc->cwnd);
}

/* Apart, so that the common case saves no registers. */
static __attribute__((noinline)) void grow(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	uint32_t bytes = tcp_cc_credited(cc, ack);

	cc->unsettled = false;
	if (cc->cwnd >= cc->ssthresh) {
		avoid_congestion(cc, ack, bytes);
	} else if (!first_slow_start(cc)) {
		cc->in_epoch = false;
		tcp_cc_slow_start(cc, bytes);
	} else {
		tcp_hystart_acked(cc, ack, bytes);
		if (!first_slow_start(cc)) /* it is over without a loss: there is no W_max */
			memset(cc->words, 0, sizeof(cc->words));
	}
}

static void cubic_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	if (unlikely(!tcp_cc_rests(cc, ack)))
		grow(cc, ack);
}

/* ---- congestion events ---- */

static void cubic_init(struct tcp_cc *cc)
{
	(void)cc;
}

/* RFC 9438 4.6, 4.7, and what 4.9 may have to set back. */
static void note_event(struct tcp_cc *cc, bool within)
{
	struct tcp_cubic *cu = &cc->cubic;

	if (first_slow_start(cc))
		memset(cc->words, 0, sizeof(cc->words));
	if (!within) {
		cu->undo_w_max = cu->w_max;
		cu->undo_prior = cu->prior;
		cu->undo_w_est = cc->in_epoch ? cu->w_est : 0;
		cu->prior = cc->cwnd;
	}
	/* RFC 9438 4.7 SHOULD: fast convergence */
	cu->w_max = cc->cwnd < cu->w_max ? (uint32_t)((uint64_t)cc->cwnd * 17 / 20) : cc->cwnd;
	cc->unsettled = true;
	cc->in_epoch = false;
	cc->resumed = false;
}

/* RFC 9438 4.6 SHOULD: beta = 0.7 */
static uint32_t reduced(const struct tcp_cc *cc, uint32_t flight)
{
	return (uint32_t)((uint64_t)tcp_cc_used(cc, flight) * 7 / 10);
}

static void cubic_reduce(struct tcp_cc *cc, uint32_t flight, int ecn, uint64_t now_ns)
{
	(void)now_ns;
	note_event(cc, false);
	tcp_cc_reduce(cc, reduced(cc, flight), ecn);
}

static void cubic_timeout(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns)
{
	(void)now_ns;
	if (!again) {
		/* One while a loss is repaired belongs to it: they are undone together. */
		note_event(cc, cc->unsettled);
		tcp_cc_reduce(cc, reduced(cc, flight), false);
		cc->cubic.w_max = 0; /* RFC 9438 4.8 */
	}
	tcp_cc_collapse(cc);
}

static void cubic_undo(struct tcp_cc *cc)
{
	struct tcp_cubic *cu = &cc->cubic;

	cc->after_timeout = false;
	if (first_slow_start(cc)) {
		memset(cc->words, 0, sizeof(cc->words));
		return;
	}
	/* RFC 9438 4.9.2 SHOULD: not if the window has grown beyond what it was. */
	if (cc->cwnd > cu->prior)
		return;
	cc->in_epoch = false;
	cc->acked_bytes = 0;
	cu->w_max = cu->undo_w_max;
	cu->prior = cu->undo_prior;
	cc->resumed = true;
}

const struct tcp_cc_ops tcp_cc_cubic = {
	.name = "cubic",
	.init = cubic_init,
	.acked = cubic_acked,
	.reduce = cubic_reduce,
	.timeout = cubic_timeout,
	.undo = cubic_undo,
};
