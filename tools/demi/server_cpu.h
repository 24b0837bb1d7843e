/* SPDX-License-Identifier: MIT
 * tools/demi/server_cpu.h - CPU time of a server process, exact to the moment, read by its client.
 *
 * The kernel brings the CPU clock of a process that runs on another core up to date at its ticks
 * only (4 ms): too coarse for a run of a tenth of a second. So the client sends a signal, and the
 * server's handler reads its own clock into shared memory.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

struct server_cpu {
	_Atomic uint64_t spent_ns;
	atomic_uint readings; /* released after spent_ns is stored, acquired before it is loaded */
};

/* Server: from now on answers the signal. */
void server_cpu_serve(struct server_cpu *cpu);

/* Client: CPU time that the server has spent; 0 if it is not known (pid 0, or no answer within 100
 * ms). */
uint64_t server_cpu_read(struct server_cpu *cpu, pid_t pid);

/* The same of a process that does not answer, exact to the last tick. */
uint64_t server_cpu_of(pid_t pid);
