/* SPDX-License-Identifier: MIT
 * tests/fuzz/log.c - recovery of damaged logs: no crash, no hang, and no record that was never
 * pushed.
 *
 * The input is a list of changes to the medium of a log that was cut off in its third life: two
 * bytes give the block of 64 bytes, one what to do and to how many bytes, then those bytes.  What
 * to do: write them; or write them and make the checksum of the record, segment or superblock there
 * right, after which anything may be found but nothing may go wrong.  A block that is nowhere, with
 * no bytes and the top bit of what to do: a value for one field of a superblock, of a log in it, of
 * a segment or a record, and the checksum made right.
 */
#include "storage/crc32c.h"
#include "storage/format.h"
#include "support/logrig.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define DISK_BYTES ((uint64_t)1 << 19)
#define SEGMENT    65536
#define SEGMENTS   6
#define RECORDS    40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The medium as the changes find it, made once. */
static struct {
	struct blksim_disk *disk;
	unsigned char medium[DISK_BYTES];
	uint64_t identity;
	uint64_t records[RECORDS + 1]; /* their offsets */
} base;

static const struct blksim_options options = {
	.capacity_bytes = DISK_BYTES, .block_bytes = 512, .latency_ns = 20000, .seed = 1};

static void live(struct logrig *rig, uint64_t first, uint64_t last)
{
	int err;
	uint64_t tokens[RECORDS + 1];
	uint64_t waited = first;

	ASSERT(logrig_open(rig, base.disk, O_RDWR | O_CREAT) == 0);
	for (uint64_t i = first; i <= last; i++) {
		tokens[i] = logrig_push(rig, i, 8 + (uint32_t)(i * 577 % 6000), &err);
		for (; (i % 3 == 0 || i == last) && waited <= i; waited++) {
			int64_t at = logrig_wait(rig, tokens[waited], NULL);
			ASSERT(at > 0);
			base.records[waited] = (uint64_t)at;
		}
	}
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
	if ((at - SEGMENTS_AT) % SEGMENT == 0) {
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

/* ---- one field ---- */

struct field {
	uint16_t at;
	uint16_t bytes;
};

#define FIELD(type, member)                                               \
	{                                                                 \
		offsetof(type, member), sizeof(((const type *)0)->member) \
	}

static const struct field super_fields[] = {
	FIELD(struct super, segment_bytes), FIELD(struct super, block_bytes),
	FIELD(struct super, num_logs),      FIELD(struct super, generation),
	FIELD(struct super, version),       FIELD(struct super, identity),
};

static const struct field entry_fields[] = {
	FIELD(struct super_log, id),
	FIELD(struct super_log, epoch),
	FIELD(struct super_log, head),
	FIELD(struct super_log, head_sequence),
	FIELD(struct super_log, stable),
	FIELD(struct super_log, stable_sequence),
	FIELD(struct super_log, stable_crc),
	{offsetof(struct super_log, name), 8},
	{offsetof(struct super_log, name) + LOG_NAME_MAX - 7, 8},
};

static const struct field segment_fields[] = {
	FIELD(struct segment_header, log),          FIELD(struct segment_header, epoch),
	FIELD(struct segment_header, serial),       FIELD(struct segment_header, first_sequence),
	FIELD(struct segment_header, previous_end), FIELD(struct segment_header, acknowledged),
	FIELD(struct segment_header, previous_crc),
};

static const struct field record_fields[] = {
	FIELD(struct record_header, sequence), FIELD(struct record_header, acknowledged),
	FIELD(struct record_header, epoch),    FIELD(struct record_header, data_bytes),
	FIELD(struct record_header, data_crc), FIELD(struct record_header, previous_crc),
	FIELD(struct record_header, data_at),
};

#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

/* How the value comes about. */
enum { LITERAL, ADD, POWER, BELOW_POWER, FROM_TOP, SEGMENT_TIMES, FLIP, COPY };

static uint64_t value_of(uint8_t how, uint64_t old, const uint8_t *data)
{
	uint64_t literal;

	memcpy(&literal, data, sizeof(literal));
	switch (how & 7) {
	case ADD:
		return old + (uint64_t)(int64_t)(int8_t)data[0];
	case POWER:
		return (uint64_t)1 << (data[0] & 63);
	case BELOW_POWER:
		return ((uint64_t)1 << (data[0] & 63)) - 1;
	case FROM_TOP:
		return ~(uint64_t)data[0];
	case SEGMENT_TIMES:
		return literal * SEGMENT;
	case FLIP:
		return old ^ literal;
	default:
		return literal;
	}
}

static void set_field(unsigned char *structure, const struct field *field, uint8_t how,
		      const uint8_t *data)
{
	uint64_t value = 0;

	memcpy(&value, structure + field->at, field->bytes);
	value = value_of(how, value, data);
	memcpy(structure + field->at, &value, field->bytes);
}

/* In one of the two places, or in both.  COPY: a log becomes one like the first. */
static void change_super(unsigned char *medium, uint8_t what, uint8_t which, const uint8_t *data)
{
	uint8_t how = data[0];

	for (uint32_t slot = 0; slot < 2; slot++) {
		uint64_t at = slot * SUPER_STRIDE;
		unsigned char *logs = medium + at + offsetof(struct super, logs);
		unsigned char *entry = logs + (what % 32 - 1U) * sizeof(struct super_log);
		if (!(how & 8) && slot != (how >> 4 & 1))
			continue;
		if (what % 32 == 0)
			set_field(medium + at, &super_fields[which % COUNT(super_fields)], how,
				  data + 1);
		else if ((how & 7) == COPY)
			memmove(entry, logs, sizeof(struct super_log));
		else
			set_field(entry, &entry_fields[which % COUNT(entry_fields)], how, data + 1);
		seal(medium, at);
	}
}

/* Its data is summed up anew, as far as it is on the medium. */
static void change_record(unsigned char *medium, uint64_t at, const struct field *field,
			  const uint8_t *data)
{
	struct record_header header;

	set_field(medium + at, field, data[0], data + 1);
	memcpy(&header, medium + at, sizeof(header));
	if ((data[0] & 8) && at + header.data_at + header.data_bytes <= DISK_BYTES) {
		header.data_crc = crc32c_add(0, medium + at + header.data_at, header.data_bytes);
		memcpy(medium + at, &header, sizeof(header));
	}
	seal(medium, at);
}

/* what: 0 a superblock, to 31 a log, to 39 a segment, else a record. */
static void change_field(unsigned char *medium, uint8_t what, uint8_t which, const uint8_t *data)
{
	if (what < 32) {
		change_super(medium, what, which, data);
		return;
	}
	if (what < 40) {
		uint64_t at = SEGMENTS_AT + (uint64_t)(what % SEGMENTS) * SEGMENT;
		set_field(medium + at, &segment_fields[which % COUNT(segment_fields)], data[0],
			  data + 1);
		seal(medium, at);
		return;
	}
	change_record(medium, SEGMENTS_AT + base.records[1 + what % RECORDS],
		      &record_fields[which % COUNT(record_fields)], data);
}

#define FIELD_BYTES 9 /* how, and a value */

/* Whether nothing was sealed. */
static bool change(unsigned char *medium, const uint8_t *data, size_t size)
{
	bool honest = true;

	while (size >= 3) {
		if (data[2] == 128 && data[1] >= 128 && size >= 3 + FIELD_BYTES) {
			change_field(medium, data[0], data[1] & 127, data + 3);
			data += 3 + FIELD_BYTES;
			size -= 3 + FIELD_BYTES;
			honest = false;
			continue;
		}
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

/* What is appended now is there in the next life; what was written under checksums that are right
 * may deny it.  Truncation does what it can. */
static void append(struct logrig *rig, struct blksim_disk *disk, bool honest)
{
	int err;
	uint64_t i;
	int64_t at = 0;
	uint64_t token = logrig_push(rig, RECORDS, 100, &err);

	if (token)
		at = logrig_wait(rig, token, NULL);
	logfile_check(rig->log);
	logrig_close(rig);
	err = logrig_open(rig, disk, O_RDWR);
	ASSERT(err == 0 || !honest);
	if (err)
		return;
	logfile_check(rig->log);
	if (honest && at > 0) {
		ASSERT(rig->queue->ops->log->seek(rig->queue, at, SEEK_SET, &at) == 0);
		ASSERT(logrig_read(rig, &i) == 1 && i == RECORDS);
	}
	token = logrig_truncate(rig, base.records[RECORDS * 3 / 4], &err);
	if (token)
		(void)logrig_wait(rig, token, NULL);
	logfile_check(rig->log);
	logrig_close(rig);
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
		logfile_check(rig.log);
		read_all(&rig, honest);
		append(&rig, disk, honest);
	}
	logrig_end(&rig);
	blksim_disk_free(disk);
	return 0;
}
