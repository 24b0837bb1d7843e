/* SPDX-License-Identifier: MIT
 * api/instance.h - an instance, and the calling thread's.
 *
 * src/api/ validates and translates; the work is done below.  Inside everything returns -errno, at
 * this edge +errno.
 */
#pragma once

#include "api/stat.h"
#include "base/process.h"
#include "queue/queue.h"
#include "transport/shm/shm.h"

#include <demi/instance.h>
#include <demi/wait.h>
#include <errno.h>
#include <stdatomic.h>

struct thread;

/* Lies in pages that fork wipes: in a child open reads 0. */
struct demi {
	uint32_t open; /* 1; 0 while a callback of the application runs, and in a forked child */
	struct sched sched;
	struct queue_table queues;
	struct engine *engine;
	struct log_engine *logs; /* NULL: no log was opened yet */
	struct shm *shm;         /* NULL: no pipe was made yet */
	struct stat_server stat;
	demi_classify_t classify; /* of demi_set_schedule; NULL */
	void *classify_arg;
	struct fd_watch timer;            /* demi_event_fd: a timerfd; fd -1 until then */
	bool from_init;                   /* ended by the thread's exit */
	_Atomic(struct thread *) entered; /* the thread whose current instance this is */
};

/* Stated exception to "no mutable globals": what belongs to a thread. */
struct thread {
	struct demi *current;
	struct heap *heap;    /* of current */
	struct log log;       /* for instances to come, and for what fails without one */
	bool watched;         /* its exit is noticed */
	uint32_t in_callback; /* the thread's log function runs, whoever called it */
	struct config_override *overrides;
};

extern _Thread_local struct thread thread_state __attribute__((tls_model("initial-exec")));

/* An instance in a world of the caller's making, left like demi_create leaves one; the process has
 * begun (base/process.h).  world is copied; its netdev belongs to the instance, after an error too.
 * 0 or -errno. */
int instance_create(const struct config *config, const struct sched_world *world,
		    struct demi **instance_out);

int instance_refusal(void);

/* Hands a line to what demi_set_log gave this thread; a log_fn. */
void log_of_thread(void *unused, int level, const char *message);

/* Has the thread's instance and settings ended with the thread. */
void thread_watch_exit(void);

/* The instance that a call means, or NULL and *err: ENOSYS, EBUSY. */
static inline struct demi *instance_enter(int *err)
{
	struct demi *demi = thread_state.current;

	if (likely(demi && demi->open))
		return demi;
	*err = instance_refusal();
	return NULL;
}

static inline void restore_errno(const int *saved)
{
	errno = *saved;
}

/* First thing in a call that makes system calls of the control path: the application's errno is as
 * it was when the call ends. */
#define KEEP_ERRNO const int saved_errno __attribute__((cleanup(restore_errno), unused)) = errno

/* The heap of the calling thread's instance, or NULL: in a forked child too, where the instance
 * reads as zeros. */
static inline struct heap *instance_heap(void)
{
	struct demi *demi = thread_state.current;

	return likely(demi) ? demi->sched.heap : NULL;
}
