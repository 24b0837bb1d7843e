/* SPDX-License-Identifier: MIT
 * netdev/interface.h - network interfaces of the kernel: what the back ends that stand on one
 * share.
 *
 * Control path only.  Whatever is refused is told to the log: the key, the value, the interface,
 * and the command that mends it.  Nothing here owns anything.
 */
#pragma once

#include "sched/sched.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

struct interface {
	char name[IFNAMSIZ];
	int index;
	uint32_t mtu;
	uint8_t mac[6]; /* the kernel's */
	bool up;
};

/* What the kernel says of the interface called name, which must be an Ethernet one.  0 or -errno,
 * told. */
int interface_read(struct sched *sched, const char *name, struct interface *out);

/* The same for the configured one, which device needs. */
int interface_named(struct sched *sched, const char *device, struct interface *out);

/* Warns of an interface that is down. */
void interface_tell_down(struct sched *sched, const struct interface *interface);
/* Tells, once, the command that ends unfinished checksums and super-frames. */
void interface_tell_offloads(struct sched *sched, const struct interface *interface);

/* Our link-layer address: the configured one, else fallback.  0 or -EINVAL, told. */
int interface_mac(struct sched *sched, const uint8_t fallback[6], uint8_t mac_out[6]);

/* None of our addresses may be the kernel's: it would take part in our connections, and end them by
 * resets.  shared: only link-local ones must not, the device sees to the others.  0 or
 * -EADDRNOTAVAIL, told. */
int interface_check_addresses(struct sched *sched, bool shared);

/* Sets the flags of the interface called name that are in set (IFF_UP).  0 or -errno. */
int interface_set_flags(const char *name, uint32_t set);
int interface_set_mtu(const char *name, uint32_t mtu);

/* How many queues of it receive; 1 if the driver does not say. */
uint32_t interface_queues(const char *name);

/* Of a socket at the interface: takes the error that events tell of, or it is told for ever; and
 * warns of it. */
void interface_take_error(struct sched *sched, const struct interface *interface, int fd,
			  uint32_t events);

/* Is it one end of a pair whose other end may be a stack of this machine? */
bool interface_is_veth(const char *name);
/* The other end of a veth pair, if it is in this network namespace. */
bool interface_veth_peer(const struct interface *interface, char peer_out[IFNAMSIZ]);

/* Tells that a system call failed: err is a positive errno.  A missing privilege is told with the
 * capability and the command that gives it.  Returns -err. */
int interface_refused(struct sched *sched, const char *what, const char *capability, int err);
