/* SPDX-License-Identifier: MIT
 * net/neighbour.c - the table of neighbours and the machine of each (RFC 4861 7.3.3, for ARP too).
 *
 *   neighbour_get          -> INCOMPLETE, a question goes to everybody, again each retry time
 *   answer                 -> REACHABLE; not asked for: STALE
 *   no answer              -> FAILED for one retry time, its packets told to their transports; then
 * free REACHABLE grows old    -> STALE, nothing happens until it is used use of a STALE one     ->
 * DELAY, and unless a transport confirms it: PROBE, questions to its address no answer to those ->
 * free: the next packet asks everybody anew
 *
 * The time of being reachable is the configured one, not a random one around it (RFC 4861 6.3.2):
 * answers of many neighbours don't come at one time here.
 *
 * Invariants, walked by neighbour_check: an entry is in list free if FREE, in list asking if
 * INCOMPLETE, else in none; it is hashed if not FREE; only an INCOMPLETE one has packets; usable if
 * REACHABLE or PERMANENT.
 */
#include "net/neighbour.h"

#include "net/net.h"
#include "net/siphash.h"
#include "net/wire/ether.h"
#include "net/wire/icmp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS      1000000000U
#define DELAY_FIRST_NS (5ULL * SECOND_NS) /* RFC 4861 10: DELAY_FIRST_PROBE_TIME */

static uint64_t retry_ns(const struct neighbour *n)
{
	return ip_is_v4(&n->address) ? (uint64_t)n->net->sched->config.neighbour_retry_s * SECOND_NS
				     : slaac_retrans_ns(n->net);
}

static uint64_t reachable_ns(const struct neighbour *n)
{
	return ip_is_v4(&n->address)
		       ? (uint64_t)n->net->sched->config.neighbour_reachable_s * SECOND_NS
		       : slaac_reachable_ns(n->net);
}

static void arm(struct neighbour *n, uint64_t deadline_ns)
{
	timer_arm(&n->net->sched->timers, &n->timer, deadline_ns);
}

static void arm_in(struct neighbour *n, uint64_t ns)
{
	arm(n, n->net->sched->now_ns + ns);
}

static void disarm(struct neighbour *n)
{
	timer_cancel(&n->net->sched->timers, &n->timer);
}

/* ---- the table ---- */

static struct neighbour **bucket_of(struct net *net, const struct ip_address *address)
{
	uint64_t hash = siphash_2_4(net->secret, address->bytes, sizeof(address->bytes));

	return &net->neighbours.buckets[hash & (net->neighbours.max - 1)];
}

struct neighbour *neighbour_find(struct net *net, const struct ip_address *address)
{
	for (struct neighbour *n = *bucket_of(net, address); n; n = n->hash_next) {
		if (ip_equal(&n->address, address))
			return n;
	}
	return NULL;
}

static void unhash(struct neighbour *n)
{
	struct neighbour **link = bucket_of(n->net, &n->address);

	while (*link != n)
		link = &(*link)->hash_next;
	*link = n->hash_next;
}

/* The packets that wait, which are the caller's then. */
static struct frame *take_queue(struct neighbour *n)
{
	struct frame *frame = n->queue;

	n->queue = NULL;
	n->queue_last = NULL;
	n->num_queued = 0;
	return frame;
}

uint32_t neighbour_awaited(const struct net *net)
{
	const struct neighbour_table *table = &net->neighbours;
	uint32_t count = 0;

	if (table->num_asking == 0)
		return 0;
	list_for_each (node, &table->asking)
		count += container_of(node, struct neighbour, node)->num_queued > 0;
	return count;
}

static void drop_queue(struct neighbour *n)
{
	for (struct frame *frame = take_queue(n), *next; frame; frame = next) {
		next = frame->next;
		net_count_drop(n->net, DROP_NEIGHBOUR_QUEUE);
		frame_free(n->net->heap, frame);
	}
}

static void set_state(struct neighbour *n, enum neighbour_state state)
{
	struct neighbour_table *table = &n->net->neighbours;

	if (n->state == NEIGHBOUR_INCOMPLETE) {
		list_remove(&n->node);
		table->num_asking--;
	}
	n->state = (uint8_t)state;
	n->usable = state == NEIGHBOUR_REACHABLE || state == NEIGHBOUR_PERMANENT;
	n->probes = 0;
	if (state == NEIGHBOUR_INCOMPLETE) {
		list_append(&table->asking, &n->node);
		table->num_asking++;
	}
}

