/* tests/support/link.c: see link.h. */
#include "support/link.h"

#include "net/wire/checksum.h"
#include "net/wire/ether.h"
#include "net/wire/group.h"
#include "net/wire/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const uint8_t link_mac[6] = {2, 0, 0, 0, 0, 2};
const uint8_t link_peer_mac[6] = {2, 0, 0, 0, 0, 1};

static struct link *link_of(struct netdev *dev)
{
	return container_of(dev, struct link, dev);
}

static struct link *link_of_net(struct net *net)
{
	return container_of(net, struct link, net);
}

/* ---- TCP that is not there ---- */

int __wrap_tcp_open(struct net *net);
void __wrap_tcp_close(struct net *net);
void __wrap_tcp_flush(struct net *net);
void __wrap_tcp_input(struct net *net, struct frame *frame, const struct ip_packet *packet);
void __wrap_tcp_icmp_error(struct net *net, const struct icmp_quote *quote,
			   const struct icmp_error *error);
void __wrap_tcp_address_lost(struct net *net, const struct ip_address *address);

int __wrap_tcp_open(struct net *net)
{
	(void)net;
	return 0;
}

void __wrap_tcp_close(struct net *net)
{
	(void)net;
}

void __wrap_tcp_flush(struct net *net)
{
	link_of_net(net)->tcp.flushes++;
}

void __wrap_tcp_input(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	struct link_tcp *tcp = &link_of_net(net)->tcp;

	tcp->packets++;
	tcp->from = packet->from;
	tcp->to = packet->to;
	tcp->length = packet->length;
	tcp->tos = packet->tos;
	tcp->checked = packet->checked;
	memcpy(tcp->bytes, packet->payload, packet->length);
	frame_free(net->heap, frame);
}

void __wrap_tcp_icmp_error(struct net *net, const struct icmp_quote *quote,
			   const struct icmp_error *error)
{
	struct link_tcp *tcp = &link_of_net(net)->tcp;

	tcp->errors++;
	tcp->quote = *quote;
	tcp->error = *error;
}

void __wrap_tcp_address_lost(struct net *net, const struct ip_address *address)
{
	struct link_tcp *tcp = &link_of_net(net)->tcp;

	tcp->lost++;
	tcp->lost_address = *address;
}

/* ---- the device ---- */

static uint32_t dev_rx(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct link *link = link_of(dev);
	uint32_t count = link->num_arriving < max ? link->num_arriving : max;

	memcpy(frames, link->arriving, count * sizeof(*frames));
	link->num_arriving -= count;
	memmove(link->arriving, link->arriving + count, link->num_arriving * sizeof(*frames));
	return count;
}

/* As a device does that completes checksums. */
static void complete(struct link_frame *out, const struct frame *frame)
{
	uint8_t *at = out->bytes + frame->transport_offset;
	uint16_t checksum =
		checksum_finish(checksum_partial(at, out->length - frame->transport_offset));

	memcpy(at + frame->checksum_offset, &checksum, sizeof(checksum));
}

static void record(struct link *link, const struct frame *frame)
{
	struct link_frame *out = &link->sent[link->num_sent++];

	assert_true(link->num_sent <= LINK_SENT_MAX);
	assert_true(frame_bytes(frame) <= LINK_FRAME_BYTES);
	out->flags = frame->flags;
	out->num_segments = frame->num_segments;
	memcpy(out->bytes, frame->data, frame->length);
	out->length = frame->length;
	for (uint32_t i = 0; i < frame->num_segments; i++) {
		memcpy(out->bytes + out->length, frame->segments[i].iov_base,
		       frame->segments[i].iov_len);
		out->length += (uint32_t)frame->segments[i].iov_len;
	}
	if (frame->flags & FRAME_CHECKSUM)
		complete(out, frame);
}

static uint32_t dev_tx(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct link *link = link_of(dev);

	assert_true(link->started);
	assert_true(count <= NETDEV_BURST);
	if (count > link->room)
		count = link->room;
	link->room -= count;
	for (uint32_t i = 0; i < count; i++) {
		record(link, frames[i]);
		frame_free(dev->sched->heap, frames[i]);
	}
	return count;
}

static int dev_arm(struct netdev *dev)
{
	return link_of(dev)->num_arriving ? -EAGAIN : 0;
}

static void dev_disarm(struct netdev *dev)
{
	(void)dev;
}

static uint64_t dev_next_deadline(struct netdev *dev)
{
	(void)dev;
	return TIMER_NEVER;
}

