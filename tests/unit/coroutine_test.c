/* SPDX-License-Identifier: MIT
 * tests/unit/coroutine_test.c - sched/coroutine.c: order, fairness over words of the bitmap and
 * words of the summary, turns of coroutine 0, stacks (reuse, depth, guard page), what a switch
 * keeps, limits, every allocation failed in turn.
 */
#include "support/test.h"

#include "sched/coroutine.h"
#include "sched/switch.h"
#include "support/child.h"
#include "support/fault.h"
#include "support/rig.h"
#include "support/seed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void open_rig(struct rig *rig, uint32_t coroutines_max, uint64_t stack_bytes)
{
	const struct rig_options options = {.coroutines_max = coroutines_max,
					    .stack_bytes = stack_bytes};

	assert_int_equal(rig_open(rig, &options), 0);
}

static struct coroutine_table *table_of(struct rig *rig)
{
	return &rig->sched.coroutines;
}

static void go(struct rig *rig, void (*fn)(void *), void *arg)
{
	assert_int_equal(coroutine_go(table_of(rig), fn, arg), 0);
}

static void check_table(const struct coroutine_table *table)
{
	uint32_t ready = 0;

	assert_true(coroutine_is_main(table->running));
	for (uint32_t word = 0; word <= table->max / 64; word++) {
		ready += (uint32_t)__builtin_popcountll(table->ready[word]);
		assert_int_equal(table->summary[word / 64] >> word % 64 & 1,
				 table->ready[word] != 0);
	}
	assert_int_equal(ready, table->ready_count);
	for (uint32_t i = 0; i < table->slots_end; i++)
		assert_true(!table->slots[i] || table->slots[i]->index == i);
	assert_int_equal(table->ready[0] & 1, 0);
}

static void turn(struct rig *rig)
{
	(void)sched_turn(&rig->sched);
	check_table(table_of(rig));
}

static void until_all_ended(struct rig *rig)
{
	while (table_of(rig)->live > 0)
		turn(rig);
}

/* -- order */

struct trace {
	struct rig *rig;
	char text[64];
	size_t length;
};

struct letter {
	struct trace *trace;
	char letter;
	int yields;
};

static void write_letter(void *arg)
{
	struct letter *letter = arg;

	for (int i = 0; i <= letter->yields; i++) {
		letter->trace->text[letter->trace->length++] = letter->letter;
		if (i < letter->yields)
			(void)coroutine_yield(table_of(letter->trace->rig));
	}
}

static void test_order(void **state)
{
	static struct rig rig;
	struct trace trace = {.rig = &rig};
	struct letter letters[] = {
		{&trace, 'a', 2}, {&trace, 'b', 0}, {&trace, 'c', 1}, {&trace, 'd', 3}};

	(void)state;
	open_rig(&rig, 64, 0);
	for (size_t i = 0; i < ARRAY_LENGTH(letters); i++)
		go(&rig, write_letter, &letters[i]);
	assert_string_equal(trace.text, ""); /* not before a wait or yield */
	until_all_ended(&rig);
	assert_string_equal(trace.text, "abcdacdadd");
	rig_close(&rig);
}

struct parent {
	struct trace *trace;
	struct letter child;
	int err;
};

static void make_child(void *arg)
{
	struct parent *parent = arg;

	parent->err = coroutine_go(table_of(parent->trace->rig), write_letter, &parent->child);
	parent->trace->text[parent->trace->length++] = 'P';
	(void)coroutine_yield(table_of(parent->trace->rig));
	parent->trace->text[parent->trace->length++] = 'P';
}

static void test_go_inside(void **state)
{
	static struct rig rig;
	struct trace trace = {.rig = &rig};
	struct parent parent = {.trace = &trace, .child = {&trace, 'c', 1}, .err = -1};

	(void)state;
	open_rig(&rig, 64, 0);
	go(&rig, make_child, &parent);
	until_all_ended(&rig);
	assert_int_equal(parent.err, 0);
	assert_string_equal(trace.text, "PcPc");
	rig_close(&rig);
}

/* -- fairness */

struct runner {
	struct rig *rig;
	uint64_t turns;
	bool near; /* demi_yield's way */
	bool *stop;
};

static void run_on(void *arg)
{
	struct runner *runner = arg;
	struct coroutine_table *table = table_of(runner->rig);

	while (!*runner->stop) {
		runner->turns++;
		if (runner->near)
			(void)coroutine_yield_near(table);
		else
			(void)coroutine_yield(table);
	}
}

