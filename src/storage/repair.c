/* SPDX-License-Identifier: MIT
 * storage/repair.c - a write failed: the log goes on where the acknowledged records end, in a new
 * epoch, so that nothing that the failed batches left there is ever taken for a record.
 */
#include "storage/logfile.h"

#include <errno.h>
#include <string.h>

/* Segments that hold nothing acknowledged: not even their headers need be there. */
static void drop_segments(struct logfile *log)
{
	while (log->num_segments > 0) {
		uint64_t last = log->first_serial + log->num_segments - 1;
		if (log->durable.offset > logfile_first_record(log, last))
			return;
		uint32_t physical = log->segments[--log->num_segments].physical;
		if (physical != LOGFILE_SEGMENT_NONE)
			segment_give_back(log->store, physical);
	}
}

static void repaired(struct super_waiter *waiter, int err)
{
	struct logfile *log = container_of(waiter, struct logfile, super_waiter);

	log->state = err ? LOGFILE_BROKEN : LOGFILE_GOOD;
	if (err) {
		log->error = err;
		logfile_fail_all(log, -err);
		return;
	}
	logfile_admit_waiting(log);
}

void logfile_repair(struct logfile *log)
{
	log_write(&log->store->sched->log, LOG_LEVEL_ERROR, "log \"%s\": a write failed: %s",
		  logfile_name(log), strerror(-log->error));
	if (log->state == LOGFILE_DRAINING)
		logfile_fail_all(log, -log->error);
	log->next = log->durable;
	log->zeroed = log->durable.offset;
	drop_segments(log);
	log->sealed = log->store->dev->zone_bytes != 0;
	log->epoch++;
	log->state = LOGFILE_REPAIRING;
	log->super_waiter.done = repaired;
	super_sync(log->store, &log->super_waiter);
}
