/* SPDX-License-Identifier: MIT
 * tests/sim/segment.h - TCP segments of a peer that is the test's, as Ethernet frames with IPv4.
 *
 * Addresses are those of sim/inet.h: host i is 10.0.0.(i + 1).
 */
#pragma once

#include "net/wire/tcp.h"

#include <stdbool.h>
#include <stdint.h>

#define SEGMENT_BYTES 2048

struct segment {
	uint32_t from; /* index of the host */
	uint32_t to;
	uint8_t from_mac[6];
	uint8_t to_mac[6];
	struct tcp_header header;
	uint16_t urgent;
	/* Raw options, in place of header.options; a multiple of 4 bytes. */
	const uint8_t *options;
	uint32_t option_bytes;
	const uint8_t *data;
	uint32_t length;
	bool bad_checksum;
};

/* Writes the frame; returns its length, at most SEGMENT_BYTES. */
uint32_t segment_write(const struct segment *segment, uint8_t *frame);
/* False: no TCP over IPv4.  The addresses of from and to are those of the packet; data points into
 * the frame.  Asserts that headers and checksums are right. */
bool segment_read(const uint8_t *frame, uint32_t length, struct segment *segment);
