/* SPDX-License-Identifier: MIT
 * tests/net/operator_test.c - operators over memory queues and over sockets: what passes, what is
 * told, who owns what, and that nothing is left of it.
 */
#include "support/net.h"

#include "api/instance.h"
#include "base/prng.h"
#include "support/seed.h"

#include <demi/socket.h>
#include <demi/storage.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- helpers ---- */

static struct heap_usage usage(void)
{
	struct heap_usage use;

	heap_usage(thread_state.current->sched.heap, &use);
	return use;
}

/* Nothing is left of a test: no operation, no object. */
static int teardown(void **state)
{
	struct sched *sched = &thread_state.current->sched;
	static const struct timespec moment;
	demi_qresult_t qr;
	int n;

	while (demi_wait_next_n(&qr, 1, &n, &moment) == 0) {
		if (qr.qr_opcode == DEMI_OPC_POP)
			(void)demi_sgafree(&qr.qr_value.sga);
	}
	assert_int_equal(sched->ops.used, 0);
	assert_true(list_empty(&sched->lingering));
	heap_check(sched->heap);
	return net_fini(state);
}

/* Logs are on a drive of memory. */
static int init_storage(void **state)
{
	assert_int_equal(demi_set_config("storage_driver", "sim"), 0);
	assert_int_equal(demi_set_config("storage_device", "16M"), 0);
	assert_int_equal(demi_set_config("storage_segment_bytes", "65536"), 0);
	return net_init(state);
}

static int new_queue(void)
{
	int qd;

	assert_int_equal(demi_queue(&qd), 0);
	return qd;
}

static void put(int qd, const char *text)
{
	demi_qresult_t qr = net_wait(net_push_bytes(qd, text, (uint32_t)strlen(text)));

	assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
}

/* The bytes of an array, with a zero behind them. */
static const char *text_of(const demi_sgarray_t *sga)
{
	static char text[4096];
	uint32_t at = 0;

	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		const demi_sgaseg_t segment = sga->sga_segs[i];
		assert_true(at + segment.sgaseg_len < sizeof(text));
		if (segment.sgaseg_len > 0)
			memcpy(text + at, segment.sgaseg_buf, segment.sgaseg_len);
		at += segment.sgaseg_len;
	}
	text[at] = '\0';
	return text;
}

/* The first byte; a zero if there is none. */
static char first_of(const demi_sgarray_t *sga)
{
	const demi_sgaseg_t segment = sga->sga_segs[0];

	return segment.sgaseg_len > 0 ? *(const char *)segment.sgaseg_buf : '\0';
}

static void expect(demi_qtoken_t qt, const char *text)
{
	demi_qresult_t qr = net_wait(qt);

	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	demi_sgarray_t sga = qr.qr_value.sga;
	assert_string_equal(text_of(&sga), text);
	assert_int_equal(demi_sgafree(&sga), 0);
}

static void get(int qd, const char *text)
{
	expect(net_pop(qd), text);
}

static void close_qd(int qd)
{
	assert_int_equal(demi_close(qd), 0);
}

static const struct timespec no_time;

/* After a turn, in which what ended operators have left is dropped. */
static void expect_objects(uint64_t count)
{
	assert_int_equal(demi_sleep(&no_time), 0);
	assert_int_equal(usage().live_objects, count);
}

/* The kernel's sockets keep an object of each size to receive into. */
static void expect_spares(void)
{
	assert_int_equal(demi_sleep(&no_time), 0);
	assert_true(usage().live_objects <= 3);
}

/* ---- filter ---- */

static uint32_t asked;

/* Elements that begin with the letter that arg points to. */
static int begins(void *arg, const demi_sgarray_t *sga)
{
	asked++;
	return first_of(sga) == *(const char *)arg;
}

static int filtered(int qd, const char *letter)
{
	int derived;

	assert_int_equal(demi_filter(&derived, qd, begins, (void *)(uintptr_t)letter), 0);
	return derived;
}

static void test_filter_pops(void **state)
{
	int qd = new_queue();
	int only_a = filtered(qd, "a");

	(void)state;
	put(qd, "apple");
	put(qd, "bean");
	put(qd, "apricot");
	get(only_a, "apple");
	get(only_a, "apricot");
	expect_objects(0); /* the bean is freed too */
	demi_qtoken_t qt = net_pop(only_a);
	net_assert_pending(qt);
	put(qd, "beet");
	put(qd, "anise");
	expect(qt, "anise");
	close_qd(only_a);
	close_qd(qd);
}

static void test_filter_pushes(void **state)
{
	int qd = new_queue();
	int only_a = filtered(qd, "a");

	(void)state;
	put(only_a, "apple");
	demi_qtoken_t qt = net_push_bytes(only_a, "bean", 4);
	demi_qresult_t qr = net_wait(qt);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_FAILED);
	assert_int_equal(qr.qr_ret, EPERM);
	assert_int_equal(qr.qr_qd, only_a);
	get(only_a, "apple");
	close_qd(only_a);
	put(qd, "bean");
	get(qd, "bean");
	close_qd(qd);
	expect_objects(0);
}

