/* SPDX-License-Identifier: MIT
 * tests/sim/group_test.c - groups among several hosts on one link: multicast of both families and
 * broadcast, on a virtual LAN or not, at any MTU, with a querier that believes what it is told.
 *
 * What is popped was sent, whole, to a group that the socket is in.  Without faults each member
 * gets it once and nobody else; and when the querier asks, exactly the groups are reported that
 * somebody is in.  A host of another virtual LAN hears nothing.
 */
#include "sim/inet.h"

#include "net/group.h"
#include "net/wire/checksum.h"
#include "support/seed.h"

#include <arpa/inet.h>
#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <stdlib.h>
#include <string.h>

#define SOCKETS_MAX 16
#define GROUPS      4
#define PORT        5000
#define NUMBER      4
#define MESSAGES    512
#define PHASES      5
#define OUR_LAN     7
#define BROADCAST   GROUPS
#define BYTES_MAX   9216

static const char *const names[2][GROUPS] = {
	{"239.0.0.1", "239.128.0.1", "224.0.0.251", "232.1.1.1"},
	{"ff15::1", "ff02::fb", "ff0e::ffff:1", "ff05::1:3"},
};

struct run;

struct socket {
	struct run *run;
	struct host *host;
	bool v6;
	bool loop;
	int qd;
	uint32_t groups; /* bits */
	bool open;
};

struct message {
	bool v6;
	uint32_t group; /* or BROADCAST */
	uint32_t length;
	uint32_t wanted; /* sockets that shall have it */
	uint32_t got;
};

struct run {
	struct world world;
	uint32_t mtu;
	bool vlan;
	bool calm;
	uint32_t num_sockets;
	struct socket sockets[SOCKETS_MAX];
	uint32_t num_messages;
	struct message messages[MESSAGES];
	struct host *querier;
	uint32_t seen[2]; /* groups that were reported as wanted: bits */
};

static struct ip_address group_of(bool v6, uint32_t group)
{
	struct ip_address a = ip_from_v4(0);
	const char *name = v6 ? names[1][group] : names[0][group];

	if (inet_pton(v6 ? AF_INET6 : AF_INET, name, v6 ? a.bytes : a.bytes + 12) != 1)
		abort();
	return a;
}

/* The host of another LAN. */
static const struct host *deaf(const struct run *run)
{
	return run->world.hosts[run->querier->index - 1];
}

/* ---- the querier ---- */

static void note(struct run *run, const struct ip_address *address, bool v6)
{
	for (uint32_t i = 0; i < GROUPS; i++) {
		const struct ip_address group = group_of(v6, i);
		if (ip_equal(&group, address))
			run->seen[v6] |= 1U << i;
	}
}

static struct ip_address take_address(struct cursor *c, bool v6)
{
	struct ip_address a = ip_from_v4(0);

	cursor_bytes(c, v6 ? a.bytes : a.bytes + 12, v6 ? 16 : 4);
	return a;
}

/* Behind the first octet of a message. */
static void hear_report(struct run *run, struct cursor *c, bool v6, bool records)
{
	struct ip_address address;

	cursor_skip(c, records ? 5 : v6 ? 7 : 3);
	uint32_t count = records ? cursor_u16(c) : 1;
	for (uint32_t i = 0; i < count && !c->bad; i++) {
		uint8_t type = records ? cursor_u8(c) : GROUP_IS_EXCLUDE;
		cursor_skip(c, records ? 3 : 0);
		address = take_address(c, v6);
		if (type == GROUP_IS_EXCLUDE || type == GROUP_TO_EXCLUDE)
			note(run, &address, v6);
	}
}

static void hear(struct host *host, const uint8_t *bytes, uint32_t length)
{
	struct run *run = host->arg;
	struct world *world = &run->world;
	struct cursor c = cursor_over(bytes, length);
	struct ip_problem problem;
	struct ip_packet packet;

	if (length < ETHER_HEADER_BYTES + ETHER_TAG_BYTES ||
	    memcmp(bytes + 6, deaf(run)->mac, 6) == 0)
		return;
	if (run->vlan) {
		cursor_skip(&c, ETHER_TAG_BYTES);
		if (run->calm)
			WORLD_EXPECT(world, load16(bytes + 12) == ETHER_VLAN);
	}
	cursor_skip(&c, 12);
	bool v6 = cursor_u16(&c) == ETHER_IPV6;
	if (v6 ? ipv6_parse(&c, &packet, &problem) : ipv4_parse(&c, &packet))
		return;
	uint8_t type = cursor_u8(&c);
	if (packet.protocol == IP_IGMP && (type == 0x22 || type == 0x16))
		hear_report(run, &c, false, type == 0x22);
	else if (packet.protocol == IP_ICMPV6 && (type == 143 || type == 131))
		hear_report(run, &c, true, type == 143);
}

