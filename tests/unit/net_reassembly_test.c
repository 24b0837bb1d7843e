/* SPDX-License-Identifier: MIT
 * tests/unit/net_reassembly_test.c - fragments that come in and go out: attack row 6, the atomic
 * fragments and header chains of row 7, the ids of row 26.
 *
 * What is put together goes to TCP, which is not there: any bytes will do.
 */
#include "support/link.h"

#include "net/reassembly.h"
#include "net/wire/ether.h"
#include "net/wire/udp.h"

#include "base/prng.h"
#include "support/seed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A fragment to be made. */
struct part {
	const char *from; /* NULL: 10.0.0.1 or fd00::1 */
	uint32_t id;
	uint32_t offset;
	uint32_t length;
	bool more;
	bool v6;
	uint8_t protocol; /* 0: TCP */
	uint8_t seed;     /* of its bytes */
	uint8_t tos;
};

static uint8_t byte_at(uint8_t seed, uint32_t offset)
{
	return (uint8_t)(seed + offset * 7 + (offset >> 8) * 3);
}

static struct link_made make(const struct part *part)
{
	const char *from = part->from ? part->from : part->v6 ? "fd00::1" : "10.0.0.1";
	uint8_t protocol = part->protocol ? part->protocol : IP_TCP;
	uint8_t bytes[1600];
	uint32_t front = part->v6 ? IPV6_FRAGMENT_BYTES : 0;

	assert_true(part->length + front <= sizeof(bytes));
	if (part->v6)
		ipv6_write_fragment(bytes, protocol, part->offset, part->more, part->id);
	for (uint32_t i = 0; i < part->length; i++)
		bytes[front + i] = byte_at(part->seed, part->offset + i);
	struct link_made made =
		link_make_ip(from, part->v6 ? "fd00::2" : "10.0.0.2",
			     part->v6 ? IP_FRAGMENT : protocol, bytes, front + part->length);
	uint8_t *at = made.bytes + ETHER_HEADER_BYTES;
	if (part->v6) {
		at[0] |= part->tos >> 4;
		at[1] |= (uint8_t)(part->tos << 4);
		return made;
	}
	at[1] = part->tos;
	ipv4_write_fragment(at,
			    (uint16_t)(part->offset / 8 | (part->more ? IPV4_MORE_FRAGMENTS : 0)),
			    (uint16_t)part->id);
	return made;
}

static void arrive(struct link *link, const struct part *part)
{
	struct link_made made = make(part);

	link_arrive_made(link, &made);
	net_check(&link->net);
}

/* Each datagram's number of bytes in order, cut at `step`. */
static void arrive_all(struct link *link, struct part part, uint32_t total, uint32_t step)
{
	for (part.offset = 0; part.offset < total; part.offset += step) {
		uint32_t left = total - part.offset;
		part.more = left > step;
		part.length = part.more ? step : left;
		arrive(link, &part);
	}
}

/* One more came up, so long, with these bytes; nothing waits. */
static void expect_whole(struct link *link, uint32_t packets, uint32_t length, uint8_t seed)
{
	assert_int_equal(link->tcp.packets, packets);
	assert_int_equal(link->tcp.length, length);
	for (uint32_t i = 0; i < length; i++)
		assert_int_equal(link->tcp.bytes[i], byte_at(seed, i));
}

static bool nothing_waits(const struct link *link)
{
	return link->net.reassembly == NULL;
}

/* ---- good ones ---- */

/* RFC 791 3.2, RFC 8200 4.5: in order, backwards, the largest; padding behind them */
static void orders(bool v6)
{
	struct link *link = link_open(NULL);
	const uint32_t largest = v6 ? 65535 : 65515;

	arrive_all(link, (struct part){.id = 1, .v6 = v6, .seed = 1}, 3000, 744);
	expect_whole(link, 1, 3000, 1);
	assert_true(nothing_waits(link));
	for (int i = 2; i >= 0; i--)
		arrive(link, &(struct part){.id = 2,
					    .v6 = v6,
					    .seed = 2,
					    .offset = (uint32_t)i * 800,
					    .length = i == 2 ? 5 : 800,
					    .more = i < 2});
	expect_whole(link, 2, 1605, 2);
	arrive_all(link, (struct part){.id = 3, .v6 = v6, .seed = 3}, largest, 1440);
	expect_whole(link, 3, largest, 3);
	assert_true(nothing_waits(link));
	assert_int_equal(link->rig.sched.counters.count[COUNTER_IP_REASSEMBLED], 3);
	link_quiet(link);
	link_close(link);
}

