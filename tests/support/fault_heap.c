/* tests/support/fault_heap.c: makes each allocation from a heap one that may fail: see fault.h.
 *
 * The quick way of heap_alloc is in line and cannot be wrapped.  Between two allocations a class
 * has no current superblock here, so that each takes the slow way; the one that it has is put back
 * for the allocation. */
#include "support/fault.h"

#include "mem/heap.h"

#include <stdlib.h>
#include <string.h>

#define HEAPS_MAX 4

void *__real_heap_alloc_slow(struct heap *heap, uint64_t size, uint32_t class);
void *__real_heap_alloc_huge(struct heap *heap, uint64_t size);
void *__wrap_heap_alloc_slow(struct heap *heap, uint64_t size, uint32_t class);
void *__wrap_heap_alloc_huge(struct heap *heap, uint64_t size);

struct kept {
	struct heap *heap; /* NULL: this entry is free */
	struct superblock *current[HEAP_FRAMES + 1];
};

static struct kept table[HEAPS_MAX];
static struct superblock *none; /* the heaps' own: what a class without a superblock has */

void fault_heap_forget(void)
{
	memset(table, 0, sizeof(table));
}

static struct kept *kept_of(struct heap *heap)
{
	for (int i = 0; i < HEAPS_MAX; i++) {
		if (!table[i].heap)
			table[i].heap = heap;
		if (table[i].heap == heap)
			return &table[i];
	}
	abort();
}

static bool fails(void)
{
	void *probe = malloc(1);

	free(probe);
	return !probe;
}

void *__wrap_heap_alloc_slow(struct heap *heap, uint64_t size, uint32_t class)
{
	struct kept *kept = kept_of(heap);

	if (heap->current[class]->capacity == 0)
		none = heap->current[class];
	if (fails())
		return NULL;
	if (kept->current[class] && heap->current[class] == none)
		heap->current[class] = kept->current[class];
	uint32_t first = heap->current[class]->free_head;
	void *object = first == OBJECT_NONE ? __real_heap_alloc_slow(heap, size, class)
					    : heap_take(heap->current[class], first, size);
	kept->current[class] = heap->current[class];
	heap->current[class] = none;
	return object;
}

void *__wrap_heap_alloc_huge(struct heap *heap, uint64_t size)
{
	return fails() ? NULL : __real_heap_alloc_huge(heap, size);
}
