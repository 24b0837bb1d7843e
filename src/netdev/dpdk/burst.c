/* SPDX-License-Identifier: MIT
 * netdev/dpdk/burst.c - frames to mbufs and back, a burst at a time.
 */
#include "netdev/dpdk/dpdk.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define UDP_HEADER     8       /* bytes */
#define RETRY_NS       20000   /* until frames that found no room are tried again */
#define RETRY_FIRST_NS 2000000 /* the same while no peer has been there yet */

static void count_drops(struct dpdk *x, enum drop reason, uint32_t count)
{
	x->dev.sched->counters.drops[reason] += count;
}

/* ---- receiving ---- */

/* Appends the buffers of an mbuf; false: their sum is not what it said. */
static bool gather(struct frame *frame, const struct rte_mbuf *mbuf)
{
	for (; mbuf; mbuf = mbuf->next) {
		if (mbuf->data_len > frame_tailroom(frame))
			return false;
		memcpy(frame->data + frame->length, rte_pktmbuf_mtod(mbuf, void *), mbuf->data_len);
		frame->length += mbuf->data_len;
	}
	return true;
}

/* What a driver gave in several buffers becomes a frame in one piece; NULL: there is no memory. */
static struct frame *put_together(struct dpdk *x, struct rte_mbuf *mbuf)
{
	struct heap *heap = x->dev.sched->heap;
	uint64_t bytes = sizeof(struct frame) + FRAME_PAD + mbuf->pkt_len;
	void *object = heap_alloc(heap, bytes);
	struct frame *frame = object ? frame_init(object, bytes, FRAME_PAD) : NULL;

	if (frame && !gather(frame, mbuf)) {
		frame_free(heap, frame);
		frame = NULL;
	}
	rte_pktmbuf_free(mbuf);
	return frame;
}

/* The frame that an mbuf is in, which becomes the stack's. */
static struct frame *take(struct dpdk *x, struct rte_mbuf *mbuf)
{
	struct heap *heap = x->dev.sched->heap;
	uint64_t checksum = mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
	bool joined = mbuf->ol_flags & RTE_MBUF_F_RX_LRO;
	struct frame *frame;

	if (unlikely(mbuf->nb_segs > 1)) {
		frame = put_together(x, mbuf);
		if (!frame)
			return NULL;
	} else {
		struct frame *object = dpdk_frame_of(heap, mbuf);
		uint8_t *data = rte_pktmbuf_mtod(mbuf, uint8_t *);
		uint32_t length = mbuf->data_len;
		ASSERT(length <= (uint32_t)((uint8_t *)mbuf - data)); /* the driver's word */
		object->held = 0;
		heap_hand_over(object);
		frame = frame_init(object, heap->frame_room, 0);
		frame->data = data;
		frame->length = length;
	}
	/* "none": the peer of a virtual device left it to us, and the data did not leave memory */
	if (checksum == RTE_MBUF_F_RX_L4_CKSUM_GOOD || checksum == RTE_MBUF_F_RX_L4_CKSUM_NONE ||
	    joined)
		frame->flags = FRAME_CHECKED;
	return frame;
}

static uint32_t poll_port(struct dpdk *x, struct rte_mbuf **mbufs, uint32_t max)
{
	if (unlikely(!gate_enter(x)))
		return 0;
	uint32_t n = rte_eth_rx_burst(x->port, x->queue, mbufs, (uint16_t)max);
	gate_leave(x);
	return n;
}

static uint32_t receive(struct dpdk *x, struct rte_mbuf **mbufs, uint32_t max)
{
	uint32_t n = x->stashed;

	if (likely(n == 0))
		return poll_port(x, mbufs, max);
	n = n < max ? n : max;
	memcpy(mbufs, x->stash, n * sizeof(*mbufs));
	x->stashed -= n;
	memmove(x->stash, x->stash + n, x->stashed * sizeof(*mbufs));
	return n;
}

/* Behind the gate: who starts the port may need them. */
static void take_back_strays(struct dpdk *x)
{
	if (!gate_enter(x))
		return;
	dpdk_take_strays(x);
	if (x->queues)
		(void)dpdk_fill_reserve(x);
	gate_leave(x);
}

