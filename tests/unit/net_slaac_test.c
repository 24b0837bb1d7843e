/* SPDX-License-Identifier: MIT
 * tests/unit/net_slaac_test.c - what routers tell a host: who is believed, what addresses and
 * routes come of it, and for how long.
 */
#include "support/link.h"

#include "base/prng.h"
#include "net/own.h"
#include "net/wire/ether.h"
#include "net/wire/router.h"

#include <errno.h>
#include <string.h>

#define RA     ICMPV6_ROUTER_ADVERTISEMENT
#define ROUTER "fe80::1"
#define HOUR   3600U
/* fd01::/64 and the modified EUI-64 of link_mac */
#define MADE "fd01::ff:fe00:2"

/* An advertisement in the making. */
struct advert {
	const char *from;
	uint32_t rest; /* hop limit, flags, lifetime */
	uint32_t length;
	uint8_t bytes[512]; /* behind the ICMPv6 header */
};

static struct advert advert_of(const char *from, uint16_t lifetime)
{
	return (struct advert){.from = from, .rest = 64U << 24 | lifetime, .length = 8};
}

static void add_prefix(struct advert *a, const char *prefix, uint8_t bits, uint8_t flags,
		       uint32_t valid, uint32_t preferred)
{
	const struct ip_address address = link_address(prefix);
	uint8_t *at = a->bytes + a->length;

	memset(at, 0, 32);
	at[0] = 3;
	at[1] = 4;
	at[2] = bits;
	at[3] = flags;
	store32(at + 4, valid);
	store32(at + 8, preferred);
	memcpy(at + 16, address.bytes, 16);
	a->length += 32;
}

static void add_option(struct advert *a, uint8_t type, const void *bytes, uint32_t length)
{
	uint8_t *at = a->bytes + a->length;

	at[0] = type;
	at[1] = (uint8_t)((length + 2) / 8);
	memcpy(at + 2, bytes, length);
	a->length += length + 2;
}

static struct link_made make(const struct advert *a)
{
	const struct icmp_header header = {.type = RA, .rest = a->rest};
	struct link_made made = link_make_icmp(a->from, "ff02::1", &header, a->bytes, a->length);

	made.bytes[ETHER_HEADER_BYTES + 7] = 255;
	return made;
}

static void arrive(struct link *link, const struct advert *a)
{
	const struct link_made made = make(a);

	link_arrive_made(link, &made);
}

#define ON_LINK    0x80
#define AUTONOMOUS 0x40
#define BOTH       (ON_LINK | AUTONOMOUS)

/* One router, one prefix. */
static void advertise(struct link *link, const char *prefix, uint32_t valid, uint32_t preferred)
{
	struct advert a = advert_of(ROUTER, 1800);

	add_prefix(&a, prefix, 64, BOTH, valid, preferred);
	arrive(link, &a);
}

static void on(struct link *link)
{
	link->rig.sched.config.slaac = 1;
}

static void on_dad(struct link *link)
{
	on(link);
	link->rig.sched.config.dad_probes = 1;
}

static struct link *open_on(void)
{
	struct link *link = link_open(on);

	link_forget(link);
	return link;
}

static bool is_ours(struct link *link, const char *address)
{
	const struct ip_address a = link_address(address);

	return net_is_local(&link->net, &a);
}

static struct own_address *own_of(struct link *link, const char *address)
{
	const struct ip_address a = link_address(address);
	struct own_address *own = own_find(&link->net, &a);

	assert_non_null(own);
	return own;
}

static void expect_source(struct link *link, const char *to, const char *expected)
{
	const struct ip_address a = link_address(to);
	const struct ip_address from = link_address(expected);
	const struct ip_address *source = net_source_for(&link->net, &a);

	assert_non_null(source);
	assert_true(ip_equal(source, &from));
}

static bool has_route(struct link *link, const char *to)
{
	const struct ip_address a = link_address(to);

	return ip_has_route(&link->net, &a);
}

static void expect_gateway(struct link *link, const char *expected)
{
	const struct ip_address a = link_address(expected);

	assert_true(ip_equal(&link->net.gateway[1], &a));
}

/* ---- validation ---- */

