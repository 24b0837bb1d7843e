/* SPDX-License-Identifier: MIT
 * tests/unit/ring_test.c - netdev/ring/: frames through both ways of using it, full and empty
 * rings, two threads, no memory, and the end of one side before the other.
 */
#include "support/test.h"

#include "netdev/ring/ring.h"
#include "support/fault.h"
#include "support/rig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define MTU   1500
#define SLOTS 8

struct pair {
	struct rig rigs[2];
	struct netdev *ends[2];
};

static void pair_open(struct pair *p, uint32_t mtu)
{
	assert_int_equal(ring_pair(mtu, SLOTS, p->ends), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(rig_open(&p->rigs[i], &(struct rig_options){0}), 0);
		heap_set_frames(p->rigs[i].sched.heap, frame_object_bytes(mtu), 256);
		p->ends[i]->sched = &p->rigs[i].sched;
		assert_int_equal(p->ends[i]->ops->start(p->ends[i]), 0);
	}
}

static void pair_close(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		struct heap_usage usage;
		p->ends[i]->ops->close(p->ends[i]);
		heap_usage(p->rigs[i].sched.heap, &usage);
		assert_int_equal(usage.live_objects, 0);
		rig_close(&p->rigs[i]);
	}
}

static uint8_t byte_of(uint32_t number, uint32_t at)
{
	return (uint8_t)(number * 7 + at);
}

/* A frame of length bytes, those from split on in a segment. */
static struct frame *make(struct heap *heap, uint32_t number, uint32_t length, uint32_t split)
{
	struct frame *frame = frame_alloc_tx(heap, length);

	assert_non_null(frame);
	for (uint32_t i = 0; i < split; i++)
		frame->data[i] = byte_of(number, i);
	frame->length = split;
	if (split < length) {
		uint8_t *rest = heap_alloc(heap, length - split);
		assert_non_null(rest);
		for (uint32_t i = split; i < length; i++)
			rest[i - split] = byte_of(number, i);
		frame_append(frame, rest, length - split);
		assert_int_equal(heap_free(heap, rest), 0);
	}
	return frame;
}

static void check(const uint8_t *bytes, uint32_t length, uint32_t number, uint32_t expected)
{
	assert_int_equal(length, expected);
	for (uint32_t i = 0; i < length; i++)
		assert_int_equal(bytes[i], byte_of(number, i));
}

static uint32_t length_of(uint32_t number)
{
	return number % 3 == 0 ? MTU + 14 : 60 + number % 1000;
}

static void test_frames(void **state)
{
	struct pair p;
	struct frame *frames[SLOTS + 4];
	struct frame *got[SLOTS + 4];

	(void)state;
	pair_open(&p, MTU);
	for (uint32_t round = 0; round < 100; round++) {
		int from = (int)round & 1;
		struct netdev *tx = p.ends[from];
		struct netdev *rx = p.ends[!from];
		assert_int_equal(rx->ops->arm(rx), -ENOTSUP);
		assert_true(rx->ops->next_deadline(rx) == TIMER_NEVER);
		uint32_t count = 1 + round % (SLOTS + 4);
		uint32_t fit = count < SLOTS ? count : SLOTS;
		for (uint32_t i = 0; i < count; i++)
			frames[i] = make(tx->sched->heap, i + round, length_of(i + round),
					 i & 1 ? 40 : length_of(i + round));
		assert_int_equal(tx->ops->tx_burst(tx, frames, count), fit);
		assert_int_equal(rx->ops->arm(rx), -EAGAIN);
		assert_true(rx->ops->next_deadline(rx) == rx->sched->now_ns);
		assert_int_equal(rx->ops->rx_burst(rx, got, 1), 1);
		assert_int_equal(rx->ops->rx_burst(rx, got + 1, SLOTS + 3), fit - 1);
		for (uint32_t i = 0; i < fit; i++) {
			check(got[i]->data, got[i]->length, i + round, length_of(i + round));
			assert_int_equal(got[i]->flags, 0);
			frame_free(rx->sched->heap, got[i]);
		}
		if (fit < count)
			assert_true(tx->ops->next_deadline(tx) == tx->sched->now_ns);
		assert_int_equal(tx->ops->tx_burst(tx, frames + fit, count - fit), count - fit);
		assert_int_equal(rx->ops->rx_burst(rx, got, SLOTS), count - fit);
		for (uint32_t i = fit; i < count; i++)
			frame_free(rx->sched->heap, got[i - fit]);
	}
	assert_int_equal(p.ends[0]->stats.tx_frames, p.ends[1]->stats.rx_frames);
	assert_int_equal(p.ends[0]->stats.tx_bytes, p.ends[1]->stats.rx_bytes);
	assert_true(p.ends[0]->stats.tx_busy > 0);
	pair_close(&p);
}

