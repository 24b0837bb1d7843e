/* SPDX-License-Identifier: MIT
 * tests/packet/call.c - the system calls of scripts, on the POSIX layer.
 *
 * An argument `...` is what the runner chooses: the local address for bind, the remote one for
 * connect and sendto, a buffer of the right size.  What a call reads is compared with the pattern
 * that the runner sends, what it writes is that pattern.
 */
#include "packet/run.h"

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
#define EVENTS_MAX   16

/* ---- arguments ---- */

static bool wrong(struct running_call *call, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static bool wrong(struct running_call *call, const char *format, ...)
{
	va_list args;

	if (call->wrong[0])
		return false;
	va_start(args, format);
	vsnprintf(call->wrong, sizeof(call->wrong), format, args);
	va_end(args);
	return false;
}

static const struct expr *arg(const struct running_call *call, int index)
{
	const struct expr *expr = call->event->call.args;

	while (expr && index-- > 0)
		expr = expr->next;
	return expr;
}

static int64_t number_of(struct running_call *call, const struct expr *expr, const char *what)
{
	if (expr && expr->kind == EXPR_NUMBER)
		return expr->number;
	if (expr && expr->kind == EXPR_LIST && expr->items && !expr->items->next)
		return number_of(call, expr->items, what);
	if (expr && expr->kind == EXPR_CALL && expr->items &&
	    (strcmp(expr->text, "htons") == 0 || strcmp(expr->text, "htonl") == 0))
		return number_of(call, expr->items, what);
	if (expr && expr->kind == EXPR_NAME)
		(void)wrong(call, "%s: `%s` is no constant that is known here", what, expr->text);
	else
		(void)wrong(call, "%s is no number", what);
	return -1;
}

static int64_t number(struct running_call *call, int index, const char *what)
{
	const struct expr *expr = arg(call, index);

	if (!expr) {
		(void)wrong(call, "argument %d is missing", index + 1);
		return -1;
	}
	return number_of(call, expr, what);
}

static bool is_ellipsis(const struct expr *expr)
{
	return !expr || expr->kind == EXPR_ELLIPSIS;
}

static const struct expr *field(const struct expr *expr, const char *name)
{
	for (const struct expr *item = expr ? expr->items : NULL; item; item = item->next) {
		if (item->field && strcmp(item->field, name) == 0)
			return item;
	}
	return NULL;
}

/* ---- addresses ---- */

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage storage;
	};

	socklen_t length;
};

static struct address make_address(const struct ip_address *ip, uint16_t port)
{
	struct address a = {0};

	if (ip_is_v4(ip)) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(port);
		a.in.sin_addr.s_addr = ip->words[3];
		a.length = sizeof(a.in);
	} else {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(port);
		memcpy(&a.in6.sin6_addr, ip->bytes, 16);
		a.length = sizeof(a.in6);
	}
	return a;
}

/* inet_addr("192.0.2.1"), inet_pton(AF_INET6, "::1"), INADDR_ANY */
static void put_ip(struct running_call *call, const struct expr *expr, struct address *a)
{
	const struct expr *text = expr;
	void *to =
		a->any.sa_family == AF_INET ? (void *)&a->in.sin_addr : (void *)&a->in6.sin6_addr;

	if (!expr)
		return;
	if (expr->kind == EXPR_CALL)
		for (text = expr->items; text && text->kind != EXPR_STRING; text = text->next)
			;
	if (text && text->kind == EXPR_STRING) {
		if (inet_pton(a->any.sa_family, text->text, to) != 1)
			(void)wrong(call, "`%s` is no address of that family", text->text);
	} else if (a->any.sa_family == AF_INET) {
		a->in.sin_addr.s_addr = htonl((uint32_t)number_of(call, expr, "address"));
	}
}

