/* SPDX-License-Identifier: MIT
 * tools/demi/net/demitasse.c - our own stack in `demi bench net`.
 *
 * A request: the client allocates, fills and pushes 64 bytes, pops; the server pushes what it
 * popped back, frees it and pops again; the client checks and frees the answer. A burst of requests
 * leaves before the first result is asked for, and both ends take their results in bursts
 * (demi_wait_next_n), the tokens of pushes too: so all that is timed besides the stack is what an
 * application has to do, and two calls of demi_enter for each burst and end.
 */
#include "../tool.h"
#include "contender.h"
#include "pair.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/sga.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_TURNS  4096 /* turns without a result between two looks at the clock */
#define REQUEST_NS  1000 /* of made-up time */
#define BULK_BYTES  65536
#define BULK_PUSHES 8
#define BULK_POPS   32
#define STALL_MS    10000

struct world {
	struct pair pair;
	int *qds; /* of the client's active connections */
	unsigned active, next;
	uint32_t sent;
	double idle_bytes;
	int pushes; /* bulk: outstanding */
	unsigned pops;
	uint64_t now_ns;   /* made up; 0: real time */
	uint64_t since_ns; /* nothing has come; 0: not noted yet */
	demi_sgarray_t chunk;
};

/* What is sent, and comes back. */
struct message {
	int32_t qd;
	uint32_t number;
	char fill[NET_REQUEST_BYTES - 8];
};

static_assert(sizeof(struct message) == NET_REQUEST_BYTES, "the messages of the benchmark");

static bool complain(const char *what, int error)
{
	tool_complain("demitasse: %s: %s", what, strerror(error));
	return false;
}

/* Nothing came: has that been so for long? */
static bool stalled(uint64_t *since_ns)
{
	uint64_t now_ns = clock_now_ns();

	if (*since_ns == 0)
		*since_ns = now_ns;
	return now_ns - *since_ns > STALL_MS * NS_PER_MS;
}

/* ---- connections ---- */

static bool connect_idle(struct world *world, unsigned idle)
{
	int *none[2] = {NULL, NULL};
	uint64_t before = pair_memory(&world->pair);

	if (idle == 0)
		return true;
	if (!pair_connect(&world->pair, idle, none))
		return false;
	world->idle_bytes =
		((double)pair_memory(&world->pair) - (double)before) / (2.0 * (double)idle);
	return true;
}

static void world_close(void *arg)
{
	struct world *world = arg;

	if (world->pair.ends[CLIENT] && world->chunk.sga_numsegs > 0) {
		pair_enter(&world->pair, CLIENT);
		demi_sgafree(&world->chunk);
	}
	pair_close(&world->pair);
	free(world->qds);
	free(world);
}

static uint64_t time_of(void *arg)
{
	const struct world *world = arg;

	return world->now_ns ? world->now_ns : clock_now_ns();
}

static void *world_open(const struct net_spec *spec)
{
	struct world *world = tool_alloc(1, sizeof(*world));

	world->active = spec->active;
	world->now_ns = spec->made_up_time ? clock_now_ns() : 0;
	world->qds = tool_alloc(spec->active, sizeof(*world->qds));
	if (!pair_open(&world->pair, spec->mtu, time_of, world)) {
		free(world->qds);
		free(world);
		return NULL;
	}
	int *qds[2] = {NULL, world->qds};
	if (pair_connect(&world->pair, spec->active, qds) && connect_idle(world, spec->idle))
		return world;
	world_close(world);
	return NULL;
}

static void settle(void *arg, uint64_t ns)
{
	const struct world *world = arg;
	uint64_t end_ns = clock_now_ns() + ns;
	demi_qresult_t none;

	while (clock_now_ns() < end_ns) {
		for (int end = SERVER; end <= CLIENT; end++) {
			pair_enter(&world->pair, end);
			(void)pair_results(&none, 1);
		}
	}
}

static double idle_bytes(const void *arg)
{
	const struct world *world = arg;

	return world->idle_bytes;
}

/* ---- requests ---- */

static bool send_burst(struct world *world, int count)
{
	demi_qresult_t results[NET_BURST];
	struct message message = {.number = world->sent};
	demi_qtoken_t token;

	pair_enter(&world->pair, CLIENT);
	for (int i = 0; i < count; i++) {
		message.qd = world->qds[world->next];
		message.number = world->sent++;
		world->next = world->next + 1 == world->active ? 0 : world->next + 1;
		if (!pair_push(message.qd, &message, sizeof(message)))
			return false;
		int error = demi_pop(&token, message.qd);
		if (error)
			return complain("demi_pop", error);
	}
	return pair_results(results, count) == count || complain("pushing", ETIMEDOUT);
}

static bool echo(demi_qresult_t *result)
{
	demi_qtoken_t token;
	int error = demi_push(&token, result->qr_qd, &result->qr_value.sga);

	demi_sgafree(&result->qr_value.sga);
	if (!error)
		error = demi_pop(&token, result->qr_qd);
	return !error || complain("echo", error);
}

static bool check(const struct world *world, demi_qresult_t *result)
{
	const demi_sgaseg_t *segment = &result->qr_value.sga.sga_segs[0];
	struct message message = {0};
	bool good =
		result->qr_value.sga.sga_numsegs == 1 && segment->sgaseg_len == NET_REQUEST_BYTES;

	if (good)
		memcpy(&message, segment->sgaseg_buf, 8);
	demi_sgafree(&result->qr_value.sga);
	if (good && message.qd == result->qr_qd && world->sent - message.number <= NET_BURST)
		return true;
	tool_complain("demitasse: a wrong answer");
	return false;
}

