/* SPDX-License-Identifier: MIT
 * sched/task.h - background work of the library: a function that the poll turn calls when an
 * operation that it issued has completed.
 *
 * A task owns its operations by a waitset without a coroutine: their tokens are nobody else's, no
 * wait finds them.  An operation that completes, in whatever layer, only puts the task into the
 * list of those that are due; it runs behind the input of the poll turn, or in a call of the
 * application, never inside a back end.
 *
 * Invariant: a task is in sched->due if and only if it is due; waits.blocked == neither due nor
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
	bool running;
};

#define TASK_RUNS 256 /* of all tasks in a turn: others have theirs, too */

/* The scheduler's part: no task is due. */
void tasks_open(struct sched *sched);

void task_init(struct task *task, void (*run)(struct sched *sched, struct task *task));

/* Has it run in this turn or the next. */
void task_wake(struct sched *sched, struct task *task);

/* Runs it now, unless it is running: a call of the application may take what is there already. */
void task_run_now(struct sched *sched, struct task *task);

/* What the turn does: runs those that are due, at most TASK_RUNS times.  How many ran. */
uint32_t tasks_run(struct sched *sched);

/* An operation of the task's, pending, in no list; NULL: the bound is reached.  Its descriptor is
 * none, so that no token that somebody guesses leads to it. */
struct op *task_issue(struct sched *sched, struct task *task, enum op_code opcode);

/* The oldest of its complete operations, which is the caller's to free; NULL: none. */
struct op *task_take(struct sched *sched, struct task *task);

/* A complete one of its operations, wherever it stands. */
void task_take_this(struct sched *sched, struct task *task, struct op *op);

/* One that it issued and that never was: nobody has it. */
void task_withdraw(struct sched *sched, struct task *task, struct op *op);

/* Ends a task that is not running: what it issued and has not taken is nobody's from now on.
 * Elements that pops bring are dropped and counted. */
void task_end(struct sched *sched, struct task *task);

/* Frees what a complete pop brought, and the operation. */
void op_drop_element(struct sched *sched, struct op *op);
