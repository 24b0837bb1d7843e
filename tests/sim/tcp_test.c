/* SPDX-License-Identifier: MIT
 * tests/sim/tcp_test.c - TCP between whole instances in a simulated world: random streams both ways
 * under random configurations and faults.
 *
 * What is popped is at every moment a prefix of what was pushed.  When the faults end everything
 * comes to its end within a bound of virtual time, and nothing is left.
 */
#include "sim/inet.h"

#include "support/seed.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#define CONNS_MAX  64
#define PUSHES_MAX 4 /* that a sender has outstanding */
#define LIMIT_NS   (1000 * WORLD_S)
#define PORT_V4    80
#define PORT_V6    81
#define FIRST_PORT 20000 /* of connections that bind */
#define OPEN_TRIES 200

enum mode {
	MODE_PLAIN,        /* both send all, end their side, read to the end */
	MODE_RUDE,         /* one side closes in the middle */
	MODE_SIMULTANEOUS, /* both connect */
};

struct run;
struct conn;

/* One end of a connection. */
struct side {
	struct conn *conn;
	struct host *host;
	uint64_t stream; /* number of the bytes that it sends */
	int qd;
	struct inet_name name; /* a client's own */
	bool accepted;         /* a server's */
	bool open;
	uint64_t total;    /* to be sent */
	uint64_t pushed;   /* handed to push */
	uint64_t admitted; /* in pushes that completed */
	uint64_t received;
	bool ended; /* the end of the peer's stream was popped */
	int error;
	bool push_failed;
	bool shut;         /* its sending part has ended */
	uint64_t quit_at;  /* rude: closes when it has pushed and received so much together */
	uint64_t pause_ns; /* at most, between two pops */
	uint64_t gap_ns;   /* at most, between two pushes */
	uint64_t push_max;
	uint32_t parts; /* coroutines that still use it */
	bool finished;
};

struct conn {
	struct run *run;
	uint32_t id;
	int domain;
	enum mode mode;
	bool binds; /* the client binds a port */
	uint64_t begin_ns;
	struct side sides[2]; /* client, server */
};

struct run {
	struct world world;
	uint32_t num_conns;
	struct conn conns[CONNS_MAX];
	uint32_t finished; /* sides */
	int listeners[WORLD_HOSTS][2];
	bool short_memory;
};

static struct side *peer_of(struct side *side)
{
	return side == &side->conn->sides[0] ? &side->conn->sides[1] : &side->conn->sides[0];
}

static struct world *world_of(const struct side *side)
{
	return &side->conn->run->world;
}

/* ---- ending a side ---- */

static void close_side(struct side *side)
{
	if (!side->open)
		return;
	side->open = false;
	WORLD_EXPECT(world_of(side), demi_close(side->qd) == 0);
}

/* May operations of this connection fail?  Where memory is short only what must not happen is
 * looked for: wrong bytes, leaks. */
static bool may_fail(const struct side *side)
{
	return side->conn->mode == MODE_RUDE || side->conn->run->short_memory;
}

static void finish(struct side *side)
{
	side->finished = true;
	side->conn->run->finished++;
}

static void part_ends(struct side *side)
{
	if (--side->parts > 0)
		return;
	close_side(side);
	finish(side);
	/* A client that is gone before its connection was accepted: perhaps it never is. */
	struct side *peer = peer_of(side);
	if (may_fail(side) && side->name.length && !peer->accepted) {
		peer->accepted = true;
		finish(peer);
	}
}

static void failed(struct side *side, int error)
{
	struct world *world = world_of(side);

	side->error = error;
	WORLD_EXPECT(world, may_fail(side));
	if (side->conn->run->short_memory)
		return;
	WORLD_EXPECT(world, error == ECONNRESET || error == EPIPE || error == ECANCELED ||
				    error == ECONNABORTED);
	WORLD_EXPECT(world, error != ECANCELED || !side->open);
}

static void maybe_quit(struct side *side)
{
	if (side->pushed + side->received >= side->quit_at)
		close_side(side);
}

/* ---- sending ---- */

struct push {
	demi_qtoken_t qt;
	uint64_t bytes;
	void *foreign[DEMI_SGARRAY_MAXSIZE]; /* memory that is not the heap's: kept until done */
	uint32_t num_foreign;
};

