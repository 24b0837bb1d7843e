/* SPDX-License-Identifier: MIT
 * storage/recover.c - where a log ends, after it was closed, its process killed, or the power cut.
 *
 * Nothing is written here but headers of segments that are damaged while their records are good:
 * recovery that is interrupted is simply done again.
 */
#include "storage/scan.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- segments ---- */

/* The header that the records of a segment show, made from its first. */
static void rebuild(struct logfile *log, uint32_t physical, uint64_t serial,
		    const struct record_header *first)
{
	struct store_segment *segment = &log->store->segments[physical];

	segment_use(log->store, physical);
	segment->header = (struct segment_header){
		.log = logfile_entry(log)->id,
		.epoch = first->epoch,
		.serial = serial,
		.first_sequence = first->sequence,
		.previous_end = serial * log->store->super.segment_bytes,
		.acknowledged = first->acknowledged,
		.previous_crc = first->previous_crc,
	};
	segment_seal(&segment->header, log->store->super.identity,
		     segment_at(log->store, physical));
	log_write(&log->store->sched->log, LOG_LEVEL_WARNING,
		  "log \"%s\": the header of a segment was damaged; its records are there",
		  logfile_name(log));
}

/* Is the first record of a segment at that place?  0, -ENOENT, -errno. */
static int first_record(struct logfile *log, uint32_t physical, uint64_t serial, char *block,
			struct record_header *header)
{
	struct store *store = log->store;
	uint64_t bytes = store->super.block_bytes;
	int err =
		store_transfer(store, BLK_READ, segment_at(store, physical) + bytes, block, bytes);

	if (err)
		return err;
	memcpy(header, block, sizeof(*header));
	return logfile_record_at(log, logfile_first_record(log, serial), header) ? 0 : -ENOENT;
}

/* Looks among the segments whose headers are damaged for one that holds the records of a serial
 * number.  It, or LOGFILE_SEGMENT_NONE; -errno. */
static int64_t adopt(struct logfile *log, uint64_t serial, char *block)
{
	struct store *store = log->store;

	for (uint32_t i = 0; i < store->num_segments; i++) {
		struct record_header header;
		const struct store_segment *segment = &store->segments[i];
		if (segment->header.magic || segment->blank)
			continue;
		int err = first_record(log, i, serial, block, &header);
		if (err && err != -ENOENT)
			return err;
		if (err || header.epoch > logfile_entry(log)->epoch ||
		    (serial > log->first_serial && header.sequence < log->head_sequence))
			continue;
		rebuild(log, i, serial, &header);
		memcpy(block, &store->segments[i].header, sizeof(struct segment_header));
		memset(block + sizeof(struct segment_header), 0,
		       store->super.block_bytes - sizeof(struct segment_header));
		if (log->writable && !store->dev->zone_bytes)
			err = store_transfer(store, BLK_WRITE, segment_at(store, i), block,
					     store->super.block_bytes);
		return err == -ENOENT ? i : (err ? err : (int64_t)i);
	}
	return LOGFILE_SEGMENT_NONE;
}

/* Those whose headers are good, and those in between that can be told by their records; then those
 * behind. */
static int find_segments(struct logfile *log, char *block)
{
	uint32_t *physical;
	uint32_t count;
	int err = segment_collect(log->store, log->slot, &physical, &count);

	if (err)
		return err;
	for (uint32_t i = 0; !err; i++) {
		int64_t found = i < count ? physical[i] : LOGFILE_SEGMENT_NONE;
		if (found == LOGFILE_SEGMENT_NONE)
			found = adopt(log, log->first_serial + i, block);
		if (found < 0)
			err = (int)found;
		else if (found == LOGFILE_SEGMENT_NONE && i >= count)
			break;
		else
			err = logfile_add_segment(log, (uint32_t)found);
	}
	free(physical);
	return err;
}

/* Each segment's records end where the next one's header says, or are not known to. */
static void set_ends(struct logfile *log)
{
	uint64_t bytes = log->store->super.segment_bytes;

	for (uint32_t i = 0; i + 1 < log->num_segments; i++) {
		const struct segment_header *next =
			logfile_segment_header(log, log->first_serial + i + 1);
		uint64_t start = (log->first_serial + i) * bytes;
		uint64_t most = start + segment_room(log->store);
		log->segments[i].end = most;
		if (next && next->previous_end > start && next->previous_end <= most)
			log->segments[i].end = next->previous_end;
	}
}

/* ---- the end ---- */

