/* SPDX-License-Identifier: MIT
 * tests/unit/memory_queue_test.c - queue/memory.c on a scheduler alone: order, segments, copies of
 * foreign memory within the limit, pushes that wait, cancelling, closing, memory that runs out, a
 * random model. References return to zero each time.
 */
#include "support/test.h"

#include "api/result.h"
#include "queue/queue.h"
#include "support/fault.h"
#include "support/rig.h"
#include "support/seed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT 4096 /* bytes of copies */
#define MIB   ((uint64_t)1 << 20)

struct bench {
	struct rig rig;
	struct queue *queue;
};

static void open_with(struct bench *bench, const struct rig_options *options)
{
	assert_int_equal(rig_open(&bench->rig, options), 0);
	assert_int_equal(memory_queue_new(&bench->rig.sched, &bench->queue), 0);
	bench->queue->qd = 500;
}

static void open_bench(struct bench *bench)
{
	static const struct rig_options options = {.send_limit_bytes = LIMIT};

	open_with(bench, &options);
}

static uint64_t live_objects(struct bench *bench)
{
	struct heap_usage usage;

	heap_usage(bench->rig.sched.heap, &usage);
	return usage.live_objects;
}

/* The queue was closed and every operation spent: nothing is left. */
static void close_bench(struct bench *bench)
{
	if (bench->queue)
		bench->queue->ops->close(bench->queue);
	struct op *op;
	while ((op = wait_next_take(&bench->rig.sched, 1)))
		op_free(&bench->rig.sched.ops, op);
	assert_int_equal(bench->rig.sched.ops.used, 0);
	assert_int_equal(live_objects(bench), 0);
	rig_check(&bench->rig);
	rig_close(&bench->rig);
}

static struct queue_info info_of(const struct bench *bench)
{
	struct queue_info info;

	bench->queue->ops->describe(bench->queue, &info);
	return info;
}

static char *heap_bytes(struct bench *bench, uint64_t size)
{
	char *bytes = heap_alloc(bench->rig.sched.heap, size);

	assert_non_null(bytes);
	return bytes;
}

static void heap_drop(struct bench *bench, void *bytes)
{
	assert_int_equal(heap_free_inside(bench->rig.sched.heap, bytes), 0);
}

static demi_sgarray_t array_of(void *bytes, uint32_t length)
{
	demi_sgarray_t sga = {.sga_numsegs = 1};

	sga.sga_segs[0] = (demi_sgaseg_t){.sgaseg_buf = bytes, .sgaseg_len = length};
	return sga;
}

static int try_push(struct bench *bench, const demi_sgarray_t *sga, struct op **op_out)
{
	struct op *op = op_issue(&bench->rig.sched, OP_PUSH, 500);

	if (!op)
		return -ENOMEM;
	int err = -result_from_array(&bench->rig.sched, op, sga);
	if (!err)
		err = bench->queue->ops->push(bench->queue, op, NULL, 0);
	if (err) {
		op->owner->issued--;
		op_free(&bench->rig.sched.ops, op);
		op = NULL;
	}
	*op_out = op;
	return err;
}

static struct op *push(struct bench *bench, const demi_sgarray_t *sga)
{
	struct op *op;

	assert_int_equal(try_push(bench, sga, &op), 0);
	return op;
}

static struct op *push_bytes(struct bench *bench, void *bytes, uint32_t length)
{
	demi_sgarray_t sga = array_of(bytes, length);

	return push(bench, &sga);
}

static struct op *pop(struct bench *bench)
{
	struct op *op = op_issue(&bench->rig.sched, OP_POP, 500);

	assert_non_null(op);
	assert_int_equal(bench->queue->ops->pop(bench->queue, op), 0);
	return op;
}

/* Takes the result of an operation that is done. */
static void spend(struct bench *bench, struct op *op, int expected)
{
	assert_true(op_done(op));
	assert_int_equal(op->ret, expected);
	assert_ptr_equal(wait_take(&bench->rig.sched, op->token), op);
	op_free(&bench->rig.sched.ops, op);
}

