/* SPDX-License-Identifier: MIT
 * tools/demi/bench_net.c - `demi bench net`: runs the program demi-bench-net, which stands beside
 * this one in a build directory and in the directory for programs of ours when installed.
 */
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "demi-bench-net"

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

int bench_net(int argc, char **argv)
{
	static const char *const places[] = {"", "/" DEMI_LIBEXEC};
	char own[PATH_MAX];
	char path[PATH_MAX + 256];

	(void)argc;
	if (!own_directory(own, sizeof(own))) {
		tool_complain("net: /proc/self/exe: %s", strerror(errno));
		return TOOL_FAILED;
	}
	for (size_t i = 0; i < TOOL_COUNT(places); i++) {
		snprintf(path, sizeof(path), "%s%s/" PROGRAM, own, places[i]);
		(void)execv(path, argv);
		if (errno != ENOENT && errno != ENOTDIR)
			break;
	}
	tool_complain("net: %s: %s", path, strerror(errno));
	return TOOL_FAILED;
}
