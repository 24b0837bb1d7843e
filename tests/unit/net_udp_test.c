/* SPDX-License-Identifier: MIT
 * tests/unit/net_udp_test.c - UDP sockets: names, who gets a datagram, what is pushed, errors,
 * options.
 */
#include "support/link.h"

#include "net/wire/ether.h"
#include "net/wire/udp.h"
#include "sched/datagram.h"

#include <errno.h>
#include <string.h>

static const struct ip_address any4 = {.words = {0, 0, IP_MAPPED_WORD, 0}};
static const struct ip_address any6 = {.pair = {0, 0}};

/* ---- helpers ---- */

static struct udp_socket *open_socket(struct link *link, int domain)
{
	struct udp_socket *socket;

	assert_int_equal(udp_socket_new(&link->net, domain, &socket), 0);
	return socket;
}

static struct udp_socket *bound(struct link *link, int domain, const char *address, uint16_t port)
{
	struct udp_socket *socket = open_socket(link, domain);
	const struct ip_address a = link_address(address);

	assert_int_equal(udp_socket_bind(socket, &a, port), 0);
	return socket;
}

static struct udp_socket *connected(struct link *link, int domain, const char *address,
				    uint16_t port)
{
	struct udp_socket *socket = open_socket(link, domain);
	const struct ip_address a = link_address(address);

	assert_int_equal(udp_socket_connect(socket, &a, port), 0);
	return socket;
}

static uint16_t port_of(const struct udp_socket *socket)
{
	struct ip_address address;
	uint16_t port;

	udp_socket_local(socket, &address, &port);
	return port;
}

static void set_int(struct udp_socket *socket, int level, int name, int value)
{
	assert_int_equal(udp_socket_set_option(socket, level, name, &value, sizeof(value)), 0);
}

static int get_int(struct udp_socket *socket, int level, int name)
{
	int value = -77;
	socklen_t length = sizeof(value);

	assert_int_equal(udp_socket_get_option(socket, level, name, &value, &length), 0);
	assert_int_equal(length, sizeof(value));
	return value;
}

static void arrive(struct link *link, const char *from, uint16_t source, const char *to,
		   uint16_t destination, const void *data, uint32_t length)
{
	struct link_made made = link_make_udp(from, source, to, destination, data, length);

	link_arrive_made(link, &made);
}

static struct op *pop(struct link *link, struct udp_socket *socket)
{
	struct op *op = op_issue(&link->rig.sched, OP_POP, 1);

	assert_non_null(op);
	assert_int_equal(udp_socket_pop(socket, op), 0);
	return op;
}

/* Takes a complete operation's result: 0 or a positive errno. */
static int finish(struct link *link, struct op *op)
{
	struct op *done;

	assert_int_equal(op->state, OP_READY);
	int err = (int)op->ret;
	assert_int_equal(wait_one(&link->rig.sched, op->token, WAIT_POLL, &done), 0);
	assert_ptr_equal(done, op);
	op_free(&link->rig.sched.ops, op);
	return err;
}

/* The pop is complete with this datagram; frees it. */
static void expect_pop(struct link *link, struct op *op, const char *from, uint16_t port,
		       const void *data, uint32_t length, int domain)
{
	const struct ip_address source = link_address(from);
	int is_datagram;

	assert_int_equal(op->state, OP_READY);
	const struct datagram *datagram = datagram_object(op->sga_buf, &is_datagram);
	assert_int_equal(is_datagram, 1);
	assert_ptr_equal(op->buf, datagram->data);
	assert_int_equal(op->len, length);
	if (length > 0)
		assert_memory_equal(op->buf, data, length);
	if (domain == AF_INET) {
		assert_int_equal(datagram->source_length, sizeof(struct sockaddr_in));
		assert_int_equal(datagram->source.in.sin_family, AF_INET);
		assert_int_equal(ntohs(datagram->source.in.sin_port), port);
		assert_int_equal(datagram->source.in.sin_addr.s_addr, source.words[3]);
	} else {
		assert_int_equal(datagram->source_length, sizeof(struct sockaddr_in6));
		assert_int_equal(datagram->source.in6.sin6_family, AF_INET6);
		assert_int_equal(ntohs(datagram->source.in6.sin6_port), port);
		assert_memory_equal(&datagram->source.in6.sin6_addr, source.bytes, 16);
	}
	assert_int_equal(heap_find(link->net.heap, datagram, sizeof(*datagram) + length),
			 HEAP_OURS);
	assert_int_equal(heap_free_inside(link->net.heap, datagram), 0);
	assert_int_equal(finish(link, op), 0);
}

/* Exactly this socket gets a datagram between these; the others do not. */
static void expect_for(struct link *link, struct udp_socket *socket,
		       struct udp_socket *const *others, uint32_t count,
		       const struct link_made *made)
{
	uint32_t before = socket ? udp_socket_queued(socket) : 0;
	uint32_t counts[8];

	for (uint32_t i = 0; i < count; i++)
		counts[i] = udp_socket_queued(others[i]);
	link_arrive_made(link, made);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(udp_socket_queued(others[i]), counts[i] + (others[i] == socket));
	if (socket)
		assert_int_equal(udp_socket_queued(socket), before + 1);
}

/* A push of up to two segments; the result of the call, and if that is 0 of the operation. */
struct pushed {
	const char *to; /* NULL: the connected peer */
	const void *first;
	const void *second;
	uint32_t first_length;
	uint32_t second_length;
	uint16_t port;
};

