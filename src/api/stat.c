/* SPDX-License-Identifier: MIT */
#include "api/stat.h"

#include "api/instance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INSTANCES_MAX 1024 /* sockets that one process tries before it gives up */

/* ---- the place ---- */

static bool make_directory(const char *path)
{
	struct stat status;

	if (mkdir(path, 0700) && errno != EEXIST)
		return false;
	return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == getuid();
}

/* The directory of the sockets, made if need be.  false: there is no safe place. */
static bool find_directory(char *out, size_t room)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char user[64];

	if (!runtime || !*runtime) {
		(void)snprintf(user, sizeof(user), "/run/user/%u", (unsigned)getuid());
		runtime = access(user, W_OK) == 0 ? user : NULL;
	}
	int n = runtime ? snprintf(out, room, "%s/demitasse", runtime)
			: snprintf(out, room, "/tmp/demitasse-%u", (unsigned)getuid());
	return n > 0 && (size_t)n < room && make_directory(out);
}

static bool nobody_listens(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return false;
	bool refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) &&
		       errno == ECONNREFUSED;
	close(fd);
	return refused;
}

/* Binds to the first free N; a socket file left by an earlier process of the same number is
 * removed. */
static bool bind_free(struct stat_server *stat, int fd, const char *directory)
{
	mode_t mask = umask(0177);
	bool bound = false;

	for (stat->index = 0; stat->index < INSTANCES_MAX && !bound; stat->index++) {
		stat->address = (struct sockaddr_un){.sun_family = AF_UNIX};
		int n = snprintf(stat->address.sun_path, sizeof(stat->address.sun_path),
				 "%s/%d-%u.sock", directory, (int)getpid(), stat->index);
		if (n < 0 || (size_t)n >= sizeof(stat->address.sun_path))
			break;
		if (access(stat->address.sun_path, F_OK) == 0 && nobody_listens(&stat->address))
			unlink(stat->address.sun_path);
		bound = bind(fd, (struct sockaddr *)&stat->address, sizeof(stat->address)) == 0;
		if (bound || errno != EADDRINUSE)
			break;
	}
	umask(mask);
	return bound;
}

/* ---- serving ---- */

static void end_connection(struct stat_server *stat)
{
	struct fdset *fds = &stat->demi->sched.fds;

	fdset_remove(fds, &stat->connection);
	if (stat->connection.fd >= 0)
		close(stat->connection.fd);
	stat->connection.fd = -1;
	free(stat->text);
	stat->text = NULL;
}

static void send_event(struct fd_watch *watch, uint32_t events)
{
	struct stat_server *stat = container_of(watch, struct stat_server, connection);

	(void)events;
	ssize_t n = send(watch->fd, stat->text + stat->text_sent,
			 stat->text_bytes - stat->text_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		stat->text_sent += (size_t)n;
	if (n <= 0 || stat->text_sent == stat->text_bytes)
		end_connection(stat);
}

static void accept_event(struct fd_watch *watch, uint32_t events)
{
	struct stat_server *stat = container_of(watch, struct stat_server, listener);

	(void)events;
	if (stat->connection.fd >= 0)
		return; /* level-triggered: the next one's turn comes */
	int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	stat->connection = (struct fd_watch){.fd = fd, .lazy = true, .fn = send_event};
	stat->text_sent = 0;
	stat->text = stat_document(stat->demi, stat->index, &stat->text_bytes);
	if (!stat->text || fdset_add(&stat->demi->sched.fds, &stat->connection, EPOLLOUT))
		end_connection(stat);
}

/* ---- life ---- */

static bool listen_at(struct stat_server *stat)
{
	char directory[sizeof(stat->address.sun_path)];

	if (!find_directory(directory, sizeof(directory)))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	stat->listener = (struct fd_watch){.fd = fd, .lazy = true, .fn = accept_event};
	if (bind_free(stat, fd, directory)) {
		if (listen(fd, 8) == 0 &&
		    fdset_add(&stat->demi->sched.fds, &stat->listener, EPOLLIN) == 0)
			return true;
		unlink(stat->address.sun_path);
	}
	close(fd);
	stat->listener.fd = -1;
	return false;
}

void stat_open(struct stat_server *stat, struct demi *demi)
{
	*stat = (struct stat_server){
		.demi = demi, .listener = {.fd = -1}, .connection = {.fd = -1}};
	if (demi->sched.config.stat_socket && !listen_at(stat))
		log_write(
			&demi->sched.log, LOG_LEVEL_INFO,
			"no socket for demi stat: no directory to put it in (set XDG_RUNTIME_DIR)");
}

void stat_close(struct stat_server *stat)
{
	end_connection(stat);
	if (stat->listener.fd < 0)
		return;
	fdset_remove(&stat->demi->sched.fds, &stat->listener);
	unlink(stat->address.sun_path);
	close(stat->listener.fd);
}
