/* SPDX-License-Identifier: MIT
 * net/wire/udp.h - UDP (RFC 768, RFC 8200 8.1).
 */
#pragma once

#include "base/counters.h"
#include "net/wire/cursor.h"
#include "net/wire/ip.h"

#include <stdint.h>

#define UDP_HEADER_BYTES    8
#define UDP_CHECKSUM_OFFSET 6

struct udp_header {
	uint16_t source;
	uint16_t destination;
	uint16_t length; /* header and data; the packet may be longer */
};

/* The cursor stands at the packet's payload.  Verifies length and checksum (unless packet->checked;
 * a zero checksum is good in IPv4, not in IPv6).  The cursor then stands at the data and ends with
 * it. */
enum drop udp_parse(struct cursor *c, const struct ip_packet *packet, struct udp_header *header);

/* Writes UDP_HEADER_BYTES, checksum 0: the caller stores it at offset UDP_CHECKSUM_OFFSET (a
 * computed 0 as 0xffff). */
static inline void udp_write(uint8_t *at, const struct udp_header *header)
{
	store16(at, header->source);
	store16(at + 2, header->destination);
	store16(at + 4, header->length);
	store16(at + UDP_CHECKSUM_OFFSET, 0);
}
