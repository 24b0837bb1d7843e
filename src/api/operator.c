/* SPDX-License-Identifier: MIT
 * api/operator.c - queues made of queues, and the application's functions in them.
 */
#include "api/result.h"

#include "queue/operator.h"
#include "sched/datagram.h"

#include <demi/queue.h>
#include <string.h>

static struct demi *demi_of(struct sched *sched)
{
	return container_of(sched, struct demi, sched);
}

/* ---- the application's functions: while one runs, calls are refused ---- */

static int call_predicate(const struct operator_call *call, struct sched *sched, struct op *element)
{
	struct demi *demi = demi_of(sched);
	demi_sgarray_t sga;

	result_to_array(element, &sga);
	demi->open = 0;
	int holds = ((demi_predicate_t)call->fn)(call->arg, &sga);
	demi->open = 1;
	return holds != 0;
}

/* Does the segment lie in a datagram, behind the source?  Memory that was freed and allocated anew
 * is in the same object, but begins it. */
static bool in_datagram(const struct heap *heap, const void *segment, const char *object)
{
	uint64_t bytes;
	const char *found = heap_object(heap, segment, &bytes);

	return found && found == object &&
	       (const char *)segment >= object + sizeof(struct datagram);
}

/* Is it what the one segment was, or a part of that, so that its memory is known? */
static inline bool part_of(const struct op *element, const char *buf, uint32_t len)
{
	const char *was = element->buf;

	return buf && buf >= was && buf + len <= was + element->len;
}

/* Takes the array that a function has left as the element.  0 or EINVAL: it is none, and what it
 * was is the function's to have lost. */
static int take_array(struct sched *sched, struct op *element, const demi_sgarray_t *sga)
{
	int is_datagram;
	const char *object = datagram_object(element->sga_buf, &is_datagram);
	const demi_sgaseg_t segment = sga->sga_segs[0];

	if (element->numsegs == 1 && sga->sga_numsegs == 1 &&
	    part_of(element, segment.sgaseg_buf, segment.sgaseg_len)) {
		op_set_segment(element, segment.sgaseg_buf, segment.sgaseg_len);
		return 0;
	}
	element->flags = 0;
	element->len = 0;
	int err = result_from_array(sched, element, sga);
	if (err) {
		element->numsegs = 0;
		return err;
	}
	char *first = op_segment(element, 0).iov_base;
	element->sga_buf = first - ((uintptr_t)first & 1);
	if (is_datagram && in_datagram(sched->heap, first, object))
		element->sga_buf = (char *)(uintptr_t)object + 1;
	return 0;
}

static int call_transform(const struct operator_call *call, struct sched *sched, struct op *element)
{
	struct demi *demi = demi_of(sched);
	demi_sgarray_t sga;

	result_to_array(element, &sga);
	demi->open = 0;
	int err = ((demi_transform_t)call->fn)(call->arg, &sga);
	demi->open = 1;
	int taken = take_array(sched, element, &sga);
	return err ? -err : -taken;
}

static int call_compare(const struct operator_call *call, struct sched *sched, const struct op *a,
			const struct op *b)
{
	struct demi *demi = demi_of(sched);
	demi_sgarray_t first;
	demi_sgarray_t second;

	result_to_array(a, &first);
	result_to_array(b, &second);
	demi->open = 0;
	int order = ((demi_compare_t)call->fn)(call->arg, &first, &second);
	demi->open = 1;
	return order;
}

static int64_t call_find(const struct operator_call *call, struct sched *sched, const char *bytes,
			 uint64_t length)
{
	struct demi *demi = demi_of(sched);

	demi->open = 0;
	int64_t found = ((demi_find_t)call->fn)(call->arg, bytes, length);
	demi->open = 1;
	return found;
}

/* ---- the calls ---- */

/* Gives what was made its descriptor, or tells why it was not. */
static int made(int err, struct queue *queue, int *qd_out)
{
	return err ? -err : api_enter(thread_state.current, queue, qd_out);
}

int demi_filter(int *qd_out, int qd, demi_predicate_t predicate, void *arg)
{
	struct operator_call call = {.apply = call_predicate, .arg = arg};
	int err = 0;
	struct queue *source = api_queue(qd, &err);
	struct queue *queue = NULL;

	if (!source)
		return err;
	if (!qd_out || !predicate)
		return EINVAL;
	call.fn = (void (*)(void))predicate;
	err = filter_new(source, &call, &queue);
	return made(err, queue, qd_out);
}

