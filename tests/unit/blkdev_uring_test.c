/* tests/unit/blkdev_uring_test.c: files and block devices, by io_uring and by a thread. */
#include "support/blkdev_body.h"

#include "base/bits.h"
#include "support/child.h"
#include "support/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB    ((uint64_t)1 << 20)
#define BYTES  (16 * MIB)
#define URING  0 /* choices of demitasse.storage.driver */
#define THREAD 5

/* ---- places ---- */

struct file {
	const char *directory;
	int driver;
	bool loop;            /* a loop device over the file */
	uint32_t block_bytes; /* of it; 0: 512 */
	char path[64];
	char device[32];
	int loop_fd; /* keeps the loop device */
};

/* What was logged last. */
static char logged[LOG_MESSAGE_MAX + 1];

static void keep_log(void *arg, int level, const char *message)
{
	(void)arg;
	(void)level;
	(void)snprintf(logged, sizeof(logged), "%s", message);
}

static int open_at(struct sched *sched, int driver, const char *path, int flags,
		   struct blkdev **dev_out)
{
	const struct blkdev_place place = {.path = path, .flags = flags, .mode = 0600};

	sched->config.storage_driver = driver;
	return blkdev_open(sched, &place, dev_out);
}

static void name_file(struct file *file)
{
	(void)snprintf(file->path, sizeof(file->path), "%s/blkdev-XXXXXX", file->directory);
	int fd = mkstemp(file->path);
	assert_true(fd >= 0);
	close(fd);
}

/* A loop device over the file; why there is none. */
static const char *attach(struct file *file)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	const char *missing = NULL;

	if (control < 0)
		return "privilege: no loop devices";
	int number = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	if (number < 0)
		return "no free loop device";
	(void)snprintf(file->device, sizeof(file->device), "/dev/loop%d", number);
	file->loop_fd = open(file->device, O_RDWR | O_CLOEXEC);
	if (file->loop_fd < 0)
		return "privilege: loop devices cannot be opened";
	struct loop_config config = {
		.fd = (uint32_t)open(file->path, O_RDWR | O_DIRECT | O_CLOEXEC),
		.block_size = file->block_bytes,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO};
	if (ioctl(file->loop_fd, LOOP_CONFIGURE, &config)) {
		missing = "a loop device cannot be set up";
		close(file->loop_fd);
	}
	close((int)config.fd);
	return missing;
}

static int file_open(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	struct file *file = fixture->arg;

	name_file(file);
	if (file->loop) {
		assert_int_equal(truncate(file->path, (off_t)BYTES), 0);
		assert_null(attach(file));
		return open_at(sched, file->driver, file->device, O_RDWR, dev_out);
	}
	int err = open_at(sched, file->driver, file->path, O_RDWR, dev_out);
	return err ? err : (*dev_out)->ops->grow(*dev_out, BYTES);
}

static int file_reopen(struct blkdev_fixture *fixture, struct sched *sched, struct blkdev **dev_out)
{
	struct file *file = fixture->arg;

	(*dev_out)->ops->close(*dev_out);
	return open_at(sched, file->driver, file->loop ? file->device : file->path, O_RDWR,
		       dev_out);
}

static void file_end(struct blkdev_fixture *fixture)
{
	struct file *file = fixture->arg;

	if (file->loop) {
		(void)ioctl(file->loop_fd, LOOP_CLR_FD);
		close(file->loop_fd);
	}
	unlink(file->path);
}

/* Somebody makes the file shorter: reads find its end. */
static int file_fail(struct blkdev_fixture *fixture, struct blkdev *dev, bool reads,
		     uint64_t offset)
{
	const struct file *file = fixture->arg;

	(void)dev;
	if (!reads || file->loop)
		return -ENOTSUP;
	return truncate(file->path, (off_t)offset) ? -errno : 0;
}

/* ---- file systems ---- */

static char ramfs[] = "/tmp/blkdev-ramfs-XXXXXX"; /* neither direct nor reserved */
static char small[] = "/tmp/blkdev-small-XXXXXX"; /* of 4 MiB */

/* In a namespace of our own, so that they go with us; why there are none. */
static const char *mount_all(void)
{
	if (!mkdtemp(ramfs) || !mkdtemp(small))
		return "no directories in /tmp";
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("ramfs", ramfs, "ramfs", 0, NULL) || mount("tmpfs", small, "tmpfs", 0, "size=4M"))
		return "privilege: no file systems can be mounted";
	return NULL;
}

