/* SPDX-License-Identifier: MIT
 * mem/heap.h - the heap of one instance: DMA-capable objects with two reference counts.
 *
 * Model.  A superblock is 2 MiB of memory cut into objects of one size class, or a run of 2 MiB
 * units that is one huge object. Its description (struct superblock, the counts, the free list)
 * lies outside of it, so that neither an application that writes past an object nor a device can
 * damage it.  Object i of a superblock starts at base + i * object_bytes.
 *
 * Counts.  app_refs: references of the application, one from each allocation or pop, dropped by
 * heap_free.  lib_refs: references of the library, taken while a queue or device holds the memory.
 * The memory is used again when both are zero. Only the thread of the owning instance touches
 * counts; any other thread leaves its heap_free in the superblock's list of remote frees, which the
 * owner drains once a poll turn (heap_drain).
 *
 * Life.  heap_close gives the heap up: objects still referenced stay good, later frees take the
 * orphans' lock, the last one frees everything.  struct heap itself is never given back to the
 * system, only used again, so that a free that comes late on another thread always finds a valid
 * struct.
 *
 * Invariants, walked by heap_check:
 *   for each superblock: used + length(free list) + (capacity - fresh) == capacity, and used ==
 * objects with a count above 0 a superblock with a free object is its class's current one or in its
 * class's partial list; detached == not current
 */
#pragma once

#include "base/assert.h"
#include "base/bits.h"
#include "base/list.h"
#include "mem/guard.h"
#include "mem/pages.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_CLASS_MAX_BYTES  262144             /* larger objects are huge */
#define HEAP_CLASSES          52                 /* 16 to 128 by 16, then 4 a doubling */
#define HEAP_FRAMES           (HEAP_CLASSES + 1) /* class of frames; HEAP_CLASSES stands for huge */
#define HEAP_BORROWED         (HEAP_FRAMES + 1)  /* of another process: mem/borrow.h */
#define HEAP_OBJECT_MAX_BYTES ((uint64_t)UINT32_MAX)

/* Free: app_refs is 0 and lib_refs is OBJECT_FREE | next.  next is an index, OBJECT_NONE ends the
 * list. */
#define OBJECT_FREE 0x80000000U
#define OBJECT_NONE 0x7fffffffU

struct object {
	uint32_t app_refs;
	uint32_t lib_refs;
};

/* Frees by other threads: drops not yet seen by the owner, and the list of objects that have some.
 */
struct remote {
	_Atomic uint32_t drops;
	uint32_t next;
};

struct superblock {
	struct heap *heap;
	char *base;
	uint64_t object_bytes;
	uint64_t reciprocal; /* ceil(2^42 / object_bytes); 0 for a huge object */
	struct object *objects;
	uint32_t free_head; /* index, OBJECT_NONE: empty */
	uint32_t used;
	uint32_t fresh; /* objects from here on were never handed out and are in no list */
	uint32_t capacity;
	uint32_t class;       /* HEAP_CLASSES: huge */
	uint32_t units;       /* of SUPERBLOCK_BYTES */
	bool detached;        /* not the current superblock of its class */
	bool in_region;       /* its memory is the region's */
	struct list in_class; /* partial list of the class, or the list of cached huge runs */
	struct list in_heap;  /* all superblocks of the heap */

	struct remote *remotes;
	struct superblock
		*remote_next; /* in heap->remote; written by who made remote_head non-empty */
	_Atomic uint32_t remote_head __attribute__((aligned(CACHE_LINE)));
};

