/* SPDX-License-Identifier: MIT
 * transport/shm/loop.h - libOS catloop: TCP and UDP sockets of this host over channels.
 *
 * Every unicast address is this host.  A port is a name in the directory of rendezvous, one for
 * each protocol and family, so one socket has it, whatever its address: a second bind of the port
 * is EADDRINUSE even to another address.  Who connects says from and to which address and port
 * (struct loop_hello); the other side checks that it is meant.  A stream that connects without a
 * bind has a random port and no name for it: that it is the only one with this pair of names is
 * checked by the listener's instance.
 *
 * Streams (loop_stream.c): one channel a connection.  Datagrams (loop_datagram.c): one channel for
 * each pair of sockets, made when the first datagram goes; see there whom it trusts.
 *
 * Memory: a socket belongs to its queue, from loop_new until loop_delete; a connection that nobody
 * accepted yet to its listener.  A channel belongs to its socket, or its pair, until channel_close.
 *
 * Invariants, walked by loop_check: a stream has a channel if and only if it is connecting or
 * connected; of a listener children == length(waiting), 0 while an accept is pending; of a datagram
 * socket nothing is queued while a pop is pending, held == sum of what is queued.
 */
#pragma once

#include "base/address.h"
#include "sched/inbox.h"
#include "transport/shm/channel.h"
#include "transport/transport.h"

#include <stdbool.h>
#include <stdint.h>

#define LOOP_FLOWS 256 /* buckets; a power of two */
#define LOOP_PAIRS_MAX                                                                             \
	256                  /* channels of a datagram socket: beyond, the one unused longest goes \
			      */
#define LOOP_PORT_TRIES 1024 /* of 28232 that may be had */
#define LOOP_OPTIONS    16

enum loop_state {
	LOOP_FRESH,
	LOOP_LISTENING,
	LOOP_CONNECTING,
	LOOP_CONNECTED, /* or it was */
};

struct loop_engine {
	struct engine engine;
	struct shm *shm;
	struct list flows[LOOP_FLOWS]; /* connected streams */
	struct list parting;           /* pairs that were closed before their peer was there */
};

/* Both ends of a connection, or of a pair of datagram sockets. */
struct loop_names {
	struct ip_address local;
	struct ip_address remote;
	uint16_t local_port;
	uint16_t remote_port;
};

/* What who connects tells of itself: names as it sees them, in the order of bytes of this host. */
struct loop_hello {
	uint32_t magic;
	uint8_t protocol;
	uint8_t unused;
	uint16_t from_port;
	uint16_t to_port;
	uint8_t from[16];
	uint8_t to[16];
};

struct loop_socket {
	struct queue queue;
	struct loop_engine *engine;
	int domain;
	bool stream;
	bool bound;                  /* by bind, or a datagram that went out */
	bool write_shut;             /* the user shut the sending side */
	bool reset;                  /* the connection ended by an error */
	uint8_t state;               /* enum loop_state; of datagrams LOOP_FRESH or CONNECTED */
	struct ip_address bound_to;  /* as bind said; any address of the domain */
	struct loop_names names;     /* local: bound_to, until connect */
	struct rendezvous *doors[2]; /* what the port is called; NULL */
	struct linger linger;        /* SO_LINGER */
	int options[LOOP_OPTIONS];   /* by index in the table of loop_option.c */

	/* Streams. */
	struct channel *channel;
	struct list in_flow;
	struct op *connect; /* pending; NULL */
	struct timer again; /* connecting: the next try */
	uint64_t give_up_ns;
	uint32_t tries;
	struct op_list accepts;
	struct list waiting; /* listener: connections that nobody accepted */
	struct list in_waiting;
	uint32_t children;
	uint32_t backlog;

	/* Datagrams. */
	struct inbox inbox;
	struct list pairs; /* the one used last in front */
	uint32_t num_pairs;
	int error; /* positive, told to the next operation; 0 */
};

static inline struct loop_socket *loop_of(struct queue *queue)
{
	return container_of(queue, struct loop_socket, queue);
}

/* ---- loop_engine.c ---- */

/* NULL: no memory. */
struct loop_socket *loop_new(struct loop_engine *engine, int domain, bool stream);

/* Names are free, timers off; its channels were closed. */
void loop_delete(struct loop_socket *socket);
void loop_check(const struct loop_socket *socket);

/* ---- loop_name.c ---- */

/* Takes the port (0: any that is free) for all addresses that the socket speaks as.  0, -EINVAL,
 * -EADDRNOTAVAIL, -EADDRINUSE, or as rendezvous_listen. */
int loop_bind(struct loop_socket *socket, const struct ip_address *address, uint16_t port);
void loop_unbind(struct loop_socket *socket);

/* May the socket send to this address?  Who asks for any address means its own host.  0,
 * -EAFNOSUPPORT, -ENETUNREACH.  *local_out: whom it speaks as there. */
int loop_route(const struct loop_socket *socket, struct ip_address *to,
	       struct ip_address *local_out);

/* A port that nobody is asked for. */
uint16_t loop_random_port(struct loop_socket *socket);

/* A socket connected to who has this port.  As rendezvous_connect. */
int loop_call(const struct loop_socket *socket, const struct loop_names *names, int *fd_out);

void loop_say_hello(const struct loop_socket *socket, const struct loop_names *names,
		    struct loop_hello *hello);

/* What a visitor says, checked: *names is as we see it.  0, -EPROTO: it is nonsense,
 * -ECONNREFUSED: it is meant for another. */
int loop_hear_hello(const struct loop_socket *socket, const struct visitor *visitor,
		    struct loop_names *names);

/* ---- loop_stream.c ---- */

extern const struct socket_ops loop_socket_ops;
extern const struct queue_ops loop_stream_ops;
int loop_stream_listen(struct loop_socket *socket, int backlog);
int loop_stream_accept(struct loop_socket *socket, struct op *op);
int loop_stream_connect(struct loop_socket *socket, struct op *op, const struct ip_address *to,
			uint16_t port);
int loop_stream_shutdown(struct loop_socket *socket, int how);
int loop_stream_visit(struct loop_socket *socket, struct visitor *visitor);
void loop_stream_again(struct timer *timer); /* of struct loop_socket */

/* ---- loop_datagram.c ---- */

extern const struct queue_ops loop_datagram_ops;
/* to NULL: disconnects. */
int loop_datagram_connect(struct loop_socket *socket, const struct ip_address *to, uint16_t port);
int loop_datagram_visit(struct loop_socket *socket, struct visitor *visitor);
void loop_datagram_part(struct loop_engine *engine);
uint32_t loop_datagram_parting(const struct loop_engine *engine);
void loop_datagram_check(const struct loop_socket *socket);

/* ---- loop_option.c ---- */

/* Values that the configuration and the kernel have for new sockets. */
void loop_options_init(struct loop_socket *socket);
int loop_set_option(struct queue *queue, int level, int name, const void *value, socklen_t length);
int loop_get_option(struct queue *queue, int level, int name, void *value, socklen_t *length);
bool loop_v6only(const struct loop_socket *socket);
bool loop_broadcast(const struct loop_socket *socket);
uint32_t loop_receive_limit(const struct loop_socket *socket);
