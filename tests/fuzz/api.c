/* SPDX-License-Identifier: MIT
 * tests/fuzz/api.c - sequences of API calls: each input is a program whose arguments are drawn from
 * good and bad ones.  Nothing crashes, every answer is an errno, and when the instance ends no
 * descriptor and no object of the heap is left.
 *
 * The first byte chooses the configuration; then each call is a byte, and its arguments a byte
 * each. All sockets are on loopback and talk to each other, or to nobody; logs are on a drive of
 * memory; pipes have both ends here.
 */
#include "api/instance.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/storage.h>
#include <demi/wait.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { QUEUES = 12, TOKENS = 24, ARRAYS = 8, CALLS_MAX = 400 };

static const struct timespec no_time;
static const struct demi_args args;

struct program {
	const uint8_t *at;
	const uint8_t *end;
	int qds[QUEUES];
	demi_qtoken_t tokens[TOKENS];
	demi_sgarray_t arrays[ARRAYS];
	uint32_t next_qd;
	uint32_t next_token;
	uint32_t next_array;
	int coroutines;
	bool graceful;
};

/* Coroutines have no way to it but this. */
static struct program *running;

static char foreign[70000];

/* ---- arguments ---- */

static void require(bool holds)
{
	if (!holds)
		abort();
}

static uint32_t take(struct program *p)
{
	return p->at < p->end ? *p->at++ : 0;
}

static int take_qd(struct program *p)
{
	static const int bad[] = {-1, 0, 499, 500, 511, 600, INT32_MAX, INT32_MIN};
	uint32_t choice = take(p);

	return choice < 224 ? p->qds[choice % QUEUES] : bad[choice % 8];
}

static demi_qtoken_t take_token(struct program *p)
{
	uint32_t choice = take(p);

	if (choice < 224)
		return p->tokens[choice % TOKENS];
	return choice % 2 ? p->tokens[choice % TOKENS] + take(p)
			  : (demi_qtoken_t)take(p) << take(p) % 64;
}

