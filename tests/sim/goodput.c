/* SPDX-License-Identifier: MIT
 * tests/sim/goodput.c - the table of goodput over loss, delay and buffer, in virtual time: 10 MiB
 * over a simulated line, each cell the mean of a few seeds.
 *
 *	sim_goodput           all of it, each cell as it is done, then a table in Markdown
 *	sim_goodput --quick   only the cells that sanitized test runs compare
 *	sim_goodput --update  all of it, and rewrites bench/goodput.json
 *	sim_goodput --cell LOSS,RTT_US,BUFFER
 *	                      one: percent, microseconds, KiB or "auto"
 *
 * Further options: --rate MBIT (of --cell; 100), --seed N, --seeds N, --congestion NAME, --flows N,
 * --burst PERCENT (that a frame behind a lost one is lost too), --mark BYTES (a queue beyond so
 * many marks what understands ECN).
 */
#include "sim/grid.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SNAPSHOT  "bench/goodput.json"
#define CELLS_MAX 128

struct done {
	struct grid_cell cell;
	struct grid_figures figures;
};

struct table {
	struct grid_options options;
	struct done done[CELLS_MAX];
	uint32_t count;
	bool incomplete;
};

static struct table table;

static void show_buffer(const struct grid_cell *cell, char *text, size_t size)
{
	if (cell->buffer)
		(void)snprintf(text, size, "%" PRIu32 " KiB", cell->buffer / 1024);
	else
		(void)snprintf(text, size, "automatic");
}

static void show_rtt(const struct grid_cell *cell, char *text, size_t size)
{
	if (cell->rtt_us < 1000)
		(void)snprintf(text, size, "%" PRIu32 " us", cell->rtt_us);
	else
		(void)snprintf(text, size, "%g ms", cell->rtt_us / 1e3);
}

static void show_head(void)
{
	printf("%6s %8s %7s %10s %9s %7s %8s %9s %7s\n", "loss %", "RTT", "Mbit/s", "buffer",
	       "goodput", "share %", "resent %", "timeouts", "wall ms");
}

static void run_cell(const struct grid_cell *cell, void *unused)
{
	struct done *done = &table.done[table.count++];
	char buffer[16];
	char rtt[16];

	(void)unused;
	done->cell = *cell;
	if (table.count == CELLS_MAX || !grid_run(cell, &table.options, &done->figures)) {
		(void)fprintf(stderr, "sim_goodput: no congestion control %s\n",
			      table.options.congestion);
		exit(2);
	}
	const struct grid_figures *figures = &done->figures;
	show_buffer(cell, buffer, sizeof(buffer));
	show_rtt(cell, rtt, sizeof(rtt));
	printf("%6g %8s %7" PRIu32 " %10s %9.3f %7.1f %8.1f %9.1f %7.0f", cell->loss / 1e4, rtt,
	       cell->mbit, buffer, figures->mbit, figures->share, figures->resent,
	       figures->timeouts, (double)figures->wall_us / 1e3);
	if (table.options.flows > 1)
		printf("  fairness %.3f", figures->fairness);
	puts(figures->complete ? "" : "  NOT COMPLETE");
	(void)fflush(stdout);
	table.incomplete |= !figures->complete;
}

/* Is it in the same row of the table? */
static bool same_row(const struct grid_cell *a, const struct grid_cell *b)
{
	return a->rtt_us == b->rtt_us && a->mbit == b->mbit && a->buffer == b->buffer;
}

/* A row of the links with their buffers, a column for each loss. */
static void show_markdown(void)
{
	const struct done *end = table.done + table.count;
	const struct done *first = table.done;

	for (const struct done *row = first; row < end;) {
		const struct done *next = row;
		char buffer[16];
		char rtt[16];
		while (next < end && same_row(&next->cell, &row->cell))
			next++;
		if (row == first) {
			printf("\n| RTT | Mbit/s | buffer |");
			for (const struct done *cell = row; cell < next; cell++)
				printf(" %g %% |", cell->cell.loss / 1e4);
			printf("\n|---|---|---|");
			for (const struct done *cell = row; cell < next; cell++)
				printf("---|");
			puts("");
		}
		show_buffer(&row->cell, buffer, sizeof(buffer));
		show_rtt(&row->cell, rtt, sizeof(rtt));
		printf("| %s | %" PRIu32 " | %s |", rtt, row->cell.mbit, buffer);
		for (; row < next; row++)
			printf(" %.*f%s |",
			       row->figures.mbit < 0.1  ? 3
			       : row->figures.mbit < 10 ? 2
							: 1,
			       row->figures.mbit, row->figures.complete ? "" : " (not complete)");
		puts("");
	}
}

