/* tests/support/fabric_device.c: see fabric.h.  Devices: their tables, descriptors, events, faults.
 */
#include "support/fabric_own.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- tables ----
 *
 * rdma_create_event_channel has no argument, and a device is known by its table only: there are as
 * many of that function as there may be devices in the process. */

static struct fabric_device *slots[FABRIC_DEVICES];

#define CHANNEL_OF(n)                                          \
	static struct rdma_event_channel *channel_of_##n(void) \
	{                                                      \
		return fabric_open_channel(slots[n]);          \
	}

CHANNEL_OF(0)
CHANNEL_OF(1)
CHANNEL_OF(2)
CHANNEL_OF(3)
CHANNEL_OF(4)
CHANNEL_OF(5)
CHANNEL_OF(6)
CHANNEL_OF(7)
CHANNEL_OF(8)
CHANNEL_OF(9)
CHANNEL_OF(10)
CHANNEL_OF(11)
CHANNEL_OF(12)
CHANNEL_OF(13)
CHANNEL_OF(14)
CHANNEL_OF(15)

static struct rdma_event_channel *(*const channel_functions[FABRIC_DEVICES])(void) = {
	channel_of_0,  channel_of_1,  channel_of_2,  channel_of_3,  channel_of_4,  channel_of_5,
	channel_of_6,  channel_of_7,  channel_of_8,  channel_of_9,  channel_of_10, channel_of_11,
	channel_of_12, channel_of_13, channel_of_14, channel_of_15,
};

static const struct rdma_verbs verbs_of_all = {
	.destroy_event_channel = fabric_destroy_event_channel,
	.create_id = fabric_create_id,
	.destroy_id = fabric_destroy_id,
	.migrate_id = fabric_migrate_id,
	.bind_addr = fabric_bind_addr,
	.resolve_addr = fabric_resolve_addr,
	.resolve_route = fabric_resolve_route,
	.listen = fabric_listen,
	.connect = fabric_connect,
	.accept = fabric_accept,
	.reject = fabric_reject,
	.disconnect = fabric_disconnect,
	.set_option = fabric_set_option,
	.get_cm_event = fabric_get_cm_event,
	.ack_cm_event = fabric_ack_cm_event,
	.get_src_port = fabric_get_src_port,
	.create_qp = fabric_create_qp,
	.destroy_qp = fabric_destroy_qp,
	.query_device = fabric_query_device,
	.query_port = fabric_query_port,
	.alloc_pd = fabric_alloc_pd,
	.dealloc_pd = fabric_dealloc_pd,
	.reg_mr = fabric_reg_mr,
	.dereg_mr = fabric_dereg_mr,
	.create_comp_channel = fabric_create_comp_channel,
	.destroy_comp_channel = fabric_destroy_comp_channel,
	.create_cq = fabric_create_cq,
	.destroy_cq = fabric_destroy_cq,
	.get_cq_event = fabric_get_cq_event,
	.ack_cq_events = fabric_ack_cq_events,
	.create_srq = fabric_create_srq,
	.destroy_srq = fabric_destroy_srq,
	.modify_qp = fabric_modify_qp,
	.query_qp = fabric_query_qp,
	.create_ah = fabric_create_ah,
	.destroy_ah = fabric_destroy_ah,
	.get_async_event = fabric_get_async_event,
	.ack_async_event = fabric_ack_async_event,
};

/* ---- life ---- */

static void set_limits(struct fabric_limits *limits)
{
	*limits = (struct fabric_limits){
		.max_inline = 256,
		.mtu = IBV_MTU_1024,
		.memlock_bytes = UINT64_MAX,
		.cm_response_ns = 4300 * FABRIC_MS,
		.cm_retries = 15,
		.cm_timewait_ns = FABRIC_S,
		.ack_timeout_ns = 67 * FABRIC_MS,
	};
	limits->attr = (struct ibv_device_attr){
		.fw_ver = "0",
		.max_mr_size = UINT64_MAX,
		.page_size_cap = 4096,
		.max_qp = 65536,
		.max_qp_wr = 16384,
		.device_cap_flags = IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B |
				    IBV_DEVICE_RC_RNR_NAK_GEN | IBV_DEVICE_SRQ_RESIZE,
		.max_sge = FABRIC_SGES,
		.max_sge_rd = FABRIC_SGES,
		.max_cq = 65536,
		.max_cqe = 1 << 20,
		.max_mr = 65536,
		.max_pd = 1024,
		.max_qp_rd_atom = 16,
		.max_res_rd_atom = 1 << 20,
		.max_qp_init_rd_atom = 16,
		.atomic_cap = IBV_ATOMIC_NONE,
		.max_mw = 65536,
		.max_ah = 65536,
		.max_srq = 1024,
		.max_srq_wr = 32768,
		.max_srq_sge = FABRIC_SGES,
		.max_pkeys = 1,
		.phys_port_cnt = 1,
	};
}

