/* tests/sim/fabric_host.c: see fabric_host.h. */
#include "sim/fabric_host.h"

#include <stdlib.h>

/* ---- the clock ---- */

static uint64_t now_of(void *arg)
{
	const struct fabric_world *at = arg;

	return at->world->now_ns;
}

static void settle(struct world *world, void *arg)
{
	struct fabric_world *at = arg;

	fabric_settle(at->fabric);
	world_note(world, fabric_hash(at->fabric));
}

static void at_time(void *arg, uint64_t at_ns)
{
	struct fabric_world *at = arg;

	world_at(at->world, at_ns, settle, at);
}

static void failed(void *arg, const char *what)
{
	const struct fabric_world *at = arg;

	world_failed(at->world, what, __FILE__, __LINE__);
}

void fabric_world_open(struct fabric_world *at, struct world *world)
{
	const struct fabric_clock clock = {.now_ns = now_of, .at = at_time, .arg = at};

	at->world = world;
	at->fabric = fabric_open(&(struct fabric_options){
		.seed = prng_next(&world->prng),
		.clock = &clock,
		.delay_ns = FABRIC_US,
		.jitter_ns = 9 * FABRIC_US,
	});
	fabric_on_failure(at->fabric, failed, at);
}

void fabric_world_close(struct fabric_world *at)
{
	fabric_close(at->fabric);
	at->fabric = NULL;
}

/* ---- hosts ---- */

static void wake_host(void *arg, bool readable)
{
	struct host *host = arg;

	if (host->sched && (readable || !host->sleeps))
		world_wake(host);
}

struct host *fabric_add_host(struct fabric_world *at, const struct config *config,
			     const struct engine_ops *engine, const char *ipv4, const char *ipv6,
			     struct fabric_device **device)
{
	struct rdma_verbs *verbs;

	*device = fabric_add(at->fabric, ipv4, ipv6);
	verbs = (struct rdma_verbs *)(uintptr_t)fabric_verbs(*device);
	struct host *host = world_add_engine(at->world, config, engine, verbs);
	fabric_on_wake(*device, wake_host, host);
	return host;
}

/* What the world has of a raw peer: no frames come to it. */
static void ignore(struct host *host, const uint8_t *bytes, uint32_t length)
{
	(void)host;
	(void)bytes;
	(void)length;
}

struct fabric_device *fabric_add_peer(struct fabric_world *at, const char *ipv4, const char *ipv6,
				      void (*wake)(void *arg, bool readable), void *arg)
{
	struct fabric_device *device = fabric_add(at->fabric, ipv4, ipv6);

	(void)world_add_peer(at->world, ignore, NULL);
	fabric_on_wake(device, wake, arg);
	return device;
}

/* ---- chance ---- */

static uint32_t draw(struct world *world, uint32_t most)
{
	return world_below(world, 2) ? (uint32_t)world_below(world, most + 1) : 0;
}

void fabric_swarm(struct fabric_world *at)
{
	static const uint64_t delays[] = {300, 1000, 10000, 1000000};
	struct world *world = at->world;
	struct fabric_chance *chance = fabric_chance(at->fabric);

	chance->delay_ns = delays[world_below(world, ARRAY_LENGTH(delays))];
	chance->jitter_ns = world_below(world, 2) ? world_below(world, 10 * chance->delay_ns) : 0;
	chance->lose = draw(world, 100000);
	chance->overtake = draw(world, 200000);
	chance->late_rtu = draw(world, 500000);
	chance->delivered = draw(world, WORLD_MILLION);
	for (uint32_t i = 0; i < world->num_hosts; i++) {
		struct host *host = world->hosts[i];
		host->sleeps = world_below(world, 2) == 0;
		host->spin_ns = host->sleeps ? 0 : world_between(world, 1, 100) * WORLD_US;
	}
}

void fabric_swarm_failures(struct fabric_world *at, uint32_t most)
{
	struct fabric_chance *chance = fabric_chance(at->fabric);

	chance->fail_post = draw(at->world, most);
	chance->fail_call = draw(at->world, most);
	chance->fail_work = draw(at->world, most);
}

void fabric_calm(struct fabric_world *at)
{
	struct fabric_chance *chance = fabric_chance(at->fabric);

	*chance = (struct fabric_chance){
		.delay_ns = chance->delay_ns,
		.jitter_ns = chance->jitter_ns,
	};
}
