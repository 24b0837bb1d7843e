/* SPDX-License-Identifier: MIT
 * tests/sim/segment.c - see segment.h. */
#include "sim/segment.h"

#include "net/wire/ether.h"
#include "net/wire/ip.h"
#include "support/test.h"

#include <string.h>

static struct ip_address address_of(uint32_t index)
{
	return ip_from_v4(__builtin_bswap32(0x0a000001 + index));
}

uint32_t segment_write(const struct segment *segment, uint8_t *frame)
{
	const struct ip_address from = address_of(segment->from);
	const struct ip_address to = address_of(segment->to);
	uint8_t *ip = frame + ETHER_HEADER_BYTES;
	uint8_t *at = ip + IPV4_HEADER_BYTES;

	uint32_t bytes = tcp_write(at, &segment->header);
	if (segment->option_bytes) {
		memcpy(at + TCP_HEADER_BYTES, segment->options, segment->option_bytes);
		bytes = TCP_HEADER_BYTES + segment->option_bytes;
		at[12] = (uint8_t)(bytes / 4 << 4);
	}
	store16(at + 18, segment->urgent);
	assert_true(ETHER_HEADER_BYTES + IPV4_HEADER_BYTES + bytes + segment->length <=
		    SEGMENT_BYTES);
	if (segment->length)
		memcpy(at + bytes, segment->data, segment->length);
	uint32_t total = bytes + segment->length;
	uint64_t sum = checksum_pseudo(&from, &to, IP_TCP, total) + checksum_partial(at, total);
	uint16_t checksum = checksum_finish(sum);
	memcpy(at + TCP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
	if (segment->bad_checksum)
		at[TCP_CHECKSUM_OFFSET] ^= 1;
	ether_write(frame, segment->to_mac, segment->from_mac, ETHER_IPV4);
	ipv4_write(ip, &from, &to, IP_TCP, 64, 0, total);
	return ETHER_HEADER_BYTES + IPV4_HEADER_BYTES + total;
}

bool segment_read(const uint8_t *frame, uint32_t length, struct segment *segment)
{
	struct cursor c = cursor_over(frame, length);
	struct ether_header ether = {0};
	struct ip_packet packet = {0};

	memset(segment, 0, sizeof(*segment));
	assert_int_equal(ether_parse(&c, &ether), DROP_NONE);
	if (ether.type != ETHER_IPV4)
		return false;
	assert_int_equal(ipv4_parse(&c, &packet), DROP_NONE);
	if (packet.protocol != IP_TCP)
		return false;
	segment->urgent = load16(c.at + 18);
	assert_int_equal(tcp_parse(&c, &packet, &segment->header), DROP_NONE);
	segment->from = packet.from.bytes[15] - 1U;
	segment->to = packet.to.bytes[15] - 1U;
	segment->data = c.at;
	segment->length = cursor_left(&c);
	return true;
}
