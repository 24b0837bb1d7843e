/* SPDX-License-Identifier: MIT
 * net/udp_socket.h - what the files of UDP share: the socket and the tables that find it.
 *
 * A bound socket (port != 0) is in the list of its port: unconnected ones in front, newest first,
 * so that a lookup ends at the first connected one.  A connected socket is in the list of its flow
 * as well.
 *
 * A socket is in at most UDP_GROUPS_MAX groups and gets what is sent to those, to the all-hosts
 * groups and to broadcast addresses; what is sent to others that the instance is in, only with
 * IP_MULTICAST_ALL or IPV6_MULTICAST_ALL, which are off at first (in Linux they are on).
 *
 * Invariants: held is the sum over what is queued; something is queued only while no pop is
 * pending; a socket that is filtered is alone on its port, and not connected.
 */
#pragma once

#include "net/net.h"
#include "net/udp.h"
#include "sched/inbox.h"

#define UDP_BUCKETS    1024 /* of ports and of flows each; a power of two */
#define UDP_GROUPS_MAX 20   /* of a socket, as in Linux (net.ipv4.igmp_max_memberships) */

struct udp {
	struct list ports[UDP_BUCKETS];
	struct list flows[UDP_BUCKETS];
	struct list sockets;
	uint32_t num_connected;
	uint32_t num_broadcast; /* sockets with SO_BROADCAST */
};

struct udp_socket {
	struct net *net;
	struct list by_port;
	struct list by_flow;
	struct list in_all;
	struct ip_address bound; /* as bind said; any address of the domain: none in particular */
	struct ip_address local; /* connected: whom we speak as */
	struct ip_address remote;
	uint16_t port; /* 0: not bound */
	uint16_t remote_port;
	bool v6; /* AF_INET6 */
	bool v6only;
	bool connected;
	bool bound_by_connect;
	bool reuse_address;
	bool reuse_port;
	bool broadcast;
	bool bound_to_group; /* or to a broadcast address: it speaks from one of ours */
	bool group_loop;     /* IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP */
	bool group_loop_v6;
	bool group_all; /* IP_MULTICAST_ALL, IPV6_MULTICAST_ALL */
	bool group_all_v6;
	bool filtered; /* the device has a filter for the port */
	uint8_t ttl;
	uint8_t hops;
	uint8_t group_ttl;
	uint8_t group_hops;
	uint8_t tos;
	uint8_t traffic_class;
	uint32_t num_groups;
	struct group **groups;          /* room for UDP_GROUPS_MAX; NULL before the first */
	struct ip_address group_source; /* IP_MULTICAST_IF; any: none */
	uint32_t group_interface;       /* IPV6_MULTICAST_IF; 0: none */
	int err;                        /* positive: of an ICMP message, not told yet */
	struct ip_path path;
	struct inbox inbox;
	uint32_t receive_limit;
	uint32_t send_limit; /* asked for and shown; nothing waits here */
};

struct udp_flow {
	struct ip_address local;
	struct ip_address remote;
	uint16_t local_port;
	uint16_t remote_port;
	uint32_t zero; /* no padding: it is hashed */
};

/* ---- udp_name.c ---- */

/* The connected socket of a flow, or NULL. */
struct udp_socket *udp_find_flow(struct net *net, const struct udp_flow *flow);
/* Who gets a datagram that comes over a flow, or NULL. */
struct udp_socket *udp_find(struct net *net, const struct udp_flow *flow);
/* Does an unconnected socket bound to its port, or a connected one, take what is sent to a group?
 */
bool udp_in_group(const struct udp_socket *socket, const struct udp_flow *flow);
/* Can the socket speak to addresses of this family? */
bool udp_speaks(const struct udp_socket *socket, bool v4);
/* Takes it out of the tables. */
void udp_forget(struct udp_socket *socket);

/* ---- udp_filter.c ---- */

void udp_unfilter(struct udp_socket *socket);
/* No socket of the port is filtered by the device any more. */
void udp_unfilter_port(struct net *net, uint16_t port);

/* ---- udp_group.c ---- */

/* Does the socket want what is sent to a multicast address? */
bool udp_wants_group(const struct udp_socket *socket, const struct ip_address *group);
/* SO_BROADCAST: while a socket has it the device gives us what is sent to broadcast addresses.  0
 * or an error of the device. */
int udp_set_broadcast(struct udp_socket *socket, bool broadcast);
/* It is in no group any more. */
void udp_leave_groups(struct udp_socket *socket);
/* Options of groups.  -ENOPROTOOPT: it is none of those. */
int udp_group_set_option(struct udp_socket *socket, int level, int name, const void *value,
			 socklen_t length);
int udp_group_get_option(const struct udp_socket *socket, int level, int name, int *value);

static inline struct list *udp_port_list(struct net *net, uint16_t port)
{
	return &net->udp->ports[port & (UDP_BUCKETS - 1)];
}

/* The pending error, which is told by that. */
static inline int udp_take_error(struct udp_socket *socket)
{
	int err = socket->err;

	socket->err = 0;
	return err;
}
