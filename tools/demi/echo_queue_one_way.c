/* SPDX-License-Identifier: MIT
 * tools/demi/echo_queue_one_way.c - messages that are not answered, over the sockets of a library
 * OS: one connection.
 *
 * A message is an array of its own, allocated, pushed and freed right after, and each push is
 * waited for: it completes when the transport has taken it.
 */
#include "echo_one_way.h"
#include "echo_queue.h"
#include "tool.h"

#include <demi/memory.h>
#include <errno.h>

static int redeem(demi_qtoken_t token, demi_qresult_t *result)
{
	int error = demi_wait(result, token, NULL);

	return error ? error : result->qr_opcode == DEMI_OPC_FAILED ? (int)result->qr_ret : 0;
}

/* ---- the server ---- */

static int take_all(struct echo_end *end, int qd)
{
	uint64_t total = 0;
	size_t bytes = 1;
	int error = 0;

	while (!error && bytes > 0) {
		demi_qresult_t result;
		demi_qtoken_t token;
		demi_sgarray_t *sga = &result.qr_value.sga;

		error = demi_pop(&token, qd);
		if (!error)
			error = redeem(token, &result);
		if (error)
			break;
		bytes = queue_bytes(sga);
		for (uint32_t i = 0; i < sga->sga_numsegs; i++)
			echo_sink_bytes(end, &total, sga->sga_segs[i].sgaseg_buf,
					sga->sga_segs[i].sgaseg_len);
		demi_sgafree(sga);
	}
	return error == ECONNRESET ? 0 : error; /* the client has gone */
}

static int accept_one(struct echo_end *end, int listener)
{
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_bind(listener, &end->address.any, end->address_size);

	if (!error)
		error = demi_listen(listener, 1);
	if (!error)
		error = demi_accept(&token, listener);
	if (error)
		return error;
	echo_server_ready(end, queue_port(listener));
	error = redeem(token, &result);
	if (error)
		return error;
	error = take_all(end, result.qr_value.ares.qd);
	demi_close(result.qr_value.ares.qd);
	return error;
}

int echo_queue_sink(struct echo_end *end)
{
	const struct echo_spec *spec = end->spec;
	int listener;
	int error = instance_open(spec->server->name, *end->device ? end->device : NULL, spec->idle,
				  end->message, ECHO_MESSAGE_MAX);

	if (error)
		return error;
	error = queue_socket(end, &listener);
	if (!error) {
		int failed = accept_one(end, listener);
		if (failed)
			error = echo_fail(end, -failed, "%s", strerror(failed));
		demi_close(listener);
	}
	instance_close();
	return error;
}

/* ---- the client ---- */

struct queue_source {
	struct echo_end *end;
	int qd;
};

static int push_message(void *arg, uint64_t number)
{
	struct queue_source *source = arg;
	demi_sgarray_t sga = demi_sgaalloc(source->end->spec->size);
	demi_qresult_t result;
	demi_qtoken_t token;

	if (sga.sga_numsegs == 0)
		return echo_fail(source->end, -ENOMEM, "demi_sgaalloc: out of memory");
	memcpy(sga.sga_segs[0].sgaseg_buf, &number, sizeof(number));
	int error = demi_push(&token, source->qd, &sga);
	demi_sgafree(&sga);
	if (!error)
		error = redeem(token, &result);
	return error ? echo_fail(source->end, -error, "push: %s", strerror(error)) : 0;
}

static int connect_and_run(struct queue_source *source)
{
	struct echo_end *end = source->end;
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_connect(&token, source->qd, &end->address.any, end->address_size);

	if (!error)
		error = redeem(token, &result);
	if (error)
		return echo_fail(end, -error, "connect: %s", strerror(error));
	return echo_source_run(end, push_message, source);
}

int echo_queue_source(struct echo_end *end)
{
	const struct echo_spec *spec = end->spec;
	struct queue_source source = {.end = end};
	int error = instance_open(spec->client->name, *end->device ? end->device : NULL, spec->idle,
				  end->message, ECHO_MESSAGE_MAX);

	if (error)
		return error;
	error = queue_socket(end, &source.qd);
	if (!error) {
		error = connect_and_run(&source);
		demi_close(source.qd);
	}
	instance_close();
	return error;
}
