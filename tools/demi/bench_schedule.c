/* SPDX-License-Identifier: MIT
 * tools/demi/bench_schedule.c - `demi bench schedule`: what demi_set_schedule does to the tail.
 *
 * Requests and workers are simulated, in virtual time: the same requests arrive each time (Poisson,
 * from fixed seeds), a memory queue of the library has what waits, and who goes next is what
 * demi_wait_next_n returns for as many places as there are free workers.  So the figures repeat.
 */
#include "histogram.h"
#include "instance.h"
#include "options.h"
#include "report.h"
#include "tool.h"

#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS_MAX 64
#define SHORT_NS    1000

struct schedule_options {
	const char *json;
	uint64_t workers, reserved, requests, ratio;
	double load, share; /* of the workers' time; of long requests */
};

struct request {
	uint64_t arrival_ns;
	bool is_long;
};

struct simulation {
	struct schedule_options options;
	struct request *requests;
	int queue;
	uint64_t waiting;              /* in the queue */
	uint64_t busy_ns[WORKERS_MAX]; /* until when */
	struct histogram *sojourn[2];  /* of short and long ones: from arrival to answer */
};

/* ---- requests ---- */

/* Above 0, and up to 1: Marsaglia's xorshift64. */
static double uniform(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (double)((*state >> 11) + 1) / 9007199254740992.0;
}

static uint64_t service_ns(const struct schedule_options *options, const struct request *request)
{
	return request->is_long ? SHORT_NS * options->ratio : SHORT_NS;
}

static void draw_requests(struct simulation *simulation)
{
	const struct schedule_options *options = &simulation->options;
	double mean_ns = SHORT_NS * (1 + options->share * (double)(options->ratio - 1));
	double between_ns = mean_ns / ((double)options->workers * options->load);
	uint64_t seeds[] = {0x9e3779b97f4a7c15ULL, 0x2545f4914f6cdd1dULL};
	double now_ns = 0;

	for (uint64_t i = 0; i < options->requests; i++) {
		now_ns -= between_ns * log(uniform(&seeds[0]));
		simulation->requests[i] = (struct request){
			.arrival_ns = (uint64_t)now_ns,
			.is_long = uniform(&seeds[1]) <= options->share,
		};
	}
}

/* What is pushed is the address of the request. */
static const struct request *request_of(const demi_qresult_t *qr)
{
	const struct request *request;

	memcpy(&request, qr->qr_value.sga.sga_segs[0].sgaseg_buf, sizeof(request));
	return request;
}

static int classify(void *arg, const demi_qresult_t *qr)
{
	(void)arg;
	return request_of(qr)->is_long;
}

/* ---- the run ---- */

static int arrive(struct simulation *simulation, const struct request *request)
{
	demi_sgarray_t sga = demi_sgaalloc(sizeof(request));
	demi_qresult_t qr;
	demi_qtoken_t token;

	if (sga.sga_numsegs == 0)
		return ENOMEM;
	memcpy(sga.sga_segs[0].sgaseg_buf, &request, sizeof(request));
	int error = demi_push(&token, simulation->queue, &sga);
	(void)demi_sgafree(&sga);
	if (!error)
		error = demi_wait(&qr, token, NULL);
	if (!error)
		error = demi_pop(&token, simulation->queue);
	simulation->waiting += !error;
	return error;
}

static unsigned free_workers(const struct simulation *simulation, uint64_t now_ns)
{
	unsigned count = 0;

	for (uint64_t i = 0; i < simulation->options.workers; i++)
		count += simulation->busy_ns[i] <= now_ns;
	return count;
}

static void begin(struct simulation *simulation, const struct request *request, uint64_t now_ns)
{
	uint64_t worker = 0;

	while (simulation->busy_ns[worker] > now_ns)
		worker++;
	uint64_t end_ns = now_ns + service_ns(&simulation->options, request);
	simulation->busy_ns[worker] = end_ns;
	histogram_record(simulation->sojourn[request->is_long], end_ns - request->arrival_ns);
}

/* Free workers get what there is for them. */
static int dispatch(struct simulation *simulation, uint64_t now_ns)
{
	static const struct timespec no_time;
	unsigned places = free_workers(simulation, now_ns);
	demi_qresult_t qrs[WORKERS_MAX];
	int n = 0;

	if (places == 0 || simulation->waiting == 0)
		return 0;
	int error = demi_wait_next_n(qrs, (int)places, &n, &no_time);
	if (error && error != ETIMEDOUT)
		return error;
	for (int i = 0; i < n; i++) {
		begin(simulation, request_of(&qrs[i]), now_ns);
		(void)demi_sgafree(&qrs[i].qr_value.sga);
	}
	simulation->waiting -= (uint64_t)n;
	return 0;
}

/* When the next worker is free, of those that are not; UINT64_MAX: all are. */
static uint64_t next_end(const struct simulation *simulation, uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;

	for (uint64_t i = 0; i < simulation->options.workers; i++) {
		uint64_t end = simulation->busy_ns[i];
		if (end > now_ns && end < next)
			next = end;
	}
	return next;
}

static int simulate(struct simulation *simulation)
{
	const struct schedule_options *options = &simulation->options;
	uint64_t now_ns = 0;
	uint64_t i = 0;
	int error = demi_queue(&simulation->queue);

	memset(simulation->busy_ns, 0, sizeof(simulation->busy_ns));
	while (!error && (i < options->requests || simulation->waiting > 0)) {
		uint64_t end_ns = next_end(simulation, now_ns);
		bool arrives = i < options->requests && simulation->requests[i].arrival_ns < end_ns;
		now_ns = arrives ? simulation->requests[i].arrival_ns : end_ns;
		if (arrives)
			error = arrive(simulation, &simulation->requests[i++]);
		if (!error)
			error = dispatch(simulation, now_ns);
	}
	(void)demi_close(simulation->queue);
	return error;
}

