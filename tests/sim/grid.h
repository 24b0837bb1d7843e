/* tests/sim/grid.h - the grid of goodput: what 10 MiB get through at each loss, delay, rate and
 * buffer, and the snapshot of it, bench/goodput.json.
 */
#pragma once

#include "sim/transfer.h"

#include <stdbool.h>
#include <stdint.h>

#define GRID_SEED      1  /* first of those whose results the snapshot holds */
#define GRID_SEEDS     3  /* runs of a cell: a single one says little */
#define GRID_TOLERANCE 10 /* percent that a cell may fall below its snapshot */

struct grid_cell {
	uint32_t loss; /* millionths */
	uint32_t rtt_us;
	uint32_t mbit;   /* of the line */
	uint32_t buffer; /* bytes; 0: automatic */
};

struct grid_options {
	const char *congestion; /* NULL: the default */
	uint64_t seed;          /* of the first run; the others follow */
	uint32_t seeds;         /* 0: GRID_SEEDS */
	uint32_t flows;         /* 0: 1; they share the bytes */
	uint32_t burst;         /* millionths, as in struct transfer */
	uint64_t mark_bytes;
};

struct grid_figures {
	bool complete;    /* every run: all bytes, all right */
	double mbit;      /* payload over time, of all runs together */
	double share;     /* of what the line can carry, percent */
	double resent;    /* segments, percent */
	double timeouts;  /* a run */
	double fairness;  /* mean of Jain's index */
	uint64_t hash;    /* of all runs */
	uint64_t wall_us; /* what it took here */
};

/* Calls fn with every cell; quick: with those that every test run compares. */
void grid_each(bool quick, void (*fn)(const struct grid_cell *cell, void *arg), void *arg);

/* False: no such congestion control here. */
bool grid_run(const struct grid_cell *cell, const struct grid_options *options,
	      struct grid_figures *figures);

/* "1,10000,100,64": loss in percent, round trip in us, Mbit/s, buffer in KiB or "auto". */
#define GRID_NAME_BYTES 64
void grid_name(const struct grid_cell *cell, char *name);

/* Mbit/s of the cell in the snapshot; negative: it is not in there. */
double grid_snapshot(const char *path, const struct grid_cell *cell);
