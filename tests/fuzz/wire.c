/* SPDX-License-Identifier: MIT
 * tests/fuzz/wire.c - any bytes into each parser of net/wire: an answer within the bytes given,
 * values in their ranges, and what was accepted is the same when it is written and parsed again.
 *
 * The first byte chooses the parser, the second: 1: the checksum is made right first, 2: the device
 * has checked it.  The rest is the packet.
 */
#include "net/wire/ether.h"
#include "net/wire/group.h"
#include "net/wire/icmp.h"
#include "net/wire/router.h"
#include "net/wire/tcp.h"
#include "net/wire/udp.h"
#include "support/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONGEST 2048U

enum option { OPTION_FIX = 1, OPTION_CHECKED = 2 };

/* What a parser is given. */
struct input {
	uint8_t *at; /* length bytes and no more */
	uint32_t length;
	bool fix;
	bool checked;
};

static void require(bool condition)
{
	if (!condition)
		abort();
}

static void require_within(const struct cursor *c, const struct input *in)
{
	require(c->at >= in->at && c->at <= c->end && c->end <= in->at + in->length);
}

/* A packet whose payload is the input. */
static struct ip_packet packet_of(const struct input *in, bool v6, uint8_t protocol)
{
	struct ip_packet packet = {
		.length = in->length,
		.payload = in->at,
		.protocol = protocol,
		.ttl = 255,
		.checked = in->checked,
	};

	packet.from = v6 ? (struct ip_address){.bytes = {0xfe, 0x80, 9}} : ip_from_v4(0x0100000a);
	packet.to = v6 ? (struct ip_address){.bytes = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff}}
		       : ip_from_v4(0x0200000a);
	return packet;
}

/* ---- ether ---- */

static void fuzz_ether(struct input *in)
{
	struct cursor c = cursor_over(in->at, in->length);
	struct ether_header header;
	uint8_t again[ETHER_HEADER_BYTES];

	if (ether_parse(&c, &header))
		return;
	require_within(&c, in);
	ether_write(again, header.to, header.from, header.type);
	require(memcmp(again, in->at, sizeof(again)) == 0);
}

static void fuzz_arp(struct input *in)
{
	struct cursor c = cursor_over(in->at, in->length);
	struct arp arp;
	uint8_t again[ARP_BYTES];

	if (arp_parse(&c, &arp))
		return;
	require_within(&c, in);
	require(ether_is_station(arp.sender_mac));
	arp_write(again, &arp);
	require(memcmp(again, in->at, sizeof(again)) == 0);
}

/* ---- ip ---- */

static void require_packet(const struct ip_packet *packet, const struct input *in,
			   const struct cursor *c)
{
	require_within(c, in);
	require(packet->header == in->at);
	require(packet->payload == packet->header + packet->header_bytes);
	require(packet->header_bytes + packet->length <= in->length);
	require(c->at == packet->payload && c->end == packet->payload + packet->length);
}

static bool same_packet(const struct ip_packet *a, const struct ip_packet *b)
{
	return ip_equal(&a->from, &b->from) && ip_equal(&a->to, &b->to) && a->length == b->length &&
	       a->protocol == b->protocol && a->ttl == b->ttl && a->tos == b->tos;
}

static void fuzz_ipv4(struct input *in)
{
	uint32_t header_bytes = in->length ? (in->at[0] & 15U) * 4 : 0;
	struct cursor c = cursor_over(in->at, in->length);
	struct ip_packet packet;
	struct ip_packet parsed;
	uint8_t again[IPV4_HEADER_BYTES + LONGEST];

	if (in->fix && header_bytes >= IPV4_HEADER_BYTES && header_bytes <= in->length)
		bytes_fix(in->at, header_bytes, 10, 0);
	if (ipv4_parse(&c, &packet))
		return;
	require_packet(&packet, in, &c);
	require(bytes_fold(bytes_sum(in->at, packet.header_bytes)) == 0xffff);
	ipv4_write(again, &packet.from, &packet.to, packet.protocol, packet.ttl, packet.tos,
		   packet.length);
	struct cursor second = cursor_over(again, sizeof(again));
	require(!ipv4_parse(&second, &parsed));
	require(same_packet(&packet, &parsed));
}

