/* SPDX-License-Identifier: MIT
 * net/own.h - the addresses of ours and the life of each: configured ones, the link-local one, and
 * those that routers' prefixes make (RFC 4862).
 *
 *   TENTATIVE   IPv4, while it is probed (RFC 5227): sockets may bind, nothing is sent or taken
 *   OPTIMISTIC  IPv6, while duplicates are looked for (RFC 4429): used, but not to ask neighbours
 *   PREFERRED   in use
 *   DEPRECATED  in use, but not chosen for what is new (RFC 4862 5.5.4)
 *   DUPLICATE   another station's: not used, bind fails; shown by `demi stat`
 *
 * The table is the truth; net->addresses and net->v4, which the data path compares with, are made
 * from it at every change, and the device is told (netdev_ops.steer).  Entries do not move: a timer
 * is in each.
 *
 * Invariants, walked by own_check: what is published is what is in the table, usable ones first;
 * no address stands there twice; a DUPLICATE waits for no timer.
 */
#pragma once

#include "base/address.h"
#include "sched/timer.h"

#include <stdbool.h>
#include <stdint.h>

#define OWN_CONFIGURED_MAX 16
#define OWN_ROUTER_MAX     16 /* made from routers' prefixes */
#define OWN_MAX            (OWN_CONFIGURED_MAX + 1 + OWN_ROUTER_MAX)

struct net;

enum own_state {
	OWN_FREE,
	OWN_TENTATIVE,
	OWN_OPTIMISTIC,
	OWN_PREFERRED,
	OWN_DEPRECATED,
	OWN_DUPLICATE,
};

enum own_origin {
	OWN_CONFIGURED,
	OWN_ROUTER,
	OWN_LINK_LOCAL, /* published last */
};

struct own_address {
	struct ip_address address;
	uint32_t prefix; /* bits, 96 + n for IPv4 */
	uint8_t state;   /* enum own_state */
	uint8_t origin;  /* enum own_origin */
	bool steered;    /* the device was told */
	uint8_t sent;    /* probes, or announcements */
	uint8_t tries;   /* interface identifiers that were duplicates before */
	uint8_t nonce[6];
	uint64_t preferred_until_ns;
	uint64_t valid_until_ns;
	uint64_t conflict_ns; /* when another station last claimed it; 0: never */
	struct timer timer;   /* dad.c or acd.c */
	struct net *net;
};

struct own_table {
	struct own_address entries[OWN_MAX];
	bool started; /* the device is */
	bool guarded; /* an address of ours is or was not to be sent from: output has to look */
};

/* Enters an address that the table does not have; while the device is started, begins its life.
 * NULL: the table is full. */
struct own_address *own_add(struct net *net, const struct ip_address *address, uint32_t prefix,
			    enum own_origin origin);
/* The entry of an address, in whatever state; NULL. */
struct own_address *own_find(struct net *net, const struct ip_address *address);
/* May a socket bind to it?  That it is tentative is no reason against. */
bool own_may_bind(const struct net *net, const struct ip_address *address);

/* The device is started: has it give us what is sent to our addresses, and begins the life of each.
 * 0 or -errno. */
int own_start(struct net *net);
void own_close(struct net *net);

/* Detection is over, or a lifetime was changed: PREFERRED or DEPRECATED. */
void own_settle(struct own_address *own);
/* It is nobody's any more (RFC 4862 5.5.4). */
void own_remove(struct own_address *own);
/* Another station has it: given up, told, its connections end. */
void own_give_up(struct own_address *own);

/* Of stat: a word. */
const char *own_state_name(enum own_state state);
const char *own_origin_name(enum own_origin origin);

/* Asserts the invariants above. */
void own_check(struct net *net);

static inline bool own_is_used(enum own_state state)
{
	return state == OWN_OPTIMISTIC || state == OWN_PREFERRED || state == OWN_DEPRECATED;
}

/* ---- dad.c: duplicates of an IPv6 address ---- */

struct nd_message;

/* Begins to look for duplicates; later: after a random time. */
void dad_begin(struct own_address *own, bool later);
void dad_due(struct timer *timer);
/* Somebody solicits an OPTIMISTIC address of ours from no address: is it a duplicate? */
void dad_solicited(struct own_address *own, const struct nd_message *message);
/* Somebody advertises it. */
void dad_advertised(struct own_address *own, const struct nd_message *message);

/* ---- acd.c: conflicts about an IPv4 address ---- */

struct arp;

/* Begins to probe, or to announce. */
void acd_begin(struct own_address *own);
void acd_due(struct timer *timer);
/* An ARP packet of another station.  True: it claims an address of ours. */
bool acd_input(struct net *net, const struct arp *arp);
