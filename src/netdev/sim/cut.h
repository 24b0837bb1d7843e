/* SPDX-License-Identifier: MIT
 * netdev/sim/cut.h - what a device with segmentation offload does (TSO): cuts a TCP packet that is
 * too long for the link into segments.
 */
#pragma once

#include "netdev/sim/sim.h"

/* A frame whose IP header is at ip and TCP header at tcp, from frame: sends segments of cut bytes
 * of its payload, the last one with what is left, their checksums complete.  How many. */
uint32_t sim_cut(struct sim_wire *wire, const uint8_t *frame, uint32_t length, uint32_t tcp,
		 uint32_t cut);