static void fuzz_ipv6(struct input *in)
{
	struct cursor c = cursor_over(in->at, in->length);
	struct ip_packet packet;
	struct ip_packet parsed;
	struct ip_problem problem;
	uint8_t again[IPV6_HEADER_BYTES + LONGEST];

	enum drop drop = ipv6_parse(&c, &packet, &problem);
	if (problem.send)
		require(drop && problem.pointer < in->length &&
			problem.code <= IP_PROBLEM_FIRST_FRAGMENT);
	if (drop)
		return;
	require_packet(&packet, in, &c);
	ipv6_write(again, &packet.from, &packet.to, packet.protocol, packet.ttl, packet.tos,
		   packet.length, 0);
	struct cursor second = cursor_over(again, sizeof(again));
	require(!ipv6_parse(&second, &parsed, &problem));
	require(same_packet(&packet, &parsed));
}

/* ---- transports ---- */

static bool good_sum(const struct ip_packet *packet, const uint8_t *at, uint32_t length)
{
	uint64_t pseudo = bytes_pseudo(&packet->from, &packet->to, packet->protocol, length);

	return bytes_fold(pseudo + bytes_sum(at, length)) == 0xffff;
}

static void fuzz_udp(struct input *in, bool v6)
{
	struct ip_packet packet = packet_of(in, v6, IP_UDP);
	struct cursor c = cursor_over(in->at, in->length);
	struct udp_header header;
	uint8_t again[UDP_HEADER_BYTES];

	if (in->fix && in->length >= UDP_HEADER_BYTES && load16(in->at + 4) == in->length)
		bytes_transport(&packet, in->at, UDP_CHECKSUM_OFFSET);
	if (udp_parse(&c, &packet, &header))
		return;
	require_within(&c, in);
	bool summed = load16(in->at + UDP_CHECKSUM_OFFSET) != 0;
	require(summed || !v6);
	require(in->checked || !summed || good_sum(&packet, in->at, header.length));
	require(c.at == in->at + UDP_HEADER_BYTES && c.end == in->at + header.length);
	udp_write(again, &header);
	require(memcmp(again, in->at, UDP_CHECKSUM_OFFSET) == 0);
}

static bool same_options(const struct tcp_options *a, const struct tcp_options *b)
{
	if (a->has != b->has || a->num_sack != b->num_sack)
		return false;
	if (a->has & TCP_HAS_MSS && a->mss != b->mss)
		return false;
	if (a->has & TCP_HAS_WSCALE && a->wscale != b->wscale)
		return false;
	if (a->has & TCP_HAS_TIMESTAMP && (a->ts_value != b->ts_value || a->ts_echo != b->ts_echo))
		return false;
	return memcmp(a->sack, b->sack, a->num_sack * sizeof(a->sack[0])) == 0;
}

static void require_options(const struct tcp_header *header)
{
	const struct tcp_options *options = &header->options;

	require(options->num_sack <= TCP_SACK_BLOCKS_MAX);
	require(!(options->has & TCP_HAS_SACK) == !options->num_sack);
	for (uint32_t i = 0; i < options->num_sack; i++)
		require((int32_t)(options->sack[i].end - options->sack[i].start) > 0);
	if (options->has & TCP_HAS_WSCALE)
		require(options->wscale <= TCP_WINDOW_SCALE_MAX);
	if (!(header->flags & TCP_SYN))
		require(!(options->has & ~(TCP_HAS_SACK | TCP_HAS_TIMESTAMP)));
}

