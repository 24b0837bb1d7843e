/* SPDX-License-Identifier: MIT
 * tools/demi/echo_report.c - the results of the echo benchmark as rows, a table and plots.
 *
 * The keys of the rows are documented in demi(1); they stay.
 */
#include "echo_report.h"

#include "echo_proxy.h"

#include "plot.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_BYTES 64

static const char *device_of(const struct echo_spec *spec)
{
	if (spec->device)
		return spec->device;
	if (spec->server->rdma)
		return "rdma";
	if (spec->link)
		return spec->link->tap || spec->link->directory[0] ? "lo" : "veth";
	if (spec->server->memory)
		return ECHO_SHM;
	if (spec->server->local)
		return "none";
	if (!spec->address || strncmp(spec->address, "127.", 4) == 0 ||
	    strcmp(spec->address, "::1") == 0)
		return "lo";
	return "kernel";
}

static bool is_library(const struct echo_spec *spec)
{
	return spec->proxy ? spec->proxy->library : spec->server->library;
}

static const char *idle_of(const struct echo_spec *spec)
{
	const char *idle = spec->proxy ? spec->proxy->idle : spec->server->idle;

	return is_library(spec) ? spec->idle : idle ? idle : "";
}

static const char *what_of(const struct echo_spec *spec)
{
	if (spec->proxy)
		return spec->one_way ? "proxy-one-way" : "proxy";
	return spec->one_way ? "one-way" : "echo";
}

/* How requests are logged. */
static const char *log_of(const struct echo_spec *spec)
{
	return !spec->log ? "" : spec->server->library ? "+log" : "+fdatasync";
}

/* A back end and what it logs by. */
static const char *name_of(const struct echo_spec *spec, char name[LABEL_BYTES])
{
	snprintf(name, LABEL_BYTES, "%s%s", echo_spec_name(spec), log_of(spec));
	return name;
}

/* What distinguishes a back end: its name, and how a library OS waits. */
static const char *label_of(const struct echo_spec *spec, char label[LABEL_BYTES])
{
	bool library = is_library(spec);

	snprintf(label, LABEL_BYTES, "%s%s%s%s", echo_spec_name(spec), log_of(spec),
		 library ? " " : "", library ? spec->idle : "");
	return label;
}

static const char *proto_of(const struct echo_spec *spec)
{
	if (echo_is_shm(spec))
		return ECHO_SHM;
	if (spec->server->medium)
		return spec->server->medium;
	return spec->proto == ECHO_UDP ? "udp" : "tcp";
}

static void add_what(struct row *row, const struct echo_spec *spec)
{
	char device[32]; /* without what is set of it */
	char name[LABEL_BYTES];

	row_text(row, "what", what_of(spec));
	row_text(row, "libos", name_of(spec, name));
	snprintf(device, sizeof(device), "%.*s", (int)strcspn(device_of(spec), ","),
		 device_of(spec));
	row_text(row, "device", device);
	row_text(row, "proto", proto_of(spec));
	row_whole(row, "size_bytes", spec->size);
	row_whole(row, "connections", spec->connections);
	row_whole(row, "depth", spec->depth);
	if (spec->rate_per_s > 0)
		row_number(row, "rate_per_s", spec->rate_per_s);
	row_text(row, "idle", idle_of(spec));
	row_text(row, "client", spec->client->name);
}

static void add_round_trips(struct row *row, const struct contestant *contestant)
{
	static const struct {
		const char *key;
		double share;
	} shares[] = {
		{"rtt_p50_ns", 0.5},
		{"rtt_p90_ns", 0.9},
		{"rtt_p99_ns", 0.99},
		{"rtt_p999_ns", 0.999},
	};
	const struct histogram *rtt = &contestant->result.rtt;

	row_whole(row, "rtt_min_ns", rtt->min);
	for (size_t i = 0; i < TOOL_COUNT(shares); i++)
		row_whole(row, shares[i].key, histogram_percentile(rtt, shares[i].share));
	row_whole(row, "rtt_max_ns", rtt->max);
}

