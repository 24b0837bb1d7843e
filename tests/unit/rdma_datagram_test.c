/* SPDX-License-Identifier: MIT
 * tests/unit/rdma_datagram_test.c - transport/rdma: datagrams over UD queue pairs, by address.
 */
#include "support/fabric_peer.h"
#include "support/mint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define PORT 9000
#define MAX  (1024 - 32) /* the fabric's MTU less our header */

struct pair {
	struct mint mint;
	struct mint_host *client;
	struct mint_host *server;
	int client_qd;
	int server_qd;
};

static int datagram_socket(const struct mint_host *host)
{
	int qd;

	mint_enter(host);
	assert_int_equal(demi_socket(&qd, AF_INET, SOCK_DGRAM, 0), 0);
	return qd;
}

static struct sockaddr_in address(uint32_t host, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	in.sin_addr.s_addr = host ? htonl(0x0a000000 + host) : 0;
	return in;
}

static void bind_to(const struct mint_host *host, int qd, uint32_t address_of, uint16_t port)
{
	struct sockaddr_in in = address(address_of, port);

	mint_enter(host);
	assert_int_equal(demi_bind(qd, (struct sockaddr *)&in, sizeof(in)), 0);
}

static void open_pair(struct pair *pair)
{
	static const struct fabric_options options = {.seed = 1, .jitter_ns = 300};

	mint_open(&pair->mint, &options);
	pair->client = mint_add(&pair->mint, NULL);
	pair->server = mint_add(&pair->mint, NULL);
	pair->client_qd = datagram_socket(pair->client);
	pair->server_qd = datagram_socket(pair->server);
}

static void close_pair(struct pair *pair)
{
	if (pair->client_qd >= 0)
		mint_close_qd(pair->client, pair->client_qd);
	if (pair->server_qd >= 0)
		mint_close_qd(pair->server, pair->server_qd);
	mint_pass(&pair->mint, 2 * FABRIC_S);
	assert_int_equal(pair->client->engine->num_lingering, 0);
	mint_close(&pair->mint);
}

static int push_to(struct mint_host *host, int qd, const struct sockaddr_in *to, uint32_t bytes,
		   uint8_t seed)
{
	demi_sgarray_t sga = mint_array(host, bytes, seed);
	demi_qresult_t result;
	demi_qtoken_t qt;
	int err = to ? demi_pushto(&qt, qd, &sga, (const struct sockaddr *)to, sizeof(*to))
		     : demi_push(&qt, qd, &sga);

	mint_free(host, &sga);
	return err ? err : mint_wait(host, qt, &result);
}

/* The sender's address. */
static struct sockaddr_in expect(struct mint_host *host, int qd, uint32_t bytes, uint8_t seed)
{
	demi_qresult_t result;

	assert_int_equal(mint_wait(host, mint_pop(host, qd), &result), 0);
	assert_true(mint_holds(&result.qr_value.sga, bytes, seed));
	struct sockaddr_in from;
	memcpy(&from, &result.qr_value.sga.sga_addr, sizeof(from));
	mint_free(host, &result.qr_value.sga);
	return from;
}

/* There and back, by the address that came with it. */
static void there_and_back(struct pair *pair, uint32_t bound_to)
{
	static const uint32_t sizes[] = {0, 1, 100, 500, MAX};
	struct sockaddr_in to = address(2, PORT);

	if (bound_to != 0xffff) /* it is */
		bind_to(pair->server, pair->server_qd, bound_to, PORT);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(push_to(pair->client, pair->client_qd, &to, sizes[i], (uint8_t)i),
				 0);
		struct sockaddr_in from =
			expect(pair->server, pair->server_qd, sizes[i], (uint8_t)i);
		assert_int_equal(from.sin_addr.s_addr, htonl(0x0a000001));
		assert_int_equal(
			push_to(pair->server, pair->server_qd, &from, sizes[i], (uint8_t)(i + 9)),
			0);
		from = expect(pair->client, pair->client_qd, sizes[i], (uint8_t)(i + 9));
		assert_int_equal(from.sin_addr.s_addr, htonl(0x0a000002));
		assert_int_equal(from.sin_port, htons(PORT));
	}
}

