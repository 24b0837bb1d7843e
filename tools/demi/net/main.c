/* SPDX-License-Identifier: MIT
 * tools/demi/net/main.c - demi-bench-net, which `demi bench net` runs: our TCP/IP stack, two
 * instances back to back over a ring in one thread, beside lwIP over the same ring.
 *
 * A program of its own, linked to the static library, for the ring and instances made on it are
 * internals.
 */
#include "../options.h"
#include "../process.h"
#include "../tool.h"
#include "count.h"
#include "input.h"
#include "rows.h"

#include <stdio.h>
#include <string.h>

#define PAIRS_DEFAULT   21
#define PAIRS_MAX       1001
#define SECONDS_DEFAULT 0.05
#define IDLE_DEFAULT    10000
#define WARMUP          1000 /* uncounted operations before those that are */

/* lwIP as a server over DPDK's memif, measured by us with a client that has no stack: 32
 * connections. */
#define LWIP_MEMIF_PER_S 1.1e6

/* ---- one thing, for a profiler ---- */

static bool run_case(const struct contender *contender, void *world,
		     const struct net_case *net_case, uint64_t count)
{
	return net_case->spec.bulk ? contender->bulk(world, count * net_case->size_bytes)
				   : contender->request(world, count);
}

static bool only_case(const struct net_case *net_case, const struct contender *contender,
		      uint64_t count)
{
	struct net_spec spec = net_case->spec;

	spec.made_up_time = !spec.bulk;
	void *world = contender->open(&spec);
	if (!world)
		return false;
	bool good = run_case(contender, world, net_case, WARMUP);
	count_prepare();
	count_on();
	good = good && run_case(contender, world, net_case, count);
	count_off();
	contender->close(world);
	return good;
}

static const struct contender *contender_find(const char *name)
{
	for (size_t i = 0; net_contender(i); i++) {
		if (strcmp(net_contender(i)->name, name) == 0)
			return net_contender(i);
	}
	return NULL;
}

static int run_only(const struct net_options *options)
{
	const struct net_case *net_case = net_case_find(options->only);
	const struct contender *contender = contender_find(options->stack);
	bool good;

	if (!contender) {
		tool_complain("--stack: '%s' is not in this build", options->stack);
		return TOOL_USAGE;
	}
	if (net_case)
		good = only_case(net_case, contender, options->count);
	else if (strcmp(options->only, "rx_data") == 0)
		good = input_data(options->count);
	else if (strcmp(options->only, "rx_request") == 0)
		good = input_request(options->count);
	else
		good = input_ack(options->count);
	return good ? TOOL_GOOD : TOOL_FAILED;
}

/* ---- all ---- */

static const struct report_column columns[] = {
	{"what", "", 1, 0},
	{"stack", "stack", 1, 0},
	{"connections", "connections", 1, 0},
	{"size_bytes", "bytes", 1, 0},
	{"request_ns", "ns a request", 1, 1},
	{"request_instructions", "instructions", 1, 0},
	{"requests_per_s", "requests/s", 1, 0},
	{"bits_per_s", "Gbit/s", 1e9, 3},
	{"reference", "beside", 1, 0},
	{"ratio", "ratio", 1, 3},
	{"requests_ratio", "of requests/s", 1, 3},
	{"loop_ratio", "of a loop", 1, 3},
	{"pairs", "pairs", 1, 0},
};

static const struct row *row_of(const struct report *report, const char *what, const char *stack,
				unsigned connections)
{
	for (size_t i = 0; i < report->count; i++) {
		const struct row *row = report->rows[i];

		if (strcmp(row_find(row, "what")->text, what) == 0 &&
		    strcmp(row_find(row, "stack")->text, stack) == 0 &&
		    (connections == 0 || row_value(row, "connections") == connections))
			return row;
	}
	return NULL;
}

#ifdef DEMI_LWIP
/* What the reference is, and whether it is a fair one. */
static void print_reference(const struct report *report)
{
	const struct row *row = row_of(report, "request", "lwip", NET_BURST);
	const char *options = lwip_options();
	double rate = row ? row_value(row, "requests_per_s") : 0;

	if (!options)
		return;
	printf("reference: %s; raw API, a copy of the library for each end (dlmopen), all in one "
	       "thread: tcpip_init is not called, so there is no thread and no lock of lwIP's; "
	       "frames by ethernet_input, sys_check_timeouts every 16th poll. TCP_MSS is fixed: "
	       "its segments stay at 1460 bytes on the link of 9000.\n",
	       options);
	if (rate > 0 && rate < LWIP_MEMIF_PER_S / 2)
		printf("lwIP is slow here: %.0f requests/s, both ends' work included, is under "
		       "half of the %.1f M/s that it reached as a server over memif, its own end "
		       "alone. The ratio says less than it seems to.\n",
		       rate, LWIP_MEMIF_PER_S / 1e6);
	else if (rate > 0)
		printf("lwIP: %.0f requests/s on 32 connections, both ends' work included; as a "
		       "server over memif, its own end alone, it reached %.1f M/s.\n",
		       rate, LWIP_MEMIF_PER_S / 1e6);
}
#else
static void print_reference(const struct report *report)
{
	(void)report;
	puts("no reference: built without lwIP (liblwip-dev)");
}
#endif

