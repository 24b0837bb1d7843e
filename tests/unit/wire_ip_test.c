/* SPDX-License-Identifier: MIT
 * tests/unit/wire_ip_test.c - net/wire/ip.h: headers written and read, options, extension headers,
 * and what is wrong with a packet.
 */
#include "support/test.h"

#include "base/prng.h"
#include "net/wire/ip.h"
#include "support/bytes.h"
#include "support/seed.h"

#define PAYLOAD 12

/* ---- IPv4 ---- */

/* RFC 791 3.1: 10.0.0.1 to 10.0.0.2, UDP, DSCP 46 and an ECN of 2, 32 bytes in all */
static const uint8_t golden4[IPV4_HEADER_BYTES] = {0x45, 0xba, 0,  32, 0, 0, 0x40, 0, 64, 17,
						   0x26, 0x11, 10, 0,  0, 1, 10,   0, 0,  2};

struct v4_case {
	const char *name;
	uint8_t options[40];
	uint8_t num_options; /* a multiple of 4 */
	enum drop drop;
};

/* A packet with options and PAYLOAD bytes; returns its length. */
static uint32_t make_v4(uint8_t *at, const uint8_t *options, uint32_t num_options)
{
	uint32_t header = IPV4_HEADER_BYTES + num_options;
	uint32_t total = header + PAYLOAD;

	memcpy(at, golden4, IPV4_HEADER_BYTES);
	if (num_options)
		memcpy(at + IPV4_HEADER_BYTES, options, num_options);
	for (uint32_t i = 0; i < PAYLOAD; i++)
		at[header + i] = (uint8_t)i;
	at[0] = (uint8_t)(0x40 | header / 4);
	at[2] = (uint8_t)(total >> 8);
	at[3] = (uint8_t)total;
	bytes_fix(at, header, 10, 0);
	return total;
}

static enum drop parse_v4(const uint8_t *bytes, uint32_t length, struct ip_packet *packet)
{
	struct cursor c = cursor_over(bytes, length);
	enum drop drop = ipv4_parse(&c, packet);

	if (!drop) {
		assert_ptr_equal(packet->header, bytes);
		assert_ptr_equal(packet->payload, bytes + packet->header_bytes);
		assert_ptr_equal(c.at, packet->payload);
		assert_int_equal(cursor_left(&c), packet->length);
		assert_true(packet->header_bytes + packet->length <= length);
	}
	return drop;
}

static void test_v4_write(void **state)
{
	(void)state;
	struct ip_address from = ip_from_v4(__builtin_bswap32(0x0a000001));
	struct ip_address to = ip_from_v4(__builtin_bswap32(0x0a000002));
	uint8_t bytes[IPV4_HEADER_BYTES];

	ipv4_write(bytes, &from, &to, IP_UDP, 64, 0xba, PAYLOAD);
	assert_memory_equal(bytes, golden4, sizeof(bytes));
}

static void test_v4_round_trip(void **state)
{
	(void)state;
	struct prng prng;
	prng_seed(&prng, test_seed(791));
	static uint8_t bytes[65535 + 100];

	for (uint32_t round = 0; round < 20000; round++) {
		struct ip_address from = ip_from_v4((uint32_t)prng_next(&prng));
		struct ip_address to = ip_from_v4((uint32_t)prng_next(&prng));
		uint8_t protocol = (uint8_t)prng_next(&prng);
		uint8_t ttl = (uint8_t)prng_next(&prng);
		uint8_t tos = (uint8_t)prng_next(&prng);
		uint32_t length = (uint32_t)prng_below(&prng, 65536 - IPV4_HEADER_BYTES);
		uint32_t padding = (uint32_t)prng_below(&prng, 46);
		struct ip_packet packet = {.checked = true, .broadcast = true};

		ipv4_write(bytes, &from, &to, protocol, ttl, tos, length);
		assert_int_equal(parse_v4(bytes, IPV4_HEADER_BYTES + length + padding, &packet),
				 DROP_NONE);
		assert_true(ip_equal(&packet.from, &from));
		assert_true(ip_equal(&packet.to, &to));
		assert_int_equal(packet.protocol, protocol);
		assert_int_equal(packet.ttl, ttl);
		assert_int_equal(packet.tos, tos);
		assert_int_equal(packet.length, length);
		assert_int_equal(packet.header_bytes, IPV4_HEADER_BYTES);
		assert_true(packet.checked && packet.broadcast); /* the receiver's */
	}
}

