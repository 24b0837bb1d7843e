/* SPDX-License-Identifier: MIT
 * netdev/spread/lane.h - frames from one instance to another that may be on another thread: a ring
 * of places without a lock.  Who takes copies; the frames stay the giver's, who frees those that
 * were taken when it looks.
 *
 * Each side comes and goes as it likes, under a lock that the caller holds for that.  While one is
 * away the other finds the lane empty, or full.
 *
 * Invariant: freed <= taken <= put <= freed + LANE_FRAMES.  freed and the frames from there to put
 * are the giver's; taken is the taker's.
 */
#pragma once

#include "base/bits.h"
#include "netdev/frame.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LANE_FRAMES 256 /* a power of two */

struct lane {
	struct frame *frames[LANE_FRAMES];

	_Atomic uint32_t put __attribute__((aligned(CACHE_LINE))); /* the giver's line */
	uint32_t filled;                                           /* to become put */
	uint32_t freed;
	_Atomic bool giver; /* is there */

	_Atomic uint32_t taken __attribute__((aligned(CACHE_LINE))); /* the taker's line */
	_Atomic bool inside; /* it reads frames: the giver must not go */
	_Atomic bool taker;
};

/* ---- the giver's side ---- */

void lane_open_giver(struct lane *lane);
/* Frees what was not taken; waits while the taker copies. */
void lane_close_giver(struct lane *lane, struct heap *heap);

/* Frees what was taken. */
void lane_reap(struct lane *lane, struct heap *heap);

/* Has it frames that are not freed? */
static inline bool lane_holds(const struct lane *lane)
{
	return lane->freed != lane->filled;
}

/* Is there somebody to take? */
static inline bool lane_has_taker(struct lane *lane)
{
	return atomic_load_explicit(&lane->taker, memory_order_relaxed);
}

/* Puts a frame behind the others, not seen until lane_publish.  False: the lane is full even
 * though what was taken is freed. */
bool lane_give(struct lane *lane, struct heap *heap, struct frame *frame);

/* Has the taker see what was put; false: there is nothing new. */
static inline bool lane_publish(struct lane *lane)
{
	if (likely(lane->filled == atomic_load_explicit(&lane->put, memory_order_relaxed)))
		return false;
	/* sequentially consistent: before the load of the taker's `asleep` (shared.c) */
	atomic_store(&lane->put, lane->filled);
	return true;
}

/* ---- the taker's side ---- */

void lane_open_taker(struct lane *lane);
void lane_close_taker(struct lane *lane);

/* Is there a frame, perhaps? */
static inline bool lane_is_empty(struct lane *lane)
{
	return atomic_load_explicit(&lane->taken, memory_order_relaxed) == atomic_load(&lane->put);
}

/* Begins to take: how many frames there are; lane_end must follow if there are any. */
uint32_t lane_begin(struct lane *lane);

/* The nth of those. */
static inline const struct frame *lane_at(const struct lane *lane, uint32_t n)
{
	uint32_t taken = atomic_load_explicit(&lane->taken, memory_order_relaxed);

	return lane->frames[(taken + n) & (LANE_FRAMES - 1)];
}

/* The first count are taken. */
void lane_end(struct lane *lane, uint32_t count);
