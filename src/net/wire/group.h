/* SPDX-License-Identifier: MIT
 * net/wire/group.h - what hosts and routers say to each other about groups: IGMP (RFC 1112 appendix
 * I, RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810) as a host needs them.
 *
 * Both families have the same messages, with addresses of 4 or 16 bytes.  Versions count as IGMP's
 * do: MLDv1 is GROUP_V2, MLDv2 is GROUP_V3.
 */
#pragma once

#include "base/address.h"
#include "net/wire/cursor.h"
#include "net/wire/icmp.h"
#include "net/wire/ip.h"

#include <stdbool.h>
#include <stdint.h>

enum group_version {
	GROUP_V1 = 1, /* IGMPv1: no leave */
	GROUP_V2 = 2, /* IGMPv2, MLDv1 */
	GROUP_V3 = 3, /* IGMPv3, MLDv2: records, of several groups in a report */
};

/* What a record of a report says (RFC 3376 4.2.12, RFC 3810 5.2.12). */
enum group_record {
	GROUP_IS_INCLUDE = 1,
	GROUP_IS_EXCLUDE = 2,
	GROUP_TO_INCLUDE = 3,
	GROUP_TO_EXCLUDE = 4,
};

/* A query, or another host's report of version 1 or 2. */
struct group_message {
	bool query;
	uint8_t version;         /* enum group_version */
	struct ip_address group; /* any: a general query */
	uint32_t max_response_ms;
	uint8_t robustness;  /* version 3; 0: not said */
	uint32_t interval_s; /* version 3; 0: not said */
	uint32_t num_sources;
	const uint8_t *sources; /* of 4 or 16 bytes each */
};

/* The cursor is over an IGMP message, checksum and all, or behind an ICMPv6 header.  DROP_NONE;
 * DROP_GROUP_BAD: malformed, or not from this link by its hop limit, options and source;
 * DROP_GROUP_TYPE: it is for routers. */
enum drop group_parse_v4(struct cursor *c, const struct ip_packet *packet,
			 struct group_message *message);
enum drop group_parse_v6(struct cursor *c, const struct ip_packet *packet,
			 const struct icmp_header *header, struct group_message *message);
/* Is it one of MLD's types? */
bool group_is_mld(uint8_t icmpv6_type);

#define GROUP_HEADER_BYTES 8 /* of a report of version 3, in front of its records */

static inline uint32_t group_address_bytes(bool v4)
{
	return v4 ? 4 : 16;
}

static inline uint32_t group_record_bytes(bool v4, uint32_t num_sources)
{
	return 4 + group_address_bytes(v4) * (1 + num_sources);
}

/* Writes group_record_bytes. */
void group_write_record(uint8_t *at, enum group_record type, const struct ip_address *group,
			const struct ip_address *sources, uint32_t num_sources);
/* Writes the header of a report of version 3 in front of its records, checksum included; length: of
 * the whole.  to: 224.0.0.22 or ff02::16. */
void group_write_report(uint8_t *at, uint16_t records, uint32_t length,
			const struct ip_address *from, const struct ip_address *to);

#define GROUP_OLD_BYTES_MAX 24

/* Writes a report of version 1 or 2, or a leave (of version 2), checksum included; returns its
 * bytes. */
uint32_t group_write_old(uint8_t *at, enum group_version version, bool leave,
			 const struct ip_address *group, const struct ip_address *from,
			 const struct ip_address *to);

#define IPV4_ALERT_BYTES 24 /* a header with the router alert option (RFC 2113) */
#define IPV6_ALERT_BYTES 8  /* hop-by-hop options with it (RFC 2711) */

void group_write_alert_v4(uint8_t *at, const struct ip_address *from, const struct ip_address *to,
			  uint32_t length);
void group_write_alert_v6(uint8_t *at);

/* The link-layer group of a group (RFC 1112 6.4, RFC 2464 7), or everybody of a broadcast address.
 */
static inline void group_mac(const struct ip_address *to, uint8_t mac[6])
{
	if (!ip_is_v4(to)) {
		mac[0] = 0x33;
		mac[1] = 0x33;
		memcpy(mac + 2, to->bytes + 12, 4);
	} else if (ip_is_multicast(to)) {
		const uint8_t group[6] = {0x01,          0x00,         0x5e, to->bytes[13] & 0x7f,
					  to->bytes[14], to->bytes[15]};
		memcpy(mac, group, 6);
	} else {
		memset(mac, 0xff, 6);
	}
}

/* How far a group of IPv6 reaches (RFC 4291 2.7). */
enum group_scope { GROUP_SCOPE_INTERFACE = 1, GROUP_SCOPE_LINK = 2 };

static inline uint8_t group_scope(const struct ip_address *group)
{
	return group->bytes[1] & 0x0f;
}

/* A group that every host is in: 224.0.0.1, ff01::1 and ff02::1. */
static inline bool group_is_all_hosts(const struct ip_address *group)
{
	if (ip_is_v4(group))
		return group->words[3] == __builtin_bswap32(0xe0000001U);
	return (group->words[0] == __builtin_bswap32(0xff010000U) ||
		group->words[0] == __builtin_bswap32(0xff020000U)) &&
	       group->words[1] == 0 && group->words[2] == 0 &&
	       group->words[3] == __builtin_bswap32(1);
}

/* The solicited-node group of an address (RFC 4291 2.7.1). */
static inline struct ip_address group_solicited_node(const struct ip_address *address)
{
	struct ip_address group = {.bytes = {0xff, 0x02, [11] = 1, [12] = 0xff}};

	memcpy(group.bytes + 13, address->bytes + 13, 3);
	return group;
}