/* RFC 1122 3.2.1.1, 3.2.1.2 MUST: what is too short, of another version or corrupt is discarded */
static void test_v4_wrong(void **state)
{
	(void)state;

	static const struct {
		const char *name;
		uint8_t offset;
		uint8_t value;
		bool fix; /* the checksum is right */
		enum drop drop;
	} cases[] = {
		{"version 0", 0, 0x05, true, DROP_IP_VERSION},
		{"version 5", 0, 0x55, true, DROP_IP_VERSION},
		{"version 6", 0, 0x65, true, DROP_IP_VERSION},
		{"header of 0 bytes", 0, 0x40, true, DROP_IP_HEADER},
		{"header of 16 bytes", 0, 0x44, true, DROP_IP_HEADER},
		{"header beyond the packet", 0, 0x4f, true, DROP_IP_HEADER},
		{"total length 0", 3, 0, true, DROP_IP_SHORT},
		{"total length below a header", 3, 19, true, DROP_IP_SHORT},
		{"header only", 3, 20, true, DROP_NONE},
		{"cut off by total length", 3, 31, true, DROP_NONE},
		{"total length one beyond the frame", 3, 33, true, DROP_IP_SHORT},
		{"total length far beyond the frame", 2, 0xff, true, DROP_IP_SHORT},
		{"corrupt", 12, 11, false, DROP_IP_CHECKSUM},
		{"corrupt checksum", 10, 0, false, DROP_IP_CHECKSUM},
		{"more fragments", 6, 0x20, true, DROP_IP_FRAGMENT_BAD}, /* 12 bytes of data */
		{"offset 8", 7, 1, true, DROP_IP_FRAGMENT},
		{"offset beyond all ends", 6, 0x1f, true, DROP_IP_FRAGMENT},
		{"may be fragmented", 6, 0, true, DROP_NONE},
		{"reserved flag", 6, 0x80, true, DROP_NONE},
		/* RFC 1122 3.2.1.7 MUST NOT: a packet is not discarded for a TTL below 2 */
		{"TTL 0", 8, 0, true, DROP_NONE},
		{"TTL 1", 8, 1, true, DROP_NONE},
	};

	for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		uint8_t bytes[64];
		uint32_t length = make_v4(bytes, NULL, 0);
		struct ip_packet packet;

		bytes[cases[i].offset] = cases[i].value;
		if (cases[i].fix)
			bytes_fix(bytes, IPV4_HEADER_BYTES, 10, 0);
		uint8_t *copy = bytes_copy(bytes, length);
		enum drop drop = parse_v4(copy, length, &packet);
		if (drop != cases[i].drop)
			fail_msg("%s: drop %d, not %d", cases[i].name, drop, cases[i].drop);
		free(copy);
	}
}

static void test_v4_truncated(void **state)
{
	(void)state;
	static const uint8_t options[8] = {1, 1, 7, 3, 4, 0, 0, 0};

	for (uint32_t num_options = 0; num_options <= 8; num_options += 8) {
		uint8_t bytes[64];
		uint32_t total = make_v4(bytes, options, num_options);

		for (uint32_t length = 0; length <= total; length++) {
			uint8_t *copy = bytes_copy(bytes, length);
			struct ip_packet packet;

			assert_int_equal(parse_v4(copy, length, &packet),
					 length == total ? DROP_NONE : DROP_IP_SHORT);
			free(copy);
		}
	}
}

