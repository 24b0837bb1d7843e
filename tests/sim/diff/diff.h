/* SPDX-License-Identifier: MIT
 * tests/sim/diff/diff.h - a run of the differential test: what is done to both stacks, what is seen
 * of each, and which differences are explained.
 *
 * A step is a packet of the peer, a call of the application or time that passes, the same for both;
 * sequence numbers are relative to the initial ones.  After each step both have the same time to
 * react, and what they did is compared.
 */
#pragma once

#include "sim/diff/stack.h"
#include "sim/segment.h"

#include "base/prng.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum diff_act {
	ACT_PACKET,
	ACT_SEND,
	ACT_READ,  /* from now on the application reads what comes */
	ACT_PAUSE, /* or does not */
	ACT_SHUTDOWN,
	ACT_CLOSE,
	ACT_ABORT,
	ACT_WAIT,
	ACT_DRAIN, /* the peer acknowledges all that comes, until nothing more does */
};

/* What a packet acknowledges. */
enum diff_ack {
	ACK_ALL,    /* what came, in order */
	ACK_PART,   /* some of it */
	ACK_FUTURE, /* what was never sent */
	ACK_STRAY,  /* a number from nowhere */
};

struct diff_step {
	enum diff_act act;
	const char *what; /* kind of packet */
	uint8_t flags;
	uint32_t seq; /* relative to the peer's initial one */
	enum diff_ack ack;
	uint32_t ack_by; /* how much less, or more, or the number */
	uint32_t length;
	uint16_t window;
	uint16_t urgent;
	const uint8_t *options;
	uint32_t option_bytes;
	bool bad_checksum;
	uint32_t bytes; /* of a send */
	uint64_t ns;    /* of a wait */
};

/* What a stack sent in a step. */
struct diff_seen {
	uint32_t frames;
	bool rst;
	bool rst_form; /* not as RFC 9293 3.5.2 has it */
	bool syn;      /* with or without ACK, at once */
	bool pure;     /* an ACK without data, not a probe */
	bool data;
	bool again; /* data or FIN that came before */
	bool wrong; /* bytes that the application did not send */
};

struct diff_side {
	const struct diff_stack *stack;
	struct diff_wire wire;
	struct diff_run *run;
	bool has_iss;
	uint32_t iss;
	uint32_t high;  /* relative: behind what came from it in order */
	bool fin;       /* its FIN came */
	uint32_t acked; /* relative to the peer's initial one: the highest acknowledgement */
	uint32_t window;
	uint32_t told; /* relative: what the peer acknowledged last */
	bool at_once;  /* it answers what was done now: time has not passed */
	struct diff_seen seen;
	struct diff_app app;
	char *log;
	size_t log_bytes;
	FILE *trace;
};

enum diff_field {
	DIFF_BROKEN,
	DIFF_RST,
	DIFF_RST_FORM,
	DIFF_SYN,
	DIFF_ACKED,
	DIFF_ANSWER,
	DIFF_CONNECTED,
	DIFF_DELIVERED,
	DIFF_ENDED,
	DIFF_FAILED,
	DIFF_SENT,
	DIFF_FIN,
	DIFF_BYTES,
	DIFF_FIELDS,
};

struct diff_run {
	uint64_t seed;
	struct prng prng;
	struct diff_side sides[2]; /* ours, lwIP's */
	uint32_t peer_iss;
	uint32_t steps;
	bool passive;
	bool nobody; /* no socket at all */
	/* the peer */
	uint32_t next; /* relative: behind what it has sent in order */
	bool syn_sent;
	bool handshake; /* it believes that the connection is there */
	bool fin_sent;
	uint32_t farthest; /* relative: behind all it has sent in the window */
	bool reset;        /* it has sent a reset that counts */
	bool over;         /* there is no connection any more */
	/* before the step that is compared */
	bool in_step;     /* both stacks have sent the same */
	bool fin_first;   /* the application had ended its part before the peer's FIN */
	bool future_acks; /* there were acknowledgements of what was not sent */
	bool odd_options; /* options that belong to a SYN came without one */
	bool old_acks;    /* segments outside of the window acknowledged a FIN */
	/* the application */
	bool reading;
	bool shut;
	bool closed;
	bool aborted;
	uint32_t wanted; /* bytes it has sent */
	struct diff_step step;
};

extern const char *const diff_field_names[DIFF_FIELDS];

/* A difference that is known: why, and what decides it. */
struct diff_reason {
	const char *name;
	const char *clause;
	const char *right; /* ours, lwIP, both, neither */
	bool ends;         /* the connections are in different states from then on */
	bool (*holds)(const struct diff_run *run, enum diff_field field);
};

/* Does nothing of the packet lie in the window? */
bool diff_is_outside(const struct diff_run *run, const struct diff_step *step);

extern const struct diff_reason diff_reasons[];
extern const uint32_t diff_num_reasons;

/* sim/diff/step.c: draws the next step, and does it to both. */
void diff_draw(struct diff_run *run);
void diff_do(struct diff_run *run);
void diff_settle(struct diff_run *run, uint64_t ns);
void diff_drain(struct diff_run *run);
void diff_open(struct diff_run *run);
/* sim/diff/side.c: for diff_wire.output. */
void diff_output(void *side, const uint8_t *frame, uint32_t length);
uint8_t diff_byte(bool own, uint32_t offset);
