/* SPDX-License-Identifier: MIT
 * mem/superblock.c - superblocks: where their memory comes from, and how it goes back.
 *
 * A superblock's memory is a unit of the region that a device shares, if there is one to spare, or
 * the page source's.
 */
#include "mem/superblock.h"

#include "base/assert.h"
#include "mem/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* The current superblock of a class that has none: always full, never written. */
const struct superblock superblock_none = {.free_head = OBJECT_NONE};

static void tell_watchers(struct heap *heap, const struct superblock *sb)
{
	list_for_each (node, &heap->watchers) {
		struct heap_watcher *watcher = container_of(node, struct heap_watcher, in_heap);
		watcher->going(watcher, sb->base, sb->units * SUPERBLOCK_BYTES);
	}
}

/* A unit of the region stays, for another superblock. */
static void memory_put(struct heap *heap, struct superblock *sb)
{
	if (sb->in_region) {
		pages_enter(sb->base, NULL);
		heap->region_spare[heap->region_spares++] = sb->base;
	} else {
		tell_watchers(heap, sb);
		pages_put(sb->base, sb->units);
	}
	heap->units -= sb->units;
}

/* 0 or -ENOMEM. */
static int memory_get(struct heap *heap, struct superblock *sb)
{
	if (heap->units + sb->units > heap->units_max)
		return -ENOMEM;
	sb->in_region = sb->units == 1 && heap->region_spares > 0;
	if (sb->in_region) {
		sb->base = heap->region_spare[--heap->region_spares];
		pages_enter(sb->base, sb);
	} else if (pages_get(sb->units, heap->huge_pages, sb, &sb->base)) {
		return -ENOMEM;
	}
	heap->units += sb->units;
	return 0;
}

static void superblock_free(struct superblock *sb)
{
	free(sb->objects);
	free(sb->remotes);
	free(sb);
}

void superblock_delete(struct heap *heap, struct superblock *sb)
{
	guard_live(sb->base, sb->units * SUPERBLOCK_BYTES);
	memory_put(heap, sb);
	heap->frame_blocks -= sb->class == HEAP_FRAMES;
	list_remove(&sb->in_heap);
	list_remove(&sb->in_class);
	superblock_free(sb);
}

static struct superblock *superblock_try(struct heap *heap, uint32_t class, uint64_t object_bytes,
					 uint32_t units)
{
	uint32_t capacity = class == HEAP_CLASSES ? 1 : (uint32_t)(SUPERBLOCK_BYTES / object_bytes);
	struct superblock *sb = aligned_alloc(CACHE_LINE, sizeof(*sb));

	if (!sb)
		return NULL;
	*sb = (struct superblock){
		.heap = heap,
		.object_bytes = object_bytes,
		.reciprocal = class == HEAP_CLASSES
				      ? 0
				      : (((uint64_t)1 << HEAP_RECIPROCAL_SHIFT) + object_bytes -
					 1) / object_bytes,
		.objects = calloc(capacity, sizeof(*sb->objects)),
		.remotes = calloc(capacity, sizeof(*sb->remotes)),
		.free_head = OBJECT_NONE,
		.capacity = capacity,
		.class = class,
		.units = units,
		.remote_head = OBJECT_NONE,
	};
	list_init(&sb->in_class);
	if (!sb->objects || !sb->remotes || memory_get(heap, sb)) {
		superblock_free(sb);
		return NULL;
	}
	heap->frame_blocks += class == HEAP_FRAMES;
	list_append(&heap->superblocks, &sb->in_heap);
	guard_free(sb->base, units * SUPERBLOCK_BYTES);
	return sb;
}

void superblock_trim_huge(struct heap *heap, uint64_t units_max)
{
	list_for_each_safe (node, after, &heap->huge_cache) {
		struct superblock *sb = container_of(node, struct superblock, in_class);
		if (heap->huge_cached_units <= units_max)
			return;
		if (superblock_remote_pending(sb))
			continue;
		heap->huge_cached_units -= sb->units;
		superblock_delete(heap, sb);
	}
}

/* Frames of the region stay where they are. */
bool superblock_lasts(const struct superblock *sb)
{
	return sb->in_region && sb->class == HEAP_FRAMES;
}

/* Has no live object, and is not the last superblock of frames: without a frame nothing could be
 * sent or received any more, not even what would free the memory that others hold. */
static bool is_needless(const struct heap *heap, const struct superblock *sb)
{
	return sb->used == 0 && !superblock_remote_pending(sb) && !superblock_lasts(sb) &&
	       (sb->class != HEAP_FRAMES || heap->frame_blocks > 1);
}

