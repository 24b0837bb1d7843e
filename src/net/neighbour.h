/* SPDX-License-Identifier: MIT
 * net/neighbour.h - link-layer addresses of neighbours, for ARP (RFC 826) and neighbour discovery
 * (RFC 4861 7.3) alike.
 *
 * A bounded table, allocated once.  Entries age: REACHABLE for a while after an answer or a hint
 * from TCP, then STALE; a STALE one is used and probed (DELAY, PROBE) and fails if nobody answers.
 * While INCOMPLETE up to NEIGHBOUR_QUEUE packets wait.  When the table is full the entry unused
 * longest goes, never a PERMANENT one.  Nothing is learned from what was not asked for (row 10 and
 * 11 of the attack table), but known entries are updated.
 *
 * A pointer to an entry is good as long as its generation is the one it was found with.
 */
#pragma once

#include "base/address.h"
#include "base/counters.h"
#include "base/list.h"
#include "sched/timer.h"

#include <stdbool.h>
#include <stdint.h>

#define NEIGHBOUR_QUEUE 128 /* packets: a program of Demikernel's pushes 100 datagrams at once */

struct net;
struct frame;

enum neighbour_state {
	NEIGHBOUR_FREE,
	NEIGHBOUR_INCOMPLETE,
	NEIGHBOUR_REACHABLE,
	NEIGHBOUR_STALE,
	NEIGHBOUR_DELAY,
	NEIGHBOUR_PROBE,
	NEIGHBOUR_FAILED,
	NEIGHBOUR_PERMANENT,
};

struct neighbour {
	struct ip_address address;
	uint8_t mac[6];
	uint8_t state;       /* enum neighbour_state */
	bool usable;         /* mac can be sent to without further ado: REACHABLE or PERMANENT */
	uint32_t generation; /* changes when the entry becomes another's */
	uint32_t probes;     /* sent in this state */
	uint32_t num_queued;
	struct frame *queue; /* packets with room for the Ethernet header, oldest first */
	struct frame *queue_last;
	uint64_t used_ns;
	uint64_t confirmed_ns; /* when it was last known to be reachable */
	struct timer timer;
	struct list node; /* in the table's list of free or of asking entries, or in none */
	struct net *net;
	struct neighbour *hash_next;
};

struct neighbour_table {
	struct neighbour *entries;
	struct neighbour **buckets;
	uint32_t max; /* entries; a power of two, as many buckets */
	uint32_t used;
	uint32_t num_asking; /* INCOMPLETE ones: at most half, so that a scan of a whole prefix
				through us displaces none that answered (RFC 6583) */
	struct list free;
	struct list asking; /* oldest first */
};

int neighbour_open(struct net *net);
void neighbour_close(struct net *net);

/* Asserts the invariants of neighbour.c; walks everything. */
void neighbour_check(struct net *net);

/* The entry of an address, made if need be (then a question goes out); NULL: none can be had. */
struct neighbour *neighbour_get(struct net *net, const struct ip_address *address);
/* Neighbours that packets wait for. */
uint32_t neighbour_awaited(const struct net *net);
/* The entry of an address, or NULL. */
struct neighbour *neighbour_find(struct net *net, const struct ip_address *address);

/* A static entry.  0, -ENOMEM, -EINVAL. */
int neighbour_set(struct net *net, const struct ip_address *address, const uint8_t mac[6]);

/* Sends a frame, whose data is at the IP header, to a neighbour: now, or when it answers.  type: of
 * the Ethernet header.  0 or -EHOSTUNREACH, with the frame freed and counted. */
int neighbour_output(struct net *net, struct neighbour *neighbour, struct frame *frame,
		     uint16_t type);

/* A transport saw that the peer gets our packets (RFC 4861 7.3.1). Cheap. */
void neighbour_confirm(struct net *net, struct neighbour *neighbour);

/* arp.c, nd.c: what comes in.  arp_input takes the frame; nd_input says why the message is dropped.
 */
struct ip_packet;
struct icmp_header;
struct cursor;
void arp_input(struct net *net, struct frame *frame);
enum drop nd_input(struct net *net, const struct ip_packet *packet,
		   const struct icmp_header *header, struct cursor *c);
/* arp.c, nd.c: what goes out; unicast to a known mac, else broadcast or solicited-node multicast.
 * False: no address of ours may be asked from yet. */
bool arp_request(struct net *net, struct neighbour *neighbour, bool unicast);
bool nd_solicit(struct net *net, struct neighbour *neighbour, bool unicast);

/* Tells everybody who we are (RFC 5227 2.3); asks whether anybody has an address (2.1). */
void arp_announce(struct net *net, const struct ip_address *address);
void arp_probe(struct net *net, const struct ip_address *address);
/* The same for IPv6 (RFC 4862 5.4.2). */
void nd_probe(struct net *net, const struct ip_address *address, const uint8_t nonce[6]);

/* An address of ours may be asked from now: questions that wait for one go out. */
void neighbour_ask_now(struct net *net);
/* What leads where has changed: no cached way (struct ip_path) is good any more. */
void neighbour_forget_paths(struct net *net);

/* Is a question to this neighbour unanswered? */
static inline bool neighbour_asked(const struct neighbour *neighbour)
{
	return neighbour->state == NEIGHBOUR_INCOMPLETE || neighbour->state == NEIGHBOUR_PROBE;
}

/* neighbour.c, for arp.c and nd.c: an answer came for an entry, or a mac was seen that may differ.
 */
void neighbour_learn(struct net *net, struct neighbour *neighbour, const uint8_t mac[6],
		     bool reachable);

/* What is known of a REACHABLE one may be wrong: STALE. */
void neighbour_doubt(struct neighbour *neighbour);

/* A packet given up after its neighbour did not answer is told to its transport: data at the IP
 * header. */
void neighbour_unreachable(struct net *net, struct frame *frame);
