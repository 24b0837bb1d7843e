/* SPDX-License-Identifier: MIT
 * tests/net/nomem_test.c - every allocation failed in turn, over a whole life of an instance: each
 * run ends in success or in a clean ENOMEM, and leaves nothing behind.
 */
#include "support/net.h"

#include "support/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct demi_args args;
static const struct timespec bound = {.tv_sec = 10};

/* ---- steps: 0, ENOMEM, or another errno, which is a fault of the library's ---- */

struct life {
	int listener;
	int client;
	int server;
	int udp;
	int memory;
	int plain_listener;
	int plain;
	struct net_address address;
	demi_sgarray_t kept[16]; /* arrays to free */
	int num_kept;
	char *foreign;
};

#define FOREIGN_BYTES 3000000

static void keep(struct life *life, const demi_sgarray_t *sga)
{
	life->kept[life->num_kept++] = *sga;
}

static int finish(struct life *life, int err, demi_qtoken_t qt, demi_qresult_t *qr)
{
	if (err)
		return err;
	err = demi_wait(qr, qt, &bound);
	if (err)
		return err;
	if (qr->qr_opcode == DEMI_OPC_POP)
		keep(life, &qr->qr_value.sga);
	return (int)qr->qr_ret;
}

static int open_sockets(struct life *life)
{
	struct net_address any = net_loopback(AF_INET, 0);
	int err = demi_socket(&life->listener, AF_INET, SOCK_STREAM, 0);

	err = err ? err : demi_bind(life->listener, &any.any, any.length);
	err = err ? err : demi_listen(life->listener, 4);
	err = err ? err : demi_socket(&life->client, AF_INET, SOCK_STREAM, 0);
	err = err ? err : demi_socket(&life->udp, AF_INET, SOCK_DGRAM, 0);
	err = err ? err : demi_bind(life->udp, &any.any, any.length);
	return err ? err : demi_queue(&life->memory);
}

static int meet(struct life *life)
{
	struct net_address to = net_local(life->listener);
	demi_qtoken_t connecting = 0;
	demi_qtoken_t accepting = 0;
	demi_qresult_t qr;
	int err = demi_connect(&connecting, life->client, &to.any, to.length);

	err = err ? err : demi_accept(&accepting, life->listener);
	err = finish(life, err, connecting, &qr);
	err = finish(life, err, accepting, &qr);
	if (!err)
		life->server = qr.qr_value.ares.qd;
	return err;
}

static int push_and_pop(struct life *life, int from, int to, demi_sgarray_t *sga)
{
	demi_qtoken_t qt = 0;
	demi_qresult_t qr;
	int err = demi_push(&qt, from, sga);

	err = finish(life, err, qt, &qr);
	err = err ? err : demi_pop(&qt, to);
	return finish(life, err, qt, &qr);
}

static int echo(struct life *life)
{
	demi_sgarray_t sga = demi_sgaalloc(5000);
	demi_sgarray_t foreign = net_array(life->foreign, 700);

	if (sga.sga_numsegs == 0)
		return ENOMEM;
	memset(sga.sga_segs[0].sgaseg_buf, 3, 5000);
	keep(life, &sga);
	int err = push_and_pop(life, life->client, life->server, &sga);
	err = err ? err : push_and_pop(life, life->server, life->client, &foreign);
	err = err ? err : push_and_pop(life, life->memory, life->memory, &sga);
	return err ? err : push_and_pop(life, life->memory, life->memory, &foreign);
}

static int datagrams(struct life *life)
{
	struct net_address to = net_local(life->udp);
	demi_sgarray_t foreign = net_array(life->foreign, 700);
	demi_qresult_t qr;
	demi_qtoken_t qt = 0;
	int err = demi_pushto(&qt, life->udp, &foreign, &to.any, to.length);

	err = finish(life, err, qt, &qr);
	err = err ? err : demi_pop(&qt, life->udp);
	return finish(life, err, qt, &qr);
}

/* A push of several segments that stays, of which some are copied; and its queue closed over it. */
static int blocked(struct life *life)
{
	demi_sgarray_t sga = net_array(life->foreign, FOREIGN_BYTES);
	demi_qtoken_t first = 0;
	demi_qtoken_t second = 0;
	demi_qresult_t qr;
	void *mine = demi_malloc(100);

	if (!mine)
		return ENOMEM;
	sga.sga_numsegs = 3;
	sga.sga_segs[1] = (demi_sgaseg_t){.sgaseg_buf = mine, .sgaseg_len = 100};
	sga.sga_segs[2] = sga.sga_segs[0];
	int err = demi_push(&first, life->client, &sga);
	err = err ? err : demi_push(&second, life->client, &sga);
	if (!err)
		err = demi_close(life->client);
	(void)demi_free(mine);
	err = finish(life, err, second, &qr);
	return err == ECANCELED ? 0 : err;
}

static void nap(void *arg)
{
	const struct timespec time = {.tv_nsec = 1000};

	*(int *)arg = demi_sleep(&time);
}

static int coroutines(void)
{
	const struct timespec time = {.tv_nsec = 2000000};
	static int slept[3]; /* those that were not woken in time write it later */
	int err = 0;

	for (int i = 0; i < 3 && !err; i++)
		err = demi_go(nap, &slept[i]);
	(void)demi_sleep(&time);
	return err;
}

static int events(void)
{
	int fd;
	int err = demi_event_fd(&fd);

	if (!err)
		err = demi_event_arm();
	return err == EAGAIN ? 0 : err;
}

