/* SPDX-License-Identifier: MIT
 * tests/net/pipe_test.c - pipes over the public interface: names, errors, two instances on one
 * thread, real processes that talk, sleep, are killed, are somebody else.
 */
#include "support/test.h"

#include "api/instance.h"
#include "transport/shm/rendezvous.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB    (1U << 20)
#define NOBODY 65534

static char directory[64];
static const struct timespec no_time = {0, 0};
static const struct timespec patience = {10, 0};

/* ---- helpers, of parent and child ---- */

/* In a child nothing of cmocka's works. */
#define EXPECT(condition)                                                                        \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			(void)fprintf(stderr, "# %d: %s does not hold\n", __LINE__, #condition); \
			_exit(1);                                                                \
		}                                                                                \
	} while (0)

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void begin(const char *libos)
{
	static const struct demi_args args;

	EXPECT(demi_set_config("libos", libos) == 0);
	EXPECT(demi_set_config("shm_directory", directory) == 0);
	EXPECT(demi_set_config("stat_socket", "off") == 0);
	EXPECT(demi_init(&args) == 0);
}

static int64_t wait_ret(demi_qtoken_t qt, demi_qresult_t *qr)
{
	EXPECT(demi_wait(qr, qt, &patience) == 0);
	return qr->qr_opcode == DEMI_OPC_FAILED ? qr->qr_ret : 0;
}

static unsigned char byte_at(uint32_t seed, uint64_t i)
{
	return (unsigned char)((seed + i) * 2654435761U >> 13);
}

static demi_qtoken_t push_start(int qd, uint32_t bytes, uint32_t seed)
{
	demi_sgarray_t sga = demi_sgaalloc(bytes);
	demi_qtoken_t qt;

	EXPECT(sga.sga_numsegs == 1);
	unsigned char *at = sga.sga_segs[0].sgaseg_buf;
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = byte_at(seed, i);
	EXPECT(demi_push(&qt, qd, &sga) == 0);
	EXPECT(demi_sgafree(&sga) == 0);
	return qt;
}

static int64_t push(int qd, uint32_t bytes, uint32_t seed)
{
	demi_qresult_t qr;

	return wait_ret(push_start(qd, bytes, seed), &qr);
}

/* 0: an element of these bytes was popped; a positive errno; -1: the end. */
static int64_t pop(int qd, uint32_t bytes, uint32_t seed)
{
	demi_qresult_t qr;
	demi_qtoken_t qt;

	EXPECT(demi_pop(&qt, qd) == 0);
	int64_t err = wait_ret(qt, &qr);
	if (err)
		return err;
	const demi_sgarray_t *sga = &qr.qr_value.sga;
	EXPECT(sga->sga_numsegs == 1);
	const unsigned char *at = sga->sga_segs[0].sgaseg_buf;
	if (!at)
		return -1;
	EXPECT(sga->sga_segs[0].sgaseg_len == bytes);
	for (uint32_t i = 0; i < bytes; i++)
		EXPECT(at[i] == byte_at(seed, i));
	EXPECT(demi_sgafree(&qr.qr_value.sga) == 0);
	return 0;
}

/* One poll turn, in which nothing is to come. */
static void turn(int qd)
{
	demi_qtoken_t qt;
	demi_qresult_t qr;

	EXPECT(demi_pop(&qt, qd) == 0);
	EXPECT(demi_wait(&qr, qt, &no_time) == ETIMEDOUT);
	EXPECT(demi_cancel(qt) == 0);
	EXPECT(wait_ret(qt, &qr) == ECANCELED);
}

static int open_when_there(const char *name)
{
	uint64_t deadline = now_ms() + 10000;
	int qd;
	int err;

	while ((err = demi_open_pipe(&qd, name)) == ENOENT && now_ms() < deadline)
		usleep(1000);
	EXPECT(err == 0);
	return qd;
}

static pid_t start(void (*fn)(void))
{
	pid_t pid = fork();

	assert_return_code(pid, errno);
	if (pid == 0) {
		alarm(60);
		fn();
		_exit(0);
	}
	return pid;
}

