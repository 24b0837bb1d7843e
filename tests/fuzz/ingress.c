/* SPDX-License-Identifier: MIT
 * tests/fuzz/ingress.c - frames into a whole instance with connections in it: what comes in is any
 * bytes, and segments that fit or nearly fit; in between the application does something or time
 * passes.
 *
 * The first byte chooses the configuration, the second the device.  Then each step is a byte, and
 * its arguments a byte each (take).  The peer is this file: it answers what asks for its link-layer
 * address, and remembers of every connection what a live segment needs.
 *
 * Oracles, after each step: the invariants of TCP, and now and then those of the rest and of the
 * heap; every frame sent parses, its checksums are right, and the bytes of a stream are those that
 * were pushed at that place, however often they are sent; bytes popped are those of the sequence
 * numbers at which they stood, as long as no frame of any bytes came in.  At the end nothing is
 * left.
 *
 * Under the address sanitizer what lies behind a received frame is poisoned: a read beyond it is
 * seen.
 */
#include "api/instance.h"
#include "base/process.h"
#include "mem/guard.h"
#include "net/group.h"
#include "net/wire/icmp.h"
#include "net/wire/udp.h"
#include "netdev/sim/sim.h"
#include "support/bytes.h"
#include "transport/inet/inet.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/socket.h>
#include <demi/wait.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	FLOWS = 8,
	QUEUES = 16,
	ARRAYS = 32,
	PENDING = 8,
	STEPS_MAX = 150,
	TURNS_MAX = 20000,
	RESULTS = 16,
	FRAME_ROOM = 1700,
	TCP_PORT = 80,
	UDP_PORT = 53,
};

#define MS ((uint64_t)1000000)

/* A connection as its peer sees it. */
struct flow {
	bool v6;
	uint16_t ours; /* ports; 0: free */
	uint16_t theirs;
	uint32_t iss;       /* of the stack */
	uint32_t sent;      /* behind the last octet that it sent */
	uint32_t acked;     /* what it acknowledged last: our next sequence number */
	uint32_t confirmed; /* what we acknowledged last */
	uint32_t ts_value;
	bool timestamps;
	bool started; /* iss is known */
};

/* A stream queue of the application. */
struct stream {
	int qd;
	uint32_t irs;
	uint32_t popped;
	uint32_t pushed;
};

struct out {
	uint32_t length;
	uint8_t bytes[FRAME_ROOM];
};

struct fuzz {
	const uint8_t *at;
	const uint8_t *end;
	uint64_t now_ns;
	struct demi *demi;
	struct netdev guard; /* wraps the simulated device */
	struct netdev *inner;
	struct sim_wire wire;
	uint32_t room;  /* frames that the device takes before it says to wait */
	bool silent;    /* neighbours do not answer */
	bool any_bytes; /* came in: streams may hold anything */
	bool cancelled; /* a push, or one failed for want of memory: streams may lack anything */
	struct flow flows[FLOWS];
	uint32_t next_flow;
	struct stream streams[QUEUES];
	uint32_t next_stream;
	int listeners[2];
	int udp[3];
	demi_qtoken_t tokens[QUEUES];
	uint32_t next_token;
	demi_sgarray_t arrays[ARRAYS];
	uint32_t next_array;
	void *foreign[STEPS_MAX]; /* pushed memory of no heap: stays until the end */
	uint32_t num_foreign;
	struct out pending[PENDING];
	uint32_t num_pending;
	struct out last; /* frame that the stack sent */
};

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 1};

static _Noreturn void fail(const char *what, int line)
{
	(void)fprintf(stderr, "ingress: %s (line %d)\n", what, line);
	abort();
}

#define require(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

static uint32_t take(struct fuzz *f)
{
	return f->at < f->end ? *f->at++ : 0;
}

static uint32_t take16(struct fuzz *f)
{
	uint32_t high = take(f);

	return high << 8 | take(f);
}

/* Small, or far away, by one byte. */
static uint32_t take_distance(struct fuzz *f)
{
	static const uint32_t far[] = {
		1448,       1460,       2920,       8192, 65535, 65536,  1 << 20, 0x3fffffff,
		0x7fffffff, 0x80000000, 0x80000001, 4380, 14600, 131072, 6291456, 536};
	uint32_t choice = take(f);

	if (choice < 0xc0)
		return choice < 0x80 ? choice : (uint32_t) - (int32_t)(choice - 0x80);
	return choice & 32 ? far[choice % 16] : -far[choice % 16];
}

static struct ip_address address_of(bool v6, uint8_t host)
{
	struct ip_address a = {.bytes = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host}};

	return v6 ? a : ip_from_v4(__builtin_bswap32(0x0a000000U + host));
}

/* The byte that stands at a place: of the peer's streams by sequence number, of ours by offset. */
static uint8_t byte_at(uint32_t place)
{
	uint32_t h = place * 2654435761U;

	return (uint8_t)(h >> 24 ^ h >> 11);
}

/* ---- the device ---- */

static struct fuzz *fuzz_of(struct netdev *dev)
{
	return container_of(dev, struct fuzz, guard);
}

static uint32_t guard_rx_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct netdev *inner = fuzz_of(dev)->inner;
	uint32_t count = inner->ops->rx_burst(inner, frames, max);

	for (uint32_t i = 0; i < count; i++)
		guard_free(frames[i]->data + frames[i]->length, frame_tailroom(frames[i]));
	return count;
}

static uint32_t guard_tx_burst(struct netdev *dev, struct frame **frames, uint32_t count)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	return inner->ops->tx_burst(inner, frames, count);
}

static int guard_arm(struct netdev *dev)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	return inner->ops->arm(inner);
}

static void guard_disarm(struct netdev *dev)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	inner->ops->disarm(inner);
}

static uint64_t guard_next_deadline(struct netdev *dev)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	return inner->ops->next_deadline(inner);
}

static int guard_start(struct netdev *dev)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	inner->sched = dev->sched;
	return inner->ops->start(inner);
}

static int guard_steer(struct netdev *dev, const struct ip_address *address, bool wanted)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	return inner->ops->steer(inner, address, wanted);
}

static void guard_doorbell(struct netdev *dev)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	inner->ops->doorbell(inner);
}

static bool guard_receives(struct netdev *dev, const struct netdev_flow *flow)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	return inner->ops->receives(inner, flow);
}

static void guard_close(struct netdev *dev)
{
	struct netdev *inner = fuzz_of(dev)->inner;

	inner->ops->close(inner);
}

