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
	list_init(&task->lingering);
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
	sched->running = task;
	task->run(sched, task);
	if (sched->running != task)
		return; /* it has ended */
	sched->running = NULL;
	if (unlikely(task->waits.count > 0))
		task_wake(sched, task);
	else if (likely(list_empty(&task->node)))
		task->waits.blocked = true;
}

uint32_t tasks_run(struct sched *sched)
{
	uint32_t runs = 0;

	while (runs < TASK_RUNS && !list_empty(&sched->due) && !sched->running) {
		struct task *task = container_of(sched->due.next, struct task, node);
		list_remove(&task->node);
		run(sched, task);
		runs++;
	}
	return runs;
}

void task_run_now(struct sched *sched, struct task *task)
{
	if (sched->running) {
		task_wake(sched, task);
		return;
	}
	if (unlikely(!list_empty(&task->node)))
		list_remove(&task->node);
	run(sched, task);
	if (unlikely(!list_empty(&sched->due)))
		(void)tasks_run(sched);
}

void op_drop_element(struct sched *sched, struct op *op)
{
	uint32_t count = op->opcode == OP_POP && op->ret == 0 ? op->numsegs : 0;

	for (uint32_t i = 0; i < count; i++)
		(void)heap_free_inside(sched->heap, op_segment(op, i).iov_base);
	op_free(&sched->ops, op);
}

/* What operations of ended tasks come to. */
static void forget(struct sched *sched, struct task *task)
{
	struct op *op;

	while ((op = task_take(&sched->ops, task))) {
		if (op->opcode == OP_POP && op->ret == 0)
			sched->counters.drops[DROP_ELEMENT]++;
		op_drop_element(sched, op);
	}
}

void tasks_open(struct sched *sched)
{
	list_init(&sched->due);
	list_init(&sched->lingering);
	task_init(&sched->nobody, forget);
}

void tasks_close(struct sched *sched)
{
	list_for_each_safe (node, after, &sched->lingering) {
		struct task *task = container_of(node, struct task, lingering);
		task->free(sched, task);
	}
}

void task_linger(struct sched *sched, struct task *task,
		 void (*free)(struct sched *sched, struct task *task))
{
	task->free = free;
	list_append(&sched->lingering, &task->lingering);
}

void task_end(struct sched *sched, struct task *task)
{
	if (sched->running == task)
		sched->running = NULL;
	list_remove(&task->node);
	list_remove(&task->lingering);
	waitset_give_all(sched, &task->waits, &sched->nobody.waits);
}
