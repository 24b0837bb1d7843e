/* SPDX-License-Identifier: MIT
 * tests/net/loop_test.c - libOS catloop: names, errors and states as TCP and UDP would have them,
 * streams and datagrams whole, peers in other processes that are killed, peers that lie, every
 * allocation failed in turn.
 */
#include "support/net.h"

#include "api/instance.h"
#include "base/prng.h"
#include "support/child.h"
#include "support/fault.h"
#include "support/seed.h"
#include "support/shmrig.h"
#include "transport/shm/loop.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[] = "/tmp/demi-loop-XXXXXX";
static const struct timespec no_time;

/* -- short ways to say things */

static struct net_address address_of(const char *text, uint16_t port)
{
	struct net_address address;

	memset(&address, 0, sizeof(address));
	if (strchr(text, ':')) {
		address.in6.sin6_family = AF_INET6;
		address.in6.sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, text, &address.in6.sin6_addr), 1);
		address.length = sizeof(address.in6);
	} else {
		address.in.sin_family = AF_INET;
		address.in.sin_port = htons(port);
		assert_int_equal(inet_pton(AF_INET, text, &address.in.sin_addr), 1);
		address.length = sizeof(address.in);
	}
	return address;
}

static void assert_address(const struct net_address *address, const char *text, uint16_t port)
{
	const struct net_address expected = address_of(text, port);

	assert_int_equal(address->length, expected.length);
	assert_memory_equal(&address->room, &expected.room, expected.length);
}

static int bind_to(int qd, const char *text, uint16_t port)
{
	const struct net_address address = address_of(text, port);

	return demi_bind(qd, &address.any, address.length);
}

static int domain_of(const char *text)
{
	return strchr(text, ':') ? AF_INET6 : AF_INET;
}

static int bound_to(int type, const char *text, uint16_t port)
{
	int qd = net_socket(domain_of(text), type);

	assert_int_equal(bind_to(qd, text, port), 0);
	return qd;
}

static int listener_at(const char *text, uint16_t port)
{
	int qd = bound_to(SOCK_STREAM, text, port);

	assert_int_equal(demi_listen(qd, 8), 0);
	return qd;
}

/* 0, or what the call or the operation failed with. */
static int connect_to(int qd, const char *text, uint16_t port)
{
	const struct net_address address = address_of(text, port);
	demi_qtoken_t qt;
	int err = demi_connect(&qt, qd, &address.any, address.length);

	if (err)
		return err;
	demi_qresult_t qr = net_wait(qt);
	return qr.qr_opcode == DEMI_OPC_FAILED ? (int)qr.qr_ret : 0;
}

static void close_all(const int *qds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_int_equal(demi_close(qds[i]), 0);
}

/* A turn or two, in which nothing is expected. */
static void turns(void)
{
	int qd = -1;

	assert_int_equal(demi_queue(&qd), 0);
	demi_qtoken_t qt = net_pop(qd);
	for (int i = 0; i < 100; i++)
		net_assert_pending(qt);
	assert_int_equal(demi_close(qd), 0);
	net_wait_failed(qt, ECANCELED);
}

/* What `demi stat` tells of a queue. */
static struct queue_info described(int qd)
{
	struct queue *queue = queue_find(&thread_state.current->queues, qd);
	struct queue_info info;

	assert_non_null(queue);
	queue->ops->describe(queue, &info);
	return info;
}

static uint64_t drops(enum drop drop)
{
	return thread_state.current->sched.counters.drops[drop];
}

/* -- names */

static void test_bind(void **state)
{
	static const struct {
		const char *held; /* by another socket, port 5000; NULL: nothing is */
		const char *wanted;
		uint16_t port;
		bool v6only; /* both of them */
		int err;
	} cases[] = {
		{NULL, "127.0.0.1", 5000, false, 0},
		{NULL, "0.0.0.0", 5000, false, 0},
		{NULL, "192.0.2.7", 5000, false, 0}, /* every address is this host */
		{NULL, "::1", 5000, false, 0},
		{NULL, "::", 5000, false, 0},
		{NULL, "::ffff:127.0.0.1", 5000, false, 0},
		{NULL, "224.0.0.1", 5000, false, EADDRNOTAVAIL},
		{NULL, "255.255.255.255", 5000, false, EADDRNOTAVAIL},
		{NULL, "ff02::1", 5000, false, EADDRNOTAVAIL},
		{NULL, "::ffff:0.0.0.0", 5000, false, EINVAL},
		{NULL, "::ffff:127.0.0.1", 5000, true, EINVAL},
		{"127.0.0.1", "127.0.0.1", 5000, false, EADDRINUSE},
		{"127.0.0.1", "127.0.0.1", 5001, false, 0},
		{"127.0.0.1", "0.0.0.0", 5000, false, EADDRINUSE},
		{"0.0.0.0", "127.0.0.1", 5000, false, EADDRINUSE},
		{"127.0.0.1", "127.0.0.2", 5000, false, EADDRINUSE}, /* a port is one socket's */
		{"127.0.0.1", "::1", 5000, false, 0},
		{"0.0.0.0", "::", 5000, false, EADDRINUSE},
		{"::", "0.0.0.0", 5000, false, EADDRINUSE},
		{"0.0.0.0", "::", 5000, true, 0},
		{"::", "0.0.0.0", 5000, true, 0},
		{"::", "::1", 5000, true, EADDRINUSE},
		{"::ffff:127.0.0.1", "127.0.0.1", 5000, false, EADDRINUSE},
	};

	static const int types[] = {SOCK_STREAM, SOCK_DGRAM};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LENGTH(cases); i++) {
		const char *held = cases[i / 2].held;
		int type = types[i % 2];
		int only = cases[i / 2].v6only;
		int qds[2] = {-1, net_socket(domain_of(cases[i / 2].wanted), type)};
		if (held) {
			qds[0] = net_socket(domain_of(held), type);
			(void)demi_setsockopt(qds[0], IPPROTO_IPV6, IPV6_V6ONLY, &only, 4);
			assert_int_equal(bind_to(qds[0], held, 5000), 0);
		}
		(void)demi_setsockopt(qds[1], IPPROTO_IPV6, IPV6_V6ONLY, &only, 4);
		int err = bind_to(qds[1], cases[i / 2].wanted, cases[i / 2].port);
		if (err != cases[i / 2].err)
			fail_msg("case %zu: %d", i, err);
		struct net_address local = net_local(qds[1]);
		if (!err) {
			assert_address(&local, cases[i / 2].wanted, cases[i / 2].port);
			assert_int_equal(bind_to(qds[1], cases[i / 2].wanted, 5002), EINVAL);
		}
		close_all(held ? qds : qds + 1, held ? 2 : 1);
	}
	/* the protocols do not meet */
	int qds[] = {bound_to(SOCK_STREAM, "0.0.0.0", 5000), bound_to(SOCK_DGRAM, "0.0.0.0", 5000)};
	close_all(qds, 2);
}

static void test_ephemeral_ports(void **state)
{
	int qds[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(qds); i++) {
		qds[i] = net_socket(AF_INET, i % 2 ? SOCK_DGRAM : SOCK_STREAM);
		struct net_address local = net_local(qds[i]);
		assert_address(&local, "0.0.0.0", 0);
		assert_int_equal(bind_to(qds[i], "127.0.0.1", 0), 0);
		uint16_t port = (local = net_local(qds[i]), net_port(&local));
		assert_true(port >= 32768 && port < 61000);
		for (size_t k = i % 2; k < i; k += 2) {
			local = net_local(qds[k]);
			assert_int_not_equal(net_port(&local), port);
		}
	}
	close_all(qds, ARRAY_LENGTH(qds));
}

/* Files of names are their user's alone, and are gone with their sockets. */
static void test_files(void **state)
{
	struct stat status;
	char path[128];

	(void)state;
	int qd = bound_to(SOCK_STREAM, "127.0.0.1", 5000);
	snprintf(path, sizeof(path), "%s/tcp4-5000.sock", directory);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(stat(path, &status), -1);
	DIR *dir = opendir(directory);
	uint32_t entries = 0;
	while (readdir(dir))
		entries++;
	closedir(dir);
	assert_int_equal(entries, 2); /* . and .. */
}

/* -- connecting */

