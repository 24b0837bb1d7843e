/* SPDX-License-Identifier: MIT
 * net/reassembly.c - see reassembly.h.
 *
 * Row 6 of the attack table.  Who makes what: a struct datagram, its pieces and the table are heap
 * objects of this file; a datagram owns its pieces.  Whatever ends a datagram (complete, too late,
 * given up, spoilt) frees its pieces; a spoilt one stays, without any, until its time is over.
 */
#include "net/reassembly.h"

#include "net/net.h"
#include "net/siphash.h"
#include "net/wire/icmp.h"

#include <string.h>

#define SECOND_NS 1000000000ULL

enum ecn { ECN_NOT_ECT = 0, ECN_CE = 3, ECN_MASK = 3 };

/* A fragment.  The first of a datagram has its header in front, as it came. */
struct piece {
	struct piece *next;
	uint32_t offset;
	uint32_t length;
	uint32_t header_bytes; /* at bytes, before the data */
	uint8_t bytes[];
};

struct datagram {
	struct net *net;
	struct list in_source;
	struct list in_all;
	struct timer timer;
	struct ip_address from;
	struct ip_address to;
	uint32_t id;
	uint32_t total;    /* bytes of data; 0: the last fragment has not come */
	uint32_t received; /* of them */
	uint32_t memory;   /* it costs, with its pieces */
	struct piece *pieces;
	struct piece *last;
	uint32_t count;   /* pieces */
	uint8_t protocol; /* IPv4, else 0: RFC 8200 4.5 tells datagrams apart by the addresses and
			     the id */
	uint8_t ecn;      /* code points that were seen, a bit each */
	bool broadcast;
	bool spoilt;
	/* Of the first fragment, as in struct ip_fragment. */
	uint8_t next_header;
	uint8_t transport;
	uint16_t name;
	uint16_t header_bytes;
};

/* What waits of the sources that hash alike, oldest first. */
struct source {
	struct list datagrams;
	uint32_t memory;
	uint32_t count;
};

struct reassembly {
	struct list all; /* oldest first */
	uint32_t memory;
	uint32_t memory_max;
	uint32_t count;
	struct source sources[REASSEMBLY_SOURCES];
};

/* ---- memory ---- */

static struct reassembly *table(struct net *net)
{
	struct reassembly *all = net->reassembly;

	if (all)
		return all;
	all = heap_alloc(net->heap, sizeof(*all));
	if (unlikely(!all))
		return NULL;
	uint64_t share = (uint64_t)net->sched->config.heap_max_bytes / 16;
	*all = (struct reassembly){
		.memory_max = share < REASSEMBLY_BYTES ? (uint32_t)share : REASSEMBLY_BYTES,
	};
	list_init(&all->all);
	for (uint32_t i = 0; i < REASSEMBLY_SOURCES; i++)
		list_init(&all->sources[i].datagrams);
	net->reassembly = all;
	return all;
}

static struct source *source_of(const struct net *net, const struct ip_address *from)
{
	uint64_t hash = siphash_2_4(net->secret, from->bytes, sizeof(from->bytes));

	return &net->reassembly->sources[hash & (REASSEMBLY_SOURCES - 1)];
}

static void charge(struct datagram *d, uint32_t bytes)
{
	d->memory += bytes;
	source_of(d->net, &d->from)->memory += bytes;
	d->net->reassembly->memory += bytes;
}

static void discharge(struct datagram *d, uint32_t bytes)
{
	d->memory -= bytes;
	source_of(d->net, &d->from)->memory -= bytes;
	d->net->reassembly->memory -= bytes;
}

static void free_pieces(struct datagram *d)
{
	for (struct piece *piece = d->pieces, *next; piece; piece = next) {
		next = piece->next;
		(void)heap_free(d->net->heap, piece);
	}
	d->pieces = NULL;
	d->last = NULL;
	d->count = 0;
	discharge(d, d->memory - (uint32_t)sizeof(*d));
}

/* It is no more, and with the last one the table. */
static void forget(struct datagram *d)
{
	struct net *net = d->net;
	struct reassembly *all = net->reassembly;

	free_pieces(d);
	discharge(d, d->memory);
	source_of(net, &d->from)->count--;
	all->count--;
	list_remove(&d->in_source);
	list_remove(&d->in_all);
	timer_cancel(&net->sched->timers, &d->timer);
	(void)heap_free(net->heap, d);
	if (all->count == 0) {
		(void)heap_free(net->heap, all);
		net->reassembly = NULL;
	}
}

/* RFC 5722 4 MUST, RFC 8200 4.5: of a datagram with overlapping fragments all are discarded, those
 * that are to come too, without a word */
