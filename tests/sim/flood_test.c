/* SPDX-License-Identifier: MIT
 * tests/sim/flood_test.c - a peer that opens connections from addresses that are not its own, ten
 * times as many as the listener holds and on and on; and one that answers cookies that it never
 * saw.  RFC 4987; attack rows 23 and 24.
 */
#include "sim/forge.h"
#include "sim/inet.h"

#include "net/tcp/tcp.h"
#include "support/seed.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT         80
#define BACKLOG      256
#define TICK_NS      WORLD_MS
#define PER_TICK     10
#define LEGITIMATE   30
#define HANDSHAKE_NS (3 * WORLD_S)

struct flood {
	struct world world;
	struct host *server;
	struct host *client;
	struct host *attacker;
	int listener;
	bool on;
	bool forged_acks; /* else SYNs */
	uint64_t sent;
	uint64_t answers[2]; /* that reached the attacker: SYN-ACKs, resets */
	uint32_t served;
	uint32_t connected;
	bool client_done;
	bool stop;
};

static struct flood *flood_of(struct world *world)
{
	return container_of(world, struct flood, world);
}

/* ---- the attacker ---- */

static void attacker_input(struct host *host, const uint8_t *bytes, uint32_t length)
{
	struct flood *flood = host->arg;
	const uint32_t flags_at = ETHER_HEADER_BYTES + IPV4_HEADER_BYTES + 13;

	if (length <= flags_at || bytes[ETHER_HEADER_BYTES + 9] != IP_TCP)
		return;
	flood->answers[0] += (bytes[flags_at] & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
	flood->answers[1] += !!(bytes[flags_at] & TCP_RST);
}

/* Addresses behind the gateway, which the attacker is. */
static void send_forged(struct flood *flood)
{
	struct world *world = &flood->world;
	struct forged forged = {
		.to_host = flood->server,
		.from = forge_address(0xc6120000 + (uint32_t)world_below(world, 0x10000)),
		.to = forge_host_address(flood->server->index),
		.h = {.source = (uint16_t)world_between(world, 1024, 65535),
		      .destination = PORT,
		      .seq = (uint32_t)world_below(world, UINT32_MAX),
		      .flags = TCP_SYN,
		      .window = 65535,
		      .options = {.has = TCP_HAS_MSS, .mss = 1460}},
	};

	if (flood->forged_acks) {
		forged.h.flags = TCP_ACK;
		forged.h.ack = (uint32_t)world_below(world, UINT32_MAX);
		forged.h.options.has = 0;
	}
	forge_segment(flood->attacker, &forged);
	flood->sent++;
}

static void tick(struct world *world, void *arg)
{
	struct flood *flood = arg;

	if (!flood->on)
		return;
	for (int i = 0; i < PER_TICK; i++)
		send_forged(flood);
	world_at(world, world->now_ns + TICK_NS, tick, flood);
}

/* All that a backlog holds ten times over, at once; then on and on. */
static void start_flood(struct flood *flood)
{
	flood->on = true;
	for (uint32_t i = 0; i < 10 * BACKLOG; i++)
		send_forged(flood);
	world_at(&flood->world, flood->world.now_ns + TICK_NS, tick, flood);
}

/* ---- what goes on meanwhile ---- */

static demi_qresult_t await(struct flood *flood, demi_qtoken_t qt)
{
	demi_qresult_t qr;

	WORLD_EXPECT(&flood->world, demi_wait(&qr, qt, NULL) == 0);
	return qr;
}

static void push_bytes(struct flood *flood, int qd, uint64_t stream)
{
	demi_qtoken_t qt;
	demi_sgarray_t sga = demi_sgaalloc(2000);

	WORLD_EXPECT(&flood->world, sga.sga_numsegs == 1);
	inet_fill(stream, 0, sga.sga_segs[0].sgaseg_buf, 2000);
	WORLD_EXPECT(&flood->world, demi_push(&qt, qd, &sga) == 0);
	WORLD_EXPECT(&flood->world, demi_sgafree(&sga) == 0);
	WORLD_EXPECT(&flood->world, await(flood, qt).qr_opcode == DEMI_OPC_PUSH);
}

static void pop_bytes(struct flood *flood, int qd, uint64_t stream)
{
	for (uint64_t have = 0; have < 2000;) {
		demi_qtoken_t qt;
		demi_sgarray_t sga;
		WORLD_EXPECT(&flood->world, demi_pop(&qt, qd) == 0);
		demi_qresult_t qr = await(flood, qt);
		WORLD_EXPECT(&flood->world, qr.qr_opcode == DEMI_OPC_POP);
		memcpy(&sga, &qr.qr_value.sga, sizeof(sga));
		WORLD_EXPECT(&flood->world, sga.sga_numsegs == 1);
		uint32_t length = sga.sga_segs[0].sgaseg_len;
		WORLD_EXPECT(&flood->world, length > 0 && have + length <= 2000);
		WORLD_EXPECT(&flood->world,
			     inet_matches(stream, have, sga.sga_segs[0].sgaseg_buf, length));
		have += length;
		WORLD_EXPECT(&flood->world, demi_sgafree(&sga) == 0);
	}
}

static void serve(void *arg)
{
	struct flood *flood = arg;

	while (flood->served < LEGITIMATE) {
		demi_qtoken_t qt;
		WORLD_EXPECT(&flood->world, demi_accept(&qt, flood->listener) == 0);
		demi_qresult_t qr = await(flood, qt);
		if (qr.qr_opcode == DEMI_OPC_FAILED)
			return; /* the test ends */
		int qd = qr.qr_value.ares.qd;
		pop_bytes(flood, qd, 1);
		push_bytes(flood, qd, 2);
		WORLD_EXPECT(&flood->world, demi_close(qd) == 0);
		flood->served++;
	}
}

static void use(void *arg)
{
	struct flood *flood = arg;
	const struct inet_name to = inet_name(flood->server->index, AF_INET, PORT);

	for (uint32_t i = 0; i < LEGITIMATE && !flood->stop; i++) {
		uint64_t begin = flood->world.now_ns;
		demi_qtoken_t qt;
		int qd;
		WORLD_EXPECT(&flood->world, demi_socket(&qd, AF_INET, SOCK_STREAM, 0) == 0);
		WORLD_EXPECT(&flood->world, demi_connect(&qt, qd, &to.any, to.length) == 0);
		WORLD_EXPECT(&flood->world, await(flood, qt).qr_opcode == DEMI_OPC_CONNECT);
		push_bytes(flood, qd, 1);
		pop_bytes(flood, qd, 2);
		/* The bound, for the whole of it. */
		WORLD_EXPECT(&flood->world, flood->world.now_ns - begin < HANDSHAKE_NS);
		WORLD_EXPECT(&flood->world, demi_close(qd) == 0);
		flood->connected++;
		inet_sleep(world_below(&flood->world, 50 * WORLD_MS));
	}
	flood->client_done = true;
}

/* ---- a run ---- */

static uint64_t counted(const struct flood *flood, enum counter counter)
{
	return flood->server->sched->counters.count[counter];
}

static void check_bounds(struct world *world, void *unused)
{
	const struct flood *flood = flood_of(world);
	const struct tcp *tcp = inet_net(flood->server)->tcp;

	(void)unused;
	/* Half-open ones, and what the legitimate client has open or in TIME-WAIT. */
	WORLD_EXPECT(world, tcp->num_conns <= BACKLOG + 2 * LEGITIMATE);
}

static struct host *add_host(struct flood *flood, uint32_t index, int64_t cookies)
{
	static const struct sim_options device = {.mtu = 1500, .rx_slots = 4096};
	struct config config;

	inet_config(&config, index);
	config.tcp_syn_cookies = cookies;
	config.tcp_timestamps = (int64_t)world_below(&flood->world, 2);
	config.frames_max = 8192;
	(void)snprintf(config.gateways, sizeof(config.gateways), "10.0.0.254");
	(void)snprintf(config.arp_table, sizeof(config.arp_table), "02:00:00:00:de:03=10.0.0.254");
	return world_add_instance(&flood->world, &config, &device);
}

static struct flood *flood_open(uint64_t seed, int64_t cookies)
{
	struct flood *flood = calloc(1, sizeof(*flood));
	const struct inet_name any = inet_any(AF_INET, PORT);

	assert_non_null(flood);
	world_open(&flood->world, seed);
	flood->server = add_host(flood, 0, cookies);
	flood->client = add_host(flood, 1, cookies);
	flood->attacker = world_add_peer(&flood->world, attacker_input, flood);
	flood->world.check = check_bounds;
	world_enter(flood->server);
	WORLD_EXPECT(&flood->world, demi_socket(&flood->listener, AF_INET, SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(&flood->world, demi_bind(flood->listener, &any.any, any.length) == 0);
	WORLD_EXPECT(&flood->world, demi_listen(flood->listener, BACKLOG) == 0);
	WORLD_EXPECT(&flood->world, demi_go(serve, flood) == 0);
	world_wake(flood->server);
	return flood;
}

static void start_client(struct flood *flood)
{
	world_enter(flood->client);
	WORLD_EXPECT(&flood->world, demi_go(use, flood) == 0);
	world_wake(flood->client);
}

static bool client_done(void *arg)
{
	return ((const struct flood *)arg)->client_done;
}

/* Half-open connections end by themselves; then nothing is left. */
static void flood_end(struct flood *flood)
{
	flood->on = false;
	world_enter(flood->server);
	WORLD_EXPECT(&flood->world, demi_close(flood->listener) == 0);
	world_wake(flood->server);
	world_run_until(&flood->world, flood->world.now_ns + 300 * WORLD_S);
	inet_expect_empty(flood->server);
	inet_expect_empty(flood->client);
	world_close(&flood->world);
	free(flood);
}

/* row 23: with cookies the legitimate ones are served as if nothing was. */
static uint64_t syn_flood(uint64_t seed)
{
	struct flood *flood = flood_open(seed, 1);

	start_flood(flood);
	start_client(flood);
	world_run(&flood->world, client_done, flood,
		  flood->world.now_ns + LEGITIMATE * HANDSHAKE_NS);
	WORLD_EXPECT(&flood->world, flood->connected == LEGITIMATE);
	WORLD_EXPECT(&flood->world, counted(flood, COUNTER_TCP_COOKIES_SENT) >= 9 * BACKLOG);
	/* The half-open ones were the attacker's: each client needed a cookie. */
	WORLD_EXPECT(&flood->world, counted(flood, COUNTER_TCP_COOKIES_TAKEN) == LEGITIMATE);
	WORLD_EXPECT(&flood->world, flood->answers[0] > 0);
	uint64_t hash = flood->world.hash;
	flood_end(flood);
	return hash;
}

static void test_syn_flood(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 20, 8, syn_flood);
}

/* row 24: guesses at cookies, while some are out. */
static uint64_t forged_cookies(uint64_t seed)
{
	struct flood *flood = flood_open(seed, 2);

	start_client(flood);
	world_run_until(&flood->world, flood->world.now_ns + 10 * WORLD_MS);
	flood->forged_acks = true;
	start_flood(flood);
	world_run(&flood->world, client_done, flood,
		  flood->world.now_ns + LEGITIMATE * HANDSHAKE_NS);
	WORLD_EXPECT(&flood->world, counted(flood, COUNTER_TCP_COOKIES_TAKEN) == LEGITIMATE);
	WORLD_EXPECT(&flood->world,
		     flood->server->sched->counters.drops[DROP_TCP_COOKIE] >= 9 * BACKLOG);
	WORLD_EXPECT(&flood->world, flood->answers[1] >= 9 * BACKLOG);
	uint64_t hash = flood->world.hash;
	flood_end(flood);
	return hash;
}

static void test_forged_cookies(void **state)
{
	(void)state;
	world_seeds(test_seed(2), 20, 8, forged_cookies);
}

/* row 23: without cookies the memory is bounded all the same, and service comes back when the flood
 * ends. */
static void test_without_cookies(void **state)
{
	struct flood *flood = flood_open(test_seed(3), 0);

	(void)state;
	start_flood(flood);
	world_run_until(&flood->world, flood->world.now_ns + 2 * WORLD_S);
	WORLD_EXPECT(&flood->world, inet_net(flood->server)->tcp->num_conns == BACKLOG);
	WORLD_EXPECT(&flood->world, counted(flood, COUNTER_TCP_COOKIES_SENT) == 0);
	flood->on = false;
	world_run_until(&flood->world, flood->world.now_ns + 300 * WORLD_S);
	WORLD_EXPECT(&flood->world, inet_net(flood->server)->tcp->num_conns == 0);
	start_client(flood);
	world_run(&flood->world, client_done, flood,
		  flood->world.now_ns + LEGITIMATE * HANDSHAKE_NS);
	flood_end(flood);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syn_flood),
		cmocka_unit_test(test_forged_cookies),
		cmocka_unit_test(test_without_cookies),
	};

	return test_run("flood", tests);
}
