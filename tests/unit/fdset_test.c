/* SPDX-License-Identifier: MIT
 * tests/unit/fdset_test.c - sched/fdset.c: events and edges, watches that are removed while events
 * are handed out, more events than a batch, lazy ones, timeouts, signals, old kernels, errors.
 */
#include "support/test.h"

#include "base/bits.h"
#include "sched/fdset.h"
#include "support/rig.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct source {
	struct fd_watch watch;
	struct fdset *set;
	uint32_t called;
	uint32_t events;
	bool drains;
	struct source *removes; /* what its function removes */
	struct source *adds;    /* and adds, afterwards */
};

static void ring(const struct source *source)
{
	assert_int_equal(eventfd_write(source->watch.fd, 1), 0);
}

static void called(struct fd_watch *watch, uint32_t events)
{
	struct source *source = container_of(watch, struct source, watch);
	eventfd_t value;

	source->called++;
	source->events = events;
	if (source->drains)
		assert_int_equal(eventfd_read(watch->fd, &value), 0);
	if (source->removes)
		fdset_remove(source->set, &source->removes->watch);
	if (source->adds)
		assert_int_equal(fdset_add(source->set, &source->adds->watch, EPOLLIN), 0);
}

static void open_source(struct source *source, struct fdset *set, uint32_t events)
{
	*source = (struct source){
		.set = set, .watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .watch.fn = called};
	assert_true(source->watch.fd >= 0);
	if (events)
		assert_int_equal(fdset_add(set, &source->watch, events), 0);
}

static void close_source(struct source *source)
{
	fdset_remove(source->set, &source->watch);
	close(source->watch.fd);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void test_level_and_edge(void **state)
{
	struct fdset set;
	struct source level;
	struct source edge;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	open_source(&level, &set, EPOLLIN);
	open_source(&edge, &set, EPOLLIN | EPOLLET);
	assert_int_equal(set.watched, 2);
	assert_int_equal(fdset_wait(&set, 0), 0);
	ring(&level);
	ring(&edge);
	assert_int_equal(fdset_wait(&set, 0), 2);
	assert_int_equal(level.events, EPOLLIN);
	assert_int_equal(edge.events, EPOLLIN);
	assert_int_equal(fdset_wait(&set, 0),
			 1); /* nobody read it: only the level is still there */
	assert_int_equal(level.called, 2);
	assert_int_equal(edge.called, 1);
	level.drains = true;
	ring(&edge);
	assert_int_equal(fdset_wait(&set, 0), 2);
	assert_int_equal(fdset_wait(&set, 0), 0);
	assert_int_equal(edge.called, 2);
	close_source(&level);
	close_source(&edge);
	assert_int_equal(set.watched, 0);
	fdset_close(&set);
}

static void test_remove(void **state)
{
	struct fdset set;
	struct source one;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	open_source(&one, &set, 0);
	fdset_remove(&set, &one.watch); /* not watched: nothing */
	assert_int_equal(set.watched, 0);
	assert_int_equal(fdset_add(&set, &one.watch, EPOLLIN), 0);
	assert_true(one.watch.watched);
	assert_int_equal(fdset_add(&set, &one.watch, EPOLLIN), -EEXIST);
	assert_int_equal(set.watched, 1);
	ring(&one);
	fdset_remove(&set, &one.watch);
	fdset_remove(&set, &one.watch);
	assert_false(one.watch.watched);
	assert_int_equal(set.watched, 0);
	assert_int_equal(fdset_wait(&set, 0), 0);
	assert_int_equal(one.called, 0);
	assert_int_equal(fdset_add(&set, &one.watch, EPOLLIN), 0);
	assert_int_equal(fdset_wait(&set, 0), 1);
	close_source(&one);
	fdset_close(&set);
}

/* Events of a watch that was removed by another's function are not handed out, wherever in the
 * batch they stand. */
static void test_remove_during_dispatch(void **state)
{
	struct fdset set;
	struct source sources[8];
	uint32_t sum = 0;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(sources); i++)
		open_source(&sources[i], &set, EPOLLIN);
	for (size_t i = 0; i < ARRAY_LENGTH(sources); i++) {
		sources[i].removes = &sources[i ^ 1]; /* in pairs: whoever comes first */
		ring(&sources[i]);
	}
	(void)fdset_wait(&set, 0);
	for (size_t i = 0; i < ARRAY_LENGTH(sources); i += 2) {
		assert_int_equal(sources[i].called + sources[i + 1].called, 1);
		assert_int_equal(sources[i].watch.watched + sources[i + 1].watch.watched, 1);
		sum += sources[i].called + sources[i + 1].called;
	}
	assert_int_equal(sum, 4);
	assert_int_equal(set.watched, 4);
	for (size_t i = 0; i < ARRAY_LENGTH(sources); i++)
		close_source(&sources[i]);
	fdset_close(&set);
}

/* Its own watch removed, and the memory used for another: the old events are not that one's. */
static void test_remove_own_and_add(void **state)
{
	struct fdset set;
	struct source one;
	struct source two;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	open_source(&one, &set, EPOLLIN);
	open_source(&two, &set, 0);
	one.removes = &one;
	one.adds = &two;
	ring(&one);
	assert_int_equal(fdset_wait(&set, 0), 1);
	assert_int_equal(one.called, 1);
	assert_int_equal(two.called, 0);
	assert_false(one.watch.watched);
	assert_true(two.watch.watched);
	assert_int_equal(fdset_wait(&set, 0), 0);
	/* Removed and added again by another's function: reported anew, not from the old batch. */
	one.removes = one.adds = NULL;
	assert_int_equal(fdset_add(&set, &one.watch, EPOLLIN), 0);
	one.removes = one.adds = &two;
	two.removes = two.adds = &one;
	one.called = two.called = 0;
	ring(&two);
	(void)fdset_wait(&set, 0);
	assert_int_equal(one.called + two.called, 1);
	close_source(&one);
	close_source(&two);
	fdset_close(&set);
}

