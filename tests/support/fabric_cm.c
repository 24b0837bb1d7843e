/* tests/support/fabric_cm.c: see fabric.h.  rdma_cm: channels, identifiers, addresses, ports. */
#include "support/fabric_own.h"

#include <errno.h>
#include <string.h>

static int fail(int err)
{
	errno = err;
	return -1;
}

/* ---- channels ---- */

struct rdma_event_channel *fabric_open_channel(struct fabric_device *device)
{
	if (fabric_call_fails(device))
		return NULL;
	struct fabric_channel *channel = fabric_alloc(sizeof(*channel));
	fabric_inbox_open(&channel->inbox);
	channel->pub.fd = channel->inbox.fd;
	fabric_born(device, &channel->object, FABRIC_CHANNEL, channel);
	return &channel->pub;
}

void fabric_destroy_event_channel(struct rdma_event_channel *pub)
{
	struct fabric_channel *channel = fabric_channel_of(pub);

	if (!channel)
		return;
	if (channel->object.users > 0) {
		fabric_misuse(channel->object.device, "an event channel in use is destroyed");
		return;
	}
	fabric_unmake_channel(channel);
}

void fabric_unmake_channel(struct fabric_channel *channel)
{
	struct list *item;

	while ((item = fabric_inbox_take(&channel->inbox)))
		fabric_free(container_of(item, struct fabric_cm_event, link));
	fabric_inbox_close(&channel->inbox);
	fabric_die(&channel->object);
}

/* ---- addresses ---- */

struct in6_addr fabric_address(const struct sockaddr *addr)
{
	struct in6_addr address = IN6ADDR_ANY_INIT;

	if (addr->sa_family == AF_INET6) {
		address = ((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
	} else {
		address.s6_addr[10] = 0xff;
		address.s6_addr[11] = 0xff;
		memcpy(&address.s6_addr[12],
		       &((const struct sockaddr_in *)(const void *)addr)->sin_addr, 4);
	}
	return address;
}

static bool is_any(const struct in6_addr *address)
{
	static const struct in6_addr any_v4 = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

	return IN6_IS_ADDR_UNSPECIFIED(address) || memcmp(address, &any_v4, sizeof(any_v4)) == 0;
}

uint16_t fabric_port_of(const struct sockaddr *addr)
{
	/* sin_port and sin6_port are in the same place */
	return ntohs(((const struct sockaddr_in *)(const void *)addr)->sin_port);
}

void fabric_set_address(struct sockaddr_storage *to, const struct in6_addr *address, uint16_t port)
{
	memset(to, 0, sizeof(*to));
	if (IN6_IS_ADDR_V4MAPPED(address)) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)to;
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, &address->s6_addr[12], 4);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)to;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		in6->sin6_addr = *address;
	}
}

static bool is_family(const struct sockaddr *addr)
{
	return addr->sa_family == AF_INET || addr->sa_family == AF_INET6;
}

/* The device's address of that family. */
static const struct in6_addr *own_address(const struct fabric_device *device,
					  const struct in6_addr *like)
{
	if (IN6_IS_ADDR_V4MAPPED(like))
		return &device->v4;
	return device->has_v6 ? &device->v6 : NULL;
}

/* ---- identifiers ---- */

struct fabric_id *fabric_make_id(struct fabric_channel *channel, void *context,
				 enum rdma_port_space ps)
{
	struct fabric_device *device = channel->object.device;
	struct fabric *fabric = device->fabric;
	struct fabric_id *id = fabric_alloc(sizeof(*id));
	uint32_t number = fabric->num_ids++;

	if ((number & (number - 1)) == 0)
		fabric->ids = fabric_realloc(fabric->ids, (number ? 2 * (size_t)number : 1) *
								  sizeof(struct fabric_id *));
	fabric->ids[number] = id;
	id->number = number;
	id->peer = UINT32_MAX;
	id->channel = channel;
	id->deadline_ns = FABRIC_NEVER;
	id->pub.channel = &channel->pub;
	id->pub.context = context;
	id->pub.ps = ps;
	id->pub.qp_type = ps == RDMA_PS_UDP ? IBV_QPT_UD : IBV_QPT_RC;
	channel->object.users++;
	fabric_born(device, &id->object, FABRIC_ID, id);
	return id;
}

int fabric_create_id(struct rdma_event_channel *pub, struct rdma_cm_id **into, void *context,
		     enum rdma_port_space ps)
{
	struct fabric_channel *channel = fabric_channel_of(pub);

