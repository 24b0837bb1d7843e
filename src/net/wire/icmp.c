/* SPDX-License-Identifier: MIT
 * net/wire/icmp.c - ICMP (RFC 792), ICMPv6 (RFC 4443), neighbour discovery (RFC
 * 4861 4.3, 4.4, 7.1).
 */
#include "net/wire/icmp.h"

#include "net/wire/checksum.h"
#include "net/wire/ether.h"

enum nd_option { ND_SOURCE_LINK_ADDRESS = 1, ND_TARGET_LINK_ADDRESS = 2, ND_NONCE = 14 };

#define ND_HOP_LIMIT 255 /* it came over no router */
#define ND_OPTION_BYTES \
	8 /* the unit of an option's length, and all of one with an Ethernet address */

#define ND_ROUTER    0x80000000U
#define ND_SOLICITED 0x40000000U
#define ND_OVERRIDE  0x20000000U

/* RFC 1122 3.2.2, RFC 4443 2.3: the checksum covers the whole message; a device's word for it is
 * not taken, as few look at ICMP */
enum drop icmp_parse(struct cursor *c, const struct ip_packet *packet, struct icmp_header *header)
{
	const uint8_t *at = c->at;
	uint32_t length = cursor_left(c);

	if (length < ICMP_HEADER_BYTES)
		return DROP_ICMP_BAD;
	uint64_t sum = checksum_partial(at, length);
	if (packet->protocol == IP_ICMPV6)
		sum += checksum_pseudo(&packet->from, &packet->to, IP_ICMPV6, length);
	if (sum == 0 || !checksum_good(sum))
		return DROP_ICMP_BAD;
	header->type = at[0];
	header->code = at[1];
	header->rest = load32(at + 4);
	cursor_skip(c, ICMP_HEADER_BYTES);
	return DROP_NONE;
}

/* No other extension header is ours. */
static bool quote_fragment(struct cursor *c, struct icmp_quote *quote)
{
	if (quote->protocol != IP_FRAGMENT)
		return true;
	const uint8_t *at = cursor_take(c, IPV6_FRAGMENT_BYTES);
	if (!at || load16(at + 2) & 0xfff8)
		return false;
	quote->protocol = at[0];
	return true;
}

/* The internet header of a quote.  Its checksum and total length may have been changed on the way:
 * they are not looked at. */
static bool quote_header(struct cursor *c, bool v6, struct icmp_quote *quote)
{
	const uint8_t *at = cursor_take(c, v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES);

	if (!at || at[0] >> 4 != (v6 ? 6 : 4))
		return false;
	if (v6) {
		quote->protocol = at[6];
		quote->from = ip_from_bytes(at + 8);
		quote->to = ip_from_bytes(at + 24);
		return !ip_is_v4(&quote->from) && !ip_is_v4(&quote->to) && quote_fragment(c, quote);
	}
	uint32_t header_bytes = (at[0] & 15U) * 4;
	/* No fragment but the first has ports. */
	if (header_bytes < IPV4_HEADER_BYTES || load16(at + 6) & IPV4_FRAGMENT_OFFSET)
		return false;
	uint32_t address;
	memcpy(&address, at + 12, sizeof(address));
	quote->from = ip_from_v4(address);
	memcpy(&address, at + 16, sizeof(address));
	quote->to = ip_from_v4(address);
	quote->protocol = at[9];
	cursor_skip(c, header_bytes - IPV4_HEADER_BYTES);
	return true;
}

/* RFC 1122 3.2.2 MUST: an error quotes the internet header and at least 8 octets behind it */
enum drop icmp_quote_parse(struct cursor *c, bool v6, struct icmp_quote *quote)
{
	if (!quote_header(c, v6, quote))
		return DROP_ICMP_BAD;
	const uint8_t *at = cursor_take(c, 8);
	if (!at)
		return DROP_ICMP_BAD;
	bool has_ports = quote->protocol == IP_TCP || quote->protocol == IP_UDP;
	quote->source_port = has_ports ? load16(at) : 0;
	quote->destination_port = has_ports ? load16(at + 2) : 0;
	quote->seq = quote->protocol == IP_TCP ? load32(at + 4) : 0;
	return DROP_NONE;
}

void icmp_write(uint8_t *at, const struct icmp_header *header, uint32_t length,
		const struct ip_address *from, const struct ip_address *to)
{
	at[0] = header->type;
	at[1] = header->code;
	store16(at + 2, 0);
	store32(at + 4, header->rest);
	uint64_t sum = checksum_partial(at, length);
	if (from)
		sum += checksum_pseudo(from, to, IP_ICMPV6, length);
	uint16_t checksum = checksum_finish(sum);
	memcpy(at + 2, &checksum, sizeof(checksum));
}