static void test_connect_errors(void **state)
{
	static const struct {
		const char *listens; /* at port 5000 */
		const char *to;
		uint16_t port;
		int err;
	} cases[] = {
		{"127.0.0.1", "127.0.0.1", 5000, 0},
		{"127.0.0.1", "0.0.0.0", 5000, 0},
		{"0.0.0.0", "127.0.0.1", 5000, 0},
		{"0.0.0.0", "10.1.2.3", 5000, 0},
		{"10.1.2.3", "10.1.2.3", 5000, 0},
		{"127.0.0.1", "127.0.0.2", 5000, ECONNREFUSED},
		{"127.0.0.1", "127.0.0.1", 5001, ECONNREFUSED},
		{"127.0.0.1", "127.0.0.1", 0, ECONNREFUSED},
		{"127.0.0.1", "::1", 5000, ECONNREFUSED},
		{"127.0.0.1", "::ffff:127.0.0.1", 5000, 0},
		{"127.0.0.1", "224.0.0.1", 5000, ENETUNREACH},
		{"127.0.0.1", "255.255.255.255", 5000, ENETUNREACH},
		{"::1", "::1", 5000, 0},
		{"::1", "::", 5000, 0},
		{"::1", "127.0.0.1", 5000, ECONNREFUSED},
		{"::", "::1", 5000, 0},
		{"::", "fd00::17", 5000, 0},
		{"::", "127.0.0.1", 5000, 0},
		{"::", "::ffff:127.0.0.1", 5000, 0},
		{"::", "ff02::1", 5000, ENETUNREACH},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int qds[] = {listener_at(cases[i].listens, 5000),
			     net_socket(domain_of(cases[i].to), SOCK_STREAM)};
		int err = connect_to(qds[1], cases[i].to, cases[i].port);
		if (err != cases[i].err)
			fail_msg("case %zu: %d", i, err);
		struct net_address local = net_local(qds[1]);
		assert_int_equal(net_port(&local) != 0, err == 0);
		if (err) /* another try may succeed */
			assert_int_equal(connect_to(qds[1], cases[i].to, 4999),
					 err == ENETUNREACH ? err : ECONNREFUSED);
		close_all(qds, 2);
	}
}

/* A port that is bound, but not listened at, refuses; once it does not, the same socket connects.
 */
static void test_listen_later(void **state)
{
	(void)state;
	int qds[] = {bound_to(SOCK_STREAM, "127.0.0.1", 5000), net_socket(AF_INET, SOCK_STREAM)};
	assert_int_equal(connect_to(qds[1], "127.0.0.1", 5000), ECONNREFUSED);
	assert_int_equal(demi_listen(qds[0], 1), 0);
	assert_int_equal(connect_to(qds[1], "127.0.0.1", 5000), 0);
	close_all(qds, 2);
}

/* Both sides know both names, in their own family. */
static void test_names_of_connections(void **state)
{
	static const struct {
		const char *listens;
		const char *from; /* NULL: not bound */
		const char *to;
		const char *client_local;
		const char *client_peer;
		const char *server_local;
		const char *server_peer;
	} cases[] = {
		{"0.0.0.0", NULL, "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"0.0.0.0", NULL, "0.0.0.0", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.1",
		 "10.0.0.2"},
		{"::", NULL, "::1", "::1", "::1", "::1", "::1"},
		{"::", NULL, "127.0.0.1", "127.0.0.1", "127.0.0.1", "::ffff:127.0.0.1",
		 "::ffff:127.0.0.1"},
		{"0.0.0.0", NULL, "::ffff:127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.1",
		 "127.0.0.1", "127.0.0.1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int qds[] = {listener_at(cases[i].listens, 5000),
			     net_socket(domain_of(cases[i].to), SOCK_STREAM), -1};
		if (cases[i].from)
			assert_int_equal(bind_to(qds[1], cases[i].from, 0), 0);
		assert_int_equal(connect_to(qds[1], cases[i].to, 5000), 0);
		demi_qresult_t qr = net_wait(net_accept(qds[0]));
		qds[2] = qr.qr_value.ares.qd;
		struct net_address names[] = {net_local(qds[1]), net_peer(qds[1]),
					      net_local(qds[2]), net_peer(qds[2])};
		uint16_t port = net_port(&names[0]);
		assert_address(&names[0], cases[i].client_local, port);
		assert_address(&names[1], cases[i].client_peer, 5000);
		assert_address(&names[2], cases[i].server_local, 5000);
		assert_address(&names[3], cases[i].server_peer, port);
		if (names[3].any.sa_family == AF_INET)
			assert_memory_equal(&qr.qr_value.ares.addr, &names[3].in,
					    sizeof(names[3].in));
		close_all(qds, 3);
	}
}

/* A listener takes one connection more than its backlog; the next waits until one is accepted. */
static void test_backlog(void **state)
{
	demi_qtoken_t qts[3];
	int qds[7] = {bound_to(SOCK_STREAM, "127.0.0.1", 5000)};
	const struct net_address to = address_of("127.0.0.1", 5000);

	(void)state;
	assert_int_equal(demi_listen(qds[0], 1), 0);
	for (int i = 0; i < 3; i++) {
		qds[1 + i] = net_socket(AF_INET, SOCK_STREAM);
		qts[i] = net_connect(qds[1 + i], &to);
		if (i < 2)
			assert_int_equal(net_wait(qts[i]).qr_opcode, DEMI_OPC_CONNECT);
	}
	turns();
	net_sleep_ms(3);
	net_assert_pending(qts[2]);
	assert_int_equal(described(qds[0]).elements, 2);
	assert_int_equal(described(qds[0]).pops_pending, 0);
	(void)net_push_bytes(qds[1], "one", 3);
	for (int i = 0; i < 3; i++)
		qds[4 + i] = net_wait(net_accept(qds[0])).qr_value.ares.qd;
	assert_int_equal(net_wait(qts[2]).qr_opcode, DEMI_OPC_CONNECT);
	net_pop_bytes(qds[4], "one", 3);
	(void)net_push_bytes(qds[6], "three", 5);
	net_pop_bytes(qds[3], "three", 5);
	assert_int_equal(described(qds[0]).elements, 0);
	demi_qtoken_t accept = net_accept(qds[0]);
	assert_int_equal(described(qds[0]).pops_pending, 1);
	close_all(qds, 7);
	net_wait_failed(accept, ECANCELED);
}

/* What was not accepted is reset with its listener; a pending accept and connect are cancelled. */
static void test_close_in_the_middle(void **state)
{
	const struct net_address to = address_of("127.0.0.1", 5000);

	(void)state;
	int listener = bound_to(SOCK_STREAM, "127.0.0.1", 5000);
	assert_int_equal(demi_listen(listener, 1), 0);
	int qds[] = {net_socket(AF_INET, SOCK_STREAM), net_socket(AF_INET, SOCK_STREAM),
		     net_socket(AF_INET, SOCK_STREAM)};
	assert_int_equal(connect_to(qds[0], "127.0.0.1", 5000), 0);
	assert_int_equal(connect_to(qds[1], "127.0.0.1", 5000), 0);
	demi_qtoken_t third = net_connect(qds[2], &to);
	demi_qtoken_t pop = net_pop(qds[0]);
	turns();
	net_assert_pending(third);
	assert_int_equal(demi_close(listener), 0);
	net_wait_failed(pop, ECONNRESET);
	net_wait_failed(third, ECONNREFUSED);
	listener = listener_at("127.0.0.1", 5000);
	demi_qtoken_t accept = net_accept(listener);
	assert_int_equal(demi_close(listener), 0);
	net_wait_failed(accept, ECANCELED);
	listener = bound_to(SOCK_STREAM, "127.0.0.1", 5001);
	int connecting = net_socket(AF_INET, SOCK_STREAM);
	const struct net_address silent = address_of("127.0.0.1", 5001);
	demi_qtoken_t qt = net_connect(connecting, &silent);
	assert_int_equal(demi_close(connecting), 0);
	net_wait_failed(qt, ECANCELED);
	close_all(qds, 3);
	assert_int_equal(demi_close(listener), 0);
}

static void test_cancel(void **state)
{
	(void)state;
	int qds[3] = {listener_at("127.0.0.1", 5000), net_socket(AF_INET, SOCK_STREAM)};
	const struct net_address to = address_of("127.0.0.1", 5000);
	demi_qtoken_t accept = net_accept(qds[0]);
	assert_int_equal(demi_cancel(accept), 0);
	net_wait_failed(accept, ECANCELED);
	demi_qtoken_t connecting = net_connect(qds[1], &to);
	assert_int_equal(demi_cancel(connecting), 0);
	net_wait_failed(connecting, ECANCELED);
	assert_int_equal(connect_to(qds[1], "127.0.0.1", 5000), 0);
	demi_qtoken_t pop = net_pop(qds[1]);
	assert_int_equal(demi_cancel(pop), 0);
	net_wait_failed(pop, ECANCELED);
	qds[2] = bound_to(SOCK_DGRAM, "127.0.0.1", 5000);
	pop = net_pop(qds[2]);
	assert_int_equal(demi_cancel(pop), 0);
	net_wait_failed(pop, ECANCELED);
	close_all(qds, 3);
}

