/* SPDX-License-Identifier: MIT
 * blkdev/uring/uring.c - see uring.h.
 *
 * A request is its own context: user_data is its address, and its state the bytes that were moved.
 * After a short transfer the rest of the segment that it ended in goes out, then the next.
 *
 * The ring belongs to no thread: an instance may be entered by another while requests are under
 * way.  So it has neither SINGLE_ISSUER nor what depends on that, DEFER_TASKRUN.  Completions come
 * by way of the thread that submitted.  It is not interrupted for them (COOP_TASKRUN: a read of 4
 * KiB takes 73 to 83 us for 83 to 98) but takes them in when a poll sees that there are some; when
 * it has left the instance to another thread and goes on without a system call, at its next
 * interrupt, the tick at the latest.  They end a sleep in epoll as a signal does, or by the ring's
 * descriptor.
 *
 * Of memory that was transferred once the pages are known to the kernel from then on (memory.c).
 *
 * Where the device can be polled (poll.c) there is a second ring, for short reads and writes; its
 * completions are there when a system call has asked for them.  When the device refuses one later,
 * it is done by the first ring, and so are those that come after it.
 *
 * Invariant: under_way requests are in one of the rings, or in failed.  Each ring has an entry for
 * each.
 */
#include "blkdev/uring/uring.h"

#include "base/assert.h"
#include "base/bits.h"

#include <linux/falloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH       128 /* a power of two */
#define YIELD_POLLS 8

struct ring {
	struct io_uring io;
	struct uring_memory memory;
	uint32_t inside; /* requests */
	bool fixed_file;
};

struct uring {
	struct blkdev dev;
	struct ring ring;
	struct ring polled;
	struct blkdev_file file;
	struct fd_watch watch;      /* its fd is that of ring */
	struct blk_request *failed; /* by submit, for poll */
	uint32_t under_way;
	uint32_t by_workers; /* of them what threads of the kernel end */
	uint32_t empty_polls;
	uint64_t polled_bytes; /* so long may a request be that goes to the ring polled; 0: none
				  does */
	bool has_polled;       /* there is that ring */
	bool polling;          /* what is submitted from done goes out together */
};

static struct uring *uring_of(struct blkdev *dev)
{
	return container_of(dev, struct uring, dev);
}

/* Is it ended by a thread of the kernel?  With a flush behind it that the device cannot do with the
 * write (FUA) a write is, too. */
static bool by_worker(const struct uring *uring, const struct blk_request *request)
{
	return request->what == BLK_FLUSH || request->what == BLK_DISCARD ||
	       (request->what == BLK_WRITE && request->durable && uring->file.dsync);
}

/* ---- out ---- */

/* A transfer of one piece. */
static void prepare_piece(struct ring *ring, struct io_uring_sqe *sqe, bool read,
			  const struct iovec *piece, uint64_t offset)
{
	int buffer = uring_memory_find(&ring->memory, piece);
	int operation = read ? IORING_OP_READ : IORING_OP_WRITE;

	if (buffer >= 0)
		operation = read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
	io_uring_prep_rw(operation, sqe, -1, piece->iov_base, (unsigned)piece->iov_len, offset);
	if (buffer >= 0)
		sqe->buf_index = (uint16_t)buffer;
}

static void prepare_move(const struct uring *uring, struct ring *ring, struct io_uring_sqe *sqe,
			 const struct blk_request *request)
{
	uint64_t moved = request->state;
	uint64_t offset = request->offset + moved;
	bool read = request->what == BLK_READ;

	if (request->num_iov == 1 || moved > 0) {
		struct iovec rest = blkdev_file_rest(request, moved);
		prepare_piece(ring, sqe, read, &rest, offset);
	} else {
		io_uring_prep_rw(read ? IORING_OP_READV : IORING_OP_WRITEV, sqe, -1, request->iov,
				 request->num_iov, offset);
	}
	if (!read && request->durable && uring->file.dsync)
		sqe->rw_flags = RWF_DSYNC;
}

static bool goes_polled(const struct uring *uring, const struct blk_request *request)
{
	return request->bytes <= uring->polled_bytes && request->num_iov == 1 &&
	       (request->what == BLK_READ || request->what == BLK_WRITE);
}

