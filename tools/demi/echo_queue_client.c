/* SPDX-License-Identifier: MIT
 * tools/demi/echo_queue_client.c - the echo client over the queue API, for every library OS.
 *
 * Each connection has one pop outstanding, and at most one push that the transport has not taken
 * yet; what falls due meanwhile goes into the next push. The pattern that streams send lies in the
 * heap once: it never changes, so that pushing it again needs no care. A datagram carries its
 * number: each is an array of its own, freed right after the push.
 */
#include "echo_queue.h"

#include "tool.h"

#include <demi/memory.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct queue_flow {
	struct flow flow;
	int qd;
	bool pushing; /* a push is among the tokens */
};

struct queue_client {
	struct echo_end *end;
	struct queue_flow *flows;
	int count;             /* flows that are connected */
	demi_qtoken_t *tokens; /* the flows' pops, then the pushes that wait */
	int *owners;           /* the flow that a token belongs to */
	int token_count;
	uint8_t *pattern;  /* in the heap */
	uint8_t *datagram; /* room to put one together */
};

static const struct timespec at_once;
static const struct timespec patience = {.tv_nsec = (long)LOAD_LOST_NS};

/* What the flow has to send, as one array. */
static demi_sgarray_t gather(struct queue_client *client, struct queue_flow *flow)
{
	const struct load *load = &client->end->load;
	demi_sgarray_t sga = {0};

	while (flow->flow.tx_bytes > 0 && sga.sga_numsegs < DEMI_SGARRAY_MAXSIZE) {
		size_t length;
		const uint8_t *bytes = flow_next(load, &flow->flow, &length);

		sga.sga_segs[sga.sga_numsegs].sgaseg_buf =
			client->pattern + (bytes - load->pattern);
		sga.sga_segs[sga.sga_numsegs].sgaseg_len = (uint32_t)length;
		sga.sga_numsegs++;
		flow_sent(load, &flow->flow, length);
	}
	return sga;
}

/* Pushes; a push that is not taken at once joins the tokens. */
static int push(struct queue_client *client, int index, const demi_sgarray_t *sga)
{
	struct queue_flow *flow = &client->flows[index];
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_push(&token, flow->qd, sga);

	if (!error)
		error = demi_wait(&result, token, &at_once);
	if (error == ETIMEDOUT) {
		flow->pushing = true;
		client->owners[client->token_count] = index;
		client->tokens[client->token_count++] = token;
		return 0;
	}
	if (!error && result.qr_opcode == DEMI_OPC_FAILED)
		error = (int)result.qr_ret;
	return error ? echo_fail(client->end, -error, "push: %s", strerror(error)) : 0;
}

static int push_datagram(struct queue_client *client, int index)
{
	struct load *load = &client->end->load;
	demi_sgarray_t sga = demi_sgaalloc(load->size);
	int error;

	if (sga.sga_numsegs == 0)
		return echo_fail(client->end, -ENOMEM, "demi_sgaalloc: out of memory");
	flow_fill(load, &client->flows[index].flow, sga.sga_segs[0].sgaseg_buf);
	error = push(client, index, &sga);
	demi_sgafree(&sga);
	return error;
}

/* Issues what may be, and pushes it. */
static int refill(struct queue_client *client, int index, uint64_t now_ns)
{
	struct load *load = &client->end->load;
	struct queue_flow *flow = &client->flows[index];
	int error = 0;

	while (!error && !(load->datagram && flow->pushing) &&
	       flow_issue(load, &flow->flow, now_ns)) {
		if (load->datagram)
			error = push_datagram(client, index);
	}
	while (!error && flow->flow.tx_bytes > 0 && !flow->pushing) {
		demi_sgarray_t sga = gather(client, flow);

		error = push(client, index, &sga);
	}
	return error;
}

/* A datagram as one piece: that of its array, or put together. */
static const uint8_t *whole(struct queue_client *client, const demi_sgarray_t *sga, size_t length)
{
	size_t at = 0;

	if (sga->sga_numsegs == 1 || length > client->end->load.size)
		return sga->sga_segs[0].sgaseg_buf;
	for (uint32_t i = 0; i < sga->sga_numsegs; i++) {
		memcpy(client->datagram + at, sga->sga_segs[i].sgaseg_buf,
		       sga->sga_segs[i].sgaseg_len);
		at += sga->sga_segs[i].sgaseg_len;
	}
	return client->datagram;
}

/* What was popped goes to the flow. */
static void give_to_flow(struct queue_client *client, struct flow *flow, const demi_sgarray_t *sga,
			 uint64_t now_ns)
{
	struct load *load = &client->end->load;

	if (load->datagram) {
		size_t length = queue_bytes(sga);

		flow_datagram(load, flow, whole(client, sga, length), length, now_ns);
		return;
	}
	for (uint32_t i = 0; i < sga->sga_numsegs; i++)
		flow_received(load, flow, sga->sga_segs[i].sgaseg_buf, sga->sga_segs[i].sgaseg_len,
			      now_ns);
}

static int take_data(struct queue_client *client, int index, demi_qresult_t *result,
		     uint64_t now_ns)
{
	demi_sgarray_t *sga = &result->qr_value.sga;
	int error = demi_pop(&client->tokens[index], client->flows[index].qd);

	if (!client->end->load.datagram && queue_bytes(sga) == 0)
		error = ECONNRESET;
	give_to_flow(client, &client->flows[index].flow, sga, now_ns);
	demi_sgafree(sga);
	return error ? echo_fail(client->end, -error, "pop: %s", strerror(error)) : 0;
}

