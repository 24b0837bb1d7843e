/* SPDX-License-Identifier: MIT
 * tools/demi/rdma.c - see rdma.h.
 */
#include "rdma.h"

#include "tool.h"

#include <arpa/inet.h>
#include <glob.h>
#include <ifaddrs.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define DEVICES "/sys/class/infiniband/"

/* The first line of the first file that matches and can be read; false: none can. */
static bool read_line(const char *pattern, char *text, size_t room)
{
	glob_t paths = {0};
	bool some = false;

	if (glob(pattern, 0, NULL, &paths) != 0)
		return false;
	for (size_t i = 0; i < paths.gl_pathc && !some; i++) {
		FILE *file = fopen(paths.gl_pathv[i], "re");
		if (!file)
			continue;
		some = fgets(text, (int)room, file) != NULL; /* of an entry that is not used: no */
		(void)fclose(file);
	}
	globfree(&paths);
	text[some ? strcspn(text, "\n") : 0] = '\0';
	return some;
}

static bool read_of(const char *device, const char *below, char *text, size_t room)
{
	char pattern[PATH_MAX];

	(void)snprintf(pattern, sizeof(pattern), DEVICES "%s/%s", device, below);
	return read_line(pattern, text, room);
}

static bool is_active(const char *device)
{
	char pattern[PATH_MAX];
	glob_t paths = {0};
	char text[32];
	bool active = false;

	(void)snprintf(pattern, sizeof(pattern), DEVICES "%s/ports/*/state", device);
	if (glob(pattern, 0, NULL, &paths) != 0)
		return false;
	for (size_t i = 0; i < paths.gl_pathc && !active; i++)
		active = read_line(paths.gl_pathv[i], text, sizeof(text)) && strstr(text, "ACTIVE");
	globfree(&paths);
	return active;
}

/* Of RoCE a table of the port's names it, of InfiniBand it stands beside the device. */
static void find_interface(struct rdma_device *device)
{
	char pattern[PATH_MAX];
	glob_t paths = {0};

	if (read_of(device->name, "ports/*/gid_attrs/ndevs/*", device->interface,
		    sizeof(device->interface)))
		return;
	(void)snprintf(pattern, sizeof(pattern), DEVICES "%s/device/net/*", device->name);
	if (glob(pattern, 0, NULL, &paths) == 0)
		tool_copy_text(device->interface, sizeof(device->interface),
			       strrchr(paths.gl_pathv[0], '/') + 1);
	globfree(&paths);
}

static void find_address(struct rdma_device *device)
{
	struct ifaddrs *list = NULL;
	int family = AF_UNSPEC;

	if (getifaddrs(&list) != 0)
		return;
	for (const struct ifaddrs *at = list; at && family != AF_INET; at = at->ifa_next) {
		if (!at->ifa_addr || strcmp(at->ifa_name, device->interface) != 0)
			continue;
		const void *address = NULL;
		if (at->ifa_addr->sa_family == AF_INET)
			address =
				&((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr;
		else if (at->ifa_addr->sa_family == AF_INET6 && family == AF_UNSPEC)
			address = &((const struct sockaddr_in6 *)(const void *)at->ifa_addr)
					   ->sin6_addr;
		if (!address || (at->ifa_addr->sa_family == AF_INET6 &&
				 IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)address)))
			continue;
		family = at->ifa_addr->sa_family;
		(void)inet_ntop(family, address, device->address, sizeof(device->address));
	}
	freeifaddrs(list);
}

size_t rdma_devices(struct rdma_device list[RDMA_DEVICES_MAX])
{
	glob_t paths = {0};
	size_t count = glob(DEVICES "*", 0, NULL, &paths) == 0 ? paths.gl_pathc : 0;

	for (size_t i = 0; i < count && i < RDMA_DEVICES_MAX; i++) {
		struct rdma_device *device = &list[i];
		*device = (struct rdma_device){0};
		tool_copy_text(device->name, sizeof(device->name),
			       strrchr(paths.gl_pathv[i], '/') + 1);
		device->active = is_active(device->name);
		(void)read_of(device->name, "ports/*/link_layer", device->link,
			      sizeof(device->link));
		find_interface(device);
		find_address(device);
	}
	globfree(&paths);
	return count;
}

bool rdma_address(char address[INET6_ADDRSTRLEN])
{
	struct rdma_device list[RDMA_DEVICES_MAX];
	size_t count = rdma_devices(list);

	for (size_t i = 0; i < count && i < RDMA_DEVICES_MAX; i++) {
		if (!list[i].active || !list[i].address[0])
			continue;
		tool_copy_text(address, INET6_ADDRSTRLEN, list[i].address);
		return true;
	}
	return false;
}
