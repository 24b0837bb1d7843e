/* SPDX-License-Identifier: MIT
 * net/wire/ip.h - IPv4 (RFC 791) and IPv6 (RFC 8200) headers as one value.
 *
 * What every packet takes, headers without options, stands inline; the rest in ip.c.
 */
#pragma once

#include "base/address.h"
#include "base/counters.h"
#include "net/wire/checksum.h"
#include "net/wire/cursor.h"

#include <stdbool.h>
#include <stdint.h>

#define IPV4_HEADER_BYTES   20
#define IPV6_HEADER_BYTES   40
#define IPV6_FRAGMENT_BYTES 8

enum ip_protocol {
	IP_HOP_BY_HOP = 0, /* IPv6's options */
	IP_ICMP = 1,
	IP_IGMP = 2,
	IP_TCP = 6,
	IP_UDP = 17,
	IP_FRAGMENT = 44, /* IPv6's fragment header */
	IP_ICMPV6 = 58,
};

/* Which part of its datagram a fragment is. */
struct ip_fragment {
	uint32_t id;
	uint32_t offset; /* of its bytes in what was fragmented */
	bool more;
	uint8_t protocol;  /* IPv4: of the datagram; IPv6: of the first header behind the fragment
			      header */
	uint8_t transport; /* in a first fragment: of its transport header */
	/* IPv6: where in the packet the octet stands that names the fragment header */
	uint16_t name;
	uint16_t header_bytes; /* in front of what was fragmented, without the fragment header */
};

/* A received packet that was checked: version, lengths, IPv4 header checksum, extension headers. */
struct ip_packet {
	struct ip_address from;
	struct ip_address to;
	const uint8_t *header;  /* of the internet header, for quoting in ICMP errors */
	const uint8_t *payload; /* transport header */
	uint32_t length;        /* bytes at payload: padding behind the packet is cut off */
	uint32_t header_bytes;  /* from header to payload */
	uint8_t ttl;            /* hop limit */
	uint8_t protocol;       /* of the payload: enum ip_protocol or another */
	uint8_t tos;            /* traffic class: DSCP and ECN */
	bool fragmented;        /* IPv6: it had a fragment header */
	/* The receiver's, who knows the frame: the parsers leave them alone. */
	bool checked;   /* the device verified the transport checksum */
	bool broadcast; /* arrived as link-layer broadcast or multicast, or its destination is one
			 */
	struct ip_fragment fragment; /* set only where a parser says DROP_IP_FRAGMENT */
};

/* The last two bits of tos (RFC 3168 5). */
enum ip_ecn {
	IP_NOT_ECT = 0,
	IP_ECT_1 = 1,
	IP_ECT_0 = 2,
	IP_CE = 3, /* congestion was met; also the mask */
};

/* What the parser met beyond a drop: which ICMPv6 parameter problem to send (RFC 8200 4), if any.
 */
struct ip_problem {
	uint8_t code;     /* of a parameter problem */
	uint32_t pointer; /* octet of the packet */
	bool send; /* the destination was looked at: what a multicast must not get is not sent */
};

enum ip_problem_code {
	IP_PROBLEM_FIELD = 0,       /* erroneous header field */
	IP_PROBLEM_NEXT_HEADER = 1, /* unrecognised next header */
	IP_PROBLEM_OPTION = 2,      /* unrecognised option */
	/* RFC 7112 5 MAY: the first fragment does not hold all headers */
	IP_PROBLEM_FIRST_FRAGMENT = 3,
};

/* Header length other than 5 words, and everything that is wrong. */
enum drop ipv4_parse_slow(struct cursor *c, struct ip_packet *packet);

/* Fills packet from the header at `at` of header_bytes, total bytes with payload; the cursor then
 * is over the payload. */
static inline void ipv4_fill(struct cursor *c, struct ip_packet *packet, const uint8_t *at,
			     uint32_t header_bytes, uint32_t total)
{
	uint32_t from;
	uint32_t to;

	memcpy(&from, at + 12, sizeof(from));
	memcpy(&to, at + 16, sizeof(to));
	packet->from = ip_from_v4(from);
	packet->to = ip_from_v4(to);
	packet->header = at;
	packet->payload = at + header_bytes;
	packet->length = total - header_bytes;
	packet->header_bytes = header_bytes;
	packet->protocol = at[9];
	packet->ttl = at[8];
	packet->tos = at[1];
	c->at = at + header_bytes;
	c->end = at + total;
}

/* Sum of the 20 bytes of a header without options. */
static inline uint64_t ipv4_sum(const uint8_t *at)
{
	uint64_t words[2];
	uint32_t last;

	memcpy(&words[0], at, sizeof(words[0]));
	memcpy(&words[1], at + 8, sizeof(words[1]));
	memcpy(&last, at + 16, sizeof(last));
	return checksum_add(checksum_add(words[0], words[1]), last);
}