static const struct netdev_ops guard_ops = {
	.name = "guard",
	.rx_burst = guard_rx_burst,
	.tx_burst = guard_tx_burst,
	.doorbell = guard_doorbell,
	.arm = guard_arm,
	.disarm = guard_disarm,
	.next_deadline = guard_next_deadline,
	.start = guard_start,
	.steer = guard_steer,
	.receives = guard_receives,
	.close = guard_close,
};

static struct fuzz *fuzz_of_wire(struct sim_wire *wire)
{
	return container_of(wire, struct fuzz, wire);
}

static uint32_t wire_room(struct sim_wire *wire, uint32_t count, uint64_t *retry_ns)
{
	struct fuzz *f = fuzz_of_wire(wire);
	uint32_t room = count < f->room ? count : f->room;

	if (f->room != UINT32_MAX)
		f->room -= room;
	if (room < count)
		*retry_ns = f->now_ns + MS;
	if (f->room == 0)
		f->room = UINT32_MAX; /* the next time there is room */
	return room;
}

static void wire_closed(struct sim_wire *wire)
{
	fuzz_of_wire(wire)->inner = NULL;
}

/* ---- what the stack sends ---- */

static struct flow *find_flow(struct fuzz *f, bool v6, uint16_t ours, uint16_t theirs)
{
	for (uint32_t i = 0; i < FLOWS; i++) {
		struct flow *flow = &f->flows[i];
		if (flow->v6 == v6 && flow->ours == ours && flow->theirs == theirs)
			return flow;
	}
	return NULL;
}

static struct flow *new_flow(struct fuzz *f, bool v6, uint16_t ours, uint16_t theirs)
{
	struct flow *flow = &f->flows[f->next_flow++ % FLOWS];

	*flow = (struct flow){.v6 = v6, .ours = ours, .theirs = theirs};
	return flow;
}

static void check_stream(const struct fuzz *f, const struct flow *flow, uint32_t seq,
			 const uint8_t *data, uint32_t length)
{
	uint8_t wrong = 0;

	if (f->cancelled || !flow->started)
		return;
	for (uint32_t i = 0; i < length; i++)
		wrong |= data[i] ^ byte_at(seq + i - flow->iss - 1);
	require(wrong == 0);
}

static void sent_tcp(struct fuzz *f, struct cursor *c, const struct ip_packet *packet)
{
	struct tcp_header h;
	bool v6 = !ip_is_v4(&packet->from);

	require(tcp_parse(c, packet, &h) == DROP_NONE);
	struct ip_address peer = address_of(v6, 1);
	if (!ip_equal(&packet->to, &peer))
		return;
	struct flow *flow = find_flow(f, v6, h.source, h.destination);
	if (!flow)
		flow = new_flow(f, v6, h.source, h.destination);
	if (h.flags & TCP_RST)
		return;
	uint32_t end = h.seq + cursor_left(c) + !!(h.flags & TCP_SYN) + !!(h.flags & TCP_FIN);
	if (h.flags & TCP_SYN) {
		flow->started = true;
		flow->iss = h.seq;
		flow->sent = end;
		flow->confirmed = end;
	} else if (seq_after(end, flow->sent)) {
		flow->sent = end;
	}
	if (h.flags & TCP_ACK)
		flow->acked = h.ack;
	flow->timestamps = h.options.has & TCP_HAS_TIMESTAMP;
	if (flow->timestamps)
		flow->ts_value = h.options.ts_value;
	check_stream(f, flow, h.seq + !!(h.flags & TCP_SYN), c->at, cursor_left(c));
}

static struct out *reply_room(struct fuzz *f)
{
	return f->silent || f->num_pending == PENDING ? NULL : &f->pending[f->num_pending++];
}

static void sent_arp(struct fuzz *f, struct cursor *c)
{
	struct arp arp;

	require(arp_parse(c, &arp) == DROP_NONE);
	bool asks = arp.operation == ARP_REQUEST && arp.sender != arp.target;
	struct out *out = asks ? reply_room(f) : NULL;
	if (!out)
		return;
	struct arp reply = {.operation = ARP_REPLY, .sender = arp.target, .target = arp.sender};
	memcpy(reply.sender_mac, peer_mac, 6);
	memcpy(reply.target_mac, arp.sender_mac, 6);
	ether_write(out->bytes, our_mac, peer_mac, ETHER_ARP);
	arp_write(out->bytes + ETHER_HEADER_BYTES, &reply);
	out->length = ETHER_HEADER_BYTES + ARP_BYTES;
}

static void sent_icmp(struct fuzz *f, struct cursor *c, const struct ip_packet *packet)
{
	struct icmp_header h;
	struct nd_message message;

	require(icmp_parse(c, packet, &h) == DROP_NONE);
	if (packet->protocol != IP_ICMPV6 ||
	    (h.type != ICMPV6_NEIGHBOR_SOLICITATION && h.type != ICMPV6_NEIGHBOR_ADVERTISEMENT))
		return;
	require(nd_parse(c, packet, &h, &message) == DROP_NONE);
	struct out *out = NULL;
	if (h.type == ICMPV6_NEIGHBOR_SOLICITATION && !ip_is_any(&packet->from))
		out = reply_room(f);
	if (!out)
		return;
	struct nd_message reply = {
		.target = message.target, .has_mac = true, .solicited = true, .override = true};
	uint8_t *at = out->bytes + ETHER_HEADER_BYTES;
	memcpy(reply.mac, peer_mac, 6);
	uint32_t length = nd_write(at + IPV6_HEADER_BYTES, ICMPV6_NEIGHBOR_ADVERTISEMENT, &reply,
				   &message.target, &packet->from);
	ipv6_write(at, &message.target, &packet->from, IP_ICMPV6, 255, 0, length, 0);
	ether_write(out->bytes, our_mac, peer_mac, ETHER_IPV6);
	out->length = ETHER_HEADER_BYTES + IPV6_HEADER_BYTES + length;
}

static void sent_ip(struct fuzz *f, struct cursor *c, uint16_t type)
{
	struct ip_packet packet = {0};
	struct ip_problem problem;
	struct udp_header udp;

	enum drop drop =
		type == ETHER_IPV4 ? ipv4_parse(c, &packet) : ipv6_parse(c, &packet, &problem);
	if (drop == DROP_IP_FRAGMENT) /* of a large datagram */
		return;
	require(drop == DROP_NONE);
	switch (packet.protocol) {
	case IP_TCP:
		sent_tcp(f, c, &packet);
		break;
	case IP_UDP:
		require(udp_parse(c, &packet, &udp) == DROP_NONE);
		break;
	case IP_IGMP:
		require(packet.ttl == 1 && packet.header_bytes == IPV4_ALERT_BYTES);
		require(bytes_fold(bytes_sum(packet.payload, packet.length)) == 0xffff);
		break;
	default:
		require(packet.protocol == (type == ETHER_IPV4 ? IP_ICMP : IP_ICMPV6));
		sent_icmp(f, c, &packet);
	}
}

