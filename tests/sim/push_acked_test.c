/* SPDX-License-Identifier: MIT
 * tests/sim/push_acked_test.c - DEMI_PUSH_ACKED: a push completes when the peer has acknowledged
 * it, and not before; who has the option and who does not.
 */
#include "sim/world.h"

#include "support/seed.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/socket.h>
#include <demi/wait.h>
#include <stdio.h>
#include <string.h>

#define PORT     7000
#define DELAY_NS WORLD_MS

static uint64_t base; /* of the seeds of all tests */

static const struct sim_options device = {.mtu = 1500, .rx_slots = 256, .max_segments = 2};

/* Two hosts a millisecond apart, and a connection between them. */
struct rig {
	struct world world;
	struct host *client;
	struct host *server;
	int client_qd;
	int server_qd;
	int listener;
};

static struct host *add_host(struct world *world, const char *addresses)
{
	struct config config;

	world_config(&config);
	config.libos = 1; /* catpowder */
	(void)snprintf(config.addresses, sizeof(config.addresses), "%s", addresses);
	return world_add_instance(world, &config, &device);
}

/* -- waiting for one operation of a host, in virtual time */

struct awaited {
	struct host *host;
	demi_qtoken_t token;
	demi_qresult_t *result;
};

static bool is_done(void *arg)
{
	const struct awaited *awaited = arg;
	const struct timespec at_once = {0};

	world_enter(awaited->host);
	int err = demi_wait(awaited->result, awaited->token, &at_once);
	assert_true(err == 0 || err == ETIMEDOUT);
	return err == 0;
}

static void await(struct rig *rig, struct host *host, demi_qtoken_t token, demi_qresult_t *result)
{
	struct awaited awaited = {host, token, result};

	world_run(&rig->world, is_done, &awaited, rig->world.now_ns + 60 * WORLD_S);
}

static int get_option(int qd)
{
	int value = -1;
	socklen_t length = sizeof(value);

	assert_int_equal(demi_getsockopt(qd, SOL_DEMI, DEMI_PUSH_ACKED, &value, &length), 0);
	assert_int_equal(length, sizeof(value));
	return value;
}

static void set_option(int qd, int value)
{
	assert_int_equal(demi_setsockopt(qd, SOL_DEMI, DEMI_PUSH_ACKED, &value, sizeof(value)), 0);
}

/* -- the rig */

static void open_listener(struct rig *rig, const struct sockaddr_in *address)
{
	world_enter(rig->server);
	assert_int_equal(demi_socket(&rig->listener, AF_INET, SOCK_STREAM, 0), 0);
	assert_int_equal(
		demi_bind(rig->listener, (const struct sockaddr *)address, sizeof(*address)), 0);
	assert_int_equal(demi_listen(rig->listener, 4), 0);
}

static void open_rig(struct rig *rig, uint64_t seed, int listener_option)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	demi_qtoken_t accepting;
	demi_qtoken_t connecting;
	demi_qresult_t result;

	address.sin_addr.s_addr = htonl(0x0a000002);
	world_open(&rig->world, base + seed);
	rig->client = add_host(&rig->world, "10.0.0.1/24");
	rig->server = add_host(&rig->world, "10.0.0.2/24");
	rig->world.paths[0][1].delay_ns = DELAY_NS;
	rig->world.paths[1][0].delay_ns = DELAY_NS;
	open_listener(rig, &address);
	set_option(rig->listener, listener_option);
	assert_int_equal(demi_accept(&accepting, rig->listener), 0);
	world_enter(rig->client);
	assert_int_equal(demi_socket(&rig->client_qd, AF_INET, SOCK_STREAM, 0), 0);
	assert_int_equal(demi_connect(&connecting, rig->client_qd,
				      (const struct sockaddr *)&address, sizeof(address)),
			 0);
	await(rig, rig->client, connecting, &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_CONNECT);
	await(rig, rig->server, accepting, &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_ACCEPT);
	rig->server_qd = result.qr_value.ares.qd;
}

static void close_rig(struct rig *rig, demi_sgarray_t *sga)
{
	if (sga)
		assert_int_equal(demi_sgafree(sga), 0);
	world_close(&rig->world);
}

