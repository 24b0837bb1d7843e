/* SPDX-License-Identifier: MIT */
#include "storage/store.h"

#include "base/assert.h"
#include "storage/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* ---- transfers ---- */

/* The segments of the next part of a transfer: at most bytes, a multiple of the block. */
static uint64_t cut_part(struct store_io *io, uint64_t bytes, uint32_t iov_max)
{
	uint64_t skip = io->begun_bytes;
	uint64_t taken = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < io->num_iov && taken < bytes && n < iov_max; i++) {
		struct iovec piece = io->iov[i];
		if (skip >= piece.iov_len) {
			skip -= piece.iov_len;
			continue;
		}
		piece.iov_base = (char *)piece.iov_base + skip;
		piece.iov_len -= skip;
		skip = 0;
		if (piece.iov_len > bytes - taken)
			piece.iov_len = bytes - taken;
		io->part[n++] = piece;
		taken += piece.iov_len;
	}
	io->request.iov = io->part;
	io->request.num_iov = n;
	return taken;
}

static void next_request(struct store_io *io)
{
	const struct blkdev *dev = io->store->dev;
	uint64_t left = io->bytes - io->begun_bytes;

	io->request.offset = io->offset + io->begun_bytes;
	io->request.bytes = left;
	if (io->what == BLK_READ || io->what == BLK_WRITE) {
		uint64_t most = left < dev->request_bytes_max ? left : dev->request_bytes_max;
		io->request.bytes = cut_part(io, most, dev->iov_max);
	}
	io->begun_bytes += io->request.bytes;
}

/* Whether the device took it.  What it ends at once is told later: nobody is called from within his
 * own call. */
static bool offer(struct store *store, struct store_io *io)
{
	struct blk_request *request = &io->request;

	store->submitting = true;
	bool taken = store->dev->ops->submit(store->dev, &request, 1) > 0;
	store->submitting = false;
	return taken;
}

static void issue(struct store *store, struct store_io *io)
{
	if (!list_empty(&store->waiting) || !offer(store, io))
		list_append(&store->waiting, &io->node);
}

static void issue_waiting(struct store *store)
{
	while (!list_empty(&store->waiting)) {
		struct store_io *io = container_of(store->waiting.next, struct store_io, node);
		list_remove(&io->node);
		if (!offer(store, io)) {
			list_insert(store->waiting.next, &io->node);
			return;
		}
	}
}

static void go_on(struct store_io *io, int err)
{
	struct store *store = io->store;

	store->counts.requests[io->what]++;
	store->counts.bytes[io->what] += io->request.bytes;
	store->counts.durable += io->durable;
	if (unlikely(err)) {
		store->counts.errors++;
	} else if (io->begun_bytes < io->bytes) {
		next_request(io);
		issue(store, io);
		return;
	}
	store->under_way--;
	io->done(io, err);
}

static void request_done(struct blk_request *request)
{
	struct store_io *io = container_of(request, struct store_io, request);

	if (io->store->submitting) {
		io->err = request->err;
		list_append(&io->store->early, &io->node);
		return;
	}
	go_on(io, request->err);
}

static uint32_t end_early(struct store *store)
{
	uint32_t ended = 0;

	while (!list_empty(&store->early)) {
		struct store_io *io = container_of(store->early.next, struct store_io, node);
		list_remove(&io->node);
		go_on(io, io->err);
		ended++;
	}
	return ended;
}

void store_submit(struct store *store, struct store_io *io)
{
	io->store = store;
	io->begun_bytes = 0;
	io->request = (struct blk_request){
		.what = io->what,
		.durable = io->durable,
		.done = request_done,
	};
	list_init(&io->node);
	store->under_way++;
	next_request(io);
	issue(store, io);
}

uint32_t store_poll(struct store *store)
{
	uint32_t happened = store->dev->ops->poll(store->dev);

	if (unlikely(!list_empty(&store->early)))
		happened += end_early(store);
	if (unlikely(!list_empty(&store->waiting)))
		issue_waiting(store);
	return happened;
}

void store_wait(struct store *store)
{
	if (end_early(store) > 0)
		return;
	issue_waiting(store);
	if (list_empty(&store->early))
		store->dev->ops->wait(store->dev);
}

struct awaited {
	struct store_io io;
	bool over;
	int err;
};

static void awaited_done(struct store_io *io, int err)
{
	struct awaited *awaited = container_of(io, struct awaited, io);

	awaited->over = true;
	awaited->err = err;
}

int store_transfer(struct store *store, enum blk_what what, uint64_t offset, void *memory,
		   uint64_t bytes)
{
	struct awaited awaited = {
		.io = {.what = (uint8_t)what,
		       .durable = what == BLK_WRITE,
		       .num_iov = 1,
		       .iov = {{.iov_base = memory, .iov_len = bytes}},
		       .offset = offset,
		       .bytes = bytes,
		       .done = awaited_done},
	};

	store_submit(store, &awaited.io);
	while (!awaited.over)
		store_wait(store);
	return awaited.err;
}

void *store_alloc(struct store *store, uint64_t bytes)
{
	return heap_alloc_aligned(store->sched->heap, BLKDEV_BLOCK_MAX, bytes);
}

/* ---- life ---- */

static void store_free(struct store *store)
{
	if (store->super_buffer)
		(void)heap_free(store->sched->heap, store->super_buffer);
	store->dev->ops->close(store->dev);
	free(store->segments);
	free(store->path);
	free(store);
}

static struct store *store_new(struct blkdev *dev, const char *path)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	store->dev = dev;
	store->sched = dev->sched;
	list_init(&store->node);
	list_init(&store->logs);
	list_init(&store->waiting);
	list_init(&store->early);
	list_init(&store->super_waiters);
	list_init(&store->super_next);
	store->path = strdup(path);
	store->super_buffer = store_alloc(store, SUPER_BYTES);
	return store;
}

int store_open_on(struct blkdev *dev, const char *path, int flags, struct store **store_out)
{
	struct store *store = store_new(dev, path);

	if (!store) {
		dev->ops->close(dev);
		return -ENOMEM;
	}
	store->writable = (flags & O_ACCMODE) != O_RDONLY;
	int err = store->path && store->super_buffer ? 0 : -ENOMEM;
	if (!err)
		err = super_load(store, store->writable && (flags & O_CREAT));
	if (!err)
		err = segment_load(store);
	if (err) {
		store_free(store);
		return err;
	}
	*store_out = store;
	return 0;
}

int store_open(struct sched *sched, const struct blkdev_place *place, struct store **store_out)
{
	struct blkdev *dev;
	int err = blkdev_open(sched, place, &dev);

	return err ? err : store_open_on(dev, place->path, place->flags, store_out);
}

void store_close(struct store *store)
{
	ASSERT(list_empty(&store->logs));
	while (store->under_way > 0)
		store_wait(store);
	list_remove(&store->node);
	store_free(store);
}
