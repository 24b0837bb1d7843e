/* SPDX-License-Identifier: MIT
 * net/siphash.h - SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash that a peer who sees its
 * values cannot predict.
 */
#pragma once

#include <stdint.h>

/* Any length; key: two words. */
uint64_t siphash_2_4(const uint64_t key[2], const void *bytes, uint32_t length);
