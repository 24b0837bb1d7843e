/* SPDX-License-Identifier: MIT
 * posix/socket.c - descriptors, their life, and everything but moving data and polling.
 */
#include "posix/file.h"

#include <demi/libos.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

int posix_fail(int err)
{
	errno = err;
	return -1;
}

/* ---- descriptors ---- */

int posix_init(struct posix *px, int first_fd, int max, uint64_t (*now_ns)(void *arg), void *arg)
{
	*px = (struct posix){.now_ns = now_ns, .arg = arg, .first_fd = first_fd, .num_files = max};
	px->files = calloc((size_t)max, sizeof(struct posix_file *));
	return px->files ? 0 : posix_fail(ENOMEM);
}

/* Redeems pushes that ended after their descriptor was closed. */
static void sweep_orphans(struct posix *px)
{
	int kept = 0;

	for (int i = 0; i < px->num_orphans; i++) {
		demi_qresult_t qr;
		if (posix_wait(px, px->orphans[i], 0, &qr) == ETIMEDOUT)
			px->orphans[kept++] = px->orphans[i];
	}
	px->num_orphans = kept;
}

void posix_fini(struct posix *px)
{
	for (int i = 0; i < px->num_files; i++) {
		if (px->files[i])
			(void)posix_close(px, px->first_fd + i);
	}
	sweep_orphans(px);
	free(px->files);
	free(px->orphans);
	*px = (struct posix){0};
}

struct posix_file *posix_file_new(int domain, bool stream, int flags)
{
	struct posix_file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->refs = 1;
	file->domain = domain;
	file->stream = stream;
	file->nonblock = (flags & SOCK_NONBLOCK) != 0;
	file->cloexec = (flags & SOCK_CLOEXEC) != 0;
	file->qd = -1;
	file->accepted = -1;
	file->tx_events = 1; /* told once, when it is writable for the first time */
	return file;
}

static struct posix_file *get(struct posix *px, int fd)
{
	int i = fd - px->first_fd;

	if (fd < px->first_fd || i >= px->num_files || !px->files[i]) {
		errno = EBADF;
		return NULL;
	}
	px->files[i]->refs++;
	return px->files[i];
}

struct posix_file *posix_get_socket(struct posix *px, int fd)
{
	struct posix_file *file = get(px, fd);

	if (file && file->is_epoll) {
		posix_put(file);
		errno = ENOTSOCK;
		return NULL;
	}
	return file;
}

struct posix_file *posix_get_epoll(struct posix *px, int fd)
{
	struct posix_file *file = get(px, fd);

	if (file && !file->is_epoll) {
		posix_put(file);
		errno = EINVAL;
		return NULL;
	}
	return file;
}

static void free_chunks(struct posix_file *file)
{
	while (file->rx) {
		struct posix_chunk *chunk = file->rx;
		file->rx = chunk->next;
		(void)demi_sgafree(&chunk->sga);
		free(chunk);
	}
}

void posix_put(struct posix_file *file)
{
	if (--file->refs > 0)
		return;
	free_chunks(file);
	free(file->watches);
	free(file);
}

int posix_enter(struct posix *px, struct posix_file *file)
{
	for (int i = 0; i < px->num_files; i++) {
		if (!px->files[i]) {
			px->files[i] = file;
			file->fd = px->first_fd + i;
			return file->fd;
		}
	}
	posix_put(file);
	return posix_fail(EMFILE);
}

/* ---- waiting ---- */

uint64_t posix_deadline(struct posix *px, uint64_t timeout_ns)
{
	return timeout_ns == 0 ? POSIX_FOREVER : px->now_ns(px->arg) + timeout_ns;
}

/* The time left as a timespec; NULL: for ever. */
static const struct timespec *time_left(struct posix *px, uint64_t deadline_ns,
					struct timespec *left)
{
	uint64_t now = deadline_ns == 0 || deadline_ns == POSIX_FOREVER ? 0 : px->now_ns(px->arg);

	if (deadline_ns == POSIX_FOREVER)
		return NULL;
	uint64_t ns = deadline_ns > now ? deadline_ns - now : 0;
	*left = (struct timespec){.tv_sec = (time_t)(ns / 1000000000),
				  .tv_nsec = (long)(ns % 1000000000)};
	return left;
}

int posix_wait(struct posix *px, demi_qtoken_t qt, uint64_t deadline_ns, demi_qresult_t *qr)
{
	struct timespec left;

	return demi_wait(qr, qt, time_left(px, deadline_ns, &left));
}

