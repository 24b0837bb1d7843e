/* tests/support/child.h: a function run in a forked child, for tests of what kills the process. */
#pragma once

#include <stdbool.h>

/* test_child: forks, runs fn(arg) in the child (its output goes nowhere, an alarm ends it after
 * some time) and returns the status of waitpid; 0: fn returned. The heaps of the parent are not
 * there in the child. */
int test_child(void (*fn)(void *arg), void *arg);

/* test_died: did the child end by a signal, or by the exit of a sanitizer? */
bool test_died(int status);

/* test_expect: for checks inside the child: exits with status 2 if it does not hold */
void test_expect(bool holds);

#define TEST_EXPECT_FAILED 2
