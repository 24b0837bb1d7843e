/* SPDX-License-Identifier: MIT
 * queue/connect.c - qconnect: what pops from one queue is pushed to another, by the library.
 *
 * A connection owns the pops of in, and pushes to out beside the application.  An element is popped
 * only while fewer than CONNECT_FLYING pushes are out, so that a slow out slows down in.  The end
 * of in's stream is passed on when all pushes before it are done, and ends the connection; so does
 * the closing of either queue, and an error, which closes both: their descriptors stay the
 * application's to close, and tell the error until then.
 *
 * Memory: an element's segments are the application's references; the push takes the library's, and
 * they are dropped as soon as it is out.
 */
#include "queue/operator.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_FLYING 16 /* pushes that are out: enough for a log to commit together */

struct connection;

/* What takes the place of a queue that failed. */
struct dead_queue {
	struct queue queue;
	int err;
};

struct connection {
	struct puller puller;
	struct task pushes;
	struct queue *in;
	struct queue *out;
	struct queue_user in_user;
	struct queue_user out_user;
	struct queue_table *table;
	uint32_t flying;
	bool over;              /* the stream of in has ended */
	int err;                /* what failed: a positive errno; 0 */
	struct op_list waiting; /* for the end */
	struct dead_queue *dead[2];
};

/* ---- dead queues ---- */

static int dead_push(struct queue *queue, struct op *op, const struct sockaddr *to,
		     socklen_t length)
{
	(void)op;
	(void)to;
	(void)length;
	return -container_of(queue, struct dead_queue, queue)->err;
}

static int dead_pop(struct queue *queue, struct op *op)
{
	(void)op;
	return -container_of(queue, struct dead_queue, queue)->err;
}

static void dead_cancel(struct queue *queue, struct op *op)
{
	(void)queue;
	(void)op; /* it has none */
}

static void dead_close(struct queue *queue)
{
	free(container_of(queue, struct dead_queue, queue));
}

static void dead_describe(struct queue *queue, struct queue_info *info)
{
	(void)queue;
	*info = (struct queue_info){.kind = "failed", .state = "closed"};
}

static const struct queue_ops dead_queue_ops = {
	.push = dead_push,
	.pop = dead_pop,
	.take = queue_take_none,
	.cancel = dead_cancel,
	.close = dead_close,
	.describe = dead_describe,
};

static struct dead_queue *dead_new(struct sched *sched)
{
	struct dead_queue *dead = calloc(1, sizeof(*dead));

	if (dead)
		dead->queue = (struct queue){.ops = &dead_queue_ops, .sched = sched, .qd = -1};
	return dead;
}

static void bury(struct queue_table *table, struct queue *queue, struct dead_queue *dead, int err)
{
	dead->err = err;
	queue_replace(table, queue, &dead->queue);
	queue_close(queue);
}

/* ---- the end ---- */

static void leave(struct queue *queue, struct queue_user *user)
{
	struct queue_user **at = &queue->users;

	while (*at && *at != user)
		at = &(*at)->next;
	if (*at)
		*at = user->next;
}

/* Ends the connection, not the queues.  Pushes that are out go on. */
static void end(struct connection *connection, int err)
{
	struct sched *sched = connection->in->sched;
	struct op *op;

	leave(connection->in, &connection->in_user);
	leave(connection->out, &connection->out_user);
	puller_detach(&connection->puller);
	task_end(sched, &connection->pushes);
	while ((op = op_list_take(&sched->ops, &connection->waiting)))
		op_complete(sched, op, err);
	free(connection->dead[0]);
	free(connection->dead[1]);
	free(connection);
}

static void fail(struct connection *connection)
{
	struct queue *in = connection->in;
	struct queue *out = connection->out;
	struct dead_queue *in_dead = connection->dead[0];
	struct dead_queue *out_dead = connection->dead[1];
	struct queue_table *table = connection->table;
	int err = connection->err;

	connection->dead[0] = NULL;
	connection->dead[1] = NULL;
	end(connection, err);
	bury(table, in, in_dead, err);
	if (out != in)
		bury(table, out, out_dead, err);
	else
		free(out_dead);
}

/* Passes the end of the stream on: to a queue without one, as an empty element. */
static void finish(struct connection *connection)
{
	struct sched *sched = connection->in->sched;
	struct op *op = task_issue(&sched->ops, &connection->pushes, OP_PUSH);
	int err = -ENOMEM;

	if (op) {
		op_set_segment(op, NULL, 0);
		op->flags |= OP_END;
		err = operator_push(connection->out, op, NULL, 0);
		if (err)
			task_withdraw(&sched->ops, &connection->pushes, op);
	}
	if (err == 0 || err == -ENOTCONN) { /* who has closed both ways already has been told */
		end(connection, 0);
		return;
	}
	connection->err = -err;
	fail(connection);
}

/* ---- elements ---- */

