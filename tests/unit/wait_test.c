/* SPDX-License-Identifier: MIT
 * tests/unit/wait_test.c - sched/wait.c on a struct sched alone, operations completed by hand: one,
 * any, next, all; guesses and full passes, parked results, adoption between coroutines, arrays
 * changed in place, timeouts, a random model.
 */
#include "support/test.h"

#include "sched/sched.h"
#include "support/rig.h"
#include "support/seed.h"

#include <errno.h>
#include <string.h>

#define SOON_NS 200000 /* in the rig's time */

static const struct rig_options busy = {.operations_max = 20000};
static const struct rig_options sleeps = {.adaptive = true};

static void open_rig(struct rig *rig, const struct rig_options *options)
{
	assert_int_equal(rig_open(rig, options), 0);
}

static struct op *issue(struct rig *rig)
{
	struct op *op = op_issue(&rig->sched, OP_POP, 500);

	assert_non_null(op);
	return op;
}

static void complete(struct rig *rig, struct op *op)
{
	op_complete(&rig->sched, op, 0);
}

static struct op *issue_done(struct rig *rig)
{
	struct op *op = issue(rig);

	complete(rig, op);
	return op;
}

static void spend(struct rig *rig, struct op *op)
{
	op_free(&rig->sched.ops, op);
}

static uint64_t passes(const struct rig *rig)
{
	return rig->sched.counters.count[COUNTER_FULL_PASSES];
}

static struct waitset *main_waits(struct rig *rig)
{
	return &rig->sched.coroutines.main.waits;
}

static uint64_t soon(struct rig *rig)
{
	return rig->now_ns + SOON_NS;
}

/* Input that completes one operation in a certain turn. */
struct later {
	struct op *op;
	uint64_t at_poll;
	int err;
};

static uint32_t complete_later(struct rig *rig, void *arg)
{
	struct later *later = arg;

	if (!later->op || rig->polls < later->at_poll)
		return 0;
	struct op *op = later->op;
	later->op = NULL;
	op_complete(&rig->sched, op, later->err);
	return 1;
}

static void arrange(struct rig *rig, struct later *later, struct op *op, uint64_t turns)
{
	*later = (struct later){.op = op, .at_poll = rig->polls + turns};
	rig->input = complete_later;
	rig->arg = later;
}

static void take_any(struct rig *rig, const uint64_t *tokens, uint32_t count, uint64_t deadline_ns,
		     struct op *expected, uint32_t expected_index)
{
	struct op *op = NULL;
	uint32_t index = UINT32_MAX;

	assert_int_equal(wait_any(&rig->sched, tokens, count, deadline_ns, &op, &index), 0);
	assert_ptr_equal(op, expected);
	assert_int_equal(index, expected_index);
	rig_check(rig);
	spend(rig, op);
}

static int any_error(struct rig *rig, const uint64_t *tokens, uint32_t count, uint64_t deadline_ns)
{
	struct op *op = NULL;
	uint32_t index;
	int err = wait_any(&rig->sched, tokens, count, deadline_ns, &op, &index);

	assert_null(op);
	rig_check(rig);
	return err;
}

/* -- one */

static void test_one(void **state)
{
	static struct rig rig;
	struct later later;
	struct op *got;

	(void)state;
	for (int mode = 0; mode < 2; mode++) {
		open_rig(&rig, mode ? &sleeps : &busy);
		for (uint64_t turns = 0; turns < 40; turns++) {
			struct op *op = issue(&rig);
			if (turns == 0)
				complete(&rig, op);
			else
				arrange(&rig, &later, op, turns);
			uint64_t token = op->token;
			assert_int_equal(wait_one(&rig.sched, token, WAIT_FOREVER, &got), 0);
			assert_ptr_equal(got, op);
			assert_int_equal(got->flags, 0);
			spend(&rig, got);
			assert_int_equal(wait_one(&rig.sched, token, WAIT_FOREVER, &got), -EINVAL);
			rig_check(&rig);
		}
		assert_int_equal(main_waits(&rig)->issued, 0);
		rig.input = NULL;
		rig_close(&rig);
	}
}

/* What was pushed goes out at once, and the device is told: but while there are more results to
 * take. */
static void test_doorbell(void **state)
{
	static struct rig rig;

	(void)state;
	open_rig(&rig, &busy);
	for (uint32_t count = 0; count < 4; count++) {
		struct op *ops[4];
		for (uint32_t i = 0; i < count; i++) {
			ops[i] = issue(&rig);
			complete(&rig, ops[i]);
		}
		rig.flushes = rig.doorbells = 0;
		sched_flush(&rig.sched);
		assert_int_equal(rig.flushes, 0);
		rig.sched.output_pending++;
		sched_flush(&rig.sched);
		assert_int_equal(rig.flushes, 1);
		assert_int_equal(rig.doorbells, count < 2);
		sched_flush_all(&rig.sched, 0);
		assert_int_equal(rig.doorbells, 1 + (count < 2));
		for (uint32_t i = 0; i < count; i++) {
			struct op *got;
			assert_int_equal(wait_one(&rig.sched, ops[i]->token, WAIT_POLL, &got), 0);
			spend(&rig, got);
		}
	}
	rig_close(&rig);
}

struct handed {
	struct later later;
	uint32_t listed; /* that were, when it had completed */
};

static uint32_t complete_and_look(struct rig *rig, void *arg)
{
	struct handed *handed = arg;
	uint32_t completed = complete_later(rig, &handed->later);

	if (completed > 0) {
		handed->listed = main_waits(rig)->count;
		rig_check(rig);
	}
	return completed;
}

static void arrange_handed(struct rig *rig, struct handed *handed, struct op *op)
{
	arrange(rig, &handed->later, op, 2);
	rig->input = complete_and_look;
	rig->arg = handed;
}

/* An operation that is waited for alone goes through no list; of several each is listed in the end.
 */