/* An address argument; ...: the one given. */
static struct address address_of(struct running_call *call, const struct expr *expr,
				 const struct ip_address *ip, uint16_t port)
{
	struct address a = {0};
	const struct expr *family = field(expr, "sa_family");

	if (is_ellipsis(expr))
		return make_address(ip, port);
	if (expr->kind == EXPR_NUMBER && expr->number == 0)
		return a; /* NULL */
	family = family ? family : field(expr, "sin_family");
	family = family ? family : field(expr, "sin6_family");
	if (!family) {
		(void)wrong(call, "an address is ..., or a struct with sa_family");
		return a;
	}
	a.any.sa_family = (sa_family_t)number_of(call, family, "sa_family");
	a.length = a.any.sa_family == AF_INET6 ? sizeof(a.in6) : sizeof(a.in);
	const struct expr *at = field(expr, a.any.sa_family == AF_INET6 ? "sin6_port" : "sin_port");
	if (at)
		a.in.sin_port = htons((uint16_t)number_of(call, at, "port"));
	put_ip(call, field(expr, a.any.sa_family == AF_INET6 ? "sin6_addr" : "sin_addr"), &a);
	return a;
}

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

	(void)posix_getsockopt(&run->posix, fd, SOL_SOCKET, SO_TYPE, &type, &length);
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
			(void)wrong(call, "byte %" PRIu64 " that was read is not what was sent",
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
	int64_t size = number(call, index, "size");

	return size < 0 || size > 64 << 20 ? 0 : (size_t)size;
}

/* Ends a call: its result, and errno. */
static void finish(struct running_call *call, int64_t result)
{
	call->error = result < 0 ? errno : 0;
	call->result = result;
}

/* ---- calls ---- */

static void do_socket(struct running_call *call)
{
	struct run *run = call->run;
	int domain = is_ellipsis(arg(call, 0)) ? (run->v6 ? AF_INET6 : AF_INET)
					       : (int)number(call, 0, "domain");
	int type = (int)number(call, 1, "type");
	int protocol = is_ellipsis(arg(call, 2)) ? 0 : (int)number(call, 2, "protocol");

	if (call->wrong[0])
		return;
	int fd = posix_socket(&run->posix, domain, type, protocol);
	finish(call, fd);
	if (fd >= 0) {
		run->tested_fd = fd;
		*counter(run->written, fd) = 0;
		*counter(run->read, fd) = 0;
	}
}

static void do_bind(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)number(call, 0, "descriptor");
	struct address a = address_of(call, arg(call, 1), &run->flows.local, run->flows.local_port);

	if (call->wrong[0])
		return;
	finish(call, posix_bind(&run->posix, fd, &a.any, a.length));
	if (call->result == 0 && a.in.sin_port)
		run->flows.local_port = ntohs(a.in.sin_port);
}

static void do_listen(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	int backlog = (int)number(call, 1, "backlog");

	if (call->wrong[0])
		return;
	finish(call, posix_listen(&call->run->posix, fd, backlog));
	if (call->result == 0)
		call->run->flows.current = NULL; /* the next packet in opens a connection */
}

static void do_accept(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)number(call, 0, "descriptor");
	const struct expr *flags = arg(call, 3);
	struct address peer = {.length = sizeof(peer.storage)};

	if (call->wrong[0])
		return;
	int new_fd = posix_accept4(&run->posix, fd, &peer.any, &peer.length,
				   flags ? (int)number(call, 3, "flags") : 0);
	finish(call, new_fd);
	if (new_fd < 0)
		return;
	run->tested_fd = new_fd;
	*counter(run->written, new_fd) = 0;
	*counter(run->read, new_fd) = 0;
	struct address remote = make_address(&run->flows.remote, 0);
	remote.in.sin_port = peer.in.sin_port;
	if (peer.length != remote.length || memcmp(&peer.in6, &remote.in6, remote.length) != 0)
		(void)wrong(call, "the peer's address is not the remote's");
}

