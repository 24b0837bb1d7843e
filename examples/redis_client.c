/* SPDX-License-Identifier: MIT
 * redis_client.c - sets and gets keys of a Redis server over any libOS, many commands in flight.
 *
 * Writes COUNT keys with values of BYTES bytes in batches of up to 100 commands (RESP, Redis'
 * protocol), reads them back the same way and compares.
 *
 * Run: build/examples/redis_client 127.0.0.1 6379 [COUNT [BYTES]]
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

#define BATCH 100

static int qd;

/* What was received and not yet read. */
static struct {
	demi_sgarray_t sga;
	size_t used;
	int there;
} input;

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

/* ---- answers ---- */

static char next_byte(void)
{
	demi_qtoken_t qt;
	demi_qresult_t qr;

	if (input.there && input.used == input.sga.sga_segs[0].sgaseg_len) {
		check(demi_sgafree(&input.sga), "sgafree");
		input.there = 0;
	}
	if (!input.there) {
		check(demi_pop(&qt, qd), "pop");
		await(&qr, qt, "pop");
		input.sga = qr.qr_value.sga;
		input.used = 0;
		input.there = 1;
		if (input.sga.sga_segs[0].sgaseg_len == 0)
			errx(1, "the server closed the connection");
	}
	return ((const char *)input.sga.sga_segs[0].sgaseg_buf)[input.used++];
}

static void expect(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (next_byte() != bytes[i])
			errx(1, "the server answers something else than \"%.40s\"", bytes);
	}
}

/* ---- commands ---- */

/* The value of a key: its number, again and again. */
static void fill(char *value, size_t bytes, unsigned long key)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%lu.", key);

	for (size_t i = 0; i < bytes; i++)
		value[i] = text[i % (size_t)length];
}

static size_t write_set(char *at, unsigned long key, const char *value, size_t bytes)
{
	char name[24];
	int length = snprintf(name, sizeof(name), "key:%lu", key);
	int head =
		snprintf(at, 128, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n", length, name, bytes);

	memcpy(at + head, value, bytes);
	at[(size_t)head + bytes] = '\r';
	at[(size_t)head + bytes + 1] = '\n';
	return (size_t)head + bytes + 2;
}

static size_t write_get(char *at, unsigned long key)
{
	char name[24];
	int length = snprintf(name, sizeof(name), "key:%lu", key);

	return (size_t)snprintf(at, 128, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", length, name);
}

/* Sends count commands from key first on, and reads their answers. */
static void run_batch(unsigned long first, unsigned long count, char *value, size_t bytes, int set)
{
	demi_sgarray_t sga = demi_sgaalloc(count * (128 + (set ? bytes : 0)));
	char *at = sga.sga_numsegs ? sga.sga_segs[0].sgaseg_buf : NULL;
	size_t length = 0;
	demi_qtoken_t qt;
	demi_qresult_t qr;
	char head[32];

	if (!at)
		errx(1, "no memory for a batch");
	for (unsigned long i = 0; i < count; i++) {
		fill(value, bytes, first + i);
		length += set ? write_set(at + length, first + i, value, bytes)
			      : write_get(at + length, first + i);
	}
	sga.sga_segs[0].sgaseg_len = (uint32_t)length;
	check(demi_push(&qt, qd, &sga), "push");
	check(demi_sgafree(&sga), "sgafree"); /* legal at once */
	for (unsigned long i = 0; i < count; i++) {
		if (set) {
			expect("+OK\r\n", 5);
			continue;
		}
		fill(value, bytes, first + i);
		expect(head, (size_t)snprintf(head, sizeof(head), "$%zu\r\n", bytes));
		expect(value, bytes);
		expect("\r\n", 2);
	}
	await(&qr, qt, "push");
}

static void run_all(unsigned long count, size_t bytes, int set)
{
	char *value = malloc(bytes ? bytes : 1);

	if (!value)
		errx(1, "no memory");
	for (unsigned long done = 0; done < count; done += BATCH)
		run_batch(done, count - done < BATCH ? count - done : BATCH, value, bytes, set);
	free(value);
}

int main(int argc, char **argv)
{
	struct addrinfo *to, hint = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	unsigned long count = argc > 3 ? strtoul(argv[3], NULL, 10) : 1000;
	size_t bytes = argc > 4 ? strtoul(argv[4], NULL, 10) : 64;
	demi_qtoken_t qt;
	demi_qresult_t qr;

	if (argc < 3 || getaddrinfo(argv[1], argv[2], &hint, &to) != 0 || bytes > 16 << 20)
		errx(2, "usage: redis_client ADDRESS PORT [COUNT [BYTES]]");
	check(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "init");
	check(demi_socket(&qd, to->ai_family, SOCK_STREAM, 0), "socket");
	check(demi_connect(&qt, qd, to->ai_addr, to->ai_addrlen), "connect");
	await(&qr, qt, "connect");
	freeaddrinfo(to);
	run_all(count, bytes, 1);
	run_all(count, bytes, 0);
	printf("%lu keys of %zu bytes set, read back and compared\n", count, bytes);
	if (input.there)
		check(demi_sgafree(&input.sga), "sgafree");
	check(demi_close(qd), "close");
	check(demi_fini(), "fini");
	return 0;
}
