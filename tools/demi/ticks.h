/* SPDX-License-Identifier: MIT
 * tools/demi/ticks.h - the time-stamp counter.
 */
#pragma once

#include "tool.h"

#include <stdint.h>

/* After all that comes before it; where there is none, nanoseconds. */
static inline uint64_t core_ticks(void)
{
#ifdef __x86_64__
	__builtin_ia32_lfence();
	return __builtin_ia32_rdtsc();
#else
	return clock_now_ns();
#endif
}

/* Ticks that two readings of the counter are apart: the least, for anything may come between. */
static inline uint64_t ticks_overhead(void)
{
	const unsigned rounds = 10000;
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t before = core_ticks();
		uint64_t ticks = core_ticks() - before;

		least = ticks < least ? ticks : least;
	}
	return least;
}
