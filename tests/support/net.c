/* SPDX-License-Identifier: MIT
 * tests/support/net.c: see net.h.
 */
#include "support/net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- life ---- */

int net_init(void **state)
{
	static const struct demi_args args;

	(void)state;
	assert_int_equal(demi_set_config("stat_socket", "off"), 0);
	assert_int_equal(demi_init(&args), 0);
	return 0;
}

int net_fini(void **state)
{
	(void)state;
	assert_int_equal(demi_fini(), 0);
	return 0;
}

int net_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	(void)closedir(dir);
	return count - 3; /* ".", ".." and the directory's own */
}

uint64_t net_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void net_sleep_ms(int ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&time, NULL);
}

/* ---- addresses ---- */

struct net_address net_loopback(int domain, uint16_t port)
{
	struct net_address address;

	memset(&address, 0, sizeof(address));
	if (domain == AF_INET) {
		address.in.sin_family = AF_INET;
		address.in.sin_port = htons(port);
		address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		address.length = sizeof(address.in);
	} else {
		address.in6.sin6_family = AF_INET6;
		address.in6.sin6_port = htons(port);
		address.in6.sin6_addr = in6addr_loopback;
		address.length = sizeof(address.in6);
	}
	return address;
}

uint16_t net_port(const struct net_address *address)
{
	return ntohs(address->any.sa_family == AF_INET ? address->in.sin_port
						       : address->in6.sin6_port);
}

struct net_address net_local(int qd)
{
	struct net_address address = {.length = sizeof(address.room)};

	assert_int_equal(demi_getsockname(qd, &address.any, &address.length), 0);
	return address;
}

struct net_address net_peer(int qd)
{
	struct net_address address = {.length = sizeof(address.room)};

	assert_int_equal(demi_getpeername(qd, &address.any, &address.length), 0);
	return address;
}

bool net_has_ipv6(void)
{
	struct net_address address = net_loopback(AF_INET6, 0);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	bool has = fd >= 0 && bind(fd, &address.any, address.length) == 0;

	if (fd >= 0)
		(void)close(fd);
	return has;
}

/* ---- the library's sockets ---- */

int net_socket(int domain, int type)
{
	int qd = -1;

	assert_int_equal(demi_socket(&qd, domain, type, 0), 0);
	return qd;
}

int net_bound(int domain, int type)
{
	struct net_address address = net_loopback(domain, 0);
	int qd = net_socket(domain, type);

	assert_int_equal(demi_bind(qd, &address.any, address.length), 0);
	return qd;
}

int net_listener(int domain, int backlog)
{
	int qd = net_bound(domain, SOCK_STREAM);

	assert_int_equal(demi_listen(qd, backlog), 0);
	return qd;
}

struct net_pair net_tcp_pair(int domain)
{
	struct net_pair pair = {.listener = net_listener(domain, 8)};
	struct net_address address = net_local(pair.listener);

	pair.client = net_socket(domain, SOCK_STREAM);
	demi_qtoken_t connecting = net_connect(pair.client, &address);
	demi_qtoken_t accepting = net_accept(pair.listener);
	assert_int_equal(net_wait(connecting).qr_opcode, DEMI_OPC_CONNECT);
	demi_qresult_t qr = net_wait(accepting);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_ACCEPT);
	assert_int_equal(qr.qr_qd, pair.listener);
	pair.server = qr.qr_value.ares.qd;
	return pair;
}

void net_close_pair(struct net_pair *pair)
{
	assert_int_equal(demi_close(pair->client), 0);
	assert_int_equal(demi_close(pair->server), 0);
	assert_int_equal(demi_close(pair->listener), 0);
}

int net_connected(int domain, int *plain_out)
{
	struct net_address address;
	int listener = plain_listen(domain, &address);
	int qd = net_socket(domain, SOCK_STREAM);
	demi_qtoken_t connecting = net_connect(qd, &address);

	assert_int_equal(net_wait(connecting).qr_opcode, DEMI_OPC_CONNECT);
	*plain_out = plain_accept(listener);
	(void)close(listener);
	return qd;
}

/* ---- operations ---- */

demi_qresult_t net_wait(demi_qtoken_t qt)
{
	static const struct timespec bound = {.tv_sec = NET_WAIT_S};
	demi_qresult_t qr;

	memset(&qr, 0xa5, sizeof(qr));
	assert_int_equal(demi_wait(&qr, qt, &bound), 0);
	assert_int_equal(qr.qr_qt, qt);
	if (qr.qr_opcode != DEMI_OPC_FAILED && qr.qr_opcode != DEMI_OPC_PUSH)
		assert_int_equal(qr.qr_ret, 0); /* a log's push tells the record's offset */
	return qr;
}

void net_wait_failed(demi_qtoken_t qt, int err)
{
	demi_qresult_t qr = net_wait(qt);

	assert_int_equal(qr.qr_opcode, DEMI_OPC_FAILED);
	assert_int_equal(qr.qr_ret, err);
}

void net_assert_pending(demi_qtoken_t qt)
{
	static const struct timespec zero;
	demi_qresult_t qr;

	assert_int_equal(demi_wait(&qr, qt, &zero), ETIMEDOUT);
}

