/* SPDX-License-Identifier: MIT
 * tests/sim/option_test.c - socket options of our own TCP, by Linux's names: what they say, from
 * what size of value, before and after there is a connection, and what children inherit.
 */
#include "sim/inet.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/socket.h>
#include <demi/wait.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>

#define PORT 7000

static const struct sim_options device = {.mtu = 1500, .rx_slots = 256};

/* Two hosts, a listener, and a connection if it was opened. */
struct rig {
	struct world world;
	struct host *hosts[2];
	int domain;
	int listener;
	int client;
	int server;
};

struct awaited {
	struct host *host;
	demi_qtoken_t token;
	demi_qresult_t *result;
};

static bool is_done(void *arg)
{
	const struct awaited *awaited = arg;
	const struct timespec at_once = {0};

	world_enter(awaited->host);
	int err = demi_wait(awaited->result, awaited->token, &at_once);
	assert_true(err == 0 || err == ETIMEDOUT);
	return err == 0;
}

static void await(struct rig *rig, struct host *host, demi_qtoken_t token, demi_qresult_t *result)
{
	struct awaited awaited = {host, token, result};

	world_run(&rig->world, is_done, &awaited, rig->world.now_ns + 60 * WORLD_S);
}

/* congestion: the choice of both hosts. */
static void open_rig(struct rig *rig, int domain, int congestion)
{
	struct inet_name name = inet_name(1, domain, PORT);

	world_open(&rig->world, 1);
	rig->domain = domain;
	for (uint32_t i = 0; i < 2; i++) {
		struct config config;
		inet_config(&config, i);
		config.tcp_congestion = congestion;
		rig->hosts[i] = world_add_instance(&rig->world, &config, &device);
	}
	world_enter(rig->hosts[1]);
	assert_int_equal(demi_socket(&rig->listener, domain, SOCK_STREAM, 0), 0);
	assert_int_equal(demi_bind(rig->listener, &name.any, name.length), 0);
	assert_int_equal(demi_listen(rig->listener, 4), 0);
	world_enter(rig->hosts[0]);
	assert_int_equal(demi_socket(&rig->client, domain, SOCK_STREAM, 0), 0);
}

static void connect_rig(struct rig *rig)
{
	struct inet_name name = inet_name(1, rig->domain, PORT);
	demi_qtoken_t accepting;
	demi_qtoken_t connecting;
	demi_qresult_t result;

	world_enter(rig->hosts[1]);
	assert_int_equal(demi_accept(&accepting, rig->listener), 0);
	world_enter(rig->hosts[0]);
	assert_int_equal(demi_connect(&connecting, rig->client, &name.any, name.length), 0);
	await(rig, rig->hosts[0], connecting, &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_CONNECT);
	await(rig, rig->hosts[1], accepting, &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_ACCEPT);
	rig->server = result.qr_value.ares.qd;
}

/* ---- options of the entered host ---- */

static int set_bytes(int qd, int level, int name, const void *value, socklen_t length)
{
	return demi_setsockopt(qd, level, name, value, length);
}

static int set_int(int qd, int level, int name, int value)
{
	return demi_setsockopt(qd, level, name, &value, sizeof(value));
}

static int get_int(int qd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof(value);

	assert_int_equal(demi_getsockopt(qd, level, name, &value, &length), 0);
	assert_int_equal(length, sizeof(value));
	return value;
}

static void expect_congestion(int qd, const char *name)
{
	char text[32];
	socklen_t length = sizeof(text);

	memset(text, 'x', sizeof(text));
	assert_int_equal(demi_getsockopt(qd, IPPROTO_TCP, TCP_CONGESTION, text, &length), 0);
	assert_int_equal(length, 16);
	assert_string_equal(text, name);
}

static int set_congestion(int qd, const char *name)
{
	return set_bytes(qd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name));
}

/* ---- tests ---- */

/* The configuration's choice, then the socket's own, in every state; children have their
 * listener's. */
