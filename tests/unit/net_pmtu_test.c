/* SPDX-License-Identifier: MIT
 * tests/unit/net_pmtu_test.c - what is known of paths that take less than the link: the cache, and
 * what UDP does with it (attack row 8).
 */
#include "support/link.h"

#include "net/pmtu.h"
#include "net/udp.h"
#include "net/wire/ether.h"
#include "net/wire/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* RFC 1191 3, 7.1; attack row 8: an MTU of 0, of 68, below 552, above what is known */
static void test_v4(void **state)
{
	struct link *link = link_open(NULL);
	struct net *net = &link->net;
	const struct ip_address to = link_address("10.9.9.9");
	const struct ip_address other = link_address("10.9.9.8");
	const struct ip_address own = link_address("10.0.0.2");

	(void)state;
	assert_null(net->pmtu);
	assert_int_equal(path_mtu(net, &to), 1500);
	assert_int_equal(pmtu_lower(net, &to, 1500), 1500);
	assert_int_equal(pmtu_lower(net, &to, 65535), 1500);
	assert_null(net->pmtu);
	assert_int_equal(pmtu_lower(net, &to, 1400), 1400);
	assert_int_equal(path_mtu(net, &to), 1400);
	assert_int_equal(path_mtu(net, &other), 1500);
	assert_int_equal(pmtu_lower(net, &to, 1401), 1400);
	assert_int_equal(pmtu_lower(net, &other, 0), 1492);
	assert_int_equal(pmtu_lower(net, &other, 0), 1280);
	assert_int_equal(pmtu_lower(net, &other, 0), 1006);
	assert_int_equal(pmtu_lower(net, &other, 0), 576);
	assert_int_equal(pmtu_lower(net, &other, 0), 552);
	assert_int_equal(pmtu_lower(net, &other, 0), 552);
	assert_int_equal(pmtu_lower(net, &to, 68), 552);
	assert_int_equal(pmtu_lower(net, &to, 1), 552);
	assert_int_equal(ip_payload_max(net, &to), 532);
	assert_int_equal(ip_link_payload_max(net, &to), 1480);
	/* Our own are no path. */
	assert_int_equal(pmtu_lower(net, &own, 600), 1500);
	pmtu_check(net);
	link_close(link);
}

/* RFC 8201 4 MUST: less than 1280 is not heeded */
static void test_v6(void **state)
{
	struct link *link = link_open(NULL);
	struct net *net = &link->net;
	const struct ip_address to = link_address("fd09::9");

	(void)state;
	assert_int_equal(pmtu_lower(net, &to, 1279), 1500);
	assert_int_equal(pmtu_lower(net, &to, 0), 1500);
	assert_int_equal(pmtu_lower(net, &to, 1300), 1300);
	assert_int_equal(pmtu_lower(net, &to, 1280), 1280);
	assert_int_equal(ip_payload_max(net, &to), 1240);
	link_close(link);
}

/* RFC 1191 6.3, RFC 8201 4: after ten minutes it is forgotten; what got through raises it before */
static void test_age(void **state)
{
	struct link *link = link_open(NULL);
	struct net *net = &link->net;
	const struct ip_address to = link_address("fd09::9");

	(void)state;
	(void)pmtu_lower(net, &to, 1300);
	link_wait(link, (PMTU_AGE_S - 1) * LINK_SECOND);
	assert_int_equal(path_mtu(net, &to), 1300);
	link_wait(link, LINK_SECOND);
	assert_int_equal(path_mtu(net, &to), 1500);
	(void)pmtu_lower(net, &to, 1300);
	pmtu_raise(net, &to, 1200);
	assert_int_equal(path_mtu(net, &to), 1300);
	pmtu_raise(net, &to, 1400);
	assert_int_equal(path_mtu(net, &to), 1400);
	pmtu_raise(net, &to, 1500);
	assert_int_equal(path_mtu(net, &to), 1500);
	link_close(link);
}

/* As many destinations as somebody likes to make up: the memory is what it is, the newest are
 * known. */
static void test_many(void **state)
{
	struct link *link = link_open(NULL);
	struct net *net = &link->net;
	uint32_t known = 0;

	(void)state;
	for (uint32_t i = 0; i < 20000; i++) {
		struct ip_address to = ip_from_v4(htonl(0x0b000000 + i));
		assert_int_equal(pmtu_lower(net, &to, 600 + i % 800), 600 + i % 800);
		assert_int_equal(path_mtu(net, &to), 600 + i % 800);
		link->rig.now_ns += 1000;
		(void)sched_now(&link->rig.sched);
	}
	for (uint32_t i = 0; i < 20000; i++) {
		struct ip_address to = ip_from_v4(htonl(0x0b000000 + i));
		known += path_mtu(net, &to) != 1500;
	}
	assert_int_equal(known, PMTU_LISTS * PMTU_WAYS);
	pmtu_check(net);
	link_close(link);
}

/* ---- UDP ---- */

static struct udp_socket *socket_at(struct link *link, const char *address, uint16_t port)
{
	const struct ip_address own = link_address(address);
	struct udp_socket *socket;

