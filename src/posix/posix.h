/* SPDX-License-Identifier: MIT
 * posix/posix.h - POSIX sockets over the public API of the library, for test runners and for a
 * preload library to come.
 *
 * Names and results are those of the system calls: -1 with errno, or the value.  State lives in a
 * struct posix of the caller's, one for each instance; calls act on the calling thread's current
 * instance, which is the one that the struct was made in.  A call that blocks suspends the
 * coroutine that it runs in, else the thread.
 *
 * What a socket receives stays in the stack until somebody asks for it: a pop is issued by the call
 * that needs one and cancelled when that call would block, so the receive window is that of a plain
 * socket.  A peek, FIONREAD and an edge-triggered wait take what they tell of into the layer.
 * Closing a stream with unread data resets it (RFC 2525 2.17).
 *
 * Departures: no SIGPIPE; no urgent data (MSG_OOB is EOPNOTSUPP on sending, EINVAL on receiving); a
 * write that the stack takes in part counts as taken whole, and the socket is not writable until
 * the rest is taken too; SO_LINGER does not make close wait.
 */
#pragma once

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct posix_file;

struct posix {
	uint64_t (*now_ns)(void *arg); /* the instance's clock, for timeouts */
	void *arg;
	int first_fd;
	int num_files;
	struct posix_file **files; /* files[i]: descriptor first_fd + i; NULL: free */
	int num_orphans;
	int max_orphans;
	uint64_t *orphans; /* tokens of pushes that go on behind a closed descriptor */
};

/* Descriptors are the lowest free ones from first_fd on, at most max.  0, or -1 with ENOMEM. */
int posix_init(struct posix *px, int first_fd, int max, uint64_t (*now_ns)(void *arg), void *arg);
/* Closes what is open. */
void posix_fini(struct posix *px);

int posix_socket(struct posix *px, int domain, int type, int protocol);
int posix_bind(struct posix *px, int fd, const struct sockaddr *address, socklen_t length);
int posix_listen(struct posix *px, int fd, int backlog);
int posix_accept(struct posix *px, int fd, struct sockaddr *address, socklen_t *length);
int posix_accept4(struct posix *px, int fd, struct sockaddr *address, socklen_t *length, int flags);
int posix_connect(struct posix *px, int fd, const struct sockaddr *address, socklen_t length);
int posix_shutdown(struct posix *px, int fd, int how);
int posix_close(struct posix *px, int fd);
int posix_getsockname(struct posix *px, int fd, struct sockaddr *address, socklen_t *length);
int posix_getpeername(struct posix *px, int fd, struct sockaddr *address, socklen_t *length);
int posix_getsockopt(struct posix *px, int fd, int level, int name, void *value, socklen_t *length);
int posix_setsockopt(struct posix *px, int fd, int level, int name, const void *value,
		     socklen_t length);
/* F_GETFL, F_SETFL (O_NONBLOCK), F_GETFD, F_SETFD. */
int posix_fcntl(struct posix *px, int fd, int command, int value);
/* FIONREAD, FIONBIO, SIOCOUTQ. */
int posix_ioctl(struct posix *px, int fd, unsigned long request, int *value);

ssize_t posix_read(struct posix *px, int fd, void *buffer, size_t size);
ssize_t posix_readv(struct posix *px, int fd, const struct iovec *iov, int count);
ssize_t posix_recv(struct posix *px, int fd, void *buffer, size_t size, int flags);
ssize_t posix_recvfrom(struct posix *px, int fd, const struct iovec *buffer, int flags,
		       struct sockaddr *address, socklen_t *length);
ssize_t posix_recvmsg(struct posix *px, int fd, struct msghdr *message, int flags);

ssize_t posix_write(struct posix *px, int fd, const void *bytes, size_t size);
ssize_t posix_writev(struct posix *px, int fd, const struct iovec *iov, int count);
ssize_t posix_send(struct posix *px, int fd, const void *bytes, size_t size, int flags);
ssize_t posix_sendto(struct posix *px, int fd, const struct iovec *bytes, int flags,
		     const struct sockaddr *address, socklen_t length);
ssize_t posix_sendmsg(struct posix *px, int fd, const struct msghdr *message, int flags);

/* timeout_ms below 0: for ever. */
int posix_poll(struct posix *px, struct pollfd *fds, nfds_t count, int timeout_ms);
int posix_epoll_create(struct posix *px, int flags);
int posix_epoll_ctl(struct posix *px, int epfd, int operation, int fd, struct epoll_event *event);
int posix_epoll_wait(struct posix *px, int epfd, struct epoll_event *events, int max,
		     int timeout_ms);
