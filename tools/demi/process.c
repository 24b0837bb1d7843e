/* SPDX-License-Identifier: MIT
 * tools/demi/process.c - child processes of a measurement.
 *
 * Environment: DEMI_BENCH_RT=1 runs them under SCHED_FIFO priority 1, for a machine that others use
 * too. Only for runs below a second or so: the kernel takes the core back for some 50 ms of each
 * second.
 */
#include "process.h"

#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int cores_usable(void)
{
	cpu_set_t cores;

	if (sched_getaffinity(0, sizeof(cores), &cores) < 0)
		return 1;
	return CPU_COUNT(&cores);
}

void core_pin(int core)
{
	cpu_set_t usable;
	cpu_set_t one;
	int at = -1;

	if (core < 0 || sched_getaffinity(0, sizeof(usable), &usable) < 0)
		return;
	for (int left = core % CPU_COUNT(&usable); left >= 0; left--) {
		do
			at++;
		while (!CPU_ISSET(at, &usable));
	}
	CPU_ZERO(&one);
	CPU_SET(at, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Two tasks that spin for each other on one core would never yield it under SCHED_FIFO: needs two
 * cores. */
static void take_priority(void)
{
	const char *wish = getenv("DEMI_BENCH_RT");
	struct sched_param param = {.sched_priority = 1};

	if (!wish || strcmp(wish, "1") != 0)
		return;
	if (cores_usable() < 2 || sched_setscheduler(0, SCHED_FIFO, &param) < 0)
		tool_complain("DEMI_BENCH_RT: no real-time priority: %s",
			      cores_usable() < 2 ? "there is one core only" : strerror(errno));
}

__attribute__((noreturn)) static void child_main(int control, pid_t parent, int core,
						 process_main_t run, void *arg)
{
	int status;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(TOOL_FAILED);
	take_priority();
	core_pin(core);
	status = run(arg, control);
	fflush(NULL);
	_exit(status);
}

int process_start(struct process *process, int core, process_main_t run, void *arg)
{
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	fflush(NULL);
	process->pid = fork();
	if (process->pid < 0) {
		int error = errno;

		close(ends[0]);
		close(ends[1]);
		return -error;
	}
	if (process->pid == 0) {
		close(ends[0]);
		child_main(ends[1], parent, core, run, arg);
	}
	close(ends[1]);
	process->control = ends[0];
	return 0;
}

void process_ready(int control)
{
	while (write(control, "r", 1) < 0 && errno == EINTR)
		;
}

/* Waits until the control pipe has something to say. 0 or -ETIMEDOUT. */
static int control_await(struct process *process, int timeout_ms)
{
	struct pollfd poller = {.fd = process->control, .events = POLLIN};
	uint64_t deadline_ns = clock_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;

	for (;;) {
		uint64_t now_ns = clock_now_ns();
		int left_ms =
			now_ns >= deadline_ns ? 0 : (int)((deadline_ns - now_ns) / NS_PER_MS) + 1;
		int count = poll(&poller, 1, left_ms);

		if (count > 0)
			return 0;
		if (count == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* One byte of the control pipe: 1, or 0 at its end. */
static ssize_t control_read(struct process *process)
{
	char byte;
	ssize_t got;

	do
		got = read(process->control, &byte, 1);
	while (got < 0 && errno == EINTR);
	return got;
}

int process_await_ready(struct process *process, int timeout_ms)
{
	int error = control_await(process, timeout_ms);

	if (error)
		return error;
	return control_read(process) == 1 ? 0 : -EPIPE;
}

static int process_reap(struct process *process)
{
	int status = 0;

	while (waitpid(process->pid, &status, 0) < 0 && errno == EINTR)
		;
	close(process->control);
	process->pid = 0;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int process_await_end(struct process *process, int timeout_ms, int *status)
{
	do {
		int error = control_await(process, timeout_ms);

		if (error)
			return error;
	} while (control_read(process) > 0);
	*status = process_reap(process);
	return 0;
}

void process_kill(struct process *process)
{
	if (process->pid <= 0)
		return;
	kill(process->pid, SIGKILL);
	process_reap(process);
}