/* It pulls for who waits only: the source keeps the rest. */
static void test_filter_pulls_on_demand(void **state)
{
	int qd = new_queue();
	int only_a = filtered(qd, "a");

	(void)state;
	asked = 0;
	put(qd, "a1");
	put(qd, "b");
	put(qd, "a2");
	get(only_a, "a1");
	assert_int_equal(asked, 1);
	close_qd(only_a);
	get(qd, "b");
	get(qd, "a2");
	close_qd(qd);
}

/* A source that never has what passes does not hold the turn up. */
static void test_filter_of_many(void **state)
{
	int qd = new_queue();
	int only_a = filtered(qd, "a");

	(void)state;
	for (int i = 0; i < 1000; i++)
		put(qd, "b");
	put(qd, "a");
	get(only_a, "a");
	close_qd(only_a);
	close_qd(qd);
	expect_objects(0);
}

/* ---- map ---- */

/* Other memory in the place of each segment: upper case. */
static int to_upper(void *arg, demi_sgarray_t *sga)
{
	(void)arg;
	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		demi_sgaseg_t segment = sga->sga_segs[i];
		char *copy = demi_malloc(segment.sgaseg_len);
		if (!copy)
			return ENOMEM;
		for (uint32_t b = 0; b < segment.sgaseg_len; b++)
			copy[b] = (char)(((const char *)segment.sgaseg_buf)[b] & ~0x20);
		demi_sgarray_t old = {.sga_numsegs = 1};
		old.sga_segs[0] = segment;
		if (demi_sgafree(&old))
			return EFAULT;
		segment.sgaseg_buf = copy;
		sga->sga_segs[i] = segment;
	}
	return 0;
}

static int nothing(void *arg, demi_sgarray_t *sga)
{
	(void)arg;
	(void)sga;
	return 0;
}

/* Without the first byte; an element of one is refused. */
static int without_first(void *arg, demi_sgarray_t *sga)
{
	demi_sgaseg_t segment = sga->sga_segs[0];

	(void)arg;
	if (segment.sgaseg_len < 2)
		return EDOM;
	segment.sgaseg_buf = (char *)segment.sgaseg_buf + 1;
	segment.sgaseg_len--;
	sga->sga_segs[0] = segment;
	return 0;
}

static int mapped(int qd, demi_transform_t transform)
{
	int derived;

	assert_int_equal(demi_map(&derived, qd, transform, NULL), 0);
	return derived;
}

static void test_map(void **state)
{
	int qd = new_queue();
	int upper = mapped(qd, to_upper);

	(void)state;
	put(qd, "popped");
	get(upper, "POPPED");
	put(upper, "pushed");
	close_qd(upper);
	get(qd, "PUSHED");
	expect_objects(0);
	int shorter = mapped(qd, without_first);
	put(qd, "abc");
	get(shorter, "bc");
	put(shorter, "abc");
	close_qd(shorter);
	get(qd, "bc");
	expect_objects(0);
	close_qd(qd);
}

static void test_map_fails(void **state)
{
	int qd = new_queue();
	int shorter = mapped(qd, without_first);
	demi_sgarray_t sga = demi_sgaalloc(1);
	demi_qtoken_t qt;

	(void)state;
	put(qd, "x");
	net_wait_failed(net_pop(shorter), EDOM);
	assert_int_equal(demi_push(&qt, shorter, &sga), EDOM);
	assert_int_equal(demi_sgafree(&sga), 0);
	expect_objects(0);
	close_qd(shorter);
	close_qd(qd);
}

/* Leaves an array that is none. */
static int spoil(void *arg, demi_sgarray_t *sga)
{
	int *how = arg;

	if (*how == 0)
		sga->sga_numsegs = 9;
	if (*how == 1)
		sga->sga_numsegs = 0;
	if (*how == 2)
		sga->sga_segs[0].sgaseg_len = UINT32_MAX;
	return 0;
}

static void test_map_that_spoils(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		int qd = new_queue();
		int spoiled;
		demi_sgarray_t sga = demi_sgaalloc(8);
		demi_qtoken_t qt;
		assert_int_equal(demi_map(&spoiled, qd, spoil, &how), 0);
		assert_int_equal(demi_push(&qt, qd, &sga), 0);
		(void)net_wait(qt);
		net_wait_failed(net_pop(spoiled), EINVAL);
		assert_int_equal(demi_push(&qt, spoiled, &sga), EINVAL);
		close_qd(spoiled);
		close_qd(qd);
		/* What the function has lost is its own: it was never given back. */
		while (demi_sgafree(&sga) == 0)
			sga = net_array(sga.sga_segs[0].sgaseg_buf, 8);
	}
}

/* Foreign memory is copied before the function has it; the result shows what was pushed. */
static void test_map_of_foreign_memory(void **state)
{
	int qd = new_queue();
	int upper = mapped(qd, to_upper);
	char text[] = "mine";
	demi_sgarray_t sga = net_array(text, 4);
	demi_qresult_t qr = net_wait(net_push(upper, &sga));

	(void)state;
	assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(qr.qr_qd, upper);
	const demi_sgaseg_t shown = qr.qr_value.sga.sga_segs[0];
	assert_ptr_equal(shown.sgaseg_buf, text);
	close_qd(upper);
	get(qd, "MINE");
	assert_string_equal(text, "mine");
	expect_objects(0);
	close_qd(qd);
}

/* A map's push that waits in its source has memory of its own, whatever becomes of the
 * application's. */
