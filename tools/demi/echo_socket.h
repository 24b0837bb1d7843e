/* SPDX-License-Identifier: MIT
 * tools/demi/echo_socket.h - what the plain-socket back ends of the echo benchmark share.
 *
 * Each call that fails leaves its message in the end and returns -errno.
 */
#pragma once

#include "echo.h"

#include <errno.h>

/* Room to receive into: the largest message. */
#define ECHO_BUFFER_BYTES ECHO_SIZE_MAX

#define ECHO_BACKLOG 4096

/* A stream socket that listens, or a bound datagram socket; flags as SOCK_NONBLOCK. The file
 * descriptor. */
int echo_socket_serve(struct echo_end *end, int flags);

/* A socket connected to the server, no delay; connecting blocks, afterwards it does as flags say.
 * The file descriptor. */
int echo_socket_connect(struct echo_end *end, int flags);

/* Opens the server's log, if it has one. 0. */
int echo_socket_log(struct echo_end *end);

/* Whether the errno of a non-blocking call means: not now. */
static inline bool echo_is_later(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* Whether a server that has seen so many clients come and go has served this run. */
static inline bool echo_served(const struct echo_end *end, unsigned accepted, unsigned open)
{
	return !end->stays && open == 0 && accepted >= end->spec->connections;
}

/* Port of a socket, host order; 0 if it has none. */
uint16_t echo_socket_port(int fd);

/* Tells a UDP server that the run is over, by an empty datagram. */
void echo_socket_farewell(const struct echo_end *end, int fd);
