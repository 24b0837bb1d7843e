/* SPDX-License-Identifier: MIT
 * tests/threads/instance_test.c - instances and threads: the beginning of the process on many
 * threads at once, one instance a thread with queues and coroutines, an instance that is made on
 * one thread and entered on others. For the thread sanitizer, too.
 */
#include "support/test.h"

#include "base/process.h"

#include <demi/coroutine.h>
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 6

/* Threads do not jump out of a test: they count. */
static _Atomic uint32_t wrong;

static void expect(bool holds)
{
	wrong += !holds;
}

static const struct demi_args no_args = {.argc = 0};
static pthread_barrier_t barrier;

static void on_all_threads(void *(*fn)(void *), void *arg)
{
	pthread_t threads[THREADS];

	wrong = 0;
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, arg), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
	assert_int_equal(wrong, 0);
}

/* -- the first call of the process */

struct beginning {
	_Atomic int firsts;
};

static void *begin(void *arg)
{
	struct beginning *beginning = arg;
	bool anew;

	pthread_barrier_wait(&barrier);
	expect(process_begin(&anew) == 0);
	expect(process_alive());
	beginning->firsts += anew;
	return NULL;
}

static void test_begin(void **state)
{
	struct beginning beginning = {.firsts = 0};

	(void)state;
	assert_false(process_alive());
	on_all_threads(begin, &beginning);
	assert_int_equal(beginning.firsts, 1);
}

/* -- one instance a thread */

struct pipeline {
	int from;
	int to;
	uint32_t count;
	uint32_t done;
};

/* Passes elements on from one queue to the next. */
static void pass_on(void *arg)
{
	struct pipeline *pipeline = arg;
	demi_qresult_t qr;

	for (; pipeline->done < pipeline->count; pipeline->done++) {
		expect(demi_blocking_pop(&qr, pipeline->from) == 0);
		expect(qr.qr_opcode == DEMI_OPC_POP);
		demi_sgarray_t sga = qr.qr_value.sga;
		expect(demi_blocking_push(&qr, pipeline->to, &sga) == 0);
		expect(demi_sgafree(&sga) == 0);
	}
}

#define STAGES   8
#define ELEMENTS 500

/* Arrays that one thread leaves for another to free. */
static pthread_mutex_t left_lock = PTHREAD_MUTEX_INITIALIZER;
static demi_sgarray_t left[THREADS * ELEMENTS];
static uint32_t num_left;

static void leave_or_free(demi_sgarray_t *sga, uint32_t i)
{
	demi_sgarray_t other = {.sga_numsegs = 0};

	if (i % 2) {
		expect(demi_sgafree(sga) == 0);
		return;
	}
	pthread_mutex_lock(&left_lock);
	if (i % 4 && num_left > 0)
		other = left[--num_left];
	left[num_left++] = *sga;
	pthread_mutex_unlock(&left_lock);
	if (other.sga_numsegs)
		expect(demi_sgafree(&other) == 0);
}

static void *run_pipeline(void *unused)
{
	struct pipeline stages[STAGES];
	int queues[STAGES + 1];
	demi_qresult_t qr;

	(void)unused;
	expect(demi_init(&no_args) == 0);
	for (int i = 0; i <= STAGES; i++)
		expect(demi_queue(&queues[i]) == 0);
	for (int i = 0; i < STAGES; i++) {
		stages[i] = (struct pipeline){
			.from = queues[i], .to = queues[i + 1], .count = ELEMENTS};
		expect(demi_go(pass_on, &stages[i]) == 0);
	}
	for (uint32_t i = 0; i < ELEMENTS; i++) {
		demi_qtoken_t qt;
		demi_sgarray_t sga = demi_sgaalloc(64 + i);
		memcpy(sga.sga_segs[0].sgaseg_buf, &i, sizeof(i));
		expect(demi_push(&qt, queues[0], &sga) == 0 && demi_wait(&qr, qt, NULL) == 0);
		expect(demi_sgafree(&sga) == 0);
	}
	for (uint32_t i = 0; i < ELEMENTS; i++) {
		uint32_t value;
		expect(demi_blocking_pop(&qr, queues[STAGES]) == 0);
		demi_sgarray_t sga = qr.qr_value.sga;
		memcpy(&value, sga.sga_segs[0].sgaseg_buf, sizeof(value));
		expect(value == i && sga.sga_segs[0].sgaseg_len == 64 + i);
		leave_or_free(&sga, i);
	}
	expect(demi_fini() == 0);
	return NULL;
}