static int dev_start(struct netdev *dev)
{
	assert_true(dev->sched->heap->frame_bytes > 0);
	link_of(dev)->started = true;
	return 0;
}

static void dev_close(struct netdev *dev)
{
	(void)dev;
}

static bool dev_receives(struct netdev *dev, const struct netdev_flow *flow)
{
	const struct link *link = link_of(dev);

	return link->nth_of == 0 || flow->local_port % link->nth_of == 0;
}

static int dev_steer(struct netdev *dev, const struct ip_address *address, bool wanted)
{
	struct link *link = link_of(dev);

	if (link->steer_err)
		return link->steer_err;
	assert_true(link->num_steers < LINK_STEERS_MAX);
	link->steers[link->num_steers++] = (struct link_steer){*address, wanted};
	return 0;
}

static void dev_dropped(struct netdev *dev, const struct frame *frame, enum drop reason)
{
	assert_true(frame->length > 0);
	link_of(dev)->dropped = reason;
}

static const struct netdev_ops dev_ops = {
	.name = "link",
	.rx_burst = dev_rx,
	.tx_burst = dev_tx,
	.doorbell = netdev_no_doorbell,
	.arm = dev_arm,
	.disarm = dev_disarm,
	.next_deadline = dev_next_deadline,
	.start = dev_start,
	.steer = dev_steer,
	.receives = dev_receives,
	.close = dev_close,
};

/* ---- life ---- */

static void keep_line(void *arg, int level, const char *message)
{
	struct link *link = arg;

	(void)level;
	(void)snprintf(link->log, sizeof(link->log), "%s", message);
}

static void set_defaults(struct link *link)
{
	struct config *config = &link->rig.sched.config;

	(void)snprintf(config->addresses, sizeof(config->addresses), "10.0.0.2/24,fd00::2/64");
	config->frames_max = 1024;
	config->zero_copy_bytes = 1024;
	config->neighbours_max = 16;
	config->neighbour_reachable_s = 30;
	config->neighbour_retry_s = 1;
	config->neighbour_retries = 3;
	config->tcp_checksum_offload = 1;
	config->udp_checksum_offload = 1;
	link->dev = (struct netdev){
		.ops = &dev_ops,
		.sched = &link->rig.sched,
		.mtu = 1500,
		.dropped = dev_dropped,
	};
	memcpy(link->dev.mac, link_mac, 6);
	link->room = UINT32_MAX;
}

int link_try_open(struct link **link_out, void (*configure)(struct link *link))
{
	static const struct rig_options options = {.step_ns = 1};
	struct link *link = calloc(1, sizeof(*link));

	assert_non_null(link);
	assert_int_equal(rig_open(&link->rig, &options), 0);
	link->rig.sched.log = (struct log){.fn = keep_line, .arg = link};
	link->rig.sched.world.secret[0] = 0x0123456789abcdef;
	set_defaults(link);
	if (configure)
		configure(link);
	(void)sched_now(&link->rig.sched);
	int err = net_open(&link->net, &link->rig.sched, &link->dev);
	if (err) {
		rig_close(&link->rig);
		free(link);
		link = NULL;
	}
	*link_out = link;
	return err;
}

struct link *link_open(void (*configure)(struct link *link))
{
	struct link *link;

	assert_int_equal(link_try_open(&link, configure), 0);
	link_wait(link, 2 * LINK_SECOND + 1000000); /* RFC 5227 2.3: the second announcement */
	net_flush(&link->net);
	link_forget(link);
	link->num_steers = 0;
	return link;
}

void link_close(struct link *link)
{
	struct heap_usage usage;

	net_close(&link->net);
	rig_check(&link->rig);
	heap_usage(link->rig.sched.heap, &usage);
	assert_int_equal(usage.live_objects, 0);
	assert_int_equal(link->rig.sched.timers.armed, 0);
	rig_close(&link->rig);
	free(link);
}

void link_steered(struct link *link, const char *address, bool wanted)
{
	const struct ip_address expected = link_address(address);

	assert_true(link->num_steers > 0);
	assert_true(ip_equal(&link->steers[0].address, &expected));
	assert_int_equal(link->steers[0].wanted, wanted);
	link->num_steers--;
	memmove(link->steers, link->steers + 1, link->num_steers * sizeof(link->steers[0]));
}

void link_not_steered(struct link *link)
{
	assert_int_equal(link->num_steers, 0);
}

void link_wait(struct link *link, uint64_t ns)
{
	const uint64_t step = LINK_SECOND / 200;
	struct sched *sched = &link->rig.sched;

	while (ns > 0) {
		uint64_t now = ns < step ? ns : step;
		link->rig.now_ns += now;
		ns -= now;
		(void)timer_advance(&sched->timers, sched_now(sched));
		net_flush(&link->net);
	}
	net_check(&link->net);
}

