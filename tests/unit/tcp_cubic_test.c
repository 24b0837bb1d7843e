/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_cubic_test.c - net/tcp/cubic.c against the formulas of RFC 9438, and its corners:
 * round trips of microseconds, the largest window, days, a clock that comes round.
 */
#include "support/test.h"

#include "base/prng.h"
#include "net/tcp/cc.h"

#include <string.h>

#define MS  ((uint64_t)1000000)
#define SEC ((uint64_t)1000000000)
#define MSS 1000

/* A sender whose window is always full. */
struct sender {
	struct tcp_cc cc;
	uint64_t now_ns;
	uint64_t rtt_ns;
};

static void acked(struct sender *s, uint32_t bytes, uint32_t flight)
{
	struct tcp_cc_ack ack = {
		.bytes = bytes,
		.flight = flight,
		.now_ns = s->now_ns,
		.srtt_ns = s->rtt_ns,
	};

	s->cc.ops->acked(&s->cc, &ack);
	tcp_cc_check(&s->cc);
}

/* One window is acknowledged, in ACKs of two segments spread over a round trip. */
static void round_trip(struct sender *s)
{
	uint32_t window = s->cc.cwnd;
	uint32_t acks = window / (2 * s->cc.mss) + 1;
	uint64_t begin = s->now_ns;

	if (acks > 500)
		acks = 500;
	for (uint32_t i = 0; i < acks; i++) {
		s->now_ns = begin + s->rtt_ns * (i + 1) / acks;
		acked(s, window / acks, s->cc.cwnd);
	}
}

/* In congestion avoidance with a window of that many segments, as large as it ever was. */
static struct sender sender_new(uint64_t rtt_ns, uint32_t segments, uint64_t now_ns)
{
	struct sender s = {.now_ns = now_ns, .rtt_ns = rtt_ns};

	tcp_cc_init(&s.cc, &tcp_cc_cubic, MSS, 10);
	s.cc.cwnd = segments * MSS;
	return s;
}

static void lose(struct sender *s)
{
	s->cc.ops->reduce(&s->cc, s->cc.cwnd, false, s->now_ns);
	if (s->cc.cwnd > s->cc.ssthresh)
		s->cc.cwnd = s->cc.ssthresh;
}

static double cube(double x)
{
	return x * x * x;
}

/* RFC 9438 equation 1, in bytes */
static double w_cubic(double w_max, double t, double k)
{
	return 0.4 * MSS * cube(t - k) + w_max;
}

static void assert_near(double got, double expected, double slack)
{
	if (got < expected - slack || got > expected + slack)
		fail_msg("%.1f is not %.1f +- %.1f", got, expected, slack);
}

/* ---- events ---- */

/* RFC 9438 4.6: beta = 0.7, two segments at least, of what is in flight. */
static void test_reduce(void **state)
{
	struct sender s = sender_new(100 * MS, 100, SEC);

	(void)state;
	s.cc.ops->reduce(&s.cc, 100000, false, s.now_ns);
	assert_int_equal(s.cc.ssthresh, 70000);
	assert_int_equal(s.cc.cubic.w_max, 100000);
	assert_int_equal(s.cc.cubic.prior, 100000);
	s.cc.ops->reduce(&s.cc, 40000, false, s.now_ns);
	assert_int_equal(s.cc.ssthresh, 28000);
	s.cc.ops->reduce(&s.cc, 1000, false, s.now_ns);
	assert_int_equal(s.cc.ssthresh, 2000);
	s.cc.ops->reduce(&s.cc, 200000, false, s.now_ns); /* more than the window */
	assert_int_equal(s.cc.ssthresh, 70000);
}

/* What is reduced may be the window, whatever is in flight. */
static void test_reduce_window(void **state)
{
	struct sender s = sender_new(100 * MS, 100, SEC);

	(void)state;
	s.cc.reduce_window = true;
	s.cc.ops->reduce(&s.cc, 1000, false, s.now_ns);
	assert_int_equal(s.cc.ssthresh, 70000);
}

