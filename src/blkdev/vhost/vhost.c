/* SPDX-License-Identifier: MIT
 * blkdev/vhost/vhost.c - the block device; see vhost.h.
 */
#include "blkdev/vhost/vhost.h"

#include "base/bits.h"
#include "blkdev/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define IDLE_POLLS 4096 /* between two looks at the socket */
#define WAIT_MS    20   /* longest sleep of wait */
#define CONNECT_MS 10   /* between two tries while the daemon's queue is full */
#define NS_OF_MS   1000000ULL

/* ---- at work ---- */

static uint32_t vhost_poll(struct blkdev *dev)
{
	struct vhost *v = vhost_of(dev);
	uint32_t count = 0;

	v->polling = true;
	if (unlikely(v->state != VHOST_READY))
		vhost_revive(v);
	count += vhost_reap(v);
	if (unlikely(v->ended.first != NULL))
		count += vhost_end(v);
	v->polling = false;
	vhost_push(v);
	if (count > 0)
		v->idle_polls = 0;
	else if (unlikely(v->link.look || ++v->idle_polls >= IDLE_POLLS) && v->state == VHOST_READY)
		vhost_look(v);
	return count;
}

static int vhost_arm(struct blkdev *dev)
{
	struct vhost *v = vhost_of(dev);
	bool there = v->ended.first || v->link.look;

	if (v->state != VHOST_READY)
		return there ? -EAGAIN : 0;
	for (uint32_t i = 0; i < v->num_queues; i++)
		vhost_queue_call(v, &v->queues[i], true);
	/* The daemon puts an entry in, then looks whether we want to be called. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < v->num_queues; i++)
		there |= vhost_queue_used(&v->queues[i]) != 0;
	if (there)
		dev->ops->disarm(dev);
	return there ? -EAGAIN : 0;
}

static void vhost_disarm(struct blkdev *dev)
{
	struct vhost *v = vhost_of(dev);

	for (uint32_t i = 0; v->state == VHOST_READY && i < v->num_queues; i++)
		vhost_queue_call(v, &v->queues[i], false);
}

static void sleep_on(const struct vhost *v)
{
	struct pollfd fds[] = {{.fd = v->call.fd, .events = POLLIN},
			       {.fd = v->link.watch.fd, .events = POLLIN}};

	(void)poll(fds, ARRAY_LENGTH(fds), WAIT_MS);
}

static void vhost_wait(struct blkdev *dev)
{
	struct vhost *v = vhost_of(dev);
	uint64_t calls;

	while (vhost_poll(dev) == 0) {
		(void)!read(v->call.fd, &calls, sizeof(calls));
		if (vhost_arm(dev) == 0) {
			sleep_on(v);
			vhost_disarm(dev);
			v->link.look = true;
		}
		(void)sched_now(dev->sched);
	}
}

static void called(struct fd_watch *watch, uint32_t events)
{
	(void)watch; /* poll looks at the rings anyway */
	(void)events;
}

/* ---- life ---- */

static void vhost_close(struct blkdev *dev)
{
	struct vhost *v = vhost_of(dev);

	vhost_disconnect(v);
	fdset_remove(&dev->sched->fds, &v->call);
	for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
		if (v->queues[i].kick_fd >= 0)
			(void)close(v->queues[i].kick_fd);
	}
	if (v->call.fd >= 0)
		(void)close(v->call.fd);
	vhost_memory_close(v);
	if (v->lock_fd >= 0)
		(void)close(v->lock_fd);
	free(v);
}

static const struct blkdev_ops vhost_ops = {
	.name = "vhost",
	.submit = vhost_submit,
	.poll = vhost_poll,
	.wait = vhost_wait,
	.grow = blkdev_fixed,
	.arm = vhost_arm,
	.disarm = vhost_disarm,
	.next_deadline = vhost_next_deadline,
	.close = vhost_close,
};

