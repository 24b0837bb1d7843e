/* SPDX-License-Identifier: MIT
 * demi/queue.h - what the queue API has beyond Demikernel's: memory queues, cancelling, waiting for
 * all, blocking calls.
 *
 * All return 0 or a positive errno; ENOSYS, EBUSY, EINVAL, EBADF and ENOMEM as in demi/libos.h.
 */
#ifndef DEMI_QUEUE_H
#define DEMI_QUEUE_H

#include <demi/cc.h>
#include <demi/types.h>
#include <time.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Makes a memory queue: what is pushed as one array pops as one array, in order, without a copy of
 * heap memory.  Other memory is copied when the push completes: at once, or when the copies that
 * the queue holds are within its send limit again.  Never blocks. */
ATTR_NONNULL(1)
extern int demi_queue(_Out_ int *qd_out);

/* Asks that an operation end now.  It completes as failed with ECANCELED, or with its own result if
 * it was too late; either way it is still to be waited for.  A push of which bytes were taken is
 * never cut.  EINVAL: unknown or spent token. */
extern int demi_cancel(_In_ demi_qtoken_t qt);

/* Ends one direction of a connected socket: how is SHUT_RD, SHUT_WR or SHUT_RDWR.  What was pushed
 * before is sent first; later pushes are EPIPE, later pops find the end of the stream.  ENOTCONN.
 * ENOTSUP: not a socket. */
extern int demi_shutdown(_In_ int qd, _In_ int how);

/* Puts out at once what was pushed; otherwise the next wait does. */
extern int demi_flush(void);

/* Waits for all of num_qts (0 or more) operations; qrs_out[i] is the result of qts[i].  ETIMEDOUT:
 * none is redeemed, all tokens stay good.  EINVAL: also if a token stands there twice. */
ATTR_NONNULL(1, 2)
extern int demi_wait_all(_Out_writes_(num_qts) demi_qresult_t qrs_out[],
			 _In_reads_(num_qts) const demi_qtoken_t qts[], _In_ int num_qts,
			 _In_opt_ const struct timespec *timeout);

/* demi_push followed by demi_wait without a timeout: blocks the thread, or the coroutine. */
ATTR_NONNULL(1, 3)
extern int demi_blocking_push(_Out_ demi_qresult_t *qr_out, _In_ int qd,
			      _In_ const demi_sgarray_t *sga);

/* demi_pop followed by demi_wait without a timeout: blocks the thread, or the coroutine. */
ATTR_NONNULL(1)
extern int demi_blocking_pop(_Out_ demi_qresult_t *qr_out, _In_ int qd);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
