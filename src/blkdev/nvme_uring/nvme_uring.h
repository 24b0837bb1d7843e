/* SPDX-License-Identifier: MIT
 * blkdev/nvme_uring/nvme_uring.h - a drive's character device (/dev/ng0n1), by NVMe commands that
 * go through io_uring past the kernel's block layer.
 *
 * The drive may be in zones: writes are Zone Append then, and end with -EIO if they were put
 * elsewhere than asked; a discard is Zone Reset.
 */
#pragma once

#include "blkdev/blkdev.h"

int nvme_uring_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out);

/* What a drive is.  identify.c */
struct nvme_uring_drive {
	uint32_t nsid;
	uint32_t block_shift;
	uint64_t capacity_bytes;
	uint64_t request_bytes_max;
	uint64_t zone_bytes; /* 0: not in zones */
	uint64_t zone_capacity_bytes;
	bool volatile_cache;
	bool discards;
};

/* Asks it.  0 or -errno, told to the log. */
int nvme_uring_identify(struct sched *sched, int fd, const char *path,
			struct nvme_uring_drive *drive);
