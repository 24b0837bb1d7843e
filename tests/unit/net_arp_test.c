/* SPDX-License-Identifier: MIT
 * tests/unit/net_arp_test.c - ARP: who is answered, who is believed, what is defended.
 */
#include "support/link.h"

#include "net/wire/ether.h"

#include <string.h>

static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};

static struct neighbour *find(struct link *link, const char *address)
{
	const struct ip_address a = link_address(address);

	return neighbour_find(&link->net, &a);
}

static void several(struct link *link)
{
	link_set(link->rig.sched.config.addresses, "10.0.0.2/24,10.1.0.2/16,fd00::2/64");
}

/* RFC 5227 2.3: each IPv4 address is announced, once the device is started. */
static void test_announce(void **state)
{
	struct link *link;

	(void)state;
	assert_int_equal(link_try_open(&link, several), 0);
	link_next_arp(link, ARP_REQUEST, "10.0.0.2");
	link_next_arp(link, ARP_REQUEST, "10.1.0.2");
	link_quiet(link);
	link_close(link);
}

/* RFC 826: a request for us is answered to who asked. */
static void test_reply(void **state)
{
	struct link *link = link_open(several);

	(void)state;
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.2");
	link_next_arp(link, ARP_REPLY, "10.0.0.1");
	assert_memory_equal(link->sent[0].bytes, link_peer_mac, 6);
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.1.0.2");
	link_next_arp(link, ARP_REPLY, "10.0.0.1");
	/* RFC 5227 2.1.1: a probe, from no address, too */
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "0.0.0.0", "10.0.0.2");
	link_next_arp(link, ARP_REPLY, "0.0.0.0");
	link_quiet(link);
	/* Nobody else's */
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.3");
	link_quiet(link);
	assert_int_equal(link_drops(link, DROP_ARP_UNASKED), 1);
	assert_int_equal(link->net.neighbours.used, 0);
	link_close(link);
}

/* attack row 10: replies that nobody asked for teach nothing, requests make no entries */
static void test_unasked(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	link_arrive_arp(link, ARP_REPLY, other_mac, "10.0.0.1", "10.0.0.2");
	link_arrive_arp(link, ARP_REPLY, other_mac, "10.0.0.1", "10.0.0.1");
	link_arrive_arp(link, ARP_REQUEST, other_mac, "10.0.0.1", "10.0.0.1");
	assert_int_equal(link_drops(link, DROP_ARP_UNASKED), 3);
	assert_int_equal(link->net.neighbours.used, 0);
	for (uint32_t i = 0; i < 1000; i++) { /* a flood of requests from a whole prefix */
		uint8_t bytes[ETHER_HEADER_BYTES + ARP_BYTES];
		struct arp arp = {
			.operation = ARP_REQUEST,
			.sender = link_address("10.0.0.3").words[3] + (i << 16 & 0xff0000),
			.target = link_address("10.0.0.2").words[3],
		};
		memcpy(arp.sender_mac, other_mac, 6);
		ether_write(bytes, link_mac, other_mac, ETHER_ARP);
		arp_write(bytes + ETHER_HEADER_BYTES, &arp);
		link_arrive(link, bytes, sizeof(bytes));
		link_forget(link);
	}
	assert_int_equal(link->net.neighbours.used, 0);
	link_close(link);
}

/* attack row 10: known entries are updated, and doubted until they answer */
static void test_update(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	link_know(link, "10.0.0.1");
	link_arrive_arp(link, ARP_REPLY, link_peer_mac, "10.0.0.1", "10.0.0.1"); /* nothing new */
	assert_int_equal(find(link, "10.0.0.1")->state, NEIGHBOUR_REACHABLE);
	link_arrive_arp(link, ARP_REPLY, other_mac, "10.0.0.1", "10.0.0.2");
	assert_int_equal(find(link, "10.0.0.1")->state, NEIGHBOUR_STALE);
	assert_memory_equal(find(link, "10.0.0.1")->mac, other_mac, 6);
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.77");
	assert_memory_equal(find(link, "10.0.0.1")->mac, link_peer_mac, 6);
	assert_int_equal(find(link, "10.0.0.1")->state, NEIGHBOUR_STALE);
	assert_int_equal(link_drops(link, DROP_ARP_UNASKED), 0);
	link_close(link);
}