/* After any poll turn, nobody is more than one turn ahead of another. */
static void expect_equal_turns(const struct runner *runners, uint32_t count)
{
	uint64_t least = UINT64_MAX;
	uint64_t most = 0;

	for (uint32_t i = 0; i < count; i++) {
		least = runners[i].turns < least ? runners[i].turns : least;
		most = runners[i].turns > most ? runners[i].turns : most;
	}
	if (most - least > 1)
		fail_msg("%u coroutines: %llu to %llu turns", count, (unsigned long long)least,
			 (unsigned long long)most);
}

static void fairness(uint32_t count, bool near)
{
	struct runner *runners = calloc(count, sizeof(*runners));
	static struct rig rig;
	bool stop = false;

	assert_non_null(runners);
	open_rig(&rig, count < 64 ? 64 : count, 16384);
	for (uint32_t i = 0; i < count; i++) {
		runners[i] = (struct runner){.rig = &rig, .near = near, .stop = &stop};
		go(&rig, run_on, &runners[i]);
	}
	for (int i = 0; i < 50; i++) {
		turn(&rig);
		expect_equal_turns(runners, count);
	}
	assert_true(runners[0].turns > 3);
	stop = true;
	until_all_ended(&rig);
	rig_close(&rig);
	free(runners);
}

static void test_fairness(void **state)
{
	static const uint32_t counts[] = {1,   2,   3,   62,   63,   64,   65,     127,
					  128, 129, 300, 4095, 4096, 4097, 70 * 64};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(counts); i++) {
		fairness(counts[i], false);
		fairness(counts[i], true);
	}
}

/* However many yield for ever, coroutine 0 gets its turn: poll turns, input, timers. */
static void test_main_is_not_starved(void **state)
{
	static const uint32_t counts[] = {1, 2, 10, 63, 64, 300};
	static struct rig rig;
	static struct runner runners[300];

	(void)state;
	for (size_t c = 0; c < ARRAY_LENGTH(counts); c++) {
		for (int near = 0; near < 2; near++) {
			bool stop = false;
			uint64_t sum = 0;
			open_rig(&rig, 300, 16384);
			for (uint32_t i = 0; i < counts[c]; i++) {
				runners[i] =
					(struct runner){.rig = &rig, .near = near, .stop = &stop};
				go(&rig, run_on, &runners[i]);
			}
			for (int i = 0; i < 20; i++)
				turn(&rig);
			for (uint32_t i = 0; i < counts[c]; i++)
				sum += runners[i].turns;
			if (sum > (uint64_t)20 * 4 * (COROUTINE_RUN_SWITCHES + counts[c]))
				fail_msg("%u coroutines, near %d: %llu turns in 20 poll turns",
					 counts[c], near, (unsigned long long)sum);
			stop = true;
			until_all_ended(&rig);
			rig_close(&rig);
		}
	}
}

/* -- blocking and waking, at random */

struct actor {
	struct crowd *crowd;
	struct coroutine *self;
	uint32_t steps;
	bool blocked;
	bool slept_enough;
};

struct crowd {
	struct rig rig;
	struct prng prng;
	struct actor actors[1000];
	uint32_t num_actors;
	uint32_t ended;
	bool early; /* a sleep ended before its time */
};

static void wake_somebody(struct crowd *crowd)
{
	struct actor *actor = &crowd->actors[prng_below(&crowd->prng, crowd->num_actors)];

	if (actor->blocked) {
		coroutine_ready(actor->self);
		coroutine_ready(actor->self); /* twice is once */
	}
}

static void act(void *arg)
{
	struct actor *actor = arg;
	struct crowd *crowd = actor->crowd;
	struct coroutine_table *table = table_of(&crowd->rig);

	actor->self = table->running;
	for (; actor->steps > 0; actor->steps--) {
		switch (prng_below(&crowd->prng, 5)) {
		case 0:
			actor->blocked = true;
			coroutine_block(table);
			actor->blocked = false;
			break;
		case 1: {
			uint64_t until = crowd->rig.now_ns + prng_below(&crowd->prng, 50000);
			sched_sleep(&crowd->rig.sched, until);
			crowd->early |= crowd->rig.now_ns < until;
			break;
		}
		case 2:
			wake_somebody(crowd);
			(void)coroutine_yield_near(table);
			break;
		case 3:
			wake_somebody(crowd);
			break;
		default:
			(void)coroutine_yield(table);
		}
	}
	crowd->ended++;
}

