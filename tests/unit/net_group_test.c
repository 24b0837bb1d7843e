/* SPDX-License-Identifier: MIT
 * tests/unit/net_group_test.c - who is in which group, and what routers are told of it: the host's
 * side of IGMP and MLD.
 */
#include "support/link.h"

#include "net/group.h"
#include "net/wire/checksum.h"

#include <errno.h>
#include <string.h>

#define MS       1000000ULL
#define GROUP_V4 "239.1.2.3"
#define GROUP_V6 "ff15::1:2:3"

/* ---- helpers ---- */

static void with_reports(struct link *link)
{
	link->rig.sched.config.group_reports = 1;
}

/* A host that told the link of its addresses long ago. */
static struct link *open_link(void)
{
	struct link *link = link_open(with_reports);

	link_wait(link, 10 * LINK_SECOND);
	link_forget(link);
	return link;
}

static struct group *join(struct link *link, const char *text)
{
	const struct ip_address address = link_address(text);
	struct group *group;

	assert_int_equal(group_join(&link->net, &address, &group), 0);
	assert_true(group_has(&link->net, &address));
	return group;
}

/* A record of a report. */
struct record {
	uint8_t type;
	uint16_t num_sources;
	struct ip_address group;
	struct ip_address sources[GROUP_SOURCES_MAX];
};

struct report {
	uint32_t count;
	struct record records[GROUP_MAX];
};

static struct ip_address take_address(struct cursor *c, bool v4)
{
	struct ip_address a = v4 ? ip_from_v4(0) : (struct ip_address){.pair = {0, 0}};
	uint32_t bytes = v4 ? 4 : 16;

	cursor_bytes(c, a.bytes + 16 - bytes, bytes);
	return a;
}

/* RFC 3376 4, RFC 3810 5: what every message has in common; returns a cursor over it, with its
 * checksum right. */
static struct cursor check_message(const struct link_packet *packet, const char *to)
{
	const struct ip_address expected = link_address(to);
	bool v4 = ip_is_v4(&expected);
	uint64_t sum = checksum_partial(packet->c.at, cursor_left(&packet->c));
	uint8_t mac[6];

	group_mac(&expected, mac);
	assert_memory_equal(packet->to_mac, mac, 6);
	assert_true(ip_equal(&packet->ip.to, &expected));
	assert_int_equal(packet->ip.protocol, v4 ? IP_IGMP : IP_ICMPV6);
	assert_int_equal(packet->ip.ttl, 1);
	if (v4) {
		static const uint8_t alert[] = {148, 4, 0, 0};
		assert_int_equal(packet->ip.header_bytes, 24);
		assert_int_equal(packet->ip.tos, 0xc0);
		assert_memory_equal(packet->ip.header + 20, alert, 4);
	} else {
		static const uint8_t alert[] = {58, 0, 5, 2, 0, 0, 1, 0};
		assert_int_equal(packet->ip.header_bytes, 48);
		assert_memory_equal(packet->ip.header + 40, alert, 8);
		assert_true(ip_is_link_local(&packet->ip.from));
		sum += checksum_pseudo(&packet->ip.from, &packet->ip.to, IP_ICMPV6,
				       cursor_left(&packet->c));
	}
	assert_true(checksum_good(sum));
	return packet->c;
}

/* The next frame is a report of version 3; appends its records. */
static void next_report(struct link *link, bool v4, struct report *report)
{
	struct link_packet packet = link_next_ip(link, v4 ? IP_IGMP : IP_ICMPV6);
	struct cursor c = check_message(&packet, v4 ? "224.0.0.22" : "ff02::16");

	assert_true(packet.ip.length + packet.ip.header_bytes <= 1280);
	assert_int_equal(cursor_u8(&c), v4 ? 0x22 : 143);
	cursor_skip(&c, 5);
	uint16_t count = cursor_u16(&c);
	for (uint16_t i = 0; i < count; i++) {
		struct record *record = &report->records[report->count++];
		record->type = cursor_u8(&c);
		assert_int_equal(cursor_u8(&c), 0);
		record->num_sources = cursor_u16(&c);
		assert_true(record->num_sources <= GROUP_SOURCES_MAX);
		record->group = take_address(&c, v4);
		for (uint32_t s = 0; s < record->num_sources; s++)
			record->sources[s] = take_address(&c, v4);
	}
	assert_false(c.bad);
	assert_int_equal(cursor_left(&c), 0);
}

