/* SPDX-License-Identifier: MIT */
#include "mem/borrow.h"

#include "base/assert.h"
#include "base/bits.h"
#include "mem/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define PAGE_SHIFT 12          /* BORROW_MIN_BYTES */
#define NONE       0xffffffffU /* no page */
#define ENDED      0xfffffffeU /* in place of a list: borrow_end was called */
#define LENT       0x80000000U /* in refs */

/* One a page, for the piece that starts in it. */
struct piece {
	_Atomic uint64_t start; /* offset in the mapping */
	_Atomic uint64_t length;
	uint64_t cookie;
	uint32_t next;         /* page of the next one that another thread has freed */
	_Atomic uint32_t refs; /* LENT: the application's, below it the library's; 0: who dropped
				  the last gives the piece back */
};

struct borrow {
	struct superblock sb; /* for pages_find; no objects, no heap */
	struct borrow_terms terms;
	_Atomic(struct heap *) owner; /* NULL: borrow_end was called */
	_Atomic uint64_t *starts;     /* a bit a page */
	struct piece *pieces;
	uint32_t pages;
	uint32_t held;
	_Atomic uint32_t reach;  /* pages from where the longest piece so far starts to its end */
	_Atomic uint32_t users;  /* pieces that are not released, and one for the owner */
	_Atomic uint32_t remote; /* first page of the list of what other threads have freed */
};

static_assert(BORROW_MIN_BYTES == 1 << PAGE_SHIFT, "a table entry a page");
static_assert(sizeof(struct piece) == 32, "two a cache line");

static struct borrow *borrow_of(struct superblock *sb)
{
	return container_of(sb, struct borrow, sb);
}

/* ---- life ---- */

static void borrow_delete(struct borrow *borrow)
{
	free(borrow->pieces);
	free((void *)(uintptr_t)borrow->starts);
	free(borrow);
}

/* A piece is gone, or the owner: true, it was the last. */
static bool drop_user(struct borrow *borrow)
{
	/* acq_rel, pairs with itself: what others read of the mapping they have read */
	return atomic_fetch_sub_explicit(&borrow->users, 1, memory_order_acq_rel) == 1;
}

/* A piece is gone, the owner is not. */
static void drop_piece(struct borrow *borrow)
{
	bool last = drop_user(borrow);

	ASSERT(!last);
}

static void unmap(struct borrow *borrow)
{
	guard_live(borrow->sb.base, borrow->sb.units * SUPERBLOCK_BYTES);
	pages_unmap(borrow->sb.base, borrow->sb.units);
	borrow_delete(borrow);
}

/* What is read from it later must be there. */
static int check_file(const struct borrow_terms *terms)
{
	struct statfs fs;
	struct stat file;
	int seals = fcntl(terms->fd, F_GET_SEALS);

	if (seals < 0 || fstat(terms->fd, &file) || fstatfs(terms->fd, &fs))
		return -EINVAL;
	if ((seals & F_SEAL_SHRINK) == 0 || fs.f_type == HUGETLBFS_MAGIC)
		return -EPERM;
	return terms->bytes > 0 && terms->bytes <= (uint64_t)file.st_size ? 0 : -EINVAL;
}

static struct borrow *borrow_new(const struct borrow_terms *terms)
{
	uint64_t pages = (terms->bytes + BORROW_MIN_BYTES - 1) >> PAGE_SHIFT;
	struct borrow *borrow = aligned_alloc(CACHE_LINE, sizeof(*borrow));

	if (!borrow)
		return NULL;
	memset(borrow, 0, sizeof(*borrow));
	borrow->terms = *terms;
	borrow->pages = (uint32_t)pages;
	borrow->starts = calloc((pages + 63) / 64, sizeof(*borrow->starts));
	borrow->pieces = calloc(pages, sizeof(*borrow->pieces));
	borrow->sb = (struct superblock){
		.class = HEAP_BORROWED,
		.units = (uint32_t)((terms->bytes + SUPERBLOCK_BYTES - 1) >> SUPERBLOCK_SHIFT),
		.free_head = OBJECT_NONE,
		.remote_head = OBJECT_NONE,
	};
	atomic_init(&borrow->owner, terms->heap);
	atomic_init(&borrow->users, 1);
	atomic_init(&borrow->remote, NONE);
	if (borrow->starts && borrow->pieces)
		return borrow;
	borrow_delete(borrow);
	return NULL;
}

int borrow_map(const struct borrow_terms *terms, struct borrow **borrow_out)
{
	ASSERT(terms->heap && terms->released);
	int err = check_file(terms);
	if (err)
		return err;
	if (terms->bytes >= (uint64_t)ENDED << PAGE_SHIFT)
		return -ENOMEM;
	struct borrow *borrow = borrow_new(terms);
	if (!borrow)
		return -ENOMEM;
	err = pages_map(borrow->sb.units, terms->fd, terms->bytes, &borrow->sb, &borrow->sb.base);
	if (err) {
		borrow_delete(borrow);
		return err;
	}
	*borrow_out = borrow;
	return 0;
}

