/* tests/support/fabric_peer.c: see fabric_peer.h. */
#include "support/fabric_peer.h"

#include "support/test.h"

#include <arpa/inet.h>
#include <string.h>

/* ---- life ---- */

static void make_srq(struct fabric_peer *peer)
{
	struct ibv_srq_init_attr attr = {
		.attr = {.max_wr = FABRIC_PEER_RECEIVES, .max_sge = 4},
	};

	peer->srq = peer->verbs->create_srq(peer->pd, &attr);
	assert_non_null(peer->srq);
}

void fabric_peer_open(struct fabric_peer *peer, struct fabric *fabric, struct fabric_device *device,
		      bool shared)
{
	memset(peer, 0, sizeof(*peer));
	peer->fabric = fabric;
	peer->device = device;
	peer->verbs = fabric_verbs(device);
	peer->context = fabric_context(device);
	peer->param = (struct rdma_conn_param){
		.responder_resources = 8,
		.initiator_depth = 8,
		.retry_count = 7,
		.rnr_retry_count = 7,
	};
	peer->channel = peer->verbs->create_event_channel();
	peer->pd = peer->verbs->alloc_pd(peer->context);
	peer->comp_channel = peer->verbs->create_comp_channel(peer->context);
	assert_true(peer->channel && peer->pd && peer->comp_channel);
	peer->cq = peer->verbs->create_cq(peer->context, 4 * FABRIC_PEER_RECEIVES, peer,
					  peer->comp_channel, 0);
	peer->mr = peer->verbs->reg_mr(peer->pd, peer->memory, sizeof(peer->memory),
				       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
					       IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND);
	assert_true(peer->cq && peer->mr);
	if (shared)
		make_srq(peer);
}

static void destroy_id(struct fabric_peer *peer, struct rdma_cm_id *id)
{
	if (!id)
		return;
	if (id->qp)
		peer->verbs->destroy_qp(id);
	assert_int_equal(peer->verbs->destroy_id(id), 0);
}

static void acknowledge(struct fabric_peer *peer)
{
	if (peer->event)
		assert_int_equal(peer->verbs->ack_cm_event(peer->event), 0);
	peer->event = NULL;
}

void fabric_peer_drop(struct fabric_peer *peer)
{
	acknowledge(peer);
	destroy_id(peer, peer->id);
	peer->id = NULL;
}

static void drain_async(struct fabric_peer *peer)
{
	struct ibv_async_event event;

	while (peer->verbs->get_async_event(peer->context, &event) == 0)
		peer->verbs->ack_async_event(&event);
}

void fabric_peer_close(struct fabric_peer *peer)
{
	const struct rdma_verbs *verbs = peer->verbs;

	fabric_peer_drop(peer);
	destroy_id(peer, peer->listener);
	drain_async(peer);
	verbs->destroy_event_channel(peer->channel);
	if (peer->srq)
		assert_int_equal(verbs->destroy_srq(peer->srq), 0);
	assert_int_equal(verbs->destroy_cq(peer->cq), 0);
	assert_int_equal(verbs->destroy_comp_channel(peer->comp_channel), 0);
	assert_int_equal(verbs->dereg_mr(peer->mr), 0);
	assert_int_equal(verbs->dealloc_pd(peer->pd), 0);
}

/* ---- events ---- */

const struct rdma_cm_event *fabric_peer_event(struct fabric_peer *peer)
{
	acknowledge(peer);
	if (peer->verbs->get_cm_event(peer->channel, &peer->event))
		peer->event = NULL;
	return peer->event;
}

const struct rdma_cm_event *fabric_peer_await(struct fabric_peer *peer,
					      enum rdma_cm_event_type type)
{
	while (!fabric_peer_event(peer))
		assert_true(fabric_step(peer->fabric));
	assert_int_equal(peer->event->event, type);
	return peer->event;
}

/* ---- connections ---- */

struct name {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
};

static struct name name_of(const char *address, uint16_t port)
{
	struct name name = {.in = {.sin_family = AF_INET, .sin_port = htons(port)}};

	if (inet_pton(AF_INET, address, &name.in.sin_addr) == 1)
		return name;
	name.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
	assert_int_equal(inet_pton(AF_INET6, address, &name.in6.sin6_addr), 1);
	return name;
}

void fabric_peer_listen(struct fabric_peer *peer, enum rdma_port_space ps, const char *address,
			uint16_t port)
{
	struct name name = name_of(address, port);

	assert_int_equal(peer->verbs->create_id(peer->channel, &peer->listener, peer, ps), 0);
	assert_int_equal(peer->verbs->bind_addr(peer->listener, &name.any), 0);
	assert_int_equal(peer->verbs->listen(peer->listener, 16), 0);
}

