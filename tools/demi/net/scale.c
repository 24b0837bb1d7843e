/* SPDX-License-Identifier: MIT
 * tools/demi/net/scale.c - how requests per second grow with instances: two threads on two cores,
 * each with a world of its own, beside one such thread.
 *
 * Instances share nothing, so what is lost is the machine's: cache, clock rate, a core that two
 * threads of the host share.  What a loop without memory loses tells how much that is.
 */
#include "../median.h"
#include "../process.h"
#include "../tool.h"
#include "rows.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS    2
#define CHUNK      (32 * NET_BURST)
#define SETTLED    10000 /* requests, to warm up */
#define LOOP_STEPS 100000
#define ACTIVE     NET_BURST
#define SCALE_MTU  1500

enum job { REST, REQUESTS, LOOP };

struct scale;

struct worker {
	struct scale *scale;
	int core;
	enum job job; /* of the run to come */
	double rate_per_s;
};

/* By pair. */
struct rates {
	double *both, *alone;
};

/* The threads wait at `begin`, for a run or the end, and at `end` when it is over. */
struct scale {
	const struct contender *contender;
	pthread_barrier_t begin, end;
	struct worker workers[THREADS];
	uint64_t duration_ns;
	bool over;
	_Atomic bool failed;
};

static void loop(void)
{
	volatile uint64_t x = 1;

	for (unsigned i = 0; i < LOOP_STEPS; i++)
		x = x * 3 + 1;
}

static struct rates make_rates(unsigned pairs)
{
	return (struct rates){
		.both = tool_alloc(pairs, sizeof(double)),
		.alone = tool_alloc(pairs, sizeof(double)),
	};
}

static void free_rates(struct rates *rates)
{
	free(rates->both);
	free(rates->alone);
}

static bool run(struct worker *worker, void *world)
{
	const struct scale *scale = worker->scale;
	uint64_t begin_ns = clock_now_ns();
	uint64_t now_ns = begin_ns;
	uint64_t count = 0;

	for (; now_ns < begin_ns + scale->duration_ns; now_ns = clock_now_ns()) {
		if (worker->job == LOOP)
			loop();
		else if (!scale->contender->request(world, CHUNK))
			return false;
		count += CHUNK;
	}
	worker->rate_per_s = (double)count * 1e9 / (double)(now_ns - begin_ns);
	return true;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct scale *scale = worker->scale;
	const struct net_spec spec = {.mtu = SCALE_MTU, .active = ACTIVE};

	core_pin(worker->core);
	void *world = scale->contender->open(&spec);
	if (!world || !scale->contender->request(world, SETTLED))
		scale->failed = true;
	for (;;) {
		(void)pthread_barrier_wait(&scale->begin);
		if (scale->over)
			break;
		worker->rate_per_s = 0;
		if (world && worker->job != REST && !run(worker, world))
			scale->failed = true;
		(void)pthread_barrier_wait(&scale->end);
	}
	if (world)
		scale->contender->close(world);
	return NULL;
}

/* The sum of the rates of the workers that run. */
static double run_some(struct scale *scale, enum job first, enum job second)
{
	scale->workers[0].job = first;
	scale->workers[1].job = second;
	(void)pthread_barrier_wait(&scale->begin);
	(void)pthread_barrier_wait(&scale->end);
	return scale->workers[0].rate_per_s + scale->workers[1].rate_per_s;
}

/* Both, then one of them alone, each in its turn. */
static void run_pair(struct scale *scale, enum job job, unsigned n, struct rates *rates)
{
	rates->both[n] = run_some(scale, job, job);
	rates->alone[n] = n % 2 ? run_some(scale, REST, job) : run_some(scale, job, REST);
}

static unsigned run_pairs(struct scale *scale, unsigned pairs, struct rates *requests,
			  struct rates *loops)
{
	unsigned done = 0;

	(void)run_some(scale, REQUESTS, REQUESTS);
	for (; done < pairs && !scale->failed; done++) {
		progress_show("net: scale: pair %u of %u", done + 1, pairs);
		run_pair(scale, REQUESTS, done, requests);
		run_pair(scale, LOOP, done, loops);
	}
	progress_clear();
	return done;
}

static void add_row(const struct scale *scale, struct rates *requests, const struct rates *loops,
		    unsigned pairs, struct report *report)
{
	struct row *row = report_add(report);
	double ratio = median_ratio(requests->both, requests->alone, pairs);

	row_text(row, "what", "scale");
	row_text(row, "stack", scale->contender->name);
	row_whole(row, "instances", THREADS);
	row_whole(row, "connections", ACTIVE);
	row_whole(row, "size_bytes", NET_REQUEST_BYTES);
	row_number(row, "requests_per_s", median(requests->both, pairs));
	row_text(row, "reference", "one instance");
	row_number(row, "ratio", ratio);
	row_number(row, "loop_ratio", median_ratio(loops->both, loops->alone, pairs));
	row_whole(row, "pairs", pairs);
}

bool scale_measure(const struct net_options *options, struct report *report)
{
	struct scale scale = {
		.contender = net_contender(0),
		.duration_ns = (uint64_t)(options->seconds * 1e9),
	};
	unsigned pairs = (unsigned)options->pairs;
	struct rates requests = make_rates(pairs);
	struct rates loops = make_rates(pairs);
	pthread_t threads[THREADS];

	(void)pthread_barrier_init(&scale.begin, NULL, THREADS + 1);
	(void)pthread_barrier_init(&scale.end, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++) {
		scale.workers[i] = (struct worker){.scale = &scale, .core = (int)options->core + i};
		if (pthread_create(&threads[i], NULL, work, &scale.workers[i])) {
			tool_complain("scale: no thread");
			exit(TOOL_FAILED); /* the others wait for it */
		}
	}
	pairs = run_pairs(&scale, pairs, &requests, &loops);
	scale.over = true;
	(void)pthread_barrier_wait(&scale.begin);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	if (!scale.failed)
		add_row(&scale, &requests, &loops, pairs, report);
	(void)pthread_barrier_destroy(&scale.begin);
	(void)pthread_barrier_destroy(&scale.end);
	free_rates(&requests);
	free_rates(&loops);
	return !scale.failed;
}
