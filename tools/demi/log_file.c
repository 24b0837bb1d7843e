/* SPDX-License-Identifier: MIT
 * tools/demi/log_file.c - files that a benchmark makes for what is logged.
 */
#include "log_file.h"

#include "tool.h"

#include <demi/storage.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ZEROS_BYTES (1U << 20)
#define PLAIN_BYTES (32ULL << 20) /* as much as a log's first segment */

void log_file_path(char *path, size_t room, const char *what)
{
	const char *directory = getenv("TMPDIR");

	snprintf(path, room, "%s/demi-bench-%d-%s.log", directory && *directory ? directory : ".",
		 (int)getpid(), what);
}

static int open_direct(const char *path)
{
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	return fd < 0 && errno == EINVAL ? open(path, O_RDWR | O_CLOEXEC) : fd;
}

int log_file_queue(const char *path, int *qd_out, int *fd_out)
{
	int error = demi_open(qd_out, path, O_RDWR | O_CREAT | O_EXCL, 0600);

	if (error)
		return -error;
	if (fd_out)
		*fd_out = open_direct(path);
	if (fd_out && *fd_out < 0)
		error = errno;
	unlink(path);
	return -error;
}

int log_file_zero(int fd, uint64_t offset, uint64_t bytes)
{
	void *zeros = aligned_alloc(4096, ZEROS_BYTES);
	int error = 0;

	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, ZEROS_BYTES);
	for (uint64_t done = 0; !error && done < bytes; done += ZEROS_BYTES) {
		uint64_t left = bytes - done;
		size_t some = left < ZEROS_BYTES ? (size_t)left : ZEROS_BYTES;
		if (pwrite(fd, zeros, some, (off_t)(offset + done)) != (ssize_t)some)
			error = errno ? -errno : -EIO;
	}
	if (!error && fsync(fd) < 0)
		error = -errno;
	free(zeros);
	return error;
}

int plain_log_open(struct plain_log *log, const char *path)
{
	int error = 0;

	log->fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	log->at = 0;
	if (!path)
		return 0;
	if (log->fd < 0)
		return -errno;
	unlink(path);
	error = -posix_fallocate(log->fd, 0, PLAIN_BYTES);
	if (!error)
		error = log_file_zero(log->fd, 0, PLAIN_BYTES);
	if (error)
		plain_log_close(log);
	return error;
}

void plain_log_close(struct plain_log *log)
{
	if (log->fd >= 0)
		close(log->fd);
	log->fd = -1;
}

int plain_log_write(struct plain_log *log, const void *bytes, size_t length)
{
	if (log->fd < 0)
		return 0;
	uint64_t at = atomic_fetch_add(&log->at, length) % (PLAIN_BYTES - length);
	if (pwrite(log->fd, bytes, length, (off_t)at) != (ssize_t)length)
		return errno ? -errno : -EIO;
	return fdatasync(log->fd) < 0 ? -errno : 0;
}
