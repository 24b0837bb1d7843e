/* SPDX-License-Identifier: MIT
 * transport/kernel/direct.c - engine "direct": readiness, the hot socket, pops, connections.  See
 * kernel.h.
 */
#include "transport/kernel/kernel.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOCKET_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* ---- readiness ---- */

static int watch(struct ksock *ks)
{
	struct fdset *fds = &ks->queue.sched->fds;

	if (ks->watch.watched)
		return 0;
	return fdset_add(fds, &ks->watch,
			 ks->state == KSOCK_LISTENING ? EPOLLIN | EPOLLET : SOCKET_EVENTS);
}

/* The hot socket goes back into epoll, which reports at once what is ready.  0 or -errno: then it
 * stays hot. */
static int cool(struct kernel_engine *engine)
{
	struct ksock *ks = engine->hot;

	engine->streak = 0;
	if (!ks)
		return 0;
	int err = watch(ks);
	if (!err)
		engine->hot = NULL;
	return err;
}

int ksock_watch(struct ksock *ks)
{
	return ks->engine->hot == ks ? 0 : watch(ks);
}

int ksock_watch_output(struct ksock *ks)
{
	return ks->engine->hot == ks ? cool(ks->engine) : watch(ks);
}

void kernel_forget(struct ksock *ks)
{
	if (ks->engine->hot == ks)
		ks->engine->hot = NULL;
	if (ks->engine->last == ks)
		ks->engine->last = NULL;
}

/* Data came in by an event: the socket becomes hot if that happens often enough and to no other. */
static void note_arrival(struct ksock *ks)
{
	struct kernel_engine *engine = ks->engine;

	if (engine->last != ks) {
		engine->last = ks;
		(void)cool(engine); /* if it can't be watched, it is tried on: nothing is lost */
	} else if (++engine->streak >= KERNEL_HOT_STREAK && !engine->hot &&
		   op_list_empty(&ks->pushes)) {
		fdset_remove(&ks->queue.sched->fds, &ks->watch);
		engine->hot = ks;
	}
}

/* ---- pops ---- */

static void fail_pops(struct ksock *ks, int err)
{
	struct op_slab *ops = &ks->queue.sched->ops;
	struct op *op;

	while ((op = op_list_take(ops, &ks->pops)))
		op_complete(ks->queue.sched, op, err);
}

/* A receive failed.  A connection that broke fails everything; other errors concern one operation.
 */
static void receive_failed(struct ksock *ks, struct op *op, int err)
{
	op_complete(ks->queue.sched, op, err);
	if (!ks->stream || err == ENOMEM)
		return;
	ks->reset = err;
	fail_pops(ks, err);
	kernel_fail_pushes(ks, err);
}

/* Ends a pop that is in no list, after its receive. */
static void receive_done(struct ksock *ks, struct op *op, int err)
{
	if (unlikely(err))
		receive_failed(ks, op, -err);
	else
		op_complete(ks->queue.sched, op, 0);
}

uint32_t ksock_serve_pops(struct ksock *ks)
{
	struct op_slab *ops = &ks->queue.sched->ops;
	uint32_t served = 0;
	struct op *op;

	for (; ks->readable && (op = op_list_first(ops, &ks->pops)); served++) {
		int err = kernel_receive(ks, op);
		if (err == -EAGAIN)
			break;
		op_list_remove(ops, &ks->pops, op);
		receive_done(ks, op, err);
	}
	return served;
}

static int kernel_pop(struct queue *queue, struct op *op)
{
	struct ksock *ks = ksock_of(queue);

	if (ks->stream && ks->state != KSOCK_CONNECTED)
		return -ENOTCONN;
	if (unlikely(ks->reset)) /* what came before it, then kernel_receive tells it */
		ks->readable = true;
	/* The hot socket is tried in the next turn anyway: a try here, most likely too early, would
	 * delay what the caller does next. */
	if (ks->readable && op_list_empty(&ks->pops) && ks->engine->hot != ks) {
		int err = kernel_receive(ks, op);
		if (err != -EAGAIN) {
			receive_done(ks, op, err);
			return 0;
		}
	}
	int err = ksock_watch(ks);
	if (!err)
		op_list_append(&queue->sched->ops, &ks->pops, op);
	return err;
}

