/* SPDX-License-Identifier: MIT
 * transport/rdma/socket.c - everything of a socket but pushing and popping.
 */
#include "transport/rdma/rdma.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

struct rdma_queue *rdma_queue_new(struct rdma_engine *re, int domain)
{
	struct rdma_queue *rq = calloc(1, sizeof(*rq));

	if (!rq)
		return NULL;
	rq->queue.ops = &rdma_stream_ops;
	rq->queue.sched = rdma_sched(re);
	rq->queue.qd = -1;
	rq->queue.ends = true;
	rq->engine = re;
	rq->domain = domain;
	return rq;
}

static int socket_new(struct engine *engine, int domain, int type, int protocol,
		      struct queue **queue_out)
{
	if (!transport_supports(domain, type, protocol))
		return -ENOTSUP;
	if (type == SOCK_DGRAM)
		return rdma_datagram_new(rdma_engine_of(engine), domain, queue_out);
	struct rdma_queue *rq = rdma_queue_new(rdma_engine_of(engine), domain);
	if (!rq)
		return -ENOMEM;
	*queue_out = &rq->queue;
	return 0;
}

static int check_address(const struct rdma_queue *rq, const struct sockaddr *address,
			 socklen_t length)
{
	socklen_t bytes =
		rq->domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	if (address->sa_family != rq->domain)
		return -EAFNOSUPPORT;
	return length < bytes ? -EINVAL : 0;
}

static bool is_fresh(const struct rdma_queue *rq)
{
	return !rq->conn && !rq->listener;
}

static int bind_id(struct rdma_queue *rq, struct sockaddr_storage *to)
{
	const struct rdma_verbs *verbs = rq->engine->verbs;
	int on = 1;

	if (rq->reuse_address &&
	    verbs->set_option(rq->bound, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &on, sizeof(on)))
		return rdma_errno();
	if (verbs->bind_addr(rq->bound, (struct sockaddr *)to)) {
		int err = rdma_errno();
		return err == -ENODEV ? -EADDRNOTAVAIL : err;
	}
	/* An address of a device that is not ours is refused now, not when somebody connects. */
	return rq->bound->verbs ? rdma_device_use(rq->engine, rq->bound) : 0;
}

static int socket_bind(struct queue *queue, const struct sockaddr *address, socklen_t length)
{
	struct rdma_queue *rq = rdma_queue_of(queue);
	struct rdma_engine *re = rq->engine;
	struct sockaddr_storage to = {.ss_family = 0};
	int err = check_address(rq, address, length);

	if (err)
		return err;
	if (!is_fresh(rq) || rq->bound)
		return -EINVAL;
	memcpy(&to, address, length < sizeof(to) ? length : sizeof(to));
	if (re->verbs->create_id(re->channel, &rq->bound, NULL, RDMA_PS_TCP)) {
		rq->bound = NULL;
		return rdma_errno();
	}
	err = bind_id(rq, &to);
	if (err) {
		(void)re->verbs->destroy_id(rq->bound);
		rq->bound = NULL;
	}
	return err;
}

static int socket_listen(struct queue *queue, int backlog)
{
	struct rdma_queue *rq = rdma_queue_of(queue);

	if (rq->listener) {
		rq->listener->backlog_max = (uint32_t)backlog;
		return rq->listener->error;
	}
	return rq->conn ? -EINVAL : rdma_cm_listen(rq, backlog);
}

static int socket_accept(struct queue *queue, struct op *op)
{
	const struct rdma_queue *rq = rdma_queue_of(queue);

	return rq->listener ? rdma_cm_accept(rq->listener, op) : -EINVAL;
}

static int socket_connect(struct queue *queue, struct op *op, const struct sockaddr *address,
			  socklen_t length)
{
	struct rdma_queue *rq = rdma_queue_of(queue);
	int err = check_address(rq, address, length);

	if (err)
		return err;
	if (rq->listener)
		return -EOPNOTSUPP;
	if (rq->conn)
		return rq->conn->connect ? -EINPROGRESS : -EISCONN;
	return rq->engine->device.gone ? -ENODEV : rdma_cm_connect(rq, op, address);
}

static int socket_shutdown(struct queue *queue, int how)
{
	struct rdma_conn *conn = rdma_queue_of(queue)->conn;

	if (!conn || conn->connect)
		return -ENOTCONN;
	if (how != SHUT_WR)
		rdma_go_deaf(conn);
	if (how != SHUT_RD) {
		conn->write_shut = true;
		conn->end_wanted = true;
		rdma_conn_step(conn);
	}
	return 0;
}

/* ---- options ---- */

static bool is_flag(int level, int name)
{
	return (level == IPPROTO_TCP && name == TCP_NODELAY) ||
	       (level == SOL_SOCKET && (name == SO_REUSEADDR || name == SO_KEEPALIVE));
}

/* What a reliable network does anyhow may be asked for. */
static int socket_set_option(struct queue *queue, int level, int name, const void *value,
			     socklen_t length)
{
	struct rdma_queue *rq = rdma_queue_of(queue);
	int flag;

	if (!is_flag(level, name))
		return -ENOPROTOOPT;
	if (length < sizeof(flag))
		return -EINVAL;
	memcpy(&flag, value, sizeof(flag));
	if (level == SOL_SOCKET && name == SO_REUSEADDR)
		rq->reuse_address = flag != 0;
	return 0;
}

static int socket_get_option(struct queue *queue, int level, int name, void *value,
			     socklen_t *length)
{
	const struct rdma_queue *rq = rdma_queue_of(queue);
	int flag = 1;

	if (!is_flag(level, name))
		return -ENOPROTOOPT;
	if (level == SOL_SOCKET && name == SO_REUSEADDR)
		flag = rq->reuse_address;
	if (*length > sizeof(flag))
		*length = sizeof(flag);
	memcpy(value, &flag, *length);
	return 0;
}

/* ---- names ---- */

static void copy_name(const struct rdma_queue *rq, const struct sockaddr_storage *from,
		      struct sockaddr *to, socklen_t *length)
{
	struct sockaddr_storage name = *from;
	socklen_t bytes =
		rq->domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	name.ss_family = (sa_family_t)rq->domain;
	memcpy(to, &name, *length < bytes ? *length : bytes);
	*length = bytes;
}

static int socket_local_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	static const struct sockaddr_storage nobody;
	const struct rdma_queue *rq = rdma_queue_of(queue);
	const struct rdma_cm_id *id = rq->listener ? rq->listener->id : rq->bound;

	if (rq->conn)
		copy_name(rq, &rq->conn->local, address, length);
	else
		copy_name(rq, id ? &id->route.addr.src_storage : &nobody, address, length);
	return 0;
}

static int socket_peer_name(struct queue *queue, struct sockaddr *address, socklen_t *length)
{
	const struct rdma_queue *rq = rdma_queue_of(queue);

	if (!rq->conn || rq->conn->connect)
		return -ENOTCONN;
	copy_name(rq, &rq->conn->peer, address, length);
	return 0;
}

const struct socket_ops rdma_socket_ops = {
	.socket = socket_new,
	.bind = socket_bind,
	.listen = socket_listen,
	.accept = socket_accept,
	.connect = socket_connect,
	.shutdown = socket_shutdown,
	.set_option = socket_set_option,
	.get_option = socket_get_option,
	.local_name = socket_local_name,
	.peer_name = socket_peer_name,
	.filter = socket_filter_none,
};
