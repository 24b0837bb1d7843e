/* SPDX-License-Identifier: MIT
 * tests/sim/udp_test.c - UDP between whole instances in a simulated world: datagrams of all sizes
 * under random configurations and faults.
 *
 * What is popped was pushed, to this socket, by whom it says, whole and unchanged.  Without faults
 * it comes, once, and a port that nobody has is told of.  At the end nothing is left.
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
#include <stdlib.h>
#include <string.h>

#define SOCKETS_MAX   16
#define DATAGRAMS_MAX 4096
#define NUMBER_BYTES  4
#define BYTES_MAX     65536 /* buffers of which are static: no coroutine waits while one is in use */
#define CLOSED_PORT   9
#define FIRST_PORT    5000

struct run;

struct socket {
	struct run *run;
	struct host *host;
	uint32_t index;
	int domain;
	int qd;
	uint16_t port;
	bool bound_to_one;      /* to its address, not to all */
	struct socket *partner; /* connected to it; NULL */
	uint32_t to_send;
	uint64_t gap_ns;
	uint64_t pause_ns;
	bool open;
};

struct datagram {
	const struct socket *from;
	const struct socket *to;
	uint32_t length;
	uint32_t received;
};

struct run {
	struct world world;
	uint32_t mtu;
	uint32_t num_sockets;
	struct socket sockets[SOCKETS_MAX];
	uint32_t num_datagrams;
	struct datagram datagrams[DATAGRAMS_MAX];
	uint32_t received;
	uint32_t senders; /* that are not done */
	bool calm;
};

static struct world *world_of(const struct socket *s)
{
	return &s->run->world;
}

static uint32_t payload_max(const struct socket *s)
{
	return s->run->mtu - (s->domain == AF_INET ? 28 : 48);
}

/* ---- what is sent ---- */

/* The number, then bytes that follow from it; short ones are the beginning of that. */
static void fill(uint8_t *bytes, uint32_t number, uint32_t length)
{
	uint8_t head[NUMBER_BYTES];

	memcpy(head, &number, sizeof(head));
	memcpy(bytes, head, length < sizeof(head) ? length : sizeof(head));
	if (length > sizeof(head))
		inet_fill(number, 0, bytes + sizeof(head), length - sizeof(head));
}

static demi_sgarray_t make(struct socket *s, uint32_t number, uint32_t length)
{
	struct world *world = world_of(s);
	demi_sgarray_t sga = {0};
	static uint8_t bytes[BYTES_MAX];
	uint32_t done = 0;
	uint64_t segments = world_between(world, 1, DEMI_SGARRAY_MAXSIZE);

	fill(bytes, number, length);
	while (done < length || sga.sga_numsegs == 0) {
		demi_sgaseg_t *seg = &sga.sga_segs[sga.sga_numsegs++];
		uint32_t most = length - done;
		uint32_t n = most > 0 && sga.sga_numsegs < segments
				     ? (uint32_t)world_between(world, 1, most)
				     : most;
		seg->sgaseg_buf = demi_malloc(n > 0 ? n : 1);
		WORLD_EXPECT(world, seg->sgaseg_buf);
		memcpy(seg->sgaseg_buf, bytes + done, n);
		seg->sgaseg_len = n;
		done += n;
	}
	return sga;
}

/* Pushes; the result, 0 or a positive errno. */
static int push(struct socket *s, demi_sgarray_t *sga, const struct inet_name *to)
{
	struct world *world = world_of(s);
	demi_qtoken_t qt;
	demi_qresult_t qr;
	int err = to ? demi_pushto(&qt, s->qd, sga, &to->any, to->length)
		     : demi_push(&qt, s->qd, sga);

	for (uint32_t i = 0; i < sga->sga_numsegs; i++)
		WORLD_EXPECT(world, demi_free(sga->sga_segs[i].sgaseg_buf) == 0);
	if (err)
		return err;
	WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
	return qr.qr_opcode == DEMI_OPC_FAILED ? (int)qr.qr_ret : 0;
}

static struct inet_name name_of(const struct socket *s)
{
	return inet_name(s->host->index, s->domain, s->port);
}

static struct socket *draw_target(struct socket *s)
{
	struct run *run = s->run;

	for (;;) {
		struct socket *to = &run->sockets[world_below(&run->world, run->num_sockets)];
		if (to->domain == s->domain && (!to->partner || to->partner == s))
			return to;
	}
}

/* In fragments only where frames are not corrupted: changes in two of them may cancel each other in
 * the checksum of the whole. */
