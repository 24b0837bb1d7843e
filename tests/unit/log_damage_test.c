/* SPDX-License-Identifier: MIT
 * tests/unit/log_damage_test.c - storage/ on damaged media: records that rot behind torn ones, and
 * values that cannot be under checksums that are right; and what is on the medium between two
 * truncations.
 */
#include "support/test.h"

#include "support/logrig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DISK_BYTES ((uint64_t)1 << 19)
#define SEGMENT    65536
#define BLOCK      512
#define RECORDS    40

static const struct blksim_options options = {
	.capacity_bytes = DISK_BYTES, .block_bytes = BLOCK, .latency_ns = 20000, .seed = 1};

static struct blksim_disk *disk;
static unsigned char pristine[DISK_BYTES];
static int64_t last_at; /* the last record of it */

static int64_t append(struct logrig *rig, uint64_t i, uint32_t bytes)
{
	int err;
	uint64_t token = logrig_push(rig, i, bytes, &err);

	return token ? logrig_wait(rig, token, NULL) : err;
}

static unsigned char *medium(void)
{
	uint64_t capacity;

	return blksim_medium(disk, &capacity);
}

/* A log of three segments, whose first records are collected. */
static int make_medium(void **state)
{
	struct logrig rig;
	int64_t middle = 0;
	int err;

	(void)state;
	disk = blksim_disk_new(&options);
	if (!disk)
		return -1;
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint64_t i = 1; i <= RECORDS; i++) {
		int64_t at = append(&rig, i, 4000);
		assert_true(at > 0);
		middle = i == 5 ? at : middle;
		last_at = at;
	}
	assert_int_equal(rig.log->num_segments, 3);
	uint64_t token = logrig_truncate(&rig, (uint64_t)middle, &err);
	assert_int_equal(logrig_wait(&rig, token, NULL), 0);
	logrig_close(&rig);
	logrig_end(&rig);
	memcpy(pristine, medium(), DISK_BYTES);
	return 0;
}

static int free_medium(void **state)
{
	(void)state;
	blksim_disk_free(disk);
	return 0;
}

static struct super *super_at(uint32_t slot)
{
	return (struct super *)(void *)(medium() + (uint64_t)slot * SUPER_STRIDE);
}

static uint64_t identity(void)
{
	return super_at(0)->identity;
}

/* ---- the superblock ---- */

/* Reads what there is, appends, and finds that again after all was closed: 0 or what opening says.
 */
static int live(void)
{
	struct logrig rig;
	uint64_t i = 0;
	int64_t at = 0;

	logrig_init(&rig, 0, 0);
	int err = logrig_open(&rig, disk, O_RDONLY);
	if (!err) {
		logfile_check(rig.log);
		for (uint32_t n = 0; n < 2 * RECORDS && logrig_read(&rig, &i) == 1; n++)
			assert_true(i <= RECORDS);
		logrig_close(&rig);
		err = logrig_open(&rig, disk, O_RDWR);
	}
	if (!err) {
		logfile_check(rig.log);
		at = append(&rig, 77, 1000);
		logfile_check(rig.log);
	}
	logrig_close(&rig);
	if (!err && at > 0) {
		assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
		assert_int_equal(rig.queue->ops->log->seek(rig.queue, at, SEEK_SET, &at), 0);
		assert_int_equal(logrig_read(&rig, &i), 1);
		assert_int_equal(i, 77);
		logrig_close(&rig);
	}
	logrig_end(&rig);
	return err;
}

static void block_large(struct super *super)
{
	super->block_bytes = 65536;
}

static void block_huge(struct super *super)
{
	super->block_bytes = UINT32_MAX;
}

static void block_odd(struct super *super)
{
	super->block_bytes = 1536;
}

static void head_far(struct super *super)
{
	super->logs[0].head = UINT64_MAX - 7;
	super->logs[0].stable = UINT64_MAX - 7;
}

static void head_behind_stable(struct super *super)
{
	super->logs[0].head = super->logs[0].stable + 8;
}

static void head_zero(struct super *super)
{
	super->logs[0].head = 0;
}

static void head_sequence_zero(struct super *super)
{
	super->logs[0].head_sequence = 0;
}

static void head_sequence_behind(struct super *super)
{
	super->logs[0].head_sequence = super->logs[0].stable_sequence + 1;
}

static void stable_zero(struct super *super)
{
	super->logs[0].stable = 0;
}

static void stable_wraps(struct super *super)
{
	super->logs[0].stable = UINT64_MAX;
}

static void stable_sequence_far(struct super *super)
{
	super->logs[0].stable_sequence = UINT64_MAX;
}

static void epoch_last(struct super *super)
{
	super->logs[0].epoch = UINT32_MAX;
}

static void ids_all_given(struct super *super)
{
	super->num_logs = UINT32_MAX;
}

