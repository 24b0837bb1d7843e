/* SPDX-License-Identifier: MIT
 * tests/net/interop_iperf3.c - the server's part of iperf3's protocol, over our API: one test, any
 * number of streams, in either direction.
 *
 *	interop_iperf3 ADDRESS PORT
 *
 * The protocol, as its client shows it: a control connection and one for each stream, each begun by
 * a cookie of 37 bytes.  On the control connection the server tells states, a byte each; parameters
 * and results are JSON behind a length of four bytes.
 */
#include "net/interop.h"

#include <arpa/inet.h>
#include <demi/coroutine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COOKIE_BYTES 37
#define JSON_MAX     65536
#define STREAMS_MAX  16

enum state {
	TEST_START = 1,
	TEST_RUNNING = 2,
	TEST_END = 4,
	PARAM_EXCHANGE = 9,
	CREATE_STREAMS = 10,
	EXCHANGE_RESULTS = 13,
	DISPLAY_RESULTS = 14,
	IPERF_DONE = 16,
};

struct stream {
	int qd;
	uint64_t bytes;
};

static const struct timespec millisecond = {.tv_nsec = 1000000};

static struct test {
	int control;
	bool reverse; /* we send */
	bool over;
	size_t piece;
	unsigned num_streams;
	unsigned ended;
	struct stream streams[STREAMS_MAX];
	uint8_t cookie[COOKIE_BYTES];
} test;

static void tell(enum state state)
{
	const char byte = (char)state;

	interop_push(test.control, &byte, 1);
}

static void expect(enum state state)
{
	char byte;

	interop_read(test.control, &byte, 1);
	if (byte != (char)state)
		interop_fail("the client is in state %d, not %d", byte, state);
}

static char *read_json(void)
{
	uint32_t length;

	interop_read(test.control, &length, sizeof(length));
	length = ntohl(length);
	if (length >= JSON_MAX)
		interop_fail("JSON of %u bytes", length);
	char *text = calloc(1, length + 1);
	interop_read(test.control, text, length);
	return text;
}

static void write_json(const char *text)
{
	uint32_t length = htonl((uint32_t)strlen(text));

	interop_push(test.control, &length, sizeof(length));
	interop_push(test.control, text, strlen(text));
}

/* The number of a key of JSON, whatever it is in; fallback: it is not there. */
static uint64_t json_number(const char *text, const char *key, uint64_t fallback)
{
	const char *at = strstr(text, key);

	if (!at)
		return fallback;
	at += strlen(key);
	at += strspn(at, " :\t\n");
	return strncmp(at, "true", 4) == 0 ? 1 : strtoull(at, NULL, 10);
}

/* ---- streams ---- */

static void send_stream(struct stream *stream)
{
	demi_sgarray_t sga = demi_sgaalloc(test.piece);

	memset(sga.sga_segs[0].sgaseg_buf, 'x', test.piece);
	while (!test.over) {
		demi_qtoken_t qt;
		if (demi_push(&qt, stream->qd, &sga) || interop_wait(qt).qr_ret)
			break; /* the client has closed */
		stream->bytes += test.piece;
	}
	interop_free(&sga);
}

static void receive_stream(struct stream *stream)
{
	for (;;) {
		demi_sgarray_t sga = interop_pop(stream->qd);
		size_t n = interop_length(&sga);
		stream->bytes += n;
		interop_free(&sga);
		if (n == 0)
			return;
	}
}

static void run_stream(void *arg)
{
	struct stream *stream = arg;

	if (test.reverse)
		send_stream(stream);
	else
		receive_stream(stream);
	interop_close(stream->qd);
	test.ended++;
}

static void open_streams(int listener)
{
	for (unsigned i = 0; i < test.num_streams; i++) {
		uint8_t cookie[COOKIE_BYTES];
		test.streams[i].qd = interop_accept(listener);
		interop_read(test.streams[i].qd, cookie, COOKIE_BYTES);
		if (memcmp(cookie, test.cookie, COOKIE_BYTES) != 0)
			interop_fail("a stream of another test");
	}
}

/* ---- the test ---- */

static void read_parameters(void)
{
	char *text = read_json();

	test.num_streams = (unsigned)json_number(text, "\"parallel\"", 1);
	test.reverse = json_number(text, "\"reverse\"", 0) != 0;
	test.piece = json_number(text, "\"len\"", 131072);
	free(text);
	if (test.num_streams == 0 || test.num_streams > STREAMS_MAX)
		interop_fail("%u streams", test.num_streams);
}

/* Our results, for the streams in the client's, by its numbers. */
static void exchange_results(double seconds)
{
	char *theirs = read_json();
	char *ours = calloc(1, JSON_MAX);
	const char *at = theirs;
	int n = snprintf(ours, JSON_MAX,
			 "{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,"
			 "\"sender_has_retransmits\":0,\"streams\":[");

	for (unsigned i = 0; i < test.num_streams; i++) {
		at = at ? strstr(at, "\"id\"") : NULL;
		n += snprintf(ours + n, (size_t)(JSON_MAX - n),
			      "%s{\"id\":%u,\"bytes\":%llu,\"retransmits\":-1,\"jitter\":0,"
			      "\"errors\":0,\"packets\":0,\"start_time\":0,\"end_time\":%.6f}",
			      i ? "," : "", at ? (unsigned)json_number(at, "\"id\"", 1) : 1,
			      (unsigned long long)test.streams[i].bytes, seconds);
		at = at ? at + 4 : NULL;
	}
	(void)snprintf(ours + n, (size_t)(JSON_MAX - n), "]}");
	write_json(ours);
	free(ours);
	free(theirs);
}

static double now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run_test(int listener)
{
	interop_read(test.control, test.cookie, COOKIE_BYTES);
	tell(PARAM_EXCHANGE);
	read_parameters();
	tell(CREATE_STREAMS);
	open_streams(listener);
	tell(TEST_START);
	tell(TEST_RUNNING);
	double begin = now_s();
	for (unsigned i = 0; i < test.num_streams; i++)
		interop_must(demi_go(run_stream, &test.streams[i]), "demi_go");
	expect(TEST_END);
	test.over = true;
	/* The client reads whole pieces, and only the end of a stream makes it give up on one. */
	while (test.reverse && test.ended < test.num_streams)
		interop_must(demi_sleep(&millisecond), "demi_sleep");
	tell(EXCHANGE_RESULTS);
	exchange_results(now_s() - begin);
	tell(DISPLAY_RESULTS);
	expect(IPERF_DONE);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		interop_fail("usage: interop_iperf3 ADDRESS PORT");
	interop_begin();
	int listener = interop_listen(argv[1], argv[2], 64);
	(void)puts("ready");
	(void)fflush(stdout);
	test.control = interop_accept(listener);
	run_test(listener);
	while (test.ended < test.num_streams)
		interop_must(demi_sleep(&millisecond), "demi_sleep");
	interop_close(test.control);
	interop_close(listener);
	interop_end();
	(void)puts("done");
	return 0;
}