/* A general query, to be answered within a second. */
static void ask(struct run *run, bool v6, bool old)
{
	const struct ip_address from = {.bytes = {0xfe, 0x80, [15] = 0x99}};
	const struct ip_address from_v4 = ip_from_v4(htonl(0x0a000063));
	const struct ip_address to = {.bytes = {0xff, 2, [15] = 1}};
	const struct ip_address to_v4 = ip_from_v4(htonl(INADDR_ALLHOSTS_GROUP));
	uint32_t length = (v6 ? 24U : 8U) + (old ? 0 : 4);
	uint8_t bytes[128] = {0};
	uint8_t mac[6];
	uint8_t *at = bytes + ETHER_HEADER_BYTES + (run->vlan ? ETHER_TAG_BYTES : 0);
	uint8_t *message = at + (v6 ? IPV6_HEADER_BYTES + IPV6_ALERT_BYTES : IPV4_ALERT_BYTES);

	message[0] = v6 ? 130 : 0x11;
	if (v6)
		store16(message + 4, 1000);
	else
		message[1] = 10;
	uint64_t sum = checksum_partial(message, length);
	if (v6)
		sum += checksum_pseudo(&from, &to, IP_ICMPV6, length);
	uint16_t checksum = checksum_finish(sum);
	memcpy(message + 2, &checksum, 2);
	group_mac(v6 ? &to : &to_v4, mac);
	uint16_t type = v6 ? ETHER_IPV6 : ETHER_IPV4;
	if (run->vlan)
		ether_write_tagged(bytes, mac, run->querier->mac, OUR_LAN, type);
	else
		ether_write(bytes, mac, run->querier->mac, type);
	if (v6) {
		ipv6_write(at, &from, &to, IP_HOP_BY_HOP, 1, 0, IPV6_ALERT_BYTES + length, 0);
		group_write_alert_v6(at + IPV6_HEADER_BYTES);
	} else {
		group_write_alert_v4(at, &from_v4, &to_v4, length);
	}
	world_send(run->querier, bytes, (uint32_t)(message - bytes) + length);
}

/* ---- what is received ---- */

static void check(struct socket *s, const uint8_t *bytes, uint32_t length)
{
	struct run *run = s->run;
	struct world *world = &run->world;
	uint32_t own = 1U << (s - run->sockets);
	static uint8_t expected[BYTES_MAX];
	uint32_t number;

	WORLD_EXPECT(world, length >= NUMBER && length <= BYTES_MAX);
	memcpy(&number, bytes, sizeof(number));
	WORLD_EXPECT(world, number < run->num_messages);
	struct message *message = &run->messages[number];
	WORLD_EXPECT(world, message->length == length && message->wanted & own);
	WORLD_EXPECT(world, !(message->got & own) || world->stats.duplicated > 0);
	inet_fill(number, 0, expected, length - NUMBER);
	WORLD_EXPECT(world, memcmp(expected, bytes + NUMBER, length - NUMBER) == 0);
	message->got |= own;
	world_note(world, number);
}

static void receiver(void *arg)
{
	struct socket *s = arg;
	struct world *world = &s->run->world;

	for (;;) {
		demi_qtoken_t qt;
		demi_qresult_t qr;
		demi_sgarray_t sga;
		WORLD_EXPECT(world, demi_pop(&qt, s->qd) == 0);
		WORLD_EXPECT(world, demi_wait(&qr, qt, NULL) == 0);
		if (!s->open)
			return;
		WORLD_EXPECT(world, qr.qr_opcode == DEMI_OPC_POP);
		memcpy(&sga, &qr.qr_value.sga, sizeof(sga));
		WORLD_EXPECT(world, sga.sga_numsegs == 1);
		check(s, sga.sga_segs[0].sgaseg_buf, sga.sga_segs[0].sgaseg_len);
		WORLD_EXPECT(world, demi_sgafree(&sga) == 0);
	}
}

/* ---- what is sent ---- */

/* Who shall have what a socket sends to a group. */
static uint32_t members(const struct socket *from, bool v6, uint32_t group)
{
	const struct run *run = from->run;
	uint32_t wanted = 0;

	for (uint32_t i = 0; i < run->num_sockets; i++) {
		const struct socket *s = &run->sockets[i];
		bool in = group == BROADCAST || s->groups >> group & 1;
		bool heard = s->host != from->host || from->loop || group == BROADCAST;
		if (s->v6 == v6 && in && heard)
			wanted |= 1U << i;
	}
	return wanted;
}

static struct inet_name target(const struct message *message, bool subnet)
{
	struct inet_name name = inet_any(message->v6 ? AF_INET6 : AF_INET, PORT);
	struct sockaddr_in *in = (struct sockaddr_in *)&name.room;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&name.room;

