/* SPDX-License-Identifier: MIT
 * sched/wait.h - completing operations and waiting for them.
 *
 * A waitset belongs to one coroutine (coroutine 0 is the application's own thread), or to a task of
 * the library (sched/task.h), and owns the operations that it issues: its complete and unredeemed
 * ones stand in two lists, oldest first. ready: not yet looked at, or in the array of the last
 * wait_any.  parked: known to be absent from the array of the last full pass.
 *
 * wait_any costs O(ready).  Each operation carries a guess of its index in the caller's array,
 * verified by comparing; a new operation inherits the index of the one returned last, since that is
 * where the caller puts its token.  A guess that fails costs one full pass over the array, which
 * checks every token, rewrites all guesses and adopts operations of other coroutines.  Passes are
 * also made on every call for arrays of up to WAIT_SMALL tokens, before the first sleep, and once
 * in as many calls as the array is long while something is parked or a poll finds nothing.
 *
 * A policy (struct wait_policy) orders what wait_next takes: it looks at each complete operation
 * once, moves it from ready to parked or, if it is a long request, to long_ones, and these are
 * taken last and only while more than the reserved places are left.  wait_any takes them as it
 * takes parked ones.
 *
 * An operation that a coroutine is blocked on alone (awaited) is handed over as it completes: it
 * goes through no list, and no other wait can take it, because it is OP_AWAITED.
 *
 * Invariant: count == length(ready) + length(parked) + length(long_ones); each operation there has
 * owner == this waitset.
 */
#pragma once

#include "sched/op.h"

#include <stdbool.h>
#include <stdint.h>

#define WAIT_SMALL   16
#define WAIT_FOREVER UINT64_MAX
#define WAIT_POLL    0 /* a deadline in the past: one poll turn */

struct coroutine;
struct sched;

struct waitset {
	struct op_list ready;
	struct op_list parked;
	struct op_list long_ones;
	struct coroutine *coroutine; /* NULL: a task's */
	uint32_t count;
	uint32_t issued;     /* operations owned, pending ones too */
	uint32_t last_index; /* of the operation returned last */
	uint32_t unpassed;   /* calls of wait_any since the last full pass */
	uint32_t want;       /* blocked: wake when count reaches it */
	uint64_t awaited; /* blocked: for this token only, whose operation comes in no list; 0: any
			   */
	const uint64_t *tokens; /* blocked in wait_any: the array */
	uint32_t num_tokens;
	bool blocked;
	bool woken;
};

/* How the results of wait_next are ordered.  is_long NULL: in order of completion. */
struct wait_policy {
	bool (*is_long)(struct sched *sched, const struct op *op);
	uint32_t reserved; /* places of a call that long requests do not get */
};

void waitset_init(struct waitset *ws, struct coroutine *co);

/* Moves all operations of a coroutine that ends, pending ones as they complete. */
void waitset_give_all(struct sched *sched, struct waitset *from, struct waitset *to);

/* Ends a pending operation that is in no list: err is 0 or a positive errno. */
void op_complete(struct sched *sched, struct op *op, int err);

/* All wait for operations of the running coroutine's waitset.  deadline_ns: in the instance's time,
 * WAIT_FOREVER or WAIT_POLL.  0 or -ETIMEDOUT, -EINVAL, -EBUSY.  The operation returned is in no
 * list; the caller reads it and frees it. */
int wait_one(struct sched *sched, uint64_t token, uint64_t deadline_ns, struct op **op_out);
int wait_any(struct sched *sched, const uint64_t *tokens, uint32_t count, uint64_t deadline_ns,
	     struct op **op_out, uint32_t *index_out);
/* Waits until want results are there, with a policy until there is one that it lets pass (or the
 * deadline passes: -ETIMEDOUT); wait_next_take takes them one by one, left telling how many places
 * there still are. */
int wait_next(struct sched *sched, uint32_t want, uint64_t deadline_ns);
struct op *wait_next_take(struct sched *sched, uint32_t left);
/* Waits until all are complete; wait_take takes each. */
int wait_all(struct sched *sched, const uint64_t *tokens, uint32_t count, uint64_t deadline_ns);
struct op *wait_take(struct sched *sched, uint64_t token);

/* Asserts the invariant. */
void waitset_check(struct sched *sched, const struct waitset *ws);
