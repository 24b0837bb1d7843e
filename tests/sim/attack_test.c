/* SPDX-License-Identifier: MIT
 * tests/sim/attack_test.c - six blind attackers at once, while data goes both ways over a
 * connection.  They see nothing of it; they know its addresses and ports and send from either end's
 * name: resets, SYNs, data, ACKs, FINs, ICMP errors, at random numbers, in sweeps from window to
 * window, and, which no blind attacker could for long, at numbers inside the windows but for what
 * would be a hit.  RFC 5961, RFC 5927.
 *
 * The transfer completes, byte by byte; the answers that attackers can provoke are bounded; nothing
 * is left in the end.  Attack rows 8, 18 to 22.
 */
#include "sim/forge.h"
#include "sim/inet.h"

#include "net/tcp/tcp.h"
#include "net/wire/icmp.h"
#include "support/seed.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define PORT      80
#define ATTACKERS 6
#define BYTES     1000000 /* each way */
#define PIECE     20000
#define TICK_NS   (2 * WORLD_MS)
#define LIMIT_NS  (60 * WORLD_S)
#define BUFFER    65536 /* at most: that a random segment is a hit has a chance of 2^-32 */

struct attack;

struct end {
	struct attack *attack;
	struct host *host;
	int qd;
	uint64_t stream;
	bool sent;
	uint64_t received;
	bool ended;
};

struct attack {
	struct world world;
	struct end ends[2]; /* client, server */
	int listener;
	struct host *attackers[ATTACKERS];
	uint16_t client_port;
	uint32_t sweep;
	bool on;
	uint64_t begin_ns;
	uint64_t forged;
	uint32_t done; /* coroutines */
};

/* ---- attackers ---- */

static uint32_t any_number(struct world *world)
{
	return (uint32_t)world_below(world, 1ULL << 32);
}

/* From one end's name to the other. */
static void aim(struct attack *attack, uint32_t to, struct forged *forged)
{
	const struct end *victim = &attack->ends[to];
	const struct end *name = &attack->ends[1 - to];

	*forged = (struct forged){
		.to_host = victim->host,
		.from = forge_host_address(name->host->index),
		.to = forge_host_address(victim->host->index),
		.h = {.source = to == 0 ? PORT : attack->client_port,
		      .destination = to == 0 ? attack->client_port : PORT,
		      .seq = any_number(&attack->world),
		      .ack = any_number(&attack->world),
		      .window = (uint16_t)any_number(&attack->world)},
	};
	attack->forged++;
}

/* The attackers do not see this; the last of them is told of it. */
static const struct tcp_conn *conn_of(const struct end *end)
{
	const struct list *all = &inet_net(end->host)->tcp->all;

	for (const struct list *node = all->next; node != all; node = node->next) {
		const struct tcp_conn *conn =
			container_of((struct list *)(uintptr_t)node, struct tcp_conn, in_all);
		if (conn->state >= TCPS_ESTABLISHED)
			return conn;
	}
	return NULL;
}

static void send_resets(struct attack *attack, struct host *self, uint32_t to)
{
	struct forged forged;

	aim(attack, to, &forged);
	/* Window by window through all numbers, or at random. */
	if (world_below(&attack->world, 2))
		forged.h.seq = attack->sweep += BUFFER - 1;
	forged.h.flags = (uint8_t)(TCP_RST | (world_below(&attack->world, 2) ? TCP_ACK : 0));
	forge_segment(self, &forged);
}

static void send_syns(struct attack *attack, struct host *self, uint32_t to)
{
	struct forged forged;

	aim(attack, to, &forged);
	forged.h.flags = (uint8_t)(TCP_SYN | (world_below(&attack->world, 2) ? TCP_ACK : 0));
	forged.h.options = (struct tcp_options){.has = TCP_HAS_MSS, .mss = 48};
	forge_segment(self, &forged);
}