static void expect_success(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int set_up(void **state)
{
	(void)state;
	begin("catmem");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return demi_fini();
}

/* ---- names ---- */

static void test_names(void **state)
{
	static const char *const bad[] = {
		"",         ".",
		"..",       ".a",
		"a/b",      "/",
		"a b",      "a\n",
		"\xc3\xa4", "0123456789012345678901234567890123456789012345678901234567890123"};
	static const char *const good[] = {
		"a",           "0",
		"-",           "_.-",
		"[::1]:80%lo", "012345678901234567890123456789012345678901234567890123456789012"};
	int qd;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(demi_create_pipe(&qd, bad[i]), EINVAL);
		assert_int_equal(demi_open_pipe(&qd, bad[i]), EINVAL);
	}
	assert_int_equal(demi_create_pipe(NULL, "a"), EINVAL);
	assert_int_equal(demi_create_pipe(&qd, NULL), EINVAL);
	assert_int_equal(demi_open_pipe(NULL, "a"), EINVAL);
	assert_int_equal(demi_open_pipe(&qd, NULL), EINVAL);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		int other;
		assert_int_equal(demi_open_pipe(&qd, good[i]), ENOENT);
		assert_int_equal(demi_create_pipe(&qd, good[i]), 0);
		assert_int_equal(demi_create_pipe(&other, good[i]), EEXIST);
		assert_int_equal(demi_close(qd), 0);
		assert_int_equal(demi_create_pipe(&qd, good[i]), 0);
		assert_int_equal(demi_close(qd), 0);
	}
}

/* Nothing of a name is left, and what others see of one is for its user alone. */
static void test_files(void **state)
{
	char path[128];
	struct stat status;
	int qd;

	(void)state;
	assert_int_equal(demi_create_pipe(&qd, "files"), 0);
	(void)snprintf(path, sizeof(path), "%s/pipe-files.sock", directory);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	(void)snprintf(path, sizeof(path), "%s/pipe-files.lock", directory);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(access(path, F_OK), -1);
	(void)snprintf(path, sizeof(path), "%s/pipe-files.sock", directory);
	assert_int_equal(access(path, F_OK), -1);
}

/* ---- one thread ---- */

/* `demi stat` shows that. */
static void expect_told(const char *what)
{
	size_t bytes;
	char *text = stat_document(thread_state.current, 0, &bytes);

	assert_non_null(text);
	if (!strstr(text, what))
		fail_msg("no %s in %s", what, text);
	free(text);
}

static void test_both_ends_here(void **state)
{
	int first;
	int second;
	int third;

	(void)state;
	assert_int_equal(demi_create_pipe(&first, "here"), 0);
	assert_int_equal(demi_open_pipe(&second, "here"), 0);
	assert_int_equal(demi_open_pipe(&third, "here"), EBUSY); /* one is waiting to be taken */
	assert_int_equal(push(second, 10, 1), 0);
	assert_int_equal(pop(first, 10, 1), 0);
	assert_int_equal(demi_open_pipe(&third, "here"), EBUSY); /* it was taken */
	assert_int_equal(push(first, 100000, 2), 0);
	assert_int_equal(pop(second, 100000, 2), 0);
	expect_told("\"libos\":\"catmem\"");
	expect_told("\"kind\":\"pipe\",\"state\":\"connected\"");
	expect_told("\"name\":\"here\"}");
	expect_told("\"pushes\":2,\"pops\":2,");
	expect_told("\"bytes_in\":100010,\"bytes_out\":100010,");
	assert_int_equal(demi_close(second), 0);
	assert_int_equal(pop(first, 0, 0), -1);
	assert_int_equal(push(first, 1, 1), EPIPE);
	assert_int_equal(demi_open_pipe(&third, "here"), EBUSY); /* two ends in a life */
	assert_int_equal(demi_create_pipe(&third, "here"), EEXIST);
	assert_int_equal(demi_close(first), 0);
	assert_int_equal(demi_open_pipe(&third, "here"), ENOENT);
}

