/* SPDX-License-Identifier: MIT
 * blkdev/lock.c - see lock.h.
 */
#include "blkdev/lock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Is it a line of /proc/locks, "1: FLOCK  ADVISORY  WRITE 4711 fe:00:262155 0 EOF", about that
 * file?  pid_out: the holder, as text inside of it.  One that waits has "->" behind the number. */
static bool parse_line(char *line, const char *file, const char **pid_out)
{
	static const char separators[] = " \n";
	char *words[6];
	char *rest;

	for (int i = 0; i < 6; i++) {
		words[i] = strtok_r(i == 0 ? line : NULL, separators, &rest);
		if (!words[i])
			return false;
	}
	*pid_out = words[4];
	return strcmp(words[1], "FLOCK") == 0 && strcmp(words[5], file) == 0;
}

/* Who holds a lock on the file; false: the kernel does not say. */
static bool find_holder(int fd, char *pid, size_t pid_bytes)
{
	struct stat st;
	char file[64];
	char line[256];
	const char *found;
	bool is = false;

	if (fstat(fd, &st))
		return false;
	(void)snprintf(file, sizeof(file), "%02x:%02x:%lu", major(st.st_dev), minor(st.st_dev),
		       (unsigned long)st.st_ino);
	FILE *locks = fopen("/proc/locks", "re");
	if (!locks)
		return false;
	while (!is && fgets(line, sizeof(line), locks)) {
		is = parse_line(line, file, &found);
		if (is)
			(void)snprintf(pid, pid_bytes, "%s", found);
	}
	(void)fclose(locks);
	return is;
}

static void read_command(const char *pid, char *command, size_t command_bytes)
{
	char path[64];

	(void)snprintf(command, command_bytes, "unknown");
	(void)snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	if (fgets(command, (int)command_bytes, file))
		command[strcspn(command, "\n")] = 0;
	(void)fclose(file);
}

static void tell_holder(struct sched *sched, int fd, const char *path)
{
	char pid[24];
	char command[32];

	if (!find_holder(fd, pid, sizeof(pid))) {
		log_write(&sched->log, LOG_LEVEL_ERROR, "%s is in use by another process", path);
		return;
	}
	read_command(pid, command, sizeof(command));
	log_write(&sched->log, LOG_LEVEL_ERROR, "%s is in use by process %s (%s)%s", path, pid,
		  command, strtol(pid, NULL, 10) == getpid() ? ", this one" : "");
}

static int try_lock(int fd, bool exclusive)
{
	int err;

	do
		err = flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) ? -errno : 0;
	while (err == -EINTR);
	return err;
}

/* Has a process ended, reaped or not? */
static bool has_ended(const char *pid)
{
	char path[64];
	char line[256];

	(void)snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return errno == ENOENT;
	const char *read = fgets(line, sizeof(line), file);
	const char *behind = read ? strrchr(line, ')') : NULL; /* the command */
	(void)fclose(file);
	return behind && (strncmp(behind, ") Z", 3) == 0 || strncmp(behind, ") X", 3) == 0);
}

/* Is the lock that of a process that has ended?  The kernel may still be at work on what it asked
 * for (a ring of io_uring outlives its process), and holds the lock until that is done. */
static bool ending(int fd)
{
	char pid[24];

	if (!find_holder(fd, pid, sizeof(pid)))
		return true; /* it has just gone, or cannot be told: asked again, for a while */
	return has_ended(pid);
}

#define ENDING_MS 5000

int blkdev_lock(struct sched *sched, int fd, const char *path, bool exclusive)
{
	int err = try_lock(fd, exclusive);

	for (int ms = 0; err == -EWOULDBLOCK && ms < ENDING_MS && ending(fd); ms++) {
		(void)usleep(1000);
		err = try_lock(fd, exclusive);
	}
	if (err == -EWOULDBLOCK) {
		tell_holder(sched, fd, path);
		return -EBUSY;
	}
	if (err)
		log_write(&sched->log, LOG_LEVEL_ERROR, "%s cannot be locked: %s", path,
			  strerror(-err));
	return err;
}