/* A pop that is done: checks its bytes, frees its segments. */
static void spend_pop(struct bench *bench, struct op *op, const void *expected, uint64_t length)
{
	struct iovec one;
	const struct iovec *iov = op_vector(op, &one);
	const char *rest = expected;

	assert_true(op_done(op));
	assert_int_equal(op->ret, 0);
	assert_int_equal(op_bytes(op), length);
	for (uint32_t i = 0; i < op->numsegs; i++) {
		if (iov[i].iov_len == 0)
			continue;
		assert_memory_equal(iov[i].iov_base, rest, iov[i].iov_len);
		rest += iov[i].iov_len;
		heap_drop(bench, iov[i].iov_base);
	}
	spend(bench, op, 0);
}

/* -- order */

static void test_order(void **state)
{
	enum { COUNT = 100 };

	static struct bench bench;
	struct op *pops[COUNT];

	(void)state;
	open_bench(&bench);
	for (uint32_t ahead = 0; ahead < COUNT; ahead += 9) { /* pops that wait */
		for (uint32_t i = 0; i < ahead; i++)
			pops[i] = pop(&bench);
		for (uint32_t i = 0; i < COUNT; i++) {
			uint32_t *value = (uint32_t *)(void *)heap_bytes(&bench, 16);
			*value = i;
			spend(&bench, push_bytes(&bench, value, 16), 0);
			heap_drop(&bench, value); /* legal right after the push */
		}
		assert_int_equal(info_of(&bench).elements, COUNT - ahead);
		for (uint32_t i = ahead; i < COUNT; i++)
			pops[i] = pop(&bench);
		for (uint32_t i = 0; i < COUNT; i++) {
			uint32_t value[4] = {i};
			struct op *op = pops[i];
			assert_memory_equal(op->buf, value, sizeof(value[0]));
			assert_int_equal(op->len, 16);
			heap_drop(&bench, op->buf);
			spend(&bench, op, 0);
		}
		assert_int_equal(live_objects(&bench), 0);
	}
	close_bench(&bench);
}

/* The popped memory is the pushed memory. */
static void test_no_copy(void **state)
{
	static struct bench bench;

	(void)state;
	open_bench(&bench);
	char *bytes = heap_bytes(&bench, 100000);
	spend(&bench, push_bytes(&bench, bytes + 13, 50000), 0);
	assert_int_equal(heap_library_refs(bench.rig.sched.heap, bytes), 1);
	assert_int_equal(info_of(&bench).held_bytes, 0);
	struct op *op = pop(&bench);
	assert_ptr_equal(op->buf, bytes + 13);
	assert_int_equal(heap_library_refs(bench.rig.sched.heap, bytes), 0);
	const char *object;
	assert_int_equal(heap_app_refs(bench.rig.sched.heap, op->buf, &object), 2);
	assert_ptr_equal(object, bytes);
	/* sga_buf lies in the object, and is no datagram's. */
	assert_int_equal((uintptr_t)op->sga_buf % 2, 0);
	assert_int_equal(heap_app_refs(bench.rig.sched.heap, op->sga_buf, &object), 2);
	assert_ptr_equal(object, bytes);
	heap_drop(&bench, op->buf);
	heap_drop(&bench, bytes);
	spend(&bench, op, 0);
	close_bench(&bench);
}

