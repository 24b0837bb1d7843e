/* SPDX-License-Identifier: MIT
 * tests/unit/log_stat_test.c - what `demi stat` is told of a log and its drive, on a simulated
 * drive: what was appended, popped, refused and lost, requests, segments, what is under way.
 */
#include "support/test.h"

#include "support/logrig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MIB     ((uint64_t)1 << 20)
#define SEGMENT 65536 /* logrig's */

static const struct blksim_options usual = {
	.capacity_max_bytes = 64 * MIB,
	.latency_ns = 50000,
	.seed = 1,
};

static const struct blksim_options small = {
	.capacity_bytes = SEGMENTS_AT + (uint64_t)3 * SEGMENT, .latency_ns = 50000, .seed = 2};

struct bench {
	struct logrig rig;
	struct blksim_disk *disk;
};

static void begin(struct bench *bench, const struct blksim_options *options)
{
	bench->disk = blksim_disk_new(options);
	assert_non_null(bench->disk);
	logrig_init(&bench->rig, SEGMENT, 0);
	assert_int_equal(logrig_open(&bench->rig, bench->disk, O_RDWR | O_CREAT), 0);
}

static void end(struct bench *bench)
{
	logrig_close(&bench->rig);
	logrig_end(&bench->rig);
	blksim_disk_free(bench->disk);
}

static void take_log(void *arg, const struct log_info *info)
{
	struct log_info *out = arg;

	assert_null(out->name); /* the only one */
	*out = *info;
}

static struct log_info log_of(const struct bench *bench)
{
	struct log_info info = {0};

	log_engine_each_log(bench->rig.engine, take_log, &info);
	assert_non_null(info.name);
	return info;
}

static void take_drive(void *arg, const struct drive_info *info)
{
	struct drive_info *out = arg;

	assert_null(out->path);
	*out = *info;
}

static struct drive_info drive_of(const struct bench *bench)
{
	struct drive_info info = {0};

	log_engine_each_drive(bench->rig.engine, take_drive, &info);
	assert_non_null(info.path);
	return info;
}

static int64_t append(struct bench *bench, uint64_t i, uint32_t bytes)
{
	int err;
	uint64_t token = logrig_push(&bench->rig, i, bytes, &err);

	return token ? logrig_wait(&bench->rig, token, NULL) : err;
}

static void expect(struct bench *bench, uint64_t i)
{
	uint64_t got = 0;

	assert_int_equal(logrig_read(&bench->rig, &got), 1);
	assert_int_equal(got, i);
}

static int64_t seek(struct bench *bench, int64_t offset, int whence)
{
	struct queue *queue = bench->rig.queue;
	int64_t at = -1;
	int err = queue->ops->log->seek(queue, offset, whence, &at);

	return err ? err : at;
}

static struct queue_info queue_of(const struct bench *bench)
{
	struct queue_info info;

	bench->rig.queue->ops->describe(bench->rig.queue, &info);
	return info;
}

static void reopen(struct bench *bench)
{
	logrig_close(&bench->rig);
	assert_int_equal(logrig_open(&bench->rig, bench->disk, O_RDWR), 0);
}

/* ---- the tests ---- */