static void do_connect(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)number(call, 0, "descriptor");
	struct address a = address_of(call, arg(call, 1), &run->flows.remote, 8080);

	if (call->wrong[0])
		return;
	bool stream = is_stream(run, fd);
	struct address local = {.length = sizeof(local.storage)};
	struct flow *before = run->flows.current;
	struct flow *flow = NULL;
	if (a.length > 0 && a.any.sa_family != AF_UNSPEC)
		flow = flows_connect(&run->flows, stream ? PACKET_TCP : PACKET_UDP,
				     ntohs(a.in.sin_port));
	run->tested_fd = fd;
	finish(call, posix_connect(&run->posix, fd, &a.any, a.length));
	if (flow && call->result < 0 && call->error != EINPROGRESS && flow->local_port == 0 &&
	    flow == &run->flows.flows[run->flows.count - 1]) { /* nothing was opened */
		run->flows.count--;
		run->flows.current = before;
	}
	if (!stream && call->result == 0 &&
	    posix_getsockname(&run->posix, fd, &local.any, &local.length) == 0)
		run->flows.current->local_port = ntohs(local.in.sin_port);
}

static void do_read(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	size_t size = size_argument(call, 2);
	int flags = arg(call, 3) ? (int)number(call, 3, "flags") : 0;

	if (call->wrong[0])
		return;
	uint8_t *bytes = buffer_of(size);
	ssize_t n = posix_recv(&call->run->posix, fd, bytes, size, flags);
	finish(call, n);
	check_read(call, fd, bytes, n < (ssize_t)size ? n : (ssize_t)size, flags);
	free(bytes);
}

static void do_recvfrom(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)number(call, 0, "descriptor");
	size_t size = size_argument(call, 2);
	int flags = (int)number(call, 3, "flags");
	struct address from = {.length = sizeof(from.storage)};
	struct address remote = make_address(&run->flows.remote, 0);

	if (call->wrong[0])
		return;
	uint8_t *bytes = buffer_of(size);
	struct iovec iov = {bytes, size};
	ssize_t n = posix_recvfrom(&run->posix, fd, &iov, flags, &from.any, &from.length);
	finish(call, n);
	check_read(call, fd, bytes, n < (ssize_t)size ? n : (ssize_t)size, flags);
	remote.in.sin_port = from.in.sin_port;
	if (n >= 0 && !is_stream(run, fd) &&
	    (from.length != remote.length || memcmp(&from.in6, &remote.in6, remote.length) != 0))
		(void)wrong(call, "the datagram's source is not the remote's address");
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
		(void)wrong(call, "expected a list of {..., size}");
		return 0;
	}
	for (const struct expr *item = list->items; item && count < IOV_MAX_HERE;
	     item = item->next) {
		int64_t size = item->kind == EXPR_STRUCT && item->items
				       ? number_of(call, item->items->next, "size")
				       : -1;
		if (size < 0 || size > 1 << 24) {
			(void)wrong(call, "expected {..., size}");
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
	int fd = (int)number(call, 0, "descriptor");
	struct iovec iov[IOV_MAX_HERE];
	uint8_t *bytes = NULL;
	size_t total;
	int count = vector_of(call, arg(call, 1), iov, &bytes, &total);

	if (!call->wrong[0]) {
		ssize_t n = posix_readv(&call->run->posix, fd, iov, count);
		finish(call, n);
		check_read(call, fd, bytes, n, 0);
	}
	free(bytes);
}

static void do_writev(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	struct iovec iov[IOV_MAX_HERE];
	uint8_t *bytes = NULL;
	size_t total;
	int count = vector_of(call, arg(call, 1), iov, &bytes, &total);

	if (!call->wrong[0]) {
		fill(call, fd, bytes, total);
		ssize_t n = posix_writev(&call->run->posix, fd, iov, count);
		finish(call, n);
		wrote(call, fd, n);
	}
	free(bytes);
}

static void do_write(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	size_t size = size_argument(call, 2);
	int flags = arg(call, 3) ? (int)number(call, 3, "flags") : 0;

	if (call->wrong[0])
		return;
	uint8_t *bytes = buffer_of(size);
	fill(call, fd, bytes, size);
	ssize_t n = posix_send(&call->run->posix, fd, bytes, size, flags);
	finish(call, n);
	wrote(call, fd, n);
	free(bytes);
}

/* The flow of an unconnected UDP socket is made when it sends. */
static void note_destination(struct running_call *call, int fd, const struct address *to)
{
	struct run *run = call->run;
	struct flow *flow = run->flows.current;
	struct address local = {.length = sizeof(local.storage)};

	if (call->result < 0 || to->length == 0 || is_stream(run, fd))
		return;
	if (!flow || flow->kind != PACKET_UDP || flow->remote_port != ntohs(to->in.sin_port))
		flow = flows_connect(&run->flows, PACKET_UDP, ntohs(to->in.sin_port));
	if (flow && posix_getsockname(&run->posix, fd, &local.any, &local.length) == 0)
		flow->local_port = ntohs(local.in.sin_port);
}

static void do_sendto(struct running_call *call)
{
	struct run *run = call->run;
	int fd = (int)number(call, 0, "descriptor");
	size_t size = size_argument(call, 2);
	int flags = (int)number(call, 3, "flags");
	uint16_t port = run->flows.current ? run->flows.current->remote_port : 8080;
	struct address to = address_of(call, arg(call, 4), &run->flows.remote, port);

	if (call->wrong[0])
		return;
	uint8_t *bytes = buffer_of(size);
	fill(call, fd, bytes, size);
	struct iovec iov = {bytes, size};
	ssize_t n =
		posix_sendto(&run->posix, fd, &iov, flags, to.length ? &to.any : NULL, to.length);
	finish(call, n);
	wrote(call, fd, n);
	note_destination(call, fd, &to);
	free(bytes);
}

static void message_of(struct running_call *call, struct msghdr *msg, struct iovec *iov,
		       uint8_t **bytes, size_t *total)
{
	const struct expr *expr = arg(call, 1);
	const struct expr *vector = field(expr, "msg_iov");
	int count = vector_of(call, vector, iov, bytes, total);

	*msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = (size_t)count};
}

