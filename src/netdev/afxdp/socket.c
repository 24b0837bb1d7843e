/* SPDX-License-Identifier: MIT */
#include "netdev/afxdp/socket.h"

#include "netdev/afxdp/ring.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

#define BUSY_POLL_FRAMES 64 /* that the kernel may process in one call */
#define BUSY_NS          10000000
#define BUSY_TRIES       50

int socket_refused(const struct log *log, const struct grant_request *request, const char *what,
		   int err)
{
	const char *mend = "";

	if (err == -EPERM || err == -EACCES)
		mend = ": needs CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and CAP_IPC_LOCK: run it by "
		       "sudo, or start `demi xdp-helper` and set demitasse.xdp.helper";
	else if (err == -ENOBUFS)
		mend = ": more memory than may be locked: raise it by ulimit -l (LimitMEMLOCK= of "
		       "systemd), or set demitasse.xdp.memory_bytes lower";
	else if (err == -EBUSY)
		mend = ": another socket is bound to this queue; see demitasse.xdp.queue";
	else if (err == -EINVAL)
		mend = ": is there such a queue? ethtool -l shows them";
	log_write(log, LOG_LEVEL_ERROR, "AF_XDP, interface %s, queue %u: %s: %s%s",
		  request->interface, request->queue, what, strerror(-err), mend);
	return err;
}

static int give_memory(int fd, const struct grant_request *request, void *memory)
{
	const struct xdp_umem_reg registration = {
		.addr = (uintptr_t)memory,
		.len = request->memory_bytes,
		.chunk_size = GRANT_FRAME_BYTES,
		.headroom = request->headroom,
	};

	return setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &registration, sizeof(registration)) ? -errno
											  : 0;
}

/* own: FILL and COMPLETION too. */
static int size_rings(int fd, uint32_t size, bool own)
{
	int err = 0;

	for (int kind = own ? RING_FILL : RING_RX; kind < RING_KINDS && !err; kind++)
		err = ring_size(fd, kind, size);
	return err;
}

/* The kernel lets go of a queue some time after its last socket was closed. */
static int bind_patiently(int fd, const struct sockaddr_xdp *address)
{
	const struct timespec pause = {.tv_nsec = BUSY_NS};

	for (int tries = 0; bind(fd, (const struct sockaddr *)address, sizeof(*address)); tries++) {
		if (errno != EBUSY || tries == BUSY_TRIES)
			return -errno;
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

static int bind_with(struct grant *grant, int index, uint16_t flags)
{
	const struct sockaddr_xdp address = {
		.sxdp_family = AF_XDP,
		.sxdp_flags = flags | XDP_USE_NEED_WAKEUP,
		.sxdp_ifindex = (uint32_t)index,
		.sxdp_queue_id = grant->queue,
	};

	int err = bind_patiently(grant->fd, &address);
	if (err)
		return err;
	grant->zero_copy = flags & XDP_ZEROCOPY;
	grant->segments = flags & XDP_USE_SG;
	return 0;
}

/* The best of what the request leaves open. */
static int bind_best(struct grant *grant, const struct grant_request *request, int index)
{
	static const uint16_t best_first[] = {XDP_ZEROCOPY | XDP_USE_SG, XDP_ZEROCOPY,
					      XDP_COPY | XDP_USE_SG, XDP_COPY};
	int err = -EOPNOTSUPP;

	for (uint32_t i = 0; i < sizeof(best_first) / sizeof(*best_first); i++) {
		bool zero_copy = best_first[i] & XDP_ZEROCOPY;
		if (request->copy == (zero_copy ? GRANT_COPY : GRANT_ZERO_COPY) ||
		    (request->pool && best_first[i] & XDP_USE_SG))
			continue;
		err = bind_with(grant, index, best_first[i]);
		if (err != -EOPNOTSUPP && err != -EINVAL)
			return err;
	}
	return err;
}

/* As the other is. */
static int bind_beside(struct grant *grant, const struct grant *with, int index)
{
	const struct sockaddr_xdp address = {
		.sxdp_family = AF_XDP,
		.sxdp_flags = XDP_SHARED_UMEM,
		.sxdp_ifindex = (uint32_t)index,
		.sxdp_queue_id = grant->queue,
		.sxdp_shared_umem_fd = (uint32_t)with->fd,
	};

	if (bind(grant->fd, (const struct sockaddr *)&address, sizeof(address)))
		return -errno;
	grant->zero_copy = with->zero_copy;
	grant->segments = with->segments;
	return 0;
}

/* Without it the socket works all the same: told. */
static void prefer_polling(struct grant *grant, const struct log *log,
			   const struct grant_request *request)
{
	const int prefer = 1;
	const int budget = BUSY_POLL_FRAMES;
	const int us = (int)request->busy_poll_us;
	int fd = grant->fd;

	if (us == 0)
		return;
	if (setsockopt(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &prefer, sizeof(prefer)) ||
	    setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL, &us, sizeof(us)) ||
	    setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof(budget)))
		log_write(log, LOG_LEVEL_WARNING, "demitasse.xdp.busy_poll_us: interface %s: %s",
			  request->interface, strerror(errno));
	else
		grant->busy_poll = true;
}

int socket_open(struct grant *grant, const struct log *log, const struct grant_request *request,
		void *memory)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return socket_refused(log, request, "socket", -errno);
	grant->fd = fd;
	int err = memory ? give_memory(fd, request, memory) : 0;
	if (err)
		return socket_refused(log, request, "memory", err);
	err = size_rings(fd, request->ring, memory);
	return err ? socket_refused(log, request, "rings", err) : 0;
}

int socket_bind(struct grant *grant, const struct log *log, const struct grant_request *request,
		int index, const struct grant *with)
{
	int err = with ? bind_beside(grant, with, index) : bind_best(grant, request, index);

	if (err)
		return socket_refused(
			log, request,
			request->copy == GRANT_ZERO_COPY ? "bind with zero copy" : "bind", err);
	prefer_polling(grant, log, request);
	return 0;
}
