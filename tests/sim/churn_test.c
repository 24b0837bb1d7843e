/* SPDX-License-Identifier: MIT
 * tests/sim/churn_test.c - connections that open, are used and end, in all ways there are, between
 * three simulated hosts: nothing is left of them, and the process does not grow.
 *
 * Clients are coroutines that take one connection after the other until as many began as wanted:
 * TEST_CONNECTIONS in the environment, a few thousand otherwise.  A client's first bytes tell the
 * server how the connection is to end.  The third host vanishes from time to time, long enough for
 * all its connections to be given up; a fourth sends SYNs and nothing more.
 */
#include "sim/inet.h"
#include "sim/segment.h"

#include "net/tcp/tcp.h"
#include "support/net.h"
#include "support/seed.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS  5000 /* unless told otherwise */
#define HOSTS        3
#define VANISHING    2  /* index of the host that does */
#define CLIENTS      24 /* at one time, on each host */
#define PORT         80
#define CLOSED_PORT  81
#define DELAY_NS     WORLD_MS
#define HEADER_BYTES 16
#define BYTES_MAX    4000
#define HEAP_KEPT    (4L * SUPERBLOCK_BYTES) /* that a heap keeps for the next need */
#define CHECK_STEPS  4096                    /* events between two walks over everything */
#define GROWTH_MAX   (4L << 20)              /* bytes, once a fifth of the connections was there */

enum way {
	CLIENT_FIRST, /* the client closes, then the server */
	SERVER_FIRST,
	TOGETHER,    /* both close at once */
	CLIENT_SHUT, /* the client ends its part before the answer, and reads on */
	SERVER_SHUT, /* the server ends its part before the request is there, and reads on */
	CLIENT_ABORTS,
	SERVER_ABORTS,
	UNREAD,  /* the client closes without having read the answer */
	NO_DATA, /* the client closes when it is connected */
	GIVE_UP, /* the client closes before it is connected */
	REFUSED,
	NUM_WAYS,
};

static const char *const way_names[NUM_WAYS] = {
	"closed by the client first",
	"closed by the server first",
	"closed by both at once",
	"shut down by the client",
	"shut down by the server",
	"reset by the client",
	"reset by the server",
	"closed with unread data",
	"closed without data",
	"given up while they connect",
	"refused",
};

struct churn {
	struct world world;
	struct host *peer; /* sends SYNs */
	uint64_t wanted;
	uint64_t begun;
	uint64_t ended;
	uint64_t served; /* connections that a server took */
	uint64_t server_ended;
	uint64_t failed;    /* of those with the host that vanishes */
	uint64_t half_open; /* SYNs of the peer */
	uint64_t ways[NUM_WAYS];
	uint32_t clients;
	uint32_t acceptors;
	int listeners[HOSTS];
	uint64_t heaps[HOSTS]; /* that they held when a fifth of the connections had begun */
	long resident;         /* bytes, when a fifth of the connections had begun */
};

static struct churn churn;

/* What a client says first. */
struct header {
	uint32_t id;
	uint32_t up;   /* bytes that follow */
	uint32_t down; /* bytes of the answer */
	uint32_t way;
};

_Static_assert(sizeof(struct header) == HEADER_BYTES, "it is sent as it is");

struct end {
	struct host *host;
	int qd;
	bool may_fail;
	bool failed;
	bool ended;     /* the end of the peer's stream was popped */
	uint32_t count; /* bytes received, all in here */
	struct header header;
	uint8_t bytes[HEADER_BYTES + BYTES_MAX];
};

static long resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	char line[128] = "";
	char *resident = line;

	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	(void)fclose(file);
	(void)strtol(line, &resident, 10);
	return strtol(resident, NULL, 10) * sysconf(_SC_PAGESIZE);
}

static uint64_t heap_bytes(uint32_t index)
{
	struct heap_usage usage;

	heap_usage(churn.world.hosts[index]->sched->heap, &usage);
	return usage.committed_bytes;
}

/* When things have come to be as they will be from then on. */
static void measure(void)
{
	churn.resident = resident_bytes();
	for (uint32_t i = 0; i < HOSTS; i++)
		churn.heaps[i] = heap_bytes(i);
}

