/* SPDX-License-Identifier: MIT
 * tests/sim/operator_test.c - operators over our own TCP in a simulated world: a client, a proxy of
 * two demi_qconnect calls and an echo of one, messages framed over it, under random configurations
 * and faults.
 *
 * Each message comes back once, in order, unchanged, and the end of the stream behind the last.  At
 * the end nothing is left on any host.
 */
#include "sim/inet.h"

#include "support/seed.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <string.h>

enum { CLIENT, PROXY, SERVER, HOSTS };

#define PORT         7
#define MESSAGES_MAX 60
#define BYTES_MAX    100000
#define SEEDS        600
#define SECONDS      20
#define LIMIT_NS     (1000 * WORLD_S)
#define FAULTS_NS    (5 * WORLD_S)

struct run {
	struct world world;
	int domain;
	struct demi_framing framing;
	uint32_t messages;
	uint32_t lengths[MESSAGES_MAX];
	uint32_t operators; /* between the proxy's sockets */
	bool done[HOSTS];
};

/* ---- calls that have to work ---- */

static demi_qresult_t wait_for(struct run *run, demi_qtoken_t qt, demi_opcode_t opcode)
{
	demi_qresult_t qr;

	WORLD_EXPECT(&run->world, demi_wait(&qr, qt, NULL) == 0);
	WORLD_EXPECT(&run->world, qr.qr_opcode == opcode);
	return qr;
}

static void close_qd(struct run *run, int qd)
{
	WORLD_EXPECT(&run->world, demi_close(qd) == 0);
}

