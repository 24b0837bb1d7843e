/* SPDX-License-Identifier: MIT
 * net/udp_send.c - datagrams out (RFC 768, RFC 1122 4.1, RFC 8085, RFC 1112 6.1).
 *
 * A push copies its segments behind the header, checksum and all in one pass; long ones in the heap
 * at its end are sent in place if the device can gather.  What does not fit a packet goes out in
 * fragments, which are copies; and what is sent to a group may come back to us, as a copy.
 */
#include "net/group.h"
#include "net/udp_socket.h"
#include "net/wire/checksum.h"
#include "net/wire/udp.h"

#include <errno.h>
#include <string.h>

/* A datagram to be sent. */
struct departure {
	const struct ip_address *from;
	const struct ip_address *to;
	uint32_t bytes;
	uint16_t port;
	bool broadcast;
	bool multicast;
	bool large; /* more than a packet */
};

/* Whom a datagram is from; NULL: we have no address of that family. */
static const struct ip_address *source_of(const struct udp_socket *socket,
					  const struct departure *d)
{
	const struct ip_address *from = &socket->bound;

	if (!ip_is_any(from) && !socket->bound_to_group)
		return from;
	if (d->multicast && ip_is_v4(d->to) && !ip_is_any(&socket->group_source))
		return &socket->group_source;
	return net_source_for(socket->net, d->to);
}

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
	d->broadcast = ip_is_broadcast(net, d->to);
	if (d->broadcast && !socket->broadcast)
		return -EACCES;
	d->multicast = ip_is_multicast(d->to);
	d->from = source_of(socket, d);
	if (!d->from || ip_is_v4(d->from) != v4)
		return -ENETUNREACH;
	return socket->port ? 0 : udp_socket_bind_for(socket, d->from, d->to, d->port);
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

/* To a group: a copy comes back to us, if somebody here wants it; and what reaches no farther than
 * this host goes nowhere else (RFC 1112 6.1, RFC 4291 2.7).  True: the frame is done with. */
static bool loop_to_group(struct udp_socket *socket, struct frame *frame, const struct departure *d,
			  const struct ip_send *send)
{
	struct net *net = socket->net;
	bool v4 = ip_is_v4(d->to);

	if (d->broadcast ||
	    ((v4 ? socket->group_loop : socket->group_loop_v6) && group_has(net, d->to)))
		ip_loop_copy(net, frame, send);
	if (!d->multicast || (send->ttl > 0 && (v4 || group_scope(d->to) >= GROUP_SCOPE_LINK)))
		return false;
	frame_free(net->heap, frame);
	return true;
}

static int send_frame(struct udp_socket *socket, struct frame *frame, const struct departure *d)
{
	bool v4 = ip_is_v4(d->to);
	struct ip_send send = {
		.from = d->from,
		.to = d->to,
		.protocol = IP_UDP,
		.ttl = v4 ? socket->ttl : socket->hops,
		.tos = v4 ? socket->tos : socket->traffic_class,
	};
	/* The path is good for one destination. */
	struct ip_path *path = d->to == &socket->remote ? &socket->path : NULL;

	if (d->multicast)
		send.ttl = v4 ? socket->group_ttl : socket->group_hops;
	if (unlikely(d->multicast || d->broadcast) && loop_to_group(socket, frame, d, &send))
		return 0;
	if (unlikely(d->large))
		return ip_output_datagram(socket->net, frame, d->from, d->to, IP_UDP, send.ttl,
					  send.tos, path);
	return ip_output(socket->net, frame, d->from, d->to, IP_UDP, send.ttl, send.tos, path);
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
