/* SPDX-License-Identifier: MIT
 * netdev/spread/flow.h - which of several instances a flow belongs to: whoever receives finds it
 * for what arrives (an instance, the XDP program of afxdp), an instance for what it is about to
 * begin.
 *
 * Without libc, which the program does not have.
 */
#pragma once

#include <stdint.h>

#define STEER_INLINE static inline __attribute__((always_inline))

/* struct ip_address, where libc is missing. */
struct steer_key {
	uint64_t pair[2];
};

/* What is spread: the same for both ways. */
struct steer_flow {
	struct steer_key address[2];
	uint64_t port[2];
	uint64_t protocol; /* for decide.h */
	uint64_t ours;     /* which of the two is this end: 0 or 1 */
};

STEER_INLINE uint64_t steer_mix(uint64_t x)
{
	x = (x ^ x >> 32) * 0x9e3779b97f4a7c15U;
	return x ^ x >> 29;
}

STEER_INLINE uint64_t steer_mix_end(const struct steer_key *address, uint64_t port)
{
	return steer_mix(steer_mix(steer_mix(address->pair[0]) + address->pair[1]) + port);
}

/* A sum, so that it is the same whichever end sends. */
STEER_INLINE uint32_t steer_hash(const struct steer_flow *flow)
{
	return (uint32_t)(steer_mix(steer_mix_end(&flow->address[0], flow->port[0]) +
				    steer_mix_end(&flow->address[1], flow->port[1])) >>
			  32);
}

/* Which of count. */
STEER_INLINE uint32_t steer_nth(const struct steer_flow *flow, uint32_t count)
{
	return (uint32_t)((uint64_t)steer_hash(flow) * count >> 32);
}
