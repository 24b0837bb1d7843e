/* SPDX-License-Identifier: MIT
 * tests/unit/net_nd_test.c - neighbour discovery: who is answered, who is believed.
 */
#include "support/link.h"

#include "net/wire/ether.h"

#include <string.h>

#define NS        ICMPV6_NEIGHBOR_SOLICITATION
#define NA        ICMPV6_NEIGHBOR_ADVERTISEMENT
#define US        "fd00::2"
#define OUR_GROUP "ff02::1:ff00:2" /* of fd00::2 and of our link-local address alike */
#define PEER      "fd00::1"

static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};

static struct neighbour *find(struct link *link, const char *address)
{
	const struct ip_address a = link_address(address);

	return neighbour_find(&link->net, &a);
}

static struct nd_message message_of(const char *target, const uint8_t *mac)
{
	struct nd_message message = {.target = link_address(target), .has_mac = mac != NULL};

	if (mac)
		memcpy(message.mac, mac, 6);
	return message;
}

static void solicit(struct link *link, const char *from, const char *to, const char *target,
		    const uint8_t *mac)
{
	const struct nd_message message = message_of(target, mac);
	struct link_made made = link_make_nd(from, to, NS, &message);

	link_arrive_made(link, &made);
}

static void advertise(struct link *link, const struct nd_message *message)
{
	struct link_made made = link_make_nd(PEER, US, NA, message);

	link_arrive_made(link, &made);
}

/* An advertisement of ours to this address and MAC. */
static struct icmp_header expect_answer(struct link *link, const char *to, const uint8_t mac[6])
{
	const struct ip_address a = link_address(to);
	const struct ip_address us = link_address(US);
	struct link_packet packet;
	struct icmp_header header = link_next_icmp(link, NA, 0, &packet);
	struct nd_message message;

	assert_true(ip_equal(&packet.ip.to, &a));
	assert_memory_equal(packet.to_mac, mac, 6);
	assert_int_equal(nd_parse(&packet.c, &packet.ip, &header, &message), DROP_NONE);
	assert_true(ip_equal(&message.target, &us));
	assert_memory_equal(message.mac, link_mac, 6);
	assert_true(message.override);
	assert_false(message.router);
	return header;
}

/* RFC 4861 7.2.4 */
static void test_answer(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	solicit(link, PEER, OUR_GROUP, US, link_peer_mac);
	assert_true(expect_answer(link, PEER, link_peer_mac).rest & 0x40000000);
	solicit(link, PEER, US, US, link_peer_mac); /* a probe */
	(void)expect_answer(link, PEER, link_peer_mac);
	solicit(link, "fe80::1", OUR_GROUP, US, link_peer_mac);
	(void)expect_answer(link, "fe80::1", link_peer_mac);
	link_quiet(link);
	assert_int_equal(link->net.neighbours.used, 0); /* attack row 11: no entry of its sender */
	/* Without its address it has to be asked for first. */
	solicit(link, PEER, US, US, NULL);
	struct link_packet packet;
	(void)link_next_icmp(link, NS, 0, &packet);
	link_know(link, PEER);
	link_quiet(link);
	link_close(link);
}

/* RFC 4861 7.2.3: an entry that is there learns from a solicitation, and is doubted. */
static void test_learn(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	link_know(link, PEER);
	solicit(link, PEER, OUR_GROUP, US, link_peer_mac);
	assert_int_equal(find(link, PEER)->state, NEIGHBOUR_REACHABLE);
	solicit(link, PEER, OUR_GROUP, US, other_mac);
	assert_int_equal(find(link, PEER)->state, NEIGHBOUR_STALE);
	assert_memory_equal(find(link, PEER)->mac, other_mac, 6);
	link_forget(link);
	link_close(link);
}

/* attack row 11, RFC 4862 5.4.3: somebody wants an address of ours: all are told that we have it */
static void test_duplicate(void **state)
{
	static const uint8_t all_nodes[6] = {0x33, 0x33, 0, 0, 0, 1};
	struct link *link = link_open(NULL);

	(void)state;
	solicit(link, "::", OUR_GROUP, US, NULL);
	assert_false(expect_answer(link, "ff02::1", all_nodes).rest & 0x40000000);
	/* or has it already */
	struct nd_message message = message_of(US, other_mac);
	message.override = true;
	advertise(link, &message);
	assert_int_equal(link_drops(link, DROP_ADDRESS_CONFLICT), 1);
	assert_non_null(strstr(link->log, "address of ours"));
	link_quiet(link);
	link_close(link);
}

/* For other targets, or to groups that we are not in. */
static void test_not_ours(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	solicit(link, PEER, OUR_GROUP, "fd00::3", link_peer_mac);
	assert_int_equal(link_drops(link, DROP_ND_UNASKED), 1);
	solicit(link, PEER, "ff02::1:ff00:3", "fd00::3", link_peer_mac);
	assert_int_equal(link_drops(link, DROP_IP_DESTINATION), 1);
	link_quiet(link);
	link_close(link);
}

