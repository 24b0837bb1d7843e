/* SPDX-License-Identifier: MIT
 * tests/tool/floor_test.c - what `demi bench echo` makes of perftest's ib_send_lat, which a script
 * plays here.
 */
#include "echo_floor.h"

#include "support/test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/floor-test-XXXXXX";

static const char *in_directory(const char *name, char path[PATH_MAX])
{
	(void)snprintf(path, PATH_MAX, "%s/%s", directory, name);
	return path;
}

/* The program from now on; NULL: there is none. */
static void set_program(const char *body)
{
	char path[PATH_MAX];

	(void)unlink(in_directory("words", path));
	(void)unlink(in_directory("tries", path));
	in_directory("ib_send_lat", path);
	(void)unlink(path);
	if (!body)
		return;
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	/* the last word is the address, or the port */
	(void)fprintf(file,
		      "#!/bin/sh\ncd %s || exit 3\nfor last; do :; done\necho \"$*\" >> words\n"
		      "case $last in *.*) ;; *) exec /bin/sleep 20;; esac\n%s\n",
		      directory, body);
	(void)fclose(file);
	assert_int_equal(chmod(path, 0700), 0);
}

static void read_words(char *words, size_t room)
{
	char path[PATH_MAX];
	FILE *file = fopen(in_directory("words", path), "re");

	assert_non_null(file);
	size_t length = fread(words, 1, room - 1, file);
	words[length] = '\0';
	(void)fclose(file);
}

#define TABLE                                                                                 \
	"/bin/cat <<END\n"                                                                    \
	" Mtu             : 1024[B]\n"                                                        \
	" local address: LID 0000 QPN 0x0011 PSN 0x2c1f90\n"                                  \
	" #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]\n" \
	" 64      1000          14.61          87.10        17.03              18.40\n"       \
	"END\n"

static void test_figure(void **state)
{
	char message[ECHO_FLOOR_MESSAGE] = "";
	char words[1024];

	(void)state;
	set_program(TABLE);
	double floor_ns = echo_floor_ns("10.7.0.1", 64, 0, message);
	assert_true(floor_ns > 34059 && floor_ns < 34061);
	assert_string_equal(message, "");
	read_words(words, sizeof(words));
	assert_non_null(strstr(words, "-R"));
	assert_non_null(strstr(words, "-s 64 "));
	assert_non_null(strstr(words, " 10.7.0.1\n"));
}

/* The server may not be there yet. */
static void test_tries(void **state)
{
	char message[ECHO_FLOOR_MESSAGE] = "";

	(void)state;
	set_program("echo x >> tries\n[ $(/usr/bin/wc -l <tries) -gt 2 ] || exit 1\n" TABLE);
	assert_true(echo_floor_ns("10.7.0.1", 64, 0, message) > 34059);
}

static void test_no_figure(void **state)
{
	char message[ECHO_FLOOR_MESSAGE] = "";

	(void)state;
	set_program(TABLE); /* of another size */
	assert_true(echo_floor_ns("10.7.0.1", 65, 0, message) < 0);
	assert_non_null(strstr(message, "no figure"));
	set_program("exit 1");
	assert_true(echo_floor_ns("10.7.0.1", 64, 0, message) < 0);
	assert_non_null(strstr(message, "status 1"));
}

static void test_absent(void **state)
{
	char message[ECHO_FLOOR_MESSAGE] = "";

	(void)state;
	set_program(NULL);
	assert_true(echo_floor_ns("10.7.0.1", 64, 0, message) < 0);
	assert_non_null(strstr(message, "apt-get install perftest"));
}

static int enter(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	return setenv("PATH", directory, 1);
}

static int leave(void **state)
{
	(void)state;
	set_program(NULL);
	return rmdir(directory);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figure),
		cmocka_unit_test(test_tries),
		cmocka_unit_test(test_no_figure),
		cmocka_unit_test(test_absent),
	};

	return test_run_group("floor", tests, sizeof(tests) / sizeof(tests[0]), enter, leave);
}
