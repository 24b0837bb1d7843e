/* SPDX-License-Identifier: MIT
 * tools/demi/helper/system.h - what the helper is to the system: its capabilities, its socket file,
 * its service manager.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Gives up every capability but those of its work, for good; dispatcher: with that of libxdp's
 * dispatcher.  0, or -1: complained of. */
int system_drop_privilege(bool dispatcher);

/* Who may connect: owner, group and mode of the socket file; asked of the kernel again for each
 * connection. */
struct admission {
	uid_t user;
	gid_t group;
	mode_t mode;
};

struct listener {
	int fd;
	const char *path; /* NULL: the service manager's */
	dev_t dev;        /* the file, as made */
	ino_t ino;
};

/* Listens at path, or on what the service manager passed: then owner and mode are those that its
 * file has.  0, or -1: complained of. */
int listener_open(struct listener *listener, const char *path, struct admission *admission);
/* Removes the file, if it is still ours. */
void listener_close(const struct listener *listener);

struct peer {
	pid_t pid;
	uid_t uid;
};

/* Who is connected, and may he be?  */
bool peer_admitted(const struct admission *admission, int fd, struct peer *peer_out);

/* Tells the service manager, if there is one: READY=1, STOPPING=1. */
void system_notify(const char *state);
