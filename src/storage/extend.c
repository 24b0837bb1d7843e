/* SPDX-License-Identifier: MIT
 * storage/extend.c - a further segment for a log.
 */
#include "storage/logfile.h"

#include <errno.h>
#include <string.h>

uint64_t logfile_segment_left(const struct logfile *log)
{
	const struct store *store = log->store;
	uint64_t inside = log->next.offset % store->super.segment_bytes;
	const struct logfile_segment *last =
		log->num_segments > 0 ? &log->segments[log->num_segments - 1] : NULL;

	if (!last || last->physical == LOGFILE_SEGMENT_NONE || log->sealed ||
	    logfile_serial(log, log->next.offset) != log->first_serial + log->num_segments - 1)
		return 0;
	return segment_room(store) - inside;
}

/* Recovery looks at the last segments only: is everything before the last acknowledged? */
static bool may_begin_segment(const struct logfile *log)
{
	if (log->num_segments < 2 || list_empty(&log->flights))
		return true;
	return logfile_serial(log, log->durable.offset) >=
		       log->first_serial + log->num_segments - 1 ||
	       log->durable.offset >= log->segments[log->num_segments - 2].end;
}

static void begin_segment(struct logfile *log, struct logfile_batch *batch, uint64_t serial)
{
	struct store *store = log->store;
	const struct logfile_segment *segment = &log->segments[log->num_segments - 1];
	struct segment_header *header = &store->segments[segment->physical].header;
	uint64_t block = store->super.block_bytes;

	*header = (struct segment_header){
		.log = logfile_entry(log)->id,
		.epoch = log->epoch,
		.serial = serial,
		.first_sequence = log->next.sequence,
		.previous_end =
			log->num_segments > 1 ? log->segments[log->num_segments - 2].end : 0,
		.acknowledged = log->durable.sequence,
		.previous_crc = log->next.crc,
	};
	segment_seal(header, store->super.identity, segment_at(store, segment->physical));
	memset(batch->buffer, 0, block);
	memcpy(batch->buffer, header, sizeof(*header));
	batch->filled_bytes = block;
	batch->start = serial * store->super.segment_bytes;
	log->next.offset = batch->start + block;
	log->zeroed = log->next.offset;
	log->sealed = false;
}

int logfile_next_segment(struct logfile *log, struct logfile_batch *batch)
{
	if (!may_begin_segment(log))
		return -EAGAIN;
	int64_t physical = segment_take(log->store);
	if (physical < 0)
		return (int)physical;
	int err = logfile_add_segment(log, (uint32_t)physical);
	if (err) {
		segment_give_back(log->store, (uint32_t)physical);
		return err;
	}
	if (log->num_segments == 1) /* where the head, and nothing else, is */
		log->first_serial = logfile_serial(log, log->next.offset);
	else if (logfile_serial(log, log->next.offset - 1) ==
		 log->first_serial + log->num_segments - 2)
		log->segments[log->num_segments - 2].end = log->next.offset;
	begin_segment(log, batch, log->first_serial + log->num_segments - 1);
	return 0;
}
