/* SPDX-License-Identifier: MIT
 * sched/op.h - operations and their tokens.
 *
 * An operation is a slot in a slab, one cache line with one segment inline; arrays of more segments
 * have a record in a side slab.  Its token is (generation, slot): a stale, foreign or made-up token
 * finds nothing.  Generations of a slab begin at a random number, so that the tokens of two
 * instances differ.  Links are slots, not pointers, so that an operation stays one line.
 *
 * An operation is PENDING in exactly one list of its queue (or held by it), then READY or PARKED in
 * the waitset that owns it, until a wait redeems it.  The slabs are reserved when the instance is
 * made and touched as they are used.
 *
 * Invariant: used == operations whose token is not 0; used + length(free list) == fresh <= max.
 */
#pragma once

#include "base/bits.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#define OP_SEGMENTS_MAX 8 /* DEMI_SGARRAY_MAXSIZE; src/api/ asserts it */
#define OP_SLOT_BITS    20
#define OP_NONE         UINT32_MAX
#define OP_LENT_SHIFT   OP_SEGMENTS_MAX

struct waitset;

/* Values are those of demi_opcode_t; src/api/ asserts it. */
enum op_code {
	OP_INVALID,
	OP_PUSH,
	OP_POP,
	OP_ACCEPT,
	OP_CONNECT,
	OP_CLOSE,
	OP_FAILED,
	OP_TRUNCATE
};

enum op_state { OP_FREE, OP_PENDING, OP_READY, OP_PARKED, OP_LONG };

enum op_flags {
	OP_AWAITED = 1, /* a coroutine is blocked on this one token */
	OP_OURS = 2,    /* push of one segment: it lies in the instance's heap */
	OP_HELD = 4, /* push: the library holds references to the segments that lie in the heap */
	OP_STARTED = 8, /* push: some bytes were taken */
	OP_VALUE = 16,  /* ret is no error but what the operation returns */
	OP_END = 32,    /* an empty element: the end of a stream */
	OP_LENT = 64,   /* push of one segment, held: it lies in memory that a peer has lent */
};

struct op_segments {
	struct iovec iov[OP_SEGMENTS_MAX];
};

struct op {
	uint64_t token;        /* 0: free */
	struct waitset *owner; /* who gets the result */
	uint32_t next;         /* links of the one list that the operation is in */
	uint32_t prev;

	union {
		int64_t ret; /* 0 or positive errno once complete; free: the slot's generation */
		void *transport; /* pending: whatever the transport that holds it needs; NULL at
				    first */
	};

	void *sga_buf; /* push: as given; pop: what the result's sga_buf is */

	union {
		void *buf;                    /* numsegs <= 1 */
		struct op_segments *segments; /* numsegs > 1 */
	};

	uint32_t len; /* numsegs <= 1; else, in a push: bitmap of the segments that lie in the heap,
			 and from OP_LENT_SHIFT on of those held that a peer has lent */
	int32_t qd;   /* the queue it was issued on */

	union {
		uint32_t index;  /* guess: where the token stands in its owner's array */
		uint32_t copied; /* element of a memory queue: bitmap of segments that are copies */
	};

	uint8_t opcode; /* enum op_code */
	uint8_t state;  /* enum op_state */
	uint8_t numsegs;
	uint8_t flags; /* enum op_flags */
};

struct op_list {
	uint32_t head; /* slot, OP_NONE: empty */
	uint32_t tail;
};

struct op_slab {
	struct op *ops;
	uint32_t free;  /* slot */
	uint32_t fresh; /* slots from here on were never used */
	uint32_t used;
	uint32_t max;
	struct op_segments *segments; /* a record a slot: the side slab */
	int64_t generation;           /* of slots never used; the first token has the next one */
};

/* 0 or -ENOMEM; max at most 1 << OP_SLOT_BITS; random: any number. */
int op_slab_open(struct op_slab *slab, uint32_t max, uint64_t random);
void op_slab_close(struct op_slab *slab);

static inline uint32_t op_slot(const struct op_slab *slab, const struct op *op)
{
	return (uint32_t)(op - slab->ops);
}

/* A pending operation in no list, or NULL: the bound is reached. */
static inline struct op *op_alloc(struct op_slab *slab)
{
	uint32_t slot = slab->free;
	struct op *op;

	if (likely(slot != OP_NONE)) {
		op = &slab->ops[slot];
		slab->free = op->next;
	} else {
		if (unlikely(slab->fresh == slab->max))
			return NULL;
		slot = slab->fresh++;
		op = &slab->ops[slot];
		op->ret = slab->generation;
	}
	slab->used++;
	op->token = ((uint64_t)(op->ret + 1) << OP_SLOT_BITS) | slot;
	op->ret = 0;
	op->sga_buf = NULL;
	op->state = OP_PENDING;
	op->numsegs = 0;
	op->flags = 0;
	return op;
}

static inline void op_free(struct op_slab *slab, struct op *op)
{
	op->ret = (int64_t)(op->token >> OP_SLOT_BITS);
	op->token = 0;
	op->state = OP_FREE;
	op->next = slab->free;
	slab->free = op_slot(slab, op);
	slab->used--;
}

/* The live operation of a token, or NULL. */
static inline struct op *op_find(const struct op_slab *slab, uint64_t token)
{
	uint32_t slot = (uint32_t)token & ((1U << OP_SLOT_BITS) - 1);

	if (unlikely(slot >= slab->fresh))
		return NULL;
	struct op *op = &slab->ops[slot];
	return likely(op->token == token && token != 0) ? op : NULL;
}