static int heap(void)
{
	char *a = demi_malloc(1000000);
	char *b = demi_aligned_alloc(4096, 100);
	char *c = demi_calloc(10, 10);
	char *d = a ? demi_realloc(a, 2000000) : NULL;
	int err = a && b && c && d ? 0 : ENOMEM;

	(void)demi_free(d ? d : a);
	(void)demi_free(b);
	(void)demi_free(c);
	return err;
}

static int live(struct life *life)
{
	int err = demi_set_config("linger_ms", "20");

	err = err ? err : demi_set_config("spin_us", "10");
	err = err ? err : demi_init(&args);
	if (err)
		return err;
	err = open_sockets(life);
	err = err ? err : meet(life);
	err = err ? err : echo(life);
	err = err ? err : datagrams(life);
	err = err ? err : coroutines();
	err = err ? err : events();
	err = err ? err : heap();
	err = err ? err : blocked(life);
	while (life->num_kept > 0) {
		demi_sgarray_t *sga = &life->kept[--life->num_kept];
		int freed = demi_sgafree(sga);
		err = freed && !err ? EPROTO : err;
	}
	int ended = demi_fini();
	return ended ? EPROTO : err;
}

static int forget_settings(void)
{
	return demi_set_config("linger_ms", NULL) || demi_set_config("spin_us", NULL);
}

/* One run with failures armed; whether one happened. */
static bool try_run(char *foreign, void (*arm)(uint64_t), uint64_t nth)
{
	struct life life = {.foreign = foreign};
	struct fault_live before = fault_live();
	int fds = net_count_fds();

	arm(nth);
	int err = live(&life);
	bool failed = fault_off();
	assert_int_equal(forget_settings(), 0);
	if (err != 0 && err != ENOMEM)
		fail_msg("allocation %d: errno %d", (int)nth, err);
	if (!failed)
		assert_int_equal(err, 0);
	struct fault_live after = fault_live();
	assert_int_equal(net_count_fds(), fds);
	if (after.blocks != before.blocks || after.mapped_bytes != before.mapped_bytes)
		fail_msg("allocation %d: %d blocks, %d bytes left behind", (int)nth,
			 (int)(after.blocks - before.blocks),
			 (int)(after.mapped_bytes - before.mapped_bytes));
	return failed;
}

static void quiet(void *arg, enum demi_log_level level, const char *message)
{
	(void)arg;
	(void)level;
	(void)message;
}

/* What the process keeps for its whole life is there before anything is counted. */
static char *prepare(void)
{
	struct life life = {0};
	char *foreign = calloc(1, FOREIGN_BYTES);

	assert_non_null(foreign);
	assert_int_equal(demi_set_log(quiet, NULL), 0);
	life.foreign = foreign;
	assert_int_equal(live(&life), 0);
	assert_int_equal(forget_settings(), 0);
	return foreign;
}

static void each_in_turn(void (*arm)(uint64_t))
{
	char *foreign = prepare();
	uint64_t nth = 1;

	while (try_run(foreign, arm, nth))
		nth++;
	print_message("# %d allocations\n", (int)nth - 1);
	assert_in_range(nth, 20, 2000);
	free(foreign);
	assert_int_equal(demi_set_log(NULL, NULL), 0);
}

static void test_each_fails_once(void **state)
{
	(void)state;
	each_in_turn(fault_fail);
}

static void test_all_fail_from_each_on(void **state)
{
	(void)state;
	each_in_turn(fault_fail_from);
}

/* The heap's own limit is another way to run out. */
static void test_heap_limit(void **state)
{
	demi_sgarray_t kept[4096];
	struct net_pair pair;
	int n = 0;

	assert_int_equal(demi_set_config("heap_max_bytes", "8m"), 0);
	(void)net_init(state);
	pair = net_tcp_pair(AF_INET);
	(void)net_wait(net_push_bytes(pair.client, "before", 6));
	net_pop_bytes(pair.server, "before", 6);
	while (n < 4096 && (kept[n] = demi_sgaalloc(4096)).sga_numsegs == 1)
		n++;
	assert_in_range(n, 100, 4095);
	assert_null(demi_malloc(1 << 20));
	/* Data that arrives now is late, not lost. */
	char now[] = "now";
	demi_sgarray_t sga = net_array(now, 3);
	(void)net_wait(net_push(pair.client, &sga));
	demi_qresult_t qr = net_wait(net_pop(pair.server));
	if (qr.qr_opcode == DEMI_OPC_FAILED) {
		assert_int_equal(qr.qr_ret, ENOMEM);
		while (n > 50)
			assert_int_equal(demi_sgafree(&kept[--n]), 0);
		net_pop_bytes(pair.server, "now", 3);
	} else {
		assert_int_equal(net_array_bytes(&qr.qr_value.sga), 3);
		assert_int_equal(demi_sgafree(&qr.qr_value.sga), 0);
	}
	while (n > 0)
		assert_int_equal(demi_sgafree(&kept[--n]), 0);
	(void)net_wait(net_push_bytes(pair.client, "after", 5));
	net_pop_bytes(pair.server, "after", 5);
	(void)net_fini(state);
	assert_int_equal(demi_set_config("heap_max_bytes", NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_fails_once),
		cmocka_unit_test(test_all_fail_from_each_on),
		cmocka_unit_test(test_heap_limit),
	};

	return test_run("nomem", tests);
}