demi_qtoken_t net_push(int qd, demi_sgarray_t *sga)
{
	demi_qtoken_t qt = 0;

	assert_int_equal(demi_push(&qt, qd, sga), 0);
	assert_int_not_equal(qt, 0);
	return qt;
}

demi_qtoken_t net_pop(int qd)
{
	demi_qtoken_t qt = 0;

	assert_int_equal(demi_pop(&qt, qd), 0);
	assert_int_not_equal(qt, 0);
	return qt;
}

demi_qtoken_t net_accept(int qd)
{
	demi_qtoken_t qt = 0;

	assert_int_equal(demi_accept(&qt, qd), 0);
	assert_int_not_equal(qt, 0);
	return qt;
}

demi_qtoken_t net_connect(int qd, const struct net_address *to)
{
	demi_qtoken_t qt = 0;

	assert_int_equal(demi_connect(&qt, qd, &to->any, to->length), 0);
	assert_int_not_equal(qt, 0);
	return qt;
}

demi_qtoken_t net_push_bytes(int qd, const void *bytes, uint32_t length)
{
	demi_sgarray_t sga = demi_sgaalloc(length);

	assert_int_equal(sga.sga_numsegs, 1);
	memcpy(sga.sga_segs[0].sgaseg_buf, bytes, length);
	demi_qtoken_t qt = net_push(qd, &sga);
	assert_int_equal(demi_sgafree(&sga), 0);
	return qt;
}

void net_pop_bytes(int qd, const void *bytes, uint32_t length)
{
	demi_qresult_t qr = net_wait(net_pop(qd));

	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	assert_int_equal(qr.qr_qd, qd);
	assert_int_equal(qr.qr_value.sga.sga_numsegs, 1);
	assert_int_equal(qr.qr_value.sga.sga_segs[0].sgaseg_len, length);
	if (length > 0)
		assert_memory_equal(qr.qr_value.sga.sga_segs[0].sgaseg_buf, bytes, length);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
}

demi_sgarray_t net_array(void *bytes, uint32_t length)
{
	demi_sgarray_t sga;

	memset(&sga, 0, sizeof(sga));
	sga.sga_numsegs = 1;
	sga.sga_segs[0].sgaseg_buf = bytes;
	sga.sga_segs[0].sgaseg_len = length;
	return sga;
}

uint64_t net_array_bytes(const demi_sgarray_t *sga)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < sga->sga_numsegs; i++)
		bytes += sga->sga_segs[i].sgaseg_len;
	return bytes;
}

uint8_t net_stream_byte(uint32_t seed, uint64_t i)
{
	uint64_t x = (i >> 3) * 0x9e3779b97f4a7c15U + seed;

	return (uint8_t)((x ^ (x >> 29)) >> (8 * (i & 7)));
}

void net_stream_fill(uint32_t seed, uint64_t offset, void *out, uint64_t bytes)
{
	uint8_t *at = out;

	for (uint64_t i = 0; i < bytes; i++)
		at[i] = net_stream_byte(seed, offset + i);
}

void net_stream_check(uint32_t seed, uint64_t offset, const void *bytes_in, uint64_t bytes)
{
	const uint8_t *at = bytes_in;
	uint64_t bad = 0;

	for (uint64_t i = 0; i < bytes && !bad; i++)
		bad = at[i] == net_stream_byte(seed, offset + i) ? 0 : offset + i + 1;
	assert_int_equal(bad, 0); /* position of the first wrong byte, from one */
}

/* ---- plain sockets ---- */

static void bound_blocking(int fd)
{
	const struct timeval bound = {.tv_sec = NET_WAIT_S};

	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound)), errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound)), errno);
}

int plain_connect(const struct net_address *to)
{
	int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(fd, errno);
	bound_blocking(fd);
	assert_return_code(connect(fd, &to->any, to->length), errno);
	return fd;
}

int plain_listen(int domain, struct net_address *out)
{
	int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(fd, errno);
	bound_blocking(fd);
	*out = net_loopback(domain, 0);
	assert_return_code(bind(fd, &out->any, out->length), errno);
	assert_return_code(listen(fd, 64), errno);
	assert_return_code(getsockname(fd, &out->any, &out->length), errno);
	return fd;
}

int plain_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	assert_return_code(fd, errno);
	bound_blocking(fd);
	return fd;
}

void plain_write(int fd, const void *bytes, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = send(fd, (const char *)bytes + done, length - done, MSG_NOSIGNAL);
		assert_return_code(n, errno);
		done += (size_t)n;
	}
}

size_t plain_read(int fd, void *out, size_t length)
{
	size_t done = 0;
	ssize_t n = 1;

	while (done < length && n > 0) {
		n = recv(fd, (char *)out + done, length - done, 0);
		assert_return_code(n, errno);
		done += (size_t)n;
	}
	return done;
}

void plain_reset(int fd)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};

	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), errno);
	(void)close(fd);
}

void plain_assert_quiet(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&poll_fd, 1, 20), 0);
}