/* One segment of an array, from the heap or not. */
static void add_segment(struct side *side, struct push *push, demi_sgarray_t *sga, uint32_t bytes)
{
	struct world *world = world_of(side);
	demi_sgaseg_t *seg = &sga->sga_segs[sga->sga_numsegs++];
	void *memory = world_below(world, 4) ? demi_malloc(bytes) : NULL;

	if (!memory) {
		memory = malloc(bytes);
		push->foreign[push->num_foreign++] = memory;
	}
	WORLD_EXPECT(world, memory);
	inet_fill(side->stream, side->pushed + push->bytes, memory, bytes);
	push->bytes += bytes;
	seg->sgaseg_buf = memory;
	seg->sgaseg_len = bytes;
}

/* Drops our references: what is in the heap may be freed at once. */
static void release(struct world *world, const struct push *push, const demi_sgarray_t *sga)
{
	uint32_t foreign = 0;

	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		void *memory = sga->sga_segs[i].sgaseg_buf;
		if (foreign < push->num_foreign && push->foreign[foreign] == memory)
			foreign++;
		else
			WORLD_EXPECT(world, demi_free(memory) == 0);
	}
}

/* Pushes a random piece of what is left.  False: it was refused; for want of memory if there is no
 * error. */
static bool push_some(struct side *side, struct push *push)
{
	struct world *world = world_of(side);
	uint64_t left = side->total - side->pushed;
	uint64_t bytes = world_between(world, 1, left < side->push_max ? left : side->push_max);
	uint64_t segments = world_between(world, 1, DEMI_SGARRAY_MAXSIZE);
	demi_sgarray_t sga = {0};

	memset(push, 0, sizeof(*push));
	if (segments > bytes || world_below(world, 2) == 0)
		segments = 1;
	for (; segments > 1; segments--) {
		uint64_t most = bytes - push->bytes - (segments - 1);
		add_segment(side, push, &sga, (uint32_t)world_between(world, 1, most));
	}
	add_segment(side, push, &sga, (uint32_t)(bytes - push->bytes));
	int err = demi_push(&push->qt, side->qd, &sga);
	release(world, push, &sga);
	if (!err) {
		side->pushed += bytes;
		return true;
	}
	for (uint32_t i = 0; i < push->num_foreign; i++)
		free(push->foreign[i]);
	if (err != ENOMEM)
		failed(side, err);
	return false;
}

static void await_push(struct side *side, struct push *push)
{
	demi_qresult_t qr;

	WORLD_EXPECT(world_of(side), demi_wait(&qr, push->qt, NULL) == 0);
	for (uint32_t i = 0; i < push->num_foreign; i++)
		free(push->foreign[i]);
	if (qr.qr_opcode == DEMI_OPC_FAILED && qr.qr_ret == ENOMEM) {
		WORLD_EXPECT(world_of(side), side->conn->run->short_memory);
		side->pushed -= push->bytes; /* nothing of it was taken, and nothing is behind it */
		return;
	}
	if (qr.qr_opcode == DEMI_OPC_FAILED) {
		side->push_failed = true;
		failed(side, (int)qr.qr_ret);
		return;
	}
	WORLD_EXPECT(world_of(side), qr.qr_opcode == DEMI_OPC_PUSH);
	/* In order: none is taken behind one that was not. */
	WORLD_EXPECT(world_of(side), !side->push_failed);
	side->admitted += push->bytes;
}

static void shut(struct side *side)
{
	if (!side->open || side->error || side->shut)
		return;
	int err = demi_shutdown(side->qd, SHUT_WR);
	side->shut = true;
	if (err) /* reset meanwhile */
		WORLD_EXPECT(world_of(side), err == ENOTCONN && may_fail(side));
}

/* Pushes what is left, most pushes at a time, and awaits them. */
static void send_left(struct side *side, uint32_t most, bool shut_early)
{
	struct world *world = world_of(side);
	struct push pushes[PUSHES_MAX];
	uint32_t first = 0;
	uint32_t count = 0;

	while (side->open && !side->error && side->pushed < side->total) {
		if (count == most || (count > 0 && world_below(world, 2) == 0)) {
			await_push(side, &pushes[first++ % PUSHES_MAX]);
			count--;
			continue;
		}
		if (!push_some(side, &pushes[(first + count) % PUSHES_MAX])) {
			WORLD_EXPECT(world, side->error || side->conn->run->short_memory);
			inet_sleep(world_between(world, 1, 500) * WORLD_MS);
			continue;
		}
		count++;
		maybe_quit(side);
		if (side->gap_ns && world_below(world, 4) == 0)
			inet_sleep(world_below(world, side->gap_ns));
	}
	if (shut_early)
		shut(side);
	for (; count > 0; count--)
		await_push(side, &pushes[first++ % PUSHES_MAX]);
}