/* It says this of this group alone. */
static void expect_record(struct link *link, uint8_t type, const char *group, uint16_t sources)
{
	const struct ip_address expected = link_address(group);
	struct report report = {.count = 0};

	next_report(link, ip_is_v4(&expected), &report);
	assert_int_equal(report.count, 1);
	assert_int_equal(report.records[0].type, type);
	assert_true(ip_equal(&report.records[0].group, &expected));
	assert_int_equal(report.records[0].num_sources, sources);
}

/* A message of version 1 or 2. */
static void expect_old(struct link *link, uint8_t type, const char *to, const char *group)
{
	const struct ip_address expected = link_address(group);
	bool v4 = ip_is_v4(&expected);
	struct link_packet packet = link_next_ip(link, v4 ? IP_IGMP : IP_ICMPV6);
	struct cursor c = check_message(&packet, to);

	assert_int_equal(cursor_u8(&c), type);
	cursor_skip(&c, v4 ? 3 : 7);
	struct ip_address address = take_address(&c, v4);
	assert_true(ip_equal(&address, &expected));
	assert_int_equal(cursor_left(&c), 0);
}

/* What a query says, and what is wrong with it. */
struct query {
	const char *from; /* NULL: as it should be */
	const char *to;
	const char *group; /* NULL: general */
	uint8_t version;
	uint16_t code; /* maximum response */
	uint8_t robustness;
	uint8_t interval;
	uint16_t sources; /* 1, 2, 3 ... and so on */
	uint8_t ttl;      /* 0: 1 */
	bool no_alert;
	bool bad_checksum;
	uint32_t cut;
	uint8_t type; /* 0: a query */
};

static uint32_t write_body(uint8_t *at, bool v4, const struct query *q)
{
	const struct ip_address group = q->group ? link_address(q->group) : ip_from_v4(0);
	uint32_t bytes = v4 ? 4 : 16;
	uint32_t length = v4 ? 8 : 24;

	memset(at, 0, 1500);
	if (v4) {
		at[0] = q->type ? q->type : 0x11;
		at[1] = (uint8_t)q->code;
	} else {
		at[0] = q->type ? q->type : 130;
		store16(at + 4, q->code);
	}
	if (q->group)
		memcpy(at + length - bytes, group.bytes + 16 - bytes, bytes);
	if (q->version == GROUP_V3) {
		at[length] = q->robustness;
		at[length + 1] = q->interval;
		store16(at + length + 2, q->sources);
		length += 4;
		for (uint32_t i = 0; i < q->sources; i++) {
			at[length + bytes - 1] = (uint8_t)(i + 1);
			at[length] = 10;
			length += bytes;
		}
	}
	return length - q->cut;
}

static void arrive(struct link *link, bool v4, const struct query *q)
{
	const char *all = q->group ? q->group : v4 ? "224.0.0.1" : "ff02::1";
	const struct ip_address from = link_address(q->from ? q->from
						    : v4    ? "10.0.0.1"
							    : "fe80::1");
	const struct ip_address to = link_address(q->to ? q->to : all);
	uint8_t bytes[1600] = {0};
	uint8_t mac[6];
	uint8_t *at = bytes + ETHER_HEADER_BYTES;
	uint32_t headers = v4 ? IPV4_ALERT_BYTES : IPV6_HEADER_BYTES + IPV6_ALERT_BYTES;
	uint32_t length = write_body(at + headers, v4, q);
	uint64_t sum = checksum_partial(at + headers, length);

	if (!v4)
		sum += checksum_pseudo(&from, &to, IP_ICMPV6, length);
	uint16_t checksum = checksum_finish(sum);
	memcpy(at + headers + 2, &checksum, 2);
	at[headers + 3] ^= q->bad_checksum;
	memcpy(mac, link_mac, 6);
	if (ip_is_multicast(&to))
		group_mac(&to, mac);
	ether_write(bytes, mac, link_peer_mac, v4 ? ETHER_IPV4 : ETHER_IPV6);
	if (v4) {
		group_write_alert_v4(at, &from, &to, length);
		at[20] = q->no_alert ? 1 : at[20]; /* and padding */
		at[21] = q->no_alert ? 1 : at[21];
		at[8] = q->ttl ? q->ttl : 1;
		struct link_made made = {.length = ETHER_HEADER_BYTES + headers + length};
		memcpy(made.bytes, bytes, made.length);
		link_checksum_v4(&made);
		link_arrive_made(link, &made);
		return;
	}
	ipv6_write(at, &from, &to, IP_HOP_BY_HOP, q->ttl ? q->ttl : 1, 0, IPV6_ALERT_BYTES + length,
		   0);
	group_write_alert_v6(at + IPV6_HEADER_BYTES);
	if (q->no_alert)
		at[IPV6_HEADER_BYTES + 2] = 1; /* padding */
	link_arrive(link, bytes, ETHER_HEADER_BYTES + headers + length);
}