static void keep_qd(struct program *p, int qd)
{
	const struct linger reset = {.l_onoff = 1};

	/* Most connections end by resets: thousands in TIME_WAIT would use the ports up. */
	if (!p->graceful)
		(void)demi_setsockopt(qd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	p->qds[p->next_qd++ % QUEUES] = qd; /* one that is forgotten is closed by the end */
}

static void keep_token(struct program *p, demi_qtoken_t qt)
{
	require(qt != 0);
	p->tokens[p->next_token++ % TOKENS] = qt;
}

static void keep_array(struct program *p, const demi_sgarray_t *sga)
{
	demi_sgarray_t *slot = &p->arrays[p->next_array++ % ARRAYS];

	(void)demi_sgafree(slot);
	*slot = *sga;
}

/* An errno, or 0. */
static int answer(int err)
{
	require(err >= 0 && err < 134);
	return err;
}

static void check_result(struct program *p, const demi_qresult_t *qr)
{
	demi_qresult_t again;

	require(qr->qr_opcode >= DEMI_OPC_PUSH && qr->qr_opcode <= DEMI_OPC_TRUNCATE);
	if (qr->qr_opcode == DEMI_OPC_FAILED)
		require(answer((int)qr->qr_ret) != 0);
	else /* a log's push tells where the record is */
		require(qr->qr_ret == 0 || (qr->qr_opcode == DEMI_OPC_PUSH && qr->qr_ret > 0));
	require(qr->qr_qt != 0 && demi_wait(&again, qr->qr_qt, &no_time) == EINVAL);
	if (qr->qr_opcode == DEMI_OPC_POP)
		keep_array(p, &qr->qr_value.sga);
	if (qr->qr_opcode == DEMI_OPC_ACCEPT)
		keep_qd(p, qr->qr_value.ares.qd);
}

struct address {
	struct sockaddr_storage room;
	socklen_t length;
};

/* Where a queue of ours is bound, loopback anew, or nonsense. */
static struct address take_address(struct program *p)
{
	struct address a = {.length = sizeof(a.room)};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint32_t choice = take(p);

	if (choice < 160 &&
	    demi_getsockname(take_qd(p), (struct sockaddr *)&a.room, &a.length) == 0) {
		struct sockaddr_in *bound = (struct sockaddr_in *)&a.room;
		if (a.room.ss_family != AF_INET || bound->sin_port != 0)
			return a;
	}
	a.length = sizeof(in);
	memcpy(&a.room, &in, sizeof(in));
	if (choice >= 240) {
		a.length = take(p) * 2;
		a.room.ss_family = (sa_family_t)(take(p) % 12);
	}
	return a;
}

static demi_sgarray_t take_array(struct program *p)
{
	static const uint32_t lengths[] = {0, 1, 2, 100, 1500, 4096, 30000, 69000};
	uint32_t choice = take(p);
	demi_sgarray_t sga = p->arrays[choice % ARRAYS];

	if (choice < 100)
		return sga;
	memset(&sga, 0, sizeof(sga));
	sga.sga_numsegs = choice < 240 ? choice % DEMI_SGARRAY_MAXSIZE + 1 : take(p);
	for (uint32_t i = 0; i < DEMI_SGARRAY_MAXSIZE; i++) {
		uint32_t what = take(p);
		const demi_sgarray_t *kept = &p->arrays[what % ARRAYS];
		if (what < 100 && kept->sga_numsegs > 0) { /* a part of another's */
			sga.sga_segs[i] = kept->sga_segs[0];
			sga.sga_segs[i].sgaseg_len /= what % 3 + 1;
			if (what % 5 == 0 && sga.sga_segs[i].sgaseg_len > 7) {
				sga.sga_segs[i].sgaseg_buf =
					(char *)sga.sga_segs[i].sgaseg_buf + what % 7;
				sga.sga_segs[i].sgaseg_len -= what % 7;
			}
		} else {
			sga.sga_segs[i].sgaseg_buf = what < 250 ? foreign + what % 900 : NULL;
			sga.sga_segs[i].sgaseg_len = lengths[what % 8];
		}
	}
	return sga;
}

/* ---- calls ---- */

static void call_socket(struct program *p)
{
	uint32_t choice = take(p);
	int qd;

	if (answer(demi_socket(&qd,
			       choice & 64    ? AF_INET6
			       : choice & 128 ? (int)take(p)
					      : AF_INET,
			       choice & 1    ? SOCK_STREAM
			       : choice & 32 ? (int)take(p)
					     : SOCK_DGRAM,
			       0)) == 0)
		keep_qd(p, qd);
}

static void call_queue(struct program *p)
{
	int qd;

	if (answer(demi_queue(&qd)) == 0)
		keep_qd(p, qd);
}

/* A pipe of this process: whoever runs beside has others. */
static void make_pipe(struct program *p, uint32_t choice)
{
	char name[32];
	int qd;

	(void)snprintf(name, sizeof(name), "fuzz-%d-%u", (int)getpid(), choice / 2 % 2);
	if (answer(choice % 2 ? demi_open_pipe(&qd, name) : demi_create_pipe(&qd, name)) == 0)
		keep_qd(p, qd);
}

/* ---- operators ---- */

/* By the first byte, and what the program has of it. */
static int some_pass(void *arg, const demi_sgarray_t *sga)
{
	uintptr_t seed = (uintptr_t)arg;
	demi_qtoken_t qt;

	require(demi_push(&qt, running->qds[0], sga) == EBUSY);
	return (sga->sga_segs[0].sgaseg_len + seed) % 3 != 0;
}

/* Shortens, replaces, refuses, or forgets what it was given. */
static int change(void *arg, demi_sgarray_t *sga)
{
	uintptr_t seed = (uintptr_t)arg;
	demi_sgarray_t other;

	switch ((sga->sga_segs[0].sgaseg_len + seed) % 5) {
	case 0:
		sga->sga_segs[0].sgaseg_len /= 2;
		return 0;
	case 1:
		other = demi_sgaalloc(100);
		if (other.sga_numsegs == 0)
			return ENOMEM;
		memset(other.sga_segs[0].sgaseg_buf, 1, 100);
		(void)demi_sgafree(sga);
		*sga = other;
		return 0;
	case 2:
		return EDOM;
	default:
		return 0;
	}
}

static int shorter(void *arg, const demi_sgarray_t *a, const demi_sgarray_t *b)
{
	(void)arg;
	return (int)(a->sga_segs[0].sgaseg_len % 64) - (int)(b->sga_segs[0].sgaseg_len % 64);
}

static int64_t find(void *arg, const void *bytes, size_t length)
{
	uintptr_t seed = (uintptr_t)arg;

	require(length > 0);
	return (int64_t)(*(const uint8_t *)bytes % 50) - (int64_t)(seed % 4);
}

static int make_frame(struct program *p, int *qd, int source)
{
	uint32_t choice = take(p);
	struct demi_framing framing = {
		.kind = (demi_framing_kind_t)(choice % 5),
		.max_bytes = take(p) * 40,
		.length_bytes = choice / 5 % 10,
		.little_endian = (int)(choice & 1),
		.delimiter = foreign,
		.delimiter_bytes = choice / 5 % 18,
		.fixed_bytes = take(p),
		.find = find,
		.arg = (void *)(uintptr_t)choice, /* NOLINT(performance-no-int-to-ptr) */
	};

	return demi_frame(qd, source, &framing);
}

static int make_filter(int *qd, int source, uint32_t choice, void *arg)
{
	static const char *const expressions[] = {
		"len < 100 && data[0] != 7", "ip.src == 127.0.0.0/8 || udp.src > 5", "udp.dst & 1",
		"ip.dst == 127.0.0.1",       "!(data[3:4] >= 0x80000000)",           "len ==",
	};
	uint32_t i = choice % 8;

	if (i < sizeof(expressions) / sizeof(*expressions))
		return demi_filter_expression(qd, source, expressions[i]);
	return demi_filter(qd, source, some_pass, arg);
}

static void call_operator(struct program *p)
{
	uint32_t choice = take(p);
	int source = take_qd(p);
	void *arg = (void *)(uintptr_t)choice; /* NOLINT(performance-no-int-to-ptr) */
	int qd;
	int err = 0;

	switch (choice % 5) {
	case 0:
		err = make_filter(&qd, source, choice / 5, arg);
		break;
	case 1:
		err = demi_map(&qd, source, change, arg);
		break;
	case 2:
		err = demi_sort(&qd, source, shorter, arg, choice / 5 % 8);
		break;
	case 3:
		err = demi_merge(&qd, source, take_qd(p));
		break;
	default:
		err = make_frame(p, &qd, source);
	}
	if (answer(err) == 0)
		keep_qd(p, qd);
}

static void call_qconnect(struct program *p)
{
	int in = take_qd(p);
	demi_qtoken_t qt;

	(void)answer(demi_qconnect(in, take_qd(p)));
	if (answer(demi_qended(&qt, in)) == 0)
		keep_token(p, qt);
}

/* ---- logs ---- */

static void call_open(struct program *p)
{
	static const int flags[] = {O_RDWR | O_CREAT,
				    O_RDWR | O_CREAT,
				    O_RDONLY,
				    O_WRONLY | O_CREAT,
				    O_RDWR | O_CREAT | O_TRUNC,
				    O_RDWR | O_CREAT | O_EXCL,
				    O_RDONLY | O_TRUNC,
				    -1};
	static const char *const names[] = {"a", "a", "b", ""};
	uint32_t choice = take(p);
	int qd;

	if (choice >= 248) {
		make_pipe(p, choice);
		return;
	}
	if (answer(choice < 240 ? demi_open(&qd, names[choice / 8 % 4], flags[choice % 8], 0600)
				: demi_creat(&qd, names[choice % 4], 0600)) == 0)
		keep_qd(p, qd);
}

/* An offset of a log: often where it begins, ends, or is read. */
static off_t take_offset(struct program *p, int qd)
{
	static const int whences[] = {SEEK_SET, SEEK_CUR, SEEK_END};
	uint32_t choice = take(p);
	off_t offset = 0;

	if (choice < 200)
		(void)answer(demi_lseek(qd, 0, whences[choice % 3], &offset));
	return offset + (off_t)(choice % 8 == 0 ? take(p) * 64 : 0);
}

static void call_lseek(struct program *p)
{
	static const int whences[] = {SEEK_SET,  SEEK_SET,  SEEK_CUR,  SEEK_END,
				      SEEK_DATA, SEEK_DATA, SEEK_HOLE, 99};
	int qd = take_qd(p);
	off_t offset = take_offset(p, qd);
	uint32_t choice = take(p);
	off_t where = -1;

	if (answer(demi_lseek(qd, choice & 64 ? offset : 0, whences[choice % 8],
			      choice & 128 ? NULL : &where)) == 0)
		require(choice & 128 || where >= 0);
}

static void call_truncate(struct program *p)
{
	int qd = take_qd(p);
	off_t offset = take_offset(p, qd);
	demi_qtoken_t qt;

	if (answer(demi_truncate(&qt, qd, offset - (take(p) == 0))) == 0)
		keep_token(p, qt);
}

/* ---- sockets, arrays, results ---- */

static void call_bind(struct program *p)
{
	int qd = take_qd(p);
	struct address a = take_address(p);

	(void)answer(demi_bind(qd, (struct sockaddr *)&a.room, a.length));
}

static void call_listen(struct program *p)
{
	int qd = take_qd(p);

	(void)answer(demi_listen(qd, (int)take(p) - 1));
}

static void call_accept(struct program *p)
{
	demi_qtoken_t qt;

	if (answer(demi_accept(&qt, take_qd(p))) == 0)
		keep_token(p, qt);
}

static void call_connect(struct program *p)
{
	int qd = take_qd(p);
	struct address a = take_address(p);
	demi_qtoken_t qt;

	if (answer(demi_connect(&qt, qd, (struct sockaddr *)&a.room, a.length)) == 0)
		keep_token(p, qt);
}

/* A whole connection, which a random program seldom makes. */
static void call_meet(struct program *p)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(in);
	demi_qtoken_t connecting;
	demi_qtoken_t accepting;
	int listener;
	int client;

	if (answer(demi_socket(&listener, AF_INET, SOCK_STREAM, 0)))
		return;
	keep_qd(p, listener);
	if (demi_bind(listener, (struct sockaddr *)&in, length) || demi_listen(listener, 4) ||
	    demi_getsockname(listener, (struct sockaddr *)&in, &length) ||
	    demi_socket(&client, AF_INET, SOCK_STREAM, 0))
		return;
	keep_qd(p, client);
	if (demi_connect(&connecting, client, (struct sockaddr *)&in, length))
		return;
	keep_token(p, connecting);
	if (demi_accept(&accepting, listener))
		return;
	keep_token(p, accepting);
	for (int i = 0; i < 4; i++)
		(void)demi_yield();
}

