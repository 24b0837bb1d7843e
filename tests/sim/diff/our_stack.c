/* SPDX-License-Identifier: MIT
 * tests/sim/diff/our_stack.c - our own stack as one of the differential test, see stack.h: an
 * instance in a world whose other host hands on the frames.
 *
 * Options that lwIP's build has not (timestamps, SACK) are off, the receive buffer has lwIP's size,
 * and TIME_WAIT lasts as long as there.
 */
#include "stack.h"

#include "net/tcp/tcp.h"
#include "sim/inet.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PUSHES_MAX 256

static struct {
	const struct diff_wire *wire;
	struct world world;
	struct host *host;
	struct host *peer;
	struct diff_app app;
	int listener;
	int qd;
	demi_qtoken_t opening; /* 0: not under way */
	demi_qtoken_t pushes[PUSHES_MAX];
	uint32_t num_pushes;
	uint32_t sent;
} own;

static void at_peer(struct host *host, const uint8_t *bytes, uint32_t length)
{
	(void)host;
	own.wire->output(own.wire->arg, bytes, length);
}

static void stack_open_all(const struct diff_wire *wire, uint64_t seed)
{
	static const struct sim_options device = {
		.mtu = DIFF_MTU, .rx_slots = 256, .max_segments = 4};
	struct config config;

	memset(&own, 0, sizeof(own));
	own.wire = wire;
	own.qd = own.listener = -1;
	world_open(&own.world, seed);
	own.world.check = inet_check;
	inet_config(&config, 0);
	config.tcp_receive_buffer_bytes = config.tcp_receive_buffer_max_bytes = DIFF_WINDOW;
	config.tcp_send_buffer_bytes = config.tcp_send_buffer_max_bytes = 1 << 20;
	config.tcp_timestamps = 0;
	config.tcp_sack = 0;
	config.tcp_time_wait_ms = 120000;
	config.tcp_mss = 1460;
	config.nodelay = 1;
	(void)snprintf(config.arp_table, sizeof(config.arp_table), "%s",
		       "02:00:00:00:de:02=10.0.0.2");
	own.host = world_add_instance(&own.world, &config, &device);
	own.peer = world_add_peer(&own.world, at_peer, NULL);
	own.world.paths[0][1].delay_ns = own.world.paths[1][0].delay_ns = 0;
	world_run_until(&own.world, own.world.now_ns + WORLD_S);
}

/* Has the stack do what is to be done now. */
static void run_now(void)
{
	world_wake(own.host);
	world_run_until(&own.world, own.world.now_ns);
}

static int new_socket(void)
{
	const struct inet_name any = inet_any(AF_INET, DIFF_PORT);
	int qd;

	world_enter(own.host);
	WORLD_EXPECT(&own.world, demi_socket(&qd, AF_INET, SOCK_STREAM, 0) == 0);
	WORLD_EXPECT(&own.world, demi_bind(qd, &any.any, any.length) == 0);
	return qd;
}

/* The result of an operation, if it is done; else it goes on. */
static bool is_done(demi_qtoken_t qt, demi_qresult_t *qr)
{
	static const struct timespec at_once;

	world_enter(own.host);
	int err = demi_wait(qr, qt, &at_once);
	WORLD_EXPECT(&own.world, err == 0 || err == ETIMEDOUT);
	return err == 0;
}

static void stack_listen(void)
{
	own.listener = new_socket();
	WORLD_EXPECT(&own.world, demi_listen(own.listener, 8) == 0);
	WORLD_EXPECT(&own.world, demi_accept(&own.opening, own.listener) == 0);
	run_now();
}

static void stack_connect(void)
{
	const struct inet_name to = inet_name(1, AF_INET, DIFF_PEER_PORT);

	own.qd = new_socket();
	WORLD_EXPECT(&own.world, demi_connect(&own.opening, own.qd, &to.any, to.length) == 0);
	run_now();
}

/* Redeems what has come to its end. */
static void harvest(void)
{
	demi_qresult_t qr;

	if (own.opening && is_done(own.opening, &qr)) {
		own.opening = 0;
		if (qr.qr_opcode == DEMI_OPC_FAILED) {
			own.app.failed = true;
		} else {
			own.app.connected = true;
			if (qr.qr_opcode == DEMI_OPC_ACCEPT)
				own.qd = qr.qr_value.ares.qd;
		}
	}
	for (uint32_t i = 0; i < own.num_pushes;) {
		if (!is_done(own.pushes[i], &qr)) {
			i++;
			continue;
		}
		if (own.qd >= 0 && qr.qr_opcode == DEMI_OPC_FAILED)
			own.app.failed = true;
		own.pushes[i] = own.pushes[--own.num_pushes];
	}
}

