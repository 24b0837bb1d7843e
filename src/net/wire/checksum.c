/* SPDX-License-Identifier: MIT
 * net/wire/checksum.c - sums of long pieces, by vectors where the machine has AVX2, and of what is
 * copied.
 *
 * pmaddwd adds neighbouring 16-bit words into 32-bit lanes, but takes them for signed.  A word x
 * with its top bit turned is x - 32768 when read as signed: what is missing at the end is 32768 for
 * each word.
 */
#include "net/wire/checksum.h"

#include "base/bits.h"

#include <immintrin.h>

/* From here on vectors cost less than their lanes cost to be summed up at the end: measured, either
 * way takes 13 ns here. */
#define VECTOR_BYTES 256U
/* A lane gains at most 2^16 a step, up or down: its sum stays in 31 bits for this many steps. */
#define VECTOR_STEPS 16384U
#define STEP_BYTES   64U

/* checksum_copy by words. */
static uint64_t copy_short(uint8_t *to, const uint8_t *from, uint32_t length)
{
	uint64_t sum = 0;

	for (; length >= 8; length -= 8) {
		uint64_t word = checksum_load(from);

		memcpy(to, &word, sizeof(word));
		sum = checksum_add(sum, word);
		from += 8;
		to += 8;
	}
	if (length)
		sum = checksum_add(sum, checksum_tail(from, length));
	while (length--)
		*to++ = *from++;
	return checksum_narrow(sum);
}

/* The lanes' sum, and what they lack for their words' being taken for signed. */
static inline uint64_t sum_lanes(__m128i lanes, uint32_t words)
{
	__m128i sign = _mm_srai_epi32(lanes, 31);
	__m128i wide =
		_mm_add_epi64(_mm_unpacklo_epi32(lanes, sign), _mm_unpackhi_epi32(lanes, sign));

	wide = _mm_add_epi64(wide, _mm_unpackhi_epi64(wide, wide));
	return (uint64_t)_mm_cvtsi128_si64(wide) + (uint64_t)words * 32768U;
}

/* bytes: a multiple of STEP_BYTES, at most VECTOR_STEPS of them.  Copies if copy. */
__attribute__((always_inline, target("avx2"))) static inline uint64_t
sum_steps(uint8_t *to, const uint8_t *from, uint32_t bytes, bool copy)
{
	const __m256i top = _mm256_set1_epi16(INT16_MIN);
	const __m256i ones = _mm256_set1_epi16(1);
	__m256i even = _mm256_setzero_si256();
	__m256i odd = _mm256_setzero_si256();

	for (uint32_t at = 0; at < bytes; at += STEP_BYTES) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(from + at));
		__m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(from + at + 32));

		if (copy) {
			_mm256_storeu_si256((__m256i *)(void *)(to + at), a);
			_mm256_storeu_si256((__m256i *)(void *)(to + at + 32), b);
		}
		even = _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_xor_si256(a, top), ones));
		odd = _mm256_add_epi32(odd, _mm256_madd_epi16(_mm256_xor_si256(b, top), ones));
	}
	uint32_t words = bytes / 2 / 4; /* in each quarter */
	return sum_lanes(_mm256_castsi256_si128(even), words) +
	       sum_lanes(_mm256_extracti128_si256(even, 1), words) +
	       sum_lanes(_mm256_castsi256_si128(odd), words) +
	       sum_lanes(_mm256_extracti128_si256(odd, 1), words);
}

/* How much of length the next sum_steps takes. */
static inline uint32_t whole_steps(uint32_t length)
{
	uint32_t most = VECTOR_STEPS * STEP_BYTES;

	return length < most ? length & ~(STEP_BYTES - 1) : most;
}

__attribute__((noinline, target("avx2"))) static uint64_t partial_avx2(const uint8_t *from,
								       uint32_t length)
{
	uint64_t sum = 0;

	while (length >= STEP_BYTES) {
		uint32_t bytes = whole_steps(length);

		sum += sum_steps(NULL, from, bytes, false);
		from += bytes;
		length -= bytes;
	}
	return sum + checksum_short(from, length);
}

__attribute__((noinline, target("avx2"))) static uint64_t
copy_avx2(uint8_t *to, const uint8_t *from, uint32_t length)
{
	uint64_t sum = 0;

	while (length >= STEP_BYTES) {
		uint32_t bytes = whole_steps(length);

		sum += sum_steps(to, from, bytes, true);
		from += bytes;
		to += bytes;
		length -= bytes;
	}
	return sum + copy_short(to, from, length);
}

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2") != 0;
}

uint64_t checksum_partial(const void *bytes, uint32_t length)
{
	if (unlikely(length >= VECTOR_BYTES) && has_avx2())
		return partial_avx2(bytes, length);
	return checksum_short(bytes, length);
}

uint64_t checksum_copy(void *to, const void *from, uint32_t length)
{
	if (unlikely(length >= VECTOR_BYTES) && has_avx2())
		return copy_avx2(to, from, length);
	return copy_short(to, from, length);
}