static void test_appended_and_popped(void **state)
{
	struct bench bench;
	int err;

	(void)state;
	begin(&bench, &usual);
	struct log_info log = log_of(&bench);
	assert_string_equal(log.drive, "log under test");
	assert_string_equal(log.state, "open");
	assert_int_equal(log.queues, 1);
	assert_int_equal(log.appended + log.batches + log.popped + log.failed + log.records, 0);
	uint64_t tokens[5];
	for (uint32_t i = 0; i < 5; i++) /* one batch */
		tokens[i] = logrig_push(&bench.rig, i + 1, 100 + i, &err);
	for (uint32_t i = 0; i < 5; i++)
		assert_true(logrig_wait(&bench.rig, tokens[i], NULL) > 0);
	assert_true(append(&bench, 6, 3000) > 0);
	log = log_of(&bench);
	assert_int_equal(log.appended, 6);
	assert_int_equal(log.appended_bytes, 100 + 101 + 102 + 103 + 104 + 3000);
	assert_int_equal(log.batches, 2);
	assert_int_equal(log.records, 6);
	assert_int_equal(log.end, bench.rig.log->durable.offset);
	assert_int_equal(queue_of(&bench).elements, 6);
	for (uint32_t i = 0; i < 4; i++)
		expect(&bench, i + 1);
	log = log_of(&bench);
	assert_int_equal(log.popped, 4);
	assert_int_equal(log.popped_bytes, 100 + 101 + 102 + 103);
	assert_int_equal(queue_of(&bench).elements, 2);
	assert_string_equal(queue_of(&bench).name, log.name);
	/* Those that are there already were not appended since. */
	reopen(&bench);
	log = log_of(&bench);
	assert_int_equal(log.appended + log.batches + log.popped, 0);
	assert_int_equal(log.records, 6);
	assert_true(append(&bench, 7, 10) > 0);
	assert_int_equal(log_of(&bench).appended, 1);
	assert_int_equal(log_of(&bench).records, 7);
	end(&bench);
}

/* Records longer than a batch's usual buffer, and those written from where they are, count alike.
 */
static void test_long_records(void **state)
{
	struct bench bench;
	uint64_t bytes = 0;

	(void)state;
	begin(&bench, &usual);
	for (uint32_t i = 1; i <= 10; i++) {
		assert_true(append(&bench, i, 2900 * i) > 0);
		bytes += (uint64_t)2900 * i;
	}
	for (uint32_t i = 1; i <= 10; i++)
		expect(&bench, i);
	struct log_info log = log_of(&bench);
	assert_int_equal(log.appended, 10);
	assert_int_equal(log.appended_bytes, bytes);
	assert_int_equal(log.popped, 10);
	assert_int_equal(log.popped_bytes, bytes);
	end(&bench);
}

static void test_under_way(void **state)
{
	struct bench bench;
	int err;

	(void)state;
	begin(&bench, &small);
	assert_int_equal(drive_of(&bench).in_flight, 0);
	uint64_t token = logrig_push(&bench.rig, 1, 100, &err);
	logrig_turns(&bench.rig, 1);
	assert_int_equal(log_of(&bench).in_flight, 1);
	assert_int_equal(drive_of(&bench).in_flight, 1);
	assert_int_equal(log_of(&bench).appended, 0); /* not before it is durable */
	assert_true(logrig_wait(&bench.rig, token, NULL) > 0);
	assert_int_equal(log_of(&bench).in_flight, 0);
	assert_int_equal(drive_of(&bench).in_flight, 0);
	/* More than all batches take. */
	uint64_t tokens[40];
	for (uint32_t i = 0; i < 40; i++)
		tokens[i] = logrig_push(&bench.rig, i + 2, 3000, &err);
	assert_true(log_of(&bench).waiting > 0);
	for (uint32_t i = 0; i < 40; i++)
		(void)logrig_wait(&bench.rig, tokens[i], NULL);
	assert_int_equal(log_of(&bench).waiting, 0);
	end(&bench);
}