/* Where to begin.  At most two segments held what was not acknowledged, so all before the last two
 * is there.  The last but one may be an older life's, with the header of this one's lost: then its
 * epoch is not that of the last. */
static struct logfile_mark begin_at(const struct logfile *log)
{
	uint32_t last = log->num_segments > 0 ? log->num_segments - 1 : 0;
	uint32_t i = last > 0 ? last - 1 : 0;
	const struct segment_header *header = logfile_segment_header(log, log->first_serial + i);
	const struct segment_header *next = logfile_segment_header(log, log->first_serial + last);

	if (i > 0 && (!header || !next || header->epoch != next->epoch))
		i--;
	while (i > 0 && !logfile_segment_header(log, log->first_serial + i))
		i--;
	header = logfile_segment_header(log, log->first_serial + i);
	uint64_t first = logfile_first_record(log, log->first_serial + i);
	if (!header || log->head >= first)
		return (struct logfile_mark){.offset = log->head, .sequence = log->head_sequence};
	return (struct logfile_mark){
		.offset = first, .sequence = header->first_sequence, .crc = header->previous_crc};
}

static void report(struct logfile *log, const struct scan_result *result, uint64_t sequence)
{
	uint64_t lost = result->next.sequence - sequence;

	if (log->damages++ == 0)
		log->damage_offset = result->offset;
	log->counts.lost += lost;
	log_write(&log->store->sched->log, LOG_LEVEL_ERROR,
		  "log \"%s\": damage at offset %llu: %llu records are lost", logfile_name(log),
		  (unsigned long long)result->offset, (unsigned long long)lost);
}

static int find_end(struct logfile *log)
{
	const struct super_log *entry = logfile_entry(log);
	struct logfile_mark from = begin_at(log);
	struct scan_result result;
	struct scan scan;
	int err = scan_open(&scan, log, &from);

	if (err)
		return err;
	scan.proven = (struct logfile_mark){.offset = entry->stable,
					    .sequence = entry->stable_sequence,
					    .crc = entry->stable_crc};
	do {
		uint64_t expected = scan.at.sequence;
		scan_next(&scan, &result);
		if (result.what == SCAN_DAMAGE)
			report(log, &result, expected);
	} while (result.what == SCAN_RECORD || result.what == SCAN_DAMAGE);
	if (result.what == SCAN_FAILURE)
		err = result.err;
	log->durable = result.next;
	scan_close(&scan);
	return err;
}

/* Segments behind the end hold nothing that was acknowledged; one that the end lies in is there, or
 * lost.  0, -ENOMEM, -EUCLEAN. */
static int settle_end(struct logfile *log)
{
	const struct store *store = log->store;
	struct logfile_mark *end = &log->durable;
	int err = 0;

	if (end->offset < log->head)
		end->offset = log->head;
	if (logfile_serial(log, end->offset) - log->first_serial >= segment_serials_max(store)) {
		log_write(&store->sched->log, LOG_LEVEL_ERROR,
			  "log \"%s\": its end is nowhere on the device", logfile_name(log));
		return -EUCLEAN;
	}
	end->offset = round_up(end->offset, store->super.block_bytes);
	uint64_t inside = end->offset % store->super.segment_bytes;
	uint64_t needed = logfile_serial(log, end->offset) - log->first_serial + (inside > 0);
	if (log->num_segments == 0 && inside <= store->super.block_bytes)
		needed = 0;
	while (log->num_segments > needed) {
		uint32_t physical = log->segments[--log->num_segments].physical;
		if (physical != LOGFILE_SEGMENT_NONE)
			segment_give_back(log->store, physical);
	}
	while (!err && log->num_segments < needed)
		err = logfile_add_segment(log, LOGFILE_SEGMENT_NONE);
	return err;
}

int logfile_recover(struct logfile *log)
{
	char *block = store_alloc(log->store, BLKDEV_BLOCK_MAX);
	int err = block ? find_segments(log, block) : -ENOMEM;

	if (block)
		(void)heap_free(log->store->sched->heap, block);
	if (err)
		return err;
	err = find_end(log);
	if (err) {
		log_write(&log->store->sched->log, LOG_LEVEL_ERROR,
			  "log \"%s\": it cannot be read: %s", logfile_name(log), strerror(-err));
		return err;
	}
	err = settle_end(log);
	if (err)
		return err;
	set_ends(log);
	log->next = log->durable;
	log->opened_sequence = log->durable.sequence;
	log->zeroed = log->durable.offset;
	return 0;
}
