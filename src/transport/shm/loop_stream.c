/* SPDX-License-Identifier: MIT
 * transport/shm/loop_stream.c - TCP sockets over a channel each.
 *
 * Connecting: the listener's instance says yes, or why not.  Where TCP would send its SYN again
 * (the backlog is full, nobody gets round to us) we call again, less and less often, until
 * GIVE_UP_NS.  A connection that the listener took waits in its list until it is accepted; it may
 * be written to meanwhile.
 */
#include "transport/shm/internal.h"
#include "transport/shm/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define GIVE_UP_NS     ((uint64_t)60000000000) /* what Linux's SYNs come to, about */
#define AGAIN_FIRST_NS ((uint64_t)1000000)
#define AGAIN_STEPS    7  /* doublings: 128 ms */
#define PORTS_TRIED    64 /* random ones that make a pair of names that there is already */
#define BACKLOG_MAX    4096

static const struct channel_owner stream_owner;

/* ---- pairs of names ---- */

static struct list *flow_of(struct loop_engine *engine, const struct loop_names *names)
{
	uint32_t hash = names->remote_port * 31U + names->local_port;

	return &engine->flows[hash % LOOP_FLOWS];
}

static bool is_taken(struct loop_engine *engine, const struct loop_names *names)
{
	list_for_each (node, flow_of(engine, names)) {
		const struct loop_names *other =
			&container_of(node, struct loop_socket, in_flow)->names;
		if (other->local_port == names->local_port &&
		    other->remote_port == names->remote_port &&
		    ip_equal(&other->local, &names->local) &&
		    ip_equal(&other->remote, &names->remote))
			return true;
	}
	return false;
}

/* ---- connecting ---- */

/* Back to what it was before connect. */
static void forget_connection(struct loop_socket *socket)
{
	timer_cancel(&socket->queue.sched->timers, &socket->again);
	if (socket->channel)
		channel_close(socket->channel);
	socket->channel = NULL;
	socket->state = LOOP_FRESH;
	socket->names.local = socket->bound_to;
	if (!socket->bound)
		socket->names.local_port = 0;
}

/* err: positive, or 0: it is there. */
static void connect_done(struct loop_socket *socket, int err)
{
	struct op *op = socket->connect;

	socket->connect = NULL;
	if (err)
		forget_connection(socket);
	op_complete(socket->queue.sched, op, err);
}

static void call_later(struct loop_socket *socket)
{
	struct sched *sched = socket->queue.sched;
	uint32_t step = socket->tries < AGAIN_STEPS ? socket->tries : AGAIN_STEPS;
	uint64_t now = sched_now(sched);

	socket->tries++;
	if (now >= socket->give_up_ns)
		connect_done(socket, ETIMEDOUT);
	else
		timer_arm(&sched->timers, &socket->again, now + (AGAIN_FIRST_NS << step));
}

static int make_channel(struct loop_socket *socket)
{
	struct sched *sched = socket->queue.sched;
	const struct channel_setup setup = {
		.owner = &stream_owner,
		.arg = socket,
		.qd = socket->queue.qd,
		.stream = true,
		.private = sched->config.shm_private != 0,
	};

	return channel_new(socket->engine->shm, &setup, &socket->channel);
}

/* 0 or -errno. */
static int call(struct loop_socket *socket)
{
	struct loop_hello hello;
	int fd;
	int err = loop_call(socket, &socket->names, &fd);

	if (err)
		return err;
	loop_say_hello(socket, &socket->names, &hello);
	err = make_channel(socket);
	if (!err)
		err = channel_connect(socket->channel, fd, &hello, sizeof(hello));
	if (err)
		close(fd);
	return err;
}

/* What became of a call that was not taken: err is -errno. */
static void call_failed(struct loop_socket *socket, int err)
{
	if (socket->channel)
		channel_close(socket->channel);
	socket->channel = NULL;
	switch (err) {
	case -EAGAIN:     /* the backlog is full */
	case -EBUSY:      /* so is that of who should look at us */
	case -ETIMEDOUT:  /* it has not for a second */
	case -ECONNRESET: /* it went away meanwhile: somebody else may be there */
		call_later(socket);
		break;
	case -ENOENT:
		connect_done(socket, ECONNREFUSED);
		break;
	default:
		connect_done(socket, -err);
	}
}

void loop_stream_again(struct timer *timer)
{
	struct loop_socket *socket = container_of(timer, struct loop_socket, again);
	int err = call(socket);

	if (err)
		call_failed(socket, err);
}

/* The pair of names exists already: another port makes another, if it is ours to choose. */
static bool take_other_port(struct loop_socket *socket)
{
	if (socket->bound || socket->tries >= PORTS_TRIED)
		return false;
	socket->names.local_port = loop_random_port(socket);
	call_later(socket);
	return true;
}

