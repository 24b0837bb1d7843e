/* SPDX-License-Identifier: MIT
 * tools/demi/helper/memory.h - the memory of a client, mapped while the kernel takes its pages.
 *
 * It is a memfd that cannot shrink any more (F_SEAL_SHRINK): no access in its mapping can fail by
 * what the client does to it.  Nothing here reads or writes it.
 */
#pragma once

#include "base/log.h"

#include <stdint.h>

/* 0 or -errno, told. */
int memory_map(const struct log *log, int fd, uint64_t bytes, void **memory_out);
void memory_unmap(void *memory, uint64_t bytes);
