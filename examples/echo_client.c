/* SPDX-License-Identifier: MIT
 * echo_client.c - measures TCP round trips over any libOS: push, pop until all is back, compare.
 *
 * A request may still be going out while its echo comes in, so one of any size gets through.
 *
 * Run: build/examples/echo_client 127.0.0.1 7000 [BYTES [ROUNDS]]     (against echo_server)
 */
#define _POSIX_C_SOURCE 200809L
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <err.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void check(int error, const char *call)
{
	if (error != 0)
		errx(1, "%s: %s", call, strerror(error));
}

/* Waits for an operation that must succeed. */
static void await(demi_qresult_t *qr, demi_qtoken_t qt, const char *operation)
{
	check(demi_wait(qr, qt, NULL), "wait");
	check((int)qr->qr_ret, operation);
}

static void round_trip(int qd, const demi_sgarray_t *request)
{
	const char *data = request->sga_segs[0].sgaseg_buf;
	size_t done = 0, size = request->sga_segs[0].sgaseg_len;
	demi_qtoken_t push, pop;
	demi_qresult_t qr;
	demi_sgaseg_t seg;

	check(demi_push(&push, qd, request), "push");
	while (done < size) {
		check(demi_pop(&pop, qd), "pop");
		await(&qr, pop, "pop");
		for (uint32_t i = 0; i < qr.qr_value.sga.sga_numsegs; i++) {
			seg = qr.qr_value.sga.sga_segs[i];
			if (seg.sgaseg_len == 0)
				errx(1, "the server closed the connection");
			if (seg.sgaseg_len > size - done ||
			    memcmp(data + done, seg.sgaseg_buf, seg.sgaseg_len) != 0)
				errx(1, "the echo is not what was sent");
			done += seg.sgaseg_len;
		}
		check(demi_sgafree(&qr.qr_value.sga), "sgafree");
	}
	await(&qr, push, "push");
}

int main(int argc, char **argv)
{
	struct addrinfo *to, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	unsigned long size = argc > 3 ? strtoul(argv[3], NULL, 0) : 64;
	unsigned long rounds = argc > 4 ? strtoul(argv[4], NULL, 0) : 10000;
	struct timespec start, end;
	demi_sgarray_t request;
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int qd;

	if (argc < 3 || getaddrinfo(argv[1], argv[2], &hint, &to) != 0 || size == 0 || rounds == 0)
		errx(2, "usage: echo_client ADDRESS PORT [BYTES [ROUNDS]]");
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	check(demi_socket(&qd, to->ai_family, SOCK_STREAM, 0), "socket");
	check(demi_connect(&qt, qd, to->ai_addr, to->ai_addrlen), "connect");
	await(&qr, qt, "connect");
	freeaddrinfo(to);

	request = demi_sgaalloc(size);
	if (request.sga_numsegs == 0)
		errx(1, "no memory for %lu bytes", size);
	for (unsigned long i = 0; i < size; i++)
		((char *)request.sga_segs[0].sgaseg_buf)[i] = (char)(i % 251);

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned long i = 0; i < rounds; i++)
		round_trip(qd, &request);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%lu round trips of %lu bytes, %.2f us each\n", rounds, size,
	       ((double)(end.tv_sec - start.tv_sec) * 1e6 +
		(double)(end.tv_nsec - start.tv_nsec) / 1e3) /
		       (double)rounds);
	check(demi_sgafree(&request), "sgafree");
	check(demi_close(qd), "close");
	check(demi_fini(), "fini");
	return 0;
}
