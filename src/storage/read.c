/* SPDX-License-Identifier: MIT
 * storage/read.c - cursors: records popped in order, read ahead in chunks.
 *
 * Chunks follow one another from the block on that the cursor stands in; what lies before it is
 * released.  A record of at least REFERENCE_BYTES that lies in one chunk is handed out where it is;
 * others are copied.  A read of a segment that is truncated and used again meanwhile finds the
 * cursor before the head, and what it read is not looked at.
 */
#include "storage/scan.h"

#include "base/assert.h"
#include "storage/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES     131072
#define CHUNKS          4    /* read ahead at most, if records are read in order */
#define REFERENCE_BYTES 1024 /* below, a copy costs less than a chunk that is kept for it */

struct chunk {
	struct store_io io;
	struct logfile_cursor *cursor; /* lives until its reads are done */
	struct list node;              /* of the cursor's */
	bool dropped;                  /* it is not wanted any more */
	char *memory;                  /* heap memory, held by a library reference */
	uint64_t start;                /* in the log */
	uint64_t bytes;
	bool read;
	int err;
};

struct logfile_cursor {
	struct logfile *log;
	struct list node;
	struct op_list pops;
	struct logfile_mark at;
	uint32_t epoch;
	uint64_t damaged;   /* where a record was, while what may have taken its place is read */
	struct list chunks; /* in order */
	struct list spare;  /* chunks without memory */
	uint32_t num_chunks;
	uint32_t ahead;     /* chunks that are read ahead */
	uint32_t under_way; /* reads, of dropped chunks too */
	bool closed;

	/* A record that is being put together; data NULL: none. */
	char *data;
	uint64_t filled;
	uint64_t record; /* its offset */
	uint32_t crc;
	struct record_header header;
};

static struct op_slab *ops_of(const struct logfile_cursor *cursor)
{
	return &cursor->log->store->sched->ops;
}

static struct heap *heap_of(const struct logfile_cursor *cursor)
{
	return cursor->log->store->sched->heap;
}

/* ---- chunks ---- */

static void chunk_free(struct chunk *chunk)
{
	struct logfile_cursor *cursor = chunk->cursor;

	heap_unref_library(heap_of(cursor), chunk->memory);
	list_append(&cursor->spare, &chunk->node);
}