static void test_handed_over(void **state)
{
	static struct rig rig;
	struct handed handed;
	uint64_t tokens[3];
	struct op *got;

	(void)state;
	open_rig(&rig, &busy);
	for (int i = 0; i < 2; i++)
		tokens[i] = issue_done(&rig)->token;
	struct op *op = issue(&rig);
	arrange_handed(&rig, &handed, op);
	assert_int_equal(wait_one(&rig.sched, op->token, WAIT_FOREVER, &got), 0);
	assert_ptr_equal(got, op);
	assert_int_equal(handed.listed, 2);
	assert_int_equal(main_waits(&rig)->issued, 2);
	spend(&rig, got);
	op = issue(&rig);
	tokens[2] = op->token;
	arrange_handed(&rig, &handed, op);
	assert_int_equal(wait_all(&rig.sched, tokens, 3, WAIT_FOREVER), 0);
	assert_int_equal(handed.listed, 2);
	assert_int_equal(main_waits(&rig)->count, 3);
	rig_check(&rig);
	for (int i = 0; i < 3; i++)
		spend(&rig, wait_take(&rig.sched, tokens[i]));
	rig_close(&rig);
}

static void test_one_timeout(void **state)
{
	static struct rig rig;

	(void)state;
	for (int mode = 0; mode < 2; mode++) {
		struct op *got = NULL;
		open_rig(&rig, mode ? &sleeps : &busy);
		struct op *op = issue(&rig);
		uint64_t polls = rig.polls;
		assert_int_equal(wait_one(&rig.sched, op->token, WAIT_POLL, &got), -ETIMEDOUT);
		assert_int_equal(rig.polls, polls + 1);
		uint64_t deadline = soon(&rig);
		assert_int_equal(wait_one(&rig.sched, op->token, deadline, &got), -ETIMEDOUT);
		assert_true(rig.now_ns >= deadline);
		assert_int_equal(wait_one(&rig.sched, op->token, 1, &got), -ETIMEDOUT); /* past */
		assert_null(got);
		assert_int_equal(op->flags, 0);
		complete(&rig, op);
		assert_int_equal(wait_one(&rig.sched, op->token, WAIT_POLL, &got), 0);
		spend(&rig, got);
		rig_check(&rig);
		rig_close(&rig);
	}
}

/* Waits that never have to wait run a turn now and then. */
static void test_one_gives_way(void **state)
{
	static struct rig rig;
	struct op *got;

	(void)state;
	open_rig(&rig, &busy);
	for (uint32_t i = 1; i <= 10 * SCHED_FAST_CALLS; i++) {
		uint64_t token = issue_done(&rig)->token;
		assert_int_equal(wait_one(&rig.sched, token, WAIT_FOREVER, &got), 0);
		spend(&rig, got);
		sched_fast_end(&rig.sched); /* only now: the token is nobody's any more */
		assert_int_equal(rig.polls, i / SCHED_FAST_CALLS);
	}
	rig_close(&rig);
}

/* An element of a memory queue is an operation that nobody owns; its token can be guessed. */
static void test_nobodys(void **state)
{
	static struct rig rig;
	struct op *got = NULL;

	(void)state;
	open_rig(&rig, &busy);
	struct op *element = op_alloc(&rig.sched.ops);
	element->owner = NULL;
	uint64_t tokens[20];
	for (size_t i = 0; i < ARRAY_LENGTH(tokens); i++)
		tokens[i] = element->token;
	assert_int_equal(wait_one(&rig.sched, element->token, WAIT_POLL, &got), -EINVAL);
	assert_int_equal(any_error(&rig, tokens, 1, WAIT_POLL), -EINVAL);
	assert_int_equal(any_error(&rig, tokens, 20, SOON_NS), -EINVAL);
	assert_int_equal(wait_all(&rig.sched, tokens, 1, WAIT_POLL), -EINVAL);
	assert_null(element->owner);
	assert_int_equal(element->state, OP_PENDING);
	spend(&rig, element);
	rig_close(&rig);
}

/* -- any: guesses */

enum { MANY = 1000 };

static void test_any_in_place(void **state)
{
	static struct rig rig;
	static struct op *ops[MANY];
	static uint64_t tokens[MANY];
	struct prng prng;

	(void)state;
	open_rig(&rig, &busy);
	prng_seed(&prng, test_seed(21));
	for (uint32_t i = 0; i < MANY; i++) {
		ops[i] = issue(&rig);
		tokens[i] = ops[i]->token;
	}
	uint32_t at = MANY / 2;
	for (int round = 0; round < 5000; round++) {
		complete(&rig, ops[at]);
		take_any(&rig, tokens, MANY, WAIT_FOREVER, ops[at], at);
		ops[at] = issue(&rig);
		tokens[at] = ops[at]->token;
		if (prng_below(&prng, 2))
			at = (uint32_t)prng_below(&prng, MANY);
	}
	assert_true(passes(&rig) <= 1); /* the first time nobody can have guessed right */
	rig_close(&rig);
}

/* The array moves under the guesses: each result is still the right one, with its index of now. */
static void test_any_changed(void **state)
{
	enum { COUNT = 50 };

	static struct rig rig;
	static struct op *ops[COUNT];
	static uint64_t tokens[COUNT];
	struct prng prng;

	(void)state;
	open_rig(&rig, &busy);
	prng_seed(&prng, test_seed(22));
	for (uint32_t i = 0; i < COUNT; i++) {
		ops[i] = issue(&rig);
		tokens[i] = ops[i]->token;
	}
	for (int round = 0; round < 3000; round++) {
		uint32_t one = (uint32_t)prng_below(&prng, COUNT);
		uint32_t two = (uint32_t)prng_below(&prng, COUNT);
		uint32_t count =
			COUNT - (uint32_t)prng_below(&prng, 3) * 10; /* also shorter ones */
		struct op *op = ops[one];
		ops[one] = ops[two];
		tokens[one] = tokens[two];
		ops[two] = op;
		tokens[two] = op->token;
		uint32_t at = (uint32_t)prng_below(&prng, count);
		complete(&rig, ops[at]);
		take_any(&rig, tokens, count, WAIT_FOREVER, ops[at], at);
		ops[at] = issue(&rig);
		tokens[at] = ops[at]->token;
	}
	rig_close(&rig);
}

