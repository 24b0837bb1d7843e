/* SPDX-License-Identifier: MIT
 * tools/demi/log_loops.c - the loops that `demi bench log` times.
 */
#include "log_loops.h"

#include "tool.h"

#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- figures ---- */

void log_figures_init(struct log_figures *figures, unsigned rounds_max)
{
	memset(figures, 0, sizeof(*figures));
	figures->p50_ns = tool_alloc(rounds_max, sizeof(double));
	figures->per_s = tool_alloc(rounds_max, sizeof(double));
	figures->bytes_per_s = tool_alloc(rounds_max, sizeof(double));
}

void log_figures_reset(struct log_figures *figures)
{
	histogram_reset(&figures->latency);
	figures->operations = figures->bytes = figures->elapsed_ns = 0;
	figures->rounds = 0;
}

void log_figures_free(struct log_figures *figures)
{
	free(figures->p50_ns);
	free(figures->per_s);
	free(figures->bytes_per_s);
}

/* Ends a round that took so long. */
static void end_round(struct log_figures *figures, uint64_t bytes, uint64_t elapsed_ns)
{
	uint64_t operations = figures->round_latency.count;
	double seconds = (double)(elapsed_ns ? elapsed_ns : 1) / 1e9;

	figures->p50_ns[figures->rounds] =
		(double)histogram_percentile(&figures->round_latency, 0.5);
	figures->per_s[figures->rounds] = (double)operations / seconds;
	figures->bytes_per_s[figures->rounds++] = (double)bytes / seconds;
	figures->operations += operations;
	figures->bytes += bytes;
	figures->elapsed_ns += elapsed_ns;
	histogram_merge(&figures->latency, &figures->round_latency);
	histogram_reset(&figures->round_latency);
}

/* ---- a log ---- */

/* Operations under way, and when each was begun. */
struct round {
	struct log_load *load;
	demi_sgarray_t record; /* what is appended: pushing copies */
	bool pops;
	demi_qtoken_t tokens[LOG_OUTSTANDING_MAX];
	uint64_t begun_ns[LOG_OUTSTANDING_MAX];
	int under_way;
	uint64_t begun;
};

static int issue(struct round *round, int at, uint64_t now_ns)
{
	round->begun_ns[at] = now_ns;
	round->begun++;
	return -(round->pops ? demi_pop(&round->tokens[at], round->load->qd)
			     : demi_push(&round->tokens[at], round->load->qd, &round->record));
}

/* Waits for one of those under way; *at tells which. */
static int await(struct round *round, int *at)
{
	demi_qresult_t qr;
	int error = 0;

	*at = 0;
	if (round->load->outstanding == 1)
		error = demi_wait(&qr, round->tokens[0], NULL);
	else
		error = demi_wait_any(&qr, at, round->tokens, round->under_way, NULL);
	if (error || qr.qr_opcode == DEMI_OPC_FAILED)
		return error ? -error : -(int)qr.qr_ret;
	if (round->pops)
		return -demi_sgafree(&qr.qr_value.sga);
	round->load->last_offset = qr.qr_ret;
	return 0;
}

/* The last token takes the place of one that has no successor. */
static void drop(struct round *round, int at)
{
	round->under_way--;
	round->tokens[at] = round->tokens[round->under_way];
	round->begun_ns[at] = round->begun_ns[round->under_way];
}

static int run(struct round *round, const struct log_limits *limits, struct log_figures *figures)
{
	uint64_t begin_ns = clock_now_ns();
	uint64_t now_ns = begin_ns;
	int error = 0;

	for (; !error && round->begun < limits->operations &&
	       round->under_way < (int)round->load->outstanding;
	     round->under_way++)
		error = issue(round, round->under_way, now_ns);
	while (!error && round->under_way > 0) {
		int at;
		error = await(round, &at);
		now_ns = clock_now_ns();
		histogram_record(&figures->round_latency, now_ns - round->begun_ns[at]);
		if (round->begun >= limits->operations || now_ns - begin_ns >= limits->ns)
			drop(round, at);
		else if (!error)
			error = issue(round, at, now_ns);
	}
	end_round(figures,
		  round->pops ? round->load->file_bytes : round->begun * round->load->size_bytes,
		  now_ns - begin_ns);
	return error;
}

int log_append(struct log_load *load, const struct log_limits *limits, struct log_figures *figures)
{
	struct round round = {.load = load, .record = demi_sgaalloc(load->size_bytes)};

	if (round.record.sga_numsegs == 0)
		return -ENOMEM;
	memset(round.record.sga_segs[0].sgaseg_buf, 0x5a, load->size_bytes);
	int error = run(&round, limits, figures);
	(void)demi_sgafree(&round.record);
	return error;
}

int log_pop(struct log_load *load, const struct log_limits *limits, struct log_figures *figures)
{
	struct round round = {.load = load, .pops = true};

	return run(&round, limits, figures);
}

/* ---- a plain file ---- */

int log_plain_write(struct log_plain *plain, const struct log_limits *limits,
		    struct log_figures *figures)
{
	const struct iovec piece = {.iov_base = plain->buffer, .iov_len = plain->piece_bytes};
	uint64_t begin_ns = clock_now_ns();
	uint64_t now_ns = begin_ns;
	uint64_t bytes = 0;

	do {
		if (plain->at + plain->piece_bytes > plain->end)
			plain->at = plain->begin;
		if (pwritev2(plain->fd, &piece, 1, (off_t)plain->at, RWF_DSYNC) !=
		    (ssize_t)plain->piece_bytes)
			return errno ? -errno : -EIO;
		uint64_t after_ns = clock_now_ns();
		histogram_record(&figures->round_latency, after_ns - now_ns);
		now_ns = after_ns;
		plain->at += plain->piece_bytes;
		bytes += plain->piece_bytes;
	} while (now_ns - begin_ns < limits->ns &&
		 figures->round_latency.count < limits->operations);
	end_round(figures, bytes, now_ns - begin_ns);
	return 0;
}

int log_plain_read(struct log_plain *plain, struct log_figures *figures)
{
	uint64_t begin_ns = clock_now_ns();
	uint64_t now_ns = begin_ns;

	for (plain->at = plain->begin; plain->at < plain->end;) {
		uint64_t left = plain->end - plain->at;
		size_t some = left < plain->piece_bytes ? (size_t)left : (size_t)plain->piece_bytes;
		ssize_t got = pread(plain->fd, plain->buffer, some, (off_t)plain->at);
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		uint64_t after_ns = clock_now_ns();
		histogram_record(&figures->round_latency, after_ns - now_ns);
		now_ns = after_ns;
		plain->at += (uint64_t)got;
	}
	end_round(figures, plain->end - plain->begin, now_ns - begin_ns);
	return 0;
}
