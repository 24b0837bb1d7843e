/* SPDX-License-Identifier: MIT
 * blkdev/vhost/request.c - requests on their way through the queues; see vhost.h.
 *
 * virtio has no write that is on stable media when it is done.  Where the drive has a write cache,
 * a durable write is a write and a flush; those that were written when a flush begins share it, and
 * one flush is under way at a time.
 */
#include "blkdev/vhost/vhost.h"

#include "base/assert.h"
#include "base/bits.h"

#include <errno.h>

#define BATCH 16 /* requests for one queue before the next gets some */

/* ---- lists ---- */

void vhost_list_add(struct vhost_list *list, struct blk_request *request)
{
	request->next = NULL;
	if (list->first)
		list->last->next = request;
	else
		list->first = request;
	list->last = request;
}

void vhost_list_prepend(struct vhost_list *list, struct vhost_list *from)
{
	if (!from->first)
		return;
	from->last->next = list->first;
	if (!list->first)
		list->last = from->last;
	list->first = from->first;
	*from = (struct vhost_list){0};
}

struct blk_request *vhost_list_take(struct vhost_list *list)
{
	struct blk_request *request = list->first;

	list->first = request->next;
	return request;
}

/* ---- slots ---- */

/* A queue with a free slot; there is one. */
static struct vhost_queue *choose_queue(struct vhost *v)
{
	struct vhost_queue *q = &v->queues[v->turn];

	if (v->turn_left > 0 && q->free != VHOST_NONE) {
		v->turn_left--;
		return q;
	}
	for (uint32_t i = 0; i < v->num_queues; i++) {
		v->turn = (v->turn + 1) % v->num_queues;
		v->turn_left = BATCH - 1;
		if (v->queues[v->turn].free != VHOST_NONE)
			break;
	}
	return &v->queues[v->turn];
}

/* Puts a request into a slot.  false: there is no memory to copy its data to. */
static bool place(struct vhost *v, struct blk_request *request)
{
	bool data = request->what == BLK_READ || request->what == BLK_WRITE;
	uint32_t chunks = VHOST_NONE;

	if (data && !vhost_reaches(v, request)) {
		chunks = vhost_chunks_get(v, request->bytes);
		if (chunks == VHOST_NONE)
			return false;
		if (request->what == BLK_WRITE)
			vhost_copy(v, request, chunks, false);
	}
	struct vhost_queue *q = choose_queue(v);
	uint32_t i = q->free;
	ASSERT(i != VHOST_NONE); /* taken <= depth */
	q->free = q->slots[i].next;
	q->slots[i] = (struct vhost_slot){.request = request, .chunks = chunks};
	vhost_queue_put(v, q, i);
	return true;
}

static uint32_t flush_slot(const struct vhost *v)
{
	return v->num_slots - 1;
}

static void release(struct vhost *v, struct vhost_queue *q, uint32_t i)
{
	struct vhost_slot *slot = &q->slots[i];

	if (!slot->request)
		return;
	vhost_chunks_put(v, slot->chunks);
	slot->request = NULL;
	slot->next = q->free;
	q->free = i;
}

/* ---- ends ---- */

static void done(struct vhost *v, struct blk_request *request, int err)
{
	v->taken--;
	request->err = err;
	request->done(request);
}

static void end_later(struct vhost *v, struct blk_request *request, int err)
{
	request->err = err;
	vhost_list_add(&v->ended, request);
}

uint32_t vhost_end(struct vhost *v)
{
	struct vhost_list list = v->ended;
	uint32_t count = 0;

	v->ended = (struct vhost_list){0};
	for (; list.first; count++) {
		struct blk_request *request = vhost_list_take(&list);
		done(v, request, request->err);
	}
	return count;
}

void vhost_fail_all(struct vhost *v, int err)
{
	vhost_list_prepend(&v->waiting, &v->unflushed);
	vhost_list_prepend(&v->waiting, &v->flushing);
	while (v->waiting.first)
		end_later(v, vhost_list_take(&v->waiting), err);
}

/* The flush has ended, and so do those that wanted it. */
static uint32_t flushed(struct vhost *v, int err)
{
	struct vhost_list list = v->flushing;
	uint32_t count = 0;

	v->flush_out = false;
	v->flushing = (struct vhost_list){0};
	for (; list.first; count++)
		done(v, vhost_list_take(&list), err);
	return count;
}

static int error_of(uint8_t status)
{
	if (status == VIRTIO_BLK_S_OK)
		return 0;
	return status == VIRTIO_BLK_S_UNSUPP ? -ENOTSUP : -EIO;
}

/* Is there more of it to be discarded? */
static bool more_to_discard(const struct vhost *v, struct blk_request *request)
{
	if (request->what != BLK_DISCARD)
		return false;
	request->state += v->drive.discard_bytes_max;
	return request->state < request->bytes;
}

