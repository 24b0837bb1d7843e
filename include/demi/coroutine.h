/* SPDX-License-Identifier: MIT
 * demi/coroutine.h - application coroutines: workers written as plain blocking code.
 *
 * Coroutines of an instance run one at a time, on its thread, while that thread waits (demi_wait
 * and its kin, demi_yield, demi_sleep).  The code outside of all coroutines counts as one too.
 * Inside a coroutine a wait suspends only it.  Floating-point control words (rounding mode) are the
 * thread's, not a coroutine's.
 */
#ifndef DEMI_COROUTINE_H
#define DEMI_COROUTINE_H

#include <demi/cc.h>
#include <demi/types.h>
#include <time.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Makes a coroutine that runs fn(arg) on a stack of its own (64 KiB by default, with a guard page)
 * and ends when fn returns.  It first runs when the caller next waits or yields.  Operations that
 * it leaves unredeemed pass to the application. Coroutines that still live at demi_fini are dropped
 * as they are.  EINVAL: fn NULL.  ENOMEM.  ENOSYS, EBUSY. */
ATTR_NONNULL(1)
extern int demi_go(void (*fn)(void *), void *arg);

/* Lets other coroutines that can run do so; outside of coroutines it runs one poll turn.  ENOSYS,
 * EBUSY. */
extern int demi_yield(void);

/* Suspends the caller for an interval while the datapath runs on.  EINVAL: NULL or a bad interval.
 * ENOSYS, EBUSY. */
ATTR_NONNULL(1)
extern int demi_sleep(_In_ const struct timespec *duration);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