/* ---- the report ---- */

static void add_row(struct report *report, const struct simulation *simulation, const char *policy,
		    bool is_long)
{
	const struct histogram *sojourn = simulation->sojourn[is_long];
	struct row *row = report_add(report);

	row_text(row, "policy", policy);
	row_text(row, "requests", is_long ? "long" : "short");
	row_whole(row, "service_ns", is_long ? SHORT_NS * simulation->options.ratio : SHORT_NS);
	row_whole(row, "count", sojourn->count);
	row_whole(row, "p50_ns", histogram_percentile(sojourn, 0.5));
	row_whole(row, "p99_ns", histogram_percentile(sojourn, 0.99));
	row_whole(row, "p999_ns", histogram_percentile(sojourn, 0.999));
	row_whole(row, "max_ns", sojourn->max);
}

static int run(struct simulation *simulation, struct report *report, const char *policy)
{
	for (int i = 0; i < 2; i++)
		memset(simulation->sojourn[i], 0, sizeof(*simulation->sojourn[i]));
	int error = simulate(simulation);
	if (error) {
		tool_complain("%s: %s", policy, strerror(error));
		return TOOL_FAILED;
	}
	add_row(report, simulation, policy, false);
	add_row(report, simulation, policy, true);
	return TOOL_GOOD;
}

/* First without, then with the policy that keeps no worker for short requests, then with all of it.
 */
static int run_all(struct simulation *simulation, struct report *report)
{
	int status = run(simulation, report, "completion");

	if (status == TOOL_GOOD && demi_set_schedule(classify, NULL, 0) == 0)
		status = run(simulation, report, "short first");
	if (status == TOOL_GOOD &&
	    demi_set_schedule(classify, NULL, (int)simulation->options.reserved) == 0)
		status = run(simulation, report, "reserved");
	return status;
}

static int show(const struct schedule_options *options, const struct report *report)
{
	static const struct report_column columns[] = {
		{"policy", "policy", 1, 0},      {"requests", "requests", 1, 0},
		{"count", "count", 1, 0},        {"service_ns", "service us", 1e3, 1},
		{"p50_ns", "p50 us", 1e3, 1},    {"p99_ns", "p99 us", 1e3, 1},
		{"p999_ns", "p99.9 us", 1e3, 1}, {"max_ns", "max us", 1e3, 1},
	};

	if (!options->json || strcmp(options->json, "-") != 0)
		report_print(report, columns, TOOL_COUNT(columns));
	return options->json && report_write_json(report, options->json) < 0 ? TOOL_FAILED
									     : TOOL_GOOD;
}

static int read_options(struct schedule_options *options, int argc, char **argv)
{
	const struct option_spec specs[] = {
		{"workers", OPTION_WHOLE, &options->workers, 1, WORKERS_MAX, NULL, "N",
		 "that serve one request at a time each (8)"},
		{"reserved", OPTION_WHOLE, &options->reserved, 0, WORKERS_MAX - 1, NULL, "N",
		 "of them, kept for short requests (4)"},
		{"load", OPTION_NUMBER, &options->load, 0.01, 0.99, NULL, "SHARE",
		 "of the workers' time that is asked for (0.7)"},
		{"long", OPTION_NUMBER, &options->share, 0.0001, 0.9, NULL, "SHARE",
		 "of the requests that are long (0.01)"},
		{"ratio", OPTION_WHOLE, &options->ratio, 1, 1e6, NULL, "N",
		 "how much longer they take (100)"},
		{"requests", OPTION_WHOLE, &options->requests, 1000, 1e8, NULL, "N",
		 "how many there are (1M)"},
		{"json", OPTION_TEXT, &options->json, 0, 0, NULL, "FILE",
		 "write the rows as JSON (-: standard output)"},
	};

	*options = (struct schedule_options){.workers = 8,
					     .reserved = 4,
					     .load = 0.7,
					     .share = 0.01,
					     .ratio = 100,
					     .requests = 1000000};
	int status = options_read(specs, TOOL_COUNT(specs), argc, argv,
				  "demi bench schedule [OPTION...]");
	if (status != TOOL_GOOD)
		return status;
	if (options->reserved < options->workers)
		return TOOL_GOOD;
	tool_complain("--reserved: long requests need a worker, too");
	return TOOL_USAGE;
}

int bench_schedule(int argc, char **argv)
{
	struct simulation simulation = {0};
	struct report report = {0};
	char message[256];
	int status = read_options(&simulation.options, argc, argv);

	if (status != TOOL_GOOD)
		return status < 0 ? TOOL_GOOD : status;
	if (instance_open("catnap", NULL, NULL, message, sizeof(message)) < 0) {
		tool_complain("%s", message);
		return TOOL_FAILED;
	}
	simulation.requests = tool_alloc(simulation.options.requests, sizeof(struct request));
	for (int i = 0; i < 2; i++)
		simulation.sojourn[i] = tool_alloc(1, sizeof(*simulation.sojourn[i]));
	draw_requests(&simulation);
	status = run_all(&simulation, &report);
	if (status == TOOL_GOOD)
		status = show(&simulation.options, &report);
	report_free(&report);
	for (int i = 0; i < 2; i++)
		free(simulation.sojourn[i]);
	free(simulation.requests);
	instance_close();
	return status;
}
