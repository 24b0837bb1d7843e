/* SPDX-License-Identifier: MIT
 * storage/super.c - the superblock: found, made, and written in turn at two places.
 *
 * A place is written only when the other holds a valid superblock: one that was torn by a power cut
 * or a failed write is written again.  What was told is in both places, against rot.  A new one is
 * all in its first sector: it is there, or is not.
 */
#include "storage/store.h"

#include "storage/logfile.h"

#include <errno.h>
#include <string.h>

/* ---- reading ---- */

static uint64_t slot_start(const struct store *store, uint32_t slot)
{
	const struct blkdev *dev = store->dev;

	return slot * (dev->zone_bytes ? dev->zone_bytes : SUPER_STRIDE);
}

/* How many superblocks there is room for at a place. */
static uint64_t slot_bytes(const struct store *store)
{
	const struct blkdev *dev = store->dev;

	return dev->zone_bytes ? dev->zone_capacity_bytes : SUPER_BYTES;
}

struct found {
	bool valid;
	bool something; /* not only zeros */
	bool ours;      /* at least one has the magic number */
	bool newer;     /* made by a later version */
};

static void look_at(struct store *store, uint32_t slot, struct found *found)
{
	const struct super *super = store->super_buffer;

	found->something |= !all_zero(super, SUPER_BYTES);
	found->ours |= super->magic == SUPER_MAGIC;
	if (!super_check(super))
		return;
	if (super->version != SUPER_VERSION) {
		found->newer = true;
		return;
	}
	if (found->valid && super->generation <= store->super.generation)
		return;
	found->valid = true;
	store->super = *super;
	store->super_slot = 1 - slot;
}

/* Reads all superblocks of a place: of a zone, up to the first that is none. */
static int read_slot(struct store *store, uint32_t slot, struct found *found)
{
	for (uint64_t at = 0; at < slot_bytes(store); at += SUPER_BYTES) {
		int err = store_transfer(store, BLK_READ, slot_start(store, slot) + at,
					 store->super_buffer, SUPER_BYTES);
		if (err)
			return err;
		look_at(store, slot, found);
		if (!super_check(store->super_buffer))
			break;
	}
	return 0;
}

static void complain(const struct store *store, const char *what)
{
	log_write(&store->sched->log, LOG_LEVEL_ERROR, "log \"%s\": %s", store->path, what);
}

/* ---- making ---- */

static uint64_t segment_bytes(const struct store *store)
{
	const struct blkdev *dev = store->dev;

	if (dev->zone_bytes)
		return dev->zone_bytes;
	return round_up((uint64_t)store->sched->config.storage_segment_bytes, BLKDEV_BLOCK_MAX);
}

static int super_make(struct store *store)
{
	struct super *super = &store->super;

	memset(super, 0, sizeof(*super));
	super->identity = prng_next(&store->sched->prng);
	super->segment_bytes = segment_bytes(store);
	super->block_bytes = store->dev->block_bytes;
	if (store->dev->growable) {
		int err = store->dev->ops->grow(store->dev, SEGMENTS_AT);
		if (err)
			return err;
	}
	return super_sync_wait(store);
}

static int check_geometry(struct store *store)
{
	const struct blkdev *dev = store->dev;
	const struct super *super = &store->super;

	if (super->block_bytes >= dev->block_bytes &&
	    super->segment_bytes >= 16 * BLKDEV_BLOCK_MAX &&
	    super->segment_bytes % BLKDEV_BLOCK_MAX == 0 &&
	    super->segment_bytes <= (uint64_t)1 << 40 &&
	    (!dev->zone_bytes || super->segment_bytes == dev->zone_bytes))
		return 0;
	complain(store, "it was made on a device with smaller blocks or other zones");
	return -EINVAL;
}

static bool check_entry(const struct super *super, const struct super_log *entry)
{
	return entry->id <= super->num_logs && entry->epoch < EPOCH_MAX &&
	       entry->head >= super->block_bytes && entry->head <= entry->stable &&
	       entry->stable <= OFFSET_MAX && entry->head_sequence > 0 &&
	       entry->head_sequence <= entry->stable_sequence &&
	       entry->stable_sequence <= SEQUENCE_MAX && entry->name[0] &&
	       memchr(entry->name, 0, sizeof(entry->name));
}

/* Two logs that share their records, or their name? */
static bool check_others(const struct super *super, uint32_t slot)
{
	const struct super_log *entry = &super->logs[slot];

	for (uint32_t i = 0; i < slot; i++) {
		const struct super_log *other = &super->logs[i];
		if (other->id && (other->id == entry->id || strcmp(other->name, entry->name) == 0))
			return false;
	}
	return true;
}

/* The checksum is right: it was written so, by something else than us. */
static int check_values(const struct store *store)
{
	const struct super *super = &store->super;
	bool good = super->num_logs < UINT32_MAX / 2 &&
		    (super->block_bytes == 512 || super->block_bytes == BLKDEV_BLOCK_MAX);

	for (uint32_t slot = 0; slot < LOGS_MAX && good; slot++) {
		const struct super_log *entry = &super->logs[slot];
		good = entry->id == 0 || (check_entry(super, entry) && check_others(super, slot));
	}
	if (good)
		return 0;
	complain(store, "its superblock says what cannot be");
	return -EUCLEAN;
}

