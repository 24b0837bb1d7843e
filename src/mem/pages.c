/* SPDX-License-Identifier: MIT */
#include "mem/pages.h"

#include "base/assert.h"
#include "base/process.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

/* 64 GiB of address space if the limits allow it, less otherwise; nothing of it is memory until
 * pages_get. */
#define RANGE_MAX ((uint64_t)64 << 30)
#define RANGE_MIN ((uint64_t)256 << 20)

/* What allocates from the range: part of the same stated exception.  Both are wiped on fork, and a
 * zeroed mutex is an unlocked one (glibc). */
union pages_state pages_process __attribute__((aligned(PROCESS_PAGE)));

static union {
	struct {
		pthread_mutex_t lock;
		uint32_t slots;               /* superblocks in the range */
		uint32_t next;                /* where the next search starts */
		uint32_t mapped;              /* slots of pages_map */
		uint8_t taken[16384 + 16384]; /* one byte a superblock, guarded by lock */
	} a;

	char room[36864];
} allocator __attribute__((aligned(PROCESS_PAGE)));

static_assert(sizeof(pages_process) == PROCESS_PAGE, "whole pages");
static_assert(sizeof(allocator) % PROCESS_PAGE == 0, "whole pages");
static_assert(sizeof(allocator.a.taken) == RANGE_MAX / SUPERBLOCK_BYTES, "a byte a superblock");

static void *map_reserved(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* A range with an empty table.  0 or -ENOMEM. */
static int open_range(struct pages_range *range, uintptr_t base, uint64_t bytes)
{
	void *table =
		mmap(NULL, (bytes >> SUPERBLOCK_SHIFT) * sizeof(*range->table),
		     PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		return -ENOMEM;
	*range = (struct pages_range){.base = base, .bytes = bytes, .table = table};
	return 0;
}

static int reserve_locked(void)
{
	struct pages_range *range = &pages_process.range;
	uint64_t bytes = RANGE_MAX;
	char *at;

	if (range->bytes)
		return 0;
	int err = process_wipe_on_fork(&pages_process, sizeof(pages_process));
	if (!err)
		err = process_wipe_on_fork(&allocator, sizeof(allocator));
	if (err)
		return -ENOMEM;
	while (!(at = map_reserved(bytes + SUPERBLOCK_BYTES)) && bytes > RANGE_MIN)
		bytes /= 2;
	if (!at)
		return -ENOMEM;

	if (open_range(range, round_up((uintptr_t)at, SUPERBLOCK_BYTES), bytes)) {
		munmap(at, bytes + SUPERBLOCK_BYTES);
		return -ENOMEM;
	}
	allocator.a.slots = (uint32_t)(bytes >> SUPERBLOCK_SHIFT);
	allocator.a.next = 0;
	allocator.a.mapped = 0;
	return 0;
}

static int lend_locked(uintptr_t base, uint64_t bytes)
{
	const struct pages_range *lent = &pages_process.lent;

	if (lent->bytes)
		return lent->base == base && lent->bytes == bytes ? 0 : -EBUSY;
	return open_range(&pages_process.lent, base, bytes);
}

int pages_lend(const char *base, uint64_t bytes)
{
	ASSERT((uintptr_t)base % SUPERBLOCK_BYTES == 0 && bytes % SUPERBLOCK_BYTES == 0);
	pthread_mutex_lock(&allocator.a.lock);
	int err = reserve_locked(); /* which also sees to the wiping on fork */
	if (!err)
		err = lend_locked((uintptr_t)base, bytes);
	pthread_mutex_unlock(&allocator.a.lock);
	return err;
}

int pages_reserve(void)
{
	pthread_mutex_lock(&allocator.a.lock);
	int err = reserve_locked();
	pthread_mutex_unlock(&allocator.a.lock);
	return err;
}

/* First of count free slots in [from, to), or to. */
static uint32_t find_run(uint32_t from, uint32_t to, uint32_t count)
{
	uint32_t run = 0;

	for (uint32_t i = from; i < to; i++) {
		run = allocator.a.taken[i] ? 0 : run + 1;
		if (run == count)
			return i + 1 - count;
	}
	return to;
}

static bool take_slots(uint32_t count, uint32_t *slot_out)
{
	pthread_mutex_lock(&allocator.a.lock);
	uint32_t slots = allocator.a.slots;
	uint32_t slot = find_run(allocator.a.next, slots, count);
	if (slot == slots)
		slot = find_run(0, slots, count);
	bool found = slot < slots;
	if (found) {
		memset(&allocator.a.taken[slot], 1, count);
		allocator.a.next = slot + count;
	}
	pthread_mutex_unlock(&allocator.a.lock);
	*slot_out = slot;
	return found;
}

static void return_slots(uint32_t slot, uint32_t count)
{
	pthread_mutex_lock(&allocator.a.lock);
	memset(&allocator.a.taken[slot], 0, count);
	if (slot < allocator.a.next)
		allocator.a.next = slot;
	pthread_mutex_unlock(&allocator.a.lock);
}

/* Huge pages are mapped elsewhere and moved: a MAP_FIXED that fails for lack of them leaves a hole
 * in the range, into which any other mapping of the process may fall.  0, -ENOMEM, or -EADDRINUSE:
 * a move that failed left one, and the place may be another's now. */
static int commit_huge(char *at, uint64_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	void *huge = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);

	if (huge == MAP_FAILED)
		return -ENOMEM;
	if (mremap(huge, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) != MAP_FAILED)
		return 0;
	(void)munmap(huge, bytes); /* a kernel before 5.16 */
	flags |= MAP_NORESERVE | MAP_FIXED_NOREPLACE;
	return mmap(at, bytes, PROT_NONE, flags, -1, 0) == at ? -ENOMEM : -EADDRINUSE;
}

static int commit(char *at, uint64_t bytes, enum pages_huge huge)
{
	int err = huge != PAGES_HUGE_NEVER ? commit_huge(at, bytes) : -ENOMEM;

	if (err == -ENOMEM && huge != PAGES_HUGE_ALWAYS &&
	    mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0)
		return 0;
	return err;
}

/* Puts what was reserved in place of what is there. */
static bool unmap(char *at, uint64_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;

	return mmap(at, bytes, PROT_NONE, flags, -1, 0) != MAP_FAILED;
}

static void decommit(char *at, uint64_t bytes)
{
	/* If that fails they stay mapped, and the slot is used again all the same: empty. */
	if (!unmap(at, bytes))
		(void)madvise(at, bytes, MADV_DONTNEED);
}

static void enter(uint32_t slot, uint32_t count, struct superblock *sb)
{
	for (uint32_t i = slot; i < slot + count; i++)
		atomic_store_explicit(&pages_process.range.table[i], sb, memory_order_release);
}

static char *slot_address(uint32_t slot)
{
	return (char *)(pages_process.range.base + ((uint64_t)slot << SUPERBLOCK_SHIFT));
}

static uint32_t slot_of(const char *addr)
{
	return (uint32_t)(((uintptr_t)addr - pages_process.range.base) >> SUPERBLOCK_SHIFT);
}

int pages_get(uint32_t count, enum pages_huge huge, struct superblock *sb, char **addr_out)
{
	uint32_t slot;

	ASSERT(count > 0);
	if (count > allocator.a.slots || !take_slots(count, &slot))
		return -ENOMEM;
	char *at = slot_address(slot);
	int err = commit(at, count * SUPERBLOCK_BYTES, huge);
	if (err == -ENOMEM)
		return_slots(slot, count);
	if (err)
		return -ENOMEM;
	enter(slot, count, sb);
	*addr_out = at;
	return 0;
}

int pages_get_shared(uint32_t count, int fd, char **addr_out)
{
	uint32_t slot;
	uint64_t bytes = count * SUPERBLOCK_BYTES;

	ASSERT(count > 0);
	if (count > allocator.a.slots || !take_slots(count, &slot))
		return -ENOMEM;
	char *at = slot_address(slot);
	if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    madvise(at, bytes, MADV_DONTFORK)) {
		decommit(at, bytes);
		return_slots(slot, count);
		return -ENOMEM;
	}
	*addr_out = at;
	return 0;
}

