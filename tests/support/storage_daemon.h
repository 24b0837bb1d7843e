/* tests/support/storage_daemon.h: qemu-storage-daemon, which exports a drive by vhost-user-blk: a
 * virtio block device in memory shared with whoever connects to a Unix socket. The drive is a file
 * in a directory made for it.
 *
 * The daemon is a process; it ends with storage_daemon_stop, or with the test however that ends
 * (the directory then stays in /tmp).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct storage_daemon {
	pid_t pid;          /* 0: not running */
	char directory[32]; /* of its own */
	char file[64];      /* what the drive holds */
	char socket[64];    /* where it is exported */
	unsigned queues;
	/* For the next start by storage_daemon_restart. */
	const char *sick;   /* options of QEMU's blkdebug, from ",inject-error..." on; NULL: none */
	const char *format; /* what the file is; NULL: raw */
	const char *options; /* further ones of the file, from "," on; NULL: none */
};

/* storage_daemon_missing: why there can be none here; NULL: there can. */
const char *storage_daemon_missing(void);

/* storage_daemon_start: a drive of so many bytes (a multiple of 512), all zero, with so many
 * request queues. One may connect when it returns: what is sent then waits until the daemon is
 * ready. 0 or -errno; a daemon that ends at once says why on the standard error stream and closes
 * what was connected. */
int storage_daemon_start(struct storage_daemon *daemon, uint64_t bytes, unsigned queues);

/* storage_daemon_kill: ends the process by SIGKILL; the drive stays. Then storage_daemon_restart
 * exports it at the same place again: 0 or -errno. */
void storage_daemon_kill(struct storage_daemon *daemon);
int storage_daemon_restart(struct storage_daemon *daemon);

/* storage_daemon_cached: begins anew with a drive of that size ("64M") that has a volatile cache:
 * where the daemon keeps what was written for the first time, it tells the file when it is flushed
 * (qcow2), and a daemon that is killed has not. 0 or -errno. */
int storage_daemon_cached(struct storage_daemon *daemon, const char *size);

/* storage_daemon_connect: a connected stream socket, or -errno. */
int storage_daemon_connect(const struct storage_daemon *daemon);

/* storage_daemon_stop: ends the process and removes the directory; harmless after a failed start.
 */
void storage_daemon_stop(struct storage_daemon *daemon);