static void unmount_all(void)
{
	(void)umount2(ramfs, MNT_DETACH);
	(void)umount2(small, MNT_DETACH);
	(void)rmdir(ramfs);
	(void)rmdir(small);
}

/* ---- a test with a file of its own ---- */

static struct rig rig;
static struct file own = {.directory = "/tmp"};

static void begin(void)
{
	assert_int_equal(rig_open(&rig, &(struct rig_options){0}), 0);
	rig.sched.log.fn = keep_log;
	logged[0] = 0;
	name_file(&own);
}

static void end(void)
{
	unlink(own.path);
	rig_close(&rig);
}

static const int drivers[] = {URING, THREAD};

/* What is no place for blocks is refused, by its kind, and left alone. */
static void test_kinds(void **state)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct blkdev *dev;

	(void)state;
	begin();
	unlink(own.path);
	memcpy(name.sun_path, own.path, strlen(own.path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i], "/tmp", O_RDWR, &dev), -EISDIR);
		assert_non_null(strstr(logged, "/tmp is a directory"));
		assert_int_equal(open_at(&rig.sched, drivers[i], "/dev/null", O_RDWR, &dev),
				 -EINVAL);
		assert_non_null(strstr(logged, "/dev/null is a character device"));
		assert_int_equal(mkfifo(own.path, 0600), 0);
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDONLY, &dev),
				 -EINVAL);
		assert_non_null(strstr(logged, "is a FIFO"));
		unlink(own.path);
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDWR, &dev), -ENOENT);
		assert_non_null(strstr(logged, own.path));
	}
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(open_at(&rig.sched, URING, own.path, O_RDWR, &dev), -EINVAL);
	assert_non_null(strstr(logged, "is a socket"));
	close(fd);
	end();
}

/* A file is made with its mode, once if O_EXCL says so, and is empty until it grows. */
static void test_create(void **state)
{
	struct blkdev *dev;
	struct stat st;

	(void)state;
	begin();
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		unlink(own.path);
		assert_int_equal(
			open_at(&rig.sched, drivers[i], own.path, O_RDWR | O_CREAT | O_EXCL, &dev),
			0);
		assert_int_equal(dev->capacity_bytes, 0);
		assert_int_equal(dev->ops->grow(dev, 10000), 0);
		assert_int_equal(dev->capacity_bytes, 12288);
		dev->ops->close(dev);
		assert_int_equal(stat(own.path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(st.st_size, 12288);
		assert_true(st.st_blocks * 512 >= 12288);
		assert_int_equal(
			open_at(&rig.sched, drivers[i], own.path, O_RDWR | O_CREAT | O_EXCL, &dev),
			-EEXIST);
	}
	end();
}

/* Bytes behind the last whole block are not the device's; what grows there reads as zeros. */
static void test_odd_end(void **state)
{
	struct blkdev *dev;

	(void)state;
	begin();
	int fd = open(own.path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "rest", 4, 8192), 4);
	close(fd);
	assert_int_equal(open_at(&rig.sched, URING, own.path, O_RDWR, &dev), 0);
	assert_int_equal(dev->capacity_bytes, 8192);
	assert_int_equal(dev->ops->grow(dev, 12288), 0);
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	memset(at, 1, 4096);
	assert_int_equal(blkdev_body_run(dev, BLK_READ, 8192, &iov), 0);
	for (int i = 0; i < 4096; i++)
		assert_int_equal(at[i], 0);
	(void)heap_free(rig.sched.heap, at);
	dev->ops->close(dev);
	end();
}

/* Readers share; they cannot write, grow or discard. */
static void test_read_only(void **state)
{
	struct blkdev *one;
	struct blkdev *two;
	struct blkdev *dev;

	(void)state;
	begin();
	assert_int_equal(truncate(own.path, 8192), 0);
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDONLY, &one), 0);
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDONLY, &two), 0);
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDWR, &dev), -EBUSY);
		assert_non_null(strstr(logged, "this one"));
		assert_int_equal(blkdev_body_run(one, BLK_READ, 0, &iov), 0);
		assert_int_equal(blkdev_body_run(two, BLK_READ, 4096, &iov), 0);
		assert_int_equal(blkdev_body_run(one, BLK_WRITE, 0, &iov), -EIO);
		assert_false(one->growable);
		assert_false(one->discards);
		assert_int_equal(one->ops->grow(one, 16384), -ENOSPC);
		one->ops->close(one);
		two->ops->close(two);
	}
	(void)heap_free(rig.sched.heap, at);
	end();
}