/* From one pipe to another by demi_qconnect: elements, and the end behind them. */
static void test_connected(void **state)
{
	int in[2];
	int out[2];
	demi_qtoken_t ended;
	demi_qresult_t qr;

	(void)state;
	assert_int_equal(demi_create_pipe(&in[0], "in"), 0);
	assert_int_equal(demi_open_pipe(&in[1], "in"), 0);
	assert_int_equal(demi_create_pipe(&out[0], "out"), 0);
	assert_int_equal(demi_open_pipe(&out[1], "out"), 0);
	assert_int_equal(demi_qconnect(in[1], out[0]), 0);
	assert_int_equal(demi_qended(&ended, in[1]), 0);
	assert_int_equal(push(in[0], 10, 1), 0);
	assert_int_equal(push(in[0], 100000, 2), 0); /* it is copied: lent memory is lent to one */
	assert_int_equal(pop(out[1], 10, 1), 0);
	assert_int_equal(pop(out[1], 100000, 2), 0);
	assert_int_equal(demi_close(in[0]), 0);
	assert_int_equal(wait_ret(ended, &qr), 0);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_CLOSE);
	assert_int_equal(pop(out[1], 0, 0), -1);
	assert_int_equal(demi_close(in[1]), 0);
	assert_int_equal(demi_close(out[0]), 0);
	assert_int_equal(demi_close(out[1]), 0);
}

/* A push longer than the pipe has begun when nobody had opened that: closing it ends the push,
 * since nobody will. */
static void test_closed_before_opened(void **state)
{
	char *bytes = calloc(8, MIB);
	demi_sgarray_t sga = {.sga_numsegs = 1, .sga_segs = {{bytes, 8 * MIB}}};
	demi_qtoken_t qts[2];
	demi_qresult_t qr;
	int qd;

	(void)state;
	assert_non_null(bytes);
	assert_int_equal(demi_create_pipe(&qd, "alone"), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(demi_push(&qts[i], qd, &sga), 0);
	assert_int_equal(demi_wait(&qr, qts[0], &no_time), ETIMEDOUT);
	assert_int_equal(demi_close(qd), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(wait_ret(qts[i], &qr), ECANCELED);
	free(bytes);
}

static void test_two_instances(void **state)
{
	static const struct demi_args args;
	struct demi *a;
	struct demi *b;
	int qa;
	int qb;
	demi_qtoken_t qt;
	demi_qresult_t qr;

	(void)state;
	assert_int_equal(demi_fini(), 0);
	assert_int_equal(demi_create(&a, &args), 0);
	assert_int_equal(demi_create(&b, &args), 0);
	assert_int_equal(demi_enter(a), 0);
	assert_int_equal(demi_create_pipe(&qa, "two"), 0);
	assert_int_equal(demi_pop(&qt, qa), 0);
	assert_int_equal(demi_enter(b), 0);
	assert_int_equal(demi_open_pipe(&qb, "two"), 0);
	assert_int_equal(push(qb, 50, 5), 0);
	assert_int_equal(demi_enter(a), 0);
	assert_int_equal(wait_ret(qt, &qr), 0);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	assert_int_equal(push(qa, 300000, 6), 0);
	assert_int_equal(demi_enter(b), 0);
	assert_int_equal(pop(qb, 300000, 6), 0);
	assert_int_equal(demi_destroy(a), 0);
	assert_int_equal(demi_enter(b), 0);
	assert_int_equal(pop(qb, 0, 0), -1);
	assert_int_equal(demi_destroy(b), 0);
	(void)set_up(state);
}

static void test_no_sockets(void **state)
{
	int qd;

	(void)state;
	assert_int_equal(demi_socket(&qd, AF_INET, SOCK_STREAM, 0), ENOTSUP);
	assert_int_equal(demi_create_pipe(&qd, "plain"), 0);
	assert_int_equal(demi_listen(qd, 1), ENOTSUP);
	assert_int_equal(demi_shutdown(qd, SHUT_WR), ENOTSUP);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_queue(&qd), 0);
	assert_int_equal(push(qd, 10, 1), 0);
	assert_int_equal(pop(qd, 10, 1), 0);
	assert_int_equal(demi_close(qd), 0);
}

/* Beside another transport. */
static void test_catnap(void **state)
{
	int first;
	int second;

	assert_int_equal(demi_fini(), 0);
	begin("catnap");
	assert_int_equal(demi_create_pipe(&first, "here"), 0);
	assert_int_equal(demi_open_pipe(&second, "here"), 0);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(push(first, 1 + i * 997, i), 0);
		assert_int_equal(pop(second, 1 + i * 997, i), 0);
	}
	assert_int_equal(demi_fini(), 0);
	(void)set_up(state);
}

