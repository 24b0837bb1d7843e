/* SPDX-License-Identifier: MIT
 * tools/demi/helper/kernel.c - see kernel.h.
 */
#include "helper/kernel.h"

#include "tool.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* sockaddr's address; false: of another family. */
static bool address_of(const struct sockaddr *any, struct ip_address *out)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (any && any->sa_family == AF_INET) {
		memcpy(&in, any, sizeof(in));
		*out = ip_from_v4(in.sin_addr.s_addr);
		return true;
	}
	if (any && any->sa_family == AF_INET6) {
		memcpy(&in6, any, sizeof(in6));
		*out = ip_from_bytes(in6.sin6_addr.s6_addr);
		return true;
	}
	return false;
}

static bool is(const struct sockaddr *any, const struct ip_address *address)
{
	struct ip_address other;

	return address_of(any, &other) && ip_equal(&other, address);
}

/* 0.0.0.0/8, 127/8, ::, ::1: nobody has these on a link. */
static bool is_special(const struct ip_address *address)
{
	static const struct ip_address loopback = {.bytes = {[15] = 1}};

	if (ip_is_v4(address))
		return address->bytes[12] == 0 || address->bytes[12] == 127;
	return ip_is_any(address) || ip_equal(address, &loopback);
}

static enum kernel_use unicast_use(const struct ip_address *address)
{
	struct ifaddrs *all;
	enum kernel_use use = KERNEL_NOT;

	if (is_special(address))
		return KERNEL_ADDRESS;
	if (ip_is_v4(address) && address->words[3] == UINT32_MAX)
		return KERNEL_BROADCAST;
	if (getifaddrs(&all))
		return KERNEL_UNKNOWN;
	for (const struct ifaddrs *one = all; one && use != KERNEL_ADDRESS; one = one->ifa_next) {
		if (is(one->ifa_addr, address))
			use = KERNEL_ADDRESS;
		else if ((one->ifa_flags & IFF_BROADCAST) && is(one->ifa_broadaddr, address))
			use = KERNEL_BROADCAST;
	}
	freeifaddrs(all);
	return use;
}

/* /proc/net/igmp: a line of an interface (number, name), then its groups, indented: a word of
 * memory in hexadecimal. */
static bool listed_v4(FILE *list, const char *interface, const struct ip_address *address)
{
	char line[256];
	char name[IFNAMSIZ];
	bool here = false;

	while (fgets(line, sizeof(line), list)) {
		if (line[0] != '\t' && sscanf(line, "%*s %15s", name) == 1)
			here = strcmp(name, interface) == 0;
		else if (here && strtoul(line, NULL, 16) == address->words[3])
			return true;
	}
	return false;
}

/* /proc/net/igmp6: number, name, group in hexadecimal. */
static bool listed_v6(FILE *list, const char *interface, const struct ip_address *address)
{
	char line[256];
	char name[IFNAMSIZ];
	char listed[33];
	char wanted[33];

	for (int i = 0; i < 16; i++)
		(void)snprintf(wanted + 2 * i, 3, "%02x", address->bytes[i]);
	while (fgets(line, sizeof(line), list)) {
		if (sscanf(line, "%*s %15s %32s", name, listed) == 2 &&
		    strcmp(name, interface) == 0 && strcmp(listed, wanted) == 0)
			return true;
	}
	return false;
}

static enum kernel_use group_use(const char *interface, const struct ip_address *address)
{
	bool is_v4 = ip_is_v4(address);
	FILE *list = fopen(is_v4 ? "/proc/net/igmp" : "/proc/net/igmp6", "re");

	if (!list)
		return is_v4 ? KERNEL_UNKNOWN : KERNEL_NOT; /* no IPv6 */
	bool listed =
		is_v4 ? listed_v4(list, interface, address) : listed_v6(list, interface, address);
	fclose(list);
	return listed ? KERNEL_GROUP : KERNEL_NOT;
}

enum kernel_use kernel_use_of(const char *interface, const struct ip_address *address)
{
	return ip_is_multicast(address) ? group_use(interface, address) : unicast_use(address);
}

/* ---- news ---- */

int kernel_watch(void)
{
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK,
					    .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	tool_complain("xdp-helper: news of the kernel's addresses: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* What it says is not looked at: the kernel is asked then.  -ENOBUFS, some was lost, is news. */
void kernel_take_news(int fd)
{
	char bytes[4096];

	while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC) > 0)
		;
}
