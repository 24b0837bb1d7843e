/* SPDX-License-Identifier: MIT
 * storage/zero.c - zeros ahead of the records of a file: a write into blocks that were never
 * written, or that a discard took away, makes its filesystem write metadata too.
 */
#include "storage/logfile.h"

#include <string.h>

#define ZERO_LEAST ((uint64_t)1 << 16) /* at a time: a push may have to wait for it */
#define ZERO_BYTES ((uint64_t)1 << 20)
#define ZERO_AHEAD (4 * ZERO_BYTES) /* of the next record */

static void zeroed(struct store_io *io, int err)
{
	struct logfile *log = container_of(io, struct logfile, zero_io);

	(void)err; /* only a preparation */
	log->zeroing = false;
	if (log->state == LOGFILE_DRAINING) {
		if (log->flying == 0)
			logfile_repair(log);
		return;
	}
	if (log->zeroed < log->zeroing_to && log->state == LOGFILE_GOOD)
		log->zeroed = log->zeroing_to;
	logfile_zero_ahead(log);
	logfile_admit_waiting(log);
}

/* The end of the last segment. */
static uint64_t limit(const struct logfile *log)
{
	return (log->first_serial + log->num_segments - 1) * log->store->super.segment_bytes +
	       segment_room(log->store);
}

void logfile_zero_ahead(struct logfile *log)
{
	struct store *store = log->store;

	if (!store->dev->growable || log->zeroing || log->state != LOGFILE_GOOD || !log->writable ||
	    log->users == 0 || log->num_segments == 0)
		return;
	uint64_t most = limit(log);
	if (log->zeroed >= most || log->zeroed >= log->next.offset + ZERO_AHEAD)
		return;
	if (!log->zeros)
		log->zeros = store_alloc(store, ZERO_BYTES);
	if (!log->zeros)
		return;
	memset(log->zeros, 0, ZERO_BYTES);
	uint64_t bytes = round_up(log->zeroed - log->next.offset, ZERO_LEAST);
	if (bytes < ZERO_LEAST)
		bytes = ZERO_LEAST;
	if (bytes > ZERO_BYTES)
		bytes = ZERO_BYTES;
	if (bytes > most - log->zeroed)
		bytes = most - log->zeroed;
	log->zeroing = true;
	log->zeroing_to = log->zeroed + bytes;
	log->zero_io = (struct store_io){
		.what = BLK_WRITE,
		.num_iov = 1,
		.iov = {{.iov_base = log->zeros, .iov_len = bytes}},
		.offset = logfile_device_offset(log, log->zeroed),
		.bytes = bytes,
		.done = zeroed,
	};
	store_submit(store, &log->zero_io);
}
