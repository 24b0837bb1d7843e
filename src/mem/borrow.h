/* SPDX-License-Identifier: MIT
 * mem/borrow.h - memory of another process's heap: mapped for reading, its pieces popped, read and
 * freed by the application like its own.
 *
 * Model.  A mapping lies in the process's reserved range, so that pages_find finds its one
 * superblock, which belongs to no heap and has no objects: to every heap it is HEAP_FOREIGN, so
 * what is pushed from it is copied.  A piece is what the peer lent: at least BORROW_MIN_BYTES long,
 * so that no two that do not overlap start in one page of that size, and a table with an entry a
 * page holds them all.
 *
 * Trust.  The peer may write what it lent, at any time: a reader that looks twice may see two
 * things.  It cannot take the memory away, as the file is sealed against shrinking.  Offset and
 * length of a piece are the peer's words, checked here, and only then used.
 *
 * Life.  borrow_take gives a piece one application reference.  heap_free_inside (heap_free too)
 * drops it, by any pointer into the piece.  A push that waits may have references of the library's
 * beside it, so that it may be freed at once (sched/hold.h).  When the last is dropped the owner
 * hears of it by terms.released, on its own thread: at once if it was dropped there, from
 * borrow_drain if it was dropped on another.  After
 * borrow_end nobody hears of anything; the mapping stays until the last piece is freed, and goes on
 * the thread that does that.  In a child after fork no pointer into it is ours.
 *
 * Threads: all calls are the owner's, but for those that say otherwise.
 *
 * Invariants, walked by borrow_check:
 *   the pages whose bit is set in starts are those in whose entry a piece stands that was taken and
 *   not yet released; pieces do not overlap; each lies in the mapping; held == their number.
 */
#pragma once

#include "mem/heap.h"

#include <stdbool.h>
#include <stdint.h>

#define BORROW_MIN_BYTES 4096

struct borrow;

struct borrow_terms {
	struct heap *heap; /* of the instance that the mapping is for */
	int fd;            /* a memfd, sealed with F_SEAL_SHRINK; stays the caller's */
	uint64_t bytes;    /* of it that are mapped, from its start */
	/* All have let go of the piece that was taken with this cookie.  It may be
	 * called by heap_free, so inside a callback of the application: no borrow_* calls in it. */
	void (*released)(void *context, uint64_t cookie);
	void *context;
};

/* 0, -ENOMEM (also if mappings fill half of the range), -EPERM: the file may shrink, or is on huge
 * pages, which the system may lack when they are read; -EINVAL: no memfd, or shorter than bytes, or
 * bytes is 0. */
int borrow_map(const struct borrow_terms *terms, struct borrow **borrow_out);

/* The peer has lent [offset, offset + length).  0: *ptr_out is the application's, to be freed as
 * above (by who took it, if no application gets it).  -EINVAL: it is not all in the mapping, or
 * shorter than BORROW_MIN_BYTES, or longer than an object may be; -EEXIST: a part of it is lent
 * already. */
int borrow_take(struct borrow *borrow, uint64_t offset, uint64_t length, uint64_t cookie,
		const void **ptr_out);

/* Copies length bytes from offset, lent or not, of any length.  0, or -EINVAL: it is not all in the
 * mapping. */
int borrow_copy(const struct borrow *borrow, uint64_t offset, uint64_t length, void *to);

/* Hears of the frees of other threads, to be called once a poll turn.  Who sleeps while
 * borrow_held() is not 0 does not hear of them. */
void borrow_drain(struct borrow *borrow);

/* Pieces taken, of which released was not called yet. */
uint32_t borrow_held(const struct borrow *borrow);

/* The connection, or the instance, has ended: before heap_close. */
void borrow_end(struct borrow *borrow);

/* Asserts the invariants above; walks everything. */
void borrow_check(const struct borrow *borrow);

/* ---- for the heap and src/api/; on any thread ---- */

static inline bool borrow_is(const struct superblock *sb)
{
	return sb->class == HEAP_BORROWED;
}

/* heap_free_inside for ptr in sb, which is a mapping's. */
int borrow_free(struct heap *mine, struct superblock *sb, const void *ptr);

/* A reference of the library's to the piece that ptr, which somebody has a reference to, lies in.
 * false: it lies in none. */
bool borrow_ref(const void *ptr);
/* Drops one.  mine: the heap of the instance that does, or NULL. */
void borrow_unref(struct heap *mine, const void *ptr);

/* As heap_app_refs for ptr in sb, which is a mapping's: 1 or 0. */
uint32_t borrow_app_refs(struct superblock *sb, const void *ptr, const char **piece_out);