/* An element comes out as it went in: as many segments, in order, however they lie in memory. */
static void test_segments(void **state)
{
	static struct bench bench;
	char foreign[64] = "what the application has on its stack";

	(void)state;
	open_bench(&bench);
	for (uint32_t count = 1; count <= DEMI_SGARRAY_MAXSIZE; count++) {
		for (uint32_t pattern = 0; pattern < 1U << count; pattern += 1 + pattern / 16) {
			demi_sgarray_t sga = {.sga_numsegs = count};
			char *object = heap_bytes(&bench, 256);
			char expected[256];
			uint64_t length = 0;
			memset(object, 'h', 256);
			for (uint32_t i = 0; i < count; i++) {
				char *from = pattern >> i & 1 ? foreign + i : object + 5 * i;
				uint32_t bytes = (i + pattern) % 4 * 5; /* some are empty */
				sga.sga_segs[i] =
					(demi_sgaseg_t){.sgaseg_buf = from, .sgaseg_len = bytes};
				memcpy(expected + length, from, bytes);
				length += bytes;
			}
			bool waits = pattern % 3 == 0;
			struct op *early = waits ? pop(&bench) : NULL;
			spend(&bench, push(&bench, &sga), 0);
			heap_drop(&bench, object);
			struct op *op = early ? early : pop(&bench);
			assert_int_equal(op->numsegs, count);
			spend_pop(&bench, op, expected, length);
			assert_int_equal(live_objects(&bench), 0);
			assert_int_equal(info_of(&bench).held_bytes, 0);
		}
	}
	close_bench(&bench);
}

/* Empty segments hold nothing and point nowhere, so that freeing what was popped frees nobody's
 * memory. */
static void test_empty_segments(void **state)
{
	static struct bench bench;
	struct heap *other;

	(void)state;
	open_bench(&bench);
	assert_int_equal(heap_open(&other, 16 * MIB, PAGES_HUGE_NEVER), 0);
	char *theirs = heap_alloc(other, 100);
	char *ours = heap_bytes(&bench, 100);
	void *const pointers[] = {NULL, theirs, ours, ours + 112, &bench};
	for (size_t i = 0; i < ARRAY_LENGTH(pointers); i++) {
		spend(&bench, push_bytes(&bench, pointers[i], 0), 0);
		struct op *op = pop(&bench);
		assert_int_equal(op->numsegs, 1);
		assert_int_equal(op->len, 0);
		assert_null(op->buf);
		assert_null(op->sga_buf);
		spend(&bench, op, 0);
	}
	assert_int_equal(live_objects(&bench), 1);
	heap_drop(&bench, ours);
	assert_int_equal(heap_free(other, theirs), 0);
	heap_close(other);
	close_bench(&bench);
}

/* Nothing that cannot be pushed changes anything. */
static void test_bad_arrays(void **state)
{
	static struct bench bench;
	struct sockaddr to = {.sa_family = AF_INET};
	struct op *op;

	(void)state;
	open_bench(&bench);
	char *bytes = heap_bytes(&bench, 100);
	char *freed = heap_bytes(&bench, 100);
	heap_drop(&bench, freed);
	demi_sgarray_t cases[] = {
		{.sga_numsegs = 0},        {.sga_numsegs = DEMI_SGARRAY_MAXSIZE + 1},
		array_of(bytes + 50, 100), /* past its object */
		array_of(freed, 10),       array_of(NULL, 1),
		array_of(bytes, 10),
	};
	cases[5].sga_numsegs = 3;
	cases[5].sga_segs[1] = (demi_sgaseg_t){.sgaseg_buf = bytes, .sgaseg_len = 5};
	cases[5].sga_segs[2] = (demi_sgaseg_t){.sgaseg_buf = freed, .sgaseg_len = 5};
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		assert_int_equal(try_push(&bench, &cases[i], &op), -EINVAL);
		assert_int_equal(info_of(&bench).elements, 0);
		assert_int_equal(heap_library_refs(bench.rig.sched.heap, bytes), 0);
	}
	op = op_issue(&bench.rig.sched, OP_PUSH, 500);
	op_set_segment(op, bytes, 1);
	assert_int_equal(bench.queue->ops->push(bench.queue, op, &to, sizeof(to)), -ENOTSUP);
	op->owner->issued--;
	op_free(&bench.rig.sched.ops, op);
	heap_drop(&bench, bytes);
	close_bench(&bench);
}

/* -- the limit on copies */

