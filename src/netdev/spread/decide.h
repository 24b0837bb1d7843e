/* SPDX-License-Identifier: MIT
 * netdev/spread/decide.h - whether a frame is ours, and in which slot of its target it belongs.
 *
 * One text for two: the XDP program, where the verifier proves that no access leaves the frame, and
 * tests and fuzzers in user space.  So it includes nothing of libc and keeps to what the verifier
 * takes from a process without CAP_PERFMON: frames are read directly at constant offsets only,
 * behind a comparison with their end, and by steer_load elsewhere.  Whoever includes it defines, by
 * STEER_HOOK, steer_load, and steer_find_address and steer_find_port, look-ups in its own tables.
 *
 * A frame is ours by its destination address.  There are four exceptions:
 * - ARP is for whoever has the target protocol address, and neighbour discovery to a group for
 *   whoever has the target address: many hosts listen to one group (RFC 4861 4.3, 4.4);
 * - to an address that we share with the kernel, a TCP or UDP packet is ours by its port, but no
 *   fragment, for only the first has ports;
 * - so is an ICMP error that quotes a packet from one of our ports (RFC 792, RFC 4443 2.4);
 * - and an ARP reply to 0.0.0.0, under which we ask if our address is shared.
 * What is too short or malformed for a rule is the kernel's, unless its destination is ours.
 */
#pragma once

#include "netdev/spread/tables.h"

#include <stdbool.h>
#include <stddef.h>

#define STEER_HOOK    inline __attribute__((always_inline))
#define STEER_ALIGNED __attribute__((aligned(8)))

struct steer_bytes {
	const uint8_t *at;
	const uint8_t *end;
	void *frame; /* of steer_load */
};

/* Copies bytes of the frame.  False: it does not have them. */
bool steer_load(const struct steer_bytes *bytes, uint64_t offset, void *to, uint32_t length);
/* Entries of the tables. */
uint64_t steer_find_address(const struct steer_key *address);
uint64_t steer_find_port(uint64_t protocol, uint64_t port);

enum {
	STEER_TYPE_V4 = 0x0800,
	STEER_TYPE_ARP = 0x0806,
	STEER_TYPE_V6 = 0x86dd,
	STEER_TYPE_TAG = 0x8100,     /* 802.1Q */
	STEER_TYPE_SERVICE = 0x88a8, /* 802.1ad */

	STEER_HOPS = 0, /* extension headers of IPv6 */
	STEER_ROUTING = 43,
	STEER_FRAGMENT = 44,
	STEER_DESTINATION = 60,
	STEER_ICMP = 1,
	STEER_TCP = 6,
	STEER_UDP = 17,
	STEER_ICMP6 = 58,
	STEER_NOTHING = 59,       /* no transport header, or it is not known where */
	STEER_SOLICITATION = 135, /* messages of ICMPv6 */
	STEER_ADVERTISEMENT = 136,

	STEER_EXTENSIONS = 4, /* as many are passed over on the way to a port */
};

/* A packet, as far as its decision needs it.  All fields fill words: Linux before 6.8 takes no
 * write to a part of a word of the stack from a process without CAP_PERFMON. */
struct steer_packet {
	struct steer_key source;
	struct steer_key destination;
	uint64_t transport; /* offset in the frame */
	uint64_t protocol;  /* STEER_NOTHING for a fragment too: only the first has ports */
	uint64_t v6;
};

/* ---- fields ---- */

STEER_INLINE uint16_t steer_get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* As it stands in memory, in one access: its alignment does not matter to the machines. */
STEER_INLINE uint32_t steer_copy32(const uint8_t *at)
{
#ifdef __bpf__
	return *(const uint32_t *)at;
#else
	uint32_t value;

	__builtin_memcpy(&value, at, sizeof(value));
	return value;
#endif
}

STEER_INLINE uint64_t steer_copy64(const uint8_t *at)
{
#ifdef __bpf__
	return *(const uint64_t *)at;
#else
	uint64_t value;

	__builtin_memcpy(&value, at, sizeof(value));
	return value;
#endif
}

/* At 4 bytes of an IPv4 address. */
STEER_INLINE void steer_key_v4(struct steer_key *key, const uint8_t *at)
{
	key->pair[0] = 0;
	key->pair[1] = (uint64_t)steer_copy32(at) << 32 | __builtin_bswap32(0x0000ffffU);
}

STEER_INLINE void steer_key_v6(struct steer_key *key, const uint8_t *at)
{
	key->pair[0] = steer_copy64(at);
	key->pair[1] = steer_copy64(at + 8);
}

