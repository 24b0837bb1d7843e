/* SPDX-License-Identifier: MIT
 * tools/demi/net/contender.h - a TCP/IP stack that takes part in `demi bench net`: two of its
 * instances back to back over one ring, all in the calling thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NET_BURST         32 /* requests in flight at most, one a connection */
#define NET_REQUEST_BYTES 64
#define NET_PORT          7000
#define NET_RING_SLOTS    256 /* in each direction */

struct net_spec {
	uint32_t mtu;    /* of the link */
	unsigned active; /* connections that requests take turns on */
	unsigned idle;   /* connections beside them */
	bool bulk;       /* the world is for bulk, else for requests */
	/* Ours: time goes on by 1 us a request, whatever the machine does, so that a count of
	 * instructions does not hold the timers of a slow run. */
	bool made_up_time;
};

/* What returns false, or NULL, has complained. */
struct contender {
	const char *name;
	void *(*open)(const struct net_spec *spec);
	/* So many requests, each answered, and the answer checked. */
	bool (*request)(void *world, uint64_t count);
	/* So many bytes on connection 0, all taken in at the other end. */
	bool (*bulk)(void *world, uint64_t bytes);
	/* Runs both ends for so long, as they do when there is nothing to do: acknowledgements that
	 * were put off go out one after the other. */
	void (*settle)(void *world, uint64_t ns);
	/* What one end of an idle connection has taken from malloc and from the heap. */
	double (*idle_bytes)(const void *world);
	void (*close)(void *world);
};

extern const struct contender contender_demitasse;

#ifdef DEMI_LWIP
extern const struct contender contender_lwip;

/* How lwIP is built and driven, as text; NULL if it could not be loaded. */
const char *lwip_options(void);
#endif
