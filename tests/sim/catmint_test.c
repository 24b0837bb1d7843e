/* tests/sim/catmint_test.c: whole instances of catmint in a simulated world that sleep on their
 * descriptors, as they do outside of it, or spin: nobody sleeps through what comes.
 *
 * Clients push elements of known bytes, a server echoes them: each comes back, whole, in order. */
#include "sim/fabric_host.h"
#include "support/seed.h"
#include "support/test.h"

#include "transport/rdma/rdma.h"

#include <arpa/inet.h>
#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <string.h>

#define CLIENTS  3U
#define ELEMENTS 24U

static struct run {
	struct world world;
	struct fabric_world at;
	struct host *hosts[1 + CLIENTS];
	struct fabric_device *devices[1 + CLIENTS];
	uint32_t lengths[CLIENTS][ELEMENTS];
	uint32_t depth[CLIENTS];
	uint32_t done;   /* clients, */
	uint32_t served; /* and connections whose end was seen */
} run;

#define EXPECT(condition) WORLD_EXPECT(&run.world, condition)

static struct sockaddr_in server_name(void)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(0x0a000001)};
}

static void fill(uint8_t *bytes, uint32_t length, uint32_t number)
{
	for (uint32_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(number * 31 + i * 7);
}

static int wait_for(demi_qtoken_t qt, demi_qresult_t *result)
{
	EXPECT(demi_wait(result, qt, NULL) == 0);
	return (int)result->qr_ret;
}

/* ---- the server ---- */

static void serve(void *arg)
{
	int qd = (int)(intptr_t)arg;
	demi_qresult_t result;
	demi_qtoken_t qt;

	for (;;) {
		EXPECT(demi_pop(&qt, qd) == 0);
		EXPECT(wait_for(qt, &result) == 0);
		demi_sgarray_t sga = result.qr_value.sga;
		if (sga.sga_numsegs == 0 || sga.sga_segs[0].sgaseg_buf == NULL)
			break;
		EXPECT(demi_push(&qt, qd, &sga) == 0);
		EXPECT(demi_sgafree(&sga) == 0);
		EXPECT(wait_for(qt, &result) == 0);
	}
	EXPECT(demi_close(qd) == 0);
	run.served++;
}

static void accept_all(void *arg)
{
	struct sockaddr_in name = server_name();
	demi_qresult_t result;
	demi_qtoken_t qt;
	int qd;

	(void)arg;
	EXPECT(demi_socket(&qd, AF_INET, SOCK_STREAM, 0) == 0);
	EXPECT(demi_bind(qd, (struct sockaddr *)&name, sizeof(name)) == 0);
	EXPECT(demi_listen(qd, 8) == 0);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		EXPECT(demi_accept(&qt, qd) == 0);
		EXPECT(wait_for(qt, &result) == 0);
		EXPECT(demi_go(serve, (void *)(intptr_t)result.qr_value.ares.qd) == 0);
	}
	EXPECT(demi_close(qd) == 0);
}

/* ---- clients ---- */

static void send_one(uint32_t client, int qd, uint32_t number, demi_qtoken_t *push)
{
	uint32_t length = run.lengths[client][number];
	demi_sgarray_t sga = demi_sgaalloc(length);

	EXPECT(sga.sga_numsegs > 0);
	fill(sga.sga_segs[0].sgaseg_buf, length, number);
	EXPECT(sga.sga_segs[0].sgaseg_len >= length);
	sga.sga_segs[0].sgaseg_len = length;
	EXPECT(demi_push(push, qd, &sga) == 0);
	EXPECT(demi_sgafree(&sga) == 0);
}

