/* SPDX-License-Identifier: MIT
 * tests/crash/log_test.c - the promises of storage/logfile.h (P1 to P6), against power cuts at
 * every submission and completion of a write, with the unflushed sectors lost in every combination;
 * cuts during recovery; life after life; bits that rot; writes that are lost or go astray.
 */
#include "support/test.h"

#include "support/logrig.h"
#include "support/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB          ((uint64_t)1 << 20)
#define PUSHES_MAX   4096
#define SUBSETS_BITS 12

/* What was asked of the log, and what it promised. */
struct history {
	uint64_t pushed;       /* records 1 to pushed, in order */
	uint64_t acknowledged; /* of those */
	uint64_t head;      /* first record that must be there: truncation was asked for up to it */
	uint64_t head_told; /* and was told done */
	uint64_t offsets[PUSHES_MAX];
};

/* A log in the world of the test, and who looks at what a cut leaves. */
struct world {
	struct logrig rig;
	struct logrig judge;
	struct blksim_disk *disk;
	struct history history;
	struct prng prng;
	uint64_t cuts;
	bool judging;
	bool second_cuts; /* cut the recoveries, too */
};

/* ---- judging what is left ---- */

/* Reads all there is: P1, P2, P3, P6.  first: the number of the first record; 0: there is none. */
static uint64_t judge_records(struct logrig *judge, const struct history *history, uint64_t *first)
{
	uint64_t i;
	uint64_t last = 0;
	int found;

	*first = 0;
	while ((found = logrig_read(judge, &i)) == 1) {
		assert_true(i > 0 && i <= history->pushed);
		if (last == 0)
			*first = i;
		else
			assert_int_equal(i, last + 1);
		last = i;
	}
	assert_int_equal(found, 0);
	assert_int_equal(judge->log->damages, 0);
	return last;
}

static void judge_disk(struct world *world, struct blksim_disk *disk, int flags)
{
	const struct history *history = &world->history;
	uint64_t first;

	assert_int_equal(logrig_open(&world->judge, disk, flags), 0);
	uint64_t last = judge_records(&world->judge, history, &first);
	if (first == 0) { /* nothing is there: all was collected, or nothing acknowledged */
		assert_true(history->head > history->acknowledged ||
			    history->acknowledged < history->head_told ||
			    history->acknowledged == 0);
	} else {
		assert_true(first >= history->head_told || first == 1);
		assert_true(first == history->head_told || first <= history->head);
		assert_true(last >= history->acknowledged);
	}
	logrig_close(&world->judge);
}

/* ---- cutting ---- */

struct subset {
	uint64_t bits;
	struct prng *prng; /* NULL: bits say it */
	uint32_t odds;     /* of 8 */
};

static bool keep(void *arg, uint32_t i)
{
	struct subset *subset = arg;

	if (!subset->prng)
		return i < 64 && (subset->bits >> i & 1);
	return prng_below(subset->prng, 8) < subset->odds;
}

static void cut_and_judge(struct world *world, struct blksim_disk *disk, struct subset *subset,
			  int flags)
{
	struct blksim_disk *cut = blksim_cut(disk, keep, subset);

	assert_non_null(cut);
	world->cuts++;
	judge_disk(world, cut, flags);
	blksim_disk_free(cut);
}

/* The power may go now: each subset of what is unflushed, random ones where there are too many. */
static void cut_now(struct world *world)
{
	uint32_t unflushed = blksim_unflushed(world->disk);

	if (unflushed <= SUBSETS_BITS) {
		uint64_t step = test_sanitized() ? 13 : 1;
		for (uint64_t bits = 0; bits < (uint64_t)1 << unflushed; bits += step)
			cut_and_judge(world, world->disk, &(struct subset){.bits = bits}, O_RDONLY);
		return;
	}
	for (uint32_t i = 0; i < test_share(64); i++) {
		struct subset subset = {.prng = &world->prng, .odds = i % 9};
		cut_and_judge(world, world->disk, &subset, O_RDONLY);
	}
}

static void at_event(void *arg)
{
	struct world *world = arg;

	if (world->judging)
		return;
	world->judging = true;
	cut_now(world);
	world->judging = false;
}

/* ---- the workload ---- */