static void test_congestion(void **state)
{
	static const char *const names[] = {"cubic", "reno", "dctcp"};
	struct rig rig;

	(void)state;
	for (int i = 0; i < 3; i++) {
		open_rig(&rig, AF_INET, i);
		expect_congestion(rig.client, names[i]);
		assert_int_equal(set_congestion(rig.client, "vegas"), ENOENT);
		assert_int_equal(set_congestion(rig.client, ""), ENOENT);
		expect_congestion(rig.client, names[i]);
		assert_int_equal(set_congestion(rig.client, names[(i + 1) % 3]), 0);
		world_enter(rig.hosts[1]);
		assert_int_equal(set_congestion(rig.listener, names[(i + 2) % 3]), 0);
		connect_rig(&rig);
		world_enter(rig.hosts[0]);
		expect_congestion(rig.client, names[(i + 1) % 3]);
		for (int k = 0; k < 3; k++) {
			assert_int_equal(set_congestion(rig.client, names[k]), 0);
			expect_congestion(rig.client, names[k]);
		}
		world_enter(rig.hosts[1]);
		expect_congestion(rig.server, names[(i + 2) % 3]);
		expect_congestion(rig.listener, names[(i + 2) % 3]);
		world_close(&rig.world);
	}
}

/* DCTCP tells of itself, the others of nothing. */
static void test_congestion_info(void **state)
{
	union tcp_cc_info info;
	socklen_t length = sizeof(info);
	struct rig rig;

	(void)state;
	open_rig(&rig, AF_INET, 2);
	assert_int_equal(demi_getsockopt(rig.client, IPPROTO_TCP, TCP_CC_INFO, &info, &length), 0);
	assert_int_equal(length, 0); /* there is no connection */
	connect_rig(&rig);
	world_enter(rig.hosts[0]);
	length = sizeof(info);
	assert_int_equal(demi_getsockopt(rig.client, IPPROTO_TCP, TCP_CC_INFO, &info, &length), 0);
	assert_int_equal(length, sizeof(info.dctcp));
	assert_int_equal(info.dctcp.dctcp_enabled, 1);
	assert_int_equal(info.dctcp.dctcp_alpha, 1024); /* all, at first */
	assert_int_equal(set_congestion(rig.client, "cubic"), 0);
	length = sizeof(info);
	assert_int_equal(demi_getsockopt(rig.client, IPPROTO_TCP, TCP_CC_INFO, &info, &length), 0);
	assert_int_equal(length, 0);
	world_close(&rig.world);
}

/* As much of it as is asked for; what newer systems have behind it is 0 or known. */
static void test_info(void **state)
{
	struct {
		struct tcp_info info;
		uint32_t rcv_wnd;
		uint32_t rest[20];
	} all;

	uint8_t part[9];
	struct rig rig;
	socklen_t length = sizeof(all);

	(void)state;
	open_rig(&rig, AF_INET, 0);
	connect_rig(&rig);
	world_enter(rig.hosts[0]);
	memset(&all, 0xff, sizeof(all));
	assert_int_equal(demi_getsockopt(rig.client, IPPROTO_TCP, TCP_INFO, &all, &length), 0);
	assert_int_equal(length, sizeof(struct tcp_info) + 48);
	assert_int_equal(all.info.tcpi_state, 1);
	assert_int_equal(all.info.tcpi_snd_cwnd, 10);
	assert_int_equal(all.info.tcpi_snd_ssthresh, 0x7fffffff);
	assert_int_equal(all.info.tcpi_pmtu, 1500);
	assert_int_equal(all.info.tcpi_max_pacing_rate, UINT64_MAX);
	assert_in_range(all.rcv_wnd, 1, 131072);
	for (int i = 0; i < 11; i++)
		assert_int_equal(all.rest[i], 0);
	assert_int_equal(all.rest[11], UINT32_MAX); /* not written */
	memset(part, 0xee, sizeof(part));
	length = 8;
	assert_int_equal(demi_getsockopt(rig.client, IPPROTO_TCP, TCP_INFO, part, &length), 0);
	assert_int_equal(length, 8);
	assert_memory_equal(part, &all, 8);
	assert_int_equal(part[8], 0xee);
	world_close(&rig.world);
}

static uint64_t get_rate(int qd)
{
	uint64_t rate = 0;
	socklen_t length = sizeof(rate);

	assert_int_equal(demi_getsockopt(qd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, &length), 0);
	assert_int_equal(length, sizeof(rate));
	return rate;
}

