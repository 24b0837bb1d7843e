/* SPDX-License-Identifier: MIT
 * net/slaac.c - see slaac.h.
 *
 * What RFC 4861 6.3.4 leaves to the host, or would have otherwise:
 *   - a hop limit is not taken: a small one would cut us off, and ours reaches everywhere;
 *   - timers are kept between RETRANS_MIN_NS and RETRANS_MAX_NS and the like, so that none makes us
 *     flood the link or wait for hours;
 *   - an MTU below the device's holds for IPv6 packets to be sent from then on; what a connection
 *     has in flight learns of it as of any narrower path;
 *   - a router's link-layer address is learned if we have asked for it or do so (row 11 of the
 *     attack table).
 */
#include "net/slaac.h"

#include "net/net.h"
#include "net/own.h"
#include "net/pmtu.h"
#include "net/wire/router.h"

#include <string.h>

#define SECOND_NS            1000000000ULL
#define ADVERTISEMENTS_PER_S 20
#define SOLICIT_FIRST_NS     (4 * SECOND_NS)    /* RFC 7559 2: IRT */
#define SOLICIT_MAX_NS       (3600 * SECOND_NS) /* MRT */
#define RETRANS_MIN_NS       (SECOND_NS / 10)
#define RETRANS_MAX_NS       (10 * SECOND_NS)
#define REACHABLE_MIN_NS     SECOND_NS
#define REACHABLE_MAX_NS     (3600 * SECOND_NS) /* RFC 4861 6.2.1: no router says more */
#define TWO_HOURS_NS         (7200 * SECOND_NS) /* RFC 4862 5.5.3 (e) */
#define MTU_MIN              1280
#define IDENTIFIER_BITS      64

static struct net *net_of(struct slaac *slaac)
{
	return container_of(slaac, struct net, slaac);
}

static uint64_t until_of(const struct net *net, uint32_t seconds)
{
	return seconds == ROUTER_FOREVER ? TIMER_NEVER
					 : net->sched->now_ns + (uint64_t)seconds * SECOND_NS;
}

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
	if (value < min)
		return min;
	return value > max ? max : value;
}

uint64_t slaac_retrans_ns(const struct net *net)
{
	return net->slaac.retrans_ns ? net->slaac.retrans_ns
				     : (uint64_t)net->sched->config.neighbour_retry_s * SECOND_NS;
}

uint64_t slaac_reachable_ns(const struct net *net)
{
	return net->slaac.reachable_ns
		       ? net->slaac.reachable_ns
		       : (uint64_t)net->sched->config.neighbour_reachable_s * SECOND_NS;
}

/* ---- the end of what was told ---- */

static void soonest(uint64_t *deadline, uint64_t until)
{
	if (until < *deadline)
		*deadline = until;
}

static void arm_expiry(struct net *net)
{
	struct slaac *slaac = &net->slaac;
	uint64_t deadline = TIMER_NEVER;

	for (uint32_t i = 0; i < slaac->num_routers; i++)
		soonest(&deadline, slaac->routers[i].until_ns);
	for (uint32_t i = 0; i < slaac->num_prefixes; i++)
		soonest(&deadline, slaac->prefixes[i].until_ns);
	for (uint32_t i = 0; i < OWN_MAX; i++) {
		const struct own_address *own = &net->own.entries[i];
		if (own->state == OWN_FREE)
			continue;
		soonest(&deadline, own->valid_until_ns);
		bool preferred = own->state == OWN_PREFERRED || own->state == OWN_OPTIMISTIC;
		if (preferred && own->preferred_until_ns > net->sched->now_ns)
			soonest(&deadline, own->preferred_until_ns);
	}
	if (deadline == TIMER_NEVER)
		timer_cancel(&net->sched->timers, &slaac->expiry);
	else
		timer_arm(&net->sched->timers, &slaac->expiry, deadline);
}

/* ---- solicitations ---- */