static void test_more_than_a_batch(void **state)
{
	static struct source sources[FDSET_BATCH * 2 + 10];
	struct fdset set;
	uint32_t sum = 0;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(sources); i++) {
		open_source(&sources[i], &set, EPOLLIN | EPOLLET);
		ring(&sources[i]);
	}
	assert_int_equal(fdset_wait(&set, 0), FDSET_BATCH);
	assert_int_equal(fdset_wait(&set, UINT64_MAX), FDSET_BATCH);
	assert_int_equal(fdset_wait(&set, 1000), 10);
	assert_int_equal(fdset_wait(&set, 0), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(sources); i++) {
		sum += sources[i].called == 1;
		close_source(&sources[i]);
	}
	assert_int_equal(sum, ARRAY_LENGTH(sources));
	fdset_close(&set);
}

static void test_lazy(void **state)
{
	struct fdset set;
	struct source lazy;
	struct source other;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	open_source(&lazy, &set, 0);
	lazy.watch.lazy = true;
	assert_int_equal(fdset_add(&set, &lazy.watch, EPOLLIN), 0);
	assert_int_equal(set.watched, 0);
	open_source(&other, &set, EPOLLIN);
	assert_int_equal(set.watched, 1);
	ring(&lazy);
	assert_int_equal(fdset_wait(&set, 0), 1);
	assert_int_equal(lazy.called, 1);
	close_source(&lazy);
	assert_int_equal(set.watched, 1);
	close_source(&other);
	assert_int_equal(set.watched, 0);
	fdset_close(&set);
}

static void test_timeouts(void **state)
{
	static const uint64_t timeouts[] = {1, 1000, 1000000, 1500000, 20000000};
	struct fdset set;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	for (int with_wait2 = 1; with_wait2 >= 0; with_wait2--) {
		set.wait2 = with_wait2; /* 0: as on a kernel before 5.11 */
		for (size_t i = 0; i < ARRAY_LENGTH(timeouts); i++) {
			uint64_t before = now_ns();
			assert_int_equal(fdset_wait(&set, timeouts[i]), 0);
			uint64_t took = now_ns() - before;
			assert_true(took >= timeouts[i]);
			assert_true(took < timeouts[i] + 2000000000);
		}
	}
	fdset_close(&set);
}

/* Timeouts beyond what the calls can take wait, rather than fail at once. */
static void test_long_timeouts(void **state)
{
	static const uint64_t timeouts[] = {UINT64_MAX, UINT64_MAX - 1,
					    (uint64_t)INT32_MAX * 1000000, (uint64_t)1 << 62};
	const struct itimerval soon = {.it_value.tv_usec = 20000};
	struct fdset set;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	for (int with_wait2 = 1; with_wait2 >= 0; with_wait2--) {
		set.wait2 = with_wait2;
		for (size_t i = 0; i < ARRAY_LENGTH(timeouts); i++) {
			uint64_t before = now_ns();
			assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
			assert_int_equal(fdset_wait(&set, timeouts[i]), 0); /* the signal ends it */
			assert_true(now_ns() - before > 10000000);
		}
	}
	fdset_close(&set);
}

static void nothing(int number)
{
	(void)number;
}

static void test_errors(void **state)
{
	struct fd_watch watch = {.fd = -1, .fn = called};
	struct fdset set;

	(void)state;
	assert_int_equal(fdset_open(&set), 0);
	assert_int_equal(fdset_add(&set, &watch, EPOLLIN), -EBADF);
	assert_false(watch.watched);
	assert_int_equal(set.watched, 0);
	watch.fd = set.epoll_fd;
	assert_int_equal(fdset_add(&set, &watch, EPOLLIN), -EINVAL);
	assert_false(watch.watched);
	fdset_close(&set);
	fdset_close(&set);
	assert_int_equal(set.epoll_fd, -1);
	assert_int_equal(fdset_add(&set, &watch, EPOLLIN), -EBADF);
	assert_int_equal(fdset_wait(&set, 0), 0);
}

static uint32_t long_turn(struct rig *rig, void *arg)
{
	(void)arg;
	rig->now_ns += 1000000;
	return 1;
}

/* Lazy ones are looked at seldom, by turns, but not so seldom when these are long. */
static void test_long_turns(void **state)
{
	struct source lazy;
	struct rig rig;

	(void)state;
	assert_int_equal(rig_open(&rig, &(struct rig_options){0}), 0);
	rig.input = long_turn;
	open_source(&lazy, &rig.sched.fds, 0);
	lazy.watch.lazy = true;
	assert_int_equal(fdset_add(&rig.sched.fds, &lazy.watch, EPOLLIN), 0);
	ring(&lazy);
	for (uint32_t turn = 0; turn < 100; turn++)
		(void)sched_turn(&rig.sched);
	assert_true(lazy.called >= 1);
	close_source(&lazy);
	rig_close(&rig);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_level_and_edge),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_remove_during_dispatch),
		cmocka_unit_test(test_remove_own_and_add),
		cmocka_unit_test(test_more_than_a_batch),
		cmocka_unit_test(test_lazy),
		cmocka_unit_test(test_long_turns),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_long_timeouts),
		cmocka_unit_test(test_errors),
	};
	struct sigaction action = {.sa_handler = nothing};

	sigaction(SIGALRM, &action, NULL);
	return test_run("fdset", tests);
}
