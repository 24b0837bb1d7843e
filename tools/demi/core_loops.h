/* SPDX-License-Identifier: MIT
 * tools/demi/core_loops.h - the loops of `demi bench core`: each runs one operation of the library,
 * or of its reference, so many times.
 */
#pragma once

#include "ticks.h"

#include <stddef.h>
#include <stdint.h>

struct core_state;

struct core_loop {
	const char *key;  /* of the JSON row */
	const char *what; /* in the table */
	uint64_t count;   /* operations of one timed repeat */
	size_t size;      /* bytes, or tokens: what the loop is about */
	/* Makes what the loop needs; 0 or a positive errno; ENOTSUP: not there. NULL: nothing. */
	int (*prepare)(struct core_state *state, size_t size);
	/* Runs it count times; the ticks that are the operation's own (0: an error). */
	uint64_t (*run)(struct core_state *state, uint64_t count);
	void (*finish)(struct core_state *state); /* NULL: nothing */
};

extern const struct core_loop core_loops[];
extern const size_t core_loop_count;

struct core_state *core_state_make(void);
void core_state_free(struct core_state *state);

/* The loop of a key, given with or without its unit; NULL if there is none. */
const struct core_loop *core_loop_find(const char *key);
