/* SPDX-License-Identifier: MIT
 * tests/net/wait_test.c - waiting over sockets: timeouts, signals, several results at once, foreign
 * event loops, coroutines.
 */
#include "support/net.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#define MS 1000000 /* nanoseconds */

static const struct timespec no_time;
static const struct timespec bound = {.tv_sec = NET_WAIT_S};

/* ---- helpers ---- */

static struct timespec of_ms(int ms)
{
	return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * MS};
}

/* Writes later, from another thread. */
struct late {
	pthread_t thread;
	int fd;
	int ms;
	const char *bytes;
};

static void *write_late(void *arg)
{
	struct late *late = arg;

	net_sleep_ms(late->ms);
	(void)!write(late->fd, late->bytes, strlen(late->bytes));
	return NULL;
}

static void start_late(struct late *late, int fd, int ms, const char *bytes)
{
	*late = (struct late){.fd = fd, .ms = ms, .bytes = bytes};
	assert_int_equal(pthread_create(&late->thread, NULL, write_late, late), 0);
}

static void free_result(demi_qresult_t *qr)
{
	assert_int_equal(qr->qr_opcode, DEMI_OPC_POP);
	assert_int_equal(demi_sgafree(&qr->qr_value.sga), 0);
}

enum { MANY = 32 };

/* Connections with a pop outstanding on each. */
struct crowd {
	int qd[MANY];
	int plain[MANY];
	demi_qtoken_t qts[MANY];
};

static struct crowd crowd;

static int setup_crowd(void **state)
{
	(void)net_init(state);
	for (int i = 0; i < MANY; i++) {
		crowd.qd[i] = net_connected(AF_INET, &crowd.plain[i]);
		crowd.qts[i] = net_pop(crowd.qd[i]);
	}
	return 0;
}

static int teardown_crowd(void **state)
{
	for (int i = 0; i < MANY; i++)
		(void)close(crowd.plain[i]);
	return net_fini(state);
}

/* ---- timeouts ---- */

static void test_timeouts(void **state)
{
	static const int times_ms[] = {1, 3, 20, 100};
	demi_qresult_t qr;
	int n;

	(void)state;
	assert_int_equal(demi_wait(&qr, crowd.qts[0], &no_time), ETIMEDOUT);
	for (size_t i = 0; i < sizeof(times_ms) / sizeof(times_ms[0]); i++) {
		const struct timespec time = of_ms(times_ms[i]);
		for (int call = 0; call < 4; call++) {
			uint64_t start = net_now_ns();
			int err = call == 0   ? demi_wait(&qr, crowd.qts[0], &time)
				  : call == 1 ? demi_wait_any(&qr, &n, crowd.qts, MANY, &time)
				  : call == 2 ? demi_wait_next_n(&qr, 1, &n, &time)
					      : demi_wait_all(&qr, crowd.qts, 1, &time);
			uint64_t took = net_now_ns() - start;
			assert_int_equal(err, ETIMEDOUT);
			assert_true(took >= (uint64_t)times_ms[i] * MS);
			assert_true(took < (uint64_t)times_ms[i] * MS + 5000 * (uint64_t)MS);
		}
	}
	plain_write(crowd.plain[0], "still good", 10);
	qr = net_wait(crowd.qts[0]);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 10);
	free_result(&qr);
}

static void test_no_timeout_waits_on(void **state)
{
	struct late late;
	demi_qresult_t qr;

	(void)state;
	start_late(&late, crowd.plain[5], 100, "at last");
	assert_int_equal(demi_wait(&qr, crowd.qts[5], NULL), 0);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 7);
	free_result(&qr);
	assert_int_equal(pthread_join(late.thread, NULL), 0);
}

