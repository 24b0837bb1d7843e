/* SPDX-License-Identifier: MIT */
#include "mem/heap.h"

#include "base/assert.h"
#include "mem/borrow.h"
#include "mem/guard.h"
#include "mem/superblock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FRESH_BATCH \
	64 /* objects linked at a time, so that a new superblock's pages are touched late */
#define HUGE_CACHE_UNITS 64 /* freed huge runs kept: 128 MiB */

static_assert(sizeof(struct object) == 8, "eight counts a cache line");
static_assert(HEAP_CLASS_MAX_BYTES < SUPERBLOCK_BYTES, "several objects a superblock");

static uint64_t class_bytes(const struct heap *heap, uint32_t class)
{
	if (class == HEAP_FRAMES)
		return heap->frame_bytes;
	if (class < 8)
		return (class + 1) * 16;
	uint32_t doubling = (class - 8) / 4;
	uint32_t quarter = (class - 8) % 4;
	return ((uint64_t)(5 + quarter) << doubling) * 32;
}

/* Links the next fresh objects into the free list, which is empty. */
static void superblock_refill(struct superblock *sb)
{
	uint32_t end =
		sb->fresh + FRESH_BATCH < sb->capacity ? sb->fresh + FRESH_BATCH : sb->capacity;

	for (uint32_t i = end; i-- > sb->fresh;) {
		sb->objects[i].lib_refs = OBJECT_FREE | sb->free_head;
		sb->free_head = i;
	}
	sb->fresh = end;
}

static bool superblock_full(const struct superblock *sb)
{
	return sb->free_head == OBJECT_NONE && sb->fresh == sb->capacity;
}

/* A superblock with a free object becomes current; the full one that was current is found again
 * when it has a free object. */
static void make_current(struct heap *heap, uint32_t class, struct superblock *sb)
{
	struct superblock *old = heap->current[class];

	if (old != &superblock_none)
		old->detached = true;
	list_remove(&sb->in_class);
	sb->detached = false;
	heap->current[class] = sb;
}

static bool frames_exhausted(const struct heap *heap, uint32_t class)
{
	return class == HEAP_FRAMES && heap->frame_blocks == heap->frame_blocks_max;
}

static struct superblock *superblock_for(struct heap *heap, uint32_t class)
{
	struct superblock *sb = heap->current[class];

	if (!superblock_full(sb)) /* drained a moment ago, or fresh objects are left */
		return sb;
	if (!list_empty(&heap->partial[class])) {
		sb = container_of(heap->partial[class].next, struct superblock, in_class);
	} else {
		sb = frames_exhausted(heap, class)
			     ? NULL
			     : superblock_new(heap, class, class_bytes(heap, class), 1);
		if (!sb)
			return NULL;
	}
	make_current(heap, class, sb);
	return sb;
}

/* ---- allocation ---- */

void *heap_alloc_slow(struct heap *heap, uint64_t size, uint32_t class)
{
	heap_drain(heap);
	struct superblock *sb = superblock_for(heap, class);
	if (!sb)
		return NULL;
	if (sb->free_head == OBJECT_NONE)
		superblock_refill(sb);
	ASSERT(sb->free_head != OBJECT_NONE);
	return heap_take(sb, sb->free_head, size);
}

static struct superblock *huge_from_cache(struct heap *heap, uint32_t units)
{
	list_for_each (node, &heap->huge_cache) {
		struct superblock *sb = container_of(node, struct superblock, in_class);
		if (sb->units == units) {
			list_remove(&sb->in_class);
			heap->huge_cached_units -= units;
			return sb;
		}
	}
	return NULL;
}

void *heap_alloc_huge(struct heap *heap, uint64_t size)
{
	if (size > HEAP_OBJECT_MAX_BYTES)
		return NULL;
	uint32_t units = (uint32_t)((size + SUPERBLOCK_BYTES - 1) >> SUPERBLOCK_SHIFT);
	struct superblock *sb = huge_from_cache(heap, units);
	if (!sb)
		sb = superblock_new(heap, HEAP_CLASSES, units * SUPERBLOCK_BYTES, units);
	if (!sb)
		return NULL;
	sb->detached = true;
	sb->fresh = 1;
	sb->used = 1;
	sb->objects[0] = (struct object){.app_refs = 1};
	guard_live(sb->base, size);
	return sb->base;
}

void heap_set_frames(struct heap *heap, uint64_t frame_bytes, uint32_t count)
{
	uint64_t block = SUPERBLOCK_BYTES / frame_bytes;

	ASSERT(heap->frame_bytes == 0 && block > 0);
	heap->frame_bytes = frame_bytes;
	heap->frame_room = frame_bytes;
	heap->frame_blocks_max = (uint32_t)((count + block - 1) / block);
}

