/* SPDX-License-Identifier: MIT
 * queue/frame.c - a queue of messages over a stream of bytes: one push pops as one element.
 */
#include "queue/framer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- pops ---- */

/* Takes more in.  0, or -EAGAIN: there is nothing, or a pop was told what is wrong. */
static int pull(struct framer *framer)
{
	struct op *element;
	int err = puller_pull(&framer->derived.pullers[0], &element);

	if (err == -EAGAIN)
		return err;
	if (!err && (element->flags & OP_END)) {
		framer->ended = true;
		op_free(&framer->derived.queue.sched->ops, element);
	} else if (!err && framer->bytes == 0 && framer_whole(framer, element)) {
		derived_deliver(&framer->derived, element); /* as most do that are answers */
	} else if (!err) {
		err = framer_add(framer, element);
		if (err) /* bytes of the stream are lost */
			framer->broken = -err;
	}
	if (err)
		derived_fail_pop(&framer->derived, -err);
	return 0;
}

/* The first message for the first pop. */
static void deliver(struct framer *framer, const struct extent *extent)
{
	struct sched *sched = framer->derived.queue.sched;
	struct op *pop = derived_take_pop(&framer->derived);

	framer_drop(framer, extent->before);
	int err = framer_deliver(framer, pop, extent->body);
	framer_drop(framer, err ? extent->body + extent->after : extent->after);
	op_complete(sched, pop, -err);
}

/* No message is all there.  0: look again, or -EAGAIN. */
static int wait_for_more(struct framer *framer)
{
	if (!framer->ended)
		return pull(framer);
	if (framer->bytes == 0)
		derived_deliver_end(&framer->derived);
	else
		framer->broken = EPROTO; /* it ends within a message */
	return 0;
}

static void serve(struct derived *derived)
{
	struct framer *framer = framer_of(derived);
	struct extent extent;

	while (derived_waits(derived)) {
		if (framer->broken) {
			derived_fail_pop(derived, framer->broken);
			continue;
		}
		int err = framer->bytes < framer->needed ? -EAGAIN : framer_find(framer, &extent);
		if (!err)
			deliver(framer, &extent);
		else if (err != -EAGAIN)
			framer->broken = -err;
		else if (wait_for_more(framer))
			return;
	}
}

/* ---- pushes ---- */

/* Does the delimiter stand in it? */
static bool has_delimiter(const struct framer *framer, const struct op *op)
{
	uint32_t matched = 0;

	for (uint32_t i = 0; i < op->numsegs; i++) {
		struct iovec segment = op_segment(op, i);
		(void)match_find(&framer->match, &matched, segment.iov_base, segment.iov_len);
		if (matched == framer->match.bytes)
			return true;
	}
	return false;
}

/* Is it a message that a peer with the same framing would take?  0 or -errno. */
static int check(const struct framer *framer, const struct op *op)
{
	const struct framing *framing = &framer->framing;
	uint64_t bytes = op_bytes(op);

	if (bytes > framing->max_bytes)
		return -EMSGSIZE;
	if (framing->kind == FRAME_LENGTH && framing->bytes < sizeof(uint64_t) &&
	    bytes >> (8 * framing->bytes))
		return -EMSGSIZE;
	if (framing->kind == FRAME_FIXED && bytes != framing->bytes)
		return -EMSGSIZE;
	return framing->kind == FRAME_DELIMITER && has_delimiter(framer, op) ? -EINVAL : 0;
}

static void write_length(const struct framing *framing, uint64_t length, char *to)
{
	for (uint32_t i = 0; i < framing->bytes; i++) {
		uint32_t byte = framing->little_endian ? i : framing->bytes - 1 - i;
		to[i] = (char)(length >> (8 * byte));
	}
}

/* What stands before or behind the segments of a push: the length, the delimiter.  Where the array
 * is full, the segment beside it goes into the same object. */
