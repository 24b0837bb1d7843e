/* SPDX-License-Identifier: MIT
 * tools/demi/echo_posix.c - echo over plain sockets without an event loop: posix-block, posix-spin
 * and unix-block.
 *
 * The blocking server has a thread for each connection, the spinning one tries each connection in
 * turn with MSG_DONTWAIT. The client is one connection; it never blocks on sending while an answer
 * may be there, so no depth or size can lock up.
 */
#include "echo_socket.h"
#include "tool.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Empty turns of a spinning loop between looks at the clock or the listening socket. */
#define SPIN_TURNS 1024

/* Sends all of it, waiting for room. 0 or -errno. */
static int send_all(int fd, const uint8_t *bytes, size_t length, int flags)
{
	while (length > 0) {
		ssize_t sent = send(fd, bytes, length, flags | MSG_NOSIGNAL);

		if (sent < 0 && !echo_is_later(errno))
			return -errno;
		if (sent > 0) {
			bytes += sent;
			length -= (size_t)sent;
		}
	}
	return 0;
}

/* Answers datagrams until an empty one ends the run. */
static int serve_datagrams(struct echo_end *end, int fd, int flags, uint8_t *buffer)
{
	for (;;) {
		union echo_address peer;
		socklen_t size = sizeof(peer);
		ssize_t got = recvfrom(fd, buffer, ECHO_BUFFER_BYTES, flags, &peer.any, &size);

		if (got > 0) {
			while (sendto(fd, buffer, (size_t)got, flags, &peer.any, size) < 0 &&
			       echo_is_later(errno))
				;
		} else if (got == 0 && !end->stays) {
			return 0;
		} else if (got < 0 && !echo_is_later(errno)) {
			return echo_fail(end, -errno, "recvfrom: %s", strerror(errno));
		}
	}
}

/* Logs what was received, if that is to be, and answers. 0 or -errno. */
static int answer(struct echo_end *end, int fd, const uint8_t *bytes, size_t length, int flags)
{
	int error = plain_log_write(&end->log, bytes, length);

	return error ? error : send_all(fd, bytes, length, flags);
}

struct connection {
	struct echo_end *end;
	int fd;
};

/* Thread of one connection of the blocking server; arg is the connection, ours to free. */
static void *serve_connection(void *arg)
{
	uint8_t *buffer = tool_alloc(1, ECHO_BUFFER_BYTES);
	struct connection *connection = arg;
	struct echo_end *end = connection->end;
	int fd = connection->fd;
	ssize_t got;

	free(connection);

	do {
		got = recv(fd, buffer, ECHO_BUFFER_BYTES, 0);
		if (got > 0 && answer(end, fd, buffer, (size_t)got, 0) < 0)
			break;
	} while (got > 0 || (got < 0 && errno == EINTR));
	close(fd);
	free(buffer);
	return NULL;
}

static int start_thread(struct echo_end *end, int fd, pthread_t *thread)
{
	struct connection *connection = tool_alloc(1, sizeof(*connection));
	int error;

	*connection = (struct connection){end, fd};
	error = pthread_create(thread, NULL, serve_connection, connection);
	if (!error)
		return 0;
	free(connection);
	close(fd);
	return echo_fail(end, -error, "pthread_create: %s", strerror(error));
}

/* Accepts the run's clients, each for a thread, and waits for the threads. */
static int accept_clients(struct echo_end *end, int listener)
{
	pthread_t *threads = tool_alloc(end->spec->connections, sizeof(*threads));
	unsigned count = 0;
	int error = 0;

	while (!error && (end->stays || count < end->spec->connections)) {
		pthread_t *thread = &threads[end->stays ? 0 : count];
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0 && errno == EINTR)
			continue;
		error = fd < 0 ? echo_fail(end, -errno, "accept: %s", strerror(errno))
			       : start_thread(end, fd, thread);
		if (!error && end->stays)
			pthread_detach(*thread);
		count += !error;
	}
	for (unsigned i = 0; i < count && !end->stays; i++)
		pthread_join(threads[i], NULL);
	free(threads);
	return error;
}

int echo_block_server(struct echo_end *end)
{
	int error = echo_socket_log(end);
	int fd = error ? error : echo_socket_serve(end, 0);
	uint8_t *buffer;

	if (fd < 0)
		return fd;
	echo_server_ready(end, echo_socket_port(fd));
	if (end->spec->proto == ECHO_UDP) {
		buffer = tool_alloc(1, ECHO_BUFFER_BYTES);
		error = serve_datagrams(end, fd, 0, buffer);
		free(buffer);
	} else {
		error = accept_clients(end, fd);
	}
	close(fd);
	return error;
}

/* The connections of the spinning server. */
struct spinner {
	struct echo_end *end;
	int listener;
	int *fds;
	unsigned open, accepted, room;
	uint8_t *buffer;
};

