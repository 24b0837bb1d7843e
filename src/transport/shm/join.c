/* SPDX-License-Identifier: MIT
 * transport/shm/join.c - how two ends come to have each other's memory, and what their socket is
 * for afterwards: a byte in it wakes who sleeps, and its end is the peer's.  A leaf: it makes
 * system calls.
 *
 * A byte in a socket, not a futex: an instance sleeps on many things, in epoll.  Not an eventfd: a
 * peer that shares one could make our write block.
 */
#include "transport/shm/greeting.h"
#include "transport/shm/lend.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMORY_BYTES round_up(sizeof(struct ring_shared), 4096)
#define MEMORY_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

/* ---- memory ---- */

static void *map_own(int fd)
{
	if (ftruncate(fd, (off_t)MEMORY_BYTES))
		return MAP_FAILED;
	void *at = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return at;
	/* No child has it; nobody but this mapping can write it. */
	if (madvise(at, MEMORY_BYTES, MADV_DONTFORK) || fcntl(fd, F_ADD_SEALS, MEMORY_SEALS)) {
		munmap(at, MEMORY_BYTES);
		return MAP_FAILED;
	}
	return at;
}

int join_memory(struct channel *channel)
{
	int fd = memfd_create("demitasse-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	void *at = map_own(fd);
	if (at == MAP_FAILED) {
		int err = -errno;
		close(fd);
		return err;
	}
	channel->memory_fd = fd;
	channel->own = at;
	channel->own->magic = RING_MAGIC;
	channel->own->version = RING_VERSION;
	return 0;
}

/* memory_fd stays the caller's. */
static int map_peer(struct channel *channel, int memory_fd)
{
	void *at = mmap(NULL, MEMORY_BYTES, PROT_READ, MAP_SHARED, memory_fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	(void)madvise(at, MEMORY_BYTES, MADV_DONTFORK);
	channel->mapped = at;
	channel->peer = at;
	return 0;
}

void join_hang_up(struct channel *channel)
{
	timer_cancel(&channel->sched->timers, &channel->patience);
	if (channel->socket.fd < 0)
		return;
	fdset_remove(&channel->sched->fds, &channel->socket);
	close(channel->socket.fd);
	channel->socket.fd = -1;
}

void join_leave(struct channel *channel)
{
	join_hang_up(channel);
	if (channel->mapped)
		munmap((void *)(uintptr_t)channel->mapped, MEMORY_BYTES);
	munmap(channel->own, MEMORY_BYTES);
	if (channel->memory_fd >= 0)
		close(channel->memory_fd);
}

/* ---- the socket of two that know each other ---- */

#define WAKES_AT_ONCE 16

/* Takes the wake-ups that have come.  Returns whether the peer is still there. */
static bool take_wakes(int fd)
{
	char bytes[8];

	for (uint32_t i = 0; i < WAKES_AT_ONCE; i++) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n == 0)
			return false;
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
	}
	return true;
}

/* The peer has closed its end of the socket, or half of it: it still has memory of ours or we of
 * it. */
static void half_left(struct channel *channel)
{
	struct fdset *fds = &channel->sched->fds;

	channel_left(channel);
	fdset_remove(fds, &channel->socket);
	if (!channel_owes(channel) || fdset_add(fds, &channel->socket, 0)) {
		join_hang_up(channel);
		lend_take_back(channel);
	}
}

static void joined_event(struct fd_watch *watch, uint32_t events)
{
	struct channel *channel = container_of(watch, struct channel, socket);

	shm_warm(channel);
	bool there = take_wakes(watch->fd);
	if (events & (EPOLLHUP | EPOLLERR)) {
		join_hang_up(channel);
		channel_left(channel);
		lend_take_back(channel);
	} else if (!there) {
		half_left(channel);
	}
}

void join_half(const struct channel *channel)
{
	if (channel->socket.fd >= 0)
		(void)shutdown(channel->socket.fd, SHUT_WR);
}

