/* SPDX-License-Identifier: MIT
 * tools/demi/net/lwip.c - lwIP as a contender: two copies of the module demi-bench-lwip.so, over
 * the raw slots of the same ring.
 *
 * A copy is loaded for each end and each world, for lwIP cannot be ended; there are as many
 * namespaces as the dynamic linker has (16 with glibc). Worlds are kept and opened again.
 */
#include "../tool.h"
#include "contender.h"
#include "lwip_end.h"
#include "netdev/ring/ring.h"

#include <dlfcn.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_HOST 0x0a000001U /* 10.0.0.1 */
#define TURNS_MAX  100000      /* in which a handshake or a request must be done */
#define STALL_MS   10000
#define CHUNK      65535
#define WORLDS_MAX 2 /* at one time */

enum { SERVER, CLIENT };

/* The copies of the module, two a world; the linker's, so they stay until the process ends. */
static struct copies {
	const struct lwip_end *ends[2];
	bool taken;
} copies[WORLDS_MAX];

struct world {
	struct copies *copies;
	const struct lwip_end *ends[2];
	struct netdev *devices[2];
	unsigned active;
	uint64_t sent; /* requests */
	double idle_bytes;
};

static bool complain(const char *what, const char *why)
{
	tool_complain("lwip: %s: %s", what, why);
	return false;
}

/* ---- the module ---- */

static const struct lwip_end *load_end(void)
{
	char path[PATH_MAX + 64];
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length < 0)
		return NULL;
	self[length] = '\0';
	snprintf(path, sizeof(path), "%s/" DEMI_LWIP, dirname(self));
	void *module = dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL);
	const struct lwip_end *end = module ? dlsym(module, LWIP_END_SYMBOL) : NULL;
	if (!end)
		complain("loading", dlerror());
	return end;
}

static struct copies *take_copies(void)
{
	for (struct copies *c = copies; c < copies + WORLDS_MAX; c++) {
		if (c->taken)
			continue;
		for (int i = 0; i < 2; i++) {
			if (!c->ends[i])
				c->ends[i] = load_end();
			if (!c->ends[i])
				return NULL;
		}
		c->taken = true;
		return c;
	}
	complain("loading", "too many worlds");
	return NULL;
}

const char *lwip_options(void)
{
	struct copies *c = take_copies();

	if (!c)
		return NULL;
	c->taken = false;
	return c->ends[0]->options();
}

/* ---- connections ---- */

static int wire_put(void *end, const struct iovec *iov, uint32_t n)
{
	return ring_put(end, iov, n);
}

static bool wire_get(void *end, const void **bytes_out, uint32_t *length_out)
{
	return ring_get(end, bytes_out, length_out);
}

static void wire_done(void *end)
{
	ring_done(end);
}

static bool open_ends(struct world *world, const struct net_spec *spec)
{
	int err = ring_pair(spec->mtu, NET_RING_SLOTS, world->devices);

	if (err)
		return complain("ring", strerror(-err));
	for (int i = 0; i < 2; i++) {
		struct lwip_wire wire = {
			.end = world->devices[i],
			.put = wire_put,
			.get = wire_get,
			.done = wire_done,
			.mtu = spec->mtu,
			.address = FIRST_HOST + (uint32_t)i,
		};
		memcpy(wire.mac, world->devices[i]->mac, sizeof(wire.mac));
		if (world->ends[i]->open(&wire))
			return complain("opening", "refused");
	}
	return world->ends[SERVER]->listen(NET_PORT, !spec->bulk) == 0 ||
	       complain("listening", "refused");
}

static bool connect_burst(struct world *world, unsigned count)
{
	unsigned wanted = world->ends[CLIENT]->connected() + count;

	if (world->ends[CLIENT]->connect(FIRST_HOST, NET_PORT, count))
		return complain("connecting", "refused");
	for (unsigned i = 0; i < TURNS_MAX; i++) {
		for (int end = SERVER; end <= CLIENT; end++)
			(void)world->ends[end]->poll(NET_BURST);
		if (world->ends[CLIENT]->connected() == wanted &&
		    world->ends[SERVER]->connected() == wanted)
			return true;
	}
	return complain("connecting", "no answer");
}