static void fuzz_tcp(struct input *in, bool v6)
{
	struct ip_packet packet = packet_of(in, v6, IP_TCP);
	struct cursor c = cursor_over(in->at, in->length);
	struct tcp_header header;
	struct tcp_header parsed;
	uint8_t again[TCP_HEADER_BYTES + TCP_OPTIONS_MAX];

	if (in->fix && in->length >= TCP_HEADER_BYTES)
		bytes_transport(&packet, in->at, TCP_CHECKSUM_OFFSET);
	if (tcp_parse(&c, &packet, &header))
		return;
	require_within(&c, in);
	require(c.end == in->at + in->length && c.at >= in->at + TCP_HEADER_BYTES);
	require(in->checked || good_sum(&packet, in->at, in->length));
	require_options(&header);
	uint32_t bytes = tcp_write(again, &header);
	require(bytes == tcp_header_bytes(&header.options) && bytes <= sizeof(again));
	struct cursor second = cursor_over(again, bytes);
	packet.checked = true;
	require(!tcp_parse(&second, &packet, &parsed) && cursor_left(&second) == 0);
	require(header.source == parsed.source && header.destination == parsed.destination &&
		header.seq == parsed.seq && header.ack == parsed.ack &&
		header.window == parsed.window && header.flags == parsed.flags);
	require(same_options(&header.options, &parsed.options));
}

/* ---- icmp ---- */

static void fuzz_nd(struct cursor *c, struct ip_packet *packet, const struct icmp_header *header)
{
	struct nd_message message;
	struct nd_message parsed;
	struct icmp_header second_header;
	uint8_t again[ND_MESSAGE_BYTES];

	if (nd_parse(c, packet, header, &message))
		return;
	require(!ip_is_multicast(&message.target));
	require(!message.has_mac || ether_is_station(message.mac));
	packet->length = nd_write(again, header->type, &message, &packet->from, &packet->to);
	struct cursor second = cursor_over(again, packet->length);
	require(!icmp_parse(&second, packet, &second_header));
	require(!nd_parse(&second, packet, &second_header, &parsed));
	require(ip_equal(&message.target, &parsed.target) && message.has_mac == parsed.has_mac);
	require(!message.has_mac || memcmp(message.mac, parsed.mac, 6) == 0);
	require(message.router == parsed.router && message.solicited == parsed.solicited &&
		message.override == parsed.override);
}

static void fuzz_router(struct cursor *c, const struct ip_packet *packet,
			const struct icmp_header *header)
{
	struct router_message message;

	if (router_parse(c, packet, header, &message))
		return;
	require(ip_is_link_local(&packet->from) && packet->ttl == 255 && header->code == 0);
	require(!message.has_mac || ether_is_station(message.mac));
	require(message.num_prefixes <= ROUTER_PREFIXES_MAX);
	for (uint32_t i = 0; i < message.num_prefixes; i++) {
		const struct router_prefix *p = &message.prefixes[i];
		require(p->bits <= 128);
		for (uint32_t bit = p->bits; bit < 128; bit++)
			require(!(p->prefix.bytes[bit / 8] & 0x80 >> bit % 8));
	}
}

static void fuzz_icmp(struct input *in, bool v6)
{
	struct ip_packet packet = packet_of(in, v6, v6 ? IP_ICMPV6 : IP_ICMP);
	struct cursor c = cursor_over(in->at, in->length);
	struct icmp_header header;
	uint64_t pseudo = v6 ? bytes_pseudo(&packet.from, &packet.to, IP_ICMPV6, in->length) : 0;

	if (in->fix && in->length >= ICMP_HEADER_BYTES)
		bytes_fix(in->at, in->length, 2, pseudo);
	if (icmp_parse(&c, &packet, &header))
		return;
	require_within(&c, in);
	require(bytes_fold(bytes_sum(in->at, in->length) + pseudo) == 0xffff);
	struct icmp_quote quote;
	struct cursor behind = c;
	if (!icmp_quote_parse(&behind, v6, &quote)) {
		require_within(&behind, in);
		require(quote.protocol == IP_TCP || quote.seq == 0);
	}
	if (v6) {
		behind = c;
		fuzz_nd(&behind, &packet, &header);
		behind = c;
		fuzz_router(&behind, &packet, &header);
	}
	/* Written over itself: a checksum of 0 may have been 0xffff. */
	packet.length = in->length;
	icmp_write(in->at, &header, in->length, v6 ? &packet.from : NULL, v6 ? &packet.to : NULL);
	c = cursor_over(in->at, in->length);
	struct icmp_header parsed;
	require(!icmp_parse(&c, &packet, &parsed));
	require(header.type == parsed.type && header.code == parsed.code &&
		header.rest == parsed.rest);
}

