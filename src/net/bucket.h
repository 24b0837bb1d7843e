/* SPDX-License-Identifier: MIT
 * net/bucket.h - a bucket of tokens, for what is done at most so often: fills with time, up to a
 * burst.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bucket {
	uint64_t filled_ns;
	uint64_t tokens;
	uint32_t per_s;
	uint32_t burst;
};

static inline void bucket_init(struct bucket *bucket, uint64_t now_ns, uint32_t per_s,
			       uint32_t burst)
{
	*bucket = (struct bucket){
		.filled_ns = now_ns,
		.tokens = burst,
		.per_s = per_s,
		.burst = burst,
	};
}

/* False: it is empty. */
static inline bool bucket_take(struct bucket *bucket, uint64_t now_ns, uint64_t cost)
{
	uint64_t token_ns = 1000000000ULL / bucket->per_s;
	uint64_t gained = (now_ns - bucket->filled_ns) / token_ns;

	bucket->filled_ns += gained * token_ns;
	bucket->tokens += gained;
	if (bucket->tokens > bucket->burst)
		bucket->tokens = bucket->burst;
	if (bucket->tokens == 0)
		return false;
	bucket->tokens -= cost < bucket->tokens ? cost : bucket->tokens;
	return true;
}