static void dropped(struct link *link, bool v4, const struct query *q, enum drop reason)
{
	uint64_t before = link_drops(link, reason);

	arrive(link, v4, q);
	assert_int_equal(link_drops(link, reason), before + 1);
	link_wait(link, 30 * LINK_SECOND);
	link_quiet(link);
}

/* ---- changes ---- */

/* RFC 3376 5.1, RFC 3810 6.1: the first member and the last are told, at once and again within a
 * second; the device too. */
static void come_and_go(bool v4)
{
	const char *text = v4 ? GROUP_V4 : GROUP_V6;
	const struct ip_address address = link_address(text);
	struct link *link = open_link();
	struct group *group = join(link, text);

	link_steered(link, text, true);
	expect_record(link, GROUP_TO_EXCLUDE, text, 0);
	assert_ptr_equal(join(link, text), group);
	link_quiet(link);
	link_wait(link, LINK_SECOND + 10 * MS);
	expect_record(link, GROUP_TO_EXCLUDE, text, 0);
	link_wait(link, 300 * LINK_SECOND);
	link_quiet(link);
	group_leave(group);
	link_quiet(link);
	link_not_steered(link);
	group_leave(group);
	link_steered(link, text, false);
	assert_false(group_has(&link->net, &address));
	expect_record(link, GROUP_TO_INCLUDE, text, 0);
	link_wait(link, LINK_SECOND + 10 * MS);
	expect_record(link, GROUP_TO_INCLUDE, text, 0);
	link_wait(link, 300 * LINK_SECOND);
	link_quiet(link);
	link_close(link);
}

static void test_come_and_go(void **state)
{
	(void)state;
	come_and_go(true);
	come_and_go(false);
}

/* Who comes back before the going is told to the end: the last state is what is told. */
static void test_come_back(void **state)
{
	struct link *link = open_link();
	struct group *group = join(link, GROUP_V4);

	(void)state;
	group_leave(group);
	assert_ptr_equal(join(link, GROUP_V4), group);
	link_forget(link);
	link_wait(link, LINK_SECOND + 10 * MS);
	expect_record(link, GROUP_TO_EXCLUDE, GROUP_V4, 0);
	link_wait(link, 5 * LINK_SECOND);
	link_quiet(link);
	group_leave(group);
	link_close(link);
}

/* RFC 3376 5, RFC 3810 6: solicited-node groups of our addresses are told when they become ours,
 * and the device is not: it knows; all nodes and groups that reach no farther than us are never
 * told. */