static void wire_send(struct sim_wire *wire, const uint8_t *bytes, uint32_t length)
{
	struct fuzz *f = fuzz_of_wire(wire);
	struct ether_header header;
	uint8_t *copy = bytes_copy(bytes, length);
	struct cursor c = cursor_over(copy, length);

	require(ether_parse(&c, &header) == DROP_NONE);
	require(memcmp(header.from, our_mac, 6) == 0);
	if (header.type == ETHER_ARP)
		sent_arp(f, &c);
	else
		sent_ip(f, &c, header.type);
	f->last.length = length < FRAME_ROOM ? length : FRAME_ROOM;
	memcpy(f->last.bytes, bytes, f->last.length);
	free(copy);
}

/* ---- running ---- */

static void run(struct fuzz *f);

static void inject(struct fuzz *f, const uint8_t *bytes, uint32_t length)
{
	if (length > 0)
		(void)sim_arrive(f->inner, bytes, length);
}

static bool is_busy(struct fuzz *f)
{
	struct sched *sched = &f->demi->sched;

	for (uint32_t i = 0; i < f->num_pending; i++)
		inject(f, f->pending[i].bytes, f->pending[i].length);
	f->num_pending = 0;
	return sched_turn(sched) || sched->output_pending > 0 || f->num_pending > 0;
}

static struct net *net_of(const struct fuzz *f)
{
	return &container_of(f->demi->engine, struct inet_engine, engine)->net;
}

static void run(struct fuzz *f)
{
	uint32_t turns = 0;

	(void)timer_advance(&f->demi->sched.timers, sched_now(&f->demi->sched));
	while (is_busy(f))
		require(turns++ < TURNS_MAX);
	tcp_check_all(net_of(f));
}

/* From one deadline to the next; those beyond a bound are jumped over. */
static void pass(struct fuzz *f, uint64_t ns)
{
	uint64_t until = f->now_ns + ns;

	for (uint32_t i = 0; i < 60 && f->now_ns < until; i++) {
		uint64_t next = sched_next_deadline(&f->demi->sched);

		if (next <= f->now_ns)
			next = f->now_ns + MS / 1000;
		f->now_ns = next < until ? next : until;
		run(f);
	}
	if (f->now_ns < until)
		f->now_ns = until;
	run(f);
}

/* ---- results ---- */

static const struct timespec no_time;

static struct stream *find_stream(struct fuzz *f, int qd)
{
	for (uint32_t i = 0; i < QUEUES; i++)
		if (f->streams[i].qd == qd)
			return &f->streams[i];
	return NULL;
}

/* A connection was made: its first sequence numbers are known now. */
static void keep_stream(struct fuzz *f, int qd)
{
	struct queue *queue = queue_find(&f->demi->queues, qd);
	struct stream *stream = find_stream(f, qd);

	require(queue != NULL);
	if (!stream)
		stream = &f->streams[f->next_stream++ % QUEUES];
	if (stream->qd != qd && stream->qd >= 0) {
		/* Results of its may be there still when its number is another's. */
		f->any_bytes = true;
		(void)demi_close(stream->qd);
	}
	const struct inet_queue *iq = container_of(queue, struct inet_queue, queue);
	*stream = (struct stream){.qd = qd, .irs = iq->tcp->irs};
}

static void check_popped(struct fuzz *f, int qd, const demi_sgarray_t *sga)
{
	struct stream *stream = find_stream(f, qd);
	uint8_t wrong = 0;

	if (!stream)
		return;
	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		const uint8_t *bytes = sga->sga_segs[i].sgaseg_buf;
		for (uint32_t n = 0; n < sga->sga_segs[i].sgaseg_len; n++, stream->popped++)
			wrong |= bytes[n] ^ byte_at(stream->irs + 1 + stream->popped);
	}
	require(wrong == 0 || f->any_bytes);
}

static void keep_array(struct fuzz *f, const demi_sgarray_t *sga)
{
	demi_sgarray_t *slot = &f->arrays[f->next_array++ % ARRAYS];

	(void)demi_sgafree(slot);
	*slot = *sga;
}

static void take_result(struct fuzz *f, const demi_qresult_t *qr)
{
	if (qr->qr_opcode == DEMI_OPC_POP) {
		demi_sgarray_t sga = qr->qr_value.sga;
		check_popped(f, qr->qr_qd, &sga);
		keep_array(f, &sga);
	} else if (qr->qr_opcode == DEMI_OPC_ACCEPT) {
		keep_stream(f, qr->qr_value.ares.qd);
	} else if (qr->qr_opcode == DEMI_OPC_CONNECT) {
		struct queue *queue = queue_find(&f->demi->queues, qr->qr_qd);
		if (queue && container_of(queue, struct inet_queue, queue)->tcp)
			keep_stream(f, qr->qr_qd);
	}
}

static void take_results(struct fuzz *f)
{
	demi_qresult_t qrs[RESULTS];
	int count = RESULTS;

	while (count == RESULTS) {
		count = 0;
		/* ETIMEDOUT: fewer than RESULTS were there. */
		(void)demi_wait_next_n(qrs, RESULTS, &count, &no_time);
		for (int i = 0; i < count; i++)
			take_result(f, &qrs[i]);
	}
}

/* Its number may be another's soon: what it popped is looked at before. */
static void close_stream(struct fuzz *f, struct stream *stream)
{
	take_results(f);
	if (stream->qd >= 0)
		require(demi_close(stream->qd) == 0);
	stream->qd = -1;
}

static void keep_token(struct fuzz *f, demi_qtoken_t qt)
{
	f->tokens[f->next_token++ % QUEUES] = qt;
}

/* ---- what the peer sends ---- */

/* A packet between the two hosts; its payload stands at frame_payload(v6). */
static uint8_t *frame_payload(struct out *out, bool v6)
{
	return out->bytes + ETHER_HEADER_BYTES + (v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES);
}

static void wrap(struct out *out, bool v6, uint8_t protocol, uint32_t length)
{
	struct ip_address from = address_of(v6, 1);
	struct ip_address to = address_of(v6, 2);
	uint8_t *at = out->bytes + ETHER_HEADER_BYTES;

	ether_write(out->bytes, our_mac, peer_mac, v6 ? ETHER_IPV6 : ETHER_IPV4);
	if (v6)
		ipv6_write(at, &from, &to, protocol, 64, 0, length, 0);
	else
		ipv4_write(at, &from, &to, protocol, 64, 0, length);
	out->length = ETHER_HEADER_BYTES + (v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES) + length;
}

