/* SPDX-License-Identifier: MIT
 * sched/timer.h - timers: a hierarchical wheel.
 *
 * Arming and cancelling cost O(1).  TIMER_LEVELS levels of 64 slots; a tick is 1024 ns; a timer
 * whose deadline differs from the wheel's time first in bit group l (6 bits a level) waits in level
 * l and moves down as time passes.  A timer fires at the first tick that is not before its
 * deadline: never early, at most one tick plus the time between two turns late. Timers belong to
 * whoever embeds them; fn may arm, cancel or free any timer, itself too.
 *
 * Invariants: bit s of occupied[l] is set if and only if slot s of level l holds a timer; no slot
 * that holds one begins before next_tick.
 */
#pragma once

#include "base/bits.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

#define TIMER_TICK_SHIFT 10
#define TIMER_LEVELS \
	8 /* 48 bits of ticks: nine years of CLOCK_MONOTONIC; later deadlines count as that */
#define TIMER_SLOTS 64
#define TIMER_NEVER UINT64_MAX

struct timer {
	struct list node;
	uint64_t deadline_tick;
	void (*fn)(struct timer *timer);
	uint16_t level; /* where it waits: meaningful while it is armed */
	uint16_t slot;
};

struct timer_wheel {
	uint64_t tick;      /* everything due at or before it has fired */
	uint64_t next_tick; /* before it there is nothing to do */
	uint64_t occupied[TIMER_LEVELS];
	struct list slots[TIMER_LEVELS][TIMER_SLOTS];
	uint64_t armed;
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns);
void timer_init(struct timer *timer, void (*fn)(struct timer *timer));

/* (Re)arms for deadline_ns, which may be past: then it fires in the next advance. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ns);
void timer_cancel(struct timer_wheel *wheel, struct timer *timer);

static inline bool timer_armed(const struct timer *timer)
{
	return !list_empty(&timer->node);
}

uint32_t timer_advance_slow(struct timer_wheel *wheel, uint64_t tick);

/* Fires what is due at now_ns.  Returns how many fired. */
static inline uint32_t timer_advance(struct timer_wheel *wheel, uint64_t now_ns)
{
	uint64_t tick = now_ns >> TIMER_TICK_SHIFT;

	if (unlikely(tick >= wheel->next_tick))
		return timer_advance_slow(wheel, tick);
	if (tick > wheel->tick)
		wheel->tick = tick;
	return 0;
}

/* A lower bound of the earliest deadline, exact within the lowest level (64 ticks); TIMER_NEVER if
 * none is armed. */
uint64_t timer_next_ns(const struct timer_wheel *wheel);