/* The entry is nobody's any more; packets that wait are dropped. */
static void release(struct neighbour *n)
{
	struct neighbour_table *table = &n->net->neighbours;

	disarm(n);
	drop_queue(n);
	unhash(n);
	set_state(n, NEIGHBOUR_FREE);
	n->generation++;
	list_append(&table->free, &n->node);
	table->used--;
}

/* The entry that was not used longest and may go; NULL: all are permanent. */
static struct neighbour *oldest(struct neighbour_table *table)
{
	struct neighbour *found = NULL;

	for (uint32_t i = 0; i < table->max; i++) {
		struct neighbour *n = &table->entries[i];
		if (n->state != NEIGHBOUR_PERMANENT && (!found || n->used_ns < found->used_ns))
			found = n;
	}
	return found;
}

/* A free entry, made if need be; NULL: all are permanent. */
static struct neighbour *make_room(struct neighbour_table *table)
{
	struct neighbour *victim = NULL;

	if (unlikely(table->num_asking >= table->max / 2))
		victim = container_of(table->asking.next, struct neighbour, node);
	else if (unlikely(list_empty(&table->free)))
		victim = oldest(table);
	if (victim)
		release(victim);
	if (list_empty(&table->free))
		return NULL;
	return container_of(table->free.next, struct neighbour, node);
}

static struct neighbour *take(struct net *net, const struct ip_address *address,
			      enum neighbour_state state)
{
	struct neighbour *n = make_room(&net->neighbours);

	if (!n)
		return NULL;
	struct neighbour **bucket = bucket_of(net, address);
	list_remove(&n->node);
	net->neighbours.used++;
	n->address = *address;
	n->used_ns = net->sched->now_ns;
	n->confirmed_ns = 0;
	memset(n->mac, 0, sizeof(n->mac));
	n->hash_next = *bucket;
	*bucket = n;
	set_state(n, state);
	return n;
}

/* ---- questions ---- */

/* While no address of ours may be asked from, it does not count as a question. */
static void ask(struct neighbour *n)
{
	bool unicast = n->state == NEIGHBOUR_PROBE;

	if (ip_is_v4(&n->address) ? arp_request(n->net, n, unicast)
				  : nd_solicit(n->net, n, unicast))
		n->probes++;
	arm_in(n, retry_ns(n));
}

void neighbour_ask_now(struct net *net)
{
	struct neighbour_table *table = &net->neighbours;

	list_for_each (node, &table->asking) {
		struct neighbour *n = container_of(node, struct neighbour, node);
		if (n->probes == 0)
			ask(n);
	}
}

void neighbour_forget_paths(struct net *net)
{
	for (uint32_t i = 0; i < net->neighbours.max; i++)
		net->neighbours.entries[i].generation++;
}

struct neighbour *neighbour_get(struct net *net, const struct ip_address *address)
{
	struct neighbour *n = neighbour_find(net, address);

	if (likely(n != NULL))
		return n;
	n = take(net, address, NEIGHBOUR_INCOMPLETE);
	if (n)
		ask(n);
	return n;
}

void neighbour_unreachable(struct net *net, struct frame *frame)
{
	const struct icmp_error error = {.err = EHOSTUNREACH, .local = true};
	struct cursor c = cursor_over(frame->data, frame->length);
	struct icmp_quote quote;
	bool v6 = frame->length > 0 && frame->data[0] >> 4 == 6;

	net_count_drop(net, DROP_NEIGHBOUR_FAILED);
	enum drop drop = icmp_quote_parse(&c, v6, &quote);
	frame_free(net->heap, frame);
	if (drop)
		return;
	if (quote.protocol == IP_TCP)
		tcp_icmp_error(net, &quote, &error);
	else if (quote.protocol == IP_UDP)
		udp_icmp_error(net, &quote, &error);
}

/* Nobody answered.  Transports may send while they are told: the entry is in order before. */
static void fail(struct neighbour *n)
{
	struct net *net = n->net;
	struct frame *frame = take_queue(n);

	set_state(n, NEIGHBOUR_FAILED);
	arm_in(n, retry_ns(n));
	slaac_unreachable(net, &n->address);
	for (struct frame *next; frame; frame = next) {
		next = frame->next;
		neighbour_unreachable(net, frame);
	}
}

