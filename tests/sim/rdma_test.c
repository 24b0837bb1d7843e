/* SPDX-License-Identifier: MIT
 * tests/sim/rdma_test.c - whole instances of catmint on devices with delays and errors, in virtual
 * time: what pops is what was pushed, in order, without a gap; everything ends; nothing is left.
 * And an end of each kind in each step of a connection's life.
 */
#include "support/mint.h"

#include "support/seed.h"

#include "base/prng.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PORT 7000

/* ---- one direction of a connection ---- */

#define FLOW_MAX    200
#define FLOW_PUSHES 48

struct flow {
	struct mint_host *from;
	struct mint_host *to;
	int from_qd; /* -1: closed */
	int to_qd;
	uint32_t lengths[FLOW_MAX];
	uint32_t pushed;
	uint32_t popped;
	uint32_t acknowledged;          /* pushes that completed */
	demi_qtoken_t pushes[FLOW_MAX]; /* 0: redeemed */
	demi_qtoken_t pop;              /* 0: none */
	bool shut;
	bool ended;            /* an end was popped */
	int error;             /* or this */
	bool failed[FLOW_MAX]; /* its push said so: it does not arrive */
	bool push_failed;      /* and no later one will do */
};

static uint32_t draw_length(struct prng *prng)
{
	static const uint32_t tops[] = {2, 100, 256, 1000, 5000, 20000, 300000};

	return (uint32_t)prng_below(prng, tops[prng_below(prng, sizeof(tops) / sizeof(tops[0]))]);
}

static void flow_push(struct flow *flow, struct prng *prng)
{
	uint32_t n = flow->pushed;

	if (flow->from_qd < 0 || flow->shut || flow->push_failed || n == FLOW_MAX ||
	    n - flow->acknowledged >= FLOW_PUSHES)
		return;
	flow->lengths[n] = draw_length(prng);
	demi_sgarray_t sga = mint_array(flow->from, flow->lengths[n], (uint8_t)n);
	int err = demi_push(&flow->pushes[n], flow->from_qd, &sga);
	mint_free(flow->from, &sga);
	if (err) {
		assert_true(err == ECONNRESET || err == ETIMEDOUT || err == EIO || err == ENOMEM ||
			    err == ENODEV || err == ENOTCONN);
		flow->push_failed = err != ENOMEM;
		return;
	}
	flow->pushed++;
}

static void flow_pop(struct flow *flow)
{
	if (flow->to_qd < 0 || flow->pop || flow->ended || flow->error)
		return;
	flow->pop = mint_pop(flow->to, flow->to_qd);
}

static void pass_failed(struct flow *flow)
{
	while (flow->popped < flow->pushed && flow->failed[flow->popped])
		flow->popped++;
}

static void popped(struct flow *flow, demi_qresult_t *result)
{
	demi_sgarray_t *sga = &result->qr_value.sga;

	flow->pop = 0;
	if (result->qr_ret == ENOMEM)
		return;
	if (result->qr_ret != 0) {
		flow->error = (int)result->qr_ret;
		return;
	}
	if (sga->sga_segs[0].sgaseg_buf == NULL) {
		flow->ended = true;
		pass_failed(flow);
		return;
	}
	pass_failed(flow);
	assert_true(flow->popped < flow->pushed);
	assert_true(mint_holds(sga, flow->lengths[flow->popped], (uint8_t)flow->popped));
	flow->popped++;
	mint_free(flow->to, sga);
}

/* Takes whatever is complete. */
static bool flow_look(struct flow *flow)
{
	demi_qresult_t result;
	bool took = false;

	for (uint32_t n = flow->acknowledged; n < flow->pushed && flow->from->demi; n++) {
		if (!flow->pushes[n] || !mint_try(flow->from, flow->pushes[n], &result))
			break;
		flow->pushes[n] = 0;
		flow->acknowledged++;
		took = true;
		if (result.qr_ret == 0)
			continue;
		flow->failed[n] = true;
		flow->push_failed |= result.qr_ret != ENOMEM;
	}
	if (flow->pop && flow->to->demi && mint_try(flow->to, flow->pop, &result)) {
		popped(flow, &result);
		took = true;
	}
	return took;
}

static void flow_close(struct flow *flow, struct flow *back, bool from_end)
{
	int *qd = from_end ? &flow->from_qd : &flow->to_qd;
	int *other = from_end ? &back->to_qd : &back->from_qd;

	if (*qd < 0)
		return;
	mint_close_qd(from_end ? flow->from : flow->to, *qd);
	*qd = -1;
	*other = -1;
}

/* ---- random worlds ---- */

#define PAIRS 3

struct sim {
	struct mint mint;
	struct prng prng;
	struct mint_host *hosts[2];
	struct flow flows[2 * PAIRS];
	bool broken; /* something was made to fail: streams may end with an error */
};

