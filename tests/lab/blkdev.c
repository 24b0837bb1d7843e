/* SPDX-License-Identifier: MIT
 * tests/lab/blkdev.c - what every block device must do (support/blkdev_body.h), of one drive of the
 * guest; or what one in zones must. All of the drive is written over.
 *
 *	lab_blkdev DRIVER PATH
 *	lab_blkdev DRIVER PATH polled	the driver uring polls that drive; nobody sleeps
 *	lab_blkdev DRIVER PATH faulty	that drive can't read its sector 2048, nor write 4096
 */
#include "support/test.h"

#include "blkdev/blkdev.h"
#include "blkdev/nvme/nvme.h"
#include "support/blkdev_body.h"
#include "support/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ZERO_FIRST ((uint64_t)16 << 20) /* what the tests go by being zero */
#define ZERO_LAST  ((uint64_t)1 << 20)
#define READS      2000
#define BACK_MS    20000 /* a drive takes at most to be there again */
#define BLOCK      4096

static struct {
	const char *driver;
	const char *path;
	struct rig rig;
	struct blkdev *dev;
	uint32_t under_way;
	bool polled;
	bool pulled;
} lab;

static int open_device(struct sched *sched, struct blkdev **dev_out)
{
	/* In the order of the choices of the key (base/config.def). */
	static const char *const drivers[] = {"uring", "vhost", "nvme", "nvme-uring", "sim"};
	const struct blkdev_place place = {.path = lab.path, .flags = O_RDWR};
	uint32_t i = 0;

	while (i < ARRAY_LENGTH(drivers) && strcmp(drivers[i], lab.driver) != 0)
		i++;
	if (i == ARRAY_LENGTH(drivers))
		return -EINVAL;
	sched->config.storage_driver = i;
	int err = blkdev_open(sched, &place, dev_out);
	if (err || !lab.polled || strstr((*dev_out)->mode, "polled"))
		return err;
	(*dev_out)->ops->close(*dev_out);
	(void)fprintf(stderr, "%s is not polled\n", lab.path);
	return -ENOTSUP;
}

static void request_done(struct blk_request *request)
{
	(void)request;
	lab.under_way--;
}

/* Runs one request to its end; its err. */
static int run(struct blkdev *dev, enum blk_what what, uint64_t offset, const struct iovec *iov)
{
	struct blk_request request = {.what = (uint8_t)what,
				      .num_iov = iov->iov_base != NULL,
				      .iov = iov,
				      .offset = offset,
				      .bytes = iov->iov_len,
				      .done = request_done};
	struct blk_request *one = &request;

	lab.under_way = 1;
	if (dev->ops->submit(dev, &one, 1) != 1)
		return -EBUSY;
	while (lab.under_way > 0) {
		(void)sched_now(dev->sched);
		(void)dev->ops->poll(dev);
	}
	return request.err;
}

static int make_zero(struct blkdev *dev, uint64_t from, uint64_t to)
{
	uint64_t step = dev->request_bytes_max < 65536 ? dev->request_bytes_max : 65536;
	void *zeros = heap_alloc_aligned(dev->sched->heap, BLKDEV_BLOCK_MAX, step);
	int err = 0;

	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, step);
	for (; !err && from < to; from += step)
		err = run(dev, BLK_WRITE, from, &(struct iovec){zeros, step});
	(void)heap_free(dev->sched->heap, zeros);
	return err;
}

/* ---- as every block device ---- */

static int body_open(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	int err = open_device(sched, dev_out);

	(void)fixture;
	if (!err)
		err = make_zero(*dev_out, 0, ZERO_FIRST);
	if (!err)
		err = make_zero(*dev_out, (*dev_out)->capacity_bytes - ZERO_LAST,
				(*dev_out)->capacity_bytes);
	return err;
}

static int body_reopen(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	(void)fixture;
	(*dev_out)->ops->close(*dev_out);
	return open_device(sched, dev_out);
}

/* Writes 1 into a file of /sys. */
static bool tell_sys(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool told = fd >= 0 && write(fd, "1", 1) == 1;

	if (fd >= 0)
		(void)close(fd);
	return told;
}

/* The kernel takes the drive away: it waits for what is under way, which may want polls. */
static void body_pull(struct blkdev_fixture *fixture, struct blkdev *dev)
{
	static const char *const ways[] = {"device", ".."}; /* of NVMe, of virtio */
	char path[2][128];
	int status = 0;

	(void)fixture;
	for (int i = 0; i < 2; i++)
		(void)snprintf(path[i], sizeof(path[i]), "/sys/block/%s/device/%s/remove",
			       strrchr(lab.path, '/') + 1, ways[i]);
	pid_t pid = fork();
	if (pid == 0)
		_exit(!tell_sys(path[0]) && !tell_sys(path[1]));
	while (waitpid(pid, &status, WNOHANG) == 0)
		(void)dev->ops->poll(dev);
	assert_int_equal(status, 0);
	lab.pulled = true;
}

