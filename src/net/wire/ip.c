/* SPDX-License-Identifier: MIT
 * net/wire/ip.c - IPv4 options and whatever is wrong with a header; IPv6 and its extension headers.
 *
 * RFC 791 3.1, RFC 1122 3.2.1, RFC 8200 3 and 4, RFC 5095 (no source routes of type 0), RFC 6946
 * (a fragment that is the whole packet is no fragment), RFC 1858, RFC 3128 and RFC 7112 (a first
 * fragment holds all headers).
 *
 * Reads nothing beyond the cursor it is given.  Every walk advances at least one byte a step, and
 * extension headers are bounded besides (RFC 7112 5 gives a receiver that right).
 */
#include "net/wire/ip.h"

#define EXTENSIONS_MAX      8
#define EXTENSION_BYTES_MAX 256

enum ipv4_option {
	IPV4_OPTION_END = 0,
	IPV4_OPTION_NOP = 1,
	IPV4_OPTION_LOOSE_ROUTE = 131,
	IPV4_OPTION_STRICT_ROUTE = 137,
};

enum ipv6_next_header {
	IPV6_HOP_BY_HOP = IP_HOP_BY_HOP,
	IPV6_ROUTING = 43,
	IPV6_FRAGMENT = IP_FRAGMENT,
	IPV6_NO_NEXT_HEADER = 59,
	IPV6_DESTINATION = 60,
};

enum ipv6_option { IPV6_OPTION_PAD1 = 0, IPV6_OPTION_PADN = 1 };

/* RFC 8200 4.2: what to do with an option that is unknown, by the two high bits of its type */
enum ipv6_option_action {
	IPV6_ACTION_SKIP = 0,
	IPV6_ACTION_DISCARD = 1,
	IPV6_ACTION_REPORT = 2,
	IPV6_ACTION_REPORT_UNICAST = 3,
};

/* RFC 1122 3.2.1.8 MUST: options that are not known are ignored, and their lengths are not
 * trusted; RFC 1122 3.2.1.8(c), RFC 9293 MUST-50: source routes are not followed, nor accepted */
static enum drop ipv4_options(struct cursor *options)
{
	while (cursor_left(options)) {
		uint8_t kind = cursor_u8(options);

		if (kind == IPV4_OPTION_END)
			return DROP_NONE;
		if (kind == IPV4_OPTION_NOP)
			continue;
		uint8_t bytes = cursor_u8(options);
		if (bytes < 2)
			return DROP_IP_HEADER;
		cursor_skip(options, bytes - 2U);
		if (options->bad)
			return DROP_IP_HEADER;
		if (kind == IPV4_OPTION_LOOSE_ROUTE || kind == IPV4_OPTION_STRICT_ROUTE)
			return DROP_IP_SOURCE_ROUTE;
	}
	return DROP_NONE;
}

/* What a transport header takes at least. */
static uint32_t transport_bytes(uint8_t protocol)
{
	return protocol == IP_TCP ? 20 : 8;
}

/* The packet is filled in. */
static enum drop ipv4_fragment(struct ip_packet *packet)
{
	const uint8_t *at = packet->header;
	uint32_t word = load16(at + 6);
	struct ip_fragment *fragment = &packet->fragment;

	*fragment = (struct ip_fragment){
		.id = load16(at + 4),
		.offset = (word & IPV4_FRAGMENT_OFFSET) * 8,
		.more = word & IPV4_MORE_FRAGMENTS,
		.protocol = packet->protocol,
		.transport = packet->protocol,
		.header_bytes = (uint16_t)packet->header_bytes,
	};
	if (packet->length == 0 || (fragment->more && packet->length % 8 != 0))
		return DROP_IP_FRAGMENT_BAD;
	/* RFC 791 3.2: no datagram is longer than its length field can say */
	if (packet->header_bytes + fragment->offset + packet->length > IP_DATAGRAM_MAX)
		return DROP_IP_FRAGMENT_BAD;
	/* RFC 1858 3, RFC 3128 2.2: a transport header that is cut in two is not looked at whole by
	 * whoever filters on the way */
	uint32_t least = transport_bytes(packet->protocol);
	if (fragment->offset == 0 ? packet->length < least : fragment->offset < least)
		return DROP_IP_FRAGMENT_BAD;
	return DROP_IP_FRAGMENT;
}

enum drop ipv4_parse_slow(struct cursor *c, struct ip_packet *packet)
{
	const uint8_t *at = c->at;
	uint32_t left = cursor_left(c);

	if (left && at[0] >> 4 != 4)
		return DROP_IP_VERSION;
	if (left < IPV4_HEADER_BYTES)
		return DROP_IP_SHORT;
	uint32_t header_bytes = (at[0] & 15U) * 4;
	uint32_t total = load16(at + 2);
	if (total > left || total < IPV4_HEADER_BYTES)
		return DROP_IP_SHORT;
	if (header_bytes < IPV4_HEADER_BYTES || header_bytes > total)
		return DROP_IP_HEADER;
	if (!checksum_good(checksum_partial(at, header_bytes)))
		return DROP_IP_CHECKSUM;
	struct cursor options =
		cursor_over(at + IPV4_HEADER_BYTES, header_bytes - IPV4_HEADER_BYTES);
	enum drop drop = ipv4_options(&options);
	if (drop)
		return drop;
	ipv4_fill(c, packet, at, header_bytes, total);
	return ipv4_is_fragment(at) ? ipv4_fragment(packet) : DROP_NONE;
}

