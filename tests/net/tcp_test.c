/* SPDX-License-Identifier: MIT
 * tests/net/tcp_test.c - TCP through the public API, against plain sockets and itself: what is
 * pushed arrives, whole and in order, or somebody is told; and how connections begin and end.
 */
#include "support/net.h"

#include "api/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1024 * 1024)

static const struct timespec no_time;

/* ---- helpers ---- */

/* Small numbers that are the same on every run. */
static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

/* A plain socket takes in what is there; the library runs meanwhile. */
struct reader {
	int fd;
	uint32_t seed;
	uint64_t received;
	bool end;
};

static void read_some(struct reader *reader, size_t most)
{
	static char buffer[1 << 18];

	if (most > sizeof(buffer))
		most = sizeof(buffer);
	ssize_t n = recv(reader->fd, buffer, most, MSG_DONTWAIT);
	if (n < 0)
		assert_int_equal(errno, EAGAIN);
	if (n == 0)
		reader->end = true;
	if (n > 0) {
		net_stream_check(reader->seed, reader->received, buffer, (uint64_t)n);
		reader->received += (uint64_t)n;
	}
}

/* Reads until a number of bytes has come, and runs the instance. */
static void read_until(struct reader *reader, uint64_t bytes, size_t most)
{
	uint64_t deadline = net_now_ns() + (uint64_t)NET_WAIT_S * 1000000000;

	while (reader->received < bytes && !reader->end) {
		read_some(reader, most);
		assert_int_equal(demi_yield(), 0);
		assert_true(net_now_ns() < deadline);
	}
	assert_int_equal(reader->received, bytes);
}

static void read_end(struct reader *reader)
{
	uint64_t deadline = net_now_ns() + (uint64_t)NET_WAIT_S * 1000000000;

	while (!reader->end) {
		read_some(reader, 1);
		assert_int_equal(demi_yield(), 0);
		assert_true(net_now_ns() < deadline);
	}
}

/* Pops a stream until a number of bytes has come. */
static void pop_stream(int qd, uint32_t seed, uint64_t bytes)
{
	uint64_t received = 0;

	while (received < bytes) {
		demi_qresult_t qr = net_wait(net_pop(qd));
		assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
		const demi_sgaseg_t segment = qr.qr_value.sga.sga_segs[0];
		assert_int_equal(qr.qr_value.sga.sga_numsegs, 1);
		assert_int_not_equal(segment.sgaseg_len, 0);
		net_stream_check(seed, received, segment.sgaseg_buf, segment.sgaseg_len);
		received += segment.sgaseg_len;
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	}
	assert_int_equal(received, bytes);
}

static demi_sgarray_t stream_array(uint32_t seed, uint64_t offset, uint32_t bytes)
{
	demi_sgarray_t sga = demi_sgaalloc(bytes);

	assert_int_equal(sga.sga_numsegs, 1);
	net_stream_fill(seed, offset, sga.sga_segs[0].sgaseg_buf, bytes);
	return sga;
}

static void set_int(int qd, int level, int name, int value)
{
	assert_int_equal(demi_setsockopt(qd, level, name, &value, sizeof(value)), 0);
}

static int get_int(int qd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	assert_int_equal(demi_getsockopt(qd, level, name, &value, &length), 0);
	assert_int_equal(length, sizeof(value));
	return value;
}

/* A connection whose peer takes little while it doesn't read. */
static int narrow_connection(int *plain_out)
{
	int qd = net_connected(AF_INET, plain_out);
	int room = 131072; /* less, and the kernel sends in drops, at the pace of its timers */

	set_int(qd, SOL_SOCKET, SO_SNDBUF, room / 2);
	assert_return_code(setsockopt(*plain_out, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)),
			   errno);
	return qd;
}

/* Pushes from the heap until one stays, and returns its token; *taken_out: bytes pushed before it.
 */
static demi_qtoken_t fill(int qd, uint32_t seed, uint64_t *taken_out)
{
	demi_qresult_t qr;

	for (*taken_out = 0;; *taken_out += 65536) {
		demi_sgarray_t sga = stream_array(seed, *taken_out, 65536);
		demi_qtoken_t qt = net_push(qd, &sga);
		assert_int_equal(demi_sgafree(&sga), 0);
		int err = demi_wait(&qr, qt, &no_time);
		if (err == ETIMEDOUT)
			return qt;
		assert_int_equal(err, 0);
		assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
		assert_true(*taken_out < 64 * MIB);
	}
}

static void assert_end(int qd)
{
	net_pop_bytes(qd, NULL, 0);
}

/* The number behind a name in what `demi stat` shows of the instance. */
static uint64_t stat_number(const char *group, const char *name)
{
	size_t bytes;
	char *text = stat_document(thread_state.current, 0, &bytes);
	char key[64];

	assert_non_null(text);
	const char *at = strstr(text, group);
	assert_non_null(at);
	(void)snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(at, key);
	assert_non_null(at);
	uint64_t value = strtoull(at + strlen(key), NULL, 10);
	free(text);
	return value;
}

/* ---- sizes and shapes ---- */

static void carry(int domain, uint32_t bytes)
{
	struct net_pair pair = net_tcp_pair(domain);
	demi_sgarray_t sga = stream_array(bytes, 0, bytes);
	void *buffer = sga.sga_segs[0].sgaseg_buf;
	demi_qtoken_t pushing = net_push(pair.client, &sga);

	assert_int_equal(demi_sgafree(&sga), 0);
	pop_stream(pair.server, bytes, bytes);
	demi_qresult_t qr = net_wait(pushing);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(qr.qr_qd, pair.client);
	assert_int_equal(qr.qr_value.sga.sga_numsegs, 1);
	assert_int_equal(qr.qr_value.sga.sga_segs[0].sgaseg_len, bytes);
	assert_true(qr.qr_value.sga.sga_segs[0].sgaseg_buf == buffer);
	net_close_pair(&pair);
}

static void test_one_push_of_each_size(void **state)
{
	static const uint32_t sizes[] = {1,       2,     3,       64,      1447,    1448,
					 1449,    4095,  4096,    16383,   16384,   16385,
					 65535,   65536, 65537,   262143,  262144,  262145,
					 MIB - 1, MIB,   MIB + 1, 4 * MIB, 64 * MIB};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		carry(AF_INET, sizes[i]);
	if (net_has_ipv6()) {
		carry(AF_INET6, 1);
		carry(AF_INET6, 100000);
	}
}

#define SHAPES 300

/* Segment lengths, where the memory is from, and what comes of it. */
static uint32_t shape(uint32_t *random, demi_sgarray_t *sga, void *foreign[], uint64_t offset)
{
	static const uint32_t lengths[] = {0, 1, 7, 64, 1000, 4096, 70000};
	uint32_t total = 0;

	memset(sga, 0, sizeof(*sga));
	sga->sga_numsegs = 1 + next_random(random) % DEMI_SGARRAY_MAXSIZE;
	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		uint32_t length = lengths[next_random(random) % 7];
		uint32_t margin = next_random(random) % 3;
		if (i + 1 == sga->sga_numsegs && total == 0 && length == 0)
			length = 1;
		foreign[i] = NULL;
		char *at;
		if (next_random(random) % 2)
			at = foreign[i] = malloc(length + margin + 1);
		else
			at = demi_malloc(length + 2 * margin + 1);
		assert_non_null(at);
		net_stream_fill(99, offset + total, at + margin, length);
		sga->sga_segs[i].sgaseg_buf = at + margin;
		sga->sga_segs[i].sgaseg_len = length;
		total += length;
	}
	return total;
}

