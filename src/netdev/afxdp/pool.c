/* SPDX-License-Identifier: MIT
 * netdev/afxdp/pool.c - see pool.h.
 */
#include "netdev/afxdp/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Stated exception to "no mutable globals": the instances of this process that share queues. */
static struct {
	pthread_mutex_t changing;
	struct list all;
	uint32_t last_id;
} pools = {.changing = PTHREAD_MUTEX_INITIALIZER, .all = {.next = &pools.all, .prev = &pools.all}};

void pool_begin_change(void)
{
	pthread_mutex_lock(&pools.changing);
}

void pool_end_change(void)
{
	pthread_mutex_unlock(&pools.changing);
}

/* ---- chunks: under the lock ---- */

static uint64_t chunk_of(uint64_t offset)
{
	return offset - offset % GRANT_FRAME_BYTES;
}

static void put(struct pool *pool, uint64_t offset)
{
	if (offset < pool->bytes && pool->num_free < pool->bytes / GRANT_FRAME_BYTES)
		pool->free[pool->num_free++] = chunk_of(offset);
}

static void fill(struct pool *pool, uint64_t offset)
{
	if (offset < pool->bytes && ring_room(&pool->fill, 1) > 0)
		pool->fill.addresses[pool->fill.ours++ & pool->fill.mask] = chunk_of(offset);
}

/* What was sent, by any member. */
static void reap(struct pool *pool)
{
	struct ring *ring = &pool->completion;
	uint32_t ready = ring_ready(ring);

	if (ready == 0)
		return;
	for (; ready > 0; ready--)
		put(pool, ring->addresses[ring->ours++ & ring->mask]);
	ring_publish(ring);
}

void pool_refill(struct pool *pool, const uint64_t *offsets, uint32_t count)
{
	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = 0; i < count; i++)
		fill(pool, offsets[i]);
	ring_publish(&pool->fill);
	pthread_mutex_unlock(&pool->lock);
}

uint32_t pool_take(struct pool *pool, uint64_t *offsets, uint32_t count)
{
	uint32_t n = 0;

	pthread_mutex_lock(&pool->lock);
	reap(pool);
	while (n < count && pool->num_free > 0)
		offsets[n++] = pool->free[--pool->num_free];
	pthread_mutex_unlock(&pool->lock);
	return n;
}

void pool_return(struct pool *pool, const uint64_t *offsets, uint32_t count)
{
	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = 0; i < count; i++)
		put(pool, offsets[i]);
	pthread_mutex_unlock(&pool->lock);
}

void pool_recover(struct pool *pool, struct ring *rx, struct ring *tx)
{
	pthread_mutex_lock(&pool->lock);
	if (rx->map) {
		for (uint32_t n = ring_ready(rx); n > 0; n = ring_ready(rx)) {
			for (; n > 0; n--)
				fill(pool, rx->descs[rx->ours++ & rx->mask].addr);
		}
		ring_publish(&pool->fill);
	}
	if (tx->map) {
		uint32_t read = __atomic_load_n(tx->seen, __ATOMIC_ACQUIRE);
		while (tx->ours - read > 0 && tx->ours - read <= tx->mask + 1)
			put(pool, tx->descs[--tx->ours & tx->mask].addr);
	}
	pthread_mutex_unlock(&pool->lock);
}

/* ---- life: while it is changed ---- */

static struct pool *find(int index, uint32_t queue)
{
	list_for_each (node, &pools.all) {
		struct pool *pool = container_of(node, struct pool, in_all);
		if (pool->index == index && pool->queue == queue)
			return pool;
	}
	return NULL;
}

static void end(struct pool *pool)
{
	ring_unmap(&pool->fill);
	ring_unmap(&pool->completion);
	if (pool->region)
		munmap(pool->region, pool->bytes);
	pthread_mutex_destroy(&pool->lock);
	free(pool->free);
	free(pool);
}

static int make(int index, const struct grant_request *request, struct pool **pool_out)
{
	uint64_t chunks = request->memory_bytes / GRANT_FRAME_BYTES;
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pool->index = index;
	pool->queue = request->queue;
	pool->bytes = request->memory_bytes;
	pool->free = calloc(chunks, sizeof(*pool->free));
	void *region =
		mmap(NULL, pool->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (region != MAP_FAILED)
		pool->region = region;
	if (!pool->free || !pool->region) {
		end(pool);
		return -ENOMEM;
	}
	while (++pools.last_id == 0)
		;
	pool->id = pools.last_id;
	while (pool->num_free < chunks) {
		pool->free[pool->num_free] = pool->num_free * GRANT_FRAME_BYTES;
		pool->num_free++;
	}
	list_append(&pools.all, &pool->in_all);
	*pool_out = pool;
	return 0;
}

int pool_join(int index, const struct grant_request *request, struct pool **pool_out)
{
	struct pool *pool = find(index, request->queue);
	int err = pool ? 0 : make(index, request, &pool);

	if (err)
		return err;
	if (pool->bytes != request->memory_bytes) /* it is the first one's */
		return -EINVAL;
	pool->members++;
	*pool_out = pool;
	return 0;
}

int pool_map(struct pool *pool, int fd, uint32_t ring)
{
	uint32_t some = ring;

	if (pool->fill.map)
		return 0;
	int err = ring_map(&pool->fill, fd, RING_FILL, ring);
	if (!err)
		err = ring_map(&pool->completion, fd, RING_COMPLETION, ring);
	if (err)
		return err;
	if (some > pool->num_free / 2)
		some = pool->num_free / 2;
	for (; some > 0; some--)
		fill(pool, pool->free[--pool->num_free]);
	ring_publish(&pool->fill);
	return 0;
}

void pool_leave(struct pool *pool)
{
	if (--pool->members > 0)
		return;
	list_remove(&pool->in_all);
	end(pool);
}
