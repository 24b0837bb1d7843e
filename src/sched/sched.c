/* SPDX-License-Identifier: MIT */
#include "sched/sched.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>

/* ---- life ---- */

int sched_open(struct sched *sched, const struct config *config, const struct log *log,
	       const struct sched_world *world)
{
	memset(sched, 0, sizeof(*sched));
	sched->config = *config;
	sched->log = *log;
	sched->world = *world;
	sched->clock_turns = world->every_turn ? 1 : SCHED_CLOCK_TURNS;
	sched->busy = config->idle == 1;
	sched->spin_ns = (uint64_t)config->spin_us * 1000;
	sched->now_ns = world->now_ns(world->arg);
	sched->opened_ns = sched->now_ns;
	prng_seed(&sched->prng, world->seed ? world->seed : sched->now_ns);
	timer_wheel_init(&sched->timers, sched->now_ns);
	tasks_open(sched);

	int err = fdset_open(&sched->fds);
	if (err)
		return err;
	err = op_slab_open(&sched->ops, (uint32_t)config->operations_max, prng_next(&sched->prng));
	if (err)
		goto out_fds;
	err = coroutine_table_open(&sched->coroutines, sched, (uint32_t)config->coroutines_max,
				   (size_t)config->coroutine_stack_bytes);
	if (err)
		goto out_ops;
	err = heap_open(&sched->heap, (uint64_t)config->heap_max_bytes,
			(enum pages_huge)config->huge_pages);
	if (err)
		goto out_coroutines;
	return 0;

out_coroutines:
	coroutine_table_close(&sched->coroutines);
out_ops:
	op_slab_close(&sched->ops);
out_fds:
	fdset_close(&sched->fds);
	return err;
}

void sched_close(struct sched *sched)
{
	ASSERT(sched->num_pollers == 0);
	tasks_close(sched);
	heap_close(sched->heap);
	coroutine_table_close(&sched->coroutines);
	op_slab_close(&sched->ops);
	fdset_close(&sched->fds);
}

void sched_add_poller(struct sched *sched, struct poller *poller)
{
	ASSERT(sched->num_pollers < SCHED_POLLERS_MAX);
	sched->pollers[sched->num_pollers++] = poller;
}

void sched_remove_poller(struct sched *sched, struct poller *poller)
{
	for (uint32_t i = 0; i < sched->num_pollers; i++) {
		if (sched->pollers[i] == poller) {
			sched->pollers[i] = sched->pollers[--sched->num_pollers];
			return;
		}
	}
}

/* ---- the turn ---- */

uint64_t sched_now(struct sched *sched)
{
	sched->clock_reads++;
	sched->now_ns = sched->world.now_ns(sched->world.arg);
	return sched->now_ns;
}

void sched_flush_all(struct sched *sched, uint32_t more)
{
	sched->output_pending = 0;
	for (uint32_t i = 0; i < sched->num_pollers; i++)
		sched->pollers[i]->ops->flush(sched->pollers[i], more);
}

void sched_flush_slow(struct sched *sched)
{
	const struct coroutine_table *coroutines = &sched->coroutines;

	sched_flush_all(sched, coroutines->ready_count + coroutines->running->waits.count);
}

static inline uint32_t poll_all(struct sched *sched)
{
	uint32_t happened = 0;

	for (uint32_t i = 0; i < sched->num_pollers; i++)
		happened += sched->pollers[i]->ops->poll(sched->pollers[i]);
	return happened;
}

static bool a_poller_looks(const struct sched *sched)
{
	bool looks = false;

	for (uint32_t i = 0; i < sched->num_pollers; i++)
		looks |= sched->pollers[i]->looks;
	return looks;
}

/* Descriptors that are not lazy, if it is their turn. */
static uint32_t look_at_watched(struct sched *sched)
{
	uint32_t every = a_poller_looks(sched) ? SCHED_LOOKING_TURNS : 1;

	return (sched->turns & (every - 1)) == 0 ? fdset_wait(&sched->fds, 0) : 0;
}

