/* tests/support/seed.h: the seed of a randomised test. */
#pragma once

#include <stdint.h>

/* test_seed: DEMI_SEED if it is set, else the test's own fixed one. Writes it as a line of the
 * output, before anything can fail, so that a failure can be run again. */
uint64_t test_seed(uint64_t fixed);

/* test_number: a number that `make soak` asks for in the environment, else the test's own. */
uint32_t test_number(const char *variable, uint32_t fixed);
