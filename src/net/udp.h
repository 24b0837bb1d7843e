/* SPDX-License-Identifier: MIT
 * net/udp.h - UDP sockets (RFC 768, RFC 1122 4.1, RFC 8085).
 *
 * A socket is bound when it has a local port.  Lookup: exact (local, remote) of connected sockets
 * first, then the bound address, then the wildcard.  A received datagram is one heap object laid
 * out as struct datagram says (sched/datagram.h): source address, then data; so a pop hands it over
 * whole.  Errors that come in later (port unreachable for a connected socket, a neighbour that does
 * not answer) are told to the next operation of the socket.
 */
#pragma once

#include "base/address.h"
#include "base/cbpf.h"
#include "base/list.h"
#include "sched/op.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct net;
struct udp_socket;

int udp_open(struct net *net);
void udp_close(struct net *net);

/* Asserts the invariants of udp_socket.h; walks everything. */
void udp_check(struct net *net);

/* domain: AF_INET or AF_INET6 (which is dual-stack unless v6only).  0 or -ENOMEM. */
int udp_socket_new(struct net *net, int domain, struct udp_socket **out);
/* Completes what is pending with ECANCELED and frees the socket. */
void udp_socket_close(struct udp_socket *socket);

/* Port 0: a random free one (RFC 6056).  -EINVAL: bound already; -EADDRNOTAVAIL, -EADDRINUSE. */
int udp_socket_bind(struct udp_socket *socket, const struct ip_address *address, uint16_t port);
/* To a random port, where answers come from whom the first datagram is for.  -EADDRINUSE. */
int udp_socket_bind_for(struct udp_socket *socket, const struct ip_address *local,
			const struct ip_address *remote, uint16_t remote_port);
/* Binds if need be; any address: disconnects.  -ENETUNREACH, ... */
int udp_socket_connect(struct udp_socket *socket, const struct ip_address *address, uint16_t port);
bool udp_socket_connected(const struct udp_socket *socket);
void udp_socket_local(const struct udp_socket *socket, struct ip_address *address, uint16_t *port);
void udp_socket_remote(const struct udp_socket *socket, struct ip_address *address, uint16_t *port);

/* to NULL: the connected peer.  The operation is completed (0 or a positive errno) when its
 * datagram is in the device's burst or waits for a neighbour; the result 0.  Other results refuse
 * it: -EDESTADDRREQ, -EMSGSIZE, -ENETUNREACH, -ENOMEM, -ECONNREFUSED (a pending error) ... */
int udp_socket_push(struct udp_socket *socket, struct op *op, const struct ip_address *to,
		    uint16_t port);
/* Takes the operation: completed at once if a datagram is queued, else pending. */
int udp_socket_pop(struct udp_socket *socket, struct op *op);
void udp_socket_cancel(struct udp_socket *socket, struct op *op);
/* Options of SOL_SOCKET (SO_RCVBUF, SO_REUSEADDR, SO_REUSEPORT, SO_ERROR, SO_TYPE,
 * SO_BROADCAST...), IPPROTO_IP (IP_TTL, IP_TOS) and IPPROTO_IPV6 (IPV6_V6ONLY, IPV6_UNICAST_HOPS,
 * IPV6_TCLASS).  0, -ENOPROTOOPT, -EINVAL. */
int udp_socket_set_option(struct udp_socket *socket, int level, int name, const void *value,
			  socklen_t length);
int udp_socket_get_option(struct udp_socket *socket, int level, int name, void *value,
			  socklen_t *length);
uint32_t udp_socket_queued(const struct udp_socket *socket);

/* udp_filter.c: the device need not give us datagrams of the socket for which a program of
 * base/cbpf.h is 0; count 0: it gives us all again.  What it cannot judge comes all the same.  0,
 * or -errno: it gives us all; -ENOTSUP: it has no filters, or the socket has no port, shares it, or
 * is connected. */
int udp_socket_filter(struct udp_socket *socket, const struct sock_filter *program, uint32_t count);
/* Does it still?  That ends when the socket is connected, and when another one gets its port. */
bool udp_socket_filtered(const struct udp_socket *socket);