static void do_recvmsg(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	int flags = (int)number(call, 2, "flags");
	struct iovec iov[IOV_MAX_HERE];
	struct msghdr msg;
	uint8_t *bytes = NULL;
	size_t total = 0;
	const struct expr *expected = field(arg(call, 1), "msg_flags");

	message_of(call, &msg, iov, &bytes, &total);
	if (!call->wrong[0]) {
		ssize_t n = posix_recvmsg(&call->run->posix, fd, &msg, flags);
		finish(call, n);
		check_read(call, fd, bytes, n < (ssize_t)total ? n : (ssize_t)total, flags);
		if (n >= 0 && expected && expected->kind == EXPR_NUMBER &&
		    expected->number != msg.msg_flags)
			(void)wrong(call, "msg_flags: expected %" PRId64 ", got %d",
				    expected->number, msg.msg_flags);
	}
	free(bytes);
}

static void do_sendmsg(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	int flags = (int)number(call, 2, "flags");
	struct iovec iov[IOV_MAX_HERE];
	struct msghdr msg;
	uint8_t *bytes = NULL;
	size_t total = 0;

	message_of(call, &msg, iov, &bytes, &total);
	if (!call->wrong[0]) {
		fill(call, fd, bytes, total);
		ssize_t n = posix_sendmsg(&call->run->posix, fd, &msg, flags);
		finish(call, n);
		wrote(call, fd, n);
	}
	free(bytes);
}

static void do_shutdown(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	int how = (int)number(call, 1, "how");

	if (!call->wrong[0])
		finish(call, posix_shutdown(&call->run->posix, fd, how));
}

static void do_close(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");

	if (!call->wrong[0])
		finish(call, posix_close(&call->run->posix, fd));
}

static void do_fcntl(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	int command = (int)number(call, 1, "command");
	int value = arg(call, 2) ? (int)number(call, 2, "value") : 0;

	if (!call->wrong[0])
		finish(call, posix_fcntl(&call->run->posix, fd, command, value));
}

static void do_ioctl(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	unsigned long request = (unsigned long)number(call, 1, "request");
	int64_t expected = number(call, 2, "value");
	int value = (int)expected;

	if (call->wrong[0])
		return;
	finish(call, posix_ioctl(&call->run->posix, fd, request, &value));
	if (call->result == 0 && value != expected)
		(void)wrong(call, "value: expected %" PRId64 ", got %d", expected, value);
}