static void test_echo(void **state)
{
	struct pair pair;

	(void)state;
	for (uint32_t bound_to = 0; bound_to <= 2; bound_to += 2) {
		open_pair(&pair);
		there_and_back(&pair, bound_to);
		close_pair(&pair);
	}
}

static void test_connected(void **state)
{
	struct sockaddr_in to = address(2, PORT);
	struct pair pair;
	demi_qresult_t result;
	demi_qtoken_t qt;

	(void)state;
	open_pair(&pair);
	assert_int_equal(push_to(pair.client, pair.client_qd, NULL, 10, 1), EDESTADDRREQ);
	bind_to(pair.server, pair.server_qd, 2, PORT);
	mint_enter(pair.client);
	assert_int_equal(demi_connect(&qt, pair.client_qd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(mint_wait(pair.client, qt, &result), 0);
	for (uint32_t n = 0; n < 200; n++) { /* the send queue goes round */
		assert_int_equal(push_to(pair.client, pair.client_qd, NULL, 100, (uint8_t)n), 0);
		(void)expect(pair.server, pair.server_qd, 100, (uint8_t)n);
	}
	assert_int_equal(push_to(pair.client, pair.client_qd, NULL, MAX + 1, 1), EMSGSIZE);
	mint_enter(pair.client);
	assert_int_equal(demi_shutdown(pair.client_qd, SHUT_WR), 0);
	assert_int_equal(push_to(pair.client, pair.client_qd, NULL, 10, 1), EPIPE);
	close_pair(&pair);
}

static void test_nobody(void **state)
{
	struct sockaddr_in to = address(2, PORT);
	struct pair pair;

	(void)state;
	open_pair(&pair);
	assert_int_equal(push_to(pair.client, pair.client_qd, &to, 10, 1), ECONNREFUSED);
	bind_to(pair.server, pair.server_qd, 2, PORT);
	assert_int_equal(push_to(pair.client, pair.client_qd, &to, 10, 1), 0);
	(void)expect(pair.server, pair.server_qd, 10, 1);
	close_pair(&pair);
}

/* Many at once: they wait for the address and for room; some may be lost, none twice. */
static void test_burst(void **state)
{
	enum { COUNT = 100 };
	struct sockaddr_in to = address(2, PORT);
	demi_qtoken_t pushes[COUNT];
	struct pair pair;
	demi_qresult_t result;

	(void)state;
	open_pair(&pair);
	bind_to(pair.server, pair.server_qd, 2, PORT);
	for (uint32_t n = 0; n < COUNT; n++) {
		demi_sgarray_t sga = mint_array(pair.client, 50, (uint8_t)n);
		assert_int_equal(demi_pushto(&pushes[n], pair.client_qd, &sga,
					     (struct sockaddr *)&to, sizeof(to)),
				 0);
		mint_free(pair.client, &sga);
	}
	assert_int_equal(demi_cancel(pushes[COUNT - 1]), 0);
	for (uint32_t n = 0; n < COUNT - 1; n++)
		assert_int_equal(mint_wait(pair.client, pushes[n], &result), 0);
	assert_int_equal(mint_wait(pair.client, pushes[COUNT - 1], &result), ECANCELED);
	mint_pass(&pair.mint, FABRIC_MS);
	uint32_t last = 0;
	demi_qtoken_t pop = mint_pop(pair.server, pair.server_qd);
	uint32_t got = 0;
	while (mint_try(pair.server, pop, &result)) {
		uint8_t seed = *(uint8_t *)result.qr_value.sga.sga_segs[0].sgaseg_buf;
		assert_true(got == 0 || seed > last);
		assert_true(mint_holds(&result.qr_value.sga, 50, seed));
		last = seed;
		got++;
		mint_free(pair.server, &result.qr_value.sga);
		pop = mint_pop(pair.server, pair.server_qd);
	}
	assert_true(got >= 64);
	close_pair(&pair);
}

/* Closed at once, or when the device goes, with datagrams under way. */
static void test_ends(void **state)
{
	struct sockaddr_in to = address(2, PORT);
	struct pair pair;

	(void)state;
	for (uint32_t step = 0; step < 30; step++) {
		for (uint32_t how = 0; how < 3; how++) {
			demi_qtoken_t qt;
			open_pair(&pair);
			bind_to(pair.server, pair.server_qd, 2, PORT);
			for (uint32_t n = 0; n < 40; n++) {
				demi_sgarray_t sga = mint_array(pair.client, 50, (uint8_t)n);
				assert_int_equal(demi_pushto(&qt, pair.client_qd, &sga,
							     (struct sockaddr *)&to, sizeof(to)),
						 0);
				mint_free(pair.client, &sga);
			}
			for (uint32_t n = 0; n < step; n++)
				(void)mint_step(&pair.mint);
			if (how == 0) {
				mint_close_qd(pair.client, pair.client_qd);
				pair.client_qd = -1;
			} else if (how == 1) {
				fabric_remove(pair.client->device);
			} else {
				mint_close_qd(pair.server, pair.server_qd);
				pair.server_qd = -1;
			}
			mint_pass(&pair.mint, FABRIC_MS);
			close_pair(&pair);
		}
	}
}

/* Whatever a stranger sends is dropped, unless it is one of ours. */
static void test_stranger(void **state)
{
	struct fabric_peer peer;
	struct pair pair;
	struct ibv_ah_attr attr;

	(void)state;
	open_pair(&pair);
	bind_to(pair.server, pair.server_qd, 2, PORT);
	struct mint_host *bare = mint_add_device(&pair.mint);
	fabric_peer_open(&peer, pair.mint.fabric, bare->device, false);
	fabric_peer_connect(&peer, RDMA_PS_UDP, "10.0.0.2", PORT);
	(void)fabric_peer_event(&peer);
	const struct rdma_cm_event *event = NULL;
	while (!event) {
		(void)mint_step(&pair.mint);
		event = fabric_peer_event(&peer);
	}
	assert_int_equal(event->event, RDMA_CM_EVENT_ESTABLISHED);
	uint32_t qp_num = event->param.ud.qp_num;
	attr = event->param.ud.ah_attr;
	(void)fabric_peer_event(&peer);
	struct ibv_ah *ah = peer.verbs->create_ah(peer.pd, &attr);
	for (uint32_t bytes = 0; bytes < 60; bytes++) {
		struct ibv_send_wr wr = {.opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED};
		memset(peer.memory, (int)bytes, 64);
		if (bytes > 50) /* right, but for its length */
			memcpy(peer.memory, "\x64\x75\x11\x11\x05\0\0\0\x04\0\0\0\0\0\0\0", 16);
		wr.wr.ud.ah = ah;
		wr.wr.ud.remote_qpn = qp_num;
		wr.wr.ud.remote_qkey = RDMA_UDP_QKEY;
		assert_int_equal(fabric_peer_post(&peer, &wr, 0, bytes), 0);
		mint_pass(&pair.mint, FABRIC_MS);
		struct ibv_wc wc;
		while (fabric_peer_poll(&peer, &wc))
			;
	}
	struct queue_info info;
	mint_enter(pair.server);
	struct queue *queue = queue_find(&pair.server->demi->queues, pair.server_qd);
	queue->ops->describe(queue, &info);
	assert_int_equal(info.elements, 0);
	assert_int_equal(pair.server->demi->sched.counters.drops[DROP_UDP_BAD], 60);
	assert_int_equal(peer.verbs->destroy_ah(ah), 0);
	fabric_peer_close(&peer);
	there_and_back(&pair, 0xffff);
	close_pair(&pair);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),   cmocka_unit_test(test_connected),
		cmocka_unit_test(test_nobody), cmocka_unit_test(test_burst),
		cmocka_unit_test(test_ends),   cmocka_unit_test(test_stranger),
	};

	return test_run("rdma_datagram", tests);
}
