/* SPDX-License-Identifier: MIT
 * net/tcp/ooo.c - see ooo.h: an array sorted by sequence number, in one object of the heap that
 * grows.
 *
 * A segment that fills several gaps becomes several ranges, which share its object by one reference
 * each.  stamp counts arrivals, for the order of SACK blocks.
 */
#include "net/tcp/ooo.h"

#include "base/assert.h"
#include "mem/heap.h"

#include <errno.h>
#include <string.h>

#define RANGES_FIRST 8

struct range {
	uint32_t start;
	uint32_t stamp;
	struct tcp_piece piece; /* not empty */
};

struct tcp_ooo {
	uint32_t first; /* ranges before it were taken */
	uint32_t count;
	uint32_t capacity;
	uint32_t held;
	uint32_t stamp;
	struct range ranges[];
};

static bool before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static uint32_t end_of(const struct range *range)
{
	return range->start + range->piece.length;
}

static struct range *at(struct tcp_ooo *ooo, uint32_t i)
{
	return &ooo->ranges[ooo->first + i];
}

static const struct range *look(const struct tcp_ooo *ooo, uint32_t i)
{
	return &ooo->ranges[ooo->first + i];
}

/* Index of the first range that ends behind seq. */
static uint32_t find(const struct tcp_ooo *ooo, uint32_t seq)
{
	uint32_t low = 0;
	uint32_t high = ooo->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (before(seq, end_of(look(ooo, middle))))
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* ---- room ---- */

static struct tcp_ooo *grow(struct tcp_ooo *old, struct heap *heap)
{
	uint32_t capacity = old ? old->capacity * 2 : RANGES_FIRST;
	struct tcp_ooo *ooo = heap_alloc(heap, sizeof(*ooo) + capacity * sizeof(struct range));

	if (!ooo)
		return NULL;
	*ooo = (struct tcp_ooo){.capacity = capacity};
	if (old) {
		ooo->count = old->count;
		ooo->held = old->held;
		ooo->stamp = old->stamp;
		memcpy(ooo->ranges, at(old, 0), old->count * sizeof(struct range));
		(void)heap_free(heap, old);
	}
	return ooo;
}

/* Room for one range more behind the last.  False: no memory. */
static bool reserve(struct tcp_ooo **ooo, struct heap *heap)
{
	struct tcp_ooo *o = *ooo;

	if (o && o->first + o->count < o->capacity)
		return true;
	if (o && o->first > o->capacity / 2) {
		memmove(o->ranges, at(o, 0), o->count * sizeof(struct range));
		o->first = 0;
		return true;
	}
	o = grow(o, heap);
	if (o)
		*ooo = o;
	return o != NULL;
}

static void drop_last(struct tcp_ooo *ooo, struct heap *heap)
{
	struct range *last = at(ooo, --ooo->count);

	ooo->held -= last->piece.held;
	(void)heap_free(heap, last->piece.object);
}

/* Makes room for a range at start by giving up ranges that are further ahead (RFC 2018 8).  False:
 * it is the furthest itself. */
static bool make_way(struct tcp_ooo *ooo, struct heap *heap, uint32_t start, uint32_t held,
		     uint32_t held_max)
{
	while (ooo->count == TCP_OOO_RANGES_MAX || ooo->held + held > held_max) {
		if (ooo->count == 0 || before(at(ooo, ooo->count - 1)->start, start))
			return false;
		drop_last(ooo, heap);
	}
	return true;
}

/* ---- adding ---- */

struct addition {
	struct tcp_ooo **ooo;
	struct heap *heap;
	const struct tcp_piece *piece;
	uint32_t seq;
	uint32_t held_max;
	uint32_t kept; /* ranges made of the piece */
};

/* Enters the part [start, end) of the piece in front of range i.  0, -ENOMEM, or -ENOSPC: bounds.
 */
static int insert(struct addition *add, uint32_t i, uint32_t start, uint32_t end)
{
	if (!reserve(add->ooo, add->heap))
		return -ENOMEM;
	struct tcp_ooo *ooo = *add->ooo;
	if (!make_way(ooo, add->heap, start, add->piece->held, add->held_max) || i > ooo->count)
		return -ENOSPC;
	if (add->kept++ > 0) { /* one reference more of the same object */
		heap_ref_library(add->piece->object);
		heap_hand_over(add->piece->object);
	}
	memmove(at(ooo, i + 1), at(ooo, i), (ooo->count - i) * sizeof(struct range));
	*at(ooo, i) = (struct range){.start = start, .stamp = ooo->stamp, .piece = *add->piece};
	at(ooo, i)->piece.data += start - add->seq;
	at(ooo, i)->piece.length = end - start;
	ooo->count++;
	ooo->held += add->piece->held;
	return 0;
}

/* Keeps what of [seq, end) is new; tells the first part that is not. */
static int add_parts(struct addition *add, uint32_t end, struct tcp_block *duplicate)
{
	uint32_t i = *add->ooo ? find(*add->ooo, add->seq) : 0;
	uint32_t cur = add->seq;

	while (before(cur, end)) {
		const struct tcp_ooo *ooo = *add->ooo;
		const struct range *next = ooo && i < ooo->count ? look(ooo, i) : NULL;
		if (next && !before(cur, next->start)) {
			uint32_t stop = before(end_of(next), end) ? end_of(next) : end;
			if (duplicate->start == duplicate->end)
				*duplicate = (struct tcp_block){.start = cur, .end = stop};
			else if (duplicate->end == cur)
				duplicate->end = stop;
			cur = end_of(next);
			i++;
			continue;
		}
		uint32_t stop = next && before(next->start, end) ? next->start : end;
		int err = insert(add, i, cur, stop);
		if (err)
			return err;
		cur = stop;
		i++;
	}
	return 0;
}

/* NOLINTNEXTLINE(readability-function-size): the connection, which has it all, is unknown here */
int tcp_ooo_add(struct tcp_ooo **ooo, struct heap *heap, uint32_t rcv_nxt, uint32_t seq,
		const struct tcp_piece *piece, uint32_t held_max, struct tcp_block *duplicate)
{
	struct addition add = {
		.ooo = ooo, .heap = heap, .piece = piece, .seq = seq, .held_max = held_max};

	ASSERT(before(rcv_nxt, seq) && piece->length > 0);
	*duplicate = (struct tcp_block){0};
	if (*ooo)
		(*ooo)->stamp++;
	int err = add_parts(&add, seq + piece->length, duplicate);
	if (add.kept == 0)
		(void)heap_free(heap, piece->object);
	if (*ooo && (*ooo)->count == 0)
		tcp_ooo_free(ooo, heap);
	/* The segment that came last is told first, also if it was here already. */
	if (*ooo && add.kept == 0) {
		uint32_t i = find(*ooo, seq);
		if (i < (*ooo)->count && !before(seq, at(*ooo, i)->start))
			at(*ooo, i)->stamp = (*ooo)->stamp;
	}
	return err == -ENOMEM ? err : 0;
}

/* ---- taking ---- */

bool tcp_ooo_take(struct tcp_ooo **ooo, struct heap *heap, uint32_t rcv_nxt,
		  struct tcp_piece *piece)
{
	bool found = false;

	while (!found && *ooo) {
		struct tcp_ooo *o = *ooo;
		struct range *range = at(o, 0);
		uint32_t old = rcv_nxt - range->start;
		if (before(rcv_nxt, range->start))
			return false;
		*piece = range->piece;
		o->first++;
		o->count--;
		o->held -= piece->held;
		found = old < piece->length;
		if (!found)
			(void)heap_free(heap, piece->object);
		if (o->count == 0)
			tcp_ooo_free(ooo, heap);
		if (found) {
			piece->data += old;
			piece->length -= old;
		}
	}
	return found;
}

/* ---- telling ---- */

/* The block that begins with range *i, adjoining ranges joined; *i is then behind it. */
static struct tcp_block block_from(const struct tcp_ooo *ooo, uint32_t *i, uint32_t *stamp)
{
	const struct range *range = look(ooo, *i);
	struct tcp_block block = {.start = range->start, .end = end_of(range)};

	*stamp = range->stamp;
	for (++*i; *i < ooo->count && look(ooo, *i)->start == block.end; ++*i) {
		range = look(ooo, *i);
		block.end = end_of(range);
		if (before(*stamp, range->stamp))
			*stamp = range->stamp;
	}
	return block;
}

uint32_t tcp_ooo_blocks(const struct tcp_ooo *ooo, struct tcp_block *blocks, uint32_t max)
{
	uint32_t stamps[TCP_SACK_BLOCKS_MAX];
	uint32_t n = 0;

	ASSERT(max <= TCP_SACK_BLOCKS_MAX);
	for (uint32_t i = 0; ooo && max > 0 && i < ooo->count;) {
		uint32_t stamp;
		struct tcp_block block = block_from(ooo, &i, &stamp);
		uint32_t place = n;
		while (place > 0 && before(stamps[place - 1], stamp))
			place--;
		if (place == max)
			continue;
		if (n < max)
			n++;
		memmove(stamps + place + 1, stamps + place, (n - place - 1) * sizeof(*stamps));
		memmove(blocks + place + 1, blocks + place, (n - place - 1) * sizeof(*blocks));
		stamps[place] = stamp;
		blocks[place] = block;
	}
	return n;
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

	for (uint32_t i = 0; ooo && i < ooo->count; i++) {
		const struct range *range = look(ooo, i);
		ASSERT(range->piece.length > 0);
		ASSERT(before(rcv_nxt, range->start));
		ASSERT(i == 0 || !before(range->start, end_of(look(ooo, i - 1))));
		held += range->piece.held;
	}
	ASSERT(!ooo || (held == ooo->held && ooo->count > 0));
}