/* Oldest first, however the array is ordered. */
static void test_any_oldest_first(void **state)
{
	static const uint32_t counts[] = {2, WAIT_SMALL, WAIT_SMALL + 1, 100};
	static struct rig rig;
	static struct op *ops[100];
	static uint64_t tokens[100];

	(void)state;
	open_rig(&rig, &busy);
	for (size_t c = 0; c < ARRAY_LENGTH(counts); c++) {
		for (uint32_t i = 0; i < counts[c]; i++) {
			ops[i] = issue(&rig);
			tokens[i] = ops[i]->token;
		}
		for (uint32_t k = 0; k < counts[c]; k++)
			complete(&rig, ops[k * 7 % counts[c]]); /* 7 divides none of the counts */
		for (uint32_t k = 0; k < counts[c]; k++) {
			uint32_t at = k * 7 % counts[c];
			take_any(&rig, tokens, counts[c], WAIT_POLL, ops[at], at);
			ops[at] = issue(&rig); /* never complete: stands in for the spent one */
			tokens[at] = ops[at]->token;
		}
		for (uint32_t i = 0; i < counts[c]; i++) {
			complete(&rig, ops[i]);
			spend(&rig, wait_take(&rig.sched, tokens[i]));
		}
	}
	assert_int_equal(main_waits(&rig)->issued, 0);
	rig_close(&rig);
}

/* Those that always complete do not starve one that completed earlier. */
static void test_any_fair(void **state)
{
	enum { COUNT = 40 };

	static struct rig rig;
	static struct op *ops[COUNT];
	static uint64_t tokens[COUNT];
	uint32_t got[COUNT] = {0};

	(void)state;
	open_rig(&rig, &busy);
	for (uint32_t i = 0; i < COUNT; i++) {
		ops[i] = issue_done(&rig);
		tokens[i] = ops[i]->token;
	}
	for (int round = 0; round < COUNT * 100; round++) {
		struct op *op;
		uint32_t index;
		assert_int_equal(wait_any(&rig.sched, tokens, COUNT, WAIT_FOREVER, &op, &index), 0);
		got[index]++;
		spend(&rig, op);
		ops[index] = issue_done(&rig); /* completes at once */
		tokens[index] = ops[index]->token;
	}
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(got[i], 100);
	rig_close(&rig);
}

static void test_any_duplicates(void **state)
{
	static struct rig rig;
	uint64_t tokens[40];
	struct op *op = NULL;
	uint32_t index;

	(void)state;
	open_rig(&rig, &busy);
	for (uint32_t count = 2; count <= ARRAY_LENGTH(tokens); count++) {
		struct op *one = issue(&rig);
		for (uint32_t i = 0; i < count; i++)
			tokens[i] = one->token;
		complete(&rig, one);
		assert_int_equal(wait_any(&rig.sched, tokens, count, WAIT_FOREVER, &op, &index), 0);
		assert_ptr_equal(op, one);
		assert_true(index < count);
		spend(&rig, op);
		op = NULL;
		assert_int_equal(any_error(&rig, tokens, count, WAIT_FOREVER), -EINVAL);
	}
	rig_close(&rig);
}

/* -- any: what is not in the array */

static void test_any_parked(void **state)
{
	static const uint32_t counts[] = {1, WAIT_SMALL, 100};
	static struct rig rig;
	static uint64_t tokens[101];
	struct op *got;

	(void)state;
	open_rig(&rig, &busy);
	for (size_t c = 0; c < ARRAY_LENGTH(counts); c++) {
		struct op *absent = issue_done(&rig);
		struct op *also = issue_done(&rig);
		uint64_t absent_token = absent->token;
		for (uint32_t i = 0; i < counts[c]; i++)
			tokens[i] = issue(&rig)->token;
		assert_int_equal(any_error(&rig, tokens, counts[c], WAIT_POLL), -ETIMEDOUT);
		assert_int_equal(any_error(&rig, tokens, counts[c], soon(&rig)), -ETIMEDOUT);
		assert_int_equal(absent->state, OP_PARKED);
		assert_int_equal(also->state, OP_PARKED);
		/* In a later array it is there at once, or after at most as many polls as the array
		 * is long. */
		tokens[counts[c]] = absent->token;
		struct op *op = NULL;
		uint32_t index;
		uint32_t calls = 0;
		while (wait_any(&rig.sched, tokens, counts[c] + 1, WAIT_POLL, &op, &index) ==
		       -ETIMEDOUT)
			assert_true(++calls <= counts[c] + 1);
		assert_ptr_equal(op, absent);
		assert_int_equal(index, counts[c]);
		assert_true(calls == 0 || counts[c] >= WAIT_SMALL);
		spend(&rig, op);
		assert_int_equal(wait_one(&rig.sched, absent_token, WAIT_POLL, &got), -EINVAL);
		/* And any other wait finds a parked one. */
		assert_int_equal(wait_one(&rig.sched, also->token, WAIT_POLL, &got), 0);
		assert_ptr_equal(got, also);
		spend(&rig, got);
		for (uint32_t i = 0; i < counts[c]; i++)
			complete(&rig, op_find(&rig.sched.ops, tokens[i]));
		assert_int_equal(wait_all(&rig.sched, tokens, counts[c], WAIT_POLL), 0);
		for (uint32_t i = 0; i < counts[c]; i++)
			spend(&rig, wait_take(&rig.sched, tokens[i]));
		assert_int_equal(main_waits(&rig)->issued, 0);
	}
	rig_close(&rig);
}

