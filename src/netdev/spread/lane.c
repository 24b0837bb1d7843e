/* SPDX-License-Identifier: MIT
 * netdev/spread/lane.c - see lane.h.
 *
 * Going away.  The taker says that it is inside, then looks whether the giver is there; the giver
 * says that it is not, then looks whether the taker is inside.  These four are sequentially
 * consistent, so one of the two sees the other.
 */
#include "netdev/spread/lane.h"

#include <sched.h>

static uint32_t taken_of(struct lane *lane)
{
	/* acquire: its frames are not read any more; pairs with the release in lane_end */
	return atomic_load_explicit(&lane->taken, memory_order_acquire);
}

/* ---- the giver's side ---- */

static void free_until(struct lane *lane, struct heap *heap, uint32_t end)
{
	for (; lane->freed != end; lane->freed++)
		frame_free(heap, lane->frames[lane->freed & (LANE_FRAMES - 1)]);
}

void lane_open_giver(struct lane *lane)
{
	uint32_t taken = taken_of(lane);

	lane->filled = taken;
	lane->freed = taken;
	atomic_store(&lane->put, taken);
	atomic_store(&lane->giver, true);
}

void lane_close_giver(struct lane *lane, struct heap *heap)
{
	atomic_store(&lane->giver, false);
	while (atomic_load(&lane->inside))
		(void)sched_yield(); /* it copies a burst at most */
	free_until(lane, heap, lane->filled);
	atomic_store(&lane->put, taken_of(lane));
}

void lane_reap(struct lane *lane, struct heap *heap)
{
	free_until(lane, heap, taken_of(lane));
}

bool lane_give(struct lane *lane, struct heap *heap, struct frame *frame)
{
	if (unlikely(lane->filled - lane->freed == LANE_FRAMES))
		lane_reap(lane, heap);
	if (unlikely(lane->filled - lane->freed == LANE_FRAMES))
		return false;
	lane->frames[lane->filled++ & (LANE_FRAMES - 1)] = frame;
	return true;
}

/* ---- the taker's side ---- */

/* What was put before it came is not for it. */
void lane_open_taker(struct lane *lane)
{
	atomic_store_explicit(&lane->taken, atomic_load(&lane->put), memory_order_release);
	atomic_store(&lane->taker, true);
}

void lane_close_taker(struct lane *lane)
{
	atomic_store(&lane->taker, false);
	atomic_store_explicit(&lane->taken, atomic_load(&lane->put), memory_order_release);
}

uint32_t lane_begin(struct lane *lane)
{
	if (likely(lane_is_empty(lane)))
		return 0;
	atomic_store(&lane->inside, true);
	/* acquire: the frames are there; pairs with the store in lane_publish */
	uint32_t count = atomic_load(&lane->giver)
				 ? atomic_load_explicit(&lane->put, memory_order_acquire) -
					   atomic_load_explicit(&lane->taken, memory_order_relaxed)
				 : 0;
	if (count == 0)
		atomic_store_explicit(&lane->inside, false, memory_order_release);
	return count;
}

void lane_end(struct lane *lane, uint32_t count)
{
	uint32_t taken = atomic_load_explicit(&lane->taken, memory_order_relaxed);

	atomic_store_explicit(&lane->taken, taken + count, memory_order_release);
	atomic_store_explicit(&lane->inside, false, memory_order_release);
}
