/* SPDX-License-Identifier: MIT
 * tests/net/afxdp_test.c - the netdev afxdp, without a stack above it: frames to and from a packet
 * socket at the other end of a veth pair, in both of the program's modes.
 */
#include "support/test.h"

#include "net/net.h"
#include "support/child.h"
#include "support/device.h"
#include "support/net.h"
#include "support/netns.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define AFXDP 2 /* of the choices of demitasse.device */

enum { AUTO, NATIVE, GENERIC };

enum { REFER_AUTO, REFER_NEVER, REFER_ALWAYS };

static const char *missing; /* why nothing can be tested; NULL */

#define NEED_AFXDP                             \
	do {                                   \
		if (missing)                   \
			skip_because(missing); \
	} while (0)

/* A veth pair, and our end of it prepared. */
static void prepare(uint32_t mtu, int mode)
{
	netns_veth("vA", "vB");
	netns_run("ip link set vA mtu %u && ip link set vB mtu %u", mtu, mtu);
	device_prepare(AFXDP, "vA");
	bench.config.xdp_mode = mode;
	bench.config.xdp_memory_bytes = 8 << 20;
	bench.type = ETH_P_IP;
}

static void steer(bool wanted)
{
	struct ip_address ours = ip_from_v4(htonl(0x0a090002));

	assert_int_equal(bench.dev->ops->steer(bench.dev, &ours, wanted), 0);
}

static void start(void)
{
	device_start("vB");
	steer(true);
}

static void finish(void)
{
	device_finish();
	netns_run("ip link del vA");
}

/* ---- what passes ---- */

static void frames_pass(uint32_t mtu, int mode, int reference)
{
	prepare(mtu, mode);
	bench.config.xdp_reference = reference;
	start();
	assert_int_equal(bench.dev->mtu, mtu);
	assert_int_equal(bench.dev->max_segments, reference == REFER_ALWAYS ? FRAME_SEGMENTS : 0);
	device_exchange(mtu);
	finish();
}

static void test_frames_pass(void **state)
{
	(void)state;
	NEED_AFXDP;
	for (int mode = NATIVE; mode <= GENERIC; mode++) {
		frames_pass(1280, mode, REFER_AUTO);
		frames_pass(1500, mode, REFER_NEVER);
		frames_pass(1500, mode, REFER_ALWAYS);
	}
}

/* Of several buffers, both ways. */
static void test_jumbo_frames_pass(void **state)
{
	(void)state;
	NEED_AFXDP;
	for (int mode = NATIVE; mode <= GENERIC; mode++) {
		frames_pass(9000, mode, REFER_AUTO);
		frames_pass(9000, mode, REFER_ALWAYS);
	}
}

/* In order, none lost, however the bursts fall, for longer than the rings are. */
static void bursts_pass(int mode)
{
	struct frame *frames[NETDEV_BURST];

	enum { COUNT = 640, SIZE = 200 };

	prepare(1500, mode);
	bench.config.xdp_ring = 64;
	start();
	for (uint32_t round = 0; round < COUNT / NETDEV_BURST; round++) {
		uint32_t first = round * NETDEV_BURST;
		for (uint32_t i = 0; i < NETDEV_BURST; i++)
			frames[i] = device_make(SIZE + i, first + i, i % 3);
		for (uint32_t done = 0, tries = 0; done < NETDEV_BURST; tries++) {
			done += bench.dev->ops->tx_burst(bench.dev, frames + done,
							 NETDEV_BURST - done);
			assert_true(tries < 1000000);
		}
		for (uint32_t i = 0; i < NETDEV_BURST; i++)
			device_peer_expect(SIZE + i, first + i);
		for (uint32_t i = 0; i < NETDEV_BURST; i++)
			device_peer_send(bench.dev->mac, SIZE + i, first + i);
		for (uint32_t i = 0; i < NETDEV_BURST; i++)
			device_expect(bench.dev->mac, SIZE + i, first + i);
	}
	finish();
}

