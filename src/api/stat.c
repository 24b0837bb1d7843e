/* SPDX-License-Identifier: MIT */
#include "api/stat.h"

#include "api/instance.h"
#include "sched/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define INSTANCES_MAX 1024 /* sockets that one process tries before it gives up */
#define PATIENCE_NS   100000000

/* ---- the place ---- */

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

/* ---- answers ---- */

static struct sched *sched_of(struct stat_server *stat)
{
	return &stat->demi->sched;
}

/* Forgets the connection; whether it is closed is the caller's affair. */
static void leave_connection(struct stat_server *stat)
{
	timer_cancel(&sched_of(stat)->timers, &stat->patience);
	fdset_remove(&sched_of(stat)->fds, &stat->connection);
	if (stat->request_fd >= 0)
		close(stat->request_fd);
	stat->request_fd = -1;
	stat->connection.fd = -1;
	free(stat->text);
	stat->text = NULL;
}

static void end_connection(struct stat_server *stat)
{
	int fd = stat->connection.fd;

	leave_connection(stat);
	if (fd >= 0)
		close(fd);
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

static void send_document(struct stat_server *stat)
{
	timer_cancel(&sched_of(stat)->timers, &stat->patience);
	fdset_remove(&sched_of(stat)->fds, &stat->connection);
	stat->text_sent = 0;
	stat->text = stat_document(stat->demi, stat->index, &stat->text_bytes);
	stat->connection.fn = send_event;
	if (!stat->text || fdset_add(&sched_of(stat)->fds, &stat->connection, EPOLLOUT))
		end_connection(stat);
}

/* A line that the empty buffer of the socket takes at once. */
static void send_line(int fd, const char *line)
{
	(void)!send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- captures ---- */

static void end_capture(struct stat_server *stat)
{
	struct engine *engine = stat->demi->engine;
	struct engine_capture result;
	char line[128];

	engine->ops->capture_end(engine, &result);
	(void)snprintf(line, sizeof(line), "frames %llu lost %llu%s%s\n",
		       (unsigned long long)result.frames, (unsigned long long)result.lost,
		       result.err ? ": " : "", result.err ? strerrordesc_np(-result.err) : "");
	send_line(stat->capture.fd, line);
	fdset_remove(&sched_of(stat)->fds, &stat->capture);
	close(stat->capture.fd);
	stat->capture.fd = -1;
}

/* The client has said that it is over, or is gone. */
static void capture_event(struct fd_watch *watch, uint32_t events)
{
	(void)events;
	end_capture(container_of(watch, struct stat_server, capture));
}

/* 0 or -errno. */
static int begin_capture(struct stat_server *stat)
{
	struct engine *engine = stat->demi->engine;

	if (!engine->ops->capture)
		return -ENOTSUP;
	if (stat->request_fd < 0)
		return -EINVAL;
	if (stat->capture.fd >= 0)
		return -EBUSY;
	stat->capture =
		(struct fd_watch){.fd = stat->connection.fd, .lazy = true, .fn = capture_event};
	fdset_remove(&sched_of(stat)->fds, &stat->connection);
	int err = fdset_add(&sched_of(stat)->fds, &stat->capture, EPOLLIN | EPOLLRDHUP);
	if (!err)
		err = engine->ops->capture(engine, stat->request_fd);
	if (err) {
		fdset_remove(&sched_of(stat)->fds, &stat->capture);
		stat->capture.fd = -1;
		return err;
	}
	stat->request_fd = -1;
	return 0;
}

static const char *why_no_capture(int err)
{
	switch (err) {
	case -ENOTSUP:
		return "its library OS handles no frames\n";
	case -EBUSY:
		return "it is captured already\n";
	case -EINVAL:
		return "no file came with the request\n";
	default:
		return "the file cannot be written, or memory is short\n";
	}
}

/* ---- requests ---- */

static void obey(struct stat_server *stat)
{
	int fd = stat->connection.fd;

	if (strcmp(stat->request, "capture\n") != 0) {
		send_document(stat);
		return;
	}
	int err = begin_capture(stat);
	send_line(fd, err ? why_no_capture(err) : "ok\n");
	if (err)
		end_connection(stat);
	else
		leave_connection(stat);
}

static void take_descriptor(struct stat_server *stat, struct msghdr *message)
{
	const struct cmsghdr *control = CMSG_FIRSTHDR(message);

	if (!control || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS ||
	    control->cmsg_len < CMSG_LEN(sizeof(int)))
		return;
	if (stat->request_fd >= 0)
		close(stat->request_fd);
	memcpy(&stat->request_fd, CMSG_DATA(control), sizeof(int));
}

static void request_event(struct fd_watch *watch, uint32_t events)
{
	struct stat_server *stat = container_of(watch, struct stat_server, connection);
	struct iovec iov = {.iov_base = stat->request + stat->request_bytes,
			    .iov_len = STAT_REQUEST_MAX - 1 - stat->request_bytes};

	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	(void)events;
	ssize_t n = recvmsg(watch->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		end_connection(stat);
		return;
	}
	take_descriptor(stat, &message);
	stat->request_bytes += (size_t)n;
	stat->request[stat->request_bytes] = '\0';
	if (n == 0 || strchr(stat->request, '\n') || stat->request_bytes == STAT_REQUEST_MAX - 1)
		obey(stat);
}

/* A client that says nothing is one of old, which wants the document.  One whose words came while
 * we were busy would be reset if they stayed unread. */
static void patience_ends(struct timer *timer)
{
	struct stat_server *stat = container_of(timer, struct stat_server, patience);

	request_event(&stat->connection, 0);
	if (stat->connection.fd >= 0 && stat->connection.fn == request_event)
		obey(stat);
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
	stat->connection = (struct fd_watch){.fd = fd, .lazy = true, .fn = request_event};
	stat->request_bytes = 0;
	stat->request[0] = '\0';
	if (fdset_add(&sched_of(stat)->fds, &stat->connection, EPOLLIN))
		end_connection(stat);
	else
		timer_arm(&sched_of(stat)->timers, &stat->patience,
			  sched_now(sched_of(stat)) + PATIENCE_NS);
}

/* ---- life ---- */

static bool listen_at(struct stat_server *stat)
{
	char directory[sizeof(stat->address.sun_path)];

	if (!place_directory(directory, sizeof(directory)))
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
		.demi = demi,
		.listener = {.fd = -1},
		.connection = {.fd = -1},
		.capture = {.fd = -1},
		.request_fd = -1,
	};
	timer_init(&stat->patience, patience_ends);
	if (demi->sched.config.stat_socket && !listen_at(stat))
		log_write(
			&demi->sched.log, LOG_LEVEL_INFO,
			"no socket for demi stat: no directory to put it in (set XDG_RUNTIME_DIR)");
}

void stat_close(struct stat_server *stat)
{
	if (stat->capture.fd >= 0)
		end_capture(stat);
	end_connection(stat);
	if (stat->listener.fd < 0)
		return;
	fdset_remove(&stat->demi->sched.fds, &stat->listener);
	unlink(stat->address.sun_path);
	close(stat->listener.fd);
}
