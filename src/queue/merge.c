/* SPDX-License-Identifier: MIT
 * queue/merge.c - two queues as one: a pop takes from whichever has an element, in turns where both
 * have; a push goes to both.
 *
 * A source that has ended, or whose pop has failed, is over: the failure is told once, the end when
 * both are over.
 */
#include "queue/operator.h"

#include <errno.h>
#include <stdlib.h>

struct merge {
	struct derived derived;
	uint32_t turn;               /* which is asked first */
	bool over[OPERATOR_SOURCES]; /* nothing comes of it any more */
};

static struct merge *merge_of(struct derived *derived)
{
	return container_of(derived, struct merge, derived);
}

/* Serves one pop from a source.  Could it?  waits: begins to wait there. */
static bool serve_from(struct merge *merge, uint32_t i, bool waits)
{
	struct derived *derived = &merge->derived;
	struct op *element;

	if (merge->over[i])
		return false;
	int err = waits ? puller_pull(&derived->pullers[i], &element)
			: puller_look(&derived->pullers[i], &element);
	if (err == -EAGAIN)
		return false;
	if (err) {
		merge->over[i] = true;
		derived_fail_pop(derived, -err);
		return true;
	}
	if (element->flags & OP_END) {
		merge->over[i] = true;
		op_free(&derived->queue.sched->ops, element);
		return false;
	}
	merge->turn = 1 - i;
	derived_deliver(derived, element);
	return true;
}

static void serve(struct derived *derived)
{
	struct merge *merge = merge_of(derived);

	while (derived_waits(derived)) {
		uint32_t first = merge->turn;
		if (serve_from(merge, first, false) || serve_from(merge, 1 - first, false) ||
		    serve_from(merge, first, true) || serve_from(merge, 1 - first, true))
			continue;
		if (!merge->over[0] || !merge->over[1])
			return;
		derived_deliver_end(derived);
	}
}

/* One of two pushes.  0, it is out, or -errno. */
static int push_to(struct derived *derived, uint32_t i, struct op *op, const struct sockaddr *to,
		   socklen_t length)
{
	struct op *ours = derived_issue_push(derived);

	if (!ours)
		return -ENOMEM;
	op_copy_segments(&derived->queue.sched->ops, ours, op);
	ours->flags |= op->flags & (OP_OURS | OP_END);
	return derived_push(derived, i, ours, op, to, length);
}

static int push(struct derived *derived, struct op *op, const struct sockaddr *to, socklen_t length)
{
	int one = push_to(derived, 0, op, to, length);
	int other = push_to(derived, 1, op, to, length);

	if (one && other)
		return one;
	derived_relay(derived, op, (one == 0) + (other == 0), one ? -one : -other);
	return 0;
}

static void free_merge(struct derived *derived)
{
	free(merge_of(derived));
}

static const struct operator_ops merge_ops = {
	.kind = "merge",
	.relays = true,
	.serve = serve,
	.push = push,
	.free = free_merge,
};

int merge_new(struct queue *one, struct queue *other, struct queue **queue_out)
{
	struct merge *merge = calloc(1, sizeof(*merge));

	if (!merge)
		return -ENOMEM;
	int err = derived_open(&merge->derived, &merge_ops, one, other);
	if (err) {
		free(merge);
		return err;
	}
	*queue_out = &merge->derived.queue;
	return 0;
}