static void world_open(struct world *world, const struct blksim_options *options, uint64_t seed)
{
	memset(world, 0, sizeof(*world));
	prng_seed(&world->prng, seed);
	logrig_init(&world->rig, 0, 0);
	logrig_init(&world->judge, 0, 0);
	world->disk = blksim_disk_new(options);
	assert_non_null(world->disk);
	world->history.head = 1;
	world->history.head_told = 1;
}

static void world_close(struct world *world)
{
	blksim_disk_free(world->disk);
	logrig_end(&world->judge);
	logrig_end(&world->rig);
}

struct pending {
	uint64_t token;
	uint64_t record; /* 0: a truncation to head */
	uint64_t head;
};

static void take_results(struct world *world, struct pending *pending, uint32_t *count)
{
	struct history *history = &world->history;
	uint32_t left = 0;
	int64_t result;

	for (uint32_t i = 0; i < *count; i++) {
		if (!logrig_done(&world->rig, pending[i].token, &result, NULL)) {
			pending[left++] = pending[i];
		} else if (pending[i].record) {
			assert_true(result > 0);
			history->offsets[pending[i].record] = (uint64_t)result;
			history->acknowledged = pending[i].record;
		} else {
			assert_int_equal(result, 0);
			history->head_told = pending[i].head;
		}
	}
	*count = left;
}

struct plan {
	uint32_t rounds;
	uint32_t at_once; /* records a round, at most */
	uint32_t bytes_max;
	bool again; /* a record's length goes by its number: the next life writes the same */
	uint32_t truncations; /* one in so many rounds; 0: none */
};

static void push_one(struct world *world, struct pending *pending, uint32_t *count,
		     const struct plan *plan)
{
	uint32_t bytes =
		8 + (plan->again ? (uint32_t)(world->history.pushed * 977 % plan->bytes_max)
				 : (uint32_t)prng_below(&world->prng, plan->bytes_max));
	int err;

	assert_true(world->history.pushed + 1 < PUSHES_MAX);
	uint64_t token = logrig_push(&world->rig, world->history.pushed + 1, bytes, &err);
	assert_true(token);
	pending[(*count)++] = (struct pending){.token = token, .record = ++world->history.pushed};
}

static void truncate_some(struct world *world, struct pending *pending, uint32_t *count)
{
	struct history *history = &world->history;
	int err;

	if (history->acknowledged <= history->head + 1)
		return;
	uint64_t head =
		history->head + prng_below(&world->prng, history->acknowledged - history->head);
	if (head <= history->head || history->offsets[head] == 0)
		return;
	history->head = head;
	uint64_t token = logrig_truncate(&world->rig, history->offsets[head], &err);
	assert_true(token);
	pending[(*count)++] = (struct pending){.token = token, .head = head};
}

static void work(struct world *world, const struct plan *plan)
{
	struct pending pending[256];
	uint32_t count = 0;

	for (uint32_t round = 0; round < plan->rounds; round++) {
		uint32_t records = 1 + (uint32_t)prng_below(&world->prng, plan->at_once);
		for (uint32_t i = 0; i < records && count < 200; i++)
			push_one(world, pending, &count, plan);
		if (plan->truncations && prng_below(&world->prng, plan->truncations) == 0)
			truncate_some(world, pending, &count);
		logrig_turns(&world->rig, 1 + (uint32_t)prng_below(&world->prng, 12));
		take_results(world, pending, &count);
		logfile_check(world->rig.log);
	}
	for (uint32_t i = 0; i < 100000 && count > 0; i++) {
		logrig_turns(&world->rig, 1);
		take_results(world, pending, &count);
	}
	assert_int_equal(count, 0);
}

/* ---- P1, P2, P3, P6: cuts at every boundary ---- */

static void every_boundary(const struct blksim_options *options, const struct plan *plan,
			   uint64_t seed)
{
	struct world world;

	world_open(&world, options, seed);
	assert_int_equal(logrig_open(&world.rig, world.disk, O_RDWR | O_CREAT), 0);
	blksim_watch(world.disk, at_event, &world);
	work(&world, plan);
	logrig_close(&world.rig);
	blksim_watch(world.disk, NULL, NULL);
	judge_disk(&world, world.disk, O_RDWR);
	print_message("# %llu cuts\n", (unsigned long long)world.cuts);
	world_close(&world);
}