static void test_bursts_pass(void **state)
{
	(void)state;
	NEED_AFXDP;
	bursts_pass(NATIVE);
	bursts_pass(GENERIC);
}

/* What is received is where the kernel wrote it, and what is sent is made in the region. */
static void test_frames_are_in_the_region(void **state)
{
	(void)state;
	NEED_AFXDP;
	prepare(1500, AUTO);
	start();
	device_peer_send(bench.dev->mac, 100, 1);
	struct frame *frame = device_receive();
	assert_non_null(frame);
	assert_true(heap_in_region(bench.sched.heap, frame));
	assert_true(heap_in_region(bench.sched.heap, frame->data));
	frame_free(bench.sched.heap, frame);
	frame = frame_alloc_tx(bench.sched.heap, 1500);
	assert_true(heap_in_region(bench.sched.heap, frame));
	frame_free(bench.sched.heap, frame);
	frame = frame_alloc_tx(bench.sched.heap, 9000); /* more than a frame */
	assert_int_equal(frame->room, 9000 + FRAME_HEADROOM);
	frame_free(bench.sched.heap, frame);
	finish();
}

/* Payload that is referred to is held until the kernel is done, and no longer. */
static void test_referred_payload_is_held(void **state)
{
	struct frame *frame;
	uint8_t *object;

	(void)state;
	NEED_AFXDP;
	prepare(1500, GENERIC);
	bench.config.xdp_reference = REFER_ALWAYS;
	start();
	object = heap_alloc(bench.sched.heap, 9000); /* crosses chunks of 4096 */
	assert_true(heap_in_region(bench.sched.heap, object));
	frame = device_make(100, 1, 0);
	net_stream_fill(2, 0, object, 9000);
	frame_append(frame, object + 3500, 1300);
	assert_int_equal(heap_library_refs(bench.sched.heap, object), 1);
	device_transmit(frame);
	assert_true(heap_library_refs(bench.sched.heap, object) >= 1);
	for (int i = 0; heap_library_refs(bench.sched.heap, object) > 0; i++) {
		assert_int_equal(bench.dev->ops->rx_burst(bench.dev, &frame, 1), 0);
		assert_true(i < 1000000);
	}
	assert_int_equal(heap_free(bench.sched.heap, object), 0);
	finish();
}

/* ---- what stays the kernel's ---- */

/* Does the kernel's own stack see a frame of the peer: a packet socket on our side. */
static bool kernel_gets(uint32_t seed)
{
	static uint8_t buffer[2048];
	int kernel = device_open_peer("vA");
	struct pollfd ready = {.fd = kernel, .events = POLLIN};
	bool got = false;

	device_peer_send(bench.dev->mac, 100, seed);
	for (int i = 0; i < 16 && !got && poll(&ready, 1, 200) == 1; i++) {
		ssize_t n = recv(kernel, buffer, sizeof(buffer), 0);
		got = n == 100 && memcmp(buffer + 6, device_other, 6) == 0;
	}
	close(kernel);
	return got;
}

static void test_the_kernel_keeps_the_rest(void **state)
{
	(void)state;
	NEED_AFXDP;
	for (int mode = NATIVE; mode <= GENERIC; mode++) {
		prepare(1500, mode);
		start();
		assert_false(kernel_gets(1));
		device_expect(bench.dev->mac, 100, 1);
		steer(false);
		assert_true(kernel_gets(2));
		steer(true);
		assert_false(kernel_gets(3));
		device_expect(bench.dev->mac, 100, 3);
		finish();
	}
}

static void open_and_wait(void *arg)
{
	const int *told = arg;

	start();
	test_expect(write(told[1], "x", 1) == 1);
	pause();
}

