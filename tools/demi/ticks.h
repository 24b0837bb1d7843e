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

/* Ticks that two readings of the counter are apart. */
static inline uint64_t ticks_overhead(void)
{
	const unsigned rounds = 10000;
	uint64_t sum = 0;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t before = core_ticks();

		sum += core_ticks() - before;
	}
	return sum / rounds;
}
