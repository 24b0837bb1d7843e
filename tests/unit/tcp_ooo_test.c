/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_ooo_test.c - net/tcp/ooo.c: a model under random segments, SACK blocks and their
 * order, bounds, memory short.
 */
#include "support/test.h"

#include "base/prng.h"
#include "mem/heap.h"
#include "net/tcp/ooo.h"
#include "support/seed.h"

#include <errno.h>
#include <string.h>

#define HELD_MAX (1U << 20)

struct bench {
	struct heap *heap;
	struct tcp_ooo *ooo;
	uint32_t rcv_nxt;
};

static struct bench open_bench(uint64_t heap_bytes, uint32_t rcv_nxt)
{
	struct bench bench = {.rcv_nxt = rcv_nxt};

	assert_int_equal(heap_open(&bench.heap, heap_bytes, PAGES_HUGE_NEVER), 0);
	return bench;
}

static void close_bench(struct bench *bench)
{
	struct heap_usage usage;

	tcp_ooo_free(&bench->ooo, bench->heap);
	heap_usage(bench->heap, &usage);
	assert_int_equal(usage.live_objects, 0);
	heap_check(bench->heap);
	heap_close(bench->heap);
}

/* What byte stands at a sequence number; copy tells several copies of it apart. */
static uint8_t byte_at(uint32_t seq, uint8_t copy)
{
	return (uint8_t)((seq * 31) ^ copy);
}

static struct tcp_block add_copy(struct bench *bench, uint32_t start, uint32_t end, uint8_t copy)
{
	struct tcp_block duplicate;
	uint32_t length = end - start;
	uint8_t *object = heap_alloc(bench->heap, length);

	assert_non_null(object);
	for (uint32_t i = 0; i < length; i++)
		object[i] = byte_at(start + i, copy);
	const struct tcp_piece piece = {
		.data = object, .object = object, .length = length, .held = length};
	assert_int_equal(tcp_ooo_add(&bench->ooo, bench->heap, bench->rcv_nxt, start, &piece,
				     HELD_MAX, &duplicate),
			 0);
	tcp_ooo_check(bench->ooo, bench->rcv_nxt);
	return duplicate;
}

static struct tcp_block add(struct bench *bench, uint32_t start, uint32_t end)
{
	return add_copy(bench, start, end, 0);
}

static void expect_blocks(const struct bench *bench, const struct tcp_block *expected, uint32_t n)
{
	struct tcp_block blocks[TCP_SACK_BLOCKS_MAX];

	assert_int_equal(tcp_ooo_blocks(bench->ooo, blocks, TCP_SACK_BLOCKS_MAX), n);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(blocks[i].start, expected[i].start);
		assert_int_equal(blocks[i].end, expected[i].end);
	}
}

/* Takes all that is in order from rcv_nxt on; returns the bytes. */
static uint32_t take_all(struct bench *bench)
{
	struct tcp_piece piece;
	uint32_t bytes = 0;

	while (tcp_ooo_take(&bench->ooo, bench->heap, bench->rcv_nxt, &piece)) {
		for (uint32_t i = 0; i < piece.length; i++)
			assert_int_equal(piece.data[i], byte_at(bench->rcv_nxt + i, 0));
		bench->rcv_nxt += piece.length;
		bytes += piece.length;
		assert_int_equal(heap_free(bench->heap, piece.object), 0);
		tcp_ooo_check(bench->ooo, bench->rcv_nxt - 1);
	}
	return bytes;
}

/* -- blocks */

/* RFC 2018 4: the block of the segment that came last stands first, then the most recent others. */
static void test_blocks_recent_first(void **state)
{
	struct bench bench = open_bench(64 << 20, 1000);
	static const struct tcp_block expected[] = {
		{3500, 3600}, {5000, 5100}, {4000, 4100}, {3000, 3100}};

	(void)state;
	add(&bench, 2000, 2100);
	add(&bench, 3000, 3100);
	add(&bench, 4000, 4100);
	add(&bench, 5000, 5100);
	add(&bench, 3500, 3600);
	expect_blocks(&bench, expected, 4);
	assert_int_equal(tcp_ooo_blocks(bench.ooo, NULL, 0), 0);
	close_bench(&bench);
}

/* Adjoining segments are one block (RFC 2018 4), and an old block that grows is the recent one. */
static void test_blocks_join(void **state)
{
	struct bench bench = open_bench(64 << 20, 1000);
	static const struct tcp_block expected[] = {{2000, 2300}, {4000, 4100}};

	(void)state;
	add(&bench, 2000, 2100);
	add(&bench, 2200, 2300);
	add(&bench, 4000, 4100);
	add(&bench, 2100, 2200);
	expect_blocks(&bench, expected, 2);
	close_bench(&bench);
}

