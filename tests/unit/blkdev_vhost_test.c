/* tests/unit/blkdev_vhost_test.c: the block device vhost, on qemu-storage-daemon and on a daemon of
 * the test's own; daemons that die, come back, or lie.
 */
#include "support/test.h"

#include "base/bits.h"
#include "blkdev/vhost/vhost.h"
#include "support/blkdev_body.h"
#include "support/rig.h"
#include "support/storage_daemon.h"
#include "unit/vhost_liar.h"

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEMORY_BYTES (16 << 20)
#define DRIVE_BYTES  (8 << 20)
#define QUEUES       2
#define OWN_TESTS    11 /* beside those of every device */
#define REQUESTS     64
#define LATE_NS      30000000000
#define BIT(n)       ((uint64_t)1 << (n))

/* ---- both kinds of daemon as fixtures ---- */

static struct storage_daemon daemon_;
static struct liar liar;
static char sick[256];
static int64_t memory_bytes = MEMORY_BYTES;

static int open_at(struct sched *sched, const char *path, struct blkdev **dev_out)
{
	const struct blkdev_place place = {.path = path, .flags = O_RDWR};

	sched->config.storage_memory_bytes = memory_bytes;
	return vhost_open(sched, &place, dev_out);
}

static int qemu_open(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	(void)fixture;
	int err = storage_daemon_start(&daemon_, DRIVE_BYTES, QUEUES);
	return err ? err : open_at(sched, daemon_.socket, dev_out);
}

static int qemu_reopen(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	(void)fixture;
	(*dev_out)->ops->close(*dev_out);
	return open_at(sched, daemon_.socket, dev_out);
}

static void qemu_end(struct blkdev_fixture *fixture)
{
	(void)fixture;
	storage_daemon_stop(&daemon_);
}

static int qemu_fail(struct blkdev_fixture *fixture, struct blkdev *dev, bool reads,
		     uint64_t offset)
{
	(void)fixture;
	(void)dev;
	(void)snprintf(sick, sizeof(sick),
		       ",inject-error.0.event=none,inject-error.0.iotype=%s,inject-error.0.errno=5,"
		       "inject-error.0.sector=%lu,inject-error.0.once=off",
		       reads ? "read" : "write", (unsigned long)offset / 512);
	storage_daemon_kill(&daemon_);
	daemon_.sick = sick;
	return storage_daemon_restart(&daemon_);
}

static void qemu_pull(struct blkdev_fixture *fixture, struct blkdev *dev)
{
	(void)fixture;
	(void)dev;
	storage_daemon_kill(&daemon_);
}

/* What most have. */
#define GOOD                                                                                  \
	{                                                                                     \
		.features = BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | \
			    BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |          \
			    BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ) |                  \
			    BIT(VIRTIO_BLK_F_DISCARD),                                        \
		.acks = true, .seg_max = 126, .queues = LIAR_QUEUES, .bytes = LIAR_BYTES      \
	}

static struct liar good = GOOD;
static struct liar copying = GOOD; /* little memory, and none that the heap could use */

/* The least that there can be. */
static struct liar plain = {
	.features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_SIZE_MAX),
	.size_max = 12345,
	.seg_max = 40,
	.queues = 1,
	.bytes = LIAR_BYTES,
};

static int liar_open(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	liar = *(const struct liar *)fixture->arg;
	memory_bytes = MEMORY_BYTES;
	if (fixture->arg == &copying) {
		heap_set_frames(sched->heap, 4096, 64);
		memory_bytes = 1 << 20;
	}
	int err = liar_make(&liar);
	if (!err)
		err = liar_start(&liar);
	return err ? err : open_at(sched, liar.socket, dev_out);
}

static int liar_reopen(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	(void)fixture;
	(*dev_out)->ops->close(*dev_out);
	return open_at(sched, liar.socket, dev_out);
}

static void liar_fixture_end(struct blkdev_fixture *fixture)
{
	(void)fixture;
	memory_bytes = MEMORY_BYTES;
	liar_end(&liar);
}

static void liar_pull(struct blkdev_fixture *fixture, struct blkdev *dev)
{
	(void)fixture;
	(void)dev;
	liar_stop(&liar);
}

/* ---- by hand ---- */

struct
try {
	struct blk_request request;
	struct iovec iov;
	uint32_t done;
};

static struct rig rig;
static struct blkdev *dev;
static struct try tries[REQUESTS];
static uint32_t ended;

