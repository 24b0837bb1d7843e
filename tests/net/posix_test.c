/* SPDX-License-Identifier: MIT
 * tests/net/posix_test.c - the POSIX layer alone, on the kernel's sockets over loopback and on
 * catloop's: both ends are descriptors of the layer.
 */
#include "support/net.h"

#include "posix/posix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static uint64_t clock_ns(void *unused)
{
	(void)unused;
	return net_now_ns();
}

static struct posix px;

static int setup(void **state)
{
	return net_init(state) || posix_init(&px, 3, 64, clock_ns, NULL);
}

/* The same over shared memory. */
static int setup_loop(void **state)
{
	assert_int_equal(demi_set_config("libos", "catloop"), 0);
	return setup(state);
}

static int teardown(void **state)
{
	posix_fini(&px);
	return net_fini(state);
}

#define assert_fails(call, err)                 \
	do {                                    \
		assert_int_equal(call, -1);     \
		assert_int_equal(errno, (err)); \
	} while (0)

static int listener(int domain, struct net_address *address)
{
	int fd = posix_socket(&px, domain, SOCK_STREAM, 0);

	*address = net_loopback(domain, 0);
	assert_true(fd >= 3);
	assert_int_equal(posix_bind(&px, fd, &address->any, address->length), 0);
	assert_int_equal(posix_listen(&px, fd, 4), 0);
	assert_int_equal(posix_getsockname(&px, fd, &address->any, &address->length), 0);
	return fd;
}

struct pair {
	int listener;
	int client;
	int server;
};

static struct pair connected(int domain)
{
	struct net_address address;
	struct pair pair = {.listener = listener(domain, &address)};

	pair.client = posix_socket(&px, domain, SOCK_STREAM, 0);
	assert_int_equal(posix_connect(&px, pair.client, &address.any, address.length), 0);
	pair.server = posix_accept(&px, pair.listener, NULL, NULL);
	assert_true(pair.server > 0);
	return pair;
}

static void close_pair(const struct pair *pair)
{
	assert_int_equal(posix_close(&px, pair->client), 0);
	assert_int_equal(posix_close(&px, pair->server), 0);
	assert_int_equal(posix_close(&px, pair->listener), 0);
}

/* Waits until a descriptor shows one of the events. */
static void await(int fd, short events)
{
	struct pollfd one = {.fd = fd, .events = events};

	assert_int_equal(posix_poll(&px, &one, 1, NET_WAIT_S * 1000), 1);
	assert_true(one.revents & events);
}

static void set_nonblocking(int fd)
{
	assert_int_equal(posix_fcntl(&px, fd, F_SETFL, O_RDWR | O_NONBLOCK), 0);
}

