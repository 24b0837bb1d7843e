/* SPDX-License-Identifier: MIT
 * tests/packet/adapter_call.c - the members of packetdrill's interface that are system calls, on
 * the POSIX layer; see adapter.h.
 */
#include "packet/adapter.h"

#include <demi/coroutine.h>
#include <demi/instance.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* ---- descriptors ---- */

/* The layer's descriptor; -1, which it knows nothing of: not ours. */
static int file_of(const struct adapter *adapter, int fd)
{
	return fd >= 0 && fd < ADAPTER_FDS ? adapter->files[fd] : -1;
}

/* A descriptor of the kernel's that stands for one of the layer's.  -1 with errno, and it is
 * closed. */
static int enter_fd(struct adapter *adapter, int file)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	int err = fd < 0 ? errno : fd >= ADAPTER_FDS ? EMFILE : 0;

	if (err) {
		if (fd >= 0)
			(void)close(fd);
		(void)posix_close(&adapter->posix, file);
		errno = err;
		return -1;
	}
	if (adapter->files[fd] >= 0) /* the kernel's was closed behind our back */
		(void)posix_close(&adapter->posix, adapter->files[fd]);
	adapter->files[fd] = file;
	return fd;
}

/* ---- calling ---- */

static void run_call(void *arg)
{
	struct adapter_call *call = arg;

	call->result = call->make(&call->adapter->posix, call);
	call->error = errno;
	call->ended_ns = call->adapter->now_ns;
	call->ended = true;
	pthread_cond_signal(&call->done);
}

static bool has_ended(const void *arg)
{
	const struct adapter_call *call = arg;

	return call->ended;
}

/* The owner's call blocks: time passes, for nobody else moves it.  One that blocks for ever ends as
 * if its descriptor had been closed. */
static void await_alone(struct adapter *adapter, struct adapter_call *call)
{
	adapter_pass(adapter, adapter->now_ns + ADAPTER_QUIET_NS, has_ended, call);
	if (call->ended)
		return;
	adapter_close_all(adapter);
	adapter_pass(adapter, adapter->now_ns + ADAPTER_QUIET_NS, has_ended, call);
}

/* The thread is cancelled, and its stack goes, where the call and its buffers lie: the call must
 * end first.  The lock is held. */
static void abandon(void *arg)
{
	struct adapter *adapter = arg;

	(void)demi_enter(adapter->demi);
	adapter_close_all(adapter);
	adapter->callers--;
	pthread_cond_signal(&adapter->left);
	adapter_leave(adapter);
}

static void await_others(struct adapter *adapter, struct adapter_call *call)
{
	adapter->callers++;
	pthread_cleanup_push(abandon, adapter);
	while (!call->ended) {
		(void)demi_enter(NULL);
		pthread_cond_wait(&call->done, &adapter->lock);
		(void)demi_enter(adapter->demi);
	}
	pthread_cleanup_pop(0);
	adapter->callers--;
	pthread_cond_signal(&adapter->left);
}

/* Makes a call whose fd is the layer's.  The lock is held. */
static ssize_t call_locked(struct adapter *adapter, struct adapter_call *call)
{
	bool alone = pthread_equal(pthread_self(), adapter->owner);

	call->adapter = adapter;
	pthread_cond_init(&call->done, NULL);
	if (demi_go(run_call, call)) {
		call->result = -1;
		call->error = ENOMEM;
	} else {
		adapter_settle(adapter);
		if (!call->ended && alone)
			await_alone(adapter, call);
		else if (!call->ended)
			await_others(adapter, call);
	}
	if (!alone) {
		adapter->has_ended = true;
		adapter->ended_thread = pthread_self();
		adapter->ended_ns = call->ended_ns;
	}
	pthread_cond_destroy(&call->done);
	return call->result;
}

/* Ends a call: errno is the last thing that changes. */
static ssize_t end_call(struct adapter *adapter, ssize_t result, int err)
{
	adapter_leave(adapter);
	if (result < 0)
		errno = err;
	return result;
}

static ssize_t make_call(struct adapter *adapter, struct adapter_call *call)
{
	adapter_enter(adapter);
	call->fd = file_of(adapter, call->fd);
	(void)call_locked(adapter, call);
	return end_call(adapter, call->result, call->error);
}

/* The same, of a call that returns a descriptor. */
static int make_descriptor(struct adapter *adapter, struct adapter_call *call)
{
	adapter_enter(adapter);
	call->fd = file_of(adapter, call->fd);
	int file = (int)call_locked(adapter, call);
	int fd = file < 0 ? -1 : enter_fd(adapter, file);
	return (int)end_call(adapter, fd, file < 0 ? call->error : errno);
}

/* ---- sockets ---- */

