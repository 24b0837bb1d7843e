/* SPDX-License-Identifier: MIT
 * tools/demi/helper/server.h - the helper at work: one loop, one thread, any number of clients.
 *
 * A client is a connection.  It waits (WAITING_MS at most) until it has asked for its socket, and
 * then has a grant, which ends with the connection.  One message of each is taken in a turn, and
 * none is waited for: who does not read what he is sent is let go.  Opening a socket takes up to
 * some tens of milliseconds, and is the longest that others wait.
 */
#pragma once

#include "helper/policy.h"
#include "helper/system.h"

#include <stdint.h>

struct server_options {
	const struct policy *policy;
	const struct admission *admission;
	uint32_t clients_max; /* that have a grant */
	bool take_groups;     /* groups and broadcasts that the kernel listens to */
	bool alone;           /* not through libxdp's dispatcher, whatever clients ask for */
};

/* Serves until SIGTERM or SIGINT, then ends every grant.  Returns an exit status. */
int server_run(const struct server_options *options, int listen_fd);
