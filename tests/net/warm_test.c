/* SPDX-License-Identifier: MIT
 * tests/net/warm_test.c - the warm path: an echo that goes on takes no memory from the system, and
 * makes no system call but those of its sockets.
 *
 * Memory is counted by support/fault.h.  System calls are counted by a seccomp filter in a child:
 * what is not of sockets and epoll raises SIGSYS, whose handler counts.
 */
#include "support/net.h"

#include "support/fault.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WARM_UP = 200, ROUNDS = 1000 };

struct echo {
	const char *name;
	int type;
	uint32_t bytes;
	uint32_t segments; /* of a push of the client's */
	bool foreign;      /* pushed from memory that is not the heap's */
	int connections;   /* active in turn */
};

static const struct echo echoes[] = {
	{"tcp 64", SOCK_STREAM, 64, 1, false, 1},
	{"tcp 64, foreign memory", SOCK_STREAM, 64, 1, true, 1},
	{"tcp 16384", SOCK_STREAM, 16384, 1, false, 1},
	{"tcp 1000, 5 segments", SOCK_STREAM, 1000, 5, false, 1},
	{"tcp 64, 16 connections", SOCK_STREAM, 64, 1, false, 16},
	{"udp 64", SOCK_DGRAM, 64, 1, false, 1},
	{"udp 1400", SOCK_DGRAM, 1400, 1, false, 1},
	{"udp 0", SOCK_DGRAM, 0, 1, true, 1},
};

#define NUM_ECHOES (sizeof(echoes) / sizeof(echoes[0]))

/* ---- the echo, which may run in a child: it answers false, and asserts nothing ---- */

struct ends {
	int client[16];
	int server[16];
	struct net_address address;
};

static void open_ends(struct ends *ends, const struct echo *echo)
{
	for (int i = 0; i < echo->connections; i++) {
		if (echo->type == SOCK_STREAM) {
			struct net_pair pair = net_tcp_pair(AF_INET);
			ends->client[i] = pair.client;
			ends->server[i] = pair.server;
		} else {
			ends->client[i] = net_bound(AF_INET, SOCK_DGRAM);
			ends->server[i] = net_bound(AF_INET, SOCK_DGRAM);
			ends->address = net_local(ends->server[i]);
		}
	}
}

/* The client's message: in heap memory anew, or in the application's own. */
static demi_sgarray_t message(const struct echo *echo)
{
	static char own[65536];
	demi_sgarray_t sga = net_array(own, echo->bytes);

	if (echo->foreign)
		return sga;
	sga.sga_numsegs = echo->segments;
	for (uint32_t i = 0; i < echo->segments; i++) {
		sga.sga_segs[i].sgaseg_buf = demi_malloc(echo->bytes / echo->segments);
		sga.sga_segs[i].sgaseg_len = echo->bytes / echo->segments;
	}
	return sga;
}

static bool finish(demi_qtoken_t qt, demi_qresult_t *qr)
{
	return demi_wait(qr, qt, NULL) == 0 && qr->qr_opcode != DEMI_OPC_FAILED;
}

/* Pops a message, which may come in parts, and passes the parts to a queue; to NULL: of a stream.
 */
static bool pass_on(int from, int to, bool datagram, uint32_t bytes)
{
	demi_qresult_t qr;
	demi_qtoken_t qt;
	uint64_t got = 0;

	do {
		if (demi_pop(&qt, from) || !finish(qt, &qr))
			return false;
		demi_sgarray_t sga = qr.qr_value.sga;
		got += net_array_bytes(&sga);
		if (to >= 0) {
			struct sockaddr_in source = sga.sga_addr;
			int err = datagram ? demi_pushto(&qt, to, &sga, (struct sockaddr *)&source,
							 sizeof(source))
					   : demi_push(&qt, to, &sga);
			if (err || !finish(qt, &qr))
				return false;
		}
		if (demi_sgafree(&sga))
			return false;
	} while (got < bytes);
	return true;
}

static bool once(const struct ends *ends, const struct echo *echo, int round)
{
	int i = round / 20 % echo->connections;
	bool datagram = echo->type == SOCK_DGRAM;
	demi_sgarray_t sga = message(echo);
	demi_qresult_t qr;
	demi_qtoken_t qt;
	int err = datagram ? demi_pushto(&qt, ends->client[i], &sga, &ends->address.any,
					 ends->address.length)
			   : demi_push(&qt, ends->client[i], &sga);

	return !err && (echo->foreign || demi_sgafree(&sga) == 0) && finish(qt, &qr) &&
	       pass_on(ends->server[i], ends->server[i], datagram, echo->bytes) &&
	       pass_on(ends->client[i], -1, datagram, echo->bytes);
}

static bool rounds(const struct ends *ends, const struct echo *echo, int count)
{
	for (int i = 0; i < count; i++) {
		if (!once(ends, echo, i))
			return false;
	}
	return true;
}

