/* SPDX-License-Identifier: MIT
 * blkdev/uring/uring.h - files and block devices by io_uring.
 */
#pragma once

#include "blkdev/blkdev.h"
#include "blkdev/file.h"

#include <liburing.h>

/* See blkdev_open.  -ENOSYS: there is no io_uring for this process; the log says which gate is
 * shut, and nothing was opened or made. */
int uring_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out);

/* A ring of so many entries, with these flags of io_uring_setup beside ours.  0 or -errno. */
int uring_make_ring(struct io_uring *ring, uint32_t entries, uint32_t flags,
		    uint32_t *features_out);

/* poll.c: a ring of so many entries that asks the file's device for completions.  For requests of
 * how many bytes at most; 0: there is none for this instance, or the device cannot. */
uint64_t uring_open_polled(struct io_uring *ring, uint32_t entries, const struct blkdev *dev,
			   const struct blkdev_file *file);

/* memory.c */
#define URING_SLOTS 32 /* a power of two: 64 MiB */

struct uring_memory {
	struct io_uring *ring; /* NULL: it takes none */
	struct heap_watcher watcher;
	uintptr_t slots[URING_SLOTS]; /* superblocks, with flags */
};

/* Before anything is in the ring.  Where it cannot be, nothing is registered. */
void uring_memory_open(struct uring_memory *memory, struct io_uring *ring, struct heap *heap);
void uring_memory_close(struct uring_memory *memory);

/* The registered buffer that all of a piece is in; -1: none. */
int uring_memory_find(struct uring_memory *memory, const struct iovec *piece);
