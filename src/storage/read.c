/* SPDX-License-Identifier: MIT
 * storage/read.c - cursors: records popped in order.
 *
 * A record of at least REFERENCE_BYTES that lies in one chunk is handed out where it is;
 * others are copied.  A read of a segment that is truncated and used again meanwhile finds the
 * cursor before the head, and what it read is not looked at.
 */
#include "storage/cursor.h"

#include "base/assert.h"
#include "storage/crc32c.h"
#include "storage/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFERENCE_BYTES 1024 /* below, a copy costs less than a chunk that is kept for it */

static struct op_slab *ops_of(const struct logfile_cursor *cursor)
{
	return &cursor->log->store->sched->ops;
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
	int err = chunk_copy(cursor, offset, header, sizeof(*header));
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
		err = chunk_copy(cursor, at, rest, *offset - at);
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
	cursor->log->counts.popped++;
	cursor->log->counts.popped_bytes += header->data_bytes;
	op_set_segment(pop, data, header->data_bytes);
	pop->sga_buf = (void *)(uintptr_t)((uintptr_t)data & ~(uintptr_t)1);
	op_complete(cursor->log->store->sched, pop, 0);
	chunk_release_before(cursor, cursor->at.offset);
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
		chunk_release_before(cursor, offset);
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
		cursor->data = heap_alloc(cursor_heap(cursor), cursor->header.data_bytes);
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
		(void)heap_free(cursor_heap(cursor), cursor->data);
	cursor->data = NULL;
}

/* A record that was torn stays there if others are in its block, or if what took its place is in
 * the next segment.  Goes to the next place where that may be; false: there is none, it is damage.
 */
static bool try_elsewhere(struct logfile_cursor *cursor)
{
	const struct logfile *log = cursor->log;
	uint32_t block = log->store->super.block_bytes;

	forget_record(cursor);
	if (cursor->at.sequence == 0)
		return false;
	if (logfile_serial(log, cursor->damaged) != logfile_serial(log, cursor->at.offset))
		cursor->damaged = 0; /* it was in the segment before: this is another one */
	if (!cursor->damaged) {
		cursor->damaged = cursor->at.offset;
		if (cursor->at.offset % block) {
			cursor->at.offset = round_up(cursor->at.offset, block);
			return true;
		}
	}
	cursor->at.offset = cursor->damaged;
	return logfile_goes_on(log, &cursor->at, &cursor->at);
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
	chunk_drop_all(cursor);
}

/* Each place is counted once, however often it is popped from; one where nobody knows that a record
 * was is none. */
static void count_damage(struct logfile_cursor *cursor)
{
	if (cursor->at.sequence == 0 || cursor->met_at == cursor->at.offset)
		return;
	cursor->met_at = cursor->at.offset;
	cursor->log->counts.met++;
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
		if (err == -EBADMSG)
			count_damage(cursor);
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

static void cursor_free(struct logfile_cursor *cursor)
{
	chunk_free_spare(cursor);
	list_remove(&cursor->node);
	free(cursor);
}

void cursor_chunk_read(struct logfile_cursor *cursor)
{
	if (!cursor->closed)
		serve(cursor);
	else if (cursor->under_way == 0)
		cursor_free(cursor);
}

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

uint32_t logfile_ahead(const struct logfile_cursor *cursor)
{
	uint64_t end = cursor->log->durable.sequence;
	uint64_t at = cursor->at.sequence;

	if (at == 0 || at >= end)
		return 0;
	return end - at < UINT32_MAX ? (uint32_t)(end - at) : UINT32_MAX;
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

/* The records from damage, where the cursor stands, to a good one. */
static void count_passed(struct logfile_cursor *cursor, const struct logfile_mark *mark)
{
	const struct logfile_mark *at = &cursor->at;

	if (cursor->met_at == at->offset && at->sequence && mark->sequence > at->sequence)
		cursor->log->counts.passed += mark->sequence - at->sequence;
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
		if (whence == SEEK_DATA)
			count_passed(cursor, &mark);
		begin_anew(cursor);
		cursor->at = mark;
		cursor->epoch = 0;
	}
	*offset_out = (int64_t)mark.offset;
	return 0;
}
