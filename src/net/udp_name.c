/* SPDX-License-Identifier: MIT
 * net/udp_name.c - names of UDP sockets: bind, connect, and who gets a datagram.
 */
#include "net/siphash.h"
#include "net/udp_socket.h"

#include <errno.h>
#include <string.h>

/* ---- families ---- */

bool udp_speaks(const struct udp_socket *socket, bool v4)
{
	return v4 ? !socket->v6 || !socket->v6only : socket->v6;
}

static struct ip_address any_of(const struct udp_socket *socket)
{
	return socket->v6 ? (struct ip_address){.pair = {0, 0}} : ip_from_v4(0);
}

/* ---- finding ---- */

static uint64_t hash_flow(const struct net *net, const struct udp_flow *flow)
{
	return siphash_2_4(net->secret, flow, sizeof(*flow));
}

static struct list *flow_list(struct net *net, const struct udp_flow *flow)
{
	return &net->udp->flows[hash_flow(net, flow) & (UDP_BUCKETS - 1)];
}

static bool has_remote(const struct udp_socket *socket, const struct udp_flow *flow)
{
	return socket->remote_port == flow->remote_port && ip_equal(&socket->remote, &flow->remote);
}

struct udp_socket *udp_find_flow(struct net *net, const struct udp_flow *flow)
{
	if (net->udp->num_connected == 0)
		return NULL;
	list_for_each (node, flow_list(net, flow)) {
		struct udp_socket *s = container_of(node, struct udp_socket, by_flow);
		if (s->port == flow->local_port && has_remote(s, flow) &&
		    ip_equal(&s->local, &flow->local))
			return s;
	}
	return NULL;
}

/* How well an unconnected socket fits an address; 0: not at all. */
static int fit(const struct udp_socket *socket, const struct ip_address *local)
{
	bool v4 = ip_is_v4(local);

	if (!ip_is_any(&socket->bound))
		return ip_equal(&socket->bound, local) ? 3 : 0;
	if (!udp_speaks(socket, v4))
		return 0;
	return socket->v6 == !v4 ? 2 : 1;
}

static struct udp_socket *unconnected(struct list *node, const struct list *end)
{
	struct udp_socket *s = container_of(node, struct udp_socket, by_port);

	return node == end || s->connected ? NULL : s;
}

/* Of the sockets that share a port (SO_REUSEPORT) and fit equally well, the one that a flow belongs
 * to. */
static struct udp_socket *share(struct net *net, struct list *list, const struct udp_flow *flow,
				int best, uint32_t count)
{
	uint64_t high = hash_flow(net, flow) >> 32;
	uint64_t pick = (high * count) >> 32; /* below count */
	struct udp_socket *s;

	for (struct list *node = list->next; (s = unconnected(node, list)); node = node->next) {
		if (s->port == flow->local_port && s->reuse_port && fit(s, &flow->local) == best &&
		    pick-- == 0)
			return s;
	}
	return NULL;
}

struct udp_socket *udp_find(struct net *net, const struct udp_flow *flow)
{
	struct udp_socket *found = udp_find_flow(net, flow);
	struct list *list = udp_port_list(net, flow->local_port);
	uint32_t sharing = 0;
	int best = 0;
	struct udp_socket *s;

	if (found)
		return found;
	for (struct list *node = list->next; (s = unconnected(node, list)); node = node->next) {
		int fits = s->port == flow->local_port ? fit(s, &flow->local) : 0;
		if (fits > best) {
			best = fits;
			found = s;
			sharing = 0;
		}
		sharing += fits > 0 && fits == best && s->reuse_port;
	}
	return sharing > 1 ? share(net, list, flow, best, sharing) : found;
}

bool udp_in_group(const struct udp_socket *socket, const struct udp_flow *flow)
{
	const struct ip_address *group = &flow->local;

	if (socket->port != flow->local_port || !udp_speaks(socket, ip_is_v4(group)))
		return false;
	if (!ip_is_any(&socket->bound) && !ip_equal(&socket->bound, group))
		return false;
	if (socket->connected && !has_remote(socket, flow))
		return false;
	return !ip_is_multicast(group) || udp_wants_group(socket, group);
}

/* ---- tables ---- */

static struct udp_flow flow_of(const struct udp_socket *socket)
{
	return (struct udp_flow){
		.local = socket->local,
		.remote = socket->remote,
		.local_port = socket->port,
		.remote_port = socket->remote_port,
	};
}

static void enter(struct udp_socket *socket)
{
	struct net *net = socket->net;
	struct list *ports = udp_port_list(net, socket->port);

	udp_unfilter_port(net, socket->port);
	if (socket->connected) {
		const struct udp_flow flow = flow_of(socket);
		list_append(ports, &socket->by_port);
		list_append(flow_list(net, &flow), &socket->by_flow);
		net->udp->num_connected++;
	} else {
		list_insert(ports->next, &socket->by_port);
	}
}

void udp_forget(struct udp_socket *socket)
{
	udp_unfilter(socket);
	if (!list_empty(&socket->by_flow))
		socket->net->udp->num_connected--;
	list_remove(&socket->by_port);
	list_remove(&socket->by_flow);
}

/* ---- bind ---- */

