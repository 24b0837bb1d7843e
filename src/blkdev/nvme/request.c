/* SPDX-License-Identifier: MIT
 * blkdev/nvme/request.c - requests on their way: slots, submission, completions, and what is to be
 * done besides: buffers that came free, retries, lateness.
 */
#include "blkdev/nvme/nvme.h"

#include "base/assert.h"
#include "blkdev/nvme/data.h"
#include "blkdev/nvme_status.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LATE_NS      UINT64_C(30000000000) /* a command that takes longer is lost */
#define LOOK_NS      10000000              /* between looks at the state of a busy controller */
#define RETRIES_MAX  5
#define RETRY_NS     20000000   /* before the first retry; doubled each time */
#define BUFFERS_FEW  4          /* where they are rarely needed */
#define BLOCKS_RANGE UINT32_MAX /* of one range of a discard */
#define ID_SLOT      0xff       /* of a command's id; the rest tells its uses apart */
#define ID_USE       0x100

static uint64_t now(const struct nvme *nvme)
{
	return nvme->dev.sched->now_ns;
}

static void look_soon(struct nvme *nvme, uint64_t at_ns)
{
	if (at_ns < nvme->look_ns)
		nvme->look_ns = at_ns;
}

/* ---- what a slot has and gives back ---- */

static void finish(struct nvme *nvme, struct nvme_slot *slot, int err)
{
	struct blk_request *request = slot->request;

	if (slot->buffer >= 0) {
		if (!err && request->what == BLK_READ)
			nvme_data_arrived(nvme, slot);
		nvme->spare[nvme->num_spare++] = (uint8_t)slot->buffer;
		if (nvme->num_bare > 0)
			nvme->look_ns = 0;
	}
	slot->state = SLOT_FREE;
	slot->request = NULL;
	nvme->free[nvme->num_free++] = (uint8_t)(slot - nvme->slots);
	request->err = err;
	request->done(request);
}

static void over(struct nvme *nvme, struct nvme_slot *slot, int err)
{
	nvme->num_bare -= slot->state == SLOT_BARE;
	slot->state = SLOT_OVER;
	slot->err = err;
	nvme->look_ns = 0;
}

/* ---- commands ---- */

static bool in_range(const struct nvme *nvme, const struct blk_request *request)
{
	uint64_t capacity = nvme->dev.capacity_bytes;

	return request->offset <= capacity && request->bytes <= capacity - request->offset;
}

/* Dataset Management, of as many ranges as the number of blocks needs. */
static void make_discard(struct nvme *nvme, struct nvme_slot *slot)
{
	struct nvme_range *ranges = slot->list;
	uint64_t first = slot->request->offset >> nvme->block_shift;
	uint64_t left = slot->request->bytes >> nvme->block_shift;
	uint32_t count = 0;

	for (; left > 0 && count < NVME_DSM_RANGES; count++) {
		uint32_t blocks = left < BLOCKS_RANGE ? (uint32_t)left : BLOCKS_RANGE;
		ranges[count] = (struct nvme_range){.blocks = blocks, .first = first};
		first += blocks;
		left -= blocks;
	}
	slot->command.opcode = NVME_DSM;
	slot->command.prp[0] = slot->list_address;
	slot->command.cdw10 = count - 1;
	slot->command.cdw11 = NVME_DSM_DISCARD;
}

static void make_transfer(struct nvme *nvme, struct nvme_slot *slot)
{
	const struct blk_request *request = slot->request;
	struct nvme_command *command = &slot->command;
	uint64_t first = request->offset >> nvme->block_shift;

	command->opcode = request->what == BLK_READ ? NVME_READ : NVME_WRITE;
	command->cdw10 = (uint32_t)first;
	command->cdw11 = (uint32_t)(first >> 32);
	command->cdw12 = (uint32_t)(request->bytes >> nvme->block_shift) - 1;
	if (request->durable && nvme->dev.volatile_cache && request->what == BLK_WRITE)
		command->cdw12 |= NVME_FUA;
}

