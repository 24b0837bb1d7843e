/* SPDX-License-Identifier: MIT
 * tests/unit/net_udp_filter_test.c - filters of UDP sockets in the device: what it is told, and
 * when that ends.
 */
#include "support/link.h"

#include "base/cbpf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

/* What the device was told last, and how often. */
static struct {
	uint32_t calls;
	int err; /* what it says */
	uint16_t port;
	uint32_t count;
	struct sock_filter program[CBPF_MAX];
} told;

static int device_filter(struct netdev *dev, uint16_t port, const struct sock_filter *program,
			 uint32_t count)
{
	(void)dev;
	told.calls++;
	told.port = port;
	told.count = count;
	if (count > 0) {
		assert_int_equal(cbpf_check(program, count), 0);
		memcpy(told.program, program, count * sizeof(*program));
	}
	return told.err;
}

/* What passes: datagrams from port 7. */
static const struct sock_filter from_7[] = {
	{BPF_LD | BPF_H | BPF_ABS, 0, 0, 4},
	{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 7},
	{BPF_RET | BPF_K, 0, 0, 1},
	{BPF_RET | BPF_K, 0, 0, 0},
};

static bool passes(const char *to, uint16_t port)
{
	const struct ip_address local = link_address(to);
	struct cbpf_record record = {
		.head = {.port = htons(port), .version = ip_is_v4(&local) ? 4 : 6},
		.is_datagram = true,
	};

	memcpy(record.head.local_address, local.bytes, 16);
	return cbpf_run(told.program, &record);
}

static struct link *open_link(void)
{
	struct link *link = link_open(NULL);

	memset(&told, 0, sizeof(told));
	link->dev.filter = device_filter;
	return link;
}

static struct udp_socket *bound(struct link *link, int domain, const char *address, uint16_t port)
{
	const struct ip_address a = link_address(address);
	const int yes = 1;
	struct udp_socket *socket;

	assert_int_equal(udp_socket_new(&link->net, domain, &socket), 0);
	assert_int_equal(udp_socket_set_option(socket, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)),
			 0);
	assert_int_equal(udp_socket_bind(socket, &a, port), 0);
	return socket;
}

static int filter(struct udp_socket *socket)
{
	return udp_socket_filter(socket, from_7, sizeof(from_7) / sizeof(*from_7));
}

/* Only what is for the socket is judged. */
static void test_what_the_device_is_told(void **state)
{
	(void)state;

	static const struct {
		int domain;
		const char *address;
		bool judged[4]; /* to 10.0.0.2, 10.0.0.3, fd00::2, fd00::3 */
	} cases[] = {
		{AF_INET, "10.0.0.2", {true, false, false, false}},
		{AF_INET6, "fd00::2", {false, false, true, false}},
		{AF_INET, "0.0.0.0", {true, true, false, false}},
		{AF_INET6, "::", {true, true, true, true}},
	};

	static const char *const to[] = {"10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3"};
	struct link *link = open_link();
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct udp_socket *socket = bound(link, cases[i].domain, cases[i].address, 53);
		assert_int_equal(filter(socket), 0);
		assert_true(udp_socket_filtered(socket));
		assert_int_equal(told.port, 53);
		for (uint32_t j = 0; j < 4; j++) {
			if (!passes(to[j], 7) || passes(to[j], 8) == cases[i].judged[j])
				fail_msg("%s: %s", cases[i].address, to[j]);
		}
		udp_check(&link->net);
		udp_socket_close(socket);
		assert_int_equal(told.count, 0);
	}
	link_close(link);
}

static void test_a_socket_of_ipv6_alone(void **state)
{
	(void)state;
	struct link *link = open_link();
	const struct ip_address any = link_address("::");
	const int yes = 1;
	struct udp_socket *socket;
	assert_int_equal(udp_socket_new(&link->net, AF_INET6, &socket), 0);
	assert_int_equal(
		udp_socket_set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)), 0);
	assert_int_equal(udp_socket_bind(socket, &any, 53), 0);
	assert_int_equal(filter(socket), 0);
	assert_true(passes("10.0.0.2", 8));
	assert_false(passes("fd00::2", 8));
	udp_socket_close(socket);
	link_close(link);
}

