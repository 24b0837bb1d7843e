/* SPDX-License-Identifier: MIT
 * tests/net/errors_test.c - attack row 40: every public call with each argument bad, on each kind
 * of queue, in each state of the thread: the answer is the one errno that the headers name.
 */
#include "support/net.h"

#include <demi/socket.h>
#include <demi/storage.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- outcomes ---- */

/* What a call came to: the errno it returned; or it was an operation, which waits or failed. */
enum {
	OK = 0,
	WAITS = 0x1000,  /* the operation is pending */
	FAILED = 0x2000, /* the operation failed: | errno */
	END = 0x4000,    /* a pop found the end of the stream */
	NOT = 0x8000,    /* not tried: it would block for ever */
};

#define LIVE_BUFFER 64

static char foreign[LIVE_BUFFER];

/* How an operation ended, if it did within 20 ms; one that is left over ends with its queue. */
static int outcome_of(int err, demi_qtoken_t qt)
{
	static const struct timespec moment = {.tv_nsec = 20000000};
	demi_qresult_t qr;

	if (err)
		return err;
	err = demi_wait(&qr, qt, &moment);
	if (err == ETIMEDOUT)
		return WAITS;
	assert_int_equal(err, 0);
	if (qr.qr_opcode == DEMI_OPC_FAILED)
		return FAILED | (int)qr.qr_ret;
	if (qr.qr_opcode != DEMI_OPC_PUSH) /* that of a log tells the record's offset */
		assert_int_equal(qr.qr_ret, 0);
	if (qr.qr_opcode != DEMI_OPC_POP)
		return OK;
	int end = net_array_bytes(&qr.qr_value.sga) == 0 ? END : OK;
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	return end;
}

#define outcome(call, qt)                \
	({                               \
		const int err_ = (call); \
		outcome_of(err_, qt);    \
	})

/* ---- each kind of queue ---- */

enum kind {
	NEGATIVE,
	NEVER,
	CLOSED,
	TCP_FRESH,
	TCP_BOUND,
	TCP_LISTENING,
	TCP_CONNECTING,
	TCP_CONNECTED,
	TCP_SHUT,      /* demi_shutdown(SHUT_WR) */
	TCP_PEER_SHUT, /* the peer did */
	TCP_RESET,
	UDP_FRESH,
	UDP_BOUND,
	UDP_CONNECTED,
	MEMORY,
	LOG,
	KINDS
};

static const char *const kind_names[KINDS] = {
	"negative",  "never",         "closed",         "tcp fresh",
	"tcp bound", "tcp listening", "tcp connecting", "tcp connected",
	"tcp shut",  "tcp peer shut", "tcp reset",      "udp fresh",
	"udp bound", "udp connected", "memory",         "log",
};

struct subject {
	int qd;
	int plain[64];             /* peers, -1: none */
	struct net_address target; /* a live listener to connect to */
	int target_fd;
};

static void keep_plain(struct subject *s, int fd)
{
	for (int i = 0;; i++) {
		if (s->plain[i] < 0) {
			s->plain[i] = fd;
			return;
		}
	}
}

/* A listener whose queue of connections is full, so that the next one stays in the handshake. */
static void full_listener(struct subject *s, struct net_address *out)
{
	int listener = plain_listen(AF_INET, out);

	keep_plain(s, listener);
	assert_return_code(listen(listener, 0), errno);
	for (int i = 0; i < 16; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		assert_return_code(fd, errno);
		keep_plain(s, fd);
		(void)connect(fd, &out->any, out->length);
		struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
		if (poll(&poll_fd, 1, 30) == 0)
			return;
	}
	fail_msg("the listener never fills");
}

static int connecting(struct subject *s)
{
	struct net_address full;
	int qd = net_socket(AF_INET, SOCK_STREAM);

	full_listener(s, &full);
	net_assert_pending(net_connect(qd, &full));
	return qd;
}

static int connected(struct subject *s)
{
	int fd;
	int qd = net_connected(AF_INET, &fd);

	keep_plain(s, fd);
	return qd;
}

static int udp_connected(struct subject *s)
{
	struct net_address to = net_loopback(AF_INET, 0);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	int qd = net_socket(AF_INET, SOCK_DGRAM);

	keep_plain(s, fd);
	assert_return_code(bind(fd, &to.any, to.length), errno);
	assert_return_code(getsockname(fd, &to.any, &to.length), errno);
	assert_int_equal(net_wait(net_connect(qd, &to)).qr_opcode, DEMI_OPC_CONNECT);
	return qd;
}

static int reset_connection(struct subject *s)
{
	int qd = connected(s);

	plain_reset(s->plain[0]);
	s->plain[0] = -1;
	net_wait_failed(net_pop(qd), ECONNRESET);
	return qd;
}

static int closed_queue(void)
{
	int qd = net_socket(AF_INET, SOCK_STREAM);

	assert_int_equal(demi_close(qd), 0);
	return qd;
}

static int memory_queue(void)
{
	int qd = -1;

	assert_int_equal(demi_queue(&qd), 0);
	return qd;
}

/* Logs are on a drive of memory: see drive_in_memory. */
static int log_queue(void)
{
	int qd = -1;

	assert_int_equal(demi_open(&qd, "a log", O_RDWR | O_CREAT | O_TRUNC, 0), 0);
	return qd;
}

static int make(struct subject *s, enum kind kind)
{
	int qd;

	switch (kind) {
	case NEGATIVE:
		return -1;
	case NEVER:
		return 123456;
	case CLOSED:
		return closed_queue();
	case TCP_FRESH:
		return net_socket(AF_INET, SOCK_STREAM);
	case TCP_BOUND:
		return net_bound(AF_INET, SOCK_STREAM);
	case TCP_LISTENING:
		return net_listener(AF_INET, 4);
	case TCP_CONNECTING:
		return connecting(s);
	case TCP_CONNECTED:
		return connected(s);
	case TCP_SHUT:
		qd = connected(s);
		assert_int_equal(demi_shutdown(qd, SHUT_WR), 0);
		return qd;
	case TCP_PEER_SHUT:
		qd = connected(s);
		assert_return_code(shutdown(s->plain[0], SHUT_WR), errno);
		return qd;
	case TCP_RESET:
		return reset_connection(s);
	case UDP_FRESH:
		return net_socket(AF_INET, SOCK_DGRAM);
	case UDP_BOUND:
		return net_bound(AF_INET, SOCK_DGRAM);
	case UDP_CONNECTED:
		return udp_connected(s);
	case LOG:
		return log_queue();
	default:
		return memory_queue();
	}
}

static void subject_open(struct subject *s, enum kind kind)
{
	memset(s->plain, 0xff, sizeof(s->plain));
	s->qd = make(s, kind);
	s->target_fd = plain_listen(AF_INET, &s->target);
}

static void subject_close(struct subject *s, enum kind kind, bool closed)
{
	if (kind > CLOSED && !closed)
		assert_int_equal(demi_close(s->qd), 0);
	for (size_t i = 0; i < sizeof(s->plain) / sizeof(s->plain[0]); i++) {
		if (s->plain[i] >= 0)
			(void)close(s->plain[i]);
	}
	(void)close(s->target_fd);
}

/* ---- calls that are right but for the queue ---- */

static int call_bind(struct subject *s)
{
	struct net_address address = net_loopback(AF_INET, 0);

	return demi_bind(s->qd, &address.any, address.length);
}

static int call_listen(struct subject *s)
{
	return demi_listen(s->qd, 4);
}