/* What is complete never times out. */
static void test_complete_is_complete(void **state)
{
	demi_qresult_t qr;

	(void)state;
	demi_qtoken_t qt = net_push_bytes(crowd.qd[0], "x", 1);
	assert_int_equal(demi_wait(&qr, qt, &no_time), 0);
	assert_int_equal(demi_wait(&qr, qt, &no_time), EINVAL); /* once */
	plain_write(crowd.plain[1], "y", 1);
	net_sleep_ms(1);
	int err;
	for (int i = 0; (err = demi_wait(&qr, crowd.qts[1], &no_time)) == ETIMEDOUT; i++)
		assert_true(i < 1000000);
	assert_int_equal(err, 0);
	free_result(&qr);
}

/* An idle policy that never sleeps, and one that sleeps at once. */
static void test_idle_policies(void **state)
{
	static const char *const policies[][2] = {
		{"idle", "busy"}, {"spin_us", "0"}, {"spin_us", "1000000"}};
	struct late late;
	demi_qresult_t qr;
	int plain;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(demi_set_config(policies[i][0], policies[i][1]), 0);
		(void)net_init(state);
		int qd = net_connected(AF_INET, &plain);
		demi_qtoken_t qt = net_pop(qd);
		const struct timespec time = of_ms(10);
		assert_int_equal(demi_wait(&qr, qt, &time), ETIMEDOUT);
		start_late(&late, plain, 20, "z");
		assert_int_equal(demi_wait(&qr, qt, &bound), 0);
		free_result(&qr);
		assert_int_equal(pthread_join(late.thread, NULL), 0);
		(void)close(plain);
		(void)net_fini(state);
		assert_int_equal(demi_set_config(policies[i][0], NULL), 0);
	}
}

/* ---- signals ---- */

static volatile sig_atomic_t ticks;

static void tick(int signal_number)
{
	(void)signal_number;
	ticks++;
}

static void start_ticking(void)
{
	const struct sigaction action = {.sa_handler = tick}; /* without SA_RESTART */
	const struct itimerval often = {{0, 500}, {0, 500}};

	ticks = 0;
	assert_return_code(sigaction(SIGALRM, &action, NULL), errno);
	assert_return_code(setitimer(ITIMER_REAL, &often, NULL), errno);
}

static void stop_ticking(void)
{
	const struct itimerval never = {{0, 0}, {0, 0}};

	assert_return_code(setitimer(ITIMER_REAL, &never, NULL), errno);
	assert_return_code(signal(SIGALRM, SIG_DFL) == SIG_ERR ? -1 : 0, errno);
}

static void test_signals(void **state)
{
	enum { BYTES = 16 << 20 };
	const struct timespec time = of_ms(100);
	demi_qresult_t qr;

	(void)state;
	start_ticking();
	uint64_t start = net_now_ns();
	int err = demi_wait(&qr, crowd.qts[0], &time);
	uint64_t took = net_now_ns() - start;
	/* And much data, in both directions of the calls that a signal may interrupt. */
	struct net_pair pair = net_tcp_pair(AF_INET);
	demi_sgarray_t sga = demi_sgaalloc(BYTES);
	net_stream_fill(1, 0, sga.sga_segs[0].sgaseg_buf, BYTES);
	demi_qtoken_t pushing = net_push(pair.client, &sga);
	assert_int_equal(demi_sgafree(&sga), 0);
	for (uint64_t got = 0; got < BYTES;) {
		qr = net_wait(net_pop(pair.server));
		const demi_sgaseg_t segment = qr.qr_value.sga.sga_segs[0];
		net_stream_check(1, got, segment.sgaseg_buf, segment.sgaseg_len);
		got += segment.sgaseg_len;
		free_result(&qr);
	}
	(void)net_wait(pushing);
	stop_ticking();
	net_close_pair(&pair);
	assert_int_equal(err, ETIMEDOUT);
	assert_true(took >= 100 * (uint64_t)MS);
	assert_true(ticks > 5);
}

/* ---- any ---- */

