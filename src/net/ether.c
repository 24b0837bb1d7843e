/* SPDX-License-Identifier: MIT
 * net/ether.c - Ethernet in and out (RFC 894, RFC 1122 2.3).
 *
 * Frames to groups are let in here, whichever group it is: the IP destination decides.
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

void net_input(struct net *net, struct frame *frame)
{
	struct cursor c = cursor_over(frame->data, frame->length);

	if (likely(ether_parse_for(&c, net->mac, ETHER_IPV4)))
		ip_input_v4(net, frame, &c, false);
	else
		other_input(net, frame, c);
}
