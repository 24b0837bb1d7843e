/* SPDX-License-Identifier: MIT
 * tests/unit/net_vlan_test.c - virtual LANs (IEEE 802.1Q): which frames are taken, and what goes
 * out.
 */
#include "support/link.h"

#include "net/wire/ether.h"
#include "net/wire/udp.h"

#include <string.h>

#define OUR_LAN 5

static void on_a_lan(struct link *link)
{
	link->rig.sched.config.vlan = OUR_LAN;
}

/* Puts a tag in. */
static struct link_made tagged(struct link_made made, uint16_t type, uint16_t tag)
{
	memmove(made.bytes + 16, made.bytes + 12, made.length - 12);
	store16(made.bytes + 12, type);
	store16(made.bytes + 14, tag);
	made.length += ETHER_TAG_BYTES;
	return made;
}

static struct link_made segment(const char *from, const char *to)
{
	static const uint8_t bytes[20] = {1, 2, 3};

	return link_make_ip(from, to, IP_TCP, bytes, sizeof(bytes));
}

static void accepted(struct link *link, struct link_made made)
{
	uint32_t packets = link->tcp.packets;

	link_arrive_made(link, &made);
	assert_int_equal(link->tcp.packets, packets + 1);
	assert_int_equal(link->tcp.length, 20);
}

static void dropped(struct link *link, struct link_made made, enum drop reason)
{
	uint32_t packets = link->tcp.packets;
	uint64_t before = link_drops(link, reason);

	link_arrive_made(link, &made);
	assert_int_equal(link->tcp.packets, packets);
	assert_int_equal(link_drops(link, reason), before + 1);
	link_quiet(link);
}

/* attack row 1: on no LAN: what has no tag, or one that says a priority alone. */
static void test_none(void **state)
{
	struct link *link = link_open(NULL);
	struct link_made v4 = segment("10.0.0.1", "10.0.0.2");
	struct link_made v6 = segment("fd00::1", "fd00::2");

	(void)state;
	accepted(link, v4);
	accepted(link, tagged(v4, ETHER_VLAN, 0));
	accepted(link, tagged(v4, ETHER_VLAN, 0xf000));
	accepted(link, tagged(v6, ETHER_VLAN, 0x2000));
	dropped(link, tagged(v4, ETHER_VLAN, OUR_LAN), DROP_VLAN);
	dropped(link, tagged(v6, ETHER_VLAN, 4095), DROP_VLAN);
	dropped(link, tagged(v4, ETHER_VLAN_SERVICE, 0), DROP_VLAN);
	dropped(link, tagged(tagged(v4, ETHER_VLAN, 0), ETHER_VLAN, 0), DROP_ETHER_TYPE);
	link_close(link);
}

/* On one: what has its tag, whatever the priority. */
static void test_one(void **state)
{
	struct link *link = link_open(on_a_lan);
	struct link_made v4 = segment("10.0.0.1", "10.0.0.2");
	struct link_made v6 = segment("fd00::1", "fd00::2");
	struct link_made made = tagged(v4, ETHER_VLAN, OUR_LAN);

	(void)state;
	accepted(link, made);
	accepted(link, tagged(v4, ETHER_VLAN, 0xe000 | OUR_LAN));
	accepted(link, tagged(v6, ETHER_VLAN, OUR_LAN));
	dropped(link, v4, DROP_VLAN);
	dropped(link, v6, DROP_VLAN);
	dropped(link, tagged(v4, ETHER_VLAN, 0), DROP_VLAN);
	dropped(link, tagged(v4, ETHER_VLAN, OUR_LAN + 1), DROP_VLAN);
	dropped(link, tagged(v4, ETHER_VLAN_SERVICE, OUR_LAN), DROP_VLAN);
	dropped(link, tagged(tagged(v4, ETHER_VLAN, OUR_LAN), ETHER_VLAN, OUR_LAN),
		DROP_ETHER_TYPE);
	made.bytes[5] ^= 1;
	dropped(link, made, DROP_ETHER_ADDRESS);
	for (made.length = 1; made.length < ETHER_HEADER_BYTES + ETHER_TAG_BYTES; made.length++)
		dropped(link, made, DROP_VLAN);
	link_close(link);
}

/* Takes the tag of the next frame off, which has it, and so long a rest. */
static struct cursor next_frame(struct link *link, uint16_t type)
{
	const struct link_frame *frame = link_next(link);

	assert_non_null(frame);
	struct cursor c = cursor_over(frame->bytes, frame->length);
	cursor_skip(&c, 6);
	assert_memory_equal(c.at, link->net.mac, 6);
	cursor_skip(&c, 6);
	assert_int_equal(cursor_u16(&c), ETHER_VLAN);
	assert_int_equal(cursor_u16(&c), OUR_LAN);
	assert_int_equal(cursor_u16(&c), type);
	return c;
}

static void at_once(struct link *link)
{
	on_a_lan(link);
	link->dev.offloads = NETDEV_TX_CHECKSUM;
	link->dev.max_segments = 4;
}

/* Everything that we send has the tag: ARP, neighbour discovery, echoes, datagrams whose checksum
 * the device makes; and the MTU is that of packets, as without. */
static void test_out(void **state)
{
	static uint8_t data[1472];
	const struct ip_address to = link_address("10.0.0.1");
	const struct ip_address six = link_address("fd00::1");
	const struct icmp_header echo = {.type = ICMP_ECHO, .rest = 7};
	struct link *link = link_open(at_once);
	struct udp_socket *socket;
	struct ip_packet packet;
	struct arp arp;

	(void)state;
	assert_int_equal(link->net.mtu, 1500);
	assert_non_null(neighbour_get(&link->net, &to));
	struct cursor c = next_frame(link, ETHER_ARP);
	assert_int_equal(arp_parse(&c, &arp), DROP_NONE);
	assert_int_equal(arp.target, to.words[3]);
	assert_non_null(neighbour_get(&link->net, &six));
	c = next_frame(link, ETHER_IPV6);
	link_know(link, "10.0.0.1");
	struct link_made made =
		tagged(link_make_icmp("10.0.0.1", "10.0.0.2", &echo, data, sizeof(data)),
		       ETHER_VLAN, OUR_LAN);
	assert_int_equal(made.length, 1518);
	link_arrive_made(link, &made);
	c = next_frame(link, ETHER_IPV4);
	assert_int_equal(cursor_left(&c), 1500);
	assert_int_equal(ipv4_parse(&c, &packet), DROP_NONE);
	assert_int_equal(udp_socket_new(&link->net, AF_INET, &socket), 0);
	struct op *op = op_issue(&link->rig.sched, OP_PUSH, 1);
	struct op *done;
	op_set_segment(op, data, sizeof(data));
	assert_int_equal(udp_socket_push(socket, op, &to, 9), 0);
	assert_int_equal(wait_one(&link->rig.sched, op->token, WAIT_POLL, &done), 0);
	op_free(&link->rig.sched.ops, op);
	assert_true(link->net.tx[0]->flags & FRAME_CHECKSUM);
	c = next_frame(link, ETHER_IPV4);
	assert_int_equal(ipv4_parse(&c, &packet), DROP_NONE);
	packet.checked = false;
	struct udp_header header;
	assert_int_equal(udp_parse(&c, &packet, &header), DROP_NONE); /* and its checksum */
	assert_int_equal(cursor_left(&c), sizeof(data));
	udp_socket_close(socket);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_one),
		cmocka_unit_test(test_out),
	};

	return test_run("net_vlan", tests);
}
