/* SPDX-License-Identifier: MIT
 * blkdev/nvme_uring/nvme_uring.c - see nvme_uring.h.
 *
 * The ring belongs to no thread, as that of the driver uring, and its descriptor wakes epoll.
 * It is never one that polls the drive (IORING_SETUP_IOPOLL), though drives may have queues for
 * that: a flush, which has no memory, has Linux 6.1 poll by a pointer that was never set, and
 * crash. Memory is told to the kernel with each command, which pins its pages for as long, so that
 * nothing is known of superblocks that may go.
 *
 * Invariants: a slot has a request if it is not in the list of free ones; it is in the ring, in
 * held (to go out again at again_ns), or in over (to end in the next poll).
 */
#include "blkdev/nvme_uring/nvme_uring.h"

#include "base/assert.h"
#include "base/bits.h"
#include "blkdev/lock.h"
#include "blkdev/nvme_command.h"
#include "blkdev/nvme_status.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEPTH       128 /* a power of two */
#define IOV_MAX_OUR 32  /* see REQUEST_MAX in identify.c */
#define RANGES      16  /* of a discard, of up to 2^32 blocks; more is not discarded */
#define RETRIES_MAX 5
#define RETRY_NS    20000000 /* before the first retry; doubled each time */
#define ZONE_RESET  4        /* Zone Send Action, in dword 13 */

struct slot {
	struct slot *next; /* in one of the lists */
	struct blk_request *request;
	uint64_t again_ns;
	uint32_t retries;
	int err;
	struct nvme_range ranges[RANGES];
};

struct nvme_uring {
	struct blkdev dev;
	struct io_uring ring;
	struct fd_watch watch; /* its fd is the ring's */
	struct nvme_uring_drive drive;
	int fd;
	uint32_t in_ring;
	uint32_t num_free;
	bool polling; /* what is submitted from done goes out together */
	struct slot *free;
	struct slot *held;
	struct slot *over;
	struct slot slots[DEPTH];
};

static struct nvme_uring *nvme_uring_of(struct blkdev *dev)
{
	return container_of(dev, struct nvme_uring, dev);
}

static void push(struct slot **list, struct slot *slot)
{
	slot->next = *list;
	*list = slot;
}

static struct slot *pop(struct slot **list)
{
	struct slot *slot = *list;

	if (slot)
		*list = slot->next;
	return slot;
}

/* ---- commands ---- */

static void set_first(struct nvme_uring_cmd *command, uint64_t block)
{
	command->cdw10 = (uint32_t)block;
	command->cdw11 = (uint32_t)(block >> 32);
}

static void make_discard(const struct nvme_uring *nvme, struct nvme_uring_cmd *command,
			 struct slot *slot)
{
	uint64_t first = slot->request->offset >> nvme->drive.block_shift;
	uint64_t left = slot->request->bytes >> nvme->drive.block_shift;
	uint32_t count = 0;

	if (nvme->drive.zone_bytes) {
		command->opcode = NVME_ZONE_SEND;
		command->cdw13 = ZONE_RESET;
		set_first(command, first);
		return;
	}
	for (; left > 0 && count < RANGES; count++) {
		uint32_t blocks = left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
		slot->ranges[count] = (struct nvme_range){.blocks = blocks, .first = first};
		first += blocks;
		left -= blocks;
	}
	command->opcode = NVME_DSM;
	command->addr = (uintptr_t)slot->ranges;
	command->data_len = count * (uint32_t)sizeof(slot->ranges[0]);
	command->cdw10 = count - 1;
	command->cdw11 = NVME_DSM_DISCARD;
}

