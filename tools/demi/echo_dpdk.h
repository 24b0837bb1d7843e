/* SPDX-License-Identifier: MIT
 * tools/demi/echo_dpdk.h - DPDK's virtual devices for the two ends of a benchmark: shared memory,
 * by a Unix socket that the server makes.
 */
#pragma once

#include "echo_link.h"

#include <stdbool.h>
#include <stddef.h>

/* Is it one: "memif" or "vhost", whatever follows it? */
bool echo_dpdk_is(const char *device);

/* What the library is told of the end on that side, with its address and prefix; socket: where, if
 * the device does not say (socket=PATH).  False: it is too long. */
bool echo_dpdk_device(enum echo_side side, const char *device, const char *socket,
		      const char *address, char *out, size_t room);
