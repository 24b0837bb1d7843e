/* SPDX-License-Identifier: MIT
 * tests/fuzz/log.c - recovery of damaged logs: no crash, no hang, and no record that was never
 * pushed.
 *
 * The input is a list of changes to the medium of a log that was cut off in its third life: two
 * bytes give the block of 64 bytes, one what to do and to how many bytes, then those bytes.  What
 * to do: write them; or write them and make the checksum of the record, segment or superblock there
 * right, after which anything may be found but nothing may go wrong.
 */
#include "storage/format.h"
#include "support/logrig.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DISK_BYTES ((uint64_t)1 << 19)
#define RECORDS    40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The medium as the changes find it, made once. */
static struct {
	struct blksim_disk *disk;
	unsigned char medium[DISK_BYTES];
	uint64_t identity;
} base;

static const struct blksim_options options = {
	.capacity_bytes = DISK_BYTES, .block_bytes = 512, .latency_ns = 20000, .seed = 1};

static void live(struct logrig *rig, uint64_t first, uint64_t last)
{
	int err;
	uint64_t token = 0;

	ASSERT(logrig_open(rig, base.disk, O_RDWR | O_CREAT) == 0);
	for (uint64_t i = first; i <= last; i++) {
		token = logrig_push(rig, i, 8 + (uint32_t)(i * 577 % 6000), &err);
		if (i % 3 == 0)
			ASSERT(logrig_wait(rig, token, NULL) > 0);
	}
	ASSERT(logrig_wait(rig, token, NULL) > 0);
}

static void make_base(void)
{
	struct logrig rig;
	uint64_t capacity;
	uint64_t i;

	base.disk = blksim_disk_new(&options);
	ASSERT(base.disk);
	logrig_init(&rig, 0, 0);
	live(&rig, 1, RECORDS / 2);
	for (int n = 0; n < 5; n++)
		ASSERT(logrig_read(&rig, &i) == 1);
	int64_t at;
	int err = rig.queue->ops->log->seek(rig.queue, 0, SEEK_CUR, &at);
	uint64_t token = logrig_truncate(&rig, (uint64_t)at, &err);
	ASSERT(token && logrig_wait(&rig, token, NULL) == 0);
	logrig_close(&rig);
	live(&rig, RECORDS / 2 + 1, RECORDS);
	memcpy(base.medium, blksim_medium(base.disk, &capacity), DISK_BYTES);
	base.identity = rig.log->store->super.identity;
	logrig_close(&rig);
	logrig_end(&rig);
}

/* ---- changes ---- */

static void seal(unsigned char *medium, uint64_t at)
{
	struct record_header record;
	struct segment_header segment;

	if (at % SUPER_STRIDE == 0 && at < SEGMENTS_AT) {
		struct super super;
		memcpy(&super, medium + at, sizeof(super));
		super_seal(&super);
		memcpy(medium + at, &super, sizeof(super));
		return;
	}
	if (at < SEGMENTS_AT || at + sizeof(segment) > DISK_BYTES)
		return;
	if ((at - SEGMENTS_AT) % 65536 == 0) {
		memcpy(&segment, medium + at, sizeof(segment));
		segment_seal(&segment, base.identity, at);
		memcpy(medium + at, &segment, sizeof(segment));
		return;
	}
	const struct record_place place = {
		.identity = base.identity, .log = 1, .offset = at - SEGMENTS_AT};
	memcpy(&record, medium + at, sizeof(record));
	record_seal(&record, &place);
	memcpy(medium + at, &record, sizeof(record));
}

/* Whether nothing was sealed. */
static bool change(unsigned char *medium, const uint8_t *data, size_t size)
{
	bool honest = true;

	while (size >= 3) {
		uint64_t at = (uint64_t)(data[0] | data[1] << 8) * 64 % DISK_BYTES;
		uint64_t bytes = data[2] & 63;
		bool sealed = (data[2] & 64) != 0;
		data += 3;
		size -= 3;
		if (bytes > size)
			bytes = size;
		memcpy(medium + at, data, bytes);
		data += bytes;
		size -= bytes;
		if (sealed)
			seal(medium, at);
		honest &= !sealed;
	}
	return honest;
}

/* ---- judging ---- */

static void read_all(struct logrig *rig, bool honest)
{
	uint64_t last = 0;
	uint64_t i;
	int err;

	for (uint32_t n = 0; n < 10000 && (err = logrig_read(rig, &i)) != 0; n++) {
		int64_t at;
		if (err == 1) {
			ASSERT(!honest || (i > last && i <= RECORDS));
			last = i;
			continue;
		}
		ASSERT(err == -EBADMSG || err == -ESTALE);
		ASSERT(rig->queue->ops->log->seek(rig->queue, 0, SEEK_CUR, &at) == 0);
		if (err == -ESTALE || rig->queue->ops->log->seek(rig->queue, at, SEEK_DATA, &at))
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct blksim_disk *disk = blksim_disk_new(&options);
	struct logrig rig;
	uint64_t capacity;

	if (!base.disk)
		make_base();
	ASSERT(disk);
	unsigned char *medium = blksim_medium(disk, &capacity);
	memcpy(medium, base.medium, DISK_BYTES);
	bool honest = change(medium, data, size);
	logrig_init(&rig, 0, 0);
	if (logrig_open(&rig, disk, O_RDONLY) == 0) {
		read_all(&rig, honest);
		logrig_close(&rig);
	}
	if (logrig_open(&rig, disk, O_RDWR) == 0) {
		int err;
		read_all(&rig, honest);
		uint64_t token = logrig_push(&rig, RECORDS, 100, &err);
		if (token)
			(void)logrig_wait(&rig, token, NULL);
		logrig_close(&rig);
	}
	logrig_end(&rig);
	blksim_disk_free(disk);
	return 0;
}