/* -- each call on each state */

enum { FRESH, BOUND, LISTENING, CONNECTING, CONNECTED, SHUT, RESET, UDP, UDP_CONNECTED, STATES };

enum { WAITS = 0x1000, FAILED = 0x2000 };

struct subject {
	int qd;
	int others[3];
	size_t count;
};

static int peer_in(struct subject *s)
{
	struct net_pair pair = net_tcp_pair(AF_INET);

	s->others[s->count++] = pair.listener;
	s->others[s->count++] = pair.server;
	return pair.client;
}

static int reset_peer_in(struct subject *s)
{
	static const struct linger now = {.l_onoff = 1};
	int qd = peer_in(s);
	int server = s->others[--s->count];

	assert_int_equal(demi_setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	assert_int_equal(demi_close(server), 0);
	net_wait_failed(net_pop(qd), ECONNRESET);
	return qd;
}

static int connecting_in(struct subject *s)
{
	const struct net_address to = address_of("127.0.0.1", 5999);
	int qd = net_socket(AF_INET, SOCK_STREAM);

	s->others[s->count++] = listener_at("127.0.0.1", 5999);
	demi_qtoken_t qt = net_connect(qd, &to);
	(void)qt; /* it is left over, and ends with the queue */
	return qd;
}

static void subject_open(struct subject *s, int kind)
{
	s->count = 0;
	switch (kind) {
	case BOUND:
		s->qd = bound_to(SOCK_STREAM, "127.0.0.1", 0);
		return;
	case LISTENING:
		s->qd = listener_at("127.0.0.1", 0);
		return;
	case CONNECTING:
		s->qd = connecting_in(s);
		return;
	case CONNECTED:
		s->qd = peer_in(s);
		return;
	case SHUT:
		s->qd = peer_in(s);
		assert_int_equal(demi_shutdown(s->qd, SHUT_WR), 0);
		return;
	case RESET:
		s->qd = reset_peer_in(s);
		return;
	case UDP:
		s->qd = bound_to(SOCK_DGRAM, "127.0.0.1", 0);
		return;
	case UDP_CONNECTED:
		s->qd = net_socket(AF_INET, SOCK_DGRAM);
		s->others[s->count++] = bound_to(SOCK_DGRAM, "127.0.0.1", 5999);
		assert_int_equal(connect_to(s->qd, "127.0.0.1", 5999), 0);
		return;
	default:
		s->qd = net_socket(AF_INET, SOCK_STREAM);
	}
}

static int outcome(int err, demi_qtoken_t qt)
{
	demi_qresult_t qr;

	if (err)
		return err;
	if (demi_wait(&qr, qt, &no_time) == ETIMEDOUT)
		return WAITS;
	return qr.qr_opcode == DEMI_OPC_FAILED ? FAILED | (int)qr.qr_ret : 0;
}

static int call_bind(int qd)
{
	return bind_to(qd, "127.0.0.1", 0);
}

static int call_listen(int qd)
{
	return demi_listen(qd, 1);
}

static int call_accept(int qd)
{
	demi_qtoken_t qt = 0;
	int err = demi_accept(&qt, qd);

	return outcome(err, qt);
}

static int call_connect(int qd)
{
	const struct net_address to = address_of("127.0.0.1", 5998);
	demi_qtoken_t qt = 0;
	int err = demi_connect(&qt, qd, &to.any, to.length);

	return outcome(err, qt);
}

static int push_of(int qd, uint32_t bytes, const struct net_address *to)
{
	static char byte[1];
	demi_sgarray_t sga = net_array(byte, bytes);
	demi_qtoken_t qt = 0;
	int err = to ? demi_pushto(&qt, qd, &sga, &to->any, to->length) : demi_push(&qt, qd, &sga);

	return outcome(err, qt);
}

static int call_push(int qd)
{
	return push_of(qd, 1, NULL);
}

static int call_push_nothing(int qd)
{
	return push_of(qd, 0, NULL);
}

static int call_pushto(int qd)
{
	const struct net_address to = address_of("127.0.0.1", 5998);

	return push_of(qd, 1, &to);
}

static int call_pop(int qd)
{
	demi_qtoken_t qt = 0;
	int err = demi_pop(&qt, qd);

	return outcome(err, qt);
}

static int call_peer_name(int qd)
{
	struct net_address peer = {.length = sizeof(peer.room)};

	return demi_getpeername(qd, &peer.any, &peer.length);
}

static int call_shut_write(int qd)
{
	return demi_shutdown(qd, SHUT_WR);
}

static int call_shut_read(int qd)
{
	return demi_shutdown(qd, SHUT_RD);
}

#define RESETS (FAILED | ECONNRESET)

/* clang-format off */
static const struct {
	const char *name;
	int (*call)(int qd);
	int expected[STATES];
} rows[] = {
	/* fresh, bound, listening, connecting, connected, shut, reset, udp, udp connected: those of catnap (errors_test.c), but for shutdown of reading */
	{"bind", call_bind, {0, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL}},
	{"listen", call_listen, {EDESTADDRREQ, 0, EADDRINUSE, EADDRINUSE, EADDRINUSE, EADDRINUSE, EADDRINUSE, ENOTSUP, ENOTSUP}},
	{"accept", call_accept, {EINVAL, EINVAL, WAITS, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL}},
	{"connect", call_connect, {FAILED | ECONNREFUSED, FAILED | ECONNREFUSED, EOPNOTSUPP, EINPROGRESS, EISCONN, EISCONN, EISCONN, 0, 0}},
	{"push", call_push, {ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, 0, EPIPE, RESETS, EDESTADDRREQ, 0}},
	{"push of nothing", call_push_nothing, {ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, EINVAL, EPIPE, EINVAL, EDESTADDRREQ, 0}},
	{"pushto", call_pushto, {ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, ENOTSUP, 0, 0}},
	{"pop", call_pop, {ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, WAITS, WAITS, RESETS, WAITS, WAITS}},
	{"getpeername", call_peer_name, {ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, 0, 0, ENOTCONN, ENOTCONN, 0}},
	{"shutdown write", call_shut_write, {ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, 0, 0, ENOTCONN, ENOTCONN, 0}},
	{"shutdown read", call_shut_read, {ENOTCONN, ENOTCONN, ENOTCONN, ENOTCONN, 0, 0, ENOTCONN, ENOTCONN, ENOTSUP}},
};

/* clang-format on */

static void test_calls_by_state(void **state)
{
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		for (int kind = 0; kind < STATES; kind++) {
			struct subject s;
			subject_open(&s, kind);
			int got = rows[i].call(s.qd);
			if (got != rows[i].expected[kind]) {
				print_error("%s on %d: %#x, not %#x\n", rows[i].name, kind, got,
					    rows[i].expected[kind]);
				wrong++;
			}
			assert_int_equal(demi_close(s.qd), 0);
			close_all(s.others, s.count);
		}
	}
	assert_int_equal(wrong, 0);
}

