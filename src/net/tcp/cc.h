/* SPDX-License-Identifier: MIT
 * net/tcp/cc.h - congestion control: a window that grows and shrinks, behind a small table of
 * operations, so that algorithms are chosen per connection.
 *
 * Pure: no connection, no clock but arguments.  Loss recovery (which segments are lost, when a
 * recovery ends, proportional rate reduction in it) is the caller's; here is only what happens to
 * the window.  All in bytes.
 *
 * The window grows only by what was acknowledged of data that was in flight while it was the limit
 * (credit).
 *
 * Invariant: cwnd >= mss.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TCP_CC_WINDOW_MAX ((uint32_t)1 << 30) /* RFC 7323 2.3: no window is larger */

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
	 * equation 4, RFC 9438 4.6, RFC 8257 3.3) from the bytes in flight; the caller then brings
	 * cwnd down to it if it is above.  ecn: there was no loss; then cwnd itself may go below
	 * ssthresh, to one segment (RFC 9438 4.6). */
	void (*reduce)(struct tcp_cc *cc, uint32_t flight, int ecn, uint64_t now_ns);
	/* The retransmission timer expired: ssthresh as in reduce (not for the second time of the
	 * same segment: again), window of one segment. */
	void (*timeout)(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns);
	/* The last reduce or timeout was for nothing (RFC 9438 4.9): whatever the algorithm
	 * remembers beside cwnd and ssthresh, which the caller has set back already.  NULL:
	 * nothing. */
	void (*undo)(struct tcp_cc *cc);
	/* Every ACK of a connection with ECN, before acked: bytes acknowledged by it (SACK left
	 * out), marked: ECE was set (RFC 8257 3.3).  Sets cwnd and ssthresh by itself.  NULL: ECN
	 * is RFC 3168's, the caller calls reduce once a window. */
	void (*ecn)(struct tcp_cc *cc, const struct tcp_cc_ack *ack, int marked);
};

/* The first slow start of RFC 9406: see hystart.c.  Times in microseconds, UINT32_MAX: none. */
struct tcp_hystart {
	uint32_t round_end;   /* SND.NXT when the round began */
	uint32_t last_min;    /* smallest round-trip time of the last round */
	uint32_t min;         /* and of this one */
	uint32_t baseline;    /* conservative slow start: what it has to be below */
	uint8_t samples;      /* of this round, as many as matter */
	uint8_t conservative; /* rounds of conservative slow start, this one included; 0: none */
	bool started;
};

/* Congestion avoidance of RFC 9438: see cubic.c. */
struct tcp_cubic {
	uint32_t w_max;       /* 0: none, the window where congestion avoidance begins */
	uint32_t prior;       /* cwnd before the last congestion event */
	uint32_t w_est;       /* what Reno's window would be */
	uint32_t w_est_acked; /* towards its next increase */
	uint32_t epoch_ms;
	uint32_t grown_ms; /* when the window could grow last */
	int32_t k_ms;
	uint32_t undo_w_max;
	uint32_t undo_prior;
	uint32_t undo_w_est; /* 0: there was no epoch */
};

struct tcp_dctcp {
	uint32_t alpha; /* share of what is marked, of TCP_DCTCP_ONE */
	uint32_t round_end;
	uint32_t acked; /* in this round */
	uint32_t marked;
	uint32_t reduced_end; /* what was sent before it is answered for */
};

/* See tolerant.c.  Times in microseconds. */
struct tcp_tolerant {
	uint32_t alpha; /* segments that the window grows in a round trip, times 1024 */
	uint32_t beta;  /* share that it loses, times 1024 */
	uint32_t min;   /* round-trip times ever seen; 0: none */
	uint32_t max;
	uint32_t sum; /* of this round's samples */
	uint32_t samples;
	uint32_t round_end;
	uint32_t calm; /* rounds without delay */
};

#define TCP_DCTCP_ONE ((uint32_t)1 << 20)

