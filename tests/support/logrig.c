/* tests/support/logrig.c: see logrig.h. */
#include "support/logrig.h"

#include "support/test.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PATH    "log under test"
#define STEP_NS 10000

void logrig_init(struct logrig *rig, uint64_t segment_bytes, uint64_t commit_bytes)
{
	static const struct rig_options options = {.step_ns = STEP_NS, .operations_max = 4096};

	memset(rig, 0, sizeof(*rig));
	ASSERT(rig_open(&rig->rig, &options) == 0);
	rig->rig.sched.clock_turns = 1;
	rig->rig.sched.config.storage_segment_bytes =
		(int64_t)(segment_bytes ? segment_bytes : 65536);
	rig->rig.sched.config.storage_commit_bytes = (int64_t)(commit_bytes ? commit_bytes : 4096);
	rig->rig.sched.config.storage_commit_us = 20;
	ASSERT(log_engine_open(&rig->rig.sched, &rig->engine) == 0);
}

void logrig_end(struct logrig *rig)
{
	log_engine_close(rig->engine);
	rig_close(&rig->rig);
}

int logrig_open(struct logrig *rig, struct blksim_disk *disk, int flags)
{
	struct blkdev *dev;
	struct store *store;

	ASSERT(blksim_attach(disk, &rig->rig.sched, &dev) == 0);
	int err = store_open_on(dev, PATH, flags, &store);
	if (err)
		return err;
	log_engine_add(rig->engine, store);
	err = log_queue_open(rig->engine, PATH, flags, 0600, &rig->queue);
	if (err) {
		rig->queue = NULL;
		return err;
	}
	rig->queue->qd = 7;
	rig->log = container_of(store->logs.next, struct logfile, node);
	return 0;
}

void logrig_close(struct logrig *rig)
{
	if (rig->queue)
		rig->queue->ops->close(rig->queue);
	rig->queue = NULL;
	for (uint32_t i = 0; i < 100000 && log_engine_lingering(rig->engine) > 0; i++)
		(void)sched_turn(&rig->rig.sched);
	ASSERT(log_engine_lingering(rig->engine) == 0);
}

/* ---- records ---- */

static unsigned char byte_of(uint64_t i, uint64_t at)
{
	return (unsigned char)((i * 2654435761U + at * 40503U) >> 7);
}

static void fill(char *data, uint64_t i, uint32_t bytes)
{
	for (uint32_t at = 0; at < bytes; at++)
		data[at] = (char)byte_of(i, at);
	for (uint32_t at = 0; at < 8 && at < bytes; at++)
		data[at] = (char)(i >> (8 * at));
}

static bool matches(const char *data, uint64_t i, uint32_t bytes)
{
	for (uint32_t at = 0; at < bytes; at++) {
		unsigned char wanted = (unsigned char)(at < 8 ? i >> (8 * at) : byte_of(i, at));
		if ((unsigned char)data[at] != wanted)
			return false;
	}
	return true;
}

static int issued(struct logrig *rig, struct op *op, int err)
{
	if (err == 0)
		return 0;
	op->owner->issued--;
	op_free(&rig->rig.sched.ops, op);
	return err;
}

uint64_t logrig_push(struct logrig *rig, uint64_t i, uint32_t bytes, int *err)
{
	struct sched *sched = &rig->rig.sched;
	struct op *op = op_issue(sched, OP_PUSH, rig->queue->qd);
	char *data = heap_alloc(sched->heap, bytes + 1);
	uint64_t token = op->token;

	fill(data, i, bytes);
	if (bytes < 3 || i % 2) {
		op->flags = OP_OURS;
		op_set_segment(op, data, bytes);
	} else {
		struct iovec *iov = op_set_segments(&sched->ops, op, 3);
		iov[0] = (struct iovec){data, bytes / 3};
		iov[1] = (struct iovec){data + bytes / 3, 0};
		iov[2] = (struct iovec){data + bytes / 3, bytes - bytes / 3};
		op->len = 5;
	}
	*err = issued(rig, op, rig->queue->ops->push(rig->queue, op, NULL, 0));
	(void)heap_free(sched->heap, data); /* free right after push is legal */
	return *err ? 0 : token;
}

uint64_t logrig_pop(struct logrig *rig)
{
	struct op *op = op_issue(&rig->rig.sched, OP_POP, rig->queue->qd);
	uint64_t token = op->token;

	return issued(rig, op, rig->queue->ops->pop(rig->queue, op)) ? 0 : token;
}

uint64_t logrig_truncate(struct logrig *rig, uint64_t offset, int *err)
{
	struct op *op = op_issue(&rig->rig.sched, OP_TRUNCATE, rig->queue->qd);
	uint64_t token = op->token;

	*err = issued(rig, op, rig->queue->ops->log->truncate(rig->queue, op, offset));
	return *err ? 0 : token;
}

void logrig_turns(struct logrig *rig, uint32_t turns)
{
	for (uint32_t i = 0; i < turns; i++)
		(void)sched_turn(&rig->rig.sched);
}

bool logrig_done(struct logrig *rig, uint64_t token, int64_t *result, struct op *op_out)
{
	struct op *op = wait_ready(&rig->rig.sched, token);

	if (!op)
		return false;
	*result = op->flags & OP_VALUE ? op->ret : -op->ret;
	if (op_out)
		*op_out = *op;
	op_free(&rig->rig.sched.ops, op);
	return true;
}

int64_t logrig_wait(struct logrig *rig, uint64_t token, struct op *op_out)
{
	int64_t result = 0;
	bool done = false;

	for (uint32_t i = 0; i < 100000 && !done; i++) {
		done = logrig_done(rig, token, &result, op_out);
		if (!done)
			logrig_turns(rig, 1);
	}
	ASSERT(done);
	return result;
}

uint64_t logrig_number(struct logrig *rig, struct op *op)
{
	uint64_t i = 0;

	memcpy(&i, op->buf, op->len < 8 ? op->len : 8);
	bool ours = op->numsegs == 1 && matches(op->buf, i, op->len);
	(void)heap_free_inside(rig->rig.sched.heap, op->buf);
	return ours ? i : 0;
}

int logrig_read(struct logrig *rig, uint64_t *i)
{
	uint64_t token = logrig_pop(rig);
	struct op op;
	int64_t result;

	for (uint32_t turn = 0; turn < 100000; turn++) {
		if (logrig_done(rig, token, &result, &op)) {
			if (result < 0)
				return (int)result;
			*i = logrig_number(rig, &op);
			return 1;
		}
		/* Nothing under way, and nothing came: it is the end. */
		if (rig->log->store->under_way == 0 && turn > 2)
			break;
		logrig_turns(rig, 1);
	}
	rig->queue->ops->cancel(rig->queue, op_find(&rig->rig.sched.ops, token));
	ASSERT(logrig_wait(rig, token, NULL) == -ECANCELED);
	return 0;
}
