/* SPDX-License-Identifier: MIT
 * api/io.c - pushing and popping, and memory queues.
 */
#include "api/instance.h"

#include "api/result.h"
#include "queue/operator.h"

#include <demi/libos.h>
#include <demi/queue.h>

static int push(struct queue *queue, demi_qtoken_t *qt_out, const demi_sgarray_t *sga,
		const struct sockaddr *to, socklen_t length)
{
	struct op *op = api_issue(queue, OP_PUSH);

	if (unlikely(!op))
		return ENOMEM;
	int err = result_from_array(queue->sched, op, sga);
	if (unlikely(err)) {
		api_withdraw(queue, op);
		return err;
	}
	sched_count(queue->sched, COUNTER_PUSHES, 1);
	return api_issued(queue, op, queue->ops->push(queue, op, to, length), qt_out);
}

int demi_push(demi_qtoken_t *qt_out, int qd, const demi_sgarray_t *sga)
{
	int err = 0;
	struct queue *queue = api_queue(qd, &err);

	if (unlikely(!queue))
		return err;
	if (unlikely(!qt_out || !sga))
		return EINVAL;
	return push(queue, qt_out, sga, NULL, 0);
}

int demi_pushto(demi_qtoken_t *qt_out, int sockqd, const demi_sgarray_t *sga,
		const struct sockaddr *dest_addr, socklen_t size)
{
	int err = 0;
	struct queue *queue = api_queue(sockqd, &err);

	if (unlikely(!queue))
		return err;
	if (unlikely(!qt_out || !sga || !dest_addr || size < sizeof(sa_family_t) ||
		     size > sizeof(struct sockaddr_storage)))
		return EINVAL;
	return push(queue, qt_out, sga, dest_addr, size);
}

int demi_pop(demi_qtoken_t *qt_out, int qd)
{
	int err = 0;
	struct queue *queue = api_queue(qd, &err);

	if (unlikely(!queue))
		return err;
	if (unlikely(!qt_out))
		return EINVAL;
	if (unlikely(queue->owned))
		return EBUSY;
	struct op *op = api_issue(queue, OP_POP);
	if (unlikely(!op))
		return ENOMEM;
	sched_count(queue->sched, COUNTER_POPS, 1);
	return api_issued(queue, op, queue->ops->pop(queue, op), qt_out);
}

int demi_queue(int *qd_out)
{
	KEEP_ERRNO;
	int err = 0;
	struct demi *demi = instance_enter(&err);
	struct queue *queue;

	if (!demi)
		return err;
	if (!qd_out)
		return EINVAL;
	err = memory_queue_new(&demi->sched, &queue);
	return err ? -err : api_enter(demi, queue, qd_out);
}

int demi_cancel(demi_qtoken_t qt)
{
	KEEP_ERRNO;
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (!demi)
		return err;
	struct op *op = op_find(&demi->sched.ops, qt);
	if (!op)
		return EINVAL;
	/* A push under way may belong to a queue that is closed already. */
	if (op_done(op) || (op->flags & OP_STARTED))
		return 0;
	struct queue *queue = queue_find(&demi->queues, op->qd);
	if (!queue)
		return EINVAL; /* an element of a memory queue: no token of the application's */
	if (op->opcode == OP_CLOSE)
		connect_cancel(queue, op);
	else
		queue->ops->cancel(queue, op);
	return 0;
}

int demi_flush(void)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (!demi)
		return err;
	sched_flush_all(&demi->sched, 0);
	return 0;
}