static void put_out(struct nvme *nvme, struct nvme_slot *slot)
{
	slot->state = SLOT_SENT;
	slot->id = (uint16_t)(slot->id + ID_USE);
	slot->command.id = slot->id;
	slot->deadline_ns = now(nvme) + LATE_NS;
	nvme->num_sent++;
	nvme_queue_put(&nvme->io, &slot->command);
}

static void hold(struct nvme *nvme, struct nvme_slot *slot, uint64_t again_ns)
{
	slot->state = SLOT_HELD;
	slot->again_ns = again_ns;
	look_soon(nvme, again_ns);
}

/* The command is made: out with it, if the controller runs. */
static void ready(struct nvme *nvme, struct nvme_slot *slot)
{
	if (likely(nvme->state == NVME_RUNNING))
		put_out(nvme, slot);
	else
		hold(nvme, slot, 0);
}

static bool take_buffer(struct nvme *nvme, struct nvme_slot *slot)
{
	if (nvme->num_spare == 0)
		return false;
	slot->buffer = nvme->spare[--nvme->num_spare];
	nvme_data_buffered(nvme, slot);
	return true;
}

static void begin_transfer(struct nvme *nvme, struct nvme_slot *slot)
{
	make_transfer(nvme, slot);
	if (likely(nvme_data_direct(nvme, slot)) ||
	    (nvme->num_bare == 0 && take_buffer(nvme, slot))) {
		ready(nvme, slot);
		return;
	}
	slot->state = SLOT_BARE;
	slot->ticket = nvme->tickets++;
	nvme->num_bare++;
	nvme->look_ns = 0;
}

static void begin(struct nvme *nvme, struct nvme_slot *slot, struct blk_request *request)
{
	slot->request = request;
	slot->command = (struct nvme_command){.nsid = nvme->nsid};
	slot->retries = 0;
	slot->sent_twice = false;
	slot->buffer = -1;
	if (unlikely(nvme->state == NVME_DEAD)) {
		over(nvme, slot, nvme->err);
	} else if (unlikely(!in_range(nvme, request))) {
		over(nvme, slot, -EIO);
	} else if (request->what == BLK_FLUSH) {
		slot->command.opcode = NVME_FLUSH;
		ready(nvme, slot);
	} else if (request->what != BLK_DISCARD) {
		begin_transfer(nvme, slot);
	} else if (nvme->dev.discards && request->bytes > 0) {
		make_discard(nvme, slot);
		ready(nvme, slot);
	} else {
		over(nvme, slot, 0);
	}
}

static uint32_t nvme_submit(struct blkdev *dev, struct blk_request *const *requests, uint32_t count)
{
	struct nvme *nvme = nvme_of(dev);
	uint32_t taken = 0;

	while (taken < count && nvme->num_free > 0) {
		struct nvme_slot *slot = &nvme->slots[nvme->free[--nvme->num_free]];
		begin(nvme, slot, requests[taken++]);
	}
	if (nvme->num_sent > 0)
		look_soon(nvme, now(nvme) + LOOK_NS);
	nvme_queue_ring(nvme->bus, &nvme->io);
	return taken;
}

/* ---- completions ---- */

/* The slot that a completion is of; NULL: it cannot be. */
static struct nvme_slot *slot_of(struct nvme *nvme, const struct nvme_completion *completion)
{
	uint32_t index = completion->id & ID_SLOT;

	if (index >= nvme->dev.depth || completion->sq_head >= nvme->io.entries)
		return NULL;
	struct nvme_slot *slot = &nvme->slots[index];
	return slot->state == SLOT_SENT && slot->id == completion->id ? slot : NULL;
}

static const char *what_of(const struct blk_request *request)
{
	static const char *const names[] = {
		[BLK_READ] = "read",
		[BLK_WRITE] = "write",
		[BLK_FLUSH] = "flush",
		[BLK_DISCARD] = "discard",
	};

	return names[request->what];
}