struct heap {
	struct superblock *current[HEAP_FRAMES + 1]; /* never NULL: an empty constant at first */
	struct list partial[HEAP_FRAMES + 1];
	struct list superblocks;
	struct list huge_cache;
	uint64_t huge_cached_units;
	uint64_t units; /* committed */
	uint64_t units_max;
	enum pages_huge huge_pages;
	uint64_t frame_bytes;      /* of a frame; 0: heap_set_frames was not called */
	uint64_t frame_room;       /* of that what is ours: the device's is behind it */
	uint32_t frame_blocks_max; /* superblocks of frames */
	uint32_t frame_blocks;
	uint64_t remote_errors; /* frees by other threads that had nothing to free */
	char *region;           /* memory that a device reads and writes by itself; NULL: none */
	uint64_t region_bytes;
	int region_fd; /* the memfd that it is of, if nobody lent it */
	void (*region_put)(char *region, uint64_t bytes); /* who lent it; NULL: nobody */
	char **region_spare;                              /* units of it that nothing is in */
	uint32_t region_spares;
	struct list watchers; /* struct heap_watcher */
	struct heap *pool_next;
	_Atomic bool orphan;
	_Atomic(struct superblock *) remote __attribute__((aligned(CACHE_LINE)));
};

/* What a pointer is to a heap. */
enum heap_kind {
	HEAP_FOREIGN, /* not memory of this heap */
	HEAP_OURS,    /* inside a live object */
	HEAP_BAD,     /* memory of this heap, but freed, or not all in one object */
};

/* 0 or -ENOMEM. */
int heap_open(struct heap **heap_out, uint64_t bytes_max, enum pages_huge huge_pages);

/* The instance ends; see "Life" above. */
void heap_close(struct heap *heap);

/* Objects of at least size bytes (1 to HEAP_OBJECT_MAX_BYTES), with one application reference;
 * NULL: memory is short. */
void *heap_alloc_slow(struct heap *heap, uint64_t size, uint32_t class);
void *heap_alloc_huge(struct heap *heap, uint64_t size);
void *heap_alloc_aligned(struct heap *heap, uint64_t alignment, uint64_t size);

/* Frames are objects of one further class of this size, at most about count of them: what devices
 * receive into.  Called once, before the first heap_alloc_frame. */
void heap_set_frames(struct heap *heap, uint64_t frame_bytes, uint32_t count);

/* In place of heap_set_frames: frames are in one piece of memory of units superblocks, made of the
 * memfd fd, of which frame_units are theirs from now until the end; objects are in the others
 * first. That is what a device is given to read and write by itself: heap->region,
 * heap->region_bytes. What is to be sent is made in frames then (frame_alloc_tx).  frame_bytes and
 * frame_units 0: no frames, but for those that heap_set_frames asks for later.  0, -ENOMEM, or
 * -EBUSY, there is a region already: nothing has changed. */
int heap_set_region(struct heap *heap, int fd, uint64_t frame_bytes, uint32_t frame_units,
		    uint32_t units);

/* Memory that a device has lent (pages_lend). */
struct heap_loan {
	char *region;
	void (*put)(char *region, uint64_t bytes); /* gives it back, when the last object in it is
						      freed, on whatever thread that is */
	uint64_t frame_bytes;
	uint64_t device_bytes; /* at the end of each frame, the device's own */
	uint32_t frame_units;
	uint32_t units;
};

/* As heap_set_region, with such memory. */
int heap_lend_region(struct heap *heap, const struct heap_loan *loan);

/* The memfd that the region is all of, for others to share; -1: there is none. */
static inline int heap_region_fd(const struct heap *heap)
{
	return heap->region && !heap->region_put ? heap->region_fd : -1;
}

/* Whoever must know before memory goes back to the system, as a device does that has pinned it:
 * what comes at the same address later is other memory. Memory of the region stays until the end.
 */
struct heap_watcher {
	struct list in_heap;
	/* Called on the thread of the instance; nothing is alive in [base, base + bytes). */
	void (*going)(struct heap_watcher *watcher, char *base, uint64_t bytes);
};

static inline void heap_watch(struct heap *heap, struct heap_watcher *watcher)
{
	list_append(&heap->watchers, &watcher->in_heap);
}

/* Before the heap is closed. */
static inline void heap_unwatch(struct heap_watcher *watcher)
{
	list_remove(&watcher->in_heap);
}

