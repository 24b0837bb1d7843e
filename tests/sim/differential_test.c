/* SPDX-License-Identifier: MIT
 * tests/sim/differential_test.c - the same random packets and calls into our stack and lwIP: what
 * both must do alike they do alike, and every difference has a reason (sim/diff/explain.c).
 *
 * A difference without one ends the program with the seed and both traces; with TEST_COLLECT=1 in
 * the environment it ends that run only, and the first seed of each kind is listed at the end.
 */
#include "sim/diff/diff.h"
#include "sim/world.h"
#include "support/seed.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEPS_MAX   60
#define REASONS_MAX 64
#define AFTER_RESET 3 /* steps to a connection that is gone */
#define UNKNOWN_MAX 256
#define OURS        0
#define LWIP        1

const char *const diff_field_names[DIFF_FIELDS] = {
	"an assertion failed",
	"a reset was sent",
	"the form of the reset",
	"a SYN was sent",
	"acknowledged",
	"an acknowledgement alone",
	"connected",
	"delivered",
	"the end was read",
	"the application was told of an error",
	"bytes the peer received",
	"a FIN was sent",
	"wrong bytes",
};

static struct {
	void *module;
	const struct diff_stack *lwip;
	uint64_t steps;
	uint64_t runs;
	uint64_t ended; /* early, by a reason that ends */
	uint64_t reasons[REASONS_MAX];
	uint32_t num_unknown;

	struct unknown {
		enum diff_field field;
		const char *what;
		int64_t values[2];
		uint64_t seed;
		uint64_t count;
	} unknown[UNKNOWN_MAX];
} total;

/* May an acknowledgement alone be compared?  Not where one may ride on data. */
static bool is_quiet(const struct diff_run *run)
{
	for (int i = 0; i < 2; i++) {
		const struct diff_side *side = &run->sides[i];
		if (side->seen.data || side->seen.again ||
		    side->high - 1 - side->fin != run->wanted)
			return false;
	}
	return run->step.act == ACT_PACKET && run->handshake && run->in_step;
}

/* Is the application there, and does it listen? */
static bool is_told(const struct diff_run *run)
{
	return run->reading && !run->closed && run->in_step && !run->sides[OURS].app.ended &&
	       !run->sides[LWIP].app.ended;
}

/* The value of a field; -1: it is not compared here. */
static int64_t value_of(const struct diff_run *run, const struct diff_side *side,
			enum diff_field field)
{
	const struct diff_seen *seen = &side->seen;
	bool drained = run->step.act == ACT_DRAIN && !run->over;

	switch (field) {
	case DIFF_BROKEN:
		return side->app.broken;
	case DIFF_RST:
		return run->in_step ? seen->rst : -1;
	case DIFF_RST_FORM:
		return seen->rst_form;
	case DIFF_SYN:
		return run->in_step ? seen->syn : -1;
	case DIFF_ACKED:
		return run->over ? -1 : (int64_t)side->acked;
	case DIFF_ANSWER:
		return is_quiet(run) ? seen->pure : -1;
	case DIFF_CONNECTED:
		return side->app.connected;
	case DIFF_DELIVERED:
		return run->reading && !run->closed ? (int64_t)side->app.delivered : -1;
	case DIFF_ENDED:
		return run->reading && !run->closed ? side->app.ended : -1;
	case DIFF_FAILED:
		return is_told(run) ? side->app.failed : -1;
	case DIFF_SENT:
		return drained ? (int64_t)side->high : -1;
	case DIFF_FIN:
		return drained ? side->fin : -1;
	default:
		return seen->wrong || side->app.wrong;
	}
}

static bool differs(const struct diff_run *run, enum diff_field field)
{
	return value_of(run, &run->sides[OURS], field) != value_of(run, &run->sides[LWIP], field);
}

static _Noreturn void fail_run(struct diff_run *run, enum diff_field field)
{
	for (int i = 0; i < 2; i++) {
		struct diff_side *side = &run->sides[i];
		(void)fflush(side->trace);
		printf("# %s:\n", side->stack->name);
		for (char *line = strtok(side->log, "\n"); line; line = strtok(NULL, "\n"))
			printf("# %s\n", line);
	}
	printf("# DEMI_SEED=%" PRIu64 " step %" PRIu32 ": %s: ours %" PRId64 ", lwIP %" PRId64 "\n"
	       "Bail out! a difference that is not explained\n",
	       run->seed, run->steps, diff_field_names[field],
	       value_of(run, &run->sides[OURS], field), value_of(run, &run->sides[LWIP], field));
	(void)fflush(stdout);
	_exit(1);
}

/* A difference without a reason, where such are collected. */
static void collect(const struct diff_run *run, enum diff_field field)
{
	uint32_t i = 0;
	int64_t ours = value_of(run, &run->sides[OURS], field);
	int64_t lwip = value_of(run, &run->sides[LWIP], field);

	for (; i < total.num_unknown; i++)
		if (total.unknown[i].field == field && total.unknown[i].what == run->step.what &&
		    (total.unknown[i].values[OURS] < total.unknown[i].values[LWIP]) ==
			    (ours < lwip))
			break;
	if (i == UNKNOWN_MAX)
		return;
	if (i == total.num_unknown) {
		total.num_unknown++;
		total.unknown[i] =
			(struct unknown){field, run->step.what, {ours, lwip}, run->seed, 0};
	}
	total.unknown[i].count++;
}

