/* SPDX-License-Identifier: MIT
 * storage/logfile.c - logs of a store: opened, left, and where their records are.
 */
#include "storage/logfile.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- places ---- */

struct logfile_segment *logfile_segment_of(const struct logfile *log, uint64_t offset)
{
	uint64_t i = logfile_serial(log, offset) - log->first_serial;

	return i < log->num_segments ? &log->segments[i] : NULL;
}

uint64_t logfile_segment_end(const struct logfile *log, uint64_t serial)
{
	uint64_t i = serial - log->first_serial;

	if (i + 1 < log->num_segments && log->segments[i].end < log->durable.offset)
		return log->segments[i].end;
	return log->durable.offset;
}

uint64_t logfile_device_offset(const struct logfile *log, uint64_t offset)
{
	const struct logfile_segment *segment = logfile_segment_of(log, offset);

	ASSERT(segment && segment->physical != LOGFILE_SEGMENT_NONE);
	return segment_at(log->store, segment->physical) + offset % log->store->super.segment_bytes;
}

int logfile_add_segment(struct logfile *log, uint32_t physical)
{
	if (log->num_segments == log->max_segments) {
		uint32_t max = 2 * log->max_segments + 16;
		struct logfile_segment *segments =
			reallocarray(log->segments, max, sizeof(*segments));
		if (!segments)
			return -ENOMEM;
		log->segments = segments;
		log->max_segments = max;
	}
	log->segments[log->num_segments++] = (struct logfile_segment){.physical = physical};
	return 0;
}

bool logfile_record_at(const struct logfile *log, uint64_t offset,
		       const struct record_header *header)
{
	const struct store *store = log->store;
	const struct record_place place = {
		.identity = store->super.identity, .log = logfile_entry(log)->id, .offset = offset};

	if (!record_check(header, &place))
		return false;
	return header->data_at >= sizeof(*header) && header->data_at <= BLKDEV_BLOCK_MAX &&
	       header->data_bytes > 0 && header->data_bytes <= RECORD_BYTES_MAX &&
	       offset % store->super.segment_bytes + record_span(header) <= segment_room(store);
}

uint64_t logfile_record_max(const struct logfile *log)
{
	const struct store *store = log->store;
	uint64_t most = segment_room(store) / 2 - sizeof(struct record_header);

	return most < RECORD_BYTES_MAX ? most : RECORD_BYTES_MAX;
}

const struct segment_header *logfile_segment_header(const struct logfile *log, uint64_t serial)
{
	uint64_t i = serial - log->first_serial;

	if (i >= log->num_segments || log->segments[i].physical == LOGFILE_SEGMENT_NONE)
		return NULL;
	return &log->store->segments[log->segments[i].physical].header;
}

bool logfile_goes_on(const struct logfile *log, const struct logfile_mark *at,
		     struct logfile_mark *next)
{
	uint64_t serial = logfile_serial(log, at->offset) + 1;
	const struct segment_header *header = logfile_segment_header(log, serial);

	if (!header)
		return false;
	if (at->sequence == 0 ? at->offset < header->previous_end
			      : header->first_sequence != at->sequence)
		return false;
	if (at->crc && header->previous_crc && header->previous_crc != at->crc)
		return false;
	*next = (struct logfile_mark){.offset = logfile_first_record(log, serial),
				      .sequence = header->first_sequence,
				      .crc = header->previous_crc};
	return true;
}

/* ---- the superblock's entries ---- */

static void describe(const struct logfile *log)
{
	struct super_log *entry = &log->store->super.logs[log->slot];

	entry->epoch = log->epoch;
	entry->head = log->head;
	entry->head_sequence = log->head_sequence;
	entry->stable = log->durable.offset;
	entry->stable_sequence = log->durable.sequence;
	entry->stable_crc = log->durable.crc;
}

void logfile_describe_all(struct store *store)
{
	list_for_each (node, &store->logs)
		describe(container_of(node, struct logfile, node));
}

void logfile_room_all(struct store *store)
{
	list_for_each (node, &store->logs)
		logfile_admit_waiting(container_of(node, struct logfile, node));
}

static int32_t find_name(const struct store *store, const char *name)
{
	for (int32_t slot = 0; slot < LOGS_MAX; slot++) {
		const struct super_log *entry = &store->super.logs[slot];
		if (entry->id && strncmp(entry->name, name, sizeof(entry->name)) == 0)
			return slot;
	}
	return -ENOENT;
}

/* An entry for a new log, on stable media.  Its slot, or -errno. */
static int32_t make_entry(struct store *store, const char *name)
{
	struct super *super = &store->super;

	for (int32_t slot = 0; slot < LOGS_MAX; slot++) {
		struct super_log *entry = &super->logs[slot];
		if (entry->id)
			continue;
		*entry = (struct super_log){
			.id = ++super->num_logs,
			.head = super->block_bytes,
			.head_sequence = 1,
			.stable = super->block_bytes,
			.stable_sequence = 1,
		};
		(void)snprintf(entry->name, sizeof(entry->name), "%s", name);
		int err = super_sync_wait(store);
		if (err)
			*entry = (struct super_log){0};
		return err ? err : slot;
	}
	log_write(&store->sched->log, LOG_LEVEL_ERROR, "log \"%s\": \"%s\" has %d logs already",
		  name, store->path, LOGS_MAX);
	return -ENOSPC;
}

