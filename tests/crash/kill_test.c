/* SPDX-License-Identifier: MIT
 * tests/crash/kill_test.c - a process that appends to a log is killed (SIGKILL) at random moments,
 * and another goes on: what was acknowledged is there, in order, and nothing else; with a drive of
 * a storage daemon, it is the daemon that is killed, with all that it had not flushed.
 */
#include "support/test.h"

#include "blkdev/blkdev.h"
#include "crash/numbered.h"
#include "support/rig.h"
#include "support/seed.h"
#include "support/storage_daemon.h"

#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/storage.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTSTANDING 16
#define KEPT        400 /* records; those before are truncated now and then */

/* What processes tell each other, in shared memory: numbers of records. */
struct shared {
	_Atomic uint64_t pushed;
	_Atomic uint64_t acknowledged;
	_Atomic uint64_t head; /* truncation up to it was asked for */
	_Atomic uint64_t head_told;
	_Atomic uint32_t ready; /* the process has checked, and goes on */
};

static struct shared *shared;
static const char *log_path;

#define NOT_OPENED 4 /* status of a child */

/* ---- the child ---- */

static void check(int qd)
{
	static const struct timespec patience = {.tv_nsec = 20000000};
	uint64_t first;
	uint64_t last = numbered_read(qd, &patience, &first);

	EXPECT(last >= atomic_load(&shared->acknowledged));
	EXPECT(last <= atomic_load(&shared->pushed));
	EXPECT(last == 0 || (first >= atomic_load(&shared->head_told) &&
			     (first <= atomic_load(&shared->head) || first == 1)));
	atomic_store(&shared->pushed, last);
	atomic_store(&shared->acknowledged, last);
	atomic_store(&shared->head, first ? first : 1);
	atomic_store(&shared->head_told, first ? first : 1);
}

/* Appends, and truncates, until it is killed. */
static void append_for_ever(int qd)
{
	static off_t offsets[KEPT];
	demi_qtoken_t qts[OUTSTANDING];
	uint64_t first = atomic_load(&shared->pushed) + 1;
	uint64_t next = first;

	for (uint32_t i = 0; i < OUTSTANDING; i++) {
		atomic_store(&shared->pushed, next);
		qts[i] = numbered_push(qd, next++);
	}
	for (uint64_t acknowledged = first;; acknowledged++) {
		demi_qresult_t qr;
		uint32_t i = (uint32_t)(acknowledged - first) % OUTSTANDING;
		EXPECT(demi_wait(&qr, qts[i], NULL) == 0 && qr.qr_opcode == DEMI_OPC_PUSH);
		atomic_store(&shared->acknowledged, acknowledged);
		off_t *oldest = &offsets[acknowledged % KEPT];
		if (acknowledged % 100 == 0 && acknowledged >= first + KEPT) {
			atomic_store(&shared->head, acknowledged - KEPT);
			EXPECT(demi_truncate(&qts[i], qd, *oldest) == 0);
			demi_qresult_t told;
			EXPECT(demi_wait(&told, qts[i], NULL) == 0 && told.qr_ret == 0);
			atomic_store(&shared->head_told, acknowledged - KEPT);
		}
		*oldest = qr.qr_ret;
		atomic_store(&shared->pushed, next);
		qts[i] = numbered_push(qd, next++);
	}
}

static void live(void)
{
	static const struct demi_args args;
	int qd;

	(void)alarm(NUMBERED_WAIT_S);
	EXPECT(demi_set_config("stat_socket", "off") == 0);
	EXPECT(demi_init(&args) == 0);
	if (demi_open(&qd, log_path, O_RDWR | O_CREAT, 0600))
		_exit(NOT_OPENED);
	check(qd);
	atomic_store(&shared->ready, 1);
	append_for_ever(qd);
}

/* ---- the parent ---- */

static pid_t start(void)
{
	atomic_store(&shared->ready, 0);
	(void)fflush(stdout);
	pid_t child = fork();
	assert_return_code(child, errno);
	if (child == 0) {
		live();
		_exit(0);
	}
	return child;
}

static bool still_runs(pid_t child)
{
	int status = 0;
	pid_t ended = waitpid(child, &status, WNOHANG);

	if (ended == child)
		print_message("# the child ended by itself: status %x\n", (unsigned)status);
	return ended == 0;
}

static void wait_until_ready(pid_t child)
{
	for (int i = 0; i < NUMBERED_WAIT_S * 1000 && !atomic_load(&shared->ready); i++) {
		assert_true(still_runs(child));
		usleep(1000);
	}
	assert_true(atomic_load(&shared->ready));
}

/* Until a record of that life was acknowledged. */
static void wait_for_record(pid_t child)
{
	wait_until_ready(child);
	uint64_t before = atomic_load(&shared->acknowledged);
	for (int i = 0; i < NUMBERED_WAIT_S * 1000 && atomic_load(&shared->acknowledged) == before;
	     i++) {
		assert_true(still_runs(child));
		usleep(1000);
	}
	assert_true(atomic_load(&shared->acknowledged) > before);
}

/* may_fail: it may have found no drive to open. */
static void kill_child(pid_t child, bool may_fail)
{
	int status;

	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (may_fail && WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), NOT_OPENED);
	else
		assert_true(WIFSIGNALED(status));
}