/* Copied when taken up: the application may change it as soon as the push is done. */
static void test_foreign_is_copied(void **state)
{
	static struct bench bench;
	char bytes[100];

	(void)state;
	open_bench(&bench);
	memset(bytes, 'a', sizeof(bytes));
	spend(&bench, push_bytes(&bench, bytes, sizeof(bytes)), 0);
	memset(bytes, 'b', sizeof(bytes));
	assert_int_equal(info_of(&bench).held_bytes, sizeof(bytes));
	struct op *op = pop(&bench);
	assert_int_equal(info_of(&bench).held_bytes, 0);
	memset(bytes, 'a', sizeof(bytes));
	spend_pop(&bench, op, bytes, sizeof(bytes));
	close_bench(&bench);
}

static void test_limit(void **state)
{
	static struct bench bench;
	static char foreign[12][LIMIT];
	struct op *pushes[12];
	uint64_t most = 0;

	(void)state;
	open_bench(&bench);
	for (uint32_t i = 0; i < ARRAY_LENGTH(pushes); i++) {
		memset(foreign[i], (int)i, sizeof(foreign[i]));
		pushes[i] = push_bytes(&bench, foreign[i], 1000);
		assert_int_equal(op_done(pushes[i]), i < LIMIT / 1000);
	}
	/* Behind those that wait, memory of the heap waits, too. */
	char *ours = heap_bytes(&bench, 10);
	struct op *last = push_bytes(&bench, ours, 10);
	heap_drop(&bench, ours);
	assert_false(op_done(last));
	assert_int_equal(info_of(&bench).pushes_pending, 12 - 4 + 1);
	for (uint32_t i = 0; i < ARRAY_LENGTH(pushes); i++) {
		assert_true(op_done(pushes[i]));
		spend_pop(&bench, pop(&bench), foreign[i], 1000);
		most = info_of(&bench).held_bytes > most ? info_of(&bench).held_bytes : most;
		spend(&bench, pushes[i], 0);
	}
	assert_true(most <= LIMIT && most >= LIMIT - 1000);
	assert_true(op_done(last));
	spend(&bench, last, 0);
	struct op *op = pop(&bench);
	assert_ptr_equal(op->buf, ours);
	heap_drop(&bench, op->buf);
	spend(&bench, op, 0);
	close_bench(&bench);
}

/* Larger than the limit: taken up when nothing else is copied. */
static void test_larger_than_limit(void **state)
{
	static struct bench bench;
	static char large[10 * LIMIT];

	(void)state;
	open_bench(&bench);
	struct op *one = push_bytes(&bench, large, sizeof(large));
	struct op *two = push_bytes(&bench, large, sizeof(large));
	struct op *small = push_bytes(&bench, large, 1);
	assert_true(op_done(one));
	assert_false(op_done(two) || op_done(small));
	assert_int_equal(info_of(&bench).held_bytes, sizeof(large));
	spend_pop(&bench, pop(&bench), large, sizeof(large));
	assert_true(op_done(two));
	assert_false(op_done(small));
	spend_pop(&bench, pop(&bench), large, sizeof(large));
	assert_true(op_done(small));
	spend_pop(&bench, pop(&bench), large, 1);
	spend(&bench, one, 0);
	spend(&bench, two, 0);
	spend(&bench, small, 0);
	close_bench(&bench);
}

/* Memory of the heap costs nothing: no limit. */
static void test_no_limit_for_heap(void **state)
{
	static struct bench bench;
	static char foreign[LIMIT];

	(void)state;
	open_bench(&bench);
	spend(&bench, push_bytes(&bench, foreign, LIMIT), 0);
	char *bytes = heap_bytes(&bench, MIB);
	for (int i = 0; i < 100; i++)
		spend(&bench, push_bytes(&bench, bytes + i, MIB / 2), 0);
	assert_int_equal(info_of(&bench).elements, 101);
	assert_int_equal(info_of(&bench).held_bytes, LIMIT);
	heap_drop(&bench, bytes);
	close_bench(&bench); /* drops them all */
}