/* Returns the operation: of one piece of memory, or of several. */
static uint32_t make_transfer(const struct nvme_uring *nvme, struct nvme_uring_cmd *command,
			      const struct blk_request *request)
{
	const struct nvme_uring_drive *drive = &nvme->drive;
	uint64_t offset = request->offset;

	command->opcode = request->what == BLK_READ ? NVME_READ : NVME_WRITE;
	command->cdw12 = (uint32_t)(request->bytes >> drive->block_shift) - 1;
	if (request->durable && drive->volatile_cache && request->what == BLK_WRITE)
		command->cdw12 |= NVME_FUA;
	if (drive->zone_bytes && request->what == BLK_WRITE) {
		command->opcode = NVME_ZONE_APPEND;
		offset -= offset % drive->zone_bytes;
	}
	set_first(command, offset >> drive->block_shift);
	if (request->num_iov == 1) {
		command->addr = (uintptr_t)request->iov[0].iov_base;
		command->data_len = (uint32_t)request->bytes;
		return NVME_URING_CMD_IO;
	}
	command->addr = (uintptr_t)request->iov;
	command->data_len = request->num_iov;
	return NVME_URING_CMD_IO_VEC;
}

static void prepare(struct nvme_uring *nvme, struct slot *slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&nvme->ring);
	struct nvme_uring_cmd command = {.nsid = nvme->drive.nsid, .opcode = NVME_FLUSH};
	uint32_t operation = NVME_URING_CMD_IO;

	ASSERT(sqe);
	if (slot->request->what == BLK_DISCARD)
		make_discard(nvme, &command, slot);
	else if (slot->request->what != BLK_FLUSH)
		operation = make_transfer(nvme, &command, slot->request);
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, nvme->fd, NULL, 0, 0);
	sqe->cmd_op = operation;
	memcpy(sqe->cmd, &command, sizeof(command));
	io_uring_sqe_set_data(sqe, slot);
	nvme->in_ring++;
}

/* 0, or why a request cannot be. */
static int check(const struct nvme_uring *nvme, const struct blk_request *request)
{
	uint64_t capacity = nvme->dev.capacity_bytes;
	uint64_t zone = nvme->drive.zone_bytes;

	if (request->offset > capacity || request->bytes > capacity - request->offset)
		return -EIO;
	if (request->what == BLK_DISCARD && zone &&
	    (request->bytes != zone || request->offset % zone > 0))
		return -EINVAL;
	return 0;
}

/* What the kernel does not take now (-EAGAIN, -EBUSY) stays for the next poll. */
static void put_out(struct nvme_uring *nvme)
{
	if (io_uring_sq_ready(&nvme->ring) > 0)
		(void)io_uring_submit(&nvme->ring);
}

static void begin(struct nvme_uring *nvme, struct blk_request *request)
{
	struct slot *slot = pop(&nvme->free);
	bool nothing = request->what == BLK_DISCARD && (!nvme->dev.discards || !request->bytes);

	nvme->num_free--;
	slot->request = request;
	slot->retries = 0;
	slot->err = check(nvme, request);
	if (unlikely(slot->err || nothing))
		push(&nvme->over, slot);
	else
		prepare(nvme, slot);
}

static uint32_t nvme_uring_submit(struct blkdev *dev, struct blk_request *const *requests,
				  uint32_t count)
{
	struct nvme_uring *nvme = nvme_uring_of(dev);
	uint32_t taken = 0;

	while (taken < count && nvme->free)
		begin(nvme, requests[taken++]);
	if (!nvme->polling)
		put_out(nvme);
	return taken;
}

/* ---- completions ---- */

static void finish(struct nvme_uring *nvme, struct slot *slot, int err)
{
	struct blk_request *request = slot->request;

	push(&nvme->free, slot);
	nvme->num_free++;
	request->err = err;
	request->done(request);
}

/* A write in a zone that somebody else wrote to, too, or that does not go on there. */
static int check_place(struct nvme_uring *nvme, const struct blk_request *request, uint64_t block)
{
	struct sched *sched = nvme->dev.sched;

	if (!nvme->drive.zone_bytes || request->what != BLK_WRITE ||
	    block == request->offset >> nvme->drive.block_shift)
		return 0;
	log_once(&sched->log, &sched->log_seen, LOG_LEVEL_ERROR,
		 "nvme-uring: what was to be written to block %llu went to block %llu: others "
		 "write to this drive, or its zones were not reset (said once)",
		 (unsigned long long)(request->offset >> nvme->drive.block_shift),
		 (unsigned long long)block);
	return -EIO;
}

