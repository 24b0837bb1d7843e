/* SPDX-License-Identifier: MIT
 * netdev/afxdp/remote.h - what goes over the Unix socket (SOCK_SEQPACKET) between an application
 * and `demi xdp-helper`: remote.c is the one end, tools/demi/helper the other.
 *
 * The application asks, one request at a time, and the helper replies: lines for the application's
 * log, as many as there are, then the answer.  The first request is REMOTE_OPEN, with the memfd of
 * the memory beside it (SCM_RIGHTS); its answer has the XDP socket beside it.  Or it is
 * REMOTE_ADOPT, with an XDP socket beside it that a helper opened which has gone.  Then
 * REMOTE_STEER and REMOTE_FILTER.  The connection is the grant: whoever closes it, or dies, ends
 * it.
 *
 * All of a message is there or it is none; both ends are of the same version, and of one machine.
 * Neither relies on what the other sends.
 */
#pragma once

#include "netdev/afxdp/grant.h"

#include <stdint.h>

#define REMOTE_VERSION   2
#define REMOTE_LINES_MAX 16 /* of a reply, before its answer */

enum remote_kind { REMOTE_OPEN = 1, REMOTE_STEER = 2, REMOTE_ADOPT = 3, REMOTE_FILTER = 4 };

struct remote_request {
	uint32_t version;
	uint32_t kind;     /* enum remote_kind */
	uint32_t sequence; /* of this connection */
	uint8_t wanted;    /* REMOTE_STEER: 0, 1 */
	uint8_t reserved[3];
	struct ip_address address;  /* REMOTE_STEER */
	struct grant_request grant; /* REMOTE_OPEN, REMOTE_ADOPT */
	uint16_t port;              /* this and what follows: REMOTE_FILTER */
	uint16_t count;             /* of instructions; 0: no filter any more */
	struct sock_filter program[CBPF_MAX];
};

#define REMOTE_ADDRESSES_MAX 64 /* of a connection */

struct remote_reply {
	uint32_t version;
	uint32_t sequence; /* of the request */
	int32_t error;     /* 0 or -errno */
	uint32_t queue;    /* this and what follows, up to text: as in struct grant */
	uint8_t native;
	uint8_t dispatched;
	uint8_t zero_copy;
	uint8_t segments;
	uint8_t busy_poll;
	uint8_t level; /* 0: an answer; else enum log_level of a line */
	uint8_t reserved[2];
	char text[LOG_MESSAGE_MAX]; /* of a line; ended by a zero */
};
