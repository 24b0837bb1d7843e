/* SPDX-License-Identifier: MIT
 * tools/demi/echo_socket.c - what the plain-socket back ends of the echo benchmark share.
 */
#include "echo_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Receive buffer of datagram sockets, where the system lets us: a thousand clients may send at
 * once. */
#define DATAGRAM_BUFFER_BYTES (8 << 20)

/* Inherited by the connections that a listening socket accepts. */
static void set_no_delay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void set_options(const struct echo_end *end, int fd)
{
	int bytes = DATAGRAM_BUFFER_BYTES;
	int on = 1;

	if (end->spec->proto == ECHO_UDP) {
		if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
			setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
		return;
	}
	if (end->address.any.sa_family != AF_UNIX)
		set_no_delay(fd);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

static int make_socket(struct echo_end *end, int flags)
{
	int type = end->spec->proto == ECHO_UDP ? SOCK_DGRAM : SOCK_STREAM;
	int fd = socket(end->address.any.sa_family, type | flags | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return echo_fail(end, -errno, "socket: %s", strerror(errno));
	set_options(end, fd);
	return fd;
}

/* Closes a socket that a call failed on. */
static int give_up(struct echo_end *end, int fd, const char *call)
{
	int error = errno;

	close(fd);
	return echo_fail(end, -error, "%s: %s", call, strerror(error));
}

int echo_socket_serve(struct echo_end *end, int flags)
{
	int fd = make_socket(end, flags);

	if (fd < 0)
		return fd;
	if (bind(fd, &end->address.any, end->address_size) < 0)
		return give_up(end, fd, "bind");
	if (end->spec->proto == ECHO_TCP && listen(fd, ECHO_BACKLOG) < 0)
		return give_up(end, fd, "listen");
	return fd;
}

int echo_socket_connect(struct echo_end *end, int flags)
{
	int fd = make_socket(end, 0);

	if (fd < 0)
		return fd;
	if (connect(fd, &end->address.any, end->address_size) < 0)
		return give_up(end, fd, "connect");
	if (flags & SOCK_NONBLOCK)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return fd;
}

uint16_t echo_socket_port(int fd)
{
	union echo_address address = {0};
	socklen_t size = sizeof(address);

	if (getsockname(fd, &address.any, &size) < 0 || address.any.sa_family == AF_UNIX)
		return 0;
	return ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port
						       : address.in.sin_port);
}

void echo_socket_farewell(const struct echo_end *end, int fd)
{
	if (end->spec->proto == ECHO_UDP && end->server_pid != 0)
		(void)!send(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int echo_socket_log(struct echo_end *end)
{
	const char *path = end->spec->log;
	int error = plain_log_open(&end->log, path);

	return error ? echo_fail(end, error, "%s: %s", path, strerror(-error)) : 0;
}
