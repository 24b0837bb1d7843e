/* SPDX-License-Identifier: MIT
 * netdev/afxdp/receive.c - the FILL and RX rings: a chunk that the kernel wrote into is a frame.
 *
 * A frame of several buffers (jumbo) is put together in an object of its own: the stack takes
 * frames in one piece.
 */
#include "netdev/afxdp/afxdp.h"

#include <string.h>
#include <sys/socket.h>

#define CALM_BURSTS 65536 /* small ones in a row after which fewer chunks will do */

static void count_drop(struct afxdp *x, enum drop reason)
{
	x->dev.sched->counters.drops[reason]++;
}

/* ---- chunks ---- */

/* How many chunks the kernel shall have.  A few stay in the caches (measured: docs/design/0009);
 * many outlast a burst that comes while we are not looking.  ready: frames that had come since the
 * last look. */
static void adapt(struct afxdp *x, uint32_t ready)
{
	if (unlikely(ready > x->fill_target / 4)) {
		x->fill_target =
			2 * x->fill_target < x->fill_max ? 2 * x->fill_target : x->fill_max;
		x->calm = 0;
	} else if (ready > x->fill_target / 16) {
		x->calm = 0;
	} else if (unlikely(++x->calm == CALM_BURSTS)) {
		if (x->fill_target > AFXDP_FILL_MIN)
			x->fill_target /= 2;
		x->calm = 0;
	}
}

void afxdp_refill(struct afxdp *x)
{
	struct heap *heap = x->dev.sched->heap;

	if (likely(x->filling > x->fill_target - x->fill_target / 4))
		return;
	uint32_t want = x->fill_target - x->filling;
	uint32_t room = ring_room(&x->fill, want);
	for (uint32_t n = want < room ? want : room; n > 0; n--) {
		char *chunk = heap_alloc_frame(heap);
		if (unlikely(!chunk))
			break; /* the application holds them */
		uint64_t offset = (uint64_t)(chunk - x->region);
		heap_take_over(chunk);
		afxdp_give(x, offset);
		x->fill.addresses[x->fill.ours++ & x->fill.mask] = offset;
		x->filling++;
	}
	ring_publish(&x->fill);
}

/* The frame of a descriptor; NULL: what the kernel says makes no sense. */
static struct frame *take(struct afxdp *x, const struct xdp_desc *desc)
{
	uint64_t inside = desc->addr % GRANT_FRAME_BYTES;
	struct frame *frame;

	if (unlikely(inside < sizeof(*frame) || inside + desc->len > GRANT_FRAME_BYTES ||
		     !afxdp_take(x, desc->addr)))
		return NULL;
	x->filling--;
	char *chunk = x->region + (desc->addr - inside);
	heap_hand_over(chunk);
	frame = frame_init(chunk, GRANT_FRAME_BYTES, 0);
	frame->data = (uint8_t *)chunk + inside;
	frame->length = desc->len;
	return frame;
}

/* ---- frames of several buffers ---- */

/* Adds a buffer to the frame that is being put together.  Without memory the frame is lost, which
 * its length tells: it stays 0. */
static void gather(struct afxdp *x, struct frame *buffer)
{
	struct heap *heap = x->dev.sched->heap;
	struct frame *whole = x->partial;

	if (whole != buffer) {
		if (whole->length > 0 && frame_tailroom(whole) >= buffer->length) {
			memcpy(whole->data + whole->length, buffer->data, buffer->length);
			whole->length += buffer->length;
		} else {
			whole->length = 0;
		}
	}
	if (whole != buffer)
		frame_free_received(heap, buffer);
}

/* Begins one with its first buffer. */
static void begin(struct afxdp *x, struct frame *buffer)
{
	struct heap *heap = x->dev.sched->heap;
	uint64_t bytes =
		sizeof(struct frame) + FRAME_PAD + AFXDP_ETHERNET + AFXDP_VLAN + x->dev.mtu;
	void *object = heap_alloc(heap, bytes);

	if (!object) {
		buffer->length = 0;
		x->partial = buffer;
		return;
	}
	x->partial = frame_init(object, bytes, FRAME_PAD);
	memcpy(x->partial->data, buffer->data, buffer->length);
	x->partial->length = buffer->length;
	frame_free_received(heap, buffer);
}

/* The whole frame, if this was its last buffer; else NULL. */
static struct frame *put_together(struct afxdp *x, struct frame *buffer, bool more)
{
	if (!x->partial)
		begin(x, buffer);
	else
		gather(x, buffer);
	if (more)
		return NULL;
	struct frame *whole = x->partial;
	x->partial = NULL;
	if (whole->length > 0)
		return whole;
	count_drop(x, DROP_FRAMES);
	frame_free_received(x->dev.sched->heap, whole);
	return NULL;
}

/* ---- bursts ---- */

/* With need-wakeup the kernel says when it must be called for the ring of free chunks; with busy
 * polling it is always called. */
static void wake(struct afxdp *x)
{
	if (unlikely(x->grant->busy_poll || ring_sleeps(&x->fill)))
		(void)recvfrom(x->watch.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

uint32_t afxdp_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct afxdp *x = afxdp_of(dev);

	afxdp_doorbell(dev);
	uint32_t ready = ring_ready(&x->rx);
	uint32_t n = 0;
	for (uint32_t i = ready < max ? ready : max; i > 0; i--) {
		struct xdp_desc desc = x->rx.descs[x->rx.ours++ & x->rx.mask];
		struct frame *frame = take(x, &desc);
		bool more = desc.options & XDP_PKT_CONTD;
		if (unlikely(!frame))
			count_drop(x, DROP_DEVICE);
		else if (unlikely(more || x->partial))
			frame = put_together(x, frame, more);
		if (unlikely(!frame))
			continue;
		dev->stats.rx_bytes += frame->length;
		frames[n++] = frame;
	}
	if (ready > 0) {
		ring_publish(&x->rx);
		dev->stats.rx_frames += n;
		adapt(x, ready);
	}
	afxdp_refill(x);
	wake(x);
	if (x->sending > 0)
		afxdp_reap(x);
	if (unlikely(x->kick) && dev->sched->now_ns >= x->kick_ns)
		afxdp_kick(x);
	return n;
}
