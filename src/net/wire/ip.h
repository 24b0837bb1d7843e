/* SPDX-License-Identifier: MIT
 * net/wire/ip.h - IPv4 (RFC 791) and IPv6 (RFC 8200) headers as one value.
 */
#pragma once

#include "base/address.h"
#include "base/counters.h"
#include "net/wire/cursor.h"

#include <stdbool.h>
#include <stdint.h>

#define IPV4_HEADER_BYTES 20
#define IPV6_HEADER_BYTES 40

enum ip_protocol {
	IP_ICMP = 1,
	IP_TCP = 6,
	IP_UDP = 17,
	IP_ICMPV6 = 58,
};

/* A received packet that was checked: version, lengths, IPv4 header checksum, extension headers. */
struct ip_packet {
	struct ip_address from;
	struct ip_address to;
	const uint8_t *header;  /* of the internet header, for quoting in ICMP errors */
	const uint8_t *payload; /* transport header */
	uint32_t length;        /* bytes at payload: padding behind the packet is cut off */
	uint32_t header_bytes;  /* from header to payload */
	uint8_t protocol;       /* of the payload: enum ip_protocol or another */
	uint8_t ttl;            /* hop limit */
	uint8_t tos;            /* traffic class: DSCP and ECN */
	bool checked;           /* the device verified the transport checksum */
	bool broadcast; /* arrived as link-layer broadcast or multicast, or its destination is one */
};

/* What the parser met beyond a drop: which ICMPv6 parameter problem to send (RFC 8200 4), if any. */
struct ip_problem {
	uint8_t code;     /* of a parameter problem */
	uint32_t pointer; /* octet of the packet */
	bool send;
};

/* Both take a cursor behind the Ethernet header and fill packet.  DROP_NONE or why not: bad version,
 * header length, total length, checksum (IPv4); fragments other than atomic ones; source routes;
 * extension headers beyond a bound of 8 or of 256 bytes. */
enum drop ipv4_parse(struct cursor *c, struct ip_packet *packet);
enum drop ipv6_parse(struct cursor *c, struct ip_packet *packet, struct ip_problem *problem);

/* Writes IPV4_HEADER_BYTES with its checksum, don't fragment set (RFC 6864: id may be 0 then).
 * length: bytes behind it. */
void ipv4_write(uint8_t *at, const struct ip_address *from, const struct ip_address *to,
		uint8_t protocol, uint8_t ttl, uint8_t tos, uint32_t length);
/* Writes IPV6_HEADER_BYTES; flow label 20 bits. */
void ipv6_write(uint8_t *at, const struct ip_address *from, const struct ip_address *to,
		uint8_t protocol, uint8_t hop_limit, uint8_t tos, uint32_t length,
		uint32_t flow_label);
