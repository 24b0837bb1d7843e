/* tests/support/storage_daemon.c: see storage_daemon.h. */
#include "support/storage_daemon.h"

#include "support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM  "qemu-storage-daemon"
#define TEXT_MAX 256

const char *storage_daemon_missing(void)
{
	return test_has_program(PROGRAM) ? NULL : PROGRAM " is not installed (qemu-utils)";
}

static struct sockaddr_un name_of(const struct storage_daemon *daemon)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};

	(void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", daemon->socket);
	return name;
}

static int spawn(struct storage_daemon *daemon, int listener)
{
	char file[TEXT_MAX];
	char fault[2 * TEXT_MAX];
	char drive[TEXT_MAX];
	char export[TEXT_MAX];

	(void)snprintf(file, sizeof(file), "driver=file,node-name=plain,filename=%s%s",
		       daemon->file, daemon->options ? daemon->options : "");
	(void)snprintf(fault, sizeof(fault), "driver=%s", daemon->sick ? "blkdebug" : "raw");
	(void)snprintf(fault + strlen(fault), sizeof(fault) - strlen(fault),
		       ",node-name=file,%s=plain%s", daemon->sick ? "image" : "file",
		       daemon->sick ? daemon->sick : "");
	(void)snprintf(export, sizeof(export),
		       "type=vhost-user-blk,id=export,node-name=drive,addr.type=fd,addr.str=%d,"
		       "writable=on,num-queues=%u",
		       listener, daemon->queues);
	(void)snprintf(drive, sizeof(drive), "driver=%s,node-name=drive,file=file",
		       daemon->format ? daemon->format : "raw");
	const char *argv[] = {PROGRAM,      "--blockdev", file,       "--blockdev", fault,
			      "--blockdev", drive,        "--export", export,       NULL};
	pid_t pid = test_spawn(argv, (const int[]){listener, -1});
	if (pid < 0)
		return (int)pid;
	daemon->pid = pid;
	return 0;
}

int storage_daemon_restart(struct storage_daemon *daemon)
{
	const struct sockaddr_un name = name_of(daemon);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err = listener < 0 ? -errno : 0;

	(void)unlink(daemon->socket);
	if (!err &&
	    (bind(listener, (const struct sockaddr *)&name, sizeof(name)) || listen(listener, 4)))
		err = -errno;
	if (!err)
		err = spawn(daemon, listener);
	if (listener >= 0)
		(void)close(listener);
	return err;
}

int storage_daemon_start(struct storage_daemon *daemon, uint64_t bytes, unsigned queues)
{
	*daemon = (struct storage_daemon){.directory = "/tmp/demi-drive-XXXXXX", .queues = queues};
	if (!mkdtemp(daemon->directory)) {
		int err = -errno;
		daemon->directory[0] = '\0';
		return err;
	}
	(void)snprintf(daemon->file, sizeof(daemon->file), "%s/drive", daemon->directory);
	(void)snprintf(daemon->socket, sizeof(daemon->socket), "%s/socket", daemon->directory);
	int fd = open(daemon->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int err = fd < 0 || ftruncate(fd, (off_t)bytes) ? -errno : 0;
	if (fd >= 0)
		(void)close(fd);
	if (!err)
		err = storage_daemon_restart(daemon);
	if (err)
		storage_daemon_stop(daemon);
	return err;
}

int storage_daemon_cached(struct storage_daemon *daemon, const char *size)
{
	const char *const argv[] = {"qemu-img", "create",     "-q", "-f",
				    "qcow2",    daemon->file, size, NULL};
	int status;

	storage_daemon_kill(daemon);
	pid_t pid = test_spawn(argv, (const int[]){-1});
	if (pid < 0)
		return (int)pid;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return -EIO;
	daemon->format = "qcow2";
	return storage_daemon_restart(daemon);
}

int storage_daemon_connect(const struct storage_daemon *daemon)
{
	const struct sockaddr_un name = name_of(daemon);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&name, sizeof(name))) {
		int err = -errno;
		(void)close(fd);
		return err;
	}
	return fd < 0 ? -errno : fd;
}

void storage_daemon_kill(struct storage_daemon *daemon)
{
	if (daemon->pid > 0)
		test_kill(daemon->pid);
	daemon->pid = 0;
}

void storage_daemon_stop(struct storage_daemon *daemon)
{
	char lock[sizeof(daemon->socket) + 8]; /* who used it left it there */

	storage_daemon_kill(daemon);
	if (daemon->directory[0]) {
		(void)unlink(daemon->file);
		(void)unlink(daemon->socket);
		(void)snprintf(lock, sizeof(lock), "%s.lock", daemon->socket);
		(void)unlink(lock);
		(void)rmdir(daemon->directory);
	}
	daemon->directory[0] = '\0';
}
