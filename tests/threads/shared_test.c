/* SPDX-License-Identifier: MIT
 * tests/threads/shared_test.c - netdev/spread/shared: instances that share a device, here an end of
 * a ring whose other end is the test: who gets what, what goes out, full lanes, sleeping, coming
 * and going, and all of that by threads at once.
 */
#include "support/test.h"

#include "netdev/ring/ring.h"
#include "netdev/spread/lane.h"
#include "netdev/spread/shared.h"
#include "support/rig.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { PLACES = 3, MTU = 1500, SLOTS = 1024, FRAMES = 1024, LENGTH = 60, FLOWS = 64 };

static struct rig rigs[PLACES];
static struct netdev *devs[PLACES]; /* NULL: nobody is there */
static struct netdev *ends[2];      /* of the ring: the test's, the device */

static int open_end(struct sched *sched, uint32_t place, void **device, struct netdev **dev_out)
{
	(void)device;
	if (place > 0)
		return 0;
	assert_int_equal(ring_pair(MTU, SLOTS, ends), 0);
	ends[1]->sched = sched;
	*dev_out = ends[1];
	return 0;
}

static int try_open(struct sched *sched, uint32_t places, struct netdev **dev_out)
{
	const struct shared_wish wish = {
		.name = "net_test0", .key = "test.queues", .places = places, .open = open_end};

	return shared_open(sched, &wish, dev_out);
}

static void come(uint32_t n)
{
	assert_int_equal(rig_open(&rigs[n], &(struct rig_options){0}), 0);
	heap_set_frames(rigs[n].sched.heap, frame_object_bytes(MTU), FRAMES);
	assert_int_equal(try_open(&rigs[n].sched, PLACES, &devs[n]), 0);
	assert_int_equal(devs[n]->ops->start(devs[n]), 0);
}

static void go(uint32_t n)
{
	struct heap_usage usage;

	devs[n]->ops->close(devs[n]);
	devs[n] = NULL;
	heap_usage(rigs[n].sched.heap, &usage);
	assert_int_equal(usage.live_objects, 0);
	rig_close(&rigs[n]);
	if (n == 0)
		ends[0]->ops->close(ends[0]);
}

static void come_all(void)
{
	for (uint32_t n = 0; n < PLACES; n++)
		come(n);
}

/* The receiver last. */
static void go_all(void)
{
	for (uint32_t n = PLACES; n-- > 0;) {
		if (devs[n])
			go(n);
	}
}

/* ---- frames ---- */

static void make(uint8_t bytes[LENGTH], uint16_t flow, uint32_t number)
{
	static const uint8_t headers[38] = {
		2, 0, 0, 0,  0x52, 1, 2, 0,  0, 0, 0x52, 0,  8, 0, 0x45, 0, 0, 46, 0,
		0, 0, 0, 64, 17,   0, 0, 10, 0, 0, 2,    10, 0, 0, 1,    0, 0, 0,  7,
	};

	memset(bytes, 0, LENGTH);
	memcpy(bytes, headers, sizeof(headers));
	bytes[34] = (uint8_t)(flow >> 8);
	bytes[35] = (uint8_t)flow;
	memcpy(bytes + 42, &number, sizeof(number));
}

static uint32_t number_of(const uint8_t *bytes)
{
	uint32_t number;

	memcpy(&number, bytes + 42, sizeof(number));
	return number;
}

static void arrive(const uint8_t bytes[LENGTH])
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = LENGTH};

	assert_int_equal(ring_put(ends[0], &iov, 1), 0);
}

static bool is_for(struct netdev *dev, uint16_t flow)
{
	const struct ip_address local = ip_from_v4(__builtin_bswap32(0x0a000001));
	const struct ip_address remote = ip_from_v4(__builtin_bswap32(0x0a000002));
	const struct netdev_flow both = {
		.local = &local, .remote = &remote, .local_port = 7, .remote_port = flow};

	return dev->ops->receives(dev, &both);
}

/* Takes one frame in; false: there is none. */
static bool take(struct netdev *dev, uint8_t bytes[LENGTH])
{
	struct frame *frame;

	if (dev->ops->rx_burst(dev, &frame, 1) == 0)
		return false;
	assert_int_equal(frame->length, LENGTH);
	memcpy(bytes, frame->data, LENGTH);
	frame_free_received(dev->sched->heap, frame);
	return true;
}

static uint32_t take_all(struct netdev *dev)
{
	uint8_t bytes[LENGTH];
	uint32_t n = 0;

	while (take(dev, bytes))
		n++;
	return n;
}

