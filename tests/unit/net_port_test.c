/* SPDX-License-Identifier: MIT
 * tests/unit/net_port_test.c - addresses that the kernel has too: only some ports are ours, and the
 * kernel answers for the rest.
 */
#include "support/link.h"

#include "net/neighbour.h"
#include "net/wire/ether.h"

#include <errno.h>
#include <string.h>

#define OUR_LINK_LOCAL "fe80::4:1"

static const struct netdev_ports ports[] = {
	{.protocol = IP_UDP, .first = 53, .last = 53},
	{.protocol = IP_UDP, .first = 5000, .last = 5003},
	{.protocol = IP_TCP, .first = 80, .last = 80},
	{.protocol = IP_UDP, .first = 60000, .last = 60001},
};

static void shared(struct link *link)
{
	link->dev.ports = ports;
	link->dev.num_ports = ARRAY_LENGTH(ports);
	link_set(link->rig.sched.config.addresses, "10.0.0.2/24,fd00::2/64," OUR_LINK_LOCAL "/64");
}

static void with_our_own_link_local(struct link *link)
{
	shared(link);
	link_set(link->rig.sched.config.addresses, "10.0.0.2/24,fd00::2/64");
}

static struct neighbour *ask(struct link *link, const char *address)
{
	const struct ip_address a = link_address(address);

	return neighbour_get(&link->net, &a);
}

/* Nothing shared: all ports are ours, and Linux's ephemeral range is to choose from. */
static void test_all_ports(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	assert_true(net_port_is_ours(&link->net, IP_UDP, 1));
	assert_true(net_port_is_ours(&link->net, IP_TCP, 65535));
	assert_int_equal(net_port_count(&link->net, IP_TCP), 60999 - 32768 + 1);
	assert_int_equal(net_port_choice(&link->net, IP_TCP, 0), 32768);
	assert_int_equal(net_port_choice(&link->net, IP_UDP, 60999 - 32768), 60999);
	link_close(link);
}

static void test_some_ports(void **state)
{
	static const uint16_t chosen[] = {5000, 5001, 5002, 5003, 60000, 60001};
	struct link *link = link_open(shared);

	(void)state;
	assert_true(net_port_is_ours(&link->net, IP_UDP, 53));
	assert_true(net_port_is_ours(&link->net, IP_UDP, 5000));
	assert_true(net_port_is_ours(&link->net, IP_UDP, 5003));
	assert_false(net_port_is_ours(&link->net, IP_UDP, 4999));
	assert_false(net_port_is_ours(&link->net, IP_UDP, 5004));
	assert_false(net_port_is_ours(&link->net, IP_TCP, 53));
	assert_false(net_port_is_ours(&link->net, IP_UDP, 80));
	assert_true(net_port_is_ours(&link->net, IP_TCP, 80));
	assert_int_equal(net_port_count(&link->net, IP_UDP), ARRAY_LENGTH(chosen));
	for (uint32_t i = 0; i < ARRAY_LENGTH(chosen); i++)
		assert_int_equal(net_port_choice(&link->net, IP_UDP, i), chosen[i]);
	assert_int_equal(net_port_count(&link->net, IP_TCP), 0); /* 80 is a server's */
	link_close(link);
}

static void test_bind(void **state)
{
	const struct ip_address any = ip_from_v4(0);
	struct link *link = link_open(shared);
	struct udp_socket *sockets[7];
	uint64_t seen = 0;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(sockets); i++) {
		struct ip_address address;
		uint16_t port;
		assert_int_equal(udp_socket_new(&link->net, AF_INET, &sockets[i]), 0);
		assert_int_equal(udp_socket_bind(sockets[i], &any, 54), -EACCES);
		if (i == 6)
			break;
		assert_int_equal(udp_socket_bind(sockets[i], &any, 0), 0);
		udp_socket_local(sockets[i], &address, &port);
		assert_true(net_port_is_ours(&link->net, IP_UDP, port) && port != 53);
		seen |= 1ULL << port % 64;
	}
	assert_int_equal(__builtin_popcountll(seen), 6);
	assert_int_equal(udp_socket_bind(sockets[6], &any, 0), -EADDRINUSE);
	assert_int_equal(udp_socket_bind(sockets[6], &any, 53), 0);
	for (uint32_t i = 0; i < ARRAY_LENGTH(sockets); i++)
		udp_socket_close(sockets[i]);
	link_close(link);
}

/* Sockets without a port when there is none to choose. */
static void test_no_port(void **state)
{
	const struct ip_address any = ip_from_v4(0);
	struct link *link = link_open(shared);
	struct udp_socket *socket;

	(void)state;
	link->dev.num_ports = 1;
	assert_int_equal(udp_socket_new(&link->net, AF_INET, &socket), 0);
	assert_int_equal(udp_socket_bind(socket, &any, 0), -EADDRINUSE);
	udp_socket_close(socket);
	link_close(link);
}