/* Thousands of parked results cost one that is waited for nothing: no pass, no walk. */
static void test_any_many_parked(void **state)
{
	static struct rig rig;
	static uint64_t tokens[MANY];

	(void)state;
	open_rig(&rig, &busy);
	for (int i = 0; i < 5000; i++)
		(void)issue_done(&rig);
	for (uint32_t i = 0; i < MANY; i++)
		tokens[i] = issue(&rig)->token;
	assert_int_equal(any_error(&rig, tokens, MANY, soon(&rig)), -ETIMEDOUT);
	uint64_t before = passes(&rig);
	for (uint32_t i = 0; i < 3 * MANY; i++) {
		uint32_t at = i * 7 % MANY;
		struct op *op = op_find(&rig.sched.ops, tokens[at]);
		uint32_t index;
		complete(&rig, op);
		assert_int_equal(wait_any(&rig.sched, tokens, MANY, WAIT_FOREVER, &op, &index), 0);
		assert_int_equal(index, at);
		spend(&rig, op);
		tokens[at] = issue(&rig)->token;
	}
	assert_true(passes(&rig) - before <= 4); /* one in as many calls as the array is long */
	waitset_check(&rig.sched, main_waits(&rig));
	rig_close(&rig);
}

/* -- any: bad tokens and time */

static void test_any_bad_token(void **state)
{
	static const uint32_t counts[] = {1, WAIT_SMALL, WAIT_SMALL + 1, 200};
	static struct rig rig;
	uint64_t tokens[200];

	(void)state;
	open_rig(&rig, &busy);
	for (size_t c = 0; c < ARRAY_LENGTH(counts); c++) {
		for (uint32_t i = 0; i < counts[c]; i++)
			tokens[i] = issue(&rig)->token;
		tokens[counts[c] / 2] = 12345678901234567;
		assert_int_equal(any_error(&rig, tokens, counts[c], WAIT_FOREVER), -EINVAL);
		assert_int_equal(any_error(&rig, tokens, counts[c], soon(&rig)), -EINVAL);
		/* Polled for: at once, or now and then. */
		uint32_t calls = 0;
		while (any_error(&rig, tokens, counts[c], WAIT_POLL) != -EINVAL)
			assert_true(++calls <= counts[c]);
		assert_true(calls == 0 || counts[c] > WAIT_SMALL);
	}
	rig_close(&rig);
}

static void test_any_timeout(void **state)
{
	static const uint32_t counts[] = {0, 1, WAIT_SMALL, WAIT_SMALL + 1, 100};
	static struct rig rig;
	struct later later;
	uint64_t tokens[100];

	(void)state;
	for (int mode = 0; mode < 2; mode++) {
		open_rig(&rig, mode ? &sleeps : &busy);
		for (uint32_t i = 0; i < ARRAY_LENGTH(tokens); i++)
			tokens[i] = issue(&rig)->token;
		for (size_t c = 0; c < ARRAY_LENGTH(counts); c++) {
			assert_int_equal(any_error(&rig, tokens, counts[c], WAIT_POLL), -ETIMEDOUT);
			uint64_t deadline = soon(&rig);
			assert_int_equal(any_error(&rig, tokens, counts[c], deadline), -ETIMEDOUT);
			assert_true(rig.now_ns >= deadline);
			for (uint64_t turns = 1; turns < 100 && counts[c] > 0; turns += 3) {
				uint32_t at = counts[c] - 1;
				struct op *op = op_find(&rig.sched.ops, tokens[at]);
				arrange(&rig, &later, op, turns);
				take_any(&rig, tokens, counts[c], WAIT_FOREVER, op, at);
				tokens[at] = issue(&rig)->token;
			}
			rig.input = NULL;
		}
		rig_close(&rig);
	}
}

/* -- next */

static void test_next(void **state)
{
	static struct rig rig;
	struct op *ops[10];

	(void)state;
	open_rig(&rig, &busy);
	assert_null(wait_next_take(&rig.sched, 1));
	for (int i = 0; i < 10; i++)
		ops[i] = issue(&rig);
	for (int i = 0; i < 10; i++)
		complete(&rig, ops[i * 3 % 10]);
	assert_int_equal(wait_next(&rig.sched, 10, WAIT_POLL), 0);
	for (int i = 0; i < 10; i++) {
		struct op *op = wait_next_take(&rig.sched, 1);
		assert_ptr_equal(op, ops[i * 3 % 10]);
		spend(&rig, op);
		rig_check(&rig);
	}
	assert_null(wait_next_take(&rig.sched, 1));
	assert_int_equal(main_waits(&rig)->issued, 0);
	rig_close(&rig);
}

static uint32_t complete_one_a_turn(struct rig *rig, void *arg)
{
	uint64_t *next = arg;
	struct op *op = op_find(&rig->sched.ops, *next);

	if (!op || op_done(op))
		return 0;
	complete(rig, op);
	++*next; /* the next slot, of the same generation */
	return 1;
}

static void test_next_waits_for_all(void **state)
{
	static struct rig rig;
	struct op *first = NULL;
	uint64_t next;

	(void)state;
	open_rig(&rig, &busy);
	for (int i = 0; i < 20; i++) {
		struct op *op = issue(&rig);
		first = first ? first : op;
	}
	next = first->token;
	rig.input = complete_one_a_turn;
	rig.arg = &next;
	assert_int_equal(wait_next(&rig.sched, 15, WAIT_FOREVER), 0);
	assert_int_equal(main_waits(&rig)->count, 15);
	assert_int_equal(rig.polls, 15);
	assert_int_equal(wait_next(&rig.sched, 30, soon(&rig)),
			 -ETIMEDOUT); /* there are no more than 20 */
	assert_int_equal(main_waits(&rig)->count, 20);
	for (uint32_t i = 0; i < 20; i++) {
		struct op *op = wait_next_take(&rig.sched, 1);
		assert_int_equal(op_slot(&rig.sched.ops, op), op_slot(&rig.sched.ops, first) + i);
		spend(&rig, op);
	}
	rig_close(&rig);
}