static void test_map_push_that_waits(void **state)
{
	enum { BIG = 8 << 20 };

	char *big = calloc(1, BIG);
	demi_sgarray_t sga = net_array(big, BIG);

	(void)state;
	assert_non_null(big);
	for (int segments = 1; segments <= 2; segments++) {
		int qd = new_queue();
		int same = mapped(qd, nothing);
		sga.sga_numsegs = (uint32_t)segments;
		sga.sga_segs[1] = (demi_sgaseg_t){big, 4};
		memset(big, 'x', 4);
		demi_qtoken_t qts[2] = {net_push(same, &sga), net_push(same, &sga)};
		memset(big, 'y', 4);
		for (int i = 0; i < 2; i++) {
			demi_qresult_t qr = net_wait(net_pop(same));
			demi_sgarray_t popped = qr.qr_value.sga;
			const demi_sgaseg_t segment = popped.sga_segs[segments - 1];
			assert_memory_equal(segment.sgaseg_buf, "xxxx", 4);
			assert_int_equal(demi_sgafree(&popped), 0);
			(void)net_wait(qts[i]);
		}
		close_qd(same);
		close_qd(qd);
		expect_objects(0);
	}
	free(big);
}

/* ---- sort ---- */

static int by_first(void *arg, const demi_sgarray_t *a, const demi_sgarray_t *b)
{
	(void)arg;
	return first_of(a) - first_of(b);
}

static int sorted(int qd, unsigned depth)
{
	int derived;

	assert_int_equal(demi_sort(&derived, qd, by_first, NULL, depth), 0);
	return derived;
}

static void test_sort(void **state)
{
	int qd = new_queue();
	int by_letter = sorted(qd, 64);

	(void)state;
	put(qd, "c1");
	put(by_letter, "a1");
	put(qd, "b1");
	put(qd, "a2");
	put(qd, "c2");
	get(by_letter, "a1"); /* equal ones as they came */
	get(by_letter, "a2");
	put(qd, "a3");
	get(by_letter, "a3");
	get(by_letter, "b1");
	get(by_letter, "c1");
	get(by_letter, "c2");
	demi_qtoken_t qt = net_pop(by_letter);
	net_assert_pending(qt);
	put(qd, "z");
	expect(qt, "z");
	close_qd(by_letter);
	close_qd(qd);
	expect_objects(0);
}

/* It holds no more than its depth, and what it holds goes with it. */
static void test_sort_depth(void **state)
{
	int qd = new_queue();
	int by_letter = sorted(qd, 2);

	(void)state;
	put(qd, "d");
	put(qd, "c");
	put(qd, "b");
	put(qd, "a");
	get(by_letter, "c"); /* of the first two */
	get(by_letter, "b");
	close_qd(by_letter); /* with d */
	get(qd, "a");
	expect_objects(0);
	close_qd(qd);
}

static void test_sort_of_many(void **state)
{
	int qd = new_queue();
	int by_letter = sorted(qd, 1000);
	char last = 0;
	struct prng prng;

	(void)state;
	prng_seed(&prng, test_seed(7));
	for (int i = 0; i < 1000; i++) {
		char text[2] = {(char)('a' + prng_next(&prng) % 26), '\0'};
		put(qd, text);
	}
	for (int i = 0; i < 1000; i++) {
		demi_qresult_t qr = net_wait(net_pop(by_letter));
		demi_sgarray_t sga = qr.qr_value.sga;
		assert_true(first_of(&sga) >= last);
		last = first_of(&sga);
		assert_int_equal(demi_sgafree(&sga), 0);
	}
	expect_objects(0);
	close_qd(by_letter);
	close_qd(qd);
}

/* ---- merge ---- */

static int merged(int one, int other)
{
	int derived;

	assert_int_equal(demi_merge(&derived, one, other), 0);
	return derived;
}

static void test_merge_pops(void **state)
{
	int one = new_queue();
	int other = new_queue();
	int both = merged(one, other);

	(void)state;
	for (int i = 0; i < 3; i++) {
		put(one, "1");
		put(other, "2");
	}
	for (int i = 0; i < 3; i++) { /* in turns */
		get(both, "1");
		get(both, "2");
	}
	demi_qtoken_t qts[] = {net_pop(both), net_pop(both), net_pop(both)};
	put(other, "x");
	put(other, "y");
	put(one, "z");
	expect(qts[0], "z"); /* it was the first one's turn */
	expect(qts[1], "x");
	expect(qts[2], "y");
	put(one, "left"); /* nobody waits: it stays where it is */
	close_qd(both);
	get(one, "left");
	close_qd(one);
	close_qd(other);
	expect_objects(0);
}

static void test_merge_pushes(void **state)
{
	int one = new_queue();
	int other = new_queue();
	int both = merged(one, other);
	char text[] = "foreign";
	demi_sgarray_t sga = net_array(text, 7);

	(void)state;
	put(both, "for both");
	assert_int_equal(net_wait(net_push(both, &sga)).qr_opcode, DEMI_OPC_PUSH);
	close_qd(both);
	get(one, "for both");
	get(one, "foreign");
	get(other, "for both");
	get(other, "foreign");
	close_qd(one);
	close_qd(other);
	expect_objects(0);
}

