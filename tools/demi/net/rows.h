/* SPDX-License-Identifier: MIT
 * tools/demi/net/rows.h - what `demi bench net` measures, and the rows it makes of that.
 */
#pragma once

#include "../report.h"
#include "contender.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct net_options {
	const char *json, *only, *stack;
	const char *part; /* only these rows; NULL: all */
	uint64_t pairs, rounds, count, core;
	double seconds;
	uint64_t idle; /* idle connections beside an active one */
	bool quick, no_instructions;
};

struct net_case {
	const char *key;
	uint32_t size_bytes; /* of a request; of bulk, what a segment carries without options */
	struct net_spec spec;
};

extern const struct net_case net_cases[];
extern const size_t net_case_count;

/* NULL: no such case. */
const struct net_case *net_case_find(const char *key);

/* The stacks of this build, ours first; NULL after the last. */
const struct contender *net_contender(size_t i);

/* scale.c: the row of several instances.  false after a complaint. */
bool scale_measure(const struct net_options *options, struct report *report);

/* All rows; false after a complaint. */
bool net_measure(const struct net_options *options, struct report *report);
