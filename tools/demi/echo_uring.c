/* SPDX-License-Identifier: MIT
 * tools/demi/echo_uring.c - echo over io_uring, streams only: io_uring (spinning) and
 * io_uring-block.
 *
 * Multishot accept into the table of registered files, multishot receive with provided buffers. A
 * received buffer is sent as it is and given back when it has left. At most one send of a
 * connection is in flight, so that bytes stay in order.
 */
#include "echo_socket.h"
#include "tool.h"
#include "uring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NO_BUFFER UINT32_MAX

/* What a completion is of, in the lowest bits of its user data; the file's number stands above. */
enum uring_kind { KIND_ACCEPT, KIND_RECEIVE, KIND_SEND, KIND_CLOSE, KIND_BITS = 2 };

struct uring_connection {
	uint32_t first, last; /* received buffers, to be sent; the first is in flight */
	uint32_t at;          /* bytes of the first that are sent */
	bool ended;           /* no more comes */
	bool starved;         /* the receive ended for lack of buffers */
};

struct uring_server {
	struct echo_end *end;
	struct uring uring;
	struct uring_connection *connections; /* by file number */
	uint32_t *next, *length;              /* by buffer */
	unsigned accepted, open, starved;
	int error;
};

static uint64_t tag(unsigned file, enum uring_kind kind)
{
	return (uint64_t)file << KIND_BITS | kind;
}

/* Sends what is left of the connection's first buffer. */
static void send_first(struct uring_server *server, unsigned file)
{
	struct uring_connection *connection = &server->connections[file];
	struct io_uring_sqe *sqe = uring_sqe(&server->uring);

	io_uring_prep_send(
		sqe, (int)file, uring_buffer(&server->uring, connection->first) + connection->at,
		server->length[connection->first] - connection->at, MSG_WAITALL | MSG_NOSIGNAL);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data64(sqe, tag(file, KIND_SEND));
}

static void close_file(struct uring_server *server, unsigned file)
{
	struct io_uring_sqe *sqe = uring_sqe(&server->uring);

	io_uring_prep_close_direct(sqe, file);
	io_uring_sqe_set_data64(sqe, tag(file, KIND_CLOSE));
}

static void on_accept(struct uring_server *server, int result)
{
	unsigned file = (unsigned)result;

	if (result < 0) {
		server->error = echo_fail(server->end, result, "accept: %s", strerror(-result));
		return;
	}
	server->connections[file] =
		(struct uring_connection){.first = NO_BUFFER, .last = NO_BUFFER};
	server->accepted++;
	server->open++;
	uring_receive(&server->uring, file, tag(file, KIND_RECEIVE));
}

/* Queues a received buffer for sending; sends at once if nothing is before it. */
static void queue_buffer(struct uring_server *server, unsigned file, uint32_t buffer,
			 uint32_t length)
{
	struct uring_connection *connection = &server->connections[file];

	server->length[buffer] = length;
	server->next[buffer] = NO_BUFFER;
	if (connection->first != NO_BUFFER) {
		server->next[connection->last] = buffer;
		connection->last = buffer;
		return;
	}
	connection->first = connection->last = buffer;
	connection->at = 0;
	send_first(server, file);
}

static void on_receive(struct uring_server *server, unsigned file, const struct io_uring_cqe *cqe)
{
	struct uring_connection *connection = &server->connections[file];

	if (cqe->res > 0)
		queue_buffer(server, file, cqe->flags >> IORING_CQE_BUFFER_SHIFT,
			     (uint32_t)cqe->res);
	if (cqe->flags & IORING_CQE_F_MORE)
		return;
	if (cqe->res == -ENOBUFS) {
		connection->starved = true;
		server->starved++;
	} else if (cqe->res > 0) {
		uring_receive(&server->uring, file, tag(file, KIND_RECEIVE));
	} else {
		connection->ended = true;
		if (connection->first == NO_BUFFER)
			close_file(server, file);
	}
}

