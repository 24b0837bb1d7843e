/* SPDX-License-Identifier: MIT
 * net/nd.c - neighbour discovery (RFC 4861 7.2): solicitations and advertisements.  Redirects are
 * ignored; routers are slaac.c's.
 *
 * Row 11 of the attack table: as in ARP, nothing new is learned from what was not asked for, where
 * RFC 4861 7.2.3 would (SHOULD) make an entry of a solicitation's sender: so nobody fills the table
 * from outside.
 */
#include "net/neighbour.h"

#include "net/net.h"
#include "net/wire/ether.h"
#include "net/wire/icmp.h"

#include <string.h>

#define ND_HOP_LIMIT 255

static const struct ip_address all_nodes = {.bytes = {0xff, 0x02, [15] = 1}};
static const uint8_t all_nodes_mac[6] = {0x33, 0x33, 0, 0, 0, 1};

/* A message of ours: where it goes, by link-layer address too (NULL: to be found). */
struct nd_send {
	const struct ip_address *from;
	const struct ip_address *to;
	const uint8_t *mac;
	uint8_t type;
};

static void transmit(struct net *net, const struct nd_send *send, struct nd_message *message)
{
	const struct ip_send ip = {
		.from = send->from,
		.to = send->to,
		.protocol = IP_ICMPV6,
		.ttl = ND_HOP_LIMIT,
	};
	struct frame *frame = frame_alloc_tx(net->heap, ND_MESSAGE_BYTES);

	if (unlikely(!frame)) {
		net_count_drop(net, DROP_TX_MEMORY);
		return;
	}
	/* RFC 4861 4.3 MUST NOT: no link-layer address with the unspecified source */
	message->has_mac = !ip_is_any(send->from);
	memcpy(message->mac, net->mac, sizeof(message->mac));
	frame->length = nd_write(frame->data, send->type, message, send->from, send->to);
	if (!send->mac) {
		(void)ip_output(net, frame, send->from, send->to, IP_ICMPV6, ND_HOP_LIMIT, 0, NULL);
		return;
	}
	ip_prepend(frame, &ip);
	ether_output(net, frame, send->mac, ETHER_IPV6);
}

/* RFC 4291 2.7.1: the solicited-node group of an address, and its link-layer address */
static struct ip_address group_of(const struct ip_address *target, uint8_t mac[6])
{
	struct ip_address group = {.bytes = {0xff, 0x02, [11] = 1, [12] = 0xff}};
	const uint8_t prefix[3] = {0x33, 0x33, 0xff};

	memcpy(group.bytes + 13, target->bytes + 13, 3);
	memcpy(mac, prefix, sizeof(prefix));
	memcpy(mac + 3, target->bytes + 13, 3);
	return group;
}

static const struct ip_address *link_local(const struct net *net)
{
	for (uint32_t i = 0; i < net->num_addresses; i++) {
		if (ip_is_link_local(&net->addresses[i].address))
			return &net->addresses[i].address;
	}
	return NULL;
}

/* The source of a question to a neighbour; NULL: none may be it yet.  The answer goes there, so it
 * must not be the kernel's too. */
static const struct ip_address *asking_source(const struct net *net,
					      const struct ip_address *target)
{
	const struct ip_address *from =
		net_is_shared(net) ? link_local(net) : net_source_for(net, target);

	for (uint32_t i = 0; from && i < net->num_addresses; i++) {
		const struct net_interface_address *own = &net->addresses[i];
		/* RFC 4429 3.2 MUST NOT: an optimistic address solicits nobody */
		if (ip_equal(&own->address, from) && own->state == OWN_OPTIMISTIC)
			return NULL;
	}
	return from;
}

bool nd_solicit(struct net *net, struct neighbour *neighbour, bool unicast)
{
	const struct ip_address *target = &neighbour->address;
	uint8_t mac[6];
	const struct ip_address group = group_of(target, mac);
	struct nd_message message = {.target = *target};
	struct nd_send send = {
		.from = asking_source(net, target),
		.to = unicast ? target : &group,
		.mac = unicast ? neighbour->mac : mac,
		.type = ICMPV6_NEIGHBOR_SOLICITATION,
	};

	if (!send.from)
		return false;
	transmit(net, &send, &message);
	return true;
}