static void test_orders(void **state)
{
	(void)state;
	orders(false);
	orders(true);
}

/* Two datagrams that differ in the id, the source or, of IPv4, the protocol only */
static void test_mixed(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		const struct part parts[] = {
			{.id = 1, .seed = 1}, {.id = 2, .seed = 2}, {.id = 1, .seed = 3}};
		const char *other = v6 ? "fd00::7" : "10.0.0.7";
		uint32_t packets = link->tcp.packets;
		for (uint32_t i = 0; i < 3; i++) {
			struct part part = parts[i];
			part.v6 = v6;
			part.from = i == 2 ? other : NULL;
			part.length = 40;
			part.more = true;
			arrive(link, &part);
		}
		for (uint32_t i = 0; i < 3; i++) {
			struct part part = parts[i];
			part.v6 = v6;
			part.from = i == 2 ? other : NULL;
			part.length = 1;
			part.offset = 40;
			arrive(link, &part);
			expect_whole(link, packets + i + 1, 41, part.seed);
		}
	}
	uint32_t packets = link->tcp.packets;
	arrive(link, &(struct part){.id = 9, .length = 40, .more = true});
	arrive(link, &(struct part){.id = 9, .offset = 40, .length = 8, .protocol = IP_UDP});
	assert_int_equal(link->tcp.packets, packets);
	arrive(link, &(struct part){.id = 9, .offset = 40, .length = 8});
	expect_whole(link, packets + 1, 48, 0);
	link_close(link);
}

/* RFC 8200 4.5: exact duplicates change nothing */
static void test_duplicates(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct part first = {.id = 1, .v6 = v6, .length = 48, .more = true};
		struct part last = {.id = 1, .v6 = v6, .offset = 80, .length = 9};
		struct part middle = {.id = 1, .v6 = v6, .offset = 48, .length = 32, .more = true};
		uint64_t before = link_drops(link, DROP_IP_FRAGMENT);
		uint32_t packets = link->tcp.packets;
		arrive(link, &last);
		arrive(link, &last);
		arrive(link, &first);
		arrive(link, &first);
		arrive(link, &last);
		arrive(link, &middle);
		expect_whole(link, packets + 1, 89, 0);
		assert_int_equal(link_drops(link, DROP_IP_FRAGMENT), before + 3);
		assert_true(nothing_waits(link));
	}
	link_close(link);
}

/* RFC 8200 4.5: the headers are those of the first fragment; options behind the fragment header are
 * looked at when it is whole */
static void test_headers_v6(void **state)
{
	struct link *link = link_open(NULL);
	uint8_t bytes[64] = {60, 0, 1, 4}; /* destination options in front, padded */
	struct link_made made;

	(void)state;
	bytes[0] = IP_FRAGMENT;
	ipv6_write_fragment(bytes + 8, 60, 0, true, 5);
	memcpy(bytes + 16, (const uint8_t[8]){IP_TCP, 0, 1, 4}, 8);
	for (uint32_t i = 0; i < 24; i++)
		bytes[24 + i] = byte_at(0, i);
	made = link_make_ip("fd00::1", "fd00::2", 60, bytes, 48);
	link_arrive_made(link, &made);
	/* the second has no options in front, which matters to nobody */
	ipv6_write_fragment(bytes, IP_UDP, 32, false, 5);
	for (uint32_t i = 0; i < 3; i++)
		bytes[8 + i] = byte_at(0, 24 + i);
	made = link_make_ip("fd00::1", "fd00::2", IP_FRAGMENT, bytes, 11);
	link_arrive_made(link, &made);
	expect_whole(link, 1, 27, 0);
	link_close(link);
}