static void call_push(struct program *p)
{
	int qd = take_qd(p);
	demi_sgarray_t sga = take_array(p);
	demi_qtoken_t qt;

	if (answer(demi_push(&qt, qd, &sga)) == 0)
		keep_token(p, qt);
}

static void call_pushto(struct program *p)
{
	int qd = take_qd(p);
	demi_sgarray_t sga = take_array(p);
	struct address a = take_address(p);
	demi_qtoken_t qt;

	if (answer(demi_pushto(&qt, qd, &sga, (struct sockaddr *)&a.room, a.length)) == 0)
		keep_token(p, qt);
}

static void call_pop(struct program *p)
{
	demi_qtoken_t qt;

	if (answer(demi_pop(&qt, take_qd(p))) == 0)
		keep_token(p, qt);
}

static void call_close(struct program *p)
{
	int qd = take_qd(p);

	if (answer(demi_close(qd)) == 0)
		require(demi_close(qd) == EBADF);
}

static void call_shutdown(struct program *p)
{
	int qd = take_qd(p);

	(void)answer(demi_shutdown(qd, (int)(take(p) % 5) - 1));
}

static void call_option(struct program *p)
{
	static const int names[][2] = {{SOL_SOCKET, SO_RCVBUF},    {SOL_SOCKET, SO_SNDBUF},
				       {IPPROTO_TCP, TCP_NODELAY}, {SOL_SOCKET, SO_REUSEADDR},
				       {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_ERROR},
				       {SOL_SOCKET, SO_KEEPALIVE}, {99, 99}};
	int qd = take_qd(p);
	uint32_t choice = take(p);
	int value = (int)take(p) * 64;
	socklen_t length = choice & 64 ? take(p) % 9 : sizeof(value);

	if (choice & 128)
		(void)answer(demi_setsockopt(qd, names[choice % 8][0], names[choice % 8][1], &value,
					     length < sizeof(value) ? length : sizeof(value)));
	else
		(void)answer(demi_getsockopt(qd, names[choice % 8][0], names[choice % 8][1], &value,
					     length > sizeof(value) ? &(socklen_t){4} : &length));
}