/* by_interval: between two looks nothing grows, and what was acknowledged counts at the next. */
static void test_interval(void **state)
{
	struct sender each = sender_new(100 * MS, 100, SEC);
	struct sender seldom = sender_new(100 * MS, 100, SEC);

	(void)state;
	seldom.cc.by_interval = true;
	lose(&each);
	lose(&seldom);
	for (int i = 0; i < 640; i++) {
		uint32_t window = seldom.cc.cwnd;
		each.now_ns += MS;
		seldom.now_ns += MS;
		acked(&each, MSS, each.cc.cwnd);
		acked(&seldom, MSS, seldom.cc.cwnd);
		if (i % 32 != 0)
			assert_int_equal(seldom.cc.cwnd, window);
		assert_true(seldom.cc.cwnd <= each.cc.cwnd);
	}
	assert_true(seldom.cc.cwnd > 71 * MSS);
	assert_near(seldom.cc.cwnd, each.cc.cwnd, 3 * MSS);
}

/* RFC 9438 4.7: W_max is cwnd * (1 + beta) / 2 if the window did not come back to W_max. */
static void test_fast_convergence(void **state)
{
	struct sender s = sender_new(100 * MS, 100, SEC);

	(void)state;
	lose(&s);
	assert_int_equal(s.cc.cubic.w_max, 100000);
	lose(&s); /* at 70000 */
	assert_int_equal(s.cc.cubic.w_max, 59500);
	assert_int_equal(s.cc.cubic.prior, 70000);
	s.cc.cwnd = 80000;
	lose(&s);
	assert_int_equal(s.cc.cubic.w_max, 80000);
}

/* RFC 9438 equation 2: K is the cube root of (W_max - cwnd_epoch) / C, to a millisecond. */
static void test_k(void **state)
{
	static const uint32_t sizes[] = {36, 536, 1448, 8948, 65495};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (uint64_t w = 4 * sizes[i]; w <= (uint64_t)1 << 30; w = w * 5 / 4) {
			struct sender s = sender_new(100 * MS, 1, SEC);
			s.cc.mss = sizes[i];
			s.cc.cwnd = (uint32_t)w;
			lose(&s);
			double distance = (double)w - s.cc.cwnd;
			acked(&s, s.cc.mss, s.cc.cwnd);
			double k = s.cc.cubic.k_ms / 1000.0;
			assert_true(cube(k) * 0.4 * sizes[i] <= distance);
			assert_true(cube(k + 0.001) * 0.4 * sizes[i] > distance);
		}
	}
}

/* RFC 9438 4.8: after a timeout the curve begins at its flat part, where slow start ends. */
static void test_timeout(void **state)
{
	struct sender s = sender_new(100 * MS, 100, SEC);

	(void)state;
	s.cc.ops->timeout(&s.cc, 100000, false, s.now_ns);
	assert_int_equal(s.cc.cwnd, 1000);
	assert_int_equal(s.cc.ssthresh, 70000);
	s.cc.ops->timeout(&s.cc, 1000, true, s.now_ns);
	assert_int_equal(s.cc.ssthresh, 70000);
	acked(&s, 5000, 5000); /* RFC 3465 2.3: one segment an ACK */
	assert_int_equal(s.cc.cwnd, 2000);
	while (s.cc.cwnd < s.cc.ssthresh)
		acked(&s, MSS, s.cc.cwnd);
	uint32_t window = s.cc.cwnd;
	acked(&s, MSS, window);
	assert_int_equal(s.cc.cubic.k_ms, 0);
	assert_int_equal(s.cc.cubic.w_max, window);
	assert_int_equal(s.cc.cubic.w_est, window);
	assert_int_equal(s.cc.cubic.prior, 100000); /* alpha is below one until there */
}

/* ---- the curve ---- */

