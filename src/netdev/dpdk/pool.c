/* SPDX-License-Identifier: MIT
 * netdev/dpdk/pool.c - memory: the heap's region in DPDK's own memory, and the mempools by which
 * DPDK takes buffers from the heap and gives back what it has sent.
 */
#include "netdev/dpdk/dpdk.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_mempool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_OPS  "demi-frames"
#define PAYLOAD_OPS "demi-payload"

/* ---- mbufs ---- */

static rte_iova_t iova_of(const struct dpdk *x, const void *at)
{
	uint64_t offset = (uint64_t)((const char *)at - x->dev.sched->heap->region);

	if (likely(!x->iova_of_unit))
		return (rte_iova_t)at;
	return (rte_iova_t)at + (rte_iova_t)x->iova_of_unit[offset >> SUPERBLOCK_SHIFT];
}

/* As a mempool keeps them: one buffer, held once, nothing in it. */
static void init_mbuf(struct rte_mbuf *mbuf, struct rte_mempool *pool, void *buffer,
		      rte_iova_t iova, uint32_t bytes)
{
	mbuf->buf_addr = buffer;
	rte_mbuf_iova_set(mbuf, iova);
	mbuf->data_off = RTE_PKTMBUF_HEADROOM;
	mbuf->refcnt = 1;
	mbuf->nb_segs = 1;
	mbuf->port = RTE_MBUF_PORT_INVALID;
	mbuf->ol_flags = 0;
	mbuf->packet_type = 0;
	mbuf->pkt_len = 0;
	mbuf->data_len = 0;
	mbuf->vlan_tci = 0;
	mbuf->vlan_tci_outer = 0;
	mbuf->buf_len = (uint16_t)bytes;
	mbuf->pool = pool;
	mbuf->next = NULL;
	mbuf->tx_offload = 0;
	mbuf->shinfo = NULL;
	mbuf->priv_size = 0;
}

struct rte_mbuf *dpdk_mbuf_of(const struct dpdk *x, struct frame *frame)
{
	const struct heap *heap = x->dev.sched->heap;
	struct rte_mbuf *mbuf = (struct rte_mbuf *)((char *)frame + heap->frame_room);
	char *buffer = (char *)frame + DPDK_BUFFER;

	/* the address that the device knows is that of data behind the headroom, which is ours */
	rte_iova_t data = iova_of(x, buffer + RTE_PKTMBUF_HEADROOM);
	init_mbuf(mbuf, x->frames, buffer, data - RTE_PKTMBUF_HEADROOM,
		  (uint32_t)((char *)mbuf - buffer));
	return mbuf;
}

struct rte_mbuf *dpdk_payload(struct dpdk *x, const struct iovec *payload)
{
	struct rte_mbuf *mbuf = heap_alloc(x->dev.sched->heap, sizeof(*mbuf));

	if (unlikely(!mbuf))
		return NULL;
	heap_take_over(mbuf);
	init_mbuf(mbuf, x->payload, payload->iov_base, iova_of(x, payload->iov_base),
		  (uint32_t)payload->iov_len);
	mbuf->data_off = 0;
	mbuf->data_len = (uint16_t)payload->iov_len;
	return mbuf;
}

void dpdk_payload_free(struct dpdk *x, struct rte_mbuf *mbuf)
{
	heap_unref_library(x->dev.sched->heap, mbuf);
}

/* ---- what DPDK calls ---- */

/* Drivers give back most of what they have on our thread, but not all: when a peer goes, the EAL's
 * thread may do it. */
static bool is_ours(const struct dpdk *x)
{
	return atomic_load_explicit(&x->owner, memory_order_relaxed) == (uintptr_t)pthread_self();
}

/* The pair of dpdk_take_strays' exchange: what is written here is seen there. */
static void put_strays(struct dpdk *x, void *const *objects, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = objects[i];
		struct rte_mbuf *head = atomic_load_explicit(&x->strays, memory_order_relaxed);
		do {
			mbuf->next = head;
		} while (!atomic_compare_exchange_weak_explicit(
			&x->strays, &head, mbuf, memory_order_release, memory_order_relaxed));
	}
}