static void test_segments_of_every_shape(void **state)
{
	uint32_t random = 1;
	int plain;
	int qd = net_connected(AF_INET, &plain);
	struct reader reader = {.fd = plain, .seed = 99};
	uint64_t sent = 0;

	(void)state;
	for (int i = 0; i < SHAPES; i++) {
		void *foreign[DEMI_SGARRAY_MAXSIZE];
		demi_sgarray_t sga;
		uint32_t total = shape(&random, &sga, foreign, sent);
		demi_qtoken_t qt = net_push(qd, &sga);
		demi_sgarray_t copy = sga;
		assert_int_equal(demi_sgafree(&copy), 0);
		sent += total;
		if (i % 3)
			read_until(&reader, sent, 100000);
		else
			read_until(&reader, sent, 1000 + i); /* in small bites */
		demi_qresult_t qr = net_wait(qt);
		assert_int_equal(qr.qr_opcode, DEMI_OPC_PUSH);
		assert_int_equal(qr.qr_value.sga.sga_numsegs, sga.sga_numsegs);
		assert_memory_equal(qr.qr_value.sga.sga_segs, sga.sga_segs,
				    sga.sga_numsegs * sizeof(demi_sgaseg_t));
		for (int j = 0; j < DEMI_SGARRAY_MAXSIZE; j++) {
			if (j < (int)sga.sga_numsegs)
				free(foreign[j]);
		}
	}
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

/* Freed memory is allocated and overwritten at once while much of it is still unsent. */
static void test_free_right_after_push(void **state)
{
	enum { PUSHES = 400 };

	static demi_qtoken_t qts[PUSHES];
	static demi_qresult_t qrs[PUSHES];
	static const struct timespec bound = {.tv_sec = NET_WAIT_S};
	uint32_t random = 7;
	int plain;
	int qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain, .seed = 3};
	uint64_t sent = 0;

	(void)state;
	for (int i = 0; i < PUSHES; i++) {
		uint32_t bytes = 1 + next_random(&random) % 20000;
		demi_sgarray_t sga = stream_array(3, sent, bytes);
		qts[i] = net_push(qd, &sga);
		assert_int_equal(demi_sgafree(&sga), 0);
		void *again = demi_malloc(bytes);
		memset(again, 0xee, bytes);
		assert_int_equal(demi_free(again), 0);
		sent += bytes;
	}
	read_until(&reader, sent, 3000);
	assert_int_equal(demi_wait_all(qrs, qts, PUSHES, &bound), 0);
	for (int i = 0; i < PUSHES; i++)
		assert_int_equal(qrs[i].qr_opcode, DEMI_OPC_PUSH);
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

/* The library's reference is what demi_sgabusy tells. */
static void test_busy_until_sent(void **state)
{
	int plain;
	int qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain};
	uint64_t taken;
	demi_qtoken_t full = fill(qd, 0, &taken);
	demi_sgarray_t sga = stream_array(0, taken + 65536, 1000);

	(void)state;
	assert_int_equal(demi_sgabusy(&sga), 0);
	demi_qtoken_t qt = net_push(qd, &sga);
	assert_int_equal(demi_sgabusy(&sga), EBUSY);
	read_until(&reader, taken + 65536 + 1000, 65536);
	(void)net_wait(full);
	(void)net_wait(qt);
	assert_int_equal(demi_sgabusy(&sga), 0);
	assert_int_equal(demi_sgafree(&sga), 0);
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

static void test_a_peer_of_one_byte_at_a_time(void **state)
{
	enum { BYTES = 500 };

	int plain;
	int qd = net_connected(AF_INET, &plain);
	uint64_t received = 0;
	int one = 1;

	(void)state;
	assert_return_code(setsockopt(plain, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), errno);
	for (int i = 0; i < BYTES; i++) {
		uint8_t byte = net_stream_byte(5, (uint64_t)i);
		plain_write(plain, &byte, 1);
		if (i % 10 == 0) { /* otherwise they gather */
			demi_qresult_t qr = net_wait(net_pop(qd));
			const demi_sgaseg_t segment = qr.qr_value.sga.sga_segs[0];
			net_stream_check(5, received, segment.sgaseg_buf, segment.sgaseg_len);
			received += segment.sgaseg_len;
			assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
		}
	}
	assert_true(received <= BYTES);
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

static void test_pops_in_order(void **state)
{
	enum { POPS = 12 };

	demi_qtoken_t qts[POPS];
	int plain;
	int qd = net_connected(AF_INET, &plain);

	(void)state;
	for (int i = 0; i < POPS; i++)
		qts[i] = net_pop(qd);
	for (int i = 0; i < POPS; i++) {
		char letter = (char)('a' + i);
		plain_write(plain, &letter, 1);
		demi_qresult_t qr = net_wait(qts[i]);
		assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
		assert_int_equal(*(char *)qr.qr_value.sga.sga_segs[0].sgaseg_buf, letter);
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	}
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

/* Sixteen connections to an echo of plain sockets' making, which one is active changes all the
 * time. */
static void test_many_connections_mixed(void **state)
{
	enum { CONNECTIONS = 16, ROUNDS = 3000 };

	int plain[CONNECTIONS];
	int qd[CONNECTIONS];
	demi_qtoken_t qts[CONNECTIONS];
	uint64_t sent[CONNECTIONS] = {0};
	uint64_t got[CONNECTIONS] = {0};
	static const struct timespec bound = {.tv_sec = NET_WAIT_S};
	uint32_t random = 11;
	int active = 0;

	(void)state;
	for (int i = 0; i < CONNECTIONS; i++) {
		qd[i] = net_connected(AF_INET, &plain[i]);
		qts[i] = net_pop(qd[i]);
	}
	for (int round = 0; round < ROUNDS; round++) {
		static uint8_t bytes[3000];
		uint32_t length = 1 + next_random(&random) % (uint32_t)sizeof(bytes);
		if (next_random(&random) % 12 == 0)
			active = (int)(next_random(&random) % CONNECTIONS);
		net_stream_fill((uint32_t)active, sent[active], bytes, length);
		plain_write(plain[active], bytes, length);
		sent[active] += length;
		while (got[active] < sent[active]) {
			demi_qresult_t qr;
			int offset;
			assert_int_equal(demi_wait_any(&qr, &offset, qts, CONNECTIONS, &bound), 0);
			assert_int_equal(offset, active);
			assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
			const demi_sgaseg_t segment = qr.qr_value.sga.sga_segs[0];
			net_stream_check((uint32_t)active, got[active], segment.sgaseg_buf,
					 segment.sgaseg_len);
			got[active] += segment.sgaseg_len;
			assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
			qts[offset] = net_pop(qd[offset]);
		}
	}
	for (int i = 0; i < CONNECTIONS; i++) {
		(void)close(plain[i]);
		assert_int_equal(demi_close(qd[i]), 0);
		net_wait_failed(qts[i], ECANCELED);
	}
}

/* ---- the end of a stream ---- */

static void test_half_close_of_ours(void **state)
{
	char bytes[8];
	int plain;
	int qd = net_connected(AF_INET, &plain);

	(void)state;
	(void)net_wait(net_push_bytes(qd, "last", 4));
	assert_int_equal(demi_shutdown(qd, SHUT_WR), 0);
	assert_int_equal(plain_read(plain, bytes, sizeof(bytes)), 4);
	assert_memory_equal(bytes, "last", 4);
	demi_sgarray_t sga = net_array(bytes, 1);
	demi_qtoken_t qt;
	assert_int_equal(demi_push(&qt, qd, &sga), EPIPE);
	plain_write(plain, "answer", 6);
	net_pop_bytes(qd, "answer", 6);
	(void)close(plain);
	assert_end(qd);
	assert_end(qd);
	assert_int_equal(demi_close(qd), 0);
}

static void test_half_close_of_the_peer(void **state)
{
	char bytes[8];
	int plain;
	int qd = net_connected(AF_INET, &plain);
	demi_qtoken_t first = net_pop(qd);
	demi_qtoken_t second = net_pop(qd);

	(void)state;
	plain_write(plain, "bye", 3);
	assert_return_code(shutdown(plain, SHUT_WR), errno);
	demi_qresult_t qr = net_wait(first);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 3);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	qr = net_wait(second);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	assert_int_equal(qr.qr_value.sga.sga_numsegs, 1);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 0);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	for (int i = 0; i < 3; i++)
		assert_end(qd);
	(void)net_wait(net_push_bytes(qd, "still", 5));
	assert_int_equal(plain_read(plain, bytes, 5), 5);
	assert_memory_equal(bytes, "still", 5);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(plain_read(plain, bytes, 1), 0);
	(void)close(plain);
}

static void test_shutdown_for_reading(void **state)
{
	int plain;
	int qd = net_connected(AF_INET, &plain);
	demi_qtoken_t popping = net_pop(qd);

	(void)state;
	assert_int_equal(demi_shutdown(qd, SHUT_RD), 0);
	demi_qresult_t qr = net_wait(popping);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 0);
	assert_end(qd);
	(void)net_wait(net_push_bytes(qd, "x", 1));
	assert_int_equal(demi_shutdown(qd, SHUT_RDWR), 0);
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

/* Pushes that wait for room are sent before the end. */
static void test_shutdown_behind_pending_pushes(void **state)
{
	int plain;
	int qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain, .seed = 4};
	uint64_t taken;
	demi_qtoken_t waiting = fill(qd, 4, &taken);
	demi_sgarray_t sga = stream_array(4, taken + 65536, 30000);
	demi_qtoken_t behind = net_push(qd, &sga);
	demi_qtoken_t refused;

	(void)state;
	assert_int_equal(demi_shutdown(qd, SHUT_WR), 0);
	assert_int_equal(demi_push(&refused, qd, &sga), EPIPE);
	assert_int_equal(demi_sgafree(&sga), 0);
	read_until(&reader, taken + 65536 + 30000, 65536);
	read_end(&reader);
	assert_int_equal(net_wait(waiting).qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(net_wait(behind).qr_opcode, DEMI_OPC_PUSH);
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

/* Fills a connection such that the pending push has not begun. */
static demi_qtoken_t fill_to_the_brim(int qd, uint64_t *taken_out)
{
	demi_qresult_t qr;

	for (*taken_out = 0;; ++*taken_out) {
		uint8_t byte = net_stream_byte(6, *taken_out);
		demi_qtoken_t qt = net_push_bytes(qd, &byte, 1);
		int err = demi_wait(&qr, qt, &no_time);
		if (err == ETIMEDOUT)
			return qt;
		assert_int_equal(err, 0);
		assert_true(*taken_out < 16 * MIB);
	}
}

static void test_shutdown_behind_a_cancelled_push(void **state)
{
	int plain;
	int qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain, .seed = 6};
	uint64_t taken;
	demi_qtoken_t waiting = fill_to_the_brim(qd, &taken);

	(void)state;
	assert_int_equal(demi_shutdown(qd, SHUT_WR), 0);
	assert_int_equal(demi_cancel(waiting), 0);
	net_wait_failed(waiting, ECANCELED);
	read_until(&reader, taken, 65536);
	read_end(&reader);
	(void)close(plain);
	assert_int_equal(demi_close(qd), 0);
}

/* ---- resets ---- */

static void test_reset_ends_what_is_pending(void **state)
{
	int plain;
	int qd = narrow_connection(&plain);
	uint64_t taken;
	demi_qtoken_t pops[3];
	demi_qtoken_t pushes[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		pops[i] = net_pop(qd);
	pushes[0] = fill(qd, 0, &taken);
	pushes[1] = net_push_bytes(qd, "1", 1);
	pushes[2] = net_push_bytes(qd, "2", 1);
	plain_reset(plain);
	for (int i = 0; i < 3; i++) {
		net_wait_failed(pops[i], ECONNRESET);
		net_wait_failed(pushes[i], ECONNRESET);
	}
	for (int i = 0; i < 2; i++) { /* and so it stays */
		net_wait_failed(net_pop(qd), ECONNRESET);
		net_wait_failed(net_push_bytes(qd, "x", 1), ECONNRESET);
	}
	assert_int_equal(demi_close(qd), 0);
}

/* The push meets the reset first: the kernel tells it once only. */
static void test_reset_met_by_a_push(void **state)
{
	int plain;
	int qd = net_connected(AF_INET, &plain);

	(void)state;
	plain_reset(plain);
	net_wait_failed(net_push_bytes(qd, "x", 1), ECONNRESET);
	net_wait_failed(net_pop(qd), ECONNRESET);
	net_wait_failed(net_push_bytes(qd, "x", 1), ECONNRESET);
	net_wait_failed(net_pop(qd), ECONNRESET);
	assert_int_equal(demi_close(qd), 0);
}

static void test_reset_met_by_a_push_while_a_pop_waits(void **state)
{
	int plain;
	int qd = net_connected(AF_INET, &plain);
	demi_qtoken_t popping = net_pop(qd);

	(void)state;
	plain_reset(plain);
	demi_qtoken_t pushing = net_push_bytes(qd, "x", 1);
	net_wait_failed(pushing, ECONNRESET);
	net_wait_failed(popping, ECONNRESET);
	assert_int_equal(demi_close(qd), 0);
}

/* What had arrived before the reset is still popped. */
static void test_reset_behind_data(void **state)
{
	int plain;
	int qd = net_connected(AF_INET, &plain);

	(void)state;
	plain_write(plain, "data", 4);
	plain_reset(plain);
	net_wait_failed(net_push_bytes(qd, "x", 1), ECONNRESET);
	net_pop_bytes(qd, "data", 4);
	net_wait_failed(net_pop(qd), ECONNRESET);
	assert_int_equal(demi_close(qd), 0);
}

/* The peer closed with our data unread: its end, then a reset for what follows. */
static void test_reset_behind_the_end(void **state)
{
	int plain;
	int qd = net_connected(AF_INET, &plain);

	(void)state;
	(void)close(plain);
	assert_end(qd);
	(void)net_wait(net_push_bytes(qd, "x", 1)); /* taken, and answered by a reset */
	net_wait_failed(net_push_bytes(qd, "y", 1), ECONNRESET);
	assert_int_equal(demi_close(qd), 0);
}

/* ---- connecting ---- */

static struct net_address closed_port(int domain)
{
	struct net_address address;
	int fd = plain_listen(domain, &address);

	(void)close(fd);
	return address;
}

static void refused(int domain)
{
	struct net_address nobody = closed_port(domain);
	struct net_address address;
	int listener = plain_listen(domain, &address);
	int qd = net_socket(domain, SOCK_STREAM);
	char byte = 0;
	demi_sgarray_t sga = net_array(&byte, 1);
	demi_qtoken_t qt;

	net_wait_failed(net_connect(qd, &nobody), ECONNREFUSED);
	assert_int_equal(demi_push(&qt, qd, &sga), ENOTCONN);
	assert_int_equal(demi_pop(&qt, qd), ENOTCONN);
	assert_int_equal(demi_listen(qd, 1), EDESTADDRREQ);
	net_wait_failed(net_connect(qd, &nobody), ECONNREFUSED);
	assert_int_equal(net_wait(net_connect(qd, &address)).qr_opcode, DEMI_OPC_CONNECT);
	int plain = plain_accept(listener);
	plain_write(plain, "hello", 5);
	net_pop_bytes(qd, "hello", 5);
	(void)close(plain);
	(void)close(listener);
	assert_int_equal(demi_close(qd), 0);
}

static void test_refused(void **state)
{
	(void)state;
	refused(AF_INET);
	if (net_has_ipv6())
		refused(AF_INET6);
}

static void test_bind_after_refused(void **state)
{
	struct net_address nobody = closed_port(AF_INET);
	struct net_address any = net_loopback(AF_INET, 0);
	int qd = net_socket(AF_INET, SOCK_STREAM);

	(void)state;
	net_wait_failed(net_connect(qd, &nobody), ECONNREFUSED);
	assert_int_equal(demi_bind(qd, &any.any, any.length), 0);
	assert_int_equal(demi_bind(qd, &any.any, any.length), EINVAL);
	net_wait_failed(net_connect(qd, &nobody), ECONNREFUSED);
	assert_int_equal(demi_bind(qd, &any.any, any.length), EINVAL);
	assert_int_equal(demi_close(qd), 0);
}

static void test_unreachable(void **state)
{
	struct net_address nowhere = net_loopback(AF_INET, 9);
	int qd = net_socket(AF_INET, SOCK_STREAM);
	demi_qtoken_t qt;

	(void)state;
	nowhere.in.sin_addr.s_addr = htonl(0xffffffff); /* broadcast */
	int err = demi_connect(&qt, qd, &nowhere.any, nowhere.length);
	assert_int_equal(err, 0);
	demi_qresult_t qr = net_wait(qt);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_FAILED);
	assert_true(qr.qr_ret == EACCES || qr.qr_ret == ENETUNREACH);
	assert_int_equal(demi_close(qd), 0);
}

/* The queue of a listener is full: the next connection attempt lasts. */
struct full {
	int listener;
	int fds[16];
	struct net_address address;
};

static void full_open(struct full *full)
{
	memset(full, 0xff, sizeof(*full));
	full->listener = plain_listen(AF_INET, &full->address);
	assert_return_code(listen(full->listener, 0), errno);
	for (int i = 0; i < 16; i++) {
		full->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(full->fds[i], &full->address.any, full->address.length);
		struct pollfd poll_fd = {.fd = full->fds[i], .events = POLLOUT};
		if (poll(&poll_fd, 1, 30) == 0)
			return;
	}
	fail_msg("the listener never fills");
}

static void full_close(struct full *full)
{
	(void)close(full->listener);
	for (int i = 0; i < 16; i++) {
		if (full->fds[i] >= 0)
			(void)close(full->fds[i]);
	}
}

/* ---- closing and cancelling ---- */

static void test_close_cancels_what_is_pending(void **state)
{
	struct full full;
	int plain;
	uint64_t taken;
	demi_qtoken_t pops[2];
	demi_qtoken_t accepts[2];

	(void)state;
	full_open(&full);
	int connecting = net_socket(AF_INET, SOCK_STREAM);
	demi_qtoken_t connect_qt = net_connect(connecting, &full.address);
	net_assert_pending(connect_qt);
	int listener = net_listener(AF_INET, 4);
	int qd = narrow_connection(&plain);
	for (int i = 0; i < 2; i++) {
		accepts[i] = net_accept(listener);
		pops[i] = net_pop(qd);
	}
	demi_qtoken_t brim = fill_to_the_brim(qd, &taken);
	demi_qtoken_t behind = net_push_bytes(qd, "x", 1);
	assert_int_equal(demi_close(connecting), 0);
	assert_int_equal(demi_close(listener), 0);
	assert_int_equal(demi_close(qd), 0);
	net_wait_failed(connect_qt, ECANCELED);
	for (int i = 0; i < 2; i++) {
		net_wait_failed(accepts[i], ECANCELED);
		net_wait_failed(pops[i], ECANCELED);
	}
	net_wait_failed(brim, ECANCELED);
	net_wait_failed(behind, ECANCELED);
	struct reader reader = {.fd = plain, .seed = 6};
	read_until(&reader, taken, 65536); /* what was completed arrives, and nothing else */
	read_end(&reader);
	(void)close(plain);
	full_close(&full);
}

/* The rest of a push that was begun is sent after the close, from the heap or from foreign memory
 * that is gone. */
static void close_under_way(bool foreign)
{
	const uint32_t bytes = 12 * MIB;
	int plain;
	int qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain, .seed = 8};
	char *memory = foreign ? malloc(bytes) : demi_malloc(bytes);

	assert_non_null(memory);
	net_stream_fill(8, 0, memory, bytes);
	demi_sgarray_t sga = net_array(memory, bytes);
	demi_qtoken_t qt = net_push(qd, &sga);
	net_assert_pending(qt);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(demi_close(qd), EBADF);
	if (foreign) {
		memset(memory, 0xee, bytes);
		free(memory);
	} else {
		assert_int_equal(demi_free(memory), 0);
	}
	net_assert_pending(qt);
	read_until(&reader, bytes, 1 << 18);
	read_end(&reader);
	assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_PUSH);
	(void)close(plain);
}