static ssize_t do_socket(struct posix *px, struct adapter_call *call)
{
	return posix_socket(px, call->fd, call->a, call->b);
}

static int so_socket(void *adapter, int domain, int type, int protocol)
{
	struct adapter_call call = {.make = do_socket, .a = type, .b = protocol};

	adapter_enter(adapter);
	call.fd = domain; /* no descriptor, so not looked up */
	int file = (int)call_locked(adapter, &call);
	int fd = file < 0 ? -1 : enter_fd(adapter, file);
	return (int)end_call(adapter, fd, file < 0 ? call.error : errno);
}

static ssize_t do_bind(struct posix *px, struct adapter_call *call)
{
	return posix_bind(px, call->fd, call->to, call->length);
}

static int so_bind(void *adapter, int fd, const struct sockaddr *address, socklen_t length)
{
	struct adapter_call call = {.make = do_bind, .fd = fd, .to = address, .length = length};

	return (int)make_call(adapter, &call);
}

static ssize_t do_listen(struct posix *px, struct adapter_call *call)
{
	return posix_listen(px, call->fd, call->a);
}

static int so_listen(void *adapter, int fd, int backlog)
{
	struct adapter_call call = {.make = do_listen, .fd = fd, .a = backlog};

	return (int)make_call(adapter, &call);
}

static ssize_t do_accept(struct posix *px, struct adapter_call *call)
{
	return posix_accept(px, call->fd, call->from, call->from_length);
}

static int so_accept(void *adapter, int fd, struct sockaddr *address, socklen_t *length)
{
	struct adapter_call call = {
		.make = do_accept, .fd = fd, .from = address, .from_length = length};

	return make_descriptor(adapter, &call);
}

static ssize_t do_connect(struct posix *px, struct adapter_call *call)
{
	return posix_connect(px, call->fd, call->to, call->length);
}

static int so_connect(void *adapter, int fd, const struct sockaddr *address, socklen_t length)
{
	struct adapter_call call = {.make = do_connect, .fd = fd, .to = address, .length = length};

	return (int)make_call(adapter, &call);
}

static ssize_t do_shutdown(struct posix *px, struct adapter_call *call)
{
	return posix_shutdown(px, call->fd, call->a);
}

static int so_shutdown(void *adapter, int fd, int how)
{
	struct adapter_call call = {.make = do_shutdown, .fd = fd, .a = how};

	return (int)make_call(adapter, &call);
}

static ssize_t do_close(struct posix *px, struct adapter_call *call)
{
	return posix_close(px, call->fd);
}

static int so_close(void *adapter, int fd)
{
	struct adapter_call call = {.make = do_close};
	struct adapter *a = adapter;

	adapter_enter(adapter);
	call.fd = file_of(a, fd);
	if (call.fd >= 0) {
		a->files[fd] = -1;
		(void)close(fd);
	}
	(void)call_locked(adapter, &call);
	return (int)end_call(adapter, call.result, call.error);
}

void adapter_close_all(struct adapter *adapter)
{
	for (int fd = 0; fd < ADAPTER_FDS; fd++) {
		if (adapter->files[fd] >= 0)
			(void)posix_close(&adapter->posix, adapter->files[fd]);
		adapter->files[fd] = -1;
	}
	adapter_settle(adapter);
}

/* ---- data ---- */

static ssize_t do_recvmsg(struct posix *px, struct adapter_call *call)
{
	return posix_recvmsg(px, call->fd, call->out, call->a);
}

static ssize_t so_recvmsg(void *adapter, int fd, struct msghdr *message, int flags)
{
	struct adapter_call call = {.make = do_recvmsg, .fd = fd, .out = message, .a = flags};

	return make_call(adapter, &call);
}

static ssize_t do_recvfrom(struct posix *px, struct adapter_call *call)
{
	struct iovec iov = {call->out, call->size};

	return posix_recvfrom(px, call->fd, &iov, call->a, call->from, call->from_length);
}

static ssize_t so_recvfrom(void *adapter, int fd, void *buffer, size_t size, int flags,
			   struct sockaddr *address, socklen_t *length)
{
	struct adapter_call call = {.make = do_recvfrom,
				    .fd = fd,
				    .out = buffer,
				    .size = size,
				    .a = flags,
				    .from = address,
				    .from_length = length};

	return make_call(adapter, &call);
}

static ssize_t so_recv(void *adapter, int fd, void *buffer, size_t size, int flags)
{
	return so_recvfrom(adapter, fd, buffer, size, flags, NULL, NULL);
}

static ssize_t so_read(void *adapter, int fd, void *buffer, size_t size)
{
	return so_recvfrom(adapter, fd, buffer, size, 0, NULL, NULL);
}

static ssize_t do_readv(struct posix *px, struct adapter_call *call)
{
	return posix_readv(px, call->fd, call->in, call->a);
}