static void test_descriptors(void **state)
{
	(void)state;
	int a = posix_socket(&px, AF_INET, SOCK_STREAM, IPPROTO_TCP);
	int b = posix_socket(&px, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char byte;

	assert_int_equal(a, 3);
	assert_int_equal(b, 4);
	assert_int_equal(posix_fcntl(&px, a, F_GETFL, 0), O_RDWR);
	assert_int_equal(posix_fcntl(&px, b, F_GETFL, 0), O_RDWR | O_NONBLOCK);
	assert_int_equal(posix_fcntl(&px, b, F_GETFD, 0), FD_CLOEXEC);
	assert_int_equal(posix_fcntl(&px, b, F_SETFD, 0), 0);
	assert_int_equal(posix_fcntl(&px, b, F_GETFD, 0), 0);
	assert_fails(posix_fcntl(&px, a, -1, 0), EINVAL);
	assert_int_equal(posix_close(&px, a), 0);
	assert_fails(posix_close(&px, a), EBADF);
	assert_fails(posix_read(&px, a, &byte, 1), EBADF);
	assert_fails(posix_read(&px, -1, &byte, 1), EBADF);
	assert_int_equal(posix_socket(&px, AF_INET, SOCK_STREAM, 0), a);
	assert_fails(posix_read(&px, a, &byte, 1), ENOTCONN);
	assert_fails(posix_write(&px, a, &byte, 1), ENOTCONN);
	assert_fails(posix_accept(&px, a, NULL, NULL), EINVAL);
	assert_fails(posix_accept(&px, b, NULL, NULL), EOPNOTSUPP);
	assert_fails(posix_listen(&px, b, 1), EOPNOTSUPP);
	assert_fails(posix_shutdown(&px, a, SHUT_WR), ENOTCONN);
	assert_fails(posix_socket(&px, AF_UNIX, SOCK_STREAM, 0), EPROTONOSUPPORT);
	assert_int_equal(posix_close(&px, a), 0);
	assert_int_equal(posix_close(&px, b), 0);
}

static void test_no_descriptor_left(void **state)
{
	struct posix small;

	(void)state;
	assert_int_equal(posix_init(&small, 10, 2, clock_ns, NULL), 0);
	assert_int_equal(posix_socket(&small, AF_INET, SOCK_STREAM, 0), 10);
	assert_int_equal(posix_epoll_create(&small, 0), 11);
	assert_fails(posix_socket(&small, AF_INET, SOCK_STREAM, 0), EMFILE);
	posix_fini(&small);
}

static void echo_both_ways(int domain)
{
	struct pair pair = connected(domain);
	char buffer[64] = "";

	assert_int_equal(posix_write(&px, pair.client, "request", 7), 7);
	assert_int_equal(posix_read(&px, pair.server, buffer, sizeof(buffer)), 7);
	assert_memory_equal(buffer, "request", 7);
	assert_int_equal(posix_send(&px, pair.server, "reply", 5, MSG_NOSIGNAL), 5);
	assert_int_equal(posix_recv(&px, pair.client, buffer, sizeof(buffer), MSG_PEEK), 5);
	assert_int_equal(posix_recv(&px, pair.client, buffer, 2, 0), 2);
	assert_int_equal(posix_recv(&px, pair.client, buffer + 2, 60, 0), 3);
	assert_memory_equal(buffer, "reply", 5);
	close_pair(&pair);
}

static void test_stream(void **state)
{
	(void)state;
	echo_both_ways(AF_INET);
}

static void test_stream_v6(void **state)
{
	(void)state;
	if (!net_has_ipv6())
		skip_because("no IPv6 here");
	echo_both_ways(AF_INET6);
}

static void test_half_close(void **state)
{
	struct pair pair = connected(AF_INET);
	char byte;

	(void)state;
	assert_int_equal(posix_shutdown(&px, pair.client, SHUT_WR), 0);
	assert_fails(posix_write(&px, pair.client, "x", 1), EPIPE);
	assert_int_equal(posix_read(&px, pair.server, &byte, 1), 0);
	assert_int_equal(posix_read(&px, pair.server, &byte, 1), 0);
	assert_int_equal(posix_write(&px, pair.server, "y", 1), 1);
	assert_int_equal(posix_read(&px, pair.client, &byte, 1), 1);
	close_pair(&pair);
}

static void test_nonblocking_connect(void **state)
{
	struct net_address address;
	int server = listener(AF_INET, &address);
	int client = posix_socket(&px, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int err = -1;
	socklen_t length = sizeof(err);

	(void)state;
	int rc = posix_connect(&px, client, &address.any, address.length);
	assert_true(rc == 0 || errno == EINPROGRESS);
	await(client, POLLOUT);
	assert_int_equal(posix_getsockopt(&px, client, SOL_SOCKET, SO_ERROR, &err, &length), 0);
	assert_int_equal(err, 0);
	assert_fails(posix_connect(&px, client, &address.any, address.length), EISCONN);
	assert_int_equal(posix_close(&px, client), 0);
	assert_int_equal(posix_close(&px, server), 0);
}

static void test_connect_refused(void **state)
{
	struct net_address address;
	int server = listener(AF_INET, &address);
	int client = posix_socket(&px, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct pollfd one = {.fd = client, .events = POLLOUT};
	int err = 0;
	socklen_t length = sizeof(err);

	(void)state;
	assert_int_equal(posix_close(&px, server), 0);
	int rc = posix_connect(&px, client, &address.any, address.length);
	assert_int_equal(rc, -1);
	if (errno == EINPROGRESS) {
		assert_int_equal(posix_poll(&px, &one, 1, NET_WAIT_S * 1000), 1);
		assert_true(one.revents & POLLERR);
		rc = posix_getsockopt(&px, client, SOL_SOCKET, SO_ERROR, &err, &length);
		assert_int_equal(rc, 0);
	} else {
		err = errno;
	}
	assert_int_equal(err, ECONNREFUSED);
	assert_int_equal(posix_getsockopt(&px, client, SOL_SOCKET, SO_ERROR, &err, &length), 0);
	assert_int_equal(err, 0);
	assert_int_equal(posix_close(&px, client), 0);
}

static void test_nonblocking_read(void **state)
{
	struct pair pair = connected(AF_INET);
	char buffer[16];
	int bytes;

	(void)state;
	set_nonblocking(pair.server);
	assert_fails(posix_read(&px, pair.server, buffer, 16), EAGAIN);
	assert_fails(posix_recv(&px, pair.client, buffer, 16, MSG_DONTWAIT), EAGAIN);
	assert_int_equal(posix_write(&px, pair.client, "abcdef", 6), 6);
	await(pair.server, POLLIN);
	assert_int_equal(posix_ioctl(&px, pair.server, FIONREAD, &bytes), 0);
	assert_int_equal(bytes, 6);
	struct iovec iov[3] = {{buffer, 2}, {buffer + 8, 0}, {buffer + 4, 3}};
	assert_int_equal(posix_readv(&px, pair.server, iov, 3), 5);
	assert_memory_equal(buffer, "ab", 2);
	assert_memory_equal(buffer + 4, "cde", 3);
	assert_int_equal(posix_read(&px, pair.server, buffer, 16), 1);
	assert_fails(posix_read(&px, pair.server, buffer, 16), EAGAIN);
	assert_int_equal(posix_read(&px, pair.server, buffer, 0), 0);
	assert_fails(posix_recv(&px, pair.server, buffer, 1, MSG_OOB), EINVAL);
	close_pair(&pair);
}

static void test_receive_timeout(void **state)
{
	struct pair pair = connected(AF_INET);
	struct timeval tv = {.tv_usec = 20000};
	struct timeval back = {0};
	socklen_t length = sizeof(back);
	char byte;

	(void)state;
	assert_int_equal(
		posix_setsockopt(&px, pair.server, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(
		posix_getsockopt(&px, pair.server, SOL_SOCKET, SO_RCVTIMEO, &back, &length), 0);
	assert_int_equal(back.tv_usec, 20000);
	uint64_t before = net_now_ns();
	assert_fails(posix_read(&px, pair.server, &byte, 1), EAGAIN);
	assert_true(net_now_ns() - before >= 20000000);
	close_pair(&pair);
}

/* What a full send buffer refuses, and that all that it took arrives. */
static void test_full_buffer(void **state)
{
	struct pair pair = connected(AF_INET);
	size_t chunk = 300000;
	uint8_t *bytes = malloc(chunk);
	uint64_t sent = 0;
	uint64_t received = 0;

	(void)state;
	assert_non_null(bytes);
	set_nonblocking(pair.client);
	for (;;) {
		for (size_t i = 0; i < chunk; i++)
			bytes[i] = net_stream_byte(7, sent + i);
		ssize_t n = posix_write(&px, pair.client, bytes, chunk);
		if (n < 0)
			break;
		assert_true(n > 0 && (size_t)n <= chunk);
		sent += (uint64_t)n;
		assert_true(sent < 1000000000);
	}
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(posix_shutdown(&px, pair.client, SHUT_WR), 0);
	ssize_t n;
	while ((n = posix_read(&px, pair.server, bytes, chunk)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(bytes[i], net_stream_byte(7, received + (uint64_t)i));
		received += (uint64_t)n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(received, sent);
	free(bytes);
	close_pair(&pair);
}

static void test_wait_all(void **state)
{
	struct pair pair = connected(AF_INET);
	char buffer[8];

	(void)state;
	assert_int_equal(posix_write(&px, pair.client, "abc", 3), 3);
	assert_int_equal(posix_write(&px, pair.client, "defgh", 5), 5);
	assert_int_equal(posix_recv(&px, pair.server, buffer, 8, MSG_WAITALL), 8);
	assert_memory_equal(buffer, "abcdefgh", 8);
	close_pair(&pair);
}

/* RFC 2525 2.17: unread data makes the close a reset. */
static void test_close_with_unread_data(void **state)
{
	struct pair pair = connected(AF_INET);
	char byte;

	(void)state;
	assert_int_equal(posix_write(&px, pair.client, "abc", 3), 3);
	assert_int_equal(posix_recv(&px, pair.server, &byte, 1, MSG_PEEK), 1);
	assert_int_equal(posix_close(&px, pair.server), 0);
	assert_fails(posix_read(&px, pair.client, &byte, 1), ECONNRESET);
	assert_int_equal(posix_read(&px, pair.client, &byte, 1), 0);
	assert_fails(posix_write(&px, pair.client, &byte, 1), EPIPE);
	assert_int_equal(posix_close(&px, pair.client), 0);
	assert_int_equal(posix_close(&px, pair.listener), 0);
}

static void test_datagrams(void **state)
{
	int a = posix_socket(&px, AF_INET, SOCK_DGRAM, 0);
	int b = posix_socket(&px, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct net_address address = net_loopback(AF_INET, 0);
	struct net_address from = {.length = sizeof(from.room)};
	char buffer[16];
	char first[] = "ab";
	char second[] = "cde";
	struct iovec out[2] = {{first, 2}, {second, 3}};
	struct iovec in = {buffer, 4};

	(void)state;
	assert_int_equal(posix_bind(&px, a, &address.any, address.length), 0);
	assert_int_equal(posix_getsockname(&px, a, &address.any, &address.length), 0);
	assert_fails(posix_send(&px, b, "x", 1, 0), EDESTADDRREQ);
	struct msghdr msg = {.msg_name = &address.room,
			     .msg_namelen = address.length,
			     .msg_iov = out,
			     .msg_iovlen = 2};
	assert_int_equal(posix_sendmsg(&px, b, &msg, 0), 5);
	assert_int_equal(posix_recv(&px, a, buffer, 16, MSG_PEEK), 5);
	msg = (struct msghdr){.msg_name = &from.room,
			      .msg_namelen = from.length,
			      .msg_iov = &in,
			      .msg_iovlen = 1};
	assert_int_equal(posix_recvmsg(&px, a, &msg, 0), 4);
	assert_int_equal(msg.msg_flags & MSG_TRUNC, MSG_TRUNC);
	assert_memory_equal(buffer, "abcd", 4);
	assert_int_equal(msg.msg_namelen, sizeof(struct sockaddr_in));
	from.length = msg.msg_namelen;
	assert_int_equal(posix_connect(&px, a, &from.any, from.length), 0);
	assert_int_equal(posix_connect(&px, b, &address.any, address.length), 0);
	assert_int_equal(posix_send(&px, a, NULL, 0, 0), 0);
	await(b, POLLIN);
	assert_int_equal(posix_recv(&px, b, buffer, 16, 0), 0);
	assert_fails(posix_recv(&px, b, buffer, 16, 0), EAGAIN);
	assert_int_equal(posix_close(&px, a), 0);
	assert_int_equal(posix_close(&px, b), 0);
}

static void test_poll(void **state)
{
	struct pair pair = connected(AF_INET);
	struct pollfd fds[3] = {{.fd = pair.server, .events = POLLIN},
				{.fd = pair.client, .events = POLLIN},
				{.fd = 60, .events = POLLIN}};
	char byte;

	(void)state;
	assert_int_equal(posix_poll(&px, fds, 2, 0), 0);
	assert_int_equal(posix_poll(&px, fds, 2, 5), 0);
	assert_int_equal(posix_poll(&px, fds, 3, 0), 1);
	assert_int_equal(fds[2].revents, POLLNVAL);
	assert_int_equal(posix_write(&px, pair.client, "a", 1), 1);
	assert_int_equal(posix_poll(&px, fds, 2, NET_WAIT_S * 1000), 1);
	assert_int_equal(fds[0].revents, POLLIN);
	assert_int_equal(fds[1].revents, 0);
	assert_int_equal(posix_read(&px, pair.server, &byte, 1), 1);
	fds[0].events = POLLIN | POLLRDHUP | POLLOUT;
	assert_int_equal(posix_shutdown(&px, pair.client, SHUT_WR), 0);
	await(pair.server, POLLRDHUP);
	assert_int_equal(posix_poll(&px, fds, 1, 0), 1);
	assert_int_equal(fds[0].revents, POLLIN | POLLRDHUP | POLLOUT);
	close_pair(&pair);
}

static void test_epoll(void **state)
{
	struct pair pair = connected(AF_INET);
	int ep = posix_epoll_create(&px, 0);
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = 1};
	struct epoll_event out[4];
	char byte;

	(void)state;
	assert_int_equal(posix_epoll_ctl(&px, ep, EPOLL_CTL_ADD, pair.server, &event), 0);
	assert_fails(posix_epoll_ctl(&px, ep, EPOLL_CTL_ADD, pair.server, &event), EEXIST);
	assert_fails(posix_epoll_ctl(&px, ep, EPOLL_CTL_DEL, pair.client, NULL), ENOENT);
	assert_fails(posix_epoll_ctl(&px, ep, EPOLL_CTL_ADD, 61, &event), EBADF);
	assert_fails(posix_epoll_ctl(&px, pair.server, EPOLL_CTL_ADD, ep, &event), EINVAL);
	assert_int_equal(posix_epoll_wait(&px, ep, out, 4, 0), 0);
	assert_int_equal(posix_write(&px, pair.client, "ab", 2), 2);
	for (int i = 0; i < 2; i++) { /* level-triggered: told again */
		assert_int_equal(posix_epoll_wait(&px, ep, out, 4, NET_WAIT_S * 1000), 1);
		assert_int_equal(out[0].events, EPOLLIN);
		assert_int_equal(out[0].data.u32, 1);
	}
	event.events = EPOLLIN | EPOLLET;
	assert_int_equal(posix_epoll_ctl(&px, ep, EPOLL_CTL_MOD, pair.server, &event), 0);
	assert_int_equal(posix_epoll_wait(&px, ep, out, 4, 0), 1);
	assert_int_equal(posix_epoll_wait(&px, ep, out, 4, 0), 0);
	assert_int_equal(posix_write(&px, pair.client, "c", 1), 1);
	assert_int_equal(posix_epoll_wait(&px, ep, out, 4, NET_WAIT_S * 1000), 1);
	assert_int_equal(posix_epoll_wait(&px, ep, out, 4, 0), 0);
	event.events = EPOLLIN | EPOLLONESHOT;
	assert_int_equal(posix_epoll_ctl(&px, ep, EPOLL_CTL_MOD, pair.server, &event), 0);
	assert_int_equal(posix_epoll_wait(&px, ep, out, 4, 0), 1);
	assert_int_equal(posix_epoll_wait(&px, ep, out, 4, 0), 0);
	assert_int_equal(posix_read(&px, pair.server, &byte, 1), 1);
	close_pair(&pair); /* ends the watch */
	assert_int_equal(posix_epoll_wait(&px, ep, out, 4, 0), 0);
	assert_int_equal(posix_close(&px, ep), 0);
}

static void test_nonblocking_accept(void **state)
{
	struct net_address address;
	struct net_address peer = {.length = sizeof(peer.room)};
	int server = listener(AF_INET, &address);
	int client = posix_socket(&px, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int one = 0;
	socklen_t length = sizeof(one);

	(void)state;
	set_nonblocking(server);
	assert_fails(posix_accept(&px, server, NULL, NULL), EAGAIN);
	(void)posix_connect(&px, client, &address.any, address.length);
	await(server, POLLIN);
	int fd = posix_accept4(&px, server, &peer.any, &peer.length, SOCK_NONBLOCK);
	assert_true(fd > 0);
	assert_int_equal(peer.in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(posix_fcntl(&px, fd, F_GETFL, 0), O_RDWR | O_NONBLOCK);
	assert_int_equal(posix_getsockopt(&px, server, SOL_SOCKET, SO_ACCEPTCONN, &one, &length),
			 0);
	assert_int_equal(one, 1);
	assert_int_equal(posix_close(&px, fd), 0);
	assert_int_equal(posix_close(&px, client), 0);
	assert_int_equal(posix_close(&px, server), 0);
}

/* ---- blocking calls suspend a coroutine, not the thread ---- */

struct reader {
	int fd;
	ssize_t n;
	char buffer[8];
};

static void read_in_coroutine(void *arg)
{
	struct reader *reader = arg;

	reader->n = posix_read(&px, reader->fd, reader->buffer, sizeof(reader->buffer));
}

static void test_coroutine(void **state)
{
	struct pair pair = connected(AF_INET);
	struct reader reader = {.fd = pair.server, .n = -2};

	(void)state;
	assert_int_equal(demi_go(read_in_coroutine, &reader), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(demi_yield(), 0);
	assert_int_equal(reader.n, -2);
	assert_int_equal(posix_write(&px, pair.client, "hello", 5), 5);
	uint64_t give_up = net_now_ns() + NET_WAIT_S * 1000000000ULL;
	while (reader.n == -2 && net_now_ns() < give_up)
		assert_int_equal(demi_yield(), 0);
	assert_int_equal(reader.n, 5);
	close_pair(&pair);
}

#define BOTH(test)                                              \
	cmocka_unit_test_setup_teardown(test, setup, teardown), \
		cmocka_unit_test_setup_teardown(test, setup_loop, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		BOTH(test_descriptors),     BOTH(test_no_descriptor_left),
		BOTH(test_stream),          BOTH(test_stream_v6),
		BOTH(test_half_close),      BOTH(test_nonblocking_connect),
		BOTH(test_connect_refused), BOTH(test_nonblocking_read),
		BOTH(test_receive_timeout), BOTH(test_full_buffer),
		BOTH(test_wait_all),        BOTH(test_close_with_unread_data),
		BOTH(test_datagrams),       BOTH(test_poll),
		BOTH(test_epoll),           BOTH(test_nonblocking_accept),
		BOTH(test_coroutine),
	};

	return test_run("posix", tests);
}