static void add_figures(struct row *row, const struct contestant *contestant)
{
	const struct echo_result *result = &contestant->result;
	double per_s = echo_requests_per_s(result);

	if (!contestant->spec.one_way)
		add_round_trips(row, contestant);
	row_number(row, "requests_per_s", per_s);
	if (contestant->spec.one_way)
		row_number(row, "bytes_per_s", per_s * (double)contestant->spec.size);
	if (result->server_cpu_ns)
		row_number(row, "server_cpu_ns_per_request", echo_cpu_per_request_ns(result));
	else
		row_null(row, "server_cpu_ns_per_request");
	row_whole(row, "requests", result->requests);
	row_whole(row, "errors", result->errors);
	row_whole(row, "runs", contestant->runs);
}

/* What no echo of ours over that device can be quicker than. */
static void add_floor(struct row *row, const struct contestant *contestant)
{
	double p50_ns = (double)histogram_percentile(&contestant->result.rtt, 0.5);

	row_number(row, "floor_ns", contestant->floor_ns);
	row_number(row, "floor_ratio", p50_ns / contestant->floor_ns);
}

static bool compared(const struct contestant *contestant)
{
	return contestant->reference && contestant->runs > 0 && contestant->reference->runs > 0;
}

static void add_ratios(struct row *row, const struct contestant *contestant)
{
	struct contest_ratios ratios = contest_compare(contestant, contestant->reference);
	char name[LABEL_BYTES];

	row_text(row, "reference", name_of(&contestant->reference->spec, name));
	if (!contestant->spec.one_way)
		row_number(row, "ratio", ratios.p50);
	row_whole(row, "pairs", ratios.pairs);
	if (contestant->spec.connections > 1 || contestant->spec.one_way) {
		row_number(row, "requests_ratio", ratios.rate);
		row_number(row, "cpu_ratio", ratios.cpu);
	}
}

void echo_report_add(struct report *report, const struct contest *contest)
{
	for (size_t i = 0; i < contest->count; i++) {
		const struct contestant *contestant = &contest->contestants[i];
		struct row *row;

		if (contestant->runs == 0)
			continue;
		row = report_add(report);
		add_what(row, &contestant->spec);
		add_figures(row, contestant);
		if (contestant->floor_ns > 0)
			add_floor(row, contestant);
		if (compared(contestant))
			add_ratios(row, contestant);
	}
}

void echo_report_print(const struct report *report)
{
	static const struct report_column columns[] = {
		{"libos", "libos", 1, 0},
		{"idle", "idle", 1, 0},
		{"proto", "proto", 1, 0},
		{"size_bytes", "bytes", 1, 0},
		{"connections", "conns", 1, 0},
		{"depth", "depth", 1, 0},
		{"rate_per_s", "offered/s", 1, 0},
		{"rtt_p50_ns", "p50 us", 1000, 2},
		{"rtt_p99_ns", "p99 us", 1000, 2},
		{"rtt_p999_ns", "p99.9 us", 1000, 2},
		{"requests_per_s", "requests/s", 1, 0},
		{"bytes_per_s", "MB/s", 1e6, 1},
		{"server_cpu_ns_per_request", "server cpu us", 1000, 2},
		{"errors", "errors", 1, 0},
		{"ratio", "p50 ratio", 1, 3},
		{"requests_ratio", "requests ratio", 1, 3},
		{"cpu_ratio", "cpu ratio", 1, 3},
	};

	report_print(report, columns, TOOL_COUNT(columns));
}

static void conclude_floor(const struct contestant *contestant)
{
	double p50_ns = (double)histogram_percentile(&contestant->result.rtt, 0.5);

	printf("floor: twice ib_send_lat's typical %.2f us over this device: %.2f us; %s's p50 is "
	       "%.3f of it\n",
	       contestant->floor_ns / 2e3, contestant->floor_ns / 1e3,
	       contestant->spec.server->name, p50_ns / contestant->floor_ns);
}

static void conclude(const struct contestant *contestant)
{
	const struct contestant *reference = contestant->reference;
	struct contest_ratios ratios = contest_compare(contestant, reference);
	char label[LABEL_BYTES];
	char name[LABEL_BYTES];

	printf("%s / %s: ", label_of(&contestant->spec, label), name_of(&reference->spec, name));
	if (!contestant->spec.one_way)
		printf("round trip p50 %.3f%s", ratios.p50,
		       contestant->spec.connections > 1 ? ", " : "");
	if (contestant->spec.connections > 1 || contestant->spec.one_way)
		printf("requests %.3f, server's CPU a request %.3f", ratios.rate, ratios.cpu);
	printf(" (median of %u interleaved pair%s)\n", ratios.pairs, ratios.pairs == 1 ? "" : "s");
}