/* RFC 3168 5.3: a fragment's congestion mark is the whole's, unless one could not carry any */
static void test_ecn(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t v6 = 0; v6 < 2; v6++) {
		uint32_t packets = link->tcp.packets;
		struct part first = {.id = 1, .v6 = v6, .length = 40, .more = true, .tos = 0xba};
		struct part last = {.id = 1, .v6 = v6, .offset = 40, .length = 1, .tos = 0xbb};
		arrive(link, &first);
		arrive(link, &last);
		expect_whole(link, packets + 1, 41, 0);
		assert_int_equal(link->tcp.tos, 0xbb);
		last.tos = 0xba;
		arrive(link, &first);
		arrive(link, &last);
		assert_int_equal(link->tcp.tos, 0xba);
		uint64_t bad = link_drops(link, DROP_IP_FRAGMENT_BAD);
		first.tos = 0xb8;
		last.tos = 0xbb;
		arrive(link, &first);
		arrive(link, &last);
		assert_int_equal(link->tcp.packets, packets + 2);
		assert_int_equal(link_drops(link, DROP_IP_FRAGMENT_BAD), bad + 1);
	}
	link_close(link);
}

/* RFC 6946 4 MUST: an atomic fragment is whole, whatever waits under its id */
static void test_atomic(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	arrive(link, &(struct part){.id = 4, .v6 = true, .length = 40, .more = true});
	arrive(link, &(struct part){.id = 4, .v6 = true, .length = 40, .seed = 9});
	expect_whole(link, 1, 40, 9);
	arrive(link, &(struct part){.id = 4, .v6 = true, .offset = 40, .length = 8});
	expect_whole(link, 2, 48, 0);
	link_close(link);
}

/* RFC 6980 5 MUST: neighbour discovery does not come in fragments, atomic ones or others */
static void test_no_discovery(void **state)
{
	struct link *link = link_open(NULL);
	struct nd_message message = {.target = link_address("fd00::2"), .has_mac = true};
	struct link_made whole;
	uint8_t bytes[64];

	(void)state;
	memcpy(message.mac, link_peer_mac, 6);
	whole = link_make_nd("fd00::1", "fd00::2", ICMPV6_NEIGHBOR_SOLICITATION, &message);
	for (int atomic = 0; atomic < 2; atomic++) {
		const uint8_t *at = whole.bytes + ETHER_HEADER_BYTES + IPV6_HEADER_BYTES;
		uint32_t cut = atomic ? ND_MESSAGE_BYTES : 24;
		for (uint32_t offset = 0; offset < ND_MESSAGE_BYTES; offset += cut) {
			uint32_t left = ND_MESSAGE_BYTES - offset;
			uint32_t length = left < cut ? left : cut;
			ipv6_write_fragment(bytes, IP_ICMPV6, offset, left > cut, 6);
			memcpy(bytes + 8, at + offset, length);
			struct link_made made =
				link_make_ip("fd00::1", "fd00::2", IP_FRAGMENT, bytes, 8 + length);
			made.bytes[ETHER_HEADER_BYTES + 7] = 255;
			link_arrive_made(link, &made);
		}
		assert_int_equal(link_drops(link, DROP_ND_BAD), atomic + 1);
	}
	link_quiet(link);
	link_arrive_made(link, &whole);
	assert_non_null(link_next(link));
	link_close(link);
}

/* ---- bad ones ---- */

/* attack row 6: RFC 5722 4 MUST: any overlap discards the whole, those that come later included,
 * and no error is sent; for IPv4 the same */
