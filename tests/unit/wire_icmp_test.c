/* SPDX-License-Identifier: MIT
 * tests/unit/wire_icmp_test.c - net/wire/icmp.h: messages of both families, what errors quote, and
 * neighbour discovery.
 */
#include "support/test.h"

#include "net/wire/icmp.h"
#include "net/wire/tcp.h"
#include "net/wire/udp.h"
#include "support/bytes.h"

#define DATA 15U

static const struct ip_address ours = {
	.bytes = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
static const struct ip_address theirs = {
	.bytes = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}};
static const struct ip_address solicited = {
	.bytes = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1}};
static const struct ip_address all_nodes = {
	.bytes = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
static const struct ip_address nobody = {.bytes = {0}};

/* A packet around a message. */
static struct ip_packet packet_of(bool v6, uint32_t length)
{
	struct ip_packet packet = {.length = length,
				   .ttl = 255,
				   .protocol = v6 ? IP_ICMPV6 : IP_ICMP,
				   .from = v6 ? theirs : ip_from_v4(0x0200000a),
				   .to = v6 ? ours : ip_from_v4(0x0100000a)};

	return packet;
}

static enum drop parse(const struct ip_packet *packet, const uint8_t *bytes,
		       struct icmp_header *header)
{
	uint8_t *copy = bytes_copy(bytes, packet->length);
	struct cursor c = cursor_over(copy, packet->length);
	enum drop drop = icmp_parse(&c, packet, header);

	if (!drop)
		assert_ptr_equal(c.at, copy + ICMP_HEADER_BYTES);
	free(copy);
	return drop;
}

/* An echo with DATA bytes; returns its length. */
static uint32_t make_echo(uint8_t *at, bool v6)
{
	struct icmp_header header = {.type = v6 ? ICMPV6_ECHO : ICMP_ECHO, .rest = 0x12345678};

	for (uint32_t i = 0; i < DATA; i++)
		at[ICMP_HEADER_BYTES + i] = (uint8_t)(i * 17);
	icmp_write(at, &header, ICMP_HEADER_BYTES + DATA, v6 ? &theirs : NULL, v6 ? &ours : NULL);
	return ICMP_HEADER_BYTES + DATA;
}

/* RFC 792, RFC 4443 2.3: the checksum, made another way */
static void test_write(void **state)
{
	(void)state;
	for (uint32_t v6 = 0; v6 < 2; v6++) {
		uint8_t bytes[64];
		uint8_t expected[64];
		uint32_t length = make_echo(bytes, v6);
		struct ip_packet packet = packet_of(v6, length);

		memcpy(expected, bytes, length);
		if (v6)
			bytes_transport(&packet, expected, 2);
		else
			bytes_fix(expected, length, 2, 0);
		assert_memory_equal(bytes, expected, length);
		assert_int_equal(bytes[0], v6 ? 128 : 8);
		assert_int_equal(load32(bytes + 4), 0x12345678);
	}
}

static void test_round_trip(void **state)
{
	(void)state;
	for (uint32_t v6 = 0; v6 < 2; v6++) {
		uint8_t bytes[64];
		struct ip_packet packet = packet_of(v6, make_echo(bytes, v6));
		struct icmp_header header;

		assert_int_equal(parse(&packet, bytes, &header), DROP_NONE);
		assert_int_equal(header.type, v6 ? ICMPV6_ECHO : ICMP_ECHO);
		assert_int_equal(header.code, 0);
		assert_int_equal(header.rest, 0x12345678);
	}
}

/* RFC 1122 3.2.2, RFC 4443 2.3: nothing corrupt or cut gets through, whatever the device says */
static void test_corrupt(void **state)
{
	(void)state;
	for (uint32_t v6 = 0; v6 < 2; v6++) {
		uint8_t bytes[64];
		uint32_t length = make_echo(bytes, v6);
		struct ip_packet packet = packet_of(v6, length);
		struct icmp_header header;

		packet.checked = true;
		for (uint32_t bit = 0; bit < length * 8; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
			assert_int_equal(parse(&packet, bytes, &header), DROP_ICMP_BAD);
			bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		for (packet.length = 0; packet.length < length; packet.length++)
			assert_int_equal(parse(&packet, bytes, &header), DROP_ICMP_BAD);
		packet.length = length;
		packet.to.bytes[15] ^= 4;
		assert_int_equal(parse(&packet, bytes, &header), v6 ? DROP_ICMP_BAD : DROP_NONE);
	}
	/* A sum of zeros is 0, which is not 0xffff. */
	static const uint8_t zeros[ICMP_HEADER_BYTES] = {0};
	struct ip_packet packet = packet_of(false, sizeof(zeros));
	struct icmp_header header;
	assert_int_equal(parse(&packet, zeros, &header), DROP_ICMP_BAD);
}

/* ---- quotes ---- */

struct quote_case {
	const char *name;
	bool v6;
	uint8_t offset; /* of what is changed in a packet of TCP with 8 bytes of its header; 255:
			   nothing */
	uint8_t value;
	enum drop drop;
};

static uint32_t make_quote(uint8_t *at, bool v6, uint8_t protocol)
{
	uint32_t header = v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
	struct ip_address from = v6 ? ours : ip_from_v4(0x0100000a);
	struct ip_address to = v6 ? theirs : ip_from_v4(0x0200000a);

	if (v6)
		ipv6_write(at, &from, &to, protocol, 64, 0, 1000, 0);
	else
		ipv4_write(at, &from, &to, protocol, 64, 0, 1000);
	store16(at + header, 1111);
	store16(at + header + 2, 2222);
	store32(at + header + 4, 0xdeadbeef);
	return header + 8;
}

static enum drop parse_quote(const uint8_t *bytes, uint32_t length, bool v6,
			     struct icmp_quote *quote)
{
	uint8_t *copy = bytes_copy(bytes, length);
	struct cursor c = cursor_over(copy, length);
	enum drop drop = icmp_quote_parse(&c, v6, quote);

	free(copy);
	return drop;
}

/* RFC 1122 3.2.2 MUST: the header and 8 octets are there; ports and sequence number from them */
static void test_quotes(void **state)
{
	(void)state;
	static const uint8_t protocols[] = {IP_TCP, IP_UDP, IP_ICMP, IP_ICMPV6, 0, 60};

	for (uint32_t i = 0; i < 2 * ARRAY_LENGTH(protocols); i++) {
		bool v6 = i % 2;
		uint8_t protocol = protocols[i / 2];
		bool ports = protocol == IP_TCP || protocol == IP_UDP;
		uint8_t bytes[64];
		uint32_t length = make_quote(bytes, v6, protocol);
		struct icmp_quote quote;

		for (uint32_t cut = 0; cut < length; cut++)
			assert_int_equal(parse_quote(bytes, cut, v6, &quote), DROP_ICMP_BAD);
		assert_int_equal(parse_quote(bytes, length, v6, &quote), DROP_NONE);
		struct ip_address from = v6 ? ours : ip_from_v4(0x0100000a);
		struct ip_address to = v6 ? theirs : ip_from_v4(0x0200000a);
		assert_true(ip_equal(&quote.from, &from));
		assert_true(ip_equal(&quote.to, &to));
		assert_int_equal(quote.protocol, protocol);
		assert_int_equal(quote.source_port, ports ? 1111 : 0);
		assert_int_equal(quote.destination_port, ports ? 2222 : 0);
		assert_int_equal(quote.seq, protocol == IP_TCP ? 0xdeadbeef : 0);
	}
}

/* Datagrams that were too big even in fragments: the first one has the ports. */
static void test_quotes_of_fragments(void **state)
{
	uint8_t bytes[IPV6_HEADER_BYTES + IPV6_FRAGMENT_BYTES + 8];
	struct icmp_quote quote;

	(void)state;
	(void)make_quote(bytes, true, IP_UDP);
	memmove(bytes + IPV6_HEADER_BYTES + IPV6_FRAGMENT_BYTES, bytes + IPV6_HEADER_BYTES, 8);
	bytes[6] = IP_FRAGMENT;
	ipv6_write_fragment(bytes + IPV6_HEADER_BYTES, IP_UDP, 0, true, 9);
	for (uint32_t cut = 0; cut < sizeof(bytes); cut++)
		assert_int_equal(parse_quote(bytes, cut, true, &quote), DROP_ICMP_BAD);
	assert_int_equal(parse_quote(bytes, sizeof(bytes), true, &quote), DROP_NONE);
	assert_int_equal(quote.protocol, IP_UDP);
	assert_int_equal(quote.source_port, 1111);
	assert_int_equal(quote.destination_port, 2222);
	ipv6_write_fragment(bytes + IPV6_HEADER_BYTES, IP_UDP, 8, true, 9);
	assert_int_equal(parse_quote(bytes, sizeof(bytes), true, &quote), DROP_ICMP_BAD);
	(void)make_quote(bytes, false, IP_UDP);
	ipv4_write_fragment(bytes, IPV4_MORE_FRAGMENTS, 9);
	assert_int_equal(parse_quote(bytes, IPV4_HEADER_BYTES + 8, false, &quote), DROP_NONE);
	assert_int_equal(quote.destination_port, 2222);
}

static void test_quotes_wrong(void **state)
{
	(void)state;
	static const struct quote_case cases[] = {
		{"other version", false, 0, 0x65, DROP_ICMP_BAD},
		{"other version", true, 0, 0x45, DROP_ICMP_BAD},
		{"header of 16", false, 0, 0x44, DROP_ICMP_BAD},
		{"header of 0", false, 0, 0x40, DROP_ICMP_BAD},
		{"header of 60, cut off", false, 0, 0x4f, DROP_ICMP_BAD},
		{"later fragment", false, 7, 1, DROP_ICMP_BAD},
		/* Routers change these. */
		{"checksum", false, 10, 0, DROP_NONE},
		{"total length", false, 2, 0, DROP_NONE},
		{"TTL", false, 8, 0, DROP_NONE},
		{"hop limit", true, 7, 0, DROP_NONE},
	};

	for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		uint8_t bytes[64];
		uint32_t length = make_quote(bytes, cases[i].v6, IP_TCP);
		struct icmp_quote quote;

		bytes[cases[i].offset] = cases[i].value;
		enum drop drop = parse_quote(bytes, length, cases[i].v6, &quote);
		if (drop != cases[i].drop)
			fail_msg("%s: drop %d, not %d", cases[i].name, drop, cases[i].drop);
	}
	/* Options of ours are skipped. */
	uint8_t bytes[64] = {0};
	uint8_t moved[8];
	struct icmp_quote quote;
	(void)make_quote(bytes, false, IP_UDP);
	memcpy(moved, bytes + IPV4_HEADER_BYTES, 8);
	memcpy(bytes + IPV4_HEADER_BYTES + 8, moved, 8);
	bytes[0] = 0x47;
	assert_int_equal(parse_quote(bytes, IPV4_HEADER_BYTES + 16, false, &quote), DROP_NONE);
	assert_int_equal(quote.destination_port, 2222);
}

/* ---- neighbour discovery ---- */

static const uint8_t station[6] = {2, 0, 0, 0, 0, 9};

static enum drop parse_nd(const struct ip_packet *packet, const uint8_t *bytes,
			  struct nd_message *message)
{
	struct icmp_header header;
	uint8_t *copy = bytes_copy(bytes, packet->length);
	struct cursor c = cursor_over(copy, packet->length);
	enum drop drop = icmp_parse(&c, packet, &header);

	if (!drop)
		drop = nd_parse(&c, packet, &header, message);
	free(copy);
	return drop;
}

static struct nd_message message_of(bool has_mac)
{
	struct nd_message message = {.target = ours, .has_mac = has_mac};

	memcpy(message.mac, station, 6);
	return message;
}

/* RFC 4861 4.3, 4.4: target and flags there and back */
static void test_nd_round_trip(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 32; i++) {
		bool advertisement = i & 1;
		uint8_t type = advertisement ? ICMPV6_NEIGHBOR_ADVERTISEMENT
					     : ICMPV6_NEIGHBOR_SOLICITATION;
		struct nd_message message = message_of(i & 2);
		struct nd_message parsed;
		uint8_t bytes[ND_MESSAGE_BYTES];

		message.router = i & 4;
		message.solicited = i & 8;
		message.override = i & 16;
		uint32_t length = nd_write(bytes, type, &message, &theirs, &ours);
		assert_int_equal(length, i & 2 ? 32 : 24);
		struct ip_packet packet = packet_of(true, length);
		assert_int_equal(parse_nd(&packet, bytes, &parsed), DROP_NONE);
		assert_true(ip_equal(&parsed.target, &message.target));
		assert_int_equal(parsed.has_mac, message.has_mac);
		if (parsed.has_mac)
			assert_memory_equal(parsed.mac, station, 6);
		assert_int_equal(parsed.router, advertisement && message.router);
		assert_int_equal(parsed.solicited, advertisement && message.solicited);
		assert_int_equal(parsed.override, advertisement && message.override);
		for (packet.length = 0; packet.length < length; packet.length++)
			assert_int_not_equal(parse_nd(&packet, bytes, &parsed), DROP_NONE);
	}
}

