/* SPDX-License-Identifier: MIT
 * tests/packet/call.c - the system calls of scripts, through the members of
 * packetdrill's interface.
 *
 * An argument `...` is what the runner chooses: the local address for bind, the remote one for
 * connect and sendto, a buffer of the right size.  What a call reads is compared with the pattern
 * that the runner sends, what it writes is that pattern.
 */
#include "packet/call.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IOV_MAX_HERE 16

/* ---- data ---- */

static uint8_t *buffer_of(size_t bytes)
{
	uint8_t *buffer = calloc(1, bytes + 1);

	if (!buffer)
		abort();
	return buffer;
}

static uint64_t *counter(uint64_t *counters, int fd)
{
	static uint64_t nothing;

	return fd >= 0 && fd < RUN_FDS ? &counters[fd] : &nothing;
}

static bool is_stream(struct run *run, int fd)
{
	int type = 0;
	socklen_t length = sizeof(type);
	int saved = errno;

	(void)run->ifc.getsockopt(run->ifc.userdata, run_live(run, fd), SOL_SOCKET, SO_TYPE, &type,
				  &length);
	errno = saved;
	return type == SOCK_STREAM;
}

/* Compares what was read; only a read that consumes moves on. */
static void check_read(struct running_call *call, int fd, const uint8_t *bytes, int64_t n,
		       int flags)
{
	struct run *run = call->run;
	bool stream = is_stream(run, fd);
	uint64_t at = stream ? *counter(run->read, fd) : 0;

	if (n <= 0 || (stream && (flags & MSG_TRUNC)))
		goto out;
	for (int64_t i = 0; i < n; i++) {
		if (bytes[i] != frame_pattern(at + (uint64_t)i)) {
			(void)call_wrong(call,
					 "byte %" PRIu64 " that was read is not what was sent",
					 at + (uint64_t)i);
			return;
		}
	}
out:
	if (n > 0 && !(flags & MSG_PEEK))
		*counter(run->read, fd) += (uint64_t)n;
}

static void fill(const struct running_call *call, int fd, uint8_t *bytes, size_t n)
{
	uint64_t at = is_stream(call->run, fd) ? *counter(call->run->written, fd) : 0;

	for (size_t i = 0; i < n; i++)
		bytes[i] = frame_pattern(at + i);
}

static void wrote(const struct running_call *call, int fd, int64_t n)
{
	if (n > 0)
		*counter(call->run->written, fd) += (uint64_t)n;
}

static size_t size_argument(struct running_call *call, int index)
{
	int64_t size = call_number(call, index, "size");

	return size < 0 || size > 64 << 20 ? 0 : (size_t)size;
}

/* ---- calls ---- */

static void do_socket(struct running_call *call)
{
	struct run *run = call->run;
	int domain = call_is_ellipsis(call_arg(call, 0)) ? (run->v6 ? AF_INET6 : AF_INET)
							 : (int)call_number(call, 0, "domain");
	int type = (int)call_number(call, 1, "type");
	int protocol =
		call_is_ellipsis(call_arg(call, 2)) ? 0 : (int)call_number(call, 2, "protocol");

	if (call->wrong[0])
		return;
	call_finish_fd(call, IFC(call, socket, domain, type, protocol));
}

static void do_bind(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)call_number(call, 0, "descriptor");
	struct address a =
		call_address(call, call_arg(call, 1), &run->flows.local, run->flows.local_port);

	if (call->wrong[0])
		return;
	call_finish(call, IFC(call, bind, run_live(call->run, fd), &a.any, a.length));
	if (call->result == 0 && a.in.sin_port)
		run->flows.local_port = ntohs(a.in.sin_port);
}

static void do_listen(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	int backlog = (int)call_number(call, 1, "backlog");

	if (call->wrong[0])
		return;
	call_finish(call, IFC(call, listen, run_live(call->run, fd), backlog));
	if (call->result == 0)
		call->run->flows.current = NULL; /* the next packet in opens a connection */
}

static void do_accept(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)call_number(call, 0, "descriptor");
	const struct expr *flags = call_arg(call, 3);
	struct address peer = {.length = sizeof(peer.storage)};

	if (call->wrong[0])
		return;
	int live = IFC(call, accept, run_live(run, fd), &peer.any, &peer.length);
	if (live >= 0 && flags && (call_number(call, 3, "flags") & SOCK_NONBLOCK))
		(void)IFC(call, fcntl, live, F_SETFL, O_RDWR | O_NONBLOCK);
	call_finish_fd(call, live);
	if (live < 0)
		return;
	struct address remote = call_make_address(&run->flows.remote, 0);
	remote.in.sin_port = peer.in.sin_port;
	if (peer.length != remote.length || memcmp(&peer.in6, &remote.in6, remote.length) != 0)
		(void)call_wrong(call, "the peer's address is not the remote's");
}

