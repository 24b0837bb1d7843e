/* SPDX-License-Identifier: MIT
 * tools/demi/contest.h - back ends measured against each other: interleaved runs, medians of the
 * ratios of neighbours.
 *
 * The machine drifts over minutes by more than what is to be shown: figures of different times are
 * not compared. The first contender and its references run in turn (A B C, A B C, ...); a ratio is
 * taken within each round, and the median over the rounds counts.
 */
#pragma once

#include "echo.h"
#include "median.h"

#define CONTESTANTS_MAX   16
#define CONTEST_PAIRS_MAX 1001

struct contestant {
	struct echo_spec spec;
	unsigned rounds_wanted;             /* takes part in so many rounds */
	const struct contestant *reference; /* what it is compared with; NULL: nothing */
	double floor_ns; /* what its round trips cannot be below (echo_floor.h); 0: not known */
	/* filled by contest_run */
	struct echo_result result; /* merged */
	unsigned runs;
	double *p50_ns, *rate_per_s, *cpu_ns; /* by round */
	int error;                            /* -ENOTSUP: left out */
	char message[ECHO_MESSAGE_MAX];
};

struct contest {
	struct contestant contestants[CONTESTANTS_MAX];
	size_t count;
};

/* Adds one; NULL if there are too many. */
struct contestant *contest_add(struct contest *contest, const struct echo_spec *spec,
			       unsigned rounds);

/* Runs them all. One that fails is left out of what follows. 0, or the first error that is not
 * -ENOTSUP. */
int contest_run(struct contest *contest, const char *label);

void contest_free(struct contest *contest);

/* Median over the rounds of a figure of one contestant over the other's; NAN if there is none. */
struct contest_ratios {
	double p50, rate, cpu;
	unsigned pairs;
};

struct contest_ratios contest_compare(const struct contestant *one, const struct contestant *other);

double echo_requests_per_s(const struct echo_result *result);
double echo_cpu_per_request_ns(const struct echo_result *result);
