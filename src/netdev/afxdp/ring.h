/* SPDX-License-Identifier: MIT
 * netdev/afxdp/ring.h - the four rings of an XDP socket, which the kernel is at the other end of:
 * we produce into FILL and TX, and consume from RX and COMPLETION.
 *
 * The rings are the kernel's memory, mapped as long as struct ring is open.  Indices run freely and
 * are masked on access.  Invariants: producer - consumer <= size; ours is what we have written
 * (producing) or read (consuming), published or not; theirs is the last index of the kernel's that
 * was seen.
 */
#pragma once

#include "base/assert.h"
#include "base/bits.h"

#include <linux/if_xdp.h>
#include <stdbool.h>
#include <stdint.h>

/* Newer than Debian's headers: linux/if_xdp.h of Linux 6.6. */
#ifndef XDP_USE_SG
#define XDP_USE_SG    (1 << 4) /* bind: frames may be of several buffers */
#define XDP_PKT_CONTD (1 << 0) /* xdp_desc.options: the frame goes on in the next */
#endif

struct ring {
	uint32_t *published; /* our index, as the kernel sees it */
	uint32_t *seen;      /* the kernel's */
	uint32_t *flags;

	union {
		uint64_t *addresses;    /* FILL, COMPLETION */
		struct xdp_desc *descs; /* RX, TX */
	};

	uint32_t mask;
	uint32_t ours;
	uint32_t theirs;
	void *map;
	uint64_t map_bytes;
};

enum ring_kind { RING_FILL, RING_COMPLETION, RING_RX, RING_TX };

#define RING_KINDS 4

/* Sets the size of a ring of a socket that is not bound yet (a power of two); and maps it.  0 or
 * -errno. */
int ring_size(int fd, enum ring_kind kind, uint32_t size);
int ring_map(struct ring *ring, int fd, enum ring_kind kind, uint32_t size);
void ring_unmap(struct ring *ring);

/* FILL, TX: how many can be written, at least want if there is room for so many. */
static inline uint32_t ring_room(struct ring *ring, uint32_t want)
{
	uint32_t size = ring->mask + 1;

	if (size - (ring->ours - ring->theirs) < want) /* acquire: it has read what we overwrite */
		ring->theirs = __atomic_load_n(ring->seen, __ATOMIC_ACQUIRE);
	return size - (ring->ours - ring->theirs);
}

/* RX, COMPLETION: how many can be read, 0 only if there are none. */
static inline uint32_t ring_ready(struct ring *ring)
{
	if (ring->theirs == ring->ours) /* acquire: what it has written is seen */
		ring->theirs = __atomic_load_n(ring->seen, __ATOMIC_ACQUIRE);
	return ring->theirs - ring->ours;
}

/* release: what was written or read is before it for the kernel. */
static inline void ring_publish(struct ring *ring)
{
	__atomic_store_n(ring->published, ring->ours, __ATOMIC_RELEASE);
}

/* Must the kernel be called to look at the ring? */
static inline bool ring_sleeps(const struct ring *ring)
{
	return __atomic_load_n(ring->flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP;
}
