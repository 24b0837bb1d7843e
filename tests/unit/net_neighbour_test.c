/* SPDX-License-Identifier: MIT
 * tests/unit/net_neighbour_test.c - the table of neighbours: states and ageing, queues, a full
 * table, failure told to transports, static entries; by ARP and neighbour discovery alike.
 */
#include "support/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};

/* A datagram of ours to an address; returns what ip_output does. */
static int send_to(struct link *link, const char *to, uint8_t protocol, uint8_t mark)
{
	const struct ip_address address = link_address(to);
	const struct ip_address *from = net_source_for(&link->net, &address);
	struct frame *frame = frame_alloc_tx(link->net.heap, 20);

	assert_non_null(frame);
	memset(frame->data, 0, 20);
	frame->data[1] = 7; /* source port */
	frame->data[3] = 9;
	frame->data[7] = mark;
	frame->length = 20;
	return ip_output(&link->net, frame, from, &address, protocol, 64, 0, NULL);
}

static struct neighbour *find(struct link *link, const char *address)
{
	const struct ip_address a = link_address(address);

	return neighbour_find(&link->net, &a);
}

static void expect_state(struct link *link, const char *address, enum neighbour_state state)
{
	const struct neighbour *n = find(link, address);

	assert_non_null(n);
	assert_int_equal(n->state, state);
	assert_int_equal(n->usable, state == NEIGHBOUR_REACHABLE || state == NEIGHBOUR_PERMANENT);
}

/* An answer of the peer to a question. */
static void answer(struct link *link, const char *address, const uint8_t mac[6])
{
	const struct ip_address a = link_address(address);
	struct nd_message message = {
		.target = a, .has_mac = true, .solicited = true, .override = true};

	if (ip_is_v4(&a)) {
		link_arrive_arp(link, 2, mac, address, "10.0.0.2");
		return;
	}
	memcpy(message.mac, mac, 6);
	struct link_made made =
		link_make_nd(address, "fd00::2", ICMPV6_NEIGHBOR_ADVERTISEMENT, &message);
	link_arrive_made(link, &made);
}

/* A question about the address went out, to everybody or to one. */
static void expect_question(struct link *link, const char *address, const uint8_t *mac)
{
	static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const struct ip_address a = link_address(address);
	struct link_packet packet;

	if (ip_is_v4(&a)) {
		link_next_arp(link, 1, address);
		const uint8_t *to = link->sent[link->num_taken - 1].bytes;
		assert_memory_equal(to, mac ? mac : everybody, 6);
		return;
	}
	(void)link_next_icmp(link, ICMPV6_NEIGHBOR_SOLICITATION, 0, &packet);
	assert_int_equal(packet.ip.ttl, 255);
	assert_memory_equal(packet.c.at, a.bytes, 16);
	const uint8_t group[6] = {0x33, 0x33, 0xff, a.bytes[13], a.bytes[14], a.bytes[15]};
	assert_memory_equal(packet.to_mac, mac ? mac : group, 6);
	assert_int_equal(ip_is_multicast(&packet.ip.to), mac == NULL);
}

static void expect_packet(struct link *link, uint8_t protocol, const uint8_t mac[6], uint8_t mark)
{
	struct link_packet packet = link_next_ip(link, protocol);

	assert_memory_equal(packet.to_mac, mac, 6);
	assert_int_equal(packet.c.at[7], mark);
}

static void both(void (*test)(struct link *link, const char *peer))
{
	static const char *const peers[] = {"10.0.0.1", "fd00::1"};

	for (int i = 0; i < 2; i++) {
		struct link *link = link_open(NULL);
		test(link, peers[i]);
		link_close(link);
	}
}

/* RFC 4861 7.2.2, RFC 826: a packet waits for the answer to its question. */
static void resolve(struct link *link, const char *peer)
{
	assert_int_equal(send_to(link, peer, IP_TCP, 1), 0);
	assert_int_equal(send_to(link, peer, IP_TCP, 2), 0);
	expect_question(link, peer, NULL);
	link_quiet(link);
	expect_state(link, peer, NEIGHBOUR_INCOMPLETE);
	answer(link, peer, link_peer_mac);
	expect_state(link, peer, NEIGHBOUR_REACHABLE);
	expect_packet(link, IP_TCP, link_peer_mac, 1);
	expect_packet(link, IP_TCP, link_peer_mac, 2);
	assert_int_equal(send_to(link, peer, IP_TCP, 3), 0);
	expect_packet(link, IP_TCP, link_peer_mac, 3);
	link_quiet(link);
}

static void test_resolve(void **state)
{
	(void)state;
	both(resolve);
}