/* By the library's own sums, which have tests and a fuzzer of theirs: these here are many. */
static void fix_transport(uint8_t *at, bool v6, uint8_t protocol, uint32_t length, uint32_t offset)
{
	struct ip_address from = address_of(v6, 1);
	struct ip_address to = address_of(v6, 2);

	if (length < offset + 2)
		return;
	store16(at + offset, 0);
	uint16_t checksum = checksum_finish(checksum_pseudo(&from, &to, protocol, length) +
					    checksum_partial(at, length));
	memcpy(at + offset, &checksum, sizeof(checksum));
}

static void make_segment(struct out *out, const struct flow *flow, const struct tcp_header *header,
			 uint32_t data)
{
	uint8_t *at = frame_payload(out, flow->v6);
	struct tcp_header h = *header;

	h.source = flow->theirs;
	h.destination = flow->ours;
	uint32_t bytes = tcp_write(at, &h);
	for (uint32_t i = 0; i < data; i++)
		at[bytes + i] = byte_at(h.seq + !!(h.flags & TCP_SYN) + i);
	fix_transport(at, flow->v6, IP_TCP, bytes + data, TCP_CHECKSUM_OFFSET);
	wrap(out, flow->v6, IP_TCP, bytes + data);
}

static void send_segment(struct fuzz *f, const struct flow *flow, const struct tcp_header *header,
			 uint32_t data)
{
	struct out out;

	make_segment(&out, flow, header, data);
	inject(f, out.bytes, out.length);
}

static struct tcp_header syn_of(uint32_t seq, uint32_t choice)
{
	struct tcp_header h = {.flags = TCP_SYN, .seq = seq, .window = 0xffff};

	h.options = (struct tcp_options){
		.has = (uint8_t)(choice & (TCP_HAS_MSS | TCP_HAS_WSCALE | TCP_HAS_SACK_PERMITTED |
					   TCP_HAS_TIMESTAMP)),
		.mss = choice & 32 ? 536 : 1460,
		.wscale = choice & 64 ? 14 : 2,
		.ts_value = 1000};
	return h;
}

/* A whole handshake to the listener. */
static void meet(struct fuzz *f, bool v6, uint16_t port, uint32_t isn, uint32_t choice)
{
	struct flow *flow = new_flow(f, v6, TCP_PORT, port);
	struct tcp_header h = syn_of(isn, choice);

	send_segment(f, flow, &h, 0);
	run(f);
	flow = find_flow(f, v6, TCP_PORT, port);
	if (!flow || !flow->started)
		return;
	h = (struct tcp_header){
		.flags = TCP_ACK, .seq = isn + 1, .ack = flow->sent, .window = 0xffff};
	if (flow->timestamps)
		h.options = (struct tcp_options){
			.has = TCP_HAS_TIMESTAMP, .ts_value = 1001, .ts_echo = flow->ts_value};
	send_segment(f, flow, &h, 0);
	run(f);
	take_results(f);
}

static struct flow *take_flow(struct fuzz *f)
{
	uint32_t choice = take(f);

	for (uint32_t i = 0; i < FLOWS; i++) {
		struct flow *flow = &f->flows[(choice + i) % FLOWS];
		if (flow->ours != 0)
			return flow;
	}
	return new_flow(f, choice & 1, TCP_PORT, 4000);
}

static void take_sack(struct fuzz *f, const struct flow *flow, struct tcp_options *options)
{
	options->has |= TCP_HAS_SACK;
	options->num_sack = (uint8_t)(take(f) % 5);
	for (uint32_t i = 0; i < options->num_sack; i++) {
		options->sack[i].start = flow->sent - take_distance(f);
		options->sack[i].end = options->sack[i].start + take_distance(f);
	}
}

/* A segment of a live flow, with whatever is not quite right about it. */
static uint32_t take_segment(struct fuzz *f, const struct flow *flow, struct tcp_header *h)
{
	static const uint32_t sizes[] = {0, 0, 1, 2, 10, 64, 255, 256, 257, 536, 1000, 1400};
	uint32_t choice = take(f);

	memset(h, 0, sizeof(*h));
	h->flags = choice & 1 ? (uint8_t)take(f) : TCP_ACK;
	h->seq = flow->acked + (choice & 2 ? take_distance(f) : 0);
	h->ack = flow->sent + (choice & 4 ? take_distance(f) : 0);
	h->window = choice & 8 ? (uint16_t)(take(f) * take(f)) : 0xffff;
	if (choice & 16 ? take(f) & 1 : flow->timestamps) {
		h->options.has |= TCP_HAS_TIMESTAMP;
		h->options.ts_value =
			(uint32_t)(f->now_ns / MS) + (choice & 16 ? take_distance(f) : 0);
		h->options.ts_echo = flow->ts_value + (choice & 16 ? take_distance(f) : 0);
	}
	if (choice & 32)
		take_sack(f, flow, &h->options);
	return choice & 64 ? sizes[take(f) % ARRAY_LENGTH(sizes)] : 0;
}

/* ---- steps: frames ---- */

static void step_segment(struct fuzz *f)
{
	const struct flow *flow = take_flow(f);
	struct tcp_header h;
	uint32_t data = take_segment(f, flow, &h);

	send_segment(f, flow, &h, data);
}

/* Some times the same acknowledgement, in steps of segments: lost ones in between. */
static void step_acks(struct fuzz *f)
{
	struct flow *flow = take_flow(f);
	uint32_t choice = take(f);
	struct tcp_header h = {.flags = TCP_ACK, .seq = flow->acked, .window = 0xffff};

	flow->confirmed += choice / 8 % 4 * 1448 + choice / 32 % 2 * 100;
	if (seq_after(flow->confirmed, flow->sent))
		flow->confirmed = flow->sent;
	h.ack = flow->confirmed;
	if (flow->timestamps)
		h.options = (struct tcp_options){.has = TCP_HAS_TIMESTAMP,
						 .ts_value = (uint32_t)(f->now_ns / MS),
						 .ts_echo = flow->ts_value};
	if (choice & 64)
		take_sack(f, flow, &h.options);
	for (uint32_t i = 0; i <= choice % 8; i++)
		send_segment(f, flow, &h, 0);
}