static void test_pipelines(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++) {
		on_all_threads(run_pipeline, NULL);
		while (num_left >
		       0) /* by a thread without an instance, after their owners have gone */
			assert_int_equal(demi_sgafree(&left[--num_left]), 0);
	}
}

/* -- one instance, several threads, one at a time */

struct traveller {
	struct demi *instance;
	int queue;
	_Atomic int inside;
	_Atomic uint32_t entered;
	_Atomic uint32_t refused;
};

static void use(struct traveller *traveller)
{
	demi_qresult_t qr;

	expect(traveller->inside++ == 0); /* nobody else */
	demi_sgarray_t sga = demi_sgaalloc(100);
	expect(sga.sga_numsegs == 1);
	memset(sga.sga_segs[0].sgaseg_buf, 1, 100);
	expect(demi_blocking_push(&qr, traveller->queue, &sga) == 0);
	expect(demi_sgafree(&sga) == 0);
	expect(demi_blocking_pop(&qr, traveller->queue) ==
	       0); /* what it or another thread pushed */
	sga = qr.qr_value.sga;
	expect(demi_sgafree(&sga) == 0);
	traveller->inside--;
}

static void *enter_and_use(void *arg)
{
	struct traveller *traveller = arg;

	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 2000; i++) {
		int err = demi_enter(traveller->instance);
		if (err) {
			expect(err == EBUSY);
			traveller->refused++;
			continue;
		}
		use(traveller);
		traveller->entered++;
		expect(demi_enter(NULL) == 0);
		expect(demi_flush() == ENOSYS);
	}
	return NULL;
}

static void *make(void *arg)
{
	struct traveller *traveller = arg;
	demi_qtoken_t qt;
	demi_qresult_t qr;

	expect(demi_create(&traveller->instance, &no_args) == 0);
	expect(demi_flush() == ENOSYS); /* made is not entered */
	expect(demi_enter(traveller->instance) == 0);
	expect(demi_queue(&traveller->queue) == 0);
	demi_sgarray_t sga = demi_sgaalloc(10);
	expect(demi_push(&qt, traveller->queue, &sga) == 0 && demi_wait(&qr, qt, NULL) == 0);
	expect(demi_sgafree(&sga) == 0);
	expect(demi_enter(NULL) == 0);
	return NULL;
}

static void *hold_entered(void *arg)
{
	struct traveller *traveller = arg;

	expect(demi_enter(traveller->instance) == 0);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	expect(demi_enter(NULL) == 0);
	return NULL;
}

static void test_travel(void **state)
{
	struct traveller traveller = {.queue = -1};
	pthread_t thread;

	(void)state;
	wrong = 0;
	assert_int_equal(pthread_create(&thread, NULL, make, &traveller), 0);
	pthread_join(thread, NULL);
	assert_int_equal(wrong, 0);
	on_all_threads(enter_and_use, &traveller);
	assert_true(traveller.entered > 0);

	/* Another thread is in it: neither entered nor ended. */
	pthread_barrier_init(&barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, hold_entered, &traveller), 0);
	pthread_barrier_wait(&barrier);
	assert_int_equal(demi_enter(traveller.instance), EBUSY);
	assert_int_equal(demi_destroy(traveller.instance), EBUSY);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&barrier);
	assert_int_equal(demi_destroy(traveller.instance), 0);
	assert_int_equal(wrong, 0);
}

/* -- threads that end without demi_fini */

static void *begin_and_leave(void *unused)
{
	int queue;
	demi_qtoken_t qt;

	(void)unused;
	expect(demi_init(&no_args) == 0);
	expect(demi_queue(&queue) == 0);
	demi_sgarray_t sga = demi_sgaalloc(1000);
	expect(demi_push(&qt, queue, &sga) == 0);
	expect(demi_sgafree(&sga) == 0);
	expect(demi_pop(&qt, queue) == 0);
	expect(demi_pop(&qt, queue) == 0);
	return NULL;
}

static uint32_t open_descriptors(void)
{
	uint32_t count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += dup2(fd, fd) == fd;
	return count;
}

static void test_thread_exit(void **state)
{
	(void)state;
	uint32_t before = open_descriptors();
	for (int i = 0; i < 20; i++)
		on_all_threads(begin_and_leave, NULL);
	assert_int_equal(open_descriptors(), before);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_begin),
		cmocka_unit_test(test_pipelines),
		cmocka_unit_test(test_travel),
		cmocka_unit_test(test_thread_exit),
	};

	(void)setenv("DEMI_STAT_SOCKET", "off", 1);
	return test_run("instance", tests);
}
