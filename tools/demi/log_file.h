/* SPDX-License-Identifier: MIT
 * tools/demi/log_file.h - files that a benchmark makes for what is logged: they have no name any
 * more as soon as they are open, so nothing is left of them however the benchmark ends.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LOG_FILE_PATH_MAX 512

/* Where a file is made if nothing is said: in $TMPDIR, or the working directory.  `what` tells
 * those of one process apart. */
void log_file_path(char *path, size_t room, const char *what);

/* Opens a log that is made there, where nothing must be, for both directions; fd_out (or NULL): the
 * file itself too, past the page cache if its filesystem can.  0 or -errno. */
int log_file_queue(const char *path, int *qd_out, int *fd_out);

/* Overwrites bytes at offset by zeros and has them on stable media: whoever writes there later
 * changes data alone, no metadata of the filesystem.  0 or -errno. */
int log_file_zero(int fd, uint64_t offset, uint64_t bytes);

/* A plain file to log in, as whoever has no library would: written, and fdatasync.  Its blocks have
 * been written before, and are again when it is full.  Threads may share one. */
struct plain_log {
	int fd; /* -1: there is none */
	_Atomic uint64_t at;
};

/* Makes it at path (NULL: none), where nothing must be.  0 or -errno. */
int plain_log_open(struct plain_log *log, const char *path);
void plain_log_close(struct plain_log *log);

/* Has the bytes on stable media.  0 (without a log, too) or -errno. */
int plain_log_write(struct plain_log *log, const void *bytes, size_t length);