void join_wake(const struct channel *channel)
{
	/* A full socket has wake-ups in it. */
	if (channel->socket.fd >= 0)
		(void)!send(channel->socket.fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int join_watch(struct channel *channel, bool lazy)
{
	struct fdset *fds = &channel->sched->fds;

	fdset_remove(fds, &channel->socket);
	channel->socket.lazy = lazy;
	return fdset_add(fds, &channel->socket, EPOLLIN | EPOLLRDHUP);
}

/* ---- greeting ---- */

static int greet(const struct channel *channel, int fd, const void *hello, uint32_t bytes)
{
	const struct shm *shm = channel->shm;
	struct greeting greeting = {
		.magic = RING_MAGIC,
		.version = RING_VERSION,
		.heap_bytes = shm->region_fd >= 0 ? channel->sched->heap->region_bytes : 0,
		.barrier = shm->barrier,
		.hello_bytes = bytes,
	};

	memcpy(greeting.hello, hello, bytes);
	return greeting_send(fd, &greeting, channel->memory_fd, shm->region_fd);
}

/* Both know each other now; ours needs to be sent to nobody else. */
static void complete(struct channel *channel, bool barrier)
{
	close(channel->memory_fd);
	channel->memory_fd = -1;
	channel->state = CHANNEL_JOINED;
	channel->lends = channel->shm->region_fd >= 0;
	channel->fenceless = barrier && channel->shm->barrier;
	/* It may have fallen asleep when nobody could see that: what was pushed is news to it. */
	channel_tell(channel, RING_ASLEEP | RING_WANTS_ROOM);
	shm_warm(channel);
}

static void answer_event(struct fd_watch *watch, uint32_t events)
{
	struct channel *channel = container_of(watch, struct channel, socket);
	struct greeting greeting;
	int memory_fd;
	int heap_fd;

	(void)events;
	int err = greeting_receive(watch->fd, &greeting, &memory_fd, &heap_fd);
	if (err == -EAGAIN)
		return;
	if (!err) {
		err = map_peer(channel, memory_fd);
		if (!err)
			lend_map(channel, heap_fd, greeting.heap_bytes);
		close(memory_fd);
		if (heap_fd >= 0)
			close(heap_fd);
	}
	if (!err) {
		timer_cancel(&channel->sched->timers, &channel->patience);
		watch->fn = joined_event;
		err = join_watch(channel, true);
	}
	if (err) {
		join_hang_up(channel);
		channel_fail(channel, err);
		return;
	}
	complete(channel, greeting.barrier != 0);
	channel_enter(channel);
	channel->owner->joined(channel, greeting.hello, greeting.hello_bytes);
	channel_leave(channel);
}

static void patience_ends(struct timer *timer)
{
	struct channel *channel = container_of(timer, struct channel, patience);

	channel_enter(channel);
	answer_event(&channel->socket, 0); /* it may have come while we were busy */
	if (channel->state == CHANNEL_GREETING) {
		join_hang_up(channel);
		channel_fail(channel, -ETIMEDOUT);
	}
	channel_leave(channel);
}

void join_init(struct channel *channel)
{
	channel->socket.fd = -1;
	channel->memory_fd = -1;
	timer_init(&channel->patience, patience_ends);
}

int channel_connect(struct channel *channel, int fd, const void *hello, uint32_t bytes)
{
	struct sched *sched = channel->sched;
	socklen_t length = sizeof(channel->credentials);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &channel->credentials, &length))
		return -errno;
	int err = greet(channel, fd, hello, bytes);
	if (err)
		return err;
	channel->socket = (struct fd_watch){.fd = fd, .fn = answer_event};
	err = join_watch(channel, false);
	if (err) {
		channel->socket.fd = -1;
		return err;
	}
	channel->state = CHANNEL_GREETING;
	timer_arm(&sched->timers, &channel->patience, sched_now(sched) + CHANNEL_ANSWER_NS);
	return 0;
}

int channel_accept(struct channel *channel, struct visitor *visitor, const void *hello,
		   uint32_t bytes)
{
	int err = greet(channel, visitor->fd, hello, bytes);

	if (err)
		return err;
	err = map_peer(channel, visitor->memory_fd);
	if (err)
		return err;
	channel->socket = (struct fd_watch){.fd = visitor->fd, .fn = joined_event};
	err = join_watch(channel, true);
	if (err) {
		channel->socket.fd = -1;
		munmap((void *)(uintptr_t)channel->mapped, MEMORY_BYTES);
		channel->mapped = NULL;
		channel->peer = NULL;
		return err;
	}
	lend_map(channel, visitor->heap_fd, visitor->heap_bytes);
	close(visitor->memory_fd);
	if (visitor->heap_fd >= 0)
		close(visitor->heap_fd);
	channel->credentials = visitor->peer;
	complete(channel, visitor->barrier);
	channel_enter(channel);
	channel->owner->joined(channel, visitor->hello, visitor->hello_bytes);
	channel_leave(channel);
	return 0;
}
