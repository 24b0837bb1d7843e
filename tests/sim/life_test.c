/* SPDX-License-Identifier: MIT
 * tests/sim/life_test.c - how connections live and die in a simulated world: partitions, hosts that
 * vanish or come back without a memory, keep-alive, user timeout, closed windows, the last states.
 */
#include "sim/inet.h"

#include "net/tcp/tcp.h"
#include "support/seed.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT 80

/* Two hosts and a connection between them. */
struct life {
	struct world world;
	struct host *client;
	struct host *server;
	int client_qd;
	int server_qd;
	int listener;
	uint64_t pushed;   /* by the client */
	uint64_t received; /* at the server */
};

/* ---- operations from outside of coroutines ---- */

struct pending {
	struct host *host;
	demi_qtoken_t qt;
};

static bool is_done(void *arg)
{
	const struct pending *pending = arg;
	const struct op *op = op_find(&pending->host->sched->ops, pending->qt);

	return op && op_done(op);
}

/* The result of an operation, which comes within limit_ns. */
static demi_qresult_t await(struct pending pending, uint64_t limit_ns)
{
	static const struct timespec now;
	struct world *world = pending.host->world;
	demi_qresult_t qr;

	world_wake(pending.host);
	world_run(world, is_done, &pending, world->now_ns + limit_ns);
	world_enter(pending.host);
	WORLD_EXPECT(world, demi_wait(&qr, pending.qt, &now) == 0);
	world_wake(pending.host);
	return qr;
}

static void await_ok(struct pending pending, uint64_t limit_ns)
{
	WORLD_EXPECT(pending.host->world, await(pending, limit_ns).qr_opcode != DEMI_OPC_FAILED);
}

/* It fails with err, not before least_ns from now and not after most_ns. */
static void await_failure(struct pending pending, int err, uint64_t least_ns, uint64_t most_ns)
{
	struct world *world = pending.host->world;
	uint64_t begin = world->now_ns;
	const demi_qresult_t qr = await(pending, most_ns);

	WORLD_EXPECT(world, qr.qr_opcode == DEMI_OPC_FAILED);
	WORLD_EXPECT(world, qr.qr_ret == err);
	WORLD_EXPECT(world, world->now_ns - begin >= least_ns);
}

static struct pending push(struct life *life, uint32_t bytes)
{
	struct pending pending = {.host = life->client};

	world_enter(life->client);
	demi_sgarray_t sga = demi_sgaalloc(bytes);
	WORLD_EXPECT(&life->world, sga.sga_numsegs == 1);
	inet_fill(0, life->pushed, sga.sga_segs[0].sgaseg_buf, bytes);
	WORLD_EXPECT(&life->world, demi_push(&pending.qt, life->client_qd, &sga) == 0);
	WORLD_EXPECT(&life->world, demi_sgafree(&sga) == 0);
	life->pushed += bytes;
	world_wake(life->client);
	return pending;
}

static struct pending pop(struct life *life, struct host *host, int qd)
{
	struct pending pending = {.host = host};

	world_enter(host);
	WORLD_EXPECT(&life->world, demi_pop(&pending.qt, qd) == 0);
	world_wake(host);
	return pending;
}

/* Pops once at the server. */
static void receive_some(struct life *life, uint64_t limit_ns)
{
	struct world *world = &life->world;
	const demi_qresult_t qr = await(pop(life, life->server, life->server_qd), limit_ns);
	demi_sgarray_t sga;

	WORLD_EXPECT(world, qr.qr_opcode == DEMI_OPC_POP);
	memcpy(&sga, &qr.qr_value.sga, sizeof(sga));
	for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
		uint32_t length = sga.sga_segs[i].sgaseg_len;
		WORLD_EXPECT(world, length > 0 && life->received + length <= life->pushed);
		WORLD_EXPECT(world,
			     inet_matches(0, life->received, sga.sga_segs[i].sgaseg_buf, length));
		life->received += length;
	}
	WORLD_EXPECT(world, demi_sgafree(&sga) == 0);
}

