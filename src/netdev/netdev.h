/* SPDX-License-Identifier: MIT
 * netdev/netdev.h - the seam of back ends that move frames under the inet stack: one queue pair of
 * a device.
 *
 * Thread: that of the instance.  Nothing blocks.  A device that copies (a system call, a ring) is
 * done with a frame when tx_burst returns and frees it there; one that reads it later frees it
 * then. Middleware (fault, pcap) is a device that wraps another and owns it.
 */
#pragma once

#include "base/address.h"
#include "base/cbpf.h"
#include "base/counters.h"
#include "netdev/frame.h"
#include "sched/sched.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define NETDEV_BURST 32

enum netdev_offloads {
	NETDEV_TX_CHECKSUM = 1, /* completes transport checksums (FRAME_CHECKSUM) */
	NETDEV_RX_CHECKSUM = 2, /* verifies them (FRAME_CHECKED) */
	NETDEV_RSS = 4,         /* spreads flows over the instances that share it, a queue each */
	NETDEV_LRO = 8,         /* joins segments: what it received may be longer than the MTU */
};

struct netdev;

/* Both ends of a connection, ports in host order. */
struct netdev_flow {
	const struct ip_address *local;
	const struct ip_address *remote;
	uint16_t local_port;
	uint16_t remote_port;
};

/* All members are required. */
struct netdev_ops {
	const char *name;
	/* Takes up to max frames in, which are the caller's then; returns how many. */
	uint32_t (*rx_burst)(struct netdev *dev, struct frame **frames, uint32_t max);
	/* Takes the first frames of count, as many as there is room for now: they are the device's.
	 * Returns how many; the others stay the caller's. */
	uint32_t (*tx_burst)(struct netdev *dev, struct frame **frames, uint32_t count);
	/* Tells the device of what it was given.  Most need no telling (netdev_no_doorbell); where
	 * it costs a system call, tx_burst does it for many frames only, and rx_burst, arm and
	 * close do it for the rest. */
	void (*doorbell)(struct netdev *dev);
	/* Has a received frame wake the instance: its descriptor is in sched->fds, lazy.  0,
	 * -EAGAIN: frames are waiting, -ENOTSUP: it must be polled. */
	int (*arm)(struct netdev *dev);
	void (*disarm)(struct netdev *dev);
	/* Earliest time at which rx_burst or tx_burst must be called though nothing arrives;
	 * TIMER_NEVER. */
	uint64_t (*next_deadline)(struct netdev *dev);
	/* The engine has opened the device in dev->sched: the moment to watch descriptors.  0 or
	 * -errno. */
	int (*start)(struct netdev *dev);
	/* The stack wants packets to an address of its own or a group, or no longer (wanted false).
	 * A device that takes everything from its link has nothing to do: netdev_takes_all.  Called
	 * after start; not on the data path.  0 or -errno, told to the log. */
	int (*steer)(struct netdev *dev, const struct ip_address *address, bool wanted);
	/* Of several instances that share the link: is it this one that gets what the remote end of
	 * a flow sends?  Asked when a local port is chosen; a device that gets everything, or does
	 * not know, says yes: netdev_receives_all. */
	bool (*receives)(struct netdev *dev, const struct netdev_flow *flow);
	/* Frees it, after start or not. */
	void (*close)(struct netdev *dev);
};

/* Ports of a transport, host order: IP_TCP, IP_UDP. */
struct netdev_ports {
	uint8_t protocol;
	uint16_t first;
	uint16_t last;
};

struct netdev_stats {
	uint64_t rx_frames;
	uint64_t rx_bytes;
	uint64_t tx_frames;
	uint64_t tx_bytes;
	uint64_t tx_busy; /* bursts that were not taken whole */
};

/* Embedded first in every device. */
struct netdev {
	const struct netdev_ops *ops;
	struct sched *sched; /* set by the engine before start */
	uint32_t mtu;        /* bytes behind the Ethernet header and the tag of a virtual LAN */
	uint32_t index;      /* the kernel's of its interface; 0: none */
	uint8_t mac[6];
	bool mac_shared;       /* the kernel has it on the same link */
	uint8_t offloads;      /* enum netdev_offloads */
	uint8_t max_segments;  /* of a frame to be sent, at most FRAME_SEGMENTS; 0: none */
	uint32_t cut_bytes;    /* TCP payload that it cuts into segments (TSO), at most; 0: it does
				  not, as middleware does not */
	bool misses_all_hosts; /* what is sent to all hosts goes to the kernel, which has the
				  interface too */
	/* Our addresses are the kernel's too, but for link-local ones: it answers for them, and
	 * only these ports of them are ours.  0: they are ours alone. */
	uint32_t num_ports;
	const struct netdev_ports *ports; /* the device's */
	/* Of datagrams to a UDP port only those need to come up for which a program (base/cbpf.h)
	 * is not 0: what the device cannot judge for certain comes too, so it is run again above.
	 * count 0: all have to come again, though what is on its way may not.  NULL: the device
	 * cannot, as middleware does not, which is to see every frame.  0 or -errno: all come. */
	int (*filter)(struct netdev *dev, uint16_t port, const struct sock_filter *program,
		      uint32_t count);
	char mode[48]; /* how it works, of several ways; "": there is one */
	struct netdev_stats stats;
	/* Middleware that wants to know why the stack dropped a frame that rx_burst gave it; NULL.
	 * Called before the frame is freed. */
	void (*dropped)(struct netdev *dev, const struct frame *frame, enum drop reason);
};

/* Middleware is to the stack what the device in it is; the rest of it is its own. */
static inline void netdev_copy_traits(struct netdev *dev, const struct netdev *inner)
{
	dev->mtu = inner->mtu;
	dev->index = inner->index;
	memcpy(dev->mac, inner->mac, sizeof(dev->mac));
	dev->mac_shared = inner->mac_shared;
	dev->offloads = inner->offloads;
	dev->max_segments = inner->max_segments;
	dev->misses_all_hosts = inner->misses_all_hosts;
	dev->num_ports = inner->num_ports;
	dev->ports = inner->ports;
	memcpy(dev->mode, inner->mode, sizeof(dev->mode));
}

/* doorbell of devices that are told by tx_burst. */
static inline void netdev_no_doorbell(struct netdev *dev)
{
	(void)dev;
}

/* steer of devices that take everything. */
static inline int netdev_takes_all(struct netdev *dev, const struct ip_address *address,
				   bool wanted)
{
	(void)dev;
	(void)address;
	(void)wanted;
	return 0;
}

/* receives of devices that nobody shares. */
static inline bool netdev_receives_all(struct netdev *dev, const struct netdev_flow *flow)
{
	(void)dev;
	(void)flow;
	return true;
}

/* table.c: opens the device that the configuration names, in the middleware that it asks for (not
 * started).  0 or -errno, told to the log. */
int netdev_open(struct sched *sched, struct netdev **dev_out);

/* fault.c, pcap.c: wrap inner, which belongs to the wrapper then; see their headers. */