/* By 4 or 8 bytes, rounded up to kilobytes; all ones: none. */
static void test_pacing(void **state)
{
	const uint64_t rates[][2] = {
		{1, 1024},
		{0, 1024},
		{1024, 1024},
		{1000000, 1000448},
		{(uint64_t)100 << 30, (uint64_t)100 << 30},
		{UINT64_MAX, UINT64_MAX},
		{UINT64_MAX - 1, UINT64_MAX},
	};
	struct rig rig;
	uint32_t narrow = 1000000;

	(void)state;
	open_rig(&rig, AF_INET, 0);
	assert_true(get_rate(rig.client) == UINT64_MAX);
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		assert_int_equal(
			set_bytes(rig.client, SOL_SOCKET, SO_MAX_PACING_RATE, &rates[i][0], 8), 0);
		assert_true(get_rate(rig.client) == rates[i][1]);
	}
	assert_int_equal(set_bytes(rig.client, SOL_SOCKET, SO_MAX_PACING_RATE, &narrow, 4), 0);
	assert_int_equal(get_int(rig.client, SOL_SOCKET, SO_MAX_PACING_RATE), 1000448);
	assert_int_equal(set_int(rig.client, SOL_SOCKET, SO_MAX_PACING_RATE, -1), 0);
	assert_true(get_rate(rig.client) == UINT64_MAX);
	assert_int_equal(get_int(rig.client, SOL_SOCKET, SO_MAX_PACING_RATE), -1);
	assert_int_equal(set_bytes(rig.client, SOL_SOCKET, SO_MAX_PACING_RATE, &narrow, 3), EINVAL);
	world_enter(rig.hosts[1]);
	assert_int_equal(set_int(rig.listener, SOL_SOCKET, SO_MAX_PACING_RATE, 4096), 0);
	connect_rig(&rig);
	assert_true(get_rate(rig.server) == 4096);
	world_close(&rig.world);
}

static void test_memory(void **state)
{
	uint32_t memory[SK_MEMINFO_VARS + 1];
	socklen_t length = sizeof(memory);
	struct rig rig;

	(void)state;
	open_rig(&rig, AF_INET, 0);
	connect_rig(&rig);
	world_enter(rig.hosts[0]);
	memset(memory, 0xff, sizeof(memory));
	assert_int_equal(demi_getsockopt(rig.client, SOL_SOCKET, SO_MEMINFO, memory, &length), 0);
	assert_int_equal(length, SK_MEMINFO_VARS * sizeof(uint32_t));
	assert_int_equal(memory[SK_MEMINFO_RMEM_ALLOC], 0);
	assert_int_equal(memory[SK_MEMINFO_RCVBUF], get_int(rig.client, SOL_SOCKET, SO_RCVBUF));
	assert_int_equal(memory[SK_MEMINFO_WMEM_ALLOC], 0);
	assert_int_equal(memory[SK_MEMINFO_SNDBUF], get_int(rig.client, SOL_SOCKET, SO_SNDBUF));
	assert_int_equal(memory[SK_MEMINFO_WMEM_QUEUED], 0);
	assert_int_equal(memory[SK_MEMINFO_DROPS], 0);
	/* What is pushed and cannot go, as the way is cut, is held. */
	demi_sgarray_t sga = demi_sgaalloc(30000);
	demi_qtoken_t token;
	demi_qresult_t result;
	assert_int_equal(sga.sga_numsegs, 1);
	memset(sga.sga_segs[0].sgaseg_buf, 'a', 30000);
	rig.world.paths[0][1].down = true;
	assert_int_equal(demi_push(&token, rig.client, &sga), 0);
	await(&rig, rig.hosts[0], token, &result);
	assert_int_equal(demi_flush(), 0);
	assert_int_equal(demi_getsockopt(rig.client, SOL_SOCKET, SO_MEMINFO, memory, &length), 0);
	assert_int_equal(memory[SK_MEMINFO_WMEM_QUEUED], 30000);
	assert_in_range(memory[SK_MEMINFO_WMEM_ALLOC], 14000, 14600); /* ten segments */
	assert_int_equal(demi_sgafree(&sga), 0);
	world_close(&rig.world);
}

