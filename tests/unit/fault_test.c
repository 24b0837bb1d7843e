/* SPDX-License-Identifier: MIT
 * tests/unit/fault_test.c - netdev/fault/: what a spec may say, each fault in each direction, time,
 * a device that has no room, no memory, and that a run follows from its seed.
 */
#include "support/test.h"

#include "netdev/checksum.h"
#include "netdev/fault/fault.h"
#include "support/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 2000

static struct wire wire;
static char logged[LOG_MESSAGE_MAX];

static void keep_line(void *arg, int level, const char *message)
{
	(void)arg;
	(void)level;
	(void)snprintf(logged, sizeof(logged), "%s", message);
}

static const struct log lines = {.fn = keep_line};

/* The outcome of frames 0 to FRAMES - 1. */
struct outcome {
	uint32_t whole;
	uint32_t damaged;
	uint32_t checked;
	uint32_t doubled;
	uint32_t back; /* smaller than its predecessor */
	uint32_t seen[FRAMES];
	uint64_t digest;
};

static void note(struct outcome *out, uint32_t *last, const uint8_t *bytes, uint32_t length)
{
	uint32_t number;

	for (uint32_t i = 0; i < length; i++)
		out->digest = (out->digest ^ bytes[i]) * 0x100000001b3U;
	if (!wire_parse(bytes, length, &number)) {
		out->damaged++;
		return;
	}
	assert_true(number < FRAMES);
	out->whole++;
	out->doubled += out->seen[number]++ > 0;
	out->back += number < *last;
	*last = number;
}

static struct netdev *start(const char *spec, uint8_t offloads)
{
	struct netdev *dev;

	wire_open(&wire, offloads);
	assert_int_equal(fault_wrap(wire.dev, spec, &lines, &dev), 0);
	dev->sched = &wire.rig.sched;
	assert_int_equal(dev->ops->start(dev), 0);
	assert_int_equal(dev->mtu, 1500);
	assert_memory_equal(dev->mac, wire.dev->mac, 6);
	return dev;
}

static void end(struct netdev *dev)
{
	dev->ops->close(dev);
	wire_close(&wire);
}

static void receive(struct netdev *dev, struct outcome *out, uint32_t *last)
{
	struct frame *frames[NETDEV_BURST];
	uint32_t n;

	while ((n = dev->ops->rx_burst(dev, frames, 7)) > 0) {
		for (uint32_t i = 0; i < n; i++) {
			out->checked += frames[i]->flags == FRAME_CHECKED;
			assert_true(!(frames[i]->flags & FRAME_CHECKED) ||
				    netdev_checksum_good(frames[i]->data, frames[i]->length));
			note(out, last, frames[i]->data, frames[i]->length);
			frame_free(wire.rig.sched.heap, frames[i]);
		}
	}
}

/* All frames through a device in one direction, 10 us apart, and 100 ms more. */
static void run(const char *spec, bool rx, struct outcome *out)
{
	struct netdev *dev = start(spec, NETDEV_RX_CHECKSUM);
	uint8_t bytes[WIRE_BYTES];
	uint32_t last = 0;

	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < FRAMES; i++) {
		if (rx) {
			uint32_t length = wire_make(bytes, i, 60 + i % 100, false);
			assert_true(sim_arrive(wire.dev, bytes, length));
		} else {
			struct frame *frame =
				wire_frame(&wire, i, 60 + i % 100, i % 2 ? 42 : 200, false);
			assert_int_equal(dev->ops->tx_burst(dev, &frame, 1), 1);
		}
		receive(dev, out, &last);
		wire_advance(&wire, 10000);
	}
	wire_advance(&wire, 100000000);
	receive(dev, out, &last);
	for (uint32_t i = 0; i < wire.num_sent; i++)
		note(out, &last, wire.sent[i].bytes, wire.sent[i].length);
	assert_true(dev->ops->next_deadline(dev) == TIMER_NEVER);
	end(dev);
}

