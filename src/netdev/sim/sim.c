/* SPDX-License-Identifier: MIT
 * netdev/sim/sim.c - see sim.h.  Frames that wait are allocated one by one, so that a checked build
 * sees reads beyond them.
 */
#include "netdev/sim/sim.h"

#include "base/bits.h"
#include "netdev/checksum.h"
#include "netdev/sim/cut.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ETHERNET 14
#define VLAN     4
#define IP_BYTES 65535

struct sim_slot {
	uint8_t *bytes;
	uint32_t length;
};

struct sim {
	struct netdev dev;
	struct sim_wire *wire;
	uint32_t rx_burst;
	uint32_t rx_slots;
	uint32_t rx_first;
	uint32_t rx_count;
	uint64_t retry_ns; /* TIMER_NEVER: the wire has taken all */
	uint8_t *tx_bytes; /* where a frame is put together */
	struct sim_slot rx[];
};

static struct sim *sim_of(struct netdev *dev)
{
	return container_of(dev, struct sim, dev);
}

static uint32_t frame_bytes_max(const struct netdev *dev)
{
	return ETHERNET + VLAN + dev->mtu;
}

/* ---- receiving ---- */

bool sim_arrive(struct netdev *dev, const uint8_t *bytes, uint32_t length)
{
	struct sim *sim = sim_of(dev);

	if (sim->rx_count == sim->rx_slots || length > frame_bytes_max(dev) || length == 0)
		return false;
	uint8_t *copy = malloc(length);
	if (!copy)
		return false;
	memcpy(copy, bytes, length);
	sim->rx[(sim->rx_first + sim->rx_count++) % sim->rx_slots] =
		(struct sim_slot){.bytes = copy, .length = length};
	return true;
}

uint32_t sim_waiting(const struct netdev *dev)
{
	return ((const struct sim *)dev)->rx_count;
}

static struct sim_slot take_slot(struct sim *sim)
{
	struct sim_slot slot = sim->rx[sim->rx_first];

	sim->rx_first = (sim->rx_first + 1) % sim->rx_slots;
	sim->rx_count--;
	return slot;
}

/* NULL: no memory. */
static struct frame *receive(struct sim *sim, const struct sim_slot *slot)
{
	struct frame *frame = frame_alloc(sim->dev.sched->heap);

	if (!frame) {
		sim->dev.sched->counters.drops[DROP_FRAMES]++;
		return NULL;
	}
	ASSERT(frame_tailroom(frame) >= slot->length);
	memcpy(frame->data, slot->bytes, slot->length);
	frame->length = slot->length;
	if ((sim->dev.offloads & NETDEV_RX_CHECKSUM) &&
	    netdev_checksum_good(slot->bytes, slot->length))
		frame->flags |= FRAME_CHECKED;
	sim->dev.stats.rx_frames++;
	sim->dev.stats.rx_bytes += slot->length;
	return frame;
}

static uint32_t sim_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct sim *sim = sim_of(dev);
	uint32_t count = 0;

	if (sim->rx_burst > 0 && max > sim->rx_burst)
		max = sim->rx_burst;
	while (count < max && sim->rx_count > 0) {
		struct sim_slot slot = take_slot(sim);
		struct frame *frame = receive(sim, &slot);
		free(slot.bytes);
		if (frame)
			frames[count++] = frame;
	}
	return count;
}

/* ---- sending ---- */

/* Of a packet at most. */
static uint32_t link_bytes(const struct sim *sim, const struct frame *frame)
{
	if (frame->cut_bytes == 0)
		return sim->dev.mtu;
	uint32_t header =
		frame->transport_offset + 4U * (frame->data[frame->transport_offset + 12] >> 4);
	ASSERT(frame->flags & FRAME_CHECKSUM && frame->length == header);
	ASSERT(header - ETHERNET + frame->cut_bytes <= sim->dev.mtu + VLAN);
	ASSERT(frame_bytes(frame) - header <= sim->dev.cut_bytes);
	return IP_BYTES;
}

static void check_frame(const struct sim *sim, const struct frame *frame)
{
	uint32_t bytes = frame_bytes(frame);
	bool tagged = frame->length > ETHERNET && frame->data[12] == 0x81 && frame->data[13] == 0;

	ASSERT(bytes >= ETHERNET &&
	       bytes <= ETHERNET + (tagged ? VLAN : 0) + link_bytes(sim, frame));
	ASSERT(frame->num_segments <= sim->dev.max_segments);
	if (frame->flags & FRAME_CHECKSUM) {
		ASSERT(sim->dev.offloads & NETDEV_TX_CHECKSUM);
		ASSERT(frame->transport_offset + frame->checksum_offset + 2U <= frame->length);
	}
}

