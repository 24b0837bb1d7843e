/* SPDX-License-Identifier: MIT
 * tools/demi/echo_link.h - a link of the benchmark's own for its two ends: two network namespaces
 * joined by a veth pair, or one with two TAP interfaces on a bridge.
 *
 * The namespaces have no names, only descriptors of this process: they and all that is in them go
 * with it, however it ends.  Needs root, and `ip` of iproute2.
 *
 * Or shared memory by one of DPDK's virtual devices (memif, vhost), which needs neither: catnip
 * drives them, and what uses the kernel's sockets is on loopback.
 *
 * Each side has an address of the kernel's, for sockets, and one for a library OS that drives the
 * interface.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum echo_side { ECHO_SERVER, ECHO_CLIENT };

struct echo_link {
	int home;     /* where this process was; -1: not open */
	int sides[2]; /* network namespace of each */
	bool tap;
	char directory[32]; /* of a link by a virtual device of DPDK; "": it is another */
	char socket[64];    /* in it */
};

/* Can a link of this name be made here ("veth", "afpacket", "tap", "memif", "vhost"),
 * whatever follows it? */
bool echo_link_is(const char *device);

/* 0, or -errno after a complaint. */
int echo_link_open(struct echo_link *link, const char *device);
void echo_link_close(struct echo_link *link);

/* In a child: moves it to its side.  0 or -errno. */
int echo_link_enter(const struct echo_link *link, enum echo_side side);

/* Where the server listens: for a library OS that drives a device, or for sockets of the kernel,
 * which beside TAP are on loopback. */
const char *echo_link_address(const struct echo_link *link, bool device);

/* A proxy is on the server's side, client and server on the client's: addresses and checksums there
 * as a library OS on the other end wants them.  0 or -errno after a complaint. */
int echo_link_for_proxy(const struct echo_link *link);

/* Where such a server is, seen from a proxy that drives a device, or from one that does not. */
const char *echo_link_behind(bool device);

/* The device of a library OS on its side: what was asked for, with interface and address.  False:
 * it is too long. */
bool echo_link_device(const struct echo_link *link, enum echo_side side, const char *device,
		      char *out, size_t room);
/* The same for catnip on a veth pair: DPDK's packet socket. */
bool echo_link_packet(enum echo_side side, const char *device, char *out, size_t room);