static bool may_be_large(const struct socket *s, const struct socket *to)
{
	return !s->run->calm && world_of(s)->paths[s->host->index][to->host->index].corrupt == 0;
}

static uint32_t draw_length(struct socket *s, const struct socket *to)
{
	struct world *world = world_of(s);
	uint32_t max = payload_max(s);

	if (may_be_large(s, to) && world_below(world, 10) == 0)
		return (uint32_t)world_between(world, max + 1, 65507);
	switch (world_below(world, 4)) {
	case 0:
		return (uint32_t)world_below(world, 10);
	case 1:
		return max - (uint32_t)world_below(world, 3);
	default:
		return (uint32_t)world_between(world, 0, max);
	}
}

/* Enters it as sent, then pushes: what is taken may arrive before the push is known to be done. */
static void send_one(struct socket *s)
{
	struct run *run = s->run;
	struct world *world = &run->world;
	struct socket *to = s->partner ? s->partner : draw_target(s);
	uint32_t number = run->num_datagrams++;

	WORLD_EXPECT(world, number < DATAGRAMS_MAX);
	run->datagrams[number] =
		(struct datagram){.from = s, .to = to, .length = draw_length(s, to)};
	const struct inet_name name = name_of(to);
	demi_sgarray_t sga = make(s, number, run->datagrams[number].length);
	int err = push(s, &sga, s->partner ? NULL : &name);
	/* A neighbour that did not answer in time is told to a later operation. */
	WORLD_EXPECT(world, err == 0 || (!run->calm && err == EHOSTUNREACH));
}

static void sender(void *arg)
{
	struct socket *s = arg;
	struct world *world = world_of(s);

	for (; s->to_send > 0; s->to_send--) {
		send_one(s);
		if (s->gap_ns && world_below(world, 2))
			inet_sleep(world_below(world, s->gap_ns));
	}
	s->run->senders--;
}

/* ---- what is received ---- */

static struct datagram *find_short(struct socket *s, uint32_t length, const struct inet_name *from)
{
	struct run *run = s->run;

	for (uint32_t i = 0; i < run->num_datagrams; i++) {
		struct datagram *d = &run->datagrams[i];
		const struct inet_name name = name_of(d->from);
		if (d->to == s && d->length == length && d->received == 0 &&
		    memcmp(&name.room, &from->room, name.length) == 0)
			return d;
	}
	return NULL;
}

static void check(struct socket *s, const uint8_t *bytes, uint32_t length,
		  const struct inet_name *from)
{
	struct run *run = s->run;
	struct world *world = &run->world;
	static uint8_t expected[BYTES_MAX];
	uint32_t number;

	run->received++;
	if (length < NUMBER_BYTES) { /* too short to say which it is */
		struct datagram *d = find_short(s, length, from);
		WORLD_EXPECT(world, d || world->stats.duplicated > 0);
		if (d)
			d->received++;
		return;
	}
	memcpy(&number, bytes, sizeof(number));
	WORLD_EXPECT(world, number < run->num_datagrams);
	struct datagram *d = &run->datagrams[number];
	WORLD_EXPECT(world, d->to == s && d->length == length);
	const struct inet_name name = name_of(d->from);
	WORLD_EXPECT(world, name.length == from->length);
	WORLD_EXPECT(world, memcmp(&name.room, &from->room, name.length) == 0);
	fill(expected, number, length);
	WORLD_EXPECT(world, memcmp(expected, bytes, length) == 0);
	d->received++;
	WORLD_EXPECT(world, d->received == 1 || world->stats.duplicated > 0);
}

static void take(struct socket *s, const demi_qresult_t *qr)
{
	struct world *world = world_of(s);
	struct inet_name from = {.length = sizeof(from.room)};
	static uint8_t bytes[BYTES_MAX];
	uint32_t length = 0;
	demi_sgarray_t sga;

	memcpy(&sga, &qr->qr_value.sga, sizeof(sga));
	WORLD_EXPECT(world, demi_sgaaddr(&sga, &from.any, &from.length) == 0);
	for (uint32_t i = 0; i < sga.sga_numsegs; i++) {
		WORLD_EXPECT(world, length + sga.sga_segs[i].sgaseg_len <= sizeof(bytes));
		memcpy(bytes + length, sga.sga_segs[i].sgaseg_buf, sga.sga_segs[i].sgaseg_len);
		length += sga.sga_segs[i].sgaseg_len;
	}
	check(s, bytes, length, &from);
	WORLD_EXPECT(world, demi_sgafree(&sga) == 0);
	world_note(world, length);
}

