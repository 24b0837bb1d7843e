/* SPDX-License-Identifier: MIT */
#include "sched/task.h"

#include "base/assert.h"
#include "sched/sched.h"

void task_init(struct task *task, void (*run)(struct sched *sched, struct task *task))
{
	*task = (struct task){.run = run};
	waitset_init(&task->waits, NULL);
	task->waits.blocked = true;
	task->waits.want = 1;
	list_init(&task->node);
}

void task_wake(struct sched *sched, struct task *task)
{
	task->waits.blocked = false;
	if (list_empty(&task->node))
		list_append(&sched->due, &task->node);
}

/* Of a task that is in no list. */
static void run(struct sched *sched, struct task *task)
{
	task->waits.blocked = false;
	task->running = true;
	task->run(sched, task);
	task->running = false;
	if (task->waits.count > 0)
		task_wake(sched, task);
	else if (list_empty(&task->node))
		task->waits.blocked = true;
}

void task_run_now(struct sched *sched, struct task *task)
{
	if (task->running)
		return;
	list_remove(&task->node);
	run(sched, task);
}

uint32_t tasks_run(struct sched *sched)
{
	uint32_t runs = 0;

	while (runs < TASK_RUNS && !list_empty(&sched->due)) {
		struct task *task = container_of(sched->due.next, struct task, node);
		list_remove(&task->node);
		run(sched, task);
		runs++;
	}
	return runs;
}

struct op *task_issue(struct sched *sched, struct task *task, enum op_code opcode)
{
	struct op *op = op_alloc(&sched->ops);

	if (unlikely(!op))
		return NULL;
	op->opcode = (uint8_t)opcode;
	op->qd = -1;
	op->owner = &task->waits;
	op->index = 0;
	op->len = 0;
	task->waits.issued++;
	return op;
}

void task_take_this(struct sched *sched, struct task *task, struct op *op)
{
	op_list_remove(&sched->ops, &task->waits.ready, op);
	task->waits.count--;
	task->waits.issued--;
}

struct op *task_take(struct sched *sched, struct task *task)
{
	struct op *op = op_list_first(&sched->ops, &task->waits.ready);

	if (op)
		task_take_this(sched, task, op);
	return op;
}

void task_withdraw(struct sched *sched, struct task *task, struct op *op)
{
	task->waits.issued--;
	op_free(&sched->ops, op);
}

void op_drop_element(struct sched *sched, struct op *op)
{
	struct iovec one;
	const struct iovec *iov = op_vector(op, &one);

	for (uint32_t i = 0; i < op->numsegs && op->opcode == OP_POP && op->ret == 0; i++)
		(void)heap_free_inside(sched->heap, iov[i].iov_base);
	op_free(&sched->ops, op);
}

/* What operations of ended tasks come to. */
static void forget(struct sched *sched, struct task *task)
{
	struct op *op;

	while ((op = task_take(sched, task))) {
		if (op->opcode == OP_POP && op->ret == 0)
			sched->counters.drops[DROP_ELEMENT]++;
		op_drop_element(sched, op);
	}
}

void tasks_open(struct sched *sched)
{
	list_init(&sched->due);
	task_init(&sched->nobody, forget);
}

void task_end(struct sched *sched, struct task *task)
{
	ASSERT(!task->running);
	list_remove(&task->node);
	waitset_give_all(sched, &task->waits, &sched->nobody.waits);
}