static void test_options(void **state)
{
	static const struct {
		int type;
		int domain;
		int level;
		int name;
		int value;
		int set; /* the errno */
		int get;
		int got;
	} cases[] = {
		{SOCK_STREAM, AF_INET, IPPROTO_TCP, TCP_NODELAY, 7, 0, 0, 1},
		{SOCK_STREAM, AF_INET, SOL_SOCKET, SO_KEEPALIVE, 1, 0, 0, 1},
		{SOCK_STREAM, AF_INET, SOL_SOCKET, SO_REUSEADDR, 1, 0, 0, 1},
		{SOCK_STREAM, AF_INET, SOL_SOCKET, SO_SNDBUF, 50000, 0, 0, 50000},
		{SOCK_STREAM, AF_INET, IPPROTO_TCP, TCP_KEEPIDLE, 0, EINVAL, 0, 7200},
		{SOCK_STREAM, AF_INET, IPPROTO_TCP, TCP_KEEPIDLE, 32767, 0, 0, 32767},
		{SOCK_STREAM, AF_INET, IPPROTO_TCP, TCP_KEEPIDLE, 32768, EINVAL, 0, 7200},
		{SOCK_STREAM, AF_INET, SOL_SOCKET, SO_TYPE, 1, ENOPROTOOPT, 0, SOCK_STREAM},
		{SOCK_STREAM, AF_INET, SOL_SOCKET, SO_ERROR, 1, ENOPROTOOPT, 0, 0},
		{SOCK_STREAM, AF_INET, SOL_SOCKET, SO_BROADCAST, 1, ENOPROTOOPT, ENOPROTOOPT, 0},
		{SOCK_STREAM, AF_INET, IPPROTO_TCP, TCP_MAXSEG, 1000, ENOPROTOOPT, ENOPROTOOPT, 0},
		{SOCK_STREAM, AF_INET, IPPROTO_IP, IP_TTL, 1, ENOPROTOOPT, ENOPROTOOPT, 0},
		{SOCK_STREAM, AF_INET, IPPROTO_IPV6, IPV6_V6ONLY, 1, ENOPROTOOPT, ENOPROTOOPT, 0},
		{SOCK_STREAM, AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, 1, 0, 0, 1},
		{SOCK_DGRAM, AF_INET, SOL_SOCKET, SO_RCVBUF, 1, 0, 0, 2048},
		{SOCK_DGRAM, AF_INET, SOL_SOCKET, SO_RCVBUF, 99999, 0, 0, 99999},
		{SOCK_DGRAM, AF_INET, SOL_SOCKET, SO_BROADCAST, 1, 0, 0, 1},
		{SOCK_DGRAM, AF_INET, SOL_SOCKET, SO_PROTOCOL, 1, ENOPROTOOPT, 0, IPPROTO_UDP},
		{SOCK_DGRAM, AF_INET6, SOL_SOCKET, SO_DOMAIN, 1, ENOPROTOOPT, 0, AF_INET6},
		{SOCK_DGRAM, AF_INET, IPPROTO_TCP, TCP_NODELAY, 1, ENOPROTOOPT, ENOPROTOOPT, 0},
		{SOCK_DGRAM, AF_INET, 12345, 1, 1, ENOPROTOOPT, ENOPROTOOPT, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int qd = net_socket(cases[i].domain, cases[i].type);
		int value = cases[i].value;
		socklen_t length = sizeof(value);
		int err = demi_setsockopt(qd, cases[i].level, cases[i].name, &value, length);
		if (err != cases[i].set)
			fail_msg("case %zu: set %d", i, err);
		if (!err)
			assert_int_equal(
				demi_setsockopt(qd, cases[i].level, cases[i].name, &value, 3),
				EINVAL);
		err = demi_getsockopt(qd, cases[i].level, cases[i].name, &value, &length);
		if (err != cases[i].get || (!err && value != cases[i].got))
			fail_msg("case %zu: get %d, %d", i, err, value);
		assert_int_equal(demi_close(qd), 0);
	}
	int qd = listener_at("::", 5000);
	int value = 1;
	assert_int_equal(demi_setsockopt(qd, IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof(value)),
			 EINVAL);
	socklen_t length = sizeof(value);
	value = 0;
	assert_int_equal(demi_getsockopt(qd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length), 0);
	assert_int_equal(value, 1);
	assert_int_equal(demi_close(qd), 0);
}

/* -- streams */

static uint64_t pop_some(int qd, uint32_t seed, uint64_t done)
{
	demi_qresult_t qr = net_wait(net_pop(qd));
	uint64_t bytes = 0;

	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	for (uint32_t i = 0; i < qr.qr_value.sga.sga_numsegs; i++) {
		const demi_sgaseg_t segment = qr.qr_value.sga.sga_segs[i];
		net_stream_check(seed, done + bytes, segment.sgaseg_buf, segment.sgaseg_len);
		bytes += segment.sgaseg_len;
	}
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	return bytes;
}

/* Pushes of all sizes, of one segment and of several, from the heap and not; popped as bytes. */
static void test_stream_whole(void **state)
{
	static const uint32_t sizes[] = {1,    7,     56,     57,     500,    505,    4095,
					 4096, 70000, 100000, 262145, 999999, 3000000};
	struct net_pair pair = net_tcp_pair(AF_INET);
	struct prng prng;
	uint64_t pushed = 0;
	uint64_t popped = 0;

	(void)state;
	prng_seed(&prng, test_seed(99));
	for (uint32_t round = 0; round < test_share(200); round++) {
		uint32_t bytes = sizes[prng_below(&prng, ARRAY_LENGTH(sizes))];
		bytes -= (uint32_t)prng_below(&prng, bytes);
		demi_sgarray_t sga = demi_sgaalloc(bytes);
		net_stream_fill(5, pushed, sga.sga_segs[0].sgaseg_buf, bytes);
		if (bytes > 3 && round % 3 == 0) { /* in two */
			sga.sga_numsegs = 2;
			sga.sga_segs[1] = sga.sga_segs[0];
			sga.sga_segs[0].sgaseg_len = bytes / 3;
			sga.sga_segs[1].sgaseg_len = bytes - bytes / 3;
			sga.sga_segs[1].sgaseg_buf = (char *)sga.sga_segs[0].sgaseg_buf + bytes / 3;
		}
		demi_qtoken_t qt = net_push(pair.client, &sga);
		sga.sga_numsegs = 1;
		assert_int_equal(demi_sgafree(&sga), 0);
		pushed += bytes;
		while (popped < pushed)
			popped += pop_some(pair.server, 5, popped);
		assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_PUSH);
	}
	assert_int_equal(popped, pushed);
	assert_int_equal(demi_close(pair.client), 0);
	net_pop_bytes(pair.server, NULL, 0);
	net_pop_bytes(pair.server, NULL, 0);
	assert_int_equal(demi_close(pair.server), 0);
	assert_int_equal(demi_close(pair.listener), 0);
}

/* Segments at odd addresses, one after the other, as they are lent: each is freed by itself. */
static void test_odd_segments(void **state)
{
	struct net_pair pair = net_tcp_pair(AF_INET);
	demi_sgarray_t whole = demi_sgaalloc(60000);
	demi_sgarray_t popped[3];
	char *memory = whole.sga_segs[0].sgaseg_buf;

	(void)state;
	memset(memory, 'x', 60000);
	(void)net_push(pair.client, &whole); /* so that both have mapped what is lent */
	for (uint64_t done = 0; done < 60000;) {
		demi_qresult_t qr = net_wait(net_pop(pair.server));
		done += net_array_bytes(&qr.qr_value.sga);
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	}
	turns();
	for (int i = 0; i < 3; i++) {
		demi_sgarray_t part = net_array(memory + 1 + i * 16384, 16384);
		(void)net_push(pair.client, &part);
		demi_qresult_t qr = net_wait(net_pop(pair.server));
		popped[i] = qr.qr_value.sga;
		assert_int_equal(net_array_bytes(&popped[i]), 16384);
		assert_true(borrow_is(pages_find(popped[i].sga_segs[0].sgaseg_buf)));
	}
	for (int i = 2; i >= 0; i--) {
		assert_memory_equal(popped[i].sga_segs[0].sgaseg_buf, memory, 16384);
		assert_int_equal(demi_sgafree(&popped[i]), 0);
	}
	turns();
	assert_int_equal(demi_sgabusy(&whole), 0);
	assert_int_equal(demi_sgafree(&whole), 0);
	net_close_pair(&pair);
}

/* Longer than any message of a channel may be: on a stream there are none. */
static void test_long_push(void **state)
{
	const uint32_t bytes = (uint32_t)CHANNEL_MESSAGE_MAX + 1000;
	struct net_pair pair = net_tcp_pair(AF_INET);
	char *memory = malloc(bytes);
	uint64_t popped = 0;

	(void)state;
	assert_non_null(memory);
	memset(memory, 'x', bytes);
	net_stream_fill(6, 0, memory, 4096);
	demi_sgarray_t sga = net_array(memory, bytes);
	demi_qtoken_t qt = net_push(pair.client, &sga);
	net_assert_pending(qt);
	while (popped < bytes) {
		demi_qresult_t qr = net_wait(net_pop(pair.server));
		assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
		assert_memory_equal(qr.qr_value.sga.sga_segs[0].sgaseg_buf, memory + popped,
				    qr.qr_value.sga.sga_segs[0].sgaseg_len);
		popped += net_array_bytes(&qr.qr_value.sga);
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	}
	assert_int_equal(popped, bytes);
	assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_PUSH);
	free(memory);
	net_close_pair(&pair);
}