/* Starts to push count bytes of the client's heap. */
static demi_qtoken_t push(struct rig *rig, demi_sgarray_t *sga)
{
	demi_qtoken_t token;

	world_enter(rig->client);
	assert_int_equal(demi_push(&token, rig->client_qd, sga), 0);
	assert_int_equal(demi_flush(), 0);
	world_wake(rig->client);
	return token;
}

static demi_sgarray_t pattern(struct rig *rig, size_t bytes)
{
	world_enter(rig->client);
	demi_sgarray_t sga = demi_sgaalloc(bytes);
	assert_int_equal(sga.sga_numsegs, 1);
	memset(sga.sga_segs[0].sgaseg_buf, 'a', bytes);
	return sga;
}

/* The server pops until it has so many bytes, each of them an a. */
static void pop_all(struct rig *rig, size_t bytes)
{
	while (bytes > 0) {
		demi_qtoken_t token;
		demi_qresult_t result;

		world_enter(rig->server);
		assert_int_equal(demi_pop(&token, rig->server_qd), 0);
		await(rig, rig->server, token, &result);
		assert_int_equal(result.qr_opcode, DEMI_OPC_POP);
		for (uint32_t i = 0; i < result.qr_value.sga.sga_numsegs; i++) {
			const demi_sgaseg_t *segment = &result.qr_value.sga.sga_segs[i];
			const char *at = segment->sgaseg_buf;
			assert_in_range(segment->sgaseg_len, 1, bytes);
			for (uint32_t j = 0; j < segment->sgaseg_len; j++)
				assert_int_equal(at[j], 'a');
			bytes -= segment->sgaseg_len;
		}
		assert_int_equal(demi_sgafree(&result.qr_value.sga), 0);
	}
}

/* -- tests */

static void test_off(void **state)
{
	struct rig rig;
	demi_qresult_t result;

	(void)state;
	open_rig(&rig, 1, 0);
	world_enter(rig.client);
	assert_int_equal(get_option(rig.client_qd), 0);
	demi_sgarray_t sga = pattern(&rig, 100);
	uint64_t before_ns = rig.world.now_ns;
	await(&rig, rig.client, push(&rig, &sga), &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_PUSH);
	assert_in_range(rig.world.now_ns - before_ns, 0, DELAY_NS - 1);
	pop_all(&rig, 100);
	close_rig(&rig, &sga);
}

