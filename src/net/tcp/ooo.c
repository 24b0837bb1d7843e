/* SPDX-License-Identifier: MIT
 * net/tcp/ooo.c - see ooo.h: blocks, which are what the peer is told of, and in each the ranges
 * that adjoin, in order.
 *
 * Only whether a block holds a sequence number is ever searched for, as what lies inside one is
 * here already.  Blocks are a ring sorted by sequence number, in one object of the heap that grows;
 * to enter one moves the nearer end of it, which is nothing for segments in ascending or descending
 * order.  Ranges are objects of their own, linked.
 *
 * A segment that fills several gaps becomes several ranges, which share its object by one reference
 * each and are charged its memory each.  However many there are, the block around them is one.
 *
 * Invariant: blocks neither overlap nor adjoin; ranges of a block cover it exactly.
 */
#include "net/tcp/ooo.h"

#include "base/assert.h"
#include "mem/heap.h"

#include <errno.h>
#include <string.h>

#define BLOCKS_FIRST 8 /* a power of two, as are all capacities */
#define RECENT       8 /* blocks whose order of arrival is known */

struct range {
	struct range *next;
	struct range *prev;
	uint32_t start;
	struct tcp_piece piece; /* not empty */
};

struct block {
	uint32_t start;
	uint32_t end;
	struct range *first;
	struct range *last;
};

struct tcp_ooo {
	uint32_t head; /* place of the first block */
	uint32_t count;
	uint32_t capacity;
	uint32_t num_ranges;
	uint32_t held;
	uint32_t num_recent;
	uint32_t recent[RECENT]; /* a sequence number in each of the blocks that grew last, latest
				    first */
	struct block blocks[];
};

static_assert((TCP_OOO_RANGES_MAX & (TCP_OOO_RANGES_MAX - 1)) == 0, "bounds the ring's capacity");

static bool before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static struct block *at(struct tcp_ooo *ooo, uint32_t i)
{
	return &ooo->blocks[(ooo->head + i) & (ooo->capacity - 1)];
}

static const struct block *look(const struct tcp_ooo *ooo, uint32_t i)
{
	return &ooo->blocks[(ooo->head + i) & (ooo->capacity - 1)];
}

/* Index of the first block that ends at seq or behind it; adjoining counts. */
static uint32_t find(const struct tcp_ooo *ooo, uint32_t seq)
{
	uint32_t low = 0;
	uint32_t high = ooo->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (before(look(ooo, middle)->end, seq))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The block that holds the byte seq; NULL: none. */
static const struct block *block_of(const struct tcp_ooo *ooo, uint32_t seq)
{
	uint32_t i = find(ooo, seq + 1);

	return i < ooo->count && !before(seq, look(ooo, i)->start) ? look(ooo, i) : NULL;
}

/* ---- the ring ---- */

/* Room for one block more.  False: no memory. */
static bool reserve(struct tcp_ooo **ooo, struct heap *heap)
{
	struct tcp_ooo *old = *ooo;

	if (old && old->count < old->capacity)
		return true;
	uint32_t capacity = old ? old->capacity * 2 : BLOCKS_FIRST;
	struct tcp_ooo *new = heap_alloc(heap, sizeof(*new) + capacity * sizeof(struct block));
	if (!new)
		return false;
	*new = (struct tcp_ooo){0};
	if (old) {
		*new = *old;
		for (uint32_t i = 0; i < old->count; i++)
			new->blocks[i] = *at(old, i);
		(void)heap_free(heap, old);
	}
	new->head = 0;
	new->capacity = capacity;
	*ooo = new;
	return true;
}

/* An unfilled block in front of block i. */
static void open_block(struct tcp_ooo *ooo, uint32_t i)
{
	if (i < ooo->count / 2) {
		ooo->head--;
		for (uint32_t k = 0; k < i; k++)
			*at(ooo, k) = *at(ooo, k + 1);
	} else {
		for (uint32_t k = ooo->count; k > i; k--)
			*at(ooo, k) = *at(ooo, k - 1);
	}
	ooo->count++;
}

/* Blocks i to i + n - 1 are no more. */
static void close_blocks(struct tcp_ooo *ooo, uint32_t i, uint32_t n)
{
	if (n == 0)
		return;
	if (i < ooo->count - n - i) {
		for (uint32_t k = i; k > 0; k--)
			*at(ooo, k - 1 + n) = *at(ooo, k - 1);
		ooo->head += n;
	} else {
		for (uint32_t k = i; k + n < ooo->count; k++)
			*at(ooo, k) = *at(ooo, k + n);
	}
	ooo->count -= n;
}

/* ---- which came last ---- */

/* seq came; the block it is in, [start, end), is the latest. */
static void remember(struct tcp_ooo *ooo, uint32_t seq, uint32_t start, uint32_t end)
{
	uint32_t others[RECENT] = {0};
	uint32_t n = 0;

	for (uint32_t i = 0; i < ooo->num_recent && n < RECENT - 1; i++) {
		if (ooo->recent[i] - start >= end - start)
			others[n++] = ooo->recent[i];
	}
	ooo->recent[0] = seq;
	memcpy(ooo->recent + 1, others, n * sizeof(*others));
	ooo->num_recent = n + 1;
}

/* [start, end) is gone, kept: what of its block is still here, if anything. */
static void forget(struct tcp_ooo *ooo, uint32_t start, uint32_t end, const uint32_t *kept)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ooo->num_recent; i++) {
		uint32_t seq = ooo->recent[i];
		bool gone = seq - start < end - start;
		if (!gone || kept)
			ooo->recent[n++] = gone ? *kept : seq;
	}
	ooo->num_recent = n;
}

