/* SPDX-License-Identifier: MIT
 * tools/demi/operator_loops.c - the loops of `demi bench operators`.
 *
 * An element is pushed into a memory queue, popped from the operator on it, and freed: it passes
 * one hop. Bare, it is popped from the memory queue itself. All are one array of 64 bytes of the
 * heap, pushed by reference.
 *
 * queue      nothing on it
 * filter     a predicate that reads one byte, and holds
 * map        a transform that shortens the segment
 * sort       one element at a time: nothing is compared
 * sort_16    sixteen are pushed, then popped; queue_16: the same bare
 * merge      with another memory queue, pushed into alternately
 * frame      a length of four bytes, big-endian, before each message
 * qconnect   filter, map, filter; demi_qconnect moves what is in a memory queue into another
 */
#include "operator_loops.h"

#include "ticks.h"

#include <arpa/inet.h>
#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <string.h>

#define ELEMENT_BYTES 64
#define QUEUES_MAX    8
#define BURST         16
#define FILLING       4096 /* elements that qconnect has before it */

struct operator_state {
	demi_sgarray_t element;
	int qds[QUEUES_MAX]; /* in the order in which they were made */
	int count;
	int in[2], out;  /* pushed into, in turn; popped from */
	uint64_t passed; /* qconnect: elements that the last predicate saw */
};

/* ---- functions of the operators ---- */

static int holds(void *arg, const demi_sgarray_t *sga)
{
	(void)arg;
	return ((const char *)sga->sga_segs[0].sgaseg_buf)[0] == 'd';
}

static int holds_and_counts(void *arg, const demi_sgarray_t *sga)
{
	struct operator_state *state = arg;

	state->passed++;
	return holds(NULL, sga);
}

static int shorten(void *arg, demi_sgarray_t *sga)
{
	(void)arg;
	sga->sga_segs[0].sgaseg_len = ELEMENT_BYTES / 2;
	return 0;
}

static int compare(void *arg, const demi_sgarray_t *a, const demi_sgarray_t *b)
{
	(void)arg;
	return (int)((const char *)a->sga_segs[0].sgaseg_buf)[0] -
	       (int)((const char *)b->sga_segs[0].sgaseg_buf)[0];
}

/* ---- queues ---- */

static int add_queue(struct operator_state *state, int error, int qd)
{
	if (!error)
		state->qds[state->count++] = qd;
	return error;
}

static int add_memory(struct operator_state *state, int *qd)
{
	int error = demi_queue(qd);

	return add_queue(state, error, *qd);
}

static int prepare_queue(struct operator_state *state)
{
	int error = add_memory(state, &state->in[0]);

	state->out = state->in[1] = state->in[0];
	return error;
}

static int prepare_filter(struct operator_state *state)
{
	int error = prepare_queue(state);

	if (!error)
		error = demi_filter(&state->out, state->in[0], holds, NULL);
	return add_queue(state, error, state->out);
}

static int prepare_map(struct operator_state *state)
{
	int error = prepare_queue(state);

	if (!error)
		error = demi_map(&state->out, state->in[0], shorten, NULL);
	return add_queue(state, error, state->out);
}

static int prepare_sort(struct operator_state *state)
{
	int error = prepare_queue(state);

	if (!error)
		error = demi_sort(&state->out, state->in[0], compare, NULL, BURST);
	return add_queue(state, error, state->out);
}

static int prepare_merge(struct operator_state *state)
{
	int error = prepare_queue(state);

	if (!error)
		error = add_memory(state, &state->in[1]);
	if (!error)
		error = demi_merge(&state->out, state->in[0], state->in[1]);
	return add_queue(state, error, state->out);
}

static int prepare_frame(struct operator_state *state)
{
	const struct demi_framing framing = {
		.kind = DEMI_FRAME_LENGTH, .max_bytes = ELEMENT_BYTES, .length_bytes = 4};
	uint32_t length = htonl(ELEMENT_BYTES - sizeof(length));
	int error = prepare_queue(state);

	memcpy(state->element.sga_segs[0].sgaseg_buf, &length, sizeof(length));
	if (!error)
		error = demi_frame(&state->out, state->in[0], &framing);
	return add_queue(state, error, state->out);
}

/* filter, map, filter; what they give goes to another memory queue when they are joined. */
static int prepare_pipeline(struct operator_state *state)
{
	int mapped = -1;
	int error = prepare_filter(state);

	if (!error)
		error = demi_map(&mapped, state->out, shorten, NULL);
	error = add_queue(state, error, mapped);
	if (!error)
		error = demi_filter(&state->in[1], mapped, holds_and_counts, state);
	error = add_queue(state, error, state->in[1]);
	return error ? error : add_memory(state, &state->out);
}