static void give_back(struct dpdk *x, struct rte_mbuf *mbuf)
{
	struct heap *heap = x->dev.sched->heap;

	if (mbuf->pool == x->frames) {
		struct frame *frame = dpdk_frame_of(heap, mbuf);
		frame->held = 0;
		heap_unref_library(heap, frame);
		return;
	}
	heap_unref_library(heap, mbuf->buf_addr); /* payload, then what stood for it */
	dpdk_payload_free(x, mbuf);
}

void dpdk_take_strays(struct dpdk *x)
{
	struct rte_mbuf *mbuf = atomic_exchange_explicit(&x->strays, NULL, memory_order_acquire);

	while (mbuf) {
		struct rte_mbuf *next = mbuf->next;
		give_back(x, mbuf);
		mbuf = next;
	}
}

/* Takes count buffers from the heap: all or nothing. */
static bool take_from_heap(struct dpdk *x, void **objects, unsigned count)
{
	struct heap *heap = x->dev.sched->heap;

	for (unsigned i = 0; i < count; i++) {
		struct frame *frame = heap_alloc_frame(heap);
		if (unlikely(!frame)) {
			while (i-- > 0)
				give_back(x, objects[i]);
			return false;
		}
		heap_take_over(frame);
		frame->held = DPDK_HELD;
		objects[i] = dpdk_mbuf_of(x, frame);
	}
	return true;
}

/* For another thread that starts the port while we stay away (queues.c): what it gave back when it
 * stopped it, then the reserve. */
static int take_aside(struct dpdk *x, void **objects, unsigned count)
{
	struct heap *heap = x->dev.sched->heap;
	struct rte_mbuf *mbuf = atomic_exchange_explicit(&x->strays, NULL, memory_order_acquire);
	unsigned n = 0;

	while (mbuf) {
		struct rte_mbuf *next = mbuf->next;
		void *object = mbuf;
		if (n < count && mbuf->pool == x->frames)
			objects[n++] = dpdk_mbuf_of(x, dpdk_frame_of(heap, mbuf));
		else
			put_strays(x, &object, 1);
		mbuf = next;
	}
	while (n < count && x->reserved > 0)
		objects[n++] = x->reserve[--x->reserved];
	if (n == count)
		return 0;
	put_strays(x, objects, n);
	return -ENOBUFS;
}

int dpdk_fill_reserve(struct dpdk *x)
{
	unsigned missing = DPDK_RESERVE - x->reserved;

	if (!take_from_heap(x, x->reserve + x->reserved, missing))
		return -ENOMEM;
	x->reserved += missing;
	return 0;
}

/* Some drivers take a burst of buffers for each packet and give back what is left: spare ones stay
 * as they are, at hand. */
static int frames_dequeue(struct rte_mempool *pool, void **objects, unsigned count)
{
	struct dpdk *x = pool->pool_data;

	if (unlikely(!is_ours(x)))
		return x->queues ? take_aside(x, objects, count) : -ENOBUFS;
	unsigned spares = count < x->spares ? count : x->spares;
	if (unlikely(!take_from_heap(x, objects + spares, count - spares)))
		return -ENOBUFS;
	x->spares -= spares;
	memcpy(objects, x->spare + x->spares, spares * sizeof(*objects));
	return 0;
}

static int frames_enqueue(struct rte_mempool *pool, void *const *objects, unsigned count)
{
	struct dpdk *x = pool->pool_data;

	if (unlikely(!is_ours(x))) {
		put_strays(x, objects, count);
		return 0;
	}
	unsigned room = DPDK_SPARES - x->spares;
	unsigned spares = count < room ? count : room;
	memcpy(x->spare + x->spares, objects, spares * sizeof(*objects));
	x->spares += spares;
	for (unsigned i = spares; i < count; i++)
		give_back(x, objects[i]);
	return 0;
}

