/* SPDX-License-Identifier: MIT
 * netdev/afpacket/afpacket.h - netdev afpacket: a network interface of the kernel by a packet
 * socket.
 *
 * Receives from a TPACKET_V2 ring that is mapped: looking costs no system call.  (A ring of version
 * 3 hands over blocks, by a timer of a millisecond.)  Sends by sendmmsg, past the queueing
 * discipline.  The kernel sees every frame too; it leaves those alone that are for an address that
 * is not its own.
 *
 * A kernel at the other end of a veth pair, or a GRO in front of the interface, hands over frames
 * whose checksums are unfinished and which are longer than the MTU.  Such frames are dropped and
 * counted, and one log line has the command that ends it.
 */
#pragma once

#include "netdev/netdev.h"

/* Opens the interface that the configuration names.  0 or -errno, told to the log. */
int afpacket_open(struct sched *sched, struct netdev **dev_out);
