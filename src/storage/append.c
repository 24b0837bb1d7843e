/* SPDX-License-Identifier: MIT
 * storage/append.c - pushed records into batches, batches onto the medium, and acknowledged.
 */
#include "storage/logfile.h"

#include "base/assert.h"
#include "sched/hold.h"
#include "storage/crc32c.h"

#include <errno.h>
#include <string.h>

static struct op_slab *ops_of(const struct logfile *log)
{
	return &log->store->sched->ops;
}

/* ---- batches ---- */

/* A record of at least so many bytes is written from where it is, if the device can reach it there:
 * below, a copy costs less than pieces. */
#define REFERENCE_BYTES 16384

/* Does it lie so that it can be written as it is, alone in its batch? */
static bool by_reference(const struct logfile *log, const struct op *push)
{
	uint64_t mask = log->store->dev->memory_align - 1;

	if (op_bytes(push) < REFERENCE_BYTES || foreign_segments(push) ||
	    push->numsegs + 2U > log->store->dev->iov_max)
		return false;
	for (uint32_t i = 0; i < push->numsegs; i++) {
		struct iovec segment = op_segment(push, i);
		bool last = i + 1U == push->numsegs;
		if (((uintptr_t)segment.iov_base & mask) || (!last && (segment.iov_len & mask)))
			return false;
	}
	return true;
}

/* From the header of a record to its data. */
static uint64_t data_at(const struct logfile *log, bool reference)
{
	uint64_t header = sizeof(struct record_header);

	return reference ? round_up(header, log->store->dev->memory_align) : header;
}

static uint64_t record_bytes(const struct logfile *log, const struct op *push, bool reference)
{
	return round_up(data_at(log, reference) + op_bytes(push), RECORD_ALIGN);
}

/* Whatever a batch begins with, so many bytes of records find room in its buffer. */
static bool make_buffer(struct logfile *log, struct logfile_batch *batch, uint64_t bytes)
{
	uint64_t needed =
		round_up(bytes, BLKDEV_BLOCK_MAX) + 2 * (uint64_t)log->store->super.block_bytes;

	batch->own_buffer = NULL;
	batch->buffer = batch->usual_buffer;
	batch->buffer_bytes = log->commit_bytes;
	if (needed <= log->commit_bytes)
		return true;
	batch->own_buffer = store_alloc(log->store, needed);
	batch->buffer = batch->own_buffer;
	batch->buffer_bytes = needed;
	return batch->own_buffer != NULL;
}

static void free_buffer(struct logfile *log, struct logfile_batch *batch)
{
	if (batch->own_buffer)
		(void)heap_free(log->store->sched->heap, batch->own_buffer);
	batch->own_buffer = NULL;
}

/* A batch for a record of so many bytes, of which so many are to be in its buffer.  0; -EAGAIN:
 * later; -ENOSPC, -ENOMEM. */
static int open_batch(struct logfile *log, uint64_t bytes, uint64_t buffer_bytes)
{
	if (list_empty(&log->idle))
		return -EAGAIN;
	struct logfile_batch *batch = container_of(log->idle.next, struct logfile_batch, node);
	if (!make_buffer(log, batch, buffer_bytes))
		return -ENOMEM;
	batch->referenced = NULL;
	batch->start = log->next.offset;
	batch->filled_bytes = 0;
	batch->data_bytes = 0;
	batch->done = false;
	batch->err = 0;
	batch->begun_ns = log->store->sched->now_ns;
	op_list_init(&batch->ops);
	int err = logfile_segment_left(log) < bytes ? logfile_next_segment(log, batch) : 0;
	if (err) {
		free_buffer(log, batch);
		return err;
	}
	list_remove(&batch->node);
	log->open = batch;
	return 0;
}

static void batch_written(struct store_io *io, int err);

static void add_piece(struct store_io *io, void *base, uint64_t bytes)
{
	if (bytes > 0)
		io->iov[io->num_iov++] = (struct iovec){.iov_base = base, .iov_len = bytes};
}

/* What is in the buffer, and then, of a record that is written from where it is, its segments; what
 * is behind whole units of the last is in the buffer again. */
static void add_pieces(struct logfile *log, struct logfile_batch *batch, uint64_t bytes)
{
	const struct op *push = batch->referenced;
	uint64_t head = push ? batch->head_bytes : bytes;
	uint64_t mask = log->store->dev->memory_align - 1;

	add_piece(&batch->io, batch->buffer, head);
	for (uint32_t i = 0; push && i < push->numsegs; i++) {
		struct iovec segment = op_segment(push, i);
		add_piece(&batch->io, segment.iov_base, segment.iov_len & ~mask);
		head += segment.iov_len & ~mask;
	}
	add_piece(&batch->io, batch->buffer + batch->head_bytes, bytes - head);
}

