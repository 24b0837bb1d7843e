/* SPDX-License-Identifier: MIT
 * net/ip.c - IPv4 and IPv6 (RFC 791, RFC 8200, RFC 1122 3.2): which packets are for us, which way
 * those of ours go.  We are a host: nothing is forwarded.
 *
 * Routes: what is on a prefix of ours, link-local or a group is on the link; the rest goes to the
 * gateway of its family, configured or a router that told of itself (slaac.c).  Packets to
 * ourselves stand in net->loop until the next poll, without a header of Ethernet, and come in from
 * there: so a program that talks to itself never recurses.
 */
#include "net/group.h"
#include "net/net.h"
#include "net/reassembly.h"
#include "net/siphash.h"
#include "net/wire/ether.h"
#include "net/wire/group.h"
#include "net/wire/icmp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

/* ---- which packets are for us ---- */

bool ip_is_broadcast(const struct net *net, const struct ip_address *address)
{
	uint32_t v4 = address->words[3];

	if (!ip_is_v4(address))
		return false;
	for (uint32_t i = 0; i < net->num_v4; i++) {
		if (v4 == net->v4[i].broadcast)
			return true;
	}
	return v4 == INADDR_BROADCAST;
}

bool ip_is_group(const struct net *net, const struct ip_address *address)
{
	return ip_is_multicast(address) || ip_is_broadcast(net, address);
}

static bool is_ours_v4(const struct net *net, uint32_t v4)
{
	for (uint32_t i = 0; i < net->num_v4; i++) {
		if (v4 == net->v4[i].address)
			return true;
	}
	return false;
}

/* RFC 1122 3.2.1.3: no packet comes from a group, a broadcast address, this network's or the
 * loopback; and none of ours comes from the link (row 5 of the attack table: LAND). */
static inline bool bad_source_v4(const struct net *net, const struct ip_packet *packet)
{
	uint32_t from = packet->from.words[3];
	uint8_t first = (uint8_t)from; /* network order */

	if (unlikely(first == 0 || first == 127 || first >= 224))
		return true;
	for (uint32_t i = 0; i < net->num_v4; i++) {
		if (unlikely(from == net->v4[i].address || from == net->v4[i].broadcast))
			return true;
	}
	return false;
}

/* The common case of for_us_v4. */
static inline bool is_first_v4(const struct net *net, const struct ip_packet *packet)
{
	return net->num_v4 > 0 && packet->to.words[3] == net->v4[0].address;
}

/* Sets packet->broadcast if its destination is a group that we are in.  False: it is another
 * host's. */
static __attribute__((noinline)) bool for_us_v4(const struct net *net, struct ip_packet *packet)
{
	if (is_ours_v4(net, packet->to.words[3]))
		return !packet->broadcast; /* RFC 1122 3.3.6 */
	bool group = ip_is_multicast(&packet->to) ? group_has(net, &packet->to)
						  : ip_is_broadcast(net, &packet->to);
	packet->broadcast = group;
	return group;
}

/* RFC 4541 2.1.1: a switch may ask for groups from 0.0.0.0; else the packet is nobody's. */
static __attribute__((noinline)) enum drop odd_source_v4(const struct net *net,
							 struct ip_packet *packet)
{
	if (packet->from.words[3] != 0 || packet->protocol != IP_IGMP)
		return DROP_IP_SOURCE;
	return for_us_v4(net, packet) ? DROP_NONE : DROP_IP_DESTINATION;
}

static const struct ip_address loopback_v6 = {.bytes = {[15] = 1}};

/* Who has an address of ours, too, says so from there (RFC 4861 7.2.4). */
static bool is_advertisement(const struct ip_packet *packet)
{
	return packet->protocol == IP_ICMPV6 && packet->length > 0 &&
	       packet->payload[0] == ICMPV6_NEIGHBOR_ADVERTISEMENT;
}

/* The unspecified address is left to neighbour discovery. */
static bool bad_source_v6(const struct net *net, const struct ip_packet *packet)
{
	const struct ip_address *from = &packet->from;

	return ip_is_multicast(from) || ip_equal(from, &loopback_v6) ||
	       (ip_is_any(from) && packet->protocol != IP_ICMPV6) ||
	       (net_is_local(net, from) && !is_advertisement(packet));
}

/* Is it a group that we are in, or the solicited-node group of an address of ours (RFC
 * 4291 2.7.1)? */
static bool is_our_group(const struct net *net, const struct ip_address *to)
{
	static const struct ip_address solicited = {
		.bytes = {0xff, 0x02, [11] = 1, [12] = 0xff},
	};

	if (group_has(net, to))
		return true;
	if (!ip_same_prefix(to, &solicited, 104))
		return false;
	for (uint32_t i = 0; i < net->num_addresses; i++) {
		const struct ip_address *own = &net->addresses[i].address;
		if (!ip_is_v4(own) && memcmp(own->bytes + 13, to->bytes + 13, 3) == 0)
			return true;
	}
	return false;
}