static char *make_mark(const struct framer *framer, const struct op *op, const struct iovec *beside,
		       uint64_t *bytes_out)
{
	const struct framing *framing = &framer->framing;
	uint64_t joined = beside ? beside->iov_len : 0;
	char *object = heap_alloc(framer->derived.queue.sched->heap, framing->bytes + joined);

	if (!object)
		return NULL;
	*bytes_out = framing->bytes + joined;
	if (framing->kind == FRAME_LENGTH) {
		write_length(framing, op_bytes(op), object);
		if (joined > 0)
			memcpy(object + framing->bytes, beside->iov_base, joined);
	} else {
		if (joined > 0)
			memcpy(object, beside->iov_base, joined);
		memcpy(object + joined, framing->delimiter, framing->bytes);
	}
	return object;
}

/* The segments of ours: those of op and the mark, which is the caller's.  NULL: no memory. */
static char *mark_segments(const struct framer *framer, struct op *ours, const struct op *op)
{
	bool front = framer->framing.kind == FRAME_LENGTH;
	bool full = op->numsegs == OP_SEGMENTS_MAX;
	uint32_t joined = front ? 0 : op->numsegs - 1; /* the one beside the mark */
	struct iovec beside = op_segment(op, joined);
	uint64_t bytes = 0;
	char *mark = make_mark(framer, op, full ? &beside : NULL, &bytes);

	if (!mark)
		return NULL;
	uint32_t count = op->numsegs + !full;
	struct iovec *iov = op_set_segments(&framer->derived.queue.sched->ops, ours, count);
	uint32_t at = front ? 0 : count - 1;
	uint32_t from = full && front;
	for (uint32_t i = 0; i < count; i++) {
		if (i == at)
			continue;
		ours->len |= (op_ours(op) >> from & 1) << i;
		iov[i] = op_segment(op, from++);
	}
	iov[at] = (struct iovec){.iov_base = mark, .iov_len = bytes};
	ours->len |= 1U << at;
	return mark;
}

static int push_marked(struct framer *framer, struct op *ours, struct op *op)
{
	struct derived *derived = &framer->derived;
	struct sched *sched = derived->queue.sched;
	char *mark = mark_segments(framer, ours, op);

	if (!mark) {
		task_withdraw(&sched->ops, &derived->relay, ours);
		return -ENOMEM;
	}
	int err = derived_push(derived, 0, ours, op, NULL, 0);
	(void)heap_free(sched->heap, mark); /* the source has a reference of its own */
	return err;
}

static int push(struct derived *derived, struct op *op, const struct sockaddr *to, socklen_t length)
{
	struct framer *framer = framer_of(derived);
	bool end = (op->flags & OP_END) != 0;
	int err = end ? 0 : check(framer, op);

	(void)length;
	if (err || to)
		return err ? err : -ENOTSUP;
	struct op *ours = derived_issue_push(derived);
	if (!ours)
		return -ENOMEM;
	if (!end && framer->framing.kind <= FRAME_DELIMITER) {
		err = push_marked(framer, ours, op);
	} else {
		op_copy_segments(&derived->queue.sched->ops, ours, op);
		ours->flags |= op->flags & (OP_OURS | OP_END);
		err = derived_push(derived, 0, ours, op, NULL, 0);
	}
	if (!err)
		derived_relay(derived, op, 1, 0);
	return err;
}

/* ---- life ---- */

static void free_framer(struct derived *derived)
{
	struct framer *framer = framer_of(derived);

	if (framer->bytes > 0)
		derived->queue.sched->counters.drops[DROP_ELEMENT]++;
	framer_drop(framer, framer->bytes);
	free(framer->chunks);
	free(framer);
}

static void held(struct derived *derived, uint32_t *elements, uint64_t *bytes)
{
	*elements = 0;
	*bytes = framer_of(derived)->bytes;
}

static const struct operator_ops frame_ops = {
	.kind = "frame",
	.relays = true,
	.serve = serve,
	.push = push,
	.free = free_framer,
	.held = held,
};

int frame_new(struct queue *source, const struct framing *framing, struct queue **queue_out)
{
	struct framer *framer = calloc(1, sizeof(*framer));

	if (!framer)
		return -ENOMEM;
	framer->framing = *framing;
	framer->needed = 1;
	if (framing->kind == FRAME_DELIMITER)
		match_init(&framer->match, framing->delimiter, framing->bytes);
	int err = derived_open(&framer->derived, &frame_ops, source, NULL);
	if (err) {
		free(framer);
		return err;
	}
	*queue_out = &framer->derived.queue;
	return 0;
}