/* ---- giving up ---- */

static uint32_t end_of(const struct range *range)
{
	return range->start + range->piece.length;
}

/* Takes the last range of block i out, or its first. */
static void unlink_range(struct tcp_ooo *ooo, uint32_t i, struct range *range)
{
	struct block *block = at(ooo, i);
	bool is_first = block->first == range;

	ooo->num_ranges--;
	ooo->held -= range->piece.held;
	if (block->first == block->last) {
		forget(ooo, range->start, end_of(range), NULL);
		close_blocks(ooo, i, 1);
		return;
	}
	if (is_first) {
		block->first = range->next;
		block->first->prev = NULL;
		block->start = block->first->start;
	} else {
		block->last = range->prev;
		block->last->next = NULL;
		block->end = range->start;
	}
	forget(ooo, range->start, end_of(range), &block->start);
}

static void free_range(struct heap *heap, struct range *range)
{
	(void)heap_free(heap, range->piece.object);
	(void)heap_free(heap, range);
}

/* RFC 2018 8: the furthest goes. */
static void drop_last(struct tcp_ooo *ooo, struct heap *heap)
{
	struct range *last = look(ooo, ooo->count - 1)->last;

	unlink_range(ooo, ooo->count - 1, last);
	free_range(heap, last);
}

/* ---- adding ---- */

static void append(struct block *block, struct range *first, struct range *last)
{
	first->prev = block->last;
	if (block->last)
		block->last->next = first;
	else
		block->first = first;
	block->last = last;
	block->end = end_of(last);
}

/* Ranges for count gaps, linked by next; NULL: no memory. */
static struct range *make_ranges(struct heap *heap, const struct tcp_piece *piece, uint32_t count)
{
	struct range *list = NULL;

	while (count > 0) {
		struct range *range = heap_alloc(heap, sizeof(*range));
		if (!range)
			break;
		*range = (struct range){.next = list, .piece = *piece};
		list = range;
		count--;
	}
	while (count > 0 && list) {
		struct range *next = list->next;
		(void)heap_free(heap, list);
		list = next;
	}
	return list;
}

/* What a segment meets. */
struct meeting {
	uint32_t first; /* blocks that it overlaps or adjoins */
	uint32_t count;
	uint32_t gaps; /* parts of it that are new */
};

static struct meeting meet(const struct tcp_ooo *ooo, uint32_t seq, uint32_t end,
			   struct tcp_block *duplicate)
{
	struct meeting m = {.first = ooo ? find(ooo, seq) : 0};
	uint32_t cur = seq;