static int call_accept(struct subject *s)
{
	demi_qtoken_t qt = 0;

	return outcome(demi_accept(&qt, s->qd), qt);
}

static int call_connect(struct subject *s)
{
	demi_qtoken_t qt = 0;

	return outcome(demi_connect(&qt, s->qd, &s->target.any, s->target.length), qt);
}

static int call_close(struct subject *s)
{
	return demi_close(s->qd);
}

static int call_close_twice(struct subject *s)
{
	int err = demi_close(s->qd);

	return err ? err : demi_close(s->qd);
}

static int push_of(struct subject *s, uint32_t bytes)
{
	demi_sgarray_t sga = net_array(foreign, bytes);
	demi_qtoken_t qt = 0;

	return outcome(demi_push(&qt, s->qd, &sga), qt);
}

static int call_push(struct subject *s)
{
	return push_of(s, 1);
}

static int call_push_nothing(struct subject *s)
{
	return push_of(s, 0);
}

static int call_pushto(struct subject *s)
{
	demi_sgarray_t sga = net_array(foreign, 1);
	demi_qtoken_t qt = 0;

	return outcome(demi_pushto(&qt, s->qd, &sga, &s->target.any, s->target.length), qt);
}

static int call_pop(struct subject *s)
{
	demi_qtoken_t qt = 0;

	return outcome(demi_pop(&qt, s->qd), qt);
}

static int blocking(int err, const demi_qresult_t *qr)
{
	if (err)
		return err;
	return qr->qr_opcode == DEMI_OPC_FAILED ? FAILED | (int)qr->qr_ret : OK;
}

static int call_blocking_push(struct subject *s)
{
	demi_sgarray_t sga = net_array(foreign, 1);
	demi_qresult_t qr;

	return blocking(demi_blocking_push(&qr, s->qd, &sga), &qr);
}

static int call_blocking_pop(struct subject *s)
{
	demi_qresult_t qr;

	return blocking(demi_blocking_pop(&qr, s->qd), &qr);
}

static int call_setsockopt(struct subject *s)
{
	int value = 65536;

	return demi_setsockopt(s->qd, SOL_SOCKET, SO_RCVBUF, &value, sizeof(value));
}

static int call_getsockopt(struct subject *s)
{
	int value = 0;
	socklen_t length = sizeof(value);

	return demi_getsockopt(s->qd, SOL_SOCKET, SO_RCVBUF, &value, &length);
}

static int call_getpeername(struct subject *s)
{
	struct net_address address = {.length = sizeof(address.room)};

	return demi_getpeername(s->qd, &address.any, &address.length);
}

static int call_getsockname(struct subject *s)
{
	struct net_address address = {.length = sizeof(address.room)};

	return demi_getsockname(s->qd, &address.any, &address.length);
}

static int call_shutdown_write(struct subject *s)
{
	return demi_shutdown(s->qd, SHUT_WR);
}

static int call_shutdown_read(struct subject *s)
{
	return demi_shutdown(s->qd, SHUT_RD);
}

static int call_shutdown_nonsense(struct subject *s)
{
	return demi_shutdown(s->qd, 77);
}

static int call_lseek(struct subject *s)
{
	off_t offset;

	return demi_lseek(s->qd, 0, SEEK_SET, &offset);
}

static int call_truncate(struct subject *s)
{
	demi_qtoken_t qt = 0;

	return outcome(demi_truncate(&qt, s->qd, 0), qt);
}

struct row {
	const char *name;
	int (*call)(struct subject *s);
	int expected[KINDS];
};

#define RESET   (FAILED | ECONNRESET)
#define NO_PEER EDESTADDRREQ

/* clang-format off */
static const struct row rows[] = {
	/* negative, never, closed | tcp: fresh, bound, listening, connecting | connected, shut, peer shut, reset | udp: fresh, bound, connected | memory, log */
	{"bind", call_bind, {EBADF, EBADF, EBADF, OK, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, OK, EINVAL, EINVAL, ENOTSUP, ENOTSUP}},
	{"listen", call_listen, {EBADF, EBADF, EBADF, EDESTADDRREQ, OK, EADDRINUSE, EADDRINUSE, EADDRINUSE, EADDRINUSE, EADDRINUSE, EADDRINUSE, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP}},
	{"accept", call_accept, {EBADF, EBADF, EBADF, EINVAL, EINVAL, WAITS, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, ENOTSUP, ENOTSUP}},
	{"connect", call_connect, {EBADF, EBADF, EBADF, OK, OK, EOPNOTSUPP, EINPROGRESS, EISCONN, EISCONN, EISCONN, EISCONN, OK, OK, OK, ENOTSUP, ENOTSUP}},
	{"close", call_close, {EBADF, EBADF, EBADF, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK}},
	{"close twice", call_close_twice, {EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF, EBADF}},
	{"push", call_push, {EBADF, EBADF, EBADF, ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, OK, EPIPE, OK, RESET, NO_PEER, NO_PEER, OK, OK, OK}},
	{"push of nothing", call_push_nothing, {EBADF, EBADF, EBADF, ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, EINVAL, EPIPE, EINVAL, EINVAL, NO_PEER, NO_PEER, OK, OK, EINVAL}},
	{"pushto", call_pushto, {EBADF, EBADF, EBADF, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, OK, OK, OK, ENOTSUP, ENOTSUP}},
	{"pop", call_pop, {EBADF, EBADF, EBADF, ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, WAITS, WAITS, END, RESET, WAITS, WAITS, WAITS, WAITS, WAITS}},
	{"blocking push", call_blocking_push, {EBADF, EBADF, EBADF, ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, OK, EPIPE, OK, RESET, NO_PEER, NO_PEER, OK, OK, OK}},
	{"blocking pop", call_blocking_pop, {EBADF, EBADF, EBADF, ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, NOT, NOT, OK, RESET, NOT, NOT, NOT, NOT, NOT}},
	{"setsockopt", call_setsockopt, {EBADF, EBADF, EBADF, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, ENOTSUP, ENOTSUP}},
	{"getsockopt", call_getsockopt, {EBADF, EBADF, EBADF, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, ENOTSUP, ENOTSUP}},
	{"getpeername", call_getpeername, {EBADF, EBADF, EBADF, ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, OK, OK, OK, ENOTCONN, ENOTCONN, ENOTCONN, OK, ENOTSUP, ENOTSUP}},
	{"getsockname", call_getsockname, {EBADF, EBADF, EBADF, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, ENOTSUP, ENOTSUP}},
	{"shutdown write", call_shutdown_write, {EBADF, EBADF, EBADF, ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, OK, OK, OK, ENOTCONN, ENOTCONN, ENOTCONN, OK, ENOTSUP, ENOTSUP}},
	{"shutdown read", call_shutdown_read, {EBADF, EBADF, EBADF, ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, OK, OK, OK, ENOTCONN, ENOTCONN, ENOTCONN, OK, ENOTSUP, ENOTSUP}},
	{"shutdown nonsense", call_shutdown_nonsense, {EBADF, EBADF, EBADF, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, ENOTSUP, ENOTSUP}},
	{"lseek", call_lseek, {EBADF, EBADF, EBADF, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, OK}},
	{"truncate", call_truncate, {EBADF, EBADF, EBADF, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, ESPIPE, OK}},
};
/* clang-format on */

#define NUM_ROWS (sizeof(rows) / sizeof(rows[0]))

static bool closes(const struct row *row)
{
	return row->call == call_close || row->call == call_close_twice;
}

