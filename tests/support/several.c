/* SPDX-License-Identifier: MIT
 * tests/support/several.c: see several.h.
 */
#include "support/several.h"

#include "support/netns.h"
#include "support/test.h"

#include <arpa/inet.h>
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { CLIENTS = 64, TOKENS_MAX = 1 + CLIENTS, BYTES = 4000, ROUNDS = 5, PORT = 7000 };

enum { CALLS = 8, CALL_PORT = 7001, DATAGRAM_PORT = 7002 };

static struct server {
	pthread_t thread;
	atomic_bool stop;
	uint32_t place;
	int error; /* of demi_init */
	uint32_t accepted;
} servers[SEVERAL];

static struct client {
	int fd;
	uint8_t server; /* that has it */
} clients[CLIENTS];

static const struct several *tested;
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

/* Sends bytes, and gets them back from the kernel's server: one in a stream, a datagram in
 * fragments. */
static void call(int qd, const struct sockaddr_in *to, uint8_t byte)
{
	uint32_t bytes = to ? BYTES : 1;
	demi_sgarray_t sga = demi_sgaalloc(bytes);
	demi_qtoken_t token;
	demi_qresult_t result;

	memset(sga.sga_segs[0].sgaseg_buf, byte, bytes);
	int err = to ? demi_pushto(&token, qd, &sga, (const struct sockaddr *)to, sizeof(*to))
		     : demi_push(&token, qd, &sga);
	assert_int_equal(err, 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(wait_for(&result, token), 0);
	assert_int_equal(demi_pop(&token, qd), 0);
	assert_int_equal(wait_for(&result, token), 0);
	assert_int_equal(result.qr_opcode, DEMI_OPC_POP);
	assert_int_equal(result.qr_value.sga.sga_segs[0].sgaseg_len, bytes);
	assert_int_equal(((uint8_t *)result.qr_value.sga.sga_segs[0].sgaseg_buf)[bytes - 1], byte);
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
	for (uint32_t i = 0; i < 2 * SEVERAL * CALLS;) {
		struct pollfd ready[] = {{.fd = answerer.listener, .events = POLLIN},
					 {.fd = answerer.datagrams, .events = POLLIN}};
		uint8_t bytes[BYTES];

		if (poll(ready, 2, 20000) <= 0)
			break;
		if (ready[0].revents) {
			int fd = accept(answerer.listener, NULL, NULL);
			if (recv(fd, bytes, 1, 0) == 1)
				i += send(fd, bytes, 1, MSG_NOSIGNAL) == 1;
			close(fd);
		}
		if (ready[1].revents) {
			struct sockaddr_in from;
			socklen_t length = sizeof(from);
			if (recvfrom(answerer.datagrams, bytes, BYTES, 0, (struct sockaddr *)&from,
				     &length) == BYTES)
				i += sendto(answerer.datagrams, bytes, BYTES, 0,
					    (struct sockaddr *)&from, length) == BYTES;
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
	assert_int_equal(listen(answerer.listener, SEVERAL * CALLS), 0);
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
	if (tested->calling)
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
	const char *place = strstr(lines, tested->said);
	assert_non_null(place);
	server->place = (uint32_t)strtoul(place + strlen(tested->said), NULL, 10);
	serve(server);
	assert_int_equal(demi_fini(), 0);
	return NULL;
}

static void start_servers(void)
{
	memset(servers, 0, sizeof(servers));
	assert_int_equal(pthread_barrier_init(&all_listen, NULL, SEVERAL + 1), 0);
	for (uint32_t i = 0; i < SEVERAL; i++)
		assert_int_equal(pthread_create(&servers[i].thread, NULL, run_server, &servers[i]),
				 0);
	pthread_barrier_wait(&all_listen);
	for (uint32_t i = 0; i < SEVERAL; i++)
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
	assert_true(client->server < SEVERAL);
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

static void one_more_is_refused(void)
{
	char *argv[] = {(char[]){"test"}, NULL};

	lines[0] = '\0';
	(void)demi_set_log(keep_lines, NULL);
	assert_int_equal(demi_init(&(struct demi_args){.argc = 1, .argv = argv}), EBUSY);
	assert_non_null(strstr(lines, tested->key));
}

static struct server *last_place(void)
{
	struct server *last = NULL;

	for (uint32_t i = 0; i < SEVERAL; i++) {
		struct server *one = &servers[i];
		if (!atomic_load(&one->stop) && (!last || one->place > last->place))
			last = one;
	}
	return last;
}

static void serve_clients(void)
{
	for (uint32_t i = 0; i < CLIENTS; i++)
		open_client(&clients[i]);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < CLIENTS; i++)
			echo(&clients[i], round * CLIENTS + i);
	}
	struct server *gone = last_place();
	stop_server(gone); /* the address stays the others' */
	for (uint32_t i = 0; i < CLIENTS; i++) {
		if (&servers[clients[i].server] != gone)
			echo(&clients[i], i);
		close(clients[i].fd);
	}
}

void several_serve_kernel(const struct several *several)
{
	uint32_t sum = 0;
	uint32_t serving = 0;

	tested = several;
	if (several->calling)
		start_answerer();
	start_servers();
	if (several->calling)
		stop_answerer();
	one_more_is_refused();
	serve_clients();
	for (uint32_t i = 1; i < SEVERAL; i++)
		stop_server(last_place());
	for (uint32_t i = 0; i < SEVERAL; i++) {
		print_message("# place %u: %u connections\n", servers[i].place,
			      servers[i].accepted);
		serving += servers[i].accepted > 0;
		sum += servers[i].accepted;
	}
	assert_int_equal(sum, CLIENTS);
	assert_true(serving >= several->least);
}

static bool has_plugin(void)
{
	const char *directory = getenv("DEMI_PLUGIN_DIR");
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/libdemitasse-dpdk.so", directory ? directory : ".");
	return access(path, R_OK) == 0;
}

bool several_over_dpdk(const char *device, uint32_t least)
{
	const struct several several = {.said = ", place ",
					.key = "demitasse.dpdk.queues",
					.calling = true,
					.least = least};
	const char *const settings[][2] = {
		{"LIBOS", "catnip"},
		{"DEMI_DPDK_DEVICE", device},
		{"DEMI_DPDK_QUEUES", "4"},
		{"DEMI_DPDK_MEMORY_BYTES", "33554432"},
		{"DEMI_ADDRESSES", "10.9.0.2/24"},
	};

	const char *missing = NULL;
	if (!netns_enter())
		missing = "privilege: network interfaces need CAP_NET_ADMIN";
	else if (!has_plugin())
		missing = "build: libdemitasse-dpdk.so is not there";
	if (missing) {
		test_note_skip(missing);
		return false;
	}
	netns_run("ip link add vQ type veth peer name vP");
	netns_run("ethtool -K vP tx off tso off gso off >/dev/null");
	netns_run("ip link set vQ up && ip link set vP up && ip addr add 10.9.0.1/24 dev vP");
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		assert_int_equal(setenv(settings[i][0], settings[i][1], 1), 0);
	several_serve_kernel(&several);
	netns_run("ip link del vQ");
	return true;
}