/* Is it memory of the region? */
static inline bool heap_in_region(const struct heap *heap, const void *ptr)
{
	return (uint64_t)((const char *)ptr - heap->region) < heap->region_bytes;
}

/* For what has to go out although memory is short: a frame, the last that there is; NULL: there is
 * none, or it is too small. */
void *heap_alloc_scarce(struct heap *heap, uint64_t size);

static inline uint64_t heap_frames_max(const struct heap *heap)
{
	return heap->frame_blocks_max * (SUPERBLOCK_BYTES / heap->frame_bytes);
}

/* How many frames can be allocated before the bound is reached.  Costs a walk over the superblocks
 * of frames. */
uint32_t heap_frames_left(const struct heap *heap);

/* Drops an application reference of the object that starts at ptr.  mine: the heap of the calling
 * thread's instance, or NULL. 0, or -EINVAL: not the start of an object, or (own heap) one without
 * such a reference. */
int heap_free(struct heap *mine, void *ptr);

/* As heap_free, for any pointer into the object. */
int heap_free_inside(struct heap *mine, const void *ptr);

uint32_t heap_library_refs(const struct heap *heap, const void *ptr);

/* References of the application to the object of this heap that holds ptr, and where it starts; 0:
 * none, freed, foreign. */
uint32_t heap_app_refs(const struct heap *heap, const void *ptr, const char **object_out);

/* Start and usable bytes of the live object that holds ptr; NULL if there is none. */
char *heap_object(const struct heap *heap, const void *ptr, uint64_t *bytes_out);

/* Applies frees that other threads left.  Cheap when there are none. */
void heap_drain_slow(struct heap *heap);

static inline bool heap_has_remote(struct heap *heap)
{
	return atomic_load_explicit(&heap->remote, memory_order_relaxed) != NULL;
}

static inline void heap_drain(struct heap *heap)
{
	if (unlikely(heap_has_remote(heap)))
		heap_drain_slow(heap);
}

struct heap_usage {
	uint64_t committed_bytes;
	uint64_t live_objects;
	uint64_t live_bytes; /* in whole objects */
	uint64_t remote_errors;
};

void heap_usage(const struct heap *heap, struct heap_usage *usage);

/* Asserts the invariants above; walks everything. */
void heap_check(const struct heap *heap);

/* ---- the data path, in line ---- */

#define HEAP_RECIPROCAL_SHIFT \
	42 /* offset * (object_bytes - 1) < 2^39 < 2^42: the quotient is exact */

static inline uint32_t heap_index(const struct superblock *sb, const void *ptr)
{
	uint64_t offset = (uint64_t)((const char *)ptr - sb->base);

	return (uint32_t)((offset * sb->reciprocal) >> HEAP_RECIPROCAL_SHIFT);
}

static inline bool heap_object_live(const struct object *object)
{
	return object->app_refs != 0 || (object->lib_refs & OBJECT_FREE) == 0;
}

/* Frees an object whose last reference went. */
void heap_release(struct heap *heap, struct superblock *sb, uint32_t index);

/* Counts.  ptr lies in an object of this heap that has a reference (HEAP_OURS), and no other
 * heap's. */
static inline struct object *heap_counts(const void *ptr, struct superblock **sb, uint32_t *index)
{
	*sb = pages_find(ptr);
	ASSERT(*sb);
	*index = heap_index(*sb, ptr);
	return &(*sb)->objects[*index];
}

static inline void heap_ref_library(const void *ptr)
{
	struct superblock *sb;
	uint32_t index;

	heap_counts(ptr, &sb, &index)->lib_refs++;
}

static inline void heap_unref_library(struct heap *heap, const void *ptr)
{
	struct superblock *sb;
	uint32_t index;
	struct object *object = heap_counts(ptr, &sb, &index);

	ASSERT(object->lib_refs > 0 && (object->lib_refs & OBJECT_FREE) == 0);
	if (--object->lib_refs == 0 && object->app_refs == 0)
		heap_release(heap, sb, index);
}