struct nd_case {
	const char *name;
	uint8_t type;
	uint8_t offset; /* of what is changed in a message with its option, 0: nothing */
	uint8_t value;
	uint8_t cut; /* bytes cut off the end */
	uint8_t ttl;
	const struct ip_address *from;
	const struct ip_address *to;
	enum drop drop;
};

#define NS ICMPV6_NEIGHBOR_SOLICITATION
#define NA ICMPV6_NEIGHBOR_ADVERTISEMENT

/* RFC 4861 7.1.1, 7.1.2 MUST: each of these is discarded silently */
static const struct nd_case nd_cases[] = {
	{"good solicitation", NS, 0, 0, 0, 255, &theirs, &solicited, DROP_NONE},
	{"good advertisement", NA, 0, 0, 0, 255, &theirs, &ours, DROP_NONE},
	{"hop limit 254", NS, 0, 0, 0, 254, &theirs, &solicited, DROP_ND_BAD},
	{"hop limit 0", NA, 0, 0, 0, 0, &theirs, &ours, DROP_ND_BAD},
	{"code 1", NS, 1, 1, 0, 255, &theirs, &solicited, DROP_ND_BAD},
	{"code 1", NA, 1, 1, 0, 255, &theirs, &ours, DROP_ND_BAD},
	{"other type", 133, 0, 0, 0, 255, &theirs, &solicited, DROP_ND_BAD},
	{"redirect", 137, 0, 0, 0, 255, &theirs, &ours, DROP_ND_BAD},
	{"target is a group", NS, 8, 0xff, 0, 255, &theirs, &solicited, DROP_ND_BAD},
	{"target is a group", NA, 8, 0xff, 0, 255, &theirs, &ours, DROP_ND_BAD},
	{"23 octets", NS, 0, 0, 9, 255, &theirs, &solicited, DROP_ND_BAD},
	{"24 octets", NS, 0, 0, 8, 255, &theirs, &solicited, DROP_NONE},
	{"25 octets", NS, 0, 0, 7, 255, &theirs, &solicited, DROP_ND_BAD},
	{"option cut off", NA, 0, 0, 1, 255, &theirs, &ours, DROP_ND_BAD},
	{"option of length 0", NS, 25, 0, 0, 255, &theirs, &solicited, DROP_ND_BAD},
	{"option of length 0", NA, 25, 0, 0, 255, &theirs, &ours, DROP_ND_BAD},
	{"option over the end", NA, 25, 2, 0, 255, &theirs, &ours, DROP_ND_BAD},
	{"option of length 255", NS, 25, 255, 0, 255, &theirs, &solicited, DROP_ND_BAD},
	{"unknown option", NA, 24, 77, 0, 255, &theirs, &ours, DROP_NONE},
	{"unknown option of length 0", NA, 25, 0, 0, 255, &theirs, &ours, DROP_ND_BAD},
	{"address is a group's", NS, 26, 0x33, 0, 255, &theirs, &solicited, DROP_ND_BAD},
	{"address is a group's", NA, 26, 0xff, 0, 255, &theirs, &ours, DROP_ND_BAD},
	/* RFC 4862: who asks whether an address is free has none yet */
	{"from nobody with an address", NS, 0, 0, 0, 255, &nobody, &solicited, DROP_ND_BAD},
	{"from nobody to a host", NS, 0, 0, 8, 255, &nobody, &ours, DROP_ND_BAD},
	{"from nobody to all", NS, 0, 0, 8, 255, &nobody, &all_nodes, DROP_ND_BAD},
	{"from nobody to solicited", NS, 0, 0, 8, 255, &nobody, &solicited, DROP_NONE},
	{"solicited, to all", NA, 4, 0x40, 0, 255, &theirs, &all_nodes, DROP_ND_BAD},
	{"unsolicited, to all", NA, 4, 0x20, 0, 255, &theirs, &all_nodes, DROP_NONE},
};

