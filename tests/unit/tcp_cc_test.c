/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_cc_test.c - net/tcp/cc.c and newreno.c: windows by RFC 5681, 6928, 3465 and 7661.
 */
#include "support/test.h"

#include "net/tcp/cc.h"

#include <string.h>

static struct tcp_cc fresh(uint32_t mss, uint32_t segments)
{
	struct tcp_cc cc;

	tcp_cc_init(&cc, &tcp_cc_newreno, mss, segments);
	return cc;
}

static void acked(struct tcp_cc *cc, uint32_t bytes, uint32_t flight)
{
	struct tcp_cc_ack ack = {.bytes = bytes, .flight = flight};

	cc->ops->acked(cc, &ack);
	tcp_cc_check(cc);
}

static void test_names(void **state)
{
	(void)state;
	assert_ptr_equal(tcp_cc_find("reno", 4), &tcp_cc_newreno);
	assert_ptr_equal(tcp_cc_find("reno", 5), &tcp_cc_newreno); /* with its zero byte */
	assert_ptr_equal(tcp_cc_find("cubic", 16), &tcp_cc_cubic);
	assert_ptr_equal(tcp_cc_find("dctcp", 5), &tcp_cc_dctcp);
	assert_ptr_equal(tcp_cc_at(0), &tcp_cc_cubic); /* as demitasse.tcp.congestion lists them */
	assert_ptr_equal(tcp_cc_at(1), &tcp_cc_newreno);
	assert_ptr_equal(tcp_cc_at(2), &tcp_cc_dctcp);
	assert_ptr_equal(tcp_cc_at(3), &tcp_cc_tolerant);
	assert_ptr_equal(tcp_cc_find("tolerant", 8), &tcp_cc_tolerant);
	assert_null(tcp_cc_find("reno", 3));
	assert_null(tcp_cc_find("renovate", 8));
	assert_null(tcp_cc_find("", 0));
}

/* RFC 6928 2: min (10*MSS, max (2*MSS, 14600)); RFC 5681 3.1 for up to four segments. */
static void test_initial_window(void **state)
{
	static const struct {
		uint32_t mss;
		uint32_t segments;
		uint32_t window;
	} rows[] = {
		{1460, 10, 14600}, {536, 10, 5360},   {1448, 10, 14480}, {8948, 10, 17896},
		{1460, 4, 4380},   {1000, 4, 4000},   {2200, 4, 4400},   {1460, 1, 1460},
		{1460, 2, 2920},   {1460, 20, 29200},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tcp_cc cc = fresh(rows[i].mss, rows[i].segments);
		assert_int_equal(cc.cwnd, rows[i].window);
		assert_int_equal(cc.ssthresh, UINT32_MAX);
	}
}

/* RFC 5681 3.1, RFC 3465 2.2: by what was acknowledged, two segments at most. */
static void test_slow_start(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	acked(&cc, 500, 10000);
	assert_int_equal(cc.cwnd, 10500);
	acked(&cc, 2000, 10500);
	assert_int_equal(cc.cwnd, 12500);
	acked(&cc, 9000, 12500);
	assert_int_equal(cc.cwnd, 14500);
}

/* RFC 5681 3.1: a segment a window in congestion avoidance. */
static void test_congestion_avoidance(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	cc.ssthresh = 10000;
	for (int i = 0; i < 9; i++)
		acked(&cc, 1000, 10000);
	assert_int_equal(cc.cwnd, 10000);
	acked(&cc, 1000, 10000);
	assert_int_equal(cc.cwnd, 11000);
	for (int i = 0; i < 11; i++)
		acked(&cc, 1000, 11000);
	assert_int_equal(cc.cwnd, 12000);
}

/* RFC 7661 4.1, RFC 9438 5.8: it does not grow while the application is the limit. */
static void test_limited_by_the_application(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	for (int i = 0; i < 100; i++)
		acked(&cc, 1000, 4000);
	assert_int_equal(cc.cwnd, 10000);
	cc.ssthresh = 5000;
	for (int i = 0; i < 100; i++)
		acked(&cc, 1000, 8000);
	assert_int_equal(cc.cwnd, 10000);
}

/* RFC 7661 4.1: the ACKs of a full window count, also if they come in one burst before more is
 * sent. */
static void test_burst_of_acks(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	for (uint32_t flight = 10000; flight > 0; flight -= 2000)
		acked(&cc, 2000, flight);
	assert_int_equal(cc.cwnd, 20000);
	cc.ssthresh = 20000;
	for (uint32_t flight = 20000; flight > 0; flight -= 2000)
		acked(&cc, 2000, flight);
	assert_int_equal(cc.cwnd, 21000);
	/* and no more than that window */
	for (int i = 0; i < 100; i++)
		acked(&cc, 1000, 1000);
	assert_int_equal(cc.cwnd, 21000);
}

/* RFC 5681 equation 4: half of what is in flight, two segments at least. */
static void test_loss(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	cc.ops->reduce(&cc, 9000, 0, 0);
	assert_int_equal(cc.ssthresh, 4500);
	cc.ops->reduce(&cc, 1000, 0, 0);
	assert_int_equal(cc.ssthresh, 2000);
	/* RFC 5681 3.2: what limited transmit sent beyond the window does not count. */
	cc.ops->reduce(&cc, 12000, 0, 0);
	assert_int_equal(cc.ssthresh, 5000);
}

/* RFC 9438 4.6 MUST, RFC 3168 6.1.2: marks reduce the window until it is one segment; losses until
 * it is two. */
