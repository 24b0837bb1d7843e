/* SPDX-License-Identifier: MIT
 * tools/demi/echo_proxy_queue.c - a proxy over the queue API: two demi_qconnect a connection, and
 * nothing else.
 */
#include "echo_proxy.h"
#include "echo_queue.h"

#include <demi/queue.h>
#include <errno.h>
#include <string.h>

static int redeem(demi_qtoken_t token, demi_qresult_t *result)
{
	int error = demi_wait(result, token, NULL);

	return error ? error : result->qr_opcode == DEMI_OPC_FAILED ? (int)result->qr_ret : 0;
}

/* A connection to the server, and both directions. */
static int join(struct echo_end *end, int client)
{
	demi_qresult_t result;
	demi_qtoken_t token;
	int server;
	int error = queue_socket(end, &server);

	if (error)
		return -error;
	error = demi_connect(&token, server, &end->target.any, end->address_size);
	if (!error)
		error = redeem(token, &result);
	if (!error)
		error = demi_qconnect(client, server);
	if (!error)
		error = demi_qconnect(server, client);
	return error;
}

static int serve(struct echo_end *end, int listener)
{
	demi_qresult_t result;
	demi_qtoken_t token;
	int error = demi_bind(listener, &end->address.any, end->address_size);

	if (!error)
		error = demi_listen(listener, 16);
	if (!error)
		echo_proxy_ready(end, queue_port(listener));
	while (!error) {
		error = demi_accept(&token, listener);
		if (!error)
			error = redeem(token, &result);
		if (!error)
			error = join(end, result.qr_value.ares.qd);
	}
	return error;
}

int echo_proxy_queue(struct echo_end *end)
{
	const struct echo_spec *spec = end->spec;
	int listener;
	int error = instance_open(spec->proxy->name, *end->device ? end->device : NULL, spec->idle,
				  end->message, ECHO_MESSAGE_MAX);

	if (error)
		return error;
	error = queue_socket(end, &listener);
	if (!error)
		error = serve(end, listener);
	if (error > 0)
		error = echo_fail(end, -error, "%s", strerror(error));
	instance_close();
	return error;
}