uint32_t dpdk_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct dpdk *x = dpdk_of(dev);
	struct rte_mbuf *mbufs[NETDEV_BURST];
	uint32_t n = 0;

	dpdk_own(x);
	if (unlikely(dpdk_has_strays(x)))
		take_back_strays(x);
	uint32_t count = receive(x, mbufs, max < NETDEV_BURST ? max : NETDEV_BURST);

	for (uint32_t i = 0; i < count; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	for (uint32_t i = 0; i < count; i++) {
		struct frame *frame = take(x, mbufs[i]);
		if (unlikely(!frame))
			continue;
		dev->stats.rx_bytes += frame->length;
		frames[n++] = frame;
	}
	dev->stats.rx_frames += n;
	count_drops(x, DROP_FRAMES, count - n);
	return n;
}

/* ---- sending ---- */

/* Can the device read all of it where it is?  Frames are in the region. */
static bool is_readable(const struct dpdk *x, const struct frame *frame)
{
	const struct heap *heap = x->dev.sched->heap;
	/* one that was made when all frames were in use is another object, without an mbuf */
	bool readable =
		pages_find(frame)->class == HEAP_FRAMES && frame->num_segments < x->segments_max;

	for (uint32_t i = 0; i < frame->num_segments && readable; i++)
		readable = heap_in_region(heap, frame->segments[i].iov_base);
	return readable;
}

/* Leaves the transport checksum to the device, which completes what the stack began; and, of a
 * frame that is to be cut, the segments' headers. */
static void offload(struct rte_mbuf *mbuf, const struct frame *frame)
{
	uint8_t *transport = frame->data + frame->transport_offset;
	bool tagged = frame->data[12] == 0x81 && frame->data[13] == 0;
	uint32_t network = DPDK_ETHERNET + (tagged ? DPDK_VLAN : 0);

	bool tcp = frame->checksum_offset == 16;
	uint64_t header = tcp ? (uint64_t)(transport[12] >> 4) * 4 : UDP_HEADER;

	mbuf->tx_offload = rte_mbuf_tx_offload(network, frame->transport_offset - network, header,
					       frame->cut_bytes, 0, 0, 0);
	if (frame->cut_bytes)
		mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	mbuf->ol_flags |= frame->data[network] >> 4 == 4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	mbuf->ol_flags |= tcp ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
}

/* The mbuf of a frame takes its payload along; both stay where they are.  False: memory is short,
 * nothing has changed. */
static bool chain(struct dpdk *x, struct rte_mbuf *mbuf, struct frame *frame)
{
	struct rte_mbuf *last = mbuf;

	for (uint32_t i = 0; i < frame->num_segments; i++) {
		last->next = dpdk_payload(x, &frame->segments[i]);
		if (unlikely(!last->next))
			goto out;
		last = last->next;
		mbuf->nb_segs++;
		mbuf->pkt_len += last->data_len;
	}
	frame->num_segments = 0; /* what the frame held is the mbufs' now */
	return true;

out:
	for (struct rte_mbuf *part = mbuf->next; part;) {
		struct rte_mbuf *next = part->next;
		dpdk_payload_free(x, part);
		part = next;
	}
	return false;
}

/* An mbuf for a frame where it is; NULL: not now. */
static struct rte_mbuf *give(struct dpdk *x, struct frame *frame)
{
	struct rte_mbuf *mbuf = dpdk_mbuf_of(x, frame);

	mbuf->data_off = (uint16_t)(frame->data - (uint8_t *)mbuf->buf_addr);
	mbuf->data_len = (uint16_t)frame->length;
	mbuf->pkt_len = frame->length;
	if (frame->num_segments > 0 && unlikely(!chain(x, mbuf, frame)))
		return NULL;
	if (frame->flags & FRAME_CHECKSUM)
		offload(mbuf, frame);
	heap_take_over(frame);
	frame->held = DPDK_HELD;
	return mbuf;
}

/* The driver had no room: everything is as before give. */
static void take_back(struct dpdk *x, struct rte_mbuf *mbuf)
{
	const struct heap *heap = x->dev.sched->heap;
	struct frame *frame = dpdk_frame_of(heap, mbuf);

	for (struct rte_mbuf *part = mbuf->next; part;) {
		struct rte_mbuf *next = part->next;
		frame->segments[frame->num_segments++] =
			(struct iovec){.iov_base = part->buf_addr, .iov_len = part->data_len};
		dpdk_payload_free(x, part);
		part = next;
	}
	frame->held = 0;
	heap_hand_over(frame);
}