/* Another process holds it: its pid and command are told. */
static void test_lock(void **state)
{
	int ready[2];
	char holder[64];
	struct blkdev *dev;

	(void)state;
	begin();
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int fd = open(own.path, O_RDWR);
		prctl(PR_SET_NAME, "holder");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (flock(fd, LOCK_EX) || write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], holder, 1), 1);
	(void)snprintf(holder, sizeof(holder), "process %d (holder)", (int)pid);
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDWR, &dev), -EBUSY);
		assert_non_null(strstr(logged, holder));
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 50; i++) { /* closed is free, at once */
		assert_int_equal(open_at(&rig.sched, drivers[i % 2], own.path, O_RDWR, &dev), 0);
		assert_int_equal(dev->ops->grow(dev, 4096), 0);
		dev->ops->close(dev);
	}
	close(ready[0]);
	close(ready[1]);
	end();
}

/* A file that may not grow, here by RLIMIT_FSIZE: -ENOSPC, and it is as long as before. */
static void test_no_space(void **state)
{
	struct rlimit before;
	struct blkdev *dev;

	(void)state;
	begin();
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	struct rlimit limit = {.rlim_cur = MIB, .rlim_max = before.rlim_max};
	void (*action)(int) = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDWR, &dev), 0);
		assert_int_equal(dev->ops->grow(dev, MIB), 0);
		assert_int_equal(dev->ops->grow(dev, 2 * MIB), -ENOSPC);
		assert_int_equal(dev->capacity_bytes, MIB);
		assert_int_equal(dev->ops->grow(dev, UINT64_MAX), -ENOSPC);
		dev->ops->close(dev);
	}
	limit.rlim_cur = MIB / 2;
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDWR, &dev), 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
		assert_int_equal(blkdev_body_run(dev, BLK_WRITE, MIB / 2, &iov), -ENOSPC);
		assert_int_equal(blkdev_body_run(dev, BLK_WRITE, 0, &iov), 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		dev->ops->close(dev);
	}
	(void)heap_free(rig.sched.heap, at);
	signal(SIGXFSZ, action);
	end();
}

/* A file system that gets full while a file is made longer: what it had is there. */
static void test_full(void **state)
{
	struct file full = {.directory = small};
	struct blkdev *dev;
	struct stat st;

	if (*state)
		skip_because(*state);
	begin();
	name_file(&full);
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i], full.path, O_RDWR, &dev), 0);
		assert_int_equal(dev->ops->grow(dev, 2 * MIB), 0);
		memset(at, 'a', 4096);
		assert_int_equal(blkdev_body_run(dev, BLK_WRITE, 2 * MIB - 4096, &iov), 0);
		assert_int_equal(dev->ops->grow(dev, 16 * MIB), -ENOSPC);
		assert_int_equal(dev->capacity_bytes, 2 * MIB);
		assert_int_equal(stat(full.path, &st), 0);
		assert_int_equal(st.st_size, 2 * MIB);
		memset(at, 0, 4096);
		assert_int_equal(blkdev_body_run(dev, BLK_READ, 2 * MIB - 4096, &iov), 0);
		assert_int_equal(at[4095], 'a');
		assert_int_equal(dev->ops->grow(dev, 3 * MIB), 0);
		assert_int_equal(truncate(full.path, 0), 0);
		dev->ops->close(dev);
	}
	unlink(full.path);
	(void)heap_free(rig.sched.heap, at);
	end();
}

/* Where there is no O_DIRECT it says so, and memory may lie anywhere. */
static void test_no_direct(void **state)
{
	struct file file = {.directory = ramfs};
	struct blkdev *dev;

	if (*state)
		skip_because(*state);
	begin();
	name_file(&file);
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i], file.path, O_RDWR, &dev), 0);
		assert_non_null(strstr(dev->mode, "no O_DIRECT"));
		assert_int_equal(dev->memory_align, 1);
		assert_false(dev->discards);
		dev->ops->close(dev);
	}
	unlink(file.path);
	end();
}

