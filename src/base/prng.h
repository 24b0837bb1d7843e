/* SPDX-License-Identifier: MIT
 * base/prng.h - the instance's seeded generator: xoshiro256** (Blackman and Vigna 2018), seeded
 * through SplitMix64.
 *
 * Not for secrets.
 */
#pragma once

#include <stdint.h>

struct prng {
	uint64_t state[4];
};

static inline uint64_t prng_rotate(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

static inline void prng_seed(struct prng *prng, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		seed += 0x9e3779b97f4a7c15U;
		uint64_t z = seed;
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
		prng->state[i] = z ^ (z >> 31);
	}
}

static inline uint64_t prng_next(struct prng *prng)
{
	uint64_t *s = prng->state;
	uint64_t result = prng_rotate(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = prng_rotate(s[3], 45);
	return result;
}

/* Uniform in [0, bound), bound at least 1, by multiplication (bias below 2^-32 for bounds below
 * 2^32). */
static inline uint64_t prng_below(struct prng *prng, uint64_t bound)
{
	return (uint64_t)(((unsigned __int128)prng_next(prng) * bound) >> 64);
}