static void test_half_close(void **state)
{
	struct net_pair pair = net_tcp_pair(AF_INET6);

	(void)state;
	(void)net_push_bytes(pair.client, "question", 8);
	assert_int_equal(demi_shutdown(pair.client, SHUT_WR), 0);
	assert_int_equal(call_push(pair.client), EPIPE);
	net_pop_bytes(pair.server, "question", 8);
	net_pop_bytes(pair.server, NULL, 0);
	(void)net_push_bytes(pair.server, "answer", 6);
	net_pop_bytes(pair.client, "answer", 6);
	demi_qtoken_t pop = net_pop(pair.client);
	assert_int_equal(demi_shutdown(pair.client, SHUT_RD), 0);
	demi_qresult_t qr = net_wait(pop);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 0);
	net_pop_bytes(pair.client, NULL, 0);
	net_close_pair(&pair);
}

/* As in TCP, a push may come before it is known that nobody reads any more. */
static void assert_pushes_end(int qd, int err)
{
	int got = 0;

	for (int i = 0; i < 1000 && got == 0; i++) {
		got = call_push(qd);
		turns();
	}
	assert_int_equal(got, FAILED | err);
}

/* Unread data, and data that nobody took yet, on both sides of a close. */
static void test_close_with_data(void **state)
{
	struct net_pair pair = net_tcp_pair(AF_INET);

	(void)state;
	(void)net_push_bytes(pair.client, "left behind", 11);
	assert_int_equal(demi_close(pair.client), 0);
	net_pop_bytes(pair.server, "left behind", 11);
	net_pop_bytes(pair.server, NULL, 0);
	assert_pushes_end(pair.server, EPIPE);
	assert_int_equal(demi_close(pair.server), 0);
	assert_int_equal(demi_close(pair.listener), 0);
	pair = net_tcp_pair(AF_INET);
	demi_qtoken_t pop = net_pop(pair.server);
	assert_int_equal(demi_close(pair.server), 0);
	net_wait_failed(pop, ECANCELED);
	net_pop_bytes(pair.client, NULL, 0);
	assert_int_equal(demi_close(pair.client), 0);
	assert_int_equal(demi_close(pair.listener), 0);
}

static void test_port_is_free_at_once(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		int qds[3] = {listener_at("127.0.0.1", 5000), net_socket(AF_INET, SOCK_STREAM)};
		assert_int_equal(connect_to(qds[1], "127.0.0.1", 5000), 0);
		qds[2] = net_wait(net_accept(qds[0])).qr_value.ares.qd;
		assert_int_equal(demi_close(qds[0]), 0);
		qds[0] = listener_at("127.0.0.1", 5000); /* the connection lives on */
		(void)net_push_bytes(qds[1], "x", 1);
		net_pop_bytes(qds[2], "x", 1);
		close_all(qds, 3);
	}
}

/* -- datagrams */

static void send_to(int qd, const void *bytes, uint32_t length, const struct net_address *to)
{
	demi_sgarray_t sga = net_array((void *)(uintptr_t)bytes, length);
	demi_qtoken_t qt = 0;

	assert_int_equal(demi_pushto(&qt, qd, &sga, &to->any, to->length), 0);
	assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_PUSH);
}

static struct net_address receive(int qd, const void *bytes, uint32_t length)
{
	struct net_address from = {.length = sizeof(from.room)};
	demi_qresult_t qr = net_wait(net_pop(qd));
	demi_sgarray_t *sga = &qr.qr_value.sga;

	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	assert_int_equal(sga->sga_segs[0].sgaseg_len, length);
	if (length)
		assert_memory_equal(sga->sga_segs[0].sgaseg_buf, bytes, length);
	assert_int_equal(demi_sgaaddr(sga, &from.any, &from.length), 0);
	assert_int_equal(demi_sgafree(sga), 0);
	return from;
}

static void test_datagrams(void **state)
{
	static char large[65527];

	static const struct {
		const char *server;
		const char *to;
		const char *source; /* of the question, as the server sees it */
		uint32_t max;
	} cases[] = {
		{"0.0.0.0", "127.0.0.1", "127.0.0.1", 65507},
		{"10.0.0.1", "10.0.0.1", "10.0.0.1", 65507},
		{"::1", "::1", "::1", 65527},
		{"::", "127.0.0.1", "::ffff:127.0.0.1", 65507},
		{"0.0.0.0", "::ffff:127.0.0.1", "127.0.0.1", 65507},
	};

	(void)state;
	net_stream_fill(8, 0, large, sizeof(large));
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		int qds[] = {bound_to(SOCK_DGRAM, cases[i].server, 5000),
			     net_socket(domain_of(cases[i].to), SOCK_DGRAM)};
		const struct net_address to = address_of(cases[i].to, 5000);
		const uint32_t lengths[] = {5, 0, 1, 1472, cases[i].max};
		for (size_t k = 0; k < ARRAY_LENGTH(lengths); k++) {
			send_to(qds[1], large, lengths[k], &to);
			struct net_address from = receive(qds[0], large, lengths[k]);
			struct net_address client = net_local(qds[1]);
			assert_address(&from, cases[i].source, net_port(&client));
			send_to(qds[0], large, lengths[k], &from);
			from = receive(qds[1], large, lengths[k]);
			assert_address(&from, cases[i].to, 5000);
		}
		demi_sgarray_t sga = net_array(large, cases[i].max + 1);
		demi_qtoken_t qt;
		assert_int_equal(demi_pushto(&qt, qds[1], &sga, &to.any, to.length), EMSGSIZE);
		close_all(qds, 2);
	}
}

static void test_datagram_errors(void **state)
{
	static const struct {
		const char *to;
		uint16_t port;
		int err;
	} cases[] = {
		{"127.0.0.1", 5000, 0}, /* nobody: nobody tells */
		{"127.0.0.1", 0, EINVAL},
		{"224.0.0.1", 5000, ENETUNREACH},
		{"255.255.255.255", 5000, EACCES},
		{"::1", 5000, EAFNOSUPPORT},
	};

	uint64_t before = drops(DROP_UDP_PORT);

	(void)state;
	int qd = net_socket(AF_INET, SOCK_DGRAM);
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		const struct net_address to = address_of(cases[i].to, cases[i].port);
		int err = push_of(qd, 1, &to);
		if (err != cases[i].err)
			fail_msg("case %zu: %d", i, err);
	}
	assert_int_equal(drops(DROP_UDP_PORT), before + 1);
	assert_int_equal(demi_close(qd), 0);
}

/* Who is connected hears of nobody, once, and gets nothing of others. */
static void test_connected_datagrams(void **state)
{
	(void)state;
	int qds[] = {net_socket(AF_INET, SOCK_DGRAM), -1, bound_to(SOCK_DGRAM, "127.0.0.1", 5001)};
	assert_int_equal(connect_to(qds[0], "127.0.0.1", 5000), 0);
	assert_int_equal(call_push(qds[0]), 0);
	assert_int_equal(call_push(qds[0]), ECONNREFUSED);
	qds[1] = bound_to(SOCK_DGRAM, "127.0.0.1", 5000);
	assert_int_equal(call_push(qds[0]), 0);
	(void)receive(qds[1], "", 1);
	const struct net_address client = net_local(qds[0]);
	send_to(qds[2], "stranger", 8, &client);
	turns();
	send_to(qds[1], "friend", 6, &client);
	struct net_address from = receive(qds[0], "friend", 6);
	assert_address(&from, "127.0.0.1", 5000);
	assert_int_equal(demi_close(qds[1]), 0);
	turns();
	assert_int_equal(call_push(qds[0]), 0);
	net_wait_failed(net_pop(qds[0]), ECONNREFUSED);
	/* to the other, and to nobody again */
	assert_int_equal(connect_to(qds[0], "127.0.0.1", 5001), 0);
	assert_int_equal(call_push(qds[0]), 0);
	(void)receive(qds[2], "", 1);
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	demi_qtoken_t qt;
	assert_int_equal(demi_connect(&qt, qds[0], &nobody, sizeof(nobody)), 0);
	assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_CONNECT);
	assert_int_equal(call_push(qds[0]), EDESTADDRREQ);
	qds[1] = net_socket(AF_INET, SOCK_DGRAM);
	close_all(qds, 3);
}

/* What nobody pops is bounded by SO_RCVBUF; what is beyond is dropped and counted. */
static void test_full(void **state)
{
	static char bytes[1000];
	const struct net_address to = address_of("127.0.0.1", 5000);
	int limit = 20000;
	uint32_t got = 0;
	uint64_t before = drops(DROP_UDP_FULL);

	(void)state;
	int qds[] = {bound_to(SOCK_DGRAM, "127.0.0.1", 5000), net_socket(AF_INET, SOCK_DGRAM)};
	assert_int_equal(demi_setsockopt(qds[0], SOL_SOCKET, SO_RCVBUF, &limit, sizeof(limit)), 0);
	for (uint32_t i = 0; i < 3000; i++) {
		memcpy(bytes, &i, sizeof(i));
		send_to(qds[1], bytes, sizeof(bytes), &to);
	}
	turns();
	for (demi_qtoken_t qt = net_pop(qds[0]);; qt = net_pop(qds[0]), got++) {
		demi_qresult_t qr;
		if (demi_wait(&qr, qt, &no_time) == ETIMEDOUT)
			break;
		assert_memory_equal(qr.qr_value.sga.sga_segs[0].sgaseg_buf, &got, sizeof(got));
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	}
	assert_in_range(got, 15, 20);
	assert_int_equal(drops(DROP_UDP_FULL) - before + got, 3000);
	close_all(qds, 2);
}