static void test_any_in_place(void **state)
{
	uint32_t random = 5;
	demi_qresult_t qr;
	int offset;

	(void)state;
	for (int round = 0; round < 500; round++) {
		random = random * 1664525 + 1013904223;
		int i = (int)(random >> 16) % MANY;
		plain_write(crowd.plain[i], "m", 1);
		assert_int_equal(demi_wait_any(&qr, &offset, crowd.qts, MANY, &bound), 0);
		assert_int_equal(offset, i);
		assert_int_equal(qr.qr_qt, crowd.qts[i]);
		assert_int_equal(qr.qr_qd, crowd.qd[i]);
		free_result(&qr);
		crowd.qts[i] = net_pop(crowd.qd[i]);
		if (round % 7 == 0) { /* tokens change their places */
			int j = (i * 5 + 1) % MANY;
			int k = (i * 3 + 2) % MANY;
			demi_qtoken_t qt = crowd.qts[j];
			int qd = crowd.qd[j];
			int plain = crowd.plain[j];
			crowd.qts[j] = crowd.qts[k];
			crowd.qd[j] = crowd.qd[k];
			crowd.plain[j] = crowd.plain[k];
			crowd.qts[k] = qt;
			crowd.qd[k] = qd;
			crowd.plain[k] = plain;
		}
	}
}

static void test_any_of_a_part(void **state)
{
	demi_qresult_t qr;
	int offset;

	(void)state;
	/* The others' results stay until they are asked for. */
	for (int i = 0; i < MANY; i++)
		plain_write(crowd.plain[i], "m", 1);
	for (int i = MANY - 1; i >= 0; i--) {
		assert_int_equal(demi_wait_any(&qr, &offset, &crowd.qts[i], 1, &bound), 0);
		assert_int_equal(offset, 0);
		assert_int_equal(qr.qr_qd, crowd.qd[i]);
		free_result(&qr);
	}
	assert_int_equal(demi_wait_any(&qr, &offset, crowd.qts, 1, &no_time), EINVAL);
}

/* Spent and made-up tokens among good ones, in arrays long and short. */
static void test_any_with_bad_tokens(void **state)
{
	static demi_qtoken_t qts[1000];
	demi_qresult_t qr;
	int offset;

	(void)state;
	for (int count = 2; count <= 1000; count += count < 32 ? 1 : 161) {
		for (int i = 0; i < count; i++)
			qts[i] = crowd.qts[i % MANY];
		qts[count / 2] = 987654321;
		const struct timespec time = of_ms(20);
		assert_int_equal(demi_wait_any(&qr, &offset, qts, count, &time), EINVAL);
	}
	net_assert_pending(crowd.qts[0]);
}

/* ---- next ---- */

static void test_next_n(void **state)
{
	demi_qresult_t qrs[MANY];
	const struct timespec time = of_ms(50);
	bool seen[MANY] = {false};
	int n = -1;

	(void)state;
	assert_int_equal(demi_wait_next_n(qrs, 4, &n, &no_time), ETIMEDOUT);
	assert_int_equal(n, 0);
	for (int i = 0; i < 5; i++)
		plain_write(crowd.plain[i], "m", 1);
	assert_int_equal(demi_wait_next_n(qrs, 3, &n, &bound), 0);
	assert_int_equal(n, 3);
	for (int i = 0; i < 3; i++) {
		seen[qrs[i].qr_qd - crowd.qd[0]] = true;
		free_result(&qrs[i]);
	}
	/* The rest, and no more: partial. */
	n = -1;
	assert_int_equal(demi_wait_next_n(qrs, MANY, &n, &time), ETIMEDOUT);
	assert_int_equal(n, 2);
	for (int i = 0; i < 2; i++) {
		assert_false(seen[qrs[i].qr_qd - crowd.qd[0]]);
		assert_int_equal(demi_wait(&(demi_qresult_t){0}, qrs[i].qr_qt, &no_time), EINVAL);
		free_result(&qrs[i]);
	}
}