static void test_overlaps(void **state)
{
	static const struct part bad[] = {
		{.offset = 32, .length = 40, .more = true},            /* into the second */
		{.offset = 40, .length = 8, .more = true},             /* within */
		{.offset = 0, .length = 120, .more = true},            /* around all */
		{.offset = 40, .length = 40, .more = true, .seed = 1}, /* same place, other bytes */
		{.offset = 72, .length = 16, .more = true},            /* out of the second */
		{.offset = 200, .length = 8, .more = true},            /* behind the end */
		{.offset = 112, .length = 8, .more = true},            /* up to the end, and more */
		{.offset = 96, .length = 8},                           /* another end, before */
		{.offset = 120, .length = 16},                         /* and behind */
		{.offset = 80, .length = 8},                           /* an end in the gap */
		{.offset = 104, .length = 16, .more = true},           /* the last is not */
	};
	struct link *link = link_open(NULL);

	(void)state;
	for (uint32_t i = 0; i < 2 * ARRAY_LENGTH(bad); i++) {
		bool v6 = i & 1;
		struct part part = bad[i / 2];
		uint64_t drops = link_drops(link, DROP_IP_FRAGMENT);
		const struct part good[] = {
			{.id = i, .v6 = v6, .offset = 0, .length = 40, .more = true},
			{.id = i, .v6 = v6, .offset = 40, .length = 40, .more = true},
			{.id = i, .v6 = v6, .offset = 104, .length = 16},
			{.id = i, .v6 = v6, .offset = 80, .length = 24, .more = true},
		};
		for (uint32_t j = 0; j < 3; j++)
			arrive(link, &good[j]);
		part.id = i;
		part.v6 = v6;
		arrive(link, &part);
		arrive(link, &good[3]);
		for (uint32_t j = 0; j < 4; j++)
			arrive(link, &good[j]);
		assert_int_equal(link_drops(link, DROP_IP_FRAGMENT), drops + 6);
		assert_int_equal(link->tcp.packets, 0);
	}
	assert_false(nothing_waits(link));
	link_wait(link, (REASSEMBLY_V6_S + 1) * LINK_SECOND);
	assert_true(nothing_waits(link));
	assert_int_equal(link_drops(link, DROP_IP_FRAGMENT_TIME), 0);
	link_quiet(link);
	link_close(link);
}

/* attack row 6: tiny first fragments (RFC 1858 3, RFC 3128 2.2), none of 0 bytes, none of a length
 * that is not a multiple of 8, none beyond 65535 */
static void test_bad(void **state)
{
	static const struct part bad[] = {
		{.length = 16, .more = true},
		{.length = 8, .more = true},
		{.length = 0, .more = true, .protocol = IP_UDP},
		{.offset = 40, .length = 0},
		{.offset = 40, .length = 0, .more = true},
		{.offset = 40, .length = 12, .more = true},
		{.offset = 65528, .length = 8, .more = true},
		{.offset = 65528, .length = 9},
		{.offset = 65520, .length = 1400},
		{.offset = 64920, .length = 1000},
	};
	struct link *link = link_open(NULL);

	(void)state;
	link_know(link, "fd00::1");
	for (uint32_t i = 0; i < 2 * ARRAY_LENGTH(bad); i++) {
		struct part part = bad[i / 2];
		part.v6 = i & 1;
		arrive(link, &part);
		assert_int_equal(link_drops(link, DROP_IP_FRAGMENT_BAD), i + 1);
		assert_true(nothing_waits(link));
	}
	/* the second of a TCP header that is cut */
	arrive(link, &(struct part){.offset = 8, .length = 100});
	arrive(link, &(struct part){.offset = 16, .length = 100});
	assert_int_equal(link_drops(link, DROP_IP_FRAGMENT_BAD), 2 * ARRAY_LENGTH(bad) + 2);
	assert_true(nothing_waits(link));
	/* RFC 8200 4.5: those of IPv6 that were too long or short got a parameter problem */
	for (uint32_t i = 0; i < 2; i++) {
		struct link_packet packet;
		(void)link_next_icmp(link, ICMPV6_PARAMETER_PROBLEM, IP_PROBLEM_FIRST_FRAGMENT,
				     &packet);
	}
	const uint32_t pointers[] = {4, 42, 42, 42, 42};
	for (uint32_t i = 0; i < ARRAY_LENGTH(pointers); i++) {
		struct link_packet packet;
		struct icmp_header header =
			link_next_icmp(link, ICMPV6_PARAMETER_PROBLEM, IP_PROBLEM_FIELD, &packet);
		assert_int_equal(header.rest, pointers[i]);
	}
	link_quiet(link);
	link_close(link);
}