/* It comes back. */
static void body_end(struct blkdev_fixture *fixture)
{
	(void)fixture;
	if (!lab.pulled)
		return;
	lab.pulled = false;
	assert_true(tell_sys("/sys/bus/pci/rescan"));
	for (uint32_t ms = 0; access(lab.path, R_OK | W_OK); ms++) {
		assert_true(ms < BACK_MS);
		(void)usleep(1000);
	}
}

/* ---- what is tested here only ---- */

static void begin(void)
{
	assert_int_equal(rig_open(&lab.rig, &(struct rig_options){.step_ns = 100}), 0);
	assert_int_equal(open_device(&lab.rig.sched, &lab.dev), 0);
}

static void end(void)
{
	lab.dev->ops->close(lab.dev);
	rig_check(&lab.rig);
	rig_close(&lab.rig);
}

/* A place is one's alone. */
static void test_alone(void **state)
{
	struct rig other;
	struct blkdev *dev;

	(void)state;
	begin();
	assert_int_equal(rig_open(&other, &(struct rig_options){0}), 0);
	assert_int_equal(open_device(&other.sched, &dev), -EBUSY);
	rig_close(&other);
	end();
	begin();
	end();
}

static uint64_t real_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *first = a, *second = b;

	return *first < *second ? -1 : *first > *second;
}

/* For people, and no measure: all is emulated. */
static void test_latency(void **state)
{
	static uint64_t times[READS];

	(void)state;
	begin();
	void *at = heap_alloc_aligned(lab.rig.sched.heap, BLOCK, BLOCK);
	for (uint32_t i = 0; i < READS; i++) {
		uint64_t before = real_ns();
		assert_int_equal(run(lab.dev, BLK_READ, 0, &(struct iovec){at, BLOCK}), 0);
		times[i] = real_ns() - before;
	}
	qsort(times, READS, sizeof(times[0]), compare);
	printf("# %s (%s): a read of 4 KiB: p50 %lu ns\n", lab.dev->ops->name, lab.dev->mode,
	       (unsigned long)times[READS / 2]);
	assert_int_equal(heap_free(lab.rig.sched.heap, at), 0);
	end();
}

/* Writes and reads under way when the controller of the driver nvme is reset are done all the same.
 */
static void test_reset(void **state)
{
	struct blk_request requests[16];
	struct iovec iov[16];

	(void)state;
	if (strcmp(lab.driver, "nvme") != 0)
		skip_because("the kernel resets it");
	begin();
	char *at = heap_alloc_aligned(lab.rig.sched.heap, BLOCK, 16 * BLOCK);
	memset(at, 77, 16 * BLOCK);
	for (uint32_t round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < 16; i++) {
			struct blk_request *one = &requests[i];
			iov[i] = (struct iovec){at + i * (size_t)BLOCK, BLOCK};
			*one = (struct blk_request){.what = round % 2 ? BLK_READ : BLK_WRITE,
						    .num_iov = 1,
						    .iov = &iov[i],
						    .offset = i * BLOCK,
						    .bytes = BLOCK,
						    .done = request_done};
			lab.under_way = i + 1;
			assert_int_equal(lab.dev->ops->submit(lab.dev, &one, 1), 1);
		}
		nvme_reset(nvme_of(lab.dev), "the test wants it");
		while (lab.under_way > 0)
			lab.dev->ops->wait(lab.dev);
		for (uint32_t i = 0; i < 16; i++)
			assert_int_equal(requests[i].err, 0);
		assert_int_equal(nvme_of(lab.dev)->state, NVME_RUNNING);
		for (uint32_t i = 0; i < 16 * BLOCK; i++)
			assert_int_equal(at[i], 77);
		if (round % 2 == 0)
			memset(at, 0, 16 * BLOCK);
	}
	assert_int_equal(heap_free(lab.rig.sched.heap, at), 0);
	end();
}

/* ---- a faulty drive ---- */

static void test_faulty(void **state)
{
	(void)state;
	begin();
	char *at = heap_alloc_aligned(lab.rig.sched.heap, BLOCK, BLOCK);
	const struct iovec iov = {at, BLOCK};
	assert_int_equal(run(lab.dev, BLK_READ, 2048 * 512, &iov), -EIO);
	assert_int_equal(run(lab.dev, BLK_WRITE, 2048 * 512, &iov), 0);
	assert_int_equal(run(lab.dev, BLK_WRITE, 4096 * 512, &iov), -EIO);
	assert_int_equal(run(lab.dev, BLK_READ, 4096 * 512, &iov), 0);
	assert_int_equal(heap_free(lab.rig.sched.heap, at), 0);
	end();
}

/* ---- zones ---- */

static char *pattern(uint64_t bytes)
{
	char *at = heap_alloc_aligned(lab.rig.sched.heap, BLOCK, bytes);

	assert_non_null(at);
	for (uint64_t i = 0; i < bytes; i++)
		at[i] = (char)(i * 7 + (i >> 9) + (i >> 17));
	return at;
}