static void receive_all(struct life *life, uint64_t limit_ns)
{
	while (life->received < life->pushed)
		receive_some(life, limit_ns);
}

/* ---- opening and closing ---- */

static const struct sim_options device = {.mtu = 1500, .rx_slots = 1024, .max_segments = 4};

static struct life *life_open_at(uint64_t seed, void (*change)(struct config *config),
				 uint64_t now_ns)
{
	struct life *life = calloc(1, sizeof(*life));
	struct config config;

	assert_non_null(life);
	world_open(&life->world, seed);
	life->world.now_ns = now_ns;
	life->world.check = inet_check;
	for (uint32_t i = 0; i < 2; i++) {
		inet_config(&config, i);
		if (change)
			change(&config);
		(void)world_add_instance(&life->world, &config, &device);
	}
	life->client = life->world.hosts[0];
	life->server = life->world.hosts[1];
	life->client_qd = life->server_qd = life->listener = -1;
	return life;
}

static struct life *life_open(uint64_t seed, void (*change)(struct config *config))
{
	return life_open_at(seed, change, WORLD_START_NS);
}

static int new_socket(struct life *life, struct host *host)
{
	int qd;

	world_enter(host);
	WORLD_EXPECT(&life->world, demi_socket(&qd, AF_INET, SOCK_STREAM, 0) == 0);
	return qd;
}

static void start_listening(struct life *life)
{
	const struct inet_name any = inet_any(AF_INET, PORT);

	life->listener = new_socket(life, life->server);
	WORLD_EXPECT(&life->world, demi_bind(life->listener, &any.any, any.length) == 0);
	WORLD_EXPECT(&life->world, demi_listen(life->listener, 10) == 0);
}

static struct pending start_connecting(struct life *life)
{
	const struct inet_name to = inet_name(1, AF_INET, PORT);
	struct pending pending = {.host = life->client};

	life->client_qd = new_socket(life, life->client);
	WORLD_EXPECT(&life->world,
		     demi_connect(&pending.qt, life->client_qd, &to.any, to.length) == 0);
	world_wake(life->client);
	return pending;
}

static void life_connect(struct life *life)
{
	struct pending accept = {.host = life->server};

	start_listening(life);
	WORLD_EXPECT(&life->world, demi_accept(&accept.qt, life->listener) == 0);
	await_ok(start_connecting(life), 10 * WORLD_S);
	const demi_qresult_t qr = await(accept, 10 * WORLD_S);
	WORLD_EXPECT(&life->world, qr.qr_opcode == DEMI_OPC_ACCEPT);
	life->server_qd = qr.qr_value.ares.qd;
}

static void close_qd(struct host *host, int *qd)
{
	if (*qd < 0 || !host->instance)
		return;
	world_enter(host);
	WORLD_EXPECT(host->world, demi_close(*qd) == 0);
	world_wake(host);
	*qd = -1;
}

static bool is_empty(void *arg)
{
	return inet_is_empty(arg);
}

/* Closes all that is open; nothing is left soon in hosts that are there. */
static void life_end(struct life *life)
{
	close_qd(life->client, &life->client_qd);
	close_qd(life->server, &life->server_qd);
	close_qd(life->server, &life->listener);
	for (uint32_t i = 0; i < life->world.num_hosts; i++) {
		struct host *host = life->world.hosts[i];
		if (!host->vanished && host->instance) {
			world_run(&life->world, is_empty, host, life->world.now_ns + 600 * WORLD_S);
			inet_expect_empty(host);
		}
	}
	world_close(&life->world);
	free(life);
}

static void set_option(struct life *life, int level, int name, int value)
{
	world_enter(life->client);
	WORLD_EXPECT(&life->world,
		     demi_setsockopt(life->client_qd, level, name, &value, sizeof(value)) == 0);
	world_wake(life->client);
}

static void run_for(struct life *life, uint64_t ns)
{
	world_run_until(&life->world, life->world.now_ns + ns);
}