static void send_data(struct attack *attack, struct host *self, uint32_t to)
{
	struct forged forged;

	aim(attack, to, &forged);
	forged.h.flags = TCP_ACK | TCP_PSH;
	forged.length = (uint32_t)world_between(&attack->world, 1, FORGE_PAYLOAD_MAX);
	if (world_below(&attack->world, 2))
		forged.h.options = (struct tcp_options){.has = TCP_HAS_TIMESTAMP,
							.ts_value = any_number(&attack->world)};
	forge_segment(self, &forged);
}

static void send_acks(struct attack *attack, struct host *self, uint32_t to)
{
	struct forged forged;
	uint32_t start = any_number(&attack->world);

	aim(attack, to, &forged);
	forged.h.flags = TCP_ACK;
	forged.h.options = (struct tcp_options){.has = TCP_HAS_SACK, .num_sack = 1};
	forged.h.options.sack[0] = (struct tcp_block){start, start + 1000};
	forge_segment(self, &forged);
}

static void send_errors(struct attack *attack, struct host *self, uint32_t to)
{
	static const uint32_t mtus[] = {0, 68, 552, 1000, 1499, 65535};
	struct world *world = &attack->world;
	struct forged forged;

	aim(attack, to, &forged);
	forge_error(self, &forged, world_below(world, 4) ? ICMP_UNREACHABLE : ICMP_SOURCE_QUENCH,
		    (uint8_t)world_below(world, 16), mtus[world_below(world, ARRAY_LENGTH(mtus))]);
}

/* FINs; and inside the windows what must be challenged, as often as it comes. */
static void send_probes(struct attack *attack, struct host *self, uint32_t to)
{
	struct world *world = &attack->world;
	const struct tcp_conn *conn = conn_of(&attack->ends[to]);
	struct forged forged;

	aim(attack, to, &forged);
	forged.h.flags = TCP_FIN | TCP_ACK;
	if (!conn || world_below(world, 2)) {
		forge_segment(self, &forged);
		return;
	}
	uint32_t window = conn->rcv_adv - conn->rcv_nxt;
	forged.h.seq =
		conn->rcv_nxt + (window > 1 ? (uint32_t)world_between(world, 1, window - 1) : 1);
	switch (world_below(world, 3)) {
	case 0:
		/* The left edge moves on before it arrives: a hit must not be possible. */
		forged.h.seq = conn->rcv_nxt - (uint32_t)world_between(world, 1, BUFFER);
		forged.h.flags = TCP_RST;
		break;
	case 1:
		forged.h.flags = TCP_SYN;
		break;
	default: /* data in the window that acknowledges what was never sent */
		forged.h.ack = conn->snd_una + 0x80000000U - any_number(world) % 0x10000000U;
		forged.h.flags = TCP_ACK | TCP_PSH;
		forged.length = 100;
	}
	forge_segment(self, &forged);
}

static void (*const kinds[ATTACKERS])(struct attack *, struct host *, uint32_t) = {
	send_resets, send_syns, send_data, send_acks, send_errors, send_probes,
};

static void tick(struct world *world, void *arg)
{
	struct attack *attack = arg;

	if (!attack->on)
		return;
	for (uint32_t i = 0; i < ATTACKERS; i++)
		for (uint64_t n = world_below(world, 8); n > 0; n--)
			kinds[i](attack, attack->attackers[i], (uint32_t)world_below(world, 2));
	world_at(world, world->now_ns + TICK_NS, tick, attack);
}

/* ---- the transfer ---- */

static struct world *world_of(const struct end *end)
{
	return &end->attack->world;
}

static demi_qresult_t await(const struct end *end, demi_qtoken_t qt, demi_opcode_t opcode)
{
	demi_qresult_t qr;

	WORLD_EXPECT(world_of(end), demi_wait(&qr, qt, NULL) == 0);
	WORLD_EXPECT(world_of(end), qr.qr_opcode == opcode);
	return qr;
}

