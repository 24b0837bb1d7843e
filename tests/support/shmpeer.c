/* tests/support/shmpeer.c: see shmpeer.h. */
#include "support/shmpeer.h"

#include "base/assert.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void *make_memory(const char *name, uint64_t bytes, int *fd_out)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ASSERT(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	ASSERT(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT(at != MAP_FAILED);
	*fd_out = fd;
	return at;
}

void shmpeer_open(struct shmpeer *peer)
{
	*peer = (struct shmpeer){.fd = -1};
	peer->own = make_memory("peer", sizeof(*peer->own), &peer->memory_fd);
	peer->heap = make_memory("peer-heap", SHMPEER_HEAP_BYTES, &peer->heap_fd);
	peer->own->magic = RING_MAGIC;
	peer->own->version = RING_VERSION;
}

struct greeting shmpeer_greeting(void)
{
	return (struct greeting){
		.magic = RING_MAGIC,
		.version = RING_VERSION,
		.heap_bytes = SHMPEER_HEAP_BYTES,
	};
}

/* The channel's memory, from its greeting. */
static void take_theirs(struct shmpeer *peer)
{
	struct greeting greeting;
	int memory_fd;
	int heap_fd;

	ASSERT(greeting_receive(peer->fd, &greeting, &memory_fd, &heap_fd) == 0);
	peer->theirs = mmap(NULL, sizeof(*peer->theirs), PROT_READ, MAP_SHARED, memory_fd, 0);
	ASSERT(peer->theirs != MAP_FAILED);
	close(memory_fd);
	if (heap_fd >= 0)
		close(heap_fd);
}

void shmpeer_join(struct shmpeer *peer, struct shmrig *end)
{
	struct greeting greeting = shmpeer_greeting();
	int fds[2];

	ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	peer->fd = fds[1];
	ASSERT(channel_connect(end->channel, fds[0], "", 0) == 0);
	take_theirs(peer);
	ASSERT(greeting_send(peer->fd, &greeting, peer->memory_fd, peer->heap_fd) == 0);
	for (uint32_t i = 0; i < 3; i++)
		shmrig_turn(end);
	ASSERT(end->joined == 1);
}

void shmpeer_leave(struct shmpeer *peer)
{
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

void shmpeer_close(struct shmpeer *peer)
{
	shmpeer_leave(peer);
	munmap(peer->own, sizeof(*peer->own));
	munmap(peer->heap, SHMPEER_HEAP_BYTES);
	if (peer->theirs)
		munmap((void *)(uintptr_t)peer->theirs, sizeof(*peer->theirs));
	close(peer->memory_fd);
	close(peer->heap_fd);
}

void shmpeer_send(struct shmpeer *peer, uint8_t kind, uint8_t form, uint32_t bytes,
		  const void *lines)
{
	uint32_t count = ring_lines(bytes);
	uint32_t room = bytes < RING_INLINE_MAX ? bytes : RING_INLINE_MAX;

	for (uint32_t i = 0; i < room; i += RING_LINE_BYTES) {
		uint32_t some = room - i < RING_LINE_BYTES ? room - i : RING_LINE_BYTES;
		struct ring_line *line =
			&peer->own->lines[(peer->position + i / RING_LINE_BYTES) % RING_LINES];
		if (i > 0)
			atomic_store(&line->head, 0);
		memcpy(line->bytes, (const char *)lines + i, some);
	}
	atomic_store(&peer->own->lines[peer->position % RING_LINES].head,
		     ring_head(peer->position, kind, (enum ring_form)form, bytes));
	peer->position += count;
}

void shmpeer_return(struct shmpeer *peer, uint32_t loan)
{
	uint32_t position = peer->returns++;

	atomic_store(&peer->own->returns[position % RING_LOANS],
		     (uint64_t)ring_sequence(position) << 32 | loan);
}

void shmpeer_wake(const struct shmpeer *peer)
{
	if (peer->fd >= 0)
		(void)!send(peer->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}
