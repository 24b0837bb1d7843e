/* SPDX-License-Identifier: MIT
 * demi/wait.h - redeeming operations.
 *
 * A wait runs the datapath: it puts out what was pushed, polls the devices, and returns the result
 * of an operation, with the data.  Where telling a device costs a system call (AF_XDP), a wait that
 * finds more results than it returns may leave that to the next one, until 8 frames are due or
 * demi_flush is called.  A timeout is an interval from the call on: NULL waits for ever,
 * {0, 0} polls once.  An operation that has completed never times out, a token whose wait timed out
 * stays good.  In a coroutine (demi_go) a wait suspends the coroutine, elsewhere the thread.
 *
 * All return 0 or a positive errno: ENOSYS on a thread without an instance (or in a forked child),
 * EBUSY inside a callback of the library, ETIMEDOUT, EINVAL for a NULL pointer, a bad timeout, or a
 * token that is unknown or spent. That an operation failed is no error of the wait: it returns 0,
 * qr_opcode is DEMI_OPC_FAILED and qr_ret the errno.
 */
#ifndef DEMI_WAIT_H
#define DEMI_WAIT_H

#include <demi/cc.h>
#include <demi/types.h>
#include <time.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* Waits for one operation and spends its token.  EBUSY if another coroutine is blocked on the same
 * token. */
ATTR_NONNULL(1)
extern int demi_wait(_Out_ demi_qresult_t *qr_out, _In_ demi_qtoken_t qt,
		     _In_opt_ const struct timespec *timeout);

/* Waits for the first of num_qts operations; *ready_offset_out is its index in qts.  Costs the same
 * for 10 tokens and for 10000 if the application puts the token of its next operation where the
 * returned one stood.  num_qts 0 waits out the timeout.  Arrays of up to 16 tokens are checked for
 * unknown tokens on every call, longer ones before the first sleep and now and then: until then a
 * bad token among good ones is skipped.  EBUSY if another coroutine is blocked on one of them. */
ATTR_NONNULL(1, 2, 3)
extern int demi_wait_any(_Out_ demi_qresult_t *qr_out, _Out_ int *ready_offset_out,
			 _In_reads_(num_qts) const demi_qtoken_t qts[], _In_ int num_qts,
			 _In_opt_ const struct timespec *timeout);

/* Waits for the next num_qrs results (at least 1) of any operations that the caller issued, in
 * order of completion (but see demi_set_schedule). *num_qrs_out is how many of qrs_out are filled:
 * num_qrs, or fewer with ETIMEDOUT (those are valid and spent). The caller is the application
 * outside of coroutines, or one coroutine. */
ATTR_NONNULL(1, 3)
extern int demi_wait_next_n(_Out_writes_to_(num_qrs, *num_qrs_out) demi_qresult_t *qrs_out,
			    _In_ int num_qrs, _Out_ int *num_qrs_out,
			    _In_opt_ const struct timespec *timeout);

/* Says whether a completed operation is a long request: 0, it is short.  Called once for each
 * result, failed ones too, in a wait of the caller's; what qr says is good while it runs, and it
 * frees nothing.  Only calls for memory (demi/memory.h, demi/sga.h) are allowed in it. */
typedef int (*demi_classify_t)(void *arg, const demi_qresult_t *qr);

/* Orders what demi_wait_next_n of this instance returns: short results first, each kind in order of
 * completion, and long ones only while more than reserved of a call's num_qrs places are left.
 * With num_qrs the number of workers that are free, so many of them stay free for short requests;
 * a call of no more places than that returns no long ones.  demi_wait_next_n then waits until it
 * has one result to return, not num_qrs of them.  Other waits are as before.  classify NULL: in
 * order of completion again, what arg and reserved say does not matter.  Does not block.  EINVAL:
 * reserved is negative. */
extern int demi_set_schedule(_In_opt_ demi_classify_t classify, _In_opt_ void *arg,
			     _In_ int reserved);

#ifdef __cplusplus
}
#endif
#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