/* ---- options ---- */

union option_value {
	int number;
	struct linger linger;
	struct timeval time;
	char text[32];
};

/* The value of a setsockopt: a number, {onoff=1, linger=0}, {tv_sec=1, tv_usec=0} or "reno". */
static socklen_t option_of(struct running_call *call, const struct expr *expr,
			   union option_value *value)
{
	if (expr && expr->kind == EXPR_LIST && expr->items && !expr->items->next)
		expr = expr->items;
	if (expr && expr->kind == EXPR_STRING) {
		size_t length = strlen(expr->text);
		length = length < sizeof(value->text) ? length : sizeof(value->text);
		memcpy(value->text, expr->text, length);
		return (socklen_t)length;
	}
	if (field(expr, "onoff") || field(expr, "l_onoff")) {
		const struct expr *on = field(expr, "onoff");
		const struct expr *time = field(expr, "linger");
		on = on ? on : field(expr, "l_onoff");
		time = time ? time : field(expr, "l_linger");
		value->linger.l_onoff = (int)number_of(call, on, "onoff");
		value->linger.l_linger = time ? (int)number_of(call, time, "linger") : 0;
		return sizeof(value->linger);
	}
	if (field(expr, "tv_sec")) {
		const struct expr *usec = field(expr, "tv_usec");
		value->time.tv_sec = (time_t)number_of(call, field(expr, "tv_sec"), "tv_sec");
		value->time.tv_usec = usec ? (suseconds_t)number_of(call, usec, "tv_usec") : 0;
		return sizeof(value->time);
	}
	value->number = (int)number_of(call, expr, "value");
	return sizeof(value->number);
}

static void do_setsockopt(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	int level = (int)number(call, 1, "level");
	int name = (int)number(call, 2, "option");
	union option_value value = {0};
	socklen_t length = option_of(call, arg(call, 3), &value);

	if (!call->wrong[0])
		finish(call, posix_setsockopt(&call->run->posix, fd, level, name, &value, length));
}

static void do_getsockopt(struct running_call *call)
{
	int fd = (int)number(call, 0, "descriptor");
	int level = (int)number(call, 1, "level");
	int name = (int)number(call, 2, "option");
	const struct expr *shown = arg(call, 3);
	union option_value expected = {0};
	union option_value value = {0};
	socklen_t length = sizeof(value);
	bool any = is_ellipsis(shown) || (shown->kind == EXPR_LIST && is_ellipsis(shown->items));
	socklen_t bytes = any ? 0 : option_of(call, shown, &expected);

	if (call->wrong[0])
		return;
	finish(call, posix_getsockopt(&call->run->posix, fd, level, name, &value, &length));
	if (call->result != 0 || any)
		return;
	if (bytes == sizeof(int) && value.number != expected.number)
		(void)wrong(call, "value: expected %d, got %d (%s)", expected.number, value.number,
			    symbol_errno(value.number));
	else if (memcmp(&value, &expected, bytes) != 0)
		(void)wrong(call, "the value is another");
}

static void do_name(struct running_call *call)
{
	struct run *run = call->run;
	bool peer = strcmp(call->event->call.name, "getpeername") == 0;
	int fd = (int)number(call, 0, "descriptor");
	struct address a = {.length = sizeof(a.storage)};
	const struct expr *shown = arg(call, 1);

	if (call->wrong[0])
		return;
	finish(call, peer ? posix_getpeername(&run->posix, fd, &a.any, &a.length)
			  : posix_getsockname(&run->posix, fd, &a.any, &a.length));
	if (call->result != 0 || is_ellipsis(shown))
		return;
	struct address expected = address_of(call, shown, &run->flows.local, 0);
	if (expected.length != a.length || memcmp(&expected.in6, &a.in6, a.length) != 0)
		(void)wrong(call, "the address is another");
}

/* ---- poll and epoll ---- */