/* RFC 4861 6.1.2 MUST: each of these is discarded silently; attack row 11 */
static void test_invalid(void **state)
{
	static const struct {
		const char *name;
		const char *from;
		uint32_t cut; /* bytes that are there, 0: all */
		uint8_t hop_limit;
		uint8_t code;
		uint8_t option_length; /* of the first option, in units */
	} rows[] = {
		{"hop limit", ROUTER, 0, 254, 0, 4},   {"source", "fd00::1", 0, 255, 0, 4},
		{"code", ROUTER, 0, 255, 1, 4},        {"short", ROUTER, 7, 255, 0, 4},
		{"none", ROUTER, 0, 255, 0, 0},        {"option beyond", ROUTER, 0, 255, 0, 5},
		{"option cut", ROUTER, 39, 255, 0, 4}, {"half an option", ROUTER, 9, 255, 0, 4},
	};
	struct link *link = open_on();

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		struct advert a = advert_of(rows[i].from, 1800);
		add_prefix(&a, "fd01::", 64, BOTH, HOUR, HOUR);
		a.bytes[9] = rows[i].option_length;
		if (rows[i].cut)
			a.length = rows[i].cut;
		const struct icmp_header header = {
			.type = RA, .code = rows[i].code, .rest = a.rest};
		struct link_made made =
			link_make_icmp(a.from, "ff02::1", &header, a.bytes, a.length);
		made.bytes[ETHER_HEADER_BYTES + 7] = rows[i].hop_limit;
		link_arrive_made(link, &made);
		if (link_drops(link, DROP_ND_BAD) != i + 1 || is_ours(link, MADE))
			fail_msg("%s", rows[i].name);
		link_wait(link, LINK_SECOND / 10);
	}
	assert_int_equal(link->net.slaac.num_routers, 0);
	/* and so is one whose checksum is wrong */
	struct advert a = advert_of(ROUTER, 1800);
	struct link_made made = make(&a);
	made.bytes[ETHER_HEADER_BYTES + IPV6_HEADER_BYTES + 2] ^= 1;
	link_arrive_made(link, &made);
	assert_int_equal(link_drops(link, DROP_ICMP_BAD), 1);
	link_close(link);
}

/* Off, as by default, routers are not listened to; nor does one in fragments count (RFC 6980 5). */
static void test_off(void **state)
{
	struct link *link = link_open(NULL);

	(void)state;
	advertise(link, "fd01::", HOUR, HOUR);
	assert_int_equal(link_drops(link, DROP_ICMP_TYPE), 1);
	assert_false(is_ours(link, MADE));
	link_wait(link, 20 * LINK_SECOND);
	link_quiet(link);
	link_close(link);
}

/* RFC 4861 6.1.2: options that are unknown, or of another length, are passed over */
static void test_options(void **state)
{
	struct link *link = open_on();
	struct advert a = advert_of(ROUTER, 1800);
	static const uint8_t bytes[14] = {1, 2, 3};

	(void)state;
	add_option(&a, 31, bytes, 6); /* unknown */
	add_option(&a, 1, bytes, 14); /* no Ethernet address is that long */
	add_option(&a, 5, bytes, 14); /* nor an MTU */
	add_option(&a, 3, bytes, 6);  /* a prefix is longer */
	add_prefix(&a, "fd01::ffff", 64, BOTH, HOUR, HOUR);
	arrive(link, &a);
	assert_true(is_ours(link, MADE));
	assert_int_equal(link->net.slaac.mtu, 0);
	link_close(link);
}

/* ---- addresses ---- */

/* RFC 4862 5.5.3 (d): prefix and identifier make an address, which is preferred */
static void test_address(void **state)
{
	struct link *link = open_on();

	(void)state;
	assert_true(is_ours(link, "fe80::ff:fe00:2")); /* RFC 4862 5.3 */
	advertise(link, "fd01::", 2 * HOUR, HOUR);
	assert_true(is_ours(link, MADE));
	assert_int_equal(own_of(link, MADE)->state, OWN_PREFERRED);
	expect_source(link, "fd01::9", MADE);
	expect_source(link, "fe80::9", "fe80::ff:fe00:2");
	expect_gateway(link, ROUTER);
	assert_true(has_route(link, "2001:db8::1"));
	/* The same again changes nothing. */
	advertise(link, "fd01::", 2 * HOUR, HOUR);
	assert_int_equal(link->net.slaac.num_routers, 1);
	assert_int_equal(link->net.slaac.num_prefixes, 1);
	assert_int_equal(link->net.num_addresses, 4);
	link_close(link);
}

