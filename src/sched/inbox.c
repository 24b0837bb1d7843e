/* SPDX-License-Identifier: MIT */
#include "sched/inbox.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>

#define RING_MIN 8

void inbox_init(struct inbox *inbox)
{
	*inbox = (struct inbox){0};
	op_list_init(&inbox->pops);
}

static struct inbox_entry *entry_at(const struct inbox *inbox, uint32_t i)
{
	return &inbox->ring[(inbox->head + i) & (inbox->size - 1)];
}

/* Makes room for one more; false: no memory. */
static bool grow(struct inbox *inbox)
{
	uint32_t size = inbox->size ? inbox->size * 2 : RING_MIN;

	if (likely(inbox->count < inbox->size))
		return true;
	struct inbox_entry *ring = malloc(size * sizeof(*ring));
	if (!ring)
		return false;
	for (uint32_t i = 0; i < inbox->count; i++)
		ring[i] = *entry_at(inbox, i);
	free(inbox->ring);
	inbox->ring = ring;
	inbox->size = size;
	inbox->head = 0;
	return true;
}

static struct inbox_entry take(struct inbox *inbox)
{
	struct inbox_entry first = *entry_at(inbox, 0);

	inbox->head = (inbox->head + 1) & (inbox->size - 1);
	inbox->count--;
	inbox->held -= first.held;
	return first;
}

void inbox_close(struct inbox *inbox, struct heap *heap)
{
	ASSERT(op_list_empty(&inbox->pops));
	while (inbox->count > 0)
		(void)heap_free_inside(heap, take(inbox).datagram);
	free(inbox->ring);
	inbox->ring = NULL;
}

static void complete(struct sched *sched, struct op *op, const struct inbox_entry *entry)
{
	datagram_set(op, entry->datagram, entry->bytes);
	sched_count(sched, COUNTER_BYTES_IN, entry->bytes);
	op_complete(sched, op, 0);
}

bool inbox_put(struct inbox *inbox, struct sched *sched, const struct inbox_entry *entry)
{
	struct op *op = op_list_take(&sched->ops, &inbox->pops);

	if (likely(op != NULL)) {
		complete(sched, op, entry);
		return true;
	}
	if (unlikely(!grow(inbox)))
		return false;
	*entry_at(inbox, inbox->count++) = *entry;
	inbox->held += entry->held;
	return true;
}

void inbox_pop(struct inbox *inbox, struct sched *sched, struct op *op)
{
	if (inbox->count > 0) {
		struct inbox_entry first = take(inbox);
		complete(sched, op, &first);
	} else {
		op_list_append(&sched->ops, &inbox->pops, op);
	}
}

bool inbox_fail_pop(struct inbox *inbox, struct sched *sched, int err)
{
	struct op *op = op_list_take(&sched->ops, &inbox->pops);

	if (op)
		op_complete(sched, op, err);
	return op != NULL;
}

void inbox_cancel(struct inbox *inbox, struct sched *sched, struct op *op)
{
	op_list_remove(&sched->ops, &inbox->pops, op);
	op_complete(sched, op, ECANCELED);
}

void inbox_check(const struct inbox *inbox)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < inbox->count; i++)
		held += entry_at(inbox, i)->held;
	ASSERT(held == inbox->held && inbox->count <= inbox->size);
	ASSERT(inbox->count == 0 || op_list_empty(&inbox->pops));
}