/* In order of completion. */
static void test_next_n_in_order(void **state)
{
	enum { PUSHES = 20 };

	demi_qtoken_t qts[PUSHES];
	demi_qresult_t qrs[PUSHES];
	int n;

	(void)state;
	for (int i = 0; i < PUSHES; i++)
		qts[i] = net_push_bytes(crowd.qd[i % MANY], "x", 1);
	assert_int_equal(demi_wait_next_n(qrs, PUSHES, &n, &bound), 0);
	for (int i = 0; i < PUSHES; i++)
		assert_int_equal(qrs[i].qr_qt, qts[i]);
}

/* ---- all ---- */

static void test_all(void **state)
{
	demi_qresult_t qrs[MANY];
	const struct timespec time = of_ms(20);

	(void)state;
	assert_int_equal(demi_wait_all(qrs, crowd.qts, 0, NULL), 0);
	for (int i = 0; i < MANY - 1; i++)
		plain_write(crowd.plain[i], "m", 1);
	assert_int_equal(demi_wait_all(qrs, crowd.qts, MANY, &time), ETIMEDOUT);
	assert_int_equal(demi_wait_all(qrs, crowd.qts, MANY, &no_time), ETIMEDOUT);
	plain_write(crowd.plain[MANY - 1], "m", 1);
	assert_int_equal(demi_wait_all(qrs, crowd.qts, MANY, &bound), 0);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(qrs[i].qr_qt, crowd.qts[i]);
		assert_int_equal(qrs[i].qr_qd, crowd.qd[i]);
		free_result(&qrs[i]);
	}
	assert_int_equal(demi_wait_all(qrs, crowd.qts, MANY, &no_time), EINVAL);
}

/* Results of one kind beside failures of another. */
static void test_all_with_failures(void **state)
{
	demi_qresult_t qrs[3];

	(void)state;
	plain_reset(crowd.plain[0]);
	crowd.plain[0] = dup(crowd.plain[1]);
	plain_write(crowd.plain[1], "m", 1);
	assert_int_equal(demi_close(crowd.qd[2]), 0);
	assert_int_equal(demi_wait_all(qrs, crowd.qts, 3, &bound), 0);
	assert_int_equal(qrs[0].qr_opcode, DEMI_OPC_FAILED);
	assert_int_equal(qrs[0].qr_ret, ECONNRESET);
	assert_int_equal(qrs[2].qr_opcode, DEMI_OPC_FAILED);
	assert_int_equal(qrs[2].qr_ret, ECANCELED);
	free_result(&qrs[1]);
}

static void test_flush(void **state)
{
	char byte;

	(void)state;
	demi_qtoken_t qt = net_push_bytes(crowd.qd[0], "x", 1);
	assert_int_equal(demi_flush(), 0);
	assert_int_equal(plain_read(crowd.plain[0], &byte, 1), 1); /* without a wait */
	(void)net_wait(qt);
	assert_int_equal(demi_flush(), 0);
}

/* ---- foreign event loops ---- */

static bool readable(int fd, int ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	int n = poll(&poll_fd, 1, ms);

	assert_return_code(n, errno);
	return n > 0;
}

/* Arms, as an event loop does before it sleeps. */
static void arm(demi_qresult_t *results, int *num_results)
{
	for (int i = 0; demi_event_arm() == EAGAIN; i++) {
		int n;
		int err = demi_wait_next_n(&results[*num_results], 1, &n, &no_time);
		assert_true(err == 0 || err == ETIMEDOUT);
		*num_results += n;
		assert_true(i < 10000);
	}
}

