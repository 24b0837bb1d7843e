/* tests/support/test.c: see test.h. */
#include "support/test.h"

#include <stdio.h>

int test_run_group(const char *name, const struct CMUnitTest *table, size_t num_tests,
		   CMFixtureFunction setup, CMFixtureFunction teardown)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests(name, table, num_tests, setup, teardown);
}

void test_note_skip(const char *reason)
{
	printf("# SKIP %s\n", reason);
	fflush(stdout);
}
