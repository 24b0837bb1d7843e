/* SPDX-License-Identifier: MIT
 * queue/framer.h - messages over a stream of bytes: what arrives is cut into messages where it
 * lies.
 *
 * Bytes that have arrived and were not delivered stand in chunks, oldest first: each is what is
 * left of a segment that was popped, under one reference of the application's.  A message of up to
 * 8 of them is delivered as they are, one of more is put together in an object of its own.
 *
 * Invariants: bytes == sum of the chunks'; no chunk is empty; scanned <= bytes.
 */
#pragma once

#include "queue/match.h"
#include "queue/operator.h"

struct chunk {
	char *at;
	uint64_t bytes;
};

struct framer {
	struct derived derived;
	struct framing framing;
	struct match match;
	struct chunk *chunks; /* a ring */
	uint32_t room;        /* a power of two, or 0 */
	uint32_t first;
	uint32_t count;
	uint64_t bytes;
	uint64_t scanned; /* of these the delimiter does not end in */
	uint32_t matched; /* of the delimiter, at scanned */
	uint64_t needed;  /* no message before so many are there: at least 1 */
	int broken;       /* the stream is no messages any more: an errno; 0 */
	bool ended;       /* nothing comes behind these bytes */
};

/* Where a message lies in the bytes. */
struct extent {
	uint64_t before; /* bytes of the length, */
	uint64_t body;   /* of the message, */
	uint64_t after;  /* of the delimiter */
};

static inline struct framer *framer_of(struct derived *derived)
{
	return container_of(derived, struct framer, derived);
}

static inline struct chunk *framer_chunk(const struct framer *framer, uint32_t i)
{
	return &framer->chunks[(framer->first + i) & (framer->room - 1)];
}

/* chunks.c.  Takes over the segments of a popped element, and frees it.  0 or -ENOMEM, it is gone
 * too. */
int framer_add(struct framer *framer, struct op *element);
/* The first count bytes, which are there. */
void framer_copy(const struct framer *framer, char *to, uint64_t count);
void framer_drop_chunks(struct framer *framer, uint64_t count);
/* All of the bytes as one chunk.  0 or -ENOMEM. */
int framer_gather(struct framer *framer);
/* Makes the first count bytes the segments of a pop.  0 or -ENOMEM. */
int framer_deliver(struct framer *framer, struct op *pop, uint64_t count);

static inline void framer_drop(struct framer *framer, uint64_t count)
{
	if (count == 0)
		return;
	struct chunk *chunk = framer_chunk(framer, 0);
	if (unlikely(chunk->bytes <= count)) {
		framer_drop_chunks(framer, count);
		return;
	}
	chunk->at += count;
	chunk->bytes -= count;
	framer->bytes -= count;
}

/* extent.c.  Is an element one message with its length, of one byte or more, in one segment?  Then
 * it is that message. */
bool framer_whole(const struct framer *framer, struct op *element);

/* The first message; needed bytes are there.  0, -EAGAIN: it is not all there, or
 * -errno: what follows is none that may be. */
int framer_find(struct framer *framer, struct extent *extent);
