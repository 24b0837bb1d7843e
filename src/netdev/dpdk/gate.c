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
#include <rte_interrupts.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GATE_NS 5000000 /* until a peer that comes or goes is noticed */

/* Stated exception to "no mutable globals": the process has one such thread. */
struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .open = true};

static void barrier(void)
{
	(void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

void gate_await(struct dpdk *x)
{
	barrier();
	while (atomic_load_explicit(&x->inside, memory_order_acquire))
		(void)sched_yield(); /* it may be on our core */
}

static void await_bursts(void)
{
	for (struct dpdk *x = gate.members; x; x = x->gate_next)
		gate_await(x);
}

/* Runs on the EAL's interrupt thread, in each of its rounds as long as the eventfd is not 0. */
static void stay(void *unused)
{
	static const struct timespec duration = {.tv_nsec = GATE_NS};
	eventfd_t count;

	(void)unused;
	atomic_store_explicit(&gate.open, false, memory_order_release);
	(void)nanosleep(&duration, NULL);
	atomic_store_explicit(&gate.open, true, memory_order_relaxed);
	(void)pthread_mutex_lock(&gate.lock);
	await_bursts();
	if (!gate.members)
		(void)eventfd_read(gate.fd, &count);
	(void)pthread_mutex_unlock(&gate.lock);
}

static bool have_called(int fd, void (*fn)(void *))
{
	struct rte_intr_handle *handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
	bool done = handle && !rte_intr_type_set(handle, RTE_INTR_HANDLE_EXT) &&
		    !rte_intr_fd_set(handle, fd) && !rte_intr_callback_register(handle, fn, NULL);

	rte_intr_instance_free(handle); /* the EAL has a copy */
	return done;
}

int gate_prepare(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) ? -errno
											: 0;
}

/* For the rest of the process's life.  0 or -errno. */
static int install(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (gate_prepare() || !have_called(fd, stay)) {
		(void)close(fd);
		return -ENOTSUP;
	}
	gate.fd = fd;
	return 0;
}

int gate_join(struct dpdk *x)
{
	(void)pthread_mutex_lock(&gate.lock);
	int err = gate.fd < 0 ? install() : 0;
	if (!err) {
		x->gate_next = gate.members;
		gate.members = x;
		x->gate = &gate.open;
		(void)eventfd_write(gate.fd, 1);
	}
	(void)pthread_mutex_unlock(&gate.lock);
	return err;
}

void gate_yield(struct dpdk *x)
{
	atomic_store_explicit(&x->inside, false, memory_order_release);
	(void)sched_yield();
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
	x->gate = NULL;
}
