/* SPDX-License-Identifier: MIT
 * net/udp.c - datagrams in (RFC 768, RFC 1122 4.1), and the life of sockets.
 *
 * A short datagram is copied out of its frame, which goes back at once; a longer one stays in
 * it, its source written over the headers right in front of the data, and the frame's reference
 * becomes the application's.  While frames are short all are copied.  A queue holds at most its
 * limit, in bytes of memory; what comes then is dropped.
 */
#include "net/wire/udp.h"
#include "net/pmtu.h"
#include "net/udp_socket.h"
#include "net/wire/icmp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECEIVE_LIMIT 212992 /* 208 KiB, as in Linux */
#define COPY_MAX      256    /* datagrams up to here are copied out of their frames */

/* ---- what is received ---- */

static void set_source(const struct udp_socket *socket, struct datagram *datagram,
		       const struct ip_address *from, uint16_t port)
{
	datagram->source = (union datagram_source){.in6 = {.sin6_family = AF_INET6}};
	if (socket->v6) {
		datagram->source.in6.sin6_port = htons(port);
		memcpy(&datagram->source.in6.sin6_addr, from->bytes, sizeof(from->bytes));
		datagram->source_length = sizeof(datagram->source.in6);
	} else {
		datagram->source.in.sin_family = AF_INET;
		datagram->source.in.sin_port = htons(port);
		datagram->source.in.sin_addr.s_addr = from->words[3];
		datagram->source_length = sizeof(datagram->source.in);
	}
}

/* Takes the datagram. */
static enum drop hand_over(struct udp_socket *socket, const struct inbox_entry *entry)
{
	if (likely(inbox_put(&socket->inbox, socket->net->sched, entry)))
		return DROP_NONE;
	(void)heap_free_inside(socket->net->heap, entry->datagram);
	return DROP_DATAGRAM_MEMORY;
}

static bool is_full(const struct udp_socket *socket, uint32_t held)
{
	return inbox_is_full(&socket->inbox, held, socket->receive_limit);
}

/* A datagram that came, its data still in the packet. */
struct arrival {
	const struct ip_address *from;
	const uint8_t *data;
	uint32_t bytes;
	uint16_t port;
};

static enum drop deliver_copy(struct udp_socket *socket, const struct arrival *arrival)
{
	/* An empty datagram has a byte too: its segment must point into the object. */
	uint32_t room = (uint32_t)sizeof(struct datagram) + arrival->bytes + (arrival->bytes == 0);
	struct inbox_entry entry = {.bytes = arrival->bytes, .held = room + sizeof(entry)};

	if (unlikely(is_full(socket, entry.held)))
		return DROP_UDP_FULL;
	entry.datagram = heap_alloc(socket->net->heap, room);
	if (unlikely(!entry.datagram))
		return DROP_DATAGRAM_MEMORY;
	set_source(socket, entry.datagram, arrival->from, arrival->port);
	memcpy(entry.datagram->data, arrival->data, arrival->bytes);
	return hand_over(socket, &entry);
}

/* Where struct datagram would stand in front of the data; NULL: there is no fit room. */
static struct datagram *in_front(struct frame *frame, const uint8_t *data)
{
	uint64_t offset = (uint64_t)(data - frame->bytes);

	if (offset < sizeof(struct datagram) || offset % _Alignof(struct datagram) != 0)
		return NULL;
	return (struct datagram *)(void *)(frame->bytes + offset - sizeof(struct datagram));
}

/* Takes the frame, unless the datagram is dropped. */
static enum drop deliver(struct udp_socket *socket, struct frame *frame,
			 const struct arrival *arrival)
{
	struct heap *heap = socket->net->heap;
	struct inbox_entry entry = {
		.bytes = arrival->bytes,
		.held = (uint32_t)sizeof(*frame) + frame->room,
	};

	if (arrival->bytes > COPY_MAX && !socket->net->frames_short)
		entry.datagram = in_front(frame, arrival->data);
	if (!entry.datagram) {
		enum drop drop = deliver_copy(socket, arrival);
		if (!drop)
			frame_free(heap, frame);
		return drop;
	}
	if (unlikely(is_full(socket, entry.held)))
		return DROP_UDP_FULL;
	set_source(socket, entry.datagram, arrival->from, arrival->port);
	enum drop drop = hand_over(socket, &entry);
	if (unlikely(drop)) /* the frame is gone */
		net_count_drop(socket->net, drop);
	return DROP_NONE;
}

/* RFC 1122 4.1.3.6: to a group, so to every socket that listens to it: copies, and the frame itself
 * for the last.  Takes the frame. */
static void deliver_to_group(struct net *net, struct frame *frame, const struct udp_flow *flow,
			     const struct arrival *arrival)
{
	struct udp_socket *last = NULL;
	enum drop drop = DROP_UDP_PORT;

	list_for_each_safe (node, after, udp_port_list(net, flow->local_port)) {
		struct udp_socket *socket = container_of(node, struct udp_socket, by_port);
		if (!udp_in_group(socket, flow))
			continue;
		drop = last ? deliver_copy(last, arrival) : DROP_NONE;
		if (drop)
			net_count_drop(net, drop);
		last = socket;
	}
	if (last)
		drop = deliver(last, frame, arrival);
	if (drop)
		net_drop(net, frame, drop);
}