int posix_wait_or_cancel(struct posix *px, demi_qtoken_t *qt, uint64_t deadline_ns,
			 demi_qresult_t *qr)
{
	int err = posix_wait(px, *qt, deadline_ns, qr);

	if (err == ETIMEDOUT) {
		(void)demi_cancel(*qt);
		err = posix_wait(px, *qt, 0, qr);
	}
	if (err != ETIMEDOUT && err != EBUSY)
		*qt = 0;
	return err;
}

/* ---- results ---- */

static int failure(const demi_qresult_t *qr)
{
	return qr->qr_opcode == DEMI_OPC_FAILED ? (int)qr->qr_ret : 0;
}

/* What the stack keeps for SO_ERROR was told to us by an operation already. */
static void clear_stack_error(const struct posix_file *file)
{
	int err = 0;
	socklen_t length = sizeof(err);

	(void)demi_getsockopt(file->qd, SOL_SOCKET, SO_ERROR, &err, &length);
}

void posix_note_error(struct posix_file *file, int err)
{
	if (err == ECANCELED || err == 0)
		return;
	file->error = err;
	file->rx_events++;
	file->tx_events++;
	if (file->stream) {
		file->rx_end = true;
		file->dead = true;
	}
	if (!file->closed)
		clear_stack_error(file);
}

static void append_chunk(struct posix_file *file, const demi_sgarray_t *sga)
{
	struct posix_chunk *chunk = calloc(1, sizeof(*chunk));
	demi_sgarray_t copy = *sga;

	if (!chunk) { /* as if the datagram, or the connection, was lost */
		(void)demi_sgafree(&copy);
		posix_note_error(file, ENOMEM);
		return;
	}
	chunk->sga = copy;
	for (uint32_t i = 0; i < copy.sga_numsegs; i++)
		chunk->length += copy.sga_segs[i].sgaseg_len;
	file->rx_bytes += chunk->length;
	if (file->rx)
		file->rx_tail->next = chunk;
	else
		file->rx = chunk;
	file->rx_tail = chunk;
}

void posix_note_pop(struct posix_file *file, const demi_qresult_t *qr)
{
	int err = failure(qr);
	demi_sgarray_t sga = qr->qr_value.sga;

	if (err) {
		posix_note_error(file, err);
		return;
	}
	file->rx_events++;
	if (file->stream && sga.sga_numsegs == 1 && sga.sga_segs[0].sgaseg_len == 0) {
		file->rx_end = true;
		(void)demi_sgafree(&sga);
	} else {
		append_chunk(file, &sga);
	}
}

void posix_note_push(struct posix_file *file, const demi_qresult_t *qr)
{
	posix_note_error(file, failure(qr));
	file->tx_events++;
}

void posix_note_accept(struct posix_file *file, const demi_qresult_t *qr)
{
	if (failure(qr))
		return;
	file->rx_events++;
	file->accepted = qr->qr_value.ares.qd;
}

void posix_note_connect(struct posix_file *file, const demi_qresult_t *qr)
{
	int err = failure(qr);

	file->state = err ? POSIX_FRESH : POSIX_CONNECTED;
	posix_note_error(file, err);
	file->tx_events++;
}

void posix_progress(struct posix *px, struct posix_file *file, uint64_t deadline_ns)
{
	demi_qresult_t qr;

	if (!file->connect_qt || posix_wait(px, file->connect_qt, deadline_ns, &qr))
		return;
	file->connect_qt = 0;
	posix_note_connect(file, &qr);
}

int posix_take_error(struct posix_file *file)
{
	int err = file->error;

	file->error = 0;
	return err;
}

/* ---- making ---- */

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

/* Ends a call: puts the file, and sets errno if there is one. */
static int done(struct posix_file *file, int err)
{
	posix_put(file);
	return err ? posix_fail(err) : 0;
}

int posix_bind(struct posix *px, int fd, const struct sockaddr *address, socklen_t length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	return file ? done(file, demi_bind(file->qd, address, length)) : -1;
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
		return done(file, EOPNOTSUPP);
	if (file->state != POSIX_LISTENING) /* a second call changes the backlog, if anything */
		err = demi_listen(file->qd, backlog < 1 ? 1 : backlog);
	if (err == EDESTADDRREQ)
		err = listen_unbound(file, backlog < 1 ? 1 : backlog);
	if (!err)
		file->state = POSIX_LISTENING;
	return done(file, err == EADDRINUSE && file->state != POSIX_FRESH ? EINVAL : err);
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
		return done(file, file->stream ? EINVAL : EOPNOTSUPP);
	int err = posix_take_connection(
		px, file, file->nonblock ? 0 : posix_deadline(px, file->rx_timeout_ns));
	if (err || file->closed)
		return done(file, file->closed ? EBADF : err);
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
		return done(file, err);
	file->state = POSIX_CONNECTING;
	posix_progress(px, file, file->nonblock ? 0 : posix_deadline(px, file->tx_timeout_ns));
	if (file->state == POSIX_CONNECTING)
		return done(file, EINPROGRESS);
	return done(file, posix_take_error(file));
}