/* A copy of a frame in one that the device can read, in whose place it is; false: not now. */
static bool copy(struct dpdk *x, struct frame **frame)
{
	struct heap *heap = x->dev.sched->heap;
	struct frame *from = *frame;
	struct frame *to = frame_alloc(heap);

	if (!to)
		return false;
	if (from->cut_bytes) { /* only what it begins with can't be read: tcp_can_cut */
		memcpy(to->segments, from->segments, sizeof(to->segments));
		to->num_segments = from->num_segments;
		to->cut_bytes = from->cut_bytes;
		from->num_segments = 0;
		frame_copy_data(to, from);
	} else {
		frame_gather(to, from); /* a frame has room for the MTU */
	}
	frame_free(heap, from);
	*frame = to;
	return true;
}

/* Devices differ in what they want to find in the headers of what they cut. */
static void prepare(const struct dpdk *x, struct rte_mbuf **mbufs, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (mbufs[i]->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
			(void)rte_eth_tx_prepare(x->port, x->queue, &mbufs[i], 1);
	}
}

/* Hands frames to the driver; how many it took. */
static uint32_t send_some(struct dpdk *x, struct frame **frames, uint32_t count)
{
	struct rte_mbuf *mbufs[NETDEV_BURST];
	uint32_t n = 0;
	uint64_t bytes = 0;

	for (; n < count; n++) {
		if (unlikely(!is_readable(x, frames[n])) && !copy(x, &frames[n]))
			break;
		mbufs[n] = give(x, frames[n]);
		if (unlikely(!mbufs[n]))
			break;
		bytes += mbufs[n]->pkt_len;
	}
	uint32_t sent = 0;
	if (likely(n > 0 && gate_enter(x))) {
		if (unlikely(x->dev.cut_bytes > 0))
			prepare(x, mbufs, n);
		sent = rte_eth_tx_burst(x->port, x->queue, mbufs, (uint16_t)n);
		gate_leave(x);
	}
	for (uint32_t i = sent; i < n; i++) {
		bytes -= mbufs[i]->pkt_len;
		take_back(x, mbufs[i]);
	}
	x->dev.stats.tx_bytes += bytes;
	x->dev.stats.tx_frames += sent;
	return sent;
}

/* Is nobody at the other end?  Frames are lost then, as on a cable that was pulled. */
static bool is_down(const struct dpdk *x)
{
	struct rte_eth_link link;

	return rte_eth_link_get_nowait(x->port, &link) == 0 &&
	       link.link_status == RTE_ETH_LINK_DOWN;
}

uint32_t dpdk_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct dpdk *x = dpdk_of(dev);
	uint32_t done = 0;

	dpdk_own(x);
	while (done < count) {
		uint32_t some = count - done < NETDEV_BURST ? count - done : NETDEV_BURST;
		uint32_t sent = send_some(x, frames + done, some);
		done += sent;
		if (sent < some)
			break;
	}
	x->retry_ns = TIMER_NEVER;
	x->was_up |= done > 0;
	if (likely(done == count))
		return done;
	dev->stats.tx_busy += x->was_up;
	if (x->was_up && is_down(x)) {
		count_drops(x, DROP_DEVICE, count - done);
		for (; done < count; done++)
			frame_free(dev->sched->heap, frames[done]);
		return done;
	}
	x->retry_ns = dev->sched->now_ns + (x->was_up ? RETRY_NS : RETRY_FIRST_NS);
	return done;
}

/* ---- sleeping ---- */

int dpdk_arm(struct netdev *dev)
{
	struct dpdk *x = dpdk_of(dev);

	dpdk_own(x);
	if (x->watch.fd < 0)
		return -ENOTSUP;
	if (x->stashed == 0 && rte_eth_dev_rx_intr_enable(x->port, 0))
		return -ENOTSUP;
	if (x->stashed == 0) /* what came before it was enabled interrupts nobody */
		x->stashed = poll_port(x, x->stash, NETDEV_BURST);
	if (x->stashed == 0)
		return 0;
	(void)rte_eth_dev_rx_intr_disable(x->port, 0);
	return -EAGAIN;
}

void dpdk_disarm(struct netdev *dev)
{
	struct dpdk *x = dpdk_of(dev);

	if (x->watch.fd >= 0)
		(void)rte_eth_dev_rx_intr_disable(x->port, 0);
}
