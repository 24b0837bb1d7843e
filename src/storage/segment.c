/* SPDX-License-Identifier: MIT
 * storage/segment.c - which segments of the device are in use.
 */
#include "storage/store.h"

#include "storage/logfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

static uint32_t segments_of(const struct store *store)
{
	uint64_t capacity = store->dev->capacity_bytes;

	if (capacity < store->segments_at)
		return 0;
	uint64_t count = (capacity - store->segments_at) / store->super.segment_bytes;
	return count > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)count;
}

/* Room for so many.  0 or -ENOMEM. */
static int make_room(struct store *store, uint32_t count)
{
	if (count <= store->max_segments)
		return 0;
	uint32_t max = count > 2 * store->max_segments ? count : 2 * store->max_segments;
	struct store_segment *segments = reallocarray(store->segments, max, sizeof(*segments));
	if (!segments)
		return -ENOMEM;
	memset(segments + store->max_segments, 0, (max - store->max_segments) * sizeof(*segments));
	store->segments = segments;
	store->max_segments = max;
	return 0;
}

uint32_t segment_count(const struct store *store, enum segment_state state)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < store->num_segments; i++)
		count += store->segments[i].state == state;
	return count;
}

/* ---- whose they are ---- */

/* Does it hold records of that log, at or behind the head?  One that begins there has no lower
 * sequence number than the head. */
static bool holds(const struct store *store, const struct store_segment *segment,
		  const struct super_log *entry)
{
	const struct segment_header *header = &segment->header;
	uint64_t first_serial = entry->head / store->super.segment_bytes;
	uint64_t inside = entry->head % store->super.segment_bytes;
	bool before = header->serial == first_serial && inside > store->super.block_bytes;

	return header->magic && header->log == entry->id && header->epoch <= entry->epoch &&
	       header->serial >= first_serial &&
	       (before || header->first_sequence >= entry->head_sequence);
}

int segment_collect(struct store *store, uint32_t slot, uint32_t **physical_out,
		    uint32_t *count_out)
{
	const struct super_log *entry = &store->super.logs[slot];
	uint64_t first = entry->head / store->super.segment_bytes;
	uint64_t most = segment_serials_max(store);
	uint64_t count = 0;

	for (uint32_t i = 0; i < store->num_segments; i++) {
		const struct store_segment *segment = &store->segments[i];
		uint64_t behind = segment->header.serial - first;
		if (holds(store, segment, entry) && behind >= count && behind < most)
			count = behind + 1;
	}
	uint32_t *physical = malloc((count + 1) * sizeof(*physical));
	if (!physical)
		return -ENOMEM;
	for (uint64_t i = 0; i < count; i++)
		physical[i] = LOGFILE_SEGMENT_NONE;
	for (uint32_t i = 0; i < store->num_segments; i++) {
		const struct store_segment *segment = &store->segments[i];
		uint64_t behind = segment->header.serial - first;
		if (!holds(store, segment, entry) || behind >= count)
			continue;
		uint32_t *at = &physical[behind];
		if (*at == LOGFILE_SEGMENT_NONE ||
		    store->segments[*at].header.epoch < segment->header.epoch)
			*at = i;
	}
	*physical_out = physical;
	*count_out = (uint32_t)count;
	return 0;
}

/* Marks the segments of a log.  Whether one may be missing, or -ENOMEM. */
static int mark_log(struct store *store, uint32_t slot)
{
	const struct super_log *entry = &store->super.logs[slot];
	uint64_t first = entry->head / store->super.segment_bytes;
	uint64_t stable = (entry->stable - 1) / store->super.segment_bytes;
	uint32_t *physical;
	uint32_t count;
	int err = segment_collect(store, slot, &physical, &count);

	if (err)
		return err;
	int missing = stable > first && stable - first >= count;
	for (uint32_t i = 0; i < count; i++) {
		if (physical[i] == LOGFILE_SEGMENT_NONE)
			missing = 1;
		else
			store->segments[physical[i]].state = SEGMENT_USED;
	}
	free(physical);
	return missing;
}

static int mark_all(struct store *store)
{
	bool missing = false;

	for (uint32_t slot = 0; slot < LOGS_MAX; slot++) {
		int one = store->super.logs[slot].id ? mark_log(store, slot) : 0;
		if (one < 0)
			return one;
		missing |= one > 0;
	}
	for (uint32_t i = 0; i < store->num_segments && missing; i++) {
		struct store_segment *segment = &store->segments[i];
		if (!segment->header.magic && !segment->blank)
			segment->state = SEGMENT_DOUBTFUL;
	}
	store->free_segments = segment_count(store, SEGMENT_FREE);
	return 0;
}

/* ---- reading headers: as many at a time as the device takes ---- */

#define READERS_MAX 32

struct reader {
	struct store_io io;
	uint32_t segment;
	bool busy;
	int err;
	char *block;
};