/* ---- ending ---- */

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
	return done(file, err);
}

/* A push that goes on without its descriptor; no memory: its slot is lost until the instance ends.
 */
static void keep_orphan(struct posix *px, demi_qtoken_t qt)
{
	if (px->num_orphans == px->max_orphans) {
		int max = px->max_orphans ? 2 * px->max_orphans : 16;
		uint64_t *bigger = realloc(px->orphans, (size_t)max * sizeof(*bigger));
		if (!bigger)
			return;
		px->orphans = bigger;
		px->max_orphans = max;
	}
	px->orphans[px->num_orphans++] = qt;
}

/* Redeems an operation of a queue that is closed. */
static void redeem(struct posix *px, demi_qtoken_t qt)
{
	demi_qresult_t qr;

	if (!qt)
		return;
	int err = posix_wait(px, qt, 0, &qr);
	if (err == ETIMEDOUT) {
		keep_orphan(px, qt);
	} else if (!err && qr.qr_opcode == DEMI_OPC_POP) {
		demi_sgarray_t sga = qr.qr_value.sga;
		(void)demi_sgafree(&sga);
	} else if (!err && qr.qr_opcode == DEMI_OPC_ACCEPT) {
		(void)demi_close(qr.qr_value.ares.qd);
	}
}

/* RFC 2525 2.17: data that nobody will read is told to the peer by a reset. */
static void reset_if_unread(const struct posix_file *file)
{
	struct linger abort = {.l_onoff = 1, .l_linger = 0};

	if (file->stream && file->state == POSIX_CONNECTED && file->rx_bytes > 0)
		(void)demi_setsockopt(file->qd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
}

int posix_close(struct posix *px, int fd)
{
	struct posix_file *file = get(px, fd);

	if (!file)
		return -1;
	px->files[fd - px->first_fd] = NULL;
	file->refs--; /* the table's; ours is left */
	file->closed = true;
	if (!file->is_epoll) {
		posix_forget_watches(px, file);
		reset_if_unread(file);
		if (file->accepted >= 0)
			(void)demi_close(file->accepted);
		(void)demi_close(file->qd);
		redeem(px, file->pop_qt);
		redeem(px, file->accept_qt);
		redeem(px, file->connect_qt);
		redeem(px, file->push_qt);
	}
	posix_put(file);
	sweep_orphans(px);
	return 0;
}

/* ---- names and options ---- */

int posix_getsockname(struct posix *px, int fd, struct sockaddr *address, socklen_t *length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	return file ? done(file, demi_getsockname(file->qd, address, length)) : -1;
}

int posix_getpeername(struct posix *px, int fd, struct sockaddr *address, socklen_t *length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	return file ? done(file, demi_getpeername(file->qd, address, length)) : -1;
}

static int put_value(void *value, socklen_t *length, const void *from, socklen_t size)
{
	if (*length > size)
		*length = size;
	memcpy(value, from, *length);
	return 0;
}

static int put_int(void *value, socklen_t *length, int number)
{
	return put_value(value, length, &number, sizeof(number));
}

static int put_timeout(void *value, socklen_t *length, uint64_t ns)
{
	struct timeval tv = {.tv_sec = (time_t)(ns / 1000000000),
			     .tv_usec = (suseconds_t)(ns % 1000000000 / 1000)};

	return put_value(value, length, &tv, sizeof(tv));
}

/* The layer's own error, or one that the stack has not told an operation. */
static int socket_error(struct posix *px, struct posix_file *file, void *value, socklen_t *length)
{
	int err = 0;
	socklen_t size = sizeof(err);

	posix_progress(px, file, 0);
	if (!file->error && !file->dead) { /* the stack may tell its last error for ever */
		int failed = demi_getsockopt(file->qd, SOL_SOCKET, SO_ERROR, &err, &size);
		if (failed)
			return failed;
		posix_note_error(file, err);
	}
	return put_int(value, length, posix_take_error(file));
}

static int get_socket_option(struct posix *px, struct posix_file *file, int name, void *value,
			     socklen_t *length)
{
	switch (name) {
	case SO_ERROR:
		return socket_error(px, file, value, length);
	case SO_RCVTIMEO:
		return put_timeout(value, length, file->rx_timeout_ns);
	case SO_SNDTIMEO:
		return put_timeout(value, length, file->tx_timeout_ns);
	case SO_TYPE:
		return put_int(value, length, file->stream ? SOCK_STREAM : SOCK_DGRAM);
	case SO_DOMAIN:
		return put_int(value, length, file->domain);
	case SO_PROTOCOL:
		return put_int(value, length, file->stream ? IPPROTO_TCP : IPPROTO_UDP);
	case SO_ACCEPTCONN:
		return put_int(value, length, file->state == POSIX_LISTENING);
	default:
		return demi_getsockopt(file->qd, SOL_SOCKET, name, value, length);
	}
}

int posix_getsockopt(struct posix *px, int fd, int level, int name, void *value, socklen_t *length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	if (!file)
		return -1;
	if (!value || !length)
		return done(file, EFAULT);
	if (level == SOL_SOCKET)
		return done(file, get_socket_option(px, file, name, value, length));
	return done(file, demi_getsockopt(file->qd, level, name, value, length));
}

static int set_timeout(uint64_t *ns, const void *value, socklen_t length)
{
	struct timeval tv;

	if (length < sizeof(tv))
		return EINVAL;
	memcpy(&tv, value, sizeof(tv));
	if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
		return EDOM;
	*ns = tv.tv_sec < 0 ? 0 : (uint64_t)tv.tv_sec * 1000000000 + (uint64_t)tv.tv_usec * 1000;
	return 0;
}

int posix_setsockopt(struct posix *px, int fd, int level, int name, const void *value,
		     socklen_t length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	if (!file)
		return -1;
	if (!value)
		return done(file, EFAULT);
	if (level == SOL_SOCKET && name == SO_RCVTIMEO)
		return done(file, set_timeout(&file->rx_timeout_ns, value, length));
	if (level == SOL_SOCKET && name == SO_SNDTIMEO)
		return done(file, set_timeout(&file->tx_timeout_ns, value, length));
	return done(file, demi_setsockopt(file->qd, level, name, value, length));
}

int posix_fcntl(struct posix *px, int fd, int command, int value)
{
	struct posix_file *file = get(px, fd);
	int result = 0;

	if (!file)
		return -1;
	if (command == F_GETFL)
		result = O_RDWR | (file->nonblock ? O_NONBLOCK : 0);
	else if (command == F_SETFL)
		file->nonblock = (value & O_NONBLOCK) != 0;
	else if (command == F_GETFD)
		result = file->cloexec ? FD_CLOEXEC : 0;
	else if (command == F_SETFD)
		file->cloexec = (value & FD_CLOEXEC) != 0;
	else
		return done(file, EINVAL);
	posix_put(file);
	return result;
}

bool posix_unacknowledged(const struct posix_file *file, size_t *bytes)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);

	if (demi_getsockopt(file->qd, IPPROTO_TCP, TCP_INFO, &info, &length) ||
	    length < offsetof(struct tcp_info, tcpi_notsent_bytes) + sizeof(uint32_t))
		return false;
	*bytes = (size_t)info.tcpi_notsent_bytes + (size_t)info.tcpi_unacked * info.tcpi_snd_mss;
	return true;
}