static uint64_t real_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void try_done(struct blk_request *request)
{
	container_of(request, struct try, request)->done++;
	ended++;
}

static void *memory(uint64_t bytes)
{
	void *at = heap_alloc(rig.sched.heap, bytes);

	assert_non_null(at);
	return at;
}

static void give_back(void *at)
{
	assert_int_equal(heap_free(rig.sched.heap, at), 0);
}

static void submit(uint32_t i, enum blk_what what, uint64_t offset, void *at, uint64_t bytes)
{
	struct blk_request *request = &tries[i].request;

	tries[i] = (struct try){
		.request = {.what = (uint8_t)what,
			    .durable = what == BLK_WRITE,
			    .num_iov = 1,
			    .iov = &tries[i].iov,
			    .offset = offset,
			    .bytes = bytes,
			    .done = try_done,
			    .err = 1},
		.iov = {.iov_base = at, .iov_len = bytes},
	};
	assert_int_equal(dev->ops->submit(dev, &request, 1), 1);
}

/* Polls until so many have ended. */
static void finish(uint32_t count)
{
	uint64_t late = real_ns() + LATE_NS;

	for (uint32_t turn = 0; ended < count; turn++) {
		(void)sched_now(&rig.sched);
		(void)dev->ops->poll(dev);
		if (turn % 64 == 0)
			(void)fdset_wait(&rig.sched.fds, 0);
		if (turn % 1024 == 0)
			assert_true(real_ns() < late);
	}
	assert_int_equal(ended, count);
	ended = 0;
}

static int run(enum blk_what what, uint64_t offset, void *at, uint64_t bytes)
{
	submit(0, what, offset, at, bytes);
	finish(1);
	return tries[0].request.err;
}

static void open_rig(void)
{
	assert_int_equal(rig_open(&rig, &(struct rig_options){.step_ns = 10000}), 0);
	ended = 0;
	dev = NULL;
}

static void open_with(const char *path)
{
	open_rig();
	assert_int_equal(open_at(&rig.sched, path, &dev), 0);
}

static void close_all(void)
{
	if (dev)
		dev->ops->close(dev);
	rig_check(&rig);
	rig_close(&rig);
}

#define NEED_DAEMON                                             \
	do {                                                    \
		if (storage_daemon_missing())                   \
			skip_because(storage_daemon_missing()); \
	} while (0)

/* ---- daemons that die ---- */

static void fill(char *at, uint32_t number)
{
	for (uint32_t i = 0; i < 1024; i++)
		((uint32_t *)(void *)at)[i] = number * 7919 + i;
}

static bool holds(const char *at, uint32_t number)
{
	for (uint32_t i = 0; i < 1024; i++) {
		if (((const uint32_t *)(const void *)at)[i] != number * 7919 + i)
			return false;
	}
	return true;
}

/* The daemon is killed while requests are under way, some of them by way of a copy; the next does
 * them. */
static void test_killed(void **state)
{
	(void)state;
	NEED_DAEMON;
	assert_int_equal(storage_daemon_start(&daemon_, DRIVE_BYTES, QUEUES), 0);
	open_with(daemon_.socket);
	char *near = memory(REQUESTS * 4096);
	char *far = malloc(REQUESTS * 4096);
	for (uint32_t round = 0; round < 6; round++) {
		char *at = round % 2 ? far : near;
		for (uint32_t i = 0; i < REQUESTS; i++) {
			fill(at + i * 4096, round * REQUESTS + i);
			submit(i, BLK_WRITE, i * 65536, at + i * 4096, 4096);
			if (i == REQUESTS / 4 * (round % 4))
				storage_daemon_kill(&daemon_);
		}
		for (uint32_t i = 0; i < 1000; i++)
			(void)dev->ops->poll(dev);
		assert_int_equal(storage_daemon_restart(&daemon_), 0);
		finish(REQUESTS);
		memset(at, 0, REQUESTS * 4096);
		for (uint32_t i = 0; i < REQUESTS; i++) {
			assert_int_equal(tries[i].done, 1);
			assert_int_equal(tries[i].request.err, 0);
			submit(i, BLK_READ, i * 65536, at + i * 4096, 4096);
		}
		finish(REQUESTS);
		for (uint32_t i = 0; i < REQUESTS; i++)
			assert_true(holds(at + i * 4096, round * REQUESTS + i));
	}
	free(far);
	give_back(near);
	close_all();
	storage_daemon_stop(&daemon_);
}