static void call_names(struct program *p)
{
	struct address a = {.length = take(p) % 40};
	int qd = take_qd(p);

	(void)answer(demi_getsockname(qd, (struct sockaddr *)&a.room, &a.length));
	a.length = sizeof(a.room);
	(void)answer(demi_getpeername(qd, (struct sockaddr *)&a.room, &a.length));
}

static void call_wait(struct program *p)
{
	demi_qresult_t qr;

	if (answer(demi_wait(&qr, take_token(p), &no_time)) == 0)
		check_result(p, &qr);
}

static void call_wait_any(struct program *p)
{
	demi_qtoken_t tokens[TOKENS];
	int count = (int)(take(p) % (TOKENS + 1));
	bool good = take(p) < 200;
	demi_qresult_t qr;
	int n = 0;
	int offset = -1;

	for (int i = 0; i < count; i++) {
		demi_qtoken_t qt = good ? p->tokens[i] : take_token(p);
		if (qt || !good)
			tokens[n++] = qt;
	}
	if (answer(demi_wait_any(&qr, &offset, tokens, n, &no_time)) == 0) {
		require(offset >= 0 && offset < n && qr.qr_qt == tokens[offset]);
		check_result(p, &qr);
	}
}

static void call_wait_next(struct program *p)
{
	demi_qresult_t qrs[8];
	int n = -7;
	int err = answer(demi_wait_next_n(qrs, (int)(take(p) % 8), &n, &no_time));

	require(err == EINVAL || (n >= 0 && n < 8));
	for (int i = 0; i < n; i++)
		check_result(p, &qrs[i]);
}