	if (!channel || (ps != RDMA_PS_TCP && ps != RDMA_PS_UDP))
		return fail(EINVAL);
	if (fabric_call_fails(channel->object.device))
		return -1;
	*into = &fabric_make_id(channel, context, ps)->pub;
	return 0;
}

void fabric_forget_id(struct fabric_id *id)
{
	id->object.device->fabric->ids[id->number] = NULL;
	id->channel->object.users--;
	if (id->pub.qp)
		((struct fabric_qp *)(void *)id->pub.qp)->id = NULL;
	fabric_die(&id->object);
}

void fabric_unmake_id(struct fabric_id *id)
{
	fabric_unreport(id);
	fabric_forget_id(id);
}

int fabric_destroy_id(struct rdma_cm_id *pub)
{
	struct fabric_id *id = fabric_id_of(pub);

	if (!id)
		return fail(EINVAL);
	struct fabric *fabric = id->object.device->fabric;
	if (id->pub.qp)
		fabric_misuse(id->object.device, "an id is destroyed that has a queue pair");
	if (id->object.unacked > 0)
		fabric_misuse(id->object.device,
			      "an id is destroyed whose events were not acknowledged");
	fabric_leave(id);
	fabric_unmake_id(id);
	fabric_kick(fabric);
	return 0;
}

/* rdma_migrate_id(3): events that were not taken move, too. */
int fabric_migrate_id(struct rdma_cm_id *pub, struct rdma_event_channel *to)
{
	struct fabric_id *id = fabric_id_of(pub);
	struct fabric_channel *channel = fabric_channel_of(to);

	if (!id || !channel)
		return fail(EINVAL);
	if (fabric_call_fails(id->object.device))
		return -1;
	struct fabric_inbox *old = &id->channel->inbox;
	for (struct list *item = old->items.next; item != &old->items;) {
		struct fabric_cm_event *event = container_of(item, struct fabric_cm_event, link);
		item = item->next;
		if (event->owner == id) {
			fabric_inbox_drop(old, &event->link);
			fabric_inbox_put(&channel->inbox, &event->link);
		}
	}
	id->channel->object.users--;
	channel->object.users++;
	id->channel = channel;
	id->pub.channel = to;
	return 0;
}

void fabric_attach(struct fabric_id *id)
{
	id->pub.verbs = &id->object.device->context;
	id->pub.port_num = FABRIC_PORT;
}

/* ---- ports ---- */

static bool collides(const struct fabric_id *one, const struct fabric_id *other, uint16_t port,
		     const struct in6_addr *address)
{
	struct in6_addr bound = fabric_address(&other->pub.route.addr.src_addr);

	/* Ids of accepted connections have the listener's port. */
	if (other == one || other->state == FABRIC_IDLE || other->port != port ||
	    other->pub.ps != one->pub.ps || other->passive)
		return false;
	if (one->reuse && other->reuse && other->state != FABRIC_LISTENING)
		return false;
	return is_any(address) || is_any(&bound) || memcmp(&bound, address, sizeof(bound)) == 0;
}

static bool is_free(const struct fabric_id *id, uint16_t port, const struct in6_addr *address)
{
	list_for_each (item, &id->object.device->objects) {
		struct fabric_object *object = container_of(item, struct fabric_object, link);
		if (object->kind == FABRIC_ID &&
		    collides(id, container_of(object, struct fabric_id, object), port, address))
			return false;
	}
	return true;
}

/* One that is free; 0: none. */
static uint16_t some_port(struct fabric_id *id, const struct in6_addr *address)
{
	struct fabric_device *device = id->object.device;

	for (uint32_t i = 0; i < 28232; i++) { /* 32768 to 60999, as Linux */
		uint16_t port = device->next_port++;
		if (device->next_port == 61000)
			device->next_port = 32768;
		if (is_free(id, port, address))
			return port;
	}
	return 0;
}

static int bind_id(struct fabric_id *id, const struct in6_addr *address, uint16_t port)
{
	if (port == 0)
		port = some_port(id, address);
	else if (!is_free(id, port, address))
		return EADDRINUSE;
	if (port == 0)
		return EADDRNOTAVAIL;
	id->port = port;
	id->state = FABRIC_BOUND;
	fabric_set_address(&id->pub.route.addr.src_storage, address, port);
	if (!is_any(address))
		fabric_attach(id);
	return 0;
}

