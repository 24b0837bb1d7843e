/* SPDX-License-Identifier: MIT
 * tests/sim/goodput_test.c - goodput of 10 MiB over loss, delay and buffer: every transfer
 * completes, no cell of the grid up to 10 % of loss falls far below its snapshot
 *(bench/goodput.json, which build/tests/sim_goodput --update rewrites), and a run is a function of
 *its seed.
 *
 *	goodput_test SNAPSHOT
 *
 * With DEMI_SEED nothing is compared: only whether all complete.
 */
#include "sim/grid.h"

#include "support/net.h"
#include "support/seed.h"

#include <inttypes.h>
#include <stdio.h>

#define COMPARED_MAX 100000 /* millionths */

static const char *snapshot;
static uint64_t seed;

struct tally {
	struct grid_options options;
	uint32_t cells;
	uint32_t incomplete;
	uint32_t slower; /* than the tolerance allows */
	uint32_t faster;
	uint32_t unknown;
};

static void compare(struct tally *tally, const char *name, double now, double before)
{
	if (before < 0) {
		printf("# %s is not in the snapshot\n", name);
		tally->unknown++;
	} else if (now < before * (100 - GRID_TOLERANCE) / 100) {
		printf("# %s: %.3f Mbit/s, %.3f in the snapshot\n", name, now, before);
		tally->slower++;
	} else if (now > before * (100 + GRID_TOLERANCE) / 100) {
		tally->faster++;
	}
}

static void try_cell(const struct grid_cell *cell, void *arg)
{
	struct tally *tally = arg;
	struct grid_figures figures;
	char name[GRID_NAME_BYTES];

	grid_name(cell, name);
	assert_true(grid_run(cell, &tally->options, &figures));
	tally->cells++;
	if (!figures.complete) {
		printf("# %s did not complete, seed %" PRIu64 "\n", name, tally->options.seed);
		tally->incomplete++;
	}
	/* beyond, a few waits of minutes decide */
	if (seed == GRID_SEED && cell->loss <= COMPARED_MAX)
		compare(tally, name, figures.mbit, grid_snapshot(snapshot, cell));
}

static void test_grid(void **state)
{
	struct tally tally = {.options.seed = seed};

	(void)state;
	grid_each(test_sanitized(), try_cell, &tally);
	printf("# %" PRIu32 " cells, %" PRIu32 " slower than the snapshot, %" PRIu32 " faster\n",
	       tally.cells, tally.slower, tally.faster);
	assert_int_equal(tally.incomplete, 0);
	assert_int_equal(tally.slower, 0);
	assert_int_equal(tally.unknown, 0);
}

static void test_burst(void **state)
{
	const struct grid_options options = {.seed = seed, .seeds = 1, .burst = 500000};
	const uint32_t losses[] = {1000, 10000, 50000};

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(losses); i++) {
		const struct grid_cell cell = {losses[i], 10000, 100, 0};
		struct grid_figures figures;
		assert_true(grid_run(&cell, &options, &figures));
		printf("# %g %% in bursts: %.3f Mbit/s, %.1f timeouts\n", losses[i] / 1e4,
		       figures.mbit, figures.timeouts);
		assert_true(figures.complete);
	}
}

/* A line of 100 Mbit/s, 10 ms long, that loses one frame in a hundred: at least 60 % full by the
 * congestion control that is made for it.  CUBIC and Reno take the losses for congestion: their
 * response functions give 14 to 17 Mbit/s there (RFC 9438 5.1). */
static void test_goal(void **state)
{
	const struct grid_cell cell = {10000, 10000, 100, 0};
	struct grid_options options = {.seed = seed, .seeds = 5, .congestion = "tolerant"};
	struct grid_figures figures;

	(void)state;
	assert_true(grid_run(&cell, &options, &figures));
	printf("# tolerant, 1 %%, 10 ms: %.1f Mbit/s, %.1f %% of the line\n", figures.mbit,
	       figures.share);
	assert_true(figures.complete);
	assert_true(figures.mbit >= 60);
	options.congestion = NULL;
	assert_true(grid_run(&cell, &options, &figures));
	printf("# default, 1 %%, 10 ms: %.1f Mbit/s\n", figures.mbit);
	assert_true(figures.complete);
	assert_true(figures.mbit >= 12);
}

static void test_replay(void **state)
{
	const struct grid_cell cell = {20000, 10000, 100, 0};
	struct grid_options options = {.seed = seed, .seeds = 1};
	struct grid_figures figures[3];

	(void)state;
	assert_true(grid_run(&cell, &options, &figures[0]));
	assert_true(grid_run(&cell, &options, &figures[1]));
	options.seed++;
	assert_true(grid_run(&cell, &options, &figures[2]));
	assert_true(figures[0].hash == figures[1].hash);
	assert_true(figures[0].hash != figures[2].hash);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grid),
		cmocka_unit_test(test_burst),
		cmocka_unit_test(test_goal),
		cmocka_unit_test(test_replay),
	};

	if (argc != 2)
		return 2;
	snapshot = argv[1];
	seed = test_seed(GRID_SEED);
	return test_run("goodput", tests);
}
