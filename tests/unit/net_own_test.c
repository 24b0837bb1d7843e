/* SPDX-License-Identifier: MIT
 * tests/unit/net_own_test.c - the life of an address: duplicates of IPv6 addresses (dad.c),
 * conflicts about IPv4 ones (acd.c), and what the device is told.
 */
#include "support/link.h"

#include "net/own.h"
#include "net/wire/ether.h"

#include <errno.h>
#include <string.h>

#define NS    ICMPV6_NEIGHBOR_SOLICITATION
#define NA    ICMPV6_NEIGHBOR_ADVERTISEMENT
#define US    "fd00::2"
#define GROUP "ff02::1:ff00:2"

static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 9};
static struct ip_address steered[64];
static bool steered_on[64];
static uint32_t num_steered;

/* ---- what the device is told ---- */

static int record_steer(struct netdev *dev, const struct ip_address *address, bool wanted)
{
	(void)dev;
	assert_true(num_steered < ARRAY_LENGTH(steered));
	steered[num_steered] = *address;
	steered_on[num_steered++] = wanted;
	return 0;
}

static void watch_steer(struct link *link)
{
	static struct netdev_ops ops;

	ops = *link->dev.ops;
	ops.steer = record_steer;
	link->dev.ops = &ops;
	num_steered = 0;
}

/* Is the device to give us what is sent to it? */
static bool is_steered(const char *text)
{
	const struct ip_address a = link_address(text);
	bool wanted = false;

	for (uint32_t i = 0; i < num_steered; i++) {
		if (ip_equal(&steered[i], &a))
			wanted = steered_on[i];
	}
	return wanted;
}

static enum own_state state_of(struct link *link, const char *text)
{
	const struct ip_address a = link_address(text);
	const struct own_address *own = own_find(&link->net, &a);

	return own ? own->state : OWN_FREE;
}

static bool may_bind(struct link *link, const char *text)
{
	const struct ip_address a = link_address(text);

	return own_may_bind(&link->net, &a);
}

/* ---- IPv6 ---- */

static void with_dad(struct link *link)
{
	watch_steer(link);
	link->rig.sched.config.dad_probes = 1;
}

static void with_three(struct link *link)
{
	watch_steer(link);
	link->rig.sched.config.dad_probes = 3;
}

static struct link *open_now(void (*configure)(struct link *link))
{
	struct link *link;

	assert_int_equal(link_try_open(&link, configure), 0);
	net_flush(&link->net);
	return link;
}

static void message_arrives(struct link *link, const char *from, const char *to, uint8_t type,
			    const struct nd_message *message)
{
	struct link_made made = link_make_nd(from, to, type, message);

	link_arrive_made(link, &made);
}

/* The next probe for an address of ours; its message. */
static struct nd_message expect_probe(struct link *link, const char *target)
{
	const struct ip_address a = link_address(target);
	struct link_packet packet;
	struct nd_message message;
	struct icmp_header header = link_next_icmp(link, NS, 0, &packet);

	/* RFC 4862 5.4.2 MUST: from ::, to the solicited-node group, without a link-layer address
	 */
	assert_true(ip_is_any(&packet.ip.from));
	assert_int_equal(packet.ip.to.bytes[11], 1);
	assert_int_equal(packet.ip.to.bytes[12], 0xff);
	assert_memory_equal(packet.ip.to.bytes + 13, a.bytes + 13, 3);
	assert_memory_equal(packet.to_mac + 2, packet.ip.to.bytes + 12, 4);
	assert_int_equal(nd_parse(&packet.c, &packet.ip, &header, &message), DROP_NONE);
	assert_true(ip_equal(&message.target, &a));
	assert_false(message.has_mac);
	assert_true(message.has_nonce); /* RFC 7527 4.1 */
	return message;
}