static int listen_at(struct run *run, uint32_t host)
{
	const struct inet_name name = inet_name(host, run->domain, PORT);
	int qd;

	WORLD_EXPECT(&run->world, demi_socket(&qd, run->domain, SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(&run->world, demi_bind(qd, &name.any, name.length) == 0);
	WORLD_EXPECT(&run->world, demi_listen(qd, 4) == 0);
	return qd;
}

static int accept_one(struct run *run, int listener)
{
	demi_qtoken_t qt;

	WORLD_EXPECT(&run->world, demi_accept(&qt, listener) == 0);
	int qd = wait_for(run, qt, DEMI_OPC_ACCEPT).qr_value.ares.qd;
	close_qd(run, listener);
	return qd;
}

static int connect_to(struct run *run, uint32_t host)
{
	const struct inet_name name = inet_name(host, run->domain, PORT);
	demi_qtoken_t qt;
	int qd;

	WORLD_EXPECT(&run->world, demi_socket(&qd, run->domain, SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(&run->world, demi_connect(&qt, qd, &name.any, name.length) == 0);
	(void)wait_for(run, qt, DEMI_OPC_CONNECT);
	return qd;
}

static demi_qtoken_t connect_queues(struct run *run, int in, int out)
{
	demi_qtoken_t ended;

	WORLD_EXPECT(&run->world, demi_qconnect(in, out) == 0);
	WORLD_EXPECT(&run->world, demi_qended(&ended, in) == 0);
	return ended;
}

/* ---- the server: an echo ---- */

static void serve(void *arg)
{
	struct run *run = arg;
	int qd = accept_one(run, listen_at(run, SERVER));

	(void)wait_for(run, connect_queues(run, qd, qd), DEMI_OPC_CLOSE);
	close_qd(run, qd);
	run->done[SERVER] = true;
}

/* ---- the proxy ---- */

static int keep(void *arg, demi_sgarray_t *sga)
{
	(void)arg;
	(void)sga;
	return 0;
}

static int hold(void *arg, const demi_sgarray_t *sga)
{
	(void)arg;
	return sga->sga_numsegs > 0;
}

/* Something that changes nothing, over a queue. */
static int wrap(struct run *run, int qd, uint32_t i)
{
	int derived = -1;
	int err = i % 3 == 0   ? demi_map(&derived, qd, keep, NULL)
		  : i % 3 == 1 ? demi_filter(&derived, qd, hold, NULL)
			       : demi_frame(&derived, qd, &run->framing);

	WORLD_EXPECT(&run->world, err == 0);
	return derived;
}

static void relay(void *arg)
{
	struct run *run = arg;
	int chains[2][4] = {{accept_one(run, listen_at(run, PROXY))}, {connect_to(run, SERVER)}};
	demi_qtoken_t ended[2];

	for (uint32_t i = 0; i < run->operators; i++) {
		for (uint32_t side = 0; side < 2; side++)
			chains[side][i + 1] = wrap(run, chains[side][i], i);
	}
	for (uint32_t side = 0; side < 2; side++)
		ended[side] = connect_queues(run, chains[side][run->operators],
					     chains[1 - side][run->operators]);
	for (uint32_t side = 0; side < 2; side++)
		(void)wait_for(run, ended[side], DEMI_OPC_CLOSE);
	for (uint32_t i = run->operators + 1; i > 0; i--) {
		for (uint32_t side = 0; side < 2; side++)
			close_qd(run, chains[side][i - 1]);
	}
	run->done[PROXY] = true;
}

/* ---- the client ---- */

struct client {
	struct run *run;
	int stream;
	int messages;
};

static void send_all(void *arg)
{
	struct client *client = arg;
	struct run *run = client->run;

	for (uint32_t i = 0; i < run->messages; i++) {
		demi_sgarray_t sga = demi_sgaalloc(run->lengths[i]);
		demi_qtoken_t qt;
		WORLD_EXPECT(&run->world, sga.sga_numsegs == 1);
		inet_fill(i, 0, sga.sga_segs[0].sgaseg_buf, run->lengths[i]);
		WORLD_EXPECT(&run->world, demi_push(&qt, client->messages, &sga) == 0);
		WORLD_EXPECT(&run->world, demi_sgafree(&sga) == 0);
		(void)wait_for(run, qt, DEMI_OPC_PUSH);
	}
	WORLD_EXPECT(&run->world, demi_shutdown(client->stream, SHUT_WR) == 0);
}

static void check(struct run *run, uint32_t i, const demi_sgarray_t *sga)
{
	uint64_t at = 0;

	for (uint32_t s = 0; s < sga->sga_numsegs; s++) {
		const demi_sgaseg_t segment = sga->sga_segs[s];
		WORLD_EXPECT(&run->world,
			     inet_matches(i, at, segment.sgaseg_buf, segment.sgaseg_len));
		at += segment.sgaseg_len;
	}
	WORLD_EXPECT(&run->world, at == run->lengths[i]);
}

static void ask(void *arg)
{
	struct run *run = arg;
	struct client client = {.run = run, .stream = connect_to(run, PROXY)};

	WORLD_EXPECT(&run->world, demi_frame(&client.messages, client.stream, &run->framing) == 0);
	WORLD_EXPECT(&run->world, demi_go(send_all, &client) == 0);
	for (uint32_t i = 0; i <= run->messages; i++) {
		demi_qtoken_t qt;
		WORLD_EXPECT(&run->world, demi_pop(&qt, client.messages) == 0);
		demi_sgarray_t sga = wait_for(run, qt, DEMI_OPC_POP).qr_value.sga;
		if (i < run->messages)
			check(run, i, &sga);
		else /* the end */
			WORLD_EXPECT(&run->world, sga.sga_segs[0].sgaseg_len == 0);
		(void)demi_sgafree(&sga);
	}
	close_qd(run, client.messages);
	close_qd(run, client.stream);
	run->done[CLIENT] = true;
}

/* ---- the run ---- */

static void draw(struct run *run)
{
	struct world *world = &run->world;

	run->domain = world_below(world, 2) ? AF_INET : AF_INET6;
	run->operators = (uint32_t)world_below(world, 4);
	run->messages = (uint32_t)world_between(world, 1, MESSAGES_MAX);
	for (uint32_t i = 0; i < run->messages; i++)
		run->lengths[i] = (uint32_t)world_between(
			world, 1, world_below(world, 10) ? 2000 : BYTES_MAX);
	run->framing = (struct demi_framing){
		.kind = DEMI_FRAME_LENGTH,
		.max_bytes = BYTES_MAX,
		.length_bytes = (uint32_t)world_between(world, 3, 8),
		.little_endian = (int)world_below(world, 2),
	};
}

static void add_hosts(struct run *run)
{
	struct world *world = &run->world;

	for (uint32_t i = 0; i < HOSTS; i++) {
		struct config config;
		struct sim_options options;
		inet_config(&config, i);
		inet_draw_config(world, &config);
		inet_draw_device(world, 1500, &options);
		(void)world_add_instance(world, &config, &options);
	}
}

static void start(struct run *run, uint32_t host, void (*fn)(void *arg))
{
	world_enter(run->world.hosts[host]);
	WORLD_EXPECT(&run->world, demi_go(fn, run) == 0);
	world_wake(run->world.hosts[host]);
}

static bool all_done(void *arg)
{
	const struct run *run = arg;

	return run->done[CLIENT] && run->done[PROXY] && run->done[SERVER];
}

static bool all_empty(void *arg)
{
	const struct run *run = arg;

	for (uint32_t i = 0; i < HOSTS; i++) {
		if (!inet_is_empty(run->world.hosts[i]))
			return false;
	}
	return true;
}

static void calm(struct world *world, void *arg)
{
	(void)arg;
	world_calm(world);
}

static uint64_t run_seed(uint64_t seed)
{
	static struct run run;
	struct world *world = &run.world;

	memset(&run, 0, sizeof(run));
	world_open(world, seed);
	world->check = inet_check;
	draw(&run);
	add_hosts(&run);
	start(&run, SERVER, serve);
	start(&run, PROXY, relay);
	start(&run, CLIENT, ask);
	world_swarm(world);
	world_at(world, world->now_ns + FAULTS_NS, calm, NULL);
	world_run(world, all_done, &run, LIMIT_NS);
	world_run(world, all_empty, &run, LIMIT_NS);
	uint64_t hash = world->hash;
	world_close(world);
	return hash;
}

static void test_proxy(void **state)
{
	(void)state;
	world_seeds(test_seed(1), SEEDS, SECONDS, run_seed);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proxy),
	};

	return test_run("sim_operator", tests);
}
