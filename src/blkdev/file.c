/* SPDX-License-Identifier: MIT
 * blkdev/file.c - see file.h.
 */
#include "blkdev/file.h"

#include "blkdev/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define ZEROS_BYTES 65536

static int tell(struct sched *sched, const char *path, const char *what, int err)
{
	log_write(&sched->log, LOG_LEVEL_ERROR, "%s %s: %s", path, what, strerror(-err));
	return err;
}

/* ---- requests ---- */

struct iovec blkdev_file_rest(const struct blk_request *request, uint64_t moved)
{
	const struct iovec *iov = request->iov;

	while (moved >= iov->iov_len)
		moved -= iov++->iov_len;
	return (struct iovec){.iov_base = (char *)iov->iov_base + moved,
			      .iov_len = iov->iov_len - moved};
}

int blkdev_file_error(const struct blk_request *request, int err)
{
	switch (err) {
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		return -ENOSPC;
	case -ENODEV:
	case -ENXIO:
		return -ENODEV;
	case -EOPNOTSUPP: /* to free nothing is allowed */
		return request->what == BLK_DISCARD ? 0 : -EIO;
	default:
		return -EIO;
	}
}

/* Once: all segments at first, then what is left of one after a short transfer.  Bytes or -errno.
 */
static ssize_t move(const struct blkdev_file *file, const struct blk_request *request,
		    uint64_t moved)
{
	struct iovec rest;
	const struct iovec *iov = request->iov;
	int num_iov = (int)request->num_iov;
	off_t offset = (off_t)(request->offset + moved);

	if (moved > 0) {
		rest = blkdev_file_rest(request, moved);
		iov = &rest;
		num_iov = 1;
	}
	ssize_t n = request->what == BLK_READ
			    ? preadv(file->fd, iov, num_iov, offset)
			    : pwritev2(file->fd, iov, num_iov, offset,
				       request->durable && file->dsync ? RWF_DSYNC : 0);
	return n < 0 ? -errno : n;
}

static int move_all(const struct blkdev_file *file, const struct blk_request *request)
{
	uint64_t moved = 0;

	while (moved < request->bytes) {
		ssize_t n = move(file, request, moved);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0) /* somebody made the file shorter */
			return -EIO;
		moved += (uint64_t)n;
	}
	return 0;
}

static int punch(int fd, uint64_t offset, uint64_t bytes)
{
	int err;

	do
		err = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				(off_t)bytes)
			      ? -errno
			      : 0;
	while (err == -EINTR);
	return err;
}

int blkdev_file_run(const struct blkdev_file *file, const struct blk_request *request)
{
	int err;

	if (request->what == BLK_FLUSH)
		err = fdatasync(file->fd) ? -errno : 0;
	else if (request->what == BLK_DISCARD)
		err = request->bytes ? punch(file->fd, request->offset, request->bytes) : 0;
	else
		err = move_all(file, request);
	return err ? blkdev_file_error(request, err) : 0;
}

/* ---- length ---- */

/* A write behind the limit of the process (ulimit -f) would end it, by SIGXFSZ. */
static bool within_limit(uint64_t bytes)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) || bytes <= limit.rlim_cur;
}

/* For file systems that cannot reserve: all of it is written. */
static int write_zeros(int fd, uint64_t offset, uint64_t end)
{
	static const char zeros[ZEROS_BYTES] __attribute__((aligned(BLKDEV_BLOCK_MAX)));

	while (offset < end) {
		uint64_t bytes = end - offset < ZEROS_BYTES ? end - offset : ZEROS_BYTES;
		ssize_t n = pwrite(fd, zeros, bytes, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		offset += (uint64_t)n;
	}
	return 0;
}

static int lengthen(int fd, uint64_t offset, uint64_t end)
{
	int err;

	do
		err = fallocate(fd, 0, (off_t)offset, (off_t)(end - offset)) ? -errno : 0;
	while (err == -EINTR);
	if (err == -EOPNOTSUPP || err == -ENOSYS)
		err = write_zeros(fd, offset, end);
	if (!err && fdatasync(fd))
		err = -errno;
	return err;
}

/* What is behind the last whole block is not the device's, and must not become so. */
int blkdev_file_grow(const struct blkdev_file *file, struct blkdev *dev, uint64_t capacity_bytes)
{
	uint64_t before = dev->capacity_bytes;

	if (capacity_bytes <= before)
		return 0;
	if (!dev->growable || capacity_bytes > INT64_MAX - BLKDEV_BLOCK_MAX)
		return -ENOSPC;
	capacity_bytes = round_up(capacity_bytes, dev->block_bytes);
	if (!within_limit(capacity_bytes))
		return -ENOSPC;
	if (ftruncate(file->fd, (off_t)before))
		return -EIO;
	int err = lengthen(file->fd, before, capacity_bytes);
	if (err) {
		if (ftruncate(file->fd, (off_t)before)) /* it could be made longer in part */
			return -EIO;
		return err == -EFBIG || err == -EDQUOT || err == -ENOSPC ? -ENOSPC : -EIO;
	}
	dev->capacity_bytes = capacity_bytes;
	return 0;
}

/* ---- opening ---- */

static const char *kind_of(mode_t mode)
{
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISSOCK(mode))
		return "a socket";
	if (S_ISFIFO(mode))
		return "a FIFO";
	return "a character device";
}

