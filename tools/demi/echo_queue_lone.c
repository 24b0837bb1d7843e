/* SPDX-License-Identifier: MIT
 * tools/demi/echo_queue_lone.c - one connection over the queue API, or one pipe (catmem): round
 * trips as quick as can be, and messages that are not answered.
 *
 * What is pushed is an array of the heap, which is pushed again if the library has let go of it
 * (what it copied, it has), else freed, and another one allocated.
 */
#include "echo_one_way.h"
#include "echo_queue.h"
#include "echo_rounds.h"
#include "tool.h"

#include <demi/memory.h>
#include <demi/queue.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

struct lone {
	struct echo_end *end;
	int listener; /* -1: none */
	int qd;
	demi_sgarray_t message;
	size_t size;
	const uint8_t *pattern;
	demi_qtoken_t never; /* a pop of what does not come: to poll by */
};

static int redeem(demi_qtoken_t token, demi_qresult_t *result)
{
	int error = demi_wait(result, token, NULL);

	return error ? error : result->qr_opcode == DEMI_OPC_FAILED ? (int)result->qr_ret : 0;
}

/* ---- beginning and end ---- */

static bool is_pipe(const struct echo_end *end)
{
	return strcmp(end->spec->server->name, "catmem") == 0;
}

/* Both ends know their parent. */
static void name_pipe(char *name, size_t room)
{
	(void)snprintf(name, room, "demi-bench-%d", (int)getppid());
}

static int serve_pipe(struct lone *lone)
{
	char name[32];

	name_pipe(name, sizeof(name));
	int error = demi_create_pipe(&lone->qd, name);
	if (!error)
		echo_server_ready(lone->end, 0);
	return error;
}

static int serve_socket(struct lone *lone)
{
	struct echo_end *end = lone->end;
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = queue_socket(end, &lone->listener);

	if (error)
		return -error;
	error = demi_bind(lone->listener, &end->address.any, end->address_size);
	if (!error)
		error = demi_listen(lone->listener, 1);
	if (!error)
		error = demi_accept(&token, lone->listener);
	if (error)
		return error;
	echo_server_ready(end, queue_port(lone->listener));
	error = redeem(token, &result);
	if (!error)
		lone->qd = result.qr_value.ares.qd;
	return error;
}

static int connect_pipe(struct lone *lone)
{
	char name[32];

	name_pipe(name, sizeof(name));
	return demi_open_pipe(&lone->qd, name);
}

static int connect_socket(struct lone *lone)
{
	struct echo_end *end = lone->end;
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = queue_socket(end, &lone->qd);

	if (error)
		return -error;
	error = demi_connect(&token, lone->qd, &end->address.any, end->address_size);
	return error ? error : redeem(token, &result);
}

/* One end from its instance on; body's errors are positive, or -errno with a message left. */
static int run_end(struct echo_end *end, int (*open)(struct lone *lone),
		   int (*body)(struct lone *lone))
{
	const struct echo_spec *spec = end->spec;
	struct lone lone = {.end = end, .listener = -1, .qd = -1, .size = spec->size};
	int error = instance_open(spec->server->name, *end->device ? end->device : NULL, spec->idle,
				  end->message, ECHO_MESSAGE_MAX);

	if (error)
		return error;
	lone.pattern = end->load.pattern;
	error = open(&lone);
	if (!error)
		error = body(&lone);
	if (error > 0)
		error = echo_fail(end, -error, "%s", strerror(error));
	demi_sgafree(&lone.message);
	if (lone.qd >= 0)
		demi_close(lone.qd);
	if (lone.listener >= 0)
		demi_close(lone.listener);
	instance_close();
	return error;
}

static int serve_end(struct echo_end *end, int (*body)(struct lone *lone))
{
	return run_end(end, is_pipe(end) ? serve_pipe : serve_socket, body);
}

static int connect_end(struct echo_end *end, int (*body)(struct lone *lone))
{
	return run_end(end, is_pipe(end) ? connect_pipe : connect_socket, body);
}

/* ---- round trips ---- */

/* The next element.  An error, or none at its end: the other end has gone. */
static int pop_next(struct lone *lone, demi_qresult_t *result)
{
	demi_qtoken_t token;
	int error = demi_pop(&token, lone->qd);

	if (!error)
		error = redeem(token, result);
	if (!error && queue_bytes(&result->qr_value.sga) == 0) {
		demi_sgafree(&result->qr_value.sga);
		error = ECONNRESET;
	}
	return error;
}