/* One side fails, the other has what was pushed; and when both do. */
static void test_merge_push_that_fails(void **state)
{
	int good = new_queue();
	int bad = net_socket(AF_INET, SOCK_STREAM);
	int both = merged(bad, good);
	demi_sgarray_t sga = demi_sgaalloc(4);
	demi_qtoken_t qt;

	(void)state;
	memcpy(sga.sga_segs[0].sgaseg_buf, "this", 4);
	net_wait_failed(net_push(both, &sga), ENOTCONN);
	close_qd(both);
	get(good, "this");
	int bad2 = net_socket(AF_INET, SOCK_STREAM);
	both = merged(bad, bad2);
	assert_int_equal(demi_push(&qt, both, &sga), ENOTCONN);
	close_qd(both);
	assert_int_equal(demi_sgafree(&sga), 0);
	expect_objects(0);
	close_qd(bad);
	close_qd(bad2);
	close_qd(good);
}

/* The end comes when both have ended; an error of one is told once. */
static void test_merge_ends(void **state)
{
	int plain[2];
	int one = net_connected(AF_INET, &plain[0]);
	int other = net_connected(AF_INET, &plain[1]);
	int both = merged(one, other);

	(void)state;
	plain_write(plain[0], "last", 4);
	(void)close(plain[0]);
	get(both, "last");
	demi_qtoken_t qt = net_pop(both);
	net_assert_pending(qt);
	plain_write(plain[1], "more", 4);
	expect(qt, "more");
	qt = net_pop(both);
	plain_reset(plain[1]);
	net_wait_failed(qt, ECONNRESET);
	get(both, "");
	get(both, "");
	close_qd(both);
	close_qd(one);
	close_qd(other);
}

/* ---- on other kinds of queues ---- */

/* A datagram's source comes through what leaves its memory in place; to where it was pushed, too.
 */
static void test_datagrams(void **state)
{
	int to = net_bound(AF_INET, SOCK_DGRAM);
	int from = net_bound(AF_INET, SOCK_DGRAM);
	int only_a = filtered(to, "a");
	int shorter = mapped(only_a, without_first);
	int upper = mapped(from, to_upper);
	struct net_address there = net_local(to);
	struct net_address here = net_local(from);
	struct net_address source = {.length = sizeof(source.room)};
	char text[] = "abc";
	demi_sgarray_t sga = net_array(text, 3);
	demi_qtoken_t qt;

	(void)state;
	assert_int_equal(demi_pushto(&qt, from, &sga, &there.any, there.length), 0);
	(void)net_wait(qt);
	demi_qresult_t qr = net_wait(net_pop(shorter));
	sga = qr.qr_value.sga;
	assert_string_equal(text_of(&sga), "bc");
	assert_int_equal(demi_sgaaddr(&sga, &source.any, &source.length), 0);
	assert_int_equal(net_port(&source), net_port(&here));
	assert_int_equal(demi_sgafree(&sga), 0);
	sga = net_array(text, 3);
	assert_int_equal(demi_pushto(&qt, upper, &sga, &there.any, there.length), 0);
	(void)net_wait(qt);
	close_qd(shorter);
	close_qd(only_a);
	upper = mapped(to, to_upper); /* other memory: of no source */
	qr = net_wait(net_pop(upper));
	sga = qr.qr_value.sga;
	assert_string_equal(text_of(&sga), "ABC");
	assert_int_equal(demi_sgaaddr(&sga, &source.any, &source.length), EINVAL);
	assert_int_equal(demi_sgafree(&sga), 0);
	close_qd(to);
	close_qd(from);
	expect_spares();
}

/* A log's pushes tell their records' offsets, through what passes them on and what makes others. */
static void test_logs(void **state)
{
	int log;
	int end = new_queue();

	(void)state;
	assert_int_equal(demi_open(&log, "a", O_RDWR | O_CREAT, 0600), 0);
	int only_a = filtered(log, "a");
	demi_qresult_t first = net_wait(net_push_bytes(only_a, "apple", 5));
	assert_int_equal(first.qr_opcode, DEMI_OPC_PUSH);
	close_qd(only_a);
	int upper = mapped(log, to_upper);
	demi_qresult_t second = net_wait(net_push_bytes(upper, "bean", 4));
	assert_int_equal(second.qr_opcode, DEMI_OPC_PUSH);
	assert_true(second.qr_ret > first.qr_ret);
	assert_int_equal(second.qr_qd, upper);
	get(upper, "APPLE");
	assert_int_equal(demi_qconnect(upper, end), 0);
	get(end, "BEAN");
	put(upper, "cocoa"); /* a reader at the end gets what comes */
	get(end, "COCOA");
	close_qd(upper);
	close_qd(log);
	close_qd(end);
}

/* ---- who owns what ---- */

static void test_ownership(void **state)
{
	int qd = new_queue();
	int other = new_queue();
	int only_a = filtered(qd, "a");
	demi_qtoken_t qt;
	int derived;

	(void)state;
	assert_int_equal(demi_pop(&qt, qd), EBUSY);
	assert_int_equal(demi_filter(&derived, qd, begins, NULL), EBUSY);
	assert_int_equal(demi_merge(&derived, other, qd), EBUSY);
	assert_int_equal(demi_merge(&derived, qd, qd), EINVAL);
	assert_int_equal(demi_qconnect(qd, other), EBUSY);
	put(other, "other's pops are its own again");
	get(other, "other's pops are its own again");
	int upper = mapped(only_a, to_upper);
	assert_int_equal(demi_pop(&qt, only_a), EBUSY);
	close_qd(upper);
	put(qd, "a");
	get(only_a, "a");
	close_qd(only_a);
	close_qd(qd);
	close_qd(other);
}

