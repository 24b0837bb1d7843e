/* SPDX-License-Identifier: MIT
 * api/stat.h - the instance's Unix socket: what `demi stat` and `demi capture` speak to.
 *
 * Listens at DIRECTORY/demitasse/PID-N.sock, mode 0600, N counting the instances of the process;
 * DIRECTORY is XDG_RUNTIME_DIR, else /run/user/UID, else a directory of our own below /tmp. Failing
 * to listen is told to the log as information and is no error.
 *
 * Whoever connects sends one line:
 *
 *	stat       is sent one JSON document, and the connection is closed; so is who says nothing
 *	capture    comes with a descriptor (SCM_RIGHTS), to which every frame is written as pcapng
 *	           from then on.  The answer is "ok" or why not, a line.  The capture ends when the
 *	           client shuts its side or goes; it is told "frames N lost N", a line, then.
 *
 * Served in poll turns, from the descriptors that the instance sleeps on, one connection at a time
 * (that of a capture aside); others wait in the backlog.  Owned by the instance.
 */
#pragma once

#include "sched/fdset.h"
#include "sched/timer.h"

#include <stddef.h>
#include <sys/un.h>

#define STAT_REQUEST_MAX 16

struct demi;

struct stat_server {
	struct demi *demi;
	struct fd_watch listener;   /* fd -1: not listening */
	struct fd_watch connection; /* fd -1: none */
	struct fd_watch capture;    /* the connection of a capture; fd -1: none */
	struct timer patience;      /* how long the connection may say nothing */
	char request[STAT_REQUEST_MAX];
	size_t request_bytes;
	int request_fd; /* that came with it; -1: none */
	char *text;     /* what the connection is sent; NULL: its request is not there yet */
	size_t text_bytes;
	size_t text_sent;
	unsigned index; /* N */
	struct sockaddr_un address;
};

void stat_open(struct stat_server *stat, struct demi *demi);
void stat_close(struct stat_server *stat);

/* The document: a string from malloc, *bytes_out long; NULL: no memory. */
char *stat_document(struct demi *demi, unsigned index, size_t *bytes_out);
