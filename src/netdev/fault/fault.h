/* SPDX-License-Identifier: MIT
 * netdev/fault/fault.h - middleware `fault`: a device that loses, doubles, delays, reorders and
 * damages what passes through it, for tests.  What it does is a function of its seed and of the
 * frames.
 *
 * It owns the frames that it delays: received ones count as frames of the heap meanwhile.  A
 * damaged frame differs in one bit and is never FRAME_CHECKED; ARP packets are not damaged, because
 * nothing in them lets a receiver tell (RFC 826).
 */
#pragma once

#include "base/log.h"
#include "netdev/netdev.h"

/* Wraps a device that is not started.  spec: items separated by commas:
 *
 *	drop=P% duplicate=P% reorder=P% corrupt=P%   of the frames, up to four decimals
 *	delay=TIME                                   of each frame: ns, us, ms or s, at most 60s
 *	seed=NUMBER                                  of the generator; 1 if it is not given
 *
 * all for both directions, or for one with rx- or tx- in front (not seed).  A reordered frame is
 *late by up to a millisecond more.  0, -EINVAL (told to the log: the item, and what is allowed) or
 * -ENOMEM; inner stays the caller's then. */
int fault_wrap(struct netdev *inner, const char *spec, const struct log *log, struct netdev **out);