/* RFC 4862 5.4, RFC 4429: used at once, probed, and preferred when nobody objects */
static void test_unique(void **state)
{
	struct link *link = open_now(with_three);

	(void)state;
	link_next_arp(link, ARP_REQUEST, "10.0.0.2");
	for (int i = 0; i < 3; i++) {
		(void)expect_probe(link, US);
		(void)expect_probe(link, "fe80::ff:fe00:2");
		assert_int_equal(state_of(link, US), OWN_OPTIMISTIC);
		assert_true(may_bind(link, US));
		link_wait(link, 101 * LINK_SECOND / 100);
		if (i == 1)
			link_next_arp(link, ARP_REQUEST, "10.0.0.2");
	}
	link_quiet(link);
	assert_int_equal(state_of(link, US), OWN_PREFERRED);
	assert_true(is_steered(US));
	link_close(link);
}

/* RFC 4429 3.2 MUST NOT, 3.3 MUST: an optimistic address asks nobody, so that packets wait; it is
 * answered for, without overriding */
static void test_optimistic(void **state)
{
	struct link *link = open_now(with_dad);
	struct nd_message message = {.target = link_address(US), .has_mac = true};
	const struct ip_address peer = link_address("fd00::1");
	struct link_packet packet;

	(void)state;
	memcpy(message.mac, link_peer_mac, 6);
	link_forget(link);
	const struct neighbour *n = neighbour_get(&link->net, &peer);
	link_quiet(link);
	message_arrives(link, "fd00::1", GROUP, NS, &message);
	struct icmp_header header = link_next_icmp(link, NA, 0, &packet);
	assert_int_equal(header.rest >> 29, 2); /* solicited, not override */
	assert_int_equal(n->probes, 0);
	link_wait(link, LINK_SECOND + LINK_SECOND / 100);
	assert_int_equal(state_of(link, US), OWN_PREFERRED);
	link_forget(link);
	message_arrives(link, "fd00::1", GROUP, NS, &message);
	header = link_next_icmp(link, NA, 0, &packet);
	assert_int_equal(header.rest >> 29, 3);
	link_close(link);
}

/* The question that waited goes out when the address is settled. */
static void test_question_waits(void **state)
{
	struct link *link = open_now(with_dad);
	const struct ip_address peer = link_address("fd00::1");
	struct link_packet packet;

	(void)state;
	link_wait(link, LINK_SECOND / 2);
	(void)neighbour_get(&link->net, &peer);
	link_forget(link);
	link_wait(link, 52 * LINK_SECOND / 100);
	(void)link_next_icmp(link, NS, 0, &packet);
	assert_false(ip_is_any(&packet.ip.from));
	link_close(link);
}

static void expect_lost(struct link *link, const char *address)
{
	const struct ip_address a = link_address(address);

	assert_int_equal(state_of(link, address), OWN_DUPLICATE);
	assert_false(net_is_local(&link->net, &a));
	assert_false(may_bind(link, address));
	assert_false(is_steered(address));
	assert_non_null(strstr(link->log, address));
	assert_int_equal(link->tcp.lost, 1);
	assert_true(ip_equal(&link->tcp.lost_address, &a));
	assert_int_equal(link_drops(link, DROP_ADDRESS_CONFLICT), 1);
}

/* RFC 4862 5.4.4, 5.4.5 MUST NOT: somebody advertises it: not assigned, told */
static void test_advertised(void **state)
{
	struct link *link = open_now(with_dad);
	struct nd_message message = {.target = link_address(US), .has_mac = true};

	(void)state;
	memcpy(message.mac, other_mac, 6);
	message_arrives(link, US, "ff02::1", NA, &message); /* from where it has it */
	expect_lost(link, US);
	link_forget(link);
	/* Nobody is answered for it. */
	message.has_mac = true;
	message_arrives(link, "fd00::1", GROUP, NS, &message);
	link_quiet(link);
	link_wait(link, 2 * LINK_SECOND);
	assert_int_equal(state_of(link, US), OWN_DUPLICATE);
	link_close(link);
}

/* RFC 4862 5.4.3 MUST NOT: two look for duplicates of one address: neither has it.  RFC 7527 4.3: a
 * probe of ours that comes back is none of another's. */
