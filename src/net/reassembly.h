/* SPDX-License-Identifier: MIT
 * net/reassembly.h - datagrams of IPv4 and IPv6 that came in fragments (RFC 791 3.2, RFC 815, RFC
 * 8200 4.5), within bounds.
 *
 * A fragment is copied out of its frame, which goes back at once; the copies of a datagram are a
 * list sorted by offset, in memory of the instance's heap, that of the list itself as well: while
 * no fragment waits there is none.  When nothing is missing they become one frame, which goes the
 * way of a packet that came whole.
 *
 * Fragments that overlap spoil their datagram (RFC 5722 4, for IPv4 too: no honest sender makes
 * any), what comes of it later included; one that is there already, byte for byte, is dropped.  So
 * no copy is ever cut, and what was received adds up to the whole exactly when it is complete.
 *
 * Bounds: datagrams and bytes of all, and of each source; of a source when its bound is reached,
 * else of all, the oldest is given up.  Sources are told apart by a keyed hash in
 * REASSEMBLY_SOURCES lists: two of them may share a bound, but nobody can tell which.  A fragment
 * costs a walk over the datagrams of its list and, out of order, over the fragments of its
 * datagram.
 *
 * Invariants, walked by reassembly_check: fragments of a datagram are disjoint, ascending and not
 * empty, their lengths add up to what was received, which is less than the whole; memory and count
 * of a list and of all are the sums over what they hold; each datagram's timer is armed.
 */
#pragma once

#include <stdint.h>

struct frame;
struct ip_packet;
struct net;

enum {
	REASSEMBLY_SOURCES = 64,          /* a power of two */
	REASSEMBLY_DATAGRAMS = 1024,      /* that wait */
	REASSEMBLY_SOURCE_DATAGRAMS = 64, /* of them of one source */
	REASSEMBLY_BYTES = 4 << 20, /* that they cost, or a 16th of the heap if that is less */
	REASSEMBLY_SOURCE_BYTES = 1 << 20, /* or a quarter of all */
	/* A datagram's, at most: the largest over a path of 576 bytes has 119. */
	REASSEMBLY_FRAGMENTS = 128,
	/* RFC 1122 3.3.2 would like 60 to 120 s for IPv4.  Ids of 16 bits are used again sooner
	 * (RFC 4963): 30 s, as others do. */
	REASSEMBLY_V4_S = 30,
	REASSEMBLY_V6_S = 60, /* RFC 8200 4.5 */
};

/* Takes a fragment for us: packet as a parser leaves it that says DROP_IP_FRAGMENT. */
void reassembly_input(struct net *net, struct frame *frame, const struct ip_packet *packet);

/* Gives up all that waits. */
void reassembly_close(struct net *net);

/* Asserts the invariants above; walks everything. */
void reassembly_check(const struct net *net);