bool posix_enough_unsent(const struct posix_file *file)
{
	struct tcp_info info = {0};
	uint32_t limit = 0;
	socklen_t length = sizeof(limit);

	if (demi_getsockopt(file->qd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &limit, &length) ||
	    limit == 0)
		return false;
	length = sizeof(info);
	return demi_getsockopt(file->qd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
	       info.tcpi_notsent_bytes >= limit;
}

/* Bytes that a read would find: the next datagram, or all that a stream holds. */
static size_t readable_bytes(struct posix *px, struct posix_file *file)
{
	while ((file->stream || !file->rx) && !file->rx_end && !file->error &&
	       posix_fill(px, file, 0) == 0)
		;
	if (!file->stream && file->rx)
		return file->rx->length;
	return file->rx_bytes;
}

int posix_ioctl(struct posix *px, int fd, unsigned long request, int *value)
{
	struct posix_file *file = posix_get_socket(px, fd);
	size_t bytes = 0;

	if (!file)
		return -1;
	if (!value)
		return done(file, EFAULT);
	switch (request) {
	case FIONREAD:
		if (file->state == POSIX_LISTENING)
			return done(file, EINVAL);
		*value = (int)readable_bytes(px, file);
		return done(file, 0);
	case FIONBIO:
		file->nonblock = *value != 0;
		return done(file, 0);
	case SIOCOUTQ:
		if (file->stream && !posix_unacknowledged(file, &bytes))
			return done(file, EINVAL);
		*value = (int)bytes;
		return done(file, 0);
	default:
		return done(file, ENOTTY);
	}
}
