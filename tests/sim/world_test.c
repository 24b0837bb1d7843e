/* SPDX-License-Identifier: MIT
 * tests/sim/world_test.c - the simulated world itself, by raw frames between sim devices: times to
 * the nanosecond, each fault, and that a run is a function of its seed.
 */
#include "sim/world.h"

#include "net/wire/checksum.h"
#include "netdev/checksum.h"
#include "support/seed.h"

#include <stdlib.h>
#include <string.h>

#define MTU         1500
#define FRAMES_MAX  4096
#define FRAME_BYTES 100 /* Ethernet, IPv4, UDP and payload */

/* A host without a stack: it notes what arrives, and sends on demand. */
struct station {
	struct sched sched;
	struct poller poller;
	struct host *host;
	uint32_t received;
	uint32_t numbers[FRAMES_MAX]; /* in the order of arrival */
	uint64_t times_ns[FRAMES_MAX];
	uint32_t checked; /* frames with FRAME_CHECKED */
	uint32_t bad;     /* frames that are not as they were sent */
	uint32_t largest_burst;
	struct frame *tx[FRAMES_MAX]; /* to be sent */
	uint32_t tx_first;
	uint32_t tx_end;
};

static struct station *station_of(struct poller *poller)
{
	return container_of(poller, struct station, poller);
}

/* ---- frames: Ethernet, IPv4, UDP, the number of the frame, bytes that follow from it ---- */

static void put32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void fill(uint8_t *bytes, const uint8_t to[6], const uint8_t from[6], uint32_t number)
{
	memset(bytes, 0, FRAME_BYTES);
	memcpy(bytes, to, 6);
	memcpy(bytes + 6, from, 6);
	bytes[12] = 8;
	bytes[14] = 0x45;
	bytes[17] = FRAME_BYTES - 14;
	bytes[22] = 64;
	bytes[23] = 17;
	put32(bytes + 26, 0x0a000001);
	put32(bytes + 30, 0x0a000002);
	bytes[39] = FRAME_BYTES - 34;
	put32(bytes + 42, number);
	for (uint32_t i = 46; i < FRAME_BYTES; i++)
		bytes[i] = (uint8_t)(number * 31 + i);
	struct netdev_transport t = {0};
	assert_true(netdev_find_transport(bytes, FRAME_BYTES, &t));
	bytes[40] = (uint8_t)(t.pseudo >> 8);
	bytes[41] = (uint8_t)t.pseudo;
}

static bool is_intact(const struct station *st, const uint8_t *bytes, uint32_t length,
		      uint32_t *number)
{
	if (length != FRAME_BYTES)
		return false;
	*number = (uint32_t)bytes[42] << 24 | (uint32_t)bytes[43] << 16 | (uint32_t)bytes[44] << 8 |
		  bytes[45];
	uint8_t expected[FRAME_BYTES];
	fill(expected, st->host->mac, st->host->world->hosts[0]->mac, *number);
	netdev_complete_checksum(expected, FRAME_BYTES, 34, 6);
	return *number < FRAMES_MAX && memcmp(expected, bytes, FRAME_BYTES) == 0;
}

/* ---- the station's poller ---- */

static void station_flush(struct poller *poller, uint32_t more)
{
	(void)more;
	struct station *st = station_of(poller);

	if (st->tx_first < st->tx_end)
		st->tx_first += st->host->dev->ops->tx_burst(st->host->dev, st->tx + st->tx_first,
							     st->tx_end - st->tx_first);
}

static void take(struct station *st, const struct frame *frame)
{
	uint32_t number;

	if (frame->flags & FRAME_CHECKED)
		st->checked++;
	if (!is_intact(st, frame->data, frame->length, &number)) {
		/* the part that checksums cover is what it was */
		assert_true(!(frame->flags & FRAME_CHECKED) ||
			    (frame->length >= FRAME_BYTES &&
			     netdev_checksum_good(frame->data, frame->length)));
		st->bad++;
		return;
	}
	assert_true(st->received < FRAMES_MAX);
	st->times_ns[st->received] = st->sched.now_ns;
	st->numbers[st->received++] = number;
}

