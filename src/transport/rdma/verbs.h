/* SPDX-License-Identifier: MIT
 * transport/rdma/verbs.h - what catmint calls of RDMA: the seam between it and libibverbs with
 * librdmacm, or a device in the test's own process.
 *
 * The control path is this table: each member is the call of the libraries with the same name, its
 * arguments and its result (rdma_cm and most verbs: 0, or -1 and errno; some verbs: an errno; see
 * their manual pages).  The data path is not in it: ibv_post_send, ibv_post_srq_recv, ibv_poll_cq,
 * ibv_req_notify_cq, ibv_alloc_mw and ibv_dealloc_mw are in-line functions of <infiniband/verbs.h>
 * that go through the ops of a struct ibv_context, which a device of a test fills in as a provider
 * does.
 *
 * All members.  A table that belongs to a device of a test is found by the world's engine
 * (sched_world.engine).
 */
#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <stdint.h>
#include <sys/socket.h>

struct rdma_verbs {
	/* ---- connections: rdma_cm ---- */
	struct rdma_event_channel *(*create_event_channel)(void);
	void (*destroy_event_channel)(struct rdma_event_channel *channel);
	int (*create_id)(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
			 enum rdma_port_space ps);
	int (*destroy_id)(struct rdma_cm_id *id);
	int (*migrate_id)(struct rdma_cm_id *id, struct rdma_event_channel *channel);
	int (*bind_addr)(struct rdma_cm_id *id, struct sockaddr *addr);
	int (*resolve_addr)(struct rdma_cm_id *id, struct sockaddr *src, struct sockaddr *dst,
			    int timeout_ms);
	int (*resolve_route)(struct rdma_cm_id *id, int timeout_ms);
	int (*listen)(struct rdma_cm_id *id, int backlog);
	int (*connect)(struct rdma_cm_id *id, struct rdma_conn_param *param);
	int (*accept)(struct rdma_cm_id *id, struct rdma_conn_param *param);
	int (*reject)(struct rdma_cm_id *id, const void *private_data, uint8_t bytes);
	int (*disconnect)(struct rdma_cm_id *id);
	int (*set_option)(struct rdma_cm_id *id, int level, int optname, void *optval,
			  size_t optlen);
	/* The channel's fd does not block: -1 and EAGAIN when there is no event. */
	int (*get_cm_event)(struct rdma_event_channel *channel, struct rdma_cm_event **event);
	int (*ack_cm_event)(struct rdma_cm_event *event);
	uint16_t (*get_src_port)(struct rdma_cm_id *id);
	/* With an SRQ and CQs of the caller's in attr. */
	int (*create_qp)(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
	void (*destroy_qp)(struct rdma_cm_id *id);

	/* ---- verbs ---- */
	int (*query_device)(struct ibv_context *context, struct ibv_device_attr *attr);
	int (*query_port)(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *context);
	int (*dealloc_pd)(struct ibv_pd *pd);
	struct ibv_mr *(*reg_mr)(struct ibv_pd *pd, void *addr, size_t length, int access);
	int (*dereg_mr)(struct ibv_mr *mr);
	struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *context);
	int (*destroy_comp_channel)(struct ibv_comp_channel *channel);
	struct ibv_cq *(*create_cq)(struct ibv_context *context, int cqe, void *cq_context,
				    struct ibv_comp_channel *channel, int comp_vector);
	int (*destroy_cq)(struct ibv_cq *cq);
	int (*get_cq_event)(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **context);
	void (*ack_cq_events)(struct ibv_cq *cq, unsigned int count);
	struct ibv_srq *(*create_srq)(struct ibv_pd *pd, struct ibv_srq_init_attr *attr);
	int (*destroy_srq)(struct ibv_srq *srq);
	int (*modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
	int (*query_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
			struct ibv_qp_init_attr *init);
	struct ibv_ah *(*create_ah)(struct ibv_pd *pd, struct ibv_ah_attr *attr);
	int (*destroy_ah)(struct ibv_ah *ah);
	int (*get_async_event)(struct ibv_context *context, struct ibv_async_event *event);
	void (*ack_async_event)(struct ibv_async_event *event);
};