/* Closing the source ends what stands on it, and what stands on that. */
static void test_source_closes(void **state)
{
	int qd = new_queue();
	int side = new_queue();
	int only_a = filtered(qd, "a");
	int both = merged(only_a, side);
	int by_letter = sorted(both, 4);
	demi_qtoken_t qt = net_pop(by_letter);
	demi_qtoken_t qt2 = net_pop(by_letter);
	demi_sgarray_t sga = demi_sgaalloc(1);

	(void)state;
	net_assert_pending(qt);
	close_qd(qd);
	net_wait_failed(qt, ECANCELED);
	net_wait_failed(qt2, ECANCELED);
	assert_int_equal(demi_pop(&qt, by_letter), ECANCELED);
	assert_int_equal(demi_push(&qt, by_letter, &sga), ECANCELED);
	assert_int_equal(demi_push(&qt, both, &sga), ECANCELED);
	put(side, "goes on");
	get(side, "goes on");
	close_qd(both);
	close_qd(by_letter);
	close_qd(only_a);
	close_qd(side);
	assert_int_equal(demi_sgafree(&sga), 0);
	expect_objects(0);
}

/* What is made of an ended queue has ended. */
static void test_over_what_has_ended(void **state)
{
	int qd = new_queue();
	int out = new_queue();
	int only_a = filtered(qd, "a");
	demi_qtoken_t ended;

	(void)state;
	close_qd(qd);
	int upper = mapped(only_a, to_upper);
	net_wait_failed(net_pop(upper), ECANCELED);
	close_qd(upper);
	assert_int_equal(demi_qconnect(only_a, out), 0);
	assert_int_equal(demi_qended(&ended, only_a), 0);
	net_wait_failed(ended, ECANCELED);
	close_qd(only_a);
	close_qd(out);
}

/* A pop that is cancelled takes nothing with it. */
static void test_cancel(void **state)
{
	int qd = new_queue();
	int only_a = filtered(qd, "a");
	int upper = mapped(only_a, to_upper);
	demi_qtoken_t first = net_pop(upper);
	demi_qtoken_t second = net_pop(upper);

	(void)state;
	assert_int_equal(demi_cancel(first), 0);
	net_wait_failed(first, ECANCELED);
	put(qd, "ab");
	expect(second, "AB");
	demi_qtoken_t third = net_pop(upper);
	assert_int_equal(demi_cancel(third), 0);
	net_wait_failed(third, ECANCELED);
	put(qd, "b");
	close_qd(upper);
	close_qd(only_a);
	get(qd, "b"); /* nobody has looked at it */
	close_qd(qd);
}

/* Pushes that wait in the source, cancelled and closed: foreign memory beyond the send limit. */
static void test_pushes_that_wait(void **state)
{
	enum { BIG = 8 << 20 };

	char *big = calloc(1, BIG);
	demi_sgarray_t sga = net_array(big, BIG);

	(void)state;
	assert_non_null(big);
	for (int kind = 0; kind < 3; kind++) {
		int qd = new_queue();
		int side = new_queue();
		int derived = kind == 0   ? filtered(qd, "")
			      : kind == 1 ? sorted(qd, 2)
					  : merged(qd, side);
		(void)net_wait(net_push(derived, &sga));
		demi_qtoken_t qts[] = {net_push(derived, &sga), net_push(derived, &sga)};
		net_assert_pending(qts[0]);
		assert_int_equal(demi_cancel(qts[0]), 0);
		net_wait_failed(qts[0], ECANCELED);
		net_assert_pending(qts[1]);
		close_qd(derived);
		net_wait_failed(qts[1], ECANCELED);
		close_qd(qd);
		close_qd(side);
		expect_objects(0);
	}
	free(big);
}

/* ---- composition ---- */

enum { DEEPEST = 128 };

/* As deep as it goes, and no copy on the way. */
static void test_depth(void **state)
{
	int chain[DEEPEST + 1];
	int plain = new_queue();
	int derived;
	demi_sgarray_t sga = demi_sgaalloc(10);
	demi_qtoken_t qt;

	(void)state;
	chain[0] = new_queue();
	memcpy(sga.sga_segs[0].sgaseg_buf, "abcdefghi", 10);
	void *object = sga.sga_segs[0].sgaseg_buf;
	for (int i = 1; i <= DEEPEST; i++)
		chain[i] = i % 4 == 0   ? sorted(chain[i - 1], 4)
			   : i % 4 == 1 ? mapped(chain[i - 1], nothing)
			   : i % 4 == 2 ? merged(chain[i - 1], new_queue())
					: filtered(chain[i - 1], "a");
	assert_int_equal(demi_map(&derived, chain[DEEPEST], nothing, NULL), ELOOP);
	assert_int_equal(demi_merge(&derived, plain, chain[DEEPEST]), ELOOP);
	/* Up the whole way; then down, to each merge's other source as well, and up. */
	for (int i = 0; i < 2 + DEEPEST / 4; i++) {
		if (i < 2) {
			assert_int_equal(demi_push(&qt, chain[i == 0 ? 0 : DEEPEST], &sga), 0);
			(void)net_wait(qt);
		}
		demi_qresult_t qr = net_wait(net_pop(chain[DEEPEST]));
		demi_sgarray_t popped = qr.qr_value.sga;
		const demi_sgaseg_t segment = popped.sga_segs[0];
		assert_ptr_equal(segment.sgaseg_buf, object);
		assert_int_equal(demi_sgafree(&popped), 0);
	}
	demi_qtoken_t last = net_pop(chain[DEEPEST]);
	net_assert_pending(last);
	close_qd(chain[0]);
	net_wait_failed(last, ECANCELED);
	for (int i = 1; i <= DEEPEST; i++)
		close_qd(chain[i]);
	assert_int_equal(demi_sgafree(&sga), 0);
	close_qd(plain);
}

