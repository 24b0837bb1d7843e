/* SPDX-License-Identifier: MIT
 * tests/net/dpdk_device_test.c - a port of DPDK without a stack above it: DPDK's packet socket
 * (net_af_packet) at one end of a veth pair, a packet socket of ours at the other.
 */
#include "support/device.h"
#include "support/netns.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CATNIP 2 /* of the choices of demitasse.libos */
#define MTU    1500

static const char *missing; /* why nothing can be tested; NULL */

#define NEED_DPDK                              \
	do {                                   \
		if (missing)                   \
			skip_because(missing); \
	} while (0)

static void prepare(void)
{
	netns_veth("vA", "vB");
	device_prepare(0, "vA");
	bench.config.libos = CATNIP;
	bench.config.dpdk_memory_bytes = 16 << 20;
	device_set(dpdk_device, "net_af_packet0,iface=vA,qdisc_bypass=1");
}

static void start(void)
{
	prepare();
	device_start("vB");
}

static void finish(void)
{
	device_finish();
	netns_run("ip link del vA");
}

/* ---- what passes ---- */

static void test_frames_pass(void **state)
{
	(void)state;
	NEED_DPDK;
	start();
	device_exchange(MTU);
	finish();
}

/* Takes all frames that the heap has: a list of them, in themselves. */
static void *hold_all_frames(struct heap *heap)
{
	void *last = NULL;

	for (;;) {
		void **frame = heap_alloc_frame(heap);
		if (!frame)
			return last;
		*frame = last;
		last = frame;
	}
}

static void let_go(struct heap *heap, void *held)
{
	while (held) {
		void *next = *(void **)held;
		assert_int_equal(heap_free(heap, held), 0);
		held = next;
	}
}

/* Drops what waits in the kernel's ring. */
static void drain(void)
{
	struct frame *frames[NETDEV_BURST];

	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t n = bench.dev->ops->rx_burst(bench.dev, frames, NETDEV_BURST);
		for (uint32_t j = 0; j < n; j++)
			frame_free_received(bench.sched.heap, frames[j]);
	}
}

/* Nothing is received then, and all is as before when the application has let go. */
static void test_no_frame_to_receive_into(void **state)
{
	struct frame *frames[NETDEV_BURST];
	uint32_t seed = 1;

	(void)state;
	NEED_DPDK;
	start();
	void *held = hold_all_frames(bench.sched.heap);
	for (; seed <= 200; seed++) { /* more than the device keeps at hand */
		device_peer_send(bench.dev->mac, 100, seed);
		uint32_t n = bench.dev->ops->rx_burst(bench.dev, frames, NETDEV_BURST);
		for (uint32_t i = 0; i < n; i++) {
			*(void **)frames[i] = held; /* kept, too */
			held = frames[i];
		}
	}
	device_peer_send(bench.dev->mac, 100, seed++);
	assert_int_equal(bench.dev->ops->rx_burst(bench.dev, frames, NETDEV_BURST), 0);
	let_go(bench.sched.heap, held);
	drain();
	device_peer_send(bench.dev->mac, 200, seed);
	device_expect(bench.dev->mac, 200, seed);
	finish();
}

/* Where frames are from when all that the device has are in use: objects.  They go out when there
 * is a frame to copy them into, and not before. */
static void test_frames_run_out(void **state)
{
	(void)state;
	NEED_DPDK;
	start();
	struct heap *heap = bench.sched.heap;
	void *last = hold_all_frames(heap);
	assert_non_null(last);
	struct frame *sent = device_make(100, 1, 0);
	assert_int_equal(pages_find(sent)->class == HEAP_FRAMES, false);
	assert_int_equal(bench.dev->ops->tx_burst(bench.dev, &sent, 1), 0);
	void *next = *(void **)last;
	assert_int_equal(heap_free(heap, last), 0);
	assert_int_equal(bench.dev->ops->tx_burst(bench.dev, &sent, 1), 1);
	device_peer_expect(100, 1);
	let_go(heap, next);
	finish();
}

/* Sends from the peer until a frame arrives: a link that has just come up drops some. */
static bool passes(uint32_t seed)
{
	const struct timespec pause = {.tv_nsec = 10000000};

	for (uint32_t try = 0; try < 500; try++) {
		device_peer_send(bench.dev->mac, 300, seed);
		for (uint32_t i = 0; i < 100; i++) {
			struct frame *frame;
			if (bench.dev->ops->rx_burst(bench.dev, &frame, 1) == 0)
				continue;
			bool ours = device_is_ours(frame) && frame->length == 300;
			frame_free_received(bench.sched.heap, frame);
			if (ours)
				return true;
		}
		(void)nanosleep(&pause, NULL);
	}
	return false;
}

/* The link goes, with frames under way both ways, and returns: the device goes on. */
static void test_link_returns(void **state)
{
	(void)state;
	NEED_DPDK;
	start();
	for (uint32_t seed = 1; seed < 10; seed += 2) {
		device_peer_send(bench.dev->mac, 100, seed);
		netns_run("ip link set vA down");
		struct frame *lost = device_make(100, 99, 0);
		if (bench.dev->ops->tx_burst(bench.dev, &lost, 1) == 0)
			frame_free(bench.sched.heap, lost);
		netns_run("ip link set vA up");
		drain();
		assert_true(passes(seed + 1));
		drain();
		device_transmit(device_make(200, seed, 0));
	}
	finish();
}

/* Why there is no DPDK here; NULL: there is. */
static const char *find_missing(void)
{
	if (!netns_enter())
		return "privilege: network interfaces need CAP_NET_ADMIN";
	prepare();
	return device_lacks_plugin("vA") ? "build: libdemitasse-dpdk.so is not there" : NULL;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_pass),
		cmocka_unit_test(test_frames_run_out),
		cmocka_unit_test(test_no_frame_to_receive_into),
		cmocka_unit_test(test_link_returns),
	};

	missing = find_missing();
	return test_run("dpdk_device", tests);
}
