/* SPDX-License-Identifier: MIT
 * netdev/ring/ring.c - see ring.h.
 *
 * A lane is one direction.  Counts run freely; slot i of the lane is number i modulo slots.
 * Invariant: taken <= put <= taken + slots.  Each side keeps a copy of the other's count and reads
 * the real one only when the copy says full or empty: a line that the other core owns is not
 * touched in between.
 */
#include "netdev/ring/ring.h"

#include "base/bits.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ETHERNET 14
#define VLAN     4

struct slot {
	uint32_t length;
	uint8_t bytes[];
};

struct lane {
	uint8_t *slots __attribute__((aligned(CACHE_LINE)));
	uint32_t mask;
	uint32_t stride;

	_Atomic uint32_t put __attribute__((aligned(CACHE_LINE))); /* the producer's line */
	uint32_t taken_seen;

	_Atomic uint32_t taken __attribute__((aligned(CACHE_LINE))); /* the consumer's line */
	uint32_t put_seen;
};

struct ring {
	struct lane lanes[2];
	_Atomic uint32_t ends; /* not yet closed */
};

struct ring_end {
	struct netdev dev;
	struct lane *out;
	struct lane *in;
	struct ring *ring;
	bool refused; /* the last burst was not taken whole */
};

static struct ring_end *end_of(struct netdev *dev)
{
	return container_of(dev, struct ring_end, dev);
}

static inline struct slot *slot_at(const struct lane *lane, uint32_t count)
{
	return (struct slot *)(void *)(lane->slots + (uint64_t)(count & lane->mask) * lane->stride);
}

/* Is there room for slot number count? */
static inline bool has_room(struct lane *lane, uint32_t count)
{
	if (likely(count - lane->taken_seen <= lane->mask))
		return true;
	/* acquire: the consumer has read the slot that is used again; pairs with the release in
	 * give_back */
	lane->taken_seen = atomic_load_explicit(&lane->taken, memory_order_acquire);
	return count - lane->taken_seen <= lane->mask;
}

/* Was slot number count put? */
static inline bool has_frame(struct lane *lane, uint32_t count)
{
	if (likely(count != lane->put_seen))
		return true;
	/* acquire: the bytes are there; pairs with the release in publish */
	lane->put_seen = atomic_load_explicit(&lane->put, memory_order_acquire);
	return count != lane->put_seen;
}

static inline uint32_t own(const _Atomic uint32_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

static inline void publish(struct lane *lane, uint32_t count)
{
	/* pairs with the acquire in has_frame */
	atomic_store_explicit(&lane->put, count, memory_order_release);
}

static inline void give_back(struct lane *lane, uint32_t count)
{
	/* pairs with the acquire in has_room */
	atomic_store_explicit(&lane->taken, count, memory_order_release);
}

/* ---- slot by slot ---- */

int ring_put(struct netdev *end, const struct iovec *iov, uint32_t n)
{
	struct lane *lane = end_of(end)->out;
	uint32_t count = own(&lane->put);
	uint64_t length = 0;

	for (uint32_t i = 0; i < n; i++)
		length += iov[i].iov_len;
	if (length > lane->stride - sizeof(struct slot))
		return -EMSGSIZE;
	if (!has_room(lane, count))
		return -EAGAIN;
	struct slot *slot = slot_at(lane, count);
	slot->length = 0;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(slot->bytes + slot->length, iov[i].iov_base, iov[i].iov_len);
		slot->length += (uint32_t)iov[i].iov_len;
	}
	publish(lane, count + 1);
	return 0;
}

bool ring_get(struct netdev *end, const void **bytes_out, uint32_t *length_out)
{
	struct lane *lane = end_of(end)->in;
	uint32_t count = own(&lane->taken);

	if (!has_frame(lane, count))
		return false;
	const struct slot *slot = slot_at(lane, count);
	*bytes_out = slot->bytes;
	*length_out = slot->length;
	return true;
}

void ring_done(struct netdev *end)
{
	struct lane *lane = end_of(end)->in;

	give_back(lane, own(&lane->taken) + 1);
}

/* ---- netdev ---- */

static uint32_t ring_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct lane *lane = end_of(dev)->in;
	uint32_t first = own(&lane->taken);
	uint32_t n = 0;

	while (n < max && has_frame(lane, first + n)) {
		struct frame *frame = frame_alloc(dev->sched->heap);
		if (unlikely(!frame))
			break; /* it waits in its slot until there is memory */
		const struct slot *slot = slot_at(lane, first + n);
		memcpy(frame->data, slot->bytes, slot->length);
		frame->length = slot->length;
		dev->stats.rx_bytes += slot->length;
		frames[n++] = frame;
	}
	if (n > 0) {
		dev->stats.rx_frames += n;
		give_back(lane, first + n);
	}
	return n;
}

