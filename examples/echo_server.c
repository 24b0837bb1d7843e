/* SPDX-License-Identifier: MIT
 * echo_server.c - TCP echo over any libOS: one thread, one wait, many connections.
 * A connection has one operation outstanding: its pop, or the push of what was popped.
 * Run: LIBOS=catnap build/examples/echo_server 127.0.0.1 7000
 */
#define _POSIX_C_SOURCE 200809L
#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <err.h>
#include <netdb.h>
#include <string.h>

enum { TOKENS_MAX = 1000 };

static void check(int error, const char *call)
{
	if (error != 0)
		errx(1, "%s: %s", call, strerror(error));
}

int main(int argc, char **argv)
{
	struct addrinfo *at, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	demi_qtoken_t qts[TOKENS_MAX]; /* the accept, then one a connection */
	demi_qresult_t qr;
	int qd, i, error, count = 1;

	if (argc != 3 || getaddrinfo(argv[1], argv[2], &hint, &at) != 0)
		errx(2, "usage: echo_server ADDRESS PORT");
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	check(demi_socket(&qd, at->ai_family, SOCK_STREAM, 0), "socket");
	check(demi_bind(qd, at->ai_addr, at->ai_addrlen), "bind");
	freeaddrinfo(at);
	check(demi_listen(qd, 128), "listen");
	check(demi_accept(&qts[0], qd), "accept");
	for (;;) {
		check(demi_wait_any(&qr, &i, qts, count, NULL), "wait_any");
		error = (int)qr.qr_ret; /* of an operation that failed, else 0 */
		if (i == 0) {
			check(error, "accept");
			check(demi_accept(&qts[0], qd), "accept");
			if (count < TOKENS_MAX)
				check(demi_pop(&qts[count++], qr.qr_value.ares.qd), "pop");
			else
				check(demi_close(qr.qr_value.ares.qd), "close");
		} else if (qr.qr_opcode == DEMI_OPC_PUSH) {
			error = demi_pop(&qts[i], qr.qr_qd);
		} else if (qr.qr_opcode == DEMI_OPC_POP) {
			/* The end of a stream pops as 0 bytes, which are an error to push. */
			error = demi_push(&qts[i], qr.qr_qd, &qr.qr_value.sga);
			check(demi_sgafree(&qr.qr_value.sga), "sgafree"); /* legal at once */
		}
		if (error != 0) {
			check(demi_close(qr.qr_qd), "close");
			qts[i] = qts[--count];
		}
	}
}
