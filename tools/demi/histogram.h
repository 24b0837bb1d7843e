/* SPDX-License-Identifier: MIT
 * tools/demi/histogram.h - latencies in buckets of constant relative width: 256 to each power of
 * two, below 0.4 % wide.
 *
 * Invariant: the buckets add up to count. A plain value without pointers: it may lie in shared
 * memory.
 */
#pragma once

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 8
#define HISTOGRAM_MAX_BITS \
	42 /* values of 2^42 ns (73 minutes) and above fall into the last bucket */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t count;
	uint64_t min, max; /* exact; 0 while empty */
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_index(uint64_t value)
{
	unsigned exponent;

	if (value < 1U << HISTOGRAM_SUB_BITS)
		return (unsigned)value;
	exponent = 63U - (unsigned)__builtin_clzll(value);
	if (exponent >= HISTOGRAM_MAX_BITS)
		return HISTOGRAM_BUCKETS - 1;
	return ((exponent - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS) +
	       (unsigned)(value >> (exponent - HISTOGRAM_SUB_BITS));
}

static inline void histogram_record(struct histogram *histogram, uint64_t value)
{
	if (histogram->count++ == 0 || value < histogram->min)
		histogram->min = value;
	if (value > histogram->max)
		histogram->max = value;
	histogram->buckets[histogram_index(value)]++;
}

void histogram_reset(struct histogram *histogram);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value that share (0 to 1) of the recorded ones do not exceed; 0 if there are none. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);