/* -- cancel and close */

static void test_cancel(void **state)
{
	static struct bench bench;
	static char foreign[4][LIMIT];

	(void)state;
	open_bench(&bench);
	struct op *pops[3] = {pop(&bench), pop(&bench), pop(&bench)};
	bench.queue->ops->cancel(bench.queue, pops[1]);
	spend(&bench, pops[1], ECANCELED);
	spend(&bench, push_bytes(&bench, foreign[0], 5), 0);
	spend_pop(&bench, pops[0], foreign[0], 5);
	assert_false(op_done(pops[2]));
	bench.queue->ops->cancel(bench.queue, pops[2]);
	spend(&bench, pops[2], ECANCELED);

	memset(foreign, 'x', sizeof(foreign));
	foreign[3][0] = 'y';
	struct op *pushes[4];
	for (int i = 0; i < 4; i++)
		pushes[i] = push_bytes(&bench, foreign[i], LIMIT);
	bench.queue->ops->cancel(bench.queue, pushes[1]);
	bench.queue->ops->cancel(bench.queue, pushes[2]);
	spend(&bench, pushes[0], 0);
	spend(&bench, pushes[1], ECANCELED);
	spend(&bench, pushes[2], ECANCELED);
	spend_pop(&bench, pop(&bench), foreign[0], LIMIT);
	spend(&bench, pushes[3], 0);
	spend_pop(&bench, pop(&bench), foreign[3], LIMIT);
	close_bench(&bench);
}

/* What waited only behind the cancelled one goes at once. */
static void test_cancel_makes_room(void **state)
{
	static struct bench bench;
	static char foreign[LIMIT];

	(void)state;
	open_bench(&bench);
	char *ours = heap_bytes(&bench, 100);
	spend(&bench, push_bytes(&bench, foreign, 100), 0);
	struct op *large = push_bytes(&bench, foreign, LIMIT);
	struct op *small = push_bytes(&bench, foreign, 100);
	struct op *of_heap = push_bytes(&bench, ours, 100);
	assert_false(op_done(large) || op_done(small) || op_done(of_heap));
	bench.queue->ops->cancel(bench.queue, large);
	spend(&bench, large, ECANCELED);
	assert_true(op_done(small) && op_done(of_heap));
	spend(&bench, small, 0);
	spend(&bench, of_heap, 0);
	heap_drop(&bench, ours);
	assert_int_equal(info_of(&bench).elements, 3);
	close_bench(&bench);
}

static void test_close(void **state)
{
	static struct bench bench;
	static char foreign[LIMIT];
	struct op *pushes[30];
	struct op *pops[5];

	(void)state;
	for (int with_pops = 0; with_pops < 2; with_pops++) {
		open_bench(&bench);
		uint32_t num_pushes = with_pops ? 0 : ARRAY_LENGTH(pushes);
		for (uint32_t i = 0; i < num_pushes; i++) {
			char *ours = heap_bytes(&bench, 1000);
			demi_sgarray_t sga = array_of(ours, 900);
			sga.sga_numsegs = 1 + i % 3;
			sga.sga_segs[1] = (demi_sgaseg_t){.sgaseg_buf = foreign, .sgaseg_len = 700};
			sga.sga_segs[2] = (demi_sgaseg_t){.sgaseg_buf = ours + 1, .sgaseg_len = 7};
			pushes[i] = push(&bench, &sga);
			heap_drop(&bench, ours);
		}
		for (uint32_t i = 0; i < ARRAY_LENGTH(pops) && with_pops; i++)
			pops[i] = pop(&bench);
		uint32_t elements = info_of(&bench).elements;
		uint32_t waiting = info_of(&bench).pushes_pending;
		assert_int_equal(elements + waiting, num_pushes);
		assert_true(!num_pushes || (elements > 3 && waiting > 3));
		uint64_t drops = bench.rig.sched.counters.drops[DROP_ELEMENT];
		bench.queue->ops->close(bench.queue);
		bench.queue = NULL;
		assert_int_equal(bench.rig.sched.counters.drops[DROP_ELEMENT] - drops, elements);
		assert_int_equal(live_objects(&bench), 0);
		for (uint32_t i = 0; i < num_pushes; i++)
			spend(&bench, pushes[i], i < elements ? 0 : ECANCELED);
		for (uint32_t i = 0; i < ARRAY_LENGTH(pops) && with_pops; i++)
			spend(&bench, pops[i], ECANCELED);
		close_bench(&bench);
	}
}