static void receiver(void *arg)
{
	struct socket *s = arg;
	struct world *world = world_of(s);

	for (;;) {
		demi_qtoken_t qt;
		demi_qresult_t qr;
		int err = demi_pop(&qt, s->qd);
		if (err == EHOSTUNREACH && !s->run->calm)
			continue;
		WORLD_EXPECT(world, err == 0);
		WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
		if (qr.qr_opcode == DEMI_OPC_FAILED && qr.qr_ret == ECANCELED && !s->open)
			return;
		if (qr.qr_opcode == DEMI_OPC_FAILED && qr.qr_ret == EHOSTUNREACH && !s->run->calm)
			continue;
		WORLD_EXPECT(world, qr.qr_opcode == DEMI_OPC_POP);
		take(s, &qr);
		if (s->pause_ns && world_below(world, 8) == 0)
			inet_sleep(world_below(world, s->pause_ns));
	}
}

/* ---- a run ---- */

static void open_socket(struct socket *s)
{
	struct world *world = world_of(s);
	const struct inet_name own = s->bound_to_one ? name_of(s) : inet_any(s->domain, s->port);

	world_enter(s->host);
	WORLD_EXPECT(world, demi_socket(&s->qd, s->domain, SOCK_DGRAM, 0) == 0);
	WORLD_EXPECT(world, demi_bind(s->qd, &own.any, own.length) == 0);
	s->open = true;
}

static void connect_socket(struct socket *s)
{
	static const struct timespec now;
	struct world *world = world_of(s);
	const struct inet_name to = name_of(s->partner);
	demi_qtoken_t qt;
	demi_qresult_t qr;

	world_enter(s->host);
	WORLD_EXPECT(world, demi_connect(&qt, s->qd, &to.any, to.length) == 0);
	WORLD_EXPECT(world, demi_wait(&qr, qt, &now) == 0);
	WORLD_EXPECT(world, qr.qr_opcode == DEMI_OPC_CONNECT);
}

static void start(struct socket *s)
{
	world_enter(s->host);
	s->run->senders++;
	WORLD_EXPECT(world_of(s), demi_go(sender, s) == 0);
	WORLD_EXPECT(world_of(s), demi_go(receiver, s) == 0);
	world_wake(s->host);
}

/* A few sockets of each family; neighbours in the list that are of one family and on different
 * hosts are sometimes connected to each other. */
static void add_sockets(struct run *run)
{
	struct world *world = &run->world;
	uint32_t half = (uint32_t)world_between(world, 1, SOCKETS_MAX / 2);

	run->num_sockets = 2 * half;
	for (uint32_t i = 0; i < run->num_sockets; i++) {
		struct socket *s = &run->sockets[i];
		*s = (struct socket){
			.run = run,
			.host = world->hosts[world_below(world, world->num_hosts)],
			.index = i,
			.domain = i < half ? AF_INET : AF_INET6,
			.port = (uint16_t)(FIRST_PORT + i),
			.bound_to_one = world_below(world, 2) == 0,
			.to_send = (uint32_t)world_below(world, 60),
			.gap_ns = world_below(world, 2) ? world_below(world, 10 * WORLD_MS) : 0,
			.pause_ns = world_below(world, 3) ? 0 : world_below(world, 50 * WORLD_MS),
		};
		open_socket(s);
	}
	for (uint32_t i = 0; i + 1 < run->num_sockets; i++) {
		struct socket *a = &run->sockets[i];
		struct socket *b = a + 1;
		if (a->domain != b->domain || a->host == b->host || a->partner ||
		    world_below(world, 3))
			continue;
		a->partner = b;
		b->partner = a;
		connect_socket(a);
		connect_socket(b);
	}
	for (uint32_t i = 0; i < run->num_sockets; i++)
		start(&run->sockets[i]);
}

static void add_hosts(struct run *run)
{
	static const uint32_t mtus[] = {1500, 1280, 9000, 1493};
	struct world *world = &run->world;
	uint32_t count = (uint32_t)world_between(world, 2, 4);

	run->mtu = mtus[world_below(world, ARRAY_LENGTH(mtus))];
	for (uint32_t i = 0; i < count; i++) {
		struct config config;
		struct sim_options options;
		inet_config(&config, i);
		inet_draw_config(world, &config);
		inet_draw_device(world, run->mtu, &options);
		(void)world_add_instance(world, &config, &options);
	}
}

static bool all_sent(void *arg)
{
	return ((struct run *)arg)->senders == 0;
}