void *heap_alloc_scarce(struct heap *heap, uint64_t size)
{
	return size <= heap->frame_room ? heap_alloc_frame(heap) : NULL;
}

uint32_t heap_frames_left(const struct heap *heap)
{
	uint64_t block = SUPERBLOCK_BYTES / heap->frame_bytes;
	uint64_t left = (heap->frame_blocks_max - heap->frame_blocks) * block;
	const struct superblock *current = heap->current[HEAP_FRAMES];

	if (current != &superblock_none)
		left += current->capacity - current->used;
	list_for_each (node, &heap->partial[HEAP_FRAMES]) {
		const struct superblock *sb = container_of(node, struct superblock, in_class);
		left += sb->capacity - sb->used;
	}
	return (uint32_t)left;
}

void *heap_alloc_aligned(struct heap *heap, uint64_t alignment, uint64_t size)
{
	if (alignment <= 16)
		return heap_alloc(heap, size);
	if (size < alignment)
		size = alignment;
	/* Classes of a power of two are aligned to it; huge objects to SUPERBLOCK_BYTES. */
	if (size <= HEAP_CLASS_MAX_BYTES)
		size = (uint64_t)2 << bits_highest(size - 1);
	return heap_alloc(heap, size);
}

/* ---- release ---- */

static void release_huge(struct heap *heap, struct superblock *sb)
{
	sb->used = 0;
	sb->objects[0] = (struct object){.lib_refs = OBJECT_FREE | OBJECT_NONE};
	guard_free(sb->base, sb->object_bytes);
	list_append(&heap->huge_cache, &sb->in_class);
	heap->huge_cached_units += sb->units;
	superblock_trim_huge(heap, HUGE_CACHE_UNITS);
}

/* An object of a superblock that is not current became free: an empty one goes back if the class
 * has another with room. */
static void release_detached(struct heap *heap, struct superblock *sb)
{
	bool listed = !list_empty(&sb->in_class);

	if (sb->used == 0 && !superblock_remote_pending(sb) && !superblock_lasts(sb) &&
	    !list_empty(&heap->partial[sb->class]) &&
	    (heap->partial[sb->class].next != &sb->in_class ||
	     heap->partial[sb->class].prev != &sb->in_class)) {
		superblock_delete(heap, sb);
	} else if (!listed) {
		list_append(&heap->partial[sb->class], &sb->in_class);
	}
}

/* The object joins the free list of its superblock. */
static inline void link_free(struct superblock *sb, uint32_t index)
{
	sb->objects[index] = (struct object){.lib_refs = OBJECT_FREE | sb->free_head};
	sb->free_head = index;
	sb->used--;
	guard_free(sb->base + index * sb->object_bytes, sb->object_bytes);
}

void heap_release(struct heap *heap, struct superblock *sb, uint32_t index)
{
	if (unlikely(sb->class == HEAP_CLASSES)) {
		release_huge(heap, sb);
		return;
	}
	link_free(sb, index);
	if (unlikely(sb->detached))
		release_detached(heap, sb);
}

static inline int drop_app(struct heap *heap, struct superblock *sb, uint32_t index)
{
	struct object *object = &sb->objects[index];

	if (likely(object->app_refs == 1 && object->lib_refs == 0)) {
		if (likely(!sb->detached)) /* current, so no huge one */
			link_free(sb, index);
		else
			heap_release(heap, sb, index);
		return 0;
	}
	if (unlikely(object->app_refs == 0))
		return -EINVAL;
	object->app_refs--;
	return 0;
}

/* ---- other threads, and heaps without an instance ---- */

static void heap_retire(struct heap *heap)
{
	list_for_each_safe (node, after, &heap->superblocks)
		superblock_delete(heap, container_of(node, struct superblock, in_heap));
	superblock_unmap_region(heap);
	heap->pool_next = pages_process.heaps.unused;
	pages_process.heaps.unused = heap;
}

static uint64_t live_objects(const struct heap *heap)
{
	uint64_t live = 0;

	list_for_each (node, &heap->superblocks)
		live += container_of(node, struct superblock, in_heap)->used;
	return live;
}

/* Drops of one object by other threads; more than it has references are errors. */
static void drop_many(struct heap *heap, struct superblock *sb, uint32_t index, uint32_t drops)
{
	uint32_t refs = index < sb->fresh ? sb->objects[index].app_refs : 0;

	if (drops > refs) {
		heap->remote_errors += drops - refs;
		drops = refs;
	}
	if (drops == 0)
		return;
	sb->objects[index].app_refs -= drops - 1;
	int err = drop_app(heap, sb, index);
	ASSERT(err == 0);
}

