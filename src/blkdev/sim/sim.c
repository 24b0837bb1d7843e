/* SPDX-License-Identifier: MIT
 * blkdev/sim/sim.c - see sim.h.
 *
 * Invariant: flights are in the order of their submission; every sector of a write that is under
 * way is in the journal, and so is every one that was done and not flushed, but of a device's own
 * medium.
 */
#include "blkdev/sim/sim.h"

#include "base/assert.h"
#include "base/bits.h"
#include "base/prng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A sector that a power cut may lose. */
struct unflushed {
	uint64_t sector;
	uint64_t write; /* number of the write */
	bool done;
	unsigned char data[BLKSIM_SECTOR];
};

struct blksim_disk {
	struct blksim_options options;
	unsigned char *stable;
	uint64_t capacity_bytes;
	uint64_t *written_bytes; /* of each zone */
	struct unflushed *journal;
	uint32_t num_journal;
	uint32_t max_journal;
	uint64_t writes; /* so far */
	struct prng prng;
	struct blksim_fault fault;
	uint64_t misdirect_bytes;
	void (*event)(void *arg);
	void *event_arg;
	bool own; /* the device's, freed with it: nobody can cut its power, so it has no journal */
};

struct flight {
	struct blk_request *request;
	uint64_t due_ns;
	uint64_t write; /* its number; a flush: of the first write that it does not cover */
	int err;
};

struct blksim {
	struct blkdev dev;
	struct blksim_disk *disk;
	uint32_t num_flights;
	struct flight *flights;
};

static struct blksim *sim_of(struct blkdev *dev)
{
	return container_of(dev, struct blksim, dev);
}

/* ---- the medium ---- */

struct blksim_disk *blksim_disk_new(const struct blksim_options *options)
{
	struct blksim_disk *disk = calloc(1, sizeof(*disk));
	uint64_t most = options->capacity_max_bytes > options->capacity_bytes
				? options->capacity_max_bytes
				: options->capacity_bytes;

	if (!disk)
		return NULL;
	disk->options = *options;
	disk->capacity_bytes = options->capacity_bytes;
	prng_seed(&disk->prng, options->seed);
	disk->stable = calloc(1, most + 1);
	if (options->zone_bytes)
		disk->written_bytes = calloc(most / options->zone_bytes + 1, sizeof(uint64_t));
	if (!disk->stable || (options->zone_bytes && !disk->written_bytes)) {
		blksim_disk_free(disk);
		return NULL;
	}
	return disk;
}

void blksim_disk_free(struct blksim_disk *disk)
{
	if (!disk)
		return;
	free(disk->stable);
	free(disk->written_bytes);
	free(disk->journal);
	free(disk);
}

unsigned char *blksim_medium(struct blksim_disk *disk, uint64_t *capacity_bytes_out)
{
	*capacity_bytes_out = disk->capacity_bytes;
	return disk->stable;
}

void blksim_watch(struct blksim_disk *disk, void (*event)(void *arg), void *arg)
{
	disk->event = event;
	disk->event_arg = arg;
}

void blksim_fail(struct blksim_disk *disk, const struct blksim_fault *fault)
{
	disk->fault = *fault;
}

void blksim_misdirect(struct blksim_disk *disk, uint64_t by_bytes)
{
	disk->misdirect_bytes = by_bytes;
}

uint32_t blksim_unflushed(const struct blksim_disk *disk)
{
	return disk->num_journal;
}

struct blksim_disk *blksim_cut(const struct blksim_disk *disk, bool (*keep)(void *arg, uint32_t i),
			       void *arg)
{
	struct blksim_disk *cut = blksim_disk_new(&disk->options);

	if (!cut)
		return NULL;
	cut->capacity_bytes = disk->capacity_bytes;
	memcpy(cut->stable, disk->stable, disk->capacity_bytes);
	for (uint32_t i = 0; i < disk->num_journal; i++) {
		const struct unflushed *one = &disk->journal[i];
		if (keep(arg, i))
			memcpy(cut->stable + one->sector * BLKSIM_SECTOR, one->data, BLKSIM_SECTOR);
	}
	if (disk->written_bytes)
		memcpy(cut->written_bytes, disk->written_bytes,
		       disk->capacity_bytes / disk->options.zone_bytes * sizeof(uint64_t));
	return cut;
}

/* ---- sectors ---- */