static void send_part(void *arg)
{
	struct side *side = arg;

	if (side->conn->run->short_memory) /* a push that fails is pushed again, before others */
		while (side->open && !side->error && side->pushed < side->total)
			send_left(side, 1, false);
	else
		send_left(side, PUSHES_MAX, world_below(world_of(side), 2) == 0);
	shut(side);
	part_ends(side);
}

/* ---- receiving ---- */

static void take(struct side *side, demi_qresult_t *qr)
{
	struct world *world = world_of(side);
	const struct side *peer = peer_of(side);
	demi_sgarray_t sga;
	uint64_t bytes = 0;

	memcpy(&sga, &qr->qr_value.sga, sizeof(sga));
	for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
		uint32_t length = sga.sga_segs[i].sgaseg_len;
		WORLD_EXPECT(world, side->received + length <= peer->pushed);
		WORLD_EXPECT(world, inet_matches(peer->stream, side->received,
						 sga.sga_segs[i].sgaseg_buf, length));
		side->received += length;
		bytes += length;
	}
	WORLD_EXPECT(world, demi_sgafree(&sga) == 0);
	world_note(world, side->received);
	if (bytes == 0) {
		side->ended = true;
		/* The end comes behind all that its sender was told to be taken. */
		WORLD_EXPECT(world, side->received >= peer->admitted);
		WORLD_EXPECT(world, may_fail(peer) || side->received == peer->total);
	}
}

static void receive_part(struct side *side)
{
	struct world *world = world_of(side);

	while (side->open && !side->ended && !side->error) {
		demi_qresult_t qr;
		demi_qtoken_t qt;
		int err = demi_pop(&qt, side->qd);
		if (err) {
			failed(side, err);
			break;
		}
		WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
		if (qr.qr_opcode == DEMI_OPC_FAILED) {
			failed(side, (int)qr.qr_ret);
			break;
		}
		WORLD_EXPECT(world, qr.qr_opcode == DEMI_OPC_POP);
		take(side, &qr);
		maybe_quit(side);
		if (side->pause_ns && world_below(world, 4) == 0)
			inet_sleep(world_below(world, side->pause_ns));
	}
	part_ends(side);
}

/* The reset of a peer that quit may be lost, and then only a question finds out. */
static void keep_alive(struct side *side)
{
	const struct {
		int level;
		int name;
		int value;
	} options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
		       {IPPROTO_TCP, TCP_KEEPIDLE, 20},
		       {IPPROTO_TCP, TCP_KEEPINTVL, 5}};

	for (size_t i = 0; i < ARRAY_LENGTH(options); i++)
		WORLD_EXPECT(world_of(side),
			     demi_setsockopt(side->qd, options[i].level, options[i].name,
					     &options[i].value, sizeof(int)) == 0);
}

/* The connection is there: this coroutine receives, another one sends. */
static void use_side(struct side *side, int qd)
{
	side->qd = qd;
	side->open = true;
	side->parts = 2;
	if (may_fail(side))
		keep_alive(side);
	WORLD_EXPECT(world_of(side), demi_go(send_part, side) == 0);
	receive_part(side);
}

/* ---- opening ---- */

