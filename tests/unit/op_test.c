/* SPDX-License-Identifier: MIT
 * tests/unit/op_test.c - sched/op.c: tokens (stale, foreign, made up), the bound, segments, lists
 * against a model.
 */
#include "support/test.h"

#include "base/prng.h"
#include "sched/op.h"
#include "support/fault.h"
#include "support/seed.h"

#include <errno.h>
#include <string.h>

static void open_slab(struct op_slab *slab, uint32_t max)
{
	assert_int_equal(op_slab_open(slab, max, 0), 0);
}

static void test_token(void **state)
{
	struct op_slab slab;

	(void)state;
	open_slab(&slab, 4);
	struct op *op = op_alloc(&slab);
	assert_non_null(op);
	assert_true(op->token != 0);
	assert_int_equal(op->state, OP_PENDING);
	assert_null(op->transport);
	assert_null(op->sga_buf);
	assert_int_equal(op->numsegs, 0);
	assert_int_equal(op->flags, 0);
	assert_ptr_equal(op_find(&slab, op->token), op);
	assert_false(op_done(op));
	uint64_t token = op->token;
	op->ret = ECONNRESET; /* where a free slot has its generation */
	op_free(&slab, op);
	assert_null(op_find(&slab, token));
	/* The slot serves again; its old token finds nothing, ever. */
	for (int i = 0; i < 1000; i++) {
		struct op *again = op_alloc(&slab);
		assert_ptr_equal(again, op);
		assert_int_equal(again->ret, 0);
		assert_true(again->token > token);
		assert_null(op_find(&slab, token));
		assert_ptr_equal(op_find(&slab, again->token), again);
		op_free(&slab, again);
	}
	op_slab_close(&slab);
}

static void test_made_up(void **state)
{
	struct op_slab slab;
	struct prng prng;

	(void)state;
	open_slab(&slab, 64);
	prng_seed(&prng, test_seed(5));
	assert_null(op_find(&slab, 0));
	struct op *ops[64];
	for (size_t i = 0; i < ARRAY_LENGTH(ops); i++)
		ops[i] = op_alloc(&slab);
	for (size_t i = 0; i < ARRAY_LENGTH(ops); i += 2)
		op_free(&slab, ops[i]);
	assert_null(op_find(&slab, 0));
	for (uint64_t slot = 0; slot < 128; slot++)
		assert_null(op_find(&slab, slot)); /* generation 0 */
	for (int i = 0; i < 200000; i++) {
		uint64_t token = prng_next(&prng) >> prng_below(&prng, 64);
		const struct op *op = op_find(&slab, token);
		if (op && op->token != token)
			fail_msg("token %llx", (unsigned long long)token);
	}
	for (int bit = 0; bit < 64; bit++) {
		uint64_t near = ops[1]->token ^ (uint64_t)1 << bit;
		const struct op *op = op_find(&slab, near);
		assert_true(!op || (op != ops[1] && op->token == near));
	}
	op_slab_close(&slab);
}

/* A token of one instance is none of another's, though both began with the same slot. */
static void test_foreign(void **state)
{
	struct op_slab one;
	struct op_slab two;
	struct prng prng;

	(void)state;
	prng_seed(&prng, 1);
	assert_int_equal(op_slab_open(&one, 8, prng_next(&prng)), 0);
	assert_int_equal(op_slab_open(&two, 8, prng_next(&prng)), 0);
	for (int i = 0; i < 8; i++) {
		struct op *op = op_alloc(&one);
		assert_ptr_equal(op_find(&one, op->token), op);
		assert_non_null(op_alloc(&two));
		assert_null(op_find(&two, op->token));
	}
	op_slab_close(&one);
	op_slab_close(&two);
}

