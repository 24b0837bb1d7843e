/* SPDX-License-Identifier: MIT
 * blkdev/file.h - a regular file or block device as a place for blocks: what drivers over the
 * kernel's files have in common.  A leaf: it makes system calls.
 */
#pragma once

#include "blkdev/blkdev.h"

#include <stdbool.h>
#include <stdint.h>

struct blkdev_file {
	int fd;
	bool writable;
	bool device; /* a block device, not a regular file */
	bool direct; /* O_DIRECT */
	bool dsync;  /* a durable write needs RWF_DSYNC */
};

/* Opens, or makes, locks, and finds out: fills in what dev says of its geometry, but depth and
 * iov_max.  0 or -errno, told to the log. */
int blkdev_file_open(struct blkdev_file *file, struct sched *sched,
		     const struct blkdev_place *place, struct blkdev *dev);
void blkdev_file_close(struct blkdev_file *file);

/* See struct blkdev_ops. */
int blkdev_file_grow(const struct blkdev_file *file, struct blkdev *dev, uint64_t capacity_bytes);

/* Does the request stay inside of the device? */
static inline bool blkdev_file_inside(const struct blkdev *dev, const struct blk_request *request)
{
	return request->bytes <= dev->capacity_bytes &&
	       request->offset <= dev->capacity_bytes - request->bytes;
}

/* What is left of the segment in which the first `moved` bytes of a request end. */
struct iovec blkdev_file_rest(const struct blk_request *request, uint64_t moved);

/* So long may a request of one segment be whose completion the device is polled for, as far as the
 * device's queue says; 0: it cannot be. */
uint64_t blkdev_file_polled_bytes(const struct blkdev_file *file);

/* The err of a request whose system call failed with -errno. */
int blkdev_file_error(const struct blk_request *request, int err);

/* Does a request here and now; returns its err. */
int blkdev_file_run(const struct blkdev_file *file, const struct blk_request *request);
