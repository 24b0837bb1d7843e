/* SPDX-License-Identifier: MIT
 * tools/demi/echo_one_way.c - see echo_one_way.h; and its ends over stream sockets and a pipe, all
 * blocking.
 */
#include "echo_one_way.h"

#include "echo_socket.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define BATCH      64 /* messages between looks at the clock */
#define PIPE_BYTES (1 << 20)
#define ARRIVAL_NS (5 * NS_PER_S) /* for the last message to be received */

/* ---- the client's account ---- */

struct source {
	struct echo_end *end;
	const struct echo_sender *sender;
	uint64_t sent; /* in all phases */
};

/* Waits until all is received.  Acquire: pairs with the release of echo_sink_count. */
static int await_all(const struct source *source)
{
	struct echo_end *end = source->end;
	uint64_t give_up_ns = clock_now_ns() + ARRIVAL_NS;
	int error = 0;

	while (!error && atomic_load_explicit(&end->shared->received.messages,
					      memory_order_acquire) < source->sent) {
		if (clock_now_ns() > give_up_ns)
			return echo_fail(end, -ETIMEDOUT, "not all messages were received");
		if (source->sender->poll)
			error = source->sender->poll(source->sender->arg);
		sched_yield(); /* the server may be on the same core */
	}
	return error;
}

static int send_batch(struct source *source)
{
	struct load *load = &source->end->load;
	int error = 0;

	for (unsigned i = 0; i < BATCH && load->budget > 0 && !error; i++) {
		error = source->sender->send(source->sender->arg, source->sent++);
		load->budget--;
	}
	return error;
}

/* One phase. */
static int source_loop(void *arg)
{
	struct source *source = arg;
	struct load *load = &source->end->load;
	uint64_t before = source->sent;
	int error = 0;

	while (!error && load_open(load, clock_now_ns()))
		error = send_batch(source);
	if (!error)
		error = await_all(source);
	load->last_ns = clock_now_ns();
	load->requests = source->sent - before;
	return error;
}

int echo_source_run(struct echo_end *end, const struct echo_sender *sender)
{
	struct source source = {.end = end, .sender = sender};

	return echo_client_run(end, source_loop, &source);
}

void echo_sink_bytes(struct echo_end *end, uint64_t *total, const uint8_t *bytes, size_t length)
{
	size_t size = end->spec->size;
	uint64_t begun = (*total + size - 1) / size; /* messages of which the first byte has come */
	uint64_t at = begun * size - *total;         /* of the next one's */

	for (; at + ECHO_ONE_WAY_MIN <= length; at += size)
		echo_sink_check(end, begun++, bytes + at);
	*total += length;
	echo_sink_count(end, *total / size);
}

/* ---- streams ---- */

struct stream_source {
	struct echo_end *end;
	int fd;
	uint8_t *message;
};

static int stream_send(void *arg, uint64_t number)
{
	struct stream_source *source = arg;
	size_t left = source->end->spec->size;
	const uint8_t *at = source->message;

	memcpy(source->message, &number, sizeof(number));
	while (left > 0) {
		ssize_t sent = write(source->fd, at, left);

		if (sent < 0 && errno != EINTR)
			return echo_fail(source->end, -errno, "write: %s", strerror(errno));
		if (sent > 0) {
			at += sent;
			left -= (size_t)sent;
		}
	}
	return 0;
}

/* Closes fd. */
static int send_stream(struct echo_end *end, int fd)
{
	struct stream_source source = {.end = end, .fd = fd};
	const struct echo_sender sender = {.send = stream_send, .arg = &source};
	int error;

	source.message = tool_alloc(1, end->spec->size);
	error = echo_source_run(end, &sender);
	free(source.message);
	close(fd);
	return error;
}

/* Until its end.  Closes fd. */
static int receive_stream(struct echo_end *end, int fd)
{
	uint8_t *buffer = tool_alloc(1, ECHO_BUFFER_BYTES);
	uint64_t total = 0;
	int error = 0;
	ssize_t got;

	do {
		got = read(fd, buffer, ECHO_BUFFER_BYTES);
		if (got > 0)
			echo_sink_bytes(end, &total, buffer, (size_t)got);
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (got < 0)
		error = echo_fail(end, -errno, "read: %s", strerror(errno));
	free(buffer);
	close(fd);
	return error;
}

int echo_stream_source(struct echo_end *end)
{
	int fd = echo_socket_connect(end, 0);

	return fd < 0 ? fd : send_stream(end, fd);
}

int echo_stream_sink(struct echo_end *end)
{
	int listener = echo_socket_serve(end, 0);
	int fd;

	if (listener < 0)
		return listener;
	echo_server_ready(end, echo_socket_port(listener));
	do
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (fd < 0 && errno == EINTR);
	int error = fd < 0 ? echo_fail(end, -errno, "accept: %s", strerror(errno))
			   : receive_stream(end, fd);
	close(listener);
	return error;
}

/* ---- a pipe ---- */

int echo_pipe_source(struct echo_end *end)
{
	close(end->pipe[0]);
	(void)fcntl(end->pipe[1], F_SETPIPE_SZ, PIPE_BYTES); /* the default is 64 KiB */
	return send_stream(end, end->pipe[1]);
}

int echo_pipe_sink(struct echo_end *end)
{
	close(end->pipe[1]);
	echo_server_ready(end, 0);
	return receive_stream(end, end->pipe[0]);
}