static void test_every_boundary_small(void **state)
{
	static const struct plan plan = {.rounds = 12, .at_once = 4, .bytes_max = 600};
	struct blksim_options options = {.capacity_max_bytes = 4 * MIB,
					 .latency_ns = 30000,
					 .block_bytes = 512,
					 .volatile_cache = true};
	uint32_t seeds = test_number("DEMI_CRASH_SEEDS", test_share(3));
	uint64_t first = test_seed(1);

	(void)state;
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		options.seed = seed;
		options.capacity_max_bytes = seed % 2 ? 0 : 4 * MIB;
		options.capacity_bytes = seed % 2 ? MIB : 0;
		every_boundary(&options, &plan, seed);
	}
}

static void test_every_boundary_segments(void **state)
{
	static const struct plan plan = {
		.rounds = 40, .at_once = 6, .bytes_max = 6000, .truncations = 4};
	struct blksim_options options = {
		.capacity_bytes = MIB, .latency_ns = 30000, .volatile_cache = true};
	uint32_t seeds = test_number("DEMI_CRASH_SEEDS", test_share(2));
	uint64_t first = test_seed(1);

	(void)state;
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		options.seed = seed;
		options.block_bytes = seed % 2 ? 512 : 4096;
		every_boundary(&options, &plan, 100 + seed);
	}
}

/* ---- P5, and life after life ---- */

struct life {
	struct world *world;
	uint64_t crash_at; /* event */
	uint64_t events;
	struct blksim_disk *cut;
	struct history then; /* what was promised at that moment */
};

static void maybe_crash(void *arg)
{
	struct life *life = arg;
	struct world *world = life->world;

	if (life->events++ != life->crash_at)
		return;
	struct subset subset = {.prng = &world->prng,
				.odds = (uint32_t)prng_below(&world->prng, 9)};
	life->cut = blksim_cut(world->disk, keep, &subset);
	assert_non_null(life->cut);
	life->then = world->history;
}

/* Opens, checks what is there, goes on, and dies at some event, of recovery too. */
static void live(struct world *world, const struct plan *plan)
{
	struct life life = {.world = world, .crash_at = prng_below(&world->prng, 60)};
	struct history *history = &world->history;
	uint64_t first;

	blksim_watch(world->disk, maybe_crash, &life);
	assert_int_equal(logrig_open(&world->rig, world->disk, O_RDWR | O_CREAT), 0);
	uint64_t last = judge_records(&world->rig, history, &first);
	assert_true(last >= history->acknowledged || history->head > history->acknowledged ||
		    first == 0);
	if (first) {
		assert_true(first >= history->head_told && first <= history->head);
		history->head = first;
		history->head_told = first;
		history->pushed = last;
	} else if (history->pushed > 0) {
		/* Everything was collected, or nothing survived: numbers go on. */
		assert_true(history->head > history->acknowledged || history->acknowledged == 0);
		history->head = history->pushed + 1;
		history->head_told = history->head;
	}
	for (uint64_t i = history->acknowledged + 1; i <= history->pushed; i++)
		history->offsets[i] = 0; /* nobody was told them */
	history->acknowledged = history->pushed;
	work(world, plan);
	logrig_close(&world->rig);
	blksim_watch(world->disk, NULL, NULL);
	if (!life.cut)
		return;
	*history = life.then;
	blksim_disk_free(world->disk);
	world->disk = life.cut;
}

/* As many worlds as the test has, or (TEST_SEED_SECONDS) as there is time for. */
static bool goes_on(uint32_t ran, uint32_t worlds, time_t begin)
{
	time_t asked = (time_t)test_number("TEST_SEED_SECONDS", 0);

	return asked ? time(NULL) - begin < asked : ran < worlds;
}

