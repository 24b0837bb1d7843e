/* SPDX-License-Identifier: MIT
 * tests/unit/rdma_failure_test.c - transport/rdma when something fails: connecting, the peer, the
 * cable, the device, memory.
 */
#include "support/mint.h"

#include "support/fault.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pair {
	struct mint mint;
	struct mint_host *client;
	struct mint_host *server;
	int client_qd;
	int server_qd;
};

static char logged[4096];

static void keep_log(void *arg, enum demi_log_level level, const char *message)
{
	(void)arg;
	(void)level;
	size_t used = strlen(logged);

	(void)snprintf(logged + used, sizeof(logged) - used, "%s\n", message);
}

static void open_hosts(struct pair *pair, const struct config *config)
{
	static const struct fabric_options options = {.seed = 1, .jitter_ns = 500};

	logged[0] = '\0';
	(void)demi_set_log(keep_log, NULL);
	mint_open(&pair->mint, &options);
	pair->client = mint_add(&pair->mint, config);
	pair->server = mint_add(&pair->mint, config);
	pair->client_qd = -1;
	pair->server_qd = -1;
}

static void open_pair(struct pair *pair)
{
	open_hosts(pair, NULL);
	mint_pair(pair->client, pair->server, 7000, &pair->client_qd, &pair->server_qd);
}

static void close_pair(struct pair *pair)
{
	if (pair->client_qd >= 0)
		mint_close_qd(pair->client, pair->client_qd);
	if (pair->server_qd >= 0 && pair->server->demi)
		mint_close_qd(pair->server, pair->server_qd);
	mint_pass(&pair->mint, 5 * FABRIC_S);
	assert_int_equal(pair->client->engine->num_lingering, 0);
	mint_close(&pair->mint);
	(void)demi_set_log(NULL, NULL);
}

static int connect_result(struct pair *pair, uint16_t port)
{
	demi_qresult_t result;

	if (pair->client_qd < 0)
		pair->client_qd = mint_socket(pair->client);
	return mint_wait(pair->client,
			 mint_connect(pair->client, pair->client_qd, pair->server, port), &result);
}

/* -- connecting */

/* And the socket can be used for another attempt. */
static void test_refused(void **state)
{
	struct pair pair;
	demi_qresult_t result;

	(void)state;
	open_hosts(&pair, NULL);
	assert_int_equal(connect_result(&pair, 7000), ECONNREFUSED);
	assert_int_equal(connect_result(&pair, 7000), ECONNREFUSED);
	int listener = mint_listener(pair.server, 7000, 4);
	demi_qtoken_t accepting = mint_accept(pair.server, listener);
	assert_int_equal(connect_result(&pair, 7000), 0);
	assert_int_equal(mint_wait(pair.server, accepting, &result), 0);
	pair.server_qd = result.qr_value.ares.qd;
	close_pair(&pair);
}

static void test_timed_out(void **state)
{
	struct pair pair;

	(void)state;
	open_hosts(&pair, NULL);
	(void)mint_listener(pair.server, 7000, 4);
	fabric_cut(pair.client->device, pair.server->device, true);
	assert_int_equal(connect_result(&pair, 7000), ETIMEDOUT);
	close_pair(&pair);
}

static void test_backlog(void **state)
{
	struct pair pair;
	demi_qresult_t result;
	int qds[4];

	(void)state;
	open_hosts(&pair, NULL);
	int listener = mint_listener(pair.server, 7000, 2);
	for (uint32_t i = 0; i < 4; i++) {
		qds[i] = mint_socket(pair.client);
		int err = mint_wait(pair.client,
				    mint_connect(pair.client, qds[i], pair.server, 7000), &result);
		assert_int_equal(err, i < 2 ? 0 : ECONNREFUSED);
	}
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(
			mint_wait(pair.server, mint_accept(pair.server, listener), &result), 0);
	assert_int_equal(mint_wait(pair.client,
				   mint_connect(pair.client, qds[2], pair.server, 7000), &result),
			 0);
	close_pair(&pair);
}