static void spoil(struct datagram *d)
{
	free_pieces(d);
	d->spoilt = true;
	d->received = 0;
	d->total = 0;
}

/* ---- time ---- */

/* RFC 1122 3.2.2 MUST NOT: no error about an error.  Whatever stands between the fragment header
 * and ICMPv6's is not looked behind. */
static bool is_icmp_error(const struct datagram *d)
{
	const struct piece *first = d->pieces;
	uint8_t type = first->bytes[first->header_bytes];

	if (d->transport == IP_ICMP)
		return type != ICMP_ECHO && type != ICMP_ECHO_REPLY;
	return d->transport == IP_ICMPV6 && (d->next_header != IP_ICMPV6 || type < ICMPV6_ECHO);
}

static void expire(struct timer *timer)
{
	struct datagram *d = container_of(timer, struct datagram, timer);
	const struct piece *first = d->pieces;

	if (!d->spoilt)
		net_count_drop(d->net, DROP_IP_FRAGMENT_TIME);
	/* RFC 1122 3.3.2 MUST, RFC 8200 4.5: time exceeded, if the first fragment has come */
	if (first && first->offset == 0 && !is_icmp_error(d)) {
		const struct ip_packet packet = {
			.from = d->from,
			.to = d->to,
			.header = first->bytes,
			.payload = first->bytes + first->header_bytes,
			.header_bytes = first->header_bytes,
			.length = first->length,
			.broadcast = d->broadcast,
		};
		icmp_reassembly_timeout(d->net, &packet);
	}
	forget(d);
}

/* ---- finding and making ---- */

static bool is_of(const struct datagram *d, const struct ip_packet *packet)
{
	return d->id == packet->fragment.id && ip_equal(&d->from, &packet->from) &&
	       ip_equal(&d->to, &packet->to) &&
	       (!ip_is_v4(&d->from) || d->protocol == packet->fragment.protocol);
}

static struct datagram *find(const struct net *net, const struct ip_packet *packet)
{
	list_for_each (node, &source_of(net, &packet->from)->datagrams) {
		struct datagram *d = container_of(node, struct datagram, in_source);
		if (is_of(d, packet))
			return d;
	}
	return NULL;
}

static struct datagram *oldest_of(const struct source *source)
{
	return container_of(source->datagrams.next, struct datagram, in_source);
}

static struct datagram *oldest(const struct reassembly *all)
{
	return container_of(all->all.next, struct datagram, in_all);
}

static void give_up(struct datagram *d)
{
	net_count_drop(d->net, DROP_IP_FRAGMENT_FULL);
	forget(d);
}

/* Not the last one of the table goes here: there is another or no reason. */
static void make_room_for_one(const struct net *net, const struct ip_packet *packet)
{
	const struct source *source = source_of(net, &packet->from);

	if (source->count == REASSEMBLY_SOURCE_DATAGRAMS)
		give_up(oldest_of(source));
	else if (net->reassembly->count == REASSEMBLY_DATAGRAMS)
		give_up(oldest(net->reassembly));
}

static struct datagram *make(struct net *net, const struct ip_packet *packet)
{
	bool v4 = ip_is_v4(&packet->from);
	struct reassembly *all = net->reassembly;

	make_room_for_one(net, packet);
	struct datagram *d = heap_alloc(net->heap, sizeof(*d));
	if (unlikely(!d))
		return NULL;
	*d = (struct datagram){
		.net = net,
		.from = packet->from,
		.to = packet->to,
		.id = packet->fragment.id,
		.protocol = v4 ? packet->fragment.protocol : 0,
	};
	struct source *source = source_of(net, &d->from);
	list_append(&source->datagrams, &d->in_source);
	list_append(&all->all, &d->in_all);
	source->count++;
	all->count++;
	charge(d, sizeof(*d));
	timer_init(&d->timer, expire);
	timer_arm(&net->sched->timers, &d->timer,
		  net->sched->now_ns + (v4 ? REASSEMBLY_V4_S : REASSEMBLY_V6_S) * SECOND_NS);
	return d;
}

static struct datagram *find_or_make(struct net *net, const struct ip_packet *packet)
{
	if (unlikely(!table(net)))
		return NULL;
	struct datagram *d = find(net, packet);
	if (!d)
		d = make(net, packet);
	if (unlikely(!d && net->reassembly->count == 0)) {
		(void)heap_free(net->heap, net->reassembly);
		net->reassembly = NULL;
	}
	return d;
}