static unsigned frames_count(const struct rte_mempool *pool)
{
	const struct dpdk *x = pool->pool_data;

	return heap_frames_left(x->dev.sched->heap);
}

static int payload_enqueue(struct rte_mempool *pool, void *const *objects, unsigned count)
{
	struct dpdk *x = pool->pool_data;

	if (unlikely(!is_ours(x))) {
		put_strays(x, objects, count);
		return 0;
	}
	for (unsigned i = 0; i < count; i++)
		give_back(x, objects[i]);
	return 0;
}

static int payload_dequeue(struct rte_mempool *pool, void **objects, unsigned count)
{
	(void)pool;
	(void)objects;
	(void)count;
	return -ENOBUFS; /* only we make them */
}

static unsigned payload_count(const struct rte_mempool *pool)
{
	(void)pool;
	return 0;
}

static int pool_alloc(struct rte_mempool *pool)
{
	(void)pool;
	return 0;
}

static void pool_free(struct rte_mempool *pool)
{
	(void)pool;
}

static const struct rte_mempool_ops frames_ops = {
	.name = FRAMES_OPS,
	.alloc = pool_alloc,
	.free = pool_free,
	.enqueue = frames_enqueue,
	.dequeue = frames_dequeue,
	.get_count = frames_count,
};

static const struct rte_mempool_ops payload_ops = {
	.name = PAYLOAD_OPS,
	.alloc = pool_alloc,
	.free = pool_free,
	.enqueue = payload_enqueue,
	.dequeue = payload_dequeue,
	.get_count = payload_count,
};

/* DPDK knows kinds of mempools by constructors. */
RTE_MEMPOOL_REGISTER_OPS(frames_ops);
RTE_MEMPOOL_REGISTER_OPS(payload_ops);

/* ---- life ---- */

/* A number of its own for what DPDK knows by name.  Stated exception to "no mutable globals". */
static unsigned next_number(void)
{
	static _Atomic unsigned number;

	return atomic_fetch_add_explicit(&number, 1, memory_order_relaxed);
}

static int make_pool(struct dpdk *x, const char *ops, uint32_t count, uint32_t data_bytes,
		     struct rte_mempool **pool_out)
{
	struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = (uint16_t)data_bytes};
	char name[RTE_MEMPOOL_NAMESIZE];

	(void)snprintf(name, sizeof(name), "demi%u", next_number());
	struct rte_mempool *pool = rte_mempool_create_empty(name, count, sizeof(struct rte_mbuf), 0,
							    sizeof(private), SOCKET_ID_ANY, 0);
	if (!pool)
		return -rte_errno;
	*pool_out = pool;
	int err = rte_mempool_set_ops_byname(pool, ops, NULL);
	if (err)
		return err;
	pool->pool_data = x;
	rte_pktmbuf_pool_init(pool, &private);
	return 0;
}

static int widen(const struct rte_memseg_list *list, void *arg)
{
	uintptr_t *span = arg;
	uintptr_t base = (uintptr_t)list->base_va;

	if (list->external)
		return 0;
	span[0] = base < span[0] ? base : span[0];
	span[1] = base + list->len > span[1] ? base + list->len : span[1];
	return 0;
}

/* All of the addresses at which the EAL may put memory are the heap's second range. */
static int lend_addresses(void)
{
	uintptr_t span[2] = {UINTPTR_MAX, 0};

	(void)rte_memseg_list_walk(widen, span);
	uintptr_t base = span[0] & ~(SUPERBLOCK_BYTES - 1);
	return pages_lend((const char *)base, round_up(span[1] - base, SUPERBLOCK_BYTES));
}

/* Called when the last object of a region was freed. */
static void put_region(char *region, uint64_t bytes)
{
	(void)bytes;
	rte_free(region);
}