/* A world of that seed, which says what drive it is and what is done there. */
static void live_often(uint64_t seed)
{
	static const struct plan plans[5] = {
		{.rounds = 6, .at_once = 5, .bytes_max = 3000, .truncations = 3},
		{.rounds = 6, .at_once = 5, .bytes_max = 3000, .truncations = 3},
		{.rounds = 5, .at_once = 3, .bytes_max = 30000, .truncations = 2},
		{.rounds = 6, .at_once = 5, .bytes_max = 3000, .truncations = 3},
		{.rounds = 6, .at_once = 5, .bytes_max = 900, .again = true},
	};
	const struct blksim_options options = {
		.capacity_bytes = seed % 3 ? 2 * MIB : 0,
		.capacity_max_bytes = seed % 3 ? 0 : 8 * MIB,
		.latency_ns = 10000 + 10000 * (seed % 5),
		.block_bytes = seed % 2 ? 512 : 4096,
		.memory_align = seed % 7 < 3 ? 1 : 512,
		.volatile_cache = seed % 4 != 0,
		.zone_bytes = seed % 6 == 1 ? 65536 : 0,
		.seed = seed,
	};
	struct world world;

	print_message("# again: DEMI_SEED=%llu DEMI_CRASH_WORLDS=1\n", (unsigned long long)seed);
	world_open(&world, &options, seed);
	for (uint32_t n = 0; n < 30; n++)
		live(&world, &plans[seed % 5]);
	world_close(&world);
}

static void test_lives(void **state)
{
	uint32_t worlds = test_number("DEMI_CRASH_WORLDS", test_share(40));
	uint64_t seed = test_seed(7);
	time_t begin = time(NULL);
	uint32_t ran = 0;

	(void)state;
	for (; goes_on(ran, worlds, begin); ran++)
		live_often(seed + ran);
	print_message("# %u seeds\n", ran);
}

