/* SPDX-License-Identifier: MIT
 * tests/unit/pages_test.c - mem/pages.c: the reserved range, runs of superblocks against a model,
 * exhaustion, memory that is gone, failing system calls.
 */
#include "support/test.h"

#include "base/prng.h"
#include "mem/pages.h"
#include "support/child.h"
#include "support/fault.h"
#include "support/seed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Never looked into by pages.c. */
static struct superblock *tag(uintptr_t number)
{
	return (struct superblock *)((number + 1) * 64);
}

static uint64_t slots(void)
{
	return pages_process.range.bytes >> SUPERBLOCK_SHIFT;
}

static void test_reserve(void **state)
{
	(void)state;
	assert_null(pages_find(&slots));
	assert_null(pages_find(NULL));
	assert_int_equal(pages_reserve(), 0);
	struct pages_range range = pages_process.range;
	assert_int_equal(range.base % SUPERBLOCK_BYTES, 0);
	assert_true(range.bytes >= (uint64_t)256 << 20);
	assert_int_equal(pages_reserve(), 0);
	assert_memory_equal(&range, &pages_process.range, sizeof(range));
	assert_null(pages_find(&slots));
	assert_null(pages_find(NULL));
	assert_null(pages_find((void *)range.base));
	assert_null(pages_find((void *)(range.base + range.bytes - 1)));
}

static void test_get_put(void **state)
{
	static const uint32_t counts[] = {1, 2, 3, 17, 100};
	char *at;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(counts); i++) {
		uint64_t bytes = counts[i] * SUPERBLOCK_BYTES;
		assert_int_equal(pages_get(counts[i], PAGES_HUGE_AUTO, tag(i), &at), 0);
		assert_int_equal((uintptr_t)at % SUPERBLOCK_BYTES, 0);
		for (uint64_t offset = 0; offset < bytes; offset += SUPERBLOCK_BYTES) {
			assert_ptr_equal(pages_find(at + offset), tag(i));
			assert_ptr_equal(pages_find(at + offset + SUPERBLOCK_BYTES - 1), tag(i));
			assert_int_equal(at[offset], 0);
			memset(at + offset, 1, 4096);
		}
		assert_null(pages_find(at + bytes));
		pages_put(at, counts[i]);
		for (uint64_t offset = 0; offset < bytes; offset += SUPERBLOCK_BYTES)
			assert_null(pages_find(at + offset));
	}
	/* Used before, and zeros again. */
	assert_int_equal(pages_get(1, PAGES_HUGE_NEVER, tag(0), &at), 0);
	assert_int_equal(at[0], 0);
	pages_put(at, 1);
}

static void touch_gone(void *arg)
{
	volatile char *at = arg;

	*at = 1;
}

static void test_gone(void **state)
{
	char *at;

	(void)state;
	assert_int_equal(pages_get(1, PAGES_HUGE_NEVER, tag(0), &at), 0);
	assert_int_equal(test_child(touch_gone, at), 0);
	pages_put(at, 1);
	assert_true(test_died(test_child(touch_gone, at)));
}

#define RUNS 64

struct run {
	char *at;
	uint32_t count;
};

static void check_run(const struct run *run, size_t number)
{
	for (uint32_t i = 0; i < run->count; i++) {
		const char *unit = run->at + i * SUPERBLOCK_BYTES;
		assert_ptr_equal(pages_find(unit), tag(number));
		assert_int_equal(unit[8], (char)(number + i));
	}
}

static void test_model(void **state)
{
	static struct run runs[RUNS];
	struct prng prng;

	(void)state;
	prng_seed(&prng, test_seed(11));
	for (int step = 0; step < 3000; step++) {
		size_t number = prng_below(&prng, RUNS);
		struct run *run = &runs[number];
		if (run->at) {
			check_run(run, number);
			pages_put(run->at, run->count);
			assert_null(pages_find(run->at));
			run->at = NULL;
			continue;
		}
		run->count = 1 + (uint32_t)prng_below(&prng, prng_below(&prng, 8) ? 4 : 60);
		assert_int_equal(pages_get(run->count, PAGES_HUGE_NEVER, tag(number), &run->at), 0);
		for (uint32_t i = 0; i < run->count; i++) {
			assert_int_equal(run->at[i * SUPERBLOCK_BYTES + 8], 0);
			run->at[i * SUPERBLOCK_BYTES + 8] = (char)(number + i);
		}
	}
	for (size_t number = 0; number < RUNS; number++) {
		if (!runs[number].at)
			continue;
		check_run(&runs[number], number);
		pages_put(runs[number].at, runs[number].count);
	}
}

static void test_too_many(void **state)
{
	static const uint64_t beyond[] = {1, 2, 1000000};
	char *at = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(beyond); i++)
		assert_int_equal(
			pages_get((uint32_t)(slots() + beyond[i]), PAGES_HUGE_NEVER, tag(0), &at),
			-ENOMEM);
	assert_int_equal(pages_get(UINT32_MAX, PAGES_HUGE_NEVER, tag(0), &at), -ENOMEM);
	assert_null(at);
}