/* A block device is one's alone, too. */
static void test_device_lock(void **state)
{
	struct file loop = {.directory = "/tmp", .loop = true};
	struct blkdev *dev;
	struct blkdev *other;

	if (*state)
		skip_because(*state);
	begin();
	name_file(&loop);
	assert_int_equal(truncate(loop.path, (off_t)MIB), 0);
	assert_null(attach(&loop));
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i], loop.device, O_RDWR, &dev), 0);
		assert_int_equal(open_at(&rig.sched, drivers[i], loop.device, O_RDWR, &other),
				 -EBUSY);
		assert_non_null(strstr(logged, "this one"));
		assert_int_equal(open_at(&rig.sched, drivers[i], loop.device, O_RDONLY, &other),
				 -EBUSY);
		assert_non_null(strstr(logged, "this one"));
		dev->ops->close(dev);
	}
	int fd = open(loop.device, O_RDWR | O_EXCL | O_CLOEXEC); /* as a mount does */
	assert_true(fd >= 0);
	assert_int_equal(open_at(&rig.sched, URING, loop.device, O_RDWR, &other), -EBUSY);
	assert_non_null(strstr(logged, "mounted"));
	close(fd);
	(void)ioctl(loop.loop_fd, LOOP_CLR_FD);
	close(loop.loop_fd);
	unlink(loop.path);
	end();
}

/* Made shorter by somebody in the middle of a read: what is there comes, then the end: -EIO. */
static void test_short(void **state)
{
	struct blkdev *dev;

	(void)state;
	begin();
	assert_int_equal(truncate(own.path, (off_t)MIB), 0);
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, MIB);
	const struct iovec iov = {.iov_base = at, .iov_len = MIB};
	for (size_t i = 0; i < ARRAY_LENGTH(drivers); i++) {
		assert_int_equal(truncate(own.path, (off_t)MIB), 0);
		assert_int_equal(open_at(&rig.sched, drivers[i], own.path, O_RDWR, &dev), 0);
		assert_int_equal(blkdev_body_run(dev, BLK_READ, 0, &iov), 0);
		assert_int_equal(truncate(own.path, (off_t)MIB / 2), 0);
		assert_int_equal(blkdev_body_run(dev, BLK_READ, 0, &iov), -EIO);
		assert_int_equal(truncate(own.path, 0), 0);
		assert_int_equal(blkdev_body_run(dev, BLK_READ, 0, &iov), -EIO);
		dev->ops->close(dev);
	}
	(void)heap_free(rig.sched.heap, at);
	end();
}

/* From now on io_uring_setup is refused, as in containers. */
static void bar_io_uring(uint32_t err)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = ARRAY_LENGTH(filter), .filter = filter};

	test_expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	test_expect(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void open_barred(void *arg)
{
	const uint32_t *err = arg;
	struct blkdev *dev;

	bar_io_uring(*err);
	test_expect(rig_open(&rig, &(struct rig_options){0}) == 0);
	rig.sched.log.fn = keep_log;
	test_expect(open_at(&rig.sched, URING, own.path, O_RDWR, &dev) == 0);
	test_expect(strcmp(dev->ops->name, "thread") == 0);
	test_expect(strstr(logged, "seccomp") != NULL || strstr(logged, "sysctl") != NULL ||
		    strstr(logged, "ulimit -l") != NULL);
	test_expect(dev->ops->grow(dev, MIB) == 0);
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	test_expect(blkdev_body_run(dev, BLK_WRITE, 0, &iov) == 0);
	(void)heap_free(rig.sched.heap, at);
	dev->ops->close(dev);
	rig_close(&rig);
}

static void test_barred(void **state)
{
	uint32_t errors[] = {EPERM, ENOSYS, ENOMEM};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(errors); i++) {
		name_file(&own);
		assert_int_equal(test_child(open_barred, &errors[i]), 0);
		unlink(own.path);
	}
}

/* ---- an instance that another thread enters ---- */

static struct blkdev *handed;
static struct blk_request *handed_request;

static void *enter(void *arg)
{
	(void)arg;
	assert_int_equal(handed->ops->submit(handed, &handed_request, 1), 1);
	return NULL;
}

static void *finish_there(void *arg)
{
	(void)arg;
	while (handed_request->done)
		handed->ops->wait(handed);
	return NULL;
}

static void in_thread(void *(*fn)(void *arg))
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, fn, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Submitted by a thread that ends, completed by another. */
static void test_other_thread(void **state)
{
	(void)state;
	begin();
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	struct blk_request request;
	handed_request = &request;
	for (int i = 0; i < 40; i++) {
		assert_int_equal(open_at(&rig.sched, drivers[i % 2], own.path, O_RDWR, &handed), 0);
		assert_int_equal(handed->ops->grow(handed, MIB), 0);
		request = (struct blk_request){.what = i % 4 < 2 ? BLK_WRITE : BLK_FLUSH,
					       .durable = true,
					       .num_iov = i % 4 < 2,
					       .iov = &iov,
					       .bytes = i % 4 < 2 ? 4096 : 0,
					       .done = blkdev_body_done};
		if (i % 8 < 4) {
			in_thread(enter);
			(void)finish_there(NULL);
		} else {
			(void)enter(NULL);
			in_thread(finish_there);
		}
		assert_int_equal(request.err, 0);
		handed->ops->close(handed);
	}
	(void)heap_free(rig.sched.heap, at);
	end();
}

