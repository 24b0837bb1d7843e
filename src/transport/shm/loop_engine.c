/* SPDX-License-Identifier: MIT
 * transport/shm/loop_engine.c - LIBOS=catloop: the engine, and what all of its sockets have.
 * Channels have a poller of their own (shm.c), here is nothing to be polled.
 */
#include "transport/shm/loop.h"

#include "base/assert.h"
#include "transport/address.h"

#include <errno.h>
#include <stdlib.h>

/* ---- sockets ---- */

struct loop_socket *loop_new(struct loop_engine *engine, int domain, bool stream)
{
	struct loop_socket *socket = calloc(1, sizeof(*socket));

	if (!socket)
		return NULL;
	socket->queue = (struct queue){
		.ops = stream ? &loop_stream_ops : &loop_datagram_ops,
		.sched = engine->engine.sched,
		.qd = -1,
		.ends = stream,
	};
	socket->engine = engine;
	socket->domain = domain;
	socket->stream = stream;
	if (domain == AF_INET)
		socket->bound_to = ip_from_v4(0);
	socket->names.local = socket->bound_to;
	timer_init(&socket->again, loop_stream_again);
	list_init(&socket->in_flow);
	list_init(&socket->waiting);
	list_init(&socket->in_waiting);
	list_init(&socket->pairs);
	op_list_init(&socket->accepts);
	inbox_init(&socket->inbox);
	loop_options_init(socket);
	return socket;
}

void loop_delete(struct loop_socket *socket)
{
	ASSERT(!socket->channel && !socket->connect && list_empty(&socket->pairs));
	loop_unbind(socket);
	timer_cancel(&socket->queue.sched->timers, &socket->again);
	list_remove(&socket->in_flow);
	list_remove(&socket->in_waiting);
	free(socket);
}

void loop_check(const struct loop_socket *socket)
{
	uint32_t children = 0;

	list_for_each (node, &socket->waiting)
		children++;
	ASSERT(children == socket->children);
	ASSERT(children == 0 || op_list_empty(&socket->accepts));
	ASSERT((socket->connect != NULL) == (socket->state == LOOP_CONNECTING));
	ASSERT(!socket->channel || socket->state >= LOOP_CONNECTING);
	if (!socket->stream)
		loop_datagram_check(socket);
}

static int loop_socket(struct engine *engine, int domain, int type, int protocol,
		       struct queue **queue_out)
{
	struct loop_engine *le = container_of(engine, struct loop_engine, engine);

	if (!transport_supports(domain, type, protocol))
		return -ENOTSUP;
	struct loop_socket *socket = loop_new(le, domain, type == SOCK_STREAM);
	if (!socket)
		return -ENOMEM;
	*queue_out = &socket->queue;
	return 0;
}

static int loop_bind_op(struct queue *queue, const struct sockaddr *address, socklen_t length)
{
	struct loop_socket *socket = loop_of(queue);
	struct ip_address local;
	uint16_t port;
	int err = address_from_socket(socket->domain, address, length, &local, &port);

	return err ? err : loop_bind(socket, &local, port);
}

static int loop_listen(struct queue *queue, int backlog)
{
	struct loop_socket *socket = loop_of(queue);

	return socket->stream ? loop_stream_listen(socket, backlog) : -ENOTSUP;
}

static int loop_accept(struct queue *queue, struct op *op)
{
	struct loop_socket *socket = loop_of(queue);

	return socket->stream ? loop_stream_accept(socket, op) : -EINVAL;
}

static int connect_datagram(struct loop_socket *socket, struct op *op,
			    const struct sockaddr *address, socklen_t length)
{
	struct ip_address remote;
	uint16_t port;
	int err;

	if (address->sa_family == AF_UNSPEC) {
		err = loop_datagram_connect(socket, NULL, 0);
	} else {
		err = address_from_socket(socket->domain, address, length, &remote, &port);
		if (!err)
			err = loop_datagram_connect(socket, &remote, port);
	}
	if (!err)
		op_complete(socket->queue.sched, op, 0);
	return err;
}