/* Makes a popped element a push.  Its references stay the caller's. */
static void make_push(struct connection *connection, struct op *op)
{
	const struct heap *heap = connection->in->sched->heap;
	uint32_t in_heap = 0;

	for (uint32_t i = 0; i < op->numsegs; i++) {
		struct iovec segment = op_segment(op, i);
		bool ours = segment.iov_len > 0 &&
			    heap_find(heap, segment.iov_base, segment.iov_len) == HEAP_OURS;
		in_heap |= (uint32_t)ours << i;
	}
	op->opcode = OP_PUSH;
	op->state = OP_PENDING;
	op->owner = &connection->pushes.waits;
	op->transport = NULL;
	op->sga_buf = NULL;
	op->flags = op->numsegs == 1 && in_heap ? OP_OURS : 0;
	if (op->numsegs > 1)
		op->len = in_heap;
	connection->pushes.waits.issued++;
}

/* What became of a push. */
static void push_ended(struct connection *connection, struct op *op)
{
	if (op->ret && !(op->flags & OP_VALUE) && !connection->err)
		connection->err = (int)op->ret;
	op_free(&connection->in->sched->ops, op);
}

static void pass_on(struct connection *connection, struct op *op)
{
	struct sched *sched = connection->in->sched;
	struct iovec iov[OP_SEGMENTS_MAX];
	struct iovec one;
	uint32_t count = op->numsegs;
	bool empty = op_bytes(op) == 0;

	memcpy(iov, op_vector(op, &one), count * sizeof(*iov));
	make_push(connection, op);
	int err = connection->out->ops->push(connection->out, op, NULL, 0);
	if (err) {
		task_withdraw(&sched->ops, &connection->pushes, op);
		/* No bytes are nothing in a stream of bytes, and no record: else whoever sends an
		 * empty datagram would end the connection. */
		if (err != -EINVAL || !empty)
			connection->err = -err;
	} else if (op_done(op)) {
		task_take_this(&sched->ops, &connection->pushes, op);
		push_ended(connection, op);
	} else {
		connection->flying++;
	}
	for (uint32_t i = 0; i < count; i++)
		(void)heap_free_inside(sched->heap, iov[i].iov_base);
}

static void reap(struct connection *connection)
{
	struct op *op;

	while ((op = task_take(&connection->in->sched->ops, &connection->pushes))) {
		connection->flying--;
		push_ended(connection, op);
	}
}

/* Takes from in what out has room for. */
static void move(struct connection *connection)
{
	struct sched *sched = connection->in->sched;
	struct op *element;

	for (uint32_t i = 0; i < OPERATOR_PULLS; i++) {
		if (connection->flying >= CONNECT_FLYING)
			puller_keep(&connection->puller);
		if (connection->err || connection->over || connection->flying >= CONNECT_FLYING)
			return;
		int err = puller_pull(&connection->puller, &element);
		if (err == -EAGAIN)
			return;
		if (err) {
			connection->err = -err;
		} else if (element->flags & OP_END) {
			connection->over = true;
			op_free(&sched->ops, element);
		} else {
			pass_on(connection, element);
		}
	}
	task_wake(sched, &connection->puller.task);
}

static void run(struct connection *connection)
{
	reap(connection);
	move(connection);
	if (connection->err)
		fail(connection);
	else if (connection->over && connection->flying == 0)
		finish(connection);
}

static void run_for_pop(struct sched *sched, struct task *task)
{
	(void)sched;
	run(container_of(task, struct connection, puller.task));
}

static void run_for_push(struct sched *sched, struct task *task)
{
	(void)sched;
	run(container_of(task, struct connection, pushes));
}

/* ---- the seam ---- */

static void in_closes(struct queue_user *user)
{
	end(container_of(user, struct connection, in_user), ECANCELED);
}

static void out_closes(struct queue_user *user)
{
	end(container_of(user, struct connection, out_user), ECANCELED);
}

static void use(struct queue *queue, struct queue_user *user,
		void (*closing)(struct queue_user *user))
{
	*user = (struct queue_user){.next = queue->users, .closing = closing};
	queue->users = user;
}

int connect_queues(struct queue_table *table, struct queue *in, struct queue *out)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	int err = -ENOMEM;

	if (!connection)
		return err;
	connection->in = in;
	connection->out = out;
	connection->table = table;
	op_list_init(&connection->waiting);
	for (uint32_t i = 0; i < 2; i++)
		connection->dead[i] = dead_new(in->sched);
	if (connection->dead[0] && connection->dead[1])
		err = puller_attach(&connection->puller, in, NULL, run_for_pop);
	if (err) {
		free(connection->dead[0]);
		free(connection->dead[1]);
		free(connection);
		return err;
	}
	task_init(&connection->pushes, run_for_push);
	use(in, &connection->in_user, in_closes);
	use(out, &connection->out_user, out_closes);
	task_wake(in->sched, &connection->puller.task);
	return 0;
}

static struct connection *connection_from(const struct queue *in)
{
	for (struct queue_user *user = in->users; user; user = user->next) {
		if (user->closing == in_closes)
			return container_of(user, struct connection, in_user);
	}
	return NULL;
}

int connect_wait(struct queue *in, struct op *op)
{
	struct connection *connection = connection_from(in);

	if (!connection)
		return -ENOTCONN;
	op_list_append(&in->sched->ops, &connection->waiting, op);
	return 0;
}

void connect_cancel(struct queue *in, struct op *op)
{
	struct connection *connection = connection_from(in);

	op_list_remove(&in->sched->ops, &connection->waiting, op);
	op_complete(in->sched, op, ECANCELED);
}
