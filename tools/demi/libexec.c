/* SPDX-License-Identifier: MIT
 * tools/demi/libexec.c - commands that are programs of their own, for they link what `demi` does
 * not: they stand beside this one in a build directory, and in the directory for programs of ours
 * when installed.
 */
#include "tool.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The directory that this program stands in; false: not known. */
static bool own_directory(char *path, size_t room)
{
	ssize_t length = readlink("/proc/self/exe", path, room - 1);

	if (length < 0)
		return false;
	path[length] = '\0';
	char *slash = strrchr(path, '/');
	if (slash)
		*slash = '\0';
	return slash != NULL;
}

static const char *const places[] = {"", "/" DEMI_LIBEXEC};

/* Where a file is that stands beside the command.  False: nowhere. */
static bool libexec_path(const char *file, char *path, size_t room)
{
	char own[PATH_MAX];

	if (!own_directory(own, sizeof(own)))
		return false;
	for (size_t i = 0; i < TOOL_COUNT(places); i++) {
		int length = snprintf(path, room, "%s%s/%s", own, places[i], file);
		if (length > 0 && (size_t)length < room && access(path, R_OK) == 0)
			return true;
	}
	return false;
}

const void *libexec_symbol(const char *module, const char *symbol)
{
	char path[PATH_MAX];
	void *loaded = NULL;

	if (libexec_path(module, path, sizeof(path)))
		loaded = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	return loaded ? dlsym(loaded, symbol) : NULL;
}

/* Becomes the program; returns if that fails. */
static int become(const char *program, const char *command, char **argv)
{
	char own[PATH_MAX];
	char path[PATH_MAX + 256];

	if (!own_directory(own, sizeof(own))) {
		tool_complain("%s: /proc/self/exe: %s", command, strerror(errno));
		return TOOL_FAILED;
	}
	for (size_t i = 0; i < TOOL_COUNT(places); i++) {
		snprintf(path, sizeof(path), "%s%s/%s", own, places[i], program);
		(void)execv(path, argv);
		if (errno != ENOENT && errno != ENOTDIR)
			break;
	}
	tool_complain("%s: %s: %s", command, path, strerror(errno));
	return TOOL_FAILED;
}

int bench_net(int argc, char **argv)
{
	(void)argc;
	return become("demi-bench-net", "net", argv);
}

int command_log(int argc, char **argv)
{
	(void)argc;
	return become("demi-log", "log", argv);
}

int command_xdp_helper(int argc, char **argv)
{
	(void)argc;
	return become("demi-xdp-helper", "xdp-helper", argv);
}
