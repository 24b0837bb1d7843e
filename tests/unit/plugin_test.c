/* SPDX-License-Identifier: MIT
 * tests/unit/plugin_test.c - how plug-ins are found, and what is said of those that do not fit.
 */
#include "sched/plugin.h"

#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char logged[LOG_MESSAGE_MAX];

static void keep_line(void *arg, int level, const char *message)
{
	(void)arg;
	assert_int_equal(level, LOG_LEVEL_ERROR);
	(void)snprintf(logged, sizeof(logged), "%s", message);
}

/* Loads from a directory; what is said is in logged. */
static int load(const char *directory, const char *name, const struct plugin **plugin)
{
	struct sched *sched = calloc(1, sizeof(*sched));

	assert_non_null(sched);
	sched->log.fn = keep_line;
	(void)snprintf(sched->config.plugin_dir, sizeof(sched->config.plugin_dir), "%s", directory);
	*logged = '\0';
	int err = plugin_load(sched, name, plugin);
	free(sched);
	return err;
}

static void refused(const char *directory, const char *name, int err, const char *words)
{
	const struct plugin *plugin = NULL;

	assert_int_equal(load(directory, name, &plugin), err);
	assert_null(plugin);
	if (!strstr(logged, words))
		fail_msg("\"%s\" is not in: %s", words, logged);
	assert_non_null(strstr(logged, name));
}

static void test_fits(void **state)
{
	const struct plugin *plugin = NULL;
	const struct plugin *again = NULL;

	(void)state;
	assert_int_equal(load(PLUGIN_FAKES, "fake", &plugin), 0);
	assert_string_equal(logged, "");
	assert_string_equal(plugin->version, DEMI_VERSION_TEXT);
	const struct plugin_core *const *given = plugin->ops;
	assert_non_null(*given);
	assert_ptr_equal((*given)->heap_alloc_slow, heap_alloc_slow);
	assert_ptr_equal((*given)->pages, &pages_process);
	assert_int_equal(load(PLUGIN_FAKES, "fake", &again), 0);
	assert_ptr_equal(again, plugin);
}

static void test_missing(void **state)
{
	(void)state;
	refused(PLUGIN_FAKES, "none", -ENOENT, "demitasse.plugin_dir");
	refused(PLUGIN_FAKES, "none", -ENOENT, PLUGIN_FAKES);
	refused("/nowhere/at/all", "fake", -ENOENT, "/nowhere/at/all");
	refused("", "none", -ENOENT, DEMI_PLUGIN_DIRECTORY);
	refused("", "none", -ENOENT, "beside the library");
}

static void test_long_names(void **state)
{
	char name[1024];
	const struct plugin *plugin = NULL;

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(load(PLUGIN_FAKES, name, &plugin), -ENOENT);
	assert_int_equal(load("", name, &plugin), -ENOENT);
}

static void test_misfits(void **state)
{
	static const struct {
		const char *name;
		const char *words;
	} misfits[] = {
		{"fake-nothing", "is no plug-in"},
		{"fake-abi", "of another binary interface"},
		{"fake-version", "of another version"},
		{"fake-layout", "of another build"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(misfits) / sizeof(*misfits); i++) {
		refused(PLUGIN_FAKES, misfits[i].name, -ENOEXEC, misfits[i].words);
		assert_non_null(strstr(logged, DEMI_VERSION_TEXT));
	}
}

/* A text file, and an empty one, of a plug-in's name. */
static void test_not_shared_objects(void **state)
{
	static const char *const contents[] = {"", "#!/bin/sh\n"};
	char directory[] = "/tmp/plugin-test-XXXXXX";
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/libdemitasse-text.so", directory);
	for (size_t i = 0; i < sizeof(contents) / sizeof(*contents); i++) {
		FILE *file = fopen(path, "we");
		assert_non_null(file);
		assert_true(fputs(contents[i], file) >= 0);
		assert_int_equal(fclose(file), 0);
		refused(directory, "text", -ENOEXEC, path);
		assert_non_null(strstr(logged, "plug-in: "));
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

/* ---- with more privilege than the user ---- */

#define NOBODY    65534
#define UNTESTED  2
#define THIS_FAKE PLUGIN_FAKES "/libdemitasse-fake.so"

/* What the privileged copy of this program does: the status is the verdict. */
static int load_privileged(void)
{
	const struct plugin *plugin = NULL;

	if (!getauxval(AT_SECURE) || access(THIS_FAKE, R_OK) != 0)
		return UNTESTED; /* mounted nosuid, or behind a closed directory */
	return load(PLUGIN_FAKES, "fake", &plugin) != -ENOENT ||
	       !strstr(logged, "more privilege than its user");
}

static void copy_self(const char *path)
{
	char bytes[65536];
	FILE *from = fopen("/proc/self/exe", "re");
	FILE *to = fopen(path, "we");
	size_t n;

	assert_non_null(from);
	assert_non_null(to);
	while ((n = fread(bytes, 1, sizeof(bytes), from)) > 0)
		assert_int_equal(fwrite(bytes, 1, n, to), n);
	assert_int_equal(fclose(to), 0);
	(void)fclose(from);
	assert_int_equal(chmod(path, 02755), 0);
}

static int run_as_nobody(const char *path)
{
	int status = -1;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		if (setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
		    setresuid(NOBODY, NOBODY, NOBODY) == 0)
			execl(path, path, "privileged", (char *)NULL);
		_exit(UNTESTED);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_privileged(void **state)
{
	char directory[] = "/tmp/plugin-test-XXXXXX";
	char path[64];

	(void)state;
	if (geteuid() != 0)
		skip_because("privilege: a program of another group needs root");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chmod(directory, 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/test", directory);
	copy_self(path);
	int verdict = run_as_nobody(path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
	if (verdict == UNTESTED)
		skip_because("no program can have more privilege than its user here (nosuid)");
	assert_int_equal(verdict, 0);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "privileged") == 0)
		_exit(load_privileged()); /* the leak sanitizer cannot look into such a process */
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fits),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_misfits),
		cmocka_unit_test(test_not_shared_objects),
		cmocka_unit_test(test_privileged),
	};

	return test_run("plugin", tests);
}
