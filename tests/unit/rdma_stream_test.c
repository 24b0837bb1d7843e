/* SPDX-License-Identifier: MIT
 * tests/unit/rdma_stream_test.c - transport/rdma over an in-process device that does everything at
 * once: elements of all sizes, segments, credits that run out, orderly ends.
 */
#include "support/mint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

struct pair {
	struct mint mint;
	struct mint_host *client;
	struct mint_host *server;
	int client_qd;
	int server_qd;
};

static void open_with(struct pair *pair, const struct config *config)
{
	static const struct fabric_options options = {.seed = 1, .immediate = true};

	mint_open(&pair->mint, &options);
	pair->client = mint_add(&pair->mint, config);
	pair->server = mint_add(&pair->mint, config);
	mint_pair(pair->client, pair->server, 7000, &pair->client_qd, &pair->server_qd);
}

/* Both ends are closed in an orderly way, and nothing is left. */
static void close_pair(struct pair *pair)
{
	if (pair->client_qd >= 0)
		mint_close_qd(pair->client, pair->client_qd);
	if (pair->server_qd >= 0)
		mint_close_qd(pair->server, pair->server_qd);
	mint_pass(&pair->mint, 10 * FABRIC_MS);
	assert_int_equal(pair->client->engine->num_lingering, 0);
	assert_int_equal(pair->server->engine->num_lingering, 0);
	assert_int_equal(fabric_counts(pair->client->device)->rnr, 0);
	assert_int_equal(fabric_counts(pair->server->device)->rnr, 0);
	mint_close(&pair->mint);
}

static void expect_element(struct mint_host *host, int qd, uint32_t bytes, uint8_t seed)
{
	demi_qresult_t result;

	assert_int_equal(mint_wait(host, mint_pop(host, qd), &result), 0);
	assert_int_equal(result.qr_opcode, DEMI_OPC_POP);
	assert_true(mint_holds(&result.qr_value.sga, bytes, seed));
	assert_non_null(result.qr_value.sga.sga_segs[0].sgaseg_buf);
	mint_free(host, &result.qr_value.sga);
}

static void expect_end(struct mint_host *host, int qd)
{
	demi_qresult_t result;

	assert_int_equal(mint_wait(host, mint_pop(host, qd), &result), 0);
	assert_int_equal(result.qr_value.sga.sga_segs[0].sgaseg_len, 0);
	assert_null(result.qr_value.sga.sga_segs[0].sgaseg_buf);
}

static void push_all(struct mint_host *host, int qd, uint32_t bytes, uint8_t seed)
{
	demi_sgarray_t sga = mint_array(host, bytes, seed);
	demi_qtoken_t qt = mint_push(host, qd, &sga);
	demi_qresult_t result;

	mint_free(host, &sga); /* at once: the library holds it */
	assert_int_equal(mint_wait(host, qt, &result), 0);
}

/* -- sizes */

static const uint32_t sizes[] = {0,     1,      16,     63,      64,      239,     240,
				 241,   255,    256,    257,     1000,    1024,    2048,
				 4079,  4080,   4081,   4096,    8192,    9000,    65536,
				 65537, 262144, 262145, 1 << 20, 2 << 20, 16 << 20};

static void test_sizes(void **state)
{
	struct pair pair;

	(void)state;
	open_with(&pair, NULL);
	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		push_all(pair.client, pair.client_qd, sizes[i], (uint8_t)i);
		expect_element(pair.server, pair.server_qd, sizes[i], (uint8_t)i);
		push_all(pair.server, pair.server_qd, sizes[i], (uint8_t)(i + 100));
		expect_element(pair.client, pair.client_qd, sizes[i], (uint8_t)(i + 100));
	}
	close_pair(&pair);
}

/* -- segments */