STEER_INLINE uint64_t steer_find_whole(const struct steer_key *address)
{
	uint64_t entry = steer_find_address(address);

	return entry == STEER_SHARED ? STEER_KERNEL : entry;
}

/* ---- packets ---- */

/* header: 20 bytes at that offset. */
STEER_INLINE bool steer_parse_v4(struct steer_packet *packet, const uint8_t *header,
				 uint64_t offset)
{
	uint32_t length = (header[0] & 15U) * 4;
	bool fragment = (steer_get16(header + 6) & 0x3fff) != 0;

	steer_key_v4(&packet->source, header + 12);
	steer_key_v4(&packet->destination, header + 16);
	packet->transport = offset + length;
	packet->protocol = fragment || length < 20 ? STEER_NOTHING : header[9];
	packet->v6 = false;
	return header[0] >> 4 == 4;
}

/* header: 40 bytes at that offset. */
STEER_INLINE bool steer_parse_v6(struct steer_packet *packet, const uint8_t *header,
				 uint64_t offset)
{
	steer_key_v6(&packet->source, header + 8);
	steer_key_v6(&packet->destination, header + 24);
	packet->transport = offset + 40;
	packet->protocol = header[6];
	packet->v6 = true;
	return header[0] >> 4 == 6;
}

/* Passes over one extension header.  False: there is none. */
STEER_INLINE bool steer_skip_extension(struct steer_packet *packet, const struct steer_bytes *bytes)
{
	uint8_t header[8] STEER_ALIGNED;
	uint64_t type = packet->protocol;

	if (type != STEER_HOPS && type != STEER_ROUTING && type != STEER_FRAGMENT &&
	    type != STEER_DESTINATION)
		return false;
	packet->protocol = STEER_NOTHING;
	if (!steer_load(bytes, packet->transport, header, sizeof(header)))
		return false;
	/* A fragment that is the whole packet is none (RFC 6946). */
	if (type == STEER_FRAGMENT && (steer_get16(header + 2) & 0xfff9) != 0)
		return false;
	packet->transport += type == STEER_FRAGMENT ? 8 : (header[1] + 1U) * 8;
	packet->protocol = header[0];
	return true;
}

STEER_INLINE void steer_skip_extensions(struct steer_packet *packet,
					const struct steer_bytes *bytes)
{
	for (int i = 0; i < STEER_EXTENSIONS; i++) {
		if (!steer_skip_extension(packet, bytes))
			return;
	}
}

/* ---- flows ---- */

/* ours: which end of the packet is this one: 1, or 0 of a quoted packet. */
STEER_INLINE void steer_flow_of(struct steer_flow *flow, const struct steer_packet *packet,
				const struct steer_bytes *bytes, uint64_t ours)
{
	uint8_t header[4] STEER_ALIGNED;
	bool ports = (packet->protocol == STEER_TCP || packet->protocol == STEER_UDP) &&
		     steer_load(bytes, packet->transport, header, sizeof(header));

	flow->address[0] = packet->source;
	flow->address[1] = packet->destination;
	flow->port[0] = ports ? steer_get16(header) : 0;
	flow->port[1] = ports ? steer_get16(header + 2) : 0;
	flow->protocol = ports ? packet->protocol : STEER_NOTHING;
	flow->ours = ours;
}

/* The packet that an error message is about, which we sent.  False: it is none. */
STEER_INLINE bool steer_quoted(struct steer_packet *quoted, const struct steer_packet *packet,
			       const struct steer_bytes *bytes)
{
	uint64_t offset = packet->transport + 8;
	uint8_t header[40] STEER_ALIGNED;

	if (packet->protocol != (packet->v6 ? STEER_ICMP6 : STEER_ICMP) ||
	    !steer_load(bytes, packet->transport, header, 1))
		return false;
	uint8_t type = header[0];

	if (packet->v6)
		return type >= 1 && type <= 4 && steer_load(bytes, offset, header, 40) &&
		       steer_parse_v6(quoted, header, offset);
	return (type == 3 || type == 11 || type == 12) && steer_load(bytes, offset, header, 20) &&
	       steer_parse_v4(quoted, header, offset);
}

/* The flow that a packet belongs to: an error to the one that it is about. */
STEER_INLINE void steer_flow_find(struct steer_flow *flow, struct steer_packet *packet,
				  const struct steer_bytes *bytes)
{
	struct steer_packet quoted;

	if (packet->v6)
		steer_skip_extensions(packet, bytes);
	if (steer_quoted(&quoted, packet, bytes))
		steer_flow_of(flow, &quoted, bytes, 0);
	else
		steer_flow_of(flow, packet, bytes, 1);
}

/* ---- decisions ---- */

