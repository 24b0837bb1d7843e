/* SPDX-License-Identifier: MIT
 * transport/shm/loop_datagram.c - UDP sockets: a channel for each pair of them that talks.
 *
 * The first datagram to somebody calls whoever has that port; its channel then carries both ways.
 * As in UDP nothing tells a sender what becomes of a datagram: one that finds nobody, or no room,
 * is dropped and counted; who is connected hears of nobody by ECONNREFUSED.
 *
 * Trust.  A visitor says which port is its own, and may lie.  What it sends is taken for that
 * port's, as a datagram's source always is; but nothing is sent to it until the process that has
 * the name of that port is seen to be the same.  Else who has the name is called.
 */
#include "transport/shm/loop.h"

#include "base/assert.h"
#include "transport/address.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define DATAGRAM      CHANNEL_RAW /* the kind of our messages */
#define PAYLOAD_V4    65507       /* of an IP packet of 65535 bytes */
#define PAYLOAD_V6    65527
#define SEND_ATTEMPTS 2 /* the second to who has the port now */

enum trust {
	UNKNOWN, /* it was not asked */
	TRUSTED, /* we called it, or it has the port that it says */
	LIAR,
};

struct pair {
	struct channel *channel;
	struct loop_engine *engine;
	struct loop_socket *socket; /* NULL: the socket is gone, and the peer not there yet */
	struct loop_names names;
	struct list in_owner; /* the socket's pairs, or those that part */
	uint8_t trust;
	bool joined;
};

static void count_drop(const struct loop_socket *socket, enum drop drop)
{
	socket->queue.sched->counters.drops[drop]++;
}

/* ---- pairs ---- */

static void pair_delete(struct pair *pair)
{
	if (pair->socket)
		pair->socket->num_pairs--;
	list_remove(&pair->in_owner);
	free(pair);
}

/* What was sent still goes; if the peer is not there yet, once it is. */
static void pair_close(struct pair *pair)
{
	if (pair->joined) {
		channel_close(pair->channel);
		pair_delete(pair);
		return;
	}
	list_remove(&pair->in_owner);
	list_append(&pair->engine->parting, &pair->in_owner);
	pair->socket->num_pairs--;
	pair->socket = NULL;
}

void loop_datagram_part(struct loop_engine *engine)
{
	list_for_each_safe (node, after, &engine->parting) {
		struct pair *pair = container_of(node, struct pair, in_owner);
		channel_close(pair->channel);
		pair_delete(pair);
	}
}

uint32_t loop_datagram_parting(const struct loop_engine *engine)
{
	uint32_t count = 0;

	list_for_each (node, &engine->parting)
		count++;
	return count;
}

/* ---- what arrives ---- */

/* Takes the message that is next.  DROP_NONE, or why it is thrown away. */
static enum drop take_datagram(const struct pair *pair, uint32_t bytes)
{
	struct loop_socket *socket = pair->socket;
	struct heap *heap = socket->queue.sched->heap;
	/* An empty datagram has a byte too: its segment must point into the object. */
	uint32_t room = (uint32_t)sizeof(struct datagram) + bytes + (bytes == 0);
	struct inbox_entry entry = {.bytes = bytes, .held = room + sizeof(entry)};
	bool full = inbox_is_full(&socket->inbox, entry.held, loop_receive_limit(socket));

	entry.datagram = full ? NULL : heap_alloc(heap, room);
	channel_take(pair->channel, entry.datagram ? entry.datagram->data : NULL);
	if (!entry.datagram)
		return full ? DROP_UDP_FULL : DROP_DATAGRAM_MEMORY;
	entry.datagram->source_length = sizeof(entry.datagram->source);
	address_to_socket(socket->domain, &pair->names.remote, pair->names.remote_port,
			  &entry.datagram->source.any, &entry.datagram->source_length);
	if (inbox_put(&socket->inbox, socket->queue.sched, &entry))
		return DROP_NONE;
	(void)heap_free(heap, entry.datagram);
	return DROP_DATAGRAM_MEMORY;
}

