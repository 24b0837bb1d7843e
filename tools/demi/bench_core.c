/* SPDX-License-Identifier: MIT
 * tools/demi/bench_core.c - `demi bench core`: nanoseconds of the library's own operations, each
 * beside a reference.
 *
 * All loops run in turn, and that several times; a figure is the median over the repeats, a ratio
 * the median of the ratios within a repeat. --only KEY --count N runs one loop N times untimed, for
 * counting its instructions.
 */
#include "contest.h"
#include "core_loops.h"
#include "instance.h"
#include "options.h"
#include "process.h"
#include "report.h"
#include "tool.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPEATS_DEFAULT 11
#define REPEATS_MAX     1001

struct core_options {
	const char *only, *json;
	uint64_t count, repeats, core;
	bool quick;
};

struct core_bench {
	struct core_options options;
	struct core_state *state;
	double *ns; /* by loop and repeat */
	double ticks_per_ns;
};

/* What a figure stands beside in the table. */
static const struct {
	const char *key, *reference;
} comparisons[] = {
	{"memory_queue_roundtrip", "syscall"},
	{"operation", "syscall"},
	{"coroutine_switch", "syscall"},
	{"wait_any_1", "syscall"},
	{"wait_any_100", "wait_any_1"},
	{"wait_any_10000", "wait_any_1"},
	{"heap_64", "malloc_64"},
	{"heap_64", "mimalloc_64"},
	{"heap_1024", "malloc_1024"},
	{"heap_1024", "mimalloc_1024"},
	{"heap_16384", "malloc_16384"},
	{"heap_16384", "mimalloc_16384"},
};

static double *figures(const struct core_bench *bench, size_t loop)
{
	return bench->ns + loop * bench->options.repeats;
}

static size_t index_of(const char *key)
{
	return (size_t)(core_loop_find(key) - core_loops);
}

/* Ticks of one loop; 0 if it failed, ENOTSUP in *error if it is not there. */
static uint64_t run_loop(struct core_state *state, const struct core_loop *loop, uint64_t warmup,
			 uint64_t count, int *error)
{
	uint64_t ticks = 0;

	*error = loop->prepare ? loop->prepare(state, loop->size) : 0;
	if (!*error) {
		if (warmup == 0 || loop->run(state, warmup) > 0)
			ticks = loop->run(state, count);
		*error = ticks == 0 ? EIO : 0;
	}
	if (loop->finish)
		loop->finish(state);
	return ticks;
}

static int run_repeat(struct core_bench *bench, unsigned repeat)
{
	for (size_t i = 0; i < core_loop_count; i++) {
		uint64_t count =
			bench->options.quick ? core_loops[i].count / 20 : core_loops[i].count;
		uint64_t ticks;
		int error;

		ticks = run_loop(bench->state, &core_loops[i], count / 10, count, &error);
		if (error && error != ENOTSUP) {
			tool_complain("%s: %s", core_loops[i].key, strerror(error));
			return TOOL_FAILED;
		}
		figures(bench, i)[repeat] = error ? NAN : (double)ticks / (double)count;
	}
	return TOOL_GOOD;
}

/* All repeats; the counter is calibrated against the clock over the whole of them. */
static int run_repeats(struct core_bench *bench)
{
	uint64_t begin_ns = clock_now_ns();
	uint64_t begin = core_ticks();
	size_t total = core_loop_count * bench->options.repeats;
	int status = TOOL_GOOD;

	for (unsigned repeat = 0; repeat < bench->options.repeats && status == TOOL_GOOD;
	     repeat++) {
		progress_show("core: repeat %u of %u", repeat + 1,
			      (unsigned)bench->options.repeats);
		status = run_repeat(bench, repeat);
	}
	progress_clear();
	bench->ticks_per_ns = (double)(core_ticks() - begin) / (double)(clock_now_ns() - begin_ns);
	for (size_t i = 0; i < total; i++)
		bench->ns[i] /= bench->ticks_per_ns;
	return status;
}

static double median_of(const struct core_bench *bench, size_t loop)
{
	size_t repeats = bench->options.repeats;
	double *copy = tool_alloc(repeats, sizeof(*copy));
	double value;

	memcpy(copy, figures(bench, loop), repeats * sizeof(*copy));
	value = isnan(copy[0]) ? NAN : median(copy, repeats);
	free(copy);
	return value;
}

static double ratio_of(const struct core_bench *bench, size_t one, size_t other)
{
	size_t repeats = bench->options.repeats;
	double *ratios = tool_alloc(repeats, sizeof(*ratios));
	double value;

	for (size_t i = 0; i < repeats; i++)
		ratios[i] = figures(bench, one)[i] / figures(bench, other)[i];
	value = isnan(ratios[0]) ? NAN : median(ratios, repeats);
	free(ratios);
	return value;
}

