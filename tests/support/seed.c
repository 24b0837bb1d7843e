/* tests/support/seed.c: see seed.h. */
#include "support/seed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static char text[32]; /* of DEMI_SEED, which the library would warn of */

uint64_t test_seed(uint64_t fixed)
{
	const char *given = getenv("DEMI_SEED");

	if (given) {
		(void)snprintf(text, sizeof(text), "%s", given);
		(void)unsetenv("DEMI_SEED");
	}
	uint64_t seed = *text ? strtoull(text, NULL, 0) : fixed;
	printf("# DEMI_SEED=%" PRIu64 "\n", seed);
	(void)fflush(stdout);
	return seed;
}

uint32_t test_number(const char *variable, uint32_t fixed)
{
	const char *given = getenv(variable);

	return given ? (uint32_t)strtoul(given, NULL, 0) : fixed;
}
