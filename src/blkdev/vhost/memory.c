/* SPDX-License-Identifier: MIT
 * blkdev/vhost/memory.c - the memory that the daemon shares: the heap's region, so that what is
 * there goes without a copy; and the arena, of the queues and of chunks that other memory is copied
 * to and from.
 */
#include "blkdev/vhost/vhost.h"

#include "base/bits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEALS     (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SLOTS_MIN 8
#define ARENA_MIN (1U << 20)

/* ---- the memfd ---- */

static int make_memfd(uint64_t bytes, unsigned int flags)
{
	int fd = memfd_create("demitasse-vhost", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	if (fd < 0)
		return -errno;
	/* Huge pages that are not there are noticed now.  Sealed: a daemon that cuts it short must
	 * not kill us. */
	if (ftruncate(fd, (off_t)bytes) || (flags && fallocate(fd, 0, 0, (off_t)bytes)) ||
	    fcntl(fd, F_ADD_SEALS, SEALS)) {
		int err = -errno;
		(void)close(fd);
		return err;
	}
	return fd;
}

/* Of at least so many bytes. */
static int make_as_configured(const struct vhost *v, uint64_t *bytes)
{
	int64_t huge = v->dev.sched->config.huge_pages;
	uint64_t rounded = round_up(*bytes, SUPERBLOCK_BYTES);

	if (huge != PAGES_HUGE_NEVER) {
		int fd = make_memfd(rounded, MFD_HUGETLB | MFD_HUGE_2MB);
		if (fd >= 0)
			*bytes = rounded;
		if (fd >= 0 || huge == PAGES_HUGE_ALWAYS)
			return fd;
	}
	*bytes = round_up(*bytes, BLKDEV_BLOCK_MAX);
	return make_memfd(*bytes, 0);
}

/* Gives the heap a region, for its objects. */
static int make_region(const struct vhost *v, uint32_t units)
{
	uint64_t bytes = units * SUPERBLOCK_BYTES;
	int fd = make_as_configured(v, &bytes);

	if (fd < 0)
		return fd;
	int err = heap_set_region(v->dev.sched->heap, fd, 0, 0, units);
	(void)close(fd);
	return err;
}

/* The region that the heap has, of a network device's too; or three quarters of the memory become
 * one, unless a network device has frames elsewhere. */
static void find_region(struct vhost *v, uint64_t bytes)
{
	struct heap *heap = v->dev.sched->heap;
	uint32_t units = (uint32_t)((bytes - bytes / 4) >> SUPERBLOCK_SHIFT);

	if (!heap->region && heap->frame_bytes == 0 && units > 0) {
		int err = make_region(v, units);
		if (err)
			log_write(&v->dev.sched->log, LOG_LEVEL_WARNING,
				  "demitasse.storage.memory_bytes: %s (demitasse.heap_max_bytes "
				  "bounds it too): what a log reads and writes is copied",
				  strerror(-err));
	}
	v->region_fd = heap_region_fd(heap);
	if (v->region_fd < 0)
		return;
	v->region = heap->region;
	v->region_bytes = heap->region_bytes;
}

static int make_arena(struct vhost *v, uint64_t bytes)
{
	if (v->region)
		bytes = bytes / 4 > ARENA_MIN ? bytes / 4 : ARENA_MIN;
	v->arena_fd = make_as_configured(v, &bytes);
	if (v->arena_fd < 0)
		return v->arena_fd;
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->arena_fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	v->arena = at;
	v->arena_bytes = bytes;
	/* A child must not write there. */
	return madvise(at, bytes, MADV_DONTFORK) ? -errno : 0;
}

/* ---- what is in the arena ---- */

struct cursor {
	char *at;
};

static void *carve(struct cursor *cursor, uint64_t bytes)
{
	void *at = cursor->at;

	cursor->at += round_up(bytes, CACHE_LINE);
	return at;
}

/* Descriptors that a request may need, its head and status among them. */
static void plan_slots(struct vhost *v)
{
	bool indirect = vhost_has(v, VIRTIO_RING_F_INDIRECT_DESC);
	uint64_t slot_bytes;

	v->num_queues = v->drive.queues;
	v->table_entries = v->drive.segments_max + 2;
	if (!indirect) {
		v->num_slots = VHOST_RING_DIRECT / v->table_entries;
		return;
	}
	slot_bytes = sizeof(struct vhost_shared) + v->table_entries * sizeof(struct vring_desc);
	v->num_slots = VHOST_RING;
	while (v->num_slots > SLOTS_MIN &&
	       v->num_queues * v->num_slots * slot_bytes > v->arena_bytes / 4)
		v->num_slots /= 2;
}

static int lay_queue(struct vhost *v, struct vhost_queue *q, struct cursor *cursor)
{
	bool indirect = vhost_has(v, VIRTIO_RING_F_INDIRECT_DESC);
	uint32_t size = indirect ? VHOST_RING : VHOST_RING_DIRECT;
	uint64_t entries = (uint64_t)v->num_slots * v->table_entries;

	q->ring.num = size;
	q->ring.desc = carve(cursor, size * sizeof(*q->ring.desc));
	q->ring.avail = carve(cursor, sizeof(*q->ring.avail) + (size + 1) * sizeof(uint16_t));
	q->ring.used = carve(cursor, sizeof(*q->ring.used) + sizeof(uint16_t) +
					     size * sizeof(*q->ring.used->ring));
	q->shared = carve(cursor, v->num_slots * sizeof(*q->shared));
	if (indirect)
		q->tables = carve(cursor, entries * sizeof(*q->tables));
	q->slots = calloc(v->num_slots, sizeof(*q->slots));
	if (!q->slots)
		return -ENOMEM;
	q->free = VHOST_NONE;
	/* The last slot of the first queue is for our flush. */
	for (uint32_t i = v->num_slots - (q == v->queues); i-- > 0; q->free = i)
		q->slots[i].next = q->free;
	return 0;
}

static int lay_chunks(struct vhost *v, struct cursor *cursor)
{
	uint64_t left = v->arena_bytes - (uint64_t)(cursor->at - v->arena);
	uint32_t count = (uint32_t)(left / VHOST_CHUNK_BYTES);
	uint64_t bytes_max = (uint64_t)(count / 2) * VHOST_CHUNK_BYTES;

	v->chunk_base = cursor->at;
	v->chunk_next = calloc(count, sizeof(*v->chunk_next));
	if (!v->chunk_next)
		return -ENOMEM;
	v->chunks_left = count;
	v->chunk_free = VHOST_NONE;
	for (uint32_t i = count; i-- > 0; v->chunk_free = i)
		v->chunk_next[i] = v->chunk_free;
	/* So that any request fits when nothing else is under way. */
	if (v->dev.request_bytes_max > bytes_max)
		v->dev.request_bytes_max = bytes_max;
	return 0;
}

int vhost_memory_open(struct vhost *v)
{
	uint64_t bytes = (uint64_t)v->dev.sched->config.storage_memory_bytes;

	find_region(v, bytes);
	int err = make_arena(v, bytes);
	if (err)
		return err;
	struct cursor cursor = {.at = v->arena};
	plan_slots(v);
	for (uint32_t i = 0; i < v->num_queues; i++) {
		err = lay_queue(v, &v->queues[i], &cursor);
		if (err)
			return err;
	}
	return lay_chunks(v, &cursor);
}

/* The region is the heap's. */
void vhost_memory_close(struct vhost *v)
{
	for (uint32_t i = 0; i < v->num_queues; i++)
		free(v->queues[i].slots);
	free(v->chunk_next);
	if (v->arena)
		(void)munmap(v->arena, v->arena_bytes);
	if (v->arena_fd >= 0)
		(void)close(v->arena_fd);
}

/* ---- memory that the daemon does not reach ---- */

bool vhost_reaches(const struct vhost *v, const struct blk_request *request)
{
	for (uint32_t i = 0; i < request->num_iov; i++) {
		const char *at = request->iov[i].iov_base;
		if ((uint64_t)(at - v->region) >= v->region_bytes)
			return false;
	}
	return true;
}

uint32_t vhost_chunks_get(struct vhost *v, uint64_t bytes)
{
	uint32_t count = (uint32_t)((bytes + VHOST_CHUNK_BYTES - 1) / VHOST_CHUNK_BYTES);
	uint32_t first = v->chunk_free;
	uint32_t last = first;

	if (count > v->chunks_left)
		return VHOST_NONE;
	for (uint32_t i = 1; i < count; i++)
		last = v->chunk_next[last];
	v->chunk_free = v->chunk_next[last];
	v->chunk_next[last] = VHOST_NONE;
	v->chunks_left -= count;
	return first;
}

void vhost_chunks_put(struct vhost *v, uint32_t first)
{
	for (uint32_t chunk = first; chunk != VHOST_NONE;) {
		uint32_t next = v->chunk_next[chunk];
		v->chunk_next[chunk] = v->chunk_free;
		v->chunk_free = chunk;
		v->chunks_left++;
		chunk = next;
	}
}

void vhost_copy(const struct vhost *v, const struct blk_request *request, uint32_t chunk, bool back)
{
	uint64_t filled = 0; /* of the chunk */

	for (uint32_t i = 0; i < request->num_iov; i++) {
		char *at = request->iov[i].iov_base;
		uint64_t left = request->iov[i].iov_len;
		while (left > 0) {
			uint64_t room = VHOST_CHUNK_BYTES - filled;
			uint64_t n = left < room ? left : room;
			char *in = vhost_chunk(v, chunk) + filled;
			memcpy(back ? at : in, back ? in : at, n);
			at += n;
			left -= n;
			filled += n;
			if (filled == VHOST_CHUNK_BYTES) {
				filled = 0;
				chunk = v->chunk_next[chunk];
			}
		}
	}
}
