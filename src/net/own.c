/* SPDX-License-Identifier: MIT
 * net/own.c - see own.h.
 */
#include "net/own.h"

#include "net/group.h"
#include "net/net.h"
#include "net/slaac.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define V4_BITS 96

const char *own_state_name(enum own_state state)
{
	static const char *const names[] = {"free",      "tentative",  "optimistic",
					    "preferred", "deprecated", "duplicate"};

	return names[state];
}

const char *own_origin_name(enum own_origin origin)
{
	static const char *const names[] = {"configured", "router", "link_local"};

	return names[origin];
}

/* ---- what the data path sees ---- */

static void publish_v4(struct net *net, const struct own_address *own)
{
	uint32_t bits = own->prefix - V4_BITS;
	uint32_t hosts = bits >= 31 ? UINT32_MAX : UINT32_MAX >> bits;

	net->v4[net->num_v4++] = (struct net_v4){
		.address = own->address.words[3],
		.broadcast = own->address.words[3] | htonl(hosts),
	};
}

static void publish_entry(struct net *net, const struct own_address *own)
{
	/* RFC 5942 4: an address that a router's prefix made says nothing of what is on the link.
	 */
	net->addresses[net->num_known++] = (struct net_interface_address){
		.address = own->address,
		.prefix = own->prefix,
		.on_link = own->origin == OWN_ROUTER ? 128 : (uint8_t)own->prefix,
		.state = own->state,
	};
	if (ip_is_v4(&own->address) && own_is_used(own->state))
		publish_v4(net, own);
}

static void publish_origin(struct net *net, enum own_origin origin, bool used)
{
	for (uint32_t i = 0; i < OWN_MAX; i++) {
		const struct own_address *own = &net->own.entries[i];
		if (own->origin == origin && own_is_used(own->state) == used &&
		    (used || own->state == OWN_TENTATIVE))
			publish_entry(net, own);
	}
}

static void publish(struct net *net)
{
	net->num_known = 0;
	net->num_v4 = 0;
	for (enum own_origin origin = OWN_CONFIGURED; origin <= OWN_LINK_LOCAL; origin++)
		publish_origin(net, origin, true);
	net->num_addresses = net->num_known;
	for (enum own_origin origin = OWN_CONFIGURED; origin <= OWN_LINK_LOCAL; origin++)
		publish_origin(net, origin, false);
}

/* The device gives us what is sent to it, and routers know of its group. */
static int steer(struct own_address *own, bool wanted)
{
	struct netdev *dev = own->net->dev;

	if (own->steered == wanted)
		return 0;
	own->steered = wanted;
	/* What the kernel has too, it is in the group of */
	bool alone = !net_shares(own->net, &own->address);
	if (alone && wanted)
		group_hold_address(own->net, &own->address);
	else if (alone)
		group_release_address(own->net, &own->address);
	return dev->ops->steer(dev, &own->address, wanted);
}

/* ---- the table ---- */

struct own_address *own_find(struct net *net, const struct ip_address *address)
{
	for (uint32_t i = 0; i < OWN_MAX; i++) {
		struct own_address *own = &net->own.entries[i];
		if (own->state != OWN_FREE && ip_equal(&own->address, address))
			return own;
	}
	return NULL;
}

bool own_may_bind(const struct net *net, const struct ip_address *address)
{
	for (uint32_t i = 0; i < net->num_known; i++) {
		if (ip_equal(&net->addresses[i].address, address))
			return true;
	}
	return false;
}

static struct own_address *find_free(struct net *net)
{
	for (uint32_t i = 0; i < OWN_MAX; i++) {
		if (net->own.entries[i].state == OWN_FREE)
			return &net->own.entries[i];
	}
	return NULL;
}

static enum own_state first_state(const struct net *net, const struct ip_address *address)
{
	const struct config *config = &net->sched->config;

	if (net_shares(net, address))
		return OWN_PREFERRED; /* the kernel has looked */
	if (ip_is_v4(address))
		return config->arp_probes ? OWN_TENTATIVE : OWN_PREFERRED;
	return config->dad_probes ? OWN_OPTIMISTIC : OWN_PREFERRED;
}

