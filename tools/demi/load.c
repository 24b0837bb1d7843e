/* SPDX-License-Identifier: MIT
 * tools/demi/load.c - the requests of a client.
 */
#include "load.h"

#include "tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Requests that a flow of an open loop may have out. */
#define OPEN_LOOP_DEPTH 1024

/* The pattern is repeated over at least so many bytes, so that small requests leave together in one
 * send. */
#define PATTERN_BYTES 65536

/* Marsaglia's xorshift64: the seeds are fixed, each run sees the same bytes and arrival times. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

void load_init(struct load *load, size_t size, unsigned depth, bool datagram, double rate_per_s)
{
	uint64_t random = 0x2545f4914f6cdd1dULL;

	memset(load, 0, sizeof(*load));
	load->size = size;
	load->depth = rate_per_s > 0 ? OPEN_LOOP_DEPTH : depth;
	load->datagram = datagram;
	load->rate_per_s = rate_per_s;
	load->pattern_size = size * (PATTERN_BYTES / size + 1);
	load->pattern = tool_alloc(load->pattern_size, 1);
	for (size_t i = 0; i < size; i++)
		load->pattern[i] = (uint8_t)(next_random(&random) >> 56);
	for (size_t i = size; i < load->pattern_size; i++)
		load->pattern[i] = load->pattern[i - size];
}

void load_fini(struct load *load)
{
	free(load->pattern);
}

void load_begin(struct load *load, uint64_t rounds, uint64_t duration_ns,
		struct histogram *histogram)
{
	uint64_t now_ns = clock_now_ns();

	load->checked = !histogram;
	load->histogram = histogram;
	load->budget = rounds ? rounds : UINT64_MAX;
	load->begin_ns = load->last_ns = now_ns;
	load->deadline_ns = duration_ns ? now_ns + duration_ns : UINT64_MAX;
	load->requests = load->lost = 0;
	load->random = 0x9e3779b97f4a7c15ULL;
	load->due_ns = now_ns;
	if (load->rate_per_s > 0)
		load_advance(load);
}

void flow_init(struct flow *flow, const struct load *load)
{
	uint32_t slots = 1;

	while (slots < load->depth)
		slots *= 2;
	memset(flow, 0, sizeof(*flow));
	flow->mask = slots - 1;
	flow->starts = tool_alloc(slots, sizeof(*flow->starts));
	flow->numbers = tool_alloc(slots, sizeof(*flow->numbers));
}

void flow_fini(struct flow *flow)
{
	free(flow->starts);
	free(flow->numbers);
}

static void issue_at(struct load *load, struct flow *flow, uint64_t start_ns)
{
	/* A lost datagram's slot may still be taken: fewer are out than there are slots, so one is
	 * free. */
	while (flow->starts[flow->issued & flow->mask] != 0)
		flow->issued++;
	flow->starts[flow->issued & flow->mask] = start_ns;
	flow->numbers[flow->issued & flow->mask] = flow->issued;
	flow->issued++;
	flow->outstanding++;
	load->outstanding++;
	load->budget--;
	if (!load->datagram)
		flow->tx_bytes += load->size;
}

bool flow_issue(struct load *load, struct flow *flow, uint64_t now_ns)
{
	if (flow->outstanding >= load->depth || !load_open(load, now_ns))
		return false;
	issue_at(load, flow, now_ns);
	return true;
}

bool flow_issue_due(struct load *load, struct flow *flow, uint64_t due_ns)
{
	if (flow->outstanding >= load->depth)
		return false;
	issue_at(load, flow, due_ns);
	return true;
}

void load_advance(struct load *load)
{
	/* 53 random bits above 0 and up to 1: the logarithm is finite. */
	double uniform = (double)((next_random(&load->random) >> 11) + 1) / 9007199254740992.0;

	load->due_ns += (uint64_t)(-log(uniform) * 1e9 / load->rate_per_s);
}

bool load_done_open(struct load *load, uint64_t now_ns, uint64_t grace_ns)
{
	if (load->outstanding == 0 && !load_is_due(load, UINT64_MAX))
		return true;
	if (load->deadline_ns == UINT64_MAX || now_ns < load->deadline_ns + grace_ns)
		return false;
	for (; load_is_due(load, now_ns); load_advance(load))
		load->lost++;
	load->lost += load->outstanding;
	return true;
}

static void answer(struct load *load, struct flow *flow, uint32_t number, uint64_t now_ns)
{
	uint64_t *start_ns = &flow->starts[number & flow->mask];

	if (load->histogram)
		histogram_record(load->histogram, now_ns - *start_ns);
	*start_ns = 0;
	flow->outstanding--;
	load->outstanding--;
	load->requests++;
	load->last_ns = now_ns;
}

/* Compares what came with the pattern from the flow's offset on. */
static void check_bytes(struct load *load, size_t offset, const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		size_t room = load->pattern_size - offset;
		size_t part = length < room ? length : room;

		if (memcmp(bytes, load->pattern + offset, part) != 0)
			load->damaged++;
		bytes += part;
		length -= part;
		offset = (offset + part) % load->size;
	}
}

unsigned flow_received(struct load *load, struct flow *flow, const uint8_t *bytes, size_t length,
		       uint64_t now_ns)
{
	unsigned completed = 0;

	if (load->checked)
		check_bytes(load, flow->rx_offset, bytes, length);
	for (flow->rx_offset += length; flow->rx_offset >= load->size; completed++) {
		flow->rx_offset -= load->size;
		if (flow->outstanding == 0) { /* an answer to nothing */
			load->damaged++;
			continue;
		}
		answer(load, flow, flow->answered++, now_ns);
	}
	return completed;
}

void flow_fill(const struct load *load, const struct flow *flow, uint8_t *bytes)
{
	uint32_t number = flow->issued - 1;

	memcpy(bytes, load->pattern, load->size);
	memcpy(bytes, &number, sizeof(number));
}

bool flow_datagram(struct load *load, struct flow *flow, const uint8_t *bytes, size_t length,
		   uint64_t now_ns)
{
	uint32_t number;
	uint32_t slot;

	if (length != load->size) {
		load->damaged++;
		return false;
	}
	memcpy(&number, bytes, sizeof(number));
	if (load->checked)
		check_bytes(load, sizeof(number) % load->size, bytes + sizeof(number),
			    length - sizeof(number));
	slot = number & flow->mask;
	if (flow->starts[slot] == 0 || flow->numbers[slot] != number)
		return false; /* it was given up, or comes twice */
	answer(load, flow, number, now_ns);
	return true;
}

void flow_expire(struct load *load, struct flow *flow, uint64_t now_ns)
{
	for (uint32_t slot = 0; slot <= flow->mask; slot++) {
		uint64_t start_ns = flow->starts[slot];

		if (start_ns == 0 || now_ns < start_ns + LOAD_LOST_NS)
			continue;
		flow->starts[slot] = 0;
		flow->outstanding--;
		load->outstanding--;
		load->lost++;
	}
}
