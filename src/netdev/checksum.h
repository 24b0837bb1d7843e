/* SPDX-License-Identifier: MIT
 * netdev/checksum.h - the transport checksum as a device computes it, for devices that are
 * themselves software: written apart from the stack's own, short rather than fast.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Sum of 16-bit words in network order, an odd last byte padded with zero (RFC 1071). */
static inline uint32_t netdev_sum(const uint8_t *bytes, uint32_t length, uint32_t sum)
{
	for (uint32_t i = 0; i + 1 < length; i += 2) {
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
		sum = (sum & 0xffff) + (sum >> 16);
	}
	if (length % 2 != 0)
		sum += (uint32_t)bytes[length - 1] << 8;
	return (sum & 0xffff) + (sum >> 16);
}

/* Completes the checksum of a whole frame whose field holds the sum of the pseudo header:
 * transport is where the transport header begins, field the checksum's place in it. */
static inline void netdev_complete_checksum(uint8_t *frame, uint32_t length, uint32_t transport,
					    uint32_t field)
{
	uint32_t sum = ~netdev_sum(frame + transport, length - transport, 0) & 0xffff;

	/* RFC 768: a UDP checksum of zero is sent as ones, the same number in one's complement */
	if (sum == 0)
		sum = 0xffff;
	frame[transport + field] = (uint8_t)(sum >> 8);
	frame[transport + field + 1] = (uint8_t)sum;
}

/* Where the transport header of a TCP or UDP packet in an Ethernet frame stands, and what of the
 * frame is packet; no fragments, no IPv6 extension headers. */
struct netdev_transport {
	uint32_t at;
	uint32_t length; /* of header and payload */
	uint8_t protocol;
	uint32_t pseudo; /* sum of the pseudo header */
};

static inline bool netdev_find_ipv4(const uint8_t *ip, uint32_t length, struct netdev_transport *t)
{
	if (length < 20 || ip[0] >> 4 != 4)
		return false;
	uint32_t header = (uint32_t)(ip[0] & 15) * 4;
	uint32_t total = (uint32_t)ip[2] << 8 | ip[3];
	bool fragment = (ip[6] & 0x3f) != 0 || ip[7] != 0;
	if (header < 20 || total < header || total > length || fragment)
		return false;
	t->at = header;
	t->length = total - header;
	t->protocol = ip[9];
	t->pseudo = netdev_sum(ip + 12, 8, t->protocol + t->length);
	return true;
}

static inline bool netdev_find_ipv6(const uint8_t *ip, uint32_t length, struct netdev_transport *t)
{
	if (length < 40 || ip[0] >> 4 != 6)
		return false;
	uint32_t payload = (uint32_t)ip[4] << 8 | ip[5];
	if (payload > length - 40)
		return false;
	t->at = 40;
	t->length = payload;
	t->protocol = ip[6];
	t->pseudo = netdev_sum(ip + 8, 32, t->protocol + t->length);
	return true;
}

static inline bool netdev_find_transport(const uint8_t *frame, uint32_t length,
					 struct netdev_transport *t)
{
	if (length < 14)
		return false;
	uint32_t type = (uint32_t)frame[12] << 8 | frame[13];
	bool found = (type == 0x0800 && netdev_find_ipv4(frame + 14, length - 14, t)) ||
		     (type == 0x86dd && netdev_find_ipv6(frame + 14, length - 14, t));
	t->at += 14;
	return found;
}

/* Does the frame hold a whole TCP or UDP packet whose checksum is there and right? */
static inline bool netdev_checksum_good(const uint8_t *frame, uint32_t length)
{
	struct netdev_transport t = {0};

	if (!netdev_find_transport(frame, length, &t))
		return false;
	uint32_t header = t.protocol == 6 ? 20 : 8;
	if ((t.protocol != 6 && t.protocol != 17) || t.length < header)
		return false;
	if (t.protocol == 17 && frame[t.at + 6] == 0 && frame[t.at + 7] == 0)
		return false; /* none was computed */
	return netdev_sum(frame + t.at, t.length, t.pseudo) == 0xffff;
}