/* Gives up others for so many bytes more; false: d itself is the oldest, or alone too large. */
static bool make_room(const struct datagram *d, uint32_t bytes)
{
	const struct reassembly *all = d->net->reassembly;
	const struct source *source = source_of(d->net, &d->from);
	uint32_t source_max =
		all->memory_max < REASSEMBLY_BYTES ? all->memory_max / 4 : REASSEMBLY_SOURCE_BYTES;

	while (source->memory + bytes > source_max) {
		if (oldest_of(source) == d)
			return false;
		give_up(oldest_of(source));
	}
	while (all->memory + bytes > all->memory_max) {
		if (oldest(all) == d)
			return false;
		give_up(oldest(all));
	}
	return true;
}

/* ---- a fragment ---- */

/* What came, beside what is there already. */
struct place {
	struct piece **link; /* where it belongs */
	bool overlaps;
	bool same; /* it is there */
};

static bool is_same(const struct piece *piece, const struct ip_packet *packet)
{
	return piece->offset == packet->fragment.offset && piece->length == packet->length &&
	       memcmp(piece->bytes + piece->header_bytes, packet->payload, packet->length) == 0;
}

static struct place find_place(struct datagram *d, const struct ip_packet *packet)
{
	uint32_t offset = packet->fragment.offset;
	struct place place = {.link = &d->pieces};

	if (d->last && d->last->offset + d->last->length <= offset) {
		place.link = &d->last->next;
		return place;
	}
	while (*place.link && (*place.link)->offset + (*place.link)->length <= offset)
		place.link = &(*place.link)->next;
	const struct piece *next = *place.link;
	place.overlaps = next && next->offset < offset + packet->length;
	place.same = place.overlaps && is_same(next, packet);
	return place;
}

/* Does it say another length of the whole than is known, or lie beyond it? */
static bool contradicts(const struct datagram *d, const struct ip_packet *packet)
{
	uint32_t end = packet->fragment.offset + packet->length;

	if (packet->fragment.more)
		return d->total != 0 && end >= d->total;
	return d->total != 0 ? end != d->total : d->last && d->last->offset + d->last->length > end;
}

static void note_first(struct datagram *d, const struct ip_packet *packet)
{
	d->next_header = packet->fragment.protocol;
	d->transport = packet->fragment.transport;
	d->name = packet->fragment.name;
	d->header_bytes = packet->fragment.header_bytes;
}

static enum drop insert(struct datagram *d, const struct ip_packet *packet, struct piece **link)
{
	bool first = packet->fragment.offset == 0;
	uint32_t header_bytes = first ? packet->header_bytes : 0;
	uint32_t bytes = (uint32_t)sizeof(struct piece) + header_bytes + packet->length;

	if (d->count == REASSEMBLY_FRAGMENTS || !make_room(d, bytes)) {
		spoil(d);
		return DROP_IP_FRAGMENT_FULL;
	}
	struct piece *piece = heap_alloc(d->net->heap, bytes);
	if (unlikely(!piece))
		return DROP_IP_FRAGMENT;
	*piece = (struct piece){
		.next = *link,
		.offset = packet->fragment.offset,
		.length = packet->length,
		.header_bytes = header_bytes,
	};
	memcpy(piece->bytes, packet->header, header_bytes);
	memcpy(piece->bytes + header_bytes, packet->payload, packet->length);
	if (!piece->next)
		d->last = piece;
	*link = piece;
	charge(d, bytes);
	d->count++;
	d->received += packet->length;
	d->broadcast |= packet->broadcast;
	d->ecn |= (uint8_t)(1U << (packet->tos & ECN_MASK));
	if (!packet->fragment.more)
		d->total = packet->fragment.offset + packet->length;
	if (first)
		note_first(d, packet);
	return DROP_NONE;
}

static enum drop add(struct datagram *d, const struct ip_packet *packet)
{
	struct place place = find_place(d, packet);

	if (d->spoilt)
		return DROP_IP_FRAGMENT;
	/* RFC 8200 4.5: exact duplicates may be dropped alone */
	if (!contradicts(d, packet) && !place.overlaps)
		return insert(d, packet, place.link);
	bool last = packet->fragment.offset + packet->length == d->total;
	if (!place.same || last == packet->fragment.more)
		spoil(d);
	return DROP_IP_FRAGMENT;
}

/* ---- the whole ---- */

/* RFC 3168 5.3: congestion that a fragment met is the whole's; with one that was not ECN-capable
 * beside it, the whole is as good as lost. */
static bool mark_ecn(const struct datagram *d, uint8_t *ecn)
{
	if (!(d->ecn & 1U << ECN_CE))
		return true;
	*ecn = ECN_CE;
	return !(d->ecn & 1U << ECN_NOT_ECT);
}