static uint32_t station_poll(struct poller *poller)
{
	struct station *st = station_of(poller);
	struct frame *frames[NETDEV_BURST];
	struct netdev *dev = st->host->dev;

	station_flush(poller, true);
	uint32_t count = dev->ops->rx_burst(dev, frames, NETDEV_BURST);
	if (count > st->largest_burst)
		st->largest_burst = count;
	for (uint32_t i = 0; i < count; i++) {
		take(st, frames[i]);
		frame_free(st->sched.heap, frames[i]);
	}
	return count;
}

static int station_arm(struct poller *poller)
{
	struct netdev *dev = station_of(poller)->host->dev;

	return dev->ops->arm(dev);
}

static void station_disarm(struct poller *poller)
{
	struct netdev *dev = station_of(poller)->host->dev;

	dev->ops->disarm(dev);
}

static uint64_t station_next_deadline(struct poller *poller)
{
	struct netdev *dev = station_of(poller)->host->dev;

	return dev->ops->next_deadline(dev);
}

static const struct poller_ops station_ops = {
	.flush = station_flush,
	.poll = station_poll,
	.arm = station_arm,
	.disarm = station_disarm,
	.next_deadline = station_next_deadline,
};

/* ---- a world of two stations and a peer ---- */

struct rig {
	struct world world;
	struct station a;
	struct station b;
	struct host *peer;
	uint32_t peer_received;
};

static void add_station(struct rig *rig, struct station *st, const struct sim_options *options)
{
	static const struct log log;
	struct config config;

	memset(st, 0, sizeof(*st));
	world_config(&config);
	const struct sched_world around = world_sched(&rig->world);
	assert_int_equal(sched_open(&st->sched, &config, &log, &around), 0);
	heap_set_frames(st->sched.heap, frame_object_bytes(options->mtu), 512);
	st->host = world_add_sched(&rig->world, &st->sched, options);
	st->poller.ops = &station_ops;
	sched_add_poller(&st->sched, &st->poller);
}

static void at_peer(struct host *host, const uint8_t *bytes, uint32_t length)
{
	struct rig *rig = host->arg;

	(void)bytes;
	(void)length;
	rig->peer_received++;
}

static const struct sim_options plain = {.mtu = MTU, .rx_slots = 256, .max_segments = 2};

static struct rig *rig_open(uint64_t seed, const struct sim_options *options)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	world_open(&rig->world, seed);
	add_station(rig, &rig->a, options);
	add_station(rig, &rig->b, options);
	rig->peer = world_add_peer(&rig->world, at_peer, rig);
	return rig;
}

static void end_station(struct station *st)
{
	struct heap_usage usage;

	for (; st->tx_first < st->tx_end; st->tx_first++)
		frame_free(st->sched.heap, st->tx[st->tx_first]);
	heap_usage(st->sched.heap, &usage);
	assert_int_equal(usage.live_objects, 0);
	heap_check(st->sched.heap);
	st->host->dev->ops->close(st->host->dev);
	sched_remove_poller(&st->sched, &st->poller);
	st->host->sched = NULL;
	sched_close(&st->sched);
}

static uint64_t rig_end(struct rig *rig)
{
	uint64_t hash = rig->world.hash;

	end_station(&rig->a);
	end_station(&rig->b);
	world_close(&rig->world);
	free(rig);
	return hash;
}

/* a sends b frames first to first + count - 1 now: the first part in the frame, the rest, if the
 * device takes segments, in one. */
