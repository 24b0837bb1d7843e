/* SPDX-License-Identifier: MIT
 * sched/place.h - where the Unix sockets of a user's instances are.  A leaf: it makes system calls.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The directory, made if need be: $XDG_RUNTIME_DIR/demitasse, else /run/user/UID/demitasse if
 * that can be, else /tmp/demitasse-UID.  false: there is no safe place. */
bool place_directory(char *out, size_t room);

/* Is it a directory in which no stranger may rename our files: ours or root's, and written by
 * others only if it is sticky? */
bool place_is_safe(const char *path);