static _Atomic bool submitted;
static _Atomic bool may_end;

static void *enter_and_spin(void *arg)
{
	(void)enter(arg);
	atomic_store(&submitted, true);
	while (!atomic_load(&may_end))
		;
	return NULL;
}

/* Submitted by a thread that goes on without a system call, completed by another, which polls or
 * waits. */
static void test_busy_thread(void **state)
{
	pthread_t thread;

	(void)state;
	begin();
	char *at = heap_alloc_aligned(rig.sched.heap, 4096, 4096);
	const struct iovec iov = {.iov_base = at, .iov_len = 4096};
	struct blk_request request;
	handed_request = &request;
	assert_int_equal(open_at(&rig.sched, URING, own.path, O_RDWR, &handed), 0);
	assert_int_equal(handed->ops->grow(handed, MIB), 0);
	for (int i = 0; i < 20; i++) {
		submitted = may_end = false;
		request = (struct blk_request){.what = i % 2 ? BLK_WRITE : BLK_READ,
					       .num_iov = 1,
					       .iov = &iov,
					       .bytes = 4096,
					       .done = blkdev_body_done};
		assert_int_equal(pthread_create(&thread, NULL, enter_and_spin, NULL), 0);
		while (!atomic_load(&submitted))
			sched_yield();
		if (i % 4 < 2)
			(void)finish_there(NULL);
		while (request.done)
			(void)handed->ops->poll(handed);
		may_end = true;
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(request.err, 0);
	}
	handed->ops->close(handed);
	(void)heap_free(rig.sched.heap, at);
	end();
}

/* ---- */

static const char *loop_missing(void)
{
	struct file file = {.directory = "/tmp", .loop = true};

	name_file(&file);
	(void)truncate(file.path, (off_t)MIB);
	const char *missing = attach(&file);
	if (!missing) {
		(void)ioctl(file.loop_fd, LOOP_CLR_FD);
		close(file.loop_fd);
	}
	unlink(file.path);
	return missing;
}

#define OWN_TESTS 13

int main(void)
{
	static struct file files[] = {
		{.directory = "/tmp", .driver = URING},
		{.directory = "/dev/shm", .driver = URING},
		{.directory = ramfs, .driver = URING},
		{.directory = "/tmp", .driver = URING, .loop = true},
		{.directory = "/tmp", .driver = THREAD},
		{.directory = ramfs, .driver = THREAD},
		{.directory = "/tmp", .driver = THREAD, .loop = true, .block_bytes = 4096},
	};
	static struct blkdev_fixture fixtures[] = {
		{.name = "uring, file"},
		{.name = "uring, tmpfs"},
		{.name = "uring, ramfs"},
		{.name = "uring, loop"},
		{.name = "thread, file"},
		{.name = "thread, ramfs"},
		{.name = "thread, loop of 4 KiB blocks"},
	};
	const char *unmounted = mount_all();
	const char *unlooped = loop_missing();
	struct CMUnitTest tests[OWN_TESTS + ARRAY_LENGTH(fixtures) * BLKDEV_BODY_TESTS] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_odd_end),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_no_space),
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_barred),
		cmocka_unit_test(test_other_thread),
		cmocka_unit_test(test_busy_thread),
		{"test_full", test_full, NULL, NULL, (void *)(uintptr_t)unmounted},
		{"test_no_direct", test_no_direct, NULL, NULL, (void *)(uintptr_t)unmounted},
		{"test_device_lock", test_device_lock, NULL, NULL, (void *)(uintptr_t)unlooped},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(fixtures); i++) {
		fixtures[i].open = file_open;
		fixtures[i].reopen = file_reopen;
		fixtures[i].end = file_end;
		fixtures[i].fail = file_fail;
		fixtures[i].arg = &files[i];
		if (files[i].loop)
			fixtures[i].skip = unlooped;
		if (files[i].directory == ramfs)
			fixtures[i].skip = unmounted;
		blkdev_body_add(&fixtures[i], tests + OWN_TESTS + i * BLKDEV_BODY_TESTS);
	}
	int failed = test_run("blkdev_uring", tests);
	unmount_all();
	return failed;
}