static int push(struct link *link, struct udp_socket *socket, const struct pushed *p)
{
	struct sched *sched = &link->rig.sched;
	struct op *op = op_issue(sched, OP_PUSH, 1);
	struct ip_address address;
	bool ours = heap_find(link->net.heap, p->first, p->first_length) == HEAP_OURS;

	if (p->second) {
		struct iovec *iov = op_set_segments(&sched->ops, op, 2);
		iov[0] = (struct iovec){(void *)(uintptr_t)p->first, p->first_length};
		iov[1] = (struct iovec){(void *)(uintptr_t)p->second, p->second_length};
		op->len = (uint32_t)ours | (uint32_t)(heap_find(link->net.heap, p->second,
								p->second_length) == HEAP_OURS)
						   << 1;
	} else {
		op_set_segment(op, (void *)(uintptr_t)p->first, p->first_length);
		op->flags |= ours ? OP_OURS : 0;
	}
	if (p->to)
		address = link_address(p->to);
	int err = udp_socket_push(socket, op, p->to ? &address : NULL, p->port);
	if (err) {
		op->owner->issued--;
		op_free(&sched->ops, op);
		return err;
	}
	return -finish(link, op);
}

static int push_text(struct link *link, struct udp_socket *socket, const char *to, uint16_t port,
		     const char *text)
{
	const struct pushed p = {
		.to = to,
		.port = port,
		.first = text,
		.first_length = (uint32_t)strlen(text),
	};

	return push(link, socket, &p);
}

/* ---- in ---- */

/* A pop that waits, and one that comes later; every size, copied or in place. */
static void test_receive(void **state)
{
	static const uint32_t lengths[] = {0, 1, 255, 256, 257, 1000, 1472 - 20};
	struct link *link = link_open(NULL);
	struct udp_socket *four = bound(link, AF_INET, "0.0.0.0", 7);
	struct udp_socket *six = bound(link, AF_INET6, "fd00::2", 8);
	uint8_t data[1500];

	(void)state;
	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 11);
	for (uint32_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
		struct op *op = pop(link, four);
		assert_int_equal(op->state, OP_PENDING);
		arrive(link, "10.0.0.1", 1000, "10.0.0.2", 7, data, lengths[i]);
		expect_pop(link, op, "10.0.0.1", 1000, data, lengths[i], AF_INET);
		arrive(link, "fd00::1", 1001, "fd00::2", 8, data, lengths[i]);
		assert_int_equal(udp_socket_queued(six), 1);
		expect_pop(link, pop(link, six), "fd00::1", 1001, data, lengths[i], AF_INET6);
		assert_int_equal(udp_socket_queued(six), 0);
	}
	link_quiet(link);
	udp_socket_close(four);
	udp_socket_close(six);
	link_close(link);
}

/* In order, over the growth of the ring, and what is left is freed by close. */
static void test_queue(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = bound(link, AF_INET, "0.0.0.0", 7);
	uint8_t data[300];
	uint32_t in = 0;
	uint32_t out = 0;

	(void)state;
	memset(data, 9, sizeof(data));
	for (uint32_t round = 1; round < 12; round++) {
		for (uint32_t i = 0; i < round * 3; i++) {
			store32(data, in++);
			arrive(link, "10.0.0.1", 1, "10.0.0.2", 7, data, in % 2 ? 300 : 100);
		}
		for (uint32_t i = 0; i < round * 2; i++) {
			store32(data, out++);
			expect_pop(link, pop(link, socket), "10.0.0.1", 1, data,
				   out % 2 ? 300 : 100, AF_INET);
		}
	}
	assert_int_equal(udp_socket_queued(socket), in - out);
	udp_socket_close(socket);
	link_close(link);
}

/* A queue holds its limit in bytes of memory; then datagrams are dropped, without an ICMP message.
 */
static void test_limit(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = bound(link, AF_INET, "0.0.0.0", 7);
	uint8_t data[1400] = {0};
	uint32_t frame = (uint32_t)frame_object_bytes(1500);

	(void)state;
	assert_int_equal(get_int(socket, SOL_SOCKET, SO_RCVBUF), 212992);
	for (uint32_t i = 0; i < 212992 / frame + 10; i++)
		arrive(link, "10.0.0.1", 1, "10.0.0.2", 7, data, sizeof(data));
	assert_int_equal(udp_socket_queued(socket), 212992 / frame);
	assert_int_equal(link_drops(link, DROP_UDP_FULL), 10);
	assert_int_equal(link->dropped, DROP_UDP_FULL);
	expect_pop(link, pop(link, socket), "10.0.0.1", 1, data, sizeof(data), AF_INET);
	arrive(link, "10.0.0.1", 1, "10.0.0.2", 7, data, sizeof(data)); /* there is room again */
	assert_int_equal(link_drops(link, DROP_UDP_FULL), 10);
	link_quiet(link);
	udp_socket_close(socket);
	/* One that is larger than the limit comes through, if nothing else waits. */
	socket = bound(link, AF_INET, "0.0.0.0", 7);
	set_int(socket, SOL_SOCKET, SO_RCVBUF, 1);
	assert_int_equal(get_int(socket, SOL_SOCKET, SO_RCVBUF), 2048);
	for (int i = 0; i < 3; i++)
		arrive(link, "10.0.0.1", 1, "10.0.0.2", 7, data, sizeof(data));
	assert_int_equal(udp_socket_queued(socket), 1);
	for (int i = 0; i < 100; i++)
		arrive(link, "10.0.0.1", 1, "10.0.0.2", 7, data, 1);
	uint64_t small =
		sizeof(struct datagram) + 1 + 16; /* short ones cost more than their bytes */
	assert_int_equal(udp_socket_queued(socket), 1 + (2048 - frame) / small);
	expect_pop(link, pop(link, socket), "10.0.0.1", 1, data, sizeof(data), AF_INET);
	udp_socket_close(socket);
	link_close(link);
}