static void set_ops(struct ibv_context_ops *ops)
{
	ops->alloc_mw = fabric_alloc_mw;
	ops->bind_mw = fabric_bind_mw;
	ops->dealloc_mw = fabric_dealloc_mw;
	ops->poll_cq = fabric_poll_cq;
	ops->req_notify_cq = fabric_req_notify_cq;
	ops->post_srq_recv = fabric_post_srq_recv;
	ops->post_send = fabric_post_send;
	ops->post_recv = fabric_post_recv;
}

static void take_slot(struct fabric_device *device)
{
	for (uint32_t i = 0; i < FABRIC_DEVICES; i++) {
		if (slots[i])
			continue;
		slots[i] = device;
		device->slot = i;
		device->verbs = verbs_of_all;
		device->verbs.create_event_channel = channel_functions[i];
		return;
	}
	fabric_misuse(device, "too many devices in the process");
}

static void set_addresses(struct fabric_device *device, const char *ipv4, const char *ipv6)
{
	device->v4.s6_addr[10] = 0xff;
	device->v4.s6_addr[11] = 0xff;
	device->has_v6 = ipv6 != NULL;
	if (inet_pton(AF_INET, ipv4, &device->v4.s6_addr[12]) != 1 ||
	    (ipv6 && inet_pton(AF_INET6, ipv6, &device->v6) != 1))
		abort();
}

struct fabric_device *fabric_add(struct fabric *fabric, const char *ipv4, const char *ipv6)
{
	struct fabric_device *device = fabric_alloc(sizeof(*device));

	device->fabric = fabric;
	device->index = fabric->num_devices++;
	fabric->devices[device->index] = device;
	take_slot(device);
	set_addresses(device, ipv4, ipv6);
	set_limits(&device->limits);
	list_init(&device->objects);
	fabric_inbox_open(&device->async);
	device->next_port = 32768;
	device->ibv.node_type = IBV_NODE_CA;
	device->ibv.transport_type = IBV_TRANSPORT_IB;
	(void)snprintf(device->ibv.name, sizeof(device->ibv.name), "fabric%u", device->index);
	(void)snprintf(device->ibv.dev_name, sizeof(device->ibv.dev_name), "uverbs%u",
		       device->index);
	device->context.device = &device->ibv;
	device->context.async_fd = device->async.fd;
	device->context.cmd_fd = -1;
	device->context.num_comp_vectors = 1;
	pthread_mutex_init(&device->context.mutex, NULL);
	set_ops(&device->context.ops);
	return device;
}

static void dismantle(struct fabric_object *object)
{
	switch (object->kind) {
	case FABRIC_CHANNEL:
		fabric_unmake_channel(container_of(object, struct fabric_channel, object));
		break;
	case FABRIC_ID:
		fabric_unmake_id(container_of(object, struct fabric_id, object));
		break;
	case FABRIC_MR:
		fabric_unmake_mr(container_of(object, struct fabric_mr, object));
		break;
	case FABRIC_MW:
		fabric_unmake_mw(container_of(object, struct fabric_mw, object));
		break;
	case FABRIC_COMP_CHANNEL:
		fabric_unmake_comp_channel(
			container_of(object, struct fabric_comp_channel, object));
		break;
	case FABRIC_CQ:
		fabric_unmake_cq(container_of(object, struct fabric_cq, object));
		break;
	case FABRIC_SRQ:
		fabric_unmake_srq(container_of(object, struct fabric_srq, object));
		break;
	case FABRIC_QP:
		fabric_unmake_qp(container_of(object, struct fabric_qp, object));
		break;
	case FABRIC_AH:
		fabric_unmake_ah(container_of(object, struct fabric_ah, object));
		break;
	case FABRIC_PD:
		fabric_die(object);
	}
}

/* A killed or lost host may have left anything. */
static void take_away(struct fabric_device *device)
{
	while (!list_empty(&device->objects)) {
		struct list *last = device->objects.prev;
		struct fabric_object *object = container_of(last, struct fabric_object, link);
		if (!device->killed && !device->vanished)
			fabric_misuse(device, "an object is left over");
		dismantle(object);
	}
}

void fabric_device_close(struct fabric_device *device)
{
	struct list *item;

	take_away(device);
	while ((item = fabric_inbox_take(&device->async)))
		fabric_free(container_of(item, struct fabric_async, link));
	fabric_inbox_close(&device->async);
	pthread_mutex_destroy(&device->context.mutex);
	fabric_free(device->qps);
	fabric_free(device->keys);
	slots[device->slot] = NULL;
}

