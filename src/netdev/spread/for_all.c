/* SPDX-License-Identifier: MIT
 * netdev/spread/for_all.c - see for_all.h.
 */
#include "netdev/spread/for_all.h"

#include "base/bits.h"

#include <linux/if_ether.h>
#include <netinet/in.h>

enum { /* RFC 792, 4443, 4861, 2710: types */
       V4_UNREACHABLE = 3,
       V4_TIME_EXCEEDED = 11,
       V4_PARAMETER_PROBLEM = 12,
       V6_ERRORS = 4, /* 1 to 4 */
       V6_GROUP_QUERY = 130,
       V6_ROUTER_ADVERTISEMENT = 134,
       V6_NEIGHBOR_ADVERTISEMENT = 136,
       V6_REDIRECT = 137,
};

enum { V4_GROUPS = 224, V6_GROUPS = 0xff }; /* first byte of an address: at least, exactly */

#define ARP_REPLY 2

static bool is_v4_for_all(const uint8_t *ip, uint32_t length)
{
	uint32_t header = length > 0 ? 4 * (ip[0] & 15U) : 0;

	if (length < 20 || length <= header)
		return false;
	if (ip[16] >= V4_GROUPS && ip[9] == IPPROTO_UDP)
		return true;
	if ((ip[6] & 0x1f) || ip[7])
		return false; /* a later fragment */
	if (ip[9] == IPPROTO_IGMP)
		return true;
	uint8_t type = ip[header];
	return ip[9] == IPPROTO_ICMP &&
	       (type == V4_UNREACHABLE || type == V4_TIME_EXCEEDED || type == V4_PARAMETER_PROBLEM);
}

/* Group queries have hop-by-hop options in front: those of 8 bytes. */
static bool is_v6_for_all(const uint8_t *ip, uint32_t length)
{
	uint32_t at = 40;

	if (length <= at + 8)
		return false;
	uint8_t next = ip[6];
	if (next == IPPROTO_HOPOPTS && ip[at + 1] == 0) {
		next = ip[at];
		at += 8;
	}
	if (ip[24] == V6_GROUPS && (next == IPPROTO_UDP || next == IPPROTO_FRAGMENT))
		return true;
	uint8_t type = ip[at];
	return next == IPPROTO_ICMPV6 &&
	       ((type >= 1 && type <= V6_ERRORS) || type == V6_GROUP_QUERY ||
		type == V6_ROUTER_ADVERTISEMENT || type == V6_NEIGHBOR_ADVERTISEMENT ||
		type == V6_REDIRECT);
}

static uint16_t type_at(const uint8_t *frame, uint32_t at)
{
	return (uint16_t)(frame[at] << 8 | frame[at + 1]);
}

/* Passes over the Ethernet header; the type of what is behind it, 0: nothing. */
static uint16_t open_frame(const uint8_t **frame, uint32_t *length)
{
	uint32_t at = 12;

	if (*length >= 18 && type_at(*frame, at) == ETH_P_8021Q)
		at += 4;
	if (*length < at + 2)
		return 0;
	uint16_t type = type_at(*frame, at);
	*frame += at + 2;
	*length -= at + 2;
	return type;
}

bool frame_is_for_all(const uint8_t *frame, uint32_t length)
{
	uint16_t type = open_frame(&frame, &length);

	if (likely(type == ETH_P_IP))
		return is_v4_for_all(frame, length);
	if (type == ETH_P_IPV6)
		return is_v6_for_all(frame, length);
	return type == ETH_P_ARP && length >= 8 && type_at(frame, 6) == ARP_REPLY;
}

bool frame_is_fragment(const uint8_t *frame, uint32_t length)
{
	uint16_t type = open_frame(&frame, &length);

	if (likely(type == ETH_P_IP))
		return length >= 20 && (type_at(frame, 6) & 0x3fff) != 0;
	return type == ETH_P_IPV6 && length >= 40 && frame[6] == IPPROTO_FRAGMENT;
}