/* While frames are short, none stays with the application. */
static void test_frames_short(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = bound(link, AF_INET, "0.0.0.0", 7);
	uint8_t data[1400] = {0};

	(void)state;
	link->net.frames_short = true;
	link->net.frame_countdown = 1000;
	arrive(link, "10.0.0.1", 1, "10.0.0.2", 7, data, sizeof(data));
	uint32_t after = heap_frames_left(link->net.heap);
	arrive(link, "10.0.0.1", 1, "10.0.0.2", 7, data, sizeof(data));
	assert_int_equal(heap_frames_left(link->net.heap), after);
	link->net.frames_short = false;
	arrive(link, "10.0.0.1", 1, "10.0.0.2", 7, data, sizeof(data));
	assert_int_equal(heap_frames_left(link->net.heap), after - 1);
	udp_socket_close(socket);
	link_close(link);
}

/* attack row 12: lengths, checksums; an IPv4 datagram without a checksum is good */
static void test_bad(void **state)
{
	static const uint8_t no_sum[] = {0, 9, 0, 7, 0, 9, 0, 0, 'x'};
	struct link *link = link_open(NULL);
	struct udp_socket *socket = bound(link, AF_INET6, "::", 7);
	struct link_made good = link_make_udp("10.0.0.1", 9, "10.0.0.2", 7, "abc", 3);
	struct link_made made;

	(void)state;
	for (uint32_t length = 0; length < UDP_HEADER_BYTES; length++) {
		made = link_make_ip("10.0.0.1", "10.0.0.2", IP_UDP, good.bytes + 34, length);
		link_arrive_made(link, &made);
	}
	assert_int_equal(link_drops(link, DROP_UDP_BAD), UDP_HEADER_BYTES);
	for (uint16_t length = 0; length < UDP_HEADER_BYTES; length++) {
		made = good;
		store16(made.bytes + 34 + 4, length);
		link_arrive_made(link, &made);
	}
	made = good;
	store16(made.bytes + 34 + 4, 12); /* beyond the packet */
	link_arrive_made(link, &made);
	assert_int_equal(link_drops(link, DROP_UDP_BAD), 2 * UDP_HEADER_BYTES + 1);
	for (uint32_t bit = 0; bit < 3 * 8; bit++) {
		made = good;
		made.bytes[made.length - 3 + bit / 8] ^= (uint8_t)(1U << bit % 8);
		link_arrive_made(link, &made);
	}
	assert_int_equal(link_drops(link, DROP_UDP_CHECKSUM), 24);
	made = link_make_ip("fd00::1", "fd00::2", IP_UDP, no_sum, sizeof(no_sum));
	link_arrive_made(link, &made);
	assert_int_equal(link_drops(link, DROP_UDP_CHECKSUM), 25);
	assert_int_equal(udp_socket_queued(socket), 0);
	made = link_make_ip("10.0.0.1", "10.0.0.2", IP_UDP, no_sum, sizeof(no_sum));
	link_arrive_made(link, &made);
	expect_pop(link, pop(link, socket), "10.0.0.1", 9, "x", 1, AF_INET6);
	link_quiet(link); /* no ICMP message about any of them */
	udp_socket_close(socket);
	link_close(link);
}

/* ---- who gets it ---- */

static void test_lookup(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *wild6 = bound(link, AF_INET6, "::", 7);
	struct udp_socket *exact = open_socket(link, AF_INET);
	struct udp_socket *flow;
	struct link_made made = link_make_udp("10.0.0.1", 9, "10.0.0.2", 7, "x", 1);
	const struct ip_address us = link_address("10.0.0.2");
	const struct ip_address peer = link_address("10.0.0.1");

	(void)state;
	expect_for(link, wild6, &wild6, 1, &made);
	assert_int_equal(udp_socket_bind(exact, &us, 7), -EADDRINUSE);
	set_int(wild6, SOL_SOCKET, SO_REUSEADDR, 1);
	assert_int_equal(udp_socket_bind(exact, &us, 7), -EADDRINUSE);
	set_int(exact, SOL_SOCKET, SO_REUSEADDR, 1);
	assert_int_equal(udp_socket_bind(exact, &us, 7), 0);
	struct udp_socket *all[3] = {wild6, exact, NULL};
	expect_for(link, exact, all, 2, &made);
	flow = open_socket(link, AF_INET);
	set_int(flow, SOL_SOCKET, SO_REUSEADDR, 1);
	assert_int_equal(udp_socket_bind(flow, &any4, 7), 0);
	all[2] = flow;
	expect_for(link, exact, all, 3, &made); /* an address is better than none */
	assert_int_equal(udp_socket_connect(flow, &peer, 9), 0);
	expect_for(link, flow, all, 3, &made);
	made = link_make_udp("10.0.0.1", 10, "10.0.0.2", 7, "x", 1); /* another port of the peer */
	expect_for(link, exact, all, 3, &made);
	made = link_make_udp("fd00::1", 9, "fd00::2", 7, "x", 1);
	expect_for(link, wild6, all, 3, &made);
	assert_int_equal(udp_socket_connect(flow, &any4, 0), 0); /* dissolved */
	assert_false(udp_socket_connected(flow));
	assert_int_equal(port_of(flow), 7);
	made = link_make_udp("10.0.0.1", 9, "10.0.0.2", 7, "x", 1);
	expect_for(link, exact, all, 3, &made);
	udp_socket_close(exact);
	all[1] = flow;
	expect_for(link, flow, all, 2, &made); /* IPv4's own wildcard before that of both */
	udp_socket_close(flow);
	expect_for(link, wild6, all, 1, &made);
	udp_socket_close(wild6);
	assert_null(link_next(link));
	link_close(link);
}

