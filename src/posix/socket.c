/* SPDX-License-Identifier: MIT
 * posix/socket.c - sockets made, bound, connected, accepted and shut down.
 */
#include "posix/file.h"

#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

int posix_socket(struct posix *px, int domain, int type, int protocol)
{
	int flags = type & (SOCK_NONBLOCK | SOCK_CLOEXEC);
	int qd;

	type &= ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
	int err = demi_socket(&qd, domain, type, protocol);
	if (err)
		return posix_fail(err == ENOTSUP ? EPROTONOSUPPORT : err);
	struct posix_file *file = posix_file_new(domain, type == SOCK_STREAM, flags);
	if (!file) {
		(void)demi_close(qd);
		return posix_fail(ENOMEM);
	}
	file->qd = qd;
	int fd = posix_enter(px, file);
	if (fd < 0)
		(void)demi_close(qd);
	return fd;
}

int posix_bind(struct posix *px, int fd, const struct sockaddr *address, socklen_t length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	return file ? posix_done(file, demi_bind(file->qd, address, length)) : -1;
}

/* The system listens on an unbound socket too, at a port of its choice. */
static int listen_unbound(const struct posix_file *file, int backlog)
{
	struct sockaddr_storage any = {.ss_family = (sa_family_t)file->domain};
	socklen_t length =
		file->domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	int err = demi_bind(file->qd, (const struct sockaddr *)&any, length);

	return err ? err : demi_listen(file->qd, backlog);
}

int posix_listen(struct posix *px, int fd, int backlog)
{
	struct posix_file *file = posix_get_socket(px, fd);
	int err = 0;

	if (!file)
		return -1;
	if (!file->stream)
		return posix_done(file, EOPNOTSUPP);
	if (file->state != POSIX_LISTENING) /* a second call changes the backlog, if anything */
		err = demi_listen(file->qd, backlog < 1 ? 1 : backlog);
	if (err == EDESTADDRREQ)
		err = listen_unbound(file, backlog < 1 ? 1 : backlog);
	if (!err)
		file->state = POSIX_LISTENING;
	return posix_done(file, err == EADDRINUSE && file->state != POSIX_FRESH ? EINVAL : err);
}

int posix_take_connection(struct posix *px, struct posix_file *file, uint64_t deadline_ns)
{
	demi_qresult_t qr;
	int err = 0;

	if (file->accepted >= 0)
		return 0;
	if (!file->accept_qt)
		err = demi_accept(&file->accept_qt, file->qd);
	if (err)
		return err;
	err = posix_wait_or_cancel(px, &file->accept_qt, deadline_ns, &qr);
	if (err)
		return err == ETIMEDOUT || err == EBUSY ? EAGAIN : err;
	posix_note_accept(file, &qr);
	if (file->accepted >= 0)
		return 0;
	return qr.qr_ret == ECANCELED ? EAGAIN : (int)qr.qr_ret;
}

static int enter_connection(struct posix *px, struct posix_file *listener, int flags)
{
	struct posix_file *file = posix_file_new(listener->domain, true, flags);
	int qd = listener->accepted;

	listener->accepted = -1;
	if (!file) {
		(void)demi_close(qd);
		return posix_fail(ENOMEM);
	}
	file->qd = qd;
	file->state = POSIX_CONNECTED;
	int fd = posix_enter(px, file);
	if (fd < 0)
		(void)demi_close(qd);
	return fd;
}

int posix_accept4(struct posix *px, int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	struct posix_file *file = posix_get_socket(px, fd);

	if (!file)
		return -1;
	if (file->state != POSIX_LISTENING)
		return posix_done(file, file->stream ? EINVAL : EOPNOTSUPP);
	int err = posix_take_connection(
		px, file, file->nonblock ? 0 : posix_deadline(px, file->rx_timeout_ns));
	if (err || file->closed)
		return posix_done(file, file->closed ? EBADF : err);
	int new_fd = enter_connection(px, file, flags);
	posix_put(file);
	if (new_fd >= 0 && address && length)
		(void)demi_getpeername(px->files[new_fd - px->first_fd]->qd, address, length);
	return new_fd;
}

int posix_accept(struct posix *px, int fd, struct sockaddr *address, socklen_t *length)
{
	return posix_accept4(px, fd, address, length, 0);
}

/* Why a socket cannot be connected now; 0: it can. */
static int connect_refusal(struct posix *px, struct posix_file *file)
{
	posix_progress(px, file, 0);
	if (file->state == POSIX_CONNECTING)
		return EALREADY;
	if (file->error)
		return posix_take_error(file);
	return file->stream && file->state == POSIX_CONNECTED ? EISCONN : 0;
}

int posix_connect(struct posix *px, int fd, const struct sockaddr *address, socklen_t length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	if (!file)
		return -1;
	int err = connect_refusal(px, file);
	if (!err)
		err = demi_connect(&file->connect_qt, file->qd, address, length);
	if (err)
		return posix_done(file, err);
	file->state = POSIX_CONNECTING;
	posix_progress(px, file, file->nonblock ? 0 : posix_deadline(px, file->tx_timeout_ns));
	if (file->state == POSIX_CONNECTING)
		return posix_done(file, EINPROGRESS);
	return posix_done(file, posix_take_error(file));
}

int posix_shutdown(struct posix *px, int fd, int how)
{
	struct posix_file *file = posix_get_socket(px, fd);

	if (!file)
		return -1;
	posix_progress(px, file, 0);
	int err = demi_shutdown(file->qd, how);
	if (!err && how != SHUT_RD)
		file->tx_shut = true;
	if (!err && how != SHUT_WR)
		file->rx_shut = true;
	if (!err) {
		file->tx_events++;
		file->rx_events++;
	}
	return posix_done(file, err);
}

/* A push that goes on without its descriptor; no memory: its slot is lost until the instance ends.
 */