/* The error that a result, negative or a status, stands for. */
static int error_of(int result, bool *again_out)
{
	*again_out = result == -EAGAIN || result == -EINTR || result == -ECANCELED;
	if (result > 0)
		return nvme_status_error((uint16_t)result, again_out);
	return result == -ENODEV || result == -ENXIO ? -ENODEV : -EIO;
}

/* False: it is tried again. */
static bool failed(struct nvme_uring *nvme, struct slot *slot, int result)
{
	struct sched *sched = nvme->dev.sched;
	bool again;
	int err = error_of(result, &again);

	if (again && slot->retries < RETRIES_MAX) {
		slot->again_ns = sched->now_ns + ((uint64_t)RETRY_NS << slot->retries++);
		push(&nvme->held, slot);
		return false;
	}
	log_once(&sched->log, &sched->log_seen, LOG_LEVEL_WARNING,
		 "nvme-uring: a request at %llu failed: %s 0x%x (said once)",
		 (unsigned long long)slot->request->offset, result < 0 ? "error" : "status",
		 result < 0 ? (unsigned)-result : (unsigned)result);
	finish(nvme, slot, err);
	return true;
}

static bool take_one(struct nvme_uring *nvme, const struct io_uring_cqe *cqe)
{
	struct slot *slot = io_uring_cqe_get_data(cqe);
	uint64_t value = cqe->big_cqe[0];
	int result = cqe->res;

	io_uring_cq_advance(&nvme->ring, 1);
	nvme->in_ring--;
	if (unlikely(result != 0))
		return failed(nvme, slot, result);
	finish(nvme, slot, check_place(nvme, slot->request, value));
	return true;
}

static uint32_t end_over(struct nvme_uring *nvme)
{
	struct slot *list = nvme->over;
	uint32_t done = 0;

	nvme->over = NULL;
	for (struct slot *slot; (slot = pop(&list)); done++)
		finish(nvme, slot, slot->err);
	return done;
}

static void retry_held(struct nvme_uring *nvme)
{
	struct slot *list = nvme->held;

	nvme->held = NULL;
	for (struct slot *slot; (slot = pop(&list));) {
		if (slot->again_ns <= nvme->dev.sched->now_ns)
			prepare(nvme, slot);
		else
			push(&nvme->held, slot);
	}
}

/* At most what was in the ring when it began: done may submit what is done at once. */
static uint32_t nvme_uring_poll(struct blkdev *dev)
{
	struct nvme_uring *nvme = nvme_uring_of(dev);
	struct io_uring_cqe *cqe;
	uint32_t done = 0;

	if (nvme->num_free == DEPTH)
		return 0;
	nvme->polling = true;
	for (uint32_t left = nvme->in_ring; left > 0; left--) {
		if (io_uring_peek_cqe(&nvme->ring, &cqe))
			break;
		done += take_one(nvme, cqe);
	}
	if (unlikely(nvme->over))
		done += end_over(nvme);
	if (unlikely(nvme->held))
		retry_held(nvme);
	nvme->polling = false;
	put_out(nvme);
	return done;
}

static void nvme_uring_wait(struct blkdev *dev)
{
	static const struct timespec pause = {.tv_nsec = 1000000};
	struct nvme_uring *nvme = nvme_uring_of(dev);

	ASSERT(nvme->num_free < DEPTH);
	while (nvme_uring_poll(dev) == 0) {
		if (nvme->held)
			(void)nanosleep(&pause, NULL);
		else
			(void)io_uring_submit_and_wait(&nvme->ring, 1);
		(void)sched_now(dev->sched);
	}
}

/* ---- sleep ---- */

static int nvme_uring_arm(struct blkdev *dev)
{
	struct nvme_uring *nvme = nvme_uring_of(dev);

	return nvme->over || io_uring_sq_ready(&nvme->ring) > 0 ||
			       io_uring_cq_ready(&nvme->ring) > 0 ||
			       io_uring_cq_has_overflow(&nvme->ring)
		       ? -EAGAIN
		       : 0;
}

static void nvme_uring_disarm(struct blkdev *dev)
{
	(void)dev;
}

static uint64_t nvme_uring_next_deadline(struct blkdev *dev)
{
	const struct nvme_uring *nvme = nvme_uring_of(dev);
	uint64_t first = TIMER_NEVER;

	for (const struct slot *slot = nvme->held; slot; slot = slot->next)
		first = slot->again_ns < first ? slot->again_ns : first;
	return first;
}