/* The header of the first fragment, as if it had come whole. */
static void write_header(const struct datagram *d, uint8_t *at, uint8_t ecn)
{
	memcpy(at, d->pieces->bytes, d->header_bytes);
	if (ip_is_v4(&d->from)) {
		store16(at + 2, (uint16_t)(d->header_bytes + d->total));
		store16(at + 6, 0);
		store16(at + 10, 0);
		at[1] |= ecn;
		uint16_t checksum = checksum_finish(checksum_partial(at, d->header_bytes));
		memcpy(at + 10, &checksum, sizeof(checksum));
	} else {
		store16(at + 4, (uint16_t)(d->header_bytes - IPV6_HEADER_BYTES + d->total));
		at[1] |= (uint8_t)(ecn << 4);
		at[d->name] = d->next_header;
	}
}

/* NULL: no memory. */
static struct frame *put_together(const struct datagram *d, uint8_t ecn)
{
	uint32_t bytes = d->header_bytes + d->total;
	struct frame *frame = frame_alloc_tx(d->net->heap, bytes);

	if (unlikely(!frame))
		return NULL;
	frame->length = bytes;
	write_header(d, frame->data, ecn);
	for (const struct piece *piece = d->pieces; piece; piece = piece->next)
		memcpy(frame->data + d->header_bytes + piece->offset,
		       piece->bytes + piece->header_bytes, piece->length);
	return frame;
}

/* The headers of the first fragment may be longer than those of another, which fitted. */
static bool is_too_long(const struct datagram *d)
{
	uint32_t front = ip_is_v4(&d->from) ? 0 : IPV6_HEADER_BYTES;

	return d->header_bytes - front + d->total > IP_DATAGRAM_MAX;
}

static void complete(struct datagram *d)
{
	struct net *net = d->net;
	bool broadcast = d->broadcast;
	struct frame *frame = NULL;
	uint8_t ecn = 0;

	if (is_too_long(d) || !mark_ecn(d, &ecn)) {
		net_count_drop(net, DROP_IP_FRAGMENT_BAD);
	} else {
		frame = put_together(d, ecn);
		if (unlikely(!frame))
			net_count_drop(net, DROP_IP_FRAGMENT);
	}
	forget(d);
	if (!frame)
		return;
	sched_count(net->sched, COUNTER_IP_REASSEMBLED, 1);
	ip_input_reassembled(net, frame, broadcast);
}

void reassembly_input(struct net *net, struct frame *frame, const struct ip_packet *packet)
{
	struct datagram *d = find_or_make(net, packet);
	enum drop drop = d ? add(d, packet) : DROP_IP_FRAGMENT;

	if (drop) {
		net_drop(net, frame, drop);
		return;
	}
	frame_free(net->heap, frame);
	if (d->received == d->total)
		complete(d);
}

/* ---- life ---- */

void reassembly_close(struct net *net)
{
	while (net->reassembly)
		forget(oldest(net->reassembly));
}

static void check_datagram(const struct datagram *d)
{
	uint32_t memory = sizeof(*d);
	uint32_t received = 0;
	uint32_t count = 0;
	uint32_t end = 0;

	for (const struct piece *piece = d->pieces; piece; piece = piece->next) {
		ASSERT(piece->offset >= end && piece->length > 0);
		end = piece->offset + piece->length;
		received += piece->length;
		memory += (uint32_t)sizeof(*piece) + piece->header_bytes + piece->length;
		count++;
		ASSERT(piece->next || piece == d->last);
	}
	ASSERT(received == d->received && memory == d->memory && count == d->count);
	ASSERT(d->total == 0 || (end <= d->total && received < d->total));
	ASSERT(!d->spoilt || count == 0);
	ASSERT(count <= REASSEMBLY_FRAGMENTS && timer_armed(&d->timer));
}

void reassembly_check(const struct net *net)
{
	const struct reassembly *all = net->reassembly;
	uint32_t memory = 0;
	uint32_t count = 0;

	if (!all)
		return;
	for (uint32_t i = 0; i < REASSEMBLY_SOURCES; i++) {
		const struct source *source = &all->sources[i];
		uint32_t sum = 0;
		uint32_t in_source = 0;
		list_for_each (node, &source->datagrams) {
			const struct datagram *d = container_of(node, struct datagram, in_source);
			check_datagram(d);
			ASSERT(source_of(net, &d->from) == source);
			sum += d->memory;
			in_source++;
		}
		ASSERT(sum == source->memory && in_source == source->count);
		ASSERT(in_source <= REASSEMBLY_SOURCE_DATAGRAMS);
		memory += sum;
		count += in_source;
	}
	ASSERT(memory == all->memory && count == all->count);
	ASSERT(count > 0 && count <= REASSEMBLY_DATAGRAMS);
}
