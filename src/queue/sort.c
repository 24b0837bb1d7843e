/* SPDX-License-Identifier: MIT
 * queue/sort.c - a queue that pops the first, by the application's order, of what has arrived.
 *
 * It takes elements up to its depth while a pop waits: a binary heap; equal ones in the order in
 * which they came.  What ends the source is told when nothing is left.
 *
 * Invariant: no element comes before the one above it in the heap.
 */
#include "queue/operator.h"

#include <errno.h>
#include <stdlib.h>

struct sorted {
	struct op *element;
	uint64_t came;
};

struct sort {
	struct derived derived;
	struct operator_call call;
	uint64_t came;
	int err;        /* what the source's last pop failed with, untold; 0 */
	struct op *end; /* of its stream; NULL */
	uint32_t depth;
	uint32_t count;
	struct sorted heap[];
};

static struct sort *sort_of(struct derived *derived)
{
	return container_of(derived, struct sort, derived);
}

static bool before(const struct sort *sort, const struct sorted *a, const struct sorted *b)
{
	int order =
		sort->call.compare(&sort->call, sort->derived.queue.sched, a->element, b->element);

	return order ? order < 0 : a->came < b->came;
}

static void put(struct sort *sort, struct op *element)
{
	struct sorted entry = {.element = element, .came = sort->came++};
	uint32_t i = sort->count++;

	while (i > 0 && before(sort, &entry, &sort->heap[(i - 1) / 2])) {
		sort->heap[i] = sort->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	sort->heap[i] = entry;
}

static struct op *take(struct sort *sort)
{
	struct op *first = sort->heap[0].element;
	struct sorted last = sort->heap[--sort->count];
	uint32_t i = 0;

	for (uint32_t child = 1; child < sort->count; child = 2 * i + 1) {
		if (child + 1 < sort->count &&
		    before(sort, &sort->heap[child + 1], &sort->heap[child]))
			child++;
		if (!before(sort, &sort->heap[child], &last))
			break;
		sort->heap[i] = sort->heap[child];
		i = child;
	}
	sort->heap[i] = last;
	return first;
}

/* Takes what has arrived. */
static void fill(struct sort *sort)
{
	struct op *element;

	while (sort->count < sort->depth && !sort->err && !sort->end) {
		int err = sort->count > 0 ? puller_look(&sort->derived.pullers[0], &element)
					  : puller_pull(&sort->derived.pullers[0], &element);
		if (err == -EAGAIN)
			return;
		if (err)
			sort->err = -err;
		else if (element->flags & OP_END)
			sort->end = element;
		else
			put(sort, element);
	}
}

static void serve(struct derived *derived)
{
	struct sort *sort = sort_of(derived);

	while (derived_waits(derived)) {
		fill(sort);
		if (sort->count > 0) {
			derived_deliver(derived, take(sort));
		} else if (sort->err) {
			derived_fail_pop(derived, sort->err);
			sort->err = 0;
		} else if (sort->end) {
			derived_deliver(derived, sort->end);
			sort->end = NULL;
		} else {
			return;
		}
	}
}

static int push(struct derived *derived, struct op *op, const struct sockaddr *to, socklen_t length)
{
	return operator_push(derived->pullers[0].source, op, to, length);
}

static void free_sort(struct derived *derived)
{
	struct sort *sort = sort_of(derived);
	struct sched *sched = derived->queue.sched;

	sched->counters.drops[DROP_ELEMENT] += sort->count;
	for (uint32_t i = 0; i < sort->count; i++)
		op_drop_element(sched, sort->heap[i].element);
	if (sort->end)
		op_drop_element(sched, sort->end);
	free(sort);
}

static void held(struct derived *derived, uint32_t *elements, uint64_t *bytes)
{
	const struct sort *sort = sort_of(derived);

	*elements = sort->count;
	*bytes = 0;
	for (uint32_t i = 0; i < sort->count; i++)
		*bytes += op_bytes(sort->heap[i].element);
}

static const struct operator_ops sort_ops = {
	.kind = "sort",
	.serve = serve,
	.push = push,
	.free = free_sort,
	.held = held,
};

int sort_new(struct queue *source, const struct operator_call *call, uint32_t depth,
	     struct queue **queue_out)
{
	struct sort *sort = calloc(1, sizeof(*sort) + depth * sizeof(sort->heap[0]));

	if (!sort)
		return -ENOMEM;
	sort->call = *call;
	sort->depth = depth;
	int err = derived_open(&sort->derived, &sort_ops, source, NULL);
	if (err) {
		free(sort);
		return err;
	}
	*queue_out = &sort->derived.queue;
	return 0;
}