struct tcp_cc {
	const struct tcp_cc_ops *ops;
	uint32_t cwnd;
	uint32_t ssthresh;
	uint32_t mss;
	uint32_t acked_bytes; /* in congestion avoidance: towards the next increase */
	uint32_t initial_window;
	uint32_t credit; /* in flight when the window was the limit, not acknowledged yet */
	uint8_t initial_segments;
	bool after_timeout : 1; /* this slow start began with a timeout */
	bool in_epoch : 1;      /* cubic: the members of the curve are valid */
	bool resumed : 1;       /* cubic: the next epoch goes on where undo_w_est stood */
	bool unsettled : 1;     /* cubic: nothing grew since the last event */
	bool round : 1;         /* dctcp, tolerant: round_end is valid */
	bool reduced : 1;       /* dctcp: reduced_end is valid */
	bool answered : 1;      /* dctcp: a loss has reduced the window, whatever is marked of it */
	bool reduce_window : 1; /* a reduction is of the window, used or not */
	bool by_interval : 1;   /* cubic: looks at its curves every 32 ms only */
	bool exit_by_delay : 1; /* cubic: the first slow start ends at once (HyStart, not ++) */

	uint16_t looked_ms; /* by_interval: when, */
	uint16_t unlooked;  /* and segments acknowledged since */

	union {
		struct tcp_hystart hystart; /* cubic, while ssthresh is unlimited */
		struct tcp_cubic cubic;
		struct tcp_dctcp dctcp;
		struct tcp_tolerant tolerant;
		uint32_t words[10];
	};
};

_Static_assert(sizeof(struct tcp_cc) <= 80, "every connection has one");

/* By name, with or without its zero byte; NULL: there is none such. */
const struct tcp_cc_ops *tcp_cc_find(const char *name, uint32_t length);
/* By the place of its name among the choices of demitasse.tcp.congestion. */
const struct tcp_cc_ops *tcp_cc_at(uint32_t index);

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

/* ---- between the algorithms ---- */

/* RFC 7661 4.1, RFC 9438 5.8: a window that was not used proves nothing, so it does not grow.  In
 * slow start half of it is use enough, as a window doubles in a round trip. */
static inline bool tcp_cc_full(const struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	uint32_t spare = cc->cwnd < cc->ssthresh ? ack->flight : cc->mss;

	return ack->flight + spare >= cc->cwnd;
}

/* The common case, of every algorithm: nothing grows. */
static inline bool tcp_cc_rests(const struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
	return !tcp_cc_full(cc, ack) && cc->credit == 0;
}

/* Else: what of the bytes acknowledged counts. */
uint32_t tcp_cc_credited(struct tcp_cc *cc, const struct tcp_cc_ack *ack);
/* Adds to the window, as far as a window may be. */
void tcp_cc_grow(struct tcp_cc *cc, uint64_t bytes);
/* Slow start counting bytes, of one ACK at most bound segments (RFC 3465 2.3). */
void tcp_cc_slow_start(struct tcp_cc *cc, uint32_t bytes);

/* What a reduction takes its share of: the bytes in flight; RFC 5681 3.2: not what limited transmit
 * sent beyond the window. */
static inline uint32_t tcp_cc_used(const struct tcp_cc *cc, uint32_t flight)
{
	return flight < cc->cwnd && !cc->reduce_window ? flight : cc->cwnd;
}

/* After a congestion event that asks for a window of that many bytes. */
void tcp_cc_reduce(struct tcp_cc *cc, uint32_t window, bool ecn);
/* After a timeout. */
void tcp_cc_collapse(struct tcp_cc *cc);

/* The window in the first slow start: tells how much of bytes it grows, and ends it by setting
 * ssthresh. */
void tcp_hystart_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack, uint32_t bytes);

/* Reno's answer to a loss and to a timeout, which DCTCP shares (RFC 8257 3.5). */
void tcp_newreno_acked(struct tcp_cc *cc, const struct tcp_cc_ack *ack);
void tcp_newreno_reduce(struct tcp_cc *cc, uint32_t flight, int ecn, uint64_t now_ns);
void tcp_newreno_timeout(struct tcp_cc *cc, uint32_t flight, int again, uint64_t now_ns);

extern const struct tcp_cc_ops tcp_cc_cubic;
extern const struct tcp_cc_ops tcp_cc_newreno;
extern const struct tcp_cc_ops tcp_cc_dctcp;
extern const struct tcp_cc_ops tcp_cc_tolerant;
