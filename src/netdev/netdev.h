/* SPDX-License-Identifier: MIT
 * netdev/netdev.h - the seam of back ends that move frames under the inet stack: one queue pair of
 * a device.
 *
 * Thread: that of the instance.  Nothing blocks.  A device that copies (a system call, a ring) is
 * done with a frame when tx_burst returns and frees it there; one that reads it later frees it
 * then. Middleware (fault, pcap) is a device that wraps another and owns it.
 */
#pragma once

#include "base/counters.h"
#include "netdev/frame.h"
#include "sched/sched.h"

#include <stdbool.h>
#include <stdint.h>

#define NETDEV_BURST 32

enum netdev_offloads {
	NETDEV_TX_CHECKSUM = 1, /* completes transport checksums (FRAME_CHECKSUM) */
	NETDEV_RX_CHECKSUM = 2, /* verifies them (FRAME_CHECKED) */
};

struct netdev;

/* All members are required. */
struct netdev_ops {
	const char *name;
	/* Takes up to max frames in, which are the caller's then; returns how many. */
	uint32_t (*rx_burst)(struct netdev *dev, struct frame **frames, uint32_t max);
	/* Takes the first frames of count, as many as there is room for now: they are the device's.
	 * Returns how many; the others stay the caller's. */
	uint32_t (*tx_burst)(struct netdev *dev, struct frame **frames, uint32_t count);
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
	/* Frees it, after start or not. */
	void (*close)(struct netdev *dev);
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
	uint32_t mtu;        /* bytes behind the Ethernet header */
	uint8_t mac[6];
	uint8_t offloads;     /* enum netdev_offloads */
	uint8_t max_segments; /* of a frame to be sent, at most FRAME_SEGMENTS; 0: none */
	struct netdev_stats stats;
	/* Middleware that wants to know why the stack dropped a frame that rx_burst gave it; NULL.
	 * Called before the frame is freed. */
	void (*dropped)(struct netdev *dev, const struct frame *frame, enum drop reason);
};

/* table.c: opens the device that the configuration names, in the middleware that it asks for (not
 * started).  0 or -errno, told to the log. */
int netdev_open(struct sched *sched, struct netdev **dev_out);

/* fault.c, pcap.c: wrap inner, which belongs to the wrapper then; see their headers. */