/* The process is killed: the kernel has its interface back, and the next comer the queue. */
static void test_a_killed_process_leaves_nothing(void **state)
{
	char byte;
	int told[2];

	(void)state;
	NEED_AFXDP;
	for (int mode = NATIVE; mode <= GENERIC; mode++) {
		prepare(1500, mode);
		assert_int_equal(pipe(told), 0);
		pid_t child = fork();
		if (child == 0) {
			open_and_wait(told);
			_exit(0);
		}
		assert_int_equal(read(told[0], &byte, 1), 1);
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, NULL, 0), child);
		start();
		steer(false);
		assert_true(kernel_gets(1));
		assert_true(netns_try("! ip link show vB | grep -q xdp"));
		finish();
		close(told[0]);
		close(told[1]);
	}
}

/* ---- memory ---- */

static void test_frames_run_out(void **state)
{
	static struct frame *held[4096];
	uint32_t count = 0;

	(void)state;
	NEED_AFXDP;
	prepare(1500, AUTO);
	bench.config.xdp_memory_bytes = 4 << 20;
	bench.config.xdp_ring = 64;
	bench.config.xdp_reference = REFER_NEVER;
	start();
	while (count < ARRAY_LENGTH(held) && (held[count] = frame_alloc(bench.sched.heap)))
		count++;
	assert_int_equal(count, (4 << 20) / 4096 - 64);
	/* What is sent is made elsewhere, and copied when there is room: not now. */
	struct frame *frame = device_make(100, 1, 0);
	assert_false(heap_in_region(bench.sched.heap, frame));
	assert_int_equal(bench.dev->ops->tx_burst(bench.dev, &frame, 1), 0);
	assert_int_equal(bench.dev->stats.tx_busy, 1);
	assert_true(bench.dev->ops->next_deadline(bench.dev) != TIMER_NEVER);
	/* What the kernel has to receive into is used up: the rest is lost, and counted. */
	for (uint32_t i = 0; i < 80; i++)
		device_peer_send(bench.dev->mac, 100, i);
	for (uint32_t i = 0; i < 64; i++) {
		struct frame *got = device_receive();
		assert_non_null(got);
		held[count++] = got;
	}
	assert_int_equal(bench.dev->ops->arm(bench.dev), 0);
	assert_int_equal(device_drops(DROP_RX_RING), 16);
	while (count > 0)
		frame_free(bench.sched.heap, held[--count]);
	device_transmit(frame);
	device_peer_expect(100, 1);
	bench.dev->ops->rx_burst(bench.dev, &held[0], 1);
	device_peer_send(bench.dev->mac, 60, 2);
	device_expect(bench.dev->mac, 60, 2);
	finish();
}

/* ---- sleeping ---- */

static void *send_one(void *unused)
{
	(void)unused;
	device_peer_send(bench.dev->mac, 100, 1);
	return NULL;
}

static void test_a_frame_wakes(void **state)
{
	pthread_t thread;

	(void)state;
	NEED_AFXDP;
	prepare(1500, AUTO);
	start();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(bench.dev->ops->arm(bench.dev), 0);
		assert_int_equal(fdset_wait(&bench.sched.fds, 0), 0);
		assert_int_equal(pthread_create(&thread, NULL, send_one, NULL), 0);
		assert_int_equal(fdset_wait(&bench.sched.fds, (uint64_t)NET_WAIT_S * 1000000000),
				 1);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(bench.dev->ops->arm(bench.dev), -EAGAIN);
		device_expect(bench.dev->mac, 100, 1);
		bench.dev->ops->disarm(bench.dev);
		assert_true(bench.dev->ops->next_deadline(bench.dev) == TIMER_NEVER);
	}
	finish();
}

/* ---- interfaces that go ---- */

static void a_link_goes_down_and_up(int mode)
{
	prepare(1500, mode);
	start();
	netns_run("ip link set vA down");
	device_transmit(device_make(100, 1, 2)); /* waits in the ring */
	assert_true(bench.dev->ops->next_deadline(bench.dev) != TIMER_NEVER);
	netns_run("ip link set vA up");
	(void)close(bench.peer); /* it may hold an error of its link that was down */
	bench.peer = device_open_peer("vB");
	struct frame *none;
	bench.sched.now_ns = bench.dev->ops->next_deadline(bench.dev);
	assert_int_equal(bench.dev->ops->rx_burst(bench.dev, &none, 1), 0);
	device_peer_expect(100, 1);
	device_transmit(device_make(100, 2, 2));
	device_peer_expect(100, 2);
	assert_true(bench.dev->ops->next_deadline(bench.dev) == TIMER_NEVER);
	device_peer_send(bench.dev->mac, 100, 3);
	device_expect(bench.dev->mac, 100, 3);
	finish();
}

