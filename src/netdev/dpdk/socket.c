/* SPDX-License-Identifier: MIT
 * netdev/dpdk/socket.c - the socket of an end of shared memory that is its server: what a process
 * that was killed has left stands in the way of net_memif and net_vhost, and the latter goes on
 * without a word when it can't bind its socket (22.11).
 */
#include "netdev/dpdk/dpdk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKETS    "/proc/net/unix"
#define PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)

/* The path behind a word of the device's arguments; "": there is none. */
static void read_path(const char *device, const char *word, char path[static PATH_BYTES])
{
	const char *at = strstr(device, word);

	path[0] = '\0';
	if (!at)
		return;
	at += strlen(word);
	size_t length = strcspn(at, ",");
	if (length < PATH_BYTES) {
		memcpy(path, at, length);
		path[length] = '\0';
	}
}

/* Does somebody listen there?  The kernel lists the sockets of this network namespace. */
static bool is_listened(const char *path)
{
	char line[256];
	bool found = false;
	FILE *file = fopen(SOCKETS, "re");

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		char *at = strchr(line, '/');
		line[strcspn(line, "\n")] = '\0';
		found = at && strcmp(at, path) == 0;
	}
	(void)fclose(file);
	return found;
}

int socket_prepare(const struct dpdk *x, const char *device)
{
	bool vhost = strncmp(device, "net_vhost", 9) == 0 && !strstr(device, "client=1");
	bool memif = strncmp(device, "net_memif", 9) == 0 && strstr(device, "role=server") &&
		     strstr(device, "socket-abstract=no");
	char path[PATH_BYTES];
	struct stat file;

	if (!vhost && !memif)
		return 0;
	read_path(device, vhost ? "iface=" : "socket=", path);
	if (!*path || stat(path, &file) || !S_ISSOCK(file.st_mode))
		return 0;
	bool taken = is_listened(path);
	if (taken && memif) /* says so itself, and may be ours, for several devices */
		return 0;
	if (!taken && unlink(path) == 0)
		return 0;
	int err = taken ? -EADDRINUSE : -errno;
	log_write(&x->dev.sched->log, LOG_LEVEL_ERROR,
		  "DPDK, device %s: can't be used: the socket %s: %s", x->name, path,
		  strerror(-err));
	return err;
}