/* RFC 4862 5.5.3 (a), (b), (c) MUST, (d) MUST: prefixes that make no address */
static void test_no_address(void **state)
{
	static const struct {
		const char *prefix;
		uint8_t bits;
		uint8_t flags;
		uint32_t valid;
		uint32_t preferred;
	} rows[] = {
		{"fd01::", 64, ON_LINK, HOUR, HOUR},  {"fe80::", 64, BOTH, HOUR, HOUR},
		{"fd01::", 64, BOTH, HOUR, HOUR + 1}, {"fd01::", 63, BOTH, HOUR, HOUR},
		{"fd01::", 65, BOTH, HOUR, HOUR},     {"fd01::", 200, BOTH, HOUR, HOUR},
		{"fd01::", 64, BOTH, 0, 0},           {"ff02::", 64, BOTH, HOUR, HOUR},
		{"::", 64, BOTH, HOUR, HOUR},         {"::1", 64, BOTH, HOUR, HOUR},
	};
	struct link *link = open_on();

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		struct advert a = advert_of(ROUTER, 1800);
		add_prefix(&a, rows[i].prefix, rows[i].bits, rows[i].flags, rows[i].valid,
			   rows[i].preferred);
		arrive(link, &a);
		assert_int_equal(link->net.num_addresses, 3);
		link_wait(link, LINK_SECOND / 10);
	}
	link_close(link);
}

/* RFC 4862 5.5.4 MUST NOT: a deprecated address is used by what has it, not chosen for what is new;
 * an invalid one is no address */
static void test_lifetimes(void **state)
{
	struct link *link = open_on();

	(void)state;
	advertise(link, "fd01::", 20, 10);
	advertise(link, "fd02::", HOUR, HOUR);
	link_wait(link, 9 * LINK_SECOND);
	expect_source(link, "fd01::9", MADE);
	link_wait(link, 2 * LINK_SECOND);
	assert_int_equal(own_of(link, MADE)->state, OWN_DEPRECATED);
	assert_true(is_ours(link, MADE));
	expect_source(link, "2001:db8::1", "fd00::2");
	expect_source(link, "fd01::9", "fd00::2");
	link_wait(link, 10 * LINK_SECOND);
	assert_false(is_ours(link, MADE));
	assert_true(is_ours(link, "fd02::ff:fe00:2"));
	const struct ip_address a = link_address(MADE);
	assert_false(own_may_bind(&link->net, &a));
	/* Nothing is sent from it any more, whatever had it. */
	const struct ip_address to = link_address("fd02::9");
	struct frame *frame = frame_alloc_tx(link->net.heap, 8);
	frame->length = 8;
	assert_int_equal(ip_output(&link->net, frame, &a, &to, IP_UDP, 64, 0, NULL),
			 -EADDRNOTAVAIL);
	assert_int_equal(link_drops(link, DROP_ADDRESS_UNUSED), 1);
	/* Preferred again by a later word. */
	advertise(link, "fd02::", HOUR, 0);
	assert_int_equal(own_of(link, "fd02::ff:fe00:2")->state, OWN_DEPRECATED);
	advertise(link, "fd02::", HOUR, HOUR);
	assert_int_equal(own_of(link, "fd02::ff:fe00:2")->state, OWN_PREFERRED);
	advertise(link, "fd02::", UINT32_MAX, UINT32_MAX);
	link_wait(link, LINK_SECOND);
	assert_true(own_of(link, "fd02::ff:fe00:2")->valid_until_ns == TIMER_NEVER);
	link_close(link);
}

static void expect_left(struct link *link, uint64_t seconds)
{
	uint64_t left = own_of(link, MADE)->valid_until_ns - link->rig.sched.now_ns;

	assert_true(left <= seconds * LINK_SECOND && left + LINK_SECOND > seconds * LINK_SECOND);
}

