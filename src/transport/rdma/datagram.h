/* SPDX-License-Identifier: MIT
 * transport/rdma/datagram.h - datagram sockets: a UD queue pair each, up to the path's MTU.
 *
 * A socket that is bound listens with rdma_cm, which tells its queue pair to whoever asks for its
 * address.  A destination is asked for when something is pushed to it first, and kept.  Payload is
 * copied both ways: it is no longer than an MTU.  Receives are the socket's own, not of the shared
 * queue, where they would take what credits stand for; what finds none is lost, as datagrams are.
 *
 * Memory: the queue and its destinations belong to the engine's list until the last send is done.
 */
#pragma once

#include "transport/rdma/rdma.h"

#define DATAGRAM_RECEIVES 64
#define DATAGRAM_SENDS    32
#define DATAGRAM_QUEUED   256    /* that nobody has popped; more are dropped */
#define DATAGRAM_PEERS    64     /* destinations that are kept */
#define DATAGRAM_GRH      40     /* bytes that the device puts before what it receives */
#define DATAGRAM_MAGIC    0x7564 /* "ud" */

/* In front of each datagram. */
struct datagram_header {
	uint16_t magic;
	uint16_t port;   /* the sender's, as in a socket's address */
	uint32_t length; /* of what follows */
	uint32_t family; /* 4 or 6 */
	uint32_t zero;
	uint8_t address[16]; /* the sender's; of family 4 the first 4 bytes */
};

static_assert(sizeof(struct datagram_header) == 32, "keeps payload aligned");

struct rdma_peer {
	enum rdma_user user; /* first: an id's context */
	struct rdma_datagram *socket;
	struct list in_socket; /* least lately used first */
	struct sockaddr_storage address;
	struct rdma_cm_id *id; /* while it is being asked for */
	struct ibv_ah *ah;     /* NULL: not known yet */
	uint32_t qp_num;
	uint32_t qkey;
	struct op_list pushes; /* that wait for it */
	struct op *connect;
};

struct rdma_received {
	void *object; /* struct datagram */
	uint32_t bytes;
};

struct rdma_datagram {
	enum rdma_user user; /* first: an id's context */
	struct queue queue;
	struct rdma_engine *engine;
	struct list in_engine;
	int domain;
	uint32_t index;
	struct rdma_cm_id *id;    /* bound and listening; NULL: not yet */
	struct rdma_cm_id *qp_id; /* whose queue pair it is: id, or one of the device's address */
	struct sockaddr_storage local;
	uint32_t mtu;
	uint32_t key;
	char *memory; /* receives, then sends; each of piece_bytes */
	uint32_t piece_bytes;
	uint32_t posted; /* sends, modulo 2^32 */
	uint32_t completed;
	struct op_list pops;
	struct op_list pushes; /* that wait for room */
	struct list peers;
	uint32_t num_peers;
	struct rdma_peer *peer; /* connected */
	uint32_t head;          /* of received, modulo 2^32 */
	uint32_t tail;
	struct rdma_received received[DATAGRAM_QUEUED];
	bool write_shut;
	bool closing;
	int error; /* the device is gone */
};

static inline struct rdma_datagram *rdma_datagram_of(struct queue *queue)
{
	return container_of(queue, struct rdma_datagram, queue);
}

/* datagram.c: traffic. */
int rdma_datagram_open_qp(struct rdma_datagram *dg, struct rdma_cm_id *id);
void rdma_datagram_close_qp(struct rdma_datagram *dg);
int rdma_datagram_send(struct rdma_datagram *dg, struct rdma_peer *peer, struct op *op);
void rdma_datagram_fail(struct rdma_datagram *dg, int err);
void rdma_datagram_free(struct rdma_datagram *dg);
extern const struct queue_ops rdma_datagram_ops;

/* datagram_cm.c: addresses. */
extern const struct socket_ops rdma_datagram_socket_ops;
int rdma_peer_find(struct rdma_datagram *dg, const struct sockaddr *to, socklen_t length,
		   struct rdma_peer **peer_out);
void rdma_peer_drop(struct rdma_peer *peer, int err);
