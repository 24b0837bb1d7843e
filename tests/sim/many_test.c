/* SPDX-License-Identifier: MIT
 * tests/sim/many_test.c - ten thousand connections at once between two simulated hosts: all of them
 * work, each costs at most a kibibyte while it is idle, and nothing is left of them.
 */
#include "support/test.h"

#include "net/tcp/tcp.h"
#include "sim/world.h"
#include "support/net.h"
#include "support/seed.h"
#include "transport/inet/inet.h"

#include <arpa/inet.h>
#include <malloc.h>
#include <stdio.h>

#define CONNECTIONS 10000
#define IDLE_MAX    1024 /* bytes an idle connection may cost, both queue and connection */

struct many {
	struct world world;
	struct host *server;
	struct host *client;
	int accepted[CONNECTIONS];
	int connected[CONNECTIONS];
	int num_accepted;
	int num_connected;
	int num_echoed;
	bool echo;
	bool end;
	int num_ended;
};

static struct many many;

static struct sockaddr_in server_address(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(80)};

	assert_int_equal(inet_pton(AF_INET, "10.0.0.1", &at.sin_addr), 1);
	return at;
}

static void echo_once(int qd, bool first)
{
	demi_qresult_t qr;
	char byte = 'x';

	if (first)
		net_wait(net_push_bytes(qd, &byte, 1));
	qr = net_wait(net_pop(qd));
	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	assert_int_equal(qr.qr_value.sga.sga_segs[0].sgaseg_len, 1);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	if (!first)
		net_wait(net_push_bytes(qd, &byte, 1));
}

/* Lets time pass: a coroutine that only yields would hold it. */
static void nap(void)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	assert_int_equal(demi_sleep(&ms), 0);
}

static void serve(void *unused)
{
	struct sockaddr_in at = server_address();
	int listener = net_socket(AF_INET, SOCK_STREAM);

	(void)unused;
	assert_int_equal(demi_bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(demi_listen(listener, 128), 0);
	while (many.num_accepted < CONNECTIONS) {
		demi_qresult_t qr = net_wait(net_accept(listener));
		many.accepted[many.num_accepted++] = qr.qr_value.ares.qd;
	}
	while (!many.echo)
		nap();
	for (int i = 0; i < CONNECTIONS; i++)
		echo_once(many.accepted[i], false);
	while (!many.end)
		nap();
	for (int i = 0; i < CONNECTIONS; i++)
		assert_int_equal(demi_close(many.accepted[i]), 0);
	assert_int_equal(demi_close(listener), 0);
	many.num_ended++;
}

static void connect_all(void *unused)
{
	struct sockaddr_in at = server_address();
	demi_qtoken_t qt;

	(void)unused;
	while (many.num_connected < CONNECTIONS) {
		int qd = net_socket(AF_INET, SOCK_STREAM);
		assert_int_equal(demi_connect(&qt, qd, (struct sockaddr *)&at, sizeof(at)), 0);
		assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_CONNECT);
		many.connected[many.num_connected++] = qd;
	}
	while (!many.echo)
		nap();
	for (; many.num_echoed < CONNECTIONS; many.num_echoed++)
		echo_once(many.connected[many.num_echoed], true);
	while (!many.end)
		nap();
	for (int i = 0; i < CONNECTIONS; i++)
		assert_int_equal(demi_close(many.connected[i]), 0);
	many.num_ended++;
}

static bool all_connected(void *unused)
{
	(void)unused;
	return many.num_connected == CONNECTIONS && many.num_accepted == CONNECTIONS;
}

static bool all_echoed(void *unused)
{
	(void)unused;
	return many.num_echoed == CONNECTIONS;
}

static bool all_ended(void *unused)
{
	(void)unused;
	return many.num_ended == 2;
}

static struct net *net_of(const struct host *host)
{
	return &container_of(host->instance->engine, struct inet_engine, engine)->net;
}

static struct host *add_host(int number)
{
	const struct sim_options options = {.mtu = 1500, .rx_slots = 1024, .max_segments = 4};
	struct config config;

	world_config(&config);
	config.libos = 1;
	config.idle = 1;
	config.queues_max = CONNECTIONS + 16;
	config.operations_max = 65536;
	(void)snprintf(config.addresses, sizeof(config.addresses), "10.0.0.%d/24", number);
	return world_add_instance(&many.world, &config, &options);
}

static void run(struct host *host, void (*fn)(void *))
{
	world_enter(host);
	assert_int_equal(demi_go(fn, NULL), 0);
	world_wake(host);
}

/* Bytes that both hosts have from malloc and hold in their heaps. */
static size_t bytes_in_use(void)
{
	struct heap_usage server;
	struct heap_usage client;

	heap_usage(many.server->sched->heap, &server);
	heap_usage(many.client->sched->heap, &client);
	return mallinfo2().uordblks + server.live_bytes + client.live_bytes;
}

static void check_idle_cost(size_t before)
{
	size_t each = (bytes_in_use() - before) / (2 * (size_t)CONNECTIONS);

	printf("# an idle connection costs %zu bytes (its struct: %zu)\n", each,
	       sizeof(struct tcp_conn) + sizeof(struct inet_queue));
	assert_in_range(sizeof(struct tcp_conn) + sizeof(struct inet_queue), 1, IDLE_MAX);
	if (!test_sanitized()) /* its allocator is another one */
		assert_in_range(each, 1, IDLE_MAX);
}

static void test_ten_thousand(void **state)
{
	(void)state;
	world_open(&many.world, test_seed(1));
	many.server = add_host(1);
	many.client = add_host(2);
	run(many.server, serve);
	size_t before = bytes_in_use();
	run(many.client, connect_all);
	world_run(&many.world, all_connected, NULL, 600 * WORLD_S);
	assert_int_equal(net_of(many.server)->tcp->num_conns, CONNECTIONS);
	many.echo = true;
	world_run(&many.world, all_echoed, NULL, 600 * WORLD_S);
	world_run_until(&many.world, many.world.now_ns + 10 * WORLD_S);
	check_idle_cost(before);
	tcp_check_all(net_of(many.server));
	tcp_check_all(net_of(many.client));
	many.end = true;
	world_run(&many.world, all_ended, NULL, 600 * WORLD_S);
	world_run_until(&many.world, many.world.now_ns + 300 * WORLD_S);
	assert_int_equal(net_of(many.server)->tcp->num_conns, 0);
	assert_int_equal(net_of(many.client)->tcp->num_conns, 0);
	world_close(&many.world);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_ten_thousand)};

	return test_run("many", tests);
}