static int try_cell(const struct row *row, enum kind kind)
{
	struct subject s;

	if (row->expected[kind] == NOT)
		return 0;
	subject_open(&s, kind);
	int got = row->call(&s);
	subject_close(&s, kind, closes(row));
	if (got == row->expected[kind])
		return 0;
	print_error("%s on %s: got %#x, want %#x\n", row->name, kind_names[kind], got,
		    row->expected[kind]);
	return 1;
}

static void test_every_call_on_every_kind(void **state)
{
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < NUM_ROWS; i++) {
		for (enum kind kind = 0; kind < KINDS; kind++)
			wrong += try_cell(&rows[i], kind);
	}
	assert_int_equal(wrong, 0);
}

/* ---- each argument bad ---- */

/* What good arguments look like: some queues and an operation that waits. */
struct good {
	int tcp;
	int listener;
	int connected;
	int plain;
	int udp;
	int memory;
	int log;
	demi_qtoken_t waiting; /* a pop of memory */
	demi_sgarray_t sga;    /* a heap array of LIVE_BUFFER bytes */
	demi_sgarray_t freed;
	struct net_address address;
};

static struct good good;

static int setup_good(void **state)
{
	(void)net_init(state);
	good.tcp = net_socket(AF_INET, SOCK_STREAM);
	good.listener = net_listener(AF_INET, 4);
	good.connected = net_connected(AF_INET, &good.plain);
	good.udp = net_bound(AF_INET, SOCK_DGRAM);
	good.memory = memory_queue();
	good.log = log_queue();
	good.waiting = net_pop(good.memory);
	good.sga = demi_sgaalloc(LIVE_BUFFER);
	good.freed = demi_sgaalloc(LIVE_BUFFER);
	demi_sgarray_t copy = good.freed;
	assert_int_equal(demi_sgafree(&copy), 0);
	good.address = net_local(good.listener);
	return 0;
}

static int teardown_good(void **state)
{
	(void)demi_sgafree(&good.sga);
	(void)close(good.plain);
	return net_fini(state);
}

static demi_qtoken_t scratch_qt;
static demi_qresult_t scratch_qr[4];
static int scratch_int;
static const struct timespec no_time;

static int push_array(int qd, demi_sgarray_t sga)
{
	return outcome(demi_push(&scratch_qt, qd, &sga), scratch_qt);
}

static int push_segments(uint32_t count)
{
	demi_sgarray_t sga = net_array(foreign, 1);

	sga.sga_numsegs = count;
	return push_array(good.connected, sga);
}

/* An array whose one segment is moved against its object. */
static int push_moved(ptrdiff_t offset, uint32_t length)
{
	demi_sgarray_t sga = good.sga;

	sga.sga_segs[0].sgaseg_buf = (char *)sga.sga_segs[0].sgaseg_buf + offset;
	sga.sga_segs[0].sgaseg_len = length;
	return push_array(good.connected, sga);
}

static int push_null_segment(void)
{
	return push_array(good.connected, net_array(NULL, 1));
}

static int second_segment_freed(void)
{
	demi_sgarray_t sga = net_array(foreign, 1);

	sga.sga_numsegs = 2;
	sga.sga_segs[1] = good.freed.sga_segs[0];
	return push_array(good.connected, sga);
}

static int wait_with(struct timespec timeout)
{
	return demi_wait(scratch_qr, good.waiting, &timeout);
}

static int wait_any_of(demi_qtoken_t a, demi_qtoken_t b)
{
	const demi_qtoken_t qts[] = {a, b};

	return demi_wait_any(scratch_qr, &scratch_int, qts, 2, &no_time);
}

static int wait_all_of(demi_qtoken_t a, demi_qtoken_t b)
{
	const demi_qtoken_t qts[] = {a, b};

	return demi_wait_all(scratch_qr, qts, 2, &no_time);
}

static int sleep_for(time_t s, long ns)
{
	const struct timespec time = {.tv_sec = s, .tv_nsec = ns};

	return demi_sleep(&time);
}

static int bind_family(int qd, sa_family_t family, socklen_t length)
{
	struct net_address address = net_loopback(AF_INET, 0);

	address.any.sa_family = family;
	return demi_bind(qd, &address.any, length);
}

static int bind_to(int domain, const char *what)
{
	struct net_address address = net_loopback(domain, 0);
	int qd = net_socket(AF_INET, SOCK_STREAM);

	if (strcmp(what, "elsewhere") == 0)
		address.in.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, for documents */
	int err = demi_bind(qd, &address.any, address.length);
	assert_int_equal(demi_close(qd), 0);
	return err;
}

static int bind_in_use(int domain)
{
	struct net_address address = net_local(domain == AF_INET ? good.listener : good.udp);
	int qd = net_socket(AF_INET, domain == AF_INET ? SOCK_STREAM : SOCK_DGRAM);
	int err = demi_bind(qd, &address.any, address.length);

	assert_int_equal(demi_close(qd), 0);
	return err;
}

static int connect_length(socklen_t length)
{
	int qd = net_socket(AF_INET, SOCK_STREAM);
	int err = demi_connect(&scratch_qt, qd, &good.address.any, length);

	assert_int_equal(demi_close(qd), 0);
	return err;
}

static int getopt_of(int level, int name)
{
	socklen_t length = sizeof(scratch_int);

	return demi_getsockopt(good.tcp, level, name, &scratch_int, &length);
}

static int sga_with_segments(int (*call)(demi_sgarray_t *), uint32_t count)
{
	demi_sgarray_t sga = good.sga;

	sga.sga_numsegs = count;
	return call(&sga);
}

static int busy(demi_sgarray_t *sga)
{
	return demi_sgabusy(sga);
}

static int address_of(demi_sgarray_t *sga)
{
	struct net_address address = {.length = sizeof(address.room)};

	return demi_sgaaddr(sga, &address.any, &address.length);
}

static int free_of_freed(int (*call)(demi_sgarray_t *))
{
	demi_sgarray_t sga = good.freed;

	return call(&sga);
}

static int free_interior(void)
{
	return demi_free((char *)good.sga.sga_segs[0].sgaseg_buf + 16);
}

static int free_twice(void)
{
	void *ptr = demi_malloc(100);

	assert_int_equal(demi_free(ptr), 0);
	return demi_free(ptr);
}

/* 0 if a NULL was rightly returned. */
static int null_of(const void *ptr)
{
	return ptr ? -1 : 0;
}

static int null_sga(demi_sgarray_t sga)
{
	return sga.sga_numsegs == 0 && !sga.sga_buf ? 0 : -1;
}

static int null_fn(void)
{
	return demi_go(NULL, NULL);
}

/* clang-format off */
#define A(expected, call) do { const int got_ = (call); check_argument(#call, got_, expected, &wrong); } while (0)

/* clang-format on */

static void check_argument(const char *text, int got, int expected, int *wrong)
{
	if (got == expected)
		return;
	print_error("%s: got %#x, want %#x\n", text, got, expected);
	++*wrong;
}

