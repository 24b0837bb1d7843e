/* SPDX-License-Identifier: MIT
 * net/tcp/cc.h - congestion control: a window that grows and shrinks, behind a small table of
 * operations, so that algorithms are chosen per connection.
 *
 * Pure: no connection, no clock but arguments.  Loss recovery (which segments are lost, when a
 * recovery ends, proportional rate reduction in it) is the caller's; here is only what happens to
 * the window.  All in bytes.
 *
 * Invariant: cwnd >= mss.
 */
#pragma once

#include <stdint.h>

struct tcp_cc;

/* What an ACK that moved SND.UNA, or told of congestion, says. */
struct tcp_cc_ack {
	uint32_t bytes;  /* newly acknowledged, by SACK or not */
	uint32_t flight; /* bytes outstanding before it */
	uint32_t una;    /* SND.UNA after it */
	uint32_t nxt;    /* SND.NXT: rounds end where it is at their begin (RFC 9406 4.2) */
	uint64_t now_ns;
	uint64_t rtt_ns;  /* its own sample; 0: none */
	uint64_t srtt_ns; /* 0: no sample yet */
};

struct tcp_cc_ops {
	const char *name; /* as in TCP_CONGESTION */
	void (*init)(struct tcp_cc *cc);
	/* New data was acknowledged outside of recovery (behind a timeout also in it).  The window
	 * grows only if it was the limit (RFC 9438 5.8, RFC 7661). */
	void (*acked)(struct tcp_cc *cc, const struct tcp_cc_ack *ack);
	/* Loss or ECN congestion was met, once a round trip at most: sets ssthresh (RFC 5681
	 * equation 4, RFC 9438 4.6, RFC 8257 3.4) from the bytes in flight; the caller then brings
	 * cwnd down to it.  ecn: there was no loss. */
	void (*reduce)(struct tcp_cc *cc, uint32_t flight, int ecn, uint64_t now_ns);
	/* The retransmission timer expired: ssthresh as in reduce (not for the second time of the
	 * same segment: again), window of one segment. */
	void (*timeout)(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns);
	/* The last reduce or timeout was for nothing (RFC 9438 4.9): whatever the algorithm
	 * remembers beside cwnd and ssthresh, which the caller has set back already.  NULL:
	 * nothing. */
	void (*undo)(struct tcp_cc *cc);
	/* Every ACK of a connection with ECN: bytes acknowledged by it, marked: ECE was set (RFC
	 * 8257 3.3).  NULL: ECN is RFC 3168's, the caller calls reduce once a window. */
	void (*ecn)(struct tcp_cc *cc, const struct tcp_cc_ack *ack, int marked);
};

struct tcp_cc {
	const struct tcp_cc_ops *ops;
	uint32_t cwnd;
	uint32_t ssthresh;
	uint32_t mss;
	uint32_t acked_bytes; /* in congestion avoidance: towards the next increase */
	uint32_t initial_window;
	uint64_t state[6]; /* of the algorithm */
};

/* By name, with or without its zero byte; NULL: there is none such. */
const struct tcp_cc_ops *tcp_cc_find(const char *name, uint32_t length);

/* initial_segments: the initial window is that many segments, within RFC 6928's bound of bytes if
 * it is 10, RFC 5681's if it is at most 4; ssthresh is unlimited. */
void tcp_cc_init(struct tcp_cc *cc, const struct tcp_cc_ops *ops, uint32_t mss,
		 uint32_t initial_segments);
/* Another algorithm from now on: windows stay. */
void tcp_cc_change(struct tcp_cc *cc, const struct tcp_cc_ops *ops);
/* RFC 5681 4.1: after an idle time of more than one RTO the window is the restart window. */
void tcp_cc_restart(struct tcp_cc *cc);
/* The path's segment size changed. */
void tcp_cc_set_mss(struct tcp_cc *cc, uint32_t mss);
/* Bytes a second to pace at: a bit more than the window in a round trip; 0: no round-trip time is
 * known. */
uint64_t tcp_cc_pacing_rate(const struct tcp_cc *cc, uint64_t srtt_ns);
void tcp_cc_check(const struct tcp_cc *cc);

extern const struct tcp_cc_ops tcp_cc_newreno;
