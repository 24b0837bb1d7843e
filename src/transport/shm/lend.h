/* SPDX-License-Identifier: MIT
 * transport/shm/lend.h - payload by reference: what is lent to a peer, and what it has lent.
 *
 * The heap of an instance that lends has a region of shared memory (heap_set_region), whose memfd
 * peers get for reading.  A message that lies in it whole is lent: lines tell where it is, and each
 * segment has a library reference until the peer says, in its ring of returns, that nobody there
 * has it any more, or is gone.  What is lent is bounded; beyond that payload goes by copy.
 *
 * What was borrowed is the application's as a popped element is; its last free comes back to us
 * from mem/borrow.h, and goes into our ring of returns.
 */
#pragma once

#include "transport/shm/internal.h"

/* Shorter payload is copied: see docs/design/0012-shared-memory.md. */
#define LEND_MIN_BYTES 8192
#define LEND_BYTES_MAX ((uint64_t)64 << 20)

/* The region that is lent from, if the heap can have one.  *fd_out: for reading, -1: none. */
void lend_prepare(struct sched *sched, int *fd_out);

/* The peer's heap is mapped, and it is told so; or payload comes by copy.  The descriptor stays the
 * caller's. */
void lend_map(struct channel *channel, int heap_fd, uint64_t heap_bytes);

/* What was borrowed stays the application's, and nobody hears of it any more. */
void lend_unmap(struct channel *channel);

void lend_init(struct channel *channel);

/* Lends the whole of a push, if it is worth it and can be: the lines that tell of it are written
 * to loans, their number returned; 0: it goes by copy. */
uint32_t lend_push(struct channel *channel, struct op *op, uint64_t bytes, struct ring_loan *loans);

/* Has the peer let go of something? */
static inline bool lend_returned(const struct channel *channel)
{
	uint32_t position = channel->returns_in;

	/* relaxed: lend_poll looks again */
	return channel_hears(channel) &&
	       atomic_load_explicit(&channel->mapped->returns[position % RING_LOANS],
				    memory_order_relaxed) >>
			       32 ==
		       ring_sequence(position);
}

/* Takes back what the peer has let go of, and hears what the application has.  How much happened.
 */
uint32_t lend_poll(struct channel *channel);

/* The peer is gone: everything is ours again. */
void lend_take_back(struct channel *channel);

/* A message that was lent, count segments of it, becomes the element that a pop gets.  0, -ENOMEM:
 * nothing has happened; -EPROTO: it cannot be. */
int lend_take(struct channel *channel, const struct ring_loan *loans, uint32_t count,
	      struct op *op);

/* It is wanted by nobody. */
void lend_decline(struct channel *channel, const struct ring_loan *loans, uint32_t count);