static int begin(struct own_address *own, bool later)
{
	int err = steer(own, true);

	if (err || net_shares(own->net, &own->address))
		return err;
	if (ip_is_v4(&own->address))
		acd_begin(own);
	else
		dad_begin(own, later);
	return 0;
}

static void set_state(struct own_address *own, enum own_state state)
{
	struct net *net = own->net;

	own->state = (uint8_t)state;
	if (!own_is_used(state))
		net->own.guarded = true;
	publish(net);
}

struct own_address *own_add(struct net *net, const struct ip_address *address, uint32_t prefix,
			    enum own_origin origin)
{
	bool v4 = ip_is_v4(address);
	struct own_address *own = find_free(net);

	ASSERT(!own_find(net, address));
	if (!own)
		return NULL;
	*own = (struct own_address){
		.address = *address,
		.prefix = prefix,
		.origin = (uint8_t)origin,
		.preferred_until_ns = TIMER_NEVER,
		.valid_until_ns = TIMER_NEVER,
		.net = net,
	};
	timer_init(&own->timer, v4 ? acd_due : dad_due);
	set_state(own, first_state(net, address));
	if (net->own.started)
		(void)begin(own, true);
	return own;
}

void own_settle(struct own_address *own)
{
	struct net *net = own->net;
	bool deprecated = own->preferred_until_ns <= net->sched->now_ns;

	set_state(own, deprecated ? OWN_DEPRECATED : OWN_PREFERRED);
}

/* Packets from it go no way that is known already; output looks at each. */
static void stop_using(struct own_address *own, enum own_state state)
{
	struct net *net = own->net;

	timer_cancel(&net->sched->timers, &own->timer);
	(void)steer(own, false);
	set_state(own, state);
	neighbour_forget_paths(net);
}

void own_remove(struct own_address *own)
{
	/* RFC 4862 5.5.4 MUST NOT: an invalid address is no source and no destination; connections
	 * of it fail as those whose peer is gone */
	stop_using(own, OWN_FREE);
}

static void tell(struct own_address *own)
{
	char text[INET6_ADDRSTRLEN];
	bool v4 = ip_is_v4(&own->address);

	(void)inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? own->address.bytes + 12 : own->address.bytes,
			text, sizeof(text));
	/* RFC 4862 5.4.5 SHOULD, RFC 5227 2.4: the administrator is told */
	log_write(&own->net->sched->log, LOG_LEVEL_ERROR,
		  "%s is another station's, too: it is given up", text);
}

void own_give_up(struct own_address *own)
{
	struct net *net = own->net;

	tell(own);
	/* RFC 5227 2.4 SHOULD: peers are told that the connections end, while that can be done.
	 * An IPv6 address was never ours: nothing more is sent from it. */
	if (ip_is_v4(&own->address))
		tcp_address_lost(net, &own->address);
	stop_using(own, OWN_DUPLICATE);
	if (!ip_is_v4(&own->address))
		tcp_address_lost(net, &own->address);
	if (own->origin != OWN_CONFIGURED)
		slaac_next_identifier(own);
}

/* ---- life ---- */

int own_start(struct net *net)
{
	int err = 0;

	net->own.started = true;
	for (uint32_t i = 0; i < OWN_MAX && !err; i++) {
		struct own_address *own = &net->own.entries[i];
		if (own->state != OWN_FREE)
			err = begin(own, false);
	}
	return err;
}

void own_close(struct net *net)
{
	for (uint32_t i = 0; i < OWN_MAX; i++) {
		struct own_address *own = &net->own.entries[i];
		if (own->state != OWN_FREE)
			timer_cancel(&net->sched->timers, &own->timer);
	}
}

void own_check(struct net *net)
{
	uint32_t known = 0;
	uint32_t used = 0;

	for (uint32_t i = 0; i < OWN_MAX; i++) {
		const struct own_address *own = &net->own.entries[i];
		if (own->state == OWN_FREE)
			continue;
		bool used_now = own_is_used((enum own_state)own->state);
		used += used_now;
		known += own->state != OWN_DUPLICATE;
		ASSERT(own_find(net, &own->address) == own);
		ASSERT(own->state != OWN_DUPLICATE || !timer_armed(&own->timer));
		ASSERT(used_now == net_is_local(net, &own->address));
	}
	ASSERT(known == net->num_known && used == net->num_addresses);
}
