/* SPDX-License-Identifier: MIT
 * netdev/dpdk/gate.c - keeps DPDK's control thread out of the way of net_memif's data path.
 *
 * When the peer of a memif goes, the EAL's interrupt thread unmaps what the two shared, though a
 * burst may be in it: the driver has no lock there (seen with 22.11: one in thirty peers that ended
 * took us along).  So that thread sleeps in a callback of ours, and leaves it for what is to be
 * done every GATE_NS only, when no instance is in a burst; a burst at that moment moves nothing.
 *
 * Instances pay a store and a load: the thread makes those visible by membarrier(2), which pairs
 * with the compiler's fence in gate_enter.
 */
#include "netdev/dpdk/dpdk.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <rte_alarm.h>
#include <rte_pause.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GATE_NS 5000000 /* until a peer that comes or goes is noticed */

/* Stated exception to "no mutable globals": the process has one such thread. */
struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .open = true};

static void barrier(void)
{
	(void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

static void await_bursts(void)
{
	barrier();
	for (struct dpdk *x = gate.members; x; x = x->gate_next) {
		while (atomic_load_explicit(&x->inside, memory_order_acquire))
			rte_pause();
	}
}

/* Runs on the EAL's interrupt thread, and again when that has done what there was. */
static void stay(void *unused)
{
	static const struct timespec duration = {.tv_nsec = GATE_NS};

	(void)unused;
	atomic_store_explicit(&gate.open, false, memory_order_release);
	(void)nanosleep(&duration, NULL);
	atomic_store_explicit(&gate.open, true, memory_order_relaxed);
	(void)pthread_mutex_lock(&gate.lock);
	await_bursts();
	gate.staying = gate.members && rte_eal_alarm_set(1, stay, NULL) == 0;
	(void)pthread_mutex_unlock(&gate.lock);
}

int gate_join(struct dpdk *x)
{
	int err = 0;

	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		return -errno;
	(void)pthread_mutex_lock(&gate.lock);
	if (!gate.staying)
		err = rte_eal_alarm_set(1, stay, NULL);
	if (!err) {
		gate.staying = true;
		x->gate_next = gate.members;
		gate.members = x;
		x->gated = true;
	}
	(void)pthread_mutex_unlock(&gate.lock);
	return err;
}

void gate_part(struct dpdk *x)
{
	(void)pthread_mutex_lock(&gate.lock);
	for (struct dpdk **at = &gate.members; *at; at = &(*at)->gate_next) {
		if (*at == x) {
			*at = x->gate_next;
			break;
		}
	}
	(void)pthread_mutex_unlock(&gate.lock);
	x->gated = false;
}