/* The receiver looks at all that has arrived, none of which is for it. */
static void spread(void)
{
	struct frame *frame;

	for (uint32_t i = 0; i < SLOTS; i++)
		assert_int_equal(devs[0]->ops->rx_burst(devs[0], &frame, 1), 0);
}

/* Sends a frame, with its last bytes in a segment; false: there is no room. */
static bool send(struct netdev *dev, uint16_t flow, uint32_t number)
{
	struct heap *heap = dev->sched->heap;
	struct frame *frame = frame_alloc_tx(heap, LENGTH);
	uint8_t *rest = heap_alloc(heap, LENGTH);
	uint8_t bytes[LENGTH];

	assert_non_null(frame);
	make(bytes, flow, number);
	memcpy(frame->data, bytes, 50);
	frame->length = 50;
	memcpy(rest, bytes + 50, LENGTH - 50);
	frame_append(frame, rest, LENGTH - 50);
	assert_int_equal(heap_free(heap, rest), 0);
	if (dev->ops->tx_burst(dev, &frame, 1) == 1)
		return true;
	frame_free(heap, frame);
	return false;
}

/* The next frame that the device sent; false: there is none. */
static bool leaves(uint8_t bytes[LENGTH])
{
	const void *at;
	uint32_t length;

	if (!ring_get(ends[0], &at, &length))
		return false;
	assert_int_equal(length, LENGTH);
	memcpy(bytes, at, LENGTH);
	ring_done(ends[0]);
	return true;
}

static uint64_t drops(uint32_t n, enum drop reason)
{
	return rigs[n].sched.counters.drops[reason];
}

/* ---- who is there ---- */

static void test_places(void **state)
{
	struct netdev *dev;
	struct rig rig;

	(void)state;
	come_all();
	assert_int_equal(rig_open(&rig, &(struct rig_options){0}), 0);
	assert_int_equal(try_open(&rig.sched, PLACES, &dev), -EBUSY);
	assert_int_equal(try_open(&rig.sched, PLACES + 1, &dev), -EINVAL);
	go(1);
	come(1); /* the lowest free place */
	assert_non_null(strstr(devs[1]->mode, "2 of 3"));
	assert_int_equal(devs[1]->mtu, devs[0]->mtu);
	assert_memory_equal(devs[1]->mac, devs[0]->mac, 6);
	go_all();
	/* Nobody is left, and so another number may be wished for. */
	assert_int_equal(try_open(&rig.sched, 1, &dev), 0);
	dev->ops->close(dev);
	ends[0]->ops->close(ends[0]);
	rig_close(&rig);
}

/* ---- what arrives ---- */

static void test_flows(void **state)
{
	uint8_t bytes[LENGTH];
	uint32_t got[PLACES] = {0};

	(void)state;
	come_all();
	for (uint16_t flow = 0; flow < FLOWS; flow++) {
		make(bytes, flow, flow);
		arrive(bytes);
		uint32_t takers = 0;
		for (uint32_t n = 0; n < PLACES; n++) {
			bool taken = take(devs[n], bytes);
			assert_int_equal(taken, is_for(devs[n], flow));
			assert_true(!taken || number_of(bytes) == flow);
			takers += taken;
			got[n] += taken;
		}
		assert_int_equal(takers, 1);
	}
	for (uint32_t n = 0; n < PLACES; n++)
		assert_true(got[n] > FLOWS / PLACES / 2);
	/* Of a place where nobody is, the receiver takes it. */
	go(2);
	for (uint16_t flow = 0; flow < FLOWS; flow++) {
		make(bytes, flow, flow);
		arrive(bytes);
		assert_int_equal(take(devs[0], bytes), is_for(devs[0], flow));
		assert_int_equal(take(devs[1], bytes), is_for(devs[1], flow));
		assert_true(is_for(devs[0], flow) != is_for(devs[1], flow));
	}
	go_all();
}

/* Offset and value of a byte or two that make a datagram something that all must see. */
static void test_for_all(void **state)
{
	static const uint8_t changes[][4] = {
		{13, 6, 21, 2},   /* an answer of ARP */
		{20, 0x20, 0, 2}, /* the first fragment */
		{21, 9, 0, 2},    /* a later one */
		{23, 1, 34, 3},   /* destination unreachable */
		{30, 224, 0, 2},  /* to a group */
	};
	uint8_t bytes[LENGTH];

	(void)state;
	come_all();
	for (uint32_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		make(bytes, 5, i);
		bytes[changes[i][0]] = changes[i][1];
		bytes[changes[i][2]] = changes[i][3];
		arrive(bytes);
		for (uint32_t n = 0; n < PLACES; n++) {
			assert_true(take(devs[n], bytes));
			assert_int_equal(number_of(bytes), i);
		}
		assert_int_equal(take_all(devs[0]) + take_all(devs[1]) + take_all(devs[2]), 0);
	}
	go_all();
}

