/* SPDX-License-Identifier: MIT
 * transport/shm/ring.h - what lies in the memory that two ends of a channel share.
 *
 * Each end has one memfd, a struct ring_shared, that it alone writes; its peer maps it for reading.
 * In it are the ring of lines that it sends, the area that longer payload is copied to, and what it
 * tells the peer about the ring that it receives: how far it has got, what it gives back, whether
 * it sleeps.
 *
 * A line is one cache line.  Its first word says that it was written in this round, by a sequence
 * that no other round of the ring has; so a reader looks at the line that comes next and at nothing
 * else, and no index is shared.  A message is one line, or several of which the first has the
 * sequence, written last.  A sequence is odd; the first word of a further line is 0, so it never
 * passes for one.
 *
 * How far the reader has got is told every quarter of the ring, for a writer asks only when it runs
 * out of lines that it knows to be free.
 *
 * Whoever reads memory of a peer takes each word of it once, by one atomic load, and checks what it
 * took; payload is copied, or read by the application, which knows that it may change.
 */
#pragma once

#include "base/bits.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RING_MAGIC   0x6d656d7461632e31ULL /* "1.catmem" */
#define RING_VERSION 1                     /* of everything here and of the greeting */

#define RING_LINES      512 /* 32 KiB: what both ends write and read stays in a first-level cache */
#define RING_LINE_BYTES 56  /* of payload in a line */
#define RING_SPARE      1   /* lines that no payload takes: the end of the stream always has one */

/* Longer payload goes through the area: above three lines one copy of all is faster than one a line
 * (docs/design/0012-shared-memory.md). */
#define RING_INLINE_MAX 168

#define RING_AREA_BYTES  (1U << 20) /* half of a second-level cache, so that copies stay in it */
#define RING_PIECE_BYTES (1U << 16) /* of a long message: one end copies while the other does */

#define RING_LOANS 256 /* segments that may be lent in one direction at a time */

struct ring_line {
	/* release in ring_put, send.c; pairs with the acquire in ring_next, internal.h */
	_Atomic uint64_t head;
	char bytes[RING_LINE_BYTES];
};

static_assert(sizeof(struct ring_line) == CACHE_LINE, "one line, one transfer between two cores");

struct ring_shared {
	/* Set before the peer has it. */
	uint64_t magic;
	uint32_t version;
	uint32_t unused;

	/* This end sleeps: RING_ASLEEP and what else would wake it, RING_WANTS_*, and the number of
	 * the sleep above; 0: it is awake. ordered by barriers, see shm.c.
	 */
	_Atomic uint32_t asleep __attribute__((aligned(CACHE_LINE)));
	/* This end was closed, and what it had to send is in the ring, or else only the end is not.
	 * release in close_down; pairs with the loads in channel_left and take_end. */
	_Atomic uint32_t closed;
	/* This end has mapped what the peer lends from: lend.c. */
	_Atomic uint32_t borrows;

	/* Lines of the peer's ring that were taken.  release in ring_publish, receive.c; pairs with
	 * the acquire in ring_learn, send.c. */
	_Atomic uint32_t consumed __attribute__((aligned(CACHE_LINE)));

	/* What the peer had lent and was let go of: sequence << 32 | loan.  release in give_back;
	 * pairs with the acquire in take_return; lend.c. */

	_Atomic uint64_t returns[RING_LOANS] __attribute__((aligned(CACHE_LINE)));

	struct ring_line lines[RING_LINES] __attribute__((aligned(4096)));
	char area[RING_AREA_BYTES] __attribute__((aligned(4096)));
};

#define RING_ASLEEP      1U
#define RING_WANTS_ROOM  2U
#define RING_WANTS_LOANS 4U
#define RING_SLEEP_STEP  8U

/* How the payload of a message is carried. */
enum ring_form {
	RING_INLINE, /* in the lines */
	RING_AREA,   /* struct ring_piece in the lines, the payload in the area */
	RING_LOAN,   /* one to eight struct ring_loan in the lines, the payload in the sender's heap
		      */
};

struct ring_piece {
	uint32_t offset; /* in the area */
	uint32_t length;
	uint64_t left; /* of the message, this piece included */
};

struct ring_loan {
	uint64_t offset; /* in the sender's region */
	uint32_t length;
	uint32_t loan; /* below RING_LOANS: what returns names */
};

/* The sequence of a line at a position, which counts lines from the start of the channel. */
static inline uint32_t ring_sequence(uint32_t position)
{
	return position << 1 | 1;
}

static inline uint64_t ring_head(uint32_t position, uint8_t kind, enum ring_form form,
				 uint32_t bytes)
{
	return ring_sequence(position) | (uint64_t)kind << 32 | (uint64_t)form << 40 |
	       (uint64_t)bytes << 48;
}

static inline uint8_t ring_kind(uint64_t head)
{
	return (uint8_t)(head >> 32);
}

static inline uint8_t ring_form(uint64_t head)
{
	return (uint8_t)(head >> 40);
}

/* Bytes in the lines. */
static inline uint32_t ring_bytes(uint64_t head)
{
	return (uint32_t)(head >> 48);
}

static inline uint32_t ring_lines(uint32_t bytes)
{
	return bytes <= RING_LINE_BYTES ? 1 : (bytes + RING_LINE_BYTES - 1) / RING_LINE_BYTES;
}
