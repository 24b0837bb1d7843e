/* SPDX-License-Identifier: MIT
 * chat.c - a chat room: a coroutine for each client, and a memory queue as the hub between them.
 * A client's coroutine pushes each line to the hub, which pushes it to all others: copied once, on
 * its way into the hub.  A client that never reads stops the room once its socket is full.
 * Run: build/examples/chat 127.0.0.1 7000      and in other terminals: nc 127.0.0.1 7000
 */
#define _POSIX_C_SOURCE 200809L
#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <err.h>
#include <netdb.h>
#include <string.h>

enum { CLIENTS_MAX = 64 };

/* Coroutines run one at a time, on one thread: what they share needs no lock. */
static int listen_qd, hub_qd;

static struct client {
	int qd, here;
	uint32_t bytes; /* of the line that is not complete yet */
	char line[500];
} clients[CLIENTS_MAX];

static void check(int error, const char *call)
{
	if (error != 0)
		errx(1, "%s: %s", call, strerror(error));
}

/* Takes what a client sent.  Each complete line goes to the hub, behind the client it is from. */
static void hear(struct client *me, const demi_sgaseg_t *seg)
{
	demi_sgarray_t said = {.sga_numsegs = 2, .sga_segs = {{&me, sizeof(me)}, {me->line, 0}}};
	const char *text = seg->sgaseg_buf;
	demi_qresult_t qr;

	for (uint32_t i = 0; i < seg->sgaseg_len; i++) {
		me->line[me->bytes++] = text[i];
		if (text[i] != '\n' && me->bytes < sizeof(me->line))
			continue;
		said.sga_segs[1].sgaseg_len = me->bytes;
		check(demi_blocking_push(&qr, hub_qd, &said), "push");
		me->bytes = 0;
	}
}

/* A coroutine: one client after another. */
static void serve(void *arg)
{
	struct client *me = arg;
	demi_qresult_t qr;
	demi_qtoken_t qt;

	for (;;) {
		check(demi_accept(&qt, listen_qd), "accept");
		check(demi_wait(&qr, qt, NULL), "wait");
		check((int)qr.qr_ret, "accept");
		*me = (struct client){.qd = qr.qr_value.ares.qd, .here = 1};
		while (demi_blocking_pop(&qr, me->qd) == 0 && qr.qr_opcode == DEMI_OPC_POP &&
		       qr.qr_value.sga.sga_segs[0].sgaseg_len > 0) {
			for (uint32_t i = 0; i < qr.qr_value.sga.sga_numsegs; i++)
				hear(me, &qr.qr_value.sga.sga_segs[i]);
			check(demi_sgafree(&qr.qr_value.sga), "sgafree");
		}
		me->here = 0;
		check(demi_close(me->qd), "close");
	}
}

int main(int argc, char **argv)
{
	struct addrinfo *at, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	struct client *from, *to;
	demi_sgarray_t line = {.sga_numsegs = 1};
	demi_qresult_t said, pushed;

	if (argc != 3 || getaddrinfo(argv[1], argv[2], &hint, &at) != 0)
		errx(2, "usage: chat ADDRESS PORT");
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	check(demi_socket(&listen_qd, at->ai_family, SOCK_STREAM, 0), "socket");
	check(demi_bind(listen_qd, at->ai_addr, at->ai_addrlen), "bind");
	check(demi_listen(listen_qd, CLIENTS_MAX), "listen");
	check(demi_queue(&hub_qd), "queue");
	for (int i = 0; i < CLIENTS_MAX; i++)
		check(demi_go(serve, &clients[i]), "go");
	for (;;) {
		check(demi_blocking_pop(&said, hub_qd), "pop");
		memcpy(&from, said.qr_value.sga.sga_segs[0].sgaseg_buf, sizeof(from));
		line.sga_segs[0] = said.qr_value.sga.sga_segs[1];
		for (to = clients; to < clients + CLIENTS_MAX; to++)
			if (to->here && to != from)
				demi_blocking_push(&pushed, to->qd, &line);
		check(demi_sgafree(&said.qr_value.sga), "sgafree");
	}
}