/* Asleep, it learns of the daemon's end, and of the next. */
static void test_killed_asleep(void **state)
{
	(void)state;
	NEED_DAEMON;
	assert_int_equal(storage_daemon_start(&daemon_, DRIVE_BYTES, QUEUES), 0);
	open_with(daemon_.socket);
	char *at = memory(4096);
	assert_int_equal(run(BLK_READ, 0, at, 4096), 0);
	storage_daemon_kill(&daemon_);
	uint32_t sleeps = 0;
	while (dev->ops->next_deadline(dev) == TIMER_NEVER && sleeps++ < 100) {
		if (dev->ops->arm(dev) == 0) {
			(void)fdset_wait(&rig.sched.fds, 1000000000);
			dev->ops->disarm(dev);
		}
		(void)dev->ops->poll(dev);
	}
	assert_in_range(sleeps, 1, 10);
	assert_int_equal(storage_daemon_restart(&daemon_), 0);
	fill(at, 1);
	submit(0, BLK_WRITE, 0, at, 4096);
	while (ended == 0)
		dev->ops->wait(dev);
	assert_int_equal(tries[0].request.err, 0);
	ended = 0;
	give_back(at);
	close_all();
	storage_daemon_stop(&daemon_);
}

/* For good: requests fail after 5 s; then the daemon comes after all. */
static void test_gone(void **state)
{
	(void)state;
	NEED_DAEMON;
	assert_int_equal(storage_daemon_start(&daemon_, DRIVE_BYTES, QUEUES), 0);
	open_with(daemon_.socket);
	char *at = memory(4096);
	fill(at, 5);
	assert_int_equal(run(BLK_WRITE, 0, at, 4096), 0);
	storage_daemon_kill(&daemon_);
	submit(0, BLK_READ, 0, at, 4096);
	submit(1, BLK_WRITE, 65536, at, 4096);
	submit(2, BLK_FLUSH, 0, NULL, 0);
	uint64_t before = rig.now_ns;
	finish(3);
	assert_in_range(rig.now_ns - before, 4900000000, 5200000000);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(tries[i].request.err, -ENODEV);
	before = rig.now_ns;
	assert_int_equal(run(BLK_READ, 0, at, 4096), -ENODEV); /* at once */
	assert_true(rig.now_ns - before < 100000000);
	assert_int_equal(storage_daemon_restart(&daemon_), 0);
	int err = -ENODEV;
	for (uint32_t i = 0; i < 1000000 && err == -ENODEV; i++)
		err = run(BLK_READ, 0, at, 4096);
	assert_int_equal(err, 0);
	assert_true(holds(at, 5));
	give_back(at);
	close_all();
	storage_daemon_stop(&daemon_);
}

/* The next daemon serves another drive. */
static void test_other_drive(void **state)
{
	(void)state;
	liar = (struct liar)GOOD;
	assert_int_equal(liar_make(&liar), 0);
	assert_int_equal(liar_start(&liar), 0);
	open_with(liar.socket);
	char *at = memory(4096);
	assert_int_equal(run(BLK_WRITE, 0, at, 4096), 0);
	liar_stop(&liar);
	liar.bytes -= 4096;
	submit(0, BLK_READ, 0, at, 4096);
	assert_int_equal(liar_start(&liar), 0);
	finish(1);
	assert_int_equal(tries[0].request.err, -ENODEV);
	liar_stop(&liar);
	liar.bytes += 4096;
	assert_int_equal(liar_start(&liar), 0);
	for (uint32_t i = 0; i < 500; i++)
		assert_int_equal(run(BLK_READ, 0, at, 4096), -ENODEV);
	assert_int_equal(dev->ops->next_deadline(dev), TIMER_NEVER);
	give_back(at);
	close_all();
	liar_end(&liar);
}

/* ---- daemons that lie ---- */