static void test_solicited(void **state)
{
	struct link *link = open_now(with_dad);

	(void)state;
	link_next_arp(link, ARP_REQUEST, "10.0.0.2");
	struct nd_message ours = expect_probe(link, US);
	message_arrives(link, "::", GROUP, NS, &ours);
	assert_int_equal(state_of(link, US), OWN_OPTIMISTIC);
	ours.nonce[3] ^= 1;
	message_arrives(link, "::", GROUP, NS, &ours);
	assert_int_equal(state_of(link, US), OWN_DUPLICATE);
	assert_int_equal(link->tcp.lost, 1);
	link_close(link);
}

/* Our own advertisement that comes back is none of another's. */
static void test_echo(void **state)
{
	struct link *link = open_now(with_dad);
	struct nd_message message = {.target = link_address(US), .has_mac = true};

	(void)state;
	memcpy(message.mac, link_mac, 6);
	message_arrives(link, "fe80::9", "ff02::1", NA, &message);
	assert_int_equal(state_of(link, US), OWN_OPTIMISTIC);
	link_close(link);
}

/* RFC 7217 6: an address that we made gets another identifier, a few times */
static void test_next_identifier(void **state)
{
	struct link *link = open_now(with_dad);
	struct nd_message message = {.has_mac = true};

	(void)state;
	memcpy(message.mac, other_mac, 6);
	for (uint32_t i = 0; i < 6; i++) {
		message.target = link_address("::");
		for (uint32_t j = 0; j < link->net.num_addresses; j++) {
			if (ip_is_link_local(&link->net.addresses[j].address))
				message.target = link->net.addresses[j].address;
		}
		assert_true(i < 4 ? !ip_is_any(&message.target) : ip_is_any(&message.target));
		if (i < 4)
			message_arrives(link, "fe80::9", "ff02::1", NA, &message);
		if (i == 0)
			assert_int_equal(state_of(link, "fe80::ff:fe00:2"), OWN_FREE);
	}
	assert_int_equal(link->tcp.lost, 4);
	link_close(link);
}

/* ---- IPv4 ---- */

static void with_acd(struct link *link)
{
	watch_steer(link);
	link->rig.sched.config.arp_probes = 3;
}

static uint32_t count_arp(struct link *link, bool announcements)
{
	uint32_t count = 0;

	for (const struct link_frame *frame = link_next(link); frame; frame = link_next(link)) {
		struct cursor c = cursor_over(frame->bytes, frame->length);
		struct arp arp;
		cursor_skip(&c, ETHER_HEADER_BYTES);
		if (load16(frame->bytes + 12) != ETHER_ARP)
			continue;
		assert_int_equal(arp_parse(&c, &arp), DROP_NONE);
		assert_int_equal(arp.operation, ARP_REQUEST);
		assert_int_equal(arp.target, link_address("10.0.0.2").words[3]);
		/* RFC 5227 2.1.1 MUST: a probe is from 0.0.0.0 to no link-layer address */
		assert_int_equal(arp.sender, announcements ? arp.target : 0);
		count++;
	}
	return count;
}

/* RFC 5227 2.1 MUST, 2.3 MUST: three probes in one to seven seconds, then two announcements; not
 * used, answered for or asked from before */
static void test_probing(void **state)
{
	struct link *link = open_now(with_acd);
	const struct ip_address peer = link_address("10.0.0.1");
	const struct ip_address us = link_address("10.0.0.2");

	(void)state;
	assert_int_equal(state_of(link, "10.0.0.2"), OWN_TENTATIVE);
	assert_true(may_bind(link, "10.0.0.2"));
	assert_true(is_steered("10.0.0.2"));
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.2");
	link_quiet(link);
	assert_true(ip_equal(net_source_for(&link->net, &peer), &us));
	struct frame *frame = frame_alloc_tx(link->net.heap, 8);
	frame->length = 8;
	assert_int_equal(ip_output(&link->net, frame, &us, &peer, IP_UDP, 64, 0, NULL),
			 -EADDRNOTAVAIL);
	link_wait(link, 39 * LINK_SECOND / 10);
	assert_int_equal(state_of(link, "10.0.0.2"), OWN_TENTATIVE);
	link_wait(link, 32 * LINK_SECOND / 10);
	assert_int_equal(state_of(link, "10.0.0.2"), OWN_PREFERRED);
	uint32_t probes = 0;
	for (const struct link_frame *sent = link_next(link); sent; sent = link_next(link))
		probes += load16(sent->bytes + 12) == ETHER_ARP && load32(sent->bytes + 28) == 0;
	assert_int_equal(probes, 3);
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.2");
	link_next_arp(link, ARP_REPLY, "10.0.0.1");
	link_close(link);
}

