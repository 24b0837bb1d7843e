/* SPDX-License-Identifier: MIT
 * tests/unit/tcp_iss_test.c - what a peer must not guess: initial sequence numbers, offsets of
 * timestamps, ephemeral ports.  Attack rows 25 and 26.
 */
#include "support/test.h"

#include "net/net.h"
#include "net/tcp/tcp.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES 100000

static struct sched sched;
static struct netdev dev;
static struct net net = {
	.sched = &sched, .dev = &dev, .secret = {0x0123456789abcdef, 0xfedcba9876543210}};

static struct tcp_conn *conn_between(struct tcp_conn *conn, uint16_t local_port,
				     uint16_t remote_port)
{
	memset(conn, 0, sizeof(*conn));
	conn->net = &net;
	conn->local = ip_from_v4(htonl(0x0a000001));
	conn->remote = ip_from_v4(htonl(0x0a000002));
	conn->local_port = local_port;
	conn->remote_port = remote_port;
	return conn;
}

static uint32_t iss_of(uint16_t local_port, uint16_t remote_port)
{
	struct tcp_conn conn;

	tcp_choose_iss(conn_between(&conn, local_port, remote_port), NULL);
	return conn.iss;
}

/* RFC 6528 3, RFC 9293 3.4.1 MUST-8: for one tuple the clock alone: it never goes back, and
 * advances by 250000 a second or so. */
static void test_clock(void **state)
{
	uint32_t first = iss_of(80, 5000);
	uint32_t last = first;

	(void)state;
	for (uint32_t i = 0; i < SAMPLES; i++) {
		sched.now_ns += 100000;
		uint32_t iss = iss_of(80, 5000);
		assert_true(iss - last == 24 || iss - last == 25);
		last = iss;
	}
	assert_in_range(last - first, 2400000, 2500000); /* in ten seconds */
}

/* The spread of one byte of the numbers: chi-squared of 256 cells, 255 on average, with a standard
 * deviation of 23. */
static void assert_uniform(const uint32_t *samples, uint32_t shift)
{
	uint32_t cells[256] = {0};
	double expected = SAMPLES / 256.0;
	double sum = 0;

	for (uint32_t i = 0; i < SAMPLES; i++)
		cells[samples[i] >> shift & 255]++;
	for (uint32_t i = 0; i < 256; i++)
		sum += (cells[i] - expected) * (cells[i] - expected) / expected;
	assert_true(sum > 150 && sum < 400);
}

static int compare(const void *a, const void *b)
{
	uint32_t x;
	uint32_t y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

/* RFC 9293 3.4.1 MUST-9: over neighbouring ports neither the numbers nor their differences show
 * anything. */
static void test_ports(void **state)
{
	static uint32_t samples[SAMPLES];
	static uint32_t steps[SAMPLES];
	uint32_t same = 0;

	(void)state;
	for (uint32_t i = 0; i < SAMPLES; i++) {
		samples[i] = iss_of((uint16_t)(80 + i / 50000), (uint16_t)(1024 + i % 50000));
		steps[i] = i ? samples[i] - samples[i - 1] : samples[i];
	}
	for (uint32_t shift = 0; shift < 32; shift += 8) {
		assert_uniform(samples, shift);
		assert_uniform(steps, shift);
	}
	qsort(samples, SAMPLES, sizeof(samples[0]), compare);
	for (uint32_t i = 1; i < SAMPLES; i++)
		same += samples[i] == samples[i - 1];
	assert_in_range(same, 0, 10); /* 1.2 by the birthday paradox */
}

/* Every start has its own secret: nothing of one helps with the next.  Timestamps tell neither the
 * clock nor the number. */
static void test_secret(void **state)
{
	struct tcp_conn one;
	struct tcp_conn other;

	(void)state;
	tcp_choose_iss(conn_between(&one, 80, 5000), NULL);
	net.secret[1] ^= 1;
	tcp_choose_iss(conn_between(&other, 80, 5000), NULL);
	net.secret[1] ^= 1;
	assert_int_not_equal(one.iss, other.iss);
	assert_int_not_equal(one.ts_offset, other.ts_offset);
	assert_int_not_equal(one.iss, one.ts_offset);
	tcp_choose_iss(conn_between(&other, 80, 5001), NULL);
	assert_int_not_equal(one.ts_offset, other.ts_offset);
}

/* RFC 6191 2: one that follows another connection of its tuple begins behind it, round the end of
 * the numbers too. */
static void test_floor(void **state)
{
	struct tcp_conn conn;
	uint32_t own = iss_of(80, 5000);

	(void)state;
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t floor = own + (i << 29);
		tcp_choose_iss(conn_between(&conn, 80, 5000), &floor);
		assert_true(conn.iss == floor || seq_after(conn.iss, floor));
		assert_int_equal(conn.snd_una, conn.iss);
		assert_int_equal(conn.snd_base, conn.iss + 1);
	}
}

/* RFC 6056 3.3.1: attack row 26: any port of the range, in no order; none that is taken. */
static void test_ephemeral(void **state)
{
	static uint32_t times[65536];
	struct tcp_conn *conn;
	struct tcp_conn *other;
	uint32_t neighbours = 0;
	uint16_t last = 0;

	(void)state;
	assert_int_equal(config_load(&sched.config, NULL, NULL, &sched.log), 0);
	assert_int_equal(tcp_open(&net), 0);
	assert_int_equal(tcp_conn_new(&net, AF_INET, &conn), 0);
	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint16_t port = tcp_choose_port(conn);
		assert_in_range(port, 32768, 60999);
		times[port]++;
		neighbours += (uint16_t)(port - last + 8) <= 16;
		last = port;
	}
	/* 3.5 times each, and one in 1660 beside the last one */
	for (uint32_t port = 32768; port <= 60999; port++)
		assert_in_range(times[port], 0, 25);
	assert_in_range(neighbours, 10, 150);
	assert_int_equal(tcp_conn_new(&net, AF_INET, &other), 0);
	const struct ip_address any = ip_from_v4(0);
	assert_int_equal(tcp_bind(other, &any, 40000), 0);
	for (uint32_t i = 0; i < SAMPLES; i++)
		assert_int_not_equal(tcp_choose_port(conn), 40000);
	tcp_conn_close(conn);
	tcp_conn_close(other);
	tcp_close(&net);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock),     cmocka_unit_test(test_ports),
		cmocka_unit_test(test_secret),    cmocka_unit_test(test_floor),
		cmocka_unit_test(test_ephemeral),
	};

	return test_run("tcp_iss", tests);
}
