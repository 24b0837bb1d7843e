/* tests/support/wire.c: see wire.h. */
#include "support/wire.h"

#include "support/test.h"

#include "base/bits.h"
#include "netdev/checksum.h"

#include <string.h>

#define TRANSPORT 34
#define FIELD     6
#define NUMBER    42

static struct wire *wire_of(struct sim_wire *functions)
{
	return container_of(functions, struct wire, functions);
}

static uint32_t room(struct sim_wire *functions, uint32_t count, uint64_t *retry_ns)
{
	struct wire *wire = wire_of(functions);
	uint32_t taken = count < wire->room ? count : wire->room;

	wire->room -= taken;
	if (taken < count)
		*retry_ns = wire->retry_ns;
	return taken;
}

static void send_frame(struct sim_wire *functions, const uint8_t *bytes, uint32_t length)
{
	struct wire *wire = wire_of(functions);

	assert_true(wire->num_sent < WIRE_SENT_MAX && length <= WIRE_BYTES);
	struct wire_frame *sent = &wire->sent[wire->num_sent++];
	memcpy(sent->bytes, bytes, length);
	sent->length = length;
}

static void closed(struct sim_wire *functions)
{
	wire_of(functions)->dev = NULL;
}

void wire_open(struct wire *wire, uint8_t offloads)
{
	const struct sim_options options = {
		.mtu = 1500,
		.mac = {2, 0, 0, 0, 0, 1},
		.offloads = offloads,
		.max_segments = 2,
		.rx_slots = WIRE_SENT_MAX,
	};

	assert_int_equal(rig_open(&wire->rig, &(struct rig_options){0}), 0);
	heap_set_frames(wire->rig.sched.heap, frame_object_bytes(1500), 8192);
	wire->functions = (struct sim_wire){.room = room, .send = send_frame, .closed = closed};
	wire->room = UINT32_MAX;
	wire->retry_ns = TIMER_NEVER;
	wire->num_sent = 0;
	assert_int_equal(sim_open(&options, &wire->functions, &wire->dev), 0);
}

void wire_close(struct wire *wire)
{
	struct heap_usage usage;

	assert_null(wire->dev);
	heap_usage(wire->rig.sched.heap, &usage);
	assert_int_equal(usage.live_objects, 0);
	rig_check(&wire->rig);
	rig_close(&wire->rig);
}

void wire_advance(struct wire *wire, uint64_t ns)
{
	wire->rig.now_ns += ns;
	wire->rig.sched.now_ns = wire->rig.now_ns;
}

uint32_t wire_make(uint8_t *bytes, uint32_t number, uint32_t length, bool partial)
{
	static const uint8_t head[] = {2,  0,    0, 0, 0,  2, 2, 0, 0,    0,  0,   1, 8,
				       0,  0x45, 0, 0, 0,  0, 0, 0, 0,    64, 17,  0, 0,
				       10, 0,    0, 1, 10, 0, 0, 2, 0x10, 0,  0x20};
	struct netdev_transport t = {0};

	if (length < 60)
		length = 60;
	for (uint32_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(number * 13 + i);
	memcpy(bytes, head, sizeof(head));
	bytes[16] = (uint8_t)((length - 14) >> 8);
	bytes[17] = (uint8_t)(length - 14);
	uint32_t sum = ~netdev_sum(bytes + 14, 20, 0);
	bytes[24] = (uint8_t)(sum >> 8);
	bytes[25] = (uint8_t)sum;
	bytes[37] = 9;
	bytes[38] = (uint8_t)((length - TRANSPORT) >> 8);
	bytes[39] = (uint8_t)(length - TRANSPORT);
	memcpy(bytes + NUMBER, &number, sizeof(number));
	assert_true(netdev_find_transport(bytes, length, &t));
	bytes[TRANSPORT + FIELD] = (uint8_t)(t.pseudo >> 8);
	bytes[TRANSPORT + FIELD + 1] = (uint8_t)t.pseudo;
	if (!partial)
		netdev_complete_checksum(bytes, length, TRANSPORT, FIELD);
	return length;
}

bool wire_parse(const uint8_t *bytes, uint32_t length, uint32_t *number)
{
	uint8_t expected[WIRE_BYTES];

	if (length < 60 || length > WIRE_BYTES)
		return false;
	memcpy(number, bytes + NUMBER, sizeof(*number));
	(void)wire_make(expected, *number, length, false);
	return memcmp(expected, bytes, length) == 0;
}

struct frame *wire_frame(struct wire *wire, uint32_t number, uint32_t length, uint32_t split,
			 bool partial)
{
	struct heap *heap = wire->rig.sched.heap;
	uint8_t bytes[WIRE_BYTES];
	struct frame *frame = frame_alloc_tx(heap, WIRE_BYTES);

	assert_non_null(frame);
	length = wire_make(bytes, number, length, partial);
	frame->length = split < length ? split : length;
	memcpy(frame->data, bytes, frame->length);
	if (split < length) {
		uint8_t *rest = heap_alloc(heap, length - split);
		assert_non_null(rest);
		memcpy(rest, bytes + split, length - split);
		frame_append(frame, rest, length - split);
		assert_int_equal(heap_free(heap, rest), 0);
	}
	if (partial) {
		frame->flags = FRAME_CHECKSUM;
		frame->transport_offset = TRANSPORT;
		frame->checksum_offset = FIELD;
	}
	return frame;
}