/* ---- IPv6 ---- */

/* The walk over extension headers. */
struct chain {
	struct ip_packet *packet;
	struct ip_problem *problem;
	struct cursor at;    /* the header that next names */
	uint8_t next;        /* its protocol */
	bool fragment;       /* a first fragment's headers, behind the fragment header */
	const uint8_t *name; /* the octet that says so */
};

/* RFC 4443 2.4(e.3) MUST NOT: no error is sent about a multicast, but for options that ask for it
 */
static enum drop chain_problem(struct chain *chain, enum ip_problem_code code, const uint8_t *octet,
			       enum drop drop)
{
	chain->problem->code = (uint8_t)code;
	chain->problem->pointer = (uint32_t)(octet - chain->packet->header);
	chain->problem->send = !ip_is_multicast(&chain->packet->to);
	return drop;
}

/* RFC 8200 4.2: an unknown option is skipped, or ends the packet, by its two high bits */
static enum drop chain_options(struct chain *chain, struct cursor *options)
{
	while (cursor_left(options)) {
		const uint8_t *option = options->at;
		uint8_t type = cursor_u8(options);

		if (type == IPV6_OPTION_PAD1)
			continue;
		cursor_skip(options, cursor_u8(options));
		if (options->bad)
			return DROP_IP_EXTENSION;
		if (type == IPV6_OPTION_PADN || type >> 6 == IPV6_ACTION_SKIP)
			continue;
		if (type >> 6 == IPV6_ACTION_DISCARD)
			return DROP_IP_EXTENSION;
		(void)chain_problem(chain, IP_PROBLEM_OPTION, option, DROP_IP_EXTENSION);
		if (type >> 6 == IPV6_ACTION_REPORT)
			chain->problem->send = true;
		return DROP_IP_EXTENSION;
	}
	return DROP_NONE;
}

/* A fragment header that is not atomic, at start. */
static enum drop chain_fragment(struct chain *chain, const uint8_t *start)
{
	struct ip_packet *packet = chain->packet;
	uint32_t word = load16(start + 2);
	uint32_t before = (uint32_t)(start - packet->header);

	if (chain->fragment) /* a fragment of a fragment */
		return DROP_IP_FRAGMENT_BAD;
	packet->fragment = (struct ip_fragment){
		.id = load32(start + 4),
		.offset = word & 0xfff8,
		.more = word & 1,
		.protocol = start[0],
		.name = (uint16_t)(chain->name - packet->header),
		.header_bytes = (uint16_t)before,
	};
	packet->length -= (uint32_t)(chain->at.at - packet->payload);
	packet->payload = chain->at.at;
	packet->header_bytes = (uint32_t)(chain->at.at - packet->header);
	/* RFC 8200 4.5: all but the last are whole units of 8 octets; and the whole is not longer
	 * than its length field can say */
	if (packet->fragment.more && packet->length % 8 != 0)
		return chain_problem(chain, IP_PROBLEM_FIELD, packet->header + 4,
				     DROP_IP_FRAGMENT_BAD);
	if (before - IPV6_HEADER_BYTES + packet->fragment.offset + packet->length > IP_DATAGRAM_MAX)
		return chain_problem(chain, IP_PROBLEM_FIELD, start + 2, DROP_IP_FRAGMENT_BAD);
	return packet->length ? DROP_IP_FRAGMENT : DROP_IP_FRAGMENT_BAD;
}

/* One header: its content in `header`, whole, at least 8 bytes. */
static enum drop chain_header(struct chain *chain, struct cursor *header)
{
	const uint8_t *start = header->at;

	cursor_skip(header, 2);
	switch (chain->next) {
	case IPV6_ROUTING:
		/* RFC 8200 4.4, RFC 5095 3 MUST: with no segments left a routing header is
		 * ignored; with some, no type is known here, and type 0 is treated like one
		 * unknown */
		if (start[3] != 0)
			return chain_problem(chain, IP_PROBLEM_FIELD, start + 2,
					     DROP_IP_SOURCE_ROUTE);
		return DROP_NONE;
	case IPV6_FRAGMENT:
		chain->packet->fragmented = true;
		/* RFC 6946 4 MUST: offset 0 and no more to come is a whole packet */
		return load16(start + 2) & 0xfff9 ? chain_fragment(chain, start) : DROP_NONE;
	default:
		return chain_options(chain, header);
	}
}

/* One step: DROP_NONE and chain at the next header, or why the packet is dropped. */
static enum drop chain_step(struct chain *chain)
{
	const uint8_t *start = chain->at.at;
	uint32_t bytes = 8;

