/* SPDX-License-Identifier: MIT
 * netdev/ring/ring.h - netdev `ring`: two devices back to back in one process, each direction a
 * ring of slots that frames are copied into and out of.
 *
 * For two instances in one thread or in two.  Each direction has a single producer and a single
 * consumer.  An end can also be used without the netdev interface, slot by slot, by a stack that is
 * not ours; per direction of an end one of the two ways, not both.
 *
 * The rings live until both ends are closed.  The ends are polled: there is nothing to sleep on.
 */
#pragma once

#include "netdev/netdev.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* Two connected ends for frames of a link MTU; slots, a power of two, in each direction.  They have
 * no offloads; ends[0] has MAC 02:00:00:00:52:00, ends[1] the same ending in 01.  0 or -ENOMEM. */
int ring_pair(uint32_t mtu, uint32_t slots, struct netdev *ends[2]);

/* Puts out one frame, gathered from n pieces.  0, -EAGAIN: the ring is full, -EMSGSIZE. */
int ring_put(struct netdev *end, const struct iovec *iov, uint32_t n);

/* The oldest frame that has arrived, in place until ring_done; false: there is none. */
bool ring_get(struct netdev *end, const void **bytes_out, uint32_t *length_out);
/* Gives back the slot of the frame that ring_get told last. */
void ring_done(struct netdev *end);
