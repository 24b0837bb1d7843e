/* SPDX-License-Identifier: MIT
 * tools/demi/bench_echo.c - `demi bench echo`: round trips of one back end beside others; one end
 * alone; a curve over rates.
 */
#include "bench_load.h"
#include "echo_floor.h"
#include "echo_options.h"
#include "echo_report.h"
#include "tool.h"

#include <stdlib.h>
#include <string.h>

/* The table goes to standard output unless the JSON does. */
static int show(const struct echo_options *options, const struct report *report,
		const struct contest *contest)
{
	int status = TOOL_GOOD;

	if (!options->json || strcmp(options->json, "-") != 0) {
		echo_report_print(report);
		echo_report_conclude(contest);
	}
	if (options->json && report_write_json(report, options->json) < 0)
		status = TOOL_FAILED;
	if (options->plot && echo_report_plot(contest, options->plot) < 0)
		status = TOOL_FAILED;
	return status;
}

/* Over RDMA what the device itself takes is measured, too, in the same minute. */
static void find_floor(struct contestant *contestant)
{
	const struct echo_spec *spec = &contestant->spec;
	char message[ECHO_FLOOR_MESSAGE] = "";

	if (!spec->server->rdma || contestant->runs == 0 || spec->connections > 1 ||
	    spec->depth > 1 || spec->rate_per_s > 0 || spec->proto != ECHO_TCP || !spec->address)
		return;
	contestant->floor_ns = echo_floor_ns(spec->address, spec->size, spec->core, message);
	if (contestant->floor_ns <= 0)
		tool_complain("no floor: %s", message);
}

/* A comparison, or one back end alone, in a closed or open loop. */
static int run_contest(const struct echo_options *options, struct contest *contest)
{
	struct report report = {0};
	int status = contest_run(contest, "echo") ? TOOL_FAILED : TOOL_GOOD;

	if (contest->contestants[0].runs == 0)
		status = TOOL_FAILED;
	find_floor(&contest->contestants[0]);
	echo_report_add(&report, contest);
	if (report.count && show(options, &report, contest) != TOOL_GOOD)
		status = TOOL_FAILED;
	report_free(&report);
	return status;
}

static int run_client(const struct echo_options *options, struct contest *contest)
{
	struct contestant *contestant = &contest->contestants[0];
	struct report report = {0};
	int status;

	if (echo_run_client(&contestant->spec, &contestant->result, contestant->message) < 0) {
		tool_complain("%s", contestant->message);
		return TOOL_FAILED;
	}
	contestant->runs = 1;
	echo_report_add(&report, contest);
	status = show(options, &report, contest);
	report_free(&report);
	return status;
}

static int run_server(const struct contest *contest)
{
	char message[ECHO_MESSAGE_MAX];

	if (echo_run_server(&contest->contestants[0].spec, message) == 0)
		return TOOL_GOOD;
	tool_complain("%s", message);
	return TOOL_FAILED;
}

int bench_echo(int argc, char **argv)
{
	struct echo_options options;
	struct contest *contest;
	int status = echo_options_read(&options, ECHO_COMMAND_ECHO, argc, argv);

	if (status != TOOL_GOOD)
		return status < 0 ? TOOL_GOOD : status;
	tool_raise_file_limit();
	contest = tool_alloc(1, sizeof(*contest));
	status = echo_options_contest(&options, options.size, options.rates_per_s[0], contest);
	if (status == TOOL_GOOD) {
		if (strcmp(options.role, "server") == 0)
			status = run_server(contest);
		else if (strcmp(options.role, "client") == 0)
			status = run_client(&options, contest);
		else if (options.rate_count > 1)
			status = bench_load(&options);
		else
			status = run_contest(&options, contest);
	}
	contest_free(contest);
	free(contest);
	return status;
}
