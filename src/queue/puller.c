/* SPDX-License-Identifier: MIT
 * queue/puller.c - who owns a queue's pops, and how elements come up through stages.
 */
#include "queue/operator.h"

#include <errno.h>

/* The stage that a queue is, or NULL: one that has ended stands on nothing. */
static struct derived *stage_of(struct queue *queue)
{
	if (queue->ops != &derived_queue_ops)
		return NULL;
	struct derived *derived = derived_of(queue);
	return derived->ops->pass && !derived->ended ? derived : NULL;
}

int puller_attach(struct puller *puller, struct queue *source, struct derived *owner,
		  void (*run)(struct sched *sched, struct task *task))
{
	struct derived *stage = stage_of(source);

	if (source->owned)
		return -EBUSY;
	*puller = (struct puller){
		.owner = owner,
		.source = source,
		.root = stage ? stage->pullers[0].root : source,
		.top = owner && owner->ops->pass ? &owner->queue : source,
	};
	task_init(&puller->task, run);
	source->owned = true;
	source->above = owner;
	return 0;
}

/* Takes the pop that is complete out of its list. */
static struct op *take_out(struct puller *puller)
{
	struct op *op = puller->pending;

	puller->pending = NULL;
	task_take_this(&puller->source->sched->ops, &puller->task, op);
	return op;
}

void puller_keep(struct puller *puller)
{
	if (puller->pending && op_done(puller->pending))
		puller->kept = take_out(puller);
}

void puller_stop(struct puller *puller)
{
	if (!puller->pending)
		return;
	if (!op_done(puller->pending) && !puller->stopped) {
		puller->stopped = true;
		puller->root->ops->cancel(puller->root, puller->pending);
	}
	puller_keep(puller);
	if (puller->kept && puller->stopped && puller->kept->ret == ECANCELED) {
		op_free(&puller->source->sched->ops, puller->kept);
		puller->kept = NULL;
	}
}

void puller_detach(struct puller *puller)
{
	if (!puller->source)
		return;
	struct sched *sched = puller->source->sched;
	puller_stop(puller);
	if (puller->kept) {
		sched->counters.drops[DROP_ELEMENT] += puller->kept->ret == 0;
		op_drop_element(sched, puller->kept);
		puller->kept = NULL;
	}
	task_end(sched, &puller->task);
	puller->pending = NULL;
	puller->source->owned = false;
	puller->source->above = NULL;
	puller->source = NULL;
}

/* Has a pop outstanding.  0 or -errno. */
static int issue(struct puller *puller)
{
	struct sched *sched = puller->source->sched;
	struct op *op = task_issue(&sched->ops, &puller->task, OP_POP);

	if (unlikely(!op))
		return -ENOMEM;
	int err = puller->root->ops->pop(puller->root, op);
	if (unlikely(err)) {
		task_withdraw(&sched->ops, &puller->task, op);
		return err;
	}
	puller->pending = op;
	puller->stopped = false;
	return 0;
}

/* Up to who pulls.  1, 0: it was dropped, or -errno: dropped, too. */
static int pass_stages(struct sched *sched, const struct puller *puller, struct op *element)
{
	const struct queue *at = puller->root;
	int passes = 1;

	while (passes > 0 && at != puller->top) {
		struct derived *stage = at->above;
		passes = stage->ops->pass(stage, element);
		at = &stage->queue;
	}
	if (passes <= 0)
		op_drop_element(sched, element);
	return passes;
}

/* What a complete pop has brought: an element, or NULL and -errno. */
static struct op *examine(struct puller *puller, struct op *op, int *err)
{
	if (likely(op->ret == 0)) {
		if (unlikely(puller->root->ends && op->numsegs == 1 && !op->buf))
			op->flags |= OP_END;
		return op;
	}
	*err = -(int)op->ret;
	op_free(&puller->source->sched->ops, op);
	return NULL;
}

/* What the root has, or brings at once; NULL and -errno, -EAGAIN: nothing yet.  looks: asks for
 * nothing where it can see that nothing is there. */
static struct op *next_element(struct puller *puller, bool looks, int *err)
{
	struct op *op = puller->kept;

	*err = 0;
	if (unlikely(op)) {
		puller->kept = NULL;
		return examine(puller, op, err);
	}
	if (!puller->pending) {
		op = puller->root->ops->take(puller->root);
		if (op)
			return op;
		*err = looks && puller->root->shows ? -EAGAIN : issue(puller);
		if (*err)
			return NULL;
	}
	if (op_done(puller->pending))
		return examine(puller, take_out(puller), err);
	*err = -EAGAIN;
	return NULL;
}

static inline int pull(struct puller *puller, bool looks, struct op **element_out)
{
	struct sched *sched = puller->source->sched;

	for (uint32_t i = 0; i < OPERATOR_PULLS; i++) {
		int err;
		struct op *element = next_element(puller, looks, &err);
		if (element && likely(!(element->flags & OP_END))) {
			int passes = pass_stages(sched, puller, element);
			err = passes < 0 ? passes : 0;
			if (passes <= 0)
				element = NULL;
		}
		if (element || err) {
			*element_out = element;
			return err;
		}
	}
	task_wake(sched, &puller->task);
	return -EAGAIN;
}

int puller_pull(struct puller *puller, struct op **element_out)
{
	return pull(puller, false, element_out);
}

int puller_look(struct puller *puller, struct op **element_out)
{
	return pull(puller, true, element_out);
}
