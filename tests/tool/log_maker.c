/* SPDX-License-Identifier: MIT
 * tests/tool/log_maker.c - makes logs for log_test.py by the public interface: log_maker PATH
 * STEP..., the steps in order.
 *
 * push=N,BYTES: N records, each its number and then '.'; bytes: one record that is no text;
 * truncate=N: before record number N; hold: prints a line, and waits for the end of the input;
 * crash: ends at once.  The offset of each record is printed.
 */
#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/storage.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORDS_MAX 100000

static off_t offsets[RECORDS_MAX];
static int pushed;

static void must(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "log_maker: %s: %s\n", what, strerror(error));
	exit(1);
}

static demi_qresult_t wait_for(demi_qtoken_t qt, const char *what)
{
	demi_qresult_t qr;

	must(demi_wait(&qr, qt, NULL), what);
	if (qr.qr_opcode == DEMI_OPC_FAILED)
		must((int)qr.qr_ret, what);
	return qr;
}

static void push(int qd, const void *data, size_t bytes)
{
	demi_sgarray_t sga = demi_sgaalloc(bytes);
	demi_qtoken_t qt;

	memcpy(sga.sga_segs[0].sgaseg_buf, data, bytes);
	must(demi_push(&qt, qd, &sga), "demi_push");
	must(demi_sgafree(&sga), "demi_sgafree");
	off_t offset = (off_t)wait_for(qt, "demi_push").qr_ret;
	if (pushed < RECORDS_MAX)
		offsets[pushed++] = offset;
	printf("%lld\n", (long long)offset);
}

static void push_many(int qd, char *words)
{
	char *rest;
	long count = strtol(words, &rest, 10);
	size_t bytes = strtoul(rest + 1, NULL, 10);
	char *data = malloc(bytes + 32);

	for (long i = 0; i < count && data; i++) {
		memset(data, '.', bytes + 32);
		int length = snprintf(data, 32, "record %d", pushed);
		data[length] = '.';
		push(qd, data, bytes);
	}
	free(data);
}

static void truncate_before(int qd, const char *word)
{
	demi_qtoken_t qt;

	must(demi_truncate(&qt, qd, offsets[strtol(word, NULL, 10)]), "demi_truncate");
	(void)wait_for(qt, "demi_truncate");
}

static void step(int qd, char *word)
{
	if (strncmp(word, "push=", 5) == 0)
		push_many(qd, word + 5);
	else if (strcmp(word, "bytes") == 0)
		push(qd, "\0\1\2\377", 4);
	else if (strncmp(word, "truncate=", 9) == 0)
		truncate_before(qd, word + 9);
	else
		must(EINVAL, word);
}

int main(int argc, char **argv)
{
	int qd;

	must(demi_init(&(struct demi_args){.argc = argc, .argv = argv}), "demi_init");
	if (argc < 2)
		return 2;
	must(demi_open(&qd, argv[1], O_RDWR | O_CREAT, 0600), "demi_open");
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "crash") == 0) {
			fflush(stdout);
			_exit(0);
		} else if (strcmp(argv[i], "hold") == 0) {
			puts("held");
			fflush(stdout);
			while (getchar() != EOF)
				;
		} else {
			step(qd, argv[i]);
		}
	}
	must(demi_close(qd), "demi_close");
	must(demi_fini(), "demi_fini");
	return 0;
}
