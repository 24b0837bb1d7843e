/* tests/sim/world.c: see world.h. */
#include "sim/world.h"

#include "support/fault.h"

#include "base/process.h"
#include "net/wire/ether.h"
#include "net/wire/icmp.h"
#include "netdev/pcap/pcapng.h"
#include "support/seed.h"
#include "support/test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TURNS_MAX 100000 /* of a host at one moment: more means that it never comes to rest */

/* ---- failing ---- */

_Noreturn void world_failed(const struct world *world, const char *what, const char *file, int line)
{
	if (world->describe)
		world->describe(world);
	printf("# DEMI_SEED=%" PRIu64 " at %" PRIu64 " ns, event %" PRIu64 ": %s (%s:%d)\n"
	       "Bail out! a check failed, perhaps in a coroutine: there is no way on\n",
	       world->seed, world->now_ns, world->steps, what, file, line);
	(void)fflush(stdout);
	_exit(1);
}

/* The world's own memory does not run out when a test says that memory does. */
static void *must_realloc(void *old, size_t bytes)
{
	fault_pause(true);
	void *memory = realloc(old, bytes);
	if (!memory)
		abort();
	fault_pause(false);
	return memory;
}

/* ---- the digest ---- */

void world_note(struct world *world, uint64_t value)
{
	uint64_t h = (world->hash ^ value) * 0x9e3779b97f4a7c15U;

	world->hash = h ^ (h >> 29);
}

static void mix(uint64_t sums[4], const uint8_t *bytes)
{
	uint64_t words[4];

	memcpy(words, bytes, sizeof(words));
	for (int i = 0; i < 4; i++) {
		uint64_t h = (sums[i] ^ words[i]) * 0x9e3779b97f4a7c15U;
		sums[i] = h ^ (h >> 29);
	}
}

/* Four sums that do not wait for each other: half of a run's time was this. */
static void note_bytes(struct world *world, const uint8_t *bytes, uint32_t length)
{
	uint64_t sums[4] = {length, 0, 0, 0};
	uint8_t rest[32] = {0};
	uint32_t i = 0;

	for (; i + sizeof(rest) <= length; i += sizeof(rest))
		mix(sums, bytes + i);
	memcpy(rest, bytes + i, length - i);
	mix(sums, rest);
	for (i = 0; i < 4; i++)
		world_note(world, sums[i]);
}

/* ---- traces ---- */

static void open_trace(struct host *host)
{
	const char *prefix = getenv("SIM_TRACE");
	uint8_t head[PCAPNG_BEGIN_MAX];
	char path[256];

	if (!prefix)
		return;
	(void)snprintf(path, sizeof(path), "%s-%" PRIu32 ".pcapng", prefix, host->index);
	host->trace = fopen(path, "w");
	if (!host->trace)
		abort();
	(void)fwrite(head, 1, pcapng_begin(head, "sim", host->mac), host->trace);
}

static void trace(struct host *host, bool outbound, const uint8_t *bytes, uint32_t length,
		  const char *comment)
{
	if (!host->trace)
		return;
	uint8_t *block = must_realloc(NULL, length + PCAPNG_PACKET_MORE + PCAPNG_COMMENT_MAX);
	memcpy(block + PCAPNG_FRAME_AT, bytes, length);
	uint32_t n = pcapng_packet(block, host->world->now_ns, outbound, length);
	if (comment)
		n += pcapng_comment(block, n, comment);
	(void)fwrite(block, 1, n, host->trace);
	(void)fflush(host->trace);
	free(block);
}

/* What the stack drops is in the trace twice: as it came, and with the reason. */
static void trace_drop(struct netdev *dev, const struct frame *frame, enum drop reason);

/* ---- events: a binary heap ---- */

static bool earlier(const struct world_event *a, const struct world_event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->sequence < b->sequence;
}

static void swap(struct world_event *a, struct world_event *b)
{
	struct world_event t = *a;

	*a = *b;
	*b = t;
}

