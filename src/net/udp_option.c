/* SPDX-License-Identifier: MIT
 * net/udp_option.c - options of UDP sockets.
 *
 * Numbers are ints, as everywhere; those of IPPROTO_IP may be one byte long.  Limits of memory are
 * kept as they are asked for, within bounds, and not doubled.  Those of groups are in udp_group.c.
 */
#include "net/udp_socket.h"

#include <errno.h>
#include <string.h>

#define LIMIT_MIN 2048
#define LIMIT_MAX (1 << 30)

static int get_int(int level, const void *value, socklen_t length, int *out)
{
	if (length >= sizeof(*out)) {
		memcpy(out, value, sizeof(*out));
		return 0;
	}
	if (level == IPPROTO_IP && length >= 1) {
		*out = *(const unsigned char *)value;
		return 0;
	}
	return -EINVAL;
}

static uint32_t limit(int value)
{
	if (value < LIMIT_MIN)
		return LIMIT_MIN;
	return value > LIMIT_MAX ? LIMIT_MAX : (uint32_t)value;
}

/* A byte, with -1 for what stands instead. */
static int set_byte(uint8_t *field, int value, int min, int instead)
{
	if (value == -1)
		value = instead;
	if (value < min || value > 255)
		return -EINVAL;
	*field = (uint8_t)value;
	return 0;
}

static int set_bool(bool *field, int value)
{
	if (value != 0 && value != 1)
		return -EINVAL;
	*field = value;
	return 0;
}

static int set_socket(struct udp_socket *s, int name, int value)
{
	switch (name) {
	case SO_RCVBUF:
		s->receive_limit = limit(value);
		return 0;
	case SO_SNDBUF:
		s->send_limit = limit(value);
		return 0;
	case SO_REUSEADDR:
		s->reuse_address = value != 0;
		return 0;
	case SO_REUSEPORT:
		s->reuse_port = value != 0;
		return 0;
	case SO_BROADCAST:
		return udp_set_broadcast(s, value != 0);
	default:
		return -ENOPROTOOPT;
	}
}

static int set_v4(struct udp_socket *s, int name, int value)
{
	switch (name) {
	case IP_TTL:
		return set_byte(&s->ttl, value, 1, IP_DEFAULT_TTL);
	case IP_MULTICAST_TTL:
		return set_byte(&s->group_ttl, value, 0, 1);
	case IP_MULTICAST_LOOP:
		s->group_loop = value != 0;
		return 0;
	case IP_MULTICAST_ALL:
		return set_bool(&s->group_all, value);
	case IP_TOS:
		return set_byte(&s->tos, value & 0xff, 0, 0);
	default:
		return -ENOPROTOOPT;
	}
}

static int set_v6(struct udp_socket *s, int name, int value)
{
	if (!s->v6)
		return -ENOPROTOOPT;
	switch (name) {
	case IPV6_V6ONLY:
		if (s->port)
			return -EINVAL;
		s->v6only = value != 0;
		return 0;
	case IPV6_UNICAST_HOPS:
		return set_byte(&s->hops, value, 0, IP_DEFAULT_TTL);
	case IPV6_MULTICAST_HOPS:
		return set_byte(&s->group_hops, value, 0, 1);
	case IPV6_MULTICAST_LOOP:
		return set_bool(&s->group_loop_v6, value);
	case IPV6_MULTICAST_ALL:
		return set_bool(&s->group_all_v6, value);
	case IPV6_TCLASS:
		return set_byte(&s->traffic_class, value, 0, 0);
	default:
		return -ENOPROTOOPT;
	}
}

int udp_socket_set_option(struct udp_socket *socket, int level, int name, const void *value,
			  socklen_t length)
{
	int number = 0;
	int err = udp_group_set_option(socket, level, name, value, length);

	if (err != -ENOPROTOOPT)
		return err;
	err = get_int(level, value, length, &number);
	if (err)
		return err;
	switch (level) {
	case SOL_SOCKET:
		return set_socket(socket, name, number);
	case IPPROTO_IP:
		return set_v4(socket, name, number);
	case IPPROTO_IPV6:
		return set_v6(socket, name, number);
	default:
		return -ENOPROTOOPT;
	}
}

static int get_socket(struct udp_socket *s, int name, int *value)
{
	switch (name) {
	case SO_RCVBUF:
		*value = (int)s->receive_limit;
		return 0;
	case SO_SNDBUF:
		*value = (int)s->send_limit;
		return 0;
	case SO_REUSEADDR:
		*value = s->reuse_address;
		return 0;
	case SO_REUSEPORT:
		*value = s->reuse_port;
		return 0;
	case SO_BROADCAST:
		*value = s->broadcast;
		return 0;
	case SO_ERROR:
		*value = udp_take_error(s);
		return 0;
	case SO_TYPE:
		*value = SOCK_DGRAM;
		return 0;
	case SO_DOMAIN:
		*value = s->v6 ? AF_INET6 : AF_INET;
		return 0;
	case SO_PROTOCOL:
		*value = IPPROTO_UDP;
		return 0;
	case SO_ACCEPTCONN:
		*value = 0;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int get_v4(const struct udp_socket *s, int name, int *value)
{
	switch (name) {
	case IP_TTL:
		*value = s->ttl;
		return 0;
	case IP_MULTICAST_TTL:
		*value = s->group_ttl;
		return 0;
	case IP_MULTICAST_LOOP:
		*value = s->group_loop;
		return 0;
	case IP_MULTICAST_ALL:
		*value = s->group_all;
		return 0;
	case IP_TOS:
		*value = s->tos;
		return 0;
	case IP_MTU:
		if (!s->connected)
			return -ENOTCONN;
		*value = (int)path_mtu(s->net, &s->remote);
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int get_v6(const struct udp_socket *s, int name, int *value)
{
	if (!s->v6)
		return -ENOPROTOOPT;
	switch (name) {
	case IPV6_V6ONLY:
		*value = s->v6only;
		return 0;
	case IPV6_UNICAST_HOPS:
		*value = s->hops;
		return 0;
	case IPV6_MULTICAST_HOPS:
		*value = s->group_hops;
		return 0;
	case IPV6_MULTICAST_LOOP:
		*value = s->group_loop_v6;
		return 0;
	case IPV6_MULTICAST_ALL:
		*value = s->group_all_v6;
		return 0;
	case IPV6_TCLASS:
		*value = s->traffic_class;
		return 0;
	case IPV6_MTU:
		if (!s->connected)
			return -ENOTCONN;
		*value = (int)path_mtu(s->net, &s->remote);
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

int udp_socket_get_option(struct udp_socket *socket, int level, int name, void *value,
			  socklen_t *length)
{
	int number = 0;
	int err = -ENOPROTOOPT;

	if (level == SOL_SOCKET)
		err = get_socket(socket, name, &number);
	else if (udp_group_get_option(socket, level, name, &number) == 0)
		err = 0;
	else if (level == IPPROTO_IP)
		err = get_v4(socket, name, &number);
	else if (level == IPPROTO_IPV6)
		err = get_v6(socket, name, &number);
	if (err)
		return err;
	if (*length > sizeof(number))
		*length = sizeof(number);
	memcpy(value, &number, *length);
	return 0;
}
