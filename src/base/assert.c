/* SPDX-License-Identifier: MIT */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void assert_failed(const char *condition, const char *file, int line)
{
	(void)fprintf(stderr, "demitasse: broken invariant: %s at %s:%d\n", condition, file, line);
	abort();
}