static int make_eventfds(struct vhost *v)
{
	v->call = (struct fd_watch){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .lazy = true, .fn = called};
	if (v->call.fd < 0)
		return -errno;
	for (uint32_t i = 0; i < v->num_queues; i++) {
		v->queues[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (v->queues[i].kick_fd < 0)
			return -errno;
	}
	return fdset_add(&v->dev.sched->fds, &v->call, EPOLLIN | EPOLLET);
}

/* What a request may be.  Where segments must be cut, half of them are left for that. */
static void describe(struct vhost *v)
{
	const struct vhost_drive *drive = &v->drive;
	struct blkdev *dev = &v->dev;
	bool cut = drive->segment_bytes_max < VHOST_REQUEST_BYTES && drive->segments_max > 1;
	uint32_t segments = cut ? drive->segments_max / 2 : drive->segments_max;
	uint64_t each = drive->segment_bytes_max < VHOST_CHUNK_BYTES ? drive->segment_bytes_max
								     : VHOST_CHUNK_BYTES;
	uint64_t bytes = segments * each;

	dev->capacity_bytes = drive->capacity_bytes;
	dev->block_bytes = drive->block_bytes;
	dev->memory_align = 1;
	dev->iov_max = segments;
	dev->request_bytes_max = bytes < VHOST_REQUEST_BYTES ? bytes : VHOST_REQUEST_BYTES;
	dev->request_bytes_max &= ~(uint64_t)(BLKDEV_BLOCK_MAX - 1);
	dev->volatile_cache = vhost_has(v, VIRTIO_BLK_F_FLUSH);
	dev->discards = drive->discard_bytes_max > 0;
}

int vhost_prepare(struct vhost *v, const struct vhost_drive *drive)
{
	struct blkdev *dev = &v->dev;

	if (!v->read_only && drive->features >> VIRTIO_BLK_F_RO & 1)
		return -EROFS;
	v->drive = *drive;
	describe(v);
	int err = vhost_memory_open(v);
	if (!err)
		err = make_eventfds(v);
	if (err)
		return err;
	for (uint32_t i = 0; i < v->num_queues; i++)
		vhost_queue_reset(v, &v->queues[i]);
	dev->depth = v->num_queues * v->num_slots - 1;
	if (dev->depth > v->chunks_left)
		dev->depth = v->chunks_left;
	dev->copies = !v->region;
	(void)snprintf(dev->mode, sizeof(dev->mode), "%u queues of %u%s", v->num_queues,
		       v->num_slots, v->region ? "" : ", copying");
	return 0;
}

static int lock(struct vhost *v)
{
	char path[sizeof(v->path) + 8];

	(void)snprintf(path, sizeof(path), "%s.lock", v->path);
	v->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (v->lock_fd < 0) {
		int err = -errno;
		log_write(&v->dev.sched->log, LOG_LEVEL_ERROR, "%s: %s", path, strerror(-err));
		return err;
	}
	return blkdev_lock(v->dev.sched, v->lock_fd, v->path, true);
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * NS_OF_MS + (uint64_t)now.tv_nsec;
}

/* Connects and greets, for at most VHOST_ANSWER_NS. */
static int greet(struct vhost *v)
{
	uint64_t end_ns = clock_ns() + VHOST_ANSWER_NS;
	int err = vhost_connect(v);

	for (uint64_t now_ns = clock_ns(); now_ns < end_ns; now_ns = clock_ns()) {
		if (err == -EAGAIN) {
			(void)poll(NULL, 0, CONNECT_MS);
			err = vhost_connect(v);
			continue;
		}
		if (!err)
			err = vhost_greet(v);
		if (err != -EAGAIN)
			return err;
		struct pollfd fd = {.fd = v->link.watch.fd, .events = POLLIN};
		(void)poll(&fd, 1, (int)((end_ns - now_ns) / NS_OF_MS) + 1);
		err = 0;
	}
	return -ETIMEDOUT;
}

static int begin(struct vhost *v)
{
	int err = lock(v);

	if (err)
		return err;
	err = greet(v);
	if (err)
		log_write(&v->dev.sched->log, LOG_LEVEL_ERROR, "%s: the storage daemon: %s",
			  v->path, vhost_reason(err));
	return err;
}

int vhost_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out)
{
	struct vhost *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->dev = (struct blkdev){.ops = &vhost_ops, .sched = sched};
	v->read_only = (place->flags & O_ACCMODE) == O_RDONLY;
	v->link.watch.fd = v->call.fd = v->arena_fd = v->lock_fd = -1;
	for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++)
		v->queues[i].kick_fd = -1;
	int err = strlen(place->path) < sizeof(v->path) ? 0 : -ENAMETOOLONG;
	if (!err) {
		(void)snprintf(v->path, sizeof(v->path), "%s", place->path);
		err = begin(v);
	}
	if (err) {
		vhost_close(&v->dev);
		return err;
	}
	vhost_begin(v);
	*dev_out = &v->dev;
	return 0;
}