int demi_filter_expression(int *qd_out, int qd, const char *expression)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *source = api_queue(qd, &err);
	struct queue *queue = NULL;

	if (!source)
		return err;
	if (!qd_out || !expression)
		return EINVAL;
	err = field_filter_new(source, expression, &queue);
	return made(err, queue, qd_out);
}

int demi_map(int *qd_out, int qd, demi_transform_t transform, void *arg)
{
	struct operator_call call = {.apply = call_transform, .arg = arg};
	int err = 0;
	struct queue *source = api_queue(qd, &err);
	struct queue *queue = NULL;

	if (!source)
		return err;
	if (!qd_out || !transform)
		return EINVAL;
	call.fn = (void (*)(void))transform;
	err = map_new(source, &call, &queue);
	return made(err, queue, qd_out);
}

#define SORT_DEPTH_MAX 65536

int demi_sort(int *qd_out, int qd, demi_compare_t compare, void *arg, unsigned depth)
{
	struct operator_call call = {.compare = call_compare, .arg = arg};
	int err = 0;
	struct queue *source = api_queue(qd, &err);
	struct queue *queue = NULL;

	if (!source)
		return err;
	if (!qd_out || !compare || depth == 0 || depth > SORT_DEPTH_MAX)
		return EINVAL;
	call.fn = (void (*)(void))compare;
	err = sort_new(source, &call, depth, &queue);
	return made(err, queue, qd_out);
}

int demi_merge(int *qd_out, int qd1, int qd2)
{
	int err = 0;
	struct queue *one = api_queue(qd1, &err);
	struct queue *other = one ? api_queue(qd2, &err) : NULL;
	struct queue *queue = NULL;

	if (!other)
		return err;
	if (!qd_out || one == other)
		return EINVAL;
	err = merge_new(one, other, &queue);
	return made(err, queue, qd_out);
}

static bool framing_of(const struct demi_framing *from, struct framing *framing)
{
	uint32_t bytes[] = {
		[FRAME_LENGTH] = from->length_bytes,
		[FRAME_DELIMITER] = from->delimiter_bytes,
		[FRAME_FIXED] = from->fixed_bytes,
		[FRAME_FIND] = 1,
	};
	uint32_t max[] = {
		[FRAME_LENGTH] = sizeof(uint64_t),
		[FRAME_DELIMITER] = FRAME_DELIMITER_MAX,
		[FRAME_FIXED] = from->max_bytes,
		[FRAME_FIND] = 1,
	};
	uint32_t kind = (uint32_t)from->kind;

	if (kind > FRAME_FIND || from->max_bytes == 0 || bytes[kind] == 0 ||
	    bytes[kind] > max[kind])
		return false;
	if ((kind == FRAME_DELIMITER && !from->delimiter) || (kind == FRAME_FIND && !from->find))
		return false;
	*framing = (struct framing){
		.kind = (enum frame_kind)kind,
		.bytes = bytes[kind],
		.little_endian = from->little_endian != 0,
		.max_bytes = from->max_bytes,
		.call = {.find = call_find, .fn = (void (*)(void))from->find, .arg = from->arg},
	};
	if (kind == FRAME_DELIMITER)
		memcpy(framing->delimiter, from->delimiter, from->delimiter_bytes);
	return true;
}

int demi_frame(int *qd_out, int qd, const struct demi_framing *framing)
{
	int err = 0;
	struct queue *source = api_queue(qd, &err);
	struct queue *queue = NULL;
	struct framing taken;

	if (!source)
		return err;
	if (!qd_out || !framing || !framing_of(framing, &taken))
		return EINVAL;
	err = frame_new(source, &taken, &queue);
	return made(err, queue, qd_out);
}

int demi_qconnect(int qd_in, int qd_out)
{
	int err = 0;
	struct queue *in = api_queue(qd_in, &err);
	struct queue *out = in ? api_queue(qd_out, &err) : NULL;

	if (!out)
		return err;
	return -connect_queues(&thread_state.current->queues, in, out);
}

int demi_qended(demi_qtoken_t *qt_out, int qd_in)
{
	int err = 0;
	struct queue *in = api_queue(qd_in, &err);

	if (!in)
		return err;
	if (!qt_out)
		return EINVAL;
	struct op *op = api_issue(in, OP_CLOSE);
	if (!op)
		return ENOMEM;
	return api_issued(in, op, connect_wait(in, op), qt_out);
}
