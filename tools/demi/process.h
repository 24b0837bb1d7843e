/* SPDX-License-Identifier: MIT
 * tools/demi/process.h - child processes of a measurement: forked, pinned to a core, ready when
 * they say so, never outliving us.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct process {
	pid_t pid;
	int control; /* the child writes one byte when ready; end of file when it has ended */
};

/* What runs in the child; its value is the exit status. It calls process_ready when others may talk
 * to it. */
typedef int (*process_main_t)(void *arg, int control);

/* Forks; the child is pinned to the core (counted among those that we may use; < 0: not pinned). 0
 * or -errno. */
int process_start(struct process *process, int core, process_main_t run, void *arg);

/* In the child: says that it is ready. */
void process_ready(int control);

/* Waits for the child's word. 0; -EPIPE: it ended instead; -ETIMEDOUT. */
int process_await_ready(struct process *process, int timeout_ms);

/* Waits for its end, and reaps it. 0 and its exit status (128 + signal if killed), or -ETIMEDOUT.
 */
int process_await_end(struct process *process, int timeout_ms, int *status);

/* Ends it now, if it still runs, and reaps it. */
void process_kill(struct process *process);

/* Number of cores that we may use. */
int cores_usable(void);

/* Pins the calling thread to a core, counted among those that we may use; wraps around. */
void core_pin(int core);