/* RFC 9438 4.2, 4.4, 4.5: concave up to W_max, convex beyond. */
static void test_curve(void **state)
{
	struct sender s = sender_new(100 * MS, 2000, SEC);

	(void)state;
	lose(&s);
	double w_max = s.cc.cubic.w_max;
	acked(&s, MSS, s.cc.cwnd);
	uint64_t begin = s.now_ns;
	double k = s.cc.cubic.k_ms / 1000.0;
	assert_near(k, 11.447, 0.001); /* (600 / 0.4) ^ (1 / 3) */
	while (s.now_ns - begin < 20 * SEC) {
		round_trip(&s);
		double t = (double)(s.now_ns - begin) / 1e9;
		/* The window is never above where it should be a round trip later, and follows the
		 * curve closely. */
		double now = w_cubic(w_max, t, k);
		double next = w_cubic(w_max, t + 0.1, k);
		assert_true(s.cc.cwnd <= next + MSS);
		assert_near(s.cc.cwnd, now, 1.5 * (next - now) + 2 * MSS);
	}
	assert_true(s.cc.cwnd > 1.1 * w_max);
}

/* RFC 9438 4.2: a window grows by half in a round trip at most, however far behind the curve. */
static void test_target_is_bounded(void **state)
{
	struct sender s = sender_new(100 * MS, 100, SEC);

	(void)state;
	lose(&s);
	acked(&s, MSS, s.cc.cwnd);
	for (int i = 0; i < 5; i++) { /* the curve is far away */
		s.cc.cubic.epoch_ms -= 100000;
		uint32_t before = s.cc.cwnd;
		round_trip(&s);
		assert_in_range(s.cc.cwnd, before + before / 3, before + before * 3 / 4);
	}
	/* nor in one ACK that tells of ever so much */
	uint32_t before = s.cc.cwnd;
	acked(&s, (uint32_t)1 << 30, (uint32_t)1 << 30);
	assert_in_range(s.cc.cwnd, before, before + before / 2 + MSS);
}

/* RFC 9438 4.3: alpha = 9 / 17 segments a round trip until W_est has come to where the window was
 * before, then one. */
static void test_reno_friendly(void **state)
{
	struct sender s = sender_new(1 * MS, 100, SEC);
	int rounds = 0;

	(void)state;
	lose(&s);
	assert_int_equal(s.cc.cwnd, 70000);
	for (; s.cc.cwnd < 100000; rounds++)
		round_trip(&s);
	assert_in_range(rounds, 30 * 17 / 9 - 2, 30 * 17 / 9 + 3);
	uint32_t at = s.cc.cwnd;
	for (int i = 0; i < 20; i++)
		round_trip(&s);
	assert_in_range(s.cc.cwnd, at + 19 * MSS, at + 21 * MSS);
	/* It is W_est that leads here: the curve is still below. */
	assert_int_equal(s.cc.cwnd, s.cc.cubic.w_est);
	assert_true(w_cubic(s.cc.cubic.w_max, 0.1, s.cc.cubic.k_ms / 1000.0) < s.cc.cwnd);
}

/* RFC 9438 4.3: the region ends where the curve overtakes W_est. */
static void test_crossing(void **state)
{
	struct sender s = sender_new(30 * MS, 200, SEC);
	bool was_friendly = false;

	(void)state;
	lose(&s);
	acked(&s, MSS, s.cc.cwnd);
	uint64_t begin = s.now_ns;
	double k = s.cc.cubic.k_ms / 1000.0;
	double w_max = s.cc.cubic.w_max;
	while (s.now_ns - begin < 30 * SEC) {
		round_trip(&s);
		double curve = w_cubic(w_max, (double)(s.now_ns - begin) / 1e9, k);
		double next = w_cubic(w_max, (double)(s.now_ns - begin) / 1e9 + 0.03, k);
		double higher = curve > s.cc.cubic.w_est ? curve : s.cc.cubic.w_est;
		assert_near(s.cc.cwnd, higher, 1.5 * (next - curve) + 3 * MSS);
		was_friendly |= curve + 3 * MSS < s.cc.cubic.w_est;
	}
	assert_true(was_friendly);
	assert_true(s.cc.cwnd > s.cc.cubic.w_est + 10 * MSS);
}

