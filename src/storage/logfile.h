/* SPDX-License-Identifier: MIT
 * storage/logfile.h - a log: records appended durably, read in order, and collected from the front.
 *
 * The promises, after any crash or power cut (P1 to P6 of the tests):
 *   1 a record whose push completed is there;
 *   2 the records that are there are those that were pushed, in order, from the head on, without a
 *     gap;
 *   3 a torn end is cut, and nothing of it returned;
 *   4 damage before the end is reported, never passed over;
 *   5 recovery may be interrupted at any point;
 *   6 truncation loses nothing at or behind the new head.
 *
 * Appending.  Pushed records are copied, with their checksums, into the open batch, but for long
 * ones that lie so that the device can write them from where they are; a batch is one write of
 * whole blocks, put out when no other is under way, when it is full, or after commit_us. Batches
 * are acknowledged in order, each when it and all before it are on stable media.  At most two
 * segments hold records that are not acknowledged: recovery looks at the last two.
 *
 * If a write fails, all pushes that are not acknowledged fail.  What of them is on the medium is in
 * doubt: the log begins a new epoch, as if opened anew, and goes on where the acknowledged records
 * end.
 *
 * Memory: batches own their buffers; a cursor owns its chunks, of which records that were popped by
 * reference hold library or application references.
 *
 * Invariants, walked by logfile_check: durable.offset <= next.offset; the flights lie between them,
 * in order, without gaps of sequence; segments[i] has serial first_serial + i; the head lies in
 * segments[0], or there are none.
 */
#pragma once

#include "storage/store.h"

#include "sched/sched.h"

#define LOGFILE_BATCHES 8

/* A place between records. */
struct logfile_mark {
	uint64_t offset;
	uint64_t sequence; /* of the record there */
	uint32_t crc;      /* the header checksum of the record before; 0: none, or not known */
};

#define LOGFILE_SEGMENT_NONE UINT32_MAX

struct logfile_segment {
	uint32_t physical; /* LOGFILE_SEGMENT_NONE: it is lost */
	uint64_t end;      /* where its records end; the last one's: durable.offset counts */
};

/* Records that are written together. */
struct logfile_batch {
	struct store_io io;
	struct logfile *log;
	struct list node;   /* of log->flights, or log->idle */
	struct op_list ops; /* pushes */
	char *buffer;       /* the usual one, or a larger one for a long record */
	uint64_t buffer_bytes;
	char *usual_buffer; /* heap memory */
	char *own_buffer;   /* heap memory; NULL: there is none at present */
	uint64_t filled_bytes;
	const struct op *referenced; /* its only push, written from where its data is; NULL: none */
	uint64_t head_bytes;         /* in the buffer before that data */
	uint64_t zero_begin; /* known zeros in the usual buffer, behind what was written last */
	uint64_t zero_end;
	uint64_t start;          /* offset in the log: of a block */
	struct logfile_mark end; /* behind its last record, and the padding */
	uint64_t begun_ns;
	uint64_t data_bytes; /* of its records */
	bool done;
	int err;
};

/* What `demi stat` shows of a log, since it was opened. */
struct logfile_counts {
	uint64_t bytes;   /* of the data of records that were acknowledged */
	uint64_t failed;  /* pushes: a write failed, or there was no room or memory */
	uint64_t batches; /* not beside the bytes: both at once is dearer than one by one */
	uint64_t popped;
	uint64_t lost; /* records that recovery found damaged */
	uint64_t popped_bytes;
	uint64_t met;    /* how often a cursor came upon damage */
	uint64_t passed; /* records that SEEK_DATA passed over from such a place on */
};

enum logfile_state {
	LOGFILE_GOOD,
	LOGFILE_DRAINING,  /* a write failed: those under way are waited for */
	LOGFILE_REPAIRING, /* the new epoch is being written */
	LOGFILE_BROKEN,    /* that failed, too: the next push tries again */
};

struct logfile {
	struct store *store;
	struct list node; /* of store->logs */
	uint32_t slot;    /* in the superblock */
	uint32_t users;   /* queues; 0: it is closing */
	uint8_t state;    /* enum logfile_state */
	bool writable;
	int error; /* of the write that failed */

