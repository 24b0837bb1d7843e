/* SPDX-License-Identifier: MIT
 * tests/net/loop_random_test.c - libOS catloop: random calls on many sockets of one instance, which
 * talk to each other, and connections by the hundred; the invariants are checked after each step,
 * and in the end nothing is left.
 */
#include "support/net.h"

#include "api/instance.h"
#include "base/prng.h"
#include "support/seed.h"
#include "transport/shm/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/demi-loop-XXXXXX";
static const struct timespec no_time;

#define SOCKETS 24
#define TOKENS  128
#define PORTS   2 /* few, so that they meet */

static struct prng prng;

/* What the run has open, and how often things went well. */
static struct world {
	int qds[SOCKETS]; /* -1: none */
	demi_qtoken_t tokens[TOKENS];
	uint32_t num_tokens;
	uint32_t accepted;
	uint32_t connected;
	uint32_t popped;
} world;

static uint32_t choose(uint32_t count)
{
	return (uint32_t)prng_below(&prng, count);
}

static void add_socket(int qd)
{
	uint32_t i = choose(SOCKETS);

	if (world.qds[i] >= 0)
		assert_int_equal(demi_close(world.qds[i]), 0);
	world.qds[i] = qd;
}

static void add_token(int err, demi_qtoken_t qt)
{
	if (err)
		return;
	assert_true(world.num_tokens < TOKENS);
	world.tokens[world.num_tokens++] = qt;
}

static struct net_address some_address(int domain)
{
	struct net_address address = net_loopback(domain, (uint16_t)(5000 + choose(PORTS)));

	if (domain == AF_INET && choose(4) == 0)
		address.in.sin_addr.s_addr = htonl(choose(2) ? INADDR_ANY : 0x7f000002);
	return address;
}

static int domain_of(int qd)
{
	struct net_address local = net_local(qd);

	return local.any.sa_family;
}

/* ---- one call each ---- */

static void step_socket(int qd)
{
	(void)qd;
	add_socket(
		net_socket(choose(4) ? AF_INET : AF_INET6, choose(3) ? SOCK_STREAM : SOCK_DGRAM));
}

static void step_bind(int qd)
{
	struct net_address address = some_address(domain_of(qd));

	if (demi_bind(qd, &address.any, address.length) == 0 && choose(4))
		(void)demi_listen(qd, 1 + (int)choose(3));
}

static void step_listen(int qd)
{
	(void)demi_listen(qd, 1 + (int)choose(3));
}

static void step_accept(int qd)
{
	demi_qtoken_t qt = 0;
	int err = demi_accept(&qt, qd);

	add_token(err, qt);
}

static void step_connect(int qd)
{
	struct net_address address = some_address(domain_of(qd));
	demi_qtoken_t qt = 0;
	int err = demi_connect(&qt, qd, &address.any, address.length);

	add_token(err, qt);
}

static void step_push(int qd)
{
	demi_sgarray_t sga = demi_sgaalloc(1 + choose(choose(8) ? 600 : 200000));
	struct net_address address = some_address(domain_of(qd));
	demi_qtoken_t qt = 0;
	int err = choose(2) ? demi_push(&qt, qd, &sga)
			    : demi_pushto(&qt, qd, &sga, &address.any, address.length);

	add_token(err, qt);
	assert_int_equal(demi_sgafree(&sga), 0);
}

static void step_pop(int qd)
{
	demi_qtoken_t qt = 0;
	int err = demi_pop(&qt, qd);

	add_token(err, qt);
}

static void step_shutdown(int qd)
{
	(void)demi_shutdown(qd, (int)choose(3));
}

