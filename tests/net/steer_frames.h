/* tests/net/steer_frames.h: frames, and where the tables of steer_frames_tables steer them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FRAME_BYTES  256
#define FRAME_KERNEL (-2) /* not ours */
#define FRAME_NOBODY (-1) /* ours, but the queue has no slot */

struct steer_frame {
	uint32_t length;
	uint8_t bytes[FRAME_BYTES];
};

/* What the tables hold: an address, or a port if protocol is not 0; count 0: shared. */
struct steer_row {
	const char *address;
	uint8_t protocol;
	uint16_t port;
	uint16_t first;
	uint16_t count;
	bool by_hash;
};

extern const struct steer_row steer_rows[];
extern const uint32_t steer_num_rows;

/* Slots of the targets by hash and by queue. */
#define SLOT_HASH  20
#define HASH_COUNT 4
#define SLOT_QUEUE 30

typedef void (*steer_check_fn)(const char *name, const struct steer_frame *frame, int32_t slot);

/* Each frame with its slot if it comes by queue 0; SLOT_HASH stands for any slot of that target. */
void steer_frames_each(steer_check_fn check);

/* A UDP or TCP packet between two addresses. */
void steer_frame_ports(struct steer_frame *frame, const char *from, const char *to,
		       uint8_t protocol, uint16_t source, uint16_t destination);
/* An ICMP error from one address to another about that packet, which the other had sent. */
void steer_frame_error(struct steer_frame *frame, const char *from, const char *to,
		       const struct steer_frame *about);
/* A part of the packet: the fragment field of IPv4, or of a fragment header put in. */
void steer_frame_fragment(struct steer_frame *frame, uint16_t field);