/* Where the device finds each unit, if that is not where we do. */
static int look_up_iovas(struct dpdk *x, const char *region, uint32_t units)
{
	if (rte_eal_iova_mode() == RTE_IOVA_VA)
		return 0;
	x->iova_of_unit = calloc(units, sizeof(*x->iova_of_unit));
	if (!x->iova_of_unit)
		return -ENOMEM;
	for (uint32_t i = 0; i < units; i++) {
		const char *unit = region + i * SUPERBLOCK_BYTES;
		x->iova_of_unit[i] = (int64_t)(rte_malloc_virt2iova(unit) - (uintptr_t)unit);
	}
	return 0;
}

static int make_region(struct dpdk *x, uint32_t units, uint64_t frame_bytes)
{
	char *region = rte_zmalloc(NULL, units * SUPERBLOCK_BYTES, (unsigned)SUPERBLOCK_BYTES);
	int err = region ? lend_addresses() : -ENOMEM;

	if (!err)
		err = look_up_iovas(x, region, units);
	const struct heap_loan loan = {
		.region = region,
		.put = put_region,
		.frame_bytes = frame_bytes,
		.device_bytes = sizeof(struct rte_mbuf),
		.frame_units = (units + 1) / 2,
		.units = units,
	};
	if (!err)
		err = heap_lend_region(x->dev.sched->heap, &loan);
	if (err)
		rte_free(region);
	return err;
}

int dpdk_memory_open(struct dpdk *x, uint64_t bytes, uint32_t room)
{
	uint32_t units = (uint32_t)(round_up(bytes, SUPERBLOCK_BYTES) / SUPERBLOCK_BYTES);
	uint64_t ours = round_up(sizeof(struct frame) + FRAME_PAD + room, CACHE_LINE);
	uint64_t frame_bytes = ours + sizeof(struct rte_mbuf);

	static_assert(sizeof(struct rte_mbuf) % CACHE_LINE == 0, "the next frame is aligned");
	if (frame_bytes % 2048 == 0) /* as frame_object_bytes */
		frame_bytes += CACHE_LINE;
	uint32_t count = (uint32_t)(SUPERBLOCK_BYTES / frame_bytes) * ((units + 1) / 2);
	uint32_t data_bytes =
		(uint32_t)((int64_t)(frame_bytes - sizeof(struct rte_mbuf)) - DPDK_BUFFER);
	int err = make_region(x, units, frame_bytes);
	if (!err)
		err = make_pool(x, FRAMES_OPS, count, data_bytes, &x->frames);
	if (!err)
		err = make_pool(x, PAYLOAD_OPS, count, 0, &x->payload);
	if (err)
		log_write(&x->dev.sched->log, LOG_LEVEL_ERROR,
			  "demitasse.dpdk.memory_bytes: %llu: %s", (unsigned long long)bytes,
			  strerror(-err));
	return err;
}

/* A port that was closed should have given back all buffers; net_memif keeps those that it was to
 * receive into without a copy. */
static void reclaim(struct dpdk *x, struct superblock *sb)
{
	for (uint32_t i = 0; i < sb->fresh; i++) {
		struct frame *frame = (struct frame *)(sb->base + i * sb->object_bytes);
		struct rte_mbuf *mbuf = (struct rte_mbuf *)((char *)frame + sb->heap->frame_room);
		if (!heap_object_live(&sb->objects[i]) || frame->held != DPDK_HELD)
			continue;
		while (mbuf) {
			struct rte_mbuf *next = mbuf->next;
			give_back(x, mbuf);
			mbuf = next;
		}
	}
}

void dpdk_memory_close(struct dpdk *x)
{
	const struct heap *heap = x->dev.sched->heap;

	dpdk_take_strays(x);
	list_for_each (node, &heap->superblocks) {
		struct superblock *sb = container_of(node, struct superblock, in_heap);
		if (sb->in_region && sb->class == HEAP_FRAMES)
			reclaim(x, sb);
	}
	rte_mempool_free(x->frames);
	rte_mempool_free(x->payload);
	free(x->iova_of_unit);
}
