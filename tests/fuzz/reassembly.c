/* SPDX-License-Identifier: MIT
 * tests/fuzz/reassembly.c - fragments in any order against a model that is as simple as can be: a
 * map of the bytes that came of each datagram, and the list of its fragments.
 *
 * The first byte gives the number of bytes in a fragment's unit; then each step is a fragment of
 * one of 16 datagrams (of IPv4 and IPv6, two sources, four ids), or time that passes.  A datagram
 * is of a protocol that nobody speaks: so it is dropped when it is whole, and the device is told
 * with what bytes.  Nothing but what the model says is put together, and each of those at once.
 *
 * All of it stays below the bounds of bytes and datagrams, which unit/net_reassembly_test is for.
 */
#include "net/reassembly.h"

#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	DATAGRAMS = 16,
	BYTES = 65536,
	STEPS_MAX = 2000,
	PARTS_MAX = 256,
	PROTOCOL = 253, /* for experiments */
};

#define SECOND_NS 1000000000ULL

struct part {
	uint32_t offset;
	uint32_t length;
	uint8_t seed;
};

struct model {
	bool waits;
	bool spoilt;
	uint64_t until_ns;
	uint32_t total; /* 0: not known */
	uint32_t num_parts;
	struct part parts[PARTS_MAX];
	uint8_t came[BYTES];
	uint8_t bytes[BYTES];
};

struct run {
	const uint8_t *at;
	const uint8_t *end;
	uint64_t now_ns;
	struct sched sched;
	struct netdev dev;
	struct net net;
	const struct model *expected; /* what is to come up now; NULL: nothing */
	bool came_up;
	struct model models[DATAGRAMS];
};

static _Noreturn void fail(const char *what, int line)
{
	(void)fprintf(stderr, "does not hold, line %d: %s\n", line, what);
	abort();
}

#define require(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

static uint32_t take(struct run *run)
{
	return run->at < run->end ? *run->at++ : 0;
}

static uint64_t now(void *arg)
{
	return ((struct run *)arg)->now_ns;
}

/* ---- the device ---- */

static uint32_t dev_tx(struct netdev *dev, struct frame **frames, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		frame_free(dev->sched->heap, frames[i]);
	return count;
}

static const struct netdev_ops dev_ops = {
	.name = "fuzz", .tx_burst = dev_tx, .receives = netdev_receives_all};

/* Nobody speaks the protocol: the whole is dropped here. */
static void dev_dropped(struct netdev *dev, const struct frame *frame, enum drop reason)
{
	struct run *run = container_of(dev, struct run, dev);
	const struct model *m = run->expected;

	if (reason != DROP_IP_PROTOCOL)
		return;
	require(m && !run->came_up);
	run->came_up = true;
	uint32_t header = frame->data[0] >> 4 == 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
	require(frame->length == header + m->total);
	require(memcmp(frame->data + header, m->bytes, m->total) == 0);
}

/* ---- the model ---- */

static bool overlaps(const struct model *m, const struct part *part)
{
	for (uint32_t i = 0; i < part->length; i++)
		if (m->came[part->offset + i])
			return true;
	return false;
}

static bool is_there(const struct model *m, const struct part *part)
{
	for (uint32_t i = 0; i < m->num_parts; i++)
		if (memcmp(&m->parts[i], part, sizeof(*part)) == 0)
			return true;
	return false;
}

static uint32_t highest(const struct model *m)
{
	uint32_t end = BYTES;

	while (end > 0 && !m->came[end - 1])
		end--;
	return end;
}

/* Is this fragment at odds with what is known of the length? */
static bool is_odd(const struct model *m, const struct part *part, bool more)
{
	uint32_t end = part->offset + part->length;

	if (m->total == 0)
		return !more && highest(m) > end;
	return more ? end >= m->total : end != m->total;
}

static bool is_whole(const struct model *m)
{
	for (uint32_t i = 0; i < m->total; i++)
		if (!m->came[i])
			return false;
	return m->total > 0;
}

/* Returns whether it is whole now. */
static bool model_add(struct model *m, const struct part *part, bool more)
{
	bool last_again = m->total > 0 && part->offset + part->length == m->total;

	if (m->spoilt)
		return false;
	if (is_there(m, part) && !is_odd(m, part, more) && last_again == !more)
		return false;
	if (is_odd(m, part, more) || overlaps(m, part) || m->num_parts == REASSEMBLY_FRAGMENTS) {
		m->spoilt = true;
		return false;
	}
	m->parts[m->num_parts++] = *part;
	memset(m->came + part->offset, 1, part->length);
	for (uint32_t i = 0; i < part->length; i++)
		m->bytes[part->offset + i] = (uint8_t)(part->seed + part->offset + i);
	if (!more)
		m->total = part->offset + part->length;
	return is_whole(m);
}

static void model_forget(struct model *m)
{
	memset(m, 0, offsetof(struct model, bytes));
}

/* ---- steps ---- */

static struct ip_address address(bool v6, uint8_t last)
{
	struct ip_address v6_address = {.bytes = {0xfd, [15] = last}};

