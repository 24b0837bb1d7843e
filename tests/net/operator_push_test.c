/* SPDX-License-Identifier: MIT
 * tests/net/operator_push_test.c - pushes into operators that wait below: cancelled through several
 * of them, going on behind a closed one whose descriptor is another queue's, in memory that a peer
 * has lent.
 */
#include "support/net.h"

#include "api/instance.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BIG = 8 << 20 };

static char directory[64];
static char *big; /* foreign memory, beyond the limit of what a queue copies */

/* ---- helpers ---- */

static int setup(void **state)
{
	(void)snprintf(directory, sizeof(directory), "/tmp/demi-operator-push-XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(demi_set_config("shm_directory", directory), 0);
	big = calloc(1, BIG);
	assert_non_null(big);
	return net_init(state);
}

/* No operation is left, and no object but those that the kernel's sockets receive into. */
static int teardown(void **state)
{
	static const struct timespec no_time;
	struct sched *sched = &thread_state.current->sched;
	struct heap_usage use;

	assert_int_equal(demi_sleep(&no_time), 0);
	assert_int_equal(sched->ops.used, 0);
	assert_true(list_empty(&sched->lingering));
	heap_check(sched->heap);
	heap_usage(sched->heap, &use);
	assert_true(use.live_objects <= 3);
	(void)net_fini(state);
	free(big);
	return rmdir(directory);
}

static int new_queue(void)
{
	int qd;

	assert_int_equal(demi_queue(&qd), 0);
	return qd;
}

static void close_qd(int qd)
{
	assert_int_equal(demi_close(qd), 0);
}

static demi_qtoken_t push_big(int qd)
{
	demi_sgarray_t sga = net_array(big, BIG);

	return net_push(qd, &sga);
}

static int passes(void *arg, const demi_sgarray_t *sga)
{
	(void)arg;
	return sga->sga_numsegs > 0;
}

static int equal(void *arg, const demi_sgarray_t *a, const demi_sgarray_t *b)
{
	(void)arg;
	(void)a;
	(void)b;
	return 0;
}

enum kind { FILTER, EXPRESSION, SORT, MERGE, FRAME, KINDS };

/* An operator that passes everything. */
static int derive(enum kind kind, int qd)
{
	static const struct demi_framing framing = {
		.kind = DEMI_FRAME_LENGTH, .max_bytes = UINT32_MAX, .length_bytes = 4};
	int derived = -1;

	switch (kind) {
	case FILTER:
		assert_int_equal(demi_filter(&derived, qd, passes, NULL), 0);
		break;
	case EXPRESSION:
		assert_int_equal(demi_filter_expression(&derived, qd, "len > 0"), 0);
		break;
	case SORT:
		assert_int_equal(demi_sort(&derived, qd, equal, NULL, 4), 0);
		break;
	case MERGE:
		assert_int_equal(demi_merge(&derived, qd, new_queue()), 0);
		break;
	default:
		assert_int_equal(demi_frame(&derived, qd, &framing), 0);
	}
	return derived;
}

static void close_all(void)
{
	struct queue_table *table = &thread_state.current->queues;

	for (uint32_t slot = table->fresh; slot-- > 0;)
		if (queue_find(table, QUEUE_BASE + (int32_t)slot))
			close_qd(QUEUE_BASE + (int32_t)slot);
}

/* ---- through several ---- */

/* A push waits two operators below the one that it was made on: it can be cancelled, and ends with
 * whichever of them ends. */
static void test_cancel_through(void **state)
{
	(void)state;
	for (int pair = 0; pair < KINDS * KINDS; pair++) {
		int bottom = new_queue();
		int middle = derive(pair % KINDS, bottom);
		int top = derive(pair / KINDS, middle);
		(void)net_wait(push_big(top));
		demi_qtoken_t qts[] = {push_big(top), push_big(top), push_big(middle)};
		net_assert_pending(qts[0]);
		assert_int_equal(demi_cancel(qts[0]), 0);
		net_wait_failed(qts[0], ECANCELED);
		net_assert_pending(qts[1]);
		net_assert_pending(qts[2]);
		close_qd(pair % 2 ? top : middle);
		net_wait_failed(qts[1], ECANCELED);
		if (pair % 2) {
			net_assert_pending(qts[2]);
			close_qd(middle);
		}
		net_wait_failed(qts[2], ECANCELED);
		close_all();
	}
}

/* ---- behind a closed operator ---- */

enum then { CANCEL_CLOSED, CANCEL_MEMORY, CLOSE_FILTER };

/* The push of an operator that was closed goes on, since the socket has begun to send it.  Its
 * descriptor is somebody else's now, who has nothing to do with it. */
static void go_on(enum kind kind, bool through, enum then then)
{
	struct net_pair pair = net_tcp_pair(AF_INET);
	int other = new_queue();
	int lower = derive(kind, pair.client);
	int top = through ? derive(FILTER, lower) : lower;
	demi_qtoken_t qt = push_big(top);

	net_assert_pending(qt);
	close_qd(top);
	if (then == CANCEL_MEMORY)
		assert_int_equal(new_queue(), top);
	if (then == CLOSE_FILTER) {
		assert_int_equal(derive(FILTER, other), top);
		close_qd(top);
	} else {
		assert_int_equal(demi_cancel(qt), 0);
	}
	net_assert_pending(qt);
	if (through)
		close_qd(lower);
	net_assert_pending(qt);
	for (uint64_t bytes = 0; bytes < BIG;) {
		demi_qresult_t qr = net_wait(net_pop(pair.server));
		assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
		demi_sgarray_t sga = qr.qr_value.sga;
		bytes += net_array_bytes(&sga);
		assert_int_equal(demi_sgafree(&sga), 0);
	}
	assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_PUSH);
	close_all();
}

