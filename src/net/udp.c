/* SPDX-License-Identifier: MIT
 * net/udp.c - datagrams in and out (RFC 768, RFC 1122 4.1, RFC 8085), and the life of sockets.
 *
 * In: a short datagram is copied out of its frame, which goes back at once; a longer one stays in
 * it, its source written over the headers right in front of the data, and the frame's reference
 * becomes the application's.  While frames are short all are copied.  A queue holds at most its
 * limit, in bytes of memory; what comes then is dropped.
 *
 * Out: a push copies its segments behind the header, checksum and all in one pass; long ones in the
 * heap at its end are sent in place if the device can gather.  What does not fit a packet goes out
 * in fragments, which are copies.
 */
#include "net/wire/udp.h"
#include "net/pmtu.h"
#include "net/udp_socket.h"
#include "net/wire/checksum.h"
#include "net/wire/icmp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECEIVE_LIMIT 212992 /* 208 KiB, as in Linux */
#define COPY_MAX      256    /* datagrams up to here are copied out of their frames */
#define RING_MIN      8

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

/* Makes room for one more; false: no memory. */
static bool ring_grow(struct udp_socket *socket)
{
	uint32_t size = socket->ring_size ? socket->ring_size * 2 : RING_MIN;

	if (likely(socket->ring_count < socket->ring_size))
		return true;
	struct udp_queued *ring = malloc(size * sizeof(*ring));
	if (!ring)
		return false;
	for (uint32_t i = 0; i < socket->ring_count; i++)
		ring[i] = socket->ring[(socket->ring_head + i) & (socket->ring_size - 1)];
	free(socket->ring);
	socket->ring = ring;
	socket->ring_size = size;
	socket->ring_head = 0;
	return true;
}

static struct udp_queued ring_take(struct udp_socket *socket)
{
	struct udp_queued first = socket->ring[socket->ring_head];

	socket->ring_head = (socket->ring_head + 1) & (socket->ring_size - 1);
	socket->ring_count--;
	socket->held -= first.held;
	return first;
}

static void complete_pop(struct udp_socket *socket, struct op *op, const struct udp_queued *queued)
{
	struct sched *sched = socket->net->sched;

	datagram_set(op, queued->datagram, queued->bytes);
	sched_count(sched, COUNTER_BYTES_IN, queued->bytes);
	op_complete(sched, op, 0);
}

/* Takes the datagram. */
static enum drop hand_over(struct udp_socket *socket, const struct udp_queued *queued)
{
	struct op_slab *ops = &socket->net->sched->ops;
	struct op *op = op_list_first(ops, &socket->pops);

	if (likely(op != NULL)) {
		op_list_remove(ops, &socket->pops, op);
		complete_pop(socket, op, queued);
		return DROP_NONE;
	}
	if (unlikely(!ring_grow(socket))) {
		(void)heap_free_inside(socket->net->heap, queued->datagram);
		return DROP_DATAGRAM_MEMORY;
	}
	socket->ring[(socket->ring_head + socket->ring_count) & (socket->ring_size - 1)] = *queued;
	socket->ring_count++;
	socket->held += queued->held;
	return DROP_NONE;
}

static bool is_full(const struct udp_socket *socket, uint32_t held)
{
	return socket->ring_count > 0 && socket->held + held > socket->receive_limit;
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
	struct udp_queued queued = {.bytes = arrival->bytes, .held = room + sizeof(queued)};

	if (unlikely(is_full(socket, queued.held)))
		return DROP_UDP_FULL;
	queued.datagram = heap_alloc(socket->net->heap, room);
	if (unlikely(!queued.datagram))
		return DROP_DATAGRAM_MEMORY;
	set_source(socket, queued.datagram, arrival->from, arrival->port);
	memcpy(queued.datagram->data, arrival->data, arrival->bytes);
	return hand_over(socket, &queued);
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
	struct udp_queued queued = {
		.bytes = arrival->bytes,
		.held = (uint32_t)sizeof(*frame) + frame->room,
	};

	if (arrival->bytes > COPY_MAX && !socket->net->frames_short)
		queued.datagram = in_front(frame, arrival->data);
	if (!queued.datagram) {
		enum drop drop = deliver_copy(socket, arrival);
		if (!drop)
			frame_free(heap, frame);
		return drop;
	}
	if (unlikely(is_full(socket, queued.held)))
		return DROP_UDP_FULL;
	set_source(socket, queued.datagram, arrival->from, arrival->port);
	enum drop drop = hand_over(socket, &queued);
	if (unlikely(drop)) /* the frame is gone */
		net_count_drop(socket->net, drop);
	return DROP_NONE;
}

