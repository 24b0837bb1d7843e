/* SPDX-License-Identifier: MIT
 * tools/demi/net/rows.c - what `demi bench net` measures: contenders in turn, and the rows.
 *
 * Both contenders of a comparison are opened, then run in turn (A B A B, ...): a ratio is taken
 * within each pair, and the median over the pairs counts, as everywhere in `demi bench`.
 */
#include "rows.h"

#include "../median.h"
#include "../tool.h"
#include "count.h"
#include "input.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MTU           1500
#define JUMBO_MTU     9040 /* 9000 bytes behind IP and TCP headers without options */
#define WARMUP        1000 /* requests at least */
#define WARMUP_BYTES  (8 << 20)
#define SETTLE_NS     (300 * NS_PER_MS) /* lwIP acknowledges what it put off every 250 ms, we in 40 */
#define COUNT_REQUEST 20000             /* operations under callgrind */
#define COUNT_MANY    2000 /* of many connections: lwIP walks a list of them, twice a request */
#define COUNT_INPUT   2000
#define WAITER_ROUNDS 20000

const struct net_case net_cases[] = {
	{"request_1", NET_REQUEST_BYTES, {MTU, 1, 0, false, false}},
	{"request_32", NET_REQUEST_BYTES, {MTU, 32, 0, false, false}},
	{"request_10000", NET_REQUEST_BYTES, {MTU, 10000, 0, false, false}},
	{"bulk_1460", 1460, {MTU, 1, 0, true, false}},
	{"bulk_9000", 9000, {JUMBO_MTU, 1, 0, true, false}},
};
const size_t net_case_count = TOOL_COUNT(net_cases);

static const struct contender *const contenders[] = {
	&contender_demitasse,
#ifdef DEMI_LWIP
	&contender_lwip,
#endif
	NULL,
};

#define ENTRANTS_MAX 2

struct entrant {
	const struct contender *contender;
	struct net_spec spec;
	void *world;
	double *ns; /* of a request, or a byte, by pair */
};

struct comparison {
	const char *label;
	struct entrant entrants[ENTRANTS_MAX]; /* the first is compared with the second */
	size_t count;
	unsigned pairs;
};

const struct net_case *net_case_find(const char *key)
{
	for (size_t i = 0; i < net_case_count; i++) {
		if (strcmp(net_cases[i].key, key) == 0)
			return &net_cases[i];
	}
	return NULL;
}

const struct contender *net_contender(size_t i)
{
	return contenders[i];
}

/* ---- in turn ---- */

static bool run(const struct entrant *entrant, uint64_t count)
{
	return entrant->spec.bulk ? entrant->contender->bulk(entrant->world, count)
				  : entrant->contender->request(entrant->world, count);
}

/* CPU time of the one thread, which never sleeps: others on the machine count for less. */
static uint64_t cpu_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Nanoseconds of one request or byte; 0 after a complaint. */
static double timed(const struct entrant *entrant, uint64_t count)
{
	uint64_t begin_ns = cpu_now_ns();

	if (!run(entrant, count))
		return 0;
	double ns = (double)(cpu_now_ns() - begin_ns) / (double)count;
	if (entrant->spec.active > NET_BURST)
		entrant->contender->settle(entrant->world, SETTLE_NS);
	return ns;
}

/* Warms up, and finds how many make a run of the wanted time; 0 after a complaint. */
static uint64_t calibrate(const struct net_options *options, const struct entrant *entrant)
{
	bool bulk = entrant->spec.bulk;
	uint64_t warmup = bulk ? WARMUP_BYTES : WARMUP;
	uint64_t unit = bulk ? WARMUP_BYTES / WARMUP : 1;

	if (options->rounds)
		warmup = options->rounds * unit;
	else if (!bulk && warmup < entrant->spec.active)
		warmup = entrant->spec.active;
	double ns = timed(entrant, warmup);
	if (options->rounds)
		return ns > 0 ? warmup : 0;
	return ns > 0 ? (uint64_t)(options->seconds * 1e9 / ns) + 1 : 0;
}