static void test_v6only(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *six = open_socket(link, AF_INET6);
	struct link_made made = link_make_udp("10.0.0.1", 9, "10.0.0.2", 7, "x", 1);

	(void)state;
	link_know(link, "10.0.0.1");
	set_int(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	assert_int_equal(udp_socket_bind(six, &any6, 7), 0);
	int off = 0;
	assert_int_equal(udp_socket_set_option(six, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)),
			 -EINVAL);
	expect_for(link, NULL, &six, 1, &made);
	struct link_packet packet;
	(void)link_next_icmp(link, ICMP_UNREACHABLE, 3, &packet);
	struct udp_socket *four = bound(link, AF_INET, "0.0.0.0", 7); /* beside it */
	expect_for(link, four, &six, 1, &made);
	assert_int_equal(push_text(link, six, "10.0.0.1", 9, "x"), -ENETUNREACH);
	assert_int_equal(push_text(link, four, "fd00::1", 9, "x"), -EAFNOSUPPORT);
	udp_socket_close(six);
	udp_socket_close(four);
	/* two addresses, one port */
	six = bound(link, AF_INET6, "fd00::2", 7);
	four = bound(link, AF_INET, "10.0.0.2", 7);
	struct udp_socket *local = bound(link, AF_INET6, "fe80::ff:fe00:2", 7);
	assert_int_equal(push_text(link, six, "10.0.0.1", 9, "x"), -ENETUNREACH);
	udp_socket_close(six);
	udp_socket_close(four);
	udp_socket_close(local);
	link_close(link);
}

/* SO_REUSEPORT: a flow goes to one of those that share, always the same, and all get some. */
static void test_reuse_port(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *group[4];
	struct udp_socket *stranger = open_socket(link, AF_INET);

	(void)state;
	for (int i = 0; i < 4; i++) {
		group[i] = open_socket(link, AF_INET);
		set_int(group[i], SOL_SOCKET, SO_REUSEPORT, 1);
		assert_int_equal(udp_socket_bind(group[i], &any4, 7), 0);
	}
	assert_int_equal(udp_socket_bind(stranger, &any4, 7), -EADDRINUSE);
	for (uint16_t port = 1; port <= 64; port++) {
		uint32_t before[4];
		for (int i = 0; i < 4; i++)
			before[i] = udp_socket_queued(group[i]);
		arrive(link, "10.0.0.1", port, "10.0.0.2", 7, "x", 1);
		arrive(link, "10.0.0.1", port, "10.0.0.2", 7, "x", 1);
		uint32_t both = 0;
		for (int i = 0; i < 4; i++)
			both += udp_socket_queued(group[i]) == before[i] + 2;
		assert_int_equal(both, 1);
	}
	for (int i = 0; i < 4; i++) {
		assert_true(udp_socket_queued(group[i]) > 0);
		udp_socket_close(group[i]);
	}
	udp_socket_close(stranger);
	link_close(link);
}

/* RFC 1122 4.1.3.6: what is sent to a group comes to all that listen to it. */
static void test_groups(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *sockets[4];
	struct link_made made = link_make_udp("10.0.0.1", 9, "10.0.0.255", 7, "all", 3);
	const struct ip_address peer = link_address("10.0.0.1");
	const struct ip_address us = link_address("10.0.0.2");

	(void)state;
	for (int i = 0; i < 4; i++) {
		sockets[i] = open_socket(link, AF_INET);
		set_int(sockets[i], SOL_SOCKET, SO_REUSEADDR, 1);
		assert_int_equal(udp_socket_bind(sockets[i], i == 3 ? &us : &any4, 7), 0);
	}
	assert_int_equal(udp_socket_connect(sockets[1], &peer, 9), 0);
	assert_int_equal(udp_socket_connect(sockets[2], &peer, 10), 0); /* of another flow */
	memset(made.bytes, 0xff, 6);
	link_arrive_made(link, &made);
	expect_pop(link, pop(link, sockets[0]), "10.0.0.1", 9, "all", 3, AF_INET);
	expect_pop(link, pop(link, sockets[1]), "10.0.0.1", 9, "all", 3, AF_INET);
	assert_int_equal(udp_socket_queued(sockets[2]), 0);
	assert_int_equal(udp_socket_queued(sockets[3]), 0);
	for (int i = 0; i < 4; i++)
		udp_socket_close(sockets[i]);
	link_arrive_made(link, &made);
	assert_int_equal(link_drops(link, DROP_UDP_PORT), 1);
	link_quiet(link);
	link_close(link);
}

/* ---- names ---- */

static void test_bind(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *a = open_socket(link, AF_INET);
	struct udp_socket *b = open_socket(link, AF_INET);
	struct udp_socket *six = open_socket(link, AF_INET6);
	struct ip_address address = link_address("10.0.0.3");
	uint16_t port;

	(void)state;
	assert_int_equal(udp_socket_bind(a, &address, 7), -EADDRNOTAVAIL);
	address = link_address("fd00::2");
	assert_int_equal(udp_socket_bind(a, &address, 7), -EINVAL);
	assert_int_equal(udp_socket_bind(a, &any4, 7), 0);
	assert_int_equal(udp_socket_bind(a, &any4, 8), -EINVAL); /* bound already */
	address = link_address("10.0.0.2");
	assert_int_equal(udp_socket_bind(b, &address, 7), -EADDRINUSE);
	assert_int_equal(udp_socket_bind(six, &any6, 7), -EADDRINUSE);
	assert_int_equal(udp_socket_bind(six, &any4, 8), -EINVAL);
	address = link_address("fd00::2");
	assert_int_equal(udp_socket_bind(six, &address, 7), 0); /* IPv6 only: beside it */
	udp_socket_local(six, &address, &port);
	assert_int_equal(port, 7);
	udp_socket_close(a);
	assert_int_equal(udp_socket_bind(b, &any4, 7), 0); /* free again */
	udp_socket_local(b, &address, &port);
	assert_true(ip_equal(&address, &any4));
	udp_socket_close(b);
	udp_socket_close(six);
	link_close(link);
}