static void test_open_lies(void **state)
{
	static const int errs[] = {
		[LIE_OTHER_ANSWER] = -EPROTO, [LIE_LONG_ANSWER] = -EPROTO,
		[LIE_SHORT_ANSWER] = -EPROTO, [LIE_NO_ANSWER_BIT] = -EPROTO,
		[LIE_MUTE] = -ETIMEDOUT,      [LIE_REFUSES] = -EINVAL,
		[LIE_HANGS_UP] = -ECONNRESET, [LIE_NO_QUEUES] = -EPROTO,
		[LIE_CAPACITY] = -EPROTO,     [LIE_EMPTY] = -ENOTSUP,
		[LIE_BLOCK_SIZE] = -ENOTSUP,  [LIE_OLD] = -ENOTSUP,
		[LIE_READ_ONLY] = -EROFS,
	};

	(void)state;
	for (uint32_t lie = LIE_OTHER_ANSWER; lie < ARRAY_LENGTH(errs); lie++) {
		liar = (struct liar)GOOD;
		liar.lie = (enum lie)lie;
		assert_int_equal(liar_make(&liar), 0);
		assert_int_equal(liar_start(&liar), 0);
		open_rig();
		assert_int_equal(open_at(&rig.sched, liar.socket, &dev), errs[lie]);
		close_all();
		liar_end(&liar);
	}
}

/* Nonsense in the used ring, or on the socket: requests end with an error, and so do later ones. */
static void test_ring_lies(void **state)
{
	(void)state;
	for (uint32_t lie = LIE_ID_RANGE; lie <= LIE_NOISE; lie++) {
		liar = (struct liar)GOOD;
		liar.queues = 1;
		if (lie == LIE_ID_STRIDE)
			liar.features &= ~BIT(VIRTIO_RING_F_INDIRECT_DESC);
		assert_int_equal(liar_make(&liar), 0);
		assert_int_equal(liar_start(&liar), 0);
		open_with(liar.socket);
		char *at = memory(8 * 4096);
		assert_int_equal(run(BLK_WRITE, 0, at, 4096), 0); /* honest so far */
		liar.lie = (enum lie)lie;
		for (uint32_t i = 0; i < 8; i++)
			submit(i, BLK_READ, i * 4096, at + i * 4096, 4096);
		finish(8);
		uint32_t errors = 0;
		for (uint32_t i = 0; i < 8; i++)
			errors += tries[i].request.err == -EIO;
		assert_true(errors > 0);
		assert_true(run(BLK_READ, 0, at, 4096) == -ENODEV);
		assert_true(run(BLK_FLUSH, 0, NULL, 0) == -ENODEV);
		give_back(at);
		close_all();
		liar_end(&liar);
	}
}

/* A status that is none is an error of the request alone. */
static void test_status_lies(void **state)
{
	(void)state;
	liar = (struct liar)GOOD;
	assert_int_equal(liar_make(&liar), 0);
	assert_int_equal(liar_start(&liar), 0);
	open_with(liar.socket);
	char *at = memory(4096);
	for (uint32_t lie = LIE_STATUS; lie <= LIE_NO_STATUS; lie++) {
		liar.lie = (enum lie)lie;
		assert_int_equal(run(BLK_WRITE, 0, at, 4096), -EIO);
		assert_int_equal(run(BLK_READ, 0, at, 4096), -EIO);
		assert_int_equal(run(BLK_FLUSH, 0, NULL, 0), -EIO);
		liar.lie = LIE_NONE;
		assert_int_equal(run(BLK_WRITE, 0, at, 4096), 0);
	}
	give_back(at);
	close_all();
	liar_end(&liar);
}

/* ---- who may use it ---- */

static void test_two_users(void **state)
{
	struct rig other;
	struct blkdev *second;

	(void)state;
	NEED_DAEMON;
	assert_int_equal(storage_daemon_start(&daemon_, DRIVE_BYTES, QUEUES), 0);
	open_with(daemon_.socket);
	assert_int_equal(rig_open(&other, &(struct rig_options){0}), 0);
	assert_int_equal(open_at(&other.sched, daemon_.socket, &second), -EBUSY);
	dev->ops->close(dev);
	assert_int_equal(open_at(&other.sched, daemon_.socket, &second), 0);
	second->ops->close(second);
	rig_close(&other);
	dev = NULL;
	close_all();
	storage_daemon_stop(&daemon_);
}

static void test_no_daemon(void **state)
{
	(void)state;
	open_rig();
	assert_int_equal(open_at(&rig.sched, "/tmp/demi-no-such-daemon/socket", &dev), -ENOENT);
	char path[200];
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(open_at(&rig.sched, path, &dev), -ENAMETOOLONG);
	close_all();
}

/* ---- how it works ---- */

/* Objects lie in shared memory; whatever does not is copied. A later device of the instance shares
 * the same. */