static bool run_pairs(const struct net_options *options, struct comparison *comparison)
{
	uint64_t counts[ENTRANTS_MAX];

	for (size_t i = 0; i < comparison->count; i++) {
		progress_show("net: %s: warming up", comparison->label);
		counts[i] = calibrate(options, &comparison->entrants[i]);
		if (!counts[i])
			return false;
	}
	for (; comparison->pairs < options->pairs; comparison->pairs++) {
		progress_show("net: %s: pair %u of %u", comparison->label, comparison->pairs + 1,
			      (unsigned)options->pairs);
		for (size_t i = 0; i < comparison->count; i++) {
			struct entrant *entrant = &comparison->entrants[i];
			double ns = timed(entrant, counts[i]);

			if (ns <= 0)
				return false;
			entrant->ns[comparison->pairs] = ns;
		}
	}
	return true;
}

/* Opens all, runs them; they stay open until comparison_end. */
static bool comparison_run(const struct net_options *options, struct comparison *comparison)
{
	bool good = true;

	for (size_t i = 0; i < comparison->count && good; i++) {
		struct entrant *entrant = &comparison->entrants[i];

		progress_show("net: %s: connecting", comparison->label);
		entrant->ns = tool_alloc(options->pairs, sizeof(*entrant->ns));
		entrant->world = entrant->contender->open(&entrant->spec);
		good = entrant->world != NULL;
	}
	good = good && run_pairs(options, comparison);
	progress_clear();
	return good;
}

static void comparison_end(struct comparison *comparison)
{
	for (size_t i = 0; i < comparison->count; i++) {
		struct entrant *entrant = &comparison->entrants[i];

		if (entrant->world)
			entrant->contender->close(entrant->world);
		free(entrant->ns);
	}
}

/* Median of a figure of one entrant; its values stay in order. */
static double median_ns(const struct comparison *comparison, size_t i)
{
	double *copy = tool_alloc(comparison->pairs, sizeof(*copy));

	memcpy(copy, comparison->entrants[i].ns, comparison->pairs * sizeof(*copy));
	double value = median(copy, comparison->pairs);
	free(copy);
	return value;
}

static double ratio(const struct comparison *comparison, size_t one, size_t other)
{
	return median_ratio(comparison->entrants[one].ns, comparison->entrants[other].ns,
			    comparison->pairs);
}

/* ---- rows ---- */

/* What cannot be counted here is null. */
static void row_counted(struct row *row, const char *key, double value)
{
	if (isnan(value))
		row_null(row, key);
	else
		row_number(row, key, value);
}

static double counted(const struct net_options *options, const char *key, const char *stack,
		      uint64_t count)
{
	if (options->no_instructions)
		return NAN;
	progress_show("net: %s: counting instructions of %s", key, stack);
	double value = count_instructions(key, stack, options->quick ? count / 10 : count);
	progress_clear();
	return value;
}

static void add_speed(const struct net_options *options, struct row *row,
		      const struct net_case *net_case, const char *stack, double ns)
{
	if (net_case->spec.bulk) {
		row_number(row, "bits_per_s", 8e9 / ns);
		return;
	}
	row_number(row, "request_ns", ns);
	row_counted(row, "request_instructions",
		    counted(options, net_case->key, stack,
			    net_case->spec.active > NET_BURST ? COUNT_MANY : COUNT_REQUEST));
	row_number(row, "requests_per_s", 1e9 / ns);
	row_number(row, "bits_per_s", 8e9 * net_case->size_bytes / ns);
}

static void add_comparison(struct row *row, const struct comparison *comparison, bool bulk)
{
	row_text(row, "reference", comparison->entrants[1].contender->name);
	if (bulk) {
		row_number(row, "ratio", ratio(comparison, 1, 0));
	} else {
		row_number(row, "ratio", ratio(comparison, 0, 1));
		row_number(row, "requests_ratio", ratio(comparison, 1, 0));
	}
	row_whole(row, "pairs", comparison->pairs);
}