/* False: it is tried again. */
static bool failed(struct nvme *nvme, struct nvme_slot *slot, uint16_t status)
{
	struct sched *sched = nvme->dev.sched;
	bool again;
	int err = nvme_status_error(status, &again);

	if (again && slot->retries < RETRIES_MAX) {
		hold(nvme, slot, now(nvme) + ((uint64_t)RETRY_NS << slot->retries++));
		return false;
	}
	log_once(&sched->log, &sched->log_seen, LOG_LEVEL_WARNING,
		 "nvme %s: a %s at %llu failed with status 0x%x (said once)", nvme->bus->name,
		 what_of(slot->request), (unsigned long long)slot->request->offset, status);
	finish(nvme, slot, err);
	return true;
}

static bool completed(struct nvme *nvme, struct nvme_slot *slot, uint16_t status)
{
	nvme->num_sent--;
	if (unlikely(status))
		return failed(nvme, slot, status);
	finish(nvme, slot, 0);
	return true;
}

static uint32_t take_completions(struct nvme *nvme)
{
	struct nvme_completion completion;
	uint32_t done = 0;

	/* Bounded: done submits what may be complete at once. */
	while (done < nvme->io.entries && nvme->state == NVME_RUNNING &&
	       nvme_queue_take(&nvme->io, &completion)) {
		struct nvme_slot *slot = slot_of(nvme, &completion);
		if (unlikely(!slot)) {
			nvme_reset(nvme, "it completed what was not asked for");
			break;
		}
		done += completed(nvme, slot, completion.status);
	}
	if (likely(nvme->state == NVME_RUNNING))
		nvme_queue_taken(nvme->bus, &nvme->io);
	return done;
}

/* ---- what is no completion ---- */

static void check_late(struct nvme *nvme)
{
	for (uint32_t i = 0; nvme->num_sent > 0 && i < nvme->dev.depth; i++) {
		if (nvme->slots[i].state == SLOT_SENT && nvme->slots[i].deadline_ns <= now(nvme)) {
			nvme_reset(nvme, "a command was not answered");
			return;
		}
	}
}

/* Those that wait for a buffer get what there is, the oldest first. */
static void dress_bare(struct nvme *nvme)
{
	while (nvme->num_bare > 0 && nvme->num_spare > 0) {
		struct nvme_slot *oldest = NULL;
		for (uint32_t i = 0; i < nvme->dev.depth; i++) {
			struct nvme_slot *slot = &nvme->slots[i];
			if (slot->state == SLOT_BARE && (!oldest || slot->ticket < oldest->ticket))
				oldest = slot;
		}
		ASSERT(oldest);
		nvme->num_bare--;
		(void)take_buffer(nvme, oldest);
		ready(nvme, oldest);
	}
}

/* Ends what is over, puts out what was held.  Returns how many ended. */
static uint32_t settle(struct nvme *nvme)
{
	uint32_t done = 0;

	for (uint32_t i = 0; i < nvme->dev.depth; i++) {
		struct nvme_slot *slot = &nvme->slots[i];
		if (slot->state == SLOT_OVER) {
			finish(nvme, slot, slot->err);
			done++;
		} else if (slot->state == SLOT_HELD && nvme->state == NVME_RUNNING &&
			   slot->again_ns <= now(nvme)) {
			put_out(nvme, slot);
		}
	}
	return done;
}

/* When to look next. */
static void plan(struct nvme *nvme)
{
	if (nvme->state < NVME_RUNNING) {
		nvme->look_ns = 0;
		return;
	}
	if (nvme->num_sent > 0)
		look_soon(nvme, now(nvme) + LOOK_NS);
	for (uint32_t i = 0; i < nvme->dev.depth; i++) {
		const struct nvme_slot *slot = &nvme->slots[i];
		if (slot->state == SLOT_OVER)
			nvme->look_ns = 0;
		else if (slot->state == SLOT_HELD)
			look_soon(nvme, slot->again_ns);
	}
}