static void test_event_loop(void **state)
{
	demi_qresult_t results[MANY];
	struct late late;
	int count = 0;
	int fd = -1;
	int same = -1;

	(void)state;
	assert_int_equal(demi_event_fd(&fd), 0);
	assert_int_equal(demi_event_fd(&same), 0);
	assert_int_equal(fd, same);
	for (int i = 0; i < 20; i++) {
		count = 0;
		arm(results, &count);
		assert_int_equal(count, 0);
		assert_false(readable(fd, 0));
		start_late(&late, crowd.plain[i], 2, "m");
		assert_true(readable(fd, NET_WAIT_S * 1000));
		while (count == 0) {
			assert_true(readable(fd, NET_WAIT_S * 1000));
			arm(results, &count);
		}
		assert_int_equal(count, 1);
		assert_int_equal(results[0].qr_qd, crowd.qd[i]);
		free_result(&results[0]);
		assert_int_equal(pthread_join(late.thread, NULL), 0);
	}
}

/* A result that is there already: EAGAIN until it is taken. */
static void test_event_arm_says_again(void **state)
{
	demi_qresult_t qr;
	int n;

	(void)state;
	(void)net_push_bytes(crowd.qd[0], "x", 1);
	assert_int_equal(demi_event_arm(), EAGAIN);
	assert_int_equal(demi_event_arm(), EAGAIN);
	assert_int_equal(demi_wait_next_n(&qr, 1, &n, &no_time), 0);
	assert_int_equal(demi_event_arm(), 0);
	assert_int_equal(demi_event_arm(), 0);
}

static void sleep_and_count(void *arg)
{
	const struct timespec time = of_ms(30);

	if (demi_sleep(&time) == 0)
		++*(int *)arg;
}

/* A coroutine's deadline makes the descriptor readable. */
static void test_event_fd_tells_deadlines(void **state)
{
	demi_qresult_t results[4];
	int slept = 0;
	int count = 0;
	int fd;

	(void)state;
	assert_int_equal(demi_event_fd(&fd), 0);
	assert_int_equal(demi_go(sleep_and_count, &slept), 0);
	assert_int_equal(demi_event_arm(), EAGAIN); /* it is to run first */
	arm(results, &count);
	uint64_t start = net_now_ns();
	while (!slept) {
		assert_true(readable(fd, NET_WAIT_S * 1000));
		arm(results, &count);
	}
	assert_true(net_now_ns() - start >= 20 * (uint64_t)MS);
	assert_int_equal(count, 0);
}

/* Inside an epoll of the application's. */
static void test_event_fd_in_epoll(void **state)
{
	struct epoll_event event = {.events = EPOLLIN};
	demi_qresult_t results[4];
	int outer = epoll_create1(EPOLL_CLOEXEC);
	int count = 0;
	int fd;

	(void)state;
	assert_int_equal(demi_event_fd(&fd), 0);
	assert_return_code(epoll_ctl(outer, EPOLL_CTL_ADD, fd, &event), errno);
	arm(results, &count);
	assert_int_equal(epoll_wait(outer, &event, 1, 0), 0);
	plain_write(crowd.plain[9], "m", 1);
	assert_int_equal(epoll_wait(outer, &event, 1, NET_WAIT_S * 1000), 1);
	arm(results, &count);
	assert_int_equal(count, 1);
	free_result(&results[0]);
	(void)close(outer);
}

/* ---- coroutines ---- */

struct worker {
	int qd;
	int rounds;
	int failed;
	bool done;
};

/* An echo, in blocking style. */
static void echo_worker(void *arg)
{
	struct worker *worker = arg;
	demi_qresult_t qr;

	for (;;) {
		int err = demi_blocking_pop(&qr, worker->qd);
		if (err || qr.qr_opcode != DEMI_OPC_POP) {
			worker->failed = err ? err : (int)qr.qr_ret;
			break;
		}
		demi_sgarray_t sga = qr.qr_value.sga;
		if (net_array_bytes(&sga) == 0)
			break;
		err = demi_blocking_push(&qr, worker->qd, &sga);
		if (err || qr.qr_opcode != DEMI_OPC_PUSH)
			worker->failed = err ? err : (int)qr.qr_ret;
		if (demi_sgafree(&sga))
			worker->failed = -1;
		worker->rounds++;
	}
	worker->done = true;
}

