/* SPDX-License-Identifier: MIT
 * net/udp_group.c - groups of UDP sockets: what a socket joins and leaves, and what it takes of
 * what is sent to groups (RFC 1112 6.1 and 7.1, RFC 3493 5.2, RFC 3678 without sources).
 *
 * There is one interface: an option may name it by its index, by an address of ours, or not at all.
 */
#include "net/group.h"
#include "net/udp_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a socket wants ---- */

static uint32_t place_of(const struct udp_socket *socket, const struct ip_address *group)
{
	for (uint32_t i = 0; i < socket->num_groups; i++) {
		if (ip_equal(&socket->groups[i]->address, group))
			return i;
	}
	return socket->num_groups;
}

bool udp_wants_group(const struct udp_socket *socket, const struct ip_address *group)
{
	if (group_is_all_hosts(group) || place_of(socket, group) < socket->num_groups)
		return true;
	return ip_is_v4(group) ? socket->group_all : socket->group_all_v6;
}

/* ---- members ---- */

/* RFC 1112 7.1, as in Linux: -EADDRINUSE is a second join, -ENOBUFS one too many */
static int join(struct udp_socket *socket, const struct ip_address *group)
{
	if (!ip_is_multicast(group))
		return -EINVAL;
	if (!net_source_for(socket->net, group))
		return -ENODEV;
	if (place_of(socket, group) < socket->num_groups)
		return -EADDRINUSE;
	if (socket->num_groups == UDP_GROUPS_MAX)
		return -ENOBUFS;
	if (!socket->groups) {
		socket->groups = malloc(UDP_GROUPS_MAX * sizeof(struct group *));
		if (!socket->groups)
			return -ENOMEM;
	}
	int err = group_join(socket->net, group, &socket->groups[socket->num_groups]);
	if (!err)
		socket->num_groups++;
	return err;
}

static int leave(struct udp_socket *socket, const struct ip_address *group)
{
	uint32_t place = place_of(socket, group);

	if (!ip_is_multicast(group))
		return -EINVAL;
	if (place == socket->num_groups)
		return -EADDRNOTAVAIL;
	struct group *left = socket->groups[place];
	socket->groups[place] = socket->groups[--socket->num_groups];
	group_leave(left);
	return 0;
}

void udp_leave_groups(struct udp_socket *socket)
{
	while (socket->num_groups > 0)
		group_leave(socket->groups[--socket->num_groups]);
	free(socket->groups);
	socket->groups = NULL;
}

/* ---- broadcast ---- */

/* Everybody's address, and those of our prefixes. */
static int steer_broadcast(struct net *net, bool wanted)
{
	struct netdev *dev = net->dev;
	struct ip_address address = ip_from_v4(INADDR_BROADCAST);
	int err = net->num_v4 ? dev->ops->steer(dev, &address, wanted) : 0;

	for (uint32_t i = 0; i < net->num_v4 && !err; i++) {
		address = ip_from_v4(net->v4[i].broadcast);
		if (net->v4[i].broadcast != INADDR_BROADCAST)
			err = dev->ops->steer(dev, &address, wanted);
	}
	return err;
}

int udp_set_broadcast(struct udp_socket *socket, bool broadcast)
{
	struct udp *udp = socket->net->udp;
	int err = 0;

	if (broadcast == socket->broadcast)
		return 0;
	if (udp->num_broadcast == !broadcast)
		err = steer_broadcast(socket->net, broadcast);
	if (err && broadcast) {
		(void)steer_broadcast(socket->net, false);
		return err;
	}
	socket->broadcast = broadcast;
	udp->num_broadcast += broadcast ? 1U : -1U;
	return 0;
}

/* ---- options ---- */

/* Is it our interface that an index names? */
static bool is_interface(const struct net *net, uint32_t index)
{
	return index == 0 || net->dev->index == 0 || index == net->dev->index;
}

/* The interface of a structure of IPv4: an index, or an address of ours; or neither. */
static int check_interface_v4(const struct net *net, const struct ip_mreqn *mreq)
{
	const struct ip_address own = ip_from_v4(mreq->imr_address.s_addr);

	if (mreq->imr_ifindex)
		return is_interface(net, (uint32_t)mreq->imr_ifindex) ? 0 : -ENODEV;
	return ip_is_any(&own) || net_is_local(net, &own) ? 0 : -ENODEV;
}

/* A struct ip_mreqn, or the struct ip_mreq that it begins with. */
static int read_mreqn(const void *value, socklen_t length, struct ip_mreqn *mreq)
{
	*mreq = (struct ip_mreqn){.imr_ifindex = 0};
	if (length < sizeof(struct ip_mreq))
		return -EINVAL;
	memcpy(mreq, value, length < sizeof(*mreq) ? sizeof(struct ip_mreq) : sizeof(*mreq));
	return 0;
}

static int change(struct udp_socket *socket, const struct ip_address *group, bool wanted)
{
	return wanted ? join(socket, group) : leave(socket, group);
}

