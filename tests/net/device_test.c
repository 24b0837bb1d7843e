/* SPDX-License-Identifier: MIT
 * tests/net/device_test.c - the netdevs afpacket and tap, without a stack above them: frames to and
 * from a packet socket at the device_other end, in a network namespace of the test's own.
 */
#include "support/test.h"

#include "netdev/afpacket/afpacket.h"
#include "netdev/tap/tap.h"
#include "support/child.h"
#include "support/device.h"
#include "support/net.h"
#include "support/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define TYPE       DEVICE_TYPE
#define ETHERNET   DEVICE_ETHERNET
#define FRAMES_MAX DEVICE_FRAMES

static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t group[6] = {0x33, 0x33, 0xff, 0, 0, 1};

static bool privileged;

/* ---- the two kinds ---- */

struct kind {
	int64_t device;
	const char *interface;
	const char *peer;
};

static const struct kind afpacket = {0, "vA", "vB"};
static const struct kind tap = {1, "tap7", "tap7"};

/* Opens one, its links at an MTU. */
static void open_kind(const struct kind *kind, uint32_t mtu)
{
	device_prepare(kind->device, kind->interface);
	if (kind->device == 0) {
		netns_veth("vA", "vB");
		netns_run("ip link set vA mtu %u && ip link set vB mtu %u", mtu, mtu);
	} else {
		bench.config.mtu = mtu;
	}
	device_start(kind->peer);
	assert_int_equal(bench.dev->mtu, mtu);
}

static void close_kind(const struct kind *kind)
{
	device_finish();
	if (kind->device == 0)
		netns_run("ip link del vA");
}

#define NEED_PRIVILEGE                                                                    \
	do {                                                                              \
		if (!privileged)                                                          \
			skip_because("privilege: network interfaces need CAP_NET_ADMIN"); \
	} while (0)

/* ---- what passes ---- */

static void frames_pass(const struct kind *kind, uint32_t mtu)
{
	open_kind(kind, mtu);
	device_exchange(mtu);
	close_kind(kind);
}

static void test_afpacket_frames_pass(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	frames_pass(&afpacket, 1280);
	frames_pass(&afpacket, 1500);
	frames_pass(&afpacket, 9000);
}

static void test_tap_frames_pass(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	frames_pass(&tap, 1280);
	frames_pass(&tap, 1500);
	frames_pass(&tap, 9000);
}

/* In order, none lost, however the bursts fall. */
static void bursts_pass(const struct kind *kind)
{
	struct frame *frames[NETDEV_BURST];

	enum { COUNT = 640, SIZE = 200 };

	open_kind(kind, 1500);
	for (uint32_t sent = 0; sent < COUNT; sent += NETDEV_BURST) {
		for (uint32_t i = 0; i < NETDEV_BURST; i++)
			frames[i] = device_make(SIZE + i, sent + i, i % 3);
		assert_int_equal(bench.dev->ops->tx_burst(bench.dev, frames, NETDEV_BURST),
				 NETDEV_BURST);
	}
	for (uint32_t i = 0; i < COUNT; i++)
		device_peer_expect(SIZE + i % NETDEV_BURST, i);
	for (uint32_t i = 0; i < COUNT; i++)
		device_peer_send(bench.dev->mac, SIZE + i % 7, i);
	for (uint32_t i = 0; i < COUNT;) {
		uint32_t want = 1 + i % NETDEV_BURST;
		uint32_t n = bench.dev->ops->rx_burst(bench.dev, frames, want);
		assert_true(n <= want);
		if (n == 0)
			assert_true(device_wait(NET_WAIT_S * 1000));
		for (uint32_t j = 0; j < n; j++) {
			if (frames[j]->data[12] == TYPE >> 8) {
				assert_int_equal(frames[j]->length, SIZE + i % 7);
				net_stream_check(i, 0, frames[j]->data + ETHERNET,
						 frames[j]->length - ETHERNET);
				i++;
			}
			frame_free(bench.sched.heap, frames[j]);
		}
	}
	close_kind(kind);
}

static void test_afpacket_bursts_pass(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	bursts_pass(&afpacket);
}

static void test_tap_bursts_pass(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	bursts_pass(&tap);
}

/* ---- what does not ---- */