static int32_t find_or_make(struct store *store, const char *name, int flags)
{
	int32_t slot = find_name(store, name);

	if (slot >= 0 && (flags & O_CREAT) && (flags & O_EXCL) && !store->alone)
		return -EEXIST;
	if (slot >= 0 || !(flags & O_CREAT) || !store->writable)
		return slot;
	return make_entry(store, name);
}

/* ---- life ---- */

static struct logfile *logfile_new(struct store *store, uint32_t slot)
{
	struct logfile *log = calloc(1, sizeof(*log));

	if (!log)
		return NULL;
	const struct super_log *entry = &store->super.logs[slot];
	log->store = store;
	log->slot = slot;
	log->users = 1;
	log->writable = store->writable;
	log->head = entry->head;
	log->head_sequence = entry->head_sequence;
	log->first_serial = entry->head / store->super.segment_bytes;
	log->epoch = entry->epoch;
	list_init(&log->node);
	list_init(&log->flights);
	list_init(&log->idle);
	list_init(&log->cursors);
	list_init(&log->truncations);
	op_list_init(&log->waiting);
	timer_init(&log->commit_timer, logfile_commit_due);
	return log;
}

/* What was recovered is on stable media, and whatever a power cut or a failed write left is of an
 * epoch that is over. */
static int begin_epoch(struct logfile *log)
{
	struct store *store = log->store;
	int err = store_transfer(store, BLK_FLUSH, 0, NULL, 0);

	if (err)
		return err;
	log->epoch++;
	return super_sync_wait(store);
}

static void let_go(struct logfile *log)
{
	logfile_append_close(log);
	list_remove(&log->node);
	free(log->segments);
	free(log);
}

int logfile_open(struct store *store, const char *name, int flags, struct logfile **logfile_out)
{
	if (strlen(name) > LOG_NAME_MAX || !*name)
		return *name ? -ENAMETOOLONG : -ENOENT;
	list_for_each (node, &store->logs) {
		struct logfile *open = container_of(node, struct logfile, node);
		if (strncmp(logfile_entry(open)->name, name, LOG_NAME_MAX) != 0)
			continue;
		if ((flags & O_CREAT) && (flags & O_EXCL))
			return -EEXIST;
		if (open->users++ == 0)
			store->leaving--;
		open->told = false;
		*logfile_out = open;
		return 0;
	}
	int32_t slot = find_or_make(store, name, flags);
	if (slot < 0)
		return slot;
	struct logfile *log = logfile_new(store, (uint32_t)slot);
	if (!log)
		return -ENOMEM;
	int err = logfile_recover(log);
	if (!err)
		err = logfile_append_open(log);
	if (!err) {
		list_append(&store->logs, &log->node);
		err = log->writable ? begin_epoch(log) : 0;
	}
	if (err) {
		let_go(log);
		return err;
	}
	*logfile_out = log;
	return 0;
}

static void closed(struct super_waiter *waiter, int err)
{
	struct logfile *log = container_of(waiter, struct logfile, super_waiter);

	(void)err; /* it only told where the end is */
	log->closing = false;
}

static bool idle(const struct logfile *log)
{
	return list_empty(&log->flights) && !log->open && !log->zeroing && !log->closing &&
	       log->state != LOGFILE_DRAINING && log->state != LOGFILE_REPAIRING &&
	       list_empty(&log->cursors) && list_empty(&log->truncations);
}

void logfile_leave(struct logfile *log)
{
	if (--log->users == 0)
		log->store->leaving++;
}

bool logfile_ended(struct logfile *log)
{
	if (log->users > 0 || !idle(log))
		return false;
	if (log->told || !log->writable || log->state != LOGFILE_GOOD)
		return true;
	log->told = true;
	log->closing = true;
	log->super_waiter.done = closed;
	super_sync(log->store, &log->super_waiter);
	return false;
}

void logfile_free(struct logfile *log)
{
	struct store *store = log->store;

	while (store->under_way > 0) /* given up: what is under way has pieces of us */
		store_wait(store);
	store->leaving -= log->users == 0;
	let_go(log);
}

/* ---- checking ---- */

void logfile_check(const struct logfile *log)
{
	uint64_t sequence = log->durable.sequence;

	ASSERT(log->store->free_segments == segment_count(log->store, SEGMENT_FREE));
	ASSERT(log->durable.offset <= log->next.offset);
	ASSERT(log->head <= log->durable.offset || log->num_segments == 0);
	ASSERT(log->head_sequence <= log->durable.sequence);
	list_for_each (node, &log->flights) {
		const struct logfile_batch *batch = container_of(node, struct logfile_batch, node);
		ASSERT(batch->end.sequence > sequence);
		sequence = batch->end.sequence;
	}
	if (log->state == LOGFILE_GOOD && log->open)
		ASSERT(log->next.sequence > sequence);
	if (log->num_segments > 0)
		ASSERT(logfile_serial(log, log->head) <= log->first_serial + log->num_segments);
}
