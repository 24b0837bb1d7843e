/* SPDX-License-Identifier: MIT
 * tools/demi/control.h - the sockets of running instances: DIRECTORY/PID-N.sock, N counting those
 * of a process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The directory. */
void control_directory(char *path, size_t room);

/* Whether the name is PID-N.sock. */
bool control_parse_name(const char *name, unsigned long *pid);

/* A connection to the instance at path; -errno. A socket that nobody listens on is removed. */
int control_connect(const char *path);