/* RFC 4861 7.1.1, 7.1.2 MUST: options have a length above 0; those that are not known are ignored
 */
static bool nd_options(struct cursor *c, uint8_t wanted, struct nd_message *message)
{
	while (cursor_left(c)) {
		uint8_t type = cursor_u8(c);
		uint32_t bytes = cursor_u8(c) * (uint32_t)ND_OPTION_BYTES;

		if (bytes == 0)
			return false;
		struct cursor option = cursor_sub(c, bytes - 2);
		if (option.bad)
			return false;
		if (type == ND_NONCE && bytes == ND_OPTION_BYTES) {
			cursor_bytes(&option, message->nonce, sizeof(message->nonce));
			message->has_nonce = true;
		}
		if (type != wanted)
			continue;
		cursor_bytes(&option, message->mac, sizeof(message->mac));
		message->has_mac = true;
		if (bytes != ND_OPTION_BYTES || !ether_is_station(message->mac))
			return false;
	}
	return true;
}

/* ff02::1:ff00:0/104 */
static bool is_solicited_node(const struct ip_address *a)
{
	static const uint8_t prefix[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

	return memcmp(a->bytes, prefix, sizeof(prefix)) == 0;
}

/* RFC 4861 7.1.1 MUST: who asks from no address asks a solicited-node address and gives none of its
 * own; RFC 4861 7.1.2 MUST: an advertisement to a group answers no one */
static bool nd_fits(const struct ip_packet *packet, uint8_t type, const struct nd_message *message)
{
	if (type == ICMPV6_NEIGHBOR_ADVERTISEMENT)
		return !message->solicited || !ip_is_multicast(&packet->to);
	return !ip_is_any(&packet->from) || (is_solicited_node(&packet->to) && !message->has_mac);
}

enum drop nd_parse(struct cursor *c, const struct ip_packet *packet,
		   const struct icmp_header *header, struct nd_message *message)
{
	bool advertisement = header->type == ICMPV6_NEIGHBOR_ADVERTISEMENT;

	if (!advertisement && header->type != ICMPV6_NEIGHBOR_SOLICITATION)
		return DROP_ND_BAD;
	/* RFC 4861 7.1.1, 7.1.2 MUST: hop limit 255, code 0, 24 octets or more */
	if (packet->ttl != ND_HOP_LIMIT || header->code != 0)
		return DROP_ND_BAD;
	cursor_bytes(c, message->target.bytes, sizeof(message->target.bytes));
	message->has_mac = false;
	message->has_nonce = false;
	message->router = advertisement && (header->rest & ND_ROUTER);
	message->solicited = advertisement && (header->rest & ND_SOLICITED);
	message->override = advertisement && (header->rest & ND_OVERRIDE);
	if (c->bad || ip_is_multicast(&message->target) || ip_is_v4(&message->target))
		return DROP_ND_BAD;
	if (!nd_options(c, advertisement ? ND_TARGET_LINK_ADDRESS : ND_SOURCE_LINK_ADDRESS,
			message))
		return DROP_ND_BAD;
	return nd_fits(packet, header->type, message) ? DROP_NONE : DROP_ND_BAD;
}

uint32_t nd_write(uint8_t *at, uint8_t type, const struct nd_message *message,
		  const struct ip_address *from, const struct ip_address *to)
{
	bool advertisement = type == ICMPV6_NEIGHBOR_ADVERTISEMENT;
	struct icmp_header header = {.type = type};
	uint32_t length = ICMP_HEADER_BYTES + 16;

	if (advertisement)
		header.rest = (message->router ? ND_ROUTER : 0) |
			      (message->solicited ? ND_SOLICITED : 0) |
			      (message->override ? ND_OVERRIDE : 0);
	memcpy(at + ICMP_HEADER_BYTES, message->target.bytes, 16);
	if (message->has_mac) {
		at[length] = advertisement ? ND_TARGET_LINK_ADDRESS : ND_SOURCE_LINK_ADDRESS;
		at[length + 1] = 1;
		memcpy(at + length + 2, message->mac, 6);
		length += ND_OPTION_BYTES;
	} else if (message->has_nonce) {
		at[length] = ND_NONCE;
		at[length + 1] = 1;
		memcpy(at + length + 2, message->nonce, sizeof(message->nonce));
		length += ND_OPTION_BYTES;
	}
	icmp_write(at, &header, length, from, to);
	return length;
}
