/* SPDX-License-Identifier: MIT
 * mem/pages.h - where superblocks come from: the process's reserved address range, and the page
 * source.
 *
 * One range a process is reserved (not committed) at first use, so that "is this pointer ours" is
 * one subtraction and one comparison, and its superblock one table look-up.  Ranges of superblocks
 * are committed and given back under a lock; the table is read without one: an entry is published
 * (release) before the first object of its superblock is handed out.
 *
 * A device whose memory must come from an allocator of its own (DPDK) lends a second range, once:
 * superblocks in it are entered in the same way, and committed by who lent it.
 */
#pragma once

#include "base/bits.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define SUPERBLOCK_SHIFT 21
#define SUPERBLOCK_BYTES ((uint64_t)1 << SUPERBLOCK_SHIFT)

struct superblock;
struct heap;

/* Wiped on fork: in a child no pointer is ours. */
struct pages_range {
	uintptr_t base; /* multiple of SUPERBLOCK_BYTES; written once, before the first superblock
			   in it exists */
	uint64_t bytes; /* 0: nothing reserved */
	_Atomic(struct superblock *) *table; /* one entry a superblock; NULL: not in use */
};

/* Stated exception to "no mutable globals": the process's heap range, and the heaps that outlive
 * their instances. heaps.lock guards all orphaned heaps and the list of unused struct heap. */
union pages_state {
	struct {
		struct pages_range range;
		struct pages_range lent; /* what a device's own allocator has reserved */

		struct {
			pthread_mutex_t lock;
			struct heap *unused;
		} heaps;
	};

	char room[4096];
};

#ifdef DEMI_PLUGIN /* it has the library's by reference: sched/plugin.h */
extern union pages_state *plugin_pages;
#define pages_process (*plugin_pages)
#else
extern union pages_state pages_process;
#endif

enum pages_huge { PAGES_HUGE_AUTO, PAGES_HUGE_NEVER, PAGES_HUGE_ALWAYS };

/* Reserves the range if the process has none.  0 or -ENOMEM. */
int pages_reserve(void);

/* Commits count consecutive superblocks of zeros and enters sb for each of them.  *addr_out is
 * aligned to SUPERBLOCK_BYTES. 0 or -ENOMEM. */
int pages_get(uint32_t count, enum pages_huge huge, struct superblock *sb, char **addr_out);

/* The same from the start of a memfd, shared with whoever has it too; no child inherits them.  No
 * superblock is entered: pages_enter does that, for one. */
int pages_get_shared(uint32_t count, int fd, char **addr_out);
void pages_enter(const char *addr, struct superblock *sb);

/* Maps bytes from the start of another process's memfd, for reading, and enters sb for each of the
 * count superblocks that they need.  No child inherits them.  All such mappings together take no
 * more than half of the range: what others lend must not keep the process from memory of its own.
 * 0 or -ENOMEM. */
int pages_map(uint32_t count, int fd, uint64_t bytes, struct superblock *sb, char **addr_out);
void pages_unmap(char *addr, uint32_t count);

/* Makes [base, base + bytes), multiples of SUPERBLOCK_BYTES, the second range, in which superblocks
 * may be entered from now on.  0, -ENOMEM, or -EBUSY: there is another one. */
int pages_lend(const char *base, uint64_t bytes);

/* Gives them back: the memory is gone, the entries are NULL. */
void pages_put(char *addr, uint32_t count);

/* Superblock that covers ptr, or NULL. */
static inline struct superblock *pages_find(const void *ptr)
{
	const struct pages_range *range = &pages_process.range;
	uint64_t offset = (uintptr_t)ptr - range->base;

	if (offset >= range->bytes) {
		range = &pages_process.lent;
		offset = (uintptr_t)ptr - range->base;
		if (offset >= range->bytes)
			return NULL;
	}
	return atomic_load_explicit(&range->table[offset >> SUPERBLOCK_SHIFT],
				    memory_order_acquire);
}
