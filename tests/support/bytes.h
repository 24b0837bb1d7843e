/* tests/support/bytes.h: bytes of packets for tests of parsers: memory that ends where the packet
 * does, and checksums made without the code under test.
 */
#pragma once

#include "net/wire/ip.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* bytes_copy: the bytes in an allocation of exactly their size, for free */
static inline uint8_t *bytes_copy(const void *bytes, uint32_t length)
{
	uint8_t *copy = malloc(length ? length : 1);

	if (!copy)
		abort();
	memcpy(copy, bytes, length);
	return copy;
}

/* bytes_sum: the sum of big-endian 16-bit words, as RFC 1071 has it, slowly */
static inline uint64_t bytes_sum(const uint8_t *at, uint32_t length)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < length; i++)
		sum += i % 2 ? at[i] : (uint64_t)at[i] << 8;
	return sum;
}

static inline uint16_t bytes_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* bytes_pseudo: the sum of a pseudo header */
static inline uint64_t bytes_pseudo(const struct ip_address *from, const struct ip_address *to,
				    uint8_t protocol, uint32_t length)
{
	uint32_t skip = ip_is_v4(from) ? 12 : 0;

	return bytes_sum(from->bytes + skip, 16 - skip) + bytes_sum(to->bytes + skip, 16 - skip) +
	       protocol + (length >> 16) + (length & 0xffff);
}

/* bytes_fix: stores the checksum at offset of a message whose other words, with those of a pseudo
 * header, have the sum more */
static inline void bytes_fix(uint8_t *at, uint32_t length, uint32_t offset, uint64_t more)
{
	at[offset] = 0;
	at[offset + 1] = 0;
	uint16_t checksum = (uint16_t)~bytes_fold(bytes_sum(at, length) + more);
	at[offset] = (uint8_t)(checksum >> 8);
	at[offset + 1] = (uint8_t)checksum;
}

/* bytes_transport: the checksum of a transport header at its packet's payload */
static inline void bytes_transport(const struct ip_packet *packet, uint8_t *payload,
				   uint32_t offset)
{
	bytes_fix(payload, packet->length, offset,
		  bytes_pseudo(&packet->from, &packet->to, packet->protocol, packet->length));
}