static void cut(struct life *life, bool down)
{
	world_partition(&life->world, 1, 2, down);
}

/* The client's connection. */
static const struct tcp_conn *conn_of(struct life *life)
{
	const struct list *all = &inet_net(life->client)->tcp->all;

	WORLD_EXPECT(&life->world, !list_empty(all));
	return container_of(all->next, struct tcp_conn, in_all);
}

/* ---- partitions ---- */

/* Data goes on where it stopped, however often and long the path is cut. */
static uint64_t partitions(uint64_t seed)
{
	struct life *life = life_open(seed, NULL);

	life_connect(life);
	life->world.paths[0][1].bits_per_s = 10000000;
	life->world.paths[0][1].queue_bytes = 100000;
	for (int round = 0; round < 5; round++) {
		uint32_t bytes = (uint32_t)world_between(&life->world, 1, 500000);
		struct pending pending = push(life, bytes);
		run_for(life, world_below(&life->world, WORLD_S));
		cut(life, true);
		run_for(life, world_below(&life->world, 100 * WORLD_S));
		cut(life, false);
		receive_all(life, 300 * WORLD_S);
		await_ok(pending, WORLD_S);
	}
	uint64_t hash = life->world.hash;
	life_end(life);
	return hash;
}

static void test_partitions(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 100, 10, partitions);
}

/* RFC 9293 3.8.3 MUST-20, MUST-22: R2 is at least 100 seconds. */
static void test_vanished_peer(void **state)
{
	struct life *life = life_open(1, NULL);

	(void)state;
	life_connect(life);
	await_ok(push(life, 1000), WORLD_S);
	receive_all(life, WORLD_S);
	life->server->vanished = true;
	await_ok(push(life, 1000), WORLD_S);
	await_failure(pop(life, life->client, life->client_qd), EHOSTUNREACH, 100 * WORLD_S,
		      2000 * WORLD_S);
	life_end(life);
}

static void static_neighbour(struct config *config)
{
	bool first = strncmp(config->addresses, "10.0.0.1/", 9) == 0;

	(void)snprintf(config->arp_table, sizeof(config->arp_table), "%s",
		       first ? "02:00:00:00:de:02=10.0.0.2" : "02:00:00:00:de:01=10.0.0.1");
}

/* RFC 9293 3.8.3 MUST-23: a SYN is sent again for at least three minutes. */
static void test_silent_peer(void **state)
{
	struct life *life = life_open(2, static_neighbour);

	(void)state;
	start_listening(life);
	cut(life, true);
	await_failure(start_connecting(life), ETIMEDOUT, 180 * WORLD_S, 2000 * WORLD_S);
	life_end(life);
}

/* Nobody has the address: connecting fails as soon as that is certain. */
static void test_absent_peer(void **state)
{
	struct life *life = life_open(3, NULL);

	(void)state;
	life->server->vanished = true;
	await_failure(start_connecting(life), EHOSTUNREACH, WORLD_S, 600 * WORLD_S);
	life_end(life);
}

/* A host that comes back does not know the connection: it is reset. */
static void test_restarted_peer(void **state)
{
	struct life *life = life_open(4, NULL);
	struct sim_options options = device;
	struct config config;

	(void)state;
	life_connect(life);
	await_ok(push(life, 1000), WORLD_S);
	receive_all(life, WORLD_S);
	life->server->vanished = true;
	inet_config(&config, 1);
	memcpy(options.mac, life->server->mac, sizeof(options.mac));
	(void)world_add_instance(&life->world, &config, &options);
	struct pending pending = pop(life, life->client, life->client_qd);
	await_ok(push(life, 1000), WORLD_S);
	await_failure(pending, ECONNRESET, 0, 10 * WORLD_S);
	life_end(life);
}

/* ---- keep-alive ---- */

