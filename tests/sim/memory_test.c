/* SPDX-License-Identifier: MIT
 * tests/sim/memory_test.c - attack row 39: every allocation fails once in turn over the whole life
 * of a connection: opened (by a cookie too), data both ways with losses and reordering, closed from
 * one side and then the other.  Nothing crashes and nothing is left; the connection goes on and
 * carries every byte, or is reset.
 */
#include "sim/inet.h"

#include "net/tcp/tcp.h"
#include "support/fault.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define PORT  80
#define BYTES 60000 /* each way */
#define PIECE 6000
#define TRIES 100
#define RUNS  20000 /* more allocations than a run can have */

struct life;

struct end {
	struct life *life;
	struct host *host;
	int qd;
	uint64_t stream;
	uint64_t received;
	bool ended;
	bool failed;
	uint32_t parts;
};

struct life {
	struct world world;
	struct end ends[2]; /* client, server */
	int listener;
	uint32_t done; /* ends */
};

static struct world *world_of(const struct end *end)
{
	return &end->life->world;
}

/* A pause before memory is tried again. */
static void rest(void)
{
	const struct timespec pause = {.tv_nsec = 10000000};

	if (demi_sleep(&pause))
		(void)demi_yield();
}

/* The result of an operation: 0 or its errno. */
static int await(const struct end *end, demi_qtoken_t qt, demi_qresult_t *qr)
{
	int err = demi_wait(qr, qt, NULL);

	WORLD_EXPECT(world_of(end), err == 0);
	return qr->qr_opcode == DEMI_OPC_FAILED ? (int)qr->qr_ret : 0;
}

/* Want of memory is survived; a connection may end by it, on both sides. */
static bool again(struct end *end, int err)
{
	if (err == ENOMEM) {
		rest();
		return true;
	}
	WORLD_EXPECT(world_of(end), err == ECONNRESET || err == ECONNABORTED || err == EPIPE ||
					    err == ENOTCONN || err == ECONNREFUSED ||
					    err == ETIMEDOUT);
	end->failed = true;
	return false;
}

static void part_ends(struct end *end)
{
	if (--end->parts > 0)
		return;
	WORLD_EXPECT(world_of(end), demi_close(end->qd) == 0);
	end->life->done++;
}

/* ---- data ---- */

static bool push_piece(struct end *end, uint64_t at)
{
	for (int tries = 0; tries < TRIES && !end->failed; tries++) {
		demi_sgarray_t sga = demi_sgaalloc(PIECE);
		demi_qtoken_t qt;
		demi_qresult_t qr;
		if (sga.sga_numsegs == 0) {
			rest();
			continue;
		}
		inet_fill(end->stream, at, sga.sga_segs[0].sgaseg_buf, PIECE);
		int err = demi_push(&qt, end->qd, &sga);
		WORLD_EXPECT(world_of(end), demi_sgafree(&sga) == 0);
		err = err ? err : await(end, qt, &qr);
		if (!err)
			return true;
		if (!again(end, err))
			return false;
	}
	WORLD_EXPECT(world_of(end), end->failed);
	return false;
}

static void send_all(void *arg)
{
	struct end *end = arg;

	for (uint64_t at = 0; at < BYTES && push_piece(end, at); at += PIECE) {
	}
	if (!end->failed)
		(void)demi_shutdown(end->qd, SHUT_WR);
	part_ends(end);
}

static void take(struct end *end, const demi_qresult_t *qr)
{
	const struct end *peer = &end->life->ends[end == &end->life->ends[0]];
	demi_sgarray_t sga;

	memcpy(&sga, &qr->qr_value.sga, sizeof(sga));
	end->ended = true;
	for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
		uint32_t length = sga.sga_segs[i].sgaseg_len;
		WORLD_EXPECT(world_of(end), end->received + length <= BYTES);
		WORLD_EXPECT(world_of(end), inet_matches(peer->stream, end->received,
							 sga.sga_segs[i].sgaseg_buf, length));
		end->received += length;
		end->ended = end->ended && length == 0;
	}
	WORLD_EXPECT(world_of(end), demi_sgafree(&sga) == 0);
}

static void receive_all(void *arg)
{
	struct end *end = arg;

	while (!end->ended) {
		demi_qtoken_t qt;
		demi_qresult_t qr;
		int err = demi_pop(&qt, end->qd);
		err = err ? err : await(end, qt, &qr);
		if (!err)
			take(end, &qr);
		else if (!again(end, err))
			break;
	}
	part_ends(end);
}

static void start(struct end *end)
{
	end->parts = 2;
	while (demi_go(send_all, end))
		rest();
	receive_all(end);
}

/* ---- opening ---- */