/* A push of bytes completes no earlier than a round trip, and then its memory may be changed. */
static void check_on(uint64_t seed, size_t bytes)
{
	struct rig rig;
	demi_qresult_t result;

	open_rig(&rig, seed, 0);
	demi_sgarray_t sga = pattern(&rig, bytes);
	set_option(rig.client_qd, 1);
	assert_int_equal(get_option(rig.client_qd), 1);
	uint64_t before_ns = rig.world.now_ns;
	demi_qtoken_t token = push(&rig, &sga);
	world_run_until(&rig.world, before_ns + 2 * DELAY_NS - 1);
	struct awaited awaited = {rig.client, token, &result};
	assert_false(is_done(&awaited));
	await(&rig, rig.client, token, &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(demi_sgabusy(&sga), 0);
	memset(sga.sga_segs[0].sgaseg_buf, 'b', bytes);
	pop_all(&rig, bytes);
	close_rig(&rig, &sga);
}

static void test_on(void **state)
{
	(void)state;
	check_on(2, 1);
	check_on(3, 1448);
	check_on(4, 60000);
}

/* While nothing gets through, nothing completes; then all do, in order. */
static void test_partition(void **state)
{
	struct rig rig;
	demi_qresult_t results[3];
	demi_qtoken_t tokens[3];

	(void)state;
	open_rig(&rig, 5, 0);
	demi_sgarray_t sga = pattern(&rig, 3000);
	set_option(rig.client_qd, 1);
	rig.world.paths[0][1].down = true;
	for (int i = 0; i < 3; i++)
		tokens[i] = push(&rig, &sga);
	world_run_until(&rig.world, rig.world.now_ns + 2 * WORLD_S);
	for (int i = 0; i < 3; i++) {
		struct awaited awaited = {rig.client, tokens[i], &results[i]};
		assert_false(is_done(&awaited));
	}
	rig.world.paths[0][1].down = false;
	for (int i = 0; i < 3; i++) {
		await(&rig, rig.client, tokens[i], &results[i]);
		assert_int_equal(results[i].qr_opcode, DEMI_OPC_PUSH);
	}
	pop_all(&rig, 9000);
	close_rig(&rig, &sga);
}

/* The peer goes: what it did not acknowledge has failed. */
static void test_reset(void **state)
{
	struct rig rig;
	demi_qresult_t result;

	(void)state;
	open_rig(&rig, 6, 0);
	demi_sgarray_t sga = pattern(&rig, 100);
	set_option(rig.client_qd, 1);
	rig.world.paths[0][1].down = true;
	demi_qtoken_t token = push(&rig, &sga);
	world_end_host(rig.server);
	await(&rig, rig.client, token, &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_FAILED);
	assert_int_equal(result.qr_ret, ECONNRESET);
	close_rig(&rig, &sga);
}

/* A checked build tells of memory that was changed between its push and its acknowledgement, once
 * for each change. */
static void check_changed(bool change)
{
	struct rig rig;
	demi_qresult_t result;

	open_rig(&rig, 9, 0);
	const uint64_t *drops = rig.client->sched->counters.drops;
	demi_sgarray_t sga = pattern(&rig, 100);
	rig.world.paths[0][1].down = true;
	await(&rig, rig.client, push(&rig, &sga), &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_PUSH);
	world_run_until(&rig.world, rig.world.now_ns + WORLD_MS);
	if (change)
		memset(sga.sga_segs[0].sgaseg_buf, 'b', 1);
	world_run_until(&rig.world, rig.world.now_ns + 5 * WORLD_S);
	assert_true(rig.client->sched->counters.count[COUNTER_TCP_RETRANSMITTED] > 1);
	assert_int_equal(drops[DROP_TCP_MODIFIED], change);
	rig.world.paths[0][1].down = false;
	if (!change)
		pop_all(&rig, 100);
	close_rig(&rig, &sga);
}

static void test_changed(void **state)
{
	(void)state;
#ifndef DEMI_CHECKED
	skip_because("checked: this build is not");
#endif
	check_changed(false);
	check_changed(true);
}

static void test_inherited(void **state)
{
	struct rig rig;

	(void)state;
	for (int on = 0; on < 2; on++) {
		open_rig(&rig, 7, on);
		world_enter(rig.server);
		assert_int_equal(get_option(rig.server_qd), on);
		set_option(rig.server_qd, !on);
		assert_int_equal(get_option(rig.server_qd), !on);
		assert_int_equal(get_option(rig.listener), on);
		close_rig(&rig, NULL);
	}
}

static void test_who_has_none(void **state)
{
	struct rig rig;
	int value = 1;
	socklen_t length = sizeof(value);
	int udp;
	int memory;

	(void)state;
	open_rig(&rig, 8, 0);
	world_enter(rig.client);
	assert_int_equal(demi_socket(&udp, AF_INET, SOCK_DGRAM, 0), 0);
	assert_int_equal(demi_queue(&memory), 0);
	assert_int_equal(demi_setsockopt(udp, SOL_DEMI, DEMI_PUSH_ACKED, &value, length),
			 ENOPROTOOPT);
	assert_int_equal(demi_getsockopt(udp, SOL_DEMI, DEMI_PUSH_ACKED, &value, &length),
			 ENOPROTOOPT);
	assert_int_equal(demi_setsockopt(memory, SOL_DEMI, DEMI_PUSH_ACKED, &value, length),
			 ENOTSUP);
	assert_int_equal(demi_getsockopt(memory, SOL_DEMI, DEMI_PUSH_ACKED, &value, &length),
			 ENOTSUP);
	assert_int_equal(demi_setsockopt(rig.client_qd, SOL_DEMI, 999, &value, length),
			 ENOPROTOOPT);
	assert_int_equal(demi_getsockopt(rig.client_qd, SOL_DEMI, 999, &value, &length),
			 ENOPROTOOPT);
	assert_int_equal(demi_setsockopt(rig.client_qd, SOL_DEMI, DEMI_PUSH_ACKED, &value, 1),
			 EINVAL);
	assert_int_equal(get_option(rig.client_qd), 0);
	close_rig(&rig, NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off),          cmocka_unit_test(test_on),
		cmocka_unit_test(test_partition),    cmocka_unit_test(test_reset),
		cmocka_unit_test(test_changed),      cmocka_unit_test(test_inherited),
		cmocka_unit_test(test_who_has_none),
	};

	base = test_seed(0);
	return test_run("push_acked", tests);
}
