/* SPDX-License-Identifier: MIT
 * api/socket.c - sockets: everything but pushing and popping.
 */
#include "api/instance.h"

#include "api/result.h"

#include <demi/libos.h>
#include <demi/queue.h>

/* The queue of a descriptor, if it is a socket; NULL and *err: those of api_queue, ENOTSUP. */
static struct queue *socket_of(int qd, int *err)
{
	struct queue *queue = api_queue(qd, err);

	if (queue && !queue->ops->socket) {
		*err = ENOTSUP;
		return NULL;
	}
	return queue;
}

static bool bad_address(const struct sockaddr *address, socklen_t size)
{
	return !address || size < sizeof(sa_family_t) || size > sizeof(struct sockaddr_storage);
}

int demi_socket(int *sockqd_out, int domain, int type, int protocol)
{
	KEEP_ERRNO;
	int err = 0;
	struct demi *demi = instance_enter(&err);
	struct queue *queue;

	if (!demi)
		return err;
	if (!sockqd_out)
		return EINVAL;
	err = demi->engine->ops->socket->socket(demi->engine, domain, type, protocol, &queue);
	return err ? -err : api_enter(demi, queue, sockqd_out);
}

int demi_bind(int sockqd, const struct sockaddr *addr, socklen_t size)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(sockqd, &err);

	if (!queue)
		return err;
	return bad_address(addr, size) ? EINVAL : -queue->ops->socket->bind(queue, addr, size);
}

int demi_listen(int sockqd, int backlog)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(sockqd, &err);

	if (!queue)
		return err;
	return backlog < 1 ? EINVAL : -queue->ops->socket->listen(queue, backlog);
}

int demi_accept(demi_qtoken_t *qt_out, int sockqd)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(sockqd, &err);
	struct op *op;

	if (!queue)
		return err;
	if (!qt_out)
		return EINVAL;
	if (!(op = api_issue(queue, OP_ACCEPT)))
		return ENOMEM;
	sched_count(queue->sched, COUNTER_ACCEPTS, 1);
	return api_issued(queue, op, queue->ops->socket->accept(queue, op), qt_out);
}

int demi_connect(demi_qtoken_t *qt_out, int sockqd, const struct sockaddr *addr, socklen_t size)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(sockqd, &err);
	struct op *op;

	if (!queue)
		return err;
	if (!qt_out || bad_address(addr, size))
		return EINVAL;
	if (!(op = api_issue(queue, OP_CONNECT)))
		return ENOMEM;
	sched_count(queue->sched, COUNTER_CONNECTS, 1);
	return api_issued(queue, op, queue->ops->socket->connect(queue, op, addr, size), qt_out);
}

int demi_close(int qd)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = api_queue(qd, &err);

	if (!queue)
		return err;
	queue_leave(&thread_state.current->queues, queue);
	queue_close(queue);
	return 0;
}

int demi_shutdown(int qd, int how)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(qd, &err);

	if (!queue)
		return err;
	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
		return EINVAL;
	return -queue->ops->socket->shutdown(queue, how);
}

int demi_setsockopt(int qd, int level, int optname, const void *optval, socklen_t optlen)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(qd, &err);

	if (!queue)
		return err;
	return !optval ? EINVAL
		       : -queue->ops->socket->set_option(queue, level, optname, optval, optlen);
}

int demi_getsockopt(int qd, int level, int optname, void *optval, socklen_t *optlen)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(qd, &err);

	if (!queue)
		return err;
	return !optval || !optlen
		       ? EINVAL
		       : -queue->ops->socket->get_option(queue, level, optname, optval, optlen);
}

int demi_getpeername(int qd, struct sockaddr *addr, socklen_t *addrlen)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(qd, &err);

	if (!queue)
		return err;
	return !addr || !addrlen ? EINVAL : -queue->ops->socket->peer_name(queue, addr, addrlen);
}

int demi_getsockname(int qd, struct sockaddr *addr, socklen_t *addrlen)
{
	KEEP_ERRNO;
	int err = 0;
	struct queue *queue = socket_of(qd, &err);

	if (!queue)
		return err;
	return !addr || !addrlen ? EINVAL : -queue->ops->socket->local_name(queue, addr, addrlen);
}
