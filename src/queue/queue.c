/* SPDX-License-Identifier: MIT */
#include "queue/queue.h"

#include "base/assert.h"
#include "queue/operator.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

static struct queue *free_mark(uint32_t next)
{
	return (struct queue *)(((uintptr_t)next << 1) | 1);
}

int queue_table_open(struct queue_table *table, uint32_t max)
{
	*table = (struct queue_table){.free = QUEUE_NONE, .max = max};
	void *at = mmap(NULL, max * sizeof(*table->slots), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return -ENOMEM;
	table->slots = at;
	return 0;
}

void queue_table_close(struct queue_table *table)
{
	ASSERT(table->used == 0);
	munmap(table->slots, table->max * sizeof(*table->slots));
}

int32_t queue_enter(struct queue_table *table, struct queue *queue)
{
	const struct queue_ops *ops = queue->ops;
	uint32_t slot = table->free;

	ASSERT(ops->push && ops->pop && ops->take && ops->cancel && ops->close && ops->describe);
	if (slot != QUEUE_NONE)
		table->free = (uint32_t)((uintptr_t)table->slots[slot] >> 1);
	else if (table->fresh < table->max)
		slot = table->fresh++;
	else
		return -EMFILE;
	table->slots[slot] = queue;
	table->used++;
	queue->qd = (int32_t)slot + QUEUE_BASE;
	return queue->qd;
}

void queue_leave(struct queue_table *table, struct queue *queue)
{
	uint32_t slot = (uint32_t)queue->qd - QUEUE_BASE;

	ASSERT(slot < table->fresh && table->slots[slot] == queue);
	table->slots[slot] = free_mark(table->free);
	table->free = slot;
	table->used--;
}

void queue_replace(struct queue_table *table, struct queue *queue, struct queue *other)
{
	uint32_t slot = (uint32_t)queue->qd - QUEUE_BASE;

	ASSERT(slot < table->fresh && table->slots[slot] == queue);
	table->slots[slot] = other;
	other->qd = queue->qd;
}

void queue_tell_users(struct queue *queue)
{
	while (queue->above) {
		struct derived *top = queue->above;
		while (top->queue.above)
			top = top->queue.above;
		derived_end(top, ECANCELED);
	}
	while (queue->users) {
		struct queue_user *user = queue->users;
		queue->users = user->next;
		user->closing(user);
	}
}

void queue_close(struct queue *queue)
{
	queue_tell_users(queue);
	queue->ops->close(queue);
}

void queue_each(struct queue_table *table, void (*fn)(void *arg, struct queue *queue), void *arg)
{
	for (uint32_t slot = 0; slot < table->fresh; slot++) {
		struct queue *queue = queue_find(table, (int32_t)slot + QUEUE_BASE);
		if (queue)
			fn(arg, queue);
	}
}