/* ---- group ---- */

/* An IGMP message, or an MLD message, which the second byte says; one with a router alert. */
static void fuzz_group(struct input *in, bool v6)
{
	static const uint8_t alert_v4[24] = {0x46, [20] = 148, 4, 0, 0};
	static const uint8_t alert_v6[48] = {0x60, [40] = 58, 0, 5, 2, 0, 0, 1, 0};
	struct ip_packet packet = packet_of(in, v6, v6 ? IP_ICMPV6 : IP_IGMP);
	struct cursor c = cursor_over(in->at, in->length);
	struct icmp_header header;
	struct group_message message;

	packet.ttl = 1;
	packet.header = v6 ? alert_v6 : alert_v4;
	packet.header_bytes = v6 ? sizeof(alert_v6) : sizeof(alert_v4);
	if (in->fix && in->length >= ICMP_HEADER_BYTES)
		bytes_fix(in->at, in->length, 2,
			  v6 ? bytes_pseudo(&packet.from, &packet.to, IP_ICMPV6, in->length) : 0);
	if (v6 && icmp_parse(&c, &packet, &header))
		return;
	if (v6 ? group_parse_v6(&c, &packet, &header, &message)
	       : group_parse_v4(&c, &packet, &message))
		return;
	uint32_t bytes = message.num_sources * group_address_bytes(!v6);
	require_within(&c, in);
	require(message.version >= (v6 ? GROUP_V2 : GROUP_V1) && message.version <= GROUP_V3);
	require(ip_is_v4(&message.group) != v6);
	require(ip_is_multicast(&message.group) || (message.query && ip_is_any(&message.group)));
	require(message.robustness <= 7 && message.interval_s <= 31744);
	require(message.max_response_ms <= 8387584);
	require(bytes == 0 || (message.version == GROUP_V3 && message.sources >= in->at &&
			       message.sources + bytes <= in->at + in->length));
}

/* ---- checksum ---- */

static void fuzz_checksum(struct input *in)
{
	uint8_t copy[LONGEST];
	uint16_t expected = __builtin_bswap16(bytes_fold(bytes_sum(in->at, in->length)));

	require(checksum_fold(checksum_partial(in->at, in->length)) == expected);
	require(checksum_fold(checksum_short(in->at, in->length)) == expected);
	require(checksum_fold(checksum_copy(copy, in->at, in->length)) == expected);
	require(memcmp(copy, in->at, in->length) == 0);
}

static void fuzz(uint8_t parser, struct input *in)
{
	bool v6 = parser & 1;

	switch (parser % 12) {
	case 0:
		fuzz_ether(in);
		break;
	case 1:
		fuzz_arp(in);
		break;
	case 2:
		fuzz_ipv4(in);
		break;
	case 3:
		fuzz_ipv6(in);
		break;
	case 4:
	case 5:
		fuzz_udp(in, v6);
		break;
	case 6:
	case 7:
		fuzz_tcp(in, v6);
		break;
	case 8:
	case 9:
		fuzz_icmp(in, v6);
		break;
	case 11:
		fuzz_group(in, in->checked);
		break;
	default:
		fuzz_checksum(in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > LONGEST)
		return 0;
	struct input in = {
		.at = bytes_copy(data + 2, (uint32_t)size - 2),
		.length = (uint32_t)size - 2,
		.fix = data[1] & OPTION_FIX,
		.checked = data[1] & OPTION_CHECKED,
	};
	fuzz(data[0], &in);
	free(in.at);
	return 0;
}