static void prepare(struct uring *uring, struct blk_request *request)
{
	struct ring *ring = goes_polled(uring, request) ? &uring->polled : &uring->ring;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->io);

	ASSERT(sqe);
	if (request->what == BLK_FLUSH)
		io_uring_prep_fsync(sqe, -1, IORING_FSYNC_DATASYNC);
	else if (request->what == BLK_DISCARD)
		io_uring_prep_fallocate(sqe, -1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)request->offset, (off_t)request->bytes);
	else
		prepare_move(uring, ring, sqe, request);
	sqe->fd = ring->fixed_file ? 0 : uring->file.fd;
	sqe->flags |= ring->fixed_file ? IOSQE_FIXED_FILE : 0;
	io_uring_sqe_set_data(sqe, request);
	ring->inside++;
}

/* What the kernel does not take now (-EAGAIN, -EBUSY) stays for the next poll. */
static void put_out(struct uring *uring)
{
	if (io_uring_sq_ready(&uring->ring.io) > 0)
		(void)io_uring_submit(&uring->ring.io);
	if (uring->has_polled && io_uring_sq_ready(&uring->polled.io) > 0)
		(void)io_uring_submit(&uring->polled.io);
}

static uint32_t uring_submit(struct blkdev *dev, struct blk_request *const *requests,
			     uint32_t count)
{
	struct uring *uring = uring_of(dev);
	uint32_t taken = 0;

	while (taken < count && uring->under_way < DEPTH) {
		struct blk_request *request = requests[taken++];
		uring->under_way++;
		uring->by_workers += by_worker(uring, request);
		request->state = 0;
		if (likely(blkdev_file_inside(dev, request))) {
			prepare(uring, request);
			continue;
		}
		request->next = uring->failed;
		uring->failed = request;
	}
	if (!uring->polling)
		put_out(uring);
	return taken;
}

/* ---- in ---- */

/* Takes in what came of a request.  False: it goes on. */
static bool advance(struct uring *uring, struct blk_request *request, int result)
{
	bool moves = request->what == BLK_READ || request->what == BLK_WRITE;

	request->err = 0;
	/* -ECANCELED: the thread that submitted it ended. */
	if (unlikely(result == -EAGAIN || result == -EINTR || result == -ECANCELED)) {
		prepare(uring, request);
		return false;
	}
	if (unlikely(result < 0)) {
		request->err = blkdev_file_error(request, result);
		return true;
	}
	if (unlikely(moves && result == 0)) {
		request->err = -EIO; /* somebody made the file shorter */
		return true;
	}
	request->state += (uint64_t)result;
	if (likely(!moves || request->state == request->bytes))
		return true;
	prepare(uring, request);
	return false;
}

static void finish(struct uring *uring, struct blk_request *request)
{
	uring->under_way--;
	uring->by_workers -= by_worker(uring, request);
	request->done(request);
}

static uint32_t finish_failed(struct uring *uring)
{
	struct blk_request *list = uring->failed;
	uint32_t done = 0;

	uring->failed = NULL;
	for (; list; done++) {
		struct blk_request *request = list;
		list = list->next;
		request->err = -EIO;
		finish(uring, request);
	}
	return done;
}

/* The kernel's thread is bound to the CPU of the device's interrupt.  If that is the one we spin
 * on, it waits for the end of our time slice unless we give way: one durable write of ten took 4 ms
 * then, against 0.25. */
static void give_way(struct uring *uring)
{
	if (++uring->empty_polls % YIELD_POLLS == 0)
		(void)sched_yield();
}

/* Has the kernel look at the device, once.  How many completions are there. */
static uint32_t collect(struct ring *polled)
{
	if (io_uring_cq_ready(&polled->io) == 0)
		(void)io_uring_get_events(&polled->io);
	return io_uring_cq_ready(&polled->io);
}

static bool take_one(struct uring *uring, struct ring *ring, struct io_uring_cqe *cqe)
{
	struct blk_request *request = io_uring_cqe_get_data(cqe);
	int result = cqe->res;

	io_uring_cqe_seen(&ring->io, cqe);
	ring->inside--;
	if (unlikely(result == -EOPNOTSUPP && ring == &uring->polled)) {
		uring->polled_bytes = 0;
		prepare(uring, request);
		return false;
	}
	if (!advance(uring, request, result))
		return false;
	finish(uring, request);
	return true;
}