static int try_connecting(struct end *end)
{
	const struct inet_name to = inet_name(end->life->ends[1].host->index, AF_INET, PORT);
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int err = demi_socket(&end->qd, AF_INET, SOCK_STREAM, 0);

	if (err)
		return err;
	err = demi_connect(&qt, end->qd, &to.any, to.length);
	err = err ? err : await(end, qt, &qr);
	if (err)
		WORLD_EXPECT(world_of(end), demi_close(end->qd) == 0);
	return err;
}

static void connect_client(void *arg)
{
	struct end *end = arg;
	int err;

	for (int tries = 0; (err = try_connecting(end)) && tries < TRIES; tries++)
		rest();
	WORLD_EXPECT(world_of(end), err == 0);
	start(end);
}

static void accept_server(void *arg)
{
	struct end *end = arg;
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int err;

	for (int tries = 0; tries < TRIES; tries++) {
		err = demi_accept(&qt, end->life->listener);
		err = err ? err : await(end, qt, &qr);
		if (!err)
			break;
		/* The client's connection ended before; the listener is gone. */
		if (err == ECANCELED || err == EBADF)
			return;
		WORLD_EXPECT(world_of(end), err == ENOMEM);
		rest();
	}
	WORLD_EXPECT(world_of(end), err == 0);
	end->qd = qr.qr_value.ares.qd;
	start(end);
}

/* ---- a life ---- */

static struct life life;

static void add_host(uint32_t index, int64_t cookies)
{
	static const struct sim_options device = {.mtu = 1500, .rx_slots = 256, .max_segments = 2};
	struct config config;

	inet_config(&config, index);
	config.tcp_syn_cookies = cookies;
	config.tcp_receive_buffer_bytes = 20000;
	config.tcp_time_wait_ms = 100;
	config.zero_copy_bytes = 2000;
	life.ends[index] = (struct end){
		.life = &life,
		.host = world_add_instance(&life.world, &config, &device),
		.qd = -1,
		.stream = index + 1,
	};
}

static uint32_t running; /* the allocation that fails */

static void describe(const struct world *world)
{
	(void)world;
	printf("# allocation %u failed\n", running);
}

static void open_life(int64_t cookies)
{
	const struct inet_name any = inet_any(AF_INET, PORT);

	memset(&life, 0, sizeof(life));
	world_open(&life.world, 1);
	life.world.describe = describe;
	add_host(0, cookies);
	add_host(1, cookies);
	for (uint32_t i = 0; i < 2; i++) {
		struct world_path *path = &life.world.paths[i][1 - i];
		path->delay_ns = WORLD_MS;
		path->loss = 30000;
		path->reorder = 50000;
		path->reorder_ns = 2 * WORLD_MS;
	}
	world_enter(life.ends[1].host);
	assert_int_equal(demi_socket(&life.listener, AF_INET, SOCK_STREAM, 0), 0);
	assert_int_equal(demi_bind(life.listener, &any.any, any.length), 0);
	assert_int_equal(demi_listen(life.listener, 4), 0);
	assert_int_equal(demi_go(accept_server, &life.ends[1]), 0);
	world_wake(life.ends[1].host);
	world_enter(life.ends[0].host);
	assert_int_equal(demi_go(connect_client, &life.ends[0]), 0);
	world_wake(life.ends[0].host);
}

static bool both_done(void *arg)
{
	const struct life *all = arg;

	return all->done == 2 || (all->done == 1 && all->ends[0].failed && all->ends[1].qd < 0);
}

/* Whether all went well. */
static bool close_life(void)
{
	bool complete = true;

	world_enter(life.ends[1].host);
	assert_int_equal(demi_close(life.listener), 0);
	world_wake(life.ends[1].host);
	world_run_until(&life.world, life.world.now_ns + 300 * WORLD_S);
	for (uint32_t i = 0; i < 2; i++) {
		inet_expect_empty(life.ends[i].host);
		complete = complete && life.ends[i].received == BYTES;
		WORLD_EXPECT(&life.world, life.ends[0].failed || life.ends[i].failed ||
						  life.ends[i].received == BYTES);
	}
	world_close(&life.world);
	fault_heap_forget();
	return complete;
}

static void sweep(int64_t cookies)
{
	uint32_t complete = 0;
	uint32_t n;

	for (n = 1; n < RUNS; n++) {
		open_life(cookies);
		fault_fail(n);
		running = n;
		world_run(&life.world, both_done, &life, life.world.now_ns + 1000 * WORLD_S);
		bool failed = fault_off();
		complete += close_life();
		if (!failed)
			break;
	}
	printf("# %u allocations failed in turn, %u connections of %u went on to their end\n",
	       n - 1, complete, n);
	assert_in_range(n, 200, RUNS - 1);
	assert_true(complete > n / 2);
}

static void test_each(void **state)
{
	(void)state;
	sweep(1);
}

static void test_each_with_cookies(void **state)
{
	(void)state;
	sweep(2);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each),
		cmocka_unit_test(test_each_with_cookies),
	};

	return test_run("memory", tests);
}
