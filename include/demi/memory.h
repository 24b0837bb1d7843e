/* SPDX-License-Identifier: MIT
 * demi/memory.h - the DMA-capable heap.
 *
 * Any pointer into heap memory, interior ones too, can be pushed without a copy.  An object counts
 * the application's references (one from each allocation or pop) and the library's; its memory is
 * used again when both are zero.  So freeing right after a push is legal; changing the bytes is
 * not, until demi_sgabusy says 0.  None of these calls blocks.
 */
#ifndef DEMI_MEMORY_H
#define DEMI_MEMORY_H

#include <demi/cc.h>
#include <demi/types.h>
#include <stddef.h>
#include <sys/socket.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Allocates size bytes (0 counts as 1), aligned to 16, uninitialised.  NULL if memory is short or
 * the thread has no instance. */
extern void *demi_malloc(_In_ size_t size);

/* Allocates count * size bytes of zeros.  NULL as demi_malloc, and if the product overflows. */
extern void *demi_calloc(_In_ size_t count, _In_ size_t size);

/* Changes the size of an allocation, keeping the bytes up to the smaller size; the object may move.
 * ptr NULL allocates; size 0 counts as 1.  While the library or another reference holds the object
 * it is copied, never changed in place. NULL: memory is short, or ptr is not the start of a live
 * object; ptr is then untouched. */
extern void *demi_realloc(_In_opt_ void *ptr, _In_ size_t size);

/* Allocates size bytes aligned to alignment, a power of two up to 2 MiB.  NULL as demi_malloc, and
 * for a bad alignment. */
extern void *demi_aligned_alloc(_In_ size_t alignment, _In_ size_t size);

/* Drops one reference of the application to an object.  NULL is fine.  Works on any thread and
 * after demi_fini. EINVAL, changing nothing: not from the heap, not the start of an object, or
 * freed already (on a thread that does not own the heap the last is found later, counted and logged
 * by the owner).  ENOSYS in a forked child. */
extern int demi_free(_In_opt_ void *ptr);

/* Does the library still hold memory of this array?  0: no, its bytes may be changed.  EBUSY: yes.
 * EINVAL: NULL, the null array, or a segment of freed memory.  Segments outside of the instance's
 * heap count as not held. */
ATTR_NONNULL(1)
extern int demi_sgabusy(_In_ const demi_sgarray_t *sga);

/* Full source address of a popped datagram, IPv6 too.  *addrlen is the room in addr, and the length
 * of the address afterwards (what does not fit is cut off).  EINVAL: NULL, or an array that is no
 * popped datagram or was freed. */
ATTR_NONNULL(1, 2, 3)
extern int demi_sgaaddr(_In_ const demi_sgarray_t *sga,
			_Out_writes_to_(*addrlen, *addrlen) struct sockaddr *addr,
			_Inout_ socklen_t *addrlen);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