/* -- memory runs out */

static void test_operations_short(void **state)
{
	static const struct rig_options options = {.operations_max = 64, .send_limit_bytes = LIMIT};
	static struct bench bench;
	struct op *op;
	int pushed = 0;

	(void)state;
	open_with(&bench, &options);
	char *bytes = heap_bytes(&bench, 100);
	demi_sgarray_t sga = array_of(bytes, 100);
	while (try_push(&bench, &sga, &op) == 0) { /* an element each, once its push is spent */
		spend(&bench, op, 0);
		pushed++;
	}
	assert_int_equal(pushed, 63);
	assert_int_equal(heap_library_refs(bench.rig.sched.heap, bytes), 63);
	op = pop(&bench);
	heap_drop(&bench, op->buf);
	spend(&bench, op, 0);
	spend(&bench, push(&bench, &sga), 0);
	heap_drop(&bench, bytes);
	close_bench(&bench);
}

/* A copy that fails leaves nothing behind, whichever segment it was. */
static void test_copies_short(void **state)
{
	static const struct rig_options options = {.heap_bytes = 4 * MIB,
						   .send_limit_bytes = 100 * MIB};
	static struct bench bench;
	char *foreign = calloc(1, 6 * MIB);
	struct op *op;

	(void)state;
	assert_non_null(foreign);
	open_with(&bench, &options);
	char *ours = heap_bytes(&bench, 100);
	for (uint32_t large = 0; large < 4; large++) {
		demi_sgarray_t sga = {.sga_numsegs = 4};
		for (uint32_t i = 0; i < 4; i++)
			sga.sga_segs[i] =
				(demi_sgaseg_t){.sgaseg_buf = i == 1 && large != 1 ? ours : foreign,
						.sgaseg_len = i == large ? 6 * MIB : 100};
		assert_int_equal(try_push(&bench, &sga, &op), -ENOMEM);
		assert_int_equal(live_objects(&bench), 1);
		assert_int_equal(heap_library_refs(bench.rig.sched.heap, ours), 0);
		assert_int_equal(info_of(&bench).held_bytes, 0);
		assert_int_equal(info_of(&bench).elements, 0);
		rig_check(&bench.rig);
	}
	demi_sgarray_t one = array_of(foreign, 6 * MIB);
	assert_int_equal(try_push(&bench, &one, &op), -ENOMEM);
	heap_drop(&bench, ours);
	free(foreign);
	close_bench(&bench);
}

/* A push that waited finds no memory when its turn comes: it says so, and the next has its turn. */
static void test_waiting_finds_no_memory(void **state)
{
	static const struct rig_options options = {.heap_bytes = 4 * MIB,
						   .send_limit_bytes = LIMIT};
	static struct bench bench;
	char *foreign = calloc(1, 6 * MIB);

	(void)state;
	assert_non_null(foreign);
	open_with(&bench, &options);
	struct op *first = push_bytes(&bench, foreign, 10);
	struct op *large = push_bytes(&bench, foreign, 6 * MIB);
	struct op *next = push_bytes(&bench, foreign, 20);
	assert_false(op_done(large) || op_done(next));
	spend_pop(&bench, pop(&bench), foreign, 10);
	spend(&bench, first, 0);
	spend(&bench, large, ENOMEM);
	spend(&bench, next, 0);
	spend_pop(&bench, pop(&bench), foreign, 20);
	free(foreign);
	close_bench(&bench);
}

