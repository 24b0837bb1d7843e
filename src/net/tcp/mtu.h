/* SPDX-License-Identifier: MIT
 * net/tcp/mtu.h - the path MTU of a connection: see mtu.c.
 */
#pragma once

#include "net/tcp/tcp.h"

/* What only a path needs that takes less than the link, or is searched: mtu.c. */
struct tcp_mtu {
	uint64_t next_ns;     /* when the next probe may leave; UINT64_MAX: none */
	uint32_t probe_start; /* of the probe that is out */
	uint32_t probe_end;
	uint32_t told_seq;    /* of the packet that a router said was too big, */
	uint32_t guessed_seq; /* SND.UNA when path was guessed */
	uint32_t struck_at;   /* bytes acknowledged then */
	uint16_t before;      /* path until then */
	uint16_t worked;      /* what got through after the strike before; 0: there was none */
	uint16_t told;        /* and what it said */
	uint16_t path;        /* packets of this size get through, or nothing is known to be */
	uint16_t high;        /* larger ones do not */
	uint16_t probe;       /* size of the probe that is out; 0: none */
	uint8_t failed;       /* probes of one size */
	uint8_t strikes;      /* guesses in a row, with nothing of the old size between */
	bool waits : 1;       /* told is to be believed at the next timeout */
	bool exact : 1;       /* high is what a router said */
	bool silent : 1;      /* path is a guess that no probe has disproved or confirmed */
	bool guessed : 1;     /* path is, and nothing was acknowledged since */
};

/* The SYNs are exchanged: sets mss by what is known of the path. */
void tcp_mtu_begin(struct tcp_conn *conn);
void tcp_mtu_free(struct tcp_conn *conn);
/* The largest packet that is sent. */
uint32_t tcp_path_mtu(const struct tcp_conn *conn);
/* A router says that the packet with seq, which is in flight, was too big for a link of mtu. */
void tcp_mtu_told(struct tcp_conn *conn, uint32_t seq, uint32_t mtu);
/* The retransmission timer expired: before anything is sent again. */
void tcp_mtu_timeout(struct tcp_conn *conn);
/* Is what is marked lost the probe, and nothing else?  Then it says nothing about congestion. */
bool tcp_mtu_probe_lost(struct tcp_conn *conn);
/* conn->searching: a block goes out again. */
void tcp_mtu_resent(struct tcp_conn *conn, struct tcp_block block);
/* conn->searching: looks at what was acknowledged.  Returns the bytes of a probe that may leave
 * now, 0: none. */
uint32_t tcp_mtu_step(struct tcp_conn *conn);
/* Bytes that must follow the probe, so that its loss is seen. */
uint32_t tcp_mtu_behind(const struct tcp_conn *conn);
/* It left, up to snd_nxt. */
void tcp_mtu_probed(struct tcp_conn *conn, uint32_t length);
void tcp_mtu_check(const struct tcp_conn *conn);
