/* SPDX-License-Identifier: MIT
 * posix/data.c - reading and writing.
 */
#include "posix/file.h"

#include <demi/libos.h>
#include <demi/memory.h>
#include <demi/queue.h>
#include <demi/sga.h>
#include <demi/socket.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#define PUSH_MAX (1U << 30) /* bytes of one write that are taken at most, as the system does */

static ssize_t ended(struct posix_file *file, ssize_t result, int err)
{
	posix_put(file);
	return err ? posix_fail(err) : result;
}

/* Total length of a vector; -1: too long, or too many pieces. */
static ssize_t vector_bytes(const struct iovec *iov, size_t count)
{
	size_t bytes = 0;

	if (count > IOV_MAX)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (iov[i].iov_len > SSIZE_MAX - bytes)
			return -1;
		bytes += iov[i].iov_len;
	}
	return (ssize_t)bytes;
}

static bool would_block(const struct posix_file *file, int flags)
{
	return file->nonblock || (flags & MSG_DONTWAIT);
}

/* ---- receiving ---- */

int posix_fill(struct posix *px, struct posix_file *file, uint64_t deadline_ns)
{
	demi_qresult_t qr;
	int err = 0;

	if (file->rx_end)
		return 0;
	if (!file->pop_qt)
		err = demi_pop(&file->pop_qt, file->qd);
	if (err)
		return err;
	err = posix_wait_or_cancel(px, &file->pop_qt, deadline_ns, &qr);
	if (err)
		return err == ETIMEDOUT || err == EBUSY ? EAGAIN : err;
	if (qr.qr_opcode == DEMI_OPC_FAILED && qr.qr_ret == ECANCELED)
		return EAGAIN;
	posix_note_pop(file, &qr);
	return 0;
}

/* Copies from an array, at an offset. */
static size_t copy_out(const struct posix_chunk *chunk, size_t offset, uint8_t *to, size_t bytes)
{
	size_t copied = 0;

	for (uint32_t i = 0; i < chunk->sga.sga_numsegs && copied < bytes; i++) {
		const uint8_t *from = chunk->sga.sga_segs[i].sgaseg_buf;
		size_t length = chunk->sga.sga_segs[i].sgaseg_len;
		if (offset >= length) {
			offset -= length;
			continue;
		}
		size_t n = length - offset < bytes - copied ? length - offset : bytes - copied;
		memcpy(to + copied, from + offset, n);
		copied += n;
		offset = 0;
	}
	return copied;
}

/* A place in a vector. */
struct place {
	const struct iovec *iov;
	size_t count;
	size_t offset;
};

/* Where the next bytes go; their room in *room, 0: the vector is full. */
static uint8_t *next_place(struct place *place, size_t *room)
{
	while (place->count > 0 && place->offset == place->iov->iov_len) {
		place->iov++;
		place->count--;
		place->offset = 0;
	}
	*room = place->count > 0 ? place->iov->iov_len - place->offset : 0;
	return *room ? (uint8_t *)place->iov->iov_base + place->offset : NULL;
}

/* Copies what is unread into a vector, from chunk on; within it only if one is set. */
static size_t scatter(const struct posix_chunk *chunk, bool one, struct place place)
{
	size_t total = 0;

	for (; chunk; chunk = one ? NULL : chunk->next) {
		size_t offset = chunk->offset;
		size_t room;
		uint8_t *to;
		while (offset < chunk->length && (to = next_place(&place, &room))) {
			size_t n = copy_out(chunk, offset, to, room);
			offset += n;
			place.offset += n;
			total += n;
		}
	}
	return total;
}

static void drop_first(struct posix_file *file)
{
	struct posix_chunk *chunk = file->rx;

	file->rx_bytes -= chunk->length - chunk->offset;
	file->rx = chunk->next;
	(void)demi_sgafree(&chunk->sga);
	free(chunk);
}

static void consume(struct posix_file *file, size_t bytes)
{
	while (bytes > 0) {
		struct posix_chunk *chunk = file->rx;
		size_t left = chunk->length - chunk->offset;
		if (bytes >= left) {
			bytes -= left;
			drop_first(file);
			continue;
		}
		chunk->offset += bytes;
		file->rx_bytes -= bytes;
		bytes = 0;
	}
}