static void header_read(struct store_io *io, int err)
{
	static const struct segment_header none;
	struct reader *reader = container_of(io, struct reader, io);
	struct store *store = io->store;
	struct store_segment *segment = &store->segments[reader->segment];

	reader->busy = false;
	reader->err = reader->err ? reader->err : err;
	memcpy(&segment->header, reader->block, sizeof(segment->header));
	segment->blank = err == 0 && memcmp(&segment->header, &none, sizeof(none)) == 0;
	if (err || !segment_check(&segment->header, store->super.identity,
				  segment_at(store, reader->segment)))
		segment->header = none;
}

static void begin(struct store *store, struct reader *reader, uint32_t segment)
{
	uint64_t bytes = store->super.block_bytes;

	reader->segment = segment;
	reader->busy = true;
	reader->io = (struct store_io){
		.what = BLK_READ,
		.num_iov = 1,
		.iov = {{.iov_base = reader->block, .iov_len = bytes}},
		.offset = segment_at(store, segment),
		.bytes = bytes,
		.done = header_read,
	};
	store_submit(store, &reader->io);
}

/* 0, or -errno of one that cannot be read. */
static int read_all(struct store *store, struct reader *readers)
{
	uint32_t next = 0;
	int err = 0;

	while (next < store->num_segments || store->under_way > 0) {
		for (uint32_t i = 0; i < READERS_MAX && next < store->num_segments; i++) {
			if (!readers[i].busy)
				begin(store, &readers[i], next++);
		}
		store_wait(store);
	}
	for (uint32_t i = 0; i < READERS_MAX; i++)
		err = readers[i].err ? readers[i].err : err;
	return err;
}

int segment_load(struct store *store)
{
	struct reader *readers = calloc(READERS_MAX, sizeof(*readers));
	char *blocks = store_alloc(store, READERS_MAX * (uint64_t)BLKDEV_BLOCK_MAX);
	uint32_t count = segments_of(store);
	int err = readers && blocks ? make_room(store, count) : -ENOMEM;

	if (!err) {
		store->num_segments = count;
		for (uint32_t i = 0; i < READERS_MAX; i++)
			readers[i].block = blocks + i * (uint64_t)BLKDEV_BLOCK_MAX;
		err = read_all(store, readers);
	}
	if (!err)
		err = mark_all(store);
	if (blocks)
		(void)heap_free(store->sched->heap, blocks);
	free(readers);
	return err;
}

/* ---- taking and giving back ---- */

/* One more at the end of the file. */
static int64_t grow(struct store *store)
{
	uint32_t count = store->num_segments;

	if (!store->dev->growable || count >= UINT32_MAX / 2)
		return -ENOSPC;
	int err = make_room(store, count + 1);
	if (!err)
		err = store->dev->ops->grow(store->dev, segment_at(store, count + 1));
	if (err)
		return err;
	store->num_segments = count + 1;
	store->segments[count] = (struct store_segment){.state = SEGMENT_USED, .blank = true};
	return count;
}

void segment_use(struct store *store, uint32_t segment)
{
	store->free_segments -= store->segments[segment].state == SEGMENT_FREE;
	store->segments[segment].state = SEGMENT_USED;
}

int64_t segment_take(struct store *store)
{
	bool discarding = false;

	for (uint32_t i = 0; i < store->num_segments; i++) {
		uint32_t at = (store->next_segment + i) % store->num_segments;
		struct store_segment *segment = &store->segments[at];
		discarding |= segment->state == SEGMENT_DISCARDING;
		if (segment->state != SEGMENT_FREE)
			continue;
		segment_use(store, at);
		store->next_segment = at + 1;
		return at;
	}
	int64_t grown = grow(store);
	return grown == -ENOSPC && discarding ? -EAGAIN : grown;
}

void segment_give_back(struct store *store, uint32_t segment)
{
	store->free_segments += store->segments[segment].state != SEGMENT_FREE;
	store->segments[segment].state = SEGMENT_FREE;
	store->segments[segment].blank = false;
}

struct discard {
	struct store_io io;
	uint32_t segment;
};

static void discarded(struct store_io *io, int err)
{
	struct discard *discard = container_of(io, struct discard, io);
	struct store *store = io->store;

	(void)err; /* only a wish, but of a zone: then writing into it tells */
	segment_give_back(store, discard->segment);
	free(discard);
	logfile_room_all(store);
}

void segment_discard(struct store *store, uint32_t segment)
{
	struct discard *discard = store->dev->discards ? malloc(sizeof(*discard)) : NULL;

	if (!discard) {
		segment_give_back(store, segment);
		return;
	}
	store->segments[segment].state = SEGMENT_DISCARDING;
	discard->segment = segment;
	discard->io = (struct store_io){
		.what = BLK_DISCARD,
		.offset = segment_at(store, segment),
		.bytes = store->super.segment_bytes,
		.done = discarded,
	};
	store_submit(store, &discard->io);
}
