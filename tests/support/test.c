/* tests/support/test.c: see test.h. */
#include "support/test.h"

#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

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

bool test_sanitized(void)
{
#ifdef SANITIZED
	return true;
#else
	return false;
#endif
}

uint32_t test_share(uint32_t count)
{
	return test_sanitized() ? (count + 3) / 4 : count;
}