static void in_coroutine(void *arg)
{
	test_depth(arg);
}

/* A coroutine's stack has room for that. */
static void test_depth_in_a_coroutine(void **state)
{
	static const struct timespec bound = {.tv_sec = 1};

	assert_int_equal(demi_go(in_coroutine, state), 0);
	while (thread_state.current->sched.coroutines.live > 0)
		assert_int_equal(demi_sleep(&bound), 0);
}

/* ---- callbacks ---- */

static int refused;

static int calls_others(void *arg, const demi_sgarray_t *sga)
{
	int *qd = arg;
	demi_qtoken_t qt;
	int other;
	void *memory = demi_malloc(10);

	(void)sga;
	refused += demi_pop(&qt, *qd) == EBUSY;
	refused += demi_push(&qt, *qd, sga) == EBUSY;
	refused += demi_queue(&other) == EBUSY;
	refused += demi_close(*qd) == EBUSY;
	refused += demi_flush() == EBUSY;
	refused += memory && demi_free(memory) == 0;
	return 1;
}

static void test_calls_in_callbacks(void **state)
{
	int qd = new_queue();
	int derived;

	(void)state;
	refused = 0;
	assert_int_equal(demi_filter(&derived, qd, calls_others, &qd), 0);
	put(derived, "x");
	assert_int_equal(refused, 6);
	get(derived, "x");
	assert_int_equal(refused, 12);
	close_qd(derived);
	close_qd(qd);
}

static void test_bad_arguments(void **state)
{
	int qd = new_queue();
	int derived;
	demi_qtoken_t qt;

	(void)state;
	assert_int_equal(demi_filter(NULL, qd, begins, NULL), EINVAL);
	assert_int_equal(demi_filter(&derived, qd, NULL, NULL), EINVAL);
	assert_int_equal(demi_filter(&derived, 499, begins, NULL), EBADF);
	assert_int_equal(demi_map(&derived, qd, NULL, NULL), EINVAL);
	assert_int_equal(demi_sort(&derived, qd, by_first, NULL, 0), EINVAL);
	assert_int_equal(demi_sort(&derived, qd, by_first, NULL, 65537), EINVAL);
	assert_int_equal(demi_sort(&derived, qd, NULL, NULL, 1), EINVAL);
	assert_int_equal(demi_merge(&derived, qd, 499), EBADF);
	assert_int_equal(demi_qconnect(499, qd), EBADF);
	assert_int_equal(demi_qconnect(qd, 499), EBADF);
	assert_int_equal(demi_qended(&qt, qd), ENOTCONN);
	assert_int_equal(demi_qended(NULL, qd), EINVAL);
	put(qd, "still good");
	get(qd, "still good");
	close_qd(qd);
}

/* ---- qconnect ---- */

static void test_connect_memory(void **state)
{
	int in = new_queue();
	int out = new_queue();
	demi_qtoken_t ended;
	demi_qtoken_t qt;

	(void)state;
	put(in, "before");
	assert_int_equal(demi_qconnect(in, out), 0);
	assert_int_equal(demi_qended(&ended, in), 0);
	assert_int_equal(demi_pop(&qt, in), EBUSY);
	put(in, "behind");
	get(out, "before");
	get(out, "behind");
	put(out, "beside");
	get(out, "beside");
	net_assert_pending(ended);
	assert_int_equal(demi_cancel(ended), 0);
	net_wait_failed(ended, ECANCELED);
	assert_int_equal(demi_qended(&ended, in), 0);
	close_qd(out);
	net_wait_failed(ended, ECANCELED);
	put(in, "mine again");
	get(in, "mine again");
	out = new_queue();
	assert_int_equal(demi_qconnect(in, out), 0);
	assert_int_equal(demi_qended(&ended, in), 0);
	close_qd(in);
	net_wait_failed(ended, ECANCELED);
	close_qd(out);
	expect_objects(0);
}

/* The end of a stream goes through a memory queue as such: what stands on that is not asked, and it
 * ends what it is passed to. */