static void draw_config(struct prng *prng, struct config *config)
{
	static const int64_t buffers[] = {512, 1024, 4096, 16384};
	static const int64_t depths[] = {16, 32, 64};

	mint_config(config);
	config->rdma_buffer_bytes = buffers[prng_below(prng, 4)];
	config->rdma_send_depth = depths[prng_below(prng, 3)];
	config->rdma_credits = 2 + (int64_t)prng_below(prng, 30);
	config->rdma_message_max_bytes = 300000;
	config->rdma_receive_buffers = 64 + (int64_t)prng_below(prng, 400);
}

static void open_sim(struct sim *sim, uint64_t seed)
{
	struct fabric_options options = {.seed = seed};
	struct config config;

	memset(sim, 0, sizeof(*sim));
	prng_seed(&sim->prng, seed);
	options.delay_ns = 200 + prng_below(&sim->prng, 20 * FABRIC_US);
	options.jitter_ns = prng_below(&sim->prng, 10 * FABRIC_US);
	mint_open(&sim->mint, &options);
	for (uint32_t i = 0; i < 2; i++) {
		draw_config(&sim->prng, &config);
		sim->hosts[i] = mint_add(&sim->mint, &config);
		struct fabric_limits *limits = fabric_limits(sim->hosts[i]->device);
		if (prng_below(&sim->prng, 3) == 0)
			limits->max_inline = (uint32_t)prng_below(&sim->prng, 300);
		if (prng_below(&sim->prng, 3) == 0)
			limits->attr.device_cap_flags &=
				~(unsigned int)(IBV_DEVICE_MEM_WINDOW_TYPE_2A |
						IBV_DEVICE_MEM_WINDOW_TYPE_2B);
		limits->keeps_completions = prng_below(&sim->prng, 2);
	}
	fabric_chance(sim->mint.fabric)->late_rtu = (uint32_t)prng_below(&sim->prng, 2) * 500000U;
}

static void connect_pairs(struct sim *sim)
{
	for (uint32_t i = 0; i < PAIRS; i++) {
		struct flow *there = &sim->flows[2 * i];
		struct flow *back = &sim->flows[2 * i + 1];
		struct mint_host *client = sim->hosts[i % 2];
		struct mint_host *server = sim->hosts[1 - i % 2];
		there->from = back->to = client;
		there->to = back->from = server;
		mint_pair(client, server, (uint16_t)(PORT + i), &there->from_qd, &there->to_qd);
		back->to_qd = there->from_qd;
		back->from_qd = there->to_qd;
	}
}

static void act(struct sim *sim)
{
	uint32_t i = (uint32_t)prng_below(&sim->prng, (uint64_t)2 * PAIRS);
	struct flow *flow = &sim->flows[i];

	switch (prng_below(&sim->prng, 8)) {
	case 0:
	case 1:
	case 2:
		flow_push(flow, &sim->prng);
		break;
	case 3:
	case 4:
		flow_pop(flow);
		break;
	case 5:
		for (uint32_t n = 0; n < 20; n++)
			flow_push(flow, &sim->prng);
		break;
	case 6:
		mint_run(&sim->mint);
		break;
	default:
		(void)mint_step(&sim->mint);
	}
	for (uint32_t f = 0; f < 2 * PAIRS; f++)
		(void)flow_look(&sim->flows[f]);
}

/* Ends every direction, and pops all that is there. */
static void finish(struct sim *sim)
{
	uint64_t until = fabric_now(sim->mint.fabric) + 30 * FABRIC_S;
	bool all = false;

	for (uint32_t f = 0; f < 2 * PAIRS; f++) {
		struct flow *flow = &sim->flows[f];
		if (flow->from_qd < 0)
			continue;
		mint_enter(flow->from);
		assert_int_equal(demi_shutdown(flow->from_qd, SHUT_WR), 0);
		flow->shut = true;
	}
	while (!all) {
		bool took = false;
		all = true;
		for (uint32_t f = 0; f < 2 * PAIRS; f++) {
			struct flow *flow = &sim->flows[f];
			flow_pop(flow);
			took |= flow_look(flow);
			all &= flow->to_qd < 0 || flow->ended || flow->error;
		}
		if (!all && !took) {
			(void)mint_step(&sim->mint);
			assert_true(fabric_now(sim->mint.fabric) < until);
		}
	}
}

static void judge(const struct sim *sim)
{
	for (uint32_t f = 0; f < 2 * PAIRS; f++) {
		const struct flow *flow = &sim->flows[f];
		if (!sim->broken) {
			assert_false(flow->error);
			assert_false(flow->push_failed);
			assert_true(flow->to_qd < 0 || flow->popped == flow->pushed);
		} else if (flow->ended && flow->to_qd >= 0 && !flow->push_failed) {
			/* an end in good order means that nothing is missing */
			assert_int_equal(flow->popped, flow->pushed);
		}
	}
}

