/* SPDX-License-Identifier: MIT
 * tests/unit/rdma_cost.c - instructions of our code for an element of 64 bytes over catmint, on an
 * in-process device, for `tools/bench instructions`, which runs it under callgrind.
 *
 *	rdma_cost --only push|wait|bare --count N
 *
 * Two instances send each other N elements in turn.  push: from demi_push until ibv_post_send is
 * called.  wait: from where ibv_poll_cq has returned a completion until demi_wait returns the
 * element; what else the device is asked for meanwhile is not counted.  bare: what counting itself
 * takes, which is in both.
 */
#include "support/mint.h"

#include "net/count.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES  64
#define WARMUP 100 /* elements: memory is registered, credits have been given once around */

static struct {
	struct ibv_context_ops device; /* its own */
	bool push, wait, bare;         /* which of them is counted, once it is warm */
	bool counting;
	bool waits; /* in a wait whose completion has not come yet */
} cost;

static __attribute__((noinline)) void count(bool on)
{
	if (cost.counting == on)
		return;
	cost.counting = on;
	if (on)
		count_on();
	else
		count_off();
}

/* ---- the device, which does not count ---- */

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	bool was = cost.counting && cost.wait;

	count(false);
	int err = cost.device.post_send(qp, wr, bad);
	count(was);
	return err;
}

static int post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	bool was = cost.counting;

	count(false);
	int err = cost.device.post_srq_recv(srq, wr, bad);
	count(was);
	return err;
}

static int poll_cq(struct ibv_cq *cq, int most, struct ibv_wc *wc)
{
	bool was = cost.counting;

	count(false);
	int got = cost.device.poll_cq(cq, most, wc);
	if (got > 0 && cost.waits) {
		cost.waits = false;
		was = cost.wait;
	}
	count(was);
	return got;
}

static int req_notify_cq(struct ibv_cq *cq, int solicited)
{
	bool was = cost.counting;

	count(false);
	int err = cost.device.req_notify_cq(cq, solicited);
	count(was);
	return err;
}

static void stand_between(const struct mint_host *host)
{
	struct ibv_context_ops *ops = &host->engine->device.context->ops;

	cost.device = *ops;
	ops->post_send = post_send;
	ops->post_srq_recv = post_srq_recv;
	ops->poll_cq = poll_cq;
	ops->req_notify_cq = req_notify_cq;
}

/* ---- elements ---- */

static void must(int error, const char *what)
{
	if (!error)
		return;
	(void)fprintf(stderr, "rdma_cost: %s: %s\n", what, strerror(error));
	exit(1);
}

static void push(const struct mint_host *host, int qd, bool counted)
{
	demi_qresult_t result;
	demi_qtoken_t qt;

	mint_enter(host);
	demi_sgarray_t sga = demi_sgaalloc(BYTES);
	memset(sga.sga_segs[0].sgaseg_buf, 'x', BYTES);
	count(counted);
	int error = demi_push(&qt, qd, &sga);
	count(false);
	must(error, "demi_push");
	must(demi_sgafree(&sga), "demi_sgafree");
	must(demi_wait(&result, qt, NULL), "demi_wait");
	must((int)result.qr_ret, "push");
}

static void pop(const struct mint_host *host, int qd, bool counted)
{
	demi_qresult_t result;
	demi_qtoken_t qt;

	mint_enter(host);
	must(demi_pop(&qt, qd), "demi_pop");
	cost.waits = counted;
	int error = demi_wait(&result, qt, NULL);
	count(false);
	cost.waits = false;
	must(error, "demi_wait");
	must((int)result.qr_ret, "pop");
	if (result.qr_value.sga.sga_segs[0].sgaseg_len != BYTES)
		must(EBADMSG, "pop");
	must(demi_sgafree(&result.qr_value.sga), "demi_sgafree");
}

static void exchange(struct mint *mint, const int qds[2], uint64_t elements, bool counted)
{
	for (uint64_t i = 0; i < elements; i++) {
		count(counted && cost.bare);
		count(false);
		push(&mint->hosts[i % 2], qds[i % 2], counted && cost.push);
		pop(&mint->hosts[1 - i % 2], qds[1 - i % 2], counted && cost.wait);
	}
}

int main(int argc, char **argv)
{
	static const struct fabric_options options = {.seed = 1, .immediate = true};
	struct mint mint;
	int qds[2];

	if (argc != 5 || strcmp(argv[1], "--only") != 0 || strcmp(argv[3], "--count") != 0) {
		(void)fputs("usage: rdma_cost --only push|wait|bare --count N\n", stderr);
		return 2;
	}
	cost.push = strcmp(argv[2], "push") == 0;
	cost.wait = strcmp(argv[2], "wait") == 0;
	cost.bare = strcmp(argv[2], "bare") == 0;
	mint_open(&mint, &options);
	(void)mint_add(&mint, NULL);
	(void)mint_add(&mint, NULL);
	mint_pair(&mint.hosts[0], &mint.hosts[1], 7000, &qds[0], &qds[1]);
	stand_between(&mint.hosts[0]);
	stand_between(&mint.hosts[1]);
	exchange(&mint, qds, WARMUP, false);
	count_prepare();
	exchange(&mint, qds, strtoull(argv[4], NULL, 10), true);
	mint_close_qd(&mint.hosts[0], qds[0]);
	mint_close_qd(&mint.hosts[1], qds[1]);
	mint_pass(&mint, 10 * FABRIC_MS);
	mint_close(&mint);
	return 0;
}