static uint32_t wake_in_turn(struct rig *rig, void *arg)
{
	struct crowd *crowd = arg;

	(void)rig;
	wake_somebody(crowd);
	return 1;
}

static void test_crowd(void **state)
{
	static const uint32_t sizes[] = {3, 60, 64, 65, 200, 1000};
	static struct crowd crowd;
	uint64_t seed = test_seed(31);

	(void)state;
	for (size_t s = 0; s < ARRAY_LENGTH(sizes); s++) {
		memset(&crowd, 0, sizeof(crowd));
		open_rig(&crowd.rig, 1000, 16384);
		crowd.num_actors = sizes[s];
		prng_seed(&crowd.prng, seed + s);
		crowd.rig.input = wake_in_turn;
		crowd.rig.arg = &crowd;
		for (uint32_t i = 0; i < sizes[s]; i++) {
			crowd.actors[i] = (struct actor){
				.crowd = &crowd, .steps = (uint32_t)prng_below(&crowd.prng, 60)};
			go(&crowd.rig, act, &crowd.actors[i]);
			if (prng_below(&crowd.prng, 4) == 0)
				turn(&crowd.rig);
		}
		until_all_ended(&crowd.rig);
		assert_int_equal(crowd.ended, sizes[s]);
		assert_false(crowd.early);
		assert_int_equal(crowd.rig.sched.timers.armed, 0);
		rig_close(&crowd.rig);
	}
}

/* -- stacks */

struct many {
	struct rig *rig;
	uint32_t began;
	uint32_t ended;
};

static void come_and_go(void *arg)
{
	struct many *many = arg;

	many->began++;
	for (int i = 0; i < 3; i++)
		(void)coroutine_yield_near(table_of(many->rig));
	many->ended++;
}

static void test_many(void **state)
{
	enum { COUNT = 10000 };

	static struct rig rig;
	struct many many = {.rig = &rig};

	(void)state;
	struct fault_live before = fault_live();
	open_rig(&rig, COUNT, 16384);
	for (int round = 0; round < 3; round++) {
		many.began = many.ended = 0;
		for (int i = 0; i < COUNT; i++)
			go(&rig, come_and_go, &many);
		assert_int_equal(table_of(&rig)->live, COUNT);
		assert_int_equal(coroutine_go(table_of(&rig), come_and_go, &many), -ENOMEM);
		until_all_ended(&rig);
		assert_int_equal(many.began, COUNT);
		assert_int_equal(many.ended, COUNT);
		assert_int_equal(table_of(&rig)->slots_end, COUNT + 1); /* stacks serve again */
	}
	rig_close(&rig);
	struct fault_live after = fault_live();
	assert_int_equal(after.mapped_bytes, before.mapped_bytes);
}

/* One after the other: one stack is enough. */
static void test_stack_reuse(void **state)
{
	static struct rig rig;
	struct many many = {.rig = &rig};

	(void)state;
	open_rig(&rig, 64, 0);
	go(&rig, come_and_go, &many);
	until_all_ended(&rig);
	struct fault_live before = fault_live();
	uint64_t calls = fault_calls();
	for (int i = 0; i < 1000; i++) {
		go(&rig, come_and_go, &many);
		until_all_ended(&rig);
	}
	assert_int_equal(many.ended, 1001);
	assert_int_equal(table_of(&rig)->slots_end, 2);
	assert_int_equal(fault_live().mapped_bytes, before.mapped_bytes);
	assert_int_equal(fault_calls(), calls);
	rig_close(&rig);
}

/* Dropped as they are: some blocked in waits, timers armed, never begun. */
static void test_close_with_live(void **state)
{
	static struct crowd crowd;

	(void)state;
	struct fault_live before = fault_live();
	memset(&crowd, 0, sizeof(crowd));
	open_rig(&crowd.rig, 100, 16384);
	crowd.num_actors = 100;
	prng_seed(&crowd.prng, 4);
	for (uint32_t i = 0; i < 100; i++) {
		crowd.actors[i] = (struct actor){.crowd = &crowd, .steps = 1000};
		go(&crowd.rig, act, &crowd.actors[i]);
		if (i == 90) {
			turn(&crowd.rig);
			turn(&crowd.rig);
		}
	}
	assert_int_equal(table_of(&crowd.rig)->live, 100);
	rig_close(&crowd.rig);
	struct fault_live after = fault_live();
	assert_int_equal(after.mapped_bytes, before.mapped_bytes);
	assert_true(after.blocks <= before.blocks + 1); /* struct heap, when it is the first */
}