/* RFC 5227 2.3 MUST: two announcements, two seconds apart */
static void test_announcements(void **state)
{
	struct link *link = open_now(NULL);

	(void)state;
	assert_int_equal(count_arp(link, true), 1);
	link_wait(link, 19 * LINK_SECOND / 10);
	assert_int_equal(count_arp(link, true), 0);
	link_wait(link, LINK_SECOND / 5);
	assert_int_equal(count_arp(link, true), 1);
	link_wait(link, 20 * LINK_SECOND);
	assert_int_equal(count_arp(link, true), 0);
	link_close(link);
}

/* RFC 5227 2.1.1 MUST: a packet from the address, or another's probe for it, ends the probing */
static void test_probe_conflict(void **state)
{
	static const struct {
		uint16_t operation;
		const char *sender;
		const char *target;
		bool conflict;
	} rows[] = {
		{ARP_REPLY, "10.0.0.2", "10.0.0.9", true},
		{ARP_REQUEST, "10.0.0.2", "10.0.0.9", true},
		{ARP_REQUEST, "0.0.0.0", "10.0.0.2", true},
		{ARP_REQUEST, "0.0.0.0", "10.0.0.3", false},
		{ARP_REPLY, "0.0.0.0", "10.0.0.2", false},
		{ARP_REQUEST, "10.0.0.9", "10.0.0.2", false},
	};

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		struct link *link = open_now(with_acd);
		/* our own probe, come back */
		link_arrive_arp(link, ARP_REQUEST, link_mac, "0.0.0.0", "10.0.0.2");
		assert_int_equal(state_of(link, "10.0.0.2"), OWN_TENTATIVE);
		link_arrive_arp(link, rows[i].operation, other_mac, rows[i].sender, rows[i].target);
		if (rows[i].conflict)
			expect_lost(link, "10.0.0.2");
		else
			assert_int_equal(state_of(link, "10.0.0.2"), OWN_TENTATIVE);
		link_close(link);
	}
}

/* RFC 5227 2.4 (b) MUST: defended once, given up when the other goes on within ten seconds */
static void test_yield(void **state)
{
	struct link *link = link_open(watch_steer);

	(void)state;
	for (int i = 0; i < 2; i++) {
		link_arrive_arp(link, ARP_REQUEST, other_mac, "10.0.0.2", "10.0.0.1");
		assert_int_equal(count_arp(link, true), 1);
		assert_int_equal(state_of(link, "10.0.0.2"), OWN_PREFERRED);
		link_wait(link, 101 * LINK_SECOND / 10);
	}
	link_arrive_arp(link, ARP_REQUEST, other_mac, "10.0.0.2", "10.0.0.1");
	assert_int_equal(count_arp(link, true), 1);
	link->net.sched->counters.drops[DROP_ADDRESS_CONFLICT] = 0;
	link_arrive_arp(link, ARP_REPLY, other_mac, "10.0.0.2", "10.0.0.2");
	expect_lost(link, "10.0.0.2");
	/* It is theirs now. */
	link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.1", "10.0.0.2");
	link_quiet(link);
	assert_int_equal(link->net.num_v4, 0);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unique),          cmocka_unit_test(test_optimistic),
		cmocka_unit_test(test_question_waits),  cmocka_unit_test(test_advertised),
		cmocka_unit_test(test_solicited),       cmocka_unit_test(test_echo),
		cmocka_unit_test(test_next_identifier), cmocka_unit_test(test_probing),
		cmocka_unit_test(test_announcements),   cmocka_unit_test(test_probe_conflict),
		cmocka_unit_test(test_yield),
	};

	return test_run("net_own", tests);
}
