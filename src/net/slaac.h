/* SPDX-License-Identifier: MIT
 * net/slaac.h - what routers tell us: router discovery as far as a host needs it (RFC 4861 6.3, RFC
 * 7559), addresses made from prefixes (RFC 4862 5.5), interface identifiers (RFC 4291 appendix A,
 * RFC 7217).
 *
 * Off unless the configuration says so: advertisements are then ignored.  Everything is bounded,
 * and what there is no room for is counted: a flood of advertisements (RFC 6104) costs what it
 * takes to count it beyond ADVERTISEMENTS_PER_S.
 *
 * Invariants, walked by slaac_check: routers and prefixes that are there have not expired for
 * longer than the timer may be late; no two are the same; while off there are none.
 */
#pragma once

#include "base/address.h"
#include "base/counters.h"
#include "net/bucket.h"
#include "sched/timer.h"

#include <stdbool.h>
#include <stdint.h>

#define SLAAC_ROUTERS_MAX  8
#define SLAAC_PREFIXES_MAX 16

struct net;
struct own_address;
struct ip_packet;
struct icmp_header;
struct cursor;

struct slaac_router {
	struct ip_address address;
	uint64_t until_ns;
	int8_t preference;
	bool suspect; /* did not answer when it was asked last */
};

/* Who has an address of it is on the link. */
struct slaac_prefix {
	struct ip_address prefix;
	uint32_t bits;
	uint64_t until_ns;
};

struct slaac {
	bool on;
	bool gateway_configured; /* net->gateway[1] is not to be changed */
	uint32_t num_routers;
	uint32_t num_prefixes;
	struct slaac_router routers[SLAAC_ROUTERS_MAX];
	struct slaac_prefix prefixes[SLAAC_PREFIXES_MAX];
	uint32_t mtu;          /* of IPv6 packets on the link; 0: as the device's */
	uint64_t reachable_ns; /* 0: as configured */
	uint64_t retrans_ns;
	uint32_t solicited;           /* solicitations sent */
	uint64_t interval_ns;         /* until the next */
	struct bucket advertisements; /* that are looked at */
	struct timer solicit;
	struct timer expiry;
};

void slaac_open(struct net *net);
/* The device is started: asks for routers.  0 or -errno. */
int slaac_start(struct net *net);
void slaac_close(struct net *net);
void slaac_check(const struct net *net);

/* A router advertisement: the cursor stands behind the ICMPv6 header. */
enum drop slaac_input(struct net *net, const struct ip_packet *packet,
		      const struct icmp_header *header, struct cursor *c);

/* Is it on a prefix that routers say is on the link? */
bool slaac_on_link(const struct net *net, const struct ip_address *address);
/* A neighbour does not answer: should it be the router that we use, another is chosen. */
void slaac_unreachable(struct net *net, const struct ip_address *address);

/* Between two solicitations of neighbours; how long a neighbour is taken for reachable. */
uint64_t slaac_retrans_ns(const struct net *net);
uint64_t slaac_reachable_ns(const struct net *net);

/* ---- identifier.c ---- */

/* Sets the last 64 bits of an address whose first 64 are its prefix; tries: how many were
 * duplicates before. */
void slaac_identify(const struct net *net, struct ip_address *address, uint32_t tries);
/* An address that we made is a duplicate: its entry gets the next identifier, a few times (RFC 7217
 * 6). */
void slaac_next_identifier(struct own_address *own);