/* The headers of the first fragment make it too long, which no other knew: 65535 is the most. */
static void test_too_long_together(void **state)
{
	struct link *link = link_open(NULL);
	uint8_t bytes[64] = {IP_FRAGMENT, 0, 1, 4};

	(void)state;
	for (uint32_t most = 65528; most <= 65536; most += 8) {
		uint64_t before = link_drops(link, DROP_IP_FRAGMENT_BAD);
		uint32_t packets = link->tcp.packets;
		struct part part = {.id = most, .v6 = true, .more = true, .length = 1440};
		ipv6_write_fragment(bytes + 8, IP_TCP, 0, true, most);
		for (uint32_t i = 0; i < 24; i++)
			bytes[16 + i] = byte_at(0, i);
		struct link_made made = link_make_ip("fd00::1", "fd00::2", 60, bytes, 40);
		link_arrive_made(link, &made);
		for (part.offset = 24; part.more; part.offset += part.length) {
			uint32_t left = most - 1 - part.offset;
			part.more = left > 1440;
			if (!part.more)
				part.length = left;
			arrive(link, &part);
		}
		bool good = most == 65528;
		assert_int_equal(link->tcp.packets, packets + good);
		assert_int_equal(link_drops(link, DROP_IP_FRAGMENT_BAD), before + !good);
		assert_true(nothing_waits(link));
	}
	link_close(link);
}

/* ---- time ---- */

static void time_out(bool v6, bool with_first)
{
	struct link *link = link_open(NULL);
	uint64_t limit = (v6 ? REASSEMBLY_V6_S : REASSEMBLY_V4_S) * LINK_SECOND;
	struct part part = {.id = 7, .v6 = v6, .length = 1000, .more = true};

	link_know(link, v6 ? "fd00::1" : "10.0.0.1");
	part.offset = with_first ? 0 : 8000;
	arrive(link, &part);
	link_wait(link, limit / 2);
	part.offset = 16000; /* which gives it no more time */
	arrive(link, &part);
	link_know(link, v6 ? "fd00::1" : "10.0.0.1");
	link_wait(link, limit / 2 - LINK_SECOND / 10);
	assert_false(nothing_waits(link));
	link_quiet(link);
	link_wait(link, LINK_SECOND / 5);
	assert_true(nothing_waits(link));
	assert_int_equal(link_drops(link, DROP_IP_FRAGMENT_TIME), 1);
	if (with_first) {
		struct link_packet packet;
		(void)link_next_icmp(link, v6 ? ICMPV6_TIME_EXCEEDED : ICMP_TIME_EXCEEDED, 1,
				     &packet);
		struct link_made made =
			make(&(struct part){.id = 7, .v6 = v6, .length = 1000, .more = true});
		uint32_t quoted = made.length - ETHER_HEADER_BYTES;
		if (!v6)
			quoted = 576 - 28;
		assert_int_equal(cursor_left(&packet.c), quoted);
		assert_memory_equal(packet.c.at, made.bytes + ETHER_HEADER_BYTES, quoted);
	}
	link_quiet(link);
	link_close(link);
}

/* RFC 1122 3.3.2 MUST, RFC 8200 4.5: what is not complete in time is discarded, and time exceeded
 * is sent if the first fragment came */
static void test_time(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		time_out(i & 1, i & 2);
}

/* RFC 1122 3.2.2 MUST NOT: no error about an error, nor about what went to a group */
static void test_no_error(void **state)
{
	struct link *link = link_open(NULL);
	struct part part = {.length = 40, .more = true, .protocol = IP_ICMP, .seed = 3};

	(void)state;
	link_know(link, "10.0.0.1");
	arrive(link, &part);
	part = (struct part){.length = 40, .more = true, .v6 = true, .protocol = IP_ICMPV6};
	part.seed = 3;
	arrive(link, &part);
	struct link_made made = make(&(struct part){.length = 40, .more = true});
	memset(made.bytes, 0xff, 6);
	memset(made.bytes + ETHER_HEADER_BYTES + 16, 0xff, 4);
	link_checksum_v4(&made);
	link_arrive_made(link, &made);
	assert_false(nothing_waits(link));
	link_wait(link, (REASSEMBLY_V6_S + 1) * LINK_SECOND);
	assert_int_equal(link_drops(link, DROP_IP_FRAGMENT_TIME), 3);
	assert_true(nothing_waits(link));
	link_quiet(link);
	link_close(link);
}

