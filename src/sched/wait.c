/* SPDX-License-Identifier: MIT */
#include "sched/wait.h"

#include "base/assert.h"
#include "sched/sched.h"
#include "sched/task.h"

#include <errno.h>

static struct waitset *running_waits(struct sched *sched)
{
	return &sched->coroutines.running->waits;
}

void waitset_init(struct waitset *ws, struct coroutine *co)
{
	*ws = (struct waitset){.coroutine = co};
	op_list_init(&ws->ready);
	op_list_init(&ws->parked);
	op_list_init(&ws->long_ones);
}

static struct op_list *list_of(struct waitset *ws, const struct op *op)
{
	if (likely(op->state == OP_READY))
		return &ws->ready;
	return op->state == OP_PARKED ? &ws->parked : &ws->long_ones;
}

static void append_ready(struct sched *sched, struct waitset *ws, struct op *op)
{
	op->state = OP_READY;
	op->owner = ws;
	op_list_append(&sched->ops, &ws->ready, op);
	ws->count++;
}

static void wake(struct sched *sched, struct waitset *ws)
{
	ws->woken = true;
	if (!ws->coroutine)
		task_wake(sched, container_of(ws, struct task, waits));
	else if (!coroutine_is_main(ws->coroutine))
		coroutine_ready(ws->coroutine);
}

/* A complete operation came into the waitset: is that what it is blocked for? */
static void wake_for(struct sched *sched, struct waitset *ws)
{
	if (ws->blocked && ws->awaited == 0 && ws->count >= ws->want)
		wake(sched, ws);
}

static void take_out(struct sched *sched, struct op *op)
{
	struct waitset *ws = op->owner;

	op_list_remove(&sched->ops, list_of(ws, op), op);
	ws->count--;
}

/* From ready to another list. */
static void set_aside(struct sched *sched, struct waitset *ws, struct op *op, enum op_state state)
{
	op_list_remove(&sched->ops, &ws->ready, op);
	op->state = (uint8_t)state;
	op_list_append(&sched->ops, list_of(ws, op), op);
}

static bool has_aside(const struct waitset *ws)
{
	return !op_list_empty(&ws->parked) || !op_list_empty(&ws->long_ones);
}

static void give(struct sched *sched, struct op *op, struct waitset *to)
{
	if (op_done(op)) {
		take_out(sched, op);
		append_ready(sched, to, op);
		wake_for(sched, to);
	} else {
		op->owner = to;
	}
}

void waitset_give_all(struct sched *sched, struct waitset *from, struct waitset *to)
{
	/* Pending ones cannot be found by their owner; the slab is walked, which is rare: a
	 * coroutine ends with operations open. */
	if (from->issued == 0)
		return;
	for (uint32_t slot = 0; slot < sched->ops.fresh; slot++) {
		struct op *op = &sched->ops.ops[slot];
		if (op->token != 0 && op->owner == from)
			give(sched, op, to);
	}
	to->issued += from->issued;
	from->issued = 0;
}

/* ---- completion ---- */

void op_complete(struct sched *sched, struct op *op, int err)
{
	struct waitset *ws = op->owner;

	ASSERT(op->state == OP_PENDING);
	op->ret = err;
	if (op->token == ws->awaited) { /* handed over: nobody else can get at it meanwhile */
		op->state = OP_READY;
		ws->woken = true;
		if (!coroutine_is_main(ws->coroutine))
			coroutine_ready(ws->coroutine);
		return;
	}
	append_ready(sched, ws, op);
	wake_for(sched, ws);
}

/* Hands an operation to the caller, in no list. */
static struct op *redeem(struct sched *sched, struct op *op)
{
	take_out(sched, op);
	op->owner->issued--;
	return op;
}

/* ---- one ---- */

static int adopt(struct sched *sched, struct op *op, struct waitset *ws)
{
	if (!op->owner || !op->owner->coroutine)
		return -EINVAL; /* the library's own: its token was never handed out */
	const struct waitset *old = op->owner;

	if (op->flags & OP_AWAITED)
		return -EBUSY;
	if (old->blocked && op->index < old->num_tokens && old->tokens[op->index] == op->token)
		return -EBUSY; /* another is blocked in wait_any on it, and would sleep for ever */
	op->owner->issued--;
	ws->issued++;
	give(sched, op, ws);
	return 0;
}

