/* SPDX-License-Identifier: MIT
 * tools/demi/server_cpu.c - CPU time of a server process, exact to the moment, read by its client.
 */
#include "server_cpu.h"

#include "tool.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <time.h>

#define SIGNAL    SIGUSR1
#define LOOKS_MAX 2000
#define LOOK_NS   50000

static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "used in a signal handler");

/* The handler has no argument to find it by. */
static struct server_cpu *served;

static void answer(int number)
{
	struct timespec spent;
	int error = errno;

	(void)number;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	atomic_store_explicit(&served->spent_ns,
			      (uint64_t)spent.tv_sec * NS_PER_S + (uint64_t)spent.tv_nsec,
			      memory_order_relaxed);
	atomic_fetch_add_explicit(&served->readings, 1, memory_order_release);
	errno = error;
}

void server_cpu_serve(struct server_cpu *cpu)
{
	struct sigaction action = {.sa_handler = answer, .sa_flags = SA_RESTART};

	served = cpu;
	sigaction(SIGNAL, &action, NULL);
}

uint64_t server_cpu_of(pid_t pid)
{
	struct timespec spent;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &spent) != 0)
		return 0;
	return (uint64_t)spent.tv_sec * NS_PER_S + (uint64_t)spent.tv_nsec;
}

uint64_t server_cpu_read(struct server_cpu *cpu, pid_t pid)
{
	const struct timespec pause = {.tv_nsec = LOOK_NS};
	unsigned before = atomic_load_explicit(&cpu->readings, memory_order_relaxed);

	if (pid == 0 || kill(pid, SIGNAL) != 0)
		return 0;
	for (int look = 0; look < LOOKS_MAX; look++) {
		if (atomic_load_explicit(&cpu->readings, memory_order_acquire) != before)
			return atomic_load_explicit(&cpu->spent_ns, memory_order_relaxed);
		nanosleep(&pause, NULL);
	}
	return 0;
}
