/* SPDX-License-Identifier: MIT
 * blkdev/vhost/ring.c - split virtqueues (virtio 1.2, 2.7): how requests get to the daemon and
 * back.
 *
 * A slot has entries of its own in the descriptor ring, so that the number of an entry tells the
 * slot: one, which points to a table of the slot's; or, where the daemon cannot do that, as many as
 * a request may need.  The descriptors are never read back.
 */
#include "blkdev/vhost/vhost.h"

#include "base/assert.h"
#include "base/bits.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as virtio's");

void vhost_queue_reset(struct vhost *v, struct vhost_queue *q)
{
	memset(q->ring.desc, 0, q->ring.num * sizeof(*q->ring.desc));
	memset(q->ring.avail, 0, sizeof(*q->ring.avail) + (q->ring.num + 1) * sizeof(uint16_t));
	memset(q->ring.used, 0,
	       sizeof(*q->ring.used) + q->ring.num * sizeof(*q->ring.used->ring) +
		       sizeof(uint16_t));
	q->put = 0;
	q->kicked = 0;
	q->seen = 0;
	vhost_queue_call(v, q, false);
}

/* ---- what a request looks like ---- */

struct table {
	struct vring_desc *entries;
	uint32_t count;
	uint32_t first; /* number of its first entry */
};

static void table_add(struct table *table, const void *at, uint32_t bytes, uint32_t flags)
{
	struct vring_desc *desc = &table->entries[table->count];

	*desc = (struct vring_desc){
		.addr = (uint64_t)(uintptr_t)at,
		.len = bytes,
		.flags = (uint16_t)(flags | VRING_DESC_F_NEXT),
		.next = (uint16_t)(table->first + ++table->count),
	};
}

/* A segment, cut as the drive wants it. */
static void table_add_segment(const struct vhost *v, struct table *table, const char *at,
			      uint64_t bytes, uint32_t flags)
{
	while (bytes > 0) {
		uint64_t n =
			bytes < v->drive.segment_bytes_max ? bytes : v->drive.segment_bytes_max;
		ASSERT(table->count + 2 <= v->table_entries);
		table_add(table, at, (uint32_t)n, flags);
		at += n;
		bytes -= n;
	}
}

static void table_add_data(const struct vhost *v, struct table *table,
			   const struct vhost_slot *slot)
{
	const struct blk_request *request = slot->request;
	uint32_t flags = request->what == BLK_READ ? VRING_DESC_F_WRITE : 0;
	uint64_t left = request->bytes;

	if (slot->chunks == VHOST_NONE) {
		for (uint32_t i = 0; i < request->num_iov; i++)
			table_add_segment(v, table, request->iov[i].iov_base,
					  request->iov[i].iov_len, flags);
		return;
	}
	for (uint32_t chunk = slot->chunks; left > 0; chunk = v->chunk_next[chunk]) {
		uint64_t n = left < VHOST_CHUNK_BYTES ? left : VHOST_CHUNK_BYTES;
		table_add_segment(v, table, vhost_chunk(v, chunk), n, flags);
		left -= n;
	}
}

/* The next piece of a range: request->state bytes of it were discarded. */
static void table_add_range(const struct vhost *v, struct table *table, struct vhost_shared *shared,
			    const struct blk_request *request)
{
	uint64_t left = request->bytes - request->state;

	if (left > v->drive.discard_bytes_max)
		left = v->drive.discard_bytes_max;
	shared->range = (struct virtio_blk_discard_write_zeroes){
		.sector = (request->offset + request->state) >> 9,
		.num_sectors = (uint32_t)(left >> 9),
	};
	table_add(table, &shared->range, sizeof(shared->range), 0);
}

static uint32_t type_of(const struct blk_request *request)
{
	if (!request)
		return VIRTIO_BLK_T_FLUSH;
	if (request->what == BLK_DISCARD)
		return VIRTIO_BLK_T_DISCARD;
	return request->what == BLK_READ ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
}