static ssize_t so_readv(void *adapter, int fd, const struct iovec *iov, int count)
{
	struct adapter_call call = {.make = do_readv, .fd = fd, .in = iov, .a = count};

	return make_call(adapter, &call);
}

static ssize_t do_sendmsg(struct posix *px, struct adapter_call *call)
{
	return posix_sendmsg(px, call->fd, call->in, call->a);
}

static ssize_t so_sendmsg(void *adapter, int fd, const struct msghdr *message, int flags)
{
	struct adapter_call call = {.make = do_sendmsg, .fd = fd, .in = message, .a = flags};

	return make_call(adapter, &call);
}

static ssize_t do_sendto(struct posix *px, struct adapter_call *call)
{
	struct iovec iov = {(void *)(uintptr_t)call->in, call->size};

	return posix_sendto(px, call->fd, &iov, call->a, call->to, call->length);
}

static ssize_t so_sendto(void *adapter, int fd, const void *bytes, size_t size, int flags,
			 const struct sockaddr *address, socklen_t length)
{
	struct adapter_call call = {.make = do_sendto,
				    .fd = fd,
				    .in = bytes,
				    .size = size,
				    .a = flags,
				    .to = address,
				    .length = length};

	return make_call(adapter, &call);
}

static ssize_t so_send(void *adapter, int fd, const void *bytes, size_t size, int flags)
{
	return so_sendto(adapter, fd, bytes, size, flags, NULL, 0);
}

static ssize_t so_write(void *adapter, int fd, const void *bytes, size_t size)
{
	return so_sendto(adapter, fd, bytes, size, 0, NULL, 0);
}

static ssize_t do_writev(struct posix *px, struct adapter_call *call)
{
	return posix_writev(px, call->fd, call->in, call->a);
}

static ssize_t so_writev(void *adapter, int fd, const struct iovec *iov, int count)
{
	struct adapter_call call = {.make = do_writev, .fd = fd, .in = iov, .a = count};

	return make_call(adapter, &call);
}

/* ---- control ---- */

static ssize_t do_fcntl(struct posix *px, struct adapter_call *call)
{
	return posix_fcntl(px, call->fd, call->a, call->b);
}

static int so_fcntl(void *adapter, int fd, int command, ...)
{
	struct adapter_call call = {.make = do_fcntl, .fd = fd, .a = command};
	va_list args;

	va_start(args, command);
	if (command == F_SETFL || command == F_SETFD)
		call.b = va_arg(args, int);
	va_end(args);
	return (int)make_call(adapter, &call);
}

static ssize_t do_ioctl(struct posix *px, struct adapter_call *call)
{
	return posix_ioctl(px, call->fd, call->request, call->out);
}

static int so_ioctl(void *adapter, int fd, unsigned long request, ...)
{
	struct adapter_call call = {.make = do_ioctl, .fd = fd, .request = request};
	va_list args;

	va_start(args, request);
	call.out = va_arg(args, void *);
	va_end(args);
	return (int)make_call(adapter, &call);
}

/* TCP_INFO is as long as is asked for: newer fields than we know are 0. */
static ssize_t do_getsockopt(struct posix *px, struct adapter_call *call)
{
	socklen_t asked = call->out && call->from_length ? *call->from_length : 0;
	ssize_t result =
		posix_getsockopt(px, call->fd, call->a, call->b, call->out, call->from_length);

	if (result == 0 && call->a == IPPROTO_TCP && call->b == TCP_INFO &&
	    *call->from_length < asked) {
		memset((char *)call->out + *call->from_length, 0, asked - *call->from_length);
		*call->from_length = asked;
	}
	return result;
}

static int so_getsockopt(void *adapter, int fd, int level, int name, void *value, socklen_t *length)
{
	struct adapter_call call = {.make = do_getsockopt,
				    .fd = fd,
				    .a = level,
				    .b = name,
				    .out = value,
				    .from_length = length};

	return (int)make_call(adapter, &call);
}

static ssize_t do_setsockopt(struct posix *px, struct adapter_call *call)
{
	return posix_setsockopt(px, call->fd, call->a, call->b, call->in, call->length);
}

static int so_setsockopt(void *adapter, int fd, int level, int name, const void *value,
			 socklen_t length)
{
	struct adapter_call call = {.make = do_setsockopt,
				    .fd = fd,
				    .a = level,
				    .b = name,
				    .in = value,
				    .length = length};

	return (int)make_call(adapter, &call);
}

/* ---- waiting for many ---- */

static ssize_t do_poll(struct posix *px, struct adapter_call *call)
{
	return posix_poll(px, call->out, call->size, call->a);
}

