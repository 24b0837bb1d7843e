/* SPDX-License-Identifier: MIT
 * tools/demi/helper/server.c - see server.h.
 */
#include "helper/server.h"

#include "helper/client.h"
#include "helper/kernel.h"
#include "tool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAITING_MAX    32   /* connections beside those that have a grant */
#define ACCEPTS        16   /* in a turn */
#define ACCEPT_REST_MS 1000 /* after one failed */

enum { POLL_SIGNAL, POLL_LISTEN, POLL_KERNEL, POLL_CLIENTS };

struct server {
	struct clients clients;
	int listen_fd;
	int signal_fd;
	int kernel_fd;
	uint64_t accept_ms;   /* not before */
	struct pollfd *polls; /* POLL_CLIENTS + clients.room */
};

static uint64_t now_ms(void)
{
	return clock_now_ns() / NS_PER_MS;
}

/* ---- clients come and go ---- */

/* Frees those that are to go; the others stay in order. */
static void sweep(struct clients *clients)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < clients->count; i++) {
		struct client *client = clients->all[i];
		if (client->broken)
			client_free(client);
		else
			clients->all[kept++] = client;
	}
	clients->count = kept;
}

/* The oldest that waits goes: a place is free then, for those with a grant do not fill all. */
static void make_room(struct clients *clients)
{
	for (uint32_t i = 0; i < clients->count; i++) {
		struct client *client = clients->all[i];
		if (!client->grant) {
			struct log log = client_log(client);
			log_write(&log, LOG_LEVEL_WARNING, "let go: too many connections wait");
			client->broken = true;
			break;
		}
	}
	sweep(clients);
}

static void admit(struct server *server, int fd)
{
	struct clients *clients = &server->clients;
	struct client *client = calloc(1, sizeof(*client));

	if (!client) {
		close(fd);
		return;
	}
	if (clients->count == clients->room)
		make_room(clients);
	client->fd = fd;
	client->budget = &clients->lines;
	client->since_ms = now_ms();
	client->admitted = peer_admitted(clients->options->admission, fd, &client->peer);
	clients->all[clients->count++] = client;
}

static void accept_some(struct server *server)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			admit(server, fd);
			continue;
		}
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			tool_complain("xdp-helper: accept: %s", strerror(errno));
			server->accept_ms = now_ms() + ACCEPT_REST_MS;
		}
		return;
	}
}

/* ---- a turn ---- */

/* Who waited too long goes.  Returns for how long to sleep at most, -1: for ever. */
static int expire(struct server *server)
{
	struct clients *clients = &server->clients;
	uint64_t now = now_ms();
	uint64_t first = server->accept_ms > now ? server->accept_ms : UINT64_MAX;

	for (uint32_t i = 0; i < clients->count; i++) {
		struct client *client = clients->all[i];
		uint64_t due = client->since_ms + CLIENT_WAITING_MS;
		if (client->grant)
			continue;
		client->broken = client->broken || due <= now;
		first = due < first ? due : first;
	}
	sweep(clients);
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)(first - now);
}

/* How many are polled. */
static nfds_t prepare_polls(struct server *server)
{
	const struct clients *clients = &server->clients;
	bool rests = server->accept_ms > now_ms();

	server->polls[POLL_SIGNAL] = (struct pollfd){.fd = server->signal_fd, .events = POLLIN};
	server->polls[POLL_LISTEN] =
		(struct pollfd){.fd = rests ? -1 : server->listen_fd, .events = POLLIN};
	server->polls[POLL_KERNEL] = (struct pollfd){.fd = server->kernel_fd, .events = POLLIN};
	for (uint32_t i = 0; i < clients->count; i++)
		server->polls[POLL_CLIENTS + i] =
			(struct pollfd){.fd = clients->all[i]->fd, .events = POLLIN};
	return POLL_CLIENTS + clients->count;
}

static void take_news(struct server *server)
{
	kernel_take_news(server->kernel_fd);
	for (uint32_t i = 0; i < server->clients.count; i++)
		client_recheck(server->clients.all[i]);
}

/* False: it is time to end. */
static bool turn(struct server *server)
{
	struct clients *clients = &server->clients;
	int timeout_ms = expire(server);
	nfds_t count = prepare_polls(server);

	if (poll(server->polls, count, timeout_ms) <= 0)
		return true;
	if (server->polls[POLL_SIGNAL].revents)
		return false;
	for (uint32_t i = 0; i < clients->count; i++) {
		if (server->polls[POLL_CLIENTS + i].revents)
			client_serve(clients->all[i], clients);
	}
	if (server->polls[POLL_KERNEL].revents)
		take_news(server);
	sweep(clients);
	if (server->polls[POLL_LISTEN].revents)
		accept_some(server);
	return true;
}

/* ---- life ---- */

static int watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		tool_complain("xdp-helper: signals: %s", strerror(errno));
	return fd;
}

int server_run(const struct server_options *options, int listen_fd)
{
	uint32_t room = options->clients_max + WAITING_MAX;
	struct server server = {
		.clients = {.options = options,
			    .room = room,
			    .all = tool_alloc(room, sizeof(struct client *))},
		.listen_fd = listen_fd,
		.signal_fd = watch_signals(),
		.kernel_fd = kernel_watch(),
		.polls = tool_alloc(POLL_CLIENTS + room, sizeof(struct pollfd)),
	};

	bool good = server.signal_fd >= 0 && server.kernel_fd >= 0;
	if (good) {
		system_notify("READY=1");
		while (turn(&server))
			;
		system_notify("STOPPING=1");
	}
	for (uint32_t i = 0; i < server.clients.count; i++)
		server.clients.all[i]->broken = true;
	sweep(&server.clients);
	close(server.signal_fd);
	close(server.kernel_fd);
	free(server.clients.all);
	free(server.polls);
	return good ? TOOL_GOOD : TOOL_FAILED;
}