static void test_v4_every_bit(void **state)
{
	(void)state;
	static const uint8_t options[8] = {1, 1, 7, 3, 4, 0, 0, 0};

	for (uint32_t num_options = 0; num_options <= 8; num_options += 8) {
		uint8_t bytes[64];
		uint32_t total = make_v4(bytes, options, num_options);
		struct ip_packet packet;

		assert_int_equal(parse_v4(bytes, total, &packet), DROP_NONE);
		for (uint32_t bit = 0; bit < (IPV4_HEADER_BYTES + num_options) * 8; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
			assert_int_not_equal(parse_v4(bytes, total, &packet), DROP_NONE);
			bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
	}
}

/* RFC 1122 3.2.1.8 MUST: unknown options are ignored, lengths are checked; RFC 9293 MUST-50: source
 * routes are not used */
static const struct v4_case v4_cases[] = {
	{"end", {0, 0, 0, 0}, 4, DROP_NONE},
	{"no operation", {1, 1, 1, 1}, 4, DROP_NONE},
	{"junk behind the end", {0, 7, 0, 131}, 4, DROP_NONE},
	{"record route", {7, 7, 4, 0, 0, 0, 0, 0}, 8, DROP_NONE},
	{"router alert", {148, 4, 0, 0}, 4, DROP_NONE},
	{"unknown", {30, 3, 0xff, 1}, 4, DROP_NONE},
	{"unknown, to the end", {30, 4, 0xff, 0xff}, 4, DROP_NONE},
	{"length 2", {30, 2, 30, 2}, 4, DROP_NONE},
	{"length 0", {30, 0, 1, 1}, 4, DROP_IP_HEADER},
	{"length 1", {30, 1, 1, 1}, 4, DROP_IP_HEADER},
	{"one over the end", {30, 5, 1, 1}, 4, DROP_IP_HEADER},
	{"length 255", {1, 30, 255, 1}, 4, DROP_IP_HEADER},
	{"no length", {1, 1, 1, 30}, 4, DROP_IP_HEADER},
	{"loose source route", {131, 7, 4, 10, 0, 0, 9, 0}, 8, DROP_IP_SOURCE_ROUTE},
	{"strict source route", {1, 137, 7, 4, 10, 0, 0, 9}, 8, DROP_IP_SOURCE_ROUTE},
	{"source route, done", {131, 7, 8, 10, 0, 0, 9, 0}, 8, DROP_IP_SOURCE_ROUTE},
	{"source route over the end", {137, 7, 4, 10}, 4, DROP_IP_HEADER},
	{"40 bytes of length 0", {30}, 40, DROP_IP_HEADER},
	{"40 bytes", {30, 40}, 40, DROP_NONE},
};

static void test_v4_options(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(v4_cases); i++) {
		const struct v4_case *test = &v4_cases[i];
		uint8_t bytes[80];
		uint32_t length = make_v4(bytes, test->options, test->num_options);
		uint8_t *copy = bytes_copy(bytes, length);
		struct ip_packet packet;
		enum drop drop = parse_v4(copy, length, &packet);

		if (drop != test->drop)
			fail_msg("%s: drop %d, not %d", test->name, drop, test->drop);
		if (!drop) {
			assert_int_equal(packet.header_bytes,
					 IPV4_HEADER_BYTES + test->num_options);
			assert_int_equal(packet.length, PAYLOAD);
			assert_int_equal(packet.payload[0], 0);
		}
		free(copy);
	}
}

/* Any options at all, with a good checksum: an answer, and no read outside. */
static void test_v4_junk_options(void **state)
{
	(void)state;
	struct prng prng;
	prng_seed(&prng, test_seed(792));
	for (uint32_t round = 0; round < 50000; round++) {
		uint8_t options[40];
		uint8_t bytes[80];
		struct ip_packet packet;

		for (uint32_t i = 0; i < sizeof(options); i++)
			options[i] = (uint8_t)prng_below(&prng, prng_below(&prng, 2) ? 256 : 8);
		uint32_t length = make_v4(bytes, options, 4 * (uint32_t)prng_below(&prng, 11));
		enum drop drop = parse_v4(bytes, length, &packet);
		assert_true(drop == DROP_NONE || drop == DROP_IP_HEADER ||
			    drop == DROP_IP_SOURCE_ROUTE);
	}
}

/* ---- IPv6 ---- */

static const struct ip_address from6 = {
	.bytes = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
static const struct ip_address to6 = {
	.bytes = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}};
