/* SPDX-License-Identifier: MIT
 * api/instance.c - making, entering and ending instances; demi_init and demi_fini.
 */
#include "api/instance.h"

#include "base/assert.h"
#include "netdev/netdev.h"

#include <demi/libos.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

_Thread_local struct thread thread_state __attribute__((tls_model("initial-exec")));

/* ---- threads ---- */

static void make_current(struct demi *demi)
{
	thread_state.current = demi;
	thread_state.log.gate = demi ? &demi->open : NULL;
}

/* Stated exceptions to "no mutable globals": the key by which a thread's exit is noticed. */
static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

static void end(struct demi *demi);

/* Is the caller where it may change instances: outside of coroutines and callbacks? */
static bool may_leave(const struct demi *demi)
{
	return demi->open && coroutine_is_main(demi->sched.coroutines.running);
}

static void unclaim(struct demi *demi)
{
	if (demi) /* pairs with the acquire in claim */
		atomic_store_explicit(&demi->entered, NULL, memory_order_release);
}

static void end_thread(void)
{
	struct demi *demi = thread_state.current;

	/* exit may be called in a coroutine, but not in a callback: the instance is in the middle
	 * of something there. */
	if (demi && process_alive() && demi->from_init && demi->open) {
		end(demi);
		make_current(NULL);
	} else if (demi && process_alive() &&
		   may_leave(demi)) { /* made by demi_create: others may enter it */
		unclaim(demi);
		make_current(NULL);
	}
	config_override_free(&thread_state.overrides);
}

static void at_thread_exit(void *unused)
{
	(void)unused;
	thread_state.watched = false; /* other keys' destructors may begin anew */
	end_thread();
}

static void make_exit_key(void)
{
	(void)pthread_key_create(&exit_key,
				 at_thread_exit); /* without one the instance lives until exit */
}

void thread_watch_exit(void)
{
	if (thread_state.watched)
		return;
	(void)pthread_once(&exit_once, make_exit_key);
	(void)pthread_setspecific(exit_key, &thread_state);
	thread_state.watched = true;
}

/* The thread that calls exit gets no key destructor. */
__attribute__((destructor)) static void at_exit(void)
{
	end_thread();
}

/* ---- entering ---- */

int instance_refusal(void)
{
	if (thread_state.in_callback > 0)
		return EBUSY;
	if (!thread_state.current || !process_alive())
		return ENOSYS;
	return EBUSY;
}

/* 0 or EBUSY. */
static int claim(struct demi *demi)
{
	struct thread *nobody = NULL;

	/* acquire: what the last thread did to the instance is seen; pairs with the release in
	 * unclaim */
	if (atomic_compare_exchange_strong_explicit(&demi->entered, &nobody, &thread_state,
						    memory_order_acquire, memory_order_relaxed))
		return 0;
	return nobody == &thread_state ? 0 : EBUSY;
}

/* A forked child forgets what it inherited. */
static void forget_if_forked(void)
{
	if (!process_alive())
		make_current(NULL);
}

/* Makes instance the current one, with or without a way back.  0 or EBUSY. */
static int change(struct demi *instance)
{
	struct demi *old = thread_state.current;

	if (old == instance)
		return 0;
	if (old && !may_leave(old))
		return EBUSY;
	int err = instance ? claim(instance) : 0;
	if (err)
		return err;
	unclaim(old);
	make_current(instance);
	thread_watch_exit();
	return 0;
}

int demi_enter(struct demi *instance)
{
	KEEP_ERRNO;
	const struct demi *old = thread_state.current;

	if (!process_alive())
		return ENOSYS;
	if (thread_state.in_callback > 0)
		return EBUSY;
	if (old && old != instance && old->from_init)
		return EBUSY; /* there is no handle to come back to it by */
	return change(instance);
}

/* ---- making ---- */

