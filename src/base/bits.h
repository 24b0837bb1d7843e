/* SPDX-License-Identifier: MIT
 * base/bits.h - branch hints, container_of and small arithmetic.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

#define CACHE_LINE 64

/* Index of the lowest set bit; word must not be 0. */
static inline uint32_t bits_lowest(uint64_t word)
{
	return (uint32_t)__builtin_ctzll(word);
}

/* Index of the highest set bit; word must not be 0. */
static inline uint32_t bits_highest(uint64_t word)
{
	return 63U - (uint32_t)__builtin_clzll(word);
}

/* value rounded up to a multiple of step, a power of two. */
static inline uint64_t round_up(uint64_t value, uint64_t step)
{
	return (value + step - 1) & ~(step - 1);
}
