/* SPDX-License-Identifier: MIT
 * tests/unit/net_udp_group_test.c - UDP sockets and groups: memberships, who gets what is sent to
 * a multicast or broadcast address, what comes back to ourselves, options.
 */
#include "support/link.h"

#include "net/group.h"
#include "net/udp_socket.h"
#include "net/wire/ether.h"
#include "net/wire/udp.h"

#include <errno.h>
#include <string.h>

#define GROUP_A "239.1.2.3"
#define GROUP_B "239.1.2.4"
#define GROUP_6 "ff15::1:2:3"

/* ---- helpers ---- */

static struct udp_socket *open_socket(struct link *link, int domain)
{
	struct udp_socket *socket;

	assert_int_equal(udp_socket_new(&link->net, domain, &socket), 0);
	return socket;
}

static int set_int(struct udp_socket *socket, int level, int name, int value)
{
	return udp_socket_set_option(socket, level, name, &value, sizeof(value));
}

static int get_int(struct udp_socket *socket, int level, int name)
{
	int value = -77;
	socklen_t length = sizeof(value);

	assert_int_equal(udp_socket_get_option(socket, level, name, &value, &length), 0);
	assert_int_equal(length, sizeof(value));
	return value;
}

/* Bound with SO_REUSEADDR. */
static struct udp_socket *bound(struct link *link, int domain, const char *address, uint16_t port)
{
	struct udp_socket *socket = open_socket(link, domain);
	const struct ip_address a = link_address(address);

	assert_int_equal(set_int(socket, SOL_SOCKET, SO_REUSEADDR, 1), 0);
	assert_int_equal(udp_socket_bind(socket, &a, port), 0);
	return socket;
}

static int member(struct udp_socket *socket, const char *group, bool wanted)
{
	const struct ip_address a = link_address(group);
	struct ip_mreq v4 = {.imr_multiaddr.s_addr = a.words[3]};
	struct ipv6_mreq v6 = {.ipv6mr_interface = 0};

	if (ip_is_v4(&a))
		return udp_socket_set_option(socket, IPPROTO_IP,
					     wanted ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &v4,
					     sizeof(v4));
	memcpy(&v6.ipv6mr_multiaddr, a.bytes, 16);
	return udp_socket_set_option(socket, IPPROTO_IPV6,
				     wanted ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &v6, sizeof(v6));
}

static void arrive(struct link *link, const char *from, const char *to, uint16_t port)
{
	struct link_made made = link_make_udp(from, 9, to, port, "hello", 5);

	link_arrive_made(link, &made);
}

/* Takes what is queued; returns how many, each this text. */
static uint32_t drain(struct link *link, struct udp_socket *socket, const void *text,
		      uint32_t length)
{
	uint32_t count = udp_socket_queued(socket);

	for (uint32_t i = 0; i < count; i++) {
		struct op *op = op_issue(&link->rig.sched, OP_POP, 1);
		struct op *done;
		assert_int_equal(udp_socket_pop(socket, op), 0);
		assert_int_equal(op->len, length);
		assert_memory_equal(op->buf, text, length);
		assert_int_equal(heap_free_inside(link->net.heap, op->sga_buf), 0);
		assert_int_equal(wait_one(&link->rig.sched, op->token, WAIT_POLL, &done), 0);
		op_free(&link->rig.sched.ops, op);
	}
	return count;
}

static uint32_t hellos(struct link *link, struct udp_socket *socket)
{
	return drain(link, socket, "hello", 5);
}

static int push(struct link *link, struct udp_socket *socket, const char *to, void *data,
		uint32_t length)
{
	const struct ip_address address = link_address(to);
	struct op *op = op_issue(&link->rig.sched, OP_PUSH, 1);
	struct op *done;

	assert_non_null(op);
	op_set_segment(op, data, length);
	op->flags |= heap_find(link->net.heap, data, length) == HEAP_OURS ? OP_OURS : 0;
	int err = udp_socket_push(socket, op, &address, 7);
	if (err)
		op->owner->issued--;
	else
		assert_int_equal(wait_one(&link->rig.sched, op->token, WAIT_POLL, &done), 0);
	op_free(&link->rig.sched.ops, op);
	return err;
}