/* Those that have found something. */
static void test_lives_that_failed(void **state)
{
	static const uint64_t seeds[] = {117, 135, 189, 5241, 5292};

	(void)state;
	for (uint32_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
		live_often(seeds[i]);
}

/* ---- P4: what rots ---- */

#define SMALL 12 /* records */

/* A log of a few records, closed. Its drive; ends: where on the drive it ends. */
static struct blksim_disk *small_log(struct world *world, uint64_t *end)
{
	static const struct blksim_options options = {
		.capacity_bytes = MIB, .latency_ns = 20000, .block_bytes = 512, .seed = 5};
	int err;

	world_open(world, &options, 5);
	assert_int_equal(logrig_open(&world->rig, world->disk, O_RDWR | O_CREAT), 0);
	for (uint64_t i = 1; i <= SMALL; i++) {
		uint64_t token = logrig_push(&world->rig, i, 8 + (uint32_t)(i * 97 % 300), &err);
		assert_true(token);
		if (i % 3 == 0) /* three in a batch */
			assert_true(logrig_wait(&world->rig, token, NULL) > 0);
	}
	logrig_turns(&world->rig, 20);
	world->history.pushed = SMALL;
	world->history.acknowledged = SMALL;
	*end = logfile_device_offset(world->rig.log, world->rig.log->durable.offset - 1) + 1;
	logrig_close(&world->rig);
	return world->disk;
}

/* What is read must be what was written, in order; whether anything was missing, or told damaged.
 */
static void judge_rotten(struct logrig *judge, struct blksim_disk *disk, bool *missing, bool *told)
{
	int err = logrig_open(judge, disk, O_RDONLY);
	uint64_t expected = 1;
	uint64_t i;

	*missing = true;
	*told = err != 0;
	if (err) {
		assert_true(err == -EUCLEAN || err == -EMEDIUMTYPE || err == -ENOENT ||
			    err == -EINVAL);
		return;
	}
	while ((err = logrig_read(judge, &i)) != 0) {
		int64_t at;
		if (err == 1) {
			assert_int_equal(i, expected);
			expected++;
			continue;
		}
		assert_int_equal(err, -EBADMSG);
		*told = true;
		assert_int_equal(judge->queue->ops->log->seek(judge->queue, 0, SEEK_CUR, &at), 0);
		if (judge->queue->ops->log->seek(judge->queue, at, SEEK_DATA, &at))
			break;
		assert_int_equal(logrig_read(judge, &i), 1);
		assert_true(i > expected && i <= SMALL);
		expected = i + 1;
	}
	*told |= judge->log->damages > 0;
	*missing = expected != SMALL + 1 || *told;
	logrig_close(judge);
}

static void test_rot(void **state)
{
	struct world world;
	uint64_t end;
	uint64_t capacity;
	uint32_t told_of = 0;
	struct blksim_disk *disk = small_log(&world, &end);
	unsigned char *medium = blksim_medium(disk, &capacity);
	uint32_t step = test_sanitized() ? 37 : 1;

	(void)state;
	for (uint64_t at = 0; at < end; at += step) {
		bool missing;
		bool told;
		if (at == SUPER_BYTES)
			at = SUPER_STRIDE;
		if (at == SUPER_STRIDE + SUPER_BYTES)
			at = SEGMENTS_AT;
		medium[at] ^= (unsigned char)(1 << at % 8);
		judge_rotten(&world.judge, disk, &missing, &told);
		medium[at] ^= (unsigned char)(1 << at % 8);
		if (missing && !told)
			print_message("# at %llu\n", (unsigned long long)at);
		assert_true(told || !missing);
		told_of += told;
	}
	assert_true(told_of > 1000 / step); /* every byte of data and headers, not padding */
	judge_disk(&world, disk, O_RDWR);
	world_close(&world);
}

/* Both superblocks of the last life are gone, or one: not both is harmless. */
static void test_superblocks(void **state)
{
	struct world world;
	uint64_t end;
	uint64_t capacity;
	struct blksim_disk *disk = small_log(&world, &end);
	unsigned char *medium = blksim_medium(disk, &capacity);

	(void)state;
	for (uint32_t slot = 0; slot < 2; slot++) {
		unsigned char saved[SUPER_BYTES];
		memcpy(saved, medium + slot * SUPER_STRIDE, SUPER_BYTES);
		memset(medium + slot * SUPER_STRIDE, 0x5a, SUPER_BYTES);
		judge_disk(&world, disk, O_RDONLY);
		memcpy(medium + slot * SUPER_STRIDE, saved, SUPER_BYTES);
	}
	medium[16] ^= 1;
	medium[SUPER_STRIDE + 16] ^= 1;
	assert_int_equal(logrig_open(&world.judge, disk, O_RDWR | O_CREAT), -EUCLEAN);
	medium[0] ^= 1;
	medium[SUPER_STRIDE] ^= 1;
	assert_int_equal(logrig_open(&world.judge, disk, O_RDWR | O_CREAT), -EMEDIUMTYPE);
	medium[0] ^= 1;
	medium[SUPER_STRIDE] ^= 1;
	medium[16] ^= 1;
	medium[SUPER_STRIDE + 16] ^= 1;
	judge_disk(&world, disk, O_RDWR);
	world_close(&world);
}

/* Writes that the drive said were done, and are elsewhere or nowhere. */
static void stray(bool lost)
{
	static const struct blksim_options options = {
		.capacity_bytes = MIB, .latency_ns = 20000, .block_bytes = 512, .seed = 5};
	struct world world;
	int err;
	bool missing;
	bool told;

	for (uint64_t n = 1; n <= SMALL; n++) {
		world_open(&world, &options, 5);
		assert_int_equal(logrig_open(&world.rig, world.disk, O_RDWR | O_CREAT), 0);
		for (uint64_t i = 1; i <= SMALL; i++) {
			if (i == n)
				blksim_misdirect(world.disk, lost ? MIB / 2 : 512);
			uint64_t token = logrig_push(&world.rig, i, 8 + (uint32_t)(i * 97), &err);
			assert_true(logrig_wait(&world.rig, token, NULL) > 0);
		}
		logrig_close(&world.rig);
		judge_rotten(&world.judge, world.disk, &missing, &told);
		assert_true(told || (!lost && !missing));
		world_close(&world);
	}
}

static void test_stray_writes(void **state)
{
	(void)state;
	stray(true);
	stray(false);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_boundary_segments),
		cmocka_unit_test(test_every_boundary_small),
		cmocka_unit_test(test_lives),
		cmocka_unit_test(test_lives_that_failed),
		cmocka_unit_test(test_rot),
		cmocka_unit_test(test_superblocks),
		cmocka_unit_test(test_stray_writes),
	};

	/* Whole lines, beside what the library says of damage. */
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	return test_run("crash", tests);
}