/* Sent, closed, and the library ended: it arrives all the same. */
static void test_sent_and_closed(void **state)
{
	const struct net_address to = address_of("127.0.0.1", 5000);

	(void)state;
	int server = bound_to(SOCK_DGRAM, "127.0.0.1", 5000);
	int client = net_socket(AF_INET, SOCK_DGRAM);
	send_to(client, "gone", 4, &to);
	assert_int_equal(demi_close(client), 0);
	(void)receive(server, "gone", 4);
	assert_int_equal(demi_close(server), 0);
}

/* More peers than channels are kept: each is answered. */
static void test_many_peers(void **state)
{
	const struct net_address to = address_of("127.0.0.1", 5000);
	const uint32_t count = LOOP_PAIRS_MAX + 20;
	int server = bound_to(SOCK_DGRAM, "127.0.0.1", 5000);

	(void)state;
	int *qds = calloc(count, sizeof(*qds));
	assert_non_null(qds);
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < count; i++) {
			if (round == 0)
				qds[i] = net_socket(AF_INET, SOCK_DGRAM);
			send_to(qds[i], &i, sizeof(i), &to);
			struct net_address from = receive(server, &i, sizeof(i));
			send_to(server, &i, sizeof(i), &from);
			(void)receive(qds[i], &i, sizeof(i));
		}
	}
	close_all(qds, count);
	free(qds);
	assert_int_equal(demi_close(server), 0);
}

/* -- other processes */

/* In a child: an instance that echoes what one connection and one datagram socket get. */
static void serve(int ready)
{
	static const struct demi_args args;
	demi_qtoken_t qts[2] = {0, 0};
	demi_qresult_t qr;
	int at;

	test_expect(demi_init(&args) == 0);
	int stream = listener_at("127.0.0.1", 5100);
	int datagrams = bound_to(SOCK_DGRAM, "127.0.0.1", 5100);
	test_expect(write(ready, "", 1) == 1);
	test_expect(demi_accept(&qts[0], stream) == 0 && demi_wait(&qr, qts[0], NULL) == 0);
	test_expect(demi_pop(&qts[0], qr.qr_value.ares.qd) == 0);
	test_expect(demi_pop(&qts[1], datagrams) == 0);
	while (demi_wait_any(&qr, &at, qts, 2, NULL) == 0 && qr.qr_opcode == DEMI_OPC_POP &&
	       net_array_bytes(&qr.qr_value.sga) > 0) {
		struct net_address from = {.length = sizeof(from.room)};
		demi_qtoken_t qt = 0;
		if (at == 0)
			test_expect(demi_push(&qt, qr.qr_qd, &qr.qr_value.sga) == 0);
		else
			test_expect(demi_sgaaddr(&qr.qr_value.sga, &from.any, &from.length) == 0 &&
				    demi_pushto(&qt, qr.qr_qd, &qr.qr_value.sga, &from.any,
						from.length) == 0);
		test_expect(demi_sgafree(&qr.qr_value.sga) == 0);
		test_expect(demi_wait(&qr, qt, NULL) == 0);
		test_expect(demi_pop(&qts[at], qr.qr_qd) == 0);
	}
}

static pid_t start_server(void)
{
	int ready[2] = {-1, -1};
	char byte;

	assert_int_equal(pipe(ready), 0);
	(void)fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		(void)alarm(60);
		serve(ready[1]);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

/* Echoed by another process; killed, the connection is reset within 100 ms, and its ports are free.
 */
static void test_killed_peer(void **state)
{
	static char bytes[100000];
	const struct net_address to = address_of("127.0.0.1", 5100);

	(void)state;
	for (int round = 0; round < 3; round++) {
		pid_t pid = start_server();
		assert_int_equal(net_init(state), 0);
		int qds[] = {net_socket(AF_INET, SOCK_STREAM), net_socket(AF_INET, SOCK_DGRAM), -1};
		assert_int_equal(connect_to(qds[0], "127.0.0.1", 5100), 0);
		for (uint64_t done = 0; done < 10 * sizeof(bytes);) {
			net_stream_fill(3, done, bytes, sizeof(bytes));
			(void)net_push_bytes(qds[0], bytes, sizeof(bytes));
			for (uint64_t end = done + sizeof(bytes); done < end;)
				done += pop_some(qds[0], 3, done);
		}
		send_to(qds[1], "echo", 4, &to);
		(void)receive(qds[1], "echo", 4);
		demi_qtoken_t pop = net_pop(qds[0]);
		assert_int_equal(kill(pid, SIGKILL), 0);
		uint64_t begin = net_now_ns();
		net_wait_failed(pop, ECONNRESET);
		/* sanitizers have so much memory that its end takes longer */
		assert_true(test_sanitized() || net_now_ns() - begin < 100000000);
		assert_int_equal(call_push(qds[0]), FAILED | ECONNRESET);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(push_of(qds[1], 1, &to), 0); /* to nobody */
		int again[] = {listener_at("127.0.0.1", 5100),
			       bound_to(SOCK_DGRAM, "127.0.0.1", 5100)};
		close_all(again, 2);
		close_all(qds, 2);
		assert_int_equal(net_fini(state), 0);
	}
}

/* -- other threads */

static void *run_client(void *arg)
{
	static const struct demi_args args;
	char bytes[64] = {0};
	int *result = arg;

	if (demi_init(&args))
		return NULL;
	int qd = net_socket(AF_INET, SOCK_STREAM);
	bool fine = connect_to(qd, "127.0.0.1", 5200) == 0;
	for (int i = 0; i < 1000 && fine; i++) {
		(void)net_push_bytes(qd, bytes, sizeof(bytes));
		demi_qresult_t qr = net_wait(net_pop(qd));
		fine = net_array_bytes(&qr.qr_value.sga) == sizeof(bytes);
		fine = demi_sgafree(&qr.qr_value.sga) == 0 && fine;
	}
	*result = fine ? 1 : -1;
	(void)demi_close(qd);
	(void)demi_fini();
	return NULL;
}

static void test_two_threads(void **state)
{
	pthread_t thread;
	int result = 0;

	(void)state;
	int listener = listener_at("127.0.0.1", 5200);
	assert_int_equal(pthread_create(&thread, NULL, run_client, &result), 0);
	int qd = net_wait(net_accept(listener)).qr_value.ares.qd;
	for (;;) {
		demi_qresult_t qr = net_wait(net_pop(qd));
		assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
		uint64_t bytes = net_array_bytes(&qr.qr_value.sga);
		if (bytes)
			assert_int_equal(net_wait(net_push(qd, &qr.qr_value.sga)).qr_opcode,
					 DEMI_OPC_PUSH);
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
		if (!bytes)
			break;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(result, 1);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_close(listener), 0);
}

#define PARTING ((uint32_t)5000000)

/* Pushes much, closes and ends: what was pushed goes on until it is sent. */
static void *push_and_end(void *arg)
{
	static const struct demi_args args;
	demi_qtoken_t qt;

	(void)arg;
	if (demi_init(&args))
		return NULL;
	int qd = net_socket(AF_INET, SOCK_STREAM);
	if (connect_to(qd, "127.0.0.1", 5200) == 0) {
		demi_sgarray_t sga = demi_sgaalloc(PARTING);
		net_stream_fill(4, 0, sga.sga_segs[0].sgaseg_buf, PARTING);
		(void)demi_push(&qt, qd, &sga);
		(void)demi_sgafree(&sga);
	}
	(void)demi_close(qd);
	(void)demi_fini();
	return NULL;
}

static void test_end_sends_the_rest(void **state)
{
	pthread_t thread;
	uint64_t popped = 0;

	(void)state;
	int listener = listener_at("127.0.0.1", 5200);
	assert_int_equal(pthread_create(&thread, NULL, push_and_end, NULL), 0);
	int qd = net_wait(net_accept(listener)).qr_value.ares.qd;
	net_sleep_ms(20);
	for (uint64_t bytes = 1; bytes > 0; popped += bytes)
		bytes = pop_some(qd, 4, popped);
	assert_int_equal(popped, PARTING);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_close(listener), 0);
}