/* ---- operations; none is tried after one has failed ---- */

static void fail_end(struct end *end, int64_t error)
{
	struct world *world = end->host->world;

	WORLD_EXPECT(world, end->may_fail);
	WORLD_EXPECT(world, error == ECONNRESET || error == ETIMEDOUT || error == EHOSTUNREACH ||
				    error == EPIPE || error == ECONNABORTED || error == ENOTCONN);
	end->failed = true;
}

static bool wait_for(struct end *end, demi_qtoken_t qt, demi_qresult_t *qr)
{
	WORLD_EXPECT(end->host->world, demi_wait(qr, qt, NULL) == 0);
	if (qr->qr_opcode != DEMI_OPC_FAILED)
		return true;
	fail_end(end, qr->qr_ret);
	return false;
}

static void push(struct end *end, const struct header *header, uint64_t stream, uint32_t bytes)
{
	struct world *world = end->host->world;
	uint32_t first = header ? HEADER_BYTES : 0;
	demi_qresult_t qr;
	demi_qtoken_t qt;

	if (end->failed || first + bytes == 0)
		return;
	demi_sgarray_t sga = demi_sgaalloc(first + bytes);
	WORLD_EXPECT(world, sga.sga_numsegs == 1);
	uint8_t *at = sga.sga_segs[0].sgaseg_buf;
	if (header)
		memcpy(at, header, HEADER_BYTES);
	inet_fill(stream, 0, at + first, bytes);
	int err = demi_push(&qt, end->qd, &sga);
	WORLD_EXPECT(world, demi_sgafree(&sga) == 0);
	if (err)
		fail_end(end, err);
	else
		(void)wait_for(end, qt, &qr);
}

/* Pops once.  False: the end, or it failed. */
static bool pop(struct end *end)
{
	struct world *world = end->host->world;
	uint32_t before = end->count;
	demi_qresult_t qr;
	demi_qtoken_t qt;
	demi_sgarray_t sga;

	if (end->failed || end->ended)
		return false;
	int err = demi_pop(&qt, end->qd);
	if (err)
		fail_end(end, err);
	if (err || !wait_for(end, qt, &qr))
		return false;
	memcpy(&sga, &qr.qr_value.sga, sizeof(sga));
	for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
		uint32_t length = sga.sga_segs[i].sgaseg_len;
		WORLD_EXPECT(world, length <= sizeof(end->bytes) - end->count);
		if (length == 0) /* the end */
			continue;
		memcpy(end->bytes + end->count, sga.sga_segs[i].sgaseg_buf, length);
		end->count += length;
	}
	WORLD_EXPECT(world, demi_sgafree(&sga) == 0);
	end->ended = end->count == before;
	return !end->ended;
}

/* Pops until so many bytes have come in all.  False: the end came before, or it failed. */
static bool read_to(struct end *end, uint32_t count)
{
	while (end->count < count)
		if (!pop(end))
			return false;
	return true;
}

/* Reads what the peer has to say, behind what was looked at already, and no more. */
static void read_all(struct end *end, uint32_t skipped, uint64_t stream, uint32_t bytes)
{
	struct world *world = end->host->world;

	if (!read_to(end, skipped + bytes)) {
		WORLD_EXPECT(world, end->failed);
		return;
	}
	WORLD_EXPECT(world, end->count == skipped + bytes);
	WORLD_EXPECT(world, inet_matches(stream, 0, end->bytes + skipped, bytes));
}

static void expect_end(struct end *end)
{
	WORLD_EXPECT(end->host->world, !pop(end));
}

static void shut(struct end *end)
{
	if (end->failed)
		return;
	int err = demi_shutdown(end->qd, SHUT_WR);
	if (err)
		fail_end(end, err);
}

static void close_end(struct end *end, bool aborts)
{
	static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
	struct world *world = end->host->world;

	if (aborts)
		WORLD_EXPECT(world, demi_setsockopt(end->qd, SOL_SOCKET, SO_LINGER, &at_once,
						    sizeof(at_once)) == 0);
	WORLD_EXPECT(world, demi_close(end->qd) == 0);
}

