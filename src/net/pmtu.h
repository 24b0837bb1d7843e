/* SPDX-License-Identifier: MIT
 * net/pmtu.h - the largest packet that gets to a destination, where that is less than the link's
 * (RFC 1191, RFC 8201).
 *
 * A bounded cache in lists of PMTU_WAYS chosen by a keyed hash: who fills one list with forged
 * destinations forgets others at most, and whoever told of an MTU had to show a packet of ours
 * first (RFC 5927): that is the transports' to check.  Nothing that is told raises an entry; it is
 * forgotten PMTU_AGE_S after it was learnt, and the next packet finds out anew.
 *
 * Memory: one table, made for the first entry, kept until the stack is closed.
 */
#pragma once

#include "net/net.h"

enum {
	PMTU_LISTS = 64, /* a power of two */
	PMTU_WAYS = 4,
	PMTU_AGE_S = 600, /* RFC 1191 6.3, RFC 8201 4: ten minutes */
	/* Row 8 of the attack table: less is not believed. */
	PMTU_MIN_V4 = 552,
	PMTU_MIN_V6 = 1280,
};

/* Whoever knows that a packet of ours was too big for a path tells the size that is not: it is
 * entered if it is less than what was known, and not below the floor.  mtu 0, of IPv4: the router
 * does not say (RFC 1191 5): the next size below what was known that links have.  Returns what is
 * known now.
 */
uint32_t pmtu_lower(struct net *net, const struct ip_address *to, uint32_t mtu);

/* A packet of this size was received by the destination. */
void pmtu_raise(struct net *net, const struct ip_address *to, uint32_t mtu);

/* The next size below mtu that links have (RFC 1191 7.1), not below the floor. */
uint32_t pmtu_plateau(const struct net *net, const struct ip_address *to, uint32_t mtu);

/* From now on the link may be narrower for IPv6 (net->slaac.mtu).  False: no memory. */
bool pmtu_limit_link(struct net *net);

void pmtu_close(struct net *net);

/* Asserts that every entry is within its bounds. */
void pmtu_check(const struct net *net);
