/* SPDX-License-Identifier: MIT
 * net/tcp/cc.h - congestion control: a window that grows and shrinks, behind a small table of
 * operations, so that algorithms are chosen per connection.
 *
 * Pure: no connection, no clock but arguments.  Loss recovery (which segments are lost, when a
 * recovery ends) is the caller's; here is only what happens to the window.  All in bytes.
 *
 * Invariant: cwnd >= mss.
 */
#pragma once

#include <stdint.h>

struct tcp_cc;

struct tcp_cc_ops {
	const char *name; /* as in TCP_CONGESTION */
	void (*init)(struct tcp_cc *cc);
	/* New data was acknowledged outside of recovery.  flight: bytes outstanding before it; the
	 * window grows only if it was the limit (RFC 9438 5.8, RFC 7661). */
	void (*acked)(struct tcp_cc *cc, uint32_t bytes, uint32_t flight, uint64_t now_ns,
		      uint64_t srtt_ns);
	/* Loss was detected: sets ssthresh (RFC 5681 equation 4) from the bytes in flight. */
	void (*lost)(struct tcp_cc *cc, uint32_t flight, uint64_t now_ns);
	/* The retransmission timer expired: ssthresh as in lost (not for the second time of the
	 * same segment: again), window of one segment. */
	void (*timeout)(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns);
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

/* By name; NULL: there is none such. */
const struct tcp_cc_ops *tcp_cc_find(const char *name, uint32_t length);

/* initial_segments: the initial window is that many segments, within RFC 6928's bound of bytes if
 * it is 10, RFC 5681's if it is at most 4; ssthresh is unlimited. */
void tcp_cc_init(struct tcp_cc *cc, const struct tcp_cc_ops *ops, uint32_t mss,
		 uint32_t initial_segments);
/* RFC 5681 4.1: after an idle time of more than one RTO the window is the restart window. */
void tcp_cc_restart(struct tcp_cc *cc);
/* The path's segment size changed. */
void tcp_cc_set_mss(struct tcp_cc *cc, uint32_t mss);
void tcp_cc_check(const struct tcp_cc *cc);

extern const struct tcp_cc_ops tcp_cc_newreno;
