/* SPDX-License-Identifier: MIT
 * tests/unit/timer_test.c - sched/timer.c against a table of deadlines: never early, nothing
 * forgotten, in order; the lower bound; deadlines beyond every level; functions that arm and
 * cancel.
 */
#include "support/test.h"

#include "base/bits.h"
#include "base/prng.h"
#include "sched/timer.h"
#include "support/seed.h"

#define TICK      ((uint64_t)1 << TIMER_TICK_SHIFT)
#define TICKS_MAX (((uint64_t)1 << 48) - 1)
#define TIMERS    200

struct model;

struct entry {
	struct timer timer;
	struct model *model;
	bool armed;
	uint64_t deadline_ns;
	uint64_t tick; /* when it fires */
};

struct model {
	struct timer_wheel wheel;
	struct prng prng;
	struct entry entries[TIMERS];
	uint64_t now_ns;
	uint64_t last_tick; /* of the timer that fired last */
	uint32_t fired;
	bool meddle; /* functions arm and cancel */
};

static uint64_t below(struct model *model, uint64_t bound)
{
	return prng_below(&model->prng, bound);
}

static void check_wheel(const struct timer_wheel *wheel)
{
	for (int level = 0; level < TIMER_LEVELS; level++) {
		for (int slot = 0; slot < TIMER_SLOTS; slot++) {
			const struct list *list = &wheel->slots[level][slot];
			assert_int_equal(wheel->occupied[level] >> slot & 1, !list_empty(list));
			list_for_each (node, list) {
				const struct timer *timer = container_of(node, struct timer, node);
				uint64_t begins = timer->deadline_tick >> 6 * level << 6 * level;
				assert_true(begins >= wheel->next_tick);
			}
		}
	}
}

static void arm(struct model *model, struct entry *entry, uint64_t deadline_ns)
{
	uint64_t tick = deadline_ns / TICK + (deadline_ns % TICK != 0);

	if (tick <= model->wheel.tick)
		tick = model->wheel.tick + 1;
	entry->tick = tick < TICKS_MAX ? tick : TICKS_MAX;
	entry->deadline_ns = deadline_ns;
	entry->armed = true;
	timer_arm(&model->wheel, &entry->timer, deadline_ns);
	assert_true(timer_armed(&entry->timer));
}

static void cancel(struct model *model, struct entry *entry)
{
	timer_cancel(&model->wheel, &entry->timer);
	assert_false(timer_armed(&entry->timer));
	entry->armed = false;
}

static uint64_t draw_deadline(struct model *model)
{
	switch (below(model, 8)) {
	case 0:
		return below(model, model->now_ns + 1); /* past */
	case 1:
		return UINT64_MAX - below(model, 2);
	case 2:
		return (model->now_ns / TICK + below(model, 70)) * TICK;
	default:
		return model->now_ns + (below(model, 1024) << below(model, 40));
	}
}

static void fire(struct timer *timer)
{
	struct entry *entry = container_of(timer, struct entry, timer);
	struct model *model = entry->model;

	assert_true(entry->armed);
	assert_false(timer_armed(timer));
	assert_int_equal(model->wheel.tick, entry->tick);
	assert_true(entry->tick >= model->last_tick);
	assert_true(entry->tick * TICK <= model->now_ns);
	assert_true(entry->deadline_ns <= model->now_ns || entry->tick == TICKS_MAX);
	model->last_tick = entry->tick;
	entry->armed = false;
	model->fired++;
	if (!model->meddle)
		return;
	for (uint64_t i = below(model, 4); i > 0; i--) {
		struct entry *other =
			below(model, 4) ? &model->entries[below(model, TIMERS)] : entry;
		if (below(model, 2))
			arm(model, other, draw_deadline(model) + model->now_ns / 2);
		else
			cancel(model, other);
	}
}