static int so_poll(void *adapter, struct pollfd *fds, nfds_t count, int timeout_ms)
{
	struct pollfd *files = calloc(count + 1, sizeof(*files));
	struct adapter_call call = {
		.make = do_poll, .fd = -1, .out = files, .size = count, .a = timeout_ms};

	if (!files) {
		errno = ENOMEM;
		return -1;
	}
	adapter_enter(adapter);
	for (nfds_t i = 0; i < count; i++) {
		files[i] = fds[i];
		/* A descriptor that is none of ours is a bad one, which is no negative one. */
		if (fds[i].fd >= 0 && (files[i].fd = file_of(adapter, fds[i].fd)) < 0)
			files[i].fd = ADAPTER_FILES;
	}
	(void)call_locked(adapter, &call);
	for (nfds_t i = 0; i < count; i++)
		fds[i].revents = files[i].revents;
	free(files);
	return (int)end_call(adapter, call.result, call.error);
}

static ssize_t do_epoll_create(struct posix *px, struct adapter_call *call)
{
	(void)call;
	return posix_epoll_create(px, 0);
}

static int so_epoll_create(void *adapter, int size)
{
	struct adapter_call call = {.make = do_epoll_create, .fd = -1};

	if (size <= 0) {
		errno = EINVAL;
		return -1;
	}
	return make_descriptor(adapter, &call);
}

static ssize_t do_epoll_ctl(struct posix *px, struct adapter_call *call)
{
	return posix_epoll_ctl(px, call->fd, call->a, call->b, call->out);
}

static int so_epoll_ctl(void *adapter, int epfd, int operation, int fd, struct epoll_event *event)
{
	struct adapter_call call = {.make = do_epoll_ctl, .a = operation, .out = event};

	adapter_enter(adapter);
	call.fd = file_of(adapter, epfd);
	call.b = file_of(adapter, fd);
	(void)call_locked(adapter, &call);
	return (int)end_call(adapter, call.result, call.error);
}

static ssize_t do_epoll_wait(struct posix *px, struct adapter_call *call)
{
	return posix_epoll_wait(px, call->fd, call->out, call->a, call->b);
}

static int so_epoll_wait(void *adapter, int epfd, struct epoll_event *events, int max,
			 int timeout_ms)
{
	struct adapter_call call = {
		.make = do_epoll_wait, .fd = epfd, .out = events, .a = max, .b = timeout_ms};

	return (int)make_call(adapter, &call);
}

/* ---- pipes, which are the kernel's ---- */

static int so_pipe(void *adapter, int fds[2])
{
	(void)adapter;
	return pipe(fds);
}

/* Between one of our sockets and a pipe; a socket without data is EAGAIN, a full pipe too. */
static ssize_t so_splice(void *adapter, int fd_in, loff_t *off_in, int fd_out, loff_t *off_out,
			 size_t length, unsigned int flags)
{
	char bytes[4096]; /* what a pipe takes whole or not at all */
	size_t most = length < sizeof(bytes) ? length : sizeof(bytes);
	const struct adapter *a = adapter;
	ssize_t n;

	if (file_of(a, fd_in) >= 0) {
		n = so_recvfrom(adapter, fd_in, bytes, most, MSG_DONTWAIT, NULL, NULL);
		return n > 0 ? write(fd_out, bytes, (size_t)n) : n;
	}
	if (file_of(a, fd_out) < 0)
		return splice(fd_in, off_in, fd_out, off_out, length, flags);
	n = read(fd_in, bytes, most);
	return n > 0 ? so_sendto(adapter, fd_out, bytes, (size_t)n, 0, NULL, 0) : n;
}

void adapter_fill_calls(struct packetdrill_interface *ifc)
{
	ifc->socket = so_socket;
	ifc->bind = so_bind;
	ifc->listen = so_listen;
	ifc->accept = so_accept;
	ifc->connect = so_connect;
	ifc->read = so_read;
	ifc->readv = so_readv;
	ifc->recv = so_recv;
	ifc->recvfrom = so_recvfrom;
	ifc->recvmsg = so_recvmsg;
	ifc->write = so_write;
	ifc->writev = so_writev;
	ifc->send = so_send;
	ifc->sendto = so_sendto;
	ifc->sendmsg = so_sendmsg;
	ifc->fcntl = so_fcntl;
	ifc->ioctl = so_ioctl;
	ifc->close = so_close;
	ifc->shutdown = so_shutdown;
	ifc->getsockopt = so_getsockopt;
	ifc->setsockopt = so_setsockopt;
	ifc->poll = so_poll;
	ifc->epoll_create = so_epoll_create;
	ifc->epoll_ctl = so_epoll_ctl;
	ifc->epoll_wait = so_epoll_wait;
	ifc->pipe = so_pipe;
	ifc->splice = so_splice;
}