static void test_each(void **state)
{
	static struct outcome out;

	(void)state;
	for (int rx = 0; rx < 2; rx++) {
		run("", rx, &out);
		assert_int_equal(out.whole, FRAMES);
		assert_int_equal(out.back + out.damaged + out.doubled, 0);

		run("drop=10%", rx, &out);
		assert_in_range(out.whole, FRAMES - 280, FRAMES - 130);
		assert_int_equal(out.back + out.damaged + out.doubled, 0);

		run("duplicate=10%", rx, &out);
		assert_in_range(out.doubled, 130, 280);
		assert_int_equal(out.whole, FRAMES + out.doubled);
		assert_int_equal(out.damaged, 0);

		run("reorder=10%", rx, &out);
		assert_int_equal(out.whole, FRAMES);
		assert_in_range(out.back, 100, 300);

		run("corrupt=10%", rx, &out);
		assert_in_range(out.damaged, 130, 280);
		assert_int_equal(out.whole + out.damaged, FRAMES);
		if (rx)
			assert_int_equal(out.checked, out.whole);

		run(rx ? "tx-drop=100%,tx-corrupt=100" : "rx-drop=100%,rx-delay=1s", rx, &out);
		assert_int_equal(out.whole, FRAMES);
		run(rx ? "rx-drop=100%" : "tx-drop=100%", rx, &out);
		assert_int_equal(out.whole + out.damaged, 0);
		run("drop=0.05%,duplicate=0%", rx, &out);
		assert_in_range(out.whole, FRAMES - 10, FRAMES);
	}
}

static void test_seed(void **state)
{
	static struct outcome one;
	static struct outcome two;
	static const char *const all =
		"drop=5%,duplicate=5%,reorder=5%,corrupt=5%,delay=30us,seed=7";

	(void)state;
	run(all, true, &one);
	run(all, true, &two);
	assert_true(one.digest == two.digest);
	run("drop=5%,duplicate=5%,reorder=5%,corrupt=5%,delay=30us,seed=8", true, &two);
	assert_true(one.digest != two.digest);
	run(all, false, &one);
	run(all, false, &two);
	assert_true(one.digest == two.digest);
}

static void test_time(void **state)
{
	struct netdev *dev = start("delay=100us", 0);
	struct frame *frame;
	uint8_t bytes[WIRE_BYTES];
	uint32_t number;

	(void)state;
	uint64_t begin = wire.rig.sched.now_ns;
	assert_int_equal(dev->ops->arm(dev), 0);
	dev->ops->disarm(dev);
	assert_true(sim_arrive(wire.dev, bytes, wire_make(bytes, 1, 60, false)));
	assert_int_equal(dev->ops->arm(dev), -EAGAIN);
	assert_int_equal(dev->ops->rx_burst(dev, &frame, 1), 0);
	assert_int_equal(dev->ops->arm(dev), 0);
	assert_true(dev->ops->next_deadline(dev) == begin + 100000);
	frame = wire_frame(&wire, 2, 60, 60, false);
	wire_advance(&wire, 40000);
	assert_int_equal(dev->ops->tx_burst(dev, &frame, 1), 1);
	assert_int_equal(wire.num_sent, 0);
	wire_advance(&wire, 59999);
	assert_int_equal(dev->ops->rx_burst(dev, &frame, 1), 0);
	wire_advance(&wire, 1);
	assert_int_equal(dev->ops->arm(dev), -EAGAIN);
	assert_int_equal(dev->ops->rx_burst(dev, &frame, 1), 1);
	assert_true(wire_parse(frame->data, frame->length, &number));
	assert_int_equal(number, 1);
	frame_free(wire.rig.sched.heap, frame);
	assert_true(dev->ops->next_deadline(dev) == begin + 140000);
	wire_advance(&wire, 40000);
	assert_int_equal(dev->ops->rx_burst(dev, &frame, 1), 0);
	assert_int_equal(wire.num_sent, 1);
	assert_int_equal(dev->stats.rx_frames, 1);
	assert_int_equal(dev->stats.tx_frames, 1);
	/* what is on its way at the end goes with the device */
	frame = wire_frame(&wire, 3, 300, 42, false);
	assert_int_equal(dev->ops->tx_burst(dev, &frame, 1), 1);
	assert_true(sim_arrive(wire.dev, bytes, wire_make(bytes, 1, 60, false)));
	assert_int_equal(dev->ops->rx_burst(dev, &frame, 1), 0);
	end(dev);
	assert_int_equal(wire.num_sent, 1);
}