/* ---- what the channel tells ---- */

static void pair_joined(struct channel *channel, const void *hello, uint32_t bytes)
{
	struct pair *pair = channel_arg(channel);

	(void)hello;
	(void)bytes;
	pair->joined = true;
	if (!pair->socket) {
		channel_close(channel);
		pair_delete(pair);
	}
}

static void pair_arrived(struct channel *channel, const struct channel_message *message)
{
	struct pair *pair = channel_arg(channel);
	enum drop drop;

	/* a parting one closes when the peer has come, before anything of it arrives */
	ASSERT(pair->socket);
	if (message->kind != DATAGRAM || message->bytes > PAYLOAD_V6) {
		channel_abort(channel);
		pair_delete(pair);
		return;
	}
	drop = take_datagram(pair, message->bytes);
	if (drop)
		count_drop(pair->socket, drop);
}

static void pair_roomy(struct channel *channel)
{
	(void)channel;
}

/* Is it whom the socket is connected to? */
static bool is_peer(const struct loop_socket *socket, const struct loop_names *names)
{
	return socket->state == LOOP_CONNECTED && ip_equal(&socket->names.remote, &names->remote) &&
	       socket->names.remote_port == names->remote_port;
}

/* What was on its way is lost. */
static void nobody_there(struct loop_socket *socket, const struct loop_names *names)
{
	count_drop(socket, DROP_UDP_PORT);
	if (is_peer(socket, names))
		socket->error = ECONNREFUSED;
}

static void pair_ended(struct channel *channel, int err)
{
	struct pair *pair = channel_arg(channel);

	(void)err;
	if (!pair->joined && pair->socket)
		nobody_there(pair->socket, &pair->names);
	channel_close(channel);
	pair_delete(pair);
}

static const struct channel_owner pair_owner = {
	.joined = pair_joined,
	.arrived = pair_arrived,
	.roomy = pair_roomy,
	.ended = pair_ended,
};

/* With a channel, in front of the socket's pairs.  0 or -errno. */
static int pair_new(struct loop_socket *socket, const struct loop_names *names,
		    struct pair **pair_out)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	if (!pair)
		return -ENOMEM;
	const struct channel_setup setup = {
		.owner = &pair_owner, .arg = pair, .qd = socket->queue.qd};
	int err = channel_new(socket->engine->shm, &setup, &pair->channel);
	if (err) {
		free(pair);
		return err;
	}
	if (socket->num_pairs == LOOP_PAIRS_MAX)
		pair_close(container_of(socket->pairs.prev, struct pair, in_owner));
	pair->engine = socket->engine;
	pair->socket = socket;
	pair->names = *names;
	list_insert(socket->pairs.next, &pair->in_owner);
	socket->num_pairs++;
	*pair_out = pair;
	return 0;
}

static void pair_undo(struct pair *pair)
{
	channel_close(pair->channel);
	pair_delete(pair);
}

int loop_datagram_visit(struct loop_socket *socket, struct visitor *visitor)
{
	struct loop_names names;
	struct pair *pair;
	int err = loop_hear_hello(socket, visitor, &names);

	if (err)
		return err;
	if (names.remote_port == 0)
		return -EPROTO;
	if (socket->state == LOOP_CONNECTED && !is_peer(socket, &names))
		return -ECONNREFUSED;
	err = pair_new(socket, &names, &pair);
	if (err)
		return err;
	err = channel_accept(pair->channel, visitor, "", 0);
	if (err)
		pair_undo(pair);
	return err;
}

/* ---- whom a datagram goes to ---- */

/* Has the process of the peer the port that it says it has? */
static bool has_its_port(const struct loop_socket *socket, const struct pair *pair)
{
	const struct ucred *peer = channel_peer(pair->channel);
	struct ucred owner = {.pid = 0};
	socklen_t length = sizeof(owner);
	int fd;

	if (loop_call(socket, &pair->names, &fd))
		return false;
	int err = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &length);
	close(fd);
	return err == 0 && owner.pid != 0 && owner.pid == peer->pid && owner.uid == peer->uid;
}

