/* SPDX-License-Identifier: MIT
 * netdev/spread/shared.h - a device that several instances of the process share, each on a thread
 * of its own.
 *
 * Of one queue pair: the first instance, the receiver, opens it, finds by hash which of them a
 * received frame's flow belongs to, and hands it over by a ring; and sends what the others hand to
 * it.  Of a queue pair for each (NETDEV_RSS): each receives and sends by its own, and what belongs
 * to no flow comes to the receiver.
 *
 * Either way frames that are for all go from the receiver to all (for_all.h), and so do fragments,
 * of which only one instance keeps what they become (netdev_ops.receives).
 *
 * Frames are copied between heaps, once a way; nothing else is shared.  An instance that nobody
 * polls neither receives nor, if it is the receiver, lets the others.  When the receiver goes, the
 * device is down for the others until another one takes its place.
 */
#pragma once

#include "netdev/netdev.h"

#define SHARED_PLACES 64 /* at most */

struct shared_wish {
	const char *name; /* of the device: who says the same shares it */
	const char *key;  /* of the configuration that says how many, for messages */
	uint32_t places;
	/* A place's part of the device.  *device is the back end's, NULL at first, the same for all
	 * places as long as one of them is taken.  Of one queue pair: place 0 has it, and no other
	 * anything (*dev_out NULL). */
	int (*open)(struct sched *sched, uint32_t place, void **device, struct netdev **dev_out);
};

/* Takes the lowest free place; the first one's taker opens the device.  0 or -errno, told to the
 * log: -EBUSY, all are taken; -EINVAL, others want another number of places. */
int shared_open(struct sched *sched, const struct shared_wish *wish, struct netdev **dev_out);
