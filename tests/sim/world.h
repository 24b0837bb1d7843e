/* tests/sim/world.h - a simulated world: hosts on one Ethernet, a virtual clock, one seeded
 * generator.
 *
 * Hosts are whole instances of the library, bare structs sched, or peers: plain functions that are
 * given frames. Every ordered pair of hosts has a path with delay, rate, queue and faults of its
 * own.  Nothing happens between events; the clock jumps from one to the next: the arrival of a
 * frame, a function that the test asked for, the deadline of a host.  Hosts run until nothing
 * happens in them any more.  No wall-clock time anywhere: a run is a function of its seed, and
 * `hash` is a digest of all that happened.
 *
 * Memory: the world owns hosts, devices and events; world_close frees them.
 *
 * A check that fails says the seed, the virtual time and what did not hold, and fails the test.
 * With SIM_TRACE=PREFIX in the environment each run writes what every host sees to
 * PREFIX-HOST.pcapng.
 */
#pragma once

#include "support/test.h"

#include "api/instance.h"
#include "base/config.h"
#include "base/prng.h"
#include "netdev/sim/sim.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define WORLD_HOSTS    8
#define WORLD_START_NS ((uint64_t)1000000000)
#define WORLD_US       ((uint64_t)1000)
#define WORLD_MS       ((uint64_t)1000000)
#define WORLD_S        ((uint64_t)1000000000)
#define WORLD_MILLION  1000000U /* probabilities are in millionths */

struct world;
struct host;

/* What happens to frames from one host to another. */
struct world_path {
	uint64_t delay_ns;
	uint64_t jitter_ns;   /* at most this is added; order is kept */
	uint64_t bits_per_s;  /* 0: no limit */
	uint64_t queue_bytes; /* that wait for a line with a rate; more is lost */
	uint64_t mark_bytes; /* beyond so many that wait, ECN-capable packets are marked; 0: none */
	/* Rate and queue are that path's, which others may use too: a bottleneck of several
	 * senders; NULL: its own. */
	struct world_path *line;
	uint32_t loss;  /* millionths, like all that follow */
	uint32_t burst; /* after a loss: that the next frame is lost too */
	uint32_t duplicate;
	uint32_t reorder; /* a frame is late by up to reorder_ns and others overtake it */
	uint32_t corrupt; /* up to 15 adjacent bits change, or the frame's end is cut or grows */
	uint64_t reorder_ns;
	uint32_t mtu; /* of IP packets in the middle of it: larger ones that may not be cut are
			 lost; 0: any */
	bool icmp;    /* and a router says so */
	bool down;    /* partition */

	/* the world's own */
	uint64_t free_ns; /* when the line is free again */
	uint64_t last_ns; /* arrival of the last frame in order */
	bool lost_last;
};

struct world_event {
	uint64_t at_ns;
	uint64_t sequence;
	struct host *host;
	void (*fn)(struct world *world, void *arg); /* NULL: a frame arrives at host */
	void *arg;
	uint8_t *bytes;
	uint32_t length;
};

struct world_stats {
	uint64_t sent;
	uint64_t delivered;
	uint64_t lost; /* by chance, partition or a full queue */
	uint64_t too_big;
	uint64_t duplicated;
	uint64_t reordered;
	uint64_t corrupted;
	uint64_t marked;  /* congestion experienced (RFC 3168) */
	uint64_t no_room; /* lost at the receiving device */
	uint64_t busy;    /* times that a device was told to wait */
};

struct host {
	struct world *world;
	uint32_t index;
	struct sim_wire wire;
	uint8_t mac[6];
	struct netdev *dev;    /* NULL: closed, or a peer */
	struct sched *sched;   /* NULL: a peer, or ended */
	struct demi *instance; /* NULL: not a whole one */
	/* A peer: called with each frame. */
	void (*input)(struct host *host, const uint8_t *bytes, uint32_t length);
	void *arg;        /* the test's */
	uint64_t lag_ns;  /* from the arrival of a frame to the turn: frames come in bursts */
	uint32_t tx_busy; /* millionths: the device has room for a part of the burst only */
	bool arms;        /* arms its device whenever it has nothing to do */
	bool sleeps;      /* on its descriptors, armed, between its turns */
	bool asleep;
	uint64_t spin_ns; /* runs at least so often, whatever happens; 0: does not */
	bool vanished;    /* switched off: runs no more, sends and receives nothing */
	uint64_t wake_ns; /* when it runs next */
	uint64_t turns;   /* poll turns */
	FILE *trace;      /* NULL: none */
	int32_t trace_fd; /* -1: none */
};