void borrow_end(struct borrow *borrow)
{
	atomic_store_explicit(&borrow->owner, NULL, memory_order_relaxed);
	/* pairs with the exchange in borrow_free: who sees ENDED drops its piece itself */
	uint32_t page = atomic_exchange_explicit(&borrow->remote, ENDED, memory_order_acq_rel);
	while (page != NONE) {
		uint32_t next = borrow->pieces[page].next;
		drop_piece(borrow);
		page = next;
	}
	if (drop_user(borrow))
		unmap(borrow);
}

/* ---- the table ---- */

/* The last page of [first, page] in which a piece starts, or NONE. */
static uint32_t last_start(const struct borrow *borrow, uint32_t first, uint32_t page)
{
	uint32_t word = page / 64;
	uint64_t mask = ~(uint64_t)0 >> (63 - page % 64);

	for (;; word--, mask = ~(uint64_t)0) {
		/* pairs with the release in enter_piece */
		uint64_t bits =
			mask & atomic_load_explicit(&borrow->starts[word], memory_order_acquire);
		if (bits) {
			uint32_t found = word * 64 + bits_highest(bits);
			return found >= first ? found : NONE;
		}
		if (word <= first / 64)
			return NONE;
	}
}

static uint64_t start_of(const struct piece *piece)
{
	return atomic_load_explicit(&piece->start, memory_order_relaxed);
}

static uint64_t end_of(const struct piece *piece)
{
	return start_of(piece) + atomic_load_explicit(&piece->length, memory_order_relaxed);
}

/* The last piece that starts at or before offset last, and may reach to offset first or beyond; or
 * NULL.  Pages in which other pieces start change meanwhile; what is asked for by who has a
 * reference does not. */
static struct piece *piece_before(const struct borrow *borrow, uint64_t first, uint64_t last)
{
	uint32_t page = (uint32_t)(first >> PAGE_SHIFT);
	uint32_t reach = atomic_load_explicit(&borrow->reach, memory_order_relaxed);
	uint32_t from = page > reach ? page - reach : 0;
	uint32_t found = last_start(borrow, from, (uint32_t)(last >> PAGE_SHIFT));

	if (found != NONE && start_of(&borrow->pieces[found]) > last)
		found = found > from ? last_start(borrow, from, found - 1) : NONE;
	return found != NONE ? &borrow->pieces[found] : NULL;
}

/* The piece that holds ptr, or NULL. */
static struct piece *piece_find(const struct borrow *borrow, const void *ptr)
{
	uint64_t offset = (uint64_t)((const char *)ptr - borrow->sb.base);
	struct piece *piece =
		offset < borrow->terms.bytes ? piece_before(borrow, offset, offset) : NULL;

	return piece && offset < end_of(piece) ? piece : NULL;
}

/* ---- lending ---- */

static bool is_inside(const struct borrow *borrow, uint64_t offset, uint64_t length)
{
	return offset <= borrow->terms.bytes && length <= borrow->terms.bytes - offset;
}

static bool collides(const struct borrow *borrow, uint64_t offset, uint64_t length)
{
	const struct piece *before = piece_before(borrow, offset, offset + length - 1);

	return before && end_of(before) > offset;
}

static void enter_piece(struct borrow *borrow, uint64_t offset, uint64_t length, uint64_t cookie)
{
	uint32_t page = (uint32_t)(offset >> PAGE_SHIFT);
	uint32_t reach = (uint32_t)(length >> PAGE_SHIFT) + 1;
	struct piece *piece = &borrow->pieces[page];

	if (reach > atomic_load_explicit(&borrow->reach, memory_order_relaxed))
		atomic_store_explicit(&borrow->reach, reach, memory_order_relaxed);
	piece->cookie = cookie;
	atomic_store_explicit(&piece->start, offset, memory_order_relaxed);
	atomic_store_explicit(&piece->length, length, memory_order_relaxed);
	atomic_store_explicit(&piece->refs, LENT, memory_order_relaxed);
	/* pairs with the acquire in last_start: who sees the bit sees the piece */
	atomic_fetch_or_explicit(&borrow->starts[page / 64], (uint64_t)1 << (page % 64),
				 memory_order_release);
}

int borrow_take(struct borrow *borrow, uint64_t offset, uint64_t length, uint64_t cookie,
		const void **ptr_out)
{
	if (!is_inside(borrow, offset, length) || length < BORROW_MIN_BYTES ||
	    length > HEAP_OBJECT_MAX_BYTES)
		return -EINVAL;
	if (collides(borrow, offset, length))
		return -EEXIST;
	enter_piece(borrow, offset, length, cookie);
	borrow->held++;
	/* the owner is one: nobody brings it to 0 */
	atomic_fetch_add_explicit(&borrow->users, 1, memory_order_relaxed);
	*ptr_out = borrow->sb.base + offset;
	guard_live(*ptr_out, length);
	return 0;
}

int borrow_copy(const struct borrow *borrow, uint64_t offset, uint64_t length, void *to)
{
	if (!is_inside(borrow, offset, length))
		return -EINVAL;
	guard_live(borrow->sb.base + offset, length);
	memcpy(to, borrow->sb.base + offset, length);
	return 0;
}

