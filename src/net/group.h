/* SPDX-License-Identifier: MIT
 * net/group.h - the groups that the host is in, and how routers and switches learn of them: the
 * host's side of IGMPv3 (RFC 3376, RFC 2236, RFC 1112) and MLDv2 (RFC 3810, RFC 2710).
 *
 * A group belongs to the instance.  It is there while somebody wants it, sockets that are its
 * members or an address of ours whose solicited-node group it is, and then until routers were told
 * that nobody does any more.  The device is told of the first and the last member.
 *
 * Joins are of every source: what is said of a group is that it excludes none, or that it includes
 * none.
 *
 * Invariants: a group is in the list of its side and in its bucket; one without members is there
 * only while changes_left is not 0.
 */
#pragma once

#include "base/address.h"
#include "base/counters.h"
#include "base/list.h"
#include "net/bucket.h"
#include "net/wire/group.h"
#include "sched/timer.h"

#include <stdbool.h>
#include <stdint.h>

struct net;
struct frame;

#define GROUP_MAX         256 /* of an instance */
#define GROUP_BUCKETS     64  /* a power of two */
#define GROUP_SOURCES_MAX 16  /* that a query may ask for and get an answer of their own */

#define GROUP_ROBUSTNESS 2   /* RFC 3376 8.1, RFC 3810 9.1 */
#define GROUP_INTERVAL_S 125 /* RFC 3376 8.2, RFC 3810 9.2 */

struct group {
	struct ip_address address;
	struct group_side *side;
	struct list in_side;
	struct list in_bucket;
	uint32_t members;     /* sockets */
	uint32_t holders;     /* addresses of ours: as their solicited-node group */
	uint8_t changes_left; /* reports of the last change that go out yet */
	bool reported_last;   /* versions 1 and 2: nobody else has reported it since we did */
	uint8_t num_sources;  /* that a query asked for; 0: it asked for the group */
	struct timer timer;   /* the next report about it alone */
	struct ip_address sources[GROUP_SOURCES_MAX];
};

/* IGMP or MLD. */
struct group_side {
	struct net *net;
	bool v4;
	uint8_t version; /* that is spoken: enum group_version */
	uint8_t robustness;
	uint32_t interval_s;   /* between general queries */
	uint64_t until_ns[3];  /* by version: so long a querier of an older one is taken for present
				*/
	struct bucket general; /* general queries that are listened to */
	struct bucket special; /* others */
	struct bucket changes; /* that are told at once */
	struct timer answer;   /* to a general query */
	struct timer change;   /* the next report of changes */
	struct timer refresh;  /* a shared device: the next answer that nobody asked for */
	struct list groups;
};

struct groups {
	struct group_side sides[2]; /* IPv4, IPv6 */
	struct list buckets[GROUP_BUCKETS];
	uint32_t count;
};

int group_open(struct net *net);
void group_close(struct net *net);
void group_check(struct net *net);

/* Are we in it?  all-hosts groups included. */
bool group_has(const struct net *net, const struct ip_address *address);

/* A socket joins: the group, or -ENOBUFS, -ENOMEM, an error of the device. */
int group_join(struct net *net, const struct ip_address *address, struct group **group_out);
/* And leaves. */
void group_leave(struct group *group);

/* An address of IPv6 becomes ours, or ceases to be: routers and switches are told of its
 * solicited-node group (RFC 4861 7.2.1), which the device knows of by itself. */
void group_hold_address(struct net *net, const struct ip_address *address);
void group_release_address(struct net *net, const struct ip_address *address);

/* Takes the frame. */
void igmp_input(struct net *net, struct frame *frame, const struct ip_packet *packet);
/* Says why the message is dropped. */
enum drop mld_input(struct net *net, const struct ip_packet *packet,
		    const struct icmp_header *header, struct cursor *c);

/* ---- group.c and group_query.c, for each other ---- */

/* The group of an address, or NULL. */
struct group *group_find(const struct net *net, const struct ip_address *address);

static inline bool group_is_in(const struct group *group)
{
	return group->members + group->holders > 0;
}

/* Is anybody ever told of it? */
bool group_is_reported(const struct group *group);
/* Ends what is pending about a group: one that nobody is in is gone then. */
void group_settle(struct group *group);
/* The version to be spoken now. */
enum group_version group_speak(struct group_side *side);
/* Has the version changed that what is due now belongs to? */
bool group_is_outdated(struct group_side *side);
/* Versions 1 and 2: reports a group, and what it comes to. */
void group_tell_old(struct group *group);
/* A moment within max_ns from now. */
uint64_t group_moment(struct net *net, uint64_t max_ns);

/* When it fires at the latest. */
static inline uint64_t group_due_ns(const struct timer *timer)
{
	return timer_armed(timer) ? timer->deadline_tick << TIMER_TICK_SHIFT : TIMER_NEVER;
}

void group_arm_sooner(struct group_side *side, struct timer *timer, uint64_t at_ns);

/* An answer is due: to a general query, about a group. */
void group_answer_due(struct timer *timer);
void group_due(struct timer *timer);
/* On a shared device: everything is told again after a while, asked for or not. */
void group_refresh_later(struct group_side *side);
void group_refresh_due(struct timer *timer);

/* ---- group_report.c, for both ---- */

/* A report of version 3 that is being made; begins as {.side = ...}. */
struct group_report {
	struct group_side *side;
	struct frame *frame; /* NULL: none begun */
	uint32_t room;
	uint16_t records;
};

/* Adds a record; a report that is full goes out. */
void group_report_add(struct group_report *report, const struct group *group,
		      enum group_record type, bool sources);
/* Sends what there is. */
void group_report_end(struct group_report *report);

/* Sends a report of the side's version, 1 or 2, or a leave. */
void group_report_old(const struct group *group, bool leave);
