/* SPDX-License-Identifier: MIT */
#include "sched/timer.h"

#include "base/assert.h"
#include "base/bits.h"

#define SLOT_BITS 6
#define TICKS_MAX (((uint64_t)1 << (SLOT_BITS * TIMER_LEVELS)) - 1)

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns)
{
	*wheel = (struct timer_wheel){.tick = now_ns >> TIMER_TICK_SHIFT, .next_tick = TIMER_NEVER};
	for (int level = 0; level < TIMER_LEVELS; level++) {
		for (int slot = 0; slot < TIMER_SLOTS; slot++)
			list_init(&wheel->slots[level][slot]);
	}
}

void timer_init(struct timer *timer, void (*fn)(struct timer *timer))
{
	*timer = (struct timer){.fn = fn};
	list_init(&timer->node);
}

/* Files a timer whose deadline_tick is after wheel->tick. */
static void file(struct timer_wheel *wheel, struct timer *timer)
{
	ASSERT(timer->deadline_tick > wheel->tick);
	uint32_t level = bits_highest(timer->deadline_tick ^ wheel->tick) / SLOT_BITS;
	uint64_t begins = timer->deadline_tick >> (level * SLOT_BITS) << (level * SLOT_BITS);
	timer->slot = (uint16_t)((timer->deadline_tick >> (level * SLOT_BITS)) % TIMER_SLOTS);
	timer->level = (uint16_t)level;
	list_append(&wheel->slots[level][timer->slot], &timer->node);
	wheel->occupied[level] |= (uint64_t)1 << timer->slot;
	if (begins < wheel->next_tick)
		wheel->next_tick = begins;
}

static void unfile(struct timer_wheel *wheel, struct timer *timer)
{
	struct list *slot = &wheel->slots[timer->level][timer->slot];

	list_remove(&timer->node);
	if (list_empty(slot))
		wheel->occupied[timer->level] &= ~((uint64_t)1 << timer->slot);
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ns)
{
	uint64_t tick = (deadline_ns >> TIMER_TICK_SHIFT) +
			((deadline_ns & ((1U << TIMER_TICK_SHIFT) - 1)) != 0);

	timer_cancel(wheel, timer);
	if (tick <= wheel->tick)
		tick = wheel->tick + 1;
	if (tick > TICKS_MAX)
		tick = TICKS_MAX;
	timer->deadline_tick = tick;
	file(wheel, timer);
	wheel->armed++;
}

void timer_cancel(struct timer_wheel *wheel, struct timer *timer)
{
	if (!timer_armed(timer))
		return;
	unfile(wheel, timer);
	wheel->armed--;
}

/* The next tick at which a slot must be looked at, at most limit. */
static uint64_t next_tick(const struct timer_wheel *wheel, uint64_t limit)
{
	uint64_t best = limit;

	for (uint32_t level = 0; level < TIMER_LEVELS; level++) {
		uint32_t shift = level * SLOT_BITS;
		uint32_t here = (uint32_t)((wheel->tick >> shift) % TIMER_SLOTS);
		uint64_t later = wheel->occupied[level] & ~(((uint64_t)2 << here) - 1);
		if (here == TIMER_SLOTS - 1)
			later = 0;
		if (!later)
			continue;
		uint64_t group = wheel->tick >> shift >> SLOT_BITS << SLOT_BITS;
		uint64_t tick = (group | bits_lowest(later)) << shift;
		if (tick < best)
			best = tick;
	}
	return best;
}

/* Fires or moves down what waits in the slots that begin at the new tick. */
static uint32_t expire(struct timer_wheel *wheel)
{
	struct list due;
	uint32_t fired = 0;

	list_init(&due);
	for (uint32_t level = TIMER_LEVELS; level-- > 0;) {
		uint32_t here = (uint32_t)((wheel->tick >> (level * SLOT_BITS)) % TIMER_SLOTS);
		struct list *slot = &wheel->slots[level][here];
		while (!list_empty(slot)) {
			struct timer *timer = container_of(slot->next, struct timer, node);
			unfile(wheel, timer);
			if (timer->deadline_tick > wheel->tick)
				file(wheel, timer);
			else
				list_append(&due, &timer->node);
		}
	}
	while (!list_empty(&due)) {
		struct timer *timer = container_of(due.next, struct timer, node);
		list_remove(&timer->node);
		wheel->armed--;
		timer->fn(timer);
		fired++;
	}
	return fired;
}

uint32_t timer_advance_slow(struct timer_wheel *wheel, uint64_t tick)
{
	uint32_t fired = 0;

	while (wheel->tick < tick) {
		if (wheel->armed == 0) {
			wheel->tick = tick;
			break;
		}
		wheel->tick = next_tick(wheel, tick);
		fired += expire(wheel);
	}
	wheel->next_tick = wheel->armed == 0 ? TIMER_NEVER : next_tick(wheel, TICKS_MAX);
	return fired;
}

uint64_t timer_next_ns(const struct timer_wheel *wheel)
{
	if (wheel->armed == 0)
		return TIMER_NEVER;
	return next_tick(wheel, TICKS_MAX) << TIMER_TICK_SHIFT;
}
