/* SPDX-License-Identifier: MIT
 * transport/kernel/socket.c - what is one system call on a socket: creation, names, options, bind,
 * listen, shutdown.
 */
#include "transport/kernel/kernel.h"

#include "base/assert.h"

#include <demi/socket.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

/* The options that the configuration asks of TCP sockets; accepted ones inherit them.  A refusal
 * changes nothing that matters. */
void ksock_options(struct ksock *ks)
{
	const struct config *config = &ks->queue.sched->config;
	int fd = ks->watch.fd;

	if (!ks->stream)
		return;
	if (config->nodelay)
		(void)set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (config->keepalive) {
		(void)set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		if (config->keepalive_time_ms > 0)
			(void)set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE,
				      (int)((config->keepalive_time_ms + 999) / 1000));
		if (config->keepalive_interval_ms > 0)
			(void)set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL,
				      (int)((config->keepalive_interval_ms + 999) / 1000));
	}
	/* 0 is the length of TIME_WAIT in files of Demikernel's; to the kernel it would be a close
	 * that resets the connection and throws away what was pushed. */
	if (config->linger && config->linger_seconds > 0) {
		ks->engine->so_linger = true;
		struct linger linger = {.l_onoff = 1, .l_linger = (int)config->linger_seconds};
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	}
}

int ksock_new(struct kernel_engine *engine, int fd, bool stream, struct ksock **out)
{
	struct ksock *ks = calloc(1, sizeof(*ks));

	if (!ks)
		return -ENOMEM;
	ks->queue.ops = &kernel_queue_ops;
	ks->queue.sched = engine->engine.sched;
	ks->queue.qd = -1;
	ks->queue.ends = stream;
	ks->watch.fd = fd;
	ks->watch.fn = ksock_event;
	ks->engine = engine;
	ks->stream = stream;
	ks->writable = true;
	op_list_init(&ks->pops);
	op_list_init(&ks->pushes);
	op_list_init(&ks->accepts);
	list_init(&ks->in_engine);
	*out = ks;
	return 0;
}

/* SO_LINGER makes close wait, O_NONBLOCK or not; without it the kernel sends on all the same.  Time
 * 0, a reset, stays. */
static void linger_in_background(const struct ksock *ks)
{
	struct linger linger = {0};
	socklen_t length = sizeof(linger);

	if (!ks->engine->so_linger ||
	    getsockopt(ks->watch.fd, SOL_SOCKET, SO_LINGER, &linger, &length))
		return;
	if (!linger.l_onoff || linger.l_linger == 0)
		return;
	linger.l_onoff = 0;
	(void)setsockopt(ks->watch.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* Nothing is pending any more. */
void ksock_delete(struct ksock *ks)
{
	kernel_forget(ks);
	linger_in_background(ks);
	fdset_remove(&ks->queue.sched->fds, &ks->watch);
	close(ks->watch.fd);
	free(ks);
}

static int kernel_socket(struct engine *engine, int domain, int type, int protocol,
			 struct queue **queue_out)
{
	struct kernel_engine *ke = container_of(engine, struct kernel_engine, engine);
	struct ksock *ks;

	if (!transport_supports(domain, type, protocol))
		return -ENOTSUP;
	int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return errno == EAFNOSUPPORT ? -ENOTSUP : -errno;
	int err = ksock_new(ke, fd, type == SOCK_STREAM, &ks);
	if (err) {
		close(fd);
		return err;
	}
	ksock_options(ks);
	*queue_out = &ks->queue;
	return 0;
}

/* Without SO_REUSEADDR a second bind of an address in use fails, as it should; but so does the bind
 * of a server that was just restarted, whose old connections are in TIME_WAIT.  Those inherited
 * SO_REUSEADDR from their listener (kernel_listen), live sockets that are bound do not have it: a
 * second try with it succeeds only where nothing but TIME_WAIT is in the way. */
static int bind_again(int fd, const struct sockaddr *address, socklen_t length)
{
	if (set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1))
		return -EADDRINUSE;
	int err = bind(fd, address, length) ? -errno : 0;
	(void)set_int(fd, SOL_SOCKET, SO_REUSEADDR, 0);
	return err;
}

static int kernel_bind(struct queue *queue, const struct sockaddr *address, socklen_t length)
{
	struct ksock *ks = ksock_of(queue);
	int reuse = 0;
	socklen_t reuse_length = sizeof(reuse);

	if (ks->bound)
		return -EINVAL;
	int err = bind(ks->watch.fd, address, length) ? -errno : 0;
	if (err == -EADDRINUSE && ks->stream &&
	    getsockopt(ks->watch.fd, SOL_SOCKET, SO_REUSEADDR, &reuse, &reuse_length) == 0 &&
	    !reuse)
		err = bind_again(ks->watch.fd, address, length);
	ks->bound = err == 0;
	return err;
}

static int kernel_listen(struct queue *queue, int backlog)
{
	struct ksock *ks = ksock_of(queue);

	if (!ks->stream)
		return -ENOTSUP;
	if (ks->state != KSOCK_FRESH)
		return -EADDRINUSE;
	if (!ks->bound)
		return -EDESTADDRREQ;
	/* See bind_again.  Before the call, which checks the address once more. */
	(void)set_int(ks->watch.fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (listen(ks->watch.fd, backlog))
		return -errno;
	ks->state = KSOCK_LISTENING;
	return 0;
}

static int kernel_shutdown(struct queue *queue, int how)
{
	struct ksock *ks = ksock_of(queue);

	if (ks->state != KSOCK_CONNECTED)
		return -ENOTCONN;
	bool later = false;
	if (how != SHUT_RD) {
		ks->write_shut = true;
		later = !op_list_empty(
			&ks->pushes); /* kernel_send_pending does it behind the last byte */
	}
	if (how == SHUT_WR && later)
		return 0;
	if (shutdown(ks->watch.fd, later ? SHUT_RD : how))
		return -errno;
	if (how != SHUT_WR) {
		ks->readable = true; /* the end of the stream */
		ks->hung_up = true;
		ksock_serve_pops(ks);
	}
	return 0;
}

static int kernel_set_option(struct queue *queue, int level, int name, const void *value,
			     socklen_t length)
{
	struct ksock *ks = ksock_of(queue);

	if (level == SOL_DEMI)
		return -ENOPROTOOPT; /* the kernel has several ways to say so */
	if (level == SOL_SOCKET && name == SO_LINGER)
		ks->engine->so_linger = true;
	return setsockopt(ks->watch.fd, level, name, value, length) ? -errno : 0;
}

static int kernel_get_option(struct queue *queue, int level, int name, void *value,
			     socklen_t *length)
{
	if (level == SOL_DEMI)
		return -ENOPROTOOPT;
	return getsockopt(ksock_of(queue)->watch.fd, level, name, value, length) ? -errno : 0;
}

static int kernel_local_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	return getsockname(ksock_of(queue)->watch.fd, address, length) ? -errno : 0;
}

static int kernel_peer_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	return getpeername(ksock_of(queue)->watch.fd, address, length) ? -errno : 0;
}

const struct socket_ops kernel_socket_ops = {
	.socket = kernel_socket,
	.bind = kernel_bind,
	.listen = kernel_listen,
	.accept = kernel_accept,
	.connect = kernel_connect,
	.shutdown = kernel_shutdown,
	.set_option = kernel_set_option,
	.get_option = kernel_get_option,
	.local_name = kernel_local_name,
	.peer_name = kernel_peer_name,
	/* A filter of the kernel's (SO_ATTACH_FILTER) sees other bytes at other places. */
	.filter = socket_filter_none,
};
