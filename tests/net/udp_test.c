/* SPDX-License-Identifier: MIT
 * tests/net/udp_test.c - UDP through the public API: datagrams arrive as they were pushed, with
 * their source.
 */
#include "support/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGEST 65507 /* 65535 less the headers of IPv4 and UDP; on IPv6 20 bytes more would do */

/* ---- helpers ---- */

static demi_qtoken_t pushto(int qd, demi_sgarray_t *sga, const struct net_address *to)
{
	demi_qtoken_t qt = 0;

	assert_int_equal(demi_pushto(&qt, qd, sga, &to->any, to->length), 0);
	return qt;
}

static void send_bytes(int qd, const void *bytes, uint32_t length, const struct net_address *to)
{
	demi_sgarray_t sga = net_array((void *)(uintptr_t)bytes, length);

	assert_int_equal(net_wait(pushto(qd, &sga, to)).qr_opcode, DEMI_OPC_PUSH);
}

/* Pops one datagram and compares it; *from: its source, by demi_sgaaddr. */
static demi_sgarray_t pop_datagram(int qd, const void *bytes, uint32_t length,
				   struct net_address *from)
{
	demi_qresult_t qr = net_wait(net_pop(qd));
	demi_sgarray_t sga = qr.qr_value.sga;

	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	assert_int_equal(sga.sga_numsegs, 1);
	assert_int_equal(sga.sga_segs[0].sgaseg_len, length);
	if (length > 0)
		assert_memory_equal(sga.sga_segs[0].sgaseg_buf, bytes, length);
	from->length = sizeof(from->room);
	assert_int_equal(demi_sgaaddr(&sga, &from->any, &from->length), 0);
	return sga;
}

static void expect(int qd, const void *bytes, uint32_t length, const struct net_address *source)
{
	struct net_address from;
	demi_sgarray_t sga = pop_datagram(qd, bytes, length, &from);

	assert_int_equal(from.length, source->length);
	assert_int_equal(from.any.sa_family, source->any.sa_family);
	assert_int_equal(net_port(&from), net_port(source));
	assert_int_equal(demi_sgafree(&sga), 0);
}

static int plain_udp(int domain, struct net_address *out)
{
	const struct timeval bound = {.tv_sec = NET_WAIT_S};
	int fd = socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_return_code(fd, errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound)), errno);
	*out = net_loopback(domain, 0);
	assert_return_code(bind(fd, &out->any, out->length), errno);
	assert_return_code(getsockname(fd, &out->any, &out->length), errno);
	return fd;
}

/* ---- both families ---- */

static void both(void (*test)(int domain))
{
	test(AF_INET);
	if (net_has_ipv6())
		test(AF_INET6);
}

static void there_and_back(int domain)
{
	int a = net_bound(domain, SOCK_DGRAM);
	int b = net_bound(domain, SOCK_DGRAM);
	struct net_address at_a = net_local(a);
	struct net_address at_b = net_local(b);

	assert_int_not_equal(net_port(&at_a), 0); /* port 0: one was chosen */
	assert_int_not_equal(net_port(&at_a), net_port(&at_b));
	send_bytes(a, "there", 5, &at_b);
	expect(b, "there", 5, &at_a);
	send_bytes(b, "and back", 8, &at_a);
	expect(a, "and back", 8, &at_b);
	assert_int_equal(demi_close(a), 0);
	assert_int_equal(demi_close(b), 0);
}

static void test_bound(void **state)
{
	(void)state;
	both(there_and_back);
}

