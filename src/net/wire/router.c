/* SPDX-License-Identifier: MIT
 * net/wire/router.c - see router.h.
 */
#include "net/wire/router.h"

#include "net/wire/ether.h"

enum router_option { SOURCE_LINK_ADDRESS = 1, PREFIX_INFORMATION = 3, MTU = 5 };

#define HOP_LIMIT    255 /* it came over no router */
#define OPTION_BYTES 8   /* the unit of an option's length */
#define PREFIX_BYTES 32
#define MTU_BYTES    8
#define ON_LINK      0x80
#define AUTONOMOUS   0x40

/* RFC 4861 4.6.2 MUST: the bits behind the prefix are ignored */
static void clear_behind(struct ip_address *prefix, uint32_t bits)
{
	for (uint32_t i = 0; i < 16; i++) {
		uint32_t kept = bits > i * 8 ? bits - i * 8 : 0;
		if (kept < 8)
			prefix->bytes[i] &= (uint8_t)(0xff00 >> kept);
	}
}

static void parse_prefix(struct cursor *option, struct router_message *message)
{
	if (message->num_prefixes == ROUTER_PREFIXES_MAX)
		return;
	struct router_prefix *p = &message->prefixes[message->num_prefixes];
	p->bits = cursor_u8(option);
	uint8_t flags = cursor_u8(option);
	p->on_link = flags & ON_LINK;
	p->autonomous = flags & AUTONOMOUS;
	p->valid_s = cursor_u32(option);
	p->preferred_s = cursor_u32(option);
	(void)cursor_u32(option); /* reserved */
	cursor_bytes(option, p->prefix.bytes, sizeof(p->prefix.bytes));
	if (p->bits > 128)
		return;
	clear_behind(&p->prefix, p->bits);
	message->num_prefixes++;
}

static void parse_option(struct cursor *option, uint8_t type, uint32_t bytes,
			 struct router_message *message)
{
	if (type == SOURCE_LINK_ADDRESS && bytes == OPTION_BYTES) {
		cursor_bytes(option, message->mac, sizeof(message->mac));
		message->has_mac = ether_is_station(message->mac);
	} else if (type == PREFIX_INFORMATION && bytes == PREFIX_BYTES) {
		parse_prefix(option, message);
	} else if (type == MTU && bytes == MTU_BYTES) {
		(void)cursor_u16(option); /* reserved */
		message->mtu = cursor_u32(option);
	}
}

static int8_t preference_of(uint32_t rest)
{
	static const int8_t preferences[] = {0, 1, 0, -1}; /* RFC 4191 2.2: 10 is taken for 00 */

	return preferences[rest >> 19 & 3];
}

enum drop router_parse(struct cursor *c, const struct ip_packet *packet,
		       const struct icmp_header *header, struct router_message *message)
{
	/* RFC 4861 6.1.2 MUST: hop limit 255, from a link-local address, code 0, 16 octets or more
	 */
	if (packet->ttl != HOP_LIMIT || header->code != 0 || !ip_is_link_local(&packet->from))
		return DROP_ND_BAD;
	*message = (struct router_message){
		.preference = preference_of(header->rest),
		.lifetime_s = (uint16_t)header->rest,
		.reachable_ms = cursor_u32(c),
	};
	message->retrans_ms = cursor_u32(c);
	while (!c->bad && cursor_left(c)) {
		uint8_t type = cursor_u8(c);
		uint32_t bytes = cursor_u8(c) * (uint32_t)OPTION_BYTES;

		/* RFC 4861 6.1.2 MUST: all options have a length above 0 */
		if (bytes == 0)
			return DROP_ND_BAD;
		struct cursor option = cursor_sub(c, bytes - 2);
		if (!option.bad)
			parse_option(&option, type, bytes, message);
		else
			c->bad = true;
	}
	return c->bad ? DROP_ND_BAD : DROP_NONE;
}

uint32_t router_write_solicitation(uint8_t *at, const uint8_t *mac, const struct ip_address *from,
				   const struct ip_address *to)
{
	const struct icmp_header header = {.type = ICMPV6_ROUTER_SOLICITATION};
	uint32_t length = ICMP_HEADER_BYTES;

	if (mac) {
		at[length] = SOURCE_LINK_ADDRESS;
		at[length + 1] = 1;
		memcpy(at + length + 2, mac, 6);
		length += OPTION_BYTES;
	}
	icmp_write(at, &header, length, from, to);
	return length;
}
