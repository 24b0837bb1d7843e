/* SPDX-License-Identifier: MIT
 * sched/coroutine.h - application coroutines: stacks, readiness, and the switch.
 *
 * Cooperative, one at a time.  Coroutine 0 is the thread's own stack: it alone runs poll turns,
 * while it waits.  The others are ready (their bit is set), running, or blocked.  A coroutine that
 * blocks or yields switches directly to the next ready one, and to coroutine 0 when there is none
 * or the ready ones have had about COROUTINE_RUN_SWITCHES turns since the last poll turn.
 *
 * Readiness is a bitmap of 64 coroutines a word, and a summary of a bit a word, searched
 * round-robin by count-trailing-zeros. Memory: stacks are mapped with a guard page at their low
 * end, kept when a coroutine ends and used again.
 *
 * Invariants: word, word_slots and place % 64 are those of running; ready_count == bits set; a
 * summary bit is set if and only if its word is not 0; the running coroutine's bit is clear;
 * slots[i] is NULL or has index i.
 */
#pragma once

#include "sched/wait.h"

#include "base/bits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COROUTINE_RUN_SWITCHES 256

/* What a switch keeps: what a called function must preserve.  One cache line. */
struct coroutine_context {
	void *sp;
	void *frame;
	void *saved[5]; /* rbx, r12 to r15 */
	void *resume;
} __attribute__((aligned(CACHE_LINE)));

struct coroutine {
	struct coroutine_context context;
	struct coroutine_table *table;
	uint32_t index; /* in the table; 0: the thread's own stack */
	struct waitset waits;
	void (*fn)(void *arg);
	void *arg;
	char *stack; /* lowest address, above it the guard page */
	size_t stack_bytes;
	struct coroutine *next_unused;
	void *asan_stack; /* sanitizers' and valgrind's view of the stack */
	void *tsan_fiber;
	unsigned valgrind_id;
};

struct coroutine_table {
	struct coroutine *running;
	uint64_t *word; /* of ready: the one with running's bit; for coroutine 0 an empty one */
	struct coroutine **word_slots; /* the 64 slots of that word */
	uint32_t place;  /* running's bit in it, and above 6 bits the rounds that yields may make in
			    the word */
	uint64_t *ready; /* bitmap, one word for 64 coroutines */
	struct coroutine **slots;
	uint64_t none; /* coroutine 0's word: always 0 */
	uint32_t ready_count;
	uint32_t rounds; /* times that the search may begin anew before coroutine 0 has its turn */
	uint32_t cursor; /* index that ran last */
	uint32_t summary_words; /* those in use */
	uint64_t *summary;      /* bitmap, one word for 64 words of ready */
	uint32_t live;          /* without coroutine 0 */
	uint32_t max;
	uint32_t slots_end;       /* slots from here on were never used */
	struct coroutine *unused; /* ended ones with their stacks, index kept */
	struct coroutine main;
	struct sched *sched;
	uint64_t runs; /* times that coroutine 0 let others run */
	size_t stack_bytes;
	struct coroutine *asan_from; /* who made the switch that is under way */
};

/* max: coroutines beside the thread's own.  0 or -ENOMEM. */
int coroutine_table_open(struct coroutine_table *table, struct sched *sched, uint32_t max,
			 size_t stack_bytes);
/* Drops all coroutines as they are. */
void coroutine_table_close(struct coroutine_table *table);

/* Makes a ready coroutine.  0 or -ENOMEM. */
int coroutine_go(struct coroutine_table *table, void (*fn)(void *), void *arg);

/* Called by coroutine 0: runs ready coroutines until none is ready or the rounds are used up.
 * Returns whether any ran. */
bool coroutine_run(struct coroutine_table *table);

/* Called by another: gives way to the next ready one or to coroutine 0; returns when it is its turn
 * again. */
void coroutine_block(struct coroutine_table *table);

/* Gives way to the next ready one or to coroutine 0, but stays ready; called by coroutine 0 it runs
 * one poll turn.  Returns 0. */
int coroutine_yield(struct coroutine_table *table);

/* Bits above the given one. */
static inline uint64_t coroutine_above(uint32_t bit)
{
	return ~(uint64_t)1 << bit;
}

static inline void coroutine_ready(struct coroutine *co)
{
	struct coroutine_table *table = co->table;
	uint32_t word = co->index / 64;
	uint64_t old = table->ready[word];

	table->ready[word] = old | (uint64_t)1 << (co->index % 64);
	table->summary[word / 64] |= (uint64_t)1 << (word % 64);
	table->ready_count += old != table->ready[word];
}

static inline bool coroutine_is_main(const struct coroutine *co)
{
	return co->index == 0;
}