static void test_a_link_goes_down_and_up(void **state)
{
	(void)state;
	NEED_AFXDP;
	a_link_goes_down_and_up(NATIVE);
	a_link_goes_down_and_up(GENERIC);
}

static void test_an_interface_goes(void **state)
{
	struct frame *frames[40];

	(void)state;
	NEED_AFXDP;
	prepare(1500, AUTO);
	start();
	netns_run("ip link del vA");
	for (uint32_t i = 0; i < ARRAY_LENGTH(frames); i++)
		frames[i] = device_make(100, i, i % 4);
	assert_int_equal(bench.dev->ops->tx_burst(bench.dev, frames, ARRAY_LENGTH(frames)),
			 ARRAY_LENGTH(frames));
	for (int i = 0; i < 100 && fdset_wait(&bench.sched.fds, 0) > 0; i++)
		assert_true(i < 99);
	assert_int_equal(bench.dev->ops->rx_burst(bench.dev, frames, 1), 0);
	device_assert_told("interface vA");
	device_finish();
}

/* ---- what is refused ---- */

static void test_bad_wishes_are_refused(void **state)
{
	static const struct {
		const char *interface;
		int64_t queue;
		int64_t copy;
		const char *ports;
		const char *addresses;
		int err;
		const char *told;
	} cases[] = {
		{"", 0, 0, "", "", -EINVAL, "must name a network interface"},
		{"nowhere", 0, 0, "", "", -ENODEV, "no such interface"},
		{"lo", 0, 0, "", "", -ENOTSUP, "not an Ethernet"},
		{"vA", 7, 0, "", "", -EINVAL, "queue 7"},
		{"vA", 0, 1, "", "", -EOPNOTSUPP, "zero copy"},
		{"vA", 0, 0, "tcp:0", "", -EINVAL, "demitasse.xdp.ports"},
		{"vA", 0, 0, "tcp:80,udp:9-5", "", -EINVAL, "demitasse.xdp.ports"},
		{"vA", 0, 0, "sctp:80", "", -EINVAL, "demitasse.xdp.ports"},
		{"vA", 0, 0, "tcp:80x", "", -EINVAL, "demitasse.xdp.ports"},
		{"vA", 0, 0, "tcp:65536", "", -EINVAL, "demitasse.xdp.ports"},
		{"vA", 0, 0, "", "127.0.0.1/8", -EADDRNOTAVAIL, "kernel's address"},
	};

	(void)state;
	NEED_AFXDP;
	for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		prepare(1500, AUTO);
		device_set(interface, cases[i].interface);
		device_set(xdp_ports, cases[i].ports);
		device_set(addresses, cases[i].addresses);
		bench.config.xdp_queue = cases[i].queue;
		bench.config.xdp_copy = cases[i].copy;
		assert_int_equal(device_try_open(), cases[i].err);
		device_assert_told(cases[i].told);
	}
	netns_run("ip link del vA");
}

/* Without the capabilities. */
static void open_as_nobody(void *unused)
{
	(void)unused;
	test_expect(syscall(SYS_setuid, 65534) == 0);
	int err = device_try_open();
	test_expect(err == -EPERM || err == -EACCES);
	test_expect(strstr(bench.log, "CAP_NET_RAW") && strstr(bench.log, "xdp-helper"));
}

static void test_a_missing_privilege_is_named(void **state)
{
	(void)state;
	NEED_AFXDP;
	prepare(1500, AUTO);
	assert_int_equal(test_child(open_as_nobody, NULL), 0);
	netns_run("ip link del vA");
}

