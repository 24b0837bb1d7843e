/* SPDX-License-Identifier: MIT
 * sched/sched.h - the poll turn of an instance, and how it idles.
 *
 * struct sched is what the layers below src/api know of an instance: operations, coroutines,
 * timers, descriptors to sleep on, pollers, the heap, the configuration, the time.  It does not
 * know who is above.
 *
 * One turn: application coroutines that became ready; output of what was pushed; input of every
 * poller; tasks that are due; timers.  Only coroutine 0 runs turns, while it waits.  A wait in
 * which nothing happens spins (spin_ns) and then sleeps in the kernel until a descriptor, a timer
 * or the deadline is due; the policy busy never sleeps.
 *
 * The time is read once in clock_turns turns and before timed waits: a turn can be as short
 * as a read of the clock.
 */
#pragma once

#include "base/config.h"
#include "base/counters.h"
#include "base/log.h"
#include "base/prng.h"
#include "mem/heap.h"
#include "sched/coroutine.h"
#include "sched/fdset.h"
#include "sched/op.h"
#include "sched/task.h"
#include "sched/timer.h"
#include "sched/wait.h"

#include <stdbool.h>
#include <stdint.h>

/* Powers of two.  A read of the clock costs as much as a short turn, a turn of catnap is a system
 * call or two (docs/design/0002-catnap-figures.md). */
#define SCHED_CLOCK_TURNS   16       /* turns between two reads of the clock */
#define SCHED_FAST_CALLS    64       /* waits that complete at once between two turns */
#define SCHED_LOOKING_TURNS 32       /* turns between two looks at descriptors if pollers look */
#define SCHED_LAZY_TURNS    8192     /* the same if only lazy descriptors are watched, */
#define SCHED_LAZY_NS       50000000 /* or, where turns are long, nanoseconds */
#define SCHED_POLLERS_MAX   8

struct poller;

/* What sched calls of a transport, network or block device engine. */
struct poller_ops {
	/* Puts out what was pushed since the last turn.  more: so many results and coroutines are
	 * there without a turn, after which the application is likely to have pushed more.  Who
	 * gains by that, as a doorbell is a system call or many pushes are one request, may leave
	 * it to the next poll. */
	void (*flush)(struct poller *poller, uint32_t more);
	/* Takes in what has arrived; returns how much happened, 0: nothing. */
	uint32_t (*poll)(struct poller *poller);
	/* Makes its descriptors wake the instance.  0, -EAGAIN: something is ready, -ENOTSUP: the
	 * device has no interrupt. */
	int (*arm)(struct poller *poller);
	/* The instance is awake again. */
	void (*disarm)(struct poller *poller);
	/* Earliest time at which poll must be called even if nothing arrives; TIMER_NEVER. */
	uint64_t (*next_deadline)(struct poller *poller);
};

struct poller {
	const struct poller_ops *ops;
	bool looks; /* poll looks at the device itself: the descriptors can be left for
		       SCHED_LOOKING_TURNS turns */
};

struct netdev;
struct engine_ops;

/* What an instance cannot make up itself: time, chance and, in a simulator, its network device. */
struct sched_world {
	uint64_t (*now_ns)(void *arg);
	void *arg;
	uint64_t seed;         /* of the generator; 0: the time */
	uint64_t secret[2];    /* key of whatever a peer must not guess */
	struct netdev *netdev; /* in place of the configured one; NULL: none.  Closed with the
				  instance */
	const struct engine_ops *engine; /* in place of the configured transport; NULL: none */
	void *engine_arg;                /* its own */
	bool every_turn;                 /* read the time in every turn */
};

struct sched {
	struct op_slab ops;
	struct coroutine_table coroutines;
	struct heap *heap;
	uint32_t fast_calls;
	uint64_t turns;
	uint32_t output_pending; /* pushes that wait for a flush */
	uint32_t num_pollers;
	struct poller *pollers[SCHED_POLLERS_MAX];
	struct list due;      /* tasks */
	struct task *running; /* NULL: none */
	struct list lingering;
	struct task nobody; /* who has what ended tasks issued */
	uint64_t now_ns;
	uint64_t opened_ns;
	uint64_t looked_ns;     /* at the descriptors, by the turn of the clock */
	uint64_t idle_since_ns; /* 0: not idle */
	uint32_t idle_turns;
	bool busy; /* never sleeps */
	uint64_t spin_ns;
	struct fdset fds;
	struct timer_wheel timers;
	struct wait_policy policy;
	struct sched_world world;
	uint32_t clock_reads; /* so many: two deadlines between which there was one may be a pause
				 apart */
	uint32_t clock_turns; /* turns between two reads of the clock, a power of two */
	struct prng prng;
	struct config config;
	struct counters counters;
	struct log log;
	struct log_seen log_seen;
};

/* config is copied.  0 or -errno. */
int sched_open(struct sched *sched, const struct config *config, const struct log *log,
	       const struct sched_world *world);
void sched_close(struct sched *sched);

void sched_add_poller(struct sched *sched, struct poller *poller);
void sched_remove_poller(struct sched *sched, struct poller *poller);

/* Called by coroutine 0.  Returns whether anything happened. */
bool sched_turn(struct sched *sched);

