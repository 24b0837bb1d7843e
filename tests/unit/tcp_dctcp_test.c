/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_dctcp_test.c - net/tcp/dctcp.c against RFC 8257.
 */
#include "support/test.h"

#include "net/tcp/cc.h"

#define MSS 1000

struct sender {
	struct tcp_cc cc;
	uint32_t una;
	uint32_t nxt;
	uint32_t count; /* of ACKs */
};

static struct sender sender_new(uint32_t segments)
{
	struct sender s = {.una = UINT32_MAX - 100000, .nxt = UINT32_MAX - 100000};

	tcp_cc_init(&s.cc, &tcp_cc_dctcp, MSS, 10);
	s.cc.cwnd = segments * MSS;
	return s;
}

/* One segment is acknowledged; the window is full before and after. */
static void ack_one(struct sender *s, bool marked)
{
	if (s->nxt - s->una < s->cc.cwnd)
		s->nxt = s->una + s->cc.cwnd;
	struct tcp_cc_ack ack = {
		.bytes = MSS, .flight = s->nxt - s->una, .una = s->una + MSS, .nxt = s->nxt};
	s->una += MSS;
	s->cc.ops->ecn(&s->cc, &ack, marked);
	s->cc.ops->acked(&s->cc, &ack);
	tcp_cc_check(&s->cc);
}

/* Plays until alpha was computed once more; of every 16 segments marked are. */
static void next_alpha(struct sender *s, uint32_t marked)
{
	uint32_t end = s->cc.dctcp.round_end;

	for (uint32_t i = 0; i < 100000 && s->cc.dctcp.round_end == end; i++)
		ack_one(s, s->count++ % 16 < marked);
	assert_int_not_equal(s->cc.dctcp.round_end, end);
}

static double alpha(const struct sender *s)
{
	return (double)s->cc.dctcp.alpha / TCP_DCTCP_ONE;
}

static void assert_near(double got, double expected, double slack)
{
	if (got < expected - slack || got > expected + slack)
		fail_msg("%f is not %f +- %f", got, expected, slack);
}

/* RFC 8257 3.3: alpha = alpha * (1 - g) + g * M, g = 1 / 16, once a window; from one. */
static void test_alpha(void **state)
{
	struct sender s = sender_new(64);
	double expected = 1;

	(void)state;
	s.cc.ssthresh = 64 * MSS;
	ack_one(&s, false);
	assert_near(alpha(&s), 1, 0);
	for (int i = 0; i < 40; i++) { /* nothing is marked */
		next_alpha(&s, 0);
		expected = expected * 15 / 16;
		assert_near(alpha(&s), expected, 0.0001);
	}
	for (int i = 0; i < 40; i++) { /* everything */
		next_alpha(&s, 16);
		expected = expected * 15 / 16 + 1.0 / 16;
		assert_near(alpha(&s), expected, 0.0001);
	}
	for (int i = 0; i < 200; i++) {
		s.cc.cwnd = 64 * MSS;
		next_alpha(&s, 4);
	}
	assert_near(alpha(&s), 0.25, 0.03);
	/* It gets to both ends. */
	for (int i = 0; i < 400; i++)
		next_alpha(&s, 0);
	assert_int_equal(s.cc.dctcp.alpha, 0);
	for (int i = 0; i < 400; i++)
		next_alpha(&s, 16);
	assert_int_equal(s.cc.dctcp.alpha, TCP_DCTCP_ONE);
}

/* RFC 8257 3.3: cwnd * (1 - alpha / 2), once a window; it ends slow start. */
static void test_reduction(void **state)
{
	struct sender s = sender_new(100);

	(void)state;
	ack_one(&s, false);
	s.cc.cwnd = 100 * MSS;
	s.cc.dctcp.alpha = TCP_DCTCP_ONE / 4;
	ack_one(&s, true);
	uint32_t sent = s.nxt;
	assert_int_equal(s.cc.ssthresh, 87500);
	assert_in_range(s.cc.cwnd, 87500, 88500);
	while ((int32_t)(s.una - sent) < 0) { /* of the same window */
		ack_one(&s, true);
		assert_int_equal(s.cc.ssthresh, 87500);
	}
	uint32_t before = s.cc.cwnd;
	double share = alpha(&s);
	ack_one(&s, true);
	assert_near(s.cc.ssthresh, before * (1 - share / 2), before / 30.0);
	assert_true(s.cc.ssthresh < 87500);
	/* Nothing that was marked, nothing that shrinks. */
	before = s.cc.cwnd;
	for (int i = 0; i < 1000; i++)
		ack_one(&s, false);
	assert_true(s.cc.cwnd > before);
}

/* RFC 8257 3.4: it grows as Reno does. */
static void test_growth(void **state)
{
	struct sender s = sender_new(10);

	(void)state;
	for (int i = 0; i < 10; i++)
		ack_one(&s, false);
	assert_int_equal(s.cc.cwnd, 20 * MSS);
	s.cc.ssthresh = 20 * MSS;
	for (int i = 0; i < 20; i++)
		ack_one(&s, false);
	assert_int_equal(s.cc.cwnd, 21 * MSS);
}

/* RFC 8257 3.5 MUST: a loss halves the window, whatever alpha; what is marked of the same window
 * adds nothing. */
static void test_loss(void **state)
{
	struct sender s = sender_new(100);

	(void)state;
	ack_one(&s, false);
	s.cc.cwnd = 100 * MSS;
	s.cc.dctcp.alpha = 0;
	s.cc.ops->reduce(&s.cc, 100 * MSS, false, 0);
	assert_int_equal(s.cc.ssthresh, 50 * MSS);
	s.cc.cwnd = s.cc.ssthresh;
	for (int i = 0; i < 50; i++)
		ack_one(&s, true);
	assert_int_equal(s.cc.ssthresh, 50 * MSS);
	s.cc.ops->timeout(&s.cc, 40 * MSS, false, 0);
	assert_int_equal(s.cc.cwnd, MSS);
	assert_int_equal(s.cc.ssthresh, 20 * MSS);
}

/* RFC 3168 6.1.2: marks alone bring the window down to one segment, and no further. */
static void test_smallest(void **state)
{
	struct sender s = sender_new(10);

	(void)state;
	for (int i = 0; i < 100; i++) {
		ack_one(&s, true);
		assert_true(s.cc.cwnd >= MSS && s.cc.ssthresh >= 2 * MSS);
	}
	assert_true(s.cc.cwnd <= 3 * MSS);
}

/* A reduction that is billions of bytes old holds back nothing. */
static void test_long_ago(void **state)
{
	struct sender s = sender_new(100);

	(void)state;
	ack_one(&s, true);
	for (int i = 0; i < 4000; i++) {
		s.cc.cwnd = 1000 * MSS;
		for (int k = 0; k < 1000; k++) /* 2^32 bytes in all, and nearly as many again */
			ack_one(&s, false);
		if (i % 500 == 0) {
			uint32_t before = s.cc.ssthresh;
			s.cc.dctcp.alpha = TCP_DCTCP_ONE / 2;
			ack_one(&s, true);
			assert_int_not_equal(s.cc.ssthresh, before);
			s.cc.ssthresh = 5 * MSS;
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alpha),    cmocka_unit_test(test_reduction),
		cmocka_unit_test(test_growth),   cmocka_unit_test(test_loss),
		cmocka_unit_test(test_smallest), cmocka_unit_test(test_long_ago),
	};

	return test_run("tcp_dctcp", tests);
}