/* What `demi stat` is told of each kind of socket. */
static void test_describe(void **state)
{
	struct net_pair pair = net_tcp_pair(AF_INET);
	int udp = bound_to(SOCK_DGRAM, "127.0.0.1", 5000);

	const struct {
		int qd;
		const char *kind;
		const char *state;
	} cases[] = {
		{pair.listener, "tcp", "listening"},
		{pair.client, "tcp", "connected"},
		{udp, "udp", "unconnected"},
	};

	demi_qtoken_t pop = net_pop(pair.client);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct queue *queue = queue_find(&thread_state.current->queues, cases[i].qd);
		struct net_address local = net_local(cases[i].qd);
		struct queue_info info;
		queue->ops->describe(queue, &info);
		assert_string_equal(info.kind, cases[i].kind);
		assert_string_equal(info.state, cases[i].state);
		assert_int_equal(info.pops_pending, cases[i].qd == pair.client);
		assert_memory_equal(&info.local, &local.room, local.length);
		loop_check(loop_of(queue));
	}
	assert_int_equal(demi_close(udp), 0);
	net_close_pair(&pair);
	net_wait_failed(pop, ECANCELED);
}

/* -- peers that lie: the other end is the test's own */

static void open_liar(struct shmrig *liar)
{
	assert_int_equal(shmrig_open(liar, &(struct shmrig_options){.stream = true}), 0);
	snprintf(liar->rig.sched.config.shm_directory, sizeof(liar->rig.sched.config.shm_directory),
		 "%s", directory);
}

/* Turns of both until the liar was answered. */
static void meet(struct shmrig *liar)
{
	for (int i = 0; i < 1000 && !liar->joined && !liar->ended; i++) {
		shmrig_turn(liar);
		turns();
	}
}

static void call_with(struct shmrig *liar, const char *prefix, const void *hello, uint32_t bytes)
{
	const struct rendezvous_place place = {.prefix = prefix, .name = "5000"};
	int fd;

	assert_int_equal(rendezvous_connect(liar->shm, &place, &fd), 0);
	assert_int_equal(channel_connect(liar->channel, fd, hello, bytes), 0);
	meet(liar);
}

/* A proper hello, from port 6000 of 127.0.0.1 to port 5000. */
static struct loop_hello proper_hello(uint8_t protocol)
{
	struct loop_hello hello = {
		.magic = 0x31706f6c, .protocol = protocol, .from_port = 6000, .to_port = 5000};
	struct ip_address one = ip_from_v4(htonl(INADDR_LOOPBACK));

	memcpy(hello.from, one.bytes, sizeof(hello.from));
	memcpy(hello.to, one.bytes, sizeof(hello.to));
	return hello;
}

static void spoil(struct loop_hello *hello, size_t offset, uint8_t value)
{
	((uint8_t *)hello)[offset] = value;
}

#define FROM offsetof(struct loop_hello, from)
#define TO   offsetof(struct loop_hello, to)

static void test_lying_hellos(void **state)
{
	static const struct {
		size_t offset; /* of a byte that is changed */
		uint8_t value;
		uint32_t bytes; /* said; 0: all */
		int err;
	} cases[] = {
		{0, 0x6c, 0, 0}, /* as it was */
		{0, 0x6d, 0, -EPROTO},
		{3, 0x32, 0, -EPROTO},
		{0, 0x6c, 1, -EPROTO},
		{0, 0x6c, sizeof(struct loop_hello) - 1, -EPROTO},
		{0, 0x6c, CHANNEL_HELLO_MAX, -EPROTO},
		{offsetof(struct loop_hello, protocol), 1, 0, -EPROTO},
		{offsetof(struct loop_hello, unused), 1, 0, -EPROTO},
		{offsetof(struct loop_hello, to_port), 0, 0, -ECONNREFUSED}, /* 5120 less 120 */
		{FROM + 0, 0x20, 0, -EPROTO},                                /* IPv6 to IPv4 */
		{FROM + 12, 224, 0, -EPROTO},                                /* a group */
		{TO + 12, 224, 0, -EPROTO},
		{TO + 15, 2, 0, -ECONNREFUSED}, /* 127.0.0.2 */
		{FROM + 15, 2, 0, 0},
	};

	static const int types[] = {SOCK_STREAM, SOCK_DGRAM};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LENGTH(cases); i++) {
		bool stream = i % 2 == 0;
		struct shmrig liar;
		struct loop_hello hello = proper_hello(stream ? IPPROTO_TCP : IPPROTO_UDP);
		char room[CHANNEL_HELLO_MAX] = {0};
		int qd = bound_to(types[i % 2], "127.0.0.1", 5000);
		if (stream)
			assert_int_equal(demi_listen(qd, 8), 0);
		open_liar(&liar);
		spoil(&hello, cases[i / 2].offset, cases[i / 2].value);
		memcpy(room, &hello, sizeof(hello));
		call_with(&liar, stream ? "tcp4-" : "udp4-", room,
			  cases[i / 2].bytes ? cases[i / 2].bytes : sizeof(hello));
		if (liar.joined != (cases[i / 2].err == 0) || liar.err != cases[i / 2].err)
			fail_msg("case %zu: %d", i, liar.err);
		shmrig_close(&liar);
		assert_int_equal(demi_close(qd), 0);
	}
}

/* From a port that is 0, or with names that another connection has already. */
static void test_impossible_names(void **state)
{
	struct loop_hello hello = proper_hello(IPPROTO_TCP);
	struct shmrig liars[3];

	(void)state;
	int qd = listener_at("127.0.0.1", 5000);
	for (size_t i = 0; i < 3; i++) {
		open_liar(&liars[i]);
		hello.from_port = i == 2 ? 0 : 6000;
		call_with(&liars[i], "tcp4-", &hello, sizeof(hello));
	}
	assert_int_equal(liars[0].err, 0);
	assert_int_equal(liars[0].joined, 1);
	assert_int_equal(liars[1].err, -EADDRNOTAVAIL);
	assert_int_equal(liars[2].err, -EPROTO);
	for (size_t i = 0; i < 3; i++)
		shmrig_close(&liars[i]);
	assert_int_equal(demi_close(qd), 0);
}

/* A kind of message that streams do not have resets the connection. */
static void test_bad_kind_on_a_stream(void **state)
{
	const struct loop_hello hello = proper_hello(IPPROTO_TCP);
	const struct iovec part = {.iov_base = (char[]){"x"}, .iov_len = 1};

	(void)state;
	for (int kind = CHANNEL_RAW; kind < 256; kind += 60) {
		struct shmrig liar;
		int qd = listener_at("127.0.0.1", 5000);
		open_liar(&liar);
		call_with(&liar, "tcp4-", &hello, sizeof(hello));
		int accepted = net_wait(net_accept(qd)).qr_value.ares.qd;
		demi_qtoken_t pop = net_pop(accepted);
		assert_int_equal(channel_send(liar.channel, (uint8_t)kind, &part, 1), 0);
		shmrig_turn(&liar);
		net_wait_failed(pop, ECONNRESET);
		assert_int_equal(call_push(accepted), FAILED | ECONNRESET);
		assert_int_equal(call_peer_name(accepted), ENOTCONN);
		assert_int_equal(demi_close(accepted), 0);
		shmrig_close(&liar);
		assert_int_equal(demi_close(qd), 0);
	}
}

/* The same for datagrams: a bad kind, one that is too long; what is proper before them is kept. */
static void test_bad_datagrams(void **state)
{
	static char bytes[CHANNEL_RAW_MAX];

	static const struct {
		uint8_t kind;
		uint32_t bytes;
		bool ends;
	} cases[] = {
		{CHANNEL_RAW, 65507, false},
		{CHANNEL_RAW, 0, false},
		{CHANNEL_RAW, 65527, false},
		{CHANNEL_RAW, 65528, true},
		{CHANNEL_RAW, 65600, true},
		{CHANNEL_RAW + 1, 5, true},
		{255, 0, true},
	};
	const struct loop_hello hello = proper_hello(IPPROTO_UDP);

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct shmrig liar;
		const struct iovec good = {.iov_base = (char[]){"good"}, .iov_len = 4};
		const struct iovec part = {.iov_base = bytes, .iov_len = cases[i].bytes};
		int qd = bound_to(SOCK_DGRAM, "127.0.0.1", 5000);
		open_liar(&liar);
		call_with(&liar, "udp4-", &hello, sizeof(hello));
		assert_int_equal(channel_send(liar.channel, CHANNEL_RAW, &good, 1), 0);
		assert_int_equal(channel_send(liar.channel, cases[i].kind, &part, 1), 0);
		shmrig_turn(&liar);
		struct net_address from = receive(qd, "good", 4);
		assert_address(&from, "127.0.0.1", 6000);
		if (!cases[i].ends)
			(void)receive(qd, bytes, cases[i].bytes);
		turns();
		shmrig_turn(&liar);
		shmrig_turn(&liar);
		assert_int_equal(liar.ended, cases[i].ends);
		shmrig_close(&liar);
		assert_int_equal(demi_close(qd), 0);
	}
}

