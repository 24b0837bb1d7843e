/* SPDX-License-Identifier: MIT
 * netdev/afxdp/transmit.c - the TX and COMPLETION rings.
 *
 * A frame is a run of descriptors, published whole.  The kernel has each under a library reference
 * to what it points at, so a completion is the drop of one, whatever it is of: a frame's chunk, a
 * chunk that was copied into, or an object of the application.
 */
#include "netdev/afxdp/afxdp.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define KICK_FRAMES   32    /* that a call takes at least: TX_BATCH_SIZE of Linux */
#define KICK_NS       20000 /* until a call that failed is tried again */
#define UNTOLD_FRAMES 8     /* that the kernel is told of at once: 16 would gain a twelfth more */

/* ---- completions ---- */

void afxdp_reap(struct afxdp *x)
{
	struct heap *heap = x->dev.sched->heap;
	uint32_t ready = ring_ready(&x->completion);

	if (ready == 0)
		return;
	for (uint32_t i = 0; i < ready; i++) {
		uint64_t offset =
			x->completion.addresses[x->completion.ours++ & x->completion.mask];
		if (unlikely(!afxdp_take(x, offset)))
			continue;
		x->sending--;
		heap_unref_library(heap, x->region + offset);
	}
	ring_publish(&x->completion);
}

/* ---- frames to descriptors ---- */

/* A frame that is being written to TX: descriptors from first on. */
struct pieces {
	uint32_t first;
	uint32_t count;
	uint32_t room;
};

/* Returns whether there was room.  The reference that the kernel gets is the caller's to take. */
static bool add_piece(struct afxdp *x, struct pieces *pieces, const void *at, uint32_t length)
{
	if (pieces->count == pieces->room)
		return false;
	x->tx.descs[(pieces->first + pieces->count++) & x->tx.mask] = (struct xdp_desc){
		.addr = (uint64_t)((const char *)at - x->region),
		.len = length,
		.options = XDP_PKT_CONTD,
	};
	return true;
}

/* The pieces behind the first so many go again, with their references. */
static void take_back(struct afxdp *x, struct pieces *pieces, uint32_t keep)
{
	while (pieces->count > keep) {
		pieces->count--;
		const struct xdp_desc *desc =
			&x->tx.descs[(pieces->first + pieces->count) & x->tx.mask];
		heap_unref_library(x->dev.sched->heap, x->region + desc->addr);
	}
}

static void commit(struct afxdp *x, const struct pieces *pieces)
{
	struct xdp_desc *last = &x->tx.descs[(pieces->first + pieces->count - 1) & x->tx.mask];

	last->options = 0;
	for (uint32_t i = 0; i < pieces->count; i++)
		afxdp_give(x, x->tx.descs[(pieces->first + i) & x->tx.mask].addr);
	x->tx.ours += pieces->count;
	x->sending += pieces->count;
}

/* Can so many more pieces of objects be written down? */
static bool has_ledger(const struct afxdp *x, uint32_t pieces)
{
	return !x->pieces || x->pieces_mask + 1 - (x->pieces_end - x->pieces_begin) >= pieces;
}

/* Payload in place, in pieces that do not cross chunks. */
static bool refer(struct afxdp *x, struct pieces *pieces, const struct iovec *segment)
{
	const char *at = segment->iov_base;
	uint64_t left = segment->iov_len;

	while (left > 0) {
		uint64_t inside = (uint64_t)(at - x->region) % GRANT_FRAME_BYTES;
		uint64_t length = GRANT_FRAME_BYTES - inside;
		if (length > left)
			length = left;
		if (!add_piece(x, pieces, at, (uint32_t)length))
			return false;
		heap_ref_library(at);
		at += length;
		left -= length;
	}
	return true;
}

/* What is copied goes into chunks, one behind the other. */
struct copy {
	uint8_t *chunk; /* the last one; NULL: none yet */
	uint32_t used;  /* bytes of it */
};

static void close_chunk(struct afxdp *x, const struct pieces *pieces, const struct copy *copy)
{
	if (copy->chunk)
		x->tx.descs[(pieces->first + pieces->count - 1) & x->tx.mask].len = copy->used;
}

static bool next_chunk(struct afxdp *x, struct pieces *pieces, struct copy *copy)
{
	close_chunk(x, pieces, copy);
	uint8_t *chunk = heap_alloc_frame(x->dev.sched->heap);
	if (!chunk)
		return false;
	heap_take_over(chunk);
	if (!add_piece(x, pieces, chunk, 0)) {
		heap_unref_library(x->dev.sched->heap, chunk);
		return false;
	}
	*copy = (struct copy){.chunk = chunk};
	return true;
}

static bool copy_in(struct afxdp *x, struct pieces *pieces, struct copy *copy, const void *from,
		    uint64_t length)
{
	const uint8_t *at = from;

	while (length > 0) {
		if ((!copy->chunk || copy->used == GRANT_FRAME_BYTES) &&
		    !next_chunk(x, pieces, copy))
			return false;
		uint64_t some = GRANT_FRAME_BYTES - copy->used;
		if (some > length)
			some = length;
		memcpy(copy->chunk + copy->used, at, some);
		copy->used += (uint32_t)some;
		at += some;
		length -= some;
	}
	return true;
}