static int loop_connect(struct queue *queue, struct op *op, const struct sockaddr *address,
			socklen_t length)
{
	struct loop_socket *socket = loop_of(queue);
	struct ip_address remote;
	uint16_t port;

	if (!socket->stream)
		return connect_datagram(socket, op, address, length);
	int err = address_from_socket(socket->domain, address, length, &remote, &port);
	return err ? err : loop_stream_connect(socket, op, &remote, port);
}

static int loop_shutdown(struct queue *queue, int how)
{
	struct loop_socket *socket = loop_of(queue);

	if (socket->stream)
		return loop_stream_shutdown(socket, how);
	if (socket->state != LOOP_CONNECTED)
		return -ENOTCONN;
	if (how != SHUT_WR)
		return -ENOTSUP; /* a datagram that comes is nobody's end of a stream */
	socket->write_shut = true;
	return 0;
}

static int loop_local_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	const struct loop_socket *socket = loop_of(queue);

	address_to_socket(socket->domain, &socket->names.local, socket->names.local_port, address,
			  length);
	return 0;
}

static int loop_peer_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	const struct loop_socket *socket = loop_of(queue);

	if (socket->state != LOOP_CONNECTED || socket->reset)
		return -ENOTCONN;
	address_to_socket(socket->domain, &socket->names.remote, socket->names.remote_port, address,
			  length);
	return 0;
}

const struct socket_ops loop_socket_ops = {
	.socket = loop_socket,
	.bind = loop_bind_op,
	.listen = loop_listen,
	.accept = loop_accept,
	.connect = loop_connect,
	.shutdown = loop_shutdown,
	.set_option = loop_set_option,
	.get_option = loop_get_option,
	.local_name = loop_local_name,
	.peer_name = loop_peer_name,
	.filter = socket_filter_none,
};

/* ---- the poller ---- */

static void loop_flush(struct poller *poller, uint32_t more)
{
	(void)poller;
	(void)more;
}

static uint32_t loop_poll(struct poller *poller)
{
	(void)poller;
	return 0;
}

static int loop_arm(struct poller *poller)
{
	(void)poller;
	return 0;
}

static void loop_disarm(struct poller *poller)
{
	(void)poller;
}

static uint64_t loop_next_deadline(struct poller *poller)
{
	(void)poller;
	return TIMER_NEVER;
}

static const struct poller_ops loop_poller = {
	.flush = loop_flush,
	.poll = loop_poll,
	.arm = loop_arm,
	.disarm = loop_disarm,
	.next_deadline = loop_next_deadline,
};

/* ---- the engine ---- */

static int loop_open(struct sched *sched, struct engine **engine_out)
{
	struct loop_engine *le = calloc(1, sizeof(*le));

	if (!le)
		return -ENOMEM;
	int err = shm_open_instance(sched, &le->shm);
	if (err) {
		free(le);
		return err;
	}
	le->engine.ops = &catloop_engine;
	le->engine.poller = (struct poller){.ops = &loop_poller, .looks = true};
	le->engine.sched = sched;
	for (uint32_t i = 0; i < LOOP_FLOWS; i++)
		list_init(&le->flows[i]);
	list_init(&le->parting);
	*engine_out = &le->engine;
	return 0;
}

static uint32_t loop_lingering(struct engine *engine)
{
	const struct loop_engine *le = container_of(engine, struct loop_engine, engine);

	return shm_lingering(le->shm) + loop_datagram_parting(le);
}

static void loop_close(struct engine *engine)
{
	struct loop_engine *le = container_of(engine, struct loop_engine, engine);
	const struct sched *sched = engine->sched;
	uint32_t lingering = loop_lingering(engine);

	if (lingering > 0) {
		engine->sched->counters.drops[DROP_LINGER] += lingering;
		log_write(&sched->log, LOG_LEVEL_WARNING,
			  "%u closed connections had unsent data when the time to linger was over "
			  "(linger_ms: %lld)",
			  lingering, (long long)sched->config.linger_ms);
	}
	loop_datagram_part(le);
	shm_close_instance(le->shm);
	free(le);
}

const struct engine_ops catloop_engine = {
	.name = "catloop",
	.open = loop_open,
	.close = loop_close,
	.lingering = loop_lingering,
	.socket = &loop_socket_ops,
};