/* Whatever the first generation is, tokens are not 0 and none comes twice. */
static void test_first_generation(void **state)
{
	static const uint64_t randoms[] = {
		0, 1, UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 20, (uint64_t)1 << 21};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(randoms); i++) {
		struct op_slab slab;
		uint64_t last = 0;
		assert_int_equal(op_slab_open(&slab, 2, randoms[i]), 0);
		for (int k = 0; k < 1000; k++) {
			struct op *op = op_alloc(&slab);
			assert_true(op->token > last);
			assert_ptr_equal(op_find(&slab, op->token), op);
			last = op->token;
			op_free(&slab, op);
			assert_null(op_find(&slab, last));
		}
		op_slab_close(&slab);
	}
}

static void test_bound(void **state)
{
	static const uint32_t bounds[] = {1, 2, 64, 1000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bounds); i++) {
		static struct op *ops[1000];
		struct op_slab slab;
		open_slab(&slab, bounds[i]);
		for (uint32_t k = 0; k < bounds[i]; k++)
			assert_non_null(ops[k] = op_alloc(&slab));
		assert_null(op_alloc(&slab));
		assert_int_equal(slab.used, bounds[i]);
		op_free(&slab, ops[bounds[i] / 2]);
		assert_ptr_equal(op_alloc(&slab), ops[bounds[i] / 2]);
		assert_null(op_alloc(&slab));
		op_slab_close(&slab);
	}
}

/* The largest slab there can be: reserved, not touched. */
static void test_largest(void **state)
{
	struct op_slab slab;

	(void)state;
	open_slab(&slab, 1U << OP_SLOT_BITS);
	struct op *op = NULL;
	for (uint32_t i = 0; i < 1U << OP_SLOT_BITS; i += 1) {
		op = op_alloc(&slab);
		assert_non_null(op);
	}
	assert_null(op_alloc(&slab));
	assert_int_equal(op_slot(&slab, op), (1U << OP_SLOT_BITS) - 1);
	assert_ptr_equal(op_find(&slab, op->token), op);
	op_slab_close(&slab);
}

static void test_random(void **state)
{
	enum { MAX = 200 };

	static struct op *live[MAX];
	static uint64_t tokens[MAX];
	static uint64_t spent[1000];
	struct op_slab slab;
	struct prng prng;
	uint32_t used = 0;

	(void)state;
	open_slab(&slab, MAX);
	prng_seed(&prng, test_seed(6));
	for (uint64_t step = 0; step < 50000; step++) {
		size_t at = prng_below(&prng, MAX);
		if (!live[at]) {
			live[at] = op_alloc(&slab);
			assert_non_null(live[at]);
			tokens[at] = live[at]->token;
			used++;
		} else if (prng_below(&prng, 2)) {
			assert_ptr_equal(op_find(&slab, tokens[at]), live[at]);
		} else {
			spent[prng_below(&prng, ARRAY_LENGTH(spent))] = tokens[at];
			op_free(&slab, live[at]);
			live[at] = NULL;
			used--;
		}
		assert_null(op_find(&slab, spent[prng_below(&prng, ARRAY_LENGTH(spent))]));
		assert_int_equal(slab.used, used);
	}
	op_slab_close(&slab);
}

static void test_segments(void **state)
{
	static char bytes[OP_SEGMENTS_MAX];
	struct op_slab slab;
	struct iovec one;

	(void)state;
	open_slab(&slab, 8);
	for (uint32_t count = 1; count <= OP_SEGMENTS_MAX; count++) {
		struct op *op = op_alloc(&slab);
		uint64_t sum = 0;
		if (count == 1) {
			op_set_segment(op, bytes, 77);
			sum = 77;
		} else {
			struct iovec *iov = op_set_segments(&slab, op, count);
			for (uint32_t i = 0; i < count; i++) {
				iov[i] = (struct iovec){.iov_base = &bytes[i],
							.iov_len = UINT32_MAX - i};
				sum += iov[i].iov_len;
			}
			op->len = 12345; /* means something else then */
		}
		assert_int_equal(op->numsegs, count);
		assert_int_equal(op_bytes(op), sum);
		const struct iovec *vector = op_vector(op, &one);
		for (uint32_t i = 0; i < count; i++)
			assert_ptr_equal(vector[i].iov_base, &bytes[i]);
		op_free(&slab, op);
	}
	op_slab_close(&slab);
}