/* Of several instances at one link: a port to which the answer comes here. */
static void test_answered_port(void **state)
{
	const struct ip_address peer = link_address("10.0.0.1");
	struct link *link = link_open(NULL);

	(void)state;
	link->nth_of = 64;
	for (uint32_t i = 0; i < 20; i++) {
		struct udp_socket *socket;
		struct ip_address address;
		uint16_t port;
		assert_int_equal(udp_socket_new(&link->net, AF_INET, &socket), 0);
		assert_int_equal(i % 2 ? udp_socket_connect(socket, &peer, 53)
				       : udp_socket_bind_for(socket, &peer, &peer, 53),
				 0);
		udp_socket_local(socket, &address, &port);
		assert_true(port > 0 && port % 64 == 0);
		udp_socket_close(socket);
	}
	link_close(link);
}

/* All addresses are told to the device, no IPv4 address is announced. */
static void test_no_announcement(void **state)
{
	const struct link_frame *sent;
	struct link *link;

	(void)state;
	assert_int_equal(link_try_open(&link, shared), 0);
	net_flush(&link->net);
	while ((sent = link_next(link)))
		assert_false(sent->bytes[12] == 0x08 && sent->bytes[13] == 0x06);
	link_steered(link, "10.0.0.2", true);
	link_steered(link, "fd00::2", true);
	link_steered(link, OUR_LINK_LOCAL, true);
	link_close(link);
}

/* RFC 5227 2.1.1: questions as from nobody; answers to nobody are for us, all else is the
 * kernel's, whoever claims our address, too. */
static void test_arp(void **state)
{
	static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};
	struct link *link = link_open(shared);

	(void)state;
	struct neighbour *n = ask(link, "10.0.0.1");
	const struct link_frame *question = link_next(link);
	assert_non_null(question);
	struct cursor c = cursor_over(question->bytes, question->length);
	struct arp arp;
	cursor_skip(&c, ETHER_HEADER_BYTES);
	assert_int_equal(arp_parse(&c, &arp), DROP_NONE);
	assert_int_equal(arp.operation, ARP_REQUEST);
	assert_int_equal(arp.sender, 0);
	assert_true(arp.target == link_address("10.0.0.1").words[3]);
	assert_memory_equal(arp.sender_mac, link_mac, 6);

	link_arrive_arp(link, ARP_REPLY, other_mac, "10.0.0.1", "10.0.0.2");
	link_arrive_arp(link, ARP_REQUEST, other_mac, "10.0.0.1", "0.0.0.0");
	link_arrive_arp(link, ARP_REQUEST, other_mac, "10.0.0.1", "10.0.0.2");
	link_arrive_arp(link, ARP_REPLY, other_mac, "10.0.0.2", "0.0.0.0");
	assert_int_equal(n->state, NEIGHBOUR_INCOMPLETE);
	assert_int_equal(link_drops(link, DROP_ARP_UNASKED), 4);
	assert_int_equal(link_drops(link, DROP_ADDRESS_CONFLICT), 0);
	link_arrive_arp(link, ARP_REPLY, link_peer_mac, "10.0.0.1", "0.0.0.0");
	assert_int_equal(n->state, NEIGHBOUR_REACHABLE);
	assert_memory_equal(n->mac, link_peer_mac, 6);
	link_quiet(link);
	link_close(link);
}

/* Neighbours are asked from the address that is ours alone. */
static void test_solicitation(void **state)
{
	struct link *link = link_open(shared);
	const struct ip_address from = link_address(OUR_LINK_LOCAL);
	struct link_packet packet;

	(void)state;
	(void)ask(link, "fd00::1");
	(void)link_next_icmp(link, ICMPV6_NEIGHBOR_SOLICITATION, 0, &packet);
	assert_true(ip_equal(&packet.ip.from, &from));
	link_close(link);
	link = link_open(with_our_own_link_local);
	(void)ask(link, "fd00::1");
	(void)link_next_icmp(link, ICMPV6_NEIGHBOR_SOLICITATION, 0, &packet);
	assert_true(ip_is_link_local(&packet.ip.from));
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_ports),     cmocka_unit_test(test_some_ports),
		cmocka_unit_test(test_bind),          cmocka_unit_test(test_no_port),
		cmocka_unit_test(test_answered_port), cmocka_unit_test(test_no_announcement),
		cmocka_unit_test(test_arp),           cmocka_unit_test(test_solicitation),
	};

	return test_run("net_port", tests);
}