static void id_never_given(struct super *super)
{
	super->num_logs = 0;
}

static void id_twice(struct super *super)
{
	super->logs[30] = super->logs[0];
	super->logs[30].name[0] = 'x';
	super->num_logs = 2;
}

static void name_twice(struct super *super)
{
	super->logs[30] = super->logs[0];
	super->logs[30].id = 2;
	super->num_logs = 2;
}

static void name_without_end(struct super *super)
{
	memset(super->logs[0].name, 'n', sizeof(super->logs[0].name));
}

static void name_empty(struct super *super)
{
	super->logs[0].name[0] = '\0';
}

static void test_superblocks(void **state)
{
	static void (*const changes[])(struct super * super) = {
		block_large,        block_huge,           block_odd,
		head_far,           head_behind_stable,   head_zero,
		head_sequence_zero, head_sequence_behind, stable_zero,
		stable_wraps,       stable_sequence_far,  epoch_last,
		ids_all_given,      id_never_given,       id_twice,
		name_twice,         name_without_end,     name_empty,
	};

	(void)state;
	for (size_t n = 0; n < sizeof(changes) / sizeof(changes[0]); n++) {
		memcpy(medium(), pristine, DISK_BYTES);
		for (uint32_t slot = 0; slot < 2; slot++) {
			changes[n](super_at(slot));
			super_seal(super_at(slot));
		}
		print_message("# change %u\n", (unsigned)n);
		assert_int_equal(live(), -EUCLEAN);
	}
	memcpy(medium(), pristine, DISK_BYTES);
	assert_int_equal(live(), 0);
}

/* More than there is was on stable media, and not as far: what was read is not written over. */
static void test_stable_behind_what_is_there(void **state)
{
	struct logrig rig;

	(void)state;
	memcpy(medium(), pristine, DISK_BYTES);
	for (uint32_t slot = 0; slot < 2; slot++) {
		struct super *super = super_at(slot);
		super->logs[0].stable = super->logs[0].head;
		super->logs[0].stable_sequence = 1000;
		super_seal(super);
	}
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR), 0);
	assert_int_equal(rig.log->damages, 1);
	assert_true(rig.log->durable.offset > (uint64_t)last_at);
	assert_int_equal(rig.log->durable.sequence, 1000);
	logrig_close(&rig);
	logrig_end(&rig);
}

/* ---- headers of segments ---- */

#define FIELDS 6

/* Sets a field of the header of a segment. */
static void set_field(struct segment_header *header, uint32_t field, uint64_t value)
{
	switch (field) {
	case 0:
		header->serial = value;
		break;
	case 1:
		header->first_sequence = value;
		break;
	case 2:
		header->previous_end = value;
		break;
	case 3:
		header->acknowledged = value;
		break;
	case 4:
		header->epoch = (uint32_t)value;
		break;
	default:
		header->log = (uint32_t)value;
	}
}

static struct segment_header *segment_header(uint32_t segment)
{
	return (struct segment_header *)(void *)(medium() + SEGMENTS_AT +
						 (uint64_t)segment * SEGMENT);
}

static void seal_segment(uint32_t segment)
{
	segment_seal(segment_header(segment), identity(),
		     SEGMENTS_AT + (uint64_t)segment * SEGMENT);
}

/* Any value in any field of any segment: what is appended is there all the same. */
static void test_segment_headers(void **state)
{
	static const uint64_t values[] = {0,
					  1,
					  3,
					  30,
					  1000,
					  65000,
					  66000,
					  (uint64_t)1 << 31,
					  (uint64_t)1 << 47,
					  ((uint64_t)1 << 48) - 1,
					  INT64_MAX,
					  UINT64_MAX - 1,
					  UINT64_MAX};

	(void)state;
	for (uint32_t segment = 0; segment < 3; segment++) {
		for (uint32_t field = 0; field < FIELDS; field++) {
			for (size_t n = 0; n < sizeof(values) / sizeof(values[0]); n++) {
				memcpy(medium(), pristine, DISK_BYTES);
				set_field(segment_header(segment), field, values[n]);
				seal_segment(segment);
				assert_int_equal(live(), 0);
			}
		}
	}
}

/* An empty segment that says that more was acknowledged than was before it, nothing of which is
 * anywhere: no reason to look for it for ever. */
static void test_acknowledged_before_it_began(void **state)
{
	struct segment_header *header = segment_header(3);

	(void)state;
	memcpy(medium(), pristine, DISK_BYTES);
	*header = *segment_header(2);
	header->serial++;
	header->first_sequence = 10;
	header->acknowledged = 1000;
	seal_segment(3);
	assert_int_equal(live(), 0);
}

/* ---- records ---- */

/* A record that was torn by a crash stays behind the good ones of its block, what took its place is
 * in the next segment and has rotted: told once, and passed by SEEK_DATA. */