static bool is_trusted(const struct loop_socket *socket, struct pair *pair)
{
	if (unlikely(pair->trust == UNKNOWN))
		pair->trust = has_its_port(socket, pair) ? TRUSTED : LIAR;
	return pair->trust == TRUSTED;
}

static struct pair *find_pair(struct loop_socket *socket, const struct loop_names *names)
{
	list_for_each (node, &socket->pairs) {
		struct pair *pair = container_of(node, struct pair, in_owner);
		if (pair->names.remote_port != names->remote_port ||
		    !ip_equal(&pair->names.remote, &names->remote) ||
		    !ip_equal(&pair->names.local, &names->local) || !is_trusted(socket, pair))
			continue;
		list_remove(&pair->in_owner);
		list_insert(socket->pairs.next, &pair->in_owner);
		return pair;
	}
	return NULL;
}

/* Calls who has the port.  0 or -errno. */
static int call(struct loop_socket *socket, const struct loop_names *names, struct pair **pair_out)
{
	struct loop_hello hello;
	int fd;
	int err = loop_call(socket, names, &fd);

	if (err)
		return err;
	loop_say_hello(socket, names, &hello);
	err = pair_new(socket, names, pair_out);
	if (err) {
		close(fd);
		return err;
	}
	(*pair_out)->trust = TRUSTED;
	err = channel_connect((*pair_out)->channel, fd, &hello, sizeof(hello));
	if (err) {
		close(fd);
		pair_undo(*pair_out);
	}
	return err;
}

/* 0: it is on its way; or -errno. */
static int send_once(struct loop_socket *socket, const struct loop_names *names, struct op *op)
{
	struct pair *pair = find_pair(socket, names);
	struct iovec one;
	int err = pair ? 0 : call(socket, names, &pair);

	if (err)
		return err;
	err = channel_send(pair->channel, DATAGRAM, op_vector(op, &one), op->numsegs);
	if (err == -EPIPE || err == -ECONNRESET)
		pair_undo(pair);
	return err;
}

/* 0: it is gone, wherever to; or -errno, of this host. */
static int send_datagram(struct loop_socket *socket, const struct loop_names *names, struct op *op)
{
	int err = -EPIPE;

	for (uint32_t i = 0; i < SEND_ATTEMPTS && (err == -EPIPE || err == -ECONNRESET); i++)
		err = send_once(socket, names, op);
	switch (err) {
	case -EPIPE:
	case -ECONNRESET:
	case -ENOENT:
		nobody_there(socket, names);
		return 0;
	case -EAGAIN:
	case -EBUSY:
		count_drop(socket, DROP_UDP_FULL);
		return 0;
	default:
		return err;
	}
}

/* Names of a datagram to an address: 0 or -errno. */
static int find_names(const struct loop_socket *socket, const struct ip_address *to, uint16_t port,
		      struct loop_names *names)
{
	names->remote = *to;
	names->remote_port = port;
	if (ip_is_v4(to) && to->words[3] == UINT32_MAX && !loop_broadcast(socket))
		return -EACCES;
	return port ? loop_route(socket, &names->remote, &names->local) : -EINVAL;
}

/* A port of its own, so that it can be answered. */
static int need_port(struct loop_socket *socket)
{
	struct ip_address any = socket->bound_to;

	return socket->bound ? 0 : loop_bind(socket, &any, 0);
}

/* ---- queues ---- */