static void on_send(struct uring_server *server, unsigned file, int result)
{
	struct uring_connection *connection = &server->connections[file];
	uint32_t buffer = connection->first;

	if (result > 0)
		connection->at += (uint32_t)result;
	if (result > 0 && connection->at < server->length[buffer]) {
		send_first(server, file);
		return;
	}
	connection->first = server->next[buffer];
	connection->at = 0;
	uring_give_buffer(&server->uring, buffer);
	if (connection->first != NO_BUFFER)
		send_first(server, file);
	else if (connection->ended)
		close_file(server, file);
}

/* Starts receives again that ended for lack of buffers, now that some may have come back. */
static void feed_starved(struct uring_server *server, unsigned files)
{
	for (unsigned file = 0; file < files && server->starved > 0; file++) {
		if (!server->connections[file].starved)
			continue;
		server->connections[file].starved = false;
		server->starved--;
		uring_receive(&server->uring, file, tag(file, KIND_RECEIVE));
	}
}

static void on_completion(struct uring_server *server, int listener, const struct io_uring_cqe *cqe)
{
	unsigned file = (unsigned)(cqe->user_data >> KIND_BITS);

	switch ((enum uring_kind)(cqe->user_data & ((1 << KIND_BITS) - 1))) {
	case KIND_ACCEPT:
		on_accept(server, cqe->res);
		if (!(cqe->flags & IORING_CQE_F_MORE) && !server->error) {
			struct io_uring_sqe *sqe = uring_sqe(&server->uring);

			io_uring_prep_multishot_accept_direct(sqe, listener, NULL, NULL, 0);
			io_uring_sqe_set_data64(sqe, tag(0, KIND_ACCEPT));
		}
		break;
	case KIND_RECEIVE:
		on_receive(server, file, cqe);
		break;
	case KIND_SEND:
		on_send(server, file, cqe->res);
		break;
	default:
		server->open--;
		break;
	}
}

static int serve(struct uring_server *server, int listener, unsigned files)
{
	struct io_uring_sqe *sqe = uring_sqe(&server->uring);

	io_uring_prep_multishot_accept_direct(sqe, listener, NULL, NULL, 0);
	io_uring_sqe_set_data64(sqe, tag(0, KIND_ACCEPT));
	while (!server->error && !echo_served(server->end, server->accepted, server->open)) {
		struct io_uring_cqe *cqe;
		unsigned count = 0;
		unsigned head;

		server->error = uring_turn(&server->uring);
		io_uring_for_each_cqe(&server->uring.ring, head, cqe)
		{
			on_completion(server, listener, cqe);
			count++;
		}
		io_uring_cq_advance(&server->uring.ring, count);
		if (server->starved && count)
			feed_starved(server, files);
	}
	return server->error;
}

static unsigned power_of_two(unsigned least)
{
	unsigned power = 1;

	while (power < least)
		power *= 2;
	return power;
}

/* Few and small buffers stay in the cache; a buffer below a message costs one more completion. */
static unsigned buffers_of(const struct echo_spec *spec)
{
	unsigned wanted = spec->connections < 16     ? 16
			  : spec->connections > 1024 ? 1024
						     : spec->connections;

	return power_of_two(wanted);
}

static size_t buffer_bytes_of(const struct echo_spec *spec)
{
	size_t wanted = spec->size * spec->depth;

	return wanted < 4096 ? 4096 : wanted > 65536 ? 65536 : wanted;
}

static int server_run(struct echo_end *end, bool spins)
{
	unsigned files = end->stays ? ECHO_BACKLOG : end->spec->connections + 1;
	struct uring_server server = {.end = end};
	const char *what;
	int listener = echo_socket_serve(end, 0);
	int error;

	if (listener < 0)
		return listener;
	error = uring_open(&server.uring, files, buffers_of(end->spec), buffer_bytes_of(end->spec),
			   spins, &what);
	if (error) {
		close(listener);
		return echo_fail(end, -ENOTSUP, "%s: %s", what, strerror(-error));
	}
	server.connections = tool_alloc(files, sizeof(*server.connections));
	server.next = tool_alloc(server.uring.buffers, sizeof(*server.next));
	server.length = tool_alloc(server.uring.buffers, sizeof(*server.length));
	echo_server_ready(end, echo_socket_port(listener));
	error = serve(&server, listener, files);
	uring_close(&server.uring);
	free(server.length);
	free(server.next);
	free(server.connections);
	close(listener);
	return error;
}

