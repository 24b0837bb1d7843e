/* SPDX-License-Identifier: MIT
 * sched/inbox.h - where a socket's datagrams and the pops of them meet.
 *
 * What arrives goes to the pop that has waited longest, else it is kept, oldest first.  Datagrams
 * are objects of the heap with one application reference, which becomes that of whoever pops them.
 *
 * Invariants: held == sum of what is kept; a pop waits only while nothing is kept.
 */
#pragma once

#include "sched/datagram.h"
#include "sched/sched.h"

struct inbox_entry {
	struct datagram *datagram;
	uint32_t bytes;
	uint32_t held; /* bytes of memory that it costs */
};

struct inbox {
	struct op_list pops;
	struct inbox_entry *ring; /* NULL before the first */
	uint32_t size;            /* a power of two */
	uint32_t head;
	uint32_t count;
	uint32_t held;
};

void inbox_init(struct inbox *inbox);

/* Frees what is kept; nothing waits any more. */
void inbox_close(struct inbox *inbox, struct heap *heap);

/* Would one that costs so much go beyond the limit?  An empty inbox takes any. */
static inline bool inbox_is_full(const struct inbox *inbox, uint32_t held, uint64_t limit)
{
	return inbox->count > 0 && inbox->held + (uint64_t)held > limit;
}

/* Gives a datagram to a pop, or keeps it; false: no memory, it stays the caller's. */
bool inbox_put(struct inbox *inbox, struct sched *sched, const struct inbox_entry *entry);

/* Completes a pop if something is kept; else it waits. */
void inbox_pop(struct inbox *inbox, struct sched *sched, struct op *op);

/* Ends the pop that has waited longest; false: none does. */
bool inbox_fail_pop(struct inbox *inbox, struct sched *sched, int err);

/* Ends one that waits. */
void inbox_cancel(struct inbox *inbox, struct sched *sched, struct op *op);

/* Asserts the invariants. */
void inbox_check(const struct inbox *inbox);
