/* SPDX-License-Identifier: MIT
 * net/acd.c - conflicts about our IPv4 addresses (RFC 5227).
 *
 * An address is probed before it is used if the configuration says how often: probing takes four to
 * seven seconds, so by default (no probes) it is announced at once, as kernels do with addresses
 * that an administrator gives them.  It is defended once in DEFEND_NS and given up when another
 * station goes on claiming it (2.4 (b)), or kept for ever if it is configured so (2.4 (c)): whoever
 * can make up ARP packets can end our use of an address by two of them, as he could take its
 * packets.
 */
#include "net/net.h"
#include "net/own.h"
#include "net/wire/ether.h"

#include <string.h>

#define SECOND_NS            1000000000ULL
#define PROBE_WAIT_NS        SECOND_NS /* RFC 5227 1.1 has these */
#define PROBE_MIN_NS         SECOND_NS
#define PROBE_MAX_NS         (2 * SECOND_NS)
#define ANNOUNCE_WAIT_NS     (2 * SECOND_NS)
#define ANNOUNCE_NUM         2
#define ANNOUNCE_INTERVAL_NS (2 * SECOND_NS)
#define DEFEND_NS            (10 * SECOND_NS)

static void arm_in(struct own_address *own, uint64_t ns)
{
	struct sched *sched = own->net->sched;

	timer_arm(&sched->timers, &own->timer, sched->now_ns + ns);
}

/* RFC 5227 2.3 MUST: an address that is free is announced, ANNOUNCE_NUM times */
static void announce(struct own_address *own)
{
	arp_announce(own->net, &own->address);
	own->sent++;
	if (own->sent < ANNOUNCE_NUM)
		arm_in(own, ANNOUNCE_INTERVAL_NS);
}

/* RFC 5227 2.1.1 */
static void probe(struct own_address *own)
{
	uint64_t wait = PROBE_MIN_NS + net_random(own->net) % (PROBE_MAX_NS - PROBE_MIN_NS);

	own->sent++;
	arp_probe(own->net, &own->address);
	arm_in(own, own->sent < own->net->sched->config.arp_probes ? wait : ANNOUNCE_WAIT_NS);
}

void acd_begin(struct own_address *own)
{
	own->sent = 0;
	if (own->state == OWN_TENTATIVE)
		arm_in(own, net_random(own->net) % PROBE_WAIT_NS);
	else
		announce(own);
}

void acd_due(struct timer *timer)
{
	struct own_address *own = container_of(timer, struct own_address, timer);

	if (own->state != OWN_TENTATIVE) {
		announce(own);
		return;
	}
	/* RFC 5227 2.1 MUST: it is used when nobody answered the probes */
	if (own->sent < own->net->sched->config.arp_probes) {
		probe(own);
		return;
	}
	own_settle(own);
	own->sent = 0;
	announce(own);
	neighbour_ask_now(own->net);
}

/* Another station says that it has an address that we use. */
static void defend(struct own_address *own)
{
	struct net *net = own->net;
	uint64_t now = net->sched->now_ns;
	bool again = own->conflict_ns && now - own->conflict_ns < DEFEND_NS;

	log_once(&net->sched->log, &net->sched->log_seen, LOG_LEVEL_WARNING,
		 "another station uses an address of ours (ARP)");
	if (!again) {
		/* RFC 5227 2.4 (b): one announcement if the last conflict is long ago */
		own->conflict_ns = now;
		arp_announce(net, &own->address);
	} else if (net->sched->config.arp_conflict == 0) {
		/* RFC 5227 2.4 (b) MUST: else it is given up at once */
		own_give_up(own);
	}
	/* RFC 5227 2.4 (c) MUST NOT: who keeps his address defends it once in DEFEND_INTERVAL */
}

/* RFC 5227 2.1.1 MUST: in the time of probing a packet from the address, or another's probe for it,
 * is a conflict */
static bool claims_tentative(const struct own_address *own, const struct arp *arp)
{
	uint32_t v4 = own->address.words[3];

	return arp->sender == v4 ||
	       (arp->sender == 0 && arp->operation == ARP_REQUEST && arp->target == v4);
}

static bool input_tentative(struct net *net, const struct arp *arp)
{
	for (uint32_t i = 0; i < OWN_MAX; i++) {
		struct own_address *own = &net->own.entries[i];
		if (own->state == OWN_TENTATIVE && claims_tentative(own, arp)) {
			own_give_up(own);
			return true;
		}
	}
	return false;
}

bool acd_input(struct net *net, const struct arp *arp)
{
	const struct ip_address sender = ip_from_v4(arp->sender);

	if (net_is_local(net, &sender)) {
		defend(own_find(net, &sender));
		return true;
	}
	return net->num_known > net->num_addresses && input_tentative(net, arp);
}