static void close_sim(struct sim *sim)
{
	for (uint32_t f = 0; f < 2 * PAIRS; f += 2) {
		flow_close(&sim->flows[f], &sim->flows[f + 1], true);
		flow_close(&sim->flows[f], &sim->flows[f + 1], false);
	}
	mint_pass(&sim->mint, 100 * FABRIC_S);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(sim->hosts[i]->engine->num_lingering, 0);
		assert_int_equal(fabric_counts(sim->hosts[i]->device)->rnr, 0);
		assert_int_equal(fabric_open_bytes(sim->hosts[i]->device, IBV_ACCESS_REMOTE_READ),
				 0);
	}
	mint_close(&sim->mint);
}

static uint64_t run_calm(uint64_t seed)
{
	struct sim sim;

	open_sim(&sim, seed);
	connect_pairs(&sim);
	for (uint32_t n = 0; n < 1500; n++)
		act(&sim);
	finish(&sim);
	judge(&sim);
	uint64_t hash = fabric_hash(sim.mint.fabric);
	close_sim(&sim);
	return hash;
}

/* The same, and something breaks in the middle. */
static void break_something(struct sim *sim)
{
	struct fabric_chance *chance = fabric_chance(sim->mint.fabric);
	uint32_t i = (uint32_t)prng_below(&sim->prng, PAIRS) * 2;

	sim->broken = true;
	switch (prng_below(&sim->prng, 8)) {
	case 0:
		chance->fail_post = 20000;
		break;
	case 1:
		chance->fail_work = 20000;
		break;
	case 2:
		fabric_cut(sim->hosts[0]->device, sim->hosts[1]->device, true);
		break;
	case 3:
		flow_close(&sim->flows[i], &sim->flows[i + 1], true);
		break;
	case 4:
		flow_close(&sim->flows[i], &sim->flows[i + 1], false);
		break;
	case 5:
		fabric_remove(sim->hosts[prng_below(&sim->prng, 2)]->device);
		break;
	case 6:
		chance->fail_call = 300000;
		chance->delivered = 500000;
		flow_close(&sim->flows[i], &sim->flows[i + 1], true);
		break;
	default: {
		struct list *conns = &sim->hosts[0]->engine->conns;
		struct rdma_conn *conn = container_of(conns->next, struct rdma_conn, in_engine);
		if (!list_empty(conns) && conn->qp)
			fabric_break_qp(conn->qp);
	}
	}
}

static uint64_t run_broken(uint64_t seed)
{
	struct sim sim;

	open_sim(&sim, seed);
	connect_pairs(&sim);
	uint64_t when = prng_below(&sim.prng, 600);
	for (uint32_t n = 0; n < 700; n++) {
		if (n == when)
			break_something(&sim);
		act(&sim);
	}
	struct fabric_chance *chance = fabric_chance(sim.mint.fabric);
	chance->fail_post = 0;
	chance->fail_work = 0;
	chance->fail_call = 0;
	finish(&sim);
	judge(&sim);
	uint64_t hash = fabric_hash(sim.mint.fabric);
	close_sim(&sim);
	return hash;
}

static void run_seeds(uint64_t (*run)(uint64_t seed), uint64_t first, uint32_t count)
{
	uint64_t base = test_seed(first);

	for (uint32_t i = 0; i < test_share(count); i++) {
		(void)printf("# seed %" PRIu64 "\n", base + i);
		(void)fflush(stdout);
		uint64_t hash = run(base + i);
		if (i == 0)
			assert_true(run(base) == hash);
	}
}

static void test_calm(void **state)
{
	(void)state;
	run_seeds(run_calm, 1000, test_number("RDMA_SEEDS", 6));
}

static void test_broken(void **state)
{
	(void)state;
	run_seeds(run_broken, 5000, test_number("RDMA_SEEDS", 20));
}

/* ---- an end in each step ---- */

enum ending {
	CLOSE_CLIENT,
	CLOSE_SERVER,
	END_CLIENT,
	END_SERVER,
	KILL_SERVER,
	CUT,
	REMOVE_CLIENT,
	REMOVE_SERVER,
	ENDINGS,
};

struct life {
	struct mint mint;
	struct mint_host *client;
	struct mint_host *server;
	int listener;
	int client_qd;
	int server_qd; /* -1: not accepted */
	demi_qtoken_t connecting;
	demi_qtoken_t accepting;
	demi_qtoken_t pop[2];
	bool connected;
	uint32_t at;
};