static void stations_are_told_apart(const struct kind *kind, const char *mac)
{
	device_prepare(kind->device, kind->interface);
	if (kind->device == 0)
		netns_veth("vA", "vB");
	device_set(mac, mac);
	device_start(kind->peer);
	device_peer_send(device_other, 100, 1);
	device_peer_send(bench.dev->mac, 100, 2);
	device_peer_send(broadcast, 100, 3);
	device_peer_send(group, 100, 4);
	device_expect(bench.dev->mac, 100, 2);
	device_expect(broadcast, 100, 3);
	device_expect(group, 100, 4);
	assert_int_equal(device_drops(DROP_ETHER_ADDRESS), 1);
	close_kind(kind);
}

static void test_stations_are_told_apart(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	stations_are_told_apart(&afpacket, "");
	stations_are_told_apart(&afpacket, "02:00:00:00:00:07");
	stations_are_told_apart(&tap, "");
	stations_are_told_apart(&tap, "02:0a:0B:cc:DD:07");
}

static void test_own_frames_do_not_come_back(void **state)
{
	struct frame *frame;

	(void)state;
	NEED_PRIVILEGE;
	open_kind(&afpacket, 1500);
	device_transmit(device_make(100, 1, 0));
	device_peer_expect(100, 1);
	assert_int_equal(bench.dev->ops->arm(bench.dev), 0);
	assert_int_equal(bench.dev->ops->rx_burst(bench.dev, &frame, 1), 0);
	close_kind(&afpacket);
}

/* A datagram of the kernel's, to an address on the link that is ours; in pieces of segment bytes
 * that the device is to make. */
static void kernel_sends(uint32_t bytes, int segment)
{
	static const uint8_t data[60000];
	const struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(0x0a090002)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_return_code(fd, errno);
	if (segment)
		assert_int_equal(
			setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
	assert_int_equal(sendto(fd, data, bytes, 0, (const struct sockaddr *)&to, sizeof(to)),
			 bytes);
	(void)close(fd);
}

/* Looks until a drop of this kind was counted. */
static void expect_drop(enum drop reason)
{
	struct frame *frame;

	while (device_drops(reason) == 0) {
		assert_int_equal(bench.dev->ops->rx_burst(bench.dev, &frame, 1), 0);
		assert_true(device_drops(reason) > 0 || device_wait(NET_WAIT_S * 1000));
	}
	assert_int_equal(device_drops(reason), 1);
}

static uint32_t sum16(const uint8_t *at, uint32_t bytes)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i + 1 < bytes; i += 2)
		sum += (uint32_t)(at[i] << 8 | at[i + 1]);
	return sum + (bytes % 2 ? (uint32_t)at[bytes - 1] << 8 : 0);
}