/* RFC 6056 3.3.1, attack row 26: ports of the ephemeral range, in no order, shared with nobody */
static void test_ephemeral(void **state)
{
	struct link *link = link_open(NULL);
	static struct udp_socket *sockets[2000];
	static bool taken[65536];
	uint32_t following = 0;
	uint16_t last = 0;

	(void)state;
	memset(taken, 0, sizeof(taken));
	for (uint32_t i = 0; i < 2000; i++) {
		sockets[i] = open_socket(link, AF_INET);
		set_int(sockets[i], SOL_SOCKET, SO_REUSEADDR, 1);
		assert_int_equal(udp_socket_bind(sockets[i], &any4, 0), 0);
		uint16_t port = port_of(sockets[i]);
		assert_true(port >= 32768 && port < 61000);
		assert_false(taken[port]);
		taken[port] = true;
		following += port == last + 1;
		last = port;
	}
	assert_true(following < 20);
	for (uint32_t i = 0; i < 2000; i++)
		udp_socket_close(sockets[i]);
	link_close(link);
}

static void test_connect(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = open_socket(link, AF_INET);
	struct ip_address address = link_address("10.0.0.1");
	uint16_t port;

	(void)state;
	assert_int_equal(udp_socket_connect(socket, &address, 9), 0);
	assert_true(udp_socket_connected(socket));
	udp_socket_remote(socket, &address, &port);
	assert_int_equal(port, 9);
	udp_socket_local(socket, &address, &port);
	const struct ip_address us = link_address("10.0.0.2");
	assert_true(ip_equal(&address, &us));
	assert_true(port >= 32768);
	address = link_address("10.0.0.9"); /* another peer, same port */
	assert_int_equal(udp_socket_connect(socket, &address, 10), 0);
	assert_int_equal(port_of(socket), port);
	address = link_address("10.0.1.9");
	assert_int_equal(udp_socket_connect(socket, &address, 10), -ENETUNREACH);
	address = link_address("fd00::1");
	assert_int_equal(udp_socket_connect(socket, &address, 10), -EAFNOSUPPORT);
	address = link_address("10.0.0.255");
	assert_int_equal(udp_socket_connect(socket, &address, 10), -EACCES);
	assert_true(udp_socket_connected(socket));
	assert_int_equal(udp_socket_connect(socket, &any4, 0), 0);
	assert_false(udp_socket_connected(socket));
	assert_int_equal(port_of(socket), 0); /* it was bound by connect */
	assert_int_equal(udp_socket_connect(socket, &any4, 0), 0);
	udp_socket_close(socket);
	/* over both families by one socket */
	socket = connected(link, AF_INET6, "10.0.0.1", 9);
	udp_socket_local(socket, &address, &port);
	assert_true(ip_equal(&address, &us));
	address = link_address("fd00::1");
	assert_int_equal(udp_socket_connect(socket, &address, 9), 0);
	udp_socket_close(socket);
	/* bound to an address of one family it speaks no other */
	socket = bound(link, AF_INET6, "fd00::2", 0);
	address = link_address("10.0.0.1");
	assert_int_equal(udp_socket_connect(socket, &address, 9), -ENETUNREACH);
	udp_socket_close(socket);
	link_close(link);
}

/* ---- out ---- */

static void know_peers(struct link *link)
{
	link_know(link, "10.0.0.1");
	link_know(link, "fd00::1");
}

/* Every length of two pieces, odd ones too, with and without a device that sums. */
static void all_lengths(void (*configure)(struct link *link))
{
	struct link *link = link_open(configure);
	struct udp_socket *four = bound(link, AF_INET, "0.0.0.0", 7);
	struct udp_socket *six = connected(link, AF_INET6, "fd00::1", 9);
	uint8_t *heap = heap_alloc(link->net.heap, 1500);
	uint8_t stack[1500];
	uint8_t want[1500];

	know_peers(link);
	for (uint32_t i = 0; i < 1500; i++) {
		stack[i] = (uint8_t)(i * 13 + 1);
		heap[i] = (uint8_t)(i * 5 + 3);
	}
	for (uint32_t first = 0; first <= 1400; first += first < 4 ? 1 : 233) {
		for (uint32_t second = 0; first + second <= 1400; second += second < 4 ? 1 : 241) {
			const struct pushed p = {
				.to = "10.0.0.1",
				.port = 9,
				.first = stack,
				.first_length = first,
				.second = heap,
				.second_length = second,
			};
			struct pushed q = p;
			memcpy(want, stack, first);
			memcpy(want + first, heap, second);
			assert_int_equal(push(link, four, &p), 0);
			link_next_udp(link, 7, 9, want, first + second);
			q.to = NULL;
			assert_int_equal(push(link, six, &q), 0);
			link_next_udp(link, port_of(six), 9, want, first + second);
			assert_int_equal(heap_library_refs(link->net.heap, heap), 0);
			link_forget(link);
		}
	}
	assert_int_equal(heap_free(link->net.heap, heap), 0);
	udp_socket_close(four);
	udp_socket_close(six);
	link_close(link);
}

static void gather(struct link *link)
{
	link->dev.max_segments = 4;
	link->rig.sched.config.zero_copy_bytes = 64;
}

static void sum_and_gather(struct link *link)
{
	gather(link);
	link->dev.offloads = NETDEV_TX_CHECKSUM;
}