void udp_input(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	struct cursor c = cursor_over(packet->payload, packet->length);
	struct udp_header header;
	enum drop drop = udp_parse(&c, packet, &header);

	if (unlikely(drop)) {
		net_drop(net, frame, drop);
		return;
	}
	const struct arrival arrival = {
		.from = &packet->from,
		.data = c.at,
		.bytes = cursor_left(&c),
		.port = header.source,
	};
	const struct udp_flow flow = {
		.local = packet->to,
		.remote = packet->from,
		.local_port = header.destination,
		.remote_port = header.source,
	};
	if (unlikely(packet->broadcast)) {
		deliver_to_group(net, frame, &flow, &arrival);
		return;
	}
	struct udp_socket *socket = udp_find(net, &flow);
	if (likely(socket != NULL)) {
		drop = deliver(socket, frame, &arrival);
	} else {
		icmp_port_unreachable(net, packet);
		drop = DROP_UDP_PORT;
	}
	if (unlikely(drop))
		net_drop(net, frame, drop);
}

/* RFC 5927 has no more to check of a datagram than that somebody here sends to there. */
static void learn_mtu(struct net *net, const struct udp_flow *flow, const struct icmp_error *error)
{
	if (error->err == EMSGSIZE && udp_find(net, flow))
		(void)pmtu_lower(net, &flow->remote, error->mtu);
}

/* RFC 1122 4.1.3.3: errors are passed on.  Only to a connected socket: another one speaks to many,
 * and could not tell whom it is about. */
void udp_icmp_error(struct net *net, const struct icmp_quote *quote, const struct icmp_error *error)
{
	const struct udp_flow flow = {
		.local = quote->from,
		.remote = quote->to,
		.local_port = quote->source_port,
		.remote_port = quote->destination_port,
	};
	struct udp_socket *socket = udp_find_flow(net, &flow);

	learn_mtu(net, &flow, error);
	if (!socket) {
		if (!error->local)
			net_count_drop(net, DROP_ICMP_UNMATCHED);
		return;
	}
	if (!inbox_fail_pop(&socket->inbox, net->sched, error->err))
		socket->err = error->err;
}

/* ---- pops ---- */

int udp_socket_pop(struct udp_socket *socket, struct op *op)
{
	struct sched *sched = socket->net->sched;

	if (unlikely(socket->err))
		op_complete(sched, op, udp_take_error(socket));
	else
		inbox_pop(&socket->inbox, sched, op);
	return 0;
}

void udp_socket_cancel(struct udp_socket *socket, struct op *op)
{
	inbox_cancel(&socket->inbox, socket->net->sched, op);
}

uint32_t udp_socket_queued(const struct udp_socket *socket)
{
	return socket->inbox.count;
}

/* ---- life ---- */

int udp_socket_new(struct net *net, int domain, struct udp_socket **out)
{
	struct udp_socket *socket = calloc(1, sizeof(*socket));

	if (!socket)
		return -ENOMEM;
	*socket = (struct udp_socket){
		.net = net,
		.v6 = domain == AF_INET6,
		.ttl = IP_DEFAULT_TTL,
		.hops = IP_DEFAULT_TTL,
		.group_ttl = 1,
		.group_hops = 1,
		.group_loop = true,
		.group_loop_v6 = true,
		.receive_limit = RECEIVE_LIMIT,
		.send_limit = RECEIVE_LIMIT,
	};
	if (!socket->v6) {
		socket->bound = ip_from_v4(0);
		socket->remote = ip_from_v4(0);
	}
	list_init(&socket->by_port);
	list_init(&socket->by_flow);
	list_init(&socket->in_all);
	list_append(&net->udp->sockets, &socket->in_all);
	inbox_init(&socket->inbox);
	*out = socket;
	return 0;
}

void udp_socket_close(struct udp_socket *socket)
{
	while (inbox_fail_pop(&socket->inbox, socket->net->sched, ECANCELED))
		;
	inbox_close(&socket->inbox, socket->net->heap);
	udp_leave_groups(socket);
	(void)udp_set_broadcast(socket, false);
	udp_forget(socket);
	list_remove(&socket->in_all);
	free(socket);
}

static void check_socket(const struct udp_socket *socket)
{
	inbox_check(&socket->inbox);
	ASSERT(!socket->filtered || (socket->port != 0 && !socket->connected));
	ASSERT(!list_empty(&socket->by_port) == (socket->port != 0));
	ASSERT(!list_empty(&socket->by_flow) == socket->connected);
}

/* Unconnected sockets stand in front; returns how many the list has. */
static uint32_t check_ports(const struct list *list)
{
	bool connected = false;
	uint32_t count = 0;

	list_for_each (node, list) {
		const struct udp_socket *socket = container_of(node, struct udp_socket, by_port);
		ASSERT(socket->connected || !connected);
		connected = socket->connected;
		count++;
	}
	return count;
}

void udp_check(struct net *net)
{
	uint32_t in_lists = 0;
	uint32_t connected = 0;
	uint32_t broadcast = 0;
	uint32_t bound = 0;

	list_for_each (node, &net->udp->sockets) {
		const struct udp_socket *socket = container_of(node, struct udp_socket, in_all);
		check_socket(socket);
		bound += socket->port != 0;
		connected += socket->connected;
		broadcast += socket->broadcast;
	}
	for (uint32_t i = 0; i < UDP_BUCKETS; i++)
		in_lists += check_ports(&net->udp->ports[i]);
	ASSERT(bound == in_lists && connected == net->udp->num_connected);
	ASSERT(broadcast == net->udp->num_broadcast);
}

int udp_open(struct net *net)
{
	net->udp = calloc(1, sizeof(*net->udp));
	if (!net->udp)
		return -ENOMEM;
	for (uint32_t i = 0; i < UDP_BUCKETS; i++) {
		list_init(&net->udp->ports[i]);
		list_init(&net->udp->flows[i]);
	}
	list_init(&net->udp->sockets);
	return 0;
}

void udp_close(struct net *net)
{
	list_for_each_safe (node, after, &net->udp->sockets)
		udp_socket_close(container_of(node, struct udp_socket, in_all));
	free(net->udp);
	net->udp = NULL;
}
