/* SPDX-License-Identifier: MIT
 * tests/unit/prng_test.c - base/prng.h: vectors of SplitMix64 and xoshiro256**, computed by a
 * program of its own from the authors' text (the first two tables agree with the vectors that are
 * in circulation); bounds.
 */
#include "support/test.h"

#include "base/bits.h"
#include "base/prng.h"

static void test_seeds(void **state)
{
	static const struct {
		uint64_t seed;
		uint64_t state[4];
		uint64_t first[4];
		uint64_t thousandth;
	} cases[] = {
		{0,
		 {0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f, 0xf88bb8a8724c81ec},
		 {0x99ec5f36cb75f2b4, 0xbf6e1f784956452a, 0x1a5f849d4933e6e0, 0x6aa594f1262d2d2c},
		 0x7aac8c483a2edd2f},
		{1,
		 {0x910a2dec89025cc1, 0xbeeb8da1658eec67, 0xf893a2eefb32555e, 0x71c18690ee42c90b},
		 {0xb3f2af6d0fc710c5, 0x853b559647364cea, 0x92f89756082a4514, 0x642e1c7bc266a3a7},
		 0xb8517c33c344d153},
		{42,
		 {0xbdd732262feb6e95, 0x28efe333b266f103, 0x47526757130f9f52, 0x581ce1ff0e4ae394},
		 {0x15780b2e0c2ec716, 0x6104d9866d113a7e, 0xae17533239e499a1, 0xecb8ad4703b360a1},
		 0x8de5848c61ab8968},
		{UINT64_MAX,
		 {0xe4d971771b652c20, 0xe99ff867dbf682c9, 0x382ff84cb27281e9, 0x6d1db36ccba982d2},
		 {0x8f5520d52a7ead08, 0xc476a018caa1802d, 0x81de31c0d260469e, 0xbf658d7e065f3c2f},
		 0xc3c93ea5cde434cc},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct prng prng;
		uint64_t got = 0;
		prng_seed(&prng, cases[i].seed);
		assert_memory_equal(prng.state, cases[i].state, sizeof(prng.state));
		for (int k = 0; k < 1000; k++) {
			got = prng_next(&prng);
			if (k < 4)
				assert_int_equal(got, cases[i].first[k]);
		}
		assert_int_equal(got, cases[i].thousandth);
	}
}

static void test_reference(void **state)
{
	static const uint64_t expected[] = {
		11520,
		0,
		1509978240,
		1215971899390074240,
		1216172134540287360,
		607988272756665600,
		16172922978634559625U,
		8476171486693032832,
		10595114339597558777U,
		2904607092377533576,
	};
	struct prng prng = {.state = {1, 2, 3, 4}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(expected); i++)
		assert_int_equal(prng_next(&prng), expected[i]);
}

/* Every value below the bound comes, about equally often, and no other. */
static void test_below(void **state)
{
	static const uint64_t bounds[] = {1, 2, 3, 7, 64, 100};
	struct prng prng;

	(void)state;
	prng_seed(&prng, 7);
	for (size_t i = 0; i < ARRAY_LENGTH(bounds); i++) {
		uint32_t seen[100] = {0};
		for (uint64_t k = 0; k < bounds[i] * 1000; k++) {
			uint64_t value = prng_below(&prng, bounds[i]);
			assert_true(value < bounds[i]);
			seen[value]++;
		}
		for (uint64_t value = 0; value < bounds[i]; value++)
			assert_in_range(seen[value], 800, 1200);
	}
	for (int k = 0; k < 1000; k++)
		assert_true(prng_below(&prng, UINT64_MAX) < UINT64_MAX);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seeds),
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_below),
	};

	return test_run("prng", tests);
}
