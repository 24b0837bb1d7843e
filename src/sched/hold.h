/* SPDX-License-Identifier: MIT
 * sched/hold.h - library references to the segments of a push that outlives its call.
 *
 * Which segments lie in the heap was found when the push was checked and stands in the operation
 * (op_ours).  It is not looked up again: foreign memory may be unmapped meanwhile and its address
 * become ours.
 */
#pragma once

#include "sched/sched.h"

#include <stdint.h>

/* References every segment that lies in the heap. */
static inline void hold_segments(struct op *op)
{
	uint32_t ours = op_ours(op);

	op->flags |= OP_HELD;
	for (uint32_t i = 0; i < op->numsegs; i++) {
		if (ours >> i & 1)
			heap_ref_library(op_segment(op, i).iov_base);
	}
}

static inline void release_segments(struct heap *heap, struct op *op)
{
	uint32_t held = op->flags & OP_HELD ? op_ours(op) : 0;

	op->flags &= (uint8_t)~OP_HELD;
	for (uint32_t i = 0; i < op->numsegs; i++) {
		if (held >> i & 1)
			heap_unref_library(heap, op_segment(op, i).iov_base);
	}
}

/* Bitmap of the segments that do not lie in the heap. */
static inline uint32_t foreign_segments(const struct op *op)
{
	return ~op_ours(op) & ((1U << op->numsegs) - 1);
}
