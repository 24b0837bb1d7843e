/* SPDX-License-Identifier: MIT
 * net/ether.c - Ethernet in and out (RFC 894, RFC 1122 2.3).
 *
 * Frames to groups are let in here, whichever group it is: the IP destination decides.
 *
 * Virtual LANs (IEEE 802.1Q): with one configured, only frames that carry its tag are ours;
 * without, only those with no tag or one that says a priority alone.  A tag is taken off first:
 * nobody else sees one.
 */
#include "net/wire/ether.h"

#include "net/net.h"

#include <string.h>

/* What is not IPv4 to our own address. */
static void other_input(struct net *net, struct frame *frame, struct cursor c)
{
	struct ether_header header;
	enum drop drop = ether_parse(&c, &header);

	if (drop) {
		net_drop(net, frame, drop);
		return;
	}
	bool group = ether_is_multicast(header.to);
	if (!group && memcmp(header.to, net->mac, sizeof(net->mac)) != 0) {
		net_drop(net, frame, DROP_ETHER_ADDRESS);
		return;
	}
	switch (header.type) {
	case ETHER_IPV4:
		ip_input_v4(net, frame, &c, group);
		break;
	case ETHER_IPV6:
		ip_input_v6(net, frame, &c, group);
		break;
	case ETHER_ARP:
		arp_input(net, frame);
		break;
	default:
		net_drop(net, frame, DROP_ETHER_TYPE);
	}
}

/* Takes the tag off, if there is one.  DROP_NONE: the frame is of our LAN and without tag. */
static enum drop untag(const struct net *net, struct frame *frame)
{
	uint8_t *at = frame->data;
	uint16_t id = 0;

	if (frame->length < ETHER_HEADER_BYTES + ETHER_TAG_BYTES)
		return net->vlan ? DROP_VLAN : DROP_NONE;
	uint16_t type = load16(at + 12);
	if (type == ETHER_VLAN_SERVICE)
		return DROP_VLAN;
	if (type == ETHER_VLAN) {
		id = load16(at + 14) & ETHER_VLAN_ID;
		memmove(at + ETHER_TAG_BYTES, at, 12);
		frame->data += ETHER_TAG_BYTES;
		frame->length -= ETHER_TAG_BYTES;
	}
	return id == net->vlan ? DROP_NONE : DROP_VLAN;
}

/* What may have a tag, or lack one.  Out of line, as all that net_input seldom needs. */
static __attribute__((noinline)) void tagged_input(struct net *net, struct frame *frame)
{
	enum drop drop = untag(net, frame);

	if (unlikely(drop))
		net_drop(net, frame, drop);
	else
		other_input(net, frame, cursor_over(frame->data, frame->length));
}

void net_input(struct net *net, struct frame *frame)
{
	struct cursor c = cursor_over(frame->data, frame->length);

	if (likely(!net->vlan && ether_parse_for(&c, net->mac, ETHER_IPV4)))
		ip_input_v4(net, frame, &c, false);
	else
		tagged_input(net, frame);
}

void ether_output_tagged(struct net *net, struct frame *frame, const uint8_t mac[6], uint16_t type)
{
	const uint32_t bytes = ETHER_HEADER_BYTES + ETHER_TAG_BYTES;

	ether_write_tagged(frame_prepend(frame, bytes), mac, net->mac, net->vlan, type);
	frame->transport_offset += bytes;
	net_transmit(net, frame);
}
