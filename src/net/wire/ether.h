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
#define ARP_BYTES          28

struct ether_header {
	uint8_t to[6];
	uint8_t from[6];
	uint16_t type; /* below 1536: an IEEE 802.3 length, which we do not speak */
};

/* DROP_NONE, the cursor behind the header; or why not. */
enum drop ether_parse(struct cursor *c, struct ether_header *header);
/* Writes ETHER_HEADER_BYTES. */
void ether_write(uint8_t *at, const uint8_t to[6], const uint8_t from[6], uint16_t type);

static inline bool ether_is_multicast(const uint8_t mac[6])
{
	return mac[0] & 1;
}

struct arp {
	uint16_t operation; /* ARP_REQUEST, ARP_REPLY */
	uint8_t sender_mac[6];
	uint8_t target_mac[6];
	uint32_t sender; /* IPv4, network order */
	uint32_t target;
};

enum { ARP_REQUEST = 1, ARP_REPLY = 2 };

/* Only Ethernet and IPv4 with their lengths; padding behind it is ignored. */
enum drop arp_parse(struct cursor *c, struct arp *arp);
/* Writes ARP_BYTES. */
void arp_write(uint8_t *at, const struct arp *arp);