/* What a device has no room for waits, and is not under way. */
static void test_device_without_room(void **state)
{
	struct blksim_options options = small;
	struct bench bench;
	uint64_t tokens[8];
	int err;

	(void)state;
	options.depth = 1;
	begin(&bench, &options);
	for (uint32_t i = 0; i < 8; i++)
		tokens[i] = logrig_push(&bench.rig, i + 1, 3000, &err);
	assert_int_equal(drive_of(&bench).in_flight, 1);
	assert_true(drive_of(&bench).waiting > 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_true(logrig_wait(&bench.rig, tokens[i], NULL) > 0);
	assert_int_equal(drive_of(&bench).in_flight + drive_of(&bench).waiting, 0);
	end(&bench);
}

static void test_drive(void **state)
{
	struct bench bench;

	(void)state;
	begin(&bench, &small);
	struct drive_info first = drive_of(&bench);
	assert_string_equal(first.driver, "sim");
	assert_int_equal(first.capacity_bytes, small.capacity_bytes);
	assert_int_equal(first.block_bytes, 4096);
	assert_int_equal(first.used_bytes, 0);
	assert_int_equal(first.free_bytes, 3 * SEGMENT);
	assert_false(first.grows);
	assert_true(first.reads > 0 && first.read_bytes >= first.reads * 4096); /* superblocks */
	assert_int_equal(first.flushes, 1); /* before its epoch begins */
	assert_true(append(&bench, 1, 100) > 0);
	struct drive_info drive = drive_of(&bench);
	assert_int_equal(drive.writes, first.writes + 1);
	assert_int_equal(drive.durable_writes, first.durable_writes + 1);
	assert_int_equal(drive.written_bytes, first.written_bytes + 8192); /* header, record */
	assert_int_equal(drive.used_bytes, SEGMENT);
	assert_int_equal(drive.free_bytes, 2 * SEGMENT);
	expect(&bench, 1);
	assert_true(drive_of(&bench).reads > drive.reads);
	assert_int_equal(drive.errors, 0);
	end(&bench);
}

/* A file grows, and zeros go ahead of the records: writes that need not be durable. */
static void test_file(void **state)
{
	struct bench bench;

	(void)state;
	begin(&bench, &usual);
	assert_true(append(&bench, 1, 100) > 0);
	logrig_turns(&bench.rig, 100);
	struct drive_info drive = drive_of(&bench);
	assert_true(drive.grows);
	assert_int_equal(drive.used_bytes, SEGMENT);
	assert_int_equal(drive.free_bytes, 0);
	assert_true(drive.writes > drive.durable_writes);
	end(&bench);
}

/* Segments of truncated records are free again. */
static void test_segments(void **state)
{
	struct bench bench;
	uint32_t n = 1;
	int err;

	(void)state;
	begin(&bench, &small);
	while (append(&bench, n, 3000) > 0)
		n++;
	assert_int_equal(drive_of(&bench).used_bytes, 3 * SEGMENT);
	assert_int_equal(drive_of(&bench).free_bytes, 0);
	assert_int_equal(log_of(&bench).failed, 1);
	assert_int_equal(append(&bench, n, 3000), -ENOSPC);
	assert_int_equal(log_of(&bench).failed, 2);
	int64_t all = seek(&bench, 0, SEEK_END);
	uint64_t token = logrig_truncate(&bench.rig, (uint64_t)all, &err);
	assert_int_equal(logrig_wait(&bench.rig, token, NULL), 0);
	logrig_turns(&bench.rig, 100); /* discards */
	logfile_check(bench.rig.log);
	assert_true(drive_of(&bench).free_bytes >= 2 * SEGMENT);
	assert_true(drive_of(&bench).discards >= 2);
	assert_int_equal(log_of(&bench).records, 0);
	assert_int_equal(log_of(&bench).head, all);
	uint64_t free_bytes = drive_of(&bench).free_bytes;
	reopen(&bench);
	assert_true(drive_of(&bench).free_bytes >= free_bytes);
	logfile_check(bench.rig.log);
	end(&bench);
}

static void test_writes_fail(void **state)
{
	static const struct blksim_fault fault = {
		.bytes = UINT64_MAX / 2, .what = BLK_WRITE, .err = -EIO};
	struct bench bench;
	int err;

	(void)state;
	begin(&bench, &small);
	assert_true(append(&bench, 1, 100) > 0);
	blksim_fail(bench.disk, &fault);
	uint64_t one = logrig_push(&bench.rig, 2, 100, &err);
	uint64_t two = logrig_push(&bench.rig, 3, 100, &err);
	assert_int_equal(logrig_wait(&bench.rig, one, NULL), -EIO);
	assert_int_equal(logrig_wait(&bench.rig, two, NULL), -EIO);
	assert_int_equal(log_of(&bench).failed, 2);
	assert_int_equal(drive_of(&bench).errors, 1);
	assert_true(append(&bench, 4, 100) > 0);
	struct log_info log = log_of(&bench);
	assert_int_equal(log.appended, 2);
	assert_int_equal(log.appended_bytes, 200);
	assert_int_equal(log.batches, 2);
	assert_int_equal(log.records, 2);
	end(&bench);
}

/* Of three records in one batch the second rots: opening tells of it, and so does the pop. */
static void test_damage(void **state)
{
	struct bench bench;
	uint64_t tokens[3];
	int64_t at[3];
	uint64_t capacity;
	uint64_t got;
	int err;

	(void)state;
	begin(&bench, &usual);
	for (uint32_t i = 0; i < 3; i++)
		tokens[i] = logrig_push(&bench.rig, i + 1, 100, &err);
	for (uint32_t i = 0; i < 3; i++)
		at[i] = logrig_wait(&bench.rig, tokens[i], NULL);
	assert_string_equal(log_of(&bench).state, "open");
	logrig_close(&bench.rig);
	blksim_medium(bench.disk, &capacity)[SEGMENTS_AT + at[1] + 60] ^= 1;
	assert_int_equal(logrig_open(&bench.rig, bench.disk, O_RDWR), 0);
	assert_int_equal(log_of(&bench).lost, 1);
	assert_string_equal(log_of(&bench).state, "damaged");
	expect(&bench, 1);
	for (uint32_t i = 0; i < 3; i++) /* the place is one */
		assert_int_equal(logrig_read(&bench.rig, &got), -EBADMSG);
	assert_int_equal(log_of(&bench).met, 1);
	assert_int_equal(log_of(&bench).passed, 0);
	assert_int_equal(seek(&bench, at[1], SEEK_DATA), at[2]);
	expect(&bench, 3);
	struct log_info log = log_of(&bench);
	assert_int_equal(log.met, 1);
	assert_int_equal(log.passed, 1);
	assert_int_equal(log.popped, 2);
	end(&bench);
}

/* It rots while the log is open: only a pop tells.  Where no record begins there is no damage. */
static void test_damage_that_is_popped(void **state)
{
	struct bench bench;
	int64_t at[4];
	uint64_t capacity;
	uint64_t got;

	(void)state;
	begin(&bench, &usual);
	for (uint32_t i = 0; i < 4; i++)
		at[i] = append(&bench, i + 1, 100);
	assert_int_equal(seek(&bench, at[1] + 8, SEEK_SET), at[1] + 8);
	assert_int_equal(logrig_read(&bench.rig, &got), -EBADMSG);
	assert_int_equal(log_of(&bench).met, 0);
	assert_string_equal(log_of(&bench).state, "open");
	assert_int_equal(seek(&bench, 0, SEEK_SET), at[0]);
	blksim_medium(bench.disk, &capacity)[SEGMENTS_AT + at[1] + 60] ^= 1;
	expect(&bench, 1);
	assert_int_equal(logrig_read(&bench.rig, &got), -EBADMSG);
	assert_int_equal(log_of(&bench).met, 1);
	assert_int_equal(log_of(&bench).lost, 0);
	assert_string_equal(log_of(&bench).state, "damaged");
	assert_int_equal(seek(&bench, at[1], SEEK_DATA), at[2]);
	assert_int_equal(log_of(&bench).passed, 1);
	assert_int_equal(seek(&bench, 0, SEEK_SET), at[0]);
	assert_int_equal(seek(&bench, at[2], SEEK_DATA), at[2]); /* not from damage */
	assert_int_equal(log_of(&bench).passed, 1);
	end(&bench);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_appended_and_popped),
		cmocka_unit_test(test_long_records),
		cmocka_unit_test(test_under_way),
		cmocka_unit_test(test_device_without_room),
		cmocka_unit_test(test_drive),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_writes_fail),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_damage_that_is_popped),
	};

	return test_run("log_stat", tests);
}