struct deep {
	struct rig *rig;
	size_t bytes;
	uint64_t sum;
};

/* Uses about bytes of stack, yielding on the way down. */
static __attribute__((noinline)) uint64_t
dig(struct deep *deep, size_t bytes) /* NOLINT(misc-no-recursion): to use the stack */
{
	volatile char block[1024];

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)(bytes + i);
	if (bytes / 4096 != (bytes + 1024) / 4096)
		(void)coroutine_yield(table_of(deep->rig));
	uint64_t sum = bytes > 1400 ? dig(deep, bytes - 1400) : 0;
	for (size_t i = 0; i < sizeof(block); i++)
		sum += block[i] != (char)(bytes + i);
	return sum;
}

static void dig_deep(void *arg)
{
	struct deep *deep = arg;

	deep->sum = dig(deep, deep->bytes) + 1;
}

/* All but a few KiB can be used, by two that alternate. */
static void test_deep(void **state)
{
	static const size_t stacks[] = {65536, 1048576};
	static struct rig rig;

	(void)state;
#if defined(GUARD_ASAN) || defined(__SANITIZE_THREAD__)
	const size_t share = 3; /* frames are larger */
#else
	const size_t share = 1;
#endif
	for (size_t i = 0; i < ARRAY_LENGTH(stacks); i++) {
		struct deep one = {.rig = &rig, .bytes = (stacks[i] - 12288) / share};
		struct deep two = one;
		open_rig(&rig, 64, stacks[i]);
		go(&rig, dig_deep, &one);
		go(&rig, dig_deep, &two);
		until_all_ended(&rig);
		assert_int_equal(one.sum, 1);
		assert_int_equal(two.sum, 1);
		rig_close(&rig);
	}
}

static void dig_through(void *arg)
{
	static struct rig rig;
	struct deep deep = {.rig = &rig, .bytes = 1 << 20};

	(void)arg;
	test_expect(rig_open(&rig, &(struct rig_options){.stack_bytes = 65536}) == 0);
	test_expect(coroutine_go(table_of(&rig), dig_deep, &deep) == 0);
	while (table_of(&rig)->live > 0)
		(void)sched_turn(&rig.sched);
}

/* A stack that is too small ends the program; it never runs into another's. */
static void test_guard(void **state)
{
	(void)state;
	assert_true(test_died(test_child(dig_through, NULL)));
}

/* -- what a switch keeps */

struct keeper {
	struct rig *rig;
	uint64_t seed;
	bool near;
	uint32_t wrong;
};

static void pause_here(const struct keeper *keeper)
{
	if (keeper->near)
		(void)coroutine_yield_near(table_of(keeper->rig));
	else
		(void)coroutine_yield(table_of(keeper->rig));
}

/* More floating point values than there are registers, alive over each switch. */
static void keep_doubles(void *arg)
{
	struct keeper *keeper = arg;
	double v[24];

	for (int i = 0; i < 24; i++)
		v[i] = (double)keeper->seed + i * 0.25;
	for (int round = 1; round <= 50; round++) {
		for (int i = 0; i < 24; i++)
			v[i] = v[i] * 1.5 - 3.0;
		pause_here(keeper);
		for (int i = 0; i < 24; i++)
			v[i] = (v[i] + 3.0) / 1.5;
	}
	for (int i = 0; i < 24; i++) {
		double off = v[i] - ((double)keeper->seed + i * 0.25);
		keeper->wrong += off > 1e-9 || off < -1e-9;
	}
}

