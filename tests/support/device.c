/* tests/support/device.c: see device.h. */
#include "support/device.h"

#include "support/net.h"
#include "support/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ETHERNET DEVICE_ETHERNET

struct bench bench;

const uint8_t device_other[6] = {2, 9, 9, 9, 9, 9};

static void note(void *arg, int level, const char *message)
{
	struct bench *b = arg;
	size_t length = strlen(b->log);

	(void)level;
	(void)snprintf(b->log + length, sizeof(b->log) - length, "%s\n", message);
}

static uint64_t now_ns(void *unused)
{
	(void)unused;
	return net_now_ns();
}

void device_assert_told(const char *words)
{
	if (!strstr(bench.log, words))
		fail_msg("not told: %s; but: %s", words, bench.log);
}

uint64_t device_drops(enum drop reason)
{
	return bench.sched.counters.drops[reason];
}

void device_prepare(int64_t device, const char *interface)
{
	static const struct log silent;

	memset(&bench, 0, sizeof(bench));
	bench.peer = -1;
	bench.type = DEVICE_TYPE;
	assert_int_equal(config_load(&bench.config, NULL, NULL, &silent), 0);
	bench.config.device = device;
	bench.config.huge_pages = PAGES_HUGE_NEVER;
	bench.config.frames_max = DEVICE_FRAMES;
	device_set(interface, interface);
}

int device_try_open(void)
{
	static const struct sched_world world = {.now_ns = now_ns, .seed = 1};
	const struct log log = {.fn = note, .arg = &bench};

	assert_int_equal(sched_open(&bench.sched, &bench.config, &log, &world), 0);
	int err = netdev_open(&bench.sched, &bench.dev);
	if (err)
		sched_close(&bench.sched);
	return err;
}

int device_open_peer(const char *interface)
{
	const struct sockaddr_ll local = {.sll_family = AF_PACKET,
					  .sll_protocol = htons(ETH_P_ALL),
					  .sll_ifindex = (int)if_nametoindex(interface)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	const int room = 64 << 20;

	assert_return_code(fd, errno);
	assert_int_equal(bind(fd, (const struct sockaddr *)&local, sizeof(local)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)), 0);
	return fd;
}

void device_start(const char *peer)
{
	assert_int_equal(device_try_open(), 0);
	if (!bench.sched.heap->region)
		heap_set_frames(bench.sched.heap, frame_object_bytes(bench.dev->mtu),
				(uint32_t)bench.config.frames_max);
	assert_int_equal(bench.dev->ops->start(bench.dev), 0);
	bench.peer = device_open_peer(peer);
}

void device_finish(void)
{
	if (bench.peer >= 0)
		(void)close(bench.peer);
	bench.dev->ops->close(bench.dev);
	heap_check(bench.sched.heap);
	struct heap_usage usage;
	heap_usage(bench.sched.heap, &usage);
	assert_int_equal(usage.live_objects, 0);
	sched_close(&bench.sched);
}

/* ---- frames ---- */

void device_write_header(uint8_t *at, const uint8_t to[6], const uint8_t from[6])
{
	memcpy(at, to, 6);
	memcpy(at + 6, from, 6);
	at[12] = (uint8_t)(bench.type >> 8);
	at[13] = (uint8_t)bench.type;
	if (bench.type == ETH_P_IP) { /* as far as who steers it looks */
		static const uint8_t ip[DEVICE_IP] = {0x45, 0, 0,  0, 0, 0, 0,  0, 64, 253,
						      0,    0, 10, 9, 0, 9, 10, 9, 0,  2};
		memcpy(at + ETHERNET, ip, sizeof(ip));
	}
}

void device_peer_send(const uint8_t to[6], uint32_t bytes, uint32_t seed)
{
	static uint8_t buffer[65536];

	device_write_header(buffer, to, device_other);
	net_stream_fill(seed, 0, buffer + device_header(), bytes - device_header());
	assert_int_equal(send(bench.peer, buffer, bytes, 0), bytes);
}

bool device_wait(int ms)
{
	uint64_t deadline = net_now_ns() + (uint64_t)ms * 1000000;

	while (bench.dev->ops->arm(bench.dev) == 0) {
		uint64_t now = net_now_ns();
		if (now >= deadline)
			return false;
		/* the kernel of a TAP device knows by itself what is ready */
		if (fdset_wait(&bench.sched.fds, deadline - now) > 0 && bench.config.device)
			return true;
	}
	return true;
}