static uint32_t take(struct uring *uring, struct ring *ring, uint32_t most)
{
	struct io_uring_cqe *cqe;
	uint32_t done = 0;

	for (; most > 0 && io_uring_peek_cqe(&ring->io, &cqe) == 0; most--)
		done += take_one(uring, ring, cqe);
	return done;
}

/* At most what was under way when it began: done may submit what is done at once. */
static uint32_t uring_poll(struct blkdev *dev)
{
	struct uring *uring = uring_of(dev);
	uint32_t done = 0;

	if (uring->under_way == 0)
		return 0;
	uring->polling = true;
	uint32_t polled = uring->polled.inside > 0 ? collect(&uring->polled) : 0;
	if (uring->ring.inside > 0)
		done = take(uring, &uring->ring, uring->ring.inside);
	if (polled > 0)
		done += take(uring, &uring->polled, polled);
	if (unlikely(uring->failed))
		done += finish_failed(uring);
	uring->polling = false;
	put_out(uring);
	if (done == 0 && uring->by_workers > 0)
		give_way(uring);
	return done;
}

static void uring_wait(struct blkdev *dev)
{
	struct uring *uring = uring_of(dev);

	ASSERT(uring->under_way > 0);
	while (uring_poll(dev) == 0) {
		if (uring->polled.inside == 0)
			(void)io_uring_submit_and_wait(&uring->ring.io, 1);
	}
}

/* ---- sleep ---- */

/* What is in the second ring is not done but by polls: there is something to do. */
static int uring_arm(struct blkdev *dev)
{
	struct uring *uring = uring_of(dev);
	struct io_uring *io = &uring->ring.io;
	uint32_t flags = *(volatile unsigned *)io->sq.kflags;

	/* Work of the kernel's that is left then (IORING_SQ_TASKRUN) brings no completion: the
	 * sleep itself does it.  No poll would. */
	if (uring->under_way == 0 && !uring->failed)
		return 0;
	return uring->failed || uring->polled.inside > 0 || io_uring_sq_ready(io) > 0 ||
			       io_uring_cq_ready(io) > 0 ||
			       (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN))
		       ? -EAGAIN
		       : 0;
}

static void uring_disarm(struct blkdev *dev)
{
	(void)dev;
}

static uint64_t uring_next_deadline(struct blkdev *dev)
{
	(void)dev;
	return TIMER_NEVER;
}

static void woken(struct fd_watch *watch, uint32_t events)
{
	(void)watch;
	(void)events;
}

/* ---- life ---- */

static int uring_grow(struct blkdev *dev, uint64_t capacity_bytes)
{
	return blkdev_file_grow(&uring_of(dev)->file, dev, capacity_bytes);
}

/* The ring itself ends in the background: its copy of the descriptor must not. */
static void end_ring(struct ring *ring)
{
	uring_memory_close(&ring->memory);
	if (ring->fixed_file)
		(void)io_uring_unregister_files(&ring->io);
	io_uring_queue_exit(&ring->io);
}

static void uring_close(struct blkdev *dev)
{
	struct uring *uring = uring_of(dev);

	fdset_remove(&dev->sched->fds, &uring->watch);
	end_ring(&uring->ring);
	if (uring->has_polled)
		end_ring(&uring->polled);
	blkdev_file_close(&uring->file);
	free(uring);
}

static const struct blkdev_ops uring_ops = {
	.name = "uring",
	.submit = uring_submit,
	.poll = uring_poll,
	.wait = uring_wait,
	.grow = uring_grow,
	.arm = uring_arm,
	.disarm = uring_disarm,
	.next_deadline = uring_next_deadline,
	.close = uring_close,
};

