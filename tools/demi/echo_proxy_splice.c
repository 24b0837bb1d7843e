/* SPDX-License-Identifier: MIT
 * tools/demi/echo_proxy_splice.c - a proxy as one writes it with splice(2): edge-triggered epoll, a
 * pipe a direction, no byte in user space.
 *
 * A direction owns the descriptor that it reads from and its pipe; a link is the two directions of
 * a connection, freed when both are over.
 */
#include "echo_proxy.h"
#include "echo_socket.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PIPE_BYTES  (1 << 20)
#define EVENTS_MAX  64
#define SPLICE_MOST (1 << 20)

struct proxy_link;

struct direction {
	struct proxy_link *link;
	int from, to; /* sockets; to is the other direction's from */
	int pipe[2];
	size_t held; /* bytes in the pipe */
	bool ended;  /* nothing more comes */
	bool over;   /* and all has gone on */
};

struct proxy_link {
	struct direction ways[2];
	struct proxy_link *next; /* among the dead ones */
	bool dead;
};

struct splicer {
	struct echo_end *end;
	int listener, epoll;
	struct proxy_link *dead; /* events of theirs may still be in the batch */
};

/* ---- carrying ---- */

/* Moves what there is into the pipe.  False: an error. */
static bool fill(struct direction *way)
{
	ssize_t got = splice(way->from, NULL, way->pipe[1], NULL, SPLICE_MOST,
			     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (got < 0)
		return echo_is_later(errno);
	way->ended = got == 0;
	way->held += (size_t)got;
	return true;
}

static bool empty(struct direction *way)
{
	ssize_t gone = splice(way->pipe[0], NULL, way->to, NULL, way->held,
			      SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (gone < 0)
		return echo_is_later(errno);
	way->held -= (size_t)gone;
	return true;
}

/* As far as it goes.  False: an error. */
static bool carry(struct direction *way)
{
	size_t before;
	bool good = true;

	do {
		before = way->held;
		if (!way->ended)
			good = fill(way);
		bool came = way->held > before;
		before = way->held;
		if (good && way->held > 0)
			good = empty(way);
		if (!came && way->held == before)
			break;
	} while (good);
	if (good && way->ended && way->held == 0 && !way->over) {
		way->over = true;
		shutdown(way->to, SHUT_WR);
	}
	return good;
}

/* ---- links ---- */

static void bury(struct splicer *splicer)
{
	while (splicer->dead) {
		struct proxy_link *link = splicer->dead;

		splicer->dead = link->next;
		for (int i = 0; i < 2; i++) {
			close(link->ways[i].from);
			close(link->ways[i].pipe[0]);
			close(link->ways[i].pipe[1]);
		}
		free(link);
	}
}

static int open_way(int epoll, struct direction *way, int from, int to)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				    .data.ptr = way};

	way->from = from;
	way->to = to;
	if (pipe2(way->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		return -errno;
	(void)fcntl(way->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
	return epoll_ctl(epoll, EPOLL_CTL_ADD, from, &event) < 0 ? -errno : 0;
}

/* A link of two connected sockets; an error ends the proxy. */
static int open_link(int epoll, int client, int server)
{
	struct proxy_link *link = tool_alloc(1, sizeof(*link));

	link->ways[0].link = link->ways[1].link = link;
	int error = open_way(epoll, &link->ways[0], client, server);
	return error ? error : open_way(epoll, &link->ways[1], server, client);
}

static int take_connection(struct splicer *splicer)
{
	struct echo_end *end = splicer->end;
	int on = 1;
	int client = accept4(splicer->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int server;

	if (client < 0)
		return echo_is_later(errno) || errno == ECONNABORTED ? 0 : -errno;
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	end->address = end->target; /* where the server is; we listen already */
	server = echo_socket_connect(end, SOCK_NONBLOCK);
	if (server >= 0)
		return open_link(splicer->epoll, client, server);
	close(client);
	return server;
}

static void take_event(struct splicer *splicer, const struct epoll_event *event)
{
	struct direction *way = event->data.ptr;
	struct proxy_link *link = way->link;
	struct direction *back = &link->ways[way == &link->ways[0]];
	bool good = true;

	if (link->dead)
		return;
	if (event->events & ~(uint32_t)EPOLLOUT)
		good = carry(way);
	if (good && (event->events & EPOLLOUT) && back->held > 0)
		good = carry(back);
	if (good && !(way->over && back->over))
		return;
	link->dead = true;
	link->next = splicer->dead;
	splicer->dead = link;
}

static int serve(struct splicer *splicer)
{
	struct epoll_event events[EVENTS_MAX];
	int error = 0;

	while (!error) {
		int count = epoll_wait(splicer->epoll, events, EVENTS_MAX, -1);

		if (count < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < count && !error; i++) {
			if (events[i].data.ptr)
				take_event(splicer, &events[i]);
			else
				error = take_connection(splicer);
		}
		bury(splicer);
	}
	return error;
}

int echo_proxy_splice(struct echo_end *end)
{
	struct epoll_event event = {.events = EPOLLIN}; /* no pointer: the socket that listens */
	struct splicer splicer = {.end = end, .listener = echo_socket_serve(end, SOCK_NONBLOCK)};

	if (splicer.listener < 0)
		return splicer.listener;
	splicer.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (splicer.epoll < 0 ||
	    epoll_ctl(splicer.epoll, EPOLL_CTL_ADD, splicer.listener, &event) < 0)
		return echo_fail(end, -errno, "epoll: %s", strerror(errno));
	echo_proxy_ready(end, echo_socket_port(splicer.listener));
	int error = serve(&splicer);
	return echo_fail(end, error, "%s", strerror(-error));
}