static void cursor_free(struct logfile_cursor *cursor)
{
	list_for_each_safe (node, after, &cursor->spare)
		free(container_of(node, struct chunk, node));
	list_remove(&cursor->node);
	free(cursor);
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

static void serve(struct logfile_cursor *cursor);

static void chunk_read(struct store_io *io, int err)
{
	struct chunk *chunk = container_of(io, struct chunk, io);
	struct logfile_cursor *cursor = chunk->cursor;

	chunk->read = true;
	chunk->err = err;
	cursor->under_way--;
	if (chunk->dropped)
		chunk_free(chunk);
	if (!cursor->closed)
		serve(cursor);
	else if (cursor->under_way == 0)
		cursor_free(cursor);
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

	if (!segment || segment->physical == LOGFILE_SEGMENT_NONE)
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

/* The bytes at an offset that is before the end of its segment: how many there are in one piece.
 * NULL and *err: -EAGAIN: they are being read; -EIO, -ENOMEM, -EBADMSG. */
static struct chunk *chunk_at(struct logfile_cursor *cursor, uint64_t offset, int *err)
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

/* What lies before an offset is not needed any more. */
static void release_before(struct logfile_cursor *cursor, uint64_t offset)
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

/* Copies bytes out of the chunks.  0 or as chunk_at. */
static int peek(struct logfile_cursor *cursor, uint64_t offset, void *to, uint64_t bytes)
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

/* ---- records ---- */

/* The header at an offset, if it is that of the record that is to come, which ends before the
 * records of the segment do.  0, -ENOENT, -EAGAIN ... */
static int header_at(struct logfile_cursor *cursor, uint64_t offset, struct record_header *header)
{
	const struct logfile *log = cursor->log;
	uint64_t end = logfile_segment_end(log, logfile_serial(log, offset));

	if (offset + sizeof(*header) > end || offset % RECORD_ALIGN)
		return -ENOENT;
	int err = peek(cursor, offset, header, sizeof(*header));
	if (err)
		return err;
	if (!logfile_record_at(log, offset, header) || header->epoch > log->epoch ||
	    header->epoch < cursor->epoch || offset + record_span(header) > end)
		return -ENOENT;
	if (cursor->at.sequence && header->sequence != cursor->at.sequence)
		return -ENOENT;
	return cursor->at.crc && header->previous_crc != cursor->at.crc ? -ENOENT : 0;
}

/* At the cursor, or behind padding at the next block. */
static int find_here(struct logfile_cursor *cursor, uint64_t *offset, struct record_header *header)
{
	const struct logfile *log = cursor->log;
	uint32_t block = log->store->super.block_bytes;
	uint64_t serial = logfile_serial(log, cursor->at.offset);
	uint64_t at = cursor->at.offset;

	if (at < logfile_first_record(log, serial))
		at = logfile_first_record(log, serial);
	*offset = at;
	int err = header_at(cursor, at, header);
	if (err != -ENOENT || at % block == 0)
		return err;
	*offset = round_up(at, block);
	if (cursor->at.sequence == 0) { /* nothing else tells that no record was passed over */
		char rest[BLKDEV_BLOCK_MAX];
		err = peek(cursor, at, rest, *offset - at);
		if (err || !all_zero(rest, *offset - at))
			return err ? err : -ENOENT;
	}
	return header_at(cursor, *offset, header);
}

/* Is the record that is to come not acknowledged yet?  Of a torn one there may be a header. */
static bool at_end(const struct logfile_cursor *cursor)
{
	const struct logfile *log = cursor->log;
	const struct logfile_mark *at = &cursor->at;

	if (at->sequence) /* behind all blocks there may be one that is damaged, and was passed */
		return at->sequence >= log->durable.sequence;
	return round_up(at->offset, log->store->super.block_bytes) >= log->durable.offset;
}

/* Finds the next record.  0; -EAGAIN: it is not there yet; -EBADMSG, -EIO ... */
static int find_record(struct logfile_cursor *cursor, uint64_t *offset,
		       struct record_header *header)
{
	int err;

	do {
		if (cursor->at.sequence && at_end(cursor))
			return -EAGAIN;
		err = find_here(cursor, offset, header);
		if (err != -ENOENT)
			return err;
	} while (logfile_goes_on(cursor->log, &cursor->at, &cursor->at));
	return at_end(cursor) ? -EAGAIN : -EBADMSG;
}

static void deliver(struct logfile_cursor *cursor, void *data)
{
	const struct record_header *header = &cursor->header;
	struct op *pop = op_list_take(ops_of(cursor), &cursor->pops);

	cursor->at = (struct logfile_mark){.offset = cursor->record + record_span(header),
					   .sequence = header->sequence + 1,
					   .crc = header->crc};
	cursor->epoch = header->epoch;
	op_set_segment(pop, data, header->data_bytes);
	pop->sga_buf = (void *)(uintptr_t)((uintptr_t)data & ~(uintptr_t)1);
	op_complete(cursor->log->store->sched, pop, 0);
	release_before(cursor, cursor->at.offset);
}

/* Hands out a record that lies in one chunk.  0; -ENOENT: it does not, -EAGAIN, -EBADMSG ... */
static int by_reference(struct logfile_cursor *cursor)
{
	const struct record_header *header = &cursor->header;
	uint64_t offset = cursor->record + header->data_at;
	int err;

	if (header->data_bytes < REFERENCE_BYTES)
		return -ENOENT;
	struct chunk *chunk = chunk_at(cursor, offset, &err);
	if (!chunk)
		return err;
	if (offset + header->data_bytes > chunk->start + chunk->bytes)
		return -ENOENT;
	char *data = chunk->memory + (offset - chunk->start);
	if (crc32c_add(0, data, header->data_bytes) != header->data_crc)
		return -EBADMSG;
	heap_ref_library(data);
	heap_hand_over(data);
	deliver(cursor, data);
	return 0;
}

/* Copies what there is of a record; hands it out when all is.  0 or -EAGAIN, -EBADMSG ... */
static int put_together(struct logfile_cursor *cursor)
{
	const struct record_header *header = &cursor->header;

	while (cursor->filled < header->data_bytes) {
		uint64_t offset = cursor->record + header->data_at + cursor->filled;
		int err;
		release_before(cursor, offset);
		const struct chunk *chunk = chunk_at(cursor, offset, &err);
		if (!chunk)
			return err;
		uint64_t n = chunk->start + chunk->bytes - offset;
		if (n > header->data_bytes - cursor->filled)
			n = header->data_bytes - cursor->filled;
		char *to = cursor->data + cursor->filled;
		memcpy(to, chunk->memory + (offset - chunk->start), n);
		cursor->crc = crc32c_add(cursor->crc, to, n);
		cursor->filled += n;
	}
	if (cursor->crc != header->data_crc)
		return -EBADMSG;
	char *data = cursor->data;
	cursor->data = NULL;
	deliver(cursor, data);
	return 0;
}

/* Finds a record and hands it out.  0; -EAGAIN, -EBADMSG ... */
static int hand_out(struct logfile_cursor *cursor)
{
	if (!cursor->data) {
		int err = find_record(cursor, &cursor->record, &cursor->header);
		if (err)
			return err;
		err = by_reference(cursor);
		if (err != -ENOENT)
			return err;
		cursor->data = heap_alloc(heap_of(cursor), cursor->header.data_bytes);
		if (!cursor->data)
			return -ENOMEM;
		cursor->filled = 0;
		cursor->crc = 0;
	}
	return put_together(cursor);
}

static void forget_record(struct logfile_cursor *cursor)
{
	if (cursor->data)
		(void)heap_free(heap_of(cursor), cursor->data);
	cursor->data = NULL;
}

/* A record that was torn stays there if others are in its block, or if what took its place is in
 * the next segment.  Goes to the next place where that may be; false: there is none, it is damage.
 */
static bool try_elsewhere(struct logfile_cursor *cursor)
{
	uint32_t block = cursor->log->store->super.block_bytes;

	forget_record(cursor);
	if (cursor->at.sequence == 0)
		return false;
	if (!cursor->damaged) {
		cursor->damaged = cursor->at.offset;
		if (cursor->at.offset % block) {
			cursor->at.offset = round_up(cursor->at.offset, block);
			return true;
		}
	}
	cursor->at.offset = cursor->damaged;
	return logfile_goes_on(cursor->log, &cursor->at, &cursor->at);
}

static int next_record(struct logfile_cursor *cursor)
{
	const struct logfile *log = cursor->log;
	int err;

	if (cursor->at.offset < log->head) {
		if (cursor->at.sequence != log->head_sequence)
			return -ESTALE;
		cursor->at.offset = log->head; /* behind padding */
	}
	do {
		err = hand_out(cursor);
	} while (err == -EBADMSG && try_elsewhere(cursor));
	if (err != -EAGAIN)
		cursor->damaged = 0;
	return err;
}

/* What was begun is not wanted any more. */
static void begin_anew(struct logfile_cursor *cursor)
{
	forget_record(cursor);
	drop_all(cursor);
	cursor->ahead = 1;
}

static void serve(struct logfile_cursor *cursor)
{
	while (!op_list_empty(&cursor->pops)) {
		int err = next_record(cursor);
		if (err == -EAGAIN)
			return;
		if (err == 0)
			continue;
		begin_anew(cursor);
		struct op *pop = op_list_take(ops_of(cursor), &cursor->pops);
		op_complete(cursor->log->store->sched, pop, -err);
	}
}

void logfile_serve_readers(struct logfile *log)
{
	list_for_each_safe (node, after, &log->cursors)
		serve(container_of(node, struct logfile_cursor, node));
}

/* ---- cursors ---- */

void logfile_pop(struct logfile_cursor *cursor, struct op *pop)
{
	op_list_append(ops_of(cursor), &cursor->pops, pop);
	serve(cursor);
}

void logfile_cancel_pop(struct logfile_cursor *cursor, struct op *pop)
{
	op_list_remove(ops_of(cursor), &cursor->pops, pop);
	op_complete(cursor->log->store->sched, pop, ECANCELED);
}

uint32_t logfile_pops(const struct logfile_cursor *cursor)
{
	return op_list_length(ops_of(cursor), &cursor->pops);
}

int logfile_cursor_open(struct logfile *log, struct logfile_cursor **cursor_out)
{
	struct logfile_cursor *cursor = calloc(1, sizeof(*cursor));

	if (!cursor)
		return -ENOMEM;
	cursor->log = log;
	cursor->at = (struct logfile_mark){.offset = log->head, .sequence = log->head_sequence};
	cursor->ahead = 1;
	op_list_init(&cursor->pops);
	list_init(&cursor->chunks);
	list_init(&cursor->spare);
	list_append(&log->cursors, &cursor->node);
	*cursor_out = cursor;
	return 0;
}

void logfile_cursor_close(struct logfile_cursor *cursor)
{
	struct op *pop;

	while ((pop = op_list_first(ops_of(cursor), &cursor->pops)))
		logfile_cancel_pop(cursor, pop);
	begin_anew(cursor);
	cursor->closed = true;
	if (cursor->under_way == 0)
		cursor_free(cursor);
}

/* ---- seeking ---- */

static int seek_data(struct logfile *log, struct logfile_mark *mark)
{
	struct scan_result result;
	struct scan scan;
	int err = scan_open(&scan, log, mark);

	if (err)
		return err;
	scan.proven = log->durable; /* the log is open: its records are known to be there */
	do {
		scan_next(&scan, &result);
	} while (result.what == SCAN_DAMAGE);
	scan_close(&scan);
	if (result.what == SCAN_FAILURE)
		return result.err;
	if (result.what == SCAN_END || result.offset >= log->durable.offset)
		return -ENXIO;
	*mark = (struct logfile_mark){.offset = result.offset, .sequence = result.header.sequence};
	return 0;
}

/* Where to.  0 or -EINVAL ... */
static int target(const struct logfile_cursor *cursor, int64_t offset, int whence,
		  struct logfile_mark *mark)
{
	const struct logfile *log = cursor->log;

	if (offset < 0 || ((whence == SEEK_CUR || whence == SEEK_END) && offset != 0))
		return -EINVAL;
	*mark = cursor->at;
	if (whence == SEEK_CUR)
		return 0;
	*mark = log->durable;
	if (whence == SEEK_END)
		return 0;
	if (whence != SEEK_SET && whence != SEEK_DATA)
		return -EINVAL;
	*mark = (struct logfile_mark){.offset = log->head, .sequence = log->head_sequence};
	if (offset == 0 || (uint64_t)offset == log->head ||
	    (whence == SEEK_DATA && (uint64_t)offset < log->head))
		return 0;
	*mark = (struct logfile_mark){.offset = (uint64_t)offset};
	return (uint64_t)offset < log->head || (uint64_t)offset > log->durable.offset ? -EINVAL : 0;
}

int logfile_seek(struct logfile_cursor *cursor, int64_t offset, int whence, int64_t *offset_out)
{
	struct logfile_mark mark;

	if (whence != SEEK_CUR && !op_list_empty(&cursor->pops))
		return -EBUSY;
	int err = target(cursor, offset, whence, &mark);
	if (!err && whence == SEEK_DATA)
		err = seek_data(cursor->log, &mark);
	if (err)
		return err;
	if (whence != SEEK_CUR) {
		begin_anew(cursor);
		cursor->at = mark;
		cursor->epoch = 0;
	}
	*offset_out = (int64_t)mark.offset;
	return 0;
}
