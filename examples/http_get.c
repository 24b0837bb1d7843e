/* SPDX-License-Identifier: MIT
 * http_get.c - fetches one file by HTTP/1.1 over any libOS, and writes its body to standard output.
 *
 * Asks the server to close the connection after its answer, so the end of the body is the end of
 * the stream; Content-Length, if there is one, must agree with it.
 *
 * Run: build/examples/http_get 127.0.0.1 80 /index.html [TIMES]     (TIMES connections, one by one)
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
#include <strings.h>

#define HEAD_MAX 8192

/* What has come of an answer. */
struct answer {
	char head[HEAD_MAX + 1];
	size_t head_bytes;
	int whole; /* the head is: what comes now is body */
	unsigned long long body_bytes;
};

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

static void push_text(int qd, const char *text)
{
	demi_sgarray_t sga = demi_sgaalloc(strlen(text));
	demi_qtoken_t qt;
	demi_qresult_t qr;

	if (sga.sga_numsegs == 0)
		errx(1, "no memory");
	memcpy(sga.sga_segs[0].sgaseg_buf, text, strlen(text));
	check(demi_push(&qt, qd, &sga), "push");
	await(&qr, qt, "push");
	check(demi_sgafree(&sga), "sgafree");
}

/* Takes bytes into the head until it is whole.  Returns how many. */
static size_t take_head(struct answer *answer, const char *bytes, size_t length)
{
	size_t used = 0;

	while (!answer->whole && used < length) {
		if (answer->head_bytes == HEAD_MAX)
			errx(1, "the head of the answer is longer than %d bytes", HEAD_MAX);
		answer->head[answer->head_bytes++] = bytes[used++];
		answer->head[answer->head_bytes] = '\0';
		answer->whole = answer->head_bytes >= 4 &&
				strcmp(answer->head + answer->head_bytes - 4, "\r\n\r\n") == 0;
	}
	return used;
}

static void take(struct answer *answer, const char *bytes, size_t length)
{
	size_t used = take_head(answer, bytes, length);

	answer->body_bytes += length - used;
	if (length > used && fwrite(bytes + used, 1, length - used, stdout) != length - used)
		err(1, "standard output");
}

/* What the head says of the length; NULL: nothing. */
static const char *content_length(const char *head)
{
	static const char name[] = "\r\nContent-Length:";

	for (; *head; head++) {
		if (strncasecmp(head, name, strlen(name)) == 0)
			return head + strlen(name);
	}
	return NULL;
}

/* The end of the stream has come: was that all, and good? */
static void conclude(const struct answer *answer)
{
	const char *length = content_length(answer->head);

	if (!answer->whole || strncmp(answer->head, "HTTP/1.1 200 ", 13) != 0)
		errx(1, "the answer: %.*s", (int)strcspn(answer->head, "\r\n"), answer->head);
	if (length && strtoull(length, NULL, 10) != answer->body_bytes)
		errx(1, "the body has %llu bytes, its head says:%.*s", answer->body_bytes,
		     (int)strcspn(length, "\r"), length);
}

/* One request on a connection of its own. */
static void get(const struct addrinfo *to, const char *host, const char *path)
{
	struct answer answer = {.head_bytes = 0};
	char request[2048];
	demi_qtoken_t qt;
	demi_qresult_t qr;
	size_t length;
	int qd;

	check(demi_socket(&qd, to->ai_family, SOCK_STREAM, 0), "socket");
	check(demi_connect(&qt, qd, to->ai_addr, to->ai_addrlen), "connect");
	await(&qr, qt, "connect");
	if (snprintf(request, sizeof(request),
		     "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path,
		     host) >= (int)sizeof(request))
		errx(2, "the path is too long");
	push_text(qd, request);
	do {
		check(demi_pop(&qt, qd), "pop");
		await(&qr, qt, "pop");
		length = 0;
		for (uint32_t i = 0; i < qr.qr_value.sga.sga_numsegs; i++) {
			demi_sgaseg_t seg = qr.qr_value.sga.sga_segs[i];
			take(&answer, seg.sgaseg_buf, seg.sgaseg_len);
			length += seg.sgaseg_len;
		}
		check(demi_sgafree(&qr.qr_value.sga), "sgafree");
	} while (length > 0);
	conclude(&answer);
	check(demi_close(qd), "close");
}

int main(int argc, char **argv)
{
	struct addrinfo *to, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	unsigned long times = argc > 4 ? strtoul(argv[4], NULL, 10) : 1;

	if (argc < 4 || argv[3][0] != '/' || getaddrinfo(argv[1], argv[2], &hint, &to) != 0)
		errx(2, "usage: http_get ADDRESS PORT /PATH [TIMES]");
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	for (unsigned long i = 0; i < times; i++)
		get(to, argv[1], argv[3]);
	freeaddrinfo(to);
	check(demi_fini(), "fini");
	if (fflush(stdout) != 0)
		err(1, "standard output");
	return 0;
}