static void begin_history(void)
{
	memset(shared, 0, sizeof(*shared));
	atomic_store(&shared->head, 1);
	atomic_store(&shared->head_told, 1);
}

/* Some are killed before they are ready: in recovery. */
static void die_often(uint32_t times, uint64_t seed, struct storage_daemon *daemon)
{
	struct prng prng;

	prng_seed(&prng, seed);
	begin_history();
	for (uint32_t i = 0; i < times; i++) {
		pid_t child = start();
		if (i % 5 == 0)
			wait_for_record(child);
		else if (i % 5 != 4)
			wait_until_ready(child);
		usleep((useconds_t)prng_below(&prng, i % 7 == 6 ? 100000 : 20000));
		if (daemon)
			storage_daemon_kill(daemon);
		kill_child(child, daemon && !atomic_load(&shared->ready));
		if (daemon)
			assert_int_equal(storage_daemon_restart(daemon), 0);
	}
	assert_true(atomic_load(&shared->acknowledged) > 0);
	pid_t last = start();
	wait_until_ready(last);
	kill_child(last, false);
	print_message("# %llu records\n", (unsigned long long)atomic_load(&shared->pushed));
}

static void by_driver(const char *driver)
{
	char directory[] = "/tmp/demi-kill-XXXXXX";
	char path[64];
	uint32_t times = test_number("DEMI_KILLS", test_share(driver[0] == 'u' ? 50 : 15));

	assert_non_null(mkdtemp(directory));
	(void)snprintf(path, sizeof(path), "%s/log", directory);
	log_path = path;
	assert_int_equal(setenv("DEMI_STORAGE_DRIVER", driver, 1), 0);
	die_often(times, test_seed(11), NULL);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

static void test_uring(void **state)
{
	(void)state;
	by_driver("uring");
}

static void test_thread(void **state)
{
	(void)state;
	by_driver("thread");
}

/* ---- power cuts: the drive's cache is in the daemon, and goes with it ---- */

static void write_done(struct blk_request *request)
{
	request->state = 1;
}

static void run(struct blkdev *dev, uint8_t what, void *memory, bool durable)
{
	const struct iovec iov = {.iov_base = memory, .iov_len = 4096};
	struct blk_request request = {.what = what,
				      .durable = durable,
				      .num_iov = 1,
				      .iov = &iov,
				      .offset = 8 << 20,
				      .bytes = 4096,
				      .done = write_done};
	struct blk_request *const requests[] = {&request};
	bool over = false;

	assert_int_equal(dev->ops->submit(dev, requests, 1), 1);
	while (!over) {
		dev->ops->wait(dev);
		over = request.state == 1;
	}
	assert_int_equal(request.err, 0);
}

/* Is a write there after a power cut? */
static bool survives(struct storage_daemon *daemon, bool durable)
{
	static const struct rig_options options = {.step_ns = 1000};
	struct blkdev_place place = {.path = daemon->socket, .flags = O_RDWR};
	struct blkdev *dev;
	struct rig rig;

	assert_int_equal(rig_open(&rig, &options), 0);
	rig.sched.config.storage_driver = 1; /* vhost */
	rig.sched.config.storage_memory_bytes = 16 << 20;
	char *block = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	assert_int_equal(blkdev_open(&rig.sched, &place, &dev), 0);
	memset(block, 'x', 4096);
	run(dev, BLK_WRITE, block, durable);
	storage_daemon_kill(daemon);
	dev->ops->close(dev);
	assert_int_equal(storage_daemon_restart(daemon), 0);
	assert_int_equal(blkdev_open(&rig.sched, &place, &dev), 0);
	run(dev, BLK_READ, block, false);
	dev->ops->close(dev);
	bool there = block[0] == 'x';
	(void)heap_free(rig.sched.heap, block);
	rig_close(&rig);
	return there;
}

static void test_power_cut(void **state)
{
	struct storage_daemon daemon;
	uint32_t times = test_number("DEMI_CUTS", test_share(20));

	(void)state;
	if (storage_daemon_missing())
		skip_because(storage_daemon_missing());
	assert_int_equal(storage_daemon_start(&daemon, 1 << 20, 1), 0);
	assert_int_equal(storage_daemon_cached(&daemon, "256M"), 0);
	assert_false(survives(&daemon, false)); /* else nothing would be tested here */
	assert_true(survives(&daemon, true));
	assert_int_equal(storage_daemon_cached(&daemon, "256M"), 0);
	log_path = "log";
	assert_int_equal(setenv("DEMI_STORAGE_DRIVER", "vhost", 1), 0);
	assert_int_equal(setenv("DEMI_STORAGE_DEVICE", daemon.socket, 1), 0);
	die_often(times, test_seed(12), &daemon);
	assert_int_equal(unsetenv("DEMI_STORAGE_DEVICE"), 0);
	storage_daemon_stop(&daemon);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uring),
		cmocka_unit_test(test_thread),
		cmocka_unit_test(test_power_cut),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	if (setenv("DEMI_STORAGE_SEGMENT_BYTES", "1048576", 1))
		return 1;
	return test_run("kill", tests);
}
