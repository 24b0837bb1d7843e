/* SPDX-License-Identifier: MIT
 * tests/net/interop_group.c - our side of group_test.py: members of groups, and senders to them and
 * to broadcast addresses, over whatever libOS the environment names.
 *
 *	interop_group member ADDRESS PORT SOCKETS COUNT [GROUP...]
 *	interop_group send ADDRESS PORT COUNT SIZE
 *
 * A member has so many sockets on one port, joins the groups with each, and prints "ready"; it ends
 * when each socket has got COUNT datagrams, of which datagram i is the stream from byte i on; one
 *of one byte ends it at once.  ADDRESS is what the sockets are bound to, or what is sent to.
 */
#include "net/interop.h"

#include <arpa/inet.h>
#include <demi/coroutine.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOCKETS_MAX 8
#define ROOM        (4 << 20) /* bytes: for all datagrams, should we not run while they come */

static const struct timespec millisecond = {.tv_nsec = 1000000};

struct name {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};

	socklen_t length;
};

static int number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (end == text || *end || value < 0 || value > 65535)
		interop_fail("%s: no number from 0 to 65535", text);
	return (int)value;
}

static struct name name_of(const char *address, const char *port)
{
	struct name name;

	memset(&name, 0, sizeof(name));
	if (inet_pton(AF_INET, address, &name.in.sin_addr) == 1) {
		name.in.sin_family = AF_INET;
		name.in.sin_port = htons((uint16_t)number(port));
		name.length = sizeof(name.in);
	} else if (inet_pton(AF_INET6, address, &name.in6.sin6_addr) == 1) {
		name.in6.sin6_family = AF_INET6;
		name.in6.sin6_port = htons((uint16_t)number(port));
		name.length = sizeof(name.in6);
	} else {
		interop_fail("%s: no address", address);
	}
	return name;
}

static int open_socket(const struct name *name)
{
	static const int one = 1;
	static const int room = ROOM;
	int qd = -1;

	interop_must(demi_socket(&qd, name->any.sa_family, SOCK_DGRAM, 0), "demi_socket");
	interop_must(demi_setsockopt(qd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)),
		     "SO_REUSEADDR");
	interop_must(demi_setsockopt(qd, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)),
		     "SO_BROADCAST");
	interop_must(demi_setsockopt(qd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), "SO_RCVBUF");
	return qd;
}

static void join(int qd, const char *group)
{
	const struct name name = name_of(group, "0");
	struct ip_mreqn v4 = {.imr_multiaddr = name.in.sin_addr};
	struct ipv6_mreq v6 = {.ipv6mr_multiaddr = name.in6.sin6_addr};

	if (name.any.sa_family == AF_INET)
		interop_must(demi_setsockopt(qd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &v4, sizeof(v4)),
			     "IP_ADD_MEMBERSHIP");
	else
		interop_must(demi_setsockopt(qd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &v6, sizeof(v6)),
			     "IPV6_JOIN_GROUP");
}

/* False: it was told to end. */
static bool take_one(int qd, int i)
{
	demi_sgarray_t sga = interop_pop(qd);
	size_t length = interop_length(&sga);

	if (length > 1)
		interop_check((uint64_t)i, sga.sga_segs[0].sgaseg_buf, length);
	interop_free(&sga);
	return length > 1;
}

static void member(char **args, int groups)
{
	const struct name name = name_of(args[0], args[1]);
	int sockets = number(args[2]);
	int count = number(args[3]);
	int qds[SOCKETS_MAX];

	for (int i = 0; i < sockets && i < SOCKETS_MAX; i++) {
		qds[i] = open_socket(&name);
		interop_must(demi_bind(qds[i], &name.any, name.length), "demi_bind");
		for (int g = 0; g < groups; g++)
			join(qds[i], args[4 + g]);
	}
	(void)puts("ready");
	(void)fflush(stdout);
	for (int n = 0; n < count; n++) {
		for (int i = 0; i < sockets; i++) {
			if (!take_one(qds[i], n))
				return;
		}
	}
	for (int i = 0; i < sockets; i++)
		interop_close(qds[i]);
}

static void send_to(char **args)
{
	const struct name name = name_of(args[0], args[1]);
	int count = number(args[2]);
	size_t size = (size_t)number(args[3]);
	int qd = open_socket(&name);

	for (int i = 0; i < count; i++) {
		demi_sgarray_t sga = demi_sgaalloc(size);
		demi_qtoken_t qt;
		interop_fill((uint64_t)i, sga.sga_segs[0].sgaseg_buf, size);
		interop_must(demi_pushto(&qt, qd, &sga, &name.any, name.length), "demi_pushto");
		interop_free(&sga);
		interop_must((int)interop_wait(qt).qr_ret, "push");
		interop_must(demi_sleep(&millisecond), "demi_sleep");
	}
	interop_close(qd);
}

int main(int argc, char **argv)
{
	interop_begin();
	if (argc >= 6 && strcmp(argv[1], "member") == 0)
		member(argv + 2, argc - 6);
	else if (argc == 6 && strcmp(argv[1], "send") == 0)
		send_to(argv + 2);
	else
		interop_fail("usage: interop_group member|send ADDRESS PORT ...");
	interop_end();
	(void)puts("done");
	return 0;
}
