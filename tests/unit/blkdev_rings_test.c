/* tests/unit/blkdev_rings_test.c: files by io_uring in an instance that never sleeps: completions
 * that would be polled, as far as a machine has no device for that (lab/guest/blkdev_poll.sh has);
 * and registered memory. */
#include "support/blkdev_body.h"

#include "base/bits.h"
#include "support/child.h"
#include "support/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MIB   ((uint64_t)1 << 20)
#define BYTES (16 * MIB)
#define NEVER 1 /* choice of demitasse.storage.poll */

/* ---- files ---- */

struct file {
	const char *directory;
	bool lies; /* /sys says that its device can be polled */
	char path[64];
};

static void name_file(struct file *file)
{
	(void)snprintf(file->path, sizeof(file->path), "%s/blkdev-XXXXXX", file->directory);
	int fd = mkstemp(file->path);
	assert_true(fd >= 0);
	close(fd);
}

/* From now on a /sys that knows of this device only, and says that it can be polled. */
static void lie(const char *path)
{
	static const char *const words[][2] = {
		{"io_poll", "1"}, {"max_segments", "33"}, {"max_sectors_kb", "512"}};
	char queue[64];
	char word[96];
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	dev_t number = st.st_dev;
	assert_int_equal(mount("none", "/sys", "tmpfs", 0, NULL), 0);
	(void)snprintf(queue, sizeof(queue), "/sys/dev/block/%u:%u/queue", major(number),
		       minor(number));
	for (char *slash = strchr(queue + 5, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		assert_int_equal(mkdir(queue, 0700), 0);
		*slash = '/';
	}
	assert_int_equal(mkdir(queue, 0700), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(words); i++) {
		(void)snprintf(word, sizeof(word), "%s/%s", queue, words[i][0]);
		FILE *file = fopen(word, "we");
		assert_non_null(file);
		assert_true(fputs(words[i][1], file) >= 0);
		assert_int_equal(fclose(file), 0);
	}
}

static void lie_no_more(void)
{
	assert_int_equal(umount2("/sys", MNT_DETACH), 0);
}

static int open_file(const struct file *file, struct sched *sched, struct blkdev **dev_out)
{
	const struct blkdev_place place = {.path = file->path, .flags = O_RDWR};

	if (file->lies)
		lie(file->path);
	int err = blkdev_open(sched, &place, dev_out);
	if (file->lies)
		lie_no_more();
	return err;
}

static int body_open(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	struct file *file = fixture->arg;

	name_file(file);
	int err = open_file(file, sched, dev_out);
	return err ? err : (*dev_out)->ops->grow(*dev_out, BYTES);
}

static int body_reopen(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	(*dev_out)->ops->close(*dev_out);
	return open_file(fixture->arg, sched, dev_out);
}

static void body_end(struct blkdev_fixture *fixture)
{
	const struct file *file = fixture->arg;

	unlink(file->path);
}

/* ---- a test with a file of its own ---- */

static struct rig rig;
static struct file own = {.directory = "/tmp"};

static void begin(void)
{
	assert_int_equal(rig_open(&rig, &(struct rig_options){0}), 0);
	name_file(&own);
}

static void end(void)
{
	unlink(own.path);
	rig_close(&rig);
}

/* ---- polled completions ---- */

/* A device that says that it can be polled, and then, at once or later, refuses it, or does not
 * poll, is served all the same.  An instance that sleeps does not poll. */
static void test_polled(void **state)
{
	static const char *const directories[] = {"/tmp", "/dev/shm"};
	struct blkdev *dev;

	if (*state)
		skip_because(*state);
	begin();
	unlink(own.path);
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	for (int i = 0; i < 8; i++) {
		struct file file = {.directory = directories[i % 2], .lies = true};
		name_file(&file);
		rig.sched.busy = i / 2 != 1;
		rig.sched.config.storage_poll = i / 2 == 2 ? NEVER : 0;
		if (i / 2 == 3)
			assert_int_equal(truncate(file.path, 4096), 0);
		assert_int_equal(open_file(&file, &rig.sched, &dev), 0);
		if (i / 2 == 1 || i / 2 == 2)
			assert_null(strstr(dev->mode, "polled"));
		assert_int_equal(dev->ops->grow(dev, 8192), 0);
		memset(at, 'a' + i, 4096);
		assert_int_equal(blkdev_body_run(dev, BLK_WRITE, 4096, &iov), 0);
		assert_int_equal(blkdev_body_run(dev, BLK_FLUSH, 0, &(struct iovec){0}), 0);
		memset(at, 0, 4096);
		assert_int_equal(blkdev_body_run(dev, BLK_READ, 4096, &iov), 0);
		for (int k = 0; k < 4096; k++)
			assert_int_equal(at[k], 'a' + i);
		dev->ops->close(dev);
		unlink(file.path);
	}
	(void)heap_free(rig.sched.heap, at);
	end();
}

/* ---- registered memory ---- */

/* How many rings of ours have the 2 MiB that ptr is in as a buffer.  -1: the kernel does not
 * say. */
static int registered(const void *ptr)
{
	char wanted[64];
	char line[256];
	bool told = false;
	int count = 0;

	(void)snprintf(wanted, sizeof(wanted), "0x%llx/%llu",
		       (unsigned long long)((uintptr_t)ptr & ~(SUPERBLOCK_BYTES - 1)),
		       (unsigned long long)SUPERBLOCK_BYTES);
	for (int fd = 0; fd < 64; fd++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		FILE *info = fopen(path, "re");
		while (info && fgets(line, sizeof(line), info)) {
			told = told || strncmp(line, "UserBufs:", 9) == 0;
			count += strstr(line, wanted) != NULL;
		}
		if (info)
			(void)fclose(info);
	}
	return told ? count : -1;
}

static void open_own(struct blkdev **dev_out)
{
	test_expect(open_file(&own, &rig.sched, dev_out) == 0);
	test_expect((*dev_out)->ops->grow(*dev_out, MIB) == 0);
}

/* Memory of which something was transferred is registered, until the heap gives it back. */
static void test_registered(void **state)
{
	struct blkdev *dev;

	(void)state;
	begin();
	open_own(&dev);
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 256 * MIB); /* the heap keeps less */
	for (uint64_t i = 0; i < 128; i++) {                            /* it remembers less */
		const struct iovec iov = {.iov_base = at + i * SUPERBLOCK_BYTES, .iov_len = 4096};
		assert_int_equal(blkdev_body_run(dev, i % 2 ? BLK_READ : BLK_WRITE, 0, &iov), 0);
	}
	int count = registered(at);
	/* Across a border of superblocks. */
	const struct iovec iov = {.iov_base = at + SUPERBLOCK_BYTES - 4096, .iov_len = 8192};
	assert_int_equal(blkdev_body_run(dev, BLK_WRITE, 0, &iov), 0);
	(void)heap_free(rig.sched.heap, at);
	int after = registered(at);
	dev->ops->close(dev);
	end();
	if (count < 0)
		skip_because("the kernel does not tell of registered buffers");
	assert_int_equal(count, 1);
	assert_int_equal(after, 0);
}

