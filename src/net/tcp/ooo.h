/* SPDX-License-Identifier: MIT
 * net/tcp/ooo.h - data received out of order: a sorted set of ranges, and the SACK blocks that tell
 * of it (RFC 2018 4, D-SACK RFC 2883).
 *
 * Bytes that were kept once are not replaced by later copies.  Each range keeps what it owns (a
 * frame, or an object that payload was copied to); adjoining ranges stay apart but are told as one
 * block. Ranges and the memory held are bounded: what is beyond is dropped, furthest first (RFC
 * 2018 8 allows reneging).  Work per segment: a binary search over blocks, and at worst half of
 * them, of 1024, moved by one place; nothing is moved for segments in ascending or descending
 * order, and blocks are told in a time that does not depend on how much is kept.  Memory exists
 * only while there are ranges.
 *
 * Invariant: ranges are sorted, do not overlap, are not empty, all start behind rcv_nxt.
 */
#pragma once

#include "net/wire/tcp.h"

#include <stdbool.h>
#include <stdint.h>

#define TCP_OOO_RANGES_MAX 1024

struct heap;

/* A piece of received data and the object it lies in: object has one application reference, which
 * is the holder's.  In the send queue it has a library reference. */
struct tcp_piece {
	uint8_t *data;
	void *object;
	uint32_t length;

	union {
		uint32_t held; /* received: bytes of memory that it costs */
		uint32_t seq;  /* sent: sequence number of its first byte */
	};
#ifdef DEMI_CHECKED
	uint32_t sum; /* sent: of what was pushed */
#endif
};

struct tcp_ooo; /* NULL: nothing is kept */

/* Enters [seq, seq + piece->length), which lies behind rcv_nxt and inside the window; takes the
 * piece's object (and frees it if nothing of it is kept).  What is new of it is kept; duplicate is
 * the first range that was there already, for D-SACK (start == end: none).  0 or -ENOMEM (the
 * object is freed). held_max bounds the memory. */
int tcp_ooo_add(struct tcp_ooo **ooo, struct heap *heap, uint32_t rcv_nxt, uint32_t seq,
		const struct tcp_piece *piece, uint32_t held_max, struct tcp_block *duplicate);

/* Takes the first range if it starts at or before rcv_nxt, cut to what is behind it; a range wholly
 * before rcv_nxt is freed.  False: there is a gap, or nothing. */
bool tcp_ooo_take(struct tcp_ooo **ooo, struct heap *heap, uint32_t rcv_nxt,
		  struct tcp_piece *piece);

/* SACK blocks: the one that holds the segment received last first, then the most recent others;
 * returns how many (at most max). */
uint32_t tcp_ooo_blocks(const struct tcp_ooo *ooo, struct tcp_block *blocks, uint32_t max);

/* What of the first block is before end: *part.  False: nothing. */
bool tcp_ooo_overlap(const struct tcp_ooo *ooo, uint32_t end, struct tcp_block *part);

uint32_t tcp_ooo_held(const struct tcp_ooo *ooo);
void tcp_ooo_free(struct tcp_ooo **ooo, struct heap *heap);
void tcp_ooo_check(const struct tcp_ooo *ooo, uint32_t rcv_nxt);