/* An address of the link that may be named as the source (RFC 4429 3.2: no optimistic one). */
static const struct ip_address *settled_link_local(const struct net *net)
{
	for (uint32_t i = 0; i < net->num_addresses; i++) {
		const struct net_interface_address *own = &net->addresses[i];
		if (own->state == OWN_PREFERRED && ip_is_link_local(&own->address))
			return &own->address;
	}
	return NULL;
}

static void send_solicitation(struct net *net)
{
	static const struct ip_address nobody;
	static const struct ip_address all_routers = {.bytes = {0xff, 0x02, [15] = 2}};
	static const uint8_t mac[6] = {0x33, 0x33, 0, 0, 0, 2};
	const struct ip_address *from = settled_link_local(net);
	struct frame *frame = frame_alloc_tx(net->heap, ROUTER_SOLICITATION_BYTES);

	if (unlikely(!frame)) {
		net_count_drop(net, DROP_TX_MEMORY);
		return;
	}
	/* RFC 4861 4.1 MUST NOT: no link-layer address with the unspecified source */
	frame->length = router_write_solicitation(frame->data, from ? net->mac : NULL,
						  from ? from : &nobody, &all_routers);
	const struct ip_send send = {
		.from = from ? from : &nobody,
		.to = &all_routers,
		.protocol = IP_ICMPV6,
		.ttl = 255,
	};
	ip_prepend(frame, &send);
	ether_output(net, frame, mac, ETHER_IPV6);
}

/* RFC 7559 2: each wait is twice the last one, give or take a tenth. */
static void solicit_due(struct timer *timer)
{
	struct slaac *slaac = container_of(timer, struct slaac, solicit);
	struct net *net = net_of(slaac);

	send_solicitation(net);
	slaac->solicited++;
	if (slaac->num_routers > 0)
		return;
	uint64_t next = slaac->interval_ns ? 2 * slaac->interval_ns : SOLICIT_FIRST_NS;
	if (next > SOLICIT_MAX_NS)
		next = SOLICIT_MAX_NS;
	slaac->interval_ns = next - next / 10 + net_random(net) % (next / 5);
	timer_arm(&net->sched->timers, &slaac->solicit, net->sched->now_ns + slaac->interval_ns);
}

/* RFC 4861 6.3.7 SHOULD: the first one after a random time of up to a second */
static void start_soliciting(struct net *net)
{
	struct slaac *slaac = &net->slaac;

	slaac->interval_ns = 0;
	slaac->solicited = 0;
	timer_arm(&net->sched->timers, &slaac->solicit,
		  net->sched->now_ns + net_random(net) % SECOND_NS);
}

/* ---- routers ---- */

/* Is a to be used rather than b? */
static bool is_better(const struct slaac_router *a, const struct slaac_router *b)
{
	if (a->suspect != b->suspect) /* RFC 4861 6.3.6 (1): who may be reachable first */
		return b->suspect;
	return a->preference > b->preference;
}

/* The best router, the one in use if it is as good. */
static const struct slaac_router *best_router(const struct net *net)
{
	const struct slaac *slaac = &net->slaac;
	const struct slaac_router *best = NULL;

	for (uint32_t i = 0; i < slaac->num_routers; i++) {
		const struct slaac_router *router = &slaac->routers[i];
		bool used = ip_equal(&router->address, &net->gateway[1]);
		if (!best || is_better(router, best) || (used && !is_better(best, router)))
			best = router;
	}
	return best;
}

static void choose_router(struct net *net)
{
	static const struct ip_address none;
	const struct slaac_router *best = best_router(net);
	const struct ip_address *gateway = best ? &best->address : &none;

	if (net->slaac.gateway_configured || ip_equal(gateway, &net->gateway[1]))
		return;
	net->gateway[1] = *gateway;
	neighbour_forget_paths(net);
}

static struct slaac_router *find_router(struct slaac *slaac, const struct ip_address *address)
{
	for (uint32_t i = 0; i < slaac->num_routers; i++) {
		if (ip_equal(&slaac->routers[i].address, address))
			return &slaac->routers[i];
	}
	return NULL;
}