	return v6 ? v6_address : ip_from_v4(0x0a | (uint32_t)last << 24);
}

/* Below the parsers: what they let through. */
static void arrive(struct run *run, uint32_t which, const struct part *part, bool more)
{
	bool v6 = which & 1;
	struct frame *frame = frame_alloc_tx(run->net.heap, 2048);
	struct ip_packet packet = {
		.from = address(v6, (uint8_t)(1 + (which >> 1 & 1))),
		.to = address(v6, 9),
		.header_bytes = v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES,
		.length = part->length,
		.fragment =
			{
				.id = which >> 2,
				.offset = part->offset,
				.more = more,
				.protocol = PROTOCOL,
				.transport = PROTOCOL,
				.name = 6,
			},
	};

	require(frame);
	packet.fragment.header_bytes = (uint16_t)packet.header_bytes;
	if (v6)
		ipv6_write(frame->data, &packet.from, &packet.to, IP_FRAGMENT, 64, 0, 0, 0);
	else
		ipv4_write(frame->data, &packet.from, &packet.to, PROTOCOL, 64, 0, 0);
	packet.header = frame->data;
	packet.payload = frame->data + packet.header_bytes;
	frame->length = packet.header_bytes + part->length;
	for (uint32_t i = 0; i < part->length; i++)
		frame->data[packet.header_bytes + i] = (uint8_t)(part->seed + part->offset + i);
	reassembly_input(&run->net, frame, &packet);
}

static void step_fragment(struct run *run, uint32_t how, uint32_t unit)
{
	uint32_t which = take(run) % DATAGRAMS;
	struct model *m = &run->models[which];
	struct part part = {
		.offset = (take(run) | (how & 64 ? take(run) << 8 : 0)) * unit,
		.length = (1 + take(run) % 32) * unit,
		.seed = (how & 128) != 0,
	};
	bool more = !(how & 1);

	if (!more) /* the last may be of any length */
		part.length -= how / 2 % 8;
	if (part.length > 1480)
		part.length = 1480;
	if (IPV4_HEADER_BYTES + part.offset + part.length > IP_DATAGRAM_MAX)
		return;
	if (!m->waits) {
		m->waits = true;
		m->until_ns =
			run->now_ns + (which & 1 ? REASSEMBLY_V6_S : REASSEMBLY_V4_S) * SECOND_NS;
	}
	run->came_up = false;
	run->expected = model_add(m, &part, more) ? m : NULL;
	bool whole = run->expected != NULL;
	arrive(run, which, &part, more);
	require(run->came_up == whole);
	run->expected = NULL;
	if (whole)
		model_forget(m);
}

static void step_time(struct run *run)
{
	run->now_ns += (1 + take(run) % 40) * SECOND_NS + 10000;
	(void)timer_advance(&run->sched.timers, sched_now(&run->sched));
	for (uint32_t i = 0; i < DATAGRAMS; i++)
		if (run->models[i].waits && run->models[i].until_ns <= run->now_ns)
			model_forget(&run->models[i]);
}

static void check(const struct run *run)
{
	struct heap_usage usage;
	bool waits = false;

	reassembly_check(&run->net);
	for (uint32_t i = 0; i < DATAGRAMS; i++)
		waits |= run->models[i].waits;
	require(waits == (run->net.reassembly != NULL));
	heap_usage(run->net.heap, &usage);
	require(waits || usage.live_objects == 0);
}

static void begin(struct run *run)
{
	static const struct log log;
	const struct sched_world world = {.now_ns = now, .arg = run, .seed = 1, .every_turn = true};
	static struct config config;

	require(config_load(&config, NULL, NULL, &log) == 0);
	config.operations_max = 64;
	config.coroutines_max = 64;
	config.heap_max_bytes = 256 << 20;
	config.huge_pages = PAGES_HUGE_NEVER;
	run->now_ns = 1000 * SECOND_NS;
	require(sched_open(&run->sched, &config, &log, &world) == 0);
	run->dev = (struct netdev){
		.ops = &dev_ops, .sched = &run->sched, .mtu = 1500, .dropped = dev_dropped};
	run->net = (struct net){
		.sched = &run->sched,
		.dev = &run->dev,
		.heap = run->sched.heap,
		.mtu = 1500,
		.secret = {1, 2},
	};
	require(icmp_open(&run->net) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run run;
	struct heap_usage usage;

	memset(&run, 0, sizeof(run));
	run.at = data;
	run.end = data + size;
	begin(&run);
	uint32_t unit = 8 * (1 + take(&run) % 64);
	for (uint32_t i = 0; i < STEPS_MAX && run.at < run.end; i++) {
		uint32_t how = take(&run);
		if (how % 32 == 31)
			step_time(&run);
		else
			step_fragment(&run, how, unit);
		check(&run);
	}
	reassembly_close(&run.net);
	icmp_close(&run.net);
	heap_usage(run.net.heap, &usage);
	require(usage.live_objects == 0);
	sched_close(&run.sched);
	return 0;
}
