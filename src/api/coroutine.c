/* SPDX-License-Identifier: MIT
 * api/coroutine.c - application coroutines.
 */
#include "api/instance.h"

#include "sched/switch.h"

#include <demi/coroutine.h>
#include <time.h>

int demi_go(void (*fn)(void *), void *arg)
{
	KEEP_ERRNO;
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (!demi)
		return err;
	return fn ? -coroutine_go(&demi->sched.coroutines, fn, arg) : EINVAL;
}

int demi_yield(void)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (unlikely(!demi))
		return err;
	return coroutine_yield_near(&demi->sched.coroutines);
}

int demi_sleep(const struct timespec *duration)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (!demi)
		return err;
	if (!duration || duration->tv_sec < 0 || duration->tv_sec > 4000000000 ||
	    duration->tv_nsec < 0 || duration->tv_nsec > 999999999)
		return EINVAL;
	uint64_t deadline_ns = sched_now(&demi->sched) + (uint64_t)duration->tv_sec * 1000000000 +
			       (uint64_t)duration->tv_nsec;
	sched_sleep(&demi->sched, deadline_ns);
	return 0;
}
