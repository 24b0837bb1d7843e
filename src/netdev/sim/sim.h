/* SPDX-License-Identifier: MIT
 * netdev/sim/sim.h - netdev `sim`: a device whose wire is a struct of functions.  What is at the
 * wire's other end decides when frames arrive; the device knows no time and no chance.
 *
 * The device behaves like hardware: frames wait in a receive ring of bounded length and are lost
 * when it is full or when memory is short; checksums are completed and verified by the device if
 * its offloads say so, from the bytes that really are there.
 *
 * The wire outlives the device.  Breaches of the netdev contract by the stack (a frame longer than
 * the MTU, too many segments, an offload that the device lacks) are assertions.
 */
#pragma once

#include "netdev/netdev.h"

#include <stdbool.h>
#include <stdint.h>

/* All members are required. */
struct sim_wire {
	/* How many of count frames the device may put out now.  If not all: when to try again, for
	 * which retry_ns holds TIMER_NEVER. */
	uint32_t (*room)(struct sim_wire *wire, uint32_t count, uint64_t *retry_ns);
	/* A whole frame, its checksum complete; the bytes are good during the call. */
	void (*send)(struct sim_wire *wire, const uint8_t *bytes, uint32_t length);
	/* The device is closed. */
	void (*closed)(struct sim_wire *wire);
};

struct sim_options {
	uint32_t mtu;
	uint8_t mac[6];
	uint8_t offloads;     /* enum netdev_offloads */
	uint8_t max_segments; /* of a frame to be sent */
	uint32_t cut_bytes;   /* of TCP payload that it cuts into segments; 0: it does not */
	uint32_t rx_slots;    /* frames that may wait to be received */
	uint32_t rx_burst;    /* at most so many in one; 0: as many as asked for */
};

/* 0 or -ENOMEM. */
int sim_open(const struct sim_options *options, struct sim_wire *wire, struct netdev **dev_out);

/* A frame arrives; the bytes are copied.  False: it is lost, because the receive ring is full,
 * memory is short or the frame too long for the device. */
bool sim_arrive(struct netdev *dev, const uint8_t *bytes, uint32_t length);

/* Frames that wait to be received. */
uint32_t sim_waiting(const struct netdev *dev);