static void test_close_with_a_push_under_way(void **state)
{
	(void)state;
	close_under_way(false);
	close_under_way(true);
}

/* With a limit that the push exceeds, so that it was read in place until the close. */
static void test_close_with_a_push_read_in_place(void **state)
{
	enum { EACH = 2 * MIB };

	int plain;
	char *first = malloc(EACH);
	char *second = malloc(EACH);

	assert_int_equal(demi_set_config("send_limit_bytes", "1"), 0);
	(void)net_init(state);
	int qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain, .seed = 8};
	net_stream_fill(8, 0, first, EACH);
	net_stream_fill(8, EACH, second, EACH);
	demi_sgarray_t sga = net_array(first, EACH);
	sga.sga_numsegs = 2;
	sga.sga_segs[1].sgaseg_buf = second;
	sga.sga_segs[1].sgaseg_len = EACH;
	demi_qtoken_t qt = net_push(qd, &sga);
	net_assert_pending(qt);
	assert_true(stat_number("\"queues\"", "held_bytes") <= 1 + EACH);
	assert_int_equal(demi_close(qd), 0);
	memset(first, 0xee, EACH);
	memset(second, 0xee, EACH);
	free(first);
	free(second);
	read_until(&reader, 2 * EACH, 1 << 18);
	read_end(&reader);
	assert_int_equal(net_wait(qt).qr_opcode, DEMI_OPC_PUSH);
	(void)close(plain);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("send_limit_bytes", NULL), 0);
}