/* Results that a wait_any passed over are results still. */
static void test_next_takes_parked(void **state)
{
	static struct rig rig;
	struct op *ops[6];
	uint64_t token;

	(void)state;
	open_rig(&rig, &busy);
	for (int i = 0; i < 3; i++)
		ops[i] = issue_done(&rig);
	token = issue(&rig)->token;
	assert_int_equal(any_error(&rig, &token, 1, WAIT_POLL), -ETIMEDOUT);
	for (int i = 3; i < 6; i++)
		ops[i] = issue_done(&rig);
	assert_int_equal(wait_next(&rig.sched, 6, WAIT_POLL), 0);
	for (int i = 0; i < 6; i++) {
		struct op *op = wait_next_take(&rig.sched, 1);
		assert_ptr_equal(op, ops[i]);
		spend(&rig, op);
	}
	rig_close(&rig);
}

/* -- all */

static void test_all(void **state)
{
	static struct rig rig;
	uint64_t tokens[20];
	uint64_t next;

	(void)state;
	open_rig(&rig, &busy);
	assert_int_equal(wait_all(&rig.sched, tokens, 0, WAIT_FOREVER), 0);
	for (uint32_t i = 0; i < 20; i++)
		tokens[19 - i] = issue(&rig)->token;
	next = tokens[19];
	assert_int_equal(wait_all(&rig.sched, tokens, 20, WAIT_POLL), -ETIMEDOUT);
	assert_int_equal(wait_all(&rig.sched, tokens, 20, soon(&rig)), -ETIMEDOUT);
	rig.input = complete_one_a_turn;
	rig.arg = &next;
	assert_int_equal(wait_all(&rig.sched, tokens, 20, WAIT_FOREVER), 0);
	for (uint32_t i = 0; i < 20; i++) {
		struct op *op = wait_take(&rig.sched, tokens[i]);
		assert_int_equal(op->token, tokens[i]);
		assert_int_equal(op->flags, 0);
		spend(&rig, op);
	}
	assert_int_equal(wait_all(&rig.sched, tokens, 20, WAIT_FOREVER), -EINVAL);
	rig_check(&rig);
	rig_close(&rig);
}

static void test_all_errors(void **state)
{
	static struct rig rig;
	uint64_t tokens[20];
	struct op *op;
	uint32_t index;

	(void)state;
	open_rig(&rig, &busy);
	for (uint32_t i = 0; i < 20; i++)
		tokens[i] = issue_done(&rig)->token;
	for (uint32_t i = 0; i < 20; i++) {
		uint64_t good = tokens[i];
		tokens[i] = tokens[(i + 7) % 20];
		assert_int_equal(wait_all(&rig.sched, tokens, 20, WAIT_FOREVER),
				 -EINVAL); /* twice */
		tokens[i] = good ^ (uint64_t)1 << 50;
		assert_int_equal(wait_all(&rig.sched, tokens, 20, WAIT_FOREVER),
				 -EINVAL); /* unknown */
		tokens[i] = good;
		rig_check(&rig);
	}
	/* No token was harmed. */
	assert_int_equal(wait_any(&rig.sched, tokens, 20, WAIT_POLL, &op, &index), 0);
	spend(&rig, op);
	tokens[index] = issue_done(&rig)->token;
	assert_int_equal(wait_all(&rig.sched, tokens, 20, WAIT_FOREVER), 0);
	rig_close(&rig);
}

/* -- coroutines */

struct worker {
	struct rig *rig;
	uint64_t tokens[40];
	uint32_t count;
	uint64_t deadline_ns;
	int err;
	uint32_t index;
	bool began;
	bool ended;
};

static void worker_one(void *arg)
{
	struct worker *worker = arg;
	struct op *op = NULL;

	worker->began = true;
	worker->err = wait_one(&worker->rig->sched, worker->tokens[0], worker->deadline_ns, &op);
	if (!worker->err)
		spend(worker->rig, op);
	worker->ended = true;
}

static void worker_any(void *arg)
{
	struct worker *worker = arg;
	struct op *op = NULL;

	worker->began = true;
	worker->err = wait_any(&worker->rig->sched, worker->tokens, worker->count,
			       worker->deadline_ns, &op, &worker->index);
	if (!worker->err)
		spend(worker->rig, op);
	worker->ended = true;
}

static void worker_all(void *arg)
{
	struct worker *worker = arg;

	worker->began = true;
	worker->err =
		wait_all(&worker->rig->sched, worker->tokens, worker->count, worker->deadline_ns);
	for (uint32_t i = 0; i < worker->count && !worker->err; i++)
		spend(worker->rig, wait_take(&worker->rig->sched, worker->tokens[i]));
	worker->ended = true;
}

static void worker_issue(void *arg)
{
	struct worker *worker = arg;

	for (uint32_t i = 0; i < worker->count; i++)
		worker->tokens[i] = issue(worker->rig)->token;
	worker->began = true;
	while (!worker->ended)
		coroutine_yield(&worker->rig->sched.coroutines);
}

static void worker_yield(void *arg)
{
	const struct worker *worker = arg;

	while (!worker->ended)
		coroutine_yield(&worker->rig->sched.coroutines);
}

static void turns(struct rig *rig, int count)
{
	for (int i = 0; i < count; i++)
		(void)sched_turn(&rig->sched);
}

static void go(struct rig *rig, struct worker *worker, void (*fn)(void *))
{
	worker->rig = rig;
	assert_int_equal(coroutine_go(&rig->sched.coroutines, fn, worker), 0);
	turns(rig, 2);
	assert_true(worker->began || fn == worker_yield);
}

