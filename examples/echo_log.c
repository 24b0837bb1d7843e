/* SPDX-License-Identifier: MIT
 * echo_log.c - TCP echo that has each message on stable media before it answers; nothing is copied.
 * A connection has one operation outstanding: its pop, the push of what was popped to the log, or
 * the push of the same as the answer.  Records of several connections are written together.
 * Run: LIBOS=catnap build/examples/echo_log 127.0.0.1 7000 echo.log
 */
#define _POSIX_C_SOURCE 200809L
#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/storage.h>
#include <demi/wait.h>
#include <err.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>

enum { TOKENS_MAX = 1000 };

static demi_qtoken_t qts[TOKENS_MAX]; /* the accept, then one a connection */

static struct connection {
	int qd;
	demi_sgarray_t message; /* that is being logged */
} connections[TOKENS_MAX];

static int count = 1, listener, logger;

static void check(int error, const char *call)
{
	if (error != 0)
		errx(1, "%s: %s", call, strerror(error));
}

static void start(int argc, char **argv)
{
	struct addrinfo *at, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};

	if (argc != 4 || getaddrinfo(argv[1], argv[2], &hint, &at) != 0)
		errx(2, "usage: echo_log ADDRESS PORT FILE");
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	check(demi_open(&logger, argv[3], O_WRONLY | O_CREAT, 0600), argv[3]);
	check(demi_socket(&listener, at->ai_family, SOCK_STREAM, 0), "socket");
	check(demi_bind(listener, at->ai_addr, at->ai_addrlen), "bind");
	freeaddrinfo(at);
	check(demi_listen(listener, 128), "listen");
	check(demi_accept(&qts[0], listener), "accept");
}

static void take(int qd)
{
	check(demi_accept(&qts[0], listener), "accept");
	if (count == TOKENS_MAX) {
		check(demi_close(qd), "close");
		return;
	}
	connections[count].qd = qd;
	check(demi_pop(&qts[count++], qd), "pop");
}

/* The next operation of connection i, after this one. 0 or an error: the connection's end. */
static int go_on(int i, demi_qresult_t *qr)
{
	struct connection *connection = &connections[i];
	int error;

	if (qr->qr_qd == logger) { /* it is on stable media, and still in its buffers */
		check((int)(qr->qr_opcode == DEMI_OPC_FAILED ? qr->qr_ret : 0), "log");
		error = demi_push(&qts[i], connection->qd, &connection->message);
		check(demi_sgafree(&connection->message), "sgafree"); /* legal at once */
		return error;
	}
	if (qr->qr_opcode == DEMI_OPC_FAILED)
		return (int)qr->qr_ret;
	if (qr->qr_opcode == DEMI_OPC_PUSH)
		return demi_pop(&qts[i], connection->qd);
	connection->message = qr->qr_value.sga;
	error = demi_push(&qts[i], logger, &connection->message);
	if (error != 0) /* EINVAL: 0 bytes, the end of the stream */
		check(demi_sgafree(&connection->message), "sgafree");
	return error;
}

int main(int argc, char **argv)
{
	demi_qresult_t qr;
	int i;

	for (start(argc, argv);;) {
		check(demi_wait_any(&qr, &i, qts, count, NULL), "wait_any");
		if (i == 0) {
			check((int)qr.qr_ret, "accept"); /* of one that failed, else 0 */
			take(qr.qr_value.ares.qd);
		} else if (go_on(i, &qr) != 0) {
			check(demi_close(connections[i].qd), "close");
			count--;
			qts[i] = qts[count];
			connections[i] = connections[count];
		}
	}
}