void slaac_unreachable(struct net *net, const struct ip_address *address)
{
	struct slaac *slaac = &net->slaac;
	struct slaac_router *router = find_router(slaac, address);
	bool all = true;

	if (!router || slaac->gateway_configured)
		return;
	/* RFC 4861 6.3.6 (2): when none is known to be reachable each is tried in turn */
	router->suspect = true;
	for (uint32_t i = 0; i < slaac->num_routers; i++)
		all = all && slaac->routers[i].suspect;
	for (uint32_t i = 0; all && i < slaac->num_routers; i++)
		slaac->routers[i].suspect = &slaac->routers[i] == router;
	choose_router(net);
}

static void remove_router(struct slaac *slaac, struct slaac_router *router)
{
	struct net *net = net_of(slaac);
	uint32_t behind = (uint32_t)(&slaac->routers[--slaac->num_routers] - router);

	memmove(router, router + 1, behind * sizeof(*router));
	if (slaac->num_routers == 0)
		start_soliciting(net);
}

static enum drop take_router(struct net *net, const struct ip_address *from,
			     const struct router_message *message)
{
	struct slaac *slaac = &net->slaac;
	struct slaac_router *router = find_router(slaac, from);

	/* RFC 4861 6.3.4: a lifetime of 0 ends it at once */
	if (message->lifetime_s == 0) {
		if (router)
			remove_router(slaac, router);
		return DROP_NONE;
	}
	if (!router && slaac->num_routers == SLAAC_ROUTERS_MAX)
		return DROP_ROUTER_FULL;
	if (!router) {
		router = &slaac->routers[slaac->num_routers++];
		*router = (struct slaac_router){.address = *from};
	}
	router->until_ns = until_of(net, message->lifetime_s);
	router->preference = message->preference;
	router->suspect = false;
	/* RFC 4861 6.3.7 MUST, RFC 7559 2.1: who was answered asks no more */
	if (slaac->solicited > 0)
		timer_cancel(&net->sched->timers, &slaac->solicit);
	return DROP_NONE;
}

/* ---- prefixes on the link ---- */

bool slaac_on_link(const struct net *net, const struct ip_address *address)
{
	const struct slaac *slaac = &net->slaac;

	for (uint32_t i = 0; i < slaac->num_prefixes; i++) {
		const struct slaac_prefix *p = &slaac->prefixes[i];
		if (ip_same_prefix(&p->prefix, address, p->bits))
			return true;
	}
	return false;
}

static void remove_prefix(struct slaac *slaac, uint32_t i)
{
	slaac->prefixes[i] = slaac->prefixes[--slaac->num_prefixes];
	neighbour_forget_paths(net_of(slaac));
}

/* RFC 4861 6.3.4 */
static enum drop take_on_link(struct net *net, const struct router_prefix *told)
{
	struct slaac *slaac = &net->slaac;
	uint32_t i = 0;

	while (i < slaac->num_prefixes && !(slaac->prefixes[i].bits == told->bits &&
					    ip_equal(&slaac->prefixes[i].prefix, &told->prefix)))
		i++;
	if (told->valid_s == 0) {
		if (i < slaac->num_prefixes)
			remove_prefix(slaac, i);
		return DROP_NONE;
	}
	if (i == SLAAC_PREFIXES_MAX)
		return DROP_ROUTER_FULL;
	if (i == slaac->num_prefixes) {
		slaac->num_prefixes++;
		neighbour_forget_paths(net);
	}
	slaac->prefixes[i] = (struct slaac_prefix){
		.prefix = told->prefix,
		.bits = told->bits,
		.until_ns = until_of(net, told->valid_s),
	};
	return DROP_NONE;
}

/* ---- addresses ---- */

static struct own_address *find_of_prefix(struct net *net, const struct ip_address *prefix)
{
	for (uint32_t i = 0; i < OWN_MAX; i++) {
		struct own_address *own = &net->own.entries[i];
		if (own->state != OWN_FREE && own->origin == OWN_ROUTER &&
		    own->address.pair[0] == prefix->pair[0])
			return own;
	}
	return NULL;
}