static void call_wait_all(struct program *p)
{
	demi_qtoken_t tokens[4];
	demi_qresult_t qrs[4];
	int count = (int)(take(p) % 5);

	for (int i = 0; i < count; i++)
		tokens[i] = take_token(p);
	if (answer(demi_wait_all(qrs, tokens, count, &no_time)) == 0) {
		for (int i = 0; i < count; i++) {
			require(qrs[i].qr_qt == tokens[i]);
			check_result(p, &qrs[i]);
		}
	}
}

static void call_cancel(struct program *p)
{
	(void)answer(demi_cancel(take_token(p)));
}

static void call_turn(struct program *p)
{
	for (uint32_t n = take(p) % 8 + 1; n > 0; n--)
		(void)answer(demi_yield());
	(void)answer(demi_flush());
}

static void call_alloc(struct program *p)
{
	uint32_t choice = take(p);
	demi_sgarray_t sga = demi_sgaalloc(choice < 250 ? (size_t)choice * choice * 4 : 5000000);

	if (sga.sga_numsegs > 0) {
		memset(sga.sga_segs[0].sgaseg_buf, (int)choice,
		       sga.sga_segs[0].sgaseg_len < 4096 ? sga.sga_segs[0].sgaseg_len : 4096);
		keep_array(p, &sga);
	}
}

static void call_free(struct program *p)
{
	demi_sgarray_t *sga = &p->arrays[take(p) % ARRAYS];
	demi_sgarray_t copy = *sga;

	(void)answer(demi_sgabusy(sga));
	(void)answer(demi_sgafree(sga));
	if (take(p) % 4 == 0) /* twice: an error, unless the memory lives on otherwise */
		(void)answer(demi_sgabusy(&copy));
	memset(sga, 0, sizeof(*sga));
}

static void call_heap(struct program *p)
{
	uint32_t choice = take(p);
	char *ptr = choice & 1 ? demi_calloc(choice, choice)
			       : demi_aligned_alloc(1U << choice % 12, choice);

	if (!ptr)
		return;
	char *moved = demi_realloc(ptr, (size_t)take(p) * 100);
	ptr = moved ? moved : ptr;
	if (choice & 2)
		require(demi_free(ptr + 1) == EINVAL);
	require(demi_free(ptr) == 0);
	if (choice & 4)
		require(demi_free(ptr) == EINVAL);
}

static void call_address(struct program *p)
{
	struct address a = {.length = take(p) % 40};

	(void)answer(
		demi_sgaaddr(&p->arrays[take(p) % ARRAYS], (struct sockaddr *)&a.room, &a.length));
}

static void call_events(struct program *p)
{
	int fd;

	if (take(p) & 1)
		(void)answer(demi_event_fd(&fd));
	(void)answer(demi_event_arm());
}

static void step(struct program *p);

