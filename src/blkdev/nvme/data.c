/* SPDX-License-Identifier: MIT
 * blkdev/nvme/data.c - see data.h.  NVM Express 1.4, 4.3 (PRP) and 4.4 (SGL).
 */
#include "blkdev/nvme/data.h"

#include <string.h>

/* Segments, cut where they leave their superblock: none of at most 1 MiB does so twice. */
#define PIECES_MAX (2 * NVME_IOV_MAX)
#define PAGE_MASK  ((uint64_t)NVME_PAGE - 1)

static_assert(PIECES_MAX <= NVME_SGL_ENTRIES, "a list has room in one page");
static_assert(NVME_REQUEST_MAX / NVME_PAGE <= NVME_LIST_ENTRIES, "the same");
static_assert(NVME_REQUEST_MAX <= SUPERBLOCK_BYTES, "see PIECES_MAX");

struct piece {
	uint64_t address;
	uint64_t bytes;
};

/* How many pieces; 0: something cannot be reached. */
static uint32_t cut(struct nvme *nvme, const struct blk_request *request, struct piece *pieces)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < request->num_iov; i++) {
		const char *at = request->iov[i].iov_base;
		uint64_t left = request->iov[i].iov_len;
		while (left > 0) {
			struct piece piece = {.bytes = left};
			if (!nvme_address(nvme, at, &piece.bytes, &piece.address))
				return 0;
			at += piece.bytes;
			left -= piece.bytes;
			struct piece *last = &pieces[count - 1];
			if (count > 0 && last->address + last->bytes == piece.address)
				last->bytes += piece.bytes;
			else if (count == PIECES_MAX)
				return 0;
			else
				pieces[count++] = piece;
		}
	}
	return count;
}

/* All pages but the first begin at their start, all but the last end at their end. */
static bool fits_prp(const struct piece *pieces, uint32_t count)
{
	if (pieces[0].address & 3)
		return false;
	for (uint32_t i = 1; i < count; i++) {
		if ((pieces[i].address & PAGE_MASK) ||
		    ((pieces[i - 1].address + pieces[i - 1].bytes) & PAGE_MASK))
			return false;
	}
	return true;
}

/* One entry: in the command.  Two: so too.  More: all but the first in the list. */
static void set_prp(struct nvme_slot *slot, const struct piece *pieces, uint32_t count)
{
	uint64_t *list = slot->list;
	uint32_t entries = 0;

	slot->command.prp[0] = pieces[0].address;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t end = pieces[i].address + pieces[i].bytes;
		uint64_t page = pieces[i].address & ~PAGE_MASK;
		for (page += i == 0 ? NVME_PAGE : 0; page < end; page += NVME_PAGE)
			list[entries++] = page;
	}
	if (entries == 1)
		slot->command.prp[1] = list[0];
	else if (entries > 1)
		slot->command.prp[1] = slot->list_address;
}

static bool fits_sgl(const struct nvme *nvme, const struct piece *pieces, uint32_t count)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < count; i++)
		bits |= pieces[i].address | pieces[i].bytes;
	return nvme->has_sgl && (bits & (nvme->sgl_align - 1)) == 0;
}

static void set_sgl(struct nvme_slot *slot, const struct piece *pieces, uint32_t count)
{
	struct nvme_sgl *list = slot->list;

	slot->command.flags = NVME_FLAG_SGL;
	if (count == 1) {
		slot->command.sgl = (struct nvme_sgl){.address = pieces[0].address,
						      .bytes = (uint32_t)pieces[0].bytes,
						      .type = NVME_SGL_DATA};
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		list[i] = (struct nvme_sgl){.address = pieces[i].address,
					    .bytes = (uint32_t)pieces[i].bytes,
					    .type = NVME_SGL_DATA};
	slot->command.sgl = (struct nvme_sgl){.address = slot->list_address,
					      .bytes = count * (uint32_t)sizeof(*list),
					      .type = NVME_SGL_LAST_LIST};
}

bool nvme_data_direct(struct nvme *nvme, struct nvme_slot *slot)
{
	struct piece pieces[PIECES_MAX];
	uint32_t count = cut(nvme, slot->request, pieces);

	if (count == 0)
		return false;
	if (likely(fits_prp(pieces, count)))
		set_prp(slot, pieces, count);
	else if (fits_sgl(nvme, pieces, count))
		set_sgl(slot, pieces, count);
	else
		return false;
	return true;
}

/* ---- by way of a buffer ---- */

static char *buffer_of(const struct nvme *nvme, const struct nvme_slot *slot)
{
	return nvme->buffers + (uint64_t)slot->buffer * nvme->dev.request_bytes_max;
}

void nvme_data_buffered(struct nvme *nvme, struct nvme_slot *slot)
{
	const struct blk_request *request = slot->request;
	char *to = buffer_of(nvme, slot);
	struct piece piece = {.bytes = request->bytes};

	piece.address = nvme->buffers_address + (uint64_t)(to - nvme->buffers);
	set_prp(slot, &piece, 1);
	for (uint32_t i = 0; request->what == BLK_WRITE && i < request->num_iov; i++) {
		memcpy(to, request->iov[i].iov_base, request->iov[i].iov_len);
		to += request->iov[i].iov_len;
	}
}

void nvme_data_arrived(struct nvme *nvme, const struct nvme_slot *slot)
{
	const struct blk_request *request = slot->request;
	const char *from = buffer_of(nvme, slot);

	for (uint32_t i = 0; i < request->num_iov; i++) {
		memcpy(request->iov[i].iov_base, from, request->iov[i].iov_len);
		from += request->iov[i].iov_len;
	}
}
