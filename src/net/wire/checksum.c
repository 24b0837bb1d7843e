/* SPDX-License-Identifier: MIT
 * net/wire/checksum.c - sums of 16-bit words, eight bytes at a time in short pieces, by vectors in
 * long ones.
 *
 * Eight bytes at a time: 2^16, 2^32 and 2^64 are all 1 modulo 65535, so words of any width add up
 * to the same checksum as long as the carries come back in at the bottom (RFC 1071 2.B, 2.C).
 *
 * By vectors: pmaddwd adds neighbouring 16-bit words into 32-bit lanes, but takes them for signed.
 * A word x with its top bit turned is x - 32768 when read as signed, so what is missing at the end
 * is 32768 for each word.
 */
#include "net/wire/checksum.h"

#include "base/bits.h"

#include <immintrin.h>

/* From here on vectors cost less than they must be summed up for at the end: measured. */
#define VECTOR_BYTES 256
/* A lane gains at most 2^16 a step, up or down: its sum stays in 31 bits for this many steps. */
#define VECTOR_STEPS 16384U

static inline uint64_t load_word(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

static inline void store_word(uint8_t *at, uint64_t word)
{
	memcpy(at, &word, sizeof(word));
}

/* The last 0 to 7 bytes as a word, zeros behind them. */
static inline uint64_t sum_tail(uint8_t *to, const uint8_t *from, uint32_t length, bool copy)
{
	uint64_t word = 0;
	uint32_t at = 0;

	if (length & 4) {
		uint32_t four;
		memcpy(&four, from, sizeof(four));
		if (copy)
			memcpy(to, &four, sizeof(four));
		word = four;
		at = 4;
	}
	if (length & 2) {
		uint16_t two;
		memcpy(&two, from + at, sizeof(two));
		if (copy)
			memcpy(to + at, &two, sizeof(two));
		word += two;
		at += 2;
	}
	if (length & 1) {
		if (copy)
			to[at] = from[at];
		word += from[at];
	}
	return word;
}

__attribute__((always_inline)) static inline uint64_t sum_words(uint8_t *to, const uint8_t *from,
								uint32_t length, bool copy)
{
	unsigned __int128 sum = 0; /* becomes additions with carry */
	const uint8_t *end = from + (length & ~7U);

	while (end - from >= 32) {
		uint64_t a = load_word(from);
		uint64_t b = load_word(from + 8);
		uint64_t c = load_word(from + 16);
		uint64_t d = load_word(from + 24);

		if (copy) {
			store_word(to, a);
			store_word(to + 8, b);
			store_word(to + 16, c);
			store_word(to + 24, d);
			to += 32;
		}
		sum += a;
		sum += b;
		sum += c;
		sum += d;
		from += 32;
	}
	while (from != end) {
		uint64_t a = load_word(from);

		if (copy) {
			store_word(to, a);
			to += 8;
		}
		sum += a;
		from += 8;
	}
	if (length & 7)
		sum += sum_tail(to, from, length & 7, copy);
	uint64_t low = (uint64_t)sum;
	return (low & 0xffffffffU) + (low >> 32) + (uint64_t)(sum >> 64);
}

/* The lanes' sum, and what they lack for their words being taken for signed. */
static inline uint64_t sum_lanes(__m128i lanes, uint32_t bytes)
{
	__m128i sign = _mm_srai_epi32(lanes, 31);
	__m128i wide =
		_mm_add_epi64(_mm_unpacklo_epi32(lanes, sign), _mm_unpackhi_epi32(lanes, sign));

	wide = _mm_add_epi64(wide, _mm_unpackhi_epi64(wide, wide));
	return (uint64_t)_mm_cvtsi128_si64(wide) + (uint64_t)(bytes / 2) * 32768U;
}

/* bytes: a multiple of 32, at most VECTOR_STEPS * 32. */
__attribute__((always_inline)) static inline uint64_t sum_sse2(uint8_t *to, const uint8_t *from,
							       uint32_t bytes, bool copy)
{
	const __m128i top = _mm_set1_epi16(INT16_MIN);
	const __m128i ones = _mm_set1_epi16(1);
	__m128i even = _mm_setzero_si128();
	__m128i odd = _mm_setzero_si128();

	for (uint32_t at = 0; at < bytes; at += 32) {
		__m128i a = _mm_loadu_si128((const __m128i *)(const void *)(from + at));
		__m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + at + 16));

		if (copy) {
			_mm_storeu_si128((__m128i *)(void *)(to + at), a);
			_mm_storeu_si128((__m128i *)(void *)(to + at + 16), b);
		}
		even = _mm_add_epi32(even, _mm_madd_epi16(_mm_xor_si128(a, top), ones));
		odd = _mm_add_epi32(odd, _mm_madd_epi16(_mm_xor_si128(b, top), ones));
	}
	return sum_lanes(even, bytes / 2) + sum_lanes(odd, bytes / 2);
}