static void set_options(struct side *side, int qd)
{
	struct world *world = world_of(side);
	int on = (int)world_below(world, 2);

	if (world_below(world, 4) == 0)
		WORLD_EXPECT(world,
			     demi_setsockopt(qd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
	if (world_below(world, 8) == 0)
		WORLD_EXPECT(world,
			     demi_setsockopt(qd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0);
}

static int open_socket(struct side *side, uint16_t port)
{
	struct world *world = world_of(side);
	const struct inet_name any = inet_any(side->conn->domain, port);
	int qd;

	WORLD_EXPECT(world, demi_socket(&qd, side->conn->domain, SOCK_STREAM, 0) == 0);
	set_options(side, qd);
	if (port)
		WORLD_EXPECT(world, demi_bind(qd, &any.any, any.length) == 0);
	return qd;
}

/* 0 or the positive errno. */
static int connect_to(struct side *side, int qd, uint16_t port)
{
	const struct inet_name to = inet_name(peer_of(side)->host->index, side->conn->domain, port);
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int err = demi_connect(&qt, qd, &to.any, to.length);

	if (err)
		return err;
	WORLD_EXPECT(world_of(side), demi_wait(&qr, qt, NULL) == 0);
	if (qr.qr_opcode == DEMI_OPC_FAILED)
		return (int)qr.qr_ret;
	WORLD_EXPECT(world_of(side), qr.qr_opcode == DEMI_OPC_CONNECT);
	return 0;
}

static void client(void *arg)
{
	struct side *side = arg;
	const struct conn *conn = side->conn;
	struct world *world = world_of(side);

	inet_sleep(conn->begin_ns);
	int qd = open_socket(side, conn->binds ? (uint16_t)(FIRST_PORT + conn->id) : 0);
	int err = connect_to(side, qd, conn->domain == AF_INET ? PORT_V4 : PORT_V6);
	WORLD_EXPECT(world, err == 0 || conn->run->short_memory);
	if (err) {
		WORLD_EXPECT(world, demi_close(qd) == 0);
		finish(side);
		finish(peer_of(side));
		return;
	}
	side->name = inet_local(world, qd);
	use_side(side, qd);
}

/* Both sides try at the same times until both come through: one that is too early is refused. */
static void opener(void *arg)
{
	struct side *side = arg;
	const struct conn *conn = side->conn;
	struct world *world = world_of(side);
	uint16_t base = (uint16_t)(FIRST_PORT + 1000 + 2 * conn->id);
	uint16_t own = (uint16_t)(base + (side == &conn->sides[1]));
	uint16_t other = (uint16_t)(base + (side == &conn->sides[0]));

	inet_sleep(conn->begin_ns);
	for (int tries = 0;; tries++) {
		WORLD_EXPECT(world, tries < OPEN_TRIES || conn->run->short_memory);
		if (tries == OPEN_TRIES) {
			finish(side);
			return;
		}
		int qd = open_socket(side, own);
		int err = connect_to(side, qd, other);
		if (!err) {
			use_side(side, qd);
			return;
		}
		WORLD_EXPECT(world,
			     err == ECONNREFUSED || err == ECONNRESET || conn->run->short_memory);
		WORLD_EXPECT(world, demi_close(qd) == 0);
		/* the next full tenth of a second */
		inet_sleep(WORLD_S / 10 - side->host->sched->now_ns % (WORLD_S / 10));
	}
}

struct acceptor {
	struct run *run;
	struct host *host;
	int qd;
};

struct accepted {
	struct side *side;
	int qd;
};

static void serve(void *arg)
{
	struct accepted *accepted = arg;
	struct side *side = accepted->side;
	int qd = accepted->qd;

	free(accepted);
	use_side(side, qd);
}

/* The connection whose client has this name; a port may be used again. */
static struct side *find_server(struct run *run, const struct host *host,
				const struct inet_name *peer)
{
	for (uint32_t i = 0; i < run->num_conns; i++) {
		struct conn *conn = &run->conns[i];
		const struct side *one = &conn->sides[0];
		if (conn->mode == MODE_SIMULTANEOUS || conn->sides[1].host != host ||
		    conn->sides[1].accepted || !one->name.length)
			continue;
		if (one->name.length == peer->length &&
		    memcmp(&one->name.room, &peer->room, peer->length) == 0)
			return &conn->sides[1];
	}
	return NULL;
}

static void accept_all(void *arg)
{
	struct acceptor *acceptor = arg;
	struct world *world = &acceptor->run->world;

	for (;;) {
		demi_qtoken_t qt;
		demi_qresult_t qr;
		WORLD_EXPECT(world, demi_accept(&qt, acceptor->qd) == 0);
		WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
		if (qr.qr_opcode == DEMI_OPC_FAILED && qr.qr_ret == ENOMEM)
			continue;
		if (qr.qr_opcode == DEMI_OPC_FAILED) {
			WORLD_EXPECT(world, qr.qr_ret == ECANCELED);
			break;
		}
		struct accepted *accepted = malloc(sizeof(*accepted));
		WORLD_EXPECT(world, accepted);
		accepted->qd = qr.qr_value.ares.qd;
		const struct inet_name peer = inet_peer(world, accepted->qd);
		accepted->side = find_server(acceptor->run, acceptor->host, &peer);
		if (!accepted->side) { /* its client is gone already */
			WORLD_EXPECT(world, demi_close(accepted->qd) == 0);
			free(accepted);
			continue;
		}
		accepted->side->accepted = true;
		WORLD_EXPECT(world, demi_go(serve, accepted) == 0);
	}
	free(acceptor);
}

/* ---- a run ---- */

static void listen_on(struct run *run, struct host *host, int which)
{
	struct world *world = &run->world;
	int domain = which == 0 ? AF_INET : AF_INET6;
	const struct inet_name any = inet_any(domain, which == 0 ? PORT_V4 : PORT_V6);
	struct acceptor *acceptor = malloc(sizeof(*acceptor));
	int qd;

	WORLD_EXPECT(world, acceptor);
	world_enter(host);
	WORLD_EXPECT(world, demi_socket(&qd, domain, SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(world, demi_bind(qd, &any.any, any.length) == 0);
	int backlog = world_below(world, 4) == 0 ? 1 : CONNS_MAX;
	WORLD_EXPECT(world, demi_listen(qd, backlog) == 0);
	run->listeners[host->index][which] = qd;
	*acceptor = (struct acceptor){.run = run, .host = host, .qd = qd};
	WORLD_EXPECT(world, demi_go(accept_all, acceptor) == 0);
}

static void add_hosts(struct run *run)
{
	static const uint32_t mtus[] = {1500, 1500, 1280, 9216, 1493, 2000};
	struct world *world = &run->world;
	uint32_t mtu = mtus[world_below(world, ARRAY_LENGTH(mtus))];
	uint32_t count = (uint32_t)world_between(world, 2, 4);

	for (uint32_t i = 0; i < count; i++) {
		struct config config;
		struct sim_options options;
		inet_config(&config, i);
		inet_draw_config(world, &config);
		inet_draw_device(world, mtu, &options);
		if (run->short_memory)
			config.heap_max_bytes =
				(int64_t)world_between(world, 6, 32) * SUPERBLOCK_BYTES;
		struct host *host = world_add_instance(world, &config, &options);
		listen_on(run, host, 0);
		listen_on(run, host, 1);
	}
}

/* Sizes differ by orders of magnitude. */
static uint64_t draw_bytes(struct world *world, uint64_t most)
{
	uint64_t bytes = most >> world_below(world, 12);

	return world_below(world, 8) == 0 ? 0 : world_between(world, bytes / 2, bytes);
}

static void draw_side(struct world *world, struct side *side, uint64_t most)
{
	side->total = draw_bytes(world, most);
	side->push_max = draw_bytes(world, 400000) + 1;
	if (side->total / side->push_max > 2000)
		side->push_max = side->total / 2000;
	side->pause_ns = world_below(world, 3) == 0 ? world_below(world, 100 * WORLD_MS) : 0;
	side->gap_ns = world_below(world, 3) == 0 ? world_below(world, 10 * WORLD_MS) : 0;
	side->quit_at = UINT64_MAX;
}

static void add_conn(struct run *run, uint64_t most)
{
	struct world *world = &run->world;
	struct conn *conn = &run->conns[run->num_conns];
	uint32_t from = (uint32_t)world_below(world, world->num_hosts);
	uint32_t to =
		(uint32_t)(from + world_between(world, 1, world->num_hosts - 1)) % world->num_hosts;
	uint64_t mode = world_below(world, 16);

	*conn = (struct conn){
		.run = run,
		.id = run->num_conns++,
		.domain = world_below(world, 2) ? AF_INET : AF_INET6,
		.mode = mode < 3   ? MODE_RUDE
			: mode < 5 ? MODE_SIMULTANEOUS
				   : MODE_PLAIN,
		.binds = world_below(world, 2) == 0,
		.begin_ns = world_below(world, 3) == 0 ? 0 : world_below(world, WORLD_S),
	};
	for (uint32_t i = 0; i < 2; i++) {
		struct side *side = &conn->sides[i];
		side->conn = conn;
		side->host = world->hosts[i == 0 ? from : to];
		side->stream = 2 * conn->id + i;
		draw_side(world, side, most);
	}
	if (conn->mode == MODE_RUDE) {
		struct side *side = &conn->sides[world_below(world, 2)];
		side->quit_at = world_below(world, side->total + peer_of(side)->total + 2);
	}
	bool both = conn->mode == MODE_SIMULTANEOUS;
	for (uint32_t i = 0; i < (both ? 2U : 1U); i++) {
		world_enter(conn->sides[i].host);
		WORLD_EXPECT(world, demi_go(both ? opener : client, &conn->sides[i]) == 0);
	}
}

static void add_conns(struct run *run)
{
	struct world *world = &run->world;
	bool many = world_below(world, 8) == 0;
	uint64_t count = many ? world_between(world, 20, CONNS_MAX) : world_between(world, 1, 6);

	for (uint64_t i = 0; i < count; i++)
		add_conn(run, many ? 5000 : 400000);
	for (uint32_t i = 0; i < world->num_hosts; i++)
		world_wake(world->hosts[i]);
}

/* Captures begin and end at any time. */
static void capture(struct world *world, void *arg)
{
	struct run *run = arg;

	inet_toggle_capture(world->hosts[world_below(world, world->num_hosts)]);
	if (run->finished < 2 * run->num_conns)
		world_at(world, world->now_ns + world_below(world, 200 * WORLD_MS), capture, run);
}

static bool all_finished(void *arg)
{
	const struct run *run = arg;

	return run->finished == 2 * run->num_conns;
}

static bool all_empty(void *arg)
{
	const struct run *run = arg;

	for (uint32_t i = 0; i < run->world.num_hosts; i++)
		if (!inet_is_empty(run->world.hosts[i]))
			return false;
	return true;
}

static void close_listeners(struct run *run)
{
	for (uint32_t i = 0; i < run->world.num_hosts; i++) {
		world_enter(run->world.hosts[i]);
		for (int which = 0; which < 2; which++)
			WORLD_EXPECT(&run->world, demi_close(run->listeners[i][which]) == 0);
		world_wake(run->world.hosts[i]);
	}
}

static void describe(const struct world *world)
{
	static const char *const modes[] = {"plain", "rude", "simultaneous"};
	const struct run *run = (const struct run *)(const void *)world;

	for (uint32_t i = 0; i < 2 * run->num_conns; i++) {
		const struct conn *conn = &run->conns[i / 2];
		const struct side *side = &conn->sides[i % 2];
		if (!side->finished)
			printf("# connection %" PRIu32 " (%s) at host %" PRIu32
			       ": open %d parts %" PRIu32 " total %" PRIu64 " pushed %" PRIu64
			       " admitted %" PRIu64 " received %" PRIu64 " ended %d error %d\n",
			       conn->id, modes[conn->mode], side->host->index, side->open,
			       side->parts, side->total, side->pushed, side->admitted,
			       side->received, side->ended, side->error);
	}
}

static uint64_t run_seed(uint64_t seed)
{
	struct run *run = calloc(1, sizeof(*run));
	struct world *world = &run->world;

	assert_non_null(run);
	world_open(world, seed);
	world->check = inet_check;
	world->describe = describe;
	run->short_memory = world_below(world, 8) == 0;
	add_hosts(run);
	if (world_below(world, 8) != 0)
		world_swarm(world);
	add_conns(run);
	if (world_below(world, 8) == 0)
		world_at(world, world->now_ns, capture, run);
	uint64_t faults_end = WORLD_START_NS + world_between(world, 1, 60) * WORLD_S;
	while (!all_finished(run) && world_step(world, faults_end))
		;
	world_calm(world);
	/* Where memory is short most pushes are refused, and tried again after a while. */
	world_run(world, all_finished, run,
		  world->now_ns + (run->short_memory ? 100 : 1) * LIMIT_NS);
	close_listeners(run);
	world_run(world, all_empty, run, world->now_ns + LIMIT_NS);
	for (uint32_t i = 0; i < world->num_hosts; i++)
		inet_expect_empty(world->hosts[i]);
	uint64_t hash = world->hash;
	world_close(world);
	free(run);
	return hash;
}

static void test_streams(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 400, 40, run_seed);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams),
	};

	return test_run("tcp", tests);
}