static uint32_t count_made(const struct net *net)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < OWN_MAX; i++)
		count += net->own.entries[i].state != OWN_FREE &&
			 net->own.entries[i].origin == OWN_ROUTER;
	return count;
}

/* RFC 4862 5.5.3 (e) MUST: an advertisement that nobody vouches for takes no more than what is
 * beyond two hours from an address */
static void renew(struct own_address *own, const struct router_prefix *told)
{
	struct net *net = own->net;
	uint64_t now = net->sched->now_ns;
	uint64_t until = until_of(net, told->valid_s);
	uint64_t left = own->valid_until_ns - now;

	own->preferred_until_ns = until_of(net, told->preferred_s);
	if (until > now + TWO_HOURS_NS || until > own->valid_until_ns)
		own->valid_until_ns = until;
	else if (left > TWO_HOURS_NS)
		own->valid_until_ns = now + TWO_HOURS_NS;
	if (own->state == OWN_PREFERRED || own->state == OWN_DEPRECATED)
		own_settle(own);
}

static enum drop make_address(struct net *net, const struct router_prefix *told)
{
	struct ip_address address = told->prefix;

	slaac_identify(net, &address, 0);
	if (own_find(net, &address)) /* it is configured */
		return DROP_NONE;
	if (count_made(net) == OWN_ROUTER_MAX)
		return DROP_ROUTER_FULL;
	struct own_address *own = own_add(net, &address, IDENTIFIER_BITS, OWN_ROUTER);
	if (!own)
		return DROP_ROUTER_FULL;
	own->valid_until_ns = until_of(net, told->valid_s);
	own->preferred_until_ns = until_of(net, told->preferred_s);
	if (own->state == OWN_PREFERRED)
		own_settle(own);
	return DROP_NONE;
}

static enum drop take_autonomous(struct net *net, const struct router_prefix *told)
{
	/* RFC 4862 5.5.3 (c) MUST, (d) MUST: not preferred for longer than valid; prefix and
	 * identifier are 128 bits together */
	if (told->preferred_s > told->valid_s || told->bits != 128 - IDENTIFIER_BITS)
		return DROP_NONE;
	struct own_address *own = find_of_prefix(net, &told->prefix);
	if (own) {
		renew(own, told);
		return DROP_NONE;
	}
	return told->valid_s ? make_address(net, told) : DROP_NONE;
}

static enum drop take_prefix(struct net *net, const struct router_prefix *told)
{
	const struct ip_address *prefix = &told->prefix;
	enum drop on_link = DROP_NONE;
	enum drop autonomous = DROP_NONE;

	/* RFC 4862 5.5.3 (b), RFC 4861 6.3.4: link-local ones are ignored, as those that can be no
	 * host's */
	if (ip_is_link_local(prefix) || ip_is_multicast(prefix) || prefix->pair[0] == 0)
		return DROP_NONE;
	if (told->on_link)
		on_link = take_on_link(net, told);
	if (told->autonomous) /* RFC 4862 5.5.3 (a) */
		autonomous = take_autonomous(net, told);
	return autonomous ? autonomous : on_link;
}

/* ---- advertisements ---- */

static void take_parameters(struct net *net, const struct router_message *message)
{
	struct slaac *slaac = &net->slaac;

	if (message->reachable_ms)
		slaac->reachable_ns = clamp(message->reachable_ms * 1000000ULL, REACHABLE_MIN_NS,
					    REACHABLE_MAX_NS);
	if (message->retrans_ms)
		slaac->retrans_ns =
			clamp(message->retrans_ms * 1000000ULL, RETRANS_MIN_NS, RETRANS_MAX_NS);
	/* RFC 4861 6.3.4: between the minimum of IPv6 and what the link takes */
	if (message->mtu >= MTU_MIN && message->mtu <= net->mtu && pmtu_limit_link(net))
		slaac->mtu = message->mtu;
}