static void test_what_is_refused(void **state)
{
	(void)state;
	struct link *link = open_link();
	static struct sock_filter longest[CBPF_MAX];
	const struct ip_address peer = link_address("10.0.0.1");
	struct udp_socket *socket;
	assert_int_equal(udp_socket_new(&link->net, AF_INET, &socket), 0);
	assert_int_equal(filter(socket), -ENOTSUP); /* no port */
	assert_int_equal(udp_socket_connect(socket, &peer, 9), 0);
	assert_int_equal(filter(socket), -ENOTSUP);
	udp_socket_close(socket);
	socket = bound(link, AF_INET, "10.0.0.2", 53);
	for (uint32_t i = 0; i < CBPF_MAX; i++)
		longest[i] = (struct sock_filter){.code = BPF_RET | BPF_K, .k = 1};
	assert_int_equal(udp_socket_filter(socket, longest, CBPF_MAX), -E2BIG);
	assert_int_equal(udp_socket_filter(socket, longest, CBPF_MAX - 8), -E2BIG);
	assert_int_equal(told.calls, 0);
	assert_int_equal(udp_socket_filter(socket, longest, CBPF_MAX - 9), 0);
	assert_int_equal(udp_socket_filter(socket, NULL, 0), 0);
	told.err = -ENOSPC;
	assert_int_equal(filter(socket), -ENOSPC);
	assert_false(udp_socket_filtered(socket));
	link->dev.filter = NULL;
	assert_int_equal(filter(socket), -ENOTSUP);
	assert_int_equal(udp_socket_filter(socket, NULL, 0), 0);
	udp_socket_close(socket);
	link_close(link);
}

/* It is taken away once, by the first that makes it wrong. */
static void expect_end(struct udp_socket *socket, uint32_t calls)
{
	assert_int_equal(told.calls, calls + 1);
	assert_int_equal(told.count, 0);
	assert_int_equal(told.port, 53);
	assert_false(udp_socket_filtered(socket));
}

static void test_when_it_ends(void **state)
{
	(void)state;
	struct link *link = open_link();
	const struct ip_address peer = link_address("10.0.0.1");
	struct udp_socket *socket = bound(link, AF_INET, "0.0.0.0", 53);
	assert_int_equal(filter(socket), 0);
	struct udp_socket *elsewhere = bound(link, AF_INET, "0.0.0.0", 54);
	assert_true(udp_socket_filtered(socket));
	assert_int_equal(udp_socket_filter(socket, NULL, 0), 0);
	expect_end(socket, 1);
	assert_int_equal(filter(socket), 0);
	struct udp_socket *other = bound(link, AF_INET6, "fd00::2", 53);
	expect_end(socket, 3);
	assert_int_equal(filter(socket), -ENOTSUP);
	assert_int_equal(filter(other), -ENOTSUP);
	udp_socket_close(other);
	assert_int_equal(filter(socket), 0);
	assert_int_equal(udp_socket_connect(socket, &peer, 9), 0);
	expect_end(socket, 5);
	assert_int_equal(filter(socket), -ENOTSUP);
	const struct ip_address nobody = link_address("0.0.0.0");
	assert_int_equal(udp_socket_connect(socket, &nobody, 0), 0);
	assert_int_equal(filter(socket), 0);
	udp_check(&link->net);
	told.calls = 0;
	udp_socket_close(socket);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.count, 0);
	udp_socket_close(elsewhere);
	assert_int_equal(told.calls, 1);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_device_is_told),
		cmocka_unit_test(test_a_socket_of_ipv6_alone),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_when_it_ends),
	};

	return test_run("net_udp_filter", tests);
}
