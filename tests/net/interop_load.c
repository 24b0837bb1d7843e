/* SPDX-License-Identifier: MIT
 * tests/net/interop_load.c - our side of load_test.py: one instance serves TCP and UDP
 * over both families, a coroutine a connection, until SIGTERM.
 *
 *	interop_load SECONDS PORT ADDRESS...
 *
 * A TCP connection brings requests, each of 9 bytes, a letter and a length (most significant byte
 * first), until its end:
 *
 *	d	so many bytes of the stream are pushed
 *	u	so many bytes of the stream come, and 'k' is the answer
 *	e	so many bytes are echoed
 *
 * Datagrams are echoed.  "ready" is printed when all listen.  A connection may fail (reset, timed
 * out); how often each error was seen is printed at the end.  It ends by itself after SECONDS, with
 * status 1.
 */
#include "net/interop.h"

#include <demi/coroutine.h>
#include <demi/memory.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_MAX 200000
#define HEAD      9

static volatile sig_atomic_t over;
static int connections;
static unsigned long errors[256];

/* What a connection's coroutine reads from. */
struct reader {
	int qd;
	demi_sgarray_t sga; /* what was popped last */
	uint32_t segment;   /* of it, read next */
	uint32_t offset;    /* in that */
	bool full;
};

static void on_term(int signal)
{
	(void)signal;
	over = 1;
}

/* Errors are counted: false. */
static bool worked(int64_t error)
{
	if (error)
		errors[error & 255]++;
	return !error;
}

static bool issued(int error, const demi_qtoken_t *qt, demi_qresult_t *result)
{
	if (!worked(error))
		return false;
	*result = interop_wait(*qt);
	return worked(result->qr_ret);
}

/* ---- reading ---- */

static void drop_popped(struct reader *reader)
{
	if (reader->full)
		interop_free(&reader->sga);
	reader->full = false;
}

/* Bytes that have come, at most so many; 0: the end, or an error. */
static size_t next_bytes(struct reader *reader, size_t max, const uint8_t **bytes_out)
{
	while (!reader->full || reader->segment == reader->sga.sga_numsegs) {
		demi_qtoken_t qt = 0;
		demi_qresult_t result;
		drop_popped(reader);
		if (!issued(demi_pop(&qt, reader->qd), &qt, &result))
			return 0;
		reader->sga = result.qr_value.sga;
		reader->full = true;
		reader->segment = reader->offset = 0;
		if (interop_length(&reader->sga) == 0)
			return 0;
	}
	const demi_sgaseg_t *segment = &reader->sga.sga_segs[reader->segment];
	size_t length = segment->sgaseg_len - reader->offset;
	*bytes_out = (const uint8_t *)segment->sgaseg_buf + reader->offset;
	if (length > max) {
		reader->offset += (uint32_t)max;
		return max;
	}
	reader->segment++;
	reader->offset = 0;
	return length;
}

static bool push(int qd, const void *bytes, size_t length)
{
	demi_sgarray_t sga = demi_sgaalloc(length);
	demi_qresult_t result;
	demi_qtoken_t qt = 0;

	if (sga.sga_numsegs != 1)
		interop_fail("demi_sgaalloc of %zu bytes", length);
	memcpy(sga.sga_segs[0].sgaseg_buf, bytes, length);
	int error = demi_push(&qt, qd, &sga);
	interop_free(&sga);
	return issued(error, &qt, &result);
}

/* ---- requests ---- */

static bool download(int qd, uint64_t length)
{
	size_t piece = 1;

	for (uint64_t done = 0; done < length; done += piece) {
		demi_qtoken_t qt = 0;
		demi_qresult_t result;
		piece = piece * 7 % PIECE_MAX + 1;
		if (piece > length - done)
			piece = (size_t)(length - done);
		demi_sgarray_t sga = demi_sgaalloc(piece);
		if (sga.sga_numsegs != 1)
			interop_fail("demi_sgaalloc of %zu bytes", piece);
		interop_fill(done, sga.sga_segs[0].sgaseg_buf, piece);
		int error = demi_push(&qt, qd, &sga);
		interop_free(&sga);
		if (!issued(error, &qt, &result))
			return false;
	}
	return true;
}

