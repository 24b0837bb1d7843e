/* SPDX-License-Identifier: MIT
 * netdev/sim/cut.c - see cut.h.
 */
#include "netdev/sim/cut.h"

#include "base/bits.h"
#include "netdev/checksum.h"

#include <string.h>

#define ETHERNET      14
#define VLAN          4
#define SEGMENT_BYTES 16384

enum { FIN = 1, PUSH = 8, CWR = 0x80 };

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* The lengths and the checksums of a segment whose TCP header and payload have length bytes. */
static void complete(uint8_t *ip, uint8_t *tcp, uint32_t length)
{
	bool v4 = ip[0] >> 4 == 4;
	uint32_t header = (uint32_t)(tcp - ip);

	if (v4) {
		put16(ip + 2, header + length);
		put16(ip + 10, 0);
		put16(ip + 10, ~netdev_sum(ip, header, 0) & 0xffffU);
	} else {
		put16(ip + 4, header - 40 + length);
	}
	uint32_t pseudo = netdev_sum(v4 ? ip + 12 : ip + 8, v4 ? 8 : 32, 6 + length);
	put16(tcp + 16, 0);
	put16(tcp + 16, ~netdev_sum(tcp, length, pseudo) & 0xffffU);
}

uint32_t sim_cut(struct sim_wire *wire, const uint8_t *frame, uint32_t length, uint32_t tcp,
		 uint32_t cut)
{
	uint8_t segment[SEGMENT_BYTES];
	uint32_t ip = ETHERNET + (frame[12] == 0x81 && frame[13] == 0 ? VLAN : 0);
	uint32_t header = tcp + (uint32_t)(frame[tcp + 12] >> 4) * 4;
	uint32_t seq = get32(frame + tcp + 4);
	uint32_t count = 0;

	ASSERT(header + cut <= sizeof(segment));
	for (uint32_t at = header; at < length; at += cut) {
		uint32_t bytes = length - at < cut ? length - at : cut;
		memcpy(segment, frame, header);
		memcpy(segment + header, frame + at, bytes);
		put16(segment + tcp + 4, (seq + at - header) >> 16);
		put16(segment + tcp + 6, seq + at - header);
		if (at + bytes < length)
			segment[tcp + 13] &= (uint8_t) ~(FIN | PUSH);
		if (at > header)
			segment[tcp + 13] &= (uint8_t)~CWR;
		complete(segment + ip, segment + tcp, header - tcp + bytes);
		wire->send(wire, segment, header + bytes);
		count++;
	}
	return count;
}