	uint64_t head; /* as in the superblock */
	uint64_t head_sequence;
	uint64_t first_serial;
	uint32_t num_segments;
	uint32_t max_segments;
	struct logfile_segment *segments;

	struct logfile_mark durable; /* the end of what is acknowledged */
	struct logfile_mark next;    /* where the next record goes: the end of the open batch */
	uint32_t epoch;
	uint32_t flying;            /* batches under way */
	struct list flights;        /* batches that were put out, in order */
	struct list idle;           /* batches */
	struct logfile_batch *open; /* being filled; NULL: none */
	struct op_list waiting;     /* pushes for which there was no room */
	struct timer commit_timer;
	struct logfile_batch batches[LOGFILE_BATCHES];
	uint64_t commit_bytes;
	bool sealed; /* zoned: the last segment takes no more */

	struct store_io zero_io; /* zeros are written ahead of the records: a file */
	char *zeros;             /* heap memory */
	bool zeroing;
	uint64_t zeroed;     /* up to this offset */
	uint64_t zeroing_to; /* being written */

	struct list cursors;
	struct list truncations;
	struct super_waiter super_waiter; /* repair, close */
	bool closing;                     /* its last superblock is being written */
	bool told;                        /* it was */

	/* What recovery found. */
	uint32_t damages;
	uint64_t damage_offset;   /* of the first */
	uint64_t opened_sequence; /* of the first record that is appended */

	struct logfile_counts counts;
};

/* ---- logfile.c ---- */

/* Opens a log of a store by its name, after a crash too; makes it if flags have O_CREAT.  Blocks.
 * 0 or -errno, told to the log: -ENOENT, -EEXIST (O_EXCL), -ENOSPC: no room for another log. */
int logfile_open(struct store *store, const char *name, int flags, struct logfile **logfile_out);

/* One user less.  The last one's log ends in the background: logfile_ended tells. */
void logfile_leave(struct logfile *log);

/* Frees a log that has ended, or gives up one that has not. */
void logfile_free(struct logfile *log);

/* Has its last user left, and is all of it on the medium?  Asked once a turn: it does what is left
 * to be done. */
bool logfile_ended(struct logfile *log);

/* For the superblock: writes the ends of all open logs into it. */
void logfile_describe_all(struct store *store);

/* There are free segments again. */
void logfile_room_all(struct store *store);

/* Asserts the invariants above. */
void logfile_check(const struct logfile *log);

/* The longest record, in bytes. */
uint64_t logfile_record_max(const struct logfile *log);

static inline const struct super_log *logfile_entry(const struct logfile *log)
{
	return &log->store->super.logs[log->slot];
}

/* For people: a file that is one log goes by its path. */
static inline const char *logfile_name(const struct logfile *log)
{
	return log->store->alone ? log->store->path : logfile_entry(log)->name;
}

static inline uint64_t logfile_serial(const struct logfile *log, uint64_t offset)
{
	return offset / log->store->super.segment_bytes;
}

/* Offset of the first record of a segment. */
static inline uint64_t logfile_first_record(const struct logfile *log, uint64_t serial)
{
	return serial * log->store->super.segment_bytes + log->store->super.block_bytes;
}

/* The segment that an offset lies in; NULL: there is none. */
struct logfile_segment *logfile_segment_of(const struct logfile *log, uint64_t offset);

/* Where a segment's records end: nothing at or behind it is read. */
uint64_t logfile_segment_end(const struct logfile *log, uint64_t serial);

/* Where on the device; the segment is there. */
uint64_t logfile_device_offset(const struct logfile *log, uint64_t offset);

/* NULL: there is no such segment, or it is lost. */
const struct segment_header *logfile_segment_header(const struct logfile *log, uint64_t serial);

/* Do the records of a segment end at that mark, as the next one has it?  Then next is its first. */
bool logfile_goes_on(const struct logfile *log, const struct logfile_mark *at,
		     struct logfile_mark *next);

/* A segment behind the last.  0 or -ENOMEM. */
int logfile_add_segment(struct logfile *log, uint32_t physical);

