/* SPDX-License-Identifier: MIT
 * netdev/spread/tables.h - the maps of the XDP program, as it and user space see them.
 *
 * Without libc, which the program does not have.
 */
#pragma once

#include "netdev/spread/flow.h"

#include <stdint.h>

#define STEER_SLOTS     256 /* sockets of an interface */
#define STEER_ADDRESSES 1024
#define STEER_PORTS     65536 /* of each protocol */

/* struct steer_target as the tables have it, in one word, so that it changes at once. */
#define STEER_KERNEL  0ULL /* none: the kernel's */
#define STEER_BY_HASH (1ULL << 32)
#define STEER_SHARED  (1ULL << 33) /* of an address: ports decide */

static inline uint64_t steer_entry(uint16_t first, uint16_t count)
{
	return first | (uint64_t)count << 16;
}

static inline uint32_t steer_entry_first(uint64_t entry)
{
	return entry & 0xffff;
}

static inline uint32_t steer_entry_count(uint64_t entry)
{
	return entry >> 16 & 0xffff;
}

/* How many frames became what. */
enum steer_count {
	STEER_COUNT_STEERED,   /* ours */
	STEER_COUNT_NO_SOCKET, /* ours, but nobody is there: the kernel's */
	STEER_COUNT_PASSED,    /* the kernel's */
	STEER_COUNT_FILTERED,  /* ours, and dropped by the filter of a port */
	STEER_COUNTS,
};

/* Index into the table of ports. */
static inline uint32_t steer_port_index(uint64_t protocol, uint64_t port)
{
	return (uint32_t)((protocol == 17 ? STEER_PORTS : 0) + port);
}

/* The slot of a target, or -1: the target has none for this queue. */
STEER_INLINE int32_t steer_slot(uint64_t entry, const struct steer_flow *flow, uint32_t queue)
{
	uint32_t count = steer_entry_count(entry);
	uint32_t n = entry & STEER_BY_HASH ? steer_nth(flow, count) : queue;

	return n < count ? (int32_t)(steer_entry_first(entry) + n) : -1;
}