/* ---- what is known of it ---- */

const struct rdma_verbs *fabric_verbs(struct fabric_device *device)
{
	return &device->verbs;
}

struct ibv_context *fabric_context(struct fabric_device *device)
{
	return &device->context;
}

struct fabric_device *fabric_device_of(const struct ibv_context *context)
{
	return (struct fabric_device *)(uintptr_t)context;
}

struct fabric_limits *fabric_limits(struct fabric_device *device)
{
	return &device->limits;
}

const struct fabric_counts *fabric_counts(const struct fabric_device *device)
{
	return &device->counts;
}

bool fabric_has(const struct fabric_device *device, const struct in6_addr *address)
{
	return memcmp(&device->v4, address, sizeof(*address)) == 0 ||
	       (device->has_v6 && memcmp(&device->v6, address, sizeof(*address)) == 0);
}

/* The last: a host that came again has the address of the one that went. */
struct fabric_device *fabric_find(struct fabric *fabric, const struct in6_addr *address)
{
	for (uint32_t i = fabric->num_devices; i > 0; i--)
		if (fabric_has(fabric->devices[i - 1], address))
			return fabric->devices[i - 1];
	return NULL;
}

static bool is_off(const struct fabric_device *device)
{
	return device->vanished || device->unplugged || device->removed;
}

bool fabric_path(const struct fabric_device *from, const struct fabric_device *to)
{
	return !is_off(from) && !is_off(to) && !from->fabric->cut[from->index][to->index];
}

int fabric_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	struct fabric_device *device = fabric_device_of(context);

	if (fabric_call_fails(device))
		return errno;
	*attr = device->limits.attr;
	return 0;
}

int fabric_query_port(struct ibv_context *context, uint8_t port, struct ibv_port_attr *attr)
{
	struct fabric_device *device = fabric_device_of(context);

	if (port != FABRIC_PORT)
		return EINVAL;
	if (fabric_call_fails(device))
		return errno;
	*attr = (struct ibv_port_attr){
		.state = device->unplugged ? IBV_PORT_DOWN : IBV_PORT_ACTIVE,
		.max_mtu = IBV_MTU_4096,
		.active_mtu = device->limits.mtu,
		.gid_tbl_len = device->has_v6 ? 2 : 1,
		.max_msg_sz = FABRIC_MESSAGE_MAX,
		.pkey_tbl_len = 1,
		.phys_state = device->unplugged ? 3 : 5, /* IBA 14.2.5.6: disabled, link up */
		.link_layer = IBV_LINK_LAYER_ETHERNET,
	};
	return 0;
}

/* ---- descriptors ---- */

void fabric_inbox_open(struct fabric_inbox *inbox)
{
	list_init(&inbox->items);
	inbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (inbox->fd < 0)
		abort();
}

void fabric_inbox_close(struct fabric_inbox *inbox)
{
	(void)close(inbox->fd);
}

void fabric_inbox_put(struct fabric_inbox *inbox, struct list *item)
{
	const uint64_t one = 1;

	/* always: whoever waits for edges wants one for each */
	if (write(inbox->fd, &one, sizeof(one)) != sizeof(one))
		abort();
	list_append(&inbox->items, item);
}

void fabric_inbox_drop(struct fabric_inbox *inbox, struct list *item)
{
	uint64_t count;

	list_remove(item);
	if (list_empty(&inbox->items) && read(inbox->fd, &count, sizeof(count)) != sizeof(count))
		abort();
}

struct list *fabric_inbox_take(struct fabric_inbox *inbox)
{
	struct list *first = inbox->items.next;

	if (list_empty(&inbox->items))
		return NULL;
	fabric_inbox_drop(inbox, first);
	return first;
}

void fabric_wake_host(struct fabric_device *device, bool readable)
{
	if (device->wake)
		device->wake(device->wake_arg, readable);
}

void fabric_on_wake(struct fabric_device *device, void (*fn)(void *arg, bool readable), void *arg)
{
	device->wake = fn;
	device->wake_arg = arg;
}

/* ---- asynchronous events ---- */

void fabric_tell(struct fabric_device *device, enum ibv_event_type type,
		 struct fabric_object *object, void *element)
{
	struct fabric_async *async = fabric_alloc(sizeof(*async));

	async->object = object;
	async->event.event_type = type;
	if (object)
		async->event.element.qp = element; /* or another of the union's pointers */
	else
		async->event.element.port_num = FABRIC_PORT;
	fabric_note(device->fabric, 0x100U + type);
	fabric_inbox_put(&device->async, &async->link);
	fabric_wake_host(device, true);
}

