/* SPDX-License-Identifier: MIT
 * net/wire/checksum.h - the internet checksum (RFC 1071): one's complement sums of 16-bit words.
 *
 * A partial sum is a uint64_t of unfolded additions of words as they lie in memory (either byte
 * order gives the same checksum in memory); sums of pieces add up as long as every piece but the
 * last has an even length.  At most 2^32 bytes a sum.
 *
 * 2^16, 2^32 and 2^64 are all 1 modulo 65535: words of any width add up to the same checksum as
 * long as carries come back in at the bottom (RFC 1071 2.B, 2.C).
 */
#pragma once

#include "base/address.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Partial sum of length bytes. Vector code for long pieces is chosen at run time. */
uint64_t checksum_partial(const void *bytes, uint32_t length);

/* Copies length bytes and returns their partial sum: one pass.  The two do not overlap. */
uint64_t checksum_copy(void *to, const void *from, uint32_t length);

/* ---- sums of 64 bits, as large as any: not partial ones ---- */

/* Adds a word, the carry coming back in at the bottom. */
static inline uint64_t checksum_add(uint64_t sum, uint64_t word)
{
	sum += word;
	return sum + (sum < word);
}

/* As a partial sum. */
static inline uint64_t checksum_narrow(uint64_t sum)
{
	return (sum & 0xffffffffU) + (sum >> 32);
}

/* Is the sum of everything, checksum included, what it is where nothing was corrupted: does it fold
 * to 0xffff?  That is a multiple of 65535, which costs one multiplication to see.  sum is not 0: a
 * header with a version or a protocol in it sums up to more.  A partial sum will do, too. */
static inline bool checksum_good(uint64_t sum)
{
	return sum % 0xffffU == 0;
}

/* Folds to 16 bits; as stored in memory, not complemented.  Each step adds a word's halves to each
 * other: the upper half then has their sum with the carry of the lower one.  A partial sum will do,
 * too. */
static inline uint16_t checksum_fold(uint64_t sum)
{
	uint32_t half = (uint32_t)((sum + (sum << 32 | sum >> 32)) >> 32);

	return (uint16_t)((half + (half << 16 | half >> 16)) >> 16);
}

/* The checksum to store with memcpy: complement of the folded sum. */
static inline uint16_t checksum_finish(uint64_t sum)
{
	return (uint16_t)~checksum_fold(sum);
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
	return sum + checksum_narrow(checksum_add(checksum_add(from->pair[0], from->pair[1]),
						  checksum_add(to->pair[0], to->pair[1])));
}

/* ---- short pieces, inline ---- */

/* The address sanitizer sees no reads from assembly: under it, C. */
#if defined(__SANITIZE_ADDRESS__)
#define CHECKSUM_IN_C 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHECKSUM_IN_C 1
#endif
#endif

struct checksum_word {
	uint64_t word;
} __attribute__((packed, may_alias));

static inline uint64_t checksum_load(const uint8_t *at)
{
	return ((const struct checksum_word *)at)->word;
}

/* The last 1 to 7 bytes as a word, zeros behind them. */
static inline uint64_t checksum_tail(const uint8_t *at, uint32_t length)
{
	uint64_t word = 0;

	if (length & 4) {
		uint32_t four;
		memcpy(&four, at, sizeof(four));
		word = four;
		at += 4;
	}
	if (length & 2) {
		uint16_t two;
		memcpy(&two, at, sizeof(two));
		word += two;
		at += 2;
	}
	return length & 1 ? word + *at : word;
}

/* Adds 32 bytes. */
static inline uint64_t checksum_add_32(uint64_t sum, const uint8_t *at)
{
#if defined(__x86_64__) && !defined(CHECKSUM_IN_C)
	/* One chain of carries, for which C has no words: a third of the instructions. */
	const struct checksum_word *words = (const struct checksum_word *)at;

	__asm__("addq %1, %0\n\t"
		"adcq %2, %0\n\t"
		"adcq %3, %0\n\t"
		"adcq %4, %0\n\t"
		"adcq $0, %0"
		: "+&r"(sum)
		: "m"(words[0]), "m"(words[1]), "m"(words[2]), "m"(words[3])
		: "cc");
	return sum;
#else
	for (int i = 0; i < 32; i += 8)
		sum = checksum_add(sum, checksum_load(at + i));
	return sum;
#endif
}

/* checksum_partial by words. */
static inline uint64_t checksum_short(const uint8_t *at, uint32_t length)
{
	uint64_t sum = 0;

	for (; length >= 32; length -= 32) {
		sum = checksum_add_32(sum, at);
		at += 32;
	}
	for (; length >= 8; length -= 8) {
		sum = checksum_add(sum, checksum_load(at));
		at += 8;
	}
	if (length)
		sum = checksum_add(sum, checksum_tail(at, length));
	return checksum_narrow(sum);
}