bool device_is_ours(const struct frame *frame)
{
	return frame->data[12] == bench.type >> 8 && frame->data[13] == (bench.type & 0xff) &&
	       memcmp(frame->data + 6, device_other, 6) == 0;
}

struct frame *device_receive(void)
{
	struct frame *frame = NULL;

	for (uint64_t end = net_now_ns() + (uint64_t)NET_WAIT_S * 1000000000; net_now_ns() < end;) {
		if (bench.dev->ops->rx_burst(bench.dev, &frame, 1) == 0) {
			if (!device_wait(NET_WAIT_S * 1000))
				return NULL;
			continue;
		}
		if (device_is_ours(frame))
			return frame;
		frame_free(bench.sched.heap, frame);
	}
	return NULL;
}

void device_expect(const uint8_t to[6], uint32_t bytes, uint32_t seed)
{
	struct frame *frame = device_receive();

	assert_non_null(frame);
	assert_int_equal(frame->length, bytes);
	assert_int_equal(frame->num_segments, 0);
	assert_int_equal((uintptr_t)(frame->data + ETHERNET) % 16, 0);
	assert_memory_equal(frame->data, to, 6);
	assert_memory_equal(frame->data + 6, device_other, 6);
	net_stream_check(seed, 0, frame->data + device_header(), bytes - device_header());
	frame_free(bench.sched.heap, frame);
}

struct frame *device_make(uint32_t bytes, uint32_t seed, uint32_t segments)
{
	uint32_t piece = segments ? (bytes - device_header()) / (segments + 1) : 0;
	uint32_t head = bytes - piece * segments;
	struct frame *frame = frame_alloc_tx(bench.sched.heap, head);

	assert_non_null(frame);
	device_write_header(frame->data, device_other, bench.dev->mac);
	net_stream_fill(seed, 0, frame->data + device_header(), head - device_header());
	frame->length = head;
	for (uint32_t i = 0; i < segments; i++) {
		uint8_t *object = heap_alloc(bench.sched.heap, piece + 3);
		net_stream_fill(seed, head - device_header() + i * piece, object + 3, piece);
		frame_append(frame, object + 3, piece);
		assert_int_equal(heap_free(bench.sched.heap, object), 0);
	}
	return frame;
}

void device_transmit(struct frame *frame)
{
	assert_int_equal(bench.dev->ops->tx_burst(bench.dev, &frame, 1), 1);
	bench.dev->ops->doorbell(bench.dev);
}

void device_peer_expect(uint32_t bytes, uint32_t seed)
{
	static uint8_t buffer[65536];
	struct pollfd ready = {.fd = bench.peer, .events = POLLIN};

	for (;;) {
		assert_int_equal(poll(&ready, 1, NET_WAIT_S * 1000), 1);
		ssize_t n = recv(bench.peer, buffer, sizeof(buffer), 0);
		assert_return_code(n, errno);
		if (memcmp(buffer, device_other, 6) != 0 ||
		    memcmp(buffer + 6, bench.dev->mac, 6) != 0)
			continue; /* the kernel's */
		assert_int_equal(n, bytes);
		net_stream_check(seed, 0, buffer + device_header(), bytes - device_header());
		return;
	}
}

void device_exchange(uint32_t mtu)
{
	const uint32_t most = mtu + DEVICE_ETHERNET;
	const uint32_t sizes[] = {device_header() + 1, 60, 61, 1000, most - 1, most};

	for (uint32_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		device_peer_send(bench.dev->mac, sizes[i], i);
		device_expect(bench.dev->mac, sizes[i], i);
		device_transmit(device_make(sizes[i], i, 0));
		device_peer_expect(sizes[i], i);
	}
	for (uint32_t segments = 1; segments <= FRAME_SEGMENTS; segments++) {
		device_transmit(device_make(most, segments, segments));
		device_peer_expect(most, segments);
	}
	assert_int_equal(bench.dev->stats.rx_frames, ARRAY_LENGTH(sizes));
	assert_int_equal(bench.dev->stats.tx_frames, ARRAY_LENGTH(sizes) + FRAME_SEGMENTS);
	assert_int_equal(bench.dev->stats.tx_busy, 0);
}

bool device_lacks_plugin(const char *link)
{
	int err = device_try_open();

	if (!err) {
		bench.dev->ops->close(bench.dev);
		sched_close(&bench.sched);
	}
	netns_run("ip link del %s", link);
	return err == -ENOENT;
}