/* Long payload pops as it was pushed, segment by segment, and is busy until it was freed there; or
 * as one private copy. */
static void segments(const char *private, int expected)
{
	int first;
	int second;
	demi_qtoken_t qt;
	demi_qresult_t qr;
	demi_sgarray_t parts = {.sga_numsegs = 2};
	demi_sgarray_t halves[2];

	assert_int_equal(demi_fini(), 0);
	assert_int_equal(demi_set_config("shm_private", private), 0);
	begin("catmem");
	assert_int_equal(demi_create_pipe(&first, "here"), 0);
	assert_int_equal(demi_open_pipe(&second, "here"), 0);
	assert_int_equal(push(second, 1, 1), 0); /* both have each other's memory after that */
	assert_int_equal(pop(first, 1, 1), 0);
	assert_int_equal(push(first, 1, 1), 0);
	assert_int_equal(pop(second, 1, 1), 0);
	for (uint32_t i = 0; i < 2; i++) {
		halves[i] = demi_sgaalloc(10000);
		parts.sga_segs[i] = halves[i].sga_segs[0];
	}
	assert_int_equal(demi_push(&qt, first, &parts), 0);
	assert_int_equal(wait_ret(qt, &qr), 0);
	assert_int_equal(demi_sgabusy(&halves[0]), EBUSY);
	assert_int_equal(demi_pop(&qt, second), 0);
	assert_int_equal(wait_ret(qt, &qr), 0);
	demi_sgarray_t got = qr.qr_value.sga;
	assert_int_equal(got.sga_numsegs, 2);
	turn(second);
	assert_int_equal(demi_sgabusy(&halves[0]), expected);
	assert_int_equal(demi_sgafree(&got), 0);
	turn(second);
	assert_int_equal(demi_sgabusy(&halves[0]), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(demi_sgafree(&halves[i]), 0);
	assert_int_equal(demi_set_config("shm_private", NULL), 0);
}

static void test_segments(void **state)
{
	(void)state;
	segments("off", EBUSY);
	segments("on", 0);
}

/* ---- two processes ---- */

static const uint32_t sizes[] = {1,    48,   56,    57,     500,    169,
				 4096, 8192, 65536, 262144, 300000, 16 * MIB};

#define NUM_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void echo_child(void)
{
	begin("catmem");
	int qd = open_when_there("echo");
	for (uint32_t i = 0; i < NUM_SIZES * 3; i++) {
		EXPECT(pop(qd, sizes[i % NUM_SIZES], i) == 0);
		EXPECT(push(qd, sizes[i % NUM_SIZES], i + 1) == 0);
	}
	EXPECT(pop(qd, 0, 0) == -1);
	EXPECT(demi_fini() == 0);
}

static void test_echo(void **state)
{
	int qd;

	(void)state;
	pid_t pid = start(echo_child);
	begin("catmem");
	assert_int_equal(demi_create_pipe(&qd, "echo"), 0);
	for (uint32_t i = 0; i < NUM_SIZES * 3; i++) {
		assert_int_equal(push(qd, sizes[i % NUM_SIZES], i), 0);
		assert_int_equal(pop(qd, sizes[i % NUM_SIZES], i + 1), 0);
	}
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_fini(), 0);
	expect_success(pid);
}

/* More than fits, one way; the last is popped after the pusher's process is gone. */
static void pusher_child(void)
{
	begin("catmem");
	int qd = open_when_there("flood");
	for (uint32_t i = 0; i < 3000; i++)
		EXPECT(push(qd, 1 + i * 7 % 9000, i) == 0);
	EXPECT(demi_fini() == 0);
}

