/* SPDX-License-Identifier: MIT
 * queue/queue.h - the descriptors of an instance.
 *
 * A descriptor is a slot of the table plus QUEUE_BASE, so that it is never a file descriptor of a
 * small program. Closing frees the slot at once; what the queue still has to send goes on behind
 * it.
 *
 * Invariant: used == slots that are not NULL; free slots form a list through the pointers' values
 * (odd: next << 1 | 1).
 */
#pragma once

#include "transport/transport.h"

#include <stdint.h>

#define QUEUE_BASE 500 /* as Demikernel's */

struct queue_table {
	struct queue **slots;
	uint32_t free;  /* slot, QUEUE_NONE: none */
	uint32_t fresh; /* slots from here on were never used */
	uint32_t used;
	uint32_t max;
};

#define QUEUE_NONE UINT32_MAX

/* 0 or -ENOMEM. */
int queue_table_open(struct queue_table *table, uint32_t max);
/* All queues were closed. */
void queue_table_close(struct queue_table *table);

/* The descriptor of a new queue, or -EMFILE. */
int32_t queue_enter(struct queue_table *table, struct queue *queue);
void queue_leave(struct queue_table *table, struct queue *queue);

/* The queue of a descriptor, or NULL. */
static inline struct queue *queue_find(const struct queue_table *table, int32_t qd)
{
	uint32_t slot = (uint32_t)qd - QUEUE_BASE;

	if (unlikely(slot >= table->fresh))
		return NULL;
	struct queue *queue = table->slots[slot];
	return likely(((uintptr_t)queue & 1) == 0) ? queue : NULL;
}

/* Calls fn for every open queue; fn may close it. */
void queue_each(struct queue_table *table, void (*fn)(void *arg, struct queue *queue), void *arg);

/* Puts another queue in its place, under its descriptor. */
void queue_replace(struct queue_table *table, struct queue *queue, struct queue *other);

/* Closes a queue that is in no table, when what stands on it has ended (queue/operator.h). */
void queue_close(struct queue *queue);

/* Ends what stands on it, from the top. */
void queue_tell_users(struct queue *queue);

/* memory.c: a memory queue, in no table yet.  0 or -ENOMEM. */
int memory_queue_new(struct sched *sched, struct queue **queue_out);
