/* SPDX-License-Identifier: MIT
 * tests/unit/wire_group_test.c - IGMP and MLD byte by byte: what is written, what is read, and that
 * nothing corrupt or cut gets through.
 */
#include "support/test.h"

#include "net/wire/checksum.h"
#include "net/wire/group.h"
#include "support/bytes.h"

#include <string.h>

static const struct ip_address host4 = {.bytes = {[10] = 0xff, 0xff, 10, 0, 0, 2}};
static const struct ip_address all4 = {.bytes = {[10] = 0xff, 0xff, 224, 0, 0, 1}};
static const struct ip_address group4 = {.bytes = {[10] = 0xff, 0xff, 239, 1, 2, 3}};
static const struct ip_address host6 = {.bytes = {0xfe, 0x80, [15] = 2}};
static const struct ip_address all6 = {.bytes = {0xff, 2, [15] = 1}};
static const struct ip_address group6 = {.bytes = {0xff, 0x15, [15] = 7}};

static const uint8_t header_v4[24] = {0x46, [20] = 148, 4, 0, 0};
static const uint8_t header_v6[48] = {0x60, [40] = 58, 0, 5, 2, 0, 0, 1, 0};

static struct ip_packet packet_of(bool v4)
{
	return (struct ip_packet){
		.from = v4 ? host4 : host6,
		.to = v4 ? all4 : all6,
		.header = v4 ? header_v4 : header_v6,
		.header_bytes = v4 ? sizeof(header_v4) : sizeof(header_v6),
		.ttl = 1,
		.protocol = v4 ? IP_IGMP : IP_ICMPV6,
	};
}

/* As the stack does, which has ICMPv6's checksum verified first. */
static enum drop parse(struct ip_packet *packet, const uint8_t *bytes, uint32_t length,
		       struct group_message *message)
{
	struct cursor c = cursor_over(bytes, length);
	struct icmp_header header;

	packet->payload = bytes;
	packet->length = length;
	if (packet->protocol == IP_IGMP)
		return group_parse_v4(&c, packet, message);
	if (icmp_parse(&c, packet, &header))
		return DROP_GROUP_BAD;
	return group_parse_v6(&c, packet, &header, message);
}

static void fix(bool v4, uint8_t *bytes, uint32_t length)
{
	uint64_t sum;

	memset(bytes + 2, 0, 2);
	sum = checksum_partial(bytes, length);
	if (!v4)
		sum += checksum_pseudo(&host6, &all6, IP_ICMPV6, length);
	uint16_t checksum = checksum_finish(sum);
	memcpy(bytes + 2, &checksum, 2);
}

/* A query of version 3 about a group and two sources; returns its length. */
static uint32_t make_query(bool v4, uint8_t bytes[64])
{
	uint32_t address = group_address_bytes(v4);
	uint32_t at = v4 ? 8 : 24;

	memset(bytes, 0, 64);
	bytes[0] = v4 ? 0x11 : 130;
	if (v4)
		bytes[1] = 0x9f; /* (15 | 16) << 4 tenths */
	else
		store16(bytes + 4, 0x9fff); /* 8191 << 4 ms */
	memcpy(bytes + at - address, (v4 ? group4 : group6).bytes + 16 - address, address);
	bytes[at] = 0xfd;     /* flags and robustness 5 */
	bytes[at + 1] = 0xff; /* (15 | 16) << 10 s */
	bytes[at + 3] = 2;
	memset(bytes + at + 4, 0x22, 2UL * address);
	fix(v4, bytes, at + 4 + 2 * address);
	return at + 4 + 2 * address;
}

/* RFC 3376 4.1, RFC 3810 5.1 */
static void test_query(void **state)
{
	(void)state;
	for (uint32_t v4 = 0; v4 < 2; v4++) {
		uint8_t bytes[64];
		uint32_t length = make_query(v4, bytes);
		struct ip_packet packet = packet_of(v4);
		struct group_message message;

		assert_int_equal(parse(&packet, bytes, length, &message), DROP_NONE);
		assert_true(message.query);
		assert_int_equal(message.version, GROUP_V3);
		assert_true(ip_equal(&message.group, v4 ? &group4 : &group6));
		assert_int_equal(message.max_response_ms, v4 ? 49600 : 8191 << 4);
		assert_int_equal(message.robustness, 5);
		assert_int_equal(message.interval_s, 31 << 10);
		assert_int_equal(message.num_sources, 2);
		assert_ptr_equal(message.sources, bytes + (v4 ? 12 : 28));
	}
}