int wait_one(struct sched *sched, uint64_t token, uint64_t deadline_ns, struct op **op_out)
{
	struct waitset *ws = running_waits(sched);
	struct op *op = op_find(&sched->ops, token);

	if (unlikely(!op))
		return -EINVAL;
	if (unlikely(op->owner != ws)) {
		int err = adopt(sched, op, ws);
		if (err)
			return err;
	}
	if (!op_done(op)) {
		int err = wait_handed(sched, ws, op, deadline_ns);
		if (!err)
			*op_out = op;
		return err;
	}
	*op_out = redeem(sched, op);
	sched_fast_call(sched);
	return 0;
}

/* ---- any ---- */

/* Checks every token, rewrites all guesses, adopts. */
static int full_pass(struct sched *sched, struct waitset *ws, const uint64_t *tokens,
		     uint32_t count)
{
	sched_count(sched, COUNTER_FULL_PASSES, 1);
	ws->unpassed = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct op *op = op_find(&sched->ops, tokens[i]);
		if (unlikely(!op))
			return -EINVAL;
		if (unlikely(op->owner != ws)) {
			int err = adopt(sched, op, ws);
			if (err)
				return err;
		}
		op->index = i;
		if (unlikely(op->state >= OP_PARKED))
			give(sched, op, ws);
	}
	return 0;
}

static struct op *take_match(struct sched *sched, struct waitset *ws, const uint64_t *tokens,
			     uint32_t count)
{
	struct op *op = op_list_first(&sched->ops, &ws->ready);

	if (op && op->index < count && tokens[op->index] == op->token) {
		ws->last_index = op->index;
		return redeem(sched, op);
	}
	return NULL;
}

/* The oldest ready operation of the array; *op_out NULL: none.  A guess that fails costs a full
 * pass. */
static int pick(struct sched *sched, struct waitset *ws, const uint64_t *tokens, uint32_t count,
		struct op **op_out)
{
	*op_out = take_match(sched, ws, tokens, count);
	if (*op_out || op_list_empty(&ws->ready))
		return 0;
	int err = full_pass(sched, ws, tokens, count);
	if (err)
		return err;
	while (!(*op_out = take_match(sched, ws, tokens, count)) && !op_list_empty(&ws->ready))
		set_aside(sched, ws, op_list_first(&sched->ops, &ws->ready), OP_PARKED);
	return 0;
}

static bool pass_due(struct waitset *ws, uint32_t count)
{
	if (count <= WAIT_SMALL)
		return true;
	return ++ws->unpassed >= count && has_aside(ws);
}

/* Suspends until an operation of the array is ready.  passed: the array was looked at whole. */
static int wait_any_blocked(struct sched *sched, struct waitset *ws, bool passed,
			    uint64_t deadline_ns, struct op **op_out)
{
	const uint64_t *tokens = ws->tokens;
	uint32_t count = ws->num_tokens;
	int err = 0;

	for (;;) {
		int wait = sched_suspend(sched, deadline_ns, passed);
		if (wait && !passed &&
		    (deadline_ns != WAIT_POLL || ws->unpassed >= count || has_aside(ws))) {
			err = full_pass(sched, ws, tokens, count);
			passed = true;
		}
		if (!err)
			err = pick(sched, ws, tokens, count, op_out);
		if (err || *op_out)
			return err;
		if (wait == -ETIMEDOUT)
			return wait;
	}
}

int wait_any(struct sched *sched, const uint64_t *tokens, uint32_t count, uint64_t deadline_ns,
	     struct op **op_out, uint32_t *index_out)
{
	struct waitset *ws = running_waits(sched);
	bool passed = pass_due(ws, count) || !coroutine_is_main(ws->coroutine);
	int err = passed ? full_pass(sched, ws, tokens, count) : 0;

	if (!err)
		err = pick(sched, ws, tokens, count, op_out);
	if (err)
		return err;
	if (*op_out) {
		sched_fast_call(sched);
	} else {
		ws->want = 1;
		ws->tokens = tokens;
		ws->num_tokens = count;
		err = wait_any_blocked(sched, ws, passed, deadline_ns, op_out);
		ws->num_tokens = 0;
	}
	*index_out = ws->last_index;
	return err;
}

/* ---- next ---- */

