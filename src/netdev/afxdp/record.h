/* SPDX-License-Identifier: MIT
 * netdev/afxdp/record.h - the record of base/cbpf.h, made of a frame, for the filter of a port.
 *
 * One text for two, as spread/decide.h: the XDP program, and tests in user space.
 *
 * Only what is judged for certain is: a whole UDP datagram to one station, behind an Ethernet
 * header with at most one tag, and an IP header without extensions (IPv6).  All else goes up, where
 * the filter runs again on what the stack makes of it.  A datagram that the stack would drop
 * (checksum, hop limit, a virtual LAN that is not ours) may be judged: it reaches nobody either
 * way.
 */
#pragma once

#include "base/cbpf.h"
#include "netdev/spread/decide.h"

#define FILTERS_MAX 64 /* of an interface */

struct filter_record {
	struct cbpf_head head;
	uint32_t length;  /* of the payload */
	uint32_t payload; /* where it stands in the frame */
	uint32_t slot;
	uint32_t key; /* filter_key */
};

/* A port of the instance that has a slot. */
STEER_INLINE uint32_t filter_key(uint32_t slot, uint32_t port)
{
	return slot << 16 | port;
}

STEER_INLINE bool filter_is_mapped(const struct steer_key *address)
{
	return address->pair[0] == 0 &&
	       (uint32_t)address->pair[1] == __builtin_bswap32(0x0000ffffU);
}

/* header: 20 bytes.  *room: bytes behind it. */
STEER_INLINE bool filter_v4(struct steer_packet *packet, const uint8_t *header, uint64_t offset,
			    uint32_t *room)
{
	uint32_t length = (header[0] & 15U) * 4;
	uint32_t total = steer_get16(header + 2);

	*room = total - length;
	return steer_parse_v4(packet, header, offset) && header[16] < 224 && total >= length;
}

/* header: 40 bytes.  Addresses of IPv4 that came by IPv6 are dropped above. */
STEER_INLINE bool filter_v6(struct steer_packet *packet, const uint8_t *header, uint64_t offset,
			    uint32_t *room)
{
	*room = steer_get16(header + 4);
	return steer_parse_v6(packet, header, offset) && header[24] != 0xff &&
	       !filter_is_mapped(&packet->source) && !filter_is_mapped(&packet->destination);
}

/* The UDP header, with room bytes from there on in the packet. */
STEER_INLINE bool filter_udp(struct filter_record *record, const struct steer_packet *packet,
			     const struct steer_bytes *bytes, uint32_t room)
{
	uint16_t header[4] STEER_ALIGNED;

	if (packet->protocol != STEER_UDP ||
	    !steer_load(bytes, packet->transport, header, sizeof(header)))
		return false;
	uint32_t length = __builtin_bswap16(header[2]);
	if (length < sizeof(header) || length > room)
		return false;
	length -= (uint32_t)sizeof(header);
	record->head.len = __builtin_bswap32(length);
	record->head.port = header[0];
	record->head.local_port = header[1];
	record->head.version = packet->v6 ? 6 : 4;
	record->head.address[0] = packet->source.pair[0];
	record->head.address[1] = packet->source.pair[1];
	record->head.local_address[0] = packet->destination.pair[0];
	record->head.local_address[1] = packet->destination.pair[1];
	record->length = length;
	record->payload = (uint32_t)packet->transport + (uint32_t)sizeof(header);
	return true;
}

/* By the EtherType before a constant offset. */
STEER_INLINE bool filter_network(struct filter_record *record, const struct steer_bytes *bytes,
				 uint32_t offset)
{
	const uint8_t *at = bytes->at + offset;
	struct steer_packet packet;
	uint32_t room = 0;

	if (at + 20 > bytes->end)
		return false;
	uint16_t type = steer_get16(at - 2);
	if (type == STEER_TYPE_V4)
		return filter_v4(&packet, at, offset, &room) &&
		       filter_udp(record, &packet, bytes, room);
	if (type != STEER_TYPE_V6 || at + 40 > bytes->end)
		return false;
	return filter_v6(&packet, at, offset, &room) && filter_udp(record, &packet, bytes, room);
}

/* False: the frame is not to be judged. */
STEER_INLINE bool filter_parse(struct filter_record *record, const struct steer_bytes *bytes)
{
	const uint8_t *at = bytes->at;

	if (at + 18 > bytes->end || (at[0] & 1))
		return false;
	uint16_t type = steer_get16(at + 12);

	if (type != STEER_TYPE_TAG && type != STEER_TYPE_SERVICE)
		return filter_network(record, bytes, 14);
	return filter_network(record, bytes, 18);
}
