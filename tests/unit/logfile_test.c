/* SPDX-License-Identifier: MIT
 * tests/unit/logfile_test.c - storage/ on a simulated drive: records of all lengths, readers,
 * seeking, truncation, a full drive, failing writes, closing and opening again.
 */
#include "support/test.h"

#include "storage/crc32c.h"
#include "support/logrig.h"
#include "support/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

static const struct blksim_options usual = {
	.capacity_bytes = 0,
	.capacity_max_bytes = 64 * MIB,
	.latency_ns = 50000,
	.volatile_cache = true,
	.seed = 1,
};

static struct blksim_disk *disk_new(const struct blksim_options *options)
{
	struct blksim_disk *disk = blksim_disk_new(options);

	assert_non_null(disk);
	return disk;
}

static int64_t append(struct logrig *rig, uint64_t i, uint32_t bytes)
{
	int err;
	uint64_t token = logrig_push(rig, i, bytes, &err);

	return token ? logrig_wait(rig, token, NULL) : err;
}

static void expect(struct logrig *rig, uint64_t i)
{
	uint64_t got = 0;

	assert_int_equal(logrig_read(rig, &got), 1);
	assert_int_equal(got, i);
}

static void expect_end(struct logrig *rig)
{
	uint64_t got;

	assert_int_equal(logrig_read(rig, &got), 0);
}

static int64_t seek(struct logrig *rig, int64_t offset, int whence)
{
	int64_t at = -1;
	int err = rig->queue->ops->log->seek(rig->queue, offset, whence, &at);

	return err ? err : at;
}

/* ---- checksums ---- */

static void test_crc(void **state)
{
	static const char text[] = "123456789";
	char zeros[32] = {0};
	unsigned char bytes[2300]; /* more than two rounds of three streams */

	(void)state;
	assert_int_equal(crc32c_add(0, text, 9), 0xe3069283); /* RFC 3720 B.4 and the usual check */
	assert_int_equal(crc32c_add(0, zeros, 32), 0x8a9136aa);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 7 + 3);
	for (size_t n = 0; n < sizeof(bytes); n += n < 300 ? 1 : 13) {
		assert_int_equal(crc32c_add(0, bytes, n), crc32c_portable(0, bytes, n));
		assert_int_equal(crc32c_add(crc32c_add(0, bytes, n / 3), bytes + n / 3, n - n / 3),
				 crc32c_add(0, bytes, n));
	}
}

/* ---- records ---- */

static void test_append_and_read(void **state)
{
	static const uint32_t sizes[] = {1, 7, 8, 9, 48, 464, 512, 4000, 4096, 5000, 30000};
	struct blksim_disk *disk = disk_new(&usual);
	struct logrig rig;
	int64_t last = 0;

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR), -ENOENT);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	expect_end(&rig);
	for (uint32_t i = 0; i < 11; i++) {
		int64_t at = append(&rig, i + 1, sizes[i]);
		assert_true(at > last);
		last = at;
		logfile_check(rig.log);
	}
	for (uint32_t i = 0; i < 11; i++)
		expect(&rig, i + 1);
	expect_end(&rig);
	assert_int_equal(append(&rig, 1, 0), -EINVAL);
	assert_int_equal(append(&rig, 1, 40000), -EMSGSIZE);
	logrig_close(&rig);

	assert_int_equal(logrig_open(&rig, disk, O_RDONLY), 0);
	for (uint32_t i = 0; i < 11; i++)
		expect(&rig, i + 1);
	expect_end(&rig);
	assert_int_equal(append(&rig, 1, 1), -EBADF);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* Buffers are used again, and are not cleared as a whole: what is behind a batch's last record is
 * zeros all the same. */
static void test_padding(void **state)
{
	static const uint32_t sizes[] = {64, 64,   5000, 64, 3000, 64,  9000, 64, 5000, 100,
					 64, 4040, 64,   1,  64,   700, 1,    1,  8000, 1};
	static const unsigned char zeros[BLKDEV_BLOCK_MAX];
	struct blksim_disk *disk = disk_new(&usual);
	struct logrig rig;
	uint64_t capacity;

	(void)state;
	logrig_init(&rig, 0, 32768);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint32_t i = 0; i < 20; i++) {
		int64_t at = append(&rig, i + 1, sizes[i]);
		assert_true(at > 0);
		uint64_t end = logfile_device_offset(rig.log, (uint64_t)at) +
			       sizeof(struct record_header) + sizes[i];
		assert_memory_equal(blksim_medium(disk, &capacity) + end, zeros,
				    round_up(end, BLKDEV_BLOCK_MAX) - end);
	}
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* Thousands of records over many segments and lives, many outstanding; every reader sees them all.
 */