/* RFC 9293 3.8.4 MUST-24 to MUST-28. */
static void test_keepalive(void **state)
{
	struct life *life = life_open(5, NULL);

	(void)state;
	life_connect(life);
	set_option(life, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(life, IPPROTO_TCP, TCP_KEEPIDLE, 10);
	set_option(life, IPPROTO_TCP, TCP_KEEPINTVL, 2);
	set_option(life, IPPROTO_TCP, TCP_KEEPCNT, 3);
	struct pending pending = pop(life, life->client, life->client_qd);
	uint32_t before = conn_of(life)->segments_in;
	run_for(life, 1000 * WORLD_S); /* a peer that is there answers */
	WORLD_EXPECT(&life->world, !is_done(&pending));
	WORLD_EXPECT(&life->world, conn_of(life)->segments_in - before >= 90);
	WORLD_EXPECT(&life->world, conn_of(life)->segments_in - before <= 101);
	life->server->vanished = true;
	await_failure(pending, ETIMEDOUT, 6 * WORLD_S, 20 * WORLD_S);
	life_end(life);
}

/* Without it an idle connection asks nothing for ever (MUST-25: off by default). */
static void test_idle(void **state)
{
	struct life *life = life_open(6, NULL);

	(void)state;
	life_connect(life);
	struct pending pending = pop(life, life->client, life->client_qd);
	run_for(life, 10 * WORLD_S);
	uint64_t sent = life->world.stats.sent;
	run_for(life, 86400 * WORLD_S);
	WORLD_EXPECT(&life->world, life->world.stats.sent == sent);
	WORLD_EXPECT(&life->world, !is_done(&pending));
	await_ok(push(life, 100), WORLD_S);
	receive_all(life, 10 * WORLD_S);
	close_qd(life->client, &life->client_qd);
	const demi_qresult_t qr = await(pending, WORLD_S);
	WORLD_EXPECT(&life->world, qr.qr_opcode == DEMI_OPC_FAILED && qr.qr_ret == ECANCELED);
	life_end(life);
}

/* ---- user timeout (RFC 5482, RFC 9293 3.8.3) ---- */

static void test_user_timeout(void **state)
{
	struct life *life = life_open(7, NULL);

	(void)state;
	life_connect(life);
	await_ok(push(life, 1000), WORLD_S);
	receive_all(life, WORLD_S);
	set_option(life, IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
	/* silence alone is no reason */
	struct pending pending = pop(life, life->client, life->client_qd);
	run_for(life, 100 * WORLD_S);
	WORLD_EXPECT(&life->world, !is_done(&pending));
	cut(life, true);
	await_ok(push(life, 1000), WORLD_S);
	await_failure(pending, ETIMEDOUT, 5 * WORLD_S - WORLD_MS, 7 * WORLD_S);
	cut(life, false);
	life->pushed = life->received;
	life_end(life);
}

/* ---- windows ---- */

static void small_buffers(struct config *config)
{
	config->tcp_receive_buffer_bytes = config->tcp_receive_buffer_max_bytes = 8192;
	config->tcp_send_buffer_bytes = config->tcp_send_buffer_max_bytes = 8192;
}

/* Attack row 30, RFC 9293 3.8.6.1 MUST-36, MUST-37: a window that stays closed is probed as long as
 * it takes, at growing intervals. */
static void test_closed_window(void **state)
{
	struct life *life = life_open(8, small_buffers);

	(void)state;
	life_connect(life);
	struct pending pending = push(life, 100000);
	run_for(life, 10 * WORLD_S);
	uint64_t sent = life->world.stats.sent;
	run_for(life, 7200 * WORLD_S);
	WORLD_EXPECT(&life->world, conn_of(life)->queued >= 100000 - 2 * 8192);
	/* a probe and its answer in two minutes, and neighbours that are asked for */
	WORLD_EXPECT(&life->world, life->world.stats.sent - sent >= 100);
	WORLD_EXPECT(&life->world, life->world.stats.sent - sent <= 1200);
	receive_all(life, 300 * WORLD_S);
	await_ok(pending, WORLD_S);
	life_end(life);
}

/* Half of the answers are lost: no run of losses that ever happens may end the connection. */
static void short_timeouts(struct config *config)
{
	small_buffers(config);
	config->tcp_retries = 30;
	config->neighbour_retries = 20;
	config->tcp_rto_max_ms = 4000;
}

/* The update that opens the window is lost. */
static uint64_t lost_updates(uint64_t seed)
{
	struct life *life = life_open(seed, short_timeouts);

	life_connect(life);
	for (int round = 0; round < 4; round++) {
		struct pending pending =
			push(life, (uint32_t)world_between(&life->world, 10000, 60000));
		run_for(life, world_below(&life->world, 20 * WORLD_S));
		life->world.paths[1][0].loss = 500000;
		receive_all(life, 1000 * WORLD_S);
		life->world.paths[1][0].loss = 0;
		await_ok(pending, WORLD_S);
	}
	uint64_t hash = life->world.hash;
	life_end(life);
	return hash;
}

static void test_lost_updates(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 100, 10, lost_updates);
}

/* ---- the last states ---- */

static uint64_t time_until_empty(struct life *life, struct host *host)
{
	uint64_t begin = life->world.now_ns;

	world_run(&life->world, is_empty, host, begin + 1000 * WORLD_S);
	return life->world.now_ns - begin;
}

/* RFC 9293 3.6 MUST-13: TIME-WAIT lasts as long as it is told to, at the side that closed first. */
static void test_time_wait(void **state)
{
	struct life *life = life_open(9, NULL);

	(void)state;
	life_connect(life);
	close_qd(life->client, &life->client_qd);
	run_for(life, 100 * WORLD_MS);
	close_qd(life->server, &life->server_qd);
	close_qd(life->server, &life->listener);
	WORLD_EXPECT(&life->world, time_until_empty(life, life->server) < WORLD_S);
	uint64_t waited = time_until_empty(life, life->client);
	WORLD_EXPECT(&life->world, waited >= 59 * WORLD_S && waited <= 61 * WORLD_S);
	life_end(life);
}

/* A peer that never ends its side does not hold a closed connection for ever. */
static void test_fin_wait_2(void **state)
{
	struct life *life = life_open(10, NULL);

	(void)state;
	life_connect(life);
	close_qd(life->client, &life->client_qd);
	uint64_t waited = time_until_empty(life, life->client);
	WORLD_EXPECT(&life->world, waited >= 59 * WORLD_S && waited <= 61 * WORLD_S);
	life_end(life);
}

/* Attack row 37: a peer that vanishes in the handshake, at either side, leaves nothing. */
static void test_half_open(void **state)
{
	struct life *life = life_open(11, NULL);

	(void)state;
	start_listening(life);
	struct pending pending = start_connecting(life);
	/* ARP there and back, then the SYN */
	run_for(life, 35 * WORLD_US);
	WORLD_EXPECT(&life->world, !list_empty(&inet_net(life->server)->tcp->all));
	cut(life, true);
	run_for(life, 1000 * WORLD_S);
	WORLD_EXPECT(&life->world, inet_net(life->server)->tcp->num_conns == 0);
	WORLD_EXPECT(&life->world, is_done(&pending));
	(void)await(pending, 0);
	life_end(life);
}

struct vanishing {
	enum tcp_state state; /* the client's, when the server vanishes */
	bool server_first;    /* closes */
	bool server_too;      /* closes at once */
	bool client;          /* closes */
	bool push;
};

static const struct vanishing vanishings[] = {
	{.state = TCPS_ESTABLISHED, .push = true},
	{.state = TCPS_FIN_WAIT_1, .client = true},
	{.state = TCPS_FIN_WAIT_1, .client = true, .push = true},
	{.state = TCPS_FIN_WAIT_2, .client = true},
	{.state = TCPS_CLOSE_WAIT, .server_first = true, .push = true},
	{.state = TCPS_CLOSING, .client = true, .server_too = true},
	{.state = TCPS_LAST_ACK, .server_first = true, .client = true},
};

/* Until the client's connection is in a state. */
static void reach(struct life *life, enum tcp_state state)
{
	uint64_t limit = life->world.now_ns + WORLD_S;

	while (conn_of(life)->state != state)
		WORLD_EXPECT(&life->world, world_step(&life->world, limit));
}

static void vanish(struct life *life, const struct vanishing *how)
{
	struct pending pending = {0};

	life_connect(life);
	life->world.paths[0][1].delay_ns = life->world.paths[1][0].delay_ns = 5 * WORLD_MS;
	if (how->server_first || how->server_too)
		close_qd(life->server, &life->server_qd);
	if (how->server_first)
		reach(life, TCPS_CLOSE_WAIT);
	if (how->push)
		pending = push(life, 1000);
	if (how->client)
		close_qd(life->client, &life->client_qd);
	reach(life, how->state);
	life->server->vanished = true;
	if (how->push)
		(void)await(pending, WORLD_S); /* it was taken before */
	if (how->push && !how->server_first && !how->client)
		await_failure(pop(life, life->client, life->client_qd), ETIMEDOUT, 0,
			      2000 * WORLD_S);
}

/* Attack row 37: a peer that vanishes in any state: what was sent is given up in its time
 * (MUST-20), and nothing is left of a connection that its user closed. */
static void test_vanishing(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(vanishings); i++) {
		struct life *life = life_open(20 + i, static_neighbour);
		vanish(life, &vanishings[i]);
		close_qd(life->client, &life->client_qd);
		world_run(&life->world, is_empty, life->client,
			  life->world.now_ns + 2000 * WORLD_S);
		inet_expect_empty(life->client);
		world_close(&life->world);
		free(life);
	}
}

