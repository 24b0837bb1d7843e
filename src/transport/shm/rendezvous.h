/* SPDX-License-Identifier: MIT
 * transport/shm/rendezvous.h - how two ends find each other: Unix sockets by name in a directory
 * that is the user's, and credentials.
 *
 * A name is a file NAME.lock, which whoever listens holds a lock of (so one that died is told from
 * one that lives), and a socket NAME.sock.  Peers are of our own user id, or root, or of the group
 * that the configuration names.  A visitor that says nothing is sent away after
 * CHANNEL_PATIENCE_NS; at most RENDEZVOUS_VISITORS are listened to at a time.
 */
#pragma once

#include "transport/shm/shm.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define CHANNEL_PATIENCE_NS ((uint64_t)1000000000)  /* with one who connected and says nothing */
#define CHANNEL_ANSWER_NS   ((uint64_t)10000000000) /* with one who is busy and does not look */
#define RENDEZVOUS_NAME_MAX 63 /* bytes: letters, digits, "._-:[]%", no leading dot */
#define RENDEZVOUS_VISITORS 8

/* Somebody who connected and has said properly who it is. */
struct visitor {
	int fd;        /* the connected socket */
	int memory_fd; /* its memfd */
	int heap_fd;   /* what it lends payload from; -1 */
	uint64_t heap_bytes;
	bool barrier; /* it lets a barrier run on every core before it sleeps */
	struct ucred peer;
	uint32_t hello_bytes;
	char hello[64];
};

struct rendezvous;

/* A visitor came.  0: it was taken (by channel_accept); -errno: it is told so and sent away.  May
 * close the rendezvous. */
typedef int (*rendezvous_fn)(struct rendezvous *rendezvous, void *arg, struct visitor *visitor);

struct rendezvous_place {
	const char *prefix; /* "pipe-", "tcp-": names of one sort do not meet those of another */
	const char *name;
};

/* Listens at a place; at most backlog + 1 connect before they are looked at.  0, -EINVAL: the name
 * is bad, -EEXIST: it is in use, -EACCES: no directory for it that is safe, or -errno. */
int rendezvous_listen(struct shm *shm, const struct rendezvous_place *place, int backlog,
		      rendezvous_fn fn, void *arg, struct rendezvous **rendezvous_out);

/* No more visitors come; the name stays ours. */
void rendezvous_rest(struct rendezvous *rendezvous);

/* The name is free again; visitors that have not been taken are sent away with -ECONNREFUSED. */
void rendezvous_close(struct rendezvous *rendezvous);

/* A socket connected to who listens there, for channel_connect.  Does not block.  0, -EINVAL: the
 * name is bad, -ENOENT: nobody has the name, -EBUSY: somebody has it, but does not listen, or does
 * not get round to its visitors; -EACCES: it is not of those that we talk to; or -errno. */
int rendezvous_connect(struct shm *shm, const struct rendezvous_place *place, int *fd_out);
