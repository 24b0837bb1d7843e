/* SPDX-License-Identifier: MIT
 * tools/demi/net/pair.h - two instances of the library in this thread, each on one end of a ring.
 *
 * Internals of the library are used to make them: the ring is no device that a configuration names.
 * Everything after that is the public API.
 */
#pragma once

#include "api/instance.h"
#include "netdev/netdev.h"

#include <demi/types.h>
#include <stdbool.h>
#include <stdint.h>

enum { SERVER, CLIENT };

struct pair {
	struct demi *ends[2];
	struct netdev *devices[2]; /* of the instances */
	int listening;
	bool connected; /* once at least */
};

/* now_ns: the clock of both, with arg.  false after a complaint; nothing is left open then. */
bool pair_open(struct pair *pair, uint32_t mtu, uint64_t (*now_ns)(void *arg), void *arg);
void pair_close(struct pair *pair);

/* So many more connections: their descriptors at either end; qds[end] may be NULL.  The server has
 * a pop outstanding on each. */
bool pair_connect(struct pair *pair, unsigned count, int *qds[2]);

/* Makes one end the thread's instance. */
void pair_enter(const struct pair *pair, int end);

/* Results of the entered end, at most count: those that are there, else what one turn brings.
 * Negative after a complaint: something failed. */
int pair_results(demi_qresult_t *results, int count);

/* Pushes one message of the entered end; the token is left to pair_results. */
bool pair_push(int qd, const void *bytes, uint32_t num_bytes);

/* malloc'ed bytes of the process and live ones of both heaps. */
uint64_t pair_memory(const struct pair *pair);
