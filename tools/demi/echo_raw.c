/* SPDX-License-Identifier: MIT
 * tools/demi/echo_raw.c - the ends of `--libos raw`: bare frames, as long as those of a TCP segment
 * with the request, sent back with their addresses exchanged.
 */
#include "echo.h"
#include "raw.h"
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER     54   /* Ethernet, and what IPv4 and TCP would have */
#define FLOW_AT    14   /* number of the flow: 4 bytes */
#define TYPE       0x88 /* 0x88b5 and 0x88b6: for local experiments (IEEE 802) */
#define TYPE_ECHO  0xb5
#define TYPE_END   0xb6
#define SPIN_TURNS 1024

static int open_port(struct echo_end *end, const struct raw_ops **ops)
{
	return raw_open(ops, end->device, end->message, ECHO_MESSAGE_MAX);
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static bool is_type(const struct raw_frame *frame, uint8_t low)
{
	return frame->length >= HEADER && frame->data[12] == TYPE && frame->data[13] == low;
}

/* ---- the server ---- */

static void exchange(uint8_t *data)
{
	uint8_t address[6];

	memcpy(address, data, 6);
	memcpy(data, data + 6, 6);
	memcpy(data + 6, address, 6);
}

int echo_raw_server(struct echo_end *end)
{
	const struct raw_ops *ops;
	struct raw_frame frames[RAW_BURST];
	bool over = false;

	if (echo_is_shm(end->spec))
		return echo_shm_server(end);
	int error = open_port(end, &ops);
	if (error)
		return error;
	echo_server_ready(end, 0);
	while (!over && !echo_interrupted()) {
		uint32_t n = ops->receive(frames, RAW_BURST);
		for (uint32_t i = 0; i < n; i++) {
			over = over || (is_type(&frames[i], TYPE_END) && !end->stays);
			exchange(frames[i].data);
		}
		raw_send_all(ops, frames, n);
	}
	ops->close();
	return 0;
}

/* ---- the client ---- */

struct raw_client {
	struct echo_end *end;
	const struct raw_ops *ops;
	struct flow *flows;
	struct raw_frame out[RAW_BURST];
	uint32_t count; /* in out */
};

static void flush(struct raw_client *client)
{
	raw_send_all(client->ops, client->out, client->count);
	client->count = 0;
}

static void put(struct raw_client *client, const struct raw_frame *frame)
{
	client->out[client->count++] = *frame;
	if (client->count == RAW_BURST)
		flush(client);
}

static bool make_frame(const struct raw_client *client, struct raw_frame *frame, uint8_t type)
{
	const struct load *load = &client->end->load;

	if (client->ops->make(frame, 1, HEADER + (uint32_t)load->size) == 0)
		return false;
	memset(frame->data, 0, HEADER);
	frame->data[12] = TYPE;
	frame->data[13] = type;
	return true;
}

/* Issues what flow number n may have out.  again: a frame that came back, to be used once more;
 * NULL: none. */
static int issue(struct raw_client *client, uint32_t n, const struct raw_frame *again,
		 uint64_t now_ns)
{
	struct load *load = &client->end->load;
	struct raw_frame frame;

	while (flow_issue(load, &client->flows[n], now_ns)) {
		if (again)
			frame = *again;
		else if (!make_frame(client, &frame, TYPE_ECHO))
			return echo_fail(client->end, -ENOMEM, "no buffers");
		again = NULL;
		memcpy(frame.data + FLOW_AT, &n, sizeof(n));
		flow_fill(load, &client->flows[n], frame.data + HEADER);
		put(client, &frame);
	}
	if (again)
		client->ops->drop(again, 1);
	return 0;
}

static int take(struct raw_client *client, const struct raw_frame *frame, uint64_t now_ns)
{
	struct load *load = &client->end->load;
	uint32_t n = is_type(frame, TYPE_ECHO) ? get32(frame->data + FLOW_AT) : UINT32_MAX;

	if (n >= client->end->spec->connections) {
		client->ops->drop(frame, 1);
		return 0;
	}
	flow_datagram(load, &client->flows[n], frame->data + HEADER, frame->length - HEADER,
		      now_ns);
	return issue(client, n, frame, now_ns);
}

static int issue_all(struct raw_client *client, uint64_t now_ns)
{
	int error = 0;

	for (uint32_t n = 0; n < client->end->spec->connections && !error; n++) {
		flow_expire(&client->end->load, &client->flows[n], now_ns);
		error = issue(client, n, NULL, now_ns);
	}
	flush(client);
	return error;
}

static int loop(void *arg)
{
	struct raw_client *client = arg;
	struct load *load = &client->end->load;
	struct raw_frame frames[RAW_BURST];
	uint64_t now_ns = clock_now_ns();
	int error = issue_all(client, now_ns);

	for (unsigned turn = 1; !error && !load_done(load, now_ns); turn++) {
		uint32_t n = client->ops->receive(frames, RAW_BURST);
		if (n == 0 && turn % SPIN_TURNS)
			continue;
		now_ns = clock_now_ns();
		for (uint32_t i = 0; i < n && !error; i++)
			error = take(client, &frames[i], now_ns);
		flush(client);
		if (n == 0)
			error = issue_all(client, now_ns);
	}
	return error;
}

/* The server ends with this, and sends it back. */
static void say_end(struct raw_client *client)
{
	struct raw_frame frame;
	uint64_t end_ns = clock_now_ns() + NS_PER_S;

	if (!make_frame(client, &frame, TYPE_END))
		return;
	put(client, &frame);
	flush(client);
	while (clock_now_ns() < end_ns && client->ops->receive(&frame, 1) == 0)
		;
}

int echo_raw_client(struct echo_end *end)
{
	unsigned count = end->spec->connections;
	struct raw_client client = {.end = end};

	if (echo_is_shm(end->spec))
		return echo_shm_client(end);
	int error = open_port(end, &client.ops);
	if (error)
		return error;
	if (raw_await_peer(client.ops))
		return echo_fail(end, -ETIMEDOUT, "the server's port does not come up");
	load_fini(&end->load); /* its requests are datagrams, whatever they stand for */
	load_init(&end->load, end->spec->size, end->spec->depth, true, end->spec->rate_per_s);
	client.flows = tool_alloc(count, sizeof(*client.flows));
	for (unsigned n = 0; n < count; n++)
		flow_init(&client.flows[n], &end->load);
	error = echo_client_run(end, loop, &client);
	say_end(&client);
	for (unsigned n = 0; n < count; n++)
		flow_fini(&client.flows[n]);
	free(client.flows);
	return error;
}
