/* SPDX-License-Identifier: MIT
 * tests/threads/memory_test.c - heap memory that crosses threads: N instances hand pointers and
 * arrays to each other, owners end meanwhile, frees come late; in the end every heap is empty and
 * all memory given back. For the thread sanitizer, too.
 */
#include "support/test.h"

#include "base/prng.h"
#include "mem/heap.h"
#include "support/seed.h"

#include <demi/coroutine.h>
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/sga.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 6
#define ROUNDS  12
#define OBJECTS 400 /* of a thread in a round */
#define BOX     256

/* Threads do not jump out of a test: they count. */
static _Atomic uint32_t wrong;

static void expect(bool holds)
{
	wrong += !holds;
}

static const struct demi_args no_args = {.argc = 0};

/* -- parcels: memory on its way from one thread to another */

struct parcel {
	char *bytes;
	uint32_t length;
	uint32_t stamp;
	bool is_array;
	demi_sgarray_t sga;
};

static struct box {
	pthread_mutex_t lock;
	struct parcel parcels[BOX];
	uint32_t count;
} boxes[THREADS];

static bool put(struct box *box, const struct parcel *parcel)
{
	pthread_mutex_lock(&box->lock);
	bool fits = box->count < BOX;
	if (fits)
		box->parcels[box->count++] = *parcel;
	pthread_mutex_unlock(&box->lock);
	return fits;
}

static bool take(struct box *box, struct prng *prng, struct parcel *parcel)
{
	pthread_mutex_lock(&box->lock);
	bool some = box->count > 0;
	if (some) {
		struct parcel *drawn = &box->parcels[prng_below(prng, box->count)];
		*parcel = *drawn;
		*drawn = box->parcels[--box->count];
	}
	pthread_mutex_unlock(&box->lock);
	return some;
}

static void stamp_parcel(struct parcel *parcel)
{
	memset(parcel->bytes, (int)parcel->stamp, parcel->length < 64 ? parcel->length : 64);
	parcel->bytes[parcel->length - 1] = (char)parcel->stamp;
}

/* Looks at the bytes, writes over them, frees. The owner's next use of the memory must come after.
 */
static void free_parcel(struct parcel *parcel)
{
	expect(parcel->bytes[0] == (char)parcel->stamp);
	expect(parcel->bytes[parcel->length - 1] == (char)parcel->stamp);
	parcel->stamp++;
	stamp_parcel(parcel);
	if (parcel->is_array)
		expect(demi_sgafree(&parcel->sga) == 0);
	else
		expect(demi_free(parcel->bytes) == 0);
}

static uint32_t draw_size(struct prng *prng)
{
	switch (prng_below(prng, 10)) {
	case 0:
		return 1 + (uint32_t)prng_below(prng, HEAP_CLASS_MAX_BYTES);
	case 1:
		return prng_below(prng, 10) ? 40000 : 3 << 20;
	default:
		return 1 + (uint32_t)prng_below(prng, 2000);
	}
}

static bool make_parcel(struct prng *prng, struct parcel *parcel)
{
	*parcel = (struct parcel){.length = draw_size(prng),
				  .stamp = (uint32_t)prng_below(prng, 256),
				  .is_array = prng_below(prng, 2)};
	if (parcel->is_array) {
		parcel->sga = demi_sgaalloc(parcel->length);
		if (parcel->sga.sga_numsegs == 1)
			parcel->bytes = parcel->sga.sga_segs[0].sgaseg_buf;
	} else {
		parcel->bytes = demi_malloc(parcel->length);
	}
	expect(parcel->bytes != NULL);
	if (parcel->bytes)
		stamp_parcel(parcel);
	return parcel->bytes != NULL;
}

/* -- the threads */

struct worker {
	pthread_t thread;
	uint64_t seed;
	uint32_t number;
};

static void free_some(struct worker *worker, struct prng *prng, uint32_t count)
{
	struct parcel parcel;

	for (uint32_t i = 0; i < count; i++) {
		if (take(&boxes[worker->number], prng, &parcel))
			free_parcel(&parcel);
	}
}