struct world {
	uint64_t seed;
	struct prng prng;
	uint64_t now_ns;
	uint64_t hash;
	uint64_t steps;
	struct world_stats stats;
	uint32_t num_hosts;
	struct host *hosts[WORLD_HOSTS];
	struct world_path paths[WORLD_HOSTS][WORLD_HOSTS]; /* [from][to] */
	struct world_event *events;                        /* a heap by time, then sequence */
	uint32_t num_events;
	uint32_t max_events;
	uint64_t sequence;
	/* Called after every event; NULL: nothing. */
	void (*check)(struct world *world, void *arg);
	/* Prints what the test knows, when a check failed; NULL: nothing. */
	void (*describe)(const struct world *world);
	void *arg;
};

void world_open(struct world *world, uint64_t seed);
/* Ends instances, drops what is under way. Bare scheds are the test's to end, before. */
void world_close(struct world *world);

/* ---- hosts ---- */

/* The defaults of the key table, fit for a simulated host: no socket for `demi stat`, no linger,
 * small tables. */
void world_config(struct config *config);
struct sched_world world_sched(struct world *world);

/* options: the MAC is made up if it is zero.  Paths to and from a new host are perfect, with a
 * delay of 10 us. */
struct host *world_add_instance(struct world *world, const struct config *config,
				const struct sim_options *options);
/* Without a network device: a transport of the test's, and its own argument (sched_world).  It
 * sleeps, and whoever makes its descriptors readable wakes it by world_wake. */
struct host *world_add_engine(struct world *world, const struct config *config,
			      const struct engine_ops *engine, void *engine_arg);
/* sched: opened with world_sched, and a poller that receives from host->dev, which the test
 * closes. */
struct host *world_add_sched(struct world *world, struct sched *sched,
			     const struct sim_options *options);
struct host *world_add_peer(struct world *world,
			    void (*input)(struct host *host, const uint8_t *bytes, uint32_t length),
			    void *arg);

/* Makes the host's instance the thread's: calls of the library mean it. */
void world_enter(struct host *host);
/* Has the host run in this moment: after something was done to it from outside. */
void world_wake(struct host *host);
/* A peer sends a frame. */
void world_send(struct host *from, const uint8_t *bytes, uint32_t length);
/* Ends an instance. */
void world_end_host(struct host *host);

/* ---- time ---- */

/* Calls fn(world, arg) at a time. */
void world_at(struct world *world, uint64_t at_ns, void (*fn)(struct world *, void *), void *arg);
/* The next event, if it is not after limit_ns; false: none was, and it is limit_ns now. */
bool world_step(struct world *world, uint64_t limit_ns);
void world_run_until(struct world *world, uint64_t limit_ns);
/* Runs until done(arg); fails the test if that takes more than limit_ns. */
void world_run(struct world *world, bool (*done)(void *arg), void *arg, uint64_t limit_ns);

/* ---- chance ---- */

static inline uint64_t world_below(struct world *world, uint64_t bound)
{
	return prng_below(&world->prng, bound);
}

/* low to high, both included. */
static inline uint64_t world_between(struct world *world, uint64_t low, uint64_t high)
{
	return low + world_below(world, high - low + 1);
}

static inline bool world_chance(struct world *world, uint32_t millionths)
{
	return millionths > 0 && world_below(world, WORLD_MILLION) < millionths;
}

/* Draws which faults a world has and how strong they are, for all paths; the hosts are there. */
void world_swarm(struct world *world);
/* Ends all faults; delay and rate stay. */
void world_calm(struct world *world);
/* Both directions between two sets of hosts, bits of their indices. */
void world_partition(struct world *world, uint32_t one, uint32_t other, bool down);

/* Mixes something into the digest. */
void world_note(struct world *world, uint64_t value);

/* ---- tests ---- */

/* Ends the program unless it holds, telling the seed. */
#define WORLD_EXPECT(world, condition)                                         \
	do {                                                                   \
		if (!(condition))                                              \
			world_failed((world), #condition, __FILE__, __LINE__); \
	} while (0)

_Noreturn void world_failed(const struct world *world, const char *what, const char *file,
			    int line);

/* Runs fn with seeds first, first + 1 ..., each printed before its run: count of them, fewer if
 * seconds of wall-clock time are over; as many as TEST_SEED_SECONDS in the environment has room
 * for, if it is set.  fn returns the digest of its run; the first seed runs twice and must have the
 * same one. */
void world_seeds(uint64_t first, uint32_t count, uint32_t seconds, uint64_t (*fn)(uint64_t seed));
