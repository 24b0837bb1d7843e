/* SPDX-License-Identifier: MIT
 * queue/derived.c - what all operators that are queues have in common: pops that wait, pushes that
 * wait for pushes of ours, and their end.
 *
 * A push that becomes pushes of ours waits in relayed: its transport member counts those that are
 * out and keeps the first error.  Each of ours knows it by its sga_buf, and by its index the source
 * that it went to.
 */
#include "queue/operator.h"

#include "base/assert.h"

#include <errno.h>

/* ---- pops ---- */

void derived_deliver(struct derived *derived, struct op *element)
{
	struct sched *sched = derived->queue.sched;
	struct op *pop = derived_take_pop(derived);

	op_copy_segments(&sched->ops, pop, element);
	pop->sga_buf = element->sga_buf;
	pop->flags |= element->flags & OP_END;
	op_free(&sched->ops, element);
	op_complete(sched, pop, 0);
}

void derived_deliver_end(struct derived *derived)
{
	struct op *pop = derived_take_pop(derived);

	op_set_segment(pop, NULL, 0);
	pop->flags |= OP_END;
	op_complete(derived->queue.sched, pop, 0);
}

void derived_fail_pop(struct derived *derived, int err)
{
	op_complete(derived->queue.sched, derived_take_pop(derived), err);
}

static void stop_pulling(struct derived *derived)
{
	for (uint32_t i = 0; i < derived->num_pullers; i++) {
		if (unlikely(derived->pullers[i].pending))
			puller_stop(&derived->pullers[i]);
	}
}

static void serve(struct sched *sched, struct task *task)
{
	struct derived *derived = container_of(task, struct puller, task)->owner;

	(void)sched;
	derived->ops->serve(derived);
	if (likely(!derived_waits(derived)))
		stop_pulling(derived);
}

static int derived_pop(struct queue *queue, struct op *op)
{
	struct derived *derived = derived_of(queue);

	if (unlikely(derived->ended))
		return -derived->ended;
	op_list_append(&queue->sched->ops, &derived->pops, op);
	task_run_now(queue->sched, &derived->pullers[0].task);
	return 0;
}

/* ---- pushes ---- */

#define RELAY_ONE   ((uintptr_t)1) /* pushes of ours that are out, below */
#define RELAY_COUNT ((uintptr_t)0xff)
#define RELAY_SHIFT 8 /* the errno */

/* One of ours has ended. */
static void relay_ended(struct derived *derived, const struct op *ours)
{
	struct op *op = ours->sga_buf;
	uintptr_t state = (uintptr_t)op->transport - RELAY_ONE;
	bool value = (ours->flags & OP_VALUE) != 0;

	if (ours->ret && !value && state >> RELAY_SHIFT == 0)
		state |= (uintptr_t)ours->ret << RELAY_SHIFT;
	op->transport = (void *)state;
	if (state & RELAY_COUNT)
		return;
	op_list_remove(&derived->queue.sched->ops, &derived->relayed, op);
	op_complete(derived->queue.sched, op, (int)(state >> RELAY_SHIFT));
	if (value && op->ret == 0) {
		op->ret = ours->ret;
		op->flags |= OP_VALUE;
	}
}

static void settle(struct sched *sched, struct derived *derived)
{
	struct op *ours;

	while ((ours = task_take(&sched->ops, &derived->relay))) {
		relay_ended(derived, ours);
		op_free(&sched->ops, ours);
	}
	task_rest(&derived->relay);
}

static void free_derived(struct sched *sched, struct derived *derived)
{
	task_end(sched, &derived->relay);
	derived->ops->free(derived);
}

static void settle_task(struct sched *sched, struct task *task)
{
	struct derived *derived = container_of(task, struct derived, relay);

	settle(sched, derived);
	if (derived->gone && op_list_empty(&derived->relayed))
		free_derived(sched, derived);
}

/* The instance ends, and what it still waits for with it. */
static void free_lingering(struct sched *sched, struct task *task)
{
	free_derived(sched, container_of(task, struct derived, relay));
}

struct op *derived_issue_push(struct derived *derived)
{
	return task_issue(&derived->queue.sched->ops, &derived->relay, OP_PUSH);
}

int derived_push(struct derived *derived, uint32_t puller, struct op *ours, struct op *op,
		 const struct sockaddr *to, socklen_t length)
{
	ours->sga_buf = op;
	ours->index = puller;
	int err = operator_push(derived->pullers[puller].source, ours, to, length);
	if (err)
		task_withdraw(&derived->queue.sched->ops, &derived->relay, ours);
	return err;
}

void derived_relay(struct derived *derived, struct op *op, uint32_t pushes, int err)
{
	struct sched *sched = derived->queue.sched;

	op->transport = (void *)(((uintptr_t)err << RELAY_SHIFT) + pushes);
	op_list_append(&sched->ops, &derived->relayed, op);
	settle(sched, derived);
}

static int derived_queue_push(struct queue *queue, struct op *op, const struct sockaddr *to,
			      socklen_t length)
{
	struct derived *derived = derived_of(queue);

	return derived->ended ? -derived->ended : derived->ops->push(derived, op, to, length);
}

/* May it still be taken back? */
static bool is_waiting_push(const struct op *op)
{
	return op->token != 0 && op->state == OP_PENDING && op->opcode == OP_PUSH &&
	       !(op->flags & OP_STARTED);
}