static bool journal_room(struct blksim_disk *disk, uint32_t sectors)
{
	if (disk->num_journal + sectors <= disk->max_journal)
		return true;
	uint32_t max = 2 * disk->max_journal + sectors;
	struct unflushed *journal = reallocarray(disk->journal, max, sizeof(*journal));
	if (!journal)
		return false;
	disk->journal = journal;
	disk->max_journal = max;
	return true;
}

/* The sectors of a write enter the journal.  0 or -ENOMEM. */
static int journal_write(struct blksim_disk *disk, const struct blk_request *request)
{
	uint64_t sector = (request->offset + disk->misdirect_bytes) / BLKSIM_SECTOR;
	uint64_t filled = 0;

	if (!journal_room(disk, (uint32_t)(request->bytes / BLKSIM_SECTOR)))
		return -ENOMEM;
	disk->misdirect_bytes = 0;
	for (uint32_t i = 0; i < request->num_iov; i++) {
		const unsigned char *from = request->iov[i].iov_base;
		uint64_t left = request->iov[i].iov_len;
		while (left > 0) {
			struct unflushed *one = &disk->journal[disk->num_journal];
			uint64_t n = BLKSIM_SECTOR - filled < left ? BLKSIM_SECTOR - filled : left;
			memcpy(one->data + filled, from, n);
			from += n;
			left -= n;
			filled = (filled + n) % BLKSIM_SECTOR;
			if (filled > 0)
				continue;
			one->sector = sector++ % (disk->capacity_bytes / BLKSIM_SECTOR);
			one->write = disk->writes;
			one->done = false;
			disk->num_journal++;
		}
	}
	return 0;
}

/* What older writes left of a sector, in the first kept entries, is gone. */
static uint32_t drop_older(struct blksim_disk *disk, uint64_t sector, uint32_t kept)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < kept; i++) {
		if (disk->journal[i].sector != sector)
			disk->journal[left++] = disk->journal[i];
	}
	return left;
}

/* Those for which settled holds are stable now. */
static void settle(struct blksim_disk *disk,
		   bool (*settled)(const struct unflushed *one, uint64_t write), uint64_t write)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < disk->num_journal; i++) {
		struct unflushed *one = &disk->journal[i];
		if (!settled(one, write)) {
			disk->journal[kept++] = *one;
			continue;
		}
		memcpy(disk->stable + one->sector * BLKSIM_SECTOR, one->data, BLKSIM_SECTOR);
		kept = drop_older(disk, one->sector, kept);
	}
	disk->num_journal = kept;
}

static bool of_write(const struct unflushed *one, uint64_t write)
{
	return one->write == write;
}

static bool done_before(const struct unflushed *one, uint64_t write)
{
	return one->done && one->write < write;
}

/* A write past the journal.  By sectors: a page at once would be copied by a string instruction,
 * which takes five times as long on some processors. */
static void write_through(struct blksim_disk *disk, const struct blk_request *request)
{
	unsigned char *to = disk->stable + request->offset;

	for (uint32_t i = 0; i < request->num_iov; i++) {
		const unsigned char *from = request->iov[i].iov_base;
		uint64_t left = request->iov[i].iov_len;
		while (left > 0) {
			uint64_t n = left < BLKSIM_SECTOR ? left : BLKSIM_SECTOR;
			memcpy(to, from, n);
			to += n;
			from += n;
			left -= n;
		}
	}
}

static void write_done(struct blksim_disk *disk, const struct blk_request *request, uint64_t write)
{
	if (disk->own) {
		write_through(disk, request);
		return;
	}
	if (request->durable || !disk->options.volatile_cache) {
		settle(disk, of_write, write);
		return;
	}
	for (uint32_t i = 0; i < disk->num_journal; i++) {
		if (disk->journal[i].write == write)
			disk->journal[i].done = true;
	}
}

/* What a read of one sector sees. */
static const unsigned char *sector_at(const struct blksim_disk *disk, uint64_t sector)
{
	const unsigned char *data = disk->stable + sector * BLKSIM_SECTOR;

	for (uint32_t i = 0; i < disk->num_journal; i++) {
		if (disk->journal[i].sector == sector && disk->journal[i].done)
			data = disk->journal[i].data;
	}
	return data;
}

static void read_into(const struct blksim_disk *disk, const struct blk_request *request)
{
	uint64_t at = request->offset;

	for (uint32_t i = 0; i < request->num_iov; i++) {
		unsigned char *to = request->iov[i].iov_base;
		uint64_t left = request->iov[i].iov_len;
		while (left > 0) {
			uint64_t skip = at % BLKSIM_SECTOR;
			uint64_t n = BLKSIM_SECTOR - skip < left ? BLKSIM_SECTOR - skip : left;
			memcpy(to, sector_at(disk, at / BLKSIM_SECTOR) + skip, n);
			to += n;
			at += n;
			left -= n;
		}
	}
}

