/* SPDX-License-Identifier: MIT
 * transport/rdma/libibverbs.c - see libibverbs.h.
 *
 * The members are the libraries' functions themselves, but where those are macros, or give a
 * descriptor that blocks: nobody here may wait for an event.
 */
#include "transport/rdma/libibverbs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RDMA_CM "/dev/infiniband/rdma_cm"
#define SOFT    "modprobe -a rdma_rxe rdma_ucm && rdma link add rxe0 type rxe netdev eth0"

/* ---- the table ---- */

/* 0, or -1 and errno. */
static int unblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static struct rdma_event_channel *create_event_channel(void)
{
	struct rdma_event_channel *channel = rdma_create_event_channel();

	if (channel && unblock(channel->fd) < 0) {
		int error = errno;
		rdma_destroy_event_channel(channel);
		errno = error;
		return NULL;
	}
	return channel;
}

static struct ibv_comp_channel *create_comp_channel(struct ibv_context *context)
{
	struct ibv_comp_channel *channel = ibv_create_comp_channel(context);

	if (channel && unblock(channel->fd) < 0) {
		int error = errno;
		(void)ibv_destroy_comp_channel(channel);
		errno = error;
		return NULL;
	}
	return channel;
}

/* The first thing that is done with a device: its asynchronous events come by a descriptor of the
 * context's. */
static struct ibv_pd *alloc_pd(struct ibv_context *context)
{
	return unblock(context->async_fd) < 0 ? NULL : ibv_alloc_pd(context);
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return ibv_reg_mr(pd, addr, length, (unsigned int)access);
}

static int query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr)
{
	return ibv_query_port(context, port, attr);
}

const struct rdma_verbs rdma_libibverbs = {
	.create_event_channel = create_event_channel,
	.destroy_event_channel = rdma_destroy_event_channel,
	.create_id = rdma_create_id,
	.destroy_id = rdma_destroy_id,
	.migrate_id = rdma_migrate_id,
	.bind_addr = rdma_bind_addr,
	.resolve_addr = rdma_resolve_addr,
	.resolve_route = rdma_resolve_route,
	.listen = rdma_listen,
	.connect = rdma_connect,
	.accept = rdma_accept,
	.reject = rdma_reject,
	.disconnect = rdma_disconnect,
	.set_option = rdma_set_option,
	.get_cm_event = rdma_get_cm_event,
	.ack_cm_event = rdma_ack_cm_event,
	.create_qp = rdma_create_qp,
	.destroy_qp = rdma_destroy_qp,
	.query_device = ibv_query_device,
	.query_port = query_port,
	.alloc_pd = alloc_pd,
	.dealloc_pd = ibv_dealloc_pd,
	.reg_mr = reg_mr,
	.dereg_mr = ibv_dereg_mr,
	.create_comp_channel = create_comp_channel,
	.destroy_comp_channel = ibv_destroy_comp_channel,
	.create_cq = ibv_create_cq,
	.destroy_cq = ibv_destroy_cq,
	.get_cq_event = ibv_get_cq_event,
	.ack_cq_events = ibv_ack_cq_events,
	.create_srq = ibv_create_srq,
	.destroy_srq = ibv_destroy_srq,
	.modify_qp = ibv_modify_qp,
	.query_qp = ibv_query_qp,
	.create_ah = ibv_create_ah,
	.destroy_ah = ibv_destroy_ah,
	.get_async_event = ibv_get_async_event,
	.ack_async_event = ibv_ack_async_event,
	.get_src_port = rdma_get_src_port,
};

/* ---- what is there ---- */

/* Devices that programs can use; -1: the kernel offers none to programs at all. */
static int count_devices(void)
{
	int count = -1;
	struct ibv_device **list = ibv_get_device_list(&count);

	if (!list)
		return -1;
	ibv_free_device_list(list);
	return count;
}

int rdma_libibverbs_check(const struct log *log)
{
	int count = count_devices();

	if (count < 0) {
		log_write(log, LOG_LEVEL_ERROR,
			  "catmint: no RDMA here: the kernel's ib_uverbs is not loaded; load a "
			  "card's driver, or have a software device: " SOFT);
		return -ENODEV;
	}
	if (count == 0) {
		log_write(log, LOG_LEVEL_ERROR,
			  "catmint: no RDMA device (/sys/class/infiniband) that libibverbs drives; "
			  "load a card's driver, or have a software device: " SOFT);
		return -ENODEV;
	}
	if (access(RDMA_CM, R_OK | W_OK) == 0)
		return 0;
	int error = errno;
	log_write(log, LOG_LEVEL_ERROR, "catmint: " RDMA_CM ": %s; %s", strerror(error),
		  error == ENOENT ? "modprobe rdma_ucm" : "chmod 666 " RDMA_CM);
	return error == ENOENT ? -ENODEV : -error;
}
