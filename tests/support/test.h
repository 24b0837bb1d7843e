/* tests/support/test.h: what every test program includes: cmocka, and what it lacks.
 *
 *	int main(void)
 *	{
 *		static const struct CMUnitTest tests[] = { cmocka_unit_test(test_it) };
 *
 *		return test_run("module", tests);
 *	}
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* test_run: runs a table and prints TAP; returns the status for main to return */
#define test_run(name, table) \
	test_run_group(name, table, sizeof(table) / sizeof((table)[0]), NULL, NULL)

int test_run_group(const char *name, const struct CMUnitTest *table, size_t num_tests,
		   CMFixtureFunction setup, CMFixtureFunction teardown);

/* skip_because: ends the test function that says it; the test counts as skipped and `make test`
 * prints the reason at its end. One that lacks a right begins "privilege: ", and in CI fails when
 * it runs as root. (cmocka's own skip() prints a TAP line that meson takes for a failure.) */
#define skip_because(reason)            \
	do {                            \
		test_note_skip(reason); \
		return;                 \
	} while (0)

void test_note_skip(const char *reason);

/* test_sanitized: built with the address or the thread sanitizer? */
bool test_sanitized(void);

/* test_share: of so many repetitions those that a sanitized build makes, where each takes many
 * times as long: a quarter, not none. `make soak` makes all. */
uint32_t test_share(uint32_t count);