static void test_echo_workers(void **state)
{
	enum { ROUNDS = 200 };
	static struct worker workers[MANY];
	demi_qresult_t qr;
	char bytes[4];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(demi_cancel(crowd.qts[i]), 0);
		net_wait_failed(crowd.qts[i], ECANCELED);
		workers[i] = (struct worker){.qd = crowd.qd[i]};
		assert_int_equal(demi_go(echo_worker, &workers[i]), 0);
	}
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = round % 3; i < MANY; i += 3)
			plain_write(crowd.plain[i], "ping", 4);
		for (int i = round % 3; i < MANY; i += 3) {
			for (ssize_t got = 0; got < 4;) {
				ssize_t n =
					recv(crowd.plain[i], bytes, 4 - (size_t)got, MSG_DONTWAIT);
				got += n > 0 ? n : 0;
				assert_int_equal(demi_yield(), 0);
			}
		}
	}
	for (int i = 0; i < MANY; i++) {
		assert_return_code(shutdown(crowd.plain[i], SHUT_WR), errno);
		for (int j = 0; !workers[i].done; j++) {
			assert_int_equal(demi_yield(), 0);
			assert_true(j < 10000000);
		}
		assert_int_equal(workers[i].failed, 0);
		assert_true(workers[i].rounds >= ROUNDS / 3 - 1);
	}
	/* Theirs were theirs: nothing for the application. */
	int n;
	assert_int_equal(demi_wait_next_n(&qr, 1, &n, &no_time), ETIMEDOUT);
}

struct listening {
	int qd;
	int accepted;
	bool ended;
	struct worker workers[8];
};

/* A server as it is written: accepts, and starts a worker each. */
static void accept_worker(void *arg)
{
	struct listening *listening = arg;
	demi_qresult_t qr;
	demi_qtoken_t qt;

	while (demi_accept(&qt, listening->qd) == 0 && demi_wait(&qr, qt, NULL) == 0 &&
	       qr.qr_opcode == DEMI_OPC_ACCEPT) {
		struct worker *worker = &listening->workers[listening->accepted++];
		*worker = (struct worker){.qd = qr.qr_value.ares.qd};
		(void)demi_go(echo_worker, worker);
	}
	listening->ended = true;
}

static void test_a_server_of_coroutines(void **state)
{
	struct listening listening = {.qd = net_listener(AF_INET, 8)};
	struct net_address address = net_local(listening.qd);
	char bytes[4];

	(void)state;
	assert_int_equal(demi_go(accept_worker, &listening), 0);
	for (int i = 0; i < 8; i++) {
		/* Client and server in one thread: the client is this, and waits in the library
		 * too. */
		int qd = net_socket(AF_INET, SOCK_STREAM);
		assert_int_equal(net_wait(net_connect(qd, &address)).qr_opcode, DEMI_OPC_CONNECT);
		for (int j = 0; j < 10; j++) {
			(void)net_wait(net_push_bytes(qd, "ping", 4));
			demi_qresult_t qr = net_wait(net_pop(qd));
			memcpy(bytes, qr.qr_value.sga.sga_segs[0].sgaseg_buf, 4);
			assert_memory_equal(bytes, "ping", 4);
			free_result(&qr);
		}
		assert_int_equal(demi_close(qd), 0);
	}
	assert_int_equal(listening.accepted, 8);
	assert_int_equal(demi_close(listening.qd), 0); /* ends the accept, and so its coroutine */
	for (int i = 0; i < 1000 && !listening.ended; i++)
		assert_int_equal(demi_yield(), 0);
	assert_true(listening.ended);
}

/* What each call answers inside a coroutine. */
struct rules {
	int fini;
	int enter;
	int arm;
	int fd;
	int other_token;
	int own_token;
	int timed;
	demi_qtoken_t awaited; /* by another coroutine */
	demi_qtoken_t mine;
	bool done;
};

