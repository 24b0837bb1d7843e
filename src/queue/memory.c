/* SPDX-License-Identifier: MIT
 * queue/memory.c - memory queues: what is pushed as one array pops as one array, in order.
 *
 * An element waits as an operation of its own, owned by nobody, that holds the segments: heap
 * memory by library reference, other memory as a copy.  A push into a queue with a pending pop
 * hands the segments over at once. Copies stay within send_limit_bytes (one element may exceed it
 * alone): beyond, pushes of foreign memory wait in the queue uncopied until pops make room, and
 * later pushes wait behind them, so that the order holds.  The end of a stream, which qconnect
 * passes on, is an empty element that operators know for what it is.
 *
 * Invariants: elements or pops is empty; pushes is non-empty only while copied_bytes > 0;
 * copied_bytes == sum of the copies held by elements.
 */
#include "queue/queue.h"

#include "base/assert.h"
#include "sched/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct memory_queue {
	struct queue queue;
	struct op_list elements;
	struct op_list pushes; /* waiting for room */
	struct op_list pops;
	uint64_t copied_bytes;
	uint32_t num_elements;
};

static struct memory_queue *memory_of(struct queue *queue)
{
	return container_of(queue, struct memory_queue, queue);
}

/* ---- elements ---- */

/* Replaces the segments that are not of this heap by copies.  0 or -ENOMEM, then nothing is held.
 */
static int copy_foreign(struct heap *heap, struct op *element, uint32_t foreign)
{
	for (uint32_t i = 0; i < element->numsegs; i++) {
		struct iovec segment = op_segment(element, i);
		if (!(foreign >> i & 1))
			continue;
		if (segment.iov_len == 0) { /* who pops it must not free what it points to */
			op_move_segment(element, i, NULL);
			continue;
		}
		char *copy = heap_alloc(heap, segment.iov_len);
		if (!copy)
			return -ENOMEM;
		heap_take_over(copy);
		memcpy(copy, segment.iov_base, segment.iov_len);
		op_move_segment(element, i, copy);
		element->copied |= 1U << i;
	}
	return 0;
}

static uint64_t copied_bytes(const struct op *element)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < element->numsegs && element->copied; i++)
		bytes += element->copied >> i & 1 ? op_segment(element, i).iov_len : 0;
	return bytes;
}

/* Drops what the element holds. */
static void element_drop(struct sched *sched, struct op *element)
{
	for (uint32_t i = 0; i < element->numsegs; i++) {
		if (element->copied >> i & 1)
			heap_unref_library(sched->heap, op_segment(element, i).iov_base);
	}
	release_segments(sched->heap, element);
	op_free(&sched->ops, element);
}

/* The element of a push, or NULL: no memory.  The push itself holds nothing. */
static struct op *element_new(struct sched *sched, struct op *push)
{
	struct op *element = op_alloc(&sched->ops);

	if (unlikely(!element))
		return NULL;
	element->owner = NULL;
	element->opcode = OP_INVALID;
	element->qd = -1;
	element->copied = 0;
	element->flags = push->flags & (OP_OURS | OP_END);
	op_copy_segments(&sched->ops, element, push);
	hold_heap_segments(element);
	uint32_t foreign = foreign_segments(element);
	if (unlikely(foreign) && copy_foreign(sched->heap, element, foreign)) {
		element_drop(sched, element);
		return NULL;
	}
	return element;
}

/* The segments become the application's.  What the array's sga_buf is to be: in the same object,
 * and even, not a datagram's (sched/datagram.h). */
static inline void *element_hand_over(struct op *element)
{
	uint32_t ours = op_ours(element) | element->copied;
	char *first = op_segment(element, 0).iov_base;

	for (uint32_t i = 0; i < element->numsegs; i++) {
		if (ours >> i & 1)
			heap_hand_over(op_segment(element, i).iov_base);
	}
	return first - ((uintptr_t)first & 1);
}

/* Through a pop; the element is gone. */
static void element_deliver(struct sched *sched, struct op *element, struct op *pop)
{
	pop->sga_buf = element_hand_over(element);
	op_copy_segments(&sched->ops, pop, element);
	pop->flags |= element->flags & OP_END;
	op_free(&sched->ops, element);
	op_complete(sched, pop, 0);
}

/* ---- pushes ---- */

static bool has_room(const struct memory_queue *mq, struct op *push)
{
	if (mq->copied_bytes == 0)
		return true;
	return !foreign_segments(push) ||
	       mq->copied_bytes + op_bytes(push) <=
		       (uint64_t)mq->queue.sched->config.send_limit_bytes;
}

/* Takes a push up.  0, or -ENOMEM: it is still the caller's. */
static int admit(struct memory_queue *mq, struct op *push)
{
	struct sched *sched = mq->queue.sched;
	struct op *element = element_new(sched, push);

	if (unlikely(!element))
		return -ENOMEM;
	struct op *pop = op_list_take(&sched->ops, &mq->pops);
	if (pop) {
		element_deliver(sched, element, pop);
	} else {
		op_list_append(&sched->ops, &mq->elements, element);
		mq->copied_bytes += copied_bytes(element);
		mq->num_elements++;
	}
	op_complete(sched, push, 0);
	return 0;
}