static void do_connect(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)call_number(call, 0, "descriptor");
	struct address a = call_address(call, call_arg(call, 1), &run->flows.remote, 8080);

	if (call->wrong[0])
		return;
	bool stream = is_stream(run, fd);
	struct flow *before = run->flows.current;
	struct flow *flow = NULL;
	if (a.length > 0 && a.any.sa_family != AF_UNSPEC)
		flow = flows_connect(&run->flows, stream ? PACKET_TCP : PACKET_UDP,
				     ntohs(a.in.sin_port));
	run->tested_fd = fd;
	call_finish(call, IFC(call, connect, run_live(call->run, fd), &a.any, a.length));
	if (flow && call->result < 0 && call->error != EINPROGRESS && flow->local_port == 0 &&
	    flow == &run->flows.flows[run->flows.count - 1]) { /* nothing was opened */
		run->flows.count--;
		run->flows.current = before;
	}
}

static void do_read(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	size_t size = size_argument(call, 2);
	int flags = call_arg(call, 3) ? (int)call_number(call, 3, "flags") : 0;

	if (call->wrong[0])
		return;
	uint8_t *bytes = buffer_of(size);
	ssize_t n = IFC(call, recv, run_live(call->run, fd), bytes, size, flags);
	call_finish(call, n);
	check_read(call, fd, bytes, n < (ssize_t)size ? n : (ssize_t)size, flags);
	free(bytes);
}

static void do_recvfrom(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)call_number(call, 0, "descriptor");
	size_t size = size_argument(call, 2);
	int flags = (int)call_number(call, 3, "flags");
	struct address from = {.length = sizeof(from.storage)};
	struct address remote = call_make_address(&run->flows.remote, 0);

	if (call->wrong[0])
		return;
	uint8_t *bytes = buffer_of(size);
	ssize_t n =
		IFC(call, recvfrom, run_live(run, fd), bytes, size, flags, &from.any, &from.length);
	call_finish(call, n);
	check_read(call, fd, bytes, n < (ssize_t)size ? n : (ssize_t)size, flags);
	remote.in.sin_port = from.in.sin_port;
	if (n >= 0 && !is_stream(run, fd) &&
	    (from.length != remote.length || memcmp(&from.in6, &remote.in6, remote.length) != 0))
		(void)call_wrong(call, "the datagram's source is not the remote's address");
	free(bytes);
}

/* [{..., 10}, {..., 20}]: how many; bytes lie in one buffer. */
static int vector_of(struct running_call *call, const struct expr *list,
		     struct iovec iov[IOV_MAX_HERE], uint8_t **bytes, size_t *total)
{
	int count = 0;
	size_t sizes[IOV_MAX_HERE];

	*total = 0;
	if (!list || list->kind != EXPR_LIST) {
		(void)call_wrong(call, "expected a list of {..., size}");
		return 0;
	}
	for (const struct expr *item = list->items; item && count < IOV_MAX_HERE;
	     item = item->next) {
		int64_t size = item->kind == EXPR_STRUCT && item->items
				       ? call_number_of(call, item->items->next, "size")
				       : -1;
		if (size < 0 || size > 1 << 24) {
			(void)call_wrong(call, "expected {..., size}");
			return 0;
		}
		sizes[count++] = (size_t)size;
		*total += (size_t)size;
	}
	*bytes = buffer_of(*total);
	size_t at = 0;
	for (int i = 0; i < count; i++) {
		iov[i] = (struct iovec){*bytes + at, sizes[i]};
		at += sizes[i];
	}
	return count;
}

static void do_readv(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	struct iovec iov[IOV_MAX_HERE];
	uint8_t *bytes = NULL;
	size_t total;
	int count = vector_of(call, call_arg(call, 1), iov, &bytes, &total);

	if (!call->wrong[0]) {
		ssize_t n = IFC(call, readv, run_live(call->run, fd), iov, count);
		call_finish(call, n);
		check_read(call, fd, bytes, n, 0);
	}
	free(bytes);
}

static void do_writev(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	struct iovec iov[IOV_MAX_HERE];
	uint8_t *bytes = NULL;
	size_t total;
	int count = vector_of(call, call_arg(call, 1), iov, &bytes, &total);

	if (!call->wrong[0]) {
		fill(call, fd, bytes, total);
		ssize_t n = IFC(call, writev, run_live(call->run, fd), iov, count);
		call_finish(call, n);
		wrote(call, fd, n);
	}
	free(bytes);
}

static void do_write(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	size_t size = size_argument(call, 2);
	int flags = call_arg(call, 3) ? (int)call_number(call, 3, "flags") : 0;

	if (call->wrong[0])
		return;
	uint8_t *bytes = buffer_of(size);
	fill(call, fd, bytes, size);
	ssize_t n = IFC(call, send, run_live(call->run, fd), bytes, size, flags);
	call_finish(call, n);
	wrote(call, fd, n);
	free(bytes);
}