/* A device without room: frames wait in order, and beyond a bound are refused. */
static void test_room(void **state)
{
	struct netdev *dev = start("", 0);
	struct frame *frames[WIRE_SENT_MAX];
	uint32_t taken = 0;
	uint32_t number;

	(void)state;
	wire.room = 5;
	wire.retry_ns = wire.rig.sched.now_ns + 1234;
	for (uint32_t i = 0; i < WIRE_SENT_MAX; i++)
		frames[i] = wire_frame(&wire, i, 60, 60, false);
	taken = dev->ops->tx_burst(dev, frames, WIRE_SENT_MAX);
	assert_in_range(taken, 32, WIRE_SENT_MAX - 1);
	assert_int_equal(dev->stats.tx_busy, 1);
	assert_true(dev->ops->next_deadline(dev) == wire.rig.sched.now_ns + 1234);
	wire.room = UINT32_MAX;
	while (taken < WIRE_SENT_MAX)
		taken += dev->ops->tx_burst(dev, frames + taken, WIRE_SENT_MAX - taken);
	assert_int_equal(wire.num_sent, WIRE_SENT_MAX);
	for (uint32_t i = 0; i < WIRE_SENT_MAX; i++) {
		assert_true(wire_parse(wire.sent[i].bytes, wire.sent[i].length, &number));
		assert_int_equal(number, i);
	}
	end(dev);
}

/* A damaged frame must not get a good checksum from the device; memory of the application that is
 * sent from stays as it is. */
static void test_damage(void **state)
{
	struct netdev *dev = start("tx-corrupt=100%", NETDEV_TX_CHECKSUM | NETDEV_RX_CHECKSUM);
	uint8_t arp[60] = {[12] = 8, [13] = 6, [59] = 1};
	struct heap *heap = wire.rig.sched.heap;

	(void)state;
	assert_int_equal(dev->offloads, NETDEV_RX_CHECKSUM);
	uint8_t *mine = heap_alloc(heap, 1000);
	assert_non_null(mine);
	memset(mine, 7, 1000);
	for (int i = 0; i < 500; i++) {
		struct frame *frame = frame_alloc_tx(heap, 14);
		assert_non_null(frame);
		memset(frame->data, 0, 14);
		frame->length = 14;
		frame_append(frame, mine, 1000);
		assert_int_equal(dev->ops->tx_burst(dev, &frame, 1), 1);
	}
	for (int i = 0; i < 1000; i++)
		assert_int_equal(mine[i], 7);
	assert_int_equal(heap_library_refs(heap, mine), 0);
	assert_int_equal(heap_free(heap, mine), 0);
	struct frame *frame = frame_alloc_tx(heap, sizeof(arp));
	assert_non_null(frame);
	memcpy(frame->data, arp, sizeof(arp));
	frame->length = sizeof(arp);
	assert_int_equal(dev->ops->tx_burst(dev, &frame, 1), 1);
	assert_memory_equal(wire.sent[wire.num_sent - 1].bytes, arp, sizeof(arp));
	end(dev);
}