/* RFC 9438 4.10: a slow start that no loss ended begins the curve at its flat part. */
static void test_after_hystart(void **state)
{
	struct sender s = sender_new(100 * MS, 50, SEC);

	(void)state;
	s.cc.hystart = (struct tcp_hystart){
		.round_end = 1, .min = UINT32_MAX, .conservative = 5, .started = true};
	struct tcp_cc_ack ack = {.bytes = 4000,
				 .flight = 50000,
				 .una = 1,
				 .nxt = 1000,
				 .now_ns = s.now_ns,
				 .srtt_ns = s.rtt_ns};
	s.cc.ops->acked(&s.cc, &ack);
	assert_int_equal(s.cc.cwnd, 51000);
	assert_int_equal(s.cc.ssthresh, 51000);
	acked(&s, MSS, 51000);
	assert_int_equal(s.cc.cubic.k_ms, 0);
	assert_int_equal(s.cc.cubic.w_max, 51000);
	assert_int_equal(s.cc.cubic.prior, 51000);
	for (int i = 0; i < 10; i++) /* alpha is one, as nothing was lost */
		round_trip(&s);
	assert_in_range(s.cc.cwnd, 60000, 61000);
}

/* ---- pauses ---- */

/* RFC 9438 4.2 MUST NOT, 5.8: a pause, idle or with a window that is not full, moves the curve. */
static void test_pause(void **state)
{
	(void)state;
	for (int busy = 0; busy < 2; busy++) {
		struct sender s = sender_new(50 * MS, 500, SEC);
		lose(&s);
		for (int i = 0; i < 20; i++)
			round_trip(&s);
		s.cc.credit = 0; /* everything is acknowledged */
		struct sender same = s;
		for (int i = 0; i < 3000; i++) {
			s.now_ns += 20 * MS;
			if (busy)
				acked(&s, MSS, 10 * MSS);
		}
		assert_int_equal(s.cc.cwnd, same.cc.cwnd);
		for (int i = 0; i < 100; i++) {
			round_trip(&s);
			round_trip(&same);
			assert_near(s.cc.cwnd, same.cc.cwnd, 3 * MSS + same.cc.cwnd / 50.0);
		}
	}
}

/* RFC 5681 4.1 after a pause, or smaller segments: the curve begins anew where the window is. */
static void test_smaller_from_outside(void **state)
{
	struct sender s = sender_new(10 * MS, 100, SEC);

	(void)state;
	lose(&s);
	for (int i = 0; i < 20; i++)
		round_trip(&s);
	s.cc.ssthresh = 5000;
	s.cc.cwnd = 10000; /* tcp_cc_restart */
	acked(&s, MSS, 10000);
	assert_in_range(s.cc.cwnd, 10000, 11000);
	for (int i = 0; i < 20; i++)
		round_trip(&s);
	assert_in_range(s.cc.cwnd, 20000, 35000);
	tcp_cc_set_mss(&s.cc, 500);
	uint32_t before = s.cc.cwnd;
	acked(&s, MSS, before);
	assert_in_range(s.cc.cwnd, before, before + 500);
	/* and slow start up to ssthresh, without a leap behind it */
	tcp_cc_set_mss(&s.cc, MSS);
	s.cc.cwnd = 10000;
	s.cc.ssthresh = 15000;
	s.now_ns += 3600 * SEC;
	round_trip(&s);
	round_trip(&s);
	round_trip(&s);
	assert_in_range(s.cc.cwnd, 15000, 22000);
}

/* ---- undone ---- */

/* RFC 9438 4.9.2: everything goes on as if nothing had been, on both sides of W_max. */
static void test_undo(void **state)
{
	(void)state;
	for (int rounds = 20; rounds <= 320; rounds += 100) {
		struct sender s = sender_new(100 * MS, 2000, SEC);
		lose(&s);
		for (int i = 0; i < rounds; i++)
			round_trip(&s);
		struct sender same = s;
		uint32_t cwnd = s.cc.cwnd;
		uint32_t ssthresh = s.cc.ssthresh;
		lose(&s);
		round_trip(&s);
		s.now_ns = same.now_ns;
		s.cc.cwnd = cwnd;
		s.cc.ssthresh = ssthresh;
		s.cc.ops->undo(&s.cc);
		assert_int_equal(s.cc.cubic.w_max, same.cc.cubic.w_max);
		assert_int_equal(s.cc.cubic.prior, same.cc.cubic.prior);
		for (int i = 0; i < 20; i++) {
			round_trip(&s);
			round_trip(&same);
			assert_near(s.cc.cwnd, same.cc.cwnd, same.cc.cwnd / 50.0);
		}
	}
}

