/* SPDX-License-Identifier: MIT
 * tests/unit/list_test.c - base/list.h against an array, under random operations.
 */
#include "support/test.h"

#include "base/bits.h"
#include "base/list.h"
#include "base/prng.h"
#include "support/seed.h"

#include <string.h>

#define NODES 50

struct node {
	int value;
	struct list list;
};

struct model {
	struct list head;
	struct node nodes[NODES];
	struct node *order[NODES]; /* what the list must be */
	uint32_t length;
	struct prng prng;
};

static void check(struct model *model)
{
	uint32_t at = 0;

	list_for_each (node, &model->head) {
		assert_true(at < model->length);
		assert_ptr_equal(container_of(node, struct node, list), model->order[at]);
		assert_ptr_equal(node->next->prev, node);
		assert_ptr_equal(node->prev->next, node);
		at++;
	}
	assert_int_equal(at, model->length);
	assert_int_equal(list_empty(&model->head), model->length == 0);
}

static uint32_t position(const struct model *model, const struct node *node)
{
	uint32_t at = 0;

	while (at < model->length && model->order[at] != node)
		at++;
	return at;
}

static void insert(struct model *model, struct node *node)
{
	uint32_t at = (uint32_t)prng_below(&model->prng, model->length + 1);

	if (at == model->length)
		list_append(&model->head, &node->list);
	else
		list_insert(&model->order[at]->list, &node->list);
	memmove(&model->order[at + 1], &model->order[at],
		(model->length - at) * sizeof(struct node *));
	model->order[at] = node;
	model->length++;
}

static void take_out(struct model *model, uint32_t at)
{
	model->length--;
	memmove(&model->order[at], &model->order[at + 1],
		(model->length - at) * sizeof(struct node *));
}

static void open_model(struct model *model)
{
	*model = (struct model){.length = 0};
	prng_seed(&model->prng, test_seed(3));
	list_init(&model->head);
	for (int i = 0; i < NODES; i++)
		list_init(&model->nodes[i].list);
}

static void test_model(void **state)
{
	static struct model model;

	(void)state;
	open_model(&model);
	check(&model);
	for (int i = 0; i < 20000; i++) {
		struct node *node = &model.nodes[prng_below(&model.prng, NODES)];
		uint32_t at = position(&model, node);
		assert_int_equal(list_empty(&node->list), at == model.length);
		if (at == model.length) {
			insert(&model, node);
		} else {
			list_remove(&node->list);
			take_out(&model, at);
		}
		check(&model);
	}
}

/* Taking out what is in no list changes nothing. */
static void test_remove_twice(void **state)
{
	struct list head;
	struct list node;

	(void)state;
	list_init(&head);
	list_init(&node);
	list_remove(&node);
	assert_true(list_empty(&node));
	list_append(&head, &node);
	list_remove(&node);
	list_remove(&node);
	assert_true(list_empty(&node));
	assert_true(list_empty(&head));
}

static void test_each_safe(void **state)
{
	static struct model model;

	(void)state;
	open_model(&model);
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < NODES; i++) {
			if (list_empty(&model.nodes[i].list))
				insert(&model, &model.nodes[i]);
		}
		list_for_each_safe (node, after, &model.head) {
			if (prng_below(&model.prng, 2) == 0)
				continue;
			take_out(&model, position(&model, container_of(node, struct node, list)));
			list_remove(node);
		}
		check(&model);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_remove_twice),
		cmocka_unit_test(test_each_safe),
	};

	return test_run("list", tests);
}
