/* SPDX-License-Identifier: MIT
 * tests/unit/wire_udp_test.c - net/wire/udp.h: headers, lengths and checksums in both families.
 */
#include "support/test.h"

#include "net/wire/udp.h"
#include "support/bytes.h"

#define DATA 13U

static const uint8_t data[DATA] = "thirteen data";

/* A datagram of DATA bytes in a packet that is padding longer. */
struct datagram {
	struct ip_packet packet;
	uint8_t bytes[UDP_HEADER_BYTES + DATA + 8];
};

static void make(struct datagram *d, bool v6, uint32_t padding)
{
	static const struct udp_header header = {
		.source = 0x1234, .destination = 53, .length = UDP_HEADER_BYTES + DATA};

	memset(d, 0, sizeof(*d));
	d->packet.from =
		v6 ? (struct ip_address){.bytes = {0xfe, 0x80, 1, 2, 3}} : ip_from_v4(0x0100000a);
	d->packet.to =
		v6 ? (struct ip_address){.bytes = {0xfe, 0x80, 3, 2, 1}} : ip_from_v4(0x0200000a);
	d->packet.protocol = IP_UDP;
	d->packet.length = header.length;
	udp_write(d->bytes, &header);
	memcpy(d->bytes + UDP_HEADER_BYTES, data, DATA);
	bytes_transport(&d->packet, d->bytes, UDP_CHECKSUM_OFFSET);
	d->packet.length += padding;
}

static enum drop parse(struct datagram *d, struct udp_header *header)
{
	uint8_t *copy = bytes_copy(d->bytes, d->packet.length);
	struct cursor c = cursor_over(copy, d->packet.length);
	enum drop drop = udp_parse(&c, &d->packet, header);

	if (!drop) {
		assert_ptr_equal(c.at, copy + UDP_HEADER_BYTES);
		assert_int_equal(cursor_left(&c), header->length - UDP_HEADER_BYTES);
	}
	free(copy);
	return drop;
}

/* RFC 768: the four fields in network order, the checksum left to the caller */
static void test_write(void **state)
{
	(void)state;
	static const uint8_t expected[UDP_HEADER_BYTES] = {0x12, 0x34, 0, 53, 0x01, 0x02, 0, 0};
	static const struct udp_header header = {
		.source = 0x1234, .destination = 53, .length = 0x102};
	uint8_t bytes[UDP_HEADER_BYTES];

	memset(bytes, 0xff, sizeof(bytes));
	udp_write(bytes, &header);
	assert_memory_equal(bytes, expected, sizeof(bytes));
}

static void test_round_trip(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		struct datagram d;
		struct udp_header header;

		/* RFC 768: the length is the datagram's, the packet may be longer */
		make(&d, i % 2, i / 2 * 8);
		assert_int_equal(parse(&d, &header), DROP_NONE);
		assert_int_equal(header.source, 0x1234);
		assert_int_equal(header.destination, 53);
		assert_int_equal(header.length, UDP_HEADER_BYTES + DATA);
	}
}

static void test_every_bit(void **state)
{
	(void)state;
	for (uint32_t v6 = 0; v6 < 2; v6++) {
		struct datagram d;
		struct udp_header header;

		make(&d, v6, 0);
		for (uint32_t bit = 0; bit < (UDP_HEADER_BYTES + DATA) * 8; bit++) {
			d.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
			assert_int_not_equal(parse(&d, &header), DROP_NONE);
			d.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		assert_int_equal(parse(&d, &header), DROP_NONE);
		d.packet.from.bytes[15] ^= 1;
		assert_int_equal(parse(&d, &header), DROP_UDP_CHECKSUM);
		d.packet.from.bytes[15] ^= 1;
		d.packet.to.bytes[12] ^= 0x80;
		assert_int_equal(parse(&d, &header), DROP_UDP_CHECKSUM);
		/* What the device checked is believed. */
		d.packet.checked = true;
		assert_int_equal(parse(&d, &header), DROP_NONE);
	}
}

static void test_truncated(void **state)
{
	(void)state;
	struct datagram d;
	struct udp_header header;

	make(&d, false, 0);
	for (uint32_t length = 0; length < UDP_HEADER_BYTES + DATA; length++) {
		d.packet.length = length;
		assert_int_equal(parse(&d, &header), DROP_UDP_BAD);
	}
}

static void test_length(void **state)
{
	(void)state;

	static const struct {
		uint16_t length;
		enum drop drop;
	} cases[] = {
		{0, DROP_UDP_BAD},
		{7, DROP_UDP_BAD},
		{8, DROP_NONE},
		{UDP_HEADER_BYTES + DATA, DROP_NONE},
		{UDP_HEADER_BYTES + DATA + 1, DROP_UDP_BAD},
		{0xffff, DROP_UDP_BAD},
	};

	for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct datagram d;
		struct udp_header header;

		make(&d, false, 0);
		store16(d.bytes + 4, cases[i].length);
		d.packet.checked = true;
		assert_int_equal(parse(&d, &header), cases[i].drop);
	}
}

/* RFC 1122 4.1.3.4: no checksum is good in IPv4; RFC 8200 8.1 MUST: in IPv6 it is not, whatever the
 * device says */
static void test_no_checksum(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		struct datagram d;
		struct udp_header header;

		make(&d, i % 2, 0);
		d.packet.checked = i / 2;
		store16(d.bytes + UDP_CHECKSUM_OFFSET, 0);
		assert_int_equal(parse(&d, &header), i % 2 ? DROP_UDP_CHECKSUM : DROP_NONE);
	}
}

/* RFC 768: a checksum that comes out as 0 is sent as 0xffff, and is checked like any */
static void test_all_ones(void **state)
{
	(void)state;
	struct datagram d;
	struct udp_header header;

	for (uint32_t v6 = 0; v6 < 2; v6++) {
		make(&d, v6, 0);
		/* The source port takes up what the checksum was. */
		uint16_t checksum = load16(d.bytes + UDP_CHECKSUM_OFFSET);
		store16(d.bytes, bytes_fold((uint64_t)0x1234 + checksum));
		bytes_transport(&d.packet, d.bytes, UDP_CHECKSUM_OFFSET);
		assert_int_equal(load16(d.bytes + UDP_CHECKSUM_OFFSET), 0);
		store16(d.bytes + UDP_CHECKSUM_OFFSET, 0xffff);
		assert_int_equal(parse(&d, &header), DROP_NONE);
		d.bytes[UDP_HEADER_BYTES] ^= 1;
		assert_int_equal(parse(&d, &header), DROP_UDP_CHECKSUM);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write),     cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_every_bit), cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_length),    cmocka_unit_test(test_no_checksum),
		cmocka_unit_test(test_all_ones),
	};

	return test_run("wire_udp", tests);
}