static void step_linger(int qd)
{
	const struct linger linger = {.l_onoff = (int)choose(2)};

	(void)demi_setsockopt(qd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void step_close(int qd)
{
	for (uint32_t i = 0; i < SOCKETS; i++) {
		if (world.qds[i] == qd)
			world.qds[i] = -1;
	}
	assert_int_equal(demi_close(qd), 0);
}

static void step_cancel(int qd)
{
	(void)qd;
	if (world.num_tokens > 0)
		(void)demi_cancel(world.tokens[choose(world.num_tokens)]);
}

/* With the state in which each makes sense; most of the time it is called in that. */
static const struct {
	void (*call)(int qd);
	uint8_t state; /* enum loop_state */
} steps[] = {
	{step_socket, LOOP_FRESH},     {step_bind, LOOP_FRESH},       {step_listen, LOOP_FRESH},
	{step_accept, LOOP_LISTENING}, {step_accept, LOOP_LISTENING}, {step_connect, LOOP_FRESH},
	{step_connect, LOOP_FRESH},    {step_push, LOOP_CONNECTED},   {step_push, LOOP_CONNECTED},
	{step_push, LOOP_CONNECTED},   {step_push, LOOP_FRESH},       {step_pop, LOOP_CONNECTED},
	{step_pop, LOOP_CONNECTED},    {step_pop, LOOP_CONNECTED},    {step_pop, LOOP_FRESH},
	{step_linger, LOOP_CONNECTED}, {step_cancel, LOOP_FRESH},
};

/* Seldom. */
static void (*const ends[])(int qd) = {step_close, step_shutdown};

/* ---- results ---- */

static void take_result(const demi_qresult_t *qr)
{
	demi_sgarray_t sga = qr->qr_value.sga;

	if (qr->qr_opcode == DEMI_OPC_ACCEPT) {
		world.accepted++;
		add_socket(qr->qr_value.ares.qd);
	} else if (qr->qr_opcode == DEMI_OPC_POP) {
		world.popped++;
		assert_int_equal(demi_sgafree(&sga), 0);
	}
	world.connected += qr->qr_opcode == DEMI_OPC_CONNECT;
}

/* Polls, and takes what has completed of some tokens; of all if there is no room for more. */
static void look(void)
{
	for (uint32_t i = 0; i < world.num_tokens;) {
		demi_qresult_t qr;
		int err = demi_wait(&qr, world.tokens[i], &no_time);
		if (err) {
			assert_int_equal(err, ETIMEDOUT);
			i++;
			continue;
		}
		world.tokens[i] = world.tokens[--world.num_tokens];
		take_result(&qr);
	}
}

static struct loop_socket *socket_of(int qd)
{
	return loop_of(queue_find(&thread_state.current->queues, qd));
}

static void check_sockets(void)
{
	for (uint32_t i = 0; i < SOCKETS; i++) {
		if (world.qds[i] >= 0)
			loop_check(
				loop_of(queue_find(&thread_state.current->queues, world.qds[i])));
	}
	heap_check(instance_heap());
}

/* One in this state if there is one and the die says so, or any other; there is always one. */
static int some_socket(uint8_t state)
{
	uint32_t i = choose(SOCKETS);
	bool any = choose(8) == 0;
	int found = -1;

	for (uint32_t tries = 0; tries < SOCKETS; tries++) {
		int qd = world.qds[(i + tries) % SOCKETS];
		if (qd >= 0 && (found < 0 || (!any && socket_of(qd)->state == state)))
			found = qd;
	}
	if (found >= 0)
		return found;
	world.qds[i] = net_socket(AF_INET, SOCK_STREAM);
	return world.qds[i];
}

static void close_everything(void)
{
	for (uint32_t i = 0; i < SOCKETS; i++) {
		if (world.qds[i] >= 0)
			assert_int_equal(demi_close(world.qds[i]), 0);
		world.qds[i] = -1;
	}
	for (uint32_t tries = 0; world.num_tokens > 0 && tries < 1000; tries++)
		look(); /* what was accepted meanwhile is closed below */
	assert_int_equal(world.num_tokens, 0);
	for (uint32_t i = 0; i < SOCKETS; i++) {
		if (world.qds[i] >= 0)
			assert_int_equal(demi_close(world.qds[i]), 0);
	}
}

static void run(uint64_t seed, uint32_t count)
{
	prng_seed(&prng, seed);
	world = (struct world){0};
	for (uint32_t i = 0; i < SOCKETS; i++)
		world.qds[i] = -1;
	for (uint32_t step = 0; step < count; step++) {
		uint32_t i = choose(sizeof(steps) / sizeof(steps[0]));
		steps[i].call(some_socket(steps[i].state));
		if (choose(12) == 0)
			ends[choose(2)](some_socket(LOOP_CONNECTED));
		if (choose(4) == 0 || world.num_tokens > TOKENS - 2)
			look();
		if (world.num_tokens > TOKENS - 2)
			step_close(some_socket(LOOP_CONNECTED));
		check_sockets();
	}
	close_everything();
}

static void test_random_calls(void **state)
{
	uint64_t seed = test_seed(20261127);
	uint32_t rounds = test_share(16);
	uint32_t popped = 0;
	uint32_t accepted = 0;

	for (uint32_t i = 0; i < rounds; i++) {
		int fds = net_count_fds();
		assert_int_equal(net_init(state), 0);
		run(seed + i, 3000);
		popped += world.popped;
		accepted += world.accepted;
		assert_int_equal(net_fini(state), 0);
		assert_int_equal(net_count_fds(), fds);
	}
	print_message("# %u connections accepted, %u elements popped\n", accepted, popped);
	assert_true(accepted > rounds * 10 && popped > rounds * 100);
	assert_int_equal(rmdir(directory), 0); /* no name is left */
	assert_int_equal(mkdir(directory, 0700), 0);
}

/* More connections than are looked at in every turn: each works, and again after it was idle. */
static void test_many_connections(void **state)
{
	enum { MANY = 200 };

	int clients[MANY];
	int servers[MANY];
	int listener = net_listener(AF_INET, MANY);
	struct net_address to = net_local(listener);

	(void)state;
	for (uint32_t i = 0; i < MANY; i++) {
		clients[i] = net_socket(AF_INET, SOCK_STREAM);
		demi_qtoken_t qt = net_connect(clients[i], &to);
		servers[i] = net_wait(net_accept(listener)).qr_value.ares.qd;
		assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_CONNECT);
	}
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < MANY; i++) {
			demi_qtoken_t pop = net_pop(servers[i]);
			(void)net_push_bytes(clients[i], &i, sizeof(i));
			demi_qresult_t qr = net_wait(pop);
			assert_int_equal(net_array_bytes(&qr.qr_value.sga), sizeof(i));
			(void)net_push(servers[i], &qr.qr_value.sga);
			assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
		}
		for (uint32_t i = MANY; i-- > 0;)
			net_pop_bytes(clients[i], &i, sizeof(i));
	}
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(demi_close(clients[i]), 0);
		net_pop_bytes(servers[i], NULL, 0);
		assert_int_equal(demi_close(servers[i]), 0);
	}
	assert_int_equal(demi_close(listener), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_calls),
		cmocka_unit_test_setup_teardown(test_many_connections, net_init, net_fini),
	};

	if (!mkdtemp(directory) || setenv("LIBOS", "catloop", 1) ||
	    setenv("DEMI_SHM_DIRECTORY", directory, 1))
		return 1;
	int status = test_run("loop_random", tests);
	(void)rmdir(directory);
	return status;
}