static int answer_all(struct lone *lone)
{
	demi_qresult_t popped;
	demi_qresult_t pushed;
	demi_qtoken_t token;
	int error = pop_next(lone, &popped);

	while (!error) {
		error = demi_push(&token, lone->qd, &popped.qr_value.sga);
		demi_sgafree(&popped.qr_value.sga);
		if (!error)
			error = redeem(token, &pushed);
		if (!error)
			error = pop_next(lone, &popped);
	}
	return error == ECONNRESET ? 0 : error;
}

/* Compares what came with the pattern from at on. */
static bool equals(const struct lone *lone, const demi_sgarray_t *sga, size_t at)
{
	bool equal = true;

	for (uint32_t i = 0; i < sga->sga_numsegs && equal; i++) {
		const demi_sgaseg_t *segment = &sga->sga_segs[i];
		equal = at + segment->sgaseg_len <= lone->size &&
			memcmp(segment->sgaseg_buf, lone->pattern + at, segment->sgaseg_len) == 0;
		at += segment->sgaseg_len;
	}
	return equal;
}

static int take_answer(struct lone *lone, bool checked)
{
	demi_qresult_t result;
	size_t got = 0;
	bool good = true;
	int error = 0;

	while (!error && got < lone->size) {
		error = pop_next(lone, &result);
		if (error)
			break;
		if (checked)
			good = good && equals(lone, &result.qr_value.sga, got);
		got += queue_bytes(&result.qr_value.sga);
		demi_sgafree(&result.qr_value.sga);
	}
	return error  ? echo_fail(lone->end, -error, "pop: %s", strerror(error))
	       : good ? 0
		      : -EBADMSG;
}

static int round_trip(void *arg, uint64_t number, bool checked)
{
	struct lone *lone = arg;
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_push(&token, lone->qd, &lone->message);

	(void)number;
	if (!error)
		error = redeem(token, &result);
	return error ? echo_fail(lone->end, -error, "push: %s", strerror(error))
		     : take_answer(lone, checked);
}

static int run_rounds(struct lone *lone)
{
	lone->message = demi_sgaalloc(lone->size);
	if (lone->message.sga_numsegs == 0)
		return ENOMEM;
	memcpy(lone->message.sga_segs[0].sgaseg_buf, lone->pattern, lone->size);
	return echo_rounds_run(lone->end, round_trip, lone);
}

int echo_lone_server(struct echo_end *end)
{
	return serve_end(end, answer_all);
}

int echo_lone_client(struct echo_end *end)
{
	return connect_end(end, run_rounds);
}

/* ---- one way ---- */

static int take_all(struct lone *lone)
{
	uint64_t total = 0;
	demi_qresult_t result;
	demi_sgarray_t *sga = &result.qr_value.sga;
	int error = pop_next(lone, &result);

	while (!error) {
		for (uint32_t i = 0; i < sga->sga_numsegs; i++)
			echo_sink_bytes(lone->end, &total, sga->sga_segs[i].sgaseg_buf,
					sga->sga_segs[i].sgaseg_len);
		demi_sgafree(sga);
		error = pop_next(lone, &result);
	}
	return error == ECONNRESET ? 0 : error;
}

/* An array that nobody reads any more. */
static int renew_message(struct lone *lone)
{
	if (lone->message.sga_numsegs > 0 && demi_sgabusy(&lone->message) == 0)
		return 0;
	demi_sgafree(&lone->message);
	lone->message = demi_sgaalloc(lone->size);
	return lone->message.sga_numsegs > 0 ? 0 : ENOMEM;
}

static int push_message(void *arg, uint64_t number)
{
	struct lone *lone = arg;
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = renew_message(lone);

	if (!error) {
		memcpy(lone->message.sga_segs[0].sgaseg_buf, &number, sizeof(number));
		error = demi_push(&token, lone->qd, &lone->message);
	}
	if (!error)
		error = redeem(token, &result);
	return error ? echo_fail(lone->end, -error, "push: %s", strerror(error)) : 0;
}

/* One turn of the library. */
static int poll_once(void *arg)
{
	static const struct timespec at_once;
	struct lone *lone = arg;
	demi_qresult_t result;
	int error = demi_wait(&result, lone->never, &at_once);

	return error == ETIMEDOUT ? 0 : echo_fail(lone->end, -ECONNRESET, "the server has gone");
}

static int push_all(struct lone *lone)
{
	const struct echo_sender sender = {.send = push_message, .poll = poll_once, .arg = lone};
	int error = demi_pop(&lone->never, lone->qd);

	return error ? error : echo_source_run(lone->end, &sender);
}

int echo_lone_sink(struct echo_end *end)
{
	return serve_end(end, take_all);
}

int echo_lone_source(struct echo_end *end)
{
	return connect_end(end, push_all);
}
