/* SPDX-License-Identifier: MIT
 * blkdev/uring/uring.h - files and block devices by io_uring.
 */
#pragma once

#include "blkdev/blkdev.h"

/* See blkdev_open.  -ENOSYS: there is no io_uring for this process; the log says which gate is
 * shut, and nothing was opened or made. */
int uring_open(struct sched *sched, const struct blkdev_place *place, struct blkdev **dev_out);