/* RFC 9438 4.9.2 SHOULD: a window that has grown beyond what it was keeps its curve. */
static void test_undo_too_late(void **state)
{
	struct sender s = sender_new(100 * MS, 100, SEC);

	(void)state;
	lose(&s);
	while (s.cc.cwnd <= 101 * MSS)
		round_trip(&s);
	struct tcp_cc before = s.cc;
	s.cc.ops->undo(&s.cc);
	assert_memory_equal(&s.cc, &before, sizeof(before));
}

/* A timeout in the middle of a recovery: what was before both comes back. */
static void test_undo_both(void **state)
{
	struct sender s = sender_new(100 * MS, 100, SEC);

	(void)state;
	lose(&s);
	for (int i = 0; i < 20; i++)
		round_trip(&s);
	struct tcp_cc before = s.cc;
	lose(&s);
	s.cc.ops->timeout(&s.cc, s.cc.cwnd, false, s.now_ns);
	s.cc.ops->timeout(&s.cc, s.cc.cwnd, true, s.now_ns);
	assert_int_equal(s.cc.cubic.w_max, 0);
	s.cc.cwnd = before.cwnd;
	s.cc.ssthresh = before.ssthresh;
	s.cc.ops->undo(&s.cc);
	assert_int_equal(s.cc.cubic.w_max, before.cubic.w_max);
	assert_int_equal(s.cc.cubic.prior, before.cubic.prior);
	acked(&s, MSS, s.cc.cwnd);
	assert_in_range(s.cc.cubic.w_est, before.cubic.w_est, before.cubic.w_est + MSS);
}

/* A timeout in the first slow start that was for nothing: slow start goes on. */
static void test_undo_first_slow_start(void **state)
{
	struct sender s = sender_new(100 * MS, 10, SEC);

	(void)state;
	round_trip(&s);
	uint32_t cwnd = s.cc.cwnd;
	s.cc.ops->timeout(&s.cc, cwnd, false, s.now_ns);
	s.cc.cwnd = cwnd;
	s.cc.ssthresh = UINT32_MAX;
	s.cc.ops->undo(&s.cc);
	round_trip(&s);
	assert_in_range(s.cc.cwnd, 2 * cwnd - 20, 2 * cwnd);
}

/* ---- corners ---- */

/* A round trip of 10 us and a window of ten segments: many round trips in a millisecond.  The
 * window grows as Reno's does, and time on the curve passes all the same. */
static void test_microseconds(void **state)
{
	struct sender s = sender_new(10000, 10, 100 * SEC);

	(void)state;
	lose(&s);
	acked(&s, MSS, s.cc.cwnd);
	for (int i = 0; i < 10; i++)
		round_trip(&s);
	assert_in_range(s.cc.cwnd, 13000, 15000); /* six rounds of 9 / 17, four of 1 */
	for (int i = 0; i < 1000; i++)
		round_trip(&s);
	assert_in_range(s.cc.cwnd, 900000, 1100000);
	uint32_t now_ms = (uint32_t)(s.now_ns / MS);
	assert_in_range(now_ms - s.cc.cubic.epoch_ms, 9, 12);
	/* also if the window cannot grow */
	for (int i = 0; i < 10000; i++) {
		s.now_ns += s.rtt_ns;
		s.cc.cwnd = 10000;
		s.cc.cubic.w_est = 10000;
		acked(&s, MSS, s.cc.cwnd);
	}
	now_ms = (uint32_t)(s.now_ns / MS);
	assert_in_range(now_ms - s.cc.cubic.epoch_ms, 105, 115);
}