static bool for_us_v6(const struct net *net, struct ip_packet *packet)
{
	if (net_is_local(net, &packet->to))
		return !packet->broadcast;
	packet->broadcast = packet->to.bytes[0] == 0xff && is_our_group(net, &packet->to);
	return packet->broadcast;
}

/* ---- input ---- */

static void unknown_protocol(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	icmp_protocol_unreachable(net, packet);
	net_drop(net, frame, DROP_IP_PROTOCOL);
}

/* Out of line: the common ones are short without. */
static __attribute__((noinline)) void dispatch_other(struct net *net, struct frame *frame,
						     const struct ip_packet *packet)
{
	switch (packet->protocol) {
	case IP_ICMPV6: /* the parser of IPv6 lets no other protocols through */
		if (!ip_is_v4(&packet->to)) {
			icmpv6_input(net, frame, packet);
			break;
		}
		unknown_protocol(net, frame, packet);
		break;
	case IP_ICMP:
		icmp_input(net, frame, packet);
		break;
	case IP_IGMP:
		igmp_input(net, frame, packet);
		break;
	default:
		unknown_protocol(net, frame, packet);
	}
}

static inline void dispatch(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	if (packet->protocol == IP_UDP)
		udp_input(net, frame, packet);
	else if (packet->protocol != IP_TCP)
		dispatch_other(net, frame, packet);
	else if (likely(!packet->broadcast))
		tcp_input(net, frame, packet);
	else /* RFC 9293 3.9.2.3 MUST-57: silently, if it is to a group */
		net_drop(net, frame, DROP_IP_BROADCAST);
}

/* What of the transport checksum is known already. */
static inline bool is_checked(const struct net *net, const struct frame *frame, uint8_t protocol)
{
	return frame->flags & FRAME_CHECKED && ((protocol == IP_TCP && net->tcp_checksums) ||
						(protocol == IP_UDP && net->udp_checksums));
}

/* Is it to be looked at whose it is? */
static inline bool is_packet(enum drop drop)
{
	return likely(!drop) || drop == DROP_IP_FRAGMENT;
}

/* Not for us, or broken, or a part. */
static __attribute__((noinline)) void unusual(struct net *net, struct frame *frame,
					      const struct ip_packet *packet, enum drop drop)
{
	if (drop == DROP_IP_FRAGMENT)
		reassembly_input(net, frame, packet);
	else
		net_drop(net, frame, drop);
}

void ip_input_v4(struct net *net, struct frame *frame, struct cursor *c, bool broadcast)
{
	struct ip_packet packet;
	enum drop drop = ipv4_parse(c, &packet);

	if (is_packet(drop)) {
		packet.broadcast = broadcast;
		packet.checked = is_checked(net, frame, packet.protocol);
		if (unlikely(bad_source_v4(net, &packet)))
			drop = odd_source_v4(net, &packet);
		else if (unlikely(broadcast || !is_first_v4(net, &packet)) &&
			 !for_us_v4(net, &packet))
			drop = DROP_IP_DESTINATION;
	}
	if (unlikely(drop))
		unusual(net, frame, &packet, drop);
	else if (likely(packet.protocol == IP_TCP && !packet.broadcast))
		tcp_input(net, frame, &packet);
	else
		dispatch(net, frame, &packet);
}

void ip_input_v6(struct net *net, struct frame *frame, struct cursor *c, bool broadcast)
{
	struct ip_packet packet;
	struct ip_problem problem = {.send = false};
	enum drop drop = ipv6_parse(c, &packet, &problem);

	packet.broadcast = broadcast;
	if (is_packet(drop) || problem.send) {
		packet.checked = is_checked(net, frame, packet.protocol);
		if (unlikely(bad_source_v6(net, &packet)))
			drop = DROP_IP_SOURCE;
		else if (unlikely(!for_us_v6(net, &packet)))
			drop = DROP_IP_DESTINATION;
		else if (unlikely(problem.send))
			icmpv6_parameter_problem(net, &packet, &problem);
	}
	if (unlikely(drop))
		unusual(net, frame, &packet, drop);
	else
		dispatch(net, frame, &packet);
}

/* Fragments reach all instances that share the device; what they become is for one of them. */
static bool is_ours_of_several(const struct net *net, const struct ip_packet *packet)
{
	bool ports =
		(packet->protocol == IP_UDP || packet->protocol == IP_TCP) && packet->length >= 4;
	const uint8_t *at = packet->payload;
	const struct netdev_flow flow = {
		.local = &packet->to,
		.remote = &packet->from,
		.local_port = ports ? load16(at + 2) : 0,
		.remote_port = ports ? load16(at) : 0,
	};

	return packet->broadcast || net_is_answered(net, &flow);
}