/* RFC 2883 4: the first part that was here already. */
static void test_duplicates(void **state)
{
	struct bench bench = open_bench(64 << 20, 1000);
	struct tcp_block duplicate = add(&bench, 2000, 2100);

	(void)state;
	assert_int_equal(duplicate.start, duplicate.end);
	duplicate = add(&bench, 2000, 2100);
	assert_int_equal(duplicate.start, 2000);
	assert_int_equal(duplicate.end, 2100);
	duplicate = add(&bench, 1950, 2050);
	assert_int_equal(duplicate.start, 2000);
	assert_int_equal(duplicate.end, 2050);
	duplicate = add(&bench, 1900, 2300);
	assert_int_equal(duplicate.start, 1950);
	assert_int_equal(duplicate.end, 2100);
	static const struct tcp_block expected[] = {{1900, 2300}};
	expect_blocks(&bench, expected, 1);
	close_bench(&bench);
}

/* A segment that came again moves its block to the front. */
static void test_duplicate_is_recent(void **state)
{
	struct bench bench = open_bench(64 << 20, 1000);
	static const struct tcp_block expected[] = {{2000, 2100}, {3000, 3100}};

	(void)state;
	add(&bench, 2000, 2100);
	add(&bench, 3000, 3100);
	add(&bench, 2000, 2100);
	expect_blocks(&bench, expected, 2);
	close_bench(&bench);
}

/* Bytes that were kept are not replaced by later copies of them. */
static void test_first_copy_counts(void **state)
{
	struct bench bench = open_bench(64 << 20, 1000);

	(void)state;
	add(&bench, 1100, 1200);
	add(&bench, 1300, 1400);
	struct tcp_block duplicate = add_copy(&bench, 1100, 1200, 0x55);
	assert_int_equal(duplicate.end - duplicate.start, 100);
	duplicate = add_copy(&bench, 1300, 1400, 0x55);
	assert_int_equal(duplicate.end - duplicate.start, 100);
	add(&bench, 1200, 1300);
	bench.rcv_nxt = 1100;
	assert_int_equal(take_all(&bench), 300);
	close_bench(&bench);
}

/* -- the model */

#define SPACE 4096 /* sequence numbers of the model */

struct model {
	bool kept[SPACE];
	uint32_t base;
	uint32_t next;   /* rcv_nxt, counted from base */
	uint32_t latest; /* where the last segment began */
};

static void model_add(struct bench *bench, struct model *model, struct prng *prng)
{
	uint32_t start = model->next + 1 + (uint32_t)prng_below(prng, 1500);
	uint32_t end = start + 1 + (uint32_t)prng_below(prng, 300);

	if (end > SPACE)
		return;
	struct tcp_block duplicate = add(bench, model->base + start, model->base + end);
	uint32_t first = start;
	while (first < end && !model->kept[first])
		first++;
	if (first == end) {
		assert_int_equal(duplicate.start, duplicate.end);
	} else {
		uint32_t stop = first;
		while (stop < end && model->kept[stop])
			stop++;
		assert_int_equal(duplicate.start, model->base + first);
		assert_int_equal(duplicate.end, model->base + stop);
	}
	memset(model->kept + start, true, end - start);
	model->latest = start;
}

/* The gap at rcv_nxt is filled by n bytes, then what was ahead is taken. */
static void model_fill(struct bench *bench, struct model *model, struct prng *prng)
{
	uint32_t n = 1 + (uint32_t)prng_below(prng, 200);

	if (model->next + n > SPACE)
		n = SPACE - model->next;
	model->next += n;
	uint32_t expected = 0;
	while (model->next + expected < SPACE && model->kept[model->next + expected])
		expected++;
	bench->rcv_nxt = model->base + model->next;
	assert_int_equal(take_all(bench), expected);
	model->next += expected;
}

static void model_blocks(const struct bench *bench, const struct model *model)
{
	struct tcp_block blocks[TCP_SACK_BLOCKS_MAX];
	uint32_t n = tcp_ooo_blocks(bench->ooo, blocks, TCP_SACK_BLOCKS_MAX);

	uint32_t expected = 0;

	for (uint32_t i = model->next; i < SPACE; i++)
		expected += model->kept[i] && !(i > model->next && model->kept[i - 1]);
	assert_int_equal(n, expected < TCP_SACK_BLOCKS_MAX ? expected : TCP_SACK_BLOCKS_MAX);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t start = blocks[i].start - model->base;
		uint32_t end = blocks[i].end - model->base;
		assert_true(start < end && end <= SPACE);
		for (uint32_t at = start; at < end; at++)
			assert_true(model->kept[at]);
		assert_false(model->kept[start - 1] && start > model->next);
		assert_false(end < SPACE && model->kept[end]);
		for (uint32_t k = 0; k < i; k++)
			assert_int_not_equal(blocks[k].start, blocks[i].start);
	}
	/* RFC 2018 4: the latest segment's block is the first. */
	if (model->latest > model->next)
		assert_in_range(model->base + model->latest - blocks[0].start, 0,
				blocks[0].end - blocks[0].start - 1);
}