/* A library reference becomes one of the application. */
static inline void heap_hand_over(const void *ptr)
{
	struct superblock *sb;
	uint32_t index;
	struct object *object = heap_counts(ptr, &sb, &index);

	ASSERT(object->lib_refs > 0 && (object->lib_refs & OBJECT_FREE) == 0);
	object->lib_refs--;
	object->app_refs++;
}

/* An application reference becomes one of the library. */
static inline void heap_take_over(const void *ptr)
{
	struct superblock *sb;
	uint32_t index;
	struct object *object = heap_counts(ptr, &sb, &index);

	ASSERT(object->app_refs > 0);
	object->app_refs--;
	object->lib_refs++;
}

/* Classifies [ptr, ptr + bytes). */
static inline enum heap_kind heap_find(const struct heap *heap, const void *ptr, uint64_t bytes)
{
	const struct superblock *sb = pages_find(ptr);

	if (!sb || sb->heap != heap)
		return HEAP_FOREIGN;
	uint32_t index = heap_index(sb, ptr);
	if (unlikely(index >= sb->fresh || !heap_object_live(&sb->objects[index])))
		return HEAP_BAD;
	uint64_t inside = (uint64_t)((const char *)ptr - sb->base) - index * sb->object_bytes;
	return likely(inside + bytes <= sb->object_bytes) ? HEAP_OURS : HEAP_BAD;
}

/* Class of a size of 1 to HEAP_CLASS_MAX_BYTES. */
static inline uint32_t heap_class(uint64_t size)
{
	if (size <= 128)
		return (uint32_t)((size - 1) >> 4);
	uint32_t top = bits_highest(size - 1); /* at least 7 */
	return 8 + (top - 7) * 4 + (uint32_t)((size - 1) >> (top - 2)) - 4;
}

/* Hands out the first object, index, of a free list. */
static inline void *heap_take(struct superblock *sb, uint32_t index, uint64_t size)
{
	struct object *object = &sb->objects[index];
	char *at = sb->base + index * sb->object_bytes;

	sb->free_head = object->lib_refs & ~OBJECT_FREE;
	object->app_refs = 1;
	object->lib_refs = 0;
	sb->used++;
	guard_live(at, size);
	return at;
}

static inline void *heap_alloc(struct heap *heap, uint64_t size)
{
	if (unlikely(size > HEAP_CLASS_MAX_BYTES))
		return heap_alloc_huge(heap, size);
	uint32_t class = heap_class(size);
	struct superblock *sb = heap->current[class];
	uint32_t index = sb->free_head;
	if (unlikely(index == OBJECT_NONE))
		return heap_alloc_slow(heap, size, class);
	return heap_take(sb, index, size);
}

/* An object of the size given to heap_set_frames, with one application reference; NULL: the bound
 * is reached or memory is short. */
static inline void *heap_alloc_frame(struct heap *heap)
{
	struct superblock *sb = heap->current[HEAP_FRAMES];
	uint32_t index = sb->free_head;

	if (unlikely(index == OBJECT_NONE))
		return heap_alloc_slow(heap, heap->frame_bytes, HEAP_FRAMES);
	return heap_take(sb, index, heap->frame_bytes);
}

/* As heap_free, for the start of an object of this heap that most likely is a frame. */
static inline void heap_free_frame(struct heap *heap, void *ptr)
{
	struct superblock *sb = heap->current[HEAP_FRAMES];
	uint64_t offset = (uint64_t)((char *)ptr - sb->base);

	if (likely(offset < SUPERBLOCK_BYTES)) {
		uint32_t index = heap_index(sb, ptr);
		struct object *object = &sb->objects[index];
		if (likely(object->app_refs == 1 && object->lib_refs == 0)) {
			*object = (struct object){.lib_refs = OBJECT_FREE | sb->free_head};
			sb->free_head = index;
			sb->used--;
			guard_free(ptr, sb->object_bytes);
			return;
		}
	}
	(void)heap_free(heap, ptr);
}