/* Could a datagram be for both: a socket bound to address, and another? */
static bool overlap(const struct udp_socket *socket, const struct ip_address *address,
		    const struct udp_socket *other)
{
	bool any = ip_is_any(address);
	bool other_any = ip_is_any(&other->bound);

	if (!any && !other_any)
		return ip_equal(address, &other->bound);
	if (any && other_any)
		return (udp_speaks(socket, true) && udp_speaks(other, true)) ||
		       (udp_speaks(socket, false) && udp_speaks(other, false));
	return any ? udp_speaks(socket, ip_is_v4(&other->bound))
		   : udp_speaks(other, ip_is_v4(address));
}

/* chosen: a port that we choose shares with nobody, even if it might. */
static bool port_taken(struct udp_socket *socket, const struct ip_address *address, uint16_t port,
		       bool chosen)
{
	list_for_each (node, udp_port_list(socket->net, port)) {
		const struct udp_socket *s = container_of(node, struct udp_socket, by_port);
		if (s->port != port || s == socket || !overlap(socket, address, s))
			continue;
		if (chosen || !((s->reuse_address && socket->reuse_address) ||
				(s->reuse_port && socket->reuse_port)))
			return true;
	}
	return false;
}

/* RFC 6056 3.3.1: at random, then the next free one.  0: all are taken.  flow: with whom it is
 * chosen for; NULL: it is not known. */
static uint16_t free_port(struct udp_socket *socket, const struct ip_address *address,
			  struct netdev_flow *flow)
{
	uint32_t count = net_port_count(socket->net, IP_UDP);
	uint32_t start = count > 0 ? (uint32_t)(net_random(socket->net) % count) : 0;

	for (uint32_t i = 0; i < count; i++) {
		uint16_t port = net_port_choice(socket->net, IP_UDP, (start + i) % count);
		if (flow)
			flow->local_port = port;
		if (!port_taken(socket, address, port, true) &&
		    (!flow || net_is_answered(socket->net, flow)))
			return port;
	}
	return 0;
}

static int bind_to(struct udp_socket *socket, const struct ip_address *address, uint16_t port,
		   struct netdev_flow *flow)
{
	if (port != 0 && !net_port_is_ours(socket->net, IP_UDP, port))
		return -EACCES;
	if (port == 0)
		port = free_port(socket, address, flow);
	else if (port_taken(socket, address, port, false))
		port = 0;
	if (port == 0)
		return -EADDRINUSE;
	socket->port = port;
	socket->bound = *address;
	return 0;
}

int udp_socket_bind(struct udp_socket *socket, const struct ip_address *address, uint16_t port)
{
	bool any = ip_is_any(address);
	struct ip_address all = any_of(socket);

	if (socket->port)
		return -EINVAL;
	/* A socket of IPv6 is bound to all addresses of both families or of its own, not to all of
	 * IPv4. */
	if (!udp_speaks(socket, ip_is_v4(address)) || (any && socket->v6 && ip_is_v4(address)))
		return -EINVAL;
	bool group = ip_is_group(socket->net, address);
	if (!any && !group && !own_may_bind(socket->net, address))
		return -EADDRNOTAVAIL;
	int err = bind_to(socket, any ? &all : address, port, NULL);
	if (err)
		return err;
	socket->bound_to_group = group;
	enter(socket);
	return 0;
}

int udp_socket_bind_for(struct udp_socket *socket, const struct ip_address *local,
			const struct ip_address *remote, uint16_t remote_port)
{
	struct netdev_flow flow = {local, remote, 0, remote_port};
	const struct ip_address own = socket->bound;
	int err = bind_to(socket, &own, 0, &flow);

	if (!err)
		enter(socket);
	return err;
}

/* ---- connect ---- */

static void disconnect(struct udp_socket *socket)
{
	if (!socket->connected)
		return;
	udp_forget(socket);
	socket->connected = false;
	socket->remote = any_of(socket);
	socket->remote_port = 0;
	socket->path = (struct ip_path){.neighbour = NULL};
	if (socket->bound_by_connect) {
		socket->bound_by_connect = false;
		socket->port = 0;
	}
	if (socket->port)
		enter(socket);
}

int udp_socket_connect(struct udp_socket *socket, const struct ip_address *address, uint16_t port)
{
	struct net *net = socket->net;
	const struct ip_address *local = &socket->bound;

	if (ip_is_any(address)) {
		disconnect(socket);
		return 0;
	}
	bool v4 = ip_is_v4(address);
	if (!udp_speaks(socket, v4))
		return socket->v6 ? -ENETUNREACH : -EAFNOSUPPORT;
	if (ip_is_any(local) || socket->bound_to_group)
		local = net_source_for(net, address);
	if (!local || ip_is_v4(local) != v4 || !ip_has_route(net, address))
		return -ENETUNREACH;
	if (ip_is_broadcast(net, address) && !socket->broadcast)
		return -EACCES;
	if (socket->port == 0) {
		struct netdev_flow flow = {local, address, 0, port};
		int err = bind_to(socket, &socket->bound, 0, &flow);
		if (err)
			return err;
		socket->bound_by_connect = true;
	} else {
		udp_forget(socket);
	}
	socket->connected = true;
	socket->local = *local;
	socket->remote = *address;
	socket->remote_port = port;
	socket->path = (struct ip_path){.neighbour = NULL};
	enter(socket);
	return 0;
}

bool udp_socket_connected(const struct udp_socket *socket)
{
	return socket->connected;
}

void udp_socket_local(const struct udp_socket *socket, struct ip_address *address, uint16_t *port)
{
	*address = socket->connected ? socket->local : socket->bound;
	*port = socket->port;
}

void udp_socket_remote(const struct udp_socket *socket, struct ip_address *address, uint16_t *port)
{
	*address = socket->remote;
	*port = socket->remote_port;
}
