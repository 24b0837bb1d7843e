/* SPDX-License-Identifier: MIT
 * net/dad.c - duplicates of IPv6 addresses are looked for (RFC 4862 5.4) while the address is used
 * optimistically (RFC 4429), so that nothing starts a second later for it.
 *
 * RFC 4429 3.1 would not do so with addresses that an administrator wrote down, who may err; here
 * he waits for no error to be found out, and is told all the same.  What it forbids an optimistic
 * address holds: it is no source of solicitations, and its advertisements do not override
 * (nd.c).  Packets to neighbours that are not known yet so wait until the address is settled.
 *
 * RFC 4862 5.4.2 SHOULD: a random delay is there for addresses that an advertisement to all makes;
 * at the start of an application, unlike that of the hosts of a power line, it is left out.
 */
#include "net/net.h"
#include "net/own.h"
#include "net/slaac.h"
#include "net/wire/icmp.h"

#include <string.h>

#define SECOND_NS 1000000000ULL

static void arm_in(struct own_address *own, uint64_t ns)
{
	struct sched *sched = own->net->sched;

	timer_arm(&sched->timers, &own->timer, sched->now_ns + ns);
}

static void probe(struct own_address *own)
{
	const uint64_t nonce = net_random(own->net);

	/* RFC 7527 4.1: by its nonce a probe of ours is known again when a link loops it back */
	memcpy(own->nonce, &nonce, sizeof(own->nonce));
	own->sent++;
	nd_probe(own->net, &own->address, own->nonce);
	/* RFC 4862 5.1: RetransTimer between probes, and after the last */
	arm_in(own, slaac_retrans_ns(own->net));
}

void dad_begin(struct own_address *own, bool later)
{
	own->sent = 0;
	if (own->state != OWN_OPTIMISTIC)
		return;
	if (later)
		arm_in(own, net_random(own->net) % SECOND_NS);
	else
		probe(own);
}

void dad_due(struct timer *timer)
{
	struct own_address *own = container_of(timer, struct own_address, timer);

	/* RFC 4862 5.4: unique, as far as DupAddrDetectTransmits solicitations can tell */
	if (own->sent < own->net->sched->config.dad_probes) {
		probe(own);
		return;
	}
	own_settle(own);
	neighbour_ask_now(own->net);
}

void dad_solicited(struct own_address *own, const struct nd_message *message)
{
	/* RFC 7527 4.3, RFC 4862 5.4.3: a solicitation of ours that came back is none of another's
	 */
	if (message->has_nonce && memcmp(message->nonce, own->nonce, sizeof(own->nonce)) == 0)
		return;
	/* RFC 4862 5.4.3 MUST NOT: both look for duplicates at one time, neither may use it */
	own_give_up(own);
}

void dad_advertised(struct own_address *own, const struct nd_message *message)
{
	if (message->has_mac && memcmp(message->mac, own->net->mac, sizeof(message->mac)) == 0)
		return; /* ours, come back */
	/* RFC 4862 5.4.4, 5.4.5 MUST NOT: a duplicate is not assigned */
	own_give_up(own);
}
