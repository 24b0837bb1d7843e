/* SPDX-License-Identifier: MIT
 * storage/crc32c.h - the Castagnoli CRC (RFC 3720 B.4), by the processor's instruction where it has
 * one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The CRC of what crc is the CRC of, followed by these bytes; crc 0: of these bytes. */
uint32_t crc32c_add(uint32_t crc, const void *data, size_t bytes);

/* The same without the instruction: for processors that lack it, and for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t bytes);