/* The IP layer's options, of both families. */
static void check_ip(int domain)
{
	bool v6 = domain == AF_INET6;
	int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
	int tos = v6 ? IPV6_TCLASS : IP_TOS;
	int mtu = v6 ? IPV6_MTU : IP_MTU;
	uint8_t byte = 0x88;
	int none;
	socklen_t length = sizeof(none);
	struct rig rig;

	open_rig(&rig, domain, 0);
	assert_int_equal(get_int(rig.client, level, tos), 0);
	assert_int_equal(set_int(rig.client, level, tos, 0x2f), 0);
	assert_int_equal(get_int(rig.client, level, tos), 0x2c); /* RFC 3168: ECN's are TCP's */
	assert_int_equal(set_bytes(rig.client, level, tos, &byte, 1), v6 ? EINVAL : 0);
	assert_int_equal(get_int(rig.client, level, tos), v6 ? 0x2c : 0x88);
	assert_int_equal(set_bytes(rig.client, level, tos, &byte, 0), EINVAL);
	if (v6) {
		assert_int_equal(set_int(rig.client, level, tos, 256), EINVAL);
		assert_int_equal(set_int(rig.client, level, tos, -1), 0);
		assert_int_equal(get_int(rig.client, level, tos), 0);
	}
	assert_int_equal(demi_getsockopt(rig.client, level, mtu, &none, &length), ENOTCONN);
	world_enter(rig.hosts[1]);
	assert_int_equal(set_int(rig.listener, level, tos, 0x20), 0);
	connect_rig(&rig);
	assert_int_equal(get_int(rig.server, level, tos), 0x20);
	assert_int_equal(get_int(rig.server, level, mtu), 1500);
	world_close(&rig.world);
}

static void test_ip(void **state)
{
	(void)state;
	check_ip(AF_INET);
	check_ip(AF_INET6);
}

/* ---- TCP_NOTSENT_LOWAT ---- */

/* Pushes wait while as much is unsent as it says, and are taken up when it has gone out. */
static void test_notsent(void **state)
{
	struct rig rig;
	demi_qtoken_t tokens[4];
	demi_qresult_t result;

	(void)state;
	open_rig(&rig, AF_INET, 0);
	world_enter(rig.hosts[1]);
	assert_int_equal(set_int(rig.listener, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 70000), 0);
	connect_rig(&rig);
	assert_int_equal(get_int(rig.server, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 70000);
	world_enter(rig.hosts[0]);
	assert_int_equal(get_int(rig.client, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 0);
	assert_int_equal(set_int(rig.client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1), 0);
	assert_int_equal(get_int(rig.client, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 0);
	assert_int_equal(set_int(rig.client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 8000), 0);
	demi_sgarray_t sga = demi_sgaalloc(7000);
	assert_int_equal(sga.sga_numsegs, 1);
	memset(sga.sga_segs[0].sgaseg_buf, 'a', 7000);
	rig.world.paths[0][1].down = true;
	for (int i = 0; i < 4; i++)
		assert_int_equal(demi_push(&tokens[i], rig.client, &sga), 0);
	assert_int_equal(demi_flush(), 0);
	/* Two are below it; the third and the fourth wait. */
	for (int i = 0; i < 4; i++) {
		struct awaited awaited = {rig.hosts[0], tokens[i], &result};
		assert_int_equal(is_done(&awaited), i < 2);
	}
	rig.world.paths[0][1].down = false;
	await(&rig, rig.hosts[0], tokens[2], &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_PUSH);
	await(&rig, rig.hosts[0], tokens[3], &result);
	assert_int_equal(result.qr_opcode, DEMI_OPC_PUSH);
	/* Without it they are taken up at once. */
	assert_int_equal(set_int(rig.client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(demi_push(&tokens[i], rig.client, &sga), 0);
		struct awaited awaited = {rig.hosts[0], tokens[i], &result};
		assert_true(is_done(&awaited));
	}
	assert_int_equal(demi_sgafree(&sga), 0);
	world_close(&rig.world);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_congestion), cmocka_unit_test(test_congestion_info),
		cmocka_unit_test(test_info),       cmocka_unit_test(test_pacing),
		cmocka_unit_test(test_memory),     cmocka_unit_test(test_ip),
		cmocka_unit_test(test_notsent),
	};

	return test_run("option", tests);
}