/* RFC 1122 4.1.3.6: to a group, so to every socket that listens to it. */
static enum drop deliver_to_group(struct net *net, const struct udp_flow *flow,
				  const struct arrival *arrival)
{
	enum drop drop = DROP_UDP_PORT;

	list_for_each_safe (node, after, udp_port_list(net, flow->local_port)) {
		struct udp_socket *socket = container_of(node, struct udp_socket, by_port);
		if (udp_in_group(socket, flow))
			drop = deliver_copy(socket, arrival);
	}
	return drop;
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
		drop = deliver_to_group(net, &flow, &arrival);
		if (drop)
			net_drop(net, frame, drop);
		else
			frame_free(net->heap, frame);
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
	struct op_slab *ops = &net->sched->ops;
	struct op *op = op_list_first(ops, &socket->pops);
	if (op) {
		op_list_remove(ops, &socket->pops, op);
		op_complete(net->sched, op, error->err);
	} else {
		socket->err = error->err;
	}
}

/* ---- pops ---- */

int udp_socket_pop(struct udp_socket *socket, struct op *op)
{
	struct sched *sched = socket->net->sched;

	if (unlikely(socket->err)) {
		op_complete(sched, op, udp_take_error(socket));
	} else if (socket->ring_count > 0) {
		struct udp_queued first = ring_take(socket);
		complete_pop(socket, op, &first);
	} else {
		op_list_append(&sched->ops, &socket->pops, op);
	}
	return 0;
}

void udp_socket_cancel(struct udp_socket *socket, struct op *op)
{
	struct sched *sched = socket->net->sched;

	op_list_remove(&sched->ops, &socket->pops, op);
	op_complete(sched, op, ECANCELED);
}

uint32_t udp_socket_queued(const struct udp_socket *socket)
{
	return socket->ring_count;
}

/* ---- pushes ---- */

/* A datagram to be sent. */
struct departure {
	const struct ip_address *from;
	const struct ip_address *to;
	uint32_t bytes;
	uint16_t port;
	bool group;
	bool large; /* more than a packet */
};

static int prepare(struct udp_socket *socket, const struct op *op, struct departure *d)
{
	struct net *net = socket->net;
	bool v4 = ip_is_v4(d->to);

	if (!udp_speaks(socket, v4))
		return socket->v6 ? -ENETUNREACH : -EAFNOSUPPORT;
	if (d->port == 0)
		return -EINVAL;
	uint64_t bytes = op_bytes(op);
	if (bytes > ip_payload_max(net, d->to) - UDP_HEADER_BYTES) {
		if (bytes > IP_DATAGRAM_MAX - UDP_HEADER_BYTES - (v4 ? IPV4_HEADER_BYTES : 0))
			return -EMSGSIZE;
		d->large = true;
	}
	d->bytes = (uint32_t)bytes;
	bool broadcast = ip_is_broadcast(net, d->to);
	if (broadcast && !socket->broadcast)
		return -EACCES;
	d->group = broadcast || ip_is_multicast(d->to);
	d->from = &socket->bound;
	if (ip_is_any(d->from))
		d->from = net_source_for(net, d->to);
	if (!d->from || ip_is_v4(d->from) != v4)
		return -ENETUNREACH;
	if (socket->port == 0) {
		struct ip_address any = socket->bound;
		return udp_socket_bind(socket, &any, 0);
	}
	return 0;
}

/* The first segment that is sent in place, with all behind it: those are ours, no more than the
 * device can gather, and the first of them is long enough to be worth it.  numsegs: none. */
static uint32_t first_in_place(const struct udp_socket *socket, const struct op *op)
{
	uint64_t worth = (uint64_t)socket->net->sched->config.zero_copy_bytes;
	uint32_t left = socket->net->dev->max_segments;
	uint32_t ours = op_ours(op);
	uint32_t first = op->numsegs;

	for (uint32_t i = op->numsegs; i-- > 0;) {
		uint64_t length = op_segment(op, i).iov_len;
		if (length == 0)
			continue;
		if (left-- == 0 || !(ours >> i & 1))
			break;
		if (length >= worth)
			first = i;
	}
	return first;
}

/* Appends the segments; returns their sum if it is wanted. */
static uint64_t append_segments(struct frame *frame, const struct op *op, uint32_t in_place,
				bool sum)
{
	uint64_t total = 0;
	uint32_t offset = 0;

	for (uint32_t i = 0; i < op->numsegs; i++) {
		struct iovec segment = op_segment(op, i);
		uint32_t length = (uint32_t)segment.iov_len;
		uint64_t part = 0;

		if (length == 0)
			continue;
		if (i >= in_place) {
			frame_append(frame, segment.iov_base, length);
			part = sum ? checksum_partial(segment.iov_base, length) : 0;
		} else if (sum) {
			part = checksum_copy(frame->data + frame->length, segment.iov_base, length);
			frame->length += length;
		} else {
			memcpy(frame->data + frame->length, segment.iov_base, length);
			frame->length += length;
		}
		total += offset & 1 ? checksum_odd(part) : part;
		offset += length;
	}
	return total;
}