/* Several in one burst, data in order. */
static void step_burst(struct fuzz *f)
{
	struct flow flow = *take_flow(f);
	uint32_t count = take(f) % 20 + 1;
	uint32_t hole = take(f) % 32;

	for (uint32_t i = 0; i < count; i++) {
		struct tcp_header h = {
			.flags = TCP_ACK, .seq = flow.acked, .ack = flow.sent, .window = 0xffff};
		if (flow.timestamps)
			h.options = (struct tcp_options){.has = TCP_HAS_TIMESTAMP,
							 .ts_value = (uint32_t)(f->now_ns / MS),
							 .ts_echo = flow.ts_value};
		if (i != hole)
			send_segment(f, &flow, &h, 700);
		flow.acked += 700;
	}
}

static void step_syn(struct fuzz *f)
{
	uint32_t choice = take(f);
	uint16_t port = (uint16_t)(5000 + take(f) % 8);
	struct tcp_header h = syn_of(0xfffffff0U + take_distance(f), choice);

	if (choice & 1) {
		meet(f, choice & 128, port, h.seq, choice);
		return;
	}
	struct flow *flow = find_flow(f, choice & 128, TCP_PORT, port);
	if (!flow)
		flow = new_flow(f, choice & 128, TCP_PORT, port);
	send_segment(f, flow, &h, take(f) % 100);
}

/* The other side of a connect: answers, opens at the same time, or both. */
static void step_answer(struct fuzz *f)
{
	const struct flow *flow = take_flow(f);
	uint32_t choice = take(f);
	struct tcp_header h = syn_of(777, choice);

	if (choice & 64)
		send_segment(f, flow, &h, 0);
	if (choice & 128)
		return;
	h.flags |= TCP_ACK;
	h.ack = flow->sent;
	send_segment(f, flow, &h, 0);
}

/* Options of any bytes in a segment that fits otherwise. */
static void step_options(struct fuzz *f)
{
	const struct flow *flow = take_flow(f);
	struct tcp_header h;
	struct out out;
	uint32_t data = take_segment(f, flow, &h) % 1000;
	uint8_t raw[40];
	uint32_t length = take(f) % 11 * 4;

	for (uint32_t i = 0; i < length; i++)
		raw[i] = (uint8_t)take(f);
	h.options.has = 0;
	make_segment(&out, flow, &h, data);
	uint8_t *at = frame_payload(&out, flow->v6);
	memmove(at + TCP_HEADER_BYTES + length, at + TCP_HEADER_BYTES, data);
	memcpy(at + TCP_HEADER_BYTES, raw, length);
	at[12] = (uint8_t)((TCP_HEADER_BYTES + length) / 4 << 4);
	store16(at + 18, (uint16_t)take(f)); /* urgent pointer */
	length += TCP_HEADER_BYTES + data;
	fix_transport(at, flow->v6, IP_TCP, length, TCP_CHECKSUM_OFFSET);
	wrap(&out, flow->v6, IP_TCP, length);
	inject(f, out.bytes, out.length);
}

/* One bit of a segment turns behind the Ethernet header: no stream may change by it. */
static void step_flip(struct fuzz *f)
{
	const struct flow *flow = take_flow(f);
	struct tcp_header h;
	struct out out;

	make_segment(&out, flow, &h, take_segment(f, flow, &h));
	uint32_t bit = take16(f) % ((out.length - ETHER_HEADER_BYTES) * 8);
	out.bytes[ETHER_HEADER_BYTES + bit / 8] ^= (uint8_t)(1U << bit % 8);
	inject(f, out.bytes, out.length);
}

/* A segment behind extension headers of any bytes. */
static void step_extension(struct fuzz *f)
{
	static const uint8_t types[] = {0, 43, 44, 60, 59, 51, 253};
	struct flow flow = *take_flow(f);
	uint8_t first = types[take(f) % sizeof(types)];
	uint32_t chain = take(f) % 6 * 8;
	struct tcp_header h;
	struct out out;

	flow.v6 = true;
	uint32_t data = take_segment(f, &flow, &h) % 500;
	make_segment(&out, &flow, &h, data);
	uint8_t *at = frame_payload(&out, true);
	uint32_t length = out.length - ETHER_HEADER_BYTES - IPV6_HEADER_BYTES;
	memmove(at + chain, at, length);
	for (uint32_t i = 0; i < chain; i++)
		at[i] = i % 8 == 1 ? 0 : (uint8_t)take(f);
	wrap(&out, true, chain ? first : IP_TCP, length + chain);
	inject(f, out.bytes, out.length);
}

static void step_udp(struct fuzz *f)
{
	uint32_t choice = take(f);
	bool v6 = choice & 1;
	uint32_t data = take(f) * (choice & 2 ? 5 : 1);
	struct out out;
	uint8_t *at = frame_payload(&out, v6);
	struct udp_header header = {.source = choice & 4 ? 9 : UDP_PORT,
				    .destination = choice & 8 ? (uint16_t)take16(f) : UDP_PORT,
				    .length = (uint16_t)(UDP_HEADER_BYTES + data)};

	if (choice & 16)
		header.length = (uint16_t)take16(f);
	udp_write(at, &header);
	for (uint32_t i = 0; i < data; i++)
		at[UDP_HEADER_BYTES + i] = (uint8_t)i;
	if (!(choice & 32))
		fix_transport(at, v6, IP_UDP, UDP_HEADER_BYTES + data, UDP_CHECKSUM_OFFSET);
	wrap(&out, v6, IP_UDP, UDP_HEADER_BYTES + data);
	inject(f, out.bytes, out.length);
}

/* An error about a segment that the stack sent, or might have. */
static void step_icmp_error(struct fuzz *f)
{
	const struct flow *flow = take_flow(f);
	uint32_t choice = take(f);
	struct icmp_header h = {.type = (uint8_t)take(f), .code = (uint8_t)(take(f) % 16)};
	struct out out;
	uint8_t *at = frame_payload(&out, flow->v6);
	uint8_t *quote = at + ICMP_HEADER_BYTES;
	struct ip_address from = address_of(flow->v6, 2);
	struct ip_address to = address_of(flow->v6, 1);
	uint32_t header = flow->v6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
	uint8_t protocol = choice & 1 ? IP_UDP : IP_TCP;

	h.type = flow->v6 ? h.type % 5 : h.type % 16;
	h.rest = choice & 2 ? take16(f) : 0;
	if (flow->v6)
		ipv6_write(quote, &from, &to, protocol, 64, 0, 1000, 0);
	else
		ipv4_write(quote, &from, &to, protocol, 64, 0, 1000);
	store16(quote + header, protocol == IP_TCP ? flow->ours : UDP_PORT);
	store16(quote + header + 2, protocol == IP_TCP ? flow->theirs : 9);
	store32(quote + header + 4, flow->sent - take_distance(f));
	uint32_t length = ICMP_HEADER_BYTES + header + 8;
	if (choice & 4)
		quote[take(f) % (header + 8)] = (uint8_t)take(f);
	icmp_write(at, &h, length, flow->v6 ? &to : NULL, flow->v6 ? &from : NULL);
	wrap(&out, flow->v6, flow->v6 ? IP_ICMPV6 : IP_ICMP, length);
	inject(f, out.bytes, out.length);
}

