/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_tolerant_test.c - net/tcp/tolerant.c: how the window grows and shrinks with and
 * without delay.
 */
#include "support/test.h"

#include "net/tcp/cc.h"

#define MSS 1000
#define MS  ((uint64_t)1000000)

struct sender {
	struct tcp_cc cc;
	uint32_t una;
	uint32_t nxt;
};

/* In congestion avoidance; sequence numbers wrap. */
static struct sender sender_new(uint32_t segments)
{
	struct sender s = {.una = UINT32_MAX - 50000, .nxt = UINT32_MAX - 50000};

	tcp_cc_init(&s.cc, &tcp_cc_tolerant, MSS, 10);
	s.cc.cwnd = segments * MSS;
	s.cc.ssthresh = segments * MSS;
	return s;
}

/* A window is acknowledged segment by segment, each after rtt_ns; how many segments it grew. */
static uint32_t next_round(struct sender *s, uint64_t rtt_ns)
{
	uint32_t before = s->cc.cwnd;

	for (uint32_t left = before / MSS; left > 0; left--) {
		s->nxt = s->una + s->cc.cwnd;
		struct tcp_cc_ack ack = {.bytes = MSS,
					 .flight = s->nxt - s->una,
					 .una = s->una + MSS,
					 .nxt = s->nxt,
					 .rtt_ns = rtt_ns};
		s->una += MSS;
		s->cc.ops->acked(&s->cc, &ack);
		tcp_cc_check(&s->cc);
	}
	return (s->cc.cwnd - before) / MSS;
}

static uint32_t reduced(struct sender *s, int ecn)
{
	struct tcp_cc cc = s->cc;

	cc.ops->reduce(&cc, cc.cwnd, ecn, 0);
	return (uint32_t)((uint64_t)cc.ssthresh * 1000 / cc.cwnd);
}

/* Nothing waits: ten segments in a round trip, and an eighth less for a loss; half for a mark. */
static void test_calm(void **state)
{
	struct sender s = sender_new(100);

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_in_range(next_round(&s, 10 * MS), 9, 10);
	assert_int_equal(reduced(&s, false), 875);
	assert_int_equal(reduced(&s, true), 500);
}

/* Noise below a tenth of the round trip, where queues were never full, is no delay. */
static void test_noise(void **state)
{
	struct sender s = sender_new(100);

	(void)state;
	for (int i = 0; i < 6; i++)
		(void)next_round(&s, 10 * MS + (i & 1) * 900000);
	assert_in_range(next_round(&s, 10 * MS), 9, 10);
	assert_int_equal(reduced(&s, false), 875);
}

/* Queues: one segment, and half.  Behind them two rounds without delay, and it grows fast again. */
static void test_queue(void **state)
{
	struct sender s = sender_new(100);
	uint32_t rounds = 0;

	(void)state;
	(void)next_round(&s, 10 * MS);
	for (int i = 0; i < 3; i++)
		(void)next_round(&s, 20 * MS);
	assert_in_range(next_round(&s, 20 * MS), 0, 2);
	assert_int_equal(reduced(&s, false), 500);
	s.cc.ops->reduce(&s.cc, s.cc.cwnd, false, 0);
	s.cc.cwnd = s.cc.ssthresh;
	while (next_round(&s, 10 * MS) < 9)
		assert_true(++rounds < 6);
	assert_true(rounds >= 2);
	assert_int_equal(reduced(&s, false), 875);
}

/* Small windows are Reno's. */
static void test_small(void **state)
{
	struct sender s = sender_new(6);

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_in_range(next_round(&s, 10 * MS), 0, 1);
	assert_int_equal(reduced(&s, false), 500);
}

/* Slow start ends where a queue builds. */
static void test_slow_start(void **state)
{
	struct sender s = sender_new(50);

	(void)state;
	s.cc.ssthresh = UINT32_MAX;
	assert_int_equal(next_round(&s, 10 * MS), 50);
	(void)next_round(&s, 15 * MS);
	(void)next_round(&s, 15 * MS);
	assert_int_not_equal(s.cc.ssthresh, UINT32_MAX);
	assert_in_range(s.cc.cwnd, s.cc.ssthresh, s.cc.ssthresh + 12 * MSS);
}

/* A timeout is Reno's, and nothing is known of the queues behind it. */
static void test_timeout(void **state)
{
	struct sender s = sender_new(100);

	(void)state;
	(void)next_round(&s, 10 * MS);
	uint32_t cwnd = s.cc.cwnd;
	s.cc.ops->timeout(&s.cc, cwnd, false, 0);
	assert_int_equal(s.cc.cwnd, MSS);
	assert_int_equal(s.cc.ssthresh, cwnd / 2);
	s.cc.ops->timeout(&s.cc, MSS, true, 0);
	assert_int_equal(s.cc.ssthresh, cwnd / 2);
	s.cc.cwnd = cwnd;
	assert_int_equal(reduced(&s, false), 500);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calm),       cmocka_unit_test(test_noise),
		cmocka_unit_test(test_queue),      cmocka_unit_test(test_small),
		cmocka_unit_test(test_slow_start), cmocka_unit_test(test_timeout),
	};

	return test_run("tcp_tolerant", tests);
}
