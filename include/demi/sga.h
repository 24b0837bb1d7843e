/* SPDX-License-Identifier: MIT
 * demi/sga.h - scatter-gather arrays: allocation and release.
 *
 * Demikernel's two calls; demi/memory.h has the rest of the heap.  Both calls never block.
 */
#ifndef DEMI_SGA_H
#define DEMI_SGA_H

#include <demi/cc.h>
#include <demi/types.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Allocates an array of one segment of size bytes (1 byte to 4 GiB - 1) from the instance's heap,
 * uninitialised. The application owns one reference to the segment and gives it back by
 * demi_sgafree. Returns the null array (sga_numsegs 0, sga_buf NULL) if size is 0 or too large,
 * memory is short or the thread has no instance. */
ATTR_NODISCARD
extern demi_sgarray_t demi_sgaalloc(_In_ size_t size);

/* Drops one reference for each segment that lies in the heap; segments of other memory are left
 * alone.  The memory is used again once the library has let go of it too, so freeing right after a
 * push is legal.  On success the array is the null array afterwards.  Works on any thread and after
 * demi_fini. Returns 0; EINVAL if sga is NULL or the null array, or holds more than
 * DEMI_SGARRAY_MAXSIZE segments, or a segment that was freed already (nothing is freed then);
 * ENOSYS in a forked child that has not called demi_init. */
ATTR_NONNULL(1)
extern int demi_sgafree(_Inout_ demi_sgarray_t *sga);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
