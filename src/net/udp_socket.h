/* SPDX-License-Identifier: MIT
 * net/udp_socket.h - what the files of UDP share: the socket and the tables that find it.
 *
 * A bound socket (port != 0) is in the list of its port: unconnected ones in front, newest first,
 * so that a lookup ends at the first connected one.  A connected socket is in the list of its flow
 * as well.
 *
 * Invariants: held is the sum over what is queued; something is queued only while no pop is
 * pending.
 */
#pragma once

#include "net/net.h"
#include "net/udp.h"
#include "sched/datagram.h"

#define UDP_BUCKETS 1024 /* of ports and of flows each; a power of two */

struct udp {
	struct list ports[UDP_BUCKETS];
	struct list flows[UDP_BUCKETS];
	struct list sockets;
	uint32_t num_connected;
};

/* A datagram that waits for a pop: in an object with one application reference. */
struct udp_queued {
	struct datagram *datagram; /* anywhere in its object */
	uint32_t bytes;
	uint32_t held; /* memory that it costs */
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
	uint8_t ttl;
	uint8_t hops;
	uint8_t group_ttl;
	uint8_t group_hops;
	uint8_t tos;
	uint8_t traffic_class;
	int err; /* positive: of an ICMP message, not told yet */
	struct ip_path path;
	struct op_list pops;
	uint32_t receive_limit;
	uint32_t send_limit; /* asked for and shown; nothing waits here */
	uint32_t held;
	/* A ring of what is queued; NULL before the first. */
	struct udp_queued *ring;
	uint32_t ring_size; /* a power of two */
	uint32_t ring_head;
	uint32_t ring_count;
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
