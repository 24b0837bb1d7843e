/* SPDX-License-Identifier: MIT
 * net/wire/router.h - router discovery as a host sees it: solicitations out, advertisements in (RFC
 * 4861 4.1, 4.2, 4.6, RFC 4191 2.2).
 */
#pragma once

#include "net/wire/icmp.h"

#define ROUTER_PREFIXES_MAX 16 /* of one advertisement that are looked at */
#define ROUTER_FOREVER      UINT32_MAX

struct router_prefix {
	struct ip_address prefix; /* the bits behind it are 0 */
	uint8_t bits;
	bool on_link;
	bool autonomous;
	uint32_t valid_s; /* ROUTER_FOREVER */
	uint32_t preferred_s;
};

struct router_message {
	int8_t preference;     /* RFC 4191 2.1: -1, 0, 1 */
	uint16_t lifetime_s;   /* 0: no default router */
	uint32_t reachable_ms; /* 0: not said */
	uint32_t retrans_ms;   /* 0: not said */
	uint32_t mtu;          /* 0: not said */
	uint8_t mac[6];
	bool has_mac;
	uint32_t num_prefixes;
	struct router_prefix prefixes[ROUTER_PREFIXES_MAX];
};

/* An advertisement, checked by RFC 4861 6.1.2.  The cursor stands behind the ICMPv6 header. Options
 * that are not known, or are not as long as they have to be, are passed over. */
enum drop router_parse(struct cursor *c, const struct ip_packet *packet,
		       const struct icmp_header *header, struct router_message *message);

#define ROUTER_SOLICITATION_BYTES (ICMP_HEADER_BYTES + 8)

/* Writes a solicitation, with a source link-layer address if mac is not NULL; returns its bytes. */
uint32_t router_write_solicitation(uint8_t *at, const uint8_t *mac, const struct ip_address *from,
				   const struct ip_address *to);