void echo_report_conclude(const struct contest *contest)
{
	for (size_t i = 0; i < contest->count; i++) {
		if (compared(&contest->contestants[i]))
			conclude(&contest->contestants[i]);
		if (contest->contestants[i].runs > 0 && contest->contestants[i].floor_ns > 0)
			conclude_floor(&contest->contestants[i]);
	}
}

int echo_report_plot(const struct contest *contest, const char *path)
{
	const struct histogram *histograms[CONTESTANTS_MAX];
	const char *labels[CONTESTANTS_MAX];
	char texts[CONTESTANTS_MAX][LABEL_BYTES];
	char title[128];
	size_t count = 0;

	for (size_t i = 0; i < contest->count; i++) {
		const struct contestant *contestant = &contest->contestants[i];

		if (contestant->runs == 0)
			continue;
		labels[count] = label_of(&contestant->spec, texts[count]);
		histograms[count++] = &contestant->result.rtt;
	}
	if (count == 0)
		return -1;
	snprintf(title, sizeof(title), "echo over %s, %zu bytes, %u connection%s",
		 proto_of(&contest->contestants[0].spec), contest->contestants[0].spec.size,
		 contest->contestants[0].spec.connections,
		 contest->contestants[0].spec.connections == 1 ? "" : "s");
	return plot_percentiles(path, title, labels, histograms, count);
}

/* The curves over a field: one a back end and percentile. */
struct curves {
	struct plot_series series[2 * CONTESTANTS_MAX];
	char labels[2 * CONTESTANTS_MAX][ECHO_NAME_MAX + 8];
	size_t count;
};

static bool row_is_first(const struct report *report, size_t index)
{
	for (size_t i = 0; i < index; i++) {
		if (strcmp(row_find(report->rows[i], "libos")->text,
			   row_find(report->rows[index], "libos")->text) == 0)
			return false;
	}
	return true;
}

/* p50 is a full line, p99 a dashed one of the same colour. */
static void add_curve(struct curves *curves, const struct report *report, const char *libos,
		      const char *field, bool p99)
{
	struct plot_point *points = tool_alloc(report->count, sizeof(*points));
	const char *figure = p99 ? "rtt_p99_ns" : "rtt_p50_ns";
	char *label = curves->labels[curves->count];
	size_t count = 0;

	for (size_t i = 0; i < report->count; i++) {
		const struct row *row = report->rows[i];

		if (strcmp(row_find(row, "libos")->text, libos) == 0)
			points[count++] = (struct plot_point){row_value(row, field),
							      row_value(row, figure) / 1000};
	}
	snprintf(label, sizeof(curves->labels[0]), "%.*s %s", ECHO_NAME_MAX - 1, libos,
		 p99 ? "p99" : "p50");
	curves->series[curves->count] = (struct plot_series){
		.label = label,
		.points = points,
		.count = count,
		.colour = (unsigned)curves->count / 2 + 1,
		.dashed = p99,
	};
	curves->count++;
}

int echo_report_plot_over(const struct report *report, const struct echo_axis *axis,
			  const char *path)
{
	struct curves *curves = tool_alloc(1, sizeof(*curves));
	struct plot plot = {.title = axis->title,
			    .x_label = axis->label,
			    .y_label = "round trip, microseconds",
			    .setup = axis->setup,
			    .series = curves->series};
	int outcome;

	for (size_t i = 0; i < report->count; i++) {
		const char *libos = row_find(report->rows[i], "libos")->text;

		if (!row_is_first(report, i) || curves->count + 2 > TOOL_COUNT(curves->series))
			continue;
		add_curve(curves, report, libos, axis->field, false);
		add_curve(curves, report, libos, axis->field, true);
	}
	plot.count = curves->count;
	outcome = plot_write(path, &plot);
	for (size_t i = 0; i < curves->count; i++)
		free(curves->series[i].points);
	free(curves);
	return outcome;
}
