/* SPDX-License-Identifier: MIT
 * api/stat.h - the instance's Unix socket, which `demi stat` reads.
 *
 * Listens at DIRECTORY/demitasse/PID-N.sock, mode 0600, N counting the instances of the process;
 * DIRECTORY is XDG_RUNTIME_DIR, else /run/user/UID, else a directory of our own below /tmp. Whoever
 * connects is sent one JSON document, and the connection is closed.  Served in poll turns, from the
 * descriptors that the instance sleeps on.  Failing to listen is told to the log as information and
 * is no error.  Owned by the instance.
 */
#pragma once

#include "sched/fdset.h"

#include <stddef.h>
#include <sys/un.h>

struct demi;

struct stat_server {
	struct demi *demi;
	struct fd_watch listener;   /* fd -1: not listening */
	struct fd_watch connection; /* fd -1: none; one at a time, others wait in the backlog */
	char *text;                 /* what the connection is sent */
	size_t text_bytes;
	size_t text_sent;
	unsigned index; /* N */
	struct sockaddr_un address;
};

void stat_open(struct stat_server *stat, struct demi *demi);
void stat_close(struct stat_server *stat);

/* The document: a string from malloc, *bytes_out long; NULL: no memory. */
char *stat_document(struct demi *demi, unsigned index, size_t *bytes_out);
