/* tests/sim/grid.c: see grid.h. */
#include "sim/grid.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIMIT_NS (100000 * WORLD_S) /* of a transfer */

static const uint32_t losses[] = {0, 1000, 10000, 20000, 50000, 100000, 200000, 300000};
static const uint32_t buffers[] = {65536, 262144, 0};

static const struct link {
	uint32_t rtt_us;
	uint32_t mbit;
} links[] = {{100, 100}, {100, 1000}, {10000, 100}, {100000, 100}};

/* Long ones take seconds under the sanitizers, and say little that the others do not. */
static bool is_quick(const struct grid_cell *cell)
{
	if (cell->buffer == 65536)
		return cell->rtt_us == 10000 && cell->loss <= 10000;
	if (cell->buffer != 0)
		return false;
	return cell->rtt_us == 10000 || cell->loss == 0 || cell->loss == 10000;
}

void grid_each(bool quick, void (*fn)(const struct grid_cell *cell, void *arg), void *arg)
{
	for (uint32_t i = 0; i < ARRAY_LENGTH(links) * ARRAY_LENGTH(buffers); i++) {
		const struct link *link = &links[i / ARRAY_LENGTH(buffers)];
		for (uint32_t j = 0; j < ARRAY_LENGTH(losses); j++) {
			const struct grid_cell cell = {
				.loss = losses[j],
				.rtt_us = link->rtt_us,
				.mbit = link->mbit,
				.buffer = buffers[i % ARRAY_LENGTH(buffers)],
			};
			if (!quick || is_quick(&cell))
				fn(&cell, arg);
		}
	}
}

static uint64_t wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* When the last flow was through. */
static uint64_t longest(const struct transfer *transfer, const struct transfer_result *result)
{
	uint64_t ns = 0;

	for (uint32_t i = 0; i < transfer->flows; i++)
		if (result->flows[i].taken_ns > ns)
			ns = result->flows[i].taken_ns;
	return ns;
}

static bool all_complete(const struct transfer *transfer, const struct transfer_result *result)
{
	for (uint32_t i = 0; i < transfer->flows; i++)
		if (!result->flows[i].complete)
			return false;
	return true;
}

bool grid_run(const struct grid_cell *cell, const struct grid_options *options,
	      struct grid_figures *figures)
{
	uint32_t seeds = options->seeds ? options->seeds : GRID_SEEDS;
	uint64_t begin = wall_us();
	uint64_t ns = 0;
	uint64_t segments = 0;
	uint64_t retransmitted = 0;
	struct transfer transfer = {
		.loss = cell->loss,
		.burst = options->burst,
		.rtt_ns = cell->rtt_us * WORLD_US,
		.bits_per_s = (uint64_t)cell->mbit * 1000000,
		.mark_bytes = options->mark_bytes,
		.buffer = cell->buffer,
		.flows = options->flows ? options->flows : 1,
		.senders = 1,
		.limit_ns = LIMIT_NS,
	};

	transfer.bytes = TRANSFER_BYTES / transfer.flows;
	for (uint32_t i = 0; i < transfer.flows; i++)
		transfer.congestion[i] = options->congestion;
	*figures = (struct grid_figures){.complete = true};
	for (uint32_t i = 0; i < seeds; i++) {
		struct transfer_result result;
		if (!transfer_run(&transfer, options->seed + i, &result))
			return false;
		figures->complete &= all_complete(&transfer, &result);
		ns += longest(&transfer, &result);
		segments += result.segments;
		retransmitted += result.retransmitted;
		figures->timeouts += (double)result.timeouts / seeds;
		figures->fairness += transfer_fairness(&transfer, &result) / seeds;
		figures->hash = (figures->hash ^ result.hash) * 0x9e3779b97f4a7c15U;
	}
	figures->mbit =
		ns ? (double)(transfer.bytes * transfer.flows * seeds) * 8000 / (double)ns : 0;
	/* 1448 bytes of payload need 1514 of the line, with timestamps */
	figures->share = figures->mbit / cell->mbit * 100 * 1514 / 1448;
	figures->resent = segments ? (double)retransmitted * 100 / (double)segments : 0;
	figures->wall_us = wall_us() - begin;
	return true;
}

void grid_name(const struct grid_cell *cell, char *name)
{
	char buffer[16] = "auto";

	if (cell->buffer)
		(void)snprintf(buffer, sizeof(buffer), "%" PRIu32, cell->buffer / 1024);
	(void)snprintf(name, GRID_NAME_BYTES, "%g,%" PRIu32 ",%" PRIu32 ",%s", cell->loss / 1e4,
		       cell->rtt_us, cell->mbit, buffer);
}

double grid_snapshot(const char *path, const struct grid_cell *cell)
{
	char name[GRID_NAME_BYTES];
	char key[GRID_NAME_BYTES + 4];
	char line[256];
	double value = -1;
	FILE *file = fopen(path, "r");

	if (!file)
		return -1;
	grid_name(cell, name);
	(void)snprintf(key, sizeof(key), "\"%s\":", name);
	while (fgets(line, sizeof(line), file)) {
		const char *at = strstr(line, key);
		if (at)
			value = strtod(at + strlen(key), NULL);
	}
	(void)fclose(file);
	return value;
}
