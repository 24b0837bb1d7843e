/* SPDX-License-Identifier: MIT
 * tools/demi/net/input.c - what a received frame costs our stack.
 *
 * The other end makes one frame, then the poll of the end that receives is called by hand and
 * counted from where the device's receive burst has returned the frame: Ethernet, IP, TCP, the
 * operation completed, the frame freed. Three kinds: data that acknowledges nothing new; a request,
 * which acknowledges the answer before it; a bare acknowledgement. Time is made up, so that
 * acknowledgements are delayed as long as we like.
 */
#include "input.h"

#include "../median.h"
#include "../ticks.h"
#include "../tool.h"
#include "base/bits.h"
#include "contender.h"
#include "count.h"
#include "pair.h"
#include "transport/transport.h"

#include <demi/coroutine.h>
#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MTU      1500
#define WARMUP   200 /* frames; after 10 s of made-up time the neighbour has been asked for */
#define DELAY_NS (50 * NS_PER_MS) /* more than an acknowledgement waits, less than a timeout */

/* Stands for the device's own table: notes when a receive burst has returned frames. */
struct stamp {
	struct netdev_ops ops;
	const struct netdev_ops *inner;
	uint64_t ticks;
	bool counts; /* the next frame is counted from there on */
};

struct rig {
	struct pair pair;
	struct stamp stamp; /* of the server's device */
	int qds[2];
	uint64_t now_ns; /* 0: real time */
	bool warm;       /* polls are counted from now on */
};

static uint32_t stamped_burst(struct netdev *dev, struct frame **frames, uint32_t max)
{
	struct stamp *stamp =
		container_of((struct netdev_ops *)(uintptr_t)dev->ops, struct stamp, ops);
	uint32_t count = stamp->inner->rx_burst(dev, frames, max);

	if (count == 0)
		return 0;
	if (stamp->counts)
		count_on();
	else
		stamp->ticks = core_ticks();
	return count;
}

static void stamp_device(struct rig *rig)
{
	struct netdev *device = rig->pair.devices[SERVER];

	rig->stamp.inner = device->ops;
	rig->stamp.ops = *device->ops;
	rig->stamp.ops.rx_burst = stamped_burst;
	device->ops = &rig->stamp.ops;
}

static bool complain(const char *what, int error)
{
	tool_complain("demitasse: %s: %s", what, strerror(error));
	return false;
}

static uint64_t time_of(void *arg)
{
	const struct rig *rig = arg;

	return rig->now_ns ? rig->now_ns : clock_now_ns();
}

static bool rig_open(struct rig *rig, uint64_t now_ns)
{
	int *qds[2] = {&rig->qds[SERVER], &rig->qds[CLIENT]};

	memset(rig, 0, sizeof(*rig));
	rig->now_ns = now_ns;
	if (!pair_open(&rig->pair, MTU, time_of, rig))
		return false;
	for (int end = 0; end < 2 && now_ns; end++) /* made-up time is read in every turn */
		rig->pair.ends[end]->sched.clock_turns = 1;
	stamp_device(rig);
	if (pair_connect(&rig->pair, 1, qds))
		return true;
	pair_close(&rig->pair);
	return false;
}

static bool pop(int qd)
{
	demi_qtoken_t token;
	int error = demi_pop(&token, qd);

	return !error || complain("demi_pop", error);
}

/* Pushes a message at one end and puts it out: one frame. */
static bool send_message(struct rig *rig, int end)
{
	static const char message[NET_REQUEST_BYTES];
	demi_qresult_t result;

	pair_enter(&rig->pair, end);
	return pair_push(rig->qds[end], message, sizeof(message)) &&
	       (pair_results(&result, 1) == 1 || complain("demi_push", ETIMEDOUT));
}

static uint32_t poll_end(const struct rig *rig, int end)
{
	struct poller *poller = &rig->pair.ends[end]->engine->poller;

	pair_enter(&rig->pair, end);
	return poller->ops->poll(poller);
}

/* The server's, counted; exactly one frame must come. */
static bool poll_counted(struct rig *rig)
{
	rig->stamp.counts = rig->warm;
	uint32_t happened = poll_end(rig, SERVER);
	if (rig->stamp.counts && happened > 0)
		count_off();
	rig->stamp.counts = false;
	return happened == 1 || (!rig->warm && happened > 0) || complain("a frame", ETIMEDOUT);
}

/* Takes the pop that the last poll completed, and pops again. */
static bool take_message(const struct rig *rig, int end)
{
	demi_qresult_t result;

	pair_enter(&rig->pair, end);
	if (pair_results(&result, 1) != 1)
		return complain("a message", ETIMEDOUT);
	demi_sgafree(&result.qr_value.sga);
	return pop(rig->qds[end]);
}

/* Data comes in, counted; nothing is sent but what acknowledges it. */
static bool data_once(struct rig *rig)
{
	demi_qresult_t none;

	if (!send_message(rig, CLIENT) || !poll_counted(rig) || !take_message(rig, SERVER))
		return false;
	if (pair_results(&none, 1) != 0) /* the server's turn: the acknowledgement, if it is due */
		return complain("nothing", EBUSY);
	(void)poll_end(rig, CLIENT);
	return true;
}

