/* SPDX-License-Identifier: MIT
 * blkdev/uring/memory.c - which of the heap's superblocks are registered with a ring.
 *
 * The kernel looks up and pins the pages of a transfer each time, but those of a registered buffer
 * once.  A superblock is registered when memory of it is first seen, and forgotten before the heap
 * gives it back: what comes at its address later is other pages.  One that cannot be, or whose slot
 * another has, is transferred as any memory.
 *
 * What a user may pin can be bounded (RLIMIT_MEMLOCK), usually at 8 MiB.  That is left to those who
 * cannot do without: rings themselves count, since Linux 6.14.
 */
#include "blkdev/uring/uring.h"

#include "base/bits.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Superblocks are multiples of their size. */
#define SEEN       1
#define REGISTERED 2
#define FLAGS      ((uintptr_t)3)

static uintptr_t *slot_of(struct uring_memory *memory, uintptr_t superblock)
{
	return &memory->slots[(superblock >> SUPERBLOCK_SHIFT) % URING_SLOTS];
}

/* base NULL: none. */
static int update(struct uring_memory *memory, const uintptr_t *slot, void *base)
{
	struct iovec iov = {.iov_base = base, .iov_len = base ? SUPERBLOCK_BYTES : 0};
	__u64 tag = 0;

	return io_uring_register_buffers_update_tag(memory->ring, (unsigned)(slot - memory->slots),
						    &iov, &tag, 1);
}

static void first_seen(struct uring_memory *memory, uintptr_t *slot, char *superblock)
{
	*slot = (uintptr_t)superblock | SEEN;
	if (update(memory, slot, superblock) == 1)
		*slot |= REGISTERED;
}

int uring_memory_find(struct uring_memory *memory, const struct iovec *piece)
{
	const struct pages_range *range = &pages_process.range;
	uint64_t within = (uintptr_t)piece->iov_base & (SUPERBLOCK_BYTES - 1);
	char *superblock = (char *)piece->iov_base - within;
	uintptr_t *slot = slot_of(memory, (uintptr_t)superblock);

	if (!memory->ring || within + piece->iov_len > SUPERBLOCK_BYTES ||
	    (uintptr_t)superblock - range->base >= range->bytes)
		return -1;
	if (unlikely(*slot == 0))
		first_seen(memory, slot, superblock);
	return likely(*slot == ((uintptr_t)superblock | SEEN | REGISTERED))
		       ? (int)(slot - memory->slots)
		       : -1;
}

static void going(struct heap_watcher *watcher, char *base, uint64_t bytes)
{
	struct uring_memory *memory = container_of(watcher, struct uring_memory, watcher);

	for (char *superblock = base; superblock < base + bytes; superblock += SUPERBLOCK_BYTES) {
		uintptr_t *slot = slot_of(memory, (uintptr_t)superblock);
		if ((*slot & ~FLAGS) != (uintptr_t)superblock)
			continue;
		if (*slot & REGISTERED)
			(void)update(memory, slot, NULL);
		*slot = 0;
	}
}

static bool is_bounded(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY)
		return false;
	return syscall(SYS_capget, &header, data) != 0 || !(data[0].effective & 1U << CAP_IPC_LOCK);
}

void uring_memory_open(struct uring_memory *memory, struct io_uring *ring, struct heap *heap)
{
	/* Sparse: not before Linux 5.19. */
	if (is_bounded() || io_uring_register_buffers_sparse(ring, URING_SLOTS))
		return;
	memory->ring = ring;
	memory->watcher.going = going;
	heap_watch(heap, &memory->watcher);
}

void uring_memory_close(struct uring_memory *memory)
{
	if (!memory->ring)
		return;
	heap_unwatch(&memory->watcher);
	(void)io_uring_unregister_buffers(memory->ring);
}
