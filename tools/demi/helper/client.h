/* SPDX-License-Identifier: MIT
 * tools/demi/helper/client.h - one connection: its messages, and what it was given.
 *
 * Invariant: addresses and ports are those that its grant steers, and no other process has one of
 * them.
 */
#pragma once

#include "helper/policy.h"
#include "helper/server.h"
#include "helper/system.h"

#define CLIENT_WAITING_MS 5000 /* until it has asked for its socket */
#define CLIENT_LINES_MAX  100  /* in CLIENT_LINES_MS */
#define CLIENT_LINES_MS   10000

/* How many lines the helper's own log gets: clients may make it tell something at any rate. */
struct client_lines {
	uint64_t since_ms; /* of the window */
	uint32_t count;
	uint32_t left_out;
};

struct client {
	int fd;
	struct client_lines *budget; /* of all clients */
	struct peer peer;
	bool admitted;
	bool broken; /* to be let go of */
	uint64_t since_ms;
	struct grant *grant; /* NULL: it waits */
	uint32_t sequence;   /* of the request that is answered */
	bool answering;
	uint32_t lines; /* of this reply */
	char interface[IFNAMSIZ];
	uint32_t queue;
	uint32_t num_ports;
	struct grant_ports ports[GRANT_PORTS_MAX];
	uint32_t num_addresses;
	struct ip_address addresses[REMOTE_ADDRESSES_MAX];
};

struct clients {
	const struct server_options *options;
	uint32_t count;
	uint32_t room;
	struct client **all; /* the first count, by age */
	struct client_lines lines;
};

/* What a client's lines go by: to the helper's own log, and to the client while it is answered. */
struct log client_log(struct client *client);

/* Takes and answers one message, which is there. */
void client_serve(struct client *client, const struct clients *clients);
/* The kernel's addresses changed: lets go of a client that has one of them.  It will ask again, and
 * be told. */
void client_recheck(struct client *client);
/* Ends its grant and its connection, and frees it. */
void client_free(struct client *client);