/* ---- TIME-WAIT again ---- */

/* Connects from a port of the client's; 0: it may, and did. */
static int connect_from(struct life *life, uint16_t port)
{
	const struct inet_name own = inet_any(AF_INET, port);
	const struct inet_name to = inet_name(1, AF_INET, PORT);
	struct pending accept = {.host = life->server};
	struct pending pending = {.host = life->client};

	world_enter(life->server);
	WORLD_EXPECT(&life->world, demi_accept(&accept.qt, life->listener) == 0);
	life->client_qd = new_socket(life, life->client);
	WORLD_EXPECT(&life->world, demi_bind(life->client_qd, &own.any, own.length) == 0);
	int err = demi_connect(&pending.qt, life->client_qd, &to.any, to.length);
	if (err) {
		close_qd(life->client, &life->client_qd);
		world_enter(life->server);
		WORLD_EXPECT(&life->world, demi_cancel(accept.qt) == 0);
		(void)await(accept, 0);
		return err;
	}
	await_ok(pending, 10 * WORLD_S);
	life->server_qd = await(accept, 10 * WORLD_S).qr_value.ares.qd;
	return 0;
}

/* Attack row 33, RFC 6191 2: our side may connect from a port whose connection is in TIME-WAIT a
 * second after that was last heard of; never without timestamps. */