/* ARP and neighbour discovery as they should be, but for what they say. */
static void step_neighbour(struct fuzz *f)
{
	uint32_t choice = take(f);
	uint8_t host = (uint8_t)(take(f) % 4);
	struct out out;

	if (choice & 1) {
		struct arp arp = {.operation = choice & 2 ? ARP_REPLY : ARP_REQUEST,
				  .sender = address_of(false, host).words[3],
				  .target = address_of(false, (uint8_t)(take(f) % 4)).words[3],
				  .sender_mac = {2, 0, 0, 0, 0, (uint8_t)take(f)}};
		ether_write(out.bytes, our_mac, peer_mac, ETHER_ARP);
		arp_write(out.bytes + ETHER_HEADER_BYTES, &arp);
		out.length = ETHER_HEADER_BYTES + ARP_BYTES;
	} else {
		struct nd_message message = {.target = address_of(true, host),
					     .mac = {2, 0, 0, 0, 0, (uint8_t)take(f)},
					     .has_mac = choice & 4,
					     .router = choice & 8,
					     .solicited = choice & 16,
					     .override = choice & 32};
		struct ip_address from = address_of(true, 1);
		struct ip_address to = address_of(true, 2);
		uint32_t length = nd_write(frame_payload(&out, true),
					   choice & 2 ? ICMPV6_NEIGHBOR_ADVERTISEMENT
						      : ICMPV6_NEIGHBOR_SOLICITATION,
					   &message, &from, &to);
		wrap(&out, true, IP_ICMPV6, length);
		out.bytes[ETHER_HEADER_BYTES + 7] = 255;
	}
	inject(f, out.bytes, out.length);
}

static struct ip_address group_address(bool v6)
{
	return v6 ? (struct ip_address){.bytes = {0xff, 0x15, [15] = 7}}
		  : ip_from_v4(__builtin_bswap32(0xef010203));
}

/* A query or another's report about the group that we are in, or about all: of any type and
 * version, with sources or without. */
static void step_group(struct fuzz *f)
{
	uint32_t choice = take(f);
	bool v6 = choice & 1;
	uint32_t address = group_address_bytes(!v6);
	uint32_t length = v6 ? 24 : 8;
	struct ip_address from =
		v6 ? (struct ip_address){.bytes = {0xfe, 0x80, [15] = 1}} : address_of(false, 1);
	struct ip_address to = group_address(v6);
	struct out out = {.length = 0};
	uint8_t *at = out.bytes + ETHER_HEADER_BYTES;
	uint8_t *message = at + (v6 ? IPV6_HEADER_BYTES + IPV6_ALERT_BYTES : IPV4_ALERT_BYTES);

	message[0] = (uint8_t)((v6 ? 130 : 0x11) + (take(f) % 16 == 15 ? take(f) : 0));
	message[1] = v6 ? 0 : (uint8_t)take(f);
	if (v6)
		store16(message + 4, (uint16_t)take16(f));
	if (choice & 2)
		memcpy(message + length - address, to.bytes + 16 - address, address);
	if (choice & 4) {
		message[length] = (uint8_t)take(f);
		message[length + 1] = (uint8_t)take(f);
		message[length + 3] = (uint8_t)(take(f) % 24);
		memset(message + length + 4, (int)take(f), message[length + 3] * address);
		length += 4 + message[length + 3] * address;
	}
	bytes_fix(message, length, 2, v6 ? bytes_pseudo(&from, &to, IP_ICMPV6, length) : 0);
	ether_write(out.bytes, our_mac, peer_mac, v6 ? ETHER_IPV6 : ETHER_IPV4);
	if (v6) {
		ipv6_write(at, &from, &to, IP_HOP_BY_HOP, 1, 0, IPV6_ALERT_BYTES + length, 0);
		group_write_alert_v6(at + IPV6_HEADER_BYTES);
	} else {
		group_write_alert_v4(at, &from, &to, length);
	}
	inject(f, out.bytes, (uint32_t)(message - out.bytes) + length);
}

/* Any bytes; with lengths and checksums made right if the first argument is odd. */
static void step_raw(struct fuzz *f)
{
	uint32_t choice = take(f);
	uint32_t length = choice & 2 ? take16(f) % 1514 : take(f);
	uint8_t bytes[FRAME_ROOM] = {0};
	struct ip_packet packet = {0};
	struct ip_problem problem;

	for (uint32_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)take(f);
	f->any_bytes = true;
	if (choice & 4 && length >= ETHER_HEADER_BYTES + IPV4_HEADER_BYTES) {
		bool v6 = bytes[ETHER_HEADER_BYTES] >> 4 == 6;
		uint8_t *at = bytes + ETHER_HEADER_BYTES;
		uint32_t rest = length - ETHER_HEADER_BYTES;

		ether_write(bytes, our_mac, peer_mac, v6 ? ETHER_IPV6 : ETHER_IPV4);
		if (v6)
			store16(at + 4, (uint16_t)(rest > 40 ? rest - 40 : 0));
		else
			store16(at + 2, (uint16_t)rest);
		uint32_t header = (at[0] & 15U) * 4;
		if (!v6 && header >= IPV4_HEADER_BYTES && header <= rest)
			bytes_fix(at, header, 10, 0);
		struct cursor c = cursor_over(at, rest);
		if ((v6 ? ipv6_parse(&c, &packet, &problem) : ipv4_parse(&c, &packet)) == 0) {
			uint32_t offset = packet.protocol == IP_TCP   ? TCP_CHECKSUM_OFFSET
					  : packet.protocol == IP_UDP ? UDP_CHECKSUM_OFFSET
								      : 2;
			uint8_t *payload = at + packet.header_bytes;
			if (packet.length < offset + 2)
				offset = 0;
			else if (packet.protocol == IP_ICMP)
				bytes_fix(payload, packet.length, 2, 0);
			else
				bytes_transport(&packet, payload, offset);
		}
	}
	inject(f, bytes, length);
}

