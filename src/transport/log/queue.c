/* SPDX-License-Identifier: MIT
 * transport/log/queue.c - a log as a queue: push appends, pop reads at the queue's own cursor.
 */
#include "transport/log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct log_queue {
	struct queue queue;
	struct logfile *log;
	struct logfile_cursor *cursor;
	bool reads;
	bool writes;
};

static struct log_queue *log_queue_of(struct queue *queue)
{
	return container_of(queue, struct log_queue, queue);
}

static int log_queue_push(struct queue *queue, struct op *op, const struct sockaddr *to,
			  socklen_t length)
{
	const struct log_queue *lq = log_queue_of(queue);

	(void)length;
	if (to)
		return -ENOTSUP;
	if (!lq->writes)
		return -EBADF;
	if (likely(!(op->flags & OP_END)))
		return logfile_push(lq->log, op);
	op_complete(queue->sched, op, 0); /* of what qconnect passes on: a log has no end */
	return 0;
}

static int log_queue_pop(struct queue *queue, struct op *op)
{
	const struct log_queue *lq = log_queue_of(queue);

	if (!lq->reads)
		return -EBADF;
	logfile_pop(lq->cursor, op);
	return 0;
}

/* A push that is in a batch, and a truncation, are too late to cancel. */
static void log_queue_cancel(struct queue *queue, struct op *op)
{
	const struct log_queue *lq = log_queue_of(queue);

	if (op->opcode == OP_PUSH)
		logfile_cancel_push(lq->log, op);
	else if (op->opcode == OP_POP)
		logfile_cancel_pop(lq->cursor, op);
}

static void log_queue_close(struct queue *queue)
{
	struct log_queue *lq = log_queue_of(queue);

	logfile_cancel_pushes(lq->log, queue->qd);
	logfile_cursor_close(lq->cursor);
	logfile_leave(lq->log);
	free(lq);
}

static void log_queue_describe(struct queue *queue, struct queue_info *info)
{
	const struct log_queue *lq = log_queue_of(queue);

	*info = (struct queue_info){
		.kind = "log",
		.state = log_state(lq->log),
		.pops_pending = logfile_pops(lq->cursor),
		.pushes_pending = logfile_pushes(lq->log, queue->qd),
		.elements = lq->reads ? logfile_ahead(lq->cursor) : 0,
		.name = logfile_name(lq->log),
	};
}

static int log_queue_seek(struct queue *queue, int64_t offset, int whence, int64_t *offset_out)
{
	return logfile_seek(log_queue_of(queue)->cursor, offset, whence, offset_out);
}

static int log_queue_truncate(struct queue *queue, struct op *op, uint64_t offset)
{
	const struct log_queue *lq = log_queue_of(queue);

	return lq->writes ? logfile_truncate(lq->log, op, offset) : -EBADF;
}

static const struct log_ops log_queue_log = {
	.seek = log_queue_seek,
	.truncate = log_queue_truncate,
};

static const struct queue_ops log_queue_ops = {
	.push = log_queue_push,
	.pop = log_queue_pop,
	.take = queue_take_none,
	.cancel = log_queue_cancel,
	.close = log_queue_close,
	.describe = log_queue_describe,
	.log = &log_queue_log,
};

int log_queue_open(struct log_engine *engine, const char *path, int flags, mode_t mode,
		   struct queue **queue_out)
{
	struct log_queue *lq = calloc(1, sizeof(*lq));

	if (!lq)
		return -ENOMEM;
	lq->queue = (struct queue){.ops = &log_queue_ops, .sched = engine->sched, .qd = -1};
	lq->reads = (flags & O_ACCMODE) != O_WRONLY;
	lq->writes = (flags & O_ACCMODE) != O_RDONLY;
	int err = log_engine_find(engine, path, flags, mode, &lq->log);
	if (err) {
		free(lq);
		return err;
	}
	if (flags & O_TRUNC)
		err = logfile_truncate_all(lq->log);
	if (!err)
		err = logfile_cursor_open(lq->log, &lq->cursor);
	if (err) {
		logfile_leave(lq->log);
		free(lq);
		return err;
	}
	*queue_out = &lq->queue;
	return 0;
}