/* Who says that it has a port that another process has gets nothing that is for that port. */
static void steal(void *arg)
{
	const struct loop_hello hello = proper_hello(IPPROTO_UDP);
	const struct iovec part = {.iov_base = (char[]){"mine"}, .iov_len = 4};
	const struct rendezvous_place place = {.prefix = "udp4-", .name = "5000"};
	const int *pipes = arg;
	struct shmrig liar;
	char byte;
	int fd;

	open_liar(&liar);
	test_expect(rendezvous_connect(liar.shm, &place, &fd) == 0);
	test_expect(channel_connect(liar.channel, fd, &hello, sizeof(hello)) == 0);
	for (int i = 0; i < 20000 && !liar.joined; i++) {
		shmrig_turn(&liar);
		usleep(100);
	}
	test_expect(liar.joined == 1);
	test_expect(channel_send(liar.channel, CHANNEL_RAW, &part, 1) == 0);
	shmrig_turn(&liar);
	test_expect(write(pipes[1], "", 1) == 1 && read(pipes[2], &byte, 1) == 1);
	for (int i = 0; i < 10; i++)
		shmrig_turn(&liar);
	test_expect(liar.arrived == 0);
	_exit(0);
}

static void test_stolen_port(void **state)
{
	int pipes[4];
	int status;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(pipes + 2), 0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)alarm(60);
		net_sleep_ms(20);
		steal(pipes);
	}
	assert_int_equal(net_init(state), 0);
	int qds[] = {bound_to(SOCK_DGRAM, "127.0.0.1", 5000),
		     bound_to(SOCK_DGRAM, "127.0.0.1", 6000)};
	struct net_address from = receive(qds[0], "mine", 4);
	assert_address(&from, "127.0.0.1", 6000); /* as in UDP it may say so */
	send_to(qds[0], "secret", 6, &from);
	(void)receive(qds[1], "secret", 6);
	assert_int_equal(write(pipes[3], "", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
	close_all(qds, 2);
	assert_int_equal(net_fini(state), 0);
}

/* -- memory that runs out */

/* A connection, accepted: 0, or the errno of what failed.  *accepted is closed by the caller. */
static int connect_and_accept(const int *qds, const struct net_address *to, int *accepted)
{
	static const struct timespec second = {.tv_sec = 1};
	demi_qtoken_t accepting;
	demi_qtoken_t connecting;
	demi_qresult_t qr;
	int err = demi_accept(&accepting, qds[0]);

	if (err)
		return err;
	err = demi_connect(&connecting, qds[1], &to->any, to->length);
	if (!err)
		err = demi_wait(&qr, connecting, &second);
	if (!err && qr.qr_opcode == DEMI_OPC_FAILED)
		err = (int)qr.qr_ret;
	if (demi_wait(&qr, accepting, err ? &no_time : &second)) /* it ends with its queue */
		return err ? err : ETIMEDOUT;
	if (qr.qr_opcode == DEMI_OPC_ACCEPT)
		*accepted = qr.qr_value.ares.qd;
	else if (!err)
		err = (int)qr.qr_ret;
	return err;
}

/* A datagram, popped; it may be dropped for lack of memory. */
static int send_and_pop(int from, int to, const struct net_address *address)
{
	static const struct timespec moment = {.tv_nsec = 20000000};
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int err = push_of(from, 1, address);

	if (!err)
		err = demi_pop(&qt, to);
	if (err)
		return err;
	err = demi_wait(&qr, qt, &moment);
	if (!err && qr.qr_opcode == DEMI_OPC_POP)
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	return err == ETIMEDOUT ? 0 : err;
}

/* All of it, until a call fails: 0, or its errno. */
static int use_everything(void)
{
	static const int types[] = {SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM, SOCK_DGRAM};
	const struct net_address to = address_of("127.0.0.1", 5000);
	int qds[5] = {-1, -1, -1, -1, -1};
	int err = 0;

	for (size_t i = 0; i < 4 && !err; i++)
		err = demi_socket(&qds[i], AF_INET, types[i], 0);
	if (!err)
		err = demi_bind(qds[0], &to.any, to.length);
	if (!err)
		err = demi_bind(qds[2], &to.any, to.length);
	if (!err)
		err = demi_listen(qds[0], 4);
	if (!err)
		err = connect_and_accept(qds, &to, &qds[4]);
	if (!err)
		err = send_and_pop(qds[3], qds[2], &to);
	for (size_t i = 0; i < 5; i++) {
		if (qds[i] >= 0)
			assert_int_equal(demi_close(qds[i]), 0);
	}
	return err;
}

/* What was closed in the middle of a call ends by itself, within its patience. */
static void settle(int fds)
{
	for (int i = 0; i < 2000 && net_count_fds() != fds; i++) {
		net_sleep_ms(1);
		turns();
	}
	assert_int_equal(net_count_fds(), fds);
}

/* Each allocation in turn fails; returns how many did. */
static uint32_t fail_each(int fds)
{
	uint32_t failed = 0;
	uint32_t told = 0;

	for (uint32_t n = 1; failed + 1 == n; n++) {
		fault_fail(n);
		int err = use_everything();
		bool did = fault_off();
		failed += did;
		told += err != 0;
		settle(fds);
		assert_true(did || err == 0);
	}
	print_message("# %u allocations failed, %u calls said so\n", failed, told);
	assert_true(told >= failed / 3); /* without others less is lent, or a datagram lost */
	return failed;
}

static void test_allocation_failures(void **state)
{
	(void)state;
	assert_int_equal(use_everything(), 0);
	turns();
	int fds = net_count_fds();
	uint32_t failed = fail_each(fds);
	assert_in_range(failed, 20, 200);
	/* once more: all that the heap and the tables keep is there now */
	int64_t blocks = fault_live().blocks;
	assert_in_range(fail_each(fds), failed - 3, failed + 3); /* by the turns that it takes */
	assert_int_equal(fault_live().blocks, blocks);
}

#define WITH_INSTANCE(test) cmocka_unit_test_setup_teardown(test, net_init, net_fini)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH_INSTANCE(test_bind),
		WITH_INSTANCE(test_ephemeral_ports),
		WITH_INSTANCE(test_files),
		WITH_INSTANCE(test_connect_errors),
		WITH_INSTANCE(test_listen_later),
		WITH_INSTANCE(test_names_of_connections),
		WITH_INSTANCE(test_backlog),
		WITH_INSTANCE(test_close_in_the_middle),
		WITH_INSTANCE(test_cancel),
		WITH_INSTANCE(test_calls_by_state),
		WITH_INSTANCE(test_options),
		WITH_INSTANCE(test_stream_whole),
		WITH_INSTANCE(test_odd_segments),
		WITH_INSTANCE(test_long_push),
		WITH_INSTANCE(test_half_close),
		WITH_INSTANCE(test_close_with_data),
		WITH_INSTANCE(test_port_is_free_at_once),
		WITH_INSTANCE(test_datagrams),
		WITH_INSTANCE(test_datagram_errors),
		WITH_INSTANCE(test_connected_datagrams),
		WITH_INSTANCE(test_full),
		WITH_INSTANCE(test_sent_and_closed),
		WITH_INSTANCE(test_many_peers),
		cmocka_unit_test(test_killed_peer),
		WITH_INSTANCE(test_two_threads),
		WITH_INSTANCE(test_end_sends_the_rest),
		WITH_INSTANCE(test_describe),
		WITH_INSTANCE(test_lying_hellos),
		WITH_INSTANCE(test_impossible_names),
		WITH_INSTANCE(test_bad_kind_on_a_stream),
		WITH_INSTANCE(test_bad_datagrams),
		cmocka_unit_test(test_stolen_port),
		WITH_INSTANCE(test_allocation_failures),
	};

	if (!mkdtemp(directory) || setenv("LIBOS", "catloop", 1) ||
	    setenv("DEMI_SHM_DIRECTORY", directory, 1))
		return 1;
	int status = test_run("loop", tests);
	(void)rmdir(directory);
	return status;
}
