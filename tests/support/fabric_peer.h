/* tests/support/fabric_peer.h - a raw end of RDMA connections, by the table of verbs: what tests of
 * the device, and hostile peers, send and receive with.
 *
 * One protection domain, completion queue, shared receive queue and region of FABRIC_PEER_BYTES for
 * all its queue pairs.  Functions with `await` have the fabric's own clock go on until what they
 * wait for is there, and fail the test if it never comes; the others do not wait.
 *
 * Memory: the peer's own; fabric_peer_close gives back all that it has of the device. */
#pragma once

#include "support/fabric.h"

#define FABRIC_PEER_BYTES    65536U
#define FABRIC_PEER_RECEIVES 64U
#define FABRIC_PEER_SENDS    64U
#define FABRIC_PEER_INLINE   128U

struct fabric_peer {
	struct fabric *fabric;
	struct fabric_device *device;
	const struct rdma_verbs *verbs;
	struct ibv_context *context;
	struct rdma_event_channel *channel;
	struct rdma_cm_id *listener; /* NULL: none */
	struct rdma_cm_id *id;       /* the connection; NULL: none */
	struct ibv_pd *pd;
	struct ibv_comp_channel *comp_channel;
	struct ibv_cq *cq;
	struct ibv_srq *srq; /* NULL: queue pairs have receive queues */
	struct ibv_mr *mr;
	struct rdma_cm_event *event; /* taken, and acknowledged with the next */
	struct rdma_conn_param param;
	uint8_t memory[FABRIC_PEER_BYTES];
};

/* With defaults in param: 8 responder resources, 7 retries, 7 rnr retries. */
void fabric_peer_open(struct fabric_peer *peer, struct fabric *fabric, struct fabric_device *device,
		      bool shared);
void fabric_peer_close(struct fabric_peer *peer);

/* ---- connections ---- */

void fabric_peer_listen(struct fabric_peer *peer, enum rdma_port_space ps, const char *address,
			uint16_t port);
/* A new id, as far as the request. */
void fabric_peer_connect(struct fabric_peer *peer, enum rdma_port_space ps, const char *address,
			 uint16_t port);
/* Takes the request, with a queue pair. */
void fabric_peer_accept(struct fabric_peer *peer);
/* Both of them, and the connection between: as fabric_peer_connect and fabric_peer_accept. */
void fabric_peer_join(struct fabric_peer *active, struct fabric_peer *passive, const char *address,
		      uint16_t port);
void fabric_peer_make_qp(struct fabric_peer *peer, struct rdma_cm_id *id);
/* Ends what it has of its connection. */
void fabric_peer_drop(struct fabric_peer *peer);

/* The next event; NULL: there is none.  It is acknowledged with the next call. */
const struct rdma_cm_event *fabric_peer_event(struct fabric_peer *peer);
/* The next, which is of this type. */
const struct rdma_cm_event *fabric_peer_await(struct fabric_peer *peer,
					      enum rdma_cm_event_type type);

/* ---- work ---- */

/* Posts a receive of bytes of the memory at an offset.  0 or an errno. */
int fabric_peer_receive(struct fabric_peer *peer, uint64_t wr_id, uint32_t at, uint32_t bytes);
/* One segment of its memory; what of wr is not zero stays.  0 or an errno. */
int fabric_peer_post(struct fabric_peer *peer, struct ibv_send_wr *wr, uint32_t at, uint32_t bytes);
/* A signalled send. */
int fabric_peer_send(struct fabric_peer *peer, uint64_t wr_id, uint32_t at, uint32_t bytes);
/* The next completion.  False: there is none. */
bool fabric_peer_poll(struct fabric_peer *peer, struct ibv_wc *wc);
struct ibv_wc fabric_peer_completion(struct fabric_peer *peer);
