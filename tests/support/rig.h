/* tests/support/rig.h: a struct sched without an instance around it, on a clock that the test owns,
 * and a poller whose input is a function of the test's. */
#pragma once

#include "sched/sched.h"

#include <stdbool.h>
#include <stdint.h>

struct rig_options {
	uint32_t operations_max;
	uint32_t coroutines_max;
	uint64_t stack_bytes;
	uint64_t heap_bytes;
	uint64_t send_limit_bytes;
	uint64_t step_ns; /* how far each read moves the clock on */
	bool adaptive;    /* spin for 0 us, then sleep; otherwise busy: never sleeps */
};

struct rig {
	struct sched sched;
	struct poller poller;
	uint64_t now_ns;
	uint64_t step_ns;
	uint64_t polls; /* turns so far */
	uint32_t flushes;
	uint32_t doorbells; /* flushes with at most one result left */
	/* Called once a turn; returns how much happened. NULL: nothing. */
	uint32_t (*input)(struct rig *rig, void *arg);
	void *arg;
};

/* rig_open: members of options that are 0 get a default. 0 or -errno. */
int rig_open(struct rig *rig, const struct rig_options *options);
void rig_close(struct rig *rig);

/* rig_check: the invariants of everything that has a check */
void rig_check(struct rig *rig);