static void add_case_rows(const struct net_options *options, const struct net_case *net_case,
			  const struct comparison *comparison, struct report *report)
{
	for (size_t i = 0; i < comparison->count; i++) {
		struct row *row = report_add(report);

		row_text(row, "what", net_case->spec.bulk ? "bulk" : "request");
		row_text(row, "stack", comparison->entrants[i].contender->name);
		row_whole(row, "connections", net_case->spec.active);
		row_whole(row, "size_bytes", net_case->size_bytes);
		row_whole(row, "mtu_bytes", net_case->spec.mtu);
		add_speed(options, row, net_case, comparison->entrants[i].contender->name,
			  median_ns(comparison, i));
		if (i == 0 && comparison->count > 1)
			add_comparison(row, comparison, net_case->spec.bulk);
	}
}

static bool measure_case(const struct net_options *options, const struct net_case *net_case,
			 struct report *report)
{
	struct comparison comparison = {.label = net_case->key};

	for (size_t i = 0; contenders[i]; i++)
		comparison.entrants[comparison.count++] = (struct entrant){
			.contender = contenders[i],
			.spec = net_case->spec,
		};
	bool good = comparison_run(options, &comparison);
	if (good)
		add_case_rows(options, net_case, &comparison, report);
	comparison_end(&comparison);
	return good;
}

/* One active connection with idle ones beside it, compared with one that is alone. */
static bool measure_idle(const struct net_options *options, const struct contender *contender,
			 struct report *report)
{
	struct comparison comparison = {
		.label = "idle connections",
		.entrants = {{.contender = contender,
			      .spec = {MTU, 1, (unsigned)options->idle, false, false}},
			     {.contender = contender, .spec = {MTU, 1, 0, false, false}}},
		.count = 2,
	};
	bool good = comparison_run(options, &comparison);

	if (good) {
		struct row *row = report_add(report);

		row_text(row, "what", "idle");
		row_text(row, "stack", contender->name);
		row_whole(row, "connections", options->idle + 1);
		row_whole(row, "idle_connections", options->idle);
		row_whole(row, "size_bytes", NET_REQUEST_BYTES);
		row_number(row, "request_ns", median_ns(&comparison, 0));
		row_number(row, "idle_connection_bytes",
			   contender->idle_bytes(comparison.entrants[0].world));
		row_text(row, "reference", "no idle connection");
		row_number(row, "ratio", ratio(&comparison, 0, 1));
		row_whole(row, "pairs", comparison.pairs);
	}
	comparison_end(&comparison);
	return good;
}

static bool measure_input(const struct net_options *options, struct report *report)
{
	uint64_t rounds = options->quick ? WAITER_ROUNDS / 10 : WAITER_ROUNDS;
	double ns = input_to_waiter_ns(rounds);

	if (ns < 0)
		return false;
	struct row *row = report_add(report);
	row_text(row, "what", "input");
	row_text(row, "stack", contenders[0]->name);
	row_whole(row, "connections", 1);
	row_whole(row, "size_bytes", NET_REQUEST_BYTES);
	row_counted(row, "rx_data_instructions",
		    counted(options, "rx_data", contenders[0]->name, COUNT_INPUT));
	row_counted(row, "rx_request_instructions",
		    counted(options, "rx_request", contenders[0]->name, COUNT_INPUT));
	row_counted(row, "rx_ack_instructions",
		    counted(options, "rx_ack", contenders[0]->name, COUNT_INPUT));
	row_number(row, "rx_to_waiter_ns", ns);
	return true;
}

static bool wanted(const struct net_options *options, const char *part)
{
	return !options->part || strcmp(options->part, part) == 0;
}

bool net_measure(const struct net_options *options, struct report *report)
{
	bool good = true;

	for (size_t i = 0; i < net_case_count; i++) {
		if (wanted(options, net_cases[i].key))
			good &= measure_case(options, &net_cases[i], report);
	}
	if (wanted(options, "input"))
		good &= measure_input(options, report);
	for (size_t i = 0; contenders[i] && wanted(options, "idle"); i++)
		good &= measure_idle(options, contenders[i], report);
	if (wanted(options, "scale"))
		good &= scale_measure(options, report);
	return good;
}