static int push_hello(struct link *link, struct udp_socket *socket, const char *to)
{
	static char hello[] = "hello";

	return push(link, socket, to, hello, 5);
}

/* ---- who gets it ---- */

/* RFC 1112 7.1: every socket that is a member gets a copy, whoever has the port; others get
 * nothing, but with IP_MULTICAST_ALL. */
static void test_members(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *a = bound(link, AF_INET, "0.0.0.0", 7);
	struct udp_socket *b = bound(link, AF_INET, "0.0.0.0", 7);
	struct udp_socket *none = bound(link, AF_INET, "0.0.0.0", 7);
	struct udp_socket *dual = bound(link, AF_INET6, "::", 7);
	struct udp_socket *narrow = bound(link, AF_INET, "10.0.0.2", 7);
	struct udp_socket *of_group = bound(link, AF_INET, GROUP_A, 7);
	struct udp_socket *other = bound(link, AF_INET, GROUP_B, 7);

	(void)state;
	arrive(link, "10.0.0.1", GROUP_A, 7); /* nobody has joined */
	assert_int_equal(link_drops(link, DROP_IP_DESTINATION), 1);
	assert_int_equal(member(a, GROUP_A, true), 0);
	assert_int_equal(member(b, GROUP_A, true), 0);
	assert_int_equal(member(dual, GROUP_A, true), 0);
	assert_int_equal(member(narrow, GROUP_A, true), 0);
	assert_int_equal(member(of_group, GROUP_A, true), 0);
	assert_int_equal(member(other, GROUP_A, true), 0);
	arrive(link, "10.0.0.1", GROUP_A, 7);
	assert_int_equal(hellos(link, a), 1);
	assert_int_equal(hellos(link, b), 1);
	assert_int_equal(hellos(link, dual), 1);
	assert_int_equal(hellos(link, of_group), 1);
	assert_int_equal(hellos(link, none), 0);
	assert_int_equal(hellos(link, narrow), 0);
	assert_int_equal(hellos(link, other), 0);
	assert_int_equal(set_int(none, IPPROTO_IP, IP_MULTICAST_ALL, 1), 0);
	assert_int_equal(member(b, GROUP_A, false), 0);
	arrive(link, "10.0.0.1", GROUP_A, 7);
	assert_int_equal(hellos(link, a), 1);
	assert_int_equal(hellos(link, b), 0);
	assert_int_equal(hellos(link, none), 1);
	hellos(link, dual);
	hellos(link, of_group);
	arrive(link, "10.0.0.1", GROUP_A, 8); /* and no error goes to a group's sender */
	assert_int_equal(link_drops(link, DROP_UDP_PORT), 1);
	arrive(link, "10.0.0.1", "224.0.0.1", 7); /* every host's */
	assert_int_equal(hellos(link, a) + hellos(link, b) + hellos(link, none), 3);
	hellos(link, dual);
	link_quiet(link);
	udp_socket_close(none);
	udp_socket_close(a);
	udp_socket_close(b);
	udp_socket_close(dual);
	udp_socket_close(narrow);
	udp_socket_close(of_group);
	udp_socket_close(other);
	arrive(link, "10.0.0.1", GROUP_A, 7);
	assert_int_equal(link_drops(link, DROP_IP_DESTINATION), 2);
	link_close(link);
}

