/* tests/sim/inet.c: see inet.h. */
#include "sim/inet.h"

#include "net/tcp/tcp.h"
#include "netdev/pcap/pcap.h"
#include "transport/inet/inet.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define HEAP_STEPS 64 /* events between two walks over the heaps */

/* ---- configuration ---- */

void inet_config(struct config *config, uint32_t index)
{
	world_config(config);
	config->libos = 1;
	config->dad_probes = 0; /* the first packets of IPv6 would come a second later */
	(void)snprintf(config->addresses, sizeof(config->addresses),
		       "10.0.0.%" PRIu32 "/24,fd00::%" PRIx32 "/64", index + 1, index + 1);
}

static int64_t pick(struct world *world, const int64_t *values, uint32_t count)
{
	return values[world_below(world, count)];
}

#define PICK(world, ...)                              \
	pick((world), (const int64_t[]){__VA_ARGS__}, \
	     ARRAY_LENGTH(((const int64_t[]){__VA_ARGS__})))

void inet_draw_config(struct world *world, struct config *config)
{
	config->idle = PICK(world, 0, 1);
	config->nodelay = PICK(world, 1, 1, 0);
	config->zero_copy_bytes = PICK(world, 1024, 0, 1, 256, 1048576);
	config->tcp_checksum_offload = PICK(world, 1, 1, 0);
	config->udp_checksum_offload = PICK(world, 1, 1, 0);
	config->tcp_receive_buffer_bytes = PICK(world, 131072, 4096, 5000, 20000, 65536);
	config->tcp_receive_buffer_max_bytes =
		config->tcp_receive_buffer_bytes * PICK(world, 1, 2, 16, 48);
	config->tcp_send_buffer_bytes = PICK(world, 131072, 4096, 5000, 20000, 65536);
	config->tcp_send_buffer_max_bytes =
		config->tcp_send_buffer_bytes * PICK(world, 1, 2, 16, 32);
	config->tcp_initial_window = PICK(world, 10, 1, 2, 4, 64);
	config->tcp_rto_min_ms = PICK(world, 200, 200, 10, 1);
	config->tcp_rto_max_ms = PICK(world, 1000, 4000);
	config->tcp_delayed_ack_ms = PICK(world, 40, 40, 0, 5);
	config->tcp_quick_ack = PICK(world, 1, 0);
	config->tcp_syn_retries = 20;
	config->tcp_retries = 30;
	config->tcp_time_wait_ms = PICK(world, 1, 100, 5000, 60000);
	config->tcp_timestamps = PICK(world, 1, 1, 0);
	config->tcp_window_scaling = PICK(world, 1, 1, 0);
	config->tcp_sack = PICK(world, 1, 1, 0);
	config->tcp_congestion = PICK(world, 0, 0, 1, 2);
	config->tcp_mss = PICK(world, 0, 0, 0, 64, 536, 1000);
	config->neighbour_reachable_s = PICK(world, 30, 1);
	config->neighbour_retries = 20;
	config->frames_max = PICK(world, 2048, 2048, 256, 512);
	config->dad_probes = PICK(world, 0, 1);
}

void inet_draw_device(struct world *world, uint32_t mtu, struct sim_options *options)
{
	*options = (struct sim_options){
		.mtu = mtu,
		.offloads = (uint8_t)world_below(world, 4),
		.max_segments = (uint8_t)world_below(world, FRAME_SEGMENTS + 1),
		.cut_bytes = (uint32_t)PICK(world, 0, 0, 5000, 20000, 65280),
		.rx_slots = (uint32_t)PICK(world, 1024, 256, 32),
		.rx_burst = (uint32_t)PICK(world, 0, 0, 1, 2, 8),
	};
}

/* ---- addresses ---- */

struct net *inet_net(const struct host *host)
{
	return &container_of(host->instance->engine, struct inet_engine, engine)->net;
}

void inet_toggle_capture(struct host *host)
{
	struct net *net = inet_net(host);
	struct pcap_options options = {.name = "sim"};

	if (pcap_is(net->dev)) {
		struct pcap_counts counts;
		net->dev = pcap_unwrap(net->dev, &counts);
		WORLD_EXPECT(host->world, counts.lost == 0 && counts.err == 0);
		return;
	}
	options.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	WORLD_EXPECT(host->world, options.fd >= 0);
	WORLD_EXPECT(host->world, pcap_wrap(net->dev, &options, &net->dev) == 0);
}

struct inet_name inet_any(int domain, uint16_t port)
{
	struct inet_name name = {0};

