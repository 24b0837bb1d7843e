/* SPDX-License-Identifier: MIT
 * netdev/spread/port.h - a shared device as the instances that share it know it: places, a pair of
 * lanes each to and from the receiver, who has place 0.
 *
 * Ports are found by name, and live as long as a place is taken.  Coming and going is under one
 * lock for all of them, which the caller takes.
 */
#pragma once

#include "netdev/spread/lane.h"
#include "netdev/spread/shared.h"

#include "base/list.h"

#define PORT_NAME_BYTES 256

/* What a place has, whoever is there. */
struct side {
	struct lane to;   /* it, from the receiver */
	struct lane from; /* it, to the receiver */
	_Atomic bool present;
	_Atomic bool asleep;
	int bell; /* eventfd: there is something for it */
};

struct port {
	struct list in_all;
	char name[PORT_NAME_BYTES];
	uint32_t places;
	uint32_t taken;
	void *device;         /* shared_wish.open's */
	struct netdev traits; /* of the device, as far as netdev_copy_traits goes */
	struct side sides[];
};

static inline bool port_has(const struct port *port, uint32_t place)
{
	return atomic_load_explicit(&port->sides[place].present, memory_order_relaxed);
}

void port_lock(void);
void port_unlock(void);

/* Under the lock, all of these.  The port that is wished for, made if it was not there, and its
 * lowest free place, which nobody has yet.  0 or -errno, told to the log: see shared_open. */
int port_find(const struct sched *sched, const struct shared_wish *wish, struct port **port_out,
	      uint32_t *place_out);
/* Takes a place and its side of the lanes; leaves it, if it was taken: heap is that of the frames
 * that it gave. */
void port_come(struct port *port, uint32_t place);
void port_go(struct port *port, uint32_t place, struct heap *heap);
/* Frees a port of which no place is taken; NULL is none. */
void port_release(struct port *port);
