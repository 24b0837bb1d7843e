/* SPDX-License-Identifier: MIT
 * net/arp.c - ARP (RFC 826, RFC 1122 2.3.2, RFC 5227).
 *
 * Row 10 of the attack table: nothing new is learned from what was not asked for; entries that are
 * there are updated, but only an answer to an open question makes one reachable.  An address of
 * ours that another station claims is defended once in DEFEND_NS.
 */
#include "net/neighbour.h"

#include "net/net.h"
#include "net/wire/ether.h"

#include <string.h>

#define DEFEND_NS 10000000000ULL /* RFC 5227 2.4: DEFEND_INTERVAL */

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void transmit(struct net *net, const struct arp *arp, const uint8_t to[6])
{
	struct frame *frame = frame_alloc_tx(net->heap, ARP_BYTES);

	if (unlikely(!frame)) {
		net_count_drop(net, DROP_TX_MEMORY);
		return;
	}
	arp_write(frame->data, arp);
	frame->length = ARP_BYTES;
	ether_output(net, frame, to, ETHER_ARP);
}

static void transmit_from(struct net *net, struct arp *arp, const uint8_t to[6])
{
	memcpy(arp->sender_mac, net->mac, sizeof(arp->sender_mac));
	transmit(net, arp, to);
}

void arp_announce(struct net *net, const struct ip_address *address)
{
	struct arp arp = {
		.operation = ARP_REQUEST,
		.sender = address->words[3],
		.target = address->words[3],
	};

	transmit_from(net, &arp, everybody);
}

void arp_request(struct net *net, struct neighbour *neighbour, bool unicast)
{
	const struct ip_address *from = net_source_for(net, &neighbour->address);
	struct arp arp = {
		.operation = ARP_REQUEST,
		.sender = from ? from->words[3] : 0,
		.target = neighbour->address.words[3],
	};

	transmit_from(net, &arp, unicast ? neighbour->mac : everybody);
}

static void reply(struct net *net, const struct arp *request)
{
	struct arp arp = {
		.operation = ARP_REPLY,
		.sender = request->target,
		.target = request->sender,
	};

	memcpy(arp.target_mac, request->sender_mac, sizeof(arp.target_mac));
	transmit_from(net, &arp, request->sender_mac);
}

/* Another station says that it has an address of ours. */
static void conflict(struct net *net, const struct ip_address *address)
{
	uint64_t now = net->sched->now_ns;

	log_once(&net->sched->log, &net->sched->log_seen, LOG_LEVEL_WARNING,
		 "another station uses an address of ours (ARP)");
	if (net->defended_ns && now - net->defended_ns < DEFEND_NS)
		return;
	net->defended_ns = now;
	arp_announce(net, address);
}

/* Did the packet teach something: was its sender known? */
static bool learn(struct net *net, const struct arp *arp, const struct ip_address *sender,
		  bool to_us)
{
	struct neighbour *neighbour = neighbour_find(net, sender);

	if (!neighbour)
		return false;
	neighbour_learn(net, neighbour, arp->sender_mac,
			to_us && arp->operation == ARP_REPLY && neighbour_asked(neighbour));
	return true;
}

static enum drop input(struct net *net, const struct arp *arp)
{
	const struct ip_address sender = ip_from_v4(arp->sender);
	const struct ip_address target = ip_from_v4(arp->target);
	bool to_us = net_is_local(net, &target);

	if (memcmp(arp->sender_mac, net->mac, sizeof(net->mac)) == 0)
		return DROP_ARP_UNASKED; /* our own, come back */
	if (net_is_local(net, &sender)) {
		conflict(net, &sender);
		return DROP_ADDRESS_CONFLICT;
	}
	bool learned = learn(net, arp, &sender, to_us);
	if (to_us && arp->operation == ARP_REQUEST) {
		reply(net, arp);
		return DROP_NONE;
	}
	return learned ? DROP_NONE : DROP_ARP_UNASKED;
}

void arp_input(struct net *net, struct frame *frame)
{
	struct cursor c = cursor_over(frame->data, frame->length);
	struct arp arp;

	cursor_skip(&c, ETHER_HEADER_BYTES);
	enum drop drop = arp_parse(&c, &arp);
	if (!drop)
		drop = input(net, &arp);
	if (drop)
		net_drop(net, frame, drop);
	else
		frame_free(net->heap, frame);
}