/* What may be pinned is bounded: it is left to others. */
static void transfer_bounded(void *arg)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	const struct rlimit limit = {8 * MIB, 8 * MIB};
	struct blkdev *dev;

	(void)arg;
	test_expect(syscall(SYS_capget, &header, data) == 0);
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	test_expect(syscall(SYS_capset, &header, data) == 0);
	test_expect(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	test_expect(rig_open(&rig, &(struct rig_options){0}) == 0);
	open_own(&dev);
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	for (int i = 0; i < 4; i++)
		test_expect(blkdev_body_run(dev, i % 2 ? BLK_READ : BLK_WRITE, 0, &iov) == 0);
	test_expect(registered(at) <= 0);
	(void)heap_free(rig.sched.heap, at);
	dev->ops->close(dev);
	rig_close(&rig);
}

static void test_bounded(void **state)
{
	(void)state;
	name_file(&own);
	assert_int_equal(test_child(transfer_bounded, NULL), 0);
	unlink(own.path);
}

/* ---- */

/* So that a /sys of our own is seen by nobody else; why there is none. */
static const char *leave_mounts(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return "privilege: no file systems can be mounted";
	return NULL;
}

#define OWN_TESTS 3

int main(void)
{
	static struct file files[] = {{.directory = "/tmp"}, {.directory = "/tmp", .lies = true}};
	static struct blkdev_fixture fixtures[] = {{.name = "busy"}, {.name = "as if polled"}};
	const char *missing = leave_mounts();
	struct CMUnitTest tests[OWN_TESTS + ARRAY_LENGTH(fixtures) * BLKDEV_BODY_TESTS] = {
		{"test_polled", test_polled, NULL, NULL, (void *)(uintptr_t)missing},
		cmocka_unit_test(test_registered),
		cmocka_unit_test(test_bounded),
	};

	for (size_t i = 0; i < ARRAY_LENGTH(fixtures); i++) {
		fixtures[i].open = body_open;
		fixtures[i].reopen = body_reopen;
		fixtures[i].end = body_end;
		fixtures[i].arg = &files[i];
		fixtures[i].busy = true;
		if (files[i].lies)
			fixtures[i].skip = missing;
		blkdev_body_add(&fixtures[i], tests + OWN_TESTS + i * BLKDEV_BODY_TESTS);
	}
	return test_run("blkdev_rings", tests);
}