/* bytes: a multiple of 64, at most VECTOR_STEPS * 64. */
__attribute__((always_inline, target("avx2"))) static inline uint64_t
sum_avx2(uint8_t *to, const uint8_t *from, uint32_t bytes, bool copy)
{
	const __m256i top = _mm256_set1_epi16(INT16_MIN);
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i even = _mm256_setzero_si256();
	__m256i odd = _mm256_setzero_si256();

	for (uint32_t at = 0; at < bytes; at += 64) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(from + at));
		__m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(from + at + 32));

		if (copy) {
			_mm256_storeu_si256((__m256i *)(void *)(to + at), a);
			_mm256_storeu_si256((__m256i *)(void *)(to + at + 32), b);
		}
		even = _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_xor_si256(a, top), ones));
		odd = _mm256_add_epi32(odd, _mm256_madd_epi16(_mm256_xor_si256(b, top), ones));
	}
	return sum_lanes(_mm256_castsi256_si128(even), bytes / 4) +
	       sum_lanes(_mm256_extracti128_si256(even, 1), bytes / 4) +
	       sum_lanes(_mm256_castsi256_si128(odd), bytes / 4) +
	       sum_lanes(_mm256_extracti128_si256(odd, 1), bytes / 4);
}

__attribute__((target("avx2"), noinline)) static uint64_t partial_avx2(const uint8_t *from,
								       uint32_t bytes)
{
	return sum_avx2(NULL, from, bytes, false);
}

__attribute__((target("avx2"), noinline)) static uint64_t
copy_avx2(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
	return sum_avx2(to, from, bytes, true);
}

__attribute__((noinline)) static uint64_t partial_sse2(const uint8_t *from, uint32_t bytes)
{
	return sum_sse2(NULL, from, bytes, false);
}

__attribute__((noinline)) static uint64_t copy_sse2(uint8_t *to, const uint8_t *from,
						    uint32_t bytes)
{
	return sum_sse2(to, from, bytes, true);
}

/* The vectors of a long piece; what is left, less than one step, is for sum_words. */
__attribute__((noinline)) static uint64_t sum_long(uint8_t *to, const uint8_t *from,
						   uint32_t length, uint32_t *done)
{
	bool wide = __builtin_cpu_supports("avx2") != 0;
	uint64_t sum = 0;
	uint32_t at = 0;

	while (length - at >= 64) {
		uint32_t bytes = (length - at) & ~63U;

		if (bytes > VECTOR_STEPS * 32)
			bytes = VECTOR_STEPS * 32;
		if (to)
			sum += wide ? copy_avx2(to + at, from + at, bytes)
				    : copy_sse2(to + at, from + at, bytes);
		else
			sum += wide ? partial_avx2(from + at, bytes)
				    : partial_sse2(from + at, bytes);
		at += bytes;
	}
	*done = at;
	return sum;
}

uint64_t checksum_partial(const void *bytes, uint32_t length)
{
	const uint8_t *from = bytes;

	if (likely(length < VECTOR_BYTES))
		return sum_words(NULL, from, length, false);
	uint32_t done;
	uint64_t sum = sum_long(NULL, from, length, &done);
	return sum + sum_words(NULL, from + done, length - done, false);
}

uint64_t checksum_copy(void *to, const void *from, uint32_t length)
{
	uint8_t *target = to;
	const uint8_t *source = from;

	if (likely(length < VECTOR_BYTES))
		return sum_words(target, source, length, true);
	uint32_t done;
	uint64_t sum = sum_long(target, source, length, &done);
	return sum + sum_words(target + done, source + done, length - done, true);
}