void fabric_untell(const struct fabric_object *object)
{
	struct fabric_inbox *inbox = &object->device->async;

	for (struct list *item = inbox->items.next; item != &inbox->items;) {
		struct fabric_async *async = container_of(item, struct fabric_async, link);
		item = item->next;
		if (async->object == object) {
			fabric_inbox_drop(inbox, &async->link);
			fabric_free(async);
		}
	}
}

int fabric_get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
	struct fabric_device *device = fabric_device_of(context);

	fabric_settle(device->fabric);
	struct list *item = fabric_inbox_take(&device->async);
	if (!item) {
		errno = EAGAIN;
		return -1;
	}
	struct fabric_async *async = container_of(item, struct fabric_async, link);
	*event = async->event;
	if (async->object)
		async->object->unacked++;
	fabric_free(async);
	return 0;
}

/* Whom an event is about. */
static struct fabric_object *object_of(const struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_CQ_ERR:
		return &((struct fabric_cq *)(void *)event->element.cq)->object;
	case IBV_EVENT_SRQ_ERR:
	case IBV_EVENT_SRQ_LIMIT_REACHED:
		return &((struct fabric_srq *)(void *)event->element.srq)->object;
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_COMM_EST:
	case IBV_EVENT_SQ_DRAINED:
	case IBV_EVENT_QP_LAST_WQE_REACHED:
		return &((struct fabric_qp *)(void *)event->element.qp)->object;
	default:
		return NULL;
	}
}

void fabric_ack_async_event(struct ibv_async_event *event)
{
	struct fabric_object *object = object_of(event);

	if (!object)
		return;
	if (object->unacked == 0)
		fabric_misuse(object->device, "an asynchronous event is acknowledged twice");
	else
		object->unacked--;
}

/* ---- what goes wrong ---- */

bool fabric_call_fails(struct fabric_device *device)
{
	device->counts.calls++;
	if (device->removed) {
		errno = EIO;
		return true;
	}
	if (fabric_counts_down(&device->fail_call)) {
		errno = device->fail_call.what;
		return true;
	}
	if (fabric_happens(device->fabric, device->fabric->chance.fail_call)) {
		errno = ENOMEM;
		return true;
	}
	return false;
}

void fabric_fail_post(struct fabric_device *device, uint64_t nth, int err)
{
	device->fail_post = (struct fabric_countdown){.left = nth, .what = err};
}

void fabric_fail_call(struct fabric_device *device, uint64_t nth, int err)
{
	device->fail_call = (struct fabric_countdown){.left = nth, .what = err};
}

void fabric_fail_work(struct fabric_device *device, uint64_t nth, enum ibv_wc_status status)
{
	device->fail_work = (struct fabric_countdown){.left = nth, .what = (int)status};
}

void fabric_cut(struct fabric_device *a, struct fabric_device *b, bool cut)
{
	a->fabric->cut[a->index][b->index] = cut;
	a->fabric->cut[b->index][a->index] = cut;
}

void fabric_plug(struct fabric_device *device, bool in)
{
	if (device->unplugged != in)
		return;
	device->unplugged = !in;
	fabric_tell(device, in ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR, NULL, NULL);
	fabric_kick(device->fabric);
}

void fabric_vanish(struct fabric_device *device)
{
	device->vanished = true;
}

void fabric_kill(struct fabric_device *device)
{
	device->killed = true;
	list_for_each (item, &device->objects) {
		struct fabric_object *object = container_of(item, struct fabric_object, link);
		if (object->kind == FABRIC_ID)
			fabric_leave(container_of(object, struct fabric_id, object));
		else if (object->kind == FABRIC_QP)
			container_of(object, struct fabric_qp, object)->gone = true;
	}
	fabric_kick(device->fabric);
}

void fabric_remove(struct fabric_device *device)
{
	device->removed = true;
	fabric_tell(device, IBV_EVENT_DEVICE_FATAL, NULL, NULL);
	list_for_each (item, &device->objects) {
		struct fabric_object *object = container_of(item, struct fabric_object, link);
		struct fabric_qp *qp = container_of(object, struct fabric_qp, object);
		struct fabric_id *id = container_of(object, struct fabric_id, object);
		if (object->kind == FABRIC_ID && id->pub.verbs) {
			fabric_close_id(id);
			(void)fabric_report(id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
		} else if (object->kind == FABRIC_QP) {
			qp->gone = device->limits.no_flush_when_removed;
			fabric_error_qp(qp);
		}
	}
	fabric_kick(device->fabric);
}