/* A router's place may be another's then. */
static void give_up(struct neighbour *n)
{
	const struct ip_address address = n->address;

	release(n);
	slaac_unreachable(n->net, &address);
}

static void grow_old(struct neighbour *n)
{
	uint64_t until = n->confirmed_ns + reachable_ns(n);

	if (until > n->net->sched->now_ns)
		arm(n, until);
	else
		set_state(n, NEIGHBOUR_STALE);
}

static void expired(struct timer *timer)
{
	struct neighbour *n = container_of(timer, struct neighbour, timer);
	bool asked_enough = n->probes >= (uint32_t)n->net->sched->config.neighbour_retries;

	switch (n->state) {
	case NEIGHBOUR_REACHABLE:
		grow_old(n);
		break;
	case NEIGHBOUR_DELAY:
		set_state(n, NEIGHBOUR_PROBE);
		ask(n);
		break;
	case NEIGHBOUR_INCOMPLETE:
		if (asked_enough)
			fail(n);
		else
			ask(n);
		break;
	case NEIGHBOUR_PROBE:
		if (asked_enough)
			give_up(n);
		else
			ask(n);
		break;
	case NEIGHBOUR_FAILED:
		release(n);
		break;
	default:
		break;
	}
}

/* ---- answers ---- */

static void become_reachable(struct neighbour *n)
{
	n->confirmed_ns = n->net->sched->now_ns;
	set_state(n, NEIGHBOUR_REACHABLE);
	arm_in(n, reachable_ns(n));
}

void neighbour_confirm(struct net *net, struct neighbour *neighbour)
{
	neighbour->confirmed_ns = net->sched->now_ns;
	if (unlikely(neighbour->state == NEIGHBOUR_STALE || neighbour->state == NEIGHBOUR_DELAY ||
		     neighbour->state == NEIGHBOUR_PROBE))
		become_reachable(neighbour);
}

static void become_stale(struct neighbour *n)
{
	disarm(n);
	set_state(n, NEIGHBOUR_STALE);
}

void neighbour_doubt(struct neighbour *neighbour)
{
	if (neighbour->state == NEIGHBOUR_REACHABLE)
		become_stale(neighbour);
}

static void send_queue(struct neighbour *n, struct frame *frame)
{
	uint16_t type = ip_is_v4(&n->address) ? ETHER_IPV4 : ETHER_IPV6;

	for (struct frame *next; frame; frame = next) {
		next = frame->next;
		frame->next = NULL;
		(void)neighbour_output(n->net, n, frame, type);
	}
}

void neighbour_learn(struct net *net, struct neighbour *neighbour, const uint8_t mac[6],
		     bool reachable)
{
	struct neighbour *n = neighbour;
	bool differs = memcmp(n->mac, mac, sizeof(n->mac)) != 0;

	(void)net;
	if (n->state == NEIGHBOUR_PERMANENT)
		return;
	bool unknown = n->state == NEIGHBOUR_INCOMPLETE || n->state == NEIGHBOUR_FAILED;
	struct frame *waiting = take_queue(n);
	memcpy(n->mac, mac, sizeof(n->mac));
	if (reachable)
		become_reachable(n);
	else if (unknown || differs)
		become_stale(n);
	send_queue(n, waiting);
}

int neighbour_set(struct net *net, const struct ip_address *address, const uint8_t mac[6])
{
	if (ip_is_any(address) || ip_is_multicast(address) || net_is_local(net, address) ||
	    !ether_is_station(mac))
		return -EINVAL;
	struct neighbour *n = neighbour_find(net, address);
	if (!n)
		n = take(net, address, NEIGHBOUR_PERMANENT);
	if (!n)
		return -ENOMEM;
	struct frame *waiting = take_queue(n);
	disarm(n);
	set_state(n, NEIGHBOUR_PERMANENT);
	memcpy(n->mac, mac, sizeof(n->mac));
	send_queue(n, waiting);
	return 0;
}

/* ---- output ---- */

/* RFC 4861 7.2.2: when too many wait, the newest replaces the oldest. */
static void enqueue(struct neighbour *n, struct frame *frame)
{
	if (n->num_queued == NEIGHBOUR_QUEUE) {
		struct frame *first = n->queue;
		n->queue = first->next;
		n->num_queued--;
		net_count_drop(n->net, DROP_NEIGHBOUR_QUEUE);
		frame_free(n->net->heap, first);
	}
	frame->next = NULL;
	if (n->num_queued == 0)
		n->queue = frame;
	else
		n->queue_last->next = frame;
	n->queue_last = frame;
	n->num_queued++;
}