/* ---- memory ---- */

static void test_no_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < NUM_ECHOES; i++) {
		struct ends ends;
		(void)net_init(state);
		open_ends(&ends, &echoes[i]);
		assert_true(rounds(&ends, &echoes[i], WARM_UP * echoes[i].connections));
		uint64_t before = fault_calls();
		assert_true(rounds(&ends, &echoes[i], ROUNDS));
		if (fault_calls() != before)
			fail_msg("%s: %d allocations of the system", echoes[i].name,
				 (int)(fault_calls() - before));
		(void)net_fini(state);
	}
}

static void coroutine_work(void *arg)
{
	int *done = arg;

	(void)demi_yield();
	++*done;
}

/* Memory queues and coroutines, too. */
static void test_no_memory_for_queues_and_coroutines(void **state)
{
	const struct timespec no_time = {0};
	int done = 0;
	int qd;
	uint64_t before = 0;

	(void)net_init(state);
	assert_int_equal(demi_queue(&qd), 0);
	for (int round = 0; round < WARM_UP + ROUNDS; round++) {
		if (round == WARM_UP)
			before = fault_calls();
		assert_int_equal(demi_go(coroutine_work, &done), 0);
		(void)net_wait(net_push_bytes(qd, "element", 7));
		net_pop_bytes(qd, "element", 7);
		assert_int_equal(demi_sleep(&no_time), 0);
	}
	assert_true(done >= WARM_UP + ROUNDS - 10);
	assert_int_equal(fault_calls() - before, 0);
	(void)net_fini(state);
}

/* ---- system calls ---- */

#ifdef __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

static volatile sig_atomic_t strangers; /* system calls that are not the socket's */
static volatile sig_atomic_t last_stranger;

static void count_stranger(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	strangers++;
	last_stranger = info->si_syscall;
}

#define ALLOW(name)                                             \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static bool trap_strangers(void)
{
	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(recvfrom),
		ALLOW(recvmsg),
		ALLOW(sendto),
		ALLOW(sendmsg),
		ALLOW(epoll_ctl),
#ifdef __NR_epoll_wait
		ALLOW(epoll_wait),
#endif
		ALLOW(epoll_pwait),
		ALLOW(epoll_pwait2),
		ALLOW(rt_sigreturn), /* the handler's own, and the end */
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
	struct sigaction action = {.sa_sigaction = count_stranger, .sa_flags = SA_SIGINFO};

	return sigaction(SIGSYS, &action, NULL) == 0 &&
	       prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

enum { FINE, BROKEN, NO_SECCOMP };

/* What it came to: an exit status; of a call that was not expected the number, from 64 on. */
static int echo_under_filter(const struct echo *echo)
{
	struct ends ends;

	(void)net_init(NULL);
	open_ends(&ends, echo);
	if (!rounds(&ends, echo, WARM_UP * echo->connections))
		return BROKEN;
	if (!trap_strangers())
		return NO_SECCOMP;
	if (!rounds(&ends, echo, ROUNDS))
		return BROKEN;
	return strangers ? 64 + (int)last_stranger % 128 : FINE;
}

static int in_child(const struct echo *echo)
{
	int status = -1;

	(void)fflush(stdout);
	pid_t child = fork();
	assert_return_code(child, errno);
	if (child == 0) {
		(void)alarm(NET_WAIT_S);
		_exit(echo_under_filter(echo));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_no_system_calls(void **state)
{
	(void)state;
	if (test_sanitized())
		skip_because("sanitizers make system calls of their own");
	for (size_t i = 0; i < NUM_ECHOES; i++) {
		int came_to = in_child(&echoes[i]);
		if (came_to == NO_SECCOMP)
			skip_because("the kernel lets us set no seccomp filter");
		if (came_to >= 64)
			fail_msg("%s: system call %d", echoes[i].name, came_to - 64);
		assert_int_equal(came_to, FINE);
	}
}

/* The filter counts: a call of another kind is seen. */
static int stranger_under_filter(void)
{
	if (!trap_strangers())
		return NO_SECCOMP;
	(void)syscall(__NR_getppid);
	return strangers == 1 && last_stranger == __NR_getppid ? FINE : BROKEN;
}

static void test_the_filter_counts(void **state)
{
	int status = -1;

	(void)state;
	if (test_sanitized())
		skip_because("sanitizers make system calls of their own");
	pid_t child = fork();
	assert_return_code(child, errno);
	if (child == 0)
		_exit(stranger_under_filter());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == NO_SECCOMP)
		skip_because("the kernel lets us set no seccomp filter");
	assert_int_equal(WEXITSTATUS(status), FINE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_memory_for_queues_and_coroutines),
		cmocka_unit_test(test_the_filter_counts),
		cmocka_unit_test(test_no_system_calls),
	};

	return test_run("warm", tests);
}
