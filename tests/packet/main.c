/* SPDX-License-Identifier: MIT
 * tests/packet/main.c - packet_runner [--adapter=PATH] [--so_flags=WORDS] FILE...: runs packet
 * scripts through packetdrill's interface and prints TAP, one line a script.  A directory stands
 * for the *.pkt files below it; one that is not there is a SKIP.
 */
#include "packet/run.h"

#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct paths {
	char **paths;
	size_t count;
	size_t max;
};

static void add_path(struct paths *list, const char *path)
{
	if (list->count == list->max) {
		list->max = list->max ? 2 * list->max : 256;
		list->paths = realloc(list->paths, list->max * sizeof(char *));
	}
	char *copy = strdup(path);
	if (!list->paths || !copy)
		abort();
	list->paths[list->count++] = copy;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void add_tree(struct paths *list, char *path)
{
	char *roots[] = {path, NULL};
	FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
	FTSENT *entry;

	while (tree && (entry = fts_read(tree))) {
		if (entry->fts_info == FTS_F && entry->fts_namelen > 4 &&
		    strcmp(entry->fts_name + entry->fts_namelen - 4, ".pkt") == 0)
			add_path(list, entry->fts_path);
	}
	if (tree)
		fts_close(tree);
}

/* Where a path leads; NULL: the conformance suite is not here. */
static char *place_of(char *path)
{
	size_t length = strlen(path);

	if (length < 11 || strcmp(path + length - 11, "conformance") != 0 ||
	    access(path, R_OK) == 0)
		return path;
	return getenv("PACKET_CONFORMANCE");
}

/* The part of a path behind the last directory that all tests share. */
static const char *short_name(const char *path)
{
	const char *at = strstr(path, "tests/packet/");

	at = at ? at + strlen("tests/packet/") : path;
	const char *shared = strstr(at, "conformance/");
	return shared ? shared : at;
}

static bool run_one(const struct run_adapter *adapter, const char *path, size_t number)
{
	char message[RUN_MESSAGE_MAX] = "";
	enum run_result result = run_file(adapter, path, message);

	printf("%sok %zu - %s\n", result == RUN_OK ? "" : "not ", number, short_name(path));
	if (result != RUN_OK)
		printf("# %s%s\n", result == RUN_UNSUPPORTED ? "not understood: " : "", message);
	(void)fflush(stdout);
	return result == RUN_OK;
}

/* The value of an option --NAME=VALUE; NULL: another argument. */
static const char *option_of(const char *argument, const char *name)
{
	size_t length = strlen(name);

	return strncmp(argument, name, length) == 0 ? argument + length : NULL;
}

int main(int argc, char **argv)
{
	struct run_adapter adapter = {0};
	char message[RUN_MESSAGE_MAX];
	const char *object = NULL;
	struct paths list = {0};
	bool ok = true;

	for (int i = 1; i < argc; i++) {
		const char *value = option_of(argv[i], "--adapter=");
		if (value) {
			object = value;
			continue;
		}
		value = option_of(argv[i], "--so_flags=");
		if (value) {
			adapter.flags = value;
			continue;
		}
		char *path = place_of(argv[i]);
		struct stat st;
		if (!path)
			continue;
		if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
			add_tree(&list, path);
		else
			add_path(&list, path);
	}
	if (!run_load(&adapter, object, message)) {
		printf("Bail out! %s\n", message);
		return 1;
	}
	if (list.count == 0)
		printf("1..0 # SKIP conformance scripts are not here\n");
	else
		printf("1..%zu\n", list.count);
	for (size_t i = 0; i < list.count; i++) {
		ok = run_one(&adapter, list.paths[i], i + 1) && ok;
		free(list.paths[i]);
	}
	free(list.paths);
	return ok ? 0 : 1;
}
