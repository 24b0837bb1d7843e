/* SPDX-License-Identifier: MIT
 * transport/inet/inet.h - libOS catpowder (later catnip too): queues over our own network stack.
 *
 * A queue is a thin shell: it translates addresses and hands operations to src/net, which completes
 * them. The engine owns the device and the stack; its poller is the stack's input and output.
 */
#pragma once

#include "base/address.h"
#include "net/net.h"
#include "net/tcp/tcp.h"
#include "net/udp.h"
#include "transport/address.h"
#include "transport/transport.h"

struct inet_engine {
	struct engine engine;
	struct net net;
};

struct inet_queue {
	struct queue queue;
	struct inet_engine *engine;
	struct tcp_conn *tcp; /* one of the two is there */
	struct udp_socket *udp;
	int domain;
	bool write_shut; /* datagrams: the user shut the sending side */
};

static inline struct inet_queue *inet_queue_of(struct queue *queue)
{
	return container_of(queue, struct inet_queue, queue);
}

/* socket.c */
extern const struct socket_ops inet_socket_ops;
/* The queue of an accepted connection: its descriptor or -errno. */
int32_t inet_adopt(void *owner, struct tcp_conn *conn);

/* queue.c */
extern const struct queue_ops inet_stream_ops;
extern const struct queue_ops inet_datagram_ops;
