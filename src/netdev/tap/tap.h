/* SPDX-License-Identifier: MIT
 * netdev/tap/tap.h - netdev tap: the far end of a TAP interface of the kernel.
 *
 * One system call a frame each way, and one to find that there is none.  The kernel's end is made
 * and brought up if it is not there, and goes with the device then; it needs an address to be of
 * use: ip addr add 10.0.0.1/24 dev tap0.  Frames come with their checksums, and no longer than the
 * MTU.
 */
#pragma once

#include "netdev/netdev.h"

/* Opens the interface that the configuration names; without a name the kernel chooses one.  0 or
 * -errno, told to the log. */
int tap_open(struct sched *sched, struct netdev **dev_out);