/* RFC 4861 7.3.3: reachable, stale, delay, probe, and back by an answer. */
static void age(struct link *link, const char *peer)
{
	link_know(link, peer);
	link_wait(link, 29 * LINK_SECOND);
	expect_state(link, peer, NEIGHBOUR_REACHABLE);
	link_wait(link, 2 * LINK_SECOND);
	expect_state(link, peer, NEIGHBOUR_STALE);
	link_wait(link, 600 * LINK_SECOND); /* nothing happens until it is used */
	expect_state(link, peer, NEIGHBOUR_STALE);
	link_quiet(link);
	assert_int_equal(send_to(link, peer, IP_TCP, 1), 0);
	expect_packet(link, IP_TCP, link_peer_mac, 1);
	expect_state(link, peer, NEIGHBOUR_DELAY);
	link_wait(link, 49 * LINK_SECOND / 10);
	expect_state(link, peer, NEIGHBOUR_DELAY);
	link_quiet(link);
	link_wait(link, LINK_SECOND / 5);
	expect_state(link, peer, NEIGHBOUR_PROBE);
	expect_question(link, peer, link_peer_mac);
	assert_int_equal(send_to(link, peer, IP_TCP, 2), 0);
	expect_packet(link, IP_TCP, link_peer_mac, 2);
	answer(link, peer, link_peer_mac);
	expect_state(link, peer, NEIGHBOUR_REACHABLE);
}

static void test_age(void **state)
{
	(void)state;
	both(age);
}

/* RFC 4861 7.3.3: probes that nobody answers end the entry, and the next packet asks everybody. */
static void vanish(struct link *link, const char *peer)
{
	link_know(link, peer);
	const struct neighbour *old = find(link, peer);
	uint32_t generation = old->generation;
	link_wait(link, 31 * LINK_SECOND);
	assert_int_equal(send_to(link, peer, IP_TCP, 1), 0);
	link_wait(link, 6 * LINK_SECOND);
	expect_packet(link, IP_TCP, link_peer_mac, 1);
	expect_question(link, peer, link_peer_mac);
	link_wait(link, 3 * LINK_SECOND);
	expect_question(link, peer, link_peer_mac);
	expect_question(link, peer, link_peer_mac);
	link_quiet(link);
	assert_null(find(link, peer));
	assert_int_equal(link->tcp.errors, 0);
	assert_int_equal(send_to(link, peer, IP_TCP, 2), 0);
	expect_question(link, peer, NULL);
	assert_int_not_equal(old->generation, generation);
}

static void test_vanish(void **state)
{
	(void)state;
	both(vanish);
}

/* RFC 4861 7.3.1: a transport's word is as good as an answer. */
static void confirm(struct link *link, const char *peer)
{
	link_know(link, peer);
	struct neighbour *n = find(link, peer);
	for (int i = 0; i < 10; i++) {
		link_wait(link, 20 * LINK_SECOND);
		neighbour_confirm(&link->net, n);
		expect_state(link, peer, NEIGHBOUR_REACHABLE);
	}
	link_wait(link, 31 * LINK_SECOND);
	expect_state(link, peer, NEIGHBOUR_STALE);
	assert_int_equal(send_to(link, peer, IP_TCP, 1), 0);
	link_wait(link, 6 * LINK_SECOND);
	expect_state(link, peer, NEIGHBOUR_PROBE);
	neighbour_confirm(&link->net, n);
	expect_state(link, peer, NEIGHBOUR_REACHABLE);
	link_wait(link, 31 * LINK_SECOND);
	expect_state(link, peer, NEIGHBOUR_STALE);
}

static void test_confirm(void **state)
{
	(void)state;
	both(confirm);
}

/* RFC 1122 2.3.2.1, RFC 4861 7.2.2: who does not answer is unreachable, for a while. */
static void nobody(struct link *link, const char *peer)
{
	const struct ip_address a = link_address(peer);

	for (uint8_t i = 0; i < 2; i++)
		assert_int_equal(send_to(link, peer, IP_TCP, i), 0);
	link_wait(link, 29 * LINK_SECOND / 10);
	for (int i = 0; i < 3; i++)
		expect_question(link, peer, NULL);
	link_quiet(link);
	assert_int_equal(link->tcp.errors, 0);
	link_wait(link, LINK_SECOND / 5);
	assert_int_equal(link->tcp.errors, 2);
	assert_int_equal(link->tcp.error.err, EHOSTUNREACH);
	assert_true(link->tcp.error.local);
	assert_false(link->tcp.error.hard);
	assert_int_equal(link->tcp.quote.source_port, 7);
	assert_int_equal(link->tcp.quote.destination_port, 9);
	assert_true(ip_equal(&link->tcp.quote.to, &a));
	assert_int_equal(link_drops(link, DROP_NEIGHBOUR_FAILED), 2);
	expect_state(link, peer, NEIGHBOUR_FAILED);
	assert_int_equal(send_to(link, peer, IP_TCP, 3), -EHOSTUNREACH);
	link_quiet(link);
	link_wait(link, 11 * LINK_SECOND / 10);
	assert_null(find(link, peer));
	assert_int_equal(send_to(link, peer, IP_TCP, 4), 0);
	expect_question(link, peer, NULL);
}