static void sum(struct link *link)
{
	link->dev.offloads = NETDEV_TX_CHECKSUM;
}

static void test_push(void **state)
{
	(void)state;
	all_lengths(NULL);
	all_lengths(gather);
	all_lengths(sum);
	all_lengths(sum_and_gather);
}

/* What is sent in place: long pieces in the heap at the end, as many as the device gathers. */
static void test_in_place(void **state)
{
	struct link *link = link_open(gather);
	struct udp_socket *socket = connected(link, AF_INET, "10.0.0.1", 9);
	uint8_t *heap = heap_alloc(link->net.heap, 400);
	uint8_t stack[400] = {1};

	const struct {
		struct pushed p;
		uint8_t segments;
	} rows[] = {
		{{.first = heap, .first_length = 64}, 1},
		{{.first = heap, .first_length = 63}, 0},
		{{.first = stack, .first_length = 400}, 0},
		{{.first = stack, .first_length = 9, .second = heap, .second_length = 64}, 1},
		{{.first = heap, .first_length = 100, .second = heap + 100, .second_length = 9}, 2},
		{{.first = heap, .first_length = 9, .second = heap + 100, .second_length = 64}, 1},
		{{.first = heap, .first_length = 100, .second = stack, .second_length = 100}, 0},
	};

	(void)state;
	memset(heap, 4, 400);
	know_peers(link);
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		link_forget(link);
		assert_int_equal(push(link, socket, &rows[i].p), 0);
		/* It is read when the frame leaves, and until then ours. */
		assert_int_equal(heap_library_refs(link->net.heap, heap), rows[i].segments);
		assert_non_null(link_next(link));
		assert_int_equal(link->sent[0].num_segments, rows[i].segments);
		assert_int_equal(heap_library_refs(link->net.heap, heap), 0);
	}
	assert_int_equal(heap_free(link->net.heap, heap), 0);
	udp_socket_close(socket);
	link_close(link);
}

/* RFC 768: a checksum that comes out as 0 is sent as 0xffff. */
static void test_zero_checksum(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = bound(link, AF_INET, "10.0.0.2", 7);
	uint32_t seen = 0;

	(void)state;
	know_peers(link);
	for (uint32_t value = 0; value < 65536; value++) {
		uint16_t data = (uint16_t)value;
		const struct pushed p = {
			.to = "10.0.0.1", .port = 9, .first = &data, .first_length = 2};
		assert_int_equal(push(link, socket, &p), 0);
		const struct link_frame *frame = link_next(link);
		uint16_t checksum = load16(frame->bytes + 34 + UDP_CHECKSUM_OFFSET);
		assert_int_not_equal(checksum, 0);
		seen += checksum == 0xffff;
		link_forget(link);
	}
	assert_int_equal(seen, 1);
	udp_socket_close(socket);
	link_close(link);
}

static void test_push_refused(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = open_socket(link, AF_INET);
	static uint8_t data[65536];
	struct pushed p = {.to = "10.0.0.1", .port = 9, .first = data, .first_length = 1472};

	(void)state;
	know_peers(link);
	assert_int_equal(push_text(link, socket, NULL, 0, "x"), -EDESTADDRREQ);
	assert_int_equal(push_text(link, socket, "10.0.0.1", 0, "x"), -EINVAL);
	assert_int_equal(push_text(link, socket, "10.0.1.1", 9, "x"), -ENETUNREACH);
	assert_int_equal(push_text(link, socket, "127.0.0.1", 9, "x"), -ENETUNREACH);
	assert_int_equal(push_text(link, socket, "10.0.0.255", 9, "x"), -EACCES);
	assert_int_equal(push(link, socket, &p), 0); /* the largest of one packet */
	p.first_length = 65508;
	assert_int_equal(push(link, socket, &p), -EMSGSIZE);
	assert_true(port_of(socket) >= 32768); /* bound by the first push */
	link_next_udp(link, port_of(socket), 9, data, 1472);
	link_quiet(link);
	set_int(socket, SOL_SOCKET, SO_BROADCAST, 1);
	assert_int_equal(push_text(link, socket, "10.0.0.255", 9, "x"), 0);
	struct link_packet packet = link_next_ip(link, IP_UDP);
	assert_int_equal(packet.to_mac[0], 0xff);
	assert_int_equal(packet.ip.ttl, 64);
	assert_int_equal(push_text(link, socket, "239.1.2.3", 9, "x"), 0);
	packet = link_next_ip(link, IP_UDP);
	assert_int_equal(packet.ip.ttl, 1); /* RFC 1112 6.1: a group's default */
	udp_socket_close(socket);
	struct udp_socket *six = connected(link, AF_INET6, "fd00::1", 9);
	p = (struct pushed){.first = data, .first_length = 1452};
	assert_int_equal(push(link, six, &p), 0);
	p.first_length = 65528;
	assert_int_equal(push(link, six, &p), -EMSGSIZE);
	udp_socket_close(six);
	link_close(link);
}