static void test_segments(void **state)
{
	static const uint32_t cases[][3] = {
		{1, 2, 3},        {100, 0, 100},      {500, 500, 500}, {0, 0, 300},
		{2000, 2000, 70}, {3000, 3000, 3000}, {5, 100000, 5},  {300000, 1, 300000},
	};
	struct pair pair;

	(void)state;
	open_with(&pair, NULL);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		demi_sgarray_t parts[3];
		demi_sgarray_t sga = {.sga_numsegs = 3};
		uint8_t seed = 3;
		uint32_t total = 0;
		for (uint32_t p = 0; p < 3; p++) {
			parts[p] = mint_array(pair.client, cases[i][p], 0);
			uint8_t *to = parts[p].sga_segs[0].sgaseg_buf;
			for (uint32_t b = 0; b < cases[i][p]; b++)
				to[b] = mint_byte(seed, total++);
			sga.sga_segs[p] = parts[p].sga_segs[0];
		}
		demi_qresult_t result;
		demi_qtoken_t qt = mint_push(pair.client, pair.client_qd, &sga);
		for (uint32_t p = 0; p < 3; p++)
			mint_free(pair.client, &parts[p]);
		assert_int_equal(mint_wait(pair.client, qt, &result), 0);
		expect_element(pair.server, pair.server_qd, total, seed);
	}
	close_pair(&pair);
}

static void test_foreign(void **state)
{
	static uint8_t bytes[100000];
	static const uint32_t lengths[] = {1, 200, 1000, 4080, 4081, 100000};
	struct pair pair;

	(void)state;
	open_with(&pair, NULL);
	for (uint32_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		demi_sgarray_t sga = {.sga_numsegs = 1};
		sga.sga_segs[0] = (demi_sgaseg_t){.sgaseg_buf = bytes, .sgaseg_len = lengths[i]};
		for (uint32_t b = 0; b < lengths[i]; b++)
			bytes[b] = mint_byte(9, b);
		demi_qresult_t result;
		demi_qtoken_t qt = mint_push(pair.client, pair.client_qd, &sga);
		assert_int_equal(mint_wait(pair.client, qt, &result), 0);
		memset(bytes, 0, sizeof(bytes));
		expect_element(pair.server, pair.server_qd, lengths[i], 9);
	}
	close_pair(&pair);
}

/* Everything is let go, though nothing more is pushed. */
static void test_let_go(void **state)
{
	static const uint32_t lengths[] = {300, 4000, 5000, 1 << 20};
	struct pair pair;

	(void)state;
	open_with(&pair, NULL);
	for (uint32_t i = 0; i < 4; i++) {
		demi_sgarray_t sga = mint_array(pair.client, lengths[i], 1);
		demi_qresult_t result;
		for (uint32_t n = 0; n < 5; n++)
			assert_int_equal(mint_wait(pair.client,
						   mint_push(pair.client, pair.client_qd, &sga),
						   &result),
					 0);
		for (uint32_t n = 0; n < 5; n++)
			expect_element(pair.server, pair.server_qd, lengths[i], 1);
		mint_pass(&pair.mint, FABRIC_MS);
		mint_enter(pair.client);
		assert_int_equal(heap_library_refs(pair.client->demi->sched.heap,
						   sga.sga_segs[0].sgaseg_buf),
				 0);
		mint_free(pair.client, &sga);
	}
	assert_int_equal(fabric_open_bytes(pair.client->device, IBV_ACCESS_REMOTE_READ), 0);
	assert_int_equal(fabric_open_bytes(pair.client->device, IBV_ACCESS_REMOTE_WRITE), 8);
	close_pair(&pair);
}

/* -- credits */

