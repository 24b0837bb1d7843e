/* SPDX-License-Identifier: MIT
 * transport/rdma/device.c - the instance's device: completion queue, shared receive queue, credit
 * words, and its asynchronous events.
 *
 * Several instances of a process share the context of a device, and so its asynchronous events: one
 * of them reads each.  So nothing rests on them alone: a queue pair that broke is also seen by the
 * completions of what it had to do, a device that was removed by rdma_cm, which tells each id.
 */
#include "transport/rdma/rdma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* Of the completion queue, for all datagram sockets. */
#define RDMA_DATAGRAM_ENTRIES ((uint64_t)RDMA_DATAGRAMS * 96)

static struct rdma_engine *engine_of_device(struct rdma_device *device)
{
	return container_of(device, struct rdma_engine, device);
}

/* ---- descriptors ---- */

/* The device woke us: poll looks at the completion queue. */
static void completion_event(struct fd_watch *watch, uint32_t events)
{
	struct rdma_device *device = container_of(watch, struct rdma_device, completions);
	const struct rdma_verbs *verbs = engine_of_device(device)->verbs;
	struct ibv_cq *cq;
	void *context;

	(void)events;
	while (!device->gone && verbs->get_cq_event(device->channel, &cq, &context) == 0)
		verbs->ack_cq_events(cq, 1);
}

static void broken_qp(struct rdma_engine *re, const struct ibv_qp *qp)
{
	list_for_each_safe (node, after, &re->conns) {
		struct rdma_conn *conn = container_of(node, struct rdma_conn, in_engine);
		if (conn->qp == qp) {
			rdma_conn_fail(conn, -ECONNRESET);
			return;
		}
	}
}

static void async_event(struct fd_watch *watch, uint32_t events)
{
	struct rdma_device *device = container_of(watch, struct rdma_device, asyncs);
	struct rdma_engine *re = engine_of_device(device);
	struct ibv_async_event event;
	bool lost = false;

	(void)events;
	while (!lost && re->verbs->get_async_event(device->context, &event) == 0) {
		enum ibv_event_type type = event.event_type;
		const struct ibv_qp *qp = event.element.qp;
		re->verbs->ack_async_event(&event);
		if (type == IBV_EVENT_QP_FATAL || type == IBV_EVENT_QP_REQ_ERR ||
		    type == IBV_EVENT_QP_ACCESS_ERR)
			broken_qp(re, qp);
		lost = type == IBV_EVENT_DEVICE_FATAL ||
		       (type == IBV_EVENT_CQ_ERR && event.element.cq == device->cq) ||
		       (type == IBV_EVENT_SRQ_ERR && event.element.srq == device->srq);
	}
	if (lost)
		rdma_device_lost(re);
}

static int watch(struct rdma_engine *re, struct fd_watch *fd_watch, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	fd_watch->fd = fd;
	fd_watch->lazy = true;
	return fdset_add(&rdma_sched(re)->fds, fd_watch, EPOLLIN);
}

/* ---- opening ---- */

static uint32_t at_most(uint64_t value, uint64_t limit)
{
	return (uint32_t)(value < limit ? value : limit);
}

