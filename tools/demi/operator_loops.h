/* SPDX-License-Identifier: MIT
 * tools/demi/operator_loops.h - the loops of `demi bench operators`: elements through a memory
 * queue, bare or with an operator on it.
 */
#pragma once

#include <stdint.h>

struct operator_state;

struct operator_loop {
	const char *key; /* of --only, and in the rows */
	/* Makes the queues. 0 or a positive errno. */
	int (*prepare)(struct operator_state *state);
	/* Passes so many elements; ticks that it took (0: an error). */
	uint64_t (*run)(struct operator_state *state, uint64_t count);
};

/* The first is the bare queue, which the others are compared with, the last a pipeline inside of
 * demi_qconnect. */
extern const struct operator_loop operator_loops[];
extern const unsigned operator_loop_count;

/* NULL: there is none. */
const struct operator_loop *operator_loop_find(const char *key);

/* Makes an element, and the queues of the loop; passes warmup, then count elements; closes them.
 * Ticks, 0: it failed. */
uint64_t operator_loop_run(const struct operator_loop *loop, uint64_t warmup, uint64_t count);