/* The same of IPv6. */
static void test_members_v6(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *a = bound(link, AF_INET6, "::", 7);
	struct udp_socket *none = bound(link, AF_INET6, "::", 7);
	struct udp_socket *of_group = bound(link, AF_INET6, GROUP_6, 7);

	(void)state;
	assert_int_equal(member(a, GROUP_6, true), 0);
	assert_int_equal(member(of_group, GROUP_6, true), 0);
	arrive(link, "fd00::1", GROUP_6, 7);
	assert_int_equal(hellos(link, a), 1);
	assert_int_equal(hellos(link, of_group), 1);
	assert_int_equal(hellos(link, none), 0);
	assert_int_equal(set_int(none, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 1), 0);
	arrive(link, "fd00::1", GROUP_6, 7);
	assert_int_equal(hellos(link, none) + hellos(link, a), 2);
	hellos(link, of_group);
	arrive(link, "fe80::1", "ff02::1", 7);
	assert_int_equal(hellos(link, none) + hellos(link, a), 2);
	arrive(link, "fd00::1", "ff15::7", 7);
	assert_int_equal(link_drops(link, DROP_IP_DESTINATION), 1);
	udp_socket_close(a);
	udp_socket_close(none);
	udp_socket_close(of_group);
	link_steered(link, GROUP_6, true);
	link_steered(link, GROUP_6, false);
	link_not_steered(link);
	link_close(link);
}

/* A long datagram: the last of its receivers has the frame, the others copies; a queue that is full
 * takes nothing from the rest. */
static void test_long_copies(void **state)
{
	static uint8_t data[1400];
	struct link *link = link_open(NULL);
	struct udp_socket *sockets[3];
	struct link_made made;

	(void)state;
	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	made = link_make_udp("10.0.0.1", 9, GROUP_A, 7, data, sizeof(data));
	for (uint32_t i = 0; i < 3; i++) {
		sockets[i] = bound(link, AF_INET, "0.0.0.0", 7);
		assert_int_equal(member(sockets[i], GROUP_A, true), 0);
		assert_int_equal(set_int(sockets[i], SOL_SOCKET, SO_RCVBUF, 8192), 0);
	}
	for (uint32_t round = 0; round < 100; round++) {
		link_arrive_made(link, &made);
		for (uint32_t i = round < 50 ? 0 : 1; i < 3; i++)
			assert_int_equal(drain(link, sockets[i], data, sizeof(data)), 1);
	}
	assert_in_range(udp_socket_queued(sockets[0]), 4, 6);
	assert_int_equal(link_drops(link, DROP_UDP_FULL), 50 - udp_socket_queued(sockets[0]));
	for (uint32_t i = 0; i < 3; i++)
		udp_socket_close(sockets[i]);
	link_close(link);
}

/* RFC 1122 4.1.3.6, RFC 919 7: to everybody, and to the hosts of a prefix of ours; the device is
 * told while a socket has SO_BROADCAST. */
static void test_broadcast(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *a = bound(link, AF_INET, "0.0.0.0", 7);
	struct udp_socket *b = bound(link, AF_INET, "0.0.0.0", 7);
	struct udp_socket *to_all = bound(link, AF_INET, "255.255.255.255", 7);
	struct udp_socket *to_prefix = bound(link, AF_INET, "10.0.0.255", 7);
	struct udp_socket *narrow = bound(link, AF_INET, "10.0.0.2", 7);

	(void)state;
	arrive(link, "10.0.0.1", "10.0.0.255", 7);
	assert_int_equal(hellos(link, a) + hellos(link, b) + hellos(link, to_prefix), 3);
	assert_int_equal(hellos(link, to_all) + hellos(link, narrow), 0);
	arrive(link, "10.0.0.1", "255.255.255.255", 7);
	assert_int_equal(hellos(link, a) + hellos(link, b) + hellos(link, to_all), 3);
	assert_int_equal(hellos(link, to_prefix) + hellos(link, narrow), 0);
	assert_int_equal(push_hello(link, a, "255.255.255.255"), -EACCES);
	assert_int_equal(push_hello(link, to_all, "10.0.0.255"), -EACCES);
	link_not_steered(link);
	assert_int_equal(set_int(a, SOL_SOCKET, SO_BROADCAST, 1), 0);
	link_steered(link, "255.255.255.255", true);
	link_steered(link, "10.0.0.255", true);
	assert_int_equal(set_int(to_all, SOL_SOCKET, SO_BROADCAST, 1), 0);
	assert_int_equal(set_int(a, SOL_SOCKET, SO_BROADCAST, 1), 0);
	assert_int_equal(set_int(a, SOL_SOCKET, SO_BROADCAST, 0), 0);
	link_not_steered(link);
	assert_int_equal(push_hello(link, to_all, "10.0.0.255"), 0);
	struct link_packet packet = link_next_ip(link, IP_UDP);
	static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};
	assert_memory_equal(packet.to_mac, everybody, 6);
	const struct ip_address own = link_address("10.0.0.2");
	assert_true(ip_equal(&packet.ip.from, &own)); /* not from what it is bound to */
	/* a copy comes back */
	(void)net_poll(&link->net);
	assert_int_equal(hellos(link, a) + hellos(link, b) + hellos(link, to_prefix), 3);
	udp_socket_close(to_all);
	link_steered(link, "255.255.255.255", false);
	link_steered(link, "10.0.0.255", false);
	link_not_steered(link);
	link->steer_err = -ENOSPC;
	assert_int_equal(set_int(a, SOL_SOCKET, SO_BROADCAST, 1), -ENOSPC);
	assert_int_equal(get_int(a, SOL_SOCKET, SO_BROADCAST), 0);
	link->steer_err = 0;
	udp_socket_close(a);
	udp_socket_close(b);
	udp_socket_close(to_prefix);
	udp_socket_close(narrow);
	link_not_steered(link);
	link_close(link);
}