	if (message->group == BROADCAST) {
		in->sin_addr.s_addr = htonl(subnet ? 0x0a0000ff : INADDR_BROADCAST);
		return name;
	}
	const struct ip_address address = group_of(message->v6, message->group);
	if (message->v6)
		memcpy(&in6->sin6_addr, address.bytes, 16);
	else
		in->sin_addr.s_addr = address.words[3];
	return name;
}

static void send_one(struct run *run)
{
	static const struct timespec now;
	struct world *world = &run->world;
	struct socket *s = &run->sockets[world_below(world, run->num_sockets)];
	uint32_t number = run->num_messages++;
	struct message *message = &run->messages[number];
	uint32_t max = run->mtu - (s->v6 ? 48 : 28);
	demi_sgarray_t sga = {.sga_numsegs = 1};
	demi_qtoken_t qt;
	demi_qresult_t qr;

	*message = (struct message){
		.v6 = s->v6,
		.group = (uint32_t)world_below(world, s->v6 ? GROUPS : GROUPS + 1),
		.length = world_below(world, 3) ? (uint32_t)world_between(world, NUMBER, max) : max,
	};
	message->wanted = members(s, s->v6, message->group);
	const struct inet_name to = target(message, world_below(world, 2) == 0);
	world_enter(s->host);
	uint8_t *bytes = demi_malloc(message->length);
	WORLD_EXPECT(world, bytes);
	memcpy(bytes, &number, NUMBER);
	inet_fill(number, 0, bytes + NUMBER, message->length - NUMBER);
	sga.sga_segs[0] = (demi_sgaseg_t){.sgaseg_buf = bytes, .sgaseg_len = message->length};
	WORLD_EXPECT(world, demi_pushto(&qt, s->qd, &sga, &to.any, to.length) == 0);
	WORLD_EXPECT(world, demi_wait(&qr, qt, &now) == 0);
	WORLD_EXPECT(world, qr.qr_opcode == DEMI_OPC_PUSH);
	WORLD_EXPECT(world, demi_free(bytes) == 0);
	world_wake(s->host);
}

/* ---- a run ---- */

static void set_int(struct socket *s, int level, int name, int value)
{
	WORLD_EXPECT(&s->run->world,
		     demi_setsockopt(s->qd, level, name, &value, sizeof(value)) == 0);
}