static uint32_t bytes_before(const struct op *op, uint32_t end)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < end; i++)
		bytes += (uint32_t)op_segment(op, i).iov_len;
	return bytes;
}

/* Header and data; NULL: no memory. */
static struct frame *make_frame(struct udp_socket *socket, const struct op *op,
				const struct departure *d)
{
	const struct udp_header header = {
		.source = socket->port,
		.destination = d->port,
		.length = (uint16_t)(UDP_HEADER_BYTES + d->bytes),
	};
	bool offload = socket->net->udp_checksum_offload && !d->large;
	uint32_t in_place = unlikely(d->large) ? op->numsegs : first_in_place(socket, op);
	struct frame *frame =
		frame_alloc_tx(socket->net->heap, UDP_HEADER_BYTES + bytes_before(op, in_place));

	if (unlikely(!frame))
		return NULL;
	udp_write(frame->data, &header);
	frame->length = UDP_HEADER_BYTES;
	uint64_t sum = append_segments(frame, op, in_place, !offload);
	uint64_t pseudo = checksum_pseudo(d->from, d->to, IP_UDP, header.length);
	uint16_t checksum = checksum_fold(pseudo);
	if (offload) {
		frame->flags |= FRAME_CHECKSUM;
		frame->transport_offset = 0;
		frame->checksum_offset = UDP_CHECKSUM_OFFSET;
	} else {
		checksum = checksum_finish(pseudo + sum +
					   checksum_partial(frame->data, UDP_HEADER_BYTES));
		if (checksum == 0) /* RFC 768: 0 says that there is none */
			checksum = 0xffff;
	}
	memcpy(frame->data + UDP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
	return frame;
}

static int send_frame(struct udp_socket *socket, struct frame *frame, const struct departure *d)
{
	bool v4 = ip_is_v4(d->to);
	uint8_t ttl = v4 ? socket->ttl : socket->hops;
	uint8_t tos = v4 ? socket->tos : socket->traffic_class;
	/* The path is good for one destination. */
	struct ip_path *path = d->to == &socket->remote ? &socket->path : NULL;

	if (d->group && ip_is_multicast(d->to))
		ttl = v4 ? socket->group_ttl : socket->group_hops;
	if (unlikely(d->large))
		return ip_output_datagram(socket->net, frame, d->from, d->to, IP_UDP, ttl, tos,
					  path);
	return ip_output(socket->net, frame, d->from, d->to, IP_UDP, ttl, tos, path);
}

int udp_socket_push(struct udp_socket *socket, struct op *op, const struct ip_address *to,
		    uint16_t port)
{
	struct sched *sched = socket->net->sched;
	struct departure d = {.to = to, .port = port};

	if (unlikely(socket->err))
		return -udp_take_error(socket);
	if (!to) {
		if (!socket->connected)
			return -EDESTADDRREQ;
		d.to = &socket->remote;
		d.port = socket->remote_port;
	}
	int err = prepare(socket, op, &d);
	if (unlikely(err))
		return err;
	struct frame *frame = make_frame(socket, op, &d);
	if (unlikely(!frame))
		return -ENOMEM;
	err = send_frame(socket, frame, &d);
	if (unlikely(err))
		return err;
	sched_count(sched, COUNTER_BYTES_OUT, d.bytes);
	op_complete(sched, op, 0);
	return 0;
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
	op_list_init(&socket->pops);
	*out = socket;
	return 0;
}

void udp_socket_close(struct udp_socket *socket)
{
	struct sched *sched = socket->net->sched;
	struct op *op;

	while ((op = op_list_first(&sched->ops, &socket->pops)))
		udp_socket_cancel(socket, op);
	while (socket->ring_count > 0) {
		struct udp_queued first = ring_take(socket);
		(void)heap_free_inside(socket->net->heap, first.datagram);
	}
	udp_forget(socket);
	list_remove(&socket->in_all);
	free(socket->ring);
	free(socket);
}

static void check_socket(const struct udp_socket *socket)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < socket->ring_count; i++)
		held += socket->ring[(socket->ring_head + i) & (socket->ring_size - 1)].held;
	ASSERT(held == socket->held && socket->ring_count <= socket->ring_size);
	ASSERT(socket->ring_count == 0 || op_list_empty(&socket->pops));
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
	uint32_t bound = 0;

	list_for_each (node, &net->udp->sockets) {
		const struct udp_socket *socket = container_of(node, struct udp_socket, in_all);
		check_socket(socket);
		bound += socket->port != 0;
		connected += socket->connected;
	}
	for (uint32_t i = 0; i < UDP_BUCKETS; i++)
		in_lists += check_ports(&net->udp->ports[i]);
	ASSERT(bound == in_lists && connected == net->udp->num_connected);
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