/* Without faults, one at a time, each arrives. */
static void send_calmly(struct run *run)
{
	struct world *world = &run->world;

	for (uint32_t i = 0; i < run->num_sockets; i++) {
		struct socket *s = &run->sockets[i];
		s->to_send = 1;
		s->pause_ns = 0;
		run->senders++;
		world_enter(s->host);
		WORLD_EXPECT(world, demi_go(sender, s) == 0);
		world_wake(s->host);
		uint32_t number = run->num_datagrams;
		world_run_until(world, world->now_ns + 10 * WORLD_S);
		WORLD_EXPECT(world, run->num_datagrams == number + 1);
		WORLD_EXPECT(world, run->datagrams[number].length < NUMBER_BYTES ||
					    run->datagrams[number].received == 1);
	}
}

struct refused {
	struct run *run;
	int domain;
	int error;
	bool too_long;
};

/* RFC 1122 4.1.3.3, 4.1.3.1: port unreachable is told to whom it concerns.  And what no datagram
 * can hold is refused. */
static void ask_closed_port(void *arg)
{
	struct refused *refused = arg;
	struct run *run = refused->run;
	struct world *world = &run->world;
	struct socket s = {.run = run, .domain = refused->domain, .host = world->hosts[0]};
	const struct inet_name to = inet_name(1, s.domain, CLOSED_PORT);
	demi_qtoken_t qt;
	demi_qresult_t qr;

	WORLD_EXPECT(world, demi_socket(&s.qd, s.domain, SOCK_DGRAM, 0) == 0);
	WORLD_EXPECT(world, demi_connect(&qt, s.qd, &to.any, to.length) == 0);
	WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
	demi_sgarray_t sga = make(&s, 0, s.domain == AF_INET ? 65508 : 65528);
	refused->too_long = push(&s, &sga, NULL) == EMSGSIZE;
	sga = make(&s, 0, 10);
	WORLD_EXPECT(world, push(&s, &sga, NULL) == 0);
	WORLD_EXPECT(world, demi_pop(&qt, s.qd) == 0);
	WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
	refused->error = qr.qr_opcode == DEMI_OPC_FAILED ? (int)qr.qr_ret : 0;
	WORLD_EXPECT(world, demi_close(s.qd) == 0);
}

static void try_closed_port(struct run *run, int domain)
{
	struct refused refused = {.run = run, .domain = domain};
	struct world *world = &run->world;

	world_enter(world->hosts[0]);
	WORLD_EXPECT(world, demi_go(ask_closed_port, &refused) == 0);
	world_wake(world->hosts[0]);
	world_run_until(world, world->now_ns + 10 * WORLD_S);
	WORLD_EXPECT(world, refused.too_long);
	WORLD_EXPECT(world, refused.error == ECONNREFUSED);
}

static bool all_empty(void *arg)
{
	const struct run *run = arg;

	for (uint32_t i = 0; i < run->world.num_hosts; i++)
		if (!inet_is_empty(run->world.hosts[i]))
			return false;
	return true;
}

static void end_sockets(struct run *run)
{
	for (uint32_t i = 0; i < run->num_sockets; i++) {
		struct socket *s = &run->sockets[i];
		s->open = false;
		world_enter(s->host);
		WORLD_EXPECT(&run->world, demi_close(s->qd) == 0);
		world_wake(s->host);
	}
}

static uint64_t run_seed(uint64_t seed)
{
	struct run *run = calloc(1, sizeof(*run));
	struct world *world = &run->world;

	assert_non_null(run);
	world_open(world, seed);
	world->check = inet_check;
	add_hosts(run);
	bool perfect = world_below(world, 4) == 0;
	if (!perfect)
		world_swarm(world);
	add_sockets(run);
	world_run(world, all_sent, run, world->now_ns + 1000 * WORLD_S);
	world_run_until(world, world->now_ns + 60 * WORLD_S);
	WORLD_EXPECT(world, run->num_datagrams < 20 || run->received > 0);
	world_calm(world);
	world_run_until(world, world->now_ns + 60 * WORLD_S);
	run->calm = true;
	send_calmly(run);
	try_closed_port(run, AF_INET);
	try_closed_port(run, AF_INET6);
	end_sockets(run);
	world_run(world, all_empty, run, world->now_ns + 100 * WORLD_S);
	for (uint32_t i = 0; i < world->num_hosts; i++)
		inet_expect_empty(world->hosts[i]);
	uint64_t hash = world->hash;
	world_close(world);
	free(run);
	return hash;
}

static void test_datagrams(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 400, 30, run_seed);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_datagrams),
	};

	return test_run("udp", tests);
}