#if defined(__x86_64__)
/* The registers that a called function must preserve. */
static void keep_registers(void *arg)
{
	struct keeper *keeper = arg;

	for (uint64_t round = 1; round <= 50; round++) {
		register uint64_t b __asm__("rbx") = keeper->seed * round;
		register uint64_t c __asm__("r12") = keeper->seed * round + 1;
		register uint64_t d __asm__("r13") = keeper->seed * round + 2;
		register uint64_t e __asm__("r14") = keeper->seed * round + 3;
		register uint64_t f __asm__("r15") = keeper->seed * round + 4;
		__asm__ volatile("" : "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
		pause_here(keeper);
		__asm__ volatile("" : "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
		keeper->wrong += b != keeper->seed * round;
		keeper->wrong += c != keeper->seed * round + 1;
		keeper->wrong += d != keeper->seed * round + 2;
		keeper->wrong += e != keeper->seed * round + 3;
		keeper->wrong += f != keeper->seed * round + 4;
	}
}
#endif

/* The stack is aligned as the ABI says: calls that use aligned vector stores on it work. */
static void keep_alignment(void *arg)
{
	struct keeper *keeper = arg;
	_Alignas(16) volatile char aligned[16];

	aligned[0] = 1;
	keeper->wrong += (uintptr_t)aligned % 16 != 0;
	keeper->wrong += (uintptr_t)__builtin_frame_address(0) % 16 != 0;
	char text[64];
	(void)snprintf(text, sizeof(text), "%f %Lf", 1.5, (long double)2.5);
	keeper->wrong += strcmp(text, "1.500000 2.500000") != 0;
}

static void test_switch_keeps(void **state)
{
	static void (*const keepers[])(void *) = {
		keep_doubles,
#if defined(__x86_64__)
		keep_registers,
#endif
		keep_alignment,
	};
	static struct rig rig;

	(void)state;
	for (size_t k = 0; k < ARRAY_LENGTH(keepers); k++) {
		struct keeper each[20];
		open_rig(&rig, 64, 0);
		for (uint32_t i = 0; i < 20; i++) {
			each[i] = (struct keeper){
				.rig = &rig, .seed = i * 1000003 + 7, .near = i % 2};
			go(&rig, keepers[k], &each[i]);
		}
		until_all_ended(&rig);
		for (int i = 0; i < 20; i++)
			assert_int_equal(each[i].wrong, 0);
		rig_close(&rig);
	}
}

/* -- limits and failures */

static void test_limit(void **state)
{
	static struct rig rig;
	struct many many = {.rig = &rig};

	(void)state;
	for (uint32_t max = 64; max < 70; max++) {
		open_rig(&rig, max, 16384);
		for (uint32_t i = 0; i < max; i++)
			go(&rig, come_and_go, &many);
		assert_int_equal(coroutine_go(table_of(&rig), come_and_go, &many), -ENOMEM);
		assert_int_equal(table_of(&rig)->live, max);
		until_all_ended(&rig);
		go(&rig, come_and_go, &many);
		until_all_ended(&rig);
		rig_close(&rig);
	}
	assert_int_equal(many.began, many.ended);
}

static void test_go_fails(void **state)
{
	static struct rig rig;
	struct many many = {.rig = &rig};
	bool failed = true;
	uint64_t nth;

	(void)state;
	open_rig(&rig, 64, 0);
	for (nth = 1; failed; nth++) {
		struct fault_live before = fault_live();
		fault_fail(nth);
		int err = coroutine_go(table_of(&rig), come_and_go, &many);
		failed = fault_off();
		assert_int_equal(err, failed ? -ENOMEM : 0);
		check_table(table_of(&rig));
		if (!failed)
			break;
		struct fault_live after = fault_live();
		assert_memory_equal(&before, &after, sizeof(before));
		assert_int_equal(table_of(&rig)->live, 0);
	}
	assert_true(nth > 3); /* the coroutine, its stack, the guard */
	until_all_ended(&rig);
	assert_int_equal(many.ended, 1);
	rig_close(&rig);
}

static void test_open_fails(void **state)
{
	static struct coroutine_table table;
	static struct sched sched;
	bool failed = true;

	(void)state;
	for (uint64_t nth = 1; failed; nth++) {
		struct fault_live before = fault_live();
		fault_fail(nth);
		int err = coroutine_table_open(&table, &sched, 1000, 65536);
		failed = fault_off();
		assert_int_equal(err, failed ? -ENOMEM : 0);
		if (!err)
			coroutine_table_close(&table);
		struct fault_live after = fault_live();
		assert_memory_equal(&before, &after, sizeof(before));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),        cmocka_unit_test(test_go_inside),
		cmocka_unit_test(test_fairness),     cmocka_unit_test(test_main_is_not_starved),
		cmocka_unit_test(test_crowd),        cmocka_unit_test(test_many),
		cmocka_unit_test(test_stack_reuse),  cmocka_unit_test(test_close_with_live),
		cmocka_unit_test(test_deep),         cmocka_unit_test(test_guard),
		cmocka_unit_test(test_switch_keeps), cmocka_unit_test(test_limit),
		cmocka_unit_test(test_go_fails),     cmocka_unit_test(test_open_fails),
	};

	return test_run("coroutine", tests);
}
