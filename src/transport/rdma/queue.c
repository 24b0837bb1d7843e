/* SPDX-License-Identifier: MIT
 * transport/rdma/queue.c - push, pop, cancel, close and description of streams.
 */
#include "transport/rdma/rdma.h"

#include <errno.h>
#include <stdlib.h>

static int stream_push(struct queue *queue, struct op *op, const struct sockaddr *to,
		       socklen_t length)
{
	struct rdma_conn *conn = rdma_queue_of(queue)->conn;

	(void)length;
	if (unlikely(to || !conn))
		return to ? -ENOTSUP : -ENOTCONN;
	return rdma_push(conn, op);
}

static int stream_pop(struct queue *queue, struct op *op)
{
	struct rdma_conn *conn = rdma_queue_of(queue)->conn;

	if (unlikely(!conn || conn->connect))
		return -ENOTCONN;
	return rdma_pop(conn, op);
}

static void stream_cancel(struct queue *queue, struct op *op)
{
	const struct rdma_queue *rq = rdma_queue_of(queue);
	struct op_slab *ops = &queue->sched->ops;

	switch (op->opcode) {
	case OP_PUSH:
		rdma_cancel_push(rq->conn, op);
		return;
	case OP_CONNECT:
		rdma_connect_done(rq->conn, -ECANCELED);
		return;
	case OP_ACCEPT:
		op_list_remove(ops, &rq->listener->accepts, op);
		break;
	default:
		op_list_remove(ops, &rq->conn->pops, op);
	}
	op_complete(queue->sched, op, ECANCELED);
}

static void stream_close(struct queue *queue)
{
	struct rdma_queue *rq = rdma_queue_of(queue);

	if (rq->listener) {
		rdma_listener_close(rq->listener, -ECANCELED);
		free(rq->listener);
	}
	if (rq->bound)
		(void)rq->engine->verbs->destroy_id(rq->bound);
	if (rq->conn)
		rdma_conn_close(rq->conn);
	free(rq);
}

static const char *state_of(const struct rdma_queue *rq)
{
	static const char *const states[] = {
		[RDMA_RESOLVING] = "resolving", [RDMA_CONNECTING] = "connecting",
		[RDMA_ACCEPTING] = "accepting", [RDMA_OPEN] = "connected",
		[RDMA_DRAINING] = "draining",   [RDMA_OVER] = "over",
	};

	if (rq->listener)
		return rq->listener->error ? "reset" : "listening";
	return rq->conn ? states[rq->conn->state] : "unconnected";
}

static void stream_describe(struct queue *queue, struct queue_info *info)
{
	const struct rdma_queue *rq = rdma_queue_of(queue);
	const struct op_slab *ops = &queue->sched->ops;
	const struct rdma_conn *conn = rq->conn;
	socklen_t length = sizeof(info->local);

	*info = (struct queue_info){.kind = "rdma", .state = state_of(rq)};
	(void)rdma_socket_ops.local_name(queue, (struct sockaddr *)&info->local, &length);
	if (rq->listener) {
		info->pops_pending = op_list_length(ops, &rq->listener->accepts);
		info->elements = rq->listener->num_backlog;
	}
	if (!conn)
		return;
	length = sizeof(info->peer);
	(void)rdma_socket_ops.peer_name(queue, (struct sockaddr *)&info->peer, &length);
	info->pops_pending = op_list_length(ops, &conn->pops);
	info->pushes_pending = op_list_length(ops, &conn->pushes);
	info->elements = rdma_queued(conn);
	info->held_bytes = conn->read_bytes;
}

const struct queue_ops rdma_stream_ops = {
	.push = stream_push,
	.pop = stream_pop,
	.take = queue_take_none,
	.cancel = stream_cancel,
	.close = stream_close,
	.describe = stream_describe,
	.socket = &rdma_socket_ops,
};
