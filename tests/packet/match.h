/* SPDX-License-Identifier: MIT
 * tests/packet/match.h - script packets against live ones: which connection they belong to, and how
 * its numbers in the script relate to those on the wire.
 *
 * The remote end's sequence numbers and timestamps are those of the script.  The stack chooses its
 * own initial sequence number and timestamps; a flow holds what is to be added to the script's.
 */
#pragma once

#include "packet/frame.h"

#define FLOWS_MAX 64

struct flow {
	enum packet_kind kind; /* TCP or UDP */
	uint16_t local_port;   /* 0: not known yet */
	uint16_t remote_port;
	bool has_base; /* local sequence numbers: live - script */
	bool new_isn;  /* the next SYN of ours sets it anew */
	uint32_t base;
	bool has_remote;
	uint32_t remote_isn;
	bool has_ts;
	uint32_t ts_base;   /* of our timestamps: live - script */
	uint32_t last_ts;   /* live value that was sent last */
	uint32_t local_isn; /* script's */
};

struct flows {
	struct ip_address local;
	struct ip_address remote;
	uint32_t ts_tolerance_ms;
	uint16_t next_port;  /* of the remote end, for connections that it opens */
	uint16_t local_port; /* what it connects to */
	uint32_t count;
	struct flow *current;
	struct flow flows[FLOWS_MAX];
};

void flows_init(struct flows *flows, const struct ip_address *local,
		const struct ip_address *remote);
/* The stack opens a connection. NULL: too many. */
struct flow *flows_connect(struct flows *flows, enum packet_kind kind, uint16_t remote_port);

/* Builds the packet that a script sends; updates its flow.  Its length, 0: why says. */
uint32_t match_build(struct flows *flows, const struct packet_spec *spec, uint8_t *out, char *why,
		     size_t why_bytes);

/* Is live what the script expects?  False: why says what differs. */
bool match_packet(struct flows *flows, const struct packet_spec *spec,
		  const struct live_packet *live, char *why, size_t why_bytes);

/* A live packet as a script would have it. */
void match_show(const struct flows *flows, const struct live_packet *live, char *out, size_t bytes);
/* A packet of a script. */
void match_show_spec(const struct packet_spec *spec, char *out, size_t bytes);
