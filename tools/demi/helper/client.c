/* SPDX-License-Identifier: MIT
 * tools/demi/helper/client.c - see client.h.
 */
#include "helper/client.h"

#include "helper/kernel.h"
#include "helper/memory.h"
#include "netdev/afxdp/pass.h"
#include "tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- replies ---- */

/* fd: -1 if none goes with it.  Who does not take it is let go. */
static void send_reply(struct client *client, struct remote_reply *reply, int fd)
{
	reply->version = REMOTE_VERSION;
	reply->sequence = client->sequence;
	if (pass_send(client->fd, reply, sizeof(*reply), fd))
		client->broken = true;
}

/* May a line be written? */
static bool within(struct client_lines *lines)
{
	uint64_t now_ms = clock_now_ns() / NS_PER_MS;

	if (now_ms - lines->since_ms >= CLIENT_LINES_MS) {
		if (lines->left_out > 0)
			fprintf(stderr, "demi-xdp-helper: %u lines were left out\n",
				lines->left_out);
		*lines = (struct client_lines){.since_ms = now_ms};
	}
	bool good = lines->count < CLIENT_LINES_MAX;
	lines->count += good;
	lines->left_out += !good;
	return good;
}

static void tell(void *arg, int level, const char *text)
{
	struct client *client = arg;
	struct remote_reply reply;

	if (within(client->budget))
		fprintf(stderr, "demi-xdp-helper: process %d, user %u: %s\n", (int)client->peer.pid,
			client->peer.uid, text);
	if (!client->answering || client->broken || ++client->lines >= REMOTE_LINES_MAX)
		return;
	memset(&reply, 0, sizeof(reply));
	reply.level = (uint8_t)level;
	(void)snprintf(reply.text, sizeof(reply.text), "%s", text);
	send_reply(client, &reply, -1);
}

struct log client_log(struct client *client)
{
	return (struct log){.fn = tell, .arg = client};
}

static void answer(struct client *client, int err)
{
	struct remote_reply reply;

	memset(&reply, 0, sizeof(reply));
	reply.error = err;
	send_reply(client, &reply, -1);
}

/* fd: the socket, if it is to go with the answer. */
static void answer_given(struct client *client, int fd)
{
	const struct grant *grant = client->grant;
	struct remote_reply reply;

	memset(&reply, 0, sizeof(reply));
	reply.queue = grant->queue;
	reply.native = grant->native;
	reply.dispatched = grant->dispatched;
	reply.zero_copy = grant->zero_copy;
	reply.segments = grant->segments;
	reply.busy_poll = grant->busy_poll;
	send_reply(client, &reply, fd);
}

/* ---- what others have ---- */

/* The instances of a process share what it has. */
static bool is_other(const struct client *a, const struct client *b)
{
	return a->peer.pid != b->peer.pid || a->peer.uid != b->peer.uid;
}

static bool has_port(const struct client *client, const struct grant_ports *ports)
{
	for (uint32_t i = 0; i < client->num_ports; i++) {
		if (policy_ports_meet(&client->ports[i], ports))
			return true;
	}
	return false;
}

/* Where address stands in the client's list; num_addresses: nowhere. */
static uint32_t place_of(const struct client *client, const struct ip_address *address)
{
	uint32_t i = 0;

	while (i < client->num_addresses && !ip_equal(&client->addresses[i], address))
		i++;
	return i;
}

/* Who else has a port of the request on the interface; NULL. */
static const struct client *port_owner(const struct clients *clients, const struct client *client,
				       const struct grant_request *request)
{
	for (uint32_t i = 0; i < clients->count; i++) {
		const struct client *other = clients->all[i];
		if (!other->grant || !is_other(other, client) ||
		    strcmp(other->interface, request->interface) != 0)
			continue;
		for (uint32_t j = 0; j < request->num_ports; j++) {
			if (has_port(other, &request->ports[j]))
				return other;
		}
	}
	return NULL;
}

/* Is the address shared with the kernel, ports of it steered alone? */
static bool is_shared(const struct client *client, const struct ip_address *address)
{
	return client->num_ports > 0 && !ip_is_multicast(address);
}

/* Who else has the address, and not only ports of it as the client does; NULL. */
static const struct client *address_owner(const struct clients *clients,
					  const struct client *client,
					  const struct ip_address *address)
{
	for (uint32_t i = 0; i < clients->count; i++) {
		const struct client *other = clients->all[i];
		if (other->grant && is_other(other, client) &&
		    !(is_shared(other, address) && is_shared(client, address)) &&
		    strcmp(other->interface, client->interface) == 0 &&
		    place_of(other, address) < other->num_addresses)
			return other;
	}
	return NULL;
}

static uint32_t count_grants(const struct clients *clients)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < clients->count; i++)
		count += clients->all[i]->grant != NULL;
	return count;
}

/* ---- opening ---- */

