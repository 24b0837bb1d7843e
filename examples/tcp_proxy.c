/* SPDX-License-Identifier: MIT
 * tcp_proxy.c - a TCP proxy over any libOS: what a client sends goes to a server, and back.
 * The library carries the bytes: one demi_qconnect a direction. A coroutine a connection waits for
 * the ends of both.
 * Run: LIBOS=catnap build/examples/tcp_proxy 127.0.0.1 8000 127.0.0.1 7000
 */
#define _POSIX_C_SOURCE 200809L
#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/wait.h>
#include <err.h>
#include <netdb.h>
#include <stdint.h>
#include <string.h>

static struct addrinfo *server_at;

static void check(int error, const char *call)
{
	if (error != 0)
		errx(1, "%s: %s", call, strerror(error));
}

static int wait_for(demi_qresult_t *qr, int error, demi_qtoken_t *qt)
{
	if (error == 0)
		error = demi_wait(qr, *qt, NULL);
	return error != 0 ? error : qr->qr_opcode == DEMI_OPC_FAILED ? (int)qr->qr_ret : 0;
}

static void carry(void *arg)
{
	int client = (int)(intptr_t)arg;
	int server, error;
	demi_qresult_t qr;
	demi_qtoken_t qt;

	check(demi_socket(&server, server_at->ai_family, SOCK_STREAM, 0), "socket");
	error = demi_connect(&qt, server, server_at->ai_addr, server_at->ai_addrlen);
	error = wait_for(&qr, error, &qt);
	if (error == 0)
		error = demi_qconnect(client, server);
	if (error == 0)
		error = demi_qconnect(server, client);
	if (error == 0) { /* each fails if its direction has ended already */
		wait_for(&qr, demi_qended(&qt, client), &qt);
		wait_for(&qr, demi_qended(&qt, server), &qt);
	}
	if (error != 0)
		warnx("a connection: %s", strerror(error));
	check(demi_close(server), "close");
	check(demi_close(client), "close");
}

static struct addrinfo *resolve(const char *address, const char *port)
{
	struct addrinfo *at, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};

	if (getaddrinfo(address, port, &hint, &at) != 0)
		errx(2, "%s %s: no numeric address and port", address, port);
	return at;
}

int main(int argc, char **argv)
{
	struct addrinfo *at;
	demi_qresult_t qr;
	demi_qtoken_t qt;
	int qd;

	if (argc != 5)
		errx(2, "usage: tcp_proxy ADDRESS PORT SERVER-ADDRESS SERVER-PORT");
	at = resolve(argv[1], argv[2]);
	server_at = resolve(argv[3], argv[4]);
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	check(demi_socket(&qd, at->ai_family, SOCK_STREAM, 0), "socket");
	check(demi_bind(qd, at->ai_addr, at->ai_addrlen), "bind");
	freeaddrinfo(at);
	check(demi_listen(qd, 128), "listen");
	for (;;) {
		check(wait_for(&qr, demi_accept(&qt, qd), &qt), "accept");
		check(demi_go(carry, (void *)(intptr_t)qr.qr_value.ares.qd), "go");
	}
}
