/* SPDX-License-Identifier: MIT
 * blkdev/lock.h - a place that is one's alone: an advisory lock (flock) on its descriptor.
 */
#pragma once

#include "sched/sched.h"

#include <stdbool.h>

/* Locks what fd is open on, without waiting but for a holder that has died, whose last writes may
 * be under way; the lock goes with the last copy of the descriptor, or LOCK_UN.  Shared: with
 * others who only read.  0, or -errno, told to the log; -EBUSY: with pid and command of who holds
 * it. */
int blkdev_lock(struct sched *sched, int fd, const char *path, bool exclusive);