static void test_nd_rules(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(nd_cases); i++) {
		const struct nd_case *test = &nd_cases[i];
		struct nd_message message = message_of(true);
		struct nd_message parsed;
		uint8_t bytes[ND_MESSAGE_BYTES];
		struct ip_packet packet = packet_of(
			true, nd_write(bytes, test->type, &message, test->from, test->to));

		packet.length -= test->cut;
		packet.ttl = test->ttl;
		packet.from = *test->from;
		packet.to = *test->to;
		if (test->offset)
			bytes[test->offset] = test->value;
		bytes_transport(&packet, bytes, 2);
		enum drop drop = parse_nd(&packet, bytes, &parsed);
		if (drop != test->drop)
			fail_msg("%s: drop %d, not %d", test->name, drop, test->drop);
	}
}

/* Options in front of the one that counts; one of a length that no Ethernet address has. */
static void test_nd_options(void **state)
{
	(void)state;
	static const uint8_t nonce[8] = {14, 1, 1, 2, 3, 4, 5, 6};
	uint8_t bytes[ND_MESSAGE_BYTES + 16];
	struct nd_message message = message_of(true);
	struct nd_message parsed;
	struct ip_packet packet = packet_of(true, ND_MESSAGE_BYTES + 8);

	(void)nd_write(bytes, NA, &message, &theirs, &ours);
	memmove(bytes + 32, bytes + 24, 8);
	memcpy(bytes + 24, nonce, 8);
	bytes_transport(&packet, bytes, 2);
	assert_int_equal(parse_nd(&packet, bytes, &parsed), DROP_NONE);
	assert_true(parsed.has_mac);
	assert_memory_equal(parsed.mac, station, 6);

	(void)nd_write(bytes, NA, &message, &theirs, &ours);
	bytes[25] = 2;
	memset(bytes + 32, 0, 8);
	bytes_transport(&packet, bytes, 2);
	assert_int_equal(parse_nd(&packet, bytes, &parsed), DROP_ND_BAD);

	/* A zero address is nobody's; a mapped target is no IPv6. */
	packet.length = ND_MESSAGE_BYTES;
	memset(message.mac, 0, 6);
	(void)nd_write(bytes, NA, &message, &theirs, &ours);
	assert_int_equal(parse_nd(&packet, bytes, &parsed), DROP_ND_BAD);
	message = message_of(true);
	message.target = ip_from_v4(0x0100000a);
	(void)nd_write(bytes, NA, &message, &theirs, &ours);
	assert_int_equal(parse_nd(&packet, bytes, &parsed), DROP_ND_BAD);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_corrupt),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_quotes_of_fragments),
		cmocka_unit_test(test_quotes_wrong),
		cmocka_unit_test(test_nd_round_trip),
		cmocka_unit_test(test_nd_rules),
		cmocka_unit_test(test_nd_options),
	};

	return test_run("wire_icmp", tests);
}