/* A figure, or that there is none. */
static void print_figure(const char *what, const struct row *row, const char *key)
{
	const struct field *field = row_find(row, key);

	if (!field || field->kind == FIELD_NULL)
		printf("%s: not counted (valgrind)\n", what);
	else
		printf("%s: %.0f\n", what, row_value(row, key));
}

static void print_table(const struct report *report)
{
	const struct row *input = row_of(report, "input", "demitasse", 0);

	report_print(report, columns, TOOL_COUNT(columns));
	for (size_t i = 0; net_contender(i); i++) {
		const struct row *idle = row_of(report, "idle", net_contender(i)->name, 0);

		if (idle)
			printf("%s: %.0f bytes for one end of an idle connection\n",
			       net_contender(i)->name, row_value(idle, "idle_connection_bytes"));
	}
	if (input) {
		print_figure("instructions, data of 64 bytes in to operation completed", input,
			     "rx_data_instructions");
		print_figure("the same, acknowledging an answer as well", input,
			     "rx_request_instructions");
		print_figure("instructions, bare acknowledgement in", input, "rx_ack_instructions");
		print_figure("ns, frame in to waiting coroutine running", input, "rx_to_waiter_ns");
	}
	print_reference(report);
}

static int run_all(const struct net_options *options)
{
	struct report report = {0};
	int status = net_measure(options, &report) ? TOOL_GOOD : TOOL_FAILED;

	if (!options->json || strcmp(options->json, "-") != 0)
		print_table(&report);
	if (options->json && report_write_json(&report, options->json) < 0)
		status = TOOL_FAILED;
	report_free(&report);
	return status;
}

static int read_options(struct net_options *options, int argc, char **argv)
{
	const struct option_spec specs[] = {
		{"json", OPTION_TEXT, &options->json, 0, 0, NULL, "FILE",
		 "write the rows as JSON (-: standard output)"},
		{"pairs", OPTION_WHOLE, &options->pairs, 1, PAIRS_MAX, NULL, "N",
		 "interleaved runs (21)"},
		{"seconds", OPTION_NUMBER, &options->seconds, 0.001, 60, NULL, "S",
		 "time of a run (0.05)"},
		{"rounds", OPTION_WHOLE, &options->rounds, 1, 1e9, NULL, "N",
		 "requests of a run, instead of its time"},
		{"idle-connections", OPTION_WHOLE, &options->idle, 1, 16000, NULL, "N",
		 "idle connections beside an active one (10000)"},
		{"quick", OPTION_FLAG, &options->quick, 0, 0, NULL, NULL,
		 "three pairs of short runs, a tenth of the counted operations"},
		{"no-instructions", OPTION_FLAG, &options->no_instructions, 0, 0, NULL, NULL,
		 "do not count instructions"},
		{"part", OPTION_CHOICE, &options->part, 0, 0,
		 "request_1|request_32|request_10000|bulk_1460|bulk_9000|input|idle|scale", "NAME",
		 "measure only this"},
		{"only", OPTION_TEXT, &options->only, 0, 0, NULL, "KEY",
		 "run only this, untimed: request_N, bulk_N, rx_data, rx_request, rx_ack"},
		{"stack", OPTION_CHOICE, &options->stack, 0, 0, "demitasse|lwip", "NAME",
		 "--only: of this stack (demitasse)"},
		{"count", OPTION_WHOLE, &options->count, 1, 1e12, NULL, "N",
		 "--only: so many times (10000)"},
		{"core", OPTION_WHOLE, &options->core, 0, 4095, NULL, "N", "core to run on (0)"},
	};

	*options = (struct net_options){
		.pairs = PAIRS_DEFAULT,
		.seconds = SECONDS_DEFAULT,
		.idle = IDLE_DEFAULT,
		.stack = "demitasse",
		.count = 10000,
	};
	int status =
		options_read(specs, TOOL_COUNT(specs), argc, argv, "demi bench net [OPTION...]");
	if (status != TOOL_GOOD)
		return status;
	if (options->only && !net_case_find(options->only) &&
	    strcmp(options->only, "rx_data") != 0 && strcmp(options->only, "rx_request") != 0 &&
	    strcmp(options->only, "rx_ack") != 0) {
		tool_complain("--only: '%s' is not a figure of this benchmark", options->only);
		return TOOL_USAGE;
	}
	if (options->quick) {
		options->pairs = 3;
		options->seconds = 0.01;
	}
	return TOOL_GOOD;
}

int main(int argc, char **argv)
{
	struct net_options options;
	int status = read_options(&options, argc, argv);

	if (status != TOOL_GOOD)
		return status < 0 ? TOOL_GOOD : status;
	core_pin((int)options.core);
	return options.only ? run_only(&options) : run_all(&options);
}