int loop_stream_connect(struct loop_socket *socket, struct op *op, const struct ip_address *to,
			uint16_t port)
{
	static const int states[] = {
		[LOOP_LISTENING] = -EOPNOTSUPP,
		[LOOP_CONNECTING] = -EINPROGRESS,
		[LOOP_CONNECTED] = -EISCONN,
	};
	struct ip_address remote = *to;
	struct ip_address local;

	if (socket->state != LOOP_FRESH)
		return states[socket->state];
	if (port == 0)
		return -ECONNREFUSED;
	int err = loop_route(socket, &remote, &local);
	if (err)
		return err;
	socket->names.local = local;
	socket->names.remote = remote;
	socket->names.remote_port = port;
	if (!socket->bound)
		socket->names.local_port = loop_random_port(socket);
	socket->state = LOOP_CONNECTING;
	socket->connect = op;
	socket->tries = 0;
	socket->give_up_ns = sched_now(socket->queue.sched) + GIVE_UP_NS;
	err = call(socket);
	if (err)
		call_failed(socket, err);
	return 0;
}

/* ---- listening ---- */

static void hand_over(struct loop_socket *listener, struct loop_socket *child, struct op *op)
{
	struct engine *engine = &listener->engine->engine;
	int32_t qd = engine->adopt(engine->owner, &child->queue);

	list_remove(&child->in_waiting);
	listener->children--;
	if (qd < 0) {
		channel_abort(child->channel);
		child->channel = NULL;
		loop_delete(child);
	} else {
		op->len = (uint32_t)qd;
	}
	op_complete(listener->queue.sched, op, qd < 0 ? -qd : 0);
}

static void serve_accepts(struct loop_socket *listener)
{
	struct op_slab *ops = &listener->queue.sched->ops;

	while (!list_empty(&listener->waiting) && !op_list_empty(&listener->accepts)) {
		struct list *first = listener->waiting.next;
		hand_over(listener, container_of(first, struct loop_socket, in_waiting),
			  op_list_take(ops, &listener->accepts));
	}
}

int loop_stream_listen(struct loop_socket *socket, int backlog)
{
	if (socket->state != LOOP_FRESH)
		return -EADDRINUSE;
	if (!socket->bound)
		return -EDESTADDRREQ;
	socket->state = LOOP_LISTENING;
	socket->backlog = backlog < BACKLOG_MAX ? (uint32_t)backlog : BACKLOG_MAX;
	return 0;
}

int loop_stream_accept(struct loop_socket *socket, struct op *op)
{
	if (socket->state != LOOP_LISTENING)
		return -EINVAL;
	op_list_append(&socket->queue.sched->ops, &socket->accepts, op);
	serve_accepts(socket);
	return 0;
}

/* The socket of a connection, with the options of its listener. */
static struct loop_socket *make_child(const struct loop_socket *listener,
				      const struct loop_names *names)
{
	struct loop_socket *child = loop_new(listener->engine, listener->domain, true);

	if (!child)
		return NULL;
	child->state = LOOP_CONNECTED;
	child->names = *names;
	child->linger = listener->linger;
	memcpy(child->options, listener->options, sizeof(child->options));
	if (make_channel(child)) {
		loop_delete(child);
		return NULL;
	}
	return child;
}

int loop_stream_visit(struct loop_socket *socket, struct visitor *visitor)
{
	struct loop_names names;
	int err = loop_hear_hello(socket, visitor, &names);

	if (err)
		return err;
	if (socket->state != LOOP_LISTENING)
		return -ECONNREFUSED;
	if (names.remote_port == 0)
		return -EPROTO;
	if (is_taken(socket->engine, &names))
		return -EADDRNOTAVAIL;
	if (socket->children > socket->backlog) /* one more than it says, as in Linux */
		return -EAGAIN;
	struct loop_socket *child = make_child(socket, &names);
	if (!child)
		return -ENOMEM;
	err = channel_accept(child->channel, visitor, "", 0);
	if (err) {
		channel_close(child->channel);
		child->channel = NULL;
		loop_delete(child);
		return err;
	}
	list_append(flow_of(socket->engine, &names), &child->in_flow);
	list_append(&socket->waiting, &child->in_waiting);
	socket->children++;
	serve_accepts(socket);
	return 0;
}

/* ---- what the channel tells ---- */

static void stream_joined(struct channel *channel, const void *hello, uint32_t bytes)
{
	struct loop_socket *socket = channel_arg(channel);

	(void)hello;
	(void)bytes;
	if (!socket->connect) /* it was accepted */
		return;
	socket->state = LOOP_CONNECTED;
	list_append(flow_of(socket->engine, &socket->names), &socket->in_flow);
	connect_done(socket, 0);
}

/* There are no messages but pushes on a stream: who sends others does not speak our language. */
static void stream_arrived(struct channel *channel, const struct channel_message *message)
{
	(void)message;
	channel_fail(channel, -ECONNRESET);
}

static void stream_roomy(struct channel *channel)
{
	(void)channel;
}