/* A packet whose source and destination are right: of ours to ourselves, or of fragments that were
 * looked at. */
static void input_again(struct net *net, struct frame *frame, bool reassembled, bool broadcast)
{
	struct cursor c = cursor_over(frame->data, frame->length);
	struct ip_packet packet;
	struct ip_problem problem = {.send = false};
	bool v4 = frame->data[0] >> 4 == 4;
	enum drop drop = v4 ? ipv4_parse(&c, &packet) : ipv6_parse(&c, &packet, &problem);

	packet.broadcast = broadcast;
	packet.checked = frame->flags & FRAME_CHECKED;
	if (reassembled)
		packet.fragmented = true;
	else if (likely(!drop))
		packet.broadcast = ip_is_group(net, &packet.to);
	if (!drop && reassembled && !is_ours_of_several(net, &packet))
		drop = DROP_IP_INSTANCE;
	if (unlikely(problem.send))
		icmpv6_parameter_problem(net, &packet, &problem);
	if (unlikely(drop))
		net_drop(net, frame, drop);
	else
		dispatch(net, frame, &packet);
}

void ip_input_reassembled(struct net *net, struct frame *frame, bool broadcast)
{
	input_again(net, frame, true, broadcast);
}

uint32_t ip_input_looped(struct net *net)
{
	struct frame *frame = net->loop_head;
	uint32_t count = net->loop_count;

	/* What the answers loop back waits for the next poll. */
	net->loop_head = NULL;
	net->loop_count = 0;
	for (struct frame *next; frame; frame = next) {
		next = frame->next;
		frame->next = NULL;
		input_again(net, frame, false, false);
	}
	return count;
}

/* ---- output ---- */

/* Returns the Ethernet type that it makes. */
static inline __attribute__((always_inline)) uint16_t prepend(struct frame *frame,
							      const struct ip_send *send)
{
	uint32_t length = frame_bytes(frame);

	if (likely(ip_is_v4(send->to))) {
		ipv4_write(frame_prepend(frame, IPV4_HEADER_BYTES), send->from, send->to,
			   send->protocol, send->ttl, send->tos, length);
		if (unlikely(send->fragment))
			ipv4_write_fragment(frame->data, send->fragment, (uint16_t)send->id);
		frame->transport_offset += IPV4_HEADER_BYTES;
		return ETHER_IPV4;
	}
	ipv6_write(frame_prepend(frame, IPV6_HEADER_BYTES), send->from, send->to, send->protocol,
		   send->ttl, send->tos, length, send->flow_label);
	frame->transport_offset += IPV6_HEADER_BYTES;
	return ETHER_IPV6;
}

void ip_prepend(struct frame *frame, const struct ip_send *send)
{
	(void)prepend(frame, send);
}

static inline uint16_t ether_type(const struct ip_address *to)
{
	return ip_is_v4(to) ? ETHER_IPV4 : ETHER_IPV6;
}

/* A copy in one piece: what its receiver keeps must not be the sender's memory.  NULL: no memory.
 */
static struct frame *copy_of(struct net *net, const struct frame *frame)
{
	struct frame *whole = frame_alloc_tx(net->heap, frame_bytes(frame));

	if (!whole) {
		net_count_drop(net, DROP_TX_MEMORY);
		return NULL;
	}
	whole->flags = frame->flags;
	memcpy(whole->data, frame->data, frame->length);
	whole->length = frame->length;
	for (uint32_t i = 0; i < frame->num_segments; i++) {
		const struct iovec *piece = &frame->segments[i];
		memcpy(whole->data + whole->length, piece->iov_base, piece->iov_len);
		whole->length += (uint32_t)piece->iov_len;
	}
	return whole;
}

/* The frame, which is in one piece, has its IP header. */
static void loop_append(struct net *net, struct frame *frame)
{
	/* A checksum that was left to the device is nobody's to make or to verify. */
	frame->flags = frame->flags & FRAME_CHECKSUM ? FRAME_CHECKED : 0;
	frame->next = NULL;
	if (net->loop_head)
		net->loop_last->next = frame;
	else
		net->loop_head = frame;
	net->loop_last = frame;
	net->loop_count++;
}

static bool loop_is_full(struct net *net)
{
	if (likely(net->loop_count < NET_LOOP_MAX))
		return false;
	net_count_drop(net, DROP_TX_FULL);
	return true;
}

static void loop_back(struct net *net, struct frame *frame)
{
	bool full = loop_is_full(net);

	if (full || frame->num_segments > 0) {
		struct frame *whole = full ? NULL : copy_of(net, frame);
		frame_free(net->heap, frame);
		frame = whole;
	}
	if (frame)
		loop_append(net, frame);
}

