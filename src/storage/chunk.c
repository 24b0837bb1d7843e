/* SPDX-License-Identifier: MIT
 * storage/chunk.c - the log in chunks, read ahead of a cursor.
 *
 * Chunks follow one another from the block on that the cursor stands in; what lies before it is
 * released.  Each goes up to the end of its segment, or of what was acknowledged, at most.
 */
#include "storage/cursor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 131072
#define CHUNKS      4 /* read ahead at most, if records are read in order */

static void chunk_free(struct chunk *chunk)
{
	struct logfile_cursor *cursor = chunk->cursor;

	heap_unref_library(cursor_heap(cursor), chunk->memory);
	list_append(&cursor->spare, &chunk->node);
}

/* Forgets a chunk; one that is being read is freed when that is done. */
static void chunk_drop(struct logfile_cursor *cursor, struct chunk *chunk)
{
	list_remove(&chunk->node);
	cursor->num_chunks--;
	if (chunk->read)
		chunk_free(chunk);
	else
		chunk->dropped = true;
}

static void drop_all(struct logfile_cursor *cursor)
{
	while (!list_empty(&cursor->chunks))
		chunk_drop(cursor, container_of(cursor->chunks.next, struct chunk, node));
}

void chunk_drop_all(struct logfile_cursor *cursor)
{
	drop_all(cursor);
	cursor->ahead = 1;
}

void chunk_free_spare(struct logfile_cursor *cursor)
{
	list_for_each_safe (node, after, &cursor->spare)
		free(container_of(node, struct chunk, node));
	list_init(&cursor->spare);
}

static void chunk_read(struct store_io *io, int err)
{
	struct chunk *chunk = container_of(io, struct chunk, io);
	struct logfile_cursor *cursor = chunk->cursor;

	chunk->read = true;
	chunk->err = err;
	cursor->under_way--;
	if (chunk->dropped)
		chunk_free(chunk);
	cursor_chunk_read(cursor);
}

static struct chunk *chunk_new(struct logfile_cursor *cursor)
{
	if (list_empty(&cursor->spare))
		return calloc(1, sizeof(struct chunk));
	struct chunk *chunk = container_of(cursor->spare.next, struct chunk, node);
	list_remove(&chunk->node);
	return chunk;
}

/* Memory for bytes at start.  NULL: there is none. */
static struct chunk *chunk_make(struct logfile_cursor *cursor, uint64_t start, uint64_t bytes)
{
	struct chunk *chunk = chunk_new(cursor);

	if (!chunk)
		return NULL;
	*chunk = (struct chunk){.cursor = cursor, .start = start, .bytes = bytes};
	chunk->memory = store_alloc(cursor->log->store, bytes);
	if (!chunk->memory) {
		list_append(&cursor->spare, &chunk->node);
		return NULL;
	}
	heap_take_over(chunk->memory);
	return chunk;
}

/* Begins to read what is at an offset, a block's: up to the end of the segment, or of what is
 * acknowledged.  0 or -ENOMEM, -EBADMSG. */
static int begin_chunk(struct logfile_cursor *cursor, uint64_t start)
{
	struct logfile *log = cursor->log;
	const struct logfile_segment *segment = logfile_segment_of(log, start);
	uint64_t end = logfile_segment_end(log, logfile_serial(log, start));

	if (!segment || segment->physical == LOGFILE_SEGMENT_NONE || start >= end)
		return -EBADMSG;
	uint64_t bytes = round_up(end - start, log->store->super.block_bytes);
	struct chunk *chunk = chunk_make(cursor, start, bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES);
	if (!chunk)
		return -ENOMEM;
	chunk->io = (struct store_io){
		.what = BLK_READ,
		.num_iov = 1,
		.iov = {{.iov_base = chunk->memory, .iov_len = chunk->bytes}},
		.offset = logfile_device_offset(log, start),
		.bytes = chunk->bytes,
		.done = chunk_read,
	};
	list_append(&cursor->chunks, &chunk->node);
	cursor->num_chunks++;
	cursor->under_way++;
	store_submit(log->store, &chunk->io);
	return 0;
}

/* Where the chunk behind another begins: 0: nowhere yet. */
static uint64_t behind(const struct logfile *log, const struct chunk *chunk)
{
	uint64_t serial = logfile_serial(log, chunk->start);
	uint64_t next = chunk->start + chunk->bytes;

	if (next < logfile_segment_end(log, serial))
		return next;
	next = logfile_first_record(log, serial + 1);
	if (serial + 1 >= log->first_serial + log->num_segments ||
	    next >= logfile_segment_end(log, serial + 1) ||
	    !logfile_segment_header(log, serial + 1))
		return 0;
	return next;
}

static void read_ahead(struct logfile_cursor *cursor)
{
	while (cursor->num_chunks < cursor->ahead && !list_empty(&cursor->chunks)) {
		const struct chunk *last = container_of(cursor->chunks.prev, struct chunk, node);
		uint64_t next = behind(cursor->log, last);
		if (next == 0 || begin_chunk(cursor, next))
			return;
	}
}

static bool follows_chunks(const struct logfile_cursor *cursor, uint64_t start)
{
	const struct chunk *last = container_of(cursor->chunks.prev, struct chunk, node);

	return !list_empty(&cursor->chunks) && last->start + last->bytes == start;
}

struct chunk *chunk_at(struct logfile_cursor *cursor, uint64_t offset, int *err)
{
	list_for_each_safe (node, after, &cursor->chunks) {
		struct chunk *chunk = container_of(node, struct chunk, node);
		if (offset - chunk->start >= chunk->bytes)
			continue;
		*err = chunk->read ? chunk->err : -EAGAIN;
		if (*err && *err != -EAGAIN)
			drop_all(cursor);
		return *err ? NULL : chunk;
	}
	uint64_t start = offset - offset % cursor->log->store->super.block_bytes;
	if (!follows_chunks(cursor, start))
		drop_all(cursor);
	*err = begin_chunk(cursor, start);
	if (*err == 0)
		*err = -EAGAIN;
	return NULL;
}

void chunk_release_before(struct logfile_cursor *cursor, uint64_t offset)
{
	bool passed = false;

	list_for_each_safe (node, after, &cursor->chunks) {
		struct chunk *chunk = container_of(node, struct chunk, node);
		if (chunk->start + chunk->bytes > offset)
			break;
		chunk_drop(cursor, chunk);
		passed = true;
	}
	if (passed)
		cursor->ahead = CHUNKS;
	read_ahead(cursor);
}

int chunk_copy(struct logfile_cursor *cursor, uint64_t offset, void *to, uint64_t bytes)
{
	char *at = to;

	while (bytes > 0) {
		int err;
		const struct chunk *chunk = chunk_at(cursor, offset, &err);
		if (!chunk)
			return err;
		uint64_t n = chunk->start + chunk->bytes - offset;
		if (n > bytes)
			n = bytes;
		memcpy(at, chunk->memory + (offset - chunk->start), n);
		at += n;
		offset += n;
		bytes -= n;
	}
	return 0;
}
