/* SPDX-License-Identifier: MIT
 * api/pipe.c - pipes: message queues between processes.
 */
#include "transport/shm/pipe.h"

#include "api/instance.h"
#include "api/result.h"
#include "transport/shm/shm.h"

#include <demi/queue.h>

static int open_shm(struct demi *demi)
{
	return demi->shm ? 0 : shm_open_instance(&demi->sched, &demi->shm);
}

static int make(int *qd_out, const char *name,
		int (*fn)(struct shm *shm, const char *name, struct queue **queue_out))
{
	int err = 0;
	struct demi *demi = instance_enter(&err);
	struct queue *queue;

	if (!demi)
		return err;
	if (!qd_out || !name)
		return EINVAL;
	err = open_shm(demi);
	if (!err)
		err = fn(demi->shm, name, &queue);
	return err ? -err : api_enter(demi, queue, qd_out);
}

int demi_create_pipe(int *qd_out, const char *name)
{
	KEEP_ERRNO;
	return make(qd_out, name, pipe_create);
}

int demi_open_pipe(int *qd_out, const char *name)
{
	KEEP_ERRNO;
	return make(qd_out, name, pipe_open);
}
