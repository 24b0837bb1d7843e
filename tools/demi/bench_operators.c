/* SPDX-License-Identifier: MIT
 * tools/demi/bench_operators.c - `demi bench operators`: what an operator adds to a memory queue.
 *
 * All loops run in turn, and that several times; a figure is the median over the repeats, the cost
 * of a hop the median of the differences within a repeat.  --only KEY --count N runs one loop N
 * times untimed, for counting its instructions.
 */
#include "instance.h"
#include "median.h"
#include "operator_loops.h"
#include "options.h"
#include "process.h"
#include "report.h"
#include "ticks.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPEATS_DEFAULT 101
#define REPEATS_MAX     1001
#define COUNT_DEFAULT   20000 /* a millisecond: most loops are not preempted */
#define SIZE_BYTES      64

struct operators_options {
	const char *only, *json;
	uint64_t count, repeats, core;
};

struct operators_bench {
	struct operators_options options;
	double *ns; /* by loop and repeat */
};

static double *figures(const struct operators_bench *bench, unsigned loop)
{
	return bench->ns + loop * bench->options.repeats;
}

static int run_repeat(struct operators_bench *bench, unsigned repeat)
{
	uint64_t count = bench->options.count;

	for (unsigned i = 0; i < operator_loop_count; i++) {
		uint64_t ticks = operator_loop_run(&operator_loops[i], count / 10, count);

		if (ticks == 0) {
			tool_complain("%s: failed", operator_loops[i].key);
			return TOOL_FAILED;
		}
		figures(bench, i)[repeat] = (double)ticks / (double)count;
	}
	return TOOL_GOOD;
}

/* The counter is calibrated against the clock over the whole of them. */
static int run_repeats(struct operators_bench *bench)
{
	uint64_t repeats = bench->options.repeats;
	uint64_t begin_ns = clock_now_ns();
	uint64_t begin = core_ticks();
	int status = TOOL_GOOD;

	for (unsigned repeat = 0; repeat < repeats && status == TOOL_GOOD; repeat++) {
		progress_show("operators: repeat %u of %u", repeat + 1, (unsigned)repeats);
		status = run_repeat(bench, repeat);
	}
	progress_clear();
	double ticks_per_ns = (double)(core_ticks() - begin) / (double)(clock_now_ns() - begin_ns);
	for (uint64_t i = 0; i < operator_loop_count * repeats; i++)
		bench->ns[i] /= ticks_per_ns;
	return status;
}

/* Median of one loop, or of what it takes more than another. */
static double median_of(const struct operators_bench *bench, unsigned loop, const double *less)
{
	uint64_t repeats = bench->options.repeats;
	double *values = tool_alloc(repeats, sizeof(*values));
	double value;

	for (uint64_t i = 0; i < repeats; i++)
		values[i] = figures(bench, loop)[i] - (less ? less[i] : 0);
	value = median(values, repeats);
	free(values);
	return value;
}

/* The bare loop that one stands on; NULL: it is bare itself, or no hop. */
static const char *bare_of(const char *key)
{
	if (strncmp(key, "queue", 5) == 0 || strcmp(key, "qconnect") == 0)
		return NULL;
	return strcmp(key, "sort_16") == 0 ? "queue_16" : "queue";
}

static void add_row(const struct operators_bench *bench, unsigned loop, struct report *report)
{
	const char *key = operator_loops[loop].key;
	const char *bare = bare_of(key);
	double element_ns = median_of(bench, loop, NULL);
	struct row *row = report_add(report);

	row_text(row, "what", "operators");
	row_text(row, "operator", key);
	row_whole(row, "size_bytes", SIZE_BYTES);
	row_number(row, "element_ns", element_ns);
	row_number(row, "elements_per_s", 1e9 / element_ns);
	row_whole(row, "repeats", bench->options.repeats);
	if (!bare) {
		row_null(row, "reference");
		row_null(row, "hop_ns");
		return;
	}
	unsigned other = (unsigned)(operator_loop_find(bare) - operator_loops);
	row_text(row, "reference", bare);
	row_number(row, "hop_ns", median_of(bench, loop, figures(bench, other)));
}

static int show(const struct operators_bench *bench)
{
	static const struct report_column columns[] = {
		{"operator", "operator", 1, 0},         {"element_ns", "ns an element", 1, 1},
		{"elements_per_s", "elements/s", 1, 0}, {"reference", "above", 1, 0},
		{"hop_ns", "ns a hop", 1, 1},
	};
	const char *json = bench->options.json;
	struct report report = {0};
	int status = TOOL_GOOD;

	for (unsigned i = 0; i < operator_loop_count; i++)
		add_row(bench, i, &report);
	if (!json || strcmp(json, "-") != 0)
		report_print(&report, columns, TOOL_COUNT(columns));
	if (json && report_write_json(&report, json) < 0)
		status = TOOL_FAILED;
	report_free(&report);
	return status;
}

static int run_all(struct operators_bench *bench)
{
	int status;

	bench->ns = tool_alloc(operator_loop_count * bench->options.repeats, sizeof(*bench->ns));
	status = run_repeats(bench);
	if (status == TOOL_GOOD)
		status = show(bench);
	free(bench->ns);
	return status;
}

static int run_only(const struct operators_options *options)
{
	if (operator_loop_run(operator_loop_find(options->only), 0, options->count) > 0)
		return TOOL_GOOD;
	tool_complain("%s: failed", options->only);
	return TOOL_FAILED;
}

static int read_options(struct operators_options *options, int argc, char **argv)
{
	const struct option_spec specs[] = {
		{"repeats", OPTION_WHOLE, &options->repeats, 1, REPEATS_MAX, NULL, "N",
		 "interleaved repeats of each loop (101)"},
		{"only", OPTION_TEXT, &options->only, 0, 0, NULL, "KEY",
		 "run only this loop, untimed"},
		{"count", OPTION_WHOLE, &options->count, 16, 1e12, NULL, "N",
		 "elements of a loop (20000)"},
		{"core", OPTION_WHOLE, &options->core, 0, 4095, NULL, "N", "core to run on (0)"},
		{"json", OPTION_TEXT, &options->json, 0, 0, NULL, "FILE",
		 "write the rows as JSON (-: standard output)"},
	};

	*options = (struct operators_options){.count = COUNT_DEFAULT, .repeats = REPEATS_DEFAULT};
	int status = options_read(specs, TOOL_COUNT(specs), argc, argv,
				  "demi bench operators [OPTION...]");
	if (status != TOOL_GOOD)
		return status;
	if (!options->only || operator_loop_find(options->only))
		return TOOL_GOOD;
	tool_complain("--only: '%s' is not a figure of this benchmark", options->only);
	return TOOL_USAGE;
}

int bench_operators(int argc, char **argv)
{
	struct operators_bench bench = {0};
	char message[256];
	int status = read_options(&bench.options, argc, argv);

	if (status != TOOL_GOOD)
		return status < 0 ? TOOL_GOOD : status;
	core_pin((int)bench.options.core);
	if (instance_open("catnap", NULL, "busy", message, sizeof(message)) < 0) {
		tool_complain("%s", message);
		return TOOL_FAILED;
	}
	status = bench.options.only ? run_only(&bench.options) : run_all(&bench);
	instance_close();
	return status;
}