/* Makes parcels for the others and frees what it was sent. */
static void exchange(struct worker *worker, struct prng *prng)
{
	for (uint32_t i = 0; i < OBJECTS; i++) {
		struct parcel parcel;
		if (!make_parcel(prng, &parcel))
			return;
		if (!put(&boxes[prng_below(prng, THREADS)], &parcel))
			free_parcel(&parcel);
		free_some(worker, prng, (uint32_t)prng_below(prng, 3));
		if (i % 64 == 0)
			expect(demi_yield() == 0); /* a turn: takes in others' frees */
	}
}

/* Instance after instance; between them frees of memory whose owner may be gone, on a thread
 * without an instance. */
static void *live(void *arg)
{
	struct worker *worker = arg;
	struct prng prng;

	prng_seed(&prng, worker->seed);
	for (int round = 0; round < ROUNDS; round++) {
		expect(demi_init(&no_args) == 0);
		exchange(worker, &prng);
		if (prng_below(&prng, 4))
			expect(demi_fini() == 0);
		else
			free_some(worker, &prng, 50);
		free_some(worker, &prng, (uint32_t)prng_below(&prng, 100));
		(void)demi_fini(); /* unless it ended above */
	}
	free_some(worker, &prng, BOX);
	return NULL;
}

/* Nothing of the range is in use: every heap was given back. */
static bool all_given_back(void)
{
	const struct pages_range *range = &pages_process.range;

	for (uint64_t at = 0; at < range->bytes; at += SUPERBLOCK_BYTES) {
		if (pages_find((void *)(range->base + at)))
			return false;
	}
	return true;
}

static uint32_t unused_heaps(void)
{
	uint32_t count = 0;

	for (const struct heap *heap = pages_process.heaps.unused; heap; heap = heap->pool_next)
		count++;
	return count;
}

static void test_exchange(void **state)
{
	struct worker workers[THREADS];
	struct prng prng;

	(void)state;
	wrong = 0;
	uint64_t seed = test_seed(9000);
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_mutex_init(&boxes[i].lock, NULL);
	for (uint32_t i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.seed = seed + i, .number = i};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, live, &workers[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	assert_int_equal(wrong, 0);
	/* What is still on its way has no owner any more. */
	prng_seed(&prng, seed);
	for (uint32_t i = 0; i < THREADS; i++) {
		struct parcel parcel;
		while (take(&boxes[i], &prng, &parcel))
			free_parcel(&parcel);
	}
	assert_int_equal(wrong, 0);
	assert_true(all_given_back());
	assert_in_range(unused_heaps(), 1, THREADS * ROUNDS);
}

/* -- one object, many references, freed by many threads at once */

#define REFERENCES 2000

struct shared {
	struct heap *heap;
	char *objects[64];
	pthread_barrier_t barrier;
};

static void *drop_references(void *arg)
{
	struct shared *shared = arg;

	pthread_barrier_wait(&shared->barrier);
	for (int i = 0; i < REFERENCES; i++)
		expect(heap_free(NULL, shared->objects[i % 64]) == 0);
	return NULL;
}

/* The owner drains while they drop, or has gone. */
static void share(bool close_early)
{
	struct shared shared;
	pthread_t threads[THREADS];
	struct heap_usage usage;

	wrong = 0;
	assert_int_equal(heap_open(&shared.heap, (uint64_t)1 << 30, PAGES_HUGE_NEVER), 0);
	pthread_barrier_init(&shared.barrier, NULL, THREADS + 1);
	for (int i = 0; i < 64; i++) {
		shared.objects[i] = heap_alloc(shared.heap, i % 2 ? 100000 : 3000);
		uint32_t drops = (REFERENCES / 64 + (i < REFERENCES % 64)) * THREADS;
		for (uint32_t k = 1; k < drops; k++) {
			heap_ref_library(shared.objects[i]);
			heap_hand_over(shared.objects[i]);
		}
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, drop_references, &shared), 0);
	pthread_barrier_wait(&shared.barrier);
	if (close_early) {
		heap_close(shared.heap);
	} else {
		do {
			heap_drain(shared.heap);
			heap_usage(shared.heap, &usage);
		} while (usage.live_objects > 0);
		heap_check(shared.heap);
		assert_int_equal(usage.remote_errors, 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (!close_early)
		heap_close(shared.heap);
	pthread_barrier_destroy(&shared.barrier);
	assert_int_equal(wrong, 0);
	assert_true(all_given_back());
}

static void test_shared(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		share(false);
		share(true);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_shared),
	};

	(void)setenv("DEMI_STAT_SOCKET", "off", 1);
	return test_run("memory", tests);
}