static void reuse(void (*change)(struct config *config), bool possible)
{
	struct life *life = life_open(30, change);

	start_listening(life);
	WORLD_EXPECT(&life->world, connect_from(life, 5555) == 0);
	await_ok(push(life, 1000), WORLD_S);
	receive_all(life, WORLD_S);
	close_qd(life->client, &life->client_qd);
	run_for(life, 10 * WORLD_MS);
	close_qd(life->server, &life->server_qd);
	run_for(life, 10 * WORLD_MS);
	uint32_t old = conn_of(life)->snd_nxt;
	WORLD_EXPECT(&life->world, connect_from(life, 5555) == EADDRNOTAVAIL);
	run_for(life, WORLD_S);
	WORLD_EXPECT(&life->world, connect_from(life, 5555) == (possible ? 0 : EADDRNOTAVAIL));
	if (possible) {
		WORLD_EXPECT(&life->world, seq_after(conn_of(life)->iss, old + 65535));
		await_ok(push(life, 1000), WORLD_S);
		receive_all(life, WORLD_S);
	}
	life_end(life);
}

static void no_timestamps(struct config *config)
{
	config->tcp_timestamps = 0;
}

static void test_reuse(void **state)
{
	(void)state;
	reuse(NULL, true);
	reuse(no_timestamps, false);
}