	assert_int_equal(udp_socket_new(&link->net, ip_is_v4(&own) ? AF_INET : AF_INET6, &socket),
			 0);
	assert_int_equal(udp_socket_bind(socket, &own, port), 0);
	return socket;
}

/* A router says that a datagram from port to port 9 of the peer was too big. */
static void too_big(struct link *link, bool v6, uint16_t port, uint32_t mtu)
{
	uint8_t bytes[IPV6_HEADER_BYTES + UDP_HEADER_BYTES];
	const struct ip_address from = link_address(v6 ? "fd00::2" : "10.0.0.2");
	const struct ip_address to = link_address(v6 ? "fd00::1" : "10.0.0.1");
	uint32_t header_bytes = ip_header_bytes(&to);
	const struct udp_header udp = {.source = port, .destination = 9, .length = 1400};
	const struct icmp_header icmp = {
		.type = v6 ? ICMPV6_TOO_BIG : ICMP_UNREACHABLE,
		.code = v6 ? 0 : 4,
		.rest = mtu,
	};

	if (v6)
		ipv6_write(bytes, &from, &to, IP_UDP, 64, 0, 1400, 0);
	else
		ipv4_write(bytes, &from, &to, IP_UDP, 64, 0, 1400);
	udp_write(bytes + header_bytes, &udp);
	struct link_made made =
		link_make_icmp(v6 ? "fd00::9" : "10.0.0.9", v6 ? "fd00::2" : "10.0.0.2", &icmp,
			       bytes, header_bytes + UDP_HEADER_BYTES);
	link_arrive_made(link, &made);
}

static void push(struct link *link, struct udp_socket *socket, bool v6)
{
	static const uint8_t data[1400];
	struct sched *sched = &link->rig.sched;
	struct op *op = op_issue(sched, OP_PUSH, 1);
	const struct ip_address to = link_address(v6 ? "fd00::1" : "10.0.0.1");
	struct op *done;

	op_set_segment(op, (void *)(uintptr_t)data, sizeof(data));
	assert_int_equal(udp_socket_push(socket, op, &to, 9), 0);
	assert_int_equal(wait_one(sched, op->token, WAIT_POLL, &done), 0);
	op_free(&sched->ops, op);
}

/* A datagram too large for the path goes out in fragments that are not; for that somebody here must
 * have sent one. */
static void udp(bool v6)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = socket_at(link, v6 ? "::" : "0.0.0.0", 7);
	uint32_t mtu = v6 ? 1300 : 1000;

	link_know(link, v6 ? "fd00::1" : "10.0.0.1");
	too_big(link, v6, 8, mtu); /* nobody's */
	push(link, socket, v6);
	struct link_packet packet = link_next_ip(link, IP_UDP);
	assert_int_equal(packet.ip.length, 1400 + UDP_HEADER_BYTES);
	assert_true(v6 || packet.ip.header[6] & 0x40); /* don't fragment */
	too_big(link, v6, 7, mtu);
	push(link, socket, v6);
	uint32_t sum = 0;
	for (int i = 0; i < 2; i++) {
		const struct link_frame *frame = link_next(link);
		assert_non_null(frame);
		assert_true(frame->length <= ETHER_HEADER_BYTES + mtu);
		sum += frame->length - ETHER_HEADER_BYTES - (v6 ? 48 : 20);
		assert_true(v6 || !(frame->bytes[ETHER_HEADER_BYTES + 6] & 0x40));
	}
	assert_int_equal(sum, 1400 + UDP_HEADER_BYTES);
	link_quiet(link);
	udp_socket_close(socket);
	link_close(link);
}

static void test_udp(void **state)
{
	(void)state;
	udp(false);
	udp(true);
}

/* A connected socket is told, and can ask. */
static void test_udp_option(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = socket_at(link, "10.0.0.2", 7);
	const struct ip_address peer = link_address("10.0.0.1");
	int value = 0;
	socklen_t length = sizeof(value);

	(void)state;
	assert_int_equal(udp_socket_get_option(socket, IPPROTO_IP, IP_MTU, &value, &length),
			 -ENOTCONN);
	assert_int_equal(udp_socket_connect(socket, &peer, 9), 0);
	assert_int_equal(udp_socket_get_option(socket, IPPROTO_IP, IP_MTU, &value, &length), 0);
	assert_int_equal(value, 1500);
	too_big(link, false, 7, 1000);
	assert_int_equal(udp_socket_get_option(socket, IPPROTO_IP, IP_MTU, &value, &length), 0);
	assert_int_equal(value, 1000);
	assert_int_equal(udp_socket_get_option(socket, SOL_SOCKET, SO_ERROR, &value, &length), 0);
	assert_int_equal(value, EMSGSIZE);
	udp_socket_close(socket);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v4),  cmocka_unit_test(test_v6),
		cmocka_unit_test(test_age), cmocka_unit_test(test_many),
		cmocka_unit_test(test_udp), cmocka_unit_test(test_udp_option),
	};

	return test_run("net_pmtu", tests);
}