/* ---- what the stack sent ---- */

const struct link_frame *link_next(struct link *link)
{
	sched_flush(&link->rig.sched);
	if (link->num_taken == link->num_sent)
		net_flush(&link->net);
	return link->num_taken < link->num_sent ? &link->sent[link->num_taken++] : NULL;
}

void link_quiet(struct link *link)
{
	assert_null(link_next(link));
}

void link_forget(struct link *link)
{
	net_flush(&link->net);
	net_check(&link->net);
	link->num_sent = 0;
	link->num_taken = 0;
}

uint64_t link_drops(const struct link *link, enum drop reason)
{
	return link->rig.sched.counters.drops[reason];
}

static struct link_packet next_packet(struct link *link)
{
	const struct link_frame *frame = link_next(link);
	struct link_packet packet;
	struct ether_header ether;
	struct ip_problem problem;

	assert_non_null(frame);
	packet.c = cursor_over(frame->bytes, frame->length);
	assert_int_equal(ether_parse(&packet.c, &ether), DROP_NONE);
	assert_memory_equal(ether.from, link->net.mac, 6);
	memcpy(packet.to_mac, ether.to, 6);
	if (ether.type == ETHER_IPV4) {
		assert_int_equal(ipv4_parse(&packet.c, &packet.ip), DROP_NONE);
	} else {
		assert_int_equal(ether.type, ETHER_IPV6);
		assert_int_equal(ipv6_parse(&packet.c, &packet.ip, &problem), DROP_NONE);
	}
	packet.ip.checked = false;
	packet.ip.broadcast = false;
	return packet;
}

struct link_packet link_next_ip(struct link *link, uint8_t protocol)
{
	struct link_packet packet = next_packet(link);

	assert_int_equal(packet.ip.protocol, protocol);
	return packet;
}

struct icmp_header link_next_icmp(struct link *link, uint8_t type, uint8_t code,
				  struct link_packet *packet)
{
	struct icmp_header header;

	*packet = next_packet(link);
	assert_int_equal(packet->ip.protocol, ip_is_v4(&packet->ip.to) ? IP_ICMP : IP_ICMPV6);
	assert_int_equal(icmp_parse(&packet->c, &packet->ip, &header), DROP_NONE);
	assert_int_equal(header.type, type);
	assert_int_equal(header.code, code);
	return header;
}

void link_next_udp(struct link *link, uint16_t source, uint16_t destination, const void *data,
		   uint32_t length)
{
	struct link_packet packet = link_next_ip(link, IP_UDP);
	struct udp_header header;

	assert_int_equal(udp_parse(&packet.c, &packet.ip, &header), DROP_NONE);
	assert_int_equal(header.source, source);
	assert_int_equal(header.destination, destination);
	assert_int_equal(cursor_left(&packet.c), length);
	if (length > 0)
		assert_memory_equal(packet.c.at, data, length);
}

void link_next_arp(struct link *link, uint16_t operation, const char *target)
{
	const struct link_frame *frame = link_next(link);
	const struct ip_address address = link_address(target);
	struct ether_header ether;
	struct arp arp;

	assert_non_null(frame);
	struct cursor c = cursor_over(frame->bytes, frame->length);
	assert_int_equal(ether_parse(&c, &ether), DROP_NONE);
	assert_int_equal(ether.type, ETHER_ARP);
	assert_int_equal(arp_parse(&c, &arp), DROP_NONE);
	assert_int_equal(arp.operation, operation);
	assert_int_equal(arp.target, address.words[3]);
	assert_memory_equal(arp.sender_mac, link->net.mac, 6);
}

/* ---- what arrives ---- */

void link_arrive(struct link *link, const void *bytes, uint32_t length)
{
	struct frame *frame = frame_alloc(link->net.heap);

	assert_non_null(frame);
	assert_true(frame_tailroom(frame) >= length);
	memcpy(frame->data, bytes, length);
	frame->length = length;
	assert_true(link->num_arriving < LINK_ARRIVE_MAX);
	link->arriving[link->num_arriving++] = frame;
	(void)net_poll(&link->net);
	net_check(&link->net);
}

void link_arrive_made(struct link *link, const struct link_made *made)
{
	link_arrive(link, made->bytes, made->length);
}

