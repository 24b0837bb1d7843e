/* SPDX-License-Identifier: MIT
 * tests/lab/append.c - appends to a log on a drive for ever, until the power is cut (lab/cut.py):
 * first it checks that what was acknowledged before the last cut is there, in order, and nothing
 * else.
 *
 *	lab_append DRIVER DEVICE STATE		writes STATE.ready when it has checked
 *	lab_append DRIVER DEVICE STATE check	ends then
 *
 * STATE, which outlives the cut, says what was asked and told. It is rewritten at each step: what
 *is asked before it is, what was told after. Status 3: a promise is broken.
 */
#include "crash/numbered.h"

#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/storage.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define OUTSTANDING 16
#define KEPT        64 /* records; those before are truncated now and then */
#define TRUNCATED   16 /* at a time */
#define NUMBERS     6

/* Numbers of records. */
static struct {
	uint64_t pushed;
	uint64_t acknowledged;
	uint64_t head; /* truncation up to it was asked for */
	uint64_t head_told;
	uint64_t lost;   /* of those pushed, in all cuts: none of them acknowledged */
	uint64_t unsure; /* there, but not acknowledged before the cut: in all cuts */
} state;

static int state_fd;

static void must(int error, const char *what)
{
	if (!error)
		return;
	(void)fprintf(stderr, "lab_append: %s: %s\n", what, strerror(error));
	exit(1);
}

static _Noreturn void broken(const char *promise, uint64_t first, uint64_t last)
{
	(void)fprintf(stderr,
		      "lab_append: %s: there are %" PRIu64 " to %" PRIu64 "; pushed to %" PRIu64
		      ", acknowledged to %" PRIu64 ", truncated to %" PRIu64 ", told %" PRIu64 "\n",
		      promise, first, last, state.pushed, state.acknowledged, state.head,
		      state.head_told);
	exit(NUMBERED_BROKEN);
}

/* ---- the state: a line of always the same length ---- */

static void state_write(void)
{
	char line[NUMBERS * 21 + 1];
	int length = snprintf(line, sizeof(line),
			      "%20" PRIu64 " %20" PRIu64 " %20" PRIu64 " %20" PRIu64 " %20" PRIu64
			      " %20" PRIu64 "\n",
			      state.pushed, state.acknowledged, state.head, state.head_told,
			      state.lost, state.unsure);

	must(pwrite(state_fd, line, (size_t)length, 0) == length ? 0 : EIO, "state");
}

/* None yet: nothing was ever asked. */
static void state_read(const char *path)
{
	uint64_t *const numbers[NUMBERS] = {&state.pushed,    &state.acknowledged, &state.head,
					    &state.head_told, &state.lost,         &state.unsure};
	char line[NUMBERS * 21 + 1] = "";
	char *rest = line;

	state_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(state_fd < 0 ? errno : 0, path);
	ssize_t bytes = pread(state_fd, line, sizeof(line) - 1, 0);
	must(bytes < 0 ? errno : 0, path);
	for (int i = 0; i < NUMBERS && bytes > 0; i++)
		*numbers[i] = strtoull(rest, &rest, 10);
	if (bytes == 0)
		state.head = state.head_told = 1;
}

static void say_ready(const char *path)
{
	char name[4096];

	(void)snprintf(name, sizeof(name), "%s.ready", path);
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	must(fd < 0 ? errno : 0, name);
	must(write(fd, "ready\n", 6) == 6 ? 0 : EIO, name);
	(void)close(fd);
}

/* ---- the log ---- */

static void check(int qd)
{
	static const struct timespec patience = {.tv_sec = 2}; /* of a machine in software */
	uint64_t first;
	uint64_t last = numbered_read(qd, &patience, &first);

	if (last < state.acknowledged)
		broken("acknowledged, and gone", first, last);
	if (last > state.pushed)
		broken("there, and never pushed", first, last);
	if (last > 0 && first < state.head_told)
		broken("truncated, and there", first, last);
	if (last > 0 && first > state.head && first != 1)
		broken("not truncated, and gone", first, last);
	(void)printf("# %" PRIu64 " to %" PRIu64 " are there; pushed to %" PRIu64
		     ", acknowledged to %" PRIu64 "\n",
		     first, last, state.pushed, state.acknowledged);
	state.lost += state.pushed - last;
	state.unsure += last - state.acknowledged;
	state.pushed = state.acknowledged = last;
	state.head = state.head_told = first ? first : 1;
	state_write();
}

static void push(int qd, demi_qtoken_t *qt)
{
	state.pushed++;
	state_write();
	*qt = numbered_push(qd, state.pushed);
}

static void truncate_to(int qd, uint64_t number, off_t offset)
{
	demi_qtoken_t qt;
	demi_qresult_t qr;

	state.head = number;
	state_write();
	must(demi_truncate(&qt, qd, offset), "demi_truncate");
	must(demi_wait(&qr, qt, NULL), "demi_wait");
	must(qr.qr_opcode == DEMI_OPC_FAILED ? (int)qr.qr_ret : 0, "truncation");
	state.head_told = number;
	state_write();
}

static _Noreturn void append_for_ever(int qd)
{
	static off_t offsets[KEPT];
	demi_qtoken_t qts[OUTSTANDING];
	const uint64_t first = state.pushed + 1;

	for (uint32_t i = 0; i < OUTSTANDING; i++)
		push(qd, &qts[i]);
	for (uint64_t number = first;; number++) {
		demi_qtoken_t *qt = &qts[(number - first) % OUTSTANDING];
		off_t *oldest = &offsets[number % KEPT];
		demi_qresult_t qr;
		must(demi_wait(&qr, *qt, NULL), "demi_wait");
		must(qr.qr_opcode == DEMI_OPC_FAILED ? (int)qr.qr_ret : 0, "push");
		state.acknowledged = number;
		state_write();
		if (number % TRUNCATED == 0 && number >= first + KEPT)
			truncate_to(qd, number - KEPT, *oldest);
		*oldest = qr.qr_ret;
		push(qd, qt);
	}
}

int main(int argc, char **argv)
{
	static const struct demi_args args;
	const bool checks_only = argc == 5 && strcmp(argv[4], "check") == 0;
	int qd;

	if (argc != 4 && !checks_only) {
		(void)fprintf(stderr, "usage: lab_append DRIVER DEVICE STATE [check]\n");
		return 2;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	state_read(argv[3]);
	must(demi_set_config("stat_socket", "off"), "stat_socket");
	must(demi_set_config("storage_driver", argv[1]), argv[1]);
	must(demi_set_config("storage_device", argv[2]), argv[2]);
	must(demi_set_config("storage_segment_bytes", "1048576"), "storage_segment_bytes");
	must(demi_init(&args), "demi_init");
	must(demi_open(&qd, "log", O_RDWR | O_CREAT, 0600), "demi_open");
	check(qd);
	if (!checks_only) {
		say_ready(argv[3]);
		append_for_ever(qd);
	}
	must(demi_close(qd), "demi_close");
	must(demi_fini(), "demi_fini");
	return 0;
}