/* The daemon has done with a slot.  Returns how many requests were done. */
static uint32_t finish(struct vhost *v, struct vhost_queue *q, uint32_t i)
{
	struct blk_request *request = q->slots[i].request;
	uint32_t chunks = q->slots[i].chunks;
	int err = error_of(__atomic_load_n(&q->shared[i].status, __ATOMIC_RELAXED));

	if (!request)
		return flushed(v, err);
	if (!err && request->what == BLK_READ && chunks != VHOST_NONE)
		vhost_copy(v, request, chunks, true);
	release(v, q, i);
	if (!err && request->what == BLK_WRITE && request->durable && v->dev.volatile_cache) {
		vhost_list_add(&v->unflushed, request);
		return 0;
	}
	if (!err && more_to_discard(v, request)) {
		vhost_list_add(&v->waiting, request);
		return 0;
	}
	done(v, request, err);
	return 1;
}

static uint32_t reap_queue(struct vhost *v, struct vhost_queue *q)
{
	int used = vhost_queue_used(q);
	uint32_t count = 0;

	if (likely(used == 0))
		return 0;
	if (unlikely(used < 0)) {
		vhost_break(v, -EIO, "used more than it was given");
		return 0;
	}
	for (int i = 0; i < used; i++) {
		int slot = vhost_queue_take(v, q);
		if (unlikely(slot < 0)) {
			vhost_break(v, -EIO, "used what it was not given");
			return count;
		}
		count += finish(v, q, (uint32_t)slot);
	}
	vhost_queue_call(v, q, false);
	return count;
}

uint32_t vhost_reap(struct vhost *v)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < v->num_queues && v->state == VHOST_READY; i++)
		count += reap_queue(v, &v->queues[i]);
	return count;
}

/* ---- on its way out ---- */

static void push_flush(struct vhost *v)
{
	if (!v->unflushed.first || v->flush_out)
		return;
	v->flushing = v->unflushed;
	v->unflushed = (struct vhost_list){0};
	v->flush_out = true;
	v->queues[0].slots[flush_slot(v)] = (struct vhost_slot){.chunks = VHOST_NONE};
	vhost_queue_put(v, &v->queues[0], flush_slot(v));
}

/* The first that waits gets a slot, and so leaves the list.  false: it has to wait. */
static bool place_first(struct vhost *v)
{
	struct blk_request *request = v->waiting.first;
	struct blk_request *next = request->next;

	if (!place(v, request))
		return false;
	v->waiting.first = next;
	return true;
}

void vhost_push(struct vhost *v)
{
	if (v->state != VHOST_READY)
		return;
	while (v->waiting.first && place_first(v))
		;
	push_flush(v);
	for (uint32_t i = 0; i < v->num_queues; i++)
		vhost_queue_kick(v, &v->queues[i]);
}

static bool in_range(const struct vhost *v, const struct blk_request *request)
{
	return request->bytes <= v->dev.capacity_bytes &&
	       request->offset <= v->dev.capacity_bytes - request->bytes;
}

/* Takes one request.  false: there is no room. */
static bool take(struct vhost *v, struct blk_request *request)
{
	request->state = 0;
	if (v->state == VHOST_DEAD || v->gave_up)
		end_later(v, request, -ENODEV);
	else if (!in_range(v, request))
		end_later(v, request, -EIO);
	else if (request->what == BLK_FLUSH && v->dev.volatile_cache)
		vhost_list_add(&v->unflushed, request);
	else if (request->what == BLK_FLUSH || (request->what == BLK_DISCARD && !v->dev.discards))
		end_later(v, request, 0);
	else if (v->state != VHOST_READY)
		vhost_list_add(&v->waiting, request);
	else if (v->waiting.first || !place(v, request))
		return false;
	v->taken++;
	return true;
}

uint32_t vhost_submit(struct blkdev *dev, struct blk_request *const *requests, uint32_t count)
{
	struct vhost *v = vhost_of(dev);
	uint32_t taken = 0;

	v->turn_left = 0;
	while (taken < count && v->taken < dev->depth && take(v, requests[taken]))
		taken++;
	if (!v->polling)
		vhost_push(v);
	return taken;
}

/* ---- the daemon is gone ---- */

/* What was under way begins anew: a daemon that has done it, or did half of it, does the same once
 * more.  That is safe as the log never has two writes of a block under way, and the kernel tells us
 * of a daemon's end only when its system calls have ended.  Writes that were done and not flushed
 * are the kernel's, whose cache outlives the daemon: the next one's flush covers them. */
void vhost_recall(struct vhost *v)
{
	for (uint32_t n = 0; n < v->num_queues; n++) {
		struct vhost_queue *q = &v->queues[n];
		for (uint32_t i = 0; i < v->num_slots; i++) {
			if (!q->slots[i].under_way)
				continue;
			q->slots[i].under_way = false;
			if (q->slots[i].request)
				vhost_list_add(&v->waiting, q->slots[i].request);
			release(v, q, i);
		}
		q->under_way = 0;
	}
	vhost_list_prepend(&v->unflushed, &v->flushing);
	v->flush_out = false;
}