/* A request comes in, counted; the answer acknowledges it, and the next request the answer. */
static bool request_once(struct rig *rig)
{
	(void)poll_end(rig, SERVER); /* at first, answers are acknowledged at once */
	if (!send_message(rig, CLIENT) || !poll_counted(rig) || !take_message(rig, SERVER) ||
	    !send_message(rig, SERVER))
		return false;
	(void)poll_end(rig, CLIENT);
	return take_message(rig, CLIENT);
}

/* Data is sent, and acknowledged by nothing else than the acknowledgement, which is counted when it
 * comes in. */
static bool ack_once(struct rig *rig)
{
	demi_qresult_t none;

	(void)poll_end(rig, SERVER);
	if (!send_message(rig, SERVER))
		return false;
	(void)poll_end(rig, CLIENT);
	if (!take_message(rig, CLIENT))
		return false;
	rig->now_ns += DELAY_NS;
	for (int turns = 0; turns < 2; turns++) /* the timer; what it puts out */
		if (pair_results(&none, 1) != 0)
			return complain("an acknowledgement", EBUSY);
	if (!poll_counted(rig))
		return false;
	/* The server's timers see the time, too. */
	return pair_results(&none, 1) == 0 || complain("a result", EBUSY);
}

static bool run(bool (*once)(struct rig *rig), uint64_t count)
{
	struct rig rig;

	if (!rig_open(&rig, NS_PER_S))
		return false;
	pair_enter(&rig.pair, CLIENT);
	for (int end = SERVER; end <= CLIENT; end++) /* what the handshake left */
		(void)poll_end(&rig, end);
	bool good = pop(rig.qds[CLIENT]);
	count_prepare();
	for (uint64_t i = 0; i < WARMUP + count && good; i++) {
		rig.warm = i >= WARMUP;
		good = once(&rig);
	}
	pair_close(&rig.pair);
	return good;
}

bool input_data(uint64_t count)
{
	return run(data_once, count);
}

bool input_request(uint64_t count)
{
	return run(request_once, count);
}

bool input_ack(uint64_t count)
{
	return run(ack_once, count);
}

/* ---- to the waiter ---- */

struct waiter {
	struct rig rig;
	int done; /* a memory queue: tells coroutine 0 */
	uint64_t count;
	double *ticks;
	int error;
};

/* The coroutine: a message, and the news of it to coroutine 0. */
static int wait_once(struct waiter *waiter, uint64_t i)
{
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_pop(&token, waiter->rig.qds[SERVER]);

	if (!error)
		error = demi_wait(&result, token, NULL);
	waiter->ticks[i] = (double)(core_ticks() - waiter->rig.stamp.ticks);
	if (error)
		return error;
	error = demi_push(&token, waiter->done, &result.qr_value.sga);
	demi_sgafree(&result.qr_value.sga);
	return error ? error : demi_wait(&result, token, NULL);
}

static void wait_loop(void *arg)
{
	struct waiter *waiter = arg;

	for (uint64_t i = 0; i < waiter->count && !waiter->error; i++)
		waiter->error = wait_once(waiter, i);
}

/* Coroutine 0 of the server waits, so that turn follows turn. */
static int await_news(struct waiter *waiter)
{
	static const struct timespec limit = {.tv_sec = 10};
	demi_qresult_t result;
	demi_qtoken_t token;

	pair_enter(&waiter->rig.pair, SERVER);
	int error = demi_pop(&token, waiter->done);
	if (!error)
		error = demi_wait(&result, token, &limit);
	if (!error)
		demi_sgafree(&result.qr_value.sga);
	return error ? error : waiter->error;
}

static bool waiter_run(struct waiter *waiter)
{
	/* The pop that pair_connect left is not the coroutine's. */
	demi_qresult_t result;

	if (!send_message(&waiter->rig, CLIENT))
		return false;
	(void)poll_end(&waiter->rig, SERVER);
	if (pair_results(&result, 1) != 1)
		return complain("a message", ETIMEDOUT);
	demi_sgafree(&result.qr_value.sga);
	int error = demi_queue(&waiter->done);
	if (!error)
		error = demi_go(wait_loop, waiter);
	for (uint64_t i = 0; i < waiter->count && !error; i++) {
		if (!send_message(&waiter->rig, CLIENT))
			return false;
		error = await_news(waiter);
		(void)poll_end(&waiter->rig, CLIENT);
	}
	return !error || complain("waiting", error);
}

double input_to_waiter_ns(uint64_t count)
{
	struct waiter waiter = {.count = count};
	double ns = -1;

	if (!rig_open(&waiter.rig, 0))
		return ns;
	waiter.ticks = tool_alloc(count, sizeof(*waiter.ticks));
	uint64_t begin_ns = clock_now_ns();
	uint64_t begin = core_ticks();
	bool good = waiter_run(&waiter);
	double ticks_per_ns = (double)(core_ticks() - begin) / (double)(clock_now_ns() - begin_ns);
	pair_close(&waiter.rig.pair);
	if (good)
		ns = (median(waiter.ticks, count) - (double)ticks_overhead()) / ticks_per_ns;
	free(waiter.ticks);
	return ns;
}
