/* SPDX-License-Identifier: MIT
 * blkdev/nvme_status.h - what the status of a completion means.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The error, 0 or -errno, of a status without its phase.  *again_out: the same command may succeed
 * later. */
int nvme_status_error(uint16_t status, bool *again_out);
