/* SPDX-License-Identifier: MIT
 * netdev/spread/for_all.h - which frames are for all instances that share a link, though one of
 * them receives: answers of ARP and neighbour discovery, router advertisements, redirects, ICMP
 * errors, queries for groups, and datagrams to groups and to all hosts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

bool frame_is_for_all(const uint8_t *frame, uint32_t length);

/* A part of an IP packet, of which only the first tells ports. */
bool frame_is_fragment(const uint8_t *frame, uint32_t length);
