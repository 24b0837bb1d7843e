/* SPDX-License-Identifier: MIT
 * tests/unit/process_test.c - base/process.c: what a fork wipes, and the beginning anew in the
 * child.
 */
#include "support/test.h"

#include "base/process.h"
#include "support/child.h"
#include "support/fault.h"

#include <errno.h>
#include <string.h>

static struct {
	char bytes[2 * PROCESS_PAGE];
} wiped __attribute__((aligned(PROCESS_PAGE)));

static void in_child(void *arg)
{
	static const char zeros[sizeof(wiped)];
	bool anew = false;

	(void)arg;
	test_expect(!process_alive());
	test_expect(memcmp(&wiped, zeros, sizeof(wiped)) == 0);
	wiped.bytes[0] = 1; /* its own memory, as any other */
	test_expect(wiped.bytes[0] == 1);
	test_expect(process_begin(&anew) == 0 && anew);
	test_expect(process_alive());
	test_expect(process_begin(&anew) == 0 && !anew);
	/* The child's children begin anew, too. */
	test_expect(arg || test_child(in_child, &wiped) == 0);
	test_expect(process_alive());
}

/* Before the first process_begin: the parent is not alive either. */
static void test_begin_fails(void **state)
{
	bool anew = true;

	(void)state;
	assert_false(process_alive());
	fault_fail(1);
	assert_int_equal(process_begin(&anew), -ENOMEM);
	assert_true(fault_off());
	assert_false(process_alive());
	assert_false(anew);
	assert_int_equal(process_begin(&anew), 0);
	assert_true(anew);
	assert_true(process_alive());
}

static void test_begin(void **state)
{
	bool anew = true;

	(void)state;
	assert_int_equal(process_begin(&anew), 0);
	assert_false(anew);
	assert_true(process_alive());
}

static void test_fork(void **state)
{
	static char copy[sizeof(wiped)];

	(void)state;
	memset(&wiped, 7, sizeof(wiped));
	memset(copy, 7, sizeof(copy));
	assert_int_equal(process_wipe_on_fork(&wiped, sizeof(wiped)), 0);
	assert_memory_equal(&wiped, copy, sizeof(wiped));
	assert_int_equal(test_child(in_child, NULL), 0);
	assert_true(process_alive());
	assert_memory_equal(&wiped, copy, sizeof(wiped));
}

static void test_wipe_refused(void **state)
{
	(void)state;
	assert_int_equal(process_wipe_on_fork(wiped.bytes + 1, PROCESS_PAGE), -EINVAL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_begin_fails),
		cmocka_unit_test(test_begin),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_wipe_refused),
	};

	return test_run("process", tests);
}
