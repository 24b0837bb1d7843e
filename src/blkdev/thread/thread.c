/* SPDX-License-Identifier: MIT
 * blkdev/thread/thread.c - see thread.h.
 *
 * Invariant: under_way counts the requests in todo, in the worker's hands, in done, and in the list
 * that poll has taken and not come to the end of.
 */
#include "blkdev/thread/thread.h"

#include "base/assert.h"
#include "base/bits.h"
#include "blkdev/file.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define YIELD_POLLS 8

struct request_list {
	struct blk_request *first;
	struct blk_request *last;
};

struct blkthread {
	struct blkdev dev;
	struct blkdev_file file;
	struct fd_watch watch; /* its fd: an eventfd, for arm */
	pthread_t worker;
	uint32_t under_way;
	uint32_t empty_polls;
	_Atomic bool some_done; /* done is not empty: a hint, the lock says it */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t to_do;
	pthread_cond_t is_done;
	struct request_list todo;
	struct request_list done;
	bool armed;
	bool stop;
};

static struct blkthread *thread_of(struct blkdev *dev)
{
	return container_of(dev, struct blkthread, dev);
}

static void list_put(struct request_list *list, struct blk_request *request)
{
	request->next = NULL;
	if (list->first)
		list->last->next = request;
	else
		list->first = request;
	list->last = request;
}

static struct blk_request *list_get(struct request_list *list)
{
	struct blk_request *request = list->first;

	if (request)
		list->first = request->next;
	return request;
}

/* ---- the worker ---- */

/* The lock is held. */
static void put_done(struct blkthread *thread, struct blk_request *request)
{
	static const uint64_t one = 1;

	list_put(&thread->done, request);
	atomic_store_explicit(&thread->some_done, true, memory_order_relaxed);
	pthread_cond_signal(&thread->is_done);
	if (thread->armed) {
		thread->armed = false;
		if (write(thread->watch.fd, &one, sizeof(one)) < 0)
			return; /* it is full, so that it wakes all the same */
	}
}

static void *work(void *arg)
{
	struct blkthread *thread = arg;

	pthread_mutex_lock(&thread->lock);
	while (!thread->stop) {
		struct blk_request *request = list_get(&thread->todo);
		if (!request) {
			pthread_cond_wait(&thread->to_do, &thread->lock);
			continue;
		}
		pthread_mutex_unlock(&thread->lock);
		request->err = blkdev_file_run(&thread->file, request);
		pthread_mutex_lock(&thread->lock);
		put_done(thread, request);
	}
	pthread_mutex_unlock(&thread->lock);
	return NULL;
}

/* ---- the instance ---- */

static uint32_t blkthread_submit(struct blkdev *dev, struct blk_request *const *requests,
				 uint32_t count)
{
	struct blkthread *thread = thread_of(dev);
	uint32_t room = dev->depth - thread->under_way;

	if (count > room)
		count = room;
	if (count == 0)
		return 0;
	thread->under_way += count;
	pthread_mutex_lock(&thread->lock);
	for (uint32_t i = 0; i < count; i++) {
		if (blkdev_file_inside(dev, requests[i])) {
			list_put(&thread->todo, requests[i]);
			continue;
		}
		requests[i]->err = -EIO;
		put_done(thread, requests[i]);
	}
	pthread_cond_signal(&thread->to_do);
	pthread_mutex_unlock(&thread->lock);
	return count;
}

/* The lock is held. */
static struct request_list take_done(struct blkthread *thread)
{
	struct request_list taken = thread->done;

	thread->done.first = NULL;
	atomic_store_explicit(&thread->some_done, false, memory_order_relaxed);
	return taken;
}

static uint32_t tell_taken(struct blkthread *thread, struct request_list taken)
{
	struct blk_request *request;
	uint32_t told = 0;

	for (; (request = list_get(&taken)); told++) {
		thread->under_way--;
		request->done(request);
	}
	return told;
}

static uint32_t blkthread_poll(struct blkdev *dev)
{
	struct blkthread *thread = thread_of(dev);

	if (!atomic_load_explicit(&thread->some_done, memory_order_relaxed)) {
		/* The worker may be waiting for the CPU that we spin on. */
		if (thread->under_way > 0 && ++thread->empty_polls % YIELD_POLLS == 0)
			(void)sched_yield();
		return 0;
	}
	pthread_mutex_lock(&thread->lock);
	struct request_list taken = take_done(thread);
	pthread_mutex_unlock(&thread->lock);
	return tell_taken(thread, taken);
}

