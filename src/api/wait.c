/* SPDX-License-Identifier: MIT
 * api/wait.c - the waits, and the calls that are a push or pop and a wait.
 */
#include "api/instance.h"

#include "api/result.h"

#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/wait.h>
#include <time.h>

static inline bool valid(const struct timespec *timeout)
{
	return !timeout ||
	       (timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec <= 999999999);
}

/* A timeout as a deadline of the instance's time.  0 or EINVAL. */
static int deadline_of(struct sched *sched, const struct timespec *timeout, uint64_t *deadline_ns)
{
	if (!timeout) {
		*deadline_ns = WAIT_FOREVER;
		return 0;
	}
	if (!valid(timeout))
		return EINVAL;
	if (timeout->tv_sec == 0 && timeout->tv_nsec == 0) {
		*deadline_ns = WAIT_POLL;
		return 0;
	}
	uint64_t seconds =
		(uint64_t)timeout->tv_sec < 4000000000U ? (uint64_t)timeout->tv_sec : 4000000000U;
	*deadline_ns = sched_now(sched) + seconds * 1000000000 + (uint64_t)timeout->tv_nsec;
	return 0;
}

/* What is complete already, another coroutine's, or nobody's. */
static __attribute__((noinline)) int wait_other(struct demi *demi, demi_qresult_t *qr_out,
						demi_qtoken_t qt, uint64_t deadline_ns)
{
	struct op *op;
	int err = wait_one(&demi->sched, qt, deadline_ns, &op);

	if (unlikely(err))
		return -err;
	result_write(demi, op, qr_out);
	sched_fast_end(&demi->sched);
	return 0;
}

static __attribute__((noinline)) int wait_slow(struct demi *demi, demi_qresult_t *qr_out,
					       demi_qtoken_t qt, const struct timespec *timeout)
{
	struct waitset *ws = &demi->sched.coroutines.running->waits;
	struct op *op = op_find(&demi->sched.ops, qt);
	uint64_t deadline_ns;

	if (deadline_of(&demi->sched, timeout, &deadline_ns))
		return EINVAL;
	if (unlikely(!op || op->owner != ws || op->state != OP_PENDING))
		return wait_other(demi, qr_out, qt, deadline_ns);
	int err = wait_handed(&demi->sched, ws, op, deadline_ns);
	if (unlikely(err))
		return -err;
	result_write(demi, op, qr_out);
	return 0;
}

int demi_wait(demi_qresult_t *qr_out, demi_qtoken_t qt, const struct timespec *timeout)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);
	struct op *op;

	if (unlikely(!demi))
		return err;
	if (unlikely(!qr_out))
		return EINVAL;
	sched_flush(&demi->sched);
	if (likely(valid(timeout) && (op = wait_ready(&demi->sched, qt)))) {
		result_write(demi, op, qr_out);
		sched_fast_end(&demi->sched);
		return 0;
	}
	return wait_slow(demi, qr_out, qt, timeout);
}

static int wait_any_slow(struct demi *demi, demi_qresult_t *qr_out, int *ready_offset_out,
			 const demi_qtoken_t qts[], int num_qts, const struct timespec *timeout)
{
	uint64_t deadline_ns;
	uint32_t index;
	struct op *op;

	if (deadline_of(&demi->sched, timeout, &deadline_ns))
		return EINVAL;
	int err = wait_any(&demi->sched, qts, (uint32_t)num_qts, deadline_ns, &op, &index);
	if (unlikely(err))
		return -err;
	result_write(demi, op, qr_out);
	*ready_offset_out = (int)index;
	sched_fast_end(&demi->sched);
	return 0;
}

int demi_wait_any(demi_qresult_t *qr_out, int *ready_offset_out, const demi_qtoken_t qts[],
		  int num_qts, const struct timespec *timeout)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);
	struct op *op;

	if (unlikely(!demi))
		return err;
	if (unlikely(!qr_out || !ready_offset_out || !qts || num_qts < 0))
		return EINVAL;
	sched_flush(&demi->sched);
	if (likely(valid(timeout) && (op = wait_any_ready(&demi->sched, qts, (uint32_t)num_qts)))) {
		*ready_offset_out = (int)op->index;
		result_write(demi, op, qr_out);
		sched_fast_end(&demi->sched);
		return 0;
	}
	return wait_any_slow(demi, qr_out, ready_offset_out, qts, num_qts, timeout);
}

int demi_wait_next_n(demi_qresult_t *qrs_out, int num_qrs, int *num_qrs_out,
		     const struct timespec *timeout)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);
	uint64_t deadline_ns;
	struct op *op;
	int n = 0;

	if (unlikely(!demi))
		return err;
	if (unlikely(!qrs_out || !num_qrs_out || num_qrs <= 0 ||
		     deadline_of(&demi->sched, timeout, &deadline_ns)))
		return EINVAL;
	sched_flush(&demi->sched);
	err = wait_next(&demi->sched, (uint32_t)num_qrs, deadline_ns);
	while (n < num_qrs && (op = wait_next_take(&demi->sched, (uint32_t)(num_qrs - n))))
		result_write(demi, op, &qrs_out[n++]);
	*num_qrs_out = n;
	sched_fast_end(&demi->sched);
	return n == num_qrs ? 0 : -err;
}

int demi_wait_all(demi_qresult_t qrs_out[], const demi_qtoken_t qts[], int num_qts,
		  const struct timespec *timeout)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);
	uint64_t deadline_ns;

	if (unlikely(!demi))
		return err;
	if (unlikely(!qrs_out || !qts || num_qts < 0 ||
		     deadline_of(&demi->sched, timeout, &deadline_ns)))
		return EINVAL;
	sched_flush(&demi->sched);
	err = wait_all(&demi->sched, qts, (uint32_t)num_qts, deadline_ns);
	if (err)
		return -err;
	for (int i = 0; i < num_qts; i++)
		result_write(demi, wait_take(&demi->sched, qts[i]), &qrs_out[i]);
	return 0;
}

int demi_blocking_push(demi_qresult_t *qr_out, int qd, const demi_sgarray_t *sga)
{
	demi_qtoken_t qt;

	if (!qr_out)
		return EINVAL;
	int err = demi_push(&qt, qd, sga);
	return err ? err : demi_wait(qr_out, qt, NULL);
}

int demi_blocking_pop(demi_qresult_t *qr_out, int qd)
{
	demi_qtoken_t qt;

	if (!qr_out)
		return EINVAL;
	int err = demi_pop(&qt, qd);
	return err ? err : demi_wait(qr_out, qt, NULL);
}