/* A fast sender and an application that does not pop: it waits, and nothing is lost. */
static void test_overload(void **state)
{
	static const uint32_t lengths[] = {10, 300, 3000, 6000};

	enum { COUNT = 300 };
	struct pair pair;

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		demi_qtoken_t pushes[COUNT];
		uint32_t done = 0;
		demi_qresult_t result;
		open_with(&pair, NULL);
		for (uint32_t n = 0; n < COUNT; n++) {
			demi_sgarray_t sga = mint_array(pair.client, lengths[i], (uint8_t)n);
			pushes[n] = mint_push(pair.client, pair.client_qd, &sga);
			mint_free(pair.client, &sga);
		}
		mint_pass(&pair.mint, FABRIC_MS);
		while (done < COUNT && mint_try(pair.client, pushes[done], &result))
			done++;
		assert_true(done > 0 && done <= 16);
		for (uint32_t n = 0; n < COUNT; n++) {
			expect_element(pair.server, pair.server_qd, lengths[i], (uint8_t)n);
			while (done < COUNT && mint_try(pair.client, pushes[done], &result)) {
				assert_int_equal(result.qr_ret, 0);
				done++;
			}
		}
		for (; done < COUNT; done++)
			assert_int_equal(mint_wait(pair.client, pushes[done], &result), 0);
		close_pair(&pair);
	}
}

/* Pops are there before anything comes; all is one way, so credits come by writes. */
static void test_one_way(void **state)
{
	enum { COUNT = 500 };
	struct pair pair;

	(void)state;
	open_with(&pair, NULL);
	for (uint32_t n = 0; n < COUNT; n++) {
		demi_qresult_t result;
		demi_qtoken_t pop = mint_pop(pair.server, pair.server_qd);
		push_all(pair.client, pair.client_qd, 64, (uint8_t)n);
		assert_int_equal(mint_wait(pair.server, pop, &result), 0);
		assert_true(mint_holds(&result.qr_value.sga, 64, (uint8_t)n));
		mint_free(pair.server, &result.qr_value.sga);
	}
	assert_true(fabric_counts(pair.client->device)->writes > 0);
	/* one in 32, or in a quarter of the queue: most sends are not signalled */
	assert_true(fabric_counts(pair.client->device)->signalled <= COUNT / 8 + 4);
	close_pair(&pair);
}

/* The application keeps what it popped: frames run short, then all is copied. */
static void test_kept(void **state)
{
	enum { COUNT = 2000 };

	static demi_sgarray_t kept[COUNT];
	struct pair pair;

	(void)state;
	open_with(&pair, NULL);
	for (uint32_t n = 0; n < COUNT; n++) {
		demi_qresult_t result;
		push_all(pair.client, pair.client_qd, 1000, (uint8_t)n);
		assert_int_equal(
			mint_wait(pair.server, mint_pop(pair.server, pair.server_qd), &result), 0);
		kept[n] = result.qr_value.sga;
	}
	assert_true(pair.server->engine->frames_short);
	for (uint32_t n = 0; n < COUNT; n++) {
		assert_true(mint_holds(&kept[n], 1000, (uint8_t)n));
		mint_free(pair.server, &kept[n]);
	}
	close_pair(&pair);
}

/* -- ends */

static void test_shutdown(void **state)
{
	struct pair pair;
	demi_qtoken_t qt;

	(void)state;
	open_with(&pair, NULL);
	push_all(pair.client, pair.client_qd, 100, 1);
	push_all(pair.client, pair.client_qd, 10000, 2);
	mint_enter(pair.client);
	assert_int_equal(demi_shutdown(pair.client_qd, SHUT_WR), 0);
	demi_sgarray_t sga = mint_array(pair.client, 1, 0);
	assert_int_equal(demi_push(&qt, pair.client_qd, &sga), EPIPE);
	mint_free(pair.client, &sga);
	expect_element(pair.server, pair.server_qd, 100, 1);
	expect_element(pair.server, pair.server_qd, 10000, 2);
	expect_end(pair.server, pair.server_qd);
	expect_end(pair.server, pair.server_qd);
	push_all(pair.server, pair.server_qd, 77, 3);
	expect_element(pair.client, pair.client_qd, 77, 3);
	close_pair(&pair);
}

