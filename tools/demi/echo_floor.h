/* SPDX-License-Identifier: MIT
 * tools/demi/echo_floor.h - what an echo over RDMA cannot be quicker than: two messages one way,
 * one after the other, as ib_send_lat of perftest sends them from one end here to another.
 */
#pragma once

#include <stddef.h>

#define ECHO_FLOOR_MESSAGE 128

/* Nanoseconds of a round trip of so many bytes: twice the typical latency that ib_send_lat tells,
 * which is half of one.  Takes a second or so.  Negative: it could not be had, message says why. */
double echo_floor_ns(const char *address, size_t size, int core, char message[ECHO_FLOOR_MESSAGE]);
