/* SPDX-License-Identifier: MIT
 * tests/compat/wait-any.c - what a wait for a million tokens costs that are none: each call fails.
 */
#include "common.h"

#include <time.h>

#define TOKENS 1048576
#define ROUNDS 200

static double now_s(void)
{
	struct timespec now;

	assert(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char *const argv[])
{
	const struct timespec timeout = {0, 0};
	demi_qtoken_t *qts = calloc(TOKENS, sizeof(*qts));
	demi_qresult_t qr;
	int offset = 0;

	assert(qts != NULL);
	start(argc, argv);
	double begin = now_s();
	for (int i = 0; i < ROUNDS; i++)
		assert(demi_wait_any(&qr, &offset, qts, TOKENS, &timeout) != 0);
	printf("%.0f ns a call\n", (now_s() - begin) / ROUNDS * 1e9);
	free(qts);
	return 0;
}