static const struct ip_address group6 = {
	.bytes = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

static enum drop parse_v6(const uint8_t *bytes, uint32_t length, struct ip_packet *packet,
			  struct ip_problem *problem)
{
	struct cursor c = cursor_over(bytes, length);
	memset(problem, 0xff, sizeof(*problem));
	enum drop drop = ipv6_parse(&c, packet, problem);

	if (!drop) {
		assert_false(problem->send);
		assert_ptr_equal(packet->header, bytes);
		assert_ptr_equal(packet->payload, bytes + packet->header_bytes);
		assert_ptr_equal(c.at, packet->payload);
		assert_int_equal(cursor_left(&c), packet->length);
		assert_true(packet->header_bytes + packet->length <= length);
	}
	return drop;
}

/* RFC 8200 3: the header as it stands on the wire */
static void test_v6_write(void **state)
{
	(void)state;
	static const uint8_t expected[8] = {0x6b, 0xa5, 0x43, 0x21, 0, PAYLOAD, IP_TCP, 63};
	uint8_t bytes[IPV6_HEADER_BYTES];

	ipv6_write(bytes, &from6, &to6, IP_TCP, 63, 0xba, PAYLOAD, 0xfff54321);
	assert_memory_equal(bytes, expected, sizeof(expected));
	assert_memory_equal(bytes + 8, from6.bytes, 16);
	assert_memory_equal(bytes + 24, to6.bytes, 16);
}

static void test_v6_round_trip(void **state)
{
	(void)state;
	static const uint8_t protocols[] = {IP_TCP, IP_UDP, IP_ICMPV6};
	static uint8_t bytes[IPV6_HEADER_BYTES + 65535 + 100];
	struct prng prng;
	prng_seed(&prng, test_seed(8200));
	for (uint32_t round = 0; round < 20000; round++) {
		struct ip_address from = {.pair = {prng_next(&prng) | 1, prng_next(&prng)}};
		struct ip_address to = {.pair = {prng_next(&prng) | 1, prng_next(&prng)}};
		uint8_t hops = (uint8_t)prng_next(&prng);
		uint8_t tos = (uint8_t)prng_next(&prng);
		uint32_t length = (uint32_t)prng_below(&prng, 65536);
		struct ip_packet packet = {.checked = true, .broadcast = true};
		struct ip_problem problem;

		ipv6_write(bytes, &from, &to, protocols[round % 3], hops, tos, length,
			   (uint32_t)prng_next(&prng));
		assert_int_equal(
			parse_v6(bytes,
				 IPV6_HEADER_BYTES + length + (uint32_t)prng_below(&prng, 46),
				 &packet, &problem),
			DROP_NONE);
		assert_true(ip_equal(&packet.from, &from));
		assert_true(ip_equal(&packet.to, &to));
		assert_int_equal(packet.protocol, protocols[round % 3]);
		assert_int_equal(packet.ttl, hops);
		assert_int_equal(packet.tos, tos);
		assert_int_equal(packet.length, length);
		assert_int_equal(packet.header_bytes, IPV6_HEADER_BYTES);
		assert_true(packet.checked && packet.broadcast);
	}
}

struct v6_case {
	const char *name;
	uint8_t first; /* next header of the fixed one */
	uint8_t chain[72];
	uint8_t num_chain;
	enum drop drop;
	bool send; /* to who sent it to one host */
	uint8_t code;
	uint8_t pointer;
	bool send_multicast; /* to who sent it to a group */
};

#define HOP     0
#define ROUTING 43
#define FRAG    44
#define NONE    59
#define DEST    60

/* Pad options of 6 and 14 bytes: the rest of a header of 8 and 16. */
#define PAD6  1, 4, 0, 0, 0, 0
#define PAD14 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0

static const struct v6_case v6_cases[] = {
	{"none", IP_TCP, {0}, 0, .drop = DROP_NONE},
	{"hop-by-hop", HOP, {IP_TCP, 0, PAD6}, 8, .drop = DROP_NONE},
	{"hop-by-hop of 16", HOP, {IP_UDP, 1, PAD14}, 16, .drop = DROP_NONE},
	{"pad1 only", HOP, {IP_UDP, 0, 0, 0, 0, 0, 0, 0}, 8, .drop = DROP_NONE},
	{"padn of 2", HOP, {IP_UDP, 0, 1, 0, 1, 0, 1, 0}, 8, .drop = DROP_NONE},
	{"router alert", HOP, {IP_ICMPV6, 0, 5, 2, 0, 0, 1, 0}, 8, .drop = DROP_NONE},
	{"destination", DEST, {IP_TCP, 0, PAD6}, 8, .drop = DROP_NONE},
	{"hop-by-hop, destination, destination",
	 HOP,
	 {DEST, 0, PAD6, DEST, 0, PAD6, IP_TCP, 0, PAD6},
	 24,
	 .drop = DROP_NONE},
	/* RFC 8200 4.1: hop-by-hop options only right behind the fixed header */
	{"hop-by-hop behind destination",
	 DEST,
	 {HOP, 0, PAD6, IP_TCP, 0, PAD6},
	 16,
	 DROP_IP_EXTENSION,
	 true,
	 IP_PROBLEM_NEXT_HEADER,
	 40,
	 false},
	{"two hop-by-hop",
	 HOP,
	 {HOP, 0, PAD6, IP_TCP, 0, PAD6},
	 16,
	 DROP_IP_EXTENSION,
	 true,
	 IP_PROBLEM_NEXT_HEADER,
	 40,
	 false},
	/* RFC 8200 4.2: unknown options by their two high bits */
	{"unknown, skip", DEST, {IP_TCP, 0, 0x3e, 4, 9, 9, 9, 9}, 8, .drop = DROP_NONE},
	{"unknown, discard", DEST, {IP_TCP, 0, 0x7e, 4, 9, 9, 9, 9}, 8, .drop = DROP_IP_EXTENSION},
	{"unknown, report",
	 DEST,
	 {IP_TCP, 0, 0xbe, 4, 9, 9, 9, 9},
	 8,
	 DROP_IP_EXTENSION,
	 true,
	 IP_PROBLEM_OPTION,
	 42,
	 true},
	{"unknown, report unless multicast",
	 DEST,
	 {IP_TCP, 0, 0, 0xfe, 3, 9, 9, 9},
	 8,
	 DROP_IP_EXTENSION,
	 true,
	 IP_PROBLEM_OPTION,
	 43,
	 false},
	{"unknown in hop-by-hop",
	 HOP,
	 {IP_TCP, 0, 0xbe, 4, 9, 9, 9, 9},
	 8,
	 DROP_IP_EXTENSION,
	 true,
	 IP_PROBLEM_OPTION,
	 42,
	 true},
	{"jumbo payload",
	 HOP,
	 {IP_TCP, 0, 0xc2, 4, 0, 1, 0, 0},
	 8,
	 DROP_IP_EXTENSION,
	 true,
	 IP_PROBLEM_OPTION,
	 42,
	 false},
	{"the first of two unknown counts",
	 DEST,
	 {IP_TCP, 1, 0x3e, 1, 0, 0x7e, 0, 0xbe, 6, 0, 0, 0, 0, 0, 0, 0},
	 16,
	 .drop = DROP_IP_EXTENSION},
	{"option over the end", DEST, {IP_TCP, 0, 1, 5, 0, 0, 0, 0}, 8, .drop = DROP_IP_EXTENSION},
	{"option without length",
	 DEST,
	 {IP_TCP, 0, 1, 3, 0, 0, 0, 1},
	 8,
	 .drop = DROP_IP_EXTENSION},
	{"option length 255",
	 DEST,
	 {IP_TCP, 0, 0x3e, 255, 0, 0, 0, 0},
	 8,
	 .drop = DROP_IP_EXTENSION},
	/* RFC 5095 3 MUST: type 0 like an unknown type; RFC 8200 4.4: ignored with no segments left
	 */
	{"routing type 0, none left", ROUTING, {IP_TCP, 0, 0, 0, 0, 0, 0, 0}, 8, .drop = DROP_NONE},
	{"routing type 0, some left",
	 ROUTING,
	 {IP_TCP, 2, 0, 1, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9},
	 24,
	 DROP_IP_SOURCE_ROUTE,
	 true,
	 IP_PROBLEM_FIELD,
	 42,
	 false},
	{"routing unknown, none left",
	 ROUTING,
	 {IP_TCP, 0, 77, 0, 1, 2, 3, 4},
	 8,
	 .drop = DROP_NONE},
	{"routing unknown, some left",
	 DEST,
	 {ROUTING, 0, PAD6, IP_TCP, 0, 77, 1, 0, 0, 0, 0},
	 16,
	 DROP_IP_SOURCE_ROUTE,
	 true,
	 IP_PROBLEM_FIELD,
	 50,
	 false},
	/* RFC 6946 4 MUST: an atomic fragment is a whole packet */
	{"atomic fragment", FRAG, {IP_TCP, 0, 0, 0, 1, 2, 3, 4}, 8, .drop = DROP_NONE},
	{"atomic fragment, reserved bits",
	 FRAG,
	 {IP_TCP, 99, 0, 6, 1, 2, 3, 4},
	 8,
	 .drop = DROP_NONE},
	/* RFC 8200 4.5: a part that is not the last is whole units of 8 octets; the whole is no
	 * longer than 65535 */
	{"part of 12",
	 FRAG,
	 {IP_TCP, 0, 1, 1, 1, 2, 3, 4},
	 8,
	 DROP_IP_FRAGMENT_BAD,
	 true,
	 IP_PROBLEM_FIELD,
	 4,
	 false},
	{"last fragment", FRAG, {IP_TCP, 0, 0, 8, 1, 2, 3, 4}, 8, .drop = DROP_IP_FRAGMENT},
	{"beyond 65535",
	 FRAG,
	 {IP_TCP, 0, 0xff, 0xf8, 1, 2, 3, 4},
	 8,
	 DROP_IP_FRAGMENT_BAD,
	 true,
	 IP_PROBLEM_FIELD,
	 42,
	 false},
	{"last behind hop-by-hop",
	 HOP,
	 {FRAG, 0, PAD6, IP_TCP, 0, 1, 0, 1, 2, 3, 4},
	 16,
	 .drop = DROP_IP_FRAGMENT},
	/* RFC 7112 5 MUST: a first fragment holds all headers */
	{"first without a transport header",
	 FRAG,
	 {DEST, 0, 0, 1, 1, 2, 3, 4, IP_TCP, 0, PAD6, 0, 0, 0, 0},
	 20,
	 DROP_IP_FRAGMENT_BAD,
	 true,
	 IP_PROBLEM_FIRST_FRAGMENT,
	 0,
	 false},
	{"first with half of an extension header",
	 FRAG,
	 {DEST, 0, 0, 1, 1, 2, 3, 4, IP_TCP, 2, 1, 14, 0, 0, 0, 0, 0, 0, 0, 0},
	 20,
	 DROP_IP_FRAGMENT_BAD,
	 true,
	 IP_PROBLEM_FIRST_FRAGMENT,
	 0,
	 false},
	{"first with half of a TCP header",
	 FRAG,
	 {IP_TCP, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 0},
	 12,
	 DROP_IP_FRAGMENT_BAD,
	 true,
	 IP_PROBLEM_FIRST_FRAGMENT,
	 0,
	 false},
	{"first of UDP",
	 FRAG,
	 {IP_UDP, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 0},
	 12,
	 .drop = DROP_IP_FRAGMENT},
	{"first of nothing known",
	 FRAG,
	 {253, 0, 0, 1, 1, 2, 3, 4, 0, 0, 0, 0},
	 12,
	 DROP_IP_PROTOCOL,
	 true,
	 IP_PROBLEM_NEXT_HEADER,
	 40,
	 false},
	{"fragment of a fragment",
	 FRAG,
	 {FRAG, 0, 0, 1, 1, 2, 3, 4, IP_UDP, 0, 0, 1, 1, 2, 3, 5, 0, 0, 0, 0},
	 20,
	 DROP_IP_FRAGMENT_BAD,
	 true,
	 IP_PROBLEM_FIRST_FRAGMENT,
	 0,
	 false},
	/* RFC 8200 4.7: nothing follows that is looked at */
	{"no next header", NONE, {0}, 0, .drop = DROP_IP_PROTOCOL},
	{"no next header behind destination", DEST, {NONE, 0, PAD6}, 8, .drop = DROP_IP_PROTOCOL},
	/* RFC 8200 4: an unknown next header is reported by the octet that names it */
	{"unknown protocol", 253, {0}, 0, DROP_IP_PROTOCOL, true, IP_PROBLEM_NEXT_HEADER, 6, false},
	{"unknown protocol behind destination",
	 DEST,
	 {253, 0, PAD6},
	 8,
	 DROP_IP_PROTOCOL,
	 true,
	 IP_PROBLEM_NEXT_HEADER,
	 40,
	 false},
	{"ICMP of IPv4", IP_ICMP, {0}, 0, DROP_IP_PROTOCOL, true, IP_PROBLEM_NEXT_HEADER, 6, false},
	{"authentication",
	 51,
	 {IP_TCP, 4},
	 24,
	 DROP_IP_PROTOCOL,
	 true,
	 IP_PROBLEM_NEXT_HEADER,
	 6,
	 false},
	{"encryption", 50, {0}, 24, DROP_IP_PROTOCOL, true, IP_PROBLEM_NEXT_HEADER, 6, false},
	{"header over the end", DEST, {IP_TCP, 3, PAD6}, 8, .drop = DROP_IP_EXTENSION},
	{"header of 2048", DEST, {IP_TCP, 255, PAD6}, 8, .drop = DROP_IP_EXTENSION},
};

static uint32_t make_v6(uint8_t *at, const struct v6_case *test, const struct ip_address *to)
{
	uint32_t length = test->num_chain + (uint32_t)PAYLOAD;

	ipv6_write(at, &from6, to, test->first, 64, 0, length, 0);
	memcpy(at + IPV6_HEADER_BYTES, test->chain, test->num_chain);
	for (uint32_t i = 0; i < PAYLOAD; i++)
		at[IPV6_HEADER_BYTES + test->num_chain + i] = (uint8_t)(0xf0 + i);
	return IPV6_HEADER_BYTES + length;
}

static void check_v6(const struct v6_case *test, bool multicast)
{
	uint8_t bytes[200];
	uint32_t length = make_v6(bytes, test, multicast ? &group6 : &to6);
	uint8_t *copy = bytes_copy(bytes, length);
	struct ip_packet packet;
	struct ip_problem problem;
	enum drop drop = parse_v6(copy, length, &packet, &problem);
	bool send = multicast ? test->send_multicast : test->send;

	if (drop != test->drop || problem.send != send)
		fail_msg("%s: drop %d, not %d; send %d", test->name, drop, test->drop,
			 problem.send);
	if (send && (problem.code != test->code || problem.pointer != test->pointer))
		fail_msg("%s: code %u, pointer %u", test->name, problem.code, problem.pointer);
	if (!drop) {
		assert_int_equal(packet.length, PAYLOAD);
		assert_int_equal(packet.payload[0], 0xf0);
		assert_true(packet.protocol == IP_TCP || packet.protocol == IP_UDP ||
			    packet.protocol == IP_ICMPV6);
	} else {
		/* Enough to quote it by. */
		assert_ptr_equal(packet.header, copy);
		assert_int_equal(packet.header_bytes + packet.length, length);
		assert_true(ip_equal(&packet.from, &from6));
	}
	free(copy);
}

static void test_v6_chains(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(v6_cases); i++) {
		check_v6(&v6_cases[i], false);
		check_v6(&v6_cases[i], true);
	}
}

