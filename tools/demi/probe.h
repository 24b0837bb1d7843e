/* SPDX-License-Identifier: MIT
 * tools/demi/probe.h - which library OSes can run here: found out by making an instance in a child
 * process.
 */
#pragma once

#include "echo.h"

#include <stdbool.h>
#include <stddef.h>

/* A walk over the library OSes in the table of back ends; starts as {0}. */
struct libos_walk {
	size_t next; /* index in the table where the search goes on */
	/* what was found */
	size_t index;
	const struct echo_backend *backend;
	bool runs;         /* as it is configured */
	bool apart;        /* if not: over a device in a network namespace of its own */
	bool absent;       /* not in this build */
	char message[200]; /* if it does not run: the library's reason */
};

/* Tries the next one. False: there is none. */
bool libos_walk_next(struct libos_walk *walk);