static void wait_for_token(void *arg)
{
	demi_qresult_t qr;
	const struct rules *rules = arg;

	if (demi_wait(&qr, rules->awaited, NULL) == 0 && qr.qr_opcode == DEMI_OPC_POP)
		(void)demi_sgafree(&qr.qr_value.sga);
}

static void try_rules(void *arg)
{
	struct rules *rules = arg;
	const struct timespec time = of_ms(5);
	demi_qresult_t qr;
	int fd;

	rules->fini = demi_fini();
	rules->enter = demi_enter(NULL);
	rules->arm = demi_event_arm();
	rules->fd = demi_event_fd(&fd);
	rules->other_token = demi_wait(&qr, rules->awaited, &no_time);
	rules->timed = demi_wait(&qr, rules->mine, &time);
	rules->own_token = demi_wait(&qr, rules->mine, NULL);
	if (rules->own_token == 0)
		(void)demi_sgafree(&qr.qr_value.sga);
	rules->done = true;
}

static void test_rules_inside_a_coroutine(void **state)
{
	struct rules rules = {.awaited = crowd.qts[0], .mine = crowd.qts[1]};
	demi_qresult_t qr;

	(void)state;
	assert_int_equal(demi_go(wait_for_token, &rules), 0);
	assert_int_equal(demi_go(try_rules, &rules), 0);
	const struct timespec time = of_ms(50);
	assert_int_equal(demi_sleep(&time), 0);
	assert_int_equal(rules.fini, EBUSY);
	assert_int_equal(rules.enter, EBUSY);
	assert_int_equal(rules.arm, EBUSY);
	assert_int_equal(rules.fd, 0);
	assert_int_equal(rules.other_token, EBUSY);
	assert_int_equal(rules.timed, ETIMEDOUT);
	assert_false(rules.done);
	/* Outside the same holds for tokens that a coroutine is blocked on. */
	assert_int_equal(demi_wait(&qr, crowd.qts[0], &no_time), EBUSY);
	assert_int_equal(demi_wait(&qr, crowd.qts[1], &no_time), EBUSY);
	plain_write(crowd.plain[1], "m", 1);
	for (int i = 0; !rules.done; i++) {
		assert_int_equal(demi_yield(), 0);
		assert_true(i < 10000000);
	}
	assert_int_equal(rules.own_token, 0);
	plain_write(crowd.plain[0], "m", 1);
	assert_int_equal(demi_sleep(&time), 0);
	assert_int_equal(demi_wait(&qr, crowd.qts[0], &no_time), EINVAL); /* spent */
}

/* What a coroutine leaves unredeemed becomes the application's. */
struct leaver {
	int qd;
	demi_qtoken_t popping;
	demi_qtoken_t pushing;
};

static void leave_behind(void *arg)
{
	struct leaver *leaver = arg;

	leaver->popping = net_pop(leaver->qd);
	leaver->pushing = net_push_bytes(leaver->qd, "x", 1);
}

static void test_operations_left_behind(void **state)
{
	struct leaver leaver = {.qd = crowd.qd[0]};
	int n;
	demi_qresult_t qr;

	(void)state;
	assert_int_equal(demi_cancel(crowd.qts[0]), 0);
	net_wait_failed(crowd.qts[0], ECANCELED);
	assert_int_equal(demi_go(leave_behind, &leaver), 0);
	uint64_t start = net_now_ns();
	assert_int_equal(demi_wait_next_n(&qr, 1, &n, &bound), 0);
	assert_true(net_now_ns() - start < (uint64_t)NET_WAIT_S * 500 * MS); /* it is woken */
	assert_int_equal(qr.qr_qt, leaver.pushing);
	plain_write(crowd.plain[0], "m", 1);
	qr = net_wait(leaver.popping);
	free_result(&qr);
}

/* Between a wait and its result others may run: the token is spent for them by then. */
struct thief {
	demi_qtoken_t token;
	int stolen;
	bool stop;
};

