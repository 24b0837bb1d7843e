/* SPDX-License-Identifier: MIT
 * blkdev/nvme/queue.h - a pair of queues: commands that we put out, completions that we take in.
 *
 * Indices run from 0 to entries - 1.  There are more entries than commands under way, so that
 * neither ring is ever full.  A completion is new if its phase is ours, which changes each time
 * around.
 */
#pragma once

#include "base/bits.h"
#include "blkdev/nvme/bus.h"
#include "blkdev/nvme_command.h"

#include <stddef.h>

/* One doorbell, and its two words of memory where there are shadow doorbells (7.13). */
struct nvme_doorbell {
	uint32_t offset;
	uint32_t rung;             /* the value that was written last */
	volatile uint32_t *shadow; /* NULL: there is none */
	volatile uint32_t *event;  /* which value the controller wants to be told */
};

struct nvme_queue {
	struct nvme_command *commands;
	volatile struct nvme_completion *completions;
	uint64_t commands_address;
	uint64_t completions_address;
	uint32_t entries;
	uint32_t tail;
	uint32_t head;
	uint16_t phase;
	struct nvme_doorbell submitted;
	struct nvme_doorbell taken;
};

/* The memory of both shadows, a page each. */
struct nvme_shadow {
	char *values;
	char *events;
};

/* Both rings are empty.  id: 0 the administration's; stride: bytes between doorbells. */
void nvme_queue_reset(struct nvme_queue *queue, uint32_t id, uint32_t stride);

/* From now on that queue's doorbells have shadows. */
void nvme_queue_set_shadow(struct nvme_queue *queue, const struct nvme_shadow *shadow);

/* What was written to memory is there before what is written from now on. */
static inline void nvme_barrier(void)
{
#ifdef __aarch64__
	__asm__ volatile("dmb osh" ::: "memory");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

void nvme_doorbell_ring(struct nvme_bus *bus, struct nvme_doorbell *doorbell, uint32_t value);

/* Puts a command out; the controller sees it when the doorbell is rung. */
static inline void nvme_queue_put(struct nvme_queue *queue, const struct nvme_command *command)
{
	queue->commands[queue->tail] = *command;
	if (++queue->tail == queue->entries)
		queue->tail = 0;
}

static inline void nvme_queue_ring(struct nvme_bus *bus, struct nvme_queue *queue)
{
	if (queue->tail != queue->submitted.rung)
		nvme_doorbell_ring(bus, &queue->submitted, queue->tail);
}

/* Takes a completion in, if there is one. */
static inline bool nvme_queue_take(struct nvme_queue *queue, struct nvme_completion *completion)
{
	const volatile struct nvme_completion *entry = &queue->completions[queue->head];
	uint16_t status = __atomic_load_n(&entry->status, __ATOMIC_ACQUIRE);

	if ((status & 1) != queue->phase)
		return false;
	completion->result = entry->result;
	completion->sq_head = entry->sq_head;
	completion->sq_id = entry->sq_id;
	completion->id = entry->id;
	completion->status = status >> 1;
	if (++queue->head == queue->entries) {
		queue->head = 0;
		queue->phase ^= 1;
	}
	return true;
}

/* The entries of what was taken in are free. */
static inline void nvme_queue_taken(struct nvme_bus *bus, struct nvme_queue *queue)
{
	if (queue->head != queue->taken.rung)
		nvme_doorbell_ring(bus, &queue->taken, queue->head);
}
