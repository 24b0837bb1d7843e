/* SPDX-License-Identifier: MIT
 * storage/truncate.c - the head moves on: told in the superblock first, then segments are free.
 */
#include "storage/logfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct truncation {
	struct store_io io;
	struct super_waiter waiter;
	struct list node;
	struct logfile *log;
	struct op *op;
	bool begun;
	struct logfile_mark head; /* that is asked for; sequence 0: not known yet */
	uint64_t old_head;
	uint64_t old_head_sequence;
	char *blocks; /* heap memory: two of them */
	uint64_t blocks_at;
};

#define UNDER_WAY 1

static int begin(struct truncation *truncation);

static void finish(struct truncation *truncation, int err)
{
	struct logfile *log = truncation->log;

	list_remove(&truncation->node);
	op_complete(log->store->sched, truncation->op, -err);
	if (truncation->blocks)
		(void)heap_free(log->store->sched->heap, truncation->blocks);
	free(truncation);
}

/* One after the other. */
static void go_on(struct logfile *log)
{
	while (!list_empty(&log->truncations)) {
		struct truncation *first =
			container_of(log->truncations.next, struct truncation, node);
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what was freed is in no list */
		if (first->begun)
			return;
		first->begun = true;
		int err = begin(first);
		if (err == UNDER_WAY)
			return;
		finish(first, err);
	}
}

/* ---- the segments before the head ---- */

/* The head that was told: another one may be under way. */
static void free_segments(struct logfile *log, uint64_t head)
{
	uint64_t serial = logfile_serial(log, head);
	uint32_t count = 0;

	while (count < log->num_segments && log->first_serial + count < serial)
		count++;
	for (uint32_t i = 0; i < count; i++) {
		if (log->segments[i].physical != LOGFILE_SEGMENT_NONE)
			segment_discard(log->store, log->segments[i].physical);
	}
	log->num_segments -= count;
	log->first_serial += count;
	if (count > 0)
		memmove(log->segments, log->segments + count,
			log->num_segments * sizeof(*log->segments));
}

static void told(struct super_waiter *waiter, int err)
{
	struct truncation *truncation = container_of(waiter, struct truncation, waiter);
	struct logfile *log = truncation->log;

	if (err) {
		log->head = truncation->old_head;
		log->head_sequence = truncation->old_head_sequence;
	} else {
		free_segments(log, truncation->head.offset);
	}
	finish(truncation, err);
	go_on(log);
	logfile_serve_readers(log);
	logfile_admit_waiting(log);
}

static void move_head(struct truncation *truncation)
{
	struct logfile *log = truncation->log;

	truncation->old_head = log->head;
	truncation->old_head_sequence = log->head_sequence;
	log->head = truncation->head.offset;
	log->head_sequence = truncation->head.sequence;
	truncation->waiter.done = told;
	super_sync(log->store, &truncation->waiter);
}

/* ---- which record it is ---- */

static bool header_at(const struct truncation *truncation, uint64_t offset,
		      struct record_header *header)
{
	uint64_t inside = offset - truncation->blocks_at;

	if (inside + sizeof(*header) > truncation->io.bytes || offset % RECORD_ALIGN)
		return false;
	memcpy(header, truncation->blocks + inside, sizeof(*header));
	return logfile_record_at(truncation->log, offset, header);
}

/* At the offset, or behind the padding that it lies in.  Whether there is one. */
static bool find_record(struct truncation *truncation)
{
	const struct logfile *log = truncation->log;
	struct record_header header;
	uint64_t offset = truncation->head.offset;
	uint64_t next = round_up(offset, log->store->super.block_bytes);

	if (!header_at(truncation, offset, &header)) {
		if (!all_zero(truncation->blocks + (offset - truncation->blocks_at), next - offset))
			return false;
		if (next >= log->durable.offset) {
			truncation->head = log->durable;
			return true;
		}
		if (next >= logfile_segment_end(log, logfile_serial(log, offset))) {
			const struct logfile_mark end = {.offset = next};
			return logfile_goes_on(log, &end, &truncation->head);
		}
		offset = next;
		if (!header_at(truncation, offset, &header))
			return false;
	}
	truncation->head = (struct logfile_mark){.offset = offset, .sequence = header.sequence};
	return true;
}

static void blocks_read(struct store_io *io, int err)
{
	struct truncation *truncation = container_of(io, struct truncation, io);

	if (!err && !find_record(truncation))
		err = -EINVAL;
	if (!err) {
		move_head(truncation);
		return;
	}
	struct logfile *log = truncation->log;
	finish(truncation, err);
	go_on(log);
}

static int read_blocks(struct truncation *truncation)
{
	struct logfile *log = truncation->log;
	uint64_t block = log->store->super.block_bytes;
	uint64_t offset = truncation->head.offset - truncation->head.offset % block;
	uint64_t end = logfile_segment_end(log, logfile_serial(log, offset));
	const struct logfile_segment *segment = logfile_segment_of(log, offset);

	if (!segment || segment->physical == LOGFILE_SEGMENT_NONE || offset >= end)
		return -EINVAL;
	truncation->blocks_at = offset;
	truncation->io = (struct store_io){
		.what = BLK_READ,
		.num_iov = 1,
		.offset = logfile_device_offset(log, offset),
		.bytes = end - offset < 2 * block ? block : 2 * block,
		.done = blocks_read,
	};
	truncation->io.iov[0] =
		(struct iovec){.iov_base = truncation->blocks, .iov_len = truncation->io.bytes};
	store_submit(log->store, &truncation->io);
	return UNDER_WAY;
}

/* 0, -errno, or UNDER_WAY. */
static int begin(struct truncation *truncation)
{
	struct logfile *log = truncation->log;
	uint64_t offset = truncation->head.offset;
	const struct segment_header *header =
		logfile_segment_header(log, logfile_serial(log, offset));

	if (offset <= log->head)
		return 0; /* that is so already */
	if (offset == log->durable.offset)
		truncation->head = log->durable;
	else if (header && offset == logfile_first_record(log, header->serial))
		truncation->head.sequence = header->first_sequence;
	else
		return read_blocks(truncation);
	move_head(truncation);
	return UNDER_WAY;
}

int logfile_truncate(struct logfile *log, struct op *op, uint64_t offset)
{
	if (offset > log->durable.offset)
		return -EINVAL;
	struct truncation *truncation = calloc(1, sizeof(*truncation));
	if (!truncation)
		return -ENOMEM;
	truncation->blocks = store_alloc(log->store, 2 * BLKDEV_BLOCK_MAX);
	if (!truncation->blocks) {
		free(truncation);
		return -ENOMEM;
	}
	truncation->log = log;
	truncation->op = op;
	truncation->head.offset = offset;
	list_append(&log->truncations, &truncation->node);
	go_on(log);
	return 0;
}

int logfile_truncate_all(struct logfile *log)
{
	while (!list_empty(&log->truncations)) /* those before it */
		store_wait(log->store);
	const uint64_t old_head = log->head;
	const uint64_t old_sequence = log->head_sequence;

	log->head = log->durable.offset;
	log->head_sequence = log->durable.sequence;
	int err = super_sync_wait(log->store);
	if (err) {
		log->head = old_head;
		log->head_sequence = old_sequence;
		return err;
	}
	free_segments(log, log->head);
	return 0;
}