/* attack row 10: malformed ones, and senders that can be nobody */
static void test_bad(void **state)
{
	static const struct {
		uint32_t at;
		uint8_t value;
	} changes[] = {
		{1, 6},  /* hardware type */
		{2, 9},  /* protocol */
		{4, 8},  /* hlen */
		{5, 16}, /* plen */
		{7, 3},  /* operation */
		{8, 3},  /* sender MAC of a group */
	};

	static const uint8_t none[6];
	struct link *link = link_open(NULL);
	uint8_t bytes[ETHER_HEADER_BYTES + ARP_BYTES];
	struct arp arp = {
		.operation = ARP_REQUEST,
		.sender = link_address("10.0.0.1").words[3],
		.target = link_address("10.0.0.2").words[3],
	};

	(void)state;
	link_know(link, "10.0.0.1");
	memcpy(arp.sender_mac, other_mac, 6);
	ether_write(bytes, link_mac, other_mac, ETHER_ARP);
	for (uint32_t i = 0; i < ARRAY_LENGTH(changes); i++) {
		arp_write(bytes + ETHER_HEADER_BYTES, &arp);
		bytes[ETHER_HEADER_BYTES + changes[i].at] = changes[i].value;
		link_arrive(link, bytes, sizeof(bytes));
		assert_int_equal(link_drops(link, DROP_ARP_BAD), i + 1);
	}
	arp_write(bytes + ETHER_HEADER_BYTES, &arp);
	for (uint32_t length = ETHER_HEADER_BYTES; length < sizeof(bytes); length++)
		link_arrive(link, bytes, length);
	assert_int_equal(link_drops(link, DROP_ARP_BAD), ARRAY_LENGTH(changes) + ARP_BYTES);
	link_arrive_arp(link, ARP_REPLY, none, "10.0.0.1", "10.0.0.2");
	assert_int_equal(link->dropped, DROP_ARP_BAD);
	assert_memory_equal(find(link, "10.0.0.1")->mac, link_peer_mac, 6);
	assert_int_equal(find(link, "10.0.0.1")->state, NEIGHBOUR_REACHABLE);
	link_quiet(link);
	link_close(link);
}

static void stubborn(struct link *link)
{
	link->rig.sched.config.arp_conflict = 1;
}

/* attack row 10, RFC 5227 2.4 (c) MUST NOT: an address that is kept is defended once in ten
 * seconds, and nothing is learned */
static void test_defend(void **state)
{
	struct link *link = link_open(stubborn);

	(void)state;
	link_arrive_arp(link, ARP_REPLY, other_mac, "10.0.0.2", "10.0.0.2");
	link_next_arp(link, ARP_REQUEST, "10.0.0.2");
	assert_non_null(strstr(link->log, "address of ours"));
	for (int i = 0; i < 20; i++)
		link_arrive_arp(link, ARP_REQUEST, other_mac, "10.0.0.2", "10.0.0.1");
	link_quiet(link);
	link_wait(link, 99 * LINK_SECOND / 10);
	link_arrive_arp(link, ARP_REQUEST, other_mac, "10.0.0.2", "10.0.0.1");
	link_quiet(link);
	link_wait(link, LINK_SECOND / 5);
	link_arrive_arp(link, ARP_REQUEST, other_mac, "10.0.0.2", "10.0.0.1");
	link_next_arp(link, ARP_REQUEST, "10.0.0.2");
	link_quiet(link);
	assert_int_equal(link_drops(link, DROP_ADDRESS_CONFLICT), 23);
	assert_int_equal(link->net.neighbours.used, 0);
	/* Our own announcement, come back over a loop of the link, is no conflict. */
	link_arrive_arp(link, ARP_REQUEST, link_mac, "10.0.0.2", "10.0.0.2");
	assert_int_equal(link_drops(link, DROP_ADDRESS_CONFLICT), 23);
	assert_int_equal(link_drops(link, DROP_ARP_UNASKED), 1);
	link_close(link);
}

/* Only the answer to an open question makes reachable, and only if it is to us. */
static void test_answer(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address a = link_address("10.0.0.1");

	(void)state;
	(void)neighbour_get(&link->net, &a);
	link_forget(link);
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.2");
	assert_int_equal(find(link, "10.0.0.1")->state, NEIGHBOUR_STALE);
	link_forget(link);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_announce), cmocka_unit_test(test_reply),
		cmocka_unit_test(test_unasked),  cmocka_unit_test(test_update),
		cmocka_unit_test(test_bad),      cmocka_unit_test(test_defend),
		cmocka_unit_test(test_answer),
	};

	return test_run("net_arp", tests);
}
