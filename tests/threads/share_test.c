/* SPDX-License-Identifier: MIT
 * tests/threads/share_test.c - instances that share an interface over AF_XDP: their places, the
 * frames that they pass on to each other, and the memory that they share on one queue, by threads
 * at once.
 */
#include "support/test.h"

#include "base/bits.h"
#include "netdev/afxdp/mail.h"
#include "netdev/afxdp/pool.h"
#include "netdev/afxdp/share.h"
#include "netdev/spread/for_all.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 2000, LENGTH = 42 };

/* ---- places ---- */

static void test_places(void **state)
{
	const struct share_key key = {.index = 1, .process = 2, .first = 3, .count = 3};
	const struct share_key other = {.index = 1, .process = 9, .first = 3, .count = 3};
	struct share *share[4];
	uint32_t place;
	struct list all;

	(void)state;
	list_init(&all);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(share_take(&all, &key, SHARE_ANY, &share[i], &place), 0);
		assert_int_equal(place, i);
		assert_ptr_equal(share[i], share[0]);
	}
	assert_int_equal(share_take(&all, &key, SHARE_ANY, &share[3], &place), -EBUSY);
	assert_int_equal(share_take(&all, &key, 1, &share[3], &place), -EBUSY);
	/* Another process has places of its own. */
	assert_int_equal(share_take(&all, &other, SHARE_ANY, &share[3], &place), 0);
	assert_ptr_not_equal(share[3], share[0]);
	share_leave(share[3], place);
	/* The lowest free one is next, and one can be asked for. */
	share_leave(share[0], 1);
	share_leave(share[0], 2);
	assert_int_equal(share_take(&all, &key, SHARE_ANY, &share[1], &place), 0);
	assert_int_equal(place, 1);
	assert_int_equal(share_take(&all, &key, 2, &share[2], &place), 0);
	assert_int_equal(place, 2);
	for (uint32_t i = 0; i < 3; i++)
		share_leave(share[0], i);
	assert_true(list_empty(&all));
	/* One that gets none leaves no share behind. */
	assert_int_equal(share_take(&all, &key, 3, &share[0], &place), -EBUSY);
	assert_true(list_empty(&all));
}

/* ---- which frames are for all ---- */