/* RFC 4862 5.5.3 (e) MUST: nobody takes more of an address's life than what is beyond two hours */
static void test_two_hours(void **state)
{
	struct link *link = open_on();

	(void)state;
	advertise(link, "fd01::", 10 * HOUR, HOUR);
	advertise(link, "fd01::", 3 * HOUR, HOUR); /* above two hours: as it says */
	expect_left(link, 3 * HOUR);
	advertise(link, "fd01::", 0, 0); /* hostile: two hours are left */
	expect_left(link, 2 * HOUR);
	assert_int_equal(own_of(link, MADE)->state, OWN_DEPRECATED);
	link_wait(link, 100 * LINK_SECOND);
	advertise(link, "fd01::", 10, 10); /* less than what is left: ignored */
	expect_left(link, 2 * HOUR - 100);
	assert_int_equal(own_of(link, MADE)->state, OWN_PREFERRED);
	advertise(link, "fd01::", 2 * HOUR - 50, 10); /* more than what is left */
	expect_left(link, 2 * HOUR - 50);
	link_close(link);
}

/* RFC 5942 4: an address says nothing of its prefix; that says its own flag, for its own time */
static void test_on_link(void **state)
{
	struct link *link = open_on();
	struct advert a = advert_of(ROUTER, 0); /* no default router */

	(void)state;
	add_prefix(&a, "fd01::", 64, AUTONOMOUS, HOUR, HOUR);
	add_prefix(&a, "fd02::", 48, ON_LINK, 10, 0);
	arrive(link, &a);
	assert_true(is_ours(link, MADE));
	assert_false(has_route(link, "fd01::9"));
	assert_true(has_route(link, "fd02::7:1"));
	assert_false(has_route(link, "fd03::1"));
	link_wait(link, 11 * LINK_SECOND);
	assert_false(has_route(link, "fd02::7:1"));
	a = advert_of(ROUTER, 0);
	add_prefix(&a, "fd02::", 48, ON_LINK, HOUR, 0);
	arrive(link, &a);
	assert_true(has_route(link, "fd02::7:1"));
	a = advert_of(ROUTER, 0);
	add_prefix(&a, "fd02::", 48, ON_LINK, 0, 0); /* RFC 4861 6.3.4: gone at once */
	arrive(link, &a);
	assert_false(has_route(link, "fd02::7:1"));
	link_close(link);
}

/* ---- routers ---- */

/* RFC 4861 6.3.4, RFC 4191 3.1: lifetimes and preferences of default routers */
static void test_routers(void **state)
{
	struct link *link = open_on();
	struct advert one = advert_of("fe80::1", 100);
	struct advert two = advert_of("fe80::2", 20);

	(void)state;
	arrive(link, &one);
	arrive(link, &two);
	expect_gateway(link, "fe80::1"); /* the one in use stays */
	two.rest |= 1U << 19;            /* high */
	arrive(link, &two);
	expect_gateway(link, "fe80::2");
	two.rest |= 3U << 19; /* low */
	arrive(link, &two);
	expect_gateway(link, "fe80::1");
	two.rest &= ~(3U << 19);
	arrive(link, &two);
	one.rest = 64U << 24; /* it says that it is none any more */
	arrive(link, &one);
	expect_gateway(link, "fe80::2");
	link_wait(link, 21 * LINK_SECOND);
	expect_gateway(link, "::");
	assert_false(has_route(link, "2001:db8::1"));
	link_close(link);
}

static void configured_gateway(struct link *link)
{
	on(link);
	link_set(link->rig.sched.config.gateways, "fd00::1");
}

/* A gateway that is configured stays the gateway. */
static void test_configured_gateway(void **state)
{
	struct link *link = link_open(configured_gateway);

	(void)state;
	advertise(link, "fd01::", HOUR, HOUR);
	expect_gateway(link, "fd00::1");
	assert_true(is_ours(link, MADE));
	link_close(link);
}

