/* SPDX-License-Identifier: MIT
 * api/result.h - between operations and the packed public structures.
 */
#pragma once

#include "api/instance.h"

#include <demi/types.h>
#include <string.h>

/* The queue of a descriptor of the calling thread's instance; NULL and *err: ENOSYS, EBUSY, EBADF.
 */
static inline struct queue *api_queue(int qd, int *err)
{
	struct demi *demi = instance_enter(err);

	if (unlikely(!demi))
		return NULL;
	struct queue *queue = queue_find(&demi->queues, qd);
	if (unlikely(!queue))
		*err = EBADF;
	return queue;
}

/* Gives a new queue its descriptor.  0 or EMFILE, then the queue is gone. */
static inline int api_enter(struct demi *demi, struct queue *queue, int *qd_out)
{
	int32_t qd = queue_enter(&demi->queues, queue);

	if (qd < 0) {
		queue->ops->close(queue);
		return -qd;
	}
	*qd_out = qd;
	return 0;
}

/* A new operation on a queue, or NULL: the bound is reached. */
static inline struct op *api_issue(struct queue *queue, enum op_code opcode)
{
	return op_issue(queue->sched, opcode, queue->qd);
}

/* An operation that never was. */
static inline void api_withdraw(struct queue *queue, struct op *op)
{
	op->owner->issued--;
	op_free(&queue->sched->ops, op);
}

/* Ends an issuing call: err is what the transport said, the result what the application is told. */
static inline int api_issued(struct queue *queue, struct op *op, int err, demi_qtoken_t *qt_out)
{
	if (unlikely(err)) {
		api_withdraw(queue, op);
		return -err;
	}
	*qt_out = op->token;
	return 0;
}

/* Checks an array and copies it into a push.  0 or EINVAL. */
int result_from_array(struct sched *sched, struct op *op, const demi_sgarray_t *sga);

/* The segments of an operation as an array. */
void result_to_array(const struct op *op, demi_sgarray_t *sga);

/* Writes the result of a complete operation, whose memory stays the operation's. */
void result_read(struct demi *demi, const struct op *op, demi_qresult_t *qr);

static inline void result_read_head(const struct op *op, demi_qresult_t *qr)
{
	qr->qr_opcode = (enum demi_opcode)op->opcode;
	qr->qr_qd = op->qd;
	qr->qr_qt = op->token;
	qr->qr_ret = op->ret;
}

/* Is it a push or pop of one segment that succeeded, and no datagram? */
static inline bool result_is_plain(const struct op *op)
{
	return likely(op->ret == 0) && likely(op->opcode <= OP_POP) && likely(op->numsegs == 1) &&
	       likely(((uintptr_t)op->sga_buf & 1) == 0);
}

/* Writes the result of a complete operation that was taken from its waitset, and frees it. */
static inline void result_write(struct demi *demi, struct op *op, demi_qresult_t *qr)
{
	if (likely(result_is_plain(op))) {
		demi_sgarray_t *sga = &qr->qr_value.sga;
		result_read_head(op, qr);
		sga->sga_buf = op->sga_buf;
		sga->sga_numsegs = 1;
		sga->sga_segs[0].sgaseg_buf = op->buf;
		sga->sga_segs[0].sgaseg_len = op->len;
		memset(&sga->sga_addr, 0, sizeof(sga->sga_addr));
	} else {
		result_read(demi, op, qr);
	}
	op_free(&demi->sched.ops, op);
}
