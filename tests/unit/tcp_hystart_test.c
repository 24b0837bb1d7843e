/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_hystart_test.c - net/tcp/hystart.c: the first slow start by RFC 9406.
 */
#include "support/test.h"

#include "net/tcp/cc.h"

#define MS  ((uint64_t)1000000)
#define MSS 1000

struct sender {
	struct tcp_cc cc;
	uint32_t una;
	uint64_t now_ns;
};

static struct sender sender_new(void)
{
	struct sender s = {.una = UINT32_MAX - 50000, .now_ns = MS}; /* numbers come round */

	tcp_cc_init(&s.cc, &tcp_cc_cubic, MSS, 10);
	return s;
}

/* A round: its window is acknowledged in that many ACKs, each with a round-trip time.  Returns by
 * how much the window grew. */
static uint32_t play_round(struct sender *s, uint32_t acks, uint64_t rtt_ns)
{
	uint32_t window = s->cc.cwnd;
	uint32_t nxt = s->una + window;

	for (uint32_t i = 0; i < acks; i++) {
		uint32_t bytes = i + 1 < acks ? window / acks : nxt - s->una;
		s->una += bytes;
		s->now_ns += rtt_ns / acks;
		struct tcp_cc_ack ack = {
			.bytes = bytes,
			.flight = s->cc.cwnd,
			.una = s->una,
			.nxt = s->una + s->cc.cwnd,
			.now_ns = s->now_ns,
			.rtt_ns = rtt_ns,
			.srtt_ns = rtt_ns,
		};
		if (i + 1 < acks) /* what is sent next belongs to the next round */
			ack.nxt = nxt;
		s->cc.ops->acked(&s->cc, &ack);
		tcp_cc_check(&s->cc);
	}
	return s->cc.cwnd - window;
}

static bool conservative(const struct sender *s)
{
	return s->cc.hystart.conservative > 0;
}

/* RFC 9406 4.2, 4.3: the threshold is an eighth of the last round's smallest time, from 4 to 16 ms;
 * RFC 9406 4.3: with eight samples. */
static void test_threshold(void **state)
{
	static const struct {
		uint64_t base_us;
		uint64_t threshold_us;
	} rows[] = {
		{100, 4000},    {10000, 4000},   {32000, 4000},
		{80000, 10000}, {128000, 16000}, {600000, 16000},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t base_ns = rows[i].base_us * 1000;
		uint64_t limit_ns = base_ns + rows[i].threshold_us * 1000;
		struct sender s = sender_new();
		(void)play_round(&s, 10, base_ns);
		(void)play_round(&s, 10, base_ns);
		assert_false(conservative(&s));
		struct sender copy = s;
		(void)play_round(&copy, 10, limit_ns - 1000);
		assert_false(conservative(&copy));
		copy = s;
		(void)play_round(&copy, 7, limit_ns); /* too few */
		assert_false(conservative(&copy));
		(void)play_round(&s, 8, limit_ns);
		assert_true(conservative(&s));
	}
}

/* RFC 9406 4.2: the window doubles in slow start, and grows by a quarter of that in conservative
 * slow start. */
static void test_growth(void **state)
{
	struct sender s = sender_new();

	(void)state;
	assert_int_equal(play_round(&s, 10, 50 * MS), 10000);
	assert_int_equal(play_round(&s, 10, 50 * MS), 20000);
	(void)play_round(&s, 10, 60 * MS);
	assert_true(conservative(&s));
	uint32_t window = s.cc.cwnd;
	assert_in_range(play_round(&s, 20, 60 * MS), window / 4 - 20, window / 4);
	/* RFC 9406 4.3: eight segments an ACK at most */
	s = sender_new();
	s.cc.cwnd = 100000;
	assert_int_equal(play_round(&s, 2, 50 * MS), 16000);
}

/* RFC 9406 4.2: the time falls below that which began conservative slow start: slow start goes on.
 */
/* HyStart without ++: nine samples of a round, all well above the smallest of all rounds, end slow
 * start at once, with the window as it is; an ACK of much counts for all that it acknowledges. */