int neighbour_output(struct net *net, struct neighbour *neighbour, struct frame *frame,
		     uint16_t type)
{
	neighbour->used_ns = net->sched->now_ns;
	switch (neighbour->state) {
	case NEIGHBOUR_INCOMPLETE:
		enqueue(neighbour, frame);
		return 0;
	case NEIGHBOUR_FAILED:
		net_count_drop(net, DROP_NEIGHBOUR_FAILED);
		frame_free(net->heap, frame);
		return -EHOSTUNREACH;
	case NEIGHBOUR_STALE:
		set_state(neighbour, NEIGHBOUR_DELAY);
		arm_in(neighbour, DELAY_FIRST_NS);
		break;
	default:
		break;
	}
	ether_output(net, frame, neighbour->mac, type);
	return 0;
}

/* ---- checks ---- */

static uint32_t length_of(const struct list *list)
{
	uint32_t length = 0;

	list_for_each (node, list)
		length++;
	return length;
}

static void check_queue(const struct neighbour *n)
{
	const struct frame *last = NULL;
	uint32_t queued = 0;

	for (const struct frame *frame = n->queue; frame; frame = frame->next) {
		last = frame;
		queued++;
	}
	ASSERT(queued == n->num_queued && queued <= NEIGHBOUR_QUEUE);
	ASSERT(queued == 0 || last == n->queue_last);
	ASSERT(queued == 0 || n->state == NEIGHBOUR_INCOMPLETE);
}

static void check_entry(struct net *net, const struct neighbour *n)
{
	bool lasts = n->state == NEIGHBOUR_FREE || n->state == NEIGHBOUR_STALE ||
		     n->state == NEIGHBOUR_PERMANENT;
	bool listed = n->state == NEIGHBOUR_FREE || n->state == NEIGHBOUR_INCOMPLETE;

	check_queue(n);
	ASSERT(n->usable == (n->state == NEIGHBOUR_REACHABLE || n->state == NEIGHBOUR_PERMANENT));
	ASSERT(timer_armed(&n->timer) == !lasts);
	ASSERT(list_empty(&n->node) == !listed);
	ASSERT(n->state == NEIGHBOUR_FREE || neighbour_find(net, &n->address) == n);
}

void neighbour_check(struct net *net)
{
	const struct neighbour_table *table = &net->neighbours;
	uint32_t used = 0;
	uint32_t asking = 0;

	for (uint32_t i = 0; i < table->max; i++) {
		check_entry(net, &table->entries[i]);
		used += table->entries[i].state != NEIGHBOUR_FREE;
		asking += table->entries[i].state == NEIGHBOUR_INCOMPLETE;
	}
	ASSERT(used == table->used && used + length_of(&table->free) == table->max);
	ASSERT(asking == table->num_asking && asking == length_of(&table->asking));
	ASSERT(asking <= table->max / 2);
}

/* ---- life ---- */

int neighbour_open(struct net *net)
{
	struct neighbour_table *table = &net->neighbours;
	uint32_t max = 16;

	while (max < (uint64_t)net->sched->config.neighbours_max)
		max *= 2;
	*table = (struct neighbour_table){.max = max};
	list_init(&table->free);
	list_init(&table->asking);
	table->entries = calloc(max, sizeof(*table->entries));
	table->buckets = calloc(max, sizeof(*table->buckets));
	if (!table->entries || !table->buckets) {
		neighbour_close(net);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < max; i++) {
		struct neighbour *n = &table->entries[i];
		n->net = net;
		timer_init(&n->timer, expired);
		list_append(&table->free, &n->node);
	}
	return 0;
}

void neighbour_close(struct net *net)
{
	struct neighbour_table *table = &net->neighbours;

	for (uint32_t i = 0; table->entries && i < table->max; i++) {
		struct neighbour *n = &table->entries[i];
		if (n->state == NEIGHBOUR_FREE)
			continue;
		disarm(n);
		drop_queue(n);
	}
	free(table->entries);
	free(table->buckets);
	table->entries = NULL;
	table->buckets = NULL;
}