static int memory_push(struct queue *queue, struct op *op, const struct sockaddr *to,
		       socklen_t length)
{
	struct memory_queue *mq = memory_of(queue);

	(void)length;
	if (to)
		return -ENOTSUP;
	if (likely(op_list_empty(&mq->pushes) && has_room(mq, op)))
		return admit(mq, op);
	hold_segments(op);
	op_list_append(&queue->sched->ops, &mq->pushes, op);
	return 0;
}

/* Room was made: takes waiting pushes up, in order. */
static void admit_waiting(struct memory_queue *mq)
{
	struct sched *sched = mq->queue.sched;
	struct op *push;

	while ((push = op_list_first(&sched->ops, &mq->pushes)) && has_room(mq, push)) {
		op_list_remove(&sched->ops, &mq->pushes, push);
		struct op held = *push; /* the element takes references of its own first */
		push->flags &= (uint8_t)~OP_HELD;
		int err = admit(mq, push);
		release_segments(sched->heap, &held);
		if (err)
			op_complete(sched, push, -err);
	}
}

/* ---- the queue ---- */

/* The oldest element, or NULL. */
static inline struct op *element_take(struct memory_queue *mq)
{
	struct op *element = op_list_take(&mq->queue.sched->ops, &mq->elements);

	if (element) {
		mq->num_elements--;
		mq->copied_bytes -= copied_bytes(element);
	}
	return element;
}

static struct op *memory_take(struct queue *queue)
{
	struct memory_queue *mq = memory_of(queue);
	struct op *element = element_take(mq);

	if (!element)
		return NULL;
	element->sga_buf = element_hand_over(element);
	element->opcode = OP_POP;
	element->state = OP_READY;
	element->flags &= OP_END;
	if (unlikely(!op_list_empty(&mq->pushes)))
		admit_waiting(mq);
	return element;
}

static int memory_pop(struct queue *queue, struct op *op)
{
	struct memory_queue *mq = memory_of(queue);
	struct op *element = element_take(mq);

	if (!element) {
		op_list_append(&queue->sched->ops, &mq->pops, op);
		return 0;
	}
	element_deliver(queue->sched, element, op);
	if (unlikely(!op_list_empty(&mq->pushes)))
		admit_waiting(mq);
	return 0;
}

static void cancel_push(struct memory_queue *mq, struct op *op)
{
	struct sched *sched = mq->queue.sched;

	op_list_remove(&sched->ops, &mq->pushes, op);
	release_segments(sched->heap, op);
	op_complete(sched, op, ECANCELED);
}

static void memory_cancel(struct queue *queue, struct op *op)
{
	struct memory_queue *mq = memory_of(queue);

	if (op->opcode == OP_PUSH) {
		cancel_push(mq, op);
		admit_waiting(mq); /* what stood behind it may fit */
		return;
	}
	op_list_remove(&queue->sched->ops, &mq->pops, op);
	op_complete(queue->sched, op, ECANCELED);
}

static void memory_close(struct queue *queue)
{
	struct memory_queue *mq = memory_of(queue);
	struct sched *sched = queue->sched;
	struct op *op;

	while ((op = op_list_take(&sched->ops, &mq->pops)))
		op_complete(sched, op, ECANCELED);
	while ((op = op_list_first(&sched->ops, &mq->pushes)))
		cancel_push(mq, op);
	while ((op = op_list_take(&sched->ops, &mq->elements))) {
		sched->counters.drops[DROP_ELEMENT]++;
		element_drop(sched, op);
	}
	free(mq);
}

static void memory_describe(struct queue *queue, struct queue_info *info)
{
	const struct memory_queue *mq = memory_of(queue);
	const struct op_slab *ops = &queue->sched->ops;

	*info = (struct queue_info){
		.kind = "memory",
		.state = mq->num_elements > 0 ? "filled" : "empty",
		.held_bytes = mq->copied_bytes,
		.elements = mq->num_elements,
	};
	for (struct op *op = op_list_first(ops, &mq->pops); op; op = op_list_next(ops, op))
		info->pops_pending++;
	for (struct op *op = op_list_first(ops, &mq->pushes); op; op = op_list_next(ops, op))
		info->pushes_pending++;
}

static const struct queue_ops memory_queue_ops = {
	.push = memory_push,
	.pop = memory_pop,
	.take = memory_take,
	.cancel = memory_cancel,
	.close = memory_close,
	.describe = memory_describe,
};

int memory_queue_new(struct sched *sched, struct queue **queue_out)
{
	struct memory_queue *mq = calloc(1, sizeof(*mq));

	if (!mq)
		return -ENOMEM;
	mq->queue =
		(struct queue){.ops = &memory_queue_ops, .sched = sched, .qd = -1, .shows = true};
	op_list_init(&mq->elements);
	op_list_init(&mq->pushes);
	op_list_init(&mq->pops);
	*queue_out = &mq->queue;
	return 0;
}
