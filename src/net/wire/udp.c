/* SPDX-License-Identifier: MIT
 * net/wire/udp.c - UDP input (RFC 768, RFC 1122 4.1.3, RFC 8200 8.1).
 */
#include "net/wire/udp.h"

#include "net/wire/checksum.h"

enum drop udp_parse(struct cursor *c, const struct ip_packet *packet, struct udp_header *header)
{
	const uint8_t *at = c->at;
	uint32_t left = cursor_left(c);

	if (unlikely(left < UDP_HEADER_BYTES))
		return DROP_UDP_BAD;
	header->source = load16(at);
	header->destination = load16(at + 2);
	header->length = load16(at + 4);
	if (unlikely(header->length < UDP_HEADER_BYTES || header->length > left))
		return DROP_UDP_BAD;
	if (load16(at + UDP_CHECKSUM_OFFSET) == 0) {
		/* RFC 1122 4.1.3.4: without a checksum is good in IPv4; RFC 8200 8.1 MUST: in
		 * IPv6 it is not.  A device's word changes nothing about that. */
		if (!ip_is_v4(&packet->from))
			return DROP_UDP_CHECKSUM;
	} else if (!packet->checked) {
		uint64_t sum = checksum_pseudo(&packet->from, &packet->to, IP_UDP, header->length);

		if (unlikely(!checksum_good(sum + checksum_partial(at, header->length))))
			return DROP_UDP_CHECKSUM;
	}
	c->at = at + UDP_HEADER_BYTES;
	c->end = at + header->length;
	return DROP_NONE;
}