/* The clock in milliseconds comes round after 49.7 days; an epoch of days; the largest window. */
static void test_days(void **state)
{
	static const uint64_t begins[] = {0, (uint64_t)UINT32_MAX * MS - SEC, 1000 * 86400 * SEC};

	(void)state;
	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
		struct sender s = sender_new(100 * MS, 500, begins[i]);
		lose(&s);
		acked(&s, MSS, s.cc.cwnd);
		uint64_t begin = s.now_ns;
		double k = s.cc.cubic.k_ms / 1000.0;
		for (int n = 0; n < 100; n++)
			round_trip(&s);
		assert_near(s.cc.cwnd, w_cubic(500000, (double)(s.now_ns - begin) / 1e9, k), 30000);
		uint32_t window = s.cc.cwnd;
		s.now_ns += 60 * 86400 * SEC; /* a pause longer than the clock's round */
		round_trip(&s);
		assert_in_range(s.cc.cwnd, window, window + window / 10);
		/* Days of a full window: it grows to the largest there is, and stays. */
		s.rtt_ns = SEC;
		for (int n = 0; n < 3 * 86400; n++) {
			s.now_ns += s.rtt_ns;
			acked(&s, s.cc.cwnd, s.cc.cwnd);
		}
		assert_int_equal(s.cc.cwnd, TCP_CC_WINDOW_MAX);
		lose(&s);
		assert_int_equal(s.cc.cwnd, (uint64_t)TCP_CC_WINDOW_MAX * 7 / 10);
		for (int n = 0; n < 1000; n++) {
			s.now_ns += s.rtt_ns;
			acked(&s, s.cc.cwnd, s.cc.cwnd);
		}
		assert_int_equal(s.cc.cwnd, TCP_CC_WINDOW_MAX);
	}
}

/* Anything in any order keeps the window within its bounds. */
static void test_random(void **state)
{
	static const uint32_t sizes[] = {36, 536, 1448, 65495};
	struct prng prng;

	(void)state;
	prng_seed(&prng, 9438);
	for (int run = 0; run < 200; run++) {
		struct sender s = {.now_ns = prng_next(&prng) >> prng_below(&prng, 40)};
		uint32_t saved_cwnd = 0;
		uint32_t saved_ssthresh = 0;
		tcp_cc_init(&s.cc, &tcp_cc_cubic, sizes[prng_below(&prng, 4)], 10);
		for (int i = 0; i < 5000; i++) {
			uint32_t flight = (uint32_t)prng_next(&prng) >> (2 + prng_below(&prng, 29));
			uint32_t bytes = (uint32_t)prng_next(&prng) >> (2 + prng_below(&prng, 29));
			s.now_ns += prng_next(&prng) >> (20 + prng_below(&prng, 44));
			s.rtt_ns = prng_next(&prng) >> (20 + prng_below(&prng, 44));
			switch (prng_below(&prng, 100)) {
			case 0:
				saved_cwnd = s.cc.cwnd;
				saved_ssthresh = s.cc.ssthresh;
				lose(&s);
				break;
			case 1:
				saved_cwnd = s.cc.cwnd;
				saved_ssthresh = s.cc.ssthresh;
				s.cc.ops->timeout(&s.cc, flight, false, s.now_ns);
				break;
			case 2:
				if (saved_cwnd == 0)
					break;
				s.cc.cwnd = saved_cwnd;
				s.cc.ssthresh = saved_ssthresh;
				s.cc.ops->undo(&s.cc);
				break;
			case 3:
				tcp_cc_restart(&s.cc);
				break;
			case 4:
				s.cc.ops->reduce(&s.cc, flight, true, s.now_ns);
				break;
			default:
				acked(&s, bytes, flight > s.cc.cwnd ? flight : s.cc.cwnd);
			}
			tcp_cc_check(&s.cc);
			assert_true(s.cc.cwnd <= TCP_CC_WINDOW_MAX);
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reduce),
		cmocka_unit_test(test_reduce_window),
		cmocka_unit_test(test_interval),
		cmocka_unit_test(test_fast_convergence),
		cmocka_unit_test(test_k),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_curve),
		cmocka_unit_test(test_target_is_bounded),
		cmocka_unit_test(test_reno_friendly),
		cmocka_unit_test(test_crossing),
		cmocka_unit_test(test_after_hystart),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_smaller_from_outside),
		cmocka_unit_test(test_undo),
		cmocka_unit_test(test_undo_too_late),
		cmocka_unit_test(test_undo_both),
		cmocka_unit_test(test_undo_first_slow_start),
		cmocka_unit_test(test_microseconds),
		cmocka_unit_test(test_days),
		cmocka_unit_test(test_random),
	};

	return test_run("tcp_cubic", tests);
}
