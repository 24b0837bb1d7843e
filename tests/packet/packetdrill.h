/* SPDX-License-Identifier: MIT
 * tests/packet/packetdrill.h - the interface by which packetdrill drives a stack that is a shared
 * object: `packetdrill --so_filename=X.so --so_flags=WORDS`.
 *
 * Declared from a description of it, in words of our own; the order of the members is the
 * interface.  Every member takes userdata first.  Those that stand for a system call return what it
 * returns, -1 with errno after an error.  A descriptor is one of the kernel's, which packetdrill
 * may close by itself.  Packets are bare IP.
 */
#pragma once

#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct packetdrill_interface {
	void *userdata;
	void (*free)(void *userdata); /* no other member is called any more */
	int (*socket)(void *userdata, int domain, int type, int protocol);
	int (*bind)(void *userdata, int fd, const struct sockaddr *address, socklen_t length);
	int (*listen)(void *userdata, int fd, int backlog);
	int (*accept)(void *userdata, int fd, struct sockaddr *address, socklen_t *length);
	int (*connect)(void *userdata, int fd, const struct sockaddr *address, socklen_t length);
	ssize_t (*read)(void *userdata, int fd, void *buffer, size_t size);
	ssize_t (*readv)(void *userdata, int fd, const struct iovec *iov, int count);
	ssize_t (*recv)(void *userdata, int fd, void *buffer, size_t size, int flags);
	ssize_t (*recvfrom)(void *userdata, int fd, void *buffer, size_t size, int flags,
			    struct sockaddr *address, socklen_t *length);
	ssize_t (*recvmsg)(void *userdata, int fd, struct msghdr *message, int flags);
	ssize_t (*write)(void *userdata, int fd, const void *bytes, size_t size);
	ssize_t (*writev)(void *userdata, int fd, const struct iovec *iov, int count);
	ssize_t (*send)(void *userdata, int fd, const void *bytes, size_t size, int flags);
	ssize_t (*sendto)(void *userdata, int fd, const void *bytes, size_t size, int flags,
			  const struct sockaddr *address, socklen_t length);
	ssize_t (*sendmsg)(void *userdata, int fd, const struct msghdr *message, int flags);
	int (*fcntl)(void *userdata, int fd, int command, ...);
	int (*ioctl)(void *userdata, int fd, unsigned long request, ...);
	int (*close)(void *userdata, int fd);
	int (*shutdown)(void *userdata, int fd, int how);
	int (*getsockopt)(void *userdata, int fd, int level, int name, void *value,
			  socklen_t *length);
	int (*setsockopt)(void *userdata, int fd, int level, int name, const void *value,
			  socklen_t length);
	int (*poll)(void *userdata, struct pollfd *fds, nfds_t count, int timeout_ms);
	/* A packet arrives at the stack.  0 or -1. */
	int (*netdev_send)(void *userdata, const void *packet, size_t bytes);
	/* The next packet that leaves the stack.  *bytes: room in, length out; 0: none came.
	 * *time_usecs: when it left.  0; -1: ask again. */
	int (*netdev_receive)(void *userdata, void *packet, size_t *bytes, long long *time_usecs);
	int (*usleep)(void *userdata, useconds_t usecs);
	int (*gettimeofday)(void *userdata, struct timeval *time, struct timezone *zone);
	int (*epoll_create)(void *userdata, int size);
	int (*epoll_ctl)(void *userdata, int epfd, int operation, int fd,
			 struct epoll_event *event);
	int (*epoll_wait)(void *userdata, int epfd, struct epoll_event *events, int max,
			  int timeout_ms);
	int (*pipe)(void *userdata, int fds[2]);
	ssize_t (*splice)(void *userdata, int fd_in, loff_t *off_in, int fd_out, loff_t *off_out,
			  size_t length, unsigned int flags);
};

/* The one symbol of such an object: fills *ifc.  flags may be NULL. */
typedef void (*packetdrill_interface_init_t)(const char *flags, struct packetdrill_interface *ifc);
__attribute__((visibility("default"))) void
packetdrill_interface_init(const char *flags, struct packetdrill_interface *ifc);