/* Input of every poller, and of the descriptors. */
static inline uint32_t take_input(struct sched *sched)
{
	uint32_t happened = poll_all(sched);

	return sched->fds.watched > 0 ? happened + look_at_watched(sched) : happened;
}

/* Takes in what other threads freed. */
static inline void drain_heap(struct sched *sched)
{
	if (likely(!heap_has_remote(sched->heap)))
		return;
	uint64_t errors = sched->heap->remote_errors;
	heap_drain_slow(sched->heap);
	if (sched->heap->remote_errors != errors)
		log_once(&sched->log, &sched->log_seen, LOG_LEVEL_WARNING,
			 "another thread freed memory of this instance that was free already");
}

/* Lazy descriptors.  So many turns may be long: whoever asks for statistics does not wait for ever.
 */
static inline bool look_is_due(const struct sched *sched)
{
	return (sched->turns & (SCHED_LAZY_TURNS - 1)) == 0 ||
	       sched->now_ns - sched->looked_ns >= SCHED_LAZY_NS;
}

static __attribute__((noinline)) uint32_t look_at_last(struct sched *sched)
{
	sched->looked_ns = sched->now_ns;
	return fdset_wait(&sched->fds, 0);
}

static inline __attribute__((always_inline)) bool turn(struct sched *sched)
{
	ASSERT(coroutine_is_main(sched->coroutines.running));
	sched->turns++;
	drain_heap(sched);
	uint32_t happened = coroutine_run(&sched->coroutines);
	sched_flush(sched);
	happened += take_input(sched);
	if (unlikely(!list_empty(&sched->due)))
		happened += tasks_run(sched);
	if ((sched->turns & (sched->clock_turns - 1)) == 0) {
		happened += timer_advance(&sched->timers, sched_now(sched));
		if (unlikely(look_is_due(sched)))
			happened += look_at_last(sched);
	}
	return happened > 0;
}

bool sched_turn(struct sched *sched)
{
	return turn(sched);
}

void sched_give_way(struct sched *sched)
{
	(void)coroutine_yield(&sched->coroutines);
}

/* ---- idling ---- */

uint64_t sched_next_deadline(struct sched *sched)
{
	uint64_t next = timer_next_ns(&sched->timers);

	for (uint32_t i = 0; i < sched->num_pollers; i++) {
		uint64_t deadline = sched->pollers[i]->ops->next_deadline(sched->pollers[i]);
		if (deadline < next)
			next = deadline;
	}
	return next;
}

static void disarm(struct sched *sched, uint32_t armed)
{
	for (uint32_t i = 0; i < armed; i++)
		sched->pollers[i]->ops->disarm(sched->pollers[i]);
}

/* 0, -EAGAIN or -ENOTSUP: then none of them is. */
static int arm_pollers(struct sched *sched)
{
	for (uint32_t i = 0; i < sched->num_pollers; i++) {
		int err = sched->pollers[i]->ops->arm(sched->pollers[i]);
		if (err) {
			disarm(sched, i);
			return err;
		}
	}
	return 0;
}

int sched_arm(struct sched *sched)
{
	if (sched->coroutines.ready_count > 0 || !list_empty(&sched->due))
		return -EAGAIN;
	return arm_pollers(sched);
}

void sched_finish_turn(struct sched *sched, uint64_t timeout_ns)
{
	(void)sched_now(sched);
	sched_flush(sched);
	bool happened = take_input(sched) + tasks_run(sched) > 0;
	/* A peer in shared memory wakes only whom it knows to be asleep. */
	int err = happened ? -EAGAIN : arm_pollers(sched);
	(void)fdset_wait(&sched->fds, err == -EAGAIN ? 0 : timeout_ns);
	if (!err)
		disarm(sched, sched->num_pollers);
	(void)timer_advance(&sched->timers, sched_now(sched));
}

