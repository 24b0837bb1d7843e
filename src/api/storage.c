/* SPDX-License-Identifier: MIT
 * api/storage.c - logs: everything but pushing and popping.
 */
#include "api/instance.h"

#include "api/result.h"

#include <demi/storage.h>
#include <fcntl.h>

#define FLAGS_KNOWN (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_CLOEXEC)

static bool bad_flags(int flags)
{
	int access = flags & O_ACCMODE;

	if (flags & ~FLAGS_KNOWN)
		return true;
	if (access != O_RDONLY && access != O_WRONLY && access != O_RDWR)
		return true;
	return access == O_RDONLY && (flags & (O_CREAT | O_TRUNC));
}

static int open_engine(struct demi *demi)
{
	return demi->logs ? 0 : log_engine_open(&demi->sched, &demi->logs);
}

int demi_open(int *qd_out, const char *path, int flags, mode_t mode)
{
	KEEP_ERRNO;
	int err = 0;
	struct demi *demi = instance_enter(&err);
	struct queue *queue;

	if (!demi)
		return err;
	if (!qd_out || !path || bad_flags(flags))
		return EINVAL;
	err = open_engine(demi);
	if (!err)
		err = log_queue_open(demi->logs, path, flags, mode, &queue);
	return err ? -err : api_enter(demi, queue, qd_out);
}

int demi_creat(int *qd_out, const char *path, mode_t mode)
{
	return demi_open(qd_out, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* The queue of a descriptor, if it is a log; NULL and *err: those of api_queue, ESPIPE. */
static struct queue *log_of(int qd, int *err)
{
	struct queue *queue = api_queue(qd, err);

	if (queue && !queue->ops->log) {
		*err = ESPIPE;
		return NULL;
	}
	return queue;
}

int demi_lseek(int qd, off_t offset, int whence, off_t *offset_out)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = log_of(qd, &err);
	int64_t result;

	if (!queue)
		return err;
	err = queue->ops->log->seek(queue, offset, whence, &result);
	if (!err && offset_out)
		*offset_out = result;
	return -err;
}

int demi_truncate(demi_qtoken_t *qt_out, int qd, off_t offset)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = log_of(qd, &err);

	if (!queue)
		return err;
	if (!qt_out || offset < 0)
		return EINVAL;
	struct op *op = api_issue(queue, OP_TRUNCATE);
	if (!op)
		return ENOMEM;
	return api_issued(queue, op, queue->ops->log->truncate(queue, op, (uint64_t)offset),
			  qt_out);
}
