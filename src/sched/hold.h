/* SPDX-License-Identifier: MIT
 * sched/hold.h - library references to the segments of a push that outlives its call.
 *
 * Which segments lie in the heap was found when the push was checked and stands in the operation
 * (op_ours).  It is not looked up again: foreign memory may be unmapped meanwhile and its address
 * become ours.  What a peer has lent is foreign, but may be freed by who popped it like the heap's:
 * it is found when it is held, and stands in the operation too (op_lent).
 */
#pragma once

#include "sched/sched.h"

#include "mem/borrow.h"

#include <stdint.h>

/* References every segment that lies in the heap: where what is foreign is copied at once. */
static inline void hold_heap_segments(struct op *op)
{
	uint32_t ours = op_ours(op);

	op->flags |= OP_HELD;
	for (uint32_t i = 0; i < op->numsegs; i++) {
		if (ours >> i & 1)
			heap_ref_library(op_segment(op, i).iov_base);
	}
}

/* References every segment that the application may free before the push is complete. */
static inline void hold_segments(struct op *op)
{
	uint32_t ours = op_ours(op);

	hold_heap_segments(op);
	for (uint32_t i = 0; i < op->numsegs; i++) {
		struct iovec segment = op_segment(op, i);
		if (unlikely(!(ours >> i & 1)) && segment.iov_len > 0 &&
		    borrow_ref(segment.iov_base))
			op_set_lent(op, i);
	}
}

static inline void release_segments(struct heap *heap, struct op *op)
{
	uint32_t held = op->flags & OP_HELD ? op_ours(op) : 0;
	uint32_t lent = op->flags & OP_HELD ? op_lent(op) : 0;

	op->flags &= (uint8_t)~OP_HELD;
	for (uint32_t i = 0; i < op->numsegs; i++) {
		if (held >> i & 1)
			heap_unref_library(heap, op_segment(op, i).iov_base);
		else if (unlikely(lent >> i & 1))
			borrow_unref(heap, op_segment(op, i).iov_base);
	}
}

/* Bitmap of the segments that do not lie in the heap. */
static inline uint32_t foreign_segments(const struct op *op)
{
	return ~op_ours(op) & ((1U << op->numsegs) - 1);
}