/* Can the kernel read the frame where it is?  Its first piece must not cross chunks, as that of a
 * long one can, which is an object of the region. */
static bool is_readable(const struct afxdp *x, const struct frame *frame)
{
	const struct heap *heap = x->dev.sched->heap;
	uint64_t inside = (uint64_t)((char *)frame->data - x->region) % GRANT_FRAME_BYTES;
	bool readable = heap_in_region(heap, frame) && inside + frame->length <= GRANT_FRAME_BYTES;

	if (likely(readable && frame->num_segments == 0))
		return true;
	for (uint32_t i = 0; i < frame->num_segments && readable; i++)
		readable = x->refer && heap_in_region(heap, frame->segments[i].iov_base);
	return readable;
}

/* The kernel gets the frame itself: its chunk, whose reference changes hands, and the segments. */
static bool place_here(struct afxdp *x, struct pieces *pieces, struct frame *frame)
{
	if (!add_piece(x, pieces, frame->data, frame->length))
		return false;
	for (uint32_t i = 0; i < frame->num_segments; i++) {
		if (!refer(x, pieces, &frame->segments[i])) {
			take_back(x, pieces, 1);
			return false;
		}
	}
	heap_take_over(frame);
	for (uint32_t i = 0; i < frame->num_segments; i++)
		heap_unref_library(x->dev.sched->heap, frame->segments[i].iov_base);
	frame->num_segments = 0;
	return true;
}

/* The kernel gets a copy; the frame is freed. */
static bool place_copy(struct afxdp *x, struct pieces *pieces, struct frame *frame)
{
	struct copy copy = {0};
	bool placed = copy_in(x, pieces, &copy, frame->data, frame->length);

	for (uint32_t i = 0; i < frame->num_segments && placed; i++)
		placed = copy_in(x, pieces, &copy, frame->segments[i].iov_base,
				 frame->segments[i].iov_len);
	if (!placed) {
		take_back(x, pieces, 0);
		return false;
	}
	close_chunk(x, pieces, &copy);
	frame_free(x->dev.sched->heap, frame);
	return true;
}

/* Frees a frame that can never go out. */
static void refuse(struct afxdp *x, struct frame *frame)
{
	x->dev.sched->counters.drops[DROP_DEVICE]++;
	frame_free(x->dev.sched->heap, frame);
}

/* Writes a frame to TX, unless there is no room now.  Returns whether it is gone. */
static bool place(struct afxdp *x, struct frame *frame)
{
	uint32_t bytes = frame_bytes(frame);
	uint32_t room = ring_room(&x->tx, AFXDP_PIECES_MAX);
	struct pieces pieces = {.first = x->tx.ours,
				.room = room < AFXDP_PIECES_MAX ? room : AFXDP_PIECES_MAX};

	if (unlikely(bytes > (x->grant->segments ? x->dev.mtu + AFXDP_ETHERNET + AFXDP_VLAN
						 : (uint32_t)GRANT_FRAME_BYTES))) {
		refuse(x, frame);
		return true;
	}
	if (unlikely(!has_ledger(x, AFXDP_PIECES_MAX)))
		return false;
	if (!(likely(is_readable(x, frame)) ? place_here(x, &pieces, frame)
					    : place_copy(x, &pieces, frame)))
		return false;
	commit(x, &pieces);
	x->dev.stats.tx_frames++;
	x->dev.stats.tx_bytes += bytes;
	return true;
}

/* ---- bursts ---- */

/* Has the kernel read all of TX? */
static bool is_read(const struct afxdp *x)
{
	return __atomic_load_n(x->tx.seen, __ATOMIC_ACQUIRE) == x->tx.ours;
}

void afxdp_kick(struct afxdp *x)
{
	uint32_t calls =
		(x->tx.ours - __atomic_load_n(x->tx.seen, __ATOMIC_RELAXED)) / KICK_FRAMES + 1;

	x->kick = false;
	x->untold = 0;
	if (!x->grant->busy_poll && !ring_sleeps(&x->tx))
		return;
	while (!is_read(x)) {
		if (calls-- == 0 ||
		    (sendto(x->watch.fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN)) {
			x->kick = true;
			x->kick_ns = x->dev.sched->now_ns + KICK_NS;
			return;
		}
	}
}

void afxdp_doorbell(struct netdev *dev)
{
	struct afxdp *x = afxdp_of(dev);

	if (x->untold > 0)
		afxdp_kick(x);
}

void afxdp_given(struct afxdp *x, uint32_t count, bool busy)
{
	x->untold += count;
	if (x->untold >= UNTOLD_FRAMES || unlikely(busy))
		afxdp_kick(x);
	if (unlikely(busy)) {
		x->dev.stats.tx_busy++;
		x->kick = true;
		x->kick_ns = x->dev.sched->now_ns + KICK_NS;
	}
}

uint32_t afxdp_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct afxdp *x = afxdp_of(dev);
	uint32_t done = 0;

	if (unlikely(x->sending > x->tx.mask / 2)) /* it is done once a turn, when receiving */
		afxdp_reap(x);
	while (done < count && place(x, frames[done]))
		done++;
	ring_publish(&x->tx);
	afxdp_given(x, done, done < count);
	return done;
}
