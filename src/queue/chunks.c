/* SPDX-License-Identifier: MIT
 * queue/chunks.c - the bytes of a framer.
 */
#include "queue/framer.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct heap *heap_of(const struct framer *framer)
{
	return framer->derived.queue.sched->heap;
}

/* Room for more chunks.  0 or -ENOMEM. */
static int make_room(struct framer *framer, uint32_t more)
{
	uint32_t room = framer->room ? framer->room : 16;

	while (room < framer->count + more)
		room *= 2;
	if (room == framer->room)
		return 0;
	struct chunk *chunks = malloc(room * sizeof(*chunks));
	if (!chunks)
		return -ENOMEM;
	for (uint32_t i = 0; i < framer->count; i++)
		chunks[i] = *framer_chunk(framer, i);
	free(framer->chunks);
	framer->chunks = chunks;
	framer->room = room;
	framer->first = 0;
	return 0;
}

static void append(struct framer *framer, char *at, uint64_t bytes)
{
	*framer_chunk(framer, framer->count++) = (struct chunk){.at = at, .bytes = bytes};
	framer->bytes += bytes;
}

int framer_add(struct framer *framer, struct op *element)
{
	struct sched *sched = framer->derived.queue.sched;

	if (make_room(framer, element->numsegs)) {
		op_drop_element(sched, element);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < element->numsegs; i++) {
		struct iovec segment = op_segment(element, i);
		if (segment.iov_len > 0)
			append(framer, segment.iov_base, segment.iov_len);
		else
			(void)heap_free_inside(sched->heap, segment.iov_base);
	}
	op_free(&sched->ops, element);
	return 0;
}

void framer_copy(const struct framer *framer, char *to, uint64_t count)
{
	for (uint32_t i = 0; count > 0; i++) {
		const struct chunk *chunk = framer_chunk(framer, i);
		uint64_t n = chunk->bytes < count ? chunk->bytes : count;
		memcpy(to, chunk->at, n);
		to += n;
		count -= n;
	}
}

/* Takes bytes of the first chunk, which has so many.  Is it used up? */
static bool take(struct framer *framer, uint64_t count)
{
	struct chunk *chunk = framer_chunk(framer, 0);

	chunk->at += count;
	chunk->bytes -= count;
	framer->bytes -= count;
	if (chunk->bytes > 0)
		return false;
	framer->first = (framer->first + 1) & (framer->room - 1);
	framer->count--;
	return true;
}

void framer_drop_chunks(struct framer *framer, uint64_t count)
{
	while (count > 0) {
		struct chunk chunk = *framer_chunk(framer, 0);
		uint64_t n = chunk.bytes < count ? chunk.bytes : count;
		if (take(framer, n))
			(void)heap_free_inside(heap_of(framer), chunk.at);
		count -= n;
	}
}

int framer_gather(struct framer *framer)
{
	uint64_t bytes = framer->bytes;

	if (framer->count <= 1)
		return 0;
	char *all = heap_alloc(heap_of(framer), bytes);
	if (!all)
		return -ENOMEM;
	framer_copy(framer, all, bytes);
	framer_drop(framer, bytes);
	append(framer, all, bytes);
	return 0;
}

/* Can it be delivered as it lies?  So many segments; 0: it can't.  What is cut needs a reference
 * more, which memory of others can't have. */
static uint32_t segments_of(const struct framer *framer, uint64_t count)
{
	for (uint32_t i = 0; i < OP_SEGMENTS_MAX; i++) {
		const struct chunk *chunk = framer_chunk(framer, i);
		if (chunk->bytes >= count)
			return chunk->bytes == count ||
					       heap_find(heap_of(framer), chunk->at, 1) == HEAP_OURS
				       ? i + 1
				       : 0;
		count -= chunk->bytes;
	}
	return 0;
}

/* The next count bytes of the first chunk, with a reference. */
static void *hand_out(struct framer *framer, uint64_t count)
{
	char *at = framer_chunk(framer, 0)->at;

	if (!take(framer, count)) {
		heap_ref_library(at);
		heap_hand_over(at);
	}
	return at;
}

static void *put_together(struct framer *framer, uint64_t count)
{
	char *object = heap_alloc(heap_of(framer), count > 0 ? count : 1);

	if (object) {
		framer_copy(framer, object, count);
		framer_drop(framer, count);
	}
	return object;
}

int framer_deliver(struct framer *framer, struct op *pop, uint64_t count)
{
	uint32_t segments = count > 0 ? segments_of(framer, count) : 0;
	struct op_slab *ops = &framer->derived.queue.sched->ops;

	if (segments <= 1) {
		char *at = segments ? hand_out(framer, count) : put_together(framer, count);
		if (!at)
			return -ENOMEM;
		op_set_segment(pop, at, (uint32_t)count);
	} else {
		struct iovec *iov = op_set_segments(ops, pop, segments);
		for (uint32_t i = 0; i < segments; i++) {
			uint64_t n = framer_chunk(framer, 0)->bytes;
			n = n < count ? n : count;
			iov[i] = (struct iovec){.iov_base = hand_out(framer, n), .iov_len = n};
			count -= n;
		}
	}
	uintptr_t first = (uintptr_t)op_segment(pop, 0).iov_base;
	pop->sga_buf = (void *)(first - (first & 1)); /* even: not a datagram's */
	return 0;
}