static void test_new_fails(void **state)
{
	static struct bench bench;
	struct queue *queue;

	(void)state;
	open_bench(&bench);
	fault_fail(1);
	assert_int_equal(memory_queue_new(&bench.rig.sched, &queue), -ENOMEM);
	assert_true(fault_off());
	close_bench(&bench);
}

/* -- a random model */

enum { WINDOW = 100, PENDING = 40 };

struct element {
	uint32_t id;
	uint32_t length;
	uint32_t numsegs;
	struct op *push; /* NULL: spent */
	char *foreign;   /* the application's: good until the push is done */
};

struct model {
	struct bench bench;
	struct prng prng;
	struct element sent[WINDOW]; /* not popped yet, oldest first */
	uint32_t num_sent;
	struct op *pops[PENDING]; /* oldest first */
	uint32_t num_pops;
	uint32_t next_id;
	uint64_t popped;
	uint64_t waited;
};

static uint32_t below(struct model *model, uint32_t bound)
{
	return (uint32_t)prng_below(&model->prng, bound);
}

static char byte_of(uint32_t id, uint32_t at)
{
	return (char)(id * 2654435761U >> 16 ^ at * 31);
}

static uint32_t draw_length(struct model *model)
{
	switch (below(model, 8)) {
	case 0:
		return 0;
	case 1:
		return below(model, 3 * LIMIT);
	default:
		return below(model, 600);
	}
}

static void model_push(struct model *model)
{
	struct element *element = &model->sent[model->num_sent];
	demi_sgarray_t sga = {.sga_numsegs = 1 + below(model, 3) * below(model, 4)};
	char *ours[DEMI_SGARRAY_MAXSIZE] = {NULL};
	uint32_t at = 0;

	if (model->num_sent == WINDOW)
		return;
	if (sga.sga_numsegs > DEMI_SGARRAY_MAXSIZE)
		sga.sga_numsegs = DEMI_SGARRAY_MAXSIZE;
	*element = (struct element){.id = model->next_id++, .numsegs = sga.sga_numsegs};
	element->foreign = malloc((size_t)DEMI_SGARRAY_MAXSIZE * 3 * LIMIT);
	assert_non_null(element->foreign);
	for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
		uint32_t length = draw_length(model);
		char *to = element->foreign + (size_t)i * 3 * LIMIT;
		if (below(model, 2)) {
			uint32_t inside = below(model, 40);
			ours[i] = heap_bytes(&model->bench, length + inside + 1);
			to = ours[i] + inside;
		}
		for (uint32_t k = 0; k < length; k++)
			to[k] = byte_of(element->id, at++);
		sga.sga_segs[i] = (demi_sgaseg_t){.sgaseg_buf = to, .sgaseg_len = length};
	}
	element->length = at;
	element->push = push(&model->bench, &sga);
	model->num_sent++;
	model->waited += !op_done(element->push);
	for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
		if (ours[i])
			heap_drop(&model->bench, ours[i]);
	}
}

static void end_push(struct model *model, struct element *element, int err)
{
	memset(element->foreign, 0xee, (size_t)DEMI_SGARRAY_MAXSIZE * 3 * LIMIT);
	free(element->foreign);
	spend(&model->bench, element->push, err);
	element->push = NULL;
}

static void forget(struct model *model, uint32_t at)
{
	model->num_sent--;
	memmove(&model->sent[at], &model->sent[at + 1],
		(model->num_sent - at) * sizeof(struct element));
}

static void model_cancel(struct model *model)
{
	const struct queue_ops *ops = model->bench.queue->ops;

	if (below(model, 2) && model->num_pops > 0) {
		uint32_t at = below(model, model->num_pops);
		ops->cancel(model->bench.queue, model->pops[at]);
		spend(&model->bench, model->pops[at], ECANCELED);
		model->num_pops--;
		memmove(&model->pops[at], &model->pops[at + 1],
			(model->num_pops - at) * sizeof(struct op *));
	} else if (model->num_sent > 0) {
		uint32_t at = below(model, model->num_sent);
		struct element *element = &model->sent[at];
		if (!element->push || op_done(element->push))
			return;
		ops->cancel(model->bench.queue, element->push);
		end_push(model, element, ECANCELED);
		forget(model, at);
	}
}

