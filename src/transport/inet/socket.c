/* SPDX-License-Identifier: MIT
 * transport/inet/socket.c - everything of a socket but pushing and popping.
 */
#include "transport/inet/inet.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

static struct inet_queue *queue_new(struct inet_engine *engine, int domain, bool stream)
{
	struct inet_queue *iq = calloc(1, sizeof(*iq));

	if (!iq)
		return NULL;
	iq->queue.ops = stream ? &inet_stream_ops : &inet_datagram_ops;
	iq->queue.sched = engine->engine.sched;
	iq->queue.qd = -1;
	iq->queue.ends = stream;
	iq->engine = engine;
	iq->domain = domain;
	return iq;
}

static int inet_socket(struct engine *engine, int domain, int type, int protocol,
		       struct queue **queue_out)
{
	struct inet_engine *ie = container_of(engine, struct inet_engine, engine);

	if (!transport_supports(domain, type, protocol))
		return -ENOTSUP;
	struct inet_queue *iq = queue_new(ie, domain, type == SOCK_STREAM);
	if (!iq)
		return -ENOMEM;
	int err = type == SOCK_STREAM ? tcp_conn_new(&ie->net, domain, &iq->tcp)
				      : udp_socket_new(&ie->net, domain, &iq->udp);
	if (err) {
		free(iq);
		return err;
	}
	if (iq->tcp)
		iq->tcp->user = iq;
	*queue_out = &iq->queue;
	return 0;
}

int32_t inet_adopt(void *owner, struct tcp_conn *conn)
{
	struct inet_engine *ie = owner;
	struct inet_queue *iq = queue_new(ie, conn->domain, true);

	if (!iq)
		return -ENOMEM;
	int32_t qd = ie->engine.adopt(ie->engine.owner, &iq->queue);
	if (qd < 0) {
		free(iq);
		return qd;
	}
	iq->tcp = conn;
	conn->user = iq;
	return qd;
}

static int inet_bind(struct queue *queue, const struct sockaddr *address, socklen_t length)
{
	const struct inet_queue *iq = inet_queue_of(queue);
	struct ip_address local;
	uint16_t port;
	int err = address_from_socket(iq->domain, address, length, &local, &port);

	if (err)
		return err;
	return iq->tcp ? tcp_bind(iq->tcp, &local, port) : udp_socket_bind(iq->udp, &local, port);
}

static int inet_listen(struct queue *queue, int backlog)
{
	const struct inet_queue *iq = inet_queue_of(queue);

	return iq->tcp ? tcp_listen(iq->tcp, (uint32_t)backlog) : -ENOTSUP;
}

static int inet_accept(struct queue *queue, struct op *op)
{
	const struct inet_queue *iq = inet_queue_of(queue);

	return iq->tcp ? tcp_accept(iq->tcp, op) : -EINVAL;
}

static int connect_datagram(struct inet_queue *iq, struct op *op, const struct sockaddr *address,
			    socklen_t length)
{
	static const struct ip_address nobody;
	struct ip_address remote = nobody;
	uint16_t port = 0;
	int err = 0;

	if (address->sa_family != AF_UNSPEC)
		err = address_from_socket(iq->domain, address, length, &remote, &port);
	if (!err)
		err = udp_socket_connect(iq->udp, &remote, port);
	if (!err)
		op_complete(iq->queue.sched, op, 0);
	return err;
}

static int inet_connect(struct queue *queue, struct op *op, const struct sockaddr *address,
			socklen_t length)
{
	struct inet_queue *iq = inet_queue_of(queue);
	struct ip_address remote;
	uint16_t port;

	if (iq->udp)
		return connect_datagram(iq, op, address, length);
	int err = address_from_socket(iq->domain, address, length, &remote, &port);
	return err ? err : tcp_connect(iq->tcp, op, &remote, port);
}

static int inet_shutdown(struct queue *queue, int how)
{
	struct inet_queue *iq = inet_queue_of(queue);

	if (iq->tcp)
		return tcp_shutdown(iq->tcp, how);
	if (!udp_socket_connected(iq->udp))
		return -ENOTCONN;
	if (how != SHUT_WR)
		return -ENOTSUP; /* a datagram that comes is nobody's end of a stream */
	iq->write_shut = true;
	return 0;
}

static int inet_set_option(struct queue *queue, int level, int name, const void *value,
			   socklen_t length)
{
	const struct inet_queue *iq = inet_queue_of(queue);

	return iq->tcp ? tcp_set_option(iq->tcp, level, name, value, length)
		       : udp_socket_set_option(iq->udp, level, name, value, length);
}

static int inet_get_option(struct queue *queue, int level, int name, void *value, socklen_t *length)
{
	const struct inet_queue *iq = inet_queue_of(queue);

	return iq->tcp ? tcp_get_option(iq->tcp, level, name, value, length)
		       : udp_socket_get_option(iq->udp, level, name, value, length);
}

static int inet_local_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	const struct inet_queue *iq = inet_queue_of(queue);
	struct ip_address local;
	uint16_t port;

	if (iq->tcp) {
		local = iq->tcp->local;
		port = iq->tcp->local_port;
	} else {
		udp_socket_local(iq->udp, &local, &port);
	}
	address_to_socket(iq->domain, &local, port, address, length);
	return 0;
}

static int inet_peer_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	const struct inet_queue *iq = inet_queue_of(queue);
	struct ip_address remote;
	uint16_t port;

	if (iq->tcp ? !tcp_connected(iq->tcp) : !udp_socket_connected(iq->udp))
		return -ENOTCONN;
	if (iq->tcp) {
		remote = iq->tcp->remote;
		port = iq->tcp->remote_port;
	} else {
		udp_socket_remote(iq->udp, &remote, &port);
	}
	address_to_socket(iq->domain, &remote, port, address, length);
	return 0;
}

static int inet_filter(struct queue *queue, const struct sock_filter *program, uint32_t count)
{
	const struct inet_queue *iq = inet_queue_of(queue);

	return iq->udp ? udp_socket_filter(iq->udp, program, count) : -ENOTSUP;
}

const struct socket_ops inet_socket_ops = {
	.socket = inet_socket,
	.bind = inet_bind,
	.listen = inet_listen,
	.accept = inet_accept,
	.connect = inet_connect,
	.shutdown = inet_shutdown,
	.set_option = inet_set_option,
	.get_option = inet_get_option,
	.local_name = inet_local_name,
	.peer_name = inet_peer_name,
	.filter = inet_filter,
};
