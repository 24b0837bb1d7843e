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

/* Where frames are from when all that the device has are in use: objects.  They go out when there
 * is a frame to copy them into, and not before. */
static void test_frames_run_out(void **state)
{
	void *last = NULL;

	(void)state;
	NEED_DPDK;
	start();
	struct heap *heap = bench.sched.heap;
	while (true) { /* a list of them, in themselves */
		void **frame = heap_alloc_frame(heap);
		if (!frame)
			break;
		*frame = last;
		last = frame;
	}
	struct frame *sent = device_make(100, 1, 0);
	assert_int_equal(pages_find(sent)->class == HEAP_FRAMES, false);
	assert_int_equal(bench.dev->ops->tx_burst(bench.dev, &sent, 1), 0);
	void *next = *(void **)last;
	assert_int_equal(heap_free(heap, last), 0);
	assert_int_equal(bench.dev->ops->tx_burst(bench.dev, &sent, 1), 1);
	device_peer_expect(100, 1);
	while (next) {
		last = next;
		next = *(void **)last;
		assert_int_equal(heap_free(heap, last), 0);
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
	};

	missing = find_missing();
	return test_run("dpdk_device", tests);
}