/* A pop that is done has the oldest element that was sent. */
static void end_pop(struct model *model)
{
	struct element *element = &model->sent[0];
	struct op *op = model->pops[0];
	static char expected[DEMI_SGARRAY_MAXSIZE * 3 * LIMIT];

	assert_true(model->num_sent > 0);
	for (uint32_t k = 0; k < element->length; k++)
		expected[k] = byte_of(element->id, k);
	assert_int_equal(op->numsegs, element->numsegs);
	spend_pop(&model->bench, op, expected, element->length);
	if (element->push)
		end_push(model, element, 0);
	forget(model, 0);
	model->num_pops--;
	memmove(&model->pops[0], &model->pops[1], model->num_pops * sizeof(struct op *));
	model->popped++;
}

static void model_step(struct model *model)
{
	uint32_t what = below(model, 20);

	if (what < 10)
		model_push(model);
	else if (what < 19 && model->num_pops < PENDING)
		model->pops[model->num_pops++] = pop(&model->bench);
	else
		model_cancel(model);
	while (model->num_pops > 0 && op_done(model->pops[0]))
		end_pop(model);
	for (uint32_t i = 0; i < model->num_sent; i++) {
		if (model->sent[i].push && op_done(model->sent[i].push))
			end_push(model, &model->sent[i], 0);
	}
}

static void model_check(struct model *model)
{
	struct queue_info info = info_of(&model->bench);
	const struct op *first = NULL;
	uint32_t waiting = 0;

	for (uint32_t i = 0; i < model->num_sent; i++) {
		assert_true(waiting == 0 || model->sent[i].push); /* in order */
		waiting += model->sent[i].push != NULL;
		first = first ? first : model->sent[i].push;
	}
	assert_int_equal(info.pushes_pending, waiting);
	assert_int_equal(info.elements, model->num_sent - waiting);
	assert_int_equal(info.pops_pending, model->num_pops);
	assert_true(model->num_pops == 0 || model->num_sent == 0);
	assert_true(info.held_bytes <= LIMIT || info.elements > 0);
	/* Nobody waits without need. */
	if (first) {
		assert_true(info.held_bytes > 0);
		assert_true(info.held_bytes + op_bytes(first) > LIMIT);
	}
	rig_check(&model->bench.rig);
}

static void test_model(void **state)
{
	static struct model model;
	uint64_t seed = test_seed(55);

	(void)state;
	for (uint64_t round = 0; round < 5; round++) {
		memset(&model, 0, sizeof(model));
		open_bench(&model.bench);
		prng_seed(&model.prng, seed + round);
		for (int step = 0; step < 4000; step++) {
			model_step(&model);
			model_check(&model);
		}
		assert_true(model.popped > 1000 && model.waited > 50);
		/* Newest first, so that cancelling makes room for nobody. */
		for (uint32_t i = model.num_sent; i-- > 0;) {
			if (!model.sent[i].push)
				continue;
			model.bench.queue->ops->cancel(model.bench.queue, model.sent[i].push);
			end_push(&model, &model.sent[i], ECANCELED);
		}
		close_bench(&model.bench);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_no_copy),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_empty_segments),
		cmocka_unit_test(test_bad_arrays),
		cmocka_unit_test(test_foreign_is_copied),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_larger_than_limit),
		cmocka_unit_test(test_no_limit_for_heap),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_cancel_makes_room),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_operations_short),
		cmocka_unit_test(test_copies_short),
		cmocka_unit_test(test_waiting_finds_no_memory),
		cmocka_unit_test(test_new_fails),
		cmocka_unit_test(test_model),
	};

	return test_run("memory_queue", tests);
}