void pages_enter(const char *addr, struct superblock *sb)
{
	const struct pages_range *range = &pages_process.range;

	if ((uintptr_t)addr - range->base >= range->bytes)
		range = &pages_process.lent;
	atomic_store_explicit(&range->table[((uintptr_t)addr - range->base) >> SUPERBLOCK_SHIFT],
			      sb, memory_order_release);
}

/* ---- memory of others ---- */

static bool take_share(uint32_t count)
{
	pthread_mutex_lock(&allocator.a.lock);
	bool fits = count <= allocator.a.slots / 2 - allocator.a.mapped;
	if (fits)
		allocator.a.mapped += count;
	pthread_mutex_unlock(&allocator.a.lock);
	return fits;
}

static void return_share(uint32_t count)
{
	pthread_mutex_lock(&allocator.a.lock);
	allocator.a.mapped -= count;
	pthread_mutex_unlock(&allocator.a.lock);
}

/* If they stay mapped their place is never used again: another's memory must not pass for ours. */
static void return_mapped(char *at, uint32_t count)
{
	if (!unmap(at, count * SUPERBLOCK_BYTES))
		return;
	return_slots(slot_of(at), count);
	return_share(count);
}

int pages_map(uint32_t count, int fd, uint64_t bytes, struct superblock *sb, char **addr_out)
{
	uint32_t slot;

	ASSERT(bytes > 0 && bytes <= count * SUPERBLOCK_BYTES);
	if (!take_share(count))
		return -ENOMEM;
	if (!take_slots(count, &slot)) {
		return_share(count);
		return -ENOMEM;
	}
	char *at = slot_address(slot);
	if (mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    madvise(at, bytes, MADV_DONTFORK)) {
		return_mapped(at, count);
		return -ENOMEM;
	}
	enter(slot, count, sb);
	*addr_out = at;
	return 0;
}

void pages_unmap(char *addr, uint32_t count)
{
	enter(slot_of(addr), count, NULL);
	return_mapped(addr, count);
}

void pages_put(char *addr, uint32_t count)
{
	uint32_t slot = slot_of(addr);

	enter(slot, count, NULL);
	decommit(addr, count * SUPERBLOCK_BYTES);
	return_slots(slot, count);
}
