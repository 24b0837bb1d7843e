/* SPDX-License-Identifier: MIT
 * netdev/afxdp/pool.h - what the XDP sockets of several instances of this process share if they
 * share one queue of an interface: the memory and the rings FILL and COMPLETION.
 *
 * The memory is no instance's heap, for the kernel gives a chunk of it to whichever socket a frame
 * is for: who receives copies out of it, who sends copies into it, and nobody keeps a chunk.  So
 * nothing in it is referred to from outside, and what the kernel says of it need only lie within.
 *
 * A chunk is in FILL or the kernel's to receive into, in a burst of one member, in TX or being
 * sent, or free; none is lost but to a kernel that names another.
 */
#pragma once

#include "netdev/afxdp/grant.h"
#include "netdev/afxdp/ring.h"

#include "base/list.h"

#include <pthread.h>
#include <stdint.h>

struct pool {
	struct list in_all;
	int index; /* of the interface */
	uint32_t queue;
	uint32_t id; /* of this process, never 0 */
	uint32_t members;
	char *region;
	uint64_t bytes;
	pthread_mutex_t lock; /* of what follows; held for a burst */
	struct ring fill;
	struct ring completion;
	uint32_t num_free;
	uint64_t *free; /* offsets of chunks */
};

/* A member is opened or closed, as a whole, between these two: the first brings what all use. */
void pool_begin_change(void);
void pool_end_change(void);

/* Joins the pool of the request's queue, which is made if there is none.  0 or -errno. */
int pool_join(int index, const struct grant_request *request, struct pool **pool_out);
/* The socket of the first member is there, not bound yet.  0 or -errno. */
int pool_map(struct pool *pool, int fd, uint32_t ring);
/* The last one ends it. */
void pool_leave(struct pool *pool);

/* The socket that had these rings is closed: what is left in them is the pool's again. */
void pool_recover(struct pool *pool, struct ring *rx, struct ring *tx);

/* A frame of so many bytes at an offset; NULL: it is not within. */
static inline const void *pool_at(const struct pool *pool, uint64_t offset, uint32_t length)
{
	return offset < pool->bytes && length <= pool->bytes - offset ? pool->region + offset
								      : NULL;
}

/* What was received into is the kernel's again: count offsets into chunks. */
void pool_refill(struct pool *pool, const uint64_t *offsets, uint32_t count);
/* Takes up to count free chunks to send; returns how many. */
uint32_t pool_take(struct pool *pool, uint64_t *offsets, uint32_t count);
/* Those that were not needed. */
void pool_return(struct pool *pool, const uint64_t *offsets, uint32_t count);