#define IP_DATAGRAM_MAX      65535U  /* IPv4: with its header; IPv6: behind it */
#define IPV4_FRAGMENT_OFFSET 0x1fffU /* in units of 8 bytes */
#define IPV4_MORE_FRAGMENTS  0x2000U
#define IPV4_FRAGMENT        (IPV4_FRAGMENT_OFFSET | IPV4_MORE_FRAGMENTS)

static inline bool ipv4_is_fragment(const uint8_t *at)
{
	uint16_t word;

	memcpy(&word, at + 6, sizeof(word));
	return word & __builtin_bswap16(IPV4_FRAGMENT);
}

/* Both take a cursor behind the Ethernet header, fill packet and leave the cursor over the payload.
 * DROP_NONE or why not: bad version, header length, total length, checksum (IPv4); source routes;
 * extension headers that are malformed or beyond a bound of 8 or of 256 bytes; a next header that
 * is not one of enum ip_protocol (IPv6: problem says so).  DROP_IP_FRAGMENT: it is a good fragment,
 * and not an atomic one: payload, length, header_bytes and fragment tell which part of what.
 * DROP_IP_FRAGMENT_BAD: no fragment can look like that.
 *
 * RFC 1122 3.2.1.1, 3.2.1.2 MUST: a bad version or checksum is a silent discard. */
static inline enum drop ipv4_parse(struct cursor *c, struct ip_packet *packet)
{
	const uint8_t *at = c->at;
	uint32_t left = cursor_left(c);

	if (unlikely(left < IPV4_HEADER_BYTES || at[0] != 0x45))
		return ipv4_parse_slow(c, packet);
	uint32_t total = load16(at + 2);
	if (unlikely(total > left || total < IPV4_HEADER_BYTES || ipv4_is_fragment(at) ||
		     !checksum_good(ipv4_sum(at))))
		return ipv4_parse_slow(c, packet);
	ipv4_fill(c, packet, at, IPV4_HEADER_BYTES, total);
	return DROP_NONE;
}

enum drop ipv6_parse(struct cursor *c, struct ip_packet *packet, struct ip_problem *problem);

/* Writes IPV4_HEADER_BYTES with its checksum, don't fragment set (RFC 6864: id may be 0 then).
 * length: bytes behind it. */
/* NOLINTNEXTLINE(readability-function-size): a header has so many fields */
static inline void ipv4_write(uint8_t *at, const struct ip_address *from,
			      const struct ip_address *to, uint8_t protocol, uint8_t ttl,
			      uint8_t tos, uint32_t length)
{
	uint16_t total = __builtin_bswap16((uint16_t)(IPV4_HEADER_BYTES + length));
	uint32_t words[5] = {
		(uint32_t)(0x45U | (uint32_t)tos << 8 | (uint32_t)total << 16),
		0x40U << 16, /* don't fragment */
		(uint32_t)(ttl | (uint32_t)protocol << 8),
		from->words[3],
		to->words[3],
	};
	uint64_t sum = (uint64_t)words[0] + words[1] + words[2] + words[3] + words[4];

	words[2] |= (uint32_t)checksum_finish(sum) << 16;
	memcpy(at, words, sizeof(words));
}

/* Makes a header that ipv4_write wrote a fragment's: flags and offset. */
static inline void ipv4_write_fragment(uint8_t *at, uint16_t fragment, uint16_t id)
{
	store16(at + 4, id);
	store16(at + 6, fragment);
	store16(at + 10, 0);
	uint16_t checksum = checksum_finish(checksum_partial(at, IPV4_HEADER_BYTES));
	memcpy(at + 10, &checksum, sizeof(checksum));
}

/* Writes IPV6_FRAGMENT_BYTES; offset in bytes. */
static inline void ipv6_write_fragment(uint8_t *at, uint8_t protocol, uint32_t offset, bool more,
				       uint32_t id)
{
	at[0] = protocol;
	at[1] = 0;
	store16(at + 2, (uint16_t)(offset | more));
	store32(at + 4, id);
}

/* Writes IPV6_HEADER_BYTES; flow label 20 bits. */
/* NOLINTNEXTLINE(readability-function-size): a header has so many fields */
static inline void ipv6_write(uint8_t *at, const struct ip_address *from,
			      const struct ip_address *to, uint8_t protocol, uint8_t hop_limit,
			      uint8_t tos, uint32_t length, uint32_t flow_label)
{
	store32(at, 6U << 28 | (uint32_t)tos << 20 | (flow_label & 0xfffffU));
	store16(at + 4, (uint16_t)length);
	at[6] = protocol;
	at[7] = hop_limit;
	memcpy(at + 8, from->bytes, 16);
	memcpy(at + 24, to->bytes, 16);
}