/* Memory is short: gives back what no live object needs. */
static void reclaim(struct heap *heap)
{
	superblock_trim_huge(heap, 0);
	for (uint32_t class = 0; class <= HEAP_FRAMES; class ++) {
		struct superblock *sb = heap->current[class];
		if (sb != &superblock_none && is_needless(heap, sb)) {
			heap->current[class] = (struct superblock *)(uintptr_t)&superblock_none;
			superblock_delete(heap, sb);
		}
		list_for_each_safe (node, after, &heap->partial[class]) {
			sb = container_of(node, struct superblock, in_class);
			if (is_needless(heap, sb))
				superblock_delete(heap, sb);
		}
	}
}

struct superblock *superblock_new(struct heap *heap, uint32_t class, uint64_t object_bytes,
				  uint32_t units)
{
	struct superblock *sb = superblock_try(heap, class, object_bytes, units);

	if (unlikely(!sb)) {
		reclaim(heap);
		sb = superblock_try(heap, class, object_bytes, units);
	}
	return sb;
}

/* ---- the region ---- */

/* All of the region becomes spare units, the one with the lowest address last: the first to be
 * taken. */
static int enter_region(struct heap *heap, char *region, uint32_t units)
{
	char **spare = calloc(units, sizeof(*spare));

	if (!spare || heap->units + units > heap->units_max) {
		free(spare);
		return -ENOMEM;
	}
	heap->region = region;
	heap->region_bytes = units * SUPERBLOCK_BYTES;
	heap->region_spare = spare;
	heap->region_spares = units;
	for (uint32_t i = 0; i < units; i++)
		spare[i] = heap->region + (units - 1 - i) * SUPERBLOCK_BYTES;
	return 0;
}

static void forget_region(struct heap *heap)
{
	free(heap->region_spare);
	heap->region_spare = NULL;
	heap->region_spares = 0;
	heap->region = NULL;
	heap->region_bytes = 0;
	heap->region_put = NULL;
}

/* Nothing is in it any more. */
void superblock_unmap_region(struct heap *heap)
{
	if (heap->region_put)
		heap->region_put(heap->region, heap->region_bytes);
	for (uint32_t i = 0; !heap->region_put && i < heap->region_spares; i++)
		pages_put(heap->region_spare[i], 1);
	if (heap_region_fd(heap) >= 0)
		(void)close(heap->region_fd);
	forget_region(heap);
}

/* 0 or -ENOMEM: no superblock is in the region then. */
static int make_frames(struct heap *heap, uint64_t frame_bytes, uint32_t frame_units)
{
	while (heap->frame_blocks < frame_units) {
		struct superblock *sb = superblock_try(heap, HEAP_FRAMES, frame_bytes, 1);
		if (!sb)
			goto out;
		sb->detached = true;
		list_append(&heap->partial[HEAP_FRAMES], &sb->in_class);
	}
	heap->frame_bytes = frame_bytes;
	heap->frame_room = frame_bytes;
	heap->frame_blocks_max = frame_units;
	return 0;

out:
	list_for_each_safe (node, after, &heap->partial[HEAP_FRAMES])
		superblock_delete(heap, container_of(node, struct superblock, in_class));
	return -ENOMEM;
}

int heap_set_region(struct heap *heap, int fd, uint64_t frame_bytes, uint32_t frame_units,
		    uint32_t units)
{
	char *region;

	ASSERT(heap->frame_bytes == 0 && frame_units <= units);
	ASSERT((frame_units > 0) == (frame_bytes > 0));
	if (heap->region)
		return -EBUSY;
	int err = pages_get_shared(units, fd, &region);
	if (err)
		return err;
	err = enter_region(heap, region, units);
	if (err) {
		pages_put(region, units);
		return err;
	}
	heap->region_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	err = make_frames(heap, frame_bytes, frame_units);
	if (err)
		superblock_unmap_region(heap);
	return err;
}

int heap_lend_region(struct heap *heap, const struct heap_loan *loan)
{
	ASSERT(heap->frame_bytes == 0 && loan->frame_units > 0 && loan->frame_units <= loan->units);
	ASSERT(loan->device_bytes < loan->frame_bytes);
	if (heap->region)
		return -EBUSY;
	int err = enter_region(heap, loan->region, loan->units);
	if (err)
		return err;
	err = make_frames(heap, loan->frame_bytes, loan->frame_units);
	if (err) {
		forget_region(heap);
		return err;
	}
	heap->region_put = loan->put;
	heap->frame_room = loan->frame_bytes - loan->device_bytes;
	return 0;
}