/* The application has let go of it.  The entry is free before the owner hears of it. */
static void release(struct borrow *borrow, uint32_t page)
{
	uint64_t cookie = borrow->pieces[page].cookie;

	/* by the owner's thread, which alone sets bits: nobody is to see this before anything */
	atomic_fetch_and_explicit(&borrow->starts[page / 64], ~((uint64_t)1 << (page % 64)),
				  memory_order_relaxed);
	borrow->held--;
	drop_piece(borrow);
	borrow->terms.released(borrow->terms.context, cookie);
}

void borrow_drain(struct borrow *borrow)
{
	if (likely(atomic_load_explicit(&borrow->remote, memory_order_relaxed) == NONE))
		return;
	/* pairs with the exchange in borrow_free */
	uint32_t page = atomic_exchange_explicit(&borrow->remote, NONE, memory_order_acquire);
	while (page != NONE) {
		uint32_t next = borrow->pieces[page].next;
		release(borrow, page);
		page = next;
	}
}

uint32_t borrow_held(const struct borrow *borrow)
{
	return borrow->held;
}

/* ---- freeing ---- */

/* Leaves it to the owner, or if that has ended drops it here. */
static void free_elsewhere(struct borrow *borrow, struct piece *piece)
{
	uint32_t page = (uint32_t)(piece - borrow->pieces);
	uint32_t head = atomic_load_explicit(&borrow->remote, memory_order_relaxed);

	do {
		if (head == ENDED) {
			if (drop_user(borrow))
				unmap(borrow);
			return;
		}
		piece->next = head;
		/* pairs with the exchanges in borrow_drain and borrow_end; the mapping may be gone
		 * right afterwards */
	} while (!atomic_compare_exchange_weak_explicit(
		&borrow->remote, &head, page, memory_order_release, memory_order_relaxed));
}

/* The last reference was dropped. */
static void give_back(struct heap *mine, struct borrow *borrow, struct piece *piece)
{
	guard_free(borrow->sb.base + start_of(piece), end_of(piece) - start_of(piece));
	if (mine && atomic_load_explicit(&borrow->owner, memory_order_relaxed) == mine)
		release(borrow, (uint32_t)(piece - borrow->pieces));
	else
		free_elsewhere(borrow, piece);
}

int borrow_free(struct heap *mine, struct superblock *sb, const void *ptr)
{
	struct borrow *borrow = borrow_of(sb);
	struct piece *piece = piece_find(borrow, ptr);

	if (!piece)
		return -EINVAL;
	/* acq_rel, pairs with itself and borrow_unref: what others read of it they have read */
	uint32_t refs = atomic_fetch_and_explicit(&piece->refs, ~LENT, memory_order_acq_rel);
	if (!(refs & LENT)) /* one of two that free the same piece */
		return -EINVAL;
	if (refs == LENT)
		give_back(mine, borrow, piece);
	return 0;
}

bool borrow_ref(const void *ptr)
{
	struct superblock *sb = pages_find(ptr);
	struct piece *piece = sb && borrow_is(sb) ? piece_find(borrow_of(sb), ptr) : NULL;

	if (!piece)
		return false;
	/* relaxed: there is a reference already */
	atomic_fetch_add_explicit(&piece->refs, 1, memory_order_relaxed);
	return true;
}

void borrow_unref(struct heap *mine, const void *ptr)
{
	struct borrow *borrow = borrow_of(pages_find(ptr));
	struct piece *piece = piece_find(borrow, ptr);

	ASSERT(piece);
	/* acq_rel, as in borrow_free */
	if (atomic_fetch_sub_explicit(&piece->refs, 1, memory_order_acq_rel) == 1)
		give_back(mine, borrow, piece);
}

uint32_t borrow_app_refs(struct superblock *sb, const void *ptr, const char **piece_out)
{
	const struct piece *piece = piece_find(borrow_of(sb), ptr);

	if (!piece)
		return 0;
	*piece_out = sb->base + start_of(piece);
	return atomic_load_explicit(&piece->refs, memory_order_relaxed) / LENT;
}

/* ---- for tests ---- */

static bool has_bit(const struct borrow *borrow, uint32_t page)
{
	uint64_t bits = atomic_load_explicit(&borrow->starts[page / 64], memory_order_relaxed);

	return bits >> (page % 64) & 1;
}

void borrow_check(const struct borrow *borrow)
{
	uint64_t end = 0;
	uint32_t count = 0;

	for (uint32_t page = 0; page < borrow->pages; page++) {
		const struct piece *piece = &borrow->pieces[page];
		if (!has_bit(borrow, page)) {
			ASSERT(atomic_load_explicit(&piece->refs, memory_order_relaxed) == 0);
			continue;
		}
		ASSERT(start_of(piece) >> PAGE_SHIFT == page && start_of(piece) >= end);
		ASSERT(end_of(piece) - start_of(piece) >= BORROW_MIN_BYTES);
		end = end_of(piece);
		count++;
	}
	ASSERT(end <= borrow->terms.bytes && count == borrow->held);
}
