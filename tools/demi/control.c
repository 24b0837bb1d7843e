/* SPDX-License-Identifier: MIT
 * tools/demi/control.c - the sockets of running instances.
 */
#include "control.h"

#include "tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* As the library chooses it. */
void control_directory(char *path, size_t room)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char user[64];

	snprintf(user, sizeof(user), "/run/user/%u", (unsigned)getuid());
	if (runtime && *runtime)
		snprintf(path, room, "%s/demitasse", runtime);
	else if (access(user, F_OK) == 0)
		snprintf(path, room, "%s/demitasse", user);
	else
		snprintf(path, room, "/tmp/demitasse-%u", (unsigned)getuid());
}

bool control_parse_name(const char *name, unsigned long *pid)
{
	char *end;

	*pid = strtoul(name, &end, 10);
	if (end == name || *end != '-')
		return false;
	name = end + 1;
	(void)strtoul(name, &end, 10);
	return end > name && strcmp(end, ".sock") == 0;
}

int control_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int error;
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	tool_copy_text(address.sun_path, sizeof(address.sun_path), path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error = -errno;
	close(fd);
	if (error == -ECONNREFUSED)
		unlink(path);
	return error;
}
