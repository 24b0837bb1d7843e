/* SPDX-License-Identifier: MIT
 * transport/shm/greeting.c - a leaf: it makes system calls.
 *
 * What comes is a peer's: sizes, words and descriptors are checked before anything is made of them.
 */
#include "transport/shm/greeting.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 2

union descriptors {
	struct cmsghdr header;
	char room[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
};

int greeting_send(int fd, const struct greeting *greeting, int memory_fd, int heap_fd)
{
	union descriptors control = {.room = {0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)greeting, .iov_len = sizeof(*greeting)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	int fds[DESCRIPTORS_MAX] = {memory_fd, heap_fd};
	size_t bytes = heap_fd >= 0 ? 2 * sizeof(int) : sizeof(int);

	if (memory_fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(bytes);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(&control.header), fds, bytes);
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void greeting_refuse(int fd, int err)
{
	struct greeting greeting = {
		.magic = RING_MAGIC, .version = RING_VERSION, .refusal = err < 0 ? -err : err};

	(void)greeting_send(fd, &greeting, -1, -1);
}

/* Descriptors that came with a message: 0 to DESCRIPTORS_MAX. */
static uint32_t take_descriptors(struct msghdr *message, int *fds)
{
	const struct cmsghdr *control = CMSG_FIRSTHDR(message);

	if (!control || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
		return 0;
	uint32_t count = (uint32_t)((control->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fds, CMSG_DATA(control), count * sizeof(int));
	return count;
}

/* May it be mapped and read at any time: so long at least, unable to shrink, of ordinary pages (a
 * huge one may be lacking when it is read)? */
static bool good_memory(int fd, uint64_t bytes)
{
	struct stat status;
	struct statfs system;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK) && fstatfs(fd, &system) == 0 &&
	       system.f_type == TMPFS_MAGIC && fstat(fd, &status) == 0 &&
	       (uint64_t)status.st_size >= bytes;
}

/* 0 or -errno: what the words of a greeting say. */
static int judge(const struct greeting *greeting, ssize_t bytes)
{
	if (bytes == 0)
		return -ECONNRESET;
	if (bytes != sizeof(*greeting) || greeting->magic != RING_MAGIC ||
	    greeting->version != RING_VERSION || greeting->hello_bytes > CHANNEL_HELLO_MAX)
		return -EPROTO;
	if (greeting->refusal)
		return greeting->refusal > 0 && greeting->refusal < 4096 ? -greeting->refusal
									 : -EPROTO;
	return 0;
}

/* 0 or -EPROTO: whether the descriptors are what the greeting says. */
static int judge_memory(const struct greeting *greeting, const int *fds, uint32_t count)
{
	uint32_t wanted = greeting->heap_bytes > 0 ? 2 : 1;

	if (count != wanted || !good_memory(fds[0], sizeof(struct ring_shared)))
		return -EPROTO;
	return wanted == 1 || good_memory(fds[1], greeting->heap_bytes) ? 0 : -EPROTO;
}

int greeting_receive(int fd, struct greeting *greeting, int *memory_fd, int *heap_fd)
{
	union descriptors control;
	struct iovec iov = {.iov_base = greeting, .iov_len = sizeof(*greeting)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	int fds[DESCRIPTORS_MAX] = {-1, -1};
	ssize_t bytes = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (bytes < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -ECONNRESET;
	uint32_t count = take_descriptors(&message, fds);
	int err = message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EPROTO : judge(greeting, bytes);
	if (!err)
		err = judge_memory(greeting, fds, count);
	if (err) {
		for (uint32_t i = 0; i < count; i++)
			close(fds[i]);
		return err;
	}
	*memory_fd = fds[0];
	*heap_fd = fds[1];
	return 0;
}