/* ---- requests ---- */

/* Does the fault that was asked for strike this request? */
static int strike(struct blksim_disk *disk, const struct blk_request *request)
{
	struct blksim_fault *fault = &disk->fault;

	if (fault->bytes == 0 || request->what != fault->what ||
	    request->offset + request->bytes <= fault->offset ||
	    request->offset >= fault->offset + fault->bytes)
		return 0;
	if (fault->after > 0) {
		fault->after--;
		return 0;
	}
	if (!fault->for_ever)
		fault->bytes = 0;
	return fault->err;
}

/* A zone is written from its start on. */
static int zone_write(struct blksim_disk *disk, const struct blk_request *request)
{
	if (!disk->written_bytes)
		return 0;
	uint64_t zone = request->offset / disk->options.zone_bytes;
	uint64_t at = request->offset % disk->options.zone_bytes;
	if (at != disk->written_bytes[zone] || at + request->bytes > disk->options.zone_bytes)
		return -EIO;
	disk->written_bytes[zone] += request->bytes;
	return 0;
}

static void discard(struct blksim_disk *disk, const struct blk_request *request)
{
	uint64_t zone_bytes = disk->options.zone_bytes;

	memset(disk->stable + request->offset, zone_bytes ? 0 : 0xdd, request->bytes);
	if (zone_bytes)
		disk->written_bytes[request->offset / zone_bytes] = 0;
}

static int begin(struct blksim_disk *disk, const struct blk_request *request)
{
	int err = strike(disk, request);

	if (request->bytes > disk->capacity_bytes ||
	    request->offset > disk->capacity_bytes - request->bytes)
		return -EIO;
	if (request->what != BLK_WRITE)
		return err;
	disk->writes++;
	if (!err)
		err = zone_write(disk, request);
	int memory = disk->own ? 0 : journal_write(disk, request);
	return err ? err : memory;
}

static uint32_t blksim_submit(struct blkdev *dev, struct blk_request *const *requests,
			      uint32_t count)
{
	struct blksim *sim = sim_of(dev);
	struct blksim_disk *disk = sim->disk;
	uint32_t taken = 0;

	while (taken < count && sim->num_flights < dev->depth) {
		struct blk_request *request = requests[taken++];
		uint64_t latency = disk->options.latency_ns;
		if (request->what == BLK_FLUSH)
			latency *= 4;
		if (latency > 0)
			latency = latency / 2 + prng_next(&disk->prng) % latency;
		struct flight *flight = &sim->flights[sim->num_flights++];
		*flight = (struct flight){.request = request,
					  .due_ns = dev->sched->now_ns + latency,
					  .err = begin(disk, request)};
		flight->write = request->what == BLK_FLUSH ? disk->writes + 1 : disk->writes;
		if (disk->event)
			disk->event(disk->event_arg);
	}
	return taken;
}

static void finish(struct blksim *sim, uint32_t i)
{
	struct blksim_disk *disk = sim->disk;
	struct flight flight = sim->flights[i];
	struct blk_request *request = flight.request;

	memmove(&sim->flights[i], &sim->flights[i + 1],
		(--sim->num_flights - i) * sizeof(*sim->flights));
	if (flight.err == 0) {
		if (request->what == BLK_READ)
			read_into(disk, request);
		else if (request->what == BLK_WRITE)
			write_done(disk, request, flight.write);
		else if (request->what == BLK_FLUSH)
			settle(disk, done_before, flight.write);
		else
			discard(disk, request);
	}
	if (disk->event)
		disk->event(disk->event_arg);
	request->err = flight.err;
	request->done(request);
}

static uint32_t blksim_poll(struct blkdev *dev)
{
	struct blksim *sim = sim_of(dev);
	uint32_t done = 0;

	for (uint32_t i = 0; i < sim->num_flights;) {
		if (sim->flights[i].due_ns > dev->sched->now_ns) {
			i++;
			continue;
		}
		finish(sim, i);
		done++;
		if (done >= 2 * dev->depth) /* done submits what is due at once */
			break;
	}
	return done;
}

static uint32_t earliest(const struct blksim *sim)
{
	uint32_t first = 0;

	for (uint32_t i = 1; i < sim->num_flights; i++) {
		if (sim->flights[i].due_ns < sim->flights[first].due_ns)
			first = i;
	}
	return first;
}

