/* SPDX-License-Identifier: MIT
 * blkdev/sim/sim.h - a block device in memory that does what drives do to those who trust them.
 *
 * The medium (struct blksim_disk) outlives the device: a crash is the end of a device, and another
 * one on the medium, or on one that blksim_cut made of it.  Data is on stable media, or unflushed:
 * sectors of writes that are under way, or were done and not flushed.  What a power cut leaves of
 * the unflushed sectors, each of 512 bytes by itself, the test chooses.
 *
 * Requests complete in an order of their own: each takes between half and one and a half times the
 * latency.  Reads see what was done before them.
 */
#pragma once

#include "blkdev/blkdev.h"

#define BLKSIM_SECTOR 512

struct blksim_disk;

struct blksim_options {
	uint64_t capacity_bytes;     /* at first */
	uint64_t capacity_max_bytes; /* what grow can make of it; 0: it is fixed */
	uint64_t zone_bytes;         /* 0: not zoned; else all of a zone can be written */
	uint64_t latency_ns;         /* of a read or write; a flush takes four times that */
	uint64_t seed;
	uint32_t block_bytes;  /* 0: 4096 */
	uint32_t memory_align; /* 0: block_bytes */
	uint32_t depth;        /* 0: 64 */
	bool volatile_cache;
};

/* A medium of zeros.  NULL: no memory. */
struct blksim_disk *blksim_disk_new(const struct blksim_options *options);
void blksim_disk_free(struct blksim_disk *disk);

/* A device on it; at most one at a time.  What a device left under way or unflushed when it was
 * given up (close) stays so.  0 or -ENOMEM. */
int blksim_attach(struct blksim_disk *disk, struct sched *sched, struct blkdev **dev_out);

/* A device and its own medium, by the configuration: the place's path is its size in bytes, with K,
 * M or G; no latency. */
int blksim_open_configured(struct sched *sched, const struct blkdev_place *place,
			   struct blkdev **dev_out);

/* ---- what goes wrong ---- */

/* Unflushed sectors, in the order of their submission: a sector that was written twice is there
 * twice. */
uint32_t blksim_unflushed(const struct blksim_disk *disk);

/* The medium after a power cut that left those unflushed sectors i for which keep(arg, i) holds;
 * the disk itself goes on.  NULL: no memory. */
struct blksim_disk *blksim_cut(const struct blksim_disk *disk, bool (*keep)(void *arg, uint32_t i),
			       void *arg);

/* Called after each request was submitted, and before each done; NULL: nobody. */
void blksim_watch(struct blksim_disk *disk, void (*event)(void *arg), void *arg);

/* The medium itself: capacity_bytes of it, what is stable. */
unsigned char *blksim_medium(struct blksim_disk *disk, uint64_t *capacity_bytes_out);

/* From now on the request after the next `after` of those of that kind that touch [offset, offset +
 * bytes) fails with err (negative), once or for ever; bytes 0: none fails any more. A write that
 * fails may have left any of its sectors: it stays unflushed. */
struct blksim_fault {
	uint64_t offset;
	uint64_t bytes;
	uint8_t what; /* enum blk_what */
	bool for_ever;
	uint32_t after;
	int err;
};

void blksim_fail(struct blksim_disk *disk, const struct blksim_fault *fault);

/* The next write goes to another place, so many bytes further (a multiple of 512), and is done. */
void blksim_misdirect(struct blksim_disk *disk, uint64_t by_bytes);
