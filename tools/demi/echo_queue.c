/* SPDX-License-Identifier: MIT
 * tools/demi/echo_queue.c - the echo server over the queue API, for every library OS.
 *
 * One array of tokens: the listening socket's accept (UDP: its pop), then one token a connection:
 * its pop, or, when the transport did not take an answer at once, the push of that. What is popped
 * is pushed and freed at once; or, if it is to be logged first, pushed to the log, and answered
 * when that has completed.
 */
#include "echo_queue.h"

#include "log_file.h"
#include "tool.h"

#include <arpa/inet.h>
#include <demi/memory.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG               4096
#define DATAGRAM_BUFFER_BYTES (8 << 20)

struct queue_server {
	struct echo_end *end;
	int qd;  /* the socket that listens, or receives datagrams */
	int log; /* queue of it; -1: none */
	demi_qtoken_t *tokens;
	int *qds;
	demi_sgarray_t *logged; /* what is being logged of each */
	int count, room;
	unsigned accepted;
	bool over; /* an empty datagram came */
};

size_t queue_bytes(const demi_sgarray_t *sga)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < sga->sga_numsegs; i++)
		bytes += sga->sga_segs[i].sgaseg_len;
	return bytes;
}

int queue_socket(struct echo_end *end, int *qd)
{
	int type = end->spec->proto == ECHO_UDP ? SOCK_DGRAM : SOCK_STREAM;
	int bytes = DATAGRAM_BUFFER_BYTES;
	int error = demi_socket(qd, end->address.any.sa_family, type, 0);

	if (error)
		return echo_fail(end, -error, "demi_socket: %s", strerror(error));
	/* As for the baselines; a libOS without kernel sockets has its own buffers. */
	if (type == SOCK_DGRAM &&
	    demi_setsockopt(*qd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
		demi_setsockopt(*qd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	return 0;
}

/* Room for one more token. */
static void make_room(struct queue_server *server)
{
	if (server->count < server->room)
		return;
	server->room = server->room ? server->room * 2 : 64;
	server->tokens = realloc(server->tokens, (size_t)server->room * sizeof(*server->tokens));
	server->qds = realloc(server->qds, (size_t)server->room * sizeof(*server->qds));
	server->logged = realloc(server->logged, (size_t)server->room * sizeof(*server->logged));
	if (!server->tokens || !server->qds || !server->logged) {
		tool_complain("out of memory");
		exit(TOOL_FAILED);
	}
}

static void drop_connection(struct queue_server *server, int index)
{
	demi_close(server->qds[index]);
	server->count--;
	server->tokens[index] = server->tokens[server->count];
	server->qds[index] = server->qds[server->count];
	server->logged[index] = server->logged[server->count];
}

/* Puts the next pop where the last token stood. */
static int pop_again(struct queue_server *server, int index)
{
	int error = demi_pop(&server->tokens[index], server->qds[index]);

	if (!error)
		return 0;
	if (index == 0)
		return echo_fail(server->end, -error, "demi_pop: %s", strerror(error));
	drop_connection(server, index);
	return 0;
}

static int take_connection(struct queue_server *server, const demi_qresult_t *result)
{
	int error = demi_accept(&server->tokens[0], server->qd);

	if (error)
		return echo_fail(server->end, -error, "demi_accept: %s", strerror(error));
	make_room(server);
	server->qds[server->count] = result->qr_value.ares.qd;
	server->accepted++;
	return pop_again(server, server->count++);
}

static int push_answer(const demi_sgarray_t *sga, int qd, bool datagram, demi_qtoken_t *token)
{
	union echo_address peer;
	socklen_t size = sizeof(peer);

	if (!datagram)
		return demi_push(token, qd, sga);
	peer.in = sga->sga_addr;
	if (peer.in.sin_family == AF_INET)
		return demi_pushto(token, qd, sga, &peer.any, sizeof(peer.in));
	if (demi_sgaaddr(sga, &peer.any, &size) != 0)
		return EINVAL;
	return demi_pushto(token, qd, sga, &peer.any, size);
}

/* Answers what was popped. An answer that the transport takes at once, as it nearly always does,
 * needs no turn of its own. */
static int answer(struct queue_server *server, int index, demi_sgarray_t *sga)
{
	static const struct timespec at_once;
	bool datagram = server->end->spec->proto == ECHO_UDP;
	demi_qresult_t pushed;
	demi_qtoken_t token;
	int error;

	error = push_answer(sga, server->qds[index], datagram, &token);
	demi_sgafree(sga);
	if (!error)
		error = demi_wait(&pushed, token, &at_once);
	if (error == ETIMEDOUT) {
		server->tokens[index] = token;
		return 0;
	}
	if (!datagram && (error || pushed.qr_opcode == DEMI_OPC_FAILED)) {
		drop_connection(server, index);
		return 0;
	}
	return pop_again(server, index);
}

static int log_failed(struct queue_server *server, int error)
{
	return echo_fail(server->end, -error, "log: %s", strerror(error));
}

/* Logs what was popped, or answers it at once. */
static int take_request(struct queue_server *server, int index, demi_sgarray_t *sga)
{
	bool datagram = server->end->spec->proto == ECHO_UDP;

	if (queue_bytes(sga) == 0) {
		demi_sgafree(sga);
		server->over = datagram && !server->end->stays;
		if (!datagram)
			drop_connection(server, index);
		return datagram ? pop_again(server, index) : 0;
	}
	if (server->log < 0)
		return answer(server, index, sga);
	server->logged[index] = *sga;
	int error = demi_push(&server->tokens[index], server->log, sga);
	return error ? log_failed(server, error) : 0;
}

static int take_failure(struct queue_server *server, int index, const demi_qresult_t *result)
{
	int error = (int)result->qr_ret;

	if (result->qr_qd == server->log)
		return log_failed(server, error);
	if (index > 0) {
		drop_connection(server, index);
		return 0;
	}
	return echo_fail(server->end, -error, "%s: %s", server->end->spec->server->name,
			 strerror(error));
}

static int take_result(struct queue_server *server, int index, demi_qresult_t *result)
{
	switch (result->qr_opcode) {
	case DEMI_OPC_POP:
		return take_request(server, index, &result->qr_value.sga);
	case DEMI_OPC_PUSH:
		return result->qr_qd == server->log ? answer(server, index, &server->logged[index])
						    : pop_again(server, index);
	case DEMI_OPC_ACCEPT:
		return take_connection(server, result);
	default:
		return take_failure(server, index, result);
	}
}

static bool served(const struct queue_server *server)
{
	if (server->end->stays)
		return echo_interrupted();
	return server->over ||
	       (server->accepted >= server->end->spec->connections && server->count == 1);
}

static int serve(struct queue_server *server)
{
	static const struct timespec look = {.tv_nsec = 200000000};
	const struct timespec *timeout = server->end->stays ? &look : NULL;
	int error = 0;

	while (!error && !served(server)) {
		demi_qresult_t result;
		int index;
		int failed = demi_wait_any(&result, &index, server->tokens, server->count, timeout);

		if (failed == ETIMEDOUT)
			continue;
		error = failed ? echo_fail(server->end, -failed, "demi_wait_any: %s",
					   strerror(failed))
			       : take_result(server, index, &result);
	}
	return error;
}

/* Makes the server's socket and its first token. */
static int listen_or_pop(struct queue_server *server)
{
	struct echo_end *end = server->end;
	int error = demi_bind(server->qd, &end->address.any, end->address_size);

	if (error)
		return echo_fail(end, -error, "demi_bind: %s", strerror(error));
	if (end->spec->proto == ECHO_TCP)
		error = demi_listen(server->qd, BACKLOG);
	if (error)
		return echo_fail(end, -error, "demi_listen: %s", strerror(error));
	make_room(server);
	server->qds[server->count++] = server->qd;
	error = end->spec->proto == ECHO_TCP ? demi_accept(&server->tokens[0], server->qd)
					     : demi_pop(&server->tokens[0], server->qd);
	return error ? echo_fail(end, -error, "first operation: %s", strerror(error)) : 0;
}

uint16_t queue_port(int qd)
{
	union echo_address address = {0};
	socklen_t size = sizeof(address);

	if (demi_getsockname(qd, &address.any, &size) != 0)
		return 0;
	return ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port
						       : address.in.sin_port);
}

static int open_log(struct queue_server *server)
{
	const char *path = server->end->spec->log;
	int error = path ? log_file_queue(path, &server->log, NULL) : 0;

	return error ? echo_fail(server->end, error, "%s: %s", path, strerror(-error)) : 0;
}

static int server_body(struct queue_server *server)
{
	int error = open_log(server);

	if (!error)
		error = queue_socket(server->end, &server->qd);
	if (error)
		return error;
	error = listen_or_pop(server);
	if (!error) {
		echo_server_ready(server->end, queue_port(server->qd));
		error = serve(server);
	}
	demi_close(server->qd);
	if (server->log >= 0)
		demi_close(server->log);
	return error;
}

int echo_queue_server(struct echo_end *end)
{
	const struct echo_spec *spec = end->spec;
	struct queue_server server = {.end = end, .log = -1};

	if (echo_is_lone(spec) && !end->stays)
		return echo_lone_server(end);
	int error = instance_open(spec->server->name, *end->device ? end->device : NULL, spec->idle,
				  end->message, ECHO_MESSAGE_MAX);

	if (error)
		return error;
	error = server_body(&server);
	instance_close();
	free(server.tokens);
	free(server.qds);
	free(server.logged);
	return error;
}