static void test_flood(void **state)
{
	int qd;

	(void)state;
	pid_t pid = start(pusher_child);
	begin("catmem");
	assert_int_equal(demi_create_pipe(&qd, "flood"), 0);
	for (uint32_t i = 0; i < 3000; i++) {
		if (i == 2990)
			usleep(50000);
		assert_int_equal(pop(qd, 1 + i * 7 % 9000, i), 0);
	}
	assert_int_equal(pop(qd, 0, 0), -1);
	assert_int_equal(demi_fini(), 0);
	expect_success(pid);
}

/* ---- sleep ---- */

#define PAUSES 20

static void pausing_child(void)
{
	begin("catmem");
	int qd = open_when_there("pauses");
	for (uint32_t i = 0; i < PAUSES; i++) {
		EXPECT(pop(qd, 8, i) == 0);
		usleep(10000);
		EXPECT(push(qd, 8, i) == 0);
	}
	EXPECT(pop(qd, 0, 0) == -1);
}

static uint64_t sleeps(void)
{
	return thread_state.current->sched.counters.count[COUNTER_SLEEPS];
}

/* Who waits sleeps, and is woken: once a pause, not again and again. */
static void test_sleep(void **state)
{
	int qd;

	(void)state;
	pid_t pid = start(pausing_child);
	begin("catmem");
	assert_int_equal(demi_create_pipe(&qd, "pauses"), 0);
	assert_int_equal(push(qd, 8, 0), 0);
	assert_int_equal(pop(qd, 8, 0), 0);
	uint64_t before = sleeps();
	for (uint32_t i = 1; i < PAUSES; i++) {
		assert_int_equal(push(qd, 8, i), 0);
		assert_int_equal(pop(qd, 8, i), 0);
	}
	assert_in_range(sleeps() - before, PAUSES - 1, 4 * PAUSES);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_fini(), 0);
	expect_success(pid);
}

/* In a foreign event loop: woken once an element, and not in between. */
static void test_event_loop(void **state)
{
	int qd;
	int fd;
	demi_qtoken_t qt;
	demi_qresult_t qr;
	uint32_t wakes = 0;

	(void)state;
	pid_t pid = start(pausing_child);
	begin("catmem");
	assert_int_equal(demi_create_pipe(&qd, "pauses"), 0);
	assert_int_equal(demi_event_fd(&fd), 0);
	for (uint32_t i = 0; i < PAUSES; i++) {
		assert_int_equal(push(qd, 8, i), 0);
		assert_int_equal(demi_pop(&qt, qd), 0);
		int err;
		while ((err = demi_wait(&qr, qt, &no_time)) == ETIMEDOUT) {
			struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
			if (demi_event_arm() == 0)
				wakes += poll(&poll_fd, 1, 10000) > 0;
		}
		assert_int_equal(err, 0);
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	}
	assert_in_range(wakes, PAUSES, 4 * PAUSES);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_fini(), 0);
	expect_success(pid);
}

/* ---- death ---- */

static int report[2];

/* Pushes long messages for ever: it is killed in the middle of one. */
static void endless_child(void)
{
	begin("catmem");
	int qd = open_when_there("death");
	for (uint32_t i = 0;; i++)
		EXPECT(push(qd, 8 * MIB, i) == 0);
}

/* Pops until the end, which is not an orderly one: how long after since_ms that was. */
static uint64_t pop_until_reset(int qd, uint32_t i, uint64_t since_ms)
{
	int64_t err;

	while ((err = pop(qd, 8 * MIB, i)) == 0)
		i++;
	assert_int_equal(err, ECONNRESET);
	return now_ms() - since_ms;
}

static uint64_t kill_pusher(void)
{
	int qd;
	demi_qresult_t qr;
	demi_qtoken_t qt;

	pid_t pid = start(endless_child);
	begin("catmem");
	assert_int_equal(demi_create_pipe(&qd, "death"), 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(pop(qd, 8 * MIB, i), 0);
	usleep(20000); /* the next is under way, as far as there is room */
	uint64_t killed_ms = now_ms();
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	uint64_t took = pop_until_reset(qd, 3, killed_ms);
	assert_int_equal(push(qd, 1, 1), ECONNRESET);
	assert_int_equal(demi_pop(&qt, qd), 0);
	assert_int_equal(wait_ret(qt, &qr), ECONNRESET);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_create_pipe(&qd, "death"), 0);
	assert_int_equal(demi_fini(), 0);
	return took;
}