/* Only a question finds out that a peer has vanished. */
static void keep_alive(const struct end *end)
{
	static const int on = 1;

	WORLD_EXPECT(end->host->world,
		     demi_setsockopt(end->qd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0);
}

/* ---- a client's connection ---- */

static void speak(struct end *end)
{
	const struct header *header = &end->header;
	uint64_t stream = 2ULL * header->id;

	push(end, header, stream, header->up);
	switch ((enum way)header->way) {
	case CLIENT_ABORTS:
	case UNREAD:
		inet_sleep(world_below(end->host->world, 10 * WORLD_MS));
		return;
	case SERVER_ABORTS:
		expect_end(end);
		WORLD_EXPECT(end->host->world, end->failed);
		return;
	case CLIENT_SHUT:
		shut(end);
		break;
	default:
		break;
	}
	read_all(end, 0, stream + 1, header->down);
	if (header->way == SERVER_FIRST || header->way == CLIENT_SHUT || header->way == SERVER_SHUT)
		expect_end(end);
}

/* False: it is not connected, as was to be or may be. */
static bool connect_end(struct end *end, uint32_t to)
{
	struct world *world = end->host->world;
	bool refused = end->header.way == REFUSED;
	const struct inet_name name = inet_name(to, AF_INET, refused ? CLOSED_PORT : PORT);
	demi_qresult_t qr;
	demi_qtoken_t qt;

	WORLD_EXPECT(world, demi_connect(&qt, end->qd, &name.any, name.length) == 0);
	if (end->header.way == GIVE_UP) {
		inet_sleep(world_below(world, 4 * WORLD_MS));
		close_end(end, world_below(world, 2));
		WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
		return false;
	}
	if (refused) {
		WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
		WORLD_EXPECT(world, qr.qr_opcode == DEMI_OPC_FAILED);
		WORLD_EXPECT(world, qr.qr_ret == ECONNREFUSED || end->may_fail);
		return false;
	}
	return wait_for(end, qt, &qr);
}

static void one_connection(struct host *host)
{
	struct world *world = &churn.world;
	uint32_t to = (host->index + 1 + (uint32_t)world_below(world, HOSTS - 1)) % HOSTS;
	enum way way = (enum way)world_below(world, NUM_WAYS);
	struct end end = {
		.host = host,
		.may_fail = host->index == VANISHING || to == VANISHING || way == SERVER_ABORTS,
		.header = {
			.id = (uint32_t)churn.begun++,
			.up = (uint32_t)world_below(world, BYTES_MAX >> world_below(world, 8)),
			.down = (uint32_t)world_below(world, BYTES_MAX >> world_below(world, 8)),
			.way = way,
		}};

	churn.ways[way]++;
	if (churn.begun == churn.wanted / 5)
		measure();
	WORLD_EXPECT(world, demi_socket(&end.qd, AF_INET, SOCK_STREAM, 0) == 0);
	keep_alive(&end);
	bool connected = connect_end(&end, to);
	if (connected && way != NO_DATA)
		speak(&end);
	if (way != GIVE_UP)
		close_end(&end, way == CLIENT_ABORTS);
	churn.failed += end.failed && way != SERVER_ABORTS;
	churn.ended++;
}

static void client(void *arg)
{
	while (churn.begun < churn.wanted) {
		one_connection(arg);
		inet_sleep(world_below(&churn.world, 5 * WORLD_MS));
	}
	churn.clients--;
}

/* ---- a server's connection ---- */

static void answer(struct end *end)
{
	struct world *world = end->host->world;
	const struct header *header = &end->header;
	uint64_t stream = 2ULL * header->id;

	if (header->way == SERVER_SHUT) {
		push(end, NULL, stream + 1, header->down);
		shut(end);
	}
	read_all(end, HEADER_BYTES, stream, header->up);
	if (header->way == CLIENT_SHUT)
		expect_end(end);
	if (header->way == SERVER_ABORTS) {
		inet_sleep(world_below(world, 10 * WORLD_MS));
		return;
	}
	if (header->way != SERVER_SHUT)
		push(end, NULL, stream + 1, header->down);
	if (header->way == TOGETHER) /* the time in which the answer travels */
		inet_sleep(DELAY_NS);
	else if (header->way != SERVER_FIRST && header->way != CLIENT_SHUT)
		expect_end(end);
	if (header->way == CLIENT_ABORTS)
		WORLD_EXPECT(world, end->failed);
}

static void serve(void *arg)
{
	struct end *end = arg;
	struct header *header = &end->header;
	bool may_fail = end->may_fail;

	keep_alive(end);
	header->way = NO_DATA;
	end->may_fail = true; /* the client may give up, or abort at once */
	if (read_to(end, HEADER_BYTES)) {
		memcpy(header, end->bytes, HEADER_BYTES);
		end->may_fail = may_fail || header->way == CLIENT_ABORTS || header->way == UNREAD;
		answer(end);
	}
	close_end(end, header->way == SERVER_ABORTS);
	churn.server_ended++;
	free(end);
}

static void accept_all(void *arg)
{
	struct host *host = arg;
	struct world *world = &churn.world;

	for (;;) {
		demi_qtoken_t qt;
		demi_qresult_t qr;

		WORLD_EXPECT(world, demi_accept(&qt, churn.listeners[host->index]) == 0);
		WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
		if (qr.qr_opcode == DEMI_OPC_FAILED) {
			WORLD_EXPECT(world, qr.qr_ret == ECANCELED);
			break;
		}
		struct end *end = calloc(1, sizeof(*end));
		WORLD_EXPECT(world, end);
		end->host = host;
		end->qd = qr.qr_value.ares.qd;
		end->may_fail = host->index == VANISHING;
		const struct sockaddr_in from = qr.qr_value.ares.addr;
		if (from.sin_addr.s_addr == htonl(0x0a000001 + VANISHING))
			end->may_fail = true;
		churn.served++;
		WORLD_EXPECT(world, demi_go(serve, end) == 0);
	}
	churn.acceptors--;
}

/* ---- hosts ---- */

static void add_host(uint32_t index)
{
	static const struct sim_options device = {.mtu = 1500, .rx_slots = 1024, .max_segments = 4};
	struct world *world = &churn.world;
	const struct inet_name any = inet_any(AF_INET, PORT);
	struct config config;

	inet_config(&config, index);
	config.keepalive_time_ms = 1000;
	config.keepalive_interval_ms = 1000;
	config.tcp_rto_initial_ms = 50;
	config.tcp_rto_min_ms = 10;
	config.tcp_rto_max_ms = 1000;
	config.tcp_delayed_ack_ms = 5;
	config.tcp_syn_retries = 4;
	config.tcp_retries = 6;
	config.tcp_time_wait_ms = 100;
	config.tcp_fin_wait_2_ms = 1000;
	(void)snprintf(config.arp_table, sizeof(config.arp_table), "%s",
		       "02:00:00:00:de:04=10.0.0.4");
	struct host *host = world_add_instance(world, &config, &device);
	world_enter(host);
	int *qd = &churn.listeners[index];
	WORLD_EXPECT(world, demi_socket(qd, AF_INET, SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(world, demi_bind(*qd, &any.any, any.length) == 0);
	WORLD_EXPECT(world, demi_listen(*qd, 512) == 0);
	WORLD_EXPECT(world, demi_go(accept_all, host) == 0);
	churn.acceptors++;
	for (uint32_t i = 0; i < CLIENTS; i++)
		WORLD_EXPECT(world, demi_go(client, host) == 0);
	churn.clients += CLIENTS;
}

static void at_peer(struct host *host, const uint8_t *bytes, uint32_t length)
{
	(void)host;
	(void)bytes;
	(void)length;
}

/* A handshake that never ends. */
static void send_syn(struct world *world, void *unused)
{
	struct segment syn = {
		.from = HOSTS,
		.to = (uint32_t)world_below(world, HOSTS),
		.header = {.source = (uint16_t)world_between(world, 1024, 65535),
			   .destination = PORT,
			   .seq = (uint32_t)prng_next(&world->prng),
			   .flags = TCP_SYN,
			   .window = 1000},
	};
	uint8_t frame[SEGMENT_BYTES];

	memcpy(syn.from_mac, churn.peer->mac, 6);
	memcpy(syn.to_mac, world->hosts[syn.to]->mac, 6);
	world_send(churn.peer, frame, segment_write(&syn, frame));
	churn.half_open++;
	if (churn.clients > 0)
		world_at(world, world->now_ns + 2 * WORLD_MS, send_syn, unused);
}

static void come_back(struct world *world, void *unused);

static void vanish(struct world *world, void *unused)
{
	world_partition(world, 1U << VANISHING, (1U << WORLD_HOSTS) - 1, true);
	world_at(world, world->now_ns + world_below(world, 20 * WORLD_S), come_back, unused);
}

static void come_back(struct world *world, void *unused)
{
	world_partition(world, 1U << VANISHING, (1U << WORLD_HOSTS) - 1, false);
	if (churn.clients > 0)
		world_at(world, world->now_ns + world_below(world, 4 * WORLD_S), vanish, unused);
}

/* ---- the run ---- */

static void check(struct world *world, void *unused)
{
	(void)unused;
	if (world->steps % CHECK_STEPS == 0)
		inet_check(world, NULL);
}

static bool clients_ended(void *unused)
{
	(void)unused;
	return churn.clients == 0;
}

static bool all_empty(void *unused)
{
	(void)unused;
	for (uint32_t i = 0; i < HOSTS; i++)
		if (!inet_is_empty(churn.world.hosts[i]))
			return false;
	return churn.acceptors == 0;
}

static void close_listeners(void)
{
	for (uint32_t i = 0; i < HOSTS; i++) {
		world_enter(churn.world.hosts[i]);
		WORLD_EXPECT(&churn.world, demi_close(churn.listeners[i]) == 0);
		world_wake(churn.world.hosts[i]);
	}
}

static void report(void)
{
	for (int way = 0; way < NUM_WAYS; way++)
		printf("# %" PRIu64 " connections %s\n", churn.ways[way], way_names[way]);
	printf("# %" PRIu64 " connections of or to a host that vanished have failed\n",
	       churn.failed);
	printf("# %" PRIu64 " connections half open\n", churn.half_open);
}

/* With nothing in them heaps hold what their size classes keep for the next need; neither they nor
 * the process grow with the number of connections. */
static void check_memory(void)
{
	struct world *world = &churn.world;

	for (uint32_t i = 0; i < HOSTS; i++) {
		printf("# host %" PRIu32 " holds %" PRIu64 " bytes of heap, %" PRIu64 " early on\n",
		       i, heap_bytes(i), churn.heaps[i]);
		WORLD_EXPECT(world, heap_bytes(i) <= churn.heaps[i] + HEAP_KEPT);
	}
	long grown = resident_bytes() - churn.resident;
	printf("# the process has grown by %ld bytes\n", grown);
	if (!test_sanitized()) /* its allocator keeps what was freed */
		WORLD_EXPECT(world, grown <= GROWTH_MAX);
}

static void test_churn(void **state)
{
	struct world *world = &churn.world;

	(void)state;
	world_open(world, test_seed(1));
	world->check = check;
	churn.wanted = test_number("TEST_CONNECTIONS", CONNECTIONS);
	for (uint32_t i = 0; i < HOSTS; i++)
		add_host(i);
	churn.peer = world_add_peer(world, at_peer, NULL);
	for (uint32_t i = 0; i < world->num_hosts; i++)
		for (uint32_t j = 0; j < world->num_hosts; j++)
			world->paths[i][j].delay_ns = DELAY_NS;
	world_at(world, world->now_ns, send_syn, NULL);
	world_at(world, world->now_ns + 100 * WORLD_MS, vanish, NULL);
	world_run(world, clients_ended, NULL, world->now_ns + (uint64_t)1000000 * WORLD_S);
	world_calm(world);
	close_listeners();
	world_run(world, all_empty, NULL, world->now_ns + 1000 * WORLD_S);
	for (uint32_t i = 0; i < HOSTS; i++)
		inet_expect_empty(world->hosts[i]);
	report();
	WORLD_EXPECT(world, churn.begun == churn.wanted);
	WORLD_EXPECT(world, churn.ended == churn.begun);
	WORLD_EXPECT(world, churn.server_ended == churn.served);
	check_memory();
	world_close(world);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_churn)};

	return test_run("churn", tests);
}
