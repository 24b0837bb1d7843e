/* SPDX-License-Identifier: MIT
 * tests/unit/wire_ether_test.c - net/wire/ether.h: headers and ARP, whole, short and wrong.
 */
#include "support/test.h"

#include "net/wire/ether.h"
#include "support/bytes.h"

static const uint8_t station[6] = {0x02, 0, 0, 0, 0, 0x0a};
static const uint8_t other[6] = {0x02, 0, 0, 0, 0, 0x0b};

static void test_header(void **state)
{
	(void)state;
	static const uint16_t types[] = {ETHER_IPV4, ETHER_ARP, ETHER_IPV6, 0x8100, 46, 0, 0xffff};

	for (uint32_t i = 0; i < ARRAY_LENGTH(types); i++) {
		uint8_t bytes[ETHER_HEADER_BYTES + 1];
		struct ether_header header;

		ether_write(bytes, station, other, types[i]);
		struct cursor c = cursor_over(bytes, sizeof(bytes));
		assert_int_equal(ether_parse(&c, &header), DROP_NONE);
		assert_memory_equal(header.to, station, 6);
		assert_memory_equal(header.from, other, 6);
		assert_int_equal(header.type, types[i]);
		assert_int_equal(cursor_left(&c), 1);
		assert_ptr_equal(c.at, bytes + ETHER_HEADER_BYTES);
	}
}

/* RFC 894: type in network order, behind both addresses */
static void test_header_bytes(void **state)
{
	(void)state;
	static const uint8_t expected[] = {2, 0, 0, 0, 0, 10, 2, 0, 0, 0, 0, 11, 0x86, 0xdd};
	uint8_t bytes[ETHER_HEADER_BYTES];

	ether_write(bytes, station, other, ETHER_IPV6);
	assert_memory_equal(bytes, expected, sizeof(expected));
}

static void test_header_short(void **state)
{
	(void)state;
	uint8_t bytes[ETHER_HEADER_BYTES] = {0};

	for (uint32_t length = 0; length < sizeof(bytes); length++) {
		uint8_t *copy = bytes_copy(bytes, length);
		struct cursor c = cursor_over(copy, length);
		struct ether_header header;

		assert_int_equal(ether_parse(&c, &header), DROP_ETHER_SHORT);
		free(copy);
	}
}

static void test_addresses(void **state)
{
	(void)state;
	static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t group[6] = {0x33, 0x33, 0, 0, 0, 1};
	static const uint8_t none[6] = {0};

	assert_true(ether_is_multicast(all));
	assert_true(ether_is_multicast(group));
	assert_false(ether_is_multicast(station));
	assert_false(ether_is_multicast(none));
	assert_false(ether_is_station(all));
	assert_false(ether_is_station(group));
	assert_true(ether_is_station(station));
	assert_false(ether_is_station(none));
}

static void make_arp(struct arp *arp, uint16_t operation)
{
	memset(arp, 0, sizeof(*arp));
	arp->operation = operation;
	memcpy(arp->sender_mac, station, 6);
	memcpy(arp->target_mac, other, 6);
	arp->sender = __builtin_bswap32(0x0a000001);
	arp->target = __builtin_bswap32(0x0a000002);
}

/* RFC 826: the packet as it stands on an Ethernet */
static const uint8_t arp_bytes[ARP_BYTES] = {0,  1, 8, 0, 6, 4, 0, 1, 2, 0,  0,  0, 0, 10,
					     10, 0, 0, 1, 2, 0, 0, 0, 0, 11, 10, 0, 0, 2};

static void test_arp_round_trip(void **state)
{
	(void)state;
	for (uint16_t operation = ARP_REQUEST; operation <= ARP_REPLY; operation++) {
		struct arp arp;
		struct arp parsed;
		uint8_t bytes[ARP_BYTES + 18];

		memset(bytes, 0xee, sizeof(bytes));
		make_arp(&arp, operation);
		arp_write(bytes, &arp);
		if (operation == ARP_REQUEST)
			assert_memory_equal(bytes, arp_bytes, ARP_BYTES);
		/* With the padding of a short frame. */
		struct cursor c = cursor_over(bytes, sizeof(bytes));
		memset(&parsed, 0, sizeof(parsed));
		assert_int_equal(arp_parse(&c, &parsed), DROP_NONE);
		assert_int_equal(parsed.operation, operation);
		assert_memory_equal(&parsed, &arp, sizeof(arp));
	}
}

static void test_arp_short(void **state)
{
	(void)state;
	for (uint32_t length = 0; length <= ARP_BYTES; length++) {
		uint8_t *copy = bytes_copy(arp_bytes, length);
		struct cursor c = cursor_over(copy, length);
		struct arp arp;

		assert_int_equal(arp_parse(&c, &arp),
				 length == ARP_BYTES ? DROP_NONE : DROP_ARP_BAD);
		free(copy);
	}
}

static void test_arp_wrong(void **state)
{
	(void)state;

	static const struct {
		uint8_t offset;
		uint8_t value;
	} wrong[] = {
		{1, 6},                       /* IEEE 802 hardware */
		{0, 1},    {2, 0x86}, {3, 1}, /* protocols */
		{4, 8},    {4, 0},    {5, 16}, {5, 0}, {7, 0}, {7, 3}, {6, 1}, /* operations */
		{8, 3}, /* RFC 1812 3.3.2 MUST: a sender that is a group is not believed */
		{8, 0xff},
	};

	for (uint32_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
		uint8_t bytes[ARP_BYTES];
		struct arp arp;

		memcpy(bytes, arp_bytes, sizeof(bytes));
		bytes[wrong[i].offset] = wrong[i].value;
		struct cursor c = cursor_over(bytes, sizeof(bytes));
		assert_int_equal(arp_parse(&c, &arp), DROP_ARP_BAD);
	}
	uint8_t nobody[ARP_BYTES];
	struct arp arp;
	memcpy(nobody, arp_bytes, sizeof(nobody));
	memset(nobody + 8, 0, 6);
	struct cursor c = cursor_over(nobody, sizeof(nobody));
	assert_int_equal(arp_parse(&c, &arp), DROP_ARP_BAD);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),         cmocka_unit_test(test_header_bytes),
		cmocka_unit_test(test_header_short),   cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_arp_round_trip), cmocka_unit_test(test_arp_short),
		cmocka_unit_test(test_arp_wrong),
	};

	return test_run("wire_ether", tests);
}