/* Cancels pushes of ours: those that op waits for, or all (NULL). */
static void cancel_ours(struct derived *derived, const struct op *op)
{
	const struct sched *sched = derived->queue.sched;

	for (uint32_t slot = 0; slot < sched->ops.fresh; slot++) {
		struct op *at = &sched->ops.ops[slot];
		if (at->owner != &derived->relay.waits || !is_waiting_push(at) ||
		    (op && at->sga_buf != op))
			continue;
		struct queue *source = derived->pullers[at->index].source;
		source->ops->cancel(source, at);
	}
	settle(derived->queue.sched, derived);
}

/* The same for those that the source has as they were pushed here. */
static void cancel_passed(struct derived *derived)
{
	const struct sched *sched = derived->queue.sched;
	struct queue *source = derived->pullers[0].source;

	for (uint32_t slot = 0; derived->queue.qd >= 0 && slot < sched->ops.fresh; slot++) {
		struct op *at = &sched->ops.ops[slot];
		if (at->qd != derived->queue.qd || !is_waiting_push(at))
			continue;
		source->ops->cancel(source, at);
		if (!op_done(at))
			at->flags |= OP_STARTED;
	}
}

/* It ends, and so do pushes that wait.  Those that go on are nobody's to cancel: their descriptor
 * may soon be another queue's. */
static void end_pushes(struct derived *derived)
{
	const struct op_slab *ops = &derived->queue.sched->ops;

	if (!derived->ops->relays)
		cancel_passed(derived);
	cancel_ours(derived, NULL);
	for (struct op *op = op_list_first(ops, &derived->relayed); op; op = op_list_next(ops, op))
		op->flags |= OP_STARTED;
}

/* A push into an operator that has not ended. */
static void cancel_push(struct derived *derived, struct op *op)
{
	struct queue *source = derived->pullers[0].source;

	if (derived->ops->relays)
		cancel_ours(derived, op);
	else
		source->ops->cancel(source, op);
}

static void derived_cancel(struct queue *queue, struct op *op)
{
	struct derived *derived = derived_of(queue);
	struct sched *sched = queue->sched;

	if (op->opcode == OP_PUSH) {
		if (!derived->ended)
			cancel_push(derived, op);
		return;
	}
	op_list_remove(&sched->ops, &derived->pops, op);
	op_complete(sched, op, ECANCELED);
	if (!derived_waits(derived))
		stop_pulling(derived);
}

/* ---- life ---- */

static uint8_t depth_over(const struct queue *source, const struct queue *second)
{
	uint8_t depth = source->depth;

	if (second && second->depth > depth)
		depth = second->depth;
	return depth + 1;
}

int derived_open(struct derived *derived, const struct operator_ops *ops, struct queue *source,
		 struct queue *second)
{
	struct queue *const sources[OPERATOR_SOURCES] = {source, second};

	derived->ops = ops;
	derived->queue = (struct queue){
		.ops = &derived_queue_ops,
		.sched = source->sched,
		.qd = -1,
		.depth = depth_over(source, second),
	};
	if (derived->queue.depth > OPERATOR_DEPTH_MAX)
		return -ELOOP;
	op_list_init(&derived->pops);
	op_list_init(&derived->relayed);
	task_init(&derived->relay, settle_task);
	for (uint32_t i = 0; i < OPERATOR_SOURCES && sources[i]; i++) {
		int err = puller_attach(&derived->pullers[i], sources[i], derived, serve);
		if (err) {
			if (i > 0)
				puller_detach(&derived->pullers[0]);
			return err;
		}
		derived->num_pullers++;
	}
	return 0;
}

void derived_end(struct derived *derived, int err)
{
	if (derived->ended)
		return;
	queue_tell_users(&derived->queue);
	end_pushes(derived);
	derived->ended = err;
	if (derived->ops->end)
		derived->ops->end(derived);
	for (uint32_t i = 0; i < derived->num_pullers; i++)
		puller_detach(&derived->pullers[i]);
	while (derived_waits(derived))
		derived_fail_pop(derived, err);
}

static void derived_close(struct queue *queue)
{
	struct derived *derived = derived_of(queue);

	derived_end(derived, ECANCELED);
	derived->gone = true;
	if (op_list_empty(&derived->relayed))
		free_derived(queue->sched, derived);
	else
		task_linger(queue->sched, &derived->relay, free_lingering);
}

static void derived_describe(struct queue *queue, struct queue_info *info)
{
	struct derived *derived = derived_of(queue);

	*info = (struct queue_info){
		.kind = derived->ops->kind,
		.state = derived->ended ? "ended" : "open",
		.pops_pending = op_list_length(&queue->sched->ops, &derived->pops),
		.pushes_pending = op_list_length(&queue->sched->ops, &derived->relayed),
	};
	if (derived->ops->held)
		derived->ops->held(derived, &info->elements, &info->held_bytes);
	if (derived->ops->tell)
		derived->ops->tell(derived, info);
}

const struct queue_ops derived_queue_ops = {
	.push = derived_queue_push,
	.pop = derived_pop,
	.take = queue_take_none,
	.cancel = derived_cancel,
	.close = derived_close,
	.describe = derived_describe,
};