/* A flow of an instance that is not the receiver. */
static uint16_t flow_of(uint32_t n)
{
	uint16_t flow = 0;

	while (!is_for(devs[n], flow))
		flow++;
	return flow;
}

static void test_nobody_takes(void **state)
{
	uint8_t bytes[LENGTH];
	uint16_t flow;

	(void)state;
	come_all();
	flow = flow_of(1);
	for (uint32_t i = 0; i < LANE_FRAMES + 10; i++) {
		make(bytes, flow, i);
		arrive(bytes);
	}
	spread();
	assert_int_equal(drops(0, DROP_RX_RING), 10);
	for (uint32_t i = 0; i < LANE_FRAMES; i++) {
		assert_true(take(devs[1], bytes));
		assert_int_equal(number_of(bytes), i);
	}
	assert_false(take(devs[1], bytes));
	make(bytes, flow, 4711);
	arrive(bytes);
	spread();
	assert_int_equal(take_all(devs[1]), 1);
	/* Frames for who goes before it takes them end with it. */
	arrive(bytes);
	spread();
	go(1);
	come(1);
	assert_int_equal(take_all(devs[1]), 0);
	go_all();
}

/* ---- what goes out ---- */

static void test_sending(void **state)
{
	uint8_t bytes[LENGTH];
	uint8_t expected[LENGTH];
	uint32_t given = 0;

	(void)state;
	come_all();
	for (uint32_t i = 0; i < 10; i++)
		assert_true(send(devs[1 + i % 2], 1, i));
	assert_false(leaves(bytes));
	spread();
	for (uint32_t n = 0; n < 2; n++) {
		for (uint32_t i = n; i < 10; i += 2) { /* one instance's stay in order */
			make(expected, 1, i);
			assert_true(leaves(bytes));
			assert_memory_equal(bytes, expected, LENGTH);
		}
	}
	/* While the receiver looks away a lane is what fits. */
	while (send(devs[1], 1, given))
		given++;
	assert_int_equal(given, LANE_FRAMES);
	assert_true(devs[1]->ops->next_deadline(devs[1]) != TIMER_NEVER);
	spread();
	for (uint32_t i = 0; i < given; i++) {
		assert_true(leaves(bytes));
		assert_int_equal(number_of(bytes), i);
	}
	assert_true(send(devs[1], 1, 0));
	assert_true(devs[1]->ops->next_deadline(devs[1]) == TIMER_NEVER);
	/* Without a receiver the device is down; with another one it is up again. */
	go(0);
	assert_true(send(devs[1], 1, 0));
	assert_int_equal(drops(1, DROP_DEVICE), 1);
	come(0);
	assert_true(send(devs[1], 1, 12));
	spread();
	assert_true(leaves(bytes));
	assert_int_equal(number_of(bytes), 12);
	assert_false(leaves(bytes));
	go_all();
}

/* The device is full: what others sent waits, in order. */
static void test_a_full_device(void **state)
{
	uint8_t bytes[LENGTH];
	uint32_t sent = 0;
	uint32_t out = 0;

	(void)state;
	come_all();
	for (; sent < SLOTS + 100; sent++) {
		while (!send(devs[1], 1, sent))
			spread();
	}
	for (uint32_t round = 0; round < 4; round++) {
		spread();
		for (; leaves(bytes); out++)
			assert_int_equal(number_of(bytes), out);
	}
	assert_int_equal(out, sent);
	go_all();
}

/* ---- sleeping ---- */

