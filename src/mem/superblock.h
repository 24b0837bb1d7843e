/* SPDX-License-Identifier: MIT
 * mem/superblock.h - between heap.c, which hands out objects, and superblock.c, which gets them
 * their memory.  Thread: the owner of the heap, or who has the orphans' lock.
 */
#pragma once

#include "mem/heap.h"

/* The current superblock of a class that has none: always full, never written. */
extern const struct superblock superblock_none;

/* A superblock without a live object, in no list of its class.  What no live object needs is given
 * back if that is what it takes.  NULL: memory is short. */
struct superblock *superblock_new(struct heap *heap, uint32_t class, uint64_t object_bytes,
				  uint32_t units);
void superblock_delete(struct heap *heap, struct superblock *sb);

/* Deletes cached huge runs until no more than so many units are left. */
void superblock_trim_huge(struct heap *heap, uint64_t units_max);

/* Frames of the region stay where they are. */
bool superblock_lasts(const struct superblock *sb);

/* All superblocks are deleted: the region goes too. */
void superblock_unmap_region(struct heap *heap);

/* Frees by other threads that the owner has not seen: the superblock stands in heap->remote, or is
 * about to.  One without a live object has them only if something was freed twice. */
static inline bool superblock_remote_pending(const struct superblock *sb)
{
	return atomic_load_explicit(&sb->remote_head, memory_order_relaxed) != OBJECT_NONE;
}
