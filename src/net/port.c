/* SPDX-License-Identifier: MIT
 * net/port.c - which local ports are ours, and which of them are chosen for whoever asks for none
 * (RFC 6056 3.3.1: its callers begin at a random one).
 *
 * On addresses that are the kernel's too (netdev.h) they are those that the device was given.  A
 * range of one port is a server's: it is not chosen.
 */
#include "net/net.h"

#define EPHEMERAL_FIRST 32768 /* as Linux's default range */
#define EPHEMERAL_COUNT 28232

bool net_port_is_ours(const struct net *net, uint8_t protocol, uint16_t port)
{
	const struct netdev *dev = net->dev;

	for (uint32_t i = 0; i < dev->num_ports; i++) {
		const struct netdev_ports *range = &dev->ports[i];
		if (range->protocol == protocol && port >= range->first && port <= range->last)
			return true;
	}
	return dev->num_ports == 0;
}

bool net_is_answered(const struct net *net, const struct netdev_flow *flow)
{
	return net->dev->ops->receives(net->dev, flow);
}

/* How many ports of a range can be chosen. */
static uint32_t count_of(const struct netdev_ports *range, uint8_t protocol)
{
	return range->protocol == protocol && range->last > range->first
		       ? (uint32_t)range->last - range->first + 1
		       : 0;
}

uint32_t net_port_count(const struct net *net, uint8_t protocol)
{
	const struct netdev *dev = net->dev;
	uint32_t count = 0;

	for (uint32_t i = 0; i < dev->num_ports; i++)
		count += count_of(&dev->ports[i], protocol);
	return dev->num_ports == 0 ? EPHEMERAL_COUNT : count;
}

uint16_t net_port_choice(const struct net *net, uint8_t protocol, uint32_t n)
{
	const struct netdev *dev = net->dev;

	for (uint32_t i = 0; i < dev->num_ports; i++) {
		uint32_t count = count_of(&dev->ports[i], protocol);
		if (n < count)
			return (uint16_t)(dev->ports[i].first + n);
		n -= count;
	}
	return (uint16_t)(EPHEMERAL_FIRST + n);
}
