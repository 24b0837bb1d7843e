/* SPDX-License-Identifier: MIT
 * queue/extent.c - where the first message of a framer ends.
 */
#include "queue/framer.h"

#include <errno.h>

/* A message of so many bytes, with what stands around it. */
static int found(struct framer *framer, struct extent *extent)
{
	uint64_t whole = extent->before + extent->body + extent->after;

	if (extent->body > framer->framing.max_bytes)
		return -EMSGSIZE;
	framer->needed = whole;
	return framer->bytes < whole ? -EAGAIN : 0;
}

static int find_length(struct framer *framer, struct extent *extent)
{
	const struct framing *framing = &framer->framing;
	char prefix[sizeof(uint64_t)];
	uint64_t length = 0;

	if (framer->bytes < framing->bytes)
		return -EAGAIN;
	framer_copy(framer, prefix, framing->bytes);
	for (uint32_t i = 0; i < framing->bytes; i++) {
		uint32_t at = framing->little_endian ? framing->bytes - 1 - i : i;
		length = length << 8 | (uint8_t)prefix[at];
	}
	if (length > framing->max_bytes)
		return -EMSGSIZE;
	*extent = (struct extent){.before = framing->bytes, .body = length};
	return found(framer, extent);
}

/* Looks at what was not looked at yet. */
static void scan(struct framer *framer)
{
	uint64_t skip = framer->scanned;

	for (uint32_t i = 0; i < framer->count && framer->matched < framer->match.bytes; i++) {
		const struct chunk *chunk = framer_chunk(framer, i);
		if (skip >= chunk->bytes) {
			skip -= chunk->bytes;
			continue;
		}
		framer->scanned += match_find(&framer->match, &framer->matched, chunk->at + skip,
					      chunk->bytes - skip);
		skip = 0;
	}
}

static int find_delimiter(struct framer *framer, struct extent *extent)
{
	uint64_t bytes = framer->match.bytes;

	scan(framer);
	if (framer->matched < bytes) /* it may end the message with what is there of it */
		return framer->scanned - framer->matched > framer->framing.max_bytes ? -EMSGSIZE
										     : -EAGAIN;
	*extent = (struct extent){.body = framer->scanned - bytes, .after = bytes};
	int err = found(framer, extent);
	if (!err) {
		framer->scanned = 0;
		framer->matched = 0;
	}
	return err;
}

static int find_fixed(struct framer *framer, struct extent *extent)
{
	*extent = (struct extent){.body = framer->framing.bytes};
	return found(framer, extent);
}

/* What the application says of the bytes that lie together at the start. */
static int64_t ask(struct framer *framer)
{
	const struct operator_call *call = &framer->framing.call;
	const struct chunk *chunk = framer_chunk(framer, 0);

	return call->find(call, framer->derived.queue.sched, chunk->at, chunk->bytes);
}

static int find_asked(struct framer *framer, struct extent *extent)
{
	int64_t length = ask(framer);
	if (length == 0 && framer->count > 1) {
		int err = framer_gather(framer);
		if (err)
			return err;
		length = ask(framer);
	}
	if (length < 0)
		return (int)length;
	if (length == 0) { /* it can't tell yet */
		framer->needed = framer->bytes + 1;
		return framer->needed > framer->framing.max_bytes ? -EMSGSIZE : -EAGAIN;
	}
	*extent = (struct extent){.body = (uint64_t)length};
	return found(framer, extent);
}

int framer_find(struct framer *framer, struct extent *extent)
{
	static int (*const find[])(struct framer *, struct extent *) = {
		[FRAME_LENGTH] = find_length,
		[FRAME_DELIMITER] = find_delimiter,
		[FRAME_FIXED] = find_fixed,
		[FRAME_FIND] = find_asked,
	};

	int err = find[framer->framing.kind](framer, extent);
	if (!err)
		framer->needed = 1;
	return err;
}