/* Output, input and timers only, waiting at most timeout_ns for input: for an instance that ends.
 */
void sched_finish_turn(struct sched *sched, uint64_t timeout_ns);

/* Reads the clock. */
uint64_t sched_now(struct sched *sched);

/* Blocks the running coroutine until its waitset is woken.  0, -ETIMEDOUT, or (only with may_sleep
 * false, coroutine 0 only) -EAGAIN: it is about to sleep, or has waited for many turns. */
int sched_suspend(struct sched *sched, uint64_t deadline_ns, bool may_sleep);

/* Suspends the running coroutine until deadline_ns. */
void sched_sleep(struct sched *sched, uint64_t deadline_ns);

/* Gives others a chance: one poll turn for coroutine 0, a yield for another. */
void sched_give_way(struct sched *sched);

/* Ends a spell of idling: the next empty turns spin anew. */
static inline void sched_not_idle(struct sched *sched)
{
	sched->idle_since_ns = 0;
	sched->idle_turns = 0;
}

/* Now: doorbells are rung, too. */
void sched_flush_all(struct sched *sched, uint32_t more);
void sched_flush_slow(struct sched *sched);

/* Puts out what was pushed; doorbells that cost a call wait while there are more results to take or
 * coroutines to run, which are about to push, too. */
static inline void sched_flush(struct sched *sched)
{
	if (unlikely(sched->output_pending))
		sched_flush_slow(sched);
}

/* Arms every descriptor for a foreign event loop.  0, -EAGAIN: results or events are there,
 * -ENOTSUP. */
int sched_arm(struct sched *sched);

/* When the instance must run again at the latest; TIMER_NEVER. */
uint64_t sched_next_deadline(struct sched *sched);

/* Every so many waits that need not wait, others get a chance: counted when an operation is taken,
 * given when it was read and freed.  In between its token would find it, and others could take it
 * again. */
static inline void sched_fast_call(struct sched *sched)
{
	sched->fast_calls++;
}

static inline void sched_fast_end(struct sched *sched)
{
	if (unlikely(sched->fast_calls >= SCHED_FAST_CALLS)) {
		sched->fast_calls = 0;
		sched_give_way(sched);
	}
}

/* Takes a ready operation out of its owner, ws. */
static inline struct op *waitset_take(struct sched *sched, struct waitset *ws, struct op *op)
{
	op_list_remove(&sched->ops, &ws->ready, op);
	ws->count--;
	ws->issued--;
	sched_fast_call(sched);
	return op;
}

/* The common case of wait_one: the operation of a token, if it is complete and the running
 * coroutine's; else NULL. */
static inline struct op *wait_ready(struct sched *sched, uint64_t token)
{
	struct waitset *ws = &sched->coroutines.running->waits;
	struct op *op = op_find(&sched->ops, token);

	if (unlikely(!op || op->state != OP_READY || op->owner != ws))
		return NULL;
	return waitset_take(sched, ws, op);
}

/* Blocks until a pending operation of ws, the running coroutine's, is complete: then it is in no
 * list. 0 or -ETIMEDOUT: it is pending still. */
static inline int wait_pending(struct sched *sched, struct waitset *ws, const struct op *op,
			       uint64_t deadline_ns)
{
	ws->awaited = op->token;
	int err = sched_suspend(sched, deadline_ns, true);
	ws->awaited = 0;
	return err;
}

/* The same for one whose owner wants nothing else, and takes it. */
static inline int wait_handed(struct sched *sched, struct waitset *ws, struct op *op,
			      uint64_t deadline_ns)
{
	op->flags |= OP_AWAITED;
	int err = wait_pending(sched, ws, op, deadline_ns);
	op->flags &= (uint8_t)~OP_AWAITED;
	if (likely(!err))
		ws->issued--;
	return err;
}

/* The common case of wait_any with a long array: the oldest ready operation, if its guess is right;
 * else NULL. */
static inline struct op *wait_any_ready(struct sched *sched, const uint64_t *tokens, uint32_t count)
{
	struct waitset *ws = &sched->coroutines.running->waits;
	struct op *op = op_list_first(&sched->ops, &ws->ready);

	if (!op || count <= WAIT_SMALL || op->index >= count || tokens[op->index] != op->token)
		return NULL;
	if (unlikely(ws->unpassed >= count && !op_list_empty(&ws->parked)))
		return NULL; /* a full pass is due */
	ws->unpassed++;
	ws->last_index = op->index;
	return waitset_take(sched, ws, op);
}

/* A pending operation of the running coroutine, in no list; NULL: the bound is reached. */
static inline struct op *op_issue(struct sched *sched, enum op_code opcode, int32_t qd)
{
	struct waitset *ws = &sched->coroutines.running->waits;
	struct op *op = op_alloc(&sched->ops);

	if (unlikely(!op))
		return NULL;
	op->opcode = (uint8_t)opcode;
	op->qd = qd;
	op->owner = ws;
	op->index = ws->last_index;
	op->len = 0;
	ws->issued++;
	return op;
}

static inline void sched_count(struct sched *sched, enum counter counter, uint64_t n)
{
	sched->counters.count[counter] += n;
}
