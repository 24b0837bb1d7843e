/* SPDX-License-Identifier: MIT
 * tests/net/interop_http.c - as much of an HTTP/1.1 server as curl needs, over our API.
 *
 *	interop_http ADDRESS PORT CONNECTIONS
 *
 * GET /N answers with N bytes of the stream.  PUT of bytes of the stream answers with their number.
 * Connections are kept; the server ends with the last of them.
 */
#include "net/interop.h"

#include <demi/coroutine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEAD_MAX  4096
#define BODY_PART 65536

/* What was received and not yet used. */
struct input {
	int qd;
	demi_sgarray_t sga;
	size_t used;
	bool there;
};

static unsigned ended;

/* The next bytes, at least one; NULL: the end. */
static const char *next_bytes(struct input *input, size_t *length)
{
	if (input->there && input->used == input->sga.sga_segs[0].sgaseg_len) {
		interop_free(&input->sga);
		input->there = false;
	}
	if (!input->there) {
		input->sga = interop_pop(input->qd);
		input->used = 0;
		input->there = interop_length(&input->sga) > 0;
		if (!input->there)
			interop_free(&input->sga);
	}
	if (!input->there)
		return NULL;
	*length = input->sga.sga_segs[0].sgaseg_len - input->used;
	return (const char *)input->sga.sga_segs[0].sgaseg_buf + input->used;
}

/* Reads to the empty line.  False: the end came instead. */
static bool read_head(struct input *input, char head[HEAD_MAX])
{
	size_t length;
	size_t got = 0;
	const char *at;

	while ((at = next_bytes(input, &length))) {
		head[got++] = *at;
		input->used++;
		head[got] = '\0';
		if (got >= 4 && strcmp(head + got - 4, "\r\n\r\n") == 0)
			return true;
		if (got == HEAD_MAX - 1)
			interop_fail("the head of a request is too long");
	}
	if (got > 0)
		interop_fail("a request ends in its head");
	return false;
}

static uint64_t header_number(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void answer(int qd, uint64_t length, const char *text)
{
	char head[256];
	uint8_t *part = malloc(BODY_PART);
	int n = snprintf(head, sizeof(head),
			 "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n"
			 "Content-Type: application/octet-stream\r\n\r\n%s",
			 (unsigned long long)length, text);

	interop_push(qd, head, (size_t)n);
	for (uint64_t done = strlen(text); done < length; done += BODY_PART) {
		size_t size = length - done < BODY_PART ? (size_t)(length - done) : BODY_PART;
		interop_fill(done, part, size);
		interop_push(qd, part, size);
	}
	free(part);
}

static void take_body(struct input *input, uint64_t length)
{
	char text[32];
	uint64_t offset = 0;

	while (offset < length) {
		size_t n;
		const char *at = next_bytes(input, &n);
		if (!at || n > length - offset)
			interop_fail("a body of another length than was told");
		interop_check(offset, at, n);
		input->used += n;
		offset += n;
	}
	(void)snprintf(text, sizeof(text), "%llu\n", (unsigned long long)length);
	answer(input->qd, strlen(text), text);
}

static void serve(void *arg)
{
	struct input input = {.qd = *(int *)arg};
	char *head = malloc(HEAD_MAX);

	while (read_head(&input, head)) {
		if (strncmp(head, "GET /", 5) == 0) {
			answer(input.qd, strtoull(head + 5, NULL, 10), "");
		} else if (strncmp(head, "PUT ", 4) == 0) {
			if (strcasestr(head, "\r\nexpect: 100-continue"))
				interop_push(input.qd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
			take_body(&input, header_number(head, "\r\ncontent-length:"));
		} else {
			interop_fail("no request: %.40s", head);
		}
	}
	interop_close(input.qd);
	free(head);
	free(arg);
	ended++;
}

int main(int argc, char **argv)
{
	const struct timespec millisecond = {.tv_nsec = 1000000};

	if (argc != 4)
		interop_fail("usage: interop_http ADDRESS PORT CONNECTIONS");
	unsigned connections = (unsigned)strtoul(argv[3], NULL, 10);
	interop_begin();
	int listener = interop_listen(argv[1], argv[2], 64);
	(void)puts("ready");
	(void)fflush(stdout);
	for (unsigned i = 0; i < connections; i++) {
		int *qd = malloc(sizeof(*qd));
		*qd = interop_accept(listener);
		interop_must(demi_go(serve, qd), "demi_go");
	}
	while (ended < connections)
		interop_must(demi_sleep(&millisecond), "demi_sleep");
	interop_close(listener);
	interop_end();
	(void)puts("done");
	return 0;
}
