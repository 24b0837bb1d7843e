/* SPDX-License-Identifier: MIT
 * http_server.c - serves one file by HTTP/1.1 over any libOS: a coroutine a connection, kept alive.
 *
 * The file is in memory of the heap once; every answer pushes that memory, behind a head of its
 * own, without a copy where the libOS can.
 *
 * Run: build/examples/http_server 0.0.0.0 8080 FILE      then: curl http://127.0.0.1:8080/
 */
#define _POSIX_C_SOURCE 200809L
#include <demi/coroutine.h>
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <err.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HEAD_MAX 8192

static demi_sgarray_t file;

static void check(int error, const char *call)
{
	if (error != 0)
		errx(1, "%s: %s", call, strerror(error));
}

/* Pushes an array, which stays the caller's.  Returns whether it went out. */
static int push_all(int qd, const demi_sgarray_t *sga)
{
	demi_qtoken_t qt;
	demi_qresult_t qr;

	return demi_push(&qt, qd, sga) == 0 && demi_wait(&qr, qt, NULL) == 0 && qr.qr_ret == 0;
}

static int answer(int qd, const char *status, int with_body)
{
	size_t length = with_body ? file.sga_segs[0].sgaseg_len : 0;
	demi_sgarray_t head = demi_sgaalloc(256);
	int good;

	if (head.sga_numsegs == 0)
		return 0;
	head.sga_segs[0].sgaseg_len =
		(uint32_t)snprintf(head.sga_segs[0].sgaseg_buf, 256,
				   "HTTP/1.1 %s\r\nContent-Length: %zu\r\nContent-Type: "
				   "application/octet-stream\r\n\r\n",
				   status, length);
	good = push_all(qd, &head) && (!with_body || push_all(qd, &file));
	return demi_sgafree(&head) == 0 && good;
}

/* Answers a request whose head is whole.  Returns whether the connection goes on. */
static int serve(int qd, const char *head)
{
	if (strncmp(head, "GET ", 4) == 0)
		return answer(qd, "200 OK", 1) && !strstr(head, "\r\nConnection: close\r\n");
	return answer(qd, "501 Not Implemented", 0) && 0;
}

/* Takes what was received into the head, and answers each that becomes whole. */
static int take(int qd, char *head, size_t *used, const demi_sgarray_t *sga)
{
	const char *bytes = sga->sga_segs[0].sgaseg_buf;

	for (uint32_t i = 0; i < sga->sga_segs[0].sgaseg_len; i++) {
		if (*used == HEAD_MAX)
			return answer(qd, "431 Request Header Fields Too Large", 0) && 0;
		head[(*used)++] = bytes[i];
		head[*used] = '\0';
		if (*used < 4 || strcmp(head + *used - 4, "\r\n\r\n") != 0)
			continue;
		*used = 0;
		if (!serve(qd, head))
			return 0;
	}
	return sga->sga_segs[0].sgaseg_len > 0;
}

static void connection(void *arg)
{
	int qd = (int)(intptr_t)arg;
	char head[HEAD_MAX + 1];
	size_t used = 0;
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int on = 1;

	while (on && demi_pop(&qt, qd) == 0 && demi_wait(&qr, qt, NULL) == 0 && qr.qr_ret == 0) {
		on = take(qd, head, &used, &qr.qr_value.sga);
		check(demi_sgafree(&qr.qr_value.sga), "sgafree");
	}
	check(demi_close(qd), "close");
}

static void load(const char *path)
{
	FILE *from = fopen(path, "rb");
	long length;

	if (!from || fseek(from, 0, SEEK_END) != 0 || (length = ftell(from)) <= 0)
		err(1, "%s", path);
	rewind(from);
	file = demi_sgaalloc((size_t)length);
	if (file.sga_numsegs == 0)
		errx(1, "%s: no memory for %ld bytes", path, length);
	if (fread(file.sga_segs[0].sgaseg_buf, 1, (size_t)length, from) != (size_t)length)
		err(1, "%s", path);
	fclose(from);
}

int main(int argc, char **argv)
{
	struct addrinfo *at, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int qd;

	if (argc != 4 || getaddrinfo(argv[1], argv[2], &hint, &at) != 0)
		errx(2, "usage: http_server ADDRESS PORT FILE");
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	load(argv[3]);
	check(demi_socket(&qd, at->ai_family, SOCK_STREAM, 0), "socket");
	check(demi_bind(qd, at->ai_addr, at->ai_addrlen), "bind");
	freeaddrinfo(at);
	check(demi_listen(qd, 128), "listen");
	for (;;) {
		check(demi_accept(&qt, qd), "accept");
		check(demi_wait(&qr, qt, NULL), "wait");
		if (qr.qr_ret != 0)
			continue; /* one that went before it was accepted */
		check(demi_go(connection, (void *)(intptr_t)qr.qr_value.ares.qd), "go");
	}
}
