/* SPDX-License-Identifier: MIT
 * tests/unit/wire_checksum_test.c - net/wire/checksum.h against sums of 16-bit words, one by one.
 */
#include "support/test.h"

#include "base/prng.h"
#include "net/wire/checksum.h"
#include "support/bytes.h"
#include "support/seed.h"

#define LONGEST   3000U
#define VERY_LONG (2U * 1024 * 1024 + 37) /* beyond what one round of lanes can hold */

static uint16_t reference(const uint8_t *at, uint32_t length)
{
	return __builtin_bswap16(bytes_fold(bytes_sum(at, length)));
}

static void check(const uint8_t *at, uint32_t length, uint8_t *room)
{
	uint16_t expected = reference(at, length);

	assert_int_equal(checksum_fold(checksum_partial(at, length)), expected);
	assert_int_equal(checksum_fold(checksum_short(at, length)), expected);
	assert_true(checksum_partial(at, length) >> 40 == 0); /* many can be added up */
	memset(room, 0x5a, (size_t)length + 2);
	assert_int_equal(checksum_fold(checksum_copy(room + 1, at, length)), expected);
	assert_memory_equal(room + 1, at, length);
	assert_int_equal(room[0], 0x5a);
	assert_int_equal(room[length + 1], 0x5a);
}

/* RFC 1071 3: its own example */
static void test_example(void **state)
{
	(void)state;
	static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	uint16_t checksum = checksum_finish(checksum_partial(bytes, sizeof(bytes)));
	uint8_t stored[2];

	memcpy(stored, &checksum, 2);
	assert_int_equal(stored[0], 0x22);
	assert_int_equal(stored[1], 0x0d);
}

static void test_every_length(void **state)
{
	(void)state;
	struct prng prng;
	prng_seed(&prng, test_seed(1071));
	uint8_t *pool = malloc(LONGEST + 64);
	uint8_t *room = malloc(LONGEST + 66);
	assert_non_null(pool);
	assert_non_null(room);
	for (uint32_t length = 0; length <= LONGEST; length++) {
		uint32_t offset = (uint32_t)prng_below(&prng, 64);
		/* Bytes that carry much, that carry all, and any. */
		uint64_t kind = prng_below(&prng, 4);

		for (uint32_t i = 0; i < length + 64; i++)
			pool[i] = kind == 0 ? 0xff
					    : (uint8_t)prng_next(&prng) | (kind == 1 ? 0x80 : 0);
		check(pool + offset, length, room + prng_below(&prng, 64));
	}
	free(pool);
	free(room);
}

/* No read outside the piece: the allocation ends where it does (for the address sanitizer). */
static void test_reads_no_further(void **state)
{
	(void)state;
	uint8_t pattern[600];

	for (uint32_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + 1);
	for (uint32_t length = 0; length <= sizeof(pattern); length++) {
		uint8_t *copy = bytes_copy(pattern, length);
		uint8_t *room = bytes_copy(pattern, length);

		assert_int_equal(checksum_fold(checksum_partial(copy, length)),
				 reference(pattern, length));
		assert_int_equal(checksum_fold(checksum_copy(room, copy, length)),
				 reference(pattern, length));
		free(copy);
		free(room);
	}
}

static void test_very_long(void **state)
{
	(void)state;
	static const uint8_t fills[][2] = {{0, 0},       {0xff, 0xff}, {0x7f, 0xff}, {0xff, 0x7f},
					   {0x80, 0x00}, {0x00, 0x80}, {0x12, 0x34}};
	uint8_t *bytes = malloc(VERY_LONG);
	uint8_t *room = malloc(VERY_LONG + 2);

	assert_non_null(bytes);
	assert_non_null(room);
	for (uint32_t i = 0; i < ARRAY_LENGTH(fills); i++) {
		for (uint32_t at = 0; at < VERY_LONG; at++)
			bytes[at] = fills[i][at % 2];
		check(bytes, VERY_LONG, room);
	}
	free(bytes);
	free(room);
}

/* RFC 1071 2.A: the sum of a whole is the sum of its pieces, those at odd offsets swapped */
static void test_pieces(void **state)
{
	(void)state;
	struct prng prng;
	prng_seed(&prng, test_seed(2));
	uint8_t bytes[1500];

	for (uint32_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)prng_next(&prng);
	for (uint32_t round = 0; round < 2000; round++) {
		uint32_t at = 0;
		uint64_t sum = 0;

		while (at < sizeof(bytes)) {
			uint32_t left = (uint32_t)sizeof(bytes) - at;
			uint32_t piece = 1 + (uint32_t)prng_below(&prng, left);
			uint64_t part = checksum_partial(bytes + at, piece);

			sum += at % 2 ? checksum_odd(part) : part;
			at += piece;
		}
		assert_int_equal(checksum_fold(sum), reference(bytes, sizeof(bytes)));
	}
}

static void test_pseudo(void **state)
{
	(void)state;
	struct prng prng;
	prng_seed(&prng, test_seed(3));
	for (uint32_t round = 0; round < 10000; round++) {
		struct ip_address from = ip_from_v4((uint32_t)prng_next(&prng));
		struct ip_address to = ip_from_v4((uint32_t)prng_next(&prng));
		uint8_t protocol = (uint8_t)prng_next(&prng);
		uint32_t length = (uint32_t)prng_next(&prng) >> prng_below(&prng, 32);

		if (round % 2) {
			uint8_t top = round % 3 ? 0xff : 0;
			for (uint32_t i = 0; i < 16; i++) {
				from.bytes[i] = (uint8_t)prng_next(&prng) | top;
				to.bytes[i] = (uint8_t)prng_next(&prng) | top;
			}
		}
		uint64_t expected = bytes_pseudo(&from, &to, protocol, length);
		uint64_t sum = checksum_pseudo(&from, &to, protocol, length);
		assert_int_equal(checksum_fold(sum), __builtin_bswap16(bytes_fold(expected)));
		assert_true(sum >> 40 == 0);
	}
}

static void test_fold_and_good(void **state)
{
	(void)state;
	struct prng prng;
	prng_seed(&prng, test_seed(4));
	for (uint32_t round = 0; round < 100000; round++) {
		uint64_t sum = prng_next(&prng) >> prng_below(&prng, 64);

		if (round % 4 == 0)
			sum -= sum % 0xffff; /* one that is good */
		if (sum == 0)
			sum = 0xffff;
		uint16_t expected = bytes_fold(sum);
		assert_int_equal(checksum_fold(sum), expected);
		assert_int_equal(checksum_finish(sum), (uint16_t)~expected);
		assert_int_equal(checksum_good(sum), expected == 0xffff);
		assert_int_equal(checksum_fold(checksum_odd(sum)), __builtin_bswap16(expected));
		assert_int_equal(checksum_fold(checksum_narrow(sum)), expected);
	}
	assert_int_equal(checksum_fold(0), 0);
	assert_int_equal(checksum_fold(UINT64_MAX), 0xffff);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example),          cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_reads_no_further), cmocka_unit_test(test_very_long),
		cmocka_unit_test(test_pieces),           cmocka_unit_test(test_pseudo),
		cmocka_unit_test(test_fold_and_good),
	};

	return test_run("wire_checksum", tests);
}