static bool upload(struct reader *reader, uint64_t length)
{
	const uint8_t *bytes;
	size_t n;

	for (uint64_t done = 0; done < length; done += n) {
		n = next_bytes(reader, (size_t)(length - done), &bytes);
		if (n == 0)
			return false;
		interop_check(done, bytes, n);
	}
	return push(reader->qd, "k", 1);
}

static bool echo(struct reader *reader, uint64_t length)
{
	const uint8_t *bytes;
	size_t n;

	for (uint64_t done = 0; done < length; done += n) {
		n = next_bytes(reader, (size_t)(length - done), &bytes);
		if (n == 0 || !push(reader->qd, bytes, n))
			return false;
	}
	return true;
}

/* False: there is none, or it failed. */
static bool request(struct reader *reader)
{
	uint8_t head[HEAD];
	uint64_t length = 0;

	for (size_t have = 0, n; have < HEAD; have += n) {
		const uint8_t *bytes;
		n = next_bytes(reader, HEAD - have, &bytes);
		if (n == 0)
			return false;
		memcpy(head + have, bytes, n);
	}
	for (int i = 1; i < HEAD; i++)
		length = length << 8 | head[i];
	switch (head[0]) {
	case 'd':
		return download(reader->qd, length);
	case 'u':
		return upload(reader, length);
	case 'e':
		return echo(reader, length);
	default:
		interop_fail("request %d: unknown", head[0]);
	}
}

static void serve(void *arg)
{
	struct reader reader = {.qd = (int)(intptr_t)arg};

	while (request(&reader))
		;
	drop_popped(&reader);
	interop_close(reader.qd);
	connections--;
}

static void accept_all(void *arg)
{
	int listener = (int)(intptr_t)arg;

	for (;;) {
		demi_qtoken_t qt = 0;
		demi_qresult_t result;
		interop_must(demi_accept(&qt, listener), "demi_accept");
		result = interop_wait(qt);
		if (result.qr_ret == ECANCELED)
			return;
		if (!worked(result.qr_ret))
			continue;
		connections++;
		interop_must(demi_go(serve, (void *)(intptr_t)result.qr_value.ares.qd), "demi_go");
	}
}

static void echo_datagrams(void *arg)
{
	int qd = (int)(intptr_t)arg;

	for (;;) {
		demi_qtoken_t qt = 0;
		demi_qresult_t result;
		interop_must(demi_pop(&qt, qd), "demi_pop");
		result = interop_wait(qt);
		if (result.qr_ret == ECANCELED)
			return;
		if (!worked(result.qr_ret))
			continue;
		demi_sgarray_t sga = result.qr_value.sga;
		struct sockaddr_storage from;
		socklen_t length = sizeof(from);
		interop_must(demi_sgaaddr(&sga, (struct sockaddr *)&from, &length), "demi_sgaaddr");
		int error = demi_pushto(&qt, qd, &sga, (struct sockaddr *)&from, length);
		interop_free(&sga);
		(void)issued(error, &qt, &result);
	}
}

int main(int argc, char **argv)
{
	static const struct timespec tick = {.tv_nsec = 10000000};
	int qds[8];
	int count = 0;

	if (argc < 4 || argc > 7)
		interop_fail("usage: interop_load SECONDS PORT ADDRESS...");
	(void)signal(SIGTERM, on_term);
	interop_begin();
	(void)alarm((unsigned)strtoul(argv[1], NULL, 10));
	for (int i = 3; i < argc; i++) {
		qds[count] = interop_listen(argv[i], argv[2], 128);
		interop_must(demi_go(accept_all, (void *)(intptr_t)qds[count++]), "demi_go");
		qds[count] = interop_bind_udp(argv[i], argv[2]);
		interop_must(demi_go(echo_datagrams, (void *)(intptr_t)qds[count++]), "demi_go");
	}
	(void)puts("ready");
	(void)fflush(stdout);
	while (!over || connections > 0)
		interop_must(demi_sleep(&tick), "demi_sleep");
	for (int i = 0; i < count; i++)
		interop_close(qds[i]);
	for (int i = 0; i < 256; i++) {
		if (errors[i])
			(void)printf("%lu: %s\n", errors[i], strerror(i));
	}
	interop_end();
	(void)puts("done");
	return 0;
}