/* Which gate is shut, of those that an io_uring has. */
static void tell_barred(struct sched *sched, int err)
{
	static const char path[] = "/proc/sys/kernel/io_uring_disabled";
	FILE *file = fopen(path, "re");
	int value = file ? fgetc(file) : 0;
	const char *gate = "a filter of system calls (seccomp) bars it, as containers have";

	if (file)
		(void)fclose(file);
	if (value == '2')
		gate = "the sysctl kernel.io_uring_disabled is 2";
	else if (value == '1' && err == -EPERM)
		gate = "the sysctl kernel.io_uring_disabled is 1, and this process is not of "
		       "kernel.io_uring_group";
	else if (err == -EOPNOTSUPP)
		gate = "that of a kernel before 5.6 lacks what it takes";
	else if (err == -ENOMEM)
		gate = "the limit of locked memory (ulimit -l) has no room for one";
	else if (err == -ENOSYS)
		gate = "the kernel has none, or a filter of system calls (seccomp) bars it";
	log_write(&sched->log, LOG_LEVEL_WARNING,
		  "no io_uring for logs, but a thread that is slower: %s (%s)", gate,
		  strerror(-err));
}

int uring_make_ring(struct io_uring *ring, uint32_t entries, uint32_t flags, uint32_t *features_out)
{
	struct io_uring_params params = {.flags = flags | IORING_SETUP_COOP_TASKRUN |
						  IORING_SETUP_TASKRUN_FLAG};
	int err = io_uring_queue_init_params(entries, ring, &params);

	if (err == -EINVAL) { /* a kernel before 5.19 */
		params = (struct io_uring_params){.flags = flags};
		err = io_uring_queue_init_params(entries, ring, &params);
	}
	*features_out = params.features;
	return err;
}

/* -ENOSYS: barred. */
static int open_ring(struct uring *uring, struct sched *sched)
{
	uint32_t features;
	int err = uring_make_ring(&uring->ring.io, DEPTH, 0, &features);

	if (!err && !(features & IORING_FEAT_RW_CUR_POS)) { /* came with IORING_OP_READ */
		io_uring_queue_exit(&uring->ring.io);
		tell_barred(sched, -EOPNOTSUPP);
		return -ENOSYS;
	}
	if (err == -ENOSYS || err == -EPERM || err == -EACCES || err == -ENOMEM) {
		tell_barred(sched, err);
		return -ENOSYS;
	}
	if (err)
		log_write(&sched->log, LOG_LEVEL_ERROR, "no io_uring for logs: %s", strerror(-err));
	return err;
}

/* What the kernel would look up at each request. */
static void prepare_ring(struct ring *ring, int fd, struct heap *heap)
{
	ring->fixed_file = io_uring_register_files(&ring->io, &fd, 1) == 0;
	uring_memory_open(&ring->memory, &ring->io, heap);
}

static void open_polled(struct uring *uring)
{
	struct blkdev *dev = &uring->dev;
	size_t length = strlen(dev->mode);

	uring->polled_bytes = uring_open_polled(&uring->polled.io, DEPTH, dev, &uring->file);
	if (uring->polled_bytes == 0)
		return;
	prepare_ring(&uring->polled, uring->file.fd, dev->sched->heap);
	uring->has_polled = true;
	(void)snprintf(dev->mode + length, sizeof(dev->mode) - length, ", polled");
}

static int open_file(struct uring *uring, const struct blkdev_place *place)
{
	struct sched *sched = uring->dev.sched;
	int err = blkdev_file_open(&uring->file, sched, place, &uring->dev);

	if (err)
		return err;
	uring->watch = (struct fd_watch){.fd = uring->ring.io.ring_fd, .lazy = true, .fn = woken};
	err = fdset_add(&sched->fds, &uring->watch, EPOLLIN);
	if (err) {
		blkdev_file_close(&uring->file);
		return err;
	}
	prepare_ring(&uring->ring, uring->file.fd, sched->heap);
	open_polled(uring);
	return 0;
}

int uring_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out)
{
	struct uring *uring = calloc(1, sizeof(*uring));

	if (!uring)
		return -ENOMEM;
	uring->dev =
		(struct blkdev){.ops = &uring_ops, .sched = sched, .iov_max = 64, .depth = DEPTH};
	int err = open_ring(uring, sched);
	if (err) {
		free(uring);
		return err;
	}
	err = open_file(uring, place);
	if (err) {
		io_uring_queue_exit(&uring->ring.io);
		free(uring);
		return err;
	}
	*dev_out = &uring->dev;
	return 0;
}