static void send_frames(struct rig *rig, uint32_t first, uint32_t count)
{
	struct station *a = &rig->a;
	uint32_t split = a->host->dev->max_segments > 0 ? 42 : FRAME_BYTES;
	uint8_t bytes[FRAME_BYTES];

	for (uint32_t i = first; i < first + count; i++) {
		struct frame *frame = frame_alloc_tx(a->sched.heap, FRAME_BYTES);
		assert_non_null(frame);
		fill(bytes, rig->b.host->mac, a->host->mac, i);
		if (!(a->host->dev->offloads & NETDEV_TX_CHECKSUM)) {
			netdev_complete_checksum(bytes, FRAME_BYTES, 34, 6);
		} else {
			frame->flags = FRAME_CHECKSUM;
			frame->transport_offset = 34;
			frame->checksum_offset = 6;
		}
		memcpy(frame->data, bytes, split);
		frame->length = split;
		if (split < FRAME_BYTES) {
			char *rest = heap_alloc(a->sched.heap, FRAME_BYTES);
			assert_non_null(rest);
			memcpy(rest, bytes + split, FRAME_BYTES - split);
			frame_append(frame, rest, FRAME_BYTES - split);
			assert_int_equal(heap_free(a->sched.heap, rest), 0);
		}
		a->tx[a->tx_end++] = frame;
	}
	a->sched.output_pending++;
	world_wake(a->host);
}

/* ---- tests ---- */

static void test_time(void **state)
{
	struct rig *rig = rig_open(1, &plain);
	struct world_path *path = &rig->world.paths[0][1];

	(void)state;
	path->delay_ns = 12345;
	path->bits_per_s = 1000000000;
	path->queue_bytes = 1000;
	send_frames(rig, 0, 20);
	world_run_until(&rig->world, WORLD_START_NS + WORLD_S);
	/* 800 ns a frame on the line; what finds more than 1000 bytes before it is lost */
	assert_int_equal(rig->b.received, 11);
	for (uint32_t i = 0; i < rig->b.received; i++) {
		assert_int_equal(rig->b.numbers[i], i);
		assert_int_equal(rig->b.times_ns[i], WORLD_START_NS + 12345 + 800 * (i + 1));
	}
	assert_int_equal(rig->world.stats.lost, 9);
	assert_int_equal(rig->world.now_ns, WORLD_START_NS + WORLD_S);
	assert_int_equal(rig->peer_received, 0);
	(void)rig_end(rig);
}

static void test_partition(void **state)
{
	struct rig *rig = rig_open(2, &plain);

	(void)state;
	world_partition(&rig->world, 1, 2, true);
	send_frames(rig, 0, 10);
	world_run_until(&rig->world, WORLD_START_NS + WORLD_MS);
	assert_int_equal(rig->b.received, 0);
	world_partition(&rig->world, 2, 1, false);
	send_frames(rig, 10, 10);
	world_run_until(&rig->world, WORLD_START_NS + 2 * WORLD_MS);
	assert_int_equal(rig->b.received, 10);
	rig->b.host->vanished = true;
	send_frames(rig, 20, 10);
	world_run_until(&rig->world, WORLD_START_NS + 3 * WORLD_MS);
	assert_int_equal(rig->b.received, 10);
	(void)rig_end(rig);
}

static void test_faults(void **state)
{
	struct sim_options options = plain;

	(void)state;
	options.offloads = NETDEV_RX_CHECKSUM | NETDEV_TX_CHECKSUM;
	struct rig *rig = rig_open(3, &options);
	struct world_path *path = &rig->world.paths[0][1];
	path->loss = 100000;
	path->duplicate = 100000;
	path->reorder = 100000;
	path->reorder_ns = 20 * WORLD_US;
	path->corrupt = 100000;
	for (uint32_t i = 0; i < 2000; i += 2) {
		send_frames(rig, i, 2);
		world_run_until(&rig->world, rig->world.now_ns + WORLD_US);
	}
	world_run_until(&rig->world, WORLD_START_NS + WORLD_S);

	const struct world_stats *stats = &rig->world.stats;
	assert_int_equal(stats->sent, 2000);
	assert_in_range(stats->lost, 140, 270);
	assert_in_range(stats->duplicated, 130, 250);
	assert_in_range(stats->reordered, 130, 250);
	assert_in_range(stats->corrupted, 130, 250);
	assert_in_range(rig->b.bad, stats->corrupted / 2, stats->corrupted);
	assert_int_equal(rig->b.received + rig->b.bad, 2000 - stats->lost + stats->duplicated);
	assert_true(rig->b.checked >= rig->b.received);
	uint32_t back = 0;
	for (uint32_t i = 1; i < rig->b.received; i++)
		back += rig->b.numbers[i] < rig->b.numbers[i - 1];
	assert_in_range(back, 50, 1000);
	(void)rig_end(rig);
}

