/* SPDX-License-Identifier: MIT */
#include "storage/crc32c.h"

#include <stdbool.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t bytes)
{
	/* Remainders of the sixteen values of four bits by the polynomial 0x1edc6f41, reflected. */
	static const uint32_t remainders[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *at = data;

	crc = ~crc;
	for (size_t i = 0; i < bytes; i++) {
		crc ^= at[i];
		crc = (crc >> 4) ^ remainders[crc & 15];
		crc = (crc >> 4) ^ remainders[crc & 15];
	}
	return ~crc;
}

#ifdef __x86_64__
/* The instruction takes a word a cycle, and gives its result after three: three streams of so many
 * bytes are summed up at once, and the first two moved to the end of the third: multiplied by x^16n
 * and x^8n.  What a product of two reflected numbers lacks, and the instruction adds, is x^33. */
#define STREAM_BYTES 336
#define BEHIND_TWO   0xcec3662eU /* x^(16 * 336 - 33), reflected */
#define BEHIND_ONE   0xa60ce07bU /* x^(8 * 336 - 33) */

static uint64_t word_at(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

__attribute__((target("sse4.2,pclmul"))) static uint64_t multiply(uint64_t state, uint32_t factor)
{
	__m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)state),
					       _mm_cvtsi64_si128(factor), 0);

	return (uint64_t)_mm_cvtsi128_si64(product);
}

__attribute__((target("sse4.2,pclmul"))) static uint64_t three_streams(uint64_t one,
								       const uint8_t *at)
{
	uint64_t two = 0;
	uint64_t three = 0;
	size_t i;

	for (i = 0; i < STREAM_BYTES - 8; i += 8) {
		one = _mm_crc32_u64(one, word_at(at + i));
		two = _mm_crc32_u64(two, word_at(at + i + STREAM_BYTES));
		three = _mm_crc32_u64(three, word_at(at + i + 2 * STREAM_BYTES));
	}
	one = _mm_crc32_u64(one, word_at(at + i));
	two = _mm_crc32_u64(two, word_at(at + i + STREAM_BYTES));
	uint64_t moved = multiply(one, BEHIND_TWO) ^ multiply(two, BEHIND_ONE);
	return _mm_crc32_u64(three, word_at(at + i + 2 * STREAM_BYTES) ^ moved);
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse(uint32_t crc, const void *data,
							     size_t bytes)
{
	const uint8_t *at = data;
	uint64_t state = ~crc;

	for (; bytes >= 3 * (size_t)STREAM_BYTES; bytes -= 3 * (size_t)STREAM_BYTES) {
		state = three_streams(state, at);
		at += 3 * (size_t)STREAM_BYTES;
	}
	for (; bytes >= 8; at += 8, bytes -= 8)
		state = _mm_crc32_u64(state, word_at(at));
	for (; bytes > 0; at++, bytes--)
		state = _mm_crc32_u8((uint32_t)state, *at);
	return ~(uint32_t)state;
}

uint32_t crc32c_add(uint32_t crc, const void *data, size_t bytes)
{
	bool has = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");

	return has ? crc32c_sse(crc, data, bytes) : crc32c_portable(crc, data, bytes);
}
#else
uint32_t crc32c_add(uint32_t crc, const void *data, size_t bytes)
{
	return crc32c_portable(crc, data, bytes);
}
#endif