static void print_table(const struct core_bench *bench)
{
	printf("%-36s %9s   %-28s %9s %7s\n", "", "ns", "beside", "ns", "ratio");
	for (size_t i = 0; i < TOOL_COUNT(comparisons); i++) {
		size_t one = index_of(comparisons[i].key);
		size_t other = index_of(comparisons[i].reference);

		if (isnan(median_of(bench, other)))
			continue;
		printf("%-36s %9.1f   %-28s %9.1f %7.3f\n", core_loops[one].what,
		       median_of(bench, one), core_loops[other].what, median_of(bench, other),
		       ratio_of(bench, one, other));
	}
	printf("coroutine switch: %.1f ticks of the time-stamp counter\n",
	       median_of(bench, index_of("coroutine_switch")) * bench->ticks_per_ns);
}

static void fill_row(const struct core_bench *bench, struct row *row)
{
	row_text(row, "what", "core");
	for (size_t i = 0; i < core_loop_count; i++)
		row_number(row, core_loops[i].key, median_of(bench, i));
	row_number(row, "coroutine_switch_tsc",
		   median_of(bench, index_of("coroutine_switch")) * bench->ticks_per_ns);
	row_number(row, "tsc_per_ns", bench->ticks_per_ns);
	row_whole(row, "repeats", bench->options.repeats);
}

static int report(const struct core_bench *bench)
{
	const char *json = bench->options.json;
	struct report rows = {0};
	int status = TOOL_GOOD;

	fill_row(bench, report_add(&rows));
	if (!json || strcmp(json, "-") != 0)
		print_table(bench);
	if (json && report_write_json(&rows, json) < 0)
		status = TOOL_FAILED;
	report_free(&rows);
	return status;
}

static int run_all(struct core_bench *bench)
{
	int status;

	bench->ns = tool_alloc(core_loop_count * bench->options.repeats, sizeof(*bench->ns));
	status = run_repeats(bench);
	if (status == TOOL_GOOD)
		status = report(bench);
	free(bench->ns);
	return status;
}

static int run_only(struct core_bench *bench)
{
	const struct core_loop *loop = core_loop_find(bench->options.only);
	int error;

	run_loop(bench->state, loop, 0, bench->options.count, &error);
	if (error)
		tool_complain("%s: %s", loop->key, strerror(error));
	return error ? TOOL_FAILED : TOOL_GOOD;
}

static int read_options(struct core_options *options, int argc, char **argv)
{
	const struct option_spec specs[] = {
		{"json", OPTION_TEXT, &options->json, 0, 0, NULL, "FILE",
		 "write the row as JSON (-: standard output)"},
		{"repeats", OPTION_WHOLE, &options->repeats, 1, REPEATS_MAX, NULL, "N",
		 "interleaved repeats of each loop (11)"},
		{"quick", OPTION_FLAG, &options->quick, 0, 0, NULL, NULL,
		 "a twentieth of the operations"},
		{"only", OPTION_TEXT, &options->only, 0, 0, NULL, "KEY",
		 "run only this loop, untimed"},
		{"count", OPTION_WHOLE, &options->count, 1, 1e12, NULL, "N",
		 "so many times (10000)"},
		{"core", OPTION_WHOLE, &options->core, 0, 4095, NULL, "N", "core to run on (0)"},
	};

	*options = (struct core_options){.count = 10000, .repeats = REPEATS_DEFAULT};
	int status =
		options_read(specs, TOOL_COUNT(specs), argc, argv, "demi bench core [OPTION...]");
	if (status != TOOL_GOOD)
		return status;
	if (options->only && !core_loop_find(options->only)) {
		tool_complain("--only: '%s' is not a figure of this benchmark", options->only);
		return TOOL_USAGE;
	}
	return TOOL_GOOD;
}

int bench_core(int argc, char **argv)
{
	struct core_bench bench = {0};
	char message[256];
	int status = read_options(&bench.options, argc, argv);

	if (status != TOOL_GOOD)
		return status < 0 ? TOOL_GOOD : status;
	core_pin((int)bench.options.core);
	if (instance_open("catnap", NULL, NULL, message, sizeof(message)) < 0) {
		tool_complain("%s", message);
		return TOOL_FAILED;
	}
	bench.state = core_state_make();
	status = bench.options.only ? run_only(&bench) : run_all(&bench);
	core_state_free(bench.state);
	instance_close();
	return status;
}