static void do_poll(struct running_call *call)
{
	struct pollfd fds[EVENTS_MAX];
	short expected[EVENTS_MAX];
	nfds_t count = 0;
	const struct expr *list = arg(call, 0);

	for (const struct expr *item = list ? list->items : NULL; item && count < EVENTS_MAX;
	     item = item->next, count++) {
		const struct expr *revents = field(item, "revents");
		fds[count].fd = (int)number_of(call, field(item, "fd"), "fd");
		fds[count].events = (short)number_of(call, field(item, "events"), "events");
		expected[count] = revents ? (short)number_of(call, revents, "revents") : -1;
	}
	int timeout = (int)number(call, 2, "timeout");
	if (call->wrong[0])
		return;
	finish(call, posix_poll(&call->run->posix, fds, count, timeout));
	for (nfds_t i = 0; i < count && call->result >= 0; i++) {
		if (expected[i] != -1 && fds[i].revents != expected[i])
			(void)wrong(call, "revents: expected %#x, got %#x", (unsigned)expected[i],
				    (unsigned)fds[i].revents);
	}
}

static void do_epoll_create(struct running_call *call)
{
	finish(call, posix_epoll_create(&call->run->posix, 0));
}

static struct epoll_event epoll_event_of(struct running_call *call, const struct expr *expr)
{
	const struct expr *events = field(expr, "events");
	const struct expr *fd = field(expr, "fd");
	struct epoll_event event = {0};

	if (events)
		event.events = (uint32_t)number_of(call, events, "events");
	else
		(void)wrong(call, "expected {events=..., fd=...}");
	if (fd)
		event.data.fd = (int)number_of(call, fd, "fd");
	return event;
}

static void do_epoll_ctl(struct running_call *call)
{
	int epfd = (int)number(call, 0, "descriptor");
	int operation = (int)number(call, 1, "operation");
	int fd = (int)number(call, 2, "descriptor");
	struct epoll_event event = {0};
	const struct expr *expr = arg(call, 3);

	if (!is_ellipsis(expr) && expr->kind == EXPR_STRUCT)
		event = epoll_event_of(call, expr);
	if (!call->wrong[0])
		finish(call, posix_epoll_ctl(&call->run->posix, epfd, operation, fd, &event));
}

static void do_epoll_wait(struct running_call *call)
{
	int epfd = (int)number(call, 0, "descriptor");
	const struct expr *list = arg(call, 1);
	int max = (int)number(call, 2, "maximum");
	int timeout = (int)number(call, 3, "timeout");
	struct epoll_event events[EVENTS_MAX] = {0};
	int index = 0;

	if (call->wrong[0])
		return;
	max = max < EVENTS_MAX ? max : EVENTS_MAX;
	finish(call, posix_epoll_wait(&call->run->posix, epfd, events, max, timeout));
	const struct expr *item = list && list->kind == EXPR_LIST     ? list->items
				  : list && list->kind == EXPR_STRUCT ? list
								      : NULL;
	for (; item && index < call->result; index++) {
		struct epoll_event expected = epoll_event_of(call, item);
		if (events[index].events != expected.events ||
		    events[index].data.fd != expected.data.fd)
			(void)wrong(call, "event %d: expected %#x of %d, got %#x of %d", index,
				    expected.events, expected.data.fd, events[index].events,
				    events[index].data.fd);
		item = item == list ? NULL : item->next;
	}
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
	{"fcntl", do_fcntl},
	{"ioctl", do_ioctl},
	{"setsockopt", do_setsockopt},
	{"getsockopt", do_getsockopt},
	{"getsockname", do_name},
	{"getpeername", do_name},
	{"poll", do_poll},
	{"epoll_create", do_epoll_create},
	{"epoll_create1", do_epoll_create},
	{"epoll_ctl", do_epoll_ctl},
	{"epoll_wait", do_epoll_wait},
};

void call_make(struct running_call *call)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (strcmp(call->event->call.name, calls[i].name) == 0) {
			calls[i].fn(call);
			return;
		}
	}
	(void)wrong(call, "the call %s is not supported", call->event->call.name);
}
