/* SPDX-License-Identifier: MIT
 * tests/fuzz/stack.c - whatever may arrive at a network stack that has connections: each input is
 * a program of frames, time and calls.
 *
 * The stack is a whole instance, 10.0.0.2/24 and fd00::2/64, on a device and a clock of this file.
 * Before the program it has a listener of each family, three connections (IPv4 with every option,
 * IPv6, IPv4 with a small receive buffer and no option), one in SYN-SENT, and UDP sockets.  The
 * first byte chooses the configuration; then each step is a byte, and its operands follow.
 *
 * After each step the invariants of every part hold.  What goes out is well-formed, fits the MTU,
 * answers no reset with a reset and no ICMP error with an ICMP error, and carries the bytes that
 * were pushed; what is popped is what was sent.  In the end nothing is left of anything.
 *
 * Data is the pattern of its offset in the stream in both directions, so that a byte at a wrong
 * place is seen.  A frame that is not made from a template may carry other bytes; a connection that
 * such a frame finds is not looked at any more.
 */
#include "api/instance.h"
#include "net/net.h"
#include "net/tcp/tcp.h"
#include "net/wire/icmp.h"
#include "net/wire/udp.h"
#include "transport/inet/inet.h"

#include <arpa/inet.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/socket.h>
#include <demi/wait.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	QUEUES = 16,
	TOKENS = 32,
	ARRAYS = 16,
	STEPS_MAX = 300,
	FRAMES_MAX = 3000, /* that arrive in one run */
	FRAME_BYTES = 2048,
	HOGS = 64,         /* the heap's MiB */
	TURNS_MAX = 20000, /* at one moment: more means that it never comes to rest */
	HOPS_MAX = 3000,   /* moments of one step at which something is due */
	CONNS_SEEN = 64,
};

#define SECOND_NS 1000000000ULL

static const struct timespec no_time;
static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 1};

struct made {
	uint32_t length;
	uint8_t bytes[FRAME_BYTES];
};

struct slot {
	int qd;
	uint32_t pushed; /* bytes: what the next one's pattern is */
	uint32_t popped;
	bool datagrams; /* of any bytes */
	bool unsure;    /* a push was cancelled or failed: the pattern has a gap */
};

/* The SYN-ACK that was sent last: what an ACK must repeat to complete it. */
struct answer {
	bool any;
	struct ip_address from;
	struct ip_address to;
	struct tcp_header h;
};

struct program {
	const uint8_t *at;
	const uint8_t *end;
	struct netdev dev;
	uint64_t now_ns;
	struct demi *instance;
	struct net *net;
	struct frame *arriving;
	bool reset_came; /* the frame that is being answered: a reset, */
	bool error_came; /* an ICMP error, */
	bool group_came; /* to a group or a broadcast address */
	bool from_template;
	bool unsure; /* a frame of any content found a connection */
	uint32_t frames;
	uint32_t steps;
	struct slot slots[QUEUES];
	uint32_t next_slot;
	demi_qtoken_t tokens[TOKENS];
	uint32_t next_token;
	demi_sgarray_t arrays[ARRAYS];
	uint32_t next_array;
	struct answer syn_ack;
	void *hogs[HOGS];
	void *small_hogs; /* each begins with the next one's address */
};

/* ---- operands ---- */

static _Noreturn void fail(const char *what, int line)
{
	(void)fprintf(stderr, "does not hold, line %d: %s\n", line, what);
	abort();
}

#define require(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

static uint32_t take(struct program *p)
{
	return p->at < p->end ? *p->at++ : 0;
}

static uint32_t take16(struct program *p)
{
	uint32_t low = take(p);

	return low | take(p) << 8;
}

static uint32_t take32(struct program *p)
{
	uint32_t low = take16(p);

	return low | take16(p) << 16;
}

/* Small, or with a far end: as far as sequence numbers go. */
static uint32_t take_delta(struct program *p)
{
	uint32_t choice = take(p);

	if (choice < 200)
		return (uint32_t)((int32_t)choice - 100);
	return choice < 240 ? (uint32_t)(int32_t)(int16_t)take16(p) : take32(p);
}

static uint8_t pattern(uint32_t offset)
{
	return (uint8_t)(offset * 7 + (offset >> 8));
}

static int answer(int err)
{
	require(err >= 0 && err < 134);
	return err;
}

/* ---- what goes out ---- */