	/* RFC 8200 4.1: hop-by-hop options stand first, or are treated like a header unknown */
	if (chain->next == IPV6_HOP_BY_HOP && start != chain->packet->header + IPV6_HEADER_BYTES)
		return chain_problem(chain, IP_PROBLEM_NEXT_HEADER, chain->name, DROP_IP_EXTENSION);
	if (cursor_left(&chain->at) < bytes)
		return DROP_IP_EXTENSION;
	if (chain->next != IPV6_FRAGMENT)
		bytes = (start[1] + 1U) * 8;
	struct cursor header = cursor_sub(&chain->at, bytes);
	if (header.bad)
		return DROP_IP_EXTENSION;
	enum drop drop = chain_header(chain, &header);
	chain->next = start[0];
	chain->name = start;
	return drop;
}

static bool is_extension(uint8_t next)
{
	return next == IPV6_HOP_BY_HOP || next == IPV6_ROUTING || next == IPV6_FRAGMENT ||
	       next == IPV6_DESTINATION;
}

static bool is_transport(uint8_t next)
{
	return next == IP_TCP || next == IP_UDP || next == IP_ICMPV6;
}

/* RFC 7112 5 MUST, RFC 8200 4.5: a first fragment that does not hold all headers is dropped, and
 * may be answered by a parameter problem of its own code */
static enum drop first_fragment(struct chain *chain, enum drop drop)
{
	if (drop == DROP_NONE && cursor_left(&chain->at) >= transport_bytes(chain->next)) {
		chain->packet->fragment.transport = chain->next;
		return DROP_IP_FRAGMENT;
	}
	/* It is wrong in another way, whole or not. */
	if (drop == DROP_IP_PROTOCOL || chain->problem->send)
		return drop;
	return chain_problem(chain, IP_PROBLEM_FIRST_FRAGMENT, chain->packet->header,
			     DROP_IP_FRAGMENT_BAD);
}

/* Up to the transport header, or to the fragment header of a packet that is not the first
 * fragment. */
static enum drop chain_walk(struct chain *chain)
{
	const uint8_t *start = chain->at.at;

	for (uint32_t count = 0; is_extension(chain->next); count++) {
		if (count == EXTENSIONS_MAX)
			return DROP_IP_EXTENSION;
		enum drop drop = chain_step(chain);
		if (drop == DROP_IP_FRAGMENT && chain->packet->fragment.offset == 0)
			chain->fragment = true;
		else if (drop)
			return drop;
		if (chain->at.at - start > EXTENSION_BYTES_MAX)
			return DROP_IP_EXTENSION;
	}
	/* RFC 8200 4.7: what follows "no next header" is ignored */
	if (chain->next == IPV6_NO_NEXT_HEADER)
		return DROP_IP_PROTOCOL;
	/* RFC 8200 4 SHOULD: an unknown next header is reported by the octet that names it */
	if (!is_transport(chain->next))
		return chain_problem(chain, IP_PROBLEM_NEXT_HEADER, chain->name, DROP_IP_PROTOCOL);
	return DROP_NONE;
}

static enum drop ipv6_extensions(struct cursor *c, struct ip_packet *packet,
				 struct ip_problem *problem)
{
	struct chain chain = {
		.packet = packet,
		.problem = problem,
		.at = *c,
		.next = packet->protocol,
		.name = packet->header + 6,
	};
	enum drop drop = chain_walk(&chain);

	if (chain.fragment)
		return first_fragment(&chain, drop);
	if (drop)
		return drop;
	uint32_t bytes = (uint32_t)(chain.at.at - c->at);
	packet->protocol = chain.next;
	packet->payload += bytes;
	packet->length -= bytes;
	packet->header_bytes += bytes;
	c->at += bytes;
	return DROP_NONE;
}

enum drop ipv6_parse(struct cursor *c, struct ip_packet *packet, struct ip_problem *problem)
{
	const uint8_t *at = c->at;
	uint32_t left = cursor_left(c);

	problem->send = false;
	if (left && at[0] >> 4 != 6)
		return DROP_IP_VERSION;
	if (unlikely(left < IPV6_HEADER_BYTES))
		return DROP_IP_SHORT;
	uint32_t length = load16(at + 4);
	if (unlikely(length > left - IPV6_HEADER_BYTES))
		return DROP_IP_SHORT;
	packet->from = ip_from_bytes(at + 8);
	packet->to = ip_from_bytes(at + 24);
	packet->header = at;
	packet->payload = at + IPV6_HEADER_BYTES;
	packet->length = length;
	packet->header_bytes = IPV6_HEADER_BYTES;
	packet->protocol = at[6];
	packet->ttl = at[7];
	packet->tos = (uint8_t)(load16(at) >> 4);
	packet->fragmented = false;
	/* Mapped addresses belong into programs: on the wire they would pass for IPv4. */
	if (unlikely(ip_is_v4(&packet->from)))
		return DROP_IP_SOURCE;
	if (unlikely(ip_is_v4(&packet->to)))
		return DROP_IP_DESTINATION;
	c->at = packet->payload;
	c->end = packet->payload + length;
	if (likely(is_transport(packet->protocol)))
		return DROP_NONE;
	return ipv6_extensions(c, packet, problem);
}