static bool is_rung(const struct rig *rig)
{
	struct pollfd fd = {.fd = rig->sched.fds.epoll_fd, .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

static void test_sleeping(void **state)
{
	uint8_t bytes[LENGTH];

	(void)state;
	come_all();
	uint16_t flow = flow_of(1);
	make(bytes, flow, 1);
	/* Who is awake is not rung. */
	arrive(bytes);
	spread();
	assert_false(is_rung(&rigs[1]));
	assert_int_equal(devs[1]->ops->arm(devs[1]), -EAGAIN);
	assert_int_equal(take_all(devs[1]), 1);
	assert_int_equal(devs[1]->ops->arm(devs[1]), 0);
	assert_false(is_rung(&rigs[1]));
	arrive(bytes);
	spread();
	assert_true(is_rung(&rigs[1]));
	assert_false(is_rung(&rigs[2]));
	assert_int_equal(fdset_wait(&rigs[1].sched.fds, 0), 1);
	assert_false(is_rung(&rigs[1]));
	devs[1]->ops->disarm(devs[1]);
	assert_int_equal(take_all(devs[1]), 1);
	/* A ring must be polled: its receiver does not sleep. */
	assert_int_equal(devs[0]->ops->arm(devs[0]), -ENOTSUP);
	assert_true(send(devs[1], 1, 1));
	assert_false(is_rung(&rigs[0]));
	assert_int_equal(devs[0]->ops->arm(devs[0]), -EAGAIN);
	go_all();
}

/* ---- threads ---- */

enum { ROUNDS = 200, TURNS = 100 };

static _Atomic bool over;

static void turn(struct netdev *dev)
{
	struct frame *frames[NETDEV_BURST];
	uint32_t n = dev->ops->rx_burst(dev, frames, NETDEV_BURST);
	uint32_t sent = dev->ops->tx_burst(dev, frames, n);

	for (uint32_t i = sent; i < n; i++)
		frame_free(dev->sched->heap, frames[i]);
}

/* Comes, sends back what it receives, and goes. */
static char wrong_rig[] = "no rig";
static char wrong_open[] = "not opened";
static char wrong_heap[] = "objects left";
static char wrong_bytes[] = "other bytes";

static void *come_and_go(void *arg)
{
	(void)arg;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct rig rig;
		struct netdev *dev;
		struct heap_usage usage;
		if (rig_open(&rig, &(struct rig_options){0}))
			return wrong_rig;
		heap_set_frames(rig.sched.heap, frame_object_bytes(MTU), FRAMES);
		if (try_open(&rig.sched, PLACES, &dev) || dev->ops->start(dev))
			return wrong_open;
		for (uint32_t i = 0; i < TURNS; i++) {
			turn(dev);
			if (dev->ops->arm(dev) == 0)
				dev->ops->disarm(dev);
			(void)sched_yield();
		}
		dev->ops->close(dev);
		heap_usage(rig.sched.heap, &usage);
		rig_close(&rig);
		if (usage.live_objects != 0)
			return wrong_heap;
	}
	return NULL;
}

/* The other end of the device: frames of all flows, and what comes back is whole. */
static void *peer(void *arg)
{
	uint64_t *returned = arg;
	uint8_t bytes[LENGTH];
	uint8_t expected[LENGTH];

	for (uint32_t i = 0; !atomic_load(&over); i++) {
		const struct iovec iov = {.iov_base = bytes, .iov_len = LENGTH};
		make(bytes, (uint16_t)(i % FLOWS), i);
		if (ring_put(ends[0], &iov, 1))
			(void)sched_yield();
		for (; leaves(bytes); ++*returned) {
			uint32_t number = number_of(bytes);
			make(expected, (uint16_t)(number % FLOWS), number);
			if (memcmp(bytes, expected, LENGTH) != 0)
				return wrong_bytes;
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[PLACES];
	uint64_t returned = 0;

	(void)state;
	atomic_store(&over, false);
	come(0);
	for (uint32_t i = 0; i < PLACES - 1; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, NULL), 0);
	assert_int_equal(pthread_create(&threads[PLACES - 1], NULL, peer, &returned), 0);
	for (uint32_t left = PLACES - 1; left > 0;) {
		void *wrong = NULL;
		turn(devs[0]);
		if (pthread_tryjoin_np(threads[left - 1], &wrong) == 0) {
			assert_null(wrong);
			left--;
		}
	}
	atomic_store(&over, true);
	void *wrong;
	assert_int_equal(pthread_join(threads[PLACES - 1], &wrong), 0);
	assert_null(wrong);
	print_message("# %llu frames came back\n", (unsigned long long)returned);
	assert_true(returned > 0);
	go(0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),   cmocka_unit_test(test_flows),
		cmocka_unit_test(test_for_all),  cmocka_unit_test(test_nobody_takes),
		cmocka_unit_test(test_sending),  cmocka_unit_test(test_a_full_device),
		cmocka_unit_test(test_sleeping), cmocka_unit_test(test_threads),
	};

	return test_run("shared", tests);
}