static void open_model(struct model *model, uint64_t seed, uint64_t now_ns, bool meddle)
{
	*model = (struct model){.now_ns = now_ns, .meddle = meddle};
	prng_seed(&model->prng, seed);
	timer_wheel_init(&model->wheel, now_ns);
	for (int i = 0; i < TIMERS; i++) {
		model->entries[i].model = model;
		timer_init(&model->entries[i].timer, fire);
	}
}

/* The least tick at which something is due; UINT64_MAX: nothing. */
static uint64_t next_due(const struct model *model, uint64_t *armed)
{
	uint64_t next = UINT64_MAX;

	*armed = 0;
	for (int i = 0; i < TIMERS; i++) {
		assert_int_equal(model->entries[i].armed, timer_armed(&model->entries[i].timer));
		if (!model->entries[i].armed)
			continue;
		++*armed;
		if (model->entries[i].tick < next)
			next = model->entries[i].tick;
	}
	return next;
}

static void check_model(const struct model *model)
{
	uint64_t armed;
	uint64_t next = next_due(model, &armed);
	uint64_t bound = timer_next_ns(&model->wheel);

	assert_int_equal(model->wheel.armed, armed);
	assert_int_equal(model->wheel.tick, model->now_ns / TICK);
	if (!armed) {
		assert_true(bound == TIMER_NEVER);
		return;
	}
	assert_true(next > model->wheel.tick); /* nothing was forgotten */
	assert_true(bound <= next * TICK);
	assert_true(bound > model->now_ns);
	if (next / TIMER_SLOTS == model->wheel.tick / TIMER_SLOTS)
		assert_int_equal(bound, next * TICK);
}

static void advance(struct model *model, uint64_t now_ns)
{
	model->now_ns = now_ns;
	model->last_tick = 0;
	model->fired = 0;
	uint32_t fired = timer_advance(&model->wheel, now_ns);
	assert_int_equal(fired, model->fired);
	check_model(model);
}

static uint64_t draw_step(struct model *model)
{
	static const uint32_t bits[] = {0, 9, 10, 12, 16, 17, 22, 28, 34, 40, 46};

	/* With functions that arm again, a long step is many ticks' work. */
	return below(model,
		     (uint64_t)2 << bits[below(model, model->meddle ? 8 : ARRAY_LENGTH(bits))]);
}

static void run_model(uint64_t seed, bool meddle)
{
	static struct model model;

	open_model(&model, seed,
		   seed % 5
			   ? prng_below(&(struct prng){.state = {seed, 1, 2, 3}}, (uint64_t)1 << 40)
			   : 0,
		   meddle);
	for (int step = 0; step < 3000; step++) {
		struct entry *entry = &model.entries[below(&model, TIMERS)];
		switch (below(&model, 4)) {
		case 0:
			advance(&model, model.now_ns + draw_step(&model));
			break;
		case 1:
			cancel(&model, entry);
			break;
		default:
			arm(&model, entry, draw_deadline(&model));
		}
		check_model(&model);
		if (step % 16 == 0)
			check_wheel(&model.wheel);
	}
}

static void test_model(void **state)
{
	uint64_t seed = test_seed(100);

	(void)state;
	for (uint64_t round = 0; round < 40; round++)
		run_model(seed + round, false);
}

static void test_model_meddling(void **state)
{
	uint64_t seed = test_seed(200);

	(void)state;
	for (uint64_t round = 0; round < 40; round++)
		run_model(seed + round, true);
}

/* Sleeping from bound to bound reaches every deadline, in few steps. */
static void test_next_leads_there(void **state)
{
	static struct model model;
	uint64_t armed;

	(void)state;
	open_model(&model, test_seed(300), 12345678, false);
	for (int i = 0; i < TIMERS; i++)
		arm(&model, &model.entries[i],
		    model.now_ns + (below(&model, 1024) << below(&model, 44)));
	uint32_t steps = 0;
	while (next_due(&model, &armed) != UINT64_MAX) {
		advance(&model, timer_next_ns(&model.wheel));
		steps++;
	}
	assert_true(steps <= TIMERS * TIMER_LEVELS);
	check_wheel(&model.wheel);
}

