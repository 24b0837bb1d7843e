/* SPDX-License-Identifier: MIT
 * sched/switch.h - the stack switch, and the way from one coroutine that yields to the next.
 *
 * In a header of its own because demi_yield inlines it: a call more would cost a third of the
 * switch.
 */
#pragma once

#include "base/bits.h"
#include "sched/coroutine.h"
#include "sched/fiber.h"

/* Keeps the caller in *from and goes on in *to; returns 0 when somebody switches back.  Defined in
 * coroutine.c. */
int context_switch(struct coroutine_context *from, struct coroutine_context *to);

/* Switches to a coroutine of the same word of the bitmap. */
static inline __attribute__((always_inline)) int
coroutine_switch_near(struct coroutine_table *table, struct coroutine *to, uint32_t place)
{
	struct coroutine *from = table->running;

	table->running = to;
	table->place = place;
	fiber_leave(from, to, false);
	int zero = context_switch(&from->context,
				  &to->context); /* a tail call, but in sanitized builds */
	fiber_arrive(from, false);
	return zero;
}

/* coroutine_yield with its common case in line: the next ready coroutine is in the same word of the
 * bitmap.  Returns 0. For coroutine 0, whose word is empty, it runs one poll turn. What decides the
 * speed is the chain of loads and stores from one switch to the next: the word and the bit. */
static inline __attribute__((always_inline)) int coroutine_yield_near(struct coroutine_table *table)
{
	uint32_t place = table->place;
	uint64_t ready = *table->word;
	uint64_t bits = ready & coroutine_above(place % 64);

	if (!bits) {
		if (!ready || place < 64)
			return coroutine_yield(table);
		place -= 64;
		bits = ready;
	}
	/* ready_count and the summary stay as they are: one bit goes, one comes, in the same word.
	 */
	uint32_t bit = bits_lowest(bits);
	*table->word = (ready ^ (uint64_t)1 << bit) | (uint64_t)1 << place % 64;
	return coroutine_switch_near(table, table->word_slots[bit], (place & ~63U) | bit);
}
