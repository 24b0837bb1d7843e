/* tests/sim/fabric_host.h - whole instances over RDMA in a simulated world: a fabric
 * (support/fabric.h) that lives by the world's clock and seed, and hosts with a device each.
 *
 * A host either sleeps on its descriptors between its turns, and then only an event wakes it, or
 * spins (host->spin_ns). */
#pragma once

#include "sim/world.h"
#include "support/fabric.h"

#include "transport/transport.h"

struct fabric_world {
	struct world *world;
	struct fabric *fabric;
};

/* at: the caller's, until fabric_world_close.  Delays are 1 us to 10 us. */
void fabric_world_open(struct fabric_world *at, struct world *world);
/* After world_close: instances are ended. */
void fabric_world_close(struct fabric_world *at);

/* An instance whose transport is opened with the device's table of verbs (sched_world.engine_arg).
 * Its device: *device; config is copied. */
struct host *fabric_add_host(struct fabric_world *at, const struct config *config,
			     const struct engine_ops *engine, const char *ipv4, const char *ipv6,
			     struct fabric_device **device);
/* A device without an instance: for a raw peer.  wake: called, in an event of its own, when
 * something has come to it; NULL: nothing is. */
struct fabric_device *fabric_add_peer(struct fabric_world *at, const char *ipv4, const char *ipv6,
				      void (*wake)(void *arg, bool readable), void *arg);

/* Draws delays, chances of what goes wrong without harm (order, lateness, and of datagrams loss),
 * and how hosts wait; the hosts are there. */
void fabric_swarm(struct fabric_world *at);
/* Beside these, posts, calls and work fail by chance, in millionths at most. */
void fabric_swarm_failures(struct fabric_world *at, uint32_t most);
/* Nothing fails any more; delays stay. */
void fabric_calm(struct fabric_world *at);
