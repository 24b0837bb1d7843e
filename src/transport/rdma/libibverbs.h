/* SPDX-License-Identifier: MIT
 * transport/rdma/libibverbs.h - RDMA devices of this machine, by libibverbs and librdmacm.
 */
#pragma once

#include "base/log.h"
#include "transport/rdma/verbs.h"

/* Every member is there. */
extern const struct rdma_verbs rdma_libibverbs;

/* Is there what the libraries need?  Asked before them, for librdmacm tells standard error what it
 * misses.  0; -ENODEV, -EACCES: no, and why and what mends it is told to the log. */
int rdma_libibverbs_check(const struct log *log);