static void test_model(void **state)
{
	struct prng prng;
	struct model model;

	(void)state;
	prng_seed(&prng, test_seed(20261125));
	for (int round = 0; round < 200; round++) {
		/* half of the rounds around the wrap of sequence numbers */
		memset(&model, 0, sizeof(model));
		model.base = round % 2 ? UINT32_MAX - SPACE / 2 : (uint32_t)prng_next(&prng);
		struct bench bench = open_bench(64 << 20, model.base);
		while (model.next < SPACE - 400) {
			if (prng_below(&prng, 4) == 0)
				model_fill(&bench, &model, &prng);
			else
				model_add(&bench, &model, &prng);
			model_blocks(&bench, &model);
		}
		close_bench(&bench);
	}
}

/* -- bounds */

/* Attack row 17: one byte at a time in reverse: ranges stay bounded, the nearest are kept. */
static void test_reverse_bytes(void **state)
{
	struct bench bench = open_bench(64 << 20, 1000);
	const uint32_t count = 3 * TCP_OOO_RANGES_MAX;
	struct tcp_block block;

	(void)state;
	for (uint32_t i = count; i > 0; i--)
		add(&bench, 1000 + 2 * i, 1000 + 2 * i + 1);
	assert_int_equal(tcp_ooo_held(bench.ooo), TCP_OOO_RANGES_MAX);
	assert_int_equal(tcp_ooo_blocks(bench.ooo, &block, 1), 1);
	assert_int_equal(block.start, 1002);
	/* further ahead than all that is kept: refused */
	add(&bench, 1000 + 2 * count, 1000 + 2 * count + 1);
	assert_int_equal(tcp_ooo_held(bench.ooo), TCP_OOO_RANGES_MAX);
	close_bench(&bench);
}

/* Random segments beyond both bounds: what is kept was received, and all comes out right. */
static void test_random_bounds(void **state)
{
	struct prng prng;

	(void)state;
	prng_seed(&prng, test_seed(20261126));
	for (int round = 0; round < 20; round++) {
		uint32_t base = round % 2 ? UINT32_MAX - 2000 : (uint32_t)prng_next(&prng);
		uint32_t longest = round % 4 < 2 ? 1 : 100;
		uint32_t held_max = 1000 + (uint32_t)prng_below(&prng, 3000);
		struct bench bench = open_bench(64 << 20, base);
		for (int i = 0; i < 4000; i++) {
			uint32_t seq = base + 1 + (uint32_t)prng_below(&prng, 6000);
			uint32_t length = 1 + (uint32_t)prng_below(&prng, longest);
			struct tcp_block duplicate;
			uint8_t *object = heap_alloc(bench.heap, length);
			for (uint32_t k = 0; k < length; k++)
				object[k] = byte_at(seq + k, 0);
			const struct tcp_piece piece = {
				.data = object, .object = object, .length = length, .held = length};
			assert_int_equal(tcp_ooo_add(&bench.ooo, bench.heap, base, seq, &piece,
						     held_max, &duplicate),
					 0);
			tcp_ooo_check(bench.ooo, base);
			assert_in_range(tcp_ooo_held(bench.ooo), 1, held_max);
		}
		struct tcp_block nearest;
		uint32_t taken = 0;
		while (tcp_ooo_blocks(bench.ooo, &nearest, 1) == 1) {
			bench.rcv_nxt++;
			taken += take_all(&bench);
		}
		assert_in_range(taken, 1, held_max);
		close_bench(&bench);
	}
}

#define NODES 262144 /* more than fit the heap */
/* What a range costs: its piece, which is larger in checked builds, and its place. */
#define NODE_BYTES (sizeof(struct tcp_piece) + 24)