/* What was pushed still arrives when the pusher closes at once, and then the end. */
static void test_close_sends(void **state)
{
	static const uint32_t lengths[] = {10, 1000, 100000};
	struct pair pair;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		open_with(&pair, NULL);
		push_all(pair.client, pair.client_qd, lengths[i], 5);
		mint_close_qd(pair.client, pair.client_qd);
		pair.client_qd = -1;
		expect_element(pair.server, pair.server_qd, lengths[i], 5);
		expect_end(pair.server, pair.server_qd);
		close_pair(&pair);
	}
}

static void test_close_cancels(void **state)
{
	struct pair pair;
	demi_qtoken_t pushes[40];
	demi_qresult_t result;

	(void)state;
	open_with(&pair, NULL);
	demi_qtoken_t pop = mint_pop(pair.client, pair.client_qd);
	demi_sgarray_t sga = mint_array(pair.client, 100, 1);
	for (uint32_t n = 0; n < 40; n++)
		pushes[n] = mint_push(pair.client, pair.client_qd, &sga);
	mint_free(pair.client, &sga);
	mint_close_qd(pair.client, pair.client_qd);
	pair.client_qd = -1;
	assert_int_equal(mint_wait(pair.client, pop, &result), ECANCELED);
	uint32_t sent = 0;
	for (uint32_t n = 0; n < 40; n++) {
		int err = mint_wait(pair.client, pushes[n], &result);
		assert_true(err == 0 || (err == ECANCELED && n > sent - 1));
		sent += err == 0;
	}
	assert_int_equal(sent, 16);
	for (uint32_t n = 0; n < sent; n++)
		expect_element(pair.server, pair.server_qd, 100, 1);
	expect_end(pair.server, pair.server_qd);
	close_pair(&pair);
}

/* Elements that nobody popped go with their queue. */
static void test_close_unread(void **state)
{
	struct pair pair;

	(void)state;
	open_with(&pair, NULL);
	push_all(pair.client, pair.client_qd, 100, 1);
	push_all(pair.client, pair.client_qd, 1000, 1);
	push_all(pair.client, pair.client_qd, 100000, 1);
	push_all(pair.client, pair.client_qd, 200000, 1);
	mint_pass(&pair.mint, FABRIC_MS);
	mint_close_qd(pair.server, pair.server_qd);
	pair.server_qd = -1;
	expect_end(pair.client, pair.client_qd);
	close_pair(&pair);
}

static void test_cancel(void **state)
{
	struct pair pair;
	demi_qresult_t result;
	demi_qtoken_t pushes[18];

	(void)state;
	open_with(&pair, NULL);
	demi_qtoken_t first = mint_pop(pair.server, pair.server_qd);
	demi_qtoken_t second = mint_pop(pair.server, pair.server_qd);
	assert_int_equal(demi_cancel(first), 0);
	assert_int_equal(mint_wait(pair.server, first, &result), ECANCELED);
	push_all(pair.client, pair.client_qd, 33, 4);
	assert_int_equal(mint_wait(pair.server, second, &result), 0);
	assert_true(mint_holds(&result.qr_value.sga, 33, 4));
	mint_free(pair.server, &result.qr_value.sga);

	for (uint32_t n = 0; n < 18; n++) {
		demi_sgarray_t sga = mint_array(pair.client, 50, (uint8_t)n);
		pushes[n] = mint_push(pair.client, pair.client_qd, &sga);
		mint_free(pair.client, &sga);
	}
	assert_int_equal(demi_cancel(pushes[16]), 0);
	assert_int_equal(mint_wait(pair.client, pushes[16], &result), ECANCELED);
	for (uint32_t n = 0; n < 18; n++) {
		if (n != 16)
			expect_element(pair.server, pair.server_qd, 50, (uint8_t)n);
	}
	for (uint32_t n = 0; n < 18; n++) {
		if (n != 16)
			assert_int_equal(mint_wait(pair.client, pushes[n], &result), 0);
	}
	close_pair(&pair);
}

