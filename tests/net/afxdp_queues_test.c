/* SPDX-License-Identifier: MIT
 * tests/net/afxdp_queues_test.c - instances of one process that share an interface over AF_XDP, a
 * thread each, over a veth pair: with four queues, one each; with one queue, which the XDP program
 * shares out by hash.  They serve a kernel's connections, and of one queue they open some too.
 */
#include "support/test.h"

#include "support/netns.h"

#include <arpa/inet.h>
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { SERVERS = 4, CLIENTS = 64, TOKENS_MAX = 1 + CLIENTS, BYTES = 4000, ROUNDS = 5, PORT = 7000 };

enum { CALLS = 8, CALL_PORT = 7001, DATAGRAM_PORT = 7002 };

static struct server {
	pthread_t thread;
	atomic_bool stop;
	uint32_t queue;
	int error; /* of demi_init */
	uint32_t accepted;
} servers[SERVERS];

static struct client {
	int fd;
	uint8_t server; /* that has it */
} clients[CLIENTS];

static bool privileged;
static bool calling; /* the servers, before they serve */
static pthread_barrier_t all_listen;
static _Thread_local char lines[2048]; /* of the log */

static void keep_lines(void *arg, enum demi_log_level level, const char *message)
{
	size_t used = strlen(lines);

	(void)arg;
	(void)level;
	(void)snprintf(lines + used, sizeof(lines) - used, "%s\n", message);
}

static struct sockaddr_in address_of(const char *host, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = inet_addr(host),
	};
}

static struct sockaddr_in address(void)
{
	return address_of("10.9.0.2", PORT);
}

/* ---- servers: what a connection sends comes back, behind the number of who has it ---- */