static void test_rot_behind_a_torn_record(void **state)
{
	static const struct blksim_options pages = {
		.capacity_bytes = DISK_BYTES, .block_bytes = BLKDEV_BLOCK_MAX, .seed = 1};
	struct blksim_disk *crashed = blksim_disk_new(&pages);
	struct logrig rig;
	uint64_t tokens[2];
	uint64_t capacity;
	uint64_t i;
	int err;

	(void)state;
	assert_non_null(crashed);
	unsigned char *bytes = blksim_medium(crashed, &capacity);
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, crashed, O_RDWR | O_CREAT), 0);
	assert_true(append(&rig, 1, 20001) > 0);
	tokens[0] = logrig_push(&rig, 2, 15000, &err);
	tokens[1] = logrig_push(&rig, 3, 100, &err);
	int64_t before = logrig_wait(&rig, tokens[0], NULL);
	int64_t torn = logrig_wait(&rig, tokens[1], NULL);
	assert_in_range(torn, before + 15000, before + 16000); /* one batch */
	memcpy(pristine, bytes, DISK_BYTES);                   /* the power fails here */
	logrig_close(&rig);
	memcpy(bytes, pristine, DISK_BYTES);
	bytes[SEGMENTS_AT + torn + 60] ^= 1;

	assert_int_equal(logrig_open(&rig, crashed, O_RDWR), 0);
	assert_int_equal(rig.log->damages, 0);
	assert_int_equal(rig.log->durable.sequence, 3);
	int64_t rotten = append(&rig, 4, 30000);
	assert_int_equal(rotten, SEGMENT + BLKDEV_BLOCK_MAX);
	int64_t last = append(&rig, 5, 100);
	logrig_close(&rig);
	bytes[SEGMENTS_AT + rotten + 9000] ^= 1;

	assert_int_equal(logrig_open(&rig, crashed, O_RDONLY), 0);
	for (uint64_t n = 1; n <= 2; n++) {
		assert_int_equal(logrig_read(&rig, &i), 1);
		assert_int_equal(i, n);
	}
	assert_int_equal(logrig_read(&rig, &i), -EBADMSG);
	assert_int_equal(logrig_read(&rig, &i), -EBADMSG);
	int64_t at;
	assert_int_equal(rig.queue->ops->log->seek(rig.queue, 0, SEEK_CUR, &at), 0);
	assert_int_equal(rig.queue->ops->log->seek(rig.queue, at, SEEK_DATA, &at), 0);
	assert_int_equal(at, last);
	assert_int_equal(logrig_read(&rig, &i), 1);
	assert_int_equal(i, 5);
	logrig_close(&rig);
	logrig_end(&rig);
	blksim_disk_free(crashed);
}

/* ---- truncations ---- */

static uint64_t told_head(void)
{
	const struct super *newest = super_at(0);
	const struct super *other = super_at(1);

	if (!super_check(newest) || (super_check(other) && other->generation > newest->generation))
		newest = other;
	return newest->logs[0].head;
}

/* No segment is free that the medium says is needed. */
static void at_event(void *arg)
{
	const struct logrig *rig = arg;

	assert_true(rig->log->first_serial <= told_head() / SEGMENT);
}

/* One that is under way when the log is opened to be emptied. */
static void test_truncated_twice(void **state)
{
	struct logrig rig;
	struct queue *second;
	int64_t at[RECORDS];
	int err;

	(void)state;
	memset(medium(), 0, DISK_BYTES);
	logrig_init(&rig, 0, 0);
	assert_int_equal(logrig_open(&rig, disk, O_RDWR | O_CREAT), 0);
	for (uint32_t i = 0; i < RECORDS; i++)
		at[i] = append(&rig, i + 1, 4000);
	blksim_watch(disk, at_event, &rig);
	uint64_t token = logrig_truncate(&rig, (uint64_t)at[20], &err);
	assert_int_equal(
		log_queue_open(rig.engine, rig.log->store->path, O_RDWR | O_TRUNC, 0600, &second),
		0);
	blksim_watch(disk, NULL, NULL);
	assert_int_equal(rig.log->head, rig.log->durable.offset);
	assert_int_equal(told_head(), rig.log->head);
	assert_int_equal(logrig_wait(&rig, token, NULL), 0);
	second->ops->close(second);
	logrig_close(&rig);
	logrig_end(&rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_superblocks),
		cmocka_unit_test(test_stable_behind_what_is_there),
		cmocka_unit_test(test_segment_headers),
		cmocka_unit_test(test_acknowledged_before_it_began),
		cmocka_unit_test(test_rot_behind_a_torn_record),
		cmocka_unit_test(test_truncated_twice),
	};

	return test_run_group("log_damage", tests, sizeof(tests) / sizeof(tests[0]), make_medium,
			      free_medium);
}