/* 0: a file or block device; told to the log if not. */
static int check_kind(struct sched *sched, const char *path, mode_t mode)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return 0;
	log_write(&sched->log, LOG_LEVEL_ERROR, "%s is %s, neither a file nor a block device", path,
		  kind_of(mode));
	return S_ISDIR(mode) ? -EISDIR : -EINVAL;
}

/* A file that was made is there after a power cut: its directory says so. */
static int sync_name(int fd, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *directory =
		slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");

	if (!directory)
		return -ENOMEM;
	int dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(directory);
	if (dir_fd < 0)
		return -errno;
	int err = fsync(fd) || fsync(dir_fd) ? -errno : 0;
	close(dir_fd);
	return err;
}

/* A block device that the kernel itself, or another like us, has claimed: who it is shows in the
 * lock, if in anything. */
static int tell_claimed(struct sched *sched, const struct blkdev_place *place)
{
	int fd = open(place->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return tell(sched, place->path, "cannot be opened", -EBUSY);
	if (blkdev_lock(sched, fd, place->path, true) != -EBUSY)
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "%s is in use: mounted, or part of another device", place->path);
	close(fd);
	return -EBUSY;
}

/* The kind is looked at first: to open a FIFO or a terminal may do something.  O_EXCL of a block
 * device: nothing is mounted from it, nor will be. */
static int open_path(struct blkdev_file *file, struct sched *sched,
		     const struct blkdev_place *place)
{
	int flags = place->flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	struct stat st;
	bool is = stat(place->path, &st) == 0;
	int err = is ? check_kind(sched, place->path, st.st_mode) : 0;

	if (err)
		return err;
	if (is && S_ISBLK(st.st_mode) && file->writable)
		flags = (flags & ~O_CREAT) | O_EXCL;
	file->fd = open(place->path, flags, place->mode);
	if (file->fd < 0) {
		if (errno == EBUSY)
			return tell_claimed(sched, place);
		return tell(sched, place->path, "cannot be opened", -errno);
	}
	if (!is && (flags & O_CREAT))
		err = sync_name(file->fd, place->path);
	return err ? tell(sched, place->path, "cannot be made durable", err) : 0;
}

/* One word of /sys/dev/block/MAJOR:MINOR/queue/NAME; of a partition, of its device.  "": unknown.
 */
static void read_queue(dev_t number, const char *name, char *word, size_t word_bytes)
{
	static const char *const ways[] = {"", "../"};
	char path[96];

	word[0] = 0;
	for (int i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(number),
			       minor(number), ways[i], name);
		FILE *queue = fopen(path, "re");
		if (!queue)
			continue;
		if (!fgets(word, (int)word_bytes, queue))
			word[0] = 0;
		(void)fclose(queue);
		return;
	}
}

static int device_geometry(const struct blkdev_file *file, dev_t number, struct blkdev *dev)
{
	int logical = 0;
	unsigned physical = 0;
	char word[32];

	if (ioctl(file->fd, BLKGETSIZE64, &dev->capacity_bytes) ||
	    ioctl(file->fd, BLKSSZGET, &logical) || ioctl(file->fd, BLKPBSZGET, &physical))
		return -errno;
	if (logical > BLKDEV_BLOCK_MAX)
		return -ENOTSUP;
	dev->block_bytes = physical > 512 || logical > 512 ? BLKDEV_BLOCK_MAX : 512;
	dev->memory_align = logical > 512 ? BLKDEV_BLOCK_MAX : 512;
	read_queue(number, "write_cache", word, sizeof(word));
	dev->volatile_cache = strncmp(word, "write through", 13) != 0;
	read_queue(number, "discard_max_bytes", word, sizeof(word));
	dev->discards = word[0] >= '1' && word[0] <= '9' && file->writable;
	return 0;
}

/* A file: data of a write that is done is in the device's cache at best, and what says where it is
 * in memory.  A hole behind the end changes nothing, and tells whether there can be any. */
static void file_geometry(const struct blkdev_file *file, const struct stat *st, struct blkdev *dev)
{
	uint64_t size = (uint64_t)st->st_size;

	dev->capacity_bytes = size;
	dev->block_bytes = BLKDEV_BLOCK_MAX;
	dev->memory_align = BLKDEV_BLOCK_MAX;
	dev->volatile_cache = true;
	dev->growable = file->writable;
	dev->discards = file->writable &&
			punch(file->fd, round_up(size, BLKDEV_BLOCK_MAX), BLKDEV_BLOCK_MAX) == 0;
}

/* What direct transfers ask for; false: there are none.  Before Linux 6.18 the length of each
 * segment must be a multiple of what offsets must be, though its address need not. */
