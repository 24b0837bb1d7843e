/* SPDX-License-Identifier: MIT
 * net/wire/ether.c - ARP for IPv4 over Ethernet (RFC 826).
 */
#include "net/wire/ether.h"

#define ARP_ETHERNET 1

enum drop arp_parse(struct cursor *c, struct arp *arp)
{
	uint16_t hardware = cursor_u16(c);
	uint16_t protocol = cursor_u16(c);
	uint8_t hardware_bytes = cursor_u8(c);
	uint8_t protocol_bytes = cursor_u8(c);

	arp->operation = cursor_u16(c);
	cursor_bytes(c, arp->sender_mac, sizeof(arp->sender_mac));
	cursor_bytes(c, &arp->sender, sizeof(arp->sender));
	cursor_bytes(c, arp->target_mac, sizeof(arp->target_mac));
	cursor_bytes(c, &arp->target, sizeof(arp->target));
	if (c->bad || hardware != ARP_ETHERNET || protocol != ETHER_IPV4 ||
	    hardware_bytes != sizeof(arp->sender_mac) || protocol_bytes != sizeof(arp->sender))
		return DROP_ARP_BAD;
	if (arp->operation != ARP_REQUEST && arp->operation != ARP_REPLY)
		return DROP_ARP_BAD;
	/* RFC 1812 3.3.2 MUST: no answer is believed that gives a group's link-layer address */
	return ether_is_station(arp->sender_mac) ? DROP_NONE : DROP_ARP_BAD;
}

void arp_write(uint8_t *at, const struct arp *arp)
{
	store16(at, ARP_ETHERNET);
	store16(at + 2, ETHER_IPV4);
	at[4] = sizeof(arp->sender_mac);
	at[5] = sizeof(arp->sender);
	store16(at + 6, arp->operation);
	memcpy(at + 8, arp->sender_mac, 6);
	memcpy(at + 14, &arp->sender, 4);
	memcpy(at + 18, arp->target_mac, 6);
	memcpy(at + 24, &arp->target, 4);
}
