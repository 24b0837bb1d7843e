/* SPDX-License-Identifier: MIT
 * transport/log/describe.c - logs and their devices, for `demi stat`.
 */
#include "transport/log/log.h"

const char *log_state(const struct logfile *log)
{
	static const char *const states[] = {
		[LOGFILE_GOOD] = "open",
		[LOGFILE_DRAINING] = "failing",
		[LOGFILE_REPAIRING] = "failing",
		[LOGFILE_BROKEN] = "failed",
	};

	if (log->state != LOGFILE_GOOD)
		return states[log->state];
	if (log->damages > 0 || log->counts.met > 0)
		return "damaged";
	return log->users > 0 ? states[log->state] : "closing";
}

static void describe_log(const struct logfile *log, struct log_info *info)
{
	const struct logfile_counts *counts = &log->counts;

	*info = (struct log_info){
		.drive = log->store->path,
		.name = logfile_name(log),
		.state = log_state(log),
		.queues = log->users,
		.head = log->head,
		.end = log->durable.offset,
		.records = log->durable.sequence - log->head_sequence,
		.appended = log->durable.sequence - log->opened_sequence,
		.appended_bytes = counts->bytes,
		.batches = counts->batches,
		.in_flight = log->flying,
		.waiting = op_list_length(&log->store->sched->ops, &log->waiting),
		.failed = counts->failed,
		.popped = counts->popped,
		.popped_bytes = counts->popped_bytes,
		.lost = counts->lost,
		.met = counts->met,
		.passed = counts->passed,
	};
}

static uint32_t count_waiting(const struct store *store)
{
	uint32_t count = 0;

	list_for_each (node, &store->waiting)
		count++;
	return count;
}

static void describe_drive(const struct store *store, struct drive_info *info)
{
	const struct blkdev *dev = store->dev;
	const struct store_counts *counts = &store->counts;
	uint64_t segment = store->super.segment_bytes;
	uint32_t waiting = count_waiting(store);

	*info = (struct drive_info){
		.path = store->path,
		.driver = dev->ops->name,
		.mode = dev->mode,
		.block_bytes = store->super.block_bytes,
		.capacity_bytes = dev->capacity_bytes,
		.used_bytes = (store->num_segments - store->free_segments) * segment,
		.free_bytes = store->free_segments * segment,
		.grows = dev->growable,
		.reads = counts->requests[BLK_READ],
		.read_bytes = counts->bytes[BLK_READ],
		.writes = counts->requests[BLK_WRITE],
		.written_bytes = counts->bytes[BLK_WRITE],
		.durable_writes = counts->durable,
		.flushes = counts->requests[BLK_FLUSH],
		.discards = counts->requests[BLK_DISCARD],
		.in_flight = store->under_way - waiting,
		.waiting = waiting,
		.errors = counts->errors,
	};
}

void log_engine_each_log(const struct log_engine *engine,
			 void (*fn)(void *arg, const struct log_info *info), void *arg)
{
	list_for_each (node, &engine->stores) {
		const struct store *store = container_of(node, struct store, node);
		list_for_each (one, &store->logs) {
			struct log_info info;
			describe_log(container_of(one, struct logfile, node), &info);
			fn(arg, &info);
		}
	}
}

void log_engine_each_drive(const struct log_engine *engine,
			   void (*fn)(void *arg, const struct drive_info *info), void *arg)
{
	list_for_each (node, &engine->stores) {
		struct drive_info info;
		describe_drive(container_of(node, struct store, node), &info);
		fn(arg, &info);
	}
}