static uint32_t look(struct nvme *nvme)
{
	nvme_turn(nvme);
	if (nvme->state == NVME_RUNNING)
		check_late(nvme);
	if (nvme->state == NVME_RUNNING)
		dress_bare(nvme);
	nvme->look_ns = TIMER_NEVER;
	uint32_t done = settle(nvme);
	if (nvme->state == NVME_RUNNING)
		nvme_queue_ring(nvme->bus, &nvme->io);
	plan(nvme);
	return done;
}

static uint32_t nvme_poll(struct blkdev *dev)
{
	struct nvme *nvme = nvme_of(dev);
	uint32_t done = take_completions(nvme);

	if (unlikely(nvme->look_ns <= now(nvme)))
		done += look(nvme);
	return done;
}

void nvme_requeue(struct nvme *nvme)
{
	for (uint32_t i = 0; nvme->slots && i < nvme->dev.depth; i++) {
		struct nvme_slot *slot = &nvme->slots[i];
		if (slot->state != SLOT_SENT)
			continue;
		if (slot->sent_twice)
			over(nvme, slot, -EIO);
		else
			hold(nvme, slot, 0);
		slot->sent_twice = true;
	}
	nvme->num_sent = 0;
}

void nvme_fail_all(struct nvme *nvme)
{
	for (uint32_t i = 0; nvme->slots && i < nvme->dev.depth; i++) {
		if (nvme->slots[i].state != SLOT_FREE && nvme->slots[i].state != SLOT_OVER)
			over(nvme, &nvme->slots[i], nvme->err);
	}
	nvme->num_sent = 0;
}

static void nvme_wait(struct blkdev *dev)
{
	static const struct timespec pause = {.tv_nsec = 5000};
	const struct nvme *nvme = nvme_of(dev);

	ASSERT(nvme->num_free < dev->depth);
	while (nvme_poll(dev) == 0) {
		(void)nanosleep(&pause, NULL);
		(void)sched_now(dev->sched);
	}
}

static int nvme_arm(struct blkdev *dev)
{
	(void)dev;
	return -ENOTSUP;
}

static void nvme_disarm(struct blkdev *dev)
{
	(void)dev;
}

static uint64_t nvme_next_deadline(struct blkdev *dev)
{
	return nvme_of(dev)->look_ns;
}

const struct blkdev_ops nvme_ops = {
	.name = "nvme",
	.submit = nvme_submit,
	.poll = nvme_poll,
	.wait = nvme_wait,
	.grow = blkdev_fixed,
	.arm = nvme_arm,
	.disarm = nvme_disarm,
	.next_deadline = nvme_next_deadline,
	.close = nvme_close,
};

int nvme_requests_open(struct nvme *nvme)
{
	uint32_t depth = nvme->dev.depth;
	uint64_t lists = (uint64_t)depth * NVME_PAGE;
	uint64_t address;
	void *at;

	nvme->num_buffers = nvme->bus->copies ? depth : BUFFERS_FEW;
	uint64_t bytes = lists + nvme->num_buffers * nvme->dev.request_bytes_max;
	int err = nvme->bus->ops->alloc(nvme->bus, bytes, &at, &address);
	if (err)
		return err;
	nvme->slots = calloc(depth, sizeof(*nvme->slots));
	if (!nvme->slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < depth; i++) {
		nvme->slots[i].id = (uint16_t)i;
		nvme->slots[i].list = (char *)at + (uint64_t)i * NVME_PAGE;
		nvme->slots[i].list_address = address + (uint64_t)i * NVME_PAGE;
		nvme->free[nvme->num_free++] = (uint8_t)i;
	}
	nvme->buffers = (char *)at + lists;
	nvme->buffers_address = address + lists;
	for (uint32_t i = 0; i < nvme->num_buffers && i < depth; i++)
		nvme->spare[nvme->num_spare++] = (uint8_t)i;
	return 0;
}