static void test_too_long(void **state)
{
	struct config config;
	struct pair pair;
	demi_qtoken_t qt;

	(void)state;
	mint_config(&config);
	config.rdma_message_max_bytes = 8192;
	open_with(&pair, &config);
	push_all(pair.client, pair.client_qd, 8192, 1);
	expect_element(pair.server, pair.server_qd, 8192, 1);
	demi_sgarray_t sga = mint_array(pair.client, 8193, 0);
	assert_int_equal(demi_push(&qt, pair.client_qd, &sga), EMSGSIZE);
	mint_free(pair.client, &sga);
	push_all(pair.client, pair.client_qd, 20, 2);
	expect_element(pair.server, pair.server_qd, 20, 2);
	close_pair(&pair);
}

/* A device that can do little: no in-line data, two segments, no windows, short reads. */
static void test_poor_device(void **state)
{
	static const struct fabric_options options = {.seed = 1, .immediate = true};
	struct pair pair;

	(void)state;
	mint_open(&pair.mint, &options);
	pair.client = mint_add(&pair.mint, NULL);
	pair.server = mint_add(&pair.mint, NULL);
	struct mint_host *hosts[] = {pair.client, pair.server};
	for (uint32_t i = 0; i < 2; i++) {
		struct fabric_limits *limits = fabric_limits(hosts[i]->device);
		limits->max_inline = 0;
		limits->attr.max_sge = 2;
		limits->attr.device_cap_flags &= ~(unsigned int)(IBV_DEVICE_MEM_WINDOW_TYPE_2A |
								 IBV_DEVICE_MEM_WINDOW_TYPE_2B);
	}
	mint_pair(pair.client, pair.server, 7000, &pair.client_qd, &pair.server_qd);
	assert_int_equal(pair.client->engine->device.inline_max, 0);
	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		push_all(pair.client, pair.client_qd, sizes[i], (uint8_t)i);
		expect_element(pair.server, pair.server_qd, sizes[i], (uint8_t)i);
	}
	mint_pass(&pair.mint, FABRIC_MS);
	assert_int_equal(fabric_open_bytes(pair.client->device, IBV_ACCESS_REMOTE_READ), 0);
	close_pair(&pair);
}

/* -- many, by name, asleep */

/* More connections than receives for full windows: they share; then they are refused. */
static void test_many(void **state)
{
	enum { MANY = 40 };
	static const struct fabric_options options = {.seed = 1, .immediate = true};
	struct config config;
	struct mint mint;
	demi_qresult_t result;
	int clients[MANY];
	int servers[MANY];
	uint32_t count = 0;

	(void)state;
	mint_config(&config);
	config.rdma_receive_buffers = 128;
	config.rdma_connections_max = MANY;
	mint_open(&mint, &options);
	struct mint_host *client = mint_add(&mint, &config);
	struct mint_host *server = mint_add(&mint, &config);
	int listener = mint_listener(server, 7000, MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		clients[i] = mint_socket(client);
		int err =
			mint_wait(client, mint_connect(client, clients[i], server, 7000), &result);
		assert_true(err == 0 || err == ECONNREFUSED || err == ENOBUFS);
		if (err) {
			mint_close_qd(client, clients[i]);
			break;
		}
		assert_int_equal(mint_wait(server, mint_accept(server, listener), &result), 0);
		servers[count++] = result.qr_value.ares.qd;
	}
	assert_true(count >= 20);
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < count; i++)
			push_all(client, clients[i], 100 + 1000 * round, (uint8_t)i);
		for (uint32_t i = 0; i < count; i++)
			expect_element(server, servers[i], 100 + 1000 * round, (uint8_t)i);
	}
	/* One that goes makes room for another. */
	mint_close_qd(client, clients[0]);
	mint_close_qd(server, servers[0]);
	mint_pass(&mint, FABRIC_S);
	clients[0] = mint_socket(client);
	assert_int_equal(mint_wait(client, mint_connect(client, clients[0], server, 7000), &result),
			 0);
	mint_pass(&mint, FABRIC_S);
	assert_int_equal(fabric_counts(server->device)->rnr, 0);
	mint_close(&mint);
}