/* What a peer sent before it was accepted, and left, is there. */
static void test_left_before_accept(void **state)
{
	struct pair pair;
	demi_qresult_t result;

	(void)state;
	open_hosts(&pair, NULL);
	int listener = mint_listener(pair.server, 7000, 2);
	assert_int_equal(connect_result(&pair, 7000), 0);
	demi_sgarray_t sga = mint_array(pair.client, 100, 1);
	assert_int_equal(
		mint_wait(pair.client, mint_push(pair.client, pair.client_qd, &sga), &result), 0);
	mint_free(pair.client, &sga);
	mint_close_qd(pair.client, pair.client_qd);
	pair.client_qd = -1;
	mint_pass(&pair.mint, FABRIC_S);
	assert_int_equal(mint_wait(pair.server, mint_accept(pair.server, listener), &result), 0);
	pair.server_qd = result.qr_value.ares.qd;
	assert_int_equal(mint_wait(pair.server, mint_pop(pair.server, pair.server_qd), &result), 0);
	assert_true(mint_holds(&result.qr_value.sga, 100, 1));
	mint_free(pair.server, &result.qr_value.sga);
	assert_int_equal(mint_wait(pair.server, mint_pop(pair.server, pair.server_qd), &result), 0);
	assert_int_equal(result.qr_value.sga.sga_segs[0].sgaseg_len, 0);
	close_pair(&pair);
}

static void test_cancel_connect(void **state)
{
	struct pair pair;
	demi_qresult_t result;

	(void)state;
	for (uint64_t ns = 0; ns < 20 * FABRIC_US; ns += FABRIC_US) {
		open_hosts(&pair, NULL);
		(void)mint_listener(pair.server, 7000, 4);
		pair.client_qd = mint_socket(pair.client);
		demi_qtoken_t qt = mint_connect(pair.client, pair.client_qd, pair.server, 7000);
		mint_pass(&pair.mint, ns);
		mint_enter(pair.client);
		assert_int_equal(demi_cancel(qt), 0);
		int err = mint_wait(pair.client, qt, &result);
		assert_true(err == ECANCELED || err == 0);
		close_pair(&pair);
	}
}

static void test_not_rdma(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7000)};
	struct pair pair;
	demi_qresult_t result;
	demi_qtoken_t qt;

	(void)state;
	open_hosts(&pair, NULL);
	address.sin_addr.s_addr = htonl(0xc0a80101);
	pair.client_qd = mint_socket(pair.client);
	assert_int_equal(demi_bind(pair.client_qd, (struct sockaddr *)&address, sizeof(address)),
			 EADDRNOTAVAIL);
	assert_int_equal(
		demi_connect(&qt, pair.client_qd, (struct sockaddr *)&address, sizeof(address)), 0);
	int err = mint_wait(pair.client, qt, &result);
	assert_true(err == EADDRNOTAVAIL || err == ETIMEDOUT || err == EHOSTUNREACH);
	close_pair(&pair);
}

static void test_other_device(void **state)
{
	struct config config;
	struct pair pair;

	(void)state;
	mint_config(&config);
	(void)snprintf(config.rdma_device, sizeof(config.rdma_device), "other9");
	open_hosts(&pair, &config);
	assert_int_equal(connect_result(&pair, 7000), EADDRNOTAVAIL);
	assert_non_null(strstr(logged, "not this instance's"));
	close_pair(&pair);
}

static void test_memlock(void **state)
{
	struct pair pair;

	(void)state;
	open_hosts(&pair, NULL);
	fabric_limits(pair.client->device)->memlock_bytes = 65536;
	assert_int_equal(connect_result(&pair, 7000), ENOMEM);
	assert_true(strstr(logged, "RLIMIT_MEMLOCK") != NULL ||
		    strstr(logged, "no room to register") != NULL);
	fabric_limits(pair.client->device)->memlock_bytes = UINT64_MAX;
	assert_int_equal(connect_result(&pair, 7000), ECONNREFUSED);
	close_pair(&pair);
}

/* -- the peer and the cable */

/* Fails, with one of two errors, within the time that the device tries. */
static void expect_failure(struct pair *pair, int one, int other)
{
	demi_qresult_t result;
	demi_qtoken_t qt;

	int err = mint_wait(pair->client, mint_pop(pair->client, pair->client_qd), &result);
	assert_true(err == one || err == other);
	demi_sgarray_t sga = mint_array(pair->client, 10, 1);
	assert_int_equal(demi_push(&qt, pair->client_qd, &sga), err);
	mint_free(pair->client, &sga);
}

static void test_killed(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair);
	fabric_kill(pair.server->device);
	expect_failure(&pair, ECONNRESET, ECONNRESET);
	pair.server_qd = -1;
	close_pair(&pair);
}