/* Looks at what has completed since. */
static void classify(struct sched *sched, struct waitset *ws)
{
	struct op *op;

	while ((op = op_list_first(&sched->ops, &ws->ready))) {
		bool is_long = sched->policy.is_long(sched, op);
		set_aside(sched, ws, op, is_long ? OP_LONG : OP_PARKED);
	}
}

/* Lets the policy one pass, of a call with so many places? */
static bool lets_one_pass(const struct sched *sched, const struct waitset *ws, uint32_t places)
{
	return !op_list_empty(&ws->parked) ||
	       (places > sched->policy.reserved && !op_list_empty(&ws->long_ones));
}

static int wait_next_by_policy(struct sched *sched, uint32_t places, uint64_t deadline_ns)
{
	struct waitset *ws = running_waits(sched);
	bool looked = false;

	for (;;) {
		classify(sched, ws);
		if (lets_one_pass(sched, ws, places)) {
			if (!looked)
				sched_fast_call(sched);
			return 0;
		}
		ws->want = ws->count + 1;
		int err = sched_suspend(sched, deadline_ns, true);
		if (err) {
			classify(sched, ws);
			return err;
		}
		looked = true;
	}
}

int wait_next(struct sched *sched, uint32_t want, uint64_t deadline_ns)
{
	struct waitset *ws = running_waits(sched);

	if (unlikely(sched->policy.is_long))
		return wait_next_by_policy(sched, want, deadline_ns);
	if (ws->count >= want) {
		sched_fast_call(sched);
		return 0;
	}
	ws->want = want;
	int err = sched_suspend(sched, deadline_ns, true);
	return err;
}

struct op *wait_next_take(struct sched *sched, uint32_t left)
{
	struct waitset *ws = running_waits(sched);
	struct op *op = op_list_first(&sched->ops, &ws->parked);

	if (!op && !sched->policy.is_long)
		op = op_list_first(&sched->ops, &ws->ready);
	if (!op && left > sched->policy.reserved) /* 0 without a policy: those of an earlier one */
		op = op_list_first(&sched->ops, &ws->long_ones);
	return op ? redeem(sched, op) : NULL;
}

/* ---- all ---- */

static int check_distinct(struct sched *sched, struct waitset *ws, const uint64_t *tokens,
			  uint32_t count)
{
	int err = full_pass(sched, ws, tokens, count);

	for (uint32_t i = 0; i < count && !err; i++) {
		if (op_find(&sched->ops, tokens[i])->index != i)
			err = -EINVAL; /* it stands again at a later index */
	}
	return err;
}

static void mark_awaited(struct sched *sched, const uint64_t *tokens, uint32_t count, bool awaited)
{
	for (uint32_t i = 0; i < count; i++) {
		struct op *op = op_find(&sched->ops, tokens[i]);
		op->flags = (uint8_t)(awaited ? op->flags | OP_AWAITED : op->flags & ~OP_AWAITED);
	}
}

int wait_all(struct sched *sched, const uint64_t *tokens, uint32_t count, uint64_t deadline_ns)
{
	struct waitset *ws = running_waits(sched);
	int err = check_distinct(sched, ws, tokens, count);

	if (err)
		return err;
	mark_awaited(sched, tokens, count,
		     true); /* all of them, so that no other coroutine takes one meanwhile */
	for (uint32_t i = 0; i < count && !err; i++) {
		struct op *op = op_find(&sched->ops, tokens[i]);
		if (op_done(op))
			continue;
		err = wait_pending(sched, ws, op, deadline_ns);
		if (!err)
			append_ready(sched, ws, op);
	}
	mark_awaited(sched, tokens, count, false);
	return err;
}

struct op *wait_take(struct sched *sched, uint64_t token)
{
	struct op *op = op_find(&sched->ops, token);

	ASSERT(op && op_done(op));
	return redeem(sched, op);
}

void waitset_check(struct sched *sched, const struct waitset *ws)
{
	uint32_t count = 0;
	const struct op_list *lists[] = {&ws->ready, &ws->parked, &ws->long_ones};

	for (uint32_t i = 0; i < 3; i++) {
		for (struct op *op = op_list_first(&sched->ops, lists[i]); op;
		     op = op_list_next(&sched->ops, op)) {
			ASSERT(op->owner == ws);
			ASSERT(op->state == OP_READY + i);
			count++;
		}
	}
	ASSERT(count == ws->count);
	ASSERT(ws->count <= ws->issued);
}