/* The first push binds; the answer finds the way. */
static void unbound(int domain)
{
	int client = net_socket(domain, SOCK_DGRAM);
	int server = net_bound(domain, SOCK_DGRAM);
	struct net_address address = net_local(server);
	struct net_address from;

	send_bytes(client, "ask", 3, &address);
	demi_sgarray_t sga = pop_datagram(server, "ask", 3, &from);
	struct net_address chosen = net_local(client);
	assert_int_equal(net_port(&from), net_port(&chosen));
	assert_int_equal(net_wait(pushto(server, &sga, &from)).qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(demi_sgafree(&sga), 0);
	expect(client, "ask", 3, &address);
	assert_int_equal(demi_close(client), 0);
	assert_int_equal(demi_close(server), 0);
}

static void test_unbound_pushto(void **state)
{
	(void)state;
	both(unbound);
}

static void connected(int domain)
{
	int client = net_socket(domain, SOCK_DGRAM);
	int server = net_bound(domain, SOCK_DGRAM);
	int stranger = net_bound(domain, SOCK_DGRAM);
	struct net_address address = net_local(server);
	struct net_address strange = net_local(stranger);
	demi_sgarray_t nothing = net_array(NULL, 0);
	demi_qtoken_t qt;

	assert_int_equal(demi_push(&qt, client, &nothing), EDESTADDRREQ);
	demi_qresult_t qr = net_wait(net_connect(client, &address));
	assert_int_equal(qr.qr_opcode, DEMI_OPC_CONNECT);
	assert_int_equal(qr.qr_qd, client);
	struct net_address peer = net_peer(client);
	assert_memory_equal(&peer, &address, address.length);
	struct net_address local = net_local(client);
	(void)net_wait(net_push_bytes(client, "to the peer", 11));
	expect(server, "to the peer", 11, &local);
	/* Only the peer is heard. */
	send_bytes(stranger, "psst", 4, &local);
	send_bytes(server, "answer", 6, &local);
	expect(client, "answer", 6, &address);
	/* An address given wins over the peer; another connect replaces it. */
	send_bytes(client, "aside", 5, &strange);
	expect(stranger, "aside", 5, &local);
	(void)net_wait(net_connect(client, &strange));
	(void)net_wait(net_push_bytes(client, "new", 3));
	local = net_local(client);
	expect(stranger, "new", 3, &local);
	assert_int_equal(demi_close(client), 0);
	assert_int_equal(demi_close(server), 0);
	assert_int_equal(demi_close(stranger), 0);
}

static void test_connected(void **state)
{
	(void)state;
	both(connected);
}

static void test_disconnected(void **state)
{
	int client = net_socket(AF_INET, SOCK_DGRAM);
	int server = net_bound(AF_INET, SOCK_DGRAM);
	struct net_address address = net_local(server);
	struct net_address nobody = {.any.sa_family = AF_UNSPEC,
				     .length = sizeof(struct sockaddr_in)};
	demi_sgarray_t sga = net_array(NULL, 0);
	demi_qtoken_t qt;

	(void)state;
	(void)net_wait(net_connect(client, &address));
	(void)net_wait(net_connect(client, &nobody));
	assert_int_equal(demi_push(&qt, client, &sga), EDESTADDRREQ);
	socklen_t length = sizeof(nobody.room);
	assert_int_equal(demi_getpeername(client, &nobody.any, &length), ENOTCONN);
	assert_int_equal(demi_close(client), 0);
	assert_int_equal(demi_close(server), 0);
}

/* ---- sizes ---- */

static void sizes(int domain)
{
	static const uint32_t lengths[] = {0,    1,     2,     511,     1472, 1473,
					   9000, 16384, 65000, LARGEST, 0};
	static uint8_t bytes[LARGEST];
	int a = net_bound(domain, SOCK_DGRAM);
	int b = net_bound(domain, SOCK_DGRAM);
	struct net_address at_a = net_local(a);
	struct net_address at_b = net_local(b);

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		net_stream_fill((uint32_t)i, 0, bytes, lengths[i]);
		send_bytes(a, bytes, lengths[i], &at_b);
		expect(b, bytes, lengths[i], &at_a);
	}
	assert_int_equal(demi_close(a), 0);
	assert_int_equal(demi_close(b), 0);
}