/* Takes the connections that are there. */
static int spinner_accept(struct spinner *spinner)
{
	while (spinner->open < spinner->room) {
		int fd = accept4(spinner->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			return echo_is_later(errno) ? 0
						    : echo_fail(spinner->end, -errno, "accept: %s",
								strerror(errno));
		spinner->fds[spinner->open++] = fd;
		spinner->accepted++;
	}
	return 0;
}

/* One try of a connection. Whether it is still there. */
static bool spinner_try(struct spinner *spinner, int fd)
{
	ssize_t got = recv(fd, spinner->buffer, ECHO_BUFFER_BYTES, MSG_DONTWAIT);

	if (got > 0)
		return answer(spinner->end, fd, spinner->buffer, (size_t)got, MSG_DONTWAIT) == 0;
	return got < 0 && echo_is_later(errno);
}

static void spinner_turn(struct spinner *spinner)
{
	for (unsigned i = 0; i < spinner->open; i++) {
		if (spinner_try(spinner, spinner->fds[i]))
			continue;
		close(spinner->fds[i]);
		spinner->fds[i--] = spinner->fds[--spinner->open];
	}
}

static int serve_spinning(struct spinner *spinner)
{
	int error = 0;

	for (unsigned turn = 0; !error; turn++) {
		bool expects =
			spinner->end->stays || spinner->accepted < spinner->end->spec->connections;

		if (expects && (spinner->open == 0 || turn % 64 == 0))
			error = spinner_accept(spinner);
		spinner_turn(spinner);
		if (echo_served(spinner->end, spinner->accepted, spinner->open))
			break;
	}
	for (unsigned i = 0; i < spinner->open; i++)
		close(spinner->fds[i]);
	return error;
}

int echo_spin_server(struct echo_end *end)
{
	struct spinner spinner = {.end = end,
				  .room = end->stays ? ECHO_BACKLOG : end->spec->connections};
	int error = echo_socket_log(end);

	spinner.listener = error ? error : echo_socket_serve(end, SOCK_NONBLOCK);
	if (spinner.listener < 0)
		return spinner.listener;
	spinner.fds = tool_alloc(spinner.room, sizeof(*spinner.fds));
	spinner.buffer = tool_alloc(1, ECHO_BUFFER_BYTES);
	echo_server_ready(end, echo_socket_port(spinner.listener));
	if (end->spec->proto == ECHO_UDP)
		error = serve_datagrams(end, spinner.listener, MSG_DONTWAIT, spinner.buffer);
	else
		error = serve_spinning(&spinner);
	free(spinner.buffer);
	free(spinner.fds);
	close(spinner.listener);
	return error;
}

/* The client: one connection. */
struct lone_client {
	struct echo_end *end;
	struct flow flow;
	int fd;
	bool spins;
	uint8_t *buffer;
};

/* Issues what may be, and sends what the socket takes. */
static int lone_send(struct lone_client *client, uint64_t now_ns)
{
	struct load *load = &client->end->load;
	struct flow *flow = &client->flow;

	while (flow_issue(load, flow, now_ns)) {
		if (!load->datagram)
			continue;
		flow_fill(load, flow, client->buffer);
		while (send(client->fd, client->buffer, load->size, MSG_NOSIGNAL) < 0) {
			if (!echo_is_later(errno))
				return echo_fail(client->end, -errno, "send: %s", strerror(errno));
		}
	}
	while (flow->tx_bytes > 0) {
		size_t length;
		const uint8_t *bytes = flow_next(load, flow, &length);
		ssize_t sent = send(client->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && echo_is_later(errno))
			break;
		if (sent < 0)
			return echo_fail(client->end, -errno, "send: %s", strerror(errno));
		flow_sent(load, flow, (size_t)sent);
	}
	return 0;
}

/* The blocking client waits here only when it could not send all: for room as well as for answers.
 */
static ssize_t lone_receive(struct lone_client *client)
{
	bool stuck = client->flow.tx_bytes > 0;
	int flags = client->spins || stuck ? MSG_DONTWAIT : 0;
	ssize_t got = recv(client->fd, client->buffer, ECHO_BUFFER_BYTES, flags);

	if (got < 0 && errno == EAGAIN && stuck && !client->spins) {
		struct pollfd poller = {.fd = client->fd, .events = POLLIN | POLLOUT};

		poll(&poller, 1, 100);
		errno = EAGAIN;
	}
	return got;
}

static int lone_take(struct lone_client *client, ssize_t got, uint64_t now_ns)
{
	struct load *load = &client->end->load;

	if (got < 0)
		return echo_fail(client->end, -errno, "recv: %s", strerror(errno));
	if (got == 0 && !load->datagram)
		return echo_fail(client->end, -ECONNRESET, "the server closed the connection");
	if (load->datagram)
		flow_datagram(load, &client->flow, client->buffer, (size_t)got, now_ns);
	else
		flow_received(load, &client->flow, client->buffer, (size_t)got, now_ns);
	return 0;
}

static int lone_loop(void *arg)
{
	struct lone_client *client = arg;
	struct load *load = &client->end->load;
	uint64_t now_ns = clock_now_ns();
	int error = lone_send(client, now_ns);

	for (unsigned turn = 1; !error && !load_done(load, now_ns); turn++) {
		ssize_t got = lone_receive(client);

		if (got < 0 && echo_is_later(errno)) {
			if (client->flow.tx_bytes == 0 && client->spins && turn % SPIN_TURNS)
				continue;
			now_ns = clock_now_ns();
			if (load->datagram)
				flow_expire(load, &client->flow, now_ns);
		} else {
			now_ns = clock_now_ns();
			error = lone_take(client, got, now_ns);
		}
		if (!error)
			error = lone_send(client, now_ns);
	}
	return error;
}

static int lone_client_run(struct echo_end *end, bool spins)
{
	struct lone_client client = {.end = end, .spins = spins};
	struct timeval patience = {.tv_usec = (suseconds_t)(LOAD_LOST_NS / NS_PER_US)};
	int error;

	client.fd = echo_socket_connect(end, 0);
	if (client.fd < 0)
		return client.fd;
	if (end->spec->proto == ECHO_UDP)
		setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	flow_init(&client.flow, &end->load);
	client.buffer = tool_alloc(1, ECHO_BUFFER_BYTES);
	error = echo_client_run(end, lone_loop, &client);
	echo_socket_farewell(end, client.fd);
	free(client.buffer);
	flow_fini(&client.flow);
	close(client.fd);
	return error;
}

int echo_block_client(struct echo_end *end)
{
	return lone_client_run(end, false);
}

int echo_spin_client(struct echo_end *end)
{
	return lone_client_run(end, true);
}