static void test_which_frames(void **state)
{
	static const struct {
		uint16_t type;
		uint8_t at[4]; /* pairs of offset behind the Ethernet header and byte */
		bool for_all;
	} cases[] = {
		{0x0806, {7, 2, 0, 0}, true},      /* ARP reply */
		{0x0806, {7, 1, 0, 0}, false},     /* ARP request */
		{0x0800, {9, 1, 20, 3}, true},     /* ICMP unreachable */
		{0x0800, {9, 1, 20, 8}, false},    /* echo request: answered once */
		{0x0800, {9, 2, 20, 0x11}, true},  /* IGMP */
		{0x0800, {9, 6, 20, 3}, false},    /* TCP */
		{0x0800, {9, 17, 16, 239}, true},  /* UDP to a group */
		{0x0800, {9, 17, 16, 192}, false}, /* UDP */
		{0x0800, {9, 6, 16, 239}, false},  /* what is no datagram */
		{0x86dd, {6, 17, 24, 0xff}, true}, /* UDP to a group */
		{0x86dd, {6, 58, 40, 136}, true},  /* neighbour advertisement */
		{0x86dd, {6, 58, 40, 2}, true},    /* packet too big */
		{0x86dd, {6, 58, 40, 135}, false}, /* neighbour solicitation: answered once */
		{0x86dd, {6, 17, 40, 136}, false}, /* UDP */
		{0x1234, {9, 1, 20, 3}, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		for (uint32_t tag = 0; tag <= 4; tag += 4) {
			uint8_t frame[100] = {0};
			uint8_t *packet = frame + 14 + tag;
			frame[12] = 0x81;
			frame[12 + tag] = (uint8_t)(cases[i].type >> 8);
			frame[13 + tag] = (uint8_t)cases[i].type;
			packet[0] = 0x45;
			packet[cases[i].at[0]] = cases[i].at[1];
			if (cases[i].at[2])
				packet[cases[i].at[2]] = cases[i].at[3];
			assert_int_equal(frame_is_for_all(frame, sizeof(frame)), cases[i].for_all);
			for (uint32_t length = 0; length < 22 + tag; length++)
				assert_false(frame_is_for_all(frame, length) && length < 14 + tag);
		}
	}
}

/* ---- mailboxes ---- */

static void test_a_full_one_is_told(void **state)
{
	const uint8_t frame[LENGTH] = {1, 2, 3};
	uint8_t taken[MAIL_BYTES];
	struct mailbox *a;
	struct mailbox *b;
	struct mailbox *elsewhere;

	(void)state;
	assert_int_equal(mail_open(1, &a), 0);
	assert_int_equal(mail_open(1, &b), 0);
	assert_int_equal(mail_open(2, &elsewhere), 0);
	for (uint32_t i = 0; i < MAIL_SLOTS; i++)
		assert_int_equal(mail_pass_on(a, frame, LENGTH), 0);
	assert_int_equal(mail_pass_on(a, frame, LENGTH), 1);
	assert_false(mail_is_there(a));
	assert_false(mail_is_there(elsewhere));
	struct pollfd woken = {.fd = b->fd, .events = POLLIN};
	assert_int_equal(poll(&woken, 1, 0), 1);
	mail_woken(b);
	assert_int_equal(poll(&woken, 1, 0), 0);
	for (uint32_t i = 0; i < MAIL_SLOTS; i++) {
		assert_int_equal(mail_take(b, taken, sizeof(taken)), LENGTH);
		assert_memory_equal(taken, frame, LENGTH);
	}
	assert_int_equal(mail_take(b, taken, sizeof(taken)), 0);
	mail_close(a);
	mail_close(b);
	mail_close(elsewhere);
}

/* Threads that come, pass on, take and go at once. */
static void *pass_and_take(void *arg)
{
	uint8_t frame[LENGTH];
	uint8_t taken[MAIL_BYTES];
	uint64_t *wrong = arg;

	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct mailbox *box;
		if (mail_open(7, &box)) {
			++*wrong;
			return NULL;
		}
		memset(frame, (int)(round % 251), sizeof(frame));
		for (uint32_t i = 0; i < 4; i++)
			(void)mail_pass_on(box, frame, LENGTH);
		while (mail_is_there(box)) {
			if (mail_take(box, taken, sizeof(taken)) != LENGTH)
				++*wrong;
			for (uint32_t i = 1; i < LENGTH; i++)
				*wrong += taken[i] != taken[0];
		}
		mail_close(box);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];
	uint64_t wrong[THREADS] = {0};

	(void)state;
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, pass_and_take, &wrong[i]), 0);
	for (uint32_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(wrong[i], 0);
	}
}

/* ---- pools ---- */

enum { CHUNKS = 64, TAKEN_MAX = 8 };

static const struct grant_request pooled = {
	.memory_bytes = CHUNKS * (uint64_t)GRANT_FRAME_BYTES, .queue = 3, .queues = THREADS};

/* The kernel's ends of the rings, which the kernel does not move here. */
static struct rings {
	uint32_t published[2];
	uint32_t seen[2];
	uint64_t addresses[2][CHUNKS];
} rings;

static struct ring ring_of(uint32_t which)
{
	return (struct ring){.published = &rings.published[which],
			     .seen = &rings.seen[which],
			     .addresses = rings.addresses[which],
			     .mask = CHUNKS - 1};
}

static struct pool *open_pool(void)
{
	struct pool *pool;

	memset(&rings, 0, sizeof(rings));
	pool_begin_change();
	assert_int_equal(pool_join(1, &pooled, &pool), 0);
	pool_end_change();
	pool->fill = ring_of(0);
	pool->completion = ring_of(1);
	return pool;
}

static void close_pool(struct pool *pool)
{
	pool_begin_change();
	pool_leave(pool);
	pool_end_change();
}