/* ---- sending ---- */

static void gathers(struct link *link)
{
	link->dev.max_segments = 4;
	link->dev.offloads = NETDEV_TX_CHECKSUM;
}

/* RFC 1112 6.1: a copy for ourselves if a socket of ours is a member and the sender has not said
 * no; none with a time to live of 0 leaves us. */
static void loops(const char *text, const char *all, int level, const int names[2])
{
	struct link *link = link_open(gathers);
	int domain = level == IPPROTO_IP ? AF_INET : AF_INET6;
	struct udp_socket *in = bound(link, domain, all, 7);
	struct udp_socket *out = open_socket(link, domain);
	uint8_t *data = heap_alloc(link->net.heap, 5000);
	const struct ip_address address = link_address(text);
	uint8_t mac[6];

	memset(data, 3, 5000);
	group_mac(&address, mac);
	assert_int_equal(push_hello(link, out, text), 0);
	struct link_packet packet = link_next_ip(link, IP_UDP);
	assert_int_equal(packet.ip.ttl, 1);
	assert_memory_equal(packet.to_mac, mac, 6);
	(void)net_poll(&link->net);
	assert_int_equal(udp_socket_queued(in), 0);
	assert_int_equal(member(in, text, true), 0);
	assert_int_equal(push_hello(link, out, text), 0);
	assert_non_null(link_next(link));
	(void)net_poll(&link->net);
	assert_int_equal(hellos(link, in), 1);
	/* in place on the link, and a copy for us; and in fragments */
	assert_int_equal(push(link, out, text, data, 1400), 0);
	assert_int_equal(link->net.tx[0]->num_segments, 1);
	assert_non_null(link_next(link));
	(void)net_poll(&link->net);
	assert_int_equal(drain(link, in, data, 1400), 1);
	assert_int_equal(push(link, out, text, data, 5000), 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_non_null(link_next(link));
	link_quiet(link);
	(void)net_poll(&link->net);
	assert_int_equal(drain(link, in, data, 5000), 1);
	assert_int_equal(set_int(out, level, names[0], 0), 0);
	assert_int_equal(push_hello(link, out, text), 0);
	assert_non_null(link_next(link));
	(void)net_poll(&link->net);
	assert_int_equal(udp_socket_queued(in), 0);
	assert_int_equal(set_int(out, level, names[0], 1), 0);
	assert_int_equal(set_int(out, level, names[1], 0), 0);
	assert_int_equal(push_hello(link, out, text), 0);
	link_quiet(link);
	(void)net_poll(&link->net);
	assert_int_equal(hellos(link, in), 1);
	assert_int_equal(heap_free(link->net.heap, data), 0);
	udp_socket_close(in);
	udp_socket_close(out);
	link_close(link);
}

static void test_loops(void **state)
{
	(void)state;
	loops(GROUP_A, "0.0.0.0", IPPROTO_IP, (const int[]){IP_MULTICAST_LOOP, IP_MULTICAST_TTL});
	loops(GROUP_6, "::", IPPROTO_IPV6, (const int[]){IPV6_MULTICAST_LOOP, IPV6_MULTICAST_HOPS});
}

/* RFC 4291 2.7: what is to the interface alone never leaves it */
static void test_interface_scope(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *in = bound(link, AF_INET6, "::", 7);

	(void)state;
	assert_int_equal(member(in, "ff01::7", true), 0);
	assert_int_equal(set_int(in, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 64), 0);
	assert_int_equal(push_hello(link, in, "ff01::7"), 0);
	link_quiet(link);
	(void)net_poll(&link->net);
	assert_int_equal(hellos(link, in), 1);
	udp_socket_close(in);
	link_close(link);
}

static void two_addresses(struct link *link)
{
	link_set(link->rig.sched.config.addresses, "10.0.0.2/24,10.1.0.2/16,fd00::2/64");
}

/* Whom a datagram to a group is from: the bound address, that of IP_MULTICAST_IF, the first. */
static void test_source(void **state)
{
	const struct ip_address first = link_address("10.0.0.2");
	const struct ip_address second = link_address("10.1.0.2");
	struct link *link = link_open(two_addresses);
	struct udp_socket *socket = open_socket(link, AF_INET);
	struct in_addr address = {.s_addr = second.words[3]};
	struct ip_mreqn mreqn = {.imr_address = address};
	struct link_packet packet;

	(void)state;
	assert_int_equal(push_hello(link, socket, GROUP_A), 0);
	packet = link_next_ip(link, IP_UDP);
	assert_true(ip_equal(&packet.ip.from, &first));
	assert_int_equal(get_int(socket, IPPROTO_IP, IP_MULTICAST_IF), 0);
	assert_int_equal(udp_socket_set_option(socket, IPPROTO_IP, IP_MULTICAST_IF, &address, 4),
			 0);
	assert_int_equal(get_int(socket, IPPROTO_IP, IP_MULTICAST_IF), (int)second.words[3]);
	assert_int_equal(push_hello(link, socket, GROUP_A), 0);
	packet = link_next_ip(link, IP_UDP);
	assert_true(ip_equal(&packet.ip.from, &second));
	mreqn.imr_address.s_addr = 0;
	assert_int_equal(
		udp_socket_set_option(socket, IPPROTO_IP, IP_MULTICAST_IF, &mreqn, sizeof(mreqn)),
		0);
	assert_int_equal(push_hello(link, socket, GROUP_A), 0);
	packet = link_next_ip(link, IP_UDP);
	assert_true(ip_equal(&packet.ip.from, &first));
	address.s_addr = 0x01020304;
	assert_int_equal(udp_socket_set_option(socket, IPPROTO_IP, IP_MULTICAST_IF, &address, 4),
			 -EADDRNOTAVAIL);
	assert_int_equal(udp_socket_set_option(socket, IPPROTO_IP, IP_MULTICAST_IF, &address, 3),
			 -EINVAL);
	udp_socket_close(socket);
	link_close(link);
}

/* ---- options ---- */

/* As Linux has it. */
static void test_join_errors(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *s4 = open_socket(link, AF_INET);
	struct udp_socket *s6 = open_socket(link, AF_INET6);
	const struct ip_address group = link_address(GROUP_A);
	struct ip_mreqn mreqn = {.imr_multiaddr.s_addr = group.words[3], .imr_ifindex = 3};
	struct ipv6_mreq mreq6 = {.ipv6mr_interface = 4};
	char text[16];

	(void)state;
	link->dev.index = 3;
	assert_int_equal(member(s4, "10.0.0.1", true), -EINVAL);
	assert_int_equal(member(s4, GROUP_A, false), -EADDRNOTAVAIL);
	assert_int_equal(member(s4, GROUP_A, true), 0);
	assert_int_equal(member(s4, GROUP_A, true), -EADDRINUSE);
	assert_int_equal(member(s4, GROUP_6, true), -ENOPROTOOPT);
	assert_int_equal(member(s6, "fd00::1", true), -EINVAL);
	assert_int_equal(member(s6, GROUP_6, true), 0);
	assert_int_equal(member(s6, GROUP_6, true), -EADDRINUSE);
	assert_int_equal(member(s6, GROUP_6, false), 0);
	assert_int_equal(member(s6, GROUP_6, false), -EADDRNOTAVAIL);
	/* the interface, by its index or by an address */
	assert_int_equal(
		udp_socket_set_option(s6, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreqn, sizeof(mreqn)), 0);
	mreqn.imr_ifindex = 4;
	assert_int_equal(
		udp_socket_set_option(s6, IPPROTO_IP, IP_DROP_MEMBERSHIP, &mreqn, sizeof(mreqn)),
		-ENODEV);
	mreqn.imr_ifindex = 0;
	mreqn.imr_address.s_addr = link_address("10.0.0.3").words[3];
	assert_int_equal(
		udp_socket_set_option(s6, IPPROTO_IP, IP_DROP_MEMBERSHIP, &mreqn, sizeof(mreqn)),
		-ENODEV);
	mreqn.imr_address.s_addr = link_address("10.0.0.2").words[3];
	assert_int_equal(udp_socket_set_option(s6, IPPROTO_IP, IP_DROP_MEMBERSHIP, &mreqn,
					       sizeof(struct ip_mreq)),
			 0);
	assert_int_equal(udp_socket_set_option(s4, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreqn, 7),
			 -EINVAL);
	memcpy(&mreq6.ipv6mr_multiaddr, group.bytes, 16); /* mapped */
	assert_int_equal(
		udp_socket_set_option(s6, IPPROTO_IPV6, IPV6_JOIN_GROUP, &mreq6, sizeof(mreq6)),
		-EINVAL);
	mreq6.ipv6mr_multiaddr = (struct in6_addr){.s6_addr = {0}};
	mreq6.ipv6mr_multiaddr.s6_addr[0] = 0xff;
	mreq6.ipv6mr_multiaddr.s6_addr[1] = 5;
	assert_int_equal(
		udp_socket_set_option(s6, IPPROTO_IPV6, IPV6_JOIN_GROUP, &mreq6, sizeof(mreq6)),
		-ENODEV);
	mreq6.ipv6mr_interface = 3;
	assert_int_equal(udp_socket_set_option(s6, IPPROTO_IPV6, IPV6_JOIN_GROUP, &mreq6, 19),
			 -EINVAL);
	assert_int_equal(
		udp_socket_set_option(s6, IPPROTO_IPV6, IPV6_JOIN_GROUP, &mreq6, sizeof(mreq6)), 0);
	/* sources are not chosen here */
	assert_int_equal(udp_socket_set_option(s4, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &mreqn,
					       sizeof(mreqn)),
			 -ENOPROTOOPT);
	for (uint32_t i = 1; i < UDP_GROUPS_MAX; i++) {
		(void)snprintf(text, sizeof(text), "239.0.0.%u", i);
		assert_int_equal(member(s4, text, true), 0);
	}
	assert_int_equal(member(s4, "239.0.0.99", true), -ENOBUFS);
	assert_int_equal(member(s4, "239.0.0.1", false), 0);
	assert_int_equal(member(s4, "239.0.0.99", true), 0);
	udp_socket_close(s4);
	udp_socket_close(s6);
	link_close(link);
}

/* RFC 3678 5.1: the options of both families */
static void test_join_any(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *s4 = bound(link, AF_INET, "0.0.0.0", 7);
	struct udp_socket *s6 = bound(link, AF_INET6, "::", 7);
	const struct ip_address v4 = link_address(GROUP_A);
	const struct ip_address v6 = link_address(GROUP_6);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = v4.words[3]};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct group_req request = {.gr_interface = 0};

	(void)state;
	memcpy(&request.gr_group, &in, sizeof(in));
	assert_int_equal(
		udp_socket_set_option(s4, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof(request)),
		0);
	arrive(link, "10.0.0.1", GROUP_A, 7);
	assert_int_equal(hellos(link, s4), 1);
	assert_int_equal(
		udp_socket_set_option(s4, IPPROTO_IP, MCAST_LEAVE_GROUP, &request, sizeof(request)),
		0);
	memcpy(&in6.sin6_addr, v6.bytes, 16);
	memcpy(&request.gr_group, &in6, sizeof(in6));
	assert_int_equal(udp_socket_set_option(s6, IPPROTO_IPV6, MCAST_JOIN_GROUP, &request,
					       sizeof(request)),
			 0);
	arrive(link, "fd00::1", GROUP_6, 7);
	assert_int_equal(hellos(link, s6), 1);
	assert_int_equal(
		udp_socket_set_option(s4, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof(request)),
		-EADDRNOTAVAIL);
	assert_int_equal(udp_socket_set_option(s4, IPPROTO_IP, MCAST_JOIN_GROUP, &request, 100),
			 -EINVAL);
	link->dev.index = 3;
	request.gr_interface = 2;
	assert_int_equal(udp_socket_set_option(s6, IPPROTO_IPV6, MCAST_LEAVE_GROUP, &request,
					       sizeof(request)),
			 -ENODEV);
	udp_socket_close(s4);
	udp_socket_close(s6);
	link_close(link);
}