static void test_goes_on(void **state)
{
	static const enum kind kinds[] = {MERGE, FRAME};

	(void)state;
	for (int i = 0; i < 12; i++)
		go_on(kinds[i % 2], i / 2 % 2, i / 4);
}

/* ---- in memory that a peer has lent ---- */

enum { LENT = 65536 };

struct lent {
	int in; /* what a pipe brings */
	int out;
	demi_sgarray_t sga; /* what was pushed into its other end */
};

/* An array in the pipe, lent: it is busy until who pops it has freed it. */
static void lend(struct lent *lent, uint32_t segments)
{
	static const struct timespec moment = {.tv_nsec = 1000000};

	assert_int_equal(demi_create_pipe(&lent->out, "lent"), 0);
	assert_int_equal(demi_open_pipe(&lent->in, "lent"), 0);
	for (int i = 0; i < 2; i++) {
		int qd = i ? lent->in : lent->out;
		demi_qtoken_t qt = net_push_bytes(i ? lent->out : lent->in, "x", 1);
		net_pop_bytes(qd, "x", 1);
		(void)net_wait(qt);
	}
	assert_int_equal(demi_sleep(&moment), 0);
	lent->sga = (demi_sgarray_t){.sga_numsegs = segments};
	for (uint32_t i = 0; i < segments; i++) {
		void *object = demi_malloc(LENT);
		assert_non_null(object);
		memset(object, 'a' + (int)i, LENT);
		lent->sga.sga_segs[i] = (demi_sgaseg_t){object, LENT};
	}
	(void)net_wait(net_push(lent->out, &lent->sga));
}

static void check_lent(const demi_sgarray_t *sga, uint32_t segments)
{
	assert_int_equal(sga->sga_numsegs, segments);
	for (uint32_t i = 0; i < segments; i++) {
		const demi_sgaseg_t segment = sga->sga_segs[i];
		assert_int_equal(segment.sgaseg_len, LENT);
		for (uint32_t k = 0; k < LENT; k++)
			assert_int_equal(((const char *)segment.sgaseg_buf)[k], 'a' + (int)i);
	}
}

static bool is_busy(const demi_sgarray_t *sga)
{
	int busy = demi_sgabusy(sga);

	assert_true(busy == 0 || busy == EBUSY);
	return busy != 0;
}

/* A queue that takes no more, so that a push waits; whoever pushes what was lent frees it at once.
 * The peer has its memory back when the push was done with it. */
static void wait_with(uint32_t segments, bool connect)
{
	static const struct timespec moment = {.tv_nsec = 1000000};
	int qd = new_queue();
	demi_qtoken_t qt = 0;
	struct lent lent;

	lend(&lent, segments);
	(void)net_wait(push_big(qd));
	if (connect) {
		assert_int_equal(demi_qconnect(lent.in, qd), 0);
	} else {
		demi_qresult_t qr = net_wait(net_pop(lent.in));
		demi_sgarray_t sga = qr.qr_value.sga;
		check_lent(&sga, segments);
		qt = net_push(qd, &sga);
		assert_int_equal(demi_sgafree(&sga), 0);
		net_assert_pending(qt);
	}
	for (int i = 0; i < 5; i++)
		assert_int_equal(demi_sleep(&moment), 0);
	assert_true(is_busy(&lent.sga));
	for (int i = 0; i < 2; i++) {
		demi_qresult_t qr = net_wait(net_pop(qd));
		demi_sgarray_t sga = qr.qr_value.sga;
		if (i == 1)
			check_lent(&sga, segments);
		assert_int_equal(demi_sgafree(&sga), 0);
	}
	if (!connect)
		(void)net_wait(qt);
	for (int i = 0; i < 5000 && is_busy(&lent.sga); i++)
		assert_int_equal(demi_sleep(&moment), 0);
	assert_false(is_busy(&lent.sga));
	assert_int_equal(demi_sgafree(&lent.sga), 0);
	close_all();
}

static void test_lent(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		wait_with(i % 2 ? 3 : 1, i / 2);
}

/* A push of what was lent is cancelled, and its queue closed: the peer has its memory back. */
static void test_lent_is_dropped(void **state)
{
	static const struct timespec moment = {.tv_nsec = 1000000};

	(void)state;
	for (int i = 0; i < 4; i++) {
		int qd = new_queue();
		struct lent lent;
		lend(&lent, i % 2 ? 3 : 1);
		(void)net_wait(push_big(qd));
		demi_qresult_t qr = net_wait(net_pop(lent.in));
		demi_sgarray_t sga = qr.qr_value.sga;
		demi_qtoken_t qt = net_push(qd, &sga);
		assert_int_equal(demi_sgafree(&sga), 0);
		assert_int_equal(i / 2 ? demi_close(qd) : demi_cancel(qt), 0);
		net_wait_failed(qt, ECANCELED);
		for (int k = 0; k < 5000 && is_busy(&lent.sga); k++)
			assert_int_equal(demi_sleep(&moment), 0);
		assert_false(is_busy(&lent.sga));
		assert_int_equal(demi_sgafree(&lent.sga), 0);
		close_all();
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_cancel_through),
		TEST(test_goes_on),
		TEST(test_lent),
		TEST(test_lent_is_dropped),
	};

	return test_run("operator_push", tests);
}