static void test_vanished(void **state)
{
	static const uint32_t lengths[] = {10, 1000, 100000};
	struct pair pair;
	demi_qresult_t result;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		open_pair(&pair);
		fabric_cut(pair.client->device, pair.server->device, true);
		demi_sgarray_t sga = mint_array(pair.client, lengths[i], 1);
		for (uint32_t n = 0; n < 5; n++)
			assert_int_equal(mint_wait(pair.client,
						   mint_push(pair.client, pair.client_qd, &sga),
						   &result),
					 0);
		mint_free(pair.client, &sga);
		expect_failure(&pair, ETIMEDOUT, ETIMEDOUT);
		close_pair(&pair);
	}
}

/* Nothing is sent, and the peer is gone without a word. */
static void test_silent(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair);
	mint_pass(&pair.mint, FABRIC_S);
	fabric_cut(pair.client->device, pair.server->device, true);
	expect_failure(&pair, ETIMEDOUT, ETIMEDOUT);
	close_pair(&pair);
}

/* Pushes that wait for a credit when the peer dies are told. */
static void test_waiting_pushes(void **state)
{
	struct pair pair;
	demi_qresult_t result;
	demi_qtoken_t pushes[40];

	(void)state;
	open_pair(&pair);
	demi_sgarray_t sga = mint_array(pair.client, 100, 1);
	for (uint32_t n = 0; n < 40; n++)
		pushes[n] = mint_push(pair.client, pair.client_qd, &sga);
	mint_free(pair.client, &sga);
	mint_pass(&pair.mint, FABRIC_MS);
	mint_close_qd(pair.server, pair.server_qd);
	pair.server_qd = -1;
	uint32_t failed = 0;
	for (uint32_t n = 0; n < 40; n++) {
		int err = mint_wait(pair.client, pushes[n], &result);
		assert_true(err == 0 || err == ECONNRESET || err == EIO);
		failed += err != 0;
	}
	assert_true(failed >= 8);
	close_pair(&pair);
}

static void test_broken_qp(void **state)
{
	struct pair pair;

	(void)state;
	open_pair(&pair);
	struct rdma_conn *conn =
		container_of(pair.client->engine->conns.next, struct rdma_conn, in_engine);
	fabric_break_qp(conn->qp);
	expect_failure(&pair, ECONNRESET, EIO);
	close_pair(&pair);
}

/* -- the device */

static void test_removed(void **state)
{
	struct pair pair;
	demi_qresult_t result;
	demi_qtoken_t qt;

	(void)state;
	for (uint32_t flush = 0; flush < 2; flush++) {
		open_pair(&pair);
		int listener = mint_listener(pair.client, 7001, 4);
		demi_qtoken_t accepting = mint_accept(pair.client, listener);
		demi_sgarray_t sga = mint_array(pair.client, 5000, 1);
		fabric_limits(pair.client->device)->no_flush_when_removed = flush;
		(void)mint_wait(pair.client, mint_push(pair.client, pair.client_qd, &sga), &result);
		mint_free(pair.client, &sga);
		fabric_remove(pair.client->device);
		expect_failure(&pair, ENODEV, ECONNRESET);
		assert_int_equal(mint_wait(pair.client, accepting, &result), ENODEV);
		int qd = mint_socket(pair.client);
		struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7000)};
		address.sin_addr.s_addr = htonl(0x0a000002);
		assert_int_equal(
			demi_connect(&qt, qd, (struct sockaddr *)&address, sizeof(address)),
			ENODEV);
		mint_close_qd(pair.client, qd);
		mint_close_qd(pair.client, listener);
		assert_non_null(strstr(logged, "is gone"));
		close_pair(&pair);
	}
}

/* -- calls that fail */

/* Each call of the control path in turn: the attempt fails, and the next one works. */
static void test_calls(void **state)
{
	struct pair pair;
	bool failed = true;

	(void)state;
	for (uint64_t nth = 1; failed; nth++) {
		demi_qresult_t result;
		assert_true(nth < 200);
		open_hosts(&pair, NULL);
		int listener = mint_listener(pair.server, 7000, 4);
		demi_qtoken_t accepting = mint_accept(pair.server, listener);
		fabric_fail_call(pair.client->device, nth, ENOMEM);
		pair.client_qd = mint_socket(pair.client);
		struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7000)};
		demi_qtoken_t qt;
		address.sin_addr.s_addr = htonl(0x0a000002);
		int err = demi_connect(&qt, pair.client_qd, (struct sockaddr *)&address,
				       sizeof(address));
		if (err == 0)
			err = mint_wait(pair.client, qt, &result);
		failed = err != 0;
		fabric_fail_call(pair.client->device, 0, 0);
		if (failed)
			assert_int_equal(connect_result(&pair, 7000), 0);
		assert_int_equal(mint_wait(pair.server, accepting, &result), 0);
		close_pair(&pair);
	}
}

