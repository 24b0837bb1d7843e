/* SPDX-License-Identifier: MIT
 * netdev/afxdp/socket.h - an XDP socket as a grant has it: made with its memory and rings, and
 * bound to its queue.  All of it needs privilege.
 */
#pragma once

#include "netdev/afxdp/grant.h"

/* Makes grant->fd; after an error it is the caller's to close, if it is one.  memory NULL: it will
 * be bound with another's.  0 or -errno, told. */
int socket_open(struct grant *grant, const struct log *log, const struct grant_request *request,
		void *memory);

/* Binds it to grant->queue, the best way that the request leaves open, which the grant says then. 0
 * or -errno, told.  with: a socket bound to the same queue, whose memory, FILL and COMPLETION are
 * this one's too; NULL. */
int socket_bind(struct grant *grant, const struct log *log, const struct grant_request *request,
		int index, const struct grant *with);

/* Tells what failed, with what mends it.  Returns err, -errno. */
int socket_refused(const struct log *log, const struct grant_request *request, const char *what,
		   int err);