static void test_pool(void **state)
{
	struct grant_request larger = pooled;
	struct pool *pool = open_pool();
	uint64_t offsets[CHUNKS + 1];
	struct pool *same;

	(void)state;
	/* One for a queue, with one memory. */
	pool_begin_change();
	assert_int_equal(pool_join(1, &pooled, &same), 0);
	assert_ptr_equal(same, pool);
	larger.memory_bytes *= 2;
	assert_int_equal(pool_join(1, &larger, &same), -EINVAL);
	assert_int_equal(pool_join(2, &pooled, &same), 0);
	assert_ptr_not_equal(same, pool);
	assert_int_not_equal(same->id, pool->id);
	pool_leave(same);
	pool_leave(pool);
	pool_end_change();
	/* All chunks, each once. */
	uint64_t seen = 0;
	assert_int_equal(pool_take(pool, offsets, CHUNKS + 1), CHUNKS);
	for (uint32_t i = 0; i < CHUNKS; i++)
		seen |= 1ULL << offsets[i] / GRANT_FRAME_BYTES;
	assert_int_equal(seen, UINT64_MAX);
	assert_int_equal(pool_take(pool, offsets, 1), 0);
	/* What the kernel says it sent is free again, but for what is not within. */
	rings.addresses[1][0] = offsets[5] + 100;
	rings.addresses[1][1] = pool->bytes;
	rings.addresses[1][2] = UINT64_MAX;
	rings.seen[1] = 3;
	assert_int_equal(pool_take(pool, offsets, 2), 1);
	assert_int_equal(offsets[0] % GRANT_FRAME_BYTES, 0);
	assert_int_equal(rings.published[1], 3);
	/* Nor is that received into, or read. */
	offsets[1] = pool->bytes;
	pool_refill(pool, offsets, 2);
	assert_int_equal(rings.published[0], 1);
	assert_int_equal(rings.addresses[0][0], offsets[0]);
	assert_non_null(pool_at(pool, pool->bytes - 10, 10));
	assert_null(pool_at(pool, pool->bytes - 10, 11));
	assert_null(pool_at(pool, pool->bytes, 0));
	assert_null(pool_at(pool, UINT64_MAX, 2));
	close_pool(pool);
}

/* What is in the rings of a socket that is closed stays nobody's no longer. */
static void test_pool_recovers(void **state)
{
	struct xdp_desc descs[2][4] = {0};
	uint32_t read = 1; /* by the kernel, of what is to be sent */
	uint32_t written = 2;
	uint32_t ours[2];
	struct pool *pool = open_pool();
	struct ring rx = {.published = &ours[0],
			  .seen = &written,
			  .descs = descs[0],
			  .mask = 3,
			  .map = descs};
	struct ring tx = {
		.published = &ours[1], .seen = &read, .descs = descs[1], .mask = 3, .map = descs};
	uint64_t offsets[5];

	(void)state;
	assert_int_equal(pool_take(pool, offsets, 5), 5);
	descs[0][0].addr = offsets[0] + 300;
	descs[0][1].addr = offsets[1] + 300;
	for (uint32_t i = 0; i < 3; i++)
		descs[1][i].addr = offsets[2 + i];
	tx.ours = 3;
	pool_recover(pool, &rx, &tx);
	assert_int_equal(rings.published[0], 2);
	assert_int_equal(rings.addresses[0][0], offsets[0]);
	assert_int_equal(pool->num_free, CHUNKS - 3); /* two to receive into, one is being sent */
	close_pool(pool);
}

static void *take_and_return(void *arg)
{
	uint64_t *wrong = arg;

	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint64_t offsets[TAKEN_MAX];
		struct pool *pool;
		pool_begin_change();
		int err = pool_join(1, &pooled, &pool);
		pool_end_change();
		if (err) {
			++*wrong;
			return NULL;
		}
		uint32_t n = pool_take(pool, offsets, TAKEN_MAX);
		for (uint32_t i = 0; i < n; i++)
			memset(pool->region + offsets[i], (int)round, 64);
		for (uint32_t i = 0; i < n; i++)
			*wrong += pool->region[offsets[i]] != (char)round;
		pool_return(pool, offsets, n);
		close_pool(pool);
	}
	return NULL;
}

static void test_pool_threads(void **state)
{
	pthread_t threads[THREADS];
	uint64_t wrong[THREADS] = {0};
	struct pool *pool = open_pool();

	(void)state;
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_and_return, &wrong[i]), 0);
	for (uint32_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(wrong[i], 0);
	}
	assert_int_equal(pool->num_free, CHUNKS);
	close_pool(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_which_frames),
		cmocka_unit_test(test_a_full_one_is_told),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_pool),
		cmocka_unit_test(test_pool_recovers),
		cmocka_unit_test(test_pool_threads),
	};

	return test_run("share", tests);
}