/* Takes the token of a push that is done out of the array. */
static void end_push(struct queue_client *client, int at)
{
	client->flows[client->owners[at]].pushing = false;
	client->token_count--;
	client->tokens[at] = client->tokens[client->token_count];
	client->owners[at] = client->owners[client->token_count];
}

static int take_result(struct queue_client *client, int at, demi_qresult_t *result, uint64_t now_ns)
{
	int index = client->owners[at];
	int error = 0;

	if (result->qr_opcode == DEMI_OPC_FAILED) {
		error = (int)result->qr_ret;
		return echo_fail(client->end, -error, "%s: %s", at < client->count ? "pop" : "push",
				 strerror(error));
	}
	if (result->qr_opcode == DEMI_OPC_POP)
		error = take_data(client, index, result, now_ns);
	else
		end_push(client, at);
	return error ? error : refill(client, index, now_ns);
}

static int wait_result(struct queue_client *client, demi_qresult_t *result, int *at)
{
	const struct timespec *timeout = client->end->load.datagram ? &patience : NULL;

	*at = 0;
	if (client->token_count == 1)
		return demi_wait(result, client->tokens[0], timeout);
	return demi_wait_any(result, at, client->tokens, client->token_count, timeout);
}

static int give_up_lost(struct queue_client *client, uint64_t now_ns)
{
	int error = 0;

	for (int i = 0; i < client->count && !error; i++) {
		flow_expire(&client->end->load, &client->flows[i].flow, now_ns);
		error = refill(client, i, now_ns);
	}
	return error;
}

static int client_loop(void *arg)
{
	struct queue_client *client = arg;
	uint64_t now_ns = clock_now_ns();
	int error = 0;

	for (int i = 0; i < client->count && !error; i++)
		error = refill(client, i, now_ns);
	while (!error && !load_done(&client->end->load, now_ns)) {
		demi_qresult_t result;
		int at;
		int failed = wait_result(client, &result, &at);

		now_ns = clock_now_ns();
		if (failed == ETIMEDOUT)
			error = give_up_lost(client, now_ns);
		else if (failed)
			error = echo_fail(client->end, -failed, "wait: %s", strerror(failed));
		else
			error = take_result(client, at, &result, now_ns);
	}
	return error;
}

static int connect_flow(struct queue_client *client, struct queue_flow *flow)
{
	struct echo_end *end = client->end;
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = queue_socket(end, &flow->qd);

	if (error)
		return error;
	flow_init(&flow->flow, &end->load);
	client->owners[client->count] = client->count;
	client->token_count = ++client->count;
	error = demi_connect(&token, flow->qd, &end->address.any, end->address_size);
	if (!error)
		error = demi_wait(&result, token, NULL);
	if (!error && result.qr_opcode == DEMI_OPC_FAILED)
		error = (int)result.qr_ret;
	if (!error)
		error = demi_pop(&client->tokens[client->count - 1], flow->qd);
	return error ? echo_fail(end, -error, "connect: %s", strerror(error)) : 0;
}

/* Tells a UDP server that the run is over. */
static void farewell(struct queue_client *client)
{
	demi_sgarray_t sga = demi_sgaalloc(1);
	demi_qresult_t result;
	demi_qtoken_t token;

	if (!client->end->load.datagram || client->end->server_pid == 0 || client->count == 0)
		goto out;
	if (sga.sga_numsegs == 0)
		return;
	sga.sga_segs[0].sgaseg_len = 0;
	if (demi_push(&token, client->flows[0].qd, &sga) == 0)
		(void)!demi_wait(&result, token, &patience);
out:
	demi_sgafree(&sga);
}

static int client_body(struct queue_client *client)
{
	unsigned connections = client->end->spec->connections;
	struct load *load = &client->end->load;
	int error = 0;

	client->pattern = demi_malloc(load->pattern_size);
	if (!client->pattern)
		return echo_fail(client->end, -ENOMEM, "demi_malloc: out of memory");
	memcpy(client->pattern, load->pattern, load->pattern_size);
	while (!error && client->count < (int)connections)
		error = connect_flow(client, &client->flows[client->count]);
	if (!error)
		error = echo_client_run(client->end, client_loop, client);
	farewell(client);
	for (int i = 0; i < client->count; i++) {
		demi_close(client->flows[i].qd);
		flow_fini(&client->flows[i].flow);
	}
	demi_free(client->pattern);
	return error;
}

int echo_queue_client(struct echo_end *end)
{
	const struct echo_spec *spec = end->spec;
	struct queue_client client = {.end = end};

	if (echo_is_lone(spec) && end->server_pid)
		return echo_lone_client(end);
	int error = instance_open(spec->client->name, *end->device ? end->device : NULL, spec->idle,
				  end->message, ECHO_MESSAGE_MAX);

	if (error)
		return error;
	client.flows = tool_alloc(spec->connections, sizeof(*client.flows));
	client.tokens = tool_alloc((size_t)spec->connections * 2, sizeof(*client.tokens));
	client.owners = tool_alloc((size_t)spec->connections * 2, sizeof(*client.owners));
	client.datagram = tool_alloc(1, end->load.size);
	error = client_body(&client);
	instance_close();
	free(client.datagram);
	free(client.owners);
	free(client.tokens);
	free(client.flows);
	return error;
}