/* Writes a zone from its start to its end, in requests of several lengths, and reads it. */
static void fill_zone(uint64_t zone, char *data, char *back)
{
	struct blkdev *dev = lab.dev;
	uint64_t at = zone * dev->zone_bytes;

	for (uint64_t done = 0, step = BLOCK; done < dev->zone_capacity_bytes; step *= 2) {
		uint64_t bytes = dev->zone_capacity_bytes - done;
		if (step > dev->request_bytes_max)
			step = dev->request_bytes_max;
		if (bytes > step)
			bytes = step;
		assert_int_equal(run(dev, BLK_WRITE, at + done, &(struct iovec){data, bytes}), 0);
		memset(back, 0, bytes);
		assert_int_equal(run(dev, BLK_READ, at + done, &(struct iovec){back, bytes}), 0);
		assert_memory_equal(data, back, bytes);
		done += bytes;
	}
}

static void test_zones(void **state)
{
	(void)state;
	begin();
	struct blkdev *dev = lab.dev;
	const struct iovec zone = {NULL, dev->zone_bytes};
	assert_true(dev->discards);
	assert_int_equal(dev->capacity_bytes % dev->zone_bytes, 0);
	assert_true(dev->zone_capacity_bytes <= dev->zone_bytes);
	char *data = pattern(dev->request_bytes_max);
	char *back = pattern(dev->request_bytes_max);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(run(dev, BLK_DISCARD, i * dev->zone_bytes, &zone), 0);
	for (uint64_t i = 0; i < 4; i++)
		fill_zone(i, data, back);
	assert_int_equal(run(dev, BLK_FLUSH, 0, &(struct iovec){NULL, 0}), 0);
	/* A full zone takes nothing; empty again, it does. */
	const struct iovec block = {data, BLOCK};
	assert_int_equal(run(dev, BLK_WRITE, 0, &block), -EIO);
	assert_int_equal(run(dev, BLK_DISCARD, 0, &zone), 0);
	fill_zone(0, data, back);
	assert_int_equal(heap_free(lab.rig.sched.heap, data), 0);
	assert_int_equal(heap_free(lab.rig.sched.heap, back), 0);
	end();
}

/* A write that is not where its zone goes on lands elsewhere, and that is told. */
static void test_zone_elsewhere(void **state)
{
	(void)state;
	begin();
	struct blkdev *dev = lab.dev;
	const struct iovec zone = {NULL, dev->zone_bytes};
	char *data = pattern(BLOCK);
	const struct iovec block = {data, BLOCK};
	assert_int_equal(run(dev, BLK_DISCARD, 0, &zone), 0);
	assert_int_equal(run(dev, BLK_WRITE, BLOCK, &block), -EIO);
	assert_int_equal(run(dev, BLK_DISCARD, 0, &zone), 0);
	assert_int_equal(run(dev, BLK_WRITE, 0, &block), 0);
	assert_int_equal(run(dev, BLK_WRITE, BLOCK, &block), 0);
	assert_int_equal(run(dev, BLK_DISCARD, BLOCK, &block), -EINVAL);
	assert_int_equal(run(dev, BLK_WRITE, dev->capacity_bytes, &block), -EIO);
	assert_int_equal(heap_free(lab.rig.sched.heap, data), 0);
	end();
}

/* Can it be had?  Then it says whether it is in zones. */
static bool probe(bool *zoned_out)
{
	bool there = false;

	if (rig_open(&lab.rig, &(struct rig_options){0}))
		return false;
	if (open_device(&lab.rig.sched, &lab.dev) == 0) {
		there = true;
		*zoned_out = lab.dev->zone_bytes > 0;
		lab.dev->ops->close(lab.dev);
	}
	rig_close(&lab.rig);
	return there;
}

int main(int argc, char **argv)
{
	static struct blkdev_fixture fixture = {
		.open = body_open, .reopen = body_reopen, .end = body_end};
	struct CMUnitTest tests[BLKDEV_BODY_TESTS + 3] = {
		[BLKDEV_BODY_TESTS] = cmocka_unit_test(test_alone),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_latency),
	};
	static const struct CMUnitTest zone_tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_zones),
		cmocka_unit_test(test_zone_elsewhere),
		cmocka_unit_test(test_latency),
	};

	static const struct CMUnitTest faulty_tests[] = {cmocka_unit_test(test_faulty)};
	const bool faulty = argc == 4 && strcmp(argv[3], "faulty") == 0;
	bool zoned;

	lab.polled = fixture.busy = argc == 4 && strcmp(argv[3], "polled") == 0;
	if (argc != 3 && !faulty && !lab.polled) {
		(void)fprintf(stderr, "usage: lab_blkdev DRIVER PATH [polled|faulty]\n");
		return 2;
	}
	lab.driver = fixture.name = argv[1];
	lab.path = argv[2];
	if (strcmp(lab.driver, "uring") == 0)
		fixture.pull = body_pull;
	if (!probe(&zoned))
		return 1;
	if (faulty)
		return test_run("lab_blkdev", faulty_tests);
	if (zoned)
		return test_run("lab_blkdev", zone_tests);
	blkdev_body_add(&fixture, tests);
	return test_run("lab_blkdev", tests);
}