void ip_loop_copy(struct net *net, const struct frame *frame, const struct ip_send *send)
{
	struct frame *copy = loop_is_full(net) ? NULL : copy_of(net, frame);

	if (!copy)
		return;
	ip_prepend(copy, send);
	loop_append(net, copy);
}

/* RFC 1122 3.2.1.3(g) MUST NOT: nothing with a loopback address leaves a host. */
static bool never_leaves(const struct ip_address *to)
{
	return ip_is_any(to) || (ip_is_v4(to) ? to->bytes[12] == 127 : ip_equal(to, &loopback_v6));
}

/* The next hop; NULL: no route. */
static const struct ip_address *next_hop(const struct net *net, const struct ip_address *to)
{
	bool v4 = ip_is_v4(to);

	if (never_leaves(to))
		return NULL;
	if (!v4 && ip_is_link_local(to))
		return to;
	for (uint32_t i = 0; i < net->num_known; i++) {
		const struct net_interface_address *own = &net->addresses[i];
		if (ip_is_v4(&own->address) == v4 &&
		    ip_same_prefix(&own->address, to, own->on_link))
			return to;
	}
	if (!v4 && slaac_on_link(net, to))
		return to;
	const struct ip_address *gateway = &net->gateway[!v4];
	return ip_is_any(gateway) ? NULL : gateway;
}

bool ip_has_route(const struct net *net, const struct ip_address *to)
{
	return net_is_local(net, to) || ip_is_group(net, to) || next_hop(net, to);
}

/* RFC 6437 3: a label for each flow that nobody can guess. */
static uint32_t flow_label(const struct net *net, const struct frame *frame,
			   const struct ip_send *send)
{
	struct {
		struct ip_address from;
		struct ip_address to;
		uint8_t ports[4];
		uint8_t protocol[4];
	} flow = {*send->from, *send->to, {0}, {send->protocol}};

	if (ip_is_v4(send->to))
		return 0;
	if (send->protocol != IP_FRAGMENT)
		memcpy(flow.ports, frame->data, frame->length < 4 ? frame->length : 4);
	return (uint32_t)siphash_2_4(net->secret, &flow, sizeof(flow)) & 0xfffff;
}

static __attribute__((noinline)) int output_new_path(struct net *net, struct frame *frame,
						     struct ip_send *send, struct ip_path *path)
{
	if (unlikely(net->own.guarded) && !ip_is_any(send->from) &&
	    !net_is_local(net, send->from)) {
		net_count_drop(net, DROP_ADDRESS_UNUSED);
		frame_free(net->heap, frame);
		return -EADDRNOTAVAIL;
	}
	if (net_is_local(net, send->to)) {
		ip_prepend(frame, send);
		loop_back(net, frame);
		return 0;
	}
	if (ip_is_group(net, send->to)) {
		uint8_t mac[6];
		group_mac(send->to, mac);
		ip_prepend(frame, send);
		ether_output(net, frame, mac, ether_type(send->to));
		return 0;
	}
	const struct ip_address *hop = next_hop(net, send->to);
	if (unlikely(!hop)) {
		net_count_drop(net, DROP_NO_ROUTE);
		frame_free(net->heap, frame);
		return -ENETUNREACH;
	}
	struct neighbour *neighbour = neighbour_get(net, hop);
	if (unlikely(!neighbour)) {
		net_count_drop(net, DROP_NEIGHBOUR_FAILED);
		frame_free(net->heap, frame);
		return -EHOSTUNREACH;
	}
	if (path) {
		path->neighbour = neighbour;
		path->generation = neighbour->generation;
		path->flow_label = flow_label(net, frame, send);
		send->flow_label = path->flow_label;
	}
	ip_prepend(frame, send);
	return neighbour_output(net, neighbour, frame, ether_type(send->to));
}

int ip_output_fragment(struct net *net, struct frame *frame, struct ip_send *send)
{
	send->flow_label = flow_label(net, frame, send);
	return output_new_path(net, frame, send, NULL);
}

/* NOLINTNEXTLINE(readability-function-size): an IP header has that many things to say */
int ip_output(struct net *net, struct frame *frame, const struct ip_address *from,
	      const struct ip_address *to, uint8_t protocol, uint8_t ttl, uint8_t tos,
	      struct ip_path *path)
{
	struct ip_send send = {
		.from = from, .to = to, .protocol = protocol, .ttl = ttl, .tos = tos};
	struct neighbour *neighbour = path ? path->neighbour : NULL;

	if (unlikely(!neighbour || neighbour->generation != path->generation))
		return output_new_path(net, frame, &send, path);
	send.flow_label = path->flow_label;
	uint16_t type = prepend(frame, &send);
	if (unlikely(!neighbour->usable))
		return neighbour_output(net, neighbour, frame, type);
	neighbour->used_ns = net->sched->now_ns;
	ether_output(net, frame, neighbour->mac, type);
	return 0;
}