static void stream_ended(struct channel *channel, int err)
{
	struct loop_socket *socket = channel_arg(channel);

	if (!socket->connect)
		socket->reset = err != 0;
	else if (err != -EADDRNOTAVAIL || !take_other_port(socket))
		call_failed(socket, err ? err : -ECONNRESET);
}

static const struct channel_owner stream_owner = {
	.joined = stream_joined,
	.arrived = stream_arrived,
	.roomy = stream_roomy,
	.ended = stream_ended,
};

/* ---- queues ---- */

/* What the connection came to is told by the operation, not by the call. */
static int told_later(struct loop_socket *socket, struct op *op, int err)
{
	if (likely(err != -EPIPE && err != -ECONNRESET))
		return err;
	op_complete(socket->queue.sched, op, -err);
	return 0;
}

static int stream_push(struct queue *queue, struct op *op, const struct sockaddr *to,
		       socklen_t length)
{
	struct loop_socket *socket = loop_of(queue);

	(void)length;
	if (unlikely(to))
		return -ENOTSUP;
	if (unlikely(socket->state != LOOP_CONNECTED))
		return -ENOTCONN;
	if (unlikely(socket->write_shut))
		return -EPIPE;
	if (unlikely(op_bytes(op) == 0))
		return -EINVAL;
	return told_later(socket, op, channel_push(socket->channel, op));
}

static int stream_pop(struct queue *queue, struct op *op)
{
	struct loop_socket *socket = loop_of(queue);

	if (unlikely(socket->state != LOOP_CONNECTED))
		return -ENOTCONN;
	return told_later(socket, op, channel_pop(socket->channel, op));
}

static void stream_cancel(struct queue *queue, struct op *op)
{
	struct loop_socket *socket = loop_of(queue);
	struct sched *sched = queue->sched;

	if (op == socket->connect) {
		connect_done(socket, ECANCELED);
	} else if (op->opcode == OP_ACCEPT) {
		op_list_remove(&sched->ops, &socket->accepts, op);
		op_complete(sched, op, ECANCELED);
	} else {
		channel_cancel(socket->channel, op);
	}
}

int loop_stream_shutdown(struct loop_socket *socket, int how)
{
	if (socket->state != LOOP_CONNECTED || socket->reset)
		return -ENOTCONN;
	if (how != SHUT_WR)
		channel_deafen(socket->channel);
	if (how != SHUT_RD && !socket->write_shut) {
		socket->write_shut = true;
		channel_shut(socket->channel);
	}
	return 0;
}

static void close_listener(struct loop_socket *socket)
{
	struct sched *sched = socket->queue.sched;
	struct op *op;

	while ((op = op_list_take(&sched->ops, &socket->accepts)))
		op_complete(sched, op, ECANCELED);
	list_for_each_safe (node, after, &socket->waiting) {
		struct loop_socket *child = container_of(node, struct loop_socket, in_waiting);
		channel_abort(child->channel);
		child->channel = NULL;
		loop_delete(child);
	}
}

static void stream_close(struct queue *queue)
{
	struct loop_socket *socket = loop_of(queue);

	if (socket->state == LOOP_LISTENING)
		close_listener(socket);
	if (socket->connect)
		connect_done(socket, ECANCELED);
	if (socket->channel && socket->linger.l_onoff && socket->linger.l_linger == 0)
		channel_abort(socket->channel); /* as TCP: a reset, and what was not sent is lost */
	else if (socket->channel)
		channel_close(socket->channel);
	socket->channel = NULL;
	loop_delete(socket);
}

static const char *state_name(const struct loop_socket *socket)
{
	static const char *const names[] = {
		[LOOP_FRESH] = "closed",
		[LOOP_LISTENING] = "listening",
		[LOOP_CONNECTING] = "connecting",
		[LOOP_CONNECTED] = "connected",
	};

	return socket->reset ? "reset" : names[socket->state];
}

static uint32_t count_waiting(const struct loop_socket *listener)
{
	uint32_t count = 0;

	list_for_each (node, &listener->waiting)
		count++;
	return count;
}

static void stream_describe(struct queue *queue, struct queue_info *info)
{
	struct loop_socket *socket = loop_of(queue);
	socklen_t length = sizeof(info->local);

	*info = (struct queue_info){.kind = "tcp", .state = state_name(socket)};
	if (socket->channel)
		channel_describe(socket->channel, info);
	if (socket->state == LOOP_LISTENING) {
		info->pops_pending = op_list_length(&queue->sched->ops, &socket->accepts);
		info->elements = count_waiting(socket);
	}
	(void)queue->ops->socket->local_name(queue, (struct sockaddr *)&info->local, &length);
	length = sizeof(info->peer);
	(void)queue->ops->socket->peer_name(queue, (struct sockaddr *)&info->peer, &length);
}

const struct queue_ops loop_stream_ops = {
	.push = stream_push,
	.pop = stream_pop,
	.take = queue_take_none,
	.cancel = stream_cancel,
	.close = stream_close,
	.describe = stream_describe,
	.socket = &loop_socket_ops,
};
