/* tests/sim/transfer.h - bulk transfers over one bottleneck in a simulated world, and how they did.
 *
 * Hosts 1 ... senders send to host 0 over one line that all of them share: rate, a queue that drops
 * from its tail, half of the round trip each way.  Loss falls on frames of both directions.
 * Everything is a function of the seed.
 */
#pragma once

#include "sim/inet.h"

#include <stdbool.h>
#include <stdint.h>

#define TRANSFER_FLOWS   8
#define TRANSFER_SENDERS 7
#define TRANSFER_BYTES   ((uint64_t)10 << 20)
/* The queue of a bottleneck is a bandwidth-delay product, and never less than a switch's port has.
 */
#define TRANSFER_QUEUE_MIN 65536U

struct transfer {
	uint32_t loss;        /* millionths of the frames, in each direction */
	uint32_t burst;       /* that the frame after a lost one is lost too; 0: as others */
	uint64_t rtt_ns;      /* without a queue and without the time that frames take to leave */
	uint64_t bits_per_s;  /* of the line, each way */
	uint64_t queue_bytes; /* 0: one bandwidth-delay product */
	uint64_t mark_bytes;  /* as in struct world_path */
	uint32_t link_mtu;    /* of the hosts; 0: 1500 */
	uint32_t mtu; /* of the path to the receiver, as in struct world_path; 0: the link's */
	bool icmp;    /* and a router says so */
	bool v6;
	int64_t probing; /* tcp_mtu_probing and 1; 0: the default */
	uint32_t buffer; /* bytes, of receiver and sender; 0: what the defaults grow to */
	uint32_t flows;
	uint32_t senders;      /* hosts that send: flow i is at host 1 + i % senders */
	uint64_t bytes;        /* of each flow; 0: without an end */
	uint64_t limit_ns;     /* bytes: what it may take; else how long it runs */
	uint64_t from_ns;      /* without an end: bytes that come later are counted */
	uint64_t start_gap_ns; /* between the starts of flows */
	const char *congestion[TRANSFER_FLOWS]; /* TCP_CONGESTION; NULL: the default */
};

struct transfer_flow {
	bool complete;     /* all bytes came, and none else */
	int error;         /* positive errno that ended it */
	uint64_t bytes;    /* received, behind from_ns */
	uint64_t taken_ns; /* from the end of the handshake to the last byte */
};

struct transfer_result {
	struct transfer_flow flows[TRANSFER_FLOWS];
	uint64_t segments; /* that all senders sent */
	uint64_t retransmitted;
	uint64_t timeouts;
	uint64_t too_big; /* packets that the path did not take */
	uint32_t pmtu;    /* of a flow, at its end */
	uint64_t hash;    /* of all that happened */
};

/* False: there is no such congestion control here. */
bool transfer_run(const struct transfer *transfer, uint64_t seed, struct transfer_result *result);

/* Jain's index of what the flows got: 1 if all got the same, 1 / flows if one got all. */
double transfer_fairness(const struct transfer *transfer, const struct transfer_result *result);