/* Each deadline around the borders of the levels, from times around them. */
static void test_borders(void **state)
{
	static struct model model;

	(void)state;
	for (int from = 0; from < 48; from += 3) {
		for (int to = from; to < 48; to++) {
			for (uint64_t delta = 0; delta < 3; delta++) {
				uint64_t start = (((uint64_t)1 << from) + delta - 1) * TICK;
				uint64_t end = ((uint64_t)1 << to) + delta;
				open_model(&model, 1, start, false);
				arm(&model, &model.entries[0], end * TICK);
				uint64_t tick = model.entries[0].tick;
				if (tick > start / TICK + 1)
					advance(&model, tick * TICK - 1);
				assert_int_equal(model.fired, 0);
				advance(&model, tick * TICK);
				assert_int_equal(model.fired, 1);
			}
		}
	}
}

static void test_huge(void **state)
{
	static const uint64_t deadlines[] = {UINT64_MAX,        UINT64_MAX - 1,
					     UINT64_MAX - TICK, (uint64_t)1 << 63,
					     TICKS_MAX * TICK,  TICKS_MAX * TICK + 1};
	static struct model model;

	(void)state;
	open_model(&model, 1, 5000, false);
	for (size_t i = 0; i < ARRAY_LENGTH(deadlines); i++)
		arm(&model, &model.entries[i], deadlines[i]);
	advance(&model, (uint64_t)1 << 57);
	assert_int_equal(model.fired, 0);
	advance(&model, TICKS_MAX * TICK - 1);
	assert_int_equal(model.fired, 0);
	check_wheel(&model.wheel);
	advance(&model, TICKS_MAX * TICK);
	assert_int_equal(model.fired, ARRAY_LENGTH(deadlines));
}

/* A past deadline does not fire at once, nor without an advance to a later tick. */
static void test_past(void **state)
{
	static struct model model;

	(void)state;
	open_model(&model, 1, 100 * TICK + 1, false);
	arm(&model, &model.entries[0], 0);
	arm(&model, &model.entries[1], 100 * TICK);
	advance(&model, 101 * TICK - 1);
	assert_int_equal(model.fired, 0);
	advance(&model, 101 * TICK);
	assert_int_equal(model.fired, 2);
	advance(&model, 101 * TICK);
	assert_int_equal(model.fired, 0);
}

struct pair {
	struct timer one;
	struct timer two;
	struct timer_wheel *wheel;
	int fired_one;
	int fired_two;
};

static void cancels_two(struct timer *timer)
{
	struct pair *pair = container_of(timer, struct pair, one);

	pair->fired_one++;
	timer_cancel(pair->wheel, &pair->two);
}

static void counts_two(struct timer *timer)
{
	container_of(timer, struct pair, two)->fired_two++;
}

/* Due at the same tick: the first cancels the second, which is then never called. */
static void test_cancel_due(void **state)
{
	struct timer_wheel wheel;
	struct pair pair = {.wheel = &wheel};

	(void)state;
	timer_wheel_init(&wheel, 0);
	timer_init(&pair.one, cancels_two);
	timer_init(&pair.two, counts_two);
	for (uint64_t delay = 1; delay < 100000; delay = delay * 3 + 1) {
		uint64_t due = (wheel.tick + delay) * TICK;
		pair.fired_one = 0;
		timer_arm(&wheel, &pair.one, due);
		timer_arm(&wheel, &pair.two, due);
		assert_int_equal(timer_advance(&wheel, due + 50 * TICK), 1);
		assert_int_equal(pair.fired_one, 1);
		assert_int_equal(pair.fired_two, 0);
		assert_int_equal(wheel.armed, 0);
		check_wheel(&wheel);
	}
	timer_cancel(&wheel, &pair.one); /* not armed: nothing */
	assert_int_equal(wheel.armed, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_model_meddling),
		cmocka_unit_test(test_next_leads_there),
		cmocka_unit_test(test_borders),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_past),
		cmocka_unit_test(test_cancel_due),
	};

	return test_run("timer", tests);
}
