/* SPDX-License-Identifier: MIT
 * queue/stage.c - filters and maps: operators that look at each element as it passes.
 *
 * A map owns what its function is given, on the way down too: each segment is under a reference of
 * the application's, which the function may give up for another segment's.
 */
#include "queue/operator.h"

#include "sched/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct stage {
	struct derived derived;
	struct operator_call call;
};

static struct stage *stage_of(struct derived *derived)
{
	return container_of(derived, struct stage, derived);
}

void stage_serve(struct derived *derived)
{
	struct op *element;

	while (derived_waits(derived)) {
		int err = puller_pull(&derived->pullers[0], &element);
		if (err == -EAGAIN)
			return;
		if (err)
			derived_fail_pop(derived, -err);
		else
			derived_deliver(derived, element);
	}
}

static void free_stage(struct derived *derived)
{
	free(stage_of(derived));
}

static int pass(struct derived *derived, struct op *element)
{
	const struct operator_call *call = &stage_of(derived)->call;

	return call->apply(call, derived->queue.sched, element);
}

/* ---- filter ---- */

static int filter_push(struct derived *derived, struct op *op, const struct sockaddr *to,
		       socklen_t length)
{
	if (likely(!(op->flags & OP_END)) && pass(derived, op) == 0) {
		op_complete(derived->queue.sched, op, EPERM);
		return 0;
	}
	return operator_push(derived->pullers[0].source, op, to, length);
}

static const struct operator_ops filter_ops = {
	.kind = "filter",
	.pass = pass,
	.serve = stage_serve,
	.push = filter_push,
	.free = free_stage,
};

/* ---- map ---- */

static int map_pass(struct derived *derived, struct op *element)
{
	int err = pass(derived, element);

	return err ? err : 1;
}

static void drop_references(struct heap *heap, const struct iovec *iov, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		(void)heap_free_inside(heap, iov[i].iov_base);
}

/* Gives each segment a reference of the application's: foreign memory is copied for that, so all of
 * them lie in the heap then.  0 or -ENOMEM. */
static int own_segments(struct heap *heap, struct op *ours)
{
	uint32_t in_heap = op_ours(ours);

	for (uint32_t i = 0; i < ours->numsegs; i++) {
		struct iovec segment = op_segment(ours, i);
		if (in_heap >> i & 1) {
			heap_ref_library(segment.iov_base);
			heap_hand_over(segment.iov_base);
			continue;
		}
		char *copy = heap_alloc(heap, segment.iov_len ? segment.iov_len : 1);
		if (!copy) {
			while (i > 0)
				(void)heap_free_inside(heap, op_segment(ours, --i).iov_base);
			ours->numsegs = 0;
			return -ENOMEM;
		}
		memcpy(copy, segment.iov_base, segment.iov_len);
		op_move_segment(ours, i, copy);
	}
	if (ours->numsegs > 1)
		ours->len = (1U << ours->numsegs) - 1;
	else
		ours->flags |= OP_OURS;
	return 0;
}

/* Applies the function to a push of ours.  The references are the caller's to drop, after an error
 * too. */
static int transform(struct derived *derived, struct op *ours, const struct op *op)
{
	struct sched *sched = derived->queue.sched;

	op_copy_segments(&sched->ops, ours, op);
	ours->flags |= op->flags & (OP_OURS | OP_END);
	if (op->flags & OP_END)
		return 0;
	int err = own_segments(sched->heap, ours);
	return err ? err : pass(derived, ours);
}

static int map_push(struct derived *derived, struct op *op, const struct sockaddr *to,
		    socklen_t length)
{
	struct sched *sched = derived->queue.sched;
	struct op *ours = derived_issue_push(derived);
	struct iovec iov[OP_SEGMENTS_MAX];
	struct iovec one;

	if (!ours)
		return -ENOMEM;
	int err = transform(derived, ours, op);
	uint32_t count = op->flags & OP_END ? 0 : ours->numsegs;
	memcpy(iov, op_vector(ours, &one), count * sizeof(*iov));
	if (err)
		task_withdraw(&sched->ops, &derived->relay, ours);
	else
		err = derived_push(derived, 0, ours, op, to, length);
	drop_references(sched->heap, iov, count); /* the source has its own */
	if (!err)
		derived_relay(derived, op, 1, 0);
	return err;
}

static const struct operator_ops map_ops = {
	.kind = "map",
	.relays = true,
	.pass = map_pass,
	.serve = stage_serve,
	.push = map_push,
	.free = free_stage,
};

/* ---- life ---- */

static int stage_new(const struct operator_ops *ops, struct queue *source,
		     const struct operator_call *call, struct queue **queue_out)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	if (!stage)
		return -ENOMEM;
	stage->call = *call;
	int err = derived_open(&stage->derived, ops, source, NULL);
	if (err) {
		free(stage);
		return err;
	}
	*queue_out = &stage->derived.queue;
	return 0;
}

int filter_new(struct queue *source, const struct operator_call *call, struct queue **queue_out)
{
	return stage_new(&filter_ops, source, call, queue_out);
}

int map_new(struct queue *source, const struct operator_call *call, struct queue **queue_out)
{
	return stage_new(&map_ops, source, call, queue_out);
}
