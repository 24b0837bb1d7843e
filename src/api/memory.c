/* SPDX-License-Identifier: MIT
 * api/memory.c - the heap and scatter-gather arrays.
 */
#include "api/instance.h"

#include "mem/borrow.h"
#include "sched/datagram.h"

#include <demi/memory.h>
#include <demi/sga.h>
#include <string.h>

#define ALIGNMENT_MAX SUPERBLOCK_BYTES

/* ---- malloc and its kin ---- */

void *demi_malloc(size_t size)
{
	struct heap *heap = instance_heap();

	if (unlikely(!heap))
		return NULL;
	return heap_alloc(heap, size + (size == 0));
}

void *demi_calloc(size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	void *ptr = demi_malloc(bytes);
	return ptr ? memset(ptr, 0, bytes) : NULL;
}

void *demi_aligned_alloc(size_t alignment, size_t size)
{
	struct heap *heap = instance_heap();

	if (!heap || alignment == 0 || (alignment & (alignment - 1)) || alignment > ALIGNMENT_MAX)
		return NULL;
	return heap_alloc_aligned(heap, alignment, size + (size == 0));
}

int demi_free(void *ptr)
{
	int err = ptr ? -heap_free(instance_heap(), ptr) : 0;

	if (unlikely(err || !ptr) && process_forked()) /* where no pointer is ours any more */
		return ENOSYS;
	return err;
}

/* May an object of old_bytes serve for size without moving: same class, so neither too small nor
 * wasteful? */
static bool fits(uint64_t old_bytes, uint64_t size)
{
	if (old_bytes > HEAP_CLASS_MAX_BYTES)
		return size <= old_bytes && size > old_bytes - SUPERBLOCK_BYTES;
	return size <= old_bytes && heap_class(size) == heap_class(old_bytes);
}

void *demi_realloc(void *ptr, size_t size)
{
	struct heap *heap = instance_heap();
	const char *object;
	uint64_t old_bytes;

	if (!ptr || !heap)
		return demi_malloc(size);
	size += size == 0;
	uint32_t refs = heap_app_refs(heap, ptr, &object);
	if (refs == 0 || object != ptr)
		return NULL;
	(void)heap_object(heap, ptr, &old_bytes);
	guard_live(ptr, old_bytes);
	if (refs == 1 && heap_library_refs(heap, ptr) == 0 && fits(old_bytes, size))
		return ptr;
	void *moved = heap_alloc(heap, size);
	if (!moved)
		return NULL;
	memcpy(moved, ptr, size < old_bytes ? size : old_bytes);
	(void)heap_free(heap, ptr);
	return moved;
}

/* ---- arrays ---- */

demi_sgarray_t demi_sgaalloc(size_t size)
{
	demi_sgarray_t sga;
	void *buf = size > 0 && size <= HEAP_OBJECT_MAX_BYTES ? demi_malloc(size) : NULL;

	memset(&sga, 0, sizeof(sga));
	if (buf) {
		sga.sga_buf = buf;
		sga.sga_numsegs = 1;
		sga.sga_segs[0].sgaseg_buf = buf;
		sga.sga_segs[0].sgaseg_len = (uint32_t)size;
	}
	return sga;
}

static bool bad_array(const demi_sgarray_t *sga)
{
	return !sga || sga->sga_numsegs == 0 || sga->sga_numsegs > DEMI_SGARRAY_MAXSIZE;
}

/* Where a segment's object is to be looked for.  An array of one segment made by the library tells
 * by sga_buf: its segment may have been moved to the very end of its object, which is the start of
 * the next one. */
static const void *segment_pointer(const demi_sgarray_t *sga, uint32_t i)
{
	int is_datagram;
	const void *object = datagram_object(sga->sga_buf, &is_datagram);

	return sga->sga_numsegs == 1 && object ? object : sga->sga_segs[i].sgaseg_buf;
}

static bool is_borrowed(const void *ptr)
{
	const struct superblock *sb = pages_find(ptr);

	return sb && borrow_is(sb);
}

/* References of the application to the object, or piece of another process's, that holds ptr. */
static uint32_t app_refs(const struct heap *heap, const void *ptr, const char **object_out)
{
	return is_borrowed(ptr) ? borrow_app_refs(pages_find(ptr), ptr, object_out)
				: heap_app_refs(heap, ptr, object_out);
}

/* Can all segments be freed: has every object of this heap, and every borrowed piece, as many
 * references as it has segments here? */
static bool freeable(const struct heap *heap, const demi_sgarray_t *sga)
{
	const char *objects[DEMI_SGARRAY_MAXSIZE];

	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		const void *ptr = segment_pointer(sga, i);
		uint32_t needed = 1;
		objects[i] = NULL;
		if (heap_find(heap, ptr, 0) == HEAP_FOREIGN && !is_borrowed(ptr))
			continue;
		uint32_t refs = app_refs(heap, ptr, &objects[i]);
		for (uint32_t j = 0; j < i; j++)
			needed += objects[j] == objects[i];
		if (refs < needed)
			return false;
	}
	return true;
}

int demi_sgafree(demi_sgarray_t *sga)
{
	struct heap *heap = instance_heap();

	if (unlikely(!process_alive()) && process_forked())
		return ENOSYS;
	if (unlikely(bad_array(sga)))
		return EINVAL;
	if (unlikely(sga->sga_numsegs > 1 && heap && !freeable(heap, sga)))
		return EINVAL;
	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		const void *ptr = segment_pointer(sga, i);
		if (pages_find(ptr) &&
		    heap_free_inside(heap, ptr)) /* fails for single segments only: see freeable */
			return EINVAL;
	}
	sga->sga_buf = NULL;
	sga->sga_numsegs = 0;
	return 0;
}

int demi_sgabusy(const demi_sgarray_t *sga)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (!demi && err != EBUSY) /* legal in callbacks */
		return err;
	if (bad_array(sga))
		return EINVAL;
	int busy = 0;
	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		const void *ptr = segment_pointer(sga, i);
		if (heap_find(instance_heap(), ptr, 0) == HEAP_BAD)
			return EINVAL;
		if (heap_library_refs(instance_heap(), ptr) > 0)
			busy = EBUSY;
	}
	return busy;
}

int demi_sgaaddr(const demi_sgarray_t *sga, struct sockaddr *addr, socklen_t *addrlen)
{
	struct heap *heap = instance_heap();
	int is_datagram;

	if (!heap)
		return ENOSYS;
	if (bad_array(sga) || !addr || !addrlen)
		return EINVAL;
	const struct datagram *datagram = datagram_object(sga->sga_buf, &is_datagram);
	if (!is_datagram || heap_find(heap, datagram, sizeof(*datagram)) != HEAP_OURS)
		return EINVAL;
	memcpy(addr, &datagram->source,
	       *addrlen < datagram->source_length ? *addrlen : datagram->source_length);
	*addrlen = datagram->source_length;
	return 0;
}