/* ---- bounds ---- */

static uint64_t live_bytes(const struct link *link)
{
	struct heap_usage usage;

	heap_usage(link->rig.sched.heap, &usage);
	return usage.live_bytes;
}

/* attack row 6: 10^5 ids that are never complete: of one source the newest 64 wait, of many 1024;
 * memory is bounded, and the errors are few */
static void flood(bool many)
{
	struct link *link = link_open(NULL);
	uint64_t before = live_bytes(link);
	uint32_t ids = test_share(100000);

	for (uint32_t i = 0; i < ids; i++) {
		char from[32];
		bool v6 = i & 1;
		(void)snprintf(from, sizeof(from), v6 ? "fd00::1:%x" : "10.9.%u.%u",
			       v6 ? i % 20000 : i / 100 % 200, i % 250);
		struct link_made made = make(&(struct part){.from = many ? from : NULL,
							    .id = i,
							    .v6 = v6,
							    .length = 1000,
							    .more = true});
		link_arrive_made(link, &made);
		if (i % 1000 == 0)
			net_check(&link->net);
		assert_true(live_bytes(link) - before <
			    (many ? REASSEMBLY_BYTES : 2 * REASSEMBLY_SOURCE_BYTES) * 5ULL / 4);
	}
	uint64_t waiting = ids - link_drops(link, DROP_IP_FRAGMENT_FULL);
	assert_int_equal(waiting, many ? REASSEMBLY_DATAGRAMS : 2 * REASSEMBLY_SOURCE_DATAGRAMS);
	/* An honest one still gets through. */
	arrive_all(link, (struct part){.from = "10.0.0.99", .id = 1, .seed = 5}, 60000, 1480);
	expect_whole(link, 1, 60000, 5);
	for (uint32_t i = 0; i < 100; i++) {
		link_wait(link, LINK_SECOND);
		link_forget(link);
	}
	assert_true(nothing_waits(link));
	assert_int_equal(live_bytes(link), before);
	link_close(link);
}

static void test_flood_of_one(void **state)
{
	(void)state;
	flood(false);
}

static void test_flood_of_many(void **state)
{
	(void)state;
	flood(true);
}

/* attack row 6: large datagrams of one source that lack a byte: the oldest go, by memory */
static void test_bytes(void **state)
{
	struct link *link = link_open(NULL);
	uint64_t before = live_bytes(link);

	(void)state;
	for (uint32_t id = 0; id < 50; id++) {
		struct part part = {.id = id, .length = 1480, .more = true};
		for (part.offset = 0; part.offset < 60000; part.offset += 1480)
			arrive(link, &part);
	}
	assert_true(link_drops(link, DROP_IP_FRAGMENT_FULL) > 30);
	assert_true(live_bytes(link) - before < REASSEMBLY_SOURCE_BYTES * 5ULL / 4);
	struct part last = {.id = 49, .offset = 60680, .length = 1};
	arrive(link, &last);
	expect_whole(link, 1, 60681, 0); /* the newest is there */
	last.id = 0;
	arrive(link, &last);
	assert_int_equal(link->tcp.packets, 1);
	link_close(link);
}

/* attack row 6: a datagram of crumbs costs no more than its bound */
static void test_crumbs(void **state)
{
	struct link *link = link_open(NULL);
	struct part part = {.id = 1, .length = 24, .more = true};

	(void)state;
	arrive(link, &part);
	part.length = 8;
	for (uint32_t i = 1; i < 8000; i++) {
		part.offset = 24 + (8000 - i) * 8;
		struct link_made made = make(&part);
		link_arrive_made(link, &made);
	}
	net_check(&link->net);
	assert_int_equal(link_drops(link, DROP_IP_FRAGMENT_FULL), 1);
	assert_int_equal(link_drops(link, DROP_IP_FRAGMENT), 8000 - REASSEMBLY_FRAGMENTS - 1);
	assert_int_equal(link->tcp.packets, 0);
	link_close(link);
}

