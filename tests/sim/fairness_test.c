/* SPDX-License-Identifier: MIT
 * tests/sim/fairness_test.c - flows of one kind share a bottleneck fairly: Jain's index of what
 * each got is at least 0.95, whoever began first, from one host or from several.
 */
#include "sim/transfer.h"

#include "support/seed.h"

#include <inttypes.h>
#include <stdio.h>

#define FAIR_MIN 0.95
#define MBIT     10
#define FROM_S   20 /* what comes before does not count */
#define LIMIT_S  100

static uint64_t seed;

struct contest {
	const char *congestion;
	uint32_t flows;
	uint32_t senders;
	uint64_t start_gap_ns;
	uint64_t mark_bytes;
};

static double mbit(uint64_t bytes)
{
	return (double)bytes * 8 / 1e6 / (LIMIT_S - FROM_S);
}

/* 10 Mbit/s, 40 ms: 33 segments in the pipe and 43 in the queue. */
static void compete(const struct contest *contest)
{
	struct transfer transfer = {
		.rtt_ns = 40 * WORLD_MS,
		.bits_per_s = MBIT * 1000000,
		.mark_bytes = contest->mark_bytes,
		.flows = contest->flows,
		.senders = contest->senders,
		.start_gap_ns = contest->start_gap_ns,
		.from_ns = FROM_S * WORLD_S,
		.limit_ns = LIMIT_S * WORLD_S,
	};
	struct transfer_result result;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < contest->flows; i++)
		transfer.congestion[i] = contest->congestion;
	assert_true(transfer_run(&transfer, seed, &result));
	printf("# %s, %" PRIu32 " flows of %" PRIu32 " hosts, %" PRIu64 " s apart:",
	       contest->congestion, contest->flows, contest->senders,
	       contest->start_gap_ns / WORLD_S);
	for (uint32_t i = 0; i < contest->flows; i++) {
		bytes += result.flows[i].bytes;
		printf(" %.2f", mbit(result.flows[i].bytes));
		assert_int_equal(result.flows[i].error, 0);
	}
	double fairness = transfer_fairness(&transfer, &result);
	printf(" Mbit/s, index %.4f, resent %" PRIu64 ", timeouts %" PRIu64 "\n", fairness,
	       result.retransmitted, result.timeouts);
	assert_true(fairness >= FAIR_MIN);
	/* and the line is full */
	assert_true(mbit(bytes) > MBIT * 0.85);
}

static void compete_all(const char *congestion, uint64_t mark_bytes)
{
	static const struct contest contests[] = {
		{.flows = 2, .senders = 1},
		{.flows = 2, .senders = 1, .start_gap_ns = 5 * WORLD_S},
		{.flows = 2, .senders = 2, .start_gap_ns = 5 * WORLD_S},
		{.flows = 4, .senders = 1},
		{.flows = 4, .senders = 4, .start_gap_ns = 5 * WORLD_S},
	};

	for (uint32_t i = 0; i < test_share(ARRAY_LENGTH(contests)); i++) {
		struct contest contest = contests[i];
		contest.congestion = congestion;
		contest.mark_bytes = mark_bytes;
		compete(&contest);
	}
}

static void test_cubic(void **state)
{
	(void)state;
	compete_all("cubic", 0);
}

static void test_reno(void **state)
{
	(void)state;
	compete_all("reno", 0);
}

static void test_tolerant(void **state)
{
	(void)state;
	compete_all("tolerant", 0);
}

/* A queue that marks beyond a quarter of what it holds: nothing is lost. */
static void test_dctcp(void **state)
{
	(void)state;
	compete_all("dctcp", TRANSFER_QUEUE_MIN / 4);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cubic),
		cmocka_unit_test(test_reno),
		cmocka_unit_test(test_tolerant),
		cmocka_unit_test(test_dctcp),
	};

	seed = test_seed(1);
	return test_run("fairness", tests);
}
