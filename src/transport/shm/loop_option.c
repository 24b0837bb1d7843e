/* SPDX-License-Identifier: MIT
 * transport/shm/loop_option.c - options of catloop's sockets, by Linux's names.
 *
 * Those that say how a network is to be used mean nothing here: they are taken and told again where
 * programs set them as a matter of course, and refused otherwise (ENOPROTOOPT).
 */
#include "transport/shm/loop.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

enum who { STREAMS = 1, DATAGRAMS = 2, BOTH = 3 };

/* All are ints. */
struct option {
	int level;
	int name;
	uint8_t of; /* enum who */
	bool flag;  /* kept as 0 or 1 */
	int first;  /* value of a new socket */
	int min;    /* what may be set: else EINVAL */
	int max;
};

#define BUFFER 212992 /* as Linux's default */

enum { RCVBUF, BROADCAST, V6ONLY, NODELAY, KEEPALIVE };

static const struct option options[] = {
	[RCVBUF] = {SOL_SOCKET, SO_RCVBUF, BOTH, false, BUFFER, INT32_MIN, INT32_MAX},
	[BROADCAST] = {SOL_SOCKET, SO_BROADCAST, DATAGRAMS, true, 0, INT32_MIN, INT32_MAX},
	[V6ONLY] = {IPPROTO_IPV6, IPV6_V6ONLY, BOTH, true, 0, INT32_MIN, INT32_MAX},
	[NODELAY] = {IPPROTO_TCP, TCP_NODELAY, STREAMS, true, 0, INT32_MIN, INT32_MAX},
	[KEEPALIVE] = {SOL_SOCKET, SO_KEEPALIVE, STREAMS, true, 0, INT32_MIN, INT32_MAX},
	{SOL_SOCKET, SO_SNDBUF, BOTH, false, BUFFER, INT32_MIN, INT32_MAX},
	{SOL_SOCKET, SO_REUSEADDR, BOTH, true, 0, INT32_MIN, INT32_MAX},
	{SOL_SOCKET, SO_REUSEPORT, BOTH, true, 0, INT32_MIN, INT32_MAX},
	{IPPROTO_TCP, TCP_QUICKACK, STREAMS, true, 1, INT32_MIN, INT32_MAX},
	{IPPROTO_TCP, TCP_KEEPIDLE, STREAMS, false, 7200, 1, 32767},
	{IPPROTO_TCP, TCP_KEEPINTVL, STREAMS, false, 75, 1, 32767},
	{IPPROTO_TCP, TCP_KEEPCNT, STREAMS, false, 9, 1, 127},
	{IPPROTO_TCP, TCP_USER_TIMEOUT, STREAMS, false, 0, 0, INT32_MAX},
};

#define NUM_OPTIONS (sizeof(options) / sizeof(options[0]))
#define BUFFER_MIN  2048
#define BUFFER_MAX  (1 << 30)

static_assert(NUM_OPTIONS <= LOOP_OPTIONS, "room in every socket");

bool loop_v6only(const struct loop_socket *socket)
{
	return socket->options[V6ONLY] != 0;
}

bool loop_broadcast(const struct loop_socket *socket)
{
	return socket->options[BROADCAST] != 0;
}

uint32_t loop_receive_limit(const struct loop_socket *socket)
{
	int bytes = socket->options[RCVBUF];

	return bytes < BUFFER_MIN ? BUFFER_MIN : bytes > BUFFER_MAX ? BUFFER_MAX : (uint32_t)bytes;
}

void loop_options_init(struct loop_socket *socket)
{
	const struct config *config = &socket->queue.sched->config;

	for (uint32_t i = 0; i < NUM_OPTIONS; i++)
		socket->options[i] = options[i].first;
	socket->options[NODELAY] = config->nodelay != 0;
	socket->options[KEEPALIVE] = config->keepalive != 0;
}

/* Index of an option that the socket has; NUM_OPTIONS: none. */
static uint32_t find(const struct loop_socket *socket, int level, int name)
{
	enum who who = socket->stream ? STREAMS : DATAGRAMS;
	uint32_t i = 0;

	if (level == IPPROTO_IPV6 && socket->domain != AF_INET6)
		return NUM_OPTIONS;
	while (i < NUM_OPTIONS &&
	       (options[i].level != level || options[i].name != name || !(options[i].of & who)))
		i++;
	return i;
}

static int set_linger(struct loop_socket *socket, const void *value, socklen_t length)
{
	if (length < sizeof(socket->linger))
		return -EINVAL;
	memcpy(&socket->linger, value, sizeof(socket->linger));
	return 0;
}

int loop_set_option(struct queue *queue, int level, int name, const void *value, socklen_t length)
{
	struct loop_socket *socket = loop_of(queue);
	uint32_t i = find(socket, level, name);
	int number;

	if (level == SOL_SOCKET && name == SO_LINGER)
		return set_linger(socket, value, length);
	if (i == NUM_OPTIONS)
		return -ENOPROTOOPT;
	if (length < sizeof(number) || (i == V6ONLY && socket->bound))
		return -EINVAL;
	memcpy(&number, value, sizeof(number));
	if (number < options[i].min || number > options[i].max)
		return -EINVAL;
	socket->options[i] = options[i].flag ? number != 0 : number;
	return 0;
}

/* What can only be asked for.  0 or -ENOPROTOOPT. */
static int get_fact(struct loop_socket *socket, int name, int *value)
{
	switch (name) {
	case SO_ERROR:
		*value = socket->error;
		socket->error = 0;
		return 0;
	case SO_TYPE:
		*value = socket->stream ? SOCK_STREAM : SOCK_DGRAM;
		return 0;
	case SO_DOMAIN:
		*value = socket->domain;
		return 0;
	case SO_PROTOCOL:
		*value = socket->stream ? IPPROTO_TCP : IPPROTO_UDP;
		return 0;
	case SO_ACCEPTCONN:
		*value = socket->state == LOOP_LISTENING;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static void give(const void *from, socklen_t bytes, void *value, socklen_t *length)
{
	if (*length > bytes)
		*length = bytes;
	memcpy(value, from, *length);
}

int loop_get_option(struct queue *queue, int level, int name, void *value, socklen_t *length)
{
	struct loop_socket *socket = loop_of(queue);
	uint32_t i = find(socket, level, name);
	int number = 0;
	int err = 0;

	if (level == SOL_SOCKET && name == SO_LINGER) {
		give(&socket->linger, sizeof(socket->linger), value, length);
		return 0;
	}
	if (i < NUM_OPTIONS)
		number = i == RCVBUF ? (int)loop_receive_limit(socket) : socket->options[i];
	else
		err = level == SOL_SOCKET ? get_fact(socket, name, &number) : -ENOPROTOOPT;
	if (!err)
		give(&number, sizeof(number), value, length);
	return err;
}