static void small_heap(struct link *link)
{
	link->rig.sched.config.heap_max_bytes = 16 << 20;
}

/* With a small heap the bound is a 16th of it: 1 MiB, of a source a quarter of that. */
static void test_small_heap(void **state)
{
	struct link *link = link_open(small_heap);
	uint64_t before = live_bytes(link);

	(void)state;
	for (uint32_t id = 0; id < 20; id++) {
		struct part part = {.id = id, .length = 1480, .more = true};
		for (part.offset = 0; part.offset < 60000; part.offset += 1480)
			arrive(link, &part);
	}
	assert_true(live_bytes(link) - before < (256 << 10) * 5 / 4);
	link_close(link);
}

/* ---- chance ---- */

/* Cut anywhere, in any order, with copies, beside each other: all come up, once. */
static void test_random(void **state)
{
	uint64_t seed = test_seed(6);
	struct prng prng;
	struct link *link = link_open(NULL);

	(void)state;
	prng_seed(&prng, seed);
	for (uint32_t run = 0; run < 400; run++) {
		struct part parts[40];
		uint32_t count = 0;
		uint32_t total = 0;
		bool v6 = prng_below(&prng, 2);
		uint32_t wanted = 2 + (uint32_t)prng_below(&prng, 38);
		while (count < wanted) {
			bool more = count + 1 < wanted;
			uint32_t length = 24 + 8 * (uint32_t)prng_below(&prng, 150);
			if (!more)
				length -= (uint32_t)prng_below(&prng, 8);
			parts[count++] = (struct part){.id = run,
						       .v6 = v6,
						       .seed = (uint8_t)run,
						       .offset = total,
						       .length = length,
						       .more = more};
			total += length;
		}
		for (uint32_t i = count - 1; i > 0; i--) {
			uint32_t j = (uint32_t)prng_below(&prng, i + 1);
			struct part swap = parts[i];
			parts[i] = parts[j];
			parts[j] = swap;
		}
		for (uint32_t i = 0; i < count; i++) {
			if (i > 0 && prng_below(&prng, 4) == 0)
				arrive(link, &parts[prng_below(&prng, i)]);
			assert_int_equal(link->tcp.packets, run);
			arrive(link, &parts[i]);
		}
		expect_whole(link, run + 1, total, (uint8_t)run);
		assert_true(nothing_waits(link));
	}
	link_close(link);
}

/* ---- going out ---- */

static struct frame *datagram(struct link *link, uint32_t length)
{
	struct frame *frame = frame_alloc_tx(link->net.heap, length);

	assert_non_null(frame);
	frame->length = length;
	for (uint32_t i = 0; i < length; i++)
		frame->data[i] = byte_at(0, i);
	return frame;
}

/* Sends one; gives its fragments back to the stack as the peer's; returns the id. */
static uint32_t send_and_return(struct link *link, bool v6, uint32_t length)
{
	const struct ip_address us = link_address(v6 ? "fd00::2" : "10.0.0.2");
	const struct ip_address peer = link_address(v6 ? "fd00::1" : "10.0.0.1");
	uint32_t packets = link->tcp.packets;
	uint32_t id = 0;
	uint32_t count = 0;
	const struct link_frame *sent;

	assert_int_equal(ip_output_datagram(&link->net, datagram(link, length), &us, &peer, IP_TCP,
					    61, 8, NULL),
			 0);
	net_flush(&link->net);
	while ((sent = link_next(link))) {
		struct cursor c = cursor_over(sent->bytes + ETHER_HEADER_BYTES,
					      sent->length - ETHER_HEADER_BYTES);
		struct link_made made = {.length = sent->length};
		struct ip_packet packet;
		struct ip_problem problem;
		assert_true(sent->length <= ETHER_HEADER_BYTES + link->net.mtu);
		assert_int_equal(v6 ? ipv6_parse(&c, &packet, &problem) : ipv4_parse(&c, &packet),
				 DROP_IP_FRAGMENT);
		assert_int_equal(packet.ttl, 61);
		assert_int_equal(packet.tos, 8);
		assert_true(count == 0 || id == packet.fragment.id);
		id = packet.fragment.id;
		count++;
		memcpy(made.bytes, sent->bytes, sent->length);
		ether_write(made.bytes, link_mac, link_peer_mac, v6 ? ETHER_IPV6 : ETHER_IPV4);
		uint8_t *at = made.bytes + ETHER_HEADER_BYTES;
		memcpy(at + (v6 ? 8 : 12), v6 ? peer.bytes : peer.bytes + 12, v6 ? 16 : 4);
		memcpy(at + (v6 ? 24 : 16), v6 ? us.bytes : us.bytes + 12, v6 ? 16 : 4);
		link_arrive_made(link, &made);
	}
	uint32_t each = v6 ? 1448 : 1480;
	assert_int_equal(count, (length + each - 1) / each);
	expect_whole(link, packets + 1, length, 0);
	link_forget(link);
	return id;
}

