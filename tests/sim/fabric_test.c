/* tests/sim/fabric_test.c: two raw peers on devices of support/fabric.h, in a simulated world: what
 * reliable queue pairs promise holds whatever goes wrong, and a run is a function of its seed.
 *
 * Of each end: requests complete once, in their order, first with success and then, after the first
 * error, with errors; messages arrive once, in their order, whole; each that completed with success
 * has arrived.  Without faults all do. */
#include "sim/fabric_host.h"
#include "support/fabric_peer.h"
#include "support/seed.h"
#include "support/test.h"

#include <string.h>

#define POSTS    300U /* of an end */
#define SLOT     64U  /* bytes */
#define SENDS_AT 0U   /* in a peer's memory: what it sends, */
#define READ_AT  8192U
#define FROM_AT  12288U /* what the other end reads, and where it writes */
#define INTO_AT  16384U
#define SLOTS_AT 32768U /* what it receives into */
#define RECEIVES 32U
#define RECEIVE  0x10000U /* wr_id of a receive: with its slot */
#define END_NS   (WORLD_START_NS + 400 * WORLD_S)

struct end {
	struct fabric_peer peer;
	struct end *other;
	bool passive;
	bool open; /* may send */
	bool over;
	bool failed;
	bool removed; /* its device is */
	bool gone;    /* its host is */
	uint32_t posted;
	uint32_t completed;
	uint32_t succeeded; /* messages of these */
	uint32_t messages;  /* posted, */
	uint32_t received;  /* and those of the other end that came */
	uint32_t slots;     /* bitmap: posted receives */
	enum ibv_wr_opcode kinds[POSTS];
};

enum fault { NONE, CUT, FLAP, VANISH, KILL, REMOVE, BREAK, DISCONNECT, UNPLUG, FAIL, FAULTS };

static struct run {
	struct world world;
	struct fabric_world at;
	struct end ends[2];
	enum fault fault;
	struct end *victim;
	uint64_t steps;    /* of either end, */
	uint64_t pause_ns; /* and between two looks at most */
} run;

#define EXPECT(condition) WORLD_EXPECT(&run.world, condition)

static struct ibv_qp *qp_of(const struct end *end)
{
	return end->peer.id ? end->peer.id->qp : NULL;
}

/* ---- completions ---- */

static void completed(struct end *end, const struct ibv_wc *wc)
{
	bool success = wc->status == IBV_WC_SUCCESS;

	EXPECT(wc->wr_id == end->completed);
	EXPECT(end->completed < end->posted);
	EXPECT(!end->failed || !success);
	end->failed |= !success;
	if (success && end->kinds[wc->wr_id] == IBV_WR_RDMA_READ)
		EXPECT(end->peer.memory[READ_AT] == 'm');
	end->succeeded += success && end->kinds[wc->wr_id] == IBV_WR_SEND;
	end->completed++;
}

static void arrived(struct end *end, const struct ibv_wc *wc)
{
	uint32_t slot = (uint32_t)(wc->wr_id - RECEIVE);
	const uint8_t *bytes = &end->peer.memory[SLOTS_AT + slot * SLOT];
	uint32_t number;

	EXPECT(slot < RECEIVES && end->slots >> slot & 1);
	end->slots &= ~(1U << slot);
	if (wc->status != IBV_WC_SUCCESS) {
		end->failed = true;
		return;
	}
	memcpy(&number, bytes, sizeof(number));
	EXPECT(wc->opcode == IBV_WC_RECV);
	EXPECT(number == end->received);
	EXPECT(number < end->other->messages);
	EXPECT(wc->byte_len == 4 + number % (SLOT - 4));
	for (uint32_t i = 4; i < wc->byte_len; i++)
		EXPECT(bytes[i] == (uint8_t)number);
	end->received++;
}

static void poll_work(struct end *end)
{
	struct ibv_wc wc;

	while (fabric_peer_poll(&end->peer, &wc)) {
		run.steps++;
		if (wc.wr_id >= RECEIVE)
			arrived(end, &wc);
		else
			completed(end, &wc);
	}
}

/* ---- posts ---- */