static void test_marks(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		struct tcp_cc cc;
		tcp_cc_init(&cc, tcp_cc_at(i), 1000, 10);
		for (int k = 0; k < 20; k++) {
			cc.ops->reduce(&cc, cc.cwnd, true, 0);
			if (cc.cwnd > cc.ssthresh)
				cc.cwnd = cc.ssthresh;
			tcp_cc_check(&cc);
		}
		assert_int_equal(cc.cwnd, 1000);
		assert_int_equal(cc.ssthresh, 2000);
		cc.ops->reduce(&cc, cc.cwnd, false, 0);
		assert_int_equal(cc.ssthresh, 2000);
	}
}

/* Another algorithm takes over windows, and nothing else. */
static void test_change(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 16; i++) {
		struct tcp_cc cc;
		tcp_cc_init(&cc, tcp_cc_at(i / 4), 1000, 10);
		cc.ops->reduce(&cc, 10000, false, 0);
		cc.cwnd = 8000;
		acked(&cc, 1000, 8000);
		uint32_t cwnd = cc.cwnd;
		uint32_t ssthresh = cc.ssthresh;
		tcp_cc_change(&cc, tcp_cc_at(i % 4));
		assert_ptr_equal(cc.ops, tcp_cc_at(i % 4));
		assert_int_equal(cc.cwnd, cwnd);
		assert_int_equal(cc.ssthresh, ssthresh);
		acked(&cc, 1000, 8000);
		assert_in_range(cc.cwnd, cwnd, cwnd + 1000);
		cc.ops->timeout(&cc, 8000, false, 0);
		if (cc.ops->undo)
			cc.ops->undo(&cc);
		tcp_cc_check(&cc);
	}
}

/* Twice the window in a round trip in slow start, 1.2 times later; all of 64 bits. */
static void test_pacing_rate(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	assert_int_equal(tcp_cc_pacing_rate(&cc, 0), 0);
	assert_int_equal(tcp_cc_pacing_rate(&cc, 100000000), 200000);
	cc.ssthresh = 10000;
	assert_int_equal(tcp_cc_pacing_rate(&cc, 100000000), 120000);
	assert_int_equal(tcp_cc_pacing_rate(&cc, UINT64_MAX), 1);
	cc.cwnd = (uint32_t)1 << 30;
	assert_int_equal(tcp_cc_pacing_rate(&cc, 10000), 128849018880000);
}

/* RFC 5681 3.1: after a timeout one segment; ssthresh is kept when the same segment is lost again.
 */
static void test_timeout(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	cc.ops->timeout(&cc, 10000, 0, 0);
	assert_int_equal(cc.cwnd, 1000);
	assert_int_equal(cc.ssthresh, 5000);
	cc.ops->timeout(&cc, 1000, 1, 0);
	assert_int_equal(cc.ssthresh, 5000);
	acked(&cc, 1000, 1000);
	assert_int_equal(cc.cwnd, 2000);
}

/* RFC 3465 2.3 MUST: in the slow start after a timeout one segment an ACK at most. */
static void test_slow_start_after_timeout(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	cc.ops->timeout(&cc, 8000, 0, 0);
	acked(&cc, 5000, 6000);
	assert_int_equal(cc.cwnd, 2000);
	acked(&cc, 2000, 2000);
	assert_int_equal(cc.cwnd, 3000);
	acked(&cc, 500, 3000);
	acked(&cc, 2500, 3000);
	assert_int_equal(cc.cwnd, 4500);
	/* The slow start is over once ssthresh is reached; a later one takes two again. */
	cc.cwnd = 4000;
	acked(&cc, 1000, 4000);
	cc.ssthresh = 50000;
	acked(&cc, 2000, 4000);
	assert_int_equal(cc.cwnd, 6000);
}

/* RFC 5681 3.1: a smaller segment size makes the window smaller in proportion. */
static void test_smaller_segments(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	tcp_cc_set_mss(&cc, 500);
	assert_int_equal(cc.cwnd, 5000);
	assert_int_equal(cc.initial_window, 5000);
	cc.cwnd = 600;
	tcp_cc_set_mss(&cc, 400);
	assert_int_equal(cc.cwnd, 480);
	tcp_cc_set_mss(&cc, 100);
	tcp_cc_check(&cc);
	/* And larger again: the window of a restart holds a segment. */
	assert_int_equal(cc.initial_window, 1000);
	tcp_cc_set_mss(&cc, 1000);
	assert_int_equal(cc.initial_window, 10000);
	tcp_cc_set_mss(&cc, 600);
	tcp_cc_restart(&cc);
	tcp_cc_check(&cc);
}

/* RFC 5681 4.1: the restart window. */
static void test_restart(void **state)
{
	struct tcp_cc cc = fresh(1000, 10);

	(void)state;
	cc.cwnd = 50000;
	tcp_cc_restart(&cc);
	assert_int_equal(cc.cwnd, 10000);
	cc.cwnd = 3000;
	tcp_cc_restart(&cc);
	assert_int_equal(cc.cwnd, 3000);
	tcp_cc_set_mss(&cc, 4000);
	assert_int_equal(cc.cwnd, 4000);
}

/* RFC 7323 2.3: a window larger than any that can be told does not overflow. */
static void test_no_overflow(void **state)
{
	struct tcp_cc cc = fresh(65000, 10);

	(void)state;
	for (int i = 0; i < 100000; i++)
		acked(&cc, 130000, cc.cwnd);
	assert_int_equal(cc.cwnd, (uint32_t)1 << 30);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_initial_window),
		cmocka_unit_test(test_slow_start),
		cmocka_unit_test(test_congestion_avoidance),
		cmocka_unit_test(test_limited_by_the_application),
		cmocka_unit_test(test_burst_of_acks),
		cmocka_unit_test(test_loss),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_change),
		cmocka_unit_test(test_pacing_rate),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_slow_start_after_timeout),
		cmocka_unit_test(test_smaller_segments),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_no_overflow),
	};

	return test_run("tcp_cc", tests);
}