/* What the device allows; -errno. */
static int learn_limits(struct rdma_engine *re, struct rdma_cm_id *id)
{
	const struct config *config = &rdma_sched(re)->config;
	struct rdma_device *device = &re->device;
	struct ibv_device_attr attr;
	struct ibv_port_attr port;
	int err = re->verbs->query_device(id->verbs, &attr);

	if (!err)
		err = re->verbs->query_port(id->verbs, id->port_num ? id->port_num : 1, &port);
	if (err)
		return err > 0 ? -err : rdma_errno();
	device->windows = (attr.device_cap_flags &
			   (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B)) != 0;
	device->sge_max = at_most((uint64_t)attr.max_sge, OP_SEGMENTS_MAX + 1);
	device->responder_resources = (uint8_t)at_most((uint64_t)attr.max_qp_rd_atom, 16);
	device->initiator_depth = (uint8_t)at_most((uint64_t)attr.max_qp_init_rd_atom, 16);
	device->read_bytes_max = at_most(port.max_msg_sz ? port.max_msg_sz : 1U << 23, 1U << 30);
	device->receives_max =
		at_most((uint64_t)config->rdma_receive_buffers, (uint64_t)attr.max_srq_wr);
	device->inline_max = RDMA_SLOT_BYTES;
	re->conns_max = (uint32_t)config->rdma_connections_max;
	device->depth = 16;
	while (device->depth < (uint64_t)config->rdma_send_depth &&
	       2 * device->depth <= (uint32_t)attr.max_qp_wr)
		device->depth *= 2;
	uint64_t room = attr.max_cqe > 0 ? (uint64_t)attr.max_cqe : 0;
	uint64_t others = device->receives_max + RDMA_DATAGRAM_ENTRIES;
	room = room > others ? room - others : 0;
	re->conns_max = at_most(re->conns_max, room / device->depth);
	if (re->conns_max == 0 || device->receives_max < 2 * RDMA_SLACK || device->sge_max < 2)
		return -ENOTSUP;
	return 0;
}

static int open_tables(struct rdma_engine *re)
{
	uint32_t size = 1;

	while (size < 2 * re->conns_max)
		size *= 2;
	re->by_qp_mask = size - 1;
	re->by_qp = calloc(size, sizeof(struct rdma_conn *));
	re->by_index = calloc(re->conns_max, sizeof(struct rdma_conn *));
	re->memory.regions = calloc(64, sizeof(struct rdma_region));
	re->memory.size = re->memory.regions ? 64 : 0;
	re->device.words = aligned_alloc(64, re->conns_max * sizeof(struct rdma_word));
	re->receives = calloc(re->device.receives_max, sizeof(char *));
	re->free_receives = calloc(re->device.receives_max, sizeof(uint32_t));
	if (!re->by_qp || !re->by_index || !re->memory.regions || !re->device.words ||
	    !re->receives || !re->free_receives)
		return -ENOMEM;
	for (uint32_t i = 0; i < re->device.receives_max; i++)
		re->free_receives[i] = i;
	re->num_free = re->device.receives_max;
	re->num_bare = re->num_free;
	memset(re->device.words, 0, re->conns_max * sizeof(struct rdma_word));
	return 0;
}

static int open_queues(struct rdma_engine *re)
{
	const struct rdma_verbs *verbs = re->verbs;
	struct rdma_device *device = &re->device;
	struct ibv_srq_init_attr attr = {.attr = {.max_wr = device->receives_max, .max_sge = 1}};
	uint64_t entries = device->receives_max + RDMA_DATAGRAM_ENTRIES +
			   re->conns_max * (uint64_t)device->depth;

	if (!(device->pd = verbs->alloc_pd(device->context)))
		return rdma_errno();
	if (!(device->channel = verbs->create_comp_channel(device->context)))
		return rdma_errno();
	if (!(device->cq =
		      verbs->create_cq(device->context, (int)entries, NULL, device->channel, 0)))
		return rdma_errno();
	if (!(device->srq = verbs->create_srq(device->pd, &attr)))
		return rdma_errno();
	return 0;
}

static int open_memory(struct rdma_engine *re)
{
	struct heap *heap = rdma_sched(re)->heap;
	uint64_t frame = (uint64_t)rdma_sched(re)->config.rdma_buffer_bytes;

	/* Those that are posted, as many that wait to be popped, and the application's. */
	if (heap->frame_bytes == 0)
		heap_set_frames(heap, frame, 3 * re->device.receives_max);
	re->device.watcher.going = rdma_memory_going;
	heap_watch(heap, &re->device.watcher);
	re->device.watching = true;
	re->post_wanted = RDMA_SLACK;
	return rdma_post_receives(re, 1) > 0 ? 0 : -ENOMEM;
}