/* RFC 4861 6.3.6: a router that does not answer is used only if none does */
static void test_unreachable(void **state)
{
	struct link *link = open_on();
	struct advert one = advert_of("fe80::1", 9000);
	struct advert two = advert_of("fe80::2", 9000);
	const struct ip_address first = link_address("fe80::1");
	const struct ip_address second = link_address("fe80::2");

	(void)state;
	arrive(link, &one);
	arrive(link, &two);
	(void)neighbour_get(&link->net, &first);
	link_wait(link, 4 * LINK_SECOND); /* three questions */
	expect_gateway(link, "fe80::2");
	(void)neighbour_get(&link->net, &second);
	link_wait(link, 4 * LINK_SECOND);
	expect_gateway(link, "fe80::1"); /* each in turn */
	link_close(link);
}

/* ---- solicitations ---- */

/* The next frame but neighbour discovery is a solicitation from this address. */
static void expect_solicitation(struct link *link, const char *from)
{
	const struct ip_address a = link_address(from);
	const struct ip_address all_routers = link_address("ff02::2");
	struct link_packet packet;

	(void)link_next_icmp(link, ICMPV6_ROUTER_SOLICITATION, 0, &packet);
	assert_true(ip_equal(&packet.ip.from, &a));
	assert_true(ip_equal(&packet.ip.to, &all_routers));
	assert_int_equal(packet.ip.ttl, 255);
	/* RFC 4861 4.1 MUST NOT: no link-layer address with the unspecified source */
	assert_int_equal(cursor_left(&packet.c), ip_is_any(&a) ? 0 : 8);
}

static uint32_t count_sent(struct link *link)
{
	uint32_t count = 0;

	while (link_next(link))
		count++;
	return count;
}

/* RFC 4861 6.3.7, RFC 7559 2: asked for at random in the first second, then in growing intervals,
 * until one answers */
static void test_solicit(void **state)
{
	struct link *link = link_open(on);

	(void)state; /* two seconds have passed */
	link_wait(link, 4 * LINK_SECOND);
	expect_solicitation(link, "fe80::ff:fe00:2"); /* 3.6 to 4.4 s after the first */
	link_quiet(link);
	link_wait(link, 24 * LINK_SECOND); /* about 8, 16 */
	assert_in_range(count_sent(link), 1, 2);
	link_wait(link, 3 * 3600 * LINK_SECOND);
	uint32_t count = count_sent(link); /* 32, 64 ... 2048, then each hour */
	assert_true(count >= 8 && count <= 11);
	struct advert a = advert_of(ROUTER, 0);
	arrive(link, &a); /* no router: goes on */
	link_wait(link, 3600 * LINK_SECOND * 2);
	assert_true(count_sent(link) >= 1);
	a = advert_of(ROUTER, 9000);
	arrive(link, &a);
	link_wait(link, 8000 * LINK_SECOND);
	link_quiet(link);
	link_wait(link, 1010 * LINK_SECOND); /* the last router is gone: asks again */
	expect_solicitation(link, "fe80::ff:fe00:2");
	link_close(link);
}

/* RFC 4429 3.2 MUST NOT: an optimistic address names no link-layer address to routers */
static void test_solicit_optimistic(void **state)
{
	struct link *link;
	bool seen = false;

	(void)state;
	assert_int_equal(link_try_open(&link, on_dad), 0);
	link_wait(link, 99 * LINK_SECOND / 100);
	for (const struct link_frame *frame = link_next(link); frame; frame = link_next(link)) {
		const uint8_t *ip = frame->bytes + ETHER_HEADER_BYTES;
		struct cursor c = cursor_over(frame->bytes, frame->length);
		struct ether_header ether = {.type = 0};
		assert_int_equal(ether_parse(&c, &ether), DROP_NONE);
		if (ether.type != ETHER_IPV6 || ip[40] != ICMPV6_ROUTER_SOLICITATION)
			continue;
		seen = true;
		assert_int_equal(ip[8], 0); /* from :: */
		assert_int_equal(load16(ip + 4), ICMP_HEADER_BYTES);
	}
	assert_true(seen);
	link_close(link);
}

/* ---- parameters ---- */

static void parameters(struct link *link, uint32_t reachable, uint32_t retrans, uint32_t mtu)
{
	struct advert a = advert_of(ROUTER, 1800);
	uint8_t option[6] = {0};

	store32(a.bytes, reachable);
	store32(a.bytes + 4, retrans);
	store32(option + 2, mtu);
	add_option(&a, 5, option, sizeof(option));
	arrive(link, &a);
}

