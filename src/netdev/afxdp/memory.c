/* SPDX-License-Identifier: MIT
 * netdev/afxdp/memory.c - the memory that the device shares: a memfd, so that `demi xdp-helper` can
 * register it in our place, sealed, so that nobody can shrink it below what is mapped; and what of
 * it the kernel has.
 */
#include "netdev/afxdp/afxdp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* A memfd of so many bytes, sealed.  The descriptor or -errno. */
static int make(uint64_t bytes, unsigned int flags)
{
	int fd = memfd_create("demitasse-umem", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	if (fd < 0)
		return -errno;
	/* Huge pages are reserved when they are mapped; too few are seen there.  fallocate sees
	 * them now. */
	if (ftruncate(fd, (off_t)bytes) || (flags && fallocate(fd, 0, 0, (off_t)bytes)) ||
	    fcntl(fd, F_ADD_SEALS, SEALS)) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int make_as_configured(uint64_t bytes, enum pages_huge huge)
{
	int fd = huge == PAGES_HUGE_NEVER ? -ENOMEM : make(bytes, MFD_HUGETLB | MFD_HUGE_2MB);

	return fd < 0 && huge != PAGES_HUGE_ALWAYS ? make(bytes, 0) : fd;
}

int afxdp_memory_open(struct sched *sched, uint64_t bytes, bool objects, int *fd_out)
{
	uint32_t units = (uint32_t)(bytes >> SUPERBLOCK_SHIFT);
	uint32_t frame_units = objects ? (units + 1) / 2 : units;
	int fd = make_as_configured(bytes, (enum pages_huge)sched->config.huge_pages);
	int err = fd < 0 ? fd : 0;

	if (!err)
		err = heap_set_region(sched->heap, fd, GRANT_FRAME_BYTES, frame_units, units);
	if (!err) {
		*fd_out = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	log_write(&sched->log, LOG_LEVEL_ERROR,
		  "demitasse.xdp.memory_bytes: %llu: %s (demitasse.heap_max_bytes bounds it too)",
		  (unsigned long long)bytes, strerror(-err));
	return err;
}

int afxdp_ledger_open(struct afxdp *x, uint32_t ring)
{
	const struct heap *heap = x->dev.sched->heap;
	uint32_t pieces = 4 * ring; /* TX and COMPLETION, and as many that others overtook */

	x->objects_from = heap->frame_blocks_max * SUPERBLOCK_BYTES;
	x->held = calloc(x->objects_from / GRANT_FRAME_BYTES, sizeof(*x->held));
	x->pieces =
		x->objects_from < heap->region_bytes ? calloc(pieces, sizeof(*x->pieces)) : NULL;
	x->pieces_mask = pieces - 1;
	return x->held && (x->pieces || x->objects_from == heap->region_bytes) ? 0 : -ENOMEM;
}

bool afxdp_take_piece(struct afxdp *x, uint64_t offset)
{
	uint32_t at = x->pieces_begin;

	while (at != x->pieces_end && x->pieces[at & x->pieces_mask] != offset)
		at++;
	if (at == x->pieces_end)
		return false;
	x->pieces[at & x->pieces_mask] = 0;
	while (x->pieces_begin != x->pieces_end && x->pieces[x->pieces_begin & x->pieces_mask] == 0)
		x->pieces_begin++;
	return true;
}

void afxdp_ledger_close(struct afxdp *x)
{
	struct heap *heap = x->dev.sched->heap;

	for (uint64_t i = 0; x->held && i < x->objects_from / GRANT_FRAME_BYTES; i++) {
		for (; x->held[i] > 0; x->held[i]--)
			heap_unref_library(heap, x->region + i * GRANT_FRAME_BYTES);
	}
	for (; x->pieces_begin != x->pieces_end; x->pieces_begin++) {
		uint64_t offset = x->pieces[x->pieces_begin & x->pieces_mask];
		if (offset > 0)
			heap_unref_library(heap, x->region + offset);
	}
	free(x->held);
	free(x->pieces);
}
