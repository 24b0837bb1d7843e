/* SPDX-License-Identifier: MIT
 * sched/task.h - background work of the library: a function that the poll turn calls when an
 * operation that it issued has completed.
 *
 * A task owns its operations by a waitset without a coroutine: their tokens are nobody else's, no
 * wait finds them.  An operation that completes, in whatever layer, only puts the task into the
 * list of those that are due; it runs behind the input of the poll turn, or in a call of the
 * application, never inside a back end, nor inside another task.
 *
 * Invariant: a task is in sched->due if and only if it is due; waits.blocked: neither due nor
 * running.
 */
#pragma once

#include "sched/wait.h"

#include "base/list.h"

struct sched;

struct task {
	struct waitset waits;
	struct list node; /* of sched->due, or in no list */
	void (*run)(struct sched *sched, struct task *task);
	struct list lingering; /* of sched->lingering, or in no list */
	void (*free)(struct sched *sched, struct task *task);
};

#define TASK_RUNS 256 /* of all tasks in a turn: others have theirs, too */

/* The scheduler's part: no task is due. */
void tasks_open(struct sched *sched);
void tasks_close(struct sched *sched);

void task_init(struct task *task, void (*run)(struct sched *sched, struct task *task));

/* Has it run in this turn or the next. */
void task_wake(struct sched *sched, struct task *task);

/* It has seen to everything: it is not due any more. */
static inline void task_rest(struct task *task)
{
	if (!list_empty(&task->node)) {
		list_remove(&task->node);
		task->waits.blocked = true;
	}
}

/* Runs it now, and whatever that makes due: a call of the application may take what is there
 * already.  While a task runs, it is due only. */
void task_run_now(struct sched *sched, struct task *task);

/* What the turn does: runs those that are due, at most TASK_RUNS times.  How many ran. */
uint32_t tasks_run(struct sched *sched);

/* Keeps a task that nobody else has: free is called when the instance ends, unless it ends first.
 */
void task_linger(struct sched *sched, struct task *task,
		 void (*free)(struct sched *sched, struct task *task));

/* Ends a task, which may be the one that runs: what it issued and has not taken is nobody's from
 * now on. Elements that pops bring are dropped and counted. */
void task_end(struct sched *sched, struct task *task);

/* Frees what a complete pop brought, and the operation. */
void op_drop_element(struct sched *sched, struct op *op);

/* ---- a task's operations ---- */

/* One that is pending, in no list; NULL: the bound is reached.  Its descriptor is none, so that no
 * token that somebody guesses leads to it. */
static inline struct op *task_issue(struct op_slab *ops, struct task *task, enum op_code opcode)
{
	struct op *op = op_alloc(ops);

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

/* One that never was: nobody has it. */
static inline void task_withdraw(struct op_slab *ops, struct task *task, struct op *op)
{
	task->waits.issued--;
	op_free(ops, op);
}

/* Takes a complete one out; it is the caller's to free. */
static inline void task_take_this(struct op_slab *ops, struct task *task, struct op *op)
{
	op_list_remove(ops, &task->waits.ready, op);
	task->waits.count--;
	task->waits.issued--;
}

/* The one that completed first; NULL: none. */
static inline struct op *task_take(struct op_slab *ops, struct task *task)
{
	struct op *op = op_list_first(ops, &task->waits.ready);

	if (op)
		task_take_this(ops, task, op);
	return op;
}
