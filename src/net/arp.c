/* SPDX-License-Identifier: MIT
 * net/arp.c - ARP (RFC 826, RFC 1122 2.3.2, RFC 5227).
 *
 * Row 10 of the attack table: nothing new is learned from what was not asked for; entries that are
 * there are updated, but only an answer to an open question makes one reachable.  What becomes of
 * an address of ours that another station claims is acd.c's.
 */
#include "net/neighbour.h"

#include "net/net.h"
#include "net/wire/ether.h"

#include <string.h>

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

void arp_probe(struct net *net, const struct ip_address *address)
{
	/* RFC 5227 2.1.1 MUST: no sender's IP address, and no link-layer address of the target */
	struct arp arp = {.operation = ARP_REQUEST, .target = address->words[3]};

	transmit_from(net, &arp, everybody);
}

bool arp_request(struct net *net, struct neighbour *neighbour, bool unicast)
{
	/* As from nobody, if the address is the kernel's too: who is asked from it answers the
	 * kernel, who is asked so (RFC 5227 2.1.1: a probe) answers what the device gives us. */
	const struct ip_address *from =
		net_is_shared(net) ? NULL : net_source_for(net, &neighbour->address);
	struct arp arp = {
		.operation = ARP_REQUEST,
		.sender = from ? from->words[3] : 0,
		.target = neighbour->address.words[3],
	};

	/* RFC 5227 2.1 MUST: an address is not used before it was probed */
	if (from && unlikely(!net_is_local(net, from)))
		return false;
	transmit_from(net, &arp, unicast ? neighbour->mac : everybody);
	return true;
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

/* Of addresses that are the kernel's too only answers to our questions are for us. */
static enum drop input_shared(struct net *net, const struct arp *arp)
{
	const struct ip_address sender = ip_from_v4(arp->sender);

	return arp->operation == ARP_REPLY && arp->target == 0 && learn(net, arp, &sender, true)
		       ? DROP_NONE
		       : DROP_ARP_UNASKED;
}

static enum drop input(struct net *net, const struct arp *arp)
{
	const struct ip_address sender = ip_from_v4(arp->sender);
	const struct ip_address target = ip_from_v4(arp->target);
	bool to_us = net_is_local(net, &target);

	if (memcmp(arp->sender_mac, net->mac, sizeof(net->mac)) == 0)
		return DROP_ARP_UNASKED; /* our own, come back */
	if (acd_input(net, arp))
		return DROP_ADDRESS_CONFLICT;
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
		drop = net_is_shared(net) ? input_shared(net, &arp) : input(net, &arp);
	if (drop)
		net_drop(net, frame, drop);
	else
		frame_free(net->heap, frame);
}