/* Nothing comes: has that been so for long? The other end gets a turn, for it may have to send
 * something again. */
static bool keep_waiting(struct world *world, int end, uint64_t *turns)
{
	demi_qresult_t none;

	if (++*turns % LOOK_TURNS == 0 && stalled(&world->since_ns))
		return complain("a request", ETIMEDOUT);
	pair_enter(&world->pair, !end);
	if (pair_results(&none, 1) != 0)
		return complain("a result", EBUSY);
	pair_enter(&world->pair, end);
	return true;
}

/* Takes in a burst at one end, in as many turns as it takes.  The server's pushes have results,
 * too: asking for them puts the answers out. */
static bool take_burst(struct world *world, int end, int count)
{
	demi_qresult_t results[NET_BURST];
	uint64_t turns = 0;
	int pops = count;
	int pushes = end == SERVER ? count : 0;

	pair_enter(&world->pair, end);
	world->since_ns = 0;
	while (pops > 0 || pushes > 0) {
		int n = pair_results(results, pops > 0 ? pops : pushes);
		if (n < 0 || (n == 0 && !keep_waiting(world, end, &turns)))
			return false;
		for (int i = 0; i < n; i++) {
			if (results[i].qr_opcode == DEMI_OPC_PUSH) {
				pushes--;
				continue;
			}
			if (!(end == SERVER ? echo(&results[i]) : check(world, &results[i])))
				return false;
			pops--;
		}
	}
	return true;
}

static bool request(void *arg, uint64_t count)
{
	struct world *world = arg;
	uint64_t burst = world->active < NET_BURST ? world->active : NET_BURST;

	for (uint64_t done = 0; done < count; done += burst) {
		int n = (int)(count - done < burst ? count - done : burst);

		if (world->now_ns)
			world->now_ns += (uint64_t)n * REQUEST_NS;
		if (!send_burst(world, n) || !take_burst(world, SERVER, n) ||
		    !take_burst(world, CLIENT, n))
			return false;
	}
	return true;
}

/* ---- bulk ---- */

/* Keeps pushes outstanding while *left bytes are to be sent; one buffer serves them all. */
static bool bulk_send(struct world *world, uint64_t *left)
{
	demi_qresult_t results[BULK_PUSHES + 1];
	demi_qtoken_t token;

	pair_enter(&world->pair, CLIENT);
	if (world->chunk.sga_numsegs == 0) {
		world->chunk = demi_sgaalloc(BULK_BYTES);
		if (world->chunk.sga_numsegs == 0)
			return complain("demi_sgaalloc", ENOMEM);
		memset(world->chunk.sga_segs[0].sgaseg_buf, 'd', BULK_BYTES);
	}
	for (; world->pushes<BULK_PUSHES && * left> 0; world->pushes++) {
		uint32_t bytes = *left < BULK_BYTES ? (uint32_t)*left : BULK_BYTES;
		demi_sgarray_t sga = world->chunk;

		sga.sga_segs[0].sgaseg_len = bytes;
		int error = demi_push(&token, world->qds[0], &sga);
		if (error)
			return complain("demi_push", error);
		*left -= bytes;
	}
	/* One more than there are: so there is a turn in any case. */
	int n = pair_results(results, BULK_PUSHES + 1);
	world->pushes -= n;
	return n >= 0;
}

static bool bulk_take(demi_qresult_t *results, int n, uint64_t *taken)
{
	demi_qtoken_t token;

	for (int i = 0; i < n; i++) {
		demi_sgarray_t *sga = &results[i].qr_value.sga;

		for (uint32_t j = 0; j < sga->sga_numsegs; j++)
			*taken += sga->sga_segs[j].sgaseg_len;
		demi_sgafree(sga);
		int error = demi_pop(&token, results[i].qr_qd);
		if (error)
			return complain("demi_pop", error);
	}
	return true;
}

/* More pops than the first turn of a connection left outstanding. */
static bool bulk_pops(struct world *world, int qd)
{
	demi_qtoken_t token;

	for (; world->pops < BULK_POPS - 1; world->pops++) {
		int error = demi_pop(&token, qd);
		if (error)
			return complain("demi_pop", error);
	}
	return true;
}

/* Takes in what has come until a turn brings nothing. */
static bool bulk_receive(struct world *world, uint64_t *taken)
{
	demi_qresult_t results[BULK_POPS];
	int n;

	pair_enter(&world->pair, SERVER);
	do {
		n = pair_results(results, BULK_POPS);
		if (n < 0 || !bulk_take(results, n, taken) ||
		    (n > 0 && !bulk_pops(world, results[0].qr_qd)))
			return false;
	} while (n > 0);
	return true;
}

static bool bulk(void *arg, uint64_t bytes)
{
	struct world *world = arg;
	uint64_t left = bytes;
	uint64_t taken = 0;
	uint64_t since_ns = 0;

	while (taken < bytes) {
		uint64_t before = taken;

		if (!bulk_send(world, &left) || !bulk_receive(world, &taken))
			return false;
		if (taken > before)
			since_ns = 0;
		else if (stalled(&since_ns))
			return complain("bulk", ETIMEDOUT);
	}
	return true;
}

const struct contender contender_demitasse = {
	.name = "demitasse",
	.open = world_open,
	.request = request,
	.bulk = bulk,
	.settle = settle,
	.idle_bytes = idle_bytes,
	.close = world_close,
};
