/* SPDX-License-Identifier: MIT
 * storage/store.h - a block device with the logs on it: its transfers, its superblock, and who has
 * which segment.
 *
 * A store belongs to one instance.  It is opened with its first log and closed when the last one
 * is.
 */
#pragma once

#include "base/list.h"
#include "blkdev/blkdev.h"
#include "storage/format.h"

#define STORE_IOV_MAX 12

struct store;

/* A transfer of any length: its owner's memory until done, and what it points to too.  Longer ones
 * are cut into requests that follow one another. */
struct store_io {
	uint8_t what; /* enum blk_what */
	bool durable;
	uint32_t num_iov;
	struct iovec iov[STORE_IOV_MAX];
	uint64_t offset;
	uint64_t bytes;
	void (*done)(struct store_io *io, int err);

	struct store *store;
	uint64_t begun_bytes;
	struct iovec part[STORE_IOV_MAX];
	struct blk_request request;
	int err;
	struct list node; /* of those that wait for room in the device, or ended early */
};

enum segment_state {
	SEGMENT_FREE,
	SEGMENT_USED,
	SEGMENT_DISCARDING,
	SEGMENT_DOUBTFUL, /* its header is damaged, and a log lacks a segment: it may be that one */
};

/* A segment of the device. */
struct store_segment {
	uint8_t state;                /* enum segment_state */
	struct segment_header header; /* as it was found; magic 0: there was none */
	bool blank;                   /* it was found to begin with zeros */
};

/* Who waits for the superblock to be on stable media as it was when he began to. */
struct super_waiter {
	void (*done)(struct super_waiter *waiter, int err);
	struct list node;
};

/* What `demi stat` shows of a device: requests that were done since it was opened. */
struct store_counts {
	uint64_t requests[4]; /* enum blk_what */
	uint64_t bytes[4];
	uint64_t durable; /* of the writes */
	uint64_t errors;  /* those that failed */
};

struct logfile;

struct store {
	struct sched *sched;
	struct blkdev *dev;
	char *path;
	bool writable;
	bool alone;       /* a file that is one log */
	struct list node; /* of the engine's */
	struct list logs; /* that are open */
	uint32_t leaving; /* logs whose last user has left */
	struct super super;
	struct list waiting; /* transfers */
	struct list early;   /* transfers that the device ended when it was given them */
	bool submitting;
	uint32_t under_way; /* transfers */
	struct store_counts counts;

	uint64_t segments_at;
	uint32_t num_segments;
	uint32_t max_segments;  /* room in segments */
	uint32_t free_segments; /* of the state SEGMENT_FREE */
	uint32_t next_segment;  /* where the search for a free one begins */
	struct store_segment *segments;

	struct store_io super_io;
	struct super *super_buffer; /* heap memory */
	struct list super_waiters;  /* for the one that is being written */
	struct list super_next;     /* for the one after it */
	bool super_writing;
	bool super_again;                  /* the second place */
	struct super_waiter super_blocked; /* who waits for it in super_sync_wait */
	bool super_blocked_over;
	int super_blocked_err;
	bool super_slot_begun[2]; /* zoned: since the store was opened */
	uint64_t super_slot_at[2];
	uint32_t super_slot; /* that is written next */
};

/* ---- store.c ---- */

/* Opens the device of a place, and what is on it; one that is blank is made a store if flags have
 * O_CREAT.  Blocks.  0 or -errno, told to the log: -EUCLEAN: both superblocks are damaged,
 * -EMEDIUMTYPE: it holds something else. */
int store_open(struct sched *sched, const struct blkdev_place *place, struct store **store_out);

/* The same on a device that is open, the store's from then on, after an error too. */
int store_open_on(struct blkdev *dev, const char *path, int flags, struct store **store_out);

/* Waits for what is under way, and frees it. */
void store_close(struct store *store);

void store_submit(struct store *store, struct store_io *io);
uint32_t store_poll(struct store *store);

/* Reads or writes bytes of heap memory at an offset of the device, and blocks until that is done.
 */
int store_transfer(struct store *store, enum blk_what what, uint64_t offset, void *memory,
		   uint64_t bytes);

/* Blocks until something of what is under way was done. */
void store_wait(struct store *store);

/* Memory for transfers: aligned to blocks.  NULL: no memory. */
void *store_alloc(struct store *store, uint64_t bytes);

/* ---- super.c ---- */

/* Reads the superblock, or makes one.  0 or -errno. */
int super_load(struct store *store, bool create);

/* Writes the superblock as it is now to stable media, then calls done. */
void super_sync(struct store *store, struct super_waiter *waiter);

/* The same, blocking. */
int super_sync_wait(struct store *store);

/* ---- segment.c ---- */

/* Reads the headers of all segments.  0 or -errno. */
int segment_load(struct store *store);

/* How many serial numbers from its head on a log may have: more than there are segments, as a file
 * that was cut short has lost some, but not any number that somebody wrote there. */
static inline uint64_t segment_serials_max(const struct store *store)
{
	return (uint64_t)store->num_segments + 65536;
}

/* Which segments hold records of the log in that slot of the superblock, by serial number from the
 * head's on: (*physical_out)[i], LOGFILE_SEGMENT_NONE where none was found; of two the one of the
 * later epoch.  The caller frees it.  0 or -ENOMEM. */
int segment_collect(struct store *store, uint32_t slot, uint32_t **physical_out,
		    uint32_t *count_out);

/* How many there are of a state. */
uint32_t segment_count(const struct store *store, enum segment_state state);

/* It is found to be in use. */
void segment_use(struct store *store, uint32_t segment);

/* A free segment, which is used then, or -ENOSPC; -EAGAIN: one is being discarded. */
int64_t segment_take(struct store *store);

void segment_give_back(struct store *store, uint32_t segment);

/* Nobody needs it any more. */
void segment_discard(struct store *store, uint32_t segment);

static inline uint64_t segment_at(const struct store *store, uint32_t segment)
{
	return store->segments_at + segment * store->super.segment_bytes;
}

/* What of a segment can be written. */
static inline uint64_t segment_room(const struct store *store)
{
	const struct blkdev *dev = store->dev;

	return dev->zone_bytes ? dev->zone_capacity_bytes : store->super.segment_bytes;
}