/* Once warm, an exchange asks the system for no memory, whatever its elements are. */
static void test_warm(void **state)
{
	static const uint32_t lengths[] = {64, 1000, 3000, 20000};
	struct pair pair;
	uint64_t calls = 0;

	(void)state;
	open_pair(&pair);
	for (uint32_t n = 0; n < 600; n++) {
		uint32_t bytes = lengths[n % 4];
		demi_qresult_t result;
		if (n == 200)
			calls = fault_calls();
		demi_qtoken_t pop = mint_pop(pair.server, pair.server_qd);
		demi_sgarray_t sga = mint_array(pair.client, bytes, (uint8_t)n);
		demi_qtoken_t push = mint_push(pair.client, pair.client_qd, &sga);
		mint_free(pair.client, &sga);
		assert_int_equal(mint_wait(pair.client, push, &result), 0);
		assert_int_equal(mint_wait(pair.server, pop, &result), 0);
		assert_true(mint_holds(&result.qr_value.sga, bytes, (uint8_t)n));
		mint_free(pair.server, &result.qr_value.sga);
	}
	assert_int_equal(fault_calls(), calls);
	close_pair(&pair);
}

/* Each allocation in turn, from the connect to the first element. */
static void test_allocations(void **state)
{
	struct pair pair;
	bool failed = true;

	(void)state;
	for (uint64_t nth = 1; failed; nth++) {
		demi_qresult_t result;
		demi_qtoken_t qt;
		assert_true(nth < 300);
		open_hosts(&pair, NULL);
		int listener = mint_listener(pair.server, 7000, 4);
		demi_qtoken_t accepting = mint_accept(pair.server, listener);
		pair.client_qd = mint_socket(pair.client);
		struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7000)};
		address.sin_addr.s_addr = htonl(0x0a000002);
		mint_enter(pair.client);
		fault_fail(nth);
		int err = demi_connect(&qt, pair.client_qd, (struct sockaddr *)&address,
				       sizeof(address));
		if (err == 0)
			err = mint_wait(pair.client, qt, &result);
		failed = fault_off();
		assert_true(err == 0 || err == ENOMEM || err == ECONNREFUSED);
		if (err)
			assert_int_equal(connect_result(&pair, 7000), 0);
		int status = mint_wait(pair.server, accepting, &result);
		assert_true(status == 0 || status == ENOMEM);
		if (status == 0)
			pair.server_qd = result.qr_value.ares.qd;
		close_pair(&pair);
	}
}

static void test_posts(void **state)
{
	struct pair pair;

	(void)state;
	for (uint64_t nth = 1; nth < 60; nth++) {
		demi_qresult_t result;
		open_pair(&pair);
		demi_qtoken_t pop = mint_pop(pair.server, pair.server_qd);
		fabric_fail_post(pair.client->device, nth, ENOMEM);
		for (uint32_t n = 0; n < 24; n++) {
			demi_sgarray_t sga =
				mint_array(pair.client, n % 3 == 2 ? 9000 : 400 * (n % 3), 1);
			demi_qtoken_t qt;
			int err = demi_push(&qt, pair.client_qd, &sga);
			if (err == 0)
				err = mint_wait(pair.client, qt, &result);
			assert_true(err == 0 || err == ENOMEM || err == ECONNRESET || err == EIO);
			mint_free(pair.client, &sga);
			mint_pass(&pair.mint, FABRIC_MS);
			if (!mint_try(pair.server, pop, &result))
				continue;
			if (result.qr_ret == 0)
				mint_free(pair.server, &result.qr_value.sga);
			pop = mint_pop(pair.server, pair.server_qd);
		}
		fabric_fail_post(pair.client->device, 0, 0);
		close_pair(&pair);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),        cmocka_unit_test(test_timed_out),
		cmocka_unit_test(test_backlog),        cmocka_unit_test(test_left_before_accept),
		cmocka_unit_test(test_cancel_connect), cmocka_unit_test(test_not_rdma),
		cmocka_unit_test(test_other_device),   cmocka_unit_test(test_memlock),
		cmocka_unit_test(test_killed),         cmocka_unit_test(test_vanished),
		cmocka_unit_test(test_silent),         cmocka_unit_test(test_waiting_pushes),
		cmocka_unit_test(test_broken_qp),      cmocka_unit_test(test_removed),
		cmocka_unit_test(test_calls),          cmocka_unit_test(test_warm),
		cmocka_unit_test(test_allocations),    cmocka_unit_test(test_posts),
	};

	return test_run("rdma_failure", tests);
}