/* Without memory there are no copies; nothing else changes. */
static void test_exhausted(void **state)
{
	struct netdev *dev = start("rx-duplicate=100%", 0);
	struct heap *heap = wire.rig.sched.heap;
	struct frame *held[16384];
	uint32_t count = 0;
	uint8_t bytes[WIRE_BYTES];
	struct frame *frames[4];

	(void)state;
	while (count < ARRAY_LENGTH(held) && (held[count] = frame_alloc(heap)))
		count++;
	assert_in_range(count, 1, ARRAY_LENGTH(held) - 1);
	frame_free(heap, held[--count]);
	assert_true(sim_arrive(wire.dev, bytes, wire_make(bytes, 1, 60, false)));
	assert_int_equal(dev->ops->rx_burst(dev, frames, 4), 1);
	while (count > 0)
		frame_free(heap, held[--count]);
	assert_true(sim_arrive(wire.dev, bytes, wire_make(bytes, 1, 60, false)));
	assert_int_equal(dev->ops->rx_burst(dev, frames + 1, 3), 2);
	for (int i = 0; i < 3; i++)
		frame_free(heap, frames[i]);
	end(dev);
}

static enum drop told;

static void inner_dropped(struct netdev *dev, const struct frame *frame, enum drop reason)
{
	assert_ptr_equal(dev, wire.dev);
	assert_null(frame);
	told = reason;
}

static void test_dropped(void **state)
{
	struct netdev *dev = start("", 0);

	(void)state;
	dev->dropped(dev, NULL, DROP_FRAMES);
	wire.dev->dropped = inner_dropped;
	dev->dropped(dev, NULL, DROP_FRAMES);
	assert_int_equal(told, DROP_FRAMES);
	end(dev);
}

static void test_spec(void **state)
{
	static const char *const good[] = {
		"",
		"drop=0%",
		"drop=100%",
		"drop=1",
		"drop=0.0001%",
		"rx-drop=1%,tx-drop=2%",
		"delay=0ns",
		"delay=60s",
		"delay=60000000us",
		"seed=0",
		"seed=18446744073709551615",
		"drop=1%,duplicate=1%,reorder=1%,corrupt=0.1%,delay=100us,seed=7",
		"drop=1%,",
	};
	static const char *const bad[] = {
		"drop",
		"drop=",
		"drop=%",
		"drop=100.0001%",
		"drop=0.00001%",
		"drop=-1%",
		"drop=1x",
		"drop=1%%",
		"drops=1%",
		"rx-seed=1",
		"seed=",
		"seed=x",
		"seed=1.5",
		"seed=18446744073709551616",
		"delay=1",
		"delay=1m",
		"delay=61s",
		"delay=1.5ms",
		"delay=60000000001ns",
		"delay=99999999999999999999s",
		"rx-=1",
		"=1",
		",drop=1%",
		"ab-drop=1%",
		"drop=1%,delay=1%",
		"drop=1 %",
		"rx-tx-drop=1%",
		"drop=0000000000000000000000000000000000000000000000000000000000000001%",
	};
	struct netdev *dev;

	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++)
		end(start(good[i], 0));
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		wire_open(&wire, 0);
		*logged = '\0';
		assert_int_equal(fault_wrap(wire.dev, bad[i], &lines, &dev), -EINVAL);
		assert_non_null(strstr(logged, "demitasse.fault: \""));
		assert_non_null(strstr(logged, "allowed are drop="));
		wire.dev->sched = &wire.rig.sched;
		wire.dev->ops->close(wire.dev);
		wire_close(&wire);
	}
	wire_open(&wire, 0);
	assert_int_equal(fault_wrap(wire.dev, "drop=1%,speed=3,delay=1s", &lines, &dev), -EINVAL);
	assert_non_null(strstr(logged, "\"speed=3\""));
	wire.dev->ops->close(wire.dev);
	wire_close(&wire);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each),    cmocka_unit_test(test_seed),
		cmocka_unit_test(test_time),    cmocka_unit_test(test_room),
		cmocka_unit_test(test_damage),  cmocka_unit_test(test_exhausted),
		cmocka_unit_test(test_dropped), cmocka_unit_test(test_spec),
	};

	return test_run("fault", tests);
}