struct link_made link_make_ip(const char *from, const char *to, uint8_t protocol, const void *data,
			      uint32_t length)
{
	const struct ip_address source = link_address(from);
	const struct ip_address destination = link_address(to);
	struct link_made made;
	uint8_t *at = made.bytes + ETHER_HEADER_BYTES;
	bool v4 = ip_is_v4(&destination);
	uint8_t mac[6];

	memcpy(mac, link_mac, 6);
	if (ip_is_multicast(&destination))
		group_mac(&destination, mac);
	ether_write(made.bytes, mac, link_peer_mac, v4 ? ETHER_IPV4 : ETHER_IPV6);
	if (v4)
		ipv4_write(at, &source, &destination, protocol, 64, 0, length);
	else
		ipv6_write(at, &source, &destination, protocol, 64, 0, length, 0);
	at += v4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
	made.length = (uint32_t)(at - made.bytes) + length;
	assert_true(made.length <= LINK_FRAME_BYTES);
	if (length > 0)
		memcpy(at, data, length);
	return made;
}

struct link_made link_make_udp(const char *from, uint16_t source, const char *to,
			       uint16_t destination, const void *data, uint32_t length)
{
	const struct ip_address a = link_address(from);
	const struct ip_address b = link_address(to);
	const struct udp_header header = {
		.source = source,
		.destination = destination,
		.length = (uint16_t)(UDP_HEADER_BYTES + length),
	};
	uint8_t bytes[LINK_FRAME_BYTES];

	udp_write(bytes, &header);
	if (length > 0)
		memcpy(bytes + UDP_HEADER_BYTES, data, length);
	uint64_t sum = checksum_partial(bytes, header.length);
	uint16_t checksum = checksum_finish(sum + checksum_pseudo(&a, &b, IP_UDP, header.length));
	if (checksum == 0)
		checksum = 0xffff;
	memcpy(bytes + UDP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
	return link_make_ip(from, to, IP_UDP, bytes, header.length);
}

struct link_made link_make_icmp(const char *from, const char *to, const struct icmp_header *header,
				const void *data, uint32_t length)
{
	const struct ip_address a = link_address(from);
	const struct ip_address b = link_address(to);
	bool v4 = ip_is_v4(&a);
	uint8_t bytes[LINK_FRAME_BYTES];

	if (length > 0)
		memcpy(bytes + ICMP_HEADER_BYTES, data, length);
	icmp_write(bytes, header, ICMP_HEADER_BYTES + length, v4 ? NULL : &a, &b);
	return link_make_ip(from, to, v4 ? IP_ICMP : IP_ICMPV6, bytes, ICMP_HEADER_BYTES + length);
}

struct link_made link_make_nd(const char *from, const char *to, uint8_t type,
			      const struct nd_message *message)
{
	const struct ip_address a = link_address(from);
	const struct ip_address b = link_address(to);
	uint8_t bytes[ND_MESSAGE_BYTES];
	uint32_t length = nd_write(bytes, type, message, &a, &b);
	struct link_made made = link_make_ip(from, to, IP_ICMPV6, bytes, length);

	made.bytes[ETHER_HEADER_BYTES + 7] = 255; /* hop limit */
	return made;
}

void link_arrive_arp(struct link *link, uint16_t operation, const uint8_t mac[6],
		     const char *sender, const char *target)
{
	uint8_t bytes[ETHER_HEADER_BYTES + ARP_BYTES];
	struct arp arp = {
		.operation = operation,
		.sender = link_address(sender).words[3],
		.target = link_address(target).words[3],
	};

	memcpy(arp.sender_mac, mac, 6);
	memcpy(arp.target_mac, link_mac, 6);
	ether_write(bytes, link_mac, mac, ETHER_ARP);
	arp_write(bytes + ETHER_HEADER_BYTES, &arp);
	link_arrive(link, bytes, sizeof(bytes));
}

void link_know(struct link *link, const char *address)
{
	const struct ip_address a = link_address(address);
	struct neighbour *neighbour = neighbour_get(&link->net, &a);

	assert_non_null(neighbour);
	neighbour_learn(&link->net, neighbour, link_peer_mac, true);
	link_forget(link);
}

void link_checksum_v4(struct link_made *made)
{
	uint8_t *at = made->bytes + ETHER_HEADER_BYTES;
	uint32_t bytes = (at[0] & 15U) * 4;

	memset(at + 10, 0, 2);
	uint16_t checksum = checksum_finish(checksum_partial(at, bytes));
	memcpy(at + 10, &checksum, sizeof(checksum));
}

struct ip_address link_address(const char *text)
{
	struct ip_address a;
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_from_v4(v4);
	assert_int_equal(inet_pton(AF_INET6, text, a.bytes), 1);
	return a;
}