/* Each kind of wait, blocked in a coroutine, ends with its result or its time. */
static void test_coroutine_waits(void **state)
{
	static void (*const waits[])(void *) = {worker_one, worker_any, worker_all};
	static struct rig rig;

	(void)state;
	open_rig(&rig, &busy);
	for (size_t w = 0; w < ARRAY_LENGTH(waits); w++) {
		for (uint32_t count = 1; count <= (w ? 40 : 1); count += 13) {
			struct worker worker = {.count = count, .deadline_ns = soon(&rig)};
			for (uint32_t i = 0; i < count; i++)
				worker.tokens[i] = issue(&rig)->token;
			go(&rig, &worker, waits[w]);
			while (!worker.ended)
				turns(&rig, 1);
			assert_int_equal(worker.err, -ETIMEDOUT);
			assert_true(rig.now_ns >= worker.deadline_ns);
			worker.ended = false;
			worker.deadline_ns = w % 2 ? WAIT_FOREVER : soon(&rig);
			go(&rig, &worker, waits[w]);
			assert_false(worker.ended);
			for (uint32_t i = 0; i < count; i++)
				complete(&rig,
					 op_find(&rig.sched.ops, worker.tokens[count - 1 - i]));
			turns(&rig, 2);
			assert_true(worker.ended);
			assert_int_equal(worker.err, 0);
			rig_check(&rig);
			struct op *op;
			while ((op = wait_next_take(&rig.sched, 1)))
				spend(&rig, op); /* wait_any left them */
			assert_int_equal(rig.sched.ops.used, 0);
		}
	}
	rig_close(&rig);
}

static void test_busy(void **state)
{
	static struct rig rig;
	struct worker worker = {.deadline_ns = WAIT_FOREVER};
	struct op *op = NULL;

	(void)state;
	open_rig(&rig, &busy);
	worker.tokens[0] = issue(&rig)->token;
	go(&rig, &worker, worker_one);
	struct worker other = worker;
	other.count = 1;
	assert_int_equal(wait_one(&rig.sched, worker.tokens[0], WAIT_POLL, &op), -EBUSY);
	assert_int_equal(any_error(&rig, worker.tokens, 1, WAIT_POLL), -EBUSY);
	assert_int_equal(wait_all(&rig.sched, worker.tokens, 1, WAIT_POLL), -EBUSY);
	go(&rig, &other, worker_one);
	assert_int_equal(other.err, -EBUSY);
	other.ended = false;
	go(&rig, &other, worker_any);
	assert_int_equal(other.err, -EBUSY);
	complete(&rig, op_find(&rig.sched.ops, worker.tokens[0]));
	assert_int_equal(wait_one(&rig.sched, worker.tokens[0], WAIT_POLL, &op),
			 -EBUSY); /* it is as good as taken */
	turns(&rig, 2);
	assert_true(worker.ended && other.ended);
	assert_int_equal(worker.err, 0);
	assert_int_equal(wait_one(&rig.sched, worker.tokens[0], WAIT_POLL, &op), -EINVAL);
	rig_close(&rig);
}

/* What a blocked wait_any stands on is its: whoever took it would leave the coroutine asleep. */
static void test_any_is_busy(void **state)
{
	static struct rig rig;

	(void)state;
	open_rig(&rig, &busy);
	for (uint32_t count = 2; count <= 40; count += 19) {
		struct worker any = {.count = count, .deadline_ns = WAIT_FOREVER};
		struct worker thief = {.deadline_ns = WAIT_FOREVER};
		struct op *op;
		for (uint32_t i = 0; i < count; i++)
			any.tokens[i] = issue(&rig)->token;
		go(&rig, &any, worker_any);
		thief.tokens[0] = any.tokens[count - 1];
		go(&rig, &thief, worker_one);
		assert_true(thief.ended);
		assert_int_equal(thief.err, -EBUSY);
		assert_int_equal(wait_one(&rig.sched, thief.tokens[0], WAIT_POLL, &op), -EBUSY);
		for (uint32_t i = 0; i < count; i++)
			complete(&rig, op_find(&rig.sched.ops, any.tokens[i]));
		turns(&rig, 3);
		assert_true(any.ended);
		assert_int_equal(any.err, 0);
		rig_check(&rig);
		while ((op = wait_next_take(&rig.sched, 1)))
			spend(&rig, op);
		assert_int_equal(rig.sched.ops.used, 0);
	}
	rig_close(&rig);
}

/* What is waited for together is waited for: nobody else takes one of them, and all come. */
static void test_all_is_busy(void **state)
{
	static struct rig rig;
	struct op *op;

	(void)state;
	open_rig(&rig, &busy);
	for (uint32_t stolen = 0; stolen < 3; stolen++) {
		for (uint32_t done = 0; done < 2; done++) {
			struct worker all = {.count = 3, .deadline_ns = WAIT_FOREVER};
			struct worker thief = {.deadline_ns = WAIT_FOREVER};
			for (int i = 0; i < 3; i++)
				all.tokens[i] = issue(&rig)->token;
			go(&rig, &all, worker_all);
			if (done)
				complete(&rig, op_find(&rig.sched.ops, all.tokens[stolen]));
			turns(&rig, 2);
			thief.tokens[0] = all.tokens[stolen];
			go(&rig, &thief, worker_one);
			assert_true(thief.ended);
			assert_int_equal(thief.err, -EBUSY);
			assert_int_equal(wait_one(&rig.sched, thief.tokens[0], WAIT_POLL, &op),
					 -EBUSY);
			for (int i = 0; i < 3; i++) {
				op = op_find(&rig.sched.ops, all.tokens[i]);
				if (!op_done(op))
					complete(&rig, op);
			}
			turns(&rig, 3);
			assert_true(all.ended);
			assert_int_equal(all.err, 0);
			rig_check(&rig);
		}
	}
	rig_close(&rig);
}

