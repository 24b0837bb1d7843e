/* SPDX-License-Identifier: MIT
 * net/wire/ether.h - Ethernet II (RFC 894) and ARP for IPv4 over Ethernet (RFC 826).
 */
#pragma once

#include "base/counters.h"
#include "net/wire/cursor.h"

#include <stdbool.h>
#include <stdint.h>

#define ETHER_HEADER_BYTES 14
#define ETHER_IPV4         0x0800
#define ETHER_ARP          0x0806
#define ETHER_IPV6         0x86dd
#define ETHER_VLAN         0x8100 /* IEEE 802.1Q */
#define ETHER_VLAN_SERVICE 0x88a8 /* IEEE 802.1ad: one around another */
#define ETHER_TAG_BYTES    4
#define ETHER_VLAN_ID      0x0fff /* of a tag's second half; the rest is priority */
#define ARP_BYTES          28

struct ether_header {
	uint8_t to[6];
	uint8_t from[6];
	uint16_t type; /* below 1536: an IEEE 802.3 length, which we do not speak */
};

/* DROP_NONE, the cursor behind the header; or why not. */
static inline enum drop ether_parse(struct cursor *c, struct ether_header *header)
{
	const uint8_t *at = c->at;

	if (unlikely(cursor_left(c) < ETHER_HEADER_BYTES))
		return DROP_ETHER_SHORT;
	c->at += ETHER_HEADER_BYTES;
	memcpy(header->to, at, 6);
	memcpy(header->from, at + 6, 6);
	header->type = load16(at + 12);
	return DROP_NONE;
}

/* The common case, quicker: is it a frame of this type to this station?  Then the cursor is behind
 * the header, else it has not moved. */
static inline bool ether_parse_for(struct cursor *c, const uint8_t station[6], uint16_t type)
{
	const uint8_t *at = c->at;

	if (unlikely(cursor_left(c) < ETHER_HEADER_BYTES || load16(at + 12) != type ||
		     memcmp(at, station, 6) != 0))
		return false;
	c->at = at + ETHER_HEADER_BYTES;
	return true;
}

/* Writes ETHER_HEADER_BYTES. */
static inline void ether_write(uint8_t *at, const uint8_t to[6], const uint8_t from[6],
			       uint16_t type)
{
	memcpy(at, to, 6);
	memcpy(at + 6, from, 6);
	store16(at + 12, type);
}

/* The same with a tag: ETHER_HEADER_BYTES + ETHER_TAG_BYTES. */
static inline void ether_write_tagged(uint8_t *at, const uint8_t to[6], const uint8_t from[6],
				      uint16_t vlan, uint16_t type)
{
	ether_write(at, to, from, ETHER_VLAN);
	store16(at + 14, vlan);
	store16(at + 16, type);
}

static inline bool ether_is_multicast(const uint8_t mac[6])
{
	return mac[0] & 1;
}

/* Can it be the address of one station: neither a group's nor all zeros? */
static inline bool ether_is_station(const uint8_t mac[6])
{
	return !ether_is_multicast(mac) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

struct arp {
	uint16_t operation; /* ARP_REQUEST, ARP_REPLY */
	uint8_t sender_mac[6];
	uint8_t target_mac[6];
	uint32_t sender; /* IPv4, network order */
	uint32_t target;
};

enum { ARP_REQUEST = 1, ARP_REPLY = 2 };

/* Only Ethernet and IPv4 with their lengths, request or reply, and a sender that is one station;
 * padding behind it is ignored. */
enum drop arp_parse(struct cursor *c, struct arp *arp);
/* Writes ARP_BYTES. */
void arp_write(uint8_t *at, const struct arp *arp);
