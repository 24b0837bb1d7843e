/* SPDX-License-Identifier: MIT
 * queue/operator.h - operators: queues made of queues (demi/queue.h).
 *
 * An operator stands on its source, whose pops it owns: it issues them itself, by a puller, and
 * only while one of its own waits.  What a pop brings is an element: that operation of the
 * library's, complete, whose segments are the application's references.  It is handed over to the
 * pop that waits, or stays with the operator.
 *
 * Pops go up by tasks (sched/task.h), never inside of a back end, so that depth costs no stack.
 * Filters and maps are stages: whoever pulls through them pops from what they stand on, and calls
 * each of them in a loop.  Pushes go down by calls, at most OPERATOR_DEPTH_MAX.
 *
 * Who closes a queue ends what stands on it first, from the top (queue_close): so everything below
 * is there as long as an operator lives that has not ended.
 *
 * Invariants: queue->above->queue.depth > queue->depth; queue->owned if there is a puller on it; a
 * puller's pending pop is its task's and stands in its root.
 */
#pragma once

#include "queue/queue.h"

#include "base/expression.h"
#include "sched/task.h"

#define OPERATOR_DEPTH_MAX  128
#define OPERATOR_PULLS      64 /* elements that one run takes: then others have their turn */
#define OPERATOR_SOURCES    2
#define FRAME_DELIMITER_MAX 16

/* A function of the application, called by src/api/. */
struct operator_call {
	/* Of a filter: 1, it holds, or 0.  Of a map: 0 or -errno. */
	int (*apply)(const struct operator_call *call, struct sched *sched, struct op *element);
	/* Of a sort: below 0, a is popped before b. */
	int (*compare)(const struct operator_call *call, struct sched *sched, const struct op *a,
		       const struct op *b);
	/* Of a frame: bytes of the message that starts with these; 0: more are needed to tell, or
	 * -errno. */
	int64_t (*find)(const struct operator_call *call, struct sched *sched, const char *bytes,
			uint64_t length);
	void (*fn)(void); /* the application's, of whatever type */
	void *arg;
};

/* ---- pulling ---- */

struct puller {
	struct task task;
	struct derived *owner; /* NULL: qconnect */
	struct queue *source;  /* NULL: it has been detached */
	struct queue *root;    /* the source, or below it what its stages stand on */
	struct queue *top;     /* the last whose stage an element passes; root: none */
	struct op *pending;    /* NULL: none */
	struct op *kept;       /* a pop that completed when nobody waited; NULL */
	bool stopped;          /* the pending pop was asked to end */
};

/* run is called when there may be something to pull.  0, or -EBUSY: another has its pops. */
int puller_attach(struct puller *puller, struct queue *source, struct derived *owner,
		  void (*run)(struct sched *sched, struct task *task));
void puller_detach(struct puller *puller);

/* The next element, the caller's.  0, -EAGAIN: run is called when there is more, or what the pop
 * failed with. */
int puller_pull(struct puller *puller, struct op **element_out);

/* The same for who can do without: does not begin to wait where a look tells that nothing is there
 * (queue_ops.take). */
int puller_look(struct puller *puller, struct op **element_out);

/* Nobody waits any more: the source keeps what it has.  What came all the same is kept for who
 * pulls next. */
void puller_stop(struct puller *puller);

/* Nobody pulls for the moment: keeps what has come, and the pop that is pending. */
void puller_keep(struct puller *puller);

/* ---- derived queues ---- */

/* Embedded first in every operator that is a queue. */
struct derived {
	struct queue queue;
	const struct operator_ops *ops;
	struct op_list pops;    /* that wait */
	struct op_list relayed; /* pushes that wait for pushes of ours */
	struct task relay;      /* owns these */
	int ended;              /* 0, or the errno of all that comes */
	bool gone;              /* closed, and still waiting for pushes of ours */
	uint32_t num_pullers;
	struct puller pullers[OPERATOR_SOURCES];
};

/* What differs between operators. */
struct operator_ops {
	const char *kind;
	bool relays; /* pushes become pushes of ours; else the source has them as they are */
	/* A stage's (else NULL): passes an element that was popped.  1, 0: it is dropped, or
	 * -errno. */
	int (*pass)(struct derived *derived, struct op *element);
	/* Serves the pops that wait. */
	void (*serve)(struct derived *derived);
	int (*push)(struct derived *derived, struct op *op, const struct sockaddr *to,
		    socklen_t length);
	/* Takes back what it asked of its sources, which it is about to let go of; NULL: nothing.
	 */
	void (*end)(struct derived *derived);
	/* Frees what it holds, and itself. */
	void (*free)(struct derived *derived);
	/* Elements that it holds, and bytes of them; NULL: it never holds any. */
	void (*held)(struct derived *derived, uint32_t *elements, uint64_t *bytes);
	/* What else there is to say of it; NULL: nothing. */
	void (*tell)(struct derived *derived, struct queue_info *info);
};

