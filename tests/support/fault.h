/* tests/support/fault.h: memory that runs out when a test says so.
 *
 * A test whose entry in tests/meson.build wraps functions (`'wrap': memory_calls`, or a part of it)
 * has its own calls and the library's come here; those of the C library and of cmocka do not. All
 * calls pass through to the real functions until one is told to fail. One fallible call is as good
 * as another: they share one count. Safe in threads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* fault_fail: the nth fallible call from now on fails with ENOMEM (1: the next one); those after it
 * do not. */
void fault_fail(uint64_t nth);

/* fault_fail_from: the nth call from now on fails, and every one after it. */
void fault_fail_from(uint64_t nth);

/* fault_fail_times: the nth call from now on fails, and as many as make times of them. */
void fault_fail_times(uint64_t nth, uint64_t times);

/* fault_off: nothing fails any more. Returns whether something did since it was told to. */
bool fault_off(void);

/* fault_pause: from now on calls pass through and do not count; or count again. Pauses nest. */
void fault_pause(bool on);

/* fault_calls: fallible calls since the program began. */
uint64_t fault_calls(void);

/* fault_live: blocks of the allocation functions, and bytes of mmap without MAP_FIXED, that were
 * not given back. */
struct fault_live {
	int64_t blocks;
	int64_t mapped_bytes;
};

struct fault_live fault_live(void);

/* fault_heap_forget: of a test that wraps heap_alloc_slow and heap_alloc_huge as well, and has
 * support/fault_heap.c among its sources: each object of each heap is a fallible call then.  All
 * heaps are gone, and others may come. */
void fault_heap_forget(void);
