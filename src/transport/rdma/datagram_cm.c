/* SPDX-License-Identifier: MIT
 * transport/rdma/datagram_cm.c - datagram sockets: their addresses, and those of their peers, by
 * rdma_cm.  See datagram.h.
 */
#include "transport/rdma/datagram.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG 64

int rdma_datagram_new(struct rdma_engine *re, int domain, struct queue **queue_out)
{
	uint32_t index = 0;

	while (index < RDMA_DATAGRAMS && re->datagrams[index])
		index++;
	if (index == RDMA_DATAGRAMS)
		return -ENOBUFS;
	struct rdma_datagram *dg = calloc(1, sizeof(*dg));
	if (!dg)
		return -ENOMEM;
	dg->user = RDMA_USER_DATAGRAM;
	dg->queue.ops = &rdma_datagram_ops;
	dg->queue.sched = rdma_sched(re);
	dg->queue.qd = -1;
	dg->engine = re;
	dg->domain = domain;
	dg->index = index;
	dg->local.ss_family = (sa_family_t)domain;
	op_list_init(&dg->pops);
	list_init(&dg->peers);
	re->datagrams[index] = dg;
	*queue_out = &dg->queue;
	return 0;
}

static socklen_t address_bytes(const struct rdma_datagram *dg)
{
	return dg->domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int check_address(const struct rdma_datagram *dg, const struct sockaddr *address,
			 socklen_t length)
{
	if (address->sa_family != dg->domain)
		return -EAFNOSUPPORT;
	return length < address_bytes(dg) ? -EINVAL : 0;
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
	/* in the same place for both families */
	((struct sockaddr_in *)address)->sin_port = port;
}

/* ---- ours ---- */

static int make_bound(struct rdma_engine *re, struct rdma_datagram *dg,
		      struct sockaddr_storage *address, struct rdma_cm_id **id_out)
{
	const struct rdma_verbs *verbs = re->verbs;

	if (verbs->create_id(re->channel, id_out, dg, RDMA_PS_UDP))
		return rdma_errno();
	int err = verbs->bind_addr(*id_out, (struct sockaddr *)address) ? rdma_errno() : 0;
	if (!err && (*id_out)->verbs)
		err = rdma_device_use(re, *id_out);
	if (err) {
		(void)verbs->destroy_id(*id_out);
		*id_out = NULL;
	}
	return err == -ENODEV ? -EADDRNOTAVAIL : err;
}

/* Bound to an address, and listening. */
static int open_id(struct rdma_datagram *dg, const struct sockaddr_storage *address)
{
	struct rdma_engine *re = dg->engine;
	struct sockaddr_storage to = *address;
	int err = make_bound(re, dg, &to, &dg->id);

	if (!err && re->verbs->listen(dg->id, BACKLOG)) {
		err = rdma_errno();
		(void)re->verbs->destroy_id(dg->id);
		dg->id = NULL;
	}
	if (err)
		return err;
	dg->local = *address;
	set_port(&dg->local, re->verbs->get_src_port(dg->id));
	return 0;
}

/* The queue pair, when an address of the device is known. */
static int need_qp(struct rdma_datagram *dg, const struct sockaddr_storage *own)
{
	struct sockaddr_storage address = *own;
	struct rdma_cm_id *id;

	if (dg->qp_id)
		return 0;
	address.ss_family = (sa_family_t)dg->domain;
	set_port(&address, 0);
	int err = dg->id ? 0 : open_id(dg, &address);
	if (err)
		return err;
	ASSERT(dg->id);
	if (dg->id->verbs)
		return rdma_datagram_open_qp(dg, dg->id);
	/* bound to any address */
	err = make_bound(dg->engine, dg, &address, &id);
	if (err)
		return err;
	uint16_t port = ((struct sockaddr_in *)&dg->local)->sin_port;
	dg->local = address;
	set_port(&dg->local, port);
	err = rdma_datagram_open_qp(dg, id);
	return err;
}

static int datagram_bind(struct queue *queue, const struct sockaddr *address, socklen_t length)
{
	struct rdma_datagram *dg = rdma_datagram_of(queue);
	struct sockaddr_storage to = {.ss_family = 0};
	int err = check_address(dg, address, length);

	if (err)
		return err;
	if (dg->id || dg->error)
		return dg->error ? dg->error : -EINVAL;
	memcpy(&to, address, address_bytes(dg));
	err = open_id(dg, &to);
	if (err)
		return err;
	ASSERT(dg->id);
	return dg->id->verbs ? need_qp(dg, &to) : 0;
}

/* Somebody asks for our queue pair. */
void rdma_datagram_asked(struct rdma_datagram *dg, struct rdma_cm_id *id)
{
	const struct rdma_verbs *verbs = dg->engine->verbs;
	struct rdma_conn_param param = {.qp_num = 0};
	int err = rdma_device_use(dg->engine, id);

	if (!err)
		err = need_qp(dg, &id->route.addr.src_storage);
	if (err) {
		(void)verbs->reject(id, NULL, 0);
	} else {
		param.qp_num = dg->qp_id->qp->qp_num;
		(void)verbs->accept(id, &param);
	}
	(void)verbs->destroy_id(id);
}

/* ---- peers ---- */

void rdma_peer_drop(struct rdma_peer *peer, int err)
{
	struct rdma_datagram *dg = peer->socket;
	struct sched *sched = rdma_sched(dg->engine);
	struct op *op;

	while ((op = op_list_take(&sched->ops, &peer->pushes))) {
		release_segments(sched->heap, op);
		op_complete(sched, op, -err);
	}
	if (peer->connect)
		op_complete(sched, peer->connect, -err);
	if (dg->peer == peer)
		dg->peer = NULL;
	if (peer->ah)
		(void)dg->engine->verbs->destroy_ah(peer->ah);
	if (peer->id)
		(void)dg->engine->verbs->destroy_id(peer->id);
	list_remove(&peer->in_socket);
	dg->num_peers--;
	free(peer);
}

/* The one that was not used for the longest, if the device has nothing to do for it. */
static bool make_room(struct rdma_datagram *dg)
{
	if (dg->posted != dg->completed)
		return false;
	list_for_each (node, &dg->peers) {
		struct rdma_peer *peer = container_of(node, struct rdma_peer, in_socket);
		if (peer->ah && peer != dg->peer && op_list_empty(&peer->pushes)) {
			rdma_peer_drop(peer, -ECANCELED);
			return true;
		}
	}
	return false;
}

static int ask_for(struct rdma_datagram *dg, const struct sockaddr *to, struct rdma_peer **peer_out)
{
	const struct rdma_verbs *verbs = dg->engine->verbs;

	if (dg->engine->device.gone)
		return -ENODEV;
	if (dg->num_peers == DATAGRAM_PEERS && !make_room(dg))
		return -ENOBUFS;
	struct rdma_peer *peer = calloc(1, sizeof(*peer));
	if (!peer)
		return -ENOMEM;
	peer->user = RDMA_USER_PEER;
	peer->socket = dg;
	memcpy(&peer->address, to, address_bytes(dg));
	op_list_init(&peer->pushes);
	list_append(&dg->peers, &peer->in_socket);
	dg->num_peers++;
	int err = verbs->create_id(dg->engine->channel, &peer->id, peer, RDMA_PS_UDP) ? rdma_errno()
										      : 0;
	if (err)
		peer->id = NULL;
	else if (verbs->resolve_addr(peer->id, NULL, (struct sockaddr *)&peer->address,
				     RDMA_RESOLVE_MS))
		err = rdma_errno();
	if (err) {
		rdma_peer_drop(peer, err);
		return rdma_address_error(err);
	}
	*peer_out = peer;
	return 0;
}

int rdma_peer_find(struct rdma_datagram *dg, const struct sockaddr *to, socklen_t length,
		   struct rdma_peer **peer_out)
{
	int err = check_address(dg, to, length);

	if (err)
		return err;
	/* the port and the address; what follows of IPv6 is not told apart */
	size_t bytes = dg->domain == AF_INET ? 8 : 24;
	list_for_each (node, &dg->peers) {
		struct rdma_peer *peer = container_of(node, struct rdma_peer, in_socket);
		if (memcmp(&peer->address, to, bytes) != 0)
			continue;
		list_remove(&peer->in_socket);
		list_append(&dg->peers, &peer->in_socket);
		*peer_out = peer;
		return 0;
	}
	return ask_for(dg, to, peer_out);
}

static int address_resolved(struct rdma_peer *peer)
{
	struct rdma_engine *re = peer->socket->engine;
	int err = rdma_device_use(re, peer->id);

	if (!err)
		err = need_qp(peer->socket, &peer->id->route.addr.src_storage);
	if (!err && re->verbs->resolve_route(peer->id, RDMA_RESOLVE_MS))
		err = rdma_errno();
	return err;
}

static int route_resolved(struct rdma_peer *peer)
{
	struct rdma_conn_param param = {.qp_num = peer->socket->qp_id->qp->qp_num,
					.retry_count = 7};

	return peer->socket->engine->verbs->connect(peer->id, &param) ? rdma_errno() : 0;
}

static int peer_known(struct rdma_peer *peer, const struct rdma_ud_param *ud)
{
	struct rdma_engine *re = peer->socket->engine;
	struct ibv_ah_attr attr = ud->ah_attr;

	peer->ah = re->verbs->create_ah(re->device.pd, &attr);
	if (!peer->ah)
		return rdma_errno();
	peer->qp_num = ud->qp_num;
	peer->qkey = ud->qkey;
	(void)re->verbs->destroy_id(peer->id);
	peer->id = NULL;
	if (peer->connect)
		op_complete(rdma_sched(re), peer->connect, 0);
	peer->connect = NULL;
	rdma_peer_flush(peer);
	return 0;
}

void rdma_peer_event(struct rdma_peer *peer, enum rdma_cm_event_type type, int status,
		     const struct rdma_ud_param *ud)
{
	int err;

	switch (type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		err = address_resolved(peer);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		err = route_resolved(peer);
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		err = peer_known(peer, ud);
		break;
	case RDMA_CM_EVENT_ADDR_ERROR:
		err = rdma_address_error(status);
		break;
	case RDMA_CM_EVENT_UNREACHABLE: /* above 0: what the other side says */
		err = status > 0 ? -ECONNREFUSED : -ETIMEDOUT;
		break;
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_REJECTED:
		err = type == RDMA_CM_EVENT_REJECTED ? -ECONNREFUSED : -EHOSTUNREACH;
		break;
	default:
		err = 0;
	}
	if (err)
		rdma_peer_drop(peer, err);
}

/* ---- the rest of a socket ---- */

static int datagram_socket(struct engine *engine, int domain, int type, int protocol,
			   struct queue **queue_out)
{
	return rdma_socket_ops.socket(engine, domain, type, protocol, queue_out);
}

static int datagram_listen(struct queue *queue, int backlog)
{
	(void)queue;
	(void)backlog;
	return -ENOTSUP;
}

static int datagram_accept(struct queue *queue, struct op *op)
{
	(void)queue;
	(void)op;
	return -EINVAL;
}

static int datagram_connect(struct queue *queue, struct op *op, const struct sockaddr *address,
			    socklen_t length)
{
	struct rdma_datagram *dg = rdma_datagram_of(queue);
	struct rdma_peer *peer = NULL;

	if (dg->peer && dg->peer->connect)
		return -EINPROGRESS;
	if (address->sa_family == AF_UNSPEC) {
		dg->peer = NULL;
		op_complete(queue->sched, op, 0);
		return 0;
	}
	int err = rdma_peer_find(dg, address, length, &peer);
	if (err)
		return err;
	ASSERT(peer);
	dg->peer = peer;
	if (peer->ah)
		op_complete(queue->sched, op, 0);
	else
		peer->connect = op;
	return 0;
}

static int datagram_shutdown(struct queue *queue, int how)
{
	struct rdma_datagram *dg = rdma_datagram_of(queue);

	if (!dg->peer)
		return -ENOTCONN;
	if (how != SHUT_WR)
		return -ENOTSUP;
	dg->write_shut = true;
	return 0;
}

static int datagram_set_option(struct queue *queue, int level, int name, const void *value,
			       socklen_t length)
{
	(void)queue;
	(void)level;
	(void)name;
	(void)value;
	(void)length;
	return -ENOPROTOOPT;
}

static int datagram_get_option(struct queue *queue, int level, int name, void *value,
			       socklen_t *length)
{
	(void)queue;
	(void)level;
	(void)name;
	(void)value;
	(void)length;
	return -ENOPROTOOPT;
}

static void copy_name(const struct rdma_datagram *dg, const struct sockaddr_storage *from,
		      struct sockaddr *to, socklen_t *length)
{
	socklen_t bytes = address_bytes(dg);

	memcpy(to, from, *length < bytes ? *length : bytes);
	*length = bytes;
}

static int datagram_local_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	const struct rdma_datagram *dg = rdma_datagram_of(queue);

	copy_name(dg, &dg->local, address, length);
	return 0;
}

static int datagram_peer_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	const struct rdma_datagram *dg = rdma_datagram_of(queue);

	if (!dg->peer)
		return -ENOTCONN;
	copy_name(dg, &dg->peer->address, address, length);
	return 0;
}

const struct socket_ops rdma_datagram_socket_ops = {
	.socket = datagram_socket,
	.bind = datagram_bind,
	.listen = datagram_listen,
	.accept = datagram_accept,
	.connect = datagram_connect,
	.shutdown = datagram_shutdown,
	.set_option = datagram_set_option,
	.get_option = datagram_get_option,
	.local_name = datagram_local_name,
	.peer_name = datagram_peer_name,
};