	for (uint32_t i = m.first; ooo && i < ooo->count; i++, m.count++) {
		const struct block *block = look(ooo, i);
		if (before(end, block->start))
			break;
		m.gaps += before(cur, block->start);
		uint32_t from = before(cur, block->start) ? block->start : cur;
		uint32_t to = before(block->end, end) ? block->end : end;
		if (duplicate->start == duplicate->end && before(from, to))
			*duplicate = (struct tcp_block){.start = from, .end = to};
		cur = block->end;
	}
	m.gaps += before(cur, end);
	return m;
}

/* Appends the next of *spare to block, for [block->end, end) of the piece that begins at seq. */
static void fill_gap(struct tcp_ooo *ooo, struct block *block, struct range **spare, uint32_t seq,
		     uint32_t end)
{
	struct range *range = *spare;

	*spare = range->next;
	if (*spare) { /* one reference more of the same object */
		heap_ref_library(range->piece.object);
		heap_hand_over(range->piece.object);
	}
	range->next = NULL;
	range->start = block->end;
	range->piece.data += range->start - seq;
	range->piece.length = end - range->start;
	ooo->num_ranges++;
	ooo->held += range->piece.held;
	append(block, range, range);
}

/* The blocks that the segment meets become one with it, its new parts in spare. */
static void join(struct tcp_ooo *ooo, const struct meeting *m, struct range *spare, uint32_t seq,
		 uint32_t end)
{
	struct block joined = {.start = seq, .end = seq};

	if (m->count == 0)
		open_block(ooo, m->first);
	else if (before(look(ooo, m->first)->start, seq))
		joined.start = joined.end = look(ooo, m->first)->start;
	for (uint32_t i = 0; i < m->count; i++) {
		const struct block *block = look(ooo, m->first + i);
		if (before(joined.end, block->start))
			fill_gap(ooo, &joined, &spare, seq, block->start);
		append(&joined, block->first, block->last);
	}
	if (before(joined.end, end))
		fill_gap(ooo, &joined, &spare, seq, end);
	*at(ooo, m->first) = joined;
	if (m->count > 1)
		close_blocks(ooo, m->first + 1, m->count - 1);
	remember(ooo, seq, joined.start, joined.end);
}

/* Would a new block for the segment be beyond a full ring; if it is not the furthest, makes way. */
static bool make_way(struct tcp_ooo *ooo, struct heap *heap, const struct meeting *m)
{
	if (!ooo || m->count > 0 || ooo->count < TCP_OOO_RANGES_MAX)
		return true;
	if (m->first == ooo->count)
		return false;
	drop_last(ooo, heap);
	return true;
}

/* NOLINTNEXTLINE(readability-function-size): the connection, which has it all, is unknown here */
int tcp_ooo_add(struct tcp_ooo **ooo, struct heap *heap, uint32_t rcv_nxt, uint32_t seq,
		const struct tcp_piece *piece, uint32_t held_max, struct tcp_block *duplicate)
{
	uint32_t end = seq + piece->length;
	struct range *spare = NULL;
	int err = 0;

	ASSERT(before(rcv_nxt, seq) && piece->length > 0);
	*duplicate = (struct tcp_block){0};
	struct meeting m = meet(*ooo, seq, end, duplicate);
	if (m.gaps == 0) { /* all of it is inside of one block, which is now the latest */
		remember(*ooo, seq, look(*ooo, m.first)->start, look(*ooo, m.first)->end);
	} else if (piece->held <= held_max && make_way(*ooo, heap, &m)) {
		spare = make_ranges(heap, piece, m.gaps);
		err = spare && (m.count > 0 || reserve(ooo, heap)) ? 0 : -ENOMEM;
	}
	if (m.gaps == 0 || !spare || err) {
		if (spare)
			(void)heap_free(heap, spare); /* one: the segment meets no block */
		(void)heap_free(heap, piece->object);
		return err;
	}
	join(*ooo, &m, spare, seq, end);
	while ((*ooo)->num_ranges > TCP_OOO_RANGES_MAX || (*ooo)->held > held_max)
		drop_last(*ooo, heap);
	if ((*ooo)->count == 0)
		tcp_ooo_free(ooo, heap);
	return 0;
}