/* False: the run ends here. */
static bool compare(struct diff_run *run)
{
	for (int field = 0; field < DIFF_FIELDS; field++) {
		uint32_t i = 0;

		if (!differs(run, (enum diff_field)field))
			continue;
		while (i < diff_num_reasons && !diff_reasons[i].holds(run, (enum diff_field)field))
			i++;
		if (i == diff_num_reasons && test_number("TEST_COLLECT", 0)) {
			collect(run, (enum diff_field)field);
			return false;
		}
		if (i == diff_num_reasons)
			fail_run(run, (enum diff_field)field);
		total.reasons[i]++;
		if (diff_reasons[i].ends) {
			total.ended++;
			return false;
		}
	}
	return true;
}

static bool is_over(const struct diff_run *run)
{
	return run->sides[OURS].seen.rst || run->sides[OURS].app.failed ||
	       (run->reset && run->step.flags & TCP_RST);
}

/* What the reasons have to know of the past. */
static void take_stock(struct diff_run *run)
{
	const struct diff_side *ours = &run->sides[OURS];
	const struct diff_side *lwip = &run->sides[LWIP];

	run->in_step =
		ours->high == lwip->high && ours->fin == lwip->fin && ours->told == lwip->told;
	if (run->step.act != ACT_PACKET)
		return;
	run->odd_options |= run->step.option_bytes && !(run->step.flags & TCP_SYN);
	run->future_acks |= run->step.ack == ACK_FUTURE;
	run->old_acks |= diff_is_outside(run, &run->step) && run->step.flags & TCP_ACK &&
			 run->step.ack == ACK_ALL && (ours->fin || lwip->fin);
}

static void play(struct diff_run *run)
{
	uint32_t steps = (uint32_t)prng_below(&run->prng, STEPS_MAX) + 2;

	for (; run->steps < steps; run->steps++) {
		bool established = run->handshake;

		diff_draw(run);
		take_stock(run);
		diff_do(run);
		total.steps++;
		/* A new connection, or an end: of one of them, if the other is still elsewhere. */
		bool anew = established && (run->sides[OURS].seen.syn || run->sides[LWIP].seen.syn);
		bool parted = run->sides[OURS].seen.rst != run->sides[LWIP].seen.rst;
		if ((anew || parted) && !run->in_step)
			return;
		if (!compare(run) || anew)
			return;
		if (run->handshake && !run->over && is_over(run)) {
			if (!run->in_step)
				return; /* perhaps it is not over for both */
			run->over = true;
			steps = run->steps + AFTER_RESET;
		}
	}
	run->step = (struct diff_step){.act = ACT_DRAIN, .what = "the end"};
	take_stock(run);
	diff_do(run);
	(void)compare(run);
}

/* What the leak sanitizer asks for: a broken lwIP keeps what it had. */
/* NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): that is its name */
const char *__lsan_default_suppressions(void);

/* NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): see above */
const char *__lsan_default_suppressions(void)
{
	return "leak:liblwip\n";
}

/* Loads the module, anew if it was there. */
static void load_lwip(void)
{
#ifdef DIFF_LWIP
	char path[PATH_MAX + 64];
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	assert_true(length > 0);
	self[length] = '\0';
	(void)snprintf(path, sizeof(path), "%s/" DIFF_LWIP, dirname(self));
	if (total.module)
		(void)dlclose(total.module);
	total.module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!total.module)
		fail_msg("%s", dlerror());
	total.lwip = dlsym(total.module, DIFF_LWIP_SYMBOL);
	assert_non_null(total.lwip);
#endif
}

static uint64_t run_seed(uint64_t seed)
{
	struct diff_run *run = calloc(1, sizeof(*run));
	uint64_t digest = 0;

	assert_non_null(run);
	run->seed = seed;
	prng_seed(&run->prng, seed);
	run->sides[OURS].stack = &diff_our_stack;
	run->sides[LWIP].stack = total.lwip;
	for (int i = 0; i < 2; i++) {
		run->sides[i].trace = open_memstream(&run->sides[i].log, &run->sides[i].log_bytes);
		assert_non_null(run->sides[i].trace);
	}
	diff_open(run);
	play(run);
	total.runs++;
	for (int i = 0; i < 2; i++) {
		run->sides[i].stack->close_all();
		(void)fclose(run->sides[i].trace);
		for (size_t j = 0; j < run->sides[i].log_bytes; j++)
			digest = digest * 31 + (uint8_t)run->sides[i].log[j];
		free(run->sides[i].log);
	}
	if (run->sides[LWIP].app.broken)
		load_lwip();
	free(run);
	return digest;
}

static void test_differences(void **state)
{
	(void)state;
#ifndef DIFF_LWIP
	skip_because("lwIP: this build has none");
#else
	load_lwip();
	assert_true(diff_num_reasons <= REASONS_MAX);
	world_seeds(test_seed(1), 300, 20, run_seed);
	printf("# %" PRIu64 " steps of %" PRIu64 " runs compared, %" PRIu64
	       " runs ended early by a difference\n",
	       total.steps, total.runs, total.ended);
	for (uint32_t i = 0; i < diff_num_reasons; i++)
		printf("# %8" PRIu64 " %s (%s; right: %s)\n", total.reasons[i],
		       diff_reasons[i].name, diff_reasons[i].clause, diff_reasons[i].right);
	for (uint32_t i = 0; i < total.num_unknown; i++) {
		const struct unknown *u = &total.unknown[i];
		printf("# %8" PRIu64 " not explained: %s at %s, DEMI_SEED=%" PRIu64
		       ": ours %" PRId64 ", lwIP %" PRId64 "\n",
		       u->count, diff_field_names[u->field], u->what, u->seed, u->values[OURS],
		       u->values[LWIP]);
	}
	assert_int_equal(total.num_unknown, 0);
#endif
}

int main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_differences)};

	return test_run("differential", tests);
}
