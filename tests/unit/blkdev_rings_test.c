/* tests/unit/blkdev_rings_test.c: files by io_uring, with what it may do by a second ring, or for
 * memory that it knows: polled completions, as far as a machine has none, and registered buffers.
 */
#include "support/blkdev_body.h"

#include "base/bits.h"
#include "support/child.h"
#include "support/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
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

static void done(struct blk_request *request)
{
	request->state = 0;
	request->done = NULL;
}

static int run(struct blkdev *dev, enum blk_what what, uint64_t offset, const struct iovec *iov)
{
	struct blk_request request = {.what = (uint8_t)what,
				      .durable = true,
				      .num_iov = 1,
				      .iov = iov,
				      .offset = offset,
				      .bytes = iov->iov_len,
				      .done = done};
	struct blk_request *one = &request;

	assert_int_equal(dev->ops->submit(dev, &one, 1), 1);
	while (request.done)
		dev->ops->wait(dev);
	return request.err;
}

/* ---- polled completions ---- */

/* A device that says that it can be polled, and then, at once or later, refuses it (as Linux does
 * since 6.13), or does not poll, is served all the same.  An instance that sleeps does not poll. */
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
		assert_int_equal(run(dev, BLK_WRITE, 4096, &iov), 0);
		assert_int_equal(run(dev, BLK_FLUSH, 0, &(struct iovec){0}), 0);
		memset(at, 0, 4096);
		assert_int_equal(run(dev, BLK_READ, 4096, &iov), 0);
		for (int k = 0; k < 4096; k++)
			assert_int_equal(at[k], 'a' + i);
		dev->ops->close(dev);
		unlink(file.path);
	}
	(void)heap_free(rig.sched.heap, at);
	end();
}

/* ---- */

/* So that a /sys of our own is seen by nobody else; why there is none. */
static const char *leave_mounts(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return "privilege: no file systems can be mounted";
	return NULL;
}

#define OWN_TESTS 1

int main(void)
{
	static struct file files[] = {{.directory = "/tmp"}, {.directory = "/tmp", .lies = true}};
	static struct blkdev_fixture fixtures[] = {{.name = "busy"}, {.name = "as if polled"}};
	const char *missing = leave_mounts();
	struct CMUnitTest tests[OWN_TESTS + ARRAY_LENGTH(fixtures) * BLKDEV_BODY_TESTS] = {
		{"test_polled", test_polled, NULL, NULL, (void *)(uintptr_t)missing},
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
