/* SPDX-License-Identifier: MIT
 * tools/demi/bench_proxy.c - `demi bench proxy`: a TCP proxy beside others, a client and a server
 * around it.
 *
 * Two contests: round trips of small messages, and large ones one way.  Client and server are those
 * of posix-block in both, on one core; the proxy has the other.
 */
#include "echo_proxy.h"
#include "echo_report.h"
#include "options.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_DEFAULT    64
#define MESSAGE_DEFAULT 65536
#define PAIRS_DEFAULT   11
#define SECONDS_DEFAULT 0.15

struct proxy_options {
	const char *libos, *device, *idle, *reference, *part, *json;
	uint64_t size, message, pairs, core;
	double seconds;
	struct echo_link link;
};

static const struct echo_proxy *proxy_or_complain(const char *option, const char *name)
{
	const struct echo_proxy *proxy = echo_proxy_find(name);

	if (!proxy)
		tool_complain("--%s: '%s' is no proxy (--help lists them)", option, name);
	return proxy;
}

static struct echo_spec spec_of(const struct proxy_options *options, const struct echo_proxy *proxy,
				bool one_way)
{
	const struct echo_backend *ends = echo_backend_find("posix-block");

	return (struct echo_spec){
		.server = ends,
		.client = ends,
		.proxy = proxy,
		.device = proxy->device ? options->device : NULL,
		.link = options->device ? &options->link : NULL,
		.idle = options->idle,
		.proto = ECHO_TCP,
		.one_way = one_way,
		.size = one_way ? options->message : options->size,
		.connections = 1,
		.depth = 1,
		.seconds = options->seconds,
		.core = (int)options->core,
	};
}

/* The proxy that is meant, and its references. */
static int fill_contest(const struct proxy_options *options, bool one_way, struct contest *contest)
{
	char copy[256];
	char *rest = copy;
	const char *name = options->libos;

	tool_copy_text(copy, sizeof(copy), options->reference);
	for (const char *option = "libos"; name && *name; option = "reference") {
		const struct echo_proxy *proxy = proxy_or_complain(option, name);

		if (!proxy)
			return TOOL_USAGE;
		struct echo_spec spec = spec_of(options, proxy, one_way);
		if (!contest_add(contest, &spec, (unsigned)options->pairs)) {
			tool_complain("--reference: more than %d", CONTESTANTS_MAX - 1);
			return TOOL_USAGE;
		}
		name = strsep(&rest, ",");
	}
	if (contest->count > 1)
		contest->contestants[0].reference = &contest->contestants[1];
	return TOOL_GOOD;
}

static int run_part(const struct proxy_options *options, bool one_way, struct report *report)
{
	struct contest *contest = tool_alloc(1, sizeof(*contest));
	int status = fill_contest(options, one_way, contest);

	if (status == TOOL_GOOD && contest_run(contest, one_way ? "throughput" : "latency"))
		status = TOOL_FAILED;
	if (status == TOOL_GOOD && contest->contestants[0].runs == 0)
		status = TOOL_FAILED;
	echo_report_add(report, contest);
	if (status == TOOL_GOOD && (!options->json || strcmp(options->json, "-") != 0))
		echo_report_conclude(contest);
	contest_free(contest);
	free(contest);
	return status;
}

static int run_parts(const struct proxy_options *options)
{
	struct report report = {0};
	int status = TOOL_GOOD;

	for (int one_way = 0; one_way < 2 && status == TOOL_GOOD; one_way++) {
		const char *part = one_way ? "throughput" : "latency";

		if (!options->part || strcmp(options->part, part) == 0)
			status = run_part(options, one_way, &report);
	}
	if (report.count == 0)
		return status; /* nothing was tried, or nothing worked: it was said */
	if (!options->json || strcmp(options->json, "-") != 0)
		echo_report_print(&report);
	if (options->json && report_write_json(&report, options->json) < 0)
		status = TOOL_FAILED;
	report_free(&report);
	return status;
}