static void test_sizes(void **state)
{
	(void)state;
	both(sizes);
}

static void too_long(int domain)
{
	const uint32_t most = domain == AF_INET ? LARGEST : LARGEST + 20;
	int a = net_bound(domain, SOCK_DGRAM);
	struct net_address at_a = net_local(a);
	demi_sgarray_t sga = demi_sgaalloc(100000);

	memset(sga.sga_segs[0].sgaseg_buf, 1, 100000);
	net_wait_failed(pushto(a, &sga, &at_a), EMSGSIZE);
	sga.sga_segs[0].sgaseg_len = most + 1;
	net_wait_failed(pushto(a, &sga, &at_a), EMSGSIZE);
	sga.sga_segs[0].sgaseg_len = most;
	assert_int_equal(net_wait(pushto(a, &sga, &at_a)).qr_opcode, DEMI_OPC_PUSH);
	expect(a, sga.sga_segs[0].sgaseg_buf, most, &at_a);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(demi_close(a), 0);
}

static void test_too_long(void **state)
{
	(void)state;
	both(too_long);
}

/* One array is one datagram. */
static void test_segments(void **state)
{
	int a = net_bound(AF_INET, SOCK_DGRAM);
	struct net_address at_a = net_local(a);
	char expected[DEMI_SGARRAY_MAXSIZE * 3];
	char letters[DEMI_SGARRAY_MAXSIZE][3];
	demi_sgarray_t sga;

	(void)state;
	for (uint32_t count = 1; count <= DEMI_SGARRAY_MAXSIZE; count++) {
		uint32_t total = 0;
		memset(&sga, 0, sizeof(sga));
		sga.sga_numsegs = count;
		for (uint32_t i = 0; i < count; i++) {
			uint32_t length = (i + count) % 4;
			char *at = i % 2 ? letters[i] : demi_malloc(3);
			memset(at, 'a' + (int)i, length);
			memset(expected + total, 'a' + (int)i, length);
			sga.sga_segs[i].sgaseg_buf = at;
			sga.sga_segs[i].sgaseg_len = length;
			total += length;
		}
		(void)net_wait(pushto(a, &sga, &at_a));
		assert_int_equal(demi_sgafree(&sga), 0);
		expect(a, expected, total, &at_a);
	}
	assert_int_equal(demi_close(a), 0);
}

/* ---- sources ---- */

