/* SPDX-License-Identifier: MIT
 * tools/demi/load.h - the requests of a client: when the next is due, which are out, what came
 * back, how long it took.
 *
 * No I/O happens here. A flow is one connection. On a stream requests are bytes of a repeated
 * pattern, answered in order; a datagram carries its number in its first 4 bytes and may be lost.
 * Closed loop: each flow keeps `depth` requests out; a request's time runs from its issue. Open
 * loop: requests are due at times drawn beforehand (exponential intervals), spread over the flows
 * in turn; the time runs from when a request was due, however late it was sent, so that a slow
 * server cannot hide by slowing down its clients.
 *
 * Invariants: load.outstanding is the sum over the flows; a slot of flow.starts is non-zero while
 * its request is out.
 */
#pragma once

#include "histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flow {
	uint64_t *starts;  /* time of issue, by number & mask */
	uint32_t *numbers; /* datagram: which request has the slot */
	uint32_t mask;
	uint32_t issued;   /* number of the next request */
	uint32_t answered; /* stream: number of the request whose answer comes next */
	uint32_t outstanding;
	size_t tx_bytes;  /* stream: issued and not yet sent */
	size_t tx_offset; /* stream: where in the pattern the next byte to send is */
	size_t rx_offset; /* stream: where in the pattern the next byte received is */
};

struct load {
	size_t size;
	uint32_t depth;
	bool datagram;
	double rate_per_s; /* 0: closed loop */
	uint8_t *pattern;  /* a request's bytes, repeated */
	size_t pattern_size;
	/* of the phase */
	bool checked;                /* every byte is compared */
	struct histogram *histogram; /* NULL: warm-up */
	uint64_t budget;             /* requests that may still be issued */
	uint64_t begin_ns, deadline_ns, last_ns;
	uint64_t outstanding, requests, lost, damaged;
	uint64_t due_ns; /* open loop: of the next request */
	uint64_t random;
};

/* A datagram that has no answer for so long is lost. */
#define LOAD_LOST_NS 200000000ULL

void load_init(struct load *load, size_t size, unsigned depth, bool datagram, double rate_per_s);
void load_fini(struct load *load);

/* Starts a phase of at most this many rounds and nanoseconds (0: no bound). histogram NULL:
 * warm-up, every byte is checked. */
void load_begin(struct load *load, uint64_t rounds, uint64_t duration_ns,
		struct histogram *histogram);

void flow_init(struct flow *flow, const struct load *load);
void flow_fini(struct flow *flow);

/* Whether new requests may still come. */
static inline bool load_open(const struct load *load, uint64_t now_ns)
{
	return load->budget > 0 && now_ns < load->deadline_ns;
}

/* Whether the phase is over: nothing is out and nothing more will be. */
static inline bool load_done(const struct load *load, uint64_t now_ns)
{
	return load->outstanding == 0 && !load_open(load, now_ns);
}

/* Closed loop: issues one more request of the flow, if it may. A stream's bytes are added to
 * tx_bytes; a datagram is to be filled by flow_fill and sent. */
bool flow_issue(struct load *load, struct flow *flow, uint64_t now_ns);

/* Open loop: the flow's request that was due at due_ns; false: too many are out already, try again
 * later. */
bool flow_issue_due(struct load *load, struct flow *flow, uint64_t due_ns);

/* Open loop: whether a request is due by now; load_advance draws the time of the next. */
static inline bool load_is_due(const struct load *load, uint64_t now_ns)
{
	return load->budget > 0 && load->due_ns <= now_ns && load->due_ns < load->deadline_ns;
}

void load_advance(struct load *load);

/* Open loop: whether the phase is over. What was due and could not be sent within grace_ns after
 * the end counts as lost. */
bool load_done_open(struct load *load, uint64_t now_ns, uint64_t grace_ns);

/* Stream: next bytes to send, at most tx_bytes of them; flow_sent says how many went. */
static inline const uint8_t *flow_next(const struct load *load, const struct flow *flow,
				       size_t *length)
{
	size_t room = load->pattern_size - flow->tx_offset;

	*length = flow->tx_bytes < room ? flow->tx_bytes : room;
	return load->pattern + flow->tx_offset;
}

static inline void flow_sent(const struct load *load, struct flow *flow, size_t length)
{
	flow->tx_bytes -= length;
	flow->tx_offset = (flow->tx_offset + length) % load->size;
}

/* Stream: bytes came. Returns the number of requests that they complete. */
unsigned flow_received(struct load *load, struct flow *flow, const uint8_t *bytes, size_t length,
		       uint64_t now_ns);

/* Datagram: writes the one just issued into size bytes. */
void flow_fill(const struct load *load, const struct flow *flow, uint8_t *bytes);

/* Datagram: one came. Returns whether it answers a request that is out. */
bool flow_datagram(struct load *load, struct flow *flow, const uint8_t *bytes, size_t length,
		   uint64_t now_ns);

/* Datagram: gives up requests that are out for LOAD_LOST_NS. */
void flow_expire(struct load *load, struct flow *flow, uint64_t now_ns);