static uint64_t system_now_ns(void *unused)
{
	struct timespec now;

	(void)unused;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int32_t adopt(void *owner, struct queue *queue)
{
	struct demi *demi = owner;

	return queue_enter(&demi->queues, queue);
}

static int open_engine(struct demi *demi)
{
	int err = transport_open(&demi->sched, &demi->engine);

	if (err)
		return err;
	demi->engine->adopt = adopt;
	demi->engine->owner = demi;
	sched_add_poller(&demi->sched, &demi->engine->poller);
	return 0;
}

static int open_instance(struct demi *demi, const struct config *config,
			 const struct sched_world *world)
{
	struct log log = thread_state.log;

	log.fn = log_of_thread;
	log.gate = &demi->open;
	demi->timer.fd = -1;
	int err = sched_open(&demi->sched, config, &log, world);
	if (err)
		goto out_netdev;
	err = queue_table_open(&demi->queues, (uint32_t)config->queues_max);
	if (err)
		goto out_sched;
	err = open_engine(demi);
	if (err)
		goto out_queues;
	stat_open(&demi->stat, demi);
	return 0;

out_queues:
	queue_table_close(&demi->queues);
	sched_close(&demi->sched);
	return err;

out_sched:
	sched_close(&demi->sched);
out_netdev: /* no engine took it */
	if (world->netdev)
		world->netdev->ops->close(world->netdev);
	return err;
}

static size_t instance_bytes(void)
{
	return round_up(sizeof(struct demi), PROCESS_PAGE);
}

static void instance_free(struct demi *demi)
{
	munmap(demi, instance_bytes());
}

static struct demi *instance_alloc(void)
{
	void *at = mmap(NULL, instance_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);

	if (at == MAP_FAILED)
		return NULL;
	if (process_wipe_on_fork(at, instance_bytes())) {
		instance_free(at);
		return NULL;
	}
	return at;
}

int instance_create(const struct config *config, const struct sched_world *world,
		    struct demi **instance_out)
{
	struct demi *demi = instance_alloc();

	if (!demi)
		return -ENOMEM;
	demi->open = 1;
	int err = open_instance(demi, config, world);
	if (err) {
		instance_free(demi);
		return err;
	}
	*instance_out = demi;
	return 0;
}

/* The real world: chance from the kernel; without it, the time has to do. */
static void system_world(struct sched_world *world)
{
	uint64_t random[3] = {0};

	(void)!getrandom(random, sizeof(random), GRND_NONBLOCK);
	*world = (struct sched_world){
		.now_ns = system_now_ns,
		.seed = random[0],
		.secret = {random[1], random[2]},
	};
}

static int create(struct demi **instance_out)
{
	struct config config;
	struct sched_world world;
	bool anew;
	int err = process_begin(&anew);

	if (!err)
		err = config_load(&config, getenv("CONFIG_PATH"), thread_state.overrides,
				  &thread_state.log);
	if (err)
		return err;
	system_world(&world);
	return instance_create(&config, &world, instance_out);
}

int demi_create(struct demi **instance_out, const struct demi_args *args)
{
	KEEP_ERRNO;
	if (!instance_out || !args)
		return EINVAL;
	if (thread_state.in_callback > 0)
		return EBUSY;
	forget_if_forked();
	return -create(instance_out);
}

int demi_init(const struct demi_args *args)
{
	KEEP_ERRNO;
	struct demi *demi;

	if (!args)
		return EINVAL;
	if (thread_state.in_callback > 0)
		return EBUSY;
	forget_if_forked();
	if (thread_state.current)
		return EEXIST;
	int err = create(&demi);
	if (err)
		return -err;
	demi->from_init = true;
	(void)claim(demi);
	make_current(demi);
	thread_watch_exit();
	return 0;
}

/* ---- ending ---- */

static void close_queue(void *arg, struct queue *queue)
{
	struct demi *demi = arg;

	queue_leave(&demi->queues, queue);
	queue_close(queue);
}

static bool lingering(const struct demi *demi)
{
	return demi->engine->ops->lingering(demi->engine) > 0 ||
	       (demi->logs && log_engine_lingering(demi->logs) > 0) ||
	       (demi->shm && shm_lingering(demi->shm) > 0);
}

static void linger(struct demi *demi)
{
	struct sched *sched = &demi->sched;
	uint64_t deadline = sched_now(sched) + (uint64_t)sched->config.linger_ms * 1000000;

	while (lingering(demi) && sched->now_ns < deadline) {
		uint64_t next = sched_next_deadline(sched);
		if (next > deadline)
			next = deadline;
		sched_finish_turn(sched, next > sched->now_ns ? next - sched->now_ns : 0);
	}
}

/* Data that was popped and never waited for. */
static void drop_results(struct sched *sched)
{
	for (uint32_t slot = 0; slot < sched->ops.fresh; slot++) {
		struct op *op = &sched->ops.ops[slot];
		struct iovec one;
		if (op->token == 0 || op->opcode != OP_POP || !op_done(op) || op->ret != 0)
			continue;
		const struct iovec *iov = op_vector(op, &one);
		for (uint32_t i = 0; i < op->numsegs; i++)
			(void)heap_free_inside(sched->heap, iov[i].iov_base);
	}
}

static void end(struct demi *demi)
{
	queue_each(&demi->queues, close_queue, demi);
	linger(demi);
	stat_close(&demi->stat);
	sched_remove_poller(&demi->sched, &demi->engine->poller);
	demi->engine->ops->close(demi->engine);
	if (demi->logs)
		log_engine_close(demi->logs);
	if (demi->shm)
		shm_close_instance(demi->shm);
	drop_results(&demi->sched);
	if (demi->timer.fd >= 0)
		close(demi->timer.fd);
	queue_table_close(&demi->queues);
	sched_close(&demi->sched);
	instance_free(demi);
}

int demi_destroy(struct demi *instance)
{
	KEEP_ERRNO;
	if (!instance)
		return EINVAL;
	struct demi *old = thread_state.current;
	if (!process_alive())
		return ENOSYS;
	int err = thread_state.in_callback > 0 ? EBUSY : change(instance);
	if (err)
		return err;
	if (!may_leave(instance))
		return EBUSY;
	end(instance);
	make_current(NULL);
	return old && old != instance ? change(old) : 0;
}

int demi_fini(void)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);

	return demi ? demi_destroy(demi) : err;
}