static void test_connect_through_memory(void **state)
{
	demi_qtoken_t ended[2];
	int plain[2];
	int from = net_connected(AF_INET, &plain[0]);
	int to = net_connected(AF_INET, &plain[1]);
	int between = new_queue();
	int only_a = filtered(between, "a");
	char bytes[8];

	(void)state;
	assert_int_equal(demi_qconnect(from, between), 0);
	assert_int_equal(demi_qconnect(only_a, to), 0);
	assert_int_equal(demi_qended(&ended[0], from), 0);
	assert_int_equal(demi_qended(&ended[1], only_a), 0);
	asked = 0;
	plain_write(plain[0], "abc", 3);
	assert_int_equal(shutdown(plain[0], SHUT_WR), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(net_wait(ended[i]).qr_opcode, DEMI_OPC_CLOSE);
	assert_int_equal(plain_read(plain[1], bytes, sizeof(bytes)), 3);
	assert_memory_equal(bytes, "abc", 3);
	assert_int_equal(asked, 1);
	put(only_a, "again");
	get(only_a, "again");
	close_qd(only_a);
	close_qd(between);
	for (int i = 0; i < 2; i++) {
		close_qd(i ? to : from);
		(void)close(plain[i]);
	}
}

/* A log has no end: a stream that is recorded ends, and the log is the application's again. */
static void test_connect_log(void **state)
{
	demi_qtoken_t ended;
	int plain;
	int from = net_connected(AF_INET, &plain);
	int log;

	(void)state;
	assert_int_equal(demi_open(&log, "record", O_RDWR | O_CREAT, 0), 0);
	assert_int_equal(demi_qconnect(from, log), 0);
	assert_int_equal(demi_qended(&ended, from), 0);
	plain_write(plain, "abc", 3);
	assert_int_equal(shutdown(plain, SHUT_WR), 0);
	assert_int_equal(net_wait(ended).qr_opcode, DEMI_OPC_CLOSE);
	put(log, "def");
	get(log, "abc");
	get(log, "def");
	close_qd(log);
	close_qd(from);
	(void)close(plain);
}

/* A loop does not hold up the instance. */
static void test_connect_loop(void **state)
{
	int one = new_queue();
	int other = new_queue();
	int beside = new_queue();

	(void)state;
	assert_int_equal(demi_qconnect(one, other), 0);
	assert_int_equal(demi_qconnect(other, one), 0);
	put(one, "round");
	put(one, "and round");
	for (int i = 0; i < 100; i++) {
		put(beside, "x");
		get(beside, "x");
	}
	close_qd(one);
	close_qd(other);
	close_qd(beside);
	expect_objects(0);
}

struct proxy {
	int plain[2];
	int qd[2];
	demi_qtoken_t ended[2];
};

static void open_proxy(struct proxy *proxy)
{
	for (int i = 0; i < 2; i++)
		proxy->qd[i] = net_connected(AF_INET, &proxy->plain[i]);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(demi_qconnect(proxy->qd[i], proxy->qd[1 - i]), 0);
		assert_int_equal(demi_qended(&proxy->ended[i], proxy->qd[i]), 0);
	}
}

static void close_proxy(struct proxy *proxy)
{
	for (int i = 0; i < 2; i++) {
		close_qd(proxy->qd[i]);
		(void)close(proxy->plain[i]);
	}
}

static void poll_for_ms(int ms)
{
	uint64_t end = net_now_ns() + (uint64_t)ms * 1000000;
	static const struct timespec pause = {.tv_nsec = 1000000};

	while (net_now_ns() < end)
		(void)demi_sleep(&pause);
}

/* Polls until a plain socket has so many bytes. */
static void pull_plain(int fd, char *out, size_t bytes)
{
	uint64_t end = net_now_ns() + NET_WAIT_S * (uint64_t)1000000000;
	size_t got = 0;

	while (got < bytes && net_now_ns() < end) {
		ssize_t n = recv(fd, out + got, bytes - got, MSG_DONTWAIT);
		if (n > 0)
			got += (size_t)n;
		else
			poll_for_ms(1);
	}
	assert_int_equal(got, bytes);
}

/* A proxy is one call a direction; the end of each stream is passed on. */
static void test_proxy(void **state)
{
	struct proxy proxy;
	char bytes[16];

	(void)state;
	open_proxy(&proxy);
	plain_write(proxy.plain[0], "there", 5);
	pull_plain(proxy.plain[1], bytes, 5);
	assert_memory_equal(bytes, "there", 5);
	plain_write(proxy.plain[1], "and back", 8);
	pull_plain(proxy.plain[0], bytes, 8);
	assert_memory_equal(bytes, "and back", 8);
	assert_int_equal(shutdown(proxy.plain[0], SHUT_WR), 0);
	demi_qresult_t qr = net_wait(proxy.ended[0]);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_CLOSE);
	assert_int_equal(qr.qr_qd, proxy.qd[0]);
	poll_for_ms(1);
	assert_int_equal(recv(proxy.plain[1], bytes, 1, 0), 0);
	net_assert_pending(proxy.ended[1]); /* the other way goes on */
	plain_write(proxy.plain[1], "late", 4);
	pull_plain(proxy.plain[0], bytes, 4);
	assert_int_equal(shutdown(proxy.plain[1], SHUT_WR), 0);
	assert_int_equal(net_wait(proxy.ended[1]).qr_opcode, DEMI_OPC_CLOSE);
	close_proxy(&proxy);
	expect_spares();
}

