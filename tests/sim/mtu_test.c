/* SPDX-License-Identifier: MIT
 * tests/sim/mtu_test.c - transfers over a path that takes less than the link: where a router says
 * so (RFC 1191, RFC 8201), and where nobody does (RFC 8899).
 */
#include "sim/transfer.h"

#include "support/seed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

enum { NEVER = 1, BLACK_HOLE, ALWAYS };

static uint64_t seed;

struct path {
	const char *name;
	struct transfer transfer;
	uint32_t pmtu_min; /* what is known of it in the end */
	uint32_t pmtu_max;
	uint64_t seconds;  /* it may take */
	uint64_t timeouts; /* at most, like what follows */
	uint64_t too_big;
};

#define LINE .rtt_ns = 20 * WORLD_MS, .bits_per_s = 100000000, .flows = 1, .senders = 1

static const struct path paths[] = {
	{"a router says so",
	 {LINE, .mtu = 1400, .icmp = true, .bytes = 4 << 20, .probing = BLACK_HOLE},
	 1400,
	 1400,
	 2,
	 0,
	 10},
	{"a router says so, and nothing is probed",
	 {LINE, .mtu = 1400, .icmp = true, .bytes = 4 << 20, .probing = NEVER},
	 1400,
	 1400,
	 2,
	 0,
	 10},
	{"a router says so, IPv6",
	 {LINE, .mtu = 1400, .icmp = true, .v6 = true, .bytes = 4 << 20, .probing = BLACK_HOLE},
	 1400,
	 1400,
	 2,
	 0,
	 10},
	{"a narrow path",
	 {LINE, .mtu = 576, .icmp = true, .bytes = 1 << 20, .probing = BLACK_HOLE},
	 576,
	 576,
	 2,
	 0,
	 10},
	{"jumbo frames at the ends only",
	 {LINE, .link_mtu = 9216, .mtu = 1500, .icmp = true, .bytes = 4 << 20,
	  .probing = BLACK_HOLE},
	 1500,
	 1500,
	 2,
	 0,
	 10},
	{"a black hole",
	 {LINE, .mtu = 1400, .bytes = 100 << 20, .probing = BLACK_HOLE},
	 1380,
	 1400,
	 20,
	 6,
	 40},
	{"a black hole, IPv6",
	 {LINE, .mtu = 1400, .v6 = true, .bytes = 100 << 20, .probing = BLACK_HOLE},
	 1380,
	 1400,
	 20,
	 6,
	 40},
	{"a black hole that takes no more than the base",
	 {LINE, .mtu = 1280, .v6 = true, .bytes = 4 << 20, .probing = BLACK_HOLE},
	 1280,
	 1280,
	 8,
	 6,
	 40},
	{"a narrow black hole",
	 {LINE, .mtu = 576, .bytes = 1 << 20, .probing = BLACK_HOLE},
	 552,
	 576,
	 60,
	 12,
	 60},
	{"jumbo frames into a black hole",
	 {LINE, .link_mtu = 9000, .mtu = 1500, .bytes = 400 << 20, .probing = BLACK_HOLE},
	 1484,
	 1500,
	 60,
	 6,
	 60},
	{"a search from the start",
	 {LINE, .mtu = 1400, .bytes = 100 << 20, .probing = ALWAYS},
	 1380,
	 1400,
	 20,
	 0,
	 40},
	{"a search that finds all",
	 {LINE, .bytes = 4 << 20, .probing = ALWAYS},
	 1500,
	 1500,
	 2,
	 0,
	 0},
	{"a black hole, and loss",
	 {LINE, .mtu = 1400, .loss = 5000, .bytes = 4 << 20, .probing = BLACK_HOLE},
	 1280,
	 1400,
	 60,
	 60,
	 60},
	{"a router says so, and loss",
	 {LINE, .mtu = 1400, .icmp = true, .loss = 5000, .bytes = 4 << 20, .probing = BLACK_HOLE},
	 1280,
	 1400,
	 60,
	 60,
	 60},
	{"loss alone",
	 {LINE, .loss = 50000, .bytes = 1 << 20, .probing = BLACK_HOLE},
	 552,
	 1500,
	 60,
	 60,
	 0},
};

static void run(const struct path *path)
{
	struct transfer transfer = path->transfer;
	struct transfer_result result;

	transfer.limit_ns = 1000 * WORLD_S;
	assert_true(transfer_run(&transfer, seed, &result));
	const struct transfer_flow *flow = &result.flows[0];
	printf("# %s: %.2f s, %" PRIu64 " timeouts, %" PRIu64 " too big, %" PRIu64 " of %" PRIu64
	       " sent again, path %u\n",
	       path->name, (double)flow->taken_ns / 1e9, result.timeouts, result.too_big,
	       result.retransmitted, result.segments, result.pmtu);
	assert_true(flow->complete);
	assert_int_equal(flow->error, 0);
	assert_in_range(result.pmtu, path->pmtu_min, path->pmtu_max);
	assert_in_range(flow->taken_ns, 0, path->seconds * WORLD_S);
	assert_in_range(result.timeouts, 0, path->timeouts);
	assert_in_range(result.too_big, 0, path->too_big);
}

static void test_paths(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(paths); i++)
		run(&paths[i]);
}

/* Nothing gets through, and nobody finds out why: it ends, as it always did. */
static void test_never(void **state)
{
	struct transfer transfer = {LINE, .mtu = 1400, .bytes = 1 << 20, .probing = NEVER,
				    .limit_ns = 3000 * WORLD_S};
	struct transfer_result result;

	(void)state;
	assert_true(transfer_run(&transfer, seed, &result));
	assert_int_equal(result.flows[0].error, ETIMEDOUT);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_never),
	};

	seed = test_seed(1);
	return test_run("mtu", tests);
}