static void drain_superblock(struct heap *heap, struct superblock *sb)
{
	/* pairs with the release in free_remote */
	uint32_t index =
		atomic_exchange_explicit(&sb->remote_head, OBJECT_NONE, memory_order_acq_rel);

	while (index != OBJECT_NONE) {
		struct remote *remote = &sb->remotes[index];
		uint32_t next = remote->next;
		/* pairs with the fetch_add in free_remote: whoever adds to 0 from now on links the
		 * object anew */
		uint32_t drops = atomic_exchange_explicit(&remote->drops, 0, memory_order_acq_rel);
		drop_many(heap, sb, index,
			  drops); /* a huge sb may be gone afterwards; its list has one entry */
		index = next;
	}
}

void heap_drain_slow(struct heap *heap)
{
	/* pairs with the release in announce */
	struct superblock *sb = atomic_exchange_explicit(&heap->remote, NULL, memory_order_acq_rel);

	while (sb) {
		struct superblock *next = sb->remote_next; /* before drain: afterwards another
							      thread may link sb anew */
		bool huge = sb->class == HEAP_CLASSES;
		if (!huge)
			sb->used++; /* not to be deleted while it is being drained */
		drain_superblock(heap, sb);
		if (!huge && --sb->used == 0 && sb->detached)
			release_detached(heap, sb);
		sb = next;
	}
}

/* heap->orphan was seen: nobody else drains. */
static void drain_orphan(struct heap *heap)
{
	pthread_mutex_lock(&pages_process.heaps.lock);
	if (atomic_load_explicit(&heap->orphan, memory_order_relaxed)) {
		heap_drain(heap);
		if (live_objects(heap) == 0) {
			/* the struct may be another instance's heap from here on */
			atomic_store_explicit(&heap->orphan, false, memory_order_relaxed);
			heap_retire(heap);
		}
	}
	pthread_mutex_unlock(&pages_process.heaps.lock);
}

/* sb has remote frees and is in no list: enter it into the heap's. */
static void announce(struct heap *heap, struct superblock *sb)
{
	struct superblock *head = atomic_load_explicit(&heap->remote, memory_order_relaxed);

	do {
		sb->remote_next = head;
		/* pairs with the exchange in heap_drain_slow; seq_cst: see free_remote */
	} while (!atomic_compare_exchange_weak_explicit(
		&heap->remote, &head, sb, memory_order_seq_cst, memory_order_relaxed));
}

static void free_remote(struct superblock *sb, uint32_t index)
{
	struct heap *heap = sb->heap;
	struct remote *remote = &sb->remotes[index];

	/* pairs with the exchange in drain_superblock */
	if (atomic_fetch_add_explicit(&remote->drops, 1, memory_order_acq_rel) == 0) {
		uint32_t head = atomic_load_explicit(&sb->remote_head, memory_order_relaxed);
		do {
			remote->next = head;
			/* pairs with the exchange in drain_superblock */
		} while (!atomic_compare_exchange_weak_explicit(&sb->remote_head, &head, index,
								memory_order_acq_rel,
								memory_order_relaxed));
		if (head == OBJECT_NONE)
			announce(heap, sb);
	}
	/* Either this load sees the orphan, or heap_close, which stores it before it drains, sees
	 * the free (both seq_cst). */
	if (unlikely(atomic_load_explicit(&heap->orphan, memory_order_seq_cst)))
		drain_orphan(heap);
}

static inline int free_object(struct heap *mine, struct superblock *sb, uint32_t index)
{
	if (likely(sb->heap == mine))
		return drop_app(mine, sb, index);
	free_remote(sb, index);
	return 0;
}

/* No object of any heap: what another process has lent has a capacity of 0. */
static __attribute__((noinline, cold)) int free_borrowed(struct heap *mine, const void *ptr)
{
	struct superblock *sb = pages_find(ptr);

	return sb && borrow_is(sb) ? borrow_free(mine, sb, ptr) : -EINVAL;
}

int heap_free(struct heap *mine, void *ptr)
{
	struct superblock *sb = pages_find(ptr);

	if (unlikely(!sb))
		return -EINVAL;
	uint32_t index = heap_index(sb, ptr);
	if (unlikely(sb->base + index * sb->object_bytes != ptr || index >= sb->capacity))
		return free_borrowed(mine, ptr);
	return free_object(mine, sb, index);
}

int heap_free_inside(struct heap *mine, const void *ptr)
{
	struct superblock *sb = pages_find(ptr);

	if (unlikely(!sb))
		return -EINVAL;
	uint32_t index = heap_index(sb, ptr);
	return likely(index < sb->capacity) ? free_object(mine, sb, index)
					    : free_borrowed(mine, ptr);
}

/* ---- queries and counts ---- */

static struct object *find_live(const struct heap *heap, const void *ptr,
				struct superblock **sb_out, uint32_t *index_out)
{
	struct superblock *sb = pages_find(ptr);

