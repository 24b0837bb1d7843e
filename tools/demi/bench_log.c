/* SPDX-License-Identifier: MIT
 * tools/demi/bench_log.c - `demi bench log`: what durable appends and reads of a log cost, beside
 * the file that it is in.
 *
 * All contestants of a part run in turn, and that several times: a ratio is the median of the
 * ratios within a round.  The reference of an append writes into blocks of the log's own file: the
 * end of its segment, to which the log does not come in this run.
 */
#include "instance.h"
#include "log_file.h"
#include "log_loops.h"
#include "median.h"
#include "options.h"
#include "process.h"
#include "report.h"
#include "tool.h"

#include <demi/instance.h>
#include <demi/libos.h>
#include <demi/storage.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES   4096U
#define HEADER_BYTES  48U     /* of a record */
#define SEGMENTS_AT   131072U /* in a file */
#define SEGMENT_BYTES (256ULL << 20)
#define SEGMENT_TEXT  "268435456"
#define PLAIN_BYTES   (16ULL << 20) /* of the segment's end, the reference's */
#define LOG_BYTES     (SEGMENT_BYTES - 2 * PLAIN_BYTES)
#define ROUND_BYTES   (4ULL << 20) /* of a log, in one run at most */
#define POP_BYTES     (32ULL << 20)
#define POP_RECORDS   65536U /* at most */
#define READ_BYTES    131072U
#define WARMUP        64
#define MANY          32 /* operations outstanding, of rows that do not have one */

/* In memory: so little that it stays in the caches, as it would where a drive fetches it itself. */
#define MEMORY_TEXT         "8M"
#define MEMORY_SEGMENT_TEXT "1048576"
#define MEMORY_ROUND_BYTES  (2ULL << 20) /* in one run */
#define MEMORY_ROUNDS       20           /* for one of the other parts: they are short */

#define PAIRS_DEFAULT   21
#define PAIRS_MAX       1001
#define SECONDS_DEFAULT 0.04

struct log_options {
	const char *part, *file, *json, *only;
	uint64_t pairs, count, core;
	double seconds;
};

struct log_bench {
	struct log_options options;
	struct report report;
	struct log_load load;
	struct log_plain plain;
	struct log_figures one, many, reference;
};

static const uint64_t sizes[] = {64, 4096};