/* attack row 11: hop limit, option of length 0, link-layer address of a group, checksum */
static void test_bad(void **state)
{
	struct link *link = link_open(NULL);
	const struct nd_message message = message_of(US, link_peer_mac);
	struct link_made good = link_make_nd(PEER, OUR_GROUP, NS, &message);
	struct link_made bad = good;
	struct nd_message group = message;

	(void)state;
	bad.bytes[ETHER_HEADER_BYTES + 7] = 254;
	link_arrive_made(link, &bad);
	assert_int_equal(link_drops(link, DROP_ND_BAD), 1);
	group.mac[0] |= 1;
	bad = link_make_nd(PEER, OUR_GROUP, NS, &group);
	link_arrive_made(link, &bad);
	assert_int_equal(link_drops(link, DROP_ND_BAD), 2);
	struct icmp_header header = {.type = NS};
	uint8_t body[24] = {0};
	memcpy(body, message.target.bytes, 16);
	body[16] = 1; /* an option of length 0 */
	bad = link_make_icmp(PEER, OUR_GROUP, &header, body, sizeof(body));
	bad.bytes[ETHER_HEADER_BYTES + 7] = 255;
	link_arrive_made(link, &bad);
	assert_int_equal(link_drops(link, DROP_ND_BAD), 3);
	bad = good;
	bad.bytes[bad.length - 1] ^= 1;
	link_arrive_made(link, &bad);
	assert_int_equal(link_drops(link, DROP_ICMP_BAD), 1);
	link_quiet(link);
	link_arrive_made(link, &good);
	(void)expect_answer(link, PEER, link_peer_mac);
	link_close(link);
}

/* attack row 11: an advertisement that nobody asked for teaches nothing new */
static void test_unasked(void **state)
{
	struct link *link = link_open(NULL);
	struct nd_message message = message_of(PEER, other_mac);

	(void)state;
	message.solicited = true;
	message.override = true;
	advertise(link, &message);
	assert_int_equal(link_drops(link, DROP_ND_UNASKED), 1);
	assert_int_equal(link->net.neighbours.used, 0);
	/* of a known one: believed with override, but doubted */
	link_know(link, PEER);
	advertise(link, &message);
	assert_memory_equal(find(link, PEER)->mac, other_mac, 6);
	assert_int_equal(find(link, PEER)->state, NEIGHBOUR_STALE);
	link_close(link);
}

/* RFC 4861 7.2.5: what an advertisement changes, by its flags and the state. */
static void test_flags(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address a = link_address(PEER);
	struct nd_message message = message_of(PEER, NULL);

	(void)state;
	struct neighbour *n = neighbour_get(&link->net, &a);
	advertise(link, &message); /* without an address it answers nothing */
	assert_int_equal(n->state, NEIGHBOUR_INCOMPLETE);
	message = message_of(PEER, link_peer_mac);
	advertise(link, &message); /* not solicited */
	assert_int_equal(n->state, NEIGHBOUR_STALE);
	neighbour_learn(&link->net, n, link_peer_mac, true);
	message = message_of(PEER, other_mac); /* another address, no override: the old one stays */
	advertise(link, &message);
	assert_int_equal(n->state, NEIGHBOUR_STALE);
	assert_memory_equal(n->mac, link_peer_mac, 6);
	advertise(link, &message); /* and again, STALE: nothing */
	assert_int_equal(n->state, NEIGHBOUR_STALE);
	assert_memory_equal(n->mac, link_peer_mac, 6);
	neighbour_learn(&link->net, n, link_peer_mac, true);
	message = message_of(PEER, link_peer_mac); /* the same address: nothing new */
	advertise(link, &message);
	assert_int_equal(n->state, NEIGHBOUR_REACHABLE);
	link_forget(link);
	link_close(link);
}

/* attack row 11: router advertisements, solicitations and redirects are ignored */
static void test_routers(void **state)
{
	static const uint8_t types[] = {133, 134, 137};
	struct link *link = link_open(NULL);
	uint8_t body[32] = {0};

	(void)state;
	for (uint32_t i = 0; i < sizeof(types); i++) {
		const struct icmp_header header = {.type = types[i]};
		struct link_made made =
			link_make_icmp("fe80::1", "ff02::1", &header, body, sizeof(body));
		made.bytes[ETHER_HEADER_BYTES + 7] = 255;
		for (int j = 0; j < 100; j++)
			link_arrive_made(link, &made);
	}
	assert_int_equal(link_drops(link, DROP_ICMP_TYPE), 300);
	assert_int_equal(link->net.neighbours.used, 0);
	assert_int_equal(link->net.num_addresses, 3);
	link_quiet(link);
	link_close(link);
}

/* RFC 4861 7.2.2: link-local targets are asked for from our link-local address. */
static void test_link_local(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address a = link_address("fe80::1");
	const struct ip_address ours = link_address("fe80::ff:fe00:2");
	struct link_packet packet;

	(void)state;
	assert_true(ip_has_route(&link->net, &a));
	(void)neighbour_get(&link->net, &a);
	(void)link_next_icmp(link, NS, 0, &packet);
	assert_true(ip_equal(&packet.ip.from, &ours));
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answer),     cmocka_unit_test(test_duplicate),
		cmocka_unit_test(test_learn),      cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_bad),        cmocka_unit_test(test_unasked),
		cmocka_unit_test(test_flags),      cmocka_unit_test(test_routers),
		cmocka_unit_test(test_link_local),
	};

	return test_run("net_nd", tests);
}