/* SO_LINGER makes close(2) wait; demi_close does not. */
static void test_close_never_blocks(void **state)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 15};
	int plain;
	uint64_t taken;

	(void)state;
	int qd = narrow_connection(&plain);
	assert_int_equal(demi_setsockopt(qd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	demi_qtoken_t brim = fill_to_the_brim(qd, &taken);
	uint64_t start = net_now_ns();
	assert_int_equal(demi_close(qd), 0);
	assert_true(net_now_ns() - start < 5000000000);
	net_wait_failed(brim, ECANCELED);
	struct reader reader = {.fd = plain, .seed = 6};
	read_until(&reader, taken, 65536);
	read_end(&reader);
	(void)close(plain);
}

/* With a time of zero the application asks for a reset, and gets it. */
static void test_close_by_reset(void **state)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};
	char byte;
	int plain;

	(void)state;
	int qd = net_connected(AF_INET, &plain);
	assert_int_equal(demi_setsockopt(qd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(recv(plain, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	(void)close(plain);
}

/* As in files of Demikernel's, where 0 is the length of TIME_WAIT: no push is lost by a close. */
static void test_close_with_a_linger_time_of_zero(void **state)
{
	struct linger linger = {.l_onoff = 1};
	socklen_t length = sizeof(linger);
	char bytes[8];
	int plain;

	assert_int_equal(demi_set_config("linger", "true"), 0);
	assert_int_equal(demi_set_config("linger_seconds", "0"), 0);
	(void)net_init(state);
	int qd = net_connected(AF_INET, &plain);
	assert_int_equal(demi_getsockopt(qd, SOL_SOCKET, SO_LINGER, &linger, &length), 0);
	assert_int_equal(linger.l_onoff, 0);
	(void)net_wait(net_push_bytes(qd, "kept", 4));
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(plain_read(plain, bytes, sizeof(bytes)), 4);
	(void)close(plain);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("linger", NULL), 0);
	assert_int_equal(demi_set_config("linger_seconds", NULL), 0);
}

static void test_cancel(void **state)
{
	struct full full;
	int plain;
	uint64_t taken;
	int listener = net_listener(AF_INET, 4);
	struct net_address address = net_local(listener);

	(void)state;
	demi_qtoken_t accepting = net_accept(listener);
	demi_qtoken_t next = net_accept(listener);
	assert_int_equal(demi_cancel(accepting), 0);
	net_wait_failed(accepting, ECANCELED);
	int client = plain_connect(&address);
	demi_qresult_t qr = net_wait(next);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_ACCEPT);
	int qd = qr.qr_value.ares.qd;

	demi_qtoken_t popping = net_pop(qd);
	demi_qtoken_t later = net_pop(qd);
	assert_int_equal(demi_cancel(popping), 0);
	assert_int_equal(demi_cancel(popping), 0); /* it has ended, and waits for its wait */
	plain_write(client, "data", 4);
	qr = net_wait(later);
	assert_int_equal(net_array_bytes(&qr.qr_value.sga), 4);
	assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	net_wait_failed(popping, ECANCELED);
	assert_int_equal(demi_cancel(popping), EINVAL);

	demi_qtoken_t done = net_push_bytes(qd, "x", 1);
	assert_int_equal(demi_cancel(done), 0);
	assert_int_equal(net_wait(done).qr_opcode, DEMI_OPC_PUSH);
	(void)close(client);
	assert_int_equal(demi_close(qd), 0);

	full_open(&full);
	qd = net_socket(AF_INET, SOCK_STREAM);
	demi_qtoken_t connecting = net_connect(qd, &full.address);
	net_assert_pending(connecting);
	assert_int_equal(demi_cancel(connecting), 0);
	net_wait_failed(connecting, ECANCELED);
	assert_int_equal(net_wait(net_connect(qd, &address)).qr_opcode, DEMI_OPC_CONNECT);
	assert_int_equal(demi_close(qd), 0);
	full_close(&full);

	qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain};
	demi_qtoken_t under_way = fill(qd, 0, &taken);
	demi_qtoken_t behind = net_push_bytes(qd, "never sent", 10);
	assert_int_equal(demi_cancel(behind), 0);
	net_wait_failed(behind, ECANCELED);
	assert_int_equal(demi_cancel(under_way), 0);
	qr.qr_opcode = DEMI_OPC_INVALID;
	uint64_t expected = taken + 65536;
	int err = demi_wait(&qr, under_way, &no_time);
	if (err == 0 && qr.qr_opcode == DEMI_OPC_FAILED) {
		assert_int_equal(qr.qr_ret, ECANCELED); /* no byte of it had been taken */
		expected = taken;
	}
	read_until(&reader, expected, 65536);
	if (err == ETIMEDOUT)
		assert_int_equal(net_wait(under_way).qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(demi_close(qd), 0);
	read_end(&reader);
	(void)close(plain);
	assert_int_equal(demi_close(listener), 0);
}

/* ---- a peer that never reads ---- */

static void test_copies_never_exceed_the_limit(void **state)
{
	enum { LIMIT = 65536, ELEMENT = 10000, PUSHES = 400 };

	static demi_qtoken_t qts[PUSHES];
	static const struct timespec bound = {.tv_sec = NET_WAIT_S};
	demi_qresult_t qr;
	int plain;

	assert_int_equal(demi_set_config("send_limit_bytes", "65536"), 0);
	(void)net_init(state);
	int qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain, .seed = 21};
	uint8_t *memory = malloc((size_t)ELEMENT * PUSHES);
	net_stream_fill(21, 0, memory, (uint64_t)ELEMENT * PUSHES);
	uint64_t heap_before = stat_number("\"heap\"", "live_bytes");
	uint64_t most = 0;
	for (int i = 0; i < PUSHES; i++) {
		demi_sgarray_t sga = net_array(memory + (size_t)i * ELEMENT, ELEMENT);
		qts[i] = net_push(qd, &sga);
		uint64_t held = stat_number("\"queues\"", "held_bytes");
		uint64_t heap = stat_number("\"heap\"", "live_bytes") - heap_before;
		most = held > most ? held : most;
		assert_true(held <= LIMIT + ELEMENT);
		assert_true(heap <= 2 * (LIMIT + ELEMENT)); /* the heap rounds up */
	}
	assert_true(most >= LIMIT / 2); /* it was held indeed */
	for (int i = 0; i < PUSHES; i++) {
		int err = demi_wait(&qr, qts[i], &no_time);
		if (err == ETIMEDOUT)
			break;
		memset(memory + (size_t)i * ELEMENT, 0xee, ELEMENT); /* complete: not needed */
		qts[i] = 0;
	}
	read_until(&reader, (uint64_t)ELEMENT * PUSHES, 65536);
	for (int i = 0; i < PUSHES; i++) {
		if (qts[i])
			assert_int_equal(demi_wait(&qr, qts[i], &bound), 0);
	}
	assert_int_equal(stat_number("\"queues\"", "held_bytes"), 0);
	free(memory);
	(void)close(plain);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("send_limit_bytes", NULL), 0);
}