static void put_out(struct logfile *log, struct logfile_batch *batch)
{
	uint64_t bytes = round_up(batch->filled_bytes, log->store->super.block_bytes);

	batch->io = (struct store_io){
		.what = BLK_WRITE,
		.durable = true,
		.offset = logfile_device_offset(log, batch->start),
		.bytes = bytes,
		.done = batch_written,
	};
	add_pieces(log, batch, bytes);
	list_append(&log->flights, &batch->node);
	log->flying++;
	store_submit(log->store, &batch->io);
}

/* May a batch be put out now? */
static bool may_put_out(const struct logfile *log, const struct logfile_batch *batch)
{
	uint64_t end = batch->start + batch->filled_bytes;

	if (log->state != LOGFILE_GOOD || logfile_zero_blocks(log, end))
		return false;
	return log->flying == 0 || !log->store->dev->zone_bytes;
}

/* Zeros from the last record to the end of its block: batches of one size, one after the other,
 * have them there already. */
static void pad(struct logfile_batch *batch, uint64_t end)
{
	bool known = batch->buffer == batch->usual_buffer;

	if (batch->referenced)
		return; /* with its end */
	if (known && batch->zero_begin <= batch->filled_bytes && end <= batch->zero_end) {
		batch->zero_begin = batch->filled_bytes;
		return;
	}
	memset(batch->buffer + batch->filled_bytes, 0, end - batch->filled_bytes);
	if (known) {
		batch->zero_begin = batch->filled_bytes;
		batch->zero_end = end;
	}
}

/* Closes the open batch.  Whether it could be put out. */
static bool close_batch(struct logfile *log)
{
	struct logfile_batch *batch = log->open;

	if (!may_put_out(log, batch))
		return false;
	uint64_t filled = round_up(batch->filled_bytes, log->store->super.block_bytes);
	pad(batch, filled);
	log->next.offset = batch->start + filled;
	if (log->zeroed < log->next.offset)
		log->zeroed = log->next.offset;
	batch->end = log->next;
	log->open = NULL;
	timer_cancel(&log->store->sched->timers, &log->commit_timer);
	put_out(log, batch);
	logfile_zero_ahead(log);
	return true;
}

void logfile_commit(struct logfile *log)
{
	const struct sched *sched = log->store->sched;

	if (!log->open)
		return;
	uint64_t due = log->open->begun_ns + (uint64_t)sched->config.storage_commit_us * 1000;
	if (log->flying == 0 || sched->now_ns >= due) {
		(void)close_batch(log);
		return;
	}
	if (!timer_armed(&log->commit_timer))
		timer_arm(&log->store->sched->timers, &log->commit_timer, due);
}

void logfile_commit_due(struct timer *timer)
{
	struct logfile *log = container_of(timer, struct logfile, commit_timer);

	if (log->open)
		(void)close_batch(log);
}

/* ---- records ---- */

/* Copied and summed up in pieces that stay in the first cache.  They are also too short for the C
 * library to copy them by a string instruction, which is slow where source and destination do not
 * lie alike: here a header is between. */
#define PIECE_BYTES 1024

static uint32_t copy_piece(char *to, const char *from, size_t bytes, uint32_t crc)
{
	while (bytes > 0) {
		size_t piece = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
		memcpy(to, from, piece);
		crc = crc32c_add(crc, to, piece);
		to += piece;
		from += piece;
		bytes -= piece;
	}
	return crc;
}

static uint32_t copy_data(char *to, const struct op *push)
{
	uint32_t crc = 0;

	for (uint32_t i = 0; i < push->numsegs; i++) {
		struct iovec segment = op_segment(push, i);
		crc = copy_piece(to, segment.iov_base, segment.iov_len, crc);
		to += segment.iov_len;
	}
	return crc;
}

static uint32_t sum_data(const struct op *push)
{
	uint32_t crc = 0;

	for (uint32_t i = 0; i < push->numsegs; i++) {
		struct iovec segment = op_segment(push, i);
		crc = crc32c_add(crc, segment.iov_base, segment.iov_len);
	}
	return crc;
}

/* A record that is written from where it is: in the buffer there are its header, and, behind that,
 * the odd bytes of its end with zeros to the end of the block. */
static void refer_to_data(struct logfile *log, struct logfile_batch *batch, struct op *push)
{
	struct iovec last = op_segment(push, push->numsegs - 1U);
	uint64_t odd = last.iov_len & (log->store->dev->memory_align - 1);
	char *end;

	batch->referenced = push;
	batch->head_bytes = batch->filled_bytes + data_at(log, true);
	end = batch->buffer + batch->head_bytes;
	memset(batch->buffer + batch->filled_bytes, 0, data_at(log, true));
	memset(end, 0, BLKDEV_BLOCK_MAX);
	memcpy(end, (char *)last.iov_base + (last.iov_len - odd), odd);
	batch->zero_begin = 0; /* what pad knew of the buffer */
	batch->zero_end = 0;
	if (!(push->flags & OP_HELD))
		hold_segments(push);
}