int super_load(struct store *store, bool create)
{
	struct found found = {0};
	const struct blkdev *dev = store->dev;

	store->segments_at = dev->zone_bytes ? 2 * dev->zone_bytes : SEGMENTS_AT;
	for (uint32_t slot = 0; slot < 2 && dev->capacity_bytes >= store->segments_at; slot++) {
		int err = read_slot(store, slot, &found);
		if (err) {
			complain(store, "its superblock cannot be read");
			return err;
		}
	}
	if (found.valid) {
		int err = check_values(store);
		return err ? err : check_geometry(store);
	}
	if (found.newer) {
		complain(store, "it was made by a later version");
		return -ENOTSUP;
	}
	if (found.ours) {
		complain(store, "both superblocks are damaged");
		return -EUCLEAN;
	}
	if (found.something || (dev->growable && dev->capacity_bytes + dev->odd_bytes > 0 &&
				dev->capacity_bytes < store->segments_at)) {
		complain(store, "it holds something that is no log; to make it one, empty it");
		return -EMEDIUMTYPE;
	}
	if (!create) {
		complain(store, "there is no log");
		return -ENOENT;
	}
	return super_make(store);
}

/* ---- writing ---- */

static void super_write(struct store *store);
static void put_out(struct store *store);

static void call_all(struct list *waiters, int err)
{
	while (!list_empty(waiters)) {
		struct super_waiter *waiter =
			container_of(waiters->next, struct super_waiter, node);
		list_remove(&waiter->node);
		waiter->done(waiter, err);
	}
}

static void super_written(struct store_io *io, int err)
{
	struct store *store = io->store;
	struct list waiters;

	if (err) { /* a zone's place is in doubt */
		store->super_slot_begun[store->super_slot] = false;
	} else {
		store->super.generation = store->super_buffer->generation;
		store->super_slot = 1 - store->super_slot;
		store->super_again = !store->super_again;
		if (store->super_again) {
			put_out(store);
			return;
		}
	}
	store->super_again = false;
	list_init(&waiters);
	list_move_all(&waiters, &store->super_waiters);
	store->super_writing = false;
	if (!list_empty(&store->super_next))
		super_write(store);
	call_all(&waiters, err);
}

static void write_at(struct store *store, uint64_t at)
{
	store->super_io = (struct store_io){
		.what = BLK_WRITE,
		.durable = true,
		.num_iov = 1,
		.iov = {{.iov_base = store->super_buffer, .iov_len = SUPER_BYTES}},
		.offset = at,
		.bytes = SUPER_BYTES,
		.done = super_written,
	};
	store_submit(store, &store->super_io);
}

static void zone_emptied(struct store_io *io, int err)
{
	if (err)
		super_written(io, err);
	else
		write_at(io->store, slot_start(io->store, io->store->super_slot));
}

/* Superblocks follow one another in a zone; the first since it was opened, or when it is full, is
 * written into the empty zone. */
static void write_zoned(struct store *store)
{
	uint32_t slot = store->super_slot;
	uint64_t *at = &store->super_slot_at[slot];

	if (store->super_slot_begun[slot] && *at + SUPER_BYTES <= slot_bytes(store)) {
		write_at(store, slot_start(store, slot) + *at);
		*at += SUPER_BYTES;
		return;
	}
	store->super_slot_begun[slot] = true;
	*at = SUPER_BYTES;
	store->super_io = (struct store_io){
		.what = BLK_DISCARD,
		.offset = slot_start(store, slot),
		.bytes = store->dev->zone_bytes,
		.done = zone_emptied,
	};
	store_submit(store, &store->super_io);
}

/* Seals what is in the buffer, and writes it. */
static void put_out(struct store *store)
{
	store->super_buffer->generation = store->super.generation + 1;
	super_seal(store->super_buffer);
	if (store->dev->zone_bytes)
		write_zoned(store);
	else
		write_at(store, slot_start(store, store->super_slot));
}

static void super_write(struct store *store)
{
	store->super_writing = true;
	list_move_all(&store->super_waiters, &store->super_next);
	logfile_describe_all(store);
	*store->super_buffer = store->super;
	put_out(store);
}

void super_sync(struct store *store, struct super_waiter *waiter)
{
	list_append(&store->super_next, &waiter->node);
	if (!store->super_writing)
		super_write(store);
}

static void blocked_done(struct super_waiter *waiter, int err)
{
	struct store *store = container_of(waiter, struct store, super_blocked);

	store->super_blocked_over = true;
	store->super_blocked_err = err;
}

int super_sync_wait(struct store *store)
{
	store->super_blocked.done = blocked_done;
	store->super_blocked_over = false;
	super_sync(store, &store->super_blocked);
	while (!store->super_blocked_over)
		store_wait(store);
	return store->super_blocked_err;
}