static void open_socket(struct socket *s)
{
	struct world *world = &s->run->world;
	int domain = s->v6 ? AF_INET6 : AF_INET;
	const struct inet_name any = inet_any(domain, PORT);

	world_enter(s->host);
	WORLD_EXPECT(world, demi_socket(&s->qd, domain, SOCK_DGRAM, 0) == 0);
	set_int(s, SOL_SOCKET, SO_REUSEADDR, 1);
	if (s->v6)
		set_int(s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	else
		set_int(s, SOL_SOCKET, SO_BROADCAST, 1);
	set_int(s, s->v6 ? IPPROTO_IPV6 : IPPROTO_IP,
		s->v6 ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP, s->loop);
	WORLD_EXPECT(world, demi_bind(s->qd, &any.any, any.length) == 0);
	s->open = true;
	WORLD_EXPECT(world, demi_go(receiver, s) == 0);
	world_wake(s->host);
}

static void toggle(struct socket *s, uint32_t group)
{
	const struct ip_address address = group_of(s->v6, group);
	struct ip_mreqn v4 = {.imr_multiaddr.s_addr = address.words[3]};
	struct ipv6_mreq v6 = {.ipv6mr_interface = 0};
	bool in = s->groups >> group & 1;

	memcpy(&v6.ipv6mr_multiaddr, address.bytes, 16);
	world_enter(s->host);
	int err = s->v6 ? demi_setsockopt(s->qd, IPPROTO_IPV6,
					  in ? IPV6_LEAVE_GROUP : IPV6_JOIN_GROUP, &v6, sizeof(v6))
			: demi_setsockopt(s->qd, IPPROTO_IP,
					  in ? IP_DROP_MEMBERSHIP : IP_ADD_MEMBERSHIP, &v4,
					  sizeof(v4));
	WORLD_EXPECT(&s->run->world, err == 0);
	s->groups ^= 1U << group;
	world_wake(s->host);
}

static uint32_t joined(const struct run *run, bool v6)
{
	uint32_t groups = 0;

	for (uint32_t i = 0; i < run->num_sockets; i++)
		groups |= run->sockets[i].v6 == v6 ? run->sockets[i].groups : 0;
	return groups;
}

/* Some join, some leave; then datagrams; then the querier asks. */
static void phase(struct run *run, bool old)
{
	struct world *world = &run->world;
	uint32_t first = run->num_messages;

	for (uint32_t i = 0; i < run->num_sockets; i++) {
		for (uint32_t group = 0; group < GROUPS; group++) {
			if (world_below(world, 3) == 0)
				toggle(&run->sockets[i], group);
		}
	}
	world_run_until(world, world->now_ns + 30 * WORLD_MS);
	for (uint32_t i = 0; i < 30; i++) {
		send_one(run);
		if (world_below(world, 2))
			world_run_until(world, world->now_ns + world_below(world, WORLD_MS));
	}
	world_run_until(world, world->now_ns + WORLD_S);
	for (uint32_t i = first; run->calm && i < run->num_messages; i++)
		WORLD_EXPECT(world, run->messages[i].got == run->messages[i].wanted);
	world_run_until(world, world->now_ns + 25 * WORLD_S); /* of unsolicited reports */
	run->seen[0] = 0;
	run->seen[1] = 0;
	ask(run, false, old);
	ask(run, true, old);
	world_run_until(world, world->now_ns + 2 * WORLD_S);
	for (uint32_t v6 = 0; run->calm && v6 < 2; v6++)
		WORLD_EXPECT(world, run->seen[v6] == joined(run, v6));
}

static void add_host(struct run *run, uint32_t index, uint16_t vlan)
{
	struct world *world = &run->world;
	struct sim_options options;
	struct config config;

	inet_config(&config, index);
	inet_draw_config(world, &config);
	inet_draw_device(world, run->mtu, &options);
	if (run->calm) { /* bursts of datagrams are not lost at the device */
		options.rx_slots = 1024;
		config.frames_max = 2048;
	}
	config.group_reports = 1;
	config.vlan = vlan;
	(void)world_add_instance(world, &config, &options);
}

static void add_hosts(struct run *run)
{
	static const uint32_t mtus[] = {1500, 1280, 9000, 9216};
	struct world *world = &run->world;
	uint32_t count = (uint32_t)world_between(world, 2, 5);

	run->mtu = mtus[world_below(world, ARRAY_LENGTH(mtus))];
	run->vlan = world_below(world, 2);
	for (uint32_t i = 0; i < count; i++)
		add_host(run, i, run->vlan ? OUR_LAN : 0);
	run->num_sockets = (uint32_t)world_between(world, 2, SOCKETS_MAX);
	for (uint32_t i = 0; i < run->num_sockets; i++) {
		struct socket *s = &run->sockets[i];
		*s = (struct socket){
			.run = run,
			.host = world->hosts[world_below(world, count)],
			.v6 = world_below(world, 2),
			.loop = world_below(world, 3) > 0,
		};
		open_socket(s);
	}
	add_host(run, count, run->vlan ? 0 : OUR_LAN);
	run->querier = world_add_peer(world, hear, run);
}

/* A host of another LAN has counted what it saw, and nothing has come of it. */
static void expect_deaf(struct run *run)
{
	const struct world *world = &run->world;
	const struct net *net = inet_net(deaf(run));

	WORLD_EXPECT(world, net->sched->counters.drops[DROP_VLAN] > 0);
	WORLD_EXPECT(world, net->neighbours.used == 0);
}

static void close_all(struct run *run)
{
	struct world *world = &run->world;

	for (uint32_t i = 0; i < run->num_sockets; i++) {
		struct socket *s = &run->sockets[i];
		s->open = false;
		world_enter(s->host);
		WORLD_EXPECT(world, demi_close(s->qd) == 0);
		world_wake(s->host);
	}
	/* what was corrupted may have been answered: questions for a neighbour take their time */
	world_run_until(world, world->now_ns + 60 * WORLD_S);
	for (uint32_t i = 0; i + 1 < world->num_hosts; i++)
		inet_expect_empty(world->hosts[i]);
}

static uint64_t run_seed(uint64_t seed)
{
	static struct run run;
	struct world *world = &run.world;

	memset(&run, 0, sizeof(run));
	world_open(world, seed);
	world->check = inet_check;
	run.calm = world_below(world, 2);
	add_hosts(&run);
	if (!run.calm)
		world_swarm(world);
	/* one querier of an old version keeps its version for minutes */
	uint32_t old = world_below(world, 3) ? PHASES : (uint32_t)world_below(world, PHASES);
	for (uint32_t i = 0; i < PHASES; i++)
		phase(&run, i >= old);
	expect_deaf(&run);
	world_calm(world);
	close_all(&run);
	uint64_t hash = world->hash;
	world_close(world);
	return hash;
}

static void test_groups(void **state)
{
	(void)state;
	world_seeds(test_seed(1), 200, 20, run_seed);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_groups)};

	return test_run("group", tests);
}
