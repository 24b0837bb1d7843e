/* SPDX-License-Identifier: MIT
 * blkdev/blkdev.h - the seam of back ends that move blocks under the log.
 *
 * Thread: that of the instance.  Nothing blocks but open, close and wait.  A request is its owner's
 * memory; from the moment submit took it until done is called it is the device's, and so is the
 * memory that its segments point to: heap memory of the instance, of any superblock.  A device that
 * cannot reach that memory by itself registers it when it first sees it, or goes by way of memory
 * of its own and says so (copies).
 *
 * Requests under way complete in any order, and a write is not ordered with any other request.  A
 * write that is not durable may be lost by a power cut until a flush, submitted after it was done,
 * is done too; of a write under way any of its blocks may arrive.
 */
#pragma once

#include "sched/sched.h"

#include <errno.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define BLKDEV_BLOCK_MAX 4096 /* largest block of a device */

enum blk_what {
	BLK_READ,
	BLK_WRITE,
	BLK_FLUSH,   /* everything that was done before it is on stable media */
	BLK_DISCARD, /* the range holds nothing that is needed: it may read as anything afterwards.
			Of a zoned device: one whole zone, which is empty then */
};

/* Set by the owner: all up to done. */
struct blk_request {
	uint8_t what;     /* enum blk_what */
	bool durable;     /* write: done when it is on stable media (FUA, RWF_DSYNC, or a flush of
			     the device's own) */
	uint32_t num_iov; /* read, write: 1 to the device's iov_max */
	const struct iovec *iov; /* each base and length a multiple of the device's memory_align */
	uint64_t offset;         /* of the first byte; a multiple of block_bytes */
	uint64_t bytes;          /* the sum of the segments', or of the range; a multiple of
				    block_bytes, at most the device's request_bytes_max (but for a
				    discard); 0 for a flush */
	/* Called from poll or wait, or for an error from submit.  It may submit, and free the
	 * request. */
	void (*done)(struct blk_request *request);
	int err; /* for done: 0 or -errno; -EIO: the device cannot, -ENOSPC: it is full, -ENODEV: it
		    is gone */

	/* The device's, while it has the request. */
	struct blk_request *next;
	uint64_t state;
};

struct blkdev;

/* All members are required. */
struct blkdev_ops {
	const char *name;
	/* Takes the first of count requests, as many as there is room for now; returns how many.
	 * There is room again when one of those under way is done. */
	uint32_t (*submit)(struct blkdev *dev, struct blk_request *const *requests, uint32_t count);
	/* Takes completions in: calls done of each.  Returns how many. */
	uint32_t (*poll)(struct blkdev *dev);
	/* Blocks until one at least of the requests under way (there are some) was done.  For open,
	 * close and tools. */
	void (*wait)(struct blkdev *dev);
	/* A file: makes it at least so long, blocks reserved, reading as zeros.  Blocks.  0,
	 * -ENOSPC ...; -ENOSPC for a device, whose capacity is fixed (blkdev_fixed). */
	int (*grow)(struct blkdev *dev, uint64_t capacity_bytes);
	/* Has a completion wake the instance: its descriptor is in sched->fds, lazy.  0, -EAGAIN:
	 * completions are there, -ENOTSUP: it must be polled. */
	int (*arm)(struct blkdev *dev);
	void (*disarm)(struct blkdev *dev);
	/* Earliest time at which poll must be called though nothing completes; TIMER_NEVER. */
	uint64_t (*next_deadline)(struct blkdev *dev);
	/* Frees it.  Nothing is under way. */
	void (*close)(struct blkdev *dev);
};

/* Embedded first in every device. */
struct blkdev {
	const struct blkdev_ops *ops;
	struct sched *sched;
	uint64_t capacity_bytes;    /* at present */
	uint64_t request_bytes_max; /* of a read or write; a multiple of BLKDEV_BLOCK_MAX */
	uint64_t zone_bytes;        /* 0: blocks may be written in any order; else the device is in
				       zones so far apart, each to be written from its start on, one
				       write at a time, and discarded whole */
	uint64_t zone_capacity_bytes; /* what can be written of each */
	uint32_t odd_bytes;           /* of a file, behind capacity_bytes: grow overwrites them */
	uint32_t block_bytes;         /* what is written as a whole or not at all, 512 or 4096 */
	uint32_t memory_align;        /* of segments: 1 to block_bytes, a power of two */
	uint32_t iov_max;             /* segments of a request */
	uint32_t depth;               /* requests under way that it takes */
	bool growable;                /* grow can help */
	bool discards;                /* a discard frees something */
	bool copies;                  /* data goes through memory of its own */
	bool volatile_cache;          /* it has a write cache that a power cut empties */
	bool file;                    /* it is a file, or a node, with these numbers */
	dev_t file_device;
	ino_t file_inode;
	char mode[48]; /* how it works, of several ways, for people; "": one */
};

/* Where a log is. */
struct blkdev_place {
	const char *path; /* driver uring: a file or block device; vhost: a Unix socket; nvme: a PCI
			     address; nvme-uring: a character device; sim: its size in bytes */
	int flags;        /* O_RDONLY or O_RDWR; O_CREAT, O_EXCL as in open(2) */
	mode_t mode;      /* of a file that is made */
};

/* grow of a device whose capacity is fixed. */
static inline int blkdev_fixed(struct blkdev *dev, uint64_t capacity_bytes)
{
	(void)dev;
	(void)capacity_bytes;
	return -ENOSPC;
}

/* table.c: opens a place by the driver of the configuration.  A place is one's alone: while another
 * instance or process has it open for writing, -EBUSY, with its holder in the log.  0 or -errno,
 * told to the log. */
int blkdev_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out);

/* file.c: is a device that is a file what that path names now?  The path that it was opened by may
 * name another one since, or none: removed, replaced, or relative to another directory. */
bool blkdev_is_at(const struct blkdev *dev, const char *path);

/* table.c: asserts that a device is complete. */
void blkdev_check(const struct blkdev *dev);