static bool connect_all(struct world *world, unsigned count)
{
	for (unsigned made = 0; made < count;) {
		unsigned burst = count - made < NET_BURST ? count - made : NET_BURST;

		if (world->ends[CLIENT]->connected() == 0)
			burst = 1; /* few frames may wait for a neighbour's address */
		if (!connect_burst(world, burst))
			return false;
		made += burst;
	}
	return true;
}

static uint64_t allocated(const struct world *world)
{
	return world->ends[SERVER]->allocated() + world->ends[CLIENT]->allocated();
}

static bool connect_idle(struct world *world, unsigned idle)
{
	uint64_t before = allocated(world);

	if (idle == 0)
		return true;
	if (!connect_all(world, idle))
		return false;
	world->idle_bytes = ((double)allocated(world) - (double)before) / (2.0 * (double)idle);
	return true;
}

static void world_close(void *arg)
{
	struct world *world = arg;

	for (int i = 0; i < 2; i++) {
		if (!world->devices[i])
			continue;
		world->ends[i]->close();
		world->devices[i]->ops->close(world->devices[i]);
	}
	world->copies->taken = false;
	free(world);
}

static void *world_open(const struct net_spec *spec)
{
	struct copies *c = take_copies();
	struct world *world = tool_alloc(1, sizeof(*world));

	if (!c) {
		free(world);
		return NULL;
	}
	world->copies = c;
	memcpy(world->ends, c->ends, sizeof(world->ends));
	world->active = spec->active;
	if (open_ends(world, spec) && connect_all(world, spec->active) &&
	    connect_idle(world, spec->idle))
		return world;
	world_close(world);
	return NULL;
}

static void settle(void *arg, uint64_t ns)
{
	const struct world *world = arg;
	uint64_t end_ns = clock_now_ns() + ns;

	while (clock_now_ns() < end_ns) {
		for (int end = SERVER; end <= CLIENT; end++)
			(void)world->ends[end]->poll(NET_BURST);
	}
}

static double idle_bytes(const void *arg)
{
	const struct world *world = arg;

	return world->idle_bytes;
}

/* ---- requests and bulk ---- */

static bool take_answers(struct world *world)
{
	for (unsigned i = 0; i < TURNS_MAX; i++) {
		(void)world->ends[SERVER]->poll(NET_BURST);
		(void)world->ends[CLIENT]->poll(NET_BURST);
		if (world->ends[CLIENT]->answers() == world->sent)
			return true;
	}
	return complain("a request", "no answer");
}

static bool request(void *arg, uint64_t count)
{
	struct world *world = arg;
	uint64_t burst = world->active < NET_BURST ? world->active : NET_BURST;

	for (uint64_t done = 0; done < count; done += burst) {
		uint64_t n = count - done < burst ? count - done : burst;

		world->sent += n;
		if (world->ends[CLIENT]->request(world->active, (unsigned)n, NET_REQUEST_BYTES))
			return complain("a request", "refused");
		if (!take_answers(world))
			return false;
	}
	return true;
}

/* One round of a bulk transfer: the client fills, each end takes in what is there. */
static bool bulk_round(struct world *world, uint64_t *left)
{
	uint32_t sent =
		world->ends[CLIENT]->fill(*left < CHUNK ? (uint32_t)*left : (uint32_t)CHUNK);
	unsigned frames = 0;

	*left -= sent;
	for (int end = SERVER; end <= CLIENT; end++)
		frames += world->ends[end]->poll(NET_BURST);
	return sent > 0 || frames > 0;
}

static bool bulk(void *arg, uint64_t bytes)
{
	struct world *world = arg;
	uint64_t goal = world->ends[SERVER]->received() + bytes;
	uint64_t left = bytes;
	uint64_t since_ns = 0;

	while (world->ends[SERVER]->received() < goal) {
		if (bulk_round(world, &left)) {
			since_ns = 0;
			continue;
		}
		if (since_ns == 0)
			since_ns = clock_now_ns();
		if (clock_now_ns() - since_ns > STALL_MS * NS_PER_MS)
			return complain("bulk", "nothing moves");
	}
	return true;
}

const struct contender contender_lwip = {
	.name = "lwip",
	.open = world_open,
	.request = request,
	.bulk = bulk,
	.settle = settle,
	.idle_bytes = idle_bytes,
	.close = world_close,
};