static void test_names(void **state)
{
	static const struct fabric_options options = {.seed = 1, .immediate = true};
	struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(7000)};
	struct sockaddr_in6 name;
	struct mint mint;
	demi_qresult_t result;
	demi_qtoken_t qt;
	int listener;
	int qd;

	(void)state;
	mint_open(&mint, &options);
	struct mint_host *client = mint_add(&mint, NULL);
	struct mint_host *server = mint_add(&mint, NULL);
	assert_int_equal(inet_pton(AF_INET6, "fd00::2", &to.sin6_addr), 1);
	mint_enter(server);
	assert_int_equal(demi_socket(&listener, AF_INET6, SOCK_STREAM, 0), 0);
	assert_int_equal(demi_bind(listener, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(demi_listen(listener, 4), 0);
	mint_enter(client);
	assert_int_equal(demi_socket(&qd, AF_INET6, SOCK_STREAM, 0), 0);
	socklen_t length = sizeof(name);
	assert_int_equal(demi_getpeername(qd, (struct sockaddr *)&name, &length), ENOTCONN);
	assert_int_equal(demi_connect(&qt, qd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(mint_wait(client, qt, &result), 0);
	assert_int_equal(demi_getpeername(qd, (struct sockaddr *)&name, &length), 0);
	assert_int_equal(length, sizeof(name));
	assert_memory_equal(&name.sin6_addr, &to.sin6_addr, 16);
	assert_int_equal(name.sin6_port, to.sin6_port);
	assert_int_equal(demi_getsockname(qd, (struct sockaddr *)&name, &length), 0);
	uint16_t port = name.sin6_port;
	assert_int_not_equal(port, 0);
	assert_int_equal(mint_wait(server, mint_accept(server, listener), &result), 0);
	assert_int_equal(
		demi_getpeername(result.qr_value.ares.qd, (struct sockaddr *)&name, &length), 0);
	assert_int_equal(name.sin6_port, port);
	mint_pass(&mint, FABRIC_S);
	mint_close(&mint);
}

/* An instance that sleeps is woken by what comes; it does not go to sleep on something. */
static void test_asleep(void **state)
{
	struct pair pair;
	demi_qresult_t result;

	(void)state;
	open_with(&pair, NULL);
	mint_run(&pair.mint);
	struct sched *sched = &pair.server->demi->sched;
	demi_qtoken_t pop = mint_pop(pair.server, pair.server_qd);
	mint_run(&pair.mint);
	assert_int_equal(sched_arm(sched), 0);
	assert_int_equal(fdset_wait(&sched->fds, 0), 0);
	demi_sgarray_t sga = mint_array(pair.client, 100, 1);
	(void)mint_push(pair.client, pair.client_qd, &sga);
	mint_enter(pair.server);
	assert_true(fdset_wait(&sched->fds, 0) > 0);
	assert_int_equal(mint_wait(pair.server, pop, &result), 0);
	mint_free(pair.server, &result.qr_value.sga);
	(void)mint_push(pair.client, pair.client_qd, &sga);
	assert_int_equal(sched_arm(sched), -EAGAIN);
	expect_element(pair.server, pair.server_qd, 100, 1);
	mint_free(pair.client, &sga);
	close_pair(&pair);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),        cmocka_unit_test(test_segments),
		cmocka_unit_test(test_foreign),      cmocka_unit_test(test_let_go),
		cmocka_unit_test(test_overload),     cmocka_unit_test(test_one_way),
		cmocka_unit_test(test_kept),         cmocka_unit_test(test_shutdown),
		cmocka_unit_test(test_close_sends),  cmocka_unit_test(test_close_cancels),
		cmocka_unit_test(test_close_unread), cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_too_long),     cmocka_unit_test(test_poor_device),
		cmocka_unit_test(test_many),         cmocka_unit_test(test_names),
		cmocka_unit_test(test_asleep),
	};

	return test_run("rdma_stream", tests);
}