/* To ourselves: through the next poll; to a port that nobody has: refused, as by a peer. */
static void test_ourselves(void **state)
{
	struct link *link = link_open(sum_and_gather);
	struct udp_socket *a = bound(link, AF_INET6, "::", 7);
	struct udp_socket *b = connected(link, AF_INET6, "fd00::2", 7);
	uint8_t *heap = heap_alloc(link->net.heap, 1000);

	(void)state;
	memset(heap, 6, 1000);
	const struct pushed p = {.first = heap, .first_length = 1000};
	assert_int_equal(push(link, b, &p), 0);
	assert_int_equal(udp_socket_queued(a), 0);
	(void)net_poll(&link->net);
	expect_pop(link, pop(link, a), "fd00::2", port_of(b), heap, 1000, AF_INET6);
	assert_int_equal(heap_library_refs(link->net.heap, heap), 0);
	assert_int_equal(push_text(link, a, "10.0.0.2", 7, "myself"), 0);
	(void)net_poll(&link->net);
	expect_pop(link, pop(link, a), "10.0.0.2", 7, "myself", 6, AF_INET6);
	udp_socket_close(a);
	assert_int_equal(push_text(link, b, NULL, 0, "nobody"), 0);
	(void)net_poll(&link->net); /* the datagram */
	(void)net_poll(&link->net); /* the ICMP message */
	assert_int_equal(push_text(link, b, NULL, 0, "nobody"), -ECONNREFUSED);
	link_quiet(link);
	assert_int_equal(heap_free(link->net.heap, heap), 0);
	udp_socket_close(b);
	link_close(link);
}

/* ---- errors ---- */

static void refuse(struct link *link, const struct udp_socket *socket, uint8_t code)
{
	uint8_t bytes[IPV4_HEADER_BYTES + UDP_HEADER_BYTES];
	const struct ip_address from = link_address("10.0.0.2");
	const struct ip_address to = link_address("10.0.0.1");
	const struct udp_header header = {.source = port_of(socket), .destination = 9, .length = 8};
	const struct icmp_header icmp = {.type = ICMP_UNREACHABLE, .code = code};

	ipv4_write(bytes, &from, &to, IP_UDP, 64, 0, UDP_HEADER_BYTES);
	udp_write(bytes + IPV4_HEADER_BYTES, &header);
	struct link_made made = link_make_icmp("10.0.0.1", "10.0.0.2", &icmp, bytes, sizeof(bytes));
	link_arrive_made(link, &made);
}