/* Bits that change are seen by the device, wherever they are. */
static void test_corruption(void **state)
{
	struct sim_options options = plain;

	(void)state;
	options.offloads = NETDEV_RX_CHECKSUM;
	struct rig *rig = rig_open(4, &options);
	rig->world.paths[0][1].corrupt = WORLD_MILLION;
	for (uint32_t i = 0; i < FRAMES_MAX; i += 32) {
		send_frames(rig, i, 32);
		world_run_until(&rig->world, rig->world.now_ns + WORLD_MS);
	}
	/* a burst may change nothing; bytes after the packet change nothing for the checksum */
	assert_in_range(rig->b.received, 0, 100);
	assert_int_equal(rig->b.received + rig->b.bad, FRAMES_MAX);
	(void)rig_end(rig);
}

static void test_busy(void **state)
{
	struct rig *rig = rig_open(5, &plain);

	(void)state;
	rig->a.host->tx_busy = 700000;
	rig->b.host->lag_ns = 50 * WORLD_US;
	rig->a.host->arms = rig->b.host->arms = true;
	for (uint32_t i = 0; i < 1000; i += 10) {
		send_frames(rig, i, 10);
		world_run_until(&rig->world, rig->world.now_ns + 10 * WORLD_US);
	}
	world_run_until(&rig->world, rig->world.now_ns + 10 * WORLD_S);
	assert_int_equal(rig->b.received, 1000);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(rig->b.numbers[i], i);
	assert_true(rig->world.stats.busy > 0);
	assert_true(rig->b.largest_burst > 1);
	(void)rig_end(rig);
}

/* Arrivals beyond the device's ring, and beyond the frames of the heap, are lost and counted. */
static void test_short(void **state)
{
	struct sim_options options = plain;

	(void)state;
	options.rx_slots = 8;
	struct rig *rig = rig_open(6, &options);
	rig->world.paths[0][1].delay_ns = 0;
	rig->b.host->lag_ns = WORLD_MS;
	send_frames(rig, 0, 100);
	world_run_until(&rig->world, WORLD_START_NS + WORLD_S);
	assert_int_equal(rig->b.received, 8);
	assert_int_equal(rig->world.stats.no_room, 92);

	struct frame *held[FRAMES_MAX];
	uint32_t count = 0;
	while (count < FRAMES_MAX && (held[count] = frame_alloc(rig->b.sched.heap)))
		count++;
	assert_in_range(count, 1, FRAMES_MAX - 1);
	send_frames(rig, 100, 4);
	world_run_until(&rig->world, rig->world.now_ns + WORLD_S);
	assert_int_equal(rig->b.received, 8);
	assert_int_equal(rig->b.sched.counters.drops[DROP_FRAMES], 4);
	while (count > 0)
		frame_free(rig->b.sched.heap, held[--count]);
	(void)rig_end(rig);
}

/* The switch sends multicasts, and frames for nobody, to all. */
static void test_switch(void **state)
{
	struct rig *rig = rig_open(7, &plain);
	uint8_t bytes[FRAME_BYTES];

	(void)state;
	memset(bytes, 0xff, 6);
	fill(bytes, bytes, rig->peer->mac, 1); /* not as a would have sent it: bad */
	netdev_complete_checksum(bytes, FRAME_BYTES, 34, 6);
	world_send(rig->peer, bytes, sizeof(bytes));
	bytes[0] = 4;
	world_send(rig->peer, bytes, sizeof(bytes));
	memcpy(bytes, rig->a.host->mac, 6);
	world_send(rig->peer, bytes, sizeof(bytes));
	world_run_until(&rig->world, WORLD_START_NS + WORLD_S);
	assert_int_equal(rig->a.bad, 3);
	assert_int_equal(rig->b.bad, 2);
	assert_int_equal(rig->peer_received, 0);
	(void)rig_end(rig);
}