STEER_INLINE uint64_t steer_arp(struct steer_flow *flow, const struct steer_bytes *bytes,
				uint32_t offset)
{
	const uint8_t *at = bytes->at + offset;

	/* hardware 1, protocol 0x0800, lengths 6 and 4 */
	if (at + 28 > bytes->end || steer_get16(at) != 1 || steer_get16(at + 2) != STEER_TYPE_V4 ||
	    steer_get16(at + 4) != 0x0604)
		return STEER_KERNEL;
	bool any = (at[24] | at[25] | at[26] | at[27]) == 0;

	if (any && steer_get16(at + 6) != 2)
		return STEER_KERNEL;
	steer_key_v4(&flow->address[0], at + 14);
	steer_key_v4(&flow->address[1], at + 24);
	return steer_find_whole(&flow->address[1]);
}

STEER_INLINE uint64_t steer_ip(struct steer_flow *flow, struct steer_packet *packet,
			       const struct steer_bytes *bytes)
{
	uint64_t entry = steer_find_address(&packet->destination);

	if (!(entry & (STEER_SHARED | STEER_BY_HASH)))
		return entry;
	steer_flow_find(flow, packet, bytes);
	if (entry != STEER_SHARED)
		return entry;
	if (flow->protocol == STEER_NOTHING)
		return STEER_KERNEL;
	return steer_find_port(flow->protocol, flow->port[flow->ours]);
}

STEER_INLINE uint64_t steer_v4(struct steer_flow *flow, const struct steer_bytes *bytes,
			       uint32_t offset)
{
	const uint8_t *at = bytes->at + offset;
	struct steer_packet packet;

	if (at + 20 > bytes->end || !steer_parse_v4(&packet, at, offset))
		return STEER_KERNEL;
	return steer_ip(flow, &packet, bytes);
}

STEER_INLINE bool steer_is_group(const struct steer_key *address)
{
	return (address->pair[0] & 0xff) == 0xff; /* its first byte */
}

/* Is it a neighbour solicitation or advertisement to a group?  Its type, or 0. */
STEER_INLINE uint8_t steer_discovery(struct steer_flow *flow, const struct steer_packet *packet,
				     const struct steer_bytes *bytes)
{
	uint8_t message[24] STEER_ALIGNED; /* the target is behind 8 bytes */

	if (packet->protocol != STEER_ICMP6 || !steer_is_group(&packet->destination) ||
	    !steer_load(bytes, packet->transport, message, sizeof(message)) ||
	    (message[0] != STEER_SOLICITATION && message[0] != STEER_ADVERTISEMENT))
		return 0;
	flow->address[0] = packet->source;
	steer_key_v6(&flow->address[1], message + 8);
	return message[0];
}

STEER_INLINE uint64_t steer_v6(struct steer_flow *flow, const struct steer_bytes *bytes,
			       uint32_t offset)
{
	const uint8_t *at = bytes->at + offset;
	struct steer_packet packet;

	if (at + 40 > bytes->end || !steer_parse_v6(&packet, at, offset))
		return STEER_KERNEL;
	uint8_t discovery = steer_discovery(flow, &packet, bytes);
	if (discovery) {
		uint64_t entry = steer_find_whole(&flow->address[1]);
		/* A question about an address that is not ours is the kernel's, even if we are
		 * in the group; news to all nodes is for those in the group. */
		if (entry || discovery == STEER_SOLICITATION)
			return entry;
	}
	return steer_ip(flow, &packet, bytes);
}

/* By the EtherType before a constant offset. */
STEER_INLINE uint64_t steer_network(struct steer_flow *flow, const struct steer_bytes *bytes,
				    uint32_t offset)
{
	uint16_t type = steer_get16(bytes->at + offset - 2);

	if (type == STEER_TYPE_V4)
		return steer_v4(flow, bytes, offset);
	if (type == STEER_TYPE_V6)
		return steer_v6(flow, bytes, offset);
	return type == STEER_TYPE_ARP ? steer_arp(flow, bytes, offset) : STEER_KERNEL;
}

/* The target of a frame, or STEER_KERNEL.  flow is set as far as the target is by hash. */
STEER_INLINE uint64_t steer_decide(struct steer_flow *flow, const struct steer_bytes *bytes)
{
	const uint8_t *at = bytes->at;

	if (at + 14 > bytes->end)
		return STEER_KERNEL;
	uint16_t type = steer_get16(at + 12);

	if (type != STEER_TYPE_TAG && type != STEER_TYPE_SERVICE)
		return steer_network(flow, bytes, 14);
	return at + 18 > bytes->end ? STEER_KERNEL : steer_network(flow, bytes, 18);
}
