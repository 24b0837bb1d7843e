/* SPDX-License-Identifier: MIT
 * tools/demi/log_loops.h - the loops that `demi bench log` times: on a log, and on the file that it
 * is in.
 *
 * A loop runs until its time or its count is over, and adds to the figures.  0 or -errno.
 */
#pragma once

#include "histogram.h"

#include <stdint.h>

#define LOG_OUTSTANDING_MAX 1024

/* What one contestant did, in all rounds and in the present one. */
struct log_figures {
	struct histogram latency, round_latency;
	uint64_t operations, bytes, elapsed_ns;
	double *p50_ns, *per_s, *bytes_per_s; /* by round */
	unsigned rounds;
};

void log_figures_init(struct log_figures *figures, unsigned rounds_max);
/* Forgets what there is. */
void log_figures_reset(struct log_figures *figures);
void log_figures_free(struct log_figures *figures);

/* How long a loop goes on: until the first of these is over. */
struct log_limits {
	uint64_t ns, operations;
};

/* Appends or pops of a queue, so many outstanding. */
struct log_load {
	int qd;
	unsigned outstanding;
	uint64_t size_bytes;
	int64_t last_offset; /* of the record appended last */
	uint64_t file_bytes; /* what all that is popped takes in the file */
};

int log_append(struct log_load *load, const struct log_limits *limits, struct log_figures *figures);
int log_pop(struct log_load *load, const struct log_limits *limits, struct log_figures *figures);

/* A plain file: piece_bytes at a time, between begin and end, in sequence and around. */
struct log_plain {
	int fd;
	void *buffer; /* aligned */
	uint64_t begin, end, at, piece_bytes;
};

/* Durable writes, each awaited. */
int log_plain_write(struct log_plain *plain, const struct log_limits *limits,
		    struct log_figures *figures);

/* Reads of all of it. */
int log_plain_read(struct log_plain *plain, struct log_figures *figures);