static void check_tcp_out(struct program *p, struct cursor *c, const struct ip_packet *packet)
{
	struct tcp_header h;

	require(tcp_parse(c, packet, &h) == DROP_NONE);
	require(!(h.flags & TCP_RST) || !p->reset_came);
	require(!p->group_came);
	require(!(h.flags & TCP_SYN) || !(h.flags & (TCP_FIN | TCP_RST)));
	if ((h.flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		p->syn_ack = (struct answer){true, packet->from, packet->to, h};
	const struct tcp_conn *conn =
		tcp_find_tuple(p->net->tcp, &packet->from, h.source, &packet->to, h.destination);
	uint32_t length = cursor_left(c);
	if (!conn || length == 0)
		return;
	require(!(h.flags & TCP_SYN));
	const struct inet_queue *q = conn->user;
	for (uint32_t i = 0; q && i < QUEUES; i++)
		if (p->slots[i].qd == q->queue.qd && p->slots[i].unsure)
			return;
	uint32_t offset = h.seq - conn->iss - 1;
	if (conn->closed || conn->error || (int32_t)offset < 0)
		return;
	for (uint32_t i = 0; i < length; i++)
		require(c->at[i] == pattern(offset + i));
}

static void check_icmp_out(struct program *p, struct cursor *c, const struct ip_packet *packet)
{
	struct icmp_header h;
	bool v6 = packet->protocol == IP_ICMPV6;

	require(icmp_parse(c, packet, &h) == DROP_NONE);
	if (v6 ? h.type < 128 : h.type != ICMP_ECHO && h.type != ICMP_ECHO_REPLY) {
		require(!p->error_came);
		require(packet->header_bytes + packet->length <= (v6 ? 1280U : 576U));
	}
	require(h.type != ICMP_REDIRECT || v6);
	if (v6 &&
	    (h.type == ICMPV6_NEIGHBOR_SOLICITATION || h.type == ICMPV6_NEIGHBOR_ADVERTISEMENT)) {
		struct nd_message message;
		require(nd_parse(c, packet, &h, &message) == DROP_NONE);
	}
}

static void check_ip_out(struct program *p, struct cursor *c, bool v6)
{
	struct ip_packet packet = {0};
	struct ip_problem problem = {0};
	struct udp_header udp;

	require(cursor_left(c) <= p->net->mtu);
	enum drop drop = v6 ? ipv6_parse(c, &packet, &problem) : ipv4_parse(c, &packet);
	require(net_is_local(p->net, &packet.from) || (v6 && ip_is_any(&packet.from)));
	if (drop == DROP_IP_FRAGMENT) { /* of a datagram or an echo */
		require(packet.fragment.protocol == IP_UDP ||
			packet.fragment.protocol == (v6 ? IP_ICMPV6 : IP_ICMP));
		return;
	}
	require(drop == DROP_NONE);
	require(cursor_left(c) == packet.length);
	switch (packet.protocol) {
	case IP_TCP:
		require(!ip_is_multicast(&packet.to) && !ip_is_broadcast(p->net, &packet.to));
		check_tcp_out(p, c, &packet);
		break;
	case IP_UDP:
		require(udp_parse(c, &packet, &udp) == DROP_NONE);
		break;
	default:
		require(packet.protocol == (v6 ? IP_ICMPV6 : IP_ICMP));
		check_icmp_out(p, c, &packet);
	}
}

static void check_out(struct program *p, const struct made *out)
{
	struct cursor c = cursor_over(out->bytes, out->length);
	struct ether_header ether;
	struct arp arp;

	require(ether_parse(&c, &ether) == DROP_NONE);
	require(memcmp(ether.from, our_mac, sizeof(our_mac)) == 0);
	switch (ether.type) {
	case ETHER_ARP:
		require(arp_parse(&c, &arp) == DROP_NONE);
		break;
	case ETHER_IPV4:
		check_ip_out(p, &c, false);
		break;
	default:
		require(ether.type == ETHER_IPV6);
		check_ip_out(p, &c, true);
	}
}

/* ---- the device ---- */

static struct program *program_of(struct netdev *dev)
{
	return container_of(dev, struct program, dev);
}

static uint32_t dev_rx(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct program *p = program_of(dev);

	if (!p->arriving || max == 0)
		return 0;
	frames[0] = p->arriving;
	p->arriving = NULL;
	return 1;
}

static void gather(struct made *out, const struct frame *frame)
{
	require(frame_bytes(frame) <= sizeof(out->bytes));
	memcpy(out->bytes, frame->data, frame->length);
	out->length = frame->length;
	for (uint32_t i = 0; i < frame->num_segments; i++) {
		memcpy(out->bytes + out->length, frame->segments[i].iov_base,
		       frame->segments[i].iov_len);
		out->length += (uint32_t)frame->segments[i].iov_len;
	}
	if (!(frame->flags & FRAME_CHECKSUM))
		return;
	uint8_t *at = out->bytes + frame->transport_offset;
	require(frame->transport_offset + frame->checksum_offset + 2U <= out->length);
	uint16_t checksum =
		checksum_finish(checksum_partial(at, out->length - frame->transport_offset));
	memcpy(at + frame->checksum_offset, &checksum, sizeof(checksum));
}

static uint32_t dev_tx(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct program *p = program_of(dev);
	struct made out;

	for (uint32_t i = 0; i < count; i++) {
		require(frames[i]->num_segments <= dev->max_segments);
		require(!(frames[i]->flags & FRAME_CHECKSUM) ||
			(dev->offloads & NETDEV_TX_CHECKSUM));
		gather(&out, frames[i]);
		if (p->net)
			check_out(p, &out);
		frame_free(dev->sched->heap, frames[i]);
	}
	return count;
}

static int dev_arm(struct netdev *dev)
{
	return program_of(dev)->arriving ? -EAGAIN : 0;
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
	(void)dev;
	return 0;
}

static void dev_close(struct netdev *dev)
{
	(void)dev;
}

static const struct netdev_ops dev_ops = {
	.name = "fuzz",
	.rx_burst = dev_rx,
	.tx_burst = dev_tx,
	.doorbell = netdev_no_doorbell,
	.arm = dev_arm,
	.disarm = dev_disarm,
	.next_deadline = dev_next_deadline,
	.start = dev_start,
	.steer = netdev_takes_all,
	.receives = netdev_receives_all,
	.close = dev_close,
};

/* ---- time ---- */

static uint64_t now(void *arg)
{
	return ((struct program *)arg)->now_ns;
}

static void run_turns(struct program *p)
{
	struct sched *sched = &p->instance->sched;
	uint32_t turns = 0;

	(void)timer_advance(&sched->timers, sched_now(sched));
	while (sched_turn(sched) || sched->output_pending)
		require(++turns < TURNS_MAX);
}

static void advance(struct program *p, uint64_t ns)
{
	uint64_t until = p->now_ns + ns;

	for (uint32_t hops = 0; p->now_ns < until; hops++) {
		uint64_t next = sched_next_deadline(&p->instance->sched);
		require(hops < HOPS_MAX);
		if (next <= p->now_ns) /* due, but not in that turn: time has to pass */
			next = p->now_ns + 1000;
		p->now_ns = next < until ? next : until;
		run_turns(p);
	}
}

/* ---- what arrives ---- */

static bool is_error(const struct ip_packet *packet, const struct cursor *c)
{
	if (cursor_left(c) == 0)
		return false;
	uint8_t type = c->at[0];
	if (!ip_is_v4(&packet->to) || !ip_is_v4(&packet->from))
		return packet->protocol == IP_ICMPV6 && type < 128;
	return packet->protocol == IP_ICMP &&
	       (type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
		type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM);
}

/* Looks at a frame as the stack will. */
static void classify(struct program *p, const struct made *in)
{
	struct cursor c = cursor_over(in->bytes, in->length);
	struct ether_header ether;
	struct ip_packet packet = {0};
	struct ip_problem problem;
	struct tcp_header h;

	p->reset_came = false;
	p->error_came = false;
	p->group_came = false;
	if (ether_parse(&c, &ether) != DROP_NONE)
		return;
	bool v6 = ether.type == ETHER_IPV6;
	if (!v6 && ether.type != ETHER_IPV4)
		return;
	enum drop drop = v6 ? ipv6_parse(&c, &packet, &problem) : ipv4_parse(&c, &packet);
	if (drop == DROP_IP_FRAGMENT) /* what it completes may be anything */
		p->unsure = true;
	if (drop)
		return;
	p->error_came = is_error(&packet, &c);
	if (packet.protocol != IP_TCP || tcp_parse(&c, &packet, &h) != DROP_NONE)
		return;
	p->reset_came = h.flags & TCP_RST;
	p->group_came = ether_is_multicast(ether.to) || ip_is_multicast(&packet.to) ||
			ip_is_broadcast(p->net, &packet.to);
	if (!p->from_template && cursor_left(&c) > 0)
		p->unsure = true;
}

static void arrive(struct program *p, const struct made *in)
{
	struct frame *frame;

	if (p->frames++ >= FRAMES_MAX || in->length == 0 ||
	    in->length > ETHER_HEADER_BYTES + 4 + p->dev.mtu)
		return;
	run_turns(p); /* what the calls before want to send is no answer to this frame */
	frame = frame_alloc(p->instance->sched.heap);
	if (!frame)
		return; /* as a device without memory */
	memcpy(frame->data, in->bytes, in->length);
	frame->length = in->length;
	classify(p, in);
	p->arriving = frame;
	run_turns(p);
	require(!p->arriving);
	p->reset_came = false;
	p->error_came = false;
	p->group_came = false;
}

/* ---- frames made ---- */

static struct ip_address v4_of(uint32_t address)
{
	return ip_from_v4(htonl(address));
}

static struct ip_address v6_of(uint8_t first, uint8_t second, uint8_t last)
{
	struct ip_address a = {.bytes = {first, second}};

	a.bytes[15] = last;
	return a;
}

/* The peer, us, and addresses that others would not send from. */
static struct ip_address take_address(struct program *p, bool v6, bool destination)
{
	static const uint32_t v4[] = {0x0a000001, 0x0a000002, 0x0a000003, 0xc0000201,
				      0x0a0000ff, 0xffffffff, 0xe0000001, 0x7f000001,
				      0x00000000, 0x0a000000, 0xf0000001, 0x0a000002};
	uint32_t choice = take(p);

	if (choice < 160)
		choice = destination ? 1 : 0;
	if (!v6)
		return v4_of(v4[choice % ARRAY_LENGTH(v4)] + (choice % 12 == 2 ? choice / 12 : 0));
	switch (choice % 10) {
	case 0:
		return v6_of(0xfd, 0, 1);
	case 1:
		return v6_of(0xfd, 0, 2);
	case 2:
		return v6_of(0xfd, 0, (uint8_t)(3 + choice / 10));
	case 3:
		return v6_of(0x20, 1, 9);
	case 4:
		return v6_of(0xff, 2, 1);
	case 5: {
		struct ip_address node = v6_of(0xff, 2, 2); /* solicited-node of ours */
		node.bytes[11] = 1;
		node.bytes[12] = 0xff;
		return node;
	}
	case 6:
		return v6_of(0xfe, 0x80, 1);
	case 7:
		return v6_of(0, 0, 1);
	case 8:
		return v6_of(0, 0, 0);
	default:
		return v4_of(0x0a000001); /* mapped, in an IPv6 header */
	}
}

struct ip_shape {
	struct ip_address from;
	struct ip_address to;
	bool v6;
	uint8_t protocol;
	uint8_t ttl;
	const uint8_t *options; /* of IPv4: a multiple of 4 */
	uint32_t options_bytes;
};

/* Ethernet and IP around payload that stands at the right place already: made->length is all of it.
 */
static uint32_t payload_at(const struct ip_shape *s)
{
	return ETHER_HEADER_BYTES +
	       (s->v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES + s->options_bytes);
}

static void seal_v4(struct made *made)
{
	uint8_t *ip = made->bytes + ETHER_HEADER_BYTES;
	uint32_t bytes = (ip[0] & 15U) * 4;

	store16(ip + 10, 0);
	if (bytes > made->length - ETHER_HEADER_BYTES)
		return;
	uint16_t checksum = checksum_finish(checksum_partial(ip, bytes));
	memcpy(ip + 10, &checksum, sizeof(checksum));
}

static void wrap_ip(struct made *made, const struct ip_shape *s)
{
	uint8_t *ip = made->bytes + ETHER_HEADER_BYTES;
	uint32_t length = made->length - payload_at(s);

	ether_write(made->bytes, our_mac, peer_mac, s->v6 ? ETHER_IPV6 : ETHER_IPV4);
	if (ip_is_multicast(&s->to))
		made->bytes[0] = 0x33;
	if (s->v6) {
		ipv6_write(ip, &s->from, &s->to, s->protocol, s->ttl, 0, length, 0);
		return;
	}
	ipv4_write(ip, &s->from, &s->to, s->protocol, s->ttl, 0, length + s->options_bytes);
	if (s->options_bytes > 0) {
		ip[0] = (uint8_t)(0x40 | (IPV4_HEADER_BYTES + s->options_bytes) / 4);
		memcpy(ip + IPV4_HEADER_BYTES, s->options, s->options_bytes);
	}
	seal_v4(made);
}

/* Where the checksum of a protocol stands; 0: there is none. */
static uint32_t checksum_offset(uint8_t protocol)
{
	switch (protocol) {
	case IP_TCP:
		return TCP_CHECKSUM_OFFSET;
	case IP_UDP:
		return UDP_CHECKSUM_OFFSET;
	case IP_ICMP:
	case IP_ICMPV6:
		return 2;
	default:
		return 0;
	}
}

static void seal_transport(uint8_t *at, uint32_t length, const struct ip_shape *s, uint8_t protocol)
{
	uint32_t offset = checksum_offset(protocol);
	uint64_t sum = 0;

	if (offset == 0 || length < offset + 2)
		return;
	store16(at + offset, 0);
	if (protocol != IP_ICMP)
		sum = checksum_pseudo(&s->from, &s->to, protocol, length);
	uint16_t checksum = checksum_finish(sum + checksum_partial(at, length));
	memcpy(at + offset, &checksum, sizeof(checksum));
}

/* One bit is wrong. */
static void flip_bit(struct program *p, struct made *made)
{
	uint32_t bit = take16(p) % (made->length * 8);

	made->bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
}

/* ---- TCP segments of live connections ---- */

enum tcp_shape {
	SHAPE_SEQ = 3,      /* from which sequence number: rcv_nxt, rcv_adv, irs, 0 */
	SHAPE_ACK = 12,     /* snd_una, snd_nxt, iss */
	SHAPE_FLIP = 16,    /* a bit is wrong */
	SHAPE_OPTIONS = 32, /* any bytes */
	SHAPE_PATCH = 64,   /* two bytes of the header are others, the checksum is good */
	SHAPE_MANY = 128,   /* again and again, seq and ack going on */
};

static struct tcp_conn *take_conn(struct program *p)
{
	uint32_t choice = take(p);
	uint32_t count = 0;

	list_for_each (node, &p->net->tcp->all)
		count++;
	if (count == 0)
		return NULL;
	choice %= count;
	list_for_each (node, &p->net->tcp->all)
		if (choice-- == 0)
			return container_of(node, struct tcp_conn, in_all);
	return NULL;
}

struct segment {
	struct ip_shape ip;
	struct tcp_header h;
	uint32_t length;      /* of data */
	uint32_t data_offset; /* of its first byte, in the stream */
	uint32_t options_bytes;
	uint8_t options[TCP_OPTIONS_MAX];
	uint8_t patch_at;
	uint8_t patch;
	uint16_t urgent;
};

static void make_segment(struct made *made, const struct segment *s)
{
	uint8_t *at = made->bytes + payload_at(&s->ip);
	uint32_t bytes = tcp_write(at, &s->h);

	if (s->options_bytes > 0) {
		memcpy(at + TCP_HEADER_BYTES, s->options, s->options_bytes);
		bytes = TCP_HEADER_BYTES + s->options_bytes;
		at[12] = (uint8_t)(bytes / 4 << 4);
	}
	store16(at + 18, s->urgent);
	for (uint32_t i = 0; i < s->length; i++)
		at[bytes + i] = pattern(s->data_offset + i);
	if (s->patch)
		at[s->patch_at % bytes] ^= s->patch;
	made->length = payload_at(&s->ip) + bytes + s->length;
	wrap_ip(made, &s->ip);
	seal_transport(at, bytes + s->length, &s->ip, IP_TCP);
}

static void address_segment(struct program *p, struct segment *s, const struct tcp_conn *conn)
{
	s->ip = (struct ip_shape){.protocol = IP_TCP, .ttl = 64};
	s->h.destination = conn->local_port;
	if (conn->state > TCPS_LISTEN) {
		s->ip.v6 = !ip_is_v4(&conn->remote);
		s->ip.from = conn->remote;
		s->ip.to = conn->local;
		s->h.source = conn->remote_port;
		return;
	}
	s->ip.v6 = conn->domain == AF_INET6;
	s->ip.from = take_address(p, s->ip.v6, false);
	s->ip.to = take_address(p, s->ip.v6, true);
	s->h.source = (uint16_t)(20000 + take(p));
}

/* What the peer's timestamp is unless the input says otherwise. */
static void stamp(struct program *p, struct segment *s, const struct tcp_conn *conn)
{
	if (!conn->timestamps || s->options_bytes > 0)
		return;
	s->h.options.has = TCP_HAS_TIMESTAMP;
	s->h.options.ts_value = conn->ts_recent;
	s->h.options.ts_echo = (uint32_t)(p->now_ns / 1000000) + conn->ts_offset;
}

static void take_options(struct program *p, struct segment *s)
{
	uint32_t bytes = take(p) % (TCP_OPTIONS_MAX + 1);

	for (uint32_t i = 0; i < bytes; i++)
		s->options[i] = (uint8_t)take(p);
	s->options_bytes = (bytes + 3) / 4 * 4;
}

static void take_numbers(struct program *p, struct segment *s, const struct tcp_conn *conn,
			 uint32_t shape)
{
	const uint32_t seqs[] = {conn->rcv_nxt, conn->rcv_adv, conn->irs, 0};
	const uint32_t acks[] = {conn->snd_una, conn->snd_nxt, conn->snd_nxt, conn->iss};

	s->h.flags = (uint8_t)take(p);
	s->h.seq = seqs[shape & SHAPE_SEQ] + take_delta(p);
	s->h.ack = acks[(shape & SHAPE_ACK) / 4] + take_delta(p);
	s->h.window = (uint16_t)take16(p);
	s->length = take(p) * 5;
}

static uint32_t stream_offset(const struct segment *s, const struct tcp_conn *conn)
{
	if (conn->state <= TCPS_SYN_SENT)
		return 0;
	return s->h.seq - conn->irs - 1 + (s->h.flags & TCP_SYN ? 1 : 0);
}

static void step_tcp(struct program *p)
{
	run_turns(p); /* the numbers are those of what was sent */
	struct tcp_conn *conn = take_conn(p);
	uint32_t shape = take(p);
	struct segment s = {0};
	uint32_t count = 1;
	struct made made;
	uint32_t seq_step = 0;
	uint32_t ack_step = 0;

	if (!conn)
		return;
	address_segment(p, &s, conn);
	take_numbers(p, &s, conn, shape);
	if (shape & SHAPE_OPTIONS)
		take_options(p, &s);
	stamp(p, &s, conn);
	s.data_offset = stream_offset(&s, conn);
	if (shape & SHAPE_PATCH) {
		s.patch_at = (uint8_t)take(p);
		s.patch = (uint8_t)take(p);
		s.urgent = (uint16_t)take16(p);
	}
	if (shape & SHAPE_MANY) {
		count = take(p);
		seq_step = take_delta(p);
		ack_step = take_delta(p);
	}
	uint32_t room = p->dev.mtu - (payload_at(&s.ip) - ETHER_HEADER_BYTES) - 60;
	if (s.length > room)
		s.length = room;
	p->from_template = s.patch == 0;
	for (uint32_t i = 0; i < count; i++) {
		make_segment(&made, &s);
		if (shape & SHAPE_FLIP)
			flip_bit(p, &made);
		arrive(p, &made);
		s.h.seq += seq_step;
		s.h.ack += ack_step;
		s.data_offset += seq_step;
	}
	p->from_template = false;
}

/* The ACK of the SYN-ACK that went out last, or nearly: what a cookie is given back by. */
static void step_complete(struct program *p)
{
	const struct answer *a = &p->syn_ack;
	struct segment s = {
		.ip = {.from = a->to,
		       .to = a->from,
		       .v6 = !ip_is_v4(&a->to),
		       .protocol = IP_TCP,
		       .ttl = 64},
		.h = {.source = a->h.destination, .destination = a->h.source},
	};
	struct made made;

	s.length = take(p) % 64;
	s.h.flags = (uint8_t)(TCP_ACK ^ take(p));
	s.h.seq = a->h.ack + take_delta(p);
	s.h.ack = a->h.seq + 1 + take_delta(p);
	s.h.window = (uint16_t)take16(p);
	s.h.options.ts_value = a->h.options.ts_echo + take(p);
	s.h.options.ts_echo = a->h.options.ts_value + take_delta(p);
	if (!a->any)
		return;
	s.h.options.has = a->h.options.has & TCP_HAS_TIMESTAMP;
	s.data_offset = s.h.seq - a->h.ack;
	make_segment(&made, &s);
	p->from_template = true;
	arrive(p, &made);
	p->from_template = false;
}

/* ---- other frames ---- */

static void step_raw(struct program *p)
{
	struct made made;

	made.length = take16(p) % 1800;
	for (uint32_t i = 0; i < made.length; i++)
		made.bytes[i] = (uint8_t)take(p);
	arrive(p, &made);
}

static bool is_extension(uint8_t protocol)
{
	return protocol == 0 || protocol == 43 || protocol == 44 || protocol == 60;
}

/* The checksum of the header behind extension headers. */
static void seal_behind(uint8_t *at, uint32_t length, const struct ip_shape *s)
{
	uint8_t protocol = s->protocol;

	while (s->v6 && is_extension(protocol) && length >= 8) {
		uint32_t bytes = protocol == 44 ? 8 : 8U * (1U + at[1]);
		protocol = at[0];
		if (bytes > length)
			return;
		at += bytes;
		length -= bytes;
	}
	seal_transport(at, length, s, protocol);
}

/* A byte of the header is another, its checksum good; a bit is wrong; padding, or what is missing.
 * false: it would be no frame. */
static bool spoil(struct program *p, struct made *made, const struct ip_shape *s, uint32_t how)
{
	if (how & 16) {
		uint32_t offset = take(p) % (payload_at(s) - ETHER_HEADER_BYTES);
		made->bytes[ETHER_HEADER_BYTES + offset] ^= (uint8_t)take(p);
		if (!s->v6)
			seal_v4(made);
	}
	if (how & 32)
		flip_bit(p, made);
	if (!(how & 64))
		return true;
	uint32_t delta = take(p);
	if (delta >= 128) {
		uint32_t missing = (delta - 127) % 64;
		made->length -= missing < made->length ? missing : made->length;
		return true;
	}
	if (made->length + delta > FRAME_BYTES)
		return false;
	memset(made->bytes + made->length, 0x55, delta);
	made->length += delta;
	return true;
}

/* Any packet: its headers' checksums good, changed where the input says. */
static void step_ip(struct program *p)
{
	static const uint8_t protocols[] = {IP_ICMP, IP_TCP, IP_UDP, IP_ICMPV6, 0, 43, 44, 60};
	static const uint8_t ttls[] = {64, 255, 0, 1};
	uint32_t how = take(p);
	struct ip_shape s = {.v6 = how & 1, .ttl = ttls[how / 2 % 4]};
	uint8_t options[40] = {0};
	struct made made;

	uint32_t choice = take(p);
	s.protocol = choice < 200 ? protocols[choice % ARRAY_LENGTH(protocols)] : (uint8_t)take(p);
	s.from = take_address(p, s.v6, false);
	s.to = take_address(p, s.v6, true);
	if ((how & 8) && !s.v6) {
		uint32_t bytes = take(p) % 41;
		for (uint32_t i = 0; i < bytes; i++)
			options[i] = (uint8_t)take(p);
		s.options = options;
		s.options_bytes = (bytes + 3) / 4 * 4;
	}
	uint32_t length = take(p) * (how & 128 ? 5 : 1);
	made.length = payload_at(&s) + length;
	uint8_t *at = made.bytes + payload_at(&s);
	for (uint32_t i = 0; i < length; i++)
		at[i] = (uint8_t)take(p);
	wrap_ip(&made, &s);
	seal_behind(at, length, &s);
	if (spoil(p, &made, &s, how))
		arrive(p, &made);
}

/* An ICMP error about a segment of a live connection. */
static void step_error(struct program *p)
{
	static const uint32_t mtus[] = {0,    67,   68,   551,  552,   576,        1279,
					1280, 1400, 1500, 9000, 65535, 0x80000000, 0xffffffff};
	const struct tcp_conn *conn = take_conn(p);
	struct icmp_header h = {.type = (uint8_t)take(p), .code = (uint8_t)(take(p) % 16)};
	uint8_t *at;
	struct made made;

	if (!conn || conn->state <= TCPS_LISTEN)
		return;
	struct ip_shape s = {.v6 = !ip_is_v4(&conn->remote), .ttl = 64};
	uint32_t how = take(p);
	s.protocol = s.v6 ? IP_ICMPV6 : IP_ICMP;
	s.from = how & 1 ? take_address(p, s.v6, false) : conn->remote;
	s.to = conn->local;
	h.rest = mtus[take(p) % ARRAY_LENGTH(mtus)];
	at = made.bytes + payload_at(&s);
	uint8_t *quote = at + ICMP_HEADER_BYTES;
	uint32_t tcp_bytes = how & 2 ? 20 : 8;
	uint32_t ip_bytes = s.v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
	if (s.v6)
		ipv6_write(quote, &conn->local, &conn->remote, IP_TCP, 60, 0, 1000, 0);
	else
		ipv4_write(quote, &conn->local, &conn->remote, IP_TCP, 60, 0, 1000);
	memset(quote + ip_bytes, 0, tcp_bytes);
	store16(quote + ip_bytes, conn->local_port);
	store16(quote + ip_bytes + 2, conn->remote_port);
	store32(quote + ip_bytes + 4, conn->snd_una + take_delta(p));
	if (how & 4) {
		uint32_t offset = take(p) % (ip_bytes + tcp_bytes);
		quote[offset] ^= (uint8_t)take(p);
	}
	uint32_t length = ICMP_HEADER_BYTES + ip_bytes + tcp_bytes;
	if (how & 8)
		length -= take(p) % length;
	made.length = payload_at(&s) + length;
	at[0] = h.type;
	if (length > ICMP_HEADER_BYTES)
		icmp_write(at, &h, length, s.v6 ? &s.from : NULL, s.v6 ? &s.to : NULL);
	wrap_ip(&made, &s);
	arrive(p, &made);
}

static void step_arp(struct program *p)
{
	static const uint8_t macs[][6] = {
		{2, 0, 0, 0, 0, 1},    {2, 0, 0, 0, 0, 9}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		{1, 0, 0x5e, 0, 0, 1}, {0, 0, 0, 0, 0, 0}, {2, 0, 0, 0, 0, 2}};
	struct arp arp = {.operation = (uint16_t)(take(p) % 4)};
	struct made made;

	memcpy(arp.sender_mac, macs[take(p) % ARRAY_LENGTH(macs)], 6);
	struct ip_address sender = take_address(p, false, false);
	struct ip_address target = take_address(p, false, true);
	arp.sender = sender.words[3];
	arp.target = target.words[3];
	uint32_t how = take(p);
	uint32_t count = how & 1 ? take(p) : 1;
	for (uint32_t i = 0; i < count; i++) {
		ether_write(made.bytes, how & 2 ? macs[2] : our_mac, arp.sender_mac, ETHER_ARP);
		arp_write(made.bytes + ETHER_HEADER_BYTES, &arp);
		made.length = ETHER_HEADER_BYTES + ARP_BYTES;
		if (how & 4)
			made.bytes[ETHER_HEADER_BYTES + take(p) % ARP_BYTES] ^= (uint8_t)take(p);
		if (how & 8)
			made.length -= take(p) % ARP_BYTES;
		arrive(p, &made);
		arp.sender = htonl(ntohl(arp.sender) + 1); /* a scan */
	}
}

static void step_nd(struct program *p)
{
	uint32_t how = take(p);
	struct ip_shape s = {.v6 = true, .protocol = IP_ICMPV6, .ttl = how & 1 ? 64 : 255};
	struct made made;
	uint8_t *at = made.bytes + payload_at(&s);

	s.from = take_address(p, true, false);
	s.to = take_address(p, true, true);
	struct ip_address target = take_address(p, true, true);
	uint32_t count = how & 2 ? take(p) : 1;
	uint32_t flags = take(p);
	uint32_t options = take(p) % 64;
	memset(at, 0, 24);
	at[0] = (uint8_t)(ICMPV6_ROUTER_SOLICITATION + (how / 4) % 6);
	store32(at + 4, flags << 24);
	memcpy(at + 8, target.bytes, 16);
	for (uint32_t i = 0; i < options; i++)
		at[24 + i] = (uint8_t)take(p);
	made.length = payload_at(&s) + 24 + options;
	for (uint32_t i = 0; i < count; i++) {
		wrap_ip(&made, &s);
		seal_transport(at, 24 + options, &s, IP_ICMPV6);
		arrive(p, &made);
		s.from.bytes[14]++;
	}
}

/* A router tells of itself and of prefixes, as often as a byte says. */
static void step_router(struct program *p)
{
	struct ip_shape s = {.v6 = true, .protocol = IP_ICMPV6, .ttl = 255};
	uint32_t how = take(p);
	struct made made;
	uint8_t *at = made.bytes + payload_at(&s);
	uint32_t count = how & 8 ? take(p) : 1;
	uint32_t prefixes = how % 8;
	uint32_t length = 16 + prefixes * 32;

	s.from = v6_of(0xfe, 0x80, (uint8_t)take(p));
	s.to = v6_of(0xff, 2, 1);
	memset(at, 0, length);
	at[0] = ICMPV6_ROUTER_ADVERTISEMENT;
	at[5] = (uint8_t)take(p);
	at[7] = (uint8_t)take(p); /* seconds of lifetime */
	store16(at + 10, (uint16_t)take(p));
	store16(at + 14, (uint16_t)take(p));
	for (uint32_t i = 0; i < prefixes; i++) {
		uint8_t *option = at + 16 + i * 32;
		option[0] = how & 16 ? 5 : 3;
		option[1] = how & 32 ? (uint8_t)take(p) : 4;
		option[2] = how & 64 ? (uint8_t)take(p) : 64;
		option[3] = (uint8_t)take(p);
		option[7] = (uint8_t)take(p);
		option[11] = (uint8_t)take(p);
		option[16] = 0xfd;
		option[17] = (uint8_t)take(p);
	}
	made.length = payload_at(&s) + length;
	for (uint32_t i = 0; i < count; i++) {
		wrap_ip(&made, &s);
		seal_transport(at, length, &s, IP_ICMPV6);
		arrive(p, &made);
		s.from.bytes[15]++;
		at[16 + 18]++; /* another prefix */
	}
}

static void step_udp(struct program *p)
{
	static const uint16_t ports[] = {53, 5353, 40000, 1};
	uint32_t how = take(p);
	struct ip_shape s = {.v6 = how & 1, .protocol = IP_UDP, .ttl = 64};
	struct udp_header h = {.source = ports[how / 2 % 4], .destination = ports[how / 8 % 4]};
	struct made made;

	s.from = take_address(p, s.v6, false);
	s.to = take_address(p, s.v6, true);
	uint32_t length = take(p) * 5;
	uint32_t count = how & 32 ? take(p) : 1;
	h.length = (uint16_t)(how & 64 ? take16(p) : UDP_HEADER_BYTES + length);
	uint8_t *at = made.bytes + payload_at(&s);
	udp_write(at, &h);
	memset(at + UDP_HEADER_BYTES, 0xaa, length);
	made.length = payload_at(&s) + UDP_HEADER_BYTES + length;
	wrap_ip(&made, &s);
	if (!(how & 128)) /* else its checksum is 0 */
		seal_transport(at, UDP_HEADER_BYTES + length, &s, IP_UDP);
	for (uint32_t i = 0; i < count; i++)
		arrive(p, &made);
}

/* Fragments of a datagram of 0xaa, cut at multiples of 8 bytes; for some lengths, of good ones. */
static void step_fragments(struct program *p)
{
	uint32_t how = take(p);
	struct ip_shape s = {.v6 = how & 1, .protocol = IP_UDP, .ttl = 64};
	struct udp_header h = {.source = 5353, .destination = how & 2 ? 53 : 5353};
	uint32_t id = take(p);
	uint32_t offset = take16(p) % 8192 * 8;
	uint32_t each = (1 + take(p) % 128) * 8;
	uint32_t count = take(p);
	uint32_t total = take16(p);
	uint32_t front = s.v6 ? IPV6_FRAGMENT_BYTES : 0;

	s.from = s.v6 ? v6_of(0xfd, 0, (uint8_t)(1 + how / 16)) : v4_of(0x0a000001 + how / 16);
	s.to = s.v6 ? v6_of(0xfd, 0, 2) : v4_of(0x0a000002);
	h.length = (uint16_t)total;
	for (uint32_t i = 0; i < count && offset < 65536; i++, offset += each) {
		struct made made;
		uint8_t *at = made.bytes + payload_at(&s);
		bool more = offset + each < total;
		uint32_t length = more || total < offset ? each : total - offset;
		memset(at + front, 0xaa, length);
		if (offset == 0 && length >= UDP_HEADER_BYTES) {
			uint64_t sum = checksum_pseudo(&s.from, &s.to, IP_UDP, total);
			udp_write(at + front, &h);
			sum += checksum_partial(at + front, UDP_HEADER_BYTES);
			for (uint32_t k = UDP_HEADER_BYTES; k + 1 < total; k += 2)
				sum += 0xaaaa;
			if (total % 2 != 0)
				sum += 0xaa;
			uint16_t checksum = checksum_finish(sum);
			memcpy(at + front + UDP_CHECKSUM_OFFSET, &checksum, sizeof(checksum));
		}
		if (s.v6) {
			ipv6_write_fragment(at, IP_UDP, offset, more, id);
			s.protocol = IP_FRAGMENT;
		}
		made.length = payload_at(&s) + front + length;
		wrap_ip(&made, &s);
		if (!s.v6)
			ipv4_write_fragment(
				made.bytes + ETHER_HEADER_BYTES,
				(uint16_t)(offset / 8 | (more ? IPV4_MORE_FRAGMENTS : 0)),
				(uint16_t)id);
		arrive(p, &made);
		if (how & 4) /* one id each */
			id++;
		if (how & 8) /* one on the other */
			offset -= 8;
	}
}

/* ---- calls ---- */

static struct slot *take_slot(struct program *p)
{
	return &p->slots[take(p) % QUEUES];
}

static struct slot *slot_of(struct program *p, int qd)
{
	for (uint32_t i = 0; i < QUEUES; i++)
		if (p->slots[i].qd == qd)
			return &p->slots[i];
	return NULL;
}

static void keep_qd(struct program *p, int qd)
{
	struct slot *slot = NULL;

	for (uint32_t i = 0; i < QUEUES && !slot; i++)
		if (p->slots[i].qd < 0)
			slot = &p->slots[i];
	if (!slot) {
		slot = &p->slots[p->next_slot++ % QUEUES];
		require(demi_close(slot->qd) == 0);
	}
	*slot = (struct slot){.qd = qd};
}

static void finish(struct program *p, demi_qresult_t *qr)
{
	struct slot *slot = slot_of(p, qr->qr_qd);

	require((qr->qr_opcode == DEMI_OPC_FAILED) == (qr->qr_ret != 0));
	(void)answer((int)qr->qr_ret);
	switch (qr->qr_opcode) {
	case DEMI_OPC_ACCEPT:
		keep_qd(p, qr->qr_value.ares.qd);
		return;
	case DEMI_OPC_POP:
		break;
	case DEMI_OPC_FAILED:
		if (slot)
			slot->unsure = true;
		return;
	default:
		return;
	}
	demi_sgarray_t *sga = &qr->qr_value.sga;
	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		const uint8_t *bytes = sga->sga_segs[i].sgaseg_buf;
		for (uint32_t k = 0; k < sga->sga_segs[i].sgaseg_len && slot && !slot->datagrams;
		     k++, slot->popped++)
			require(p->unsure || bytes[k] == pattern(slot->popped));
	}
	demi_sgarray_t *kept = &p->arrays[p->next_array++ % ARRAYS];
	(void)demi_sgafree(kept);
	*kept = *sga;
}

/* Takes a result if there is one. */
static bool redeem(struct program *p, demi_qtoken_t *qt)
{
	demi_qresult_t qr;

	if (*qt == 0)
		return true;
	int err = answer(demi_wait(&qr, *qt, &no_time));
	if (err == 0)
		finish(p, &qr);
	else
		require(err == ETIMEDOUT);
	if (err == 0)
		*qt = 0;
	return err == 0;
}

static void keep_token(struct program *p, demi_qtoken_t qt)
{
	demi_qtoken_t *slot = &p->tokens[p->next_token++ % TOKENS];

	require(qt != 0);
	if (!redeem(p, slot)) {
		demi_qresult_t qr;
		(void)answer(demi_cancel(*slot));
		if (demi_wait(&qr, *slot, &no_time) == 0)
			finish(p, &qr);
		if (slot_of(p, qr.qr_qd))
			slot_of(p, qr.qr_qd)->unsure = true;
	}
	*slot = qt;
}

static void step_push(struct program *p)
{
	struct slot *slot = take_slot(p);
	uint32_t length = take(p) * 50 + 1;
	demi_sgarray_t sga = demi_sgaalloc(length);
	demi_qtoken_t qt;

	if (sga.sga_numsegs == 0)
		return;
	uint8_t *bytes = sga.sga_segs[0].sgaseg_buf;
	for (uint32_t i = 0; i < length; i++)
		bytes[i] = pattern(slot->pushed + i);
	if (answer(demi_push(&qt, slot->qd, &sga)) == 0) {
		slot->pushed += length;
		keep_token(p, qt);
	}
	require(demi_sgafree(&sga) == 0);
}

static struct sockaddr_storage name_of(bool v6, uint8_t last, uint16_t port, socklen_t *length)
{
	struct sockaddr_storage room = {0};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (last > 0) {
		in.sin_addr.s_addr = htonl(0x0a000000U + last);
		in6.sin6_addr.s6_addr[0] = 0xfd;
		in6.sin6_addr.s6_addr[15] = last;
	}
	*length = v6 ? sizeof(in6) : sizeof(in);
	if (v6)
		memcpy(&room, &in6, sizeof(in6));
	else
		memcpy(&room, &in, sizeof(in));
	return room;
}

static void step_push_to(struct program *p)
{
	struct slot *slot = take_slot(p);
	uint32_t choice = take(p);
	demi_sgarray_t sga = demi_sgaalloc(1 + take(p) * 5);
	socklen_t length;
	struct sockaddr_storage to =
		name_of(choice & 1, (uint8_t)(1 + choice / 2 % 8), 5353, &length);
	demi_qtoken_t qt;

	if (sga.sga_numsegs == 0)
		return;
	memset(sga.sga_segs[0].sgaseg_buf, 0xaa, sga.sga_segs[0].sgaseg_len);
	if (answer(demi_pushto(&qt, slot->qd, &sga, (struct sockaddr *)&to, length)) == 0) {
		slot->unsure = true;
		keep_token(p, qt);
	}
	require(demi_sgafree(&sga) == 0);
}

static void step_pop(struct program *p)
{
	demi_qtoken_t qt;

	if (answer(demi_pop(&qt, take_slot(p)->qd)) == 0)
		keep_token(p, qt);
}

static void step_accept(struct program *p)
{
	demi_qtoken_t qt;

	if (answer(demi_accept(&qt, take_slot(p)->qd)) == 0)
		keep_token(p, qt);
}

static void step_close(struct program *p)
{
	struct slot *slot = take_slot(p);

	if (answer(demi_close(slot->qd)) == 0)
		slot->qd = -1;
}

static void step_shutdown(struct program *p)
{
	struct slot *slot = take_slot(p);

	(void)answer(demi_shutdown(slot->qd, (int)(take(p) % 3)));
}

static void step_connect(struct program *p)
{
	uint32_t choice = take(p);
	socklen_t length;
	struct sockaddr_storage to = name_of(choice & 1, (uint8_t)(1 + choice / 4 % 4),
					     (uint16_t)(80 + choice / 16 % 4), &length);
	demi_qtoken_t qt;
	int qd;

	if (answer(demi_socket(&qd, choice & 1 ? AF_INET6 : AF_INET,
			       choice & 2 ? SOCK_DGRAM : SOCK_STREAM, 0)))
		return;
	keep_qd(p, qd);
	slot_of(p, qd)->datagrams = choice & 2;
	if (answer(demi_connect(&qt, qd, (struct sockaddr *)&to, length)) == 0)
		keep_token(p, qt);
}

static void step_option(struct program *p)
{
	static const int names[][2] = {
		{SOL_SOCKET, SO_RCVBUF},     {SOL_SOCKET, SO_SNDBUF},
		{SOL_SOCKET, SO_KEEPALIVE},  {SOL_SOCKET, SO_REUSEADDR},
		{IPPROTO_TCP, TCP_NODELAY},  {IPPROTO_TCP, TCP_CORK},
		{IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_KEEPINTVL},
		{IPPROTO_TCP, TCP_KEEPCNT},  {IPPROTO_TCP, TCP_USER_TIMEOUT},
		{IPPROTO_TCP, TCP_QUICKACK}, {IPPROTO_TCP, TCP_MAXSEG},
		{SOL_DEMI, DEMI_PUSH_ACKED},
	};
	struct slot *slot = take_slot(p);
	uint32_t choice = take(p);
	int value = (int)take16(p);
	struct linger linger = {.l_onoff = value & 1, .l_linger = value / 2 % 4};

	if (choice >= 200)
		(void)answer(
			demi_setsockopt(slot->qd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	else
		(void)answer(demi_setsockopt(slot->qd, names[choice % ARRAY_LENGTH(names)][0],
					     names[choice % ARRAY_LENGTH(names)][1], &value,
					     sizeof(value)));
}

static void step_redeem(struct program *p)
{
	for (uint32_t i = 0; i < TOKENS; i++)
		(void)redeem(p, &p->tokens[i]);
}

static void step_free(struct program *p)
{
	for (uint32_t i = 0; i < ARRAYS; i++) {
		(void)demi_sgafree(&p->arrays[i]);
		memset(&p->arrays[i], 0, sizeof(p->arrays[i]));
	}
}

static void step_cancel(struct program *p)
{
	demi_qtoken_t qt = p->tokens[take(p) % TOKENS];

	if (qt != 0)
		(void)answer(demi_cancel(qt));
}

/* Other limits, from now on. */
static void step_limits(struct program *p)
{
	struct config *config = &p->instance->sched.config;

	config->tcp_syn_cookies = take(p) % 3;
	config->tcp_challenge_acks = 1 + take(p) % 20;
	config->tcp_invalid_ack_interval_ms = take(p) * 10;
	config->tcp_time_wait_max = 1 + take(p) % 8;
	config->tcp_out_of_order_max_bytes = 65536 + take(p) * 1000;
}

static void free_hogs(struct program *p)
{
	for (uint32_t i = 0; i < HOGS; i++) {
		if (p->hogs[i])
			require(demi_free(p->hogs[i]) == 0);
		p->hogs[i] = NULL;
	}
	while (p->small_hogs) {
		void *next;
		memcpy(&next, p->small_hogs, sizeof(next));
		require(demi_free(p->small_hogs) == 0);
		p->small_hogs = next;
	}
}

/* Takes what the heap has, or gives it back. */
static void step_hog(struct program *p)
{
	uint32_t choice = take(p);

	free_hogs(p);
	for (uint32_t i = 0; i < HOGS && choice > 0; i++)
		p->hogs[i] = demi_malloc((1 << 20) - 4096);
	if (choice < 2)
		return;
	for (uint32_t size = 4096; size >= 64; size = size * 7 / 8) {
		void *object;
		while ((object = demi_malloc(size))) {
			memcpy(object, &p->small_hogs, sizeof(object));
			p->small_hogs = object;
		}
	}
}

/* An array that is no array. */
static void misuse_array(uint32_t choice, int qd)
{
	demi_sgarray_t sga = demi_sgaalloc(100);
	demi_sgarray_t freed = sga;
	demi_qtoken_t qt;

	if (sga.sga_numsegs == 0)
		return;
	require(demi_sgafree(&sga) == 0);
	require(answer(demi_sgafree(&freed)) != 0);
	require(answer(demi_push(&qt, qd, &freed)) != 0);
	freed.sga_numsegs = choice & 1 ? UINT32_MAX : DEMI_SGARRAY_MAXSIZE + 1;
	require(answer(demi_push(&qt, qd, &freed)) != 0);
	freed.sga_numsegs = 1;
	freed.sga_segs[0].sgaseg_buf = NULL;
	freed.sga_segs[0].sgaseg_len = choice & 1 ? 0x80000000U : UINT32_MAX;
	require(answer(demi_push(&qt, qd, &freed)) != 0);
}

static void misuse_queue(uint32_t choice, int qd)
{
	struct sockaddr_in short_name = {.sin_family = AF_INET};
	const struct sockaddr *name = (const struct sockaddr *)&short_name;
	demi_qtoken_t qt;

	require(answer(demi_connect(&qt, qd, name, choice % sizeof(short_name))) != 0);
	require(answer(demi_bind(qd, name, choice % sizeof(short_name))) != 0);
	require(answer(demi_shutdown(qd, 99)) != 0);
	(void)answer(demi_setsockopt(qd, IPPROTO_TCP, (int)choice, &choice, choice % 4));
	(void)answer(demi_listen(qd, -1));
}

/* What no application should do. */
static void step_misuse(struct program *p)
{
	static const demi_qtoken_t tokens[] = {0, UINT64_MAX, 1ULL << 63, 0x7fffffff00000001ULL};
	static const int none[] = {-1, INT32_MAX, INT32_MIN, 1000000};
	struct slot *slot = take_slot(p);
	uint32_t choice = take(p);
	demi_qresult_t qr;
	demi_qtoken_t qt;
	int nobody = none[choice % ARRAY_LENGTH(none)];

	require(answer(demi_wait(&qr, tokens[choice % ARRAY_LENGTH(tokens)], &no_time)) != 0);
	require(answer(demi_pop(&qt, nobody)) != 0);
	require(answer(demi_accept(&qt, nobody)) != 0);
	require(answer(demi_close(nobody)) != 0);
	misuse_array(choice, slot->qd);
	misuse_queue(choice, choice & 4 ? nobody : slot->qd);
	if (!(choice & 8) || slot->qd < 0)
		return;
	require(demi_close(slot->qd) == 0);
	require(answer(demi_close(slot->qd)) != 0);
	require(answer(demi_pop(&qt, slot->qd)) != 0);
	misuse_array(choice, slot->qd);
	slot->qd = -1;
}

static void step_time(struct program *p)
{
	static const uint32_t tenths_ms[] = {1,     10,    50,     390,    400,    2000,
					     10000, 30000, 100000, 300000, 600000, 1300000};

	advance(p, tenths_ms[take(p) % ARRAY_LENGTH(tenths_ms)] * 100000ULL);
}

/* ---- a run ---- */

static void check_all(struct program *p)
{
	tcp_check_all(p->net);
	net_check(p->net);
	if (++p->steps % 16 == 0)
		heap_check(p->instance->sched.heap);
}

/* The numbers are what corpora are made of: new steps are added at the end. */
static void step(struct program *p)
{
	static void (*const steps[])(struct program *) = {
		step_tcp,    step_tcp,    step_tcp,       step_tcp,     step_raw,
		step_ip,     step_error,  step_arp,       step_nd,      step_udp,
		step_time,   step_time,   step_push,      step_push_to, step_pop,
		step_close,  step_accept, step_shutdown,  step_connect, step_option,
		step_redeem, step_free,   step_cancel,    step_limits,  step_complete,
		step_hog,    step_misuse, step_fragments, step_router,
	};

	steps[take(p) % ARRAY_LENGTH(steps)](p);
	check_all(p);
}

static void quiet(void *arg, enum demi_log_level level, const char *message)
{
	(void)arg;
	(void)level;
	(void)message;
}

static void configure(struct config *config, uint32_t choice)
{
	static const struct log log;

	require(config_load(config, NULL, NULL, &log) == 0);
	config->libos = 1;
	config->stat_socket = 0;
	config->linger_ms = 0;
	config->operations_max = 128;
	config->queues_max = 64;
	config->coroutines_max = 64;
	config->heap_max_bytes = 64 << 20;
	config->huge_pages = PAGES_HUGE_NEVER;
	config->frames_max = 256;
	config->neighbours_max = 16;
	config->tcp_retries = 4;
	config->tcp_syn_retries = 3;
	config->tcp_rto_max_ms = 4000;
	config->tcp_receive_buffer_bytes = choice & 1 ? 4096 : 65536;
	config->tcp_receive_buffer_max_bytes = choice & 1 ? 8192 : 1 << 20;
	config->zero_copy_bytes = choice & 2 ? 0 : 1024;
	config->tcp_quick_ack = !(choice & 4);
	config->tcp_time_wait_ms = choice & 8 ? 100 : 60000;
	config->tcp_timestamps = !(choice & 64);
	config->dad_probes = 0;   /* an address that we lose breaks nobody's promise */
	config->arp_conflict = 1; /* defended, never given up */
	config->slaac = (choice & 8) != 0;
	config->mtu = choice & 128 ? 1280 : 1500;
	(void)snprintf(config->addresses, sizeof(config->addresses), "10.0.0.2/24,fd00::2/64");
	(void)snprintf(config->gateways, sizeof(config->gateways), "10.0.0.1,fd00::1");
	(void)snprintf(config->arp_table, sizeof(config->arp_table),
		       "02:00:00:00:00:01=10.0.0.1,02:00:00:00:00:01=fd00::1");
}

static void begin(struct program *p, uint32_t choice)
{
	static struct config config;
	struct sched_world world = {
		.now_ns = now,
		.arg = p,
		.seed = 1,
		.secret = {0x0123456789abcdef, 0xfedcba9876543210},
		.netdev = &p->dev,
		.every_turn = true,
	};
	bool anew;

	configure(&config, choice);
	p->now_ns = 1000 * SECOND_NS;
	p->dev = (struct netdev){
		.ops = &dev_ops,
		.mtu = (uint32_t)config.mtu,
		.offloads = choice & 16 ? NETDEV_TX_CHECKSUM : 0,
		.max_segments = choice & 32 ? FRAME_SEGMENTS : 0,
	};
	memcpy(p->dev.mac, our_mac, sizeof(our_mac));
	for (int i = 0; i < QUEUES; i++)
		p->slots[i].qd = -1;
	(void)demi_set_log(quiet, NULL);
	require(process_begin(&anew) == 0);
	require(instance_create(&config, &world, &p->instance) == 0);
	require(demi_enter(p->instance) == 0);
	p->net = &container_of(p->instance->engine, struct inet_engine, engine)->net;
	run_turns(p);
}

static int open_socket(struct program *p, bool v6, int type, uint16_t port)
{
	socklen_t length;
	struct sockaddr_storage name = name_of(v6, 0, port, &length);
	int qd;

	require(demi_socket(&qd, v6 ? AF_INET6 : AF_INET, type, 0) == 0);
	keep_qd(p, qd);
	slot_of(p, qd)->datagrams = type == SOCK_DGRAM;
	if (v6) /* the other listens for IPv4 */
		require(demi_setsockopt(qd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int)) ==
			0);
	if (port > 0)
		require(demi_bind(qd, (struct sockaddr *)&name, length) == 0);
	return qd;
}

/* The peer's half of a hand-shake: its SYN or its answer to ours, then its ACK. */
static struct tcp_conn *newest(struct program *p)
{
	struct list *last = p->net->tcp->all.prev;
	struct tcp_conn *conn = container_of(last, struct tcp_conn, in_all);
	struct tcp_conn *first = container_of(p->net->tcp->all.next, struct tcp_conn, in_all);

	return last != &p->net->tcp->all && conn->state >= first->state ? conn : first;
}

static void open_passive(struct program *p, int listener, bool v6,
			 const struct tcp_options *options)
{
	struct made made;
	demi_qtoken_t qt;
	struct segment s = {
		.ip = {.v6 = v6, .protocol = IP_TCP, .ttl = 64},
		.h = {.source = 9000,
		      .destination = 80,
		      .seq = 0xfffff000, /* the numbers wrap soon */
		      .flags = TCP_SYN,
		      .window = 65535,
		      .options = *options},
	};

	s.ip.from = v6 ? v6_of(0xfd, 0, 1) : v4_of(0x0a000001);
	s.ip.to = v6 ? v6_of(0xfd, 0, 2) : v4_of(0x0a000002);
	require(demi_accept(&qt, listener) == 0);
	make_segment(&made, &s);
	arrive(p, &made);
	const struct tcp_conn *conn = tcp_find_tuple(p->net->tcp, &s.ip.to, 80, &s.ip.from, 9000);
	require(conn && conn->state == TCPS_SYN_RECEIVED);
	s.h.seq++;
	s.h.ack = conn->snd_nxt;
	s.h.flags = TCP_ACK;
	s.h.options.has = 0;
	stamp(p, &s, conn);
	make_segment(&made, &s);
	arrive(p, &made);
	require(conn->state == TCPS_ESTABLISHED);
	require(redeem(p, &qt));
}

static void open_active(struct program *p, uint16_t port, bool answered)
{
	socklen_t length;
	struct sockaddr_storage to = name_of(false, 1, port, &length);
	int buffer = 2048;
	int qd = open_socket(p, false, SOCK_STREAM, 0);
	struct made made;
	demi_qtoken_t qt;

	require(demi_setsockopt(qd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)) == 0);
	require(demi_connect(&qt, qd, (struct sockaddr *)&to, length) == 0);
	require(demi_flush() == 0);
	run_turns(p);
	keep_token(p, qt);
	if (!answered)
		return;
	const struct tcp_conn *conn = newest(p);
	require(conn->state == TCPS_SYN_SENT && conn->remote_port == port);
	struct segment s = {
		.ip = {.from = conn->remote, .to = conn->local, .protocol = IP_TCP, .ttl = 64},
		.h = {.source = port,
		      .destination = conn->local_port,
		      .seq = 7000,
		      .ack = conn->snd_nxt,
		      .flags = TCP_SYN | TCP_ACK,
		      .window = 8000},
	};
	make_segment(&made, &s);
	arrive(p, &made);
	require(conn->state == TCPS_ESTABLISHED);
}

static void set_up(struct program *p)
{
	const struct tcp_options all = {
		.has = TCP_HAS_MSS | TCP_HAS_WSCALE | TCP_HAS_SACK_PERMITTED | TCP_HAS_TIMESTAMP,
		.mss = 1460,
		.wscale = 7,
		.ts_value = 0xffffff00,
	};
	const struct tcp_options some = {.has = TCP_HAS_MSS | TCP_HAS_SACK_PERMITTED, .mss = 1220};
	int v4 = open_socket(p, false, SOCK_STREAM, 80);
	int v6 = open_socket(p, true, SOCK_STREAM, 80);
	socklen_t length;
	struct sockaddr_storage to = name_of(false, 1, 5353, &length);
	demi_qtoken_t qt;

	require(demi_listen(v4, 4) == 0 && demi_listen(v6, 4) == 0);
	open_passive(p, v4, false, &all);
	open_passive(p, v6, true, &some);
	open_active(p, 7000, true);
	open_active(p, 7001, false);
	(void)open_socket(p, false, SOCK_DGRAM, 53);
	(void)open_socket(p, true, SOCK_DGRAM, 53);
	int connected = open_socket(p, false, SOCK_DGRAM, 5353);
	require(demi_connect(&qt, connected, (struct sockaddr *)&to, length) == 0);
	keep_token(p, qt);
	run_turns(p);
	check_all(p);
}

static void close_all(struct program *p)
{
	for (int i = 0; i < QUEUES; i++) {
		if (p->slots[i].qd >= 0)
			require(demi_close(p->slots[i].qd) == 0);
		p->slots[i].qd = -1;
	}
}

static _Noreturn void fail_left(const struct program *p)
{
	list_for_each (node, &p->net->tcp->all) {
		const struct tcp_conn *conn = container_of(node, struct tcp_conn, in_all);
		(void)fprintf(stderr, "left: %s, ports %u %u, closed %d\n",
			      tcp_state_name(conn->state), conn->local_port, conn->remote_port,
			      conn->closed);
	}
	fail("every connection ends", __LINE__);
}

/* Everything is closed; time goes on until the last connection is gone. */
static void end(struct program *p)
{
	struct heap *heap = p->instance->sched.heap;
	struct heap_usage usage;

	step_free(p);
	free_hogs(p);
	close_all(p);
	run_turns(p);
	check_all(p);
	/* A pop may give memory that is the application's then. */
	for (uint32_t i = 0; i < TOKENS; i++)
		require(redeem(p, &p->tokens[i]));
	step_free(p);
	close_all(p); /* what was accepted */
	for (uint32_t minutes = 0; !list_empty(&p->net->tcp->all); minutes++) {
		if (minutes == 20)
			fail_left(p);
		advance(p, 60 * SECOND_NS);
		tcp_check_all(p->net);
	}
	heap_check(heap);
	p->net = NULL;
	require(demi_destroy(p->instance) == 0);
	heap_usage(heap, &usage); /* the struct stays when the heap is gone */
	require(usage.live_objects == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct program program;
	struct program *p = &program;

	memset(p, 0, sizeof(*p));
	p->at = data;
	p->end = data + size;
	begin(p, take(p));
	p->from_template = true;
	set_up(p);
	p->from_template = false;
	for (int i = 0; i < STEPS_MAX && p->at < p->end; i++)
		step(p);
	end(p);
	return 0;
}