/* RFC 4861 6.3.4: timers and the MTU of the link, within bounds */
static void test_parameters(void **state)
{
	struct link *link = open_on();
	const struct ip_address v6 = link_address("fd00::9");
	const struct ip_address v4 = link_address("10.0.0.9");

	(void)state;
	parameters(link, 5000, 300, 1400);
	assert_int_equal(slaac_reachable_ns(&link->net), 5 * LINK_SECOND);
	assert_int_equal(slaac_retrans_ns(&link->net), 3 * LINK_SECOND / 10);
	assert_int_equal(path_mtu(&link->net, &v6), 1400);
	assert_int_equal(path_mtu(&link->net, &v4), 1500);
	parameters(link, 0, 0, 0); /* not said */
	assert_int_equal(slaac_retrans_ns(&link->net), 3 * LINK_SECOND / 10);
	parameters(link, 1, 1, 1279); /* hostile */
	assert_int_equal(slaac_reachable_ns(&link->net), LINK_SECOND);
	assert_int_equal(slaac_retrans_ns(&link->net), LINK_SECOND / 10);
	parameters(link, UINT32_MAX, UINT32_MAX, 9000);
	assert_int_equal(slaac_reachable_ns(&link->net), 3600 * LINK_SECOND);
	assert_int_equal(slaac_retrans_ns(&link->net), 10 * LINK_SECOND);
	assert_int_equal(path_mtu(&link->net, &v6), 1400);
	link_close(link);
}

/* ---- floods ---- */

/* RFC 6104: routers, prefixes, addresses and work are bounded, and what is over is counted */
static void test_flood(void **state)
{
	struct link *link = open_on();
	char from[32];
	char text[32];

	(void)state;
	for (uint32_t i = 0; i < 60; i++) {
		(void)snprintf(from, sizeof(from), "fe80::%x", i + 1);
		struct advert a = advert_of(from, 1800);
		(void)snprintf(text, sizeof(text), "fd01:%x::", i);
		add_prefix(&a, text, 64, BOTH, HOUR, HOUR);
		arrive(link, &a);
		link_wait(link, LINK_SECOND / 10);
	}
	assert_int_equal(link->net.slaac.num_routers, SLAAC_ROUTERS_MAX);
	assert_int_equal(link->net.slaac.num_prefixes, SLAAC_PREFIXES_MAX);
	assert_int_equal(link->net.num_addresses, 3 + OWN_ROUTER_MAX);
	assert_int_equal(link_drops(link, DROP_ROUTER_FULL), 60 - SLAAC_ROUTERS_MAX);
	expect_gateway(link, "fe80::1");
	struct advert a = advert_of(ROUTER, 1800);
	for (uint32_t i = 0; i < 1000; i++)
		arrive(link, &a);
	assert_in_range(link_drops(link, DROP_ROUTER_RATE), 950, 990);
	link_close(link);
}

static void anything(struct link *link)
{
	on_dad(link);
	link->rig.sched.config.arp_probes = 1;
}

/* Whatever comes, everything stays in order (link_arrive and link_close look). */
static void test_any(void **state)
{
	struct link *link = link_open(anything);
	struct prng prng;

	(void)state;
	prng_seed(&prng, 7);
	for (uint32_t i = 0; i < 20000; i++) {
		char from[32];
		(void)snprintf(from, sizeof(from), "fe80::%x", (uint32_t)prng_below(&prng, 12));
		struct advert a = advert_of(from, (uint16_t)prng_below(&prng, 4));
		uint32_t count = (uint32_t)prng_below(&prng, 4);
		for (uint32_t j = 0; j < count; j++) {
			char prefix[32];
			(void)snprintf(prefix, sizeof(prefix),
				       "fd0%x::", (uint32_t)prng_below(&prng, 16));
			add_prefix(&a, prefix, prng_below(&prng, 4) ? 64 : 60,
				   (uint8_t)prng_below(&prng, 256), (uint32_t)prng_below(&prng, 8),
				   (uint32_t)prng_below(&prng, 8));
		}
		if (prng_below(&prng, 4) == 0)
			a.bytes[prng_below(&prng, a.length)] = (uint8_t)prng_below(&prng, 256);
		arrive(link, &a);
		if (prng_below(&prng, 8) == 0)
			link_arrive_arp(link, ARP_REQUEST, link_peer_mac, "10.0.0.2", "10.0.0.1");
		if (prng_below(&prng, 8) == 0 && link->net.num_addresses > 0) {
			struct nd_message message = {.has_mac = true};
			message.target =
				link->net.addresses[prng_below(&prng, link->net.num_addresses)]
					.address;
			memcpy(message.mac, link_peer_mac, 6);
			struct link_made made = link_make_nd(
				"fe80::1", "ff02::1", ICMPV6_NEIGHBOR_ADVERTISEMENT, &message);
			link_arrive_made(link, &made);
		}
		link_wait(link, prng_below(&prng, LINK_SECOND / 4));
		link_forget(link);
		link->num_steers = 0;
	}
	link_close(link);
}