static void put_record(struct logfile *log, struct logfile_batch *batch, struct op *push,
		       bool reference)
{
	char *at = batch->buffer + batch->filled_bytes;
	uint64_t span = record_bytes(log, push, reference);
	struct record_header header = {
		.sequence = log->next.sequence,
		.acknowledged = log->durable.sequence,
		.epoch = log->epoch,
		.data_bytes = (uint32_t)op_bytes(push),
		.data_at = (uint32_t)data_at(log, reference),
		.previous_crc = log->next.crc,
	};
	const struct record_place place = {.identity = log->store->super.identity,
					   .log = logfile_entry(log)->id,
					   .offset = batch->start + batch->filled_bytes};

	if (reference) {
		refer_to_data(log, batch, push);
		header.data_crc = sum_data(push);
	} else {
		memset(at + span - RECORD_ALIGN, 0, RECORD_ALIGN); /* what data does not fill */
		header.data_crc = copy_data(at + sizeof(header), push);
	}
	record_seal(&header, &place);
	memcpy(at, &header, sizeof(header));
	push->transport = (void *)(uintptr_t)place.offset;
	push->flags |= OP_STARTED;
	op_list_append(ops_of(log), &batch->ops, push);
	batch->filled_bytes += span;
	batch->data_bytes += header.data_bytes;
	log->next = (struct logfile_mark){
		.offset = place.offset + span, .sequence = header.sequence + 1, .crc = header.crc};
}

/* Is there room in the open batch? */
static bool fits(const struct logfile *log, uint64_t bytes)
{
	const struct logfile_batch *batch = log->open;
	uint64_t filled = round_up(batch->filled_bytes + bytes, log->store->super.block_bytes);

	return !batch->referenced && filled <= batch->buffer_bytes &&
	       bytes <= logfile_segment_left(log);
}

/* Takes a push into a batch.  0; -EAGAIN: there is no room now; -ENOSPC, -ENOMEM. */
static int admit(struct logfile *log, struct op *push)
{
	bool reference = by_reference(log, push);
	uint64_t bytes = record_bytes(log, push, reference);

	if (log->state != LOGFILE_GOOD)
		return -EAGAIN;
	if (log->open && (reference || !fits(log, bytes)) && !close_batch(log))
		return -EAGAIN;
	if (!log->open) {
		int err = open_batch(log, bytes, reference ? 0 : bytes);
		if (err)
			return err;
	}
	put_record(log, log->open, push, reference);
	return 0;
}

int logfile_push(struct logfile *log, struct op *push)
{
	uint64_t bytes = op_bytes(push);

	if (bytes == 0)
		return -EINVAL;
	if (bytes > logfile_record_max(log))
		return -EMSGSIZE;
	int err = op_list_empty(&log->waiting) ? admit(log, push) : -EAGAIN;
	if (err == 0) {
		log->store->sched->output_pending++;
		return 0;
	}
	if (err != -EAGAIN) {
		log->counts.failed++;
		return err;
	}
	hold_segments(push);
	op_list_append(ops_of(log), &log->waiting, push);
	if (log->state == LOGFILE_BROKEN)
		logfile_repair(log);
	return 0;
}

static void end_waiting(struct logfile *log, struct op *push, int err)
{
	op_list_remove(ops_of(log), &log->waiting, push);
	release_segments(log->store->sched->heap, push);
	op_complete(log->store->sched, push, err);
}

void logfile_admit_waiting(struct logfile *log)
{
	struct op *push;

	while ((push = op_list_first(ops_of(log), &log->waiting))) {
		op_list_remove(ops_of(log), &log->waiting, push);
		int err = admit(log, push);
		if (err == -EAGAIN) {
			op_list_prepend(ops_of(log), &log->waiting, push);
			break;
		}
		if (err || !(log->open && log->open->referenced == push))
			release_segments(log->store->sched->heap, push);
		if (err) {
			log->counts.failed++;
			op_complete(log->store->sched, push, -err);
		}
	}
	logfile_commit(log);
}

void logfile_cancel_push(struct logfile *log, struct op *push)
{
	end_waiting(log, push, ECANCELED);
}

void logfile_cancel_pushes(struct logfile *log, int32_t qd)
{
	struct op *after;

	for (struct op *push = op_list_first(ops_of(log), &log->waiting); push; push = after) {
		after = op_list_next(ops_of(log), push);
		if (push->qd == qd)
			end_waiting(log, push, ECANCELED);
	}
}