static void test_own_addresses(void **state)
{
	static const char *const silent[] = {"ff02::1", "ff01::1", "ff01::77", "224.0.0.1"};
	const struct ip_address another = link_address("fd00::77:8899");
	struct link *link;

	(void)state;
	assert_int_equal(link_try_open(&link, with_reports), 0);
	link->num_steers = 0;
	link_next_arp(link, ARP_REQUEST, "10.0.0.2");
	/* fd00::2 and fe80::ff:fe00:2 have the same one */
	expect_record(link, GROUP_TO_EXCLUDE, "ff02::1:ff00:2", 0);
	link_wait(link, 10 * LINK_SECOND);
	expect_record(link, GROUP_TO_EXCLUDE, "ff02::1:ff00:2", 0);
	link_next_arp(link, ARP_REQUEST, "10.0.0.2"); /* the second announcement */
	link_quiet(link);
	group_hold_address(&link->net, &another);
	expect_record(link, GROUP_TO_EXCLUDE, "ff02::1:ff77:8899", 0);
	group_release_address(&link->net, &another);
	expect_record(link, GROUP_TO_INCLUDE, "ff02::1:ff77:8899", 0);
	group_release_address(&link->net, &another); /* it has gone */
	link_wait(link, 5 * LINK_SECOND);
	link_forget(link);
	link_not_steered(link);
	for (uint32_t i = 0; i < 4; i++) {
		struct group *group = join(link, silent[i]);
		link_wait(link, 5 * LINK_SECOND);
		group_leave(group);
		link_wait(link, 5 * LINK_SECOND);
	}
	link_quiet(link);
	link_steered(link, "ff01::77", true);
	link_steered(link, "ff01::77", false);
	link_not_steered(link);
	link_close(link);
}

static void no_link_local(struct link *link)
{
	with_reports(link);
	link_set(link->rig.sched.config.addresses, "10.0.0.2/24,10.1.0.2/16");
}

/* Only IPv4: nobody's solicited-node group; a report goes out from our first address. */
static void test_only_v4(void **state)
{
	struct link *link = link_open(no_link_local);
	struct group *group = join(link, GROUP_V4);

	(void)state;
	expect_record(link, GROUP_TO_EXCLUDE, GROUP_V4, 0);
	link_wait(link, 5 * LINK_SECOND);
	expect_record(link, GROUP_TO_EXCLUDE, GROUP_V4, 0);
	link_quiet(link);
	group_leave(group);
	link_close(link);
}

static void test_reports_off(void **state)
{
	struct link *link = link_open(NULL);
	struct group *group = join(link, GROUP_V4);

	(void)state;
	link_steered(link, GROUP_V4, true);
	arrive(link, true, &(struct query){.version = GROUP_V3, .code = 1});
	arrive(link, true, &(struct query){.version = GROUP_V2, .code = 1});
	link_wait(link, 30 * LINK_SECOND);
	group_leave(group);
	link_steered(link, GROUP_V4, false);
	link_wait(link, 30 * LINK_SECOND);
	link_quiet(link);
	link_close(link);
}

/* A device that refuses: nobody is in. */
static void test_refused(void **state)
{
	const struct ip_address address = link_address(GROUP_V6);
	struct link *link = open_link();
	struct group *group;

	(void)state;
	link->steer_err = -ENOSPC;
	assert_int_equal(group_join(&link->net, &address, &group), -ENOSPC);
	assert_false(group_has(&link->net, &address));
	link_wait(link, 5 * LINK_SECOND);
	link_quiet(link);
	link->steer_err = 0;
	link_close(link);
}

static struct ip_address numbered(uint32_t i)
{
	return ip_from_v4(__builtin_bswap32(0xef000000U + i));
}

/* GROUP_MAX and no more, but those of which only reports are left make room; all of them are told
 * in answer to a query, in reports that fit the MTU. */
