/* SPDX-License-Identifier: MIT
 * tests/unit/pcap_test.c - netdev/pcap/: the file, read by a reader of the test's own and by
 * tshark; comments of drops; a device in use that a capture is put around and taken off;
 * descriptors that do not take what is written.
 */
#include "support/test.h"

#include "base/bits.h"
#include "netdev/pcap/pcap.h"
#include "support/fault.h"
#include "support/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EPOCH_NS    ((int64_t)1700000000 * 1000000000)
#define FILE_BYTES  ((size_t)1 << 22)
#define PACKETS_MAX 4096

static struct wire wire;
static char path[64];

/* ---- a reader of pcapng ---- */

struct packet {
	uint64_t time_ns;
	uint32_t length;
	const uint8_t *bytes;
	uint32_t flags;
	char comment[200];
};

static struct {
	uint8_t bytes[FILE_BYTES];
	uint32_t num_packets;
	struct packet packets[PACKETS_MAX];
	bool ended; /* statistics are there */
	uint64_t frames;
	uint64_t lost;
	char name[64];
} file;

static uint32_t word(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t two_words(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void read_option(uint32_t type, uint32_t code, const uint8_t *value, uint32_t length)
{
	struct packet *packet = &file.packets[file.num_packets];

	if (type == 6 && code == 2)
		packet->flags = word(value);
	else if (type == 6 && code == 1)
		(void)snprintf(packet->comment, sizeof(packet->comment), "%.*s", (int)length,
			       (const char *)value);
	else if (type == 1 && code == 2)
		(void)snprintf(file.name, sizeof(file.name), "%.*s", (int)length,
			       (const char *)value);
	else if (type == 1 && code == 6)
		assert_memory_equal(value, "\2\0\0\0\0\1", 6);
	else if (type == 1 && code == 9)
		assert_int_equal(*value, 9);
	else if (type == 5 && code == 4)
		file.frames = two_words(value);
	else if (type == 5 && code == 5)
		file.lost = two_words(value);
}

static void read_options(uint32_t type, const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		uint32_t code = word(at) & 0xffff;
		uint32_t length = word(at) >> 16;
		at += 4;
		if (code == 0)
			break;
		assert_true(at + length <= end);
		read_option(type, code, at, length);
		at += round_up(length, 4);
	}
	assert_ptr_equal(at, end);
}

static const uint8_t *read_packet(const uint8_t *at)
{
	struct packet *packet = &file.packets[file.num_packets];

	assert_int_equal(word(at), 0);
	packet->time_ns = (uint64_t)word(at + 4) << 32 | word(at + 8);
	packet->length = word(at + 12);
	assert_int_equal(word(at + 16), packet->length);
	packet->bytes = at + 20;
	packet->comment[0] = '\0';
	return at + 20 + round_up(packet->length, 4);
}

static uint32_t read_block(const uint8_t *at, uint32_t left)
{
	uint32_t type = word(at);
	uint32_t bytes = word(at + 4);
	const uint8_t *body = at + 8;

	assert_true(left >= 12 && bytes <= left && bytes % 4 == 0);
	assert_int_equal(word(at + bytes - 4), bytes);
	if (type == 0x0a0d0d0a) {
		assert_int_equal(word(body), 0x1a2b3c4d);
		body += 16;
	} else if (type == 1) {
		assert_int_equal(word(body), 1); /* Ethernet */
		body += 8;
	} else if (type == 5) {
		file.ended = true;
		body += 12;
	} else {
		assert_int_equal(type, 6);
		assert_true(file.num_packets < PACKETS_MAX);
		body = read_packet(body);
	}
	read_options(type, body, at + bytes - 4);
	file.num_packets += type == 6;
	return bytes;
}

static void read_all(int fd)
{
	uint32_t length = 0;
	ssize_t more;

	while ((more = read(fd, file.bytes + length, FILE_BYTES - length)) > 0)
		length += (uint32_t)more;
	file.num_packets = 0;
	file.ended = false;
	for (uint32_t at = 0; at < length;)
		at += read_block(file.bytes + at, length - at);
}

static void read_file(void)
{
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	read_all(fd);
	close(fd);
}

/* ---- helpers ---- */

static void make_path(void)
{
	(void)snprintf(path, sizeof(path), "/tmp/pcap_test.XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
}

static struct netdev *wrap_fd(int fd)
{
	struct netdev *dev;

	assert_int_equal(
		pcap_wrap(wire.dev,
			  &(struct pcap_options){.fd = fd, .epoch_ns = EPOCH_NS, .name = "port"},
			  &dev),
		0);
	assert_true(pcap_is(dev));
	assert_false(pcap_is(wire.dev));
	return dev;
}

static struct netdev *start(int fd, uint8_t offloads)
{
	wire_open(&wire, offloads);
	struct netdev *dev = wrap_fd(fd);
	dev->sched = &wire.rig.sched;
	assert_int_equal(dev->ops->start(dev), 0);
	assert_int_equal(dev->mtu, 1500);
	assert_int_equal(dev->offloads, offloads);
	return dev;
}

static int open_file(void)
{
	make_path();
	return open(path, O_WRONLY | O_TRUNC);
}

static void end(struct netdev *dev)
{
	dev->ops->close(dev);
	wire_close(&wire);
}

static void arrive(uint32_t number, uint32_t length)
{
	uint8_t bytes[WIRE_BYTES];

	assert_true(sim_arrive(wire.dev, bytes, wire_make(bytes, number, length, false)));
}

/* Receives all that waits and frees it; the stack drops those of the mask. */
static uint32_t receive(struct netdev *dev, uint64_t drop)
{
	struct frame *frames[NETDEV_BURST];
	uint32_t n = dev->ops->rx_burst(dev, frames, NETDEV_BURST);

	for (uint32_t i = 0; i < n; i++) {
		if (drop >> i & 1)
			dev->dropped(dev, frames[i], i % 2 ? DROP_TCP_CHECKSUM : DROP_NO_ROUTE);
		frame_free(wire.rig.sched.heap, frames[i]);
	}
	return n;
}

static uint32_t send_one(struct netdev *dev, uint32_t number, uint32_t length, uint32_t split,
			 bool partial)
{
	struct frame *frame = wire_frame(&wire, number, length, split, partial);
	uint32_t taken = dev->ops->tx_burst(dev, &frame, 1);

	if (taken == 0)
		frame_free(wire.rig.sched.heap, frame);
	return taken;
}

static void check_packet(uint32_t i, uint32_t number, uint32_t length, bool outbound,
			 const char *comment)
{
	const struct packet *packet = &file.packets[i];
	uint32_t found;

	assert_true(i < file.num_packets);
	assert_true(wire_parse(packet->bytes, packet->length, &found));
	assert_int_equal(found, number);
	assert_int_equal(packet->length, length);
	assert_int_equal(packet->flags, outbound ? 2 : 1);
	assert_string_equal(packet->comment, comment);
}

/* ---- tests ---- */

static void test_file(void **state)
{
	struct netdev *dev = start(open_file(), NETDEV_TX_CHECKSUM);
	uint64_t begin = wire.rig.sched.now_ns;

	(void)state;
	arrive(1, 61);
	arrive(2, 1514);
	arrive(3, 62);
	arrive(4, 63);
	assert_int_equal(receive(dev, 0xb), 4);
	wire_advance(&wire, 1);
	assert_int_equal(send_one(dev, 5, 100, 42, false), 1);
	assert_int_equal(send_one(dev, 6, 1000, 50, true), 1);
	struct frame *frames[2] = {wire_frame(&wire, 7, 70, 70, false),
				   wire_frame(&wire, 8, 80, 80, false)};
	wire.room = 1;
	assert_int_equal(dev->ops->tx_burst(dev, frames, 2), 1);
	wire.room = UINT32_MAX;
	assert_int_equal(dev->ops->tx_burst(dev, frames + 1, 1), 1);
	assert_int_equal(dev->stats.tx_frames, 4);
	assert_int_equal(dev->stats.rx_frames, 4);
	wire_advance(&wire, (uint64_t)5 * 1000000000);
	arrive(9, 60);
	assert_int_equal(receive(dev, 0), 1);
	end(dev);

	read_file();
	assert_string_equal(file.name, "port");
	assert_int_equal(file.num_packets, 9);
	check_packet(0, 1, 61, false, "dropped: no_route");
	check_packet(1, 2, 1514, false, "dropped: tcp_checksum");
	check_packet(2, 3, 62, false, "");
	check_packet(3, 4, 63, false, "dropped: tcp_checksum");
	check_packet(4, 5, 100, true, "");
	check_packet(5, 6, 1000, true, "");
	check_packet(6, 7, 70, true, "");
	check_packet(7, 8, 80, true, "");
	check_packet(8, 9, 60, false, "");
	assert_true(file.packets[0].time_ns == begin + EPOCH_NS);
	assert_true(file.packets[4].time_ns == begin + EPOCH_NS + 1);
	assert_true(file.packets[8].time_ns == begin + EPOCH_NS + 1 + (uint64_t)5 * 1000000000);
	assert_true(file.ended);
	assert_int_equal(file.frames, 9);
	assert_int_equal(file.lost, 0);
	(void)unlink(path);
}

/* Around a device in use, and off again; another may be around it. */
static void test_attach(void **state)
{
	struct pcap_counts counts;
	char first[sizeof(path)];

	(void)state;
	wire_open(&wire, 0);
	wire.dev->sched = &wire.rig.sched;
	struct netdev *dev = wire.dev;
	assert_int_equal(send_one(dev, 1, 60, 60, false), 1);
	dev = wrap_fd(open_file());
	memcpy(first, path, sizeof(path));
	assert_ptr_equal(dev->sched, &wire.rig.sched);
	assert_int_equal(dev->stats.tx_frames, 1);
	assert_int_equal(send_one(dev, 2, 60, 60, false), 1);

	int fd = open_file();
	struct netdev *inner = dev;
	assert_int_equal(pcap_wrap(inner, &(struct pcap_options){.fd = fd, .name = "other"}, &dev),
			 0);
	arrive(3, 60);
	assert_int_equal(receive(dev, 1), 1);
	assert_ptr_equal(pcap_unwrap(dev, &counts), inner);
	assert_int_equal(counts.frames, 1);
	read_file();
	assert_int_equal(file.num_packets, 1);
	check_packet(0, 3, 60, false, "dropped: no_route");
	assert_true(file.ended);
	(void)unlink(path);

	assert_ptr_equal(pcap_unwrap(inner, &counts), wire.dev);
	assert_int_equal(counts.frames, 2);
	assert_int_equal(counts.lost, 0);
	assert_int_equal(counts.err, 0);
	memcpy(path, first, sizeof(path));
	read_file();
	assert_int_equal(file.num_packets, 2);
	check_packet(0, 2, 60, true, "");
	check_packet(1, 3, 60, false, "dropped: no_route");
	(void)unlink(path);
	dev = wire.dev;
	assert_int_equal(send_one(dev, 4, 60, 60, false), 1);
	end(dev);
}

static off_t file_bytes(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

/* What is recorded gets into the file when the instance sleeps, when there is much, and in time. */
static void test_when(void **state)
{
	struct netdev *dev = start(open_file(), 0);

	(void)state;
	(void)receive(dev, 0); /* the head, which is due since the start, is in the file */
	off_t head = file_bytes();
	assert_true(head > 0);
	assert_int_equal(send_one(dev, 1, 60, 60, false), 1);
	assert_int_equal(file_bytes(), head);
	uint64_t due = dev->ops->next_deadline(dev);
	assert_in_range(due, wire.rig.sched.now_ns + 1, wire.rig.sched.now_ns + 100000000);
	wire_advance(&wire, 100000000);
	(void)receive(dev, 0);
	assert_true(file_bytes() > head);
	assert_true(dev->ops->next_deadline(dev) == TIMER_NEVER);

	head = file_bytes();
	assert_int_equal(send_one(dev, 2, 60, 60, false), 1);
	assert_int_equal(dev->ops->arm(dev), 0);
	dev->ops->disarm(dev);
	assert_true(file_bytes() > head);
	assert_true(dev->ops->next_deadline(dev) == TIMER_NEVER);

	head = file_bytes();
	for (uint32_t i = 3; i < 103; i++) {
		assert_int_equal(send_one(dev, i, 1514, 1514, false), 1);
		(void)receive(dev, 0);
	}
	assert_in_range(file_bytes() - head, 65536, 160000);
	arrive(200, 60);
	assert_int_equal(dev->ops->arm(dev), -EAGAIN);
	(void)receive(dev, 0);
	end(dev);
	read_file();
	assert_int_equal(file.num_packets, 103);
	(void)unlink(path);
}

/* A reader that does not read: frames are missing, nothing waits, and later ones come again. */
static void test_pipe(void **state)
{
	int fds[2];
	struct pcap_counts counts;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	struct netdev *dev = start(fds[1], 0);
	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(send_one(dev, i, 1514, 1514, false), 1);
		wire_advance(&wire, 1000000);
		(void)receive(dev, 0);
	}
	assert_int_equal(wire.num_sent, 1000);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	uint32_t length = 0;
	for (int round = 0; round < 100; round++) {
		ssize_t more = read(fds[0], file.bytes + length, FILE_BYTES - length);
		length += more > 0 ? (uint32_t)more : 0;
		wire_advance(&wire, 100000000);
		(void)receive(dev, 0);
	}
	assert_int_equal(send_one(dev, 1000, 60, 60, false), 1);
	assert_ptr_equal(pcap_unwrap(dev, &counts), wire.dev);
	assert_int_equal(counts.frames, 1001);
	assert_in_range(counts.lost, 1, 1000);
	assert_int_equal(counts.err, 0);
	ssize_t more = read(fds[0], file.bytes + length, FILE_BYTES - length);
	assert_true(more > 0);
	length += (uint32_t)more;
	assert_int_equal(read(fds[0], file.bytes, 1), 0);
	close(fds[0]);
	file.num_packets = 0;
	file.ended = false;
	for (uint32_t at = 0; at < length;)
		at += read_block(file.bytes + at, length - at);
	assert_int_equal(file.num_packets, 1001 - counts.lost);
	assert_int_equal(file.lost, counts.lost);
	check_packet(file.num_packets - 1, 1000, 60, true, "");
	wire.dev->ops->close(wire.dev);
	wire_close(&wire);
}

/* A reader that goes away, and a full disk: the device works on. */
static void test_errors(void **state)
{
	int fds[2];
	struct pcap_counts counts;
	struct netdev *dev;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	dev = start(fds[1], 0);
	close(fds[0]);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(send_one(dev, i, 1514, 1514, false), 1);
	assert_int_equal(dev->ops->arm(dev), 0);
	arrive(1, 60);
	assert_int_equal(receive(dev, 1), 1);
	assert_ptr_equal(pcap_unwrap(dev, &counts), wire.dev);
	assert_int_equal(counts.err, -EPIPE);
	assert_int_equal(counts.frames, 101);
	assert_true(counts.lost >= 1);
	assert_int_equal(wire.num_sent, 100);

	int full = open("/dev/full", O_WRONLY);
	assert_true(full >= 0);
	assert_int_equal(pcap_wrap(wire.dev, &(struct pcap_options){.fd = full, .name = "x"}, &dev),
			 -ENOSPC);
	assert_int_equal(close(full), 0);
	wire.dev->ops->close(wire.dev);
	wire_close(&wire);
}

static char logged[LOG_MESSAGE_MAX];

static void keep_line(void *arg, int level, const char *message)
{
	(void)arg;
	assert_int_equal(level, LOG_LEVEL_ERROR);
	(void)snprintf(logged, sizeof(logged), "%s", message);
}

static void test_wrap_file(void **state)
{
	const struct log lines = {.fn = keep_line};
	struct netdev *dev;

	(void)state;
	wire_open(&wire, 0);
	assert_int_equal(pcap_wrap_file(wire.dev, "/nowhere/at/all", &lines, &dev), -ENOENT);
	assert_string_equal(logged, "demitasse.capture: \"/nowhere/at/all\": No such file or "
				    "directory");
	make_path();
	assert_int_equal(pcap_wrap_file(wire.dev, path, &lines, &dev), 0);
	assert_true(wire.dev != dev);
	dev->sched = &wire.rig.sched;
	assert_int_equal(dev->ops->start(dev), 0);
	assert_int_equal(send_one(dev, 1, 60, 60, false), 1);
	end(dev);
	read_file();
	assert_int_equal(file.num_packets, 1);
	assert_string_equal(file.name, "sim");
	(void)unlink(path);

	/* never started */
	wire_open(&wire, 0);
	make_path();
	assert_int_equal(pcap_wrap_file(wire.dev, path, &lines, &dev), 0);
	end(dev);
	(void)unlink(path);
}

static void test_no_memory(void **state)
{
	struct netdev *dev;

	(void)state;
	wire_open(&wire, 0);
	fault_fail(1);
	assert_int_equal(pcap_wrap(wire.dev, &(struct pcap_options){.fd = 1, .name = "x"}, &dev),
			 -ENOMEM);
	assert_true(fault_off());
	wire.dev->ops->close(wire.dev);
	wire_close(&wire);
}

/* What tshark reads. */
static void test_tshark(void **state)
{
	static const char *const expected[] = {
		"1\t60\t1700000001.000001000\t0x00000001\t1\tdropped: no_route\n",
		"2\t1514\t1700000001.000001000\t0x00000001\t1\t\n",
		"3\t300\t1700000001.000001007\t0x00000002\t1\t\n",
	};
	char line[512];

	(void)state;
	if (system("command -v tshark >/dev/null 2>&1") != 0) // NOLINT(cert-env33-c): a test
		skip_because("no tshark here");
	struct netdev *dev = start(open_file(), NETDEV_TX_CHECKSUM);
	arrive(1, 60);
	arrive(2, 1514);
	assert_int_equal(receive(dev, 1), 2);
	wire_advance(&wire, 7);
	assert_int_equal(send_one(dev, 3, 300, 42, true), 1);
	end(dev);
	(void)snprintf(line, sizeof(line),
		       "tshark -n -r %s -o udp.check_checksum:TRUE -T fields -e frame.number "
		       "-e frame.len -e frame.time_epoch -e frame.packet_flags_direction "
		       "-e udp.checksum.status -e frame.comment 2>&1",
		       path);
	FILE *out = popen(line, "r"); // NOLINT(cert-env33-c): a test
	assert_non_null(out);
	for (size_t i = 0; i < ARRAY_LENGTH(expected);) {
		assert_non_null(fgets(line, sizeof(line), out));
		if (strncmp(line, "Running as user", 15) == 0)
			continue;
		assert_string_equal(line, expected[i]);
		i++;
	}
	assert_null(fgets(line, sizeof(line), out));
	assert_int_equal(pclose(out), 0);
	(void)unlink(path);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file),      cmocka_unit_test(test_attach),
		cmocka_unit_test(test_when),      cmocka_unit_test(test_pipe),
		cmocka_unit_test(test_errors),    cmocka_unit_test(test_wrap_file),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_tshark),
	};

	return test_run("pcap", tests);
}