static int update(void)
{
	FILE *file = fopen(SNAPSHOT, "w");

	if (!file) {
		perror("sim_goodput: " SNAPSHOT);
		return 1;
	}
	(void)fprintf(file, "{\n\t\"tolerance_percent\": %d,\n\t\"mbit_s\": {\n", GRID_TOLERANCE);
	for (uint32_t i = 0; i < table.count; i++) {
		char name[GRID_NAME_BYTES];
		const struct grid_figures *figures = &table.done[i].figures;
		grid_name(&table.done[i].cell, name);
		(void)fprintf(file, "\t\t\"%s\": %.3f%s\n", name, figures->mbit,
			      i + 1 < table.count ? "," : "");
	}
	(void)fprintf(file, "\t}\n}\n");
	return fclose(file) ? 1 : 0;
}

static bool parse_cell(char *text, struct grid_cell *cell)
{
	char *rest = NULL;

	cell->loss = (uint32_t)(strtod(text, &rest) * 1e4 + 0.5);
	if (*rest != ',')
		return false;
	cell->rtt_us = (uint32_t)strtoul(rest + 1, &rest, 10);
	if (*rest != ',')
		return false;
	if (strcmp(rest + 1, "auto") == 0)
		return true;
	cell->buffer = (uint32_t)strtoul(rest + 1, &rest, 10) * 1024;
	return *rest == 0 && cell->buffer >= 4096;
}

enum {
	OPTION_QUICK,
	OPTION_UPDATE,
	OPTION_CELL,
	OPTION_RATE,
	OPTION_SEED,
	OPTION_SEEDS,
	OPTION_CONGESTION,
	OPTION_FLOWS,
	OPTION_BURST,
	OPTION_MARK,
};

static const struct option options[] = {
	{"quick", no_argument, NULL, OPTION_QUICK},
	{"update", no_argument, NULL, OPTION_UPDATE},
	{"cell", required_argument, NULL, OPTION_CELL},
	{"rate", required_argument, NULL, OPTION_RATE},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"seeds", required_argument, NULL, OPTION_SEEDS},
	{"congestion", required_argument, NULL, OPTION_CONGESTION},
	{"flows", required_argument, NULL, OPTION_FLOWS},
	{"burst", required_argument, NULL, OPTION_BURST},
	{"mark", required_argument, NULL, OPTION_MARK},
	{0},
};

struct wanted {
	bool quick;
	bool update;
	bool one;
	struct grid_cell cell;
};

static bool parse(int argc, char **argv, struct wanted *wanted)
{
	struct grid_options *grid = &table.options;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		uint64_t number = optarg ? strtoull(optarg, NULL, 0) : 0;
		if (option == OPTION_QUICK)
			wanted->quick = true;
		else if (option == OPTION_UPDATE)
			wanted->update = true;
		else if (option == OPTION_CELL)
			wanted->one = parse_cell(optarg, &wanted->cell);
		else if (option == OPTION_RATE)
			wanted->cell.mbit = (uint32_t)number;
		else if (option == OPTION_SEED)
			grid->seed = number;
		else if (option == OPTION_SEEDS)
			grid->seeds = (uint32_t)number;
		else if (option == OPTION_CONGESTION)
			grid->congestion = optarg;
		else if (option == OPTION_FLOWS)
			grid->flows = (uint32_t)number;
		else if (option == OPTION_BURST)
			grid->burst = (uint32_t)(number * 10000);
		else if (option == OPTION_MARK)
			grid->mark_bytes = number;
		else
			return false;
		if (option == OPTION_CELL && !wanted->one)
			return false;
	}
	return optind == argc && grid->flows <= TRANSFER_FLOWS && wanted->cell.mbit > 0;
}

int main(int argc, char **argv)
{
	struct wanted wanted = {.cell.mbit = 100};

	table.options.seed = GRID_SEED;
	if (!parse(argc, argv, &wanted)) {
		(void)fprintf(stderr,
			      "usage: sim_goodput [--quick | --update | --cell LOSS,RTT_US,BUFFER]"
			      " [--rate MBIT] [--seed N] [--seeds N]\n"
			      "       [--congestion NAME] [--flows N] [--burst PERCENT]"
			      " [--mark BYTES]\n");
		return 2;
	}
	show_head();
	if (wanted.one)
		run_cell(&wanted.cell, NULL);
	else
		grid_each(wanted.quick, run_cell, NULL);
	if (!wanted.one && !wanted.quick)
		show_markdown();
	if (table.incomplete)
		return 1;
	return wanted.update ? update() : 0;
}