/* The machine may be busy: one time of three is enough. */
static void test_killed_in_a_write(void **state)
{
	uint64_t best = UINT64_MAX;

	(void)state;
	for (uint32_t i = 0; i < 3 && best >= 100; i++) {
		uint64_t took = kill_pusher();
		best = took < best ? took : best;
	}
	assert_in_range(best, 0, 99);
}

/* Creates, tells, and waits for its death. */
static void creating_child(void)
{
	int qd;
	demi_qresult_t qr;
	demi_qtoken_t qt;

	begin("catmem");
	EXPECT(demi_create_pipe(&qd, "stale") == 0);
	EXPECT(pop(qd, 100000, 1) == 0);
	EXPECT(push(qd, 5, 5) == 0);
	EXPECT(demi_pop(&qt, qd) == 0);
	EXPECT(demi_wait(&qr, qt, NULL) == 0); /* an element that it keeps */
	EXPECT(write(report[1], "", 1) == 1);
	pause();
}

/* The name of one that was killed is free at once, and what it had been lent is ours again. Returns
 * how many milliseconds it was not noticed. */
static uint64_t kill_creator(const char *idle)
{
	int qd;
	demi_qtoken_t qt;
	demi_qresult_t qr;
	char byte;

	assert_int_equal(pipe2(report, O_CLOEXEC), 0);
	pid_t pid = start(creating_child);
	assert_int_equal(demi_set_config("idle", idle), 0);
	begin("catmem");
	qd = open_when_there("stale");
	assert_int_equal(push(qd, 100000, 1), 0);
	assert_int_equal(pop(qd, 5, 5), 0);
	demi_sgarray_t sga = demi_sgaalloc(100000);
	assert_int_equal(demi_push(&qt, qd, &sga), 0);
	assert_int_equal(wait_ret(qt, &qr), 0);
	assert_int_equal(read(report[0], &byte, 1), 1);
	assert_int_equal(demi_sgabusy(&sga), EBUSY);
	assert_int_equal(demi_pop(&qt, qd), 0);
	uint64_t killed_ms = now_ms();
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(wait_ret(qt, &qr), ECONNRESET);
	uint64_t took = now_ms() - killed_ms;
	assert_int_equal(demi_sgabusy(&sga), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_open_pipe(&qd, "stale"), ENOENT);
	assert_int_equal(demi_create_pipe(&qd, "stale"), 0);
	assert_int_equal(demi_fini(), 0);
	assert_int_equal(demi_set_config("idle", NULL), 0);
	close(report[0]);
	close(report[1]);
	return took;
}

static void expect_noticed(const char *idle)
{
	uint64_t best = UINT64_MAX;

	for (uint32_t i = 0; i < 3 && best >= 100; i++) { /* the machine may be busy */
		uint64_t took = kill_creator(idle);
		best = took < best ? took : best;
	}
	assert_in_range(best, 0, 99);
}

static void test_killed_creator(void **state)
{
	(void)state;
	expect_noticed("adaptive");
	expect_noticed("busy");
}

/* Those who connect and say nothing keep the instance from nothing, and others only until our
 * patience with them ends. */
static void silence(uint32_t count)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fds[RENDEZVOUS_VISITORS];
	int first;
	int second;
	demi_qtoken_t qt;
	demi_qresult_t qr;

	assert_int_equal(demi_create_pipe(&first, "silence"), 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/pipe-silence.sock",
		       directory);
	assert_int_equal(demi_pop(&qt, first), 0);
	for (uint32_t i = 0; i < count; i++) {
		fds[i] = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&address, sizeof(address)), 0);
		for (uint32_t n = 0; n < 40; n++) /* a look at the descriptors is in one of 32 */
			assert_int_equal(demi_wait(&qr, qt, &no_time), ETIMEDOUT);
	}
	assert_int_equal(demi_open_pipe(&second, "silence"), 0);
	assert_int_equal(push(second, 5, 5), 0);
	assert_int_equal(wait_ret(qt, &qr), 0);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
	assert_int_equal(demi_close(first), 0);
	assert_int_equal(demi_close(second), 0);
}