static bool direct_align(int fd, struct blkdev *dev)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) || !(stx.stx_mask & STATX_DIOALIGN))
		return true;
	uint32_t align = stx.stx_dio_mem_align > stx.stx_dio_offset_align
				 ? stx.stx_dio_mem_align
				 : stx.stx_dio_offset_align;
	if (stx.stx_dio_mem_align == 0 || align > dev->block_bytes)
		return false;
	dev->memory_align = align < 512 ? 512 : align;
#else
	(void)fd;
	(void)dev;
#endif
	return true;
}

/* O_DIRECT by fcntl: an open that makes a file and then finds that it cannot be leaves it there. */
static void go_direct(struct blkdev_file *file, struct blkdev *dev)
{
	int flags = fcntl(file->fd, F_GETFL) & ~O_NONBLOCK;

	file->direct =
		direct_align(file->fd, dev) && fcntl(file->fd, F_SETFL, flags | O_DIRECT) == 0;
	if (!file->direct) {
		(void)fcntl(file->fd, F_SETFL, flags);
		dev->memory_align = 1;
		dev->volatile_cache = true; /* that of the kernel */
	}
	(void)snprintf(dev->mode, sizeof(dev->mode), "%s",
		       file->direct ? "O_DIRECT" : "page cache: no O_DIRECT here");
}

static int find_geometry(struct blkdev_file *file, struct blkdev *dev)
{
	struct stat st;
	int err = 0;

	if (fstat(file->fd, &st))
		return -errno;
	dev->file = true;
	dev->file_device = st.st_dev;
	dev->file_inode = st.st_ino;
	file->device = S_ISBLK(st.st_mode);
	if (!file->device && file->writable && !within_limit((uint64_t)st.st_size))
		return -EFBIG;
	if (file->device)
		err = device_geometry(file, st.st_rdev, dev);
	else
		file_geometry(file, &st, dev);
	if (err)
		return err;
	go_direct(file, dev);
	dev->odd_bytes = (uint32_t)(dev->capacity_bytes % dev->block_bytes);
	dev->capacity_bytes -= dev->odd_bytes;
	dev->request_bytes_max = 1 << 20;
	file->dsync = !file->device || dev->volatile_cache;
	return 0;
}

bool blkdev_is_at(const struct blkdev *dev, const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == dev->file_device &&
	       st.st_ino == dev->file_inode;
}

/* ---- polled completions ---- */

#define POLLED_BYTES_MAX ((uint64_t)128 << 10)

static uint64_t queue_number(dev_t number, const char *name)
{
	char word[32];

	read_queue(number, name, word, sizeof(word));
	return strtoull(word, NULL, 10);
}

/* Is it, or that which it is a partition of, made of other devices? */
static bool is_stacked(dev_t number)
{
	static const char *const ways[] = {"", "../"};
	char path[96];
	uint32_t entries = 0;

	for (int i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%sslaves", major(number),
			       minor(number), ways[i]);
		DIR *directory = opendir(path);
		if (!directory)
			continue;
		while (readdir(directory))
			entries++;
		(void)closedir(directory);
		return entries > 2; /* . and .. */
	}
	return false;
}

/* The queue of a file is that of its file system's device.  Linux 6.1 takes a polled request for a
 * queue that cannot be polled, and completes it by an interrupt; and one that has to be cut, at a
 * limit of the device or where it is put together of others, it tries again for ever.  So none may
 * have to be. */
uint64_t blkdev_file_polled_bytes(const struct blkdev_file *file)
{
	struct stat st;

	if (!file->direct || fstat(file->fd, &st))
		return 0;
	dev_t number = file->device ? st.st_rdev : st.st_dev;
	uint64_t pages = queue_number(number, "max_segments");
	uint64_t bytes = queue_number(number, "max_sectors_kb") * 1024;
	if (queue_number(number, "io_poll") == 0 || pages < 2 ||
	    queue_number(number, "chunk_sectors") > 0 || is_stacked(number))
		return 0;
	if (bytes > (pages - 1) * BLKDEV_BLOCK_MAX) /* it may begin in the middle of a page */
		bytes = (pages - 1) * BLKDEV_BLOCK_MAX;
	return bytes < POLLED_BYTES_MAX ? bytes : POLLED_BYTES_MAX;
}

/* ---- */

int blkdev_file_open(struct blkdev_file *file, struct sched *sched,
		     const struct blkdev_place *place, struct blkdev *dev)
{
	*file = (struct blkdev_file){.fd = -1, .writable = (place->flags & O_ACCMODE) != O_RDONLY};
	int err = open_path(file, sched, place);
	if (!err)
		err = blkdev_lock(sched, file->fd, place->path, file->writable);
	if (!err) {
		err = find_geometry(file, dev);
		if (err)
			(void)tell(sched, place->path, "cannot hold logs", err);
	}
	if (err && file->fd >= 0)
		close(file->fd);
	return err;
}

/* Unlocked by name: a ring gives up its copy of the descriptor when it comes to it. */
void blkdev_file_close(struct blkdev_file *file)
{
	(void)flock(file->fd, LOCK_UN);
	close(file->fd);
}