static void send_all(void *arg)
{
	struct end *end = arg;

	for (uint64_t at = 0; at < BYTES; at += PIECE) {
		demi_sgarray_t sga = demi_sgaalloc(PIECE);
		demi_qtoken_t qt;
		WORLD_EXPECT(world_of(end), sga.sga_numsegs == 1);
		inet_fill(end->stream, at, sga.sga_segs[0].sgaseg_buf, PIECE);
		WORLD_EXPECT(world_of(end), demi_push(&qt, end->qd, &sga) == 0);
		WORLD_EXPECT(world_of(end), demi_sgafree(&sga) == 0);
		(void)await(end, qt, DEMI_OPC_PUSH);
	}
	WORLD_EXPECT(world_of(end), demi_shutdown(end->qd, SHUT_WR) == 0);
	end->attack->done++;
}

static void receive_all(void *arg)
{
	struct end *end = arg;
	const struct end *peer = &end->attack->ends[end == &end->attack->ends[0]];

	while (!end->ended) {
		demi_sgarray_t sga;
		demi_qtoken_t qt;
		WORLD_EXPECT(world_of(end), demi_pop(&qt, end->qd) == 0);
		const demi_qresult_t qr = await(end, qt, DEMI_OPC_POP);
		memcpy(&sga, &qr.qr_value.sga, sizeof(sga));
		end->ended = true;
		for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
			uint32_t length = sga.sga_segs[i].sgaseg_len;
			WORLD_EXPECT(world_of(end), end->received + length <= BYTES);
			WORLD_EXPECT(world_of(end),
				     inet_matches(peer->stream, end->received,
						  sga.sga_segs[i].sgaseg_buf, length));
			end->received += length;
			end->ended = end->ended && length == 0;
		}
		WORLD_EXPECT(world_of(end), demi_sgafree(&sga) == 0);
	}
	WORLD_EXPECT(world_of(end), end->received == BYTES);
	end->attack->done++;
}

static void start(struct end *end)
{
	WORLD_EXPECT(world_of(end), demi_go(send_all, end) == 0);
	WORLD_EXPECT(world_of(end), demi_go(receive_all, end) == 0);
}

