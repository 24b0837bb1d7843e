/* SPDX-License-Identifier: MIT
 * tools/demi/bench_load.c - latency against offered load (`demi bench echo --rate R,R,...`) and
 * against the size of messages
 * (`demi bench size`): a contest for each point, one table, one plot.
 */
#include "bench_load.h"

#include "echo_report.h"
#include "tool.h"

#include <stdlib.h>
#include <string.h>

static const struct echo_axis load_axis = {
	"rate_per_s",
	"echo: round trip against offered load",
	"offered load, requests a second",
	"set logscale y\nset format x '%.0s%c'\nset xrange [0:*]\n",
};

static const struct echo_axis size_axis = {
	"size_bytes",
	"echo: round trip against size",
	"bytes of a message",
	"set logscale y\nset logscale x 2\nset xtics ('64' 64, '256' 256, '1 Ki' 1024, '4 Ki' "
	"4096, "
	"'16 Ki' 16384, '64 Ki' 65536, '256 Ki' 262144)\nset xrange [48:400000]\n",
};

/* One point of a curve: its rows are added. */
static int run_point(const struct echo_options *options, size_t size, double rate_per_s,
		     const char *label, struct report *report)
{
	struct contest *contest = tool_alloc(1, sizeof(*contest));
	int status = echo_options_contest(options, size, rate_per_s, contest);

	if (status == TOOL_GOOD) {
		status = contest_run(contest, label) ? TOOL_FAILED : TOOL_GOOD;
		echo_report_add(report, contest);
		if (contest->contestants[0].runs == 0)
			status = TOOL_FAILED;
	}
	contest_free(contest);
	free(contest);
	return status;
}

static int show(const struct echo_options *options, const struct report *report,
		const struct echo_axis *axis)
{
	int status = TOOL_GOOD;

	if (report->count == 0)
		return TOOL_FAILED;
	if (!options->json || strcmp(options->json, "-") != 0)
		echo_report_print(report);
	if (options->json && report_write_json(report, options->json) < 0)
		status = TOOL_FAILED;
	if (options->plot && echo_report_plot_over(report, axis, options->plot) < 0)
		status = TOOL_FAILED;
	return status;
}

int bench_load(const struct echo_options *options)
{
	struct report report = {0};
	int status = TOOL_GOOD;

	for (size_t i = 0; i < options->rate_count && status == TOOL_GOOD; i++) {
		char label[64];

		snprintf(label, sizeof(label), "%.0f requests/s", options->rates_per_s[i]);
		status = run_point(options, options->size, options->rates_per_s[i], label, &report);
	}
	if (show(options, &report, &load_axis) != TOOL_GOOD && status == TOOL_GOOD)
		status = TOOL_FAILED;
	report_free(&report);
	return status;
}

int bench_size(int argc, char **argv)
{
	static const size_t sizes[] = {64, 256, 1024, 4096, 16384, 65536, 262144};
	struct echo_options options;
	struct report report = {0};
	int status = echo_options_read(&options, ECHO_COMMAND_SIZE, argc, argv);

	if (status != TOOL_GOOD)
		return status < 0 ? TOOL_GOOD : status;
	tool_raise_file_limit();
	for (size_t i = 0; i < TOOL_COUNT(sizes) && status == TOOL_GOOD; i++) {
		char label[64];

		if (strcmp(options.proto, "udp") == 0 && sizes[i] > ECHO_DATAGRAM_MAX)
			break;
		snprintf(label, sizeof(label), "%zu bytes", sizes[i]);
		status = run_point(&options, sizes[i], options.rates_per_s[0], label, &report);
	}
	if (status != TOOL_USAGE && show(&options, &report, &size_axis) != TOOL_GOOD)
		status = TOOL_FAILED;
	report_free(&report);
	return status;
}
