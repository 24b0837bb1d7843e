/* SPDX-License-Identifier: MIT
 * udp_echo.c - UDP over any libOS: a server that returns every datagram to its sender, and a
 * client that sends again when no echo comes in time.
 *
 * Run: build/examples/udp_echo server 127.0.0.1 7000
 *      build/examples/udp_echo client 127.0.0.1 7000 [ROUNDS]
 */
#define _POSIX_C_SOURCE 200809L
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int error, const char *call)
{
	if (error != 0)
		errx(1, "%s: %s", call, strerror(error));
}

static void serve(int qd)
{
	struct sockaddr_storage storage;
	struct sockaddr *sender = (struct sockaddr *)&storage;
	demi_qresult_t qr, pushed;
	demi_qtoken_t qt;
	socklen_t size;

	for (;;) {
		check(demi_blocking_pop(&qr, qd), "pop");
		check((int)qr.qr_ret, "pop");
		size = sizeof(storage);
		check(demi_sgaaddr(&qr.qr_value.sga, sender, &size), "sgaaddr");
		check(demi_pushto(&qt, qd, &qr.qr_value.sga, sender, size), "pushto");
		check(demi_sgafree(&qr.qr_value.sga), "sgafree"); /* the push has a hold of it */
		check(demi_wait(&pushed, qt, NULL), "wait");
	}
}

/* Pushes number until it comes back.  *pop is the outstanding pop, before and after. */
static void ask(int qd, demi_qtoken_t *pop, uint32_t number)
{
	demi_sgarray_t question = {.sga_numsegs = 1, .sga_segs = {{&number, sizeof(number)}}};
	const struct timespec patience = {.tv_nsec = 100 * 1000 * 1000};
	uint32_t answer = ~number;
	demi_sgaseg_t seg;
	demi_qresult_t qr;
	int error;

	while (answer != number) { /* it may also be a late echo of the number before */
		check(demi_blocking_push(&qr, qd, &question), "push");
		check((int)qr.qr_ret, "push");
		error = demi_wait(&qr, *pop, &patience);
		if (error == ETIMEDOUT)
			continue; /* *pop stays good */
		check(error, "wait");
		check((int)qr.qr_ret, "pop"); /* ECONNREFUSED: nobody there */
		seg = qr.qr_value.sga.sga_segs[0];
		if (seg.sgaseg_len == sizeof(answer))
			memcpy(&answer, seg.sgaseg_buf, sizeof(answer));
		check(demi_sgafree(&qr.qr_value.sga), "sgafree");
		check(demi_pop(pop, qd), "pop");
	}
}

int main(int argc, char **argv)
{
	struct addrinfo *at, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM};
	unsigned long rounds = argc > 4 ? strtoul(argv[4], NULL, 0) : 1000;
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int qd;

	if (argc < 4 || getaddrinfo(argv[2], argv[3], &hint, &at) != 0)
		errx(2, "usage: udp_echo server|client ADDRESS PORT [ROUNDS]");
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	check(demi_socket(&qd, at->ai_family, SOCK_DGRAM, 0), "socket");
	if (strcmp(argv[1], "server") == 0) {
		check(demi_bind(qd, at->ai_addr, at->ai_addrlen), "bind");
		serve(qd);
	}
	check(demi_connect(&qt, qd, at->ai_addr, at->ai_addrlen), "connect");
	check(demi_wait(&qr, qt, NULL), "wait");
	check((int)qr.qr_ret, "connect");
	freeaddrinfo(at);
	check(demi_pop(&qt, qd), "pop");
	for (uint32_t i = 0; i < rounds; i++)
		ask(qd, &qt, i);
	printf("%lu datagrams went and came back\n", rounds);
	return 0; /* exit ends the instance */
}
