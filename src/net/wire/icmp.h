/* SPDX-License-Identifier: MIT
 * net/wire/icmp.h - ICMP (RFC 792), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).
 */
#pragma once

#include "base/address.h"
#include "base/counters.h"
#include "net/wire/cursor.h"
#include "net/wire/ip.h"

#include <stdbool.h>
#include <stdint.h>

#define ICMP_HEADER_BYTES 8

enum icmp_type {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_REDIRECT = 5,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
};

enum icmpv6_type {
	ICMPV6_UNREACHABLE = 1,
	ICMPV6_TOO_BIG = 2,
	ICMPV6_TIME_EXCEEDED = 3,
	ICMPV6_PARAMETER_PROBLEM = 4,
	ICMPV6_ECHO = 128,
	ICMPV6_ECHO_REPLY = 129,
	ICMPV6_ROUTER_SOLICITATION = 133,
	ICMPV6_ROUTER_ADVERTISEMENT = 134,
	ICMPV6_NEIGHBOR_SOLICITATION = 135,
	ICMPV6_NEIGHBOR_ADVERTISEMENT = 136,
};

struct icmp_header {
	uint8_t type;
	uint8_t code;
	uint32_t rest; /* second word, host order: id and sequence, MTU, pointer */
};

/* Verifies the checksum over the whole message (ICMPv6: with pseudo header) and leaves the cursor
 * behind the header.  packet->protocol tells which of the two it is. */
enum drop icmp_parse(struct cursor *c, const struct ip_packet *packet, struct icmp_header *header);

/* What an error message quotes: the packet that we sent. */
struct icmp_quote {
	struct ip_address from; /* ours */
	struct ip_address to;
	uint8_t protocol;
	uint16_t source_port; /* 0 if the protocol has none */
	uint16_t destination_port;
	uint32_t seq; /* TCP */
};

/* The cursor stands behind an ICMP error's header.  At least 8 bytes of the transport header; an
 * IPv6 quote with extension headers other than the first fragment's has their protocol and no
 * ports: we send none. */
enum drop icmp_quote_parse(struct cursor *c, bool v6, struct icmp_quote *quote);

/* Writes a header of ICMP_HEADER_BYTES in front of length - ICMP_HEADER_BYTES bytes that stand
 * there, checksum included. from and to: for ICMPv6's pseudo header, else NULL. */
void icmp_write(uint8_t *at, const struct icmp_header *header, uint32_t length,
		const struct ip_address *from, const struct ip_address *to);

/* A neighbour solicitation or advertisement, checked by RFC 4861 7.1: hop limit 255, code 0,
 * lengths, options of length 0, multicast target; and that the link-layer address is one station's.
 */
struct nd_message {
	struct ip_address target;
	uint8_t mac[6]; /* source (solicitation) or target (advertisement) link-layer address */
	bool has_mac;
	uint8_t nonce[6]; /* solicitation: RFC 7527, RFC 3971 5.3.2 */
	bool has_nonce;
	bool router;
	bool solicited;
	bool override;
};

/* The cursor stands behind the ICMPv6 header. */
enum drop nd_parse(struct cursor *c, const struct ip_packet *packet,
		   const struct icmp_header *header, struct nd_message *message);

#define ND_MESSAGE_BYTES (ICMP_HEADER_BYTES + 16 + 8)

/* Writes a solicitation or advertisement (type) with one option: the link-layer address if has_mac,
 * else a nonce if has_nonce; checksum included.  Returns its bytes, at most ND_MESSAGE_BYTES. */
uint32_t nd_write(uint8_t *at, uint8_t type, const struct nd_message *message,
		  const struct ip_address *from, const struct ip_address *to);
