/* SPDX-License-Identifier: MIT
 * transport/inet/queue.c - push, pop, cancel, close and description of streams and datagrams.
 */
#include "transport/inet/inet.h"

#include <errno.h>
#include <stdlib.h>

static void delete (struct inet_queue *iq)
{
	free(iq);
}

/* ---- streams ---- */

static int stream_push(struct queue *queue, struct op *op, const struct sockaddr *to,
		       socklen_t length)
{
	(void)length;
	return likely(!to) ? tcp_push(inet_queue_of(queue)->tcp, op) : -ENOTSUP;
}

static int stream_pop(struct queue *queue, struct op *op)
{
	return tcp_pop(inet_queue_of(queue)->tcp, op);
}

static void stream_cancel(struct queue *queue, struct op *op)
{
	tcp_cancel(inet_queue_of(queue)->tcp, op);
}

static void stream_close(struct queue *queue)
{
	struct inet_queue *iq = inet_queue_of(queue);

	tcp_conn_close(iq->tcp);
	delete (iq);
}

static void stream_describe(struct queue *queue, struct queue_info *info)
{
	const struct inet_queue *iq = inet_queue_of(queue);
	const struct tcp_conn *conn = iq->tcp;
	const struct op_slab *ops = &queue->sched->ops;
	socklen_t length = sizeof(info->local);

	*info = (struct queue_info){
		.kind = "tcp",
		.state = conn->error && conn->state == TCPS_CLOSED ? "reset"
								   : tcp_state_name(conn->state),
		.pops_pending = op_list_length(ops, &conn->pops),
		.pushes_pending =
			op_list_length(ops, &conn->pushes) + op_list_length(ops, &conn->unacked),
		.held_bytes = conn->rcv_held,
	};
	address_to_socket(iq->domain, &conn->local, conn->local_port,
			  (struct sockaddr *)&info->local, &length);
	if (conn->state < TCPS_SYN_SENT)
		return;
	length = sizeof(info->peer);
	address_to_socket(iq->domain, &conn->remote, conn->remote_port,
			  (struct sockaddr *)&info->peer, &length);
}

const struct queue_ops inet_stream_ops = {
	.push = stream_push,
	.pop = stream_pop,
	.take = queue_take_none,
	.cancel = stream_cancel,
	.close = stream_close,
	.describe = stream_describe,
	.socket = &inet_socket_ops,
};

/* ---- datagrams ---- */

static int datagram_push(struct queue *queue, struct op *op, const struct sockaddr *to,
			 socklen_t length)
{
	const struct inet_queue *iq = inet_queue_of(queue);
	struct ip_address address;
	uint16_t port;

	if (iq->write_shut)
		return -EPIPE;
	if (!to)
		return udp_socket_push(iq->udp, op, NULL, 0);
	int err = address_from_socket(iq->domain, to, length, &address, &port);
	return err ? err : udp_socket_push(iq->udp, op, &address, port);
}

static int datagram_pop(struct queue *queue, struct op *op)
{
	return udp_socket_pop(inet_queue_of(queue)->udp, op);
}

static void datagram_cancel(struct queue *queue, struct op *op)
{
	udp_socket_cancel(inet_queue_of(queue)->udp, op);
}

static void datagram_close(struct queue *queue)
{
	struct inet_queue *iq = inet_queue_of(queue);

	udp_socket_close(iq->udp);
	delete (iq);
}

static void datagram_describe(struct queue *queue, struct queue_info *info)
{
	const struct inet_queue *iq = inet_queue_of(queue);
	socklen_t length = sizeof(info->local);
	struct ip_address address;
	uint16_t port;

	*info = (struct queue_info){
		.kind = "udp",
		.state = udp_socket_connected(iq->udp) ? "connected" : "unconnected",
		.elements = udp_socket_queued(iq->udp),
		.filter = udp_socket_filtered(iq->udp) ? "xdp" : NULL,
	};
	udp_socket_local(iq->udp, &address, &port);
	address_to_socket(iq->domain, &address, port, (struct sockaddr *)&info->local, &length);
	if (!udp_socket_connected(iq->udp))
		return;
	length = sizeof(info->peer);
	udp_socket_remote(iq->udp, &address, &port);
	address_to_socket(iq->domain, &address, port, (struct sockaddr *)&info->peer, &length);
}

const struct queue_ops inet_datagram_ops = {
	.push = datagram_push,
	.pop = datagram_pop,
	.take = queue_take_none,
	.cancel = datagram_cancel,
	.close = datagram_close,
	.describe = datagram_describe,
	.socket = &inet_socket_ops,
};