/* One push above the limit is taken up alone. */
static void test_one_push_above_the_limit(void **state)
{
	enum { BYTES = 8 * MIB };

	int plain;

	assert_int_equal(demi_set_config("send_limit_bytes", "1000"), 0);
	(void)net_init(state);
	int qd = narrow_connection(&plain);
	struct reader reader = {.fd = plain, .seed = 22};
	uint8_t *memory = malloc(BYTES);
	net_stream_fill(22, 0, memory, BYTES);
	demi_sgarray_t sga = net_array(memory, BYTES / 2);
	demi_qtoken_t first = net_push(qd, &sga);
	sga = net_array(memory + BYTES / 2, BYTES / 2);
	demi_qtoken_t second = net_push(qd, &sga);
	assert_true(stat_number("\"queues\"", "held_bytes") <= 1000 + BYTES / 2);
	read_until(&reader, BYTES, 1 << 18);
	assert_int_equal(net_wait(first).qr_opcode, DEMI_OPC_PUSH);
	assert_int_equal(net_wait(second).qr_opcode, DEMI_OPC_PUSH);
	free(memory);
	(void)close(plain);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("send_limit_bytes", NULL), 0);
}

/* ---- demi_fini lingers ---- */

struct lines {
	int warnings;
	char last[600];
};

static void keep_line(void *arg, enum demi_log_level level, const char *message)
{
	struct lines *lines = arg;

	if (level == DEMI_LOG_INFO)
		return;
	lines->warnings++;
	(void)snprintf(lines->last, sizeof(lines->last), "%s", message);
}

static void test_fini_lingers_no_longer_than_its_bound(void **state)
{
	struct lines lines = {0};
	int plain;

	assert_int_equal(demi_set_config("linger_ms", "150"), 0);
	(void)net_init(state);
	assert_int_equal(demi_set_log(keep_line, &lines), 0);
	int qd = narrow_connection(&plain);
	demi_sgarray_t sga = stream_array(0, 0, 16 * MIB);
	net_assert_pending(net_push(qd, &sga));
	assert_int_equal(demi_sgafree(&sga), 0);
	uint64_t start = net_now_ns();
	assert_int_equal(demi_fini(), 0);
	uint64_t took_ms = (net_now_ns() - start) / 1000000;
	assert_in_range(took_ms, 149, 5000);
	assert_int_equal(lines.warnings, 1); /* what was lost is told */
	assert_non_null(strstr(lines.last, "linger"));
	assert_int_equal(demi_set_log(NULL, NULL), 0);
	assert_int_equal(demi_set_config("linger_ms", NULL), 0);
	(void)close(plain);
}

struct slow_reader {
	int fd;
	uint64_t received;
	uint64_t bad;
};