static void woken(struct fd_watch *watch, uint32_t events)
{
	(void)watch;
	(void)events;
}

/* ---- life ---- */

static void nvme_uring_free(struct nvme_uring *nvme)
{
	fdset_remove(&nvme->dev.sched->fds, &nvme->watch);
	if (nvme->ring.ring_fd >= 0)
		io_uring_queue_exit(&nvme->ring);
	if (nvme->fd >= 0)
		(void)close(nvme->fd);
	free(nvme);
}

static void nvme_uring_close(struct blkdev *dev)
{
	nvme_uring_free(nvme_uring_of(dev));
}

static const struct blkdev_ops nvme_uring_ops = {
	.name = "nvme-uring",
	.submit = nvme_uring_submit,
	.poll = nvme_uring_poll,
	.wait = nvme_uring_wait,
	.grow = blkdev_fixed,
	.arm = nvme_uring_arm,
	.disarm = nvme_uring_disarm,
	.next_deadline = nvme_uring_next_deadline,
	.close = nvme_uring_close,
};

static int open_drive(struct nvme_uring *nvme, const struct blkdev_place *place)
{
	struct sched *sched = nvme->dev.sched;
	bool writes = (place->flags & O_ACCMODE) != O_RDONLY;

	nvme->fd = open(place->path, (place->flags & O_ACCMODE) | O_CLOEXEC);
	if (nvme->fd < 0) {
		int err = -errno;
		log_write(&sched->log, LOG_LEVEL_ERROR, "%s: %s", place->path, strerror(-err));
		return err;
	}
	int err = blkdev_lock(sched, nvme->fd, place->path, writes);
	return err ? err : nvme_uring_identify(sched, nvme->fd, place->path, &nvme->drive);
}

static int open_ring(struct nvme_uring *nvme)
{
	struct sched *sched = nvme->dev.sched;
	int err = io_uring_queue_init(DEPTH, &nvme->ring, IORING_SETUP_SQE128 | IORING_SETUP_CQE32);

	if (err) {
		nvme->ring.ring_fd = -1;
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "no io_uring that takes commands of a drive: %s%s", strerror(-err),
			  err == -EINVAL ? " (that wants Linux 5.19)" : "");
		return err;
	}
	nvme->watch = (struct fd_watch){.fd = nvme->ring.ring_fd, .lazy = true, .fn = woken};
	return fdset_add(&sched->fds, &nvme->watch, EPOLLIN);
}

static void describe(struct nvme_uring *nvme)
{
	const struct nvme_uring_drive *drive = &nvme->drive;
	struct blkdev *dev = &nvme->dev;

	dev->capacity_bytes = drive->capacity_bytes;
	dev->request_bytes_max = drive->request_bytes_max;
	dev->zone_bytes = drive->zone_bytes;
	dev->zone_capacity_bytes = drive->zone_capacity_bytes;
	dev->block_bytes = 1U << drive->block_shift;
	dev->memory_align = dev->block_bytes;
	dev->discards = drive->discards;
	dev->volatile_cache = drive->volatile_cache;
	(void)snprintf(dev->mode, sizeof(dev->mode), "passthrough%s",
		       drive->zone_bytes ? ", zones" : "");
}

int nvme_uring_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out)
{
	struct nvme_uring *nvme = calloc(1, sizeof(*nvme));

	if (!nvme)
		return -ENOMEM;
	nvme->dev = (struct blkdev){
		.ops = &nvme_uring_ops, .sched = sched, .iov_max = IOV_MAX_OUR, .depth = DEPTH};
	nvme->ring.ring_fd = -1;
	for (uint32_t i = 0; i < DEPTH; i++)
		push(&nvme->free, &nvme->slots[i]);
	nvme->num_free = DEPTH;
	int err = open_drive(nvme, place);
	if (!err)
		err = open_ring(nvme);
	if (err) {
		nvme_uring_free(nvme);
		return err;
	}
	describe(nvme);
	*dev_out = &nvme->dev;
	return 0;
}
