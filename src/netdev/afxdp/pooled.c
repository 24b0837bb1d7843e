/* SPDX-License-Identifier: MIT
 * netdev/afxdp/pooled.c - frames of an instance that shares its queue with others of the process:
 * copied out of the memory that they share, and into it.
 */
#include "netdev/afxdp/afxdp.h"
#include "netdev/spread/place.h"

#include <string.h>
#include <sys/socket.h>

static void count_drop(struct afxdp *x, enum drop reason)
{
	x->dev.sched->counters.drops[reason]++;
}

/* ---- receiving ---- */

/* A copy of a received frame; NULL: counted. */
static struct frame *copy_out(struct afxdp *x, const struct xdp_desc *desc)
{
	const void *from = pool_at(x->pool, desc->addr, desc->len);

	if (unlikely(!from)) {
		count_drop(x, DROP_DEVICE);
		return NULL;
	}
	struct frame *frame = frame_alloc(x->dev.sched->heap);
	if (unlikely(!frame || frame_tailroom(frame) < desc->len)) {
		count_drop(x, DROP_FRAMES);
		if (frame)
			frame_free_received(x->dev.sched->heap, frame);
		return NULL;
	}
	memcpy(frame->data, from, desc->len);
	frame->length = desc->len;
	return frame;
}

static uint32_t receive(struct afxdp *x, struct frame **frames, uint32_t count)
{
	uint64_t offsets[NETDEV_BURST];
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct xdp_desc desc = x->rx.descs[x->rx.ours++ & x->rx.mask];
		offsets[i] = desc.addr;
		struct frame *frame = copy_out(x, &desc);
		if (unlikely(!frame))
			continue;
		x->dev.stats.rx_bytes += frame->length;
		frames[n++] = frame;
	}
	ring_publish(&x->rx);
	pool_refill(x->pool, offsets, count);
	x->dev.stats.rx_frames += n;
	return n;
}

uint32_t afxdp_pooled_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct afxdp *x = afxdp_of(dev);

	afxdp_doorbell(dev);
	uint32_t count = ring_ready(&x->rx);
	if (count > max)
		count = max;
	if (count > NETDEV_BURST)
		count = NETDEV_BURST;
	uint32_t n = count > 0 ? receive(x, frames, count) : 0;
	if (unlikely(x->grant->busy_poll || ring_sleeps(&x->pool->fill)))
		(void)recvfrom(x->watch.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
	if (unlikely(x->kick) && dev->sched->now_ns >= x->kick_ns) {
		uint64_t none;
		(void)pool_take(x->pool, &none, 0); /* what was sent may be in the way */
		afxdp_kick(x);
	}
	return n;
}

/* ---- sending ---- */

static uint8_t *append(uint8_t *at, const void *from, uint64_t length)
{
	memcpy(at, from, length);
	return at + length;
}

/* Copies a frame to a chunk that has room for it, and frees it. */
static void copy_in(struct afxdp *x, uint64_t offset, struct frame *frame)
{
	uint8_t *chunk = (uint8_t *)x->pool->region + offset;
	uint8_t *at = append(chunk, frame->data, frame->length);

	for (uint32_t i = 0; i < frame->num_segments; i++)
		at = append(at, frame->segments[i].iov_base, frame->segments[i].iov_len);
	uint32_t bytes = (uint32_t)(at - chunk);
	x->tx.descs[x->tx.ours++ & x->tx.mask] = (struct xdp_desc){.addr = offset, .len = bytes};
	x->dev.stats.tx_frames++;
	x->dev.stats.tx_bytes += bytes;
	frame_free(x->dev.sched->heap, frame);
}

/* At most NETDEV_BURST.  Returns how many are gone. */
static uint32_t send_some(struct afxdp *x, struct frame **frames, uint32_t count)
{
	uint64_t chunks[NETDEV_BURST];
	uint32_t room = ring_room(&x->tx, count);
	uint32_t have = pool_take(x->pool, chunks, count < room ? count : room);
	uint32_t used = 0;
	uint32_t done = 0;

	for (; done < count && used < have; done++) {
		if (likely(frame_bytes(frames[done]) <= GRANT_FRAME_BYTES)) {
			copy_in(x, chunks[used++], frames[done]);
		} else {
			count_drop(x, DROP_DEVICE);
			frame_free(x->dev.sched->heap, frames[done]);
		}
	}
	if (unlikely(used < have))
		pool_return(x->pool, chunks + used, have - used);
	return done;
}

uint32_t afxdp_pooled_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct afxdp *x = afxdp_of(dev);
	uint32_t done = 0;
	uint32_t gone = 1;

	while (done < count && gone > 0) {
		uint32_t rest = count - done;
		gone = send_some(x, frames + done, rest < NETDEV_BURST ? rest : NETDEV_BURST);
		done += gone;
	}
	ring_publish(&x->tx);
	afxdp_given(x, done, done < count);
	return done;
}

/* ---- ports ---- */

bool afxdp_pooled_receives(struct netdev *dev, const struct netdev_flow *flow)
{
	const struct afxdp *x = afxdp_of(dev);

	return place_of_flow(flow, x->spread) == x->grant->place;
}