/* ---- clocks that go round ---- */

/* Attack row 36: 32 bits of milliseconds go round in the middle of a transfer with losses, and
 * again while nothing happens. */
static uint64_t clock_round(uint64_t seed)
{
	const uint64_t round_ns = (1ULL << 32) * WORLD_MS;
	struct life *life = life_open_at(seed, NULL, 3 * round_ns - 2 * WORLD_S);

	life_connect(life);
	life->world.paths[0][1].bits_per_s = 2000000;
	life->world.paths[0][1].queue_bytes = 100000;
	life->world.paths[0][1].loss = 10000;
	struct pending pending = push(life, 1000000); /* four seconds */
	receive_all(life, 100 * WORLD_S);
	await_ok(pending, WORLD_S);
	WORLD_EXPECT(&life->world, life->world.now_ns > 3 * round_ns);
	run_for(life, round_ns);
	await_ok(push(life, 1000), WORLD_S);
	receive_all(life, 100 * WORLD_S);
	uint64_t hash = life->world.hash;
	life_end(life);
	return hash;
}

static void test_clock_round(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 10, 10, clock_round);
}

/* A reset, for the server had not read what came; the end of the stream, if nothing had come yet.
 */
static void await_end(struct life *life, struct pending popped)
{
	demi_qresult_t qr = await(popped, 10 * WORLD_S);

	if (qr.qr_opcode == DEMI_OPC_FAILED) {
		WORLD_EXPECT(&life->world, qr.qr_ret == ECONNRESET);
		return;
	}
	WORLD_EXPECT(&life->world, qr.qr_opcode == DEMI_OPC_POP);
	WORLD_EXPECT(&life->world, life->world.now_ns < WORLD_START_NS + 10 * WORLD_MS);
	WORLD_EXPECT(&life->world, demi_sgafree(&qr.qr_value.sga) == 0);
}

/* Instances end in the middle of everything: their memory goes, their peers learn of it. */
static uint64_t sudden_end(uint64_t seed)
{
	struct life *life = life_open(seed, NULL);

	life_connect(life);
	life->world.paths[0][1].bits_per_s = 10000000;
	life->world.paths[0][1].queue_bytes = 100000;
	struct pending pending = push(life, (uint32_t)world_between(&life->world, 1, 1000000));
	struct pending popped = pop(life, life->client, life->client_qd);
	run_for(life, world_below(&life->world, 500 * WORLD_MS));
	world_end_host(life->server);
	life->server_qd = life->listener = -1;
	await_end(life, popped);
	(void)await(pending, 0);
	life->received = life->pushed;
	uint64_t hash = life->world.hash;
	life_end(life);
	return hash;
}

static void test_sudden_end(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 100, 10, sudden_end);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_partitions),     cmocka_unit_test(test_vanished_peer),
		cmocka_unit_test(test_silent_peer),    cmocka_unit_test(test_absent_peer),
		cmocka_unit_test(test_restarted_peer), cmocka_unit_test(test_keepalive),
		cmocka_unit_test(test_idle),           cmocka_unit_test(test_user_timeout),
		cmocka_unit_test(test_closed_window),  cmocka_unit_test(test_lost_updates),
		cmocka_unit_test(test_time_wait),      cmocka_unit_test(test_fin_wait_2),
		cmocka_unit_test(test_half_open),      cmocka_unit_test(test_vanishing),
		cmocka_unit_test(test_reuse),          cmocka_unit_test(test_clock_round),
		cmocka_unit_test(test_sudden_end),
	};

	return test_run("life", tests);
}