int loop_datagram_connect(struct loop_socket *socket, const struct ip_address *to, uint16_t port)
{
	struct loop_names names;

	if (!to) {
		socket->state = LOOP_FRESH;
		socket->names.local = socket->bound_to;
		return 0;
	}
	int err = find_names(socket, to, port, &names);
	if (!err)
		err = need_port(socket);
	if (err)
		return err;
	names.local_port = socket->names.local_port;
	socket->state = LOOP_CONNECTED;
	socket->names = names;
	socket->error = 0;
	list_for_each_safe (node, after, &socket->pairs) {
		struct pair *pair = container_of(node, struct pair, in_owner);
		if (!is_peer(socket, &pair->names))
			pair_close(pair);
	}
	return 0;
}

static int take_error(struct loop_socket *socket)
{
	int err = socket->error;

	socket->error = 0;
	return err;
}

static int datagram_push(struct queue *queue, struct op *op, const struct sockaddr *to,
			 socklen_t length)
{
	struct loop_socket *socket = loop_of(queue);
	struct loop_names names = socket->names;
	struct ip_address address;
	uint16_t port;
	int err = 0;

	if (unlikely(socket->write_shut))
		return -EPIPE;
	if (unlikely(socket->error))
		return -take_error(socket);
	if (!to && socket->state != LOOP_CONNECTED)
		return -EDESTADDRREQ;
	if (to)
		err = address_from_socket(socket->domain, to, length, &address, &port);
	if (!err && to)
		err = find_names(socket, &address, port, &names);
	if (!err && op_bytes(op) > (ip_is_v4(&names.remote) ? PAYLOAD_V4 : PAYLOAD_V6))
		err = -EMSGSIZE;
	if (!err)
		err = need_port(socket);
	names.local_port = socket->names.local_port;
	if (!err)
		err = send_datagram(socket, &names, op);
	if (unlikely(err))
		return err;
	sched_count(queue->sched, COUNTER_BYTES_OUT, op_bytes(op));
	op_complete(queue->sched, op, 0);
	return 0;
}

static int datagram_pop(struct queue *queue, struct op *op)
{
	struct loop_socket *socket = loop_of(queue);

	if (unlikely(socket->error))
		op_complete(queue->sched, op, take_error(socket));
	else
		inbox_pop(&socket->inbox, queue->sched, op);
	return 0;
}

static void datagram_cancel(struct queue *queue, struct op *op)
{
	inbox_cancel(&loop_of(queue)->inbox, queue->sched, op);
}

static void datagram_close(struct queue *queue)
{
	struct loop_socket *socket = loop_of(queue);

	while (inbox_fail_pop(&socket->inbox, queue->sched, ECANCELED))
		;
	inbox_close(&socket->inbox, queue->sched->heap);
	list_for_each_safe (node, after, &socket->pairs)
		pair_close(container_of(node, struct pair, in_owner));
	loop_delete(socket);
}

static void datagram_describe(struct queue *queue, struct queue_info *info)
{
	struct loop_socket *socket = loop_of(queue);
	socklen_t length = sizeof(info->local);

	*info = (struct queue_info){
		.kind = "udp",
		.state = socket->state == LOOP_CONNECTED ? "connected" : "unconnected",
		.pops_pending = op_list_length(&queue->sched->ops, &socket->inbox.pops),
		.elements = socket->inbox.count,
		.held_bytes = socket->inbox.held,
	};
	(void)queue->ops->socket->local_name(queue, (struct sockaddr *)&info->local, &length);
	length = sizeof(info->peer);
	(void)queue->ops->socket->peer_name(queue, (struct sockaddr *)&info->peer, &length);
}

const struct queue_ops loop_datagram_ops = {
	.push = datagram_push,
	.pop = datagram_pop,
	.take = queue_take_none,
	.cancel = datagram_cancel,
	.close = datagram_close,
	.describe = datagram_describe,
	.socket = &loop_socket_ops,
};

void loop_datagram_check(const struct loop_socket *socket)
{
	uint32_t pairs = 0;

	list_for_each (node, &socket->pairs)
		pairs++;
	ASSERT(pairs == socket->num_pairs && pairs <= LOOP_PAIRS_MAX);
	inbox_check(&socket->inbox);
}