int fabric_bind_addr(struct rdma_cm_id *pub, struct sockaddr *addr)
{
	struct fabric_id *id = fabric_id_of(pub);

	if (!id || id->state != FABRIC_IDLE || !is_family(addr))
		return fail(EINVAL);
	if (fabric_call_fails(id->object.device))
		return -1;
	struct in6_addr address = fabric_address(addr);
	if (!is_any(&address) && !fabric_has(id->object.device, &address))
		return fail(IN6_IS_ADDR_LOOPBACK(&address) || address.s6_addr[12] == 127
				    ? ENODEV /* an address of the host, on no such device */
				    : EADDRNOTAVAIL);
	int err = bind_id(id, &address, fabric_port_of(addr));
	return err ? fail(err) : 0;
}

uint16_t fabric_get_src_port(struct rdma_cm_id *pub)
{
	const struct fabric_id *id = fabric_id_of(pub);

	return id ? htons(id->port) : 0;
}

int fabric_listen(struct rdma_cm_id *pub, int backlog)
{
	struct fabric_id *id = fabric_id_of(pub);

	if (!id || id->state != FABRIC_BOUND)
		return fail(EINVAL);
	if (fabric_call_fails(id->object.device))
		return -1;
	id->backlog = backlog > 0 && backlog < 1024 ? backlog : 1024; /* as Linux */
	id->state = FABRIC_LISTENING;
	return 0;
}

int fabric_set_option(struct rdma_cm_id *pub, int level, int optname, void *optval, size_t optlen)
{
	struct fabric_id *id = fabric_id_of(pub);

	if (!id || level != RDMA_OPTION_ID)
		return fail(level == RDMA_OPTION_ID ? EINVAL : ENOSYS);
	switch (optname) {
	case RDMA_OPTION_ID_TOS:
		return optlen == sizeof(uint8_t) ? 0 : fail(EINVAL);
	case RDMA_OPTION_ID_REUSEADDR:
		if (optlen != sizeof(int) || id->state != FABRIC_IDLE)
			return fail(EINVAL);
		id->reuse = *(int *)optval != 0;
		return 0;
	case RDMA_OPTION_ID_AFONLY:
		if (optlen != sizeof(int) || id->state != FABRIC_IDLE)
			return fail(EINVAL);
		id->only_v6 = *(int *)optval != 0;
		return 0;
	case RDMA_OPTION_ID_ACK_TIMEOUT:
		if (optlen != sizeof(uint8_t) || id->pub.qp_type == IBV_QPT_UD)
			return fail(EINVAL);
		id->ack_timeout = *(uint8_t *)optval;
		return 0;
	default:
		return fail(ENOSYS);
	}
}

/* ---- resolving ---- */

static bool is_reachable(const struct fabric_id *id)
{
	struct in6_addr to = fabric_address(&id->pub.route.addr.dst_addr);
	const struct fabric_device *other = fabric_find(id->object.device->fabric, &to);

	return other && fabric_path(id->object.device, other);
}

