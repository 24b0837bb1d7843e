/* SPDX-License-Identifier: MIT
 * transport/log/engine.c - the stores of an instance, and the poller that runs them in its turns.
 */
#include "transport/log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static struct log_engine *engine_of(struct poller *poller)
{
	return container_of(poller, struct log_engine, poller);
}

/* ---- the poller ---- */

/* How long nobody may have polled while logs end: an instance that lingers does not arm. */
#define LEAVING_NS 200000

static void commit_all(struct store *store)
{
	list_for_each (node, &store->logs)
		logfile_commit(container_of(node, struct logfile, node));
}

static void commit_stores(struct log_engine *engine)
{
	engine->held = false;
	list_for_each (node, &engine->stores)
		commit_all(container_of(node, struct store, node));
}

/* A batch waits for what is about to be pushed: who has 32 results pushes 32 records, and one write
 * is enough for them. */
static void logs_flush(struct poller *poller, uint32_t more)
{
	struct log_engine *engine = engine_of(poller);

	if (more > 0)
		engine->held = true;
	else
		commit_stores(engine);
}

static uint32_t end_logs(struct store *store)
{
	uint32_t ended = 0;

	list_for_each_safe (node, after, &store->logs) {
		struct logfile *log = container_of(node, struct logfile, node);
		if (!logfile_ended(log))
			continue;
		logfile_free(log);
		ended++;
	}
	return ended;
}

static uint32_t logs_poll(struct poller *poller)
{
	struct log_engine *engine = engine_of(poller);
	uint32_t happened = 0;

	if (unlikely(engine->held))
		commit_stores(engine);
	list_for_each_safe (node, after, &engine->stores) {
		struct store *store = container_of(node, struct store, node);
		happened += store_poll(store);
		if (likely(store->leaving == 0))
			continue;
		happened += end_logs(store);
		if (list_empty(&store->logs))
			store_close(store);
	}
	return happened;
}

static int logs_arm(struct poller *poller)
{
	struct log_engine *engine = engine_of(poller);

	if (engine->sched->output_pending || engine->held)
		return -EAGAIN;
	list_for_each (node, &engine->stores) {
		struct store *store = container_of(node, struct store, node);
		int err = list_empty(&store->early) ? store->dev->ops->arm(store->dev) : -EAGAIN;
		if (!err)
			continue;
		for (struct list *armed = node->prev; armed != &engine->stores;
		     armed = armed->prev) {
			store = container_of(armed, struct store, node);
			store->dev->ops->disarm(store->dev);
		}
		return err;
	}
	return 0;
}

static void logs_disarm(struct poller *poller)
{
	list_for_each (node, &engine_of(poller)->stores) {
		struct store *store = container_of(node, struct store, node);
		store->dev->ops->disarm(store->dev);
	}
}

static uint64_t logs_next_deadline(struct poller *poller)
{
	uint64_t next = TIMER_NEVER;

	list_for_each (node, &engine_of(poller)->stores) {
		struct store *store = container_of(node, struct store, node);
		uint64_t deadline = store->dev->ops->next_deadline(store->dev);
		if (deadline < next)
			next = deadline;
		if (store->leaving > 0 && next > store->sched->now_ns + LEAVING_NS)
			next = store->sched->now_ns + LEAVING_NS;
	}
	return next;
}

static const struct poller_ops logs_poller = {
	.flush = logs_flush,
	.poll = logs_poll,
	.arm = logs_arm,
	.disarm = logs_disarm,
	.next_deadline = logs_next_deadline,
};

/* ---- stores ---- */

static struct store *find_store(const struct log_engine *engine, const char *path)
{
	list_for_each (node, &engine->stores) {
		struct store *store = container_of(node, struct store, node);
		if (store->dev->file ? blkdev_is_at(store->dev, path)
				     : strcmp(store->path, path) == 0)
			return store;
	}
	return NULL;
}

void log_engine_add(struct log_engine *engine, struct store *store)
{
	list_append(&engine->stores, &store->node);
}

/* Is it open in a way that serves for these flags? */
static bool serves(const struct store *store, int flags)
{
	return store->writable || (flags & O_ACCMODE) == O_RDONLY;
}

/* Those who read it have left, and nothing is to be written: it need not linger. Whether it is
 * gone.
 */
static bool end_readers(struct store *store)
{
	list_for_each (node, &store->logs) {
		if (container_of(node, struct logfile, node)->users > 0)
			return false;
	}
	list_for_each_safe (node, after, &store->logs)
		logfile_free(container_of(node, struct logfile, node));
	store_close(store);
	return true;
}

static int open_store(struct log_engine *engine, const struct blkdev_place *place,
		      struct store **store_out)
{
	struct store *store = find_store(engine, place->path);

	if (store && !serves(store, place->flags) && end_readers(store))
		store = NULL;
	if (store && !serves(store, place->flags)) {
		log_write(&engine->sched->log, LOG_LEVEL_ERROR,
			  "log \"%s\": it is open for reading only here", place->path);
		return -EBUSY;
	}
	if (!store) {
		int err = store_open(engine->sched, place, &store);
		if (err)
			return err;
		log_engine_add(engine, store);
	}
	*store_out = store;
	return 0;
}

/* A device of the configuration is made by its logs; O_EXCL is about them. */
static void place_of(const struct log_engine *engine, const char *path, int flags, mode_t mode,
		     struct blkdev_place *place)
{
	const char *device = engine->sched->config.storage_device;

	*place = (struct blkdev_place){.path = path, .flags = flags, .mode = mode};
	if (*device) {
		place->path = device;
		place->flags &= ~O_EXCL;
	}
	if ((flags & O_ACCMODE) == O_WRONLY) /* recovery reads */
		place->flags = (place->flags & ~O_ACCMODE) | O_RDWR;
}

int log_engine_find(struct log_engine *engine, const char *path, int flags, mode_t mode,
		    struct logfile **logfile_out)
{
	struct blkdev_place place;
	struct store *store;
	bool alone = !*engine->sched->config.storage_device;

	place_of(engine, path, flags, mode, &place);
	if (alone && (flags & O_CREAT) && (flags & O_EXCL) && find_store(engine, path))
		return -EEXIST;
	int err = open_store(engine, &place, &store);
	if (err)
		return err;
	store->alone = alone;
	/* A file is there when it was made, its log when that was told in the superblock: who finds
	 * one without the other finishes what a crash left. */
	err = logfile_open(store, alone ? "log" : path, alone ? flags & ~O_EXCL : flags,
			   logfile_out);
	if (err && list_empty(&store->logs))
		store_close(store);
	return err;
}

/* ---- life ---- */

int log_engine_open(struct sched *sched, struct log_engine **engine_out)
{
	struct log_engine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return -ENOMEM;
	engine->sched = sched;
	engine->poller = (struct poller){.ops = &logs_poller, .looks = true};
	list_init(&engine->stores);
	sched_add_poller(sched, &engine->poller);
	*engine_out = engine;
	return 0;
}

uint32_t log_engine_lingering(const struct log_engine *engine)
{
	uint32_t count = 0;

	list_for_each (node, &engine->stores) {
		const struct store *store = container_of(node, struct store, node);
		list_for_each (one, &store->logs)
			count++;
	}
	return count;
}

void log_engine_close(struct log_engine *engine)
{
	list_for_each_safe (node, after, &engine->stores) {
		struct store *store = container_of(node, struct store, node);
		list_for_each_safe (one, next, &store->logs)
			logfile_free(container_of(one, struct logfile, node));
		store_close(store);
	}
	sched_remove_poller(engine->sched, &engine->poller);
	free(engine);
}