/* A coroutine's operations, pending and complete, are there for whoever waits for their tokens. */
static void test_adoption(void **state)
{
	static struct rig rig;
	struct op *op;

	(void)state;
	open_rig(&rig, &busy);
	for (int done = 0; done < 2; done++) {
		struct worker worker = {.count = 40};
		go(&rig, &worker, worker_issue);
		struct waitset *theirs = op_find(&rig.sched.ops, worker.tokens[0])->owner;
		assert_ptr_not_equal(theirs, main_waits(&rig));
		assert_int_equal(theirs->issued, 40);
		for (int i = 0; i < 40 && done; i++)
			complete(&rig, op_find(&rig.sched.ops, worker.tokens[i]));
		assert_int_equal(theirs->count, done ? 40 : 0);
		assert_int_equal(wait_one(&rig.sched, worker.tokens[0], WAIT_POLL, &op),
				 done ? 0 : -ETIMEDOUT);
		if (done)
			spend(&rig, op);
		assert_int_equal(theirs->issued, 39);
		assert_int_equal(wait_all(&rig.sched, &worker.tokens[1], 2, WAIT_POLL),
				 done ? 0 : -ETIMEDOUT);
		assert_int_equal(theirs->issued, 37);
		uint32_t index;
		int err = wait_any(&rig.sched, &worker.tokens[3], 37, soon(&rig), &op, &index);
		assert_int_equal(err, done ? 0 : -ETIMEDOUT);
		assert_int_equal(theirs->issued, 0);
		assert_int_equal(theirs->count, 0);
		rig_check(&rig);
		for (int i = 0; i < 40 && !done; i++)
			complete(&rig, op_find(&rig.sched.ops, worker.tokens[i]));
		if (done)
			spend(&rig, op);
		assert_int_equal(main_waits(&rig)->count, done ? 38 : 40);
		while ((op = wait_next_take(&rig.sched, 1)))
			spend(&rig, op);
		assert_int_equal(main_waits(&rig)->issued, 0);
		worker.ended = true;
		turns(&rig, 2);
	}
	rig_close(&rig);
}

/* Polling with a long array finds a coroutine's result, too. */
static void test_adoption_by_polling(void **state)
{
	static struct rig rig;
	struct worker worker = {.count = 40};
	struct op *op = NULL;
	uint32_t index;
	uint32_t calls = 0;

	(void)state;
	open_rig(&rig, &busy);
	go(&rig, &worker, worker_issue);
	complete(&rig, op_find(&rig.sched.ops, worker.tokens[33]));
	while (wait_any(&rig.sched, worker.tokens, 40, WAIT_POLL, &op, &index) == -ETIMEDOUT)
		assert_true(++calls <= 40);
	assert_int_equal(index, 33);
	spend(&rig, op);
	worker.ended = true;
	turns(&rig, 2);
	rig_close(&rig);
}

/* The instance is never idle; main's long array holds a coroutine's result. */
static void test_adoption_while_busy(void **state)
{
	static struct rig rig;
	struct worker worker = {.count = 40};
	struct worker noise = {.count = 0};
	struct op *op;
	uint32_t index;

	(void)state;
	open_rig(&rig, &busy);
	go(&rig, &worker, worker_issue);
	go(&rig, &noise, worker_yield);
	complete(&rig, op_find(&rig.sched.ops, worker.tokens[20]));
	assert_int_equal(
		wait_any(&rig.sched, worker.tokens, 40, rig.now_ns + 100 * SOON_NS, &op, &index),
		0);
	assert_int_equal(index, 20);
	assert_true(rig.polls < 3000);
	spend(&rig, op);
	worker.ended = noise.ended = true;
	turns(&rig, 2);
	rig_close(&rig);
}

static void issue_and_end(void *arg)
{
	struct worker *worker = arg;

	for (uint32_t i = 0; i < worker->count; i++)
		worker->tokens[i] = issue(worker->rig)->token;
	for (uint32_t i = 0; i < worker->count; i += 2)
		complete(worker->rig, op_find(&worker->rig->sched.ops, worker->tokens[i]));
	worker->ended = true;
}

/* Main waits for a result; one that a coroutine left when it ended is one. */
static void test_wakes_for_heritage(void **state)
{
	static struct rig rig;
	struct worker worker = {.rig = &rig, .count = 5};
	struct op *op;

	(void)state;
	open_rig(&rig, &busy);
	assert_int_equal(coroutine_go(&rig.sched.coroutines, issue_and_end, &worker), 0);
	assert_int_equal(wait_next(&rig.sched, 3, rig.now_ns + 10 * SOON_NS), 0);
	assert_true(worker.ended);
	for (int i = 0; i < 3; i++) {
		op = wait_next_take(&rig.sched, 1);
		assert_int_equal(op->token, worker.tokens[2 * i]);
		spend(&rig, op);
	}
	assert_int_equal(main_waits(&rig)->issued, 2);
	complete(&rig, op_find(&rig.sched.ops, worker.tokens[1]));
	complete(&rig, op_find(&rig.sched.ops, worker.tokens[3]));
	assert_int_equal(wait_next(&rig.sched, 2, WAIT_POLL), 0);
	rig_check(&rig);
	rig_close(&rig);
}

/* -- a random model: what a naive wait would do */

enum { MODEL_OPS = 60 };

struct model {
	struct rig rig;
	struct prng prng;
	struct worker issuer;
	uint64_t tokens[MODEL_OPS]; /* 0: none */
	bool done[MODEL_OPS];
	uint64_t stale;
};

static uint32_t below(struct model *model, uint32_t bound)
{
	return (uint32_t)prng_below(&model->prng, bound);
}

static void model_spent(struct model *model, struct op *op)
{
	uint32_t at = 0;

	while (at < MODEL_OPS && model->tokens[at] != op->token)
		at++;
	assert_true(at < MODEL_OPS);
	assert_true(model->done[at]);
	model->stale = op->token;
	model->tokens[at] = 0;
	model->done[at] = false;
	spend(&model->rig, op);
}