/* The client: one connection, registered as file 0. */
struct uring_client {
	struct echo_end *end;
	struct uring uring;
	struct flow flow;
	bool sending;
};

/* Sends what is to be sent, unless a send is in flight. */
static void client_send(struct uring_client *client)
{
	struct load *load = &client->end->load;
	struct io_uring_sqe *sqe;
	const uint8_t *bytes;
	size_t length;

	if (client->sending || client->flow.tx_bytes == 0)
		return;
	bytes = flow_next(load, &client->flow, &length);
	sqe = uring_sqe(&client->uring);
	io_uring_prep_send(sqe, 0, bytes, length, MSG_WAITALL | MSG_NOSIGNAL);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data64(sqe, tag(0, KIND_SEND));
	client->sending = true;
}

static int client_on_receive(struct uring_client *client, const struct io_uring_cqe *cqe,
			     uint64_t *now_ns)
{
	unsigned buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

	if (cqe->res == 0 || (cqe->res < 0 && cqe->res != -ENOBUFS))
		return echo_fail(client->end, cqe->res ? cqe->res : -ECONNRESET, "receive: %s",
				 strerror(cqe->res ? -cqe->res : ECONNRESET));
	if (cqe->res > 0) {
		*now_ns = clock_now_ns();
		flow_received(&client->end->load, &client->flow,
			      uring_buffer(&client->uring, buffer), (size_t)cqe->res, *now_ns);
		uring_give_buffer(&client->uring, buffer);
	}
	if (!(cqe->flags & IORING_CQE_F_MORE))
		uring_receive(&client->uring, 0, tag(0, KIND_RECEIVE));
	return 0;
}

static int client_on_send(struct uring_client *client, int result)
{
	client->sending = false;
	if (result < 0)
		return echo_fail(client->end, result, "send: %s", strerror(-result));
	flow_sent(&client->end->load, &client->flow, (size_t)result);
	return 0;
}

static int client_turn(struct uring_client *client, uint64_t *now_ns)
{
	struct io_uring_cqe *cqe;
	unsigned count = 0;
	unsigned head;
	int error = uring_turn(&client->uring);

	io_uring_for_each_cqe(&client->uring.ring, head, cqe)
	{
		count++;
		if (error)
			continue;
		if (cqe->user_data == tag(0, KIND_SEND))
			error = client_on_send(client, cqe->res);
		else
			error = client_on_receive(client, cqe, now_ns);
	}
	io_uring_cq_advance(&client->uring.ring, count);
	return error;
}

static int client_loop(void *arg)
{
	struct uring_client *client = arg;
	struct load *load = &client->end->load;
	uint64_t now_ns = clock_now_ns();
	int error = 0;

	while (!error && !load_done(load, now_ns)) {
		while (flow_issue(load, &client->flow, now_ns))
			;
		client_send(client);
		error = client_turn(client, &now_ns);
	}
	return error;
}

static int client_run(struct echo_end *end, bool spins)
{
	struct uring_client client = {.end = end};
	const char *what;
	int fd = echo_socket_connect(end, 0);
	int error;

	if (fd < 0)
		return fd;
	error = uring_open(&client.uring, 1, 16, buffer_bytes_of(end->spec), spins, &what);
	if (error) {
		close(fd);
		return echo_fail(end, -ENOTSUP, "%s: %s", what, strerror(-error));
	}
	error = io_uring_register_files_update(&client.uring.ring, 0, &fd, 1);
	flow_init(&client.flow, &end->load);
	uring_receive(&client.uring, 0, tag(0, KIND_RECEIVE));
	error = error < 0 ? echo_fail(end, error, "io_uring_register_files_update: %s",
				      strerror(-error))
			  : echo_client_run(end, client_loop, &client);
	uring_close(&client.uring);
	flow_fini(&client.flow);
	close(fd);
	return error;
}

int echo_uring_server(struct echo_end *end)
{
	return server_run(end, true);
}

int echo_uring_client(struct echo_end *end)
{
	return client_run(end, true);
}

int echo_uring_block_server(struct echo_end *end)
{
	return server_run(end, false);
}

int echo_uring_block_client(struct echo_end *end)
{
	return client_run(end, false);
}