/* Memory for some of the ranges that a segment becomes: none is entered, and nothing leaks. */
static void test_no_memory_for_ranges(void **state)
{
	static const struct tcp_block before[] = {{4000, 4100}, {3000, 3100}, {2000, 2100}};
	static const struct tcp_block after[] = {{1900, 4200}};

	(void)state;
	for (uint32_t left = 0; left <= 4; left++) {
		static void *nodes[NODES];
		struct bench bench = open_bench(12 << 20, 1000);
		struct tcp_block duplicate;
		uint32_t n = 0;
		add(&bench, 2000, 2100);
		add(&bench, 3000, 3100);
		add(&bench, 4000, 4100);
		uint8_t *object = heap_alloc(bench.heap, 2300);
		assert_non_null(object);
		for (uint32_t i = 0; i < 2300; i++)
			object[i] = byte_at(1900 + i, 0);
		while (n < NODES && (nodes[n] = heap_alloc(bench.heap, NODE_BYTES)))
			n++;
		assert_in_range(n, 5, NODES - 1);
		for (uint32_t i = 0; i < left; i++)
			assert_int_equal(heap_free(bench.heap, nodes[--n]), 0);
		const struct tcp_piece piece = {
			.data = object, .object = object, .length = 2300, .held = 2300};
		int err = tcp_ooo_add(&bench.ooo, bench.heap, 1000, 1900, &piece, HELD_MAX,
				      &duplicate);
		tcp_ooo_check(bench.ooo, 1000);
		assert_int_equal(err, left < 4 ? -ENOMEM : 0);
		if (err)
			expect_blocks(&bench, before, 3);
		else
			expect_blocks(&bench, after, 1);
		bench.rcv_nxt = left < 4 ? 2000 : 1900;
		assert_int_equal(take_all(&bench), left < 4 ? 100 : 2300);
		while (n > 0)
			assert_int_equal(heap_free(bench.heap, nodes[--n]), 0);
		close_bench(&bench);
	}
}

static void test_held_bound(void **state)
{
	struct bench bench = open_bench(64 << 20, 0);
	struct tcp_block duplicate;

	(void)state;
	for (uint32_t i = 10; i > 0; i--) {
		uint8_t *object = heap_alloc(bench.heap, 100);
		const struct tcp_piece piece = {
			.data = object, .object = object, .length = 100, .held = 100};
		assert_int_equal(
			tcp_ooo_add(&bench.ooo, bench.heap, 0, i * 1000, &piece, 450, &duplicate),
			0);
		assert_in_range(tcp_ooo_held(bench.ooo), 0, 450);
	}
	assert_int_equal(tcp_ooo_held(bench.ooo), 400);
	close_bench(&bench);
}

static void test_nothing_fits(void **state)
{
	struct bench bench = open_bench(64 << 20, 0);
	struct tcp_block duplicate;
	uint8_t *object = heap_alloc(bench.heap, 100);
	const struct tcp_piece piece = {
		.data = object, .object = object, .length = 100, .held = 100};

	(void)state;
	assert_int_equal(tcp_ooo_add(&bench.ooo, bench.heap, 0, 10, &piece, 99, &duplicate), 0);
	assert_null(bench.ooo);
	close_bench(&bench);
}

static void *taken[65536];
static uint32_t num_taken;

/* Allocates objects of a size until there is no memory for another. */
static void take_all_of(struct bench *bench, uint64_t bytes)
{
	while ((taken[num_taken] = heap_alloc(bench->heap, bytes)))
		assert_true(++num_taken < sizeof(taken) / sizeof(taken[0]));
}

/* The heap is exhausted: the segment is given up, what is kept stays. */
static void test_no_memory(void **state)
{
	struct bench bench = open_bench(4 << 20, 0);
	struct tcp_block duplicate;

	(void)state;
	/* an object of the size that the segments need, before the rest goes */
	uint8_t *object = heap_alloc(bench.heap, 64);
	take_all_of(&bench, 262144);
	take_all_of(&bench, 16384);
	take_all_of(&bench, 400);
	const struct tcp_piece piece = {.data = object, .object = object, .length = 64, .held = 64};
	assert_int_equal(tcp_ooo_add(&bench.ooo, bench.heap, 0, 10, &piece, HELD_MAX, &duplicate),
			 -ENOMEM);
	assert_null(bench.ooo);
	assert_int_equal(heap_app_refs(bench.heap, object, &(const char *){NULL}), 0);
	while (num_taken > 0)
		assert_int_equal(heap_free(bench.heap, taken[--num_taken]), 0);
	close_bench(&bench);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_recent_first),
		cmocka_unit_test(test_blocks_join),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_duplicate_is_recent),
		cmocka_unit_test(test_first_copy_counts),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_reverse_bytes),
		cmocka_unit_test(test_held_bound),
		cmocka_unit_test(test_nothing_fits),
		cmocka_unit_test(test_random_bounds),
		cmocka_unit_test(test_no_memory_for_ranges),
		cmocka_unit_test(test_no_memory),
	};

	return test_run("tcp_ooo", tests);
}