static void model_issue(struct model *model)
{
	uint32_t at = below(model, MODEL_OPS);

	if (model->tokens[at])
		return;
	if (below(model, 3)) {
		model->tokens[at] = issue(&model->rig)->token;
		return;
	}
	struct worker one = {.rig = &model->rig, .count = 1, .ended = below(model, 2)};
	go(&model->rig, &one,
	   worker_issue); /* ends at once, or its operation stays its own for a while */
	model->tokens[at] = one.tokens[0];
	turns(&model->rig, 1);
	one.ended = true;
	turns(&model->rig, 2);
}

static void model_complete(struct model *model)
{
	uint32_t at = below(model, MODEL_OPS);

	if (!model->tokens[at] || model->done[at])
		return;
	complete(&model->rig, op_find(&model->rig.sched.ops, model->tokens[at]));
	model->done[at] = true;
}

/* A random part of the live tokens, in random order. */
static uint32_t draw_array(struct model *model, uint64_t *tokens, bool *any_done)
{
	uint32_t wanted = 1 + below(model, below(model, 2) ? 10 : MODEL_OPS);
	uint32_t start = below(model, MODEL_OPS);
	uint32_t count = 0;

	*any_done = false;
	for (uint32_t i = 0; i < MODEL_OPS && count < wanted; i++) {
		uint32_t at = (start + i * 7) % MODEL_OPS;
		if (!model->tokens[at])
			continue;
		tokens[count++] = model->tokens[at];
		*any_done |= model->done[at];
	}
	return count;
}

static void model_any(struct model *model)
{
	uint64_t tokens[MODEL_OPS];
	bool any_done;
	uint32_t count = draw_array(model, tokens, &any_done);
	uint64_t deadline = below(model, 8) ? WAIT_POLL : soon(&model->rig);
	struct op *op = NULL;
	uint32_t index;
	uint32_t calls = 0;
	int err;

	if (count && model->stale && below(model, 10) == 0) {
		tokens[below(model, count)] = model->stale;
		if (count <= WAIT_SMALL || !any_done)
			assert_int_equal(any_error(&model->rig, tokens, count, soon(&model->rig)),
					 -EINVAL);
		return;
	}
	do {
		err = wait_any(&model->rig.sched, tokens, count, deadline, &op, &index);
		/* A long array may take as many polls as it is long, no more. */
	} while (err == -ETIMEDOUT && any_done && count > WAIT_SMALL && deadline == WAIT_POLL &&
		 ++calls <= count);
	assert_int_equal(err, any_done ? 0 : -ETIMEDOUT);
	if (err)
		return;
	assert_true(index < count);
	assert_int_equal(tokens[index], op->token);
	model_spent(model, op);
}

static void model_one(struct model *model)
{
	uint32_t at = below(model, MODEL_OPS);
	struct op *op;

	if (!model->tokens[at])
		return;
	int err = wait_one(&model->rig.sched, model->tokens[at], WAIT_POLL, &op);
	assert_int_equal(err, model->done[at] ? 0 : -ETIMEDOUT);
	if (!err)
		model_spent(model, op);
}

static void model_all(struct model *model)
{
	uint64_t tokens[MODEL_OPS];
	bool any_done;
	uint32_t count = draw_array(model, tokens, &any_done);
	bool all_done = true;

	for (uint32_t i = 0; i < count; i++)
		all_done &= op_done(op_find(&model->rig.sched.ops, tokens[i]));
	int err = wait_all(&model->rig.sched, tokens, count, WAIT_POLL);
	assert_int_equal(err, all_done ? 0 : -ETIMEDOUT);
	for (uint32_t i = 0; i < count && !err; i++)
		model_spent(model, wait_take(&model->rig.sched, tokens[i]));
}

static void model_next(struct model *model)
{
	struct op *op = wait_next_take(&model->rig.sched, 1);

	if (op)
		model_spent(model, op);
}

static void test_model(void **state)
{
	static struct model model;
	uint64_t seed = test_seed(77);

	(void)state;
	for (uint64_t round = 0; round < 10; round++) {
		memset(&model, 0, sizeof(model));
		open_rig(&model.rig, &busy);
		prng_seed(&model.prng, seed + round);
		for (int step = 0; step < 5000; step++) {
			static void (*const steps[])(struct model *) = {
				model_issue,    model_issue,    model_issue,    model_issue,
				model_complete, model_complete, model_complete, model_any,
				model_any,      model_one,      model_next,     model_all};
			steps[below(&model, ARRAY_LENGTH(steps))](&model);
			rig_check(&model.rig);
		}
		uint32_t live = 0;
		for (int i = 0; i < MODEL_OPS; i++)
			live += model.tokens[i] != 0;
		assert_int_equal(model.rig.sched.ops.used, live);
		assert_int_equal(main_waits(&model.rig)->issued, live);
		rig_close(&model.rig);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one),
		cmocka_unit_test(test_handed_over),
		cmocka_unit_test(test_one_timeout),
		cmocka_unit_test(test_doorbell),
		cmocka_unit_test(test_one_gives_way),
		cmocka_unit_test(test_nobodys),
		cmocka_unit_test(test_any_in_place),
		cmocka_unit_test(test_any_changed),
		cmocka_unit_test(test_any_oldest_first),
		cmocka_unit_test(test_any_fair),
		cmocka_unit_test(test_any_duplicates),
		cmocka_unit_test(test_any_parked),
		cmocka_unit_test(test_any_many_parked),
		cmocka_unit_test(test_any_bad_token),
		cmocka_unit_test(test_any_timeout),
		cmocka_unit_test(test_next),
		cmocka_unit_test(test_next_waits_for_all),
		cmocka_unit_test(test_next_takes_parked),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_all_errors),
		cmocka_unit_test(test_coroutine_waits),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_any_is_busy),
		cmocka_unit_test(test_all_is_busy),
		cmocka_unit_test(test_adoption),
		cmocka_unit_test(test_adoption_by_polling),
		cmocka_unit_test(test_adoption_while_busy),
		cmocka_unit_test(test_wakes_for_heritage),
		cmocka_unit_test(test_model),
	};

	return test_run("wait", tests);
}
