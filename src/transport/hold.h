/* SPDX-License-Identifier: MIT
 * transport/hold.h - library references to the segments of a push that outlives its call.
 *
 * Which segments are referenced is remembered in the operation, not looked up again: foreign memory may be unmapped and its
 * address become ours meanwhile.  One segment: flag OP_HELD.  Several: a bitmap in op->len, which they do not use.
 */
#pragma once

#include "sched/sched.h"

#include <stdint.h>

/* References every segment that lies in the instance's heap.  Returns the bitmap of those that do not. */
static inline uint32_t hold_segments(struct heap *heap, struct op *op)
{
	struct iovec one;
	struct iovec *iov = op_vector(op, &one);
	uint32_t held = 0;

	for (uint32_t i = 0; i < op->numsegs; i++) {
		if (heap_find(heap, iov[i].iov_base, iov[i].iov_len) == HEAP_OURS) {
			heap_ref_library(heap, iov[i].iov_base);
			held |= 1U << i;
		}
	}
	op->flags |= held ? OP_HELD : 0;
	if (op->numsegs > 1)
		op->len = held;
	return ~held & ((1U << op->numsegs) - 1);
}

/* Bitmap of the segments that hold_segments referenced. */
static inline uint32_t held_segments(const struct op *op)
{
	if (!(op->flags & OP_HELD))
		return 0;
	return op->numsegs > 1 ? op->len : 1;
}

static inline void release_segments(struct heap *heap, struct op *op)
{
	struct iovec one;
	struct iovec *iov = op_vector(op, &one);
	uint32_t held = held_segments(op);

	for (uint32_t i = 0; held; i++, held >>= 1) {
		if (held & 1)
			heap_unref_library(heap, iov[i].iov_base);
	}
	op->flags &= (uint8_t)~OP_HELD;
}