void fabric_peer_make_qp(struct fabric_peer *peer, struct rdma_cm_id *id)
{
	struct ibv_qp_init_attr attr = {
		.qp_context = peer,
		.send_cq = peer->cq,
		.recv_cq = peer->cq,
		.srq = peer->srq,
		.cap = {.max_send_wr = FABRIC_PEER_SENDS,
			.max_recv_wr = FABRIC_PEER_RECEIVES,
			.max_send_sge = 4,
			.max_recv_sge = 4,
			.max_inline_data = FABRIC_PEER_INLINE},
		.qp_type = id->ps == RDMA_PS_UDP ? IBV_QPT_UD : IBV_QPT_RC,
	};

	assert_int_equal(peer->verbs->create_qp(id, peer->pd, &attr), 0);
}

void fabric_peer_connect(struct fabric_peer *peer, enum rdma_port_space ps, const char *address,
			 uint16_t port)
{
	const struct rdma_verbs *verbs = peer->verbs;
	struct name name = name_of(address, port);

	assert_null(peer->id);
	assert_int_equal(verbs->create_id(peer->channel, &peer->id, peer, ps), 0);
	assert_int_equal(verbs->resolve_addr(peer->id, NULL, &name.any, 1000), 0);
	(void)fabric_peer_await(peer, RDMA_CM_EVENT_ADDR_RESOLVED);
	assert_int_equal(verbs->resolve_route(peer->id, 1000), 0);
	(void)fabric_peer_await(peer, RDMA_CM_EVENT_ROUTE_RESOLVED);
	fabric_peer_make_qp(peer, peer->id);
	assert_int_equal(verbs->connect(peer->id, &peer->param), 0);
}

void fabric_peer_accept(struct fabric_peer *peer)
{
	const struct rdma_cm_event *event = fabric_peer_await(peer, RDMA_CM_EVENT_CONNECT_REQUEST);

	assert_null(peer->id);
	peer->id = event->id;
	fabric_peer_make_qp(peer, peer->id);
	assert_int_equal(peer->verbs->accept(peer->id, &peer->param), 0);
}

void fabric_peer_join(struct fabric_peer *active, struct fabric_peer *passive, const char *address,
		      uint16_t port)
{
	fabric_peer_connect(active, RDMA_PS_TCP, address, port);
	fabric_peer_accept(passive);
	(void)fabric_peer_await(active, RDMA_CM_EVENT_ESTABLISHED);
	(void)fabric_peer_await(passive, RDMA_CM_EVENT_ESTABLISHED);
	(void)fabric_peer_event(active);
	(void)fabric_peer_event(passive);
}

/* ---- work ---- */

static struct ibv_sge segment(const struct fabric_peer *peer, uint32_t at, uint32_t bytes)
{
	return (struct ibv_sge){
		.addr = (uint64_t)(uintptr_t)&peer->memory[at],
		.length = bytes,
		.lkey = peer->mr->lkey,
	};
}

int fabric_peer_receive(struct fabric_peer *peer, uint64_t wr_id, uint32_t at, uint32_t bytes)
{
	struct ibv_sge sge = segment(peer, at, bytes);
	struct ibv_recv_wr wr = {.wr_id = wr_id, .sg_list = &sge, .num_sge = 1};
	struct ibv_recv_wr *bad;

	return peer->srq ? ibv_post_srq_recv(peer->srq, &wr, &bad)
			 : ibv_post_recv(peer->id->qp, &wr, &bad);
}

int fabric_peer_post(struct fabric_peer *peer, struct ibv_send_wr *wr, uint32_t at, uint32_t bytes)
{
	struct ibv_sge sge = segment(peer, at, bytes);
	struct ibv_send_wr *bad;

	wr->sg_list = &sge;
	wr->num_sge = 1;
	return ibv_post_send(peer->id->qp, wr, &bad);
}

int fabric_peer_send(struct fabric_peer *peer, uint64_t wr_id, uint32_t at, uint32_t bytes)
{
	struct ibv_send_wr wr = {
		.wr_id = wr_id,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
	};

	return fabric_peer_post(peer, &wr, at, bytes);
}

bool fabric_peer_poll(struct fabric_peer *peer, struct ibv_wc *wc)
{
	int polled = ibv_poll_cq(peer->cq, 1, wc);

	assert_true(polled >= 0);
	return polled == 1;
}

struct ibv_wc fabric_peer_completion(struct fabric_peer *peer)
{
	struct ibv_wc wc;

	while (!fabric_peer_poll(peer, &wc))
		assert_true(fabric_step(peer->fabric));
	return wc;
}
