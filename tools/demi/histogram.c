/* SPDX-License-Identifier: MIT
 * tools/demi/histogram.c - latencies in buckets of constant relative width.
 */
#include "histogram.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static_assert(HISTOGRAM_BUCKETS == 8960, "35 powers of two, 256 buckets each");

void histogram_reset(struct histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	if (from->count == 0)
		return;
	if (into->count == 0 || from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	into->count += from->count;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
}

/* Middle of the values that share a bucket: the inverse of histogram_index. */
static uint64_t bucket_value(unsigned index)
{
	unsigned shift;
	uint64_t low;

	if (index < 2U << HISTOGRAM_SUB_BITS)
		return index;
	shift = (index >> HISTOGRAM_SUB_BITS) - 1;
	low = ((uint64_t)(index & ((1U << HISTOGRAM_SUB_BITS) - 1)) + (1U << HISTOGRAM_SUB_BITS))
	      << shift;
	return low + (1ULL << shift) / 2;
}

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
	return value < min ? min : value > max ? max : value;
}

uint64_t histogram_percentile(const struct histogram *histogram, double share)
{
	uint64_t rank = (uint64_t)ceil(share * (double)histogram->count);
	uint64_t seen = 0;

	if (histogram->count == 0)
		return 0;
	rank = clamp(rank, 1, histogram->count);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->buckets[i];
		if (seen >= rank)
			return clamp(bucket_value(i), histogram->min, histogram->max);
	}
	return histogram->max;
}