static void post_receives(struct end *end)
{
	for (uint32_t slot = 0; slot < RECEIVES && qp_of(end) && !end->over; slot++) {
		if (end->slots >> slot & 1 || world_below(&run.world, 4) == 0)
			continue;
		if (fabric_peer_receive(&end->peer, RECEIVE + slot, SLOTS_AT + slot * SLOT, SLOT))
			return;
		end->slots |= 1U << slot;
	}
}

static enum ibv_wr_opcode draw_opcode(void)
{
	switch (world_below(&run.world, 6)) {
	case 0:
		return IBV_WR_RDMA_READ;
	case 1:
		return IBV_WR_RDMA_WRITE;
	default:
		return IBV_WR_SEND;
	}
}

static void post(struct end *end)
{
	uint32_t at = SENDS_AT + end->posted % FABRIC_PEER_SENDS * SLOT;
	uint32_t bytes = 4 + end->messages % (SLOT - 4);
	const struct fabric_peer *other = &end->other->peer;
	struct ibv_send_wr wr = {
		.wr_id = end->posted,
		.opcode = draw_opcode(),
		.send_flags = IBV_SEND_SIGNALED,
	};

	if (fabric_sends_free(qp_of(end)) == 0)
		return; /* what is in that place may still be read */
	if (wr.opcode == IBV_WR_SEND) {
		memset(&end->peer.memory[at], (uint8_t)end->messages, SLOT);
		memcpy(&end->peer.memory[at], &end->messages, sizeof(end->messages));
		wr.send_flags |= world_below(&run.world, 2) ? IBV_SEND_INLINE : 0;
	} else {
		bool read = wr.opcode == IBV_WR_RDMA_READ;
		at = read ? READ_AT : SENDS_AT;
		wr.wr.rdma.rkey = other->mr->rkey;
		wr.wr.rdma.remote_addr = (uintptr_t)&other->memory[read ? FROM_AT : INTO_AT];
	}
	if (fabric_peer_post(&end->peer, &wr, at, bytes))
		return; /* a fault */
	end->kinds[end->posted++] = wr.opcode;
	end->messages += wr.opcode == IBV_WR_SEND;
}

/* ---- connections ---- */

static void equip(struct end *end, struct rdma_cm_id *id)
{
	end->peer.id = id;
	if (end->removed)
		return;
	fabric_peer_make_qp(&end->peer, id);
	post_receives(end);
}

/* Whoever is told that its connection is over says so, too. */
static void close_end(struct end *end)
{
	end->open = false;
	end->over = true;
	if (end->peer.id)
		(void)end->peer.verbs->disconnect(end->peer.id);
}

static void react(struct end *end, const struct rdma_cm_event *event)
{
	const struct rdma_verbs *verbs = end->peer.verbs;

	switch (event->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		(void)verbs->resolve_route(end->peer.id, 1000);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		equip(end, end->peer.id);
		(void)verbs->connect(end->peer.id, &end->peer.param);
		break;
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		equip(end, event->id);
		(void)verbs->accept(event->id, &end->peer.param);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		end->open = !end->over;
		if (end->over) /* decided before that came */
			close_end(end);
		break;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		break;
	default: /* all the others are the end */
		EXPECT(run.fault != NONE);
		close_end(end);
	}
}

static void act_end(struct end *end)
{
	const struct rdma_cm_event *event;

	while ((event = fabric_peer_event(&end->peer))) {
		run.steps++;
		react(end, event);
	}
	poll_work(end);
	if (end->failed)
		close_end(end);
	post_receives(end);
	for (uint64_t n = world_below(&run.world, 4); n > 0 && end->open; n--)
		if (end->posted < POSTS)
			post(end);
}

/* The less happens, the more seldom they look. */
static void act(struct world *world, void *arg)
{
	uint64_t before = run.steps;

	for (int i = 0; i < 2; i++)
		if (!run.ends[i].gone)
			act_end(&run.ends[i]);
	run.pause_ns = run.steps != before ? 20 * WORLD_US : run.pause_ns + run.pause_ns / 8;
	if (run.pause_ns > WORLD_S)
		run.pause_ns = WORLD_S;
	if (world->now_ns + run.pause_ns < END_NS)
		world_at(world, world->now_ns + world_between(world, 1, run.pause_ns), act, arg);
}