/* Takes in what is there up to want bytes, and waits for the first, or for all.  0 or an errno. */
static int gather(struct posix *px, struct posix_file *file, size_t want, int flags)
{
	uint64_t deadline = would_block(file, flags) ? 0 : posix_deadline(px, file->rx_timeout_ns);
	size_t target = flags & MSG_WAITALL ? want : 1;
	int err = 0;

	while (!err && file->rx_bytes < want && !file->rx_end)
		err = posix_fill(px, file, 0);
	while (err == EAGAIN && file->rx_bytes < target && deadline != 0 && !file->closed) {
		err = posix_fill(px, file, deadline);
		while (!err && file->rx_bytes < want && !file->rx_end)
			err = posix_fill(px, file, 0);
		if (deadline != POSIX_FOREVER && px->now_ns(px->arg) >= deadline)
			break;
	}
	return err;
}

static ssize_t receive_stream(struct posix *px, struct posix_file *file, const struct msghdr *msg,
			      int flags)
{
	ssize_t want = vector_bytes(msg->msg_iov, msg->msg_iovlen);
	struct place place = {msg->msg_iov, msg->msg_iovlen, 0};

	if (want < 0 || (flags & MSG_OOB))
		return posix_fail(EINVAL);
	posix_progress(px, file,
		       would_block(file, flags) ? 0 : posix_deadline(px, file->rx_timeout_ns));
	if (file->state == POSIX_CONNECTING)
		return posix_fail(EAGAIN);
	if (file->error && !file->rx)
		return posix_fail(posix_take_error(file));
	if (file->state != POSIX_CONNECTED && !file->dead)
		return posix_fail(ENOTCONN);
	if (want == 0)
		return 0;
	if (file->rx_shut && !file->dead) /* some stacks go on to receive: ask anew */
		file->rx_end = false;
	int err = gather(px, file, (size_t)want, flags);
	if (file->rx_bytes > 0) {
		size_t n = (size_t)want < file->rx_bytes ? (size_t)want : file->rx_bytes;
		if (!(flags & MSG_TRUNC))
			n = scatter(file->rx, false, place);
		if (!(flags & MSG_PEEK))
			consume(file, n);
		return (ssize_t)n;
	}
	if (file->error)
		return posix_fail(posix_take_error(file));
	return file->rx_end ? 0 : posix_fail(file->closed ? EBADF : err);
}

static ssize_t receive_datagram(struct posix *px, struct posix_file *file, struct msghdr *msg,
				int flags)
{
	struct place place = {msg->msg_iov, msg->msg_iovlen, 0};
	uint64_t deadline = would_block(file, flags) ? 0 : posix_deadline(px, file->rx_timeout_ns);
	int err = 0;

	posix_progress(px, file, 0);
	if (vector_bytes(msg->msg_iov, msg->msg_iovlen) < 0 || (flags & MSG_OOB))
		return posix_fail(EINVAL);
	while (!file->rx && !file->error && !err && !file->closed)
		err = posix_fill(px, file, deadline);
	if (file->error)
		return posix_fail(posix_take_error(file));
	if (!file->rx)
		return posix_fail(file->closed ? EBADF : err);
	struct posix_chunk *chunk = file->rx;
	size_t n = scatter(chunk, true, place);
	size_t length = chunk->length;
	if (msg->msg_name)
		(void)demi_sgaaddr(&chunk->sga, msg->msg_name, &msg->msg_namelen);
	if (length > n)
		msg->msg_flags |= MSG_TRUNC;
	if (!(flags & MSG_PEEK))
		drop_first(file);
	return (ssize_t)(flags & MSG_TRUNC ? length : n);
}

ssize_t posix_recvmsg(struct posix *px, int fd, struct msghdr *message, int flags)
{
	struct posix_file *file = posix_get_socket(px, fd);
	ssize_t n;

	if (!file)
		return -1;
	message->msg_flags = 0;
	message->msg_controllen = 0;
	if (file->stream) {
		n = receive_stream(px, file, message, flags);
		message->msg_namelen = 0;
	} else {
		n = receive_datagram(px, file, message, flags);
	}
	return ended(file, n, n < 0 ? errno : 0);
}

ssize_t posix_readv(struct posix *px, int fd, const struct iovec *iov, int count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov,
				 .msg_iovlen = count < 0 ? (size_t)IOV_MAX + 1 : (size_t)count};

	return posix_recvmsg(px, fd, &message, 0);
}

ssize_t posix_recvfrom(struct posix *px, int fd, const struct iovec *buffer, int flags,
		       struct sockaddr *address, socklen_t *length)
{
	struct msghdr message = {.msg_name = length ? address : NULL,
				 .msg_namelen = length ? *length : 0,
				 .msg_iov = (struct iovec *)(uintptr_t)buffer,
				 .msg_iovlen = 1};
	ssize_t n = posix_recvmsg(px, fd, &message, flags);