/* RFC 1122 4.1.3.3 MUST: errors are told, once, to the next operation of a connected socket. */
static void test_refused(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = connected(link, AF_INET, "10.0.0.1", 9);

	(void)state;
	know_peers(link);
	refuse(link, socket, 3);
	assert_int_equal(push_text(link, socket, NULL, 0, "x"), -ECONNREFUSED);
	assert_int_equal(push_text(link, socket, NULL, 0, "x"), 0);
	refuse(link, socket, 1);
	assert_int_equal(finish(link, pop(link, socket)), EHOSTUNREACH);
	refuse(link, socket, 3);
	assert_int_equal(get_int(socket, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
	assert_int_equal(get_int(socket, SOL_SOCKET, SO_ERROR), 0);
	struct op *first = pop(link, socket); /* one that waits is told */
	struct op *second = pop(link, socket);
	refuse(link, socket, 3);
	assert_int_equal(finish(link, first), ECONNREFUSED);
	assert_int_equal(second->state, OP_PENDING);
	udp_socket_cancel(socket, second);
	assert_int_equal(finish(link, second), ECANCELED);
	assert_int_equal(link_drops(link, DROP_ICMP_UNMATCHED), 0);
	udp_socket_close(socket);
	/* An unconnected socket speaks to many: it is told nothing. */
	socket = bound(link, AF_INET, "0.0.0.0", 7);
	refuse(link, socket, 3);
	assert_int_equal(get_int(socket, SOL_SOCKET, SO_ERROR), 0);
	assert_int_equal(link_drops(link, DROP_ICMP_UNMATCHED), 1);
	udp_socket_close(socket);
	link_close(link);
}

/* A neighbour that does not answer. */
static void test_neighbour(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = connected(link, AF_INET, "10.0.0.1", 9);
	struct udp_socket *loose = bound(link, AF_INET, "0.0.0.0", 7);

	(void)state;
	assert_int_equal(push_text(link, socket, NULL, 0, "x"), 0); /* it waits */
	assert_int_equal(push_text(link, loose, "10.0.0.1", 9, "x"), 0);
	link_wait(link, 31 * LINK_SECOND / 10);
	assert_int_equal(push_text(link, socket, NULL, 0, "x"), -EHOSTUNREACH); /* what failed */
	assert_int_equal(push_text(link, socket, NULL, 0, "x"), -EHOSTUNREACH); /* and still does */
	assert_int_equal(push_text(link, loose, "10.0.0.1", 9, "x"), -EHOSTUNREACH);
	assert_int_equal(link_drops(link, DROP_ICMP_UNMATCHED), 0);
	udp_socket_close(socket);
	udp_socket_close(loose);
	link_close(link);
}

static void test_close(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = bound(link, AF_INET, "0.0.0.0", 7);
	struct op *ops[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		ops[i] = pop(link, socket);
	udp_socket_close(socket);
	for (int i = 0; i < 3; i++)
		assert_int_equal(finish(link, ops[i]), ECANCELED);
	socket = bound(link, AF_INET, "0.0.0.0", 7); /* left open: the stack's end closes it */
	arrive(link, "10.0.0.1", 9, "10.0.0.2", 7, "x", 1);
	assert_int_equal(udp_socket_queued(socket), 1);
	link_close(link);
}

/* ---- options ---- */

static void test_options(void **state)
{
	static const struct {
		int level;
		int name;
		int at_first;
		int good;
	} rows[] = {
		{SOL_SOCKET, SO_RCVBUF, 212992, 65536},
		{SOL_SOCKET, SO_SNDBUF, 212992, 65536},
		{SOL_SOCKET, SO_REUSEADDR, 0, 1},
		{SOL_SOCKET, SO_REUSEPORT, 0, 1},
		{SOL_SOCKET, SO_BROADCAST, 0, 1},
		{IPPROTO_IP, IP_TTL, 64, 255},
		{IPPROTO_IP, IP_MULTICAST_TTL, 1, 0},
		{IPPROTO_IP, IP_TOS, 0, 0xb8},
		{IPPROTO_IPV6, IPV6_V6ONLY, 0, 1},
		{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64, 255},
		{IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1, 0},
		{IPPROTO_IPV6, IPV6_TCLASS, 0, 0xb8},
	};

	static const struct {
		int level;
		int name;
		int value;
		int err;
	} bad[] = {
		{IPPROTO_IP, IP_TTL, 0, -EINVAL},
		{IPPROTO_IP, IP_TTL, 256, -EINVAL},
		{IPPROTO_IP, IP_TTL, -2, -EINVAL},
		{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256, -EINVAL},
		{IPPROTO_IPV6, IPV6_TCLASS, 256, -EINVAL},
		{IPPROTO_IP, 9999, 1, -ENOPROTOOPT},
		{IPPROTO_IPV6, 9999, 1, -ENOPROTOOPT},
		{SOL_SOCKET, 9999, 1, -ENOPROTOOPT},
		{SOL_SOCKET, SO_ERROR, 1, -ENOPROTOOPT},
		{IPPROTO_TCP, 1, 1, -ENOPROTOOPT},
	};
	struct link *link = link_open(NULL);
	struct udp_socket *socket = open_socket(link, AF_INET6);
	struct udp_socket *four = open_socket(link, AF_INET);

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
		assert_int_equal(get_int(socket, rows[i].level, rows[i].name), rows[i].at_first);
		set_int(socket, rows[i].level, rows[i].name, rows[i].good);
		assert_int_equal(get_int(socket, rows[i].level, rows[i].name), rows[i].good);
		int value = 0;
		assert_int_equal(
			udp_socket_set_option(socket, rows[i].level, rows[i].name, &value, 0),
			-EINVAL);
		socklen_t length = sizeof(value);
		int want = rows[i].level == IPPROTO_IPV6 ? -ENOPROTOOPT : 0;
		assert_int_equal(
			udp_socket_get_option(four, rows[i].level, rows[i].name, &value, &length),
			want);
		assert_int_equal(udp_socket_set_option(four, rows[i].level, rows[i].name,
						       &rows[i].good, sizeof(int)),
				 want);
	}
	for (uint32_t i = 0; i < ARRAY_LENGTH(bad); i++)
		assert_int_equal(udp_socket_set_option(socket, bad[i].level, bad[i].name,
						       &bad[i].value, sizeof(int)),
				 bad[i].err);
	set_int(socket, IPPROTO_IP, IP_TTL, -1); /* the default */
	assert_int_equal(get_int(socket, IPPROTO_IP, IP_TTL), 64);
	uint8_t byte = 9;
	assert_int_equal(udp_socket_set_option(socket, IPPROTO_IP, IP_TTL, &byte, 1), 0);
	assert_int_equal(get_int(socket, IPPROTO_IP, IP_TTL), 9);
	assert_int_equal(get_int(socket, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
	assert_int_equal(get_int(socket, SOL_SOCKET, SO_DOMAIN), AF_INET6);
	assert_int_equal(get_int(four, SOL_SOCKET, SO_DOMAIN), AF_INET);
	assert_int_equal(get_int(four, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
	assert_int_equal(get_int(four, SOL_SOCKET, SO_ACCEPTCONN), 0);
	int value = 0;
	socklen_t length = 2; /* as much as there is room for */
	assert_int_equal(udp_socket_get_option(four, SOL_SOCKET, SO_TYPE, &value, &length), 0);
	assert_int_equal(length, 2);
	assert_int_equal(udp_socket_get_option(four, IPPROTO_TCP, 1, &value, &length),
			 -ENOPROTOOPT);
	udp_socket_close(socket);
	udp_socket_close(four);
	link_close(link);
}

/* What is set is what goes out. */
static void test_header_options(void **state)
{
	struct link *link = link_open(NULL);
	struct udp_socket *socket = open_socket(link, AF_INET6);

	(void)state;
	know_peers(link);
	set_int(socket, IPPROTO_IP, IP_TTL, 3);
	set_int(socket, IPPROTO_IP, IP_TOS, 0x10);
	set_int(socket, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 5);
	set_int(socket, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
	assert_int_equal(push_text(link, socket, "10.0.0.1", 9, "x"), 0);
	struct link_packet packet = link_next_ip(link, IP_UDP);
	assert_int_equal(packet.ip.ttl, 3);
	assert_int_equal(packet.ip.tos, 0x10);
	assert_int_equal(push_text(link, socket, "fd00::1", 9, "x"), 0);
	packet = link_next_ip(link, IP_UDP);
	assert_int_equal(packet.ip.ttl, 5);
	assert_int_equal(packet.ip.tos, 0x20);
	udp_socket_close(socket);
	link_close(link);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receive),       cmocka_unit_test(test_queue),
		cmocka_unit_test(test_limit),         cmocka_unit_test(test_frames_short),
		cmocka_unit_test(test_bad),           cmocka_unit_test(test_lookup),
		cmocka_unit_test(test_v6only),        cmocka_unit_test(test_reuse_port),
		cmocka_unit_test(test_groups),        cmocka_unit_test(test_bind),
		cmocka_unit_test(test_ephemeral),     cmocka_unit_test(test_connect),
		cmocka_unit_test(test_push),          cmocka_unit_test(test_in_place),
		cmocka_unit_test(test_zero_checksum), cmocka_unit_test(test_push_refused),
		cmocka_unit_test(test_ourselves),     cmocka_unit_test(test_refused),
		cmocka_unit_test(test_neighbour),     cmocka_unit_test(test_close),
		cmocka_unit_test(test_options),       cmocka_unit_test(test_header_options),
	};

	return test_run("net_udp", tests);
}
