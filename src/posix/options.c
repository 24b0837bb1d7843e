/* SPDX-License-Identifier: MIT
 * posix/options.c - names, options, flags, and what ioctl tells of a socket.
 */
#include "posix/file.h"

#include <demi/libos.h>
#include <demi/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

int posix_getsockname(struct posix *px, int fd, struct sockaddr *address, socklen_t *length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	return file ? posix_done(file, demi_getsockname(file->qd, address, length)) : -1;
}

int posix_getpeername(struct posix *px, int fd, struct sockaddr *address, socklen_t *length)
{
	struct posix_file *file = posix_get_socket(px, fd);

	return file ? posix_done(file, demi_getpeername(file->qd, address, length)) : -1;
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
		return posix_done(file, EFAULT);
	if (level == SOL_SOCKET)
		return posix_done(file, get_socket_option(px, file, name, value, length));
	return posix_done(file, demi_getsockopt(file->qd, level, name, value, length));
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
		return posix_done(file, EFAULT);
	if (level == SOL_SOCKET && name == SO_RCVTIMEO)
		return posix_done(file, set_timeout(&file->rx_timeout_ns, value, length));
	if (level == SOL_SOCKET && name == SO_SNDTIMEO)
		return posix_done(file, set_timeout(&file->tx_timeout_ns, value, length));
	return posix_done(file, demi_setsockopt(file->qd, level, name, value, length));
}

int posix_fcntl(struct posix *px, int fd, int command, int value)
{
	struct posix_file *file = posix_get(px, fd);
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
		return posix_done(file, EINVAL);
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
		return posix_done(file, EFAULT);
	switch (request) {
	case FIONREAD:
		if (file->state == POSIX_LISTENING)
			return posix_done(file, EINVAL);
		*value = (int)readable_bytes(px, file);
		return posix_done(file, 0);
	case FIONBIO:
		file->nonblock = *value != 0;
		return posix_done(file, 0);
	case SIOCOUTQ:
		if (file->stream && !posix_unacknowledged(file, &bytes))
			return posix_done(file, EINVAL);
		*value = (int)bytes;
		return posix_done(file, 0);
	default:
		return posix_done(file, ENOTTY);
	}
}