static void test_bad_arguments_of_sockets(void **state)
{
	struct sockaddr *any = &good.address.any;
	const socklen_t length = good.address.length;
	socklen_t room = sizeof(good.address.room);
	struct net_address out;
	int wrong = 0;

	(void)state;
	A(EINVAL, demi_socket(NULL, AF_INET, SOCK_STREAM, 0));
	A(ENOTSUP, demi_socket(&scratch_int, AF_UNIX, SOCK_STREAM, 0));
	A(ENOTSUP, demi_socket(&scratch_int, -1, SOCK_STREAM, 0));
	A(ENOTSUP, demi_socket(&scratch_int, 12345, SOCK_STREAM, 0));
	A(ENOTSUP, demi_socket(&scratch_int, AF_PACKET, SOCK_RAW, 0));
	A(ENOTSUP, demi_socket(&scratch_int, AF_INET, SOCK_RAW, 0));
	A(ENOTSUP, demi_socket(&scratch_int, AF_INET, SOCK_SEQPACKET, 0));
	A(ENOTSUP, demi_socket(&scratch_int, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	A(ENOTSUP, demi_socket(&scratch_int, AF_INET, -1, 0));
	A(ENOTSUP, demi_socket(&scratch_int, AF_INET, SOCK_STREAM, IPPROTO_UDP));
	A(ENOTSUP, demi_socket(&scratch_int, AF_INET, SOCK_STREAM, IPPROTO_SCTP));
	A(ENOTSUP, demi_socket(&scratch_int, AF_INET, SOCK_DGRAM, IPPROTO_TCP));
	A(ENOTSUP, demi_socket(&scratch_int, AF_INET, SOCK_STREAM, -1));

	A(EINVAL, demi_bind(good.tcp, NULL, sizeof(struct sockaddr_in)));
	A(EINVAL, demi_bind(good.tcp, any, 0));
	A(EINVAL, demi_bind(good.tcp, any, 1));
	A(EINVAL, demi_bind(good.tcp, any, length - 1));
	A(EINVAL, demi_bind(good.tcp, any, UINT32_MAX));
	A(EINVAL, demi_bind(good.tcp, any, sizeof(struct sockaddr_storage) + 1));
	A(EAFNOSUPPORT, bind_family(good.tcp, AF_INET6, sizeof(struct sockaddr_in6)));
	A(EAFNOSUPPORT, bind_family(good.tcp, AF_UNIX, sizeof(struct sockaddr_in)));
	A(EAFNOSUPPORT, bind_to(AF_INET6, "loopback"));
	A(EADDRNOTAVAIL, bind_to(AF_INET, "elsewhere"));
	A(EADDRINUSE, bind_in_use(AF_INET));
	A(EADDRINUSE, bind_in_use(AF_INET6));

	A(EINVAL, demi_listen(good.tcp, 0));
	A(EINVAL, demi_listen(good.tcp, -1));
	A(EINVAL, demi_listen(good.tcp, INT32_MIN));

	A(EINVAL, demi_accept(NULL, good.listener));

	A(EINVAL, demi_connect(NULL, good.tcp, any, length));
	A(EINVAL, demi_connect(&scratch_qt, good.tcp, NULL, length));
	A(EINVAL, connect_length(0));
	A(EINVAL, connect_length(1));
	A(EINVAL, connect_length(length - 1));
	A(EINVAL, connect_length(UINT32_MAX));

	A(EINVAL, demi_setsockopt(good.tcp, SOL_SOCKET, SO_RCVBUF, NULL, sizeof(int)));
	A(EINVAL, demi_setsockopt(good.tcp, SOL_SOCKET, SO_RCVBUF, &scratch_int, 0));
	A(EINVAL, demi_setsockopt(good.tcp, SOL_SOCKET, SO_RCVBUF, &scratch_int, 1));
	A(ENOPROTOOPT, demi_setsockopt(good.tcp, SOL_SOCKET, 99999, &scratch_int, sizeof(int)));
	A(ENOPROTOOPT, demi_setsockopt(good.tcp, 99999, SO_RCVBUF, &scratch_int, sizeof(int)));
	A(EINVAL, demi_getsockopt(good.tcp, SOL_SOCKET, SO_RCVBUF, NULL, &room));
	A(EINVAL, demi_getsockopt(good.tcp, SOL_SOCKET, SO_RCVBUF, &scratch_int, NULL));
	A(ENOPROTOOPT, getopt_of(SOL_SOCKET, 99999));
	A(ENOPROTOOPT,
	  demi_setsockopt(good.tcp, SOL_DEMI, DEMI_PUSH_ACKED, &scratch_int, sizeof(int)));
	A(ENOPROTOOPT,
	  demi_setsockopt(good.udp, SOL_DEMI, DEMI_PUSH_ACKED, &scratch_int, sizeof(int)));
	A(ENOPROTOOPT, getopt_of(SOL_DEMI, DEMI_PUSH_ACKED));

	A(EINVAL, demi_getsockname(good.tcp, NULL, &room));
	A(EINVAL, demi_getsockname(good.tcp, &out.any, NULL));
	A(EINVAL, demi_getpeername(good.connected, NULL, &room));
	A(EINVAL, demi_getpeername(good.connected, &out.any, NULL));
	assert_int_equal(wrong, 0);
}

static void test_bad_arguments_of_io(void **state)
{
	const demi_sgarray_t *sga = &good.sga;
	const socklen_t length = good.address.length;
	const struct sockaddr *any = &good.address.any;
	int wrong = 0;

	(void)state;
	A(EINVAL, demi_push(NULL, good.connected, sga));
	A(EINVAL, demi_push(&scratch_qt, good.connected, NULL));
	A(EINVAL, push_segments(0));
	A(EINVAL, push_segments(DEMI_SGARRAY_MAXSIZE + 1));
	A(EINVAL, push_segments(UINT32_MAX));
	A(EINVAL, push_null_segment());
	A(EINVAL, push_array(good.connected, good.freed));
	A(EINVAL, push_array(good.memory, good.freed));
	A(EINVAL, push_array(good.udp, good.freed));
	A(EINVAL, second_segment_freed());
	A(EINVAL, push_moved(0, LIVE_BUFFER + 1));
	A(EINVAL, push_moved(1, LIVE_BUFFER));
	A(EINVAL, push_moved(0, UINT32_MAX));
	A(OK, push_moved(1, LIVE_BUFFER - 1));
	A(OK, push_moved(LIVE_BUFFER - 1, 1));
	A(OK, push_moved(7, 3));

	A(EINVAL, demi_pushto(NULL, good.udp, sga, any, length));
	A(EINVAL, demi_pushto(&scratch_qt, good.udp, NULL, any, length));
	A(EINVAL, demi_pushto(&scratch_qt, good.udp, sga, NULL, length));
	A(EINVAL, demi_pushto(&scratch_qt, good.udp, sga, any, 0));
	A(EINVAL, demi_pushto(&scratch_qt, good.udp, sga, any, 1));
	A(EINVAL, demi_pushto(&scratch_qt, good.udp, sga, any, UINT32_MAX));
	A(EINVAL, demi_pushto(&scratch_qt, good.udp, &good.freed, any, length));

	A(EINVAL, demi_pop(NULL, good.connected));
	A(EINVAL, demi_queue(NULL));
	A(EINVAL, demi_cancel(0));
	A(EINVAL, demi_cancel(UINT64_MAX));
	A(EINVAL, demi_blocking_push(NULL, good.connected, sga));
	A(EINVAL, demi_blocking_push(scratch_qr, good.connected, NULL));
	A(EINVAL, demi_blocking_pop(NULL, good.connected));
	assert_int_equal(wrong, 0);
}

static int open_of(const char *name, int flags)
{
	return demi_open(&scratch_int, name, flags, 0600);
}

static int push_to_log(uint32_t bytes)
{
	static char data[65536];

	return push_array(good.log, net_array(data, bytes));
}

/* With a queue of its own, opened for one thing only. */
static int on_log_opened(int flags, int (*call)(struct subject *s))
{
	struct subject s;

	assert_int_equal(demi_open(&s.qd, "a log", flags, 0), 0);
	int result = call(&s);
	assert_int_equal(demi_close(s.qd), 0);
	return result;
}

static int seek_while_popping(void)
{
	demi_qtoken_t qt = net_pop(good.log);
	int err = demi_lseek(good.log, 0, SEEK_SET, NULL);

	assert_int_equal(demi_cancel(qt), 0);
	net_wait_failed(qt, ECANCELED);
	return err;
}

static void test_bad_arguments_of_logs(void **state)
{
	static const char longest[] =
		"0123456789012345678901234567890123456789012345678901234567890123";
	static const int both = O_RDWR | O_CREAT;
	off_t at = 77;
	int wrong = 0;

	(void)state;
	A(EINVAL, demi_open(NULL, "new", both, 0600));
	A(EINVAL, open_of(NULL, both));
	A(EINVAL, open_of("new", both | O_NONBLOCK));
	A(EINVAL, open_of("new", both | O_DIRECTORY));
	A(EINVAL, open_of("new", both | 1 << 30));
	A(EINVAL, open_of("new", O_ACCMODE | O_CREAT));
	A(EINVAL, open_of("new", O_RDONLY | O_CREAT));
	A(EINVAL, open_of("a log", O_RDONLY | O_TRUNC));
	A(EINVAL, open_of("new", -1));
	A(ENOENT, open_of("new", O_RDWR));
	A(ENOENT, open_of("", both));
	A(ENAMETOOLONG, open_of(longest, both));
	A(EEXIST, open_of("a log", both | O_EXCL));
	A(EINVAL, demi_creat(NULL, "new", 0600));
	A(EINVAL, demi_creat(&scratch_int, NULL, 0600));
	A(ENAMETOOLONG, demi_creat(&scratch_int, longest, 0600));

	A(EINVAL, demi_lseek(good.log, 0, 77, &at));
	A(EINVAL, demi_lseek(good.log, 0, -1, &at));
	A(EINVAL, demi_lseek(good.log, -1, SEEK_SET, &at));
	A(EINVAL, demi_lseek(good.log, INT64_MAX, SEEK_SET, &at));
	A(EINVAL, demi_lseek(good.log, INT64_MIN, SEEK_SET, &at));
	A(EINVAL, demi_lseek(good.log, 1, SEEK_CUR, &at));
	A(EINVAL, demi_lseek(good.log, 1, SEEK_END, &at));
	A(ENXIO, demi_lseek(good.log, 0, SEEK_DATA, &at));
	A(EBUSY, seek_while_popping());
	assert_int_equal(at, 77);
	A(OK, demi_lseek(good.log, 0, SEEK_END, NULL));

	A(EINVAL, demi_truncate(NULL, good.log, 0));
	A(EINVAL, demi_truncate(&scratch_qt, good.log, -1));
	A(EINVAL, demi_truncate(&scratch_qt, good.log, INT64_MIN));
	A(EINVAL, demi_truncate(&scratch_qt, good.log, INT64_MAX));

	A(EINVAL, push_to_log(0));
	A(EMSGSIZE, push_to_log(32768));
	A(OK, push_to_log(32768 - 48));
	A(EBADF, on_log_opened(O_RDONLY, call_push));
	A(EBADF, on_log_opened(O_RDONLY, call_truncate));
	A(EBADF, on_log_opened(O_WRONLY, call_pop));
	assert_int_equal(wrong, 0);
}

static void test_bad_arguments_of_waits(void **state)
{
	const demi_qtoken_t w = good.waiting;
	int wrong = 0;

	(void)state;
	A(EINVAL, demi_wait(NULL, w, &no_time));
	A(EINVAL, demi_wait(scratch_qr, 0, &no_time));
	A(EINVAL, demi_wait(scratch_qr, UINT64_MAX, &no_time));
	A(EINVAL, demi_wait(scratch_qr, w + 1, &no_time));
	A(EINVAL, demi_wait(scratch_qr, w + (1 << 20), &no_time));
	A(EINVAL, demi_wait(scratch_qr, 0, NULL));
	A(EINVAL, wait_with((struct timespec){.tv_sec = -1}));
	A(EINVAL, wait_with((struct timespec){.tv_nsec = -1}));
	A(EINVAL, wait_with((struct timespec){.tv_nsec = 1000000000}));
	A(ETIMEDOUT, wait_with((struct timespec){.tv_nsec = 1}));

	A(EINVAL, demi_wait_any(NULL, &scratch_int, &w, 1, &no_time));
	A(EINVAL, demi_wait_any(scratch_qr, NULL, &w, 1, &no_time));
	A(EINVAL, demi_wait_any(scratch_qr, &scratch_int, NULL, 1, &no_time));
	A(EINVAL, demi_wait_any(scratch_qr, &scratch_int, &w, -1, &no_time));
	A(EINVAL, demi_wait_any(scratch_qr, &scratch_int, &w, INT32_MIN, &no_time));
	A(ETIMEDOUT, demi_wait_any(scratch_qr, &scratch_int, &w, 0, &no_time));
	A(ETIMEDOUT, wait_any_of(w, w));
	A(EINVAL, wait_any_of(w, 0));
	A(EINVAL, wait_any_of(UINT64_MAX, w));

	A(EINVAL, demi_wait_next_n(NULL, 1, &scratch_int, &no_time));
	A(EINVAL, demi_wait_next_n(scratch_qr, 0, &scratch_int, &no_time));
	A(EINVAL, demi_wait_next_n(scratch_qr, -1, &scratch_int, &no_time));
	A(EINVAL, demi_wait_next_n(scratch_qr, 1, NULL, &no_time));
	A(ETIMEDOUT, demi_wait_next_n(scratch_qr, 1, &scratch_int, &no_time));

	A(EINVAL, demi_wait_all(NULL, &w, 1, &no_time));
	A(EINVAL, demi_wait_all(scratch_qr, NULL, 1, &no_time));
	A(EINVAL, demi_wait_all(scratch_qr, &w, -1, &no_time));
	A(OK, demi_wait_all(scratch_qr, &w, 0, &no_time));
	A(ETIMEDOUT, demi_wait_all(scratch_qr, &w, 1, &no_time));
	A(EINVAL, wait_all_of(w, w));
	A(EINVAL, wait_all_of(w, 12345));
	assert_int_equal(wrong, 0);
	net_assert_pending(w);
}

static void test_bad_arguments_of_memory(void **state)
{
	struct net_address out = {.length = sizeof(out.room)};
	demi_sgarray_t null_array;
	char local;
	int wrong = 0;

	(void)state;
	memset(&null_array, 0, sizeof(null_array));
	A(0, null_sga(demi_sgaalloc(0)));
	A(0, null_sga(demi_sgaalloc(SIZE_MAX)));
	A(0, null_sga(demi_sgaalloc((size_t)UINT32_MAX + 1)));
	A(EINVAL, demi_sgafree(NULL));
	A(EINVAL, demi_sgafree(&null_array));
	A(EINVAL, sga_with_segments(demi_sgafree, DEMI_SGARRAY_MAXSIZE + 1));
	A(EINVAL, sga_with_segments(demi_sgafree, UINT32_MAX));
	A(EINVAL, free_of_freed(demi_sgafree));
	A(EINVAL, demi_sgabusy(NULL));
	A(EINVAL, demi_sgabusy(&null_array));
	A(EINVAL, sga_with_segments(busy, DEMI_SGARRAY_MAXSIZE + 1));
	A(EINVAL, free_of_freed(busy));
	A(0, demi_sgabusy(&good.sga));
	A(EINVAL, demi_sgaaddr(NULL, &out.any, &out.length));
	A(EINVAL, demi_sgaaddr(&good.sga, NULL, &out.length));
	A(EINVAL, demi_sgaaddr(&good.sga, &out.any, NULL));
	A(EINVAL, demi_sgaaddr(&good.sga, &out.any, &out.length));
	A(EINVAL, sga_with_segments(address_of, 0));
	A(EINVAL, free_of_freed(address_of));

	A(0, demi_free(NULL));
	A(EINVAL, demi_free(&local));
	A(EINVAL, demi_free(foreign));
	A(EINVAL, free_interior());
	A(EINVAL, free_twice());
	A(0, null_of(demi_malloc(SIZE_MAX)));
	A(0, null_of(demi_malloc(PTRDIFF_MAX)));
	A(0, null_of(demi_calloc(SIZE_MAX, 2)));
	A(0, null_of(demi_calloc(SIZE_MAX / 2, 4)));
	A(0, null_of(demi_realloc(foreign, 10)));
	A(0, null_of(demi_realloc((char *)good.sga.sga_segs[0].sgaseg_buf + 16, 10)));
	A(0, null_of(demi_realloc(good.sga.sga_segs[0].sgaseg_buf, SIZE_MAX)));
	A(0, null_of(demi_aligned_alloc(0, 16)));
	A(0, null_of(demi_aligned_alloc(3, 16)));
	A(0, null_of(demi_aligned_alloc((size_t)4 << 20, 16)));
	A(0, null_of(demi_aligned_alloc(16, SIZE_MAX)));
	assert_int_equal(wrong, 0);
}

static void test_bad_arguments_of_instances(void **state)
{
	static const struct demi_args args;
	struct demi *out;
	int wrong = 0;

	(void)state;
	A(EINVAL, demi_init(NULL));
	A(EEXIST, demi_init(&args));
	A(EINVAL, demi_create(NULL, &args));
	A(EINVAL, demi_create(&out, NULL));
	A(EINVAL, demi_destroy(NULL));
	A(EINVAL, demi_event_fd(NULL));
	A(EINVAL, demi_set_config(NULL, "1"));
	A(EINVAL, null_fn());
	A(EINVAL, demi_sleep(NULL));
	A(EINVAL, sleep_for(-1, 0));
	A(EINVAL, sleep_for(0, -1));
	A(EINVAL, sleep_for(0, 1000000000));
	A(OK, sleep_for(0, 0));
	assert_int_equal(wrong, 0);
}

/* ---- out-pointers are untouched by an error, names are cut off ---- */

static void test_names_are_cut_off(void **state)
{
	struct net_address full = net_local(good.listener);
	struct net_address cut;

	(void)state;
	for (socklen_t room = 0; room <= full.length; room++) {
		memset(&cut, 0x5a, sizeof(cut));
		socklen_t length = room;
		assert_int_equal(demi_getsockname(good.listener, &cut.any, &length), 0);
		assert_int_equal(length, full.length);
		assert_memory_equal(&cut, &full, room);
		assert_int_equal(((unsigned char *)&cut)[room], 0x5a);
	}
}

static void test_errors_leave_results_alone(void **state)
{
	demi_qtoken_t qt = 77;
	int qd = 77;
	int offset = 77;
	demi_qresult_t qr;
	demi_qresult_t same;

	(void)state;
	memset(&qr, 0x5a, sizeof(qr));
	memset(&same, 0x5a, sizeof(same));
	assert_int_equal(demi_pop(&qt, good.tcp), ENOTCONN);
	assert_int_equal(demi_push(&qt, good.tcp, &good.sga), ENOTCONN);
	assert_int_equal(demi_accept(&qt, good.tcp), EINVAL);
	assert_int_equal(qt, 77);
	assert_int_equal(demi_socket(&qd, AF_UNIX, SOCK_STREAM, 0), ENOTSUP);
	assert_int_equal(qd, 77);
	assert_int_equal(demi_wait_any(&qr, &offset, &good.waiting, 1, &no_time), ETIMEDOUT);
	assert_int_equal(demi_wait(&qr, 1, &no_time), EINVAL);
	assert_int_equal(offset, 77);
	assert_memory_equal(&qr, &same, sizeof(qr));
}

static void test_errno_is_left_alone(void **state)
{
	int qd;

	(void)state;
	errno = EXDEV;
	(void)call_bind(&(struct subject){.qd = good.listener});
	assert_int_equal(demi_bind(good.tcp, &good.address.any, good.address.length), EADDRINUSE);
	assert_int_equal(demi_getpeername(good.tcp, &(struct net_address){0}.any,
					  &(socklen_t){sizeof(struct net_address)}),
			 ENOTCONN);
	assert_int_equal(demi_setsockopt(good.tcp, 1, 99999, &qd, sizeof(qd)), ENOPROTOOPT);
	assert_int_equal(demi_socket(&qd, AF_UNIX, 1, 0), ENOTSUP);
	net_assert_pending(net_pop(good.connected));
	assert_int_equal(demi_set_config("linger_ms", "x"), EINVAL);
	assert_int_equal(errno, EXDEV);
}

/* ---- made-up tokens ---- */

/* An element that waits in a memory queue is an operation inside, and none of the application's. */
static void test_made_up_tokens(void **state)
{
	int qd = memory_queue();
	uint64_t x = 88172645463325252U;

	(void)state;
	demi_qtoken_t spent = net_push_bytes(qd, "element", 7);
	(void)net_wait(spent);
	for (demi_qtoken_t qt = spent < 4096 ? 1 : spent - 4096; qt < spent + 4096; qt++) {
		if (qt == good.waiting)
			continue;
		assert_int_equal(demi_cancel(qt), EINVAL);
		assert_int_equal(demi_wait(scratch_qr, qt, &no_time), EINVAL);
		assert_int_equal(demi_wait_any(scratch_qr, &scratch_int, &qt, 1, &no_time), EINVAL);
		assert_int_equal(demi_wait_all(scratch_qr, &qt, 1, &no_time), EINVAL);
	}
	for (uint32_t generation = 0; generation < 64; generation++) {
		for (uint32_t slot = 0; slot < 16; slot++) {
			demi_qtoken_t qt = (demi_qtoken_t)generation << 20 | slot;
			if (qt != good.waiting)
				assert_int_equal(demi_wait(scratch_qr, qt, &no_time), EINVAL);
		}
	}
	for (int i = 0; i < 20000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		assert_int_equal(demi_wait(scratch_qr, x, &no_time), EINVAL);
		assert_int_equal(demi_cancel(x), EINVAL);
	}
	net_pop_bytes(qd, "element", 7);
	net_assert_pending(good.waiting);
	assert_int_equal(demi_close(qd), 0);
}

/* ---- each state of the thread ---- */

static void nothing(void *arg)
{
	(void)arg;
}

/* Every call with good arguments; what stands for a NULL result is ENOSYS. */
static int passes(void *arg, const demi_sgarray_t *sga)
{
	return arg || sga;
}

static int keeps(void *arg, demi_sgarray_t *sga)
{
	return arg && sga ? EDOM : 0;
}

static int equal(void *arg, const demi_sgarray_t *a, const demi_sgarray_t *b)
{
	return arg || a == b;
}

static const struct demi_framing framing = {
	.kind = DEMI_FRAME_LENGTH, .max_bytes = 1, .length_bytes = 1};

#define EACH_CALL(X)                                                                        \
	X(demi_socket(&scratch_int, AF_INET, SOCK_STREAM, 0))                               \
	X(demi_bind(500, &good.address.any, good.address.length))                           \
	X(demi_listen(500, 1))                                                              \
	X(demi_accept(&scratch_qt, 500))                                                    \
	X(demi_connect(&scratch_qt, 500, &good.address.any, good.address.length))           \
	X(demi_close(500))                                                                  \
	X(demi_push(&scratch_qt, 500, &good.sga))                                           \
	X(demi_pushto(&scratch_qt, 500, &good.sga, &good.address.any, good.address.length)) \
	X(demi_pop(&scratch_qt, 500))                                                       \
	X(demi_setsockopt(500, SOL_SOCKET, SO_RCVBUF, &scratch_int, sizeof(scratch_int)))   \
	X(demi_getsockopt(500, SOL_SOCKET, SO_RCVBUF, &scratch_int, &scratch_length))       \
	X(demi_getpeername(500, &scratch_address.any, &scratch_length))                     \
	X(demi_getsockname(500, &scratch_address.any, &scratch_length))                     \
	X(demi_set_schedule(NULL, NULL, 0))                                                 \
	X(demi_shutdown(500, SHUT_WR))                                                      \
	X(demi_queue(&scratch_int))                                                         \
	X(demi_filter(&scratch_int, 500, passes, NULL))                                     \
	X(demi_filter_expression(&scratch_int, 500, "len"))                                 \
	X(demi_map(&scratch_int, 500, keeps, NULL))                                         \
	X(demi_sort(&scratch_int, 500, equal, NULL, 1))                                     \
	X(demi_merge(&scratch_int, 500, 501))                                               \
	X(demi_frame(&scratch_int, 500, &framing))                                          \
	X(demi_qconnect(500, 501))                                                          \
	X(demi_qended(&scratch_qt, 500))                                                    \
	X(demi_create_pipe(&scratch_int, "pipe"))                                           \
	X(demi_open_pipe(&scratch_int, "pipe"))                                             \
	X(demi_open(&scratch_int, "a log", O_RDWR | O_CREAT, 0600))                         \
	X(demi_creat(&scratch_int, "a log", 0600))                                          \
	X(demi_lseek(500, 0, SEEK_SET, &scratch_offset))                                    \
	X(demi_truncate(&scratch_qt, 500, 0))                                               \
	X(demi_cancel(1))                                                                   \
	X(demi_flush())                                                                     \
	X(demi_wait(scratch_qr, 1, &no_time))                                               \
	X(demi_wait_any(scratch_qr, &scratch_int, &scratch_qt, 1, &no_time))                \
	X(demi_wait_next_n(scratch_qr, 1, &scratch_int, &no_time))                          \
	X(demi_wait_all(scratch_qr, &scratch_qt, 1, &no_time))                              \
	X(demi_blocking_push(scratch_qr, 500, &good.sga))                                   \
	X(demi_blocking_pop(scratch_qr, 500))                                               \
	X(demi_event_fd(&scratch_int))                                                      \
	X(demi_event_arm())                                                                 \
	X(demi_go(nothing, NULL))                                                           \
	X(demi_yield())                                                                     \
	X(demi_sleep(&no_time))                                                             \
	X(demi_fini())

/* Of the heap: legal in callbacks, nothing without an instance. */
#define EACH_HEAP_CALL(X)                                                 \
	X(demi_sgabusy(&good.sga))                                        \
	X(demi_sgaaddr(&good.sga, &scratch_address.any, &scratch_length)) \
	X(demi_malloc(16) ? 0 : ENOSYS)                                   \
	X(demi_calloc(1, 16) ? 0 : ENOSYS)                                \
	X(demi_realloc(NULL, 16) ? 0 : ENOSYS)                            \
	X(demi_aligned_alloc(16, 16) ? 0 : ENOSYS)                        \
	X(null_sga(demi_sgaalloc(16)) ? 0 : ENOSYS)

static struct net_address scratch_address;
static off_t scratch_offset;
static socklen_t scratch_length = sizeof(struct sockaddr_storage);

/* Calls that answered otherwise; usable in a forked child, where nothing may assert. */
static int wrong_calls(int expected)
{
	int wrong = 0;

#define TRY(call)                                                                              \
	{                                                                                      \
		const int got_ = (call);                                                       \
		if (got_ != expected) {                                                        \
			(void)fprintf(stderr, "%s: got %d, want %d\n", #call, got_, expected); \
			wrong++;                                                               \
		}                                                                              \
	}
	EACH_CALL(TRY)
	return wrong;
}

static int wrong_heap_calls(int expected)
{
	int wrong = 0;

	EACH_HEAP_CALL(TRY)
	return wrong;
}

static void test_before_init(void **state)
{
	demi_sgarray_t null_array;
	char local;

	(void)state;
	memset(&null_array, 0, sizeof(null_array));
	assert_int_equal(wrong_calls(ENOSYS) + wrong_heap_calls(ENOSYS), 0);
	assert_string_equal(demi_version(), DEMI_VERSION_TEXT);
	assert_int_equal(demi_free(NULL), 0);
	assert_int_equal(demi_free(&local), EINVAL);
	assert_int_equal(demi_sgafree(&null_array), EINVAL);
	assert_int_equal(demi_destroy(NULL), EINVAL);
}

static void test_after_fini(void **state)
{
	(void)net_init(state);
	void *ptr = demi_malloc(100);
	demi_sgarray_t sga = demi_sgaalloc(100);
	(void)net_fini(state);
	assert_int_equal(wrong_calls(ENOSYS) + wrong_heap_calls(ENOSYS), 0);
	memset(ptr, 1, 100);
	memset(sga.sga_segs[0].sgaseg_buf, 2, 100);
	assert_int_equal(demi_free(ptr), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(demi_free(foreign), EINVAL);
	assert_int_equal(demi_free(NULL), 0);
}

static void *without_instance(void *arg)
{
	demi_sgarray_t *sga = arg;
	int wrong = wrong_calls(ENOSYS) + wrong_heap_calls(ENOSYS);

	wrong += demi_sgafree(sga) != 0;
	wrong += demi_free(foreign) != EINVAL;
	return (void *)(intptr_t)wrong; /* NOLINT(performance-no-int-to-ptr) */
}

static void test_on_a_thread_without(void **state)
{
	pthread_t thread;
	void *wrong;

	(void)state;
	demi_sgarray_t sga = demi_sgaalloc(100);
	assert_int_equal(pthread_create(&thread, NULL, without_instance, &sga), 0);
	assert_int_equal(pthread_join(thread, &wrong), 0);
	assert_null(wrong);
}

static int in_child(void)
{
	demi_sgarray_t sga = good.sga;
	int wrong = wrong_calls(ENOSYS) + wrong_heap_calls(ENOSYS);

	wrong += demi_free(NULL) != ENOSYS;
	wrong += demi_free(good.sga.sga_segs[0].sgaseg_buf) != ENOSYS;
	wrong += demi_sgafree(&sga) != ENOSYS;
	wrong += demi_enter(NULL) != ENOSYS;
	wrong += strcmp(demi_version(), DEMI_VERSION_TEXT) != 0;
	return wrong;
}

static void test_in_a_forked_child(void **state)
{
	int status = -1;

	(void)state;
	(void)fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		_exit(in_child());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	net_assert_pending(good.waiting);
}

/* ---- inside a callback ---- */

struct callback {
	int calls;
	int wrong;
};

static void call_everything(void *arg, enum demi_log_level level, const char *message)
{
	static const struct demi_args args;
	struct callback *callback = arg;
	struct demi *other;

	(void)level;
	(void)message;
	if (callback->calls++ > 0)
		return;
	void *ptr = demi_malloc(100);
	demi_sgarray_t sga = demi_sgaalloc(100);
	callback->wrong = wrong_calls(EBUSY);
	callback->wrong += demi_create(&other, &args) != EBUSY;
	callback->wrong += demi_enter(NULL) != EBUSY;
	callback->wrong += demi_set_config("linger_ms", "x") != EBUSY;
	callback->wrong += demi_init(&args) == 0;
	callback->wrong += !ptr || demi_free(ptr) != 0;
	callback->wrong += demi_sgabusy(&sga) != 0 || demi_sgafree(&sga) != 0;
	callback->wrong += !demi_version();
}

static void test_inside_a_callback(void **state)
{
	struct callback callback = {0};

	(void)state;
	assert_int_equal(demi_set_log(call_everything, &callback), 0);
	assert_int_equal(demi_set_config("linger_ms", "nonsense"), EINVAL);
	assert_int_equal(demi_set_log(NULL, NULL), 0);
	assert_int_equal(callback.calls, 1);
	assert_int_equal(callback.wrong, 0);
	net_assert_pending(good.waiting);
}

/* The same while an instance is being made: there is none yet, and none may be made. */
static void init_again(void *arg, enum demi_log_level level, const char *message)
{
	static const struct demi_args args;
	struct callback *callback = arg;

	(void)level;
	(void)message;
	if (callback->calls++ > 10)
		return;
	callback->wrong += demi_init(&args) != EBUSY;
	callback->wrong += demi_socket(&scratch_int, AF_INET, SOCK_STREAM, 0) == 0;
}

static void test_init_inside_a_callback_of_init(void **state)
{
	static const struct demi_args args;
	struct callback callback = {0};

	(void)state;
	assert_return_code(setenv("DEMI_LINGER_MS", "nonsense", 1), errno);
	assert_int_equal(demi_set_log(init_again, &callback), 0);
	assert_int_equal(demi_init(&args), EINVAL);
	assert_int_equal(demi_set_log(NULL, NULL), 0);
	assert_return_code(unsetenv("DEMI_LINGER_MS"), errno);
	assert_int_equal(callback.calls, 1);
	assert_int_equal(callback.wrong, 0);
}

/* ---- bounds ---- */

static void test_descriptors_run_out(void **state)
{
	int qds[8];
	int qd;

	assert_int_equal(demi_set_config("queues_max", "8"), 0);
	(void)net_init(state);
	for (int i = 0; i < 8; i++)
		qds[i] = i % 2 ? memory_queue() : net_socket(AF_INET, SOCK_STREAM);
	int fds = net_count_fds();
	assert_int_equal(demi_socket(&qd, AF_INET, SOCK_STREAM, 0), EMFILE);
	assert_int_equal(demi_queue(&qd), EMFILE);
	assert_int_equal(open_of("a log", O_RDWR | O_CREAT), EMFILE);
	assert_int_equal(net_count_fds(), fds);
	assert_int_equal(demi_close(qds[3]), 0);
	assert_int_equal(demi_socket(&qd, AF_INET, SOCK_STREAM, 0), 0);
	assert_int_equal(qd, qds[3]);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("queues_max", NULL), 0);
}

static void test_operations_run_out(void **state)
{
	demi_qtoken_t qts[64];
	demi_qtoken_t qt;

	assert_int_equal(demi_set_config("operations_max", "64"), 0);
	(void)net_init(state);
	int memory = memory_queue();
	int log = log_queue();
	int listener = net_listener(AF_INET, 4);
	int tcp = net_socket(AF_INET, SOCK_STREAM);
	struct net_address address = net_local(listener);
	demi_sgarray_t sga = net_array(foreign, 1);
	for (int i = 0; i < 64; i++)
		qts[i] = net_pop(memory);
	assert_int_equal(demi_pop(&qt, memory), ENOMEM);
	assert_int_equal(demi_truncate(&qt, log, 0), ENOMEM);
	assert_int_equal(demi_push(&qt, memory, &sga), ENOMEM);
	assert_int_equal(demi_accept(&qt, listener), ENOMEM);
	assert_int_equal(demi_connect(&qt, tcp, &address.any, address.length), ENOMEM);
	assert_int_equal(demi_cancel(qts[10]), 0);
	net_wait_failed(qts[10], ECANCELED);
	qts[10] = net_pop(memory);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("operations_max", NULL), 0);
}

static void test_files_run_out(void **state)
{
	static const struct demi_args args;
	struct rlimit old;
	struct rlimit few;
	int qd;

	(void)state;
	assert_return_code(getrlimit(RLIMIT_NOFILE, &old), errno);
	few = old;
	/* The lowest number that is free is the first that is refused. */
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_return_code(close(fd), errno);
	few.rlim_cur = (rlim_t)fd;
	assert_return_code(setrlimit(RLIMIT_NOFILE, &few), errno);
	int no_instance = demi_init(&args);
	assert_return_code(setrlimit(RLIMIT_NOFILE, &old), errno);
	assert_int_equal(no_instance, EMFILE);

	(void)net_init(state);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_return_code(close(fd), errno);
	few.rlim_cur = (rlim_t)fd;
	assert_return_code(setrlimit(RLIMIT_NOFILE, &few), errno);
	int no_socket = demi_socket(&qd, AF_INET, SOCK_STREAM, 0);
	int no_event = demi_event_fd(&qd);
	assert_return_code(setrlimit(RLIMIT_NOFILE, &old), errno);
	assert_int_equal(no_socket, EMFILE);
	assert_int_equal(no_event, EMFILE);
	assert_int_equal(demi_event_fd(&qd), 0);
	(void)net_fini(state);
}

/* For all instances of this thread. */
static void drive_in_memory(void)
{
	(void)demi_set_config("storage_driver", "sim");
	(void)demi_set_config("storage_device", "4M");
	(void)demi_set_config("storage_segment_bytes", "65536");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_init), /* first: the process has had no instance */
		cmocka_unit_test(test_after_fini),
		cmocka_unit_test_setup_teardown(test_every_call_on_every_kind, net_init, net_fini),
		cmocka_unit_test_setup_teardown(test_bad_arguments_of_sockets, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_bad_arguments_of_io, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_bad_arguments_of_logs, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_bad_arguments_of_waits, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_bad_arguments_of_memory, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_bad_arguments_of_instances, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_names_are_cut_off, setup_good, teardown_good),
		cmocka_unit_test_setup_teardown(test_errors_leave_results_alone, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_errno_is_left_alone, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_made_up_tokens, setup_good, teardown_good),
		cmocka_unit_test_setup_teardown(test_on_a_thread_without, setup_good,
						teardown_good),
		cmocka_unit_test_setup_teardown(test_in_a_forked_child, setup_good, teardown_good),
		cmocka_unit_test_setup_teardown(test_inside_a_callback, setup_good, teardown_good),
		cmocka_unit_test(test_init_inside_a_callback_of_init),
		cmocka_unit_test(test_descriptors_run_out),
		cmocka_unit_test(test_operations_run_out),
		cmocka_unit_test(test_files_run_out),
	};

	drive_in_memory();
	return test_run("errors", tests);
}
