/* SPDX-License-Identifier: MIT
 * netdev/afxdp/remote.c - see grant.h and remote.h: the privilege is that of `demi xdp-helper`.
 *
 * Nothing here is on the data path.  Waiting is bounded by WAIT_MS for each request; an answer that
 * comes later is known by its sequence and passed over.
 */
#include "netdev/afxdp/remote.h"

#include "netdev/afxdp/pass.h"

#include "base/bits.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 5000 /* a driver may take its time when a program is attached */

/* Kept for the next helper. */
struct remote_filter {
	uint16_t port;
	uint16_t count;
	struct sock_filter program[];
};

struct remote {
	struct grant grant; /* its giver is the connection */
	struct log log;
	uint32_t sequence;
	uint32_t num_addresses;
	struct ip_address addresses[REMOTE_ADDRESSES_MAX]; /* steered */
	uint32_t num_filters;
	struct remote_filter *filters[GRANT_FILTERS_MAX];
	struct grant_request request;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char why[LOG_MESSAGE_MAX];      /* the last error of a renewal */
	char why_told[LOG_MESSAGE_MAX]; /* the last one that the log was told */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int told(const struct remote *remote, const char *what, int err)
{
	log_write(&remote->log, LOG_LEVEL_ERROR, "interface %s: xdp-helper: %s: %s",
		  remote->request.interface, what, strerror(-err));
	return err;
}

/* ---- messages ---- */

/* memory_fd: -1 if none goes with it.  0 or -errno. */
static int send_request(struct remote *remote, struct remote_request *request, int memory_fd)
{
	request->version = REMOTE_VERSION;
	request->sequence = ++remote->sequence;
	return pass_send(remote->grant.giver, request, sizeof(*request), memory_fd);
}

/* 0, -ETIMEDOUT or -errno. */
static int await_reply(const struct remote *remote, uint64_t deadline_ms)
{
	struct pollfd wait = {.fd = remote->grant.giver, .events = POLLIN};

	for (;;) {
		uint64_t now = now_ms();
		int ready = poll(&wait, 1, now < deadline_ms ? (int)(deadline_ms - now) : 0);
		if (ready > 0)
			return 0;
		if (ready == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* One message.  *fd_out: the descriptor beside it, or -1.  0 or -errno. */
static int receive(const struct remote *remote, struct remote_reply *reply, int *fd_out)
{
	bool truncated;
	int length = pass_receive(remote->grant.giver, reply, sizeof(*reply), fd_out, &truncated);

	if (length < 0)
		return length;
	if (length == sizeof(*reply) && reply->version == REMOTE_VERSION) {
		reply->text[sizeof(reply->text) - 1] = '\0';
		return 0;
	}
	if (*fd_out >= 0)
		close(*fd_out);
	return length == 0 ? -ECONNRESET : -EPROTO;
}

/* The answer to the last request; *fd_out as above.  0 or -errno: of the answer, or of the way
 * to it. */
static int receive_answer(const struct remote *remote, struct remote_reply *reply, int *fd_out)
{
	uint64_t deadline_ms = now_ms() + WAIT_MS;

	*fd_out = -1;
	for (int lines = 0; lines < REMOTE_LINES_MAX;) {
		int err = await_reply(remote, deadline_ms);
		if (!err)
			err = receive(remote, reply, fd_out);
		if (err == -EAGAIN || err == -EINTR)
			continue;
		if (err)
			return told(remote, err == -ECONNRESET ? "it went away" : "no answer", err);
		bool ours = reply->sequence == remote->sequence;
		if (ours && reply->level == 0)
			return reply->error > 0 ? -EPROTO : reply->error;
		if (*fd_out >= 0)
			close(*fd_out);
		*fd_out = -1;
		lines++;
		if (ours)
			log_write(&remote->log,
				  reply->level <= LOG_LEVEL_INFO ? reply->level : LOG_LEVEL_INFO,
				  "xdp-helper: %s", reply->text);
	}
	return told(remote, "no answer", -EPROTO);
}

/* ---- the grant's operations ---- */

/* 0 or -errno. */
static int ask_to_steer(struct remote *remote, const struct ip_address *address, bool wanted)
{
	struct remote_reply reply;
	struct remote_request request;
	int fd;

	memset(&request, 0, sizeof(request)); /* padding too: it leaves the process */
	request.kind = REMOTE_STEER;
	request.wanted = wanted;
	request.address = *address;
	int err = send_request(remote, &request, -1);
	if (err)
		return told(remote, "it went away", err);
	err = receive_answer(remote, &reply, &fd);
	if (fd >= 0)
		close(fd);
	return err;
}

static int remote_steer(struct grant *grant, const struct ip_address *address, bool wanted)
{
	struct remote *remote = container_of(grant, struct remote, grant);
	uint32_t i = 0;

	while (i < remote->num_addresses && !ip_equal(&remote->addresses[i], address))
		i++;
	if (wanted == (i < remote->num_addresses))
		return 0;
	if (!wanted)
		remote->addresses[i] = remote->addresses[--remote->num_addresses];
	else if (i == REMOTE_ADDRESSES_MAX)
		return told(remote, "too many addresses", -ENOSPC);
	int err = ask_to_steer(remote, address, wanted);
	if (!err && wanted)
		remote->addresses[remote->num_addresses++] = *address;
	return err;
}

static int ask_to_filter(struct remote *remote, const struct remote_filter *filter)
{
	struct remote_reply reply;
	struct remote_request request;
	int fd;

	memset(&request, 0, sizeof(request));
	request.kind = REMOTE_FILTER;
	request.port = filter->port;
	request.count = filter->count;
	memcpy(request.program, filter->program, filter->count * sizeof(*request.program));
	int err = send_request(remote, &request, -1);
	if (err)
		return told(remote, "it went away", err);
	err = receive_answer(remote, &reply, &fd);
	if (fd >= 0)
		close(fd);
	return err;
}

static struct remote_filter *filter_new(uint16_t port, const struct sock_filter *program,
					uint32_t count)
{
	struct remote_filter *filter = calloc(1, sizeof(*filter) + count * sizeof(*program));

	if (!filter)
		return NULL;
	filter->port = port;
	filter->count = (uint16_t)count;
	if (count > 0)
		memcpy(filter->program, program, count * sizeof(*program));
	return filter;
}

/* Of a port, or NULL. */
static struct remote_filter **find_filter(struct remote *remote, uint16_t port)
{
	for (uint32_t i = 0; i < remote->num_filters; i++) {
		if (remote->filters[i]->port == port)
			return &remote->filters[i];
	}
	return NULL;
}

/* It is not asked for any more. */
static void forget_filter(struct remote *remote, struct remote_filter **place)
{
	if (!place)
		return;
	free(*place);
	*place = remote->filters[--remote->num_filters];
}

/* What the next helper is to do is known before this one is asked: if that goes away meanwhile, no
 * filter is left that nobody wants. */
static int remote_filter(struct grant *grant, uint16_t port, const struct sock_filter *program,
			 uint32_t count)
{
	struct remote *remote = container_of(grant, struct remote, grant);
	struct remote_filter **old = find_filter(remote, port);

	if (!old && count == 0)
		return 0;
	if (!old && remote->num_filters == GRANT_FILTERS_MAX)
		return -ENOSPC;
	struct remote_filter *filter = filter_new(port, program, count);
	if (!filter)
		return -ENOMEM;
	forget_filter(remote, old);
	int err = ask_to_filter(remote, filter);
	if (!err && count > 0)
		remote->filters[remote->num_filters++] = filter;
	else
		free(filter);
	return err;
}

/* ---- opening ---- */

/* 0 or -errno, told. */
static int connect_to(struct remote *remote)
{
	const char *path = remote->path;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval bound = {.tv_sec = WAIT_MS / 1000};
	const char *mend = "";

	memcpy(address.sun_path, path, strlen(path) + 1);
	remote->grant.giver = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	/* bounds connect, which waits while the helper has many to accept */
	if (remote->grant.giver >= 0 &&
	    setsockopt(remote->grant.giver, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound)) == 0 &&
	    connect(remote->grant.giver, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	int err = -errno;
	if (err == -ENOENT || err == -ECONNREFUSED)
		mend = ": start `demi xdp-helper` (as root)";
	else if (err == -EACCES)
		mend = ": its --group or --mode says who may connect";
	log_write(&remote->log, LOG_LEVEL_ERROR, "demitasse.xdp.helper: %s: %s%s", path,
		  strerror(-err), mend);
	return err;
}

static bool is_xdp_socket(int fd)
{
	int domain = 0;
	socklen_t length = sizeof(domain);

	return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
	       domain == AF_XDP;
}

static int take_answer(struct remote *remote, enum remote_kind kind,
		       const struct remote_reply *reply)
{
	struct grant *grant = &remote->grant;

	if (reply->queue < remote->request.queue ||
	    reply->queue - remote->request.queue >= remote->request.queues)
		return told(remote, "its queue", -EPROTO);
	grant->queue = reply->queue;
	grant->place = reply->queue - remote->request.queue;
	remote->request.place = grant->place; /* stays when it is renewed */
	grant->native = reply->native;
	grant->dispatched = reply->dispatched;
	if (kind == REMOTE_OPEN) { /* what the socket keeps */
		grant->zero_copy = reply->zero_copy;
		grant->segments = reply->segments;
		grant->busy_poll = reply->busy_poll;
	}
	return 0;
}

/* 0 or -errno, told.  *fd_out: what came with the answer, or -1; -1 after an error. */
static int ask_for_grant(struct remote *remote, enum remote_kind kind, int fd, int *fd_out)
{
	struct remote_request request;
	struct remote_reply reply;

	*fd_out = -1;
	memset(&request, 0, sizeof(request));
	request.kind = kind;
	request.grant = remote->request;
	int err = send_request(remote, &request, fd);
	if (err)
		return told(remote, "request", err);
	err = receive_answer(remote, &reply, fd_out);
	if (!err)
		err = take_answer(remote, kind, &reply);
	if (err && *fd_out >= 0) {
		close(*fd_out);
		*fd_out = -1;
	}
	return err;
}

/* ---- another helper ---- */

static void keep_reason(void *arg, int level, const char *message)
{
	struct remote *remote = arg;

	if (level == LOG_LEVEL_ERROR)
		(void)snprintf(remote->why, sizeof(remote->why), "%s", message);
}

static int ask_to_adopt(struct remote *remote)
{
	int none;
	int err = connect_to(remote);

	if (!err)
		err = ask_for_grant(remote, REMOTE_ADOPT, remote->grant.fd, &none);
	if (!err && none >= 0)
		close(none);
	for (uint32_t i = 0; i < remote->num_addresses && !err; i++)
		err = ask_to_steer(remote, &remote->addresses[i], true);
	for (uint32_t i = 0; i < remote->num_filters && !err; i++)
		(void)ask_to_filter(remote, remote->filters[i]); /* without it more comes up */
	return err;
}

static void disconnect(struct remote *remote)
{
	if (remote->grant.giver >= 0)
		close(remote->grant.giver);
	remote->grant.giver = -1;
}

/* A helper that is not there yet is asked again and again: its reasons are told when they change.
 */
static int remote_renew(struct grant *grant)
{
	struct remote *remote = container_of(grant, struct remote, grant);
	const struct log log = remote->log;

	disconnect(remote);
	remote->log = (struct log){.fn = keep_reason, .arg = remote};
	int err = ask_to_adopt(remote);
	remote->log = log;
	if (!err) {
		remote->why_told[0] = '\0';
		return 0;
	}
	disconnect(remote);
	if (strcmp(remote->why, remote->why_told) != 0) {
		memcpy(remote->why_told, remote->why, sizeof(remote->why));
		log_write(&log, LOG_LEVEL_WARNING, "%s", remote->why);
	}
	return err;
}

/* ---- life ---- */

static void remote_close(struct grant *grant)
{
	struct remote *remote = container_of(grant, struct remote, grant);

	disconnect(remote);
	while (remote->num_filters > 0)
		free(remote->filters[--remote->num_filters]);
	free(remote);
}

/* The helper has done it: a socket that it passed unbound could be bound to any queue. */
static int remote_bind(struct grant *grant)
{
	(void)grant;
	return 0;
}

static const struct grant_ops remote_ops = {.bind = remote_bind,
					    .steer = remote_steer,
					    .filter = remote_filter,
					    .renew = remote_renew,
					    .close = remote_close};

/* 0 or -errno, told. */
static int open_remote(struct remote *remote, int memory_fd)
{
	int fd;
	int err = connect_to(remote);

	if (!err)
		err = ask_for_grant(remote, REMOTE_OPEN, memory_fd, &fd);
	if (err)
		return err;
	if (!is_xdp_socket(fd)) {
		if (fd >= 0)
			close(fd);
		return told(remote, "its answer has no XDP socket", -EPROTO);
	}
	remote->grant.fd = fd;
	return 0;
}

int remote_open(const struct log *log, const struct grant_request *request, const char *path,
		int memory_fd, struct grant **grant_out)
{
	struct remote *remote;

	if (strlen(path) >= sizeof(remote->path)) {
		log_write(log, LOG_LEVEL_ERROR, "demitasse.xdp.helper: %s: too long", path);
		return -ENAMETOOLONG;
	}
	remote = calloc(1, sizeof(*remote));
	if (!remote)
		return -ENOMEM;
	remote->grant = (struct grant){.ops = &remote_ops, .fd = -1, .giver = -1};
	remote->log = *log;
	remote->request = *request;
	(void)snprintf(remote->path, sizeof(remote->path), "%s", path);
	int err = open_remote(remote, memory_fd);
	if (err) {
		remote_close(&remote->grant);
		return err;
	}
	*grant_out = &remote->grant;
	return 0;
}