	if (!sb || sb->heap != heap)
		return NULL;
	uint32_t index = heap_index(sb, ptr);
	if (index >= sb->fresh || !heap_object_live(&sb->objects[index]))
		return NULL;
	*sb_out = sb;
	*index_out = index;
	return &sb->objects[index];
}

char *heap_object(const struct heap *heap, const void *ptr, uint64_t *bytes_out)
{
	struct superblock *sb;
	uint32_t index;

	if (!find_live(heap, ptr, &sb, &index))
		return NULL;
	*bytes_out = sb->object_bytes;
	return sb->base + index * sb->object_bytes;
}

uint32_t heap_library_refs(const struct heap *heap, const void *ptr)
{
	struct superblock *sb;
	uint32_t index;
	const struct object *object = find_live(heap, ptr, &sb, &index);

	return object ? object->lib_refs : 0;
}

uint32_t heap_app_refs(const struct heap *heap, const void *ptr, const char **object_out)
{
	struct superblock *sb;
	uint32_t index;
	const struct object *object = find_live(heap, ptr, &sb, &index);

	if (!object)
		return 0;
	*object_out = sb->base + index * sb->object_bytes;
	return object->app_refs;
}

void heap_usage(const struct heap *heap, struct heap_usage *usage)
{
	*usage = (struct heap_usage){.committed_bytes = heap->units * SUPERBLOCK_BYTES,
				     .remote_errors = heap->remote_errors};
	list_for_each (node, &heap->superblocks) {
		const struct superblock *sb = container_of(node, struct superblock, in_heap);
		usage->live_objects += sb->used;
		usage->live_bytes += sb->used * sb->object_bytes;
	}
}

/* ---- life ---- */

static void heap_init(struct heap *heap, uint64_t units_max, enum pages_huge huge_pages)
{
	/* Not the members after pool_next: a late free on another thread may read them now. */
	memset(heap, 0, offsetof(struct heap, pool_next));
	heap->units_max = units_max;
	heap->huge_pages = huge_pages;
	for (uint32_t i = 0; i <= HEAP_FRAMES; i++) {
		heap->current[i] =
			(struct superblock *)(uintptr_t)&superblock_none; /* never written: it is
									     always full */
		list_init(&heap->partial[i]);
	}
	list_init(&heap->superblocks);
	list_init(&heap->huge_cache);
	list_init(&heap->watchers);
}

int heap_open(struct heap **heap_out, uint64_t bytes_max, enum pages_huge huge_pages)
{
	int err = pages_reserve();
	if (err)
		return err;
	pthread_mutex_lock(&pages_process.heaps.lock);
	struct heap *heap = pages_process.heaps.unused;
	if (heap)
		pages_process.heaps.unused = heap->pool_next;
	pthread_mutex_unlock(&pages_process.heaps.lock);
	if (!heap) {
		heap = aligned_alloc(CACHE_LINE, sizeof(*heap));
		if (!heap)
			return -ENOMEM;
		memset(heap, 0, sizeof(*heap));
	}
	heap_init(heap, bytes_max >> SUPERBLOCK_SHIFT, huge_pages);
	*heap_out = heap;
	return 0;
}

void heap_close(struct heap *heap)
{
	ASSERT(list_empty(&heap->watchers));
	/* seq_cst: pairs with the load in free_remote */
	atomic_store_explicit(&heap->orphan, true, memory_order_seq_cst);
	drain_orphan(heap);
}

static void check_superblock(const struct superblock *sb)
{
	uint32_t used = 0;
	uint32_t listed = 0;

	for (uint32_t i = 0; i < sb->fresh; i++)
		used += heap_object_live(&sb->objects[i]);
	for (uint32_t i = sb->free_head; i != OBJECT_NONE;
	     i = sb->objects[i].lib_refs & ~OBJECT_FREE) {
		ASSERT(i < sb->fresh);
		ASSERT(!heap_object_live(&sb->objects[i]));
		listed++;
		ASSERT(listed <= sb->capacity);
	}
	ASSERT(used == sb->used);
	if (sb->class != HEAP_CLASSES)
		ASSERT(used + listed == sb->fresh);
	if (sb->class != HEAP_CLASSES && sb->detached)
		ASSERT(superblock_full(sb) == list_empty(&sb->in_class));
}

void heap_check(const struct heap *heap)
{
	uint64_t units = 0;

	list_for_each (node, &heap->superblocks) {
		const struct superblock *sb = container_of(node, struct superblock, in_heap);
		check_superblock(sb);
		ASSERT(sb->heap == heap);
		units += sb->units;
	}
	ASSERT(units == heap->units);
	for (uint32_t i = 0; i <= HEAP_FRAMES; i++)
		ASSERT(heap->current[i] == &superblock_none || !heap->current[i]->detached);
}
