/* SPDX-License-Identifier: MIT
 * tools/demi/contest.c - back ends measured against each other.
 */
#include "contest.h"

#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

double echo_requests_per_s(const struct echo_result *result)
{
	return result->elapsed_ns ? (double)result->requests * 1e9 / (double)result->elapsed_ns : 0;
}

double echo_cpu_per_request_ns(const struct echo_result *result)
{
	return result->requests ? (double)result->server_cpu_ns / (double)result->requests : 0;
}

struct contestant *contest_add(struct contest *contest, const struct echo_spec *spec,
			       unsigned rounds)
{
	struct contestant *contestant = &contest->contestants[contest->count];

	if (contest->count == CONTESTANTS_MAX)
		return NULL;
	contest->count++;
	contestant->spec = *spec;
	contestant->rounds_wanted = rounds;
	contestant->p50_ns = tool_alloc(rounds, sizeof(double));
	contestant->rate_per_s = tool_alloc(rounds, sizeof(double));
	contestant->cpu_ns = tool_alloc(rounds, sizeof(double));
	return contestant;
}

void contest_free(struct contest *contest)
{
	for (size_t i = 0; i < contest->count; i++) {
		free(contest->contestants[i].p50_ns);
		free(contest->contestants[i].rate_per_s);
		free(contest->contestants[i].cpu_ns);
	}
	contest->count = 0;
}

/* One run of one contestant. */
static int run_once(struct contestant *contestant, unsigned round)
{
	struct echo_result *result = tool_alloc(1, sizeof(*result));
	int error = echo_run(&contestant->spec, result, contestant->message);

	if (!error && result->requests == 0) {
		tool_copy_text(contestant->message, sizeof(contestant->message),
			       "no request was answered");
		error = -ENODATA;
	}
	if (!error) {
		contestant->p50_ns[round] = (double)histogram_percentile(&result->rtt, 0.5);
		contestant->rate_per_s[round] = echo_requests_per_s(result);
		contestant->cpu_ns[round] = echo_cpu_per_request_ns(result);
		echo_result_merge(&contestant->result, result);
		contestant->runs++;
	}
	contestant->error = error;
	free(result);
	return error;
}

static unsigned rounds_of(const struct contest *contest)
{
	unsigned rounds = 0;

	for (size_t i = 0; i < contest->count; i++) {
		if (contest->contestants[i].rounds_wanted > rounds)
			rounds = contest->contestants[i].rounds_wanted;
	}
	return rounds;
}

/* One that fails says why, once, and takes no further part. */
static int take_turn(struct contestant *contestant, unsigned round)
{
	int error;

	if (contestant->error || round >= contestant->rounds_wanted)
		return 0;
	error = run_once(contestant, round);
	if (error)
		tool_complain("%s: %s: %s", echo_spec_name(&contestant->spec),
			      error == -ENOTSUP ? "left out" : "failed", contestant->message);
	return error == -ENOTSUP ? 0 : error;
}

int contest_run(struct contest *contest, const char *label)
{
	unsigned rounds = rounds_of(contest);
	int first_error = 0;

	for (unsigned round = 0; round < rounds; round++) {
		for (size_t i = 0; i < contest->count; i++) {
			int error;

			progress_show("%s: round %u of %u: %s", label, round + 1, rounds,
				      echo_spec_name(&contest->contestants[i].spec));
			error = take_turn(&contest->contestants[i], round);
			first_error = first_error ? first_error : error;
		}
	}
	progress_clear();
	return first_error;
}

struct contest_ratios contest_compare(const struct contestant *one, const struct contestant *other)
{
	unsigned pairs = one->runs < other->runs ? one->runs : other->runs;

	return (struct contest_ratios){
		.p50 = median_ratio(one->p50_ns, other->p50_ns, pairs),
		.rate = median_ratio(one->rate_per_s, other->rate_per_s, pairs),
		.cpu = median_ratio(one->cpu_ns, other->cpu_ns, pairs),
		.pairs = pairs,
	};
}
