/* SPDX-License-Identifier: MIT
 * tools/demi/echo_rounds.c - see echo_rounds.h.
 */
#include "echo_rounds.h"

#include "ticks.h"
#include "tool.h"

#include <errno.h>

#define BATCH        64 /* rounds between looks at the clock */
#define CALIBRATE_NS (5 * NS_PER_MS)

struct rounds {
	struct echo_end *end;
	echo_round_t round;
	void *arg;
	uint64_t number;
	uint64_t overhead; /* ticks that two readings of the counter are apart */
	double ns_per_tick;
};

static double calibrate(void)
{
	uint64_t begin_ns = clock_now_ns();
	uint64_t begin = core_ticks();
	uint64_t now_ns;

	do
		now_ns = clock_now_ns();
	while (now_ns < begin_ns + CALIBRATE_NS);
	return (double)(now_ns - begin_ns) / (double)(core_ticks() - begin);
}

static int run_batch(struct rounds *rounds)
{
	struct load *load = &rounds->end->load;
	int error = 0;

	for (unsigned i = 0; i < BATCH && load->budget > 0 && !error; i++) {
		uint64_t begin = core_ticks();

		error = rounds->round(rounds->arg, rounds->number++, load->checked);
		uint64_t ticks = core_ticks() - begin;
		ticks -= ticks < rounds->overhead ? ticks : rounds->overhead;
		if (load->histogram)
			histogram_record(load->histogram,
					 (uint64_t)((double)ticks * rounds->ns_per_tick + 0.5));
		load->budget--;
		load->requests++;
	}
	return error;
}

static int rounds_loop(void *arg)
{
	struct rounds *rounds = arg;
	struct load *load = &rounds->end->load;
	int error = 0;

	while (!error && load_open(load, load->last_ns)) {
		error = run_batch(rounds);
		load->last_ns = clock_now_ns();
	}
	return error;
}

int echo_rounds_run(struct echo_end *end, echo_round_t round, void *arg)
{
	struct rounds rounds = {.end = end,
				.round = round,
				.arg = arg,
				.overhead = ticks_overhead(),
				.ns_per_tick = calibrate()};
	int error = echo_client_run(end, rounds_loop, &rounds);

	return error == -EBADMSG ? echo_fail(end, error, "the echo differs from what was sent")
				 : error;
}
