/* SPDX-License-Identifier: MIT
 * transport/shm/loop_name.c - addresses and ports of catloop: who has which, and what two sockets
 * tell each other of theirs.
 */
#include "transport/shm/loop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HELLO_MAGIC     0x31706f6cU /* "lop1" */
#define EPHEMERAL_FIRST 32768       /* as Linux's default range */
#define EPHEMERAL_COUNT 28232
#define DOOR_BACKLOG    64 /* that connect before they are looked at, which a turn does */

static_assert(sizeof(struct loop_hello) <= CHANNEL_HELLO_MAX, "it goes with the greeting");

/* ---- addresses ---- */

static struct ip_address loopback(bool v4)
{
	struct ip_address one = {.words = {0, 0, 0, htonl(1)}};

	return v4 ? ip_from_v4(htonl(INADDR_LOOPBACK)) : one;
}

static bool is_broadcast(const struct ip_address *a)
{
	return ip_is_v4(a) && a->words[3] == UINT32_MAX;
}

/* An address that one socket can have. */
static bool is_unicast(const struct ip_address *a)
{
	return !ip_is_any(a) && !ip_is_multicast(a) && !is_broadcast(a);
}

/* Does the socket speak that family?  One of IPv6 may speak both. */
static bool speaks(const struct loop_socket *socket, bool v4)
{
	if (socket->domain == AF_INET)
		return v4;
	return !v4 || !loop_v6only(socket);
}

int loop_route(const struct loop_socket *socket, struct ip_address *to,
	       struct ip_address *local_out)
{
	/* :: of a socket that speaks both is its own host by IPv6 */
	bool v4 = ip_is_v4(to);

	if (!speaks(socket, v4))
		return -ENETUNREACH;
	if (ip_is_any(to))
		*to = loopback(v4);
	if (!is_unicast(to))
		return -ENETUNREACH; /* there are no groups here */
	*local_out = ip_is_any(&socket->bound_to) ? *to : socket->bound_to;
	return ip_is_v4(local_out) == v4 ? 0 : -ENETUNREACH;
}

/* ---- ports ---- */

static struct rendezvous_place place_of(const struct loop_socket *socket, bool v4, uint16_t port,
					char room[8])
{
	static const char *const prefixes[2][2] = {{"udp6-", "udp4-"}, {"tcp6-", "tcp4-"}};

	(void)snprintf(room, 8, "%u", port);
	return (struct rendezvous_place){.prefix = prefixes[socket->stream][v4], .name = room};
}

static int visit(struct rendezvous *rendezvous, void *arg, struct visitor *visitor)
{
	struct loop_socket *socket = arg;

	(void)rendezvous;
	return socket->stream ? loop_stream_visit(socket, visitor)
			      : loop_datagram_visit(socket, visitor);
}

static int open_door(struct loop_socket *socket, bool v4, uint16_t port)
{
	char room[8];
	const struct rendezvous_place place = place_of(socket, v4, port, room);
	int err = rendezvous_listen(socket->engine->shm, &place, DOOR_BACKLOG, visit, socket,
				    &socket->doors[v4]);

	return err == -EEXIST ? -EADDRINUSE : err;
}

void loop_unbind(struct loop_socket *socket)
{
	for (uint32_t i = 0; i < 2; i++) {
		if (socket->doors[i])
			rendezvous_close(socket->doors[i]);
		socket->doors[i] = NULL;
	}
}

/* Takes the name of a port: both, if the socket speaks both families. */
static int take_port(struct loop_socket *socket, const struct ip_address *address, uint16_t port)
{
	bool both = ip_is_any(address) && socket->domain == AF_INET6 && !loop_v6only(socket);
	int err = open_door(socket, ip_is_v4(address), port);

	if (!err && both)
		err = open_door(socket, true, port);
	if (err)
		loop_unbind(socket);
	return err;
}

uint16_t loop_random_port(struct loop_socket *socket)
{
	struct prng *prng = &socket->queue.sched->prng;

	return (uint16_t)(EPHEMERAL_FIRST + prng_below(prng, EPHEMERAL_COUNT));
}

int loop_bind(struct loop_socket *socket, const struct ip_address *address, uint16_t port)
{
	uint16_t taken = port ? port : loop_random_port(socket);
	bool any = ip_is_any(address);

	if (socket->bound || socket->state != LOOP_FRESH)
		return -EINVAL;
	/* A socket of IPv6 is bound to all addresses of both families or of its own, not to all of
	 * IPv4. */
	if (!speaks(socket, ip_is_v4(address)) ||
	    (any && socket->domain == AF_INET6 && ip_is_v4(address)))
		return -EINVAL;
	if (!any && !is_unicast(address))
		return -EADDRNOTAVAIL;
	int err = take_port(socket, address, taken);
	for (uint32_t i = 1; port == 0 && err == -EADDRINUSE && i < LOOP_PORT_TRIES; i++) {
		taken = loop_random_port(socket);
		err = take_port(socket, address, taken);
	}
	if (err)
		return err;
	socket->bound = true;
	socket->bound_to = *address;
	socket->names.local = *address;
	socket->names.local_port = taken;
	return 0;
}

int loop_call(const struct loop_socket *socket, const struct loop_names *names, int *fd_out)
{
	char room[8];
	const struct rendezvous_place place =
		place_of(socket, ip_is_v4(&names->remote), names->remote_port, room);

	return rendezvous_connect(socket->engine->shm, &place, fd_out);
}

/* ---- hello ---- */

void loop_say_hello(const struct loop_socket *socket, const struct loop_names *names,
		    struct loop_hello *hello)
{
	*hello = (struct loop_hello){
		.magic = HELLO_MAGIC,
		.protocol = socket->stream ? IPPROTO_TCP : IPPROTO_UDP,
		.from_port = names->local_port,
		.to_port = names->remote_port,
	};
	memcpy(hello->from, names->local.bytes, sizeof(hello->from));
	memcpy(hello->to, names->remote.bytes, sizeof(hello->to));
}

/* Is it made as loop_say_hello makes it? */
static bool is_proper(const struct loop_hello *hello, const struct loop_names *names)
{
	return hello->magic == HELLO_MAGIC && hello->unused == 0 && names->remote_port != 0 &&
	       is_unicast(&names->local) && is_unicast(&names->remote) &&
	       ip_is_v4(&names->local) == ip_is_v4(&names->remote);
}

int loop_hear_hello(const struct loop_socket *socket, const struct visitor *visitor,
		    struct loop_names *names)
{
	struct loop_hello hello;
	const struct ip_address *bound = &socket->names.local;

	if (visitor->hello_bytes != sizeof(hello))
		return -EPROTO;
	memcpy(&hello, visitor->hello, sizeof(hello));
	*names = (struct loop_names){
		.local = ip_from_bytes(hello.to),
		.remote = ip_from_bytes(hello.from),
		.local_port = hello.to_port,
		.remote_port = hello.from_port,
	};
	if (!is_proper(&hello, names) ||
	    hello.protocol != (socket->stream ? IPPROTO_TCP : IPPROTO_UDP))
		return -EPROTO;
	if (names->local_port != socket->names.local_port ||
	    !speaks(socket, ip_is_v4(&names->local)))
		return -ECONNREFUSED;
	return ip_is_any(bound) || ip_equal(bound, &names->local) ? 0 : -ECONNREFUSED;
}