static void test_source_in_ipv4(void **state)
{
	struct net_address plain_address;
	int plain = plain_udp(AF_INET, &plain_address);
	int qd = net_bound(AF_INET, SOCK_DGRAM);
	struct net_address to = net_local(qd);
	struct net_address from;

	(void)state;
	assert_int_equal(sendto(plain, "hi", 2, 0, &to.any, to.length), 2);
	demi_sgarray_t sga = pop_datagram(qd, "hi", 2, &from);
	struct sockaddr_in in = sga.sga_addr;
	assert_memory_equal(&in, &plain_address.in, sizeof(in));
	assert_memory_equal(&from.in, &plain_address.in, sizeof(in));
	/* Cut to the room that there is. */
	for (socklen_t room = 0; room < sizeof(in); room++) {
		socklen_t length = room;
		memset(&from, 0x5a, sizeof(from));
		assert_int_equal(demi_sgaaddr(&sga, &from.any, &length), 0);
		assert_int_equal(length, sizeof(in));
		assert_memory_equal(&from.in, &plain_address.in, room);
		assert_int_equal(((uint8_t *)&from)[room], 0x5a);
	}
	/* The data may be cut and moved; the address stays. */
	sga.sga_segs[0].sgaseg_buf = (char *)sga.sga_segs[0].sgaseg_buf + 1;
	sga.sga_segs[0].sgaseg_len = 1;
	from.length = sizeof(from.room);
	assert_int_equal(demi_sgaaddr(&sga, &from.any, &from.length), 0);
	demi_sgarray_t copy = sga;
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(demi_sgaaddr(&copy, &from.any, &from.length), EINVAL);
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

static void test_source_in_ipv6(void **state)
{
	struct net_address plain_address;
	struct net_address from;

	(void)state;
	if (!net_has_ipv6())
		skip_because("no IPv6 here");
	int plain = plain_udp(AF_INET6, &plain_address);
	int qd = net_bound(AF_INET6, SOCK_DGRAM);
	struct net_address to = net_local(qd);
	assert_int_equal(sendto(plain, "hi", 2, 0, &to.any, to.length), 2);
	demi_sgarray_t sga = pop_datagram(qd, "hi", 2, &from);
	struct sockaddr_in in = sga.sga_addr;
	assert_int_equal(in.sin_family, 0);
	assert_int_equal(from.length, sizeof(struct sockaddr_in6));
	assert_int_equal(from.in6.sin6_port, plain_address.in6.sin6_port);
	assert_memory_equal(&from.in6.sin6_addr, &in6addr_loopback, sizeof(in6addr_loopback));
	assert_int_equal(demi_sgafree(&sga), 0);
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

/* What was not popped as a datagram has no source, however its bytes look. */
static void test_no_source(void **state)
{
	struct sockaddr_in looks = {.sin_family = AF_INET, .sin_port = 1};
	struct net_address from = {.length = sizeof(from.room)};
	struct net_pair pair = net_tcp_pair(AF_INET);
	int memory = -1;

	(void)state;
	demi_sgarray_t sga = demi_sgaalloc(sizeof(looks) + 1);
	char *bytes = sga.sga_segs[0].sgaseg_buf;
	memcpy(bytes, &looks, sizeof(looks));
	assert_int_equal(demi_sgaaddr(&sga, &from.any, &from.length), EINVAL);
	assert_int_equal(demi_queue(&memory), 0);
	for (uint32_t offset = 0; offset < 2; offset++) { /* an odd address, too */
		demi_sgarray_t part = net_array(bytes + offset, sizeof(looks));
		const int qds[][2] = {{memory, memory}, {pair.client, pair.server}};
		for (int i = 0; i < 2; i++) {
			(void)net_wait(net_push(qds[i][0], &part));
			demi_qresult_t qr = net_wait(net_pop(qds[i][1]));
			struct sockaddr_in in = qr.qr_value.sga.sga_addr;
			assert_int_equal(in.sin_family, 0);
			assert_int_equal(demi_sgaaddr(&qr.qr_value.sga, &from.any, &from.length),
					 EINVAL);
			assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
		}
	}
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(demi_close(memory), 0);
	net_close_pair(&pair);
}

/* ---- faults ---- */

static void refused(int domain)
{
	struct net_address nobody;
	int fd = plain_udp(domain, &nobody);
	int qd = net_socket(domain, SOCK_DGRAM);

	(void)close(fd);
	(void)net_wait(net_connect(qd, &nobody));
	demi_qtoken_t popping = net_pop(qd);
	assert_int_equal(net_wait(net_push_bytes(qd, "x", 1)).qr_opcode, DEMI_OPC_PUSH);
	net_wait_failed(popping, ECONNREFUSED);
	/* The socket lives on. */
	popping = net_pop(qd);
	net_assert_pending(popping);
	(void)net_wait(net_push_bytes(qd, "x", 1));
	net_wait_failed(popping, ECONNREFUSED);
	assert_int_equal(demi_close(qd), 0);
}

static void test_refused(void **state)
{
	(void)state;
	both(refused);
}

static void test_wrong_family(void **state)
{
	int qd = net_socket(AF_INET, SOCK_DGRAM);
	struct net_address six = net_loopback(AF_INET6, 9);
	demi_sgarray_t sga = net_array(NULL, 0);

	(void)state;
	net_wait_failed(pushto(qd, &sga, &six), EAFNOSUPPORT);
	assert_int_equal(demi_close(qd), 0);
}

static void test_shutdown(void **state)
{
	int server = net_bound(AF_INET, SOCK_DGRAM);
	struct net_address address = net_local(server);
	int qd = net_socket(AF_INET, SOCK_DGRAM);
	demi_sgarray_t sga = net_array(NULL, 0);
	demi_qtoken_t qt;

	(void)state;
	(void)net_wait(net_connect(qd, &address));
	assert_int_equal(demi_shutdown(qd, SHUT_WR), 0);
	assert_int_equal(demi_push(&qt, qd, &sga), EPIPE);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_close(server), 0);
}

/* ---- many ---- */

static void test_many_in_flight(void **state)
{
	enum { MANY = 200 };

	static demi_qtoken_t pops[MANY];
	static demi_qtoken_t pushes[MANY];
	static demi_qresult_t qrs[MANY];
	static const struct timespec bound = {.tv_sec = NET_WAIT_S};
	int a = net_bound(AF_INET, SOCK_DGRAM);
	int b = net_bound(AF_INET, SOCK_DGRAM);
	struct net_address at_b = net_local(b);
	int room = 4 << 20;

	(void)state;
	assert_int_equal(demi_setsockopt(b, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
	for (int i = 0; i < MANY / 2; i++)
		pops[i] = net_pop(b);
	for (uint32_t i = 0; i < MANY; i++) {
		demi_sgarray_t sga = demi_sgaalloc(sizeof(i));
		memcpy(sga.sga_segs[0].sgaseg_buf, &i, sizeof(i));
		pushes[i] = pushto(a, &sga, &at_b);
		assert_int_equal(demi_sgafree(&sga), 0);
	}
	for (int i = MANY / 2; i < MANY; i++)
		pops[i] = net_pop(b);
	assert_int_equal(demi_wait_all(qrs, pushes, MANY, &bound), 0);
	assert_int_equal(demi_wait_all(qrs, pops, MANY, &bound), 0);
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(qrs[i].qr_opcode, DEMI_OPC_POP);
		assert_int_equal(net_array_bytes(&qrs[i].qr_value.sga), sizeof(i));
		assert_memory_equal(qrs[i].qr_value.sga.sga_segs[0].sgaseg_buf, &i, sizeof(i));
		assert_int_equal(demi_sgafree(&qrs[i].qr_value.sga), 0);
	}
	assert_int_equal(demi_close(a), 0);
	assert_int_equal(demi_close(b), 0);
}

static void test_cancel_and_close(void **state)
{
	int qd = net_bound(AF_INET, SOCK_DGRAM);
	demi_qtoken_t first = net_pop(qd);
	demi_qtoken_t second = net_pop(qd);

	(void)state;
	assert_int_equal(demi_cancel(first), 0);
	net_wait_failed(first, ECANCELED);
	assert_int_equal(demi_close(qd), 0);
	net_wait_failed(second, ECANCELED);
}

#define WITH_INSTANCE(test) cmocka_unit_test_setup_teardown(test, net_init, net_fini)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH_INSTANCE(test_bound),
		WITH_INSTANCE(test_unbound_pushto),
		WITH_INSTANCE(test_connected),
		WITH_INSTANCE(test_disconnected),
		WITH_INSTANCE(test_sizes),
		WITH_INSTANCE(test_too_long),
		WITH_INSTANCE(test_segments),
		WITH_INSTANCE(test_source_in_ipv4),
		WITH_INSTANCE(test_source_in_ipv6),
		WITH_INSTANCE(test_no_source),
		WITH_INSTANCE(test_refused),
		WITH_INSTANCE(test_wrong_family),
		WITH_INSTANCE(test_shutdown),
		WITH_INSTANCE(test_many_in_flight),
		WITH_INSTANCE(test_cancel_and_close),
	};

	return test_run("udp", tests);
}