/* Is a header that of a record at this offset? */
bool logfile_record_at(const struct logfile *log, uint64_t offset,
		       const struct record_header *header);

/* ---- append.c ---- */

/* Its timer. */
void logfile_commit_due(struct timer *timer);

int logfile_append_open(struct logfile *log);
void logfile_append_close(struct logfile *log);

/* Takes a push: it completes with the record's offset as its result. 0 or -errno: EMSGSIZE, EINVAL
 * (no data), ENOSPC, ENOMEM. */
int logfile_push(struct logfile *log, struct op *op);

/* Ends a push if it waits for room. */
void logfile_cancel_push(struct logfile *log, struct op *op);

/* How many of a queue's are not acknowledged. */
uint32_t logfile_pushes(const struct logfile *log, int32_t qd);

/* Ends the pushes of a queue that wait for room. */
void logfile_cancel_pushes(struct logfile *log, int32_t qd);

/* Puts the open batch out if it is time. */
void logfile_commit(struct logfile *log);

/* There is room again: for pushes that wait. */
void logfile_admit_waiting(struct logfile *log);

/* Ends all pushes that are not acknowledged; nothing is under way. */
void logfile_fail_all(struct logfile *log, int err);

/* ---- extend.c ---- */

/* How much of the segment that next lies in is left. */
uint64_t logfile_segment_left(const struct logfile *log);

/* A further segment, for the records from next on: its header is the first block of the batch.  0;
 * -EAGAIN: later; -ENOSPC, -ENOMEM. */
int logfile_next_segment(struct logfile *log, struct logfile_batch *batch);

/* ---- repair.c ---- */

/* A batch failed, and none is under way any more. */
void logfile_repair(struct logfile *log);

/* ---- zero.c ---- */

/* Writes zeros ahead of next.offset, as far as that is due. */
void logfile_zero_ahead(struct logfile *log);

/* Must a write up to this offset wait for zeros that are under way? */
static inline bool logfile_zero_blocks(const struct logfile *log, uint64_t end)
{
	return log->zeroing && end > log->zeroed;
}

/* ---- read.c ---- */

/* Who reads a log, from a mark of its own on. */
struct logfile_cursor;

/* At the head.  0 or -ENOMEM. */
int logfile_cursor_open(struct logfile *log, struct logfile_cursor **cursor_out);

/* Pending pops end as cancelled; what is under way goes on without it. */
void logfile_cursor_close(struct logfile_cursor *cursor);

/* The next record, or the next to be acknowledged.  Fails with EBADMSG: it is damaged, or no record
 * begins at the cursor; ESTALE: it was truncated; EIO, ENOMEM.  The cursor stays there then. */
void logfile_pop(struct logfile_cursor *cursor, struct op *pop);

void logfile_cancel_pop(struct logfile_cursor *cursor, struct op *pop);

uint32_t logfile_pops(const struct logfile_cursor *cursor);

/* How many records are before it; 0 if it was set to where nobody knows. */
uint32_t logfile_ahead(const struct logfile_cursor *cursor);

/* As lseek(2), with record offsets: SEEK_SET, to 0: the oldest record; SEEK_CUR and SEEK_END by 0;
 * SEEK_DATA: the first good record at or behind, which blocks.  0 or -EINVAL, -EBUSY (pops are
 * pending), -ENXIO (SEEK_DATA: there is none), -EIO, -ENOMEM. */
int logfile_seek(struct logfile_cursor *cursor, int64_t offset, int whence, int64_t *offset_out);

/* There are more acknowledged records than before. */
void logfile_serve_readers(struct logfile *log);

/* ---- truncate.c ---- */

/* Collects what is before a record, or all: it completes when that is so for ever.  0 or -errno. */
int logfile_truncate(struct logfile *log, struct op *op, uint64_t offset);

/* The same for all that is acknowledged, blocking. */
int logfile_truncate_all(struct logfile *log);

/* ---- recover.c ---- */

/* Finds the segments of a log and its end.  0 or -errno. */
int logfile_recover(struct logfile *log);