	if (n >= 0 && length)
		*length = message.msg_namelen;
	return n;
}

ssize_t posix_recv(struct posix *px, int fd, void *buffer, size_t size, int flags)
{
	struct iovec iov = {buffer, size};

	return posix_recvfrom(px, fd, &iov, flags, NULL, NULL);
}

ssize_t posix_read(struct posix *px, int fd, void *buffer, size_t size)
{
	return posix_recv(px, fd, buffer, size, 0);
}

/* ---- sending ---- */

static size_t send_buffer(const struct posix_file *file)
{
	int bytes = 0;
	socklen_t length = sizeof(bytes);

	if (demi_getsockopt(file->qd, SOL_SOCKET, SO_SNDBUF, &bytes, &length) || bytes <= 0)
		return PUSH_MAX;
	return (size_t)bytes;
}

size_t posix_send_space(struct posix *px, struct posix_file *file)
{
	demi_qresult_t qr;
	size_t used;

	if (file->push_qt) {
		if (posix_wait(px, file->push_qt, 0, &qr))
			return 0;
		file->push_qt = 0;
		posix_note_push(file, &qr);
	}
	if (!posix_unacknowledged(file, &used))
		return PUSH_MAX; /* a push will show */
	if (posix_enough_unsent(file))
		return 0;
	size_t room = send_buffer(file);
	return used < room ? room - used : 0;
}

bool posix_writable(struct posix *px, struct posix_file *file)
{
	size_t space = posix_send_space(px, file);

	return space > 0 && space >= send_buffer(file) / 3;
}

/* The bytes of a vector, at most max, as one array in the heap; EMSGSIZE, ENOMEM. */
static int make_array(const struct iovec *iov, size_t count, size_t bytes, demi_sgarray_t *out)
{
	demi_sgarray_t sga = demi_sgaalloc(bytes);
	size_t at = 0;

	if (sga.sga_numsegs == 0)
		return ENOMEM;
	for (size_t i = 0; i < count && at < bytes; i++) {
		size_t n = iov[i].iov_len < bytes - at ? iov[i].iov_len : bytes - at;
		if (n > 0)
			memcpy((uint8_t *)sga.sga_segs[0].sgaseg_buf + at, iov[i].iov_base, n);
		at += n;
	}
	*out = sga;
	return 0;
}

/* Waits until the push that is outstanding has ended.  0 or an errno. */
static int await_push(struct posix *px, struct posix_file *file, uint64_t deadline_ns)
{
	demi_qresult_t qr;

	if (!file->push_qt)
		return 0;
	int err = posix_wait(px, file->push_qt, deadline_ns, &qr);
	if (err) {
		file->tx_blocked = true;
		return err == ETIMEDOUT || err == EBUSY ? EAGAIN : err;
	}
	file->push_qt = 0;
	posix_note_push(file, &qr);
	return posix_take_error(file);
}

/* Ends the wait for a push: what was not taken at all by the deadline is not sent; what was taken
 * in part counts as sent. */
static int finish_push(struct posix *px, struct posix_file *file, uint64_t deadline_ns)
{
	demi_qresult_t qr;
	int err = posix_wait_or_cancel(px, &file->push_qt, deadline_ns, &qr);

	if (err == ETIMEDOUT || err == EBUSY)
		return 0;
	if (err)
		return err;
	if (qr.qr_opcode != DEMI_OPC_FAILED)
		return 0;
	if (qr.qr_ret == ECANCELED) {
		file->tx_blocked = true;
		return file->closed ? EBADF : EAGAIN;
	}
	posix_note_push(file, &qr);
	return posix_take_error(file);
}