static int change_v4(struct udp_socket *socket, const void *value, socklen_t length, bool wanted)
{
	struct ip_mreqn mreq;
	int err = read_mreqn(value, length, &mreq);

	if (!err)
		err = check_interface_v4(socket->net, &mreq);
	if (err)
		return err;
	const struct ip_address group = ip_from_v4(mreq.imr_multiaddr.s_addr);
	return change(socket, &group, wanted);
}

static int change_v6(struct udp_socket *socket, const void *value, socklen_t length, bool wanted)
{
	struct ipv6_mreq mreq;

	if (length < sizeof(mreq))
		return -EINVAL;
	memcpy(&mreq, value, sizeof(mreq));
	const struct ip_address group = ip_from_bytes(mreq.ipv6mr_multiaddr.s6_addr);
	if (ip_is_v4(&group))
		return -EINVAL;
	if (!is_interface(socket->net, mreq.ipv6mr_interface))
		return -ENODEV;
	return change(socket, &group, wanted);
}

/* RFC 3678 5.1: of both families */
static int change_any(struct udp_socket *socket, const void *value, socklen_t length, bool wanted)
{
	struct group_req request;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct ip_address group;

	if (length < sizeof(request))
		return -EINVAL;
	memcpy(&request, value, sizeof(request));
	if (request.gr_group.ss_family == AF_INET) {
		memcpy(&in, &request.gr_group, sizeof(in));
		group = ip_from_v4(in.sin_addr.s_addr);
	} else if (request.gr_group.ss_family == AF_INET6 && socket->v6) {
		memcpy(&in6, &request.gr_group, sizeof(in6));
		group = ip_from_bytes(in6.sin6_addr.s6_addr);
	} else {
		return -EADDRNOTAVAIL;
	}
	if (!is_interface(socket->net, request.gr_interface))
		return -ENODEV;
	return change(socket, &group, wanted);
}

/* An address of ours, or a structure with one; any: none in particular. */
static int set_source(struct udp_socket *socket, const void *value, socklen_t length)
{
	struct ip_mreqn mreq = {.imr_ifindex = 0};
	int err = 0;

	if (length >= sizeof(struct ip_mreq))
		err = read_mreqn(value, length, &mreq);
	else if (length >= sizeof(mreq.imr_address))
		memcpy(&mreq.imr_address, value, sizeof(mreq.imr_address));
	else
		err = -EINVAL;
	if (err)
		return err;
	const struct ip_address source = ip_from_v4(mreq.imr_address.s_addr);
	if (!is_interface(socket->net, (uint32_t)mreq.imr_ifindex) ||
	    (!ip_is_any(&source) && !net_is_local(socket->net, &source)))
		return -EADDRNOTAVAIL;
	socket->group_source = source;
	return 0;
}

static int set_interface_v6(struct udp_socket *socket, const void *value, socklen_t length)
{
	uint32_t index;

	if (length < sizeof(index))
		return -EINVAL;
	memcpy(&index, value, sizeof(index));
	if (!is_interface(socket->net, index))
		return -ENODEV;
	socket->group_interface = index;
	return 0;
}

static int set_v4(struct udp_socket *socket, int name, const void *value, socklen_t length)
{
	switch (name) {
	case IP_ADD_MEMBERSHIP:
	case IP_DROP_MEMBERSHIP:
		return change_v4(socket, value, length, name == IP_ADD_MEMBERSHIP);
	case IP_MULTICAST_IF:
		return set_source(socket, value, length);
	default:
		return -ENOPROTOOPT;
	}
}

static int set_v6(struct udp_socket *socket, int name, const void *value, socklen_t length)
{
	if (!socket->v6)
		return -ENOPROTOOPT;
	switch (name) {
	case IPV6_JOIN_GROUP:
	case IPV6_LEAVE_GROUP:
		return change_v6(socket, value, length, name == IPV6_JOIN_GROUP);
	case IPV6_MULTICAST_IF:
		return set_interface_v6(socket, value, length);
	default:
		return -ENOPROTOOPT;
	}
}

int udp_group_set_option(struct udp_socket *socket, int level, int name, const void *value,
			 socklen_t length)
{
	if (level != IPPROTO_IP && level != IPPROTO_IPV6)
		return -ENOPROTOOPT;
	if (name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP)
		return change_any(socket, value, length, name == MCAST_JOIN_GROUP);
	return level == IPPROTO_IP ? set_v4(socket, name, value, length)
				   : set_v6(socket, name, value, length);
}

int udp_group_get_option(const struct udp_socket *socket, int level, int name, int *value)
{
	if (level == IPPROTO_IP && name == IP_MULTICAST_IF)
		*value =
			(int)(ip_is_any(&socket->group_source) ? 0 : socket->group_source.words[3]);
	else if (level == IPPROTO_IPV6 && name == IPV6_MULTICAST_IF && socket->v6)
		*value = (int)socket->group_interface;
	else
		return -ENOPROTOOPT;
	return 0;
}