static bool udp_checksum_good(const uint8_t *ip, uint32_t bytes)
{
	uint32_t sum = 17 + bytes - 20 + sum16(ip + 12, 8) + sum16(ip + 20, bytes - 20);

	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static void kernel_link(void)
{
	netns_run("ip addr add 10.9.0.1/24 dev vB");
	netns_run("ip neigh add 10.9.0.2 lladdr %02x:%02x:%02x:%02x:%02x:%02x dev vB nud permanent",
		  bench.dev->mac[0], bench.dev->mac[1], bench.dev->mac[2], bench.dev->mac[3],
		  bench.dev->mac[4], bench.dev->mac[5]);
}

static void test_offloads_are_noticed(void **state)
{
	struct frame *frame;

	(void)state;
	NEED_PRIVILEGE;
	open_kind(&afpacket, 1500);
	kernel_link();
	kernel_sends(100, 0);
	expect_drop(DROP_RX_PARTIAL);
	device_assert_told("interface vA");
	device_assert_told("ethtool -K vB tx off tso off gso off gro off");
	bench.log[0] = '\0';
	kernel_sends(20000, 1000);
	expect_drop(DROP_RX_LONG);
	kernel_sends(20000, 1000);
	while (device_drops(DROP_RX_LONG) < 2)
		assert_int_equal(bench.dev->ops->rx_burst(bench.dev, &frame, 1), 0);
	assert_string_equal(bench.log, ""); /* once is enough */

	if (netns_try("ethtool -K vB tx off tso off gso off gro off >/dev/null 2>&1")) {
		kernel_sends(101, 0);
		assert_true(device_wait(NET_WAIT_S * 1000));
		assert_int_equal(bench.dev->ops->rx_burst(bench.dev, &frame, 1), 1);
		assert_int_equal(frame->length, ETHERNET + 28 + 101);
		assert_true(udp_checksum_good(frame->data + ETHERNET, 28 + 101));
		frame_free(bench.sched.heap, frame);
	}
	close_kind(&afpacket);
}

static void test_tap_sums_are_finished(void **state)
{
	struct frame *frame;

	(void)state;
	NEED_PRIVILEGE;
	open_kind(&tap, 1500);
	netns_run("ip addr add 10.9.0.1/24 dev tap7");
	netns_run("ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev tap7 nud permanent");
	memcpy(bench.dev->mac, (const uint8_t[]){2, 0, 0, 0, 0, 1}, 6);
	kernel_sends(20000, 1000);
	for (uint32_t i = 0; i < 20;) {
		if (bench.dev->ops->rx_burst(bench.dev, &frame, 1) == 0) {
			assert_true(device_wait(NET_WAIT_S * 1000));
			continue;
		}
		if (frame->length == ETHERNET + 28 + 1000) {
			assert_true(udp_checksum_good(frame->data + ETHERNET, 28 + 1000));
			i++;
		}
		frame_free(bench.sched.heap, frame);
	}
	close_kind(&tap);
}

/* The link is longer at its device_other end. */
static void long_frames_are_dropped(const struct kind *kind)
{
	open_kind(kind, 1500);
	netns_run("ip link set %s mtu 1600", kind->peer);
	if (kind->device == 0) /* veth's far end takes no more than its own MTU */
		netns_run("ip link set vA mtu 1600");
	device_peer_send(bench.dev->mac, 1500 + ETHERNET + 5, 1);
	device_peer_send(bench.dev->mac, 1500 + ETHERNET, 2);
	device_expect(bench.dev->mac, 1500 + ETHERNET, 2);
	assert_int_equal(device_drops(DROP_RX_LONG), 1);
	close_kind(kind);
}

static void test_long_frames_are_dropped(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	long_frames_are_dropped(&afpacket);
	long_frames_are_dropped(&tap);
}

static struct frame *receive_one(void)
{
	struct frame *frame;

	while (bench.dev->ops->rx_burst(bench.dev, &frame, 1) == 0)
		assert_true(device_wait(NET_WAIT_S * 1000));
	return frame;
}

/* The tag of a virtual LAN, which the kernel takes off, is in the frame again; the MTU is that of
 * what is behind it, in both directions. */
static void tags_are_kept(const struct kind *kind)
{
	static const uint8_t tag[] = {0x81, 0x00, 0x60, 0x05, TYPE >> 8, TYPE & 0xff};
	static uint8_t tagged[ETHERNET + 4 + 1500 + 1];
	const uint32_t sizes[] = {64, sizeof(tagged) - 2, sizeof(tagged) - 1};

	open_kind(kind, 1500);
	device_write_header(tagged, bench.dev->mac, device_other);
	memcpy(tagged + 12, tag, sizeof(tag));
	memset(tagged + 18, 0x5a, sizeof(tagged) - 18);
	for (uint32_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		assert_int_equal(send(bench.peer, tagged, sizes[i], 0), sizes[i]);
		struct frame *frame = receive_one();
		assert_int_equal(frame->length, sizes[i]);
		assert_memory_equal(frame->data, tagged, sizes[i]);
		frame_free(bench.sched.heap, frame);
	}
	struct frame *out = frame_alloc_tx(bench.sched.heap, sizeof(tagged));
	assert_non_null(out);
	out->length = sizeof(tagged) - 1;
	memcpy(out->data, tagged, out->length);
	device_transmit(out);
	/* the kernel takes it off for its packet sockets, too */
	uint8_t bytes[2048];
	ssize_t length;
	do {
		struct pollfd poll_fd = {.fd = bench.peer, .events = POLLIN};
		assert_int_equal(poll(&poll_fd, 1, NET_WAIT_S * 1000), 1);
		length = recv(bench.peer, bytes, sizeof(bytes), 0);
	} while (length < 0 || memcmp(bytes + 12, tag + 4, 2) != 0);
	assert_int_equal(length, ETHERNET + 1500);
	assert_int_equal(bytes[ETHERNET], 0x5a);
	close_kind(kind);
}

static void test_tags_are_kept(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	tags_are_kept(&afpacket);
	tags_are_kept(&tap);
}

/* Frames that find the ring full are lost, and counted. */
static void test_a_full_ring_is_counted(void **state)
{
	struct frame *frame;

	enum { COUNT = 6000 };

	(void)state;
	NEED_PRIVILEGE;
	open_kind(&afpacket, 1500);
	for (uint32_t i = 0; i < COUNT; i++)
		device_peer_send(bench.dev->mac, 60, i);
	uint32_t got = 0;
	while (bench.dev->ops->arm(bench.dev) == -EAGAIN) {
		assert_int_equal(bench.dev->ops->rx_burst(bench.dev, &frame, 1), 1);
		net_stream_check(got, 0, frame->data + ETHERNET, 60 - ETHERNET);
		frame_free(bench.sched.heap, frame);
		got++;
	}
	assert_true(got >= 1024);
	assert_true(got < COUNT);
	device_peer_send(bench.dev->mac, 60, 7); /* it brings the news */
	device_expect(bench.dev->mac, 60, 7);
	assert_int_equal(got + device_drops(DROP_RX_RING), COUNT);
	close_kind(&afpacket);
}

static void frames_run_out(const struct kind *kind)
{
	static struct frame *held[2 * FRAMES_MAX]; /* the bound is a rough one */
	uint32_t count = 0;

	open_kind(kind, 1500);
	while (count < ARRAY_LENGTH(held) && (held[count] = frame_alloc(bench.sched.heap)))
		count++;
	assert_true(count < ARRAY_LENGTH(held));
	device_peer_send(bench.dev->mac, 60, 1);
	expect_drop(DROP_FRAMES);
	while (count > 0)
		frame_free(bench.sched.heap, held[--count]);
	device_peer_send(bench.dev->mac, 60, 2);
	device_expect(bench.dev->mac, 60, 2);
	close_kind(kind);
}

static void test_frames_run_out(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	frames_run_out(&afpacket);
	frames_run_out(&tap);
}

/* ---- sleeping ---- */

static void *send_one(void *unused)
{
	(void)unused;
	device_peer_send(bench.dev->mac, 100, 1);
	return NULL;
}

static void a_frame_wakes(const struct kind *kind)
{
	pthread_t thread;

	open_kind(kind, 1500);
	for (int i = 0; i < 20; i++) {
		while (bench.dev->ops->arm(bench.dev) == 0 && fdset_wait(&bench.sched.fds, 0) > 0) {
			struct frame *frame; /* of the kernel, that found a new interface */
			if (bench.dev->ops->rx_burst(bench.dev, &frame, 1))
				frame_free(bench.sched.heap, frame);
		}
		assert_int_equal(pthread_create(&thread, NULL, send_one, NULL), 0);
		assert_int_equal(fdset_wait(&bench.sched.fds, (uint64_t)NET_WAIT_S * 1000000000),
				 1);
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (kind->device == 0)
			assert_int_equal(bench.dev->ops->arm(bench.dev), -EAGAIN);
		device_expect(bench.dev->mac, 100, 1);
		assert_int_equal(bench.dev->ops->arm(bench.dev), 0);
		bench.dev->ops->disarm(bench.dev);
		assert_int_equal(fdset_wait(&bench.sched.fds, 0), 0);
		assert_true(bench.dev->ops->next_deadline(bench.dev) == TIMER_NEVER);
	}
	close_kind(kind);
}

static void test_a_frame_wakes(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	a_frame_wakes(&afpacket);
	a_frame_wakes(&tap);
}

/* In a child that the kernel kills at the first system call. */
static void look_without_calls(void *unused)
{
	struct frame *frame;

	(void)unused;
	test_expect(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
	for (int i = 0; i < 100000; i++) {
		if (bench.dev->ops->rx_burst(bench.dev, &frame, 1) != 0 ||
		    bench.dev->ops->arm(bench.dev) != 0)
			syscall(SYS_exit, TEST_EXPECT_FAILED);
	}
	syscall(SYS_exit, 0);
}

static void test_looking_makes_no_system_call(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	open_kind(&afpacket, 1500);
	assert_int_equal(test_child(look_without_calls, NULL), 0);
	close_kind(&afpacket);
}

/* ---- interfaces that go ---- */

/* Takes events until there are none: they must end. */
static void settle(void)
{
	for (int i = 0; i < 100; i++) {
		struct frame *frame;
		if (bench.dev->ops->rx_burst(bench.dev, &frame, 1))
			frame_free(bench.sched.heap, frame);
		if (fdset_wait(&bench.sched.fds, 0) == 0)
			return;
	}
	fail_msg("the device has no end of events");
}

static void a_link_goes_down_and_up(const struct kind *kind)
{
	open_kind(kind, 1500);
	netns_run("ip link set %s down", kind->interface);
	settle();
	device_transmit(device_make(100, 1, 2));
	assert_int_equal(device_drops(DROP_DEVICE), 1);
	device_assert_told(kind->interface);
	settle();
	netns_run("ip link set %s up", kind->interface);
	(void)close(bench.peer); /* it may hold an error of its link that was down */
	bench.peer = device_open_peer(kind->peer);
	device_transmit(device_make(100, 2, 2));
	device_peer_expect(100, 2);
	device_peer_send(bench.dev->mac, 100, 3);
	device_expect(bench.dev->mac, 100, 3);
	close_kind(kind);
}

static void test_a_link_goes_down_and_up(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	a_link_goes_down_and_up(&afpacket);
	a_link_goes_down_and_up(&tap);
}

static void an_interface_goes(const struct kind *kind)
{
	struct frame *frames[40];

	open_kind(kind, 1500);
	netns_run("ip link del %s", kind->interface);
	settle();
	for (uint32_t i = 0; i < ARRAY_LENGTH(frames); i++)
		frames[i] = device_make(100, i, i % 4);
	assert_int_equal(bench.dev->ops->tx_burst(bench.dev, frames, ARRAY_LENGTH(frames)),
			 ARRAY_LENGTH(frames));
	assert_int_equal(device_drops(DROP_DEVICE), ARRAY_LENGTH(frames));
	device_assert_told(kind->interface);
	settle();
	assert_int_equal(bench.dev->ops->arm(bench.dev), 0);
	assert_int_equal(bench.dev->ops->rx_burst(bench.dev, frames, 1), 0);
	device_finish();
}

static void test_an_interface_goes(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	an_interface_goes(&afpacket);
	an_interface_goes(&tap);
}

/* ---- what is refused ---- */

static void test_addresses_of_the_kernel_are_refused(void **state)
{
	static const struct {
		const char *addresses;
		const char *local_ipv4_addr;
		const char *told;
	} cases[] = {
		{"10.9.0.1/24", "", "demitasse.addresses: 10.9.0.1"},
		{"10.9.0.2/24, 10.9.0.1/16 ,fd00::2/64", "", "ip addr del 10.9.0.1/24 dev vB"},
		{"10.9.0.2/24,fd00:0::1/64", "", "ip addr del fd00:0::1/112 dev vB"},
		{"", "10.9.0.1", "demikernel.local_ipv4_addr: 10.9.0.1"},
		{"10.9.0.2/24", "127.0.0.1", "on interface lo"},
	};

	(void)state;
	NEED_PRIVILEGE;
	netns_veth("vA", "vB");
	netns_run("sysctl -qw net.ipv6.conf.vB.disable_ipv6=0");
	netns_run("ip addr add 10.9.0.1/24 dev vB && ip addr add fd00::1/112 dev vB");
	for (int64_t device = 0; device < 2; device++) {
		for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
			device_prepare(device, "vA");
			device_set(addresses, cases[i].addresses);
			device_set(local_ipv4_addr, cases[i].local_ipv4_addr);
			assert_int_equal(device_try_open(), -EADDRNOTAVAIL);
			device_assert_told(cases[i].told);
		}
	}
	device_prepare(0, "vA");
	device_set(addresses, "10.9.0.2/24,fd00::2/64, nonsense");
	device_start("vB");
	device_finish();
	netns_run("ip link del vA");
}

static void test_bad_interfaces_are_refused(void **state)
{
	static const struct {
		int64_t device;
		const char *interface;
		const char *mac;
		int err;
		const char *told;
	} cases[] = {
		{0, "", "", -EINVAL, "raw_socket.linux_interface_name: must name"},
		{0, "nowhere", "", -ENODEV, "\"nowhere\": no such interface"},
		{0, "lo", "", -ENOTSUP, "\"lo\": not an Ethernet"},
		{0, "vA", "02:00:00:00:00", -EINVAL, "demikernel.local_link_addr"},
		{0, "vA", "02:00:00:00:00:0g", -EINVAL, "demikernel.local_link_addr"},
		{0, "vA", "02-00-00-00-00-01", -EINVAL, "demikernel.local_link_addr"},
		{0, "vA", "00:00:00:00:00:00", -EINVAL, "demikernel.local_link_addr"},
		{0, "vA", "ff:ff:ff:ff:ff:ff", -EINVAL, "demikernel.local_link_addr"},
		{1, "vA", "", -EINVAL, "TAP interface"},
		{1, "tap7", "01:00:00:00:00:01", -EINVAL, "demikernel.local_link_addr"},
		{1, "tap8", "02:00:00:00:00:08", -EINVAL, "must differ"},
	};

	(void)state;
	NEED_PRIVILEGE;
	netns_veth("vA", "vB");
	netns_run("ip tuntap add tap8 mode tap && ip link set tap8 address 02:00:00:00:00:08");
	for (uint32_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		device_prepare(cases[i].device, cases[i].interface);
		device_set(mac, cases[i].mac);
		assert_int_equal(device_try_open(), cases[i].err);
		device_assert_told(cases[i].told);
	}
	netns_run("ip link del tap8 && ip link del vA");
}

/* Without the capabilities. */
static void open_as_nobody(void *arg)
{
	const char *const *told = arg;

	test_expect(syscall(SYS_setuid, 65534) == 0);
	int err = device_try_open();
	test_expect(err == -EPERM || err == -EACCES);
	test_expect(strstr(bench.log, told[0]) && strstr(bench.log, "setcap cap_net_raw"));
}

static void test_a_missing_privilege_is_named(void **state)
{
	const char *const raw[] = {"CAP_NET_RAW"};
	const char *const admin[] = {"CAP_NET_ADMIN"};

	(void)state;
	NEED_PRIVILEGE;
	netns_veth("vA", "vB");
	device_prepare(0, "vA");
	assert_int_equal(test_child(open_as_nobody, (void *)(uintptr_t)raw), 0);
	device_prepare(1, "tap7");
	assert_int_equal(test_child(open_as_nobody, (void *)(uintptr_t)admin), 0);
	netns_run("ip link del vA");
}

/* A TAP interface of the user's keeps its MTU and its state; one without a name is given one. */
static void test_tap_interfaces_are_found_or_made(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	netns_run("ip tuntap add tap9 mode tap && ip link set tap9 mtu 1300");
	device_prepare(1, "tap9");
	bench.config.mtu = 1400;
	assert_int_equal(device_try_open(), 0);
	assert_int_equal(bench.dev->mtu, 1300);
	assert_false(netns_try("ip -o link show tap9 up | grep -q tap9"));
	device_finish();
	assert_true(if_nametoindex("tap9") > 0);
	netns_run("ip link del tap9");

	device_prepare(1, "");
	assert_int_equal(device_try_open(), 0);
	assert_true(if_nametoindex("tap0") > 0);
	assert_true(netns_try("ip -o link show tap0 up | grep -q tap0"));
	device_finish();
	assert_int_equal(if_nametoindex("tap0"), 0);
}

static void test_an_interface_that_is_down_is_told_of(void **state)
{
	(void)state;
	NEED_PRIVILEGE;
	netns_veth("vA", "vB");
	netns_run("ip link set vA down");
	device_prepare(0, "vA");
	device_start("vB");
	device_assert_told("ip link set vA up");
	netns_run("ip link set vA up");
	settle();
	device_transmit(device_make(100, 1, 0));
	device_peer_expect(100, 1);
	close_kind(&afpacket);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_afpacket_frames_pass),
		cmocka_unit_test(test_tap_frames_pass),
		cmocka_unit_test(test_afpacket_bursts_pass),
		cmocka_unit_test(test_tap_bursts_pass),
		cmocka_unit_test(test_stations_are_told_apart),
		cmocka_unit_test(test_own_frames_do_not_come_back),
		cmocka_unit_test(test_offloads_are_noticed),
		cmocka_unit_test(test_tap_sums_are_finished),
		cmocka_unit_test(test_long_frames_are_dropped),
		cmocka_unit_test(test_tags_are_kept),
		cmocka_unit_test(test_a_full_ring_is_counted),
		cmocka_unit_test(test_frames_run_out),
		cmocka_unit_test(test_a_frame_wakes),
		cmocka_unit_test(test_looking_makes_no_system_call),
		cmocka_unit_test(test_a_link_goes_down_and_up),
		cmocka_unit_test(test_an_interface_goes),
		cmocka_unit_test(test_addresses_of_the_kernel_are_refused),
		cmocka_unit_test(test_bad_interfaces_are_refused),
		cmocka_unit_test(test_a_missing_privilege_is_named),
		cmocka_unit_test(test_tap_interfaces_are_found_or_made),
		cmocka_unit_test(test_an_interface_that_is_down_is_told_of),
	};

	privileged = netns_enter();
	return test_run("device", tests);
}