void nd_probe(struct net *net, const struct ip_address *address, const uint8_t nonce[6])
{
	static const struct ip_address nobody;
	uint8_t mac[6];
	const struct ip_address group = group_of(address, mac);
	struct nd_message message = {.target = *address, .has_nonce = true};
	/* RFC 4862 5.4.2 MUST: from the unspecified address, to the solicited-node group */
	struct nd_send send = {
		.from = &nobody,
		.to = &group,
		.mac = mac,
		.type = ICMPV6_NEIGHBOR_SOLICITATION,
	};

	memcpy(message.nonce, nonce, sizeof(message.nonce));
	transmit(net, &send, &message);
}

/* ---- solicitations ---- */

static enum drop solicitation(struct net *net, const struct ip_packet *packet,
			      const struct nd_message *asked)
{
	struct nd_message message = {.target = asked->target};
	struct nd_send send = {
		.from = &asked->target,
		.to = &packet->from,
		.mac = asked->has_mac ? asked->mac : NULL,
		.type = ICMPV6_NEIGHBOR_ADVERTISEMENT,
	};

	if (!net_is_local(net, &asked->target))
		return DROP_ND_UNASKED;
	struct own_address *own = own_find(net, &asked->target);
	bool optimistic = own->state == OWN_OPTIMISTIC;
	if (optimistic && ip_is_any(&packet->from)) {
		dad_solicited(own, asked);
		return DROP_ADDRESS_CONFLICT;
	}
	/* RFC 4429 3.3 MUST: an optimistic address overrides nobody's entry */
	message.override = !optimistic;
	if (ip_is_any(&packet->from)) {
		/* RFC 4862 5.4.3: somebody would like to have our address: all are told whose it is
		 */
		send.to = &all_nodes;
		send.mac = all_nodes_mac;
	} else {
		struct neighbour *neighbour = neighbour_find(net, &packet->from);
		message.solicited = true;
		if (neighbour && asked->has_mac)
			neighbour_learn(net, neighbour, asked->mac, false);
	}
	transmit(net, &send, &message);
	return DROP_NONE;
}

/* ---- advertisements ---- */

static enum drop conflict(struct net *net, const struct nd_message *message)
{
	struct own_address *own = own_find(net, &message->target);

	if (own->state == OWN_OPTIMISTIC) {
		dad_advertised(own, message);
		return DROP_ADDRESS_CONFLICT;
	}
	log_once(&net->sched->log, &net->sched->log_seen, LOG_LEVEL_WARNING,
		 "another station uses an address of ours (neighbour discovery)");
	return DROP_ADDRESS_CONFLICT;
}

/* RFC 4861 7.2.5 */
static enum drop advertisement(struct net *net, const struct nd_message *message)
{
	struct neighbour *n;
	uint8_t mac[6];

	if (net_is_local(net, &message->target))
		return conflict(net, message);
	n = neighbour_find(net, &message->target);
	if (!n)
		return DROP_ND_UNASKED;
	bool unknown = n->state == NEIGHBOUR_INCOMPLETE || n->state == NEIGHBOUR_FAILED;
	if (!message->has_mac && unknown)
		return DROP_ND_BAD; /* an answer to a group has it */
	bool differs = message->has_mac && memcmp(n->mac, message->mac, sizeof(n->mac)) != 0;
	memcpy(mac, n->mac, sizeof(mac));
	if (!unknown && differs && !message->override) {
		/* The old address stays, to be probed when it is used. */
		if (n->state == NEIGHBOUR_REACHABLE)
			neighbour_doubt(n);
		return DROP_NONE;
	}
	if (message->has_mac)
		memcpy(mac, message->mac, sizeof(mac));
	neighbour_learn(net, n, mac, message->solicited && neighbour_asked(n));
	return DROP_NONE;
}

enum drop nd_input(struct net *net, const struct ip_packet *packet,
		   const struct icmp_header *header, struct cursor *c)
{
	struct nd_message message;

	/* RFC 6980 5 MUST: what came with a fragment header is ignored */
	if (packet->fragmented)
		return DROP_ND_BAD;
	enum drop drop = nd_parse(c, packet, header, &message);
	if (drop)
		return drop;
	return header->type == ICMPV6_NEIGHBOR_SOLICITATION ? solicitation(net, packet, &message)
							    : advertisement(net, &message);
}