static void life_open(struct life *life)
{
	static const struct fabric_options options = {.seed = 3, .jitter_ns = 300};

	memset(life, 0, sizeof(*life));
	mint_open(&life->mint, &options);
	life->client = mint_add(&life->mint, NULL);
	life->server = mint_add(&life->mint, NULL);
	life->listener = mint_listener(life->server, PORT, 4);
	life->accepting = mint_accept(life->server, life->listener);
	life->client_qd = mint_socket(life->client);
	life->server_qd = -1;
	life->connecting = mint_connect(life->client, life->client_qd, life->server, PORT);
}

static void push_some(struct mint_host *host, int qd, uint32_t bytes)
{
	demi_sgarray_t sga = mint_array(host, bytes, 1);
	demi_qtoken_t qt;

	(void)demi_push(&qt, qd, &sga);
	mint_free(host, &sga);
}

static void take_pop(struct mint_host *host, int qd, demi_qtoken_t *pop)
{
	demi_qresult_t result;

	if (!host->demi || !*pop || !mint_try(host, *pop, &result))
		return;
	*pop = 0;
	if (result.qr_ret != 0 || result.qr_value.sga.sga_segs[0].sgaseg_buf == NULL)
		return;
	mint_free(host, &result.qr_value.sga);
	if (demi_pop(pop, qd))
		*pop = 0;
}

/* What the applications do after each step. */
static void life_go_on(struct life *life)
{
	demi_qresult_t result;

	if (!life->connected && life->client->demi && life->client_qd >= 0 &&
	    mint_try(life->client, life->connecting, &result)) {
		life->connected = true;
		for (uint32_t i = 0; result.qr_ret == 0 && i < 20; i++)
			push_some(life->client, life->client_qd,
				  i % 4 == 3 ? 20000 : 300 * (i % 4));
		if (result.qr_ret == 0)
			life->pop[0] = mint_pop(life->client, life->client_qd);
	}
	if (life->accepting && life->server->demi && life->server_qd == -1 &&
	    mint_try(life->server, life->accepting, &result)) {
		life->accepting = 0;
		if (result.qr_ret == 0) {
			life->server_qd = result.qr_value.ares.qd;
			push_some(life->server, life->server_qd, 50000);
			push_some(life->server, life->server_qd, 5);
			life->pop[1] = mint_pop(life->server, life->server_qd);
		}
	}
	if (life->client_qd >= 0)
		take_pop(life->client, life->client_qd, &life->pop[0]);
	if (life->server_qd >= 0)
		take_pop(life->server, life->server_qd, &life->pop[1]);
}

static void life_end(struct life *life, enum ending ending)
{
	switch (ending) {
	case CLOSE_CLIENT:
		mint_close_qd(life->client, life->client_qd);
		life->client_qd = -1;
		break;
	case CLOSE_SERVER:
		if (life->server_qd >= 0)
			mint_close_qd(life->server, life->server_qd);
		life->server_qd = life->server_qd >= 0 ? -2 : -1;
		mint_close_qd(life->server, life->listener);
		life->listener = -1;
		break;
	case END_CLIENT:
		mint_end(life->client);
		break;
	case END_SERVER:
		mint_end(life->server);
		break;
	case KILL_SERVER:
		fabric_kill(life->server->device);
		break;
	case CUT:
		fabric_cut(life->client->device, life->server->device, true);
		break;
	case REMOVE_CLIENT:
		fabric_remove(life->client->device);
		break;
	default:
		fabric_remove(life->server->device);
	}
}

/* Lives so many steps, ends, and the rest ends in good order. */
static bool live(uint32_t steps, enum ending ending)
{
	struct life life;
	bool more = true;

	life_open(&life);
	for (uint32_t i = 0; more && i < steps; i++) {
		more = mint_step(&life.mint);
		life_go_on(&life);
	}
	life_end(&life, ending);
	for (uint32_t i = 0; i < 200; i++) {
		mint_pass(&life.mint, 500 * FABRIC_US);
		life_go_on(&life);
	}
	mint_pass(&life.mint, 20 * FABRIC_S);
	life_go_on(&life);
	if (life.client->demi && life.client_qd >= 0)
		mint_close_qd(life.client, life.client_qd);
	if (life.server->demi && life.server_qd >= 0)
		mint_close_qd(life.server, life.server_qd);
	if (life.server->demi && life.listener >= 0)
		mint_close_qd(life.server, life.listener);
	mint_pass(&life.mint, 100 * FABRIC_S);
	if (life.client->demi)
		assert_int_equal(life.client->engine->num_lingering, 0);
	mint_close(&life.mint);
	return more;
}

static void test_ends(void **state)
{
	(void)state;
	for (enum ending ending = 0; ending < ENDINGS; ending++) {
		uint32_t steps = 0;
		while (steps < 100 && live(steps, ending))
			steps += test_sanitized() ? 7 : 2;
		(void)printf("# ending %u: %u steps\n", ending, steps);
		assert_true(steps > 20);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calm),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_ends),
	};

	return test_run("rdma_sim", tests);
}
