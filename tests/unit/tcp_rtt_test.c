/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_rtt_test.c - net/tcp/rtt.c: RFC 6298 by hand-made numbers, bounds, backoff.
 */
#include "support/test.h"

#include "net/tcp/rtt.h"

#define MS ((uint64_t)1000000)

static struct tcp_rtt fresh(void)
{
	struct tcp_rtt rtt;

	tcp_rtt_init(&rtt, 1000 * MS, 200 * MS, 60000 * MS);
	return rtt;
}

/* RFC 6298 2.1: before a measurement the timeout is the initial one. */
static void test_initial(void **state)
{
	struct tcp_rtt rtt = fresh();

	(void)state;
	assert_int_equal(tcp_rtt_timeout(&rtt), 1000 * MS);
	assert_int_equal(rtt.srtt_ns, 0);
	tcp_rtt_init(&rtt, 1 * MS, 200 * MS, 60000 * MS);
	assert_int_equal(tcp_rtt_timeout(&rtt), 200 * MS);
}

/* Each bound is in its range, but they are the wrong way round. */
static void test_bounds_crossed(void **state)
{
	struct tcp_rtt rtt;

	(void)state;
	tcp_rtt_init(&rtt, 1000 * MS, 60000 * MS, 2000 * MS);
	tcp_rtt_check(&rtt);
	assert_int_equal(tcp_rtt_timeout(&rtt), 2000 * MS);
	tcp_rtt_sample(&rtt, 1 * MS, 1, 0);
	tcp_rtt_check(&rtt);
	assert_int_equal(tcp_rtt_timeout(&rtt), 2000 * MS);
}

struct step {
	uint64_t sample_ms;
	uint64_t srtt_us;
	uint64_t rttvar_us;
	uint64_t rto_us;
};

/* RFC 6298 2.2 and 2.3, computed by hand: SRTT = 7/8 SRTT + 1/8 R, RTTVAR = 3/4 RTTVAR + 1/4 |SRTT
 * - R|. */
static void test_samples(void **state)
{
	static const struct step steps[] = {
		{800, 800000, 400000, 2400000},
		{800, 800000, 300000, 2000000},
		{1600, 900000, 425000, 2600000},
		{100, 800000, 518750, 2875000},
	};
	struct tcp_rtt rtt = fresh();

	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		tcp_rtt_sample(&rtt, steps[i].sample_ms * MS, 1, 0);
		tcp_rtt_check(&rtt);
		assert_int_equal(rtt.srtt_ns / 1000, steps[i].srtt_us);
		assert_int_equal(rtt.rttvar_ns / 1000, steps[i].rttvar_us);
		assert_int_equal(tcp_rtt_timeout(&rtt) / 1000, steps[i].rto_us);
	}
	assert_int_equal(rtt.min_ns, 100 * MS);
}

/* RFC 6298 2.4, 2.5: both bounds; a sample of 0 is one all the same. */
static void test_bounds(void **state)
{
	struct tcp_rtt rtt = fresh();

	(void)state;
	tcp_rtt_sample(&rtt, 0, 1, 0);
	assert_int_not_equal(rtt.srtt_ns, 0);
	assert_int_equal(tcp_rtt_timeout(&rtt), 200 * MS);
	for (int i = 0; i < 100; i++)
		tcp_rtt_sample(&rtt, 50000 * MS, 1, 0);
	assert_int_equal(rtt.srtt_ns / (1000 * MS), 49);
	tcp_rtt_sample(&rtt, 500000 * MS, 1, 0);
	assert_int_equal(tcp_rtt_timeout(&rtt), 60000 * MS);
}

/* RFC 6298 2.3: the variation counts for at least the clock's granularity. */
static void test_granularity(void **state)
{
	struct tcp_rtt rtt;

	(void)state;
	tcp_rtt_init(&rtt, 1000 * MS, 1, 60000 * MS);
	for (int i = 0; i < 200; i++)
		tcp_rtt_sample(&rtt, 10 * MS, 1, 5 * MS);
	assert_in_range(tcp_rtt_timeout(&rtt), 15 * MS - 100, 15 * MS);
}

/* RFC 7323 appendix G: many samples a round trip move the average as one would. */
static void test_many_samples(void **state)
{
	struct tcp_rtt one = fresh();
	struct tcp_rtt many = fresh();

	(void)state;
	tcp_rtt_sample(&one, 100 * MS, 1, 0);
	tcp_rtt_sample(&many, 100 * MS, 1, 0);
	tcp_rtt_sample(&one, 200 * MS, 1, 0);
	for (int i = 0; i < 16; i++)
		tcp_rtt_sample(&many, 200 * MS, 16, 0);
	assert_in_range(many.srtt_ns, one.srtt_ns - MS, one.srtt_ns);
}

/* RFC 6298 5.5 to 5.7: doubled at each expiry up to the bound, back at once. */
static void test_backoff(void **state)
{
	struct tcp_rtt rtt = fresh();

	(void)state;
	for (uint64_t expected = 1000; expected < 60000; expected *= 2) {
		assert_int_equal(tcp_rtt_timeout(&rtt), expected * MS);
		tcp_rtt_back_off(&rtt);
	}
	for (int i = 0; i < 100; i++) {
		tcp_rtt_back_off(&rtt);
		assert_int_equal(tcp_rtt_timeout(&rtt), 60000 * MS);
		tcp_rtt_check(&rtt);
	}
	tcp_rtt_reset_backoff(&rtt);
	assert_int_equal(tcp_rtt_timeout(&rtt), 1000 * MS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_initial),     cmocka_unit_test(test_bounds_crossed),
		cmocka_unit_test(test_samples),     cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_granularity), cmocka_unit_test(test_many_samples),
		cmocka_unit_test(test_backoff),
	};

	return test_run("tcp_rtt", tests);
}