static void test_silent_visitors(void **state)
{
	uint64_t before = now_ms();

	(void)state;
	silence(RENDEZVOUS_VISITORS - 1);
	assert_true(now_ms() - before < CHANNEL_PATIENCE_NS / 1000000);
	before = now_ms();
	silence(RENDEZVOUS_VISITORS);
	assert_in_range(now_ms() - before, CHANNEL_PATIENCE_NS / 1000000 - 10, 9000);
}

/* ---- somebody else ---- */

static void stranger(void)
{
	int qd;

	EXPECT(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
	begin("catmem");
	EXPECT(demi_open_pipe(&qd, "strange") == EACCES);
}

static void friend_of_group(void)
{
	static const gid_t group = 4711;

	EXPECT(setgroups(1, &group) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
	EXPECT(demi_set_config("shm_group", "4711") == 0);
	begin("catmem");
	int qd = open_when_there("strange");
	EXPECT(push(qd, 100000, 1) == 0);
	EXPECT(pop(qd, 100000, 2) == 0);
	EXPECT(pop(qd, 0, 0) == -1);
}

static void test_strangers(void **state)
{
	int qd;

	(void)state;
	if (getuid() != 0)
		skip_because("privilege: to become another user");
	assert_int_equal(chmod(directory, 01777), 0);
	pid_t friend;
	begin("catmem");
	assert_int_equal(demi_create_pipe(&qd, "strange"), 0);
	expect_success(start(stranger));
	assert_int_equal(demi_fini(), 0);

	friend = start(friend_of_group);
	assert_int_equal(demi_set_config("shm_group", "4711"), 0);
	begin("catmem");
	assert_int_equal(demi_create_pipe(&qd, "strange"), 0);
	assert_int_equal(pop(qd, 100000, 1), 0);
	assert_int_equal(push(qd, 100000, 2), 0);
	assert_int_equal(demi_fini(), 0);
	expect_success(friend);
	assert_int_equal(demi_set_config("shm_group", NULL), 0);
	assert_int_equal(chmod(directory, 0700), 0);
}

static void test_no_group(void **state)
{
	int qd;

	(void)state;
	assert_int_equal(demi_set_config("shm_group", "nobody-is-in-it"), 0);
	begin("catmem");
	assert_int_equal(demi_create_pipe(&qd, "group"), EINVAL);
	assert_int_equal(demi_fini(), 0);
	assert_int_equal(demi_set_config("shm_group", NULL), 0);
}

static void test_unsafe_directory(void **state)
{
	int qd;

	(void)state;
	assert_int_equal(chmod(directory, 0777), 0);
	assert_int_equal(demi_create_pipe(&qd, "a"), EACCES);
	assert_int_equal(demi_open_pipe(&qd, "a"), EACCES);
	assert_int_equal(chmod(directory, 0700), 0);
	assert_int_equal(demi_create_pipe(&qd, "a"), 0);
	assert_int_equal(demi_close(qd), 0);
}

static int remove_directory(void **state)
{
	(void)state;
	return rmdir(directory); /* nothing is left in it */
}

static int make_directory(void **state)
{
	(void)state;
	(void)snprintf(directory, sizeof(directory), "/tmp/pipe-test-%d", (int)getpid());
	return mkdir(directory, 0700);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH(test_names),
		WITH(test_files),
		WITH(test_both_ends_here),
		WITH(test_connected),
		WITH(test_closed_before_opened),
		WITH(test_two_instances),
		WITH(test_no_sockets),
		WITH(test_catnap),
		WITH(test_segments),
		WITH(test_silent_visitors),
		WITH(test_unsafe_directory),
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_event_loop),
		cmocka_unit_test(test_killed_in_a_write),
		cmocka_unit_test(test_killed_creator),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_no_group),
	};

	return test_run_group("pipe", tests, sizeof(tests) / sizeof(tests[0]), make_directory,
			      remove_directory);
}