static void blksim_wait(struct blkdev *dev)
{
	struct blksim *sim = sim_of(dev);

	ASSERT(sim->num_flights > 0);
	finish(sim, earliest(sim));
}

static int blksim_grow(struct blkdev *dev, uint64_t capacity_bytes)
{
	struct blksim_disk *disk = sim_of(dev)->disk;

	if (capacity_bytes <= disk->capacity_bytes)
		return 0;
	if (capacity_bytes > disk->options.capacity_max_bytes)
		return -ENOSPC;
	disk->capacity_bytes = capacity_bytes;
	dev->capacity_bytes = capacity_bytes;
	return 0;
}

static int blksim_arm(struct blkdev *dev)
{
	const struct blksim *sim = sim_of(dev);

	return sim->num_flights > 0 && sim->flights[earliest(sim)].due_ns <= dev->sched->now_ns
		       ? -EAGAIN
		       : 0;
}

static void blksim_disarm(struct blkdev *dev)
{
	(void)dev;
}

static uint64_t blksim_next_deadline(struct blkdev *dev)
{
	const struct blksim *sim = sim_of(dev);

	return sim->num_flights > 0 ? sim->flights[earliest(sim)].due_ns : TIMER_NEVER;
}

static void blksim_close(struct blkdev *dev)
{
	struct blksim *sim = sim_of(dev);

	if (sim->disk->own)
		blksim_disk_free(sim->disk);
	free(sim->flights);
	free(sim);
}

static const struct blkdev_ops blksim_ops = {
	.name = "sim",
	.submit = blksim_submit,
	.poll = blksim_poll,
	.wait = blksim_wait,
	.grow = blksim_grow,
	.arm = blksim_arm,
	.disarm = blksim_disarm,
	.next_deadline = blksim_next_deadline,
	.close = blksim_close,
};

/* ---- life ---- */

static uint32_t or_else(uint32_t value, uint32_t instead)
{
	return value ? value : instead;
}

int blksim_attach(struct blksim_disk *disk, struct sched *sched, struct blkdev **dev_out)
{
	const struct blksim_options *options = &disk->options;
	struct blksim *sim = calloc(1, sizeof(*sim));

	if (!sim)
		return -ENOMEM;
	uint32_t depth = or_else(options->depth, 64);
	sim->flights = calloc(depth, sizeof(*sim->flights));
	if (!sim->flights) {
		free(sim);
		return -ENOMEM;
	}
	uint32_t block = or_else(options->block_bytes, BLKDEV_BLOCK_MAX);
	sim->disk = disk;
	sim->dev = (struct blkdev){
		.ops = &blksim_ops,
		.sched = sched,
		.capacity_bytes = disk->capacity_bytes,
		.request_bytes_max = 1 << 20,
		.zone_bytes = options->zone_bytes,
		.zone_capacity_bytes = options->zone_bytes,
		.block_bytes = block,
		.memory_align = or_else(options->memory_align, block),
		.iov_max = 64,
		.depth = depth,
		.growable = options->capacity_max_bytes > 0,
		.discards = true,
		.volatile_cache = options->volatile_cache,
	};
	*dev_out = &sim->dev;
	return 0;
}

/* Bytes of a size with K, M or G; 0: it is none. */
static uint64_t size_of(const char *text)
{
	static const char units[] = "KMG";
	char *end;

	errno = 0;
	uint64_t size = strtoull(text, &end, 10);
	const char *unit = *end ? strchr(units, *end) : NULL;
	if (errno || end == text || (*end && (!unit || end[1])))
		return 0;
	uint32_t shift = unit ? 10 * (uint32_t)(unit - units + 1) : 0;
	return size <= UINT64_MAX >> 20 >> shift ? size << shift : 0;
}

int blksim_open_configured(struct sched *sched, const struct blkdev_place *place,
			   struct blkdev **dev_out)
{
	struct blksim_options options = {.capacity_bytes = size_of(place->path)};

	options.capacity_bytes &= ~(uint64_t)(BLKDEV_BLOCK_MAX - 1);
	if (options.capacity_bytes == 0) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "demitasse.storage.device: \"%s\" is no size, as 256M", place->path);
		return -EINVAL;
	}
	struct blksim_disk *disk = blksim_disk_new(&options);
	if (!disk)
		return -ENOMEM;
	disk->own = true;
	int err = blksim_attach(disk, sched, dev_out);
	if (err)
		blksim_disk_free(disk);
	return err;
}
