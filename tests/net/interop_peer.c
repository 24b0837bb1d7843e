/* SPDX-License-Identifier: MIT
 * tests/net/interop_peer.c - our side of interop_test.py: a server or a client that does one thing
 * on each of its connections, over whatever libOS the environment names.
 *
 *	interop_peer serve|call ADDRESS PORT CONNECTIONS TASK [NUMBER...]
 *	interop_peer refused ADDRESS PORT
 *	interop_peer udp-serve|udp-call ADDRESS PORT ROUNDS SIZE
 *
 * Prints "ready" when it listens and "done" at its end.
 */
#include "net/interop.h"

#include <demi/coroutine.h>
#include <demi/memory.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERS_MAX 3

struct job {
	void (*task)(const struct job *job, int qd);
	unsigned long numbers[NUMBERS_MAX];
	unsigned connections;
	unsigned *ended;
	unsigned *met; /* connections that came as far as the meeting point */
};

static const struct timespec millisecond = {.tv_nsec = 1000000};

static void say(const char *word)
{
	(void)puts(word);
	(void)fflush(stdout);
}

/* ---- streams ---- */

/* Pushes bytes of the stream in pieces, each an object of its own, freed at once. */
static void push_stream(int qd, uint64_t bytes, uint64_t piece)
{
	for (uint64_t offset = 0; offset < bytes; offset += piece) {
		size_t n = (size_t)(bytes - offset < piece ? bytes - offset : piece);
		demi_sgarray_t sga = demi_sgaalloc(n);
		demi_qtoken_t qt;
		if (sga.sga_numsegs != 1)
			interop_fail("demi_sgaalloc of %zu bytes", n);
		interop_fill(offset, sga.sga_segs[0].sgaseg_buf, n);
		interop_must(demi_push(&qt, qd, &sga), "demi_push");
		interop_free(&sga);
		interop_must((int)interop_wait(qt).qr_ret, "push");
	}
}

/* Pops to the end of the stream, which is to be so long. */
static void pop_stream(int qd, uint64_t bytes)
{
	uint64_t offset = 0;
	size_t n;

	do {
		demi_sgarray_t sga = interop_pop(qd);
		n = interop_length(&sga);
		for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
			interop_check(offset, sga.sga_segs[i].sgaseg_buf,
				      sga.sga_segs[i].sgaseg_len);
			offset += sga.sga_segs[i].sgaseg_len;
		}
		interop_free(&sga);
	} while (n > 0);
	if (offset != bytes)
		interop_fail("%llu bytes, not %llu", (unsigned long long)offset,
			     (unsigned long long)bytes);
}

/* BYTES PIECE REPLY: sends, says that this was all, and gets a reply. */
static void task_send(const struct job *job, int qd)
{
	push_stream(qd, job->numbers[0], job->numbers[1]);
	interop_shut(qd);
	pop_stream(qd, job->numbers[2]);
}

/* BYTES REPLY: receives to the end, then replies. */
static void task_receive(const struct job *job, int qd)
{
	pop_stream(qd, job->numbers[0]);
	push_stream(qd, job->numbers[1], 1000);
}

static void task_echo(const struct job *job, int qd)
{
	(void)job;
	for (;;) {
		demi_sgarray_t sga = interop_pop(qd);
		demi_qtoken_t qt;
		size_t n = interop_length(&sga);
		if (n > 0) {
			interop_must(demi_push(&qt, qd, &sga), "demi_push");
			interop_must((int)interop_wait(qt).qr_ret, "push");
		}
		interop_free(&sga);
		if (n == 0)
			return;
	}
}

static void ask(int qd, uint64_t rounds, size_t size)
{
	uint8_t *bytes = malloc(size);

	for (uint64_t i = 0; i < rounds; i++) {
		interop_fill(i, bytes, size);
		interop_push(qd, bytes, size);
		memset(bytes, 0, size);
		interop_read(qd, bytes, size);
		interop_check(i, bytes, size);
	}
	free(bytes);
}

/* ROUNDS SIZE: question and answer. */
static void task_ask(const struct job *job, int qd)
{
	ask(qd, job->numbers[0], job->numbers[1]);
	interop_shut(qd);
	pop_stream(qd, 0);
}

/* Meets all other connections, between two rounds. */
static void task_meet(const struct job *job, int qd)
{
	ask(qd, 1, 100);
	(*job->met)++;
	while (*job->met < job->connections)
		interop_must(demi_sleep(&millisecond), "demi_sleep");
	ask(qd, 1, 200);
	interop_shut(qd);
	pop_stream(qd, 0);
}

/* ---- ends ---- */