/* 0 or -errno, told. */
static int may_open(struct client *client, const struct clients *clients,
		    const struct grant_request *request)
{
	struct log log = client_log(client);

	if (client->grant) {
		log_write(&log, LOG_LEVEL_ERROR, "this connection has its socket");
		return -EISCONN;
	}
	int err = policy_open(clients->options->policy, &log, request);
	if (err)
		return err;
	if (count_grants(clients) >= clients->options->clients_max) {
		log_write(&log, LOG_LEVEL_ERROR, "%u sockets are given (--max-clients)",
			  clients->options->clients_max);
		return -EUSERS;
	}
	const struct client *owner = port_owner(clients, client, request);
	if (owner) {
		log_write(&log, LOG_LEVEL_ERROR, "a port that process %d of user %u has",
			  (int)owner->peer.pid, owner->peer.uid);
		return -EADDRINUSE;
	}
	return 0;
}

static void remember(struct client *client, const struct grant_request *request)
{
	memcpy(client->interface, request->interface, sizeof(client->interface));
	client->queue = request->queue;
	client->num_ports = request->num_ports;
	memcpy(client->ports, request->ports, sizeof(client->ports));
}

/* 0 or -errno, told.  The pages are the kernel's when this returns, and the mapping is gone. */
static int make_socket(struct client *client, const struct grant_request *request, int memory_fd)
{
	struct log log = client_log(client);
	void *memory;
	int err = memory_map(&log, memory_fd, request->memory_bytes, &memory);

	if (err)
		return err;
	err = grant_open(&log, request, memory, &client->grant);
	memory_unmap(memory, request->memory_bytes);
	return err;
}

/* 0 or -errno, told.  What is no XDP socket, or is bound elsewhere, gets nothing: the kernel gives
 * a socket only what arrived on its queue. */
static int adopt_socket(struct client *client, const struct grant_request *request, int fd)
{
	struct log log = client_log(client);
	int domain = 0;
	socklen_t length = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) || domain != AF_XDP) {
		log_write(&log, LOG_LEVEL_ERROR, "adopt: its descriptor is not an XDP socket");
		return -EBADF;
	}
	return grant_adopt(&log, request, fd, &client->grant);
}

/* 0 or -errno, told: then there is no grant. */
static int give(struct client *client, const struct clients *clients,
		const struct grant_request *request, int fd, bool adopt)
{
	int err = may_open(client, clients, request);

	if (!err)
		err = adopt ? adopt_socket(client, request, fd) : make_socket(client, request, fd);
	if (err)
		return err;
	err = client->grant->ops->bind(client->grant);
	if (err) {
		if (!adopt)
			close(client->grant->fd);
		client->grant->ops->close(client->grant);
		client->grant = NULL;
	}
	return err;
}

/* fd: the memory, or the socket that is to be adopted. */
static void serve_open(struct client *client, const struct clients *clients,
		       struct remote_request *message, int fd)
{
	struct log log = client_log(client);
	struct grant_request *request = &message->grant;
	bool adopt = message->kind == REMOTE_ADOPT;

	request->alone |= clients->options->alone;
	request->process = (uint32_t)client->peer.pid;
	int err = give(client, clients, request, fd, adopt);
	if (err) {
		answer(client, err);
		return;
	}
	remember(client, request);
	client->queue = client->grant->queue;
	answer_given(client, adopt ? -1 : client->grant->fd);
	/* The socket is the client's alone: it goes with its process. */
	if (!adopt)
		close(client->grant->fd);
	client->grant->fd = -1;
	client->answering = false;
	log_write(&log, LOG_LEVEL_INFO, "interface %s, queue %u: %s, %s", client->interface,
		  client->queue, adopt ? "taken on" : "given",
		  client->grant->native ? "native" : "generic");
}

/* ---- steering ---- */

/* 0 or -errno, told. */
static int keeps_kernel(const struct client *client, const struct clients *clients,
			const struct log *log, const struct ip_address *address)
{
	static const char *const uses[] = {
		[KERNEL_ADDRESS] = "the kernel's own",
		[KERNEL_BROADCAST] = "a broadcast that the kernel listens to (--take-groups)",
		[KERNEL_GROUP] = "a group that the kernel is in (--take-groups)",
		[KERNEL_UNKNOWN] = "the kernel does not say whether it is its own",
	};
	enum kernel_use use = kernel_use_of(client->interface, address);
	bool group = use == KERNEL_BROADCAST || use == KERNEL_GROUP;
	char text[POLICY_ADDRESS_TEXT];

	if (use == KERNEL_NOT || (group && clients->options->take_groups))
		return 0;
	log_write(log, LOG_LEVEL_ERROR, "interface %s: address %s: %s", client->interface,
		  policy_address_text(address, text), uses[use]);
	return -EACCES;
}