/* RFC 791 3.2, RFC 8200 4.5; attack row 26: ids that nobody can guess (RFC 7739), and of IPv4's
 * none twice in 65536 (RFC 6864 4.3) */
static void test_out(void **state)
{
	static const uint32_t lengths[] = {1481, 1500, 2960, 2961, 9000, 65507};
	static uint8_t seen[65536];
	struct link *link = link_open(NULL);
	uint32_t near = 0;
	uint32_t last = 0;

	(void)state;
	link_know(link, "10.0.0.1");
	link_know(link, "fd00::1");
	for (uint32_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
		uint32_t first = send_and_return(link, true, lengths[i]);
		assert_true(send_and_return(link, true, lengths[i]) - first > 1000);
		seen[send_and_return(link, false, lengths[i])] = 1;
	}
	for (uint32_t i = ARRAY_LENGTH(lengths); i < 65536; i++) {
		uint32_t id = fragment_next_id_v4(&link->net);
		assert_true(id < 65536 && !seen[id]);
		seen[id] = 1;
		near += (uint16_t)(id - last) < 256;
		last = id;
	}
	assert_true(near < 600); /* 256 would be chance */
	link_close(link);
}

/* To ourselves nothing is cut. */
static void test_out_looped(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address us = link_address("10.0.0.2");

	(void)state;
	assert_int_equal(ip_output_datagram(&link->net, datagram(link, 65515), &us, &us, IP_TCP, 64,
					    0, NULL),
			 0);
	(void)net_poll(&link->net);
	expect_whole(link, 1, 65515, 0);
	link_quiet(link);
	link_close(link);
}

/* No way, no neighbour: an error, and nothing is left. */
static void test_out_fails(void **state)
{
	struct link *link = link_open(NULL);
	const struct ip_address us = link_address("10.0.0.2");
	const struct ip_address off = link_address("10.0.1.1");

	(void)state;
	assert_int_equal(ip_output_datagram(&link->net, datagram(link, 4000), &us, &off, IP_TCP, 64,
					    0, NULL),
			 -ENETUNREACH);
	assert_int_equal(link_drops(link, DROP_NO_ROUTE), 1);
	link_quiet(link);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),       cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_duplicates),   cmocka_unit_test(test_headers_v6),
		cmocka_unit_test(test_ecn),          cmocka_unit_test(test_atomic),
		cmocka_unit_test(test_no_discovery), cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_bad),          cmocka_unit_test(test_too_long_together),
		cmocka_unit_test(test_time),         cmocka_unit_test(test_no_error),
		cmocka_unit_test(test_flood_of_one), cmocka_unit_test(test_flood_of_many),
		cmocka_unit_test(test_bytes),        cmocka_unit_test(test_crumbs),
		cmocka_unit_test(test_small_heap),   cmocka_unit_test(test_random),
		cmocka_unit_test(test_out),          cmocka_unit_test(test_out_looped),
		cmocka_unit_test(test_out_fails),
	};

	return test_run("net_reassembly", tests);
}
