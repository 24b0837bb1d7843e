/* SPDX-License-Identifier: MIT
 * net/tcp/scoreboard.c - see scoreboard.h.
 */
#include "net/tcp/scoreboard.h"

#include "base/assert.h"
#include "net/tcp/seq.h"

#include <stdlib.h>

/* ---- the ring ---- */

void tcp_scoreboard_init(struct tcp_scoreboard *sb)
{
	sb->runs = sb->own;
	sb->head = 0;
	sb->count = 0;
	sb->capacity = SCOREBOARD_RUNS_OWN;
	sb->sacked = 0;
	sb->lost = 0;
}

void tcp_scoreboard_free(struct tcp_scoreboard *sb)
{
	if (sb->runs != sb->own)
		free(sb->runs);
	tcp_scoreboard_init(sb);
}

bool tcp_scoreboard_grow(struct tcp_scoreboard *sb, uint32_t max)
{
	uint32_t capacity = sb->capacity < 16 ? 16 : sb->capacity * 2U;

	if (capacity > max)
		return false;
	struct tcp_run *runs = malloc(capacity * sizeof(*runs));
	if (!runs)
		return false;
	for (uint32_t i = 0; i < sb->count; i++)
		runs[i] = *tcp_scoreboard_at(sb, i);
	if (sb->runs != sb->own)
		free(sb->runs);
	sb->runs = runs;
	sb->head = 0;
	sb->capacity = (uint16_t)capacity;
	return true;
}

/* Opens a gap of one at i.  There is room. */
static void insert(struct tcp_scoreboard *sb, uint32_t i)
{
	if (i < sb->count / 2U) {
		sb->head = (uint16_t)((sb->head - 1U) & (sb->capacity - 1U));
		sb->count++;
		for (uint32_t k = 0; k < i; k++)
			*tcp_scoreboard_at(sb, k) = *tcp_scoreboard_at(sb, k + 1);
	} else {
		for (uint32_t k = sb->count++; k > i; k--)
			*tcp_scoreboard_at(sb, k) = *tcp_scoreboard_at(sb, k - 1);
	}
}

/* Takes n runs from i on out. */
static void erase(struct tcp_scoreboard *sb, uint32_t i, uint32_t n)
{
	uint32_t behind = sb->count - i - n;

	if (n == 0)
		return;
	if (i < behind) {
		for (uint32_t k = i; k > 0; k--)
			*tcp_scoreboard_at(sb, k - 1 + n) = *tcp_scoreboard_at(sb, k - 1);
		sb->head = (uint16_t)((sb->head + n) & (sb->capacity - 1U));
	} else {
		for (uint32_t k = i; k < i + behind; k++)
			*tcp_scoreboard_at(sb, k) = *tcp_scoreboard_at(sb, k + n);
	}
	sb->count = (uint16_t)(sb->count - n);
}

