/* SPDX-License-Identifier: MIT
 * queue/extent.c - where the first message of a framer ends.
 */
#include "queue/framer.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* A message of so many bytes, with what stands around it. */
static int found(struct framer *framer, struct extent *extent)
{
	uint64_t whole = extent->before + extent->body + extent->after;

	if (extent->body > framer->framing.max_bytes)
		return -EMSGSIZE;
	framer->needed = whole;
	return framer->bytes < whole ? -EAGAIN : 0;
}

/* A number of 1 to 8 bytes. */
static uint64_t number_of(const struct framing *framing, const char *bytes)
{
	uint64_t number = 0;

	memcpy(&number, bytes, framing->bytes);
	return framing->little_endian ? le64toh(number)
				      : be64toh(number) >> (64 - 8 * framing->bytes);
}

static int find_length(struct framer *framer, struct extent *extent)
{
	const struct framing *framing = &framer->framing;
	const struct chunk *chunk = framer_chunk(framer, 0);
	const char *bytes = chunk->at;
	char together[sizeof(uint64_t)];

	if (framer->bytes < framing->bytes)
		return -EAGAIN;
	if (unlikely(chunk->bytes < framing->bytes)) {
		framer_copy(framer, together, framing->bytes);
		bytes = together;
	}
	uint64_t length = number_of(framing, bytes);
	if (length > framing->max_bytes)
		return -EMSGSIZE;
	*extent = (struct extent){.before = framing->bytes, .body = length};
	return found(framer, extent);
}

bool framer_whole(const struct framer *framer, struct op *element)
{
	const struct framing *framing = &framer->framing;
	uint32_t before = framing->bytes;

	if (framing->kind != FRAME_LENGTH || element->numsegs != 1 || element->len <= before)
		return false;
	uint64_t length = number_of(framing, element->buf);
	if (length != element->len - before || length > framing->max_bytes)
		return false;
	op_set_segment(element, (char *)element->buf + before, element->len - before);
	return true;
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
