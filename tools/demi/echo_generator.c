/* SPDX-License-Identifier: MIT
 * tools/demi/echo_generator.c - the clients over plain sockets and epoll, for any number of
 * connections.
 *
 * posix-epoll's own client sleeps in epoll_wait. The load generator, which drives every server when
 * there are many connections or a rate, never sleeps: that way only the servers differ.
 */
#include "echo_socket.h"
#include "tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH         64
#define STREAM_BYTES  65536
#define SPIN_TURNS    1024
#define OPEN_GRACE_NS NS_PER_S

struct generator_flow {
	struct flow flow;
	int fd;
	bool writable;
};

struct generator {
	struct echo_end *end;
	struct generator_flow *flows;
	unsigned count, next;
	int epoll;
	bool spins;
	uint8_t *buffer;
};

/* Sends the datagram that was just issued. A full socket buffer is waited out: that is our own
 * core's work. */
static int send_datagram(struct generator *generator, struct generator_flow *flow)
{
	struct load *load = &generator->end->load;

	flow_fill(load, &flow->flow, generator->buffer);
	while (send(flow->fd, generator->buffer, load->size, MSG_NOSIGNAL) < 0) {
		if (!echo_is_later(errno))
			return echo_fail(generator->end, -errno, "send: %s", strerror(errno));
	}
	return 0;
}

/* Sends a stream's bytes as far as the socket takes them. */
static int send_stream(struct generator *generator, struct generator_flow *flow)
{
	struct load *load = &generator->end->load;

	while (flow->flow.tx_bytes > 0 && flow->writable) {
		size_t length;
		const uint8_t *bytes = flow_next(load, &flow->flow, &length);
		ssize_t sent = send(flow->fd, bytes, length, MSG_NOSIGNAL);

		if (sent >= 0)
			flow_sent(load, &flow->flow, (size_t)sent);
		else if (errno == EAGAIN)
			flow->writable = false;
		else if (errno != EINTR)
			return echo_fail(generator->end, -errno, "send: %s", strerror(errno));
	}
	return 0;
}

/* Closed loop: fills the flow up to its depth. */
static int refill(struct generator *generator, struct generator_flow *flow, uint64_t now_ns)
{
	struct load *load = &generator->end->load;
	int error = 0;

	if (load->rate_per_s > 0)
		return 0;
	while (!error && flow_issue(load, &flow->flow, now_ns)) {
		if (load->datagram)
			error = send_datagram(generator, flow);
	}
	return error;
}

/* Open loop: sends what is due by now, over the flows in turn. */
static int send_due(struct generator *generator, uint64_t now_ns)
{
	struct load *load = &generator->end->load;
	int error = 0;

	while (!error && load_is_due(load, now_ns)) {
		struct generator_flow *flow = &generator->flows[generator->next];

		if (!flow_issue_due(load, &flow->flow, load->due_ns))
			return 0;
		generator->next = (generator->next + 1) % generator->count;
		error = load->datagram ? send_datagram(generator, flow)
				       : send_stream(generator, flow);
		load_advance(load);
	}
	return error;
}

static int receive(struct generator *generator, struct generator_flow *flow, uint64_t *now_ns)
{
	struct load *load = &generator->end->load;
	size_t room = load->datagram ? ECHO_BUFFER_BYTES : STREAM_BYTES;

	for (;;) {
		ssize_t got = recv(flow->fd, generator->buffer, room, 0);

		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return echo_fail(generator->end, -errno, "recv: %s", strerror(errno));
		if (got == 0 && !load->datagram)
			return echo_fail(generator->end, -ECONNRESET,
					 "the server closed a connection");
		*now_ns = clock_now_ns();
		if (load->datagram)
			flow_datagram(load, &flow->flow, generator->buffer, (size_t)got, *now_ns);
		else
			flow_received(load, &flow->flow, generator->buffer, (size_t)got, *now_ns);
		/* A stream's short receive has drained it; a lone datagram is answered before we
		 * look for another. */
		if (load->datagram ? flow->flow.outstanding == 0 : (size_t)got < room)
			return 0;
	}
}

static int take_event(struct generator *generator, const struct epoll_event *event,
		      uint64_t *now_ns)
{
	struct generator_flow *flow = event->data.ptr;
	int error = 0;

	if (event->events & EPOLLOUT)
		flow->writable = true;
	if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		error = receive(generator, flow, now_ns);
	if (!error)
		error = refill(generator, flow, *now_ns);
	if (!error && !generator->end->load.datagram)
		error = send_stream(generator, flow);
	return error;
}