static void expect_one(uint32_t client, int qd, uint32_t number)
{
	static uint8_t bytes[65536];
	demi_qresult_t result;
	demi_qtoken_t qt;
	uint32_t at = 0;

	EXPECT(demi_pop(&qt, qd) == 0);
	EXPECT(wait_for(qt, &result) == 0);
	demi_sgarray_t *sga = &result.qr_value.sga;
	fill(bytes, run.lengths[client][number], number);
	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		uint32_t length = sga->sga_segs[i].sgaseg_len;
		EXPECT(at + length <= run.lengths[client][number]);
		EXPECT(memcmp(sga->sga_segs[i].sgaseg_buf, bytes + at, length) == 0);
		at += length;
	}
	EXPECT(at == run.lengths[client][number]);
	EXPECT(demi_sgafree(sga) == 0);
}

static void ask(void *arg)
{
	uint32_t client = (uint32_t)(uintptr_t)arg;
	struct sockaddr_in name = server_name();
	demi_qtoken_t pushes[ELEMENTS];
	demi_qresult_t result;
	demi_qtoken_t qt;
	int qd;

	EXPECT(demi_socket(&qd, AF_INET, SOCK_STREAM, 0) == 0);
	EXPECT(demi_connect(&qt, qd, (struct sockaddr *)&name, sizeof(name)) == 0);
	EXPECT(wait_for(qt, &result) == 0);
	for (uint32_t i = 0; i < ELEMENTS; i += run.depth[client]) {
		for (uint32_t j = i; j < i + run.depth[client]; j++)
			send_one(client, qd, j, &pushes[j]);
		for (uint32_t j = i; j < i + run.depth[client]; j++)
			expect_one(client, qd, j);
		for (uint32_t j = i; j < i + run.depth[client]; j++)
			EXPECT(wait_for(pushes[j], &result) == 0);
	}
	EXPECT(demi_close(qd) == 0);
	run.done++;
}

/* ---- a run ---- */

static bool is_done(void *arg)
{
	(void)arg;
	return run.done == CLIENTS && run.served == CLIENTS;
}

static void draw(void)
{
	static const uint32_t tops[] = {64, 300, 3000, 60000};
	static const uint32_t depths[] = {1, 2, 3, 8, 12, 24};

	for (uint32_t i = 0; i < CLIENTS; i++) {
		run.depth[i] = depths[world_below(&run.world, 6)];
		for (uint32_t j = 0; j < ELEMENTS; j++)
			run.lengths[i][j] = (uint32_t)world_between(
				&run.world, 1, tops[world_below(&run.world, 4)]);
	}
}

static uint64_t one_run(uint64_t seed)
{
	struct config config;

	memset(&run, 0, sizeof(run));
	world_open(&run.world, seed);
	fabric_world_open(&run.at, &run.world);
	draw();
	for (uint32_t i = 0; i <= CLIENTS; i++) {
		char ipv4[16];
		world_config(&config);
		config.linger_ms = 1000;
		(void)snprintf(ipv4, sizeof(ipv4), "10.0.0.%u", i + 1);
		run.hosts[i] = fabric_add_host(&run.at, &config, &rdma_engine_ops, ipv4, NULL,
					       &run.devices[i]);
	}
	fabric_swarm(&run.at);
	for (uint32_t i = 0; i <= CLIENTS; i++) {
		world_enter(run.hosts[i]);
		EXPECT(demi_go(i == 0 ? accept_all : ask, (void *)(uintptr_t)(i - 1)) == 0);
		world_wake(run.hosts[i]);
		world_run_until(&run.world, run.world.now_ns + WORLD_MS);
	}
	world_run(&run.world, is_done, NULL, run.world.now_ns + 60 * WORLD_S);
	world_run_until(&run.world, run.world.now_ns + 3 * WORLD_S); /* what lingers ends */
	for (uint32_t i = 0; i <= CLIENTS; i++)
		EXPECT(fabric_counts(run.devices[i])->rnr == 0);
	uint64_t hash = run.world.hash;
	world_close(&run.world);
	fabric_world_close(&run.at);
	return hash;
}

static void test_echo(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 300, 20, one_run);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),
	};

	return test_run("sim_catmint", tests);
}