static void *read_to_the_end(void *arg)
{
	struct slow_reader *reader = arg;
	static uint8_t buffer[65536];
	ssize_t n;

	net_sleep_ms(30);
	while ((n = recv(reader->fd, buffer, sizeof(buffer), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			reader->bad +=
				buffer[i] != net_stream_byte(31, reader->received + (uint64_t)i);
		reader->received += (uint64_t)n;
	}
	return NULL;
}

static void test_fini_sends_the_rest(void **state)
{
	enum { BYTES = 6 * MIB };
	struct slow_reader reader = {0};
	pthread_t thread;

	assert_int_equal(demi_set_config("linger_ms", "20000"), 0);
	(void)net_init(state);
	int qd = narrow_connection(&reader.fd);
	demi_sgarray_t sga = stream_array(31, 0, BYTES);
	net_assert_pending(net_push(qd, &sga));
	assert_int_equal(demi_sgafree(&sga), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_to_the_end, &reader), 0);
	assert_int_equal(demi_fini(), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(reader.received, BYTES);
	assert_int_equal(reader.bad, 0);
	(void)close(reader.fd);
	assert_int_equal(demi_set_config("linger_ms", NULL), 0);
}

/* ---- addresses ---- */

static void check_names(int domain)
{
	struct net_pair pair = net_tcp_pair(domain);
	struct net_address listens = net_local(pair.listener);
	struct net_address client = net_local(pair.client);

	assert_int_not_equal(net_port(&listens), 0);
	struct net_address seen = net_peer(pair.client);
	assert_int_equal(seen.length, listens.length);
	assert_memory_equal(&seen, &listens, listens.length);
	seen = net_local(pair.server);
	assert_memory_equal(&seen, &listens, listens.length);
	seen = net_peer(pair.server);
	assert_memory_equal(&seen, &client, client.length);
	net_close_pair(&pair);
}

static void test_names(void **state)
{
	(void)state;
	check_names(AF_INET);
	if (net_has_ipv6())
		check_names(AF_INET6);
}

static void accept_result(int domain)
{
	int listener = net_listener(domain, 4);
	struct net_address address = net_local(listener);
	int plain = plain_connect(&address);
	demi_qresult_t qr = net_wait(net_accept(listener));
	struct sockaddr_in peer = qr.qr_value.ares.addr;
	struct net_address local = {.length = sizeof(local.room)};

	assert_int_equal(qr.qr_opcode, DEMI_OPC_ACCEPT);
	assert_int_equal(qr.qr_qd, listener);
	assert_return_code(getsockname(plain, &local.any, &local.length), errno);
	if (domain == AF_INET)
		assert_memory_equal(&peer, &local.in, sizeof(peer));
	else
		assert_int_equal(peer.sin_family, 0);
	(void)close(plain);
	assert_int_equal(demi_close(qr.qr_value.ares.qd), 0);
	assert_int_equal(demi_close(listener), 0);
}

static void test_accept_tells_the_peer(void **state)
{
	(void)state;
	accept_result(AF_INET);
	if (net_has_ipv6())
		accept_result(AF_INET6);
}

/* The new descriptor is guessed, closed and another queue's before the result is waited for. */
static void test_accepted_and_closed_by_a_guess(void **state)
{
	int listener = net_listener(AF_INET, 4);
	struct net_address address = net_local(listener);
	demi_qtoken_t accepting = net_accept(listener);
	int plain = plain_connect(&address);
	int guess = listener + 1;
	int memory = -1;

	(void)state;
	for (int i = 0; demi_close(guess) == EBADF; i++) {
		assert_int_equal(demi_yield(), 0);
		assert_true(i < 10000000);
	}
	assert_int_equal(demi_queue(&memory), 0);
	assert_int_equal(memory, guess);
	demi_qresult_t qr = net_wait(accepting);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_ACCEPT);
	assert_int_equal(qr.qr_value.ares.qd, guess);
	struct sockaddr_in peer = qr.qr_value.ares.addr;
	assert_int_equal(peer.sin_family, 0);
	assert_int_equal(demi_close(memory), 0);
	assert_int_equal(demi_close(listener), 0);
	(void)close(plain);
}

static void wildcard(int domain)
{
	struct net_address any = net_loopback(domain, 0);
	int qd = net_socket(domain, SOCK_STREAM);

	if (domain == AF_INET)
		any.in.sin_addr.s_addr = htonl(INADDR_ANY);
	else
		any.in6.sin6_addr = in6addr_any;
	assert_int_equal(demi_bind(qd, &any.any, any.length), 0);
	struct net_address bound = net_local(qd);
	assert_int_not_equal(net_port(&bound), 0);
	assert_int_equal(demi_listen(qd, 4), 0);
	struct net_address to = net_loopback(domain, net_port(&bound));
	int plain = plain_connect(&to);
	demi_qresult_t qr = net_wait(net_accept(qd));
	plain_write(plain, "any", 3);
	net_pop_bytes(qr.qr_value.ares.qd, "any", 3);
	(void)close(plain);
	assert_int_equal(demi_close(qr.qr_value.ares.qd), 0);
	assert_int_equal(demi_close(qd), 0);
}

static void test_wildcard_and_port_0(void **state)
{
	(void)state;
	wildcard(AF_INET);
	if (net_has_ipv6())
		wildcard(AF_INET6);
}

/* ---- one port, several binds ---- */

static int bind_error(const struct net_address *address, int type)
{
	int qd = net_socket(address->any.sa_family, type);
	int err = demi_bind(qd, &address->any, address->length);

	assert_int_equal(demi_close(qd), 0);
	return err;
}

static int bind_in_child(const struct net_address *address)
{
	static const struct demi_args args;
	int status = -1;

	pid_t child = fork();
	if (child == 0) {
		int qd;
		int err = demi_init(&args);
		if (!err)
			err = demi_socket(&qd, AF_INET, SOCK_STREAM, 0);
		if (!err)
			err = demi_bind(qd, &address->any, address->length);
		_exit(err);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_second_bind(void **state)
{
	int qd = net_bound(AF_INET, SOCK_STREAM);
	struct net_address address = net_local(qd);

	(void)state;
	for (int listens = 0; listens < 2; listens++) { /* bound, and listening */
		assert_int_equal(bind_error(&address, SOCK_STREAM), EADDRINUSE);
		assert_int_equal(bind_in_child(&address), EADDRINUSE);
		if (!listens)
			assert_int_equal(demi_listen(qd, 4), 0);
	}
	int plain = plain_connect(&address);
	demi_qresult_t qr = net_wait(net_accept(qd));
	assert_int_equal(bind_error(&address, SOCK_STREAM), EADDRINUSE);
	assert_int_equal(bind_in_child(&address), EADDRINUSE);
	(void)close(plain);
	assert_int_equal(demi_close(qr.qr_value.ares.qd), 0);
	assert_int_equal(demi_close(qd), 0);
	assert_int_equal(bind_error(&address, SOCK_STREAM), 0);
	assert_int_equal(bind_in_child(&address), 0);
}

/* The server ended its connections itself, so that they are in TIME_WAIT, and is started again. */
static void serve_once(struct net_address *address)
{
	char byte;
	int listener = net_socket(AF_INET, SOCK_STREAM);

	assert_int_equal(demi_bind(listener, &address->any, address->length), 0);
	assert_int_equal(demi_listen(listener, 4), 0);
	*address = net_local(listener);
	int plain = plain_connect(address);
	demi_qresult_t qr = net_wait(net_accept(listener));
	assert_int_equal(demi_close(qr.qr_value.ares.qd), 0);
	assert_int_equal(plain_read(plain, &byte, 1), 0);
	(void)close(plain);
	assert_int_equal(demi_close(listener), 0);
}

static void test_restart_over_time_wait(void **state)
{
	struct net_address address = net_loopback(AF_INET, 0);

	for (int i = 0; i < 3; i++) {
		(void)net_init(state);
		serve_once(&address);
		serve_once(&address);
		(void)net_fini(state);
	}
}

enum { THREADS = 4, CLIENTS = 64 };

struct shard {
	pthread_t thread;
	struct net_address address;
	_Atomic bool *stop;
	pthread_barrier_t *ready;
	int served;
	int errors;
};

/* Echoes one message a connection until told to stop. */
static int serve_shard(struct shard *shard)
{
	static const struct demi_args args;
	static const struct timespec slice = {.tv_nsec = 20000000};
	demi_qtoken_t qts[CLIENTS + 1];
	int one = 1;
	int count = 1;
	int qd;
	int err = demi_init(&args);

	err = err ? err : demi_socket(&qd, AF_INET, SOCK_STREAM, 0);
	err = err ? err : demi_setsockopt(qd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	err = err ? err : demi_bind(qd, &shard->address.any, shard->address.length);
	err = err ? err : demi_listen(qd, CLIENTS);
	err = err ? err : demi_accept(&qts[0], qd);
	(void)pthread_barrier_wait(shard->ready);
	while (!err && !atomic_load(shard->stop)) {
		demi_qresult_t qr;
		demi_qtoken_t pushing;
		int i;
		err = demi_wait_any(&qr, &i, qts, count, &slice);
		if (err == ETIMEDOUT) {
			err = 0;
			continue;
		}
		if (!err && qr.qr_opcode == DEMI_OPC_ACCEPT) {
			err = demi_pop(&qts[count++], qr.qr_value.ares.qd);
			err = err ? err : demi_accept(&qts[0], qd);
		} else if (!err && qr.qr_opcode == DEMI_OPC_POP) {
			shard->served += net_array_bytes(&qr.qr_value.sga) > 0;
			err = demi_push(&pushing, qr.qr_qd, &qr.qr_value.sga);
			err = err ? err : demi_sgafree(&qr.qr_value.sga);
			err = err ? err : demi_wait(&qr, pushing, NULL);
			qts[i] = qts[--count];
		} else if (!err) {
			err = EPROTO;
		}
	}
	return err ? err : demi_fini();
}

static void *run_shard(void *arg)
{
	struct shard *shard = arg;

	shard->errors = serve_shard(shard);
	return NULL;
}

static void test_threads_share_a_port(void **state)
{
	struct shard shards[THREADS];
	pthread_barrier_t ready;
	_Atomic bool stop = false;
	int one = 1;
	int served = 0;
	struct net_address address = net_loopback(AF_INET, 0);
	/* A port that nobody else takes meanwhile, and that doesn't listen. */
	int holder = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	assert_return_code(setsockopt(holder, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), errno);
	assert_return_code(bind(holder, &address.any, address.length), errno);
	assert_return_code(getsockname(holder, &address.any, &address.length), errno);
	assert_int_equal(pthread_barrier_init(&ready, NULL, THREADS + 1), 0);
	for (int i = 0; i < THREADS; i++) {
		shards[i] = (struct shard){.address = address, .stop = &stop, .ready = &ready};
		assert_int_equal(pthread_create(&shards[i].thread, NULL, run_shard, &shards[i]), 0);
	}
	(void)pthread_barrier_wait(&ready);
	for (int i = 0; i < CLIENTS; i++) {
		char bytes[4];
		int plain = plain_connect(&address);
		plain_write(plain, "echo", 4);
		assert_int_equal(plain_read(plain, bytes, 4), 4);
		assert_memory_equal(bytes, "echo", 4);
		(void)close(plain);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(shards[i].thread, NULL), 0);
		assert_int_equal(shards[i].errors, 0);
		served += shards[i].served;
	}
	assert_int_equal(served, CLIENTS);
	(void)close(holder);
	(void)pthread_barrier_destroy(&ready);
}

/* ---- options ---- */

static void test_options_pass_through(void **state)
{
	struct net_pair pair = net_tcp_pair(AF_INET);
	struct linger linger = {.l_onoff = 1, .l_linger = 3};
	socklen_t length = sizeof(linger);

	(void)state;
	assert_int_equal(get_int(pair.client, IPPROTO_TCP, TCP_NODELAY), 1); /* the default */
	assert_int_equal(get_int(pair.server, IPPROTO_TCP, TCP_NODELAY), 1);
	set_int(pair.client, IPPROTO_TCP, TCP_NODELAY, 0);
	assert_int_equal(get_int(pair.client, IPPROTO_TCP, TCP_NODELAY), 0);
	set_int(pair.client, SOL_SOCKET, SO_KEEPALIVE, 1);
	assert_int_equal(get_int(pair.client, SOL_SOCKET, SO_KEEPALIVE), 1);
	set_int(pair.client, IPPROTO_IP, IP_TOS, 0x10);
	assert_int_equal(get_int(pair.client, IPPROTO_IP, IP_TOS), 0x10);
	set_int(pair.client, SOL_SOCKET, SO_SNDBUF, 20000);
	assert_true(get_int(pair.client, SOL_SOCKET, SO_SNDBUF) >= 20000);
	assert_int_equal(get_int(pair.client, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	assert_int_equal(demi_setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &linger, length), 0);
	memset(&linger, 0, sizeof(linger));
	assert_int_equal(demi_getsockopt(pair.client, SOL_SOCKET, SO_LINGER, &linger, &length), 0);
	assert_int_equal(length, sizeof(linger));
	assert_int_equal(linger.l_onoff, 1);
	assert_int_equal(linger.l_linger, 3);
	net_close_pair(&pair);
}

static void test_options_of_the_configuration(void **state)
{
	struct linger linger;
	socklen_t length = sizeof(linger);

	assert_int_equal(demi_set_config("nodelay", "false"), 0);
	assert_int_equal(demi_set_config("keepalive", "true"), 0);
	assert_int_equal(demi_set_config("keepalive_time_ms", "5001"), 0);
	assert_int_equal(demi_set_config("linger", "true"), 0);
	assert_int_equal(demi_set_config("linger_seconds", "2"), 0);
	(void)net_init(state);
	struct net_pair pair = net_tcp_pair(AF_INET);
	const int qds[] = {pair.client, pair.server};
	for (int i = 0; i < 2; i++) {
		assert_int_equal(get_int(qds[i], IPPROTO_TCP, TCP_NODELAY), 0);
		assert_int_equal(get_int(qds[i], SOL_SOCKET, SO_KEEPALIVE), 1);
		assert_int_equal(get_int(qds[i], IPPROTO_TCP, TCP_KEEPIDLE), 6);
		assert_int_equal(demi_getsockopt(qds[i], SOL_SOCKET, SO_LINGER, &linger, &length),
				 0);
		assert_int_equal(linger.l_onoff, 1);
		assert_int_equal(linger.l_linger, 2);
	}
	net_close_pair(&pair);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("nodelay", NULL), 0);
	assert_int_equal(demi_set_config("keepalive", NULL), 0);
	assert_int_equal(demi_set_config("keepalive_time_ms", NULL), 0);
	assert_int_equal(demi_set_config("linger", NULL), 0);
	assert_int_equal(demi_set_config("linger_seconds", NULL), 0);
}

/* ---- many ---- */

static void test_accept_without_descriptors(void **state)
{
	struct rlimit old;
	struct rlimit few;
	int listener = net_listener(AF_INET, 8);
	struct net_address address = net_local(listener);
	demi_qtoken_t waiting = net_accept(listener);
	int plain[2];

	(void)state;
	plain[0] = plain_connect(&address);
	plain[1] = plain_connect(&address);
	plain_write(plain[0], "a", 1);
	int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
	(void)close(lowest);
	assert_return_code(getrlimit(RLIMIT_NOFILE, &old), errno);
	few = old;
	few.rlim_cur = (rlim_t)lowest;
	assert_return_code(setrlimit(RLIMIT_NOFILE, &few), errno);
	demi_qresult_t qr = net_wait(waiting);
	demi_qresult_t again = net_wait(net_accept(listener));
	assert_return_code(setrlimit(RLIMIT_NOFILE, &old), errno);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_FAILED);
	assert_int_equal(qr.qr_ret, EMFILE);
	assert_int_equal(again.qr_opcode, DEMI_OPC_FAILED);
	assert_int_equal(again.qr_ret, EMFILE);
	for (int i = 0; i < 2; i++) { /* nobody was lost */
		qr = net_wait(net_accept(listener));
		assert_int_equal(qr.qr_opcode, DEMI_OPC_ACCEPT);
		if (i == 0)
			net_pop_bytes(qr.qr_value.ares.qd, "a", 1);
		assert_int_equal(demi_close(qr.qr_value.ares.qd), 0);
		(void)close(plain[i]);
	}
	assert_int_equal(demi_close(listener), 0);
}

static void test_a_thousand_connections(void **state)
{
	enum { MANY = 1000 };

	static demi_qtoken_t connecting[MANY];
	static demi_qtoken_t popping[2 * MANY];
	static int qds[2 * MANY];
	static bool echoed[MANY];
	static const struct timespec bound = {.tv_sec = NET_WAIT_S};
	struct rlimit files;
	int listener = net_listener(AF_INET, MANY);
	struct net_address address = net_local(listener);

	(void)state;
	assert_return_code(getrlimit(RLIMIT_NOFILE, &files), errno);
	if (files.rlim_cur < 2 * MANY + 100) {
		files.rlim_cur = files.rlim_max < 2 * MANY + 100 ? files.rlim_max : 2 * MANY + 100;
		assert_return_code(setrlimit(RLIMIT_NOFILE, &files), errno);
		if (files.rlim_cur < 2 * MANY + 100)
			skip_because("the limit of open files is below 2100");
	}
	for (int i = 0; i < MANY; i++) {
		qds[i] = net_socket(AF_INET, SOCK_STREAM);
		connecting[i] = net_connect(qds[i], &address);
		demi_qresult_t qr = net_wait(net_accept(listener));
		assert_int_equal(qr.qr_opcode, DEMI_OPC_ACCEPT);
		qds[MANY + i] = qr.qr_value.ares.qd;
	}
	for (int i = 0; i < MANY; i++)
		assert_int_equal(net_wait(connecting[i]).qr_opcode, DEMI_OPC_CONNECT);
	for (int i = 0; i < 2 * MANY; i++)
		popping[i] = net_pop(qds[i]);
	for (int i = 0; i < MANY; i++) {
		uint32_t number = (uint32_t)i;
		(void)net_wait(net_push_bytes(qds[i], &number, sizeof(number)));
	}
	for (int done = 0; done < 2 * MANY; done++) {
		demi_qresult_t qr;
		uint32_t number;
		int i;
		assert_int_equal(demi_wait_any(&qr, &i, popping, 2 * MANY, &bound), 0);
		assert_int_equal(qr.qr_opcode, DEMI_OPC_POP);
		assert_int_equal(qr.qr_qd, qds[i]);
		assert_int_equal(net_array_bytes(&qr.qr_value.sga), sizeof(number));
		memcpy(&number, qr.qr_value.sga.sga_segs[0].sgaseg_buf, sizeof(number));
		if (i >= MANY) /* the server's end echoes */
			(void)net_wait(net_push(qr.qr_qd, &qr.qr_value.sga));
		else
			echoed[i] = number == (uint32_t)i;
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
		popping[i] = net_pop(qds[i]);
	}
	for (int i = 0; i < MANY; i++)
		assert_true(echoed[i]);
	for (int i = 0; i < 2 * MANY; i++)
		assert_int_equal(demi_close(qds[i]), 0);
	assert_int_equal(demi_close(listener), 0);
}

/* ---- several instances in one thread ---- */

/* Runs two instances in turn until an operation of the second is complete. */
static demi_qresult_t wait_in(struct demi *here, demi_qtoken_t qt, struct demi *there)
{
	uint64_t deadline = net_now_ns() + (uint64_t)NET_WAIT_S * 1000000000;
	demi_qresult_t qr;

	for (;;) {
		assert_int_equal(demi_enter(there), 0);
		assert_int_equal(demi_yield(), 0);
		assert_int_equal(demi_enter(here), 0);
		int err = demi_wait(&qr, qt, &no_time);
		if (err == 0)
			return qr;
		assert_int_equal(err, ETIMEDOUT);
		assert_true(net_now_ns() < deadline);
	}
}

static void test_two_instances_in_a_thread(void **state)
{
	static const struct demi_args args;
	struct demi *server;
	struct demi *client;
	int fds = net_count_fds();

	(void)state;
	assert_int_equal(demi_create(&server, &args), 0);
	assert_int_equal(demi_create(&client, &args), 0);
	assert_int_equal(demi_enter(server), 0);
	int listener = net_listener(AF_INET, 4);
	struct net_address address = net_local(listener);
	assert_int_equal(bind_error(&address, SOCK_STREAM), EADDRINUSE);
	demi_qtoken_t accepting = net_accept(listener);
	assert_int_equal(demi_enter(client), 0);
	assert_int_equal(demi_close(listener), EBADF); /* the other's descriptor is nothing here */
	assert_int_equal(bind_error(&address, SOCK_STREAM), EADDRINUSE);
	int qd = net_socket(AF_INET, SOCK_STREAM);
	demi_qtoken_t connecting = net_connect(qd, &address);
	assert_int_equal(wait_in(client, connecting, server).qr_opcode, DEMI_OPC_CONNECT);
	demi_qresult_t qr = wait_in(server, accepting, client);
	assert_int_equal(qr.qr_opcode, DEMI_OPC_ACCEPT);
	int accepted = qr.qr_value.ares.qd;
	for (uint32_t i = 0; i < 50; i++) {
		assert_int_equal(demi_enter(client), 0);
		(void)net_wait(net_push_bytes(qd, &i, sizeof(i)));
		assert_int_equal(demi_enter(server), 0);
		qr = wait_in(server, net_pop(accepted), client);
		demi_sgarray_t sga = qr.qr_value.sga;
		(void)net_wait(net_push(accepted, &sga));
		/* An array of the other instance is foreign memory, and freed from anywhere. */
		assert_int_equal(demi_enter(client), 0);
		assert_int_equal(demi_sgafree(&sga), 0);
		net_pop_bytes(qd, &i, sizeof(i));
	}
	assert_int_equal(demi_destroy(server), 0); /* not the current one */
	net_pop_bytes(qd, NULL, 0);
	assert_int_equal(demi_fini(), 0);
	assert_int_equal(demi_yield(), ENOSYS);
	assert_int_equal(net_count_fds(), fds);
}

#define WITH_INSTANCE(test) cmocka_unit_test_setup_teardown(test, net_init, net_fini)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH_INSTANCE(test_one_push_of_each_size),
		WITH_INSTANCE(test_segments_of_every_shape),
		WITH_INSTANCE(test_free_right_after_push),
		WITH_INSTANCE(test_busy_until_sent),
		WITH_INSTANCE(test_a_peer_of_one_byte_at_a_time),
		WITH_INSTANCE(test_pops_in_order),
		WITH_INSTANCE(test_many_connections_mixed),
		WITH_INSTANCE(test_half_close_of_ours),
		WITH_INSTANCE(test_half_close_of_the_peer),
		WITH_INSTANCE(test_shutdown_for_reading),
		WITH_INSTANCE(test_shutdown_behind_pending_pushes),
		WITH_INSTANCE(test_shutdown_behind_a_cancelled_push),
		WITH_INSTANCE(test_reset_ends_what_is_pending),
		WITH_INSTANCE(test_reset_met_by_a_push),
		WITH_INSTANCE(test_reset_met_by_a_push_while_a_pop_waits),
		WITH_INSTANCE(test_reset_behind_data),
		WITH_INSTANCE(test_reset_behind_the_end),
		WITH_INSTANCE(test_refused),
		WITH_INSTANCE(test_bind_after_refused),
		WITH_INSTANCE(test_unreachable),
		WITH_INSTANCE(test_close_cancels_what_is_pending),
		WITH_INSTANCE(test_close_with_a_push_under_way),
		cmocka_unit_test(test_close_with_a_push_read_in_place),
		WITH_INSTANCE(test_close_never_blocks),
		WITH_INSTANCE(test_close_by_reset),
		cmocka_unit_test(test_close_with_a_linger_time_of_zero),
		WITH_INSTANCE(test_cancel),
		cmocka_unit_test(test_copies_never_exceed_the_limit),
		cmocka_unit_test(test_one_push_above_the_limit),
		cmocka_unit_test(test_fini_lingers_no_longer_than_its_bound),
		cmocka_unit_test(test_fini_sends_the_rest),
		WITH_INSTANCE(test_names),
		WITH_INSTANCE(test_accept_tells_the_peer),
		WITH_INSTANCE(test_accepted_and_closed_by_a_guess),
		WITH_INSTANCE(test_wildcard_and_port_0),
		WITH_INSTANCE(test_second_bind),
		cmocka_unit_test(test_restart_over_time_wait),
		cmocka_unit_test(test_threads_share_a_port),
		WITH_INSTANCE(test_options_pass_through),
		cmocka_unit_test(test_options_of_the_configuration),
		WITH_INSTANCE(test_accept_without_descriptors),
		WITH_INSTANCE(test_a_thousand_connections),
		cmocka_unit_test(test_two_instances_in_a_thread),
	};

	return test_run("tcp", tests);
}
