/* SPDX-License-Identifier: MIT
 * tests/net/bottleneck.c - a line that several senders share: between interfaces of this network
 * namespace, with a rate, a queue that drops from its tail, a delay and a share of frames lost by
 * chance.
 *
 *	bottleneck MBIT DELAY_US QUEUE_BYTES LOSS_PPM SEED INTERFACE INTERFACE...
 *
 * All that goes to the first interface shares one line, all that comes from it another one.  Prints
 * "ready", runs until its standard input ends, then prints what passed and what did not.
 *
 * Memory: a ring of frames for each line; the program ends with them.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX   8
#define FRAME_MAX   2048
#define RING_FRAMES 4096
#define SECOND      1000000000ULL

struct waiting {
	uint64_t due_ns;
	uint32_t length;
	int to; /* port; -1: all but the first */
	uint8_t bytes[FRAME_MAX];
};

struct line {
	struct waiting *ring;
	uint32_t head;
	uint32_t count;
	uint64_t free_ns; /* when it has sent what is in its queue */
	uint64_t passed;
	uint64_t full;
	uint64_t lost;
};

struct port {
	int fd;
	bool known;
	uint8_t mac[ETH_ALEN]; /* of whoever sent last from there */
};

static struct {
	uint64_t bits_per_s;
	uint64_t delay_ns;
	uint64_t queue_bytes;
	uint64_t loss_ppm;
	uint64_t random;
	struct port ports[PORTS_MAX];
	int num_ports;
	struct line lines[2]; /* to the first port, from it */
} bridge;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void fail(const char *what)
{
	(void)fprintf(stderr, "bottleneck: %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool is_lost(void)
{
	bridge.random ^= bridge.random << 13;
	bridge.random ^= bridge.random >> 7;
	bridge.random ^= bridge.random << 17;
	return bridge.random % 1000000 < bridge.loss_ppm;
}

static int port_of(const uint8_t *mac)
{
	for (int i = 1; i < bridge.num_ports; i++)
		if (bridge.ports[i].known && memcmp(bridge.ports[i].mac, mac, ETH_ALEN) == 0)
			return i;
	return -1;
}

static void put(struct line *line, int to, const uint8_t *bytes, uint32_t length, uint64_t now)
{
	uint64_t start = line->free_ns > now ? line->free_ns : now;

	if (is_lost()) {
		line->lost++;
		return;
	}
	if ((start - now) * bridge.bits_per_s / 8 / SECOND > bridge.queue_bytes ||
	    line->count == RING_FRAMES) {
		line->full++;
		return;
	}
	line->free_ns = start + length * 8 * SECOND / bridge.bits_per_s;
	struct waiting *waiting = &line->ring[(line->head + line->count++) % RING_FRAMES];
	waiting->due_ns = line->free_ns + bridge.delay_ns;
	waiting->length = length;
	waiting->to = to;
	memcpy(waiting->bytes, bytes, length);
}

/* One frame; false: none is there. */
static bool receive(int index)
{
	struct port *port = &bridge.ports[index];
	struct sockaddr_ll from;
	socklen_t length = sizeof(from);
	uint8_t bytes[FRAME_MAX];
	ssize_t n = recvfrom(port->fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC,
			     (struct sockaddr *)&from, &length);

	if (n < 0)
		return false;
	if (from.sll_pkttype == PACKET_OUTGOING || n < ETH_HLEN)
		return true;
	if (n > (ssize_t)sizeof(bytes)) {
		errno = EMSGSIZE;
		fail("a frame of an interface whose offloads are not switched off");
	}
	if (index > 0) {
		memcpy(port->mac, bytes + ETH_ALEN, ETH_ALEN);
		port->known = true;
		put(&bridge.lines[0], 0, bytes, (uint32_t)n, now_ns());
	} else {
		put(&bridge.lines[1], port_of(bytes), bytes, (uint32_t)n, now_ns());
	}
	return true;
}

/* What the other end has no room for is lost. */
static void deliver(const struct waiting *waiting)
{
	for (int i = 0; i < bridge.num_ports; i++)
		if (i == waiting->to || (waiting->to < 0 && i > 0))
			(void)!send(bridge.ports[i].fd, waiting->bytes, waiting->length, 0);
}

/* Delivers what is due; when the next is. */
static uint64_t advance(struct line *line)
{
	uint64_t now = now_ns();

	while (line->count > 0) {
		const struct waiting *first = &line->ring[line->head];
		if (first->due_ns > now)
			return first->due_ns;
		deliver(first);
		line->passed++;
		line->head = (line->head + 1) % RING_FRAMES;
		line->count--;
	}
	return now + SECOND;
}

static int open_port(const char *name)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
				 .sll_protocol = (ETH_P_ALL & 0xff) << 8 | ETH_P_ALL >> 8,
				 .sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, at.sll_protocol);
	int bytes = 4 << 20;

	if (fd < 0 || at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)))
		fail(name);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	return fd;
}

static void run(void)
{
	struct pollfd fds[PORTS_MAX + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};

	for (int i = 0; i < bridge.num_ports; i++)
		fds[i + 1] = (struct pollfd){.fd = bridge.ports[i].fd, .events = POLLIN};
	while (fds[0].revents == 0) {
		for (int i = 0; i < bridge.num_ports; i++)
			for (int n = 0; n < 64 && receive(i); n++)
				;
		uint64_t due = advance(&bridge.lines[0]);
		uint64_t other = advance(&bridge.lines[1]);
		uint64_t now = now_ns();
		due = other < due ? other : due;
		due = due > now ? due - now : 0;
		const struct timespec wait = {.tv_sec = (time_t)(due / SECOND),
					      .tv_nsec = (long)(due % SECOND)};
		if (ppoll(fds, (nfds_t)bridge.num_ports + 1, &wait, NULL) < 0 && errno != EINTR)
			fail("ppoll");
	}
}

int main(int argc, char **argv)
{
	if (argc < 8 || argc > 6 + PORTS_MAX) {
		(void)fprintf(stderr, "usage: bottleneck MBIT DELAY_US QUEUE_BYTES LOSS_PPM SEED "
				      "INTERFACE INTERFACE...\n");
		return 2;
	}
	bridge.bits_per_s = strtoull(argv[1], NULL, 10) * 1000000;
	bridge.delay_ns = strtoull(argv[2], NULL, 10) * 1000;
	bridge.queue_bytes = strtoull(argv[3], NULL, 10);
	bridge.loss_ppm = strtoull(argv[4], NULL, 10);
	bridge.random = strtoull(argv[5], NULL, 10) * 2 + 1;
	for (int i = 6; i < argc; i++)
		bridge.ports[bridge.num_ports++].fd = open_port(argv[i]);
	for (int i = 0; i < 2; i++) {
		bridge.lines[i].ring = calloc(RING_FRAMES, sizeof(struct waiting));
		if (!bridge.lines[i].ring)
			fail("memory");
	}
	(void)puts("ready");
	(void)fflush(stdout);
	run();
	for (int i = 0; i < 2; i++)
		printf("%s: %llu frames, %llu more than the queue holds, %llu lost by chance\n",
		       i == 0 ? "forth" : "back", (unsigned long long)bridge.lines[i].passed,
		       (unsigned long long)bridge.lines[i].full,
		       (unsigned long long)bridge.lines[i].lost);
	return 0;
}