static int with_link(struct proxy_options *options)
{
	int error = echo_link_open(&options->link, options->device);
	int status;

	if (error)
		return TOOL_FAILED;
	error = echo_link_for_proxy(&options->link);
	status = error ? TOOL_FAILED : run_parts(options);
	echo_link_close(&options->link);
	return status;
}

static void print_names(void)
{
	fputs("\nproxies:", stdout);
	for (size_t i = 0; i < echo_proxy_count(); i++)
		printf(" %s", echo_proxy_at(i)->name);
	fputs("\n(none: the client talks to the server)\n", stdout);
}

static int check(const struct proxy_options *options)
{
	const struct echo_proxy *proxy = proxy_or_complain("libos", options->libos);

	if (!proxy)
		return TOOL_USAGE;
	if (options->device && strncmp(options->device, "veth", 4) != 0 &&
	    strncmp(options->device, "afpacket", 8) != 0) {
		tool_complain("--device: '%s' is neither veth nor afpacket", options->device);
		return TOOL_USAGE;
	}
	if (proxy->device && !options->device) {
		tool_complain("--device: %s needs one: veth or afpacket", proxy->name);
		return TOOL_USAGE;
	}
	return TOOL_GOOD;
}

static int read_options(struct proxy_options *options, int argc, char **argv)
{
	const struct option_spec specs[] = {
		{"libos", OPTION_TEXT, &options->libos, 0, 0, NULL, "NAME",
		 "library OS, or another proxy (catnap)"},
		{"reference", OPTION_TEXT, &options->reference, 0, 0, NULL, "NAME[,NAME...]",
		 "proxies to compare with; an empty word: nothing (splice,haproxy,none)"},
		{"device", OPTION_TEXT, &options->device, 0, 0, NULL, "D[,KEY=VALUE...]",
		 "veth, afpacket: the proxy is on one end of a link made for this (root), client "
		 "and server on the other, catpowder drives it"},
		{"idle", OPTION_CHOICE, &options->idle, 0, 0, "adaptive|busy", "adaptive|busy",
		 "how the library OS waits (adaptive)"},
		{"part", OPTION_CHOICE, &options->part, 0, 0, "latency|throughput", "NAME",
		 "only latency or throughput"},
		{"size", OPTION_WHOLE, &options->size, 1, ECHO_SIZE_MAX, NULL, "B",
		 "bytes of a message of latency (64)"},
		{"message", OPTION_WHOLE, &options->message, ECHO_ONE_WAY_MIN, ECHO_SIZE_MAX, NULL,
		 "B", "bytes of a message of throughput (65536)"},
		{"pairs", OPTION_WHOLE, &options->pairs, 1, CONTEST_PAIRS_MAX, NULL, "N",
		 "interleaved runs beside the references (11)"},
		{"seconds", OPTION_NUMBER, &options->seconds, 0.001, 86400, NULL, "S",
		 "time of a run (0.15)"},
		{"core", OPTION_WHOLE, &options->core, 0, 4095, NULL, "N",
		 "core of the proxy, client and server have the next (0)"},
		{"json", OPTION_TEXT, &options->json, 0, 0, NULL, "FILE",
		 "write the rows as JSON (-: standard output)"},
	};

	*options = (struct proxy_options){.libos = "catnap",
					  .idle = "adaptive",
					  .reference = "splice,haproxy,none",
					  .size = SIZE_DEFAULT,
					  .message = MESSAGE_DEFAULT,
					  .pairs = PAIRS_DEFAULT,
					  .seconds = SECONDS_DEFAULT};
	int status =
		options_read(specs, TOOL_COUNT(specs), argc, argv, "demi bench proxy [OPTION...]");
	if (status == OPTIONS_TOLD)
		print_names();
	return status == TOOL_GOOD ? check(options) : status;
}

int bench_proxy(int argc, char **argv)
{
	struct proxy_options options;
	int status = read_options(&options, argc, argv);

	if (status != TOOL_GOOD)
		return status < 0 ? TOOL_GOOD : status;
	tool_raise_file_limit();
	return options.device ? with_link(&options) : run_parts(&options);
}