static void later(struct world *world, void *arg)
{
	uint32_t *order = arg;

	*order = *order * 10 + (uint32_t)(world->now_ns - WORLD_START_NS);
}

static void twice(struct world *world, void *arg)
{
	world_at(world, world->now_ns, later, arg);
	later(world, arg);
}

static void test_order(void **state)
{
	struct world world;
	uint32_t order = 0;

	(void)state;
	world_open(&world, 8);
	(void)world_add_peer(&world, at_peer, NULL);
	world_at(&world, WORLD_START_NS + 3, later, &order);
	world_at(&world, WORLD_START_NS + 1, later, &order);
	world_at(&world, WORLD_START_NS + 2, twice, &order);
	world_at(&world, WORLD_START_NS + 4, later, &order);
	world_run_until(&world, WORLD_START_NS + 10);
	assert_int_equal(order, 12234);
	world_close(&world);
}

static uint64_t one_seed(uint64_t seed)
{
	struct sim_options options = plain;

	options.offloads = (uint8_t)(seed % 4);
	options.rx_burst = (uint32_t)(seed % 5);
	options.max_segments = (uint8_t)(seed % 2);
	struct rig *rig = rig_open(seed, &options);
	world_swarm(&rig->world);
	for (uint32_t i = 0; i < 400;) {
		uint32_t count = (uint32_t)world_between(&rig->world, 1, 20);
		send_frames(rig, i, count);
		i += count;
		world_run_until(&rig->world,
				rig->world.now_ns + world_below(&rig->world, WORLD_MS));
	}
	world_calm(&rig->world);
	world_run_until(&rig->world, rig->world.now_ns + 10 * WORLD_S);
	uint32_t before = rig->b.received;
	send_frames(rig, 1000, 10);
	world_run_until(&rig->world, rig->world.now_ns + 10 * WORLD_S);
	WORLD_EXPECT(&rig->world, rig->b.received == before + 10);
	return rig_end(rig);
}

static void test_swarm(void **state)
{
	uint64_t first = test_seed(1);

	(void)state;
	world_seeds(first, 300, 10, one_seed);
	assert_true(one_seed(first) != one_seed(first + 1));
}

/* ---- lines ---- */

struct lines {
	struct world world;
	struct host *to;
	uint32_t from[2]; /* frames received of each host */
	uint32_t marked;
	uint64_t last_ns;
};

static void at_end_of_line(struct host *host, const uint8_t *bytes, uint32_t length)
{
	struct lines *lines = host->arg;
	bool v6 = bytes[12] == 0x86;

	lines->from[memcmp(bytes + 6, host->world->hosts[1]->mac, 6) == 0 ? 0 : 1]++;
	if (v6)
		lines->marked += (bytes[15] & 0x30U) == 0x30U;
	else
		lines->marked += (bytes[15] & 3U) == 3;
	if (!v6)
		assert_true(checksum_good(checksum_partial(bytes + 14, 20)));
	assert_int_equal(length, FRAME_BYTES);
	lines->last_ns = host->world->now_ns;
}

static void nowhere(struct host *host, const uint8_t *bytes, uint32_t length)
{
	(void)host;
	(void)bytes;
	(void)length;
}

