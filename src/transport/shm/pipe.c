/* SPDX-License-Identifier: MIT
 * transport/shm/pipe.c - a pipe belongs to the descriptor table, its channel and rendezvous to it.
 * Who made the name keeps it until the queue is closed; the first who opens it is the peer.
 */
#include "transport/shm/pipe.h"

#include "transport/shm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pipe {
	struct queue queue;
	struct channel *channel;
	struct rendezvous *rendezvous; /* NULL: we opened it */
	const char *state;
	char *name;
};

static struct pipe *pipe_of(struct queue *queue)
{
	return container_of(queue, struct pipe, queue);
}

static void pipe_joined(struct channel *channel, const void *hello, uint32_t bytes)
{
	struct pipe *pipe = channel_arg(channel);

	(void)hello;
	(void)bytes;
	pipe->state = "connected";
}

/* There are no messages but pushes in a pipe: who sends others does not speak our language. */
static void pipe_arrived(struct channel *channel, const struct channel_message *message)
{
	(void)message;
	channel_fail(channel, -ECONNRESET);
}

static void pipe_roomy(struct channel *channel)
{
	(void)channel;
}

static void pipe_ended(struct channel *channel, int err)
{
	struct pipe *pipe = channel_arg(channel);

	pipe->state = err ? "reset" : "ended";
}

static const struct channel_owner pipe_owner = {
	.joined = pipe_joined,
	.arrived = pipe_arrived,
	.roomy = pipe_roomy,
	.ended = pipe_ended,
};

static int pipe_push(struct queue *queue, struct op *op, const struct sockaddr *to,
		     socklen_t length)
{
	(void)length;
	if (to)
		return -ENOTSUP;
	if (likely(!(op->flags & OP_END)))
		return channel_push(pipe_of(queue)->channel, op);
	channel_shut(pipe_of(queue)->channel); /* of what qconnect passes on */
	op_complete(queue->sched, op, 0);
	return 0;
}

static int pipe_pop(struct queue *queue, struct op *op)
{
	return channel_pop(pipe_of(queue)->channel, op);
}

static void pipe_cancel(struct queue *queue, struct op *op)
{
	channel_cancel(pipe_of(queue)->channel, op);
}

static void pipe_close(struct queue *queue)
{
	struct pipe *pipe = pipe_of(queue);

	if (pipe->rendezvous)
		rendezvous_close(pipe->rendezvous);
	channel_close(pipe->channel);
	free(pipe->name);
	free(pipe);
}

static void pipe_describe(struct queue *queue, struct queue_info *info)
{
	const struct pipe *pipe = pipe_of(queue);

	*info = (struct queue_info){.kind = "pipe", .state = pipe->state, .name = pipe->name};
	channel_describe(pipe->channel, info);
}

static const struct queue_ops pipe_ops = {
	.push = pipe_push,
	.pop = pipe_pop,
	.take = queue_take_none,
	.cancel = pipe_cancel,
	.close = pipe_close,
	.describe = pipe_describe,
};

static int pipe_new(struct shm *shm, const char *name, struct pipe **pipe_out)
{
	struct pipe *pipe = calloc(1, sizeof(*pipe));

	if (!pipe)
		return -ENOMEM;
	const struct channel_setup setup = {
		.owner = &pipe_owner,
		.arg = pipe,
		.private = shm_sched(shm)->config.shm_private != 0,
	};
	pipe->queue =
		(struct queue){.ops = &pipe_ops, .sched = shm_sched(shm), .qd = -1, .ends = true};
	pipe->state = "waiting";
	pipe->name = strdup(name);
	int err = pipe->name ? channel_new(shm, &setup, &pipe->channel) : -ENOMEM;
	if (err) {
		free(pipe->name);
		free(pipe);
		return err;
	}
	*pipe_out = pipe;
	return 0;
}

/* ---- creating and opening ---- */

static int take_visitor(struct rendezvous *rendezvous, void *arg, struct visitor *visitor)
{
	struct pipe *pipe = arg;
	int err = channel_accept(pipe->channel, visitor, "", 0);

	if (!err)
		rendezvous_rest(rendezvous);
	return err;
}

int pipe_create(struct shm *shm, const char *name, struct queue **queue_out)
{
	const struct rendezvous_place place = {.prefix = "pipe-", .name = name};
	struct pipe *pipe;
	int err = pipe_new(shm, name, &pipe);

	if (err)
		return err;
	err = rendezvous_listen(shm, &place, 0, take_visitor, pipe, &pipe->rendezvous);
	if (err) {
		pipe_close(&pipe->queue);
		return err;
	}
	*queue_out = &pipe->queue;
	return 0;
}

int pipe_open(struct shm *shm, const char *name, struct queue **queue_out)
{
	const struct rendezvous_place place = {.prefix = "pipe-", .name = name};
	struct pipe *pipe;
	int fd;
	int err = pipe_new(shm, name, &pipe);

	if (err)
		return err;
	err = rendezvous_connect(shm, &place, &fd);
	if (!err) {
		err = channel_connect(pipe->channel, fd, "", 0);
		if (err)
			close(fd);
	}
	if (err) {
		pipe_close(&pipe->queue);
		return err;
	}
	*queue_out = &pipe->queue;
	return 0;
}