static void greet(int qd, uint8_t number)
{
	demi_sgarray_t sga = demi_sgaalloc(1);
	demi_qtoken_t token;
	demi_qresult_t result;

	*(uint8_t *)sga.sga_segs[0].sgaseg_buf = number;
	assert_int_equal(demi_push(&token, qd, &sga), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(demi_wait(&result, token, NULL), 0);
}

static void serve_one(struct server *server, demi_qtoken_t *tokens, int *count, int at,
		      demi_qresult_t *result)
{
	int error = (int)result->qr_ret;

	if (at == 0) {
		assert_int_equal(error, 0);
		int qd = result->qr_value.ares.qd;
		assert_int_equal(demi_accept(&tokens[0], result->qr_qd), 0);
		greet(qd, (uint8_t)(server - servers));
		server->accepted++;
		assert_int_equal(demi_pop(&tokens[(*count)++], qd), 0);
		return;
	}
	if (result->qr_opcode == DEMI_OPC_PUSH) {
		error = demi_pop(&tokens[at], result->qr_qd);
	} else if (result->qr_opcode == DEMI_OPC_POP) {
		error = demi_push(&tokens[at], result->qr_qd, &result->qr_value.sga);
		assert_int_equal(demi_sgafree(&result->qr_value.sga), 0);
	}
	if (error) {
		assert_int_equal(demi_close(result->qr_qd), 0);
		tokens[at] = tokens[--*count];
	}
}

/* ---- calls: connections and datagrams to the kernel, whose answers come to who began ---- */

static int wait_for(demi_qresult_t *result, demi_qtoken_t token)
{
	const struct timespec patience = {.tv_sec = 20};

	return demi_wait(result, token, &patience);
}

/* Sends a byte, and gets it back from the kernel's server. */
static void call(int qd, const struct sockaddr_in *to, uint8_t byte)
{
	demi_sgarray_t sga = demi_sgaalloc(1);
	demi_qtoken_t token;
	demi_qresult_t result;

	*(uint8_t *)sga.sga_segs[0].sgaseg_buf = byte;
	int err = to ? demi_pushto(&token, qd, &sga, (const struct sockaddr *)to, sizeof(*to))
		     : demi_push(&token, qd, &sga);
	assert_int_equal(err, 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(wait_for(&result, token), 0);
	assert_int_equal(demi_pop(&token, qd), 0);
	assert_int_equal(wait_for(&result, token), 0);
	assert_int_equal(result.qr_opcode, DEMI_OPC_POP);
	assert_int_equal(*(uint8_t *)result.qr_value.sga.sga_segs[0].sgaseg_buf, byte);
	assert_int_equal(demi_sgafree(&result.qr_value.sga), 0);
	assert_int_equal(demi_close(qd), 0);
}

static void call_kernel(uint8_t number)
{
	const struct sockaddr_in stream = address_of("10.9.0.1", CALL_PORT);
	const struct sockaddr_in datagram = address_of("10.9.0.1", DATAGRAM_PORT);

	for (uint8_t i = 0; i < CALLS; i++) {
		demi_qtoken_t token;
		demi_qresult_t result;
		int qd;

		assert_int_equal(demi_socket(&qd, AF_INET, SOCK_STREAM, 0), 0);
		assert_int_equal(
			demi_connect(&token, qd, (const struct sockaddr *)&stream, sizeof(stream)),
			0);
		assert_int_equal(wait_for(&result, token), 0);
		assert_int_equal(result.qr_opcode, DEMI_OPC_CONNECT);
		call(qd, NULL, (uint8_t)(number + i));
		assert_int_equal(demi_socket(&qd, AF_INET, SOCK_DGRAM, 0), 0);
		call(qd, &datagram, (uint8_t)(number + i));
	}
}

/* The kernel's end of that: one thread. */
static struct answerer {
	pthread_t thread;
	int listener;
	int datagrams;
} answerer;

static void *run_answerer(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < 2 * SERVERS * CALLS;) {
		struct pollfd ready[] = {{.fd = answerer.listener, .events = POLLIN},
					 {.fd = answerer.datagrams, .events = POLLIN}};
		uint8_t byte;

		if (poll(ready, 2, 20000) <= 0)
			break;
		if (ready[0].revents) {
			int fd = accept(answerer.listener, NULL, NULL);
			if (recv(fd, &byte, 1, 0) == 1)
				i += send(fd, &byte, 1, MSG_NOSIGNAL) == 1;
			close(fd);
		}
		if (ready[1].revents) {
			struct sockaddr_in from;
			socklen_t length = sizeof(from);
			if (recvfrom(answerer.datagrams, &byte, 1, 0, (struct sockaddr *)&from,
				     &length) == 1)
				i += sendto(answerer.datagrams, &byte, 1, 0,
					    (struct sockaddr *)&from, length) == 1;
		}
	}
	return NULL;
}

static void start_answerer(void)
{
	const struct sockaddr_in stream = address_of("10.9.0.1", CALL_PORT);
	const struct sockaddr_in datagram = address_of("10.9.0.1", DATAGRAM_PORT);
	const int on = 1;

	answerer.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(answerer.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)),
			 0);
	answerer.datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(answerer.listener, (const struct sockaddr *)&stream, sizeof(stream)),
			 0);
	assert_int_equal(listen(answerer.listener, SERVERS * CALLS), 0);
	assert_int_equal(
		bind(answerer.datagrams, (const struct sockaddr *)&datagram, sizeof(datagram)), 0);
	assert_int_equal(pthread_create(&answerer.thread, NULL, run_answerer, NULL), 0);
}

static void stop_answerer(void)
{
	assert_int_equal(pthread_join(answerer.thread, NULL), 0);
	close(answerer.listener);
	close(answerer.datagrams);
}

