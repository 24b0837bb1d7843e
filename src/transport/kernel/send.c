/* SPDX-License-Identifier: MIT
 * transport/kernel/send.c - pushes: tried at once, held while the socket takes no more.
 */
#include "transport/kernel/kernel.h"

#include "base/assert.h"
#include "sched/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the system call ---- */

/* The part of an I/O vector behind skip bytes. */
static uint32_t remainder_of(struct iovec *out, const struct iovec *iov, uint32_t count,
			     uint64_t skip)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (skip >= iov[i].iov_len && iov[i].iov_len > 0) {
			skip -= iov[i].iov_len;
			continue;
		}
		out[n++] = (struct iovec){.iov_base = (char *)iov[i].iov_base + skip,
					  .iov_len = iov[i].iov_len - skip};
		skip = 0;
	}
	return n;
}

static ssize_t send_vector(int fd, const struct iovec *iov, uint32_t count,
			   const struct sockaddr *to, socklen_t length)
{
	if (likely(count == 1))
		return sendto(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL, to, length);
	struct msghdr message = {
		.msg_name = (void *)(uintptr_t)to,
		.msg_namelen = length,
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = count,
	};
	return sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* One system call.  Bytes taken, or -errno; -EAGAIN: the socket takes no more. */
static inline ssize_t send_once(struct ksock *ks, const struct iovec *iov, uint32_t count,
				const struct sockaddr *to, socklen_t length)
{
	struct sched *sched = ks->queue.sched;
	const int saved_errno = errno;
	ssize_t taken = send_vector(ks->watch.fd, iov, count, to, length);

	sched_count(sched, COUNTER_SEND_CALLS, 1);
	if (likely(taken >= 0)) {
		sched_count(sched, COUNTER_BYTES_OUT, (uint64_t)taken);
		return taken;
	}
	int err = errno;
	errno = saved_errno;
	if (err == EAGAIN) {
		sched_count(sched, COUNTER_SEND_BLOCKED, 1);
		ks->writable = false;
	}
	return -err;
}

static inline uint64_t vector_bytes(const struct iovec *iov, uint32_t count)
{
	uint64_t bytes = iov->iov_len;

	for (uint32_t i = 1; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* Sends until all is taken or the socket takes no more; *done counts bytes taken.  0: all; -EAGAIN;
 * other -errno. */
static int send_some(struct ksock *ks, const struct iovec *iov, uint32_t count, uint64_t *done,
		     const struct sockaddr *to, socklen_t length)
{
	uint64_t bytes = vector_bytes(iov, count);
	struct iovec rest[OP_SEGMENTS_MAX];
	const struct iovec *next = iov;
	uint32_t n = count;

	for (;;) {
		if (unlikely(*done > 0)) {
			n = remainder_of(rest, iov, count, *done);
			next = rest;
		}
		ssize_t taken = send_once(ks, next, n, to, length);
		if (unlikely(taken == -EINTR))
			continue;
		if (unlikely(taken < 0))
			return (int)taken;
		*done += (uint64_t)taken;
		if (likely(*done >= bytes))
			return 0;
	}
}

/* What the application is told: a reset behind the peer's end is EPIPE to the kernel. */
static int push_error(const struct ksock *ks, int err)
{
	return err == -EPIPE && ks->stream && !ks->write_shut ? -ECONNRESET : err;
}

/* Is a failed push the end of the connection?  Not if the kernel was short of memory, or could not
 * read the application's, before the first byte. */
static bool breaks_stream(const struct ksock *ks, int err, uint64_t done)
{
	return ks->stream && (done > 0 || (err != -ENOMEM && err != -ENOBUFS && err != -EFAULT));
}

/* ---- what a push holds ---- */

static bool copy_segment(struct ksock *ks, struct kernel_held *held, uint32_t i, uint64_t limit)
{
	uint64_t bytes = held->iov[i].iov_len;

	if (bytes == 0 || (ks->copied_bytes > 0 && ks->copied_bytes + bytes > limit))
		return false;
	char *copy = heap_alloc(ks->queue.sched->heap, bytes);
	if (!copy)
		return false;
	memcpy(copy, held->iov[i].iov_base, bytes);
	held->iov[i].iov_base = copy;
	held->copied[i] = true;
	held->copied_bytes += bytes;
	ks->copied_bytes += bytes;
	return true;
}

static int hold(struct ksock *ks, struct op *op, const struct sockaddr *to, socklen_t length)
{
	struct heap *heap = ks->queue.sched->heap;
	uint32_t foreign = foreign_segments(op);
	struct iovec one;

	hold_segments(op);
	if (!foreign && !to)
		return 0;
	struct kernel_held *held = calloc(1, sizeof(*held));
	if (!held) {
		release_segments(heap, op);
		return -ENOMEM;
	}
	memcpy(held->iov, op_vector(op, &one), op->numsegs * sizeof(*held->iov));
	if (to) {
		memcpy(&held->to, to, length);
		held->to_length = length;
	}
	for (uint32_t i = 0; foreign >> i; i++) {
		if (foreign >> i & 1) /* over the limit it is read in place */
			(void)copy_segment(ks, held, i,
					   (uint64_t)ks->queue.sched->config.send_limit_bytes);
	}
	op->transport = held;
	return 0;
}

/* The queue is closed and the application forgets its memory: what is still read in place is
 * copied.  False: no memory. */
static bool hold_all(struct ksock *ks, struct op *op)
{
	struct kernel_held *held = op->transport;
	uint32_t ours = op_ours(op);

	for (uint32_t i = 0; held && i < op->numsegs; i++) {
		if (!(ours >> i & 1) && !held->copied[i] && held->iov[i].iov_len > 0 &&
		    !copy_segment(ks, held, i, UINT64_MAX))
			return false;
	}
	return true;
}

static void release(struct ksock *ks, struct op *op)
{
	struct heap *heap = ks->queue.sched->heap;
	struct kernel_held *held = op->transport;

	release_segments(heap, op);
	op->transport = NULL;
	if (!held)
		return;
	for (uint32_t i = 0; i < op->numsegs; i++) {
		if (held->copied[i])
			(void)heap_free(heap, held->iov[i].iov_base);
	}
	ks->copied_bytes -= held->copied_bytes;
	free(held);
}

/* ---- pushes ---- */

static int check_push(const struct ksock *ks, const struct op *op, const struct sockaddr *to)
{
	if (!ks->stream && ks->write_shut)
		return -EPIPE;
	if (!ks->stream)
		return to || ks->state == KSOCK_CONNECTED ? 0 : -EDESTADDRREQ;
	if (to)
		return -ENOTSUP;
	if (ks->state != KSOCK_CONNECTED)
		return -ENOTCONN;
	if (ks->write_shut)
		return -EPIPE;
	return op_bytes(op) == 0 ? -EINVAL : 0;
}

/* Enters a push behind the others; done bytes of it were taken. */
static int wait_for_room(struct ksock *ks, struct op *op, uint64_t done, const struct sockaddr *to,
			 socklen_t length)
{
	int err = ksock_watch_output(ks);

	if (!err)
		err = hold(ks, op, to, length);
	if (err)
		return err;
	if (op_list_empty(&ks->pushes))
		ks->push_done = done;
	if (done > 0)
		op->flags |= OP_STARTED;
	op_list_append(&ks->queue.sched->ops, &ks->pushes, op);
	return 0;
}

int kernel_push(struct queue *queue, struct op *op, const struct sockaddr *to, socklen_t length)
{
	struct ksock *ks = ksock_of(queue);
	struct sched *sched = queue->sched;
	uint64_t done = 0;
	int err = check_push(ks, op, to);

	if (unlikely(err))
		return err;
	if (unlikely(ks->reset)) {
		op_complete(sched, op, ks->reset);
		return 0;
	}
	if (likely(ks->writable && op_list_empty(&ks->pushes))) {
		struct iovec one;
		err = send_some(ks, op_vector(op, &one), op->numsegs, &done, to, length);
		if (likely(err != -EAGAIN)) {
			err = push_error(ks, err);
			if (unlikely(err) && breaks_stream(ks, err, done))
				ks->reset = -err;
			op_complete(sched, op, -err);
			return 0;
		}
	}
	err = wait_for_room(ks, op, done, to, length);
	if (err && done > 0) { /* part of it is on its way and the rest can't be kept: the stream is
				  broken */
		ks->reset = -err;
		op_complete(sched, op, -err);
		err = 0;
	}
	return err;
}

static int send_first(struct ksock *ks, struct op *op)
{
	struct kernel_held *held = op->transport;
	struct iovec one;
	const struct iovec *iov = held ? held->iov : op_vector(op, &one);
	const struct sockaddr *to =
		held && held->to_length ? (const struct sockaddr *)&held->to : NULL;
	uint64_t before = ks->push_done;

	int err = send_some(ks, iov, op->numsegs, &ks->push_done, to, to ? held->to_length : 0);
	if (ks->push_done > before)
		op->flags |= OP_STARTED;
	return err;
}

static void finish_push(struct ksock *ks, struct op *op, int err)
{
	struct sched *sched = ks->queue.sched;

	op_list_remove(&sched->ops, &ks->pushes, op);
	release(ks, op);
	op_complete(sched, op, err);
}

/* What kernel_shutdown put off, once the last push is done. */
static void end_output(struct ksock *ks)
{
	if (ks->write_shut && op_list_empty(&ks->pushes))
		(void)shutdown(ks->watch.fd, SHUT_WR);
}

uint32_t kernel_send_pending(struct ksock *ks)
{
	struct op_slab *ops = &ks->queue.sched->ops;
	uint32_t finished = 0;

	for (struct op *op; ks->writable && (op = op_list_first(ops, &ks->pushes)); finished++) {
		int err = send_first(ks, op);
		if (err == -EAGAIN)
			return finished;
		ks->push_done = 0;
		if (err && ks->stream) {
			ks->reset = -push_error(ks, err);
			kernel_fail_pushes(ks, ks->reset);
			return finished + 1;
		}
		finish_push(ks, op, -err);
	}
	if (finished > 0)
		end_output(ks);
	return finished;
}

void kernel_fail_pushes(struct ksock *ks, int err)
{
	struct op *op;

	ks->push_done = 0;
	while ((op = op_list_first(&ks->queue.sched->ops, &ks->pushes)))
		finish_push(ks, op, err);
}

void kernel_cancel_push(struct ksock *ks, struct op *op)
{
	if (op->flags & OP_STARTED)
		return;
	finish_push(ks, op, ECANCELED);
	end_output(ks);
}

bool kernel_cut_pushes(struct ksock *ks)
{
	struct op_slab *ops = &ks->queue.sched->ops;
	struct op *first = op_list_first(ops, &ks->pushes);
	bool started = first && (first->flags & OP_STARTED);
	struct op *next;

	while ((next = started ? op_list_next(ops, first) : op_list_first(ops, &ks->pushes)))
		finish_push(ks, next, ECANCELED);
	if (started && !hold_all(ks, first)) {
		finish_push(ks, first, ENOMEM);
		return false;
	}
	return started;
}