/* Gives up lost datagrams and fills up what that leaves. */
static int expire(struct generator *generator, uint64_t now_ns)
{
	int error = 0;

	for (unsigned i = 0; i < generator->count && !error; i++) {
		flow_expire(&generator->end->load, &generator->flows[i].flow, now_ns);
		error = refill(generator, &generator->flows[i], now_ns);
	}
	return error;
}

static int take_events(struct generator *generator, int timeout_ms, uint64_t *now_ns)
{
	struct epoll_event events[BATCH];
	int count = epoll_wait(generator->epoll, events, BATCH, timeout_ms);
	int error = 0;

	if (count < 0 && errno != EINTR)
		return echo_fail(generator->end, -errno, "epoll_wait: %s", strerror(errno));
	for (int i = 0; i < count && !error; i++)
		error = take_event(generator, &events[i], now_ns);
	return error ? error : count < 0 ? 0 : count;
}

static int start_flows(struct generator *generator, uint64_t now_ns)
{
	int error = 0;

	for (unsigned i = 0; i < generator->count && !error; i++) {
		error = refill(generator, &generator->flows[i], now_ns);
		if (!error && !generator->end->load.datagram)
			error = send_stream(generator, &generator->flows[i]);
	}
	return error;
}

static int closed_loop(void *arg)
{
	struct generator *generator = arg;
	struct load *load = &generator->end->load;
	int timeout_ms = generator->spins ? 0
			 : load->datagram ? (int)(LOAD_LOST_NS / NS_PER_MS)
					  : -1;
	uint64_t now_ns = clock_now_ns();
	int count = start_flows(generator, now_ns);

	for (unsigned idle = 1; count >= 0 && !load_done(load, now_ns); idle++) {
		count = take_events(generator, timeout_ms, &now_ns);
		if (count != 0 || (generator->spins && idle % SPIN_TURNS))
			continue;
		now_ns = clock_now_ns();
		if (load->datagram && expire(generator, now_ns) < 0)
			return -EIO;
	}
	return count < 0 ? count : 0;
}

static int open_loop(void *arg)
{
	struct generator *generator = arg;
	struct load *load = &generator->end->load;
	uint64_t now_ns = clock_now_ns();
	int count = 0;

	for (unsigned turn = 1; count >= 0 && !load_done_open(load, now_ns, OPEN_GRACE_NS);
	     turn++) {
		int error = send_due(generator, now_ns);

		if (error)
			return error;
		count = take_events(generator, 0, &now_ns);
		if (load->datagram && turn % SPIN_TURNS == 0)
			expire(generator, now_ns);
		now_ns = clock_now_ns();
	}
	return count < 0 ? count : 0;
}

static int connect_flow(struct generator *generator, struct generator_flow *flow)
{
	struct echo_end *end = generator->end;
	uint32_t events = end->load.datagram ? EPOLLIN | EPOLLET : EPOLLIN | EPOLLOUT | EPOLLET;
	struct epoll_event event = {.events = events, .data.ptr = flow};

	flow->fd = echo_socket_connect(end, SOCK_NONBLOCK);
	if (flow->fd < 0)
		return flow->fd;
	flow_init(&flow->flow, &end->load);
	flow->writable = true;
	generator->count++;
	if (epoll_ctl(generator->epoll, EPOLL_CTL_ADD, flow->fd, &event) == 0)
		return 0;
	return echo_fail(end, -errno, "epoll_ctl: %s", strerror(errno));
}

static void close_flows(struct generator *generator)
{
	if (generator->count)
		echo_socket_farewell(generator->end, generator->flows[0].fd);
	for (unsigned i = 0; i < generator->count; i++) {
		close(generator->flows[i].fd);
		flow_fini(&generator->flows[i].flow);
	}
}

static int generator_run(struct echo_end *end, bool spins)
{
	struct generator generator = {.end = end, .spins = spins};
	int error = 0;

	generator.epoll = epoll_create1(EPOLL_CLOEXEC);
	generator.flows = tool_alloc(end->spec->connections, sizeof(*generator.flows));
	generator.buffer = tool_alloc(1, ECHO_BUFFER_BYTES);
	while (!error && generator.count < end->spec->connections)
		error = connect_flow(&generator, &generator.flows[generator.count]);
	if (!error)
		error = echo_client_run(end, end->spec->rate_per_s > 0 ? open_loop : closed_loop,
					&generator);
	close_flows(&generator);
	free(generator.buffer);
	free(generator.flows);
	close(generator.epoll);
	return error;
}

int echo_epoll_client(struct echo_end *end)
{
	return generator_run(end, false);
}

int echo_generator_client(struct echo_end *end)
{
	return generator_run(end, true);
}