static void test_many(void **state)
{
	static struct group *groups[GROUP_MAX];
	static struct report report;
	struct link *link = open_link();
	struct ip_address address;
	struct group *group;
	uint32_t count = 0;

	(void)state;
	while (link->net.groups->count < GROUP_MAX) {
		address = numbered(count);
		assert_int_equal(group_join(&link->net, &address, &groups[count++]), 0);
		link->num_steers = 0;
	}
	address = numbered(count);
	assert_int_equal(group_join(&link->net, &address, &group), -ENOBUFS);
	link_wait(link, 10 * LINK_SECOND);
	link_forget(link);
	arrive(link, true, &(struct query){.version = GROUP_V3, .code = 10});
	link_wait(link, LINK_SECOND + 10 * MS);
	report.count = 0;
	next_report(link, true, &report);
	next_report(link, true, &report);
	link_quiet(link);
	assert_int_equal(report.count, count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(report.records[i].type, GROUP_IS_EXCLUDE);
	group_leave(groups[0]);
	assert_int_equal(group_join(&link->net, &address, &groups[0]), 0);
	assert_int_equal(link->net.groups->count, GROUP_MAX);
	for (uint32_t i = 0; i < count; i++) {
		link->num_steers = 0;
		group_leave(groups[i]);
	}
	link_close(link);
}

/* ---- queries ---- */

/* RFC 3376 5.2, RFC 3810 6.2: a general query is answered once within its time, for all groups; one
 * answer does for several queries. */
static void general(bool v4)
{
	const struct query slow = {.version = GROUP_V3, .code = v4 ? 100 : 10000};
	const struct query quick = {.version = GROUP_V3, .code = v4 ? 10 : 1000};
	struct link *link = open_link();
	struct group *a = join(link, v4 ? GROUP_V4 : GROUP_V6);
	struct group *b = join(link, v4 ? "239.9.9.9" : "ff08::9");
	uint32_t own = v4 ? 0 : 1;
	struct report report;

	link_wait(link, 5 * LINK_SECOND);
	link_forget(link);
	for (uint32_t i = 0; i < 8; i++) {
		arrive(link, v4, i % 2 ? &quick : &slow);
		arrive(link, v4, i % 2 ? &slow : &quick);
		link_wait(link, LINK_SECOND + 10 * MS);
		report.count = 0;
		next_report(link, v4, &report);
		assert_int_equal(report.count, 2 + own);
		for (uint32_t r = 0; r < report.count; r++) {
			assert_int_equal(report.records[r].type, GROUP_IS_EXCLUDE);
			assert_int_equal(report.records[r].num_sources, 0);
		}
		link_wait(link, 15 * LINK_SECOND);
		link_quiet(link);
	}
	arrive(link, v4, &(struct query){.version = GROUP_V3, .code = 0}); /* now */
	link_wait(link, 5 * MS);
	report.count = 0;
	next_report(link, v4, &report);
	group_leave(a);
	group_leave(b);
	link_close(link);
}

static void test_general(void **state)
{
	(void)state;
	general(true);
	general(false);
}

/* RFC 3376 5.2, RFC 3810 6.2: of a group, of its sources, of both; of none of ours */
static void special(bool v4)
{
	const char *text = v4 ? GROUP_V4 : GROUP_V6;
	uint16_t second = v4 ? 10 : 1000;
	const struct query group_only = {.version = GROUP_V3, .code = second, .group = text};
	const struct query other = {
		.version = GROUP_V3,
		.code = second,
		.group = v4 ? "239.7.7.7" : "ff05::77",
		.to = v4 ? "10.0.0.2" : "fd00::2",
	};
	struct link *link = open_link();
	struct group *group = join(link, text);
	struct query sources = group_only;
	struct report report = {.count = 0};

	link_wait(link, 5 * LINK_SECOND);
	link_forget(link);
	arrive(link, v4, &group_only);
	link_wait(link, LINK_SECOND + 10 * MS);
	expect_record(link, GROUP_IS_EXCLUDE, text, 0);
	sources.sources = 3;
	arrive(link, v4, &sources);
	sources.sources = 5;
	arrive(link, v4, &sources); /* rule 5: both together */
	link_wait(link, LINK_SECOND + 10 * MS);
	next_report(link, v4, &report);
	assert_int_equal(report.records[0].type, GROUP_IS_INCLUDE);
	assert_int_equal(report.records[0].num_sources, 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(report.records[0].sources[i].bytes[15], i + 1);
	arrive(link, v4, &sources);
	arrive(link, v4, &group_only); /* rule 4: the group */
	link_wait(link, LINK_SECOND + 10 * MS);
	expect_record(link, GROUP_IS_EXCLUDE, text, 0);
	arrive(link, v4, &group_only);
	arrive(link, v4, &sources);
	link_wait(link, LINK_SECOND + 10 * MS);
	expect_record(link, GROUP_IS_EXCLUDE, text, 0);
	sources.sources = GROUP_SOURCES_MAX + 1; /* more than we remember */
	arrive(link, v4, &sources);
	link_wait(link, LINK_SECOND + 10 * MS);
	expect_record(link, GROUP_IS_EXCLUDE, text, 0);
	arrive(link, v4, &other); /* a query to our own address is one, too */
	arrive(link, v4, &(struct query){.version = GROUP_V3, .code = 0});
	arrive(link, v4, &group_only); /* rule 1: the answer to everything comes first */
	link_wait(link, 10 * LINK_SECOND);
	next_report(link, v4, &report);
	link_quiet(link);
	group_leave(group);
	link_close(link);
}

static void test_special(void **state)
{
	(void)state;
	special(true);
	special(false);
}

/* RFC 3376 4.1.6, RFC 3810 5.1.8: the querier says how robust a report has to be */
static void test_robustness(void **state)
{
	struct link *link = open_link();
	struct group *group;

	(void)state;
	arrive(link, true, &(struct query){.version = GROUP_V3, .robustness = 5});
	link_wait(link, LINK_SECOND);
	link_forget(link);
	group = join(link, GROUP_V4);
	link_wait(link, 10 * LINK_SECOND);
	for (uint32_t i = 0; i < 5; i++)
		expect_record(link, GROUP_TO_EXCLUDE, GROUP_V4, 0);
	link_quiet(link);
	arrive(link, true, &(struct query){.version = GROUP_V3});
	link_wait(link, LINK_SECOND);
	link_forget(link);
	group_leave(group);
	link_wait(link, 10 * LINK_SECOND);
	expect_record(link, GROUP_TO_INCLUDE, GROUP_V4, 0);
	expect_record(link, GROUP_TO_INCLUDE, GROUP_V4, 0);
	link_quiet(link);
	link_close(link);
}

/* attack row 41; RFC 3376 9.1, RFC 3810 6.2: a query that is not from this link, or malformed */
static void test_bad(void **state)
{
	static const struct query v4[] = {
		{.version = GROUP_V3, .ttl = 2},
		{.version = GROUP_V3, .ttl = 255},
		{.version = GROUP_V3, .no_alert = true},
		{.version = GROUP_V2, .code = 100, .no_alert = true},
		{.version = GROUP_V3, .bad_checksum = true},
		{.version = GROUP_V2, .code = 100, .cut = 1},
		{.version = GROUP_V3, .cut = 1},
		{.version = GROUP_V3, .cut = 3},
		{.version = GROUP_V3, .group = GROUP_V4, .sources = 3, .cut = 1},
		{.version = GROUP_V3, .sources = 1},
		{.version = GROUP_V3, .group = "10.0.0.9", .to = "224.0.0.1"},
		{.version = GROUP_V2, .type = 0x16, .group = GROUP_V4, .to = "224.0.0.1"},
	};
	static const struct query v6[] = {
		{.version = GROUP_V3, .ttl = 2},
		{.version = GROUP_V3, .no_alert = true},
		{.version = GROUP_V2, .code = 100, .no_alert = true},
		{.version = GROUP_V3, .from = "fd00::1"},
		{.version = GROUP_V2, .cut = 1},
		{.version = GROUP_V3, .cut = 1},
		{.version = GROUP_V3, .group = GROUP_V6, .sources = 3, .cut = 1},
		{.version = GROUP_V3, .sources = 1},
		{.version = GROUP_V3, .group = "fd00::9", .to = "ff02::1"},
		{.version = GROUP_V3, .group = "::ffff:239.1.2.3", .to = "ff02::1"},
		{.version = GROUP_V2, .type = 131, .group = GROUP_V6, .to = "ff02::1"},
	};
	struct link *link = open_link();
	struct group *groups[] = {join(link, GROUP_V4), join(link, GROUP_V6)};

	(void)state;
	link_wait(link, 5 * LINK_SECOND);
	link_forget(link);
	for (uint32_t i = 0; i < ARRAY_LENGTH(v4); i++)
		dropped(link, true, &v4[i], DROP_GROUP_BAD);
	for (uint32_t i = 0; i < ARRAY_LENGTH(v6); i++)
		dropped(link, false, &v6[i], DROP_GROUP_BAD);
	dropped(link, false, &(struct query){.version = GROUP_V3, .bad_checksum = true},
		DROP_ICMP_BAD);
	dropped(link, false, &(struct query){.version = GROUP_V3, .from = "::"}, DROP_GROUP_BAD);
	dropped(link, true, &(struct query){.version = GROUP_V2, .type = 0x17}, DROP_GROUP_TYPE);
	dropped(link, true, &(struct query){.version = GROUP_V2, .type = 0x22}, DROP_GROUP_TYPE);
	dropped(link, false, &(struct query){.version = GROUP_V2, .type = 132}, DROP_GROUP_TYPE);
	dropped(link, false, &(struct query){.version = GROUP_V2, .type = 143}, DROP_GROUP_TYPE);
	/* to a group that we are not in */
	dropped(link, true, &(struct query){.version = GROUP_V3, .group = "239.7.7.7"},
		DROP_IP_DESTINATION);
	dropped(link, false, &(struct query){.version = GROUP_V3, .group = "ff05::77"},
		DROP_IP_DESTINATION);
	/* RFC 4541 2.1.1: a switch asks from nobody's address; TCP from there is nobody's */
	arrive(link, true, &(struct query){.version = GROUP_V3, .from = "0.0.0.0"});
	link_wait(link, 5 * MS);
	expect_record(link, GROUP_IS_EXCLUDE, GROUP_V4, 0);
	dropped(link, true, &(struct query){.version = GROUP_V3, .from = "0.0.0.1"},
		DROP_IP_SOURCE);
	group_leave(groups[0]);
	group_leave(groups[1]);
	link_close(link);
}

/* attack row 41: a flood of queries: as many answers as the rate allows, and the rest is counted.
 */
static void test_flood(void **state)
{
	struct link *link = open_link();
	struct group *group = join(link, GROUP_V4);
	uint32_t answers = 0;

	(void)state;
	link_wait(link, 5 * LINK_SECOND);
	link_forget(link);
	for (uint32_t i = 0; i < 2000; i++) { /* 10 s */
		arrive(link, true, &(struct query){.version = GROUP_V3});
		link_wait(link, 5 * MS);
	}
	while (link_next(link))
		answers++;
	assert_in_range(answers, 10, 15);
	assert_int_equal(link_drops(link, DROP_GROUP_RATE), 2000 - answers);
	link_forget(link);
	for (uint32_t i = 0; i < 2000; i++) {
		arrive(link, true, &(struct query){.version = GROUP_V3, .group = GROUP_V4});
		link_wait(link, 5 * MS);
		answers += link_next(link) != NULL;
		link_forget(link);
	}
	assert_true(answers < 1000);
	group_leave(group);
	link_close(link);
}

/* A device that shares its interface with the kernel, which gets the general queries: everything is
 * told once in a querier's interval, unless queries are heard all the same. */
static void test_shared(void **state)
{
	const struct query general = {.version = GROUP_V3, .code = 10};
	struct link *link = open_link();
	struct group *group;

	(void)state;
	link->dev.misses_all_hosts = true;
	group = join(link, GROUP_V4);
	link_wait(link, 5 * LINK_SECOND);
	link_forget(link);
	for (uint32_t i = 0; i < 3; i++) {
		link_wait(link, GROUP_INTERVAL_S * LINK_SECOND + 5 * LINK_SECOND);
		expect_record(link, GROUP_IS_EXCLUDE, GROUP_V4, 0);
		link_quiet(link);
	}
	link_wait(link, 20 * LINK_SECOND);
	for (uint32_t i = 0; i < 10; i++) {
		arrive(link, true, &general);
		link_wait(link, 100 * LINK_SECOND);
		expect_record(link, GROUP_IS_EXCLUDE, GROUP_V4, 0);
		link_quiet(link);
	}
	group_leave(group);
	link_wait(link, 5 * LINK_SECOND);
	link_forget(link);
	link_wait(link, 300 * LINK_SECOND);
	link_quiet(link);
	link_close(link);
}

/* ---- older versions ---- */

/* RFC 2236 3, RFC 2710 4, RFC 3376 7.2, RFC 3810 8.2: a report a group, answers that others'
 * reports do for, a leave; and the new version again when no old querier was heard for its time. */
static void old_version(bool v4)
{
	const char *text = v4 ? GROUP_V4 : GROUP_V6;
	const char *routers = v4 ? "224.0.0.2" : "ff02::2";
	const struct query query = {.version = GROUP_V2, .code = v4 ? 100 : 10000};
	const struct query report = {.version = GROUP_V2, .type = v4 ? 0x16 : 131, .group = text};
	uint8_t type = v4 ? 0x16 : 131;
	struct link *link = open_link();
	struct group *group;

	arrive(link, v4, &query);
	link_wait(link, 11 * LINK_SECOND);
	link_forget(link);
	group = join(link, text);
	expect_old(link, type, text, text);
	link_wait(link, 10 * LINK_SECOND + 10 * MS);
	expect_old(link, type, text, text);
	link_wait(link, 30 * LINK_SECOND);
	link_quiet(link);
	arrive(link, v4, &query);
	link_wait(link, 10 * LINK_SECOND + 10 * MS);
	if (!v4) /* our addresses' */
		assert_non_null(link_next(link));
	link_forget(link);
	/* about the group, and another host is quicker */
	arrive(link, v4,
	       &(struct query){.version = GROUP_V2, .code = v4 ? 10 : 1000, .group = text});
	link_wait(link, LINK_SECOND + 10 * MS);
	expect_old(link, type, text, text);
	link_wait(link, 5 * LINK_SECOND);
	arrive(link, v4,
	       &(struct query){.version = GROUP_V2, .code = v4 ? 255 : 25500, .group = text});
	arrive(link, v4, &report);
	link_wait(link, 30 * LINK_SECOND);
	link_quiet(link);
	group_leave(group); /* who has not reported last need not say that it goes */
	link_wait(link, 30 * LINK_SECOND);
	link_quiet(link);
	group = join(link, text);
	link_forget(link);
	group_leave(group);
	expect_old(link, v4 ? 0x17 : 132, routers, text);
	link_wait(link, 100 * LINK_SECOND);
	link_quiet(link);
	/* 2 times 125 s and 10 s after the last general query */
	link_wait(link, 100 * LINK_SECOND);
	group = join(link, text);
	expect_record(link, GROUP_TO_EXCLUDE, text, 0);
	group_leave(group);
	link_close(link);
}

static void test_old(void **state)
{
	(void)state;
	old_version(true);
	old_version(false);
}

/* RFC 2236 4, RFC 3376 7.2.1: a router of version 1 hears reports of version 1, within 10 s, and no
 * leave; and is stronger than one of version 2 */
static void test_version_1(void **state)
{
	struct link *link = open_link();
	struct group *group = join(link, GROUP_V4);

	(void)state;
	arrive(link, true, &(struct query){.version = GROUP_V1, .no_alert = true});
	arrive(link, true, &(struct query){.version = GROUP_V2, .code = 10});
	link_forget(link);
	link_wait(link, 10 * LINK_SECOND + 10 * MS);
	expect_old(link, 0x12, GROUP_V4, GROUP_V4);
	link_wait(link, 30 * LINK_SECOND);
	link_quiet(link);
	group_leave(group);
	link_wait(link, 30 * LINK_SECOND);
	link_quiet(link);
	link_close(link);
}

/* RFC 3376 7.2.1, RFC 3810 8.2.1: a change of version cancels what was pending */
static void test_cancelled(void **state)
{
	struct link *link = open_link();
	struct group *stays = join(link, GROUP_V4);
	struct group *goes = join(link, "239.9.9.9");

	(void)state;
	group_leave(goes);
	arrive(link, true, &(struct query){.version = GROUP_V3, .code = 100});
	link_forget(link);
	arrive(link, true, &(struct query){.version = GROUP_V2, .code = 10});
	link_wait(link, 30 * LINK_SECOND);
	expect_old(link, 0x16, GROUP_V4, GROUP_V4);
	link_quiet(link);
	group_leave(stays);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_come_and_go),   cmocka_unit_test(test_come_back),
		cmocka_unit_test(test_own_addresses), cmocka_unit_test(test_only_v4),
		cmocka_unit_test(test_reports_off),   cmocka_unit_test(test_refused),
		cmocka_unit_test(test_many),          cmocka_unit_test(test_general),
		cmocka_unit_test(test_special),       cmocka_unit_test(test_robustness),
		cmocka_unit_test(test_bad),           cmocka_unit_test(test_flood),
		cmocka_unit_test(test_shared),        cmocka_unit_test(test_old),
		cmocka_unit_test(test_version_1),     cmocka_unit_test(test_cancelled),
	};

	return test_run("net_group", tests);
}