static void test_nobody(void **state)
{
	(void)state;
	both(nobody);
}

/* A late answer to a question that was given up. */
static void late(struct link *link, const char *peer)
{
	assert_int_equal(send_to(link, peer, IP_TCP, 1), 0);
	link_wait(link, 32 * LINK_SECOND / 10);
	expect_state(link, peer, NEIGHBOUR_FAILED);
	answer(link, peer, link_peer_mac);
	expect_state(link, peer, NEIGHBOUR_STALE);
	link_forget(link);
	assert_int_equal(send_to(link, peer, IP_TCP, 2), 0);
	expect_packet(link, IP_TCP, link_peer_mac, 2);
	expect_state(link, peer, NEIGHBOUR_DELAY);
}

static void test_late(void **state)
{
	(void)state;
	both(late);
}

/* RFC 4861 7.2.2: the queue has a bound, the oldest packet goes. */
static void queue_bound(struct link *link, const char *peer)
{
	for (uint8_t i = 0; i < NEIGHBOUR_QUEUE + 5; i++)
		assert_int_equal(send_to(link, peer, IP_TCP, i), 0);
	assert_int_equal(find(link, peer)->num_queued, NEIGHBOUR_QUEUE);
	assert_int_equal(link_drops(link, DROP_NEIGHBOUR_QUEUE), 5);
	expect_question(link, peer, NULL);
	answer(link, peer, link_peer_mac);
	for (uint8_t i = 5; i < NEIGHBOUR_QUEUE + 5; i++)
		expect_packet(link, IP_TCP, link_peer_mac, i);
	link_quiet(link);
	assert_int_equal(find(link, peer)->num_queued, 0);
}

static void test_queue_bound(void **state)
{
	(void)state;
	both(queue_bound);
}

static const char *host(uint32_t i)
{
	static char text[20];

	(void)snprintf(text, sizeof(text), "10.0.0.%u", 10 + i);
	return text;
}

/* The table is full: what was unused longest goes, never a permanent entry. */
static void test_full(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address fixed = link_address("10.0.0.200");

	(void)state;
	assert_int_equal(link->net.neighbours.max, 16);
	assert_int_equal(neighbour_set(&link->net, &fixed, other_mac), 0);
	for (uint32_t i = 0; i < 15; i++) {
		link_know(link, host(i));
		link_wait(link, LINK_SECOND / 10);
	}
	assert_int_equal(link->net.neighbours.used, 16);
	assert_int_equal(send_to(link, host(0), IP_TCP, 1), 0); /* so 1 is the oldest */
	link_forget(link);
	struct ip_path path = {.neighbour = find(link, host(1))};
	path.generation = path.neighbour->generation;
	link_know(link, host(20));
	assert_int_equal(link->net.neighbours.used, 16);
	assert_null(find(link, host(1)));
	assert_non_null(find(link, host(0)));
	expect_state(link, "10.0.0.200", NEIGHBOUR_PERMANENT);
	assert_int_not_equal(path.neighbour->generation, path.generation);
	ip_path_confirm(&link->net, &path); /* another's entry now: untouched */
	assert_int_not_equal(find(link, host(20))->confirmed_ns, 0);
	link_close(link);
}

/* attack row 10: a scan of a whole prefix through us displaces no neighbour that answered (RFC
 * 6583), and holds a bounded number of packets. */
static void test_scan(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < 6; i++)
		link_know(link, host(i));
	for (uint32_t i = 20; i < 220; i++)
		assert_int_equal(send_to(link, host(i), IP_TCP, 1), 0);
	for (uint32_t i = 0; i < 6; i++)
		expect_state(link, host(i), NEIGHBOUR_REACHABLE);
	assert_int_equal(link->net.neighbours.num_asking, 8);
	assert_int_equal(link_drops(link, DROP_NEIGHBOUR_QUEUE), 192);
	link_close(link);
}