static void test_options(void **state)
{
	static const struct {
		int level;
		int name;
		int first;
		int good;
		int bad; /* 0: none */
	} rows[] = {
		{IPPROTO_IP, IP_MULTICAST_LOOP, 1, 0, 0},
		{IPPROTO_IP, IP_MULTICAST_ALL, 0, 1, 2},
		{IPPROTO_IP, IP_MULTICAST_TTL, 1, 0, 256},
		{IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1, 0, 2},
		{IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0, 1, 2},
		{IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1, 255, 256},
		{IPPROTO_IPV6, IPV6_MULTICAST_IF, 0, 3, 4},
	};
	struct link *link = link_open(NULL);
	struct udp_socket *s6 = open_socket(link, AF_INET6);
	struct udp_socket *s4 = open_socket(link, AF_INET);

	(void)state;
	link->dev.index = 3;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		assert_int_equal(get_int(s6, rows[i].level, rows[i].name), rows[i].first);
		assert_int_equal(set_int(s6, rows[i].level, rows[i].name, rows[i].good), 0);
		assert_int_equal(get_int(s6, rows[i].level, rows[i].name), rows[i].good);
		if (rows[i].bad)
			assert_true(set_int(s6, rows[i].level, rows[i].name, rows[i].bad) < 0);
		assert_int_equal(get_int(s6, rows[i].level, rows[i].name), rows[i].good);
		if (rows[i].level == IPPROTO_IPV6)
			assert_int_equal(set_int(s4, rows[i].level, rows[i].name, rows[i].good),
					 -ENOPROTOOPT);
	}
	assert_int_equal(udp_socket_set_option(s6, IPPROTO_IPV6, IPV6_MULTICAST_IF, rows, 3),
			 -EINVAL);
	udp_socket_close(s4);
	udp_socket_close(s6);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),     cmocka_unit_test(test_members_v6),
		cmocka_unit_test(test_long_copies), cmocka_unit_test(test_broadcast),
		cmocka_unit_test(test_loops),       cmocka_unit_test(test_interface_scope),
		cmocka_unit_test(test_source),      cmocka_unit_test(test_join_errors),
		cmocka_unit_test(test_join_any),    cmocka_unit_test(test_options),
	};

	return test_run("net_udp_group", tests);
}