static void test_slots(void **state)
{
	struct pair p;
	char bytes[2000] = "0123456789";
	const void *at;
	uint32_t length;

	(void)state;
	pair_open(&p, MTU);
	assert_false(ring_get(p.ends[1], &at, &length));
	const struct iovec two[] = {{bytes, 4}, {bytes + 4, 6}};
	const struct iovec long_one = {bytes, 1700};
	assert_int_equal(ring_put(p.ends[0], &long_one, 1), -EMSGSIZE);
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(ring_put(p.ends[0], two, 2), 0);
	assert_int_equal(ring_put(p.ends[0], two, 2), -EAGAIN);
	for (int i = 0; i < SLOTS; i++) {
		assert_true(ring_get(p.ends[1], &at, &length));
		assert_int_equal(length, 10);
		assert_memory_equal(at, bytes, 10);
		ring_done(p.ends[1]);
	}
	assert_false(ring_get(p.ends[1], &at, &length));
	assert_int_equal(ring_put(p.ends[0], two, 2), 0);

	/* what a foreign stack puts, our netdev receives, and the other way round */
	struct frame *frame;
	assert_int_equal(p.ends[1]->ops->rx_burst(p.ends[1], &frame, 1), 1);
	assert_int_equal(frame->length, 10);
	assert_int_equal((uintptr_t)(frame->data + 14) % 16, 0);
	frame_free(p.ends[1]->sched->heap, frame);
	frame = make(p.ends[1]->sched->heap, 5, 100, 50);
	assert_int_equal(p.ends[1]->ops->tx_burst(p.ends[1], &frame, 1), 1);
	assert_true(ring_get(p.ends[0], &at, &length));
	check(at, length, 5, 100);
	ring_done(p.ends[0]);
	pair_close(&p);
}

/* Without frames the ring keeps what has arrived. */
static void test_exhausted(void **state)
{
	struct pair p;
	struct frame *held[4096];
	uint32_t count = 0;
	struct frame *frame;

	(void)state;
	pair_open(&p, MTU);
	struct heap *heap = p.rigs[1].sched.heap;
	while (count < 4096 && (held[count] = frame_alloc(heap)))
		count++;
	assert_in_range(count, 256, 4095);
	frame = make(p.rigs[0].sched.heap, 1, 100, 100);
	assert_int_equal(p.ends[0]->ops->tx_burst(p.ends[0], &frame, 1), 1);
	assert_int_equal(p.ends[1]->ops->rx_burst(p.ends[1], &frame, 1), 0);
	frame_free(heap, held[--count]);
	assert_int_equal(p.ends[1]->ops->rx_burst(p.ends[1], &frame, 1), 1);
	check(frame->data, frame->length, 1, 100);
	frame_free(heap, frame);
	while (count > 0)
		frame_free(heap, held[--count]);
	pair_close(&p);
}

/* ---- two threads ---- */

#define MANY 200000

static void *produce(void *arg)
{
	struct netdev *end = arg;
	uint32_t number = 0;

	while (number < MANY) {
		uint32_t words[4] = {number, ~number, number * 3, number};
		const struct iovec iov[2] = {{words, 8}, {words + 2, 8}};
		if (ring_put(end, iov, 2) == 0)
			number++;
		else
			(void)sched_yield();
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct netdev *ends[2];
	pthread_t thread;
	uint32_t wrong = 0;

	(void)state;
	assert_int_equal(ring_pair(MTU, SLOTS, ends), 0);
	assert_int_equal(pthread_create(&thread, NULL, produce, ends[1]), 0);
	for (uint32_t number = 0; number < MANY;) {
		const void *at;
		uint32_t length;
		uint32_t words[4];
		if (!ring_get(ends[0], &at, &length)) {
			(void)sched_yield();
			continue;
		}
		memcpy(words, at, sizeof(words));
		wrong += length != 16 || words[0] != number || words[1] != ~number ||
			 words[2] != number * 3 || words[3] != number;
		ring_done(ends[0]);
		number++;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(wrong, 0);
	ends[0]->ops->close(ends[0]);
	ends[1]->ops->close(ends[1]);
}

static void test_no_memory(void **state)
{
	struct netdev *ends[2];
	uint32_t failed = 0;

	(void)state;
	struct fault_live before = fault_live();
	for (;; failed++) {
		fault_fail(failed + 1);
		int err = ring_pair(MTU, SLOTS, ends);
		if (!fault_off()) {
			assert_int_equal(err, 0);
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(fault_live().blocks, before.blocks);
	}
	assert_int_equal(failed, 5);
	ends[1]->ops->close(ends[1]);
	ends[0]->ops->close(ends[0]);
	assert_int_equal(fault_live().blocks, before.blocks);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames),    cmocka_unit_test(test_slots),
		cmocka_unit_test(test_exhausted), cmocka_unit_test(test_threads),
		cmocka_unit_test(test_no_memory),
	};

	return test_run("ring", tests);
}