static uint32_t count(const struct logfile *log, const struct op_list *list, int32_t qd)
{
	uint32_t n = 0;

	for (const struct op *op = op_list_first(ops_of(log), list); op;
	     op = op_list_next(ops_of(log), op))
		n += op->qd == qd;
	return n;
}

uint32_t logfile_pushes(const struct logfile *log, int32_t qd)
{
	uint32_t n = count(log, &log->waiting, qd);

	if (log->open)
		n += count(log, &log->open->ops, qd);
	list_for_each (node, &log->flights)
		n += count(log, &container_of(node, struct logfile_batch, node)->ops, qd);
	return n;
}

/* ---- completion ---- */

static void complete(struct logfile *log, struct logfile_batch *batch)
{
	struct op *push;

	while ((push = op_list_take(ops_of(log), &batch->ops))) {
		uint64_t offset = (uintptr_t)push->transport;
		release_segments(log->store->sched->heap, push);
		op_complete(log->store->sched, push, 0);
		push->flags |= OP_VALUE;
		push->ret = (int64_t)offset;
	}
}

static void release_batch(struct logfile *log, struct logfile_batch *batch)
{
	free_buffer(log, batch);
	list_remove(&batch->node);
	list_insert(log->idle.next, &batch->node); /* the first to be used: its buffer is cached */
}

/* Batches are acknowledged in order.  How many were. */
static uint32_t acknowledge(struct logfile *log)
{
	uint32_t count = 0;

	while (!list_empty(&log->flights)) {
		struct logfile_batch *batch =
			container_of(log->flights.next, struct logfile_batch, node);
		if (!batch->done || batch->err)
			break;
		log->durable = batch->end;
		log->counts.bytes += batch->data_bytes;
		log->counts.batches++;
		complete(log, batch);
		release_batch(log, batch);
		count++;
	}
	return count;
}

static void fail_batch(struct logfile *log, struct logfile_batch *batch, int err)
{
	struct op *push;

	while ((push = op_list_take(ops_of(log), &batch->ops))) {
		release_segments(log->store->sched->heap, push);
		op_complete(log->store->sched, push, err);
		log->counts.failed++;
	}
	release_batch(log, batch);
}

void logfile_fail_all(struct logfile *log, int err)
{
	struct op *push;

	while (!list_empty(&log->flights))
		fail_batch(log, container_of(log->flights.next, struct logfile_batch, node), err);
	if (log->open) {
		timer_cancel(&log->store->sched->timers, &log->commit_timer);
		fail_batch(log, log->open, err);
		log->open = NULL;
	}
	while ((push = op_list_first(ops_of(log), &log->waiting))) {
		end_waiting(log, push, err);
		log->counts.failed++;
	}
}

static void batch_written(struct store_io *io, int err)
{
	struct logfile_batch *batch = container_of(io, struct logfile_batch, io);
	struct logfile *log = batch->log;

	batch->done = true;
	batch->err = err;
	log->flying--;
	if (err && log->state == LOGFILE_GOOD) {
		log->state = LOGFILE_DRAINING;
		log->error = err;
	}
	uint32_t count = acknowledge(log);
	if (count > 0)
		logfile_serve_readers(log);
	if (log->state == LOGFILE_DRAINING) {
		if (log->flying == 0 && !log->zeroing)
			logfile_repair(log);
		return;
	}
	logfile_admit_waiting(log);
}

/* ---- life ---- */

int logfile_append_open(struct logfile *log)
{
	log->commit_bytes = round_up((uint64_t)log->store->sched->config.storage_commit_bytes,
				     BLKDEV_BLOCK_MAX) +
			    2 * BLKDEV_BLOCK_MAX;
	log->sealed = log->store->dev->zone_bytes != 0;
	for (uint32_t i = 0; i < LOGFILE_BATCHES && log->writable; i++) {
		struct logfile_batch *batch = &log->batches[i];
		batch->log = log;
		batch->usual_buffer = store_alloc(log->store, log->commit_bytes);
		if (!batch->usual_buffer)
			return -ENOMEM;
		list_append(&log->idle, &batch->node);
	}
	return 0;
}

void logfile_append_close(struct logfile *log)
{
	struct heap *heap = log->store->sched->heap;

	logfile_fail_all(log, ECANCELED);
	timer_cancel(&log->store->sched->timers, &log->commit_timer);
	for (uint32_t i = 0; i < LOGFILE_BATCHES; i++) {
		if (log->batches[i].usual_buffer)
			(void)heap_free(heap, log->batches[i].usual_buffer);
	}
	if (log->zeros)
		(void)heap_free(heap, log->zeros);
}