static uint32_t gather(const struct frame *frame, uint8_t *to)
{
	uint32_t length = frame->length;

	memcpy(to, frame->data, length);
	for (uint32_t i = 0; i < frame->num_segments; i++) {
		memcpy(to + length, frame->segments[i].iov_base, frame->segments[i].iov_len);
		length += (uint32_t)frame->segments[i].iov_len;
	}
	return length;
}

static void put_out(struct sim *sim, const struct frame *frame)
{
	uint32_t length = gather(frame, sim->tx_bytes);

	sim->dev.stats.tx_bytes += length;
	if (frame->cut_bytes > 0) {
		sim->dev.stats.tx_frames += sim_cut(sim->wire, sim->tx_bytes, length,
						    frame->transport_offset, frame->cut_bytes);
		return;
	}
	sim->dev.stats.tx_frames++;
	if (frame->flags & FRAME_CHECKSUM)
		netdev_complete_checksum(sim->tx_bytes, length, frame->transport_offset,
					 frame->checksum_offset);
	sim->wire->send(sim->wire, sim->tx_bytes, length);
}

static uint32_t sim_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct sim *sim = sim_of(dev);

	sim->retry_ns = TIMER_NEVER;
	uint32_t room = sim->wire->room(sim->wire, count, &sim->retry_ns);
	ASSERT(room <= count);
	if (room < count)
		dev->stats.tx_busy++;
	for (uint32_t i = 0; i < room; i++) {
		check_frame(sim, frames[i]);
		put_out(sim, frames[i]);
		frame_free(dev->sched->heap, frames[i]);
	}
	return room;
}

/* ---- the rest ---- */

static int sim_arm(struct netdev *dev)
{
	return sim_waiting(dev) > 0 ? -EAGAIN : 0;
}

static void sim_disarm(struct netdev *dev)
{
	(void)dev;
}

static uint64_t sim_next_deadline(struct netdev *dev)
{
	const struct sim *sim = sim_of(dev);

	return sim->rx_count > 0 ? dev->sched->now_ns : sim->retry_ns;
}

static int sim_start(struct netdev *dev)
{
	(void)dev;
	return 0;
}

static void sim_close(struct netdev *dev)
{
	struct sim *sim = sim_of(dev);
	struct sim_wire *wire = sim->wire;

	while (sim->rx_count > 0)
		free(take_slot(sim).bytes);
	free(sim->tx_bytes);
	free(sim);
	wire->closed(wire);
}

static const struct netdev_ops sim_ops = {
	.name = "sim",
	.rx_burst = sim_rx_burst,
	.tx_burst = sim_tx_burst,
	.doorbell = netdev_no_doorbell,
	.arm = sim_arm,
	.disarm = sim_disarm,
	.next_deadline = sim_next_deadline,
	.start = sim_start,
	.steer = netdev_takes_all,
	.receives = netdev_receives_all,
	.close = sim_close,
};

int sim_open(const struct sim_options *options, struct sim_wire *wire, struct netdev **dev_out)
{
	ASSERT(options->rx_slots > 0 && options->max_segments <= FRAME_SEGMENTS);
	struct sim *sim = calloc(1, sizeof(*sim) + options->rx_slots * sizeof(sim->rx[0]));
	if (!sim)
		return -ENOMEM;
	sim->dev.ops = &sim_ops;
	sim->dev.mtu = options->mtu;
	sim->dev.offloads = options->offloads;
	sim->dev.max_segments = options->max_segments;
	sim->dev.cut_bytes = options->cut_bytes;
	memcpy(sim->dev.mac, options->mac, sizeof(sim->dev.mac));
	sim->wire = wire;
	sim->rx_slots = options->rx_slots;
	sim->rx_burst = options->rx_burst;
	sim->retry_ns = TIMER_NEVER;
	sim->tx_bytes = malloc(ETHERNET + VLAN + IP_BYTES);
	if (!sim->tx_bytes) {
		free(sim);
		return -ENOMEM;
	}
	*dev_out = &sim->dev;
	return 0;
}
