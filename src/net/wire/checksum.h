/* SPDX-License-Identifier: MIT
 * net/wire/checksum.h - the internet checksum (RFC 1071): one's complement sums of 16-bit words.
 *
 * A partial sum is a uint64_t of unfolded additions of words as they lie in memory (either byte
 * order gives the same checksum in memory); sums of pieces add up as long as every piece but the
 * last has an even length.  At most 2^32 bytes a sum.
 */
#pragma once

#include "base/address.h"

#include <stdbool.h>
#include <stdint.h>

/* Partial sum of length bytes. Vector code for long pieces is chosen at run time. */
uint64_t checksum_partial(const void *bytes, uint32_t length);

/* Copies length bytes and returns their partial sum: one pass.  The two do not overlap. */
uint64_t checksum_copy(void *to, const void *from, uint32_t length);

/* Folds to 16 bits; as stored in memory, not complemented. */
static inline uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffffU) + (sum >> 32);
	sum = (sum & 0xffffffffU) + (sum >> 32);
	sum = (sum & 0xffffU) + (sum >> 16);
	sum = (sum & 0xffffU) + (sum >> 16);
	return (uint16_t)sum;
}

/* The checksum to store with memcpy: complement of the folded sum. */
static inline uint16_t checksum_finish(uint64_t sum)
{
	return (uint16_t)~checksum_fold(sum);
}

/* Is the sum of everything, checksum included, what it is where nothing was corrupted: does it fold
 * to 0xffff?  A multiple of 65535 other than 0, which costs one multiplication. */
static inline bool checksum_good(uint64_t sum)
{
	return sum % 0xffffU == 0 && sum != 0;
}

/* A partial sum of a piece that stands at an odd offset, as if it stood at an even one. */
static inline uint64_t checksum_odd(uint64_t sum)
{
	return __builtin_bswap16(checksum_fold(sum));
}

/* Sum of the pseudo header of TCP, UDP (RFC 9293 3.1, RFC 768) and ICMPv6 (RFC 8200 8.1).  length:
 * of transport header and payload. */
static inline uint64_t checksum_pseudo(const struct ip_address *from, const struct ip_address *to,
				       uint8_t protocol, uint32_t length)
{
	uint64_t sum = (uint64_t)__builtin_bswap32(length) + __builtin_bswap32(protocol);

	if (ip_is_v4(from))
		return sum + from->words[3] + to->words[3];
	for (int i = 0; i < 4; i++)
		sum += (uint64_t)from->words[i] + to->words[i];
	return sum;
}