/* All are permanent: nobody else can be had. */
static void test_all_permanent(void **state)
{
	struct link *link = link_open(NULL);
	struct ip_address a;

	(void)state;
	for (uint32_t i = 0; i < 16; i++) {
		a = link_address(host(i));
		assert_int_equal(neighbour_set(&link->net, &a, other_mac), 0);
	}
	a = link_address(host(16));
	assert_int_equal(neighbour_set(&link->net, &a, other_mac), -ENOMEM);
	assert_null(neighbour_get(&link->net, &a));
	assert_int_equal(send_to(link, host(16), IP_TCP, 1), -EHOSTUNREACH);
	assert_int_equal(send_to(link, host(3), IP_TCP, 1), 0);
	expect_packet(link, IP_TCP, other_mac, 1);
	link_close(link);
}

static void permanent(struct link *link, const char *peer)
{
	const struct ip_address a = link_address(peer);

	assert_int_equal(send_to(link, peer, IP_TCP, 1),
			 0); /* it waits, and goes when the entry is set */
	expect_question(link, peer, NULL);
	assert_int_equal(neighbour_set(&link->net, &a, other_mac), 0);
	expect_packet(link, IP_TCP, other_mac, 1);
	answer(link, peer, link_peer_mac); /* attack row 10, 11: static entries are kept */
	link_wait(link, 100 * LINK_SECOND);
	expect_state(link, peer, NEIGHBOUR_PERMANENT);
	assert_int_equal(send_to(link, peer, IP_TCP, 2), 0);
	expect_packet(link, IP_TCP, other_mac, 2);
	link_quiet(link);
}

static void test_permanent(void **state)
{
	(void)state;
	both(permanent);
}

static void test_set_refused(void **state)
{
	static const uint8_t group[6] = {1, 0, 0x5e, 0, 0, 1};
	static const uint8_t none[6];
	struct link *link = link_open(NULL);
	struct ip_address a = link_address("10.0.0.1");

	(void)state;
	assert_int_equal(neighbour_set(&link->net, &a, group), -EINVAL);
	assert_int_equal(neighbour_set(&link->net, &a, none), -EINVAL);
	a = link_address("10.0.0.2");
	assert_int_equal(neighbour_set(&link->net, &a, other_mac), -EINVAL);
	a = link_address("224.0.0.1");
	assert_int_equal(neighbour_set(&link->net, &a, other_mac), -EINVAL);
	a = link_address("::");
	assert_int_equal(neighbour_set(&link->net, &a, other_mac), -EINVAL);
	link_close(link);
}

/* The cached way to a peer follows what becomes of its entry. */
static void test_path(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address to = link_address("fd00::1");
	const struct ip_address from = link_address("fd00::2");
	struct ip_path path = {0};
	uint32_t label = 0;

	(void)state;
	link_know(link, "fd00::1");
	for (int i = 0; i < 4; i++) {
		struct frame *frame = frame_alloc_tx(link->net.heap, 8);
		memset(frame->data, i == 0 ? 1 : 2, 8);
		frame->length = 8;
		assert_int_equal(ip_output(&link->net, frame, &from, &to, IP_UDP, 3, 0xb8, &path),
				 0);
		struct link_packet packet = link_next_ip(link, IP_UDP);
		assert_int_equal(packet.ip.ttl, 3);
		assert_int_equal(packet.ip.tos, 0xb8);
		assert_ptr_equal(path.neighbour, find(link, "fd00::1"));
		/* RFC 6437 3: one label for a flow */
		uint32_t now = load32(packet.ip.header) & 0xfffff;
		assert_true(i == 0 || now == label);
		label = now;
		assert_int_not_equal(label, 0);
	}
	answer(link, "fd00::1", other_mac); /* it moved: known, so believed, but doubted */
	struct frame *frame = frame_alloc_tx(link->net.heap, 8);
	memset(frame->data, 5, 8);
	frame->length = 8;
	assert_int_equal(ip_output(&link->net, frame, &from, &to, IP_UDP, 3, 0, &path), 0);
	expect_packet(link, IP_UDP, other_mac, 5);
	expect_state(link, "fd00::1", NEIGHBOUR_DELAY);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resolve),     cmocka_unit_test(test_age),
		cmocka_unit_test(test_vanish),      cmocka_unit_test(test_confirm),
		cmocka_unit_test(test_nobody),      cmocka_unit_test(test_late),
		cmocka_unit_test(test_queue_bound), cmocka_unit_test(test_full),
		cmocka_unit_test(test_scan),        cmocka_unit_test(test_all_permanent),
		cmocka_unit_test(test_permanent),   cmocka_unit_test(test_set_refused),
		cmocka_unit_test(test_path),
	};

	return test_run("net_neighbour", tests);
}
