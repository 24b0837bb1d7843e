/* SPDX-License-Identifier: MIT */
#include "base/counters.h"

static const char *const counter_names[] = {
#define COUNTER(name, text) [COUNTER_##name] = text,
#include "base/counter.def"
#undef COUNTER
};

static const char *const drop_names[] = {
#define DROP(name, text, meaning) [DROP_##name] = text,
#include "base/drop.def"
#undef DROP
};

const char *counter_name(enum counter counter)
{
	return counter_names[counter];
}

const char *drop_name(enum drop drop)
{
	return drop_names[drop];
}