/* An error closes both, and both ways; the descriptors tell it until they are closed. */
static void test_proxy_reset(void **state)
{
	struct proxy proxy;
	demi_qtoken_t qt;
	char byte;

	(void)state;
	open_proxy(&proxy);
	plain_reset(proxy.plain[0]);
	net_wait_failed(proxy.ended[0], ECONNRESET);
	net_wait_failed(proxy.ended[1], ECANCELED);
	poll_for_ms(1);
	assert_int_equal(recv(proxy.plain[1], &byte, 1, 0), 0);
	for (int i = 0; i < 2; i++) {
		demi_sgarray_t sga = net_array(&byte, 1);
		assert_int_equal(demi_pop(&qt, proxy.qd[i]), ECONNRESET);
		assert_int_equal(demi_push(&qt, proxy.qd[i], &sga), ECONNRESET);
		close_qd(proxy.qd[i]);
	}
	(void)close(proxy.plain[1]);
	expect_spares();
}

/* Who does not read stops who writes: the library holds no more than a few elements. */
static void test_proxy_backpressure(void **state)
{
	static char block[65536];
	struct proxy proxy;
	uint64_t written = 0;
	uint64_t read = 0;
	int quiet = 0;

	(void)state;
	open_proxy(&proxy);
	while (quiet < 20) {
		ssize_t n = send(proxy.plain[0], block, sizeof(block), MSG_DONTWAIT);
		if (n > 0)
			written += (uint64_t)n;
		quiet = n > 0 ? 0 : quiet + 1;
		poll_for_ms(1);
	}
	assert_true(usage().live_bytes < 32 << 20);
	while (read < written) {
		ssize_t n = recv(proxy.plain[1], block, sizeof(block), MSG_DONTWAIT);
		if (n > 0)
			read += (uint64_t)n;
		else
			poll_for_ms(1);
	}
	assert_int_equal(read, written);
	close_proxy(&proxy);
	poll_for_ms(1);
	expect_spares();
}

/* Operators in between, and the end of a stream through them. */
static void test_connect_through(void **state)
{
	int plain;
	int qd = net_connected(AF_INET, &plain);
	int out = new_queue();
	int only_a = filtered(qd, "a");
	int upper = mapped(only_a, to_upper);
	demi_qtoken_t ended;

	(void)state;
	assert_int_equal(demi_qconnect(upper, out), 0);
	assert_int_equal(demi_qended(&ended, upper), 0);
	plain_write(plain, "abc", 3);
	get(out, "ABC");
	plain_write(plain, "bcd", 3);
	poll_for_ms(2);
	plain_write(plain, "ade", 3);
	get(out, "ADE");
	(void)close(plain);
	assert_int_equal(net_wait(ended).qr_opcode, DEMI_OPC_CLOSE);
	get(out, ""); /* a memory queue has no other end */
	close_qd(upper);
	close_qd(only_a);
	close_qd(qd);
	close_qd(out);
	expect_spares();
}

/* Who sends an empty datagram does not end a connection: it is nothing in a stream. */
static void test_connect_empty(void **state)
{
	int plain;
	int out = net_connected(AF_INET, &plain);
	int in = net_bound(AF_INET, SOCK_DGRAM);
	struct net_address there = net_local(in);
	int sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[4];

	(void)state;
	assert_true(sender >= 0);
	assert_int_equal(demi_qconnect(in, out), 0);
	assert_int_equal(sendto(sender, "", 0, 0, &there.any, there.length), 0);
	poll_for_ms(1);
	assert_int_equal(sendto(sender, "abc", 3, 0, &there.any, there.length), 3);
	poll_for_ms(2);
	assert_int_equal(plain_read(plain, text, 3), 3);
	assert_memory_equal(text, "abc", 3);
	(void)close(sender);
	(void)close(plain);
	close_qd(in);
	close_qd(out);
	expect_spares();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, net_init, teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_filter_pops),
		TEST(test_filter_pushes),
		TEST(test_filter_pulls_on_demand),
		TEST(test_filter_of_many),
		TEST(test_map),
		TEST(test_map_fails),
		TEST(test_map_that_spoils),
		TEST(test_map_of_foreign_memory),
		TEST(test_map_push_that_waits),
		TEST(test_sort),
		TEST(test_sort_depth),
		TEST(test_sort_of_many),
		TEST(test_merge_pops),
		TEST(test_merge_pushes),
		TEST(test_merge_push_that_fails),
		TEST(test_merge_ends),
		TEST(test_datagrams),
		cmocka_unit_test_setup_teardown(test_logs, init_storage, teardown),
		TEST(test_ownership),
		TEST(test_source_closes),
		TEST(test_over_what_has_ended),
		TEST(test_cancel),
		TEST(test_pushes_that_wait),
		TEST(test_depth),
		TEST(test_depth_in_a_coroutine),
		TEST(test_calls_in_callbacks),
		TEST(test_bad_arguments),
		TEST(test_connect_memory),
		TEST(test_connect_through_memory),
		cmocka_unit_test_setup_teardown(test_connect_log, init_storage, teardown),
		TEST(test_connect_loop),
		TEST(test_proxy),
		TEST(test_proxy_reset),
		TEST(test_proxy_backpressure),
		TEST(test_connect_through),
		TEST(test_connect_empty),
	};

	return test_run("operator", tests);
}