/* Calls in a coroutine; some that block it, perhaps until the end. */
static void coroutine(void *arg)
{
	struct program *p = running;
	uint32_t choice = (uint32_t)(uintptr_t)arg;
	const struct timespec moment = {.tv_nsec = (long)choice * 10};
	demi_qresult_t qr;

	require(demi_fini() == EBUSY);
	for (uint32_t i = 0; i < choice % 8; i++)
		step(p);
	if (choice & 64) {
		demi_sgarray_t sga = take_array(p);
		(void)answer(demi_blocking_push(&qr, take_qd(p), &sga));
	} else if (choice & 32) {
		if (answer(demi_blocking_pop(&qr, take_qd(p))) == 0 && qr.qr_opcode == DEMI_OPC_POP)
			(void)demi_sgafree(&qr.qr_value.sga);
	} else {
		(void)answer(demi_sleep(&moment));
	}
	for (uint32_t i = 0; i < choice % 4; i++)
		step(p);
}

static void call_go(struct program *p)
{
	if (p->coroutines++ < 20)
		(void)answer(demi_go(
			coroutine,
			(void *)(uintptr_t)take(p))); /* NOLINT(performance-no-int-to-ptr) */
}

static void call_null(struct program *p)
{
	demi_qtoken_t qt;
	int qd = take_qd(p);

	switch (take(p) % 8) {
	case 0:
		require(demi_socket(NULL, AF_INET, SOCK_STREAM, 0) == EINVAL);
		break;
	case 1:
		require(answer(demi_push(&qt, qd, NULL)) != 0);
		break;
	case 2:
		require(answer(demi_pop(NULL, qd)) != 0);
		break;
	case 3:
		require(answer(demi_bind(qd, NULL, 16)) != 0);
		break;
	case 4:
		require(demi_wait(NULL, take_token(p), &no_time) != 0);
		break;
	case 5:
		require(demi_open(NULL, "a", O_RDWR | O_CREAT, 0) == EINVAL);
		break;
	case 6:
		require(answer(demi_truncate(NULL, qd, 0)) != 0);
		break;
	default:
		require(demi_init(&args) == EEXIST);
	}
}

static void step(struct program *p)
{
	static void (*const calls[])(struct program *) = {
		call_socket,  call_queue,    call_bind,     call_listen,    call_accept,
		call_connect, call_meet,     call_push,     call_push,      call_pushto,
		call_pop,     call_pop,      call_close,    call_shutdown,  call_option,
		call_names,   call_wait,     call_wait_any, call_wait_next, call_wait_all,
		call_cancel,  call_turn,     call_alloc,    call_free,      call_heap,
		call_address, call_events,   call_go,       call_null,      call_open,
		call_lseek,   call_truncate, call_operator, call_operator,  call_qconnect,
	};

	calls[take(p) % (sizeof(calls) / sizeof(calls[0]))](p);
}

/* ---- the instance around it ---- */

static void configure(uint32_t choice)
{
	(void)demi_set_config("stat_socket", "off");
	(void)demi_set_config("linger_ms", "0");
	(void)demi_set_config("storage_driver", "sim");
	(void)demi_set_config("storage_device", "1M");
	(void)demi_set_config("storage_segment_bytes", "65536");
	(void)demi_set_config("queues_max", "40");
	(void)demi_set_config("operations_max", "256");
	(void)demi_set_config("coroutines_max", "64");
	(void)demi_set_config("heap_max_bytes", choice & 1 ? "16m" : "128m");
	(void)demi_set_config("send_limit_bytes", choice & 2 ? "1000" : "100000");
}

static void quiet(void *arg, enum demi_log_level level, const char *message)
{
	(void)arg;
	(void)level;
	(void)message;
}

static int lowest_fd(void)
{
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

	if (fd >= 0)
		close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program p = {.at = data, .end = data + size};
	struct heap_usage usage;
	int fd = lowest_fd();

	uint32_t choice = take(&p);
	p.graceful = choice % 16 == 15;
	configure(choice);
	(void)demi_set_log(quiet, NULL);
	require(demi_init(&args) == 0);
	running = &p;
	for (int i = 0; i < QUEUES; i++)
		p.qds[i] = -1;
	for (int i = 0; i < CALLS_MAX && p.at < p.end; i++)
		step(&p);
	for (int i = 0; i < ARRAYS; i++)
		(void)demi_sgafree(&p.arrays[i]);
	struct heap *heap = thread_state.current->sched.heap;
	require(demi_fini() == 0);
	heap_usage(heap, &usage); /* the struct stays when the heap is gone */
	require(usage.live_objects == 0);
	require(lowest_fd() == fd);
	require(demi_yield() == ENOSYS);
	return 0;
}