static void test_memory(void **state)
{
	(void)state;
	liar = (struct liar)GOOD;
	assert_int_equal(liar_make(&liar), 0);
	assert_int_equal(liar_start(&liar), 0);
	open_with(liar.socket);
	for (uint32_t i = 0; i < 2; i++) {
		assert_false(dev->copies);
		char *at = memory(4096);
		assert_true(heap_in_region(rig.sched.heap, at));
		give_back(at);
		dev->ops->close(dev);
		assert_int_equal(open_at(&rig.sched, liar.socket, &dev), 0);
	}
	assert_false(dev->copies);
	close_all();
	open_rig();
	heap_set_frames(rig.sched.heap, 4096, 64);
	assert_int_equal(open_at(&rig.sched, liar.socket, &dev), 0);
	assert_true(dev->copies);
	assert_null(rig.sched.heap->region);
	char *at = memory(4096);
	fill(at, 3);
	assert_int_equal(run(BLK_WRITE, 8192, at, 4096), 0);
	memset(at, 0, 4096);
	assert_int_equal(run(BLK_READ, 8192, at, 4096), 0);
	assert_true(holds(at, 3));
	give_back(at);
	close_all();
	liar_end(&liar);
}

/* Durable writes that end together share a flush. */
static void test_shared_flush(void **state)
{
	(void)state;
	liar = (struct liar)GOOD;
	assert_int_equal(liar_make(&liar), 0);
	assert_int_equal(liar_start(&liar), 0);
	open_with(liar.socket);
	const struct vhost *v = container_of(dev, struct vhost, dev);
	char *at = memory(REQUESTS * 512);
	uint16_t before = 0, after = 0;
	for (uint32_t i = 0; i < v->num_queues; i++)
		before = (uint16_t)(before + v->queues[i].put);
	for (uint32_t i = 0; i < REQUESTS; i++)
		submit(i, BLK_WRITE, i * 512, at + i * 512, 512);
	uint64_t late = real_ns() + LATE_NS;
	for (uint32_t done = 0; done < REQUESTS; done = 0) { /* the daemon has done all */
		for (uint32_t i = 0; i < v->num_queues; i++)
			done += __atomic_load_n(&v->queues[i].ring.used->idx, __ATOMIC_ACQUIRE);
		if (done >= REQUESTS)
			break;
		assert_true(real_ns() < late);
	}
	finish(REQUESTS);
	for (uint32_t i = 0; i < v->num_queues; i++)
		after = (uint16_t)(after + v->queues[i].put);
	assert_int_equal(after - before, REQUESTS + 1);
	give_back(at);
	close_all();
	liar_end(&liar);
}

int main(void)
{
	static struct blkdev_fixture qemu = {.name = "qemu",
					     .open = qemu_open,
					     .reopen = qemu_reopen,
					     .end = qemu_end,
					     .fail = qemu_fail,
					     .pull = qemu_pull};
	static struct blkdev_fixture own = {.name = "own daemon",
					    .open = liar_open,
					    .reopen = liar_reopen,
					    .end = liar_fixture_end,
					    .pull = liar_pull,
					    .arg = &good};
	static struct blkdev_fixture least = {.name = "least features",
					      .open = liar_open,
					      .reopen = liar_reopen,
					      .end = liar_fixture_end,
					      .pull = liar_pull,
					      .arg = &plain};
	static struct blkdev_fixture little = {.name = "copying",
					       .open = liar_open,
					       .reopen = liar_reopen,
					       .end = liar_fixture_end,
					       .pull = liar_pull,
					       .arg = &copying};
	struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),       cmocka_unit_test(test_killed_asleep),
		cmocka_unit_test(test_gone),         cmocka_unit_test(test_other_drive),
		cmocka_unit_test(test_open_lies),    cmocka_unit_test(test_ring_lies),
		cmocka_unit_test(test_status_lies),  cmocka_unit_test(test_two_users),
		cmocka_unit_test(test_no_daemon),    cmocka_unit_test(test_memory),
		cmocka_unit_test(test_shared_flush), [OWN_TESTS + 4 * BLKDEV_BODY_TESTS - 1] = {0},
	};

	qemu.skip = storage_daemon_missing();
	blkdev_body_add(&qemu, tests + OWN_TESTS);
	blkdev_body_add(&own, tests + OWN_TESTS + BLKDEV_BODY_TESTS);
	blkdev_body_add(&least, tests + OWN_TESTS + 2 * BLKDEV_BODY_TESTS);
	blkdev_body_add(&little, tests + OWN_TESTS + 3 * BLKDEV_BODY_TESTS);
	return test_run("blkdev_vhost", tests);
}
