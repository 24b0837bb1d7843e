/* SPDX-License-Identifier: MIT */
#include "sched/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool make_directory(const char *path)
{
	struct stat status;

	if (mkdir(path, 0700) && errno != EEXIST)
		return false;
	return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == getuid();
}

bool place_directory(char *out, size_t room)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char user[64];

	if (!runtime || !*runtime) {
		(void)snprintf(user, sizeof(user), "/run/user/%u", (unsigned)getuid());
		runtime = access(user, W_OK) == 0 ? user : NULL;
	}
	int n = runtime ? snprintf(out, room, "%s/demitasse", runtime)
			: snprintf(out, room, "/tmp/demitasse-%u", (unsigned)getuid());
	return n > 0 && (size_t)n < room && make_directory(out);
}

bool place_is_safe(const char *path)
{
	struct stat status;

	if (lstat(path, &status) || !S_ISDIR(status.st_mode))
		return false;
	if (status.st_uid != getuid() && status.st_uid != 0)
		return false;
	return !(status.st_mode & (S_IWGRP | S_IWOTH)) || (status.st_mode & S_ISVTX);
}