/* ---- faults ---- */

static void heal(struct world *world, void *arg)
{
	(void)world;
	(void)arg;
	fabric_cut(run.ends[0].peer.device, run.ends[1].peer.device, false);
}

static void inject(struct world *world, void *arg)
{
	struct end *end = run.victim;
	struct fabric_device *device = end->peer.device;

	(void)arg;
	switch (run.fault) {
	case CUT:
	case FLAP:
		fabric_cut(device, end->other->peer.device, true);
		if (run.fault == FLAP)
			world_at(world, world->now_ns + world_between(world, 1, 900) * WORLD_MS,
				 heal, NULL);
		break;
	case VANISH:
		fabric_vanish(device);
		end->gone = true;
		break;
	case KILL:
		fabric_kill(device);
		end->gone = true;
		break;
	case REMOVE:
		end->removed = true;
		fabric_remove(device);
		break;
	case BREAK:
		if (qp_of(end))
			fabric_break_qp(qp_of(end));
		break;
	case DISCONNECT:
		close_end(end);
		break;
	case UNPLUG:
		fabric_plug(device, false);
		break;
	case FAIL:
		fabric_swarm_failures(&run.at, 2000);
		fabric_chance(run.at.fabric)->fail_call = 0;
		break;
	default:
		break;
	}
}

/* ---- a run ---- */

static void open_end(uint32_t index, const char *ipv4)
{
	struct end *end = &run.ends[index];
	struct fabric_device *device = fabric_add_peer(&run.at, ipv4, NULL, NULL, NULL);

	end->other = &run.ends[1 - index];
	fabric_peer_open(&end->peer, run.at.fabric, device, world_below(&run.world, 2));
	memset(&end->peer.memory[FROM_AT], 'm', SLOT);
}

static void start(void)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(0x0a000002)};
	struct end *end = &run.ends[0];

	fabric_peer_listen(&run.ends[1].peer, RDMA_PS_TCP, "10.0.0.2", 7);
	EXPECT(end->peer.verbs->create_id(end->peer.channel, &end->peer.id, NULL, RDMA_PS_TCP) ==
	       0);
	EXPECT(end->peer.verbs->resolve_addr(end->peer.id, NULL, (struct sockaddr *)&to, 1000) ==
	       0);
}

static void check_end(const struct end *end)
{
	EXPECT(end->succeeded <= end->other->received || end->other->gone);
	EXPECT(end->received <= end->other->messages);
	EXPECT(run.fault != NONE || !end->over);
	if (run.fault == NONE || (run.fault == FLAP && !end->over && !end->other->over)) {
		EXPECT(end->completed == POSTS);
		EXPECT(end->other->received == end->messages);
	}
	/* In the end nothing is outstanding that was not told. */
	if (!end->gone && qp_of(end))
		EXPECT(end->completed == end->posted);
}

static void finish_end(struct end *end)
{
	if (!end->gone)
		fabric_peer_close(&end->peer);
}

static uint64_t one_run(uint64_t seed)
{
	memset(&run, 0, sizeof(run));
	world_open(&run.world, seed);
	fabric_world_open(&run.at, &run.world);
	open_end(0, "10.0.0.1");
	open_end(1, "10.0.0.2");
	fabric_swarm(&run.at);
	run.fault = (enum fault)world_below(&run.world, FAULTS);
	run.victim = &run.ends[world_below(&run.world, 2)];
	start();
	run.pause_ns = 20 * WORLD_US;
	world_at(&run.world, run.world.now_ns + 1, act, NULL);
	world_at(&run.world, run.world.now_ns + world_between(&run.world, 1, 4000) * WORLD_US,
		 inject, NULL);
	world_run_until(&run.world, END_NS);
	check_end(&run.ends[0]);
	check_end(&run.ends[1]);
	uint64_t hash = run.world.hash;
	finish_end(&run.ends[0]);
	finish_end(&run.ends[1]);
	world_close(&run.world);
	fabric_world_close(&run.at);
	return hash;
}

static void test_promises(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 2000, 10, one_run);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_promises),
	};

	return test_run("sim_fabric", tests);
}
