/* SPDX-License-Identifier: MIT
 * tools/demi/net/count.h - instructions counted by callgrind: this program runs itself under it,
 * with what is to be counted between count_on and count_off.
 *
 * Only there does callgrind look: making connections runs at nearly full speed, and the figure is
 * that of so many operations, not the difference of two runs.  Outside of valgrind both do nothing.
 */
#pragma once

#include <stdint.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#define COUNT_POSSIBLE 1
#else
#define COUNT_POSSIBLE                  0
#define CALLGRIND_START_INSTRUMENTATION ((void)0)
#define CALLGRIND_TOGGLE_COLLECT        ((void)0)
#endif

/* Once, before the first count_on. */
static inline void count_prepare(void)
{
	CALLGRIND_START_INSTRUMENTATION;
}

static inline void count_on(void)
{
	CALLGRIND_TOGGLE_COLLECT;
}

static inline void count_off(void)
{
	CALLGRIND_TOGGLE_COLLECT;
}

/* Instructions of an operation, by `--only key --stack stack --count count` of this program; NAN if
 * they cannot be counted here. */
double count_instructions(const char *key, const char *stack, uint64_t count);