static void connect_client(void *arg)
{
	struct end *end = arg;
	struct attack *attack = end->attack;
	const struct inet_name to = inet_name(attack->ends[1].host->index, AF_INET, PORT);
	demi_qtoken_t qt;

	WORLD_EXPECT(world_of(end), demi_socket(&end->qd, AF_INET, SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(world_of(end), demi_connect(&qt, end->qd, &to.any, to.length) == 0);
	(void)await(end, qt, DEMI_OPC_CONNECT);
	const struct inet_name own = inet_local(world_of(end), end->qd);
	attack->client_port = inet_port(&own);
	attack->on = true;
	attack->begin_ns = attack->world.now_ns;
	world_at(&attack->world, attack->world.now_ns, tick, attack);
	start(end);
}

static void accept_server(void *arg)
{
	struct end *end = arg;
	demi_qtoken_t qt;

	WORLD_EXPECT(world_of(end), demi_accept(&qt, end->attack->listener) == 0);
	end->qd = await(end, qt, DEMI_OPC_ACCEPT).qr_value.ares.qd;
	start(end);
}

/* ---- a run ---- */

static void ignore(struct host *host, const uint8_t *bytes, uint32_t length)
{
	(void)host;
	(void)bytes;
	(void)length;
}

static void add_host(struct attack *attack, uint32_t index)
{
	static const struct sim_options device = {.mtu = 1500, .rx_slots = 4096};
	struct config config;

	inet_config(&config, index);
	config.tcp_receive_buffer_bytes = (int64_t)world_between(&attack->world, 20000, BUFFER);
	config.tcp_receive_buffer_max_bytes = BUFFER;
	config.tcp_send_buffer_max_bytes = 2 * BUFFER;
	config.tcp_timestamps = (int64_t)world_below(&attack->world, 2);
	config.tcp_sack = (int64_t)world_below(&attack->world, 4) > 0;
	config.frames_max = 8192;
	attack->ends[index] = (struct end){
		.attack = attack,
		.host = world_add_instance(&attack->world, &config, &device),
		.qd = -1,
		.stream = index + 1,
	};
}

static struct attack *attack_open(uint64_t seed)
{
	struct attack *attack = calloc(1, sizeof(*attack));
	const struct inet_name any = inet_any(AF_INET, PORT);

	assert_non_null(attack);
	world_open(&attack->world, seed);
	attack->world.check = inet_check;
	for (uint32_t i = 0; i < 2; i++)
		add_host(attack, i);
	for (uint32_t i = 0; i < ATTACKERS; i++)
		attack->attackers[i] = world_add_peer(&attack->world, ignore, attack);
	for (uint32_t i = 0; i < 2; i++) {
		struct world_path *path = &attack->world.paths[i][1 - i];
		path->delay_ns = world_between(&attack->world, 0, 20) * WORLD_MS;
		path->bits_per_s = world_between(&attack->world, 8, 50) * 1000000;
		path->queue_bytes = 200000;
		path->loss = (uint32_t)world_below(&attack->world, 5000);
	}
	world_enter(attack->ends[1].host);
	WORLD_EXPECT(&attack->world, demi_socket(&attack->listener, AF_INET, SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(&attack->world, demi_bind(attack->listener, &any.any, any.length) == 0);
	WORLD_EXPECT(&attack->world, demi_listen(attack->listener, 10) == 0);
	WORLD_EXPECT(&attack->world, demi_go(accept_server, &attack->ends[1]) == 0);
	world_wake(attack->ends[1].host);
	world_enter(attack->ends[0].host);
	WORLD_EXPECT(&attack->world, demi_go(connect_client, &attack->ends[0]) == 0);
	world_wake(attack->ends[0].host);
	return attack;
}

static bool all_done(void *arg)
{
	return ((const struct attack *)arg)->done == 4;
}

static void check_answers(const struct attack *attack)
{
	const struct world *world = &attack->world;
	uint64_t seconds = (world->now_ns - attack->begin_ns) / WORLD_S + 1;

	for (uint32_t i = 0; i < 2; i++) {
		const struct sched *sched = attack->ends[i].host->sched;
		const struct counters *counters = &sched->counters;
		uint64_t per_s = (uint64_t)sched->config.tcp_challenge_acks;
		WORLD_EXPECT(world, counters->count[COUNTER_TCP_CHALLENGE_ACKS] > 0);
		WORLD_EXPECT(world, counters->count[COUNTER_TCP_CHALLENGES_SPARED] > 0);
		/* A second's worth may have been saved up. */
		WORLD_EXPECT(world,
			     counters->count[COUNTER_TCP_CHALLENGE_ACKS] <= (seconds + 1) * per_s);
		WORLD_EXPECT(world, counters->count[COUNTER_TCP_ANSWERS_SPARED] > 0);
	}
}

static void close_end(struct end *end)
{
	world_enter(end->host);
	WORLD_EXPECT(world_of(end), demi_close(end->qd) == 0);
	world_wake(end->host);
}

static uint64_t six_attackers(uint64_t seed)
{
	struct attack *attack = attack_open(seed);

	world_run(&attack->world, all_done, attack, attack->world.now_ns + LIMIT_NS);
	check_answers(attack);
	world_run_until(&attack->world, attack->world.now_ns + WORLD_S); /* TIME-WAIT, too */
	uint64_t hash = attack->world.hash;
	for (uint32_t i = 0; i < 2; i++)
		close_end(&attack->ends[i]);
	world_run_until(&attack->world, attack->world.now_ns + WORLD_S);
	attack->on = false;
	world_enter(attack->ends[1].host);
	WORLD_EXPECT(&attack->world, demi_close(attack->listener) == 0);
	world_wake(attack->ends[1].host);
	world_run_until(&attack->world, attack->world.now_ns + 300 * WORLD_S);
	for (uint32_t i = 0; i < 2; i++)
		inet_expect_empty(attack->ends[i].host);
	world_close(&attack->world);
	free(attack);
	return hash;
}

static void test_six_attackers(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 60, 12, six_attackers);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_six_attackers)};

	return test_run("attack", tests);
}