static inline void put_frame(struct lane *lane, uint32_t count, const struct frame *frame)
{
	struct slot *slot = slot_at(lane, count);
	uint32_t length = frame->length;

	ASSERT(frame_bytes(frame) <= lane->stride - sizeof(*slot));
	memcpy(slot->bytes, frame->data, length);
	for (uint32_t i = 0; i < frame->num_segments; i++) {
		memcpy(slot->bytes + length, frame->segments[i].iov_base,
		       frame->segments[i].iov_len);
		length += (uint32_t)frame->segments[i].iov_len;
	}
	slot->length = length;
}

static uint32_t ring_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct ring_end *end = end_of(dev);
	struct lane *lane = end->out;
	uint32_t first = own(&lane->put);
	uint32_t n = 0;

	while (n < count && has_room(lane, first + n)) {
		put_frame(lane, first + n, frames[n]);
		dev->stats.tx_bytes += slot_at(lane, first + n)->length;
		frame_free(dev->sched->heap, frames[n]);
		n++;
	}
	publish(lane, first + n);
	dev->stats.tx_frames += n;
	end->refused = n < count;
	dev->stats.tx_busy += end->refused;
	return n;
}

static int ring_arm(struct netdev *dev)
{
	struct lane *lane = end_of(dev)->in;

	return has_frame(lane, own(&lane->taken)) ? -EAGAIN : -ENOTSUP;
}

static void ring_disarm(struct netdev *dev)
{
	(void)dev;
}

static uint64_t ring_next_deadline(struct netdev *dev)
{
	struct ring_end *end = end_of(dev);

	return end->refused || has_frame(end->in, own(&end->in->taken)) ? dev->sched->now_ns
									: TIMER_NEVER;
}

static int ring_start(struct netdev *dev)
{
	(void)dev;
	return 0;
}

static void ring_free(struct ring *ring)
{
	free(ring->lanes[0].slots);
	free(ring->lanes[1].slots);
	free(ring);
}

static void ring_close(struct netdev *dev)
{
	struct ring_end *end = end_of(dev);
	struct ring *ring = end->ring;

	free(end);
	/* acquire and release: who frees has seen the other's last use */
	if (atomic_fetch_sub_explicit(&ring->ends, 1, memory_order_acq_rel) == 1)
		ring_free(ring);
}

static const struct netdev_ops ring_ops = {
	.name = "ring",
	.rx_burst = ring_rx_burst,
	.tx_burst = ring_tx_burst,
	.doorbell = netdev_no_doorbell,
	.arm = ring_arm,
	.disarm = ring_disarm,
	.next_deadline = ring_next_deadline,
	.start = ring_start,
	.steer = netdev_takes_all,
	.receives = netdev_receives_all,
	.close = ring_close,
};

/* ---- making ---- */

static bool open_lane(struct lane *lane, uint32_t mtu, uint32_t slots)
{
	uint64_t stride = round_up(sizeof(struct slot) + ETHERNET + VLAN + mtu, CACHE_LINE);

	/* an odd number of lines: the first lines of the slots share out the sets of the cache */
	stride |= CACHE_LINE;
	lane->stride = (uint32_t)stride;
	lane->mask = slots - 1;
	lane->slots = aligned_alloc(CACHE_LINE, stride * slots);
	if (lane->slots) /* pages are there before the first frame */
		memset(lane->slots, 0, stride * slots);
	return lane->slots != NULL;
}

static struct ring *open_ring(uint32_t mtu, uint32_t slots)
{
	struct ring *ring = aligned_alloc(CACHE_LINE, sizeof(*ring));

	if (!ring)
		return NULL;
	memset(ring, 0, sizeof(*ring));
	ring->ends = 2;
	if (!open_lane(&ring->lanes[0], mtu, slots) || !open_lane(&ring->lanes[1], mtu, slots)) {
		ring_free(ring);
		return NULL;
	}
	return ring;
}

static struct netdev *open_end(struct ring *ring, uint8_t which, uint32_t mtu)
{
	struct ring_end *end = calloc(1, sizeof(*end));

	if (!end)
		return NULL;
	end->dev = (struct netdev){
		.ops = &ring_ops,
		.mtu = mtu,
		.mac = {2, 0, 0, 0, 'R', which},
		.max_segments = FRAME_SEGMENTS,
	};
	end->ring = ring;
	end->out = &ring->lanes[which];
	end->in = &ring->lanes[!which];
	return &end->dev;
}

int ring_pair(uint32_t mtu, uint32_t slots, struct netdev *ends[2])
{
	ASSERT(slots > 0 && (slots & (slots - 1)) == 0);
	struct ring *ring = open_ring(mtu, slots);
	if (!ring)
		return -ENOMEM;
	for (uint8_t i = 0; i < 2; i++)
		ends[i] = open_end(ring, i, mtu);
	if (ends[0] && ends[1])
		return 0;
	for (int i = 0; i < 2; i++)
		free(ends[i]);
	ring_free(ring);
	return -ENOMEM;
}
