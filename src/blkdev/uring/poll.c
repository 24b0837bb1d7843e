/* SPDX-License-Identifier: MIT
 * blkdev/uring/poll.c - a ring whose completions are polled (IORING_SETUP_IOPOLL), where that
 * works.
 *
 * In the system call that collects completions the kernel asks a queue of the drive's that has no
 * interrupts.  The queue says whether it could; whether it does shows when a block is read.  Such a
 * ring takes reads and writes past the page cache only, and nobody can sleep until it has
 * something: it is for instances that never sleep.
 */
#include "blkdev/uring/uring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define STORAGE_POLL_NEVER 1 /* choice of demitasse.storage.poll */
#define TRY_NS             1000000000U

/* The time of the world, not of the instance, which may be a simulated one. */
static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* What came of the one request in the ring; -ETIMEDOUT: nothing yet. */
static int poll_one(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	uint64_t until = now_ns() + TRY_NS;

	while (io_uring_cq_ready(ring) == 0) {
		int err = io_uring_get_events(ring);
		if (err < 0 && err != -EINTR && err != -EAGAIN && err != -EBUSY)
			return err;
		if (now_ns() >= until)
			return -ETIMEDOUT;
	}
	if (io_uring_peek_cqe(ring, &cqe))
		return -EIO;
	int result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

/* Reads the first block into memory of its own: what the drive may still write there when we have
 * given up are pages that nobody has any more.  Bytes (none of an empty file), or -errno. */
static int read_first(struct io_uring *ring, int fd, uint32_t bytes)
{
	void *at = mmap(NULL, BLKDEV_BLOCK_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);

	if (at == MAP_FAILED)
		return -ENOMEM;
	io_uring_prep_read(io_uring_get_sqe(ring), fd, at, bytes, 0);
	int result = io_uring_submit(ring);
	if (result == 1)
		result = poll_one(ring);
	(void)munmap(at, BLKDEV_BLOCK_MAX);
	return result;
}

uint64_t uring_open_polled(struct io_uring *ring, uint32_t entries, const struct blkdev *dev,
			   const struct blkdev_file *file)
{
	struct sched *sched = dev->sched;
	uint32_t features;

	if (!sched->busy || sched->config.storage_poll == STORAGE_POLL_NEVER)
		return 0;
	uint64_t bytes = blkdev_file_polled_bytes(file);
	if (bytes == 0 || uring_make_ring(ring, entries, IORING_SETUP_IOPOLL, &features))
		return 0;
	int result = read_first(ring, file->fd, dev->block_bytes);
	if (result >= 0)
		return bytes;
	io_uring_queue_exit(ring);
	if (result != -EOPNOTSUPP && result != -EINVAL)
		log_write(&sched->log, LOG_LEVEL_INFO,
			  "logs: a polled read failed, completions come by interrupts: %s",
			  strerror(-result));
	return 0;
}