/* On veth it is of no use, and does no harm. */
static void test_busy_polling(void **state)
{
	(void)state;
	NEED_AFXDP;
	prepare(1500, GENERIC);
	bench.config.xdp_busy_poll_us = 20;
	start();
	assert_string_equal(bench.dev->mode, "generic, copy, busy polling");
	for (uint32_t i = 0; i < 100; i++) {
		device_peer_send(bench.dev->mac, 100, i);
		device_expect(bench.dev->mac, 100, i);
		device_transmit(device_make(100, i, 0));
		device_peer_expect(100, i);
	}
	finish();
}

/* The next frame of ours, or none for some time. */
static bool peer_gets(uint32_t bytes)
{
	uint8_t buffer[2048];
	struct pollfd ready = {.fd = bench.peer, .events = POLLIN};

	while (poll(&ready, 1, 20) == 1) {
		ssize_t n = recv(bench.peer, buffer, sizeof(buffer), 0);
		if (n == (ssize_t)bytes && memcmp(buffer + 6, bench.dev->mac, 6) == 0)
			return true;
	}
	return false;
}

/* What is sent may lie in the ring until one of these. */
static void test_doorbell(void **state)
{
	enum { DOORBELL, RECEIVE, ARM, MORE, WAYS };

	(void)state;
	NEED_AFXDP;
	prepare(1500, GENERIC);
	start();
	for (int way = 0; way < WAYS; way++) {
		struct frame *frame = device_make(100, 1, 0);
		assert_int_equal(bench.dev->ops->tx_burst(bench.dev, &frame, 1), 1);
		assert_false(peer_gets(100));
		switch (way) {
		case DOORBELL:
			bench.dev->ops->doorbell(bench.dev);
			break;
		case RECEIVE:
			(void)bench.dev->ops->rx_burst(bench.dev, &frame, 1);
			break;
		case ARM:
			assert_int_equal(bench.dev->ops->arm(bench.dev), 0);
			break;
		case MORE:
			for (uint32_t i = 0; i < 7; i++) {
				frame = device_make(101, 1, 0);
				assert_int_equal(bench.dev->ops->tx_burst(bench.dev, &frame, 1), 1);
			}
			break;
		default:
			device_finish();
			break;
		}
		assert_true(peer_gets(100));
	}
	finish();
}

static void test_the_mode_is_told(void **state)
{
	(void)state;
	NEED_AFXDP;
	prepare(1500, NATIVE);
	start();
	assert_string_equal(bench.dev->mode, "native, copy");
	device_assert_told("interface vA, queue 0: AF_XDP, native, copy");
	finish();
	prepare(1500, AUTO); /* generic is faster on veth */
	start();
	assert_string_equal(bench.dev->mode, "generic, copy");
	finish();
}

/* Why there is no AF_XDP here; NULL: there is. */
static const char *find_missing(void)
{
	if (!netns_enter())
		return "privilege: network interfaces need CAP_NET_ADMIN";
	prepare(1500, AUTO);
	return device_lacks_plugin("vA") ? "build: libdemitasse-xdp.so is not there" : NULL;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_pass),
		cmocka_unit_test(test_jumbo_frames_pass),
		cmocka_unit_test(test_bursts_pass),
		cmocka_unit_test(test_frames_are_in_the_region),
		cmocka_unit_test(test_referred_payload_is_held),
		cmocka_unit_test(test_the_kernel_keeps_the_rest),
		cmocka_unit_test(test_a_killed_process_leaves_nothing),
		cmocka_unit_test(test_frames_run_out),
		cmocka_unit_test(test_a_frame_wakes),
		cmocka_unit_test(test_a_link_goes_down_and_up),
		cmocka_unit_test(test_an_interface_goes),
		cmocka_unit_test(test_bad_wishes_are_refused),
		cmocka_unit_test(test_a_missing_privilege_is_named),
		cmocka_unit_test(test_busy_polling),
		cmocka_unit_test(test_doorbell),
		cmocka_unit_test(test_the_mode_is_told),
	};

	missing = find_missing();
	return test_run("afxdp", tests);
}
