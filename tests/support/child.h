/* tests/support/child.h: a function run in a forked child, for tests of what kills the process; and
 * programs. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* test_child: forks, runs fn(arg) in the child (its output goes nowhere, an alarm ends it after
 * some time) and returns the status of waitpid; 0: fn returned. The heaps of the parent are not
 * there in the child. */
int test_child(void (*fn)(void *arg), void *arg);

/* test_died: did the child end by a signal, or by the exit of a sanitizer? */
bool test_died(int status);

/* test_expect: for checks inside the child: exits with status 2 if it does not hold */
void test_expect(bool holds);

#define TEST_EXPECT_FAILED 2

/* test_has_program: is there such a program in PATH? */
bool test_has_program(const char *name);

/* test_spawn: starts a program of PATH, which ends when we do; its standard output goes nowhere.
 * The descriptors fds (ended by -1) are open in it under the same numbers. The pid, or -errno; that
 * it can't be executed shows as its end, with status 127. */
pid_t test_spawn(const char *const *argv, const int *fds);

/* test_kill: ends what test_spawn started, by SIGKILL, and waits for that. */
void test_kill(pid_t pid);
