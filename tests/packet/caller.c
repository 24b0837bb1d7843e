/* SPDX-License-Identifier: MIT
 * tests/packet/caller.c - the thread that makes calls that block.
 *
 * The script goes on when that thread sleeps within its call, as the kernel tells by its state:
 * only then has the stack been asked for what the call wants.
 */
#include "packet/run.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static void *make_calls(void *arg)
{
	struct run *run = arg;
	struct caller *caller = &run->caller;

	pthread_mutex_lock(&caller->lock);
	caller->tid = gettid();
	for (;;) {
		while (!caller->leaving && !(caller->busy && !caller->started))
			pthread_cond_wait(&caller->changed, &caller->lock);
		if (caller->leaving)
			break;
		caller->started = true;
		pthread_cond_broadcast(&caller->changed);
		pthread_mutex_unlock(&caller->lock);
		call_make(&run->call);
		run->call.finished_us = run_now(run);
		pthread_mutex_lock(&caller->lock);
		caller->busy = false;
		pthread_cond_broadcast(&caller->changed);
	}
	pthread_mutex_unlock(&caller->lock);
	return NULL;
}

static bool make_thread(struct run *run)
{
	struct caller *caller = &run->caller;

	if (caller->exists)
		return true;
	pthread_mutex_init(&caller->lock, NULL);
	pthread_cond_init(&caller->changed, NULL);
	caller->exists = pthread_create(&caller->thread, NULL, make_calls, run) == 0;
	return caller->exists;
}

/* The letter behind the name in /proc/self/task/TID/stat. */
bool caller_sleeps(pid_t tid)
{
	char path[64];
	char text[256] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	const char *at = n > 0 ? strrchr(text, ')') : NULL;
	return at && at[1] == ' ' && at[2] == 'S';
}

static bool is_busy(struct caller *caller)
{
	pthread_mutex_lock(&caller->lock);
	bool busy = caller->busy;
	pthread_mutex_unlock(&caller->lock);
	return busy;
}

bool caller_finished(struct run *run)
{
	struct caller *caller = &run->caller;

	while (is_busy(caller)) {
		/* The state first: a thread that slept may be through by now. */
		if (caller_sleeps(caller->tid) && is_busy(caller))
			return false;
		(void)sched_yield();
	}
	return true;
}

bool caller_start(struct run *run)
{
	struct caller *caller = &run->caller;

	if (!make_thread(run))
		return false;
	pthread_mutex_lock(&caller->lock);
	caller->busy = true;
	caller->started = false;
	pthread_cond_broadcast(&caller->changed);
	while (!caller->started)
		pthread_cond_wait(&caller->changed, &caller->lock);
	pthread_mutex_unlock(&caller->lock);
	(void)caller_finished(run);
	return true;
}

void caller_end(struct run *run)
{
	struct caller *caller = &run->caller;

	if (!caller->exists)
		return;
	pthread_mutex_lock(&caller->lock);
	caller->leaving = true;
	pthread_cond_broadcast(&caller->changed);
	pthread_mutex_unlock(&caller->lock);
	pthread_join(caller->thread, NULL);
	pthread_cond_destroy(&caller->changed);
	pthread_mutex_destroy(&caller->lock);
	caller->exists = false;
}
