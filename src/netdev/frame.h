/* SPDX-License-Identifier: MIT
 * netdev/frame.h - an Ethernet frame in memory of the heap.
 *
 * A frame is one heap object: this struct, then room for bytes.  It has one application reference,
 * held by whoever has the frame; when received payload is handed to the application in place, that
 * reference becomes the application's and nobody else touches the frame any more.
 *
 * A frame to be sent may continue in segments: memory of the application that is read in place.
 * The frame holds a library reference to the heap object of each and drops it when it is freed.
 *
 * Two sizes.  frame_alloc: the size that the device receives (heap_set_frames), bounded in number.
 * frame_alloc_tx: what a sender asks for.
 */
#pragma once

#include "base/assert.h"
#include "mem/heap.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#define FRAME_SEGMENTS 4
#define FRAME_HEADROOM \
	80          /* Ethernet, VLAN, IPv6 and then some: room in front of a transport header */
#define FRAME_PAD 2 /* so that the header behind Ethernet's 14 bytes is aligned to 16 */

enum frame_flags {
	FRAME_CHECKED = 1,  /* received: the device verified the transport checksum */
	FRAME_CHECKSUM = 2, /* to be sent: the device shall complete the transport checksum, which
			       holds the sum of the pseudo header */
};

struct frame {
	uint8_t *data;   /* first byte: of the Ethernet header when a device has it */
	uint32_t length; /* bytes at data, without the segments */
	uint32_t room;   /* bytes of the object behind this struct */
	uint8_t flags;   /* enum frame_flags */
	uint8_t num_segments;
	uint16_t cut_bytes;       /* not 0: the device shall cut the payload into TCP segments of so
				     many bytes (FRAME_CHECKSUM too) */
	uint8_t transport_offset; /* FRAME_CHECKSUM: where the transport header begins, from data */
	uint8_t checksum_offset;  /* FRAME_CHECKSUM: where its checksum stands, from that header */
	uint16_t held;            /* for the device: it has the frame */
	struct frame *next;       /* for whoever has it */
	struct iovec segments[FRAME_SEGMENTS];
	uint8_t bytes[]; /* aligned to 16 */
};

static_assert(sizeof(struct frame) == 96, "bytes is aligned to 16 if the object is");

/* Size of heap objects for frames of a device whose link MTU is mtu (without Ethernet's header):
 * what is received, and the largest packet behind its headroom, which holds the IP header. */
static inline uint64_t frame_object_bytes(uint32_t mtu)
{
	uint64_t bytes = round_up(sizeof(struct frame) + FRAME_HEADROOM + mtu - 20, 64);

	static_assert(FRAME_HEADROOM - 20 >= FRAME_PAD + 14 + 4, "room for a received frame");

	/* Objects a multiple of 2 KiB apart would share few sets of the cache. */
	return bytes % 2048 == 0 ? bytes + 64 : bytes;
}

static inline struct frame *frame_init(void *object, uint64_t object_bytes, uint32_t headroom)
{
	struct frame *frame = object;

	frame->data = frame->bytes + headroom;
	frame->length = 0;
	frame->room = (uint32_t)(object_bytes - sizeof(*frame));
	frame->flags = 0;
	frame->num_segments = 0;
	frame->cut_bytes = 0;
	frame->next = NULL;
	return frame;
}

/* An empty frame to receive into, data aligned so that what follows the Ethernet header is; NULL:
 * all frames are in use, or memory is short. */
static inline struct frame *frame_alloc(struct heap *heap)
{
	void *object = heap_alloc_frame(heap);

	return likely(object) ? frame_init(object, heap->frame_room, FRAME_PAD) : NULL;
}

/* An empty frame to send, with FRAME_HEADROOM bytes in front of data and room bytes behind; NULL:
 * memory is short. */
static inline __attribute__((always_inline)) struct frame *frame_alloc_tx(struct heap *heap,
									  uint32_t room)
{
	uint64_t bytes = sizeof(struct frame) + FRAME_HEADROOM + room;

	if (heap->region && bytes <= heap->frame_room) { /* where its device can read it */
		void *ours = heap_alloc_frame(heap);
		if (likely(ours))
			return frame_init(ours, heap->frame_room, FRAME_HEADROOM);
	}
	void *object = heap_alloc(heap, bytes);
	if (unlikely(!object) && !(object = heap_alloc_scarce(heap, bytes)))
		return NULL;
	return frame_init(object, bytes, FRAME_HEADROOM);
}

/* Bytes that can still be written behind data + length. */
static inline uint32_t frame_tailroom(const struct frame *frame)
{
	return frame->room - (uint32_t)(frame->data - frame->bytes) - frame->length;
}

/* Makes room for bytes in front of data; the headroom must have it. */
static inline uint8_t *frame_prepend(struct frame *frame, uint32_t bytes)
{
	ASSERT((uint32_t)(frame->data - frame->bytes) >= bytes);
	frame->data -= bytes;
	frame->length += bytes;
	return frame->data;
}

/* Appends a segment that is read in place: [base, base + bytes) lies in one live object of the
 * heap, to which a library reference is taken. */
static inline void frame_append(struct frame *frame, const void *base, uint32_t bytes)
{
	ASSERT(frame->num_segments < FRAME_SEGMENTS);
	heap_ref_library(base);
	frame->segments[frame->num_segments++] =
		(struct iovec){.iov_base = (void *)(uintptr_t)base, .iov_len = bytes};
}

/* Bytes of the whole frame. */
static inline uint32_t frame_bytes(const struct frame *frame)
{
	uint32_t bytes = frame->length;

	for (uint32_t i = 0; i < frame->num_segments; i++)
		bytes += (uint32_t)frame->segments[i].iov_len;
	return bytes;
}

/* Copies the bytes at data, and what the device is to know of them, to an empty frame that has room
 * for them. */
static inline void frame_copy_data(struct frame *to, const struct frame *from)
{
	to->flags = from->flags;
	to->transport_offset = from->transport_offset;
	to->checksum_offset = from->checksum_offset;
	memcpy(to->data, from->data, from->length);
	to->length = from->length;
}

/* Copies all bytes of from, and what the device is to know of it, to an empty frame that has room
 * for them. */
static inline void frame_gather(struct frame *to, const struct frame *from)
{
	ASSERT(frame_bytes(from) <= frame_tailroom(to));
	frame_copy_data(to, from);
	for (uint32_t i = 0; i < from->num_segments; i++) {
		memcpy(to->data + to->length, from->segments[i].iov_base,
		       from->segments[i].iov_len);
		to->length += (uint32_t)from->segments[i].iov_len;
	}
}

/* A received frame, which has no segments. */
static inline void frame_free_received(struct heap *heap, struct frame *frame)
{
	heap_free_frame(heap, frame);
}

static inline void frame_free(struct heap *heap, struct frame *frame)
{
	for (uint32_t i = 0; i < frame->num_segments; i++)
		heap_unref_library(heap, frame->segments[i].iov_base);
	(void)heap_free(heap, frame);
}