/* Cut anywhere, with the payload length that fits what is left: never a read outside. */
static void test_v6_truncated(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(v6_cases); i++) {
		uint8_t bytes[200];
		uint32_t total = make_v6(bytes, &v6_cases[i], &to6);
		struct ip_packet packet;
		struct ip_problem problem;

		for (uint32_t length = 0; length < total; length++) {
			uint8_t *copy = bytes_copy(bytes, length);

			assert_int_equal(parse_v6(copy, length, &packet, &problem), DROP_IP_SHORT);
			assert_false(problem.send);
			if (length >= IPV6_HEADER_BYTES) {
				copy[5] = (uint8_t)(length - IPV6_HEADER_BYTES);
				enum drop drop = parse_v6(copy, length, &packet, &problem);
				if (length - IPV6_HEADER_BYTES < v6_cases[i].num_chain)
					assert_int_not_equal(drop, DROP_NONE);
			}
			free(copy);
		}
	}
}

static void test_v6_wrong(void **state)
{
	(void)state;

	static const struct {
		const char *name;
		uint8_t offset;
		uint8_t value;
		enum drop drop;
	} cases[] = {
		{"version 4", 0, 0x45, DROP_IP_VERSION},
		{"version 0", 0, 0x00, DROP_IP_VERSION},
		{"one beyond the frame", 5, PAYLOAD + 1, DROP_IP_SHORT},
		{"far beyond the frame", 4, 0xff, DROP_IP_SHORT},
		{"no payload", 5, 0, DROP_NONE},
		{"hop limit 0", 7, 0, DROP_NONE},
	};
	struct ip_packet packet;
	struct ip_problem problem;
	uint8_t bytes[IPV6_HEADER_BYTES + PAYLOAD] = {0};

	for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		ipv6_write(bytes, &from6, &to6, IP_UDP, 64, 0, PAYLOAD, 0);
		bytes[cases[i].offset] = cases[i].value;
		enum drop drop = parse_v6(bytes, sizeof(bytes), &packet, &problem);
		if (drop != cases[i].drop)
			fail_msg("%s: drop %d, not %d", cases[i].name, drop, cases[i].drop);
	}
	/* Mapped addresses would pass for IPv4 further up. */
	struct ip_address mapped = ip_from_v4(__builtin_bswap32(0x0a000001));
	ipv6_write(bytes, &mapped, &to6, IP_UDP, 64, 0, PAYLOAD, 0);
	assert_int_equal(parse_v6(bytes, sizeof(bytes), &packet, &problem), DROP_IP_SOURCE);
	ipv6_write(bytes, &from6, &mapped, IP_UDP, 64, 0, PAYLOAD, 0);
	assert_int_equal(parse_v6(bytes, sizeof(bytes), &packet, &problem), DROP_IP_DESTINATION);
}

