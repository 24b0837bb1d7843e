/* tests/support/seed.c: see seed.h. */
#include "support/seed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t test_seed(uint64_t fixed)
{
	const char *text = getenv("DEMI_SEED");
	uint64_t seed = text && *text ? strtoull(text, NULL, 0) : fixed;

	printf("# DEMI_SEED=%" PRIu64 "\n", seed);
	(void)fflush(stdout);
	return seed;
}