static void steal(void *arg)
{
	struct thief *thief = arg;
	demi_qresult_t qr;
	int offset;

	while (!thief->stop) {
		thief->stolen += demi_wait(&qr, thief->token, &no_time) != EINVAL;
		thief->stolen += demi_wait_any(&qr, &offset, &thief->token, 1, &no_time) != EINVAL;
		(void)demi_yield();
	}
}

static void test_a_token_is_spent_once(void **state)
{
	struct thief thief = {0};
	demi_qtoken_t qts[20] = {0};
	demi_qresult_t qr;
	int offset;
	int qd;

	(void)state;
	assert_int_equal(demi_queue(&qd), 0);
	assert_int_equal(demi_go(steal, &thief), 0);
	for (int i = 0; i < 300; i++) {
		thief.token = net_push_bytes(qd, "x", 1);
		if (i % 3 == 0) {
			assert_int_equal(demi_wait(&qr, thief.token, NULL), 0);
		} else if (i % 3 == 1) {
			assert_int_equal(demi_wait_any(&qr, &offset, &thief.token, 1, NULL), 0);
		} else {
			for (int j = 0; j < 20; j++)
				qts[j] = crowd.qts[j];
			qts[7] = thief.token;
			assert_int_equal(demi_wait_any(&qr, &offset, qts, 20, NULL), 0);
			assert_int_equal(offset, 7);
		}
		assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
		assert_int_equal(qr.qr_qt, thief.token);
		thief.token = net_pop(qd);
		qr = net_wait(thief.token);
		free_result(&qr);
	}
	thief.stop = true;
	assert_int_equal(demi_yield(), 0);
	assert_int_equal(thief.stolen, 0);
}

static void nap(void *arg)
{
	int *slept = arg;
	const struct timespec time = {.tv_nsec = (*slept % 10) * MS};

	*slept = demi_sleep(&time) == 0 && demi_yield() == 0 ? -1 : -2;
}

static bool all_slept(const int *slept, int count)
{
	int done = 0;

	while (done < count && slept[done] == -1)
		done++;
	return done == count;
}

static void test_many_sleepers(void **state)
{
	enum { SLEEPERS = 2000 };

	static int slept[SLEEPERS];
	const struct timespec time = of_ms(50);

	(void)state;
	for (int i = 0; i < SLEEPERS; i++) {
		slept[i] = i;
		assert_int_equal(demi_go(nap, &slept[i]), 0);
	}
	for (int naps = 0; naps < 200 && !all_slept(slept, SLEEPERS); naps++)
		assert_int_equal(demi_sleep(&time), 0);
	for (int i = 0; i < SLEEPERS; i++)
		assert_int_equal(slept[i], -1);
}

#define WITH_CROWD(test) cmocka_unit_test_setup_teardown(test, setup_crowd, teardown_crowd)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH_CROWD(test_timeouts),
		WITH_CROWD(test_no_timeout_waits_on),
		WITH_CROWD(test_complete_is_complete),
		cmocka_unit_test(test_idle_policies),
		WITH_CROWD(test_signals),
		WITH_CROWD(test_any_in_place),
		WITH_CROWD(test_any_of_a_part),
		WITH_CROWD(test_any_with_bad_tokens),
		WITH_CROWD(test_next_n),
		WITH_CROWD(test_next_n_in_order),
		WITH_CROWD(test_all),
		WITH_CROWD(test_all_with_failures),
		WITH_CROWD(test_flush),
		WITH_CROWD(test_event_loop),
		WITH_CROWD(test_event_arm_says_again),
		WITH_CROWD(test_event_fd_tells_deadlines),
		WITH_CROWD(test_event_fd_in_epoll),
		WITH_CROWD(test_echo_workers),
		WITH_CROWD(test_a_server_of_coroutines),
		WITH_CROWD(test_rules_inside_a_coroutine),
		WITH_CROWD(test_operations_left_behind),
		WITH_CROWD(test_a_token_is_spent_once),
		WITH_CROWD(test_many_sleepers),
	};

	return test_run("wait", tests);
}