/* Two hosts before the line to a third: 800 ns a frame. */
static void lines_open(struct lines *lines)
{
	memset(lines, 0, sizeof(*lines));
	world_open(&lines->world, 1);
	lines->to = world_add_peer(&lines->world, at_end_of_line, lines);
	(void)world_add_peer(&lines->world, nowhere, NULL);
	(void)world_add_peer(&lines->world, nowhere, NULL);
	for (uint32_t i = 1; i < 3; i++)
		lines->world.paths[i][0] = (struct world_path){
			.bits_per_s = 1000000000,
			.queue_bytes = 1050,
			.line = i == 1 ? NULL : &lines->world.paths[1][0],
		};
}

/* The host sends a frame with these first two bytes of its IP header. */
static void send_tagged(struct lines *lines, uint32_t host, uint8_t first, uint8_t second)
{
	uint8_t bytes[FRAME_BYTES];

	fill(bytes, lines->to->mac, lines->world.hosts[host]->mac, 1);
	if (first >> 4 == 6) {
		bytes[12] = 0x86;
		bytes[13] = 0xdd;
	}
	bytes[14] = first;
	bytes[15] = second;
	uint16_t sum = checksum_finish(checksum_partial(bytes + 14, 20));
	if (first >> 4 == 4)
		memcpy(bytes + 24, &sum, sizeof(sum));
	world_send(lines->world.hosts[host], bytes, sizeof(bytes));
}

static void test_shared_line(void **state)
{
	struct lines lines;

	(void)state;
	lines_open(&lines);
	for (int i = 0; i < 4; i++)
		send_tagged(&lines, 1, 0x45, 0);
	for (int i = 0; i < 20; i++)
		send_tagged(&lines, 2, 0x45, 0);
	world_run_until(&lines.world, WORLD_START_NS + WORLD_S);
	/* one queue: what the second finds in it is the first's as well */
	assert_int_equal(lines.from[0], 4);
	assert_int_equal(lines.from[1], 7);
	assert_true(lines.last_ns == WORLD_START_NS + 11 * 800);
	assert_int_equal(lines.world.stats.lost, 13);
	world_close(&lines.world);
}

static uint32_t count_marked(uint8_t first, uint8_t second)
{
	uint8_t mask = first >> 4 == 4 ? 3 : 0x30;
	struct lines lines;

	lines_open(&lines);
	lines.world.paths[1][0].mark_bytes = 350;
	for (int i = 0; i < 10; i++)
		send_tagged(&lines, 1, first, second);
	world_run_until(&lines.world, WORLD_START_NS + WORLD_S);
	assert_int_equal(lines.from[0], 10);
	uint64_t marked = lines.world.stats.marked;
	world_close(&lines.world);
	assert_int_equal(lines.marked, (second & mask) == mask ? 10 : marked);
	return (uint32_t)marked;
}

/* Behind more than 350 bytes in the queue: from the fifth on; only ECT(0) and ECT(1), of both
 * families, whose other bits and checksum stay right. */
static void test_marks(void **state)
{
	(void)state;
	for (uint32_t dscp = 0; dscp < 64; dscp++) {
		assert_int_equal(count_marked(0x45, (uint8_t)(dscp << 2)), 0);
		assert_int_equal(count_marked(0x45, (uint8_t)(dscp << 2 | 1)), 6);
		assert_int_equal(count_marked(0x45, (uint8_t)(dscp << 2 | 2)), 6);
		assert_int_equal(count_marked(0x45, (uint8_t)(dscp << 2 | 3)), 0);
	}
	assert_int_equal(count_marked(0x60, 0x00), 0);
	assert_int_equal(count_marked(0x60, 0x10), 6);
	assert_int_equal(count_marked(0x6f, 0x2f), 6);
	assert_int_equal(count_marked(0x60, 0x30), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_time),   cmocka_unit_test(test_partition),
		cmocka_unit_test(test_faults), cmocka_unit_test(test_corruption),
		cmocka_unit_test(test_busy),   cmocka_unit_test(test_short),
		cmocka_unit_test(test_switch), cmocka_unit_test(test_order),
		cmocka_unit_test(test_swarm),  cmocka_unit_test(test_shared_line),
		cmocka_unit_test(test_marks),
	};

	return test_run("world", tests);
}