static uint32_t stack_send(uint32_t bytes)
{
	harvest();
	if (own.qd < 0 || !own.app.connected || own.num_pushes == PUSHES_MAX)
		return 0;
	world_enter(own.host);
	demi_sgarray_t sga = demi_sgaalloc(bytes);
	WORLD_EXPECT(&own.world, sga.sga_numsegs == 1);
	uint8_t *at = sga.sga_segs[0].sgaseg_buf;
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = own.wire->byte(true, own.sent + i);
	int err = demi_push(&own.pushes[own.num_pushes], own.qd, &sga);
	WORLD_EXPECT(&own.world, demi_sgafree(&sga) == 0);
	if (err)
		own.app.failed |= err != EPIPE;
	else
		own.num_pushes++;
	own.sent += err ? 0 : bytes;
	run_now();
	return err ? 0 : bytes;
}

static void take(demi_sgarray_t *sga)
{
	uint32_t before = own.app.delivered;

	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		const uint8_t *at = sga->sga_segs[i].sgaseg_buf;
		for (uint32_t j = 0; j < sga->sga_segs[i].sgaseg_len; j++)
			if (at[j] != own.wire->byte(false, own.app.delivered++))
				own.app.wrong = true;
	}
	own.app.ended = own.app.delivered == before;
	WORLD_EXPECT(&own.world, demi_sgafree(sga) == 0);
}

static void stack_read(void)
{
	harvest();
	while (own.qd >= 0 && own.app.connected && !own.app.ended && !own.app.failed) {
		demi_qresult_t qr;
		demi_qtoken_t qt;

		world_enter(own.host);
		if (demi_pop(&qt, own.qd)) {
			own.app.failed = true;
			break;
		}
		run_now();
		if (!is_done(qt, &qr)) {
			WORLD_EXPECT(&own.world, demi_cancel(qt) == 0);
			run_now();
			WORLD_EXPECT(&own.world, is_done(qt, &qr));
			WORLD_EXPECT(&own.world, qr.qr_opcode == DEMI_OPC_FAILED);
			own.app.failed |= qr.qr_ret != ECANCELED;
			break;
		}
		if (qr.qr_opcode == DEMI_OPC_FAILED) {
			own.app.failed = true;
			break;
		}
		demi_sgarray_t sga;
		memcpy(&sga, &qr.qr_value.sga, sizeof(sga));
		take(&sga);
	}
}

static void stack_shutdown(void)
{
	if (own.qd < 0)
		return;
	world_enter(own.host);
	(void)demi_shutdown(own.qd, SHUT_WR);
	run_now();
}

static void end_queue(bool aborts)
{
	static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

	harvest();
	if (own.qd < 0)
		return;
	world_enter(own.host);
	if (aborts)
		WORLD_EXPECT(&own.world, demi_setsockopt(own.qd, SOL_SOCKET, SO_LINGER, &at_once,
							 sizeof(at_once)) == 0);
	WORLD_EXPECT(&own.world, demi_close(own.qd) == 0);
	own.qd = -1;
	run_now();
	harvest();
}

static void stack_close(void)
{
	end_queue(false);
}

static void stack_abort(void)
{
	end_queue(true);
}

static void stack_input(const uint8_t *bytes, uint32_t length)
{
	world_send(own.peer, bytes, length);
	run_now();
}

static void stack_pass(uint64_t ns)
{
	world_run_until(&own.world, own.world.now_ns + ns);
}

static void stack_look(struct diff_app *app)
{
	harvest();
	*app = own.app;
}

static void stack_close_all(void)
{
	world_close(&own.world);
}

const struct diff_stack diff_our_stack = {
	.name = "ours",
	.open_all = stack_open_all,
	.listen = stack_listen,
	.connect = stack_connect,
	.send = stack_send,
	.read = stack_read,
	.shutdown = stack_shutdown,
	.close = stack_close,
	.abort = stack_abort,
	.input = stack_input,
	.pass = stack_pass,
	.look = stack_look,
	.close_all = stack_close_all,
};