/* Every bit, every length: dropped, or of another version by its length (RFC 3376 7.1). */
static void test_corrupt(void **state)
{
	(void)state;
	for (uint32_t v4 = 0; v4 < 2; v4++) {
		uint8_t bytes[64];
		uint32_t length = make_query(v4, bytes);
		struct ip_packet packet = packet_of(v4);
		struct group_message message;

		for (uint32_t bit = 0; bit < length * 8; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
			assert_int_equal(parse(&packet, bytes, length, &message), DROP_GROUP_BAD);
			bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		for (uint32_t cut = 0; cut < length; cut++) {
			uint8_t copy[64];
			memcpy(copy, bytes, sizeof(copy));
			fix(v4, copy, cut < 4 ? 4 : cut);
			enum drop drop = parse(&packet, copy, cut, &message);
			if (cut == (v4 ? 8U : 24U))
				assert_int_equal(message.version, GROUP_V2);
			else
				assert_int_equal(drop, DROP_GROUP_BAD);
		}
		/* more than the sources is ignored (RFC 3376 4.1.10) */
		fix(v4, bytes, length + 1);
		assert_int_equal(parse(&packet, bytes, length + 1, &message), DROP_NONE);
	}
}

/* The router alert among other options; none, where it is not. */
static void test_alert(void **state)
{
	static const struct {
		bool v4;
		uint8_t bytes[8];
		enum drop drop;
	} rows[] = {
		{true, {1, 1, 1, 148, 4, 0, 0, 0}, DROP_NONE},
		{true, {7, 3, 4, 148, 4, 0, 0, 0}, DROP_NONE},
		{true, {0, 148, 4, 0, 0, 0, 0, 0}, DROP_GROUP_BAD},
		{true, {7, 8, 148, 4, 0, 0, 0, 0}, DROP_GROUP_BAD},
		{true, {1, 1, 1, 1, 1, 1, 1, 1}, DROP_GROUP_BAD},
		{false, {58, 0, 0, 0, 5, 2, 0, 0}, DROP_NONE},
		{false, {58, 0, 1, 0, 5, 2, 0, 0}, DROP_NONE},
		{false, {58, 0, 5, 2, 0, 1, 0, 0}, DROP_GROUP_BAD}, /* RSVP's */
		{false, {58, 0, 5, 1, 0, 1, 1, 0}, DROP_GROUP_BAD},
		{false, {58, 0, 1, 4, 5, 2, 0, 0}, DROP_GROUP_BAD},
	};
	struct group_message message;
	uint8_t header[48];
	uint8_t bytes[64];

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		struct ip_packet packet = packet_of(rows[i].v4);
		uint32_t length = make_query(rows[i].v4, bytes);
		uint32_t base = rows[i].v4 ? 20 : 40;
		memset(header, 0, sizeof(header));
		memcpy(header + base, rows[i].bytes, 8);
		packet.header = header;
		packet.header_bytes = base + 8;
		assert_int_equal(parse(&packet, bytes, length, &message), rows[i].drop);
		packet.header_bytes = base; /* no options at all */
		assert_int_equal(parse(&packet, bytes, length, &message), DROP_GROUP_BAD);
	}
}

static void test_types(void **state)
{
	(void)state;
	for (uint32_t type = 0; type < 256; type++)
		assert_int_equal(group_is_mld((uint8_t)type),
				 (type >= 130 && type <= 132) || type == 143);
	for (uint32_t type = 0; type < 256; type++) {
		struct ip_packet packet = packet_of(true);
		struct group_message message;
		uint8_t bytes[64];
		uint32_t length = make_query(true, bytes);

		bytes[0] = (uint8_t)type;
		fix(true, bytes, length);
		enum drop drop = parse(&packet, bytes, length, &message);
		if (type == 0x11)
			assert_int_equal(drop, DROP_NONE);
		else if (type == 0x12 || type == 0x16) /* not to the group that it is about */
			assert_int_equal(drop, DROP_GROUP_BAD);
		else
			assert_int_equal(drop, DROP_GROUP_TYPE);
	}
}

/* Reports and leaves, as written in the RFCs. */
static void test_write(void **state)
{
	static const uint8_t v2[8] = {0x16, 0, 0xf8, 0xfa, 239, 1, 2, 3};
	static const uint8_t v1[8] = {0x12, 0, 0xfc, 0xfa, 239, 1, 2, 3};
	static const uint8_t leave[8] = {0x17, 0, 0xf7, 0xfa, 239, 1, 2, 3};
	static const uint8_t record[12] = {1, 0, 0, 1, 239, 1, 2, 3, 10, 0, 0, 2};
	uint8_t bytes[64];

	(void)state;
	assert_int_equal(group_write_old(bytes, GROUP_V2, false, &group4, &host4, &group4), 8);
	assert_memory_equal(bytes, v2, 8);
	assert_int_equal(group_write_old(bytes, GROUP_V1, false, &group4, &host4, &group4), 8);
	assert_memory_equal(bytes, v1, 8);
	assert_int_equal(group_write_old(bytes, GROUP_V2, true, &group4, &host4, &all4), 8);
	assert_memory_equal(bytes, leave, 8);
	assert_int_equal(group_write_old(bytes, GROUP_V2, true, &group6, &host6, &all6), 24);
	assert_int_equal(bytes[0], 132);
	assert_memory_equal(bytes + 8, group6.bytes, 16);
	assert_true(checksum_good(checksum_partial(bytes, 24) +
				  checksum_pseudo(&host6, &all6, IP_ICMPV6, 24)));
	assert_int_equal(group_record_bytes(true, 1), 12);
	assert_int_equal(group_record_bytes(false, 2), 52);
	group_write_record(bytes, GROUP_IS_INCLUDE, &group4, &host4, 1);
	assert_memory_equal(bytes, record, 12);
}

/* RFC 1112 6.4, RFC 2464 7 */
static void test_mac(void **state)
{
	const struct ip_address high = ip_from_v4(__builtin_bswap32(0xefff0102));
	const struct ip_address everybody = ip_from_v4(0xffffffff);
	const struct ip_address v6 = {.bytes = {0xff, 2, [12] = 0xff, 1, 2, 3}};
	uint8_t mac[6];

	(void)state;
	group_mac(&high, mac);
	assert_memory_equal(mac, ((uint8_t[]){1, 0, 0x5e, 0x7f, 1, 2}), 6);
	group_mac(&v6, mac);
	assert_memory_equal(mac, ((uint8_t[]){0x33, 0x33, 0xff, 1, 2, 3}), 6);
	group_mac(&everybody, mac);
	assert_memory_equal(mac, ((uint8_t[]){255, 255, 255, 255, 255, 255}), 6);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query), cmocka_unit_test(test_corrupt),
		cmocka_unit_test(test_alert), cmocka_unit_test(test_types),
		cmocka_unit_test(test_write), cmocka_unit_test(test_mac),
	};

	return test_run("wire_group", tests);
}
