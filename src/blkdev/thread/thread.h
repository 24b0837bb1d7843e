/* SPDX-License-Identifier: MIT
 * blkdev/thread/thread.h - files and block devices by blocking system calls, made by a thread of
 * the device's: for where there is no io_uring.
 */
#pragma once

#include "blkdev/blkdev.h"

/* See blkdev_open. */
int blkthread_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out);