	if (domain == AF_INET) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
		memcpy(&name.room, &in, sizeof(in));
		name.length = sizeof(in);
	} else {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
		memcpy(&name.room, &in6, sizeof(in6));
		name.length = sizeof(in6);
	}
	return name;
}

struct inet_name inet_name(uint32_t index, int domain, uint16_t port)
{
	struct inet_name name = inet_any(domain, port);

	if (domain == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)&name.room;
		in->sin_addr.s_addr = htonl(0x0a000001 + index);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&name.room;
		in6->sin6_addr.s6_addr[0] = 0xfd;
		in6->sin6_addr.s6_addr[15] = (uint8_t)(index + 1);
	}
	return name;
}

uint16_t inet_port(const struct inet_name *name)
{
	return name->any.sa_family == AF_INET
		       ? ntohs(((const struct sockaddr_in *)&name->room)->sin_port)
		       : ntohs(((const struct sockaddr_in6 *)&name->room)->sin6_port);
}

struct inet_name inet_local(struct world *world, int qd)
{
	struct inet_name name = {.length = sizeof(name.room)};

	WORLD_EXPECT(world, demi_getsockname(qd, &name.any, &name.length) == 0);
	return name;
}

struct inet_name inet_peer(struct world *world, int qd)
{
	struct inet_name name = {.length = sizeof(name.room)};

	WORLD_EXPECT(world, demi_getpeername(qd, &name.any, &name.length) == 0);
	return name;
}

/* ---- what must hold ---- */

void inet_check(struct world *world, void *unused)
{
	(void)unused;
	for (uint32_t i = 0; i < world->num_hosts; i++) {
		const struct host *host = world->hosts[i];
		if (!host->instance)
			continue;
		tcp_check_all(inet_net(host));
		if (world->steps % HEAP_STEPS == 0)
			heap_check(host->sched->heap);
	}
}

static uint64_t live_objects(const struct host *host)
{
	struct heap_usage usage;

	heap_usage(host->sched->heap, &usage);
	return usage.live_objects;
}

bool inet_is_empty(const struct host *host)
{
	const struct net *net = inet_net(host);

	return list_empty(&net->tcp->all) && list_empty(&net->tcp->dead) &&
	       host->sched->ops.used == 0 && host->sched->coroutines.live == 0 &&
	       live_objects(host) == 0;
}

void inet_expect_empty(struct host *host)
{
	struct world *world = host->world;
	const struct net *net = inet_net(host);

	WORLD_EXPECT(world, list_empty(&net->tcp->all));
	WORLD_EXPECT(world, list_empty(&net->tcp->dead));
	WORLD_EXPECT(world, net->tcp->num_conns == 0);
	WORLD_EXPECT(world, host->sched->ops.used == 0);
	WORLD_EXPECT(world, host->sched->coroutines.live == 0);
	WORLD_EXPECT(world, live_objects(host) == 0);
	heap_check(host->sched->heap);
}

void inet_sleep(uint64_t ns)
{
	const struct timespec interval = {.tv_sec = (time_t)(ns / WORLD_S),
					  .tv_nsec = (long)(ns % WORLD_S)};

	(void)demi_sleep(&interval);
}

/* ---- streams ---- */

static uint64_t stream_word(uint64_t stream, uint64_t index)
{
	uint64_t z = (stream << 40 ^ index) * 0x9e3779b97f4a7c15U;

	return z ^ z >> 31;
}

static uint8_t stream_byte(uint64_t stream, uint64_t at)
{
	return (uint8_t)(stream_word(stream, at / 8) >> at % 8 * 8);
}

void inet_fill(uint64_t stream, uint64_t offset, uint8_t *bytes, uint64_t length)
{
	uint64_t i = 0;

	for (; i < length && (offset + i) % 8 != 0; i++)
		bytes[i] = stream_byte(stream, offset + i);
	for (; i + 8 <= length; i += 8) {
		uint64_t word = stream_word(stream, (offset + i) / 8);
		memcpy(bytes + i, &word, sizeof(word));
	}
	for (; i < length; i++)
		bytes[i] = stream_byte(stream, offset + i);
}

bool inet_matches(uint64_t stream, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
	uint8_t expected[512];

	for (uint64_t done = 0; done < length;) {
		uint64_t n = length - done < sizeof(expected) ? length - done : sizeof(expected);
		inet_fill(stream, offset + done, expected, n);
		if (memcmp(expected, bytes + done, n) != 0)
			return false;
		done += n;
	}
	return true;
}