/* BYTES: pops so many, then the peer resets. */
static void task_broken(const struct job *job, int qd)
{
	demi_qtoken_t qt;
	size_t length = job->numbers[0];
	uint8_t *bytes = malloc(length);

	interop_read(qd, bytes, length);
	interop_check(0, bytes, length);
	free(bytes);
	interop_push(qd, "!", 1);
	interop_must(demi_pop(&qt, qd), "demi_pop");
	demi_qresult_t qr = interop_wait(qt);
	if (qr.qr_ret != ECONNRESET)
		interop_fail("pop: %s", strerror((int)qr.qr_ret));
}

/* Waits for a byte and resets. */
static void task_reset(const struct job *job, int qd)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};
	char byte;

	(void)job;
	interop_read(qd, &byte, 1);
	interop_must(demi_setsockopt(qd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), "SO_LINGER");
}

/* ---- jobs ---- */

static const struct {
	const char *name;
	void (*task)(const struct job *job, int qd);
} tasks[] = {
	{"send", task_send}, {"receive", task_receive}, {"echo", task_echo},   {"ask", task_ask},
	{"meet", task_meet}, {"broken", task_broken},   {"reset", task_reset},
};

struct run {
	const struct job *job;
	int qd;
};

static void run_job(void *arg)
{
	struct run *run = arg;

	run->job->task(run->job, run->qd);
	interop_close(run->qd);
	(*run->job->ended)++;
	free(run);
}

static void begin_job(const struct job *job, int qd)
{
	struct run *run = malloc(sizeof(*run));

	*run = (struct run){.job = job, .qd = qd};
	interop_must(demi_go(run_job, run), "demi_go");
}

static void serve(const struct job *job, const char *address, const char *port)
{
	int listener = interop_listen(address, port, 1024);

	say("ready");
	for (unsigned i = 0; i < job->connections; i++)
		begin_job(job, interop_accept(listener));
	while (*job->ended < job->connections)
		interop_must(demi_sleep(&millisecond), "demi_sleep");
	interop_close(listener);
}

static void call(const struct job *job, const char *address, const char *port)
{
	for (unsigned i = 0; i < job->connections; i++)
		begin_job(job, interop_connect(address, port, SOCK_STREAM));
	while (*job->ended < job->connections)
		interop_must(demi_sleep(&millisecond), "demi_sleep");
}

static void prepare(struct job *job, int argc, char **argv)
{
	job->connections = (unsigned)strtoul(argv[0], NULL, 10);
	for (size_t i = 0; i < sizeof(tasks) / sizeof(tasks[0]); i++) {
		if (strcmp(tasks[i].name, argv[1]) == 0)
			job->task = tasks[i].task;
	}
	if (!job->task || argc > 2 + NUMBERS_MAX)
		interop_fail("%s: no such task", argv[1]);
	for (int i = 2; i < argc; i++)
		job->numbers[i - 2] = strtoul(argv[i], NULL, 10);
}

/* ---- others ---- */

static void refused(const char *address, const char *port)
{
	int error = interop_connect_error(address, port);

	if (error != ECONNREFUSED)
		interop_fail("connect: %s", strerror(error));
}

static void udp_serve(const char *address, const char *port, unsigned long rounds)
{
	int qd = interop_bind_udp(address, port);

	say("ready");
	for (unsigned long i = 0; i < rounds; i++) {
		struct sockaddr_storage from;
		socklen_t length = sizeof(from);
		demi_qtoken_t qt;
		demi_sgarray_t sga = interop_pop(qd);
		interop_must(demi_sgaaddr(&sga, (struct sockaddr *)&from, &length), "demi_sgaaddr");
		interop_must(demi_pushto(&qt, qd, &sga, (struct sockaddr *)&from, length),
			     "demi_pushto");
		interop_free(&sga);
		interop_must((int)interop_wait(qt).qr_ret, "pushto");
	}
	interop_close(qd);
}

static void udp_call(const char *address, const char *port, unsigned long rounds, size_t size)
{
	int qd = interop_connect(address, port, SOCK_DGRAM);

	ask(qd, rounds, size);
	interop_close(qd);
}

int main(int argc, char **argv)
{
	unsigned ended = 0;
	unsigned met = 0;
	struct job job = {.ended = &ended, .met = &met};
	const char *what = argc > 3 ? argv[1] : "";

	interop_begin();
	if (strcmp(what, "refused") == 0) {
		refused(argv[2], argv[3]);
	} else if (argc > 5 && strcmp(what, "udp-serve") == 0) {
		udp_serve(argv[2], argv[3], strtoul(argv[4], NULL, 10));
	} else if (argc > 5 && strcmp(what, "udp-call") == 0) {
		udp_call(argv[2], argv[3], strtoul(argv[4], NULL, 10), strtoul(argv[5], NULL, 10));
	} else if (argc > 5) {
		prepare(&job, argc - 4, argv + 4);
		if (strcmp(what, "serve") == 0)
			serve(&job, argv[2], argv[3]);
		else
			call(&job, argv[2], argv[3]);
	} else {
		interop_fail("usage: see the head of interop_peer.c");
	}
	interop_end();
	say("done");
	return 0;
}