static void blkthread_wait(struct blkdev *dev)
{
	struct blkthread *thread = thread_of(dev);

	ASSERT(thread->under_way > 0);
	pthread_mutex_lock(&thread->lock);
	while (!thread->done.first)
		pthread_cond_wait(&thread->is_done, &thread->lock);
	struct request_list taken = take_done(thread);
	pthread_mutex_unlock(&thread->lock);
	(void)tell_taken(thread, taken);
}

static int blkthread_grow(struct blkdev *dev, uint64_t capacity_bytes)
{
	return blkdev_file_grow(&thread_of(dev)->file, dev, capacity_bytes);
}

static int blkthread_arm(struct blkdev *dev)
{
	struct blkthread *thread = thread_of(dev);

	pthread_mutex_lock(&thread->lock);
	bool some = thread->done.first != NULL;
	thread->armed = !some;
	pthread_mutex_unlock(&thread->lock);
	return some ? -EAGAIN : 0;
}

static void blkthread_disarm(struct blkdev *dev)
{
	struct blkthread *thread = thread_of(dev);
	uint64_t value;

	pthread_mutex_lock(&thread->lock);
	thread->armed = false;
	pthread_mutex_unlock(&thread->lock);
	if (read(thread->watch.fd, &value, sizeof(value)) < 0)
		return; /* nothing woke us */
}

static uint64_t blkthread_next_deadline(struct blkdev *dev)
{
	(void)dev;
	return TIMER_NEVER;
}

static void woken(struct fd_watch *watch, uint32_t events)
{
	(void)watch;
	(void)events;
}

static void blkthread_close(struct blkdev *dev)
{
	struct blkthread *thread = thread_of(dev);

	pthread_mutex_lock(&thread->lock);
	thread->stop = true;
	pthread_cond_signal(&thread->to_do);
	pthread_mutex_unlock(&thread->lock);
	pthread_join(thread->worker, NULL);
	fdset_remove(&dev->sched->fds, &thread->watch);
	close(thread->watch.fd);
	blkdev_file_close(&thread->file);
	free(thread);
}

static const struct blkdev_ops blkthread_ops = {
	.name = "thread",
	.submit = blkthread_submit,
	.poll = blkthread_poll,
	.wait = blkthread_wait,
	.grow = blkthread_grow,
	.arm = blkthread_arm,
	.disarm = blkthread_disarm,
	.next_deadline = blkthread_next_deadline,
	.close = blkthread_close,
};

/* The application's signals are not the worker's. */
static int start_worker(struct blkthread *thread)
{
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = -pthread_create(&thread->worker, NULL, work, thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

static int start(struct blkthread *thread)
{
	struct fdset *fds = &thread->dev.sched->fds;

	thread->watch = (struct fd_watch){
		.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .lazy = true, .fn = woken};
	if (thread->watch.fd < 0)
		return -errno;
	int err = fdset_add(fds, &thread->watch, EPOLLIN);
	if (!err)
		err = start_worker(thread);
	if (err) {
		fdset_remove(fds, &thread->watch);
		close(thread->watch.fd);
	}
	return err;
}

int blkthread_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out)
{
	struct blkthread *thread = calloc(1, sizeof(*thread));

	if (!thread)
		return -ENOMEM;
	thread->dev =
		(struct blkdev){.ops = &blkthread_ops, .sched = sched, .iov_max = 64, .depth = 128};
	pthread_mutex_init(&thread->lock, NULL);
	pthread_cond_init(&thread->to_do, NULL);
	pthread_cond_init(&thread->is_done, NULL);
	int err = blkdev_file_open(&thread->file, sched, place, &thread->dev);
	if (err) {
		free(thread);
		return err;
	}
	err = start(thread);
	if (err) {
		log_write(&sched->log, LOG_LEVEL_ERROR, "%s: no thread for it: %s", place->path,
			  strerror(-err));
		blkdev_file_close(&thread->file);
		free(thread);
		return err;
	}
	*dev_out = &thread->dev;
	return 0;
}