/* -- lists */

enum { LIST_OPS = 40 };

struct model {
	struct op_slab slab;
	struct op_list list;
	struct op *ops[LIST_OPS];
	struct op *order[LIST_OPS];
	uint32_t length;
	struct prng prng;
};

static void check_list(const struct model *model)
{
	const struct op *op = op_list_first(&model->slab, &model->list);

	assert_int_equal(op_list_empty(&model->list), model->length == 0);
	for (uint32_t i = 0; i < model->length; i++) {
		assert_ptr_equal(op, model->order[i]);
		assert_int_equal(op->prev,
				 i ? op_slot(&model->slab, model->order[i - 1]) : OP_NONE);
		op = op_list_next(&model->slab, op);
	}
	assert_null(op);
	if (model->length)
		assert_int_equal(model->list.tail,
				 op_slot(&model->slab, model->order[model->length - 1]));
}

static void insert_at(struct model *model, uint32_t at, struct op *op)
{
	memmove(&model->order[at + 1], &model->order[at],
		(model->length - at) * sizeof(struct op *));
	model->order[at] = op;
	model->length++;
}

static void remove_at(struct model *model, uint32_t at)
{
	model->length--;
	memmove(&model->order[at], &model->order[at + 1],
		(model->length - at) * sizeof(struct op *));
}

static void list_step(struct model *model)
{
	struct op *op = model->ops[prng_below(&model->prng, LIST_OPS)];
	uint32_t at = 0;

	while (at < model->length && model->order[at] != op)
		at++;
	if (at < model->length) {
		if (prng_below(&model->prng, 2)) {
			op_list_remove(&model->slab, &model->list, op);
			remove_at(model, at);
		} else {
			assert_ptr_equal(op_list_take(&model->slab, &model->list), model->order[0]);
			remove_at(model, 0);
		}
	} else if (prng_below(&model->prng, 2)) {
		op_list_append(&model->slab, &model->list, op);
		insert_at(model, model->length, op);
	} else {
		op_list_prepend(&model->slab, &model->list, op);
		insert_at(model, 0, op);
	}
}

static void test_lists(void **state)
{
	static struct model model;

	(void)state;
	open_slab(&model.slab, LIST_OPS);
	op_list_init(&model.list);
	prng_seed(&model.prng, test_seed(8));
	for (uint32_t i = 0; i < LIST_OPS; i++)
		model.ops[i] = op_alloc(&model.slab);
	assert_null(op_list_take(&model.slab, &model.list));
	for (int i = 0; i < 20000; i++) {
		list_step(&model);
		check_list(&model);
	}
	op_slab_close(&model.slab);
}

static void test_open_fails(void **state)
{
	bool failed = true;

	(void)state;
	for (uint64_t nth = 1; failed; nth++) {
		struct fault_live before = fault_live();
		struct op_slab slab;
		fault_fail(nth);
		int err = op_slab_open(&slab, 1000, 0);
		failed = fault_off();
		assert_int_equal(err, failed ? -ENOMEM : 0);
		op_slab_close(&slab); /* legal twice */
		op_slab_close(&slab);
		assert_int_equal(fault_live().mapped_bytes, before.mapped_bytes);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_token),   cmocka_unit_test(test_made_up),
		cmocka_unit_test(test_foreign), cmocka_unit_test(test_first_generation),
		cmocka_unit_test(test_bound),   cmocka_unit_test(test_largest),
		cmocka_unit_test(test_random),  cmocka_unit_test(test_segments),
		cmocka_unit_test(test_lists),   cmocka_unit_test(test_open_fails),
	};

	return test_run("op", tests);
}
