/* SPDX-License-Identifier: MIT
 * net/tcp/rtt.h - round-trip time and retransmission timeout: RFC 6298 2 to 5, with the gain for
 * many samples a round trip of RFC 7323 appendix G.
 *
 * Invariant: rto_min_ns <= rto_ns (before backoff) <= rto_max_ns.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct tcp_rtt {
	uint64_t srtt_ns; /* 0: no sample yet */
	uint64_t rttvar_ns;
	uint64_t rto_ns; /* without backoff */
	uint64_t rto_min_ns;
	uint64_t rto_max_ns;
	uint64_t min_ns;      /* smallest sample; UINT64_MAX: none */
	uint32_t backoff;     /* doublings */
	bool floor_variation; /* rto_min_ns bounds the variation's part, so the whole too */
};

/* All at least 1.  The configuration may say min_ns > max_ns: then max_ns is both. */
void tcp_rtt_init(struct tcp_rtt *rtt, uint64_t initial_ns, uint64_t min_ns, uint64_t max_ns);
/* samples_per_rtt: at least 1.  The granularity G of RFC 6298 is granularity_ns. */
void tcp_rtt_sample(struct tcp_rtt *rtt, uint64_t sample_ns, uint32_t samples_per_rtt,
		    uint64_t granularity_ns);
/* The timeout to arm now, backoff included. */
uint64_t tcp_rtt_timeout(const struct tcp_rtt *rtt);
/* RFC 6298 5.5: the timer expired. */
void tcp_rtt_back_off(struct tcp_rtt *rtt);
/* New data was acknowledged. */
void tcp_rtt_reset_backoff(struct tcp_rtt *rtt);
void tcp_rtt_check(const struct tcp_rtt *rtt);