/* ---- accepting ---- */

static bool transient(int err)
{
	return err == EINTR || err == ECONNABORTED || err == EPROTO;
}

/* One accept for an operation that is in no list.  Returns false if nobody is there. */
static bool serve_accept(struct ksock *ks, struct op *op)
{
	struct engine *engine = &ks->engine->engine;
	struct sched *sched = ks->queue.sched;
	struct ksock *accepted;
	int fd;

	do {
		fd = accept4(ks->watch.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (fd < 0 && transient(errno));
	if (fd < 0 && errno == EAGAIN) {
		ks->readable = false;
		return false;
	}
	if (fd < 0) {
		op_complete(sched, op, errno);
		return true;
	}
	int err = ksock_new(ks->engine, fd, true, &accepted);
	if (err) {
		close(fd);
		op_complete(sched, op, -err);
		return true;
	}
	accepted->state = KSOCK_CONNECTED;
	accepted->bound = true;
	int32_t qd = engine->adopt(engine->owner, &accepted->queue);
	if (qd < 0)
		ksock_delete(accepted);
	else
		op->len = (uint32_t)qd;
	op_complete(sched, op, qd < 0 ? -qd : 0);
	return true;
}

static uint32_t serve_accepts(struct ksock *ks)
{
	struct op_slab *ops = &ks->queue.sched->ops;
	uint32_t served = 0;
	struct op *op;

	while (ks->readable && (op = op_list_take(ops, &ks->accepts))) {
		if (!serve_accept(ks, op)) {
			op_list_prepend(ops, &ks->accepts, op);
			break;
		}
		served++;
	}
	return served;
}

int kernel_accept(struct queue *queue, struct op *op)
{
	struct ksock *ks = ksock_of(queue);

	if (ks->state != KSOCK_LISTENING)
		return -EINVAL;
	if (ks->readable && op_list_empty(&ks->accepts) && serve_accept(ks, op))
		return 0;
	int err = ksock_watch(ks);
	if (!err)
		op_list_append(&queue->sched->ops, &ks->accepts, op);
	return err;
}

/* ---- connecting ---- */

static void finish_connect(struct ksock *ks, int err)
{
	struct op *op = ks->connect;

	ks->connect = NULL;
	ks->state = err ? KSOCK_FRESH : KSOCK_CONNECTED;
	if (err) {
		fdset_remove(&ks->queue.sched->fds, &ks->watch);
		ks->readable = false;
		ks->hung_up = false;
	} else {
		ks->bound = true;
	}
	op_complete(ks->queue.sched, op, err);
}

/* May datagrams of anybody wait in this socket?  Not if it has no port yet. */
static bool has_port(const struct ksock *ks)
{
	union datagram_source local = {.in.sin_port = 0};
	socklen_t length = sizeof(local);

	/* the port is in the same place for both families */
	return getsockname(ks->watch.fd, &local.any, &length) || local.in.sin_port != 0;
}

static int connect_datagram(struct ksock *ks, struct op *op, const struct sockaddr *address,
			    socklen_t length)
{
	bool others = has_port(ks);

	if (connect(ks->watch.fd, address, length))
		return -errno;
	bool connected = address->sa_family != AF_UNSPEC;
	ks->state = connected ? KSOCK_CONNECTED : KSOCK_FRESH;
	ks->peer_length = connected && !others && length <= sizeof(ks->peer) ? length : 0;
	memcpy(&ks->peer, address, ks->peer_length);
	op_complete(ks->queue.sched, op, 0);
	return 0;
}

int kernel_connect(struct queue *queue, struct op *op, const struct sockaddr *address,
		   socklen_t length)
{
	static const int states[] = {
		[KSOCK_FRESH] = 0,
		[KSOCK_LISTENING] = -EOPNOTSUPP,
		[KSOCK_CONNECTING] = -EINPROGRESS,
		[KSOCK_CONNECTED] = -EISCONN,
	};
	struct ksock *ks = ksock_of(queue);

	if (!ks->stream)
		return connect_datagram(ks, op, address, length);
	if (states[ks->state])
		return states[ks->state];
	int err = connect(ks->watch.fd, address, length) ? errno : 0;
	if (err == EINVAL || err == EAFNOSUPPORT)
		return -err;
	ks->connect = op;
	if (err == EINPROGRESS) {
		ks->state = KSOCK_CONNECTING;
		err = -watch(ks);
		if (!err)
			return 0;
	}
	finish_connect(ks, err);
	return 0;
}

/* ---- events ---- */

/* Ends an attempt to connect, or lets the kernel forget how it ended: else the next one would be
 * told ECONNABORTED. */
static void forget_attempt(struct ksock *ks)
{
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	(void)connect(ks->watch.fd, &nobody, sizeof(nobody));
}

static void connect_event(struct ksock *ks, uint32_t events)
{
	int err = 0;
	socklen_t length = sizeof(err);

	if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
		return;
	if (getsockopt(ks->watch.fd, SOL_SOCKET, SO_ERROR, &err, &length))
		err = errno;
	if (err)
		forget_attempt(ks);
	finish_connect(ks, err);
}

static void linger_step(struct ksock *ks)
{
	if (!op_list_empty(&ks->pushes))
		return;
	ks->engine->num_lingering--;
	list_remove(&ks->in_engine);
	ksock_delete(ks);
}

void ksock_event(struct fd_watch *fd_watch, uint32_t events)
{
	struct ksock *ks = container_of(fd_watch, struct ksock, watch);

	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		ks->hung_up = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		ks->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		ks->writable = true;

	if (ks->state == KSOCK_LISTENING) {
		serve_accepts(ks);
	} else if (ks->state == KSOCK_CONNECTING) {
		connect_event(ks, events);
	} else {
		if (unlikely(!op_list_empty(&ks->pushes)))
			(void)kernel_send_pending(ks);
		if (unlikely(ks->lingers))
			linger_step(ks);
		else if (ksock_serve_pops(ks) > 0)
			note_arrival(ks);
	}
}

/* ---- the engine ---- */

static struct kernel_engine *engine_of(struct poller *poller)
{
	return container_of(poller, struct kernel_engine, engine.poller);
}

static void direct_flush(struct poller *poller, uint32_t more)
{
	(void)more;
	(void)poller; /* pushes were sent as they were made */
}

static uint32_t direct_poll(struct poller *poller)
{
	struct ksock *hot = engine_of(poller)->hot;

	poller->looks = hot && !op_list_empty(&hot->pops);
	if (!poller->looks)
		return 0;
	hot->readable = true;
	return ksock_serve_pops(hot);
}

static int direct_arm(struct poller *poller)
{
	return cool(engine_of(poller)) ? -EAGAIN : 0;
}

static void direct_disarm(struct poller *poller)
{
	(void)poller; /* the sockets stay watched */
}

static uint64_t direct_next_deadline(struct poller *poller)
{
	(void)poller;
	return TIMER_NEVER;
}

static const struct poller_ops direct_poller = {
	.flush = direct_flush,
	.poll = direct_poll,
	.arm = direct_arm,
	.disarm = direct_disarm,
	.next_deadline = direct_next_deadline,
};

static int direct_open(struct sched *sched, struct engine **engine_out)
{
	struct kernel_engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return -ENOMEM;
	engine->engine.ops = &kernel_direct_engine;
	engine->engine.poller.ops = &direct_poller;
	engine->engine.sched = sched;
	list_init(&engine->lingering);
	*engine_out = &engine->engine;
	return 0;
}

static void direct_close(struct engine *engine)
{
	struct kernel_engine *ke = container_of(engine, struct kernel_engine, engine);
	const struct sched *sched = engine->sched;

	if (ke->num_lingering > 0)
		log_write(&sched->log, LOG_LEVEL_WARNING,
			  "%u closed connections had unsent data when the time to linger was over "
			  "(linger_ms: %lld)",
			  ke->num_lingering, (long long)sched->config.linger_ms);
	list_for_each_safe (node, after, &ke->lingering) {
		struct ksock *ks = container_of(node, struct ksock, in_engine);
		engine->sched->counters.drops[DROP_LINGER]++;
		kernel_fail_pushes(ks, ECANCELED);
		linger_step(ks);
	}
	kernel_spares_free(ke);
	free(ke);
}

static uint32_t direct_lingering(struct engine *engine)
{
	return container_of(engine, struct kernel_engine, engine)->num_lingering;
}

const struct engine_ops kernel_direct_engine = {
	.name = "direct",
	.open = direct_open,
	.close = direct_close,
	.lingering = direct_lingering,
	.socket = &kernel_socket_ops,
};

/* ---- the rest of a queue's life ---- */

static void kernel_cancel(struct queue *queue, struct op *op)
{
	struct ksock *ks = ksock_of(queue);
	struct op_slab *ops = &queue->sched->ops;

	switch (op->opcode) {
	case OP_PUSH:
		kernel_cancel_push(ks, op);
		return;
	case OP_CONNECT:
		forget_attempt(ks);
		finish_connect(ks, ECANCELED);
		return;
	case OP_ACCEPT:
		op_list_remove(ops, &ks->accepts, op);
		break;
	default:
		op_list_remove(ops, &ks->pops, op);
	}
	op_complete(queue->sched, op, ECANCELED);
}

static void kernel_close(struct queue *queue)
{
	struct ksock *ks = ksock_of(queue);
	struct op *op;

	fail_pops(ks, ECANCELED);
	while ((op = op_list_take(&queue->sched->ops, &ks->accepts)))
		op_complete(queue->sched, op, ECANCELED);
	if (ks->connect)
		finish_connect(ks, ECANCELED);
	if (!kernel_cut_pushes(ks)) {
		ksock_delete(ks);
		return;
	}
	ks->lingers = true;
	ks->engine->num_lingering++;
	list_append(&ks->engine->lingering, &ks->in_engine);
}

static void kernel_describe(struct queue *queue, struct queue_info *info)
{
	static const char *const states[] = {
		[KSOCK_FRESH] = "unconnected",
		[KSOCK_LISTENING] = "listening",
		[KSOCK_CONNECTING] = "connecting",
		[KSOCK_CONNECTED] = "connected",
	};
	const struct ksock *ks = ksock_of(queue);
	const struct op_slab *ops = &queue->sched->ops;
	socklen_t length = sizeof(info->local);

	*info = (struct queue_info){
		.kind = ks->stream ? "tcp" : "udp",
		.state = ks->reset ? "reset" : states[ks->state],
		.pops_pending = op_list_length(ops, &ks->pops) + op_list_length(ops, &ks->accepts),
		.pushes_pending = op_list_length(ops, &ks->pushes),
		.held_bytes = ks->copied_bytes,
	};
	(void)getsockname(ks->watch.fd, (struct sockaddr *)&info->local, &length);
	length = sizeof(info->peer);
	(void)getpeername(ks->watch.fd, (struct sockaddr *)&info->peer, &length);
}

const struct queue_ops kernel_queue_ops = {
	.push = kernel_push,
	.pop = kernel_pop,
	.take = queue_take_none,
	.cancel = kernel_cancel,
	.close = kernel_close,
	.describe = kernel_describe,
	.socket = &kernel_socket_ops,
};