static void address_done(void *arg)
{
	struct fabric_id *id = arg;

	if (id->object.dead || id->state != FABRIC_ADDR_QUERY)
		return;
	if (is_reachable(id)) {
		id->state = FABRIC_ADDR_RESOLVED;
		(void)fabric_report(id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
	} else {
		id->state = FABRIC_BOUND;
		(void)fabric_report(id, RDMA_CM_EVENT_ADDR_ERROR, id->resolve_status);
	}
}

/* Local address, if there is none yet. */
static int bind_for(struct fabric_id *id, const struct sockaddr *src, const struct in6_addr *to)
{
	const struct fabric_device *device = id->object.device;
	struct in6_addr from = fabric_address(&id->pub.route.addr.src_addr);
	const struct in6_addr *own = own_address(device, to);
	uint16_t port = 0;

	if (src && id->state == FABRIC_IDLE) {
		struct in6_addr wanted = fabric_address(src);
		port = fabric_port_of(src);
		if (!is_any(&wanted) && !fabric_has(device, &wanted))
			return EADDRNOTAVAIL;
	}
	if (!own)
		return ENETUNREACH;
	if (id->state == FABRIC_IDLE)
		return bind_id(id, own, port);
	if (is_any(&from))
		fabric_set_address(&id->pub.route.addr.src_storage, own, id->port);
	fabric_attach(id);
	return 0;
}

/* rdma_resolve_addr(3).  Of an address that nobody has, no answer comes within the time. */
int fabric_resolve_addr(struct rdma_cm_id *pub, struct sockaddr *src, struct sockaddr *dst,
			int timeout_ms)
{
	struct fabric_id *id = fabric_id_of(pub);

	if (!id || !is_family(dst) || (id->state != FABRIC_IDLE && id->state != FABRIC_BOUND))
		return fail(EINVAL);
	if (fabric_call_fails(id->object.device))
		return -1;
	struct fabric *fabric = id->object.device->fabric;
	struct in6_addr to = fabric_address(dst);
	int err = bind_for(id, src, &to);
	if (err)
		return fail(err);
	bool loopback =
		IN6_IS_ADDR_LOOPBACK(&to) || (IN6_IS_ADDR_V4MAPPED(&to) && to.s6_addr[12] == 127);
	fabric_set_address(&id->pub.route.addr.dst_storage, &to, fabric_port_of(dst));
	id->state = FABRIC_ADDR_QUERY;
	id->resolve_status = loopback ? -ENODEV : -ETIMEDOUT;
	uint64_t wait = is_reachable(id) || loopback ? fabric_delay(fabric)
						     : (uint64_t)timeout_ms * FABRIC_MS;
	fabric_put_event(fabric, fabric_now(fabric) + wait, address_done, id, &id->object);
	fabric_kick(fabric);
	return 0;
}

static void route_done(void *arg)
{
	struct fabric_id *id = arg;

	if (id->object.dead || id->state != FABRIC_ROUTE_QUERY)
		return;
	id->state = FABRIC_ROUTE_RESOLVED;
	(void)fabric_report(id, RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
}

int fabric_resolve_route(struct rdma_cm_id *pub, int timeout_ms)
{
	struct fabric_id *id = fabric_id_of(pub);

	(void)timeout_ms;
	if (!id || id->state != FABRIC_ADDR_RESOLVED)
		return fail(EINVAL);
	if (fabric_call_fails(id->object.device))
		return -1;
	struct fabric *fabric = id->object.device->fabric;
	id->state = FABRIC_ROUTE_QUERY;
	fabric_put_event(fabric, fabric_now(fabric) + fabric_delay(fabric), route_done, id,
			 &id->object);
	fabric_kick(fabric);
	return 0;
}

/* ---- queue pairs of identifiers ---- */

/* rdma_create_qp(3): ready to receive into, of datagrams to send, too. */
static int prepare(struct fabric_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = FABRIC_PORT,
		.qkey = RDMA_UDP_QKEY,
	};
	int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
	bool ud = qp->pub.qp_type == IBV_QPT_UD;

	int err =
		fabric_modify_qp(&qp->pub, &attr, mask | (ud ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS));
	if (err || !ud)
		return err;
	attr.qp_state = IBV_QPS_RTR;
	err = fabric_modify_qp(&qp->pub, &attr, IBV_QP_STATE);
	attr.qp_state = IBV_QPS_RTS;
	return err ? err : fabric_modify_qp(&qp->pub, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN);
}

int fabric_create_qp(struct rdma_cm_id *pub, struct ibv_pd *pd_pub, struct ibv_qp_init_attr *attr)
{
	struct fabric_id *id = fabric_id_of(pub);
	struct fabric_pd *pd = fabric_pd_of(pd_pub);

	if (!id || !pd || !id->pub.verbs || id->pub.qp || id->pub.verbs != pd_pub->context ||
	    attr->qp_type != id->pub.qp_type)
		return fail(EINVAL);
	struct fabric_qp *qp = fabric_make_qp(id->object.device, pd, attr);
	if (!qp)
		return -1;
	int err = prepare(qp);
	if (err) {
		fabric_unmake_qp(qp);
		return fail(err);
	}
	qp->id = id;
	id->pub.qp = &qp->pub;
	id->pub.pd = pd_pub;
	id->pub.send_cq = attr->send_cq;
	id->pub.recv_cq = attr->recv_cq;
	id->pub.srq = attr->srq;
	return 0;
}

void fabric_destroy_qp(struct rdma_cm_id *pub)
{
	struct fabric_id *id = fabric_id_of(pub);
	struct fabric_qp *qp = id && id->pub.qp ? fabric_qp_of(id->pub.qp) : NULL;

	if (!qp) {
		if (id)
			fabric_misuse(id->object.device, "an id without a queue pair loses it");
		return;
	}
	struct fabric *fabric = id->object.device->fabric;
	if (qp->object.unacked > 0)
		fabric_misuse(id->object.device, "a queue pair whose events were not acknowledged "
						 "is destroyed");
	fabric_deliver_some(qp);
	id->pub.qp = NULL;
	fabric_unmake_qp(qp);
	fabric_kick(fabric);
}
