/* SPDX-License-Identifier: MIT
 * tools/demi/echo_epoll.c - the server over plain sockets and epoll: posix-epoll.
 *
 * Edge-triggered, batches of 64 events, receive and send at once. A short receive says that the
 * socket is drained: no further call asks again. What a socket does not take waits in the
 * connection, and nothing more is received from it until that is sent; readiness is remembered,
 * since an edge comes once.
 */
#include "echo_socket.h"
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH        64
#define STREAM_BYTES 65536

struct connection {
	int fd;
	bool readable; /* a receive may give something */
	bool ending;   /* the peer sends no more: the end of the stream comes after what is there */
	uint8_t *held; /* what the socket did not take: length bytes from at on */
	size_t at, length;
	struct connection *next_dead;
};

struct epoll_server {
	struct echo_end *end;
	int listener, epoll;
	unsigned accepted, open;
	struct connection *dead; /* closed, freed when the batch that may name them is done */
	uint8_t *buffer;
};

static int watch(struct epoll_server *server, int fd, uint32_t events, void *who)
{
	struct epoll_event event = {.events = events | EPOLLET, .data.ptr = who};

	if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
		return 0;
	return echo_fail(server->end, -errno, "epoll_ctl: %s", strerror(errno));
}

static int take_connections(struct epoll_server *server)
{
	for (;;) {
		int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct connection *connection;
		int error;

		if (fd < 0)
			return echo_is_later(errno) ? 0
						    : echo_fail(server->end, -errno, "accept: %s",
								strerror(errno));
		connection = tool_alloc(1, sizeof(*connection));
		connection->fd = fd;
		server->accepted++;
		server->open++;
		error = watch(server, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, connection);
		if (error)
			return error;
	}
}

static void end_connection(struct epoll_server *server, struct connection *connection)
{
	close(connection->fd);
	connection->fd = -1;
	connection->next_dead = server->dead;
	server->dead = connection;
	server->open--;
}

static void free_dead(struct epoll_server *server)
{
	while (server->dead) {
		struct connection *connection = server->dead;

		server->dead = connection->next_dead;
		free(connection->held);
		free(connection);
	}
}

/* Keeps what was not sent. */
static void hold(struct connection *connection, const uint8_t *bytes, size_t length)
{
	if (!connection->held)
		connection->held = tool_alloc(1, STREAM_BYTES);
	memcpy(connection->held, bytes, length);
	connection->at = 0;
	connection->length = length;
}

/* Sends what was held. 1: all is sent; 0: later; -1: the connection is broken. */
static int send_held(struct connection *connection)
{
	while (connection->length > 0) {
		ssize_t sent = send(connection->fd, connection->held + connection->at,
				    connection->length, MSG_NOSIGNAL);

		if (sent < 0)
			return echo_is_later(errno) ? 0 : -1;
		connection->at += (size_t)sent;
		connection->length -= (size_t)sent;
	}
	return 1;
}

/* Sends what was just received. As send_held. */
static int send_fresh(struct connection *connection, const uint8_t *bytes, size_t length)
{
	ssize_t sent = send(connection->fd, bytes, length, MSG_NOSIGNAL);

	if (sent == (ssize_t)length)
		return 1;
	if (sent < 0 && !echo_is_later(errno))
		return -1;
	hold(connection, bytes + (sent > 0 ? sent : 0), length - (size_t)(sent > 0 ? sent : 0));
	return send_held(connection);
}

static bool errno_is_interrupt(ssize_t got)
{
	return got < 0 && errno == EINTR;
}

/* Receives and sends until the socket has no more or takes no more. Whether the connection lives
 * on. */
static bool serve_connection(struct epoll_server *server, struct connection *connection)
{
	int sent = send_held(connection);

	while (sent > 0 && connection->readable) {
		ssize_t got = recv(connection->fd, server->buffer, STREAM_BYTES, 0);

		if (got == 0 || (got < 0 && !echo_is_later(errno)))
			return false;
		connection->readable = got == STREAM_BYTES || (got > 0 && connection->ending) ||
				       errno_is_interrupt(got);
		if (got > 0 && plain_log_write(&server->end->log, server->buffer, (size_t)got) < 0)
			return false;
		if (got > 0)
			sent = send_fresh(connection, server->buffer, (size_t)got);
	}
	return sent >= 0;
}

static int stream_event(struct epoll_server *server, const struct epoll_event *event)
{
	struct connection *connection = event->data.ptr;

	if (!connection)
		return take_connections(server);
	if (connection->fd < 0)
		return 0;
	if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		connection->ending = true;
	if (event->events & EPOLLIN || connection->ending)
		connection->readable = true;
	if (!serve_connection(server, connection))
		end_connection(server, connection);
	return 0;
}

/* Answers all datagrams that are there. 1: an empty one ended the run; 0, or -errno. */
static int datagram_event(struct epoll_server *server)
{
	for (;;) {
		union echo_address peer;
		socklen_t size = sizeof(peer);
		ssize_t got = recvfrom(server->listener, server->buffer, ECHO_BUFFER_BYTES, 0,
				       &peer.any, &size);

		if (got < 0)
			return echo_is_later(errno) ? 0
						    : echo_fail(server->end, -errno, "recvfrom: %s",
								strerror(errno));
		if (got == 0 && !server->end->stays)
			return 1;
		while (sendto(server->listener, server->buffer, (size_t)got, 0, &peer.any, size) <
			       0 &&
		       echo_is_later(errno))
			;
	}
}

static int serve_events(struct epoll_server *server)
{
	struct epoll_event events[BATCH];
	bool datagrams = server->end->spec->proto == ECHO_UDP;
	int error = 0;

	while (!error &&
	       !(!datagrams && echo_served(server->end, server->accepted, server->open))) {
		int count = epoll_wait(server->epoll, events, BATCH, -1);

		if (count < 0 && errno != EINTR)
			return echo_fail(server->end, -errno, "epoll_wait: %s", strerror(errno));
		for (int i = 0; i < count && !error; i++)
			error = datagrams ? datagram_event(server)
					  : stream_event(server, &events[i]);
		free_dead(server);
	}
	return error < 0 ? error : 0;
}

int echo_epoll_server(struct echo_end *end)
{
	struct epoll_server server = {.end = end};
	int error = echo_socket_log(end);

	server.listener = error ? error : echo_socket_serve(end, SOCK_NONBLOCK);
	if (server.listener < 0)
		return server.listener;
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	server.buffer = tool_alloc(1, ECHO_BUFFER_BYTES);
	/* No EPOLLOUT for datagrams: each one that leaves would be an event. */
	error = watch(&server, server.listener, EPOLLIN, NULL);
	if (!error) {
		echo_server_ready(end, echo_socket_port(server.listener));
		error = serve_events(&server);
	}
	free(server.buffer);
	close(server.epoll);
	close(server.listener);
	return error;
}