static void put_event(struct world *world, struct world_event event)
{
	if (world->num_events == world->max_events) {
		world->max_events = world->max_events ? world->max_events * 2 : 256;
		world->events =
			must_realloc(world->events, world->max_events * sizeof(struct world_event));
	}
	event.sequence = world->sequence++;
	uint32_t i = world->num_events++;
	world->events[i] = event;
	for (; i > 0 && earlier(&world->events[i], &world->events[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&world->events[i], &world->events[(i - 1) / 2]);
}

static struct world_event take_event(struct world *world)
{
	struct world_event *e = world->events;
	struct world_event first = e[0];
	uint32_t count = --world->num_events;

	e[0] = e[count];
	for (uint32_t i = 0;;) {
		uint32_t least = i;
		for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < count; child++)
			if (earlier(&e[child], &e[least]))
				least = child;
		if (least == i)
			return first;
		swap(&e[i], &e[least]);
		i = least;
	}
}

void world_at(struct world *world, uint64_t at_ns, void (*fn)(struct world *, void *), void *arg)
{
	put_event(world, (struct world_event){.at_ns = at_ns, .fn = fn, .arg = arg});
}

/* ---- paths ---- */

/* Changes that every 16-bit one's complement checksum sees, whatever it covers. */
static void corrupt(struct world *world, uint8_t *bytes, uint32_t *length, uint32_t room)
{
	uint64_t bit = world_below(world, *length * 8);

	switch (world_below(world, 8)) {
	case 0: /* cut */
		*length = (uint32_t)world_between(world, 1, *length);
		return;
	case 1: /* grown */
		for (uint64_t more = world_between(world, 1, room - *length); more > 0; more--)
			bytes[(*length)++] = (uint8_t)world_below(world, 256);
		return;
	case 2: /* a burst */
		for (uint64_t end = bit + world_between(world, 2, 15); bit < end; bit++)
			if (bit < *length * 8 && world_below(world, 2) == 0)
				bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
		return;
	default:
		bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
	}
}

static bool is_arp(const uint8_t *bytes, uint32_t length)
{
	return length >= 14 && bytes[12] == 0x08 && bytes[13] == 0x06;
}

/* RFC 3168 5: congestion experienced, if the packet says that its ends understand it. */
static void mark(struct world *world, uint8_t *bytes, uint32_t length)
{
	uint8_t *ip = bytes + 14;

	if (length >= 34 && bytes[12] == 0x08 && bytes[13] == 0x00 && (ip[1] & 3U) != 0 &&
	    (ip[1] & 3U) != 3) {
		uint32_t sum = (uint32_t)(ip[10] << 8 | ip[11]) + (ip[1] & 3U);
		/* RFC 1624: the sum loses by what the field grows */
		ip[1] |= 3U;
		sum += 0xffffU - 3U;
		sum = (sum & 0xffffU) + (sum >> 16);
		ip[10] = (uint8_t)(sum >> 8);
		ip[11] = (uint8_t)sum;
		world->stats.marked++;
	} else if (length >= 54 && bytes[12] == 0x86 && bytes[13] == 0xdd && (ip[1] & 0x30U) != 0 &&
		   (ip[1] & 0x30U) != 0x30U) {
		ip[1] |= 0x30U;
		world->stats.marked++;
	}
}

/* What became of a frame on its line. */
struct passage {
	uint64_t at_ns; /* when it arrives; 0: never */
	bool marked;
	bool bad;
};

static void fly(struct world *world, struct host *to, struct passage passage, const uint8_t *bytes,
		uint32_t length)
{
	uint32_t room = length + 32;
	uint8_t *copy = must_realloc(NULL, room);

	memcpy(copy, bytes, length);
	if (passage.marked)
		mark(world, copy, length);
	if (passage.bad) {
		world->stats.corrupted++;
		corrupt(world, copy, &length, room);
	}
	copy = must_realloc(copy, length); /* so that reads beyond are seen */
	put_event(world,
		  (struct world_event){
			  .at_ns = passage.at_ns, .host = to, .bytes = copy, .length = length});
}

/* When the line has sent the frame; never: its queue is full. */
static struct passage serialise(const struct world *world, struct world_path *line, uint32_t length)
{
	uint64_t start = line->free_ns > world->now_ns ? line->free_ns : world->now_ns;

	if (line->bits_per_s == 0)
		return (struct passage){.at_ns = world->now_ns};
	uint64_t backlog = (uint64_t)((unsigned __int128)(start - world->now_ns) *
				      line->bits_per_s / 8 / WORLD_S);
	if (backlog > line->queue_bytes)
		return (struct passage){0};
	line->free_ns = start + (uint64_t)length * 8 * WORLD_S / line->bits_per_s;
	return (struct passage){
		.at_ns = line->free_ns,
		.marked = line->mark_bytes > 0 && backlog > line->mark_bytes,
	};
}

static bool is_lost(struct world *world, struct world_path *path)
{
	if (path->down)
		return true;
	path->lost_last =
		world_chance(world, path->lost_last && path->burst ? path->burst : path->loss);
	return path->lost_last;
}

/* May it not be cut, and is it larger than the path takes? */
static bool is_too_big(const struct world_path *path, const uint8_t *bytes, uint32_t length)
{
	const uint8_t *ip = bytes + ETHER_HEADER_BYTES;

	if (path->mtu == 0 || length <= ETHER_HEADER_BYTES + path->mtu)
		return false;
	return load16(bytes + 12) == ETHER_IPV6 ||
	       (load16(bytes + 12) == ETHER_IPV4 && ip[6] & 0x40);
}

/* What a router answers: the first bytes of the packet, and what fits. */
static void say_too_big(struct world *world, const struct world_path *path, struct host *from,
			const uint8_t *bytes)
{
	uint8_t answer[ETHER_HEADER_BYTES + IPV6_HEADER_BYTES + ICMP_HEADER_BYTES +
		       IPV6_HEADER_BYTES + 8];
	const uint8_t *ip = bytes + ETHER_HEADER_BYTES;
	bool v6 = load16(bytes + 12) == ETHER_IPV6;
	uint32_t front = v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
	uint32_t quoted = front + 8;
	uint8_t *at = answer + ETHER_HEADER_BYTES;
	struct ip_address to;
	struct ip_address us;
	const struct icmp_header header = {
		.type = v6 ? ICMPV6_TOO_BIG : ICMP_UNREACHABLE,
		.code = v6 ? 0 : 4,
		.rest = path->mtu,
	};

	if (v6) {
		to = ip_from_bytes(ip + 8);
		us = ip_from_bytes(ip + 24);
		ipv6_write(at, &us, &to, IP_ICMPV6, 60, 0, ICMP_HEADER_BYTES + quoted, 0);
	} else {
		uint32_t words[2];
		memcpy(words, ip + 12, sizeof(words));
		to = ip_from_v4(words[0]);
		us = ip_from_v4(words[1]);
		ipv4_write(at, &us, &to, IP_ICMP, 60, 0, ICMP_HEADER_BYTES + quoted);
	}
	ether_write(answer, bytes + 6, bytes, load16(bytes + 12));
	memcpy(at + front + ICMP_HEADER_BYTES, ip, quoted);
	icmp_write(at + front, &header, ICMP_HEADER_BYTES + quoted, v6 ? &us : NULL,
		   v6 ? &to : NULL);
	fly(world, from, (struct passage){.at_ns = world->now_ns + path->delay_ns}, answer,
	    ETHER_HEADER_BYTES + front + ICMP_HEADER_BYTES + quoted);
}

static void send_over(struct world *world, struct host *from, struct host *to, const uint8_t *bytes,
		      uint32_t length)
{
	struct world_path *path = &world->paths[from->index][to->index];
	struct passage passage = {0};

	if (is_too_big(path, bytes, length)) {
		world->stats.too_big++;
		if (path->icmp)
			say_too_big(world, path, from, bytes);
		return;
	}
	if (!is_lost(world, path))
		passage = serialise(world, path->line ? path->line : path, length);
	if (passage.at_ns == 0) {
		world->stats.lost++;
		return;
	}
	passage.at_ns +=
		path->delay_ns + (path->jitter_ns ? world_below(world, path->jitter_ns + 1) : 0);
	if (world_chance(world, path->reorder)) {
		passage.at_ns += world_between(world, 1, path->reorder_ns);
		world->stats.reordered++;
	} else {
		if (passage.at_ns < path->last_ns)
			passage.at_ns = path->last_ns;
		path->last_ns = passage.at_ns;
	}
	/* ARP has nothing by which a receiver could tell (RFC 826). */
	passage.bad = world_chance(world, path->corrupt) && !is_arp(bytes, length);
	fly(world, to, passage, bytes, length);
	if (world_chance(world, path->duplicate)) {
		world->stats.duplicated++;
		passage.bad = false;
		passage.at_ns += world_below(world, path->delay_ns + WORLD_MS);
		fly(world, to, passage, bytes, length);
	}
}

/* The switch: to whom a frame goes. */
static bool is_for(const struct host *host, const uint8_t *bytes, uint32_t length, bool known)
{
	return length < 6 || (bytes[0] & 1) || !known ||
	       memcmp(bytes, host->mac, sizeof(host->mac)) == 0;
}

void world_send(struct host *from, const uint8_t *bytes, uint32_t length)
{
	struct world *world = from->world;
	bool known = false;

	if (from->vanished)
		return;
	world->stats.sent++;
	trace(from, true, bytes, length, NULL);
	world_note(world, world->now_ns);
	world_note(world, from->index);
	note_bytes(world, bytes, length);
	for (uint32_t i = 0; i < world->num_hosts; i++)
		known |= length >= 6 && memcmp(bytes, world->hosts[i]->mac, 6) == 0;
	for (uint32_t i = 0; i < world->num_hosts; i++) {
		if (i != from->index && is_for(world->hosts[i], bytes, length, known))
			send_over(world, from, world->hosts[i], bytes, length);
	}
}

/* ---- the wire of a device ---- */

static struct host *host_of(struct sim_wire *wire)
{
	return container_of(wire, struct host, wire);
}

static struct host *host_of_device(const struct world *world, const struct netdev *dev)
{
	for (uint32_t i = 0; i < world->num_hosts; i++)
		if (world->hosts[i]->dev == dev)
			return world->hosts[i];
	abort();
}

static void trace_drop(struct netdev *dev, const struct frame *frame, enum drop reason)
{
	struct host *host = host_of_device(dev->sched->world.arg, dev);

	trace(host, false, frame->data, frame->length, drop_name(reason));
}

static uint32_t wire_room(struct sim_wire *wire, uint32_t count, uint64_t *retry_ns)
{
	struct host *host = host_of(wire);
	struct world *world = host->world;

	if (count == 0 || !world_chance(world, host->tx_busy))
		return count;
	world->stats.busy++;
	*retry_ns = world->now_ns + world_between(world, 1, 200) * WORLD_US;
	return (uint32_t)world_below(world, count);
}

static void wire_send(struct sim_wire *wire, const uint8_t *bytes, uint32_t length)
{
	world_send(host_of(wire), bytes, length);
}

static void wire_closed(struct sim_wire *wire)
{
	host_of(wire)->dev = NULL;
}

static const struct sim_wire wire_functions = {
	.room = wire_room,
	.send = wire_send,
	.closed = wire_closed,
};

/* ---- hosts ---- */

static uint64_t world_now(void *arg)
{
	const struct world *world = arg;

	return world->now_ns;
}

struct sched_world world_sched(struct world *world)
{
	return (struct sched_world){
		.now_ns = world_now,
		.arg = world,
		.seed = prng_next(&world->prng) | 1,
		.secret = {prng_next(&world->prng), prng_next(&world->prng)},
		.every_turn = true,
	};
}

void world_config(struct config *config)
{
	static const struct log log;

	if (config_load(config, NULL, NULL, &log))
		abort();
	config->stat_socket = 0;
	config->linger_ms = 0;
	config->operations_max = 8192;
	config->queues_max = 4096;
	config->coroutines_max = 1024;
	config->heap_max_bytes = (int64_t)1 << 30;
	config->huge_pages = PAGES_HUGE_NEVER;
	config->frames_max = 2048;
	config->group_reports = 0;
}

static struct host *add_host(struct world *world)
{
	uint32_t index = world->num_hosts;

	WORLD_EXPECT(world, index < WORLD_HOSTS);
	struct host *host = must_realloc(NULL, sizeof(*host));
	memset(host, 0, sizeof(*host));
	host->world = world;
	host->index = index;
	host->wire = wire_functions;
	host->wake_ns = TIMER_NEVER;
	host->mac[0] = 2;
	host->mac[4] = 0xde;
	host->mac[5] = (uint8_t)(index + 1);
	world->hosts[world->num_hosts++] = host;
	for (uint32_t i = 0; i < world->num_hosts; i++) {
		world->paths[i][index] = (struct world_path){.delay_ns = 10 * WORLD_US};
		world->paths[index][i] = (struct world_path){.delay_ns = 10 * WORLD_US};
	}
	return host;
}

static void add_device(struct host *host, const struct sim_options *options)
{
	static const uint8_t none[6];
	struct sim_options own = *options;

	if (memcmp(own.mac, none, sizeof(none)) == 0)
		memcpy(own.mac, host->mac, sizeof(own.mac));
	else
		memcpy(host->mac, own.mac, sizeof(own.mac));
	if (sim_open(&own, &host->wire, &host->dev))
		abort();
	open_trace(host);
	if (host->trace)
		host->dev->dropped = trace_drop;
}

static void create_instance(struct host *host, const struct config *config,
			    const struct sched_world *around)
{
	bool anew;
	int err = process_begin(&anew);

	if (!err)
		err = instance_create(config, around, &host->instance);
	WORLD_EXPECT(host->world, err == 0);
	host->sched = &host->instance->sched;
	world_wake(host);
}

struct host *world_add_instance(struct world *world, const struct config *config,
				const struct sim_options *options)
{
	struct host *host = add_host(world);

	add_device(host, options);
	struct sched_world around = world_sched(world);
	around.netdev = host->dev;
	create_instance(host, config, &around);
	return host;
}

struct host *world_add_engine(struct world *world, const struct config *config,
			      const struct engine_ops *engine, void *engine_arg)
{
	struct host *host = add_host(world);
	struct sched_world around = world_sched(world);

	around.engine = engine;
	around.engine_arg = engine_arg;
	host->sleeps = true;
	create_instance(host, config, &around);
	return host;
}

struct host *world_add_sched(struct world *world, struct sched *sched,
			     const struct sim_options *options)
{
	struct host *host = add_host(world);

	add_device(host, options);
	host->sched = sched;
	host->dev->sched = sched;
	WORLD_EXPECT(world, host->dev->ops->start(host->dev) == 0);
	world_wake(host);
	return host;
}

struct host *world_add_peer(struct world *world,
			    void (*input)(struct host *host, const uint8_t *bytes, uint32_t length),
			    void *arg)
{
	struct host *host = add_host(world);

	host->input = input;
	host->arg = arg;
	return host;
}

void world_enter(struct host *host)
{
	if (host->instance)
		WORLD_EXPECT(host->world, demi_enter(host->instance) == 0);
	if (host->sched) /* as if the application had never stopped waiting */
		(void)sched_now(host->sched);
}

void world_wake(struct host *host)
{
	host->wake_ns = host->world->now_ns;
}

void world_end_host(struct host *host)
{
	if (host->instance) {
		WORLD_EXPECT(host->world, demi_destroy(host->instance) == 0);
		WORLD_EXPECT(host->world, host->dev == NULL);
	}
	host->instance = NULL;
	host->sched = NULL;
	host->wake_ns = TIMER_NEVER;
}

static bool is_at_rest(const struct sched *sched)
{
	return sched->coroutines.ready_count == 0 && sched->output_pending == 0;
}

/* A host that sleeps: its device must not have anything for it. */
static void try_arming(struct host *host)
{
	int err = sched_arm(host->sched);

	WORLD_EXPECT(host->world, err == 0 || err == -ENOTSUP);
	for (uint32_t i = 0; i < host->sched->num_pollers && !err; i++)
		host->sched->pollers[i]->ops->disarm(host->sched->pollers[i]);
}

static void wake_up(struct host *host)
{
	if (!host->asleep)
		return;
	host->asleep = false;
	(void)fdset_wait(&host->sched->fds, 0);
	for (uint32_t i = 0; i < host->sched->num_pollers; i++)
		host->sched->pollers[i]->ops->disarm(host->sched->pollers[i]);
}

/* False: something is ready, in its devices or their descriptors. */
static bool fall_asleep(struct host *host)
{
	if (!host->sleeps)
		return true;
	int err = sched_arm(host->sched);
	WORLD_EXPECT(host->world, err == 0 || err == -EAGAIN || err == -ENOTSUP);
	if (err == -EAGAIN)
		return false;
	host->asleep = err == 0;
	if (!host->asleep || fdset_wait(&host->sched->fds, 0) == 0)
		return true;
	wake_up(host);
	return false;
}

static void run_host(struct host *host)
{
	uint32_t turns = 0;

	host->wake_ns = TIMER_NEVER;
	if (!host->sched || host->vanished)
		return;
	world_enter(host);
	/* as a host does that wakes from its sleep: what it does next it does at this time */
	wake_up(host);
	(void)timer_advance(&host->sched->timers, sched_now(host->sched));
	while (sched_turn(host->sched) || !is_at_rest(host->sched) || !fall_asleep(host)) {
		turns++;
		WORLD_EXPECT(host->world, turns < TURNS_MAX);
	}
	host->turns += turns + 1;
	if (host->arms)
		try_arming(host);
	host->wake_ns = sched_next_deadline(host->sched);
	if (host->spin_ns && host->wake_ns > host->world->now_ns + host->spin_ns)
		host->wake_ns = host->world->now_ns + host->spin_ns;
	/* What is due and did not happen in a turn has to wait for time to pass. */
	if (host->wake_ns <= host->world->now_ns)
		host->wake_ns = host->world->now_ns + WORLD_US;
}

/* ---- time ---- */

static void arrive(struct host *host, const uint8_t *bytes, uint32_t length)
{
	struct world *world = host->world;

	if (host->vanished)
		return;
	world_note(world, world->now_ns);
	world_note(world, 0x100 + host->index);
	note_bytes(world, bytes, length);
	trace(host, false, bytes, length, NULL);
	if (host->input) {
		host->input(host, bytes, length);
	} else if (!host->dev || !sim_arrive(host->dev, bytes, length)) {
		trace(host, false, bytes, length, "no room in the device");
		world->stats.no_room++;
		return;
	}
	world->stats.delivered++;
	uint64_t wake = world->now_ns + (host->lag_ns ? world_below(world, host->lag_ns + 1) : 0);
	if (host->sched && wake < host->wake_ns)
		host->wake_ns = wake;
}

static void happen(struct world *world)
{
	struct world_event event = take_event(world);

	if (event.fn)
		event.fn(world, event.arg);
	else
		arrive(event.host, event.bytes, event.length);
	free(event.bytes);
}

static struct host *next_host(const struct world *world)
{
	struct host *next = world->hosts[0];

	for (uint32_t i = 1; i < world->num_hosts; i++)
		if (world->hosts[i]->wake_ns < next->wake_ns)
			next = world->hosts[i];
	return next;
}

bool world_step(struct world *world, uint64_t limit_ns)
{
	struct host *host = next_host(world);
	uint64_t event = world->num_events > 0 ? world->events[0].at_ns : TIMER_NEVER;
	uint64_t next = event < host->wake_ns ? event : host->wake_ns;

	if (next > limit_ns || next == TIMER_NEVER) {
		world->now_ns = limit_ns;
		return false;
	}
	if (next > world->now_ns)
		world->now_ns = next;
	world->steps++;
	if (host->wake_ns <= event) {
		world_note(world, world->now_ns);
		world_note(world, 0x200 + host->index);
		run_host(host);
	} else {
		happen(world);
	}
	if (world->check)
		world->check(world, world->arg);
	return true;
}

void world_run_until(struct world *world, uint64_t limit_ns)
{
	while (world_step(world, limit_ns))
		;
}

void world_run(struct world *world, bool (*done)(void *arg), void *arg, uint64_t limit_ns)
{
	while (!done(arg))
		WORLD_EXPECT(world, world_step(world, limit_ns));
}

/* ---- chance ---- */

/* One of: nothing, little, much. */
static uint32_t draw_rate(struct world *world, uint32_t most)
{
	switch (world_below(world, 4)) {
	case 0:
		return (uint32_t)world_between(world, most / 4, most);
	case 1:
		return (uint32_t)world_between(world, 1, most / 16);
	default:
		return 0;
	}
}

static uint64_t draw_one(struct world *world, const uint64_t *values, uint32_t count)
{
	return values[world_below(world, count)];
}

static void draw_path(struct world *world, struct world_path *path)
{
	static const uint64_t delays[] = {1000, 10000, 100000, 1000000, 20000000};
	static const uint64_t rates[] = {0, 0, 10000000000, 1000000000, 100000000, 10000000};

	*path = (struct world_path){
		.delay_ns = draw_one(world, delays, ARRAY_LENGTH(delays)),
		.bits_per_s = draw_one(world, rates, ARRAY_LENGTH(rates)),
		.queue_bytes = world_between(world, 20000, 500000),
		.loss = draw_rate(world, 100000),
		.burst = world_below(world, 4) == 0 ? 500000 : 0,
		.duplicate = draw_rate(world, 100000),
		.reorder = draw_rate(world, 200000),
		.corrupt = draw_rate(world, 50000),
	};
	path->jitter_ns = world_below(world, 2) ? world_below(world, path->delay_ns) : 0;
	path->reorder_ns = world_between(world, 1, 3 * path->delay_ns + 100 * WORLD_US);
}

void world_swarm(struct world *world)
{
	for (uint32_t i = 0; i < world->num_hosts; i++) {
		for (uint32_t j = 0; j < world->num_hosts; j++)
			draw_path(world, &world->paths[i][j]);
		struct host *host = world->hosts[i];
		host->lag_ns = world_below(world, 2) ? world_below(world, 100 * WORLD_US) : 0;
		host->tx_busy = draw_rate(world, 200000);
		host->arms = world_below(world, 2) == 0;
	}
}

void world_calm(struct world *world)
{
	for (uint32_t i = 0; i < world->num_hosts; i++) {
		for (uint32_t j = 0; j < world->num_hosts; j++) {
			struct world_path *path = &world->paths[i][j];
			path->loss = path->burst = path->duplicate = 0;
			path->reorder = path->corrupt = 0;
			path->down = path->lost_last = false;
		}
		world->hosts[i]->tx_busy = 0;
	}
}

void world_partition(struct world *world, uint32_t one, uint32_t other, bool down)
{
	for (uint32_t i = 0; i < world->num_hosts; i++)
		for (uint32_t j = 0; j < world->num_hosts; j++)
			if ((one >> i & 1 && other >> j & 1) || (other >> i & 1 && one >> j & 1))
				world->paths[i][j].down = down;
}

/* ---- life ---- */

/* What goes wrong in a world is meant to: warnings are no news. */
static void keep_errors(void *unused, enum demi_log_level level, const char *message)
{
	(void)unused;
	if (level == DEMI_LOG_ERROR)
		printf("# %s\n", message);
}

void world_open(struct world *world, uint64_t seed)
{
	memset(world, 0, sizeof(*world));
	world->seed = seed;
	world->now_ns = WORLD_START_NS;
	prng_seed(&world->prng, seed);
	(void)demi_set_log(keep_errors, NULL);
}

void world_close(struct world *world)
{
	for (uint32_t i = 0; i < world->num_hosts; i++)
		world_end_host(world->hosts[i]);
	while (world->num_events > 0)
		free(take_event(world).bytes);
	for (uint32_t i = 0; i < world->num_hosts; i++) {
		if (world->hosts[i]->trace)
			(void)fclose(world->hosts[i]->trace);
		free(world->hosts[i]);
	}
	free(world->events);
}

/* ---- tests ---- */

static uint64_t wall_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

static uint64_t run_seed(uint64_t seed, uint64_t (*fn)(uint64_t seed))
{
	printf("# DEMI_SEED=%" PRIu64 "\n", seed);
	(void)fflush(stdout);
	return fn(seed);
}

void world_seeds(uint64_t first, uint32_t count, uint32_t seconds, uint64_t (*fn)(uint64_t seed))
{
	uint64_t begin = wall_s();
	uint32_t ran = 1;
	uint64_t hash = run_seed(first, fn);
	uint32_t asked = test_number("TEST_SEED_SECONDS", 0);

	count = test_share(count);
	if (asked) {
		count = UINT32_MAX;
		seconds = asked;
	}

	assert_true(run_seed(first, fn) == hash);
	for (; ran < count && wall_s() - begin < seconds; ran++)
		(void)run_seed(first + ran, fn);
	if (asked)
		printf("# %" PRIu32 " seeds\n", ran);
	else
		printf("# %" PRIu32 " of %" PRIu32 " seeds\n", ran, count);
}