enum drop slaac_input(struct net *net, const struct ip_packet *packet,
		      const struct icmp_header *header, struct cursor *c)
{
	struct router_message message;

	if (!net->slaac.on)
		return DROP_ICMP_TYPE;
	/* RFC 6980 5 MUST: what came with a fragment header is ignored */
	if (packet->fragmented)
		return DROP_ND_BAD;
	if (!bucket_take(&net->slaac.advertisements, net->sched->now_ns, 1))
		return DROP_ROUTER_RATE;
	enum drop drop = router_parse(c, packet, header, &message);
	if (drop)
		return drop;
	take_parameters(net, &message);
	drop = take_router(net, &packet->from, &message);
	for (uint32_t i = 0; i < message.num_prefixes; i++) {
		enum drop full = take_prefix(net, &message.prefixes[i]);
		if (full)
			drop = full;
	}
	struct neighbour *neighbour = neighbour_find(net, &packet->from);
	if (neighbour && message.has_mac)
		neighbour_learn(net, neighbour, message.mac, false);
	choose_router(net);
	arm_expiry(net);
	return drop;
}

/* ---- expiry ---- */

static void expire_address(struct own_address *own)
{
	if (own->state == OWN_FREE)
		return;
	uint64_t now = own->net->sched->now_ns;
	if (own->valid_until_ns <= now)
		own_remove(own);
	else if (own->state == OWN_PREFERRED && own->preferred_until_ns <= now)
		own_settle(own); /* RFC 4862 5.5.4 */
}

static void expiry_due(struct timer *timer)
{
	struct slaac *slaac = container_of(timer, struct slaac, expiry);
	struct net *net = net_of(slaac);
	uint64_t now = net->sched->now_ns;

	for (uint32_t i = slaac->num_routers; i-- > 0;) {
		if (slaac->routers[i].until_ns <= now)
			remove_router(slaac, &slaac->routers[i]);
	}
	for (uint32_t i = slaac->num_prefixes; i-- > 0;) {
		if (slaac->prefixes[i].until_ns <= now)
			remove_prefix(slaac, i);
	}
	for (uint32_t i = 0; i < OWN_MAX; i++)
		expire_address(&net->own.entries[i]);
	choose_router(net);
	arm_expiry(net);
}

/* ---- life ---- */

void slaac_open(struct net *net)
{
	struct slaac *slaac = &net->slaac;

	slaac->on = net->sched->config.slaac;
	bucket_init(&slaac->advertisements, net->sched->now_ns, ADVERTISEMENTS_PER_S,
		    ADVERTISEMENTS_PER_S);
	timer_init(&slaac->solicit, solicit_due);
	timer_init(&slaac->expiry, expiry_due);
}

int slaac_start(struct net *net)
{
	static const struct ip_address all_nodes = {.bytes = {0xff, 0x02, [15] = 1}};

	if (!net->slaac.on)
		return 0;
	net->slaac.gateway_configured = !ip_is_any(&net->gateway[1]);
	start_soliciting(net);
	return net->dev->ops->steer(net->dev, &all_nodes, true);
}

void slaac_close(struct net *net)
{
	if (!net->slaac.on)
		return;
	timer_cancel(&net->sched->timers, &net->slaac.solicit);
	timer_cancel(&net->sched->timers, &net->slaac.expiry);
}

void slaac_check(const struct net *net)
{
	const struct slaac *slaac = &net->slaac;

	ASSERT(slaac->on || (slaac->num_routers == 0 && slaac->num_prefixes == 0));
	ASSERT(slaac->num_routers <= SLAAC_ROUTERS_MAX);
	ASSERT(slaac->num_prefixes <= SLAAC_PREFIXES_MAX);
	ASSERT(count_made(net) <= OWN_ROUTER_MAX);
	for (uint32_t i = 0; i < slaac->num_routers; i++) {
		for (uint32_t j = 0; j < i; j++)
			ASSERT(!ip_equal(&slaac->routers[i].address, &slaac->routers[j].address));
	}
}