/* The derived ones first. */
static void close_queues(struct operator_state *state)
{
	while (state->count > 0)
		demi_close(state->qds[--state->count]);
}

/* ---- elements ---- */

static int redeem(demi_qtoken_t token, demi_qresult_t *result)
{
	int error = demi_wait(result, token, NULL);

	return error ? error : result->qr_opcode == DEMI_OPC_FAILED ? (int)result->qr_ret : 0;
}

static int push(struct operator_state *state, int qd)
{
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_push(&token, qd, &state->element);

	return error ? error : redeem(token, &result);
}

static int pop(const struct operator_state *state)
{
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_pop(&token, state->out);

	if (!error)
		error = redeem(token, &result);
	return error ? error : demi_sgafree(&result.qr_value.sga);
}

static uint64_t pass(struct operator_state *state, uint64_t count)
{
	uint64_t begin = core_ticks();

	for (uint64_t i = 0; i < count; i++) {
		if (push(state, state->in[i % 2]) || pop(state))
			return 0;
	}
	return core_ticks() - begin;
}

static uint64_t pass_bursts(struct operator_state *state, uint64_t count)
{
	uint64_t begin = core_ticks();
	int error = 0;

	for (uint64_t i = 0; i < count / BURST && !error; i++) {
		for (int j = 0; j < BURST && !error; j++)
			error = push(state, state->in[0]);
		for (int j = 0; j < BURST && !error; j++)
			error = pop(state);
	}
	return error ? 0 : core_ticks() - begin;
}

/* Polls until what was pushed before has passed. */
static int await_passed(struct operator_state *state, uint64_t count)
{
	static const struct timespec at_once;
	demi_qresult_t result;
	demi_qtoken_t token;
	int idle;
	int error = demi_queue(&idle);

	if (error)
		return error;
	error = demi_pop(&token, idle); /* something to wait for that does not come */
	while (!error && state->passed < count) {
		error = demi_wait(&result, token, &at_once);
		error = error == ETIMEDOUT ? 0 : error ? error : EIO;
	}
	demi_close(idle);
	if (!error)
		(void)!demi_wait(&result, token, NULL); /* cancelled */
	return error;
}

/* Joins the pipeline to the last queue, with so many elements before it. Ticks, 0: an error. */
static uint64_t move_filling(struct operator_state *state, uint64_t count)
{
	int error = 0;

	for (uint64_t i = 0; i < count && !error; i++)
		error = push(state, state->in[0]);
	state->passed = 0;
	uint64_t begin = core_ticks();
	if (!error)
		error = demi_qconnect(state->in[1], state->out);
	if (!error)
		error = await_passed(state, count);
	uint64_t ticks = core_ticks() - begin;
	for (uint64_t i = 0; i < count && !error; i++)
		error = pop(state);
	return error ? 0 : ticks;
}

/* Joined queues stay joined: each filling has its own. */
static uint64_t pass_pipeline(struct operator_state *state, uint64_t count)
{
	uint64_t sum = 0;
	uint64_t ticks = 1;

	for (uint64_t left = count; left > 0 && ticks > 0;) {
		uint64_t filling = left < FILLING ? left : FILLING;

		ticks = move_filling(state, filling);
		sum += ticks;
		left -= filling;
		close_queues(state);
		if (prepare_pipeline(state))
			return 0;
	}
	return ticks ? sum : 0;
}

/* ---- the table ---- */

const struct operator_loop operator_loops[] = {
	{"queue", prepare_queue, pass},
	{"filter", prepare_filter, pass},
	{"map", prepare_map, pass},
	{"sort", prepare_sort, pass},
	{"merge", prepare_merge, pass},
	{"frame", prepare_frame, pass},
	{"queue_16", prepare_queue, pass_bursts},
	{"sort_16", prepare_sort, pass_bursts},
	{"qconnect", prepare_pipeline, pass_pipeline},
};
const unsigned operator_loop_count = TOOL_COUNT(operator_loops);

const struct operator_loop *operator_loop_find(const char *key)
{
	for (unsigned i = 0; i < operator_loop_count; i++) {
		if (strcmp(operator_loops[i].key, key) == 0)
			return &operator_loops[i];
	}
	return NULL;
}

uint64_t operator_loop_run(const struct operator_loop *loop, uint64_t warmup, uint64_t count)
{
	struct operator_state state = {.element = demi_sgaalloc(ELEMENT_BYTES)};
	uint64_t ticks = 0;

	if (state.element.sga_numsegs == 0)
		return 0;
	memset(state.element.sga_segs[0].sgaseg_buf, 'd', ELEMENT_BYTES);
	if (loop->prepare(&state) == 0 && (warmup == 0 || loop->run(&state, warmup) > 0))
		ticks = loop->run(&state, count);
	close_queues(&state);
	demi_sgafree(&state.element);
	return ticks;
}