/* The run that holds seq: the first one that ends behind it; count if none does. */
static uint32_t find(const struct tcp_scoreboard *sb, uint32_t seq)
{
	uint32_t low = 0;
	uint32_t high = sb->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (seq_after(tcp_scoreboard_at(sb, middle)->end, seq))
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Makes a run end at seq; returns the index of the one that begins there, which is count behind the
 * last.  UINT32_MAX: no room. */
static uint32_t split(struct tcp_scoreboard *sb, uint32_t una, uint32_t seq)
{
	uint32_t i = find(sb, seq);

	if (i == sb->count || tcp_scoreboard_start(sb, una, i) == seq)
		return i;
	if (sb->count == sb->capacity && !tcp_scoreboard_grow(sb, SCOREBOARD_RUNS_MAX))
		return UINT32_MAX;
	insert(sb, i);
	*tcp_scoreboard_at(sb, i) = *tcp_scoreboard_at(sb, i + 1);
	tcp_scoreboard_at(sb, i)->end = seq;
	return i + 1;
}

/* ---- delivered ---- */

/* [.., end) of a run arrived, and had no mark of that. */
static void deliver(const struct tcp_run *run, uint32_t end, uint32_t bytes,
		    struct tcp_delivered *d)
{
	bool again = run->flags & RUN_RETRANSMITTED;

	d->high_end = d->bytes ? seq_max(d->high_end, end) : end;
	d->bytes += bytes;
	if (!again) {
		if (d->first_ns == 0 || run->sent_ns < d->first_ns)
			d->first_ns = run->sent_ns;
		d->once_low = d->once_low_set ? seq_min(d->once_low, end) : end;
		d->once_low_set = true;
	}
	if (run->sent_ns > d->last_ns ||
	    (run->sent_ns == d->last_ns && seq_after(end, d->last_end))) {
		d->last_ns = run->sent_ns;
		d->last_end = end;
		d->last_again = again;
	}
}

static void unmark(struct tcp_scoreboard *sb, const struct tcp_run *run, uint32_t bytes)
{
	if (run->flags & RUN_SACKED)
		sb->sacked -= bytes;
	if (run->flags & RUN_LOST)
		sb->lost -= bytes;
}

void tcp_scoreboard_acked(struct tcp_scoreboard *sb, uint32_t una, uint32_t ack,
			  struct tcp_delivered *d)
{
	while (sb->count > 0 && una != ack) {
		const struct tcp_run *run = tcp_scoreboard_at(sb, 0);
		uint32_t end = seq_min(run->end, ack);
		if (!(run->flags & RUN_SACKED))
			deliver(run, end, end - una, d);
		if (run->flags & RUN_RETRANSMITTED)
			d->retransmitted = true;
		unmark(sb, run, end - una);
		una = end;
		if (end == run->end) {
			sb->head = (uint16_t)((sb->head + 1U) & (sb->capacity - 1U));
			sb->count--;
		}
	}
	if (sb->count == 0)
		tcp_scoreboard_free(sb);
}

/* Run i becomes one with the next: both are SACKed. */
static void join(struct tcp_scoreboard *sb, uint32_t i)
{
	struct tcp_run *run = tcp_scoreboard_at(sb, i);
	const struct tcp_run *next = tcp_scoreboard_at(sb, i + 1);

	if (next->sent_ns < run->sent_ns)
		tcp_scoreboard_at(sb, i + 1)->sent_ns = run->sent_ns;
	erase(sb, i, 1);
}

/* Neighbours that are SACKed as well become one run with i. */
static void merge(struct tcp_scoreboard *sb, uint32_t i)
{
	if (i + 1 < sb->count && tcp_scoreboard_at(sb, i + 1)->flags & RUN_SACKED)
		join(sb, i);
	if (i > 0 && tcp_scoreboard_at(sb, i - 1)->flags & RUN_SACKED)
		join(sb, i - 1);
}

void tcp_scoreboard_sack(struct tcp_scoreboard *sb, uint32_t una, struct tcp_block block,
			 struct tcp_delivered *d)
{
	uint32_t i = find(sb, block.start);

	/* It was told before: the common case of all blocks but the first. */
	if (i < sb->count && tcp_scoreboard_at(sb, i)->flags & RUN_SACKED &&
	    seq_reached(block.end, tcp_scoreboard_at(sb, i)->end))
		return;
	/* What is SACKed needs no cut: the block grows to its edges. */
	if (i < sb->count && tcp_scoreboard_at(sb, i)->flags & RUN_SACKED)
		block.start = tcp_scoreboard_start(sb, una, i);
	uint32_t first = split(sb, una, block.start);
	if (first == UINT32_MAX)
		return;
	i = find(sb, block.end);
	if (i < sb->count && tcp_scoreboard_at(sb, i)->flags & RUN_SACKED)
		block.end = tcp_scoreboard_start(sb, una, i);
	uint32_t last = split(sb, una, block.end); /* behind the block */
	if (last == UINT32_MAX || first >= last)
		return;
	uint32_t start = block.start;
	uint64_t newest_ns = 0;
	for (i = first; i < last; i++) {
		struct tcp_run *run = tcp_scoreboard_at(sb, i);
		uint32_t bytes = run->end - start;
		if (!(run->flags & RUN_SACKED)) {
			deliver(run, run->end, bytes, d);
			d->sacked += bytes;
			sb->sacked += bytes;
			if (run->flags & RUN_LOST)
				sb->lost -= bytes;
		}
		start = run->end;
		newest_ns = run->sent_ns > newest_ns ? run->sent_ns : newest_ns;
	}
	*tcp_scoreboard_at(sb, first) =
		(struct tcp_run){.end = start, .flags = RUN_SACKED, .sent_ns = newest_ns};
	erase(sb, first + 1, last - first - 1);
	merge(sb, first);
}

/* ---- lost ---- */

uint32_t tcp_scoreboard_lose(struct tcp_scoreboard *sb, uint32_t una, struct tcp_block block)
{
	uint32_t before = sb->lost;
	uint32_t first = split(sb, una, block.start);

	if (first == UINT32_MAX) /* then all of the run */
		first = find(sb, block.start);
	uint32_t last = split(sb, una, block.end);
	if (last == UINT32_MAX)
		last = find(sb, block.end) + 1;
	uint32_t start = tcp_scoreboard_start(sb, una, first);
	for (uint32_t i = first; i < last && i < sb->count; i++) {
		struct tcp_run *run = tcp_scoreboard_at(sb, i);
		if (!(run->flags & (RUN_SACKED | RUN_LOST))) {
			run->flags |= RUN_LOST;
			sb->lost += run->end - start;
		}
		start = run->end;
	}
	return sb->lost - before;
}

void tcp_scoreboard_unlose(struct tcp_scoreboard *sb)
{
	for (uint32_t i = 0; i < sb->count; i++)
		tcp_scoreboard_at(sb, i)->flags &= ~(uint32_t)RUN_LOST;
	sb->lost = 0;
}

void tcp_scoreboard_forget_sacks(struct tcp_scoreboard *sb)
{
	/* When they were sent, and how often, is not known any more. */
	for (uint32_t i = 0; i < sb->count; i++) {
		struct tcp_run *run = tcp_scoreboard_at(sb, i);
		if (run->flags & RUN_SACKED)
			run->flags = RUN_RETRANSMITTED;
	}
	sb->sacked = 0;
}

bool tcp_scoreboard_first_lost(const struct tcp_scoreboard *sb, uint32_t una,
			       struct tcp_block *block)
{
	if (sb->lost == 0)
		return false;
	for (uint32_t i = 0; i < sb->count; i++) {
		const struct tcp_run *run = tcp_scoreboard_at(sb, i);
		if (run->flags & RUN_LOST) {
			*block = (struct tcp_block){tcp_scoreboard_start(sb, una, i), run->end};
			return true;
		}
	}
	return false;
}

bool tcp_scoreboard_resent(struct tcp_scoreboard *sb, uint32_t una, struct tcp_block block,
			   uint64_t now_ns)
{
	uint32_t first = split(sb, una, block.start);

	if (first == UINT32_MAX)
		return false;
	(void)split(sb, una, block.end);
	struct tcp_run *run = tcp_scoreboard_at(sb, first);
	uint32_t flags = RUN_RETRANSMITTED | (run->flags & RUN_LOST ? RUN_REPAIRED : 0);
	unmark(sb, run, run->end - block.start);
	run->flags = flags;
	run->sent_ns = now_ns;
	if (first == 0)
		return true;
	struct tcp_run *before = tcp_scoreboard_at(sb, first - 1);
	if (before->flags == flags && before->sent_ns == now_ns) {
		before->end = run->end;
		erase(sb, first, 1);
	}
	return true;
}

/* ---- invariants ---- */

void tcp_scoreboard_check(const struct tcp_scoreboard *sb, uint32_t una, uint32_t nxt, bool counted)
{
	uint32_t sacked = 0;
	uint32_t lost = 0;
	uint32_t start = una;

	ASSERT(sb->count <= sb->capacity);
	for (uint32_t i = 0; i < sb->count; i++) {
		const struct tcp_run *run = tcp_scoreboard_at(sb, i);
		ASSERT(seq_after(run->end, start));
		ASSERT((run->flags & (RUN_SACKED | RUN_LOST)) != (RUN_SACKED | RUN_LOST));
		if (run->flags & RUN_SACKED)
			sacked += run->end - start;
		if (run->flags & RUN_LOST)
			lost += run->end - start;
		start = run->end;
	}
	ASSERT(start == nxt);
	ASSERT(lost == sb->lost);
	ASSERT(!counted || sacked == sb->sacked);
	ASSERT(sb->sacked + sb->lost <= nxt - una);
}