/* What the stack sent last comes back, as it was or with its directions turned. */
static void step_reflect(struct fuzz *f)
{
	struct out out = f->last;
	uint8_t *at = out.bytes + ETHER_HEADER_BYTES;
	uint8_t swap[16];

	if (out.length < ETHER_HEADER_BYTES + IPV6_HEADER_BYTES)
		return;
	f->any_bytes = true;
	ether_write(out.bytes, our_mac, peer_mac, load16(out.bytes + 12));
	if (take(f) & 1) {
		uint32_t bytes = at[0] >> 4 == 6 ? 16 : 4;
		uint32_t offset = at[0] >> 4 == 6 ? 8 : 12;
		memcpy(swap, at + offset, bytes);
		memcpy(at + offset, at + offset + bytes, bytes);
		memcpy(at + offset + bytes, swap, bytes);
	}
	inject(f, out.bytes, out.length);
}

/* ---- steps: the application, time ---- */

static int take_stream(struct fuzz *f)
{
	return f->streams[take(f) % QUEUES].qd;
}

static void step_push(struct fuzz *f)
{
	static const uint32_t sizes[] = {1, 10, 64, 500, 1024, 1460, 3000, 20000, 70000};
	struct stream *stream = &f->streams[take(f) % QUEUES];
	uint32_t bytes = sizes[take(f) % ARRAY_LENGTH(sizes)];
	demi_qtoken_t qt;

	if (stream->qd < 0)
		return;
	bool foreign = take(f) % 4 == 0;
	demi_sgarray_t sga = {.sga_numsegs = 1};
	if (foreign)
		sga.sga_segs[0] = (demi_sgaseg_t){.sgaseg_buf = malloc(bytes), .sgaseg_len = bytes};
	else
		sga = demi_sgaalloc(bytes);
	uint8_t *at = sga.sga_numsegs > 0 ? sga.sga_segs[0].sgaseg_buf : NULL;
	if (!at)
		return;
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = byte_at(stream->pushed + i);
	demi_sgarray_t parts = sga;
	if (bytes > 100 && bytes % 4 == 0) { /* in two segments, one of them odd */
		parts.sga_numsegs = 2;
		parts.sga_segs[0].sgaseg_len = 51;
		parts.sga_segs[1] =
			(demi_sgaseg_t){.sgaseg_buf = at + 51, .sgaseg_len = bytes - 51};
	}
	if (demi_push(&qt, stream->qd, &parts) == 0) {
		stream->pushed += bytes;
		keep_token(f, qt);
	}
	if (foreign)
		f->foreign[f->num_foreign++] = at;
	else
		(void)demi_sgafree(&sga);
}

static void step_pushto(struct fuzz *f)
{
	uint32_t choice = take(f);
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)(choice & 4 ? UDP_PORT : 9)),
				 .sin_addr.s_addr =
					 address_of(false, (uint8_t)(take(f) % 4)).words[3]};
	demi_sgarray_t sga = demi_sgaalloc(take(f) * 5 + 1);
	demi_qtoken_t qt;

	if (sga.sga_numsegs == 0)
		return;
	memset(sga.sga_segs[0].sgaseg_buf, 7, sga.sga_segs[0].sgaseg_len);
	if (demi_pushto(&qt, f->udp[choice % 3], &sga, (struct sockaddr *)&in, sizeof(in)) == 0)
		keep_token(f, qt);
	(void)demi_sgafree(&sga);
}

static void step_pop(struct fuzz *f)
{
	uint32_t choice = take(f);
	demi_qtoken_t qt;

	if (demi_pop(&qt, choice & 64 ? f->udp[choice % 3] : f->streams[choice % QUEUES].qd) == 0)
		keep_token(f, qt);
}

static void step_accept(struct fuzz *f)
{
	demi_qtoken_t qt;

	if (demi_accept(&qt, f->listeners[take(f) % 2]) == 0)
		keep_token(f, qt);
}

static void step_connect(struct fuzz *f)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)(take(f) % 4 + 7)),
				 .sin_addr.s_addr = address_of(false, 1).words[3]};
	struct stream *stream = &f->streams[f->next_stream++ % QUEUES];
	demi_qtoken_t qt;
	int qd;

	close_stream(f, stream);
	if (demi_socket(&qd, AF_INET, SOCK_STREAM, 0))
		return;
	*stream = (struct stream){.qd = qd};
	if (demi_connect(&qt, qd, (struct sockaddr *)&in, sizeof(in)) == 0)
		keep_token(f, qt);
}

static void step_close(struct fuzz *f)
{
	close_stream(f, &f->streams[take(f) % QUEUES]);
}

static void step_shutdown(struct fuzz *f)
{
	int qd = take_stream(f);

	(void)demi_shutdown(qd, (int)(take(f) % 3));
}

static void step_cancel(struct fuzz *f)
{
	f->cancelled = true;
	(void)demi_cancel(f->tokens[take(f) % QUEUES]);
}

