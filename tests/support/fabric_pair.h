/* tests/support/fabric_pair.h - two devices with a raw peer each, for tests of the devices. */
#pragma once

#include "support/fabric_peer.h"

/* Stands for the test itself: one at a time. */
extern struct fabric_pair {
	struct fabric *fabric;
	struct fabric_device *devices[2];
	struct fabric_peer a; /* 10.0.0.1, fd00::1: connects */
	struct fabric_peer b; /* 10.0.0.2, fd00::2: listens */
} pair;

#define PAIR_PORT 7

struct pair_options {
	bool immediate;
	bool shared; /* receive queues */
	bool forgive;
	uint64_t seed;
};

void pair_open(const struct pair_options *options);
/* With a connection between them. */
void pair_join(const struct pair_options *options);
/* Nothing of either is left over. */
void pair_close(void);

/* The next completion of a peer is this one; returned. */
struct ibv_wc pair_expect(struct fabric_peer *peer, uint64_t wr_id, enum ibv_wc_status status);
/* None comes, however long one waits. */
void pair_expect_none(struct fabric_peer *peer);
/* The next asynchronous event of a device, acknowledged; the state of a queue pair. */
void pair_expect_async(struct fabric_peer *peer, enum ibv_event_type type);
enum ibv_qp_state pair_state(const struct fabric_peer *peer);
