/* tests/support/wire.h - a struct sched on the test's clock and a simulated device whose other end
 * is the test: for what stands between a stack and a device. */
#pragma once

#include "netdev/sim/sim.h"
#include "support/rig.h"

#include <stdbool.h>
#include <stdint.h>

#define WIRE_SENT_MAX 4096
#define WIRE_BYTES    2048

struct wire_frame {
	uint32_t length;
	uint8_t bytes[WIRE_BYTES];
};

struct wire {
	struct rig rig;
	struct sim_wire functions;
	struct netdev *dev; /* NULL: closed */
	uint32_t room;      /* frames that the device takes until this is set anew */
	uint64_t retry_ns;  /* then it says this */
	uint32_t num_sent;
	struct wire_frame sent[WIRE_SENT_MAX];
};

/* An Ethernet device with an MTU of 1500, two segments and these offloads, not started. */
void wire_open(struct wire *wire, uint8_t offloads);
/* The device was closed; checks that the heap is empty. */
void wire_close(struct wire *wire);

/* The clock goes on; struct sched knows. */
void wire_advance(struct wire *wire, uint64_t ns);

/* A frame of IPv4 and UDP: number at byte 42, all others follow from it, the checksum is right or,
 * with partial, that of the pseudo header.  Returns its length, at least 60. */
uint32_t wire_make(uint8_t *bytes, uint32_t number, uint32_t length, bool partial);
/* Is it a whole frame as wire_make made it?  Then its number. */
bool wire_parse(const uint8_t *bytes, uint32_t length, uint32_t *number);

/* A frame to be sent; what is behind split bytes lies in a segment.  With FRAME_CHECKSUM if
 * partial. */
struct frame *wire_frame(struct wire *wire, uint32_t number, uint32_t length, uint32_t split,
			 bool partial);