static void set_more(struct posix_file *file, bool more)
{
	int value = more ? DEMI_CORK_MORE : 0;

	(void)demi_setsockopt(file->qd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
	file->more = more;
}

static int push_stream(struct posix *px, struct posix_file *file, const struct msghdr *msg,
		       size_t bytes, uint64_t deadline_ns)
{
	demi_sgarray_t sga;
	int err = make_array(msg->msg_iov, msg->msg_iovlen, bytes, &sga);

	if (err)
		return err;
	err = demi_push(&file->push_qt, file->qd, &sga);
	(void)demi_sgafree(&sga);
	return err ? err : finish_push(px, file, deadline_ns);
}

/* Why a stream takes no data; 0: it does. */
static int send_refusal(struct posix *px, struct posix_file *file, uint64_t deadline_ns)
{
	posix_progress(px, file, deadline_ns);
	if (file->state == POSIX_CONNECTING)
		return EAGAIN;
	if (file->error)
		return posix_take_error(file);
	if (file->tx_shut || file->dead)
		return EPIPE;
	return file->state == POSIX_CONNECTED ? 0 : ENOTCONN;
}

static ssize_t send_stream(struct posix *px, struct posix_file *file, const struct msghdr *msg,
			   int flags)
{
	ssize_t total = vector_bytes(msg->msg_iov, msg->msg_iovlen);
	uint64_t deadline = would_block(file, flags) ? 0 : posix_deadline(px, file->tx_timeout_ns);

	if (flags & (MSG_OOB | MSG_FASTOPEN | MSG_ZEROCOPY))
		return posix_fail(EOPNOTSUPP);
	if (total < 0)
		return posix_fail(EINVAL);
	int err = send_refusal(px, file, deadline);
	if (!err)
		err = await_push(px, file, deadline);
	if (err || total == 0)
		return err ? posix_fail(err) : 0;
	size_t bytes = (size_t)total < PUSH_MAX ? (size_t)total : PUSH_MAX;
	if (deadline == 0) {
		size_t space = posix_send_space(px, file);
		if (space == 0) {
			file->tx_blocked = true;
			return posix_fail(EAGAIN);
		}
		bytes = bytes < space ? bytes : space;
	}
	if ((flags & MSG_MORE) && !file->more)
		set_more(file, true);
	err = push_stream(px, file, msg, bytes, deadline);
	if (!(flags & MSG_MORE) && file->more)
		set_more(file, false);
	return err ? posix_fail(err) : (ssize_t)bytes;
}

/* One datagram, of no bytes too. */
static int push_datagram(struct posix_file *file, const struct msghdr *msg, size_t bytes)
{
	static uint8_t nothing;
	demi_sgarray_t sga = {.sga_numsegs = 1};
	int err = 0;

	sga.sga_segs[0].sgaseg_buf = &nothing;
	if (bytes > 0)
		err = make_array(msg->msg_iov, msg->msg_iovlen, bytes, &sga);
	if (err)
		return err;
	if (msg->msg_name)
		err = demi_pushto(&file->push_qt, file->qd, &sga, msg->msg_name, msg->msg_namelen);
	else
		err = demi_push(&file->push_qt, file->qd, &sga);
	if (bytes > 0)
		(void)demi_sgafree(&sga);
	return err;
}

static ssize_t send_datagram(struct posix *px, struct posix_file *file, const struct msghdr *msg,
			     int flags)
{
	ssize_t total = vector_bytes(msg->msg_iov, msg->msg_iovlen);
	uint64_t deadline = would_block(file, flags) ? 0 : posix_deadline(px, file->tx_timeout_ns);

	if (flags & MSG_OOB)
		return posix_fail(EOPNOTSUPP);
	if (total < 0 || total > UINT16_MAX)
		return posix_fail(EMSGSIZE);
	posix_progress(px, file, 0);
	if (file->error)
		return posix_fail(posix_take_error(file));
	int err = await_push(px, file, deadline);
	if (!err)
		err = push_datagram(file, msg, (size_t)total);
	if (!err)
		err = finish_push(px, file, deadline);
	return err ? posix_fail(err) : total;
}

ssize_t posix_sendmsg(struct posix *px, int fd, const struct msghdr *message, int flags)
{
	struct posix_file *file = posix_get_socket(px, fd);

	if (!file)
		return -1;
	ssize_t n = file->stream ? send_stream(px, file, message, flags)
				 : send_datagram(px, file, message, flags);
	return ended(file, n, n < 0 ? errno : 0);
}

ssize_t posix_writev(struct posix *px, int fd, const struct iovec *iov, int count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov,
				 .msg_iovlen = count < 0 ? (size_t)IOV_MAX + 1 : (size_t)count};

	return posix_sendmsg(px, fd, &message, 0);
}

ssize_t posix_sendto(struct posix *px, int fd, const struct iovec *bytes, int flags,
		     const struct sockaddr *address, socklen_t length)
{
	struct msghdr message = {.msg_name = (void *)(uintptr_t)address,
				 .msg_namelen = length,
				 .msg_iov = (struct iovec *)(uintptr_t)bytes,
				 .msg_iovlen = 1};

	return posix_sendmsg(px, fd, &message, flags);
}

ssize_t posix_send(struct posix *px, int fd, const void *bytes, size_t size, int flags)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, size};

	return posix_sendto(px, fd, &iov, flags, NULL, 0);
}

ssize_t posix_write(struct posix *px, int fd, const void *bytes, size_t size)
{
	return posix_send(px, fd, bytes, size, 0);
}