static inline struct derived *derived_of(struct queue *queue)
{
	return container_of(queue, struct derived, queue);
}

extern const struct queue_ops derived_queue_ops;

/* Makes it a queue over one or two sources (the second NULL).  0, -EBUSY, -ELOOP: too deep, then
 * nothing has changed. */
int derived_open(struct derived *derived, const struct operator_ops *ops, struct queue *source,
		 struct queue *second);

/* It ends with what it stands on: everything that waits is completed with err. */
void derived_end(struct derived *derived, int err);

/* The pop that has waited longest, out of the list: there is one. */
static inline struct op *derived_take_pop(struct derived *derived)
{
	return op_list_take(&derived->queue.sched->ops, &derived->pops);
}

/* Hands an element over to the pop that has waited longest. */
void derived_deliver(struct derived *derived, struct op *element);
/* The end of the stream, in place of one. */
void derived_deliver_end(struct derived *derived);
/* That pop fails; err is a positive errno. */
void derived_fail_pop(struct derived *derived, int err);

static inline bool derived_waits(const struct derived *derived)
{
	return !op_list_empty(&derived->pops);
}

/* A push of ours in place of op, complete when all of them are.  derived_push makes the first of
 * them and more; when it has returned 0, op waits.  -errno: that push never was. */
int derived_push(struct derived *derived, uint32_t puller, struct op *ours, struct op *op,
		 const struct sockaddr *to, socklen_t length);

/* An operation for it, without segments, or NULL. */
struct op *derived_issue_push(struct derived *derived);

/* What op waits for: all pushes of ours were made.  err: of those that were not, 0. */
void derived_relay(struct derived *derived, struct op *op, uint32_t pushes, int err);

/* Pushes, or ends a stream where the end of one is pushed (OP_END). */
static inline int operator_push(struct queue *queue, struct op *op, const struct sockaddr *to,
				socklen_t length)
{
	if (unlikely(op->flags & OP_END) && queue->ops->socket) {
		int err = queue->ops->socket->shutdown(queue, SHUT_WR);
		if (!err)
			op_complete(queue->sched, op, 0);
		return err;
	}
	return queue->ops->push(queue, op, to, length);
}

/* ---- the operators ---- */

/* call is copied.  0 or -errno of derived_open, -ENOMEM. */
int filter_new(struct queue *source, const struct operator_call *call, struct queue **queue_out);
int map_new(struct queue *source, const struct operator_call *call, struct queue **queue_out);
/* How stages serve: what one passes is handed over. */
void stage_serve(struct derived *derived);
/* A filter by a field expression, which is copied.  -EINVAL: it is none, told to the log. */
int field_filter_new(struct queue *source, const char *text, struct queue **queue_out);
int sort_new(struct queue *source, const struct operator_call *call, uint32_t depth,
	     struct queue **queue_out);
int merge_new(struct queue *one, struct queue *other, struct queue **queue_out);

enum frame_kind { FRAME_LENGTH, FRAME_DELIMITER, FRAME_FIXED, FRAME_FIND };

struct framing {
	enum frame_kind kind;
	uint32_t bytes;     /* of the length, of the delimiter, of a message of fixed size */
	bool little_endian; /* the length */
	char delimiter[FRAME_DELIMITER_MAX];
	uint32_t max_bytes; /* of a message */
	struct operator_call call;
};

int frame_new(struct queue *source, const struct framing *framing, struct queue **queue_out);

/* ---- qconnect ---- */

/* Passes what pops from in to out until one of them ends.  table: in it descriptors of what failed
 * stay taken.  0, -EBUSY, -ENOMEM. */
int connect_queues(struct queue_table *table, struct queue *in, struct queue *out);

/* op waits for the end of what was connected from in.  0 or -ENOTCONN. */
int connect_wait(struct queue *in, struct op *op);
void connect_cancel(struct queue *in, struct op *op);

/* Embedded in what uses a queue that is not its own. */
struct queue_user {
	struct queue_user *next;
	/* The queue is about to be closed.  It is not among its users any more. */
	void (*closing)(struct queue_user *user);
};
