/* SPDX-License-Identifier: MIT
 * tests/support/net.h - what tests of the public API over loopback share: instances, sockets of the
 * library and, as their peers, plain ones of the kernel.
 *
 * Everything asserts: a function that returns has worked.  Waits are bounded by NET_WAIT_S.  Plain
 * sockets block, within the same bound.
 */
#pragma once

#include "support/test.h"

#include <demi/coroutine.h>
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#define NET_WAIT_S 20

/* demi_init for tests: no socket for `demi stat`.  Fit for cmocka's setup and teardown. */
int net_init(void **state);
int net_fini(void **state);

/* Descriptors that this process has open. */
int net_count_fds(void);

/* Nanoseconds of the monotonic clock. */
uint64_t net_now_ns(void);
void net_sleep_ms(int ms);

/* ---- addresses ---- */

struct net_address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage room;
	};

	socklen_t length;
};

/* Loopback, of AF_INET or AF_INET6. */
struct net_address net_loopback(int domain, uint16_t port);
uint16_t net_port(const struct net_address *address);
/* demi_getsockname, demi_getpeername. */
struct net_address net_local(int qd);
struct net_address net_peer(int qd);
/* Skips the test: no IPv6 here. */
bool net_has_ipv6(void);

/* ---- the library's sockets ---- */

int net_socket(int domain, int type);
/* Bound to a free loopback port. */
int net_bound(int domain, int type);
int net_listener(int domain, int backlog);

struct net_pair {
	int listener;
	int server; /* accepted by listener */
	int client;
};

/* Two queues connected by TCP, of this instance. */
struct net_pair net_tcp_pair(int domain);
void net_close_pair(struct net_pair *pair);
/* A queue connected by TCP to a plain socket. */
int net_connected(int domain, int *plain_out);

/* ---- operations ---- */

/* The result of an operation, which has to come. */
demi_qresult_t net_wait(demi_qtoken_t qt);
/* The same, and it must have failed with err. */
void net_wait_failed(demi_qtoken_t qt, int err);
/* It is pending. */
void net_assert_pending(demi_qtoken_t qt);

demi_qtoken_t net_push(int qd, demi_sgarray_t *sga);
demi_qtoken_t net_pop(int qd);
demi_qtoken_t net_accept(int qd);
demi_qtoken_t net_connect(int qd, const struct net_address *to);

/* Pushes bytes from the heap, and frees them at once. */
demi_qtoken_t net_push_bytes(int qd, const void *bytes, uint32_t length);
/* Pops once and compares; length 0: the end of the stream. */
void net_pop_bytes(int qd, const void *bytes, uint32_t length);

/* An array of the application's own making. */
demi_sgarray_t net_array(void *bytes, uint32_t length);
uint64_t net_array_bytes(const demi_sgarray_t *sga);

/* Byte i of the test stream of a seed: what is sent in one place and checked in another. */
uint8_t net_stream_byte(uint32_t seed, uint64_t i);
void net_stream_fill(uint32_t seed, uint64_t offset, void *out, uint64_t bytes);
void net_stream_check(uint32_t seed, uint64_t offset, const void *bytes_in, uint64_t bytes);

/* ---- plain sockets ---- */

int plain_connect(const struct net_address *to);
int plain_listen(int domain, struct net_address *out);
int plain_accept(int listener);
void plain_write(int fd, const void *bytes, size_t length);
/* Reads up to length bytes; less: the end. */
size_t plain_read(int fd, void *out, size_t length);
/* Closes by a reset. */
void plain_reset(int fd);
/* Nothing was received, not the end either. */
void plain_assert_quiet(int fd);