/* 0 or -errno, told. */
static int may_steer(const struct client *client, const struct clients *clients,
		     const struct log *log, const struct ip_address *address)
{
	char text[POLICY_ADDRESS_TEXT];
	/* of ports the policy is --ports, and the address stays the kernel's */
	bool shared = grant_is_shared(client->num_ports, address);
	int err = shared ? 0 : policy_address(clients->options->policy, log, address);

	if (!err && !shared)
		err = keeps_kernel(client, clients, log, address);
	if (err)
		return err;
	const struct client *owner = address_owner(clients, client, address);
	if (owner) {
		log_write(log, LOG_LEVEL_ERROR, "address %s: process %d of user %u has it",
			  policy_address_text(address, text), (int)owner->peer.pid,
			  owner->peer.uid);
		return -EADDRINUSE;
	}
	if (client->num_addresses == REMOTE_ADDRESSES_MAX) {
		log_write(log, LOG_LEVEL_ERROR, "address %s: more than %d",
			  policy_address_text(address, text), REMOTE_ADDRESSES_MAX);
		return -ENOSPC;
	}
	return 0;
}

/* 0 or -errno, told. */
static int steer(struct client *client, const struct clients *clients,
		 const struct ip_address *address, bool wanted)
{
	struct log log = client_log(client);
	uint32_t i = place_of(client, address);

	if (!client->grant) {
		log_write(&log, LOG_LEVEL_ERROR, "this connection has no socket yet");
		return -ENOTCONN;
	}
	if (wanted == (i < client->num_addresses))
		return 0;
	int err = wanted ? may_steer(client, clients, &log, address) : 0;
	if (!err)
		err = client->grant->ops->steer(client->grant, address, wanted);
	if (err)
		return err;
	client->addresses[i] = wanted ? *address : client->addresses[--client->num_addresses];
	client->num_addresses += wanted;
	return 0;
}

/* A filter is of what is steered to this client's socket: nobody else's.  0 or -errno, told. */
static int filter(struct client *client, const struct remote_request *request)
{
	struct log log = client_log(client);

	if (!client->grant) {
		log_write(&log, LOG_LEVEL_ERROR, "this connection has no socket yet");
		return -ENOTCONN;
	}
	if (request->count > 0 && cbpf_check(request->program, request->count)) {
		log_write(&log, LOG_LEVEL_ERROR, "port %u: its filter is no program",
			  request->port);
		return -EINVAL;
	}
	return client->grant->ops->filter(client->grant, request->port, request->program,
					  request->count);
}

/* ---- requests ---- */

struct received {
	ssize_t length; /* 0: the end; less: nothing */
	bool truncated;
	int fd; /* -1: none */

	union {
		struct remote_request request;
		uint8_t bytes[sizeof(struct remote_request)];
	} message;
};

static void receive(const struct client *client, struct received *out)
{
	out->length = pass_receive(client->fd, out->message.bytes, sizeof(out->message), &out->fd,
				   &out->truncated);
	if (out->length < 0)
		out->length = out->length == -EAGAIN || out->length == -EINTR ? -1 : 0;
}

static void serve_request(struct client *client, const struct clients *clients,
			  const struct received *received)
{
	struct log log = client_log(client);
	struct remote_request request;
	int err = policy_parse(&log, received->message.bytes, (size_t)received->length,
			       received->truncated, &request);

	if (err) {
		answer(client, err);
		client->broken = true;
		return;
	}
	client->sequence = request.sequence;
	if (!client->admitted) {
		log_write(&log, LOG_LEVEL_ERROR,
			  "this user may not connect (--user, --group, --mode)");
		answer(client, -EACCES);
		client->broken = true;
	} else if (request.kind == REMOTE_STEER) {
		answer(client, steer(client, clients, &request.address, request.wanted));
	} else if (request.kind == REMOTE_FILTER) {
		answer(client, filter(client, &request));
	} else {
		serve_open(client, clients, &request, received->fd);
	}
}

void client_serve(struct client *client, const struct clients *clients)
{
	struct received received;

	receive(client, &received);
	if (received.length < 0)
		return;
	if (received.length == 0) {
		client->broken = true;
		return;
	}
	client->answering = true;
	client->lines = 0;
	serve_request(client, clients, &received);
	client->answering = false;
	if (received.fd >= 0)
		close(received.fd);
}

void client_recheck(struct client *client)
{
	struct log log = client_log(client);
	char text[POLICY_ADDRESS_TEXT];

	for (uint32_t i = 0; i < client->num_addresses; i++) {
		const struct ip_address *address = &client->addresses[i];
		if (grant_is_shared(client->num_ports, address) ||
		    kernel_use_of(client->interface, address) != KERNEL_ADDRESS)
			continue;
		log_write(&log, LOG_LEVEL_ERROR, "interface %s: address %s: the kernel has it now",
			  client->interface, policy_address_text(address, text));
		client->broken = true;
		return;
	}
}

void client_free(struct client *client)
{
	struct log log = client_log(client);

	if (client->grant) {
		client->grant->ops->close(client->grant);
		log_write(&log, LOG_LEVEL_INFO, "interface %s, queue %u: taken back",
			  client->interface, client->queue);
	}
	close(client->fd);
	free(client);
}
