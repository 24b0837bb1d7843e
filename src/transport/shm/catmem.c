/* SPDX-License-Identifier: MIT
 * transport/shm/catmem.c - LIBOS=catmem: an instance with pipes, memory queues and logs, and no
 * sockets.  Pipes have a poller of their own (shm.c), here is nothing to be polled.
 */
#include "transport/transport.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the poller ---- */

static void catmem_flush(struct poller *poller, uint32_t more)
{
	(void)poller;
	(void)more;
}

static uint32_t catmem_poll(struct poller *poller)
{
	(void)poller;
	return 0;
}

static int catmem_arm(struct poller *poller)
{
	(void)poller;
	return 0;
}

static void catmem_disarm(struct poller *poller)
{
	(void)poller;
}

static uint64_t catmem_next_deadline(struct poller *poller)
{
	(void)poller;
	return TIMER_NEVER;
}

static const struct poller_ops catmem_poller = {
	.flush = catmem_flush,
	.poll = catmem_poll,
	.arm = catmem_arm,
	.disarm = catmem_disarm,
	.next_deadline = catmem_next_deadline,
};

/* ---- sockets: none, so nothing but the first is ever called ---- */

static int catmem_socket(struct engine *engine, int domain, int type, int protocol,
			 struct queue **queue_out)
{
	(void)engine;
	(void)domain;
	(void)type;
	(void)protocol;
	(void)queue_out;
	return -ENOTSUP;
}

static int catmem_bind(struct queue *queue, const struct sockaddr *address, socklen_t length)
{
	(void)queue;
	(void)address;
	(void)length;
	return -ENOTSUP;
}

static int catmem_listen(struct queue *queue, int backlog)
{
	(void)queue;
	(void)backlog;
	return -ENOTSUP;
}

static int catmem_accept(struct queue *queue, struct op *op)
{
	(void)queue;
	(void)op;
	return -ENOTSUP;
}

static int catmem_connect(struct queue *queue, struct op *op, const struct sockaddr *address,
			  socklen_t length)
{
	(void)queue;
	(void)op;
	(void)address;
	(void)length;
	return -ENOTSUP;
}

static int catmem_shutdown(struct queue *queue, int how)
{
	(void)queue;
	(void)how;
	return -ENOTSUP;
}

static int catmem_set_option(struct queue *queue, int level, int name, const void *value,
			     socklen_t length)
{
	(void)queue;
	(void)level;
	(void)name;
	(void)value;
	(void)length;
	return -ENOTSUP;
}

static int catmem_get_option(struct queue *queue, int level, int name, void *value,
			     socklen_t *length)
{
	(void)queue;
	(void)level;
	(void)name;
	(void)value;
	(void)length;
	return -ENOTSUP;
}

static int catmem_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	(void)queue;
	(void)address;
	(void)length;
	return -ENOTSUP;
}

static const struct socket_ops catmem_socket_ops = {
	.socket = catmem_socket,
	.bind = catmem_bind,
	.listen = catmem_listen,
	.accept = catmem_accept,
	.connect = catmem_connect,
	.shutdown = catmem_shutdown,
	.set_option = catmem_set_option,
	.get_option = catmem_get_option,
	.local_name = catmem_name,
	.peer_name = catmem_name,
	.filter = socket_filter_none,
};

/* ---- the engine ---- */

static int catmem_open(struct sched *sched, struct engine **engine_out)
{
	struct engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return -ENOMEM;
	engine->ops = &catmem_engine;
	engine->poller = (struct poller){.ops = &catmem_poller, .looks = true};
	engine->sched = sched;
	*engine_out = engine;
	return 0;
}

static void catmem_close(struct engine *engine)
{
	free(engine);
}

static uint32_t catmem_lingering(struct engine *engine)
{
	(void)engine;
	return 0;
}

const struct engine_ops catmem_engine = {
	.name = "catmem",
	.open = catmem_open,
	.close = catmem_close,
	.lingering = catmem_lingering,
	.socket = &catmem_socket_ops,
};
