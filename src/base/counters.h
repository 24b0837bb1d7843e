/* SPDX-License-Identifier: MIT
 * base/counters.h - counters and drops of an instance; the names stand in counter.def and drop.def.
 */
#pragma once

#include <stdint.h>

enum counter {

#define COUNTER(name, text) COUNTER_##name,
#include "base/counter.def"
#undef COUNTER
	COUNTER_COUNT
};

enum drop {
	DROP_NONE, /* nothing was dropped */

#define DROP(name, text, meaning) DROP_##name,
#include "base/drop.def"
#undef DROP
	DROP_COUNT
};

struct counters {
	uint64_t count[COUNTER_COUNT];
	uint64_t drops[DROP_COUNT];
};

const char *counter_name(enum counter counter);
const char *drop_name(enum drop drop);