/* Writes slot's table.  Returns its number of entries. */
static uint32_t make_table(struct vhost *v, struct vhost_queue *q, uint32_t i)
{
	struct vhost_slot *slot = &q->slots[i];
	struct vhost_shared *shared = &q->shared[i];
	const struct blk_request *request = slot->request;
	struct table table = {.entries = q->tables ? q->tables + (uint64_t)i * v->table_entries
						   : q->ring.desc + i * v->table_entries,
			      .first = q->tables ? 0 : i * v->table_entries};
	uint32_t type = type_of(request);

	shared->head = (struct virtio_blk_outhdr){.type = type};
	shared->status = UINT8_MAX;
	table_add(&table, &shared->head, sizeof(shared->head), 0);
	if (type == VIRTIO_BLK_T_DISCARD) {
		table_add_range(v, &table, shared, request);
	} else if (type != VIRTIO_BLK_T_FLUSH) {
		shared->head.sector = request->offset >> 9;
		table_add_data(v, &table, slot);
	}
	table_add(&table, &shared->status, 1, VRING_DESC_F_WRITE);
	table.entries[table.count - 1].flags = VRING_DESC_F_WRITE;
	return table.count;
}

void vhost_queue_put(struct vhost *v, struct vhost_queue *q, uint32_t i)
{
	uint32_t count = make_table(v, q, i);

	if (q->tables)
		q->ring.desc[i] = (struct vring_desc){
			.addr = (uint64_t)(uintptr_t)(q->tables + (uint64_t)i * v->table_entries),
			.len = count * (uint32_t)sizeof(struct vring_desc),
			.flags = VRING_DESC_F_INDIRECT,
		};
	q->ring.avail->ring[q->put++ & (q->ring.num - 1)] = (uint16_t)(i * vhost_stride(v));
	q->slots[i].under_way = true;
	q->under_way++;
}

/* ---- whom to wake ---- */

void vhost_queue_kick(struct vhost *v, struct vhost_queue *q)
{
	static const uint64_t one = 1;
	bool wanted;

	if (q->put == q->kicked)
		return;
	/* release: tables and entries are written before the daemon sees that they are there */
	__atomic_store_n(&q->ring.avail->idx, q->put, __ATOMIC_RELEASE);
	/* It says that it wants to be woken, then looks for entries; we the other way round. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (vhost_has(v, VIRTIO_RING_F_EVENT_IDX)) {
		uint16_t event = __atomic_load_n(&vring_avail_event(&q->ring), __ATOMIC_RELAXED);
		wanted = vring_need_event(event, q->put, q->kicked);
	} else {
		uint16_t flags = __atomic_load_n(&q->ring.used->flags, __ATOMIC_RELAXED);
		wanted = !(flags & VRING_USED_F_NO_NOTIFY);
	}
	q->kicked = q->put;
	if (!wanted)
		return;
	v->kicks++;
	/* It fails only if the daemon has not looked for 2^64 kicks. */
	(void)!write(q->kick_fd, &one, sizeof(one));
}

void vhost_queue_call(struct vhost *v, struct vhost_queue *q, bool call)
{
	if (vhost_has(v, VIRTIO_RING_F_EVENT_IDX)) {
		/* An entry just seen is the last that the daemon comes to. */
		uint16_t event = (uint16_t)(call ? q->seen : q->seen - 1);
		__atomic_store_n(&vring_used_event(&q->ring), event, __ATOMIC_RELAXED);
	} else {
		uint16_t flags = call ? 0 : VRING_AVAIL_F_NO_INTERRUPT;
		__atomic_store_n(&q->ring.avail->flags, flags, __ATOMIC_RELAXED);
	}
}

/* ---- what the daemon says ---- */

int vhost_queue_used(const struct vhost_queue *q)
{
	/* acquire: the entries, status and data are read after it */
	uint16_t used = __atomic_load_n(&q->ring.used->idx, __ATOMIC_ACQUIRE);
	uint16_t count = (uint16_t)(used - q->seen);

	return count <= q->under_way ? count : -EPROTO;
}

int vhost_queue_take(struct vhost *v, struct vhost_queue *q)
{
	const struct vring_used_elem *entry = &q->ring.used->ring[q->seen & (q->ring.num - 1)];
	uint32_t id = __atomic_load_n(&entry->id, __ATOMIC_RELAXED);
	uint32_t stride = vhost_stride(v);
	uint32_t slot = id / stride;

	/* Its count of bytes tells nothing that the status does not: there are daemons that leave
	 * it 0. */
	if (id % stride != 0 || slot >= v->num_slots || !q->slots[slot].under_way)
		return -EPROTO;
	q->slots[slot].under_way = false;
	q->under_way--;
	q->seen++;
	return (int)slot;
}
