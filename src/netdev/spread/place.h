/* SPDX-License-Identifier: MIT
 * netdev/spread/place.h - which of several instances on a link a frame is for.
 */
#pragma once

#include "netdev/netdev.h"

#include <stdint.h>

#define PLACE_ALL UINT32_MAX

/* 0 for what belongs to no flow; PLACE_ALL for what all must see, and for fragments. */
uint32_t place_of_frame(const uint8_t *frame, uint32_t length, uint32_t places);

/* The same of what a device has put into the receiver's own queue: 0 or PLACE_ALL. */
uint32_t place_in_queue(const uint8_t *frame, uint32_t length);

/* Where the frames of a flow go. */
uint32_t place_of_flow(const struct netdev_flow *flow, uint32_t places);