/* The flow of an unconnected UDP socket is made when it sends. */
static void note_destination(struct running_call *call, int fd, const struct address *to)
{
	struct run *run = call->run;
	struct flow *flow = run->flows.current;

	if (call->result < 0 || to->length == 0 || is_stream(run, fd))
		return;
	if (!flow || flow->kind != PACKET_UDP || flow->remote_port != ntohs(to->in.sin_port))
		flow = flows_connect(&run->flows, PACKET_UDP, ntohs(to->in.sin_port));
}

static void do_sendto(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)call_number(call, 0, "descriptor");
	size_t size = size_argument(call, 2);
	int flags = (int)call_number(call, 3, "flags");
	uint16_t port = run->flows.current ? run->flows.current->remote_port : 8080;
	struct address to = call_address(call, call_arg(call, 4), &run->flows.remote, port);

	if (call->wrong[0])
		return;
	uint8_t *bytes = buffer_of(size);
	fill(call, fd, bytes, size);
	ssize_t n = IFC(call, sendto, run_live(run, fd), bytes, size, flags,
			to.length ? &to.any : NULL, to.length);
	call_finish(call, n);
	wrote(call, fd, n);
	note_destination(call, fd, &to);
	free(bytes);
}

static void message_of(struct running_call *call, struct msghdr *msg, struct iovec *iov,
		       uint8_t **bytes, size_t *total)
{
	const struct expr *expr = call_arg(call, 1);
	const struct expr *vector = call_field(expr, "msg_iov");
	int count = vector_of(call, vector, iov, bytes, total);

	*msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = (size_t)count};
}

static void do_recvmsg(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	int flags = (int)call_number(call, 2, "flags");
	struct iovec iov[IOV_MAX_HERE];
	struct msghdr msg;
	uint8_t *bytes = NULL;
	size_t total = 0;
	const struct expr *expected = call_field(call_arg(call, 1), "msg_flags");

	message_of(call, &msg, iov, &bytes, &total);
	if (!call->wrong[0]) {
		ssize_t n = IFC(call, recvmsg, run_live(call->run, fd), &msg, flags);
		call_finish(call, n);
		check_read(call, fd, bytes, n < (ssize_t)total ? n : (ssize_t)total, flags);
		if (n >= 0 && expected && expected->kind == EXPR_NUMBER &&
		    expected->number != msg.msg_flags)
			(void)call_wrong(call, "msg_flags: expected %" PRId64 ", got %d",
					 expected->number, msg.msg_flags);
	}
	free(bytes);
}

static void do_sendmsg(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	int flags = (int)call_number(call, 2, "flags");
	struct iovec iov[IOV_MAX_HERE];
	struct msghdr msg;
	uint8_t *bytes = NULL;
	size_t total = 0;

	message_of(call, &msg, iov, &bytes, &total);
	if (!call->wrong[0]) {
		fill(call, fd, bytes, total);
		ssize_t n = IFC(call, sendmsg, run_live(call->run, fd), &msg, flags);
		call_finish(call, n);
		wrote(call, fd, n);
	}
	free(bytes);
}

static void do_shutdown(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");
	int how = (int)call_number(call, 1, "how");

	if (!call->wrong[0])
		call_finish(call, IFC(call, shutdown, run_live(call->run, fd), how));
}

static void do_close(struct running_call *call)
{
	int fd = (int)call_number(call, 0, "descriptor");

	if (!call->wrong[0])
		call_finish(call, IFC(call, close, run_forget(call->run, fd)));
}

static const struct {
	const char *name;
	void (*fn)(struct running_call *call);
} calls[] = {
	{"socket", do_socket},
	{"bind", do_bind},
	{"listen", do_listen},
	{"accept", do_accept},
	{"accept4", do_accept},
	{"connect", do_connect},
	{"read", do_read},
	{"recv", do_read},
	{"recvfrom", do_recvfrom},
	{"recvmsg", do_recvmsg},
	{"readv", do_readv},
	{"write", do_write},
	{"send", do_write},
	{"sendto", do_sendto},
	{"sendmsg", do_sendmsg},
	{"writev", do_writev},
	{"shutdown", do_shutdown},
	{"close", do_close},
	{"fcntl", call_fcntl},
	{"ioctl", call_ioctl},
	{"setsockopt", call_setsockopt},
	{"getsockopt", call_getsockopt},
	{"poll", call_poll},
	{"epoll_create", call_epoll_create},
	{"epoll_ctl", call_epoll_ctl},
	{"epoll_wait", call_epoll_wait},
};

void call_make(struct running_call *call)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (strcmp(call->event->call.name, calls[i].name) == 0) {
			calls[i].fn(call);
			return;
		}
	}
	(void)call_wrong(call, "the call %s is not supported", call->event->call.name);
}
