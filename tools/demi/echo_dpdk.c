/* SPDX-License-Identifier: MIT
 * tools/demi/echo_dpdk.c - see echo_dpdk.h.
 */
#include "echo_dpdk.h"

#include <stdio.h>
#include <string.h>

#define ZERO_COPY ",zero-copy=yes" /* of memif, the client's to say */

/* The devices of both ends: name and arguments up to the socket, and behind it. */
static const struct {
	const char *name;
	const char *before[2];
	const char *behind[2];
} kinds[] = {
	{.name = "memif",
	 .before = {"net_memif0,role=server,socket=", "net_memif0,role=client,socket="},
	 .behind = {",socket-abstract=no", ",socket-abstract=no"}},
	{.name = "vhost",
	 .before = {"net_vhost0,iface=", "net_virtio_user0,path="},
	 .behind = {",queues=1", ",queues=1,queue_size=1024,packed_vq=1,mrg_rxbuf=1,in_order=1"}},
};

/* Index of the kind, or -1. */
static int kind_of(const char *device)
{
	for (size_t i = 0; device && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t length = strlen(kinds[i].name);
		if (strncmp(device, kinds[i].name, length) == 0 &&
		    (device[length] == '\0' || device[length] == ','))
			return (int)i;
	}
	return -1;
}

bool echo_dpdk_is(const char *device)
{
	return kind_of(device) >= 0;
}

bool echo_dpdk_device(enum echo_side side, const char *device, const char *socket,
		      const char *address, char *out, size_t room)
{
	static const char option[] = ",socket=";
	int kind = kind_of(device);
	const char *more = device + strcspn(device, ",");
	const char *at = strstr(more, option);
	size_t before = at ? (size_t)(at - more) : strlen(more);
	const char *path = at ? at + sizeof(option) - 1 : socket;
	size_t length = at ? strcspn(path, ",") : strlen(path);
	const char *behind = at ? path + length : "";
	const char *prefix = strchr(address, '/') ? "" : strchr(address, ':') ? "/64" : "/24";
	char *copied;

	/* catnip has no use for the key device, whose name comes first */
	int bytes = snprintf(out, room, "tap,addresses=%s%s,dpdk_device=%s%.*s%s%.*s%s", address,
			     prefix, kinds[kind].before[side], (int)length, path,
			     kinds[kind].behind[side], (int)before, more, behind);
	if (bytes < 0 || (size_t)bytes >= room)
		return false;
	if (side == ECHO_SERVER && (copied = strstr(out, ZERO_COPY)))
		memmove(copied, copied + strlen(ZERO_COPY), strlen(copied + strlen(ZERO_COPY)) + 1);
	return true;
}