static void step_option(struct fuzz *f)
{
	static const int names[][2] = {
		{SOL_SOCKET, SO_RCVBUF},     {SOL_SOCKET, SO_SNDBUF},
		{SOL_SOCKET, SO_KEEPALIVE},  {IPPROTO_TCP, TCP_NODELAY},
		{IPPROTO_TCP, TCP_CORK},     {IPPROTO_TCP, TCP_MAXSEG},
		{IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_USER_TIMEOUT},
		{SOL_DEMI, DEMI_PUSH_ACKED},
	};
	int qd = take_stream(f);
	uint32_t choice = take(f);
	int value = (int)take(f) * (choice & 64 ? 256 : 1);

	if (choice & 128) {
		struct linger reset = {.l_onoff = 1, .l_linger = (int)take(f) % 3};
		(void)demi_setsockopt(qd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		return;
	}
	(void)demi_setsockopt(qd, names[choice % ARRAY_LENGTH(names)][0],
			      names[choice % ARRAY_LENGTH(names)][1], &value, sizeof(value));
}

static void step_free(struct fuzz *f)
{
	for (uint32_t i = 0; i < ARRAYS; i++) {
		(void)demi_sgafree(&f->arrays[i]);
		memset(&f->arrays[i], 0, sizeof(f->arrays[i]));
	}
	heap_check(f->demi->sched.heap);
	net_check(net_of(f));
}

static void step_pass(struct fuzz *f)
{
	static const uint64_t times[] = {MS / 1000, MS,        5 * MS,     40 * MS,
					 200 * MS,  1000 * MS, 10000 * MS, 130000 * MS};

	pass(f, times[take(f) % ARRAY_LENGTH(times)]);
}

static void step_device(struct fuzz *f)
{
	f->room = take(f) % 4;
}

static void step(struct fuzz *f)
{
	static void (*const steps[])(struct fuzz *) = {
		step_segment,   step_segment, step_segment,    step_acks,      step_acks,
		step_burst,     step_syn,     step_answer,     step_options,   step_flip,
		step_extension, step_udp,     step_icmp_error, step_neighbour, step_raw,
		step_reflect,   step_push,    step_push,       step_pushto,    step_pop,
		step_pop,       step_accept,  step_connect,    step_close,     step_shutdown,
		step_cancel,    step_option,  step_free,       step_pass,      step_pass,
		step_device,    step_group,
	};

	steps[take(f) % ARRAY_LENGTH(steps)](f);
	/* Without a turn in between, frames come in as one burst. */
	if (take(f) % 4 != 3) {
		run(f);
		take_results(f);
	}
}

/* ---- the instance around it ---- */

static uint64_t fuzz_now(void *arg)
{
	return ((struct fuzz *)arg)->now_ns;
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
	(void)snprintf(config->addresses, sizeof(config->addresses), "10.0.0.2/24,fd00::2/64");
	config->stat_socket = 0;
	config->linger_ms = 0;
	config->operations_max = 256;
	config->queues_max = 64;
	config->coroutines_max = 64;
	config->heap_max_bytes = choice & 1 ? 16 << 20 : 128 << 20;
	config->huge_pages = 1;
	config->frames_max = 256;
	config->neighbours_max = 16;
	config->zero_copy_bytes = choice & 2 ? 1024 : 1;
	config->tcp_timestamps = !(choice & 4);
	config->tcp_sack = !(choice & 8);
	config->tcp_window_scaling = !(choice & 16);
	config->tcp_quick_ack = !(choice & 32);
	config->nodelay = !(choice & 64);
	config->tcp_receive_buffer_bytes = choice & 128 ? 4096 : 131072;
	config->tcp_receive_buffer_max_bytes = choice & 128 ? 8192 : 1 << 20;
	config->tcp_send_buffer_bytes = choice & 128 ? 4096 : 131072;
	config->tcp_send_buffer_max_bytes = choice & 128 ? 8192 : 1 << 20;
	config->tcp_congestion = (choice >> 8) % 3;
	config->tcp_retries = 4;
	config->tcp_syn_retries = 2;
	config->tcp_time_wait_ms = 1000;
}

static void open_instance(struct fuzz *f)
{
	uint32_t choice = take(f);
	uint32_t device = take(f);
	struct sim_options options = {.mtu = device & 16 ? 1280 : 1500,
				      .offloads = device & 3,
				      .max_segments = device & 4 ? FRAME_SEGMENTS : 0,
				      .rx_slots = 64,
				      .rx_burst = device & 8 ? 1 : 0};
	struct sched_world world = {.now_ns = fuzz_now,
				    .arg = f,
				    .seed = 1,
				    .secret = {1, 2},
				    .netdev = &f->guard,
				    .every_turn = true};
	struct config config;
	bool anew;

	configure(&config, choice);
	(void)demi_set_log(quiet, NULL);
	f->silent = device & 32;
	f->cancelled = choice & 1; /* the heap is small */
	config.keepalive = !!(device & 64);
	config.keepalive_time_ms = 1000;
	config.keepalive_interval_ms = 1000;
	memcpy(options.mac, our_mac, 6);
	f->wire = (struct sim_wire){.room = wire_room, .send = wire_send, .closed = wire_closed};
	require(sim_open(&options, &f->wire, &f->inner) == 0);
	f->guard = (struct netdev){.ops = &guard_ops,
				   .mtu = options.mtu,
				   .offloads = options.offloads,
				   .max_segments = options.max_segments};
	memcpy(f->guard.mac, our_mac, 6);
	require(process_begin(&anew) == 0);
	require(instance_create(&config, &world, &f->demi) == 0);
	require(demi_enter(f->demi) == 0);
	run(f);
}

static int open_socket(int domain, int type, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int on = 1;
	int qd;

	require(demi_socket(&qd, domain, type, 0) == 0);
	if (domain == AF_INET6) {
		(void)demi_setsockopt(qd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		require(demi_bind(qd, (struct sockaddr *)&in6, sizeof(in6)) == 0);
	} else {
		require(demi_bind(qd, (struct sockaddr *)&in, sizeof(in)) == 0);
	}
	return qd;
}

static void join(int qd, bool v6)
{
	const struct ip_address group = group_address(v6);
	struct ip_mreqn in = {.imr_multiaddr.s_addr = group.words[3]};
	struct ipv6_mreq in6 = {.ipv6mr_interface = 0};

	memcpy(&in6.ipv6mr_multiaddr, group.bytes, 16);
	if (v6)
		require(demi_setsockopt(qd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &in6, sizeof(in6)) == 0);
	else
		require(demi_setsockopt(qd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &in, sizeof(in)) == 0);
}

/* Listeners, sockets for datagrams, which are in a group, and a connection of each family. */
static void populate(struct fuzz *f)
{
	for (uint32_t i = 0; i < QUEUES; i++)
		f->streams[i].qd = -1;
	for (uint32_t v6 = 0; v6 < 2; v6++) {
		demi_qtoken_t qt;

		f->listeners[v6] = open_socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, TCP_PORT);
		require(demi_listen(f->listeners[v6], 4) == 0);
		require(demi_accept(&qt, f->listeners[v6]) == 0);
		f->udp[v6] = open_socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, UDP_PORT);
		join(f->udp[v6], v6);
		meet(f, v6, 4000, v6 ? 0xfffffff0 : 1,
		     TCP_HAS_MSS | TCP_HAS_WSCALE | TCP_HAS_SACK_PERMITTED | TCP_HAS_TIMESTAMP);
	}
	f->udp[2] = open_socket(AF_INET, SOCK_DGRAM, 9);
}

static void end_instance(struct fuzz *f)
{
	struct heap_usage usage;
	struct heap *heap = f->demi->sched.heap;

	take_results(f);
	step_free(f);
	heap_check(heap);
	require(demi_destroy(f->demi) == 0);
	require(f->inner == NULL); /* closed */
	for (uint32_t i = 0; i < f->num_foreign; i++)
		free(f->foreign[i]);
	heap_usage(heap, &usage); /* the struct stays when the heap is gone */
	require(usage.live_objects == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz f;

	memset(&f, 0, sizeof(f));
	f.at = data;
	f.end = data + size;
	f.now_ns = 1000 * MS;
	f.room = UINT32_MAX;
	open_instance(&f);
	populate(&f);
	for (uint32_t i = 0; i < STEPS_MAX && f.at < f.end; i++)
		step(&f);
	run(&f);
	end_instance(&f);
	return 0;
}