static bool is_configured(const struct rdma_engine *re, const struct rdma_cm_id *id)
{
	const char *name = rdma_sched(re)->config.rdma_device;

	return name[0] == '\0' || strcmp(name, id->verbs->device->name) == 0;
}

int rdma_device_use(struct rdma_engine *re, struct rdma_cm_id *id)
{
	struct rdma_device *device = &re->device;
	const struct log *log = &rdma_sched(re)->log;

	if (device->gone)
		return -ENODEV;
	if (!id->verbs)
		return -EADDRNOTAVAIL;
	if (device->context == id->verbs)
		return 0;
	if (device->context || !is_configured(re, id)) {
		log_write(log, LOG_LEVEL_WARNING,
			  "rdma: an address is one of the device %s, which is not this instance's",
			  id->verbs->device->name);
		return -EADDRNOTAVAIL;
	}
	device->context = id->verbs;
	device->completions.fn = completion_event;
	device->asyncs.fn = async_event;
	int err = learn_limits(re, id);
	if (!err)
		err = open_tables(re);
	if (!err)
		err = open_queues(re);
	if (!err)
		err = open_memory(re);
	if (!err)
		err = watch(re, &device->completions, device->channel->fd);
	if (!err)
		err = watch(re, &device->asyncs, device->context->async_fd);
	if (err) {
		log_write(log, LOG_LEVEL_ERROR, "rdma: the device %s cannot be used: %s",
			  id->verbs->device->name, strerror(-err));
		rdma_device_close(re);
	}
	return err;
}

/* ---- the end ---- */

/* Queues first: then nothing receives into frames. */
static void close_queues(struct rdma_engine *re)
{
	const struct rdma_verbs *verbs = re->verbs;
	struct rdma_device *device = &re->device;

	if (device->srq)
		(void)verbs->destroy_srq(device->srq);
	if (device->cq)
		(void)verbs->destroy_cq(device->cq);
	if (device->channel)
		(void)verbs->destroy_comp_channel(device->channel);
}

static void free_frames(struct rdma_engine *re)
{
	struct heap *heap = rdma_sched(re)->heap;

	for (uint32_t i = 0; re->receives && i < re->device.receives_max; i++) {
		if (re->receives[i])
			(void)heap_free(heap, re->receives[i]);
	}
	free(re->receives);
	free(re->free_receives);
	re->receives = NULL;
	re->free_receives = NULL;
	re->num_free = 0;
	re->num_bare = 0;
	re->ungranted = 0;
	re->post_wanted = 0;
}

void rdma_device_close(struct rdma_engine *re)
{
	struct rdma_device *device = &re->device;
	struct fdset *fds = &rdma_sched(re)->fds;

	fdset_remove(fds, &device->completions);
	fdset_remove(fds, &device->asyncs);
	close_queues(re);
	free_frames(re);
	if (device->watching)
		heap_unwatch(&device->watcher);
	rdma_memory_close(re);
	if (device->pd)
		(void)re->verbs->dealloc_pd(device->pd);
	free(device->words);
	free(re->by_qp);
	free(re->by_index);
	re->by_qp = NULL;
	re->by_index = NULL;
	*device = (struct rdma_device){.gone = device->gone};
}

void rdma_device_lost(struct rdma_engine *re)
{
	const struct log *log = &rdma_sched(re)->log;

	if (re->device.gone || !re->device.context)
		return;
	log_write(log, LOG_LEVEL_ERROR, "rdma: the device %s is gone",
		  re->device.context->device->name);
	re->device.gone = true;
	rdma_datagrams_end(re, -ENODEV);
	list_for_each_safe (node, after, &re->listeners) {
		struct rdma_listener *listener =
			container_of(node, struct rdma_listener, in_engine);
		rdma_listener_close(listener, -ENODEV);
	}
	while (!list_empty(&re->conns)) {
		struct rdma_conn *conn = container_of(re->conns.next, struct rdma_conn, in_engine);
		rdma_conn_lost(conn, -ENODEV);
	}
	rdma_device_close(re);
}