/* ---- taking ---- */

bool tcp_ooo_take(struct tcp_ooo **ooo, struct heap *heap, uint32_t rcv_nxt,
		  struct tcp_piece *piece)
{
	bool found = false;

	while (!found && *ooo) {
		struct range *range = look(*ooo, 0)->first;
		uint32_t old = rcv_nxt - range->start;
		if (before(rcv_nxt, range->start))
			return false;
		unlink_range(*ooo, 0, range);
		found = old < range->piece.length;
		if (found) {
			*piece = range->piece;
			piece->data += old;
			piece->length -= old;
			(void)heap_free(heap, range);
		} else {
			free_range(heap, range);
		}
		if ((*ooo)->count == 0)
			tcp_ooo_free(ooo, heap);
	}
	return found;
}

/* ---- telling ---- */

static void tell(const struct block *block, struct tcp_block *blocks, uint32_t *n)
{
	for (uint32_t i = 0; i < *n; i++) {
		if (blocks[i].start == block->start)
			return;
	}
	blocks[(*n)++] = (struct tcp_block){.start = block->start, .end = block->end};
}

/* RFC 2018 4: as many as fit; those whose order of arrival is not known any more come last, nearest
 * first. */
uint32_t tcp_ooo_blocks(const struct tcp_ooo *ooo, struct tcp_block *blocks, uint32_t max)
{
	uint32_t n = 0;

	if (!ooo)
		return 0;
	for (uint32_t i = 0; i < ooo->num_recent && n < max; i++) {
		const struct block *block = block_of(ooo, ooo->recent[i]);
		ASSERT(block);
		tell(block, blocks, &n);
	}
	for (uint32_t i = 0; i < ooo->count && n < max; i++)
		tell(look(ooo, i), blocks, &n);
	return n;
}

bool tcp_ooo_overlap(const struct tcp_ooo *ooo, uint32_t end, struct tcp_block *part)
{
	const struct block *first = look(ooo, 0);

	if (ooo->count == 0 || !before(first->start, end))
		return false;
	part->start = first->start;
	part->end = before(first->end, end) ? first->end : end;
	return true;
}

uint32_t tcp_ooo_held(const struct tcp_ooo *ooo)
{
	return ooo ? ooo->held : 0;
}

void tcp_ooo_free(struct tcp_ooo **ooo, struct heap *heap)
{
	if (!*ooo)
		return;
	while ((*ooo)->count > 0)
		drop_last(*ooo, heap);
	(void)heap_free(heap, *ooo);
	*ooo = NULL;
}

void tcp_ooo_check(const struct tcp_ooo *ooo, uint32_t rcv_nxt)
{
	uint32_t held = 0;
	uint32_t ranges = 0;

	for (uint32_t i = 0; ooo && i < ooo->count; i++) {
		const struct block *block = look(ooo, i);
		const struct range *prev = NULL;
		uint32_t cur = block->start;
		ASSERT(before(i == 0 ? rcv_nxt : look(ooo, i - 1)->end, block->start));
		for (const struct range *range = block->first; range; range = range->next) {
			ASSERT(range->piece.length > 0);
			ASSERT(range->start == cur && range->prev == prev);
			cur = end_of(range);
			held += range->piece.held;
			ranges++;
			prev = range;
		}
		ASSERT(cur == block->end && block->last == prev && prev);
	}
	if (!ooo)
		return;
	ASSERT(ooo->count > 0 && ooo->count <= ooo->capacity);
	ASSERT(held == ooo->held && ranges == ooo->num_ranges && ranges <= TCP_OOO_RANGES_MAX);
	ASSERT(ooo->num_recent <= RECENT);
	for (uint32_t i = 0; i < ooo->num_recent; i++)
		ASSERT(block_of(ooo, ooo->recent[i]));
}