/* 2 MiB pages are there, or the answer is -ENOMEM and nothing was taken. */
static void test_huge_always(void **state)
{
	char *plain;
	char *huge;

	(void)state;
	int err = pages_get(2, PAGES_HUGE_ALWAYS, tag(1), &huge);
	if (!err) {
		huge[0] = 1;
		pages_put(huge, 2);
		return;
	}
	assert_int_equal(err, -ENOMEM);
	assert_int_equal(pages_get(2, PAGES_HUGE_AUTO, tag(2), &plain), 0);
	plain[0] = 1;
	assert_ptr_equal(pages_find(plain), tag(2));
	pages_put(plain, 2);
}

static void test_commit_fails(void **state)
{
	char *at = NULL;
	char *before;

	(void)state;
	assert_int_equal(pages_get(1, PAGES_HUGE_NEVER, tag(0), &before), 0);
	pages_put(before, 1);
	fault_fail_from(1);
	assert_int_equal(pages_get(1, PAGES_HUGE_NEVER, tag(1), &at), -ENOMEM);
	assert_int_equal(pages_get(1, PAGES_HUGE_AUTO, tag(1), &at), -ENOMEM);
	assert_int_equal(pages_get(1, PAGES_HUGE_ALWAYS, tag(1), &at), -ENOMEM);
	assert_true(fault_off());
	assert_null(at);
	assert_null(pages_find(before));
	assert_int_equal(pages_get(1, PAGES_HUGE_NEVER, tag(1), &at), 0);
	assert_ptr_equal(at, before); /* the slot was not lost */
	pages_put(at, 1);
}

/* -- in a child, whose range is not there yet */

/* An address space with little room: each refusal halves the range, to 256 MiB. */
static void exhaust(void *arg)
{
	char *at[128];

	(void)arg;
	fault_fail_times(3, 8);
	test_expect(pages_reserve() == 0);
	test_expect(fault_off());
	test_expect(slots() == ARRAY_LENGTH(at));
	for (size_t i = 0; i < ARRAY_LENGTH(at); i++)
		test_expect(pages_get(1, PAGES_HUGE_NEVER, tag(i), &at[i]) == 0 &&
			    pages_find(at[i]) == tag(i));
	char *more;
	test_expect(pages_get(1, PAGES_HUGE_NEVER, tag(0), &more) == -ENOMEM);
	for (size_t i = 0; i < ARRAY_LENGTH(at); i += 2)
		pages_put(at[i], 1);
	test_expect(pages_get(2, PAGES_HUGE_NEVER, tag(0), &more) == -ENOMEM); /* holes of one */
	for (size_t i = 0; i < ARRAY_LENGTH(at); i += 2)
		test_expect(pages_get(1, PAGES_HUGE_NEVER, tag(i), &at[i]) == 0);
	pages_put(at[70], 1);
	pages_put(at[71], 1);
	test_expect(pages_get(2, PAGES_HUGE_NEVER, tag(0), &more) == 0 &&
		    pages_find(at[40]) == tag(40));
	pages_put(more, 2);
	for (size_t i = 0; i < ARRAY_LENGTH(at); i++) {
		if (i != 70 && i != 71)
			pages_put(at[i], 1);
	}
	test_expect(pages_get(128, PAGES_HUGE_NEVER, tag(9), &more) == 0);
	test_expect((uintptr_t)more == pages_process.range.base);
}

static void test_exhaust(void **state)
{
	(void)state;
	assert_int_equal(test_child(exhaust, NULL), 0);
}

static void reserve_fails(void *arg)
{
	(void)arg;
	/* 1, 2: madvise; 3 to 11: the range, by halves; 12 in vain */
	for (uint64_t nth = 1; nth <= 3; nth++) {
		fault_fail_from(nth);
		test_expect(pages_reserve() == -ENOMEM);
		test_expect(fault_off());
		test_expect(pages_process.range.bytes == 0);
	}
	/* The table. */
	int64_t mapped = fault_live().mapped_bytes;
	fault_fail(4);
	test_expect(pages_reserve() == -ENOMEM);
	test_expect(fault_off());
	test_expect(fault_live().mapped_bytes == mapped);
	test_expect(pages_process.range.bytes == 0);
	test_expect(pages_reserve() == 0);
}

static void test_reserve_fails(void **state)
{
	(void)state;
	assert_int_equal(test_child(reserve_fails, NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserve_fails),
		cmocka_unit_test(test_exhaust),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_get_put),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_huge_always),
		cmocka_unit_test(test_commit_fails),
		/* again, now that the parent has a range */
		cmocka_unit_test(test_reserve_fails),
		cmocka_unit_test(test_exhaust),
	};

	return test_run("pages", tests);
}