static void test_many(void **state)
{
	struct blksim_disk *disk = disk_new(&usual);
	struct logrig rig;
	struct prng prng;
	uint64_t tokens[32];
	uint64_t next = 1;

	(void)state;
	prng_seed(&prng, test_seed(3));
	logrig_init(&rig, 0, 8192);
	for (uint32_t life = 0; life < 5; life++) {
		assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
		for (uint32_t round = 0; round < test_share(20); round++) {
			int err;
			for (uint32_t i = 0; i < 32; i++) {
				uint32_t bytes = 8 + (uint32_t)prng_below(&prng, 2000);
				tokens[i] = logrig_push(&rig, next++, bytes, &err);
				assert_true(tokens[i]);
			}
			int64_t last = 0;
			for (uint32_t i = 0; i < 32; i++) {
				int64_t at = logrig_wait(&rig, tokens[i], NULL);
				assert_true(at > last);
				last = at;
			}
			logfile_check(rig.log);
		}
		for (uint64_t i = 1; i < next; i++)
			expect(&rig, i);
		expect_end(&rig);
		logrig_close(&rig);
	}
	logrig_end(&rig);
	blksim_disk_free(disk);
}

static void test_longest(void **state)
{
	struct blksim_options options = usual;
	struct logrig rig;

	(void)state;
	options.capacity_max_bytes = 200 * MIB;
	options.volatile_cache = false; /* a journal of so many sectors takes its time */
	struct blksim_disk *disk = disk_new(&options);
	logrig_init(&rig, 32 * MIB + 65536, 131072);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	assert_true(append(&rig, 1, 100) > 0);
	assert_true(append(&rig, 2, RECORD_BYTES_MAX) > 0);
	assert_true(append(&rig, 3, RECORD_BYTES_MAX - 1) > 0);
	assert_int_equal(append(&rig, 4, RECORD_BYTES_MAX + 1), -EMSGSIZE);
	assert_true(append(&rig, 5, 100) > 0);
	expect(&rig, 1);
	expect(&rig, 2);
	expect(&rig, 3);
	expect(&rig, 5);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* Long records, written from where they are if they lie so that the drive can. */
static void append_aligned(uint32_t align, uint32_t block)
{
	struct blksim_options options = usual;
	struct logrig rig;
	struct prng prng;

	prng_seed(&prng, align);
	options.memory_align = align;
	options.block_bytes = block;
	struct blksim_disk *disk = disk_new(&options);
	logrig_init(&rig, 131072, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint64_t i = 1; i <= 60; i += 3) {
		uint64_t tokens[3];
		int err;
		for (uint64_t n = 0; n < 3; n++) {
			uint32_t bytes = n == 1 ? 100 : 15000 + (uint32_t)prng_below(&prng, 40000);
			tokens[n] = logrig_push(&rig, i + n, bytes, &err);
			assert_true(tokens[n]);
		}
		for (uint64_t n = 0; n < 3; n++)
			assert_true(logrig_wait(&rig, tokens[n], NULL) > 0);
		logfile_check(rig.log);
	}
	for (uint64_t i = 1; i <= 60; i++)
		expect(&rig, i);
	logrig_close(&rig);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
	for (uint64_t i = 1; i <= 60; i++)
		expect(&rig, i);
	expect_end(&rig);
	logrig_close(&rig);
	struct heap_usage usage;
	heap_usage(rig.rig.sched.heap, &usage);
	assert_int_equal(usage.live_objects, 0);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

static void test_by_reference(void **state)
{
	(void)state;
	append_aligned(1, 512);
	append_aligned(4, 4096);
	append_aligned(512, 512);
	append_aligned(512, 4096);
	append_aligned(4096, 4096);
}

/* An instance that ends is asked to look again soon while a log ends, not only when its drive has
 * something: what is left to be done may be ours. */
static void test_ends_soon(void **state)
{
	struct blksim_disk *disk = disk_new(&usual);
	struct logrig rig;

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	assert_true(append(&rig, 1, 100) > 0);
	logrig_turns(&rig, 100);
	struct poller *poller = &rig.engine->poller;
	assert_int_equal(poller->ops->next_deadline(poller), TIMER_NEVER);
	rig.queue->ops->close(rig.queue);
	rig.queue = NULL;
	assert_int_equal(log_engine_lingering(rig.engine), 1);
	assert_true(poller->ops->next_deadline(poller) <= rig.rig.sched.now_ns + 1000000);
	logrig_close(&rig);
	assert_int_equal(poller->ops->next_deadline(poller), TIMER_NEVER);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

static void test_waits_at_the_end(void **state)
{
	struct blksim_disk *disk = disk_new(&usual);
	struct logrig rig;
	struct op op;
	int64_t result;

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint64_t i = 1; i < 300; i++) {
		uint64_t pop = logrig_pop(&rig);
		logrig_turns(&rig, 3);
		assert_false(logrig_done(&rig, pop, &result, NULL));
		assert_true(append(&rig, i, 700) > 0);
		assert_int_equal(logrig_wait(&rig, pop, &op), 0);
		assert_int_equal(logrig_number(&rig, &op), i);
	}
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* ---- seeking and truncating ---- */

static void test_seek(void **state)
{
	struct blksim_disk *disk = disk_new(&usual);
	struct logrig rig;
	int64_t at[200];

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint32_t i = 0; i < 200; i++)
		at[i] = append(&rig, i + 1, 1000);
	for (uint32_t i = 0; i < 200; i += 7) {
		assert_int_equal(seek(&rig, at[199 - i], SEEK_SET), at[199 - i]);
		expect(&rig, 200 - i);
		assert_int_equal(seek(&rig, 0, SEEK_CUR) > at[199 - i], 1);
	}
	assert_int_equal(seek(&rig, 0, SEEK_SET), at[0]);
	expect(&rig, 1);
	assert_true(seek(&rig, 0, SEEK_END) > at[199]);
	expect_end(&rig);
	assert_int_equal(seek(&rig, at[5] + 8, SEEK_SET), at[5] + 8);
	uint64_t got;
	assert_int_equal(logrig_read(&rig, &got), -EBADMSG);
	assert_int_equal(seek(&rig, at[5] + 8, SEEK_DATA), at[6]);
	expect(&rig, 7);
	assert_int_equal(seek(&rig, -1, SEEK_SET), -EINVAL);
	assert_int_equal(seek(&rig, 1, SEEK_CUR), -EINVAL);
	assert_int_equal(seek(&rig, INT64_MAX, SEEK_SET), -EINVAL);
	assert_int_equal(seek(&rig, 0, 77), -EINVAL);
	assert_true(seek(&rig, 0, SEEK_END) > 0);
	uint64_t pop = logrig_pop(&rig);
	assert_int_equal(seek(&rig, 0, SEEK_SET), -EBUSY);
	rig.queue->ops->cancel(rig.queue, op_find(&rig.rig.sched.ops, pop));
	assert_int_equal(logrig_wait(&rig, pop, NULL), -ECANCELED);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* Damage in the last batch, whose records knew nothing of each other's acknowledgement. */
static void test_seek_behind_damage(void **state)
{
	struct blksim_options options = usual;
	struct logrig rig;
	uint64_t tokens[3];
	int64_t at[3];
	uint64_t capacity;
	uint64_t got;
	int err;

	(void)state;
	options.volatile_cache = false;
	struct blksim_disk *disk = disk_new(&options);
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint32_t i = 0; i < 3; i++)
		tokens[i] = logrig_push(&rig, i + 1, 100, &err);
	for (uint32_t i = 0; i < 3; i++)
		at[i] = logrig_wait(&rig, tokens[i], NULL);
	assert_true(at[2] - at[0] < 512); /* one batch */
	logrig_close(&rig);
	blksim_medium(disk, &capacity)[SEGMENTS_AT + at[1] + 60] ^= 1;
	assert_int_equal(logrig_open(&rig, disk, O_RDONLY), 0);
	assert_int_equal(rig.log->damages, 1);
	assert_int_equal(rig.log->damage_offset, at[1]);
	expect(&rig, 1);
	assert_int_equal(logrig_read(&rig, &got), -EBADMSG);
	assert_int_equal(seek(&rig, at[1], SEEK_DATA), at[2]);
	expect(&rig, 3);
	logrig_close(&rig);
	blksim_medium(disk, &capacity)[SEGMENTS_AT + at[2] + 60] ^= 1;
	assert_int_equal(logrig_open(&rig, disk, O_RDONLY), 0);
	assert_int_equal(seek(&rig, at[1], SEEK_DATA), -ENXIO);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

static int64_t truncate_to(struct logrig *rig, int64_t offset)
{
	int err;
	uint64_t token = logrig_truncate(rig, (uint64_t)offset, &err);

	return token ? logrig_wait(rig, token, NULL) : err;
}

static void test_truncate(void **state)
{
	struct blksim_disk *disk = disk_new(&usual);
	struct logrig rig;
	int64_t at[400];
	uint64_t got;

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint32_t i = 0; i < 400; i++)
		at[i] = append(&rig, i + 1, 3000);
	uint32_t segments = rig.log->num_segments;
	assert_true(segments > 15);
	assert_int_equal(truncate_to(&rig, at[100] + 8), -EINVAL);
	assert_int_equal(truncate_to(&rig, at[399] + 100000), -EINVAL);
	expect(&rig, 1);
	assert_int_equal(truncate_to(&rig, at[100]), 0);
	assert_true(rig.log->num_segments < segments - 2);
	assert_int_equal(logrig_read(&rig, &got), -ESTALE);
	assert_int_equal(seek(&rig, 0, SEEK_SET), at[100]);
	assert_int_equal(seek(&rig, at[99], SEEK_SET), -EINVAL);
	expect(&rig, 101);
	/* Behind the record that was popped last, as a consumer would have it. */
	assert_int_equal(truncate_to(&rig, seek(&rig, 0, SEEK_CUR)), 0);
	expect(&rig, 102);
	assert_int_equal(truncate_to(&rig, at[50]), 0);
	logrig_close(&rig);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
	for (uint64_t i = 102; i <= 400; i++)
		expect(&rig, i);
	assert_int_equal(truncate_to(&rig, seek(&rig, 0, SEEK_END)), 0);
	assert_int_equal(seek(&rig, 0, SEEK_SET), seek(&rig, 0, SEEK_END));
	expect_end(&rig);
	assert_true(append(&rig, 401, 3000) > at[399]);
	logrig_close(&rig);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
	expect(&rig, 401);
	expect_end(&rig);
	logrig_close(&rig);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_TRUNC), 0);
	expect_end(&rig);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* A ring: append and truncate for ever on a drive of a few segments. */
static void test_segments_are_used_again(void **state)
{
	static const struct blksim_options options = {.capacity_bytes =
							      SEGMENTS_AT + (uint64_t)5 * 65536,
						      .latency_ns = 50000,
						      .seed = 2};
	struct blksim_disk *disk = disk_new(&options);
	struct logrig rig;
	int64_t at[2000];

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint32_t i = 0; i < test_share(2000); i++) {
		at[i] = append(&rig, i + 1, 3000);
		assert_true(at[i] > 0);
		if (i >= 20)
			assert_int_equal(truncate_to(&rig, at[i - 20]), 0);
		if (i % 100 == 99) {
			logrig_close(&rig);
			assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
			for (uint64_t n = i - 20; n <= i; n++)
				expect(&rig, n + 1);
			expect_end(&rig);
		}
	}
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* A drive in zones, each to be written in order and emptied whole. */
static void test_zones(void **state)
{
	static const struct blksim_options options = {.capacity_bytes = 12 * (uint64_t)131072,
						      .zone_bytes = 131072,
						      .latency_ns = 50000,
						      .volatile_cache = true,
						      .seed = 4};
	struct blksim_disk *disk = disk_new(&options);
	struct logrig rig;
	int64_t at[1000];
	uint32_t first = 0;

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint32_t i = 0; i < test_share(1000); i++) {
		at[i] = append(&rig, i + 1, 100 + i * 37 % 8000);
		assert_true(at[i] > 0);
		if (i % 10 == 9 && i > 40) {
			first = i - 40;
			assert_int_equal(truncate_to(&rig, at[first]), 0);
		}
		if (i % 60 != 59)
			continue;
		logrig_close(&rig);
		assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
		for (uint32_t n = first; n <= i; n++)
			expect(&rig, n + 1);
		expect_end(&rig);
		assert_int_equal(rig.log->damages, 0);
	}
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* ---- what goes wrong ---- */

static void test_full(void **state)
{
	static const struct blksim_options options = {.capacity_bytes =
							      SEGMENTS_AT + (uint64_t)3 * 65536,
						      .latency_ns = 50000,
						      .seed = 2};
	struct blksim_disk *disk = disk_new(&options);
	struct logrig rig;
	int64_t at[100];
	uint32_t n = 0;

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	while ((at[n] = append(&rig, n + 1, 3000)) > 0)
		n++;
	assert_int_equal(at[n], -ENOSPC);
	assert_true(n > 40);
	assert_int_equal(append(&rig, n + 1, 3000), -ENOSPC);
	for (uint64_t i = 1; i <= n; i++)
		expect(&rig, i);
	expect_end(&rig);
	assert_int_equal(truncate_to(&rig, at[n / 2]), 0);
	assert_true(append(&rig, n + 1, 3000) > 0);
	expect(&rig, n + 1);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

/* The n-th write fails, for each n, once and for ever: those that were acknowledged are there. */
static void fail_at(uint32_t n, bool for_ever, int error)
{
	struct blksim_options options = usual;
	struct blksim_fault fault = {.offset = 0,
				     .bytes = UINT64_MAX / 2,
				     .what = BLK_WRITE,
				     .for_ever = for_ever,
				     .after = n,
				     .err = error};
	struct logrig rig;
	uint64_t acknowledged[64];
	uint32_t count = 0;

	options.seed = n + 1;
	struct blksim_disk *disk = disk_new(&options);
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	blksim_fail(disk, &fault);
	for (uint64_t i = 1; i <= 40; i += 2) {
		int err;
		uint64_t one = logrig_push(&rig, i, 2500, &err);
		uint64_t two = logrig_push(&rig, i + 1, 2500, &err);
		int64_t first = one ? logrig_wait(&rig, one, NULL) : err;
		int64_t second = two ? logrig_wait(&rig, two, NULL) : err;
		if (first > 0)
			acknowledged[count++] = i;
		if (second > 0)
			acknowledged[count++] = i + 1;
		assert_true(first > 0 || first == error);
		assert_true(second > 0 || second == error);
		logfile_check(rig.log);
	}
	assert_true(for_ever || count >= 36);
	for (uint32_t i = 0; i < count; i++)
		expect(&rig, acknowledged[i]);
	expect_end(&rig);
	blksim_fail(disk, &(struct blksim_fault){0});
	int64_t after = append(&rig, 999, 100);
	assert_true(after > 0);
	acknowledged[count++] = 999;
	logrig_close(&rig);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
	assert_int_equal(rig.log->damages, 0);
	for (uint32_t i = 0; i < count; i++)
		expect(&rig, acknowledged[i]);
	expect_end(&rig);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

static void test_writes_fail(void **state)
{
	(void)state;
	for (uint32_t n = 0; n < 30; n += test_sanitized() ? 4 : 1) {
		fail_at(n, false, -EIO);
		fail_at(n, false, -ENOSPC);
		fail_at(n, true, -EIO);
	}
}

static void test_reads_fail(void **state)
{
	struct blksim_disk *disk = disk_new(&usual);
	struct blksim_fault fault = {
		.bytes = UINT64_MAX / 2, .what = BLK_READ, .for_ever = true, .err = -EIO};
	struct logrig rig;
	uint64_t got;

	(void)state;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint64_t i = 1; i <= 10; i++)
		assert_true(append(&rig, i, 2000) > 0);
	expect(&rig, 1);
	assert_true(seek(&rig, 0, SEEK_SET) > 0);
	blksim_fail(disk, &fault);
	assert_int_equal(logrig_read(&rig, &got), -EIO);
	assert_int_equal(logrig_read(&rig, &got), -EIO);
	blksim_fail(disk, &(struct blksim_fault){0});
	expect(&rig, 1);
	logrig_close(&rig);
	/* Opening reads: whatever fails is an error, nothing is cut. */
	for (uint32_t n = 0; n < 8; n++) {
		fault.after = n;
		fault.for_ever = false;
		fault.bytes = UINT64_MAX / 2;
		blksim_fail(disk, &fault);
		int err = logrig_open(&rig, disk, O_RDWR);
		assert_true(err == 0 || err == -EIO);
		blksim_fail(disk, &(struct blksim_fault){0});
		if (!err)
			logrig_close(&rig);
		logrig_turns(&rig, 3);
		logrig_close(&rig);
	}
	assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
	for (uint64_t i = 1; i <= 10; i++)
		expect(&rig, i);
	expect_end(&rig);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(disk);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc),
		cmocka_unit_test(test_append_and_read),
		cmocka_unit_test(test_padding),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_by_reference),
		cmocka_unit_test(test_waits_at_the_end),
		cmocka_unit_test(test_ends_soon),
		cmocka_unit_test(test_seek),
		cmocka_unit_test(test_seek_behind_damage),
		cmocka_unit_test(test_truncate),
		cmocka_unit_test(test_segments_are_used_again),
		cmocka_unit_test(test_zones),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_writes_fail),
		cmocka_unit_test(test_reads_fail),
	};

	return test_run("logfile", tests);
}