static void serve(struct server *server)
{
	demi_qtoken_t tokens[TOKENS_MAX];
	struct sockaddr_in at = address();
	int count = 1;
	int qd;

	assert_int_equal(demi_socket(&qd, AF_INET, SOCK_STREAM, 0), 0);
	assert_int_equal(demi_bind(qd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(demi_listen(qd, CLIENTS), 0);
	assert_int_equal(demi_accept(&tokens[0], qd), 0);
	pthread_barrier_wait(&all_listen);
	if (calling)
		call_kernel((uint8_t)(16 * (server - servers)));
	while (!atomic_load(&server->stop)) {
		const struct timespec pause = {.tv_nsec = 20000000};
		demi_qresult_t result;
		int ready;
		int err = demi_wait_any(&result, &ready, tokens, count, &pause);
		if (!err)
			serve_one(server, tokens, &count, ready, &result);
		else
			assert_int_equal(err, ETIMEDOUT);
	}
}

static void *run_server(void *arg)
{
	struct server *server = arg;
	char *argv[] = {(char[]){"test"}, NULL};

	(void)demi_set_log(keep_lines, NULL);
	server->error = demi_init(&(struct demi_args){.argc = 1, .argv = argv});
	if (server->error) {
		(void)fprintf(stderr, "%s", lines);
		pthread_barrier_wait(&all_listen);
		return NULL;
	}
	const char *queue = strstr(lines, "vQ, queue ");
	assert_non_null(queue);
	server->queue = (uint32_t)strtoul(queue + strlen("vQ, queue "), NULL, 10);
	serve(server);
	assert_int_equal(demi_fini(), 0);
	return NULL;
}

static void start_servers(void)
{
	memset(servers, 0, sizeof(servers));
	assert_int_equal(pthread_barrier_init(&all_listen, NULL, SERVERS + 1), 0);
	for (uint32_t i = 0; i < SERVERS; i++)
		assert_int_equal(pthread_create(&servers[i].thread, NULL, run_server, &servers[i]),
				 0);
	pthread_barrier_wait(&all_listen);
	for (uint32_t i = 0; i < SERVERS; i++)
		assert_int_equal(servers[i].error, 0);
}

static void stop_server(struct server *server)
{
	atomic_store(&server->stop, true);
	assert_int_equal(pthread_join(server->thread, NULL), 0);
}

/* ---- clients: the kernel's ---- */

static void receive(int fd, uint8_t *to, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t some = recv(fd, to + done, bytes - done, 0);
		assert_true(some > 0);
		done += (size_t)some;
	}
}

static void open_client(struct client *client)
{
	const struct timeval patience = {.tv_sec = 20};
	struct sockaddr_in at = address();

	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(client->fd >= 0);
	assert_int_equal(
		setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(
		setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(connect(client->fd, (struct sockaddr *)&at, sizeof(at)), 0);
	receive(client->fd, &client->server, 1);
	assert_true(client->server < SERVERS);
}

static void echo(const struct client *client, uint32_t seed)
{
	uint8_t sent[BYTES];
	uint8_t back[BYTES];

	for (uint32_t i = 0; i < BYTES; i++)
		sent[i] = (uint8_t)(seed + i * 7 + i / 256);
	assert_int_equal(send(client->fd, sent, BYTES, MSG_NOSIGNAL), BYTES);
	receive(client->fd, back, BYTES);
	assert_memory_equal(sent, back, BYTES);
}

/* ---- what is tested ---- */

static void prepare(const char *mode, const char *spread)
{
	(void)netns_try("ip link del vQ 2>/dev/null");
	netns_run(strcmp(spread, "device") == 0
			  ? "ip link add vQ numtxqueues 4 numrxqueues 4 type veth "
			    "peer name vP numtxqueues 4 numrxqueues 4"
			  : "ip link add vQ numtxqueues 1 numrxqueues 1 type veth "
			    "peer name vP numtxqueues 1 numrxqueues 1");
	netns_run("ethtool -K vP tx off tso off gso off >/dev/null");
	netns_run("ip link set vQ up && ip link set vP up && ip addr add 10.9.0.1/24 dev vP");
	const char *const settings[][2] = {
		{"LIBOS", "catpowder"},   {"DEMI_DEVICE", "afxdp"},
		{"DEMI_INTERFACE", "vQ"}, {"DEMI_ADDRESSES", "10.9.0.2/24"},
		{"DEMI_XDP_QUEUES", "4"}, {"DEMI_XDP_SPREAD", spread},
		{"DEMI_XDP_MODE", mode},  {"DEMI_XDP_MEMORY_BYTES", "8388608"},
		{"DEMI_XDP_RING", "256"},
	};
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		assert_int_equal(setenv(settings[i][0], settings[i][1], 1), 0);
}

static void fifth_is_refused(void)
{
	char *argv[] = {(char[]){"test"}, NULL};

	lines[0] = '\0';
	(void)demi_set_log(keep_lines, NULL);
	assert_int_equal(demi_init(&(struct demi_args){.argc = 1, .argv = argv}), EBUSY);
	assert_non_null(strstr(lines, "demitasse.xdp.queues"));
}

/* least: servers that have connections in the end. */
static void serve_kernel(const char *mode, const char *spread, uint32_t least)
{
	uint32_t sum = 0;
	uint32_t serving = 0;

	prepare(mode, spread);
	calling = strcmp(spread, "device") != 0;
	if (calling)
		start_answerer();
	start_servers();
	if (calling)
		stop_answerer();
	fifth_is_refused();
	for (uint32_t i = 0; i < CLIENTS; i++)
		open_client(&clients[i]);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < CLIENTS; i++)
			echo(&clients[i], round * CLIENTS + i);
	}
	stop_server(&servers[0]); /* the address stays the others' */
	for (uint32_t i = 0; i < CLIENTS; i++) {
		if (clients[i].server != 0)
			echo(&clients[i], i);
		close(clients[i].fd);
	}
	for (uint32_t i = 1; i < SERVERS; i++)
		stop_server(&servers[i]);
	calling = false;
	for (uint32_t i = 0; i < SERVERS; i++) {
		print_message("# queue %u: %u connections\n", servers[i].queue,
			      servers[i].accepted);
		serving += servers[i].accepted > 0;
		sum += servers[i].accepted;
	}
	assert_int_equal(sum, CLIENTS);
	assert_true(serving >= least);
	netns_run("ip link del vQ");
}

static void test_queues_native(void **state)
{
	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	serve_kernel("native", "device", SERVERS);
}

static void test_queues_generic(void **state)
{
	/* veth does not write the receive queue down for a program in the kernel's input: what was
	 * sent on queue n > 0 arrives on n - 1. */
	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	serve_kernel("generic", "device", SERVERS - 1);
}

static void test_program_native(void **state)
{
	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	serve_kernel("native", "program", SERVERS);
}

static void test_program_generic(void **state)
{
	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	serve_kernel("generic", "auto", SERVERS);
}

/* What arrives on another queue would be lost. */
static void test_program_wants_one_queue(void **state)
{
	char *argv[] = {(char[]){"test"}, NULL};

	(void)state;
	if (!privileged)
		skip_because("privilege: network interfaces need CAP_NET_ADMIN");
	prepare("native", "device");
	assert_int_equal(setenv("DEMI_XDP_SPREAD", "program", 1), 0);
	lines[0] = '\0';
	(void)demi_set_log(keep_lines, NULL);
	assert_int_equal(demi_init(&(struct demi_args){.argc = 1, .argv = argv}), EOPNOTSUPP);
	assert_non_null(strstr(lines, "demitasse.xdp.spread"));
	netns_run("ip link del vQ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queues_native),
		cmocka_unit_test(test_queues_generic),
		cmocka_unit_test(test_program_native),
		cmocka_unit_test(test_program_generic),
		cmocka_unit_test(test_program_wants_one_queue),
	};

	privileged = netns_enter();
	return test_run("afxdp_queues", tests);
}