/* ---- identifiers ---- */

static void keyed(struct link *link)
{
	on(link);
	link_set(link->rig.sched.config.interface_id_key, "a secret of ours");
}

static void keyed_otherwise(struct link *link)
{
	on(link);
	link_set(link->rig.sched.config.interface_id_key, "another secret");
}

static void shared(struct link *link)
{
	on(link);
	link->dev.mac_shared = true;
}

static void shared_own_mac(struct link *link)
{
	shared(link);
	link_set(link->rig.sched.config.mac, "02:00:00:00:00:77");
}

/* The addresses made of two prefixes, and the link-local one. */
static void made_by(void (*configure)(struct link *link), struct ip_address made[3])
{
	struct link *link = link_open(configure);

	advertise(link, "fd01::", HOUR, HOUR);
	advertise(link, "fd02::", HOUR, HOUR);
	uint32_t count = 0;
	for (uint32_t i = 0; i < link->net.num_addresses; i++) {
		const struct ip_address *a = &link->net.addresses[i].address;
		if (!ip_is_v4(a) && a->bytes[1] != 0)
			made[count++] = *a;
	}
	assert_int_equal(count, 3);
	link_close(link);
}

static bool same_id(const struct ip_address *a, const struct ip_address *b)
{
	return a->pair[1] == b->pair[1];
}

/* RFC 4291 appendix A, RFC 7217 5: identifiers are the same at each start; opaque ones differ by
 * prefix and key; on an interface shared with the kernel they are not the kernel's */
static void test_identifiers(void **state)
{
	struct ip_address eui[3];
	struct ip_address first[3];
	struct ip_address second[3];
	const struct ip_address other = link_address("fe80::ff:fe00:77");

	(void)state;
	made_by(on, eui);
	assert_true(same_id(&eui[0], &eui[1]) && same_id(&eui[1], &eui[2]));
	made_by(keyed, first);
	made_by(keyed, second);
	assert_memory_equal(first, second, sizeof(first));
	for (uint32_t i = 0; i < 3; i++)
		assert_false(same_id(&first[i], &first[(i + 1) % 3]));
	made_by(keyed_otherwise, second);
	for (uint32_t i = 0; i < 3; i++)
		assert_false(same_id(&first[i], &second[i]));
	made_by(shared, first);
	made_by(shared, second);
	assert_memory_equal(first, second, sizeof(first));
	for (uint32_t i = 0; i < 3; i++)
		assert_false(same_id(&first[i], &eui[i]));
	made_by(shared_own_mac, first); /* the kernel does not have this one */
	assert_true(ip_equal(&first[2], &other));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_address),
		cmocka_unit_test(test_no_address),
		cmocka_unit_test(test_lifetimes),
		cmocka_unit_test(test_two_hours),
		cmocka_unit_test(test_on_link),
		cmocka_unit_test(test_routers),
		cmocka_unit_test(test_configured_gateway),
		cmocka_unit_test(test_unreachable),
		cmocka_unit_test(test_solicit),
		cmocka_unit_test(test_solicit_optimistic),
		cmocka_unit_test(test_parameters),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_any),
		cmocka_unit_test(test_identifiers),
	};

	return test_run("net_slaac", tests);
}