static uint64_t record_blocks_bytes(uint64_t size)
{
	return (size + HEADER_BYTES + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

static int fail(const char *what, int error)
{
	tool_complain("%s: %s", what, strerror(-error));
	return error;
}

/* ---- logs ---- */

/* NULL: as file and environment say. */
static int configure(const char *driver, const char *device, const char *segment)
{
	int error = demi_set_config("demitasse.storage.driver", driver);

	if (!error)
		error = demi_set_config("demitasse.storage.device", device);
	if (!error)
		error = demi_set_config("demitasse.storage.segment_bytes", segment);
	return -error;
}

static int open_instance(const char *driver, const char *device, const char *segment)
{
	char message[256] = "";
	int error = configure(driver, device, segment);

	if (!error)
		error = instance_open("catnap", NULL, "busy", message, sizeof(message));
	if (error)
		tool_complain("%s", message[0] ? message : strerror(-error));
	return error;
}

/* An instance and a log in a file of its own, and its first records: its segment is there then. */
static int open_file(struct log_bench *bench, uint64_t size)
{
	const struct log_limits warmup = {UINT64_MAX, WARMUP};
	char path[LOG_FILE_PATH_MAX];
	int error = open_instance(NULL, "", SEGMENT_TEXT);

	if (error)
		return error;
	log_file_path(path, sizeof(path), "log");
	if (bench->options.file)
		tool_copy_text(path, sizeof(path), bench->options.file);
	bench->load = (struct log_load){.outstanding = 1, .size_bytes = size};
	bench->plain = (struct log_plain){.fd = -1};
	error = log_file_queue(path, &bench->load.qd, &bench->plain.fd);
	if (error) {
		instance_close();
		return fail(path, error);
	}
	error = log_append(&bench->load, &warmup, &bench->one);
	log_figures_reset(&bench->one);
	return error;
}

static void close_file(struct log_bench *bench)
{
	demi_close(bench->load.qd);
	instance_close();
	if (bench->plain.fd >= 0)
		close(bench->plain.fd);
	free(bench->plain.buffer);
}

static void begin_figures(struct log_bench *bench)
{
	unsigned rounds = MEMORY_ROUNDS * (unsigned)bench->options.pairs;

	log_figures_init(&bench->one, rounds);
	log_figures_init(&bench->many, rounds);
	log_figures_init(&bench->reference, rounds);
}

static void end_figures(struct log_bench *bench)
{
	log_figures_free(&bench->one);
	log_figures_free(&bench->many);
	log_figures_free(&bench->reference);
}

static int run_append(struct log_bench *bench, unsigned outstanding, uint64_t operations)
{
	const struct log_limits limits = {(uint64_t)(bench->options.seconds * 1e9), operations};

	bench->load.outstanding = outstanding;
	return log_append(&bench->load, &limits, outstanding == 1 ? &bench->one : &bench->many);
}

/* ---- rows ---- */

struct row_kind {
	const char *what, *reference;
	unsigned outstanding;
	double ratio;
};

static void add_row(struct log_bench *bench, const struct row_kind *kind,
		    const struct log_figures *figures, const struct log_figures *reference)
{
	struct row *row = report_add(&bench->report);
	double seconds = (double)figures->elapsed_ns / 1e9;

	row_text(row, "what", kind->what);
	row_whole(row, "size_bytes", bench->load.size_bytes);
	row_whole(row, "outstanding", kind->outstanding);
	row_whole(row, "latency_p50_ns", histogram_percentile(&figures->latency, 0.5));
	row_whole(row, "latency_p99_ns", histogram_percentile(&figures->latency, 0.99));
	row_number(row, "records_per_s", (double)figures->operations / seconds);
	row_number(row, "bytes_per_s", (double)figures->bytes / seconds);
	if (!reference) {
		row_null(row, "reference");
		row_null(row, "ratio");
		return;
	}
	row_text(row, "reference", kind->reference);
	row_whole(row, "reference_p50_ns", histogram_percentile(&reference->latency, 0.5));
	row_number(row, "reference_bytes_per_s",
		   (double)reference->bytes * 1e9 / (double)reference->elapsed_ns);
	row_number(row, "ratio", kind->ratio);
	row_whole(row, "pairs", figures->rounds);
}

static void add_many(struct log_bench *bench, const char *what)
{
	const struct row_kind kind = {
		.what = what,
		.reference = "1 outstanding",
		.outstanding = MANY,
		.ratio = median_ratio(bench->many.per_s, bench->one.per_s, bench->many.rounds)};

	add_row(bench, &kind, &bench->many, &bench->one);
}

/* ---- append ---- */

/* The reference's blocks, written once. */
static int open_plain(struct log_bench *bench)
{
	struct log_plain *plain = &bench->plain;

	plain->piece_bytes = record_blocks_bytes(bench->load.size_bytes);
	plain->end = SEGMENTS_AT + SEGMENT_BYTES;
	plain->begin = plain->at = plain->end - PLAIN_BYTES;
	plain->buffer = aligned_alloc(BLOCK_BYTES, plain->piece_bytes);
	if (!plain->buffer)
		return -ENOMEM;
	memset(plain->buffer, 0x5a, plain->piece_bytes);
	return log_file_zero(plain->fd, plain->begin, PLAIN_BYTES);
}

static int append_rounds(struct log_bench *bench)
{
	uint64_t operations = ROUND_BYTES / bench->plain.piece_bytes;
	const struct log_limits limits = {(uint64_t)(bench->options.seconds * 1e9), operations};
	int error = 0;

	for (unsigned i = 0; !error && i < bench->options.pairs; i++) {
		if ((uint64_t)bench->load.last_offset % SEGMENT_BYTES > LOG_BYTES)
			break;
		progress_show("log: append, %u bytes: round %u of %u",
			      (unsigned)bench->load.size_bytes, i + 1,
			      (unsigned)bench->options.pairs);
		error = run_append(bench, 1, operations);
		if (!error)
			error = log_plain_write(&bench->plain, &limits, &bench->reference);
		if (!error)
			error = run_append(bench, MANY, operations);
	}
	progress_clear();
	return error;
}

static int measure_append(struct log_bench *bench)
{
	int error = open_plain(bench);

	if (!error)
		error = append_rounds(bench);
	if (error)
		return fail("append", error);
	const struct row_kind kind = {.what = "append",
				      .reference = "pwrite RWF_DSYNC",
				      .outstanding = 1,
				      .ratio = median_ratio(bench->one.p50_ns,
							    bench->reference.p50_ns,
							    bench->one.rounds)};
	add_row(bench, &kind, &bench->one, &bench->reference);
	add_many(bench, "append");
	return 0;
}

/* ---- append-software ---- */

/* Collects all records. */
static int empty(const struct log_load *load)
{
	demi_qresult_t qr;
	demi_qtoken_t token;
	off_t end;
	int error = demi_lseek(load->qd, 0, SEEK_END, &end);

	if (!error)
		error = demi_truncate(&token, load->qd, end);
	if (!error)
		error = demi_wait(&qr, token, NULL);
	if (!error && qr.qr_opcode == DEMI_OPC_FAILED)
		error = (int)qr.qr_ret;
	return -error;
}

/* A log in memory; segment NULL: as usual. */
static int open_memory(struct log_bench *bench, uint64_t size, const char *device,
		       const char *segment)
{
	int error = open_instance("sim", device, segment);

	if (error)
		return error;
	bench->load = (struct log_load){.outstanding = 1, .size_bytes = size};
	error = demi_open(&bench->load.qd, "bench", O_RDWR | O_CREAT, 0600);
	if (!error)
		return 0;
	instance_close();
	return fail("sim", -error);
}

static int software_rounds(struct log_bench *bench)
{
	uint64_t operations = MEMORY_ROUND_BYTES / record_blocks_bytes(bench->load.size_bytes);
	int error = 0;

	for (unsigned i = 0; !error && i < MEMORY_ROUNDS * bench->options.pairs; i++) {
		error = run_append(bench, 1, operations);
		if (!error)
			error = run_append(bench, MANY, operations);
		if (!error)
			error = empty(&bench->load);
	}
	return error;
}

static int measure_software(struct log_bench *bench, uint64_t size)
{
	static const struct row_kind kind = {.what = "append-software", .outstanding = 1};
	int error = open_memory(bench, size, MEMORY_TEXT, MEMORY_SEGMENT_TEXT);

	if (error)
		return error;
	error = software_rounds(bench);
	demi_close(bench->load.qd);
	instance_close();
	if (error)
		return fail("append-software", error);
	add_row(bench, &kind, &bench->one, NULL);
	add_many(bench, "append-software");
	return 0;
}

/* ---- pop ---- */

/* Appends what is popped.  How many records that is, or -errno. */
static int64_t fill(struct log_bench *bench)
{
	uint64_t size = bench->load.size_bytes;
	uint64_t count = POP_BYTES / (size + HEADER_BYTES);
	struct log_limits limits = {UINT64_MAX, count < POP_RECORDS ? count : POP_RECORDS};

	bench->load.outstanding = LOG_OUTSTANDING_MAX; /* long writes: it is not what is measured */
	int error = log_append(&bench->load, &limits, &bench->many);
	log_figures_reset(&bench->many);
	if (error)
		return error;
	uint64_t end =
		(uint64_t)bench->load.last_offset % SEGMENT_BYTES + record_blocks_bytes(size);
	bench->plain.begin = SEGMENTS_AT;
	bench->plain.end = SEGMENTS_AT + end / BLOCK_BYTES * BLOCK_BYTES;
	bench->plain.piece_bytes = READ_BYTES;
	bench->plain.buffer = aligned_alloc(BLOCK_BYTES, READ_BYTES);
	bench->load.file_bytes = end;
	return bench->plain.buffer ? (int64_t)limits.operations + WARMUP : -ENOMEM;
}

static int pop_all(struct log_bench *bench, unsigned outstanding, uint64_t count)
{
	const struct log_limits limits = {UINT64_MAX, count};
	int error = -demi_lseek(bench->load.qd, 0, SEEK_SET, NULL);

	bench->load.outstanding = outstanding;
	return error ? error
		     : log_pop(&bench->load, &limits,
			       outstanding == 1 ? &bench->one : &bench->many);
}

static int pop_rounds(struct log_bench *bench, uint64_t count)
{
	int error = 0;

	for (unsigned i = 0; !error && i < bench->options.pairs; i++) {
		progress_show("log: pop, %u bytes: round %u of %u",
			      (unsigned)bench->load.size_bytes, i + 1,
			      (unsigned)bench->options.pairs);
		error = pop_all(bench, 1, count);
		if (!error)
			error = log_plain_read(&bench->plain, &bench->reference);
		if (!error)
			error = pop_all(bench, MANY, count);
	}
	progress_clear();
	return error;
}

static void add_pop(struct log_bench *bench, unsigned outstanding,
		    const struct log_figures *figures)
{
	const struct row_kind kind = {.what = "pop",
				      .reference = "pread O_DIRECT",
				      .outstanding = outstanding,
				      .ratio = median_ratio(figures->bytes_per_s,
							    bench->reference.bytes_per_s,
							    figures->rounds)};

	add_row(bench, &kind, figures, &bench->reference);
}

static int measure_pop(struct log_bench *bench)
{
	int64_t count = fill(bench);
	int error = count < 0 ? (int)count : pop_rounds(bench, (uint64_t)count);

	if (error)
		return fail("pop", error);
	add_pop(bench, 1, &bench->one);
	add_pop(bench, MANY, &bench->many);
	return 0;
}

/* ---- the whole ---- */

static int measure_file(struct log_bench *bench, uint64_t size, int (*measure)(struct log_bench *))
{
	int error = open_file(bench, size);

	if (error)
		return error;
	error = measure(bench);
	close_file(bench);
	return error;
}

static int run_part(struct log_bench *bench, const char *part, uint64_t size)
{
	int error;

	if (bench->options.part && strcmp(bench->options.part, part) != 0)
		return 0;
	begin_figures(bench);
	if (strcmp(part, "append") == 0)
		error = measure_file(bench, size, measure_append);
	else if (strcmp(part, "pop") == 0)
		error = measure_file(bench, size, measure_pop);
	else
		error = measure_software(bench, size);
	end_figures(bench);
	return error;
}

static int show(const struct log_bench *bench)
{
	static const struct report_column columns[] = {
		{"what", "what", 1, 0},
		{"size_bytes", "bytes", 1, 0},
		{"outstanding", "outstanding", 1, 0},
		{"latency_p50_ns", "p50 us", 1e3, 2},
		{"latency_p99_ns", "p99 us", 1e3, 2},
		{"records_per_s", "records/s", 1, 0},
		{"bytes_per_s", "MB/s", 1e6, 1},
		{"reference", "beside", 1, 0},
		{"reference_p50_ns", "p50 us", 1e3, 2},
		{"reference_bytes_per_s", "MB/s", 1e6, 1},
		{"ratio", "ratio", 1, 3},
	};
	const char *json = bench->options.json;

	if (!json || strcmp(json, "-") != 0)
		report_print(&bench->report, columns, TOOL_COUNT(columns));
	return json && report_write_json(&bench->report, json) < 0 ? TOOL_FAILED : TOOL_GOOD;
}

static int run_all(struct log_bench *bench)
{
	static const char *const parts[] = {"append", "append-software", "pop"};
	int error = 0;

	for (size_t i = 0; i < TOOL_COUNT(parts); i++) {
		for (size_t j = 0; !error && j < TOOL_COUNT(sizes); j++)
			error = run_part(bench, parts[i], sizes[j]);
	}
	return error ? TOOL_FAILED : show(bench);
}

/* One loop, untimed. */
static int run_only(struct log_bench *bench)
{
	uint64_t size = strcmp(bench->options.only, "append_64") == 0 ? 64 : 4096;
	const struct log_limits limits = {UINT64_MAX, bench->options.count};
	int error = open_memory(bench, size, "256M", NULL);

	if (error)
		return TOOL_FAILED;
	begin_figures(bench);
	error = log_append(&bench->load, &limits, &bench->one);
	end_figures(bench);
	demi_close(bench->load.qd);
	instance_close();
	if (error)
		fail(bench->options.only, error);
	return error ? TOOL_FAILED : TOOL_GOOD;
}

static int read_options(struct log_options *options, int argc, char **argv)
{
	const struct option_spec specs[] = {
		{"part", OPTION_CHOICE, &options->part, 0, 0, "append|append-software|pop", "NAME",
		 "only append, append-software or pop"},
		{"file", OPTION_TEXT, &options->file, 0, 0, NULL, "PATH",
		 "where the file is made, and removed (in $TMPDIR, or here)"},
		{"pairs", OPTION_WHOLE, &options->pairs, 1, PAIRS_MAX, NULL, "N",
		 "interleaved runs beside the reference (21)"},
		{"seconds", OPTION_NUMBER, &options->seconds, 0.001, 10, NULL, "S",
		 "time of one of them, of appends, at most (0.04)"},
		{"only", OPTION_CHOICE, &options->only, 0, 0, "append_64|append_4096", "KEY",
		 "append_64 or append_4096, in memory, untimed"},
		{"count", OPTION_WHOLE, &options->count, 1, 25000, NULL, "N",
		 "so many times (10000)"},
		{"core", OPTION_WHOLE, &options->core, 0, 4095, NULL, "N", "core to run on (0)"},
		{"json", OPTION_TEXT, &options->json, 0, 0, NULL, "FILE",
		 "write the rows as JSON (-: standard output)"},
	};

	*options = (struct log_options){
		.pairs = PAIRS_DEFAULT, .seconds = SECONDS_DEFAULT, .count = 10000};
	return options_read(specs, TOOL_COUNT(specs), argc, argv, "demi bench log [OPTION...]");
}

int bench_log(int argc, char **argv)
{
	struct log_bench *bench = tool_alloc(1, sizeof(*bench));
	int status = read_options(&bench->options, argc, argv);

	if (status == TOOL_GOOD) {
		core_pin((int)bench->options.core);
		status = bench->options.only ? run_only(bench) : run_all(bench);
		report_free(&bench->report);
	}
	free(bench);
	return status < 0 ? TOOL_GOOD : status;
}