/* Chains of destination options: as many as the bounds allow, and one more. */
static void test_v6_bounds(void **state)
{
	(void)state;

	static const struct {
		uint32_t headers;
		uint32_t bytes; /* of each */
		enum drop drop;
	} cases[] = {
		{8, 8, DROP_NONE},           {9, 8, DROP_IP_EXTENSION},
		{100, 8, DROP_IP_EXTENSION}, {8, 32, DROP_NONE},
		{8, 40, DROP_IP_EXTENSION},  {1, 256, DROP_NONE},
		{1, 264, DROP_IP_EXTENSION},
	};

	static uint8_t bytes[2048];

	for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		uint32_t length = cases[i].headers * cases[i].bytes;
		struct ip_packet packet;
		struct ip_problem problem;

		memset(bytes, 0, sizeof(bytes)); /* pad1 all over */
		ipv6_write(bytes, &from6, &to6, DEST, 64, 0, length + PAYLOAD, 0);
		for (uint32_t header = 0; header < cases[i].headers; header++) {
			uint8_t *at = bytes + IPV6_HEADER_BYTES + header * cases[i].bytes;

			at[0] = header + 1 == cases[i].headers ? IP_TCP : DEST;
			at[1] = (uint8_t)(cases[i].bytes / 8 - 1);
		}
		enum drop drop =
			parse_v6(bytes, IPV6_HEADER_BYTES + length + PAYLOAD, &packet, &problem);
		assert_int_equal(drop, cases[i].drop);
		assert_false(problem.send);
		if (!drop)
			assert_int_equal(packet.header_bytes, IPV6_HEADER_BYTES + length);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v4_write),        cmocka_unit_test(test_v4_round_trip),
		cmocka_unit_test(test_v4_wrong),        cmocka_unit_test(test_v4_truncated),
		cmocka_unit_test(test_v4_every_bit),    cmocka_unit_test(test_v4_options),
		cmocka_unit_test(test_v4_junk_options), cmocka_unit_test(test_v6_write),
		cmocka_unit_test(test_v6_round_trip),   cmocka_unit_test(test_v6_chains),
		cmocka_unit_test(test_v6_truncated),    cmocka_unit_test(test_v6_wrong),
		cmocka_unit_test(test_v6_bounds),
	};

	return test_run("wire_ip", tests);
}