static void sleep_until(struct sched *sched, uint64_t deadline_ns)
{
	if (sched_arm(sched)) /* something is ready, or a device must be polled */
		return;
	uint64_t next = sched_next_deadline(sched);
	if (next > deadline_ns)
		next = deadline_ns;
	uint64_t now = sched_now(sched);
	sched_count(sched, COUNTER_SLEEPS, 1);
	fdset_wait(&sched->fds, next == TIMER_NEVER ? UINT64_MAX : (next > now ? next - now : 0));
	disarm(sched, sched->num_pollers);
	(void)timer_advance(&sched->timers, sched_now(sched));
	sched_not_idle(sched);
}

/* Has the wait of coroutine 0 spun long enough to sleep?  Called after a turn in which nothing
 * happened. */
static bool spun_enough(struct sched *sched)
{
	if (++sched->idle_turns % SCHED_CLOCK_TURNS != 0)
		return sched->spin_ns == 0 && !sched->busy;
	uint64_t now = sched_now(sched);
	if (sched->idle_since_ns == 0)
		sched->idle_since_ns = now;
	return !sched->busy && now - sched->idle_since_ns >= sched->spin_ns;
}

/* Turns after which a wait that may not sleep yet is told -EAGAIN, even if something happens in
 * every one of them. */
#define AGAIN_TURNS 1024

static inline __attribute__((always_inline)) int suspend_main(struct sched *sched,
							      uint64_t deadline_ns, bool may_sleep)
{
	struct waitset *ws = &sched->coroutines.main.waits;
	uint32_t turns = 0;

	for (;;) {
		bool happened = turn(sched);
		if (likely(happened))
			sched_not_idle(sched);
		if (likely(ws->woken))
			return 0;
		if (deadline_ns != WAIT_FOREVER &&
		    (deadline_ns == WAIT_POLL || sched->now_ns >= deadline_ns))
			return -ETIMEDOUT;
		if (!may_sleep && ++turns >= AGAIN_TURNS)
			return -EAGAIN;
		if (happened)
			continue;
		if (!may_sleep && sched->busy && sched->idle_turns > 64)
			return -EAGAIN;
		if (!spun_enough(sched))
			continue;
		if (!may_sleep)
			return -EAGAIN;
		sleep_until(sched, deadline_ns);
		if (ws->woken)
			return 0;
	}
}

/* ---- coroutines that wait for time ---- */

struct wake_up {
	struct timer timer;
	struct coroutine *co;
	bool fired;
};

static void wake_up(struct timer *timer)
{
	struct wake_up *wake = container_of(timer, struct wake_up, timer);

	wake->fired = true;
	coroutine_ready(wake->co);
}

static __attribute__((noinline)) int suspend_coroutine(struct sched *sched, uint64_t deadline_ns)
{
	struct coroutine *co = sched->coroutines.running;
	struct wake_up wake = {.co = co};

	if (deadline_ns == WAIT_POLL) {
		(void)coroutine_yield(&sched->coroutines);
		return co->waits.woken ? 0 : -ETIMEDOUT;
	}
	timer_init(&wake.timer, wake_up);
	if (deadline_ns != WAIT_FOREVER)
		timer_arm(&sched->timers, &wake.timer, deadline_ns);
	while (!co->waits.woken && !wake.fired)
		coroutine_block(&sched->coroutines);
	timer_cancel(&sched->timers, &wake.timer);
	return co->waits.woken ? 0 : -ETIMEDOUT;
}

__attribute__((noinline)) int sched_suspend(struct sched *sched, uint64_t deadline_ns,
					    bool may_sleep)
{
	struct coroutine *co = sched->coroutines.running;
	struct waitset *ws = &co->waits;

	ws->woken = false;
	ws->blocked = true;
	int err;
	if (likely(coroutine_is_main(co))) {
		err = suspend_main(sched, deadline_ns, may_sleep);
		ws = &sched->coroutines.main.waits; /* no need to have kept it */
	} else {
		err = suspend_coroutine(sched, deadline_ns);
	}
	ws->blocked = false;
	return err;
}

void sched_sleep(struct sched *sched, uint64_t deadline_ns)
{
	sched->coroutines.running->waits.want = UINT32_MAX; /* no result wakes it */
	while (sched_suspend(sched, deadline_ns, true) != -ETIMEDOUT)
		;
}