static inline bool op_done(const struct op *op)
{
	return op->state >= OP_READY;
}

/* Where the segments of an operation are written: room for OP_SEGMENTS_MAX when count > 1. */
static inline void op_set_segment(struct op *op, void *buf, uint32_t len)
{
	op->buf = buf;
	op->len = len;
	op->numsegs = 1;
}

static inline struct iovec *op_set_segments(struct op_slab *slab, struct op *op, uint32_t count)
{
	op->segments = &slab->segments[op_slot(slab, op)];
	op->numsegs = (uint8_t)count;
	return op->segments->iov;
}

/* The segments as an I/O vector: count of them; one is scratch for a single segment. */
static inline struct iovec *op_vector(struct op *op, struct iovec *one)
{
	if (op->numsegs > 1)
		return op->segments->iov;
	*one = (struct iovec){.iov_base = op->buf, .iov_len = op->len};
	return one;
}

/* Segment i of an operation, i below numsegs. */
static inline struct iovec op_segment(const struct op *op, uint32_t i)
{
	if (op->numsegs > 1)
		return op->segments->iov[i];
	return (struct iovec){.iov_base = op->buf, .iov_len = op->len};
}

static inline void op_move_segment(struct op *op, uint32_t i, void *base)
{
	if (op->numsegs > 1)
		op->segments->iov[i].iov_base = base;
	else
		op->buf = base;
}

/* The segments of another operation; what that holds is its own. */
static inline void op_copy_segments(struct op_slab *slab, struct op *to, const struct op *from)
{
	to->len = from->len & ((1U << OP_LENT_SHIFT) - 1);
	if (likely(from->numsegs == 1))
		op_set_segment(to, from->buf, from->len);
	else
		memcpy(op_set_segments(slab, to, from->numsegs), from->segments->iov,
		       from->numsegs * sizeof(struct iovec));
}

/* Bitmap of the segments of a push that lie in the instance's heap. */
static inline uint32_t op_ours(const struct op *op)
{
	return op->numsegs > 1 ? op->len : (op->flags & OP_OURS) != 0;
}

/* Bitmap of the segments of a push that are held in memory that a peer has lent. */
static inline uint32_t op_lent(const struct op *op)
{
	return op->numsegs > 1 ? op->len >> OP_LENT_SHIFT : (op->flags & OP_LENT) != 0;
}

static inline void op_set_lent(struct op *op, uint32_t i)
{
	if (op->numsegs > 1)
		op->len |= 1U << (OP_LENT_SHIFT + i);
	else
		op->flags |= OP_LENT;
}

/* Sum of the lengths of the segments: below 8 * 4 GiB. */
static inline uint64_t op_bytes(const struct op *op)
{
	uint64_t bytes = op->len;

	if (op->numsegs > 1) {
		bytes = 0;
		for (uint32_t i = 0; i < op->numsegs; i++)
			bytes += op->segments->iov[i].iov_len;
	}
	return bytes;
}

/* ---- lists ---- */

static inline void op_list_init(struct op_list *list)
{
	list->head = OP_NONE;
	list->tail = OP_NONE;
}

static inline bool op_list_empty(const struct op_list *list)
{
	return list->head == OP_NONE;
}

static inline struct op *op_list_first(const struct op_slab *slab, const struct op_list *list)
{
	return list->head == OP_NONE ? NULL : &slab->ops[list->head];
}

static inline struct op *op_list_next(const struct op_slab *slab, const struct op *op)
{
	return op->next == OP_NONE ? NULL : &slab->ops[op->next];
}

static inline void op_list_append(struct op_slab *slab, struct op_list *list, struct op *op)
{
	uint32_t slot = op_slot(slab, op);

	op->next = OP_NONE;
	op->prev = list->tail;
	if (list->tail == OP_NONE)
		list->head = slot;
	else
		slab->ops[list->tail].next = slot;
	list->tail = slot;
}

static inline void op_list_prepend(struct op_slab *slab, struct op_list *list, struct op *op)
{
	uint32_t slot = op_slot(slab, op);

	op->prev = OP_NONE;
	op->next = list->head;
	if (list->head == OP_NONE)
		list->tail = slot;
	else
		slab->ops[list->head].prev = slot;
	list->head = slot;
}

static inline void op_list_remove(struct op_slab *slab, struct op_list *list, struct op *op)
{
	/* NOLINTBEGIN(clang-analyzer-core.NullDereference): there is a slab where there is an
	 * operation */
	if (op->prev == OP_NONE)
		list->head = op->next;
	else
		slab->ops[op->prev].next = op->next;
	if (op->next == OP_NONE)
		list->tail = op->prev;
	else
		slab->ops[op->next].prev = op->prev;
	/* NOLINTEND(clang-analyzer-core.NullDereference) */
}

/* Takes the first operation, op, out. */
static inline void op_list_remove_first(struct op_slab *slab, struct op_list *list,
					const struct op *op)
{
	list->head = op->next;
	if (op->next == OP_NONE)
		list->tail = OP_NONE;
	else
		slab->ops[op->next].prev = OP_NONE;
}

/* First operation, taken out; NULL: empty. */
static inline struct op *op_list_take(struct op_slab *slab, struct op_list *list)
{
	struct op *op = op_list_first(slab, list);

	if (op)
		op_list_remove_first(slab, list, op);
	return op;
}

static inline uint32_t op_list_length(const struct op_slab *slab, const struct op_list *list)
{
	uint32_t n = 0;

	for (struct op *op = op_list_first(slab, list); op; op = op_list_next(slab, op))
		n++;
	return n;
}
