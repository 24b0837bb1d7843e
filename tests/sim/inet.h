/* tests/sim/inet.h - hosts of a simulated world that run the inet stack: addresses, configurations
 * by chance, what must hold after every event and at the end, and streams of known bytes. */
#pragma once

#include "net/net.h"
#include "sim/world.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Host i is 10.0.0.(i + 1)/24 and fd00::(i + 1)/64. */
void inet_config(struct config *config, uint32_t index);
/* Draws everything that a stack must bear: buffers, options, timers, thresholds.  Bounds on
 * retransmissions are wide: a connection lives through any loss that is not for ever. */
void inet_draw_config(struct world *world, struct config *config);
/* Draws offloads, segments, ring and burst sizes of a device. */
void inet_draw_device(struct world *world, uint32_t mtu, struct sim_options *options);

struct net *inet_net(const struct host *host);

/* Puts a capture, which goes nowhere, around the host's device, or takes it off again. */
void inet_toggle_capture(struct host *host);

struct inet_name {
	union {
		struct sockaddr any;
		struct sockaddr_storage room;
	};

	socklen_t length;
};

/* Address and port of a host. */
struct inet_name inet_name(uint32_t index, int domain, uint16_t port);
/* Of any local address. */
struct inet_name inet_any(int domain, uint16_t port);
uint16_t inet_port(const struct inet_name *name);
/* demi_getsockname, demi_getpeername of the entered instance. */
struct inet_name inet_local(struct world *world, int qd);
struct inet_name inet_peer(struct world *world, int qd);

/* For world->check: invariants of every host. */
void inet_check(struct world *world, void *unused);
/* The host has no connection, operation, coroutine and heap object any more. */
bool inet_is_empty(const struct host *host);
void inet_expect_empty(struct host *host);

/* In a coroutine: waits some virtual time. */
void inet_sleep(uint64_t ns);

/* ---- bytes at an offset of a numbered stream ---- */

void inet_fill(uint64_t stream, uint64_t offset, uint8_t *bytes, uint64_t length);
bool inet_matches(uint64_t stream, uint64_t offset, const uint8_t *bytes, uint64_t length);