static void test_exit_by_delay(void **state)
{
	struct sender s = sender_new();

	(void)state;
	s.cc.exit_by_delay = true;
	assert_int_equal(play_round(&s, 1, 200 * MS), 10 * MSS);
	assert_int_equal(play_round(&s, 10, 200 * MS), 20 * MSS);
	assert_int_equal(play_round(&s, 10, 216 * MS), 40 * MSS); /* 16 ms more are not enough */
	assert_int_equal(s.cc.ssthresh, UINT32_MAX);
	assert_int_equal(play_round(&s, 8, 217 * MS), 80 * MSS); /* nor are eight samples */
	uint32_t grown = play_round(&s, 16, 217 * MS);
	assert_int_equal(s.cc.ssthresh, (160 + 80) * MSS); /* the first eight grew it */
	assert_in_range(grown, 80 * MSS, 81 * MSS);
}

static void test_resume(void **state)
{
	struct sender s = sender_new();

	(void)state;
	(void)play_round(&s, 10, 50 * MS);
	(void)play_round(&s, 10, 60 * MS);
	assert_true(conservative(&s));
	(void)play_round(&s, 10, 60 * MS); /* not below */
	assert_true(conservative(&s));
	(void)play_round(&s, 10, 59 * MS);
	assert_false(conservative(&s));
	uint32_t window = s.cc.cwnd;
	assert_int_equal(play_round(&s, 40, 59 * MS), window);
	assert_int_equal(s.cc.ssthresh, UINT32_MAX);
}

/* RFC 9406 4.2: five rounds, that in which it began counted, then congestion avoidance. */
static void test_rounds(void **state)
{
	struct sender s = sender_new();

	(void)state;
	(void)play_round(&s, 10, 50 * MS);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(s.cc.ssthresh, UINT32_MAX);
		(void)play_round(&s, 10, (60 + (uint64_t)i) * MS);
	}
	assert_int_equal(s.cc.ssthresh, s.cc.cwnd);
	uint32_t window = s.cc.cwnd;
	assert_in_range(play_round(&s, 20, 65 * MS), 0, 2 * MSS);
	assert_true(s.cc.cwnd >= window);
}

/* RFC 9406 4.2: a loss ends it. RFC 9406 4.3 SHOULD: later slow starts are as ever. */
static void test_only_first(void **state)
{
	struct sender s = sender_new();

	(void)state;
	(void)play_round(&s, 10, 50 * MS);
	(void)play_round(&s, 10, 60 * MS);
	assert_true(conservative(&s));
	s.cc.ops->timeout(&s.cc, s.cc.cwnd, false, s.now_ns);
	assert_true(s.cc.ssthresh < UINT32_MAX);
	s.cc.cwnd = 4 * MSS;
	(void)play_round(&s, 4, 60 * MS);
	(void)play_round(&s, 8, 120 * MS);
	assert_int_equal(s.cc.cwnd, 16 * MSS);
}

/* Samples that are missing, or beyond an hour, mean nothing. */
static void test_samples(void **state)
{
	struct sender s = sender_new();

	(void)state;
	(void)play_round(&s, 10, 50 * MS);
	(void)play_round(&s, 10, 0);
	(void)play_round(&s, 10, UINT64_MAX);
	assert_false(conservative(&s));
	assert_int_equal(s.cc.ssthresh, UINT32_MAX);
}

/* A round's end may be passed by more than half of all numbers while the window was not full. */
static void test_round_long_ago(void **state)
{
	struct sender s = sender_new();

	(void)state;
	(void)play_round(&s, 10, 50 * MS);
	uint32_t end = s.cc.hystart.round_end;
	s.una += 3000000000;
	(void)play_round(&s, 10, 50 * MS);
	assert_int_not_equal(s.cc.hystart.round_end, end);
	assert_in_range(s.cc.hystart.round_end - s.una, 0, s.cc.cwnd);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threshold),     cmocka_unit_test(test_growth),
		cmocka_unit_test(test_exit_by_delay), cmocka_unit_test(test_resume),
		cmocka_unit_test(test_rounds),        cmocka_unit_test(test_only_first),
		cmocka_unit_test(test_samples),       cmocka_unit_test(test_round_long_ago),
	};

	return test_run("tcp_hystart", tests);
}
